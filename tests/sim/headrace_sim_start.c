/* SPDX-License-Identifier: Apache-2.0 */
/* A life begins: from the store to a dispatcher, as the engine builds it in the daemon. */
#include "core/memory.h"
#include "tests/sim/headrace_sim.h"

#include <stdio.h>

enum { IDENTITY = 40 };

static int64_t clock_real(void *data) {
    const sim *s = data;
    return s->real_us;
}

static uint64_t clock_mono(void *data) {
    const sim *s = data;
    return s->now_ns;
}

static bool feed_is_used(const sim *s, uint32_t feed) {
    if (feed < SIM_PUSH) {
        return s->push[feed].exists;
    }
    if (feed < SIM_RESULTS) {
        return s->pull[feed - SIM_PUSH].exists;
    }
    const sim_function *f = &s->functions[s->named[(feed - SIM_RESULTS) % SIM_NAMES]];
    return f->is_configured && (feed >= SIM_INJECT ? s->has_replays : f->has_takers);
}

static void print_identity(const sim *s, uint32_t feed, char out[IDENTITY]) {
    if (feed < SIM_RESULTS) {
        snprintf(out, IDENTITY, "feed/%u", feed);
    } else { /* a function that is renamed takes them along */
        snprintf(out, IDENTITY, "%s/%s", feed < SIM_INJECT ? "function" : "inject",
                 s->functions[s->named[(feed - SIM_RESULTS) % SIM_NAMES]].name);
    }
}

hr_code sim_open_feed(sim *s, uint32_t feed, uint32_t *out_epoch, hr_error *err) {
    char identity[IDENTITY];
    print_identity(s, feed, identity);
    return hr_store_feed_open(s->store, sim_is_pull(feed) ? "pull" : "journal", identity,
                              &s->feeds[feed].id, out_epoch, err);
}

static hr_code open_feed(sim *s, uint32_t feed, hr_error *err) {
    return sim_open_feed(s, feed, &s->feeds[feed].epoch, err);
}

/* Where syncs lie a name may be lost, and its number goes to another. */
static hr_code check_numbers(const sim *s, hr_error *err) {
    for (uint32_t i = 0; i < SIM_FEEDS; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (s->feeds[i].id != 0 && s->feeds[i].id == s->feeds[j].id) {
                return hr_fail(err, HR_E_STORE_CORRUPT, 0, "feeds %u and %u have one number", j, i);
            }
        }
    }
    return HR_OK;
}

/* All numbers in one commit, as the engine gets them. A function has that it had, while the store
 * knows it under its name or the one before. Pull feeds too, so that the checks know them by
 * number; the engine does that when it gets them. */
static hr_code open_numbers(sim *s, hr_error *err) {
    hr_store_name names[SIM_NAMES + SIM_FEEDS];
    char identity[SIM_FEEDS][IDENTITY];
    uint32_t of[SIM_NAMES + SIM_FEEDS]; /* its index among names or feeds */
    size_t functions = 0;
    for (uint32_t i = 0; i < SIM_NAMES; i++) {
        const sim_function *f = &s->functions[s->named[i]];
        if (f->is_configured) {
            of[functions] = i;
            names[functions++] = (hr_store_name){.kind = "function",
                                                 .name = f->policy.name,
                                                 .was = f->was[0] == '\0' ? NULL : f->was};
        }
    }
    size_t count = functions;
    for (uint32_t i = 0; i < SIM_FEEDS; i++) {
        if (feed_is_used(s, i)) {
            print_identity(s, i, identity[i]);
            of[count] = i;
            names[count++] =
                (hr_store_name){.kind = sim_is_pull(i) ? "pull" : "journal", .name = identity[i]};
        }
    }
    hr_code code = hr_store_number(s->store, names, count, err);
    for (size_t i = 0; code == HR_OK && i < count; i++) {
        if (i < functions) {
            uint32_t index = s->functions[s->named[of[i]]].index;
            s->named[of[i]] = sim_function_again(s, index, names[i].number);
        } else {
            s->feeds[of[i]].id = names[i].number;
            s->feeds[of[i]].epoch = names[i].epoch;
        }
    }
    return code == HR_OK ? check_numbers(s, err) : code;
}

/* May a function that is new to a feed begin at a position? Not behind what was acknowledged since
 * it is there. */
static void note_start(sim *s, uint32_t function, uint32_t feed, uint64_t start) {
    sim_function *f = &s->functions[function];
    bool may = (f->late >> feed & 1) != 0;
    for (uint64_t p = f->start[feed]; may && p > 0 && p < start && p < s->feeds[feed].count; p++) {
        const sim_slot *slot = &s->feeds[feed].slots[p];
        may = slot->event == 0 || !s->events[slot->event].is_acked || sim_is_pull(feed);
    }
    f->start[feed] = may ? start : f->start[feed];
}

/* As hr_engine_take(). */
static void take(sim *s, uint32_t function, uint32_t feed, bool is_pull) {
    const sim_cursor *c = &s->cursors[function][feed];
    uint32_t id = s->functions[function].policy.id, from = s->feeds[feed].id;
    hr_counters none = {0};
    uint64_t start = s->next[feed] == 0 ? 1 : s->next[feed];
    if (c->exists) {
        hr_dispatch_take(s->dispatch, id, from, c->low, c->low,
                         hr_slice_of(c->settled.bytes, c->settled.size),
                         &s->counters[function][feed]);
    } else {
        if (!is_pull) {
            note_start(s, function, feed, start);
        }
        hr_dispatch_take(s->dispatch, id, from, 0, is_pull ? 0 : start, (hr_slice){0}, &none);
    }
}

static void load_seen(void *data, uint32_t feed, int64_t at_ms, hr_slice hashes) {
    (void)feed; /* one is asked for */
    hr_dedupe_load(data, at_ms, hashes);
}

static hr_code add_journal(sim *s, uint32_t feed, hr_error *err) {
    s->is_added[feed] = true;
    hr_feed_policy policy = {.id = s->feeds[feed].id,
                             .epoch = s->feeds[feed].epoch,
                             .next = s->next[feed] == 0 ? 1 : s->next[feed],
                             .unsettled_bytes = s->unsettled[feed],
                             .max_bytes = 1u << 30,
                             .has_hops = feed >= SIM_PUSH,
                             .has_replays = feed >= SIM_INJECT,
                             .counters = s->counters[SIM_FUNCTIONS][feed]};
    if (feed < SIM_PUSH) {
        policy.max_bytes = s->push[feed].max_bytes;
    }
    if (feed < SIM_PUSH && s->push[feed].dedupes) {
        policy.take_dedupe = hr_dedupe_new(100000, INT64_C(3) * 86400000);
        hr_store_loader loader = {.data = policy.take_dedupe, .seen = load_seen};
        hr_code code = hr_store_load(s->store, policy.id, &loader, err);
        if (code != HR_OK) {
            hr_dedupe_free(policy.take_dedupe);
            return code;
        }
    }
    hr_dispatch_add_feed(s->dispatch, &policy);
    return HR_OK;
}

static hr_code add_left_feed(sim *s, uint32_t feed, hr_error *err) {
    return s->is_added[feed] ? HR_OK : add_journal(s, feed, err);
}

/* As build_removed() and build_left() of the engine. */
static hr_code add_left(sim *s, hr_error *err) {
    hr_code code = HR_OK;
    for (uint32_t f = 0; code == HR_OK && f < s->function_count; f++) {
        sim_function *function = &s->functions[f];
        bool is_removed = !function->is_configured;
        if (is_removed && (function->is_gone || !function->exists)) {
            continue;
        }
        if (is_removed) {
            hr_function_policy policy = {.name = function->name,
                                         .id = function->policy.id,
                                         .lanes = 1,
                                         .batch_size = 1,
                                         .is_removed = true};
            hr_dispatch_add_function(s->dispatch, &policy);
        }
        for (uint32_t i = 0; code == HR_OK && i < SIM_FEEDS; i++) {
            const sim_cursor *c = &s->cursors[f][i];
            if (!c->exists || sim_is_pull(i) || (function->takes >> i & 1) != 0) {
                continue;
            }
            code = add_left_feed(s, i, err);
            hr_slice settled = hr_slice_of(c->settled.bytes, c->settled.size);
            if (code == HR_OK && is_removed) {
                take(s, f, i, false);
            } else if (code == HR_OK) {
                hr_dispatch_take_no_more(s->dispatch, function->policy.id, s->feeds[i].id, c->low,
                                         settled, &s->counters[f][i]);
            }
        }
    }
    return code;
}

/* As build_away() of the engine. */
static hr_code add_away(sim *s, hr_error *err) {
    hr_code code = HR_OK;
    for (uint32_t i = SIM_PUSH; code == HR_OK && i < SIM_PUSH + SIM_PULL; i++) {
        size_t row = 0;
        while (row < s->parked_count && s->parked[row].feed != s->feeds[i].id) {
            row++;
        }
        if (s->feeds[i].id == 0 || row == s->parked_count) {
            continue;
        }
        code = open_feed(s, i, err);
        if (code != HR_OK) {
            return code;
        }
        hr_feed_policy policy = {
            .id = s->feeds[i].id, .pull = true, .is_away = true, .epoch = s->feeds[i].epoch};
        hr_dispatch_add_feed(s->dispatch, &policy);
        for (uint32_t f = 0; f < s->function_count; f++) {
            if (s->cursors[f][i].exists && s->functions[f].is_configured) {
                take(s, f, i, true);
            }
        }
    }
    return code;
}

static hr_code build(sim *s, hr_error *err) {
    hr_dispatch_options options = {.note = sim_check_note,
                                   .note_data = s,
                                   .dead_count = s->dead_count,
                                   .window_events = s->window,
                                   .window_bytes = s->seed % 8 == 3 ? 2500 : 0,
                                   .queue_bytes = s->seed % 8 == 3 ? 700 : 0,
                                   .checkpoint_ns = s->checkpoint_ns};
    s->dispatch = hr_dispatch_new(&options);
    hr_code code = HR_OK;
    memset(s->is_added, 0, sizeof s->is_added);
    for (uint32_t i = 0; code == HR_OK && i < SIM_FEEDS; i++) {
        if (feed_is_used(s, i) && !sim_is_pull(i)) {
            code = add_journal(s, i, err);
        }
    }
    for (uint32_t f = 0; code == HR_OK && f < s->function_count; f++) {
        sim_function *function = &s->functions[f];
        if (!function->is_configured) {
            continue;
        }
        uint32_t results = SIM_RESULTS + function->name_index;
        function->policy.matcher = function->keep == 0 ? NULL : &function->matcher;
        function->policy.result_feed = function->has_takers ? s->feeds[results].id : 0;
        hr_dispatch_add_function(s->dispatch, &function->policy);
        for (uint32_t i = 0; i < SIM_FEEDS; i++) {
            if ((function->takes >> i & 1) != 0 && !sim_is_pull(i)) {
                take(s, f, i, false);
            }
        }
    }
    code = code == HR_OK ? add_left(s, err) : code;
    code = code == HR_OK ? add_away(s, err) : code;
    for (size_t i = 0; code == HR_OK && i < s->parked_count; i++) {
        hr_dispatch_load_parked(s->dispatch, &s->parked[i]);
    }
    return code;
}

static hr_code open_store(sim *s, hr_error *err) {
    hr_store_options options = {.dir = s->dir,
                                .vfs = "sim",
                                .ballast_bytes = s->ballast_bytes,
                                .journal_max_bytes = s->journal_max_bytes,
                                .journal_keep_ms = s->journal_keep_ms,
                                .dead_max_age_ms = -1,
                                .page_bytes = s->page_bytes,
                                .lags = s->seed % 2 == 1,
                                .wal_max_bytes = s->wal_max_bytes,
                                .real_us = clock_real,
                                .mono_ns = clock_mono,
                                .clock_data = s};
    s->phase = SIM_IN_OPEN;
    hr_code code = hr_store_open(&options, &s->store, err);
    if (code != HR_OK) {
        s->store = NULL;
        return code;
    }
    s->phase = SIM_IN_NUMBERS;
    return open_numbers(s, err);
}

bool sim_boot(sim *s) {
    hr_error err = {0};
    s->is_over = s->is_told = false;
    s->mail_end = &s->mail;
    s->queued = 0;
    s->ending_count = 0;
    s->wake_ns = UINT64_MAX;
    hr_code code = open_store(s, &err);
    code = code == HR_OK ? sim_load(s, 0, &err) : code;
    if (code == HR_OK) {
        sim_note_left(s);
        sim_check_start(s, false);
        code = hr_vfs_sim_has_failed_read(s->disk) ? HR_E_STORE_IO : build(s, &err);
    }
    code = code == HR_OK ? hr_store_start(s->store, &err) : code;
    if (code != HR_OK || sim_is_dead(s)) {
        if (!hr_vfs_sim_is_cut(s->disk) && code != HR_E_STORE_IO && code != HR_E_STORE_FULL &&
            code != HR_E_STORE_STOPPED) {
            sim_break(s, "it does not start: %s", err.text);
        }
        s->is_over = true;
        return false;
    }
    s->is_known = true;
    sim_sources_restart(s);
    for (uint32_t f = 0; f < s->function_count && !s->is_over; f++) {
        if (s->functions[f].is_configured) {
            hr_input room = {.kind = HR_IN_ROOM,
                             .room = {.function = s->functions[f].policy.id,
                                      .slots = 1 + (uint32_t)sim_chance(s, 4)}};
            sim_step(s, &room);
        }
    }
    return !s->is_over;
}

/* While a function was away the group's offset went on: what stands between is not its own. */
static void pass_over(sim *s, uint32_t feed) {
    for (uint32_t f = 0; f < s->function_count; f++) {
        const sim_cursor *c = &s->cursors[f][feed];
        bool was_away = (s->functions[f].given & s->functions[f].takes) >> feed & 1;
        for (uint64_t p = c->low;
             was_away && c->exists && p < s->pull[feed - SIM_PUSH].sent && p < s->feeds[feed].count;
             p++) {
            sim_slot *slot = &s->feeds[feed].slots[p];
            if (slot->event != 0 && !sim_is_passed(c, p)) {
                slot->done |= (uint8_t)(1u << f);
                s->events[slot->event].other |= (uint8_t)(1u << f);
            }
        }
    }
}

/* As assign() and begin() of the engine's host, S17: from the larger of what store and group know.
 */
bool sim_assign(sim *s, uint32_t pull) {
    hr_error err = {0};
    uint32_t feed = SIM_PUSH + pull;
    sim_pull *p = &s->pull[pull];
    s->phase = SIM_IN_ASSIGN;
    while (s->queued > 0 && !sim_is_dead(s)) { /* its elders come first */
        hr_store_turn(s->store);
    }
    s->phase = SIM_IN_ASSIGN;
    hr_code code = sim_is_dead(s) ? HR_E_STORE_IO : open_feed(s, feed, &err);
    code = code == HR_OK ? sim_load(s, s->feeds[feed].id, &err) : code;
    if (code != HR_OK) { /* full: the source asks again */
        s->is_over = s->is_over || code != HR_E_STORE_FULL;
        return false;
    }
    hr_feed_policy policy = {.id = s->feeds[feed].id, .pull = true, .epoch = s->feeds[feed].epoch};
    hr_dispatch_add_feed(s->dispatch, &policy);
    uint64_t known = UINT64_MAX;
    for (uint32_t f = 0; f < s->function_count; f++) {
        const sim_cursor *c = &s->cursors[f][feed];
        if ((s->functions[f].takes >> feed & 1) == 0) {
            if (c->exists && s->functions[f].is_configured) {
                hr_dispatch_leave(s->dispatch, s->functions[f].policy.id, s->feeds[feed].id);
            }
            continue;
        }
        take(s, f, feed, true);
        known = c->exists && c->low < known ? c->low : known;
    }
    for (size_t i = 0; i < s->parked_count; i++) {
        hr_dispatch_load_parked(s->dispatch, &s->parked[i]);
    }
    for (uint64_t i = 0; i < s->feeds[feed].count; i++) {
        s->feeds[feed].slots[i].running = 0;
    }
    p->sent = known == UINT64_MAX || p->group > known ? p->group : known;
    p->sent = p->sent == 0 ? 1 : p->sent;
    p->group = p->sent;
    pass_over(s, feed);
    for (uint32_t f = 0; f < s->function_count; f++) {
        if ((s->functions[f].takes >> feed & 1) != 0 && !s->cursors[f][feed].exists) {
            note_start(s, f, feed, p->sent);
        }
    }
    p->is_owned = true;
    p->credit = 0;
    sim_say(s, "assigned", feed, p->sent, known, s->parked_count);
    hr_input input = {.kind = HR_IN_BEGIN,
                      .begin = {.feed = s->feeds[feed].id, .position = p->sent}};
    sim_step(s, &input);
    return true;
}
