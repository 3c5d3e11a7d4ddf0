/* SPDX-License-Identifier: Apache-2.0 */
/* The answer to a call that is handled event by event. */
#include "functions/reply.h"

#include "core/memory.h"
#include "tests/unit/functions/call_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static call_bench bench;
static hr_reply reply;

static int tear_down(void **state) {
    (void)state;
    hr_reply_fini(&reply);
    call_fini(&bench);
    return 0;
}

static void add(const char *id, const char *key) {
    call_add(&bench, id, key, hr_slice_text("1"));
}

static void s9_behind_a_retry_events_of_its_key_are_not_run_and_others_are(void **state) {
    (void)state;
    add("e0", "a");
    add("e1", "b");
    add("e2", "a");
    add("e3", "b");
    add("e4", "a");
    hr_reply_init(&reply, &bench.runtime, &bench.call);
    hr_reply_except(&reply, HR_OUTCOME_RETRY, 30, "no");
    assert_true(hr_reply_next(&reply));
    assert_int_equal(reply.at, 1);
    assert_true(hr_reply_next(&reply));
    assert_int_equal(reply.at, 3); /* e2 was named not_run */
    assert_false(hr_reply_next(&reply));
    hr_reply_give(&reply, HR_OK, NULL);
    static const hr_outcome outcomes[] = {HR_OUTCOME_RETRY, HR_OUTCOME_OK, HR_OUTCOME_NOT_RUN,
                                          HR_OUTCOME_OK, HR_OUTCOME_NOT_RUN};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(bench.outcome[i], outcomes[i]);
    }
    assert_int_equal(bench.after_ms[0], 30);
    assert_int_equal(bench.answers, 1);
}

static void what_is_given_up_holds_back_nothing_and_neither_does_no_key(void **state) {
    (void)state;
    add("e0", "a");
    add("e1", "a");
    add("e2", "a");
    add("e3", "");
    add("e4", "");
    hr_reply_init(&reply, &bench.runtime, &bench.call);
    hr_reply_except(&reply, HR_OUTCOME_DEAD, -1, "never");
    assert_true(hr_reply_next(&reply));
    hr_reply_except(&reply, HR_OUTCOME_DROP, -1, "no use");
    assert_true(hr_reply_next(&reply));
    assert_int_equal(reply.at, 2);
    assert_true(hr_reply_next(&reply));
    hr_reply_except(&reply, HR_OUTCOME_RETRY, -1, "no");
    assert_true(hr_reply_next(&reply));
    assert_int_equal(reply.at, 4);
    assert_false(hr_reply_next(&reply));
    hr_reply_give(&reply, HR_OK, NULL);
    assert_int_equal(bench.outcome[4], HR_OUTCOME_OK);
}

static void a_result_that_cannot_be_kept_is_a_dead_letter_that_says_why(void **state) {
    (void)state;
    char *large = hr_alloc(HR_RESULT_MAX + 1);
    add("e0", "a");
    add("e1", "a");
    add("e2", "a");
    hr_reply_init(&reply, &bench.runtime, &bench.call);
    hr_result too_large = {.data = hr_slice_of(large, HR_RESULT_MAX + 1)};
    hr_reply_result(&reply, &too_large);
    assert_true(hr_reply_next(&reply));
    hr_result just_fits = {.data = hr_slice_of(large, HR_RESULT_MAX)};
    hr_reply_result(&reply, &just_fits);
    assert_true(hr_reply_next(&reply));
    hr_result no_text = {.data = hr_slice_text("\xff\xfe"), .is_text = true};
    hr_reply_result(&reply, &no_text);
    assert_false(hr_reply_next(&reply));
    hr_reply_give(&reply, HR_OK, NULL);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_DEAD);
    assert_int_equal(bench.outcome[1], HR_OUTCOME_OK);
    assert_int_equal(bench.outcome[2], HR_OUTCOME_DEAD);
    assert_int_equal(bench.results->count, 1);
    assert_int_equal(bench.causes[0], 1);
    assert_true(bench.why[0] != '\0');
    hr_free(large);
}

static void a_failure_of_the_whole_call_has_neither_results_nor_exceptions(void **state) {
    (void)state;
    add("e0", "a");
    add("e1", "b");
    hr_reply_init(&reply, &bench.runtime, &bench.call);
    hr_result result = {.data = hr_slice_text("x"), .is_text = true};
    hr_reply_result(&reply, &result);
    assert_true(hr_reply_next(&reply));
    hr_reply_except(&reply, HR_OUTCOME_DEAD, -1, "never");
    hr_reply_give(&reply, HR_E_CALL_TIMEOUT, "too late");
    assert_int_equal(bench.failure, HR_E_CALL_TIMEOUT);
    assert_string_equal(bench.why, "too late");
    assert_int_equal(bench.outcome[1], HR_OUTCOME_OK);
    assert_null(bench.results);
}

static void events_wait_for_the_next_call_when_the_results_are_full(void **state) {
    (void)state;
    add("e0", "a");
    add("e1", "b");
    char *large = hr_alloc(HR_RESULT_MAX);
    hr_reply_init(&reply, &bench.runtime, &bench.call);
    for (int i = 0; i < 63; i++) { /* more than shell and http give, up to the limit of a batch */
        hr_result result = {.data = hr_slice_of(large, HR_RESULT_MAX)};
        hr_reply_result(&reply, &result);
    }
    hr_free(large);
    assert_false(hr_reply_next(&reply));
    hr_reply_give(&reply, HR_OK, NULL);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_OK);
    assert_int_equal(bench.outcome[1], HR_OUTCOME_NOT_RUN);
    assert_int_equal(bench.results->count, 63);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(s9_behind_a_retry_events_of_its_key_are_not_run_and_others_are,
                                  tear_down),
        cmocka_unit_test_teardown(what_is_given_up_holds_back_nothing_and_neither_does_no_key,
                                  tear_down),
        cmocka_unit_test_teardown(a_result_that_cannot_be_kept_is_a_dead_letter_that_says_why,
                                  tear_down),
        cmocka_unit_test_teardown(a_failure_of_the_whole_call_has_neither_results_nor_exceptions,
                                  tear_down),
        cmocka_unit_test_teardown(events_wait_for_the_next_call_when_the_results_are_full,
                                  tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
