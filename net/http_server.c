/* SPDX-License-Identifier: Apache-2.0 */
/* net/http_server.h over libmicrohttpd: its life, its routes, and the way to the loop and back. */
#include "net/http_server.h"

#include "core/log.h"
#include "core/memory.h"
#include "net/http_server_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { TLS_FILE_MAX = 1 << 20, CONNECTIONS = 20000, TIMEOUT_S = 30, THREADS_MAX = 4 };

static void on_message(hr_message *message);

hr_http_server *hr_http_server_new(hr_loop *loop, const hr_http_options *options) {
    hr_http_server *server = hr_alloc(sizeof *server);
    server->loop = loop;
    server->listen = hr_copy_text(options->listen);
    server->tls_cert = hr_copy_text(options->tls_cert);
    server->tls_key = hr_copy_text(options->tls_key);
    server->connections = options->connections == 0 ? CONNECTIONS : options->connections;
    server->timeout_s = options->timeout_s == 0 ? TIMEOUT_S : options->timeout_s;
    server->fd = options->take_fd > 0 ? options->take_fd : -1;
    server->slow = hr_timer_new(loop, hr_http_end_slow, server);
    server->message.run = on_message;
    server->arrived_last = &server->arrived;
    pthread_mutex_init(&server->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->answered, &attributes);
    pthread_condattr_destroy(&attributes);
    return server;
}

hr_code hr_http_route(hr_http_server *server, const char *path, size_t body_max,
                      size_t oversize_head, hr_http_handler *handler, void *data, hr_error *err) {
    HR_ASSERT(server->daemon == NULL); /* the library's threads read the routes without a lock */
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

static void say(void *data, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
static void say(void *data, const char *format, va_list arguments) {
    hr_http_server *server = data;
    char line[sizeof server->said];
    vsnprintf(line, sizeof line, format, arguments);
    line[strcspn(line, "\r\n")] = 0;
    pthread_mutex_lock(&server->mutex);
    memcpy(server->said, line, sizeof line);
    pthread_mutex_unlock(&server->mutex);
    hr_log(HR_LOG_DEBUG, "http", "%s", line);
}

/* The whole file as text, into out. */
static hr_code read_file(const char *path, hr_buffer *out, hr_error *err) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return hr_fail(err, HR_E_IO, errno, "read '%s': %s", path, strerror(errno));
    }
    uint8_t *room = hr_buffer_room(out, TLS_FILE_MAX);
    out->size = fread(room, 1, TLS_FILE_MAX, file);
    int problem = ferror(file) ? errno : 0;
    fclose(file);
    if (problem != 0) {
        return hr_fail(err, HR_E_IO, problem, "read '%s': %s", path, strerror(problem));
    }
    return HR_OK;
}

/* How many of the connections wished for the open-file limit allows; a sixteenth of the files, 128
 * at least, is for all else that the daemon does. */
static unsigned allowed_connections(uint32_t wished) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        uint64_t files = limit.rlim_cur, others = files / 16 > 128 ? files / 16 : 128;
        uint64_t free_files = files > 2 * others ? files - others : files / 2;
        return (unsigned)(wished < free_files ? wished : free_files);
    }
    return wished;
}

static hr_code start_daemon(hr_http_server *server, const char *cert, const char *key,
                            hr_error *err) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = cores >= 8 ? THREADS_MAX : (unsigned)(cores < 4 ? 1 : 2);
    struct MHD_OptionItem extra[6];
    size_t count = 0;
    if (threads > 1) {
        extra[count++] =
            (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)threads, NULL};
    }
    if (cert != NULL) {
        static char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
        char *cert_text = hr_copy_text(cert), *key_text = hr_copy_text(key);
        extra[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, cert_text};
        extra[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, key_text};
        extra[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, priorities};
        hr_free(server->tls_cert); /* the library reads the texts while it runs */
        hr_free(server->tls_key);
        server->tls_cert = cert_text;
        server->tls_key = key_text;
    }
    extra[count] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    unsigned connections = allowed_connections(server->connections);
    server->peer_max = connections - (connections < 128 ? 1 : connections / 64);
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    server->daemon = hr_microhttpd.MHD_start_daemon(
        flags | (cert == NULL ? 0U : (unsigned)MHD_USE_TLS), 0, NULL, NULL, hr_http_on_access,
        server, MHD_OPTION_EXTERNAL_LOGGER, say, server, MHD_OPTION_LISTEN_SOCKET, server->fd,
        MHD_OPTION_NOTIFY_CONNECTION, hr_http_on_connection, server, MHD_OPTION_NOTIFY_COMPLETED,
        hr_http_on_completed, server, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HR_HTTP_POOL,
        MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)server->timeout_s, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, extra,
        MHD_OPTION_END);
    if (server->daemon == NULL) {
        return hr_fail(err, HR_E_IO, 0, "listen on %s: %s", server->listen,
                       server->said[0] == 0 ? "the HTTP server does not start" : server->said);
    }
    return HR_OK;
}

hr_code hr_http_server_start(hr_http_server *server, hr_error *err) {
    HR_ASSERT(server->daemon == NULL);
    hr_buffer cert = {0}, key = {0};
    hr_code code = hr_http_server_load(err);
    if (code != HR_OK) {
        return code;
    }
    bool has_tls = server->tls_cert != NULL;
    if (has_tls != (server->tls_key != NULL)) {
        return hr_fail(err, HR_E_CONFIG, 0, "tls needs both cert and key");
    }
    if (has_tls) {
        code = read_file(server->tls_cert, &cert, err);
        code = code == HR_OK ? read_file(server->tls_key, &key, err) : code;
    }
    if (code == HR_OK && server->fd >= 0) { /* taken over */
        server->port = hr_http_bound_port(server->fd);
    } else if (code == HR_OK) {
        code = hr_http_listen(server->listen, &server->fd, &server->port, err);
    }
    if (code == HR_OK) {
        code = start_daemon(server, has_tls ? hr_buffer_text(&cert) : NULL,
                            has_tls ? hr_buffer_text(&key) : NULL, err);
        if (code != HR_OK) {
            close(server->fd);
            server->fd = -1;
        }
    }
    if (key.size > 0) {
        explicit_bzero(key.bytes, key.size);
    }
    hr_buffer_fini(&cert);
    hr_buffer_fini(&key);
    return code;
}

int hr_http_server_port(const hr_http_server *server) {
    return server->port;
}

int hr_http_server_listener(const hr_http_server *server) {
    return server->daemon == NULL ? -1 : fcntl(server->fd, F_DUPFD_CLOEXEC, 3);
}

/* Sets the answer and wakes the connection. From here on only microhttpd's reference counts. */
static void resume(hr_http_request *request, int status, struct MHD_Response *take_response) {
    HR_ASSERT(request->response == NULL);
    request->status = status;
    request->response = take_response;
    hr_microhttpd.MHD_resume_connection(request->connection);
}

static void resume_stopping(hr_http_request *request) {
    struct MHD_Response *response = hr_http_line(503, "the server is stopping\n");
    hr_microhttpd.MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    resume(request, 503, response);
}

void hr_http_wake(hr_http_server *server) {
    if (!server->is_posted) {
        server->is_posted = true;
        hr_loop_post(server->loop, &server->message);
    }
}

void hr_http_hand_over(hr_http_request *request) {
    hr_http_server *server = request->server;
    hr_microhttpd.MHD_suspend_connection(request->connection); /* before anybody can resume it */
    request->is_handed = true;
    pthread_mutex_lock(&server->mutex);
    server->handed++;
    bool is_stopping = server->is_stopping;
    if (!is_stopping) {
        atomic_fetch_add(&request->refs, 1);
        request->next = NULL;
        *server->arrived_last = request;
        server->arrived_last = &request->next;
        hr_http_wake(server);
    }
    pthread_mutex_unlock(&server->mutex);
    if (is_stopping) {
        resume_stopping(request);
    }
}

static void server_release(hr_http_server *server) {
    pthread_mutex_destroy(&server->mutex);
    pthread_cond_destroy(&server->answered);
    hr_free(server);
}

static void open_add(hr_http_server *server, hr_http_request *request) {
    request->previous = NULL;
    request->next = server->open;
    if (server->open != NULL) {
        server->open->previous = request;
    }
    server->open = request;
}

static void open_remove(hr_http_server *server, hr_http_request *request) {
    if (request->next != NULL) {
        request->next->previous = request->previous;
    }
    if (request->previous != NULL) {
        request->previous->next = request->next;
    } else {
        server->open = request->next;
    }
}

/* Everything that arrived since the last turn. */
static void on_message(hr_message *message) {
    hr_http_server *server =
        (hr_http_server *)(void *)((char *)message - offsetof(hr_http_server, message));
    pthread_mutex_lock(&server->mutex);
    server->is_posted = false;
    bool is_freed = server->is_freed, has_peers = server->oldest != NULL;
    HR_ASSERT(server->taken == NULL);
    server->taken = server->arrived;
    server->arrived = NULL;
    server->arrived_last = &server->arrived;
    pthread_mutex_unlock(&server->mutex);
    if (is_freed) {
        server_release(server);
        return;
    }
    if (has_peers && !server->is_looking) {
        uint64_t every_ms = (uint64_t)server->timeout_s * 100;
        server->is_looking = true;
        hr_timer_start(server->slow, every_ms, every_ms);
    }
    while (server->taken != NULL) { /* a handler may stop the server, which empties it */
        hr_http_request *request = server->taken;
        server->taken = request->next;
        open_add(server, request);
        request->route->handler(request->route->data, request);
    }
}

void hr_http_answer(hr_http_request *request, int status, const char *const *headers,
                    hr_slice body) {
    open_remove(request->server, request);
    if (request->is_orphan) { /* the server stopped and answered in our place */
        hr_http_request_unref(request);
        return;
    }
    struct MHD_Response *response = NULL;
    if (body.size == 0) {
        response = hr_microhttpd.MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    } else {
        response = hr_microhttpd.MHD_create_response_from_buffer_with_free_callback(
            body.size, hr_copy_bytes(body.bytes, body.size), hr_free);
    }
    hr_require(response);
    for (size_t i = 0; headers != NULL && headers[i] != NULL; i += 2) {
        HR_ASSERT(headers[i + 1] != NULL);
        hr_microhttpd.MHD_add_response_header(response, headers[i], headers[i + 1]);
    }
    /* A suspended connection cannot end, so microhttpd's reference keeps the request. */
    hr_http_request_unref(request);
    resume(request, status, response);
}

static void wait_answered(hr_http_server *server) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += HR_HTTP_STOP_MS / 1000;
    pthread_mutex_lock(&server->mutex);
    while (server->handed > 0 &&
           pthread_cond_timedwait(&server->answered, &server->mutex, &until) == 0) {
    }
    pthread_mutex_unlock(&server->mutex);
}

void hr_http_server_stop(hr_http_server *server) {
    if (server == NULL || server->daemon == NULL) {
        return;
    }
    hr_microhttpd.MHD_quiesce_daemon(server->daemon);
    pthread_mutex_lock(&server->mutex);
    server->is_stopping = true; /* nothing is handed over from here on */
    hr_http_request *arrived = server->arrived;
    server->arrived = NULL;
    server->arrived_last = &server->arrived;
    pthread_mutex_unlock(&server->mutex);
    hr_http_request *lists[] = {server->taken, arrived};
    server->taken = NULL;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        while (lists[i] != NULL) {
            hr_http_request *request = lists[i];
            lists[i] = request->next;
            hr_http_request_unref(request); /* not the last: the connection is suspended */
            resume_stopping(request);
        }
    }
    for (hr_http_request *request = server->open; request != NULL; request = request->next) {
        request->is_orphan = true; /* our reference stays: its handler will still answer it */
        resume_stopping(request);
    }
    wait_answered(server);
    hr_microhttpd.MHD_stop_daemon(server->daemon);
    server->daemon = NULL;
    close(server->fd);
    server->fd = -1;
}

void hr_http_server_free(hr_http_server *server) {
    if (server == NULL) {
        return;
    }
    hr_http_server_stop(server);
    if (server->fd >= 0) { /* taken over and never started */
        close(server->fd);
    }
    hr_timer_free(server->slow);
    while (server->open != NULL) { /* never answered by their handlers */
        hr_http_request *request = server->open;
        open_remove(server, request);
        hr_http_request_unref(request);
    }
    for (uint32_t i = 0; i < server->route_count; i++) {
        hr_free(server->routes[i].path);
    }
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
