/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between the daemon and a worker: what docs/worker-protocol.md says, and nothing else. */
#include "functions/worker_wire.h"

#include "core/envelope.h"
#include "core/memory.h"
#include "tests/unit/functions/call_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static call_bench bench;
static hr_wire_answer *wire;
static hr_buffer body;

static int set_up(void **state) {
    (void)state;
    wire = hr_alloc(sizeof *wire);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    hr_batch_unref(hr_results_finish(&wire->results));
    hr_free(wire);
    hr_buffer_fini(&body);
    call_fini(&bench);
    return 0;
}

static void add(const char *id, const char *key, const char *data) {
    call_add(&bench, id, key, hr_slice_text(data));
}

static void u32(hr_buffer *out, uint32_t value) {
    uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                        (uint8_t)(value >> 24)};
    hr_buffer_add(out, bytes, sizeof bytes);
}

static uint32_t at32(const hr_buffer *in, size_t at) {
    assert_true(at + 4 <= in->size);
    const uint8_t *b = in->bytes + at;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static void begin_answer(uint32_t exceptions, uint32_t results) {
    body.size = 0;
    u32(&body, exceptions);
    u32(&body, results);
}

static void put_exception(uint32_t index, uint32_t outcome, const char *why) {
    u32(&body, index);
    u32(&body, outcome);
    u32(&body, UINT32_MAX);
    u32(&body, UINT32_MAX);
    u32(&body, (uint32_t)strlen(why));
    hr_buffer_print(&body, "%s", why);
}

static void put_result(uint32_t cause, const char *type, const void *data, size_t size) {
    u32(&body, cause);
    u32(&body, 0);
    u32(&body, (uint32_t)strlen(type));
    u32(&body, 0);
    u32(&body, 0);
    u32(&body, (uint32_t)size);
    hr_buffer_print(&body, "%s", type);
    hr_buffer_add(&body, data, size);
}

static hr_code read_answer(size_t size, uint32_t sent) {
    hr_error err = {0};
    hr_batch_unref(hr_results_finish(&wire->results));
    return hr_frame_answer(hr_slice_of(body.bytes, size), &bench.runtime, &bench.call, sent, wire,
                           &err);
}

/* ---- frames ---- */

static void a_frame_is_read_when_it_is_whole_and_not_before(void **state) {
    (void)state;
    hr_buffer bytes = {0};
    add("e1", "a", "1");
    assert_int_equal(hr_frame_call(&bench.call, 5000, false, HR_FRAME_MAX, &bytes), 1);
    hr_frame_bye(&bytes);
    size_t first = bytes.size - HR_FRAME_HEAD;
    for (size_t size = 0; size <= bytes.size; size++) {
        hr_frame frame = {0};
        bool is_bad = true;
        uint8_t *exact = hr_alloc(size == 0 ? 1 : size);
        memcpy(exact, bytes.bytes, size);
        bool is_whole = hr_frame_read(hr_slice_of(exact, size), &frame, &is_bad);
        assert_false(is_bad);
        assert_int_equal(is_whole, size >= first);
        if (is_whole) {
            assert_int_equal(frame.type, HR_FRAME_CALL);
            assert_int_equal(frame.call, 7);
            assert_int_equal(frame.size, first);
            assert_int_equal(frame.body.size, first - HR_FRAME_HEAD);
        }
        hr_free(exact);
    }
    hr_frame bye;
    bool is_bad = true;
    assert_true(hr_frame_read(hr_slice_of(bytes.bytes + first, HR_FRAME_HEAD), &bye, &is_bad));
    assert_int_equal(bye.type, HR_FRAME_BYE);
    assert_int_equal(bye.body.size, 0);
    hr_buffer_fini(&bytes);
}

static void another_version_and_a_size_over_the_limit_are_no_frame(void **state) {
    (void)state;
    uint8_t head[HR_FRAME_HEAD] = {0, 0, 0, 0, HR_FRAME_ANSWER, HR_FRAME_VERSION};
    hr_frame frame;
    bool is_bad = true;
    assert_true(hr_frame_read(hr_slice_of(head, sizeof head), &frame, &is_bad));
    head[5] = HR_FRAME_VERSION + 1;
    assert_false(hr_frame_read(hr_slice_of(head, sizeof head), &frame, &is_bad));
    assert_true(is_bad);
    head[5] = HR_FRAME_VERSION;
    head[3] = 4; /* 64 MiB */
    assert_false(hr_frame_read(hr_slice_of(head, sizeof head), &frame, &is_bad));
    assert_false(is_bad);
    head[0] = 1;
    assert_false(hr_frame_read(hr_slice_of(head, sizeof head), &frame, &is_bad));
    assert_true(is_bad);
}

/* ---- calls ---- */

static void a_call_holds_each_part_where_the_page_says(void **state) {
    (void)state;
    hr_buffer bytes = {0};
    add("e1", "a", "21");
    add("e2", "", "22");
    bench.refs[0].attempt = 3;
    bench.refs[0].replay = 2;
    bench.refs[0].key_hash = UINT64_C(0x1122334455667788);
    bench.call.version = 9;
    bench.call.lane = 4;
    assert_int_equal(hr_frame_call(&bench.call, 5000, false, HR_FRAME_MAX, &bytes), 2);
    size_t at = HR_FRAME_HEAD;
    assert_int_equal(at32(&bytes, 0), bytes.size - HR_FRAME_HEAD);
    assert_int_equal(at32(&bytes, at), 2);
    assert_int_equal(at32(&bytes, at + 4), 9);
    assert_int_equal(at32(&bytes, at + 8), 4);
    assert_int_equal(at32(&bytes, at + 12), 5000);
    at += 24 + at32(&bytes, at + 16) + at32(&bytes, at + 20);
    size_t size = at32(&bytes, at);
    assert_int_equal(at32(&bytes, at + 4), 3);
    assert_int_equal(at32(&bytes, at + 8), 2);
    assert_int_equal(at32(&bytes, at + 12), HR_VIEW_JSON | HR_VIEW_DATA);
    static const char *const parts[] = {"e1",
                                        "test/source",
                                        "test.reading",
                                        "room 1",
                                        "2023-11-14T22:13:20.000000Z",
                                        "application/json",
                                        "a",
                                        "21"};
    size_t part = at + 52;
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(at32(&bytes, at + 16 + i * 4), strlen(parts[i]));
        assert_memory_equal(bytes.bytes + part, parts[i], strlen(parts[i]));
        part += strlen(parts[i]);
    }
    assert_int_equal(at32(&bytes, at + 48), 1);
    assert_int_equal(at32(&bytes, part), 5);
    assert_int_equal(at32(&bytes, part + 4), 1);
    assert_memory_equal(bytes.bytes + part + 8, "floor2", 6);
    part += 8 + 6;
    assert_int_equal(at32(&bytes, part), 0x55667788);
    assert_int_equal(at32(&bytes, part + 4), 0x11223344);
    assert_int_equal(part + 8, at + size);
    at += size;
    assert_int_equal(at + at32(&bytes, at), bytes.size);
    assert_int_equal(at32(&bytes, bytes.size - 8), 0); /* no key */
    hr_buffer_fini(&bytes);
}

static void places_say_where_each_event_and_its_data_lie(void **state) {
    (void)state;
    hr_buffer bytes = {0};
    add("e1", "a", "21");
    add("event two", "", "");
    add("e3", "key", "[\"three\"]");
    static const char *const data[] = {"21", "", "[\"three\"]"};
    hr_buffer_print(&bytes, "before");
    assert_int_equal(hr_frame_call(&bench.call, 1, true, HR_FRAME_MAX, &bytes), 3);
    size_t body_at = 6 + HR_FRAME_HEAD, record = 24, columns = bytes.size - (size_t)3 * 16;
    assert_int_equal(at32(&bytes, 6), bytes.size - body_at);
    for (size_t i = 0; i < 3; i++) {
        size_t part = 52;
        for (size_t number = 4; number < 11; number++) {
            part += at32(&bytes, body_at + record + number * 4);
        }
        assert_int_equal(at32(&bytes, columns + i * 4), record);
        assert_int_equal(at32(&bytes, columns + 12 + i * 4), record + part);
        assert_int_equal(at32(&bytes, columns + 24 + i * 4), strlen(data[i]));
        assert_int_equal(at32(&bytes, columns + 36 + i * 4), HR_VIEW_JSON | HR_VIEW_DATA);
        assert_memory_equal(bytes.bytes + body_at + record + part, data[i], strlen(data[i]));
        record += at32(&bytes, body_at + record);
    }
    assert_int_equal(body_at + record, columns);
    hr_buffer_fini(&bytes);
}

static void a_call_takes_only_what_fits_into_a_frame(void **state) {
    (void)state;
    hr_buffer bytes = {0};
    add("e1", "a", "1");
    add("e2", "b", "2");
    add("e3", "c", "3");
    for (int with_places = 0; with_places < 2; with_places++) {
        bytes.size = 0;
        assert_int_equal(hr_frame_call(&bench.call, 1, with_places, HR_FRAME_MAX, &bytes), 3);
        size_t all = bytes.size - HR_FRAME_HEAD;
        static const struct {
            int less;
            uint32_t sent;
        } cases[] = {{0, 3}, {1, 2}};
        for (size_t i = 0; i < 2; i++) {
            bytes.size = 0;
            size_t max = all - (size_t)cases[i].less;
            uint32_t sent = hr_frame_call(&bench.call, 1, with_places, max, &bytes);
            assert_int_equal(sent, cases[i].sent);
            assert_int_equal(at32(&bytes, HR_FRAME_HEAD), sent);
            assert_int_equal(at32(&bytes, 0), bytes.size - HR_FRAME_HEAD);
            assert_true(bytes.size - HR_FRAME_HEAD <= max);
        }
    }
    bytes.size = 0;
    hr_buffer_print(&bytes, "before");
    assert_int_equal(hr_frame_call(&bench.call, 1, true, 30, &bytes), 0);
    assert_int_equal(bytes.size, 6);
    hr_buffer_fini(&bytes);
}

static void each_kind_of_attribute_is_told_as_text(void **state) {
    (void)state;
    static const hr_attribute kinds[] = {
        {.type = HR_ATTRIBUTE_BOOLEAN, .number = 1},
        {.type = HR_ATTRIBUTE_INTEGER, .number = INT32_MIN},
        {.type = HR_ATTRIBUTE_STRING, .text = {(const uint8_t *)"text", 4}},
        {.type = HR_ATTRIBUTE_BYTES, .text = {(const uint8_t *)"\0\1\2\3", 4}},
        {.type = HR_ATTRIBUTE_URI, .text = {(const uint8_t *)"urn:a", 5}},
        {.type = HR_ATTRIBUTE_URI_REF, .text = {(const uint8_t *)"/b", 2}},
        {.type = HR_ATTRIBUTE_TIMESTAMP, .number = INT64_C(253402300799999999)}};
    static const char *const texts[] = {
        "true", "-2147483648", "text", "AAECAw==", "urn:a", "/b", "9999-12-31T23:59:59.999999Z"};
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        hr_attribute all[HR_ENVELOPE_ATTRIBUTES]; /* as many as there may be */
        char names[HR_ENVELOPE_ATTRIBUTES][4];
        for (int i = 0; i < HR_ENVELOPE_ATTRIBUTES; i++) {
            snprintf(names[i], sizeof names[i], "x%02d", i);
            all[i] = kinds[kind];
            all[i].name = hr_slice_text(names[i]);
        }
        hr_fields fields = {.id = hr_slice_text("e1"),
                            .source = hr_slice_text("s"),
                            .type = hr_slice_text("t"),
                            .extensions = all,
                            .extension_count = HR_ENVELOPE_ATTRIBUTES};
        hr_builder builder = {0};
        hr_buffer bytes = {0};
        hr_error err = {0};
        assert_int_equal(hr_builder_pack(&builder, 1, &fields, &err), HR_OK);
        hr_batch *batch = hr_builder_finish(&builder, 1, 0);
        hr_event_ref ref = {.batch = batch, .attempt = 1};
        hr_call call = {.id = 7, .count = 1, .events = &ref};
        assert_int_equal(hr_frame_call(&call, 1, false, HR_FRAME_MAX, &bytes), 1);
        size_t at = HR_FRAME_HEAD + 24, size = strlen(texts[kind]);
        assert_int_equal(at32(&bytes, at + 48), HR_ENVELOPE_ATTRIBUTES);
        assert_int_equal(at + at32(&bytes, at), bytes.size);
        at += 52 + 4;
        for (int i = 0; i < HR_ENVELOPE_ATTRIBUTES; i++) {
            assert_int_equal(at32(&bytes, at), 3);
            assert_int_equal(at32(&bytes, at + 4), size);
            assert_memory_equal(bytes.bytes + at + 11, texts[kind], size);
            at += 11 + size;
        }
        assert_int_equal(at + 8, bytes.size);
        hr_batch_unref(batch);
        hr_builder_fini(&builder);
        hr_buffer_fini(&bytes);
    }
}

/* ---- answers ---- */

static void an_answer_names_exceptions_and_results(void **state) {
    (void)state;
    add("e0", "a", "1");
    add("e1", "b", "1");
    add("e2", "c", "1");
    begin_answer(2, 2);
    put_exception(0, HR_OUTCOME_RETRY, "why");
    put_exception(2, HR_OUTCOME_DROP, "");
    put_result(1, "", "x", 1);
    put_result(1, "own.type", "yz", 2);
    assert_int_equal(read_answer(body.size, 3), HR_OK);
    assert_int_equal(wire->exception_count, 2);
    assert_int_equal(wire->exceptions[0].after_ms, -1);
    assert_int_equal(wire->exceptions[0].why.size, 3);
    assert_int_equal(wire->exceptions[1].index, 2);
    hr_batch *results = hr_results_finish(&wire->results);
    assert_int_equal(results->count, 2);
    assert_true(hr_slice_is(hr_batch_type(results, 0), "hot.result"));
    assert_true(hr_slice_is(hr_batch_type(results, 1), "own.type"));
    assert_true(hr_slice_is(hr_batch_id(results, 1), "e1/hot/2"));
    hr_batch_unref(results);
}

static void an_answer_cut_anywhere_is_garbage(void **state) {
    (void)state;
    add("e0", "a", "1");
    add("e1", "b", "1");
    begin_answer(1, 2);
    put_exception(0, HR_OUTCOME_RETRY, "because");
    put_result(1, "t", "xyz", 3);
    put_result(1, "", "abc", 3);
    size_t whole = body.size;
    for (size_t size = 0; size < whole; size++) {
        uint8_t *exact = hr_alloc(size == 0 ? 1 : size); /* reads behind it show under asan */
        memcpy(exact, body.bytes, size);
        hr_error err = {0};
        hr_code code =
            hr_frame_answer(hr_slice_of(exact, size), &bench.runtime, &bench.call, 2, wire, &err);
        hr_batch_unref(hr_results_finish(&wire->results));
        if (code != HR_E_CALL_GARBAGE || err.text[0] == '\0') {
            fail_msg("%zu of %zu bytes: code %d '%s'", size, whole, (int)code, err.text);
        }
        hr_free(exact);
    }
    assert_int_equal(read_answer(whole, 2), HR_OK);
}

static void an_answer_that_breaks_a_rule_is_garbage(void **state) {
    (void)state;
    add("e0", "a", "1");
    add("e1", "b", "1");
    static const struct {
        uint32_t index[2], outcome[2], count;
    } cases[] = {{{2, 0}, {1, 0}, 1},    {{0, 0}, {1, 1}, 2}, {{1, 0}, {1, 1}, 2},
                 {{0, 0}, {0, 0}, 1},    {{0, 0}, {5, 0}, 1}, {{UINT32_MAX, 0}, {1, 0}, 1},
                 {{65536, 0}, {1, 0}, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin_answer(cases[i].count, 0);
        for (uint32_t n = 0; n < cases[i].count; n++) {
            put_exception(cases[i].index[n], cases[i].outcome[n], "x");
        }
        if (read_answer(body.size, 2) != HR_E_CALL_GARBAGE) {
            fail_msg("case %zu was taken", i);
        }
    }
    begin_answer(3, 0); /* more exceptions than events */
    assert_int_equal(read_answer(body.size, 2), HR_E_CALL_GARBAGE);
    begin_answer(0, HR_RESULTS_MAX + 1);
    assert_int_equal(read_answer(body.size, 2), HR_E_CALL_GARBAGE);
    begin_answer(0, 1);
    put_result(2, "", "x", 1); /* of no event */
    assert_true(read_answer(body.size, 2) != HR_OK);
    begin_answer(0, 1);
    put_result(65536, "", "x", 1); /* not of event 0 */
    assert_true(read_answer(body.size, 2) != HR_OK);
    begin_answer(0, 2);
    put_result(1, "", "x", 1);
    put_result(0, "", "x", 1); /* not in order */
    assert_true(read_answer(body.size, 2) != HR_OK);
}

static void random_bytes_are_read_within_their_bounds(void **state) {
    (void)state;
    add("e0", "a", "1");
    add("e1", "b", "1");
    begin_answer(1, 1);
    put_exception(0, HR_OUTCOME_RETRY, "because");
    put_result(1, "t", "xyz", 3);
    uint64_t chance = 88172645463325252u;
    for (int turn = 0; turn < 20000; turn++) {
        uint8_t *bytes = hr_alloc(body.size);
        memcpy(bytes, body.bytes, body.size);
        for (int change = 0; change < 3; change++) {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            bytes[chance % body.size] = (uint8_t)(chance >> 32);
        }
        hr_slice slice = hr_slice_of(bytes, body.size);
        hr_error err = {0};
        hr_frame frame;
        hr_wire_log log;
        hr_wire_hello hello;
        bool is_bad;
        hr_code code = hr_frame_answer(slice, &bench.runtime, &bench.call, 2, wire, &err);
        assert_true((code == HR_OK) == (err.text[0] == '\0'));
        hr_batch_unref(hr_results_finish(&wire->results));
        hr_frame_read(slice, &frame, &is_bad);
        hr_frame_log(slice, &log);
        hr_frame_hello(slice, &hello);
        hr_free(bytes);
    }
}

static void what_was_not_sent_is_not_run(void **state) {
    (void)state;
    add("e0", "a", "1");
    add("e1", "b", "1");
    add("e2", "c", "1");
    begin_answer(1, 0);
    put_exception(0, HR_OUTCOME_DEAD, "x");
    assert_int_equal(read_answer(body.size, 1), HR_OK);
    assert_int_equal(wire->exception_count, 3);
    assert_int_equal(wire->exceptions[0].outcome, HR_OUTCOME_DEAD);
    assert_int_equal(wire->exceptions[1].outcome, HR_OUTCOME_NOT_RUN);
    assert_int_equal(wire->exceptions[2].index, 2);
    begin_answer(1, 0);
    put_exception(1, HR_OUTCOME_DEAD, "x"); /* it did not get that one */
    assert_int_equal(read_answer(body.size, 1), HR_E_CALL_GARBAGE);
}

static void a_result_too_large_makes_its_event_dead_and_leaves_the_others(void **state) {
    (void)state;
    uint8_t *large = hr_alloc(HR_RESULT_MAX + 1);
    for (int i = 0; i < 4; i++) {
        add("e", "", "1");
    }
    begin_answer(2, 3);
    put_exception(0, HR_OUTCOME_RETRY, "");
    put_exception(3, HR_OUTCOME_RETRY, "");
    put_result(1, "", large, HR_RESULT_MAX + 1);
    put_result(2, "", large, HR_RESULT_MAX);
    put_result(3, "", large, HR_RESULT_MAX + 1); /* its own word stands */
    assert_int_equal(read_answer(body.size, 4), HR_OK);
    assert_int_equal(wire->exception_count, 3);
    assert_int_equal(wire->exceptions[1].index, 1);
    assert_int_equal(wire->exceptions[1].outcome, HR_OUTCOME_DEAD);
    assert_int_equal(wire->exceptions[2].index, 3);
    assert_int_equal(wire->exceptions[2].outcome, HR_OUTCOME_RETRY);
    hr_batch *results = hr_results_finish(&wire->results);
    assert_int_equal(results->count, 1);
    assert_int_equal(wire->results.causes[0], 2);
    hr_batch_unref(results);
    hr_free(large);
}

/* ---- log and hello ---- */

static void a_log_and_a_hello_cut_anywhere_are_refused(void **state) {
    (void)state;
    u32(&body, 2);
    u32(&body, 5);
    u32(&body, 2);
    u32(&body, 4);
    hr_buffer_print(&body, "e1line");
    hr_wire_log log;
    assert_true(hr_frame_log(hr_slice_of(body.bytes, body.size), &log));
    assert_true(hr_slice_is(log.event_id, "e1"));
    assert_true(hr_slice_is(log.text, "line"));
    assert_int_equal(log.attempt, 5);
    for (size_t size = 0; size < body.size; size++) {
        assert_false(hr_frame_log(hr_slice_of(body.bytes, size), &log));
    }
    body.bytes[0] = 4; /* no such level */
    assert_false(hr_frame_log(hr_slice_of(body.bytes, body.size), &log));

    hr_wire_hello hello;
    body.size = 0;
    u32(&body, 1 | HR_HELLO_PLACES);
    u32(&body, 3);
    hr_buffer_print(&body, "bad");
    for (size_t size = 0; size < body.size; size++) {
        assert_false(hr_frame_hello(hr_slice_of(body.bytes, size), &hello));
    }
    assert_true(hr_frame_hello(hr_slice_of(body.bytes, body.size), &hello));
    assert_true(hr_slice_is(hello.error, "bad"));
    assert_int_equal(hello.flags, 1 | HR_HELLO_PLACES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_frame_is_read_when_it_is_whole_and_not_before),
        TEST(another_version_and_a_size_over_the_limit_are_no_frame),
        TEST(a_call_holds_each_part_where_the_page_says),
        TEST(places_say_where_each_event_and_its_data_lie),
        TEST(a_call_takes_only_what_fits_into_a_frame),
        TEST(each_kind_of_attribute_is_told_as_text),
        TEST(an_answer_names_exceptions_and_results),
        TEST(an_answer_cut_anywhere_is_garbage),
        TEST(an_answer_that_breaks_a_rule_is_garbage),
        TEST(random_bytes_are_read_within_their_bounds),
        TEST(what_was_not_sent_is_not_run),
        TEST(a_result_too_large_makes_its_event_dead_and_leaves_the_others),
        TEST(a_log_and_a_hello_cut_anywhere_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
