/* SPDX-License-Identifier: Apache-2.0 */
/* Event latencies of the benchmarks: the time an event was due, as its data says it ("at"), and
 * a histogram of 3 % that lies in a file. Read by tests/lib/bench.py. */
#ifndef TESTS_LIB_LATENCY_H
#define TESTS_LIB_LATENCY_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LATENCY_BUCKETS = 2048, LATENCY_DIGITS = 19 };

#define LATENCY_FIELD "\"at\":\""

/* The histogram of a file that is large enough; NULL: there is none. */
static inline int64_t *latency_open(const char *path) {
    size_t size = LATENCY_BUCKETS * sizeof(int64_t);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = MAP_FAILED;
    if (fd >= 0) {
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    return map == MAP_FAILED ? NULL : map;
}

/* 32 buckets for each power of two of nanoseconds. */
static inline size_t latency_bucket(uint64_t ns) {
    if (ns < 32) {
        return (size_t)ns;
    }
    unsigned shift = 58u - (unsigned)__builtin_clzll(ns);
    return ((size_t)shift + 1) * 32 + (size_t)(ns >> shift) - 32;
}

/* When an event was due, on the monotonic clock; 0: its data does not say. */
static inline uint64_t latency_due(const void *data, size_t size) {
    const char *at = memmem(data, size, LATENCY_FIELD, sizeof LATENCY_FIELD - 1),
               *end = (const char *)data + size;
    uint64_t ns = 0;
    if (at == NULL || end - at < (ptrdiff_t)(sizeof LATENCY_FIELD - 1 + LATENCY_DIGITS)) {
        return 0;
    }
    at += sizeof LATENCY_FIELD - 1;
    for (int i = 0; i < LATENCY_DIGITS; i++) {
        ns = ns * 10 + (uint64_t)(at[i] - '0');
    }
    return ns;
}

static inline void latency_note(int64_t *buckets, const void *data, size_t size, uint64_t now_ns) {
    uint64_t due = latency_due(data, size);
    if (due > 0) {
        buckets[latency_bucket(now_ns > due ? now_ns - due : 0)]++;
    }
}

#endif
