/* SPDX-License-Identifier: Apache-2.0 */
/* A store that cannot be read or refuses a unit for its own fault: asked again with pauses, the
 * function stands meanwhile and says so. */
#include "tests/unit/broker/dispatch_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Two events of the journal that are to be read after a restart. */
static fixture *to_be_read(void) {
    fixture *fx = fx_one();
    fx_start(fx);
    fx_offer(fx, 1, 1, 2, 0);
    fx_settle_store(fx);
    fx_restart(fx);
    while (fx->unit_count > 0) {
        fx_unit(fx, HR_OK);
    }
    assert_int_equal(fx->read_count, 1);
    return fx;
}

static void a_read_that_fails_is_asked_for_again_after_a_pause(void **state) {
    (void)state;
    fixture *fx = to_be_read();
    fx_read_fails(fx);
    assert_int_equal(fx->read_count, 0); /* not at once */
    assert_true(fx->wake_ns <= (fx->now_ms + 1000) * 1000000);
    fx_wake(fx, 999);
    assert_int_equal(fx->read_count, 0);
    fx_wake(fx, 1);
    assert_int_equal(fx->read_count, 1);
    fx_settle_store(fx);
    assert_int_equal(fx->call_count, 2);
    fx_free(fx);
}

/* One event is settled; the store refuses the unit that says so. */
static fixture *refused(void) {
    fixture *fx = fx_one();
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    fx_ok(fx);
    assert_int_equal(fx->unit_count, 1);
    fx_unit(fx, HR_E_INVALID);
    return fx;
}

static const char *stalled(const fixture *fx) {
    hr_function_stats stats;
    hr_dispatch_function_stats(fx->d, 1, &stats);
    return stats.stalled;
}

static void a_refused_unit_stalls_its_function_and_names_why(void **state) {
    (void)state;
    fixture *fx = refused();
    assert_string_equal(stalled(fx), "the store refuses what it settled; the log says why");
    fx_offer(fx, 2, 2, 3, 0);
    fx_unit(fx, HR_OK);
    assert_int_equal(fx->durable_ticket, 2); /* the trigger goes on */
    assert_int_equal(fx->call_count, 0);     /* what could not be settled is not taken */
    fx_free(fx);
}

static void a_refused_unit_is_tried_ever_more_rarely(void **state) {
    (void)state;
    fixture *fx = refused();
    uint64_t waits_ms[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    for (size_t i = 0; i < sizeof waits_ms / sizeof *waits_ms; i++) {
        fx_wake(fx, waits_ms[i] - 1);
        assert_int_equal(fx->unit_count, 0);
        fx_wake(fx, 1);
        assert_int_equal(fx->unit_count, 1);
        fx_unit(fx, HR_E_STORE_CORRUPT);
    }
    fx_free(fx);
}

static void a_refused_unit_that_stands_at_last_frees_its_function(void **state) {
    (void)state;
    fixture *fx = refused();
    fx_offer(fx, 2, 2, 1, 0);
    fx_unit(fx, HR_OK);
    fx_wake(fx, 1000);
    fx_settle_store(fx);
    assert_null(stalled(fx));
    assert_int_equal(fx->checkpoint[1][FX_IN].low, 2);
    assert_int_equal(fx->call_count, 1);
    fx_free(fx);
}

static void a_refused_unit_does_not_hold_the_end_up(void **state) {
    (void)state;
    fixture *fx = refused();
    hr_input drain = {.kind = HR_IN_DRAIN};
    fx_step(fx, &drain);
    assert_true(hr_dispatch_is_idle(fx->d));
    fx_free(fx);
}

static void after_a_full_disk_a_unit_is_tried_each_second(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    fx_ok(fx);
    for (int i = 0; i < 5; i++) {
        fx_unit(fx, HR_E_STORE_FULL);
        assert_null(stalled(fx));
        fx_wake(fx, 1000);
        assert_int_equal(fx->unit_count, 1);
    }
    fx_free(fx);
}

/* The store ends at an I/O error, and the process with it. */
static void o_f3_without_its_dead_letter_an_event_is_called_again(void **state) {
    (void)state;
    fixture *fx = fx_one();
    fx_start(fx);
    fx_offer(fx, 1, 1, 1, 0);
    fx_settle_store(fx);
    for (int attempt = 1; attempt < 3; attempt++) {
        fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
        fx_settle_store(fx);
        fx_wake(fx, 10);
        fx_settle_store(fx);
    }
    for (int life = 0; life < 3; life++) { /* the last attempt, and it cannot be written */
        assert_int_equal(fx->call_count, 1);
        assert_int_equal(fx->calls[0]->events[0].attempt, 3);
        fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
        assert_int_equal(fx->unit_count, 1);
        fx_restart(fx);
        assert_int_equal(fx->dead_rows, 0);
        assert_int_equal(fx->parked_count, 1);
        fx_settle_store(fx);
        fx_wake(fx, 10);
        fx_settle_store(fx);
    }
    fx_fail(fx, 0, 0, HR_OUTCOME_RETRY);
    fx_settle_store(fx);
    assert_int_equal(fx->dead_rows, 1);
    assert_int_equal(fx->parked_count, 0);
    assert_null(fx->broken);
    fx_free(fx);
}

/* 256 are asked for at once, a batch holds 64 MiB. */
static void parked_events_that_fill_a_batch_are_read_in_several(void **state) {
    (void)state;
    enum { MANY = 20 };
    fixture *fx = fx_one();
    fx_start(fx);
    fx_offer(fx, 1, 1, MANY, 0);
    fx_settle_store(fx);
    while (fx->call_count > 0) {
        fx_answer(fx, 0, HR_E_CALL_CRASHED, NULL, 0, false);
        fx_settle_store(fx);
    }
    assert_true(fx->parked_count > 7);
    fx_restart(fx);
    fx_settle_store(fx);
    for (int i = 0; i < 200 && fx->parked_count > 0; i++) {
        fx_wake(fx, 60000);
        fx_settle_store(fx);
        while (fx->call_count > 0) {
            fx_ok(fx);
            fx_settle_store(fx);
        }
    }
    assert_int_equal(fx->parked_count, 0);
    assert_int_equal(fx->dead_rows, 0);
    fx_free(fx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_that_fails_is_asked_for_again_after_a_pause),
        cmocka_unit_test(o_f3_without_its_dead_letter_an_event_is_called_again),
        cmocka_unit_test(parked_events_that_fill_a_batch_are_read_in_several),
        cmocka_unit_test(a_refused_unit_stalls_its_function_and_names_why),
        cmocka_unit_test(a_refused_unit_is_tried_ever_more_rarely),
        cmocka_unit_test(a_refused_unit_that_stands_at_last_frees_its_function),
        cmocka_unit_test(a_refused_unit_does_not_hold_the_end_up),
        cmocka_unit_test(after_a_full_disk_a_unit_is_tried_each_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
