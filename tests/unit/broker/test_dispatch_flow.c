/* SPDX-License-Identifier: Apache-2.0 */
/* Intake, results, dead letters and what stops them (S1, S2, S4, S7, S8, S12, S15). */
#include "tests/unit/broker/dispatch_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void s1_a_tick_and_its_instant_are_one_unit(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx_start(fx);
    fx_settle_store(fx);
    hr_builder builder = {0};
    fx_pack(fx, &builder, 0, 1, 0);
    hr_row fire = {.kind = HR_ROW_FIRE, .feed = FX_IN, .due_ms = 77};
    hr_input input = {.kind = HR_IN_OFFER,
                      .offer = {.feed = FX_IN,
                                .ticket = 1,
                                .take_batch = hr_builder_finish(&builder, FX_IN, 1),
                                .rows = &fire,
                                .row_count = 1}};
    hr_builder_fini(&builder);
    fx_step(fx, &input);
    assert_int_equal(fx->unit_count, 1);
    assert_int_equal(fx->units[0]->append_count, 1);
    assert_int_equal(fx->units[0]->rows[0].kind, HR_ROW_FIRE);
    assert_int_equal(fx->units[0]->rows[0].due_ms, 77);
    fx_free(fx);
}

static void s14_a_checkpoint_alone_waits_for_the_next_and_takes_more_along(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->checkpoint_ms = 10;
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    fx_wake(fx, 10);
    fx_ok(fx);
    assert_int_equal(fx->unit_count, 1); /* the last one is old enough */
    fx_settle_store(fx);
    fx_offer(fx, 2, 2, 1, 0);
    fx_settle_store(fx);
    fx_ok(fx);
    assert_int_equal(fx->unit_count, 0);
    fx_offer(fx, 3, 3, 1, 0);
    fx_settle_store(fx);
    fx_ok(fx);
    assert_int_equal(fx->unit_count, 0);
    assert_int_equal(fx->wake_ns, (fx->now_ms + 10) * 1000000);
    fx_wake(fx, 10);
    assert_int_equal(fx->unit_count, 1);
    assert_int_equal(fx->units[0]->low, 4);
    fx_settle_store(fx);
    fx_offer(fx, 4, 4, 1, 0);
    fx_settle_store(fx);
    fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
    assert_int_equal(fx->unit_count, 1); /* a row waits for nothing */
    assert_int_equal(fx->units[0]->row_count, 1);
    fx_free(fx);
}

static void s21_nothing_is_taken_while_the_start_of_a_function_is_refused(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx_start(fx);
    assert_int_equal(fx->unit_count, 1);
    fx_unit(fx, HR_E_STORE_FULL);
    fx_offer(fx, 1, 1, 2, 0);
    assert_int_equal(fx->unit_count, 0);
    assert_int_equal(fx->last_refused, 1);
    assert_int_equal(fx->refused_why, HR_E_STORE_FULL);
    fx_wake(fx, 1000);
    assert_int_equal(fx->unit_count, 1); /* the start, again */
    fx_offer(fx, 2, 1, 2, 0);
    assert_int_equal(fx->unit_count, 1);
    assert_int_equal(fx->last_refused, 2);
    fx_unit(fx, HR_OK);
    fx_offer(fx, 3, 1, 2, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->durable_ticket, 3);
    fx_free(fx);
}

/* Function 1 gives results, function 2 takes them. */
static fixture *with_results(void) {
    fixture *fx = fx_one();
    fx->functions[1].order = HR_ORDER_NONE;
    fx->functions[1].batch_size = 1;
    fx->functions[1].lanes = 3;
    fx->functions[2] = fx->functions[1];
    fx->functions[2].id = 2;
    fx->functions[1].result_feed = FX_RESULTS;
    fx->takes[2] = FX_RESULTS;
    return fx;
}

static void s1_results_stand_in_the_unit_that_settles_their_cause(void **state) {
    (void)state;
    fixture *fx = with_results();
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    fx_answer(fx, 0, HR_OK, NULL, 0, true);
    assert_int_equal(fx->unit_count, 1);
    assert_int_equal(fx->units[0]->function, 1);
    assert_int_equal(fx->units[0]->low, 2);
    assert_int_equal(fx->units[0]->append_count, 1);
    assert_int_equal(fx->units[0]->appends[0]->feed, FX_RESULTS);
    assert_int_equal(fx->call_count, 0); /* not dispatched before it is durable */
    fx_unit(fx, HR_OK);
    assert_int_equal(fx->call_count, 1);
    assert_int_equal(fx->calls[0]->function, 2);
    fx_free(fx);
}

static void s2_only_unsettled_bytes_stop_the_intake(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->max_bytes = 400; /* of some 24 bytes each */
    fx->functions[1].batch_size = 64;
    fx_start(fx);
    fx_settle_store(fx);
    uint64_t ticket = 0;
    while (fx->refused == 0 && ticket < 100) {
        ticket++;
        fx_offer(fx, ticket, ticket, 1, 0);
        fx_settle_store(fx);
    }
    assert_true(ticket > 5 && ticket < 50);
    assert_int_equal(fx->refused_why, HR_E_FEED_FULL);
    assert_int_equal(fx->want, 0);
    ticket++;
    fx_offer(fx, ticket, ticket, 1, 0);
    assert_int_equal(fx->refused, 2);
    while (fx->call_count > 0) {
        fx_ok(fx);
        fx_settle_store(fx);
    }
    assert_int_equal(fx->want, 1); /* settled history does not count */
    ticket++;
    fx_offer(fx, ticket, ticket, 1, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->durable_ticket, ticket);
    fx_free(fx);
}

static void s2_a_function_is_not_called_while_its_results_have_no_room(void **state) {
    (void)state;
    fixture *fx = with_results();
    fx->max_bytes = 600;
    fx->max_offer = 1 << 20;
    fx_start(fx);
    hr_input room = {.kind = HR_IN_ROOM, .room = {.function = 2}};
    fx_step(fx, &room); /* nobody takes the results */
    fx_offer(fx, 1, 1, 40, 0);
    fx_settle_store(fx);
    hr_feed_stats stats = {0};
    for (int i = 0; i < 1000 && fx->call_count > 0; i++) {
        fx_answer(fx, 0, HR_OK, NULL, 0, true);
        fx_settle_store(fx);
        hr_dispatch_feed_stats(fx->d, FX_RESULTS, &stats);
        if (stats.in_memory >= 40) {
            fx_offer(fx, 2, 100, 40, 0);
            fx_settle_store(fx);
        }
    }
    assert_true(stats.unsettled_bytes <= 608);
    assert_true(stats.unsettled_bytes > 540);
    assert_int_equal(fx->call_count, 0);
    room.room.slots = 3;
    fx_step(fx, &room);
    fx_settle_store(fx);
    assert_int_equal(fx->calls[0]->function, 2);
    fx_free(fx);
}

static void s2_running_calls_reserve_room_for_their_results(void **state) {
    (void)state;
    fixture *fx = with_results();
    fx->max_bytes = 60; /* two results, and a little */
    fx->max_offer = 1 << 20;
    fx_start(fx);
    hr_input room = {.kind = HR_IN_ROOM, .room = {.function = 2}};
    fx_step(fx, &room);
    fx_offer(fx, 1, 1, 9, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 3);
    fx_answer(fx, 0, HR_OK, NULL, 0, true);
    assert_int_equal(fx->call_count, 2); /* the third would have no room */
    fx_free(fx);
}

static void s2_results_that_nobody_takes_are_counted_only(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx_start(fx);
    fx_offer(fx, 1, 1, 3, 0);
    fx_settle_store(fx);
    fx_answer(fx, 0, HR_OK, NULL, 0, true);
    fx_settle_store(fx);
    assert_true(fx->checkpoint[1][FX_IN].counters.results > 0);
    assert_int_equal(fx->next[FX_RESULTS], 1);
    fx_free(fx);
}

static void s4_what_is_durable_goes_on_from_memory(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx_start(fx);
    for (uint64_t i = 1; i <= 20; i++) {
        fx_offer(fx, i, i, 1, 0);
        while (fx->unit_count > 0) {
            fx_unit(fx, HR_OK);
        }
        assert_int_equal(fx->read_count, 0);
        while (fx->call_count > 0) {
            fx_ok(fx);
        }
    }
    assert_true(fx->done[1][FX_IN][20]);
    fx_offer(fx, 21, 21, 1, 0);
    while (fx->unit_count > 0) {
        fx_unit(fx, HR_OK);
    }
    fx_restart(fx); /* after a start the store is read */
    assert_int_equal(fx->read_count, 1);
    fx_free(fx);
}

static void s7_a_full_quota_of_parked_events_stalls_the_function(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].parked_max_bytes = 1;
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
    fx_offer(fx, 2, 2, 1, 0);
    fx_settle_store(fx);
    hr_function_stats stats;
    hr_dispatch_function_stats(fx->d, 1, &stats);
    assert_non_null(stats.stalled);
    assert_int_equal(fx->call_count, 0);
    fx_wake(fx, 11); /* the retry goes on, and ends the stall */
    fx_settle_store(fx);
    fx_ok(fx);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    hr_dispatch_function_stats(fx->d, 1, &stats);
    assert_null(stats.stalled);
    fx_free(fx);
}

static void s8_on_a_journal_feed_every_function_has_its_own_pace(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[2] = fx->functions[1];
    fx->functions[2].id = 2;
    fx->takes[2] = FX_IN;
    fx_start(fx);
    hr_input room = {.kind = HR_IN_ROOM, .room = {.function = 2}};
    fx_step(fx, &room); /* it stands still */
    for (uint64_t i = 1; i <= 50; i++) {
        fx_offer(fx, i, i, 1, 0);
        fx_settle_store(fx);
        while (fx->call_count > 0) {
            fx_ok(fx);
            fx_settle_store(fx);
        }
    }
    assert_int_equal(fx->checkpoint[1][FX_IN].low, 51);
    assert_int_equal(fx->checkpoint[2][FX_IN].low, 1);
    fx_free(fx);
}

static void s12_full_dead_letters_stall_and_evict_nothing(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].batch_size = fx->functions[1].lanes = 1;
    fx->dead_max = 1;
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    fx_fail(fx, 0, 0, HR_OUTCOME_DEAD);
    fx_settle_store(fx);
    assert_string_equal(fx->reason, "refused by the function");
    fx_offer(fx, 2, 2, 1, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->durable_ticket, 2); /* taken in, not handled */
    assert_int_equal(fx->call_count, 0);
    hr_function_stats stats;
    hr_dispatch_function_stats(fx->d, 1, &stats);
    assert_non_null(stats.stalled);
    hr_dispatch_dead_ended(fx->d, 1);
    fx_wake(fx, 1);
    assert_int_equal(fx->call_count, 1);
    fx_free(fx);
}

static void s12_exhausted_attempts_end_as_a_dead_letter_and_free_the_key(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 2);
    fx_offer(fx, 2, 3, 1, 2);
    fx_settle_store(fx);
    while (fx->call_count > 0 && fx->calls[0]->events[0].batch->position[0] != 1) {
        fx_ok(fx);
    }
    for (uint32_t attempt = 1; attempt <= 3; attempt++) {
        assert_int_equal(fx->calls[0]->events[0].attempt, attempt);
        fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
        fx_settle_store(fx);
        fx_wake(fx, 11);
        fx_settle_store(fx);
    }
    assert_int_equal(fx->dead_rows, 1);
    assert_string_equal(fx->reason, "attempts exhausted");
    fx_wake(fx, 1);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    fx_free(fx);
}

static void s12_malformed_input_is_a_dead_letter_of_its_trigger_and_no_delivery(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx_start(fx);
    fx_settle_store(fx);
    hr_input input = {.kind = HR_IN_REJECT,
                      .reject = {.feed = FX_IN,
                                 .ticket = 1,
                                 .raw = hr_slice_text("{"),
                                 .why = hr_slice_text("no JSON")}};
    fx_step(fx, &input);
    assert_int_equal(fx->units[0]->function, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->durable_ticket, 1);
    assert_string_equal(fx->reason, "malformed");
    hr_feed_stats stats;
    hr_dispatch_feed_stats(fx->d, FX_IN, &stats);
    assert_int_equal(stats.counters.malformed, 1);
    assert_int_equal(stats.counters.received, 0);
    assert_int_equal(fx->checkpoint[1][FX_IN].counters.dead, 0);
    fx_free(fx);
}

static void s12_a_replay_carries_its_number(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->attribute = HR_ATTRIBUTE_REPLAY;
    fx->number = 2;
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->calls[0]->events[0].replay, 2);
    fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
    fx_settle_store(fx);
    fx_restart(fx); /* parked with it */
    fx_wake(fx, 11);
    fx_settle_store(fx);
    assert_int_equal(fx->calls[0]->events[0].replay, 2);
    fx_free(fx);
}

static void s15_counters_stand_in_the_unit_that_causes_them(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].lanes = 1;
    fx_start(fx);
    fx_offer(fx, 1, 1, 4, 0);
    fx_settle_store(fx);
    fx_ok(fx);
    assert_int_equal(fx->checkpoint[1][FX_IN].counters.delivered, 0);
    assert_true(fx->units[0]->counters.delivered > 0);
    uint64_t delivered = fx->units[0]->counters.delivered;
    fx_unit(fx, HR_OK);
    assert_int_equal(fx->checkpoint[1][FX_IN].counters.delivered, delivered);
    assert_int_equal(fx->checkpoint[1][FX_IN].low, 1 + delivered);
    fx_free(fx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s1_a_tick_and_its_instant_are_one_unit),
        cmocka_unit_test(s21_nothing_is_taken_while_the_start_of_a_function_is_refused),
        cmocka_unit_test(s14_a_checkpoint_alone_waits_for_the_next_and_takes_more_along),
        cmocka_unit_test(s1_results_stand_in_the_unit_that_settles_their_cause),
        cmocka_unit_test(s2_only_unsettled_bytes_stop_the_intake),
        cmocka_unit_test(s2_a_function_is_not_called_while_its_results_have_no_room),
        cmocka_unit_test(s2_running_calls_reserve_room_for_their_results),
        cmocka_unit_test(s2_results_that_nobody_takes_are_counted_only),
        cmocka_unit_test(s4_what_is_durable_goes_on_from_memory),
        cmocka_unit_test(s7_a_full_quota_of_parked_events_stalls_the_function),
        cmocka_unit_test(s8_on_a_journal_feed_every_function_has_its_own_pace),
        cmocka_unit_test(s12_full_dead_letters_stall_and_evict_nothing),
        cmocka_unit_test(s12_exhausted_attempts_end_as_a_dead_letter_and_free_the_key),
        cmocka_unit_test(s12_malformed_input_is_a_dead_letter_of_its_trigger_and_no_delivery),
        cmocka_unit_test(s12_a_replay_carries_its_number),
        cmocka_unit_test(s15_counters_stand_in_the_unit_that_causes_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
