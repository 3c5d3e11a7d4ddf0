/* SPDX-License-Identifier: Apache-2.0 */
/* From feeds into lanes: which events a function wants, in which order it gets them (S8, S10). */
#include "broker/dispatch_priv.h"
#include "core/envelope.h"

#include <stdio.h>

#define READ_PAUSE_NS UINT64_C(1000000000)

bool hr_queue_is_full(const hr_dispatch *d, const function *f) {
    return f->queued >= HR_QUEUE_EVENTS || f->queued_bytes >= d->queue_bytes;
}

static uint64_t size_of(const item *it) {
    return it->batch->view[it->index].size;
}

void hr_queue_leave(function *f, const item *it) {
    f->queued--;
    f->queued_bytes -= size_of(it);
}

void hr_lane_push(function *f, uint32_t index, const item *what, bool at_front, uint64_t now_ns) {
    lane *l = &f->lanes[index];
    if (l->count == l->capacity) {
        uint32_t capacity = l->capacity == 0 ? 16 : l->capacity * 2;
        item *ring = hr_alloc_array(capacity, sizeof *ring);
        for (uint32_t i = 0; i < l->count; i++) {
            ring[i] = l->ring[(l->first + i) & (l->capacity - 1)];
        }
        hr_free(l->ring);
        l->ring = ring;
        l->first = 0;
        l->capacity = capacity;
    }
    if (at_front) {
        l->first = (l->first - 1) & (l->capacity - 1);
        l->ring[l->first] = *what;
    } else {
        l->ring[(l->first + l->count) & (l->capacity - 1)] = *what;
    }
    if (l->count == 0) {
        l->since_ns = now_ns;
    }
    l->count++;
    f->queued++;
    f->queued_bytes += size_of(what);
}

static void drop_from_lane(function *f, lane *l, const cursor *c) {
    uint32_t kept = 0;
    for (uint32_t k = 0; k < l->count; k++) {
        item *it = &l->ring[(l->first + k) & (l->capacity - 1)];
        if (it->cursor != c) {
            l->ring[(l->first + kept++) & (l->capacity - 1)] = *it;
        } else {
            hr_queue_leave(f, it);
            if (it->parked != NULL) {
                hr_park_put_back(it);
            }
        }
    }
    l->count = kept;
}

/* Takes all events of the cursor out of the lanes; what of them is parked waits again. */
void hr_cursor_unqueue(cursor *c) {
    function *f = c->function;
    for (uint32_t i = 0; i < f->policy.lanes && f->queued > 0; i++) {
        drop_from_lane(f, &f->lanes[i], c);
    }
    hr_park_cancel_fetch(c);
}

uint32_t hr_lane_of(function *f, uint64_t key_hash) {
    if (f->policy.order == HR_ORDER_FEED) {
        return 0;
    }
    if (f->policy.order == HR_ORDER_NONE || key_hash == 0) {
        f->turn = (f->turn + 1) % f->policy.lanes;
        return f->turn;
    }
    return (uint32_t)((key_hash ^ key_hash >> 32) % f->policy.lanes);
}

/* Was the position settled before the start? Positions come in ascending order. */
bool hr_cursor_was_settled(cursor *c, uint64_t position) {
    if (position < c->low) {
        return true;
    }
    while (c->range_at < c->range_count && c->ranges[c->range_at].to <= position) {
        c->range_at++;
    }
    return c->range_at < c->range_count && c->ranges[c->range_at].from <= position;
}

/* Results go round in a cycle of from: the depth of the chain ends it. */
static bool is_too_deep(const cursor *c, hr_slice envelope, int64_t *out_hops) {
    hr_attribute hops;
    uint32_t max = c->function->policy.max_hops;
    if (max == 0 || !c->feed->policy.has_hops ||
        !hr_envelope_attribute(envelope, HR_ATTRIBUTE_HOPS, &hops)) {
        return false;
    }
    *out_hops = hops.number;
    return *out_hops > (int64_t)max;
}

static void take_event(hr_dispatch *d, cursor *c, span *s, uint32_t index, uint64_t key_hash) {
    function *f = c->function;
    item it = {.cursor = c, .batch = s->batch, .span = s, .index = index, .key_hash = key_hash};
    /* held back by an earlier event of its key? That is asked when it reaches the lane's head */
    hr_attribute replay;
    if (c->feed->policy.has_replays &&
        hr_envelope_attribute(hr_batch_envelope(s->batch, index), HR_ATTRIBUTE_REPLAY, &replay)) {
        it.replay = (uint32_t)replay.number;
    }
    int64_t hops = 0;
    if (is_too_deep(c, hr_batch_envelope(s->batch, index), &hops)) {
        char why[128];
        int size = snprintf(why, sizeof why,
                            "it is result %lld of a chain and max_hops is %u: break the cycle of "
                            "from: or raise it, then replay",
                            (long long)hops, (unsigned)f->policy.max_hops);
        hr_item_dead(d, f, &it, "too many hops", hr_slice_of(why, (size_t)size), 0, false);
        return;
    }
    hr_lane_push(f, hr_lane_of(f, key_hash), &it, false, d->now_ns);
}

static void take_batch(hr_dispatch *d, cursor *c, hr_batch *batch) {
    function *f = c->function;
    uint32_t count = batch->count;
    span *s = hr_alloc(sizeof *s);
    s->batch = hr_batch_ref(batch);
    s->left = count;
    if (c->last == NULL) {
        c->first = s;
    } else {
        c->last->next = s;
    }
    c->last = s;
    c->window += count;
    c->window_bytes += batch->size;
    if (c->is_removed) {
        hr_removed_take(d, c, s);
        c->next = batch->position[count - 1] + 1;
        return;
    }
    uint64_t *bits = d->scratch_bits;
    if (f->policy.matcher == NULL) {
        memset(bits, 0xff, sizeof d->scratch_bits);
    } else {
        f->policy.matcher->match(f->policy.matcher, batch, bits);
    }
    bool own_keys = f->policy.matcher != NULL && f->policy.matcher->keys != NULL;
    if (own_keys) {
        f->policy.matcher->keys(f->policy.matcher, batch, d->scratch_keys);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (hr_cursor_was_settled(c, batch->position[i])) {
            hr_cursor_mark(c, s, i);
            continue;
        }
        if ((bits[i / 64] >> (i % 64) & 1) == 0) {
            hr_cursor_settle(c, s, i);
            c->counters.filtered++;
            if (d->options.note != NULL) {
                hr_dispatch_note(d, HR_NOTE_FILTERED, c, batch, i, batch->position[i], 0,
                                 (hr_slice){0}, 0, 0);
            }
            continue;
        }
        take_event(d, c, s, i, own_keys ? d->scratch_keys[i] : batch->view[i].key_hash);
    }
    c->next = batch->position[count - 1] + 1;
}

/* The events of the batch from position on and below end: what was read from the store may have
 * ended within a batch that memory has too, and no event may come twice. A reference for the
 * caller; NULL: there are none. */
hr_batch *hr_batch_part(hr_batch *batch, uint64_t position, uint64_t end) {
    if (batch->position[0] >= position && batch->position[batch->count - 1] < end) {
        return hr_batch_ref(batch);
    }
    uint32_t keep[HR_BATCH_MAX];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        if (batch->position[i] >= position && batch->position[i] < end) {
            keep[kept++] = i;
        }
    }
    return kept == 0 ? NULL : hr_batch_pick(batch, keep, kept);
}

/* The next batch of the cursor, a reference for the caller; NULL when there is none in memory (a
 * read is then asked for if the store has more). */
static hr_batch *next_batch(hr_dispatch *d, cursor *c) {
    feed *f = c->feed;
    if (c->stash != NULL) {
        hr_batch *batch = c->stash;
        c->stash = NULL;
        return batch;
    }
    if (c->next >= f->visible || c->is_reading) {
        return NULL;
    }
    if (c->next >= f->ring_floor) {
        hr_batch *batch = hr_feed_find(f, c->next);
        return batch == NULL ? NULL : hr_batch_part(batch, c->next, UINT64_MAX);
    }
    if (f->policy.pull) {
        return NULL; /* cannot be below the ring: all functions move together */
    }
    if (c->read_from_ns > d->now_ns) {
        hr_dispatch_wake_at(d, c->read_from_ns);
        return NULL;
    }
    c->is_reading = true;
    hr_action *act = hr_dispatch_act(d, HR_DO_READ, c->function->policy.id, f->policy.id);
    act->read.parked = false;
    act->read.from = c->next;
    act->read.max = HR_BATCH_MAX;
    return NULL;
}

static const char *why_stalled(const hr_dispatch *d, const function *f) {
    if (f->refused > 0) {
        return "the store refuses what it settled; the log says why";
    }
    if (d->options.dead_max > 0 && d->options.dead_count >= d->options.dead_max) {
        return "the dead letters are full (settings.dead.max_count): drop or replay some";
    }
    if (f->policy.parked_max_bytes > 0 && f->parked_bytes >= f->policy.parked_max_bytes) {
        return "too many events wait for a retry (settings.parked.max_bytes)";
    }
    if (f->running == 0 && !hr_function_has_room(f)) {
        return "the functions that take its results are behind (settings.journal.max_bytes)";
    }
    return NULL;
}

/* Pull: the starts of all functions are durable before the first dispatch (S17). If one went ahead,
 * a crash would let the others begin where it stands. */
static bool has_started(feed *f) {
    if (!f->is_started) {
        const cursor *c = f->cursors;
        while (c != NULL && c->done >= c->start) {
            c = c->next_of_feed;
        }
        f->is_started = c == NULL;
    }
    return f->is_started;
}

void hr_function_take(hr_dispatch *d, function *f) {
    f->stalled = why_stalled(d, f);
    if (f->stalled != NULL || d->is_draining) {
        return;
    }
    for (bool any = true; any;) {
        any = false;
        for (cursor *c = f->cursors; c != NULL; c = c->next_of_function) {
            if (!c->is_begun || c->feed->is_revoked || hr_queue_is_full(d, f) ||
                !has_started(c->feed) || (c->is_removed && c->next >= c->end)) {
                continue;
            }
            if (hr_window_is_full(d, c)) {
                if (c->stash == NULL && c->next >= c->feed->visible) {
                    continue;
                }
                hr_window_open(d, c);
            }
            hr_batch *batch = next_batch(d, c);
            if (batch != NULL && c->is_removed) {
                batch = hr_removed_part(c, batch);
            }
            if (batch != NULL) {
                take_batch(d, c, batch);
                hr_batch_unref(batch);
                any = true;
            }
        }
    }
}

/* A position whose bytes are not what was stored: never delivered, never a loop (decision 2). */
static void settle_corrupt(hr_dispatch *d, cursor *c, uint64_t position) {
    unit_box *unit = hr_cursor_unit(c);
    hr_row *row = hr_unit_row(unit);
    row->kind = HR_ROW_DEAD;
    row->function = c->function->policy.id;
    row->feed = c->feed->policy.id;
    row->position = position;
    row->at_ms = d->real_us / 1000;
    row->reason = hr_slice_text("corrupt");
    row->text = hr_slice_text("the checksum of the stored event is wrong; its bytes are not used");
    c->counters.dead++;
    d->options.dead_count++;
    hr_dispatch_note(d, HR_NOTE_DEAD, c, NULL, 0, position, 0, row->text, 0, 0);
}

void hr_cursor_read(hr_dispatch *d, const hr_input *input) {
    function *f = hr_dispatch_find_function(d, input->read.function);
    cursor *c = f == NULL ? NULL : f->cursors;
    while (c != NULL && c->feed->policy.id != input->read.feed) {
        c = c->next_of_function;
    }
    if (c == NULL) {
        hr_batch_unref(input->read.take_batch);
        return;
    }
    if (input->read.parked) {
        hr_park_fetched(d, f, input);
        return;
    }
    c->is_reading = false;
    for (size_t i = 0; i < input->read.corrupt_count; i++) {
        bool is_its = !c->is_removed || input->read.corrupt[i] < c->end;
        if (is_its && !hr_cursor_was_settled(c, input->read.corrupt[i])) {
            settle_corrupt(d, c, input->read.corrupt[i]);
        }
    }
    if (input->read.take_batch != NULL) {
        c->stash = input->read.take_batch;
        return;
    }
    if (input->read.result != HR_OK) {
        c->read_from_ns = d->now_ns + READ_PAUSE_NS;
        return;
    }
    /* nothing readable below: go on after the corrupt ones, or where memory begins */
    uint64_t next = c->feed->ring_floor;
    if (input->read.corrupt_count > 0 && !input->read.at_end) {
        next = input->read.corrupt[input->read.corrupt_count - 1] + 1;
    }
    next = c->is_removed && next > c->end ? c->end : next;
    if (next > c->next) {
        c->next = next;
        c->is_dirty = true;
    }
}
