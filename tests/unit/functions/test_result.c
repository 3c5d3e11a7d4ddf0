/* SPDX-License-Identifier: Apache-2.0 */
/* What a handler returned, as events. */
#include "functions/result.h"

#include "broker/dispatch.h"
#include "core/envelope.h"
#include "core/memory.h"
#include "tests/unit/functions/call_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static call_bench bench;
static hr_results results;
static hr_batch *batch;
static hr_error err;

static int tear_down(void **state) {
    (void)state;
    hr_batch_unref(hr_results_finish(&results));
    hr_batch_unref(batch);
    call_fini(&bench);
    results = (hr_results){0};
    batch = NULL;
    err = (hr_error){0};
    return 0;
}

static hr_code add(uint16_t cause, const char *data) {
    hr_result result = {.cause = cause, .data = hr_slice_text(data), .is_text = true};
    return hr_result_add(&results, &bench.runtime, &bench.call, &result, &err);
}

static const char *attribute(uint32_t index, const char *name) {
    static char text[256];
    hr_attribute a;
    hr_buffer buffer = {0};
    text[0] = '\0';
    if (hr_envelope_attribute(hr_batch_envelope(batch, index), name, &a)) {
        hr_attribute_print(&a, &buffer);
        snprintf(text, sizeof text, "%s", hr_buffer_text(&buffer));
        hr_buffer_fini(&buffer);
    }
    return text;
}

static void s13_ids_are_the_inputs_the_functions_and_a_number(void **state) {
    (void)state;
    call_add(&bench, "e1", "k", hr_slice_text("1"));
    call_add(&bench, "e2", "", hr_slice_text("1"));
    bench.refs[1].replay = 4;
    for (int turn = 0; turn < 2; turn++) { /* and the same when the call is repeated */
        bench.refs[0].attempt++;
        assert_int_equal(add(0, "x"), HR_OK);
        assert_int_equal(add(0, "y"), HR_OK);
        assert_int_equal(add(1, "z"), HR_OK);
        hr_batch_unref(batch);
        batch = hr_results_finish(&results);
        assert_int_equal(batch->count, 3);
        assert_true(hr_slice_is(hr_batch_id(batch, 0), "e1/hot/1"));
        assert_true(hr_slice_is(hr_batch_id(batch, 1), "e1/hot/2"));
        assert_true(hr_slice_is(hr_batch_id(batch, 2), "e2/hot/1/r4"));
    }
    assert_null(hr_results_finish(&results));
}

static void key_and_subject_are_inherited_and_the_chain_is_counted(void **state) {
    (void)state;
    call_add(&bench, "e1", "k", hr_slice_text("1"));
    assert_int_equal(add(0, "x"), HR_OK);
    hr_result own = {.type = hr_slice_text("own"),
                     .subject = hr_slice_text("s"),
                     .content_type = hr_slice_text("text/csv"),
                     .data = hr_slice_text("a,b")};
    assert_int_equal(hr_result_add(&results, &bench.runtime, &bench.call, &own, &err), HR_OK);
    batch = hr_results_finish(&results);
    assert_true(hr_slice_is(hr_batch_key(batch, 0), "k"));
    assert_true(hr_slice_is(hr_batch_subject(batch, 0), "room 1"));
    assert_true(hr_slice_is(hr_batch_type(batch, 0), "hot.result"));
    assert_true(hr_slice_is(hr_batch_source(batch, 0), "headrace/function/hot"));
    assert_string_equal(attribute(0, HR_ATTRIBUTE_HOPS), "1");
    assert_string_equal(attribute(0, "datacontenttype"), "text/plain; charset=utf-8");
    assert_true(hr_slice_is(hr_batch_subject(batch, 1), "s"));
    assert_true(hr_slice_is(hr_batch_type(batch, 1), "own"));
    assert_string_equal(attribute(1, "datacontenttype"), "text/csv");

    call_bench next = {.call = {.id = 8, .count = 1, .events = next.refs}};
    next.refs[0] = (hr_event_ref){.batch = batch, .attempt = 1};
    next.runtime = bench.runtime;
    hr_result result = {.data = hr_slice_text("x")};
    assert_int_equal(hr_result_add(&results, &next.runtime, &next.call, &result, &err), HR_OK);
    hr_batch_unref(batch);
    batch = hr_results_finish(&results);
    assert_string_equal(attribute(0, HR_ATTRIBUTE_HOPS), "2");
}

static void bounds_hold_and_a_refused_result_leaves_no_trace(void **state) {
    (void)state;
    uint8_t *large = hr_alloc(HR_RESULT_MAX + 1);
    call_add(&bench, "e1", "k", hr_slice_text("1"));
    call_add(&bench, "e2", "k", hr_slice_text("1"));
    assert_int_equal(add(2, "x"), HR_E_MALFORMED); /* of no event */
    assert_int_equal(add(UINT16_MAX, "x"), HR_E_MALFORMED);
    hr_result result = {.data = hr_slice_of(large, HR_RESULT_MAX + 1)};
    assert_int_equal(hr_result_add(&results, &bench.runtime, &bench.call, &result, &err),
                     HR_E_TOO_LARGE);
    assert_non_null(strstr(err.text, "1048576"));
    hr_free(large);
    result = (hr_result){.data = hr_slice_text("\xff"), .is_text = true};
    assert_int_equal(hr_result_add(&results, &bench.runtime, &bench.call, &result, &err),
                     HR_E_INVALID);
    result = (hr_result){.type = hr_slice_text("\xff")};
    assert_int_equal(hr_result_add(&results, &bench.runtime, &bench.call, &result, &err),
                     HR_E_INVALID);
    assert_int_equal(add(1, "x"), HR_OK);
    assert_int_equal(add(0, "x"), HR_E_MALFORMED); /* out of order */
    batch = hr_results_finish(&results);
    assert_int_equal(batch->count, 1);
    assert_true(hr_slice_is(hr_batch_id(batch, 0), "e2/hot/1"));
}

static void a_call_gives_a_bounded_number_of_results(void **state) {
    (void)state;
    call_add(&bench, "e1", "k", hr_slice_text("1"));
    for (int i = 0; i < HR_RESULTS_MAX; i++) {
        assert_int_equal(add(0, "x"), HR_OK);
    }
    assert_int_equal(add(0, "x"), HR_E_TOO_LARGE);
    assert_non_null(strstr(err.text, "1024"));
    batch = hr_results_finish(&results);
    assert_int_equal(batch->count, HR_RESULTS_MAX);
    assert_true(hr_slice_is(hr_batch_id(batch, HR_RESULTS_MAX - 1), "e1/hot/1024"));
}

static void a_result_that_nobody_takes_is_only_counted(void **state) {
    (void)state;
    uint8_t *large = hr_alloc(HR_RESULT_MAX * 2);
    call_add(&bench, "e1", "k", hr_slice_text("1"));
    bench.runtime.has_takers = false;
    hr_result result = {.data = hr_slice_of(large, (size_t)HR_RESULT_MAX * 2)};
    assert_int_equal(hr_result_add(&results, &bench.runtime, &bench.call, &result, &err), HR_OK);
    hr_free(large);
    batch = hr_results_finish(&results);
    assert_int_equal(batch->count, 1);
    assert_true(batch->size < 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(s13_ids_are_the_inputs_the_functions_and_a_number, tear_down),
        cmocka_unit_test_teardown(key_and_subject_are_inherited_and_the_chain_is_counted,
                                  tear_down),
        cmocka_unit_test_teardown(bounds_hold_and_a_refused_result_leaves_no_trace, tear_down),
        cmocka_unit_test_teardown(a_call_gives_a_bounded_number_of_results, tear_down),
        cmocka_unit_test_teardown(a_result_that_nobody_takes_is_only_counted, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
