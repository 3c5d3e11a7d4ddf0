/* SPDX-License-Identifier: Apache-2.0 */
/* Whole histories of headrace by seed, with power cuts, kills, errors of the disk and full disks.
 * usage: headrace_sim [--seeds N] [--seed FIRST] [--print SEED] [--controls N]; text on stderr, one
 * JSON line */
#include "tests/sim/headrace_sim.h"

#include "core/log.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ACKED_WANTED = 100,
    TURNS_MAX = 6000,
    ARMED_TURNS = 600,
    DRAIN_TURNS = 20000,
    CONTROL_SEEDS = 40,
    POINTS_SEEDS = 2000 /* from so many on each point was visited */
};
static const uint64_t drain_ns = UINT64_C(3) * 86400 * 1000000000; /* of virtual time */

typedef unsigned long long llu;

static volatile sig_atomic_t must_stop; /* SIGINT: what was run counts */

static void on_interrupt(int signal) {
    (void)signal;
    must_stop = 1;
}

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
        hr_vfs_sim_cut_at(s->disk, 1 + sim_chance(s, 60));
    } else if (how == KILL_AT_CALL) {
        hr_vfs_sim_kill_at(s->disk, 1 + sim_chance(s, 60));
    } else if (how == IO_ERROR) {
        hr_vfs_sim_fail_at(s->disk, 1 + sim_chance(s, 60));
    } else if (how != STOP) {
        bool is_named = sim_chance(s, 2) == 0;
        s->cut_point = is_named ? (uint32_t)sim_chance(s, SIM_AT_CALL) : SIM_POINTS;
        s->cut_after = 1 + sim_chance(s, is_named ? 3 : 60);
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
        s->real_us += jumps_s[sim_chance(s, 6)] * 1000000;
    }
    hr_input input = {.kind = HR_IN_WAKE};
    sim_step(s, &input);
}

static void change_room(sim *s) {
    sim_function *f = &s->functions[sim_chance(s, SIM_FUNCTIONS)];
    if (f->exists) {
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
    if (dice < 40) {
        sim_offer_new(s);
    } else if (dice < 48) {
        sim_offer_again(s);
    } else if (dice < 90 && s->call_count > 0) {
        sim_answer(s, (uint32_t)sim_chance(s, s->call_count));
    } else if (dice < 120 && s->queued > 0) {
        sim_turn(s);
    } else if (dice < 155 && s->mail != NULL) {
        sim_read_mail(s);
    } else if (dice < 160 && has_pull) {
        sim_produce(s, pull, (uint32_t)sim_chance(s, 6));
    } else if (dice < 170 && has_pull) {
        sim_deliver(s, pull, 1 + (uint32_t)sim_chance(s, 6));
    } else if (dice < 174 && has_pull) {
        sim_rebalance(s, pull);
    } else if (dice < 176) {
        change_room(s);
    } else if (dice < 177) {
        fill_disk(s, is_full);
    } else if (dice >= 180) {
        pass_time(s);
    }
}

static void live(sim *s, uint64_t acked_wanted, ending how) {
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
}

/* Starts, though the power may go on the way. */
static bool start(sim *s) {
    for (int tries = 0; tries < 20 && s->broken[0] == '\0'; tries++) {
        if (!s->is_calm && s->acks > 0 && sim_chance(s, 6) == 0) {
            bool is_kill = sim_chance(s, 3) == 0;
            arm(s, is_kill ? KILL_AT_CALL : CUT_AT_CALL);
        }
        if (sim_boot(s)) {
            hr_vfs_sim_cut_at(s->disk, 0);
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
    for (uint32_t f = 0; f < SIM_FUNCTIONS; f++) {
        if (s->functions[f].exists) {
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

typedef struct outcome {
    uint64_t digest;
    char broken[200];
} outcome;

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

static outcome run_seed(hr_vfs_sim *disk, char *dir, uint64_t seed, sim_mutant mutant, bool prints,
                        sim_totals *t) {
    sim *s = hr_alloc(sizeof *s);
    *s = (sim){.seed = seed, .chance = seed, .mutant = mutant, .prints = prints, .disk = disk};
    s->dir = dir;
    s->ballast = hr_format("%s/ballast", dir);
    s->totals = t;
    hr_vfs_sim_reset(disk, seed * 0x9E3779B97F4A7C15u);
    remove(s->ballast);
    sim_world(s);
    uint64_t lives = 1 + sim_chance(s, 4), cut_life = sim_chance(s, lives);
    for (uint64_t i = 0; i < lives && s->broken[0] == '\0'; i++) {
        if (!start(s)) {
            break;
        }
        if (mutant == SIM_WAL_LIES || mutant == SIM_ALL_LIE) {
            hr_vfs_sim_lie(disk, mutant == SIM_WAL_LIES ? "-wal" : "");
        }
        ending how = (ending)sim_chance(s, i == cut_life ? 2 : STOP + 1);
        live(s, ACKED_WANTED / lives + 1 + sim_chance(s, 10), how);
    }
    hr_vfs_sim_lie(disk, NULL);
    if (s->broken[0] == '\0') {
        drain(s);
    }
    outcome out = {.digest = s->digest ^ hr_vfs_sim_digest(disk)};
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

/* ---- all ---- */

static const char *const action_names[] = {"commit", "call",    "cancel",  "durable", "refused",
                                           "want",   "settled", "revoked", "read"};
static const char *const input_names[] = {"offer",  "reject", "deliver", "begin",
                                          "revoke", "forget", "read",    "durable",
                                          "answer", "room",   "wake",    "drain"};
static const char *const call_names[] = {"write db",  "sync db",  "truncate db",  "delete db",
                                         "write wal", "sync wal", "truncate wal", "delete wal"};
static const char *const phase_names[] = {"open", "numbers", "turn", "assign", "close"};

static uint64_t print_points(const sim_totals *t, bool *out_all_named) {
    uint64_t visited = 0;
    *out_all_named = true;
    fputs("ends of a life, by point:", stderr);
    for (uint32_t i = 0; i < SIM_POINTS; i++) {
        if (t->visited[i] == 0) {
            *out_all_named = *out_all_named && i >= SIM_AT_CALL;
            continue;
        }
        visited++;
        if (i < SIM_AT_INPUT) {
            fprintf(stderr, " after-%s %llu,", action_names[i], (llu)t->visited[i]);
        } else if (i < SIM_AT_CALL) {
            fprintf(stderr, " step-%s %llu,", input_names[i - SIM_AT_INPUT], (llu)t->visited[i]);
        } else {
            uint32_t at = i - SIM_AT_CALL;
            fprintf(stderr, " %s in %s %llu,", call_names[at % SIM_DISK_CALLS],
                    phase_names[at / SIM_DISK_CALLS], (llu)t->visited[i]);
        }
    }
    fputs(*out_all_named ? " all steps and actions\n" : " not all steps and actions\n", stderr);
    return visited;
}

static void report(const char *what, const sim_totals *t) {
    fprintf(stderr,
            "%s: seeds %llu, cuts %llu, kills %llu, I/O errors %llu, stops %llu, full disks %llu, "
            "events %llu, acked %llu, calls %llu, lost %llu, duplicates %llu (allowed %llu), "
            "corrupt %llu, drift %llu, broken seeds %llu, longest drain %.1f s\n",
            what, (llu)t->runs, (llu)t->cuts, (llu)t->kills, (llu)t->faults, (llu)t->stops,
            (llu)t->full, (llu)t->events, (llu)t->acked, (llu)t->calls, (llu)t->lost,
            (llu)t->duplicates, (llu)t->allowed, (llu)t->corrupt, (llu)t->drift, (llu)t->broken,
            (double)t->drained_ms_max / 1000);
}

int main(int count, char **arguments) {
    uint64_t seeds = 400, first = 1, only = 0, controls = CONTROL_SEEDS;
    for (int i = 1; i + 1 < count; i += 2) {
        uint64_t value = strtoull(arguments[i + 1], NULL, 10);
        seeds = strcmp(arguments[i], "--seeds") == 0 ? value : seeds;
        first = strcmp(arguments[i], "--seed") == 0 ? value : first;
        only = strcmp(arguments[i], "--print") == 0 ? value : only;
        controls = strcmp(arguments[i], "--controls") == 0 ? value : controls;
    }
    hr_log_set_level((hr_level)(HR_LOG_ERROR + 1)); /* each fault would be a line */
    char *dir = fixture_dir();
    hr_vfs_sim *disk = hr_vfs_sim_new("sim");
    static sim_totals honest, again, mutants[SIM_MUTANTS];
    if (only != 0) {
        outcome out = run_seed(disk, dir, only, SIM_HONEST, true, &honest);
        fprintf(stderr, "seed %llu, digest %016llx: %s\n", (llu)only, (llu)out.digest, out.broken);
        hr_vfs_sim_free(disk);
        fixture_remove(dir);
        return out.broken[0] == '\0' ? 0 : 1;
    }
    bool is_same = true;
    signal(SIGINT, on_interrupt);
    uint64_t printed = 0, bad_seed = 0;
    for (uint64_t seed = first; seed < first + seeds && must_stop == 0; seed++) {
        outcome out = run_seed(disk, dir, seed, SIM_HONEST, false, &honest);
        if (out.broken[0] != '\0') {
            bad_seed = bad_seed == 0 ? seed : bad_seed;
            fprintf(stderr, "seed %llu: %s\n", (llu)seed, out.broken);
            if (printed++ == 0) {
                run_seed(disk, dir, seed, SIM_HONEST, true, &again);
            }
        } else if (seed % 64 == first % 64) { /* to the byte, the disk too */
            outcome twin = run_seed(disk, dir, seed, SIM_HONEST, false, &again);
            is_same = is_same && twin.digest == out.digest;
        }
    }
    report("honest", &honest);
    bool all_named = true;
    uint64_t points = print_points(&honest, &all_named);
    static const char *const names[] = {"", "control, syncs of the WAL lie",
                                        "control, all syncs lie", "control, told before the commit",
                                        "control, offsets moved before the end"};
    bool are_caught = true;
    for (int m = SIM_HONEST + 1; m < SIM_MUTANTS; m++) {
        for (uint64_t i = 0; i < controls; i++) {
            run_seed(disk, dir, first + i, (sim_mutant)m, false, &mutants[m]);
        }
        report(names[m], &mutants[m]);
        are_caught = are_caught && (mutants[m].lost > 0 || controls == 0);
    }
    hr_vfs_sim_free(disk);
    fixture_remove(dir);
    bool is_good = honest.broken == 0 && honest.lost == 0 && honest.corrupt == 0 &&
                   honest.drift == 0 && is_same && are_caught &&
                   (all_named || seeds < POINTS_SEEDS);
    if (!is_same) {
        fputs("a seed did not repeat itself to the byte\n", stderr);
    }
    if (!are_caught) {
        fputs("a control lost nothing: the proof sees nothing\n", stderr);
    }
    printf("{\"proof\":\"sim\",\"runs\":%llu,\"acked\":%llu,\"lost\":%llu,\"duplicates\":%llu,"
           "\"seed\":%llu,\"ok\":%s,\"cuts\":%llu,\"kills\":%llu,\"events\":%llu,\"corrupt\":%llu,"
           "\"drift\":%llu,\"points\":%llu,\"controls_caught\":%s,\"failed_seed\":%llu}\n",
           (llu)honest.runs, (llu)honest.acked, (llu)honest.lost, (llu)honest.duplicates,
           (llu)first, is_good ? "true" : "false", (llu)honest.cuts, (llu)honest.kills,
           (llu)honest.events, (llu)honest.corrupt, (llu)honest.drift, (llu)points,
           are_caught ? "true" : "false", (llu)bad_seed);
    return is_good ? 0 : 1;
}
