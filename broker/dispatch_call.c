/* SPDX-License-Identifier: Apache-2.0 */
/* Calls and answers: which events of a lane go together, and what each answer means (S9, S11, S13).
 */
#include "broker/dispatch_priv.h"

enum { STREAK_PAUSES = 20 }; /* failed calls in a row at which the circuit breaker opens */
#define PAUSE_MIN_NS UINT64_C(1000000000)
#define PAUSE_MAX_NS UINT64_C(60000000000)

static item *lane_head(lane *l) {
    return &l->ring[l->first];
}

static void lane_pop(function *f, lane *l) {
    l->first = (l->first + 1) & (l->capacity - 1);
    l->count--;
    f->queued--;
}

/* Puts a parked event that is not to be called now back to the others. */
static void put_back(item *it) {
    it->parked->is_out = it->parked->is_called = false;
    hr_batch_unref(it->batch);
}

static void settle(hr_dispatch *d, function *f, item *it) {
    if (it->parked != NULL) {
        hr_unpark(d, f, it->parked);
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
                    .first_attempt_ms = it->first_ms,
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
    settle(d, f, it);
}

static bool is_expired(const hr_dispatch *d, const function *f, const item *it) {
    int64_t age = d->real_us / 1000 - it->first_ms; /* a clock set back makes it younger, no harm */
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
    box->is_cancelled = false;
    box->next = box->prev = NULL;
    return box;
}

/* Moves from the lane into the call what may be called now. */
static void fill(hr_dispatch *d, function *f, lane *l, call_box *box) {
    while (l->count > 0 && box->call.count < f->policy.batch_size) {
        item it = *lane_head(l);
        if (box->call.count > 0 &&
            (it.alone || box->items[0].alone || it.cursor != box->items[0].cursor)) {
            return;
        }
        lane_pop(f, l);
        if (hr_park_is_held(f, &it)) {
            if (it.parked != NULL) {
                put_back(&it);
            } else {
                hr_park(d, f, &it, HR_PARKED_BEHIND, 0, it.attempt, (hr_slice){0});
            }
            continue;
        }
        if (is_expired(d, f, &it)) {
            hr_item_dead(d, f, &it, "expired", hr_slice_text("older than retry.max_age"),
                         it.attempt, true);
            continue;
        }
        if (it.first_ms == 0) {
            it.first_ms = d->real_us / 1000;
        }
        if (it.parked != NULL) {
            it.parked->is_called = true;
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
    if (d->options.note != NULL) {
        for (uint32_t i = 0; i < box->call.count; i++) {
            item *it = &box->items[i];
            hr_dispatch_note(d, HR_NOTE_CALLED, it->cursor, it->batch, it->index,
                             it->batch->position[it->index], it->attempt + 1u, (hr_slice){0}, 0, 0);
        }
    }
    hr_dispatch_act(d, HR_DO_CALL, f->policy.id, box->items[0].cursor->feed->policy.id)->call =
        &box->call;
}

void hr_function_call(hr_dispatch *d, function *f) {
    const feed *results =
        f->policy.result_feed == 0 ? NULL : hr_dispatch_find_feed(d, f->policy.result_feed);
    if (results != NULL && results->unsettled >= results->policy.max_bytes) {
        return; /* S2: not called while nobody takes what it would give */
    }
    if (d->is_draining || f->queued == 0) {
        return;
    }
    if (f->paused_until_ns > d->now_ns) {
        hr_dispatch_wake_at(d, f->paused_until_ns);
        return;
    }
    for (uint32_t i = 0; i < f->policy.lanes && f->running < f->slots; i++) {
        lane *l = &f->lanes[(f->turn + i) % f->policy.lanes];
        if (l->count == 0 || l->running != NULL) {
            continue;
        }
        uint64_t full_ns = l->since_ns + (uint64_t)f->policy.batch_window_ms * 1000000u;
        if (l->count < f->policy.batch_size && full_ns > d->now_ns) {
            hr_dispatch_wake_at(d, full_ns);
            continue;
        }
        if (f->streak >= STREAK_PAUSES && f->running > 0) {
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

/* ---- answers ---- */

static void retry(hr_dispatch *d, function *f, item *it, int64_t after_ms, hr_slice why) {
    uint32_t attempt = it->attempt + (after_ms < 0 ? 1u : 0u);
    it->cursor->counters.attempts++;
    if (f->policy.retry.attempts > 0 && attempt >= f->policy.retry.attempts) {
        hr_item_dead(d, f, it, "attempts exhausted", why, attempt, false);
        return;
    }
    int64_t wait =
        hr_retry_wait_ms(&f->policy.retry, attempt == 0 ? 1 : attempt, hr_dispatch_chance(d));
    if (after_ms > wait) {
        wait = after_ms;
    }
    hr_park(d, f, it, HR_PARKED_RETRY, d->real_us / 1000 + wait, attempt, why);
}

static void deliver(hr_dispatch *d, function *f, const call_box *box, item *it) {
    it->cursor->counters.attempts++;
    it->cursor->counters.delivered++;
    if (d->options.note != NULL) {
        hr_dispatch_note(d, HR_NOTE_DELIVERED, it->cursor, it->batch, it->index,
                         it->batch->position[it->index], it->attempt + 1u, (hr_slice){0}, 0,
                         d->now_ns - box->started_ns);
    }
    settle(d, f, it);
}

/* Appends the results of events that were delivered to the function's feed, in the unit that
 * settles their causes. */
static void keep_results(function *f, cursor *c, const hr_answer *answer, const uint64_t *ok) {
    hr_batch *results = answer->take_results;
    if (results == NULL) {
        return;
    }
    uint32_t keep[HR_BATCH_MAX];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < results->count; i++) {
        uint16_t cause = answer->causes[i];
        if (cause < HR_BATCH_MAX && (ok[cause / 64] >> (cause % 64) & 1) != 0) {
            keep[kept++] = i;
        }
    }
    c->counters.results += kept;
    if (f->policy.result_feed != 0 && kept > 0) {
        hr_batch *batch =
            kept == results->count ? hr_batch_ref(results) : hr_batch_pick(results, keep, kept);
        batch->feed = f->policy.result_feed;
        hr_unit_append(hr_cursor_unit(c), batch);
    }
    hr_batch_unref(results);
}

static bool has_failed(const uint64_t *failed, uint32_t count, uint64_t key) {
    for (uint32_t i = 0; key != 0 && i < count; i++) {
        if (failed[i] == key) {
            return true;
        }
    }
    return false;
}

/* An exception is a row (decision 19): one that is ended from the start, without the bytes. */
static void keep_drop(hr_dispatch *d, function *f, const item *it, hr_slice why) {
    unit_box *unit = hr_cursor_unit(it->cursor);
    hr_row *row = hr_unit_row(unit);
    *row = (hr_row){.kind = HR_ROW_DEAD,
                    .function = f->policy.id,
                    .feed = it->cursor->feed->policy.id,
                    .position = it->batch->position[it->index],
                    .state = HR_DEAD_DROPPED,
                    .attempt = it->attempt + 1u,
                    .replay = it->replay,
                    .at_ms = d->real_us / 1000,
                    .reason = hr_slice_text("dropped by the function")};
    row->event_id = hr_batch_id(it->batch, it->index);
    hr_unit_hold(unit, it->batch);
    row->text = hr_unit_copy(unit, why);
}

/* Each event of a call that was answered event by event. Returns how many are to be called again
 * (their indexes in again). */
static uint32_t apply(hr_dispatch *d, function *f, call_box *box, const hr_answer *answer,
                      uint16_t *again, uint64_t *ok, bool *out_any_ok) {
    uint64_t failed[HR_BATCH_MAX];
    uint32_t failed_count = 0, again_count = 0;
    size_t at = 0;
    for (uint32_t i = 0; i < box->call.count; i++) {
        item *it = &box->items[i];
        const hr_exception *exception = NULL;
        if (at < answer->exception_count && answer->exceptions[at].index == i) {
            exception = &answer->exceptions[at++];
        }
        uint64_t key = hr_chain_key(f, it->key_hash);
        if (has_failed(failed, failed_count, key) ||
            (exception != NULL && exception->outcome == HR_OUTCOME_NOT_RUN)) {
            again[again_count++] = (uint16_t)i; /* S9: whatever it says, it comes again */
            failed[failed_count++] = key;       /* and so do those behind it */
            continue;
        }
        if (exception == NULL) {
            ok[i / 64] |= (uint64_t)1 << (i % 64);
            *out_any_ok = true;
            deliver(d, f, box, it);
        } else if (exception->outcome == HR_OUTCOME_DROP) {
            it->cursor->counters.attempts++;
            it->cursor->counters.dropped++;
            *out_any_ok = true;
            hr_dispatch_note(d, HR_NOTE_DROPPED, it->cursor, it->batch, it->index,
                             it->batch->position[it->index], it->attempt + 1u, exception->why, 0,
                             d->now_ns - box->started_ns);
            keep_drop(d, f, it, exception->why);
            settle(d, f, it);
        } else if (exception->outcome == HR_OUTCOME_DEAD) {
            it->cursor->counters.attempts++;
            hr_item_dead(d, f, it, "refused by the function", exception->why, it->attempt + 1u,
                         false);
        } else {
            failed[failed_count++] = key;
            retry(d, f, it, exception->after_ms, exception->why);
        }
    }
    return again_count;
}

static void pause(hr_dispatch *d, function *f) {
    f->pause_ns = f->pause_ns == 0 ? PAUSE_MIN_NS : f->pause_ns * 2;
    if (f->pause_ns > PAUSE_MAX_NS) {
        f->pause_ns = PAUSE_MAX_NS;
    }
    f->paused_until_ns = d->now_ns + f->pause_ns;
}

static void unlist(hr_dispatch *d, function *f, call_box *box) {
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

/* Was the feed taken away while the call ran? Then the next owner settles it. */
static bool is_orphan(const call_box *box) {
    return box->items[0].cursor->feed->is_gone;
}

static void orphan(call_box *box, const hr_answer *answer) {
    for (uint32_t i = 0; i < box->call.count; i++) {
        if (box->items[i].parked != NULL) { /* itself may be forgotten (hr_park_forget) */
            hr_batch_unref(box->items[i].batch);
        }
    }
    if (answer->failure == HR_OK) {
        hr_batch_unref(answer->take_results);
    }
}

void hr_call_answered(hr_dispatch *d, const hr_answer *answer) {
    call_box *box = hr_map64_get(&d->calls, answer->call);
    if (box == NULL) { /* stale: of a call that was answered before */
        hr_batch_unref(answer->take_results);
        return;
    }
    function *f = box->function;
    uint16_t again[HR_BATCH_MAX];
    uint32_t again_count = 0;
    uint64_t ok[HR_BATCH_MAX / 64] = {0};
    bool any_ok = false;
    unlist(d, f, box);
    for (uint32_t i = 0; i < box->call.count && !is_orphan(box); i++) {
        if (box->items[i].parked != NULL) {
            box->items[i].parked->is_called = false;
        }
    }
    if (answer->failure != HR_OK) {
        hr_batch_unref(answer->take_results); /* none by contract */
    }
    if (is_orphan(box)) {
        orphan(box, answer);
    } else if (answer->failure == HR_OK) {
        again_count = apply(d, f, box, answer, again, ok, &any_ok);
        keep_results(f, box->items[0].cursor, answer, ok);
    } else if (answer->failure == HR_E_CALL_UNSTARTED || box->call.count > 1) {
        for (uint32_t i = 0; i < box->call.count; i++) {
            box->items[i].alone = answer->failure != HR_E_CALL_UNSTARTED;
            again[again_count++] = (uint16_t)i;
        }
    } else {
        retry(d, f, &box->items[0], -1, answer->why);
    }
    if (any_ok) {
        f->streak = 0;
        f->pause_ns = 0;
    } else if (++f->streak >= STREAK_PAUSES || answer->failure == HR_E_CALL_UNSTARTED) {
        pause(d, f);
    }
    lane *l = &f->lanes[box->call.lane];
    while (again_count > 0) {
        item *it = &box->items[again[--again_count]];
        if (!it->cursor->feed->is_revoked) {
            hr_lane_push(f, (uint32_t)(l - f->lanes), it, true, d->now_ns);
        } else if (it->parked != NULL) {
            put_back(it); /* the store keeps it; what is fresh is read again by the next owner */
        }
    }
    box->next = f->free_calls;
    f->free_calls = box;
}
