/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one event, from memory, from the journal and from its exceptions. */
#include "app/engine_priv.h"

#include <stdlib.h>

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
            const char *state = json_string_value(json_object_get(row, "state"));
            const char *reason = json_string_value(json_object_get(row, "reason"));
            return strcmp(state, "dead") == 0 && strcmp(reason, "expired") == 0 ? reason : state;
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
                             hr_time_json(found->row.at_ms * 1000), "functions", standing);
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
