/* SPDX-License-Identifier: Apache-2.0 */
/* Dead letters for the CLI: ls, show, replay, drop. */
#include "app/engine_priv.h"
#include "core/crash.h"
#include "core/envelope.h"

#include <stddef.h>
#include <stdlib.h>

enum { PAGE = 1000 };

typedef struct dead_read {
    hr_read read; /* first */
    hr_engine *engine;
    hr_request *request;
    char *event_id, *verb;
    size_t limit;
    bool is_one;
} dead_read;

json_t *hr_dead_json(hr_engine *e, const hr_found *found, bool whole) {
    const hr_row *row = &found->row;
    const char *function = hr_engine_function_name(e, row->function);
    engine_trigger *t = hr_engine_trigger_of(e, row->feed);
    json_t *json = json_object();
    json_object_set_new(json, "dead", hr_count_json(row->position));
    json_object_set_new(json, "id", hr_text_json(row->event_id));
    json_object_set_new(json, "function", function == NULL ? json_null() : json_string(function));
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
        } else if (row->bytes.size > 0) {
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

/* ---- replay and drop: page by page, each answered when it is durable ---- */

typedef struct bulk {
    hr_read list, one;  /* a page of letters; one of them with its bytes */
    hr_request durable; /* answered with the last commit of a page */
    hr_engine *engine;
    hr_request *request;
    uint64_t *ids; /* of the page */
    size_t count, at;
    uint64_t ended, skipped;
    int64_t began_ms; /* what dies from now on is not meant */
    bool is_drop, is_one;
} bulk;

static void end_next(bulk *b);

static void answer_bulk(bulk *b, json_t *take_answer) {
    b->request->answer(b->request, take_answer);
    hr_read_fini(&b->list);
    hr_free(b->ids);
    hr_free(b);
}

static void finish_bulk(bulk *b) {
    if (b->is_one && b->ended == 0) {
        answer_bulk(b, json_pack("{s:s}", "error",
                                 b->is_drop ? "this dead letter was replayed or dropped before"
                                            : "nothing to replay: it was replayed or dropped "
                                              "before, or it holds no whole event"));
    } else {
        json_t *answer =
            json_pack("{s:I}", b->is_drop ? "dropped" : "replayed", (json_int_t)b->ended);
        if (b->skipped > 0) {
            json_object_set_new(answer, "skipped", hr_count_json(b->skipped));
        }
        answer_bulk(b, answer);
    }
}

static void take_page(bulk *b) {
    const hr_read *page = &b->list;
    b->ids = hr_realloc(b->ids, (page->found_count + 1) * sizeof *b->ids);
    b->count = b->at = 0;
    for (size_t i = 0; i < page->found_count; i++) {
        const hr_row *row = &page->found[i].row;
        if (b->is_one || row->at_ms <= b->began_ms) {
            b->ids[b->count++] = row->position;
        }
    }
    if (b->count == 0) {
        finish_bulk(b);
    } else {
        end_next(b);
    }
}

static void on_page(hr_read *read) {
    bulk *b = read->data;
    if (read->result != HR_OK) {
        answer_bulk(b, json_pack("{s:s}", "error", hr_code_meaning(read->result)));
    } else {
        take_page(b);
    }
}

static void next_page(bulk *b) {
    if (b->is_one || b->count == 0) {
        finish_bulk(b);
        return;
    }
    uint32_t function = b->list.function;
    hr_read_fini(&b->list);
    b->list = (hr_read){.kind = HR_READ_DEAD,
                        .function = function,
                        .from = b->ids[b->count - 1] + 1,
                        .max = PAGE,
                        .done = on_page,
                        .data = b};
    hr_store_read(b->engine->store, &b->list);
}

static void on_durable(hr_request *request, json_t *take_answer) {
    bulk *b = (bulk *)((char *)request - offsetof(bulk, durable));
    if (json_object_get(take_answer, "error") != NULL) {
        answer_bulk(b, take_answer);
        return;
    }
    HR_CRASH_POINT("replay.durable");
    json_decref(take_answer);
    next_page(b);
}

static void on_one(hr_read *read) {
    bulk *b = read->data;
    hr_read own = *read; /* b may be gone when the last one is handed on */
    *read = (hr_read){0};
    const hr_row *row = own.found_count > 0 ? &own.found[0].row : NULL;
    engine_function *f = row == NULL ? NULL : hr_engine_function_of(b->engine, row->function);
    bool is_meant = row != NULL && row->state == HR_DEAD_OPEN &&
                    (b->is_drop || (f != NULL && hr_engine_can_replay(row)));
    bool is_last = ++b->at == b->count;
    if (is_meant) {
        b->ended++;
        hr_dispatch_dead_ended(b->engine->dispatch, 1);
        uint64_t ticket = is_last ? hr_engine_wait(b->engine, &b->durable, json_object()) : 0;
        if (b->is_drop) {
            hr_engine_drop(b->engine, row, ticket);
        } else {
            HR_CRASH_POINT("replay.read");
            hr_engine_replay(b->engine, f, row, ticket);
            HR_CRASH_POINT("replay.submitted");
        }
    } else {
        b->skipped++;
    }
    hr_read_fini(&own);
    if (!is_last) {
        end_next(b);
    } else if (!is_meant) {
        next_page(b);
    } /* else on_durable() goes on */
}

static void end_next(bulk *b) {
    b->one = (hr_read){.kind = HR_READ_DEAD_ONE, .from = b->ids[b->at], .done = on_one, .data = b};
    hr_store_read(b->engine->store, &b->one);
}

static void end_all(dead_read *own) {
    bulk *b = hr_alloc(sizeof *b);
    b->engine = own->engine;
    b->request = own->request;
    b->durable.answer = on_durable;
    b->is_drop = strcmp(own->verb, "drop") == 0;
    b->is_one = own->is_one;
    b->began_ms = hr_real_us() / 1000;
    b->list = own->read;
    own->read = (hr_read){0};
    take_page(b);
}

/* ---- ls and show ---- */

static json_t *list_of(const dead_read *own) {
    const hr_read *read = &own->read;
    json_t *array = json_array();
    json_t *answer = json_pack("{s:o}", "dead", array);
    for (size_t i = 0; i < read->found_count; i++) {
        if (i == own->limit) { /* one more was asked for than is told */
            json_object_set_new(answer, "next", hr_count_json(read->found[i].row.position));
            break;
        }
        json_array_append_new(array, hr_dead_json(own->engine, &read->found[i], false));
    }
    return answer;
}

static void on_dead(hr_read *read) {
    dead_read *own = (dead_read *)read;
    if (read->result != HR_OK) {
        hr_answer_error(own->request, hr_code_meaning(read->result));
    } else if (strcmp(own->verb, "ls") == 0) {
        own->request->answer(own->request, list_of(own));
    } else if (read->found_count == 0 && own->is_one) {
        hr_answer_error(own->request, "no dead letter has this id");
    } else if (strcmp(own->verb, "show") == 0) {
        own->request->answer(own->request, hr_dead_json(own->engine, &read->found[0], true));
    } else {
        end_all(own);
    }
    free_dead_read(own);
}

/* {"do": "ls" | "show" | "replay" | "drop", "id": number or event id, "function": name,
 * "from": number, "limit": count} */
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
    json_int_t limit = json_integer_value(json_object_get(request->body, "limit"));
    json_int_t from = json_integer_value(json_object_get(request->body, "from"));
    bool is_ls = strcmp(verb, "ls") == 0;
    own->limit = !is_ls || limit <= 0 || limit > PAGE ? PAGE : (size_t)limit;
    own->read.max = (uint32_t)own->limit + (is_ls ? 1 : 0);
    own->read.from = from > 0 ? (uint64_t)from : 0;
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
