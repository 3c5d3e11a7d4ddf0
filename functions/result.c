/* SPDX-License-Identifier: Apache-2.0 */
#include "functions/result.h"

#include "broker/dispatch.h"
#include "core/envelope.h"

static hr_slice default_content_type(const hr_result *result) {
    return hr_slice_text(result->is_json   ? "application/json"
                         : result->is_text ? "text/plain; charset=utf-8"
                                           : "application/octet-stream");
}

hr_code hr_result_add(hr_results *results, const hr_runtime *runtime, const hr_call *call,
                      const hr_result *result, hr_error *err) {
    uint32_t count = results->builder.count;
    if (result->cause >= call->count) {
        return hr_fail(err, HR_E_MALFORMED, 0, "a result for event %u of a call of %u",
                       (unsigned)result->cause, (unsigned)call->count);
    }
    if (runtime->has_takers && result->data.size > HR_RESULT_MAX) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "the result is larger than the %d bytes it may have",
                       HR_RESULT_MAX);
    }
    if (count == HR_RESULTS_MAX) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "a call gives at most %d results", HR_RESULTS_MAX);
    }
    if (count > 0 && results->causes[count - 1] > result->cause) {
        return hr_fail(err, HR_E_MALFORMED, 0, "results are not in the order of their events");
    }
    bool is_further = count > 0 && results->causes[count - 1] == result->cause;
    uint32_t number = is_further ? results->of_cause + 1 : 1;
    const hr_event_ref *ref = &call->events[result->cause];
    hr_slice id = hr_batch_id(ref->batch, ref->index);
    hr_buffer text = {0};
    hr_buffer_add_slice(&text, id);
    hr_buffer_print(&text, "/%s/%u", runtime->name, (unsigned)number);
    if (ref->replay > 0) {
        hr_buffer_print(&text, "/r%u", (unsigned)ref->replay);
    }
    size_t id_size = text.size;
    hr_buffer_print(&text, "headrace/function/%s", runtime->name);
    size_t source_size = text.size - id_size;
    hr_buffer_print(&text, "%s.result", runtime->name);
    size_t type_at = id_size + source_size;
    hr_attribute hops = {
        .name = hr_slice_text(HR_ATTRIBUTE_HOPS), .type = HR_ATTRIBUTE_INTEGER, .number = 1};
    hr_attribute before;
    if (hr_envelope_attribute(hr_batch_envelope(ref->batch, ref->index), HR_ATTRIBUTE_HOPS,
                              &before)) {
        /* a stranger may have written it */
        hops.number = before.number < 0           ? 1
                      : before.number < INT32_MAX ? before.number + 1
                                                  : INT32_MAX;
    }
    hr_fields fields = {
        .id = hr_slice_of(text.bytes, id_size),
        .source = hr_slice_of(text.bytes + id_size, source_size),
        .type = result->type.size > 0 ? result->type
                                      : hr_slice_of(text.bytes + type_at, text.size - type_at),
        .subject =
            result->subject.size > 0 ? result->subject : hr_batch_subject(ref->batch, ref->index),
        .content_type =
            result->content_type.size > 0 ? result->content_type : default_content_type(result),
        .partition_key = hr_batch_key(ref->batch, ref->index),
        .time_us = hr_real_us(),
        .data = runtime->has_takers ? result->data : (hr_slice){0}, /* else it is only counted */
        .has_data = true,
        .data_is_text = result->is_text && !result->is_json,
        .extensions = &hops,
        .extension_count = 1};
    hr_code code = hr_builder_pack(&results->builder, 0, &fields, err);
    if (code == HR_OK) {
        results->causes[count] = result->cause;
        results->of_cause = number;
    }
    hr_buffer_fini(&text);
    return code;
}

hr_batch *hr_results_finish(hr_results *results) {
    hr_batch *batch = hr_builder_finish(&results->builder, 0, hr_real_us());
    hr_builder_fini(&results->builder);
    return batch;
}
