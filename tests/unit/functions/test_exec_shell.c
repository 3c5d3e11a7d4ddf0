/* SPDX-License-Identifier: Apache-2.0 */
/* The runtimes exec and shell with real programs, and the spawner's promise to end them. */
#include "core/envelope.h"
#include "functions/spawn.h"
#include "tests/unit/functions/runtime_bench.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static runtime_bench bench;

static int tear_down(void **state) {
    (void)state;
    bench_close(&bench);
    return 0;
}

static void open_kind(const char *kind, const char *value) {
    hr_error err = {0};
    const char *const pairs[] = {kind, value, NULL};
    if (bench_open(&bench, kind, pairs, &err) != HR_OK) {
        fail_msg("%s", err.text);
    }
}

/* ---- exec ---- */

static void a_worker_without_our_sdk_answers_each_event(void **state) {
    (void)state;
    open_kind("exec", "[" DOUBLER);
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "21");
    bench_event(&bench, "e2", "b", "\"x\"");
    bench_event(&bench, "e3", "c", "-4");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    assert_int_equal(bench.outcome[1], HR_OUTCOME_DEAD);
    assert_string_equal(bench.why, "the data is no whole number");
    assert_non_null(bench.results);
    assert_int_equal(bench.results->count, 2);
    assert_int_equal(bench.causes[1], 2);
    assert_string_equal(bench_part(hr_batch_data(bench.results, 0)), "42");
    assert_string_equal(bench_part(hr_batch_id(bench.results, 1)), "e3/hot/1");
}

/* Says hello properly and answers the first call with bytes of the test's choice. */
static const char liar[] = "#!/usr/bin/env python3\n"
                           "import os, struct, sys\n"
                           "H = struct.Struct('<IBBHQ')\n"
                           "os.write(3, H.pack(8, 1, 1, 0, 0) + bytes(8))\n"
                           "head = b''\n"
                           "while len(head) < 16: head += os.read(3, 16 - len(head))\n"
                           "call = H.unpack(head)[4]\n"
                           "def frame(body): return H.pack(len(body), 3, 1, 0, call) + body\n"
                           "I = lambda *n: struct.pack('<%dI' % len(n), *n)\n"
                           "lies = {'noise': b'\\xff' * 64,\n"
                           "        'cut': frame(I(0, 1)),\n"
                           "        'counts': frame(I(0xffffffff, 0xffffffff)),\n"
                           "        'length': frame(I(0, 1, 0, 1, 0, 0, 0, 0xfffffff0)),\n"
                           "        'index': frame(I(1, 0, 7, 1, 0, 0, 0)),\n"
                           "        'cause': frame(I(0, 1, 7, 1, 0, 0, 0, 0)),\n"
                           "        'size': H.pack(0xffffffff, 3, 1, 0, call)}\n"
                           "os.write(3, lies[sys.argv[1]])\n"
                           "os.read(3, 1)\n";

static void a_garbage_answer_fails_the_call_and_the_worker_is_replaced(void **state) {
    (void)state;
    static const char *const lies[] = {"[./liar noise",  "[./liar cut",   "[./liar counts",
                                       "[./liar length", "[./liar index", "[./liar cause",
                                       "[./liar size"};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        bench_file(&bench, "liar", liar);
        open_kind("exec", lies[i]);
        bench_wait_room(&bench, 1);
        bench_event(&bench, "e1", "a", "1");
        bench_call(&bench);
        if (bench.failure != HR_E_CALL_GARBAGE) {
            fail_msg("%s: failure %d, %s", lies[i], (int)bench.failure, bench.why);
        }
        assert_null(bench.results);
        bench_wait_room(&bench, 1);
        bench_close(&bench);
    }
}

static void a_program_that_is_not_there_is_down_and_gets_no_call(void **state) {
    (void)state;
    open_kind("exec", "[./nothing-here");
    bench_wait_down(&bench);
    assert_non_null(strstr(bench.down, "No such file"));
    assert_int_equal(bench.room, 0);
}

static void a_worker_that_ends_before_any_work_is_started_again_ever_later(void **state) {
    (void)state;
    bench_file(&bench, "brief",
               "#!/bin/sh\nprintf '\\010\\0\\0\\0\\001\\001\\0\\0' >&3\nprintf "
               "'\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0' >&3\n");
    uint64_t before = hr_mono_ns();
    open_kind("exec", "[./brief");
    bench_wait_downs(&bench, 4); /* at once, then after 0.5 s and 1 s */
    assert_true(hr_mono_ns() - before >= UINT64_C(1500000000));
    assert_non_null(strstr(bench.down, "exit status 0"));
}

/* Garbage, and then an answer that would be right: too late. */
static const char repentant[] = "#!/usr/bin/env python3\n"
                                "import os, struct\n"
                                "H = struct.Struct('<IBBHQ')\n"
                                "os.write(3, H.pack(8, 1, 1, 0, 0) + bytes(8))\n"
                                "head = b''\n"
                                "while len(head) < 16: head += os.read(3, 16 - len(head))\n"
                                "call = H.unpack(head)[4]\n"
                                "bad = H.pack(4, 3, 1, 0, call) + bytes(4)\n"
                                "good = H.pack(8, 3, 1, 0, call) + bytes(8)\n"
                                "os.write(3, bad + good)\n"
                                "os.read(3, 1)\n"; /* the rest of the call, then to the end */

static void what_comes_after_garbage_does_not_count(void **state) {
    (void)state;
    bench_file(&bench, "repentant", repentant);
    open_kind("exec", "[./repentant");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "1");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_E_CALL_GARBAGE);
    assert_int_equal(bench.answers, 1);
}

static void a_worker_that_knows_no_bye_ends_with_its_input(void **state) {
    (void)state;
    bench_file(&bench, "reader",
               "#!/usr/bin/env python3\n"
               "import os, struct\n"
               "os.write(3, struct.pack('<IBBHQ', 8, 1, 1, 0, 0) + bytes(8))\n"
               "while os.read(3, 4096): pass\n"
               "print('read to the end', flush=True)\n");
    open_kind("exec", "[./reader");
    bench_wait_room(&bench, 1);
    bench.runtime->ops->stop(bench.runtime);
    bench_wait_stopped(&bench);
    assert_non_null(strstr(hr_buffer_text(&bench.lines), "read to the end"));
}

/* ---- shell ---- */

static void a_command_gets_data_and_attributes_and_its_output_is_the_result(void **state) {
    (void)state;
    open_kind("shell", "read x; echo note >&2; echo \"$x $CE_ID $CE_TYPE $CE_SUBJECT $CE_FLOOR "
                       "$CE_SOURCE $HEADRACE_ATTEMPT\"");
    bench_event(&bench, "e1", "a", "17");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    assert_non_null(bench.results);
    assert_string_equal(bench_part(hr_batch_data(bench.results, 0)),
                        "17 e1 test.reading room 1 2 test/source 1");
    assert_non_null(strstr(hr_buffer_text(&bench.lines), "e1|1|1|note\n"));
}

static void the_exit_status_decides(void **state) {
    (void)state;
    open_kind("shell", "read x; echo \"status $x\" >&2; exit $x");
    static const char *const statuses[] = {"0", "75", "65", "3"};
    static const hr_outcome outcomes[] = {HR_OUTCOME_OK, HR_OUTCOME_RETRY, HR_OUTCOME_DEAD,
                                          HR_OUTCOME_RETRY};
    for (int i = 0; i < 4; i++) {
        char id[8], key[8];
        snprintf(id, sizeof id, "e%d", i);
        snprintf(key, sizeof key, "k%d", i);
        bench_event(&bench, id, key, statuses[i]);
    }
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(bench.outcome[i], outcomes[i]);
    }
}

static void s9_a_later_event_of_a_failed_key_is_not_run(void **state) {
    (void)state;
    open_kind("shell", "read x; echo \"ran $CE_ID\" >&2; exit $x");
    bench_event(&bench, "e1", "a", "75");
    bench_event(&bench, "e2", "a", "0");
    bench_event(&bench, "e3", "b", "0");
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_RETRY);
    assert_int_equal(bench.outcome[1], HR_OUTCOME_NOT_RUN);
    assert_int_equal(bench.outcome[2], HR_OUTCOME_OK);
    assert_null(strstr(hr_buffer_text(&bench.lines), "ran e2"));
    assert_non_null(strstr(hr_buffer_text(&bench.lines), "ran e3"));
}

static void output_over_one_mebibyte_is_a_dead_letter_and_not_cut(void **state) {
    (void)state;
    open_kind("shell", "read n; head -c $n /dev/zero | tr '\\0' 'x'");
    bench_event(&bench, "e1", "a", "1048576");
    bench_event(&bench, "e2", "a", "3000000");
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_OK);
    assert_int_equal(bench.outcome[1], HR_OUTCOME_DEAD);
    assert_non_null(strstr(bench.why, "larger"));
    assert_int_equal(bench.results->count, 1);
    assert_int_equal(hr_batch_data(bench.results, 0).size, 1 << 20);
}

/* While a pipe is written, the end of the daemon looks like the end of a shorter event. */
static void a_command_has_all_its_data_before_it_begins(void **state) {
    (void)state;
    open_kind("shell", "stat -L -c %s /proc/self/fd/0");
    static char json[300000];
    memset(json, 'x', sizeof json - 1);
    json[0] = json[sizeof json - 2] = '"';
    bench_event(&bench, "e1", "a", json);
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    hr_slice data = hr_batch_data(bench.batch, 0);
    assert_true(data.size > 200000);
    assert_int_equal(strtol(bench_part(hr_batch_data(bench.results, 0)), NULL, 10), data.size);
}

static void output_is_json_only_when_it_is(void **state) {
    (void)state;
    open_kind("shell", "cat | base64 -d");
    static const struct {
        const char *sent, *type;
    } cases[] = {{"eyJhIjogMX0=", "application/json"},              /* {"a": 1} */
                 {"WzFdIGxvYWRlZAo=", "text/plain; charset=utf-8"}, /* [1] loaded */
                 {"//4=", "application/octet-stream"}};
    for (size_t i = 0; i < 3; i++) {
        hr_batch_unref(bench.batch);
        bench.batch = NULL;
        bench_event(&bench, "e1", "a", cases[i].sent);
        bench_call(&bench);
        assert_int_equal(bench.outcome[0], HR_OUTCOME_OK);
        hr_attribute attribute;
        assert_true(hr_envelope_attribute(hr_batch_envelope(bench.results, 0), "datacontenttype",
                                          &attribute));
        assert_string_equal(bench_part(attribute.text), cases[i].type);
    }
}

static int pid_in_lines(void) {
    const char *at = strstr(hr_buffer_text(&bench.lines), "pid ");
    return at == NULL ? 0 : (int)strtol(at + 4, NULL, 10);
}

static void wait_gone(int pid) {
    uint64_t end = hr_mono_ns() + (uint64_t)BENCH_WAIT_MS * 1000000;
    assert_true(pid > 1);
    while (kill(pid, 0) == 0 && hr_mono_ns() < end) {
        struct timespec pause = {.tv_nsec = 2000000};
        nanosleep(&pause, NULL); /* a limit of polling, no synchronisation */
    }
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
}

static void cancel_ends_the_command_with_all_it_started(void **state) {
    (void)state;
    open_kind("shell", "sleep 1000 & echo pid $! >&2; wait");
    bench_event(&bench, "e1", "a", "1");
    bench_begin_call(&bench);
    bench_wait_line(&bench, "pid ");
    bench.runtime->ops->cancel(bench.runtime, &bench.call);
    bench_wait_answer(&bench);
    assert_int_equal(bench.failure, HR_E_CALL_TIMEOUT);
    wait_gone(pid_in_lines());
}

static void without_its_spawner_the_process_ends_with_a_line(void **state) {
    (void)state;
    int ends[2], status = 0;
    char said[300];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        hr_error err = {0};
        dup2(ends[1], STDERR_FILENO);
        setenv("HEADRACE_SPAWN", "/bin/true", 1); /* it ends at once */
        hr_loop *loop = hr_loop_new();
        if (hr_spawner_start(loop, &err) == HR_OK) {
            static const char *const words[] = {"true", NULL};
            hr_spawn_request request = {
                .argv = words, .env = words + 1, .cwd = "/", .fds = {-1, -1, -1, -1}};
            hr_spawn(&request);
            hr_loop_run(loop);
        }
        _exit(0);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], said, sizeof said - 1);
    said[got < 0 ? 0 : got] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_non_null(strstr(said, "headrace: headrace-spawn ended"));
}

static void what_the_spawner_started_ends_with_it(void **state) {
    (void)state;
    open_kind("shell", "echo pid $$ >&2; exec sleep 1000");
    bench_event(&bench, "e1", "a", "1");
    bench_begin_call(&bench);
    bench_wait_line(&bench, "pid ");
    hr_spawner_stop();
    wait_gone(pid_in_lines());
    bench.runtime->ops->fini(bench.runtime); /* its process is gone: no stop, no answer */
    bench.runtime->ops = NULL;
}

/* The engine's time is over: fini() without stop(), and then the loop runs what is left. */
static void a_call_that_has_just_begun_is_let_go_at_the_end(void **state) {
    (void)state;
    open_kind("shell", "sleep 1000");
    bench_event(&bench, "e1", "a", "1");
    bench_begin_call(&bench);
    bench.runtime->ops->fini(bench.runtime);
    bench.runtime->ops = NULL;
    assert_int_equal(bench.answers, 0);
}

static void a_call_without_a_worker_is_unstarted_and_let_go_at_the_end(void **state) {
    (void)state;
    open_kind("exec", "[./nothing-here");
    bench_event(&bench, "e1", "a", "1");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_E_CALL_UNSTARTED);
    bench_begin_call(&bench);
    bench.runtime->ops->fini(bench.runtime);
    bench.runtime->ops = NULL;
    assert_int_equal(bench.answers, 0);
}

static int tear_down_late(void **state) {
    bool is_done = bench.runtime != NULL && bench.runtime->ops == NULL;
    if (is_done) {
        bench_forget_runtime(&bench);
    }
    return tear_down(state);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_worker_without_our_sdk_answers_each_event, tear_down),
        cmocka_unit_test_teardown(a_garbage_answer_fails_the_call_and_the_worker_is_replaced,
                                  tear_down),
        cmocka_unit_test_teardown(a_program_that_is_not_there_is_down_and_gets_no_call, tear_down),
        cmocka_unit_test_teardown(a_worker_that_ends_before_any_work_is_started_again_ever_later,
                                  tear_down),
        cmocka_unit_test_teardown(what_comes_after_garbage_does_not_count, tear_down),
        cmocka_unit_test_teardown(a_worker_that_knows_no_bye_ends_with_its_input, tear_down),
        cmocka_unit_test_teardown(a_command_gets_data_and_attributes_and_its_output_is_the_result,
                                  tear_down),
        cmocka_unit_test_teardown(the_exit_status_decides, tear_down),
        cmocka_unit_test_teardown(s9_a_later_event_of_a_failed_key_is_not_run, tear_down),
        cmocka_unit_test_teardown(output_over_one_mebibyte_is_a_dead_letter_and_not_cut, tear_down),
        cmocka_unit_test_teardown(a_command_has_all_its_data_before_it_begins, tear_down),
        cmocka_unit_test_teardown(output_is_json_only_when_it_is, tear_down),
        cmocka_unit_test_teardown(cancel_ends_the_command_with_all_it_started, tear_down),
        cmocka_unit_test_teardown(a_call_that_has_just_begun_is_let_go_at_the_end, tear_down_late),
        cmocka_unit_test_teardown(a_call_without_a_worker_is_unstarted_and_let_go_at_the_end,
                                  tear_down_late),
        cmocka_unit_test_teardown(what_the_spawner_started_ends_with_it, tear_down_late),
        cmocka_unit_test(without_its_spawner_the_process_ends_with_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
