/* SPDX-License-Identifier: Apache-2.0 */
/* What the store knows, told row by row. */
#include "broker/store_priv.h"

typedef struct load {
    const hr_store_loader *loader;
    uint32_t only_feed; /* 0: all */
} load;

/* Unsettled: from the lowest checkpoint of a live function, by rows; without one all is settled.
 */
static hr_code unsettled_bytes(hr_store *store, uint32_t feed, uint64_t *out) {
    uint64_t low = UINT64_MAX;
    for (size_t i = 0; i < store->cursor_count; i++) {
        const store_cursor *cursor = &store->cursors[i];
        low = cursor->feed == feed && cursor->low < low ? cursor->low : low;
    }
    *out = 0;
    if (low > INT64_MAX) {
        return HR_OK;
    }
    sqlite3_stmt *sum =
        hr_store_rows_from(store, "sum(iif(pos + more >= ?1, length(bytes), 0))", feed, low);
    int result = sum == NULL ? sqlite3_errcode(store->db) : sqlite3_step(sum);
    if (result == SQLITE_ROW) {
        *out = hr_store_column_u64(sum, 0);
    }
    sqlite3_finalize(sum);
    return hr_store_fault(store, result);
}

static hr_code each_feed(hr_store *store, sqlite3_stmt *row, const load *self) {
    uint32_t id = (uint32_t)sqlite3_column_int64(row, 0);
    const store_feed *feed = hr_store_feed(store, id);
    uint64_t unsettled = 0;
    HR_ASSERT(feed != NULL);
    hr_code code = feed->pull ? HR_OK : unsettled_bytes(store, id, &unsettled);
    if (code == HR_E_STORE_CORRUPT) { /* a damaged page: no reason to stay down (S2 counts less) */
        code = HR_OK;
        unsettled = feed->bytes;
    }
    int64_t fire =
        sqlite3_column_type(row, 3) == SQLITE_NULL ? INT64_MIN : sqlite3_column_int64(row, 3);
    if (code == HR_OK) {
        self->loader->feed(self->loader->data, id, (const char *)sqlite3_column_text(row, 1),
                           (const char *)sqlite3_column_text(row, 2), feed->next, unsettled, fire);
    }
    return code;
}

static hr_code each_function(hr_store *store, sqlite3_stmt *row, const load *self) {
    (void)store;
    self->loader->function(self->loader->data, (uint32_t)sqlite3_column_int64(row, 0),
                           (const char *)sqlite3_column_text(row, 1),
                           sqlite3_column_int(row, 2) != 0);
    return HR_OK;
}

static hr_code each_checkpoint(hr_store *store, sqlite3_stmt *row, const load *self) {
    (void)store;
    hr_counters counters;
    hr_store_counters_read(hr_store_column(row, 3), &counters);
    self->loader->checkpoint(self->loader->data, (uint32_t)sqlite3_column_int64(row, 0),
                             (uint32_t)sqlite3_column_int64(row, 1), hr_store_column_u64(row, 2),
                             hr_store_column(row, 4), &counters);
    return HR_OK;
}

/* What a feed counts itself, with what its row does not say yet. */
static void tell_counters(hr_store *store, const load *self) {
    for (size_t i = 0; i < store->feed_count; i++) {
        const store_feed *feed = &store->feeds[i];
        if (self->only_feed == 0 || self->only_feed == feed->id) {
            self->loader->checkpoint(self->loader->data, 0, feed->id, feed->next,
                                     hr_slice_of(NULL, 0), &feed->counters);
        }
    }
}

static hr_code each_parked(hr_store *store, sqlite3_stmt *row, const load *self) {
    (void)store;
    hr_row parked = {.kind = HR_ROW_PARK,
                     .function = (uint32_t)sqlite3_column_int64(row, 0),
                     .feed = (uint32_t)sqlite3_column_int64(row, 1),
                     .position = hr_store_column_u64(row, 2),
                     .key_hash = hr_store_column_u64(row, 3),
                     .state = (uint32_t)sqlite3_column_int64(row, 4),
                     .due_ms = sqlite3_column_int64(row, 5),
                     .attempt = (uint32_t)sqlite3_column_int64(row, 6),
                     .replay = (uint32_t)sqlite3_column_int64(row, 7),
                     .first_attempt_ms = sqlite3_column_int64(row, 8),
                     .at_ms = sqlite3_column_int64(row, 9),
                     .bytes = {.bytes = NULL, .size = hr_store_column_u64(row, 10)},
                     .event_id = hr_store_column(row, 11),
                     .text = hr_store_column(row, 12)};
    self->loader->parked(self->loader->data, &parked);
    return HR_OK;
}

static hr_code each_seen(hr_store *store, sqlite3_stmt *row, const load *self) {
    (void)store;
    self->loader->seen(self->loader->data, (uint32_t)sqlite3_column_int64(row, 0),
                       sqlite3_column_int64(row, 1), hr_store_column(row, 2));
    return HR_OK;
}

static hr_code each_dead(hr_store *store, sqlite3_stmt *row, const load *self) {
    (void)store;
    self->loader->dead(self->loader->data, hr_store_column_u64(row, 0));
    return HR_OK;
}

static hr_code each_row(hr_store *store, const load *self, const char *text,
                        hr_code (*each)(hr_store *, sqlite3_stmt *, const load *)) {
    sqlite3_stmt *rows = hr_store_prepare(store, "%s", text);
    if (rows == NULL) {
        return hr_store_fault(store, sqlite3_errcode(store->db));
    }
    sqlite3_bind_int64(rows, 1, self->only_feed);
    hr_code code = HR_OK;
    int result = SQLITE_DONE;
    while (code == HR_OK && (result = sqlite3_step(rows)) == SQLITE_ROW) {
        code = each(store, rows, self);
    }
    sqlite3_finalize(rows);
    return code != HR_OK ? code : hr_store_fault(store, result);
}

static hr_code load_job(hr_store *store, void *data, hr_error *err) {
    const load *self = data;
    const hr_store_loader *loader = self->loader;
    hr_code code = HR_OK;
    if (loader->feed != NULL) {
        code = each_row(store, self,
                        "SELECT id, kind, identity, last_fire_us FROM feed"
                        " WHERE ?1 IN (0, id) ORDER BY id",
                        each_feed);
    }
    if (code == HR_OK && loader->function != NULL && self->only_feed == 0) {
        code = each_row(store, self,
                        "SELECT id, name, removed_at IS NOT NULL FROM function ORDER BY id",
                        each_function);
    }
    if (code == HR_OK && loader->checkpoint != NULL) {
        tell_counters(store, self);
        code = each_row(store, self,
                        "SELECT c.function, c.feed, c.low, c.counters, c.settled FROM checkpoint c"
                        " LEFT JOIN function f ON f.id = c.function WHERE c.shard = 0"
                        " AND c.function <> 0 AND f.removed_at IS NULL AND ?1 IN (0, c.feed)",
                        each_checkpoint);
    }
    if (code == HR_OK && loader->parked != NULL) {
        code = each_row(store, self,
                        "SELECT function, feed, pos, key_hash, state, due_real_ms, attempt,"
                        " replay, first_attempt_ms, at_ms, length(bytes), event_id, error"
                        " FROM parked WHERE ?1 IN (0, feed) ORDER BY function, feed, pos",
                        each_parked);
    }
    if (code == HR_OK && loader->seen != NULL) {
        code = each_row(store, self,
                        "SELECT feed, at_ms, hashes FROM seen WHERE ?1 IN (0, feed)"
                        " ORDER BY feed, at_ms, seq",
                        each_seen);
    }
    if (code == HR_OK && loader->dead != NULL && self->only_feed == 0) {
        code = each_row(store, self, "SELECT count(*) FROM dead WHERE state = ?1", each_dead);
    }
    return code == HR_OK ? HR_OK : hr_store_fail(store, code, err, "load");
}

hr_code hr_store_load(hr_store *store, uint32_t only_feed, const hr_store_loader *loader,
                      hr_error *err) {
    load self = {.loader = loader, .only_feed = only_feed};
    return hr_store_do(store, load_job, &self, err);
}
