/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for another try: parked events, held-back keys, due times (S7, S9, S10, S11).
 *
 * A parked event has left the checkpoint behind: its bytes are in the store, its key stands in a
 * chain whose first member holds back the others. Only the first of a chain is tried again. */
#include "broker/dispatch_priv.h"

#include <stdlib.h>

enum { RELEASE_AT_ONCE = 32 }; /* members of a chain put back into their lane together */

uint64_t hr_chain_key(const function *f, uint64_t key_hash) {
    switch (f->policy.order) {
    case HR_ORDER_KEY:
        return key_hash;
    case HR_ORDER_FEED:
        return 1; /* one chain for all */
    case HR_ORDER_NONE:
        break;
    }
    return 0;
}

/* ---- heap of due times ---- */

static bool is_before(const parked *a, const parked *b) {
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->position < b->position;
}

static void heap_put(function *f, size_t index, parked *p) {
    f->heap[index - 1] = p;
    p->heap_index = index;
}

static void heap_up(function *f, size_t index, parked *p) {
    while (index > 1 && is_before(p, f->heap[index / 2 - 1])) {
        heap_put(f, index, f->heap[index / 2 - 1]);
        index /= 2;
    }
    heap_put(f, index, p);
}

static void heap_down(function *f, size_t index, parked *p) {
    for (;;) {
        size_t child = index * 2;
        if (child > f->heap_count) {
            break;
        }
        if (child + 1 <= f->heap_count && is_before(f->heap[child], f->heap[child - 1])) {
            child++;
        }
        if (!is_before(f->heap[child - 1], p)) {
            break;
        }
        heap_put(f, index, f->heap[child - 1]);
        index = child;
    }
    heap_put(f, index, p);
}

static void heap_add(function *f, parked *p) {
    HR_ASSERT(p->heap_index == 0);
    if (f->heap_count == f->heap_capacity) {
        f->heap_capacity = f->heap_capacity == 0 ? 64 : f->heap_capacity * 2;
        f->heap = hr_realloc(f->heap, f->heap_capacity * sizeof(parked *));
    }
    f->heap_count++;
    heap_up(f, f->heap_count, p);
}

static void heap_remove(function *f, parked *p) {
    if (p->heap_index == 0) {
        return;
    }
    size_t hole = p->heap_index;
    parked *last = f->heap[--f->heap_count];
    p->heap_index = 0;
    if (last != p) {
        heap_down(f, hole, last);
        heap_up(f, last->heap_index, last);
    }
}

/* ---- chains ---- */

static void chain_add(function *f, parked *p) {
    uint64_t key = hr_chain_key(f, p->key_hash);
    if (key == 0) {
        return;
    }
    chain *ch = hr_map64_get(&f->chains, key);
    if (ch == NULL) {
        ch = hr_alloc(sizeof *ch);
        ch->first = p;
        hr_map64_set(&f->chains, key, ch);
    } else {
        ch->last->after = p;
    }
    ch->last = p;
}

static void chain_release(function *f, chain *ch) {
    uint32_t count = 0;
    for (parked *p = ch->first; p != NULL && count < RELEASE_AT_ONCE; p = p->after, count++) {
        if (!p->is_out && p->heap_index == 0) {
            p->due_ms = 0;
            heap_add(f, p);
        }
    }
}

static void chain_remove(function *f, parked *p) {
    uint64_t key = hr_chain_key(f, p->key_hash);
    chain *ch = key == 0 ? NULL : hr_map64_get(&f->chains, key);
    if (ch == NULL) {
        return;
    }
    parked *before = NULL;
    parked *at = ch->first;
    while (at != NULL && at != p) {
        before = at;
        at = at->after;
    }
    HR_ASSERT(at == p);
    if (before == NULL) {
        ch->first = p->after;
    } else {
        before->after = p->after;
    }
    if (ch->last == p) {
        ch->last = before;
    }
    p->after = NULL;
    if (ch->first == NULL) {
        hr_map64_remove(&f->chains, key);
        hr_free(ch);
    } else if (before == NULL) {
        chain_release(f, ch);
    }
}

/* Must the event wait for an earlier one of its key? */
bool hr_park_is_held(const function *f, const item *it) {
    uint64_t key = hr_chain_key(f, it->key_hash);
    const chain *ch = key == 0 ? NULL : hr_map64_get(&f->chains, key);
    if (ch == NULL) {
        return false;
    }
    if (it->parked == NULL) {
        return true;
    }
    /* all before it must be in the call that is being filled: being fetched is not enough, they
     * might come into the lane behind it */
    const parked *p = ch->first;
    while (p != it->parked && p->is_called) {
        p = p->after;
    }
    return p != it->parked;
}

/* ---- parking ---- */

static parked *new_parked(function *f, cursor *c, uint64_t position, uint64_t key_hash) {
    parked *p = hr_alloc(sizeof *p);
    p->cursor = c;
    p->position = position;
    p->key_hash = key_hash;
    p->next = c->parked_list;
    p->link = &c->parked_list;
    if (p->next != NULL) {
        p->next->link = &p->next;
    }
    c->parked_list = p;
    f->parked_count++;
    chain_add(f, p);
    return p;
}

static void free_parked(function *f, parked *p) {
    heap_remove(f, p);
    chain_remove(f, p);
    *p->link = p->next;
    if (p->next != NULL) {
        p->next->link = p->link;
    }
    f->parked_count--;
    f->parked_bytes -= p->size;
    p->cursor->unattempted -= p->attempt == 0 && p->state == HR_PARKED_BEHIND ? 1 : 0;
    hr_free(p);
}

/* Puts an event away until due_ms, or behind the first of its key. The row is committed with the
 * checkpoint that passes the event. The caller keeps nothing of it. */
void hr_park(hr_dispatch *d, function *f, item *it, uint32_t state, int64_t due_ms,
             uint32_t attempt, hr_slice why) {
    cursor *c = it->cursor;
    uint64_t position = it->batch->position[it->index];
    hr_slice bytes = hr_batch_envelope(it->batch, it->index);
    parked *p = it->parked;
    unit_box *unit = hr_cursor_unit(c);
    if (p == NULL) {
        p = new_parked(f, c, position, it->key_hash);
        p->size = (uint32_t)bytes.size;
        f->parked_bytes += p->size;
        hr_cursor_settle(c, it->span, it->index);
    } else {
        c->unattempted -= p->attempt == 0 && p->state == HR_PARKED_BEHIND ? 1 : 0;
    }
    p->state = state;
    p->due_ms = due_ms;
    p->attempt = attempt;
    p->first_ms = it->first_ms;
    p->replay = it->replay;
    p->is_out = p->is_called = false;
    p->ready_at = unit->sequence;
    c->unattempted += p->attempt == 0 && p->state == HR_PARKED_BEHIND ? 1 : 0;
    if (state == HR_PARKED_RETRY) {
        heap_add(f, p);
    }
    hr_row *row = hr_unit_row(unit);
    *row = (hr_row){.kind = HR_ROW_PARK,
                    .function = f->policy.id,
                    .feed = c->feed->policy.id,
                    .position = position,
                    .key_hash = it->key_hash,
                    .state = state,
                    .attempt = attempt,
                    .replay = p->replay,
                    .due_ms = due_ms,
                    .first_attempt_ms = it->first_ms,
                    .at_ms = d->real_us / 1000,
                    .bytes = bytes,
                    .event_id = hr_batch_id(it->batch, it->index)};
    hr_unit_hold(unit, it->batch);
    row->text = hr_unit_copy(unit, why);
    if (it->parked != NULL) {
        hr_batch_unref(it->batch);
    }
    hr_dispatch_note(d, state == HR_PARKED_RETRY ? HR_NOTE_RETRY : HR_NOTE_BEHIND, c, it->batch,
                     it->index, position, attempt, why, due_ms, 0);
}

/* The parked event is settled. */
void hr_unpark(hr_dispatch *d, function *f, parked *p) {
    (void)d;
    cursor *c = p->cursor;
    hr_row *row = hr_unit_row(hr_cursor_unit(c));
    row->kind = HR_ROW_UNPARK;
    row->function = f->policy.id;
    row->feed = c->feed->policy.id;
    row->position = p->position;
    free_parked(f, p);
}

void hr_park_load(hr_dispatch *d, function *f, cursor *c, const hr_row *row) {
    (void)d;
    parked *p = new_parked(f, c, row->position, row->key_hash);
    p->size = (uint32_t)row->bytes.size;
    f->parked_bytes += p->size;
    p->state = row->state;
    p->attempt = row->attempt;
    p->replay = row->replay;
    p->due_ms = row->due_ms;
    p->first_ms = row->first_attempt_ms;
    if (p->state == HR_PARKED_RUNNING) { /* it was running when the process ended */
        p->state = HR_PARKED_RETRY;
        p->due_ms = 0;
    }
    c->unattempted += p->attempt == 0 && p->state == HR_PARKED_BEHIND ? 1 : 0;
    uint64_t key = hr_chain_key(f, p->key_hash);
    const chain *ch = key == 0 ? NULL : hr_map64_get(&f->chains, key);
    if (p->state == HR_PARKED_RETRY || ch == NULL || ch->first == p) {
        heap_add(f, p); /* the first of a key always has a due time, or it would wait for ever */
    }
}

/* ---- release ---- */

static void fetch(hr_dispatch *d, function *f, cursor *c) {
    uint64_t *positions = hr_alloc_array(f->fetching_count, sizeof *positions);
    size_t count = 0;
    for (uint32_t i = 0; i < f->fetching_count; i++) {
        positions[count++] = f->fetching[i]->position;
    }
    HR_ASSERT(d->lent_count < sizeof d->lent / sizeof *d->lent);
    d->lent[d->lent_count++] = positions;
    hr_action *act = hr_dispatch_act(d, HR_DO_READ, f->policy.id, c->feed->policy.id);
    act->read.parked = true;
    act->read.positions = positions;
    act->read.position_count = count;
}

/* Asks the store for the bytes of what is due: one read at a time, of one cursor. */
void hr_park_release(hr_dispatch *d, function *f) {
    int64_t now_ms = d->real_us / 1000;
    if (d->is_draining || f->fetching_count > 0 || f->queued >= HR_QUEUE_EVENTS ||
        (d->options.dead_max > 0 && d->options.dead_count >= d->options.dead_max) ||
        d->lent_count == sizeof d->lent / sizeof *d->lent) {
        return;
    }
    cursor *c = NULL;
    while (f->heap_count > 0 && f->fetching_count < sizeof f->fetching / sizeof *f->fetching) {
        parked *p = f->heap[0];
        if (p->cursor->feed->is_revoked) { /* waits in the store until the feed comes back */
            heap_remove(f, p);
            continue;
        }
        if (p->due_ms > now_ms || p->ready_at > p->cursor->done || (c != NULL && p->cursor != c)) {
            break;
        }
        c = p->cursor;
        heap_remove(f, p);
        p->is_out = true;
        f->fetching[f->fetching_count++] = p;
    }
    if (f->fetching_count > 0) {
        fetch(d, f, c);
    } else if (f->heap_count > 0 && f->heap[0]->due_ms > now_ms) {
        hr_dispatch_wake_at(d, d->now_ns + (uint64_t)(f->heap[0]->due_ms - now_ms) * 1000000u);
    }
}

static void lose(hr_dispatch *d, function *f, parked *p) {
    hr_row *row = hr_unit_row(hr_cursor_unit(p->cursor));
    row->kind = HR_ROW_DEAD;
    row->function = f->policy.id;
    row->feed = p->cursor->feed->policy.id;
    row->position = p->position;
    row->attempt = p->attempt;
    row->at_ms = d->real_us / 1000;
    row->reason = hr_slice_text("corrupt");
    row->text = hr_slice_text("the checksum of the parked event is wrong; its bytes are not used");
    p->cursor->counters.dead++;
    d->options.dead_count++;
    hr_unpark(d, f, p);
}

void hr_park_fetched(hr_dispatch *d, function *f, cursor *c, const hr_input *input) {
    hr_batch *batch = input->read.take_batch;
    uint32_t count = f->fetching_count;
    f->fetching_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        parked *p = f->fetching[i];
        uint32_t at = 0;
        while (batch != NULL && at < batch->count && batch->position[at] != p->position) {
            at++;
        }
        if (c->feed->is_revoked) {
            p->is_out = false;
        } else if (input->read.result != HR_OK) {
            p->is_out = false;
            p->due_ms = d->real_us / 1000 + 1000;
            heap_add(f, p);
        } else if (batch == NULL || at == batch->count) {
            lose(d, f, p);
        } else {
            item it = {.cursor = c,
                       .batch = hr_batch_ref(batch),
                       .parked = p,
                       .key_hash = p->key_hash,
                       .first_ms = p->first_ms,
                       .index = at,
                       .attempt = (uint16_t)p->attempt,
                       .replay = p->replay};
            hr_lane_push(f, hr_lane_of(f, p->key_hash), &it, false, d->now_ns);
        }
    }
    hr_batch_unref(batch);
}

static int by_position(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* Gives back to the next owner what was parked without an attempt (S17): the checkpoint steps back
 * to the first of them, with all the others in its settled set. */
void hr_park_drop_unattempted(hr_dispatch *d, cursor *c) {
    if (c->unattempted == 0) {
        return;
    }
    hr_free(c->dropped);
    c->dropped = hr_alloc_array(c->unattempted, sizeof *c->dropped);
    for (parked *p = c->parked_list, *next = NULL; p != NULL; p = next) {
        next = p->next;
        /* what runs has its attempt, what is being fetched is still pointed at */
        if (p->attempt == 0 && p->state == HR_PARKED_BEHIND && !p->is_out) {
            c->dropped[c->dropped_count++] = p->position;
            c->counters.deliveries--;
            hr_unpark(d, c->function, p);
        }
    }
    qsort(c->dropped, c->dropped_count, sizeof *c->dropped, by_position);
}

/* Forgets, in memory only, all that is parked of a cursor whose feed comes back: the store tells it
 * again. Nothing of it runs or is queued any more but what hr_call_answered() knows as orphaned. */
void hr_park_forget(cursor *c) {
    function *f = c->function;
    for (uint32_t i = 0; i < f->fetching_count; i++) {
        HR_ASSERT(f->fetching[i] != NULL);
        if (f->fetching[i]->cursor == c) {
            f->fetching[i--] = f->fetching[--f->fetching_count];
        }
    }
    while (c->parked_list != NULL) {
        free_parked(f, c->parked_list);
    }
    c->unattempted = 0;
}
