/* SPDX-License-Identifier: Apache-2.0 */
/* State shared by the files dispatch_*.c; for nobody else. */
#ifndef HR_BROKER_DISPATCH_PRIV_H
#define HR_BROKER_DISPATCH_PRIV_H

#include "broker/dispatch.h"
#include "core/map64.h"
#include "core/memory.h"

enum {
    HR_ATTEMPTS_MAX = UINT16_MAX - 1, /* what is counted; the next attempt fits its 16 bits */
    HR_WAIT_MAX_MS = 86400000,        /* nothing waits longer for a retry, but by retry.backoff */
    HR_STREAK_PAUSES = 20             /* failed calls in a row that open the circuit breaker */
};

typedef struct feed feed;
typedef struct function function;
typedef struct cursor cursor;

/* A batch taken from a feed by one function, until all its events are settled. */
typedef struct span {
    hr_batch *batch; /* a reference */
    uint32_t left;   /* events not settled */
    uint64_t bits[HR_BATCH_MAX / 64];
    struct span *next;
} span;

/* An event given up for now: its bytes are in the store, this is what must be known without them.
 */
typedef struct parked {
    cursor *cursor;
    uint64_t position, key_hash, ready_at; /* ready_at: unit of the cursor that makes it durable */
    int64_t due_ms, first_ms;
    uint32_t attempt, state, replay, size;
    bool is_out;                  /* being fetched, queued or running */
    bool is_called;               /* in the call that is being filled or runs */
    bool is_untried;              /* behind another, never attempted: another owner may take it */
    size_t heap_index;            /* 1-based, 0: not in the heap */
    struct parked *after;         /* in its chain */
    struct parked *next, *before; /* of its cursor's list */
} parked;

/* All parked events of one key of one function, in order: the first holds back the others. */
typedef struct chain {
    parked *first, *last;
} chain;

/* An event on its way through a lane. */
typedef struct item {
    cursor *cursor;
    hr_batch *batch; /* borrowed from span; a reference of its own when parked */
    span *span;      /* NULL: parked */
    parked *parked;  /* NULL: fresh */
    uint64_t key_hash;
    int64_t first_ms;
    uint32_t index;
    uint16_t attempt; /* ended attempts */
    uint16_t alone;   /* to be called singly (S9) */
    uint32_t replay;
} item;

typedef struct call_box {
    hr_call call;
    item *items;
    hr_event_ref *refs;
    function *function;
    uint64_t started_ns;
    uint64_t noted; /* what options.note returned */
    bool is_cancelled;
    bool is_orphan; /* its feed was taken away and came back: the answer means nothing */
    struct call_box *next, *prev; /* running, oldest first; or free */
} call_box;

typedef struct lane {
    item *ring;
    uint32_t first, count, capacity; /* capacity: 0 or a power of two */
    call_box *running;
    uint64_t since_ns; /* when the oldest waiting item came, for batch_window */
} lane;

/* Owned copies and references of one unit. */
typedef struct unit_box {
    hr_unit unit;
    feed *feed;        /* an append */
    cursor *cursor;    /* or a settlement */
    function *removed; /* or the end of a function */
    cursor *ended;     /* or of its taking from a feed */
    uint64_t ticket;
    hr_row *rows;
    size_t row_count, row_capacity;
    hr_batch **held;
    size_t held_count, held_capacity;
    void **owned;
    size_t owned_count, owned_capacity;
    hr_batch **appends;
    size_t append_count, append_capacity;
    hr_seen *seen;
    size_t seen_count;
    uint64_t sequence, events, bytes;
    uint64_t retry_ns; /* after a full disk, or a refusal of its own */
    uint32_t refused;  /* how often in a row by the store for a fault of its own */
    struct unit_box *next;
} unit_box;

typedef struct range {
    uint64_t from, to; /* settled before the start: [from, to) */
} range;

struct cursor {
    function *function;
    feed *feed;
    uint64_t next, low, durable_low, durable_settled;
    bool is_begun;             /* pull: BEGIN came; journal: always */
    bool is_removed, is_ended; /* S21: takes nothing from end on; then the store is told */
    bool is_leaving;           /* the store is to be told at once: nothing is taken from it */
    uint64_t end, left;        /* left: events parked in the store */
    uint64_t start;            /* pull: the unit that makes the position of BEGIN durable */
    bool is_unborn;            /* journal: the store has no checkpoint of it yet */
    bool is_reading, is_dirty, is_dead;
    bool has_lost_settled; /* the set of the store was damaged */
    span *first, *last;
    uint64_t window, window_bytes; /* events in spans, and their batches */
    range *ranges;
    size_t range_count, range_at;
    hr_batch *stash;       /* read from the store, next to be taken */
    uint64_t read_from_ns; /* a read failed: the next one not before */
    hr_counters counters;
    unit_box *building, *running;
    uint64_t built, done;                                /* sequence numbers of its units */
    parked *tried;                                       /* parked after an attempt began */
    parked *untried_first, *untried_last, *untried_hint; /* parked before one, by position */
    uint64_t untried;
    uint64_t *dropped; /* revoked: positions given back to the next owner, ascending */
    size_t dropped_count, dropped_capacity;
    cursor *next_of_feed, *next_of_function;
};

typedef struct mark {
    uint64_t last, bytes; /* positions up to last hold bytes (since the mark before) */
} mark;

struct feed {
    hr_feed_policy policy;
    uint64_t visible;    /* positions below are durable and may be dispatched */
    uint64_t ring_floor; /* every event at or above it is in the ring */
    hr_batch **ring;
    uint32_t ring_first, ring_count, ring_capacity;
    uint64_t ring_events, ring_bytes, wanted;
    uint64_t event_bytes; /* pull: of one event, about; 0: none was seen */
    mark *marks;
    size_t mark_first, mark_count, mark_capacity;
    uint64_t unsettled, coming; /* coming: results in units that are not durable yet */
    bool is_stopped, is_started;
    /* pull: is being taken away; no longer waits for calls; is away (what was attempted and is
     * parked is still tried here); its rows in the store belong to another epoch */
    bool is_revoked, is_forgotten, is_gone, is_fenced;
    uint64_t appends, failed_to; /* numbers of its appends: all submitted; up to the last failure */
    hr_counters counters;
    cursor *cursors;
    uint64_t told_low;
    feed *next;
};

struct function {
    hr_function_policy policy;
    lane *lanes;
    uint32_t slots, running, queued, turn;
    uint64_t queued_bytes;
    bool is_sleeping; /* a lane waits for its batch window */
    call_box *calls_first, *calls_last, *free_calls;
    hr_map64 chains;
    parked **heap;
    size_t heap_count, heap_capacity;
    uint64_t parked_count, parked_bytes;
    parked *fetching[256]; /* of one cursor */
    uint32_t fetching_count;
    uint64_t fetch;  /* number of the read that fetches them: other answers are stale */
    uint32_t streak; /* failed calls in a row */
    uint64_t paused_until_ns, pause_ns;
    const char *stalled;
    uint32_t refused;     /* units that the store refuses and that are tried again */
    feed *results;        /* NULL: nobody takes them */
    uint64_t result_peak; /* bytes of the largest results of one call so far */
    bool is_ended;        /* removed, and that is on its way to the store or done */
    cursor *cursors;
    function *next;
};

struct hr_dispatch {
    hr_dispatch_options options;
    feed *feeds;
    function *functions;
    hr_map64 calls; /* id -> call_box */
    uint64_t call_id;
    unit_box *waiting; /* units to be submitted again after a full disk */
    uint64_t units_out;
    bool is_draining;
    uint64_t now_ns, chance, wake_ns;
    uint64_t flushed_ns; /* checkpoints alone were last written */
    /* of a cursor, at which its oldest are parked; of what waits in a function's lanes */
    uint64_t window, window_bytes, queue_bytes;
    int64_t real_us;
    /* The wall clock without its jumps since the start (S11): what all ages and due times in memory
     * count by. Rows hold real time: hr_dispatch_real_ms(). */
    int64_t clock_ms, skew_ms;
    hr_action *actions;
    size_t action_count, action_capacity;
    uint64_t *lent[8]; /* position lists lent with actions until the next step */
    size_t lent_count;
    uint64_t scratch_bits[HR_BATCH_MAX / 64], scratch_keys[HR_BATCH_MAX];
};

/* dispatch.c */
hr_action *hr_dispatch_act(hr_dispatch *d, hr_action_kind kind, uint32_t function_id,
                           uint32_t feed_id);
void hr_dispatch_wake_at(hr_dispatch *d, uint64_t ns);
void hr_dispatch_note(hr_dispatch *d, hr_note_kind kind, const cursor *at, const hr_batch *batch,
                      uint32_t index, uint64_t position, uint32_t attempt, hr_slice text,
                      int64_t due_ms, uint64_t took_ns);
feed *hr_dispatch_find_feed(const hr_dispatch *d, uint32_t id);
function *hr_dispatch_find_function(const hr_dispatch *d, uint32_t id);
uint64_t hr_dispatch_chance(hr_dispatch *d);
int64_t hr_dispatch_real_ms(const hr_dispatch *d, int64_t clock_ms);

/* dispatch_unit.c: units, checkpoints, settled sets */
unit_box *hr_unit_new(void);
void hr_unit_free(unit_box *take_unit);
hr_row *hr_unit_row(unit_box *unit);
void hr_unit_hold(unit_box *unit, hr_batch *batch);
hr_slice hr_unit_copy(unit_box *unit, hr_slice slice);
void hr_unit_append(unit_box *unit, hr_batch *take_batch);
unit_box *hr_cursor_unit(cursor *c);
void hr_cursor_mark(cursor *c, span *s, uint32_t index);
void hr_cursor_settle(cursor *c, span *s, uint32_t index);
void hr_cursor_advance(cursor *c);
bool hr_cursor_can_flush(const cursor *c);
/* false: the bytes are damaged; the set is empty then. */
bool hr_cursor_load_settled(cursor *c, hr_slice settled);
/* One position more, above all others. */
void hr_cursor_add_settled(cursor *c, uint64_t position);
void hr_cursors_flush(hr_dispatch *d);
/* Was the first checkpoint of a function on this feed refused? What is appended before it is
 * durable would be history of nobody: after a crash the function begins behind it (S21). */
bool hr_feed_has_unborn(const feed *f);
void hr_unit_submit(hr_dispatch *d, unit_box *unit);
void hr_unit_done(hr_dispatch *d, unit_box *unit, hr_code result);

/* dispatch_feed.c: intake, rings, credit, back-pressure */
void hr_feed_offer(hr_dispatch *d, const hr_input *input);
void hr_feed_reject(hr_dispatch *d, const hr_input *input);
void hr_feed_deliver(hr_dispatch *d, hr_batch *take_batch);
void hr_feed_begin(hr_dispatch *d, uint32_t id, uint64_t position);
void hr_feed_revoke(hr_dispatch *d, uint32_t id, bool is_forget);
void hr_feed_append_done(hr_dispatch *d, unit_box *unit, hr_code result);
void hr_feed_visible(feed *f, hr_batch *batch);
void hr_feed_settled(hr_dispatch *d, feed *f);
void hr_feed_trim(hr_dispatch *d, feed *f);
void hr_feed_finish_revoke(hr_dispatch *d, feed *f);
hr_batch *hr_feed_find(const feed *f, uint64_t position);

void hr_feed_fence(hr_dispatch *d, feed *f);

/* dispatch_take.c: from feeds into lanes */
void hr_function_take(hr_dispatch *d, function *f);
void hr_cursor_read(hr_dispatch *d, const hr_input *input);
hr_batch *hr_batch_part(hr_batch *batch, uint64_t position, uint64_t end);
void hr_lane_push(function *f, uint32_t index, const item *what, bool at_front, uint64_t now_ns);
void hr_cursor_unqueue(cursor *c);
bool hr_queue_is_full(const hr_dispatch *d, const function *f);
void hr_queue_leave(function *f, const item *it); /* it is in its lane no more */
bool hr_cursor_was_settled(cursor *c, uint64_t position);
uint32_t hr_lane_of(function *f, uint64_t key_hash);

/* dispatch_call.c: calls */
void hr_function_call(hr_dispatch *d, function *f);
bool hr_function_has_room(const function *f);
void hr_calls_expire(hr_dispatch *d, function *f);
/* Tells of all its events at once. Returns what options.note did; 0: nobody is told. */
uint64_t hr_call_note(hr_dispatch *d, const call_box *box, hr_note_kind kind);
void hr_calls_unlist(hr_dispatch *d, call_box *box);
void hr_calls_orphan(hr_dispatch *d, const feed *f);
void hr_item_dead(hr_dispatch *d, function *f, item *it, const char *reason, hr_slice why,
                  uint32_t attempt, bool is_expired);
void hr_item_settle(function *f, item *it);

/* dispatch_answer.c: answers */
void hr_call_answered(hr_dispatch *d, const hr_answer *answer);

/* dispatch_wait.c: order and due times of what is parked */
uint64_t hr_chain_key(const function *f, uint64_t key_hash);
bool hr_park_is_held(const function *f, const item *it);
void hr_wait_until(function *f, parked *p, int64_t due_ms);
void hr_wait_no_more(function *f, parked *p);
bool hr_wait_is_first(const function *f, const parked *p);
parked *hr_parked_new(function *f, cursor *c, uint64_t position, uint64_t key_hash, uint32_t size,
                      bool is_untried);
void hr_parked_try(parked *p);
void hr_parked_free(function *f, parked *p);
void hr_parked_forget(cursor *c);

/* dispatch_park.c: what waits for another try */
void hr_park(hr_dispatch *d, function *f, item *it, uint32_t state, int64_t due_ms,
             uint32_t attempt, hr_slice why);
void hr_park_detach(hr_dispatch *d, function *f, item *it, bool is_running);
void hr_unpark(function *f, parked *p);
void hr_park_load(const hr_dispatch *d, function *f, cursor *c, const hr_row *row);
void hr_park_release(hr_dispatch *d, function *f);
void hr_park_fetched(hr_dispatch *d, function *f, const hr_input *input);
void hr_park_put_back(item *it);
void hr_park_give_back(parked *p);
void hr_park_give_all_back(cursor *c);
void hr_park_resume(cursor *c);
void hr_park_cancel_fetch(cursor *c);

/* dispatch_removed.c: functions that are no longer configured */
hr_batch *hr_removed_part(cursor *c, hr_batch *take_batch);
void hr_removed_take(hr_dispatch *d, cursor *c, span *s);
void hr_removed_finish(hr_dispatch *d, function *f);
void hr_removed_done(hr_dispatch *d, const unit_box *unit);

/* dispatch_window.c: what runs so long that it would hold the checkpoint back */
bool hr_window_is_full(const hr_dispatch *d, const cursor *c);
void hr_window_open(hr_dispatch *d, cursor *c);

#endif
