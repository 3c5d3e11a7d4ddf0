/* SPDX-License-Identifier: Apache-2.0 */
/* The in-process function of the benchmarks: counts, and keeps when and how far it got in a mapped
 * file (env STATS) that outlives a kill; with env LATENCY, how late each event was, too. */
#include "functions/handler.h"
#include "tests/lib/latency.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PARTITIONS = 64 };

/* Read by tests/lib/bench.py: little-endian 64-bit numbers in this order. */
typedef struct stats {
    int64_t handled, calls, first_ns, last_ns;
    struct {
        int64_t first, last; /* offsets + 1 of the newest run's first event, of the last; 0: none */
    } partition[PARTITIONS];
} stats;

typedef struct own {
    stats *stats;
    int64_t *late; /* NULL: not asked for */
} own;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int open_state(const headrace_api *api, headrace_start *start, void **out_state) {
    const char *path = api->setting(start, "STATS"), *late = api->setting(start, "LATENCY");
    int fd = path == NULL ? -1 : open(path, O_RDWR);
    void *map =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(stats), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    own *state = calloc(1, sizeof *state);
    if (state == NULL || map == MAP_FAILED) {
        api->refuse(start, "STATS cannot be mapped");
        return -1;
    }
    close(fd);
    state->stats = map;
    state->late = late == NULL ? NULL : latency_open(late);
    if (late != NULL && state->late == NULL) {
        api->refuse(start, "LATENCY cannot be mapped");
        return -1;
    }
    *out_state = state;
    return 0;
}

/* The number that ends at *end, which moves before its slash; -1: no digits there. */
static int64_t number_at(headrace_text id, size_t *end) {
    int64_t number = 0, scale = 1;
    size_t at = *end;
    for (; at > 0 && id.bytes[at - 1] >= '0' && id.bytes[at - 1] <= '9'; at--, scale *= 10) {
        number += (id.bytes[at - 1] - '0') * scale;
    }
    bool is_number = at < *end && at > 0 && id.bytes[at - 1] == '/';
    *end = at == 0 ? 0 : at - 1;
    return is_number ? number : -1;
}

/* Ids of Kafka are topic/partition/offset. */
static void note_place(stats *s, headrace_text first, headrace_text last) {
    size_t end = last.size;
    int64_t offset = number_at(last, &end), partition = number_at(last, &end);
    if (offset < 0 || partition < 0 || partition >= PARTITIONS) {
        return;
    }
    if (s->partition[partition].first == 0) {
        end = first.size;
        s->partition[partition].first = number_at(first, &end) + 1;
    }
    s->partition[partition].last = offset + 1;
}

static void handle(const headrace_api *api, void *state, headrace_call *call, uint32_t count) {
    const own *o = state;
    stats *s = o->stats;
    note_place(s, api->id(call, 0), api->id(call, count - 1));
    s->handled += count;
    s->calls++;
    s->last_ns = now_ns();
    s->first_ns = s->first_ns == 0 ? s->last_ns : s->first_ns;
    for (uint32_t i = 0; o->late != NULL && i < count; i++) {
        headrace_text data = api->data(call, i);
        latency_note(o->late, data.bytes, data.size, (uint64_t)s->last_ns);
    }
}

const headrace_handler headrace_function = {HEADRACE_ABI, sizeof(headrace_handler), open_state,
                                            handle, free};
