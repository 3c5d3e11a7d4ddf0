/* SPDX-License-Identifier: Apache-2.0 */
/* The heart: which event goes to which function, when, and what is told to whom.
 *
 * A state machine without threads, clocks, files or sockets. It is given what happened (hr_input)
 * and writes down what must be done (hr_action); app/engine.c carries that out for the daemon, a
 * test or the simulator does it for itself. Rules S1 to S21: docs/semantics.md names each.
 *
 * Life:  new -> feed, function, take* -> step* -> free
 * Thread: one (the loop). */
#ifndef HR_BROKER_DISPATCH_H
#define HR_BROKER_DISPATCH_H

#include "broker/dedupe.h"
#include "broker/retry.h"
#include "broker/runtime.h"
#include "broker/store.h"

typedef struct hr_dispatch hr_dispatch;

enum {
    HR_WINDOW_EVENTS = 65536, /* taken from a feed by a function and not yet below its checkpoint */
    HR_QUEUE_EVENTS = 8192,   /* waiting in the lanes of one function */
    HR_PULL_EVENTS = 32768,   /* of one pull feed in memory, not yet taken by all its functions */
    HR_PULL_BYTES = 32 << 20, /* the same, by the size that its events had so far */
    HR_PULL_FIRST = 1024,     /* before any was seen */
    HR_JOURNAL_BATCHES = 1024,  /* newest batches of a journal feed kept in memory (S4) */
    HR_WINDOW_BYTES = 64 << 20, /* batches with events of the window, and one more */
    HR_QUEUE_BYTES = 32 << 20   /* of what waits in the lanes, and one batch more */
};

/* Which events of a batch a function wants, and their keys; both stand outside the core (SQL). */
typedef struct hr_matcher hr_matcher;
struct hr_matcher {
    void (*match)(hr_matcher *self, const hr_batch *batch, uint64_t *out_bits);
    /* Fills key hashes for all events of the batch (0: unordered); NULL: the views' key_hash. */
    void (*keys)(hr_matcher *self, const hr_batch *batch, uint64_t *out_hashes);
};

/* What dedupe compares (`dedupe.by`), outside the core for the same reason. */
typedef struct hr_identify hr_identify;
struct hr_identify {
    void (*seen)(hr_identify *self, const hr_batch *batch, hr_seen *out_seen);
};

/* Extension attributes that headrace sets itself. */
#define HR_ATTRIBUTE_REPLAY "headracereplay" /* integer: how often it was replayed */
#define HR_ATTRIBUTE_HOPS   "headracehops"   /* integer: chain depth of a result */

typedef enum hr_order { HR_ORDER_KEY, HR_ORDER_NONE, HR_ORDER_FEED } hr_order;

typedef struct hr_function_policy {
    const char *name; /* borrowed for the dispatcher's life */
    uint32_t id;      /* the store's number */
    uint32_t version;
    uint32_t lanes; /* 1 .. 4,096 */
    hr_order order;
    uint32_t batch_size;      /* 1 .. HR_BATCH_MAX */
    uint32_t batch_window_ms; /* wait so long for a call to fill */
    uint32_t timeout_ms;
    hr_retry retry;
    hr_matcher *matcher;  /* NULL: all events */
    uint32_t result_feed; /* 0: nobody takes the results */
    uint64_t parked_max_bytes;
    uint32_t max_hops; /* deepest chain of results it takes; 0: any */
    /* No longer configured (S21): what it has not settled of journal feeds, and what is parked,
     * becomes dead letters `removed`; then the store forgets it. lanes and batch_size 1. */
    bool is_removed;
} hr_function_policy;

typedef struct hr_feed_policy {
    uint32_t id; /* the store's number */
    bool pull;
    bool is_away;     /* pull, at start: not ours now, only what is parked is tried again */
    bool has_replays; /* events may carry HR_ATTRIBUTE_REPLAY */
    bool has_hops;    /* events may carry HR_ATTRIBUTE_HOPS */
    uint32_t epoch;
    uint64_t next;            /* journal: the position of the next append */
    uint64_t unsettled_bytes; /* journal: at start */
    uint64_t max_bytes;       /* journal: unsettled bytes at which intake stops (S2) */
    hr_dedupe *take_dedupe;   /* NULL: off */
    hr_identify *identify;    /* what makes two events the same; NULL: source and id */
    hr_counters counters;     /* received, duplicates, malformed so far */
} hr_feed_policy;

typedef enum hr_input_kind {
    HR_IN_OFFER,   /* push: a batch with its ticket */
    HR_IN_REJECT,  /* malformed input of a trigger */
    HR_IN_DELIVER, /* pull: a batch within the credit */
    HR_IN_BEGIN,   /* pull: dispatching of a feed starts at a position */
    HR_IN_REVOKE,  /* pull: the feed is being taken away */
    HR_IN_FORGET,  /* pull: the time for running calls is over (after REVOKE) */
    HR_IN_READ,    /* the answer to HR_DO_READ */
    HR_IN_DURABLE, /* a unit ended */
    HR_IN_ANSWER,  /* a call ended */
    HR_IN_ROOM,    /* a function can run so many calls at once */
    HR_IN_WAKE,    /* time went by */
    HR_IN_DRAIN    /* stop: take nothing more, call nothing more */
} hr_input_kind;

typedef struct hr_input {
    uint64_t now_ns; /* monotonic time of this step */
    int64_t real_us; /* wall clock of this step */
    uint64_t chance; /* random bits of this step */
    hr_input_kind kind;
    union {
        struct {
            uint32_t feed;
            uint64_t ticket; /* 0: nobody waits */
            hr_batch *take_batch;
            const hr_row *rows; /* extra rows of the same unit (FIRE, DEAD_END), copied */
            size_t row_count;
        } offer;
        struct {
            uint32_t feed;
            uint64_t ticket;
            hr_slice raw, why; /* copied */
        } reject;
        struct {
            hr_batch *take_batch;
        } deliver;
        struct {
            uint32_t feed;
            uint64_t position;
        } begin;
        struct {
            uint32_t feed;
        } revoke; /* and forget */
        struct {
            uint32_t function, feed;
            bool parked;
            hr_code result;
            hr_batch *take_batch; /* may be NULL */
            const uint64_t *corrupt;
            size_t corrupt_count;
            uint64_t from;
            bool at_end;
        } read;
        struct {
            hr_unit *unit;
            hr_code result;
        } durable;
        const hr_answer *answer;
        struct {
            uint32_t function, slots;
        } room;
    };
} hr_input;

typedef enum hr_action_kind {
    HR_DO_COMMIT,  /* submit unit; its DURABLE comes back */
    HR_DO_CALL,    /* hand call to the function's runtime */
    HR_DO_CANCEL,  /* past its deadline */
    HR_DO_DURABLE, /* tell the trigger of the feed: all up to ticket */
    HR_DO_REFUSED, /* tell the trigger: first .. last were not kept */
    HR_DO_WANT,    /* push: 0 stop, 1 go on; pull: so many more events */
    HR_DO_SETTLED, /* pull: all below low is settled and durable */
    HR_DO_REVOKED, /* pull: REVOKE is done */
    HR_DO_READ     /* read from the store; its READ comes back */
} hr_action_kind;

typedef struct hr_action {
    hr_action_kind kind;
    uint32_t function, feed; /* the store's numbers */
    union {
        hr_unit *unit;
        hr_call *call;
        struct {
            uint64_t first, last;
            hr_code why;
        } ticket;        /* DURABLE: last */
        uint32_t events; /* WANT */
        uint64_t low;    /* SETTLED */
        struct {
            bool parked;
            uint64_t from; /* journal */
            uint32_t max;
            const uint64_t *positions; /* parked; lent until the next step */
            size_t position_count;
        } read;
    };
} hr_action;

/* The actions of one step, lent by the dispatcher until the next step. */
typedef struct hr_output {
    const hr_action *actions;
    size_t count;
    uint64_t wake_ns; /* give a WAKE at this monotonic time; UINT64_MAX: none needed */
} hr_output;

/* What happened to one delivery, or to those of one call, for trace, tap and metrics. Pure
 * observation: must not call back. */
typedef enum hr_note_kind {
    HR_NOTE_STORED,    /* function 0: durable in its journal feed */
    HR_NOTE_DUPLICATE, /* function 0 */
    HR_NOTE_FILTERED,
    HR_NOTE_CALLED,     /* events */
    HR_NOTE_DELIVERED,  /* events: all of the call; or one */
    HR_NOTE_UNANSWERED, /* text: why the call of many ended; each is called again, alone (S9) */
    HR_NOTE_RETRY,      /* text: error; due_ms: when */
    HR_NOTE_BEHIND,
    HR_NOTE_DROPPED,
    HR_NOTE_DEAD, /* text: error */
    HR_NOTE_EXPIRED,
    HR_NOTE_RESULT /* function 0, feed: the result feed; text: name of the function */
} hr_note_kind;

/* The reason of the row that a DROPPED leaves. */
#define HR_DROPPED_BY_FUNCTION "dropped by the function"

typedef struct hr_note {
    hr_note_kind kind;
    uint32_t function, attempts_max;
    /* of many: feed, position and attempt of each are in its reference and batch; else NULL, 0 */
    const hr_event_ref *events;
    uint32_t count;
    uint32_t feed, attempt;
    uint64_t position;
    const hr_batch *batch; /* may be NULL (never fetched) */
    uint32_t index;
    int64_t real_us, due_ms;
    uint64_t took_ns; /* of the attempt */
    uint64_t call;    /* of a DELIVERED with events: what its CALLED got */
    hr_slice text;
} hr_note;

typedef struct hr_dispatch_options {
    /* NULL: none. What it returns for a CALLED comes back with the call's DELIVERED. */
    uint64_t (*note)(void *data, const hr_note *note);
    void *note_data;
    uint64_t dead_count,
        dead_max;           /* dead letters at start; at the limit the functions stall (S12) */
    uint32_t window_events; /* 0: HR_WINDOW_EVENTS */
    uint64_t window_bytes, queue_bytes; /* 0: HR_WINDOW_BYTES, HR_QUEUE_BYTES */
    /* A checkpoint that goes without rows and results waits until the last such is so old: S14's
     * interval. 0: none waits. */
    uint64_t checkpoint_ns;
} hr_dispatch_options;

hr_dispatch *hr_dispatch_new(const hr_dispatch_options *options);
void hr_dispatch_free(hr_dispatch *take_dispatch);

/* Set-up, before the first step (pull feeds: at any time). Feeds before the functions that take
 * from them. */
void hr_dispatch_add_feed(hr_dispatch *d, const hr_feed_policy *policy);
void hr_dispatch_add_function(hr_dispatch *d, const hr_function_policy *policy);

/* A function takes from a feed. low 0: new, it starts at start (journal: position; pull: at BEGIN)
 * and its first checkpoint is written by the next step. settled as a unit had it. */
void hr_dispatch_take(hr_dispatch *d, uint32_t function_id, uint32_t feed_id, uint64_t low,
                      uint64_t start, hr_slice settled, const hr_counters *counters);

/* A function no longer takes from a journal feed (S21): what it has not settled there and what is
 * parked of it becomes dead letters `removed`, then the store forgets the checkpoint. */
void hr_dispatch_take_no_more(hr_dispatch *d, uint32_t function_id, uint32_t feed_id, uint64_t low,
                              hr_slice settled, const hr_counters *counters);

/* The same for a pull feed that was just added: what the function parked of it when it took from it
 * becomes dead letters `removed` with the next step. */
void hr_dispatch_leave(hr_dispatch *d, uint32_t function_id, uint32_t feed_id);

/* A parked row as the store has it. */
void hr_dispatch_load_parked(hr_dispatch *d, const hr_row *row);

/* Runs one step. Cannot fail: what goes wrong arrives as an input and leaves as an action. */
void hr_dispatch_step(hr_dispatch *d, const hr_input *input, hr_output *out);

/* Nothing runs, nothing waits for a commit. */
bool hr_dispatch_is_idle(const hr_dispatch *d);

/* So many dead letters were dropped or replayed. */
void hr_dispatch_dead_ended(hr_dispatch *d, uint64_t count);

/* What `status` shows, from memory. */
typedef struct hr_function_stats {
    uint64_t queued, running, parked, parked_bytes, behind;
    bool is_paused;       /* circuit breaker */
    const char *stalled;  /* why it takes nothing more; NULL: it does */
    hr_counters counters; /* over all its feeds, uncommitted included */
} hr_function_stats;
void hr_dispatch_function_stats(const hr_dispatch *d, uint32_t id, hr_function_stats *out);
typedef struct hr_feed_stats {
    uint64_t next, unsettled_bytes, in_memory, duplicates_window;
    hr_counters counters;
    bool is_stopped;
} hr_feed_stats;
void hr_dispatch_feed_stats(const hr_dispatch *d, uint32_t id, hr_feed_stats *out);

/* Where one event of a feed stands for a function, from memory. */
typedef enum hr_dispatch_standing {
    HR_STANDS_NOWHERE, /* the function does not take from the feed, or began after the event */
    HR_STANDS_SETTLED,
    HR_STANDS_PENDING,
    HR_STANDS_RUNNING,
    HR_STANDS_RETRYING
} hr_dispatch_standing;
hr_dispatch_standing hr_dispatch_find(const hr_dispatch *d, uint32_t function_id, uint32_t feed_id,
                                      uint64_t position);

/* The checkpoint of a function on a feed as last made durable; false: none. */
bool hr_dispatch_checkpoint(const hr_dispatch *d, uint32_t function_id, uint32_t feed_id,
                            uint64_t *out_low, uint64_t *out_settled);

#endif
