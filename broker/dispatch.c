/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/dispatch.h"

#include "broker/dispatch_priv.h"
#include "core/log.h"

hr_dispatch *hr_dispatch_new(const hr_dispatch_options *options) {
    hr_dispatch *d = hr_alloc(sizeof *d);
    d->options = *options;
    d->window = options->window_events > 0 ? options->window_events
                                           : (uint64_t)HR_WINDOW_EVENTS - HR_BATCH_MAX;
    d->window_bytes = options->window_bytes > 0 ? options->window_bytes : HR_WINDOW_BYTES;
    d->queue_bytes = options->queue_bytes > 0 ? options->queue_bytes : HR_QUEUE_BYTES;
    return d;
}

static void free_spans(cursor *c) {
    while (c->first != NULL) {
        span *s = c->first;
        c->first = s->next;
        hr_batch_unref(s->batch);
        hr_free(s);
    }
    c->last = NULL;
    c->window = c->window_bytes = 0;
}

static void free_list(parked *p) {
    while (p != NULL) {
        parked *next = p->next;
        hr_free(p);
        p = next;
    }
}

static void free_cursor(cursor *c) {
    free_spans(c);
    free_list(c->tried);
    free_list(c->untried_first);
    hr_batch_unref(c->stash);
    hr_unit_free(c->building);
    hr_unit_free(c->running);
    hr_free(c->ranges);
    hr_free(c->dropped);
    hr_free(c);
}

static void free_box(call_box *box) {
    hr_free(box->items);
    hr_free(box->refs);
    hr_free(box);
}

static void free_function(function *f) {
    for (call_box *box = f->calls_first, *next = NULL; box != NULL; box = next) {
        next = box->next;
        for (uint32_t i = 0; i < box->call.count; i++) {
            if (box->items[i].parked != NULL || box->is_orphan) {
                hr_batch_unref(box->items[i].batch);
            }
        }
        free_box(box);
    }
    for (call_box *box = f->free_calls, *next = NULL; box != NULL; box = next) {
        next = box->next;
        free_box(box);
    }
    for (uint32_t i = 0; i < f->policy.lanes; i++) {
        lane *l = &f->lanes[i];
        for (uint32_t k = 0; k < l->count; k++) {
            item *it = &l->ring[(l->first + k) & (l->capacity - 1)];
            if (it->parked != NULL) {
                hr_batch_unref(it->batch);
            }
        }
        hr_free(l->ring);
    }
    for (size_t i = 0; i < f->chains.capacity; i++) {
        hr_free(f->chains.value[i]);
    }
    hr_map64_fini(&f->chains);
    for (cursor *c = f->cursors, *next = NULL; c != NULL; c = next) {
        next = c->next_of_function;
        free_cursor(c);
    }
    hr_free(f->lanes);
    hr_free(f->heap);
    hr_free(f);
}

void hr_dispatch_free(hr_dispatch *take_dispatch) {
    hr_dispatch *d = take_dispatch;
    if (d == NULL) {
        return;
    }
    for (unit_box *unit = d->waiting, *next = NULL; unit != NULL; unit = next) {
        next = unit->next;
        if (unit->cursor == NULL) { /* else: the cursor's */
            hr_unit_free(unit);
        }
    }
    for (function *f = d->functions, *next = NULL; f != NULL; f = next) {
        next = f->next;
        free_function(f);
    }
    for (feed *f = d->feeds, *next = NULL; f != NULL; f = next) {
        next = f->next;
        for (uint32_t i = 0; i < f->ring_count; i++) {
            hr_batch_unref(f->ring[(f->ring_first + i) % f->ring_capacity]);
        }
        hr_dedupe_free(f->policy.take_dedupe);
        hr_free(f->ring);
        hr_free(f->marks);
        hr_free(f);
    }
    for (size_t i = 0; i < d->lent_count; i++) {
        hr_free(d->lent[i]);
    }
    hr_map64_fini(&d->calls);
    hr_free(d->actions);
    hr_free(d);
}

hr_action *hr_dispatch_act(hr_dispatch *d, hr_action_kind kind, uint32_t function_id,
                           uint32_t feed_id) {
    if (d->action_count == d->action_capacity) {
        d->action_capacity = d->action_capacity == 0 ? 64 : d->action_capacity * 2;
        d->actions = hr_realloc(d->actions, d->action_capacity * sizeof *d->actions);
    }
    hr_action *act = &d->actions[d->action_count++];
    *act = (hr_action){.kind = kind, .function = function_id, .feed = feed_id};
    return act;
}

void hr_dispatch_wake_at(hr_dispatch *d, uint64_t ns) {
    if (ns < d->wake_ns) {
        d->wake_ns = ns;
    }
}

void hr_dispatch_note(hr_dispatch *d, hr_note_kind kind, const cursor *at, const hr_batch *batch,
                      uint32_t index, uint64_t position, uint32_t attempt, hr_slice text,
                      int64_t due_ms, uint64_t took_ns) {
    if (d->options.note == NULL) {
        return;
    }
    hr_note note = {.kind = kind,
                    .function = at->function->policy.id,
                    .feed = at->feed->policy.id,
                    .attempt = attempt,
                    .attempts_max = at->function->policy.retry.attempts,
                    .position = position,
                    .batch = batch,
                    .index = index,
                    .real_us = d->real_us,
                    .due_ms = due_ms,
                    .took_ns = took_ns,
                    .text = text};
    d->options.note(d->options.note_data, &note);
}

feed *hr_dispatch_find_feed(const hr_dispatch *d, uint32_t id) {
    feed *f = d->feeds;
    while (f != NULL && f->policy.id != id) {
        f = f->next;
    }
    return f;
}

function *hr_dispatch_find_function(const hr_dispatch *d, uint32_t id) {
    function *f = d->functions;
    while (f != NULL && f->policy.id != id) {
        f = f->next;
    }
    return f;
}

/* The next random bits of this step (splitmix64 over what the input brought; Steele et al. 2014).
 */
uint64_t hr_dispatch_chance(hr_dispatch *d) {
    uint64_t z = (d->chance += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Nothing is known of the cursor any more: the store tells it again. A unit that is on its way is
 * of another epoch; its end means nothing for the cursor. */
static void reset_cursor(cursor *c) {
    hr_cursor_unqueue(c);
    free_spans(c);
    hr_parked_forget(c);
    hr_unit_free(c->building);
    c->building = NULL;
    c->low = c->next = 0;
    c->range_count = c->range_at = 0;
    c->dropped_count = 0;
    c->durable_settled = 0;
    c->is_begun = c->is_dirty = false;
    hr_batch_unref(c->stash);
    c->stash = NULL;
}

void hr_dispatch_add_feed(hr_dispatch *d, const hr_feed_policy *policy) {
    feed *f = hr_dispatch_find_feed(d, policy->id);
    if (f == NULL) {
        f = hr_alloc(sizeof *f);
        feed **end = &d->feeds;
        while (*end != NULL) {
            end = &(*end)->next;
        }
        *end = f;
    } else { /* a pull feed that came back to us */
        HR_ASSERT(policy->pull && f->is_gone);
        hr_calls_orphan(d, f);
        for (cursor *c = f->cursors; c != NULL; c = c->next_of_feed) {
            reset_cursor(c);
        }
        f->cursors = NULL; /* who takes from it is said anew */
        f->is_gone = f->is_revoked = f->is_forgotten = f->is_fenced = false;
        f->wanted = f->told_low = 0;
    }
    if (policy->is_away) {
        HR_ASSERT(policy->pull);
        f->is_gone = f->is_revoked = true;
    }
    f->policy = *policy;
    f->visible = f->ring_floor = policy->next;
    f->counters = policy->counters;
    if (policy->unsettled_bytes > 0) {
        f->marks = hr_alloc_array(64, sizeof *f->marks);
        f->mark_capacity = 64;
        f->mark_count = 1;
        f->marks[0] = (mark){.last = policy->next - 1, .bytes = policy->unsettled_bytes};
        f->unsettled = policy->unsettled_bytes;
    }
}

void hr_dispatch_add_function(hr_dispatch *d, const hr_function_policy *policy) {
    HR_ASSERT(hr_dispatch_find_function(d, policy->id) == NULL);
    HR_ASSERT(policy->lanes > 0 && policy->batch_size > 0 && policy->batch_size <= HR_BATCH_MAX);
    function *f = hr_alloc(sizeof *f);
    f->policy = *policy;
    f->results = policy->result_feed == 0 ? NULL : hr_dispatch_find_feed(d, policy->result_feed);
    HR_ASSERT(policy->result_feed == 0 || f->results != NULL);
    f->lanes = hr_alloc_array(policy->lanes, sizeof *f->lanes);
    function **end = &d->functions;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = f;
}

static cursor *find_cursor(const function *f, uint32_t feed_id) {
    cursor *c = f->cursors;
    while (c != NULL && c->feed->policy.id != feed_id) {
        c = c->next_of_function;
    }
    return c;
}

void hr_dispatch_take(hr_dispatch *d, uint32_t function_id, uint32_t feed_id, uint64_t low,
                      uint64_t start, hr_slice settled, const hr_counters *counters) {
    function *f = hr_dispatch_find_function(d, function_id);
    feed *from = hr_dispatch_find_feed(d, feed_id);
    HR_ASSERT(f != NULL && from != NULL);
    cursor *c = find_cursor(f, feed_id);
    if (c == NULL) {
        c = hr_alloc(sizeof *c);
        c->function = f;
        c->feed = from;
        c->next_of_function = f->cursors;
        f->cursors = c;
    }
    c->next_of_feed = from->cursors;
    from->cursors = c;
    c->low = c->next = c->durable_low = low == 0 ? start : low;
    c->is_unborn = low == 0 && !from->policy.pull;
    if (counters != NULL) {
        c->counters = *counters;
    }
    c->end = from->policy.next;
    c->is_removed = f->policy.is_removed;
    c->is_begun = !from->policy.pull;
    c->is_dirty = low == 0 && c->is_begun;
    if (!hr_cursor_load_settled(c, settled)) {
        hr_log(HR_LOG_WARN, "store",
               "the set that '%s' has settled above position %llu of feed %u is damaged: what is "
               "in it comes once more",
               f->policy.name, (unsigned long long)c->low, (unsigned)feed_id);
    }
}

void hr_dispatch_take_no_more(hr_dispatch *d, uint32_t function_id, uint32_t feed_id, uint64_t low,
                              hr_slice settled, const hr_counters *counters) {
    hr_dispatch_take(d, function_id, feed_id, low, low, settled, counters);
    find_cursor(hr_dispatch_find_function(d, function_id), feed_id)->is_removed = true;
}

void hr_dispatch_leave(hr_dispatch *d, uint32_t function_id, uint32_t feed_id) {
    cursor *c = find_cursor(hr_dispatch_find_function(d, function_id), feed_id);
    if (c != NULL) { /* else nothing of it was parked at the start, and nothing since */
        c->is_leaving = true;
        c->function->parked_count -= c->left;
        c->left = 0;
    }
}

void hr_dispatch_load_parked(hr_dispatch *d, const hr_row *row) {
    function *f = hr_dispatch_find_function(d, row->function);
    cursor *c = f == NULL ? NULL : find_cursor(f, row->feed);
    if (f != NULL && (f->policy.is_removed || (c != NULL && (c->is_removed || c->is_leaving)))) {
        f->parked_count++; /* the store itself makes a dead letter of it */
        if (c != NULL) {
            c->left++;
        }
    } else if (c != NULL && c->low > 0) { /* 0: it no longer takes from the feed */
        if (c->has_lost_settled && row->position >= c->low) {
            hr_cursor_add_settled(c, row->position); /* or it would come a second time */
        }
        hr_park_load(d, f, c, row);
    }
}

static void apply_input(hr_dispatch *d, const hr_input *input) {
    function *f = NULL;
    switch (input->kind) {
    case HR_IN_OFFER:
        hr_feed_offer(d, input);
        return;
    case HR_IN_REJECT:
        hr_feed_reject(d, input);
        return;
    case HR_IN_DELIVER:
        hr_feed_deliver(d, input->deliver.take_batch);
        return;
    case HR_IN_BEGIN:
        hr_feed_begin(d, input->begin.feed, input->begin.position);
        return;
    case HR_IN_REVOKE:
    case HR_IN_FORGET:
        hr_feed_revoke(d, input->revoke.feed, input->kind == HR_IN_FORGET);
        return;
    case HR_IN_READ:
        hr_cursor_read(d, input);
        return;
    case HR_IN_DURABLE:
        hr_unit_done(d, input->durable.unit->data, input->durable.result);
        return;
    case HR_IN_ANSWER:
        hr_call_answered(d, input->answer);
        return;
    case HR_IN_ROOM:
        f = hr_dispatch_find_function(d, input->room.function);
        HR_ASSERT(f != NULL);
        f->slots = input->room.slots;
        return;
    case HR_IN_WAKE:
        return;
    case HR_IN_DRAIN:
        d->is_draining = true;
        return;
    }
}

static void submit_again(hr_dispatch *d) {
    unit_box *waiting = d->waiting;
    d->waiting = NULL;
    while (waiting != NULL) {
        unit_box *unit = waiting;
        waiting = unit->next;
        if (unit->retry_ns <= d->now_ns) {
            hr_unit_submit(d, unit);
        } else {
            unit->next = d->waiting;
            d->waiting = unit;
            hr_dispatch_wake_at(d, unit->retry_ns);
        }
    }
}

/* A wall clock that goes another way than the monotonic one was set: the difference is left out. */
static void set_time(hr_dispatch *d, const hr_input *input) {
    static const int64_t slew_ms = 2000; /* what may come together between two steps */
    int64_t passed_ms = (int64_t)(input->now_ns - d->now_ns) / 1000000;
    int64_t jump_ms = (input->real_us - d->real_us) / 1000 - passed_ms;
    if (d->now_ns != 0 && (jump_ms > slew_ms || jump_ms < -slew_ms)) {
        d->skew_ms += jump_ms;
    }
    d->now_ns = input->now_ns;
    d->real_us = input->real_us;
    d->clock_ms = input->real_us / 1000 - d->skew_ms;
}

int64_t hr_dispatch_real_ms(const hr_dispatch *d, int64_t clock_ms) {
    return clock_ms == 0 ? 0 : clock_ms + d->skew_ms;
}

static void run_function(hr_dispatch *d, function *f) {
    bool is_emptied = false;
    for (int i = 0; i < 2 && (i == 0 || is_emptied); i++) {
        hr_park_release(d, f);
        hr_function_take(d, f);
        bool was_full = hr_queue_is_full(d, f);
        hr_function_call(d, f);
        /* all that filled it was put back to wait for another of its key, which was not asked for
         * because it was full: no input may come that leads to that */
        is_emptied = was_full && f->running == 0 && !hr_queue_is_full(d, f);
    }
}

void hr_dispatch_step(hr_dispatch *d, const hr_input *input, hr_output *out) {
    for (size_t i = 0; i < d->lent_count; i++) {
        hr_free(d->lent[i]);
    }
    d->lent_count = 0;
    d->action_count = 0;
    set_time(d, input);
    d->chance = input->chance;
    d->wake_ns = UINT64_MAX;
    apply_input(d, input);
    submit_again(d);
    for (function *f = d->functions; f != NULL; f = f->next) {
        run_function(d, f);
        hr_calls_expire(d, f);
        hr_removed_finish(d, f);
    }
    hr_cursors_flush(d);
    for (feed *f = d->feeds; f != NULL; f = f->next) {
        hr_feed_trim(d, f);
        hr_feed_finish_revoke(d, f);
    }
    out->actions = d->actions;
    out->count = d->action_count;
    out->wake_ns = d->wake_ns;
}

bool hr_dispatch_is_idle(const hr_dispatch *d) {
    if (d->units_out > 0) {
        return false;
    }
    for (const unit_box *unit = d->waiting; unit != NULL; unit = unit->next) {
        if (unit->refused == 0) { /* else: it may never stand; what it settles comes again */
            return false;
        }
    }
    for (const function *f = d->functions; f != NULL; f = f->next) {
        if (f->running > 0) {
            return false;
        }
    }
    return true;
}

void hr_dispatch_dead_ended(hr_dispatch *d, uint64_t count) {
    d->options.dead_count -= count < d->options.dead_count ? count : d->options.dead_count;
}

static void add_counters(hr_counters *sum, const hr_counters *more) {
    sum->deliveries += more->deliveries;
    sum->delivered += more->delivered;
    sum->filtered += more->filtered;
    sum->dropped += more->dropped;
    sum->dead += more->dead;
    sum->expired += more->expired;
    sum->attempts += more->attempts;
    sum->results += more->results;
}

void hr_dispatch_function_stats(const hr_dispatch *d, uint32_t id, hr_function_stats *out) {
    const function *f = hr_dispatch_find_function(d, id);
    *out = (hr_function_stats){0};
    if (f == NULL) {
        return;
    }
    out->queued = f->queued;
    out->running = f->running;
    out->parked = f->parked_count;
    out->parked_bytes = f->parked_bytes;
    out->is_paused = f->paused_until_ns > d->now_ns;
    out->stalled = f->stalled;
    for (const cursor *c = f->cursors; c != NULL; c = c->next_of_function) {
        add_counters(&out->counters, &c->counters);
        out->behind += c->feed->visible > c->next ? c->feed->visible - c->next : 0;
    }
}

void hr_dispatch_feed_stats(const hr_dispatch *d, uint32_t id, hr_feed_stats *out) {
    const feed *f = hr_dispatch_find_feed(d, id);
    *out = (hr_feed_stats){0};
    if (f == NULL) {
        return;
    }
    out->next = f->policy.pull ? f->visible : f->policy.next;
    out->unsettled_bytes = f->unsettled;
    out->in_memory = f->ring_events;
    out->counters = f->counters;
    out->is_stopped = f->is_stopped;
    out->duplicates_window =
        f->policy.take_dedupe == NULL ? 0 : hr_dedupe_count(f->policy.take_dedupe);
}

bool hr_dispatch_checkpoint(const hr_dispatch *d, uint32_t function_id, uint32_t feed_id,
                            uint64_t *out_low, uint64_t *out_settled) {
    const function *f = hr_dispatch_find_function(d, function_id);
    const cursor *c = f == NULL ? NULL : find_cursor(f, feed_id);
    if (c == NULL || c->done == 0) {
        return false;
    }
    *out_low = c->durable_low;
    *out_settled = c->durable_settled;
    return true;
}

static bool has(const parked *list, uint64_t position) {
    while (list != NULL && list->position != position) {
        list = list->next;
    }
    return list != NULL;
}

static bool is_running(const function *f, const cursor *c, uint64_t position) {
    for (const call_box *box = f->calls_first; box != NULL; box = box->next) {
        for (uint32_t i = 0; i < box->call.count; i++) {
            const item *it = &box->items[i];
            if (it->cursor == c && it->batch->position[it->index] == position) {
                return true;
            }
        }
    }
    return false;
}

hr_dispatch_standing hr_dispatch_find(const hr_dispatch *d, uint32_t function_id, uint32_t feed_id,
                                      uint64_t position) {
    const function *f = hr_dispatch_find_function(d, function_id);
    const cursor *c = f == NULL ? NULL : find_cursor(f, feed_id);
    if (c == NULL) {
        return HR_STANDS_NOWHERE;
    }
    if (is_running(f, c, position)) {
        return HR_STANDS_RUNNING;
    }
    if (has(c->tried, position) || has(c->untried_first, position)) {
        return HR_STANDS_RETRYING;
    }
    if (position < c->low) {
        return HR_STANDS_SETTLED;
    }
    for (const span *s = c->first; s != NULL; s = s->next) {
        for (uint32_t i = 0; i < s->batch->count; i++) {
            if (s->batch->position[i] == position) {
                return (s->bits[i / 64] >> (i % 64) & 1) != 0 ? HR_STANDS_SETTLED
                                                              : HR_STANDS_PENDING;
            }
        }
    }
    for (size_t i = 0; i < c->range_count; i++) {
        if (position >= c->ranges[i].from && position < c->ranges[i].to) {
            return HR_STANDS_SETTLED;
        }
    }
    return HR_STANDS_PENDING;
}
