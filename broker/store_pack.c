/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a journal: one event, or many in positions that follow each other. */
#include "broker/store_priv.h"

#include "core/buffer.h"

/* Of many, an entry each stands before the envelopes: where its own ends among them (4 bytes) and
 * its hr_store_sum() (8 bytes), little-endian. The sum of the row is that of its entries. */
enum { ENTRY = 12, ENTRY_SUM = 4 };

static void put(uint8_t *out, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get(const uint8_t *bytes, size_t size) {
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value |= (uint64_t)bytes[i] << (8 * i);
    }
    return value;
}

uint32_t hr_pack_fit(const hr_batch *batch, uint32_t from, size_t room) {
    uint32_t count = 0;
    for (size_t size = 0; from + count < batch->count; count++) {
        uint32_t at = from + count;
        size += ENTRY + batch->view[at].size;
        if (count > 0 && (size > room || batch->position[at] != batch->position[from] + count)) {
            break;
        }
    }
    return count;
}

size_t hr_pack_size(const hr_batch *batch, uint32_t from, uint32_t count) {
    size_t size = 0;
    for (uint32_t i = from; i < from + count; i++) {
        size += (count > 1 ? ENTRY : 0) + batch->view[i].size;
    }
    return size;
}

void hr_pack_write(const hr_batch *batch, uint32_t from, uint32_t count, hr_buffer *buffer,
                   store_row *out) {
    *out = (store_row){.feed = batch->feed,
                       .count = count,
                       .position = batch->position[from],
                       .bytes = hr_batch_envelope(batch, from),
                       .is_whole = true};
    if (count == 1) {
        out->sum = hr_store_sum(out->feed, out->position, out->bytes);
        return;
    }
    size_t head = (size_t)count * ENTRY, end = 0;
    buffer->size = 0;
    for (uint32_t i = 0; i < count; i++) {
        end += batch->view[from + i].size;
    }
    uint8_t *at = hr_buffer_room(buffer, head + end), *envelopes = at + head;
    end = 0;
    for (uint32_t i = 0; i < count; i++) {
        hr_slice envelope = hr_batch_envelope(batch, from + i);
        memcpy(envelopes + end, envelope.bytes, envelope.size);
        end += envelope.size;
        put(at, end, ENTRY_SUM);
        put(at + ENTRY_SUM, hr_store_sum(out->feed, out->position + i, envelope),
            ENTRY - ENTRY_SUM);
        at += ENTRY;
    }
    buffer->size = head + end;
    out->bytes = hr_slice_of(buffer->bytes, buffer->size);
    out->sum = hr_store_sum(out->feed, out->position, hr_slice_of(buffer->bytes, head));
}

void hr_pack_check(store_row *row) {
    size_t head = (size_t)row->count * ENTRY;
    row->is_whole =
        row->count == 1 ||
        (row->count > 1 && head <= row->bytes.size &&
         hr_store_sum(row->feed, row->position, hr_slice_of(row->bytes.bytes, head)) == row->sum);
}

void hr_pack_read(uint32_t feed, sqlite3_stmt *row, store_row *out) {
    uint64_t more = hr_store_column_u64(row, PACK_MORE);
    *out = (store_row){.feed = feed,
                       .count = more < HR_BATCH_MAX ? (uint32_t)more + 1 : 0,
                       .position = hr_store_column_u64(row, PACK_POSITION),
                       .sum = hr_store_column_u64(row, PACK_SUM),
                       .bytes = hr_store_column(row, PACK_BYTES)};
    hr_pack_check(out);
}

bool hr_pack_event(const store_row *row, uint32_t index, hr_slice *out) {
    uint64_t position = row->position + index;
    *out = row->bytes;
    if (row->count == 1) {
        return hr_store_is_whole(row->feed, position, *out, row->sum);
    }
    HR_ASSERT(row->is_whole && index < row->count);
    const uint8_t *entry = row->bytes.bytes + (size_t)index * ENTRY;
    size_t head = (size_t)row->count * ENTRY;
    size_t from = index == 0 ? 0 : (size_t)get(entry - ENTRY, ENTRY_SUM);
    size_t end = (size_t)get(entry, ENTRY_SUM);
    if (from > end || end > row->bytes.size - head) {
        return false;
    }
    *out = hr_slice_of(row->bytes.bytes + head + from, end - from);
    return hr_store_sum(row->feed, position, *out) == get(entry + ENTRY_SUM, ENTRY - ENTRY_SUM);
}

/* Turns each bit of a part in turn, until all is right. */
static bool turn_a_bit(store_row *row, uint8_t *part, size_t size,
                       bool (*is_right)(store_row *row, uint32_t index), uint32_t index) {
    for (size_t bit = 0; bit < size * 8; bit++) {
        part[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (is_right(row, index)) {
            return true;
        }
        part[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return false;
}

static bool are_entries_right(store_row *row, uint32_t index) {
    (void)index;
    hr_pack_check(row);
    return row->is_whole;
}

static bool is_event_right(store_row *row, uint32_t index) {
    hr_slice bytes;
    return hr_pack_event(row, index, &bytes);
}

uint32_t hr_pack_mend(store_row *row, hr_buffer *buffer) {
    uint32_t mended = 0;
    if (row->count == 0 || row->bytes.size > STORE_PAGE_BYTES) {
        return 0;
    }
    buffer->size = 0;
    hr_buffer_add_slice(buffer, row->bytes);
    row->bytes = hr_slice_of(buffer->bytes, buffer->size);
    size_t head = (size_t)row->count * ENTRY;
    if (!row->is_whole) {
        head = head < buffer->size ? head : buffer->size;
        mended += turn_a_bit(row, buffer->bytes, head, are_entries_right, 0);
    }
    for (uint32_t i = 0; row->is_whole && i < row->count; i++) {
        hr_slice bytes;
        if (!hr_pack_event(row, i, &bytes)) {
            uint8_t *part = buffer->bytes + (bytes.bytes - buffer->bytes);
            mended += turn_a_bit(row, part, bytes.size, is_event_right, i);
        }
    }
    return mended;
}

sqlite3_stmt *hr_store_rows_from(hr_store *store, const char *columns, uint32_t feed,
                                 uint64_t from) {
    sqlite3_stmt *rows =
        hr_store_prepare(store,
                         "SELECT %s FROM journal_%u WHERE pos >= (SELECT coalesce(max(pos), 0)"
                         " FROM journal_%u WHERE pos <= ?1) ORDER BY pos",
                         columns, feed, feed);
    hr_store_bind_u64(rows, 1, from);
    return rows;
}

hr_code hr_store_count_events(hr_store *store, uint32_t feed, uint64_t from, uint64_t *out) {
    sqlite3_stmt *rows =
        hr_store_rows_from(store, "sum(max(pos + more + 1 - max(pos, ?1), 0))", feed, from);
    int result = rows == NULL ? sqlite3_errcode(store->db) : sqlite3_step(rows);
    *out = result == SQLITE_ROW ? hr_store_column_u64(rows, 0) : 0;
    sqlite3_finalize(rows);
    return hr_store_fault(store, result);
}
