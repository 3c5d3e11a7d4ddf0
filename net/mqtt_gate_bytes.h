/* SPDX-License-Identifier: Apache-2.0 */
/* What the MQTT gate (net/mqtt_gate.h) decides about bytes, without its sockets: whether a head of
 * a request opens it, and which of the bytes that it holds may go on.
 *
 * Thread: any, one at a time. */
#ifndef HR_NET_MQTT_GATE_BYTES_H
#define HR_NET_MQTT_GATE_BYTES_H

#include "core/slice.h"

enum { HR_GATE_HEAD_MAX = 4096 /* bytes of a CONNECT request */ };

typedef enum hr_gate_head {
    HR_GATE_HEAD_MORE,
    HR_GATE_HEAD_OURS,
    HR_GATE_HEAD_FOREIGN
} hr_gate_head;

/* Is it a CONNECT request with this basic authorization (user:password as base64)? More: its end is
 * not there yet. What stands behind the end is not looked at. */
hr_gate_head hr_gate_head_read(hr_slice bytes, const char *authorization);

typedef struct hr_gate_chunk {
    size_t size;
    uint64_t need, at_ns;
} hr_gate_chunk;

/* Bytes held in order, each until the sequence it needs is durable. Zeroed: empty. Needs never
 * descend: what is passable is a prefix. */
typedef struct hr_gate_held {
    hr_gate_chunk *chunks;
    size_t first, count, capacity;
    size_t passable; /* bytes at the front that may go */
} hr_gate_held;

/* So many bytes more came, which need all up to the sequence. */
void hr_gate_held_add(hr_gate_held *self, size_t size, uint64_t need, uint64_t now_ns);

/* All up to the sequence is durable. */
void hr_gate_held_release(hr_gate_held *self, uint64_t safe);

/* So many of the passable bytes went. */
void hr_gate_held_sent(hr_gate_held *self, size_t size);

/* When the oldest byte that may not go came; 0: there is none. */
uint64_t hr_gate_held_since(const hr_gate_held *self);

/* What must be durable for the oldest of them to go; UINT64_MAX: there is none. */
uint64_t hr_gate_held_need(const hr_gate_held *self);

void hr_gate_held_clear(hr_gate_held *self);
void hr_gate_held_fini(hr_gate_held *self);

#endif
