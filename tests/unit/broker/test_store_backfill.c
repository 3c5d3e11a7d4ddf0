/* SPDX-License-Identifier: Apache-2.0 */
/* The WAL's way into the file beside the commits: only what is durable goes, the newest of each
 * page, and a checkpoint takes nothing of it a second time but all that came behind it. */
#include "broker/store_priv.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAGE = 4096, FRAME = STORE_WAL_FRAME + PAGE, ROWS = 40, ROW_BYTES = 3000 };

/* ---- the frames ---- */

typedef struct world {
    char *dir, *names[2];
    sqlite3_file *wal, *file;
    store_backfill *backfill;
} world;

static sqlite3_file *open_file(const char *name, int flags) {
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    sqlite3_file *file = hr_alloc((size_t)vfs->szOsFile);
    assert_int_equal(vfs->xOpen(vfs, name, file, flags | SQLITE_OPEN_MAIN_DB, NULL), SQLITE_OK);
    return file;
}

static void close_file(sqlite3_file *take_file) {
    take_file->pMethods->xClose(take_file);
    hr_free(take_file);
}

/* SQLite reads on behind the end of a name. */
static char *name_in(const char *dir, const char *name) {
    char *out = hr_alloc(strlen(dir) + strlen(name) + 5);
    snprintf(out, strlen(dir) + strlen(name) + 2, "%s/%s", dir, name);
    return out;
}

static int set_up(void **state) {
    world *w = hr_alloc(sizeof *w);
    w->dir = fixture_dir();
    w->names[0] = name_in(w->dir, "x-wal");
    w->names[1] = name_in(w->dir, "x");
    w->wal = open_file(w->names[0], SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    w->file = open_file(w->names[1], SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    w->backfill = hr_backfill_new(PAGE);
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    hr_backfill_free(w->backfill);
    close_file(w->wal);
    close_file(w->file);
    hr_free(w->names[0]);
    hr_free(w->names[1]);
    fixture_remove(w->dir);
    hr_free(w);
    return 0;
}

static sqlite3_int64 frame_at(uint32_t frame) {
    return STORE_WAL_HEAD + (sqlite3_int64)(frame - 1) * FRAME;
}

static void put(world *w, const void *bytes, int size, sqlite3_int64 at) {
    hr_backfill_note(w->backfill, bytes, size, at);
    assert_int_equal(w->wal->pMethods->xWrite(w->wal, bytes, size, at), SQLITE_OK);
}

/* As SQLite does: the head, then the page. */
static void put_frame(world *w, uint32_t frame, uint8_t page, uint8_t value) {
    uint8_t head[STORE_WAL_FRAME] = {0, 0, 0, page}, bytes[PAGE];
    memset(bytes, value, sizeof bytes);
    put(w, head, sizeof head, frame_at(frame));
    put(w, bytes, sizeof bytes, frame_at(frame) + STORE_WAL_FRAME);
}

static void run(world *w) {
    assert_int_equal(hr_backfill_run(w->backfill, w->wal, w->file, 0), SQLITE_OK);
}

/* What the file has as this page; 0: nothing yet. */
static uint8_t value_of(world *w, uint32_t page) {
    uint8_t bytes[PAGE];
    if (w->file->pMethods->xRead(w->file, bytes, PAGE, (page - 1) * (sqlite3_int64)PAGE) !=
            SQLITE_OK ||
        bytes[0] == 0) {
        return 0;
    }
    assert_true(hr_page_is_whole(page, bytes, PAGE));
    for (int i = 0; i < PAGE - STORE_PAGE_SUM; i++) {
        assert_int_equal(bytes[i], bytes[0]);
    }
    return bytes[0];
}

/* The page that needs not be moved from this frame any more. */
static uint32_t there(world *w, uint32_t frame) {
    return hr_backfill_page(w->backfill, PAGE, frame_at(frame) + STORE_WAL_FRAME);
}

static void only_what_is_durable_is_copied(void **state) {
    world *w = *state;
    put_frame(w, 1, 3, 'a');
    put_frame(w, 2, 7, 'b');
    put_frame(w, 3, 3, 'c');
    run(w);
    assert_int_equal(value_of(w, 3), 0);
    assert_int_equal(hr_backfill_durable(w->backfill, 2), 2);
    run(w);
    assert_true(value_of(w, 3) == 'a' && value_of(w, 7) == 'b');
    assert_true(there(w, 1) == 3 && there(w, 2) == 7 && there(w, 3) == 0);
    assert_int_equal(hr_backfill_durable(w->backfill, 3), 1);
    run(w);
    assert_int_equal(value_of(w, 3), 'c');
    assert_int_equal(there(w, 3), 3);
}

static void the_newest_of_a_page_is_copied(void **state) {
    world *w = *state;
    for (uint32_t i = 1; i <= 40; i++) { /* more side by side than one write holds */
        put_frame(w, i, (uint8_t)(i % 20 + 1), (uint8_t)(i + 1));
    }
    hr_backfill_durable(w->backfill, 40);
    run(w);
    for (uint32_t i = 21; i <= 40; i++) {
        assert_int_equal(value_of(w, i % 20 + 1), i + 1);
        assert_int_equal(there(w, i), i % 20 + 1);
        assert_int_equal(there(w, i - 20), 0); /* it was not copied, and nobody asks for it */
    }
}

static void what_is_written_anew_is_not_there(void **state) {
    world *w = *state;
    uint8_t head[STORE_WAL_HEAD] = {0};
    put_frame(w, 1, 3, 'a');
    put_frame(w, 2, 4, 'b');
    hr_backfill_durable(w->backfill, 2);
    run(w);
    put(w, head, sizeof head, 0); /* the WAL begins anew */
    assert_true(there(w, 1) == 0 && there(w, 2) == 0);
    put_frame(w, 1, 4, 'c');
    assert_int_equal(there(w, 1), 0);
    assert_int_equal(hr_backfill_durable(w->backfill, 1), 1);
    run(w);
    assert_true(value_of(w, 3) == 'a' && value_of(w, 4) == 'c');
    assert_true(there(w, 1) == 4 && there(w, 2) == 0);
}

static void what_a_rollback_left_is_written_over(void **state) {
    world *w = *state;
    put_frame(w, 1, 3, 'a');
    put_frame(w, 2, 5, 'x'); /* spilled, and rolled back */
    put_frame(w, 3, 6, 'x');
    put_frame(w, 2, 8, 'b');
    hr_backfill_durable(w->backfill, 2);
    run(w);
    assert_true(value_of(w, 3) == 'a' && value_of(w, 8) == 'b');
    assert_true(value_of(w, 5) == 0 && value_of(w, 6) == 0);
}

static void what_is_not_known_is_left_to_the_checkpoint(void **state) {
    world *w = *state;
    uint8_t odd[FRAME] = {0};
    put_frame(w, 1, 3, 'a');
    put_frame(w, 2, 4, 'b');
    put_frame(w, 3, 5, 'c');
    put(w, odd, 100, frame_at(2) - 50); /* into two frames */
    hr_backfill_durable(w->backfill, 3);
    run(w);
    assert_true(value_of(w, 3) == 0 && value_of(w, 4) == 0 && value_of(w, 5) == 'c');
    assert_true(there(w, 1) == 0 && there(w, 2) == 0 && there(w, 3) == 5);
    assert_int_equal(hr_backfill_page(w->backfill, PAGE, frame_at(3)), 0);
    assert_int_equal(hr_backfill_page(w->backfill, 24, frame_at(3)), 0);
}

static void a_file_that_cannot_be_written_ends_it(void **state) {
    world *w = *state;
    put_frame(w, 1, 3, 'a');
    hr_backfill_durable(w->backfill, 1);
    close_file(w->file);
    w->file = open_file(w->names[1], SQLITE_OPEN_READONLY);
    assert_int_equal(hr_backfill_run(w->backfill, w->wal, w->file, 0) & 0xff, SQLITE_IOERR);
    assert_int_equal(there(w, 1), 0);
}

/* ---- with SQLite ---- */

typedef struct base {
    world *world;
    struct store_pages *pages;
    sqlite3 *db;
    int frames;
} base;

static int note_frames(void *data, sqlite3 *db, const char *name, int frames) {
    (void)db;
    (void)name;
    ((base *)data)->frames = frames;
    return SQLITE_OK;
}

static void run_sql(base *b, const char *text) {
    assert_int_equal(sqlite3_exec(b->db, text, NULL, NULL, NULL), SQLITE_OK);
}

static void open_base(base *b, const char *path) {
    b->pages = hr_pages_new(NULL, PAGE);
    assert_int_equal(sqlite3_open_v2(path, &b->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                                     hr_pages_name(b->pages)),
                     SQLITE_OK);
    assert_int_equal(hr_pages_reserve(b->db), SQLITE_OK);
    run_sql(b, "PRAGMA locking_mode=EXCLUSIVE;PRAGMA page_size=4096;PRAGMA journal_mode=WAL;"
               "PRAGMA synchronous=FULL;PRAGMA wal_autocheckpoint=0");
    sqlite3_wal_hook(b->db, note_frames, b);
}

static void close_base(base *b) {
    assert_int_equal(sqlite3_close(b->db), SQLITE_OK);
    hr_pages_free(b->pages);
}

/* Rows value, value + 1 ... of a round, each of most of a page, and each a commit. */
static void fill(base *b, int round) {
    for (int i = 0; i < ROWS; i++) {
        char text[160];
        snprintf(text, sizeof text,
                 "INSERT OR REPLACE INTO t VALUES (%d, %d, CAST(printf('%%.%dc', 'x') AS BLOB))",
                 i * (round + 1), round, ROW_BYTES);
        run_sql(b, text);
    }
}

static int64_t ask(base *b, const char *text) {
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(b->db, text, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
}

static void expect_rows(base *b, int round) {
    assert_int_equal(ask(b, "SELECT count(*) FROM pragma_integrity_check WHERE "
                            "integrity_check = 'ok'"),
                     1);
    char text[80];
    snprintf(text, sizeof text, "SELECT count(*) FROM t WHERE round = %d", round);
    assert_int_equal(ask(b, text), ROWS);
}

static void a_checkpoint_takes_what_is_there_from_nowhere(void **state) {
    base b = {.world = *state};
    char *path = name_in(b.world->dir, "db"), *wal_path = name_in(b.world->dir, "db-wal");
    uint8_t garbage[PAGE];
    memset(garbage, 0xa5, sizeof garbage);
    open_base(&b, path);
    run_sql(&b, "CREATE TABLE t (id INTEGER PRIMARY KEY, round, bytes)");
    fill(&b, 0);
    uint32_t copied = (uint32_t)b.frames;
    assert_int_equal(hr_pages_durable(b.pages, copied), copied);
    assert_int_equal(hr_pages_backfill(b.pages, 0), SQLITE_OK);
    assert_int_equal(hr_pages_durable(b.pages, copied), 0);
    int fd = open(wal_path, O_RDWR | O_CLOEXEC);
    for (uint32_t i = 1; i <= copied; i++) { /* the checkpoint must not need it */
        assert_int_equal(pwrite(fd, garbage, PAGE, frame_at(i) + STORE_WAL_FRAME), PAGE);
    }
    close(fd);
    int all = 0, moved = 0;
    assert_int_equal(hr_pages_checkpoint(b.pages, b.db, &all, &moved), SQLITE_OK);
    assert_true(all == (int)copied && moved == all);
    close_base(&b);
    open_base(&b, path);
    expect_rows(&b, 0);
    close_base(&b);
    hr_free(path);
    hr_free(wal_path);
}

static void a_checkpoint_takes_all_that_came_behind(void **state) {
    base b = {.world = *state};
    char *path = name_in(b.world->dir, "db");
    open_base(&b, path);
    run_sql(&b, "CREATE TABLE t (id INTEGER PRIMARY KEY, round, bytes)");
    for (int round = 0; round < 6; round++) { /* of the same pages and of new ones, in one WAL */
        fill(&b, round);
        if (round % 2 == 0) {
            hr_pages_durable(b.pages, (uint32_t)b.frames - 3);
            assert_int_equal(hr_pages_backfill(b.pages, round % 4 == 0 ? 0 : UINT32_MAX),
                             SQLITE_OK);
        }
    }
    int all = 0, moved = 0;
    assert_int_equal(hr_pages_checkpoint(b.pages, b.db, &all, &moved), SQLITE_OK);
    assert_true(all > 0 && moved == all);
    run_sql(&b, "DELETE FROM t WHERE round < 6"); /* in a WAL that begins anew */
    fill(&b, 6);
    hr_pages_durable(b.pages, (uint32_t)b.frames - 3);
    assert_int_equal(hr_pages_backfill(b.pages, UINT32_MAX), SQLITE_OK);
    assert_int_equal(hr_pages_checkpoint(b.pages, b.db, &all, &moved), SQLITE_OK);
    close_base(&b);
    open_base(&b, path);
    expect_rows(&b, 6);
    assert_int_equal(ask(&b, "SELECT count(*) FROM t"), ROWS);
    close_base(&b);
    hr_free(path);
}

#define BACKFILL_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        BACKFILL_TEST(only_what_is_durable_is_copied),
        BACKFILL_TEST(the_newest_of_a_page_is_copied),
        BACKFILL_TEST(what_is_written_anew_is_not_there),
        BACKFILL_TEST(what_a_rollback_left_is_written_over),
        BACKFILL_TEST(what_is_not_known_is_left_to_the_checkpoint),
        BACKFILL_TEST(a_file_that_cannot_be_written_ends_it),
        BACKFILL_TEST(a_checkpoint_takes_what_is_there_from_nowhere),
        BACKFILL_TEST(a_checkpoint_takes_all_that_came_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
