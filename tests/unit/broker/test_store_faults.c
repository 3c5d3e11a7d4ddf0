/* SPDX-License-Identifier: Apache-2.0 */
/* The store on files that were changed, disks that fill up and disks that fail. */
#include "broker/store.h"
#include "core/log.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"
#include "tests/sim/vfs_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct world {
    char *dir;
    hr_store *store;
    hr_vfs_sim *sim;
    uint32_t in, one;
    int space_calls;
    bool is_open;
} world;

static void on_space(void *data, bool open) {
    world *w = data;
    w->space_calls++;
    w->is_open = open;
}

static hr_code open_world(world *w, const hr_store_options *options, hr_error *err) {
    uint32_t epoch = 0;
    hr_code code = hr_store_open(options, &w->store, err);
    if (code != HR_OK) {
        w->store = NULL;
        return code;
    }
    code = hr_store_feed_open(w->store, "journal", "in", &w->in, &epoch, err);
    return code == HR_OK ? hr_store_function_open(w->store, "one", NULL, &w->one, err) : code;
}

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

static hr_code settle(world *w, uint64_t low) {
    hr_unit unit = {.function = w->one, .feed = w->in, .has_checkpoint = true, .low = low};
    return fixture_commit(w->store, &unit);
}

/* ---- folders ---- */

static void the_folders_above_a_state_are_durable_before_it_is(void **state) {
    world *w = *state;
    char *above = hr_format("%s/a", w->dir), *folder = hr_format("%s/a/b", w->dir);
    char *its = hr_format("%s/a/b/state", w->dir);
    hr_store_options options = fixture_options(its);
    options.vfs = "sim";
    for (int life = 0; life < 2; life++) { /* a start that was killed may have made them */
        hr_vfs_sim_reset(w->sim, 1);
        assert_int_equal(open_world(w, &options, NULL), HR_OK);
        hr_store_close(w->store);
        w->store = NULL;
        assert_int_equal(hr_vfs_sim_has_synced(w->sim, w->dir), life == 0);
        assert_int_equal(hr_vfs_sim_has_synced(w->sim, above), life == 0);
        assert_true(hr_vfs_sim_has_synced(w->sim, folder));
    }
    fixture_remove(its);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(mkdir(folder, 0700), 0); /* made, and killed before that was durable */
    its = hr_format("%s/a/b/state", w->dir);
    hr_vfs_sim_reset(w->sim, 1);
    options.dir = its;
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
    hr_store_close(w->store);
    w->store = NULL;
    assert_true(hr_vfs_sim_has_synced(w->sim, above));
    fixture_remove(its);
    rmdir(folder);
    rmdir(above);
    hr_free(folder);
    hr_free(above);
}

/* ---- changed files ---- */

enum { PAGE = 16384 };

static char *database(const world *w) {
    return hr_format("%s/headrace.db", w->dir);
}

/* Where text stands in a row of a leaf; NULL: in none. What was deleted or moved is still there
 * between the cells, and in pages that are no leaf any more. */
static const uint8_t *in_a_row(const uint8_t *page, size_t size, const char *text) {
    size_t rows = (size_t)page[5] << 8 | page[6];
    return page[0] != 0x0d || rows >= size ? NULL
                                           : memmem(page + rows, size - rows, text, strlen(text));
}

/* Writes bytes over the place where text stands in the database. */
static void overwrite(const world *w, const char *text, const void *bytes, size_t size) {
    char *path = database(w);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    hr_buffer all = {0};
    for (size_t got = 1; got > 0;) {
        got = fread(hr_buffer_room(&all, 65536), 1, 65536, file);
        all.size += got;
    }
    const uint8_t *at = NULL;
    for (size_t page = 0; at == NULL && page < all.size; page += PAGE) {
        at = in_a_row(all.bytes + page, PAGE, text);
    }
    assert_non_null(at);
    fseek(file, (long)(at - all.bytes), SEEK_SET);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    hr_buffer_fini(&all);
    hr_free(path);
}

/* What a SQLite does not do that writes to the file: the sum at the end of the first page. */
static void sign_first_page(const world *w) {
    char *path = database(w);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t page[PAGE];
    assert_int_equal(pread(fd, page, sizeof page, 0), sizeof page);
    uint64_t sum = hr_hash_more(1, hr_slice_of(page, sizeof page - 8));
    for (int i = 0; i < 8; i++) {
        page[sizeof page - 8 + (size_t)i] = (uint8_t)(sum >> (8 * i));
    }
    assert_int_equal(pwrite(fd, page, sizeof page, 0), sizeof page);
    close(fd);
    hr_free(path);
}

static void a_changed_byte_is_reported_and_the_rest_is_read(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 1, 250, 100)), HR_OK);
    hr_store_close(w->store);
    overwrite(w, "1-20\x12", "1-2!", 4); /* in the id of position 20 */
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
    hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in};
    fixture_read(w->store, &read);
    assert_int_equal(read.result, HR_OK);
    assert_int_equal(read.batch->count, 249); /* its neighbours on the page too */
    assert_int_equal(read.corrupt_count, 1);
    assert_int_equal(read.corrupt[0], 20);
    assert_true(read.at_end);
    for (uint32_t i = 0; i < read.batch->count; i++) {
        assert_true(fixture_is_whole(read.batch, i, 100));
    }
    hr_read_fini(&read);
}

/* A thousand events, and the leaf that holds the 500th is damaged. */
static void leave_a_damaged_page(world *w, const hr_store_options *options) {
    assert_int_equal(open_world(w, options, NULL), HR_OK);
    for (uint64_t at = 1; at < 1000; at += 100) {
        assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, at, 100, 100)),
                         HR_OK);
    }
    assert_int_equal(settle(w, 1), HR_OK);
    hr_store_close(w->store);
    char *path = database(w);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t page[PAGE];
    off_t at = 0;
    while (pread(fd, page, sizeof page, at) == (ssize_t)sizeof page &&
           in_a_row(page, sizeof page, "1-500\x12") == NULL) {
        at += (off_t)sizeof page;
    }
    memset(page, 0xff, 64);
    assert_int_equal(pwrite(fd, page, 64, at), 64);
    close(fd);
    hr_free(path);
}

static void a_damaged_page_costs_its_own_events_only(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    leave_a_damaged_page(w, &options);
    assert_int_equal(open_world(w, &options, NULL), HR_OK); /* no refusal to start */
    uint64_t read_count = 0, corrupt_count = 0, from = 1;
    for (bool at_end = false; !at_end;) {
        hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .from = from};
        fixture_read(w->store, &read);
        assert_int_equal(read.result, HR_OK);
        at_end = read.at_end;
        read_count += read.batch == NULL ? 0 : read.batch->count;
        corrupt_count += read.corrupt_count;
        from = read.batch == NULL ? from : read.batch->position[read.batch->count - 1] + 1;
        hr_read_fini(&read);
    }
    assert_int_equal(read_count + corrupt_count, 1000);
    assert_in_range(corrupt_count, 50, 120); /* a page holds about 90 */
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 1001, 10, 100)), HR_OK);
}

/* A commit deletes the history beside a damaged page, and a page that is emptied is balanced with
 * its neighbours: that ends the store, and every later start says so and what helps. */
static void damage_that_a_commit_meets_is_said_once_and_again(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    leave_a_damaged_page(w, &options);
    options.journal_max_bytes = 0;
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
    hr_code code = HR_OK;
    for (uint64_t low = 2; code == HR_OK && low < 500; low++) {
        code = settle(w, low);
    }
    assert_int_equal(code, HR_E_STORE_IO);
    hr_store_close(w->store);
    w->store = NULL;
    hr_error err = {0};
    assert_int_equal(hr_store_open(&options, &w->store, &err), HR_E_STORE_CORRUPT);
    assert_non_null(strstr(err.text, "headrace recover"));
}

/* All that is in the file after a clean stop: no flipped bit goes unseen. */
static void o_d6_a_flipped_bit_costs_one_event_or_is_refused_in_a_line(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
    for (uint64_t at = 1; at < 300; at += 100) {
        assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, at, 100, 400)),
                         HR_OK);
    }
    assert_int_equal(settle(w, 7), HR_OK);
    hr_store_close(w->store);
    w->store = NULL;
    char *path = database(w);
    struct stat found;
    assert_int_equal(stat(path, &found), 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    for (uint64_t i = 0; i < 300; i++) {
        uint64_t bit = (uint64_t)found.st_size * 8 / 300 * i + i * 7 % 8;
        bit = i < 60 ? i * 14 : bit; /* the head of the file first */
        uint8_t byte = 0;
        assert_int_equal(pread(fd, &byte, 1, (off_t)(bit / 8)), 1);
        byte ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
        hr_error err = {0};
        hr_code code = hr_store_open(&options, &w->store, &err);
        uint64_t whole = 0, corrupt = 0, from = 1;
        for (bool at_end = code != HR_OK; !at_end;) {
            hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .from = from};
            fixture_read(w->store, &read);
            assert_int_equal(read.result, HR_OK);
            for (uint32_t k = 0; read.batch != NULL && k < read.batch->count; k++) {
                assert_true(fixture_is_whole(read.batch, k, 400));
            }
            at_end = read.at_end;
            whole += read.batch == NULL ? 0 : read.batch->count;
            corrupt += read.corrupt_count;
            from = read.batch == NULL ? from : read.batch->position[read.batch->count - 1] + 1;
            hr_read_fini(&read);
        }
        if (code == HR_OK) {
            assert_int_equal(whole + corrupt, 300);
            assert_in_range(corrupt, 0, 40); /* one, or a page of them */
        } else {
            assert_non_null(strstr(err.text, "headrace recover"));
            assert_null(strchr(err.text, '\n'));
        }
        if (code == HR_OK) {
            hr_store_close(w->store);
        }
        w->store = NULL;
        byte ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
    }
    close(fd);
    hr_free(path);
}

static void a_newer_schema_is_refused_in_one_line(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
    hr_store_close(w->store);
    char *path = database(w);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version=99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    sign_first_page(w);
    hr_free(path);
    hr_error err = {0};
    assert_int_equal(open_world(w, &options, &err), HR_E_STORE_NEWER);
    assert_non_null(strstr(err.text, "99"));
    assert_null(strchr(err.text, '\n'));
}

/* A file of ours that says schema 0 was never written: no step may run over it. */
static void a_schema_that_never_was_is_refused_and_left_alone(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
    hr_store_close(w->store);
    char *path = database(w);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version=0", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    sign_first_page(w);
    assert_int_equal(open_world(w, &options, NULL), HR_E_STORE_CORRUPT);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version=2", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    sign_first_page(w);
    hr_free(path);
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
}

static void a_foreign_file_is_refused_and_left_alone(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    char *path = database(w);
    FILE *file = fopen(path, "wb");
    for (int i = 0; i < 1000; i++) {
        fputs("this is no database\n", file);
    }
    fclose(file);
    hr_error err = {0};
    assert_int_equal(open_world(w, &options, &err), HR_E_STORE_CORRUPT);
    struct stat found;
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(found.st_size, 20000);
    hr_free(path);
}

/* ---- a disk that fails ---- */

static void o_d2_after_a_failed_sync_nothing_is_acknowledged(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    options.vfs = "sim";
    for (uint64_t call = 1; call < 12; call++) {
        hr_vfs_sim_reset(w->sim, call);
        assert_int_equal(open_world(w, &options, NULL), HR_OK);
        hr_vfs_sim_fail_at(w->sim, call);
        uint64_t acked = 0, next = 1;
        bool has_failed = false;
        for (int i = 0; i < 10; i++, next += 5) {
            hr_code code = fixture_append(w->store, w->in, fixture_batch(w->in, next, 5, 9000));
            assert_true(code == HR_OK || code == HR_E_STORE_IO);
            assert_false(has_failed && code == HR_OK);
            has_failed = code != HR_OK;
            acked = code == HR_OK ? next + 4 : acked;
        }
        assert_true(has_failed);
        assert_int_equal(settle(w, 1), HR_E_STORE_IO);
        uint32_t feed = 0, epoch = 0;
        hr_error err = {0};
        assert_int_equal(hr_store_feed_open(w->store, "journal", "later", &feed, &epoch, &err),
                         HR_E_STORE_STOPPED); /* its line is out: no second one */
        hr_store_close(w->store);
        hr_vfs_sim_restart(w->sim);
        assert_int_equal(open_world(w, &options, NULL), HR_OK);
        hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .max_bytes = 10 << 20};
        fixture_read(w->store, &read);
        assert_true((read.batch == NULL ? 0 : read.batch->count) >= acked);
        hr_read_fini(&read);
        hr_store_close(w->store);
        w->store = NULL;
    }
}

/* The simulator's seed 476: the daemon starts again after a sync failed, acknowledges more, and the
 * power goes. */
static void o_d2_what_a_failed_sync_left_out_takes_no_later_commit_with_it(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    options.vfs = "sim";
    options.wal_max_bytes = 256 << 10;
    for (uint64_t call = 1; call < 80; call++) {
        hr_vfs_sim_reset(w->sim, call);
        assert_int_equal(open_world(w, &options, NULL), HR_OK);
        hr_vfs_sim_fail_at(w->sim, call);
        uint64_t next = 1;
        while (fixture_append(w->store, w->in, fixture_batch(w->in, next, 5, 9000)) == HR_OK) {
            next += 5;
        }
        hr_store_close(w->store);
        assert_int_equal(open_world(w, &options, NULL), HR_OK);
        hr_batch *more = fixture_batch(w->in, next + 5, 5, 9000);
        assert_int_equal(fixture_append(w->store, w->in, more), HR_OK);
        hr_vfs_sim_cut_now(w->sim, false);
        hr_store_close(w->store);
        hr_vfs_sim_restart(w->sim);
        assert_int_equal(open_world(w, &options, NULL), HR_OK);
        hr_read read = {
            .kind = HR_READ_JOURNAL, .feed = w->in, .from = next + 5, .max_bytes = 10 << 20};
        fixture_read(w->store, &read);
        assert_int_equal(read.result, HR_OK);
        assert_true(read.batch != NULL && read.batch->count == 5);
        hr_read_fini(&read);
        hr_store_close(w->store);
        w->store = NULL;
    }
}

/* Seed 200401 of the simulator: EIO in a read of the WAL was taken for a malformed file. */
static void a_read_of_the_wal_that_fails_condemns_nothing(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    options.vfs = "sim";
    hr_vfs_sim_reset(w->sim, 1);
    int failed = 0;
    for (uint64_t call = 0; call < 200; call++) {
        hr_vfs_sim_fail_read(w->sim, call);
        hr_error err = {0};
        hr_code code = open_world(w, &options, &err);
        failed += code != HR_OK;
        assert_true(code == HR_OK || code == HR_E_STORE_IO);
        if (call == 0) {
            assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 1, 9, 9)), HR_OK);
        }
        hr_vfs_sim_cut_now(w->sim, true); /* the WAL stays for the next one to read */
        hr_store_close(w->store);
        w->store = NULL;
        hr_vfs_sim_restart(w->sim);
    }
    assert_true(failed > 10);
    hr_vfs_sim_fail_read(w->sim, 0);
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
}

/* SQLite calls EIO a malformed file; what is malformed is given up, event by event. */
static void a_read_that_fails_gives_no_event_up(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    options.vfs = "sim";
    hr_vfs_sim_reset(w->sim, 1);
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
    for (uint64_t next = 1; next < 60; next += 5) {
        hr_batch *batch = fixture_batch(w->in, next, 5, 30000);
        assert_int_equal(fixture_append(w->store, w->in, batch), HR_OK);
    }
    int failed = 0;
    for (uint64_t call = 1; call < 150; call++) {
        hr_store_close(w->store);
        w->store = NULL;
        hr_vfs_sim_fail_read(w->sim, 0);
        assert_int_equal(open_world(w, &options, NULL), HR_OK);
        hr_vfs_sim_fail_read(w->sim, call);
        for (int i = 0; i < 2; i++) {
            hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .max_bytes = 10 << 20};
            fixture_read(w->store, &read);
            assert_int_equal(read.corrupt_count, 0);
            failed += read.result != HR_OK;
            if (read.result == HR_OK) {
                assert_int_equal(read.batch->count, 60);
            } else {
                assert_int_equal(read.result, HR_E_STORE_IO);
            }
            hr_read_fini(&read);
        }
    }
    assert_true(failed > 50);
}

static uint32_t count_of(world *w, hr_read_kind kind, uint64_t position) {
    hr_read read = {.kind = kind,
                    .function = w->one,
                    .feed = w->in,
                    .max = 10,
                    .positions = &position,
                    .position_count = 1};
    fixture_read(w->store, &read);
    assert_int_equal(read.result, HR_OK);
    uint32_t count = kind == HR_READ_DEAD ? (uint32_t)read.found_count
                     : read.batch == NULL ? 0
                                          : read.batch->count;
    hr_read_fini(&read);
    return count;
}

/* An event that waits for its last attempt fails for good: what says so is one unit. */
static hr_code give_up(world *w, const hr_batch *batch) {
    hr_row rows[] = {
        {.kind = HR_ROW_UNPARK, .function = w->one, .feed = w->in, .position = 3},
        {.kind = HR_ROW_DEAD,
         .function = w->one,
         .feed = w->in,
         .position = 3,
         .attempt = 3,
         .reason = hr_slice_text("attempts exhausted"),
         .bytes = hr_batch_envelope(batch, 0)},
    };
    hr_unit unit = {.function = w->one,
                    .feed = w->in,
                    .has_checkpoint = true,
                    .low = 4,
                    .counters = {.dead = 1},
                    .rows = rows,
                    .row_count = 2};
    return fixture_commit(w->store, &unit);
}

static void o_f3_what_cannot_become_a_dead_letter_stays_parked(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    options.vfs = "sim";
    int kept = 0;
    hr_code code = HR_E_STORE_IO;
    for (uint64_t call = 1; code != HR_OK; call++) {
        hr_vfs_sim_reset(w->sim, call);
        assert_int_equal(open_world(w, &options, NULL), HR_OK);
        assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 1, 5, 20000)), HR_OK);
        hr_batch *third = fixture_batch(w->in, 3, 1, 20000);
        hr_row park = {.kind = HR_ROW_PARK,
                       .function = w->one,
                       .feed = w->in,
                       .position = 3,
                       .attempt = 2,
                       .bytes = hr_batch_envelope(third, 0)};
        hr_unit unit = {.function = w->one,
                        .feed = w->in,
                        .has_checkpoint = true,
                        .low = 4,
                        .rows = &park,
                        .row_count = 1};
        assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
        hr_vfs_sim_fail_at(w->sim, call);
        code = give_up(w, third);
        assert_true(code == HR_OK || code == HR_E_STORE_IO);
        hr_vfs_sim_fail_at(w->sim, 0);
        hr_store_close(w->store);
        hr_vfs_sim_restart(w->sim);
        assert_int_equal(open_world(w, &options, NULL), HR_OK);
        uint32_t parked = count_of(w, HR_READ_PARKED, 3), dead = count_of(w, HR_READ_DEAD, 3);
        assert_int_equal(parked + dead, 1); /* never neither, never both */
        assert_true(code != HR_OK || dead == 1);
        kept += parked == 1;
        if (parked == 1) {
            assert_int_equal(give_up(w, third), HR_OK);
            assert_int_equal(count_of(w, HR_READ_PARKED, 3), 0);
            assert_int_equal(count_of(w, HR_READ_DEAD, 3), 1);
        }
        hr_batch_unref(third);
        hr_store_close(w->store);
        w->store = NULL;
    }
    assert_true(kept > 0);
}

/* ---- a disk that is full ---- */

/* Appends until it is refused; returns the last position that was kept. */
static uint64_t fill(world *w, uint64_t next) {
    hr_code code = HR_OK;
    for (int i = 0; i < 5000 && code == HR_OK; i++) {
        code = fixture_append(w->store, w->in, fixture_batch(w->in, next, 20, 1000));
        next += code == HR_OK ? 20 : 0;
    }
    assert_int_equal(code, HR_E_STORE_FULL);
    return next - 1;
}

static void o_d4_a_full_disk_stops_the_intake_and_still_settles(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    options.vfs = "sim";
    options.ballast_bytes = 2 << 20;
    options.wal_max_bytes = 512 << 10;
    options.space = on_space;
    options.space_data = w;
    char *ballast = hr_format("%s/ballast", w->dir);
    hr_vfs_sim_set_room(w->sim, 4 << 20, ballast, options.ballast_bytes);
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
    struct stat found;
    assert_int_equal(stat(ballast, &found), 0);
    assert_true((uint64_t)found.st_blocks * 512 >= options.ballast_bytes); /* not sparse */
    assert_int_equal(settle(w, 1), HR_OK);
    uint64_t last = fill(w, 1);
    assert_true(last > 500);
    assert_true(w->space_calls == 1 && !w->is_open);
    for (uint64_t i = 0; i < 20; i++) {
        assert_int_equal(settle(w, i * 20), HR_OK);
    }
    hr_vfs_sim_set_room(w->sim, 20 << 20, ballast, options.ballast_bytes);
    hr_store_turn(w->store);
    assert_true(w->space_calls == 2 && w->is_open);
    assert_int_equal(stat(ballast, &found), 0);
    hr_store_close(w->store);
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
    uint64_t from = 380, count = 0; /* what is settled may have made room */
    for (bool at_end = false; !at_end;) {
        hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .from = from};
        fixture_read(w->store, &read);
        count += read.batch == NULL ? 0 : read.batch->count;
        from = read.batch == NULL ? from : read.batch->position[read.batch->count - 1] + 1;
        at_end = read.at_end;
        hr_read_fini(&read);
    }
    assert_int_equal(count, last - 379);
    hr_free(ballast);
}

/* The same with a real file system, in a mount of our own (root); it is filled by a foreign file
 * and freed again. */
static void fill_real_disk(world *w) {
    assert_int_equal(unshare(CLONE_NEWNS), 0);
    assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    assert_int_equal(mount("tmpfs", w->dir, "tmpfs", 0, "size=24m"), 0);
    hr_store_options options = fixture_options(w->dir);
    options.ballast_bytes = 4 << 20;
    options.wal_max_bytes = 1 << 20;
    options.space = on_space;
    options.space_data = w;
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
    char *hog = hr_format("%s/hog", w->dir);
    int fd = open(hog, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(posix_fallocate(fd, 0, 14 << 20), 0);
    close(fd);
    assert_int_equal(settle(w, 1), HR_OK); /* from here on nothing is history that may go */
    uint64_t last = fill(w, 1);
    assert_false(w->is_open);
    for (uint64_t i = 0; i < 50; i++) {
        assert_int_equal(settle(w, i), HR_OK);
    }
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, last + 1, 1, 10)),
                     HR_E_STORE_FULL);
    assert_int_equal(unlink(hog), 0);
    for (int i = 0; i < 100 && !w->is_open; i++) {
        hr_store_turn(w->store);
    }
    assert_true(w->is_open); /* by itself */
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, last + 1, 1, 10)), HR_OK);
    hr_store_close(w->store);
    w->store = NULL;
    umount(w->dir);
    hr_free(hog);
}

static void o_d4_a_full_real_disk_stops_the_intake_until_there_is_room(void **state) {
    if (geteuid() != 0) { /* the simulated disk above says the same */
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        fill_real_disk(*state);
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* The store filled the disk itself: when its events are settled, it gives the room back. */
static void room_that_the_journal_took_comes_back(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    options.vfs = "sim";
    options.wal_max_bytes = 256 << 10;
    options.journal_max_bytes = 100000;
    options.ballast_bytes = 2 << 20;
    options.space = on_space;
    options.space_data = w;
    char *ballast = hr_format("%s/ballast", w->dir);
    hr_vfs_sim_set_room(w->sim, 8 << 20, ballast, options.ballast_bytes);
    hr_free(ballast);
    assert_int_equal(open_world(w, &options, NULL), HR_OK);
    assert_int_equal(settle(w, 1), HR_OK);
    uint64_t next = 1;
    while (fixture_append(w->store, w->in, fixture_batch(w->in, next, 20, 1000)) == HR_OK) {
        next += 20;
        assert_true(next < 100000);
    }
    assert_false(w->is_open);
    assert_int_equal(settle(w, next), HR_OK); /* all of it is history now */
    for (int i = 0; i < 100 && !w->is_open; i++) {
        hr_store_turn(w->store);
    }
    assert_true(w->is_open);
    assert_true(hr_vfs_sim_used(w->sim) <= 6 << 20);
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, next, 20, 1000)), HR_OK);
}

#define FAULT_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    hr_log_set_level((hr_level)(HR_LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        FAULT_TEST(the_folders_above_a_state_are_durable_before_it_is),
        FAULT_TEST(a_changed_byte_is_reported_and_the_rest_is_read),
        FAULT_TEST(a_damaged_page_costs_its_own_events_only),
        FAULT_TEST(damage_that_a_commit_meets_is_said_once_and_again),
        FAULT_TEST(o_d6_a_flipped_bit_costs_one_event_or_is_refused_in_a_line),
        FAULT_TEST(a_newer_schema_is_refused_in_one_line),
        FAULT_TEST(a_schema_that_never_was_is_refused_and_left_alone),
        FAULT_TEST(a_foreign_file_is_refused_and_left_alone),
        FAULT_TEST(o_d2_after_a_failed_sync_nothing_is_acknowledged),
        FAULT_TEST(o_d2_what_a_failed_sync_left_out_takes_no_later_commit_with_it),
        FAULT_TEST(a_read_of_the_wal_that_fails_condemns_nothing),
        FAULT_TEST(a_read_that_fails_gives_no_event_up),
        FAULT_TEST(o_f3_what_cannot_become_a_dead_letter_stays_parked),
        FAULT_TEST(o_d4_a_full_disk_stops_the_intake_and_still_settles),
        FAULT_TEST(o_d4_a_full_real_disk_stops_the_intake_until_there_is_room),
        FAULT_TEST(room_that_the_journal_took_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
