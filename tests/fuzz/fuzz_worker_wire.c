/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of a worker: hello, answer and log; parts lie in the frame, indexes in the call. */
#include "core/memory.h"
#include "functions/worker_wire.h"
#include "tests/unit/functions/call_bench.h"

#include "tests/fuzz/fuzz.h"

static void answer(hr_slice body) {
    static call_bench bench;
    if (bench.call.count == 0) {
        for (int i = 0; i < 4; i++) {
            call_add(&bench, "e", "k", hr_slice_text("{\"a\":1}"));
        }
        hr_buffer out = {0};
        hr_frame frame;
        bool is_bad = false;
        FUZZ_CHECK(hr_frame_call(&bench.call, 5, true, HR_FRAME_MAX, &out) == 4);
        FUZZ_CHECK(hr_frame_read(hr_slice_of(out.bytes, out.size), &frame, &is_bad));
        FUZZ_CHECK(frame.type == HR_FRAME_CALL && frame.size == out.size);
        hr_buffer_fini(&out);
    }
    hr_wire_answer *wire = hr_alloc(sizeof *wire);
    hr_error err = {0};
    if (hr_frame_answer(body, &bench.runtime, &bench.call, 3, wire, &err) == HR_OK) {
        for (size_t i = 0; i < wire->exception_count; i++) {
            const hr_exception *e = &wire->exceptions[i];
            FUZZ_CHECK(e->index < bench.call.count);
            FUZZ_CHECK(i == 0 || e->index > wire->exceptions[i - 1].index);
        }
        uint32_t count = wire->results.builder.count;
        for (uint32_t i = 0; i < count; i++) {
            FUZZ_CHECK(wire->results.causes[i] < 3);
        }
    } else {
        FUZZ_CHECK(err.text[0] != '\0');
    }
    hr_batch_unref(hr_results_finish(&wire->results));
    hr_free(wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    hr_slice rest = hr_slice_of(bytes, size);
    hr_frame frame;
    bool is_bad = false;
    while (hr_frame_read(rest, &frame, &is_bad)) {
        FUZZ_CHECK(!is_bad && frame.size >= HR_FRAME_HEAD && frame.size <= rest.size);
        FUZZ_CHECK(fuzz_is_within(frame.body, rest));
        hr_wire_log line;
        hr_wire_hello hello;
        if (frame.type == HR_FRAME_ANSWER) {
            answer(frame.body);
        } else if (frame.type == HR_FRAME_LOG && hr_frame_log(frame.body, &line)) {
            FUZZ_CHECK(fuzz_is_within(line.event_id, frame.body));
            FUZZ_CHECK(fuzz_is_within(line.text, frame.body));
        } else if (frame.type == HR_FRAME_HELLO && hr_frame_hello(frame.body, &hello)) {
            FUZZ_CHECK(fuzz_is_within(hello.error, frame.body));
        }
        rest = hr_slice_of(rest.bytes + frame.size, rest.size - frame.size);
    }
    return 0;
}
