/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime python with the real worker and a real interpreter. */
#include "core/memory.h"
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

static void an_event_answers_to_each_of_its_names(void **state) {
    (void)state;
    open_python("import copy\n"
                "def handle(event):\n"
                "    twin = copy.deepcopy(event)\n"
                "    assert twin.subject == event.subject == event['subject'] == 'room 1'\n"
                "    assert event.type == 'test.reading' and event.source == 'test/source'\n"
                "    assert event.content_type == 'application/json' and event.key == 'k'\n"
                "    assert event.time == '' and event.attempt == 1 and event.replay == 0\n"
                "    assert event.floor == event['floor'] == event.extensions['floor'] == '2'\n"
                "    assert event.get('none') is None and event.get('_record', 7) == 7\n"
                "    assert not hasattr(event, 'none') and not hasattr(event, '_none')\n"
                "    assert event.raw == b'{\"c\": 21}' and event.data is event.data\n"
                "    event.data['c'] = 22\n"
                "    return event.data\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "k", "{\"c\": 21}");
    bench_call(&bench);
    assert_string_equal(bench.why, "");
    assert_string_equal(bench_part(hr_batch_data(bench.results, 0)), "{\"c\": 22}");
}

/* All results of the call are this text. */
static void assert_results(uint32_t count, const char *text) {
    assert_int_equal(bench.failure, HR_OK);
    assert_string_equal(bench.why, "");
    assert_non_null(bench.results);
    assert_int_equal(bench.results->count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_string_equal(bench_part(hr_batch_data(bench.results, i)), text);
    }
}

static void data_is_that_of_each_event_whatever_stands_beside_it(void **state) {
    (void)state;
    static const char *const documents[] = {
        "{\"a\": 1, \"a\": 2}",   "[1",  "2], 3", " {\"b\": 2}\n",
        "\xEF\xBB\xBF{\"c\": 3}", "\"x", "y\"",   "",
        "[1, {\"d\": [NaN]}]"};
    open_python("import json\n"
                "def told(read):\n"
                "    try:\n"
                "        return repr(read())\n"
                "    except ValueError as error:\n"
                "        return str(error)\n"
                "def handle_batch(events):\n"
                "    outcomes = []\n"
                "    for event in events:\n"
                "        own = told(lambda: json.loads(event.raw) if event.raw else None)\n"
                "        got = told(lambda: event.data)\n"
                "        outcomes.append('same' if own == got else f'{got} and not {own}')\n"
                "    return outcomes\n");
    bench_wait_room(&bench, 1);
    for (uint32_t first = 0; first < 9; first++) { /* each document at each place */
        hr_batch_unref(bench.batch);
        bench.batch = NULL;
        for (uint32_t i = 0; i < BENCH_EVENTS; i++) {
            bench_event(&bench, "e", "", documents[(first + i) % 9]);
        }
        bench_call(&bench);
        assert_results(BENCH_EVENTS, "same");
    }
}

static void what_a_handler_does_to_data_and_to_its_list_stays(void **state) {
    (void)state;
    open_python("calls = 0\n"
                "def handle_batch(events):\n"
                "    global calls\n"
                "    calls += 1\n"
                "    mine = list(events)\n"
                "    wanted = list(range(8))\n"
                "    for event in mine[:2]:\n"
                "        event.data['n']\n"
                "    if calls == 1:\n"
                "        mine[5].data = {'n': 'put'}\n"
                "        wanted[5] = 'put'\n"
                "    elif calls == 2:\n"
                "        mine[6].data['n'] = 'changed'\n"
                "        wanted[6] = 'changed'\n"
                "    else:\n"
                "        events.reverse()\n"
                "        events[4].data['n'] = 'turned'\n"
                "        wanted[3] = 'turned'\n"
                "    got = [event.data['n'] for event in mine]\n"
                "    assert got == wanted, got\n"
                "    events.clear()\n"
                "    return ['fine'] * 8\n");
    bench_wait_room(&bench, 1);
    for (int i = 0; i < BENCH_EVENTS; i++) {
        char json[16];
        snprintf(json, sizeof json, "{\"n\": %d}", i);
        bench_event(&bench, "e", "", json);
    }
    for (int calls = 0; calls < 3; calls++) {
        bench_call(&bench);
        assert_results(BENCH_EVENTS, "fine");
    }
}

static void threads_of_a_handler_change_each_its_own_event(void **state) {
    (void)state;
    open_python("import sys\n"
                "from concurrent.futures import ThreadPoolExecutor\n"
                "pool = ThreadPoolExecutor(4)\n"
                "sys.setswitchinterval(1e-6)\n"
                "def change(event):\n"
                "    event.data['n'] += 1\n"
                "def handle_batch(events):\n"
                "    list(pool.map(change, events))\n"
                "    return [event.data['n'] for event in events]\n");
    bench_wait_room(&bench, 1);
    hr_buffer json = {0}; /* so long that threads meet while it is decoded */
    hr_buffer_print(&json, "{\"n\": 41, \"all\": [0");
    for (int i = 0; i < 3000; i++) {
        hr_buffer_print(&json, ",1");
    }
    hr_buffer_print(&json, "]}");
    for (int i = 0; i < BENCH_EVENTS; i++) {
        bench_event(&bench, "e", "", hr_buffer_text(&json));
    }
    hr_buffer_fini(&json);
    for (int calls = 0; calls < 50; calls++) {
        bench_call(&bench);
        assert_results(BENCH_EVENTS, "42");
    }
}

static void an_event_that_is_kept_stays_whole_and_keeps_no_other(void **state) {
    (void)state;
    open_python("import gc, pickle, sys\n"
                "kept = []\n"
                "def handle(event):\n"
                "    kept.append(event)\n"
                "    if len(kept) <= 2:\n"
                "        return None\n" /* its data is asked for in a later call only */
                "    size = sum(sys.getsizeof(part) for part in gc.get_referents(kept[0]))\n"
                "    assert size < 5000, size\n"
                "    twin = pickle.loads(pickle.dumps(kept[0]))\n"
                "    return [twin.id, twin.data, kept[0].data, twin.floor, kept[0].subject]\n");
    bench_wait_room(&bench, 1);
    char *large = hr_alloc(100001);
    memset(large, '7', 100000);
    bench_event(&bench, "e1", "a", "1");
    bench_event(&bench, "e2", "b", large);
    hr_free(large);
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    for (int calls = 0; calls < 2; calls++) {
        bench_call(&bench);
        assert_results(2, "[\"e1\", 1, 1, \"2\", \"room 1\"]");
    }
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

static void s9_the_functions_key_decides_what_is_behind_a_failure(void **state) {
    (void)state;
    open_python("def handle(event):\n"
                "    if event.data == 'bad': raise ValueError('no')\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "\"bad\"");
    bench_event(&bench, "e2", "b", "\"fine\"");
    bench_event(&bench, "e3", "a", "\"fine\"");
    static const uint64_t keys[] = {77, 77, 78}; /* as `key:` of the function has them */
    bench_call_keys(&bench, keys);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_RETRY);
    assert_int_equal(bench.outcome[1], HR_OUTCOME_NOT_RUN);
    assert_int_equal(bench.outcome[2], HR_OUTCOME_OK);
    static const uint64_t unordered[] = {0, 0, 0};
    bench_call_keys(&bench, unordered);
    assert_int_equal(bench.outcome[1], HR_OUTCOME_OK);
    assert_int_equal(bench.outcome[2], HR_OUTCOME_OK);
}

static void a_batch_that_fails_is_handled_one_by_one(void **state) {
    (void)state;
    open_python("def handle_batch(events, ctx):\n"
                "    for event in events:\n"
                "        if event.data == 'bad': raise ValueError('poison')\n"
                "        ctx.emit('seen', event.id, event=event)\n"
                "    return [event.data for event in events]\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "\"fine\"");
    bench_event(&bench, "e2", "b", "\"bad\"");
    bench_event(&bench, "e3", "b", "\"fine\"");
    bench_event(&bench, "e4", "c", "\"fine\"");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_OK);
    assert_int_equal(bench.outcome[1], HR_OUTCOME_RETRY);
    assert_int_equal(bench.outcome[2], HR_OUTCOME_NOT_RUN);
    assert_int_equal(bench.outcome[3], HR_OUTCOME_OK);
    assert_string_equal(bench.why, "ValueError: poison (hot.py:3)");
    assert_int_equal(bench.results->count, 4);
    assert_int_equal(bench.causes[3], 3);
    assert_string_equal(bench_part(hr_batch_type(bench.results, 2)), "seen");
    assert_string_equal(bench_part(hr_batch_id(bench.results, 3)), "e4/hot/2");
}

static void a_result_of_a_batch_that_is_no_json_fails_its_event_alone(void **state) {
    (void)state;
    open_python("def handle_batch(events):\n"
                "    return [event.data * 2 for event in events]\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "1");
    bench_event(&bench, "e2", "b", "1e999");
    bench_event(&bench, "e3", "c", "2");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_OK);
    assert_int_equal(bench.outcome[1], HR_OUTCOME_RETRY);
    assert_int_equal(bench.outcome[2], HR_OUTCOME_OK);
    assert_non_null(strstr(bench.why, "the result cannot be told as JSON"));
    assert_int_equal(bench.results->count, 2);
}

static void one_event_is_no_list(void **state) {
    (void)state;
    open_python("def handle(event):\n"
                "    for each in event: pass\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "[1, 2]");
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_RETRY);
    assert_non_null(strstr(bench.why, "only a handler named handle_batch gets many"));
}

static void a_result_over_one_mebibyte_is_a_dead_letter(void **state) {
    (void)state;
    open_python("def handle(event):\n"
                "    return b'x' * event.data\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "1048577");
    bench_event(&bench, "e2", "a", "1048576");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_DEAD);
    assert_non_null(strstr(bench.why, "too large"));
    assert_int_equal(bench.outcome[1], HR_OUTCOME_OK);
    assert_int_equal(bench.results->count, 1);
    assert_int_equal(bench.causes[0], 1);
}

static void events_whose_results_find_no_room_come_again(void **state) {
    (void)state;
    open_python("def handle(event, ctx):\n"
                "    for i in range(event.data): ctx.emit('n', i)\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "1000");
    bench_event(&bench, "e2", "b", "100");
    bench_event(&bench, "e3", "c", "24");
    bench_event(&bench, "e4", "d", "1025");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_OK);
    assert_int_equal(bench.outcome[1], HR_OUTCOME_NOT_RUN);
    assert_int_equal(bench.outcome[2], HR_OUTCOME_OK);
    assert_int_equal(bench.outcome[3], HR_OUTCOME_DEAD);
    assert_int_equal(bench.results->count, 1024);
}

static void output_of_threads_and_children_is_kept(void **state) {
    (void)state;
    open_python("import subprocess, sys, threading\n"
                "def shout(n):\n"
                "    for i in range(200): print('thread', n, i)\n"
                "def handle(event):\n"
                "    subprocess.run(['sh', '-c', 'echo child; echo warns >&2'])\n"
                "    all = [threading.Thread(target=shout, args=(n,)) for n in range(4)]\n"
                "    for t in all: t.start()\n"
                "    for t in all: t.join()\n"
                "    print('own error', file=sys.stderr)\n"
                "    print('y' * 3000)\n"
                "    sys.stdout.buffer.write(b'raw\\n'); sys.stdout.buffer.flush()\n");
    bench_wait_room(&bench, 1);
    bench_event(&bench, "e1", "a", "1");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    bench_wait_line(&bench, "|1|1|raw\n");
    const char *lines = hr_buffer_text(&bench.lines);
    assert_non_null(strstr(lines, "child\n"));
    assert_non_null(strstr(lines, "warns\n"));
    assert_non_null(strstr(lines, "e1|1|3|own error\n"));
    for (int n = 0; n < 4; n++) {
        char last[32];
        snprintf(last, sizeof last, "e1|1|1|thread %d 199\n", n);
        assert_non_null(strstr(lines, last));
    }
    size_t ys = 0;
    for (const char *at = lines; *at != '\0'; at++) {
        ys += *at == 'y';
    }
    assert_int_equal(ys, 3000); /* in pieces, none lost */
}

static void a_cancelled_worker_gets_no_call_and_only_its_own_call_fails(void **state) {
    (void)state;
    hr_error err = {0};
    bench_file(&bench, "hot.py",
               "import os, time\n"
               "def handle(event):\n"
               "    print('pid', os.getpid())\n"
               "    if event.data == 'hang': time.sleep(1000)\n");
    const char *const pairs[] = {"python", "hot.py", "workers", "2", NULL};
    assert_int_equal(bench_open(&bench, "python", pairs, &err), HR_OK);
    bench_wait_room(&bench, 2);
    bench_event(&bench, "e1", "a", "\"hang\"");
    bench_begin_call(&bench);
    bench_wait_line(&bench, "e1|1|1|pid");
    bench.runtime->ops->cancel(bench.runtime, &bench.call);
    assert_int_equal(bench.room, 1); /* at once: no call goes to what is being killed */
    bench_wait_answer(&bench);
    assert_int_equal(bench.failure, HR_E_CALL_TIMEOUT);
    assert_non_null(strstr(bench.why, "5000 ms"));
    hr_batch_unref(bench.batch);
    bench.batch = NULL;
    bench_event(&bench, "e2", "a", "\"fine\"");
    bench_call(&bench); /* the other one takes it, before the first is there again */
    assert_int_equal(bench.failure, HR_OK);
    bench_wait_room(&bench, 2);
    assert_int_equal(bench.downs, 0);
}

static void one_worker_that_cannot_start_does_not_bring_the_function_down(void **state) {
    (void)state;
    hr_error err = {0};
    bench_file(&bench, "hot.py",
               "import os\n"
               "os.close(os.open('first', os.O_CREAT | os.O_EXCL))\n" /* the second one fails */
               "def handle(event): pass\n");
    const char *const pairs[] = {"python", "hot.py", "workers", "2", NULL};
    assert_int_equal(bench_open(&bench, "python", pairs, &err), HR_OK);
    bench_wait_room(&bench, 1);
    bench_wait_line(&bench, "FileExistsError");
    assert_string_equal(bench.down, "");
    bench_event(&bench, "e1", "a", "1");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
}

static void a_large_call_goes_through_whole(void **state) {
    (void)state;
    open_python("def handle(event): return str(len(event.raw))\n");
    bench_wait_room(&bench, 1);
    char *large = hr_alloc(12000001);
    memset(large, '7', 12000000);
    bench_event(&bench, "e1", "a", large);
    bench_event(&bench, "e2", "b", large);
    bench_event(&bench, "e3", "c", "1");
    hr_free(large);
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    assert_string_equal(bench_part(hr_batch_data(bench.results, 1)), "12000000");
    assert_string_equal(bench_part(hr_batch_data(bench.results, 2)), "1");
    bench_call(&bench); /* and the next one too */
    assert_int_equal(bench.results->count, 3);
}

static void the_venv_beside_the_file_is_the_interpreter(void **state) {
    (void)state;
    hr_error err = {0};
    static const char fake[] = "#!/bin/sh\nVENV=%s exec python3 \"$@\"\n";
    static const char *const expected[] = {"file", "configuration"};
    for (int i = 0; i < 2; i++) {
        char text[80];
        bench_folder(&bench, "sub");
        bench_file(&bench, "sub/hot.py",
                   "import os\n"
                   "def handle(event):\n"
                   "    return os.environ.get('VENV', 'none')\n");
        bench_folder(&bench, ".venv");
        bench_folder(&bench, ".venv/bin");
        snprintf(text, sizeof text, fake, "configuration");
        bench_file(&bench, ".venv/bin/python", text);
        if (i == 0) {
            bench_folder(&bench, "sub/.venv");
            bench_folder(&bench, "sub/.venv/bin");
            snprintf(text, sizeof text, fake, "file");
            bench_file(&bench, "sub/.venv/bin/python", text);
        }
        const char *const pairs[] = {"python", "sub/hot.py", NULL};
        assert_int_equal(bench_open(&bench, "python", pairs, &err), HR_OK);
        bench_wait_room(&bench, 1);
        bench_event(&bench, "e1", "a", "1");
        bench_call(&bench);
        assert_string_equal(bench_part(hr_batch_data(bench.results, 0)), expected[i]);
        bench_close(&bench);
    }
}

static void a_worker_that_stops_is_told_so_and_ends_by_itself(void **state) {
    (void)state;
    open_python("import atexit\n"
                "atexit.register(lambda: print('closed the books', flush=True))\n"
                "def handle(event): pass\n");
    bench_wait_room(&bench, 1);
    bench.runtime->ops->stop(bench.runtime);
    bench_wait_line(&bench, "closed the books");
    bench_wait_stopped(&bench);
}

static void a_worker_that_will_not_end_is_killed(void **state) {
    (void)state;
    open_python("import threading, time\n"
                "threading.Thread(target=lambda: time.sleep(1000)).start()\n"
                "def handle(event): pass\n");
    bench_wait_room(&bench, 1);
    uint64_t before = hr_mono_ns();
    bench.runtime->ops->stop(bench.runtime);
    bench_wait_stopped(&bench);
    assert_true(hr_mono_ns() - before >= UINT64_C(1900000000));
}

static void more_workers_than_the_limit_are_refused(void **state) {
    (void)state;
    hr_error err = {0};
    const char *const pairs[] = {"python", "hot.py", "workers", "257", NULL};
    assert_int_equal(bench_open(&bench, "python", pairs, &err), HR_E_CONFIG);
    assert_non_null(strstr(err.text, "1 to 256"));
    bench.runtime->ops->fini(bench.runtime);
    bench_forget_runtime(&bench);
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
        cmocka_unit_test_teardown(an_event_answers_to_each_of_its_names, tear_down),
        cmocka_unit_test_teardown(data_is_that_of_each_event_whatever_stands_beside_it, tear_down),
        cmocka_unit_test_teardown(what_a_handler_does_to_data_and_to_its_list_stays, tear_down),
        cmocka_unit_test_teardown(threads_of_a_handler_change_each_its_own_event, tear_down),
        cmocka_unit_test_teardown(an_event_that_is_kept_stays_whole_and_keeps_no_other, tear_down),
        cmocka_unit_test_teardown(outcomes_are_per_event_and_later_ones_of_a_failed_key_are_not_run,
                                  tear_down),
        cmocka_unit_test_teardown(what_a_handler_prints_carries_the_events_id, tear_down),
        cmocka_unit_test_teardown(a_worker_that_dies_fails_its_call_and_is_replaced, tear_down),
        cmocka_unit_test_teardown(a_hanging_call_ends_with_cancel, tear_down),
        cmocka_unit_test_teardown(s9_the_functions_key_decides_what_is_behind_a_failure, tear_down),
        cmocka_unit_test_teardown(a_batch_that_fails_is_handled_one_by_one, tear_down),
        cmocka_unit_test_teardown(a_result_of_a_batch_that_is_no_json_fails_its_event_alone,
                                  tear_down),
        cmocka_unit_test_teardown(one_event_is_no_list, tear_down),
        cmocka_unit_test_teardown(a_result_over_one_mebibyte_is_a_dead_letter, tear_down),
        cmocka_unit_test_teardown(events_whose_results_find_no_room_come_again, tear_down),
        cmocka_unit_test_teardown(output_of_threads_and_children_is_kept, tear_down),
        cmocka_unit_test_teardown(a_cancelled_worker_gets_no_call_and_only_its_own_call_fails,
                                  tear_down),
        cmocka_unit_test_teardown(one_worker_that_cannot_start_does_not_bring_the_function_down,
                                  tear_down),
        cmocka_unit_test_teardown(a_large_call_goes_through_whole, tear_down),
        cmocka_unit_test_teardown(the_venv_beside_the_file_is_the_interpreter, tear_down),
        cmocka_unit_test_teardown(a_worker_that_stops_is_told_so_and_ends_by_itself, tear_down),
        cmocka_unit_test_teardown(a_worker_that_will_not_end_is_killed, tear_down),
        cmocka_unit_test_teardown(more_workers_than_the_limit_are_refused, tear_down),
        cmocka_unit_test_teardown(a_handler_that_cannot_be_loaded_is_down_and_gets_no_call,
                                  tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
