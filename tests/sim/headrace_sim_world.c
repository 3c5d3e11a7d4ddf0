/* SPDX-License-Identifier: Apache-2.0 */
/* Events, and the configuration that a seed makes. */
#include "core/envelope.h"
#include "core/memory.h"
#include "tests/sim/headrace_sim.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- events ---- */

uint32_t sim_event_add(sim *s, uint32_t feed, uint32_t key) {
    if (s->event_count + 1 >= s->event_capacity) {
        s->event_capacity = s->event_capacity == 0 ? 512 : s->event_capacity * 2;
        s->events = hr_realloc(s->events, s->event_capacity * sizeof *s->events);
        s->events[0] = (sim_event){0};
    }
    s->events[++s->event_count] = (sim_event){.feed = feed, .key = key};
    return s->event_count;
}

/* What an event carries: a pattern that begins elsewhere for each. */
static hr_slice data_of(uint32_t event) {
    static uint8_t pattern[6000 + 26];
    for (uint32_t i = 0; pattern[0] == 0 && i < sizeof pattern; i++) {
        pattern[sizeof pattern - 1 - i] = (uint8_t)('a' + i * 3 % 26);
    }
    return hr_slice_of(pattern + event * 7 % 26, event % 16 == 0 ? 6000 : 20 + event * 37 % 400);
}

void sim_pack(const sim *s, uint32_t event, uint64_t position, hr_builder *builder) {
    char id[16], key[16];
    snprintf(id, sizeof id, "e%u", event);
    snprintf(key, sizeof key, "k%u", s->events[event].key);
    hr_fields fields = {.id = hr_slice_text(id),
                        .source = hr_slice_text("/sim"),
                        .type = hr_slice_text("sim.event"),
                        .data = data_of(event),
                        .has_data = true};
    if (s->events[event].key != 0) {
        fields.partition_key = hr_slice_text(key);
    }
    HR_ASSERT(hr_builder_pack(builder, position, &fields, NULL) == HR_OK);
}

uint32_t sim_event_of(const sim *s, const hr_batch *batch, uint32_t index) {
    char id[16] = {0};
    hr_slice text = hr_batch_id(batch, index);
    if (text.size < 2 || text.size >= sizeof id || text.bytes[0] != 'e') {
        return 0;
    }
    memcpy(id, text.bytes + 1, text.size - 1);
    uint32_t event = (uint32_t)strtoul(id, NULL, 10);
    if (event == 0 || event > s->event_count) {
        return 0;
    }
    return hr_slice_equal(data_of(event), hr_batch_data(batch, index)) ? event : 0;
}

static uint32_t mix(uint32_t function, uint32_t event) {
    uint32_t x = (event + 1) * 2654435761u ^ (function + 1) * 2246822519u;
    return (x ^ x >> 15) * 2246822519u >> 8;
}

hr_outcome sim_nature(uint32_t function, uint32_t event) {
    uint32_t dice = mix(function, event) % 16;
    return dice == 0 ? HR_OUTCOME_DROP : dice == 1 ? HR_OUTCOME_DEAD : HR_OUTCOME_OK;
}

bool sim_makes_result(const sim *s, uint32_t function, uint32_t event) {
    return s->functions[function].has_takers && mix(function, event) / 16 % 2 == 0 &&
           sim_nature(function, event) == HR_OUTCOME_OK;
}

bool sim_wants(const sim *s, uint32_t function, uint32_t event) {
    uint32_t keep = s->functions[function].keep;
    return keep == 0 || event % keep != 0;
}

static void match(hr_matcher *self, const hr_batch *batch, uint64_t *out_bits) {
    const sim_function *f = (const sim_function *)self;
    memset(out_bits, 0, HR_BATCH_MAX / 8);
    for (uint32_t i = 0; i < batch->count; i++) {
        char id[16] = {0};
        hr_slice text = hr_batch_id(batch, i);
        memcpy(id, text.bytes + 1, text.size - 1 < sizeof id - 1 ? text.size - 1 : sizeof id - 1);
        if (strtoul(id, NULL, 10) % f->keep != 0) {
            out_bits[i / 64] |= (uint64_t)1 << (i % 64);
        }
    }
}

/* ---- the world of a seed ---- */

static void make_function(sim *s, uint32_t index) {
    static const char *const names[SIM_NAMES] = {"one", "two", "three", "four"};
    sim_function *f = &s->functions[index];
    f->exists = f->is_configured = true;
    f->index = f->name_index = index;
    snprintf(f->name, sizeof f->name, "%s", names[index]);
    f->matcher.match = match;
    f->keep = sim_chance(s, 2) == 0 ? 0 : 2 + (uint32_t)sim_chance(s, 3);
    f->policy = (hr_function_policy){
        .name = f->name,
        .lanes = 1 + (uint32_t)sim_chance(s, 4),
        .order = (hr_order)(sim_chance(s, 2) == 0 ? HR_ORDER_KEY : sim_chance(s, 3)),
        .batch_size = 1 + (uint32_t)sim_chance(s, 8),
        .batch_window_ms = sim_chance(s, 4) == 0 ? 20 : 0,
        .timeout_ms = 1000,
        .retry = {.attempts = (uint32_t)sim_chance(s, 6),
                  .min_ms = 10,
                  .max_ms = 1000,
                  .max_age_ms = sim_chance(s, 4) == 0 ? 5000 : -1},
        .parked_max_bytes = sim_chance(s, 8) == 0 ? 4096 : 1u << 30,
        .max_hops = 16};
    for (uint32_t i = 0; i < SIM_PUSH; i++) {
        f->takes |= s->push[i].exists && sim_chance(s, 3) > 0 ? 1u << i : 0;
    }
    for (uint32_t i = 0; i < SIM_PULL; i++) {
        f->takes |= s->pull[i].exists && sim_chance(s, 3) > 0 ? 1u << (SIM_PUSH + i) : 0;
    }
    if (index > 0 && sim_chance(s, 2) == 0) {
        uint32_t from = (uint32_t)sim_chance(s, index);
        f->takes |= 1u << (SIM_PUSH + SIM_PULL + from);
        s->functions[from].has_takers = true;
    }
    f->takes |= s->has_replays ? 1u << (SIM_INJECT + index) : 0;
    if ((f->takes & ((1u << SIM_INJECT) - 1)) == 0 || index == 0) {
        f->takes |= 1; /* the first trigger */
    }
}

void sim_world(sim *s) {
    uint64_t pushes = 1 + sim_chance(s, SIM_PUSH), pulls = sim_chance(s, SIM_PULL + 1);
    uint64_t functions = 1 + sim_chance(s, SIM_NAMES);
    for (uint32_t i = 0; i < pushes; i++) {
        s->push[i] = (sim_push){.exists = true,
                                .dedupes = sim_chance(s, 2) == 0,
                                .max_bytes = sim_chance(s, 4) == 0 ? 32 << 10 : 1u << 30};
        s->push[i].is_cron = i > 0 && sim_chance(s, 3) == 0;
        s->push[i].dedupes = s->push[i].dedupes && !s->push[i].is_cron;
    }
    for (uint32_t i = 0; i < pulls; i++) {
        s->pull[i].exists = s->pull[i].is_made = true;
        sim_slot_at(&s->feeds[SIM_PUSH + i], 0); /* positions begin at 1 */
    }
    s->has_replays = sim_chance(s, 3) == 0;
    s->has_changes = sim_change_chance(s, 3) == 0;
    s->has_fences = sim_change_chance(s, 3) == 0;
    s->function_count = SIM_NAMES;
    for (uint32_t i = 0; i < SIM_NAMES; i++) {
        s->named[i] = i;
    }
    for (uint32_t i = 0; i < functions; i++) {
        make_function(s, i);
    }
    uint32_t taken = 0;
    for (uint32_t i = 0; i < functions; i++) {
        taken |= s->functions[i].takes;
        sim_say(s, "function", i, s->functions[i].takes, s->functions[i].keep,
                (uint64_t)s->functions[i].policy.order);
    }
    for (uint32_t i = 0; i < pulls; i++) { /* no function, no group */
        s->pull[i].exists = (taken >> (SIM_PUSH + i) & 1) != 0;
    }
    s->window = sim_chance(s, 2) == 0 ? 0 : 8;
    s->checkpoint_ns = sim_chance(s, 2) == 0 ? 0 : 10000000;
    s->journal_max_bytes = sim_chance(s, 4) == 0 ? 8 << 10 : UINT64_MAX;
    s->journal_keep_ms = sim_chance(s, 8) == 0 ? 1000 : -1;
    s->wal_max_bytes = (sim_chance(s, 4) == 0 ? 8 : 64) * (uint64_t)s->page_bytes;
    s->now_ns = 1000000000;
    s->real_us = INT64_C(1767225600000000);
    s->ballast_bytes = sim_chance(s, 16) == 0 ? 64 << 10 : 0;
}
