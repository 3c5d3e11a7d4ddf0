/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that take too long. microhttpd ends those that are silent; a peer that sends a byte
 * now and then would hold its place for ever. And when nearly all places are taken, whoever kept us
 * waiting longest makes room: no number of them shuts out the others. */
#include "core/log.h"
#include "core/memory.h"
#include "net/http_server_priv.h"

#include <sys/socket.h>

enum { BODY_TIMES = 10, BODY_BYTE_NS = 1000000, LOOK_MAX = 64 };

/* One connection; the library's threads move the deadline, the loop looks at it. */
typedef struct peer {
    int fd;
    bool is_ended;                     /* in no list any more; the library will close it */
    atomic_uint_least64_t deadline_ns; /* mono; 0: we are at work, it may wait */
    uint64_t body_end_ns;              /* however many bytes come; the library's thread only */
    struct peer *newer, *older;
} peer;

static uint64_t after(uint32_t seconds) {
    return hr_mono_ns() + seconds * UINT64_C(1000000000);
}

/* A peer sends its header lines at once, an idle connection may wait for its next request. */
static uint32_t header_s(const hr_http_server *server) {
    return server->timeout_s < 3 ? 1 : server->timeout_s / 3;
}

/* ---- the list, in the order in which they last came or were done; with the mutex held ---- */

static void add_newest(hr_http_server *server, peer *self) {
    self->newer = NULL;
    self->older = server->newest;
    *(self->older == NULL ? &server->oldest : &self->older->newer) = self;
    server->newest = self;
    server->peer_count++;
}

static void take_out(hr_http_server *server, peer *self) {
    *(self->newer == NULL ? &server->newest : &self->newer->older) = self->older;
    *(self->older == NULL ? &server->oldest : &self->older->newer) = self->newer;
    server->peer_count--;
}

static void end(hr_http_server *server, peer *self) {
    take_out(server, self);
    self->is_ended = true;
    shutdown(self->fd, SHUT_RDWR); /* the library notices and closes it */
}

static void make_room(hr_http_server *server) {
    for (int i = 0; i < LOOK_MAX && server->peer_count > server->peer_max; i++) {
        peer *oldest = server->oldest;
        if (atomic_load(&oldest->deadline_ns) != 0) {
            end(server, oldest);
            server->ended_early++;
        } else { /* waits for us: it is not to blame */
            take_out(server, oldest);
            add_newest(server, oldest);
        }
    }
}

/* ---- from the library's threads ---- */

void hr_http_on_connection(void *data, struct MHD_Connection *connection, void **context,
                           enum MHD_ConnectionNotificationCode what) {
    hr_http_server *server = data;
    peer *self = *context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            hr_microhttpd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        self = hr_alloc(sizeof *self);
        self->fd = info->connect_fd;
        atomic_init(&self->deadline_ns, after(header_s(server)));
        *context = self;
        pthread_mutex_lock(&server->mutex);
        add_newest(server, self);
        make_room(server);
        hr_http_wake(server); /* so that the loop starts to look */
        pthread_mutex_unlock(&server->mutex);
        return;
    }
    pthread_mutex_lock(&server->mutex); /* from here on nobody may touch fd */
    if (!self->is_ended) {
        take_out(server, self);
    }
    pthread_mutex_unlock(&server->mutex);
    hr_free(self);
    *context = NULL;
}

static peer *peer_of(const hr_http_request *request) {
    const union MHD_ConnectionInfo *info = hr_microhttpd.MHD_get_connection_info(
        request->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info->socket_context;
}

void hr_http_expect(hr_http_request *request, hr_http_waiting what) {
    hr_http_server *server = request->server;
    peer *self = peer_of(request);
    switch (what) {
    case HR_HTTP_WAIT_BODY:
        self->body_end_ns = after(BODY_TIMES * server->timeout_s);
        atomic_store(&self->deadline_ns, after(server->timeout_s));
        break;
    case HR_HTTP_WAIT_NEXT:
        atomic_store(&self->deadline_ns, after(server->timeout_s + header_s(server)));
        pthread_mutex_lock(&server->mutex);
        if (!self->is_ended) {
            take_out(server, self);
            add_newest(server, self);
        }
        pthread_mutex_unlock(&server->mutex);
        break;
    case HR_HTTP_WAIT_NONE:
        atomic_store(&self->deadline_ns, 0);
        break;
    }
}

void hr_http_came(hr_http_request *request, size_t bytes) {
    peer *self = peer_of(request);
    uint64_t deadline_ns = atomic_load(&self->deadline_ns) + bytes * (uint64_t)BODY_BYTE_NS;
    atomic_store(&self->deadline_ns,
                 deadline_ns < self->body_end_ns ? deadline_ns : self->body_end_ns);
}

/* ---- from the loop ---- */

void hr_http_end_slow(void *data) {
    hr_http_server *server = data;
    uint64_t now_ns = hr_mono_ns();
    pthread_mutex_lock(&server->mutex);
    for (peer *at = server->oldest, *next; at != NULL; at = next) {
        next = at->newer;
        uint64_t deadline_ns = atomic_load(&at->deadline_ns);
        if (deadline_ns != 0 && deadline_ns < now_ns) {
            end(server, at);
        }
    }
    bool is_empty = server->oldest == NULL;
    uint64_t ended_early = server->ended_early;
    server->ended_early = 0;
    pthread_mutex_unlock(&server->mutex);
    if (ended_early > 0) {
        hr_log(HR_LOG_WARN, "http",
               "%llu connections that kept us waiting longest were ended to make room: %u at once "
               "are too many here (limit of open files, ulimit -n)",
               (unsigned long long)ended_early, (unsigned)server->peer_max);
    }
    if (is_empty) { /* an idle daemon does not wake up */
        hr_timer_stop(server->slow);
        server->is_looking = false;
    }
}
