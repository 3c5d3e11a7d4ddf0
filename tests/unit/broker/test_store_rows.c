/* SPDX-License-Identifier: Apache-2.0 */
/* What a commit writes beside its events is little: a page of a journal is filled before the next
 * is begun, and a feed's own row may be behind its journal, which says the same. Nobody can tell.
 */
#include "broker/recover.h"
#include "broker/store_priv.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PAGE = STORE_PAGE_BYTES, COMMITS = 100, ENVELOPE_ROOM = 80 };

typedef struct world {
    char *dir, *copy;
    hr_store *store;
    uint32_t in;
    uint64_t next;
} world;

static void open_store(world *w, const char *dir) {
    uint32_t epoch = 0;
    hr_error err = {0};
    hr_store_options options = fixture_options(dir);
    if (hr_store_open(&options, &w->store, &err) != HR_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(hr_store_feed_open(w->store, "journal", "in", &w->in, &epoch, NULL), HR_OK);
}

static int set_up(void **state) {
    world *w = hr_alloc(sizeof *w);
    w->dir = fixture_dir();
    w->copy = fixture_dir();
    w->next = 1;
    open_store(w, w->dir);
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    hr_store_close(w->store);
    fixture_remove(w->dir);
    fixture_remove(w->copy);
    hr_free(w);
    return 0;
}

static void append(world *w, uint32_t count, size_t data) {
    hr_batch *batch = fixture_batch(w->in, w->next, count, data);
    assert_int_equal(fixture_append(w->store, w->in, batch), HR_OK);
    w->next += count;
}

static uint64_t file_pages(const world *w) {
    hr_buffer file = {0};
    fixture_load(w->dir, "headrace.db", &file);
    uint64_t pages = file.size / PAGE;
    hr_buffer_fini(&file);
    return pages;
}

static void expect_events(world *w, size_t data) {
    for (uint64_t want = 1; want < w->next;) {
        hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .from = want, .max_bytes = 1 << 20};
        fixture_read(w->store, &read);
        assert_int_equal(read.result, HR_OK);
        assert_int_equal(read.corrupt_count, 0);
        assert_true(read.batch->count > 0);
        for (uint32_t i = 0; i < read.batch->count; i++, want++) {
            assert_int_equal(read.batch->position[i], want);
            assert_true(data == 0 || fixture_is_whole(read.batch, i, data));
        }
        hr_read_fini(&read);
    }
}

/* ---- pages ---- */

/* Rows of more than half a page would leave the other half of each. */
static void a_page_is_filled_before_the_next_is_begun(void **state) {
    enum { AT_ONCE = 20, DATA = 400 };
    world *w = *state;
    hr_store_close(w->store);
    uint64_t before = file_pages(w);
    open_store(w, w->dir);
    for (int i = 0; i < COMMITS; i++) {
        append(w, AT_ONCE, DATA);
    }
    expect_events(w, DATA);
    hr_store_close(w->store);
    uint64_t bytes = (uint64_t)COMMITS * AT_ONCE * (DATA + ENVELOPE_ROOM);
    uint64_t pages = file_pages(w) - before;
    assert_in_range(pages, COMMITS * AT_ONCE * DATA / PAGE, bytes / PAGE * 11 / 10 + 3);
    assert_true(pages < COMMITS);
    open_store(w, w->dir);
    expect_events(w, DATA);
}

static void any_sizes_in_any_order_are_there(void **state) {
    world *w = *state;
    srand(1);
    for (int i = 0; i < 4 * COMMITS; i++) {
        uint32_t count = 1 + (uint32_t)rand() % 60;
        append(w, count, (size_t)(rand() % (i % 7 == 0 ? 9000 : 700)));
        if (i % 50 == 49) {
            hr_store_close(w->store);
            open_store(w, w->dir);
        }
    }
    expect_events(w, 0);
}

/* ---- history ---- */

static uint64_t oldest(world *w) {
    hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .max = 1};
    fixture_read(w->store, &read);
    uint64_t position = read.batch == NULL ? w->next : read.batch->position[0];
    hr_read_fini(&read);
    return position;
}

/* A journal that keeps so much, and a function that handles all of it. */
static uint32_t keep_little(world *w, uint64_t bytes) {
    uint32_t one = 0, epoch = 0;
    hr_store_close(w->store);
    hr_store_options options = fixture_options(w->dir);
    options.journal_max_bytes = bytes;
    assert_int_equal(hr_store_open(&options, &w->store, NULL), HR_OK);
    assert_int_equal(hr_store_feed_open(w->store, "journal", "in", &w->in, &epoch, NULL), HR_OK);
    assert_int_equal(hr_store_function_open(w->store, "one", NULL, &one, NULL), HR_OK);
    return one;
}

/* Returns how many pages it wrote. */
static int append_handled(world *w, uint32_t function, uint32_t count, size_t data) {
    int before = w->store->wal_frames;
    append(w, count, data);
    hr_unit unit = {.function = function, .feed = w->in, .has_checkpoint = true, .low = w->next};
    assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
    int after = w->store->wal_frames;
    return after >= before ? after - before : after; /* the WAL began anew */
}

/* Never more than there may be, and most commits delete nothing. */
static void history_goes_in_strides(void **state) {
    enum { AT_ONCE = 20, DATA = 400, MAX = 4 << 20 };
    world *w = *state;
    uint32_t one = keep_little(w, MAX);
    unsigned commits = 0, deletes = 0;
    for (uint64_t before = 1; commits < 300;) {
        append_handled(w, one, AT_ONCE, DATA);
        uint64_t now = oldest(w);
        commits += now > 1 ? 1 : 0; /* there is as much as may be */
        deletes += now > before ? 1 : 0;
        before = now;
        assert_true((w->next - now) * DATA <= MAX);
        assert_true(now == 1 || (w->next - now) * (DATA + ENVELOPE_ROOM) > MAX / 20 * 17);
    }
    assert_in_range(deletes, 300 / 20, 300 / 3);
}

/* Debian's SQLite writes each page that it frees full of zeros, unless it is told not to. */
static void history_goes_without_being_written(void **state) {
    enum { AT_ONCE = 256, DATA = 400, MAX = 32 << 20, ROUND = 100 };
    world *w = *state;
    uint32_t one = keep_little(w, MAX);
    int grown = 0, full = 0;
    for (int i = 0; i < ROUND; i++) {
        grown += append_handled(w, one, AT_ONCE, DATA);
    }
    assert_int_equal(oldest(w), 1);
    while (oldest(w) == 1) {
        append_handled(w, one, AT_ONCE, DATA);
    }
    uint64_t before = oldest(w);
    for (int i = 0; i < ROUND; i++) {
        full += append_handled(w, one, AT_ONCE, DATA);
    }
    assert_true(oldest(w) - before >= AT_ONCE * ROUND / 2);
    assert_in_range(full, grown, grown + grown / 5 * 2);
}

/* ---- the feed's own row ---- */

/* What a daemon that dies now leaves behind. */
static void copy_state(const world *w) {
    static const char *const names[] = {"headrace.db", "headrace.db-wal", "headrace.db-mark"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hr_buffer file = {0};
        fixture_load(w->dir, names[i], &file);
        fixture_save(w->copy, names[i], file.bytes, file.size);
        hr_buffer_fini(&file);
    }
}

/* The next position as the row in a folder has it; 0: there is none. */
static uint64_t row_of(const world *w, const char *dir) {
    sqlite3 *db = NULL;
    sqlite3_stmt *row = NULL;
    char *path = hr_format("%s/headrace.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT low FROM checkpoint WHERE function = 0 AND feed = ?1", -1,
                           &row, NULL),
        SQLITE_OK);
    sqlite3_bind_int64(row, 1, w->in);
    uint64_t low = sqlite3_step(row) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(row, 0) : 0;
    sqlite3_finalize(row);
    sqlite3_close(db);
    hr_free(path);
    return low;
}

typedef struct told {
    uint64_t next, received, malformed;
} told;

static void on_feed(void *data, uint32_t feed, const char *kind, const char *identity,
                    uint64_t next, uint64_t unsettled, int64_t fire_us) {
    (void)feed, (void)kind, (void)identity, (void)unsettled, (void)fire_us;
    ((told *)data)->next = next;
}

static void on_checkpoint(void *data, uint32_t function, uint32_t feed, uint64_t low,
                          hr_slice settled, const hr_counters *counters) {
    (void)feed, (void)low, (void)settled;
    if (function == 0) {
        ((told *)data)->received = counters->received;
        ((told *)data)->malformed = counters->malformed;
    }
}

static told load(hr_store *store) {
    told t = {0};
    hr_store_loader loader = {.data = &t, .feed = on_feed, .checkpoint = on_checkpoint};
    assert_int_equal(hr_store_load(store, 0, &loader, NULL), HR_OK);
    return t;
}

/* After a crash at any commit all is counted, whatever the row said. */
static void what_a_row_is_behind_the_journal_says(void **state) {
    enum { AT_ONCE = 3 };
    world *w = *state;
    uint64_t most = 0, malformed = 0;
    for (int i = 0; i < 3 * STORE_LAG_COMMITS; i++) {
        if (i % 11 == 5) { /* what only the row knows goes with its commit */
            hr_unit unit = {.feed = w->in, .counters = {.malformed = 1}};
            assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
            malformed++;
        } else {
            append(w, AT_ONCE, 100);
        }
        world after = *w;
        copy_state(w);
        open_store(&after, w->copy);
        told t = load(after.store);
        assert_int_equal(t.next, w->next);
        assert_int_equal(t.received, w->next - 1);
        assert_int_equal(t.malformed, malformed);
        append(&after, 1, 100); /* where the journal ends */
        hr_store_close(after.store);
        assert_int_equal(row_of(&after, w->copy), after.next); /* a clean stop leaves it so */
        copy_state(w);
        uint64_t row = row_of(w, w->copy), behind = w->next - (row == 0 ? 1 : row);
        most = behind > most ? behind : most;
        fixture_remove(w->copy);
        w->copy = fixture_dir();
    }
    assert_in_range(most, AT_ONCE * 8, AT_ONCE * (STORE_LAG_COMMITS - 1));
}

/* A row that is further behind than any commit leaves it is an old one: so may others be. */
static void a_row_that_is_too_far_behind_is_damage(void **state) {
    enum { AT_ONCE = 200, DATA = 1000 };
    world *w = *state;
    uint64_t first = 0;
    for (int i = 0; i < 40; i++) {
        append(w, AT_ONCE, DATA);
        copy_state(w);
        uint64_t row = row_of(w, w->copy);
        first = first == 0 ? row : first;
        uint64_t behind = w->next - (row == 0 ? 1 : row);
        assert_true(behind * DATA < STORE_LAG_BYTES); /* though fewer than so many commits */
        fixture_remove(w->copy);
        w->copy = fixture_dir();
    }
    char *text = hr_format("UPDATE checkpoint SET low = %llu WHERE function = 0",
                           (unsigned long long)(first == 0 ? 1 : first));
    assert_int_equal(sqlite3_exec(w->store->db, text, NULL, NULL, NULL), SQLITE_OK);
    hr_free(text);
    copy_state(w);
    hr_store *store = NULL;
    hr_error err = {0};
    hr_store_options options = fixture_options(w->copy);
    assert_int_equal(hr_store_open(&options, &store, &err), HR_E_STORE_CORRUPT);
    assert_non_null(strstr(err.text, "holds more than it says"));
}

/* So has one whose journal ends before what was handled. */
static void a_journal_that_ends_too_early_is_damage(void **state) {
    world *w = *state;
    uint32_t one = 0;
    assert_int_equal(hr_store_function_open(w->store, "one", NULL, &one, NULL), HR_OK);
    append(w, 5, 100);
    for (uint64_t low = w->next; low <= w->next + 1; low++) {
        hr_unit unit = {.function = one, .feed = w->in, .has_checkpoint = true, .low = low};
        assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
        copy_state(w);
        hr_store *store = NULL;
        hr_error err = {0};
        hr_store_options options = fixture_options(w->copy);
        bool is_damage = low > w->next;
        assert_int_equal(hr_store_open(&options, &store, &err),
                         is_damage ? HR_E_STORE_CORRUPT : HR_OK);
        assert_true(!is_damage || strstr(err.text, "ends before what function") != NULL);
        hr_store_close(store);
    }
}

/* ---- when the numbers cannot be read again ---- */

static int stop_after(void *data) {
    int *left = data;
    return --*left < 0;
}

/* Wherever the numbering of names ends, what the feeds hold and who takes from them is known. */
static void numbers_that_cannot_be_read_stay(void **state) {
    world *w = *state;
    uint32_t one = 0, other = 0, epoch = 0;
    assert_int_equal(hr_store_function_open(w->store, "one", NULL, &one, NULL), HR_OK);
    hr_unit unit = {.function = one, .feed = w->in, .has_checkpoint = true, .low = 1};
    assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
    append(w, 5, 100);
    hr_code code = HR_E_STORE_IO;
    for (int steps = 0; code != HR_OK && steps < 4000; steps += 7) {
        int left = steps;
        sqlite3_progress_handler(w->store->db, 1, stop_after, &left);
        code = hr_store_feed_open(w->store, "pull", "k", &other, &epoch, NULL);
        sqlite3_progress_handler(w->store->db, 0, NULL, NULL);
        sqlite3_exec(w->store->db, "ROLLBACK", NULL, NULL, NULL); /* that was stopped too */
        w->store->has_failed = false;
        assert_int_equal(hr_store_feed(w->store, w->in)->next, w->next);
        assert_int_equal(hr_store_feed(w->store, w->in)->base, w->next - 1);
        assert_int_equal(w->store->cursor_count, 1);
    }
    assert_int_equal(code, HR_OK);
    expect_events(w, 100);
}

/* ---- recovery ---- */

typedef struct said {
    uint64_t saved;
    bool is_tail_unknown, is_loss_counted;
} said;

static void on_table(void *data, const char *name, uint64_t saved) {
    ((said *)data)->saved += strncmp(name, "journal_", 8) == 0 ? saved : 0;
}

static void on_line(void *data, bool is_loss, const char *text) {
    said *s = data;
    s->is_tail_unknown = s->is_tail_unknown || (is_loss && strstr(text, "may be gone") != NULL);
    s->is_loss_counted =
        s->is_loss_counted || (is_loss && strstr(text, "are lost: at least 20") != NULL);
}

/* A leaf of the journal, counted from the last that the WAL has, holds nothing any more. */
static void spoil_leaf(const char *dir, size_t which) {
    enum { FRAME = STORE_WAL_FRAME + PAGE, LEAVES = 100 };
    hr_buffer wal = {0};
    fixture_load(dir, "headrace.db-wal", &wal);
    uint32_t leaves[LEAVES];
    size_t count = 0, frames = (wal.size - STORE_WAL_HEAD) / FRAME;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < frames; i++) {
            uint8_t *bytes = wal.bytes + STORE_WAL_HEAD + i * FRAME;
            store_wal_frame frame;
            hr_wal_read_frame(bytes, &frame);
            bool is_leaf = bytes[STORE_WAL_FRAME] == 0x0d &&
                           memmem(bytes, FRAME, "/test/store", strlen("/test/store")) != NULL;
            if (pass == 0 && is_leaf && (count == 0 || leaves[count - 1] != frame.page)) {
                assert_true(count < LEAVES);
                leaves[count++] = frame.page;
            } else if (pass == 1 && frame.page == leaves[count - which]) {
                memset(bytes + STORE_WAL_FRAME + 100, 0x55, PAGE - 400);
            }
        }
        assert_true(count >= which);
    }
    fixture_save(dir, "headrace.db-wal", wal.bytes, wal.size);
    hr_buffer_fini(&wal);
}

/* What went with a page is counted, though the row did not count it; where it was the last page
 * nobody knows, and that is said. No position is given a second time. */
static void what_goes_beside_a_row_that_is_behind_is_said(void **state) {
    enum { AT_ONCE = 20, DATA = 700, OLD = 400 }; /* that fill a page */
    world *w = *state;
    uint32_t one = 0;
    for (size_t round = 0; round < 3; round++) {
        bool has_row = round > 0, is_last = round == 2;
        hr_store_close(w->store);
        fixture_remove(w->dir);
        w->dir = fixture_dir();
        w->next = 1;
        open_store(w, w->dir);
        assert_int_equal(hr_store_function_open(w->store, "one", NULL, &one, NULL), HR_OK);
        hr_unit unit = {.function = one, .feed = w->in, .has_checkpoint = true, .low = 1};
        assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
        for (int i = 0; has_row && i < OLD / AT_ONCE; i++) {
            append(w, AT_ONCE, DATA);
        }
        if (has_row) { /* what is there is in the file */
            hr_store_close(w->store);
            open_store(w, w->dir);
        }
        for (int i = 0; i < 10; i++) {
            append(w, AT_ONCE, DATA);
        }
        copy_state(w);
        spoil_leaf(w->copy, is_last ? 1 : 4);
        char *saved = fixture_dir();
        said s = {0};
        hr_recovery recovery = {.data = &s, .table = on_table, .line = on_line};
        hr_error err = {0};
        if (hr_store_recover(w->copy, saved, &recovery, &err) != HR_OK) {
            fail_msg("%s", err.text);
        }
        assert_int_equal(s.saved, w->next - 1 - AT_ONCE);
        assert_true(s.is_tail_unknown);
        assert_int_equal(s.is_loss_counted, !is_last);
        world after = *w;
        open_store(&after, saved);
        told found = load(after.store);
        assert_int_equal(found.received, w->next - 1 - (is_last ? AT_ONCE : 0));
        assert_true(found.next >= w->next);
        hr_store_close(after.store);
        fixture_remove(saved);
        fixture_remove(w->copy);
        w->copy = fixture_dir();
    }
}

#define ROWS_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        ROWS_TEST(a_page_is_filled_before_the_next_is_begun),
        ROWS_TEST(any_sizes_in_any_order_are_there),
        ROWS_TEST(history_goes_in_strides),
        ROWS_TEST(history_goes_without_being_written),
        ROWS_TEST(what_a_row_is_behind_the_journal_says),
        ROWS_TEST(a_row_that_is_too_far_behind_is_damage),
        ROWS_TEST(a_journal_that_ends_too_early_is_damage),
        ROWS_TEST(numbers_that_cannot_be_read_stay),
        ROWS_TEST(what_goes_beside_a_row_that_is_behind_is_said),
    };
    return cmocka_run_group_tests_name("store_rows", tests, NULL, NULL);
}
