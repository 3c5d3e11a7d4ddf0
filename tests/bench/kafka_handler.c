/* SPDX-License-Identifier: Apache-2.0 */
/* The in-process function of `./dev bench kafka`: counts, and keeps when and how far it got in a
 * mapped file (env STATS) that outlives a kill. */
#include "functions/handler.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PARTITIONS = 64 };

/* Read by tests/bench/kafka: little-endian 64-bit numbers in this order. */
typedef struct stats {
    int64_t handled, calls, first_ns, last_ns;
    struct {
        int64_t first, last; /* offsets + 1 of the newest run's first event, of the last; 0: none */
    } partition[PARTITIONS];
} stats;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int open_state(const headrace_api *api, headrace_start *start, void **out_state) {
    const char *path = api->setting(start, "STATS");
    int fd = path == NULL ? -1 : open(path, O_RDWR);
    void *map =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(stats), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        api->refuse(start, "STATS cannot be mapped");
        return -1;
    }
    close(fd);
    *out_state = map;
    return 0;
}

/* Ids are topic/partition/offset. */
static int64_t number_at(headrace_text id, size_t *end) {
    int64_t number = 0, scale = 1;
    size_t at = *end;
    for (; at > 0 && id.bytes[at - 1] != '/'; at--, scale *= 10) {
        number += (id.bytes[at - 1] - '0') * scale;
    }
    *end = at == 0 ? 0 : at - 1;
    return number;
}

static void handle(const headrace_api *api, void *state, headrace_call *call, uint32_t count) {
    stats *own = state;
    headrace_text id = api->id(call, count - 1);
    size_t end = id.size;
    int64_t last = number_at(id, &end) + 1, partition = number_at(id, &end) % PARTITIONS;
    if (own->partition[partition].first == 0) {
        headrace_text first = api->id(call, 0);
        end = first.size;
        own->partition[partition].first = number_at(first, &end) + 1;
    }
    own->partition[partition].last = last;
    own->handled += count;
    own->calls++;
    own->last_ns = now_ns();
    own->first_ns = own->first_ns == 0 ? own->last_ns : own->first_ns;
}

const headrace_handler headrace_function = {HEADRACE_ABI, sizeof(headrace_handler), open_state,
                                            handle, NULL};
