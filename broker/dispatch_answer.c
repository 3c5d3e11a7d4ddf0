/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: what each means for its events, their results and the function (S9, S11, S13, S17). */
#include "broker/dispatch_priv.h"

#define PAUSE_MIN_NS UINT64_C(1000000000)
#define PAUSE_MAX_NS UINT64_C(60000000000)

/* The feed was taken away while the call ran: its next owner calls the event again. */
static bool is_given_away(const item *it) {
    return it->parked == NULL && it->cursor->feed->is_gone;
}

static void retry(hr_dispatch *d, function *f, item *it, int64_t after_ms, hr_slice why) {
    uint32_t attempt = it->attempt + (after_ms < 0 ? 1u : 0u);
    attempt = attempt < HR_ATTEMPTS_MAX ? attempt : HR_ATTEMPTS_MAX;
    it->cursor->counters.attempts++;
    if (f->policy.retry.attempts > 0 && attempt >= f->policy.retry.attempts) {
        hr_item_dead(d, f, it, "attempts exhausted", why, attempt, false);
        return;
    }
    int64_t wait =
        hr_retry_wait_ms(&f->policy.retry, attempt == 0 ? 1 : attempt, hr_dispatch_chance(d));
    if (after_ms > wait) {
        wait = after_ms < HR_WAIT_MAX_MS ? after_ms : HR_WAIT_MAX_MS;
    }
    hr_park(d, f, it, HR_PARKED_RETRY, d->clock_ms + wait, attempt, why);
}

static void deliver(function *f, item *it) {
    it->cursor->counters.attempts++;
    it->cursor->counters.delivered++;
    hr_item_settle(f, it);
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
        f->results->coming += batch->size;
        f->result_peak = batch->size > f->result_peak ? batch->size : f->result_peak;
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
                    .reason = hr_slice_text(HR_DROPPED_BY_FUNCTION)};
    row->event_id = hr_batch_id(it->batch, it->index);
    hr_unit_hold(unit, it->batch);
    row->text = hr_unit_copy(unit, why);
}

/* The function is well when it judges an event, whatever it finds: one that is bad is no failure of
 * the function. */
static bool is_verdict(const hr_exception *exception) {
    return exception == NULL || exception->outcome == HR_OUTCOME_DROP ||
           exception->outcome == HR_OUTCOME_DEAD;
}

/* The usual answer. */
static bool is_all_delivered(const call_box *box, const hr_answer *answer) {
    bool is_all = answer->exception_count == 0;
    for (uint32_t i = 0; is_all && i < box->call.count; i++) {
        is_all = !is_given_away(&box->items[i]);
    }
    return is_all;
}

static void deliver_all(hr_dispatch *d, function *f, call_box *box, uint64_t *ok) {
    hr_call_note(d, box, HR_NOTE_DELIVERED); /* first: what is settled may be let go */
    for (uint32_t i = 0; i < box->call.count; i++) {
        ok[i / 64] |= (uint64_t)1 << (i % 64);
        deliver(f, &box->items[i]);
    }
}

/* Each event of a call that was answered event by event. Returns how many are to be called again
 * (their indexes in again). */
static uint32_t apply(hr_dispatch *d, function *f, call_box *box, const hr_answer *answer,
                      uint16_t *again, uint64_t *ok, bool *out_is_well) {
    uint64_t failed[HR_BATCH_MAX];
    uint32_t failed_count = 0, again_count = 0;
    size_t at = 0;
    for (uint32_t i = 0; i < box->call.count; i++) {
        item *it = &box->items[i];
        const hr_exception *exception = NULL;
        if (at < answer->exception_count && answer->exceptions[at].index == i) {
            exception = &answer->exceptions[at++];
        }
        if (is_given_away(it)) {
            *out_is_well = *out_is_well || is_verdict(exception);
            continue;
        }
        uint64_t key = hr_chain_key(f, it->key_hash);
        if (has_failed(failed, failed_count, key) ||
            (exception != NULL && exception->outcome == HR_OUTCOME_NOT_RUN)) {
            again[again_count++] = (uint16_t)i; /* S9: whatever it says, it comes again */
            failed[failed_count++] = key;       /* and so do those behind it */
            continue;
        }
        *out_is_well = *out_is_well || is_verdict(exception);
        if (exception == NULL) {
            ok[i / 64] |= (uint64_t)1 << (i % 64);
            hr_dispatch_note(d, HR_NOTE_DELIVERED, it->cursor, it->batch, it->index,
                             it->batch->position[it->index], it->attempt + 1u, (hr_slice){0}, 0,
                             d->now_ns - box->started_ns);
            deliver(f, it);
        } else if (exception->outcome == HR_OUTCOME_DROP) {
            it->cursor->counters.attempts++;
            it->cursor->counters.dropped++;
            hr_dispatch_note(d, HR_NOTE_DROPPED, it->cursor, it->batch, it->index,
                             it->batch->position[it->index], it->attempt + 1u, exception->why, 0,
                             d->now_ns - box->started_ns);
            keep_drop(d, f, it, exception->why);
            hr_item_settle(f, it);
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

/* The items of an orphan hold references of their own (hr_calls_orphan). */
static void end_orphan(call_box *box) {
    for (uint32_t i = 0; i < box->call.count; i++) {
        hr_batch_unref(box->items[i].batch);
    }
}

/* Calls again, in the order they had; what is fresh of a feed taken away is its next owner's. */
static void call_again(hr_dispatch *d, function *f, call_box *box, const uint16_t *again,
                       uint32_t count) {
    while (count > 0) {
        item *it = &box->items[again[--count]];
        const feed *from = it->cursor->feed;
        bool is_tried = it->parked != NULL && !it->parked->is_untried;
        if (!from->is_revoked || (from->is_gone && is_tried)) {
            hr_lane_push(f, box->call.lane, it, true, d->now_ns);
        } else if (it->parked != NULL) {
            hr_park_put_back(it);
            hr_park_give_back(it->parked);
        }
    }
}

static void note_health(hr_dispatch *d, function *f, hr_code failure, bool is_well) {
    if (is_well) {
        f->streak = 0;
        f->pause_ns = 0;
    } else if (++f->streak >= HR_STREAK_PAUSES || failure == HR_E_CALL_UNSTARTED) {
        pause(d, f);
    }
}

void hr_call_answered(hr_dispatch *d, const hr_answer *answer) {
    call_box *box = hr_map64_get(&d->calls, answer->call);
    if (box == NULL || box->is_orphan || answer->failure != HR_OK) {
        hr_batch_unref(answer->take_results); /* of a failure: none by contract */
    }
    if (box == NULL) { /* stale: of a call that was answered before */
        return;
    }
    function *f = box->function;
    uint16_t again[HR_BATCH_MAX];
    uint32_t again_count = 0;
    uint64_t ok[HR_BATCH_MAX / 64] = {0};
    bool is_well = false, has_begun = answer->failure != HR_E_CALL_UNSTARTED;
    hr_calls_unlist(d, box);
    for (uint32_t i = 0; i < box->call.count && !box->is_orphan; i++) {
        if (box->items[i].parked != NULL) {
            box->items[i].parked->is_called = false;
        }
    }
    if (box->is_orphan) {
        end_orphan(box);
        is_well = answer->failure == HR_OK;
    } else if (answer->failure == HR_OK) {
        if (is_all_delivered(box, answer)) {
            deliver_all(d, f, box, ok);
            is_well = true;
        } else {
            again_count = apply(d, f, box, answer, again, ok, &is_well);
        }
        keep_results(f, box->items[0].cursor, answer, ok);
    } else if (!has_begun || box->call.count > 1) {
        for (uint32_t i = 0; i < box->call.count; i++) {
            item *it = &box->items[i];
            if (has_begun && !is_given_away(it)) {
                hr_dispatch_note(d, HR_NOTE_UNANSWERED, it->cursor, it->batch, it->index,
                                 it->batch->position[it->index], it->attempt + 1u, answer->why, 0,
                                 d->now_ns - box->started_ns);
            }
            it->alone = has_begun;
            again[again_count++] = (uint16_t)i;
        }
    } else if (!is_given_away(&box->items[0])) {
        retry(d, f, &box->items[0], -1, answer->why);
    }
    note_health(d, f, answer->failure, is_well);
    call_again(d, f, box, again, again_count);
    box->next = f->free_calls;
    f->free_calls = box;
}
