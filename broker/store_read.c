/* SPDX-License-Identifier: Apache-2.0 */
/* Reads, served between commits. Whatever a disk gave back is checked before it is handed on. */
#include "broker/store_priv.h"

#include "core/log.h"
#include "core/memory.h"

void hr_store_add_corrupt(hr_read *read, uint64_t position) {
    if (read->corrupt_count >= STORE_CORRUPT_MAX) {
        return;
    }
    if ((read->corrupt_count & (read->corrupt_count - 1)) == 0) {
        size_t room = read->corrupt_count == 0 ? 1 : read->corrupt_count * 2;
        read->corrupt = hr_realloc(read->corrupt, room * sizeof *read->corrupt);
    }
    read->corrupt[read->corrupt_count++] = position;
}

/* ---- batches ---- */

/* Adds a stored envelope that was found whole. false: the batch is full. */
static bool add_event(hr_read *read, hr_builder *builder, uint64_t position, bool is_whole,
                      hr_slice bytes) {
    hr_code code = is_whole ? hr_builder_add(builder, position, bytes, NULL) : HR_E_MALFORMED;
    if (code == HR_E_TOO_LARGE && builder->count > 0) {
        return false;
    }
    if (code != HR_OK) {
        hr_store_add_corrupt(read, position);
    }
    return true;
}

/* A damaged page: where the next row behind from is that can be read. Others may be damaged as
 * well: each position is tried, so that no row between them is given up. The feed's end when there
 * is none; no further than one read can list. */
static uint64_t find_end(hr_store *store, const store_feed *feed, uint64_t from) {
    sqlite3_stmt *row = hr_store_prepare(
        store, "SELECT pos, bytes FROM journal_%u WHERE pos >= ?1 LIMIT 1", feed->id);
    uint64_t end = from + 1;
    for (bool is_found = false; row != NULL && !is_found && end < feed->next;) {
        hr_store_bind_u64(row, 1, end);
        is_found = sqlite3_step(row) == SQLITE_ROW;
        end = is_found ? hr_store_column_u64(row, 0) : end + 1;
        sqlite3_reset(row);
        if (end - from >= STORE_CORRUPT_MAX) {
            break;
        }
    }
    sqlite3_finalize(row);
    return end < feed->next ? end : feed->next;
}

static void add_gap(hr_read *read, uint64_t from, uint64_t end) {
    for (; from < end && read->corrupt_count < STORE_CORRUPT_MAX; from++) {
        hr_store_add_corrupt(read, from);
    }
}

/* Adds the events of a row from *from on. false: the batch is full. */
static bool add_row(hr_read *read, hr_builder *builder, const store_row *row, uint64_t most,
                    uint32_t max, uint64_t *from) {
    uint64_t skipped = *from > row->position ? *from - row->position : 0;
    for (uint64_t i = skipped; i < row->count; i++) {
        hr_slice bytes;
        bool is_whole = hr_pack_event(row, (uint32_t)i, &bytes);
        bool is_full = builder->count >= max || read->corrupt_count >= STORE_CORRUPT_MAX ||
                       (builder->count > 0 && builder->bytes.size + bytes.size > most);
        if (is_full || !add_event(read, builder, row->position + i, is_whole, bytes)) {
            return false;
        }
        *from = row->position + i + 1;
    }
    return true;
}

/* Reads on from *from until the batch is full. */
static int read_rows(hr_store *store, hr_read *read, hr_builder *builder, uint64_t *from,
                     int64_t *at_ms) {
    uint64_t most = read->max_bytes == 0 ? STORE_READ_BYTES : read->max_bytes;
    uint32_t max = read->max == 0 || read->max > HR_BATCH_MAX ? HR_BATCH_MAX : read->max;
    sqlite3_stmt *rows = hr_store_rows_from(store, STORE_ROW_COLUMNS, read->feed, *from);
    int result = rows == NULL ? sqlite3_errcode(store->db) : SQLITE_ROW;
    bool is_full = false;
    while (rows != NULL && !is_full && (result = sqlite3_step(rows)) == SQLITE_ROW) {
        store_row row;
        hr_pack_read(read->feed, rows, &row);
        int why = sqlite3_errcode(store->db);
        if (row.bytes.size == 0 && why != SQLITE_ROW) { /* an overflow page that cannot be read */
            result = why == SQLITE_OK || why == SQLITE_DONE ? SQLITE_CORRUPT : why;
            break;
        }
        if (!row.is_whole) {
            result = SQLITE_CORRUPT;
            break;
        }
        int64_t row_at_ms = sqlite3_column_int64(rows, PACK_AT_MS);
        is_full = !add_row(read, builder, &row, most, max, from);
        *at_ms = *at_ms == 0 && builder->count > 0 ? row_at_ms : *at_ms;
    }
    sqlite3_finalize(rows);
    return result;
}

/* The events of a row that lie from *from to end and are whole; those between are listed as
 * corrupt. false: the batch is full. */
static bool add_whole(hr_read *read, hr_builder *builder, const store_row *row, uint64_t *from,
                      uint64_t end) {
    for (uint32_t i = 0; row->is_whole && i < row->count; i++) {
        uint64_t position = row->position + i;
        hr_slice bytes;
        if (position < *from || position >= end || !hr_pack_event(row, i, &bytes)) {
            continue;
        }
        if (builder->count > 0 &&
            (builder->count >= HR_BATCH_MAX || read->corrupt_count >= STORE_CORRUPT_MAX ||
             builder->bytes.size + bytes.size > STORE_READ_BYTES)) {
            return false;
        }
        add_gap(read, *from, position);
        *from = position;
        if (!add_event(read, builder, position, true, bytes)) {
            return false;
        }
        *from = position + 1;
    }
    return true;
}

/* What stands on damaged pages from *from to end: events that are whole, each by its own sum; all
 * others are listed as corrupt. false: the batch is full. */
static bool read_damaged(hr_store *store, hr_read *read, hr_builder *builder, uint64_t *from,
                         uint64_t end) {
    bool is_full = false;
    uint64_t most = end - *from, begun = *from;
    hr_pages_forgive(store->pages, store->db, true);
    sqlite3_stmt *rows = hr_store_rows_from(store, STORE_ROW_COLUMNS, read->feed, *from);
    for (uint64_t i = 0; rows != NULL && i <= most && !is_full; i++) {
        if (sqlite3_step(rows) != SQLITE_ROW) {
            break;
        }
        store_row row;
        hr_pack_read(read->feed, rows, &row);
        is_full = !add_whole(read, builder, &row, from, end);
    }
    sqlite3_finalize(rows);
    hr_pages_forgive(store->pages, store->db, false);
    if (!is_full) {
        add_gap(read, *from, end);
        *from = end;
    }
    hr_log(HR_LOG_ERROR, "store",
           "%s: page %u is damaged; of positions %llu to %llu of feed %u, %zu become dead letters "
           "'corrupt'; 'headrace recover' saves what can be saved",
           store->path, hr_pages_damaged(store->pages), (unsigned long long)begun,
           (unsigned long long)end - 1, read->feed, read->corrupt_count);
    return !is_full;
}

static void read_journal(hr_store *store, hr_read *read) {
    const store_feed *feed = hr_store_feed(store, read->feed);
    if (feed == NULL || feed->pull) {
        read->result = HR_E_NOT_FOUND;
        return;
    }
    hr_builder builder = {0};
    uint64_t from = read->from == 0 ? 1 : read->from; /* there is no position 0 */
    int64_t at_ms = 0;
    int result = read_rows(store, read, &builder, &from, &at_ms);
    while (hr_store_fault(store, result) == HR_E_STORE_CORRUPT) {
        uint64_t end = find_end(store, feed, from);
        bool goes_on = read_damaged(store, read, &builder, &from, end) &&
                       read->corrupt_count < STORE_CORRUPT_MAX;
        result = goes_on && from >= feed->next ? SQLITE_DONE : SQLITE_ROW;
        if (goes_on && from < feed->next) {
            result = read_rows(store, read, &builder, &from, &at_ms);
        }
    }
    read->at_end = result == SQLITE_DONE;
    read->result = hr_store_fault(store, result);
    read->batch = hr_builder_finish(&builder, read->feed, at_ms * 1000);
    if (read->batch != NULL) {
        read->batch->epoch = feed->epoch;
    }
    hr_builder_fini(&builder);
}

static void read_parked(hr_store *store, hr_read *read) {
    hr_builder builder = {0};
    int64_t at_ms = 0;
    sqlite3_stmt *row = hr_store_sql(store, SQL_READ_PARKED);
    read->at_end = true;
    if (row == NULL) { /* no memory for it: what is not in the batch would count as gone */
        read->result = HR_E_STORE_IO;
        return;
    }
    for (size_t i = 0; i < read->position_count; i++) {
        sqlite3_bind_int64(row, 1, read->function);
        sqlite3_bind_int64(row, 2, read->feed);
        hr_store_bind_u64(row, 3, read->positions[i]);
        int result = sqlite3_step(row);
        bool is_full = false;
        if (result == SQLITE_ROW) {
            at_ms = at_ms == 0 ? sqlite3_column_int64(row, 2) : at_ms;
            hr_slice bytes = hr_store_column(row, 1);
            is_full = !add_event(read, &builder, read->positions[i],
                                 hr_hash(bytes) == hr_store_column_u64(row, 0), bytes);
        } else if (hr_store_fault(store, result) == HR_E_STORE_CORRUPT) {
            hr_store_add_corrupt(read, read->positions[i]);
        } else if (result != SQLITE_DONE) {
            read->result = hr_store_fault(store, result);
        }
        sqlite3_reset(row);
        if (is_full) {
            read->at_end = false;
            break;
        }
    }
    hr_store_mutate_read(store, read);
    const store_feed *feed = hr_store_feed(store, read->feed);
    read->batch = hr_builder_finish(&builder, read->feed, at_ms * 1000);
    if (read->batch != NULL && feed != NULL) {
        read->batch->epoch = feed->epoch;
    }
    hr_builder_fini(&builder);
}

bool hr_store_serve(hr_store *store, hr_read *read) {
    read->result = HR_OK;
    switch (read->kind) {
    case HR_READ_JOURNAL:
        read_journal(store, read);
        return true;
    case HR_READ_PARKED:
        read_parked(store, read);
        return true;
    case HR_READ_PARKED_AT:
        hr_store_read_parked_at(store, read);
        return true;
    case HR_READ_DEAD:
        hr_store_read_dead(store, read);
        return true;
    case HR_READ_DEAD_ONE:
        hr_store_read_dead_one(store, read);
        return true;
    case HR_READ_TOTALS:
        hr_store_read_totals(store, read);
        return true;
    case HR_READ_FIND:
        hr_store_find(store, read);
        return false;
    default:
        read->result = HR_E_INVALID;
        return true;
    }
}

void hr_read_fini(hr_read *read) {
    hr_batch_unref(read->batch);
    hr_free(read->corrupt);
    hr_free(read->found);
    hr_buffer_fini(&read->found_bytes);
    read->batch = NULL;
    read->corrupt = NULL;
    read->found = NULL;
    read->corrupt_count = read->found_count = 0;
}
