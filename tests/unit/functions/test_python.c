/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime python with the real worker and a real interpreter. */
#include "tests/unit/functions/runtime_bench.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static runtime_bench bench;

static int tear_down(void **state) {
    (void)state;
    bench_close(&bench);
    return 0;
}

static void open_python(const char *source) {
    hr_error err = {0};
    bench_file(&bench, "hot.py", source);
    const char *const pairs[] = {"python", "hot.py", NULL};
    if (bench_open(&bench, "python", pairs, &err) != HR_OK) {
        fail_msg("%s", err.text);
    }
}

static void a_return_value_is_a_result_with_a_stable_id(void **state) {
    (void)state;
    open_python("def handle(event, ctx):\n"
                "    return {'f': event.data['c'] * 2, 'floor': event.floor, 'id': event['id']}\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "k", "{\"c\": 21}");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    assert_non_null(bench.results);
    assert_string_equal(bench_part(hr_batch_id(bench.results, 0)), "e1/hot/1");
    assert_string_equal(bench_part(hr_batch_data(bench.results, 0)),
                        "{\"f\": 42, \"floor\": \"2\", \"id\": \"e1\"}");
    assert_string_equal(bench_part(hr_batch_key(bench.results, 0)), "k");

    bench.refs[0].replay = 3;
    bench_call(&bench);
    assert_string_equal(bench_part(hr_batch_id(bench.results, 0)), "e1/hot/1/r3");
}

static void outcomes_are_per_event_and_later_ones_of_a_failed_key_are_not_run(void **state) {
    (void)state;
    open_python("import headrace\n"
                "def handle(event):\n"
                "    what = event.data\n"
                "    if what == 'drop': raise headrace.Drop('no use')\n"
                "    if what == 'dead': raise headrace.Dead('never')\n"
                "    if what == 'later': raise headrace.Retry(after='30s')\n"
                "    if what == 'bad': raise ValueError('not an image')\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "\"bad\"");
    bench_event(&bench, "e2", "b", "\"drop\"");
    bench_event(&bench, "e3", "a", "\"fine\"");
    bench_event(&bench, "e4", "c", "\"dead\"");
    bench_event(&bench, "e5", "c", "\"later\"");
    bench_event(&bench, "e6", "b", "\"fine\"");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_RETRY);
    assert_int_equal(bench.after_ms[0], -1);
    assert_string_equal(bench.why, "ValueError: not an image (hot.py:7)");
    assert_int_equal(bench.outcome[1], HR_OUTCOME_DROP);
    assert_int_equal(bench.outcome[2], HR_OUTCOME_NOT_RUN);
    assert_int_equal(bench.outcome[3], HR_OUTCOME_DEAD);
    assert_int_equal(bench.outcome[4], HR_OUTCOME_RETRY);
    assert_int_equal(bench.after_ms[4], 30000);
    assert_int_equal(bench.outcome[5], HR_OUTCOME_OK);
}

static void what_a_handler_prints_carries_the_events_id(void **state) {
    (void)state;
    open_python("import sys\n"
                "async def handle(event, ctx):\n"
                "    print('seen', event.id)\n"
                "    ctx.log.warning('warm', c=3)\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "1");
    bench_event(&bench, "e2", "b", "1");
    bench_call(&bench);
    const char *lines = hr_buffer_text(&bench.lines);
    assert_non_null(strstr(lines, "e1|1|1|seen e1\n"));
    assert_non_null(strstr(lines, "e2|1|1|seen e2\n"));
    assert_non_null(strstr(lines, "e2|1|2|warm c=3\n"));
}

static void a_worker_that_dies_fails_its_call_and_is_replaced(void **state) {
    (void)state;
    open_python("import os, signal\n"
                "def handle(event):\n"
                "    if event.data == 'die': os.kill(os.getpid(), signal.SIGSEGV)\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "\"die\"");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_E_CALL_CRASHED);
    assert_non_null(strstr(bench.why, "signal 11"));
    bench_wait_room(&bench, 1);
    hr_batch_unref(bench.batch);
    bench.batch = NULL;
    bench_event(&bench, "e2", "a", "\"live\"");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
}

static void a_hanging_call_ends_with_cancel(void **state) {
    (void)state;
    open_python("import time\n"
                "def handle(event):\n"
                "    print('hangs')\n"
                "    time.sleep(1000)\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "1");
    bench_begin_call(&bench);
    bench_wait_line(&bench, "hangs");
    bench.runtime->ops->cancel(bench.runtime, &bench.call);
    bench_wait_answer(&bench);
    assert_int_equal(bench.failure, HR_E_CALL_TIMEOUT);
    bench_wait_room(&bench, 1);
}

static void a_handler_that_cannot_be_loaded_is_down_and_gets_no_call(void **state) {
    (void)state;
    open_python("import no_such_module_at_all\n");
    bench_wait_down(&bench);
    assert_non_null(strstr(bench.down, "ModuleNotFoundError"));
    assert_non_null(strstr(bench.down, "hot.py:1"));
    assert_int_equal(bench.room, 0);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_return_value_is_a_result_with_a_stable_id, tear_down),
        cmocka_unit_test_teardown(outcomes_are_per_event_and_later_ones_of_a_failed_key_are_not_run,
                                  tear_down),
        cmocka_unit_test_teardown(what_a_handler_prints_carries_the_events_id, tear_down),
        cmocka_unit_test_teardown(a_worker_that_dies_fails_its_call_and_is_replaced, tear_down),
        cmocka_unit_test_teardown(a_hanging_call_ends_with_cancel, tear_down),
        cmocka_unit_test_teardown(a_handler_that_cannot_be_loaded_is_down_and_gets_no_call,
                                  tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
