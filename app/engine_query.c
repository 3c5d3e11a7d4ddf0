/* SPDX-License-Identifier: Apache-2.0 */
/* What the CLI asks: status, trace, logs, dead letters, checkpoints. */
#include "app/engine_priv.h"
#include "core/envelope.h"
#include "core/time_text.h"

#include <unistd.h>

static void answer_error(hr_request *request, const char *text) {
    request->answer(request, json_pack("{s:o}", "error", json_string(text)));
}

static json_t *text_json(hr_slice text) {
    json_t *json = json_stringn((const char *)text.bytes, text.size);
    return json == NULL ? json_string("(not UTF-8)") : json;
}

static json_t *time_json(int64_t us) {
    char stamp[HR_TIME_TEXT];
    hr_time_print(us, stamp);
    return json_string(stamp);
}

static json_t *count_json(uint64_t count) {
    return json_integer((json_int_t)count);
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
    json_object_set_new(json, "deliveries", count_json(c->deliveries));
    json_object_set_new(json, "delivered", count_json(c->delivered));
    json_object_set_new(json, "filtered", count_json(c->filtered));
    json_object_set_new(json, "dropped", count_json(c->dropped));
    json_object_set_new(json, "dead", count_json(c->dead));
    json_object_set_new(json, "expired", count_json(c->expired));
    json_object_set_new(json, "pending", count_json(found->pending));
    json_object_set_new(json, "drift",
                        json_integer((json_int_t)(c->deliveries - settled - found->pending)));
    json_object_set_new(json, "attempts", count_json(c->attempts));
    json_object_set_new(json, "results", count_json(c->results));
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
    uint64_t received = 0, malformed = 0, duplicates = 0;
    for (size_t i = 0; i < own->engine->trigger_count; i++) {
        engine_trigger *t = &own->engine->triggers[i];
        hr_feed_stats stats;
        for (size_t k = 0; k < (t->is_pull ? t->pull_count : 1); k++) {
            hr_dispatch_feed_stats(own->engine->dispatch, t->is_pull ? t->pull_feeds[k] : t->feed,
                                   &stats);
            received += stats.counters.received;
            malformed += stats.counters.malformed;
            duplicates += stats.counters.duplicates;
        }
    }
    json_object_set_new(sum, "received", count_json(received));
    json_object_set_new(sum, "malformed", count_json(malformed));
    json_object_set_new(sum, "duplicates", count_json(duplicates));
    own->answer(own->data, json_pack("{s:o, s:o}", "sum", sum, "functions", functions));
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
        json_object_set_new(json, "reason", text_json(hr_slice_text(t->reason)));
    }
    if (t->since_us != 0) {
        json_object_set_new(json, "since", time_json(t->since_us));
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
    json_object_set_new(json, "received", count_json(received));
    json_object_set_new(json, "duplicates", count_json(duplicates));
    json_object_set_new(json, "malformed", count_json(malformed));
    json_object_set_new(json, "unsettled_bytes", count_json(unsettled));
    json_object_set_new(
        json, "intake",
        json_string(is_stopped || (!t->is_pull && !e->is_intake_open) ? "stopped" : "open"));
    if (last != 0) {
        json_object_set_new(json, "last", time_json(last));
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
        json_object_set_new(json, "reason", text_json(hr_slice_text(why)));
    }
    json_object_set_new(json, "slots", count_json(f->slots));
    json_object_set_new(json, "queued", count_json(stats.queued));
    json_object_set_new(json, "running", count_json(stats.running));
    json_object_set_new(json, "retrying", count_json(stats.parked));
    json_object_set_new(json, "behind", count_json(stats.behind));
    json_object_set_new(json, "filter_errors", count_json(f->matcher.errors));
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
    json_object_set_new(json, "started", time_json(e->started_us));
    json_object_set_new(json, "uptime_s", json_integer((hr_real_us() - e->started_us) / 1000000));
    json_object_set_new(json, "state_dir", json_string(e->options.state_dir));
    json_object_set_new(json, "intake",
                        json_string(e->is_intake_open ? "open" : "stopped: disk full"));
    json_object_set_new(json, "webhook_port", json_integer(hr_engine_port(e)));
    json_object_set_new(json, "triggers", triggers);
    json_object_set_new(json, "functions", functions);
    json_object_set_new(json, "totals", json_incref(json_object_get(take_totals, "sum")));
    json_object_set_new(json, "store",
                        json_pack("{s:I, s:I, s:I, s:I}", "file_bytes",
                                  (json_int_t)stats.file_bytes, "wal_bytes",
                                  (json_int_t)stats.wal_bytes, "commits", (json_int_t)stats.groups,
                                  "events", (json_int_t)stats.events));
    wait->request->answer(wait->request, json);
    json_decref(take_totals);
    hr_free(wait);
}

static void status(hr_engine *e, hr_request *request) {
    status_wait *wait = hr_alloc(sizeof *wait);
    *wait = (status_wait){.engine = e, .request = request};
    hr_engine_totals(e, on_status, wait);
}

/* ---- dead letters ---- */

typedef struct dead_read {
    hr_read read; /* first */
    hr_engine *engine;
    hr_request *request;
    char *event_id, *verb;
    bool is_one;
} dead_read;

static json_t *dead_json(hr_engine *e, const hr_found *found, bool whole) {
    const hr_row *row = &found->row;
    engine_function *f = hr_engine_function_of(e, row->function);
    engine_trigger *t = hr_engine_trigger_of(e, row->feed);
    json_t *json = json_object();
    json_object_set_new(json, "dead", count_json(row->position));
    json_object_set_new(json, "id", text_json(row->event_id));
    json_object_set_new(json, "function", f == NULL ? json_null() : json_string(f->name));
    json_object_set_new(json, "trigger", t == NULL ? json_null() : json_string(t->name));
    json_object_set_new(json, "reason", text_json(row->reason));
    json_object_set_new(json, "error", text_json(row->text));
    json_object_set_new(json, "attempts", json_integer(row->attempt));
    json_object_set_new(json, "died", time_json(row->at_ms * 1000));
    static const char *const states[] = {"dead", "replayed", "dropped"};
    json_object_set_new(json, "state", json_string(states[row->state > 2 ? 0 : row->state]));
    if (whole) {
        json_object_set_new(json, "logs", text_json(row->logs));
        hr_buffer text = {0};
        hr_view view;
        if (row->function != 0 && row->bytes.size > 0 &&
            hr_envelope_view(row->bytes.bytes, 0, (uint32_t)row->bytes.size, &view, NULL) ==
                HR_OK) {
            hr_envelope_print_json(row->bytes, &text);
            json_t *event = json_loadb((const char *)text.bytes, text.size, 0, NULL);
            json_object_set_new(json, "event", event == NULL ? json_null() : event);
        } else {
            json_object_set_new(json, "raw", text_json(row->bytes));
        }
        hr_buffer_fini(&text);
    }
    return json;
}

static void free_dead_read(dead_read *own) {
    hr_read_fini(&own->read);
    hr_free(own->event_id);
    hr_free(own->verb);
    hr_free(own);
}

/* A bulk replay: one letter after the other, each read with its bytes. */
typedef struct bulk {
    hr_read read; /* first */
    hr_engine *engine;
    hr_request *request;
    uint64_t *ids;
    size_t count, at, done;
} bulk;

static void replay_next(bulk *b);

static void on_bulk(hr_read *read) {
    bulk *b = (bulk *)read;
    const hr_row *row = read->found_count > 0 ? &read->found[0].row : NULL;
    engine_function *f = row == NULL ? NULL : hr_engine_function_of(b->engine, row->function);
    hr_error err = {0};
    if (f != NULL && row->state == 0 && row->bytes.size > 0 &&
        hr_engine_replay(b->engine, f, row, 0, &err) == HR_OK) {
        hr_dispatch_dead_ended(b->engine->dispatch, 1);
        b->done++;
    }
    hr_read_fini(read);
    b->at++;
    replay_next(b);
}

static void replay_next(bulk *b) {
    if (b->at == b->count) {
        b->request->answer(b->request, json_pack("{s:I}", "replayed", (json_int_t)b->done));
        hr_free(b->ids);
        hr_free(b);
        return;
    }
    b->read = (hr_read){.kind = HR_READ_DEAD_ONE, .from = b->ids[b->at], .done = on_bulk};
    hr_store_read(b->engine->store, &b->read);
}

static void replay_all(const dead_read *own) {
    bulk *b = hr_alloc(sizeof *b);
    b->engine = own->engine;
    b->request = own->request;
    b->ids = hr_alloc_array(own->read.found_count, sizeof *b->ids);
    for (size_t i = 0; i < own->read.found_count; i++) {
        b->ids[b->count++] = own->read.found[i].row.position;
    }
    replay_next(b);
}

/* Drops all that was found; the answer comes with the last commit. */
static void drop_all(dead_read *own) {
    hr_engine *e = own->engine;
    size_t count = own->read.found_count;
    uint64_t ticket =
        hr_engine_wait(e, own->request, json_pack("{s:I}", "dropped", (json_int_t)count));
    hr_dispatch_dead_ended(e->dispatch, count);
    for (size_t i = 0; i < count; i++) {
        hr_engine_drop(e, &own->read.found[i].row, i + 1 == count ? ticket : 0);
    }
}

static void on_dead(hr_read *read) {
    dead_read *own = (dead_read *)read;
    if (read->result != HR_OK) {
        answer_error(own->request, hr_code_meaning(read->result));
    } else if (strcmp(own->verb, "ls") == 0) {
        json_t *array = json_array();
        for (size_t i = 0; i < read->found_count; i++) {
            json_array_append_new(array, dead_json(own->engine, &read->found[i], false));
        }
        own->request->answer(own->request, json_pack("{s:o}", "dead", array));
    } else if (read->found_count == 0) {
        answer_error(own->request, own->is_one ? "no dead letter has this id"
                                               : "there are no dead letters to end");
    } else if (strcmp(own->verb, "show") == 0) {
        own->request->answer(own->request, dead_json(own->engine, &read->found[0], true));
    } else if (strcmp(own->verb, "replay") == 0) {
        replay_all(own);
    } else {
        drop_all(own);
    }
    free_dead_read(own);
}

/* {"do": "ls" | "show" | "replay" | "drop", "id": number or event id, "function": name, "all":
 * true} */
static void dlq(hr_engine *e, hr_request *request) {
    const char *verb = json_string_value(json_object_get(request->body, "do"));
    const char *id = json_string_value(json_object_get(request->body, "id"));
    const char *name = json_string_value(json_object_get(request->body, "function"));
    engine_function *f = name == NULL ? NULL : hr_engine_function(e, name);
    if (verb == NULL || (name != NULL && f == NULL)) {
        answer_error(request, "no function has this name");
        return;
    }
    dead_read *own = hr_alloc(sizeof *own);
    own->engine = e;
    own->request = request;
    own->verb = hr_copy_text(verb);
    own->read.done = on_dead;
    own->read.function = f == NULL ? 0 : f->id;
    own->read.max = (uint32_t)json_integer_value(json_object_get(request->body, "limit"));
    own->read.max = own->read.max == 0 ? 1000 : own->read.max;
    own->read.kind = HR_READ_DEAD;
    if (id != NULL) {
        char *end = NULL;
        unsigned long long number = strtoull(id, &end, 10);
        own->read.kind = HR_READ_DEAD_ONE;
        own->is_one = true;
        if (*end == '\0' && end != id) {
            own->read.from = number;
        } else {
            own->event_id = hr_copy_text(id);
            own->read.event_id = hr_slice_text(own->event_id);
        }
    }
    hr_store_read(e->store, &own->read);
}

/* ---- trace ---- */

typedef struct trace_read {
    hr_read dead, find; /* dead first */
    hr_engine *engine;
    hr_request *request;
    char *event_id;
    json_t *answer;
} trace_read;

/* How a settled event ended when no exception of it is kept: as the filter says. */
static const char *end_of(engine_function *f, const hr_row *row) {
    hr_builder builder = {0};
    uint64_t bits[HR_BATCH_MAX / 64] = {0};
    hr_builder_add(&builder, row->position, row->bytes, NULL);
    hr_batch *batch = hr_builder_finish(&builder, row->feed, 0);
    hr_builder_fini(&builder);
    if (f->has_matcher && batch != NULL) {
        f->matcher.base.match(&f->matcher.base, batch, bits);
    } else {
        bits[0] = 1;
    }
    hr_batch_unref(batch);
    return (bits[0] & 1) != 0 ? "delivered" : "filtered";
}

/* The state of the exception row of a function, NULL when there is none. */
static const char *exception_of(const trace_read *own, const char *function) {
    size_t index = 0;
    json_t *row = NULL;
    json_array_foreach(json_object_get(own->answer, "dead"), index, row) {
        const char *name = json_string_value(json_object_get(row, "function"));
        if (name != NULL && strcmp(name, function) == 0) {
            return json_string_value(json_object_get(row, "state"));
        }
    }
    return NULL;
}

/* Where a stored event stands for each function that takes from its feed. */
static void add_standing(trace_read *own, const hr_found *found) {
    hr_engine *e = own->engine;
    uint32_t feed = found->row.feed;
    const char *from = hr_engine_feed_name(e, feed);
    json_t *standing = json_array();
    for (size_t i = 0; i < e->function_count; i++) {
        engine_function *f = &e->functions[i];
        hr_dispatch_standing where =
            hr_dispatch_find(e->dispatch, f->id, feed, found->row.position);
        static const char *const names[] = {"", "", "pending", "running", "retrying"};
        if (where == HR_STANDS_NOWHERE) {
            continue;
        }
        const char *state = names[where];
        if (where == HR_STANDS_SETTLED) {
            const char *exception = exception_of(own, f->name);
            state = exception != NULL ? exception : end_of(f, &found->row);
        }
        json_array_append_new(standing,
                              json_pack("{s:s, s:s}", "function", f->name, "state", state));
    }
    json_t *json = json_pack("{s:s, s:I, s:o, s:o}", "from", from == NULL ? "?" : from, "position",
                             (json_int_t)found->row.position, "stored",
                             time_json(found->row.at_ms * 1000), "functions", standing);
    json_array_append_new(json_object_get(own->answer, "journal"), json);
}

/* An id that a pull feed makes tells its place (S3): TOPIC/PARTITION/OFFSET. The record itself
 * stays at its source, so "settled" says delivered or filtered; exceptions have rows. */
static void add_pulled(trace_read *own) {
    hr_engine *e = own->engine;
    const char *slash = strrchr(own->event_id, '/');
    char *end = NULL;
    unsigned long long offset = slash == NULL ? 0 : strtoull(slash + 1, &end, 10);
    if (slash == NULL || end == slash + 1 || *end != '\0') {
        return;
    }
    size_t place = (size_t)(slash - own->event_id);
    for (size_t i = 0; i < e->feed_count; i++) {
        engine_trigger *t = hr_engine_trigger_of(e, e->feeds[i].id);
        size_t size = strlen(e->feeds[i].identity);
        if (t == NULL || !t->is_pull || size <= place ||
            e->feeds[i].identity[size - place - 1] != '/' ||
            memcmp(e->feeds[i].identity + size - place, own->event_id, place) != 0) {
            continue;
        }
        json_t *standing = json_array();
        for (size_t k = 0; k < e->function_count; k++) {
            static const char *const names[] = {"", "settled", "not yet", "running", "retrying"};
            hr_dispatch_standing where =
                hr_dispatch_find(e->dispatch, e->functions[k].id, e->feeds[i].id, offset + 1);
            const char *exception = exception_of(own, e->functions[k].name);
            if (where != HR_STANDS_NOWHERE) {
                json_array_append_new(
                    standing, json_pack("{s:s, s:s}", "function", e->functions[k].name, "state",
                                        exception != NULL ? exception : names[where]));
            }
        }
        json_array_append_new(json_object_get(own->answer, "journal"),
                              json_pack("{s:s, s:I, s:s, s:o}", "from", t->name, "position",
                                        (json_int_t)offset, "stored", "at its source", "functions",
                                        standing));
    }
}

static void on_trace_find(hr_read *read) {
    trace_read *own = read->data;
    for (size_t i = 0; i < read->found_count; i++) {
        add_standing(own, &read->found[i]);
    }
    if (read->found_count == 0) {
        add_pulled(own);
    }
    bool is_known = json_array_size(json_object_get(own->answer, "notes")) > 0 ||
                    json_array_size(json_object_get(own->answer, "dead")) > 0 ||
                    json_array_size(json_object_get(own->answer, "journal")) > 0;
    json_object_set_new(own->answer, "known", json_boolean(is_known));
    own->request->answer(own->request, own->answer);
    hr_read_fini(&own->dead);
    hr_read_fini(&own->find);
    hr_free(own->event_id);
    hr_free(own);
}

static void on_trace_dead(hr_read *read) {
    trace_read *own = read->data;
    json_t *array = json_array();
    for (size_t i = 0; i < read->found_count; i++) {
        json_array_append_new(array, dead_json(own->engine, &read->found[i], true));
    }
    json_object_set_new(own->answer, "dead", array);
    hr_store_read(own->engine->store, &own->find);
}

static void trace(hr_engine *e, hr_request *request) {
    const char *id = json_string_value(json_object_get(request->body, "id"));
    if (id == NULL || id[0] == '\0') {
        answer_error(request, "which event? give its id");
        return;
    }
    trace_read *own = hr_alloc(sizeof *own);
    own->engine = e;
    own->request = request;
    own->event_id = hr_copy_text(id);
    own->answer =
        json_pack("{s:s, s:o, s:[], s:o}", "id", id, "notes", hr_history_trace(e->history, id),
                  "journal", "logs", hr_history_logs(e->history, NULL, id, 50));
    own->dead.kind = HR_READ_DEAD_ONE;
    own->find.kind = HR_READ_FIND;
    own->dead.event_id = own->find.event_id = hr_slice_text(own->event_id);
    own->dead.data = own->find.data = own;
    own->find.max = 10000000;
    own->dead.done = on_trace_dead;
    own->find.done = on_trace_find;
    hr_store_read(e->store, &own->dead);
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

static void logs(hr_engine *e, hr_request *request) {
    json_int_t limit = json_integer_value(json_object_get(request->body, "limit"));
    request->answer(
        request,
        json_pack("{s:o}", "lines",
                  hr_history_logs(e->history,
                                  json_string_value(json_object_get(request->body, "function")),
                                  json_string_value(json_object_get(request->body, "event")),
                                  limit <= 0 ? 100 : (size_t)limit)));
}

void hr_engine_request(hr_engine *e, hr_request *request) {
    static const struct {
        const char *verb;
        void (*run)(hr_engine *e, hr_request *request);
    } verbs[] = {{"status", status}, {"emit", hr_engine_emit},   {"trace", trace}, {"logs", logs},
                 {"dlq", dlq},       {"checkpoint", checkpoints}};
    const char *verb = json_string_value(json_object_get(request->body, "verb"));
    for (size_t i = 0; verb != NULL && i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].verb, verb) == 0) {
            verbs[i].run(e, request);
            return;
        }
    }
    answer_error(request,
                 "this daemon does not know the request; are CLI and daemon of one version?");
}
