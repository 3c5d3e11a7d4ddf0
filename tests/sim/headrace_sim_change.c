/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration between two lives: functions are removed, come back, get other names and take
 * from other feeds (S21). */
#include "tests/sim/headrace_sim.h"

#include <stdio.h>

uint64_t sim_change_chance(sim *s, uint64_t below) {
    uint64_t z = (s->change_chance += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % below;
}

static const uint32_t input_bits = (1u << SIM_INJECT) - 1;

static uint32_t result_bit(const sim_function *f) {
    return 1u << (SIM_RESULTS + f->name_index);
}

/* Who is taken from follows from who takes. */
static void relink(sim *s) {
    uint32_t taken = 0;
    for (uint32_t f = 0; f < s->function_count; f++) {
        taken |= s->functions[f].takes;
    }
    for (uint32_t f = 0; f < s->function_count; f++) {
        sim_function *maker = &s->functions[f];
        maker->has_takers = maker->is_configured && (taken & result_bit(maker)) != 0;
    }
    for (uint32_t i = 0; i < SIM_PULL; i++) {
        s->pull[i].exists = s->pull[i].is_made && (taken >> (SIM_PUSH + i) & 1) != 0;
    }
}

static void leave(sim_function *f, uint32_t bits) {
    f->told &= ~(f->takes & bits);
    f->left |= f->takes & bits;
    f->takes &= ~bits;
}

static void take_up(sim_function *f, uint32_t bits) {
    f->takes |= bits;
    f->given |= f->left & bits;
    f->left &= ~bits;
}

static bool remove_function(sim *s, sim_function *f) {
    uint32_t others = 0;
    for (uint32_t i = 0; i < s->function_count; i++) {
        const sim_function *g = &s->functions[i];
        others += g->is_configured && g != f ? 1 : 0;
        if ((g->takes & result_bit(f)) != 0 && (g->takes & input_bits & ~result_bit(f)) == 0) {
            return false; /* it would take from nothing */
        }
    }
    if (others == 0) {
        return false;
    }
    for (uint32_t i = 0; i < s->function_count; i++) {
        leave(&s->functions[i], result_bit(f));
    }
    f->took = f->takes;
    leave(f, f->takes);
    f->is_configured = false;
    s->totals->removals++;
    return true;
}

/* It takes from what it took from before, as far as that is there. */
static bool bring_back(sim *s, sim_function *f) {
    uint32_t there = ((1u << SIM_RESULTS) - 1) | 1u << (SIM_INJECT + f->name_index);
    for (uint32_t i = 0; i < s->function_count; i++) {
        there |= s->functions[i].is_configured ? result_bit(&s->functions[i]) : 0;
    }
    if (s->function_count == SIM_FUNCTIONS || (f->took & there & input_bits) == 0) {
        return false;
    }
    take_up(f, f->took & there);
    f->is_configured = f->is_back = true;
    s->totals->returns++;
    return true;
}

static bool rename_function(sim *s, sim_function *f) {
    memcpy(f->was, f->name, sizeof f->was);
    snprintf(f->name, sizeof f->name, "name %u.%u", f->name_index, ++f->renames);
    s->totals->renames++;
    return true;
}

/* It takes no more from a feed, or from one more. What it left it does not take up again:
 * whether that were new depends on how far the store is. */
static bool move(sim *s, sim_function *f) {
    uint32_t bit = 1u << sim_change_chance(s, SIM_INJECT), feeds = 0;
    for (uint32_t i = 0; i < SIM_RESULTS; i++) {
        bool exists = i < SIM_PUSH ? s->push[i].exists : s->pull[i - SIM_PUSH].is_made;
        feeds |= exists ? 1u << i : 0;
    }
    if ((f->takes & bit) != 0) {
        if ((f->takes & input_bits & ~bit) == 0) {
            return false;
        }
        leave(f, bit);
    } else if ((feeds & ~(f->left | f->given) & bit) != 0) {
        f->takes |= bit;
        f->late |= bit;
    } else {
        return false;
    }
    s->totals->moves++;
    return true;
}

void sim_change(sim *s) {
    if (!s->has_changes || !s->is_known) {
        return;
    }
    for (uint64_t i = sim_change_chance(s, 8); i > 0; i--) {
        uint64_t dice = sim_change_chance(s, 4);
        uint32_t name = (uint32_t)sim_change_chance(s, SIM_NAMES);
        sim_function *f = &s->functions[s->named[name]];
        bool is_done = false;
        if (!f->exists || f->name_index != name) {
            continue;
        }
        if (!f->is_configured) {
            is_done = bring_back(s, f);
        } else {
            is_done = dice == 0   ? rename_function(s, f)
                      : dice == 1 ? move(s, f)
                                  : remove_function(s, f);
        }
        if (is_done) {
            sim_say(s, "changed", f->index, dice, f->takes, f->left);
            s->is_known = false;
            relink(s);
            return; /* a name that was not seen by the store may not change again */
        }
    }
}

/* What a function had taken from a feed and not ended when it was loaded first without it. */
static void note_left(sim *s, sim_function *f, uint32_t feed) {
    const sim_cursor *c = &s->cursors[f->index][feed];
    uint8_t bit = (uint8_t)(1u << f->index);
    f->told |= 1u << feed;
    if (!c->exists) { /* should it come back, it is new here */
        f->late |= 1u << feed;
        f->start[feed] = 0;
    }
    for (uint64_t p = 1; p < s->feeds[feed].count; p++) {
        sim_slot *slot = &s->feeds[feed].slots[p];
        bool is_its = sim_is_pull(feed) ? (slot->parked & bit) != 0
                                        : p >= sim_first(f, feed) && p < s->next[feed];
        bool is_owed =
            is_its && c->exists && slot->event != 0 && sim_wants(s, f->index, slot->event);
        slot->owed = is_owed ? slot->owed | bit : slot->owed & (uint8_t)~bit;
    }
}

void sim_note_left(sim *s) {
    for (uint32_t f = 0; f < s->function_count; f++) {
        for (uint32_t i = 0; i < SIM_FEEDS; i++) {
            if (((s->functions[f].left & ~s->functions[f].told) >> i & 1) != 0) {
                note_left(s, &s->functions[f], i);
            }
        }
    }
}

/* The store knows a function that was configured again, or had forgotten it: then it is another
 * one, new to all feeds. */
uint32_t sim_function_again(sim *s, uint32_t index, uint32_t id) {
    sim_function *f = &s->functions[index];
    if (f->policy.id != 0 && f->policy.id != id && !f->is_back) {
        sim_break(s, "function %u lost its place with its name", index);
        return index;
    }
    if (f->policy.id == 0 || f->policy.id == id) {
        f->policy.id = id;
        f->is_back = false;
        f->policy.name = f->name;
        return index;
    }
    HR_ASSERT(s->function_count < SIM_FUNCTIONS);
    sim_function *g = &s->functions[s->function_count];
    *g = *f;
    g->index = s->function_count++;
    g->policy.id = id;
    g->policy.name = g->name;
    g->left = g->told = g->given = 0;
    f->is_back = g->is_back = false;
    g->late = UINT32_MAX;
    memset(g->start, 0, sizeof g->start);
    f->left |= f->takes; /* after all; what it owed stays written down */
    f->told |= f->takes;
    f->takes = 0;
    f->is_configured = false;
    s->totals->newcomers++;
    sim_say(s, "newcomer", index, g->index, id, 0);
    return g->index;
}
