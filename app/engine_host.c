/* SPDX-License-Identifier: Apache-2.0 */
/* What triggers and runtimes may call: their words become inputs of the step. */
#include "app/engine_priv.h"
#include "core/crash.h"
#include "core/log.h"
#include "core/mutant.h"
#include "triggers/cron.h"

enum { REVOKE_WAIT_MS = 5000 };

static engine_trigger *own_trigger(hr_trigger *self) {
    engine_trigger *all = self->host_data;
    return &all[self->index];
}

/* ---- triggers ---- */

#ifdef HEADRACE_MUTANTS
typedef struct early_ack {
    hr_message message; /* first */
    hr_trigger *trigger;
    uint64_t ticket;
} early_ack;

static void ack_early(hr_message *message) {
    early_ack *ack = (early_ack *)message;
    ack->trigger->ops->durable(ack->trigger, ack->ticket);
    hr_free(ack);
}
#endif

/* The mutant "ack-before-commit": the source hears "yours is safe" while the commit is under way.
 */
static void mutate_ack(hr_trigger *self, uint64_t ticket) {
#ifdef HEADRACE_MUTANTS
    if (HR_MUTANT("ack-before-commit") && self->ops->durable != NULL) {
        early_ack *ack = hr_alloc(sizeof *ack);
        *ack = (early_ack){.message = {.run = ack_early}, .trigger = self, .ticket = ticket};
        hr_loop_post(self->loop, &ack->message);
    }
#else
    (void)self;
    (void)ticket;
#endif
}

static void offer(hr_trigger *self, hr_batch *take_batch, uint64_t ticket) {
    engine_trigger *t = own_trigger(self);
    hr_row row = {.kind = HR_ROW_FIRE, .feed = t->feed};
    hr_input input = {.kind = HR_IN_OFFER,
                      .offer = {.feed = t->feed, .ticket = ticket, .take_batch = take_batch}};
    if (strcmp(t->kind, "cron") == 0) { /* the tick and its instant in one unit (S1) */
        row.due_ms = HR_MUTANT("fire-before-tick") ? hr_cron_next_fire(self)
                                                   : hr_cron_last_fire(self, ticket);
        input.offer.rows = &row;
        input.offer.row_count = 1;
    }
    hr_engine_input(t->engine, &input);
    mutate_ack(self, ticket);
}

static void reject(hr_trigger *self, hr_slice raw, const char *why, uint64_t ticket) {
    engine_trigger *t = own_trigger(self);
    uint32_t feed = t->is_pull ? (t->pull_count > 0 ? t->pull_feeds[0] : 0) : t->feed;
    if (raw.size > 64 << 10) {
        raw.size = 64 << 10;
    }
    hr_log(HR_LOG_WARN, t->name, "malformed input became a dead letter: %s", why);
    hr_input input = {
        .kind = HR_IN_REJECT,
        .reject = {.feed = feed, .ticket = ticket, .raw = raw, .why = hr_slice_text(why)}};
    hr_engine_input(t->engine, &input);
}

static uint32_t assign(hr_trigger *self, const char *identity, uint64_t *out_low) {
    engine_trigger *t = own_trigger(self);
    hr_engine *e = t->engine;
    uint32_t feed = 0, epoch = 0;
    hr_error err = {0};
    *out_low = UINT64_MAX;
    if (hr_store_feed_open(e->store, "pull", identity, &feed, &epoch, &err) != HR_OK ||
        hr_engine_load(e, feed, &err) != HR_OK) {
        if (err.code != HR_E_STORE_STOPPED) { /* the log has that line */
            hr_log(HR_LOG_ERROR, t->name, "cannot open the feed %s: %s", identity, err.text);
        }
        return 0;
    }
    if (hr_engine_trigger_of(e, feed) == NULL) {
        t->pull_feeds = hr_realloc(t->pull_feeds, (t->pull_count + 1) * sizeof *t->pull_feeds);
        t->pull_feeds[t->pull_count++] = feed;
    }
    hr_feed_policy policy = {.id = feed, .pull = true, .epoch = epoch};
    hr_dispatch_add_feed(e->dispatch, &policy);
    for (size_t i = 0; i < e->function_count; i++) {
        engine_function *f = &e->functions[i];
        if (!hr_function_takes(f, t)) {
            hr_dispatch_leave(e->dispatch, f->id, feed); /* what it parked there when it did */
            continue;
        }
        if (t->key != NULL) {
            hr_sql_matcher_feed_key(&f->matcher, feed, t->key);
        }
        hr_engine_take(e, f, feed, true, false);
    }
    for (size_t i = 0; i < e->checkpoint_count; i++) {
        if (e->checkpoints[i].feed == feed && e->checkpoints[i].low < *out_low) {
            *out_low = e->checkpoints[i].low;
        }
    }
    for (size_t i = 0; i < e->parked_count; i++) {
        hr_dispatch_load_parked(e->dispatch, &e->parked[i]);
    }
    return feed;
}

static void begin(hr_trigger *self, uint32_t feed, uint64_t position) {
    hr_input input = {.kind = HR_IN_BEGIN, .begin = {.feed = feed, .position = position}};
    hr_engine_input(own_trigger(self)->engine, &input);
}

static void deliver(hr_trigger *self, hr_batch *take_batch) {
    hr_input input = {.kind = HR_IN_DELIVER, .deliver = {.take_batch = take_batch}};
    hr_engine_input(own_trigger(self)->engine, &input);
}

static void forget(void *data) {
    revoking *r = data;
    hr_input input = {.kind = HR_IN_FORGET, .revoke = {.feed = r->feed}};
    hr_engine_input(r->trigger->engine, &input);
}

static void revoke_feed(hr_trigger *self, uint32_t feed, void (*done)(void *data), void *data) {
    engine_trigger *t = own_trigger(self);
    revoking *r = hr_alloc(sizeof *r);
    *r = (revoking){.feed = feed, .done = done, .data = data, .trigger = t, .next = t->revokes};
    r->timer = hr_timer_new(self->loop, forget, r);
    hr_timer_start(r->timer, REVOKE_WAIT_MS, 0);
    t->revokes = r;
    hr_input input = {.kind = HR_IN_REVOKE, .revoke = {.feed = feed}};
    hr_engine_input(t->engine, &input);
}

void hr_engine_revoked(hr_engine *e, uint32_t feed) {
    for (size_t i = 0; i < e->trigger_count; i++) {
        for (revoking **at = &e->triggers[i].revokes; *at != NULL; at = &(*at)->next) {
            if ((*at)->feed == feed) {
                revoking *r = *at;
                *at = r->next;
                hr_timer_free(r->timer);
                r->done(r->data);
                hr_free(r);
                return;
            }
        }
    }
    hr_log(HR_LOG_ERROR, "headrace",
           "the feed %u was opened by somebody else: nothing more of it is handled here",
           (unsigned)feed);
}

void hr_engine_log_up(const engine_trigger *t) {
    hr_log(HR_LOG_INFO, t->name, "%s is up%s%s", t->kind, t->reason[0] == '\0' ? "" : ": ",
           t->reason);
}

static void state(hr_trigger *self, hr_trigger_up up, const char *reason) {
    engine_trigger *t = own_trigger(self);
    const char *text = reason == NULL ? "" : reason;
    if (up == t->up && strcmp(text, t->reason) == 0) {
        return;
    }
    if (up == HR_TRIGGER_DOWN) {
        hr_log(HR_LOG_WARN, t->name, "%s is down: %s", t->kind, text);
    }
    t->up = up;
    t->since_us = hr_real_us();
    size_t size = strlen(text) < sizeof t->reason - 1 ? strlen(text) : sizeof t->reason - 1;
    memcpy(t->reason, text, size);
    t->reason[size] = '\0';
    if (up == HR_TRIGGER_UP && t->engine->is_started) { /* else the start may yet fail */
        hr_engine_log_up(t);
    }
}

static void gauge(hr_trigger *self, const char *name, int64_t value) {
    engine_trigger *t = own_trigger(self);
    for (size_t i = 0; i < GAUGES; i++) {
        if (t->gauges[i].name[0] == '\0') {
            size_t size = strlen(name);
            HR_ASSERT(size < sizeof t->gauges[i].name);
            memcpy(t->gauges[i].name, name, size + 1);
        }
        if (strcmp(t->gauges[i].name, name) == 0) {
            t->gauges[i].value = value;
            return;
        }
    }
}

static void keep(hr_trigger *self, int64_t time_us) {
    engine_trigger *t = own_trigger(self);
    hr_row row = {.kind = HR_ROW_FIRE, .feed = t->feed, .due_ms = time_us};
    hr_input input = {.kind = HR_IN_OFFER,
                      .offer = {.feed = t->feed, .rows = &row, .row_count = 1}};
    hr_engine_input(t->engine, &input);
}

static void trigger_stopped(hr_trigger *self) {
    engine_trigger *t = own_trigger(self);
    t->is_stopped = true;
    hr_engine_check_finished(t->engine);
}

const hr_trigger_host hr_engine_trigger_host = {.offer = offer,
                                                .reject = reject,
                                                .assign = assign,
                                                .begin = begin,
                                                .deliver = deliver,
                                                .revoke = revoke_feed,
                                                .state = state,
                                                .gauge = gauge,
                                                .keep = keep,
                                                .stopped = trigger_stopped};

/* ---- functions ---- */

static engine_function *own_function(hr_runtime *self) {
    engine_function *all = self->host_data;
    return &all[self->index];
}

static void room(hr_runtime *self, uint32_t slots) {
    engine_function *f = own_function(self);
    f->slots = slots;
    hr_input input = {.kind = HR_IN_ROOM, .room = {.function = f->id, .slots = slots}};
    hr_engine_input(f->engine, &input);
}

static void answer(hr_runtime *self, const hr_answer *answer) {
    HR_CRASH_POINT("engine.answered");
    hr_input input = {.kind = HR_IN_ANSWER, .answer = answer};
    hr_engine_input(own_function(self)->engine, &input);
}

static void line(hr_runtime *self, hr_slice event_id, int attempt, int level, hr_slice text) {
    engine_function *f = own_function(self);
    hr_handler_log_add(f->engine->handler_log, f->name, event_id, attempt, level, text,
                       hr_real_us());
}

static void down(hr_runtime *self, const char *why) {
    engine_function *f = own_function(self);
    const char *text = why == NULL ? "" : why;
    if (strncmp(text, f->down, sizeof f->down - 1) == 0) {
        return;
    }
    if (why != NULL) {
        hr_log(HR_LOG_ERROR, f->name, "the function cannot run: %s; its events wait", why);
    } else {
        hr_log(HR_LOG_INFO, f->name, "the function can run again");
    }
    size_t size = strlen(text) < sizeof f->down - 1 ? strlen(text) : sizeof f->down - 1;
    memcpy(f->down, text, size);
    f->down[size] = '\0';
}

static void runtime_stopped(hr_runtime *self) {
    engine_function *f = own_function(self);
    f->is_stopped = true;
    hr_engine_check_finished(f->engine);
}

const hr_runtime_host hr_engine_runtime_host = {
    .room = room, .answer = answer, .line = line, .down = down, .stopped = runtime_stopped};
