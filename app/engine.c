/* SPDX-License-Identifier: Apache-2.0 */
#include "app/engine.h"

#include "app/engine_priv.h"
#include "app/loader.h"
#include "core/crash.h"
#include "core/log.h"
#include "triggers/cron.h"

#include <sys/random.h>
#include <unistd.h>

enum { MAX_WAKE_MS = 60000 }; /* the wall clock may jump: due times are looked at again */

static void on_space(void *data, bool open) {
    hr_engine *e = data;
    e->is_intake_open = open;
    for (size_t i = 0; i < e->trigger_count; i++) {
        engine_trigger *t = &e->triggers[i];
        if (!t->is_pull && t->is_started && t->object->ops->want != NULL) {
            t->object->ops->want(t->object, t->feed, open ? 1 : 0);
        }
    }
}

static void on_unit_done(hr_unit *unit, hr_code result) {
    hr_engine *e = unit->owner;
    hr_free(unit->attached);
    unit->attached = NULL;
    if (result == HR_E_STORE_IO) {
        e->options.failed(e->options.failed_data); /* the store has told why */
        return;
    }
    if (result != HR_OK && result != HR_E_STORE_FULL && result != HR_E_STOPPING &&
        result != HR_E_FENCED) { /* kept and tried again, but never in silence */
        hr_log(HR_LOG_ERROR, "store", "a unit of function %u on feed %u was refused: %s",
               (unsigned)unit->function, (unsigned)unit->feed, hr_code_meaning(result));
    }
    HR_CRASH_POINT("engine.durable");
    hr_input input = {.kind = HR_IN_DURABLE, .durable = {.unit = unit, .result = result}};
    hr_engine_input(e, &input);
}

static bool is_death(const hr_row *row) {
    return row->kind == HR_ROW_DEAD && row->function != 0;
}

/* Log lines of what dies go with its dead letter; the text lives as long as the unit. */
static void attach_logs(hr_engine *e, hr_unit *unit) {
    hr_buffer text = {0};
    for (size_t i = 0; i < unit->row_count; i++) {
        engine_function *f =
            is_death(&unit->rows[i]) ? hr_engine_function_of(e, unit->rows[i].function) : NULL;
        size_t at = text.size;
        if (f != NULL) {
            hr_handler_log_of(e->handler_log, f->name, unit->rows[i].event_id, 20, &text);
            unit->rows[i].logs.size = text.size - at;
        }
    }
    size_t at = 0;
    for (size_t i = 0; i < unit->row_count; i++) {
        if (is_death(&unit->rows[i])) {
            unit->rows[i].logs = hr_slice_of(text.bytes + at, unit->rows[i].logs.size);
            at += unit->rows[i].logs.size;
        }
    }
    unit->attached = text.bytes;
}

static void commit(hr_engine *e, hr_unit *unit) {
    unit->owner = e;
    unit->done = on_unit_done;
    hr_free(unit->attached); /* submitted again after a full disk */
    unit->attached = NULL;
    attach_logs(e, unit);
    hr_store_submit(e->store, unit);
}

typedef struct engine_read {
    hr_read read; /* first */
    hr_engine *engine;
    uint64_t *positions;
} engine_read;

static void on_read(hr_read *read) {
    engine_read *own = (engine_read *)read;
    hr_batch *batch = read->batch;
    read->batch = NULL;
    hr_input input = {.kind = HR_IN_READ,
                      .read = {.function = read->function,
                               .feed = read->feed,
                               .parked = read->kind == HR_READ_PARKED,
                               .result = read->result,
                               .take_batch = batch,
                               .corrupt = read->corrupt,
                               .corrupt_count = read->corrupt_count,
                               .from = read->from,
                               .at_end = read->at_end}};
    if (read->result != HR_OK) {
        hr_log(HR_LOG_ERROR, "store", "reading events failed: %s", hr_code_meaning(read->result));
    }
    hr_engine_input(own->engine, &input);
    hr_read_fini(read);
    hr_free(own->positions);
    hr_free(own);
}

static void run_read(hr_engine *e, const hr_action *act) {
    engine_read *own = hr_alloc(sizeof *own);
    own->engine = e;
    own->read.kind = act->read.parked ? HR_READ_PARKED : HR_READ_JOURNAL;
    own->read.function = act->function;
    own->read.feed = act->feed;
    own->read.from = act->read.from;
    own->read.max = act->read.max;
    if (act->read.parked) {
        size_t size = act->read.position_count * sizeof *own->positions;
        own->positions = hr_alloc(size);
        memcpy(own->positions, act->read.positions, size);
        own->read.positions = own->positions;
        own->read.position_count = act->read.position_count;
    }
    own->read.done = on_read;
    hr_store_read(e->store, &own->read);
}

static void act_on_trigger(hr_engine *e, const hr_action *act) {
    if (act->kind == HR_DO_REVOKED) {
        hr_engine_revoked(e, act->feed);
        return;
    }
    bool is_emit =
        (act->kind == HR_DO_DURABLE || act->kind == HR_DO_REFUSED) && (act->ticket.last >> 63) != 0;
    if (is_emit) {
        hr_engine_emitted(e, act->ticket.last,
                          act->kind == HR_DO_DURABLE ? HR_OK : act->ticket.why);
        return;
    }
    engine_trigger *t = hr_engine_trigger_of(e, act->feed);
    if (t == NULL || t->is_stopped) {
        return; /* a feed of results or of replays */
    }
    const hr_trigger_ops *ops = t->object->ops;
    if (act->kind == HR_DO_DURABLE && ops->durable != NULL) {
        HR_CRASH_POINT("engine.before-ack");
        ops->durable(t->object, act->ticket.last);
        HR_CRASH_POINT("engine.after-ack");
    } else if (act->kind == HR_DO_REFUSED && ops->refused != NULL) {
        ops->refused(t->object, act->ticket.first, act->ticket.last, act->ticket.why);
    } else if (act->kind == HR_DO_WANT && ops->want != NULL) {
        ops->want(t->object, act->feed, act->events);
    } else if (act->kind == HR_DO_SETTLED && ops->settled != NULL) {
        ops->settled(t->object, act->feed, act->low);
    }
}

static void act_on(hr_engine *e, const hr_action *act) {
    engine_function *f = NULL;
    switch (act->kind) {
    case HR_DO_COMMIT:
        commit(e, act->unit);
        return;
    case HR_DO_CALL:
    case HR_DO_CANCEL:
        f = hr_engine_function_of(e, act->function);
        HR_ASSERT(f != NULL);
        if (act->kind == HR_DO_CALL) {
            HR_CRASH_POINT("engine.call");
            f->object->ops->call(f->object, act->call);
        } else {
            f->object->ops->cancel(f->object, act->call);
        }
        return;
    case HR_DO_READ:
        run_read(e, act);
        return;
    case HR_DO_DURABLE:
    case HR_DO_REFUSED:
    case HR_DO_WANT:
    case HR_DO_SETTLED:
    case HR_DO_REVOKED:
        act_on_trigger(e, act);
        return;
    }
}

static void on_wake(void *data) {
    hr_engine *e = data;
    e->wake_ns = UINT64_MAX;
    hr_input input = {.kind = HR_IN_WAKE};
    hr_engine_input(e, &input);
}

static void wake_at(hr_engine *e, uint64_t ns) {
    if (ns >= e->wake_ns && e->wake_ns > hr_mono_ns()) {
        return; /* an earlier wake stands: it asks again */
    }
    e->wake_ns = ns;
    if (ns == UINT64_MAX) {
        return;
    }
    uint64_t now = hr_mono_ns();
    uint64_t ms = ns > now ? (ns - now + 999999) / 1000000 : 0;
    hr_timer_start(e->wake, ms < MAX_WAKE_MS ? ms : MAX_WAKE_MS, 0);
}

static void step(hr_engine *e, hr_input *input) {
    input->now_ns = hr_mono_ns();
    input->real_us = hr_real_us();
    e->chance = hr_hash(hr_slice_of(&e->chance, sizeof e->chance)) + 1;
    input->chance = e->chance;
    hr_output out = {0};
    hr_dispatch_step(e->dispatch, input, &out);
    for (size_t i = 0; i < out.count; i++) {
        act_on(e, &out.actions[i]);
    }
    wake_at(e, out.wake_ns);
}

/* What comes while a step's actions are carried out waits: actions are lent until the next step. */
static void enqueue(hr_engine *e, const hr_input *input) {
    queued_input *queued = hr_alloc(sizeof *queued);
    queued->input = *input;
    if (input->kind == HR_IN_REJECT) {
        queued->raw = hr_copy_bytes(input->reject.raw.bytes, input->reject.raw.size);
        queued->why = hr_copy_bytes(input->reject.why.bytes, input->reject.why.size);
        queued->input.reject.raw.bytes = (const uint8_t *)queued->raw;
        queued->input.reject.why.bytes = (const uint8_t *)queued->why;
    } else if (input->kind == HR_IN_OFFER && input->offer.row_count > 0) {
        queued->rows = hr_alloc_array(input->offer.row_count, sizeof *queued->rows);
        memcpy(queued->rows, input->offer.rows, input->offer.row_count * sizeof *queued->rows);
        queued->input.offer.rows = queued->rows;
    }
    HR_ASSERT(input->kind != HR_IN_ANSWER); /* never from within call() */
    queued->next = NULL;
    *e->queue_end = queued;
    e->queue_end = &queued->next;
}

static void check_finished(hr_engine *e);

void hr_engine_input(hr_engine *e, const hr_input *input) {
    if (e->is_stepping) {
        enqueue(e, input);
        return;
    }
    e->is_stepping = true;
    hr_input own = *input;
    step(e, &own);
    while (e->queue != NULL) {
        queued_input *queued = e->queue;
        e->queue = queued->next;
        if (e->queue == NULL) {
            e->queue_end = &e->queue;
        }
        step(e, &queued->input);
        hr_free(queued->raw);
        hr_free(queued->why);
        hr_free(queued->rows);
        hr_free(queued);
    }
    e->is_stepping = false;
    check_finished(e);
}

const char *hr_engine_feed_name(const hr_engine *e, uint32_t feed) {
    engine_trigger *t = hr_engine_trigger_of(e, feed);
    if (t != NULL) {
        return t->name;
    }
    for (size_t i = 0; i < e->function_count; i++) {
        if (e->functions[i].result_feed == feed) {
            return e->functions[i].name;
        }
        if (e->functions[i].inject_feed == feed) {
            return "replay";
        }
    }
    return NULL;
}

static const char *name_feed(void *data, uint32_t feed) {
    return hr_engine_feed_name(data, feed);
}

static const char *name_function(void *data, uint32_t function) {
    return hr_engine_function_name(data, function);
}

hr_code hr_engine_new(const hr_engine_options *options, hr_engine **out_engine, hr_error *err) {
    hr_engine *e = hr_alloc(sizeof *e);
    e->options = *options;
    e->loop = options->loop;
    e->queue_end = &e->queue;
    e->wake_ns = UINT64_MAX;
    e->is_intake_open = true;
    e->started_us = hr_real_us();
    if (getrandom(&e->chance, sizeof e->chance, 0) != (ssize_t)sizeof e->chance) {
        e->chance = hr_mono_ns();
    }
    e->wake = hr_timer_new(e->loop, on_wake, e);
    const hr_node *settings = hr_node_get(options->config, "settings");
    const hr_node *journal = hr_node_get(settings, "journal");
    hr_store_options store = {
        .dir = options->state_dir,
        .loop = e->loop,
        .ballast_bytes = (uint64_t)hr_node_number(settings, "ballast", 96 << 20),
        .journal_max_bytes = (uint64_t)hr_node_number(journal, "max_bytes", INT64_C(10) << 30),
        .journal_keep_ms = hr_node_number(journal, "keep", INT64_C(7) * 86400000),
        .dead_max_age_ms = hr_node_number(hr_node_get(settings, "dead"), "max_age", -1),
        .space = on_space,
        .space_data = e};
    hr_error missing = {0};
    hr_code code = hr_store_open(&store, &e->store, err);
    hr_code loaded = hr_loader_wait(&missing);
    if (loaded != HR_OK) {
        *err = missing;
        code = loaded;
    }
    if (code == HR_OK) {
        char *log_dir = options->log_files ? hr_format("%s/logs", options->state_dir) : NULL;
        hr_names names = {.feed = name_feed, .function = name_function, .data = e};
        e->history = hr_history_new(&names);
        e->handler_log =
            hr_handler_log_new(log_dir, (uint64_t)hr_node_number(hr_node_get(settings, "logs"),
                                                                 "max_bytes", 256 << 20));
        hr_free(log_dir);
        code = hr_engine_build(e, err);
    }
    if (code != HR_OK) {
        hr_engine_free(e);
        return code;
    }
    *out_engine = e;
    return HR_OK;
}

static hr_code start_function(engine_function *f, hr_error *err) {
    hr_code code = f->object->ops->start(f->object, err);
    if (code != HR_OK) {
        hr_wrap(err, "function '%s'", f->name);
        return code;
    }
    f->is_started = true;
    return HR_OK;
}

/* A first start counts from now (S20): that is durable too, or a tick missed while down were lost.
 */
static void keep_cron_base(const engine_trigger *t) {
    if (strcmp(t->kind, "cron") == 0 && t->object->kept_us == INT64_MIN) {
        t->object->host->keep(t->object, hr_cron_last_fire(t->object, 0));
    }
}

hr_code hr_engine_start(hr_engine *e, hr_error *err) {
    hr_code code = hr_store_start(e->store, err);
    for (size_t i = 0; code == HR_OK && i < e->function_count; i++) {
        code = start_function(&e->functions[i], err);
    }
    for (size_t i = 0; code == HR_OK && i < e->trigger_count; i++) {
        engine_trigger *t = &e->triggers[i];
        code = t->object->ops->start(t->object, err);
        if (code != HR_OK) {
            hr_wrap(err, "trigger '%s'", t->name);
            break;
        }
        t->is_started = true;
        keep_cron_base(t);
    }
    if (code == HR_OK && e->http != NULL) {
        code = hr_http_server_start(e->http, err);
        if (code != HR_OK) {
            hr_wrap(err, "settings.listen");
        }
    }
    for (size_t i = 0; code == HR_OK && i < e->trigger_count; i++) {
        if (e->triggers[i].up == HR_TRIGGER_UP) {
            hr_engine_log_up(&e->triggers[i]);
        }
    }
    e->is_started = code == HR_OK;
    if (code == HR_OK) {
        hr_input input = {.kind = HR_IN_WAKE}; /* first checkpoints, what was left pending */
        hr_engine_input(e, &input);
    }
    return code;
}

/* Triggers first, then what runs and what is committed, then functions. */
static void check_finished(hr_engine *e) {
    if (!e->is_stopping || e->is_finishing) {
        return;
    }
    for (size_t i = 0; i < e->trigger_count; i++) {
        if (e->triggers[i].is_started && !e->triggers[i].is_stopped) {
            return;
        }
    }
    if (e->http != NULL && !e->is_http_stopped) { /* its open requests were answered by then */
        e->is_http_stopped = true;
        hr_http_server_stop(e->http);
    }
    if (!hr_dispatch_is_idle(e->dispatch)) {
        return;
    }
    bool all_stopped = true;
    for (size_t i = 0; i < e->function_count; i++) {
        engine_function *f = &e->functions[i];
        if (f->is_started && !f->is_stopping) {
            f->is_stopping = true;
            f->object->ops->stop(f->object);
        }
        all_stopped = all_stopped && (!f->is_started || f->is_stopped);
    }
    if (all_stopped) {
        e->is_finishing = true;
        hr_timer_start(e->grace, 0, 0);
    }
}

void hr_engine_check_finished(hr_engine *e) {
    if (!e->is_stepping) {
        check_finished(e);
    }
}

static void on_grace(void *data) {
    hr_engine *e = data;
    if (!e->is_finishing) {
        hr_log(HR_LOG_WARN, "stop", "the time for running calls is over; they will run again");
        e->is_finishing = true;
    }
    e->stopped(e->stopped_data);
}

void hr_engine_stop(hr_engine *e, uint32_t grace_ms, void (*stopped)(void *data), void *data) {
    e->is_stopping = true;
    e->stopped = stopped;
    e->stopped_data = data;
    e->grace = hr_timer_new(e->loop, on_grace, e);
    hr_timer_start(e->grace, grace_ms, 0);
    for (size_t i = 0; i < e->trigger_count; i++) {
        engine_trigger *t = &e->triggers[i];
        if (t->is_started && !t->is_stopped) {
            t->object->ops->stop(t->object);
        }
    }
    hr_input input = {.kind = HR_IN_DRAIN};
    hr_engine_input(e, &input);
}

void hr_engine_free(hr_engine *take_engine) {
    hr_engine *e = take_engine;
    if (e == NULL) {
        return;
    }
    e->is_finishing = true;
    hr_store_close(e->store); /* runs done() of what is left */
    while (e->emits != NULL) {
        hr_engine_emitted(e, e->emits->ticket, HR_E_STOPPING);
    }
    hr_engine_unbuild(e);
    hr_history_free(e->history);
    hr_handler_log_free(e->handler_log);
    hr_timer_free(e->wake);
    hr_timer_free(e->grace);
    hr_free(e);
}

int hr_engine_port(const hr_engine *e) {
    return e->http == NULL ? 0 : hr_http_server_port(e->http);
}

hr_listener hr_engine_listener(const hr_engine *e) {
    const hr_node *settings = hr_node_get(e->options.config, "settings");
    return (hr_listener){.fd = e->http == NULL ? -1 : hr_http_server_listener(e->http),
                         .address = hr_copy_text(hr_node_text(settings, "listen", HR_LISTEN))};
}

void hr_listener_close(hr_listener *listener) {
    if (listener->fd >= 0) {
        close(listener->fd);
    }
    hr_free(listener->address);
    *listener = (hr_listener){.fd = -1};
}

bool hr_engine_is_empty(const hr_engine *e) {
    return e->trigger_count == 0;
}

hr_history *hr_engine_history(hr_engine *e) {
    return e->history;
}
