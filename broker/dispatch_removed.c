/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that stand in the store but no longer in the configuration (S21). */
#include "broker/dispatch_priv.h"

/* What was appended before the start and is not settled is given up. */
void hr_removed_take(hr_dispatch *d, cursor *c, span *s) {
    static const char why[] = "the function is no longer in the configuration";
    for (uint32_t i = 0; i < s->batch->count; i++) {
        uint64_t position = s->batch->position[i];
        if (position >= c->end || hr_cursor_was_settled(c, position)) {
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

/* When all its cursors are at their ends, and that is durable, the store forgets the function; what
 * it had parked becomes dead letters with that. */
void hr_removed_finish(hr_dispatch *d, function *f) {
    if (f->is_ended || d->is_draining) {
        return;
    }
    for (const cursor *c = f->cursors; c != NULL; c = c->next_of_function) {
        if (c->next < c->end || c->is_dirty || c->running != NULL) {
            return;
        }
    }
    f->is_ended = true;
    unit_box *unit = hr_unit_new();
    unit->removed = f;
    unit->unit.function = f->policy.id;
    hr_row *row = hr_unit_row(unit);
    row->kind = HR_ROW_REMOVE;
    row->function = f->policy.id;
    row->at_ms = d->real_us / 1000;
    hr_unit_submit(d, unit);
}

void hr_removed_done(hr_dispatch *d, const unit_box *unit) {
    function *f = unit->removed;
    d->options.dead_count += f->parked_count;
    f->parked_count = f->parked_bytes = 0;
    for (cursor *c = f->cursors; c != NULL; c = c->next_of_function) {
        cursor **at = &c->feed->cursors;
        while (*at != c) {
            at = &(*at)->next_of_feed;
        }
        *at = c->next_of_feed;
        hr_feed_settled(d, c->feed); /* it holds nothing back any more */
    }
}
