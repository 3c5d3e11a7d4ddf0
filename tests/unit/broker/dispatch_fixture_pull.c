/* SPDX-License-Identifier: Apache-2.0 */
/* A pull feed for the fixture: its source, its group's offset and another daemon that may own it.
 */
#include "tests/unit/broker/dispatch_fixture.h"

void fx_produce(fixture *fx, uint32_t count, uint32_t keys) {
    for (uint32_t i = 0; i < count; i++) {
        uint64_t position = fx->next[FX_PULL]++;
        HR_ASSERT(position < FX_EVENTS);
        hr_builder builder = {0};
        fx_pack(fx, &builder, position, position, keys == 0 ? 0 : 1 + position % keys);
        fx->journal[FX_PULL][position] =
            (fx_event){.exists = true, .one = hr_builder_finish(&builder, FX_PULL, 1)};
        hr_builder_fini(&builder);
    }
}

/* As the engine does: at start only for what is parked. */
void fx_add_pull(fixture *fx, bool is_away) {
    bool is_known = false;
    for (uint32_t f = 1; f < FX_FUNCTIONS; f++) {
        is_known = is_known || (fx->takes[f] == FX_PULL && fx->checkpoint[f][FX_PULL].exists);
    }
    if (is_away && !is_known) {
        return;
    }
    hr_feed_policy policy = {.id = FX_PULL, .pull = true, .is_away = is_away, .epoch = ++fx->epoch};
    hr_dispatch_add_feed(fx->d, &policy);
    for (uint32_t f = 1; f < FX_FUNCTIONS; f++) {
        const fx_checkpoint *at = &fx->checkpoint[f][FX_PULL];
        if (fx->leaves == f && !is_away) {
            hr_dispatch_leave(fx->d, f, FX_PULL);
        } else if (fx->takes[f] == FX_PULL && (at->exists || !is_away)) {
            hr_dispatch_take(fx->d, f, FX_PULL, at->exists ? at->low : 0, 0,
                             hr_slice_of(at->settled, at->settled_size), &at->counters);
        }
    }
}

/* S17: from the larger of what the store and the group know. */
void fx_assign(fixture *fx) {
    HR_ASSERT(!fx->is_owned);
    fx_add_pull(fx, false);
    uint64_t known = UINT64_MAX;
    for (uint32_t f = 1; f < FX_FUNCTIONS; f++) {
        const fx_checkpoint *at = &fx->checkpoint[f][FX_PULL];
        if (fx->takes[f] == FX_PULL && at->exists && at->low < known) {
            known = at->low;
        }
        for (uint64_t p = 0; p < FX_EVENTS; p++) {
            fx->running[f][FX_PULL][p] = false;
        }
    }
    fx_load_parked(fx, FX_PULL);
    fx->sent = known == UINT64_MAX || fx->group > known ? fx->group : known;
    fx->sent = fx->sent == 0 ? 1 : fx->sent;
    fx->group = fx->sent; /* the trigger commits it */
    fx->is_owned = true;
    fx->credit = 0;
    hr_input input = {.kind = HR_IN_BEGIN, .begin = {.feed = FX_PULL, .position = fx->sent}};
    fx_step(fx, &input);
}

void fx_deliver(fixture *fx, uint32_t max) {
    hr_builder builder = {0};
    for (uint32_t i = 0; i < max && fx->credit > 0 && fx->sent < fx->next[FX_PULL]; i++) {
        hr_slice envelope = hr_batch_envelope(fx->journal[FX_PULL][fx->sent].one, 0);
        HR_ASSERT(hr_builder_add(&builder, fx->sent, envelope, NULL) == HR_OK);
        fx->sent++;
        fx->credit--;
    }
    hr_batch *batch = hr_builder_finish(&builder, FX_PULL, 1);
    hr_builder_fini(&builder);
    if (batch != NULL) {
        hr_input input = {.kind = HR_IN_DELIVER, .deliver = {.take_batch = batch}};
        fx_step(fx, &input);
    }
}

void fx_revoke(fixture *fx) {
    fx->is_revoking = true;
    hr_input input = {.kind = HR_IN_REVOKE, .revoke = {.feed = FX_PULL}};
    fx_step(fx, &input);
}

void fx_forget(fixture *fx) {
    hr_input input = {.kind = HR_IN_FORGET, .revoke = {.feed = FX_PULL}};
    fx_step(fx, &input);
}

void fx_other_owner(fixture *fx, uint64_t to) {
    HR_ASSERT(!fx->is_owned && to <= fx->next[FX_PULL]);
    for (uint64_t p = fx->group == 0 ? 1 : fx->group; p < to; p++) {
        for (uint32_t f = 1; f < FX_FUNCTIONS; f++) {
            fx->done[f][FX_PULL][p] = fx->done[f][FX_PULL][p] || fx->takes[f] == FX_PULL;
        }
    }
    fx->group = to > fx->group ? to : fx->group;
}
