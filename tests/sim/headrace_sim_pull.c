/* SPDX-License-Identifier: Apache-2.0 */
/* A broker with partitions that come and go. */
#include "tests/sim/headrace_sim.h"

void sim_settled(sim *s, uint32_t feed, uint64_t low) {
    sim_pull *p = &s->pull[feed - SIM_PUSH];
    if (!p->is_owned || low < p->group || low > s->feeds[feed].count) {
        sim_break(s, "position %llu was told that cannot be", (unsigned long long)low);
        return;
    }
    if (!s->is_calm && !p->is_revoking && sim_chance(s, 8) == 0) {
        return; /* the commit does not reach the broker */
    }
    for (uint64_t i = p->group; i < low; i++) {
        s->events[s->feeds[feed].slots[i].event].is_acked = true;
        s->acked++;
        s->acks++;
    }
    p->group = low;
}

void sim_produce(sim *s, uint32_t pull, uint32_t count) {
    sim_feed *feed = &s->feeds[SIM_PUSH + pull];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t event = sim_event_add(s, SIM_PUSH + pull, (uint32_t)sim_chance(s, 5));
        sim_slot_at(feed, feed->count)->event = event;
    }
}

void sim_deliver(sim *s, uint32_t pull, uint32_t max) {
    sim_pull *p = &s->pull[pull];
    const sim_feed *feed = &s->feeds[SIM_PUSH + pull];
    hr_builder builder = {0};
    for (uint32_t i = 0; i < max && p->is_owned && p->credit > 0 && p->sent < feed->count; i++) {
        sim_pack(s, feed->slots[p->sent].event, p->sent, &builder);
        p->sent++;
        p->credit--;
    }
    hr_batch *batch = hr_builder_finish(&builder, feed->id, s->real_us);
    hr_builder_fini(&builder);
    if (batch == NULL) {
        return;
    }
    batch->feed = feed->id;
    if (s->mutant == SIM_SETTLES_EARLY && p->sent > p->group) {
        sim_settled(s, SIM_PUSH + pull, p->sent);
    }
    hr_input input = {.kind = HR_IN_DELIVER, .deliver = {.take_batch = batch}};
    sim_step(s, &input);
}

/* Somebody else has the partition for a while and goes on from the group's offset. */
static void other_owner(sim *s, uint32_t pull) {
    sim_pull *p = &s->pull[pull];
    sim_feed *feed = &s->feeds[SIM_PUSH + pull];
    uint64_t from = p->group == 0 ? 1 : p->group;
    uint64_t to = from + sim_chance(s, feed->count - from + 1);
    for (uint64_t i = from; i < to; i++) {
        s->events[feed->slots[i].event].other = UINT8_MAX;
        feed->slots[i].done = UINT8_MAX;
    }
    sim_say(s, "other owner", pull, from, to, 0);
    p->group = to > p->group ? to : p->group;
}

void sim_rebalance(sim *s, uint32_t pull) {
    sim_pull *p = &s->pull[pull];
    uint32_t id = s->feeds[SIM_PUSH + pull].id;
    if (!p->is_owned) {
        if (!s->is_calm && sim_chance(s, 2) == 0) {
            other_owner(s, pull);
        } else {
            sim_allow(s, SIM_PUSH + pull);
            sim_assign(s, pull);
        }
        return;
    }
    sim_allow(s, SIM_PUSH + pull);
    hr_input input = {.kind = p->is_revoking ? HR_IN_FORGET : HR_IN_REVOKE, .revoke = {.feed = id}};
    p->is_revoking = true;
    sim_step(s, &input);
}
