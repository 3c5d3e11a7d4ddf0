/* SPDX-License-Identifier: Apache-2.0 */
/* The lives of one seed: they start, run, end by what the seed says, and come to rest. */
#include "tests/sim/headrace_sim.h"

#include "core/memory.h"

#include <stdio.h>

enum {
    ACKED_WANTED = 100,
    LIVES_MAX = 8,
    TURNS_MAX = 6000,
    ARMED_TURNS = 60,
    DRAIN_TURNS = 20000,
    SCRATCH_SEEDS = 16 /* one of so many makes its file itself */
};
static const uint64_t drain_ns = UINT64_C(3) * 86400 * 1000000000; /* of virtual time */

/* Those of the product, and smaller ones: less to write, more that splits and spills. */
enum { SIM_PAGES = 2 };
static const uint32_t page_bytes[SIM_PAGES] = {16384, 4096};

typedef unsigned long long llu;

void sim_visit(sim *s, uint32_t point) {
    HR_ASSERT(point < SIM_POINTS);
    s->totals->visited[point]++;
}

/* ---- a life ---- */

typedef enum ending {
    CUT_AT_CALL,
    CUT_AT_ACTION,
    KILL_AT_CALL,
    KILL_AT_ACTION,
    IO_ERROR,
    STOP
} ending;

static void arm(sim *s, ending how) {
    s->cut_kills = how == KILL_AT_ACTION;
    if (how == CUT_AT_CALL) {
        hr_vfs_sim_cut_at(s->disk, 1 + sim_chance(s, 30));
    } else if (how == KILL_AT_CALL) {
        hr_vfs_sim_kill_at(s->disk, 1 + sim_chance(s, 30));
    } else if (how == IO_ERROR && sim_chance(s, 3) == 0) {
        hr_vfs_sim_fail_read(s->disk, 1 + sim_chance(s, 8));
    } else if (how == IO_ERROR) {
        hr_vfs_sim_fail_at(s->disk, 1 + sim_chance(s, 30));
    } else if (how != STOP) {
        bool is_named = sim_chance(s, 2) == 0;
        s->cut_point = is_named ? (uint32_t)sim_chance(s, SIM_AT_CALL) : SIM_POINTS;
        s->cut_after = 1 + sim_chance(s, is_named ? 2 : 40);
        if (s->cut_point == SIM_AT_ACTION + HR_DO_SETTLED ||
            s->cut_point == SIM_AT_ACTION + HR_DO_REVOKED) {
            s->cut_after = 1; /* they are rare */
        }
    }
}

static void pass_time(sim *s) {
    uint64_t ms = sim_chance(s, 60);
    if (s->wake_ns != UINT64_MAX && s->wake_ns > s->now_ns && sim_chance(s, 3) == 0) {
        ms = (s->wake_ns - s->now_ns) / 1000000 + 1;
    }
    s->now_ns += ms * 1000000;
    s->real_us += (int64_t)ms * 1000;
    if (!s->is_calm && sim_chance(s, 200) == 0) { /* somebody sets the clock */
        static const int64_t jumps_s[] = {5, -5, 3600, -3600, 31536000, -31536000};
        int64_t jump_s = jumps_s[sim_chance(s, 6)];
        s->has_jumped = s->has_jumped || jump_s > 86400 || jump_s < -86400;
        s->real_us += jump_s * 1000000;
    }
    hr_input input = {.kind = HR_IN_WAKE};
    sim_step(s, &input);
}

static void change_room(sim *s) {
    sim_function *f = &s->functions[s->named[sim_chance(s, SIM_NAMES)]];
    if (f->is_configured) {
        hr_input room = {.kind = HR_IN_ROOM,
                         .room = {.function = f->policy.id, .slots = (uint32_t)sim_chance(s, 5)}};
        sim_step(s, &room);
    }
}

static void fill_disk(sim *s, bool *is_full) {
    *is_full = !*is_full;
    s->totals->full += *is_full ? 1 : 0;
    uint64_t room = *is_full ? hr_vfs_sim_used(s->disk) + sim_chance(s, 64 << 10) : UINT64_MAX;
    hr_vfs_sim_set_room(s->disk, room, s->ballast_bytes > 0 ? s->ballast : NULL, s->ballast_bytes);
}

static void something(sim *s, bool *is_full) {
    uint64_t dice = sim_chance(s, 200);
    uint32_t pull = (uint32_t)sim_chance(s, SIM_PULL);
    bool has_pull = s->pull[pull].exists;
    if (s->has_fences && sim_change_chance(s, 50) == 0) {
        sim_fence(s, (uint32_t)sim_change_chance(s, SIM_PULL));
        return;
    }
    if (dice < 40) {
        sim_offer_new(s);
    } else if (dice < 48) {
        sim_offer_again(s);
    } else if (dice < 90 && s->call_count > 0) {
        sim_answer(s, (uint32_t)sim_chance(s, s->call_count));
    } else if (dice < 108 && s->queued > 0) {
        sim_turn(s);
    } else if (dice < 155 && s->mail != NULL) {
        sim_read_mail(s);
    } else if (dice < 160 && has_pull) {
        sim_produce(s, pull, (uint32_t)sim_chance(s, 6));
    } else if (dice < 170 && has_pull) {
        sim_deliver(s, pull, 1 + (uint32_t)sim_chance(s, 6));
    } else if (dice < 174 && has_pull) {
        sim_rebalance(s, pull);
    } else if (dice < 175) {
        change_room(s);
    } else if (dice < 176) {
        sim_replay(s);
    } else if (dice < (*is_full ? 179 : 177)) {
        fill_disk(s, is_full);
    } else if (dice >= 180) {
        pass_time(s);
    }
}

/* false: it ended before its end was armed, since a fault of its start came late. */
static bool live(sim *s, uint64_t acked_wanted, ending how) {
    uint64_t start = s->acked;
    bool is_armed = false, is_full = false;
    int turns = TURNS_MAX;
    for (int i = 0; i < turns && !s->is_over && s->broken[0] == '\0'; i++) {
        if (!is_armed && s->acked - start >= acked_wanted) {
            is_armed = true;
            turns = i + ARMED_TURNS;
            if (how == STOP) {
                uint64_t dice = sim_chance(s, 6);
                if (dice == 0) { /* the power goes while it stops */
                    arm(s, CUT_AT_CALL);
                } else if (dice == 1) {
                    arm(s, CUT_AT_ACTION);
                    s->cut_point = SIM_AT_INPUT + HR_IN_DRAIN;
                    s->cut_after = 1;
                }
                sim_stop(s);
                break;
            }
            arm(s, how);
        }
        something(s, &is_full);
        s->is_over = s->is_over || hr_vfs_sim_is_cut(s->disk);
    }
    if (is_full) {
        fill_disk(s, &is_full);
    }
    if (!s->is_over) { /* it was never reached */
        hr_vfs_sim_cut_now(s->disk, false);
    }
    sim_end(s);
    s->totals->faults += how == IO_ERROR ? 1 : 0;
    s->totals->stops += how == STOP ? 1 : 0;
    return is_armed;
}

/* Starts, though the power may go on the way. */
static bool start(sim *s) {
    sim_change(s);
    for (int tries = 0; tries < 20 && s->broken[0] == '\0'; tries++) {
        if (!s->is_calm && s->acks == 0 && sim_chance(s, 8) == 0) { /* the first: names are new */
            hr_vfs_sim_fail_at(s->disk, 1 + sim_chance(s, 12));
        }
        if (!s->is_calm && s->acks > 0 && sim_chance(s, 6) == 0) {
            uint64_t dice = sim_chance(s, 5);
            if (dice == 0) {
                hr_vfs_sim_fail_read(s->disk, 1 + sim_chance(s, 80));
            } else if (dice == 4) {
                hr_vfs_sim_fail_at(s->disk, 1 + sim_chance(s, 20));
            } else {
                arm(s, dice == 1 ? KILL_AT_CALL : CUT_AT_CALL);
            }
        }
        if (sim_boot(s)) {
            hr_vfs_sim_cut_at(s->disk, 0);
            hr_vfs_sim_fail_at(s->disk, 0);
            hr_vfs_sim_fail_read(s->disk, 0);
            hr_input wake = {.kind = HR_IN_WAKE}; /* first checkpoints, what was left pending */
            sim_step(s, &wake);
            return true;
        }
        sim_end(s);
    }
    sim_break(s, "it never starts");
    return false;
}

/* ---- liveness: the faults are over ---- */

static bool is_at_rest(const sim *s) {
    bool is_done = s->queued == 0 && s->mail == NULL && s->call_count == 0;
    for (uint32_t i = 0; i < SIM_PUSH; i++) {
        is_done = is_done && s->push[i].count == 0;
    }
    for (uint32_t i = 0; i < SIM_PULL; i++) {
        const sim_pull *p = &s->pull[i];
        is_done = is_done && (!p->exists || (p->is_owned && !p->is_revoking &&
                                             p->sent == s->feeds[SIM_PUSH + i].count));
    }
    return is_done && s->wake_ns == UINT64_MAX;
}

static void drain_once(sim *s) {
    while (s->mail != NULL && !s->is_over) {
        sim_read_mail(s);
    }
    for (uint32_t i = 0; i < SIM_PULL; i++) {
        const sim_pull *p = &s->pull[i];
        if (p->exists && (p->is_revoking || !p->is_owned)) {
            sim_rebalance(s, i);
        }
        sim_deliver(s, i, 64);
    }
    for (int i = 0; i < 8; i++) {
        sim_offer_again(s);
    }
    for (uint32_t i = s->call_count; i > 0; i--) {
        sim_answer(s, i - 1);
    }
    sim_turn(s);
    if (s->queued == 0 && s->mail == NULL && s->call_count == 0 && s->wake_ns != UINT64_MAX) {
        uint64_t ms = s->wake_ns > s->now_ns ? (s->wake_ns - s->now_ns) / 1000000 + 1 : 1;
        s->now_ns += ms * 1000000;
        s->real_us += (int64_t)ms * 1000;
        hr_input input = {.kind = HR_IN_WAKE};
        sim_step(s, &input);
    }
}

static void drain(sim *s) {
    s->is_calm = true;
    hr_vfs_sim_set_room(s->disk, UINT64_MAX, NULL, 0);
    if (!start(s)) {
        return;
    }
    for (uint32_t f = 0; f < s->function_count; f++) {
        if (s->functions[f].is_configured) {
            hr_input room = {.kind = HR_IN_ROOM,
                             .room = {.function = s->functions[f].policy.id, .slots = 2}};
            sim_step(s, &room);
        }
    }
    uint64_t began = s->now_ns;
    for (int i = 0; i < DRAIN_TURNS && s->broken[0] == '\0' && !is_at_rest(s); i++) {
        drain_once(s);
        if (s->is_over) {
            sim_break(s, "it stops without a fault");
        }
    }
    if (!is_at_rest(s) || s->now_ns - began > drain_ns) {
        const sim_pull *p = s->pull;
        sim_break(s,
                  "it never comes to rest: queued %llu, calls %u, wake %llu, offers %u %u %u, "
                  "pull 0 %d %llu of %llu, pull 1 %d %llu of %llu",
                  (llu)s->queued, s->call_count, (llu)s->wake_ns, s->push[0].count,
                  s->push[1].count, s->push[2].count, p[0].is_owned, (llu)p[0].sent,
                  (llu)s->feeds[SIM_PUSH].count, p[1].is_owned, (llu)p[1].sent,
                  (llu)s->feeds[SIM_PUSH + 1].count);
    }
    uint64_t ms = (s->now_ns - began) / 1000000;
    s->totals->drained_ms_max = ms > s->totals->drained_ms_max ? ms : s->totals->drained_ms_max;
    sim_stop(s);
    sim_end(s);
    if (s->broken[0] == '\0' && !sim_boot(s)) {
        sim_break(s, "it does not start again");
    }
    if (s->broken[0] == '\0') {
        sim_check_end(s);
    }
    sim_end(s);
}

/* ---- a seed ---- */

void sim_make_templates(hr_vfs_sim *disk, char *dir) {
    for (unsigned i = 0; i < SIM_PAGES; i++) {
        hr_vfs_sim_reset(disk, 1);
        hr_store_options options = {.dir = dir, .vfs = "sim", .page_bytes = page_bytes[i]};
        hr_store *store = NULL;
        hr_error err = {0};
        HR_ASSERT(hr_store_open(&options, &store, &err) == HR_OK);
        hr_store_close(store);
        hr_vfs_sim_keep(disk, i);
    }
}

static void forget(sim *s) {
    for (uint32_t i = 0; i < SIM_FEEDS; i++) {
        hr_free(s->feeds[i].slots);
        for (uint32_t f = 0; f < SIM_FUNCTIONS; f++) {
            hr_buffer_fini(&s->cursors[f][i].settled);
        }
    }
    hr_free(s->events);
    hr_free(s->parked);
    hr_free(s);
}

sim_outcome sim_run_seed(hr_vfs_sim *disk, char *dir, uint64_t seed, sim_mutant mutant,
                         sim_record record, sim_totals *t) {
    sim *s = hr_alloc(sizeof *s);
    *s = (sim){.seed = seed,
               .chance = seed,
               .change_chance = ~seed,
               .mutant = mutant,
               .prints = record == SIM_PRINT,
               .is_hashed = record != SIM_NOTHING,
               .disk = disk};
    s->dir = dir;
    s->ballast = hr_format("%s/ballast", dir);
    s->totals = t;
    hr_vfs_sim_reset(disk, seed * 0x9E3779B97F4A7C15u);
    remove(s->ballast);
    char *verdict = hr_format("%s/damaged", dir); /* of a seed before, that broke */
    remove(verdict);
    hr_free(verdict);
    unsigned pages = sim_chance(s, 8) == 0 ? 0 : 1;
    s->page_bytes = page_bytes[pages];
    if (sim_chance(s, SCRATCH_SEEDS) > 0) {
        hr_vfs_sim_take_kept(disk, pages);
    }
    sim_world(s);
    uint64_t lives = 1 + sim_chance(s, 4), cut_life = sim_chance(s, lives);
    uint64_t wanted = ACKED_WANTED / lives + 1;
    if (mutant == SIM_NAMES_LIE) { /* its names are made at the first start */
        hr_vfs_sim_lie(disk, "/");
    }
    for (uint64_t i = 0; i < lives && s->broken[0] == '\0'; i++) {
        if (!start(s)) {
            break;
        }
        if (mutant == SIM_WAL_LIES || mutant == SIM_ALL_LIE) {
            hr_vfs_sim_lie(disk, mutant == SIM_WAL_LIES ? "-wal" : "");
        }
        ending how = (ending)sim_chance(s, i == cut_life ? 2 : STOP + 1);
        if (!live(s, wanted + sim_chance(s, 10), how) && lives < LIVES_MAX) { /* one instead */
            cut_life += cut_life == i ? 1 : 0;
            lives++;
        }
    }
    hr_vfs_sim_lie(disk, NULL);
    if (s->broken[0] == '\0') {
        drain(s);
    }
    sim_outcome out = {0};
    if (s->is_hashed) { /* of all files: dear */
        out.digest = s->digest ^ hr_vfs_sim_digest(disk);
    }
    memcpy(out.broken, s->broken, sizeof out.broken);
    if (s->broken[0] == '\0' && (s->acked < ACKED_WANTED || s->cuts_after_ack == 0)) {
        snprintf(out.broken, sizeof out.broken, "too little happened: acked %llu, cuts %llu",
                 (llu)s->acked, (llu)s->cuts_after_ack);
    }
    t->runs++;
    t->acked += s->acked;
    t->lost += s->lost;
    t->duplicates += s->duplicates;
    t->allowed += s->allowed;
    t->cuts += s->cuts;
    t->events += s->event_count;
    t->calls += s->calls_made;
    t->broken += out.broken[0] != '\0' ? 1 : 0;
    hr_free(s->ballast);
    forget(s);
    return out;
}
