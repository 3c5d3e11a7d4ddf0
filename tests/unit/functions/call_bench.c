/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/functions/call_bench.h"

#include "core/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void keep(char *out, size_t room, hr_slice text) {
    snprintf(out, room, "%.*s", (int)text.size, (const char *)text.bytes);
}

static void on_answer(hr_runtime *self, const hr_answer *answer) {
    call_bench *bench = self->host_data;
    bench->answers++;
    bench->failure = answer->failure;
    assert_int_equal(answer->call, bench->call.id);
    keep(bench->why, sizeof bench->why, answer->why);
    for (size_t i = 0; i < answer->exception_count; i++) {
        const hr_exception *e = &answer->exceptions[i];
        assert_true(i == 0 || e->index > answer->exceptions[i - 1].index);
        bench->outcome[e->index] = e->outcome;
        bench->after_ms[e->index] = e->after_ms;
        keep(bench->why, sizeof bench->why, e->why);
    }
    bench->results = answer->take_results;
    for (uint32_t i = 0; bench->results != NULL && i < bench->results->count; i++) {
        bench->causes[i % CALL_EVENTS] = answer->causes[i];
    }
}

static const hr_runtime_host host = {.answer = on_answer};

void call_add(call_bench *bench, const char *id, const char *key, hr_slice data) {
    hr_builder builder = {0};
    hr_error err = {0};
    uint32_t at = bench->call.count++;
    hr_attribute floor = {
        .name = hr_slice_text("floor"), .type = HR_ATTRIBUTE_STRING, .text = hr_slice_text("2")};
    hr_fields fields = {.id = hr_slice_text(id),
                        .source = hr_slice_text("test/source"),
                        .type = hr_slice_text("test.reading"),
                        .subject = hr_slice_text("room 1"),
                        .partition_key = hr_slice_text(key),
                        .content_type = hr_slice_text("application/json"),
                        .time_us = INT64_C(1700000000000000),
                        .data = data,
                        .has_data = true,
                        .extensions = &floor,
                        .extension_count = 1};
    if (hr_builder_pack(&builder, 1, &fields, &err) != HR_OK) {
        fail_msg("%s", err.text);
    }
    bench->batches[at] = hr_builder_finish(&builder, 1, 0);
    hr_builder_fini(&builder);
    bench->refs[at] = (hr_event_ref){.batch = bench->batches[at],
                                     .attempt = 1,
                                     .key_hash = bench->batches[at]->view[0].key_hash};
    bench->call.id = 7;
    bench->call.events = bench->refs;
    bench->runtime = (hr_runtime){
        .host = &host, .name = "hot", .has_takers = true, .version = 1, .host_data = bench};
}

void call_fini(call_bench *bench) {
    for (uint32_t i = 0; i < bench->call.count; i++) {
        hr_batch_unref(bench->batches[i]);
    }
    hr_batch_unref(bench->results);
    *bench = (call_bench){0};
}
