/* SPDX-License-Identifier: Apache-2.0 */
/* The durable state: one SQLite file, one connection, two threads that take turns with it (one
 * syncs a commit while the other writes the next), group commit with waiters.
 *
 * Life:  open -> (feed_open, function_open, load) -> start -> (submit, read)* -> close
 * Rule:  a unit is all or nothing; units become durable in the order they were submitted, and
 * done() runs only after the commit that holds them was synced (WAL, synchronous=FULL).
 *
 * Positions of a journal feed are given by the dispatcher, which is the only writer; ascending,
 * gaps allowed (a refused append). Every event's bytes carry hr_hash() of themselves, verified when
 * they are read. Files in dir: headrace.db (+ -wal, -mark: see store_wal.c; .new: one
 * that is being made), ballast, lock; damaged: says what, and that there is no start any more. */
#ifndef HR_BROKER_STORE_H
#define HR_BROKER_STORE_H

#include "core/batch.h"
#include "core/error.h"
#include "core/loop.h"

typedef struct hr_store hr_store;

typedef struct hr_store_options {
    const char *dir;            /* made (0700) if missing */
    hr_loop *loop;              /* done() and answers are posted to it; NULL: see hr_store_turn */
    uint64_t ballast_bytes;     /* 0: none */
    uint64_t journal_max_bytes; /* settled history above it goes, oldest first */
    int64_t journal_keep_ms;    /* settled history older goes; -1: keep while there is room */
    int64_t dead_max_age_ms;    /* -1: none */
    const char *vfs;            /* SQLite VFS name, NULL: the default (tests) */
    uint32_t page_bytes;        /* of a new file; 0: 16,384 (tests: smaller ones split sooner) */
    bool lags; /* without threads, every second turn ends with its commit written and not yet
                  synced, as if the other thread were to do it (tests) */
    uint64_t wal_max_bytes; /* the WAL goes into the file above this; 0: 64 MiB, or two thirds of
                               a smaller ballast */
    /* What makes schema n + 1 out of schema n, in SQL; the first makes it out of nothing. NULL: the
     * release's (tests: later ones, that are not there yet). */
    const char *const *steps;
    uint32_t step_count;
    /* Intake must stop (false: the ballast was given up) or may go on. On the loop. May be NULL. */
    void (*space)(void *data, bool open);
    void *space_data;
    /* The clocks; NULL: hr_real_us() and hr_mono_ns() (tests: a virtual one). */
    int64_t (*real_us)(void *data);
    uint64_t (*mono_ns)(void *data);
    void *clock_data;
} hr_store_options;

/* What a function has done with a feed, absolute. A feed has counters too (function 0): received is
 * counted by the store as events are appended; duplicates and malformed of a unit with function 0
 * are what to add, since such a unit may be refused while later ones stand; replays are
 * counted by the store, in the unit that ends a letter so. Deliveries of a journal feed are counted
 * by the store as its events are appended and come on top of those named here in HR_READ_TOTALS;
 * those of a pull feed are counted by who submits. */
typedef struct hr_counters {
    uint64_t received, duplicates, malformed;
    uint64_t deliveries, delivered, filtered, dropped, dead, expired;
    uint64_t attempts, results, replays, spare[4];
} hr_counters;

typedef enum hr_row_kind {
    HR_ROW_PARK,     /* insert or replace in parked: function, feed, position ...; without bytes the
                        row keeps those it has */
    HR_ROW_UNPARK,   /* delete function, feed, position from parked */
    HR_ROW_DEAD,     /* insert a dead letter (function 0: malformed input of trigger feed `feed`) */
    HR_ROW_DEAD_END, /* dead letter `position` (its id) ended: state, a hr_dead_state */
    HR_ROW_SEEN,     /* dedupe: text = packed 16-byte hashes, due_ms = real time */
    HR_ROW_SEEN_TRIM, /* forget the 4,096 oldest seen rows of feed, as far as they are older than
                         due_ms */
    HR_ROW_FIRE,  /* what a trigger keeps of a feed (hr_trigger.kept_us), for cron the last fire:
                     due_ms = microseconds since 1970 */
    HR_ROW_REMOVE /* the function is gone: its checkpoints and name go, removed_at is set; what it
                     has parked becomes dead letters `removed`. With a feed: on that feed only */
} hr_row_kind;

typedef enum hr_parked_state {
    HR_PARKED_RETRY,  /* waits for due_ms */
    HR_PARKED_BEHIND, /* held back by an earlier event of its key; never attempted if attempt 0 */
    HR_PARKED_RUNNING /* was running when it left the window */
} hr_parked_state;

typedef enum hr_dead_state { HR_DEAD_OPEN, HR_DEAD_REPLAYED, HR_DEAD_DROPPED } hr_dead_state;

/* One row of a unit. Slices and the batch are borrowed until done(). */
typedef struct hr_row {
    hr_row_kind kind;
    uint32_t function, feed;
    uint64_t position;
    uint64_t key_hash;
    uint32_t state, attempt, replay;
    int64_t due_ms, first_attempt_ms, at_ms; /* real time */
    hr_slice bytes;                          /* the envelope (or raw input of a malformed one) */
    hr_slice reason; /* DEAD: "attempts exhausted", "expired", "corrupt", "dead", "removed", ... */
    hr_slice text;   /* DEAD, PARK: the last error; SEEN: hashes */
    hr_slice logs;   /* DEAD: last log lines, '\n' separated */
    hr_slice event_id;
} hr_row;

enum { HR_UNIT_INTAKE = 1 /* refused with HR_E_STORE_FULL while intake is stopped */ };

/* All or nothing within a group commit. Owned by the submitter, who keeps it and what it points to
 * until done(). function 0: an append of a push trigger, checkpoint fields unused but counters. */
typedef struct hr_unit {
    uint32_t function, feed, epoch; /* epoch: guard; != the feed's current one: HR_E_FENCED */
    uint32_t flags;
    bool has_checkpoint;
    uint64_t low;           /* all positions below are settled or parked */
    hr_slice settled;       /* opaque: the set settled above low */
    uint64_t settled_count; /* how many that is */
    hr_counters counters;   /* absolute with has_checkpoint, more with function 0 */
    hr_row *rows;
    size_t row_count;
    hr_batch *const *appends; /* batches with feed and positions set: their journal feeds */
    size_t append_count;
    void (*done)(struct hr_unit *self, hr_code result); /* on the loop */
    void *data;                                         /* the submitter's */
    void *owner, *attached;                             /* the engine's: itself, freed in done() */
    hr_code result;                                     /* the store's */
    hr_message message;                                 /* the store's */
    struct hr_unit *next;                               /* the store's */
} hr_unit;

enum { HR_STORE_ASK_ROOM = 0x48520001 }; /* xFileControl of a test's VFS: uint64_t bytes left */

/* Opens or makes the state, takes the lock, migrates, checks. Blocks. Errors: HR_E_STORE_LOCKED
 * (names the pid), HR_E_STORE_NEWER, HR_E_STORE_CORRUPT, HR_E_STORE_IO, each one clear line. */
hr_code hr_store_open(const hr_store_options *options, hr_store **out_store, hr_error *err);

/* 32 hex characters, random, made with the file. */
const char *hr_store_id(const hr_store *store);

/* What has a number: a feed ("journal" or "pull") by its identity, or a "function" by its name. */
typedef struct hr_store_name {
    const char *kind, *name;
    const char *was; /* of a function: the name it had before; NULL: none */
    uint32_t number; /* out */
    uint32_t epoch;  /* out, of a feed */
} hr_store_name;

/* Numbers for many, made where they are new: one commit for all, or none. Errors and thread as of
 * the next two. */
hr_code hr_store_number(hr_store *store, hr_store_name *names, size_t count, hr_error *err);

/* The number of a feed / function, made when new. kind: "journal" (gets a table journal_<id>),
 * "pull". May block for a commit: at start and on rebalance only. Epoch is bumped for pull feeds.
 * Errors: HR_E_STORE_IO, HR_E_STORE_FULL; HR_E_EXISTS (another kind); HR_E_STORE_STOPPED after a
 * failure that the log has told.
 * Thread: loop (or before start). */
hr_code hr_store_feed_open(hr_store *store, const char *kind, const char *identity,
                           uint32_t *out_feed, uint32_t *out_epoch, hr_error *err);
hr_code hr_store_function_open(hr_store *store, const char *name, const char *was,
                               uint32_t *out_function, hr_error *err);

/* What the store knows, told row by row; slices are borrowed for the call. Any may be NULL. */
typedef struct hr_store_loader {
    void *data;
    void (*feed)(void *data, uint32_t feed, const char *kind, const char *identity,
                 uint64_t next_position, uint64_t unsettled_bytes, int64_t last_fire_us);
    void (*function)(void *data, uint32_t function, const char *name, bool removed);
    /* Of each live function, and of each feed itself (function 0, low: its next position). */
    void (*checkpoint)(void *data, uint32_t function, uint32_t feed, uint64_t low, hr_slice settled,
                       const hr_counters *counters);
    /* Ascending position; of bytes only the size (bytes.bytes is NULL). */
    void (*parked)(void *data, const hr_row *row);
    void (*seen)(void *data, uint32_t feed, int64_t at_ms, hr_slice hashes); /* oldest first */
    void (*dead)(void *data, uint64_t count);
} hr_store_loader;

/* Blocks; before start, or (pull feeds: only_feed != 0) on the loop. */
hr_code hr_store_load(hr_store *store, uint32_t only_feed, const hr_store_loader *loader,
                      hr_error *err);

/* Starts the store's threads. With options.loop NULL nothing runs by itself: hr_store_turn() does
 * one group commit and all queued reads in the caller's thread and runs done() (tests, simulator).
 * Returns how many units and reads it ended. */
hr_code hr_store_start(hr_store *store, hr_error *err);
size_t hr_store_turn(hr_store *store);

/* Queues a unit. Never fails, never blocks.  Thread: loop. */
void hr_store_submit(hr_store *store, hr_unit *unit);

typedef enum hr_read_kind {
    HR_READ_JOURNAL,   /* feed, from, max events -> batch */
    HR_READ_PARKED,    /* function, feed, positions -> batch (those found) */
    HR_READ_PARKED_AT, /* feed, position from -> each: the row of every function that parked it
                          there, without bytes */
    HR_READ_DEAD,      /* list: function (0: all), from id, max -> each; state filter */
    HR_READ_DEAD_ONE,  /* by id (from) or by event_id (newest first) -> each with bytes, logs */
    HR_READ_FIND,      /* event_id -> each: journal rows with this id (feed, position, bytes);
                          scans newest first in slices of <= 2 ms, at most `max` rows looked at */
    HR_READ_TOTALS, /* each function: counters summed over its feeds, pending counted by itself */
} hr_read_kind;

/* One row of an answer; slices are borrowed for the call of each(). */
typedef struct hr_found {
    hr_row row; /* DEAD*: position = dead letter id, row.feed/function, at_ms = when it died */
    uint64_t origin_position; /* DEAD*: its position in its feed */
    hr_counters counters;
    uint64_t pending;
} hr_found;

/* Owned by the asker until done(), which runs on the loop. */
typedef struct hr_read {
    hr_read_kind kind;
    uint32_t function, feed;
    uint64_t from;
    uint32_t max;
    uint64_t max_bytes; /* JOURNAL: stop after so many; 0: 1 MiB */
    const uint64_t *positions;
    size_t position_count;
    hr_slice event_id;
    uint32_t states; /* DEAD: bits 1 << state; 0: the open ones */
    void (*done)(struct hr_read *self);
    void *data;
    hr_code result;
    hr_batch *batch;   /* owned by the asker; NULL: none found */
    uint64_t *corrupt; /* positions whose checksum is wrong; freed by the asker */
    size_t corrupt_count;
    bool at_end; /* JOURNAL: nothing after the batch; PARKED: it was not full before the last */
    struct hr_found
        *found; /* FIND, PARKED_AT, DEAD*, TOTALS: rows with bytes copied into found_bytes */
    size_t found_count;
    hr_buffer found_bytes; /* freed by hr_read_fini */
    hr_message message;
    struct hr_read *next;
} hr_read;

/* Queues a read; served between commits, answered when all that it can see is durable.
 * Thread: loop. */
void hr_store_read(hr_store *store, hr_read *read);
void hr_read_fini(hr_read *read); /* frees batch, corrupt, found, found_bytes */

/* Bytes of the database file and of the WAL, groups, units and events so far, how long a sync takes
 * (the middle one of the newest nine; 0: fewer yet); for status. */
typedef struct hr_store_stats {
    uint64_t file_bytes, wal_bytes, groups, units, events, sync_ns;
    bool intake_open;
} hr_store_stats;
void hr_store_get_stats(hr_store *store, hr_store_stats *out);

/* Runs what is queued, checkpoints the WAL, closes, frees. Blocks; done() of the rest runs before
 * it returns (on the calling thread, the loop's). */
void hr_store_close(hr_store *take_store);

#endif
