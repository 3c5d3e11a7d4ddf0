/* SPDX-License-Identifier: Apache-2.0 */
/* net/http_server.h: its life, its routes, and what happens on the caller's loop. */
#include "net/http_server.h"

#include "core/memory.h"
#include "net/http_server_priv.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { CONNECTIONS = 20000, TIMEOUT_S = 30 };

static void on_message(hr_message *message);
static void on_turn(hr_message *message);

hr_http_server *hr_http_server_new(hr_loop *loop, const hr_http_options *options) {
    hr_http_server *server = hr_alloc(sizeof *server);
    server->loop = loop;
    server->listen = hr_copy_text(options->listen);
    server->tls_cert = hr_copy_text(options->tls_cert);
    server->tls_key = hr_copy_text(options->tls_key);
    server->connections = options->connections == 0 ? CONNECTIONS : options->connections;
    server->timeout_s = options->timeout_s == 0 ? TIMEOUT_S : options->timeout_s;
    server->fd = options->take_fd > 0 ? options->take_fd : -1;
    server->message.run = on_message;
    server->turn.run = on_turn;
    hr_http_queue_init(&server->answering);
    hr_http_queue_init(&server->arrived);
    hr_http_queue_init(&server->answered);
    pthread_mutex_init(&server->mutex, NULL);
    return server;
}

hr_code hr_http_route(hr_http_server *server, const char *path, size_t body_max,
                      size_t oversize_head, hr_http_handler *handler, void *data, hr_error *err) {
    HR_ASSERT(!server->is_started); /* its thread reads the routes without a lock */
    if (path == NULL || path[0] != '/') {
        return hr_fail(err, HR_E_INVALID, 0, "path '%s' does not begin with /",
                       path == NULL ? "" : path);
    }
    for (uint32_t i = 0; i < server->route_count; i++) {
        if (strcmp(server->routes[i].path, path) == 0) {
            return hr_fail(err, HR_E_EXISTS, 0, "path '%s' is already taken", path);
        }
    }
    if (server->route_count == HR_HTTP_ROUTES) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "more than %d paths", HR_HTTP_ROUTES);
    }
    server->routes[server->route_count++] = (hr_http_route_entry){
        .path = hr_copy_text(path),
        .body_max = body_max,
        .oversize_head = oversize_head,
        .handler = handler,
        .data = data,
    };
    return HR_OK;
}

/* How many of the connections wished for the open-file limit allows; a sixteenth of the files, 128
 * at least, is for all else that the daemon does. */
static uint32_t allowed_connections(uint32_t wished) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        uint64_t files = limit.rlim_cur, others = files / 16 > 128 ? files / 16 : 128;
        uint64_t free_files = files > 2 * others ? files - others : files / 2;
        return (uint32_t)(wished < free_files ? wished : free_files);
    }
    return wished;
}

hr_code hr_http_server_start(hr_http_server *server, hr_error *err) {
    HR_ASSERT(!server->is_started);
    hr_code code = HR_OK;
    if ((server->tls_cert == NULL) != (server->tls_key == NULL)) {
        return hr_fail(err, HR_E_CONFIG, 0, "tls needs both cert and key");
    }
    if (server->tls_cert != NULL) {
        code = hr_http_tls_new(server->tls_cert, server->tls_key, &server->tls, err);
    }
    if (code == HR_OK && server->fd >= 0) { /* taken over */
        server->port = hr_http_bound_port(server->fd);
    } else if (code == HR_OK) {
        code = hr_http_listen(server->listen, &server->fd, &server->port, err);
    }
    server->peer_max = allowed_connections(server->connections);
    code = code == HR_OK ? hr_http_io_start(server, err) : code;
    server->is_started = code == HR_OK;
    return code;
}

int hr_http_server_port(const hr_http_server *server) {
    return server->port;
}

int hr_http_server_listener(const hr_http_server *server) {
    return server->is_started ? fcntl(server->fd, F_DUPFD_CLOEXEC, 3) : -1;
}

/* ---- requests ---- */

static void open_add(hr_http_server *server, hr_http_request *request) {
    request->open_newer = NULL;
    request->open_older = server->open;
    if (server->open != NULL) {
        server->open->open_newer = request;
    }
    server->open = request;
}

static void open_remove(hr_http_server *server, hr_http_request *request) {
    if (request->open_older != NULL) {
        request->open_older->open_newer = request->open_newer;
    }
    if (request->open_newer != NULL) {
        request->open_newer->open_older = request->open_older;
    } else {
        server->open = request->open_older;
    }
}

static void server_release(hr_http_server *server) {
    pthread_mutex_destroy(&server->mutex);
    hr_free(server);
}

/* Everything that arrived since the last turn. */
static void on_message(hr_message *message) {
    hr_http_server *server =
        (hr_http_server *)(void *)((char *)message - offsetof(hr_http_server, message));
    pthread_mutex_lock(&server->mutex);
    server->is_posted = false;
    bool is_freed = server->is_freed;
    HR_ASSERT(server->taken == NULL);
    server->taken = server->arrived.first;
    hr_http_queue_init(&server->arrived);
    pthread_mutex_unlock(&server->mutex);
    if (is_freed) {
        server_release(server);
        return;
    }
    while (server->taken != NULL) { /* a handler may stop the server, which empties it */
        hr_http_request *request = server->taken;
        server->taken = request->next;
        open_add(server, request);
        request->route->handler(request->route->data, request);
    }
}

/* The answers of this turn. */
static void on_turn(hr_message *message) {
    hr_http_server *server =
        (hr_http_server *)(void *)((char *)message - offsetof(hr_http_server, turn));
    hr_http_io_take(server, &server->answering);
}

static void send_back(hr_http_request *request) {
    hr_http_server *server = request->server;
    if (server->answering.first == NULL) {
        hr_loop_defer(server->loop, &server->turn);
    }
    hr_http_queue_add(&server->answering, request);
}

static void free_orphan(hr_http_request *request) {
    hr_http_request_fini(request);
    hr_free(request); /* with its peer, of which it is the beginning */
}

void hr_http_answer(hr_http_request *request, int status, const char *const *headers,
                    hr_slice body) {
    open_remove(request->server, request);
    if (request->is_orphan) { /* the server stopped and answered in our place */
        free_orphan(request);
        return;
    }
    hr_http_compose(request, status, headers, body);
    send_back(request);
}

/* ---- its end ---- */

void hr_http_server_stop(hr_http_server *server) {
    if (server == NULL || !server->is_started) {
        return;
    }
    pthread_mutex_lock(&server->mutex);
    server->is_stopping = true; /* nothing is handed over from here on */
    hr_http_queue waiting = server->arrived;
    hr_http_queue_init(&server->arrived);
    pthread_mutex_unlock(&server->mutex);
    hr_http_request *lists[] = {server->taken, waiting.first};
    server->taken = NULL;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        for (hr_http_request *request = lists[i], *next; request != NULL; request = next) {
            next = request->next;
            hr_http_compose_stopping(request);
            send_back(request);
        }
    }
    for (hr_http_request *at = server->open; at != NULL; at = at->open_older) {
        at->is_orphan = true; /* its handler will still answer it */
        hr_http_compose_stopping(at);
        send_back(at);
    }
    hr_loop_forget(server->loop, &server->turn);
    hr_http_io_take(server, &server->answering);
    hr_http_io_end(server);
    server->is_started = false;
    close(server->fd);
    server->fd = -1;
}

void hr_http_server_free(hr_http_server *server) {
    if (server == NULL) {
        return;
    }
    hr_http_server_stop(server);
    if (server->fd >= 0) { /* taken over and never started, or it could not start */
        close(server->fd);
    }
    while (server->open != NULL) { /* never answered by their handlers */
        hr_http_request *request = server->open;
        open_remove(server, request);
        free_orphan(request);
    }
    for (uint32_t i = 0; i < server->route_count; i++) {
        hr_free(server->routes[i].path);
    }
    hr_http_tls_free(server->tls);
    hr_free(server->listen);
    hr_free(server->tls_cert);
    hr_free(server->tls_key);
    pthread_mutex_lock(&server->mutex);
    server->is_freed = true;
    bool is_posted = server->is_posted; /* then its message frees it */
    pthread_mutex_unlock(&server->mutex);
    if (!is_posted) {
        server_release(server);
    }
}
