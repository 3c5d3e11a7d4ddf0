/* SPDX-License-Identifier: Apache-2.0 */
/* Events by hand: `emit` at a trigger or at a function, and replays of dead letters. */
#include "app/engine_priv.h"
#include "core/envelope.h"

/* Tickets of this file have the top bit set: they are answered here, not by a trigger. */
static uint64_t next_ticket(hr_engine *e) {
    static const uint64_t top = UINT64_C(1) << 63;
    return top | ++e->emit_ticket;
}

/* The answer to a request that waits for a commit. */
static void wait_for(hr_engine *e, uint64_t ticket, hr_request *request, json_t *take_ids) {
    emit_wait *wait = hr_alloc(sizeof *wait);
    *wait = (emit_wait){.ticket = ticket, .request = request, .ids = take_ids, .next = e->emits};
    e->emits = wait;
}

void hr_engine_emitted(hr_engine *e, uint64_t ticket, hr_code result) {
    for (emit_wait **at = &e->emits; *at != NULL; at = &(*at)->next) {
        if ((*at)->ticket != ticket) {
            continue;
        }
        emit_wait *wait = *at;
        *at = wait->next;
        if (result == HR_OK) {
            wait->request->answer(wait->request, wait->ids);
        } else {
            json_decref(wait->ids);
            hr_answer_error(wait->request, hr_code_meaning(result));
        }
        hr_free(wait);
        return;
    }
}

void hr_engine_inject(hr_engine *e, engine_function *f, hr_batch *take_batch, const hr_row *row,
                      uint64_t ticket) {
    hr_input input = {.kind = HR_IN_OFFER,
                      .offer = {.feed = f->inject_feed,
                                .ticket = ticket,
                                .take_batch = take_batch,
                                .rows = row,
                                .row_count = row == NULL ? 0 : 1}};
    hr_engine_input(e, &input);
}

static json_t *ids_of(const hr_batch *batch) {
    json_t *ids = json_array();
    for (uint32_t i = 0; i < batch->count; i++) {
        hr_slice id = hr_batch_id(batch, i);
        json_array_append_new(ids, json_stringn((const char *)id.bytes, id.size));
    }
    return ids;
}

static json_t *takers_of(const hr_engine *e, const engine_trigger *t) {
    json_t *takers = json_array();
    for (size_t i = 0; i < e->function_count; i++) {
        if (hr_function_takes(&e->functions[i], t)) {
            json_array_append_new(takers, json_string(e->functions[i].name));
        }
    }
    return takers;
}

static hr_node *options_node(const json_t *options) {
    hr_node *root = hr_node_add(NULL, HR_NODE_MAP, NULL);
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)options, key, value) {
        if (json_is_string(value)) {
            hr_node_add_text(root, key, json_string_value(value), 0);
        }
    }
    return root;
}

static void emit_batch(hr_engine *e, engine_trigger *t, engine_function *to, hr_batch *take_batch,
                       hr_request *request) {
    json_t *answer =
        json_pack("{s:o, s:s, s:o}", "ids", ids_of(take_batch), "trigger", t->name, "functions",
                  to == NULL ? takers_of(e, t) : json_pack("[s]", to->name));
    uint64_t ticket = next_ticket(e);
    if (to != NULL) {
        wait_for(e, ticket, request, answer);
        hr_engine_inject(e, to, take_batch, NULL, ticket);
    } else if (!t->is_pull) {
        wait_for(e, ticket, request, answer);
        hr_input input = {.kind = HR_IN_OFFER,
                          .offer = {.feed = t->feed, .ticket = ticket, .take_batch = take_batch}};
        hr_engine_input(e, &input);
    } else { /* a topic is not written to: each function gets its own copy */
        bool is_first = true;
        for (size_t i = 0; i < e->function_count; i++) {
            if (!hr_function_takes(&e->functions[i], t)) {
                continue;
            }
            uint32_t all[HR_BATCH_MAX];
            for (uint32_t k = 0; k < take_batch->count; k++) {
                all[k] = k;
            }
            hr_batch *copy = hr_batch_pick(take_batch, all, take_batch->count);
            if (is_first) {
                wait_for(e, ticket, request, answer);
            }
            hr_engine_inject(e, &e->functions[i], copy, NULL, is_first ? ticket : 0);
            is_first = false;
        }
        hr_batch_unref(take_batch);
        if (is_first) {
            request->answer(request, answer);
        }
    }
}

void hr_engine_emit(hr_engine *e, hr_request *request) {
    const char *name = json_string_value(json_object_get(request->body, "trigger"));
    const char *to_name = json_string_value(json_object_get(request->body, "to"));
    engine_trigger *t = name == NULL ? NULL : hr_engine_trigger(e, name);
    engine_function *to = to_name == NULL ? NULL : hr_engine_function(e, to_name);
    if (t == NULL || (to_name != NULL && to == NULL)) {
        char text[256];
        snprintf(text, sizeof text, "no %s is called '%s'", t == NULL ? "trigger" : "function",
                 t == NULL ? (name == NULL ? "" : name) : to_name);
        hr_answer_error(request, text);
        return;
    }
    if (t->object->ops->emit == NULL) {
        hr_answer_error(request, "this kind of trigger cannot emit by hand");
        return;
    }
    const json_t *data = json_object_get(request->body, "data");
    hr_node *options = options_node(json_object_get(request->body, "options"));
    hr_builder builder = {0};
    hr_error err = {0};
    hr_slice raw = hr_slice_of(json_string_value(data), json_string_length(data));
    hr_code code = t->object->ops->emit(t->object, raw, options, &builder, &err);
    hr_batch *batch = hr_builder_finish(&builder, 0, hr_real_us());
    hr_builder_fini(&builder);
    hr_node_free(options);
    if (code != HR_OK || batch == NULL) {
        hr_batch_unref(batch);
        hr_answer_error(request,
                        code != HR_OK ? err.text : "the trigger would make no event of it");
        return;
    }
    emit_batch(e, t, to, batch, request);
}

/* ---- replay ---- */

/* A map entry more at the end of the packed event: the last one of a name wins (protobuf maps). */
static void set_integer(hr_buffer *envelope, const char *name, uint32_t value) {
    uint8_t number[8];
    size_t size = 0;
    number[size++] = 0x10; /* ce_integer */
    for (uint32_t rest = value;; rest >>= 7) {
        number[size++] = (uint8_t)(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest);
        if (rest <= 0x7f) {
            break;
        }
    }
    size_t name_size = strlen(name);
    uint8_t head[4] = {0x2a, (uint8_t)(2 + name_size + 2 + size), 0x0a, (uint8_t)name_size};
    uint8_t middle[2] = {0x12, (uint8_t)size};
    hr_buffer_add(envelope, head, sizeof head);
    hr_buffer_add(envelope, name, name_size);
    hr_buffer_add(envelope, middle, sizeof middle);
    hr_buffer_add(envelope, number, size);
}

static hr_batch *replayed(const hr_row *dead) {
    hr_attribute before;
    uint32_t number = hr_envelope_attribute(dead->bytes, HR_ATTRIBUTE_REPLAY, &before)
                          ? (uint32_t)before.number
                          : 0;
    hr_buffer bytes = {0};
    hr_buffer_add_slice(&bytes, dead->bytes);
    set_integer(&bytes, HR_ATTRIBUTE_REPLAY, number + 1);
    hr_builder builder = {0};
    hr_error err = {0};
    hr_code code = hr_builder_add(&builder, 0, hr_slice_of(bytes.bytes, bytes.size), &err);
    hr_batch *batch = hr_builder_finish(&builder, 0, hr_real_us());
    hr_builder_fini(&builder);
    hr_buffer_fini(&bytes);
    HR_ASSERT(code == HR_OK); /* hr_engine_can_replay() was asked */
    return batch;
}

bool hr_engine_can_replay(const hr_row *dead) {
    hr_view view;
    return dead->bytes.size > 0 && dead->bytes.size < UINT32_MAX &&
           hr_envelope_view(dead->bytes.bytes, 0, (uint32_t)dead->bytes.size, &view, NULL) == HR_OK;
}

/* One dead letter as a new delivery to its function, in the unit that ends the letter (S12). */
void hr_engine_replay(hr_engine *e, engine_function *f, const hr_row *dead, uint64_t ticket) {
    hr_row end = {.kind = HR_ROW_DEAD_END,
                  .position = dead->position,
                  .state = HR_DEAD_REPLAYED,
                  .at_ms = hr_real_us() / 1000};
    hr_engine_inject(e, f, replayed(dead), &end, ticket);
}

/* Drops a dead letter for good; any journal feed carries the row. */
void hr_engine_drop(hr_engine *e, const hr_row *dead, uint64_t ticket) {
    hr_row end = {.kind = HR_ROW_DEAD_END,
                  .position = dead->position,
                  .state = HR_DEAD_DROPPED,
                  .at_ms = hr_real_us() / 1000};
    uint32_t feed = e->function_count > 0 ? e->functions[0].inject_feed : dead->feed;
    hr_input input = {.kind = HR_IN_OFFER,
                      .offer = {.feed = feed, .ticket = ticket, .rows = &end, .row_count = 1}};
    hr_engine_input(e, &input);
}

uint64_t hr_engine_wait(hr_engine *e, hr_request *request, json_t *take_answer) {
    uint64_t ticket = next_ticket(e);
    wait_for(e, ticket, request, take_answer);
    return ticket;
}
