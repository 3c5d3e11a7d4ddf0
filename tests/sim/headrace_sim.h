/* SPDX-License-Identifier: Apache-2.0 */
/* A whole headrace in one thread: the release objects of dispatcher and store on a virtual clock, a
 * disk that fails as told, and virtual sources, functions and a broker. One seed is one history.
 *
 * Life:  sim_new -> sim_run -> sim_free. A life of the daemon within: sim_boot -> sim_step* ->
 * sim_end. What must hold is checked all the way (headrace_sim_check.c); the first thing that does
 * not is said in broken. */
#ifndef HR_TESTS_HEADRACE_SIM_H
#define HR_TESTS_HEADRACE_SIM_H

#include "broker/dispatch.h"
#include "core/buffer.h"
#include "tests/sim/vfs_sim.h"

enum {
    SIM_PUSH = 3,
    SIM_PULL = 2,
    SIM_NAMES = 4,     /* of functions */
    SIM_FUNCTIONS = 8, /* that came again under their name after they were removed, too */
    SIM_RESULTS = SIM_PUSH + SIM_PULL,    /* by name */
    SIM_INJECT = SIM_RESULTS + SIM_NAMES, /* replays of a function's dead letters */
    SIM_FEEDS = SIM_INJECT + SIM_NAMES,   /* in this order */
    SIM_REPLAYS = 256,
    SIM_FIRES = 1024, /* instants of a cron */
    SIM_OFFERS = 5,
    SIM_CALLS = 128
};

/* What a driver must not do; the proof is worth something as each of these loses events. */
typedef enum sim_mutant {
    SIM_HONEST,
    SIM_WAL_LIES,      /* syncs of the WAL do nothing */
    SIM_ALL_LIE,       /* all syncs do nothing */
    SIM_NAMES_LIE,     /* those of the folder do nothing */
    SIM_ACKS_EARLY,    /* the source is told before the commit */
    SIM_SETTLES_EARLY, /* the group's offset is moved with what was called, not settled */
    SIM_MUTANTS
} sim_mutant;

/* Where a life of the daemon can end; each is visited over the seeds. */
enum {
    SIM_AT_ACTION = 0,                             /* after an action: its kind */
    SIM_AT_INPUT = SIM_AT_ACTION + HR_DO_READ + 1, /* after a step: its input */
    SIM_AT_CALL = SIM_AT_INPUT + HR_IN_DRAIN + 1,  /* in a call of the disk, ... */
    SIM_DISK_CALLS = 2 * HR_VFS_SIM_WAL,           /* hr_vfs_sim_call and WAL */
    SIM_PHASES = 5,                                /* ... in one of these phases */
    SIM_POINTS = SIM_AT_CALL + SIM_DISK_CALLS * SIM_PHASES
};
typedef enum sim_phase {
    SIM_IN_OPEN,
    SIM_IN_NUMBERS, /* feeds and functions get their numbers */
    SIM_IN_TURN,
    SIM_IN_ASSIGN,
    SIM_IN_CLOSE
} sim_phase;

/* Something that happened outside once and for all; results of functions too. */
typedef struct sim_event {
    uint32_t feed, key;             /* index of the feed; key 0: none */
    uint32_t result[SIM_FUNCTIONS]; /* the event a function makes of it; 0: none yet */
    uint32_t cause, maker;          /* of a result */
    uint64_t letter;                /* of a replay: the dead letter it ends */
    uint64_t position;              /* known durable there; 0: not yet */
    uint8_t handled, dead, other;   /* bits of functions: answered ok or drop; dead letter; settled
                                       by another owner of the partition */
    bool is_acked, is_reject, is_lost;
    bool is_waived; /* a result: nobody took it when its cause ended */
} sim_event;

/* One position of a feed, as the daemon let it be known durable (or as the broker's log has it). */
typedef struct sim_slot {
    uint32_t event; /* 0: none */
    bool is_present;
    bool is_barred; /* of a unit that was fenced: nothing may stand here */
    uint8_t parked, done, running, dead, handled; /* bits of functions */
    uint8_t dropped; /* the letter is of one that the function dropped */
    uint8_t owed;    /* taken by a function no more: it must have an end nevertheless */
    uint8_t repeats; /* handled and not called again since */
} sim_slot;

typedef struct sim_feed {
    uint32_t id, epoch; /* the store's */
    sim_slot *slots;    /* by position */
    uint64_t count, capacity;
} sim_feed;

typedef struct sim_cursor {
    bool exists;
    uint64_t low;
    hr_buffer settled;
} sim_cursor;

typedef struct sim_offer {
    uint32_t first, count; /* events */
    uint64_t ticket;
    int64_t instant; /* of a cron: goes with it as its last fire */
    bool is_out, is_reject;
} sim_offer;

typedef struct sim_push {
    bool exists, dedupes, is_stopped, is_cron;
    uint64_t ticket, max_bytes;
    int64_t last_fire; /* as the store knew it at the start; 0: never */
    int64_t next_fire;
    uint32_t fires[SIM_FIRES]; /* the event of each instant; 0: none yet */
    sim_offer offers[SIM_OFFERS];
    uint32_t count;
} sim_push;

typedef struct sim_pull {
    bool is_made, exists, is_owned, is_revoking; /* exists: some function takes from it */
    uint64_t group, sent, credit;
    bool is_fenced; /* somebody else opened it in the store since we did ... */
    bool has_sums;  /* ... and left these checkpoints and parked events */
    uint64_t sums[SIM_FUNCTIONS];
} sim_pull;

typedef struct sim_function {
    hr_matcher matcher; /* first: match() gets it */
    bool exists, is_configured;
    bool is_back; /* configured again, and not yet known to be the same for the store */
    bool is_gone; /* the store has forgotten it */
    hr_function_policy policy;
    char name[24], was[24];
    uint32_t name_index, renames;
    uint32_t index, keep; /* keeps events whose number modulo keep is not 0; 0: all */
    uint32_t takes;       /* bits of feeds */
    uint32_t left;        /* that it took from before */
    uint32_t told;        /* of these: what is owed was written down */
    uint32_t given;       /* left once, and taken from again before it was forgotten */
    uint32_t late;        /* that had events before it took from them: it begins at ... */
    uint64_t start[SIM_FEEDS];
    uint32_t took; /* not configured: what it took from */
    bool has_takers;
} sim_function;

typedef struct sim_call {
    hr_call *call;
    bool is_cancelled;
} sim_call;

/* What the store ended and the loop has not seen yet. */
typedef struct sim_mail {
    hr_unit *unit; /* or */
    hr_read *read;
    hr_code result;
    struct sim_mail *next;
} sim_mail;

typedef struct sim_totals {
    uint64_t runs, acked, lost, duplicates, allowed, cuts, kills, faults, stops, read_faults, fires,
        replays, events, calls;
    uint64_t corrupt, drift, broken, steps, full, drained_ms_max;
    uint64_t counted; /* functions whose counters were held against what was seen */
    uint64_t removals, renames, returns, newcomers, moves, fences, fenced_units, removed_letters;
    uint64_t visited[SIM_POINTS];
} sim_totals;

typedef struct sim {
    uint64_t seed;
    sim_mutant mutant;
    bool prints, is_hashed;
    uint64_t digest;
    hr_vfs_sim *disk;
    char *dir, *ballast;
    hr_store *store;
    hr_dispatch *dispatch;
    uint64_t now_ns, wake_ns, chance, ballast_bytes;
    int64_t real_us;
    uint32_t window, page_bytes;
    uint64_t wal_max_bytes, journal_max_bytes;
    int64_t journal_keep_ms;
    uint64_t checkpoint_ns;
    sim_phase phase;
    /* what is told at a start */
    hr_counters counters[SIM_FUNCTIONS + 1][SIM_FEEDS];
    uint64_t next[SIM_FEEDS], unsettled[SIM_FEEDS], dead_count;
    hr_row *parked;
    size_t parked_count;
    /* the world */
    sim_event *events; /* from 1 */
    uint32_t event_count, event_capacity;
    sim_feed feeds[SIM_FEEDS];
    sim_push push[SIM_PUSH];
    sim_pull pull[SIM_PULL];
    sim_function functions[SIM_FUNCTIONS];
    uint32_t function_count;      /* that ever were */
    uint32_t named[SIM_NAMES];    /* the newest function of a name */
    bool is_added[SIM_FEEDS];     /* to the dispatcher of this life */
    uint64_t change_chance;       /* of its own, so that other choices stay what they are */
    bool has_changes, has_fences; /* the configuration is edited; others open our pull feeds */
    bool is_known;                /* a life had the whole configuration as it stands */
    hr_unit owner_units[SIM_FUNCTIONS]; /* of such another */
    uint32_t owner_units_out;
    bool is_owner_unsure; /* whether what it wrote is there only the next start can tell */
    sim_cursor cursors[SIM_FUNCTIONS][SIM_FEEDS]; /* known durable */
    sim_call calls[SIM_CALLS];
    uint32_t call_count;
    uint64_t stale[4]; /* calls that were answered */
    sim_mail *mail, **mail_end;
    uint64_t queued; /* units and reads the store has */
    uint64_t rejects_acked, rejects_dead;
    bool is_calm;                 /* no more faults */
    bool has_replays;             /* letters are replayed and dropped */
    uint64_t ending[SIM_REPLAYS]; /* letters: asked for in this life */
    uint32_t ending_count;
    bool has_jumped;          /* the wall clock, by a year */
    bool is_over;             /* this life */
    bool is_told;             /* the rest of this life is not looked at */
    uint64_t acks, cut_after; /* actions until the cut; 0: none */
    uint32_t cut_point;       /* counted are only ends of this kind; SIM_POINTS: all */
    bool cut_kills;
    sim_totals *totals;
    uint64_t acked, lost, duplicates, allowed, cuts, cuts_after_ack, calls_made;
    char broken[200];
} sim;

/* headrace_sim_start.c: what app/engine_build.c and its kin do in the daemon */
bool sim_boot(sim *s); /* false: the disk or the power failed */
bool sim_assign(sim *s, uint32_t pull);
hr_code sim_load(sim *s, uint32_t only, hr_error *err); /* 0: all; headrace_sim_load.c */
hr_code sim_open_feed(sim *s, uint32_t feed, uint32_t *out_epoch, hr_error *err);

/* headrace_sim_host.c: what app/engine*.c does otherwise */
bool sim_is_dead(sim *s); /* did the disk end this life? */
void sim_end(sim *s);     /* the process is gone; what was on its way with it */
void sim_step(sim *s, hr_input *input);
void sim_turn(sim *s);      /* the store's thread */
void sim_read_mail(sim *s); /* the oldest of what it ended */
void sim_stop(sim *s);      /* clean */

/* headrace_sim_source.c */
void sim_offer_new(sim *s);
void sim_offer_again(sim *s);
void sim_replay(sim *s); /* somebody replays or drops a dead letter */
void sim_source_told(sim *s, const hr_action *act);
void sim_sources_restart(sim *s);

/* headrace_sim_pull.c: the broker */
void sim_produce(sim *s, uint32_t pull, uint32_t count);
void sim_deliver(sim *s, uint32_t pull, uint32_t max);
void sim_rebalance(sim *s, uint32_t pull);
void sim_settled(sim *s, uint32_t feed, uint64_t low); /* the group's offset is committed */

void sim_fence(sim *s, uint32_t pull);       /* somebody else opens it in the store */
void sim_check_fence(sim *s, uint32_t only); /* it was loaded: nothing of ours is in it */

/* headrace_sim_change.c: the configuration is edited between two lives */
void sim_change(sim *s);
void sim_note_left(sim *s); /* the store was loaded: what is owed */
uint32_t sim_function_again(sim *s, uint32_t index, uint32_t id); /* its index under this id */
uint64_t sim_change_chance(sim *s, uint64_t below);

/* headrace_sim_reply.c: functions */
void sim_answer(sim *s, uint32_t index);

/* headrace_sim_world.c: events and the configuration */
void sim_world(sim *s); /* made by the seed */
uint32_t sim_event_add(sim *s, uint32_t feed, uint32_t key);
void sim_pack(const sim *s, uint32_t event, uint64_t position, hr_builder *builder);
uint32_t sim_event_of(const sim *s, const hr_batch *batch, uint32_t index); /* 0: a phantom */
bool sim_wants(const sim *s, uint32_t function, uint32_t event);
/* How the function ends an event when nothing goes wrong: OK, DROP or DEAD; makes a result? */
hr_outcome sim_nature(uint32_t function, uint32_t event);
bool sim_makes_result(const sim *s, uint32_t function, uint32_t event);

/* headrace_sim_check.c: what must hold */
void sim_break(sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_say(sim *s, const char *what, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
sim_slot *sim_slot_at(sim_feed *feed, uint64_t position); /* made when missing */
void sim_check_call(sim *s, const hr_call *call);
void sim_check_unit(sim *s, const hr_unit *unit);   /* it is durable */
void sim_check_fenced(sim *s, const hr_unit *unit); /* it was skipped whole */
uint64_t sim_check_note(void *data, const hr_note *note);
void sim_check_position(sim *s, uint32_t feed, const hr_batch *batch, uint32_t index);
bool sim_is_passed(const sim_cursor *cursor, uint64_t position);
void sim_allow(sim *s, uint32_t only); /* SIM_FEEDS: all: an interruption; see S14 */
uint32_t sim_feed_index(const sim *s, uint32_t id);
/* A disk that lies may leave rows of feeds and functions that nobody knows. */
bool sim_knows_feed(const sim *s, uint32_t id);
bool sim_knows_function(const sim *s, uint32_t id); /* 0 is one */
uint32_t sim_function_index(const sim *s, uint32_t id);
uint64_t sim_chance(sim *s, uint64_t below);

/* headrace_sim_audit.c: what must hold in the store */
void sim_check_start(sim *s, bool is_final); /* the store is open, nothing runs yet */
void sim_check_end(sim *s);

/* From here on a function owes events of a feed an end. */
static inline uint64_t sim_first(const sim_function *f, uint32_t feed) {
    bool is_late = (f->late >> feed & 1) != 0;
    return !is_late ? 1 : f->start[feed] == 0 ? UINT64_MAX : f->start[feed];
}

static inline bool sim_is_pull(uint32_t feed) {
    return feed >= SIM_PUSH && feed < SIM_PUSH + SIM_PULL;
}

/* headrace_sim.c */
typedef struct sim_outcome {
    uint64_t digest;
    char broken[200]; /* "": all held */
} sim_outcome;
/* Empty stores, made once, that most seeds begin with. */
void sim_make_templates(hr_vfs_sim *disk, char *dir);
typedef enum sim_record { SIM_NOTHING, SIM_DIGEST, SIM_PRINT /* and the digest */ } sim_record;
/* One history, on a disk that is emptied first; counted in totals. */
sim_outcome sim_run_seed(hr_vfs_sim *disk, char *dir, uint64_t seed, sim_mutant mutant,
                         sim_record record, sim_totals *totals);
void sim_visit(sim *s, uint32_t point);

#endif
