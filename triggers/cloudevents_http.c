/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/cloudevents_http.h"

#include "core/json_text.h"
#include "core/memory.h"
#include "core/time_text.h"

#include <strings.h>

enum { KEY_MAX = 64 }; /* bytes: so that the lengths of the entry below take one byte each */

/* Appends `attributes["partitionkey"] = key` to a packed event; protobuf fields may follow in any
 * order, so the event itself stays as it came. */
static void add_key(hr_buffer *envelope, hr_slice key) {
    static const char name[] = "partitionkey";
    const size_t name_size = sizeof name - 1;
    HR_ASSERT(key.size > 0 && key.size <= KEY_MAX);
    const uint8_t head[] = {
        0x2A, (uint8_t)(2 + name_size + 2 + 2 + key.size), /* field 5: a map entry */
        0x0A, (uint8_t)name_size,                          /* its key */
    };
    const uint8_t value[] = {
        0x12, (uint8_t)(2 + key.size), /* its value */
        0x1A, (uint8_t)key.size,       /* ce_string */
    };
    hr_buffer_add(envelope, head, sizeof head);
    hr_buffer_add(envelope, name, name_size);
    hr_buffer_add(envelope, value, sizeof value);
    hr_buffer_add_slice(envelope, key);
}

/* Adds a packed event, with the key where it has none. */
static hr_code add_packed(hr_buffer *envelope, hr_slice key, hr_sink *sink, hr_error *err) {
    hr_attribute attribute;
    hr_view view;
    hr_code code = envelope->size > HR_ENVELOPE_MAX
                       ? hr_fail(err, HR_E_TOO_LARGE, 0, "an event of %zu bytes", envelope->size)
                       : hr_envelope_view(envelope->bytes, 0, (uint32_t)envelope->size, &view, err);
    if (code != HR_OK) {
        return code;
    }
    hr_slice packed = hr_slice_of(envelope->bytes, envelope->size);
    if (key.size > 0 && !hr_envelope_attribute(packed, "partitionkey", &attribute)) {
        add_key(envelope, key);
        packed = hr_slice_of(envelope->bytes, envelope->size);
    }
    return hr_sink_add(sink, packed, err);
}

static hr_code read_json(hr_slice json, hr_slice key, hr_sink *sink, hr_error *err) {
    hr_buffer envelope = {0};
    hr_code code = hr_envelope_from_json(json, &envelope, err);
    if (code == HR_OK) {
        code = add_packed(&envelope, key, sink, err);
    }
    hr_buffer_fini(&envelope);
    return code;
}

/* The end of the JSON value that starts at `at`, in valid JSON: a comma or bracket of its level. */
static size_t value_end(hr_slice json, size_t at) {
    int depth = 0;
    bool is_text = false;
    for (; at < json.size; at++) {
        uint8_t c = json.bytes[at];
        if (is_text) {
            at += c == '\\';
            is_text = c != '"';
        } else if (c == '"') {
            is_text = true;
        } else if (c == '[' || c == '{') {
            depth++;
        } else if ((c == ']' || c == '}') && --depth < 0) {
            return at;
        } else if (c == ',' && depth == 0) {
            return at;
        }
    }
    return at;
}

static bool is_space(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static hr_code read_json_batch(hr_slice json, hr_slice key, hr_sink *sink, hr_error *err) {
    if (!hr_json_is_valid(json)) {
        return hr_fail(err, HR_E_MALFORMED, 0, "the batch is not JSON");
    }
    size_t at = 0;
    while (is_space(json.bytes[at])) {
        at++;
    }
    if (json.bytes[at] != '[') {
        return hr_fail(err, HR_E_MALFORMED, 0, "a batch is a JSON array");
    }
    for (size_t index = 0;; index++) {
        at++;
        while (at < json.size && is_space(json.bytes[at])) {
            at++;
        }
        size_t end = value_end(json, at);
        if (end == at) { /* an empty array */
            return HR_OK;
        }
        hr_code code = read_json(hr_slice_of(json.bytes + at, end - at), key, sink, err);
        if (code != HR_OK) {
            return hr_wrap(err, "event %zu of the batch", index);
        }
        if (end >= json.size || json.bytes[end] != ',') {
            return HR_OK;
        }
        at = end;
    }
}

/* Binary mode: the attributes are header lines, the body is the data. */
typedef struct binary {
    hr_fields fields;
    hr_attribute extension[HR_ENVELOPE_ATTRIBUTES];
    hr_buffer text; /* decoded values and names; offsets while it grows */
    size_t name_at[HR_ENVELOPE_ATTRIBUTES], value_at[HR_ENVELOPE_ATTRIBUTES],
        value_size[HR_ENVELOPE_ATTRIBUTES];
    size_t count;
    const char *wrong;
} binary;

static int hex_digit(uint8_t c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Undoes quoting and percent-encoding of a header value. */
static void decode(hr_slice value, hr_buffer *out) {
    bool is_quoted = value.size >= 2 && value.bytes[0] == '"' && value.bytes[value.size - 1] == '"';
    size_t at = is_quoted ? 1 : 0, end = is_quoted ? value.size - 1 : value.size;
    for (; at < end; at++) {
        uint8_t c = value.bytes[at];
        if (is_quoted && c == '\\' && at + 1 < end) {
            c = value.bytes[++at];
        } else if (c == '%' && end - at > 2) {
            int high = hex_digit(value.bytes[at + 1]), low = hex_digit(value.bytes[at + 2]);
            if (high >= 0 && low >= 0) {
                c = (uint8_t)(high << 4 | low);
                at += 2;
            }
        }
        hr_buffer_add(out, &c, 1);
    }
}

static void take_header(void *data, hr_slice name, hr_slice value) {
    binary *self = data;
    if (name.size < 4 || strncasecmp((const char *)name.bytes, "ce-", 3) != 0) {
        return;
    }
    if (self->count == HR_ENVELOPE_ATTRIBUTES) {
        self->wrong = "more than 64 attributes";
        return;
    }
    self->name_at[self->count] = self->text.size;
    for (size_t i = 3; i < name.size; i++) {
        uint8_t c = name.bytes[i];
        c = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 'a' - 'A') : c;
        hr_buffer_add(&self->text, &c, 1);
    }
    hr_buffer_add(&self->text, "", 1);
    self->value_at[self->count] = self->text.size;
    decode(value, &self->text);
    self->value_size[self->count] = self->text.size - self->value_at[self->count];
    hr_buffer_add(&self->text, "", 1);
    self->count++;
}

/* Sorts the attributes into fields and extensions. */
static hr_code place_attributes(binary *self, hr_error *err) {
    struct {
        const char *name;
        hr_slice *to;
    } known[] = {{"id", &self->fields.id},
                 {"source", &self->fields.source},
                 {"type", &self->fields.type},
                 {"subject", &self->fields.subject},
                 {"dataschema", &self->fields.schema},
                 {"partitionkey", &self->fields.partition_key},
                 {"specversion", NULL},
                 {"time", NULL},
                 {"datacontenttype", NULL}};
    bool has_version = false;
    for (size_t i = 0; i < self->count; i++) {
        const char *name = (const char *)self->text.bytes + self->name_at[i];
        hr_slice value = hr_slice_of(self->text.bytes + self->value_at[i], self->value_size[i]);
        for (size_t before = 0; before < i; before++) {
            if (strcmp((const char *)self->text.bytes + self->name_at[before], name) == 0) {
                return hr_fail(err, HR_E_MALFORMED, 0, "ce-%.64s is there twice", name);
            }
        }
        size_t which = 0;
        while (which < sizeof known / sizeof known[0] && strcmp(known[which].name, name) != 0) {
            which++;
        }
        if (which == sizeof known / sizeof known[0]) {
            self->extension[self->fields.extension_count++] = (hr_attribute){
                .name = hr_slice_text(name), .type = HR_ATTRIBUTE_STRING, .text = value};
        } else if (known[which].to != NULL) {
            *known[which].to = value;
        } else if (strcmp(name, "time") == 0) {
            if (!hr_time_parse(value, &self->fields.time_us)) {
                return hr_fail(err, HR_E_MALFORMED, 0, "ce-time is not an RFC 3339 time");
            }
        } else if (strcmp(name, "specversion") == 0) {
            has_version = value.size >= 2 && memcmp(value.bytes, "1.", 2) == 0;
        }
    }
    if (!has_version) {
        return hr_fail(err, HR_E_MALFORMED, 0, "ce-specversion is missing or not 1.x");
    }
    for (size_t i = 0; i < 3; i++) {
        if (known[i].to->size == 0) {
            return hr_fail(err, HR_E_MALFORMED, 0, "ce-%s is missing", known[i].name);
        }
    }
    return HR_OK;
}

static hr_code read_binary(const hr_webhook_input *input, hr_slice key, hr_sink *sink,
                           hr_error *err) {
    binary *self = hr_alloc(sizeof *self);
    hr_code code;
    input->each_header(input->data, take_header, self);
    hr_slice content_type = input->header(input->data, "Content-Type");
    if (self->count == 0) {
        code = hr_fail(err, HR_E_MALFORMED, 0,
                       "not a CloudEvent: no ce- headers, and Content-Type is '%.*s'",
                       (int)(content_type.size < 100 ? content_type.size : 100),
                       content_type.size == 0 ? "" : (const char *)content_type.bytes);
        goto done;
    }
    if (self->wrong != NULL) {
        code = hr_fail(err, HR_E_MALFORMED, 0, "%s", self->wrong);
        goto done;
    }
    self->fields.extensions = self->extension;
    self->fields.content_type = content_type;
    self->fields.data = input->body;
    self->fields.has_data = input->body.size > 0;
    code = place_attributes(self, err);
    if (code == HR_OK) {
        if (self->fields.partition_key.size == 0) {
            self->fields.partition_key = key;
        }
        code = hr_sink_pack(sink, &self->fields, err);
    }
done:
    hr_buffer_fini(&self->text);
    hr_free(self);
    return code;
}

/* Is the media type this one? Parameters and case do not matter. */
static bool is_type(hr_slice content_type, const char *type) {
    size_t size = strlen(type);
    return content_type.size >= size &&
           strncasecmp((const char *)content_type.bytes, type, size) == 0 &&
           (content_type.size == size || strchr("; \t", content_type.bytes[size]) != NULL);
}

hr_code hr_cloudevents_read(const hr_webhook_input *input, hr_slice key, hr_sink *sink,
                            hr_error *err) {
    hr_slice type = input->header(input->data, "Content-Type");
    if (input->is_emit && type.size == 0 &&
        input->header(input->data, "ce-specversion").size == 0) {
        type = hr_slice_text("application/cloudevents+json");
    }
    bool is_structured =
        type.size > 23 && strncasecmp((const char *)type.bytes, "application/cloudevents", 23) == 0;
    if (!is_structured) {
        return read_binary(input, key, sink, err);
    }
    if (input->body.size == 0) {
        return hr_fail(err, HR_E_MALFORMED, 0, "the body is empty");
    }
    if (is_type(type, "application/cloudevents+json")) {
        return read_json(input->body, key, sink, err);
    }
    if (is_type(type, "application/cloudevents-batch+json")) {
        return read_json_batch(input->body, key, sink, err);
    }
    if (is_type(type, "application/cloudevents+protobuf")) {
        hr_buffer envelope = {0};
        hr_buffer_add_slice(&envelope, input->body);
        hr_code code = add_packed(&envelope, key, sink, err);
        hr_buffer_fini(&envelope);
        return code;
    }
    return hr_fail(err, HR_E_MALFORMED, 0, "Content-Type '%.*s' is not read here",
                   (int)(type.size < 100 ? type.size : 100), (const char *)type.bytes);
}

static hr_code read_cloudevents(hr_webhook *self, const hr_webhook_input *input, hr_sink *sink,
                                hr_error *err) {
    return hr_cloudevents_read(input, hr_slice_text(self->trigger.name), sink, err);
}

const hr_webhook_dialect hr_dialect_cloudevents = {.name = "cloudevents", .read = read_cloudevents};
