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
        s->events[event].position = feed->count;
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

/* ---- somebody else opens a feed that we still hold (S5, S17) ---- */

/* What the store has of a feed, by function. */
typedef struct holding {
    sim *sim;
    uint32_t feed;
    bool exists[SIM_FUNCTIONS];
    uint64_t end[SIM_FUNCTIONS], sum[SIM_FUNCTIONS]; /* no position from end on is passed */
    sim_cursor cursors[SIM_FUNCTIONS];
    hr_counters counters[SIM_FUNCTIONS];
    hr_buffer parked[SIM_FUNCTIONS]; /* positions */
} holding;

static void hold_checkpoint(void *data, uint32_t function, uint32_t feed, uint64_t low,
                            hr_slice settled, const hr_counters *counters) {
    (void)feed;
    holding *h = data;
    if (function == 0) {
        return;
    }
    uint32_t f = sim_function_index(h->sim, function);
    h->exists[f] = h->cursors[f].exists = true;
    h->cursors[f].low = low;
    h->counters[f] = *counters;
    hr_buffer_add_slice(&h->cursors[f].settled, settled);
    h->end[f] = low;
    for (uint64_t p = low; p < h->sim->feeds[h->feed].count; p++) {
        h->end[f] = sim_is_passed(&h->cursors[f], p) ? p + 1 : h->end[f];
    }
    h->sum[f] = hr_hash_more(h->sum[f], hr_slice_of(&low, sizeof low));
    h->sum[f] = hr_hash_more(h->sum[f], settled);
}

static void hold_parked(void *data, const hr_row *row) {
    holding *h = data;
    uint32_t f = sim_function_index(h->sim, row->function);
    uint64_t line[] = {row->position, row->state, row->attempt, (uint64_t)row->due_ms};
    h->sum[f] = hr_hash_more(h->sum[f], hr_slice_of(line, sizeof line));
    hr_buffer_add(&h->parked[f], &row->position, sizeof row->position);
}

static bool hold(sim *s, uint32_t feed, holding *h) {
    hr_error err = {0};
    hr_store_loader loader = {.data = h, .checkpoint = hold_checkpoint, .parked = hold_parked};
    *h = (holding){.sim = s, .feed = feed};
    return hr_store_load(s->store, s->feeds[feed].id, &loader, &err) == HR_OK;
}

static void hold_free(holding *h) {
    for (uint32_t f = 0; f < SIM_FUNCTIONS; f++) {
        hr_buffer_fini(&h->cursors[f].settled);
        hr_buffer_fini(&h->parked[f]);
    }
}

static void owner_done(hr_unit *unit, hr_code result) {
    sim *s = unit->owner;
    unit->result = result;
    s->is_owner_unsure = s->is_owner_unsure || result == HR_E_STORE_IO; /* seed 700157 */
    s->owner_units_out--;
}

static bool has_parked(const holding *h, uint32_t f, uint64_t position) {
    const uint8_t *at = h->parked[f].bytes, *end = at + h->parked[f].size;
    uint64_t each = 0;
    for (; at != end && each != position; at += sizeof each) {
        memcpy(&each, at, sizeof each);
    }
    return each == position;
}

/* The other handles what it finds up to somewhere, for one function, and writes that down. */
static void handle(sim *s, const holding *h, uint32_t f, uint32_t epoch) {
    sim_feed *feed = &s->feeds[h->feed];
    uint64_t left = feed->count > h->end[f] ? feed->count - h->end[f] : 0;
    uint64_t to = h->end[f] + sim_change_chance(s, left + 1), more = 0;
    uint8_t bit = (uint8_t)(1u << f);
    for (uint64_t p = h->cursors[f].low; p < to; p++) {
        if (sim_is_passed(&h->cursors[f], p) || has_parked(h, f, p)) {
            continue;
        }
        s->events[feed->slots[p].event].other |= bit;
        feed->slots[p].done |= bit;
        more++;
    }
    hr_unit *unit = &s->owner_units[f];
    *unit = (hr_unit){.function = s->functions[f].policy.id,
                      .feed = feed->id,
                      .epoch = epoch,
                      .has_checkpoint = true,
                      .low = to,
                      .counters = h->counters[f],
                      .done = owner_done,
                      .owner = s};
    unit->counters.deliveries += more;
    unit->counters.delivered += more;
    s->owner_units_out++;
    hr_store_submit(s->store, unit);
}

void sim_fence(sim *s, uint32_t pull) {
    sim_pull *p = &s->pull[pull];
    uint32_t feed = SIM_PUSH + pull, epoch = 0;
    hr_error err = {0};
    holding before, after;
    if (!p->exists || p->is_fenced || s->owner_units_out > 0) {
        return;
    }
    s->phase = SIM_IN_ASSIGN;
    hr_code code = sim_open_feed(s, feed, &epoch, &err);
    if (code != HR_OK) { /* full: another time */
        s->is_over = s->is_over || code != HR_E_STORE_FULL;
        return;
    }
    s->totals->fences++;
    p->is_fenced = true;
    p->has_sums = false;
    s->is_owner_unsure = false;
    sim_allow(s, feed);
    sim_say(s, "fence", feed, epoch, 0, 0);
    bool is_read = hold(s, feed, &before);
    for (uint32_t f = 0; f < s->function_count; f++) { /* it hands nothing out before (S17) */
        bool takes = (s->functions[f].takes >> feed & 1) != 0;
        is_read = is_read && (!takes || before.exists[f]);
    }
    for (uint32_t f = 0; is_read && f < s->function_count; f++) {
        bool takes = (s->functions[f].takes >> feed & 1) != 0;
        if (takes && sim_change_chance(s, 4) > 0) {
            handle(s, &before, f, epoch);
        }
    }
    for (int i = 0; i < 100 && s->owner_units_out > 0 && !sim_is_dead(s); i++) {
        sim_turn(s);
    }
    hold_free(&before);
    if (!sim_is_dead(s) && !s->is_owner_unsure) {
        p->has_sums = hold(s, feed, &after);
        memcpy(p->sums, after.sum, sizeof p->sums);
        hold_free(&after);
    }
}

void sim_check_fence(sim *s, uint32_t only) {
    for (uint32_t i = 0; i < SIM_PULL; i++) {
        sim_pull *p = &s->pull[i];
        uint32_t feed = SIM_PUSH + i;
        holding now;
        if (!p->is_fenced || (only != 0 && only != s->feeds[feed].id)) {
            continue;
        }
        bool can = p->has_sums && hold(s, feed, &now);
        for (uint32_t f = 0; can && f < s->function_count; f++) {
            if ((s->functions[f].takes >> feed & 1) != 0 && p->sums[f] != now.sum[f]) {
                sim_break(s, "feed %u: a former owner wrote what the newer one did not for %u",
                          feed, f);
            }
        }
        if (can) {
            hold_free(&now);
        }
        p->is_fenced = false;
    }
}
