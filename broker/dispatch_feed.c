/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds: intake of push triggers, batches in memory, credit and back-pressure (S1, S2, S4, S8). */
#include "broker/dispatch_priv.h"

enum { MARK_BYTES = 64 << 10, RING_BYTES = 16 << 20 };

static hr_batch *ring_at(const feed *f, uint32_t index) {
    return f->ring[(f->ring_first + index) % f->ring_capacity];
}

static void ring_push(feed *f, hr_batch *take_batch) {
    if (f->ring_count == f->ring_capacity) {
        uint32_t capacity = f->ring_capacity == 0 ? 16 : f->ring_capacity * 2;
        hr_batch **ring = hr_alloc_array(capacity, sizeof(hr_batch *));
        for (uint32_t i = 0; i < f->ring_count; i++) {
            ring[i] = ring_at(f, i);
        }
        hr_free(f->ring);
        f->ring = ring;
        f->ring_first = 0;
        f->ring_capacity = capacity;
    }
    f->ring[(f->ring_first + f->ring_count) % f->ring_capacity] = take_batch;
    f->ring_count++;
    f->ring_events += take_batch->count;
    f->ring_bytes += take_batch->size;
}

static uint64_t last_position(const hr_batch *batch) {
    return batch->position[batch->count - 1];
}

static void ring_pop(feed *f) {
    hr_batch *batch = ring_at(f, 0);
    f->ring_floor = last_position(batch) + 1;
    f->ring_events -= batch->count;
    f->ring_bytes -= batch->size;
    f->ring_first = (f->ring_first + 1) % f->ring_capacity;
    f->ring_count--;
    hr_batch_unref(batch);
}

/* The batch that holds position or the first one after it, NULL when none is in memory. */
hr_batch *hr_feed_find(const feed *f, uint64_t position) {
    uint32_t low = 0, high = f->ring_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (last_position(ring_at(f, middle)) < position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < f->ring_count ? ring_at(f, low) : NULL;
}

static uint64_t lowest_next(const feed *f) {
    uint64_t lowest = UINT64_MAX;
    for (const cursor *c = f->cursors; c != NULL; c = c->next_of_feed) {
        lowest = c->next < lowest ? c->next : lowest;
    }
    return lowest;
}

/* How many events of a pull feed may be in memory or on their way: by their size so far. */
static uint64_t pull_most(const feed *f) {
    if (f->event_bytes == 0) {
        return HR_PULL_FIRST;
    }
    uint64_t most = HR_PULL_BYTES / f->event_bytes;
    return most > HR_PULL_EVENTS ? HR_PULL_EVENTS : most < 2 ? 2 : most;
}

/* Larger at once, smaller by and by. */
static void learn_size(feed *f, const hr_batch *batch) {
    uint64_t each = batch->size / batch->count + 1;
    f->event_bytes = each > f->event_bytes ? each : (3 * f->event_bytes + each) / 4;
}

/* Lets go of batches that nobody needs; asks a pull source for more, restarts a push source. */
void hr_feed_trim(hr_dispatch *d, feed *f) {
    uint64_t lowest = lowest_next(f);
    while (f->ring_count > 0 && last_position(ring_at(f, 0)) < lowest) {
        ring_pop(f);
    }
    if (f->policy.pull) {
        uint64_t held = f->ring_events + f->wanted, most = pull_most(f);
        if (!f->is_revoked && !d->is_draining && f->cursors != NULL && f->cursors->is_begun &&
            held <= most / 2) {
            uint64_t more = most - held;
            f->wanted += more;
            hr_dispatch_act(d, HR_DO_WANT, 0, f->policy.id)->events = (uint32_t)more;
        }
        return;
    }
    while (f->ring_count > HR_JOURNAL_BATCHES || f->ring_bytes > RING_BYTES) {
        ring_pop(f); /* what falls out is read again from the store */
    }
    if (f->is_stopped && !d->is_draining && f->unsettled <= f->policy.max_bytes / 5 * 4) {
        f->is_stopped = false;
        hr_dispatch_act(d, HR_DO_WANT, 0, f->policy.id)->events = 1;
    }
}

static void add_mark(feed *f, uint64_t last, uint64_t bytes) {
    f->unsettled += bytes;
    if (f->mark_count > 0) {
        mark *newest = &f->marks[f->mark_first + f->mark_count - 1];
        if (newest->bytes < MARK_BYTES) {
            newest->bytes += bytes;
            newest->last = last;
            return;
        }
    }
    if (f->mark_first + f->mark_count == f->mark_capacity) {
        if (f->mark_first > f->mark_capacity / 2) {
            memmove(f->marks, f->marks + f->mark_first, f->mark_count * sizeof *f->marks);
            f->mark_first = 0;
        } else {
            f->mark_capacity = f->mark_capacity == 0 ? 64 : f->mark_capacity * 2;
            f->marks = hr_realloc(f->marks, f->mark_capacity * sizeof *f->marks);
        }
    }
    f->marks[f->mark_first + f->mark_count++] = (mark){.last = last, .bytes = bytes};
}

/* A batch of the feed is durable: from now on it may be dispatched. */
void hr_feed_visible(feed *f, hr_batch *batch) {
    f->visible = last_position(batch) + 1;
    ring_push(f, hr_batch_ref(batch));
    add_mark(f, f->visible - 1, batch->size);
}

/* Below it nothing must be read again by another owner (S17): neither what was parked without an
 * attempt nor what was given back, even when the unit that says so is still on its way. */
static uint64_t told_low(const cursor *c) {
    uint64_t low = c->durable_low;
    if (c->untried_first != NULL && c->untried_first->position < low) {
        low = c->untried_first->position;
    }
    return c->dropped_count > 0 && c->dropped[0] < low ? c->dropped[0] : low;
}

/* A cursor of the feed became durable: what all have behind them no longer counts (S2). */
void hr_feed_settled(hr_dispatch *d, feed *f) {
    uint64_t low = f->cursors == NULL ? f->visible : UINT64_MAX;
    for (const cursor *c = f->cursors; c != NULL; c = c->next_of_feed) {
        uint64_t own = f->policy.pull ? told_low(c) : c->durable_low;
        low = own < low ? own : low;
    }
    if (f->policy.pull) {
        if (low > f->told_low && low != UINT64_MAX && !f->is_gone) {
            f->told_low = low;
            hr_dispatch_act(d, HR_DO_SETTLED, 0, f->policy.id)->low = low;
        }
        return;
    }
    while (f->mark_count > 0 && f->marks[f->mark_first].last < low) {
        f->unsettled -= f->marks[f->mark_first].bytes;
        f->mark_first++;
        f->mark_count--;
    }
}

static void refuse(hr_dispatch *d, const feed *f, uint64_t ticket, hr_code why) {
    if (ticket == 0) {
        return;
    }
    hr_action *act = hr_dispatch_act(d, HR_DO_REFUSED, 0, f->policy.id);
    act->ticket.first = act->ticket.last = ticket;
    act->ticket.why = why;
}

/* What has left the window is deleted with what comes, so that it never grows on disk either. */
static void trim_seen(const feed *f, unit_box *unit) {
    int64_t left_ms = hr_dedupe_left_ms(f->policy.take_dedupe);
    if (left_ms > 0) {
        hr_row *row = hr_unit_row(unit);
        row->kind = HR_ROW_SEEN_TRIM;
        row->feed = f->policy.id;
        row->due_ms = left_ms;
    }
}

/* Leaves only what the window has not seen; what is new is entered in unit->seen. */
static hr_batch *without_duplicates(hr_dispatch *d, feed *f, unit_box *unit, hr_batch *take_batch) {
    uint32_t keep[HR_BATCH_MAX];
    uint32_t kept = 0;
    int64_t stored_ms = hr_dedupe_stamp(f->policy.take_dedupe, d->real_us / 1000);
    unit->seen = hr_alloc_array(take_batch->count, sizeof *unit->seen);
    hr_seen *seen = hr_alloc_array(take_batch->count, sizeof *seen);
    if (f->policy.identify != NULL) {
        f->policy.identify->seen(f->policy.identify, take_batch, seen);
    } else {
        for (uint32_t i = 0; i < take_batch->count; i++) {
            seen[i] = hr_seen_of(hr_batch_source(take_batch, i), hr_batch_id(take_batch, i));
        }
    }
    bool by_id = f->policy.identify == NULL;
    for (uint32_t i = 0; i < take_batch->count; i++) {
        if (by_id && (take_batch->view[i].flags & HR_VIEW_MADE_ID) != 0) {
            keep[kept++] = i; /* nothing that comes can be the same */
        } else if (hr_dedupe_add(f->policy.take_dedupe, seen[i], d->clock_ms)) {
            unit->seen[unit->seen_count++] = seen[i];
            keep[kept++] = i;
        } else if (d->options.note != NULL) {
            hr_note note = {.kind = HR_NOTE_DUPLICATE,
                            .feed = f->policy.id,
                            .batch = take_batch,
                            .index = i,
                            .real_us = d->real_us};
            d->options.note(d->options.note_data, &note);
        }
    }
    hr_free(seen);
    if (unit->seen_count > 0) {
        hr_row *row = hr_unit_row(unit);
        row->kind = HR_ROW_SEEN;
        row->feed = f->policy.id;
        row->due_ms = stored_ms;
        row->text = hr_slice_of(unit->seen, unit->seen_count * sizeof *unit->seen);
        trim_seen(f, unit);
    }
    unit->unit.counters.duplicates = take_batch->count - kept;
    if (kept == take_batch->count) {
        return take_batch;
    }
    hr_batch *rest = kept == 0 ? NULL : hr_batch_pick(take_batch, keep, kept);
    hr_batch_unref(take_batch);
    return rest;
}

static unit_box *new_append(feed *f, uint64_t ticket) {
    unit_box *unit = hr_unit_new();
    unit->feed = f;
    unit->ticket = ticket;
    unit->sequence = ++f->appends;
    unit->unit.feed = f->policy.id;
    unit->unit.epoch = f->policy.epoch;
    unit->unit.flags = HR_UNIT_INTAKE;
    return unit;
}

void hr_feed_offer(hr_dispatch *d, const hr_input *input) {
    feed *f = hr_dispatch_find_feed(d, input->offer.feed);
    HR_ASSERT(f != NULL && !f->policy.pull);
    hr_batch *batch = input->offer.take_batch;
    if (hr_feed_has_unborn(f)) {
        refuse(d, f, input->offer.ticket, HR_E_STORE_FULL);
        hr_batch_unref(batch);
        return;
    }
    if (d->is_draining || (batch != NULL && f->unsettled + batch->size > f->policy.max_bytes)) {
        refuse(d, f, input->offer.ticket, d->is_draining ? HR_E_STOPPING : HR_E_FEED_FULL);
        if (!f->is_stopped) {
            f->is_stopped = true;
            hr_dispatch_act(d, HR_DO_WANT, 0, f->policy.id)->events = 0;
        }
        hr_batch_unref(batch);
        return;
    }
    unit_box *unit = new_append(f, input->offer.ticket);
    for (size_t i = 0; i < input->offer.row_count; i++) {
        hr_row *row = hr_unit_row(unit);
        *row = input->offer.rows[i];
        row->bytes = hr_unit_copy(unit, row->bytes);
        row->reason = hr_unit_copy(unit, row->reason);
        row->text = hr_unit_copy(unit, row->text);
        row->logs = hr_unit_copy(unit, row->logs);
        row->event_id = hr_unit_copy(unit, row->event_id);
    }
    if (batch != NULL && f->policy.take_dedupe != NULL) {
        batch = without_duplicates(d, f, unit, batch);
    }
    if (batch != NULL) {
        batch->feed = f->policy.id;
        unit->events = batch->count;
        hr_unit_append(unit, batch);
    }
    hr_unit_submit(d, unit);
}

void hr_feed_reject(hr_dispatch *d, const hr_input *input) {
    feed *f = hr_dispatch_find_feed(d, input->reject.feed);
    HR_ASSERT(f != NULL);
    unit_box *unit = new_append(f, input->reject.ticket);
    hr_row *row = hr_unit_row(unit);
    row->kind = HR_ROW_DEAD;
    row->feed = f->policy.id;
    row->at_ms = d->real_us / 1000;
    row->bytes = hr_unit_copy(unit, input->reject.raw);
    row->reason = hr_slice_text("malformed");
    row->text = hr_unit_copy(unit, input->reject.why);
    unit->unit.counters.malformed = 1;
    d->options.dead_count++;
    hr_unit_submit(d, unit);
}

void hr_feed_append_done(hr_dispatch *d, unit_box *unit, hr_code result) {
    feed *f = unit->feed;
    if (result != HR_OK) {
        for (size_t i = 0; i < unit->seen_count; i++) {
            hr_dedupe_remove(f->policy.take_dedupe, unit->seen[i]);
        }
        d->options.dead_count -= unit->unit.counters.malformed < d->options.dead_count
                                     ? unit->unit.counters.malformed
                                     : d->options.dead_count;
        f->failed_to = f->appends;
        refuse(d, f, unit->ticket, result);
        return;
    }
    f->counters.duplicates += unit->unit.counters.duplicates;
    f->counters.malformed += unit->unit.counters.malformed;
    for (size_t i = 0; i < unit->append_count; i++) {
        hr_batch *batch = unit->appends[i];
        f->counters.received += batch->count;
        for (uint32_t k = 0; d->options.note != NULL && k < batch->count; k++) {
            hr_note note = {.kind = HR_NOTE_STORED,
                            .feed = f->policy.id,
                            .position = batch->position[k],
                            .batch = batch,
                            .index = k,
                            .real_us = d->real_us};
            d->options.note(d->options.note_data, &note);
        }
        hr_feed_visible(f, batch);
    }
    if (f->cursors == NULL) {
        hr_feed_settled(d, f);
    }
    if (unit->unit.counters.duplicates > 0 && unit->sequence <= f->failed_to) {
        /* S16: the first copy may be what was not kept; offered again, it is new or durable */
        refuse(d, f, unit->ticket, HR_E_STORE_FULL);
    } else if (unit->ticket != 0) {
        hr_dispatch_act(d, HR_DO_DURABLE, 0, f->policy.id)->ticket.last = unit->ticket;
    }
}

void hr_feed_deliver(hr_dispatch *d, hr_batch *take_batch) {
    feed *f = hr_dispatch_find_feed(d, take_batch->feed);
    if (f == NULL || f->is_revoked || f->is_gone || d->is_draining || f->cursors == NULL) {
        hr_batch_unref(take_batch); /* unsettled: whoever owns the feed next reads it again */
        return;
    }
    HR_ASSERT(f->policy.pull && take_batch->count > 0);
    if (take_batch->position[0] < f->visible) { /* delivered before */
        hr_batch_unref(take_batch);
        return;
    }
    f->wanted -= take_batch->count < f->wanted ? take_batch->count : f->wanted;
    f->visible = last_position(take_batch) + 1;
    f->counters.received += take_batch->count;
    learn_size(f, take_batch);
    ring_push(f, take_batch);
}

void hr_feed_begin(hr_dispatch *d, uint32_t id, uint64_t position) {
    feed *f = hr_dispatch_find_feed(d, id);
    HR_ASSERT(f != NULL && f->policy.pull);
    f->ring_floor = f->visible = f->told_low = position;
    f->is_started = false;
    for (cursor *c = f->cursors; c != NULL; c = c->next_of_feed) {
        if (!c->is_begun || c->low < position) {
            c->low = c->next = position > c->low ? position : c->low;
            c->is_begun = true;
            /* the absolute start is durable before the first dispatch */
            c->start = hr_cursor_unit(c)->sequence;
        }
        while (c->untried_first != NULL && c->untried_first->position < position) {
            hr_parked_try(c->untried_first); /* no other owner will read it again */
        }
    }
}

/* After the last unit of a revoked feed: says so and leaves only what belongs to us. */
void hr_feed_finish_revoke(hr_dispatch *d, feed *f) {
    if (!f->is_revoked || f->is_gone) {
        return;
    }
    for (function *fn = d->functions; fn != NULL && !f->is_forgotten; fn = fn->next) {
        for (call_box *call = fn->calls_first; call != NULL; call = call->next) {
            for (uint32_t i = 0; i < call->call.count; i++) {
                if (call->items[i].cursor->feed == f && !call->is_orphan) {
                    return; /* still running */
                }
            }
        }
    }
    for (const cursor *c = f->cursors; c != NULL; c = c->next_of_feed) {
        if (c->running != NULL || (c->is_dirty && hr_cursor_can_flush(c))) {
            return;
        }
    }
    f->is_gone = true;
    hr_dispatch_act(d, HR_DO_REVOKED, 0, f->policy.id);
    for (cursor *c = f->cursors; c != NULL; c = c->next_of_feed) {
        hr_park_resume(c);
    }
}

static void empty(feed *f) {
    for (cursor *c = f->cursors; c != NULL; c = c->next_of_feed) {
        hr_cursor_unqueue(c);
    }
    while (f->ring_count > 0) {
        ring_pop(f);
    }
}

void hr_feed_revoke(hr_dispatch *d, uint32_t id, bool is_forget) {
    feed *f = hr_dispatch_find_feed(d, id);
    if (f == NULL || f->is_gone) {
        return;
    }
    f->is_forgotten = f->is_forgotten || is_forget;
    if (!f->is_revoked) {
        f->is_revoked = true;
        empty(f);
        for (cursor *c = f->cursors; c != NULL; c = c->next_of_feed) {
            hr_park_give_all_back(c);
        }
    }
}

/* The store says that the feed's rows belong to a newer epoch (S5): nothing that is known of it
 * here can be written any more. Whoever holds the epoch reads or retries it. */
void hr_feed_fence(hr_dispatch *d, feed *f) {
    if (f->is_fenced) {
        return;
    }
    f->is_fenced = true;
    f->is_revoked = true; /* which is said, if it was not yet, when the last unit is back */
    hr_calls_orphan(d, f);
    empty(f);
    for (cursor *c = f->cursors; c != NULL; c = c->next_of_feed) {
        hr_parked_forget(c);
        hr_unit_free(c->building);
        c->building = NULL;
        c->is_dirty = false;
    }
}
