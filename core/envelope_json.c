/* SPDX-License-Identifier: Apache-2.0 */
/* CloudEvents JSON (application/cloudevents+json) from and to packed envelopes. */
#include "core/base64.h"
#include "core/envelope.h"
#include "core/json_text.h"
#include "core/time_text.h"
#include "core/utf8.h"

#include <jansson.h>
#include <strings.h>

void hr_attribute_print(const hr_attribute *attribute, hr_buffer *out) {
    char time[HR_TIME_TEXT];
    switch (attribute->type) {
    case HR_ATTRIBUTE_BOOLEAN:
        hr_buffer_print(out, "%s", attribute->number != 0 ? "true" : "false");
        break;
    case HR_ATTRIBUTE_INTEGER:
        hr_buffer_print(out, "%lld", (long long)attribute->number);
        break;
    case HR_ATTRIBUTE_BYTES:
        hr_base64_add(out, attribute->text);
        break;
    case HR_ATTRIBUTE_TIMESTAMP:
        hr_time_print(attribute->number, time);
        hr_buffer_add_slice(out, hr_slice_text(time));
        break;
    case HR_ATTRIBUTE_STRING:
    case HR_ATTRIBUTE_URI:
    case HR_ATTRIBUTE_URI_REF:
        hr_buffer_add_slice(out, attribute->text);
        break;
    }
}

static void print_member(hr_buffer *out, const char *name, hr_slice text) {
    hr_buffer_print(out, ",\"%s\":", name);
    hr_json_add_text(out, text);
}

static void print_attribute(hr_buffer *out, const hr_attribute *attribute) {
    hr_buffer_print(out, ",\"%.*s\":", (int)attribute->name.size,
                    (const char *)attribute->name.bytes);
    if (attribute->type == HR_ATTRIBUTE_BOOLEAN || attribute->type == HR_ATTRIBUTE_INTEGER) {
        hr_attribute_print(attribute, out);
    } else if (attribute->type == HR_ATTRIBUTE_BYTES || attribute->type == HR_ATTRIBUTE_TIMESTAMP) {
        hr_buffer_add(out, "\"", 1);
        hr_attribute_print(attribute, out);
        hr_buffer_add(out, "\"", 1);
    } else {
        hr_json_add_text(out, attribute->text);
    }
}

/* Does the same name come again behind cursor? Then it is that one that counts. */
static bool comes_again(hr_slice envelope, size_t cursor, hr_slice name) {
    hr_attribute later;
    while (hr_envelope_next_attribute(envelope, &cursor, &later)) {
        if (hr_slice_equal(later.name, name)) {
            return true;
        }
    }
    return false;
}

static bool is_text_type(hr_slice envelope) {
    hr_attribute type;
    return hr_envelope_attribute(envelope, "datacontenttype", &type) && type.text.size > 5 &&
           strncasecmp((const char *)type.text.bytes, "text/", 5) == 0;
}

static void print_data(hr_slice envelope, const hr_view *view, hr_buffer *out) {
    hr_slice data = hr_slice_of(envelope.bytes + view->data_at, view->data_size);
    bool is_json = (view->flags & HR_VIEW_JSON) != 0;
    if (is_json && hr_json_is_valid(data)) {
        hr_buffer_print(out, ",\"data\":");
        hr_json_add_compact(out, data);
    } else if (!is_json && ((view->flags & HR_VIEW_TEXT) != 0 ||
                            (is_text_type(envelope) && hr_utf8_is_valid(data)))) {
        print_member(out, "data", data);
    } else {
        hr_buffer_print(out, ",\"data_base64\":\"");
        hr_base64_add(out, data);
        hr_buffer_add(out, "\"", 1);
    }
}

void hr_envelope_print_json(hr_slice envelope, hr_buffer *out) {
    hr_view view;
    hr_code code = hr_envelope_view(envelope.bytes, 0, (uint32_t)envelope.size, &view, NULL);
    HR_ASSERT(code == HR_OK); /* nothing unchecked is ever kept */
    hr_buffer_print(out, "{\"specversion\":\"1.0\"");
    print_member(out, "id", hr_slice_of(envelope.bytes + view.id_at, view.id_size));
    print_member(out, "source", hr_slice_of(envelope.bytes + view.source_at, view.source_size));
    print_member(out, "type", hr_slice_of(envelope.bytes + view.type_at, view.type_size));
    hr_attribute attribute;
    size_t cursor = 0;
    while (hr_envelope_next_attribute(envelope, &cursor, &attribute)) {
        if (!comes_again(envelope, cursor, attribute.name)) {
            print_attribute(out, &attribute);
        }
    }
    if ((view.flags & HR_VIEW_DATA) != 0) {
        print_data(envelope, &view, out);
    }
    hr_buffer_add(out, "}", 1);
}

/* An event as it is read from JSON; slices borrow from the tree, the text or the buffer. */
typedef struct event_reader {
    hr_fields fields;
    hr_slice content_type;
    json_t *data, *data_base64; /* borrowed from the tree */
    hr_attribute attribute[HR_ENVELOPE_ATTRIBUTES];
    char number[HR_ENVELOPE_ATTRIBUTES][16]; /* text of numbers that must be text */
    bool is_version_1;
} event_reader;

static hr_slice slice_of_string(const json_t *value) {
    return hr_slice_of(json_string_value(value), json_string_length(value));
}

static hr_code read_required(const char *name, const json_t *value, hr_slice *out, hr_error *err) {
    if (!json_is_string(value) || json_string_length(value) == 0) {
        return hr_fail(err, HR_E_MALFORMED, 0, "%s must be a text that is not empty", name);
    }
    *out = slice_of_string(value);
    return HR_OK;
}

/* The value of an attribute by its JSON type, and by its name where CloudEvents gives it one. */
static hr_code read_value(const char *name, const json_t *value, hr_attribute *out, hr_error *err) {
    if (json_is_boolean(value)) {
        out->type = HR_ATTRIBUTE_BOOLEAN;
        out->number = json_is_true(value) ? 1 : 0;
    } else if (json_is_real(value)) { /* integers too are read as such */
        double number = json_real_value(value);
        if (!(number >= INT32_MIN && number <= INT32_MAX) || (double)(int64_t)number != number) {
            return hr_fail(err, HR_E_MALFORMED, 0, "attribute %s must be a 32-bit integer", name);
        }
        out->type = HR_ATTRIBUTE_INTEGER;
        out->number = (int64_t)number;
    } else if (!json_is_string(value)) {
        return hr_fail(err, HR_E_MALFORMED, 0, "attribute %s must be a text, number or boolean",
                       name);
    } else if (strcmp(name, "time") == 0) {
        out->type = HR_ATTRIBUTE_TIMESTAMP;
        if (!hr_time_parse(slice_of_string(value), &out->number)) {
            return hr_fail(err, HR_E_MALFORMED, 0, "time is not RFC 3339");
        }
    } else {
        out->type = strcmp(name, "dataschema") == 0 ? HR_ATTRIBUTE_URI : HR_ATTRIBUTE_STRING;
        out->text = slice_of_string(value);
    }
    return HR_OK;
}

/* Texts by CloudEvents; a number or boolean (a device's key, say) is taken as its text. */
static void make_text(hr_attribute *attribute, char room[16]) {
    bool must = hr_slice_is(attribute->name, "partitionkey") ||
                hr_slice_is(attribute->name, "subject") ||
                hr_slice_is(attribute->name, "datacontenttype");
    if (must && attribute->type == HR_ATTRIBUTE_INTEGER) {
        snprintf(room, 16, "%d", (int)attribute->number);
        attribute->text = hr_slice_text(room);
        attribute->type = HR_ATTRIBUTE_STRING;
    } else if (must && attribute->type == HR_ATTRIBUTE_BOOLEAN) {
        attribute->text = hr_slice_text(attribute->number != 0 ? "true" : "false");
        attribute->type = HR_ATTRIBUTE_STRING;
    }
}

static hr_code read_attribute(event_reader *reader, const char *name, const json_t *value,
                              hr_error *err) {
    size_t at = reader->fields.extension_count;
    if (json_is_null(value)) { /* the same as left out */
        return HR_OK;
    }
    if (at == HR_ENVELOPE_ATTRIBUTES) {
        return hr_fail(err, HR_E_MALFORMED, 0, "more than %d attributes", HR_ENVELOPE_ATTRIBUTES);
    }
    hr_attribute *attribute = &reader->attribute[at];
    *attribute = (hr_attribute){.name = hr_slice_text(name)};
    hr_code code = read_value(name, value, attribute, err);
    if (code != HR_OK) {
        return code;
    }
    make_text(attribute, reader->number[at]);
    if (hr_slice_is(attribute->name, "datacontenttype")) {
        reader->content_type = attribute->text;
    }
    reader->fields.extension_count++;
    return HR_OK;
}

static hr_code read_member(event_reader *reader, const char *name, json_t *value, hr_error *err) {
    if (strcmp(name, "id") == 0) {
        return read_required(name, value, &reader->fields.id, err);
    }
    if (strcmp(name, "source") == 0) {
        return read_required(name, value, &reader->fields.source, err);
    }
    if (strcmp(name, "type") == 0) {
        return read_required(name, value, &reader->fields.type, err);
    }
    if (strcmp(name, "specversion") == 0) {
        const char *version = json_is_string(value) ? json_string_value(value) : "";
        if (strncmp(version, "1.", 2) != 0 || version[2] == '\0' ||
            version[2 + strspn(version + 2, "0123456789")] != '\0') {
            return hr_fail(err, HR_E_MALFORMED, 0, "specversion must be 1.x");
        }
        reader->is_version_1 = true;
    } else if (strcmp(name, "data") == 0) {
        reader->data = value;
    } else if (strcmp(name, "data_base64") == 0) {
        reader->data_base64 = json_is_null(value) ? NULL : value;
    } else {
        return read_attribute(reader, name, value, err);
    }
    return HR_OK;
}

/* The data as the bytes of the event; decoded ones go to room. */
static hr_code read_data(event_reader *reader, hr_slice json, hr_buffer *room, hr_error *err) {
    hr_fields *fields = &reader->fields;
    bool is_json = reader->content_type.size == 0 || hr_content_type_is_json(reader->content_type);
    fields->has_data = reader->data != NULL || reader->data_base64 != NULL;
    if (reader->data != NULL && reader->data_base64 != NULL) {
        return hr_fail(err, HR_E_MALFORMED, 0, "both data and data_base64");
    }
    if (reader->data_base64 != NULL) {
        if (!json_is_string(reader->data_base64) ||
            !hr_base64_read(slice_of_string(reader->data_base64), room)) {
            return hr_fail(err, HR_E_MALFORMED, 0, "data_base64 is not base64");
        }
        fields->data = hr_slice_of(room->bytes, room->size);
        return HR_OK;
    }
    if (reader->data == NULL) {
        return HR_OK;
    }
    if (!is_json && json_is_string(reader->data)) {
        fields->data_is_text = true;
        fields->data = slice_of_string(reader->data);
        return HR_OK;
    }
    /* As it stands, so that no number is rewritten; and as bytes: the official Go SDK would quote
     * text_data of type JSON once more. What JSON implies is said, as CloudEvents wants. */
    fields->data = hr_json_raw_member(json, "data");
    if (reader->content_type.size == 0) {
        fields->content_type = hr_slice_text("application/json");
    }
    if (fields->data.size == 0) {
        return hr_fail(err, HR_E_MALFORMED, 0, "the member data is written with escapes");
    }
    return HR_OK;
}

static hr_code read_event(event_reader *reader, json_t *tree, hr_slice json, hr_buffer *room,
                          hr_error *err) {
    const char *name;
    json_t *value;
    json_object_foreach(tree, name, value) {
        hr_code code = read_member(reader, name, value, err);
        if (code != HR_OK) {
            return code;
        }
    }
    if (!reader->is_version_1) {
        return hr_fail(err, HR_E_MALFORMED, 0, "no specversion");
    }
    return read_data(reader, json, room, err);
}

hr_code hr_envelope_from_json(hr_slice json, hr_buffer *out, hr_error *err) {
    if (json.size > 2 * (size_t)HR_ENVELOPE_MAX) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "event of %zu bytes of JSON", json.size);
    }
    json_error_t wrong;
    json_t *tree = hr_json_load(json, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &wrong);
    if (tree == NULL) {
        return hr_fail(err, HR_E_MALFORMED, 0, "not JSON: %s (line %d, column %d)", wrong.text,
                       wrong.line, wrong.column);
    }
    hr_code code;
    hr_buffer room = {0};
    event_reader reader;
    memset(&reader, 0, offsetof(event_reader, attribute));
    reader.is_version_1 = false;
    reader.fields.extensions = reader.attribute;
    if (!json_is_object(tree)) {
        code = hr_fail(err, HR_E_MALFORMED, 0, "an event is a JSON object");
    } else {
        code = read_event(&reader, tree, json, &room, err);
    }
    if (code == HR_OK) {
        code = hr_envelope_pack(&reader.fields, out, err);
    }
    if (code == HR_E_INVALID) { /* to the packer a mistake of its caller, here of a stranger */
        code = HR_E_MALFORMED;
        if (err != NULL) {
            err->code = code;
        }
    }
    hr_buffer_fini(&room);
    json_decref(tree);
    return code;
}
