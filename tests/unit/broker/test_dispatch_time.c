/* SPDX-License-Identifier: Apache-2.0 */
/* Ages, clocks that jump, functions that are ill (S11). */
#include "tests/unit/broker/dispatch_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* One event that has failed once and waits 10 ms; expires a minute after its first attempt. */
static fixture *one_waiting(void) {
    fixture *fx = fx_one();
    fx->functions[1].retry.max_age_ms = 60000;
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
    fx_settle_store(fx);
    return fx;
}

static void s11_the_age_counts_from_the_first_attempt(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].retry.max_age_ms = 60000;
    fx->functions[1].batch_size = fx->functions[1].lanes = 1;
    fx_start(fx);
    fx_offer(fx, 1, 1, 2, 0);
    fx_settle_store(fx);
    fx->now_ms += 100000; /* the second waited long, but for its first attempt */
    fx_ok(fx);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
    fx_settle_store(fx);
    fx_wake(fx, 61000);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 0);
    assert_string_equal(fx->reason, "expired");
    assert_int_equal(fx->checkpoint[1][FX_IN].counters.expired, 1);
    fx_free(fx);
}

static void o_c3_s11_a_clock_set_forward_makes_nothing_older(void **state) {
    (void)state;
    fixture *fx = one_waiting();
    fx->jump_ms = 86400000;
    fx_wake(fx, 5);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 0); /* nor due before its time */
    fx_wake(fx, 6);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    assert_int_equal(fx->dead_rows, 0);
    fx_free(fx);
}

static void o_c3_s11_a_clock_set_back_makes_nothing_wait(void **state) {
    (void)state;
    fixture *fx = one_waiting();
    fx->jump_ms = -500000;
    fx_wake(fx, 11);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
    fx_settle_store(fx);
    /* what is written is real time: right after a restart */
    assert_int_equal(fx->parked[0].row.due_ms, (int64_t)fx->now_ms + fx->jump_ms + 10);
    fx_free(fx);
}

static void s11_a_due_time_of_a_clock_that_was_wrong_is_not_waited_for(void **state) {
    (void)state;
    fixture *fx = one_waiting();
    fx->parked[0].row.due_ms += INT64_C(4) * 365 * 86400000;
    fx->parked[0].row.first_attempt_ms += INT64_C(4) * 365 * 86400000;
    fx_restart(fx);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    fx_free(fx);
}

static void s11_a_worker_that_cannot_start_uses_no_attempt(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(fx->call_count, 1);
        assert_int_equal(fx->calls[0]->events[0].attempt, 1);
        fx_answer(fx, 0, HR_E_CALL_UNSTARTED, NULL, 0, false);
        fx_settle_store(fx);
        assert_int_equal(fx->call_count, 0); /* the function pauses */
        assert_true(fx->wake_ns > fx->now_ms * 1000000u);
        fx_wake(fx, 61000);
        fx_settle_store(fx);
    }
    assert_int_equal(fx->checkpoint[1][FX_IN].counters.attempts, 0);
    fx_free(fx);
}

/* 40 events, one a call, of which so many have failed. */
static fixture *failing(uint32_t calls) {
    fixture *fx = fx_one();
    fx->functions[1].order = HR_ORDER_NONE;
    fx->functions[1].batch_size = fx->functions[1].lanes = 1;
    fx_start(fx);
    fx_offer(fx, 1, 1, 40, 0);
    fx_settle_store(fx);
    for (uint32_t i = 0; i < calls; i++) {
        assert_int_equal(fx->call_count, 1);
        fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
        fx_settle_store(fx);
    }
    return fx;
}

static void s11_a_circuit_breaker_pauses_a_function_that_only_fails(void **state) {
    (void)state;
    fixture *fx = failing(20);
    assert_int_equal(fx->call_count, 0);
    hr_function_stats stats;
    hr_dispatch_function_stats(fx->d, 1, &stats);
    assert_true(stats.is_paused);
    fx_offer(fx, 2, 100, 1, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->durable_ticket, 2); /* the trigger goes on */
    fx_wake(fx, 999);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 0);
    fx_wake(fx, 2);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1); /* one tries whether it is well again */
    fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
    fx_settle_store(fx);
    fx_wake(fx, 1500);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 0); /* twice as long */
    fx_wake(fx, 600);
    fx_settle_store(fx);
    fx_ok(fx);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    hr_dispatch_function_stats(fx->d, 1, &stats);
    assert_false(stats.is_paused);
    fx_free(fx);
}

static void s11_one_that_goes_well_closes_the_breaker(void **state) {
    (void)state;
    fixture *fx = failing(19);
    fx_ok(fx);
    fx_settle_store(fx);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(fx->call_count, 1);
        fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
        fx_settle_store(fx);
    }
    fx_free(fx);
}

static void s11_events_that_are_bad_do_not_open_the_breaker(void **state) {
    (void)state;
    fixture *fx = failing(0);
    for (int i = 0; i < 30; i++) {
        assert_int_equal(fx->call_count, 1); /* at once */
        fx_fail(fx, 0, 0, HR_OUTCOME_DEAD);
        fx_settle_store(fx);
    }
    hr_function_stats stats;
    hr_dispatch_function_stats(fx->d, 1, &stats);
    assert_false(stats.is_paused);
    assert_int_equal(fx->dead_rows, 30);
    fx_free(fx);
}

static void s11_a_verdict_dead_closes_the_breaker(void **state) {
    (void)state;
    fixture *fx = failing(20);
    fx_wake(fx, 1001);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1); /* one tries whether it is well again */
    fx_fail(fx, 0, 0, HR_OUTCOME_DEAD);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    hr_function_stats stats;
    hr_dispatch_function_stats(fx->d, 1, &stats);
    assert_false(stats.is_paused);
    fx_free(fx);
}

/* An answer carries the number of its call: that of an ended one is no answer to the next. */
static void o_f1_the_late_answer_of_a_call_that_timed_out_means_nothing(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    hr_answer well = {.call = fx->calls[0]->id};
    hr_input late = {.kind = HR_IN_ANSWER, .answer = &well};
    fx_answer(fx, 0, HR_E_CALL_TIMEOUT, NULL, 0, false);
    fx_step(fx, &late);
    fx_settle_store(fx);
    assert_int_equal(fx->parked_count, 1);
    fx_wake(fx, 11);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    assert_int_equal(fx->calls[0]->events[0].attempt, 2);
    fx_step(fx, &late); /* while the second runs */
    fx_settle_store(fx);
    hr_function_stats stats;
    hr_dispatch_function_stats(fx->d, 1, &stats);
    assert_int_equal(stats.running, 1);
    assert_int_equal(stats.counters.delivered, 0);
    assert_int_equal(fx->parked_count, 1);
    fx_ok(fx);
    fx_settle_store(fx);
    assert_int_equal(fx->checkpoint[1][FX_IN].counters.delivered, 1);
    assert_int_equal(fx->parked_count, 0);
    fx_free(fx);
}

static void a_retry_after_uses_no_attempt_and_is_bounded(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    hr_exception later = {.outcome = HR_OUTCOME_RETRY, .after_ms = INT64_MAX};
    fx_answer(fx, 0, HR_OK, &later, 1, false);
    fx_settle_store(fx);
    assert_int_equal(fx->parked[0].row.attempt, 0);
    assert_int_equal(fx->parked[0].row.due_ms, (int64_t)fx->now_ms + 86400000);
    fx_free(fx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s11_the_age_counts_from_the_first_attempt),
        cmocka_unit_test(o_c3_s11_a_clock_set_forward_makes_nothing_older),
        cmocka_unit_test(o_c3_s11_a_clock_set_back_makes_nothing_wait),
        cmocka_unit_test(s11_a_due_time_of_a_clock_that_was_wrong_is_not_waited_for),
        cmocka_unit_test(s11_a_worker_that_cannot_start_uses_no_attempt),
        cmocka_unit_test(s11_a_circuit_breaker_pauses_a_function_that_only_fails),
        cmocka_unit_test(s11_one_that_goes_well_closes_the_breaker),
        cmocka_unit_test(s11_events_that_are_bad_do_not_open_the_breaker),
        cmocka_unit_test(s11_a_verdict_dead_closes_the_breaker),
        cmocka_unit_test(o_f1_the_late_answer_of_a_call_that_timed_out_means_nothing),
        cmocka_unit_test(a_retry_after_uses_no_attempt_and_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
