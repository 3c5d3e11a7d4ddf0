/* SPDX-License-Identifier: Apache-2.0 */
/* A new file; and from an older schema to a newer one, with steps that no release has yet: the
 * store's loop over them, cut, failing and refused. What a released state of each schema becomes is
 * tests/integration/daemon_old_states.py. */
#include "broker/store.h"
#include "broker/store_schema.inc"
#include "core/log.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"
#include "tests/sim/vfs_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    EVENTS = 200,
    PARKED = 40,
    RELEASED = 2,
    NEWEST = 4,
    SEEDS = 3,
    FIRST_SEEDS = 8,
    FIRST_EVENTS = 5
};

/* 3 makes a table out of one there is and fills a new column; 4 fails unless all of 3 is there; 5
 * proves 4 and is never part of what is looked at. */
static const char *const steps[] = {
    store_schema_0001,
    store_schema_0002,
    "CREATE TABLE label (name TEXT PRIMARY KEY, feed INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO label SELECT identity, id FROM feed;"
    "ALTER TABLE parked ADD COLUMN label TEXT;"
    "UPDATE parked SET label = (SELECT identity FROM feed WHERE id = parked.feed)",
    "CREATE TABLE proof (holds INTEGER NOT NULL);"
    "INSERT INTO proof SELECT iif(count(*) = 40, 1, NULL) FROM parked JOIN label ON name = label;"
    "CREATE INDEX parked_label ON parked (label, pos);"
    "DROP TABLE version",
    "INSERT INTO proof SELECT iif(count(*) = 1, 2, NULL) FROM proof;"
    "INSERT INTO proof SELECT iif(count(*) = 0, 3, NULL) FROM sqlite_master WHERE name = 'version'",
};

typedef struct world {
    char *dir;
    hr_store *store;
    hr_vfs_sim *sim;
    uint32_t in, one;
} world;

static int set_up(void **state) {
    world *w = hr_alloc(sizeof *w);
    w->dir = fixture_dir();
    w->sim = hr_vfs_sim_new("sim");
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    hr_store_close(w->store);
    hr_vfs_sim_free(w->sim);
    fixture_remove(w->dir);
    hr_free(w);
    return 0;
}

/* As a headrace that knows so many schemas; 0: this release. */
static hr_code open_as(world *w, const char *const *known, uint32_t count, hr_error *err) {
    hr_store_options options = fixture_options(w->dir);
    options.vfs = "sim";
    options.wal_max_bytes = 4 << 20; /* what was appended stays in the WAL */
    options.steps = count == 0 ? NULL : known;
    options.step_count = count;
    hr_code code = hr_store_open(&options, &w->store, err);
    w->store = code == HR_OK ? w->store : NULL;
    return code;
}

static void close_store(world *w) {
    hr_store_close(w->store);
    w->store = NULL;
}

/* A state of this release with events, some of them parked; after a kill all of it is in the WAL.
 */
static void make_old(world *w, uint64_t seed, bool is_killed) {
    hr_vfs_sim_reset(w->sim, seed);
    assert_int_equal(open_as(w, NULL, 0, NULL), HR_OK);
    uint32_t epoch = 0;
    assert_int_equal(hr_store_feed_open(w->store, "journal", "in", &w->in, &epoch, NULL), HR_OK);
    assert_int_equal(hr_store_function_open(w->store, "one", NULL, &w->one, NULL), HR_OK);
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 1, EVENTS, 500)), HR_OK);
    hr_batch *batch = fixture_batch(w->in, 1, PARKED, 500);
    hr_row rows[PARKED];
    for (uint32_t i = 0; i < PARKED; i++) {
        rows[i] = (hr_row){.kind = HR_ROW_PARK,
                           .function = w->one,
                           .feed = w->in,
                           .position = i + 1,
                           .attempt = 1,
                           .due_ms = INT64_MAX,
                           .bytes = hr_batch_envelope(batch, i)};
    }
    hr_unit unit = {.function = w->one,
                    .feed = w->in,
                    .has_checkpoint = true,
                    .low = PARKED + 1,
                    .rows = rows,
                    .row_count = PARKED};
    assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
    hr_batch_unref(batch);
    if (is_killed) {
        hr_vfs_sim_cut_now(w->sim, true);
    }
    close_store(w);
    hr_vfs_sim_restart(w->sim);
}

/* Every event and every parked one, whatever the schema. */
static void check_contents(world *w) {
    hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .max_bytes = 10 << 20};
    fixture_read(w->store, &read);
    assert_int_equal(read.result, HR_OK);
    assert_int_equal(read.batch->count, EVENTS);
    for (uint32_t i = 0; i < EVENTS; i++) {
        assert_true(fixture_is_whole(read.batch, i, 500));
    }
    hr_read_fini(&read);
    for (uint64_t position = 1; position <= PARKED; position++) {
        read = (hr_read){.kind = HR_READ_PARKED,
                         .function = w->one,
                         .feed = w->in,
                         .positions = &position,
                         .position_count = 1};
        fixture_read(w->store, &read);
        assert_int_equal(read.result, HR_OK);
        assert_int_equal(read.batch->count, 1);
        hr_read_fini(&read);
    }
}

/* The schema that the file has, as this release says it when it refuses. */
static int schema_of(world *w) {
    hr_error err = {0};
    hr_code code = open_as(w, NULL, 0, &err);
    if (code == HR_OK) {
        check_contents(w);
        close_store(w);
        return RELEASED;
    }
    assert_int_equal(code, HR_E_STORE_NEWER);
    const char *said = strstr(err.text, "has schema ");
    assert_non_null(said);
    return (int)strtol(said + strlen("has schema "), NULL, 10);
}

/* Whatever was met before: a newer headrace finds all, and each step whole. */
static void check_whole(world *w) {
    hr_error err = {0};
    hr_code code = open_as(w, steps, NEWEST, &err);
    if (code != HR_OK) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(code, HR_OK);
    check_contents(w);
    close_store(w);
    assert_int_equal(open_as(w, steps, NEWEST + 1, NULL), HR_OK);
    check_contents(w);
    close_store(w);
}

typedef enum fault { CUT, KILL, IO_ERROR, FAULTS } fault;

static void arm(world *w, fault kind, uint64_t call) {
    switch (kind) {
    case CUT:
        hr_vfs_sim_cut_at(w->sim, call);
        break;
    case KILL:
        hr_vfs_sim_kill_at(w->sim, call);
        break;
    case IO_ERROR:
    case FAULTS:
        hr_vfs_sim_fail_at(w->sim, call);
        break;
    }
}

/* A life that gives a feed its number and appends to it. HR_OK: it was acknowledged. */
static hr_code live(world *w, const char *identity, uint32_t *out_feed) {
    uint32_t epoch = 0;
    hr_error err = {0};
    hr_code code = open_as(w, NULL, 0, &err);
    assert_null(strchr(err.text, '\n'));
    if (code == HR_OK) {
        code = hr_store_feed_open(w->store, "journal", identity, out_feed, &epoch, &err);
    }
    if (code == HR_OK) {
        hr_batch *batch = fixture_batch(*out_feed, 1, FIRST_EVENTS, 500);
        code = fixture_append(w->store, *out_feed, batch);
    }
    return code;
}

static void check_events(world *w, uint32_t feed) {
    hr_read read = {.kind = HR_READ_JOURNAL, .feed = feed, .max_bytes = 10 << 20};
    fixture_read(w->store, &read);
    assert_int_equal(read.result, HR_OK);
    assert_non_null(read.batch);
    assert_int_equal(read.batch->count, FIRST_EVENTS);
    hr_read_fini(&read);
}

/* Each change of the disk from the very first to the first acknowledgement; then a life that is
 * whole, and a power cut. */
static void o_d1_a_first_start_that_is_cut_leaves_no_state_or_a_whole_one(void **state) {
    world *w = *state;
    for (fault kind = CUT; kind < FAULTS; kind++) {
        uint64_t seeds = kind == IO_ERROR ? 4 * FIRST_SEEDS : FIRST_SEEDS;
        bool is_over = false;
        for (uint64_t round = 0; !is_over; round++) {
            uint64_t call = round / seeds + 1;
            hr_vfs_sim_reset(w->sim, round + 1);
            arm(w, kind, call);
            if (kind == IO_ERROR && round % 2 == 0) { /* soon followed by a cut */
                hr_vfs_sim_cut_at(w->sim, call + 1 + round / 2 % 4);
            }
            uint32_t first = 0, second = 0;
            hr_code code = live(w, "first", &first);
            bool is_told = code == HR_OK;
            is_over = hr_vfs_sim_calls(w->sim) < call;
            close_store(w);
            hr_vfs_sim_fail_at(w->sim, 0);
            hr_vfs_sim_restart(w->sim);
            code = live(w, "second", &second);
            if (code != HR_OK) {
                print_error("round %llu of fault %d\n", (unsigned long long)round, (int)kind);
            }
            assert_int_equal(code, HR_OK);
            hr_vfs_sim_cut_now(w->sim, false);
            close_store(w);
            hr_vfs_sim_restart(w->sim);
            assert_int_equal(open_as(w, NULL, 0, NULL), HR_OK);
            check_events(w, second);
            if (is_told) {
                check_events(w, first);
            }
            close_store(w);
        }
    }
}

/* Each write, sync and truncation of an opening that takes two steps, until one has none left. */
static void o_l3_a_migration_that_is_cut_did_a_step_whole_or_not_at_all(void **state) {
    world *w = *state;
    for (fault kind = CUT; kind < FAULTS; kind++) {
        int seen[NEWEST + 1] = {0};
        for (uint64_t round = 0;; round++) {
            uint64_t call = round / SEEDS + 1;
            make_old(w, round + 1, round % 2 == 0);
            arm(w, kind, call);
            hr_error err = {0};
            hr_code code = open_as(w, steps, NEWEST, &err);
            assert_null(strchr(err.text, '\n'));
            if (w->store != NULL) {
                close_store(w);
            }
            hr_vfs_sim_fail_at(w->sim, 0);
            hr_vfs_sim_restart(w->sim);
            int schema = schema_of(w);
            assert_in_range(schema, RELEASED, NEWEST);
            assert_true(code != HR_OK || schema == NEWEST);
            seen[schema]++;
            check_whole(w);
            assert_true(round < UINT64_C(1000) * SEEDS);
            if (code == HR_OK && round % SEEDS == SEEDS - 1) {
                break; /* the fault came after it, in the closing, or not at all */
            }
        }
        for (int schema = RELEASED; schema <= NEWEST; schema++) {
            assert_true(seen[schema] > 0); /* it was cut before, between and behind the steps */
        }
    }
}

static void o_l3_an_older_headrace_refuses_a_newer_state_in_one_line(void **state) {
    world *w = *state;
    make_old(w, 1, true);
    assert_int_equal(open_as(w, steps, NEWEST, NULL), HR_OK);
    check_contents(w);
    hr_vfs_sim_cut_now(w->sim, true); /* all of it in the WAL */
    close_store(w);
    hr_vfs_sim_restart(w->sim);
    for (uint32_t known = 0; known < NEWEST; known++) {
        hr_error err = {0};
        assert_int_equal(open_as(w, steps, known, &err), HR_E_STORE_NEWER);
        char words[80];
        snprintf(words, sizeof words, "has schema %d, this headrace knows up to %u: use a newer",
                 NEWEST, known == 0 ? RELEASED : known);
        assert_non_null(strstr(err.text, words));
        assert_null(strchr(err.text, '\n'));
    }
    check_whole(w);
}

static void o_l3_a_step_that_cannot_be_done_leaves_the_state_as_it_was(void **state) {
    static const char *const wrong[] = {store_schema_0001, store_schema_0002,
                                        "CREATE TABLE label (name TEXT);DELETE FROM parked;"
                                        "INSERT INTO nowhere VALUES (1)"};
    world *w = *state;
    make_old(w, 1, false);
    hr_error err = {0};
    assert_int_not_equal(open_as(w, wrong, RELEASED + 1, &err), HR_OK);
    assert_non_null(strstr(err.text, "nowhere"));
    assert_null(strchr(err.text, '\n'));
    assert_int_equal(schema_of(w), RELEASED);
    check_whole(w);
}

#define SCHEMA_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    hr_log_set_level((hr_level)(HR_LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        SCHEMA_TEST(o_d1_a_first_start_that_is_cut_leaves_no_state_or_a_whole_one),
        SCHEMA_TEST(o_l3_a_migration_that_is_cut_did_a_step_whole_or_not_at_all),
        SCHEMA_TEST(o_l3_an_older_headrace_refuses_a_newer_state_in_one_line),
        SCHEMA_TEST(o_l3_a_step_that_cannot_be_done_leaves_the_state_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
