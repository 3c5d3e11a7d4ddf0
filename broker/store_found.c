/* SPDX-License-Identifier: Apache-2.0 */
/* Reads that answer with rows: dead letters, parked rows, totals, and the search for an id. */
#include "broker/store_priv.h"

#include "core/envelope.h"
#include "core/memory.h"

/* ---- found rows ---- */

static hr_found *add_found(hr_read *read) {
    if ((read->found_count & (read->found_count - 1)) == 0) {
        size_t room = read->found_count == 0 ? 1 : read->found_count * 2;
        read->found = hr_realloc(read->found, room * sizeof *read->found);
    }
    hr_found *found = &read->found[read->found_count++];
    *found = (hr_found){0};
    return found;
}

/* Copies a slice; its address is known when all are copied: see settle_slices. */
static hr_slice keep_slice(hr_read *read, hr_slice slice) {
    hr_buffer_add_slice(&read->found_bytes, slice);
    return hr_slice_of(NULL, slice.size);
}

static void settle_slices(hr_read *read) {
    size_t at = 0;
    for (size_t i = 0; i < read->found_count; i++) {
        hr_row *row = &read->found[i].row;
        hr_slice *slices[] = {&row->bytes, &row->reason, &row->text, &row->logs, &row->event_id};
        for (size_t k = 0; k < sizeof slices / sizeof *slices; k++) {
            if (slices[k]->size > 0) {
                slices[k]->bytes = read->found_bytes.bytes + at;
                at += slices[k]->size;
            }
        }
    }
    HR_ASSERT(at == read->found_bytes.size);
}

#define DEAD_COLUMNS                                                                               \
    "SELECT id, function, feed, pos, key_hash, state, due_real_ms, attempt, replay,"               \
    " first_attempt_ms, at_ms, sum, event_id, reason, error"

/* columns: DEAD_COLUMNS, and with_bytes also logs, bytes. */
static void add_dead(hr_read *read, sqlite3_stmt *row, bool with_bytes) {
    hr_found *found = add_found(read);
    found->origin_position = hr_store_column_u64(row, 3);
    found->row = (hr_row){.kind = HR_ROW_DEAD,
                          .position = hr_store_column_u64(row, 0),
                          .function = (uint32_t)sqlite3_column_int64(row, 1),
                          .feed = (uint32_t)sqlite3_column_int64(row, 2),
                          .key_hash = hr_store_column_u64(row, 4),
                          .state = (uint32_t)sqlite3_column_int64(row, 5),
                          .due_ms = sqlite3_column_int64(row, 6),
                          .attempt = (uint32_t)sqlite3_column_int64(row, 7),
                          .replay = (uint32_t)sqlite3_column_int64(row, 8),
                          .first_attempt_ms = sqlite3_column_int64(row, 9),
                          .at_ms = sqlite3_column_int64(row, 10)};
    if (with_bytes) {
        hr_slice bytes = hr_store_column(row, 16);
        if (hr_hash(bytes) != hr_store_column_u64(row, 11)) {
            hr_store_add_corrupt(read, found->row.position);
            bytes.size = 0;
        }
        found->row.bytes = keep_slice(read, bytes);
    }
    found->row.reason = keep_slice(read, hr_store_column(row, 13));
    found->row.text = keep_slice(read, hr_store_column(row, 14));
    if (with_bytes) {
        found->row.logs = keep_slice(read, hr_store_column(row, 15));
    }
    found->row.event_id = keep_slice(read, hr_store_column(row, 12));
}

static void read_dead_rows(hr_store *store, hr_read *read, sqlite3_stmt *rows, bool with_bytes) {
    int result = rows == NULL ? sqlite3_errcode(store->db) : SQLITE_ROW;
    while (rows != NULL && (result = sqlite3_step(rows)) == SQLITE_ROW) {
        add_dead(read, rows, with_bytes);
    }
    sqlite3_finalize(rows);
    read->result = hr_store_fault(store, result);
    read->at_end = true;
    settle_slices(read);
}

void hr_store_read_dead(hr_store *store, hr_read *read) {
    sqlite3_stmt *rows =
        hr_store_prepare(store, DEAD_COLUMNS " FROM dead WHERE id >= ?1 AND ?2 IN (0, function)"
                                             " AND (?3 >> state) & 1 ORDER BY id LIMIT ?4");
    uint32_t max = read->max == 0 ? 100 : read->max;
    hr_store_bind_u64(rows, 1, read->from);
    sqlite3_bind_int64(rows, 2, read->function);
    sqlite3_bind_int64(rows, 3, read->states == 0 ? 1 : read->states);
    sqlite3_bind_int64(rows, 4, max);
    read_dead_rows(store, read, rows, false);
    read->at_end = read->found_count < max;
}

void hr_store_read_dead_one(hr_store *store, hr_read *read) {
    sqlite3_stmt *rows = NULL;
    if (read->event_id.size > 0) {
        rows = hr_store_prepare(store, DEAD_COLUMNS ", logs, bytes FROM dead WHERE event_id = ?1"
                                                    " ORDER BY id DESC LIMIT ?2");
        hr_store_bind(rows, 1, read->event_id);
        sqlite3_bind_int64(rows, 2, read->max == 0 ? 100 : read->max);
    } else {
        rows = hr_store_prepare(store, DEAD_COLUMNS ", logs, bytes FROM dead WHERE id = ?1");
        hr_store_bind_u64(rows, 1, read->from);
    }
    read_dead_rows(store, read, rows, true);
}

static void add_parked(hr_read *read, sqlite3_stmt *row) {
    hr_row *parked = &add_found(read)->row;
    *parked = (hr_row){.kind = HR_ROW_PARK,
                       .function = (uint32_t)sqlite3_column_int64(row, 0),
                       .feed = read->feed,
                       .position = read->from,
                       .state = (uint32_t)sqlite3_column_int64(row, 1),
                       .due_ms = sqlite3_column_int64(row, 2),
                       .attempt = (uint32_t)sqlite3_column_int64(row, 3),
                       .replay = (uint32_t)sqlite3_column_int64(row, 4),
                       .first_attempt_ms = sqlite3_column_int64(row, 5),
                       .at_ms = sqlite3_column_int64(row, 6)};
    parked->text = keep_slice(read, hr_store_column(row, 7));
}

/* Function by function: the key of the table begins with it. */
void hr_store_read_parked_at(hr_store *store, hr_read *read) {
    sqlite3_stmt *rows = hr_store_prepare(
        store,
        "SELECT function, state, due_real_ms, attempt, replay, first_attempt_ms, at_ms, error"
        " FROM function AS f CROSS JOIN parked"
        " WHERE function = f.id AND feed = ?1 AND pos = ?2 ORDER BY function");
    sqlite3_bind_int64(rows, 1, read->feed);
    hr_store_bind_u64(rows, 2, read->from);
    int result = rows == NULL ? sqlite3_errcode(store->db) : SQLITE_ROW;
    while (rows != NULL && (result = sqlite3_step(rows)) == SQLITE_ROW) {
        add_parked(read, rows);
    }
    sqlite3_finalize(rows);
    read->result = hr_store_fault(store, result);
    read->at_end = true;
    settle_slices(read);
}

/* ---- totals ---- */

static void add_counters(hr_counters *sum, const hr_counters *more) {
    uint64_t a[sizeof *sum / 8], b[sizeof *sum / 8];
    memcpy(a, sum, sizeof a);
    memcpy(b, more, sizeof b);
    for (size_t i = 0; i < sizeof a / sizeof *a; i++) {
        a[i] += b[i];
    }
    memcpy(sum, a, sizeof a);
}

static hr_code count_parked(hr_store *store, uint32_t function, uint64_t *out) {
    sqlite3_stmt *count =
        hr_store_prepare(store, "SELECT count(*) FROM parked WHERE function = ?1");
    sqlite3_bind_int64(count, 1, function);
    int result = count == NULL ? sqlite3_errcode(store->db) : sqlite3_step(count);
    *out = result == SQLITE_ROW ? hr_store_column_u64(count, 0) : 0;
    sqlite3_finalize(count);
    return hr_store_fault(store, result);
}

/* One checkpoint: function, feed, low, settled_count, base, counters. */
static hr_code total_feed(hr_store *store, sqlite3_stmt *row, hr_found *found) {
    const store_feed *feed = hr_store_feed(store, (uint32_t)sqlite3_column_int64(row, 1));
    hr_counters counters;
    hr_store_counters_read(hr_store_column(row, 5), &counters);
    uint64_t events = 0, low = hr_store_column_u64(row, 2);
    uint64_t settled = hr_store_column_u64(row, 3);
    hr_code code = HR_OK;
    if (feed != NULL && !feed->pull) {
        counters.deliveries += feed->base - hr_store_column_u64(row, 4);
        counters.replays += feed->counters.replays;
        code = hr_store_count_events(store, feed->id, low, &events);
        if (code == HR_E_STORE_CORRUPT) { /* as near as can be told */
            hr_pages_forgive(store->pages, store->db, true);
            hr_store_count_events(store, feed->id, low, &events);
            hr_pages_forgive(store->pages, store->db, false);
            code = HR_OK;
        }
        found->pending += events > settled ? events - settled : 0;
    }
    add_counters(&found->counters, &counters);
    return code;
}

static hr_code total_function(hr_store *store, uint32_t function, hr_found *found) {
    found->row.function = function;
    hr_code code = count_parked(store, function, &found->pending);
    sqlite3_stmt *rows = hr_store_prepare(
        store, "SELECT function, feed, low, settled_count, base, counters FROM checkpoint"
               " WHERE shard = 0 AND function = ?1");
    sqlite3_bind_int64(rows, 1, function);
    int result = rows == NULL ? sqlite3_errcode(store->db) : SQLITE_DONE;
    while (code == HR_OK && rows != NULL && (result = sqlite3_step(rows)) == SQLITE_ROW) {
        code = total_feed(store, rows, found);
    }
    sqlite3_finalize(rows);
    return code == HR_OK ? hr_store_fault(store, result) : code;
}

void hr_store_read_totals(hr_store *store, hr_read *read) {
    sqlite3_stmt *rows =
        hr_store_prepare(store, "SELECT id FROM function WHERE removed_at IS NULL ORDER BY id");
    int result = rows == NULL ? sqlite3_errcode(store->db) : SQLITE_DONE;
    read->result = HR_OK;
    while (read->result == HR_OK && rows != NULL && (result = sqlite3_step(rows)) == SQLITE_ROW) {
        read->result =
            total_function(store, (uint32_t)sqlite3_column_int64(rows, 0), add_found(read));
    }
    sqlite3_finalize(rows);
    read->at_end = true;
    if (read->result == HR_OK) {
        read->result = hr_store_fault(store, result);
    }
}

/* ---- search ---- */

enum { FIND_SLICE_NS = 2000000, FIND_MAX = 1000000 };

static void look_at(hr_read *read, const store_row *row, uint32_t index, int64_t at_ms) {
    hr_slice bytes;
    hr_view view;
    if (!hr_pack_event(row, index, &bytes) || bytes.size > HR_ENVELOPE_MAX ||
        hr_envelope_view(bytes.bytes, 0, (uint32_t)bytes.size, &view, NULL) != HR_OK ||
        !hr_slice_equal(hr_slice_of(bytes.bytes + view.id_at, view.id_size), read->event_id)) {
        return;
    }
    hr_found *found = add_found(read);
    found->row.feed = row->feed;
    found->row.position = row->position + index;
    found->row.at_ms = at_ms;
    found->row.bytes = keep_slice(read, bytes);
    found->row.event_id = keep_slice(read, hr_slice_of(bytes.bytes + view.id_at, view.id_size));
}

/* Most rows do not have the id anywhere in them. Returns how many events it holds. */
static uint32_t look_into(hr_read *read, uint32_t feed, sqlite3_stmt *statement) {
    store_row row;
    hr_pack_read(feed, statement, &row);
    uint32_t looked = row.count == 0 ? 1 : row.count;
    if (!row.is_whole || memmem(row.bytes.bytes, row.bytes.size, read->event_id.bytes,
                                read->event_id.size) == NULL) {
        return looked;
    }
    for (uint32_t i = row.count; i > 0; i--) {
        look_at(read, &row, i - 1, sqlite3_column_int64(statement, PACK_AT_MS));
    }
    return looked;
}

/* One slice of one feed, newest first. false: nothing more in it (or an error, in result). */
static bool find_slice(hr_store *store, store_find *find, const store_feed *feed) {
    uint64_t until = hr_store_mono_ns(store) + FIND_SLICE_NS;
    uint32_t max = find->read->max == 0 ? FIND_MAX : find->read->max;
    sqlite3_stmt *rows = hr_store_prepare(
        store, "SELECT " STORE_ROW_COLUMNS " FROM journal_%u WHERE pos < ?1 ORDER BY pos DESC",
        feed->id);
    hr_store_bind_u64(rows, 1, find->below);
    int result = rows == NULL ? sqlite3_errcode(store->db) : SQLITE_ROW;
    bool is_late = false;
    uint32_t looked = 0;
    while (rows != NULL && !is_late && find->looked < max &&
           (result = sqlite3_step(rows)) == SQLITE_ROW) {
        find->looked += look_into(find->read, feed->id, rows);
        find->below = hr_store_column_u64(rows, PACK_POSITION);
        is_late = ++looked % 16 == 0 && hr_store_mono_ns(store) >= until;
    }
    sqlite3_finalize(rows);
    hr_code code = hr_store_fault(store, result);
    if (code != HR_OK && code != HR_E_STORE_CORRUPT) {
        find->read->result = code;
    }
    return result == SQLITE_ROW && find->looked < max;
}

void hr_store_find(hr_store *store, hr_read *read) {
    store_find *find = hr_alloc(sizeof *find);
    *find = (store_find){.read = read, .below = INT64_MAX};
    store_find **last = &store->finds;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = find;
}

hr_read *hr_store_find_more(hr_store *store) {
    store_find *find = store->finds;
    uint32_t max = find->read->max == 0 ? FIND_MAX : find->read->max;
    while (find->feed < store->feed_count) {
        const store_feed *feed = &store->feeds[find->feed];
        bool is_wanted = find->read->feed == 0 || find->read->feed == feed->id;
        if (!feed->pull && is_wanted && find->read->result == HR_OK && find->looked < max) {
            if (find_slice(store, find, feed)) {
                return NULL;
            }
            find->feed++;
            find->below = INT64_MAX;
            return NULL;
        }
        find->feed++;
    }
    hr_read *read = find->read;
    read->at_end = read->result == HR_OK && find->looked < max;
    store->finds = find->next;
    hr_free(find);
    settle_slices(read);
    return read;
}
