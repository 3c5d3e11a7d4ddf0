/* SPDX-License-Identifier: Apache-2.0 */
/* Power cuts in the store, by seed: what was acknowledged is there whole, nothing is there in part.
 *
 * Three actors write numbered units: an append of a trigger, a function's checkpoint with rows and
 * results, a pull feed's checkpoint with rows. After a cut the number each actor's last durable
 * unit has says what must be in every table, and it must not be below the last acknowledged one.
 * usage: test_powercut [--seeds N] [--first SEED]; progress on stderr. SIGINT: what was run is
 * told, and is not all. */
#include "broker/store.h"
#include "core/log.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"
#include "tests/sim/vfs_sim.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    ACTORS = 3,
    UNITS = 4096,
    DATA = 200,
    EVENTS_WANTED = 100, /* before the first cut */
    CUTS_WANTED = 4,
    PROGRESS_S = 60,
    SCRATCH_SEEDS = 16 /* one of so many makes its file itself, the others begin with one */
};

static volatile sig_atomic_t must_stop;

static void on_interrupt(int signal) {
    (void)signal;
    must_stop = 1;
}

typedef struct totals {
    uint64_t seeds, cuts, acked, lost, corrupt, seeds_hit;
} totals;

/* A unit's appended events: [from, from + count). */
typedef struct piece {
    uint64_t from;
    uint32_t count;
} piece;

typedef struct actor {
    uint32_t function, feed, epoch, journal;
    uint64_t sent, acked, durable; /* numbers of units, from 1 */
    uint64_t next;                 /* position in journal */
    piece pieces[UNITS];
} actor;

typedef struct run {
    hr_vfs_sim *sim;
    hr_store *store;
    const char *dir;
    actor actors[ACTORS];
    uint64_t acked_events, problems_lost, problems_corrupt;
    bool is_strict, lags; /* lags: a commit is written before the one before it is synced */
} run;

typedef struct job {
    hr_unit unit;
    hr_row rows[3];
    hr_batch *batch;
    actor *actor;
    run *run;
    uint64_t number;
    struct job *next;
} job;

static uint64_t chance(run *r, uint64_t below) {
    return hr_vfs_sim_chance(r->sim) % below;
}

static void ended(hr_unit *unit, hr_code result) {
    job *j = unit->data;
    if (result == HR_OK) {
        HR_ASSERT(j->number == j->actor->acked + 1);
        j->actor->acked = j->number;
        j->run->acked_events += j->actor->pieces[j->number].count;
    }
    hr_batch_unref(j->batch);
    hr_free(j);
}

static void submit(run *r, actor *a) {
    job *j = hr_alloc(sizeof *j);
    uint64_t n = ++a->sent;
    HR_ASSERT(n < UNITS);
    *j = (job){.actor = a, .run = r, .number = n};
    j->unit = (hr_unit){.function = a->function, .feed = a->feed, .epoch = a->epoch};
    j->unit.done = ended;
    j->unit.data = j;
    j->unit.rows = j->rows;
    if (a->function != 0) {
        j->unit.counters = (hr_counters){.malformed = n, .delivered = n};
    }
    if (a->journal != 0) {
        a->pieces[n] = (piece){.from = a->next, .count = 1 + (uint32_t)chance(r, 16)};
        j->batch = fixture_batch(a->journal, a->next, a->pieces[n].count, DATA);
        a->next += a->pieces[n].count;
        j->unit.appends = &j->batch;
        j->unit.append_count = 1;
    }
    if (a->function == 0) {
        j->unit.flags = HR_UNIT_INTAKE;
    } else {
        j->unit.has_checkpoint = true;
        j->unit.low = n;
        hr_slice id = hr_slice_text("an id");
        j->rows[0] = (hr_row){.kind = HR_ROW_DEAD,
                              .function = a->function,
                              .feed = a->feed,
                              .position = n,
                              .bytes = id,
                              .event_id = id};
        j->rows[1] = j->rows[0];
        j->rows[1].kind = HR_ROW_PARK;
        j->rows[2] = j->rows[1];
        j->rows[2].kind = HR_ROW_UNPARK; /* of the unit before: one row is there at any time */
        j->rows[2].position = n - 1;
        j->unit.row_count = 3;
    }
    hr_store_submit(r->store, &j->unit);
}

/* ---- the oracle ---- */

typedef struct seen {
    run *run;
    uint64_t low[ACTORS], parked[ACTORS], parked_position[ACTORS], next[ACTORS];
} seen;

static void on_feed(void *data, uint32_t feed, const char *kind, const char *identity,
                    uint64_t next, uint64_t unsettled, int64_t fire) {
    (void)kind, (void)identity, (void)unsettled, (void)fire;
    seen *s = data;
    for (size_t i = 0; i < ACTORS; i++) {
        s->next[i] = s->run->actors[i].journal == feed ? next : s->next[i];
    }
}

/* The unit whose events end there. */
static uint64_t unit_of(const actor *a, uint64_t events) {
    uint64_t n = 0;
    while (n < a->sent && a->pieces[n].from + a->pieces[n].count < events + 1) {
        n++;
    }
    return events == 0 ? 0 : n;
}

static void on_checkpoint(void *data, uint32_t function, uint32_t feed, uint64_t low,
                          hr_slice settled, const hr_counters *counters) {
    (void)settled;
    seen *s = data;
    for (size_t i = 0; i < ACTORS; i++) {
        const actor *a = &s->run->actors[i];
        if (a->function == function && a->feed == feed) {
            s->low[i] = function == 0 ? unit_of(a, counters->received) : counters->malformed;
            s->run->problems_corrupt += function != 0 && low != counters->malformed ? 1 : 0;
        }
    }
}

static void on_parked(void *data, const hr_row *row) {
    seen *s = data;
    for (size_t i = 0; i < ACTORS; i++) {
        if (s->run->actors[i].function == row->function && row->function != 0) {
            s->parked[i]++;
            s->parked_position[i] = row->position;
        }
    }
}

/* The journal of an actor holds exactly the events of its units up to number. */
static void check_journal(run *r, const actor *a, uint64_t number) {
    uint64_t want = 1, end = 1;
    for (uint64_t n = 1; n <= number && n <= a->sent; n++) {
        end = a->pieces[n].from + a->pieces[n].count;
    }
    for (bool at_end = false; !at_end;) {
        hr_read read = {.kind = HR_READ_JOURNAL, .feed = a->journal, .from = want};
        fixture_read(r->store, &read);
        r->problems_corrupt += read.result != HR_OK || read.corrupt_count > 0 ? 1 : 0;
        at_end = read.at_end || read.batch == NULL;
        for (uint32_t i = 0; read.batch != NULL && i < read.batch->count; i++) {
            bool is_right = read.batch->position[i] == want && want < end &&
                            fixture_is_whole(read.batch, i, DATA);
            r->problems_corrupt += is_right ? 0 : 1;
            want++;
        }
        hr_read_fini(&read);
    }
    r->problems_corrupt += want == end ? 0 : 1;
}

static void check_dead(run *r, const actor *a, uint64_t number) {
    hr_read read = {.kind = HR_READ_DEAD, .function = a->function, .max = UNITS + 1};
    fixture_read(r->store, &read);
    bool is_right = read.result == HR_OK && read.found_count == number;
    for (size_t i = 0; is_right && i < read.found_count; i++) {
        is_right = read.found[i].origin_position == i + 1;
    }
    r->problems_corrupt += is_right ? 0 : 1;
    hr_read_fini(&read);
}

static uint64_t events_between(const actor *a, uint64_t after, uint64_t up_to) {
    uint64_t sum = 0;
    for (uint64_t n = after + 1; n <= up_to; n++) {
        sum += a->journal == 0 ? 1 : a->pieces[n].count;
    }
    return sum;
}

static void check(run *r) {
    seen s = {.run = r};
    hr_store_loader loader = {
        .data = &s, .feed = on_feed, .checkpoint = on_checkpoint, .parked = on_parked};
    if (hr_store_load(r->store, 0, &loader, NULL) != HR_OK) {
        r->problems_corrupt++;
        return;
    }
    for (size_t i = 0; i < ACTORS; i++) {
        actor *a = &r->actors[i];
        uint64_t number = s.low[i];
        if (number < a->acked) {
            r->problems_lost += events_between(a, number, a->acked);
        }
        if (number > a->sent) {
            r->problems_corrupt++;
            continue;
        }
        if (a->journal != 0) {
            check_journal(r, a, number);
            r->problems_corrupt +=
                number > 0 && s.next[i] != a->pieces[number].from + a->pieces[number].count ? 1 : 0;
            a->next = s.next[i];
        }
        if (a->function != 0) {
            check_dead(r, a, number);
            bool is_right =
                number == 0 ? s.parked[i] == 0 : s.parked[i] == 1 && s.parked_position[i] == number;
            r->problems_corrupt += is_right ? 0 : 1;
        }
        a->sent = a->acked = number;
    }
}

/* ---- a seed ---- */

static bool open_store(run *r) {
    hr_store_options options = fixture_options(r->dir);
    hr_error err = {0};
    options.vfs = "sim";
    options.wal_max_bytes = 256 << 10;
    options.lags = r->lags;
    if (hr_store_open(&options, &r->store, &err) != HR_OK) {
        r->store = NULL;
        return false;
    }
    actor *a = r->actors;
    uint32_t ignored = 0;
    hr_code codes[] = {
        hr_store_feed_open(r->store, "journal", "in", &a[0].feed, &a[0].epoch, &err),
        hr_store_feed_open(r->store, "journal", "out", &a[1].journal, &ignored, &err),
        hr_store_feed_open(r->store, "pull", "p/0", &a[2].feed, &a[2].epoch, &err),
        hr_store_function_open(r->store, "one", NULL, &a[1].function, &err),
        hr_store_function_open(r->store, "two", NULL, &a[2].function, &err)};
    a[0].journal = a[1].feed = a[0].feed;
    a[1].epoch = a[0].epoch;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        if (codes[i] != HR_OK) {
            hr_store_close(r->store);
            r->store = NULL;
            return false;
        }
    }
    return true;
}

/* Writes until the power goes. */
static void work(run *r, uint64_t events_more) {
    uint64_t wanted = r->acked_events + events_more;
    bool is_armed = false;
    for (int turns = 0; turns < 400 && !hr_vfs_sim_is_cut(r->sim); turns++) {
        uint64_t units = 1 + chance(r, 6);
        for (uint64_t i = 0; i < units; i++) {
            actor *a = &r->actors[chance(r, ACTORS)];
            bool has_all = a->journal != 0 && a->function != 0 && a->sent + 1 >= r->actors[0].next;
            submit(r, has_all ? r->actors : a); /* it cannot handle what is not there */
        }
        hr_store_turn(r->store);
        if (!is_armed && r->acked_events >= wanted) {
            if (chance(r, 4) == 0) {
                hr_vfs_sim_fail_at(r->sim, 1 + chance(r, 30));
            }
            hr_vfs_sim_cut_at(r->sim, 1 + chance(r, 60));
            is_armed = true;
        }
    }
    hr_store_close(r->store);
    r->store = NULL;
    hr_vfs_sim_restart(r->sim);
}

static void run_seed(hr_vfs_sim *sim, const char *dir, uint64_t seed, const char *lie, totals *t) {
    run *r = hr_alloc(sizeof *r);
    *r = (run){.sim = sim, .dir = dir, .lags = seed % 2 == 1};
    for (size_t i = 0; i < ACTORS; i++) {
        r->actors[i].next = 1;
    }
    char *verdict = hr_format("%s/damaged", dir); /* of a control before */
    remove(verdict);
    hr_free(verdict);
    hr_vfs_sim_reset(sim, seed);
    if (seed % SCRATCH_SEEDS != 0) {
        hr_vfs_sim_take_kept(sim, 0);
    }
    bool is_of_names = lie != NULL && strcmp(lie, "/") == 0; /* made at the first start */
    hr_vfs_sim_lie(sim, is_of_names ? lie : NULL);
    HR_ASSERT(open_store(r));
    hr_vfs_sim_lie(sim, lie);
    for (int cut = 0; cut < CUTS_WANTED; cut++) {
        work(r, cut == 0 ? EVENTS_WANTED : chance(r, 60));
        t->cuts++;
        if (!open_store(r)) {
            r->problems_corrupt++;
            break;
        }
        check(r);
        if (r->problems_corrupt > 0) {
            break;
        }
    }
    hr_store_close(r->store);
    t->seeds++;
    t->acked += r->acked_events;
    t->lost += r->problems_lost;
    t->corrupt += r->problems_corrupt;
    t->seeds_hit += r->problems_lost > 0 || r->problems_corrupt > 0 ? 1 : 0;
    HR_ASSERT(r->acked_events >= EVENTS_WANTED || lie != NULL);
    if (lie == NULL && (r->problems_lost > 0 || r->problems_corrupt > 0)) {
        fprintf(stderr, "seed %llu: lost %llu, corrupt %llu\n", (unsigned long long)seed,
                (unsigned long long)r->problems_lost, (unsigned long long)r->problems_corrupt);
    }
    hr_free(r);
}

/* An empty store that knows its feeds and functions, made once. */
static void make_template(hr_vfs_sim *sim, const char *dir) {
    run *r = hr_alloc(sizeof *r);
    *r = (run){.sim = sim, .dir = dir};
    HR_ASSERT(open_store(r));
    hr_store_close(r->store);
    hr_vfs_sim_keep(sim, 0);
    hr_free(r);
}

static totals run_seeds(const char *what, uint64_t first, uint64_t count, const char *lie) {
    totals t = {0};
    char *dir = fixture_dir();
    hr_vfs_sim *sim = hr_vfs_sim_new("sim");
    make_template(sim, dir);
    time_t told = time(NULL);
    for (uint64_t i = 0; i < count && !must_stop; i++) {
        run_seed(sim, dir, first + i, lie, &t);
        if (time(NULL) - told >= PROGRESS_S) {
            told = time(NULL);
            fprintf(stderr, "%s: seeds %llu of %llu, lost %llu, corrupt %llu\n", what,
                    (unsigned long long)t.seeds, (unsigned long long)count,
                    (unsigned long long)t.lost, (unsigned long long)t.corrupt);
        }
    }
    hr_vfs_sim_free(sim);
    fixture_remove(dir);
    printf("%s: seeds %llu, cuts %llu, acked %llu, lost %llu, corrupt %llu, seeds with a finding "
           "%llu\n",
           what, (unsigned long long)t.seeds, (unsigned long long)t.cuts,
           (unsigned long long)t.acked, (unsigned long long)t.lost, (unsigned long long)t.corrupt,
           (unsigned long long)t.seeds_hit);
    return t;
}

int main(int count, char **arguments) {
    uint64_t seeds = 1000, first = 1;
    for (int i = 1; i + 1 < count; i += 2) {
        uint64_t value = strtoull(arguments[i + 1], NULL, 10);
        seeds = strcmp(arguments[i], "--seeds") == 0 ? value : seeds;
        first = strcmp(arguments[i], "--first") == 0 ? value : first;
    }
    hr_log_set_level((hr_level)(HR_LOG_ERROR + 1)); /* each cut would be a line */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);             /* the same pages for every seed */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    hr_vfs_sim_one_thread();
    signal(SIGINT, on_interrupt);
    totals honest = run_seeds("honest disk", first, seeds, NULL);
    uint64_t few = seeds < 100 ? seeds : 100;
    totals wal_lies = run_seeds("control, syncs of the WAL lie", first, few, "-wal");
    totals all_lie = run_seeds("control, all syncs lie", first, few, "");
    totals names_lie = run_seeds("control, syncs of the folder lie", first, few, "/");
    bool is_good = honest.lost == 0 && honest.corrupt == 0 && honest.seeds == seeds &&
                   wal_lies.lost > 0 && all_lie.lost + all_lie.corrupt > 0 && names_lie.lost > 0;
    if (must_stop) {
        printf("not whole: go on with --first %llu\n", (unsigned long long)(first + honest.seeds));
    }
    puts(is_good ? "ok" : "FAILED");
    return is_good ? 0 : 1;
}
