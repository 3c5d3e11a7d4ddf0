/* SPDX-License-Identifier: Apache-2.0 */
/* One runtime with real processes or a real server; only the dispatcher is the test's. */
#ifndef HR_TESTS_RUNTIME_BENCH_H
#define HR_TESTS_RUNTIME_BENCH_H

#include "broker/runtime.h"
#include "core/buffer.h"

enum { BENCH_EVENTS = 8, BENCH_WAIT_MS = 10000 };

typedef struct runtime_bench {
    hr_loop *loop; /* made by bench_open() when NULL */
    hr_runtime *runtime;
    hr_node *config;
    char folder[64]; /* config_dir and state_dir, made anew */
    hr_batch *batch;
    hr_event_ref refs[BENCH_EVENTS];
    hr_call call;
    uint32_t room;
    hr_buffer lines; /* "id|attempt|level|text\n" */
    char down[512];  /* newest words of down(), "" when it can run */
    int downs;
    /* the newest answer */
    int answers;
    hr_code failure;
    char why[1024]; /* of the failure, or of the first exception */
    uint8_t outcome[BENCH_EVENTS];
    int64_t after_ms[BENCH_EVENTS];
    hr_batch *results;
    uint16_t causes[BENCH_EVENTS];
    bool is_stopped;
} runtime_bench;

/* Writes a file into the folder, executable; begins a new folder when there is none. */
void bench_file(runtime_bench *bench, const char *name, const char *text);

/* Makes a folder in it. */
void bench_folder(runtime_bench *bench, const char *name);

/* Makes the runtime from "key", "value" pairs ended by NULL and starts it. A value "[a b" is a list
 * of words; a key "kind.name" stands in the map of kind. */
hr_code bench_open(runtime_bench *bench, const char *kind, const char *const *pairs, hr_error *err);

/* Adds an event for the next call. */
void bench_event(runtime_bench *bench, const char *id, const char *key, const char *json);

/* Calls and waits for the answer. */
void bench_call(runtime_bench *bench);

/* The same with key hashes of the test's choice, one an event. */
void bench_call_keys(runtime_bench *bench, const uint64_t *keys);

/* Begins the call only; waits until the lines contain text; waits for the answer. */
void bench_begin_call(runtime_bench *bench);
void bench_wait_line(runtime_bench *bench, const char *text);
void bench_wait_answer(runtime_bench *bench);
void bench_wait_room(runtime_bench *bench, uint32_t room);
void bench_wait_down(runtime_bench *bench);
void bench_wait_downs(runtime_bench *bench, int downs);
void bench_wait_stopped(runtime_bench *bench);

/* Text of a result's part, valid until the next call. */
const char *bench_part(hr_slice slice);

/* Stops, frees; fails the test when stopped() does not come. */
void bench_close(runtime_bench *bench);

/* Frees a runtime whose fini was called by the test. */
void bench_forget_runtime(runtime_bench *bench);

#endif
