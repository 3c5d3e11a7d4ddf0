/* SPDX-License-Identifier: Apache-2.0 */
/* What the CLI asks: status, logs, checkpoints; dead letters and traces in files of their own. */
#include "app/engine_priv.h"

#include <unistd.h>

void hr_answer_error(hr_request *request, const char *text) {
    request->answer(request, json_pack("{s:o}", "error", json_string(text)));
}

/* ---- totals ---- */

typedef struct totals_read {
    hr_read read; /* first */
    hr_engine *engine;
    void (*answer)(void *data, json_t *take_totals);
    void *data;
} totals_read;

static json_t *totals_of(const hr_found *found) {
    const hr_counters *c = &found->counters;
    uint64_t settled = c->delivered + c->filtered + c->dropped + c->dead + c->expired;
    json_t *json = json_object();
    json_object_set_new(json, "deliveries", hr_count_json(c->deliveries));
    json_object_set_new(json, "delivered", hr_count_json(c->delivered));
    json_object_set_new(json, "filtered", hr_count_json(c->filtered));
    json_object_set_new(json, "dropped", hr_count_json(c->dropped));
    json_object_set_new(json, "dead", hr_count_json(c->dead));
    json_object_set_new(json, "expired", hr_count_json(c->expired));
    json_object_set_new(json, "pending", hr_count_json(found->pending));
    json_object_set_new(json, "drift",
                        json_integer((json_int_t)(c->deliveries - settled - found->pending)));
    json_object_set_new(json, "attempts", hr_count_json(c->attempts));
    json_object_set_new(json, "results", hr_count_json(c->results));
    json_object_set_new(json, "replays", hr_count_json(c->replays));
    return json;
}

static void add_up(json_t *sum, const json_t *more) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)more, key, value) {
        json_int_t before = json_integer_value(json_object_get(sum, key));
        json_object_set_new(sum, key, json_integer(before + json_integer_value(value)));
    }
}

static void on_totals(hr_read *read) {
    totals_read *own = (totals_read *)read;
    json_t *functions = json_object();
    json_t *sum = json_object();
    for (size_t i = 0; i < read->found_count; i++) {
        engine_function *f = hr_engine_function_of(own->engine, read->found[i].row.function);
        if (f != NULL) {
            json_t *one = totals_of(&read->found[i]);
            add_up(sum, one);
            json_object_set_new(functions, f->name, one);
        }
    }
    json_t *triggers = json_object(); /* received */
    uint64_t received = 0, malformed = 0, duplicates = 0;
    for (size_t i = 0; i < own->engine->trigger_count; i++) {
        engine_trigger *t = &own->engine->triggers[i];
        hr_feed_stats stats;
        uint64_t before = received;
        for (size_t k = 0; k < (t->is_pull ? t->pull_count : 1); k++) {
            hr_dispatch_feed_stats(own->engine->dispatch, t->is_pull ? t->pull_feeds[k] : t->feed,
                                   &stats);
            received += stats.counters.received;
            malformed += stats.counters.malformed;
            duplicates += stats.counters.duplicates;
        }
        json_object_set_new(triggers, t->name, hr_count_json(received - before));
    }
    json_object_set_new(sum, "received", hr_count_json(received));
    json_object_set_new(sum, "malformed", hr_count_json(malformed));
    json_object_set_new(sum, "duplicates", hr_count_json(duplicates));
    own->answer(own->data, json_pack("{s:o, s:o, s:o}", "sum", sum, "functions", functions,
                                     "triggers", triggers));
    hr_read_fini(read);
    hr_free(own);
}

void hr_engine_totals(hr_engine *e, void (*answer)(void *data, json_t *take_totals), void *data) {
    totals_read *own = hr_alloc(sizeof *own);
    own->engine = e;
    own->answer = answer;
    own->data = data;
    own->read.kind = HR_READ_TOTALS;
    own->read.done = on_totals;
    hr_store_read(e->store, &own->read);
}

/* ---- status ---- */

typedef struct status_wait {
    hr_engine *engine;
    hr_request *request;
} status_wait;

static json_t *trigger_status(hr_engine *e, const engine_trigger *t) {
    static const char *const states[] = {"starting", "up", "down"};
    json_t *json = json_object();
    json_object_set_new(json, "name", json_string(t->name));
    json_object_set_new(json, "kind", json_string(t->kind));
    json_object_set_new(json, "state", json_string(states[t->up]));
    if (t->reason[0] != '\0') {
        json_object_set_new(json, "reason", hr_text_json(hr_slice_text(t->reason)));
    }
    if (t->since_us != 0) {
        json_object_set_new(json, "since", hr_time_json(t->since_us));
    }
    uint64_t received = 0, duplicates = 0, malformed = 0, unsettled = 0;
    int64_t last = 0;
    bool is_stopped = false;
    for (size_t k = 0; k < (t->is_pull ? t->pull_count : 1); k++) {
        uint32_t feed = t->is_pull ? t->pull_feeds[k] : t->feed;
        hr_feed_stats stats;
        hr_dispatch_feed_stats(e->dispatch, feed, &stats);
        received += stats.counters.received;
        duplicates += stats.counters.duplicates;
        malformed += stats.counters.malformed;
        unsettled += stats.unsettled_bytes;
        is_stopped = is_stopped || stats.is_stopped;
        int64_t feed_last = hr_history_last_us(e->history, feed);
        last = feed_last > last ? feed_last : last;
    }
    json_object_set_new(json, "received", hr_count_json(received));
    json_object_set_new(json, "duplicates", hr_count_json(duplicates));
    json_object_set_new(json, "malformed", hr_count_json(malformed));
    json_object_set_new(json, "unsettled_bytes", hr_count_json(unsettled));
    json_object_set_new(
        json, "intake",
        json_string(is_stopped || (!t->is_pull && !e->is_intake_open) ? "stopped" : "open"));
    if (last != 0) {
        json_object_set_new(json, "last", hr_time_json(last));
    }
    for (size_t i = 0; i < GAUGES && t->gauges[i].name[0] != '\0'; i++) {
        json_object_set_new(json, t->gauges[i].name, json_integer(t->gauges[i].value));
    }
    return json;
}

static json_t *function_status(hr_engine *e, const engine_function *f, const json_t *totals) {
    hr_function_stats stats;
    hr_dispatch_function_stats(e->dispatch, f->id, &stats);
    json_t *json = json_object();
    json_object_set_new(json, "name", json_string(f->name));
    json_object_set_new(json, "kind", json_string(f->kind));
    json_t *from = json_array();
    for (size_t i = 0; i < f->trigger_count; i++) {
        json_array_append_new(from, json_string(f->triggers[i]->name));
    }
    for (size_t i = 0; i < f->function_count; i++) {
        json_array_append_new(from, json_string(f->functions[i]->name));
    }
    json_object_set_new(json, "from", from);
    json_object_set_new(json, "state",
                        json_string(f->down[0] != '\0'      ? "down"
                                    : stats.stalled != NULL ? "stalled"
                                    : stats.is_paused       ? "paused"
                                                            : "up"));
    const char *why =
        f->down[0] != '\0' ? f->down
        : stats.stalled != NULL
            ? stats.stalled
            : (stats.is_paused ? "it failed 20 times in a row; one call at a time tries" : NULL);
    if (why != NULL) {
        json_object_set_new(json, "reason", hr_text_json(hr_slice_text(why)));
    }
    json_object_set_new(json, "slots", hr_count_json(f->slots));
    json_object_set_new(json, "queued", hr_count_json(stats.queued));
    json_object_set_new(json, "running", hr_count_json(stats.running));
    json_object_set_new(json, "retrying", hr_count_json(stats.parked));
    json_object_set_new(json, "behind", hr_count_json(stats.behind));
    json_object_set_new(json, "filter_errors", hr_count_json(f->matcher.errors));
    json_object_set_new(json, "p50_ms",
                        json_real((double)hr_history_quantile_ns(e->history, f->id, 0.5) / 1e6));
    json_object_set_new(json, "p99_ms",
                        json_real((double)hr_history_quantile_ns(e->history, f->id, 0.99) / 1e6));
    json_object_update(json, json_object_get(json_object_get(totals, "functions"), f->name));
    return json;
}

static void on_status(void *data, json_t *take_totals) {
    status_wait *wait = data;
    hr_engine *e = wait->engine;
    json_t *triggers = json_array();
    json_t *functions = json_array();
    for (size_t i = 0; i < e->trigger_count; i++) {
        json_array_append_new(triggers, trigger_status(e, &e->triggers[i]));
    }
    for (size_t i = 0; i < e->function_count; i++) {
        json_array_append_new(functions, function_status(e, &e->functions[i], take_totals));
    }
    hr_store_stats stats;
    hr_store_get_stats(e->store, &stats);
    json_t *json = json_object();
    json_object_set_new(json, "version", json_string(HEADRACE_VERSION));
    json_object_set_new(json, "pid", json_integer(getpid()));
    json_object_set_new(json, "started", hr_time_json(e->started_us));
    json_object_set_new(json, "uptime_s", json_integer((hr_real_us() - e->started_us) / 1000000));
    json_object_set_new(json, "state_dir", json_string(e->options.state_dir));
    json_object_set_new(json, "intake",
                        json_string(e->is_intake_open ? "open" : "stopped: disk full"));
    json_object_set_new(json, "webhook_port", json_integer(hr_engine_port(e)));
    json_object_set_new(json, "triggers", triggers);
    json_object_set_new(json, "functions", functions);
    json_object_set_new(json, "totals", json_incref(json_object_get(take_totals, "sum")));
    json_object_set_new(
        json, "store",
        json_pack("{s:I, s:I, s:I, s:I, s:f}", "file_bytes", (json_int_t)stats.file_bytes,
                  "wal_bytes", (json_int_t)stats.wal_bytes, "commits", (json_int_t)stats.groups,
                  "events", (json_int_t)stats.events, "sync_us", (double)stats.sync_ns / 1000));
    wait->request->answer(wait->request, json);
    json_decref(take_totals);
    hr_free(wait);
}

static void status(hr_engine *e, hr_request *request) {
    status_wait *wait = hr_alloc(sizeof *wait);
    *wait = (status_wait){.engine = e, .request = request};
    hr_engine_totals(e, on_status, wait);
}

/* ---- the rest ---- */

static void checkpoints(hr_engine *e, hr_request *request) {
    json_t *array = json_array();
    for (size_t i = 0; i < e->function_count; i++) {
        for (size_t k = 0; k < e->feed_count; k++) {
            uint64_t low = 0, settled = 0;
            if (hr_dispatch_checkpoint(e->dispatch, e->functions[i].id, e->feeds[k].id, &low,
                                       &settled)) {
                json_array_append_new(array, json_pack("{s:s, s:s, s:I, s:I}", "function",
                                                       e->functions[i].name, "feed",
                                                       e->feeds[k].identity, "low", (json_int_t)low,
                                                       "settled_above", (json_int_t)settled));
            }
        }
    }
    request->answer(request, json_pack("{s:o}", "checkpoints", array));
}

bool hr_engine_has_name(const hr_engine *e, const char *name) {
    return hr_engine_trigger(e, name) != NULL || hr_engine_function(e, name) != NULL;
}

static void logs(hr_engine *e, hr_request *request) {
    const char *function = json_string_value(json_object_get(request->body, "function"));
    if (function != NULL && hr_engine_function(e, function) == NULL) {
        hr_answer_error(request, "no function has this name");
        return;
    }
    json_int_t limit = json_integer_value(json_object_get(request->body, "limit"));
    request->answer(
        request,
        json_pack("{s:o}", "lines",
                  hr_handler_log_find(e->handler_log, function,
                                      json_string_value(json_object_get(request->body, "event")),
                                      limit <= 0 ? 100 : (size_t)limit)));
}

void hr_engine_request(hr_engine *e, hr_request *request) {
    static const struct {
        const char *verb;
        void (*run)(hr_engine *e, hr_request *request);
    } verbs[] = {{"status", status}, {"emit", hr_engine_emit}, {"trace", hr_engine_trace},
                 {"logs", logs},     {"dlq", hr_engine_dlq},   {"checkpoint", checkpoints}};
    const char *verb = json_string_value(json_object_get(request->body, "verb"));
    for (size_t i = 0; verb != NULL && i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].verb, verb) == 0) {
            verbs[i].run(e, request);
            return;
        }
    }
    hr_answer_error(request,
                    "this daemon does not know the request; are CLI and daemon of one version?");
}
