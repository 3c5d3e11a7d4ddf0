/* SPDX-License-Identifier: Apache-2.0 */
/* Room on a full disk: settled history goes first, and the intake opens by itself. */
#include "broker/store.h"
#include "core/log.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"
#include "tests/sim/vfs_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { BATCH = 20, DATA = 1000, ROOM = 16 << 20, TURNS = 200, UNSETTLED = 1000, BALLAST = 2 << 20 };

typedef struct world {
    char *dir, *ballast;
    hr_store *store;
    hr_vfs_sim *sim;
    uint32_t in, one;
} world;

static int set_up_with(void **state, uint64_t wal_max_bytes, uint64_t room) {
    world *w = hr_alloc(sizeof *w);
    uint32_t epoch = 0;
    w->dir = fixture_dir();
    w->ballast = hr_format("%s/ballast", w->dir);
    w->sim = hr_vfs_sim_new("sim");
    hr_store_options options = fixture_options(w->dir); /* history is kept while there is room */
    options.vfs = "sim";
    options.ballast_bytes = BALLAST;
    options.wal_max_bytes = wal_max_bytes;
    hr_vfs_sim_set_room(w->sim, room, w->ballast, options.ballast_bytes);
    if (hr_store_open(&options, &w->store, NULL) != HR_OK ||
        hr_store_feed_open(w->store, "journal", "in", &w->in, &epoch, NULL) != HR_OK ||
        hr_store_function_open(w->store, "one", NULL, &w->one, NULL) != HR_OK) {
        return -1;
    }
    *state = w;
    return 0;
}

static int set_up(void **state) {
    return set_up_with(state, 512 << 10, ROOM);
}

static int set_up_wide(void **state) {
    return set_up_with(state, 0, UINT64_MAX);
}

static int tear_down(void **state) {
    world *w = *state;
    hr_store_close(w->store);
    hr_vfs_sim_free(w->sim);
    fixture_remove(w->dir);
    hr_free(w->ballast);
    hr_free(w);
    return 0;
}

static void settle(world *w, uint64_t low) {
    hr_unit unit = {.function = w->one, .feed = w->in, .has_checkpoint = true, .low = low};
    assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
}

static bool is_open(world *w) {
    hr_store_stats stats;
    hr_store_get_stats(w->store, &stats);
    return stats.intake_open;
}

static bool opens_within(world *w, int turns) {
    for (int i = 0; i < turns && !is_open(w); i++) {
        hr_store_turn(w->store);
    }
    return is_open(w);
}

/* Appends until it is refused; returns the next position. */
static uint64_t fill(world *w, uint64_t next) {
    hr_code code = HR_OK;
    for (int i = 0; i < 5000 && code == HR_OK; i++) {
        code = fixture_append(w->store, w->in, fixture_batch(w->in, next, BATCH, DATA));
        next += code == HR_OK ? BATCH : 0;
    }
    assert_int_equal(code, HR_E_STORE_FULL);
    return next;
}

static uint64_t count_from(world *w, uint64_t from) {
    uint64_t count = 0;
    for (bool at_end = false; !at_end;) {
        hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .from = from};
        fixture_read(w->store, &read);
        assert_int_equal(read.result, HR_OK);
        assert_int_equal(read.corrupt_count, 0);
        count += read.batch == NULL ? 0 : read.batch->count;
        from = read.batch == NULL ? from : read.batch->position[read.batch->count - 1] + 1;
        at_end = read.at_end || read.batch == NULL;
        hr_read_fini(&read);
    }
    return count;
}

static void s2_settled_history_makes_room_on_a_full_disk_and_the_intake_opens(void **state) {
    world *w = *state;
    uint64_t next = 1;
    settle(w, 1);
    for (int round = 0; round < 4; round++) { /* several disks full go through */
        next = fill(w, next);
        assert_true(next > UNSETTLED + BATCH);
        settle(w, next - UNSETTLED);
        assert_true(opens_within(w, TURNS));
        assert_int_equal(count_from(w, next - UNSETTLED), UNSETTLED);
        assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, next, BATCH, DATA)),
                         HR_OK);
        next += BATCH;
    }
}

static void s2_what_is_unsettled_stays_on_a_full_disk(void **state) {
    world *w = *state;
    settle(w, 1);
    uint64_t next = fill(w, 1);
    assert_false(opens_within(w, TURNS));
    assert_int_equal(count_from(w, 1), next - 1);
}

/* One commit an event, each with a dead letter: many times what the WAL holds. */
static void s6_what_stands_on_a_full_disk_ends_in_the_room_of_the_ballast(void **state) {
    world *w = *state;
    settle(w, 1);
    uint64_t next = fill(w, 1);
    for (uint64_t low = 2; low <= next; low++) {
        hr_row row = {.kind = HR_ROW_DEAD,
                      .function = w->one,
                      .feed = w->in,
                      .position = low - 1,
                      .bytes = hr_slice_text("the envelope"),
                      .reason = hr_slice_text("dead"),
                      .event_id = hr_slice_text("an id")};
        hr_unit unit = {.function = w->one,
                        .feed = w->in,
                        .has_checkpoint = true,
                        .low = low,
                        .rows = &row,
                        .row_count = 1};
        assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
    }
    assert_true(opens_within(w, TURNS));
}

static void s6_the_wal_is_no_larger_than_the_ballast(void **state) {
    world *w = *state;
    uint64_t next = 1;
    hr_store_stats stats;
    for (int i = 0; i < 1000; i++, next += BATCH) {
        assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, next, BATCH, DATA)),
                         HR_OK);
        hr_store_get_stats(w->store, &stats);
        assert_true(stats.wal_bytes <= BALLAST);
    }
    assert_true(stats.file_bytes > 4 * (uint64_t)BALLAST);
}

int main(void) {
    hr_log_set_level((hr_level)(HR_LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            s2_settled_history_makes_room_on_a_full_disk_and_the_intake_opens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(s2_what_is_unsettled_stays_on_a_full_disk, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            s6_what_stands_on_a_full_disk_ends_in_the_room_of_the_ballast, set_up, tear_down),
        cmocka_unit_test_setup_teardown(s6_the_wal_is_no_larger_than_the_ballast, set_up_wide,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
