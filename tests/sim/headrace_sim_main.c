/* SPDX-License-Identifier: Apache-2.0 */
/* Whole histories of headrace by seed, with power cuts, kills, errors of the disk and full disks.
 * usage: headrace_sim [--seeds N] [--seed FIRST] [--jobs N] [--controls N] [--print SEED]; text on
 * stderr, one JSON line. Each job is a process with every N-th seed. */
#include "core/log.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"
#include "tests/sim/headrace_sim.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    JOBS_MAX = 64,
    CONTROL_SEEDS = 40,
    CONTROLS_MORE = 20,   /* so many times those at most */
    TWIN_SEEDS = 64,      /* one of so many runs twice */
    CHANGES_SEEDS = 2000, /* from so many on each kind of change was met */
    POINTS_SEEDS = 20000, /* and each point was visited, rare as it may be */
    PROGRESS_S = 60
};

typedef unsigned long long llu;

/* What a job has done, in memory that all share. */
typedef struct job {
    pid_t process;
    sim_totals honest, again, mutants[SIM_MUTANTS];
    uint64_t seed, bad_seed; /* it is at; the first that failed (0: none) */
    uint64_t next;           /* the first that it has not run; 0: none */
    bool is_same;
} job;

typedef struct board {
    _Atomic bool must_stop; /* SIGINT, or a job died: what was run is told, and is not all */
    atomic_uint printed;
    uint64_t seeds, first, controls;
    uint32_t job_count;
    job jobs[JOBS_MAX];
} board;

static board *all;

static void on_interrupt(int signal) {
    if (signal == SIGINT) {
        all->must_stop = true;
    }
}

/* ---- a job ---- */

static void run_honest(job *j, hr_vfs_sim *disk, char *dir, uint64_t seed) {
    j->seed = seed;
    bool has_twin = (seed - all->first) % TWIN_SEEDS == 0;
    sim_record record = has_twin ? SIM_DIGEST : SIM_NOTHING;
    sim_outcome out = sim_run_seed(disk, dir, seed, SIM_HONEST, record, &j->honest);
    if (out.broken[0] != '\0') {
        j->bad_seed = j->bad_seed == 0 ? seed : j->bad_seed;
        fprintf(stderr, "seed %llu: %s\n", (llu)seed, out.broken);
        if (all->printed++ == 0) {
            sim_run_seed(disk, dir, seed, SIM_HONEST, SIM_PRINT, &j->again);
        }
    } else if (has_twin) { /* to the byte, the disk too */
        sim_outcome twin = sim_run_seed(disk, dir, seed, SIM_HONEST, record, &j->again);
        j->is_same = j->is_same && twin.digest == out.digest;
    }
}

static void run_job(uint32_t number) {
    job *j = &all->jobs[number];
    char *dir = fixture_dir();
    hr_vfs_sim *disk = hr_vfs_sim_new("sim");
    j->is_same = true;
    sim_make_templates(disk, dir);
    for (uint64_t i = number; i < all->seeds; i += all->job_count) {
        j->next = all->first + i;
        if (all->must_stop) {
            break;
        }
        run_honest(j, disk, dir, all->first + i);
        j->next = 0;
    }
    for (int m = SIM_HONEST + 1; m < SIM_MUTANTS; m++) {
        const sim_totals *found = &j->mutants[m];
        uint64_t most = all->controls; /* and more, where these do not lose yet */
        for (uint64_t i = number; i < most && !all->must_stop; i += all->job_count) {
            j->seed = all->first + i;
            sim_run_seed(disk, dir, j->seed, (sim_mutant)m, SIM_NOTHING, &j->mutants[m]);
            most = found->lost == 0 ? all->controls * CONTROLS_MORE : all->controls;
        }
    }
    hr_vfs_sim_free(disk);
    fixture_remove(dir);
}

/* ---- all ---- */

static const char *const action_names[] = {"commit", "call",    "cancel",  "durable", "refused",
                                           "want",   "settled", "revoked", "read"};
static const char *const input_names[] = {"offer",  "reject", "deliver", "begin",
                                          "revoke", "forget", "read",    "durable",
                                          "answer", "room",   "wake",    "drain"};
static const char *const call_names[SIM_DISK_CALLS] = {
    "write db",  "sync db",  "truncate db",  "delete db",  "rename db",
    "write wal", "sync wal", "truncate wal", "delete wal", NULL};
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
            "%s: seeds %llu, cuts %llu, kills %llu, I/O errors %llu (in a read %llu), stops %llu, "
            "full disks %llu, "
            "fires %llu, replays %llu, "
            "events %llu, acked %llu, calls %llu, lost %llu, duplicates %llu (allowed %llu), "
            "corrupt %llu, drift %llu, broken seeds %llu, longest drain %.1f s; functions removed "
            "%llu, back %llu (new %llu), renamed %llu, feeds left or taken %llu, letters `removed` "
            "%llu; feeds opened by others %llu, units fenced %llu\n",
            what, (llu)t->runs, (llu)t->cuts, (llu)t->kills, (llu)t->faults, (llu)t->read_faults,
            (llu)t->stops, (llu)t->full, (llu)t->fires, (llu)t->replays, (llu)t->events,
            (llu)t->acked, (llu)t->calls, (llu)t->lost, (llu)t->duplicates, (llu)t->allowed,
            (llu)t->corrupt, (llu)t->drift, (llu)t->broken, (double)t->drained_ms_max / 1000,
            (llu)t->removals, (llu)t->returns, (llu)t->newcomers, (llu)t->renames, (llu)t->moves,
            (llu)t->removed_letters, (llu)t->fences, (llu)t->fenced_units);
}

static void add(sim_totals *to, const sim_totals *more) {
    uint64_t *sum = (uint64_t *)to;
    const uint64_t *each = (const uint64_t *)more;
    uint64_t most = to->drained_ms_max;
    for (size_t i = 0; i < sizeof *to / sizeof *sum; i++) {
        sum[i] += each[i];
    }
    to->drained_ms_max = more->drained_ms_max > most ? more->drained_ms_max : most;
}

static double seconds_since(const struct timespec *start) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

static void print_progress(const struct timespec *start) {
    uint64_t runs = 0, lost = 0, broken = 0;
    for (uint32_t i = 0; i < all->job_count; i++) {
        runs += all->jobs[i].honest.runs;
        lost += all->jobs[i].honest.lost;
        broken += all->jobs[i].honest.broken;
    }
    fprintf(stderr, "%.0f s: seeds %llu, lost %llu, broken seeds %llu\n", seconds_since(start),
            (llu)runs, (llu)lost, (llu)broken);
}

/* Runs all jobs to their end. false: one died. */
static bool run_all(const struct timespec *start) {
    for (uint32_t i = 0; i < all->job_count; i++) {
        pid_t process = fork();
        if (process == 0) {
            signal(SIGALRM, SIG_IGN);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            run_job(i);
            exit(0);
        }
        HR_ASSERT(process > 0);
        all->jobs[i].process = process;
    }
    bool all_well = true;
    alarm(PROGRESS_S);
    for (uint32_t left = all->job_count; left > 0;) {
        int status = 0;
        pid_t ended = waitpid(-1, &status, 0);
        if (ended < 0 && errno == EINTR) {
            print_progress(start);
            alarm(PROGRESS_S);
            continue;
        }
        HR_ASSERT(ended > 0);
        left--;
        for (uint32_t i = 0; status != 0 && i < all->job_count; i++) {
            if (all->jobs[i].process == ended) {
                fprintf(stderr, "seed %llu: the process died, status %d\n", (llu)all->jobs[i].seed,
                        status);
                all->jobs[i].bad_seed = all->jobs[i].seed;
                all->must_stop = true;
                all_well = false;
            }
        }
    }
    alarm(0);
    return all_well;
}

static int print_seed(uint64_t seed) {
    static sim_totals totals;
    char *dir = fixture_dir();
    hr_vfs_sim *disk = hr_vfs_sim_new("sim");
    sim_make_templates(disk, dir);
    sim_outcome out = sim_run_seed(disk, dir, seed, SIM_HONEST, SIM_PRINT, &totals);
    fprintf(stderr, "seed %llu, digest %016llx: %s\n", (llu)seed, (llu)out.digest, out.broken);
    hr_vfs_sim_free(disk);
    fixture_remove(dir);
    return out.broken[0] == '\0' ? 0 : 1;
}

#ifdef HEADRACE_MUTANTS
static const bool must_control = false; /* with a fault in all seeds, by tests/prove/mutants */
#else
static const bool must_control = true;
#endif

/* What is wrong besides broken seeds is said; the line of JSON too. */
static int conclude(bool all_well, double seconds) {
    static sim_totals honest, again, mutants[SIM_MUTANTS];
    uint64_t bad_seed = 0, next_seed = all->first + all->seeds;
    bool is_same = true, is_whole = !all->must_stop;
    for (uint32_t i = 0; i < all->job_count; i++) {
        const job *j = &all->jobs[i];
        add(&honest, &j->honest);
        add(&again, &j->again);
        for (int m = 0; m < SIM_MUTANTS; m++) {
            add(&mutants[m], &j->mutants[m]);
        }
        bad_seed =
            bad_seed == 0 || (j->bad_seed != 0 && j->bad_seed < bad_seed) ? j->bad_seed : bad_seed;
        is_same = is_same && j->is_same;
        next_seed = j->next != 0 && j->next < next_seed ? j->next : next_seed;
    }
    is_whole = is_whole && honest.runs == all->seeds;
    report("honest", &honest);
    bool all_named = true;
    uint64_t points = print_points(&honest, &all_named);
    static const char *const names[] = {"",
                                        "control, syncs of the WAL lie",
                                        "control, all syncs lie",
                                        "control, syncs of the folder lie",
                                        "control, told before the commit",
                                        "control, offsets moved before the end"};
    bool are_caught = true;
    for (int m = SIM_HONEST + 1; m < SIM_MUTANTS; m++) {
        report(names[m], &mutants[m]);
        uint64_t seen = mutants[m].lost + (m == SIM_ALL_LIE ? mutants[m].corrupt : 0);
        are_caught = are_caught && (seen > 0 || !must_control);
    }
    bool all_changed = honest.counted > 0 && honest.removals > 0 && honest.newcomers > 0 &&
                       honest.renames > 0 && honest.removed_letters > 0 && honest.fenced_units > 0;
    bool is_good = all_well && is_whole && honest.broken == 0 && honest.lost == 0 &&
                   honest.corrupt == 0 && honest.drift == 0 && is_same && are_caught &&
                   (all_changed || honest.runs < CHANGES_SEEDS) &&
                   (all_named || honest.runs < POINTS_SEEDS);
    if (!is_same) {
        fputs("a seed did not repeat itself to the byte\n", stderr);
    }
    if (!is_whole) {
        fprintf(stderr, "not whole: go on with --seed %llu\n", (llu)next_seed);
    }
    if (!are_caught) {
        fputs("a control lost nothing: the proof sees nothing\n", stderr);
    }
    fprintf(stderr, "%.1f s, %u jobs, %.0f seeds/s\n", seconds, all->job_count,
            (double)honest.runs / seconds);
    printf("{\"proof\":\"sim\",\"runs\":%llu,\"acked\":%llu,\"lost\":%llu,\"duplicates\":%llu,"
           "\"seed\":%llu,\"ok\":%s,\"cuts\":%llu,\"kills\":%llu,\"events\":%llu,\"corrupt\":%llu,"
           "\"drift\":%llu,\"functions_counted\":%llu,\"points\":%llu,\"controls_caught\":%s,"
           "\"failed_seed\":%llu,"
           "\"whole\":%s,\"next_seed\":%llu,\"seconds\":%.1f}\n",
           (llu)honest.runs, (llu)honest.acked, (llu)honest.lost, (llu)honest.duplicates,
           (llu)all->first, is_good ? "true" : "false", (llu)honest.cuts, (llu)honest.kills,
           (llu)honest.events, (llu)honest.corrupt, (llu)honest.drift, (llu)honest.counted,
           (llu)points, are_caught ? "true" : "false", (llu)bad_seed, is_whole ? "true" : "false",
           (llu)next_seed, seconds);
    return is_good ? 0 : 1;
}

int main(int count, char **arguments) {
    uint64_t seeds = 400, first = 1, only = 0, controls = CONTROL_SEEDS,
             jobs = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 1; i + 1 < count; i += 2) {
        uint64_t value = strtoull(arguments[i + 1], NULL, 10);
        seeds = strcmp(arguments[i], "--seeds") == 0 ? value : seeds;
        first = strcmp(arguments[i], "--seed") == 0 ? value : first;
        jobs = strcmp(arguments[i], "--jobs") == 0 ? value : jobs;
        controls = strcmp(arguments[i], "--controls") == 0 ? value : controls;
        only = strcmp(arguments[i], "--print") == 0 ? value : only;
    }
    hr_log_set_level((hr_level)(HR_LOG_ERROR + 1)); /* each fault would be a line */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);             /* the same pages for every seed */
    hr_vfs_sim_one_thread();
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    if (only != 0) {
        return print_seed(only);
    }
    all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    HR_ASSERT(all != MAP_FAILED);
    all->seeds = seeds;
    all->first = first;
    all->controls = controls;
    all->job_count = (uint32_t)(jobs == 0 ? 1 : jobs < JOBS_MAX ? jobs : JOBS_MAX);
    struct sigaction interrupt = {.sa_handler = on_interrupt}; /* interrupts a wait */
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGALRM, &interrupt, NULL);
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    bool all_well = run_all(&start);
    return conclude(all_well, seconds_since(&start));
}
