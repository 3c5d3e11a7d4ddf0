/* SPDX-License-Identifier: Apache-2.0 */
/* One rule of docs/semantics.md each. */
#include "tests/unit/broker/dispatch_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static fixture *one_function(void) {
    fixture *fx = fx_new();
    fx->functions[1] = (hr_function_policy){
        .name = "f",
        .id = 1,
        .lanes = 2,
        .batch_size = 4,
        .timeout_ms = 1000,
        .retry = {.attempts = 3, .min_ms = 10, .max_ms = 10, .max_age_ms = -1}};
    fx->takes[1] = FX_IN;
    return fx;
}

static void s9_a_crash_of_many_charges_nobody_and_calls_singly(void **state) {
    (void)state;
    fixture *fx = one_function();
    fx->functions[1].lanes = 1;
    fx_start(fx);
    fx_offer(fx, 1, 1, 3, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    assert_int_equal(fx->calls[0]->count, 3);
    fx_answer(fx, 0, HR_E_CALL_CRASHED, NULL, 0, false);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    assert_int_equal(fx->calls[0]->count, 1);
    assert_int_equal(fx->calls[0]->events[0].attempt, 1);
    assert_int_equal(fx->parked_count, 0);
    fx_free(fx);
}

static void s7_a_retry_is_parked_at_once_and_the_checkpoint_passes(void **state) {
    (void)state;
    fixture *fx = one_function();
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->durable_ticket, 1);
    assert_int_equal(fx->call_count, 1);
    hr_exception retry = {.outcome = HR_OUTCOME_RETRY, .after_ms = -1};
    fx_answer(fx, 0, HR_OK, &retry, 1, false);
    fx_settle_store(fx);
    assert_int_equal(fx->parked_count, 1);
    assert_int_equal(fx->checkpoint[1][FX_IN].low, 2);
    assert_int_equal(fx->call_count, 0);
    fx_wake(fx, 11);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    assert_int_equal(fx->calls[0]->events[0].attempt, 2);
    fx_free(fx);
}

static void s16_a_duplicate_is_not_acknowledged_when_its_first_copy_was_refused(void **state) {
    (void)state;
    fixture *fx = one_function();
    fx->dedupe = true;
    fx_start(fx);
    while (fx->unit_count > 0) {
        fx_unit(fx, HR_OK);
    }
    fx_offer(fx, 1, 7, 1, 0);
    fx_offer(fx, 2, 7, 1, 0);
    fx_unit(fx, HR_E_STORE_FULL);
    fx_unit(fx, HR_OK);
    assert_int_equal(fx->refused, 2);
    assert_int_equal(fx->durable_ticket, 0);
    fx_offer(fx, 3, 7, 1, 0); /* the id was taken back: it is new again */
    fx_unit(fx, HR_OK);
    assert_int_equal(fx->durable_ticket, 3);
    assert_int_equal(fx->next[FX_IN], 3);
    fx_free(fx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s7_a_retry_is_parked_at_once_and_the_checkpoint_passes),
        cmocka_unit_test(s9_a_crash_of_many_charges_nobody_and_calls_singly),
        cmocka_unit_test(s16_a_duplicate_is_not_acknowledged_when_its_first_copy_was_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
