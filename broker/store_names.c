/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of feeds and functions, given when they are new. */
#include "broker/store_priv.h"

#include "core/crash.h"
#include "core/memory.h"

typedef struct feed_request {
    const char *kind, *identity;
    uint32_t feed, epoch;
} feed_request;

/* A text that gives one row of up to two numbers. *out_found false: none. */
static hr_code look_up(hr_store *store, const char *text, const char *name, int64_t out[2],
                       bool *out_found) {
    sqlite3_stmt *row = hr_store_prepare(store, "%s", text);
    if (row == NULL) {
        return hr_store_fault(store, sqlite3_errcode(store->db));
    }
    sqlite3_bind_text(row, 1, name, -1, SQLITE_STATIC);
    int result = sqlite3_step(row);
    *out_found = result == SQLITE_ROW;
    if (*out_found) {
        out[0] = sqlite3_column_int64(row, 0);
        out[1] = sqlite3_column_count(row) > 1 ? sqlite3_column_int64(row, 1) : 0;
    }
    sqlite3_finalize(row);
    return hr_store_fault(store, result);
}

static hr_code run_named(hr_store *store, const char *text, const char *name, const char *other) {
    sqlite3_stmt *statement = hr_store_prepare(store, "%s", text);
    if (statement != NULL) {
        sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
        sqlite3_bind_text(statement, 2, other, -1, SQLITE_STATIC);
    }
    hr_code code = hr_store_run(store, statement);
    sqlite3_finalize(statement);
    return code;
}

hr_code hr_store_make_journal(hr_store *store, uint32_t feed) {
    sqlite3_stmt *table = hr_store_prepare(
        store,
        "CREATE TABLE journal_%u (pos INTEGER PRIMARY KEY, sum INTEGER NOT NULL,"
        " target INTEGER NOT NULL DEFAULT 0, at_ms INTEGER NOT NULL, bytes BLOB NOT NULL)",
        feed);
    hr_code code = hr_store_run(store, table);
    sqlite3_finalize(table);
    return code;
}

static hr_code make_feed(hr_store *store, feed_request *request) {
    hr_code code = run_named(store,
                             "INSERT INTO feed (identity, kind, epoch)"
                             " VALUES (?1, ?2, ?2 = 'pull')",
                             request->identity, request->kind);
    request->feed = (uint32_t)sqlite3_last_insert_rowid(store->db);
    if (code != HR_OK || strcmp(request->kind, "pull") == 0) {
        return code;
    }
    return hr_store_make_journal(store, request->feed);
}

static hr_code write_feed(hr_store *store, feed_request *request, hr_error *err) {
    int64_t found[2] = {0};
    bool is_there = false;
    hr_code code = look_up(store, "SELECT id, kind = 'pull' FROM feed WHERE identity = ?1",
                           request->identity, found, &is_there);
    if (code != HR_OK) {
        return hr_store_fail(store, code, err, "read feeds");
    }
    bool pull = strcmp(request->kind, "pull") == 0;
    if (!is_there) {
        code = make_feed(store, request);
    } else if ((found[1] != 0) != pull) {
        return hr_fail(err, HR_E_EXISTS, 0, "feed '%s' is of another kind than %s",
                       request->identity, request->kind);
    } else {
        request->feed = (uint32_t)found[0];
        if (pull) {
            code = run_named(store, "UPDATE feed SET epoch = epoch + 1 WHERE identity = ?1",
                             request->identity, NULL);
        }
    }
    return code == HR_OK ? HR_OK : hr_store_fail(store, code, err, "write feeds");
}

/* Runs write(data) as one transaction. */
static hr_code transaction(hr_store *store, hr_code (*write)(hr_store *, void *, hr_error *),
                           void *data, hr_error *err) {
    if (store->has_failed) {
        return hr_fail(err, HR_E_STORE_STOPPED, 0, "the store stopped after an error");
    }
    hr_code code = hr_store_run(store, hr_store_sql(store, SQL_BEGIN));
    if (code != HR_OK) {
        return hr_store_fail(store, code, err, "write");
    }
    code = write(store, data, err);
    if (code == HR_OK) {
        code = hr_store_run(store, hr_store_sql(store, SQL_COMMIT));
        HR_CRASH_POINT("store.numbered");
        if (code != HR_OK) {
            hr_store_fail(store, code, err, "commit");
            store->has_failed = store->has_failed || code != HR_E_STORE_FULL; /* err tells it */
        }
    }
    if (sqlite3_get_autocommit(store->db) == 0) {
        hr_store_run(store, hr_store_sql(store, SQL_ROLLBACK));
    }
    hr_code fresh = hr_store_refresh(store);
    return code != HR_OK || fresh == HR_OK ? code : hr_store_fail(store, fresh, err, "read");
}

static hr_code feed_write(hr_store *store, void *data, hr_error *err) {
    return write_feed(store, data, err);
}

static hr_code feed_job(hr_store *store, void *data, hr_error *err) {
    feed_request *request = data;
    hr_code code = transaction(store, feed_write, data, err);
    if (code == HR_OK) {
        const store_feed *feed = hr_store_feed(store, request->feed);
        HR_ASSERT(feed != NULL);
        request->epoch = feed->epoch;
    }
    return code;
}

hr_code hr_store_feed_open(hr_store *store, const char *kind, const char *identity,
                           uint32_t *out_feed, uint32_t *out_epoch, hr_error *err) {
    HR_ASSERT(strcmp(kind, "pull") == 0 || strcmp(kind, "journal") == 0);
    feed_request request = {.kind = kind, .identity = identity};
    hr_code code = hr_store_do(store, feed_job, &request, err);
    if (code != HR_OK) {
        return hr_wrap(err, "feed '%s'", identity);
    }
    *out_feed = request.feed;
    *out_epoch = request.epoch;
    return HR_OK;
}

typedef struct function_request {
    const char *name, *was;
    uint32_t function;
} function_request;

static hr_code function_write(hr_store *store, void *data, hr_error *err) {
    function_request *request = data;
    static const char text[] = "SELECT id FROM function WHERE name = ?1 AND removed_at IS NULL";
    int64_t found[2] = {0};
    bool is_there = false;
    hr_code code = look_up(store, text, request->name, found, &is_there);
    if (code == HR_OK && !is_there && request->was != NULL) {
        code = look_up(store, text, request->was, found, &is_there);
        if (code == HR_OK && is_there) {
            code = run_named(store,
                             "UPDATE function SET name = ?1"
                             " WHERE name = ?2 AND removed_at IS NULL",
                             request->name, request->was);
        }
        if (code == HR_OK && is_there) { /* with its replays and its results */
            code = run_named(store,
                             "UPDATE OR IGNORE feed SET identity = CASE identity"
                             " WHEN 'inject/' || ?2 THEN 'inject/' || ?1"
                             " ELSE 'function/' || ?1 END"
                             " WHERE identity IN ('inject/' || ?2, 'function/' || ?2)",
                             request->name, request->was);
        }
    }
    if (code == HR_OK && !is_there) {
        code = run_named(store, "INSERT INTO function (name) VALUES (?1)", request->name, NULL);
        found[0] = sqlite3_last_insert_rowid(store->db);
    }
    request->function = (uint32_t)found[0];
    return code == HR_OK ? HR_OK : hr_store_fail(store, code, err, "write functions");
}

static hr_code function_job(hr_store *store, void *data, hr_error *err) {
    return transaction(store, function_write, data, err);
}

hr_code hr_store_function_open(hr_store *store, const char *name, const char *was,
                               uint32_t *out_function, hr_error *err) {
    function_request request = {.name = name, .was = was};
    hr_code code = hr_store_do(store, function_job, &request, err);
    if (code != HR_OK) {
        return hr_wrap(err, "function '%s'", name);
    }
    *out_function = request.function;
    return HR_OK;
}
