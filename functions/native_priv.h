/* SPDX-License-Identifier: Apache-2.0 */
/* State shared by native.c and native_api.c; for nobody else. */
#ifndef HR_FUNCTIONS_NATIVE_PRIV_H
#define HR_FUNCTIONS_NATIVE_PRIV_H

#include "functions/handler.h"
#include "functions/result.h"

enum { NATIVE_LINES_MAX = 1 << 20 }; /* bytes of log lines of one call */

/* What reply() said of one event. */
typedef struct native_reply {
    uint8_t outcome; /* hr_outcome; OK: nothing said */
    uint32_t why_at, why_size;
    int64_t after_ms;
} native_reply;

/* A line waits for the loop thread. Its text follows it in the buffer. */
typedef struct native_line {
    uint16_t index, level;
    uint32_t size;
} native_line;

/* A call as its handler sees it. Owned by the thread that runs it until it is posted back. */
struct headrace_call {
    const hr_call *call;
    const hr_runtime *runtime;
    native_reply *replies; /* batch_size of them */
    uint32_t reply_count;  /* events with an outcome: 0 is the fast way */
    hr_buffer text;        /* of the replies */
    hr_buffer lines;       /* native_line and text, one after the other */
    hr_results results;
    uint32_t lost_lines;
};

struct headrace_start {
    const hr_runtime *runtime;
    char why[300];
};

extern const headrace_api hr_native_api;

/* The exceptions of a call that was handled, ascending; out has room for the call's events and
 * borrows texts from call. */
size_t hr_native_exceptions(const headrace_call *call, hr_exception *out);

#endif
