/* SPDX-License-Identifier: Apache-2.0 */
/* WALs that lack what was acknowledged are refused, torn ends that nobody was told of are not. */
#include "broker/store.h"
#include "core/log.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

enum { COMMITS = 12, HEAD = 32, FRAME = 24 + 16384 };

/* A state as a kill leaves it: a copy of the files of a store that is open. */
typedef struct world {
    char *live, *copy;
    hr_store *store;
    uint32_t in;
    hr_buffer older_mark, old_mark; /* after all commits but the last two, but the last */
} world;

static const char *const names[] = {"headrace.db", "headrace.db-wal", "headrace.db-mark"};

static void copy_all(world *w) {
    hr_buffer bytes = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fixture_load(w->live, names[i], &bytes);
        fixture_save(w->copy, names[i], bytes.bytes, bytes.size);
    }
    hr_buffer_fini(&bytes);
}

static int set_up(void **state) {
    world *w = hr_alloc(sizeof *w);
    *w = (world){.live = fixture_dir(), .copy = fixture_dir()};
    hr_store_options options = fixture_options(w->live);
    uint32_t epoch = 0;
    assert_int_equal(hr_store_open(&options, &w->store, NULL), HR_OK);
    assert_int_equal(hr_store_feed_open(w->store, "journal", "in", &w->in, &epoch, NULL), HR_OK);
    for (uint64_t i = 0; i < COMMITS; i++) {
        if (i >= COMMITS - 2) {
            fixture_load(w->live, names[2], i == COMMITS - 1 ? &w->old_mark : &w->older_mark);
        }
        hr_batch *batch = fixture_batch(w->in, 1 + i * 10, 10, 4000);
        assert_int_equal(fixture_append(w->store, w->in, batch), HR_OK);
    }
    copy_all(w);
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    hr_store_close(w->store);
    fixture_remove(w->live);
    fixture_remove(w->copy);
    hr_buffer_fini(&w->old_mark);
    hr_buffer_fini(&w->older_mark);
    hr_free(w);
    return 0;
}

/* Opens the copy; how many events it holds, or -1: refused, in one line that says what to do. */
static int open_copy(const world *w, hr_code *out_code) {
    hr_store_options options = fixture_options(w->copy);
    hr_store *store = NULL;
    hr_error err = {0};
    *out_code = hr_store_open(&options, &store, &err);
    if (*out_code != HR_OK) {
        assert_non_null(strstr(err.text, w->copy));
        assert_non_null(strstr(err.text, "headrace recover"));
        assert_null(strchr(err.text, '\n'));
        return -1;
    }
    hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .max_bytes = 64 << 20};
    fixture_read(store, &read);
    assert_int_equal(read.result, HR_OK);
    int count = read.batch == NULL ? 0 : (int)read.batch->count;
    for (int i = 0; i < count; i++) {
        assert_true(fixture_is_whole(read.batch, (uint32_t)i, 4000));
    }
    hr_read_fini(&read);
    hr_store_close(store);
    return count;
}

static void flip(const world *w, size_t file, uint64_t bit) {
    hr_buffer bytes = {0};
    fixture_load(w->copy, names[file], &bytes);
    assert_true(bit / 8 < bytes.size);
    bytes.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    fixture_save(w->copy, names[file], bytes.bytes, bytes.size);
    hr_buffer_fini(&bytes);
}

static void what_a_kill_left_is_opened_whole(void **state) {
    hr_code code = HR_OK;
    assert_int_equal(open_copy(*state, &code), COMMITS * 10);
}

/* SQLite alone would open all of these and say nothing. */
static void a_flipped_bit_anywhere_in_the_wal_is_refused_and_nothing_is_touched(void **state) {
    world *w = *state;
    hr_buffer before = {0}, after = {0};
    fixture_load(w->copy, names[1], &before);
    for (uint64_t i = 0; i < 200; i++) {
        uint64_t bit = i < 40 ? i * 6 : before.size * 8 * (i - 40) / 160 + i;
        hr_code code = HR_OK;
        flip(w, 1, bit);
        fixture_load(w->copy, names[1], &before);
        assert_int_equal(open_copy(w, &code), -1);
        assert_int_equal(code, HR_E_STORE_CORRUPT);
        fixture_load(w->copy, names[1], &after);
        assert_int_equal(before.size, after.size);
        assert_memory_equal(before.bytes, after.bytes, after.size);
        flip(w, 1, bit);
    }
    hr_code code = HR_OK;
    assert_int_equal(open_copy(w, &code), COMMITS * 10);
    hr_buffer_fini(&before);
    hr_buffer_fini(&after);
}

static void o_d6_a_wal_that_was_cut_or_is_gone_is_refused(void **state) {
    world *w = *state;
    hr_buffer whole = {0};
    fixture_load(w->copy, names[1], &whole);
    for (size_t i = 0; i < 40; i++) {
        hr_buffer part = {.bytes = whole.bytes, .size = i < 4 ? i * 16 : whole.size * i / 40};
        hr_code code = HR_OK;
        fixture_save(w->copy, names[1], part.bytes, part.size);
        assert_int_equal(open_copy(w, &code), -1);
        assert_int_equal(code, HR_E_STORE_CORRUPT);
    }
    char *path = hr_format("%s/%s", w->copy, names[1]);
    hr_code code = HR_OK;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(open_copy(w, &code), -1);
    assert_int_equal(code, HR_E_STORE_CORRUPT);
    hr_free(path);
    hr_buffer_fini(&whole);
}

static void a_cut_database_beside_its_wal_is_refused(void **state) {
    world *w = *state;
    hr_buffer none = {0};
    hr_code code = HR_OK;
    fixture_save(w->copy, names[0], none.bytes, none.size);
    assert_int_equal(open_copy(w, &code), -1); /* SQLite would delete the WAL */
    assert_int_equal(code, HR_E_STORE_CORRUPT);
}

static void o_d6_the_wal_of_another_store_is_refused(void **state) {
    world *w = *state;
    world *other = NULL;
    hr_buffer bytes = {0};
    assert_int_equal(set_up((void **)&other), 0);
    fixture_load(other->copy, names[1], &bytes);
    fixture_save(w->copy, names[1], bytes.bytes, bytes.size);
    hr_code code = HR_OK;
    assert_int_equal(open_copy(w, &code), -1);
    assert_int_equal(code, HR_E_STORE_CORRUPT);
    hr_buffer_fini(&bytes);
    tear_down((void **)&other);
}

/* The mark of a power cut may be old, and its last commit torn in any order. */
static void a_torn_commit_that_nobody_was_told_of_is_cut_off(void **state) {
    world *w = *state;
    hr_buffer wal = {0};
    fixture_load(w->copy, names[1], &wal);
    uint64_t frames = (wal.size - HEAD) / FRAME;
    flip(w, 1,
         (HEAD + (frames - 2) * FRAME + 5000) * 8); /* before its last frame, which is whole */
    fixture_save(w->copy, names[2], w->old_mark.bytes, w->old_mark.size);
    hr_code code = HR_OK;
    assert_int_equal(open_copy(w, &code), (COMMITS - 1) * 10);
    hr_buffer_fini(&wal);
}

/* The last was written while the one before it was not yet synced. */
static void two_torn_commits_that_nobody_was_told_of_are_cut_off(void **state) {
    enum { FRAMES_AT = 12 };
    world *w = *state;
    const uint8_t *at = w->older_mark.bytes + FRAMES_AT;
    uint64_t frames = (uint64_t)at[0] << 24 | (uint64_t)at[1] << 16 | (uint64_t)at[2] << 8 | at[3];
    flip(w, 1, (HEAD + frames * FRAME + 5000) * 8);
    fixture_save(w->copy, names[2], w->older_mark.bytes, w->older_mark.size);
    hr_code code = HR_OK;
    assert_int_equal(open_copy(w, &code), (COMMITS - 2) * 10);
}

/* Two commits end behind the end of a third, which was synced before the last was begun. */
static void what_was_told_of_is_not_cut_off(void **state) {
    enum { FRAMES_AT = 12 };
    world *w = *state;
    const uint8_t *at = w->older_mark.bytes + FRAMES_AT;
    uint64_t frames = (uint64_t)at[0] << 24 | (uint64_t)at[1] << 16 | (uint64_t)at[2] << 8 | at[3];
    char *path = hr_format("%s/%s", w->copy, names[2]);
    assert_int_equal(unlink(path), 0);
    hr_free(path);
    flip(w, 1, (HEAD + (frames - 1) * FRAME + 5000) * 8); /* ends the third from the end */
    hr_code code = HR_OK;
    assert_int_equal(open_copy(w, &code), -1);
    assert_int_equal(code, HR_E_STORE_CORRUPT);
}

/* Without a mark: the third commit behind was begun after the first was synced. */
static void commits_behind_a_broken_frame_are_seen_without_a_mark(void **state) {
    world *w = *state;
    char *path = hr_format("%s/%s", w->copy, names[2]);
    assert_int_equal(unlink(path), 0);
    flip(w, 1, (HEAD + 9 * FRAME + 5000) * 8);
    hr_code code = HR_OK;
    assert_int_equal(open_copy(w, &code), -1);
    assert_int_equal(code, HR_E_STORE_CORRUPT);
    hr_free(path);
}

static void a_damaged_mark_says_nothing(void **state) {
    world *w = *state;
    hr_code code = HR_OK;
    flip(w, 2, 100);
    assert_int_equal(open_copy(w, &code), COMMITS * 10);
}

static void a_clean_stop_leaves_neither_wal_nor_mark(void **state) {
    world *w = *state;
    hr_store_close(w->store);
    w->store = NULL;
    for (size_t i = 1; i < sizeof names / sizeof *names; i++) {
        char *path = hr_format("%s/%s", w->live, names[i]);
        assert_int_not_equal(access(path, F_OK), 0);
        hr_free(path);
    }
}

#define WAL_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    hr_log_set_level((hr_level)(HR_LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        WAL_TEST(what_a_kill_left_is_opened_whole),
        WAL_TEST(a_flipped_bit_anywhere_in_the_wal_is_refused_and_nothing_is_touched),
        WAL_TEST(o_d6_a_wal_that_was_cut_or_is_gone_is_refused),
        WAL_TEST(a_cut_database_beside_its_wal_is_refused),
        WAL_TEST(o_d6_the_wal_of_another_store_is_refused),
        WAL_TEST(a_torn_commit_that_nobody_was_told_of_is_cut_off),
        WAL_TEST(two_torn_commits_that_nobody_was_told_of_are_cut_off),
        WAL_TEST(what_was_told_of_is_not_cut_off),
        WAL_TEST(commits_behind_a_broken_frame_are_seen_without_a_mark),
        WAL_TEST(a_damaged_mark_says_nothing),
        WAL_TEST(a_clean_stop_leaves_neither_wal_nor_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
