/* SPDX-License-Identifier: Apache-2.0 */
/* Statements, bindings and results of the store's SQLite. */
#include "broker/store_priv.h"

#include "core/buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static const char *const texts[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_SAVE] = "SAVEPOINT unit",
    [SQL_SAVE_UNDO] = "ROLLBACK TO unit",
    [SQL_SAVE_END] = "RELEASE unit",
    [SQL_CHECKPOINT] =
        "INSERT INTO checkpoint (shard, function, feed, epoch, low, settled_count, base, bytes,"
        " counters, settled) VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8)"
        " ON CONFLICT (shard, function, feed) DO UPDATE SET epoch = excluded.epoch,"
        " low = excluded.low, settled_count = excluded.settled_count,"
        " counters = excluded.counters, settled = excluded.settled",
    [SQL_BASE] = "SELECT base FROM checkpoint WHERE shard = 0 AND function = ?1 AND feed = ?2",
    [SQL_FEED] =
        "INSERT INTO checkpoint (shard, function, feed, epoch, low, settled_count, base, bytes,"
        " counters) VALUES (0, 0, ?1, ?2, ?3, 0, ?4, ?5, ?6)"
        " ON CONFLICT (shard, function, feed) DO UPDATE SET epoch = excluded.epoch,"
        " low = excluded.low, base = excluded.base, bytes = excluded.bytes,"
        " counters = excluded.counters",
    [SQL_PARK] =
        "INSERT INTO parked (function, feed, pos, key_hash, state, due_real_ms, attempt, replay,"
        " first_attempt_ms, at_ms, sum, event_id, error, bytes)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
        " ON CONFLICT (function, feed, pos) DO UPDATE SET key_hash = excluded.key_hash,"
        " state = excluded.state, due_real_ms = excluded.due_real_ms, attempt = excluded.attempt,"
        " replay = excluded.replay, first_attempt_ms = excluded.first_attempt_ms,"
        " at_ms = excluded.at_ms, error = excluded.error,"
        " event_id = coalesce(excluded.event_id, event_id),"
        " sum = iif(excluded.bytes IS NULL, sum, excluded.sum),"
        " bytes = coalesce(excluded.bytes, bytes)",
    [SQL_UNPARK] = "DELETE FROM parked WHERE function = ?1 AND feed = ?2 AND pos = ?3",
    [SQL_DEAD] =
        "INSERT INTO dead (function, feed, pos, key_hash, state, due_real_ms, attempt, replay,"
        " first_attempt_ms, at_ms, sum, event_id, reason, error, logs, bytes, ended_ms)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,"
        " iif(?5 = 0, NULL, ?10))",
    [SQL_DEAD_END] = "UPDATE dead SET state = ?2, ended_ms = ?3 WHERE id = ?1 AND state = 0",
    [SQL_SEEN] = "INSERT INTO seen (feed, at_ms, seq, hashes) VALUES (?1, ?2, ?3, ?4)",
    [SQL_SEEN_TRIM] = "DELETE FROM seen WHERE feed = ?1 AND at_ms < ?2 AND at_ms <= coalesce("
                      "(SELECT at_ms FROM seen WHERE feed = ?1 ORDER BY at_ms, seq"
                      " LIMIT 1 OFFSET 4095), ?2)",
    [SQL_FIRE] = "UPDATE feed SET last_fire_us = ?2 WHERE id = ?1",
    [SQL_READ_PARKED] = "SELECT sum, bytes, first_attempt_ms FROM parked"
                        " WHERE function = ?1 AND feed = ?2 AND pos = ?3",
    [SQL_FEEDS] = "SELECT f.id, f.kind = 'pull', f.epoch, c.low, c.base, c.bytes, c.counters"
                  " FROM feed f LEFT JOIN checkpoint c"
                  " ON c.shard = 0 AND c.function = 0 AND c.feed = f.id",
    [SQL_CURSORS] = "SELECT c.function, c.feed, c.low FROM checkpoint c"
                    " JOIN function f ON f.id = c.function"
                    " WHERE c.shard = 0 AND f.removed_at IS NULL",
};

sqlite3_stmt *hr_store_sql(hr_store *store, store_sql which) {
    if (store->sql[which] == NULL) {
        hr_store_fault(store,
                       sqlite3_prepare_v3(store->db, texts[which], -1, SQLITE_PREPARE_PERSISTENT,
                                          &store->sql[which], NULL));
    }
    return store->sql[which];
}

sqlite3_stmt *hr_store_prepare(hr_store *store, const char *format, ...) {
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    HR_ASSERT(size > 0 && (size_t)size < sizeof text);
    sqlite3_stmt *statement = NULL;
    hr_store_fault(store, sqlite3_prepare_v2(store->db, text, -1, &statement, NULL));
    return statement;
}

/* A write for which the disk had no room, however the file system says it. */
static bool is_full(hr_store *store, int result) {
    if ((result & 0xff) == SQLITE_FULL) {
        return true;
    }
    int extended = sqlite3_extended_errcode(store->db);
    if (extended != SQLITE_IOERR_WRITE && extended != SQLITE_IOERR_TRUNCATE) {
        return false;
    }
    int sys = sqlite3_system_errno(store->db);
    return sys == ENOSPC || sys == EDQUOT || sys == EFBIG;
}

/* The error in words, SQLite's and the system's, before a rollback forgets it. */
static void remember(hr_store *store, int result) {
    int extended = sqlite3_extended_errcode(store->db), kind = extended & 0xff;
    bool is_same = kind == (result & 0xff);
    int sys = is_same && (kind == SQLITE_IOERR || kind == SQLITE_CANTOPEN || kind == SQLITE_FULL)
                  ? sqlite3_system_errno(store->db)
                  : 0;
    sys = sys == EBADF || sys == ENOENT ? 0 : sys; /* of its tidying up, not of what failed */
    store->is_damaged = (result & 0xff) == SQLITE_CORRUPT || (result & 0xff) == SQLITE_NOTADB;
    uint32_t page = (result & 0xff) == SQLITE_CORRUPT ? hr_pages_damaged(store->pages) : 0;
    if (page != 0) {
        snprintf(store->why, sizeof store->why, "page %u (byte %llu) is damaged", page,
                 (unsigned long long)(page - 1) * store->options.page_bytes);
        return;
    }
    snprintf(store->why, sizeof store->why, "%s%s%s (%d)",
             is_same ? sqlite3_errmsg(store->db) : sqlite3_errstr(result), sys == 0 ? "" : ", ",
             sys == 0 ? "" : strerror(sys), is_same ? extended : result);
}

hr_code hr_store_fault(hr_store *store, int result) {
    if (result != SQLITE_OK && result != SQLITE_ROW && result != SQLITE_DONE) {
        remember(store, result);
    }
    if (is_full(store, result)) {
        return HR_E_STORE_FULL;
    }
    switch (result & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
    case SQLITE_ROW:
        return HR_OK;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return HR_E_STORE_CORRUPT;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_ERROR:
        return HR_E_INVALID;
    case SQLITE_TOOBIG:
        return HR_E_TOO_LARGE;
    default:
        return HR_E_STORE_IO;
    }
}

uint64_t hr_store_sum(uint32_t feed, uint64_t position, hr_slice bytes) {
    uint8_t place[12];
    for (unsigned i = 0; i < sizeof place; i++) {
        place[i] = (uint8_t)(i < 4 ? feed >> (8 * i) : position >> (8 * (i - 4)));
    }
    return hr_hash_more(hr_hash(bytes), hr_slice_of(place, sizeof place));
}

bool hr_store_is_whole(uint32_t feed, uint64_t position, hr_slice bytes, uint64_t sum) {
    return sum == hr_store_sum(feed, position, bytes) || sum == hr_hash(bytes); /* first days */
}

hr_code hr_store_fail(hr_store *store, hr_code code, hr_error *err, const char *what) {
    return hr_fail(err, code, sqlite3_extended_errcode(store->db), "%s of %s: %s%s", what,
                   store->path, store->why,
                   code == HR_E_STORE_CORRUPT ? "; 'headrace recover' saves what can be saved"
                                              : "");
}

hr_code hr_store_run(hr_store *store, sqlite3_stmt *statement) {
    if (statement == NULL) {
        hr_code code = hr_store_fault(store, sqlite3_errcode(store->db));
        return code == HR_OK ? HR_E_STORE_IO : code;
    }
    int result = sqlite3_step(statement);
    hr_code code = HR_OK;
    if (result != SQLITE_DONE && result != SQLITE_ROW) {
        code = hr_store_fault(store, result);
    }
    sqlite3_reset(statement);
    return code;
}

hr_code hr_store_exec(hr_store *store, const char *text) {
    int result = sqlite3_exec(store->db, text, NULL, NULL, NULL);
    return result == SQLITE_OK ? HR_OK : hr_store_fault(store, result);
}

void hr_store_bind(sqlite3_stmt *statement, int index, hr_slice slice) {
    if (slice.size == 0) {
        sqlite3_bind_null(statement, index);
    } else {
        sqlite3_bind_blob64(statement, index, slice.bytes, slice.size, SQLITE_STATIC);
    }
}

void hr_store_bind_u64(sqlite3_stmt *statement, int index, uint64_t value) {
    sqlite3_bind_int64(statement, index, (int64_t)value);
}

hr_slice hr_store_column(sqlite3_stmt *statement, int index) {
    const void *bytes = sqlite3_column_blob(statement, index);
    int size = sqlite3_column_bytes(statement, index);
    return hr_slice_of(bytes, bytes == NULL || size < 0 ? 0 : (size_t)size);
}

uint64_t hr_store_column_u64(sqlite3_stmt *statement, int index) {
    return (uint64_t)sqlite3_column_int64(statement, index);
}

void hr_store_counters_write(const hr_counters *counters, uint8_t out[sizeof(hr_counters)]) {
    uint64_t values[sizeof(hr_counters) / 8];
    memcpy(values, counters, sizeof values);
    for (size_t i = 0; i < sizeof values; i++) {
        out[i] = (uint8_t)(values[i / 8] >> (8 * (i % 8)));
    }
}

void hr_store_counters_read(hr_slice bytes, hr_counters *out) {
    uint64_t values[sizeof(hr_counters) / 8] = {0};
    for (size_t i = 0; i < bytes.size && i < sizeof values; i++) {
        values[i / 8] |= (uint64_t)bytes.bytes[i] << (8 * (i % 8));
    }
    memcpy(out, values, sizeof values);
}
