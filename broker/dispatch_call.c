/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: which events of a lane go together, and when (S9, S11). */
#include "broker/dispatch_priv.h"

enum { LOOK_CALLS = 4 }; /* how far into a lane a call looks, in calls */

static item *lane_item(const lane *l, uint32_t index) {
    return &l->ring[(l->first + index) & (l->capacity - 1)];
}

void hr_item_settle(function *f, item *it) {
    if (it->parked != NULL) {
        hr_unpark(f, it->parked);
        hr_batch_unref(it->batch);
    } else {
        hr_cursor_settle(it->cursor, it->span, it->index);
    }
}

void hr_item_dead(hr_dispatch *d, function *f, item *it, const char *reason, hr_slice why,
                  uint32_t attempt, bool is_expired) {
    cursor *c = it->cursor;
    unit_box *unit = hr_cursor_unit(c);
    hr_row *row = hr_unit_row(unit);
    *row = (hr_row){.kind = HR_ROW_DEAD,
                    .function = f->policy.id,
                    .feed = c->feed->policy.id,
                    .position = it->batch->position[it->index],
                    .key_hash = it->key_hash,
                    .attempt = attempt,
                    .replay = it->replay,
                    .first_attempt_ms = hr_dispatch_real_ms(d, it->first_ms),
                    .at_ms = d->real_us / 1000,
                    .bytes = hr_batch_envelope(it->batch, it->index),
                    .reason = hr_slice_text(reason),
                    .event_id = hr_batch_id(it->batch, it->index)};
    hr_unit_hold(unit, it->batch);
    row->text = hr_unit_copy(unit, why);
    d->options.dead_count++;
    if (is_expired) {
        c->counters.expired++;
    } else {
        c->counters.dead++;
    }
    hr_dispatch_note(d, is_expired ? HR_NOTE_EXPIRED : HR_NOTE_DEAD, c, it->batch, it->index,
                     it->batch->position[it->index], attempt, row->text, 0, 0);
    hr_item_settle(f, it);
}

static bool is_expired(const hr_dispatch *d, const function *f, const item *it) {
    int64_t age = d->clock_ms - it->first_ms;
    return it->first_ms != 0 && f->policy.retry.max_age_ms >= 0 && age > f->policy.retry.max_age_ms;
}

static call_box *new_call(hr_dispatch *d, function *f) {
    call_box *box = f->free_calls;
    if (box != NULL) {
        f->free_calls = box->next;
    } else {
        box = hr_alloc(sizeof *box);
        box->items = hr_alloc_array(f->policy.batch_size, sizeof *box->items);
        box->refs = hr_alloc_array(f->policy.batch_size, sizeof *box->refs);
        box->function = f;
    }
    box->call = (hr_call){.id = ++d->call_id,
                          .function = f->policy.id,
                          .version = f->policy.version,
                          .events = box->refs};
    box->is_cancelled = box->is_orphan = false;
    box->next = box->prev = NULL;
    return box;
}

/* Takes from the front of the lane up to a call's worth of one feed, into box->items; what is of
 * other feeds between them stays, in its order. So a lane that many partitions share is not called
 * event by event. Events that are called alone are taken alone. */
static uint32_t take_from_lane(function *f, lane *l, call_box *box) {
    uint32_t most = f->policy.batch_size, look = LOOK_CALLS * most, taken = 0, kept = 0, at = 0;
    look = look < l->count ? look : l->count;
    for (; at < look && taken < most && (taken == 0 || !box->items[0].alone); at++) {
        const item *it = lane_item(l, at);
        if (taken == 0 || (it->cursor == box->items[0].cursor && !it->alone)) {
            box->items[taken++] = *it;
        } else if (it->cursor != box->items[0].cursor) {
            *lane_item(l, kept++) = *it;
        } else {
            break;
        }
    }
    for (uint32_t i = kept; i > 0; i--) {
        *lane_item(l, at - kept + i - 1) = *lane_item(l, i - 1);
    }
    l->first = (l->first + taken) & (l->capacity - 1);
    l->count -= taken;
    for (uint32_t i = 0; i < taken; i++) {
        hr_queue_leave(f, &box->items[i]);
    }
    return taken;
}

/* May the event be called? Else it was parked or given up. */
static bool admit(hr_dispatch *d, function *f, item *it) {
    if (hr_park_is_held(f, it)) {
        if (it->parked != NULL) {
            hr_park_put_back(it);
        } else {
            hr_park(d, f, it, HR_PARKED_BEHIND, 0, it->attempt, (hr_slice){0});
        }
        return false;
    }
    if (is_expired(d, f, it)) {
        hr_item_dead(d, f, it, "expired", hr_slice_text("older than retry.max_age"), it->attempt,
                     true);
        return false;
    }
    if (it->first_ms == 0 || it->first_ms > d->clock_ms) { /* later: of a clock that was wrong */
        it->first_ms = d->clock_ms;
    }
    if (it->parked != NULL) {
        it->parked->is_called = true;
    }
    return true;
}

/* Moves from the lane into the call what may be called now. */
static void fill(hr_dispatch *d, function *f, lane *l, call_box *box) {
    while (l->count > 0 && box->call.count == 0) {
        uint32_t taken = take_from_lane(f, l, box);
        for (uint32_t i = 0; i < taken; i++) {
            item it = box->items[i];
            if (!admit(d, f, &it)) {
                continue;
            }
            uint32_t at = box->call.count++;
            box->items[at] = it;
            box->refs[at] = (hr_event_ref){.batch = it.batch,
                                           .index = (uint16_t)it.index,
                                           .attempt = (uint16_t)(it.attempt + 1),
                                           .replay = it.replay,
                                           .key_hash = hr_chain_key(f, it.key_hash)};
        }
    }
}

uint64_t hr_call_note(hr_dispatch *d, const call_box *box, hr_note_kind kind) {
    bool is_over = kind != HR_NOTE_CALLED;
    hr_note note = {.kind = kind,
                    .function = box->function->policy.id,
                    .attempts_max = box->function->policy.retry.attempts,
                    .events = box->refs,
                    .count = box->call.count,
                    .real_us = d->real_us,
                    .took_ns = is_over ? d->now_ns - box->started_ns : 0,
                    .call = is_over ? box->noted : 0};
    return d->options.note == NULL ? 0 : d->options.note(d->options.note_data, &note);
}

static void start_call(hr_dispatch *d, function *f, lane *l, call_box *box) {
    box->call.lane = (uint32_t)(l - f->lanes);
    box->call.slot = NULL;
    box->started_ns = d->now_ns;
    box->call.deadline_ns = d->now_ns + (uint64_t)f->policy.timeout_ms * 1000000u;
    l->running = box;
    f->running++;
    box->prev = f->calls_last;
    if (f->calls_last == NULL) {
        f->calls_first = box;
    } else {
        f->calls_last->next = box;
    }
    f->calls_last = box;
    hr_map64_set(&d->calls, box->call.id, box);
    box->noted = hr_call_note(d, box, HR_NOTE_CALLED);
    hr_dispatch_act(d, HR_DO_CALL, f->policy.id, box->items[0].cursor->feed->policy.id)->call =
        &box->call;
}

/* S2: not called while nobody takes what it would give, nor more often at once than its results
 * have room, by the largest so far. What is larger than all room is called alone. */
bool hr_function_has_room(const function *f) {
    const feed *r = f->results;
    if (r == NULL) {
        return true;
    }
    if (hr_feed_has_unborn(r)) {
        return false;
    }
    uint64_t held = r->unsettled + r->coming;
    uint64_t reserve = (f->running + 1u) * f->result_peak;
    return held + reserve <= r->policy.max_bytes || (held == 0 && f->running == 0);
}

/* When the lane is to be called: batch.window is for fresh events; what is called alone or comes
 * again has no company to wait for. */
static uint64_t lane_due_ns(const function *f, const lane *l) {
    const item *head = lane_item(l, 0);
    bool waits = l->count < f->policy.batch_size && !head->alone && head->attempt == 0;
    return waits ? l->since_ns + (uint64_t)f->policy.batch_window_ms * 1000000u : 0;
}

void hr_function_call(hr_dispatch *d, function *f) {
    if (d->is_draining || f->queued == 0) {
        return;
    }
    if (f->paused_until_ns > d->now_ns) {
        hr_dispatch_wake_at(d, f->paused_until_ns);
        return;
    }
    uint32_t first = f->turn;
    for (uint32_t i = 0; i < f->policy.lanes && f->running < f->slots; i++) {
        lane *l = &f->lanes[(first + i) % f->policy.lanes];
        if (l->count == 0 || l->running != NULL) {
            continue;
        }
        uint64_t due_ns = lane_due_ns(f, l);
        if (due_ns > d->now_ns) {
            hr_dispatch_wake_at(d, due_ns);
            continue;
        }
        if (!hr_function_has_room(f)) {
            return;
        }
        if (f->streak >= HR_STREAK_PAUSES && f->running > 0) {
            return; /* half open: one call tries whether the function is well again */
        }
        call_box *box = new_call(d, f);
        fill(d, f, l, box);
        l->since_ns = d->now_ns;
        f->turn = ((uint32_t)(l - f->lanes) + 1) % f->policy.lanes; /* none starves */
        if (box->call.count > 0) {
            start_call(d, f, l, box);
        } else {
            box->next = f->free_calls;
            f->free_calls = box;
        }
    }
}

void hr_calls_expire(hr_dispatch *d, function *f) {
    for (call_box *box = f->calls_first; box != NULL; box = box->next) {
        if (box->is_cancelled) {
            continue;
        }
        if (box->call.deadline_ns > d->now_ns) { /* oldest first: the others come later */
            hr_dispatch_wake_at(d, box->call.deadline_ns);
            return;
        }
        box->is_cancelled = true;
        hr_dispatch_act(d, HR_DO_CANCEL, f->policy.id, 0)->call = &box->call;
    }
}

void hr_calls_unlist(hr_dispatch *d, call_box *box) {
    function *f = box->function;
    if (box->prev == NULL) {
        f->calls_first = box->next;
    } else {
        box->prev->next = box->next;
    }
    if (box->next == NULL) {
        f->calls_last = box->prev;
    } else {
        box->next->prev = box->prev;
    }
    f->running--;
    f->lanes[box->call.lane].running = NULL;
    hr_map64_remove(&d->calls, box->call.id);
}

/* Running calls of a feed that comes back, or was fenced: what they hold is forgotten or read
 * again, their answers will mean nothing. The runtimes keep the bytes until then. */
void hr_calls_orphan(hr_dispatch *d, const feed *f) {
    for (function *fn = d->functions; fn != NULL; fn = fn->next) {
        for (call_box *box = fn->calls_first; box != NULL; box = box->next) {
            if (box->is_orphan || box->items[0].cursor->feed != f) {
                continue;
            }
            box->is_orphan = true;
            for (uint32_t i = 0; i < box->call.count; i++) {
                item *it = &box->items[i];
                if (it->parked == NULL) {
                    hr_batch_ref(it->batch);
                }
                it->parked = NULL;
                it->span = NULL;
            }
        }
    }
}
