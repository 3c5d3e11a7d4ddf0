/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that were taken out of the configuration (S21). */
#include "tests/unit/broker/dispatch_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A function with three events: one parked, one settled above the checkpoint, one pending; and one
 * beside it that has settled all. */
static fixture *with_work_left(void) {
    fixture *fx = fx_new();
    for (uint32_t f = 1; f <= 2; f++) {
        fx->functions[f] = (hr_function_policy){
            .name = "f",
            .id = f,
            .lanes = 3,
            .order = HR_ORDER_NONE,
            .batch_size = 1,
            .timeout_ms = 1000,
            .retry = {.attempts = 3, .min_ms = 1000, .max_ms = 1000, .max_age_ms = -1}};
        fx->takes[f] = FX_IN;
    }
    fx_start(fx);
    fx_offer(fx, 1, 1, 4, 0);
    fx_settle_store(fx);
    hr_exception retry = {.outcome = HR_OUTCOME_RETRY, .after_ms = -1};
    for (size_t i = 0; i < fx->call_count;) {
        uint64_t position =
            fx->calls[i]->events[0].batch->position[0] + fx->calls[i]->events[0].index;
        bool is_first = fx->calls[i]->function == 1;
        if (is_first && position == 2) {
            i++;
        } else {
            fx_answer(fx, i, HR_OK, &retry, is_first && position == 1 ? 1 : 0, false);
            fx_settle_store(fx);
            i = 0;
        }
    }
    assert_int_equal(fx->parked_count, 1);
    assert_int_equal(fx->checkpoint[1][FX_IN].low, 2);
    assert_true(fx->checkpoint[1][FX_IN].settled_size > 0);
    fx->functions[1].is_removed = true;
    fx->functions[1].lanes = 1;
    return fx;
}

static void s21_what_a_removed_function_left_becomes_dead_letters(void **state) {
    (void)state;
    fixture *fx = with_work_left();
    fx_restart(fx);
    fx_settle_store(fx);
    assert_true(fx->removed[1]);
    assert_int_equal(fx->dead_rows, 2); /* the pending one and the parked one */
    assert_string_equal(fx->reason, "removed");
    assert_int_equal(fx->parked_count, 0);
    assert_int_equal(fx->call_count, 0);
    fx_free(fx);
}

static void s21_what_comes_after_the_removal_is_not_its_own(void **state) {
    (void)state;
    fixture *fx = with_work_left();
    fx_restart(fx);
    fx_offer(fx, 2, 10, 3, 0);
    fx_settle_store(fx);
    fx_offer(fx, 3, 20, 3, 0);
    fx_settle_store(fx);
    assert_true(fx->removed[1]);
    assert_int_equal(fx->dead_rows, 2);
    assert_int_equal(fx->checkpoint[2][FX_IN].counters.dead, 0);
    fx_free(fx);
}

/* Its read is answered after more was appended: no checkpoint may pass that, or the function would
 * miss it if it came back before the store forgot it (simulator, seed 369). */
static void s21_what_comes_while_it_is_read_is_not_its_own_either(void **state) {
    (void)state;
    fixture *fx = with_work_left();
    fx_restart(fx);
    assert_true(fx->read_count > 0);
    fx_offer(fx, 2, 10, 3, 0);
    while (fx->unit_count > 0) {
        fx_unit(fx, HR_OK);
    }
    while (!fx->removed[1]) {
        assert_true(fx->checkpoint[1][FX_IN].low <= 5);
        assert_true(fx->unit_count + fx->read_count > 0);
        if (fx->unit_count > 0) {
            fx_unit(fx, HR_OK);
        } else {
            fx_serve(fx);
        }
    }
    assert_int_equal(fx->dead_rows, 2);
    fx_free(fx);
}

static void s21_a_removed_function_holds_no_feed_back(void **state) {
    (void)state;
    fixture *fx = with_work_left();
    fx_restart(fx);
    fx_settle_store(fx);
    fx_offer(fx, 2, 10, 3, 0);
    fx_settle_store(fx);
    while (fx->call_count > 0) {
        fx_answer(fx, 0, HR_OK, NULL, 0, false);
        fx_settle_store(fx);
    }
    hr_feed_stats stats;
    hr_dispatch_feed_stats(fx->d, FX_IN, &stats);
    assert_int_equal(stats.unsettled_bytes, 0);
    fx_free(fx);
}

static void s21_what_a_function_left_on_a_feed_it_takes_from_no_more_dies_too(void **state) {
    (void)state;
    fixture *fx = with_work_left();
    fx->functions[1].is_removed = false;
    fx->leaves = 1;
    fx_restart(fx);
    fx_offer(fx, 2, 10, 3, 0);
    fx_settle_store(fx);
    assert_true(fx->removed[1]);
    assert_int_equal(fx->dead_rows, 2);
    while (fx->call_count > 0) {
        assert_int_equal(fx->calls[0]->function, 2);
        fx_answer(fx, 0, HR_OK, NULL, 0, false);
        fx_settle_store(fx);
    }
    hr_feed_stats stats;
    hr_dispatch_feed_stats(fx->d, FX_IN, &stats);
    assert_int_equal(stats.unsettled_bytes, 0);
    hr_function_stats left;
    hr_dispatch_function_stats(fx->d, 1, &left);
    assert_int_equal(left.parked, 0);
    fx_free(fx);
}

static void s12_a_removal_waits_while_the_dead_letters_are_full(void **state) {
    (void)state;
    fixture *fx = with_work_left();
    fx->dead_max = 1;
    fx->dead_rows = 1;
    fx_restart(fx);
    fx_settle_store(fx);
    assert_false(fx->removed[1]);
    assert_int_equal(fx->dead_rows, 1);
    hr_dispatch_dead_ended(fx->d, 1);
    fx_wake(fx, 1);
    fx_settle_store(fx);
    assert_true(fx->removed[1]);
    fx_free(fx);
}

static void s21_a_removal_survives_a_crash_at_any_commit(void **state) {
    (void)state;
    for (int commits = 0; commits < 6; commits++) {
        fixture *fx = with_work_left();
        fx_restart(fx);
        for (int i = 0; i < commits; i++) {
            if (fx->unit_count > 0) {
                fx_unit(fx, HR_OK);
            } else if (fx->read_count > 0) {
                fx_serve(fx);
            }
        }
        if (!fx->removed[1]) {
            fx_restart(fx);
        }
        fx_settle_store(fx);
        assert_true(fx->removed[1]);
        assert_int_equal(fx->dead_rows, 2);
        fx_free(fx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s21_what_a_removed_function_left_becomes_dead_letters),
        cmocka_unit_test(s21_what_comes_after_the_removal_is_not_its_own),
        cmocka_unit_test(s21_what_comes_while_it_is_read_is_not_its_own_either),
        cmocka_unit_test(s21_a_removed_function_holds_no_feed_back),
        cmocka_unit_test(s21_what_a_function_left_on_a_feed_it_takes_from_no_more_dies_too),
        cmocka_unit_test(s12_a_removal_waits_while_the_dead_letters_are_full),
        cmocka_unit_test(s21_a_removal_survives_a_crash_at_any_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
