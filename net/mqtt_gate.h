/* SPDX-License-Identifier: Apache-2.0 */
/* The ack gate: an HTTP CONNECT proxy on loopback between paho and the broker, on our own loop.
 *
 * paho acknowledges a message when its callback returns. Bytes from paho are therefore kept with
 * the last sequence that callbacks had taken when they were read (they cannot acknowledge more),
 * and go on to the broker when that sequence is durable. Bytes from the broker pass at once, but
 * while too much is taken and not durable, or nothing is wanted. TLS stays end to end.
 *
 * Life:  open -> (dial -> dialed -> paho's CONNECT -> closed)* -> free
 * Rule:  no byte of paho passes before every message it may acknowledge is durable.
 * Thread: the loop's, all of it. */
#ifndef HR_NET_MQTT_GATE_H
#define HR_NET_MQTT_GATE_H

#include "core/error.h"
#include "core/loop.h"

typedef struct hr_mqtt_gate hr_mqtt_gate;

/* Who uses it; the callbacks come late, never from within a call of this header. */
typedef struct hr_mqtt_gate_user {
    uint64_t (*taken)(void *data); /* the last sequence a callback took, read now */
    bool (*is_full)(void *data);   /* too much is taken and not durable: read no more */
    void (*dialed)(void *data, hr_code code, const char *why); /* HR_OK: paho may connect now */
    void (*closed)(void *data, const char *why); /* an open dial or connection has ended */
    void *data;
    uint32_t keepalive_s; /* bytes held longer than half of it end the connection */
} hr_mqtt_gate_user;

/* Listens on a free loopback port. Errors: HR_E_IO. Owned by the caller. */
hr_code hr_mqtt_gate_open(hr_loop *loop, const hr_mqtt_gate_user *user, hr_mqtt_gate **out_gate,
                          hr_error *err);

/* "user:password@127.0.0.1:port", what follows http:// in paho's proxy options; lives as long as
 * the gate. A secret. */
const char *hr_mqtt_gate_proxy(const hr_mqtt_gate *gate);

/* Connects to the broker (10 s at most), then calls dialed(). Only when none is open. */
void hr_mqtt_gate_dial(hr_mqtt_gate *it, const char *host, const char *port);

/* Reads the acknowledgements written so far: to be called before messages are taken from paho's
 * callbacks, so that those of messages taken before need no later commit. While anything is taken
 * and not durable, paho is read here, when something becomes durable, and twice a second. */
void hr_mqtt_gate_read(hr_mqtt_gate *it);

/* Everything up to this sequence is durable (or given up): acknowledgements of it may pass. Also
 * looks at is_full() again. */
void hr_mqtt_gate_durable(hr_mqtt_gate *it, uint64_t up_to);

/* Reads no more from the broker until it is released. */
void hr_mqtt_gate_hold(hr_mqtt_gate *it, bool is_held);

/* Ends the connection (or the dial): what is held is dropped. No closed() follows. */
void hr_mqtt_gate_shut(hr_mqtt_gate *it);

/* Takes the gate: shuts and frees it; NULL is allowed. */
void hr_mqtt_gate_free(hr_mqtt_gate *it);

#endif
