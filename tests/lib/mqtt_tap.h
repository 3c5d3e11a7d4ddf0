/* SPDX-License-Identifier: Apache-2.0 */
/* A wire tap between an MQTT client and its broker: passes bytes on, counts packets, sees when an
 * acknowledgement leaves. Runs on a thread of its own; plain TCP. */
#ifndef HR_TESTS_MQTT_TAP_H
#define HR_TESTS_MQTT_TAP_H

#include <stdatomic.h>
#include <stdint.h>

typedef struct mqtt_tap {
    int port; /* connect here instead of the broker */

    /* What passed so far, over all connections. */
    atomic_uint connections, subscribes, publishes, pubacks, pubrecs, pubcomps, disconnects;
    atomic_uint ends;             /* connections that the client closed */
    atomic_int subscribe_options; /* the last byte of the last SUBSCRIBE; -1: none */
    atomic_ullong durable;        /* told by the test: so many messages are durable */
    atomic_uint too_early;        /* acknowledgements beyond that */

    atomic_bool cuts; /* set by the test: what is open ends, nobody is let in */

    struct mqtt_tap_state *state;
} mqtt_tap;

/* Listens on a free port of 127.0.0.1 and passes on to the other. */
void mqtt_tap_open(mqtt_tap *self, int to_port);

void mqtt_tap_close(mqtt_tap *self);

#endif
