/* SPDX-License-Identifier: Apache-2.0 */
/* Dead letters for the CLI: ls, show, replay, drop. */
#include "app/engine_priv.h"
#include "core/envelope.h"

#include <stdlib.h>

typedef struct dead_read {
    hr_read read; /* first */
    hr_engine *engine;
    hr_request *request;
    char *event_id, *verb;
    bool is_one;
} dead_read;

json_t *hr_dead_json(hr_engine *e, const hr_found *found, bool whole) {
    const hr_row *row = &found->row;
    engine_function *f = hr_engine_function_of(e, row->function);
    engine_trigger *t = hr_engine_trigger_of(e, row->feed);
    json_t *json = json_object();
    json_object_set_new(json, "dead", hr_count_json(row->position));
    json_object_set_new(json, "id", hr_text_json(row->event_id));
    json_object_set_new(json, "function", f == NULL ? json_null() : json_string(f->name));
    json_object_set_new(json, "trigger", t == NULL ? json_null() : json_string(t->name));
    json_object_set_new(json, "reason", hr_text_json(row->reason));
    json_object_set_new(json, "error", hr_text_json(row->text));
    json_object_set_new(json, "attempts", json_integer(row->attempt));
    json_object_set_new(json, "died", hr_time_json(row->at_ms * 1000));
    static const char *const states[] = {"dead", "replayed", "dropped"};
    json_object_set_new(json, "state", json_string(states[row->state > 2 ? 0 : row->state]));
    if (whole) {
        json_object_set_new(json, "logs", hr_text_json(row->logs));
        hr_buffer text = {0};
        hr_view view;
        if (row->function != 0 && row->bytes.size > 0 &&
            hr_envelope_view(row->bytes.bytes, 0, (uint32_t)row->bytes.size, &view, NULL) ==
                HR_OK) {
            hr_envelope_print_json(row->bytes, &text);
            json_t *event = json_loadb((const char *)text.bytes, text.size, 0, NULL);
            json_object_set_new(json, "event", event == NULL ? json_null() : event);
        } else {
            json_object_set_new(json, "raw", hr_text_json(row->bytes));
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
        hr_answer_error(own->request, hr_code_meaning(read->result));
    } else if (strcmp(own->verb, "ls") == 0) {
        json_t *array = json_array();
        for (size_t i = 0; i < read->found_count; i++) {
            json_array_append_new(array, hr_dead_json(own->engine, &read->found[i], false));
        }
        own->request->answer(own->request, json_pack("{s:o}", "dead", array));
    } else if (read->found_count == 0) {
        hr_answer_error(own->request, own->is_one ? "no dead letter has this id"
                                                  : "there are no dead letters to end");
    } else if (strcmp(own->verb, "show") == 0) {
        own->request->answer(own->request, hr_dead_json(own->engine, &read->found[0], true));
    } else if (strcmp(own->verb, "replay") == 0) {
        replay_all(own);
    } else {
        drop_all(own);
    }
    free_dead_read(own);
}

/* {"do": "ls" | "show" | "replay" | "drop", "id": number or event id, "function": name, "all":
 * true} */
void hr_engine_dlq(hr_engine *e, hr_request *request) {
    const char *verb = json_string_value(json_object_get(request->body, "do"));
    const char *id = json_string_value(json_object_get(request->body, "id"));
    const char *name = json_string_value(json_object_get(request->body, "function"));
    engine_function *f = name == NULL ? NULL : hr_engine_function(e, name);
    if (verb == NULL || (name != NULL && f == NULL)) {
        hr_answer_error(request, "no function has this name");
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
