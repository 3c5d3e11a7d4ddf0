/* SPDX-License-Identifier: Apache-2.0 */
/* What the store tells at a start, or when a pull feed comes. */
#include "core/memory.h"
#include "tests/sim/headrace_sim.h"

bool sim_knows_feed(const sim *s, uint32_t id) {
    uint32_t i = 0;
    while (i < SIM_FEEDS && s->feeds[i].id != id) {
        i++;
    }
    return i < SIM_FEEDS;
}

bool sim_knows_function(const sim *s, uint32_t id) {
    uint32_t i = 0;
    while (i < s->function_count && id != 0 && s->functions[i].policy.id != id) {
        i++;
    }
    return i < s->function_count;
}

static void load_feed(void *data, uint32_t feed, const char *kind, const char *identity,
                      uint64_t next_position, uint64_t unsettled_bytes, int64_t last_fire_us) {
    (void)kind;
    sim *s = data;
    if (!sim_knows_feed(s, feed)) {
        sim_break(s, "the store has a feed that nobody opened: %s", identity);
        return;
    }
    uint32_t at = sim_feed_index(s, feed);
    s->next[at] = next_position;
    s->unsettled[at] = unsettled_bytes;
    if (at < SIM_PUSH) {
        s->push[at].last_fire = last_fire_us == INT64_MIN ? 0 : last_fire_us;
    }
}

static void load_checkpoint(void *data, uint32_t function, uint32_t feed, uint64_t low,
                            hr_slice settled, const hr_counters *counters) {
    sim *s = data;
    if (!sim_knows_feed(s, feed) || !sim_knows_function(s, function)) {
        return;
    }
    uint32_t at = sim_feed_index(s, feed);
    uint32_t row = function == 0 ? SIM_FUNCTIONS : sim_function_index(s, function);
    s->counters[row][at] = *counters;
    if (function != 0) {
        sim_cursor *c = &s->cursors[row][at];
        c->exists = true;
        c->low = low;
        c->settled.size = 0;
        hr_buffer_add_slice(&c->settled, settled);
    }
}

static void load_parked(void *data, const hr_row *row) {
    sim *s = data;
    if (!sim_knows_feed(s, row->feed) || !sim_knows_function(s, row->function)) {
        return;
    }
    s->parked = hr_realloc(s->parked, (s->parked_count + 1) * sizeof *s->parked);
    s->parked[s->parked_count++] = *row;
    sim_feed *feed = &s->feeds[sim_feed_index(s, row->feed)];
    sim_slot_at(feed, row->position)->parked |=
        (uint8_t)(1u << sim_function_index(s, row->function));
}

static void load_dead(void *data, uint64_t count) {
    sim *s = data;
    s->dead_count = count;
}

static void load_function(void *data, uint32_t function, const char *name, bool removed) {
    sim *s = data;
    if (!sim_knows_function(s, function)) {
        sim_break(s, "the store has a function that nobody opened: %s", name);
        return;
    }
    s->functions[sim_function_index(s, function)].is_gone = removed;
}

hr_code sim_load(sim *s, uint32_t only, hr_error *err) {
    hr_store_loader loader = {.data = s,
                              .feed = load_feed,
                              .function = only == 0 ? load_function : NULL,
                              .checkpoint = load_checkpoint,
                              .parked = load_parked,
                              .dead = only == 0 ? load_dead : NULL};
    s->parked_count = 0;
    for (uint32_t i = 0; i < SIM_FEEDS; i++) {
        bool is_it = only == 0 || s->feeds[i].id == only;
        for (uint64_t p = 0; is_it && p < s->feeds[i].count; p++) {
            s->feeds[i].slots[p].parked = 0;
        }
        for (uint32_t f = 0; is_it && f < s->function_count; f++) {
            s->cursors[f][i].exists = false;
        }
    }
    hr_code code = hr_store_load(s->store, only, &loader, err);
    if (code == HR_OK) {
        sim_check_fence(s, only);
    }
    return code;
}
