/* SPDX-License-Identifier: Apache-2.0 */
/* Puts all together: the store, the dispatcher, triggers and functions of one configuration, on one
 * loop. It takes inputs from them, runs the step and carries out its actions; what it does itself
 * is dull on purpose.
 *
 * Life:  new -> start -> (requests)* -> stop -> free
 * Thread: loop. */
#ifndef HR_APP_ENGINE_H
#define HR_APP_ENGINE_H

#include "app/history.h"
#include "core/error.h"
#include "core/loop.h"
#include "core/node.h"

#include <jansson.h>

typedef struct hr_engine hr_engine;

/* The listening socket of the webhooks between two engines, so that no connection is refused while
 * one follows the other. */
typedef struct hr_listener {
    int fd;        /* -1: none */
    char *address; /* as the configuration says it; owned */
} hr_listener;

typedef struct hr_engine_options {
    hr_loop *loop;
    const hr_node *config; /* root map, borrowed for the engine's life */
    const char *state_dir;
    const char *listen;         /* NULL: settings.listen */
    hr_listener *listener;      /* taken over if the address is the same; NULL */
    bool log_files;             /* handler lines to files in state_dir/logs */
    void (*failed)(void *data); /* the store gave up and has logged it: the process must end */
    void *failed_data;
} hr_engine_options;

/* Opens the store and builds everything; nothing runs yet.
 * Errors: those of hr_store_open, HR_E_CONFIG, each one clear line. */
hr_code hr_engine_new(const hr_engine_options *options, hr_engine **out_engine, hr_error *err);

/* Starts triggers and functions. Errors: a port in use, ...; call hr_engine_stop then too. */
hr_code hr_engine_start(hr_engine *engine, hr_error *err);

/* Ends intake, lets running calls finish for at most grace_ms, commits; then stopped(data). */
void hr_engine_stop(hr_engine *engine, uint32_t grace_ms, void (*stopped)(void *data), void *data);

/* Closes the store and frees all; after stopped. */
void hr_engine_free(hr_engine *take_engine);

/* The port of the webhook server, 0: none. */
int hr_engine_port(const hr_engine *engine);

/* A second descriptor of its listening socket; before hr_engine_stop. Freed by
 * hr_listener_close(), also when it was taken over. */
hr_listener hr_engine_listener(const hr_engine *engine);
void hr_listener_close(hr_listener *listener);

/* No triggers configured? */
bool hr_engine_is_empty(const hr_engine *engine);

/* Is this the name of a trigger or a function? */
bool hr_engine_has_name(const hr_engine *engine, const char *name);

/* The history, for taps. */
hr_history *hr_engine_history(hr_engine *engine);

/* Answers a request of the CLI: {"verb": "status" | "emit" | "trace" | "logs" | "dlq" |
 * "checkpoint",
 * ...}. The answer (new reference, {"error": text} when it failed) comes now or later, once. */
typedef struct hr_request hr_request;
struct hr_request {
    json_t *body; /* borrowed until answered */
    void (*answer)(hr_request *self, json_t *take_answer);
};
void hr_engine_request(hr_engine *engine, hr_request *request);

/* Receives, deliveries, ... and pending, counted from the store (design.md 2); asynchronous. */
void hr_engine_totals(hr_engine *engine, void (*answer)(void *data, json_t *take_totals),
                      void *data);

#endif
