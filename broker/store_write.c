/* SPDX-License-Identifier: Apache-2.0 */
/* Group commit: many units, one transaction, one sync.
 *
 * A group runs without savepoints first. When a unit turns out to be bad in the middle, the group
 * is rolled back and runs again with a savepoint around each unit, so that the bad one alone goes.
 */
#include "broker/store_priv.h"

#include "core/buffer.h"
#include "core/crash.h"
#include "core/log.h"
#include "core/memory.h"

#include <stdio.h>

void hr_store_stop_for(hr_store *store, const char *what, const char *why, bool is_damaged) {
    if (atomic_exchange(&store->has_failed, true)) {
        return;
    }
    hr_log(HR_LOG_ERROR, "store",
           "%s of %s failed: %s; nothing more is written and nothing acknowledged is lost: %s",
           what, store->path, why,
           is_damaged ? "'headrace recover' saves what can be saved" : "mend that and start again");
    if (is_damaged) {
        hr_store_condemn(store, why);
    }
}

void hr_store_fail_stop(hr_store *store, const char *what) {
    hr_store_stop_for(store, what, store->why, store->is_damaged);
}

/* ---- one unit ---- */

/* Everything a unit can be refused for without touching the file. */
static hr_code check_unit(hr_store *store, const hr_unit *unit) {
    if (unit->feed != 0) {
        const store_feed *feed = hr_store_feed(store, unit->feed);
        if (feed == NULL) {
            return HR_E_NOT_FOUND;
        }
        if (feed->epoch != unit->epoch) {
            return HR_E_FENCED;
        }
    }
    for (size_t i = 0; i < unit->append_count; i++) {
        const store_feed *feed = hr_store_feed(store, unit->appends[i]->feed);
        if (feed == NULL) {
            return HR_E_NOT_FOUND;
        }
        if (feed->pull ||
            (unit->appends[i]->count > 0 && unit->appends[i]->position[0] < feed->next)) {
            return HR_E_INVALID;
        }
    }
    return HR_OK;
}

/* OR FAIL: a group that fails is rolled back whole, so that no statement journal is needed. */
static sqlite3_stmt *insert_of(hr_store *store, store_feed *feed) {
    if (feed->insert == NULL) {
        char text[120];
        int size = snprintf(text, sizeof text,
                            "INSERT OR FAIL INTO journal_%u (" STORE_ROW_COLUMNS ")"
                            " VALUES (?1, ?2, ?3, ?4, ?5)",
                            feed->id);
        hr_store_fault(store, sqlite3_prepare_v3(store->db, text, size, SQLITE_PREPARE_PERSISTENT,
                                                 &feed->insert, NULL));
    }
    return feed->insert;
}

enum { ROW_BESIDE = 32 }; /* what stands beside the bytes of a row */

/* Bytes of a row that fills a page and needs no second one. */
static size_t row_room(const hr_store *store) {
    enum { NOT_LOCAL = 35 }; /* SQLite's file format, 1.6 */
    return store->options.page_bytes - STORE_PAGE_SUM - NOT_LOCAL - ROW_BESIDE;
}

/* As many events to a row as fit into a page: the insert, and later the delete, are of a row. Where
 * it is known how much of the last page is left, the first row fills that: a page that is begun
 * costs a commit three more beside it (the tree's, the map of pages, the first). */
static uint32_t fit_row(const hr_store *store, const store_feed *feed, const hr_batch *batch,
                        uint32_t from) {
    size_t whole = row_room(store);
    if (feed->page_left >= whole / 8) {
        uint32_t count = hr_pack_fit(batch, from, feed->page_left);
        if (hr_pack_size(batch, from, count) <= feed->page_left) {
            return count;
        }
    }
    return hr_pack_fit(batch, from, whole);
}

/* A row of so many bytes stands in the last page, or in one behind it: in one of its own for sure
 * when it and the one before it cannot share a page. */
static void note_row(const hr_store *store, store_feed *feed, size_t size) {
    enum { NO_ROOM = 1 };
    enum { CELL = 8 }; /* its place in the page's list, and the length of its position */
    size_t whole = row_room(store), taken = size + ROW_BESIDE + CELL;
    if (feed->page_left >= size) {
        feed->page_left = feed->page_left > taken ? (uint32_t)(feed->page_left - taken) : NO_ROOM;
    } else if (size > whole) { /* its page goes on elsewhere */
        feed->page_left = 0;
    } else if (feed->page_left > 0 || feed->row_size + size > whole + ROW_BESIDE) {
        feed->page_left = whole > taken ? (uint32_t)(whole - taken) : NO_ROOM;
    }
    feed->row_size = (uint32_t)size;
}

static hr_code write_events(hr_store *store, const hr_batch *batch, int64_t now_ms) {
    store_feed *feed = hr_store_feed(store, batch->feed);
    sqlite3_stmt *insert = insert_of(store, feed);
    store_row row;
    for (uint32_t i = 0; i < batch->count; i += row.count) {
        if (batch->position[i] < feed->next) {
            return HR_E_INVALID;
        }
        hr_pack_write(batch, i, fit_row(store, feed, batch, i), &store->row, &row);
        hr_store_bind_u64(insert, PACK_POSITION + 1, row.position);
        hr_store_bind_u64(insert, PACK_SUM + 1, row.sum);
        sqlite3_bind_int64(insert, PACK_MORE + 1, row.count - 1);
        sqlite3_bind_int64(insert, PACK_AT_MS + 1, now_ms);
        sqlite3_bind_blob64(insert, PACK_BYTES + 1, row.bytes.bytes, row.bytes.size, SQLITE_STATIC);
        hr_code code = hr_store_run(store, insert);
        if (code != HR_OK) {
            return code;
        }
        feed->next = row.position + row.count;
        feed->bytes += row.bytes.size;
        feed->lag_bytes += row.bytes.size;
        note_row(store, feed, row.bytes.size);
    }
    feed->base += batch->count;
    feed->counters.received += batch->count;
    feed->is_behind = true;
    return HR_OK;
}

/* What a function that is new to a journal feed takes no deliveries for: all appended so far but
 * the rows from low on. */
static hr_code first_base(hr_store *store, const hr_unit *unit, uint64_t *out) {
    const store_feed *feed = hr_store_feed(store, unit->feed);
    *out = 0;
    if (feed->pull) {
        return HR_OK;
    }
    uint64_t events = 0;
    hr_code code = hr_store_count_events(store, feed->id, unit->low, &events);
    *out = feed->base - events;
    return code;
}

static hr_code write_checkpoint(hr_store *store, const hr_unit *unit) {
    store_cursor *cursor = NULL;
    for (size_t i = 0; cursor == NULL && i < store->cursor_count; i++) {
        store_cursor *each = &store->cursors[i];
        cursor = each->function == unit->function && each->feed == unit->feed ? each : NULL;
    }
    uint64_t base = 0;
    if (cursor == NULL) {
        hr_code code = first_base(store, unit, &base);
        if (code != HR_OK) {
            return code;
        }
        store->cursors =
            hr_realloc(store->cursors, (store->cursor_count + 1) * sizeof *store->cursors);
        cursor = &store->cursors[store->cursor_count++];
        *cursor = (store_cursor){.function = unit->function, .feed = unit->feed};
    }
    cursor->low = unit->low;
    uint8_t counters[sizeof(hr_counters)];
    hr_store_counters_write(&unit->counters, counters);
    sqlite3_stmt *upsert = hr_store_sql(store, SQL_CHECKPOINT);
    sqlite3_bind_int64(upsert, 1, unit->function);
    sqlite3_bind_int64(upsert, 2, unit->feed);
    sqlite3_bind_int64(upsert, 3, unit->epoch);
    hr_store_bind_u64(upsert, 4, unit->low);
    hr_store_bind_u64(upsert, 5, unit->settled_count);
    hr_store_bind_u64(upsert, 6, base);
    sqlite3_bind_blob(upsert, 7, counters, sizeof counters, SQLITE_STATIC);
    hr_store_bind(upsert, 8, unit->settled);
    hr_code code = hr_store_run(store, upsert);
    sqlite3_bind_null(upsert, 7); /* counters go out of scope */
    return code;
}

/* ---- rows ---- */

static sqlite3_stmt *bind_delivery(hr_store *store, store_sql which, const hr_row *row) {
    sqlite3_stmt *insert = hr_store_sql(store, which);
    sqlite3_bind_int64(insert, 1, row->function);
    sqlite3_bind_int64(insert, 2, row->feed);
    hr_store_bind_u64(insert, 3, row->position);
    hr_store_bind_u64(insert, 4, row->key_hash);
    sqlite3_bind_int64(insert, 5, row->state);
    sqlite3_bind_int64(insert, 6, row->due_ms);
    sqlite3_bind_int64(insert, 7, row->attempt);
    sqlite3_bind_int64(insert, 8, row->replay);
    sqlite3_bind_int64(insert, 9, row->first_attempt_ms);
    sqlite3_bind_int64(insert, 10, row->at_ms);
    hr_store_bind_u64(insert, 11, hr_hash(row->bytes));
    hr_store_bind(insert, 12, row->event_id);
    return insert;
}

static hr_code write_park(hr_store *store, const hr_row *row) {
    sqlite3_stmt *insert = bind_delivery(store, SQL_PARK, row);
    hr_store_bind(insert, 13, row->text);
    hr_store_bind(insert, 14, row->bytes);
    return hr_store_run(store, insert);
}

static hr_code write_dead(hr_store *store, const hr_row *row) {
    sqlite3_stmt *insert = bind_delivery(store, SQL_DEAD, row);
    hr_store_bind(insert, 13, row->reason);
    hr_store_bind(insert, 14, row->text);
    hr_store_bind(insert, 15, row->logs);
    hr_store_bind(insert, 16, row->bytes);
    return hr_store_run(store, insert);
}

static hr_code write_remove(hr_store *store, const hr_row *row) {
    static const char *const steps[] = {
        "INSERT INTO dead (function, feed, pos, key_hash, state, due_real_ms, attempt, replay,"
        " first_attempt_ms, at_ms, sum, event_id, reason, error, bytes)"
        " SELECT function, feed, pos, key_hash, 0, due_real_ms, attempt, replay,"
        " first_attempt_ms, ?2, sum, event_id, CAST('removed' AS BLOB), error, bytes"
        " FROM parked WHERE function = ?1 AND ?3 IN (0, feed) ORDER BY feed, pos",
        "DELETE FROM parked WHERE function = ?1 AND ?3 IN (0, feed)",
        "DELETE FROM checkpoint WHERE function = ?1 AND ?1 <> 0 AND ?3 IN (0, feed)",
        "DELETE FROM state WHERE function = ?1",
        "DELETE FROM timer WHERE function = ?1",
        "UPDATE function SET removed_at = ?2 WHERE id = ?1",
    };
    hr_code code = HR_OK;
    size_t count = row->feed == 0 ? sizeof steps / sizeof *steps : 3; /* the function stays */
    for (size_t i = 0; code == HR_OK && i < count; i++) {
        sqlite3_stmt *step = hr_store_prepare(store, "%s", steps[i]);
        sqlite3_bind_int64(step, 1, row->function);
        sqlite3_bind_int64(step, 2, row->at_ms > 0 ? row->at_ms : hr_store_real_us(store) / 1000);
        sqlite3_bind_int64(step, 3, row->feed);
        code = hr_store_run(store, step);
        sqlite3_finalize(step);
    }
    size_t kept = 0;
    for (size_t i = 0; i < store->cursor_count; i++) {
        if (store->cursors[i].function != row->function ||
            (row->feed != 0 && store->cursors[i].feed != row->feed)) {
            store->cursors[kept++] = store->cursors[i];
        }
    }
    store->cursor_count = kept;
    return code;
}

static hr_code write_row(hr_store *store, const hr_row *row) {
    sqlite3_stmt *statement = NULL;
    switch (row->kind) {
    case HR_ROW_PARK:
        return write_park(store, row);
    case HR_ROW_DEAD:
        return write_dead(store, row);
    case HR_ROW_REMOVE:
        return write_remove(store, row);
    case HR_ROW_UNPARK:
        statement = hr_store_sql(store, SQL_UNPARK);
        sqlite3_bind_int64(statement, 1, row->function);
        sqlite3_bind_int64(statement, 2, row->feed);
        hr_store_bind_u64(statement, 3, row->position);
        break;
    case HR_ROW_DEAD_END:
        statement = hr_store_sql(store, SQL_DEAD_END);
        hr_store_bind_u64(statement, 1, row->position);
        sqlite3_bind_int64(statement, 2, row->state);
        sqlite3_bind_int64(statement, 3,
                           row->at_ms > 0 ? row->at_ms : hr_store_real_us(store) / 1000);
        break;
    case HR_ROW_SEEN:
        statement = hr_store_sql(store, SQL_SEEN);
        sqlite3_bind_int64(statement, 1, row->feed);
        sqlite3_bind_int64(statement, 2, row->due_ms);
        hr_store_bind_u64(statement, 3, ++store->seen_seq);
        sqlite3_bind_blob64(statement, 4, row->text.bytes, row->text.size, SQLITE_STATIC);
        break;
    case HR_ROW_SEEN_TRIM:
        statement = hr_store_sql(store, SQL_SEEN_TRIM);
        sqlite3_bind_int64(statement, 1, row->feed);
        sqlite3_bind_int64(statement, 2, row->due_ms);
        break;
    case HR_ROW_FIRE:
        statement = hr_store_sql(store, SQL_FIRE);
        sqlite3_bind_int64(statement, 1, row->feed);
        sqlite3_bind_int64(statement, 2, row->due_ms);
        break;
    default:
        return HR_E_INVALID;
    }
    return hr_store_run(store, statement);
}

/* Each is a delivery that the unit appends (S12). */
static uint64_t count_replays(const hr_unit *unit) {
    uint64_t count = 0;
    for (size_t i = 0; i < unit->row_count; i++) {
        const hr_row *row = &unit->rows[i];
        count += row->kind == HR_ROW_DEAD_END && row->state == HR_DEAD_REPLAYED;
    }
    return count;
}

static hr_code write_unit(hr_store *store, const hr_unit *unit, int64_t now_ms) {
    hr_code code = HR_OK;
    for (size_t i = 0; code == HR_OK && i < unit->append_count; i++) {
        code = write_events(store, unit->appends[i], now_ms);
    }
    if (code == HR_OK && unit->function == 0 && unit->feed != 0) {
        store_feed *feed = hr_store_feed(store, unit->feed);
        uint64_t replays = count_replays(unit);
        feed->counters.duplicates += unit->counters.duplicates;
        feed->counters.malformed += unit->counters.malformed;
        feed->counters.replays += replays;
        feed->is_owed = feed->is_owed || unit->counters.duplicates > 0 ||
                        unit->counters.malformed > 0 || replays > 0;
    } else if (code == HR_OK && unit->has_checkpoint) {
        code = write_checkpoint(store, unit);
    }
    for (size_t i = 0; code == HR_OK && i < unit->row_count; i++) {
        code = write_row(store, &unit->rows[i]);
    }
    return code;
}

/* ---- the group ---- */

/* The unit's own fault, not the file's or the disk's. */
static bool is_unit_fault(hr_code code) {
    return code == HR_E_INVALID || code == HR_E_TOO_LARGE;
}

static hr_code write_carefully(hr_store *store, hr_unit *unit, int64_t now_ms) {
    hr_code code = hr_store_run(store, hr_store_sql(store, SQL_SAVE));
    if (code != HR_OK) {
        return HR_E_STORE_IO;
    }
    code = write_unit(store, unit, now_ms);
    if (code == HR_OK) {
        code = hr_store_flush_feeds(store, true);
    }
    if (code == HR_OK || sqlite3_get_autocommit(store->db) != 0) {
        return code == HR_OK ? hr_store_run(store, hr_store_sql(store, SQL_SAVE_END)) : code;
    }
    if (!is_unit_fault(code)) {
        return code;
    }
    unit->result = code;
    code = hr_store_run(store, hr_store_sql(store, SQL_SAVE_UNDO));
    if (code == HR_OK) {
        code = hr_store_run(store, hr_store_sql(store, SQL_SAVE_END));
    }
    return code == HR_OK ? hr_store_refresh(store, true) : code;
}

/* Begins the group's transaction. History goes before its events come: they take the pages that are
 * free, and a page that is freed and filled in one transaction is written once. Not in one that is
 * careful: the numbers of feeds go back with a bad unit. */
static hr_code begin_group(hr_store *store, const hr_unit *units, bool careful,
                           size_t *out_events) {
    uint64_t bytes = 0;
    *out_events = STORE_TRIM_EVENTS / 4;
    for (const hr_unit *unit = units; unit != NULL; unit = unit->next) {
        for (size_t i = 0; unit->result == HR_OK && i < unit->append_count; i++) {
            *out_events += (size_t)2 * unit->appends[i]->count;
            bytes += unit->appends[i]->size;
        }
    }
    hr_code code = hr_store_run(store, hr_store_sql(store, SQL_BEGIN));
    if (code == HR_OK && !careful) {
        code = hr_store_trim(store, bytes, out_events);
    }
    bool is_over = code == HR_OK && sqlite3_get_autocommit(store->db) != 0; /* rolled back */
    return is_over ? HR_E_STORE_IO : code;
}

/* Writes and commits all units whose result is HR_OK. A unit that cannot be (fenced ...) gets its
 * result here. *out_bad: the code returned is the fault of one unit. */
static hr_code try_group(hr_store *store, hr_unit *units, bool careful, bool *out_bad) {
    int64_t now_ms = hr_store_real_us(store) / 1000;
    size_t events = 0; /* that may be trimmed yet */
    bool is_begun = false;
    *out_bad = false;
    for (hr_unit *unit = units; unit != NULL; unit = unit->next) {
        if (unit->result == HR_OK) {
            unit->result = check_unit(store, unit);
        }
        if (unit->result != HR_OK) {
            continue;
        }
        hr_code code = is_begun ? HR_OK : begin_group(store, unit, careful, &events);
        if (code != HR_OK) {
            return code;
        }
        is_begun = true;
        code = careful ? write_carefully(store, unit, now_ms) : write_unit(store, unit, now_ms);
        if (code != HR_OK) {
            *out_bad = !careful && is_unit_fault(code);
            return code;
        }
    }
    if (!is_begun) {
        return HR_OK;
    }
    hr_code code = hr_store_trim(store, 0, &events); /* what this group settled */
    if (code == HR_OK) {
        code = hr_store_flush_feeds(store, false);
    }
    HR_CRASH_POINT("store.written");
    if (code != HR_OK) {
        return code;
    }
    if (!store->has_salts) { /* it may begin the WAL anew, whose head is synced at once */
        hr_store_drain(store);
    }
    hr_pages_defer(store->pages, true);
    code = hr_store_run(store, hr_store_sql(store, SQL_COMMIT));
    hr_pages_defer(store->pages, false);
    return code;
}

static void set_open_results(hr_unit *units, hr_code code, bool only_intake) {
    for (hr_unit *unit = units; unit != NULL; unit = unit->next) {
        if (unit->result == HR_OK && (!only_intake || (unit->flags & HR_UNIT_INTAKE) != 0)) {
            unit->result = code;
        }
    }
}

static void count_group(hr_store *store, const hr_unit *units) {
    store->groups++;
    for (const hr_unit *unit = units; unit != NULL; unit = unit->next) {
        if (unit->result != HR_OK) {
            continue;
        }
        store->units++;
        for (size_t i = 0; i < unit->append_count; i++) {
            store->events += unit->appends[i]->count;
        }
    }
}

/* After a group that did not commit: the file and our numbers as before it. */
static bool undo_group(hr_store *store) {
    if (sqlite3_get_autocommit(store->db) == 0) {
        hr_store_run(store, hr_store_sql(store, SQL_ROLLBACK));
    }
    return sqlite3_get_autocommit(store->db) != 0 && hr_store_refresh(store, true) == HR_OK;
}

void hr_store_commit(hr_store *store, hr_unit *units) {
    bool careful = false, was_full = false, is_bad = false;
    for (hr_unit *unit = units; unit != NULL; unit = unit->next) {
        unit->result = HR_OK;
    }
    if (!store->is_intake_open) {
        set_open_results(units, HR_E_STORE_FULL, true);
    }
    while (!store->has_failed) {
        hr_code code = try_group(store, units, careful, &is_bad);
        if (code == HR_OK) {
            code = store->unsynced_folders == 0 ? HR_OK : hr_store_sync_folders(store);
        }
        if (code == HR_OK) {
            count_group(store, units);
            return;
        }
        if (code == HR_E_STORE_FULL) { /* before any sync: nothing of the group is kept */
            bool had_ballast = store->has_ballast;
            bool is_undone = undo_group(store);
            hr_store_give_ballast(store);
            set_open_results(units, HR_E_STORE_FULL, !was_full || had_ballast);
            was_full = true;
            if (is_undone) {
                continue;
            }
        } else if (is_bad) {
            careful = true;
            if (undo_group(store)) {
                continue;
            }
        }
        hr_store_fail_stop(store, "a commit");
        undo_group(store);
    }
    set_open_results(units, HR_E_STORE_IO, false);
}
