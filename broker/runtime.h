/* SPDX-License-Identifier: Apache-2.0 */
/* A runtime runs one function: worker processes, a shared object, an HTTP address.
 *
 * Life:  init -> start -> (room, call, answer, cancel)* -> stop -> stopped -> fini
 * Rule:  exactly one answer for each call, never from within call(). */
#ifndef HR_BROKER_RUNTIME_H
#define HR_BROKER_RUNTIME_H

#include "core/batch.h"
#include "core/error.h"
#include "core/loop.h"
#include "core/node.h"

typedef struct hr_runtime hr_runtime;

/* One event of a call. */
typedef struct hr_event_ref {
    hr_batch *batch; /* a reference held by the dispatcher until the answer */
    uint16_t index;
    uint16_t attempt;  /* from 1 */
    uint32_t replay;   /* replay number, 0: none */
    uint64_t key_hash; /* what is held back together when one fails; 0: by itself */
} hr_event_ref;

/* One call: a batch of events of one lane, in order. Owned by the dispatcher until answered. */
typedef struct hr_call {
    uint64_t id; /* unique per run: stale answers show */
    uint32_t function, version, lane, count;
    const hr_event_ref *events;
    uint64_t deadline_ns; /* mono; the engine calls cancel() at it */
    void *slot;           /* the runtime's; NULL at call() */
} hr_call;

typedef enum hr_outcome {
    HR_OUTCOME_OK,
    HR_OUTCOME_RETRY,
    HR_OUTCOME_DROP,
    HR_OUTCOME_DEAD,
    HR_OUTCOME_NOT_RUN
} hr_outcome;

typedef struct hr_exception {
    uint16_t index;   /* in the call */
    uint8_t outcome;  /* hr_outcome, not OK */
    int64_t after_ms; /* RETRY: wait at least this; -1: by the policy. >= 0 uses no attempt up
                         (429/503 with Retry-After, retry(after)) */
    hr_slice why;     /* error text, copied by the dispatcher */
} hr_exception;

/* The answer to a call; everything is borrowed for the call of hr_runtime_host.answer but results.
 */
typedef struct hr_answer {
    uint64_t call;
    hr_code failure; /* HR_OK, or CALL_TIMEOUT / CRASHED / GARBAGE / UNSTARTED for the whole call:
                        exceptions and results are then empty; UNSTARTED uses no attempts */
    hr_slice why;    /* text of failure */
    const hr_exception *exceptions; /* ascending index; not named = ok */
    size_t exception_count;
    hr_batch *take_results; /* result events, NULL: none */
    const uint16_t *causes; /* for each result, the index of its event in the call; ascending */
} hr_answer;

typedef struct hr_runtime_ops {
    const char *kind;   /* the word in the configuration: "python" */
    size_t object_size; /* bytes; hr_runtime comes first, the object arrives zeroed */

    /* Loads the libraries that this configuration needs (the value under the kind key), so that a
     * missing one is told before anything starts. NULL: none. */
    hr_code (*load)(const hr_node *kind_config, hr_error *err);

    hr_code (*init)(hr_runtime *self, hr_error *err);  /* reads config; opens nothing */
    hr_code (*start)(hr_runtime *self, hr_error *err); /* room() follows when calls may come */

    /* Begins one call; never more at once than room() allowed. */
    void (*call)(hr_runtime *self, hr_call *call);

    /* Past its deadline: stop it if you can (kill the worker). The answer still comes, with
     * HR_E_CALL_TIMEOUT. */
    void (*cancel)(hr_runtime *self, hr_call *call);

    void (*stop)(hr_runtime *self); /* no call runs any more; ends workers, then stopped() */
    void (*fini)(hr_runtime *self);
} hr_runtime_ops;

/* What a runtime calls, on the loop thread. */
typedef struct hr_runtime_host {
    void (*room)(hr_runtime *self, uint32_t slots); /* so many calls may run at once from now on */
    void (*answer)(hr_runtime *self, const hr_answer *answer);
    /* A line the handler printed (or logged). event_id empty: between events. level as in
     * core/log.h */
    void (*line)(hr_runtime *self, hr_slice event_id, int attempt, int level, hr_slice text);
    /* why the function cannot run now ("ModuleNotFoundError ..."), NULL: it can again */
    void (*down)(hr_runtime *self, const char *why);
    void (*stopped)(hr_runtime *self);
} hr_runtime_host;

struct hr_runtime {
    const hr_runtime_ops *ops;
    const hr_runtime_host *host;
    hr_loop *loop;
    const char *name;           /* the function's name */
    const hr_node *config;      /* the whole function's map */
    const hr_node *kind_config; /* the value under its kind key (text or map) */
    const char *config_dir;     /* folder of the file that names it: relative paths start here */
    const char *state_dir;
    uint32_t version; /* hash of config, for frames */
    bool has_takers;  /* results become events; otherwise they are counted only */
    uint32_t timeout_ms;
    uint32_t batch_size;  /* most events of one call */
    uint32_t concurrency; /* lanes */
    uint32_t index;       /* the engine's */
    void *host_data;      /* the engine's */
};

/* By name; NULL when unknown. Defined in functions/registry.c. */
const hr_runtime_ops *hr_runtime_kind(const char *kind);

#endif
