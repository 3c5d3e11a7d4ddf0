/* SPDX-License-Identifier: Apache-2.0 */
/* Events that are still on their way when they leave the window (S7). */
#include "broker/dispatch_priv.h"

static void detach_running(hr_dispatch *d, function *f, const span *s) {
    for (call_box *box = f->calls_first; box != NULL; box = box->next) {
        for (uint32_t i = 0; i < box->call.count && !box->is_orphan; i++) {
            if (box->items[i].span == s) {
                hr_park_detach(d, f, &box->items[i], true);
            }
        }
    }
}

static void detach_queued(hr_dispatch *d, function *f, const span *s) {
    for (uint32_t i = 0; i < f->policy.lanes; i++) {
        lane *l = &f->lanes[i];
        for (uint32_t k = 0; k < l->count; k++) {
            item *it = &l->ring[(l->first + k) & (l->capacity - 1)];
            if (it->span == s) {
                hr_park_detach(d, f, it, false);
            }
        }
    }
}

/* By events, or by bytes: an open event holds the batches behind it in memory. */
bool hr_window_is_full(const hr_dispatch *d, const cursor *c) {
    return c->window > d->window || (c->window_bytes > d->window_bytes && c->first != c->last);
}

/* The window of the cursor is full: what is open of its oldest batch is parked, as running where it
 * runs, so that the checkpoint goes on. In its lane and its call it stays as it is. */
void hr_window_open(hr_dispatch *d, cursor *c) {
    hr_cursor_advance(c); /* it may be full of what is settled and only waits for a commit */
    while (hr_window_is_full(d, c)) {
        span *oldest = c->first;
        detach_running(d, c->function, oldest);
        detach_queued(d, c->function, oldest);
        HR_ASSERT(oldest->left == 0);
        hr_cursor_advance(c);
    }
}
