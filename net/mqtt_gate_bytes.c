/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mqtt_gate_bytes.h"

#include "core/error.h"
#include "core/memory.h"

#include <string.h>
#include <strings.h>

static const char BASIC[] = "Proxy-authorization: Basic ";

/* In a time that tells nothing of the content. */
static bool is_same(hr_slice given, const char *wanted) {
    size_t size = strlen(wanted);
    unsigned difference = given.size != size;
    for (size_t i = 0; i < size && given.size == size; i++) {
        difference |= (unsigned)(given.bytes[i] ^ (uint8_t)wanted[i]);
    }
    return difference == 0;
}

/* The first authorization counts. */
static bool is_ours(hr_slice head, const char *authorization) {
    const uint8_t *at = head.bytes, *end = head.bytes + head.size;
    size_t prefix = sizeof BASIC - 1;
    if (head.size < 8 || memcmp(at, "CONNECT ", 8) != 0) {
        return false;
    }
    while (at < end) {
        const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
        const uint8_t *next = stop == NULL ? end : stop + 1;
        stop = stop == NULL ? end : stop;
        size_t size = (size_t)(stop - at);
        size -= size > 0 && at[size - 1] == '\r' ? 1 : 0;
        if (size >= prefix && strncasecmp((const char *)at, BASIC, prefix) == 0) {
            return is_same(hr_slice_of(at + prefix, size - prefix), authorization);
        }
        at = next;
    }
    return false;
}

hr_gate_head hr_gate_head_read(hr_slice bytes, const char *authorization) {
    size_t seen = bytes.size < HR_GATE_HEAD_MAX ? bytes.size : HR_GATE_HEAD_MAX;
    const uint8_t *end = seen == 0 ? NULL : memmem(bytes.bytes, seen, "\r\n\r\n", 4);
    size_t size = end == NULL ? seen : (size_t)(end - bytes.bytes);
    if (size > 0 && memchr(bytes.bytes, '\0', size) != NULL) {
        return HR_GATE_HEAD_FOREIGN;
    }
    if (end == NULL) {
        return seen < HR_GATE_HEAD_MAX ? HR_GATE_HEAD_MORE : HR_GATE_HEAD_FOREIGN;
    }
    return is_ours(hr_slice_of(bytes.bytes, size), authorization) ? HR_GATE_HEAD_OURS
                                                                  : HR_GATE_HEAD_FOREIGN;
}

void hr_gate_held_add(hr_gate_held *self, size_t size, uint64_t need, uint64_t now_ns) {
    if (self->count > 0) {
        hr_gate_chunk *last = &self->chunks[self->first + self->count - 1];
        HR_ASSERT(need >= last->need);
        if (last->need == need) {
            last->size += size;
            return;
        }
    }
    if (self->first + self->count == self->capacity) {
        if (self->first > self->count) {
            memmove(self->chunks, self->chunks + self->first, self->count * sizeof *self->chunks);
            self->first = 0;
        } else {
            self->capacity = self->capacity == 0 ? 64 : 2 * self->capacity;
            self->chunks = hr_realloc(self->chunks, self->capacity * sizeof *self->chunks);
        }
    }
    self->chunks[self->first + self->count++] =
        (hr_gate_chunk){.size = size, .need = need, .at_ns = now_ns};
}

void hr_gate_held_release(hr_gate_held *self, uint64_t safe) {
    while (self->count > 0 && self->chunks[self->first].need <= safe) {
        self->passable += self->chunks[self->first].size;
        self->first++;
        self->count--;
    }
    if (self->count == 0) {
        self->first = 0;
    }
}

void hr_gate_held_sent(hr_gate_held *self, size_t size) {
    HR_ASSERT(size <= self->passable);
    self->passable -= size;
}

uint64_t hr_gate_held_since(const hr_gate_held *self) {
    return self->count == 0 ? 0 : self->chunks[self->first].at_ns;
}

uint64_t hr_gate_held_need(const hr_gate_held *self) {
    return self->count == 0 ? UINT64_MAX : self->chunks[self->first].need;
}

void hr_gate_held_clear(hr_gate_held *self) {
    self->first = self->count = self->passable = 0;
}

void hr_gate_held_fini(hr_gate_held *self) {
    hr_free(self->chunks);
    *self = (hr_gate_held){0};
}
