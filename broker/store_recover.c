/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/recover.h"

#include "broker/store_image.h"
#include "broker/store_recover.h"
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

enum { ROWS_AT_ONCE = 4096 };

void hr_recover_say(const store_recovery *r, bool is_loss, const char *format, ...) {
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    r->told->line(r->told->data, is_loss, text);
}

/* ---- rows ---- */

int64_t hr_recover_number(sqlite3 *db, const char *text, int64_t first, int64_t second) {
    sqlite3_stmt *row = NULL;
    int64_t out = 0;
    sqlite3_prepare_v2(db, text, -1, &row, NULL);
    if (row != NULL) {
        sqlite3_bind_int64(row, 1, first);
        sqlite3_bind_int64(row, 2, second);
        out = sqlite3_step(row) == SQLITE_ROW ? sqlite3_column_int64(row, 0) : 0;
    }
    sqlite3_finalize(row);
    return out;
}

static int column_of(sqlite3_stmt *row, const char *name) {
    for (int i = 0; i < sqlite3_column_count(row); i++) {
        if (strcmp(sqlite3_column_name(row, i), name) == 0) {
            return i;
        }
    }
    return 0;
}

static sqlite3_stmt *insert_like(store_recovery *r, sqlite3_stmt *row) {
    hr_buffer text = {0}, marks = {0};
    hr_buffer_print(&text, "INSERT OR IGNORE INTO %s (", r->table);
    for (int i = 0; i < sqlite3_column_count(row); i++) {
        hr_buffer_print(&text, "%s%s", i == 0 ? "" : ", ", sqlite3_column_name(row, i));
        hr_buffer_print(&marks, "%s?%d", i == 0 ? "" : ", ", i + 1);
    }
    hr_buffer_print(&text, ") VALUES (%s)", hr_buffer_text(&marks));
    sqlite3_stmt *insert = NULL;
    sqlite3_prepare_v2(r->to->db, hr_buffer_text(&text), -1, &insert, NULL);
    hr_buffer_fini(&text);
    hr_buffer_fini(&marks);
    return insert;
}

static hr_code run_insert(store_recovery *r, sqlite3_stmt *insert, uint64_t count) {
    int before = sqlite3_total_changes(r->to->db);
    hr_code code = hr_store_run(r->to, insert);
    if (code == HR_E_INVALID) { /* a row that the table cannot hold */
        r->dropped += count;
        return HR_OK;
    }
    bool is_new = code == HR_OK && sqlite3_total_changes(r->to->db) != before;
    uint64_t saved = r->saved;
    r->saved += is_new ? count : 0;
    r->unproven += is_new && r->is_lenient ? count : 0;
    if (code == HR_OK && r->saved / ROWS_AT_ONCE != saved / ROWS_AT_ONCE) {
        code = hr_store_exec(r->to, "COMMIT;BEGIN");
    }
    return code;
}

static hr_code put_row(store_recovery *r, sqlite3_stmt *insert, sqlite3_stmt *row) {
    for (int i = 0; i < sqlite3_column_count(row); i++) {
        sqlite3_bind_value(insert, i + 1, sqlite3_column_value(row, i));
    }
    return run_insert(r, insert, r->journal == 0 ? 1 : r->events.count);
}

static hr_code put_events(store_recovery *r, sqlite3_stmt *insert, sqlite3_stmt *row) {
    hr_code code = HR_OK;
    hr_slice bytes;
    for (uint32_t i = 0; code == HR_OK && i < r->events.count; i++) {
        if (!hr_pack_event(&r->events, i, &bytes)) {
            r->dropped++;
            continue;
        }
        uint64_t position = r->events.position + i;
        hr_store_bind_u64(insert, PACK_POSITION + 1, position);
        hr_store_bind_u64(insert, PACK_SUM + 1, hr_store_sum(r->journal, position, bytes));
        sqlite3_bind_int64(insert, PACK_MORE + 1, 0);
        sqlite3_bind_value(insert, PACK_AT_MS + 1, sqlite3_column_value(row, PACK_AT_MS));
        hr_store_bind(insert, PACK_BYTES + 1, bytes);
        code = run_insert(r, insert, 1);
    }
    return code;
}

/* Copies rows behind *after, in order of key (NULL: all of them, in any). Returns what SQLite came
 * to: SQLITE_DONE, or why it stopped. It asks for >= the next key: for > it would look at the page
 * that ends with *after, which may be what is damaged. */
static int copy_rows(store_recovery *r, const char *key, int64_t *after, store_judge is_right,
                     hr_code *code) {
    char text[160];
    snprintf(text, sizeof text,
             key == NULL ? "SELECT %s FROM %s"
                         : "SELECT %s FROM %s WHERE %s >= ?1"
                           " ORDER BY %s",
             r->columns, r->table, key, key);
    sqlite3_stmt *rows = NULL, *insert = NULL;
    int result = sqlite3_prepare_v2(r->from, text, -1, &rows, NULL);
    sqlite3_bind_int64(rows, 1, *after == INT64_MAX ? INT64_MAX : *after + 1);
    int place = rows == NULL || key == NULL ? 0 : column_of(rows, key);
    while (rows != NULL && *code == HR_OK && (result = sqlite3_step(rows)) == SQLITE_ROW) {
        int64_t at = key == NULL ? 0 : sqlite3_column_int64(rows, place);
        if (key != NULL && at <= *after) {
            result = SQLITE_CORRUPT; /* out of order */
            break;
        }
        insert = insert == NULL ? insert_like(r, rows) : insert;
        store_verdict is = is_right == NULL ? ROW_TAKE : is_right(r, rows);
        if ((sqlite3_errcode(r->from) == SQLITE_CORRUPT && !r->is_lenient) || is == ROW_DAMAGED) {
            result = SQLITE_CORRUPT; /* pages behind the row, or what it says of itself */
            break;
        }
        r->dropped += is == ROW_DROP ? 1 : 0;
        *code = is == ROW_TAKE    ? put_row(r, insert, rows)
                : is == ROW_SPLIT ? put_events(r, insert, rows)
                                  : HR_OK;
        *after = key == NULL ? *after : at;
    }
    sqlite3_finalize(rows);
    sqlite3_finalize(insert);
    return result;
}

static bool can_read(const store_recovery *r, const char *key, int64_t from) {
    char text[160];
    snprintf(text, sizeof text, "SELECT * FROM %s WHERE %s >= ?1 ORDER BY %s LIMIT 1", r->table,
             key, key);
    sqlite3_stmt *row = NULL;
    sqlite3_prepare_v2(r->from, text, -1, &row, NULL);
    sqlite3_bind_int64(row, 1, from + 1);
    int result = row == NULL ? SQLITE_ERROR : sqlite3_step(row);
    bool can = result == SQLITE_ROW && sqlite3_column_int64(row, column_of(row, key)) > from;
    sqlite3_finalize(row);
    return can;
}

/* The damage behind *after is skipped. false: nothing can be read behind it. Steps are short, so
 * that a page that can be read between damaged ones is not stepped over: one, and far away a 64th
 * of what lies behind. */
static bool skip(const store_recovery *r, const char *key, int64_t *after) {
    enum { NEAR = 4096, PART = 64 };
    int64_t bad = *after, good = *after;
    bool can = false;
    while (!can && good < INT64_MAX / 4) {
        bad = good;
        good += bad - *after < NEAR ? 1 : (bad - *after) / PART;
        can = can_read(r, key, good);
    }
    while (can && bad + 1 < good) {
        int64_t middle = bad + (good - bad) / 2;
        if (can_read(r, key, middle)) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    *after = good;
    return can;
}

hr_code hr_recover_table(store_recovery *r, const char *table, const char *key,
                         store_judge is_right) {
    int64_t after = -1;
    hr_code code = HR_OK;
    r->table = table;
    r->saved = r->unproven = r->dropped = r->bad_bytes = r->turned = 0;
    r->is_lenient = false;
    code = hr_store_exec(r->to, "BEGIN");
    int result = copy_rows(r, key, &after, is_right, &code);
    if (result != SQLITE_DONE && code == HR_OK) {
        r->is_lenient = true;
        hr_pages_forgive(r->pages, r->from, true);
        do {
            result = copy_rows(r, key, &after, is_right, &code);
        } while (code == HR_OK && result != SQLITE_DONE && key != NULL && skip(r, key, &after));
        hr_pages_forgive(r->pages, r->from, false);
    }
    hr_code end = hr_store_exec(r->to, "COMMIT");
    code = code == HR_OK ? end : code;
    r->told->table(r->told->data, table, r->saved);
    if (r->is_lenient) {
        hr_recover_say(r, r->journal == 0 || result != SQLITE_DONE,
                       "%s: page %u is damaged; %llu of its rows were taken as they stood there%s",
                       table, hr_pages_damaged(r->pages), (unsigned long long)r->unproven,
                       result == SQLITE_DONE ? "" : ", others could not be read");
    }
    if (r->turned > 0) {
        hr_recover_say(r, false, "%s: a flipped bit was turned back in %llu places", table,
                       (unsigned long long)r->turned);
    }
    if (r->dropped > 0) {
        hr_recover_say(r, true, "%s: %llu rows are not what was stored and were left out", table,
                       (unsigned long long)r->dropped);
    }
    if (r->bad_bytes > 0) {
        hr_recover_say(
            r, true,
            "%s: the bytes of %llu events are damaged: dead letters 'corrupt' come of them", table,
            (unsigned long long)r->bad_bytes);
    }
    return code;
}

static uint64_t count_bad(const store_row *row) {
    uint64_t bad = 0;
    hr_slice bytes;
    for (uint32_t i = 0; i < row->count; i++) {
        bad += hr_pack_event(row, i, &bytes) ? 0 : 1;
    }
    return bad;
}

static store_verdict judge_journal(store_recovery *r, sqlite3_stmt *row) {
    hr_pack_read(r->journal, row, &r->events);
    if (r->events.is_whole && count_bad(&r->events) == 0) {
        return ROW_TAKE;
    }
    uint32_t turned = hr_pack_mend(&r->events, &r->mended);
    if (!r->events.is_whole) {
        return r->is_lenient ? ROW_DROP : ROW_DAMAGED;
    }
    r->turned += turned;
    uint64_t bad = count_bad(&r->events);
    if (bad == 0 || r->is_lenient) {
        return ROW_SPLIT;
    }
    r->bad_bytes += bad;
    return ROW_TAKE;
}

store_verdict hr_recover_judge_place(store_recovery *r, sqlite3_stmt *row) {
    int64_t function = sqlite3_column_int64(row, column_of(row, "function"));
    int64_t feed = sqlite3_column_int64(row, column_of(row, "feed"));
    bool is_known =
        hr_recover_number(r->to->db,
                          "SELECT ?1 = 0 OR EXISTS (SELECT 1 FROM function WHERE id = ?1)",
                          function, 0) != 0 &&
        hr_recover_number(r->to->db, "SELECT ?1 = 0 OR EXISTS (SELECT 1 FROM feed WHERE id = ?1)",
                          feed, 0) != 0;
    return is_known || !r->is_lenient ? ROW_TAKE : ROW_DROP;
}

static store_verdict judge_delivery(store_recovery *r, sqlite3_stmt *row) {
    hr_slice bytes = hr_store_column(row, column_of(row, "bytes"));
    store_verdict is = hr_recover_judge_place(r, row);
    bool is_whole = hr_hash(bytes) == hr_store_column_u64(row, column_of(row, "sum"));
    r->bad_bytes += is == ROW_TAKE && !is_whole ? 1 : 0;
    return is;
}

/* ---- all of it ---- */

/* A feed whose row is gone gets one, so that its number is not given to another: what waits in it
 * becomes dead letters `removed`. */
static hr_code copy_journal(store_recovery *r, int64_t feed, bool is_there) {
    char name[24], text[120];
    snprintf(name, sizeof name, "journal_%lld", (long long)feed);
    snprintf(text, sizeof text,
             "INSERT OR IGNORE INTO feed (id, kind, identity, epoch)"
             " VALUES (%lld, 'journal', 'lost/%lld', 0)",
             (long long)feed, (long long)feed);
    hr_code code = hr_store_exec(r->to, text);
    code = code == HR_OK ? hr_store_make_journal(r->to, (uint32_t)feed) : code;
    r->journal = (uint32_t)feed;
    r->columns = r->has_rows_of_one ? "pos, sum, 0 AS more, at_ms, bytes" : STORE_ROW_COLUMNS;
    code = code == HR_OK && is_there ? hr_recover_table(r, name, "pos", judge_journal) : code;
    if (code == HR_OK && is_there && r->is_lenient) {
        snprintf(text, sizeof text,
                 "CREATE TEMP TABLE IF NOT EXISTS lossy (feed); INSERT INTO lossy VALUES (%lld)",
                 (long long)feed);
        code = hr_store_exec(r->to, text);
    }
    r->journal = 0;
    r->columns = "*";
    return code;
}

static hr_code copy_journals(store_recovery *r) {
    sqlite3_stmt *tables = NULL, *feeds = NULL;
    hr_code code = HR_OK;
    bool is_blind = hr_recover_number(r->from, "SELECT count(*) FROM sqlite_master", 0, 0) == 0;
    hr_pages_forgive(r->pages, r->from, is_blind);
    sqlite3_prepare_v2(r->from,
                       "SELECT substr(name, 9) FROM sqlite_master WHERE type = 'table' AND"
                       " name GLOB 'journal_[1-9]*'",
                       -1, &tables, NULL);
    int64_t *ids = NULL;
    size_t count = 0;
    while (tables != NULL && sqlite3_step(tables) == SQLITE_ROW) {
        ids = hr_realloc(ids, (count + 1) * sizeof *ids);
        ids[count++] = sqlite3_column_int64(tables, 0);
    }
    sqlite3_finalize(tables);
    hr_pages_forgive(r->pages, r->from, false);
    for (size_t i = 0; code == HR_OK && i < count; i++) {
        bool is_number = ids[i] > 0 && ids[i] < UINT32_MAX;
        code = is_number ? copy_journal(r, ids[i], true) : HR_OK;
    }
    hr_free(ids);
    sqlite3_prepare_v2(r->to->db,
                       "SELECT id FROM feed WHERE kind <> 'pull' AND 'journal_' || id"
                       " NOT IN (SELECT name FROM sqlite_master)",
                       -1, &feeds, NULL);
    while (code == HR_OK && feeds != NULL && sqlite3_step(feeds) == SQLITE_ROW) {
        code = copy_journal(r, sqlite3_column_int64(feeds, 0), false);
        sqlite3_reset(feeds);
    }
    sqlite3_finalize(feeds);
    return code;
}

static hr_code copy_all(store_recovery *r, hr_error *err) {
    static const struct {
        const char *name, *key;
        store_judge is_right;
    } tables[] = {{"feed", "id", NULL},           {"function", "id", NULL},
                  {"version", "id", NULL},        {"parked", "id", judge_delivery},
                  {"dead", "id", judge_delivery}, {"seen", NULL, NULL},
                  {"state", NULL, NULL},          {"timer", NULL, NULL}};
    hr_code code = hr_store_exec(r->to, "DELETE FROM meta");
    code = code == HR_OK ? hr_recover_table(r, "meta", NULL, NULL) : code;
    if (code == HR_OK) { /* a new one, if need be */
        code = hr_store_exec(r->to, "INSERT OR IGNORE INTO meta VALUES"
                                    " ('id', lower(hex(randomblob(16))))");
    }
    for (size_t i = 0; code == HR_OK && i < sizeof tables / sizeof *tables; i++) {
        code = hr_recover_table(r, tables[i].name, tables[i].key, tables[i].is_right);
    }
    code = code == HR_OK ? copy_journals(r) : code;
    code = code == HR_OK ? hr_recover_checkpoints(r) : code;
    return code == HR_OK ? HR_OK : hr_store_fail(r->to, code, err, "write");
}

static void tell_image(store_recovery *r, const store_image_report *image) {
    r->is_wal_broken =
        image->is_wal_unread || image->broken_frames > 0 || image->missing_frames > 0;
    if (image->mended_pages + image->mended_frames > 0) {
        hr_recover_say(r, false,
                       "a flipped bit was turned back in %u pages of the file and %u of its WAL",
                       image->mended_pages, image->mended_frames);
    }
    if (image->is_wal_unread) {
        hr_recover_say(r, true, "the WAL cannot be read");
    }
    if (image->broken_frames > 0) {
        hr_recover_say(r, false,
                       "the WAL is damaged at byte %llu: %u of its pages are not what was written",
                       (unsigned long long)image->broken_at, image->broken_frames);
    }
    if (image->missing_frames > 0) {
        hr_recover_say(r, true, "the WAL was cut: its last %u pages are gone",
                       image->missing_frames);
    }
    if (image->missing_pages > 0) {
        hr_recover_say(r, true, "the file was cut: its last %u pages are gone",
                       image->missing_pages);
    }
    if (image->damaged_pages > 0) {
        hr_recover_say(r, false, "%u pages are damaged, the first is %u (byte %llu)",
                       image->damaged_pages, image->damaged_page,
                       (unsigned long long)(image->damaged_page - 1) * STORE_PAGE_BYTES);
    }
}

static hr_code read_image(store_recovery *r, const char *path, const char *from, hr_error *err) {
    r->pages = hr_pages_new(NULL, STORE_PAGE_BYTES);
    if (r->pages == NULL ||
        sqlite3_open_v2(path, &r->from, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX,
                        hr_pages_name(r->pages)) != SQLITE_OK) {
        return hr_fail(err, HR_E_STORE_IO, 0, "open '%s': %s", path, sqlite3_errmsg(r->from));
    }
    sqlite3_db_config(r->from, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(r->from, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_exec(r->from, "PRAGMA cell_size_check=ON;PRAGMA mmap_size=0", NULL, NULL, NULL);
    static const char find[] = "SELECT count(*) FROM sqlite_master WHERE name = 'checkpoint'";
    if (hr_recover_number(r->from, find, 0, 0) ==
        0) { /* the list of tables may be what is damaged */
        hr_pages_forgive(r->pages, r->from, true);
        bool is_there = hr_recover_number(r->from, find, 0, 0) != 0;
        hr_pages_forgive(r->pages, r->from, false);
        if (!is_there) {
            return hr_fail(err, HR_E_STORE_CORRUPT, 0,
                           "'%s/headrace.db' is no store of headrace, or its list of tables cannot "
                           "be read: nothing can be saved",
                           from);
        }
    }
    int64_t version = hr_recover_number(r->from, "PRAGMA user_version", 0, 0);
    r->has_rows_of_one = version == 1;
    if (version > STORE_SCHEMA) {
        return hr_fail(err, HR_E_STORE_NEWER, 0,
                       "'%s/headrace.db' has schema %lld, this headrace knows up to %d", from,
                       (long long)version, STORE_SCHEMA);
    }
    return HR_OK;
}

static hr_code lock_from(const char *from, int *out_fd, hr_error *err) {
    char *path = hr_format("%s/lock", from);
    *out_fd = open(path, O_RDONLY | O_CLOEXEC);
    hr_free(path);
    if (*out_fd >= 0 && flock(*out_fd, LOCK_EX | LOCK_NB) != 0) {
        return hr_fail(err, HR_E_STORE_LOCKED, 0, "a daemon runs on '%s': stop it first", from);
    }
    return HR_OK;
}

static hr_code open_to(const char *to, hr_store **out, hr_error *err) {
    char *path = hr_format("%s/headrace.db", to);
    bool exists = access(path, F_OK) == 0;
    hr_free(path);
    if (exists) {
        return hr_fail(err, HR_E_EXISTS, 0, "'%s' holds a state already", to);
    }
    hr_store_options options = {
        .dir = to, .journal_max_bytes = UINT64_MAX, .journal_keep_ms = -1, .dead_max_age_ms = -1};
    return hr_store_open(&options, out, err);
}

hr_code hr_store_recover(const char *from, const char *to, const hr_recovery *told, hr_error *err) {
    store_recovery r = {.told = told, .columns = "*"};
    char *names[] = {hr_format("%s/headrace.db", from), hr_format("%s/headrace.db-wal", from),
                     hr_format("%s/headrace.db-mark", from), hr_format("%s/recover.tmp", to)};
    store_image_files files = {names[0], names[1], names[2], names[3]};
    store_image_report image = {0};
    int lock = -1;
    hr_code code = lock_from(from, &lock, err);
    if (code == HR_OK && access(names[0], F_OK) != 0 && access(names[1], F_OK) != 0) {
        code = hr_fail(err, HR_E_NOT_FOUND, 0, "'%s' holds no state", from);
    }
    code = code == HR_OK ? open_to(to, &r.to, err) : code;
    if (code == HR_OK) {
        code = hr_store_image(&files, &image, err);
    }
    if (code == HR_OK) {
        tell_image(&r, &image);
        code = read_image(&r, names[3], from, err);
    }
    code = code == HR_OK ? copy_all(&r, err) : code;
    if (code == HR_OK && hr_store_sync_folders(r.to) != HR_OK) {
        code = hr_store_fail(r.to, HR_E_STORE_IO, err, "write");
    }
    hr_buffer_fini(&r.mended);
    sqlite3_close(r.from);
    hr_pages_free(r.pages);
    unlink(names[3]);
    hr_store_close(r.to);
    if (code != HR_OK && r.to != NULL) { /* nothing of ours stays, so that it can be tried again */
        char *made = hr_format("%s/headrace.db", to);
        unlink(made);
        hr_free(made);
    }
    if (lock >= 0) {
        close(lock);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hr_free(names[i]);
    }
    return code;
}
