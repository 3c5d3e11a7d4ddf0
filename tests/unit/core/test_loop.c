/* SPDX-License-Identifier: Apache-2.0 */
#include "core/loop.h"
#include "core/memory.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
/* after what it needs: */
#include <cmocka.h>

enum { POSTERS = 4, EACH = 5000 };

typedef struct numbered {
    hr_message message; /* first */
    struct tally *counting;
    int poster, number;
} numbered;

typedef struct tally {
    hr_loop *loop;
    int next[POSTERS], total, in_order;
} tally;

static void count_one(hr_message *message) {
    numbered *self = (numbered *)(void *)message;
    tally *counting = self->counting;
    counting->in_order += counting->next[self->poster] == self->number ? 1 : 0;
    counting->next[self->poster] = self->number + 1;
    if (++counting->total == POSTERS * EACH) {
        hr_loop_stop(counting->loop);
    }
    hr_free(self);
}

typedef struct poster {
    tally *counting;
    int index;
} poster;

static void *post_all(void *data) {
    poster *self = data;
    for (int i = 0; i < EACH; i++) {
        numbered *message = hr_alloc(sizeof *message);
        message->message.run = count_one;
        message->counting = self->counting;
        message->poster = self->index;
        message->number = i;
        hr_loop_post(self->counting->loop, &message->message);
    }
    return NULL;
}

static void messages_of_each_thread_arrive_once_and_in_order(void **state) {
    (void)state;
    tally counting = {.loop = hr_loop_new()};
    poster self[POSTERS];
    pthread_t thread[POSTERS];
    for (int i = 0; i < POSTERS; i++) {
        self[i] = (poster){&counting, i};
        assert_int_equal(pthread_create(&thread[i], NULL, post_all, &self[i]), 0);
    }
    hr_loop_run(counting.loop);
    for (int i = 0; i < POSTERS; i++) {
        pthread_join(thread[i], NULL);
    }
    assert_int_equal(counting.total, POSTERS * EACH);
    assert_int_equal(counting.in_order, POSTERS * EACH);
    hr_loop_free(counting.loop);
}

static void messages_left_at_the_end_are_still_run(void **state) {
    (void)state;
    tally counting = {.loop = hr_loop_new()};
    poster self = {&counting, 0};
    post_all(&self);
    hr_loop_free(counting.loop);
    assert_int_equal(counting.total, EACH);
}

typedef struct turn {
    hr_message message; /* first */
    hr_loop *loop;
    int runs, fired;
    struct turn *also; /* deferred by run() */
} turn;

static void on_turn(hr_message *message) {
    turn *self = (turn *)message;
    self->runs++;
    if (self->also != NULL) {
        hr_loop_defer(self->loop, &self->also->message);
        self->also = NULL;
    } else if (self->fired == 3) {
        hr_loop_stop(self->loop);
    }
}

static void defer_on_timer(void *data) {
    turn *self = data;
    self->fired++;
    hr_loop_defer(self->loop, &self->message);
}

/* From a timer and from within itself: nothing else would wake this loop. */
static void what_is_deferred_runs_before_the_loop_sleeps(void **state) {
    (void)state;
    hr_loop *loop = hr_loop_new();
    turn last = {.message = {.run = on_turn}, .loop = loop, .fired = 3};
    turn first = {.message = {.run = on_turn}, .loop = loop, .also = &last};
    turn taken_back = {.message = {.run = on_turn}, .loop = loop};
    hr_timer *timer = hr_timer_new(loop, defer_on_timer, &first);
    hr_timer_start(timer, 1, 0);
    hr_loop_defer(loop, &taken_back.message);
    hr_loop_forget(loop, &taken_back.message);
    hr_loop_forget(loop, &taken_back.message); /* no error */
    hr_loop_run(loop);
    assert_int_equal(first.runs, 1);
    assert_int_equal(last.runs, 1);
    assert_int_equal(taken_back.runs, 0);
    hr_loop_defer(loop, &last.message); /* what still waits at the end is run */
    hr_timer_free(timer);
    hr_loop_free(loop);
    assert_int_equal(last.runs, 2);
}

typedef struct sight {
    hr_loop *loop;
    hr_timer *timer;
    hr_watch *watch;
    int fired, ready, caught, fd[2];
} sight;

static void on_fired(void *data) {
    sight *seen = data;
    if (++seen->fired == 1) {
        assert_int_equal(write(seen->fd[1], "x", 1), 1);
    } else if (seen->fired == 3) {
        raise(SIGUSR1);
    }
}

static void on_ready(void *data, int events) {
    sight *seen = data;
    char byte;
    assert_int_equal(events, HR_WATCH_READ);
    assert_int_equal(read(seen->fd[0], &byte, 1), 1);
    seen->ready++;
    hr_watch_set(seen->watch, 0);
    assert_int_equal(write(seen->fd[1], "x", 1), 1); /* not watched any more */
}

static void on_caught(void *data, int signal) {
    sight *seen = data;
    assert_int_equal(signal, SIGUSR1);
    seen->caught++;
    hr_timer_stop(seen->timer);
    hr_loop_stop(seen->loop);
}

static void timers_watches_and_signals_come_to_the_loop(void **state) {
    (void)state;
    sight seen = {.loop = hr_loop_new()};
    assert_int_equal(pipe(seen.fd), 0);
    seen.timer = hr_timer_new(seen.loop, on_fired, &seen);
    seen.watch = hr_watch_new(seen.loop, seen.fd[0], on_ready, &seen);
    hr_watch_set(seen.watch, HR_WATCH_READ);
    hr_loop_signal(seen.loop, SIGUSR1, on_caught, &seen);
    uint64_t start = hr_mono_ns();
    hr_timer_start(seen.timer, 1, 2);
    hr_loop_run(seen.loop);
    assert_true(hr_mono_ns() - start >= 4000000);
    assert_int_equal(seen.fired, 3);
    assert_int_equal(seen.ready, 1);
    assert_int_equal(seen.caught, 1);
    hr_watch_free(seen.watch);
    hr_timer_free(seen.timer);
    hr_loop_free(seen.loop); /* the signal's handle too: a leak is a failure */
    close(seen.fd[0]);
    close(seen.fd[1]);
}

/* What a child says that runs into it, and how it ends. */
static int told_by(void (*run)(void), char *said, size_t size) {
    int ends[2], status = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        run();
        _exit(0);
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t got = 1; got > 0 && used<size - 1; used += got> 0 ? (size_t)got : 0) {
        got = read(ends[0], said + used, size - 1 - used);
    }
    said[used] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void begin_without_descriptors(void) {
    struct rlimit none = {4, 4};
    setrlimit(RLIMIT_NOFILE, &none);
    hr_loop_new();
}

static void begin_without_memory(void) {
    hr_alloc(SIZE_MAX / 2);
}

static void what_cannot_go_on_ends_with_a_line_and_a_status(void **state) {
    (void)state;
    char said[2000];
    assert_int_equal(told_by(begin_without_descriptors, said, sizeof said), 1);
    assert_string_equal(said,
                        "headrace: the event loop cannot begin: too many open files (a higher "
                        "limit helps: ulimit -n, LimitNOFILE); stopping. Nothing "
                        "acknowledged is lost, start again.\n");
    assert_int_equal(told_by(begin_without_memory, said, sizeof said), 1);
    assert_non_null(
        strstr(said, "headrace: out of memory (9223372036854775807 bytes asked); stop"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_each_thread_arrive_once_and_in_order),
        cmocka_unit_test(messages_left_at_the_end_are_still_run),
        cmocka_unit_test(what_is_deferred_runs_before_the_loop_sleeps),
        cmocka_unit_test(timers_watches_and_signals_come_to_the_loop),
        cmocka_unit_test(what_cannot_go_on_ends_with_a_line_and_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
