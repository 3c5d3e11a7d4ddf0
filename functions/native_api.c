/* SPDX-License-Identifier: Apache-2.0 */
/* The table that in-process handlers call (functions/handler.h). */
#include "core/envelope.h"
#include "core/log.h"
#include "functions/native_priv.h"

#include <stdio.h>

static const hr_event_ref *event(const headrace_call *call, uint32_t index) {
    HR_ASSERT(index < call->call->count); /* a handler's bug, named before it reads wild memory */
    return &call->call->events[index];
}

static headrace_text text_of(hr_slice slice) {
    return (headrace_text){.bytes = (const char *)slice.bytes, .size = slice.size};
}

static hr_slice slice_of(headrace_text text) {
    return hr_slice_of(text.bytes, text.size);
}

static headrace_text id(const headrace_call *call, uint32_t index) {
    const hr_event_ref *ref = event(call, index);
    return text_of(hr_batch_id(ref->batch, ref->index));
}
static headrace_text source(const headrace_call *call, uint32_t index) {
    const hr_event_ref *ref = event(call, index);
    return text_of(hr_batch_source(ref->batch, ref->index));
}
static headrace_text type(const headrace_call *call, uint32_t index) {
    const hr_event_ref *ref = event(call, index);
    return text_of(hr_batch_type(ref->batch, ref->index));
}
static headrace_text subject(const headrace_call *call, uint32_t index) {
    const hr_event_ref *ref = event(call, index);
    return text_of(hr_batch_subject(ref->batch, ref->index));
}
static headrace_text key(const headrace_call *call, uint32_t index) {
    const hr_event_ref *ref = event(call, index);
    return text_of(hr_batch_key(ref->batch, ref->index));
}
static headrace_text data(const headrace_call *call, uint32_t index) {
    const hr_event_ref *ref = event(call, index);
    return text_of(hr_batch_data(ref->batch, ref->index));
}
static headrace_text envelope(const headrace_call *call, uint32_t index) {
    const hr_event_ref *ref = event(call, index);
    return text_of(hr_batch_envelope(ref->batch, ref->index));
}

static int64_t attribute(const headrace_call *call, uint32_t index, const char *name, char *room,
                         size_t room_size) {
    const hr_event_ref *ref = event(call, index);
    hr_attribute found;
    if (!hr_envelope_attribute(hr_batch_envelope(ref->batch, ref->index), name, &found)) {
        return -1;
    }
    hr_buffer text = {0};
    hr_attribute_print(&found, &text);
    if (room_size > 0) {
        size_t size = text.size < room_size - 1 ? text.size : room_size - 1;
        if (size > 0) {
            memcpy(room, text.bytes, size);
        }
        room[size] = '\0';
    }
    int64_t whole = (int64_t)text.size;
    hr_buffer_fini(&text);
    return whole;
}

static uint32_t attempt(const headrace_call *call, uint32_t index) {
    return event(call, index)->attempt;
}

static int64_t left_ms(const headrace_call *call) {
    uint64_t now = hr_mono_ns(), end = call->call->deadline_ns;
    return end > now ? (int64_t)((end - now) / 1000000) : 0;
}

static void reply(headrace_call *call, uint32_t index, enum headrace_outcome outcome,
                  int64_t after_ms, const char *why) {
    (void)event(call, index);
    HR_ASSERT(outcome >= HEADRACE_RETRY && outcome <= HEADRACE_NOT_RUN);
    _Static_assert((int)HEADRACE_RETRY == (int)HR_OUTCOME_RETRY &&
                       (int)HEADRACE_DROP == (int)HR_OUTCOME_DROP &&
                       (int)HEADRACE_DEAD == (int)HR_OUTCOME_DEAD &&
                       (int)HEADRACE_NOT_RUN == (int)HR_OUTCOME_NOT_RUN,
                   "one numbering");
    hr_outcomes_say(&call->outcomes, index, (hr_outcome)outcome,
                    outcome == HEADRACE_RETRY ? after_ms : -1, hr_slice_text(why));
}

static int result(headrace_call *call, uint32_t index, const headrace_result *result) {
    (void)event(call, index);
    hr_result own = {.cause = (uint16_t)index,
                     .type = slice_of(result->type),
                     .content_type = slice_of(result->content_type),
                     .subject = slice_of(result->subject),
                     .data = slice_of(result->data),
                     .is_json = result->content_type.size == 0};
    hr_error err = {0};
    if (hr_result_add(&call->results, call->runtime, call->call, &own, &err) != HR_OK) {
        reply(call, index, HEADRACE_DEAD, -1, err.text);
        return -1;
    }
    return 0;
}

static void log_line(headrace_call *call, uint32_t index, enum headrace_level level,
                     const char *text) {
    (void)event(call, index);
    _Static_assert((int)HEADRACE_DEBUG == (int)HR_LOG_DEBUG &&
                       (int)HEADRACE_ERROR == (int)HR_LOG_ERROR,
                   "one numbering");
    hr_slice words = hr_slice_text(text);
    if (call->lines.size + words.size + sizeof(native_line) > NATIVE_LINES_MAX) {
        call->lost_lines++;
        return;
    }
    native_line line = {
        .index = (uint16_t)index, .level = (uint16_t)level, .size = (uint32_t)words.size};
    hr_buffer_add(&call->lines, &line, sizeof line);
    hr_buffer_add_slice(&call->lines, words);
}

static const char *name(const headrace_start *start) {
    return start->runtime->name;
}

static const char *setting(const headrace_start *start, const char *name) {
    return hr_node_text(hr_node_get(start->runtime->config, "env"), name, NULL);
}

static void refuse(headrace_start *start, const char *why) {
    snprintf(start->why, sizeof start->why, "%s", why == NULL ? "" : why);
}

const headrace_api hr_native_api = {.abi = HEADRACE_ABI,
                                    .size = sizeof(headrace_api),
                                    .id = id,
                                    .source = source,
                                    .type = type,
                                    .subject = subject,
                                    .key = key,
                                    .data = data,
                                    .envelope = envelope,
                                    .attribute = attribute,
                                    .attempt = attempt,
                                    .left_ms = left_ms,
                                    .reply = reply,
                                    .result = result,
                                    .log = log_line,
                                    .name = name,
                                    .setting = setting,
                                    .refuse = refuse};
