/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine does in the daemon: from the store to a dispatcher, from actions to deeds. */
#include "core/memory.h"
#include "tests/sim/headrace_sim.h"

#include <stdio.h>

static int64_t clock_real(void *data) {
    const sim *s = data;
    return s->real_us;
}

static uint64_t clock_mono(void *data) {
    const sim *s = data;
    return s->now_ns;
}

/* Did the disk end this life? */
static bool is_dead(sim *s) {
    if (hr_vfs_sim_is_cut(s->disk)) {
        s->is_over = true;
    }
    return s->is_over;
}

/* ---- mail: between the end of a commit and the loop ---- */

static void post(sim *s, hr_unit *unit, hr_read *read, hr_code result) {
    sim_mail *mail = hr_alloc(sizeof *mail);
    *mail = (sim_mail){.unit = unit, .read = read, .result = result};
    *s->mail_end = mail;
    s->mail_end = &mail->next;
    s->queued--;
}

static void unit_done(hr_unit *unit, hr_code result) {
    post(unit->owner, unit, NULL, result);
}

typedef struct sim_read_box {
    hr_read read; /* first */
    sim *sim;
    uint64_t *positions;
} sim_read_box;

static void read_done(hr_read *read) {
    sim_read_box *box = (sim_read_box *)read;
    post(box->sim, NULL, read, read->result);
}

static void free_read(hr_read *read) {
    sim_read_box *box = (sim_read_box *)read;
    hr_read_fini(read);
    hr_free(box->positions);
    hr_free(box);
}

static sim_mail *take_mail(sim *s) {
    sim_mail *mail = s->mail;
    s->mail = mail->next;
    if (s->mail == NULL) {
        s->mail_end = &s->mail;
    }
    return mail;
}

void sim_read_mail(sim *s) {
    if (s->mail == NULL) {
        return;
    }
    sim_mail *mail = take_mail(s);
    hr_input input = {.kind = HR_IN_DURABLE,
                      .durable = {.unit = mail->unit, .result = mail->result}};
    if (mail->unit != NULL) {
        hr_unit *unit = mail->unit;
        if (mail->result ==
            HR_E_STORE_IO) {     /* the daemon stops: see on_unit_done() of the engine */
            *s->mail_end = mail; /* freed with the rest */
            s->mail_end = &mail->next;
            mail->next = NULL;
            s->is_over = true;
            return;
        }
        bool is_odd = mail->result != HR_OK && mail->result != HR_E_STORE_FULL &&
                      mail->result != HR_E_FENCED && mail->result != HR_E_STOPPING;
        if (is_odd) {
            sim_break(s, "a unit of function %u was refused: %s", unit->function,
                      hr_code_meaning(mail->result));
        }
        sim_say(s, "ended", unit->function, unit->feed, (uint64_t)mail->result, unit->append_count);
        if (mail->result == HR_OK) {
            sim_check_unit(s, unit);
        }
        sim_step(s, &input);
    } else {
        hr_read *read = mail->read;
        hr_batch *batch = read->batch;
        read->batch = NULL;
        input = (hr_input){.kind = HR_IN_READ,
                           .read = {.function = read->function,
                                    .feed = read->feed,
                                    .parked = read->kind == HR_READ_PARKED,
                                    .result = read->result,
                                    .take_batch = batch,
                                    .corrupt = read->corrupt,
                                    .corrupt_count = read->corrupt_count,
                                    .from = read->from,
                                    .at_end = read->at_end}};
        s->totals->corrupt += read->corrupt_count;
        sim_say(s, "read", read->function, read->feed, batch == NULL ? 0 : batch->count,
                (uint64_t)read->result);
        sim_step(s, &input);
        free_read(read);
    }
    hr_free(mail);
}

void sim_turn(sim *s) {
    s->phase = SIM_IN_TURN;
    size_t ended = hr_store_turn(s->store);
    sim_say(s, "turn", ended, s->queued, hr_vfs_sim_calls(s->disk), 0);
    is_dead(s);
}

/* ---- actions ---- */

static void commit(sim *s, hr_unit *unit) {
    unit->owner = s;
    unit->done = unit_done;
    s->queued++;
    hr_store_submit(s->store, unit);
}

static void run_read(sim *s, const hr_action *act) {
    sim_read_box *box = hr_alloc(sizeof *box);
    *box = (sim_read_box){.sim = s};
    box->read = (hr_read){.kind = act->read.parked ? HR_READ_PARKED : HR_READ_JOURNAL,
                          .function = act->function,
                          .feed = act->feed,
                          .from = act->read.from,
                          .max = act->read.max,
                          .done = read_done};
    if (act->read.parked) {
        size_t size = act->read.position_count * sizeof *box->positions;
        box->positions = hr_alloc(size);
        memcpy(box->positions, act->read.positions, size);
        box->read.positions = box->positions;
        box->read.position_count = act->read.position_count;
    }
    s->queued++;
    hr_store_read(s->store, &box->read);
}

static void cancel(sim *s, const hr_call *call) {
    for (uint32_t i = 0; i < s->call_count; i++) {
        s->calls[i].is_cancelled = s->calls[i].is_cancelled || s->calls[i].call == call;
    }
}

static void act_on(sim *s, const hr_action *act) {
    switch (act->kind) {
    case HR_DO_COMMIT:
        if (s->mutant == SIM_ACKS_EARLY && (act->unit->flags & HR_UNIT_INTAKE) != 0 &&
            sim_feed_index(s, act->unit->feed) < SIM_PUSH) {
            hr_action early = {.kind = HR_DO_DURABLE, .feed = act->unit->feed};
            early.ticket.last = s->push[sim_feed_index(s, act->unit->feed)].ticket;
            sim_source_told(s, &early);
        }
        commit(s, act->unit);
        return;
    case HR_DO_CALL:
        HR_ASSERT(s->call_count < SIM_CALLS);
        sim_check_call(s, act->call);
        s->calls[s->call_count++] = (sim_call){.call = act->call};
        return;
    case HR_DO_CANCEL:
        cancel(s, act->call);
        return;
    case HR_DO_READ:
        run_read(s, act);
        return;
    case HR_DO_DURABLE:
    case HR_DO_REFUSED:
    case HR_DO_WANT:
    case HR_DO_SETTLED:
    case HR_DO_REVOKED:
        sim_source_told(s, act);
        return;
    }
}

/* Units whose submission the end of the life came before. */
static void drop_commits(sim *s, const hr_output *out, size_t from) {
    for (size_t i = from; i < out->count; i++) {
        if (out->actions[i].kind == HR_DO_COMMIT) {
            s->queued++;
            post(s, out->actions[i].unit, NULL, HR_E_STOPPING);
        }
    }
}

/* Is this where the life was to end? */
static bool cut_here(sim *s, uint32_t point) {
    bool counts = s->cut_point == SIM_POINTS || s->cut_point == point;
    if (!counts || s->cut_after == 0 || --s->cut_after > 0) {
        return false;
    }
    sim_visit(s, point);
    hr_vfs_sim_cut_now(s->disk, s->cut_kills);
    s->is_over = true;
    return true;
}

void sim_step(sim *s, hr_input *input) {
    input->now_ns = s->now_ns;
    input->real_us = s->real_us;
    input->chance = sim_chance(s, UINT64_MAX);
    hr_output out = {0};
    hr_dispatch_step(s->dispatch, input, &out);
    s->wake_ns = out.wake_ns;
    s->totals->steps++;
    if (s->is_told) {
        drop_commits(s, &out, 0);
        return;
    }
    for (size_t i = 0; i < out.count; i++) {
        hr_action act = out.actions[i];
        sim_say(s, "do", (uint64_t)act.kind, act.function, act.feed, 0);
        act_on(s, &act);
        if (cut_here(s, SIM_AT_ACTION + (uint32_t)act.kind)) {
            drop_commits(s, &out, i + 1);
            return;
        }
    }
    cut_here(s, SIM_AT_INPUT + (uint32_t)input->kind);
}

/* ---- a life ---- */

static void load_feed(void *data, uint32_t feed, const char *kind, const char *identity,
                      uint64_t next_position, uint64_t unsettled_bytes, int64_t last_fire_us) {
    (void)kind, (void)identity;
    sim *s = data;
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

static hr_code load(sim *s, uint32_t only, hr_error *err) {
    hr_store_loader loader = {.data = s,
                              .feed = load_feed,
                              .checkpoint = load_checkpoint,
                              .parked = load_parked,
                              .dead = only == 0 ? load_dead : NULL};
    s->parked_count = 0;
    for (uint32_t i = 0; i < SIM_FEEDS; i++) {
        bool is_it = only == 0 || s->feeds[i].id == only;
        for (uint64_t p = 0; is_it && p < s->feeds[i].count; p++) {
            s->feeds[i].slots[p].parked = 0;
        }
        for (uint32_t f = 0; is_it && f < SIM_FUNCTIONS; f++) {
            s->cursors[f][i].exists = false;
        }
    }
    return hr_store_load(s->store, only, &loader, err);
}

static bool feed_is_used(const sim *s, uint32_t feed) {
    if (feed < SIM_PUSH) {
        return s->push[feed].exists;
    }
    if (feed >= SIM_INJECT) {
        return s->has_replays && s->functions[feed - SIM_INJECT].exists;
    }
    feed -= SIM_PUSH;
    return feed < SIM_PULL ? s->pull[feed].exists : s->functions[feed - SIM_PULL].has_takers;
}

static hr_code open_feed(sim *s, uint32_t feed, hr_error *err) {
    bool is_pull = feed >= SIM_PUSH && feed < SIM_PUSH + SIM_PULL;
    char identity[32];
    snprintf(identity, sizeof identity, "feed/%u", feed);
    return hr_store_feed_open(s->store, is_pull ? "pull" : "journal", identity, &s->feeds[feed].id,
                              &s->feeds[feed].epoch, err);
}

/* Pull feeds too, so that the checks know them by number; the engine does that when it gets them.
 */
static hr_code open_numbers(sim *s, hr_error *err) {
    hr_code code = HR_OK;
    for (uint32_t i = 0; code == HR_OK && i < SIM_FEEDS; i++) {
        s->feeds[i].id = 0;
        code = feed_is_used(s, i) ? open_feed(s, i, err) : HR_OK;
    }
    for (uint32_t i = 0; code == HR_OK && i < SIM_FUNCTIONS; i++) {
        if (s->functions[i].exists) {
            code = hr_store_function_open(s->store, s->functions[i].policy.name, NULL,
                                          &s->functions[i].policy.id, err);
        }
    }
    return code;
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
        hr_dispatch_take(s->dispatch, id, from, 0, is_pull ? 0 : start, (hr_slice){0}, &none);
    }
}

typedef struct seen_loader {
    uint32_t feed;
    hr_dedupe *dedupe;
} seen_loader;

static void load_seen(void *data, uint32_t feed, int64_t at_ms, hr_slice hashes) {
    const seen_loader *loader = data;
    for (size_t at = 0; feed == loader->feed && at + sizeof(hr_seen) <= hashes.size;
         at += sizeof(hr_seen)) {
        hr_seen seen;
        memcpy(&seen, hashes.bytes + at, sizeof seen);
        hr_dedupe_add(loader->dedupe, seen, at_ms);
    }
}

static hr_code add_journal(sim *s, uint32_t feed, hr_error *err) {
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
        seen_loader seen = {.feed = policy.id, .dedupe = policy.take_dedupe};
        hr_store_loader loader = {.data = &seen, .seen = load_seen};
        hr_code code = hr_store_load(s->store, 0, &loader, err);
        if (code != HR_OK) {
            hr_dedupe_free(policy.take_dedupe);
            return code;
        }
    }
    hr_dispatch_add_feed(s->dispatch, &policy);
    return HR_OK;
}

/* As build_away() of the engine. */
static hr_code add_away(sim *s, hr_error *err) {
    hr_code code = HR_OK;
    for (uint32_t i = SIM_PUSH; code == HR_OK && i < SIM_PUSH + SIM_PULL; i++) {
        size_t row = 0;
        while (row < s->parked_count && s->parked[row].feed != s->feeds[i].id) {
            row++;
        }
        if (!feed_is_used(s, i) || row == s->parked_count) {
            continue;
        }
        code = open_feed(s, i, err);
        if (code != HR_OK) {
            return code;
        }
        hr_feed_policy policy = {
            .id = s->feeds[i].id, .pull = true, .is_away = true, .epoch = s->feeds[i].epoch};
        hr_dispatch_add_feed(s->dispatch, &policy);
        for (uint32_t f = 0; f < SIM_FUNCTIONS; f++) {
            if (s->cursors[f][i].exists) {
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
                                   .checkpoint_ns = s->checkpoint_ns};
    s->dispatch = hr_dispatch_new(&options);
    hr_code code = HR_OK;
    for (uint32_t i = 0; code == HR_OK && i < SIM_FEEDS; i++) {
        bool is_pull = i >= SIM_PUSH && i < SIM_PUSH + SIM_PULL;
        if (feed_is_used(s, i) && !is_pull) {
            code = add_journal(s, i, err);
        }
    }
    for (uint32_t f = 0; code == HR_OK && f < SIM_FUNCTIONS; f++) {
        sim_function *function = &s->functions[f];
        if (!function->exists) {
            continue;
        }
        uint32_t results = SIM_PUSH + SIM_PULL + f;
        function->policy.matcher = function->keep == 0 ? NULL : &function->matcher;
        function->policy.result_feed = function->has_takers ? s->feeds[results].id : 0;
        hr_dispatch_add_function(s->dispatch, &function->policy);
        for (uint32_t i = 0; i < SIM_FEEDS; i++) {
            bool is_pull = i >= SIM_PUSH && i < SIM_PUSH + SIM_PULL;
            if ((function->takes >> i & 1) != 0 && !is_pull) {
                take(s, f, i, false);
            }
        }
    }
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
    code = code == HR_OK ? load(s, 0, &err) : code;
    if (code == HR_OK) {
        sim_check_start(s, false);
        code = hr_vfs_sim_has_failed_read(s->disk) ? HR_E_STORE_IO : build(s, &err);
    }
    code = code == HR_OK ? hr_store_start(s->store, &err) : code;
    if (code != HR_OK || is_dead(s)) {
        if (!hr_vfs_sim_is_cut(s->disk) && code != HR_E_STORE_IO && code != HR_E_STORE_FULL) {
            sim_break(s, "it does not start: %s", err.text);
        }
        s->is_over = true;
        return false;
    }
    sim_sources_restart(s);
    for (uint32_t f = 0; f < SIM_FUNCTIONS && !s->is_over; f++) {
        if (s->functions[f].exists) {
            hr_input room = {.kind = HR_IN_ROOM,
                             .room = {.function = s->functions[f].policy.id,
                                      .slots = 1 + (uint32_t)sim_chance(s, 4)}};
            sim_step(s, &room);
        }
    }
    return !s->is_over;
}

static void visit_call(sim *s) {
    if (hr_vfs_sim_is_cut(s->disk) && hr_vfs_sim_cut_call(s->disk) >= 0) {
        sim_visit(s, SIM_AT_CALL + SIM_DISK_CALLS * (uint32_t)s->phase +
                         (uint32_t)hr_vfs_sim_cut_call(s->disk));
    }
}

void sim_end(sim *s) {
    s->cut_after = 0;
    s->totals->read_faults += hr_vfs_sim_has_failed_read(s->disk) ? 1 : 0;
    bool was_cut = hr_vfs_sim_is_cut(s->disk);
    if (was_cut || s->store == NULL) {
        visit_call(s);
    }
    if (s->store != NULL) {
        s->phase = SIM_IN_CLOSE;
        hr_store_close(s->store);
        s->store = NULL;
        if (!was_cut) {
            visit_call(s);
        }
    }
    s->is_told = true;
    if (s->dispatch != NULL) {
        hr_input drain = {.kind = HR_IN_DRAIN};
        sim_step(s, &drain);
    }
    while (s->mail != NULL) {
        sim_mail *mail = take_mail(s);
        if (mail->read != NULL) {
            free_read(mail->read);
        } else {
            hr_input input = {.kind = HR_IN_DURABLE,
                              .durable = {.unit = mail->unit, .result = HR_E_STOPPING}};
            sim_step(s, &input);
        }
        hr_free(mail);
    }
    hr_dispatch_free(s->dispatch);
    s->dispatch = NULL;
    sim_allow(s, SIM_FEEDS);
    for (uint32_t i = 0; i < SIM_FEEDS; i++) {
        for (uint64_t p = 0; p < s->feeds[i].count; p++) {
            s->feeds[i].slots[p].running = 0;
        }
    }
    s->call_count = 0;
    if (hr_vfs_sim_is_cut(s->disk)) {
        bool is_kill = hr_vfs_sim_is_kill(s->disk);
        s->totals->kills += is_kill ? 1 : 0;
        s->cuts += is_kill ? 0 : 1;
        s->cuts_after_ack += !is_kill && s->acks > 0 ? 1 : 0;
        hr_vfs_sim_restart(s->disk);
    }
    hr_vfs_sim_cut_at(s->disk, 0);
    hr_vfs_sim_fail_at(s->disk, 0);
    hr_vfs_sim_fail_read(s->disk, 0);
}

/* Triggers are quiet, what runs may end, what is settled is committed. */
void sim_stop(sim *s) {
    hr_input drain = {.kind = HR_IN_DRAIN};
    sim_step(s, &drain);
    for (int i = 0; i < 50 && !s->is_over && !hr_dispatch_is_idle(s->dispatch); i++) {
        if (s->call_count > 0 && sim_chance(s, 2) == 0) {
            sim_answer(s, (uint32_t)sim_chance(s, s->call_count));
        }
        if (!s->is_over) {
            sim_turn(s);
        }
        while (s->mail != NULL && !s->is_over) {
            sim_read_mail(s);
        }
    }
    s->is_over = true;
}

/* As assign() and begin() of the engine's host, S17: from the larger of what store and group know.
 */
bool sim_assign(sim *s, uint32_t pull) {
    hr_error err = {0};
    uint32_t feed = SIM_PUSH + pull;
    sim_pull *p = &s->pull[pull];
    s->phase = SIM_IN_ASSIGN;
    while (s->queued > 0 && !is_dead(s)) { /* its elders come first */
        hr_store_turn(s->store);
    }
    s->phase = SIM_IN_ASSIGN;
    hr_code code = is_dead(s) ? HR_E_STORE_IO : open_feed(s, feed, &err);
    code = code == HR_OK ? load(s, s->feeds[feed].id, &err) : code;
    if (code != HR_OK) { /* full: the source asks again */
        s->is_over = s->is_over || code != HR_E_STORE_FULL;
        return false;
    }
    hr_feed_policy policy = {.id = s->feeds[feed].id, .pull = true, .epoch = s->feeds[feed].epoch};
    hr_dispatch_add_feed(s->dispatch, &policy);
    uint64_t known = UINT64_MAX;
    for (uint32_t f = 0; f < SIM_FUNCTIONS; f++) {
        if ((s->functions[f].takes >> feed & 1) == 0) {
            continue;
        }
        take(s, f, feed, true);
        const sim_cursor *c = &s->cursors[f][feed];
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
    p->is_owned = true;
    p->credit = 0;
    sim_say(s, "assigned", feed, p->sent, known, s->parked_count);
    hr_input input = {.kind = HR_IN_BEGIN,
                      .begin = {.feed = s->feeds[feed].id, .position = p->sent}};
    sim_step(s, &input);
    return true;
}
