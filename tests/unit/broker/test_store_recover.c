/* SPDX-License-Identifier: Apache-2.0 */
/* What a damaged state still holds is found again, and what is gone is said. */
#include "broker/recover.h"
#include "broker/store.h"
#include "core/log.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* AT_ONCE of DATA fill a page */
enum { EVENTS = 400, LOW = 101, DATA = 700, PARKED_AT = 50, AT_ONCE = 20 };

typedef struct world {
    char *live, *damaged, *saved;
    uint32_t in, one;
    uint64_t rows, losses, notes; /* told by the recovery */
    char first[300];              /* loss */
} world;

/* ---- files ---- */

static char *path_of(const char *dir, const char *name) {
    return hr_format("%s/%s", dir, name);
}

static const char *const names[] = {"headrace.db", "headrace.db-wal", "headrace.db-mark"};

static void copy_state(const world *w) {
    hr_buffer bytes = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_of(w->live, names[i]);
        if (access(path, F_OK) == 0) {
            fixture_load(w->live, names[i], &bytes);
            fixture_save(w->damaged, names[i], bytes.bytes, bytes.size);
        }
        hr_free(path);
    }
    hr_buffer_fini(&bytes);
}

static void flip(const world *w, size_t file, uint64_t bit) {
    hr_buffer bytes = {0};
    fixture_load(w->damaged, names[file], &bytes);
    assert_true(bit / 8 < bytes.size);
    bytes.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    fixture_save(w->damaged, names[file], bytes.bytes, bytes.size);
    hr_buffer_fini(&bytes);
}

static uint64_t size_of(const world *w, size_t file) {
    hr_buffer bytes = {0};
    fixture_load(w->damaged, names[file], &bytes);
    uint64_t size = bytes.size;
    hr_buffer_fini(&bytes);
    return size;
}

/* ---- states ---- */

/* 400 events, a function that has settled 100 of them, parked one and given up one. */
static hr_store *fill(world *w) {
    hr_store_options options = fixture_options(w->live);
    hr_store *store = NULL;
    uint32_t epoch = 0;
    assert_int_equal(hr_store_open(&options, &store, NULL), HR_OK);
    assert_int_equal(hr_store_feed_open(store, "journal", "in", &w->in, &epoch, NULL), HR_OK);
    assert_int_equal(hr_store_function_open(store, "one", NULL, &w->one, NULL), HR_OK);
    hr_unit first = {.function = w->one, .feed = w->in, .has_checkpoint = true, .low = 1};
    assert_int_equal(fixture_commit(store, &first), HR_OK);
    for (uint64_t at = 1; at < EVENTS; at += AT_ONCE) {
        hr_batch *events = fixture_batch(w->in, at, AT_ONCE, DATA);
        assert_int_equal(fixture_append(store, w->in, events), HR_OK);
    }
    hr_batch *batch = fixture_batch(w->in, PARKED_AT, 2, DATA);
    hr_row rows[] = {{.kind = HR_ROW_PARK,
                      .function = w->one,
                      .feed = w->in,
                      .position = PARKED_AT,
                      .attempt = 2,
                      .bytes = hr_batch_envelope(batch, 0)},
                     {.kind = HR_ROW_DEAD,
                      .function = w->one,
                      .feed = w->in,
                      .position = PARKED_AT + 1,
                      .reason = hr_slice_text("dead"),
                      .bytes = hr_batch_envelope(batch, 1)}};
    hr_unit unit = {.function = w->one,
                    .feed = w->in,
                    .has_checkpoint = true,
                    .low = LOW,
                    .counters = {.delivered = LOW - 3, .dead = 1},
                    .rows = rows,
                    .row_count = 2};
    assert_int_equal(fixture_commit(store, &unit), HR_OK);
    hr_batch_unref(batch);
    return store;
}

static int set_up(void **state) {
    world *w = hr_alloc(sizeof *w);
    *w = (world){.live = fixture_dir(), .damaged = fixture_dir(), .saved = fixture_dir()};
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    fixture_remove(w->live);
    fixture_remove(w->damaged);
    fixture_remove(w->saved);
    hr_free(w);
    return 0;
}

/* After a clean stop: all in the file. */
static void stopped(world *w) {
    hr_store_close(fill(w));
    copy_state(w);
}

/* After a kill: all in the WAL. */
static void killed(world *w) {
    hr_store *store = fill(w);
    copy_state(w);
    hr_store_close(store);
}

/* ---- recovery ---- */

static void on_table(void *data, const char *name, uint64_t saved) {
    world *w = data;
    w->rows += strncmp(name, "journal_", 8) == 0 ? saved : 0;
}

static void on_line(void *data, bool is_loss, const char *text) {
    world *w = data;
    if (is_loss && w->losses++ == 0) {
        snprintf(w->first, sizeof w->first, "%s", text);
    }
    w->notes += is_loss ? 0 : 1;
}

static hr_code recover(world *w, hr_error *err) {
    hr_recovery told = {.data = w, .table = on_table, .line = on_line};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_of(w->saved, names[i]);
        unlink(path);
        hr_free(path);
    }
    w->rows = w->losses = w->notes = 0;
    w->first[0] = 0;
    hr_buffer before[3] = {{0}}, after = {0};
    for (size_t i = 0; i < 3; i++) {
        fixture_load(w->damaged, names[i], &before[i]);
    }
    hr_code code = hr_store_recover(w->damaged, w->saved, &told, err);
    for (size_t i = 0; i < 3; i++) { /* what is damaged is only read */
        fixture_load(w->damaged, names[i], &after);
        assert_int_equal(before[i].size, after.size);
        assert_true(after.size == 0 || memcmp(before[i].bytes, after.bytes, after.size) == 0);
        hr_buffer_fini(&before[i]);
    }
    hr_buffer_fini(&after);
    return code;
}

typedef struct found {
    uint64_t low, parked, dead, journal, corrupt, next;
    int64_t drift;
} found;

static void on_feed(void *data, uint32_t feed, const char *kind, const char *identity,
                    uint64_t next, uint64_t unsettled, int64_t fire) {
    (void)feed, (void)kind, (void)unsettled, (void)fire;
    assert_true(strcmp(identity, "in") == 0 || strcmp(identity, "lost/1") == 0);
    ((found *)data)->next = next;
}

static void on_checkpoint(void *data, uint32_t function, uint32_t feed, uint64_t low,
                          hr_slice settled, const hr_counters *counters) {
    (void)feed, (void)settled, (void)counters;
    found *f = data;
    f->low = function != 0 ? low : f->low;
}

static void on_parked(void *data, const hr_row *row) {
    found *f = data;
    assert_int_equal(row->position, PARKED_AT);
    f->parked++;
}

static void on_dead(void *data, uint64_t count) {
    ((found *)data)->dead = count;
}

/* Opens what was saved: all that is in it is whole, and adds up. */
static found look(const world *w) {
    hr_store_options options = fixture_options(w->saved);
    hr_store *store = NULL;
    hr_error err = {0};
    found f = {0};
    assert_int_equal(hr_store_open(&options, &store, &err), HR_OK);
    hr_store_loader loader = {.data = &f,
                              .feed = on_feed,
                              .checkpoint = on_checkpoint,
                              .parked = on_parked,
                              .dead = on_dead};
    assert_int_equal(hr_store_load(store, 0, &loader, NULL), HR_OK);
    uint64_t from = f.low;
    for (bool at_end = f.next == 0; !at_end;) { /* 0: the feeds are among what is gone */
        hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .from = from};
        fixture_read(store, &read);
        assert_int_equal(read.result, HR_OK);
        for (uint32_t i = 0; read.batch != NULL && i < read.batch->count; i++) {
            assert_true(fixture_is_whole(read.batch, i, DATA));
            from = read.batch->position[i] + 1;
            f.journal++;
        }
        f.corrupt += read.corrupt_count;
        at_end = read.at_end;
        hr_read_fini(&read);
    }
    hr_read totals = {.kind = HR_READ_TOTALS};
    fixture_read(store, &totals);
    for (size_t i = 0; i < totals.found_count; i++) {
        const hr_counters *c = &totals.found[i].counters;
        f.drift += (int64_t)(c->deliveries - c->delivered - c->filtered - c->dropped - c->dead -
                             c->expired - totals.found[i].pending);
    }
    hr_read_fini(&totals);
    if (f.next > 0) { /* and it goes on */
        hr_batch *more = fixture_batch(w->in, f.next, 5, DATA);
        assert_int_equal(fixture_append(store, w->in, more), HR_OK);
    }
    hr_store_close(store);
    return f;
}

static void check_all(const world *w) {
    found f = look(w);
    assert_int_equal(f.low, LOW);
    assert_int_equal(f.journal, EVENTS - LOW + 1);
    assert_int_equal(f.next, EVENTS + 1);
    assert_int_equal(f.parked, 1);
    assert_int_equal(f.dead, 1);
    assert_int_equal(f.corrupt, 0);
    assert_int_equal(f.drift, 0);
}

/* ---- claims ---- */

static void a_whole_state_is_saved_whole(void **state) {
    world *w = *state;
    stopped(w);
    assert_int_equal(recover(w, NULL), HR_OK);
    assert_int_equal(w->losses + w->notes, 0);
    assert_int_equal(w->rows, EVENTS);
    check_all(w);
}

static void what_a_kill_left_in_the_wal_is_saved(void **state) {
    world *w = *state;
    killed(w);
    assert_int_equal(recover(w, NULL), HR_OK);
    assert_int_equal(w->losses + w->notes, 0);
    check_all(w);
}

static void a_flipped_bit_of_the_file_is_turned_back(void **state) {
    world *w = *state;
    stopped(w);
    uint64_t bits = size_of(w, 0) * 8;
    for (uint64_t i = 0; i < 24; i++) {
        uint64_t bit = i < 8 ? i * 37 : bits / 16 * (i - 8) + i * 1001;
        flip(w, 0, bit);
        hr_error err = {0};
        assert_int_equal(recover(w, &err), HR_OK);
        assert_string_equal(w->first, "");
        assert_int_equal(w->losses, 0);
        check_all(w);
        flip(w, 0, bit);
    }
}

static void a_flipped_bit_of_the_wal_is_turned_back(void **state) {
    world *w = *state;
    killed(w);
    uint64_t bits = size_of(w, 1) * 8;
    for (uint64_t i = 0; i < 60; i++) {
        uint64_t bit = i < 20   ? i * 13
                       : i < 36 ? 256 + i % 16 * 12
                                : bits / 24 * (i - 36) / 32 * 32;
        bit +=
            i < 36 ? 0 : i % 24; /* the high bits of words leave a trace that others leave, too */
        flip(w, 1, bit);
        hr_error err = {0};
        assert_int_equal(recover(w, &err), HR_OK);
        assert_string_equal(w->first, "");
        assert_int_equal(w->losses, 0);
        check_all(w);
        flip(w, 1, bit);
    }
}

static void a_cut_wal_is_saved_up_to_where_it_ends_and_that_is_said(void **state) {
    world *w = *state;
    killed(w);
    hr_buffer bytes = {0};
    fixture_load(w->damaged, names[1], &bytes);
    fixture_save(w->damaged, names[1], bytes.bytes, bytes.size * 2 / 3);
    assert_int_equal(recover(w, NULL), HR_OK);
    assert_true(w->losses > 0);
    assert_non_null(strstr(w->first, "the WAL was cut"));
    found f = look(w);
    assert_in_range(f.journal, 100, EVENTS - 1);
    assert_int_equal(f.drift, 0);
    hr_buffer_fini(&bytes);
}

/* More than one bit, in the frame that ends the last commit: the mark knows that it does. */
static void a_damaged_end_of_the_wal_costs_its_own_page_only(void **state) {
    world *w = *state;
    killed(w);
    hr_buffer bytes = {0};
    fixture_load(w->damaged, names[1], &bytes);
    memset(bytes.bytes + bytes.size - 9000, 0x5a, 512);
    fixture_save(w->damaged, names[1], bytes.bytes, bytes.size);
    assert_int_equal(recover(w, NULL), HR_OK);
    assert_null(strstr(w->first, "the WAL was cut"));
    assert_int_equal(w->rows, EVENTS);
    found f = look(w);
    assert_int_equal(f.drift, 0);
    hr_buffer_fini(&bytes);
}

/* More than one bit: 512 bytes in the middle of each page in turn. */
static void a_damaged_page_costs_what_stood_there(void **state) {
    world *w = *state;
    stopped(w);
    hr_buffer bytes = {0};
    fixture_load(w->damaged, names[0], &bytes);
    for (size_t page = 1; page < bytes.size / 16384; page++) {
        uint8_t held[512];
        uint8_t *at = bytes.bytes + page * 16384 + 9000;
        memcpy(held, at, sizeof held);
        memset(at, 0x5a, sizeof held);
        fixture_save(w->damaged, names[0], bytes.bytes, bytes.size);
        memcpy(at, held, sizeof held);
        hr_error err = {0};
        assert_int_equal(recover(w, &err), HR_OK);
        found f = look(w);
        assert_int_equal(f.drift, 0);
        assert_true(f.low <= LOW);
        assert_true(f.journal + 4 >= EVENTS - LOW + 1); /* two or three rows at most */
        assert_true(w->losses > 0 || f.journal >= EVENTS - LOW + 1);
    }
    hr_buffer_fini(&bytes);
}

/* A journal's page with nothing left on it, each in turn: its neighbours' rows are all there. */
static void a_page_that_is_gone_costs_its_own_rows_only(void **state) {
    world *w = *state;
    enum { PAGE = 16384, LEAF = 13 };
    stopped(w);
    hr_buffer bytes = {0};
    uint8_t held[PAGE];
    unsigned leaves = 0;
    fixture_load(w->damaged, names[0], &bytes);
    for (size_t page = 1; page < bytes.size / PAGE; page++) {
        uint8_t *at = bytes.bytes + page * PAGE;
        uint32_t cells = (uint32_t)at[3] << 8 | at[4];
        if (at[0] != LEAF || cells != 1) { /* a row that fills it, of one append */
            continue;
        }
        leaves++;
        memcpy(held, at, PAGE);
        memset(at, 0, PAGE);
        fixture_save(w->damaged, names[0], bytes.bytes, bytes.size);
        memcpy(at, held, PAGE);
        hr_error err = {0};
        assert_int_equal(recover(w, &err), HR_OK);
        assert_true(w->losses + w->notes > 0);
        assert_true(w->rows + AT_ONCE == EVENTS || w->rows == EVENTS /* of another table */);
    }
    assert_true(leaves >= EVENTS / AT_ONCE);
    hr_buffer_fini(&bytes);
}

/* All pages of the journal are gone but one, near its end. */
static void a_page_between_damaged_ones_is_found(void **state) {
    world *w = *state;
    enum { PAGE = 16384, LEAF = 13, LEFT = 14 };
    stopped(w);
    hr_buffer bytes = {0};
    unsigned rows = 0;
    fixture_load(w->damaged, names[0], &bytes);
    for (size_t page = 1; page < bytes.size / PAGE; page++) {
        uint8_t *at = bytes.bytes + page * PAGE;
        bool is_row = at[0] == LEAF && ((uint32_t)at[3] << 8 | at[4]) == 1;
        rows += is_row ? 1 : 0;
        if (is_row && rows != LEFT) {
            memset(at, 0, PAGE);
        }
    }
    fixture_save(w->damaged, names[0], bytes.bytes, bytes.size);
    hr_error err = {0};
    assert_int_equal(recover(w, &err), HR_OK);
    assert_int_equal(w->rows, AT_ONCE);
    hr_buffer_fini(&bytes);
}

static void a_cut_file_is_saved_in_part_or_refused_in_a_line(void **state) {
    world *w = *state;
    stopped(w);
    hr_buffer bytes = {0};
    fixture_load(w->damaged, names[0], &bytes);
    int saved = 0;
    for (size_t i = 0; i < 16; i++) {
        fixture_save(w->damaged, names[0], bytes.bytes, bytes.size * i / 16 + i);
        hr_error err = {0};
        hr_code code = recover(w, &err);
        if (code == HR_OK) {
            saved++;
            assert_true(w->losses > 0);
            found f = look(w);
            assert_int_equal(f.drift, 0);
        } else {
            assert_int_equal(code, HR_E_STORE_CORRUPT);
            assert_non_null(strstr(err.text, w->damaged));
            assert_null(strchr(err.text, '\n'));
        }
    }
    assert_true(saved > 8);
    hr_buffer_fini(&bytes);
}

static void a_running_daemon_and_an_old_state_are_left_alone(void **state) {
    world *w = *state;
    hr_recovery told = {.data = w, .table = on_table, .line = on_line};
    hr_store *store = fill(w);
    hr_error err = {0};
    assert_int_equal(hr_store_recover(w->live, w->saved, &told, &err), HR_E_STORE_LOCKED);
    hr_store_close(store);
    assert_int_equal(hr_store_recover(w->live, w->saved, &told, &err), HR_OK);
    assert_int_equal(hr_store_recover(w->live, w->saved, &told, &err), HR_E_EXISTS);
    assert_int_equal(hr_store_recover(w->damaged, w->saved, &told, &err), HR_E_NOT_FOUND);
}

#define RECOVER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    hr_log_set_level((hr_level)(HR_LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        RECOVER_TEST(a_whole_state_is_saved_whole),
        RECOVER_TEST(what_a_kill_left_in_the_wal_is_saved),
        RECOVER_TEST(a_flipped_bit_of_the_file_is_turned_back),
        RECOVER_TEST(a_flipped_bit_of_the_wal_is_turned_back),
        RECOVER_TEST(a_cut_wal_is_saved_up_to_where_it_ends_and_that_is_said),
        RECOVER_TEST(a_damaged_end_of_the_wal_costs_its_own_page_only),
        RECOVER_TEST(a_damaged_page_costs_what_stood_there),
        RECOVER_TEST(a_page_that_is_gone_costs_its_own_rows_only),
        RECOVER_TEST(a_page_between_damaged_ones_is_found),
        RECOVER_TEST(a_cut_file_is_saved_in_part_or_refused_in_a_line),
        RECOVER_TEST(a_running_daemon_and_an_old_state_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
