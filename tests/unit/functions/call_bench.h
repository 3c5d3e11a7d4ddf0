/* SPDX-License-Identifier: Apache-2.0 */
/* A call by itself, for what needs neither a loop nor a program. */
#ifndef HR_TESTS_CALL_BENCH_H
#define HR_TESTS_CALL_BENCH_H

#include "broker/runtime.h"

enum { CALL_EVENTS = 8 };

typedef struct call_bench {
    hr_runtime runtime; /* named "hot", with takers; answers are kept below */
    hr_call call;
    hr_event_ref refs[CALL_EVENTS];
    hr_batch *batches[CALL_EVENTS]; /* one an event */
    /* the newest answer */
    int answers;
    hr_code failure;
    char why[512]; /* of the failure, or of the newest exception */
    uint8_t outcome[CALL_EVENTS];
    int64_t after_ms[CALL_EVENTS];
    hr_batch *results;
    uint16_t causes[CALL_EVENTS];
} call_bench;

/* Adds an event with this id, key ("": none) and data as application/json. */
void call_add(call_bench *bench, const char *id, const char *key, hr_slice data);

void call_fini(call_bench *bench);

#endif
