/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for another try: parked events and how they come back (S7, S9, S10, S11, S17).
 *
 * A parked event has left the checkpoint behind: its bytes are in the store, its key stands in a
 * chain whose first member holds back the others. Only the first of a chain is tried again. */
#include "broker/dispatch_priv.h"

static hr_row *put_row(hr_dispatch *d, function *f, const item *it, const parked *p) {
    cursor *c = it->cursor;
    unit_box *unit = hr_cursor_unit(c);
    hr_row *row = hr_unit_row(unit);
    *row = (hr_row){.kind = HR_ROW_PARK,
                    .function = f->policy.id,
                    .feed = c->feed->policy.id,
                    .position = p->position,
                    .key_hash = it->key_hash,
                    .state = p->state,
                    .attempt = p->attempt,
                    .replay = p->replay,
                    .due_ms = hr_dispatch_real_ms(d, p->due_ms),
                    .first_attempt_ms = hr_dispatch_real_ms(d, p->first_ms),
                    .at_ms = d->real_us / 1000,
                    .bytes = hr_batch_envelope(it->batch, it->index),
                    .event_id = hr_batch_id(it->batch, it->index)};
    hr_unit_hold(unit, it->batch);
    return row;
}

/* Its entry in memory: made for a fresh event, which is settled for the checkpoint with it. */
static parked *enter(function *f, item *it, uint32_t state, uint32_t attempt) {
    parked *p = it->parked;
    if (p == NULL) {
        p = hr_parked_new(f, it->cursor, it->batch->position[it->index], it->key_hash,
                          (uint32_t)hr_batch_envelope(it->batch, it->index).size,
                          state == HR_PARKED_BEHIND && attempt == 0);
        hr_cursor_settle(it->cursor, it->span, it->index);
    } else {
        hr_parked_try(p);
    }
    p->state = state;
    p->attempt = attempt;
    p->first_ms = it->first_ms;
    p->replay = it->replay;
    p->ready_at = hr_cursor_unit(it->cursor)->sequence;
    return p;
}

/* Puts an event away until due_ms, or behind the first of its key. The row is committed with the
 * checkpoint that passes the event. The caller keeps nothing of it. */
void hr_park(hr_dispatch *d, function *f, item *it, uint32_t state, int64_t due_ms,
             uint32_t attempt, hr_slice why) {
    HR_ASSERT(state == HR_PARKED_RETRY || it->parked == NULL);
    parked *p = enter(f, it, state, attempt);
    p->is_out = p->is_called = false;
    if (state == HR_PARKED_RETRY) {
        hr_wait_until(f, p, due_ms);
    }
    hr_row *row = put_row(d, f, it, p);
    row->text = hr_unit_copy(hr_cursor_unit(it->cursor), why);
    hr_dispatch_note(d, state == HR_PARKED_RETRY ? HR_NOTE_RETRY : HR_NOTE_BEHIND, it->cursor,
                     it->batch, it->index, p->position, attempt, why,
                     hr_dispatch_real_ms(d, due_ms), 0);
    if (it->parked != NULL) {
        hr_batch_unref(it->batch);
    }
}

/* A fresh event that is queued or runs leaves its span: parked for the checkpoint, it stays where
 * it is in its lane or call (S7). */
void hr_park_detach(hr_dispatch *d, function *f, item *it, bool is_running) {
    HR_ASSERT(it->parked == NULL);
    parked *p = enter(f, it, is_running ? HR_PARKED_RUNNING : HR_PARKED_BEHIND, it->attempt);
    if (is_running) {
        hr_parked_try(p);
    }
    p->is_out = true;
    p->is_called = is_running;
    put_row(d, f, it, p);
    hr_batch_ref(it->batch);
    it->parked = p;
    it->span = NULL;
}

/* The parked event is settled, or given back to another owner. */
void hr_unpark(function *f, parked *p) {
    cursor *c = p->cursor;
    hr_row *row = hr_unit_row(hr_cursor_unit(c));
    row->kind = HR_ROW_UNPARK;
    row->function = f->policy.id;
    row->feed = c->feed->policy.id;
    row->position = p->position;
    hr_parked_free(f, p);
}

void hr_park_load(const hr_dispatch *d, function *f, cursor *c, const hr_row *row) {
    /* after a crash while the feed is away nobody may have it but us: twice rather than never */
    bool is_untried = row->state == HR_PARKED_BEHIND && row->attempt == 0 && !c->feed->is_gone;
    parked *p =
        hr_parked_new(f, c, row->position, row->key_hash, (uint32_t)row->bytes.size, is_untried);
    p->state = row->state;
    p->attempt = row->attempt < HR_ATTEMPTS_MAX ? row->attempt : HR_ATTEMPTS_MAX;
    p->replay = row->replay;
    p->first_ms = row->first_attempt_ms == 0 ? 0 : row->first_attempt_ms - d->skew_ms;
    /* what ran when the process ended is tried at once; the first of a key always has a due time,
     * or it would wait for ever */
    if (p->state != HR_PARKED_BEHIND || hr_wait_is_first(f, p)) {
        hr_wait_until(f, p, p->state == HR_PARKED_RETRY ? row->due_ms - d->skew_ms : 0);
    }
}

/* ---- release ---- */

static void fetch(hr_dispatch *d, function *f) {
    const cursor *c = f->fetching[0]->cursor;
    HR_ASSERT(c != NULL); /* it is that of the first to be fetched */
    uint64_t *positions = hr_alloc_array(f->fetching_count, sizeof *positions);
    size_t count = 0;
    for (uint32_t i = 0; i < f->fetching_count; i++) {
        positions[count++] = f->fetching[i]->position;
    }
    HR_ASSERT(d->lent_count < sizeof d->lent / sizeof *d->lent);
    d->lent[d->lent_count++] = positions;
    hr_action *act = hr_dispatch_act(d, HR_DO_READ, f->policy.id, c->feed->policy.id);
    act->read.parked = true;
    act->read.from = ++f->fetch; /* comes back with the answer */
    act->read.positions = positions;
    act->read.position_count = count;
}

/* A due time further away than any wait is of a clock that was set back between two runs (S11). */
static bool is_due(const hr_dispatch *d, const function *f, const parked *p) {
    int64_t wait = p->due_ms - d->clock_ms;
    int64_t most =
        f->policy.retry.max_ms > HR_WAIT_MAX_MS ? f->policy.retry.max_ms : HR_WAIT_MAX_MS;
    return wait <= 0 || wait > most;
}

/* Asks the store for the bytes of what is due: one read at a time, of one cursor. */
void hr_park_release(hr_dispatch *d, function *f) {
    if (d->is_draining || f->fetching_count > 0 || hr_queue_is_full(d, f) ||
        (d->options.dead_max > 0 && d->options.dead_count >= d->options.dead_max) ||
        d->lent_count == sizeof d->lent / sizeof *d->lent) {
        return;
    }
    cursor *c = NULL;
    while (f->heap_count > 0 && f->fetching_count < sizeof f->fetching / sizeof *f->fetching) {
        parked *p = f->heap[0];
        const feed *from = p->cursor->feed;
        if (from->is_revoked && !from->is_gone) {
            hr_wait_no_more(f, p); /* hr_park_resume() finds it again */
            continue;
        }
        if (!is_due(d, f, p) || p->ready_at > p->cursor->done || (c != NULL && p->cursor != c)) {
            break;
        }
        c = p->cursor;
        hr_wait_no_more(f, p);
        p->is_out = true;
        f->fetching[f->fetching_count++] = p;
    }
    if (f->fetching_count > 0) {
        fetch(d, f);
    } else if (f->heap_count > 0 && !is_due(d, f, f->heap[0])) {
        hr_dispatch_wake_at(d, d->now_ns + (uint64_t)(f->heap[0]->due_ms - d->clock_ms) * 1000000u);
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
    hr_unpark(f, p);
}

/* The batch was full before it came to this one. */
static bool is_unread(const hr_input *input, uint64_t position) {
    for (size_t i = 0; i < input->read.corrupt_count; i++) {
        if (input->read.corrupt[i] == position) {
            return false;
        }
    }
    return !input->read.at_end;
}

void hr_park_fetched(hr_dispatch *d, function *f, const hr_input *input) {
    hr_batch *batch = input->read.take_batch;
    if (input->read.from != f->fetch || f->fetching_count == 0) {
        hr_batch_unref(batch); /* stale: its feed was taken away meanwhile */
        return;
    }
    uint32_t count = f->fetching_count;
    f->fetching_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        parked *p = f->fetching[i];
        uint32_t at = 0;
        while (batch != NULL && at < batch->count && batch->position[at] != p->position) {
            at++;
        }
        if (input->read.result != HR_OK) {
            p->is_out = false;
            hr_wait_until(f, p, d->clock_ms + 1000);
        } else if (batch == NULL || at == batch->count) {
            if (is_unread(input, p->position)) {
                p->is_out = false;
                hr_wait_until(f, p, d->clock_ms);
                continue;
            }
            lose(d, f, p);
        } else {
            item it = {.cursor = p->cursor,
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

/* Puts a parked event that is not to be called now back to the others. */
void hr_park_put_back(item *it) {
    it->parked->is_out = it->parked->is_called = false;
    hr_batch_unref(it->batch);
}

/* ---- feeds that are taken away ---- */

/* What is being fetched of the cursor is not; an answer that comes is stale. */
void hr_park_cancel_fetch(cursor *c) {
    function *f = c->function;
    if (f->fetching_count == 0 || f->fetching[0]->cursor != c) {
        return;
    }
    for (uint32_t i = 0; i < f->fetching_count; i++) {
        f->fetching[i]->is_out = false;
    }
    f->fetching_count = 0;
}

/* Gives back to the next owner what was parked without an attempt (S17): the checkpoint steps back
 * to it, with all that is settled above in its set. What was attempted stays: hr_park_resume(). */
void hr_park_give_back(parked *p) {
    cursor *c = p->cursor;
    if (!p->is_untried || p->is_out) {
        return;
    }
    if (c->dropped_count == c->dropped_capacity) {
        c->dropped_capacity = c->dropped_capacity == 0 ? 64 : c->dropped_capacity * 2;
        c->dropped = hr_realloc(c->dropped, c->dropped_capacity * sizeof *c->dropped);
    }
    size_t at = c->dropped_count++;
    while (at > 0 && c->dropped[at - 1] > p->position) { /* nearly always it is the last */
        c->dropped[at] = c->dropped[at - 1];
        at--;
    }
    c->dropped[at] = p->position;
    c->counters.deliveries--;
    hr_unpark(c->function, p);
}

void hr_park_give_all_back(cursor *c) {
    for (parked *p = c->untried_first, *next = NULL; p != NULL; p = next) {
        next = p->next;
        hr_park_give_back(p); /* but what runs */
    }
}

/* The feed is away: what was attempted of it counts as passed there, so it is tried on here. */
void hr_park_resume(cursor *c) {
    function *f = c->function;
    for (parked *p = c->tried; p != NULL; p = p->next) {
        if (!p->is_out && p->heap_index == 0 && hr_wait_is_first(f, p)) {
            hr_wait_until(f, p, p->due_ms);
        }
    }
}
