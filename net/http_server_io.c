/* SPDX-License-Identifier: Apache-2.0 */
/* The server's own thread: sockets. */
#include "core/log.h"
#include "core/memory.h"
#include "net/http_server_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCEPTS = 64, AGAIN_MS = 100 };

/* ---- one peer ---- */

/* A peer is gone, or waits for its next request and can be ended to make room. */
static void find_place(hr_http_server *server) {
    if (server->is_full && !server->is_leaving) {
        server->is_full = false;
        hr_watch_set(server->listener, HR_WATCH_READ);
    }
}

void hr_http_peer_close(hr_http_peer *peer) {
    hr_http_server *server = peer->request.server;
    if (peer->state == HR_HTTP_CLOSED) {
        return;
    }
    peer->state = HR_HTTP_CLOSED;
    hr_http_peer_remove(server, peer);
    hr_watch_free(peer->watch);
    if (peer->tls != NULL) {
        hr_http_tls_end(peer);
    }
    close(peer->fd);
    find_place(server);
    if (server->is_leaving && server->peer_count == 0) {
        hr_loop_stop(server->io);
    }
}

void hr_http_peer_settle(hr_http_peer *peer) {
    if (peer->state == HR_HTTP_CLOSED) {
        hr_buffer_fini(&peer->rest);
        if (!peer->request.is_orphan) {
            hr_http_request_fini(&peer->request);
            hr_free(peer);
        }
    }
}

/* Bytes, 0: the other side ended, or HR_HTTP_*. */
static ssize_t receive(hr_http_peer *peer, void *bytes, size_t size) {
    if (peer->tls != NULL) {
        return hr_http_tls_read(peer, bytes, size);
    }
    ssize_t got = recv(peer->fd, bytes, size, 0);
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR ? HR_HTTP_AGAIN_READ : HR_HTTP_BROKEN;
    }
    return got;
}

static ssize_t transmit(hr_http_peer *peer, const void *bytes, size_t size) {
    if (peer->tls != NULL) {
        return hr_http_tls_write(peer, bytes, size);
    }
    ssize_t sent = send(peer->fd, bytes, size, MSG_NOSIGNAL);
    if (sent < 0) {
        return errno == EAGAIN || errno == EINTR ? HR_HTTP_AGAIN_WRITE : HR_HTTP_BROKEN;
    }
    return sent;
}

static void listen_to(hr_http_peer *peer, int events) {
    peer->is_deaf = events == 0;
    hr_watch_set(peer->watch, events);
}

/* The last answer left before all of the request came: closing now would take it back (the kernel
 * answers what still arrives with a reset, which overtakes it). */
static void leave(hr_http_peer *peer) {
    if (peer->tls != NULL) {
        hr_http_tls_bye(peer);
    }
    shutdown(peer->fd, SHUT_WR);
    peer->state = HR_HTTP_LEAVING;
    peer->sent = 0;
    hr_http_expect(peer, HR_HTTP_WAIT_HEAD);
    listen_to(peer, HR_WATCH_READ);
}

/* The answer has left. */
static void end_exchange(hr_http_peer *peer) {
    hr_http_request *request = &peer->request;
    bool is_leaving = request->server->is_leaving;
    if (request->is_refused && !is_leaving) {
        leave(peer);
        return;
    }
    if (!request->is_kept || is_leaving) {
        if (peer->tls != NULL) {
            hr_http_tls_bye(peer);
        }
        hr_http_peer_close(peer);
        return;
    }
    hr_http_request_reset(request);
    peer->state = HR_HTTP_READING;
    peer->sent = 0;
    peer->body_end_ns = 0;
    hr_http_expect(peer, HR_HTTP_WAIT_NEXT);
    find_place(request->server);
}

static void send_answer(hr_http_peer *peer) {
    const hr_buffer *answer = &peer->request.answer;
    while (peer->sent < answer->size) {
        ssize_t sent = transmit(peer, answer->bytes + peer->sent, answer->size - peer->sent);
        if (sent > 0) {
            peer->sent += (size_t)sent;
        } else if (sent == HR_HTTP_AGAIN_WRITE || sent == HR_HTTP_AGAIN_READ) {
            if (peer->state != HR_HTTP_SENDING) {
                peer->state = HR_HTTP_SENDING;
                hr_http_expect(peer, HR_HTTP_WAIT_BODY);
            }
            listen_to(peer, HR_WATCH_WRITE);
            return;
        } else {
            hr_http_peer_close(peer);
            return;
        }
    }
    end_exchange(peer);
}

/* The requests of this turn so far; once the server stops they stay. */
static void hand_over_all(hr_http_server *server) {
    pthread_mutex_lock(&server->mutex);
    bool must_post = !server->is_stopping && !server->is_posted;
    if (!server->is_stopping) {
        hr_http_queue_move(&server->arrived, &server->arriving);
        server->is_posted = true;
    }
    pthread_mutex_unlock(&server->mutex);
    server->arriving_count = 0;
    if (must_post) { /* outside the lock, for which the loop would wait at once */
        hr_loop_post(server->loop, &server->message);
    }
}

static void hand_over(hr_http_peer *peer) {
    hr_http_server *server = peer->request.server;
    peer->state = HR_HTTP_AT_WORK;
    hr_http_expect(peer, HR_HTTP_WAIT_NONE);
    if (!server->is_io_turning) {
        server->is_io_turning = true;
        hr_loop_defer(server->io, &server->io_turn);
    }
    hr_http_queue_add(&server->arriving, &peer->request);
    if (++server->arriving_count == HR_HTTP_TOGETHER) {
        hand_over_all(server);
    }
}

/* Deadlines of what is on its way. */
static void expect_more(hr_http_peer *peer, uint64_t seen) {
    if (!peer->request.has_head) {
        return; /* its time runs since its first byte */
    }
    if (peer->body_end_ns == 0) {
        hr_http_expect(peer, HR_HTTP_WAIT_BODY);
    }
    hr_http_came(peer, peer->request.seen - seen);
}

static void tell_to_continue(hr_http_peer *peer) {
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    peer->request.wants_continue = false;
    if (transmit(peer, line, sizeof line - 1) != (ssize_t)sizeof line - 1) {
        hr_http_peer_close(peer); /* it has not even read this much */
    }
}

/* What was read; what comes behind a request at work waits in peer->rest. */
static void feed(hr_http_peer *peer, const uint8_t *bytes, size_t size) {
    hr_http_request *request = &peer->request;
    while (size > 0 && peer->state == HR_HTTP_READING) {
        if (!request->is_begun) {
            hr_http_expect(peer, HR_HTTP_WAIT_HEAD);
        }
        size_t used = 0;
        uint64_t seen = request->seen;
        hr_http_progress progress = hr_http_parse(request, bytes, size, &used);
        bytes += used;
        size -= used;
        if (progress == HR_HTTP_CUT) {
            hr_http_peer_close(peer);
        } else if (progress == HR_HTTP_MORE) {
            expect_more(peer, seen);
            if (request->wants_continue && request->has_head) {
                tell_to_continue(peer);
            }
        } else if (request->verdict == 0) {
            hand_over(peer);
        } else {
            hr_http_compose_verdict(request);
            send_answer(peer);
        }
    }
    if (size > 0 && (peer->state == HR_HTTP_AT_WORK || peer->state == HR_HTTP_SENDING)) {
        hr_buffer_add(&peer->rest, bytes, size);
    }
}

static void read_some(hr_http_peer *peer) {
    hr_http_server *server = peer->request.server;
    ssize_t got = receive(peer, server->in, sizeof server->in);
    if (got > 0) {
        feed(peer, server->in, (size_t)got);
    } else if (got == 0 || got == HR_HTTP_BROKEN) {
        hr_http_peer_close(peer);
    }
}

/* Goes on with what came behind the last request. */
static void go_on(hr_http_peer *peer) {
    while (peer->state == HR_HTTP_READING && peer->rest.size > 0) {
        hr_buffer rest = peer->rest;
        peer->rest = (hr_buffer){0};
        feed(peer, rest.bytes, rest.size);
        hr_buffer_fini(&rest);
    }
    while (peer->state == HR_HTTP_READING && peer->tls != NULL && hr_http_tls_has_more(peer)) {
        read_some(peer);
    }
    if (peer->state == HR_HTTP_READING && peer->is_deaf) {
        listen_to(peer, HR_WATCH_READ);
    }
}

static void discard(hr_http_peer *peer) {
    hr_http_server *server = peer->request.server;
    ssize_t got = recv(peer->fd, server->in, sizeof server->in, 0); /* sealed or not */
    peer->sent += got > 0 ? (size_t)got : 0;
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR) ||
        peer->sent > HR_HTTP_DISCARD_MAX) {
        hr_http_peer_close(peer);
    }
}

static void greet(hr_http_peer *peer) {
    int result = hr_http_tls_shake(peer);
    if (result == HR_HTTP_BROKEN) {
        hr_http_peer_close(peer);
        return;
    }
    listen_to(peer, result == HR_HTTP_AGAIN_WRITE ? HR_WATCH_WRITE : HR_WATCH_READ);
    if (result == 0) {
        peer->state = HR_HTTP_READING;
        go_on(peer);
    }
}

static void on_ready(void *data, int events) {
    hr_http_peer *peer = data;
    (void)events;
    switch (peer->state) {
    case HR_HTTP_GREETING:
        greet(peer);
        break;
    case HR_HTTP_READING:
        read_some(peer);
        go_on(peer);
        break;
    case HR_HTTP_AT_WORK: /* it is read when there is an answer */
        listen_to(peer, 0);
        break;
    case HR_HTTP_SENDING:
        send_answer(peer);
        peer->is_deaf |= peer->state == HR_HTTP_READING; /* so far for writing only */
        go_on(peer);
        break;
    case HR_HTTP_LEAVING:
        discard(peer);
        break;
    case HR_HTTP_CLOSED:
        break;
    }
    hr_http_peer_settle(peer);
}

/* ---- new ones ---- */

static void add_peer(hr_http_server *server, int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    hr_http_peer *peer = hr_alloc(sizeof *peer);
    hr_http_request_init(&peer->request, server);
    peer->fd = fd;
    peer->state = HR_HTTP_READING;
    if (server->tls != NULL) {
        peer->state = HR_HTTP_GREETING;
        hr_http_tls_begin(peer);
    }
    peer->watch = hr_watch_new(server->io, fd, on_ready, peer);
    hr_http_peer_add(server, peer);
    hr_http_expect(peer, HR_HTTP_WAIT_HEAD);
    hr_watch_set(peer->watch, HR_WATCH_READ);
}

/* We look again in a moment; where files or memory are used up, whoever waited longest makes room.
 */
static void cannot_accept(hr_http_server *server, int problem) {
    hr_log(HR_LOG_WARN, "http", "a connection cannot be taken: %s", strerror(problem));
    bool is_scarce =
        problem == EMFILE || problem == ENFILE || problem == ENOBUFS || problem == ENOMEM;
    if (is_scarce && server->peer_count > 0) {
        hr_http_make_room(server, server->peer_count - 1);
    }
    hr_watch_set(server->listener, 0);
    hr_timer_start(server->again, AGAIN_MS, 0);
}

static void on_listener(void *data, int events) {
    hr_http_server *server = data;
    (void)events;
    for (int i = 0; i < ACCEPTS; i++) {
        if (server->peer_count >= server->peer_max && i > 0) {
            return; /* who knows whether another one waits */
        }
        if (server->peer_count >= server->peer_max) {
            hr_http_make_room(server, server->peer_max - 1);
        }
        if (server->peer_count >= server->peer_max) { /* all of them wait for us */
            server->is_full = true;
            hr_watch_set(server->listener, 0);
            return;
        }
        int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            add_peer(server, fd);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != ECONNABORTED && errno != EINTR && errno != EPROTO && errno != EPERM) {
            cannot_accept(server, errno);
            return;
        } /* those are of the connection, which is gone */
    }
}

/* ---- to the caller's loop and back ---- */

/* The end of a turn. */
static void on_io_turn(hr_message *message) {
    hr_http_server *server =
        (hr_http_server *)(void *)((char *)message - offsetof(hr_http_server, io_turn));
    server->is_io_turning = false;
    hand_over_all(server);
    hr_http_request *request = server->arriving.first, *next = NULL;
    hr_http_queue_init(&server->arriving);
    for (; request != NULL; request = next) { /* the server stops: nobody else answers them */
        hr_http_peer *peer = (hr_http_peer *)(void *)request;
        next = request->next;
        hr_http_compose_stopping(request);
        send_answer(peer);
        hr_http_peer_settle(peer);
    }
}

/* Whoever has no request at work is done with; the others get their answers and go. */
static void begin_to_leave(hr_http_server *server) {
    server->is_leaving = true;
    hr_watch_set(server->listener, 0);
    for (hr_http_peer *at = server->oldest, *next; at != NULL; at = next) {
        next = at->newer;
        if (at->state != HR_HTTP_AT_WORK && at->state != HR_HTTP_SENDING) {
            hr_http_peer_close(at);
            hr_http_peer_settle(at);
        }
    }
    hr_timer_start(server->again, HR_HTTP_STOP_MS, 0);
    if (server->peer_count == 0) {
        hr_loop_stop(server->io);
    }
}

static void on_io_message(hr_message *message) {
    hr_http_server *server =
        (hr_http_server *)(void *)((char *)message - offsetof(hr_http_server, io_message));
    pthread_mutex_lock(&server->mutex);
    server->is_io_posted = false;
    bool is_stopping = server->is_stopping;
    hr_http_request *request = server->answered.first, *next = NULL;
    hr_http_queue_init(&server->answered);
    pthread_mutex_unlock(&server->mutex);
    for (; request != NULL; request = next) {
        hr_http_peer *peer = (hr_http_peer *)(void *)request;
        next = request->next;
        send_answer(peer);
        go_on(peer);
        hr_http_peer_settle(peer);
    }
    if (is_stopping && !server->is_leaving) {
        begin_to_leave(server);
    }
}

void hr_http_io_take(hr_http_server *server, hr_http_queue *answering) {
    pthread_mutex_lock(&server->mutex);
    bool must_post = !server->is_io_posted;
    hr_http_queue_move(&server->answered, answering);
    server->is_io_posted = true;
    pthread_mutex_unlock(&server->mutex);
    if (must_post) {
        hr_loop_post(server->io, &server->io_message);
    }
}

static void on_again(void *data) {
    hr_http_server *server = data;
    if (server->is_leaving) { /* they had their time */
        hr_loop_stop(server->io);
    } else if (!server->is_full) {
        hr_watch_set(server->listener, HR_WATCH_READ);
    }
}

static void *run(void *data) {
    hr_http_server *server = data;
    pthread_setname_np(pthread_self(), "hr-http");
    hr_loop_run(server->io);
    return NULL;
}

static void end_io(hr_http_server *server) {
    while (server->oldest != NULL) {
        hr_http_peer *peer = server->oldest;
        hr_http_peer_close(peer);
        hr_http_peer_settle(peer);
    }
    hr_watch_free(server->listener);
    hr_timer_free(server->slow);
    hr_timer_free(server->again);
    hr_loop_free(server->io);
    server->io = NULL;
}

hr_code hr_http_io_start(hr_http_server *server, hr_error *err) {
    server->io = hr_loop_new();
    server->listener = hr_watch_new(server->io, server->fd, on_listener, server);
    server->slow = hr_timer_new(server->io, hr_http_end_slow, server);
    server->again = hr_timer_new(server->io, on_again, server);
    server->io_turn.run = on_io_turn;
    server->io_message.run = on_io_message;
    hr_http_queue_init(&server->arriving);
    hr_watch_set(server->listener, HR_WATCH_READ);
    int failed = pthread_create(&server->thread, NULL, run, server);
    if (failed != 0) {
        end_io(server);
        return hr_fail(err, HR_E_IO, failed, "listen on %s: no thread: %s", server->listen,
                       strerror(failed));
    }
    return HR_OK;
}

void hr_http_io_end(hr_http_server *server) {
    pthread_join(server->thread, NULL);
    end_io(server);
}
