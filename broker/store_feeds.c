/* SPDX-License-Identifier: Apache-2.0 */
/* What feeds hold and how far functions are: in memory, in their rows, and in the journals, which
 * rows may be behind. */
#include "broker/store_priv.h"

#include "core/memory.h"

/* ---- from the file ---- */

store_feed *hr_store_feed(hr_store *store, uint32_t feed) {
    for (size_t i = 0; i < store->feed_count; i++) {
        if (store->feeds[i].id == feed) {
            return &store->feeds[i];
        }
    }
    return NULL;
}

/* What the journal holds beyond its feed's own row. */
static hr_code count_behind(hr_store *store, store_feed *feed) {
    sqlite3_stmt *rows = hr_store_prepare(
        store, "SELECT pos, more, length(bytes) FROM journal_%u WHERE pos >= ?1 ORDER BY pos",
        feed->id);
    hr_store_bind_u64(rows, 1, feed->next);
    int result = rows == NULL ? sqlite3_errcode(store->db) : SQLITE_ROW;
    while (rows != NULL && (result = sqlite3_step(rows)) == SQLITE_ROW &&
           feed->lag_bytes < STORE_LAG_BYTES) {
        uint64_t events = hr_store_column_u64(rows, 1) + 1, bytes = hr_store_column_u64(rows, 2);
        feed->next = hr_store_column_u64(rows, 0) + events;
        feed->base += events;
        feed->counters.received += events;
        feed->bytes += bytes;
        feed->lag_bytes += bytes;
        feed->lag_commits = STORE_LAG_COMMITS - 1; /* at most: it is not known of how many */
        feed->is_behind = true;
    }
    sqlite3_finalize(rows);
    return result == SQLITE_ROW ? HR_OK : hr_store_fault(store, result);
}

typedef struct numbers {
    store_feed *feeds;
    store_cursor *cursors;
    size_t feed_count, cursor_count;
} numbers;

/* is_all false: of a feed that is known the epoch only; its journal is not read. */
static hr_code read_feeds(hr_store *store, bool is_all, numbers *out) {
    sqlite3_stmt *rows = hr_store_sql(store, SQL_FEEDS);
    int result = rows == NULL ? sqlite3_errcode(store->db) : SQLITE_ROW;
    hr_code code = HR_OK;
    while (code == HR_OK && rows != NULL && (result = sqlite3_step(rows)) == SQLITE_ROW) {
        uint32_t id = (uint32_t)sqlite3_column_int64(rows, 0);
        const store_feed *known = is_all ? NULL : hr_store_feed(store, id);
        out->feeds = hr_realloc(out->feeds, (out->feed_count + 1) * sizeof *out->feeds);
        store_feed *feed = &out->feeds[out->feed_count++];
        *feed = known != NULL ? *known : (store_feed){.id = id};
        feed->epoch = (uint32_t)sqlite3_column_int64(rows, 2);
        if (known == NULL) {
            feed->pull = sqlite3_column_int(rows, 1) != 0;
            feed->next = hr_store_column_u64(rows, 3);
            feed->base = hr_store_column_u64(rows, 4);
            feed->bytes = hr_store_column_u64(rows, 5);
            feed->next = feed->next == 0 ? 1 : feed->next;
            hr_store_counters_read(hr_store_column(rows, 6), &feed->counters);
            feed->oldest_at_ms = INT64_MIN;
            code = feed->pull ? HR_OK : count_behind(store, feed);
        }
    }
    sqlite3_reset(rows);
    return code == HR_OK ? hr_store_fault(store, result) : code;
}

static hr_code read_cursors(hr_store *store, numbers *out) {
    sqlite3_stmt *rows = hr_store_sql(store, SQL_CURSORS);
    int result = rows == NULL ? sqlite3_errcode(store->db) : SQLITE_ROW;
    while (rows != NULL && (result = sqlite3_step(rows)) == SQLITE_ROW) {
        out->cursors = hr_realloc(out->cursors, (out->cursor_count + 1) * sizeof *out->cursors);
        out->cursors[out->cursor_count++] =
            (store_cursor){.function = (uint32_t)sqlite3_column_int64(rows, 0),
                           .feed = (uint32_t)sqlite3_column_int64(rows, 1),
                           .low = hr_store_column_u64(rows, 2)};
    }
    sqlite3_reset(rows);
    return result == SQLITE_DONE ? HR_OK : hr_store_fault(store, result);
}

/* What lives as long as the store stays. */
static void take_feed(hr_store *store, const store_feed *fresh) {
    store_feed *feed = hr_store_feed(store, fresh->id);
    if (feed == NULL) {
        store->feeds = hr_realloc(store->feeds, (store->feed_count + 1) * sizeof *store->feeds);
        feed = &store->feeds[store->feed_count++];
        *feed = (store_feed){.id = fresh->id};
    }
    store_feed before = *feed;
    *feed = *fresh;
    feed->is_stuck = before.is_stuck;
    feed->insert = before.insert;
    feed->head = before.head;
    feed->trim = before.trim;
}

hr_code hr_store_refresh(hr_store *store, bool is_all) {
    numbers fresh = {0};
    hr_code code = read_feeds(store, is_all, &fresh);
    if (code == HR_OK) {
        code = read_cursors(store, &fresh);
    }
    for (size_t i = 0; code == HR_OK && i < fresh.feed_count; i++) {
        take_feed(store, &fresh.feeds[i]);
    }
    if (code == HR_OK) {
        hr_free(store->cursors);
        store->cursors = fresh.cursors;
        store->cursor_count = fresh.cursor_count;
    } else {
        hr_free(fresh.cursors);
    }
    hr_free(fresh.feeds);
    return code;
}

void hr_store_read_again(hr_store *store) {
    if (!store->has_failed && hr_store_refresh(store, true) != HR_OK) {
        hr_store_fail_stop(store, "reading what the feeds hold");
    }
}

/* ---- into the file ---- */

static bool is_row_due(store_feed *feed, bool all) {
    if (feed->is_owed || !feed->is_behind) {
        return feed->is_owed;
    }
    feed->lag_commits++;
    return all || feed->lag_commits >= STORE_LAG_COMMITS || feed->lag_bytes >= STORE_LAG_BYTES;
}

hr_code hr_store_flush_feeds(hr_store *store, bool all) {
    for (size_t i = 0; i < store->feed_count; i++) {
        store_feed *feed = &store->feeds[i];
        if (!is_row_due(feed, all)) {
            continue;
        }
        uint8_t counters[sizeof(hr_counters)];
        hr_store_counters_write(&feed->counters, counters);
        sqlite3_stmt *upsert = hr_store_sql(store, SQL_FEED);
        sqlite3_bind_int64(upsert, 1, feed->id);
        sqlite3_bind_int64(upsert, 2, feed->epoch);
        hr_store_bind_u64(upsert, 3, feed->next);
        hr_store_bind_u64(upsert, 4, feed->base);
        hr_store_bind_u64(upsert, 5, feed->bytes);
        sqlite3_bind_blob(upsert, 6, counters, sizeof counters, SQLITE_STATIC);
        hr_code code = hr_store_run(store, upsert);
        sqlite3_bind_null(upsert, 6); /* counters go out of scope */
        if (code != HR_OK) {
            return code;
        }
        feed->is_behind = feed->is_owed = false;
        feed->lag_commits = 0;
        feed->lag_bytes = 0;
    }
    return HR_OK;
}

void hr_store_catch_up(hr_store *store) {
    bool is_behind = false;
    for (size_t i = 0; i < store->feed_count; i++) {
        is_behind = is_behind || store->feeds[i].is_behind;
    }
    if (!is_behind || store->has_failed) {
        return;
    }
    hr_code code = hr_store_run(store, hr_store_sql(store, SQL_BEGIN));
    if (code == HR_OK) {
        code = hr_store_flush_feeds(store, true);
    }
    if (code == HR_OK) {
        code = hr_store_run(store, hr_store_sql(store, SQL_COMMIT));
    }
    if (code != HR_OK && code != HR_E_STORE_FULL) {
        hr_store_fail_stop(store, "counting what a feed holds");
    }
    if (sqlite3_get_autocommit(store->db) == 0) {
        hr_store_run(store, hr_store_sql(store, SQL_ROLLBACK));
    }
    if (code != HR_OK) {
        hr_store_read_again(store);
    }
}
