/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that take too long. microhttpd ends those that are silent; a peer that sends a byte
 * now and then would hold its place for ever, so that a few of them could shut out all others. */
#include "core/memory.h"
#include "net/http_server_priv.h"

#include <sys/socket.h>

/* One connection; the library's threads move the deadline, the loop looks at it. */
typedef struct peer {
    int fd;
    atomic_uint_least64_t deadline_ns; /* mono; 0: we are at work, it may wait */
    struct peer *next, *previous;
} peer;

static uint64_t after(const hr_http_server *server, uint32_t times) {
    return hr_mono_ns() + (uint64_t)server->timeout_s * times * UINT64_C(1000000000);
}

void hr_http_on_connection(void *data, struct MHD_Connection *connection, void **context,
                           enum MHD_ConnectionNotificationCode what) {
    hr_http_server *server = data;
    peer *self = *context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        self = hr_alloc(sizeof *self);
        self->fd = info->connect_fd;
        atomic_init(&self->deadline_ns, after(server, 1));
        *context = self;
        pthread_mutex_lock(&server->mutex);
        self->next = server->peers;
        if (self->next != NULL) {
            self->next->previous = self;
        }
        server->peers = self;
        hr_http_wake(server); /* so that the loop starts to look */
        pthread_mutex_unlock(&server->mutex);
        return;
    }
    pthread_mutex_lock(&server->mutex); /* from here on nobody may touch fd */
    if (self->next != NULL) {
        self->next->previous = self->previous;
    }
    if (self->previous != NULL) {
        self->previous->next = self->next;
    } else {
        server->peers = self->next;
    }
    pthread_mutex_unlock(&server->mutex);
    hr_free(self);
    *context = NULL;
}

void hr_http_expect(hr_http_request *request, hr_http_waiting what) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    peer *self = info->socket_context;
    uint64_t deadline_ns = 0;
    switch (what) {
    case HR_HTTP_WAIT_BODY:
        deadline_ns = after(request->server, 10);
        break;
    case HR_HTTP_WAIT_NEXT: /* idle for one time limit, then the header lines within another */
        deadline_ns = after(request->server, 2);
        break;
    case HR_HTTP_WAIT_NONE:
        break;
    }
    atomic_store(&self->deadline_ns, deadline_ns);
}

void hr_http_end_slow(void *data) {
    hr_http_server *server = data;
    uint64_t now_ns = hr_mono_ns();
    pthread_mutex_lock(&server->mutex);
    for (peer *at = server->peers; at != NULL; at = at->next) {
        uint64_t deadline_ns = atomic_load(&at->deadline_ns);
        if (deadline_ns != 0 && deadline_ns < now_ns) {
            shutdown(at->fd, SHUT_RDWR); /* the library notices and closes it */
        }
    }
    bool is_empty = server->peers == NULL;
    pthread_mutex_unlock(&server->mutex);
    if (is_empty) { /* an idle daemon does not wake up */
        hr_timer_stop(server->slow);
        server->is_looking = false;
    }
}
