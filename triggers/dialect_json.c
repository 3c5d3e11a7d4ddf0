/* SPDX-License-Identifier: Apache-2.0 */
/* Dialect json: the body is the data of one event; id, type and subject come from expressions. */
#include "core/json_text.h"
#include "core/memory.h"
#include "triggers/json_form.h"
#include "triggers/webhook.h"

#include <jansson.h>

const hr_trigger_evaluator *hr_trigger_eval;

static hr_code compile(const hr_node *config, const char *key, struct hr_expression **out,
                       hr_error *err) {
    const char *text = hr_node_text(config, key, NULL);
    if (text == NULL) {
        return HR_OK;
    }
    if (hr_trigger_eval == NULL) {
        return hr_fail(err, HR_E_UNSUPPORTED, 0, "%s: expressions cannot be evaluated here", key);
    }
    int offset = -1;
    if (hr_trigger_eval->compile(text, out, &offset, err) != HR_OK) {
        return hr_wrap(err, "%s", key);
    }
    return HR_OK;
}

static hr_code json_init(hr_webhook *self, hr_error *err) {
    self->source = hr_format("headrace/webhook/%s", self->trigger.name);
    hr_code code = compile(self->trigger.kind_config, "id", &self->id, err);
    if (code == HR_OK) {
        code = compile(self->trigger.kind_config, "type", &self->type, err);
    }
    if (code == HR_OK) {
        code = compile(self->trigger.kind_config, "subject", &self->subject, err);
    }
    return code;
}

static void json_fini(hr_webhook *self) {
    struct hr_expression *all[] = {self->id, self->type, self->subject};
    for (size_t i = 0; i < 3; i++) {
        if (all[i] != NULL) {
            hr_trigger_eval->free(all[i]);
        }
    }
    self->id = self->type = self->subject = NULL;
    hr_free(self->source);
    self->source = NULL;
    hr_buffer_fini(&self->made_id);
}

/* Why a body is no JSON, in the words of a parser that counts lines. */
static hr_code not_json(hr_slice body, hr_error *err) {
    json_error_t wrong = {.line = 0};
    json_t *tree =
        hr_json_load(body, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &wrong);
    if (tree != NULL) {
        json_decref(tree);
        return hr_fail(err, HR_E_MALFORMED, 0, "the body is JSON nested deeper than %d",
                       HR_JSON_DEPTH_MAX);
    }
    return hr_fail(err, HR_E_MALFORMED, 0, "the body is not JSON: %s (line %d, column %d)",
                   wrong.text, wrong.line, wrong.column);
}

typedef struct value {
    hr_buffer text;
    bool is_null;
} value;

static void keep_value(void *data, uint32_t index, hr_slice text, bool is_null) {
    (void)index;
    value *self = data;
    self->is_null = is_null;
    if (!is_null && text.size > 0) {
        hr_buffer_add_slice(&self->text, text);
    }
}

static hr_slice evaluate(struct hr_expression *expression, const hr_batch *batch, value *out,
                         hr_slice fallback) {
    if (expression == NULL) {
        return fallback;
    }
    out->is_null = true;
    hr_trigger_eval->values(expression, batch, keep_value, out);
    return out->is_null || out->text.size == 0 ? fallback
                                               : hr_slice_of(out->text.bytes, out->text.size);
}

/* The expressions see the event as it would be without them. */
static hr_code apply(hr_webhook *self, hr_fields *fields, hr_sink *sink, hr_error *err) {
    hr_builder builder = {0};
    hr_sink plain = {.builder = &builder};
    value id = {0}, type = {0}, subject = {0};
    hr_batch *batch = NULL;
    hr_code code = hr_sink_pack(&plain, fields, err);
    if (code != HR_OK) {
        goto done;
    }
    batch = hr_builder_finish(&builder, 0, fields->time_us);
    fields->id = evaluate(self->id, batch, &id, fields->id);
    fields->type = evaluate(self->type, batch, &type, fields->type);
    fields->subject = evaluate(self->subject, batch, &subject, fields->subject);
    if (self->id != NULL && (id.is_null || id.text.size == 0)) {
        code = hr_fail(err, HR_E_MALFORMED, 0, "the event has no id: %s gives nothing",
                       hr_node_text(self->trigger.kind_config, "id", ""));
        goto done;
    }
    code = hr_sink_pack(sink, fields, err);
done:
    hr_batch_unref(batch);
    hr_builder_fini(&builder);
    hr_buffer_fini(&id.text);
    hr_buffer_fini(&type.text);
    hr_buffer_fini(&subject.text);
    return code;
}

static hr_code json_read(hr_webhook *self, const hr_webhook_input *input, hr_sink *sink,
                         hr_error *err) {
    if (input->body.size == 0) {
        return hr_fail(err, HR_E_MALFORMED, 0, "the body is empty");
    }
    if (!hr_json_is_formed(input->body)) {
        return not_json(input->body, err);
    }
    char fresh[HR_INTAKE_ID];
    hr_intake_new_id(fresh);
    hr_slice key = input->header(input->data, "Idempotency-Key");
    if (key.size > 2 && key.bytes[0] == '"' && key.bytes[key.size - 1] == '"') {
        key = hr_slice_of(key.bytes + 1, key.size - 2);
    }
    bool is_keyed = key.size > 0 && key.size <= 256;
    hr_buffer *id = &self->made_id;
    id->size = 0;
    if (is_keyed) {
        hr_buffer_add_slice(id, key);
    } else {
        hr_buffer_add_text(id, self->trigger.name);
        hr_buffer_add_text(id, "-");
        hr_buffer_add_text(id, fresh);
    }
    hr_slice content_type = input->header(input->data, "Content-Type");
    hr_fields fields = {
        .id = hr_slice_of(id->bytes, id->size),
        .source = hr_slice_text(self->source),
        .type = hr_slice_text("webhook.received"),
        .subject = hr_slice_text(input->path),
        .content_type = hr_content_type_is_json(content_type) ? content_type
                                                              : hr_slice_text("application/json"),
        .partition_key = hr_slice_text(self->trigger.name),
        .time_us = hr_real_us(),
        .data = input->body,
        .id_is_made = !is_keyed && self->id == NULL,
        .has_data = true,
    };
    bool is_plain = self->id == NULL && self->type == NULL && self->subject == NULL;
    hr_code code = is_plain ? hr_sink_pack(sink, &fields, err) : apply(self, &fields, sink, err);
    return code;
}

const hr_webhook_dialect hr_dialect_json = {
    .name = "json", .init = json_init, .read = json_read, .fini = json_fini};
