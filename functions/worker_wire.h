/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between the daemon and a worker, as docs/worker-protocol.md describes them: little endian,
 * fixed layout, readable with Python's struct and JavaScript's DataView. Pure. */
#ifndef HR_FUNCTIONS_WORKER_WIRE_H
#define HR_FUNCTIONS_WORKER_WIRE_H

#include "broker/runtime.h"
#include "functions/result.h"

enum {
    HR_FRAME_HEAD = 16, /* bytes: u32 size of the rest, u8 type, u8 version, u16 0, u64 call */
    HR_FRAME_VERSION = 1,
    HR_FRAME_MAX = 64 << 20 /* bytes of one frame */
};

typedef enum hr_frame_type {
    HR_FRAME_HELLO = 1,
    HR_FRAME_CALL = 2,
    HR_FRAME_ANSWER = 3,
    HR_FRAME_LOG = 4,
    HR_FRAME_BYE = 5
} hr_frame_type;

/* One frame in bytes; body borrows from them. */
typedef struct hr_frame {
    uint8_t type;
    uint64_t call;
    hr_slice body;
    size_t size; /* head and body */
} hr_frame;

/* Reads the frame at the front. false: not whole yet. Errors by *out_bad: no frame can start so. */
bool hr_frame_read(hr_slice bytes, hr_frame *out, bool *out_bad);

/* Appends a CALL frame with the first events of the call that fit into max bytes (HR_FRAME_MAX);
 * with_places: for a worker whose hello has HR_HELLO_PLACES.
 * Returns how many; 0: the first does not fit, nothing is appended. */
uint32_t hr_frame_call(const hr_call *call, uint32_t timeout_ms, bool with_places, size_t max,
                       hr_buffer *out);

/* Appends a frame without a body, of no call. */
void hr_frame_bye(hr_buffer *out);

typedef struct hr_wire_answer {
    hr_exception exceptions[HR_BATCH_MAX];
    size_t exception_count;
    hr_results results; /* hr_results_finish() takes or frees them, also after an error */
} hr_wire_answer;

/* Reads an ANSWER and checks it against its call, of which the worker got the first sent events;
 * the others are named not_run. An event whose results are too large becomes a dead letter.
 * exceptions borrow from body. out is zeroed, or used before and its results finished.
 * Errors: HR_E_CALL_GARBAGE, and those of hr_result_add() but HR_E_TOO_LARGE. */
hr_code hr_frame_answer(hr_slice body, const hr_runtime *runtime, const hr_call *call,
                        uint32_t sent, hr_wire_answer *out, hr_error *err);

/* A LOG: one line with the event it belongs to (empty: none). */
typedef struct hr_wire_log {
    uint32_t level, attempt;
    hr_slice event_id, text;
} hr_wire_log;
bool hr_frame_log(hr_slice body, hr_wire_log *out);

enum { HR_HELLO_PLACES = 2 }; /* the worker wants the events' places in each call */

/* A HELLO; error empty: the worker is ready. */
typedef struct hr_wire_hello {
    uint32_t flags; /* HR_HELLO_* */
    hr_slice error;
} hr_wire_hello;
bool hr_frame_hello(hr_slice body, hr_wire_hello *out);

#endif
