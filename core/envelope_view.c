/* SPDX-License-Identifier: Apache-2.0 */
/* Reading packed envelopes in place: everything checked, nothing copied. */
#include "core/envelope.h"
#include "core/utf8.h"
#include "core/wire.h"

#include <strings.h>

/* google.protobuf.Timestamp: from year 1 to year 9999. */
#define TIME_SECONDS_MIN INT64_C(-62135596800)
#define TIME_SECONDS_MAX INT64_C(253402300799)

bool hr_content_type_is_json(hr_slice content_type) {
    const char *text = (const char *)content_type.bytes;
    size_t size = 0;
    if (content_type.size == 16 && memcmp(text, "application/json", 16) == 0) {
        return true;
    }
    while (size < content_type.size && text[size] != ';') {
        size++;
    }
    while (size > 0 && (*text == ' ' || *text == '\t')) {
        text++;
        size--;
    }
    while (size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\t')) {
        size--;
    }
    return (size == 16 && strncasecmp(text, "application/json", 16) == 0) ||
           (size == 9 && strncasecmp(text, "text/json", 9) == 0) ||
           (size > 5 && strncasecmp(text + size - 5, "+json", 5) == 0);
}

bool hr_attribute_name_is_valid(hr_slice name) {
    if (name.size == 0 || name.size > HR_ATTRIBUTE_NAME_MAX) {
        return false;
    }
    bool good = true;
    for (size_t i = 0; i < name.size; i++) { /* no branch inside: nearly all names are good */
        uint8_t c = name.bytes[i];
        good &= ((uint8_t)(c - 'a') < 26) | ((uint8_t)(c - '0') < 10) | (c == '_');
    }
    if (!good) {
        return false;
    }
    switch (name.size) {
    case 2:
        return memcmp(name.bytes, "id", 2) != 0;
    case 4:
        return memcmp(name.bytes, "type", 4) != 0 && memcmp(name.bytes, "data", 4) != 0;
    case 6:
        return memcmp(name.bytes, "source", 6) != 0;
    case 11:
        return memcmp(name.bytes, "specversion", 11) != 0 &&
               memcmp(name.bytes, "data_base64", 11) != 0;
    default:
        return true;
    }
}

/* One entry of the attributes map as it is read: parts may come in any order and repeat. */
typedef struct entry_reader {
    hr_attribute attribute;
    int64_t seconds, nanos; /* TIMESTAMP */
    bool has_value;
} entry_reader;

static bool read_timestamp(hr_slice bytes, entry_reader *reading) {
    hr_wire wire = hr_wire_of(bytes);
    while (wire.at < wire.end) {
        hr_wire_field field;
        if (!hr_wire_next(&wire, &field)) {
            return false;
        }
        if (field.number == 1 || field.number == 2) {
            if (field.type != HR_WIRE_VARINT) {
                return false;
            }
            *(field.number == 1 ? &reading->seconds : &reading->nanos) =
                field.number == 1 ? (int64_t)field.value : (int32_t)(uint32_t)field.value;
        }
    }
    return true;
}

static bool read_value(hr_slice bytes, entry_reader *reading) {
    hr_wire wire = hr_wire_of(bytes);
    hr_attribute *attribute = &reading->attribute;
    while (wire.at < wire.end) {
        hr_wire_field field;
        if (!hr_wire_next(&wire, &field)) {
            return false;
        }
        if (field.number > HR_ATTRIBUTE_TIMESTAMP) {
            continue;
        }
        bool is_number = field.number <= HR_ATTRIBUTE_INTEGER;
        if (field.type != (is_number ? HR_WIRE_VARINT : HR_WIRE_BYTES)) {
            return false;
        }
        if (field.number == HR_ATTRIBUTE_TIMESTAMP) {
            if (!reading->has_value || attribute->type != HR_ATTRIBUTE_TIMESTAMP) {
                reading->seconds = 0;
                reading->nanos = 0;
            }
            if (!read_timestamp(field.bytes, reading)) {
                return false;
            }
        }
        reading->has_value = true;
        attribute->type = (hr_attribute_type)field.number;
        attribute->text = is_number || field.number == HR_ATTRIBUTE_TIMESTAMP ? hr_slice_of(NULL, 0)
                                                                              : field.bytes;
        attribute->number = field.number == HR_ATTRIBUTE_BOOLEAN   ? field.value != 0
                            : field.number == HR_ATTRIBUTE_INTEGER ? (int32_t)(uint32_t)field.value
                                                                   : 0;
    }
    return true;
}

/* The shape that nearly all entries have: a short name, then one short text. false: another. */
static bool read_short_text(hr_slice entry, entry_reader *reading) {
    const uint8_t *at = entry.bytes;
    if (entry.size < 6 || at[0] != 0x0A || at[1] > entry.size - 6 || at[1] >= 0x80) {
        return false;
    }
    size_t value = 2 + (size_t)at[1], size = entry.size - value;
    if (at[value] != 0x12 || at[value + 1] != size - 2 || at[value + 1] >= 0x80 ||
        at[value + 2] != (HR_ATTRIBUTE_STRING << 3 | HR_WIRE_BYTES) || at[value + 3] != size - 4) {
        return false;
    }
    reading->attribute = (hr_attribute){.name = hr_slice_of(at + 2, at[1]),
                                        .type = HR_ATTRIBUTE_STRING,
                                        .text = hr_slice_of(at + value + 4, size - 4)};
    reading->has_value = true;
    return true;
}

/* Reads one entry; only the wire is checked here. */
static bool read_entry(hr_slice entry, entry_reader *reading) {
    if (read_short_text(entry, reading)) {
        return true;
    }
    hr_wire wire = hr_wire_of(entry);
    reading->attribute.name = hr_slice_of(NULL, 0);
    reading->has_value = false;
    while (wire.at < wire.end) {
        hr_wire_field field;
        if (!hr_wire_next(&wire, &field)) {
            return false;
        }
        if (field.number > 2) {
            continue;
        }
        if (field.type != HR_WIRE_BYTES) {
            return false;
        }
        if (field.number == 1) {
            reading->attribute.name = field.bytes;
        } else if (!read_value(field.bytes, reading)) {
            return false;
        }
    }
    if (reading->has_value && reading->attribute.type == HR_ATTRIBUTE_TIMESTAMP) {
        if (reading->seconds < TIME_SECONDS_MIN || reading->seconds > TIME_SECONDS_MAX ||
            reading->nanos < 0 || reading->nanos > 999999999) {
            return false;
        }
        reading->attribute.number = reading->seconds * 1000000 + reading->nanos / 1000;
    }
    return true;
}

static bool is_text(hr_attribute_type type) {
    return type == HR_ATTRIBUTE_STRING || type == HR_ATTRIBUTE_URI || type == HR_ATTRIBUTE_URI_REF;
}

/* The view while it is read. */
typedef struct view_reader {
    const uint8_t *bytes; /* the offsets' start */
    hr_view *view;
    hr_slice version, content_type;
    uint32_t attributes;
    bool is_proto_data;
    const char *wrong; /* what is wrong; NULL: nothing */
} view_reader;

static void view_text(view_reader *viewing, hr_slice text, uint32_t *out_at, uint16_t *out_size) {
    if (text.size > HR_ATTRIBUTE_VALUE_MAX) {
        viewing->wrong = "a text is too long";
    } else if (!hr_utf8_is_text(text)) {
        viewing->wrong = "a text is not UTF-8, or holds a zero";
    } else {
        *out_at = (uint32_t)(text.bytes - viewing->bytes);
        *out_size = (uint16_t)text.size;
    }
}

/* The attributes that the view names; all others only have to be well-formed. */
static void view_named(view_reader *viewing, const hr_attribute *attribute) {
    hr_slice name = attribute->name;
    hr_view *view = viewing->view;
    bool subject = name.size == 7 && memcmp(name.bytes, "subject", 7) == 0;
    bool key = name.size == 12 && memcmp(name.bytes, "partitionkey", 12) == 0;
    bool content_type = name.size == 15 && memcmp(name.bytes, "datacontenttype", 15) == 0;
    if (!subject && !key && !content_type) {
        return;
    }
    if (!is_text(attribute->type)) {
        viewing->wrong = "subject, partitionkey and datacontenttype must be texts";
    } else if (content_type) {
        viewing->content_type = attribute->text;
    } else {
        *(key ? &view->key_at : &view->subject_at) =
            (uint32_t)(attribute->text.bytes - viewing->bytes);
        *(key ? &view->key_size : &view->subject_size) = (uint16_t)attribute->text.size;
    }
}

static void view_attribute(view_reader *viewing, hr_slice entry) {
    entry_reader reading;
    if (++viewing->attributes > HR_ENVELOPE_ATTRIBUTES) {
        viewing->wrong = "more than 64 attributes";
    } else if (!read_entry(entry, &reading)) {
        viewing->wrong = "an attribute is garbled";
    } else if (!hr_attribute_name_is_valid(reading.attribute.name)) {
        viewing->wrong = "an attribute's name is not of [a-z0-9_], or is reserved";
    } else if (reading.has_value) {
        if (reading.attribute.text.size > HR_ATTRIBUTE_VALUE_MAX) {
            viewing->wrong = "an attribute is too long";
        } else if (is_text(reading.attribute.type) && !hr_utf8_is_text(reading.attribute.text)) {
            viewing->wrong = "an attribute is not UTF-8, or holds a zero";
        } else {
            view_named(viewing, &reading.attribute);
        }
    }
}

static void view_data(view_reader *viewing, uint32_t number, hr_slice bytes) {
    hr_view *view = viewing->view;
    hr_slice data = bytes;
    bool was_proto_data = viewing->is_proto_data;
    viewing->is_proto_data = number == 8;
    view->flags = (uint16_t)(HR_VIEW_DATA | (number == 7 ? HR_VIEW_TEXT : 0));
    if (number == 7 && !hr_utf8_is_valid(bytes)) {
        viewing->wrong = "text_data is not UTF-8";
        return;
    }
    if (number == 8) { /* the data is what the Any holds; two of them are one message */
        data = hr_slice_of(bytes.bytes, 0);
        if (was_proto_data) {
            data = hr_slice_of(viewing->bytes + view->data_at, view->data_size);
        }
        hr_wire wire = hr_wire_of(bytes);
        while (wire.at < wire.end) {
            hr_wire_field field;
            if (!hr_wire_next(&wire, &field) ||
                (field.number <= 2 && field.type != HR_WIRE_BYTES) ||
                (field.number == 1 && !hr_utf8_is_valid(field.bytes))) {
                viewing->wrong = "proto_data is garbled";
                return;
            }
            if (field.number == 2) {
                data = field.bytes;
            }
        }
    }
    view->data_at = (uint32_t)(data.bytes - viewing->bytes);
    view->data_size = (uint32_t)data.size;
}

static void view_field(view_reader *viewing, const hr_wire_field *field) {
    hr_view *view = viewing->view;
    if (field->number > 8) {
        return;
    }
    if (field->type != HR_WIRE_BYTES) {
        viewing->wrong = "a field has the wrong wire type";
        return;
    }
    switch (field->number) {
    case 1:
        view_text(viewing, field->bytes, &view->id_at, &view->id_size);
        break;
    case 2:
        view_text(viewing, field->bytes, &view->source_at, &view->source_size);
        break;
    case 3:
        viewing->version = field->bytes;
        break;
    case 4:
        view_text(viewing, field->bytes, &view->type_at, &view->type_size);
        break;
    case 5:
        view_attribute(viewing, field->bytes);
        break;
    default:
        view_data(viewing, field->number, field->bytes);
        break;
    }
}

/* 1.0, 1.1 ... */
static bool is_version_1(hr_slice version) {
    if (version.size < 3 || version.size > 8 || memcmp(version.bytes, "1.", 2) != 0) {
        return false;
    }
    for (size_t i = 2; i < version.size; i++) {
        if (version.bytes[i] < '0' || version.bytes[i] > '9') {
            return false;
        }
    }
    return true;
}

static hr_code view_finish(const view_reader *viewing, hr_error *err) {
    hr_view *view = viewing->view;
    const char *missing = view->id_size == 0       ? "id"
                          : view->source_size == 0 ? "source"
                          : view->type_size == 0   ? "type"
                                                   : NULL;
    if (missing != NULL) {
        return hr_fail(err, HR_E_MALFORMED, 0, "the event has no %s", missing);
    }
    if (!is_version_1(viewing->version)) {
        return hr_fail(err, HR_E_MALFORMED, 0, "the event is not of CloudEvents 1.x");
    }
    if (viewing->content_type.size > 0 ? hr_content_type_is_json(viewing->content_type)
                                       : (view->flags & HR_VIEW_TEXT) != 0) {
        view->flags |= HR_VIEW_JSON;
    }
    if (view->key_size > 0) {
        uint64_t hash = hr_hash(hr_slice_of(viewing->bytes + view->key_at, view->key_size));
        view->key_hash = hash == 0 ? 1 : hash; /* 0 means: no key */
    }
    return HR_OK;
}

hr_code hr_envelope_view(const uint8_t *bytes, uint32_t at, uint32_t size, hr_view *out_view,
                         hr_error *err) {
    if (size > HR_ENVELOPE_MAX) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "event of %u bytes, at most %d", size,
                       HR_ENVELOPE_MAX);
    }
    if (size == 0) {
        return hr_fail(err, HR_E_MALFORMED, 0, "an event of no bytes");
    }
    *out_view = (hr_view){.at = at,
                          .size = size,
                          .data_at = at,
                          .id_at = at,
                          .source_at = at,
                          .type_at = at,
                          .subject_at = at,
                          .key_at = at};
    view_reader viewing = {.bytes = bytes, .view = out_view};
    hr_wire wire = hr_wire_of(hr_slice_of(bytes + at, size));
    while (wire.at < wire.end) {
        hr_wire_field field;
        const uint8_t *start = wire.at;
        if (!hr_wire_next(&wire, &field)) {
            return hr_fail(err, HR_E_MALFORMED, 0, "the event is cut or garbled at byte %zu",
                           (size_t)(start - bytes - at));
        }
        view_field(&viewing, &field);
        if (viewing.wrong != NULL) {
            return hr_fail(err, HR_E_MALFORMED, 0, "%s (field %u at byte %zu)", viewing.wrong,
                           field.number, (size_t)(start - bytes - at));
        }
    }
    return view_finish(&viewing, err);
}

bool hr_envelope_next_attribute(hr_slice envelope, size_t *cursor, hr_attribute *out) {
    HR_ASSERT(*cursor <= envelope.size);
    hr_wire wire = hr_wire_of(envelope);
    wire.at += *cursor;
    while (wire.at < wire.end) {
        hr_wire_field field;
        entry_reader reading;
        if (!hr_wire_next(&wire, &field)) {
            break;
        }
        if (field.number != 5 || field.type != HR_WIRE_BYTES ||
            !read_entry(field.bytes, &reading) || !reading.has_value) {
            continue;
        }
        *cursor = (size_t)(wire.at - envelope.bytes);
        *out = reading.attribute;
        return true;
    }
    *cursor = envelope.size;
    return false;
}

/* The name alone of a map entry. */
static hr_slice entry_name(hr_slice entry) {
    hr_slice name = hr_slice_of(NULL, 0);
    hr_wire wire = hr_wire_of(entry);
    hr_wire_field field;
    while (wire.at < wire.end && hr_wire_next(&wire, &field)) {
        if (field.number == 1 && field.type == HR_WIRE_BYTES) {
            name = field.bytes;
        }
    }
    return name;
}

bool hr_envelope_attribute(hr_slice envelope, const char *name, hr_attribute *out) {
    hr_slice wanted = hr_slice_text(name);
    hr_wire wire = hr_wire_of(envelope);
    hr_wire_field field;
    bool found = false;
    while (wire.at < wire.end && hr_wire_next(&wire, &field)) {
        entry_reader reading;
        if (field.number == 5 && field.type == HR_WIRE_BYTES &&
            hr_slice_equal(entry_name(field.bytes), wanted) && read_entry(field.bytes, &reading) &&
            reading.has_value) {
            *out = reading.attribute;
            found = true;
        }
    }
    return found;
}
