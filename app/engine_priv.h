/* SPDX-License-Identifier: Apache-2.0 */
/* State shared by the files engine_*.c; for nobody else. */
#ifndef HR_APP_ENGINE_PRIV_H
#define HR_APP_ENGINE_PRIV_H

#include "app/engine.h"
#include "app/handler_log.h"
#include "app/json_parts.h"
#include "app/matcher.h"
#include "broker/trigger.h"
#include "core/memory.h"
#include "net/http_server.h"

#define HR_LISTEN "127.0.0.1:7080" /* settings.listen when it is absent */

enum { GAUGES = 8 };

typedef struct engine_trigger {
    hr_engine *engine;
    hr_trigger *object;
    const hr_node *config;
    const char *name, *kind;
    uint32_t feed; /* push */
    bool is_pull;
    uint32_t *pull_feeds;
    size_t pull_count;
    hr_expression *key, *dedupe_by;
    hr_sql_identify identify;
    hr_trigger_up up;
    char reason[300];
    int64_t since_us;
    struct {
        char name[24];
        int64_t value;
    } gauges[GAUGES];
    bool is_started, is_stopped;
    struct revoking *revokes;
} engine_trigger;

typedef struct revoking {
    uint32_t feed;
    void (*done)(void *data);
    void *data;
    hr_timer *timer;
    engine_trigger *trigger;
    struct revoking *next;
} revoking;

typedef struct engine_function {
    hr_engine *engine;
    hr_runtime *object;
    const hr_node *config;
    const char *name, *kind;
    char *config_dir;
    uint32_t id, inject_feed, result_feed; /* result_feed 0: nobody takes its results */
    hr_sql_matcher matcher;
    bool has_matcher, is_started, is_stopping, is_stopped;
    uint32_t slots;
    char down[300];            /* empty: it can run */
    engine_trigger **triggers; /* it takes from */
    size_t trigger_count;
    struct engine_function **functions;
    size_t function_count;
} engine_function;

/* What the store knew of a feed or of a function on a feed at start. */
typedef struct known_feed {
    uint32_t id;
    bool is_pull, is_added; /* is_added: the dispatcher has it */
    char *identity;
    uint64_t next, unsettled;
    int64_t last_fire_us;
    hr_counters counters;
} known_feed;

typedef struct known_checkpoint {
    uint32_t function, feed;
    bool is_taken;
    uint64_t low;
    hr_buffer settled;
    hr_counters counters;
} known_checkpoint;

/* A function that stands in the store but not in the configuration. */
typedef struct removed_function {
    uint32_t id;
    char *name;
    bool is_known; /* since an earlier start */
} removed_function;

typedef struct queued_input {
    hr_input input;
    char *raw, *why;
    hr_row *rows;
    struct queued_input *next;
} queued_input;

typedef struct emit_wait {
    uint64_t ticket;
    hr_request *request;
    json_t *ids;
    struct emit_wait *next;
} emit_wait;

struct hr_engine {
    hr_engine_options options;
    hr_loop *loop;
    hr_store *store;
    hr_dispatch *dispatch;
    hr_history *history;
    hr_handler_log *handler_log;
    hr_sql *sql;
    hr_http_server *http;
    engine_trigger *triggers;
    size_t trigger_count;
    engine_function *functions;
    size_t function_count;
    known_feed *feeds;
    size_t feed_count;
    known_checkpoint *checkpoints;
    size_t checkpoint_count;
    hr_row *parked;
    size_t parked_count;
    removed_function *removed;
    size_t removed_count;
    uint64_t dead_count, dead_max;
    uint64_t feed_quota;
    hr_timer *wake, *grace, *tick;
    uint64_t wake_ns, chance, emit_ticket;
    bool is_stepping, is_intake_open, is_started, is_stopping, is_finishing, is_http_stopped;
    queued_input *queue, **queue_end;
    void (*stopped)(void *data);
    void *stopped_data;
    emit_wait *emits;
    int64_t started_us;
};

/* engine.c */
void hr_engine_input(hr_engine *e, const hr_input *input);
void hr_engine_check_finished(hr_engine *e);

const char *hr_engine_feed_name(const hr_engine *e, uint32_t feed); /* NULL: unknown */

/* engine_find.c */
engine_trigger *hr_engine_trigger(const hr_engine *e, const char *name);
engine_function *hr_engine_function(const hr_engine *e, const char *name);
engine_trigger *hr_engine_trigger_of(const hr_engine *e, uint32_t feed);
engine_function *hr_engine_function_of(const hr_engine *e, uint32_t id);
/* Of removed ones too; NULL: unknown. */
const char *hr_engine_function_name(const hr_engine *e, uint32_t id);
bool hr_function_takes(const engine_function *f, const engine_trigger *t);

/* engine_load.c */
known_feed *hr_engine_known_feed(hr_engine *e, uint32_t id);
hr_code hr_engine_load(hr_engine *e, uint32_t only_feed, hr_error *err);
hr_code hr_engine_build_left(hr_engine *e, hr_error *err);

/* engine_build.c */
hr_code hr_engine_build(hr_engine *e, hr_error *err);
void hr_engine_unbuild(hr_engine *e);
void hr_engine_take(hr_engine *e, engine_function *f, uint32_t feed, bool is_pull, bool from_start);
hr_code hr_engine_add_journal(hr_engine *e, uint32_t id, engine_trigger *t, bool has_replays,
                              hr_error *err);

/* engine_host.c */
extern const hr_trigger_host hr_engine_trigger_host;
extern const hr_runtime_host hr_engine_runtime_host;
void hr_engine_revoked(hr_engine *e, uint32_t feed);
void hr_engine_log_up(const engine_trigger *t);

/* engine_query.c */
void hr_answer_error(hr_request *request, const char *text);

/* engine_dead.c, engine_trace.c */
json_t *hr_dead_json(hr_engine *e, const hr_found *found, bool whole);
void hr_engine_dlq(hr_engine *e, hr_request *request);
void hr_engine_trace(hr_engine *e, hr_request *request);

/* engine_emit.c */
void hr_engine_emit(hr_engine *e, hr_request *request);
void hr_engine_emitted(hr_engine *e, uint64_t ticket, hr_code result);
void hr_engine_inject(hr_engine *e, engine_function *f, hr_batch *take_batch, const hr_row *row,
                      uint64_t ticket);
bool hr_engine_can_replay(const hr_row *dead); /* it holds a whole event */
void hr_engine_replay(hr_engine *e, engine_function *f, const hr_row *dead, uint64_t ticket);
void hr_engine_drop(hr_engine *e, const hr_row *dead, uint64_t ticket);
uint64_t hr_engine_wait(hr_engine *e, hr_request *request, json_t *take_answer);

#endif
