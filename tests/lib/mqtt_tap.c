/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/mqtt_tap.h"

#include "core/buffer.h"
#include "core/error.h"
#include "core/memory.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 64 << 10, LOOK_MS = 5, PEND_MAX = 64 << 10 };

enum { PUBLISH = 3, PUBACK = 4, PUBREC = 5, PUBCOMP = 7, SUBSCRIBE = 8, DISCONNECT = 14 };

typedef struct way {
    int from, to;
    hr_buffer seen, pending; /* not yet a whole packet; not yet passed on */
} way;

typedef struct mqtt_tap_state {
    pthread_t thread;
    int listener, broker_port;
    atomic_bool ends;
} mqtt_tap_state;

static void count(mqtt_tap *tap, const uint8_t *packet, size_t size, bool is_up) {
    switch (packet[0] >> 4) {
    case PUBLISH:
        (void)(is_up ? 0 : atomic_fetch_add(&tap->publishes, 1));
        break;
    case PUBACK:
    case PUBREC: { /* which of the two: QoS 1 or 2; both take the message over */
        if (!is_up) {
            break;
        }
        (void)atomic_fetch_add((packet[0] >> 4) == PUBACK ? &tap->pubacks : &tap->pubrecs, 1);
        uint64_t taken = atomic_load(&tap->pubacks) + atomic_load(&tap->pubrecs);
        if (taken > atomic_load(&tap->durable)) {
            (void)atomic_fetch_add(&tap->too_early, 1);
        }
        break;
    }
    case PUBCOMP:
        (void)(is_up ? atomic_fetch_add(&tap->pubcomps, 1) : 0);
        break;
    case SUBSCRIBE:
        atomic_store(&tap->subscribe_options, packet[size - 1]);
        (void)atomic_fetch_add(&tap->subscribes, 1);
        break;
    case DISCONNECT:
        (void)atomic_fetch_add(&tap->disconnects, 1);
        break;
    default:
        break;
    }
}

static void look(mqtt_tap *tap, way *one, const uint8_t *bytes, size_t size, bool is_up) {
    hr_buffer_add(&one->seen, bytes, size);
    for (;;) {
        size_t at = 1, length = 0;
        unsigned shift = 0;
        const uint8_t *from = one->seen.bytes;
        do {
            if (at >= one->seen.size || shift > 21) {
                return;
            }
            length |= (size_t)(from[at] & 0x7f) << shift;
            shift += 7;
        } while (from[at++] & 0x80);
        if (one->seen.size < at + length) {
            return;
        }
        count(tap, from, at + length, is_up);
        hr_buffer_consume(&one->seen, at + length);
    }
}

/* False: this side has ended. */
static bool move(mqtt_tap *tap, way *one, bool may_read, bool is_up) {
    if (may_read && one->pending.size < PEND_MAX) {
        uint8_t bytes[CHUNK];
        ssize_t got = recv(one->from, bytes, sizeof bytes, 0);
        if (got <= 0) {
            (void)(is_up ? atomic_fetch_add(&tap->ends, 1) : 0);
            return false;
        }
        look(tap, one, bytes, (size_t)got, is_up); /* before it is passed on */
        hr_buffer_add(&one->pending, bytes, (size_t)got);
    }
    if (one->pending.size > 0) {
        ssize_t sent =
            send(one->to, one->pending.bytes, one->pending.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            hr_buffer_consume(&one->pending, (size_t)sent);
        }
    }
    return true;
}

static void serve(mqtt_tap *tap, int client, int broker) {
    way up = {.from = client, .to = broker}, down = {.from = broker, .to = client};
    bool is_open = true;
    while (is_open && !atomic_load(&tap->cuts) && !atomic_load(&tap->state->ends)) {
        struct pollfd both[2] = {{.fd = client,
                                  .events = (short)((up.pending.size < PEND_MAX ? POLLIN : 0) |
                                                    (down.pending.size > 0 ? POLLOUT : 0))},
                                 {.fd = broker,
                                  .events = (short)((down.pending.size < PEND_MAX ? POLLIN : 0) |
                                                    (up.pending.size > 0 ? POLLOUT : 0))}};
        (void)poll(both, 2, LOOK_MS);
        is_open = move(tap, &up, both[0].revents & (POLLIN | POLLHUP | POLLERR), true) &&
                  move(tap, &down, both[1].revents & (POLLIN | POLLHUP | POLLERR), false);
    }
    hr_buffer_fini(&up.seen);
    hr_buffer_fini(&up.pending);
    hr_buffer_fini(&down.seen);
    hr_buffer_fini(&down.pending);
}

static void *run(void *data) {
    mqtt_tap *tap = data;
    mqtt_tap_state *state = tap->state;
    while (!atomic_load(&state->ends)) {
        struct pollfd one = {.fd = state->listener, .events = POLLIN};
        if (poll(&one, 1, LOOK_MS) != 1) {
            continue;
        }
        int client = accept(state->listener, NULL, NULL);
        int broker = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)state->broker_port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        if (!atomic_load(&tap->cuts) && connect(broker, (struct sockaddr *)&to, sizeof to) == 0) {
            (void)atomic_fetch_add(&tap->connections, 1);
            serve(tap, client, broker);
        }
        (void)close(client);
        (void)close(broker);
    }
    return NULL;
}

void mqtt_tap_open(mqtt_tap *self, int to_port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    memset(self, 0, sizeof *self);
    self->state = hr_alloc(sizeof *self->state);
    self->state->broker_port = to_port;
    self->state->listener = socket(AF_INET, SOCK_STREAM, 0);
    atomic_store(&self->subscribe_options, -1);
    HR_ASSERT(bind(self->state->listener, (struct sockaddr *)&address, size) == 0);
    HR_ASSERT(listen(self->state->listener, 8) == 0);
    HR_ASSERT(getsockname(self->state->listener, (struct sockaddr *)&address, &size) == 0);
    self->port = ntohs(address.sin_port);
    HR_ASSERT(pthread_create(&self->state->thread, NULL, run, self) == 0);
}

void mqtt_tap_close(mqtt_tap *self) {
    atomic_store(&self->state->ends, true);
    HR_ASSERT(pthread_join(self->state->thread, NULL) == 0);
    (void)close(self->state->listener);
    hr_free(self->state);
    self->state = NULL;
}
