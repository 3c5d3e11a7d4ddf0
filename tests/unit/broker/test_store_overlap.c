/* SPDX-License-Identifier: Apache-2.0 */
/* The store's two threads: one commit is written while the one before it is synced, none is told
 * before its own sync, and none after one that failed. This program's fdatasync stands before the C
 * library's: it can be held and made to fail. */
#include "broker/store.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

enum { UNITS = 4, EVENTS = 3, TRIES = 60000 /* of a millisecond: a test that hangs ends */ };

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    int passes; /* syncs that may return; negative: all */
    int held, calls;
    bool fails;
} gate = {.mutex = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER, .passes = -1};

int fdatasync(int fildes) {
    (void)fildes;
    pthread_mutex_lock(&gate.mutex);
    gate.calls++;
    gate.held++;
    while (gate.passes == 0) {
        pthread_cond_wait(&gate.opened, &gate.mutex);
    }
    gate.held--;
    gate.passes -= gate.passes > 0 ? 1 : 0;
    bool fails = gate.fails;
    pthread_mutex_unlock(&gate.mutex);
    errno = EIO;
    return fails ? -1 : 0;
}

static void let_pass(int passes, bool fails) {
    pthread_mutex_lock(&gate.mutex);
    gate.passes = passes;
    gate.fails = fails;
    pthread_cond_broadcast(&gate.opened);
    pthread_mutex_unlock(&gate.mutex);
}

static int sync_calls(void) {
    pthread_mutex_lock(&gate.mutex);
    int calls = gate.calls;
    pthread_mutex_unlock(&gate.mutex);
    return calls;
}

typedef struct world {
    char *dir;
    hr_loop *loop;
    hr_timer *look;
    hr_store *store;
    uint32_t feed;
    uint64_t next, groups_before;
    hr_unit units[UNITS];
    hr_batch *batches[UNITS];
    hr_code results[UNITS];
    int sent, ended, wanted;
    uint64_t wanted_groups;
    bool wants_held;
    hr_read read;
    int tries, reads_ended;
} world;

static void unit_done(hr_unit *unit, hr_code result) {
    world *w = unit->data;
    assert_ptr_equal(unit, &w->units[w->ended]); /* in order */
    w->results[w->ended++] = result;
}

static void read_done(hr_read *read) {
    ((world *)read->data)->reads_ended++;
}

static void submit(world *w) {
    assert_in_range(w->sent, 0, UNITS - 1);
    int i = w->sent++;
    w->batches[i] = fixture_batch(w->feed, w->next, EVENTS, 100);
    w->next += EVENTS;
    w->units[i] = (hr_unit){.feed = w->feed,
                            .appends = &w->batches[i],
                            .append_count = 1,
                            .done = unit_done,
                            .data = w};
    hr_store_submit(w->store, &w->units[i]);
}

static uint64_t groups(const world *w) {
    hr_store_stats stats;
    hr_store_get_stats(w->store, &stats);
    return stats.groups - w->groups_before;
}

static bool is_there(const world *w) {
    pthread_mutex_lock(&gate.mutex);
    bool is_held = gate.held > 0;
    pthread_mutex_unlock(&gate.mutex);
    return w->ended >= w->wanted && groups(w) >= w->wanted_groups && (!w->wants_held || is_held);
}

static void on_look(void *data) {
    world *w = data;
    if (is_there(w) || ++w->tries > TRIES) {
        hr_loop_stop(w->loop);
    }
}

/* Runs the loop until so many units have ended and so many groups are written, and, where it is
 * wanted, a sync is held. */
static void wait_for(world *w, int ended, uint64_t written, bool wants_held) {
    w->wanted = ended;
    w->wanted_groups = written;
    w->wants_held = wants_held;
    w->tries = 0;
    hr_timer_start(w->look, 1, 1);
    hr_loop_run(w->loop);
    hr_timer_stop(w->look);
    assert_true(is_there(w));
}

static void on_pause(void *data) {
    hr_loop_stop(((world *)data)->loop);
}

/* Lets everything happen that is about to. */
static void pause_a_little(world *w) {
    hr_timer *timer = hr_timer_new(w->loop, on_pause, w);
    hr_timer_start(timer, 50, 0);
    hr_loop_run(w->loop);
    hr_timer_free(timer);
}

static int set_up(void **state) {
    world *w = hr_alloc(sizeof *w);
    uint32_t epoch = 0;
    w->dir = fixture_dir();
    w->loop = hr_loop_new();
    w->look = hr_timer_new(w->loop, on_look, w);
    w->next = 1;
    hr_store_options options = fixture_options(w->dir);
    options.loop = w->loop;
    options.wal_max_bytes = *state == NULL ? 0 : *(uint64_t *)*state;
    let_pass(-1, false);
    assert_int_equal(hr_store_open(&options, &w->store, NULL), HR_OK);
    assert_int_equal(hr_store_feed_open(w->store, "journal", "in", &w->feed, &epoch, NULL), HR_OK);
    assert_int_equal(hr_store_start(w->store, NULL), HR_OK);
    hr_store_stats stats;
    hr_store_get_stats(w->store, &stats);
    w->groups_before = stats.groups;
    submit(w); /* the WAL's head is synced with the first */
    wait_for(w, 1, 1, false);
    assert_int_equal(w->results[0], HR_OK);
    let_pass(0, false);
    submit(w);
    wait_for(w, 1, 2, true);
    submit(w);
    wait_for(w, 1, 3, true); /* it is written beside that sync */
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    let_pass(-1, false);
    hr_store_close(w->store);
    hr_timer_free(w->look);
    hr_loop_free(w->loop);
    for (int i = 0; i < UNITS; i++) {
        hr_batch_unref(w->batches[i]);
    }
    fixture_remove(w->dir);
    hr_free(w);
    return 0;
}

static void a_commit_is_told_after_its_own_sync(void **state) {
    world *w = *state;
    submit(w); /* it is not even written while two are not synced */
    pause_a_little(w);
    assert_int_equal(groups(w), 3);
    assert_int_equal(w->ended, 1);

    let_pass(1, false);
    wait_for(w, 2, 4, true);
    pause_a_little(w);
    assert_int_equal(w->ended, 2); /* the next sync is held */

    let_pass(-1, false);
    wait_for(w, 4, 4, false);
    for (int i = 0; i < UNITS; i++) {
        assert_int_equal(w->results[i], HR_OK);
    }
}

static void nothing_is_told_after_a_sync_that_failed(void **state) {
    world *w = *state;
    submit(w);
    int before = sync_calls();
    let_pass(-1, true);
    wait_for(w, 4, 0, false);
    for (int i = 1; i < UNITS; i++) {
        assert_int_equal(w->results[i], HR_E_STORE_IO);
    }
    assert_int_equal(sync_calls(), before); /* no other sync could make it good */
}

static uint64_t wal_max = 8 << 14; /* the third commit goes above it */

/* It cannot be moved any more, and keeps nobody from ending. */
static void a_long_wal_behind_a_sync_that_failed_stays(void **state) {
    world *w = *state;
    hr_store_stats stats;
    hr_store_get_stats(w->store, &stats);
    assert_true(stats.wal_bytes > wal_max);
    let_pass(-1, true);
    wait_for(w, 3, 0, false);
    hr_store_close(w->store);
    w->store = NULL;
    hr_store_options options = fixture_options(w->dir);
    let_pass(-1, false);
    assert_int_equal(hr_store_open(&options, &w->store, NULL), HR_OK);
}

static void what_is_read_is_durable(void **state) {
    world *w = *state;
    w->read = (hr_read){
        .kind = HR_READ_JOURNAL, .feed = w->feed, .from = 1, .done = read_done, .data = w};
    hr_store_read(w->store, &w->read);
    pause_a_little(w);
    assert_int_equal(w->reads_ended, 0); /* it sees events that are not synced */
    let_pass(-1, false);
    wait_for(w, 3, 3, false);
    pause_a_little(w);
    assert_int_equal(w->reads_ended, 1);
    assert_int_equal(w->read.batch->count, 3 * EVENTS);
    hr_read_fini(&w->read);
}

static void what_was_read_before_a_sync_that_failed_is_not_told(void **state) {
    world *w = *state;
    w->read = (hr_read){
        .kind = HR_READ_JOURNAL, .feed = w->feed, .from = 1, .done = read_done, .data = w};
    hr_store_read(w->store, &w->read);
    let_pass(-1, true);
    wait_for(w, 3, 0, false);
    pause_a_little(w);
    assert_int_equal(w->reads_ended, 1);
    assert_int_equal(w->read.result, HR_E_STORE_IO);
    assert_null(w->read.batch);
}

/* Does the file hold an event? The WAL and the file have its id as it is. */
static bool is_in_file(const world *w, uint64_t position) {
    uint8_t id[40] = {0x0a}; /* the first field of an envelope */
    hr_buffer file = {0};
    bool is_there = false;
    int size =
        snprintf((char *)id + 2, sizeof id - 2, "%u-%llu", w->feed, (unsigned long long)position);
    id[1] = (uint8_t)size;
    fixture_load(w->dir, "headrace.db", &file);
    for (size_t i = 0; !is_there && i + (size_t)size + 2 <= file.size; i++) {
        is_there = memcmp(file.bytes + i, id, (size_t)size + 2) == 0;
    }
    hr_buffer_fini(&file);
    return is_there;
}

/* The WAL goes into the file as far as it is durable, whatever stands behind. */
static void what_is_not_durable_is_not_copied(void **state) {
    world *w = *state;
    uint64_t durable = EVENTS + 1, written = 2 * EVENTS + 1; /* of the second and third commit */
    assert_false(is_in_file(w, durable));
    let_pass(1, false);
    wait_for(w, 2, 3, true);
    for (int i = 0; i < TRIES && !is_in_file(w, durable); i++) {
        usleep(1000);
    }
    assert_true(is_in_file(w, durable));
    pause_a_little(w);
    assert_false(is_in_file(w, written));
    let_pass(-1, false);
    wait_for(w, 3, 3, false);
    hr_store_close(w->store); /* with a checkpoint */
    w->store = NULL;
    assert_true(is_in_file(w, written));
}

static uint64_t backfill_wal_max = 56 << 14; /* a pass for seven pages: with the second commit */

#define OVERLAP_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        OVERLAP_TEST(a_commit_is_told_after_its_own_sync),
        OVERLAP_TEST(nothing_is_told_after_a_sync_that_failed),
        {.name = "a_long_wal_behind_a_sync_that_failed_stays",
         .test_func = a_long_wal_behind_a_sync_that_failed_stays,
         .setup_func = set_up,
         .teardown_func = tear_down,
         .initial_state = &wal_max},
        OVERLAP_TEST(what_is_read_is_durable),
        {.name = "what_is_not_durable_is_not_copied",
         .test_func = what_is_not_durable_is_not_copied,
         .setup_func = set_up,
         .teardown_func = tear_down,
         .initial_state = &backfill_wal_max},
        OVERLAP_TEST(what_was_read_before_a_sync_that_failed_is_not_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
