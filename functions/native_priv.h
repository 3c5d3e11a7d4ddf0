/* SPDX-License-Identifier: Apache-2.0 */
/* State shared by native.c and native_api.c; for nobody else. */
#ifndef HR_FUNCTIONS_NATIVE_PRIV_H
#define HR_FUNCTIONS_NATIVE_PRIV_H

#include "functions/handler.h"
#include "functions/outcomes.h"
#include "functions/result.h"

enum { NATIVE_LINES_MAX = 1 << 20 }; /* bytes of log lines of one call */

/* A line waits for the loop thread. Its text follows it in the buffer. */
typedef struct native_line {
    uint16_t index, level;
    uint32_t size;
} native_line;

/* A call as its handler sees it. Owned by the thread that runs it until it is posted back. */
struct headrace_call {
    const hr_call *call;
    const hr_runtime *runtime;
    hr_outcomes outcomes;
    hr_buffer lines; /* native_line and text, one after the other */
    hr_results results;
    uint32_t lost_lines;
};

struct headrace_start {
    const hr_runtime *runtime;
    char why[300];
};

extern const headrace_api hr_native_api;

#endif
