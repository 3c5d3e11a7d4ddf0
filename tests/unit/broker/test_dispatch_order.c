/* SPDX-License-Identifier: Apache-2.0 */
/* Which events go together and in which order (S9, S10). */
#include "tests/unit/broker/dispatch_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static uint64_t position_of(const hr_call *call, uint32_t index) {
    return call->events[index].batch->position[call->events[index].index];
}

/* One lane, so many events without a key, the first call running. */
static fixture *one_lane(uint32_t events) {
    fixture *fx = fx_one();
    fx->functions[1].lanes = 1;
    fx_start(fx);
    fx_offer(fx, 1, 1, events, 0);
    fx_settle_store(fx);
    return fx;
}

static void s9_a_crash_of_many_charges_nobody_and_calls_singly(void **state) {
    (void)state;
    fixture *fx = one_lane(3);
    assert_int_equal(fx->calls[0]->count, 3);
    fx_answer(fx, 0, HR_E_CALL_CRASHED, NULL, 0, false);
    fx_settle_store(fx);
    assert_int_equal(fx->unanswered, 3);
    for (uint64_t position = 1; position <= 3; position++) {
        assert_int_equal(fx->call_count, 1);
        assert_int_equal(fx->calls[0]->count, 1);
        assert_int_equal(position_of(fx->calls[0], 0), position);
        assert_int_equal(fx->calls[0]->events[0].attempt, 1);
        assert_int_equal(fx->parked_count, 0);
        fx_ok(fx);
    }
    fx_free(fx);
}

static void s9_what_is_called_singly_or_again_waits_for_no_company(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].lanes = 1;
    fx->functions[1].batch_window_ms = 4000;
    fx_start(fx);
    fx_offer(fx, 1, 1, 3, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 0); /* a fourth would fill it */
    fx_wake(fx, 3999);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 0);
    fx_wake(fx, 1);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    fx_answer(fx, 0, HR_E_CALL_CRASHED, NULL, 0, false);
    fx_settle_store(fx);
    for (uint64_t position = 1; position <= 3; position++) {
        assert_int_equal(fx->call_count, 1);
        assert_int_equal(position_of(fx->calls[0], 0), position);
        if (position == 3) {
            fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
        } else {
            fx_ok(fx);
        }
        fx_settle_store(fx);
    }
    assert_int_equal(fx->call_count, 0);
    fx_wake(fx, 10); /* its retry is due */
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    fx_free(fx);
}

static void s9_a_timeout_of_many_charges_nobody_either(void **state) {
    (void)state;
    fixture *fx = one_lane(2);
    fx_answer(fx, 0, HR_E_CALL_TIMEOUT, NULL, 0, false);
    fx_settle_store(fx);
    assert_int_equal(fx->calls[0]->count, 1);
    assert_int_equal(fx->calls[0]->events[0].attempt, 1);
    fx_free(fx);
}

static void s9_a_crash_of_one_is_its_attempt(void **state) {
    (void)state;
    fixture *fx = one_lane(1);
    fx_answer(fx, 0, HR_E_CALL_CRASHED, NULL, 0, false);
    fx_settle_store(fx);
    assert_int_equal(fx->parked_count, 1);
    assert_int_equal(fx->parked[0].row.attempt, 1);
    assert_int_equal(fx->unanswered, 0); /* its retry is told */
    fx_free(fx);
}

static void s9_an_ok_behind_a_failed_event_of_its_key_is_discarded(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].lanes = 1;
    fx_start(fx);
    fx_offer(fx, 1, 1, 4, 3); /* keys 1 2 0 1 */
    fx_settle_store(fx);
    assert_int_equal(fx->calls[0]->count, 4);
    fx_fail(fx, 0, 0, HR_OUTCOME_RETRY); /* the fourth says ok, behind the first */
    fx_settle_store(fx);
    assert_int_equal(fx->checkpoint[1][FX_IN].counters.delivered, 2);
    assert_int_equal(fx->parked_count, 2);
    fx_wake(fx, 11);
    fx_settle_store(fx);
    assert_int_equal(position_of(fx->calls[0], 0), 1);
    fx_ok(fx);
    fx_settle_store(fx);
    fx_wake(fx, 1);
    fx_settle_store(fx);
    assert_int_equal(position_of(fx->calls[0], 0), 4); /* called again */
    fx_free(fx);
}

static void s9_what_was_not_run_comes_again_uncharged(void **state) {
    (void)state;
    fixture *fx = one_lane(2);
    fx_fail(fx, 0, 1, HR_OUTCOME_NOT_RUN);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    assert_int_equal(position_of(fx->calls[0], 0), 2);
    assert_int_equal(fx->calls[0]->events[0].attempt, 1);
    assert_int_equal(fx->checkpoint[1][FX_IN].counters.attempts, 1);
    fx_free(fx);
}

static void s9_a_call_carries_events_of_one_feed_and_one_lane(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].lanes = 4;
    fx->functions[1].batch_size = 64;
    fx_start(fx);
    fx_offer(fx, 1, 1, 64, 8);
    fx_settle_store(fx);
    uint32_t lane_of[8];
    memset(lane_of, 0xff, sizeof lane_of);
    while (fx->call_count > 0) {
        const hr_call *call = fx->calls[0];
        for (uint32_t i = 0; i < call->count; i++) {
            uint64_t key = position_of(call, i) % 8;
            assert_true(key == 0 || lane_of[key] == UINT32_MAX || lane_of[key] == call->lane);
            lane_of[key] = call->lane;
        }
        fx_ok(fx);
        fx_settle_store(fx);
    }
    fx_free(fx);
}

/* Offers of two events each to the function's two feeds, in turn, while its one lane is at work. */
static void s9_a_call_passes_over_what_is_of_another_feed(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].lanes = 1;
    fx->functions[1].batch_size = 5;
    fx_start(fx);
    hr_counters none = {0};
    hr_dispatch_take(fx->d, 1, FX_RESULTS, 0, 1, (hr_slice){0}, &none);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    for (uint64_t i = 0; i < 6; i++) {
        hr_builder builder = {0};
        fx_pack(fx, &builder, 0, 100 + 2 * i, 0);
        fx_pack(fx, &builder, 0, 101 + 2 * i, 0);
        uint32_t feed = i % 2 == 0 ? FX_IN : FX_RESULTS;
        hr_input input = {.kind = HR_IN_OFFER,
                          .offer = {.feed = feed,
                                    .ticket = 2 + i,
                                    .take_batch = hr_builder_finish(&builder, feed, 1)}};
        hr_builder_fini(&builder);
        fx_step(fx, &input);
        fx_settle_store(fx);
    }
    static const struct {
        uint32_t feed, count, first;
    } want[] = {{FX_IN, 5, 2}, {FX_RESULTS, 5, 1}, {FX_IN, 1, 7}, {FX_RESULTS, 1, 6}};
    for (size_t i = 0; i < 4; i++) {
        hr_answer answer = {.call = fx->calls[0]->id};
        fx->call_count = 0;
        hr_input input = {.kind = HR_IN_ANSWER, .answer = &answer};
        fx_step(fx, &input);
        assert_int_equal(fx->call_count, 1);
        const hr_call *call = fx->calls[0];
        assert_int_equal(call->count, want[i].count);
        for (uint32_t k = 0; k < call->count; k++) {
            assert_int_equal(call->events[k].batch->feed, want[i].feed);
            assert_int_equal(position_of(call, k), want[i].first + k);
        }
    }
    fx_free(fx);
}

static void s10_later_events_of_a_failed_key_wait_and_others_do_not(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].batch_size = 1;
    fx->functions[1].lanes = 1;
    fx_start(fx);
    fx_offer(fx, 1, 1, 5, 3); /* keys 1 2 0 1 2 */
    fx_settle_store(fx);
    fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
    for (int i = 0; i < 3; i++) {
        fx_settle_store(fx);
        uint64_t position = position_of(fx->calls[0], 0);
        assert_true(position == 2 || position == 3 || position == 5);
        fx_ok(fx);
    }
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 0);
    assert_int_equal(fx->parked_count, 2); /* 1, and 4 behind it, uncalled */
    assert_false(fx->called[1][FX_IN][4]);
    fx_free(fx);
}

static void s10_without_order_nothing_waits_for_another(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].order = HR_ORDER_NONE;
    fx->functions[1].batch_size = 1;
    fx_start(fx);
    fx_offer(fx, 1, 1, 4, 2);
    fx_settle_store(fx);
    fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
    while (fx->call_count > 0) {
        fx_settle_store(fx);
        fx_ok(fx);
    }
    fx_settle_store(fx);
    assert_int_equal(fx->checkpoint[1][FX_IN].counters.delivered, 3);
    fx_free(fx);
}

static void s10_in_the_order_of_the_feed_one_runs_at_a_time(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].order = HR_ORDER_FEED;
    fx->functions[1].batch_size = 1;
    fx_start(fx);
    fx_offer(fx, 1, 1, 3, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 0); /* the others are behind it, whatever their key */
    for (uint64_t position = 1; position <= 3; position++) {
        fx_wake(fx, 11);
        fx_settle_store(fx);
        assert_int_equal(position_of(fx->calls[0], 0), position);
        fx_ok(fx);
        fx_settle_store(fx);
    }
    fx_free(fx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s9_a_crash_of_many_charges_nobody_and_calls_singly),
        cmocka_unit_test(s9_what_is_called_singly_or_again_waits_for_no_company),
        cmocka_unit_test(s9_a_timeout_of_many_charges_nobody_either),
        cmocka_unit_test(s9_a_crash_of_one_is_its_attempt),
        cmocka_unit_test(s9_an_ok_behind_a_failed_event_of_its_key_is_discarded),
        cmocka_unit_test(s9_what_was_not_run_comes_again_uncharged),
        cmocka_unit_test(s9_a_call_carries_events_of_one_feed_and_one_lane),
        cmocka_unit_test(s9_a_call_passes_over_what_is_of_another_feed),
        cmocka_unit_test(s10_later_events_of_a_failed_key_wait_and_others_do_not),
        cmocka_unit_test(s10_without_order_nothing_waits_for_another),
        cmocka_unit_test(s10_in_the_order_of_the_feed_one_runs_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
