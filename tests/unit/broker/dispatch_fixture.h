/* SPDX-License-Identifier: Apache-2.0 */
/* A dispatcher on a virtual clock with a store in memory: units wait in a queue until the test
 * carries them out, restarts keep only what was carried out. */
#ifndef HR_TESTS_DISPATCH_FIXTURE_H
#define HR_TESTS_DISPATCH_FIXTURE_H

#include "broker/dispatch.h"
#include "core/buffer.h"

enum { FX_FEEDS = 4, FX_FUNCTIONS = 6, FX_EVENTS = 2048, FX_LIST = 4096 };
enum { FX_IN = 1, FX_RESULTS = 2, FX_PULL = 3 };

typedef struct fx_event {
    bool exists, corrupt;
    hr_batch *one; /* the stored event, alone in a batch */
} fx_event;

typedef struct fx_parked {
    hr_row row;
    hr_batch *one;
} fx_parked;

typedef struct fx_checkpoint {
    bool exists;
    uint64_t low;
    uint8_t settled[8192];
    size_t settled_size;
    hr_counters counters;
} fx_checkpoint;

typedef struct fx_read {
    uint32_t function, feed, max;
    bool parked;
    uint64_t from, positions[256];
    size_t count;
} fx_read;

typedef struct fixture {
    hr_dispatch *d;
    hr_output out;
    uint64_t now_ms, random, wake_ns;
    /* durable */
    fx_event journal[FX_FEEDS][FX_EVENTS];
    uint64_t next[FX_FEEDS];
    fx_checkpoint checkpoint[FX_FUNCTIONS][FX_FEEDS];
    fx_parked parked[FX_LIST];
    bool removed[FX_FUNCTIONS]; /* wholly, or from its feed */
    uint32_t leaves; /* function that takes no more from its feed at the next start (of FX_PULL:
                        when it is assigned); 0: none */
    size_t parked_count, dead_rows, drop_rows;
    char reason[64]; /* of the newest dead letter */
    /* on its way */
    hr_unit *units[FX_LIST];
    size_t unit_count;
    fx_read reads[64];
    size_t read_count;
    hr_call *calls[64];
    size_t call_count;
    /* seen by the test */
    uint64_t durable_ticket, last_refused;
    hr_code refused_why;
    uint32_t refused, want, cancels;
    /* the pull feed: what stands at its source is journal[FX_PULL], positions below next are there
     */
    uint32_t epoch;  /* the store's */
    uint64_t group;  /* the group's offset: what was told by SETTLED; 0: nothing */
    uint64_t sent;   /* the next to be delivered */
    uint64_t credit; /* events that may be delivered */
    bool is_owned, is_revoking;
    uint32_t revoked; /* REVOKED so far */
    bool called[FX_FUNCTIONS][FX_FEEDS][FX_EVENTS], done[FX_FUNCTIONS][FX_FEEDS][FX_EVENTS];
    uint64_t noted;      /* calls */
    uint32_t unanswered; /* events of calls that ended without an answer for each */
    uint64_t call_of[FX_FUNCTIONS][FX_FEEDS][FX_EVENTS]; /* the number of its newest call */
    bool running[FX_FUNCTIONS][FX_FEEDS][FX_EVENTS];
    hr_function_policy functions[FX_FUNCTIONS];
    uint32_t takes[FX_FUNCTIONS]; /* the feed of each; 0: no such function */
    bool dedupe, keep_order, makes_ids;
    uint64_t max_bytes, dead_max, seed;
    uint64_t max_offer; /* of FX_IN alone; 0: max_bytes */
    uint32_t window, checkpoint_ms;
    uint64_t window_bytes, queue_bytes;
    const char *attribute; /* events carry it, as number; NULL: none */
    uint32_t number;
    int64_t jump_ms;    /* of the wall clock */
    const char *broken; /* what a check found; NULL: nothing */
} fixture;

/* Zeroed memory with defaults; set functions and takes, then start. */
fixture *fx_new(void);
void fx_free(fixture *take_fixture);

/* Makes the dispatcher from what is durable; a restart ends the old one without its answers. */
void fx_start(fixture *fx);
void fx_restart(fixture *fx);

/* A fixture with one function on FX_IN, in the order of keys: 2 lanes, calls of up to 4 events, 3
 * attempts with 10 ms between them. */
fixture *fx_one(void);

/* The fixture's random bits (xorshift). */
uint64_t fx_random(fixture *fx);

/* Inputs. */
void fx_step(fixture *fx, hr_input *input);
void fx_offer(fixture *fx, uint64_t ticket, uint64_t first_id, uint32_t count, uint32_t keys);
void fx_wake(fixture *fx, uint64_t later_ms);
void fx_answer(fixture *fx, size_t call, hr_code failure, const hr_exception *exceptions,
               size_t count, bool with_results);
void fx_ok(fixture *fx); /* the oldest call: all went well */
void fx_fail(fixture *fx, size_t call, uint32_t index, hr_outcome outcome); /* one event did not */
void fx_unit(fixture *fx, hr_code result); /* the oldest unit ends */
void fx_serve(fixture *fx);                /* the oldest read is answered */
void fx_read_fails(fixture *fx);           /* the oldest read does not go well */
void fx_settle_store(fixture *fx);         /* all units and reads */

/* The pull feed (dispatch_fixture_pull.c). */
void fx_produce(fixture *fx, uint32_t count, uint32_t keys); /* at the source */
void fx_assign(fixture *fx);                /* it becomes ours, from its position */
void fx_deliver(fixture *fx, uint32_t max); /* within the credit */
void fx_revoke(fixture *fx);
void fx_forget(fixture *fx);
void fx_other_owner(fixture *fx, uint64_t to); /* another daemon handles all up to position to */

/* What must hold always (dispatch_fixture_check.c); what does not is said in broken. */
void fx_check_call(fixture *fx, const hr_call *call, uint32_t feed);
void fx_check_sums(fixture *fx);
bool fx_is_settled(const fixture *fx, uint32_t function, uint32_t feed, uint64_t position);

/* Shared by the files of the fixture. */
hr_batch *fx_alone(uint32_t feed, uint64_t position, hr_slice envelope);
void fx_pack(const fixture *fx, hr_builder *builder, uint64_t position, uint64_t id, uint64_t key);
void fx_add_pull(fixture *fx, bool is_away);
void fx_load_parked(fixture *fx, uint32_t feed); /* 0: all */

#endif
