/* SPDX-License-Identifier: Apache-2.0 */
/* One rule of docs/semantics.md each. */
#include "core/log.h"
#include "tests/unit/broker/dispatch_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void all_match(hr_matcher *self, const hr_batch *batch, uint64_t *out_bits) {
    (void)self;
    (void)batch;
    out_bits[0] = UINT64_MAX;
}

static void one_key(hr_matcher *self, const hr_batch *batch, uint64_t *out_keys) {
    (void)self;
    for (uint32_t i = 0; i < batch->count; i++) {
        out_keys[i] = 77;
    }
}

static void s9_a_call_says_what_is_held_back_together(void **state) {
    (void)state;
    static const struct {
        hr_order order;
        bool has_key;
        uint64_t expected; /* 0: the event's own */
    } cases[] = {{HR_ORDER_KEY, false, 0}, {HR_ORDER_KEY, true, 77}, {HR_ORDER_FEED, true, 1}};
    hr_matcher matcher = {.match = all_match, .keys = one_key};
    int keyed = 0;
    for (size_t i = 0; i < 3; i++) {
        fixture *fx = fx_one();
        fx->functions[1].lanes = 1;
        fx->functions[1].order = cases[i].order;
        fx->functions[1].matcher = cases[i].has_key ? &matcher : NULL;
        fx_start(fx);
        fx_offer(fx, 1, 1, 4, 2);
        fx_settle_store(fx);
        assert_int_equal(fx->calls[0]->count, 4);
        for (int n = 0; n < 4; n++) {
            const hr_event_ref *ref = &fx->calls[0]->events[n];
            uint64_t own = ref->batch->view[ref->index].key_hash;
            keyed += own != 0;
            assert_true(ref->key_hash == (cases[i].expected == 0 ? own : cases[i].expected));
        }
        fx_free(fx);
    }
    assert_true(keyed > 0);
    fixture *fx = fx_one();
    fx->functions[1].order = HR_ORDER_NONE;
    fx_start(fx);
    fx_offer(fx, 1, 1, 4, 2);
    fx_settle_store(fx);
    assert_int_equal(fx->calls[0]->events[0].key_hash, 0);
    fx_free(fx);
}

static void s7_a_retry_is_parked_at_once_and_the_checkpoint_passes(void **state) {
    (void)state;
    fixture *fx = fx_one();
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

/* Ten events of which the first runs and runs, in a window of four. */
static fixture *full_window(void) {
    fixture *fx = fx_one();
    fx->window = 4;
    fx->functions[1].batch_size = 1;
    fx_start(fx);
    for (uint64_t i = 1; i <= 10; i++) {
        fx_offer(fx, i, i, 1, 0);
        fx_settle_store(fx);
        while (fx->call_count > 1) {
            fx_answer(fx, 1, HR_OK, NULL, 0, false);
            fx_settle_store(fx);
        }
    }
    return fx;
}

static void s7_an_event_that_still_runs_when_it_leaves_the_window_is_parked(void **state) {
    (void)state;
    fixture *fx = full_window();
    assert_int_equal(fx->calls[0]->events[0].batch->position[0], 1);
    assert_true(fx->checkpoint[1][FX_IN].low > 6); /* it does not wait for the first */
    assert_int_equal(fx->parked[0].row.position, 1);
    assert_int_equal(fx->parked[0].row.state, HR_PARKED_RUNNING);
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    fx_settle_store(fx);
    while (fx->call_count > 0) {
        fx_answer(fx, 0, HR_OK, NULL, 0, false);
        fx_settle_store(fx);
    }
    assert_int_equal(fx->parked_count, 0);
    assert_int_equal(fx->checkpoint[1][FX_IN].low, 11);
    assert_int_equal(fx->checkpoint[1][FX_IN].counters.delivered, 10);
    fx_free(fx);
}

static void s7_what_was_parked_as_running_is_retried_after_a_restart(void **state) {
    (void)state;
    fixture *fx = full_window();
    fx_restart(fx);
    fx_settle_store(fx);
    bool again = false;
    for (size_t i = 0; i < fx->call_count; i++) {
        again = again || fx->calls[i]->events[0].batch->position[0] == 1;
    }
    assert_true(again);
    fx_free(fx);
}

static void s7_what_ran_out_of_the_window_and_fails_waits_like_others(void **state) {
    (void)state;
    fixture *fx = full_window();
    fx_answer(fx, 0, HR_OK, &(hr_exception){.outcome = HR_OUTCOME_RETRY, .after_ms = -1}, 1, false);
    fx_settle_store(fx);
    assert_int_equal(fx->parked[0].row.position, 1);
    assert_int_equal(fx->parked[0].row.state, HR_PARKED_RETRY);
    assert_int_equal(fx->parked[0].row.attempt, 1);
    fx_free(fx);
}

/* Events with hr_batch.size bytes each, of which a function with one lane has only so many in
 * memory when it hangs in the first. */
static void o_f5_a_function_that_hangs_holds_a_bounded_number_of_bytes(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].lanes = fx->functions[1].batch_size = 1;
    fx->queue_bytes = 1000;
    fx_start(fx);
    for (uint64_t i = 1; i <= 200; i++) {
        fx_offer(fx, i, i, 1, 0);
        fx_settle_store(fx);
    }
    uint64_t each = fx->journal[FX_IN][1].one->view[0].size;
    hr_function_stats stats;
    hr_dispatch_function_stats(fx->d, 1, &stats);
    assert_int_equal(fx->call_count, 1);
    assert_in_range(stats.queued, 1000 / each - 1, 1000 / each + 2);
    for (int i = 0; i < 200; i++) { /* it goes on: nothing was forgotten, nothing comes twice */
        assert_int_equal(fx->call_count, 1);
        assert_int_equal(fx->calls[0]->events[0].batch->position[0], i + 1);
        fx_answer(fx, 0, HR_OK, NULL, 0, false);
        fx_settle_store(fx);
    }
    assert_int_equal(fx->call_count, 0);
    assert_int_equal(fx->parked_count, 0);
    assert_int_equal(fx->checkpoint[1][FX_IN].counters.delivered, 200);
    fx_free(fx);
}

static void o_f5_an_event_that_hangs_lets_go_of_the_bytes_behind_it(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].lanes = 1000; /* of which one hangs */
    fx->functions[1].batch_size = 1;
    fx->window_bytes = 2000;
    fx_start(fx);
    for (uint64_t i = 1; i <= 200; i++) {
        fx_offer(fx, i, i, 1, 0);
        fx_settle_store(fx);
        while (fx->call_count > 1) { /* all but the first */
            fx_answer(fx, 1, HR_OK, NULL, 0, false);
            fx_settle_store(fx);
        }
    }
    assert_int_equal(fx->calls[0]->events[0].batch->position[0], 1);
    assert_int_equal(fx->parked_count, 1);
    assert_int_equal(fx->parked[0].row.position, 1);
    assert_int_equal(fx->parked[0].row.state, HR_PARKED_RUNNING);
    assert_true(fx->checkpoint[1][FX_IN].low > 150);
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
    fx_settle_store(fx);
    assert_int_equal(fx->parked_count, 0);
    assert_int_equal(fx->checkpoint[1][FX_IN].counters.delivered, 200);
    fx_free(fx);
}

static void a_result_too_deep_in_a_chain_is_a_dead_letter(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].result_feed = FX_RESULTS;
    fx->functions[2] = fx->functions[1];
    fx->functions[2].id = 2;
    fx->functions[2].result_feed = 0;
    fx->functions[2].max_hops = 3;
    fx->takes[2] = FX_RESULTS;
    fx_start(fx);
    fx_settle_store(fx);
    fx_offer(fx, 1, 1, 2, 0);
    fx_settle_store(fx);
    fx->attribute = HR_ATTRIBUTE_HOPS;
    fx->number = 3;
    fx_answer(fx, 0, HR_OK, NULL, 0, true);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 2);
    assert_int_equal(fx->dead_rows, 0);
    fx->number = 4;
    fx_answer(fx, fx->calls[0]->function == 1 ? 0 : 1, HR_OK, NULL, 0, true);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 1);
    assert_int_equal(fx->dead_rows, 1);
    assert_string_equal(fx->reason, "too many hops");
    assert_int_equal(fx->checkpoint[2][FX_RESULTS].counters.dead, 1);
    fx_free(fx);
}

static void the_count_of_attempts_stays_within_its_sixteen_bits(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->functions[1].retry.attempts = 0;
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    hr_exception retry = {.outcome = HR_OUTCOME_RETRY, .after_ms = -1};
    fx_answer(fx, 0, HR_OK, &retry, 1, false);
    fx_settle_store(fx);
    fx->parked[0].row.attempt = 65533;
    fx_restart(fx);
    for (int i = 0; i < 4; i++) {
        fx_wake(fx, 60000);
        fx_settle_store(fx);
        assert_int_equal(fx->call_count, 1);
        assert_int_equal(fx->calls[0]->events[0].attempt, i == 0 ? 65534 : 65535);
        fx_answer(fx, 0, HR_OK, &retry, 1, false);
        fx_settle_store(fx);
    }
    fx_free(fx);
}

static void s16_a_duplicate_is_not_acknowledged_when_its_first_copy_was_refused(void **state) {
    (void)state;
    fixture *fx = fx_one();
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

static void s16_what_has_left_the_window_is_deleted_from_the_store_too(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->dedupe = true; /* the last 1,000 ids */
    fx_start(fx);
    while (fx->unit_count > 0) {
        fx_unit(fx, HR_OK);
    }
    fx_offer(fx, 1, 1, 1024, 0);
    const hr_unit *unit = fx->units[fx->unit_count - 1];
    assert_int_equal(unit->row_count, 1);
    assert_int_equal(unit->rows[0].kind, HR_ROW_SEEN);
    int64_t first_ms = unit->rows[0].due_ms;
    fx_unit(fx, HR_OK);
    fx_wake(fx, 10);
    fx_offer(fx, 2, 1025, 1000, 0);
    unit = fx->units[fx->unit_count - 1];
    assert_int_equal(unit->row_count, 2);
    assert_int_equal(unit->rows[0].kind, HR_ROW_SEEN);
    assert_int_equal(unit->rows[1].kind, HR_ROW_SEEN_TRIM);
    assert_int_equal(unit->rows[1].feed, unit->feed);
    assert_true(unit->rows[1].due_ms > first_ms && unit->rows[1].due_ms <= unit->rows[0].due_ms);
    fx_free(fx);
}

static void s16_an_id_that_was_made_here_is_not_remembered(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx->dedupe = fx->makes_ids = true;
    fx_start(fx);
    while (fx->unit_count > 0) {
        fx_unit(fx, HR_OK);
    }
    fx_offer(fx, 1, 1, 3, 0);
    const hr_unit *unit = fx->units[fx->unit_count - 1];
    assert_int_equal(unit->row_count, 0);
    fx_unit(fx, HR_OK);
    assert_int_equal(fx->durable_ticket, 1);
    assert_int_equal(fx->next[FX_IN], 4);
    fx_free(fx);
}

static void a_damaged_settled_set_means_once_more_and_never_twice_at_once(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx_start(fx);
    fx_offer(fx, 1, 1, 5, 0);
    fx_settle_store(fx);
    hr_exception retry = {.outcome = HR_OUTCOME_RETRY, .after_ms = -1};
    fx_answer(fx, 0, HR_OK, &retry, 1, false);
    fx_settle_store(fx);
    while (fx->call_count > 0) {
        fx_ok(fx);
        fx_settle_store(fx);
    }
    assert_int_equal(fx->parked_count, 1);
    fx_checkpoint *at = &fx->checkpoint[1][FX_IN];
    at->low = 1;
    at->settled[0] = 5; /* a gap without its length */
    at->settled_size = 1;
    fx_restart(fx);
    uint32_t called[6] = {0};
    for (int i = 0; i < 20; i++) {
        fx_settle_store(fx);
        while (fx->call_count > 0) {
            for (uint32_t k = 0; k < fx->calls[0]->count; k++) {
                const hr_event_ref *ref = &fx->calls[0]->events[k];
                called[ref->batch->position[ref->index]]++;
            }
            fx_ok(fx);
        }
        fx_wake(fx, 60000);
    }
    for (int i = 1; i < 6; i++) {
        assert_int_equal(called[i], 1);
    }
    assert_int_equal(fx->checkpoint[1][FX_IN].low, 6);
    assert_int_equal(fx->parked_count, 0);
    fx_free(fx);
}

int main(void) {
    hr_log_set_level((hr_level)(HR_LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s7_a_retry_is_parked_at_once_and_the_checkpoint_passes),
        cmocka_unit_test(s7_an_event_that_still_runs_when_it_leaves_the_window_is_parked),
        cmocka_unit_test(s7_what_was_parked_as_running_is_retried_after_a_restart),
        cmocka_unit_test(o_f5_a_function_that_hangs_holds_a_bounded_number_of_bytes),
        cmocka_unit_test(o_f5_an_event_that_hangs_lets_go_of_the_bytes_behind_it),
        cmocka_unit_test(s7_what_ran_out_of_the_window_and_fails_waits_like_others),
        cmocka_unit_test(a_result_too_deep_in_a_chain_is_a_dead_letter),
        cmocka_unit_test(the_count_of_attempts_stays_within_its_sixteen_bits),
        cmocka_unit_test(s9_a_call_says_what_is_held_back_together),
        cmocka_unit_test(a_damaged_settled_set_means_once_more_and_never_twice_at_once),
        cmocka_unit_test(s16_a_duplicate_is_not_acknowledged_when_its_first_copy_was_refused),
        cmocka_unit_test(s16_an_id_that_was_made_here_is_not_remembered),
        cmocka_unit_test(s16_what_has_left_the_window_is_deleted_from_the_store_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
