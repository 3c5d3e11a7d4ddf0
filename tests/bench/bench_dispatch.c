/* SPDX-License-Identifier: Apache-2.0 */
/* What one delivery costs in the dispatcher alone, by functions, keys and events gone by: a pull
 * feed whose batches are made here, handlers and commits that end at once. No disk, no thread.
 *
 * usage: bench_dispatch [--quick] [--pairs N] [--case fanout|lanes|scale]
 *
 * Each case runs in pairs with the plain one: one function, one key, calls of up to 1,024 events,
 * one lane. A line's ratio is the plain cost of a delivery through this one's. */
#include "broker/dispatch.h"
#include "core/envelope.h"
#include "core/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { FEED = 1, FUNCTIONS_MAX = 100, PAIRS_MAX = 32, DATA = 200, FIFO = 1 << 16 };

typedef struct setting {
    const char *name;
    uint32_t functions, keys, lanes;
    uint64_t events;
    double must;
} setting;

typedef struct run {
    hr_dispatch *dispatch;
    hr_unit *units[FIFO];
    hr_call *calls[FIFO];
    size_t unit_first, unit_count, call_first, call_count;
    uint64_t credit, delivered, now_ns;
} run;

static void push(run *r, const hr_output *out) {
    for (size_t i = 0; i < out->count; i++) {
        const hr_action *act = &out->actions[i];
        if (act->kind == HR_DO_COMMIT) {
            HR_ASSERT(r->unit_count < FIFO);
            r->units[(r->unit_first + r->unit_count++) % FIFO] = act->unit;
        } else if (act->kind == HR_DO_CALL) {
            HR_ASSERT(r->call_count < FIFO);
            r->calls[(r->call_first + r->call_count++) % FIFO] = act->call;
        } else if (act->kind == HR_DO_WANT) {
            r->credit += act->events;
        }
    }
}

static void step(run *r, hr_input *input) {
    hr_output out;
    r->now_ns += 1000;
    input->now_ns = r->now_ns;
    input->real_us = (int64_t)(r->now_ns / 1000);
    hr_dispatch_step(r->dispatch, input, &out);
    push(r, &out);
}

/* All that was asked for is done. */
static void settle(run *r) {
    while (r->call_count > 0 || r->unit_count > 0) {
        if (r->call_count > 0) {
            const hr_call *call = r->calls[r->call_first++ % FIFO];
            r->call_count--;
            r->delivered += call->count;
            hr_answer answer = {.call = call->id};
            hr_input input = {.kind = HR_IN_ANSWER, .answer = &answer};
            step(r, &input);
        } else {
            hr_unit *unit = r->units[r->unit_first++ % FIFO];
            r->unit_count--;
            hr_input input = {.kind = HR_IN_DURABLE, .durable = {.unit = unit, .result = HR_OK}};
            step(r, &input);
        }
    }
}

static hr_batch *make_batch(hr_builder *builder, uint64_t position, uint32_t keys) {
    static const uint8_t data[DATA];
    for (uint32_t i = 0; i < HR_BATCH_MAX; i++) {
        char key[24], id[24];
        uint64_t number = (position + i) * 0x9e3779b97f4a7c15u >> 32;
        snprintf(key, sizeof key, "k%u", (unsigned)(number % keys));
        snprintf(id, sizeof id, "e%llu", (unsigned long long)(position + i));
        hr_fields fields = {.id = hr_slice_text(id),
                            .source = hr_slice_text("bench"),
                            .type = hr_slice_text("bench"),
                            .partition_key = hr_slice_text(key),
                            .data = hr_slice_of(data, DATA),
                            .has_data = true};
        HR_ASSERT(hr_builder_pack(builder, position + i, &fields, NULL) == HR_OK);
    }
    return hr_builder_finish(builder, FEED, 1);
}

static double cpu_s(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static run *begin(const setting *s) {
    run *r = hr_alloc(sizeof *r);
    hr_dispatch_options options = {.checkpoint_ns = 10000000};
    r->dispatch = hr_dispatch_new(&options);
    hr_feed_policy feed = {.id = FEED, .pull = true, .epoch = 1};
    hr_dispatch_add_feed(r->dispatch, &feed);
    for (uint32_t id = 1; id <= s->functions; id++) {
        hr_function_policy function = {.name = "bench",
                                       .id = id,
                                       .lanes = s->lanes,
                                       .order = HR_ORDER_KEY,
                                       .batch_size = HR_BATCH_MAX,
                                       .timeout_ms = 30000,
                                       .parked_max_bytes = 1 << 20};
        hr_counters counters = {0};
        hr_dispatch_add_function(r->dispatch, &function);
        hr_dispatch_take(r->dispatch, id, FEED, 0, 1, (hr_slice){0}, &counters);
        hr_input room = {.kind = HR_IN_ROOM, .room = {.function = id, .slots = s->lanes}};
        step(r, &room);
    }
    hr_input start = {.kind = HR_IN_BEGIN, .begin = {.feed = FEED, .position = 1}};
    step(r, &start);
    settle(r);
    return r;
}

/* Microseconds of CPU for one delivery, the making of the batches left out. */
static double measure(const setting *s) {
    run *r = begin(s);
    hr_builder builder = {0};
    double spent = 0;
    for (uint64_t position = 1; position <= s->events; position += HR_BATCH_MAX) {
        hr_batch *batch = make_batch(&builder, position, s->keys);
        double before = cpu_s();
        HR_ASSERT(r->credit >= HR_BATCH_MAX);
        r->credit -= HR_BATCH_MAX;
        hr_input input = {.kind = HR_IN_DELIVER, .deliver = {.take_batch = batch}};
        step(r, &input);
        settle(r);
        spent += cpu_s() - before;
    }
    HR_ASSERT(r->delivered >= s->events * s->functions);
    double us = spent * 1e6 / (double)r->delivered;
    hr_input drain = {.kind = HR_IN_DRAIN};
    step(r, &drain);
    settle(r);
    hr_builder_fini(&builder);
    hr_dispatch_free(r->dispatch);
    hr_free(r);
    return us;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, compare);
    return values[count / 2];
}

static bool report(const setting *s, const setting *plain, size_t pairs) {
    double ours[PAIRS_MAX], base[PAIRS_MAX], ratio[PAIRS_MAX];
    for (size_t i = 0; i < pairs; i++) {
        base[i] = measure(plain);
        ours[i] = measure(s);
        ratio[i] = base[i] / ours[i];
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double us = median(ours, pairs), plain_us = median(base, pairs), middle = median(ratio, pairs);
    bool ok = middle >= s->must;
    char of_must[32] = "null";
    if (s->must > 0) {
        snprintf(of_must, sizeof of_must, "%.3f", middle / s->must);
    }
    printf("{\"bench\":\"dispatch\",\"case\":\"%s\",\"rate\":%.0f,\"baseline\":\"one function, one "
           "key, one lane\",\"baseline_rate\":%.0f,\"ratio\":%.3f,\"must\":%.1f,"
           "\"of_must\":%s,\"pairs\":%zu,"
           "\"cpu_us_per_event\":%.3f,\"baseline_cpu_us_per_event\":%.3f,\"rss_mib\":%.1f,"
           "\"ok\":%s}\n",
           s->name, 1e6 / us, 1e6 / plain_us, middle, s->must, of_must, pairs, us, plain_us,
           (double)used.ru_maxrss / 1024, ok ? "true" : "false");
    fflush(stdout);
    return ok;
}

int main(int argc, char **argv) {
    bool is_quick = false;
    size_t pairs = 5;
    const char *only = "";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            is_quick = true;
        } else if (strcmp(argv[i], "--pairs") == 0 && i + 1 < argc) {
            pairs = strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--case") == 0 && i + 1 < argc) {
            only = argv[++i];
        } else {
            fprintf(stderr, "usage: bench_dispatch [--quick] [--pairs N] "
                            "[--case fanout|lanes|scale]\n");
            return 2;
        }
    }
    pairs = pairs < 1 ? 1 : pairs > PAIRS_MAX ? PAIRS_MAX : pairs;
    uint64_t events = is_quick ? 1 << 18 : 1 << 20;
    const setting plain = {"plain", 1, 1, 1, events, 0};
    const setting cases[] = {
        {"fanout, 10 functions", 10, 1, 1, events / 8, 0.5},
        {"fanout, 100 functions", 100, 1, 1, events / 64, 0.4},
        {"lanes, 100 keys in 16 lanes", 1, 100, 16, events, 0.5},
        {"lanes, 10000 keys in 16 lanes", 1, 10000, 16, events, 0.5},
        {"lanes, 10000 keys in 256 lanes", 1, 10000, 256, events, 0},
        {"scale, 16 times the events", 1, 1, 1, events * 16, 0.8},
    };
    bool ok = true, any = false;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strncmp(cases[i].name, only, strlen(only)) == 0) {
            ok = report(&cases[i], &plain, pairs) && ok;
            any = true;
        }
    }
    return ok && any ? 0 : 1;
}
