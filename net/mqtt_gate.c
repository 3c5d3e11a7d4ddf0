/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mqtt_gate.h"

#include "core/base64.h"
#include "core/buffer.h"
#include "core/crash.h"
#include "core/memory.h"
#include "core/mutant.h"
#include "net/mqtt_gate_bytes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    GUESTS = 4,         /* loopback connections that have not shown the password yet */
    CHUNK = 64 << 10,   /* bytes of one read */
    ACKS_MAX = 4 << 20, /* bytes held; then paho is read no further */
    TICK_MS = 500,      /* between two looks at the limits of time */
    DIAL_MAX_MS = 10000,
    GUEST_MAX_MS = 3000,
    PAHO_MAX_MS = 20000, /* from dialed() to paho's CONNECT */
    DRAIN_MAX_MS = 5000  /* for paho to take the broker's last words */
};

typedef struct end {
    int fd; /* -1: none */
    hr_watch *watch;
} end;

typedef struct guest {
    struct hr_mqtt_gate *gate;
    end end;
    uint64_t since_ns;
    size_t size;
    uint8_t head[HR_GATE_HEAD_MAX];
} guest;

typedef struct lookup { /* a name on its way through the resolver, on a thread of its own */
    hr_message message;
    hr_loop *loop;
    struct hr_mqtt_gate *gate; /* NULL: nobody waits any more */
    char *host, *port;
    struct addrinfo *found;
    int code;
} lookup;

struct hr_mqtt_gate {
    hr_loop *loop;
    hr_mqtt_gate_user user;
    end listener, broker, paho;
    hr_timer *tick;
    char *proxy, *authorization;
    char host[256];
    guest *guests[GUESTS];
    lookup *lookup;
    struct addrinfo *addresses, *address; /* all, the one being tried */
    enum { CLOSED, DIALING, DIALED, OPEN, DRAINING } phase;
    uint64_t phase_ns;    /* since when */
    uint64_t safe;        /* sequence up to which all is durable */
    uint64_t not_read_ns; /* since when the broker is not read though it may speak; 0: it is */
    hr_buffer up, down;   /* paho -> broker, broker -> paho */
    hr_gate_held held;    /* of up */
    bool is_held;
    char why[HR_ERROR_TEXT_BYTES];
};

static void look(hr_mqtt_gate *it);

static void end_close(end *it) {
    if (it->watch != NULL) {
        hr_watch_free(it->watch);
        it->watch = NULL;
    }
    if (it->fd >= 0) {
        (void)close(it->fd);
        it->fd = -1;
    }
}

static void set_phase(hr_mqtt_gate *it, int phase) {
    it->phase = (__typeof__(it->phase))phase;
    it->phase_ns = hr_mono_ns();
}

static void forget_guest(hr_mqtt_gate *it, size_t index) {
    end_close(&it->guests[index]->end);
    hr_free(it->guests[index]);
    it->guests[index] = NULL;
}

void hr_mqtt_gate_shut(hr_mqtt_gate *it) {
    end_close(&it->broker);
    end_close(&it->paho);
    for (size_t i = 0; i < GUESTS; i++) {
        if (it->guests[i] != NULL) {
            forget_guest(it, i);
        }
    }
    if (it->lookup != NULL) {
        it->lookup->gate = NULL;
        it->lookup = NULL;
    }
    if (it->addresses != NULL) {
        freeaddrinfo(it->addresses);
        it->addresses = it->address = NULL;
    }
    hr_buffer_fini(&it->up);
    hr_buffer_fini(&it->down);
    hr_gate_held_clear(&it->held);
    it->not_read_ns = 0;
    hr_watch_set(it->listener.watch, 0);
    hr_timer_stop(it->tick);
    set_phase(it, CLOSED);
}

static void close_with(hr_mqtt_gate *it, const char *why) {
    char text[HR_ERROR_TEXT_BYTES];
    (void)snprintf(text, sizeof text, "%s", why);
    bool was_dial = it->phase == DIALING;
    hr_mqtt_gate_shut(it);
    if (was_dial) {
        it->user.dialed(it->user.data, HR_E_PEER_DOWN, text);
    } else {
        it->user.closed(it->user.data, text);
    }
}

/* --- to the broker --- */

static void dial_next(hr_mqtt_gate *it);

static void dial_failed(hr_mqtt_gate *it, int error) {
    (void)snprintf(it->why, sizeof it->why, "connect to %s: %s", it->host, strerror(error));
    end_close(&it->broker);
    it->address = it->address->ai_next;
    dial_next(it);
}

static void broker_ready(void *data, int events) {
    (void)events;
    hr_mqtt_gate *it = data;
    if (it->phase == DIALING) {
        int error = 0;
        socklen_t size = sizeof error;
        if (getsockopt(it->broker.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
            error = errno;
        }
        if (error != 0) {
            dial_failed(it, error);
            return;
        }
        set_phase(it, DIALED);
        hr_watch_set(it->broker.watch, 0);
        hr_watch_set(it->listener.watch, HR_WATCH_READ);
        it->user.dialed(it->user.data, HR_OK, NULL);
        return;
    }
    look(it);
}

static void dial_next(hr_mqtt_gate *it) {
    for (; it->address != NULL; it->address = it->address->ai_next) {
        const struct addrinfo *to = it->address;
        int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd >= 0 && (connect(fd, to->ai_addr, to->ai_addrlen) == 0 || errno == EINPROGRESS)) {
            int one = 1;
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            it->broker.fd = fd;
            it->broker.watch = hr_watch_new(it->loop, fd, broker_ready, it);
            hr_watch_set(it->broker.watch, HR_WATCH_WRITE);
            return;
        }
        (void)snprintf(it->why, sizeof it->why, "connect to %s: %s", it->host, strerror(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    close_with(it, it->why);
}

static void looked_up(hr_message *message) {
    lookup *self = (lookup *)(void *)message;
    hr_mqtt_gate *it = self->gate;
    if (it != NULL) {
        it->lookup = NULL;
        it->addresses = it->address = self->found;
        self->found = NULL;
        (void)snprintf(it->why, sizeof it->why, "%s: %s", self->host,
                       self->code == 0 ? "no address" : gai_strerror(self->code));
        dial_next(it);
    }
    if (self->found != NULL) {
        freeaddrinfo(self->found);
    }
    hr_free(self->host);
    hr_free(self->port);
    hr_free(self);
}

static void *look_up(void *data) {
    lookup *self = data;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    self->code = getaddrinfo(self->host, self->port, &hints, &self->found);
    hr_loop_post(self->loop, &self->message);
    return NULL;
}

void hr_mqtt_gate_dial(hr_mqtt_gate *it, const char *host, const char *port) {
    HR_ASSERT(it->phase == CLOSED);
    set_phase(it, DIALING);
    hr_timer_start(it->tick, TICK_MS, TICK_MS);
    (void)snprintf(it->host, sizeof it->host, "%.200s:%.20s", host, port);
    lookup *self = hr_alloc(sizeof *self);
    *self = (lookup){.message.run = looked_up,
                     .loop = it->loop,
                     .gate = it,
                     .host = hr_copy_text(host),
                     .port = hr_copy_text(port)};
    it->lookup = self;
    pthread_t thread;
    if (pthread_create(&thread, NULL, look_up, self) == 0) {
        (void)pthread_detach(thread);
    } else {
        self->code = EAI_AGAIN;
        hr_loop_post(it->loop, &self->message);
    }
}

/* --- paho's side: password first --- */

static void paho_ready(void *data, int events) {
    (void)events;
    look(data);
}

static void guest_ready(void *data, int events) {
    (void)events;
    guest *self = data;
    hr_mqtt_gate *it = self->gate;
    size_t index = 0;
    while (it->guests[index] != self) {
        index++;
    }
    ssize_t got = recv(self->end.fd, self->head + self->size, HR_GATE_HEAD_MAX - self->size, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    self->size += got > 0 ? (size_t)got : 0;
    hr_gate_head head =
        got <= 0 ? HR_GATE_HEAD_FOREIGN
                 : hr_gate_head_read(hr_slice_of(self->head, self->size), it->authorization);
    if (head == HR_GATE_HEAD_MORE) {
        return;
    }
    static const char yes[] = "HTTP/1.1 200 OK\r\n\r\n"; /* in one piece: paho drops what follows */
    bool is_ours = head == HR_GATE_HEAD_OURS && it->phase == DIALED &&
                   it->user.taken(it->user.data) <= it->safe; /* S19 */
    if (!is_ours ||
        send(self->end.fd, yes, sizeof yes - 1, MSG_NOSIGNAL) != (ssize_t)(sizeof yes - 1)) {
        forget_guest(it, index);
        return;
    }
    it->paho.fd = self->end.fd;
    hr_watch_free(self->end.watch);
    self->end = (end){.fd = -1};
    forget_guest(it, index);
    it->paho.watch = hr_watch_new(it->loop, it->paho.fd, paho_ready, it);
    hr_watch_set(it->listener.watch, 0);
    set_phase(it, OPEN);
    look(it);
}

static void listener_ready(void *data, int events) {
    (void)events;
    hr_mqtt_gate *it = data;
    int fd = accept4(it->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    size_t index = 0;
    while (index < GUESTS && it->guests[index] != NULL) {
        index++;
    }
    if (index == GUESTS) {
        (void)close(fd);
        return;
    }
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    guest *self = hr_alloc(sizeof *self);
    self->gate = it;
    self->since_ns = hr_mono_ns();
    self->end.fd = fd;
    self->end.watch = hr_watch_new(it->loop, fd, guest_ready, self);
    hr_watch_set(self->end.watch, HR_WATCH_READ);
    it->guests[index] = self;
}

/* --- bytes --- */

static bool is_broken(ssize_t result) {
    return result < 0 && errno != EAGAIN && errno != EINTR;
}

/* Broker -> paho. False: the connection is gone. */
static bool pass_down(hr_mqtt_gate *it) {
    bool may_read = it->phase == OPEN && !it->is_held && !it->user.is_full(it->user.data);
    if (may_read && it->down.size == 0) {
        uint8_t *room = hr_buffer_room(&it->down, CHUNK);
        ssize_t got = recv(it->broker.fd, room, CHUNK, 0);
        if (got > 0) {
            it->down.size += (size_t)got;
        } else if (got == 0 || is_broken(got)) {
            (void)snprintf(it->why, sizeof it->why, "the broker closed the connection%s%s",
                           got < 0 ? ": " : "", got < 0 ? strerror(errno) : "");
            end_close(&it->broker);
            hr_buffer_fini(&it->up); /* acknowledgements die with their connection */
            hr_gate_held_clear(&it->held);
            set_phase(it, DRAINING);
        }
    }
    if (it->down.size > 0) {
        ssize_t sent = send(it->paho.fd, it->down.bytes, it->down.size, MSG_NOSIGNAL);
        if (is_broken(sent)) {
            close_with(it, "the client closed the connection");
            return false;
        }
        hr_buffer_consume(&it->down, sent > 0 ? (size_t)sent : 0);
    }
    if (it->phase == DRAINING && it->down.size == 0) {
        (void)shutdown(it->paho.fd, SHUT_WR);
    }
    return true;
}

/* Reads what paho has written. False: it has closed. */
static bool read_up(hr_mqtt_gate *it) {
    if (it->up.size >= ACKS_MAX) {
        return true;
    }
    uint8_t *room = hr_buffer_room(&it->up, CHUNK);
    ssize_t got = recv(it->paho.fd, room, CHUNK, 0);
    if (got > 0 && it->phase == OPEN) {
        int one = 1; /* paho leaves Nagle on: do not let it wait for our delayed ACK */
        (void)setsockopt(it->paho.fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
        it->up.size += (size_t)got;
        /* Read after the bytes: the callback of k comes before the acknowledgement of k. */
        hr_gate_held_add(&it->held, (size_t)got, it->user.taken(it->user.data), hr_mono_ns());
    }
    return got != 0 && !is_broken(got);
}

/* Paho -> broker. False: the connection is gone. */
static bool pass_up(hr_mqtt_gate *it) {
    if (!read_up(it)) {
        close_with(it, it->phase == DRAINING ? it->why : "the client closed the connection");
        return false;
    }
    hr_gate_held_release(&it->held, HR_MUTANT("gate-open") ? UINT64_MAX : it->safe);
    if (it->held.passable > 0 && it->phase == OPEN) {
        HR_CRASH_POINT("mqtt.before-puback");
        ssize_t sent = send(it->broker.fd, it->up.bytes, it->held.passable, MSG_NOSIGNAL);
        HR_CRASH_POINT("mqtt.after-puback");
        if (sent > 0) {
            hr_gate_held_sent(&it->held, (size_t)sent);
            hr_buffer_consume(&it->up, (size_t)sent);
        } /* an error shows when the broker's last words are read */
    }
    return true;
}

static void look(hr_mqtt_gate *it) {
    if ((it->phase != OPEN && it->phase != DRAINING) || !pass_down(it) || !pass_up(it)) {
        return;
    }
    bool is_open = it->phase == OPEN;
    bool may_read = is_open && !it->is_held && !it->user.is_full(it->user.data);
    if (is_open) {
        hr_watch_set(it->broker.watch, (may_read && it->down.size == 0 ? HR_WATCH_READ : 0) |
                                           (it->held.passable > 0 ? HR_WATCH_WRITE : 0));
    }
    /* What waits for a commit is not worth a wake-up for each acknowledgement. */
    bool is_listening =
        it->up.size < ACKS_MAX && (!is_open || it->user.taken(it->user.data) <= it->safe);
    hr_watch_set(it->paho.watch,
                 (is_listening ? HR_WATCH_READ : 0) | (it->down.size > 0 ? HR_WATCH_WRITE : 0));
    if (may_read || !is_open) {
        it->not_read_ns = 0;
    } else if (it->not_read_ns == 0) {
        it->not_read_ns = hr_mono_ns();
    }
}

static void tick(void *data) {
    hr_mqtt_gate *it = data;
    hr_mqtt_gate_read(it); /* before it is asked how late it is */
    uint64_t now_ns = hr_mono_ns();
    uint64_t phase_ms = (now_ns - it->phase_ns) / 1000000;
    uint64_t half_ns = it->user.keepalive_s * UINT64_C(500000000);
    for (size_t i = 0; i < GUESTS; i++) {
        if (it->guests[i] != NULL && (now_ns - it->guests[i]->since_ns) / 1000000 > GUEST_MAX_MS) {
            forget_guest(it, i);
        }
    }
    if (it->phase == DIALING && phase_ms > DIAL_MAX_MS) {
        (void)snprintf(it->why, sizeof it->why, "connect to %s: no answer within 10 s", it->host);
        close_with(it, it->why);
    } else if (it->phase == DIALED && phase_ms > PAHO_MAX_MS) {
        close_with(it, "the client did not connect");
    } else if (it->phase == DRAINING && phase_ms > DRAIN_MAX_MS) {
        close_with(it, it->why);
    } else if (it->phase == OPEN && it->held.count > 0 &&
               now_ns - hr_gate_held_since(&it->held) > half_ns) {
        close_with(it, "what was taken did not become durable in time");
    } else if (it->phase == OPEN && it->not_read_ns != 0 && now_ns - it->not_read_ns > half_ns) {
        close_with(it, "nothing more can be taken for now");
    }
}

/* From a turn of its own: nothing is called back from within a call of the user. */
static void look_soon(hr_mqtt_gate *it) {
    if (it->phase == OPEN) {
        hr_watch_set(it->broker.watch, HR_WATCH_READ | HR_WATCH_WRITE);
    }
}

void hr_mqtt_gate_read(hr_mqtt_gate *it) {
    if (it->phase != OPEN) {
        return;
    }
    bool is_closed = !read_up(it);
    if (is_closed || hr_gate_held_need(&it->held) <= it->safe) {
        look_soon(it);
    }
}

void hr_mqtt_gate_durable(hr_mqtt_gate *it, uint64_t up_to) {
    if (up_to > it->safe) {
        it->safe = up_to;
    }
    look_soon(it);
}

void hr_mqtt_gate_hold(hr_mqtt_gate *it, bool is_held) {
    it->is_held = is_held;
    look_soon(it);
}

/* --- life --- */

const char *hr_mqtt_gate_proxy(const hr_mqtt_gate *gate) {
    return gate->proxy;
}

hr_code hr_mqtt_gate_open(hr_loop *loop, const hr_mqtt_gate_user *user, hr_mqtt_gate **out_gate,
                          hr_error *err) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, GUESTS) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        int error = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return hr_fail(err, HR_E_IO, error, "listen on loopback: %s", strerror(error));
    }
    uint64_t secret[2];
    HR_ASSERT(getrandom(secret, sizeof secret, 0) == (ssize_t)sizeof secret);
    char pair[64];
    (void)snprintf(pair, sizeof pair, "headrace:%016" PRIx64 "%016" PRIx64, secret[0], secret[1]);
    hr_mqtt_gate *it = hr_alloc(sizeof *it);
    it->loop = loop;
    it->user = *user;
    it->broker.fd = it->paho.fd = -1;
    it->listener.fd = fd;
    it->listener.watch = hr_watch_new(loop, fd, listener_ready, it);
    it->tick = hr_timer_new(loop, tick, it);
    it->proxy = hr_format("%s@127.0.0.1:%u", pair, ntohs(address.sin_port));
    hr_buffer encoded = {0};
    hr_base64_add(&encoded, hr_slice_text(pair));
    it->authorization = hr_copy_text(hr_buffer_text(&encoded));
    hr_buffer_fini(&encoded);
    *out_gate = it;
    return HR_OK;
}

void hr_mqtt_gate_free(hr_mqtt_gate *it) {
    if (it == NULL) {
        return;
    }
    hr_mqtt_gate_shut(it);
    end_close(&it->listener);
    hr_timer_free(it->tick);
    hr_gate_held_fini(&it->held);
    hr_free(it->proxy);
    hr_free(it->authorization);
    hr_free(it);
}
