/* SPDX-License-Identifier: Apache-2.0 */
#include "app/control.h"

#include "core/log.h"
#include "core/memory.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct client {
    hr_control *control;
    int fd;
    hr_watch *watch;
    hr_buffer in, out;
    size_t open; /* requests without an answer */
    bool is_closed;
    hr_tap tap;
    char *tap_name;
    bool is_tapping;
    struct client *next, **link;
} client;

struct hr_control {
    hr_loop *loop;
    hr_engine *engine; /* NULL: one follows another */
    hr_control_own *reload;
    void *reload_data;
    char *path;
    int fd;
    hr_watch *watch;
    client *clients;
    size_t count;
    bool is_closed; /* freed with its last client */
};

/* A request of a client; outlives it when the client goes first. */
typedef struct pending {
    hr_request request; /* first */
    client *client;
} pending;

static void free_client(client *c) {
    hr_control *control = c->control;
    *c->link = c->next;
    if (c->next != NULL) {
        c->next->link = c->link;
    }
    control->count--;
    hr_buffer_fini(&c->in);
    hr_buffer_fini(&c->out);
    hr_free(c->tap_name);
    hr_free(c);
    if (control->is_closed && control->count == 0) {
        hr_free(control);
    }
}

/* Closes the socket at once; the memory goes when the last request is answered. */
static void drop(client *c) {
    if (!c->is_closed) {
        c->is_closed = true;
        if (c->is_tapping && c->control->engine != NULL) {
            hr_history_untap(hr_engine_history(c->control->engine), &c->tap);
        }
        hr_watch_free(c->watch);
        close(c->fd);
    }
    if (c->open == 0) {
        free_client(c);
    }
}

static void flush(client *c) {
    while (c->out.size > 0) {
        ssize_t wrote = send(c->fd, c->out.bytes, c->out.size, MSG_NOSIGNAL);
        if (wrote <= 0) {
            break;
        }
        hr_buffer_consume(&c->out, (size_t)wrote);
    }
    hr_watch_set(c->watch, HR_WATCH_READ | (c->out.size > 0 ? HR_WATCH_WRITE : 0));
}

static void say(client *c, const json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT);
    if (text != NULL) {
        hr_buffer_print(&c->out, "%s\n", text);
    }
    hr_free(text);
    flush(c);
}

static void on_answer(hr_request *request, json_t *take_answer) {
    pending *own = (pending *)request;
    client *c = own->client;
    c->open--;
    if (c->is_closed) {
        drop(c);
    } else {
        say(c, take_answer);
    }
    json_decref(take_answer);
    json_decref(own->request.body);
    hr_free(own);
}

static void on_tap(hr_tap *tap, const json_t *note) {
    client *c = (client *)((char *)tap - offsetof(client, tap));
    if (c->out.size > 1 << 20) { /* a slow watcher misses some, the daemon never waits for it */
        return;
    }
    say(c, note);
}

static void say_error(client *c, const char *text) {
    json_t *error = json_pack("{s:s}", "error", text);
    say(c, error);
    json_decref(error);
}

static void start_tap(client *c, const json_t *body) {
    const char *name = json_string_value(json_object_get(body, "name"));
    if (name != NULL && !hr_engine_has_name(c->control->engine, name)) {
        say_error(c, "no trigger and no function has this name");
        return;
    }
    c->tap_name = hr_copy_text(name);
    c->tap = (hr_tap){.seen = on_tap, .name = c->tap_name};
    c->is_tapping = true;
    hr_history_tap(hr_engine_history(c->control->engine), &c->tap);
}

static void handle_line(client *c, const char *text, size_t size) {
    json_t *body = json_loadb(text, size, 0, NULL);
    const char *verb = json_string_value(json_object_get(body, "verb"));
    if (verb == NULL) {
        say_error(c, "not a request");
        json_decref(body);
        return;
    }
    if (c->control->engine == NULL) {
        say_error(c, "the configuration is being reloaded; ask again in a moment");
        json_decref(body);
        return;
    }
    if (strcmp(verb, "tap") == 0) {
        if (!c->is_tapping) {
            start_tap(c, body);
        }
        json_decref(body);
        return;
    }
    pending *own = hr_alloc(sizeof *own);
    own->request.body = body;
    own->request.answer = on_answer;
    own->client = c;
    c->open++;
    if (strcmp(verb, "reload") == 0 && c->control->reload != NULL) {
        c->control->reload(c->control->reload_data, &own->request);
    } else {
        hr_engine_request(c->control->engine, &own->request);
    }
}

static bool read_some(client *c) {
    for (;;) {
        uint8_t *room = hr_buffer_room(&c->in, 65536);
        ssize_t got = recv(c->fd, room, 65536, 0);
        if (got < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        if (got == 0 || c->in.size + (size_t)got > HR_CONTROL_LINE) {
            return false;
        }
        c->in.size += (size_t)got;
    }
}

static void on_client(void *data, int events) {
    client *c = data;
    if (events & HR_WATCH_WRITE) {
        flush(c);
    }
    if ((events & HR_WATCH_READ) == 0) {
        return;
    }
    bool is_open = read_some(c);
    uint8_t *end = NULL;
    c->open++; /* a client must not go away while its lines are handled */
    while (c->in.size > 0 && (end = memchr(c->in.bytes, '\n', c->in.size)) != NULL) {
        size_t size = (size_t)(end - c->in.bytes);
        handle_line(c, (const char *)c->in.bytes, size);
        hr_buffer_consume(&c->in, size + 1);
    }
    c->open--;
    if (!is_open) {
        drop(c);
    }
}

static bool is_allowed(int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

static void on_connect(void *data, int events) {
    (void)events;
    hr_control *control = data;
    int fd = accept4(control->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    if (!is_allowed(fd) || control->count >= HR_CONTROL_CLIENTS) {
        close(fd);
        return;
    }
    client *c = hr_alloc(sizeof *c);
    c->control = control;
    c->fd = fd;
    c->next = control->clients;
    c->link = &control->clients;
    if (c->next != NULL) {
        c->next->link = &c->next;
    }
    control->clients = c;
    control->count++;
    c->watch = hr_watch_new(control->loop, fd, on_client, c);
    hr_watch_set(c->watch, HR_WATCH_READ);
}

static hr_code address(const char *state_dir, struct sockaddr_un *out, hr_error *err) {
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    int size = snprintf(out->sun_path, sizeof out->sun_path, "%s/headrace.sock", state_dir);
    if (size < 0 || (size_t)size >= sizeof out->sun_path) {
        return hr_fail(err, HR_E_CONFIG, 0,
                       "the path of the state folder is too long for a socket (%zu bytes at most): "
                       "%s",
                       sizeof out->sun_path - sizeof "/headrace.sock", state_dir);
    }
    return HR_OK;
}

void hr_control_serve(hr_control *control, hr_engine *engine) {
    if (control == NULL) {
        return;
    }
    for (client *c = control->clients; c != NULL; c = c->next) {
        if (c->is_tapping && !c->is_closed) {
            if (control->engine != NULL) {
                hr_history_untap(hr_engine_history(control->engine), &c->tap);
            }
            if (engine != NULL) {
                hr_history_tap(hr_engine_history(engine), &c->tap);
            }
        }
    }
    control->engine = engine;
}

hr_code hr_control_open(hr_loop *loop, const char *state_dir, hr_engine *engine,
                        hr_control_own *reload, void *data, hr_control **out_control,
                        hr_error *err) {
    struct sockaddr_un name;
    hr_code code = address(state_dir, &name, err);
    if (code != HR_OK) {
        return code;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return hr_fail(err, HR_E_IO, errno, "listen on %s: %s", name.sun_path, strerror(errno));
    }
    unlink(name.sun_path); /* we hold the lock of the state: a socket left here is of the dead */
    mode_t mask = umask(0177);
    int bound = bind(fd, (struct sockaddr *)&name, sizeof name);
    umask(mask);
    if (bound != 0 || listen(fd, 16) != 0) {
        code = hr_fail(err, HR_E_IO, errno, "listen on %s: %s", name.sun_path, strerror(errno));
        close(fd);
        return code;
    }
    hr_control *control = hr_alloc(sizeof *control);
    control->loop = loop;
    control->engine = engine;
    control->reload = reload;
    control->reload_data = data;
    control->path = hr_copy_text(name.sun_path);
    control->fd = fd;
    control->watch = hr_watch_new(loop, fd, on_connect, control);
    hr_watch_set(control->watch, HR_WATCH_READ);
    *out_control = control;
    return HR_OK;
}

void hr_control_close(hr_control *take_control) {
    if (take_control == NULL) {
        return;
    }
    hr_watch_free(take_control->watch);
    close(take_control->fd);
    unlink(take_control->path);
    hr_free(take_control->path);
    take_control->count++; /* not freed by the last drop() here */
    for (client *c = take_control->clients, *next = NULL; c != NULL; c = next) {
        next = c->next;
        drop(c);
    }
    take_control->is_closed = true;
    if (--take_control->count == 0) {
        hr_free(take_control);
    } /* else with the last answer, at the latest when the engine is freed */
}

/* ---- the CLI's end ---- */

static hr_code send_request(int fd, const json_t *request, hr_error *err) {
    char *text = json_dumps(request, JSON_COMPACT);
    hr_buffer line = {0};
    hr_buffer_print(&line, "%s\n", text == NULL ? "" : text);
    hr_free(text);
    hr_code code = HR_OK;
    size_t done = 0;
    while (code == HR_OK && done < line.size) {
        ssize_t wrote = send(fd, line.bytes + done, line.size - done, MSG_NOSIGNAL);
        if (wrote < 0) {
            code = hr_fail(err, HR_E_PEER_DOWN, errno, "the daemon went away: %s", strerror(errno));
        } else {
            done += (size_t)wrote;
        }
    }
    hr_buffer_fini(&line);
    return code;
}

hr_code hr_control_ask(const char *state_dir, const json_t *request,
                       bool (*each)(void *data, const json_t *answer), void *data, hr_error *err) {
    struct sockaddr_un name;
    hr_code code = address(state_dir, &name, err);
    if (code != HR_OK) {
        return code;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof name) != 0) {
        code = hr_fail(err, HR_E_PEER_DOWN, errno,
                       errno == ENOENT || errno == ECONNREFUSED
                           ? "no daemon runs on the state '%s'; start one with 'headrace run', or "
                             "name its state with --state"
                           : "the daemon on the state '%s' cannot be asked: %s",
                       state_dir, strerror(errno));
    }
    code = code == HR_OK ? send_request(fd, request, err) : code;
    hr_buffer in = {0};
    bool more = code == HR_OK;
    while (more) {
        uint8_t *end = in.size == 0 ? NULL : memchr(in.bytes, '\n', in.size);
        if (end != NULL) {
            size_t size = (size_t)(end - in.bytes);
            json_t *answer = json_loadb((const char *)in.bytes, size, 0, NULL);
            hr_buffer_consume(&in, size + 1);
            more = each(data, answer);
            json_decref(answer);
            continue;
        }
        uint8_t *room = hr_buffer_room(&in, 65536);
        ssize_t got = recv(fd, room, 65536, 0);
        if (got <= 0) {
            code = hr_fail(err, HR_E_PEER_DOWN, got < 0 ? errno : 0, "the daemon has ended");
            break;
        }
        in.size += (size_t)got;
    }
    hr_buffer_fini(&in);
    if (fd >= 0) {
        close(fd);
    }
    return code;
}
