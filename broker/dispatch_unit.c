/* SPDX-License-Identifier: Apache-2.0 */
/* Units of the dispatcher: what one function settled of one feed, as one commit (S5, S15). */
#include "broker/dispatch_priv.h"

#define RETRY_MIN_NS UINT64_C(1000000000)
#define RETRY_MAX_NS UINT64_C(60000000000)

unit_box *hr_unit_new(void) {
    return hr_alloc(sizeof(unit_box));
}

static void *grow(void *array, size_t count, size_t *capacity, size_t size) {
    if (count < *capacity) {
        return array;
    }
    *capacity = *capacity == 0 ? 8 : *capacity * 2;
    return hr_realloc(array, *capacity * size);
}

void hr_unit_free(unit_box *take_unit) {
    if (take_unit == NULL) {
        return;
    }
    for (size_t i = 0; i < take_unit->held_count; i++) {
        hr_batch_unref(take_unit->held[i]);
    }
    for (size_t i = 0; i < take_unit->append_count; i++) {
        if (take_unit->cursor != NULL) {
            take_unit->cursor->function->results->coming -= take_unit->appends[i]->size;
        }
        hr_batch_unref(take_unit->appends[i]);
    }
    for (size_t i = 0; i < take_unit->owned_count; i++) {
        hr_free(take_unit->owned[i]);
    }
    hr_free(take_unit->rows);
    hr_free(take_unit->held);
    hr_free(take_unit->appends);
    hr_free(take_unit->owned);
    hr_free(take_unit->seen);
    hr_free(take_unit);
}

hr_row *hr_unit_row(unit_box *unit) {
    unit->rows = grow(unit->rows, unit->row_count, &unit->row_capacity, sizeof *unit->rows);
    hr_row *row = &unit->rows[unit->row_count++];
    *row = (hr_row){0};
    return row;
}

void hr_unit_hold(unit_box *unit, hr_batch *batch) {
    if (unit->held_count > 0 && unit->held[unit->held_count - 1] == batch) {
        return; /* rows of one batch come together */
    }
    unit->held = grow(unit->held, unit->held_count, &unit->held_capacity, sizeof(hr_batch *));
    unit->held[unit->held_count++] = hr_batch_ref(batch);
}

hr_slice hr_unit_copy(unit_box *unit, hr_slice slice) {
    if (slice.size == 0) {
        return (hr_slice){0};
    }
    unit->owned = grow(unit->owned, unit->owned_count, &unit->owned_capacity, sizeof(void *));
    void *copy = hr_copy_bytes(slice.bytes, slice.size);
    unit->owned[unit->owned_count++] = copy;
    return hr_slice_of(copy, slice.size);
}

void hr_unit_append(unit_box *unit, hr_batch *take_batch) {
    unit->appends =
        grow(unit->appends, unit->append_count, &unit->append_capacity, sizeof(hr_batch *));
    unit->appends[unit->append_count++] = take_batch;
}

/* The unit that collects what happens to the cursor now; made when needed. */
unit_box *hr_cursor_unit(cursor *c) {
    c->is_dirty = true;
    if (c->building == NULL) {
        c->building = hr_unit_new();
        c->building->cursor = c;
        c->building->sequence = ++c->built;
    }
    return c->building;
}

/* The event needs nothing more of this cursor. */
void hr_cursor_mark(cursor *c, span *s, uint32_t index) {
    uint64_t bit = (uint64_t)1 << (index % 64);
    HR_ASSERT((s->bits[index / 64] & bit) == 0 && s->left > 0);
    s->bits[index / 64] |= bit;
    s->left--;
    c->is_dirty = true;
}

/* The same for an event that is settled or parked now. Deliveries of a journal feed are counted by
 * the store as its events are appended; those of a pull feed here, with what settles them. */
void hr_cursor_settle(cursor *c, span *s, uint32_t index) {
    hr_cursor_mark(c, s, index);
    c->counters.deliveries += c->feed->policy.pull ? 1 : 0;
}

static uint32_t first_open(const span *s) {
    for (uint32_t word = 0;; word++) {
        uint64_t open = ~s->bits[word];
        if (open != 0) {
            return word * 64 + (uint32_t)__builtin_ctzll(open);
        }
    }
}

/* Frees what is settled at the front and moves low up to the first open event. */
void hr_cursor_advance(cursor *c) {
    while (c->first != NULL && c->first->left == 0) {
        span *s = c->first;
        c->low = s->batch->position[s->batch->count - 1] + 1;
        c->first = s->next;
        if (c->first == NULL) {
            c->last = NULL;
        }
        c->window -= s->batch->count;
        c->window_bytes -= s->batch->size;
        hr_batch_unref(s->batch);
        hr_free(s);
    }
    if (c->first != NULL) {
        uint64_t open = c->first->batch->position[first_open(c->first)];
        if (open > c->low) {
            c->low = open;
        }
    } else if (c->next > c->low) {
        c->low = c->next;
    }
}

static void put_varint(hr_buffer *out, uint64_t value) {
    uint8_t *at = hr_buffer_room(out, 10);
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
        out->size++;
    }
    *at = (uint8_t)value;
    out->size++;
}

static bool get_varint(hr_slice *in, uint64_t *out) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && in->size > 0; shift += 7) {
        uint8_t byte = *in->bytes++;
        in->size--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

typedef struct run_writer {
    hr_buffer out;
    uint64_t base, from, to; /* current run [from, to) */
    uint64_t count;
} run_writer;

static void end_run(run_writer *w) {
    if (w->to > w->from) {
        put_varint(&w->out, w->from - w->base);
        put_varint(&w->out, w->to - w->from);
        w->count += w->to - w->from;
        w->base = w->to;
    }
    w->from = w->to = 0;
}

static void add_run(run_writer *w, uint64_t from, uint64_t to) {
    if (from < to) {
        end_run(w);
        w->from = from;
        w->to = to;
        end_run(w);
    }
}

static void add_position(run_writer *w, uint64_t position) {
    if (position != w->to || w->to == 0) {
        end_run(w);
        w->from = position;
    }
    w->to = position + 1;
}

/* Was the event given back to the next owner of its feed (S17)? */
static bool is_dropped(const cursor *c, uint64_t position) {
    size_t low = 0, high = c->dropped_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c->dropped[middle] < position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < c->dropped_count && c->dropped[low] == position;
}

/* What is given back may lie below low, or above it when an earlier event is still open. */
static uint64_t checkpoint_low(const cursor *c) {
    return c->dropped_count > 0 && c->dropped[0] < c->low ? c->dropped[0] : c->low;
}

/* The set settled above low: runs of positions as varint pairs (gap since the run before, length).
 * Ranges known from the store that were not reached yet are kept. */
static void encode_settled(const cursor *c, run_writer *w) {
    w->base = checkpoint_low(c);
    for (size_t i = 0; i < c->dropped_count && c->dropped[i] < c->low; i++) {
        /* all but these is settled up to low */
        bool is_last = i + 1 == c->dropped_count || c->dropped[i + 1] >= c->low;
        add_run(w, c->dropped[i] + 1, is_last ? c->low : c->dropped[i + 1]);
    }
    for (const span *s = c->first; s != NULL; s = s->next) {
        for (uint32_t i = 0; i < s->batch->count; i++) {
            if ((s->bits[i / 64] >> (i % 64) & 1) != 0 && s->batch->position[i] >= c->low &&
                !is_dropped(c, s->batch->position[i])) {
                add_position(w, s->batch->position[i]);
            }
        }
    }
    end_run(w);
    size_t k = 0;
    for (size_t i = c->range_at; i < c->range_count; i++) {
        uint64_t from = c->ranges[i].from;
        from = from < c->next ? c->next : from;
        from = from < w->base ? w->base : from;
        for (; k < c->dropped_count && c->dropped[k] < c->ranges[i].to; k++) {
            if (c->dropped[k] >= from) {
                add_run(w, from, c->dropped[k]);
                from = c->dropped[k] + 1;
            }
        }
        add_run(w, from, c->ranges[i].to);
    }
}

void hr_cursor_add_settled(cursor *c, uint64_t position) {
    c->ranges = hr_realloc(c->ranges, (c->range_count + 1) * sizeof *c->ranges);
    c->ranges[c->range_count++] = (range){.from = position, .to = position + 1};
    c->durable_settled++;
}

bool hr_cursor_load_settled(cursor *c, hr_slice settled) {
    uint64_t at = c->low, gap = 0, length = 0;
    size_t capacity = 0;
    c->has_lost_settled = false;
    while (settled.size > 0) {
        if (!get_varint(&settled, &gap) || !get_varint(&settled, &length) || gap > INT64_MAX - at ||
            length > INT64_MAX - at - gap) {
            c->range_count = 0; /* none of it can be trusted */
            c->durable_settled = 0;
            c->has_lost_settled = true;
            return false;
        }
        c->ranges = grow(c->ranges, c->range_count, &capacity, sizeof *c->ranges);
        at += gap;
        c->ranges[c->range_count++] = (range){.from = at, .to = at + length};
        at += length;
        c->durable_settled += length;
    }
    return true;
}

/* Gives appends their positions, at each submission: what was refused leaves no hole behind. */
static void give_positions(hr_dispatch *d, unit_box *unit) {
    for (size_t i = 0; i < unit->append_count; i++) {
        hr_batch *batch = unit->appends[i];
        feed *f = hr_dispatch_find_feed(d, batch->feed);
        HR_ASSERT(f != NULL && !f->policy.pull);
        for (uint32_t k = 0; k < batch->count; k++) {
            batch->position[k] = f->policy.next++;
        }
    }
}

void hr_unit_submit(hr_dispatch *d, unit_box *unit) {
    give_positions(d, unit);
    unit->unit.rows = unit->rows;
    unit->unit.row_count = unit->row_count;
    unit->unit.appends = unit->appends;
    unit->unit.append_count = unit->append_count;
    unit->unit.data = unit;
    d->units_out++;
    hr_dispatch_act(d, HR_DO_COMMIT, unit->unit.function, unit->unit.feed)->unit = &unit->unit;
}

static void flush_cursor(hr_dispatch *d, cursor *c) {
    hr_cursor_advance(c);
    unit_box *unit = hr_cursor_unit(c);
    c->is_dirty = false;
    c->building = NULL;
    c->running = unit;
    run_writer writer = {0};
    encode_settled(c, &writer);
    unit->unit.function = c->function->policy.id;
    unit->unit.feed = c->feed->policy.id;
    unit->unit.epoch = c->feed->policy.epoch;
    unit->unit.has_checkpoint = true;
    unit->unit.low = checkpoint_low(c);
    unit->unit.settled = hr_unit_copy(unit, hr_slice_of(writer.out.bytes, writer.out.size));
    unit->unit.settled_count = writer.count;
    unit->unit.counters = c->counters;
    hr_buffer_fini(&writer.out);
    hr_unit_submit(d, unit);
}

/* May a checkpoint of it be written? Only where it stands is known; for a feed that is away it is
 * what the store had, with counters and rows of what is still parked. */
bool hr_cursor_can_flush(const cursor *c) {
    return (c->is_begun || c->low > 0) && !c->feed->is_fenced;
}

/* What moves nothing but a checkpoint: the later it is written, the more it takes along. */
static bool can_wait(const hr_dispatch *d, const cursor *c) {
    return c->building == NULL && !d->is_draining && !c->feed->is_revoked && !c->is_removed;
}

/* One unit a cursor at a time: while it is on its way the next one fills. */
void hr_cursors_flush(hr_dispatch *d) {
    uint64_t due_ns = d->flushed_ns + d->options.checkpoint_ns;
    bool is_due = d->flushed_ns == 0 || d->now_ns >= due_ns;
    for (function *f = d->functions; f != NULL; f = f->next) {
        for (cursor *c = f->cursors; c != NULL; c = c->next_of_function) {
            if (!c->is_dirty || c->running != NULL || !hr_cursor_can_flush(c)) {
                continue;
            }
            if (is_due || !can_wait(d, c)) {
                flush_cursor(d, c);
                d->flushed_ns = is_due ? d->now_ns : d->flushed_ns;
            } else {
                hr_cursor_advance(c); /* its window does not wait */
                hr_dispatch_wake_at(d, due_ns);
            }
        }
    }
}

bool hr_feed_has_unborn(const feed *f) {
    for (const cursor *c = f->cursors; c != NULL; c = c->next_of_feed) {
        if (c->is_unborn && c->running != NULL && c->running->retry_ns != 0) {
            return true;
        }
    }
    return false;
}

static void settle_done(hr_dispatch *d, unit_box *unit) {
    cursor *c = unit->cursor;
    for (size_t i = 0; i < unit->append_count; i++) {
        feed *f = hr_dispatch_find_feed(d, unit->appends[i]->feed);
        hr_feed_visible(f, unit->appends[i]);
        f->counters.received += unit->appends[i]->count;
        for (uint32_t k = 0; d->options.note != NULL && k < unit->appends[i]->count; k++) {
            hr_note note = {.kind = HR_NOTE_RESULT,
                            .feed = f->policy.id,
                            .position = unit->appends[i]->position[k],
                            .batch = unit->appends[i],
                            .index = k,
                            .real_us = d->real_us,
                            .text = hr_slice_text(c->function->policy.name)};
            d->options.note(d->options.note_data, &note);
        }
    }
    if (unit->unit.epoch == c->feed->policy.epoch) { /* else: the feed came back meanwhile */
        c->durable_low = unit->unit.low;
        c->is_unborn = false;
        c->durable_settled = unit->unit.settled_count;
        hr_feed_settled(d, c->feed);
    }
}

/* What settles is kept and tried again: after a full disk each second; what the store refuses for
 * itself (a corrupt page, a table changed by hand) ever more rarely, while its function stands. */
static void wait_for_store(hr_dispatch *d, unit_box *unit, hr_code result) {
    uint64_t wait_ns = RETRY_MIN_NS;
    if (result != HR_E_STORE_FULL) {
        if (unit->refused == 0 && unit->cursor != NULL) {
            unit->cursor->function->refused++;
        }
        for (uint32_t i = 0; i < unit->refused && wait_ns < RETRY_MAX_NS; i++) {
            wait_ns *= 2;
        }
        unit->refused++;
    }
    unit->retry_ns = d->now_ns + (wait_ns < RETRY_MAX_NS ? wait_ns : RETRY_MAX_NS);
    unit->next = d->waiting;
    d->waiting = unit;
}

void hr_unit_done(hr_dispatch *d, unit_box *unit, hr_code result) {
    HR_ASSERT(d->units_out > 0);
    d->units_out--;
    if (unit->feed != NULL) {
        hr_feed_append_done(d, unit, result);
        hr_unit_free(unit);
        return;
    }
    if ((unit->removed != NULL || unit->ended != NULL) &&
        (result == HR_OK || result == HR_E_STOPPING)) {
        if (result == HR_OK) {
            hr_removed_done(d, unit);
        }
        hr_unit_free(unit);
        return;
    }
    cursor *c = unit->cursor;
    if (result == HR_OK || result == HR_E_FENCED || result == HR_E_STOPPING) {
        HR_ASSERT(c != NULL);
        c->function->refused -= unit->refused > 0 ? 1 : 0;
        c->running = NULL;
        c->done = unit->sequence;
        if (result == HR_OK) {
            settle_done(d, unit);
        } else if (result == HR_E_FENCED && unit->unit.epoch == c->feed->policy.epoch) {
            hr_feed_fence(d, c->feed);
        }
        hr_unit_free(unit);
    } else {
        wait_for_store(d, unit, result);
    }
}
