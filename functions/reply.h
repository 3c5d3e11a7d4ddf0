/* SPDX-License-Identifier: Apache-2.0 */
/* The answer to a call whose events are handled one after the other, as it is put together.
 *
 * Life:  init -> (except | result, next)* -> give
 * Rule:  after a retry later events of the same key are named not_run, not handled (S9). */
#ifndef HR_FUNCTIONS_REPLY_H
#define HR_FUNCTIONS_REPLY_H

#include "broker/runtime.h"
#include "functions/result.h"

typedef struct hr_reply {
    hr_runtime *runtime;
    const hr_call *call;
    uint32_t at; /* the event that is handled now */
    hr_exception *exceptions;
    size_t exception_count;
    uint64_t *failed; /* keys that failed */
    size_t failed_count;
    hr_buffer whys;
    hr_results results;
} hr_reply;

/* Begins at the first event of the call; both are borrowed until hr_reply_give(). */
void hr_reply_init(hr_reply *self, hr_runtime *runtime, const hr_call *call);

/* The event that is handled now. */
const hr_event_ref *hr_reply_event(const hr_reply *self);

/* The current event ended so; at most once an event, and not beside a result. why is copied. */
void hr_reply_except(hr_reply *self, hr_outcome outcome, int64_t after_ms, const char *why);

/* The current event gave this (cause is set here). What cannot be kept makes the event a dead
 * letter that says why: the same result would come again. */
void hr_reply_result(hr_reply *self, hr_result *result);

/* Goes on to the next event that is to be handled and names those that must not be: behind a
 * failure of their key, or when the results of the call have no room for another. false: all are
 * done. */
bool hr_reply_next(hr_reply *self);

/* Answers the call (failure: HR_OK, or of the whole call, with why) and frees what self holds. The
 * call is gone then. */
void hr_reply_give(hr_reply *self, hr_code failure, const char *why);

/* Frees without an answer. */
void hr_reply_fini(hr_reply *self);

#endif
