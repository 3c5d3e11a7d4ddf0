/* SPDX-License-Identifier: Apache-2.0 */
/* Journal append by the store, synchronous=FULL, against a plain file with append + fdatasync of
 * the same bytes, in alternating pairs. One JSON line. usage: bench_journal [--quick] [--group N]
 */
#include "broker/store.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PAIRS_MAX = 32, EVENT_BYTES = 260, POOL = 64 };

static const double MUST = 0.5;

typedef struct bench {
    hr_store *store;
    uint32_t feed, group;
    uint64_t next, events;
    uint64_t run_ns;
    int fd;
    hr_batch *pool[POOL];
} bench;

static uint64_t cpu_ns(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000u +
           ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000u;
}

static double run_store(bench *b) {
    uint64_t from = hr_mono_ns(), events = 0, end = from;
    for (uint64_t i = 0; end - from < b->run_ns; i++) {
        hr_batch *batch = b->pool[i % POOL];
        for (uint32_t k = 0; k < batch->count; k++) {
            batch->position[k] = b->next++;
        }
        hr_unit unit = {.feed = b->feed, .appends = &batch, .append_count = 1};
        HR_ASSERT(fixture_commit(b->store, &unit) == HR_OK);
        events += batch->count;
        end = hr_mono_ns();
    }
    b->events += events;
    return (double)events * 1e9 / (double)(end - from);
}

static double run_file(bench *b) {
    uint64_t from = hr_mono_ns(), events = 0, end = from;
    for (uint64_t i = 0; end - from < b->run_ns; i++) {
        const hr_batch *batch = b->pool[i % POOL];
        HR_ASSERT(write(b->fd, batch->bytes, batch->size) == (ssize_t)batch->size);
        HR_ASSERT(fdatasync(b->fd) == 0);
        events += batch->count;
        end = hr_mono_ns();
    }
    return (double)events * 1e9 / (double)(end - from);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, compare);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* History goes as it would in a daemon: a function has settled all but the newest. */
static void settle(bench *b) {
    uint32_t function = 0;
    HR_ASSERT(hr_store_function_open(b->store, "f", NULL, &function, NULL) == HR_OK);
    hr_unit unit = {
        .function = function, .feed = b->feed, .has_checkpoint = true, .low = INT64_MAX};
    HR_ASSERT(fixture_commit(b->store, &unit) == HR_OK);
}

int main(int count, char **arguments) {
    size_t pairs = 9;
    bench b = {.group = 512, .next = 1, .run_ns = 1500000000u};
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--quick") == 0) {
            pairs = 5;
            b.run_ns = 400000000u;
        } else if (strcmp(arguments[i], "--group") == 0 && i + 1 < count) {
            b.group = (uint32_t)strtoul(arguments[++i], NULL, 10);
        }
    }
    char *dir = fixture_dir(), *path = hr_format("%s/plain", dir);
    hr_store_options options = fixture_options(dir);
    uint32_t epoch = 0;
    options.journal_max_bytes = 256 << 20;
    HR_ASSERT(b.group >= 1 && b.group <= HR_BATCH_MAX);
    HR_ASSERT(hr_store_open(&options, &b.store, NULL) == HR_OK);
    HR_ASSERT(hr_store_feed_open(b.store, "journal", "bench", &b.feed, &epoch, NULL) == HR_OK);
    settle(&b);
    b.fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    HR_ASSERT(b.fd >= 0);
    for (size_t i = 0; i < POOL; i++) {
        b.pool[i] = fixture_batch(b.feed, 1, b.group, EVENT_BYTES - 43);
    }
    double ours[PAIRS_MAX], plain[PAIRS_MAX], ratio[PAIRS_MAX];
    uint64_t cpu = 0;
    for (size_t i = 0; i < pairs; i++) {
        plain[i] = run_file(&b);
        uint64_t before = cpu_ns();
        ours[i] = run_store(&b);
        cpu += cpu_ns() - before;
        ratio[i] = ours[i] / plain[i];
        fprintf(stderr, "pair %zu: store %.0f/s, file %.0f/s, ratio %.2f\n", i + 1, ours[i],
                plain[i], ratio[i]);
        HR_ASSERT(ftruncate(b.fd, 0) == 0);
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double middle = median(ratio, pairs);
    printf("{\"bench\":\"journal\",\"case\":\"append, groups of %u x %zu B, FULL\",\"rate\":%.0f,"
           "\"baseline\":\"file append + fdatasync\",\"baseline_rate\":%.0f,\"ratio\":%.3f,"
           "\"must\":%.1f,\"of_must\":%.3f,\"pairs\":%zu,\"cpu_us_per_event\":%.3f,"
           "\"rss_mib\":%.1f,\"ok\":%s}\n",
           b.group, b.pool[0]->size / b.group, median(ours, pairs), median(plain, pairs), middle,
           MUST, middle / MUST, pairs, (double)cpu / 1000.0 / (double)b.events,
           (double)usage.ru_maxrss / 1024.0, middle >= MUST ? "true" : "false");
    for (size_t i = 0; i < POOL; i++) {
        hr_batch_unref(b.pool[i]);
    }
    hr_store_close(b.store);
    close(b.fd);
    fixture_remove(dir);
    hr_free(path);
    return middle >= MUST ? 0 : 1;
}
