/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime native with a real shared object, and what a crash of it leaves behind. */
#include "core/memory.h"
#include "functions/native_marker.h"
#include "tests/unit/functions/runtime_bench.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static runtime_bench bench;

static int tear_down(void **state) {
    (void)state;
    bench_close(&bench);
    return 0;
}

static void open_native(void) {
    hr_error err = {0};
    const char *const pairs[] = {"native", HANDLER, NULL};
    if (bench_open(&bench, "native", pairs, &err) != HR_OK) {
        fail_msg("%s", err.text);
    }
    bench_wait_room(&bench, 1);
}

static void a_handler_reads_every_part_and_makes_results(void **state) {
    (void)state;
    open_native();
    bench_event(&bench, "e1", "k", "\"quiet\"");
    bench_event(&bench, "e2", "k", "\"tell\"");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    assert_int_equal(bench.results->count, 1);
    assert_int_equal(bench.causes[0], 1);
    assert_string_equal(bench_part(hr_batch_data(bench.results, 0)),
                        "e2|test/source|test.reading|room 1|k|2|1|-1|1|1|1");
    assert_string_equal(bench_part(hr_batch_id(bench.results, 0)), "e2/hot/1");
}

static void each_event_has_its_own_reply_and_the_last_word_counts(void **state) {
    (void)state;
    open_native();
    bench_event(&bench, "e1", "a", "\"dead\"");
    bench_event(&bench, "e2", "b", "\"quiet\"");
    bench_event(&bench, "e3", "c", "\"retry\"");
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_DEAD);
    assert_string_equal(bench.why, "hopeless");
    assert_int_equal(bench.outcome[1], HR_OUTCOME_OK);
    assert_int_equal(bench.outcome[2], HR_OUTCOME_RETRY);
    assert_int_equal(bench.after_ms[2], 1500);
    bench_event(&bench, "e4", "c", "\"quiet\"");
    bench_call(&bench); /* the replies of the call before are forgotten */
    assert_int_equal(bench.outcome[0], HR_OUTCOME_DEAD);
    assert_int_equal(bench.outcome[3], HR_OUTCOME_OK);
}

static void a_result_that_cannot_be_kept_fails_its_event_with_the_reason(void **state) {
    (void)state;
    open_native();
    bench_event(&bench, "e1", "a", "\"quiet\"");
    bench_event(&bench, "e2", "b", "\"back\"");
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_DEAD);
    assert_non_null(strstr(bench.why, "not in the order"));
    assert_int_equal(bench.results->count, 1);
}

static void a_line_is_kept_with_its_event(void **state) {
    (void)state;
    open_native();
    bench_event(&bench, "e1", "a", "\"quiet\"");
    bench_event(&bench, "e2", "a", "\"log\"");
    bench_call(&bench);
    assert_string_equal(hr_buffer_text(&bench.lines), "e2|1|2|a line\n");
}

static void past_its_deadline_it_is_down_until_it_returns(void **state) {
    (void)state;
    open_native();
    bench_event(&bench, "e1", "a", "\"sleep\"");
    bench_begin_call(&bench);
    bench.runtime->ops->cancel(bench.runtime, &bench.call);
    assert_non_null(strstr(bench.down, "cannot be stopped"));
    assert_non_null(strstr(bench.down, "e1"));
    bench_wait_answer(&bench);
    assert_int_equal(bench.failure, HR_OK); /* it was handled, late */
    assert_string_equal(bench.down, "");
}

static void an_open_that_fails_says_why_and_is_tried_again(void **state) {
    (void)state;
    hr_error err = {0};
    setenv("NATIVE_TEST_MODE", "late", 1); /* the handler refuses its first open */
    const char *const pairs[] = {"native", HANDLER, NULL};
    assert_int_equal(bench_open(&bench, "native", pairs, &err), HR_OK);
    bench_wait_down(&bench);
    assert_string_equal(bench.down, "its open() failed: not yet");
    assert_int_equal(bench.room, 0);
    bench_wait_room(&bench, 1);
    unsetenv("NATIVE_TEST_MODE");
}

static void an_object_that_is_none_is_refused_with_the_loaders_words(void **state) {
    (void)state;
    hr_error err = {0};
    bench_file(&bench, "text.so", "no object");
    const char *const pairs[] = {"native", "text.so", NULL};
    assert_int_equal(bench_open(&bench, "native", pairs, &err), HR_E_CONFIG);
    assert_non_null(strstr(err.text, "text.so"));
    bench.runtime->ops->fini(bench.runtime);
    bench_forget_runtime(&bench);
}

/* ---- crashes: a child is the daemon that dies ---- */

static void no_core(void) {
    struct rlimit none = {0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGSEGV, SIG_DFL); /* not the sanitizer's */
}

/* One "daemon": opens the runtime on the folder, calls with what the events say. Exit status 0: it
 * was answered OK; 10 + failure: a failed call. */
static int live_and_call(const char *folder, const char *const *data, int count) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        no_core();
        hr_marker *marker = NULL;
        hr_error err = {0};
        if (hr_marker_open(folder, "hot", 2, BENCH_EVENTS, &marker, &err) != HR_OK) {
            _exit(99);
        }
        for (int i = 0; i < count; i++) {
            bench_event(&bench, data[i], "k", "1");
        }
        for (uint32_t i = 0; i < bench.batch->count; i++) {
            bench.refs[i] =
                (hr_event_ref){.batch = bench.batch, .index = (uint16_t)i, .attempt = 1};
        }
        hr_call call = {.count = bench.batch->count, .events = bench.refs};
        hr_verdict verdict = hr_marker_judge(marker, &call);
        if (verdict != HR_VERDICT_RUN) {
            _exit(10 + (int)verdict);
        }
        hr_marker_begin(marker, 0, &call);
        if (strcmp(data[count - 1], "crash") == 0) {
            raise(SIGSEGV);
        } else if (strcmp(data[count - 1], "exit") == 0) {
            _exit(3);
        }
        hr_marker_end(marker, 0);
        hr_marker_clear(marker, &call);
        _exit(hr_marker_suspects(marker) == 0 ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void s9_a_batch_that_crashed_the_daemon_is_called_singly_then_charged(void **state) {
    (void)state;
    static const char *const batch[] = {"good", "crash"};
    static const char *const good[] = {"good"};
    static const char *const alone[] = {"crash"};
    bench_file(&bench, ".made", "");
    for (int round = 0; round < 2; round++) {
        assert_int_equal(live_and_call(bench.folder, batch, 2), -SIGSEGV);
        assert_int_equal(live_and_call(bench.folder, batch, 2), 10 + HR_VERDICT_SINGLY);
        /* positions are indexes: an event alone has position 0, like "good" in the batch */
        assert_int_equal(live_and_call(bench.folder, good, 1), 1); /* handled; the other is left */
        assert_int_equal(live_and_call(bench.folder, alone, 1), -SIGSEGV);
        assert_int_equal(live_and_call(bench.folder, good, 1), 10 + HR_VERDICT_CHARGE);
        assert_int_equal(live_and_call(bench.folder, batch, 2), 10 + HR_VERDICT_SINGLY);
        bench_file(&bench, "native/hot", ""); /* anew */
    }
}

static void an_exit_from_within_a_handler_is_charged_like_a_crash(void **state) {
    (void)state;
    static const char *const alone[] = {"exit"};
    bench_file(&bench, ".made", "");
    assert_int_equal(live_and_call(bench.folder, alone, 1), 3);
    assert_int_equal(live_and_call(bench.folder, alone, 1), 10 + HR_VERDICT_CHARGE);
}

/* A file that is cut or foreign accuses nobody and stops nothing. */
static void a_marker_of_any_bytes_is_survived(void **state) {
    (void)state;
    static const char *const good[] = {"good"};
    bench_file(&bench, ".made", "");
    assert_int_equal(live_and_call(bench.folder, good, 1), 0);
    bench_file(&bench, "native/hot", "hrmark1 with wild numbers behind it, far too short");
    assert_int_equal(live_and_call(bench.folder, good, 1), 0);
    bench_file(&bench, "native/hot", "");
    assert_int_equal(live_and_call(bench.folder, good, 1), 0);
}

static int tear_down_folder(void **state) {
    char *path = hr_format("%s/native/hot", bench.folder);
    unlink(path);
    hr_free(path);
    path = hr_format("%s/native", bench.folder);
    rmdir(path);
    hr_free(path);
    return tear_down(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_handler_reads_every_part_and_makes_results, tear_down_folder),
        cmocka_unit_test_teardown(each_event_has_its_own_reply_and_the_last_word_counts,
                                  tear_down_folder),
        cmocka_unit_test_teardown(a_result_that_cannot_be_kept_fails_its_event_with_the_reason,
                                  tear_down_folder),
        cmocka_unit_test_teardown(a_line_is_kept_with_its_event, tear_down_folder),
        cmocka_unit_test_teardown(past_its_deadline_it_is_down_until_it_returns, tear_down_folder),
        cmocka_unit_test_teardown(an_open_that_fails_says_why_and_is_tried_again, tear_down_folder),
        cmocka_unit_test_teardown(an_object_that_is_none_is_refused_with_the_loaders_words,
                                  tear_down_folder),
        cmocka_unit_test_teardown(s9_a_batch_that_crashed_the_daemon_is_called_singly_then_charged,
                                  tear_down_folder),
        cmocka_unit_test_teardown(an_exit_from_within_a_handler_is_charged_like_a_crash,
                                  tear_down_folder),
        cmocka_unit_test_teardown(a_marker_of_any_bytes_is_survived, tear_down_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
