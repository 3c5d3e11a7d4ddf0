/* SPDX-License-Identifier: Apache-2.0 */
/* Pull feeds: start, credit, what the group is told, revocation, fencing, return (S5, S8, S17). */
#include "core/envelope.h"
#include "tests/unit/broker/dispatch_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const hr_exception retried = {.outcome = HR_OUTCOME_RETRY, .after_ms = -1};

/* Functions 1 .. count take from the pull feed, in the order of keys. */
static fixture *takers(uint32_t count) {
    fixture *fx = fx_new();
    for (uint32_t f = 1; f <= count; f++) {
        fx->functions[f] = (hr_function_policy){
            .name = "f",
            .id = f,
            .lanes = 1,
            .batch_size = 1,
            .timeout_ms = 1000,
            .retry = {.attempts = 3, .min_ms = 10, .max_ms = 10, .max_age_ms = -1}};
        fx->takes[f] = FX_PULL;
    }
    fx_start(fx);
    return fx;
}

/* One function, assigned, so many events of one key delivered and taken. */
static fixture *one_with(uint32_t events) {
    fixture *fx = takers(1);
    fx_assign(fx);
    fx_settle_store(fx);
    fx_produce(fx, events, 1);
    fx_deliver(fx, events);
    fx_settle_store(fx);
    return fx;
}

static const hr_counters *counters(const fixture *fx) {
    return &fx->checkpoint[1][FX_PULL].counters;
}

static void s17_nothing_is_dispatched_before_every_start_is_durable(void **state) {
    (void)state;
    fixture *fx = takers(2);
    fx_produce(fx, 3, 0);
    fx_assign(fx);
    fx_deliver(fx, 3);
    assert_int_equal(fx->unit_count, 2);
    assert_int_equal(fx->call_count, 0);
    fx_unit(fx, HR_OK);
    assert_int_equal(fx->call_count, 0); /* the second may not begin where the first stands */
    fx_unit(fx, HR_OK);
    assert_int_equal(fx->call_count, 2);
    fx_free(fx);
}

static void s8_the_credit_ends_while_a_function_takes_nothing(void **state) {
    (void)state;
    fixture *fx = takers(2);
    fx->functions[2].parked_max_bytes = 1;
    fx_restart(fx);
    fx_assign(fx);
    fx_settle_store(fx);
    assert_int_equal(fx->credit, HR_PULL_FIRST);
    fx_produce(fx, 2, 1);
    fx_deliver(fx, 1);
    fx_settle_store(fx);
    for (size_t i = 0; i < fx->call_count; i++) {
        if (fx->calls[i]->function == 2) {
            fx_answer(fx, i, HR_OK, &retried, 1, false);
        }
    }
    fx_deliver(fx, 1); /* the second function stalls: what it parked is over its quota */
    fx_settle_store(fx);
    assert_int_equal(fx->credit, HR_PULL_EVENTS - 1); /* of small ones as many as may be */
    hr_feed_stats stats;
    hr_dispatch_feed_stats(fx->d, FX_PULL, &stats);
    assert_int_equal(stats.in_memory, 1); /* kept for the second, taken by the first */
    fx_free(fx);
}

/* Of large events fewer are asked for: what is in memory and on its way is bounded in bytes. */
static void o_f5_the_credit_of_a_partition_follows_the_size_of_its_events(void **state) {
    (void)state;
    fixture *fx = takers(1);
    fx_assign(fx);
    fx_settle_store(fx);
    assert_int_equal(fx->credit, HR_PULL_FIRST);
    static uint8_t large[1 << 20];
    hr_builder builder = {0};
    hr_fields fields = {.id = hr_slice_text("1"),
                        .source = hr_slice_text("/large"),
                        .type = hr_slice_text("t"),
                        .data = hr_slice_of(large, sizeof large),
                        .has_data = true};
    assert_int_equal(hr_builder_pack(&builder, 1, &fields, NULL), HR_OK);
    hr_input input = {.kind = HR_IN_DELIVER,
                      .deliver = {.take_batch = hr_builder_finish(&builder, FX_PULL, fx->epoch)}};
    hr_builder_fini(&builder);
    fx->want = 0;
    fx_step(fx, &input);
    assert_int_equal(fx->call_count, 1);
    assert_int_equal(fx->want, 0); /* what may still come is more than enough */
    fx->credit = HR_PULL_FIRST - 1;
    fx_produce(fx, HR_PULL_FIRST, 0); /* the first is the large one */
    fx->sent = 2;
    fx_deliver(fx, HR_PULL_FIRST - 1);
    assert_int_equal(fx->sent, HR_PULL_FIRST + 1);
    assert_in_range(fx->want, 1, 64); /* not 32,768: it was large a moment ago */
    fx_free(fx);
}

static void o_k1_s17_the_group_is_told_what_is_settled_or_was_attempted(void **state) {
    (void)state;
    fixture *fx = one_with(3);
    assert_int_equal(fx->group, 1);
    fx_answer(fx, 0, HR_OK, &retried, 1, false); /* 1 waits, 2 and 3 are held back, untried */
    fx_settle_store(fx);
    assert_int_equal(fx->checkpoint[1][FX_PULL].low, 4);
    assert_int_equal(fx->parked_count, 3);
    assert_int_equal(fx->group, 2);
    fx_wake(fx, 11);
    fx_settle_store(fx);
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    fx_settle_store(fx);
    fx_wake(fx, 1);
    fx_settle_store(fx);
    assert_int_equal(fx->calls[0]->events[0].batch->position[0], 2);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx_settle_store(fx);
    assert_int_equal(fx->group, 3);
    fx_free(fx);
}

static void o_k1_s17_the_slowest_function_holds_the_group_back(void **state) {
    (void)state;
    fixture *fx = takers(2);
    fx_assign(fx);
    fx_produce(fx, 2, 0);
    fx_settle_store(fx);
    fx_deliver(fx, 2);
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    fx_settle_store(fx);
    assert_int_equal(fx->group, 1);
    fx_answer(fx, 0, HR_OK, NULL, 0, false); /* the other function's first */
    fx_settle_store(fx);
    assert_int_equal(fx->group, 2);
    fx_free(fx);
}

static void s17_what_was_parked_untried_goes_to_the_next_owner(void **state) {
    (void)state;
    fixture *fx = one_with(3);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx_settle_store(fx);
    fx_revoke(fx);
    assert_int_equal(fx->revoked, 0);
    fx_settle_store(fx);
    assert_int_equal(fx->revoked, 1);
    assert_int_equal(fx->group, 2);
    assert_int_equal(fx->parked_count, 1); /* 1 was attempted and stays ours */
    assert_int_equal(fx->checkpoint[1][FX_PULL].low, 2);
    assert_int_equal(counters(fx)->deliveries, 1);
    fx_free(fx);
}

static void s17_what_is_parked_below_the_start_stays_ours(void **state) {
    (void)state;
    fixture *fx = one_with(3);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx_settle_store(fx); /* 2 and 3 are parked untried */
    fx_restart(fx);
    fx_assign(fx); /* the store knows 4, and that is what the group is told */
    fx_settle_store(fx);
    assert_int_equal(fx->group, 4);
    fx_revoke(fx);
    fx_settle_store(fx);
    assert_int_equal(fx->parked_count, 3); /* the next owner starts at 4 */
    fx_free(fx);
}

static void s17_what_was_attempted_is_tried_on_while_the_feed_is_away(void **state) {
    (void)state;
    fixture *fx = one_with(2);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx_settle_store(fx);
    fx_revoke(fx);
    fx_settle_store(fx);
    fx_other_owner(fx, 3);
    fx_wake(fx, 11);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    assert_int_equal(fx->calls[0]->events[0].batch->position[0], 1);
    assert_int_equal(fx->calls[0]->events[0].attempt, 2);
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    fx_settle_store(fx);
    assert_int_equal(fx->parked_count, 0);
    assert_int_equal(counters(fx)->delivered, 1);
    assert_int_equal(counters(fx)->deliveries, 1);
    assert_int_equal(fx->group, 3); /* nothing is told of a feed that is not ours */
    fx_free(fx);
}

static void s17_a_retry_queued_at_the_revocation_is_tried_on(void **state) {
    (void)state;
    fixture *fx = one_with(1);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx_settle_store(fx);
    hr_input room = {.kind = HR_IN_ROOM, .room = {.function = 1}};
    fx_step(fx, &room);
    fx_wake(fx, 11);
    fx_settle_store(fx); /* fetched, in its lane, but no call may run */
    assert_int_equal(fx->call_count, 0);
    fx_revoke(fx);
    assert_int_equal(fx->revoked, 1);
    room.room.slots = 1;
    fx_step(fx, &room);
    fx_wake(fx, 1);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    fx_free(fx);
}

static void s17_after_a_crash_all_that_is_parked_is_tried_though_the_feed_is_away(void **state) {
    (void)state;
    fixture *fx = one_with(2);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx_settle_store(fx);
    fx_restart(fx);
    assert_false(fx->is_owned);
    for (int i = 0; i < 4; i++) {
        fx_wake(fx, 11);
        fx_settle_store(fx);
        if (fx->call_count > 0) {
            fx_answer(fx, 0, HR_OK, NULL, 0, false);
        }
    }
    fx_settle_store(fx);
    assert_int_equal(fx->parked_count, 0);
    assert_int_equal(counters(fx)->delivered, 2);
    assert_int_equal(counters(fx)->deliveries, 2);
    fx_free(fx);
}

/* While the feed is away nobody knows whose trigger it is of (simulator, seed 533). */
static void s21_what_is_parked_of_a_feed_that_was_left_dies_when_that_comes(void **state) {
    (void)state;
    fixture *fx = one_with(2);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx_settle_store(fx);
    fx_restart(fx);
    assert_int_equal(fx->parked_count, 2); /* one behind the other */
    fx->leaves = 1;
    fx_assign(fx);
    fx_settle_store(fx);
    assert_true(fx->removed[1]);
    assert_int_equal(fx->dead_rows, 2);
    assert_int_equal(fx->parked_count, 0);
    hr_function_stats left;
    hr_dispatch_function_stats(fx->d, 1, &left);
    assert_int_equal(left.parked, 0);
    for (int i = 0; i < 4; i++) {
        fx_wake(fx, 1000);
        fx_settle_store(fx);
    }
    assert_int_equal(fx->call_count, 0);
    fx_free(fx);
}

static void
o_k2_s17_the_revocation_waits_for_running_calls_until_it_must_forget_them(void **state) {
    (void)state;
    fixture *fx = one_with(2);
    fx_revoke(fx);
    fx_settle_store(fx);
    assert_int_equal(fx->revoked, 0);
    fx_forget(fx);
    assert_int_equal(fx->revoked, 1);
    fx_other_owner(fx, 2);
    fx_answer(fx, 0, HR_OK, NULL, 0, false); /* the next owner has it: not counted here */
    fx_settle_store(fx);
    assert_int_equal(counters(fx)->delivered, 0);
    assert_int_equal(counters(fx)->deliveries, 0);
    fx_assign(fx);
    assert_int_equal(fx->sent, 2);
    fx_free(fx);
}

static void an_answer_from_before_the_return_of_the_feed_means_nothing(void **state) {
    (void)state;
    fixture *fx = one_with(2);
    fx_revoke(fx);
    fx_forget(fx);
    fx_settle_store(fx);
    fx_assign(fx);
    fx_settle_store(fx);
    fx_deliver(fx, 2);
    assert_int_equal(fx->call_count, 1); /* the first call still holds the only lane */
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    assert_int_equal(fx->call_count, 1);
    assert_int_equal(fx->calls[0]->events[0].batch->position[0], 1);
    fx_settle_store(fx);
    assert_int_equal(counters(fx)->delivered, 0);
    fx_free(fx);
}

static void s5_a_fenced_feed_is_given_up_whole(void **state) {
    (void)state;
    fixture *fx = one_with(3);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx->epoch++; /* somebody else opened it */
    fx_settle_store(fx);
    assert_int_equal(fx->revoked, 1);
    assert_int_equal(fx->parked_count, 0); /* the unit was skipped whole */
    assert_int_equal(fx->checkpoint[1][FX_PULL].low, 1);
    fx_wake(fx, 1000);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 0);
    assert_int_equal(fx->read_count, 0);
    fx_assign(fx); /* it comes back: from the start, nothing is lost */
    fx_settle_store(fx);
    fx_deliver(fx, 3);
    assert_int_equal(fx->calls[0]->events[0].batch->position[0], 1);
    fx_free(fx);
}

static void s5_a_fence_during_a_revocation_ends_it(void **state) {
    (void)state;
    fixture *fx = one_with(3);
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    fx_revoke(fx);
    fx->epoch++;
    while (fx->unit_count > 0) {
        fx_unit(fx, HR_OK);
    }
    assert_int_equal(fx->revoked, 1);
    fx_free(fx);
}

static void s5_a_unit_of_an_older_epoch_does_not_end_the_feed_that_came_back(void **state) {
    (void)state;
    fixture *fx = one_with(1);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx_settle_store(fx);
    fx_revoke(fx);
    fx_settle_store(fx);
    fx_wake(fx, 11);
    fx_serve(fx);
    fx_answer(fx, 0, HR_OK, NULL, 0, false); /* settled while away; its unit is on its way */
    assert_int_equal(fx->unit_count, 1);
    uint32_t revoked = fx->revoked;
    fx_assign(fx);
    fx_settle_store(fx); /* fenced */
    assert_int_equal(fx->revoked, revoked);
    assert_true(fx->is_owned);
    assert_int_equal(fx->parked_count, 1); /* so it is tried again: twice rather than never */
    fx_wake(fx, 11);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    fx_settle_store(fx);
    assert_int_equal(fx->parked_count, 0);
    assert_int_equal(counters(fx)->delivered, 1);
    fx_free(fx);
}

/* Two functions tried on what they had parked; one of them learns that the epoch is gone, and the
 * feed comes back while the unit of the other is on its way (simulator, seed 37600). */
static void s5_a_fence_while_the_feed_is_away_does_not_bring_it_back(void **state) {
    (void)state;
    fixture *fx = takers(2);
    fx_assign(fx);
    fx_settle_store(fx);
    fx_produce(fx, 1, 1);
    fx_deliver(fx, 1);
    fx_settle_store(fx);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx_settle_store(fx);
    fx_revoke(fx);
    fx_settle_store(fx);
    fx_wake(fx, 11);
    fx_serve(fx);
    fx_serve(fx);
    assert_int_equal(fx->call_count, 2);
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    assert_int_equal(fx->unit_count, 2);
    uint32_t revoked = fx->revoked;
    fx->epoch++; /* somebody else opened it */
    fx_unit(fx, HR_OK);
    assert_int_equal(fx->unit_count, 1);
    fx_assign(fx);
    fx_settle_store(fx);
    assert_int_equal(fx->revoked, revoked);
    assert_true(fx->is_owned);
    assert_int_equal(fx->parked_count, 2); /* neither unit was written: both are tried again */
    fx_wake(fx, 11);
    fx_settle_store(fx);
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    fx_settle_store(fx);
    assert_int_equal(fx->parked_count, 0);
    fx_free(fx);
}

static void a_read_of_parked_events_from_before_the_return_is_harmless(void **state) {
    (void)state;
    fixture *fx = one_with(1);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx_settle_store(fx);
    fx_wake(fx, 11);
    assert_int_equal(fx->read_count, 1); /* on its way while the feed goes and comes back */
    fx_revoke(fx);
    assert_int_equal(fx->revoked, 1);
    fx_assign(fx);
    while (fx->unit_count > 0) {
        fx_unit(fx, HR_OK);
    }
    fx_wake(fx, 11);
    assert_int_equal(fx->read_count, 2);
    fx->reads[0].count = 0; /* it found nothing: that must not be taken for the new one's answer */
    fx_settle_store(fx);
    assert_int_equal(fx->dead_rows, 0);
    assert_int_equal(fx->call_count, 1);
    assert_int_equal(fx->calls[0]->events[0].attempt, 2);
    fx_free(fx);
}

static void every_event_delivered_adds_up_for_each_function(void **state) {
    (void)state;
    fixture *fx = one_with(4);
    hr_exception drop = {.outcome = HR_OUTCOME_DROP}, dead = {.outcome = HR_OUTCOME_DEAD};
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    fx_answer(fx, 0, HR_OK, &drop, 1, false);
    fx_answer(fx, 0, HR_OK, &dead, 1, false);
    fx_answer(fx, 0, HR_OK, &retried, 1, false);
    fx_settle_store(fx);
    const hr_counters *c = counters(fx);
    assert_int_equal(c->deliveries, 4);
    assert_int_equal(c->delivered + c->dropped + c->dead, 3);
    assert_int_equal(fx->parked_count, 1);
    fx_free(fx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s17_nothing_is_dispatched_before_every_start_is_durable),
        cmocka_unit_test(s8_the_credit_ends_while_a_function_takes_nothing),
        cmocka_unit_test(o_f5_the_credit_of_a_partition_follows_the_size_of_its_events),
        cmocka_unit_test(o_k1_s17_the_group_is_told_what_is_settled_or_was_attempted),
        cmocka_unit_test(o_k1_s17_the_slowest_function_holds_the_group_back),
        cmocka_unit_test(s17_what_was_parked_untried_goes_to_the_next_owner),
        cmocka_unit_test(s17_what_is_parked_below_the_start_stays_ours),
        cmocka_unit_test(s17_what_was_attempted_is_tried_on_while_the_feed_is_away),
        cmocka_unit_test(s17_a_retry_queued_at_the_revocation_is_tried_on),
        cmocka_unit_test(s17_after_a_crash_all_that_is_parked_is_tried_though_the_feed_is_away),
        cmocka_unit_test(s21_what_is_parked_of_a_feed_that_was_left_dies_when_that_comes),
        cmocka_unit_test(o_k2_s17_the_revocation_waits_for_running_calls_until_it_must_forget_them),
        cmocka_unit_test(an_answer_from_before_the_return_of_the_feed_means_nothing),
        cmocka_unit_test(s5_a_fenced_feed_is_given_up_whole),
        cmocka_unit_test(s5_a_fence_during_a_revocation_ends_it),
        cmocka_unit_test(s5_a_fence_while_the_feed_is_away_does_not_bring_it_back),
        cmocka_unit_test(s5_a_unit_of_an_older_epoch_does_not_end_the_feed_that_came_back),
        cmocka_unit_test(a_read_of_parked_events_from_before_the_return_is_harmless),
        cmocka_unit_test(every_event_delivered_adds_up_for_each_function),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
