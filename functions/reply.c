/* SPDX-License-Identifier: Apache-2.0 */
#include "functions/reply.h"

#include "core/memory.h"

/* The largest result and its attributes. */
enum { RESULT_ROOM = HR_RESULT_MAX + HR_RESULT_MAX / 2 };

void hr_reply_init(hr_reply *self, hr_runtime *runtime, const hr_call *call) {
    HR_ASSERT(call->count > 0);
    *self = (hr_reply){.runtime = runtime, .call = call};
    self->exceptions = hr_alloc_array(call->count, sizeof *self->exceptions);
}

const hr_event_ref *hr_reply_event(const hr_reply *self) {
    return &self->call->events[self->at];
}

void hr_reply_except(hr_reply *self, hr_outcome outcome, int64_t after_ms, const char *why) {
    HR_ASSERT(self->exception_count < self->call->count);
    uint64_t key = hr_reply_event(self)->key_hash;
    if (outcome == HR_OUTCOME_RETRY && key != 0) {
        if (self->failed == NULL) {
            self->failed = hr_alloc_array(self->call->count, sizeof *self->failed);
        }
        self->failed[self->failed_count++] = key;
    }
    hr_buffer_add(&self->whys, why, strlen(why));
    self->exceptions[self->exception_count++] = (hr_exception){.index = (uint16_t)self->at,
                                                               .outcome = (uint8_t)outcome,
                                                               .after_ms = after_ms,
                                                               .why = {.size = strlen(why)}};
}

void hr_reply_result(hr_reply *self, hr_result *result) {
    hr_error err = {0};
    result->cause = (uint16_t)self->at;
    if (hr_result_add(&self->results, self->runtime, self->call, result, &err) != HR_OK) {
        hr_reply_except(self, HR_OUTCOME_DEAD, -1, err.text);
    }
}

static bool is_behind_a_failure(const hr_reply *self) {
    uint64_t key = hr_reply_event(self)->key_hash;
    for (size_t i = 0; key != 0 && i < self->failed_count; i++) {
        if (self->failed[i] == key) {
            return true;
        }
    }
    return false;
}

bool hr_reply_next(hr_reply *self) {
    while (++self->at < self->call->count) {
        if (is_behind_a_failure(self)) {
            hr_reply_except(self, HR_OUTCOME_NOT_RUN, -1, "an earlier event of its key failed");
        } else if (self->results.builder.bytes.size > HR_BATCH_BYTES_MAX - RESULT_ROOM) {
            hr_reply_except(self, HR_OUTCOME_NOT_RUN, -1, "the results of the call are full");
        } else {
            return true;
        }
    }
    return false;
}

void hr_reply_give(hr_reply *self, hr_code failure, const char *why) {
    hr_runtime *runtime = self->runtime;
    hr_answer answer = {.call = self->call->id, .failure = failure};
    hr_batch *results = hr_results_finish(&self->results);
    if (failure == HR_OK) {
        size_t at = 0;
        for (size_t i = 0; i < self->exception_count; i++) { /* the buffer has stopped moving */
            self->exceptions[i].why.bytes = self->whys.bytes + at;
            at += self->exceptions[i].why.size;
        }
        answer.exceptions = self->exceptions;
        answer.exception_count = self->exception_count;
        answer.take_results = results;
        answer.causes = self->results.causes;
    } else {
        answer.why = hr_slice_text(why);
        hr_batch_unref(results);
    }
    runtime->host->answer(runtime, &answer);
    hr_reply_fini(self);
}

void hr_reply_fini(hr_reply *self) {
    hr_batch_unref(hr_results_finish(&self->results));
    hr_buffer_fini(&self->whys);
    hr_free(self->exceptions);
    hr_free(self->failed);
    *self = (hr_reply){0};
}
