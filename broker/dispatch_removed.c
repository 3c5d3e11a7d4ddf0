/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that stand in the store but no longer in the configuration (S21). */
#include "broker/dispatch_priv.h"

/* Of a batch what was appended before the start; NULL: nothing more. The rest is not its own: a
 * checkpoint that passed it would keep it from the function should that come back, uncounted. */
hr_batch *hr_removed_part(cursor *c, hr_batch *take_batch) {
    hr_batch *part = hr_batch_part(take_batch, c->next, c->end);
    hr_batch_unref(take_batch);
    if (part == NULL) {
        c->next = c->end;
    }
    return part;
}

/* What was appended before the start and is not settled is given up. */
void hr_removed_take(hr_dispatch *d, cursor *c, span *s) {
    const char *why = c->function->policy.is_removed
                          ? "the function is no longer in the configuration"
                          : "the function no longer takes from where it came";
    for (uint32_t i = 0; i < s->batch->count; i++) {
        if (hr_cursor_was_settled(c, s->batch->position[i])) {
            hr_cursor_mark(c, s, i);
            continue;
        }
        item it = {.cursor = c,
                   .batch = s->batch,
                   .span = s,
                   .index = i,
                   .key_hash = s->batch->view[i].key_hash};
        hr_item_dead(d, c->function, &it, "removed", hr_slice_text(why), 0, false);
    }
}

static bool is_at_end(const cursor *c) {
    return c->next >= c->end && !c->is_dirty && c->running == NULL;
}

static void submit_end(hr_dispatch *d, const function *f, unit_box *unit, uint32_t feed_id) {
    unit->unit.function = f->policy.id;
    hr_row *row = hr_unit_row(unit);
    row->kind = HR_ROW_REMOVE;
    row->function = f->policy.id;
    row->feed = feed_id;
    row->at_ms = d->real_us / 1000;
    hr_unit_submit(d, unit);
}

/* When a cursor is at its end, and that is durable, the store forgets it; the function when all of
 * them are. What is parked becomes dead letters with that. */
void hr_removed_finish(hr_dispatch *d, function *f) {
    bool is_over = f->policy.is_removed && !f->is_ended;
    for (cursor *c = f->cursors; c != NULL && !d->is_draining; c = c->next_of_function) {
        is_over = is_over && is_at_end(c);
        bool is_due = c->is_removed && !c->is_ended && is_at_end(c);
        if (!f->policy.is_removed && (is_due || c->is_leaving)) {
            c->is_ended = c->is_removed;
            c->is_leaving = false;
            unit_box *unit = hr_unit_new();
            unit->ended = c;
            submit_end(d, f, unit, c->feed->policy.id);
        }
    }
    if (is_over && !d->is_draining) {
        f->is_ended = true;
        unit_box *unit = hr_unit_new();
        unit->removed = f;
        submit_end(d, f, unit, 0);
    }
}

/* It holds its feed back no more. */
static void leave(hr_dispatch *d, cursor *c) {
    cursor **at = &c->feed->cursors;
    while (*at != NULL && *at != c) {
        at = &(*at)->next_of_feed;
    }
    if (*at == NULL) { /* of a pull feed that it takes from no more */
        return;
    }
    *at = c->next_of_feed;
    hr_feed_settled(d, c->feed);
}

void hr_removed_done(hr_dispatch *d, const unit_box *unit) {
    if (unit->ended != NULL) {
        cursor *c = unit->ended;
        d->options.dead_count += c->left;
        c->function->parked_count -= c->left;
        c->left = 0;
        leave(d, c);
        return;
    }
    function *f = unit->removed;
    d->options.dead_count += f->parked_count;
    f->parked_count = 0;
    for (cursor *c = f->cursors; c != NULL; c = c->next_of_function) {
        leave(d, c);
    }
}
