/* SPDX-License-Identifier: Apache-2.0 */
/* The store's VFS holds writes back; nobody who looks at the file can tell. */
#include "broker/store_priv.h"
#include "core/memory.h"
#include "tests/sim/vfs_sim.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { PAGE = STORE_PAGE_BYTES, FRAME = STORE_WAL_FRAME + PAGE, FILES = 2, SPAN = 64 * PAGE };

typedef struct world {
    hr_vfs_sim *sim;
    struct store_pages *pages;
    sqlite3_file *files[FILES]; /* the WAL and the database */
    hr_buffer said[FILES];      /* what they should hold */
} world;

static const char *const names[FILES] = {"x-wal", "x"};

static sqlite3_file *open_file(const char *vfs_name, size_t which) {
    sqlite3_vfs *vfs = sqlite3_vfs_find(vfs_name);
    sqlite3_file *file = hr_alloc((size_t)vfs->szOsFile);
    int got = 0, flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                         (which == 0 ? SQLITE_OPEN_WAL : SQLITE_OPEN_MAIN_DB);
    assert_int_equal(vfs->xOpen(vfs, names[which], file, flags, &got), SQLITE_OK);
    return file;
}

static int set_up(void **state) {
    world *w = hr_alloc(sizeof *w);
    w->sim = hr_vfs_sim_new("sim");
    w->pages = hr_pages_new("sim", PAGE);
    for (size_t i = 0; i < FILES; i++) {
        w->files[i] = open_file(hr_pages_name(w->pages), i);
    }
    *state = w;
    return 0;
}

static void close_file(sqlite3_file **file) {
    if (*file != NULL) {
        (*file)->pMethods->xClose(*file);
        hr_free(*file);
        *file = NULL;
    }
}

static int tear_down(void **state) {
    world *w = *state;
    for (size_t i = 0; i < FILES; i++) {
        close_file(&w->files[i]);
        hr_buffer_fini(&w->said[i]);
    }
    hr_pages_free(w->pages);
    hr_vfs_sim_free(w->sim);
    hr_free(w);
    return 0;
}

static int put(world *w, size_t which, sqlite3_int64 at, int size) {
    uint8_t bytes[FRAME];
    uint8_t byte = (uint8_t)hr_vfs_sim_chance(w->sim);
    for (int i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(byte + i * 7);
    }
    int result = w->files[which]->pMethods->xWrite(w->files[which], bytes, size, at);
    if (result == SQLITE_OK) {
        hr_buffer *said = &w->said[which];
        size_t end = (size_t)at + (size_t)size;
        if (end > said->size) {
            memset(hr_buffer_room(said, end - said->size), 0, end - said->size);
            said->size = end;
        }
        memcpy(said->bytes + at, bytes, (size_t)size);
    }
    return result;
}

/* Is this what stands there? The sums of the database's pages are not of those who write. */
static void expect(const world *w, size_t which, const uint8_t *found, size_t at, size_t size) {
    const uint8_t *said = w->said[which].bytes;
    for (size_t i = 0; i < size; i++) {
        bool is_sum = which == 1 && (at + i) % PAGE >= PAGE - STORE_PAGE_SUM;
        if (!is_sum && found[i] != said[at + i]) {
            fail_msg("file %zu is wrong at %zu", which, at + i);
        }
    }
}

/* What the disk below holds. */
static void expect_disk(const world *w, size_t which) {
    sqlite3_file *file = open_file("sim", which);
    sqlite3_int64 size = 0;
    assert_int_equal(file->pMethods->xFileSize(file, &size), SQLITE_OK);
    assert_int_equal(size, w->said[which].size);
    uint8_t *bytes = hr_alloc((size_t)size);
    assert_int_equal(file->pMethods->xRead(file, bytes, (int)size, 0), SQLITE_OK);
    expect(w, which, bytes, 0, (size_t)size);
    for (size_t page = 0; which == 1 && page < (size_t)size / PAGE; page++) {
        assert_true(hr_page_is_whole((uint32_t)page + 1, bytes + page * PAGE, PAGE));
    }
    hr_free(bytes);
    close_file(&file);
}

static void put_frames(world *w, int count) {
    for (int i = 0; i < count; i++) {
        sqlite3_int64 at = (sqlite3_int64)w->said[0].size;
        assert_int_equal(put(w, 0, at, STORE_WAL_FRAME), SQLITE_OK);
        assert_int_equal(put(w, 0, at + STORE_WAL_FRAME, PAGE), SQLITE_OK);
    }
}

static void frames_side_by_side_are_one_write(void **state) {
    world *w = *state;
    put_frames(w, 1);
    assert_int_equal(w->files[0]->pMethods->xSync(w->files[0], SQLITE_SYNC_NORMAL), SQLITE_OK);
    uint64_t before = hr_vfs_sim_calls(w->sim);
    put_frames(w, 6);
    assert_int_equal(hr_vfs_sim_calls(w->sim), before);
    assert_int_equal(w->files[0]->pMethods->xSync(w->files[0], SQLITE_SYNC_NORMAL), SQLITE_OK);
    assert_int_equal(hr_vfs_sim_calls(w->sim), before + 2); /* it and the sync */
    expect_disk(w, 0);
    put_frames(w, 100); /* more than it holds at once */
    assert_int_equal(w->files[0]->pMethods->xSync(w->files[0], SQLITE_SYNC_NORMAL), SQLITE_OK);
    assert_in_range(hr_vfs_sim_calls(w->sim), before + 3, before + 20);
    expect_disk(w, 0);
}

static void whoever_looks_finds_what_was_held_back(void **state) {
    world *w = *state;
    sqlite3_file *wal = w->files[0];
    sqlite3_int64 size = 0;
    uint8_t byte = 0;
    put_frames(w, 2);
    assert_int_equal(wal->pMethods->xRead(wal, &byte, 1, FRAME), SQLITE_OK);
    expect(w, 0, &byte, FRAME, 1);
    expect_disk(w, 0);
    put_frames(w, 2);
    assert_int_equal(wal->pMethods->xFileSize(wal, &size), SQLITE_OK);
    assert_int_equal(size, 4 * FRAME);
    expect_disk(w, 0);
    put_frames(w, 2);
    assert_int_equal(put(w, 1, 0, PAGE), SQLITE_OK); /* of the other file */
    expect_disk(w, 0);
    put_frames(w, 1);
    expect_disk(w, 1);
    assert_int_equal(wal->pMethods->xTruncate(wal, 6 * FRAME), SQLITE_OK);
    w->said[0].size = 6 * FRAME;
    expect_disk(w, 0);
    put_frames(w, 1);
    close_file(&w->files[0]);
    expect_disk(w, 0);
}

static void what_cannot_be_written_fails_each_sync_until_it_is_written_anew(void **state) {
    world *w = *state;
    sqlite3_file *wal = w->files[0];
    uint8_t byte = 0;
    put_frames(w, 1);
    assert_int_equal(wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL), SQLITE_OK);
    put_frames(w, 2);
    hr_vfs_sim_set_room(w->sim, 0, NULL, 0);
    assert_int_equal(wal->pMethods->xRead(wal, &byte, 1, 0), SQLITE_FULL);
    assert_int_equal(wal->pMethods->xRead(wal, &byte, 1, 0), SQLITE_OK); /* what is there */
    hr_vfs_sim_set_room(w->sim, UINT64_MAX, NULL, 0);
    assert_int_equal(wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL), SQLITE_FULL);
    put_frames(w, 1); /* behind what is not there */
    assert_int_equal(wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL), SQLITE_FULL);
    w->said[0].size = FRAME;
    put_frames(w, 4);
    assert_int_equal(wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL), SQLITE_OK);
    expect_disk(w, 0);
    put_frames(w, 1);
    hr_vfs_sim_fail_at(w->sim, 1);
    assert_int_equal(wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL), SQLITE_IOERR_WRITE);
}

/* Any calls in any order: each read is right, and what was synced outlives the power. */
static void it_is_a_file_like_any_other(void **state) {
    world *w = *state;
    assert_int_equal(put(w, 1, 0, PAGE), SQLITE_OK); /* by it the file is known to have sums */
    for (uint64_t round = 0; round < 20; round++) {
        sqlite3_int64 at[FILES] = {0, 0};
        for (int step = 0; step < 400; step++) {
            size_t which = (size_t)(hr_vfs_sim_chance(w->sim) % FILES);
            const sqlite3_io_methods *of = w->files[which]->pMethods;
            hr_buffer *said = &w->said[which];
            uint64_t what = hr_vfs_sim_chance(w->sim) % 16, more = hr_vfs_sim_chance(w->sim);
            if (what < 11) { /* most follow on, as SQLite's do */
                int size = which == 1 ? PAGE : what < 5 ? STORE_WAL_FRAME : PAGE;
                at[which] = at[which] + size > SPAN ? 0 : at[which];
                at[which] = what == 0 ? (sqlite3_int64)(more % 32) * PAGE : at[which];
                assert_int_equal(put(w, which, at[which], size), SQLITE_OK);
                at[which] += size;
            } else if (what < 13 && said->size >= PAGE) {
                uint8_t bytes[PAGE];
                size_t from = more % (said->size / PAGE) * PAGE;
                int result = of->xRead(w->files[which], bytes, PAGE, (sqlite3_int64)from);
                if (result == SQLITE_OK) {
                    expect(w, which, bytes, from, PAGE);
                } else { /* a hole was never signed */
                    assert_int_equal(which, 1);
                    assert_int_equal(result, SQLITE_CORRUPT);
                    assert_int_equal(said->bytes[from] | said->bytes[from + 1], 0);
                }
            } else if (what == 13 && which == 0) {
                said->size = said->size < more % SPAN ? said->size : more % SPAN;
                assert_int_equal(of->xTruncate(w->files[0], (sqlite3_int64)said->size), SQLITE_OK);
            } else {
                assert_int_equal(of->xSync(w->files[which], SQLITE_SYNC_NORMAL), SQLITE_OK);
            }
        }
        for (size_t i = 0; i < FILES; i++) {
            put(w, i, (sqlite3_int64)(w->said[i].size / PAGE * PAGE), PAGE);
            assert_int_equal(w->files[i]->pMethods->xSync(w->files[i], SQLITE_SYNC_NORMAL),
                             SQLITE_OK);
        }
        hr_vfs_sim_cut_now(w->sim, false);
        for (size_t i = 0; i < FILES; i++) {
            close_file(&w->files[i]);
        }
        hr_vfs_sim_restart(w->sim);
        for (size_t i = 0; i < FILES; i++) {
            w->files[i] = open_file(hr_pages_name(w->pages), i);
            sqlite3_file *file = w->files[i];
            sqlite3_int64 size = 0;
            assert_int_equal(file->pMethods->xFileSize(file, &size), SQLITE_OK);
            assert_int_equal(size, w->said[i].size);
            uint8_t *bytes = hr_alloc((size_t)size);
            assert_int_equal(file->pMethods->xRead(file, bytes, (int)size, 0), SQLITE_OK);
            expect(w, i, bytes, 0, (size_t)size);
            hr_free(bytes);
        }
    }
}

#define PAGE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        PAGE_TEST(frames_side_by_side_are_one_write),
        PAGE_TEST(whoever_looks_finds_what_was_held_back),
        PAGE_TEST(what_cannot_be_written_fails_each_sync_until_it_is_written_anew),
        PAGE_TEST(it_is_a_file_like_any_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
