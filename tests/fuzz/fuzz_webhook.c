/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP dialects. First byte: the dialect; then header lines "name: value", an empty line, the body.
 * Lines "@id: expression" (type, subject) are settings of the json dialect. What becomes an event
 * of JSON is JSON. */
#include "core/envelope.h"
#include "core/json_text.h"
#include "core/memory.h"
#include "core/utf8.h"
#include "streams/sql.h"
#include "tests/fuzz/fuzz.h"
#include "triggers/cloudevents_http.h"
#include "triggers/json_form.h"

#include <strings.h>

enum { HEADERS = 32 };
typedef struct request {
    hr_node *settings;
    hr_slice name[HEADERS], value[HEADERS];
    size_t count;
} request;

static hr_slice header(const void *data, const char *name) {
    const request *self = data;
    size_t size = strlen(name);
    for (size_t i = 0; i < self->count; i++) {
        if (self->name[i].size == size &&
            strncasecmp((const char *)self->name[i].bytes, name, size) == 0) {
            return self->value[i];
        }
    }
    return (hr_slice){0};
}

static void each_header(const void *data, void (*each)(void *data, hr_slice name, hr_slice value),
                        void *each_data) {
    const request *self = data;
    for (size_t i = 0; i < self->count; i++) {
        each(each_data, self->name[i], self->value[i]);
    }
}

static void add_header(request *self, hr_slice line) {
    const uint8_t *colon = memchr(line.bytes, ':', line.size);
    if (colon == NULL || self->count == HEADERS || memchr(line.bytes, 0, line.size) != NULL) {
        return; /* the server lets no such thing through */
    }
    size_t name = (size_t)(colon - line.bytes), from = name + 1;
    while (from < line.size && line.bytes[from] == ' ') {
        from++;
    }
    if (line.bytes[0] == '@') {
        char *key = hr_copy_bytes(line.bytes + 1, name - 1);
        char *text = hr_copy_bytes(line.bytes + from, line.size - from);
        if (hr_node_get(self->settings, key) == NULL && hr_utf8_is_valid(hr_slice_text(text))) {
            (void)hr_node_add_text(self->settings, key, text, 0);
        }
        hr_free(key);
        hr_free(text);
        return;
    }
    self->name[self->count] = hr_slice_of(line.bytes, name);
    self->value[self->count++] = hr_slice_of(line.bytes + from, line.size - from);
}

static hr_sql *sql;

static hr_code compile(const char *text, struct hr_expression **out, int *out_offset,
                       hr_error *err) {
    return hr_sql_compile(sql, text, out, out_offset, err);
}

static const hr_trigger_evaluator evaluator = {
    .compile = compile, .values = hr_expression_values, .free = hr_expression_free};

/* The json dialect with its settings. */
static hr_code read_json(const request *sent, const hr_webhook_input *input, hr_sink *sink,
                         hr_error *err) {
    if (sql == NULL) {
        sql = hr_sql_new();
        hr_trigger_eval = &evaluator;
    }
    hr_webhook webhook = {.trigger = {.name = "fuzz", .kind_config = sent->settings}};
    hr_code code = hr_dialect_json.init(&webhook, err);
    if (code == HR_OK) {
        code = hr_dialect_json.read(&webhook, input, sink, err);
    } else {
        FUZZ_CHECK(code == HR_E_EXPRESSION && err->text[0] != '\0');
        code = HR_OK;
    }
    hr_dialect_json.fini(&webhook);
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size == 0) {
        return 0;
    }
    request sent = {.settings = hr_node_add(NULL, HR_NODE_MAP, NULL)};
    hr_slice rest = hr_slice_of(bytes + 1, size - 1);
    for (hr_slice line = fuzz_line(&rest); line.size > 0; line = fuzz_line(&rest)) {
        add_header(&sent, line);
    }
    hr_webhook_input input = {.body = rest,
                              .path = "/hooks/fuzz",
                              .header = header,
                              .each_header = each_header,
                              .data = &sent,
                              .is_emit = bytes[0] == 'e'};
    hr_webhook webhook = {.trigger = {.name = "fuzz", .kind_config = sent.settings}};
    hr_builder builder = {0};
    hr_sink sink = {.builder = &builder};
    hr_error err = {0};
    hr_code code = bytes[0] == 'j' ? read_json(&sent, &input, &sink, &err)
                   : bytes[0] == 'c'
                       ? hr_cloudevents_read(&input, hr_slice_text("fuzz"), &sink, &err)
                       : hr_dialect_github.read(&webhook, &input, &sink, &err);
    FUZZ_CHECK(code == HR_OK || code == HR_E_MALFORMED || code == HR_E_TOO_LARGE);
    FUZZ_CHECK(code == HR_OK || err.text[0] != '\0');
    hr_batch *batch = hr_builder_finish(&builder, 1, 0);
    for (uint32_t i = 0; batch != NULL && i < batch->count; i++) {
        hr_view view;
        const hr_view *kept = &batch->view[i];
        FUZZ_CHECK(hr_envelope_view(batch->bytes, kept->at, kept->size, &view, &err) == HR_OK);
        FUZZ_CHECK(view.id_at == kept->id_at && view.data_at == kept->data_at);
        FUZZ_CHECK(view.data_size == kept->data_size && view.key_hash == kept->key_hash);
        hr_slice data = hr_batch_data(batch, i);
        FUZZ_CHECK(bytes[0] == 'c' || bytes[0] == 'e' || hr_json_is_formed(data) ||
                   hr_json_is_valid(data)); /* github: nested as deep as jansson goes */
    }
    hr_batch_unref(batch);
    hr_builder_fini(&builder);
    hr_node_free(sent.settings);
    return 0;
}
