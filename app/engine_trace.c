/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one event, from memory, from the journal and from its exceptions. */
#include "app/engine_priv.h"

#include <stdlib.h>

enum { PLACES_MAX = 64 };

/* Where the event stands: a row of a journal, or a record of a pull feed (row: NULL). */
typedef struct trace_place {
    uint32_t feed;
    uint64_t position;
    const hr_row *row;
} trace_place;

typedef struct trace_read {
    hr_read dead, find, parked; /* in this order; parked: place by place */
    hr_engine *engine;
    hr_request *request;
    char *event_id;
    json_t *answer;
    trace_place places[PLACES_MAX];
    size_t place_count, at;
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
            const char *state = json_string_value(json_object_get(row, "state"));
            const char *reason = json_string_value(json_object_get(row, "reason"));
            return strcmp(state, "dead") == 0 && strcmp(reason, "expired") == 0 ? reason : state;
        }
    }
    return NULL;
}

/* The kept row of a function for an event that waits, NULL when there is none. */
static const hr_row *parked_of(const trace_read *own, uint32_t function) {
    for (size_t i = 0; i < own->parked.found_count; i++) {
        if (own->parked.found[i].row.function == function) {
            return &own->parked.found[i].row;
        }
    }
    return NULL;
}

static const char *state_of(const trace_read *own, engine_function *f, const trace_place *place,
                            hr_dispatch_standing where) {
    static const char *const names[] = {"", "settled", "pending", "running", "retrying"};
    const char *exception = exception_of(own, f->name);
    if (where != HR_STANDS_SETTLED) {
        return names[where];
    }
    if (exception != NULL) {
        return exception;
    }
    /* a record stays at its source: "settled" says delivered or filtered */
    return place->row == NULL ? names[where] : end_of(f, place->row);
}

/* What the notes of this process may no longer know: a parked row outlives it. */
static void add_waiting(json_t *standing, const hr_row *parked) {
    if (parked->attempt > 0) {
        json_object_set_new(standing, "attempts", json_integer(parked->attempt));
    }
    if (parked->state == HR_PARKED_RETRY) {
        json_object_set_new(standing, "due", hr_time_json(parked->due_ms * 1000));
    } else if (parked->state == HR_PARKED_BEHIND) {
        json_object_set_new(standing, "behind", json_true());
    }
    if (parked->text.size > 0) {
        json_object_set_new(standing, "error", hr_text_json(parked->text));
    }
}

/* Where an event stands for each function that takes from its feed. */
static void add_standing(trace_read *own, const trace_place *place) {
    hr_engine *e = own->engine;
    json_t *functions = json_array();
    for (size_t i = 0; i < e->function_count; i++) {
        engine_function *f = &e->functions[i];
        hr_dispatch_standing where =
            hr_dispatch_find(e->dispatch, f->id, place->feed, place->position);
        if (where == HR_STANDS_NOWHERE) {
            continue;
        }
        json_t *standing =
            json_pack("{s:s, s:s}", "function", f->name, "state", state_of(own, f, place, where));
        const hr_row *parked = parked_of(own, f->id);
        if (parked != NULL && where != HR_STANDS_SETTLED) {
            add_waiting(standing, parked);
        }
        json_array_append_new(functions, standing);
    }
    const engine_trigger *t = hr_engine_trigger_of(e, place->feed);
    const char *from = place->row != NULL ? hr_engine_feed_name(e, place->feed)
                       : t == NULL        ? NULL
                                          : t->name;
    uint64_t position = place->row == NULL ? place->position - 1 : place->position;
    json_t *json = json_pack("{s:s, s:I, s:o, s:o}", "from", from == NULL ? "?" : from, "position",
                             (json_int_t)position, "stored",
                             place->row == NULL ? json_string("at its source")
                                                : hr_time_json(place->row->at_ms * 1000),
                             "functions", functions);
    json_array_append_new(json_object_get(own->answer, "journal"), json);
}

static void add_place(trace_read *own, uint32_t feed, uint64_t position, const hr_row *row) {
    if (own->place_count < PLACES_MAX) {
        own->places[own->place_count++] =
            (trace_place){.feed = feed, .position = position, .row = row};
    }
}

/* An id that a pull feed makes tells its place (S3): TOPIC/PARTITION/OFFSET. */
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
        const char *identity = e->feeds[i].identity;
        const engine_trigger *t = hr_engine_trigger_of(e, e->feeds[i].id);
        size_t size = strlen(identity);
        if (t != NULL && t->is_pull && size > place && identity[size - place - 1] == '/' &&
            memcmp(identity + size - place, own->event_id, place) == 0) {
            add_place(own, e->feeds[i].id, offset + 1, NULL);
        }
    }
}

static void finish_trace(trace_read *own) {
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

static void ask_parked(trace_read *own) {
    if (own->at == own->place_count) {
        finish_trace(own);
        return;
    }
    own->parked.feed = own->places[own->at].feed;
    own->parked.from = own->places[own->at].position;
    hr_store_read(own->engine->store, &own->parked);
}

static void on_trace_parked(hr_read *read) {
    trace_read *own = read->data;
    add_standing(own, &own->places[own->at++]);
    hr_read_fini(read);
    ask_parked(own);
}

static void on_trace_find(hr_read *read) {
    trace_read *own = read->data;
    for (size_t i = 0; i < read->found_count; i++) {
        const hr_row *row = &read->found[i].row;
        add_place(own, row->feed, row->position, row);
    }
    if (read->found_count == 0) {
        add_pulled(own);
    }
    ask_parked(own);
}

static void on_trace_dead(hr_read *read) {
    trace_read *own = read->data;
    json_t *array = json_array();
    for (size_t i = 0; i < read->found_count; i++) {
        json_array_append_new(array, hr_dead_json(own->engine, &read->found[i], true));
    }
    json_object_set_new(own->answer, "dead", array);
    hr_store_read(own->engine->store, &own->find);
}

void hr_engine_trace(hr_engine *e, hr_request *request) {
    const char *id = json_string_value(json_object_get(request->body, "id"));
    if (id == NULL || id[0] == '\0') {
        hr_answer_error(request, "which event? give its id");
        return;
    }
    trace_read *own = hr_alloc(sizeof *own);
    own->engine = e;
    own->request = request;
    own->event_id = hr_copy_text(id);
    own->answer = json_pack("{s:s, s:o, s:o, s:[], s:o}", "id", id, "since",
                            hr_time_json(e->started_us), "notes", hr_history_trace(e->history, id),
                            "journal", "logs", hr_handler_log_find(e->handler_log, NULL, id, 50));
    own->dead.kind = HR_READ_DEAD_ONE;
    own->find.kind = HR_READ_FIND;
    own->dead.event_id = own->find.event_id = hr_slice_text(own->event_id);
    own->parked.kind = HR_READ_PARKED_AT;
    own->dead.data = own->find.data = own->parked.data = own;
    own->find.max = 10000000;
    own->dead.done = on_trace_dead;
    own->find.done = on_trace_find;
    own->parked.done = on_trace_parked;
    hr_store_read(e->store, &own->dead);
}
