/* SPDX-License-Identifier: Apache-2.0 */
/* The store with its own thread and a loop. */
#include "broker/store.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { UNITS = 2000, IN_FLIGHT = 64, EVENTS = 8 };

typedef struct world {
    char *dir;
    hr_loop *loop;
    hr_store *store;
    uint32_t feed;
    uint64_t sent, ended, next, last_number, found;
    bool is_in_order, has_read, opens_feeds;
    hr_read read;
} world;

typedef struct job {
    hr_unit unit;
    hr_batch *batch;
    world *world;
    uint64_t number;
} job;

static void send_more(world *w);

static void read_done(hr_read *read) {
    world *w = read->data;
    assert_int_equal(read->result, HR_OK);
    w->found = read->batch == NULL ? 0 : read->batch->count;
    hr_read_fini(read);
    hr_loop_stop(w->loop);
}

static void unit_done(hr_unit *unit, hr_code result) {
    job *j = unit->data;
    world *w = j->world;
    assert_int_equal(result, HR_OK);
    w->is_in_order = w->is_in_order && j->number == w->last_number + 1;
    w->last_number = j->number;
    hr_batch_unref(j->batch);
    hr_free(j);
    w->ended++;
    if (w->opens_feeds && w->ended % 100 == 0) { /* while units are on their way */
        uint32_t feed = 0, epoch = 0;
        assert_int_equal(hr_store_feed_open(w->store, "pull", "p/1", &feed, &epoch, NULL), HR_OK);
        assert_int_equal(epoch, w->ended / 100);
    }
    send_more(w);
    if (w->ended == UNITS && !w->has_read) {
        w->has_read = true;
        w->read = (hr_read){.kind = HR_READ_JOURNAL,
                            .feed = w->feed,
                            .from = UNITS * EVENTS - 99,
                            .done = read_done,
                            .data = w};
        hr_store_read(w->store, &w->read);
    }
}

static void send_more(world *w) {
    while (w->sent < UNITS && w->sent - w->ended < IN_FLIGHT) {
        job *j = hr_alloc(sizeof *j);
        *j = (job){.world = w, .number = ++w->sent};
        j->batch = fixture_batch(w->feed, w->next, EVENTS, 100);
        w->next += EVENTS;
        j->unit = (hr_unit){.feed = w->feed,
                            .flags = HR_UNIT_INTAKE,
                            .appends = &j->batch,
                            .append_count = 1,
                            .done = unit_done,
                            .data = j};
        hr_store_submit(w->store, &j->unit);
    }
}

static int set_up(void **state) {
    world *w = hr_alloc(sizeof *w);
    w->dir = fixture_dir();
    w->loop = hr_loop_new();
    w->next = 1;
    w->is_in_order = true;
    hr_store_options options = fixture_options(w->dir);
    options.loop = w->loop;
    options.wal_max_bytes = 1 << 20;
    uint32_t epoch = 0;
    assert_int_equal(hr_store_open(&options, &w->store, NULL), HR_OK);
    assert_int_equal(hr_store_feed_open(w->store, "journal", "in", &w->feed, &epoch, NULL), HR_OK);
    assert_int_equal(hr_store_start(w->store, NULL), HR_OK);
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    hr_store_close(w->store);
    hr_loop_free(w->loop);
    fixture_remove(w->dir);
    hr_free(w);
    return 0;
}

static void units_end_in_order_on_the_loop(void **state) {
    world *w = *state;
    send_more(w);
    hr_loop_run(w->loop);
    assert_int_equal(w->ended, UNITS);
    assert_true(w->is_in_order);
    assert_int_equal(w->found, 100);
    hr_store_stats stats;
    hr_store_get_stats(w->store, &stats);
    assert_int_equal(stats.units, UNITS);
    assert_int_equal(stats.events, UNITS * EVENTS);
    assert_true(stats.groups < UNITS); /* many units share one commit */
    assert_true(stats.intake_open);
}

static void feeds_open_while_units_are_on_their_way(void **state) {
    world *w = *state;
    w->opens_feeds = true;
    send_more(w);
    hr_loop_run(w->loop);
    assert_int_equal(w->ended, UNITS);
    assert_true(w->is_in_order);
}

static void closing_ends_everything_that_was_submitted(void **state) {
    world *w = *state;
    w->sent = UNITS - 32; /* so that done() sends no more */
    w->ended = UNITS - 32;
    w->last_number = UNITS - 32;
    w->has_read = true;
    send_more(w);
    hr_store_close(w->store);
    w->store = NULL;
    assert_int_equal(w->ended, UNITS);
    hr_store_options options = fixture_options(w->dir);
    assert_int_equal(hr_store_open(&options, &w->store, NULL), HR_OK);
    hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->feed};
    fixture_read(w->store, &read);
    assert_int_equal(read.batch->count, 32 * EVENTS);
    hr_read_fini(&read);
}

#define THREAD_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        THREAD_TEST(units_end_in_order_on_the_loop),
        THREAD_TEST(feeds_open_while_units_are_on_their_way),
        THREAD_TEST(closing_ends_everything_that_was_submitted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
