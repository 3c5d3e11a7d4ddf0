/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of feeds and functions, given when they are new. */
#include "broker/store_priv.h"

#include "core/crash.h"
#include "core/memory.h"

/* A text that gives one row of up to two numbers. *out_found false: none. name NULL: the text has
 * no variable. */
static hr_code look_up(hr_store *store, const char *text, const char *name, int64_t out[2],
                       bool *out_found) {
    sqlite3_stmt *row = hr_store_prepare(store, "%s", text);
    if (row == NULL) {
        return hr_store_fault(store, sqlite3_errcode(store->db));
    }
    if (name != NULL) {
        sqlite3_bind_text(row, 1, name, -1, SQLITE_STATIC);
    }
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
    sqlite3_stmt *table =
        hr_store_prepare(store,
                         "CREATE TABLE journal_%u (pos INTEGER PRIMARY KEY, sum INTEGER NOT NULL,"
                         " more INTEGER NOT NULL, at_ms INTEGER NOT NULL, bytes BLOB NOT NULL)",
                         feed);
    hr_code code = hr_store_run(store, table);
    sqlite3_finalize(table);
    return code;
}

static hr_code make_feed(hr_store *store, hr_store_name *feed) {
    hr_code code = run_named(store,
                             "INSERT INTO feed (identity, kind, epoch)"
                             " VALUES (?1, ?2, ?2 = 'pull')",
                             feed->name, feed->kind);
    feed->number = (uint32_t)sqlite3_last_insert_rowid(store->db);
    if (code != HR_OK || strcmp(feed->kind, "pull") == 0) {
        return code;
    }
    return hr_store_make_journal(store, feed->number);
}

static hr_code write_feed(hr_store *store, hr_store_name *feed, hr_error *err) {
    int64_t found[2] = {0};
    bool is_there = false;
    hr_code code = look_up(store, "SELECT id, kind = 'pull' FROM feed WHERE identity = ?1",
                           feed->name, found, &is_there);
    if (code != HR_OK) {
        return hr_store_fail(store, code, err, "read feeds");
    }
    bool pull = strcmp(feed->kind, "pull") == 0;
    if (!is_there) {
        code = make_feed(store, feed);
    } else if ((found[1] != 0) != pull) {
        return hr_fail(err, HR_E_EXISTS, 0, "feed '%s' is of another kind than %s", feed->name,
                       feed->kind);
    } else {
        feed->number = (uint32_t)found[0];
        if (pull) {
            code = run_named(store, "UPDATE feed SET epoch = epoch + 1 WHERE identity = ?1",
                             feed->name, NULL);
        }
    }
    return code == HR_OK ? HR_OK : hr_store_fail(store, code, err, "write feeds");
}

static hr_code write_function(hr_store *store, hr_store_name *function, hr_error *err) {
    static const char text[] = "SELECT id FROM function WHERE name = ?1 AND removed_at IS NULL";
    int64_t found[2] = {0};
    bool is_there = false;
    hr_code code = look_up(store, text, function->name, found, &is_there);
    if (code == HR_OK && !is_there && function->was != NULL) {
        code = look_up(store, text, function->was, found, &is_there);
        if (code == HR_OK && is_there) {
            code = run_named(store,
                             "UPDATE function SET name = ?1"
                             " WHERE name = ?2 AND removed_at IS NULL",
                             function->name, function->was);
        }
        if (code == HR_OK && is_there) { /* with its replays and its results */
            code = run_named(store,
                             "UPDATE OR IGNORE feed SET identity = CASE identity"
                             " WHEN 'inject/' || ?2 THEN 'inject/' || ?1"
                             " ELSE 'function/' || ?1 END"
                             " WHERE identity IN ('inject/' || ?2, 'function/' || ?2)",
                             function->name, function->was);
        }
    }
    if (code == HR_OK && !is_there) {
        code = run_named(store, "INSERT INTO function (name) VALUES (?1)", function->name, NULL);
        found[0] = sqlite3_last_insert_rowid(store->db);
    }
    function->number = (uint32_t)found[0];
    return code == HR_OK ? HR_OK : hr_store_fail(store, code, err, "write functions");
}

typedef struct request {
    hr_store_name *names;
    size_t count;
} request;

static bool is_function(const hr_store_name *name) {
    return strcmp(name->kind, "function") == 0;
}

static hr_code write_all(hr_store *store, const request *asked, hr_error *err) {
    int64_t pages[2] = {0};
    bool is_there = false;
    hr_code code = look_up(store, "PRAGMA page_count", NULL, pages, &is_there);
    if (code != HR_OK) {
        return hr_store_fail(store, code, err, "read");
    }
    hr_pages_grow(store->pages, (uint32_t)pages[0]);
    for (size_t i = 0; code == HR_OK && i < asked->count; i++) {
        hr_store_name *name = &asked->names[i];
        code = is_function(name) ? write_function(store, name, err) : write_feed(store, name, err);
        if (code != HR_OK) {
            hr_wrap(err, "%s '%s'", is_function(name) ? "function" : "feed", name->name);
        }
    }
    hr_pages_grow(store->pages, 0);
    return code;
}

/* The first commit of a new state. A WAL that is there must not be without its file after a power
 * cut: their names are durable before it holds anything. */
static hr_code commit(hr_store *store, int before) {
    bool is_written = sqlite3_total_changes(store->db) != before;
    hr_code code = is_written ? hr_store_sync_folders(store) : HR_OK;
    return code == HR_OK ? hr_store_run(store, hr_store_sql(store, SQL_COMMIT)) : code;
}

/* All of them in one transaction. */
static hr_code number(hr_store *store, const request *asked, hr_error *err) {
    if (store->has_failed) {
        return hr_fail(err, HR_E_STORE_STOPPED, 0, "the store stopped after an error");
    }
    hr_code code = hr_store_run(store, hr_store_sql(store, SQL_BEGIN));
    if (code != HR_OK) {
        return hr_store_fail(store, code, err, "write");
    }
    int before = sqlite3_total_changes(store->db);
    code = write_all(store, asked, err);
    if (code == HR_OK) {
        code = commit(store, before);
        HR_CRASH_POINT("store.numbered");
        if (code != HR_OK) {
            hr_store_fail(store, code, err, "commit");
            store->has_failed = store->has_failed || code != HR_E_STORE_FULL; /* err tells it */
        }
    }
    if (sqlite3_get_autocommit(store->db) == 0) {
        hr_store_run(store, hr_store_sql(store, SQL_ROLLBACK));
    }
    hr_code fresh = hr_store_refresh(store, false);
    return code != HR_OK || fresh == HR_OK ? code : hr_store_fail(store, fresh, err, "read");
}

static hr_code number_job(hr_store *store, void *data, hr_error *err) {
    const request *asked = data;
    hr_code code = number(store, asked, err);
    for (size_t i = 0; code == HR_OK && i < asked->count; i++) {
        hr_store_name *name = &asked->names[i];
        const store_feed *feed = is_function(name) ? NULL : hr_store_feed(store, name->number);
        HR_ASSERT(is_function(name) || feed != NULL);
        name->epoch = feed == NULL ? 0 : feed->epoch;
    }
    return code;
}

hr_code hr_store_number(hr_store *store, hr_store_name *names, size_t count, hr_error *err) {
    for (size_t i = 0; i < count; i++) {
        HR_ASSERT(is_function(&names[i]) || strcmp(names[i].kind, "pull") == 0 ||
                  strcmp(names[i].kind, "journal") == 0);
    }
    request asked = {.names = names, .count = count};
    return hr_store_do(store, number_job, &asked, err);
}

hr_code hr_store_feed_open(hr_store *store, const char *kind, const char *identity,
                           uint32_t *out_feed, uint32_t *out_epoch, hr_error *err) {
    hr_store_name feed = {.kind = kind, .name = identity};
    hr_code code = hr_store_number(store, &feed, 1, err);
    if (code == HR_OK) {
        *out_feed = feed.number;
        *out_epoch = feed.epoch;
    }
    return code;
}

hr_code hr_store_function_open(hr_store *store, const char *name, const char *was,
                               uint32_t *out_function, hr_error *err) {
    hr_store_name function = {.kind = "function", .name = name, .was = was};
    hr_code code = hr_store_number(store, &function, 1, err);
    if (code == HR_OK) {
        *out_function = function.number;
    }
    return code;
}
