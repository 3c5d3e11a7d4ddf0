/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/kafka_record.h"

#include "core/memory.h"
#include "core/time_text.h"
#include "core/utf8.h"
#include "triggers/json_form.h"

#include <stdio.h>
#include <strings.h>

static const char structured[] = "application/cloudevents+json";

hr_kafka_format hr_kafka_format_of(const char *word) {
    if (word == NULL || strcmp(word, "auto") == 0) {
        return HR_KAFKA_AUTO;
    }
    bool is_raw = strcmp(word, "raw") == 0;
    HR_ASSERT(is_raw || strcmp(word, "json") == 0);
    return is_raw ? HR_KAFKA_RAW : HR_KAFKA_JSON;
}

void hr_kafka_origin_init(hr_kafka_origin *origin, const char *trigger, const char *topic,
                          int32_t partition) {
    *origin = (hr_kafka_origin){.topic = hr_copy_text(topic),
                                .source = hr_format("kafka/%s/%s", trigger, topic),
                                .id_prefix = hr_format("%s/%d/", topic, (int)partition)};
}

void hr_kafka_origin_fini(hr_kafka_origin *origin) {
    hr_free(origin->topic);
    hr_free(origin->source);
    hr_free(origin->id_prefix);
    for (size_t i = 0; i < sizeof origin->plain / sizeof *origin->plain; i++) {
        hr_template_fini(&origin->plain[i]);
    }
    *origin = (hr_kafka_origin){0};
}

void hr_kafka_packer_fini(hr_kafka_packer *self) {
    hr_buffer_fini(&self->text);
    hr_buffer_fini(&self->envelope);
}

static bool is_word(hr_slice name, const char *word) {
    return name.size == strlen(word) && strncasecmp((const char *)name.bytes, word, name.size) == 0;
}

static hr_slice find_header(const hr_kafka_record *record, const char *name) {
    for (size_t i = 0; i < record->header_count; i++) {
        if (is_word(record->headers[i].name, name)) {
            return record->headers[i].value;
        }
    }
    return (hr_slice){0};
}

static bool is_json_document(hr_slice value) {
    size_t at = 0;
    while (at < value.size && strchr(" \t\r\n", value.bytes[at]) != NULL && value.bytes[at] != 0) {
        at++;
    }
    return at < value.size && (value.bytes[at] == '{' || value.bytes[at] == '[') &&
           hr_json_is_formed(value);
}

/* The record's key as an ordering key: itself when it is text, else hexadecimal (in self->text,
 * which is empty). At most so many bytes are used that an attribute can hold it. */
static hr_slice key_of(hr_kafka_packer *self, const hr_kafka_record *record) {
    static const char digits[] = "0123456789abcdef";
    hr_slice key = record->key;
    if (!record->has_key || key.size == 0) {
        return (hr_slice){0};
    }
    if (key.size <= HR_ATTRIBUTE_VALUE_MAX && hr_utf8_is_text(key)) {
        return key;
    }
    size_t size = key.size < HR_ATTRIBUTE_VALUE_MAX / 2 ? key.size : HR_ATTRIBUTE_VALUE_MAX / 2;
    uint8_t *room = hr_buffer_room(&self->text, size * 2);
    for (size_t i = 0; i < size; i++) {
        room[i * 2] = (uint8_t)digits[key.bytes[i] >> 4];
        room[i * 2 + 1] = (uint8_t)digits[key.bytes[i] & 15];
    }
    self->text.size = size * 2;
    return hr_slice_of(room, size * 2);
}

/* A full batch is no fault of the event: alone in the next one it may fit. */
static hr_code final(hr_code code, const hr_builder *out, hr_error *err) {
    if (code != HR_OK && (code != HR_E_TOO_LARGE || out->count == 0)) {
        err->code = HR_E_MALFORMED;
        return HR_E_MALFORMED;
    }
    return code;
}

static bool add_extension(hr_kafka_packer *self, hr_fields *fields, hr_slice name, hr_slice value) {
    static const char *const known[] = {"subject", "time", "dataschema", "datacontenttype",
                                        "partitionkey"};
    if (fields->extension_count == HR_ENVELOPE_ATTRIBUTES - 8 ||
        !hr_attribute_name_is_valid(name) || value.size > HR_ATTRIBUTE_VALUE_MAX ||
        !hr_utf8_is_text(value)) {
        return false;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (hr_slice_is(name, known[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < fields->extension_count; i++) {
        if (hr_slice_equal(self->extension[i].name, name)) {
            return false; /* the first of several */
        }
    }
    self->extension[fields->extension_count++] =
        (hr_attribute){.name = name, .type = HR_ATTRIBUTE_STRING, .text = value};
    return true;
}

/* Headers that are not the event's own become attributes where their name allows it. */
static void add_headers(hr_kafka_packer *self, const hr_kafka_record *record, hr_fields *fields) {
    for (size_t i = 0; i < record->header_count; i++) {
        const hr_kafka_header *header = &record->headers[i];
        bool is_event =
            header->name.size > 3 && strncasecmp((const char *)header->name.bytes, "ce_", 3) == 0;
        if (!is_event && !is_word(header->name, "content-type")) {
            (void)add_extension(self, fields, header->name, header->value);
        }
    }
    fields->extensions = self->extension;
}

static hr_code take_attribute(hr_kafka_packer *self, hr_fields *fields, hr_slice name,
                              hr_slice value, hr_error *err) {
    const struct {
        const char *name;
        hr_slice *to;
    } known[] = {{"id", &fields->id},
                 {"source", &fields->source},
                 {"type", &fields->type},
                 {"subject", &fields->subject},
                 {"dataschema", &fields->schema},
                 {"partitionkey", &fields->partition_key}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (is_word(name, known[i].name)) {
            *known[i].to = value;
            return HR_OK;
        }
    }
    if (is_word(name, "time")) {
        return hr_time_parse(value, &fields->time_us)
                   ? HR_OK
                   : hr_fail(err, HR_E_MALFORMED, 0, "ce_time is not an RFC 3339 time");
    }
    if (is_word(name, "specversion") || is_word(name, "datacontenttype")) {
        return HR_OK;
    }
    return add_extension(self, fields, name, value)
               ? HR_OK
               : hr_fail(err, HR_E_MALFORMED, 0,
                         "ce_%.*s: not the name of an attribute, twice there, or not UTF-8 text",
                         (int)(name.size < 64 ? name.size : 64), (const char *)name.bytes);
}

/* Binary mode: every attribute is a header. */
static hr_code pack_binary(hr_kafka_packer *self, const hr_kafka_record *record, hr_fields *fields,
                           uint64_t position, hr_builder *out, hr_error *err) {
    hr_slice version = find_header(record, "ce_specversion");
    if (version.size < 2 || memcmp(version.bytes, "1.", 2) != 0) {
        return hr_fail(err, HR_E_MALFORMED, 0, "ce_specversion is not 1.x");
    }
    for (size_t i = 0; i < record->header_count; i++) {
        hr_slice name = record->headers[i].name;
        if (name.size <= 3 || strncasecmp((const char *)name.bytes, "ce_", 3) != 0) {
            continue;
        }
        hr_code code = take_attribute(self, fields, hr_slice_of(name.bytes + 3, name.size - 3),
                                      record->headers[i].value, err);
        if (code != HR_OK) {
            return code;
        }
    }
    if (fields->id.size == 0 || fields->source.size == 0 || fields->type.size == 0) {
        return hr_fail(err, HR_E_MALFORMED, 0, "ce_%s is missing",
                       fields->id.size == 0       ? "id"
                       : fields->source.size == 0 ? "source"
                                                  : "type");
    }
    add_headers(self, record, fields);
    fields->content_type = find_header(record, "content-type");
    return final(hr_builder_pack(out, position, fields, err), out, err);
}

static hr_code pack_structured(hr_kafka_packer *self, const hr_kafka_record *record, hr_slice key,
                               uint64_t position, hr_builder *out, hr_error *err) {
    self->envelope.size = 0;
    hr_code code = hr_envelope_from_json(record->value, &self->envelope, err);
    if (code != HR_OK) {
        err->code = HR_E_MALFORMED;
        return HR_E_MALFORMED;
    }
    hr_attribute had;
    if (key.size > 0 &&
        !hr_envelope_attribute(hr_slice_of(self->envelope.bytes, self->envelope.size),
                               "partitionkey", &had)) {
        hr_envelope_append_text(&self->envelope, "partitionkey", key);
    }
    code =
        hr_builder_add(out, position, hr_slice_of(self->envelope.bytes, self->envelope.size), err);
    return final(code, out, err);
}

/* What a value without a content type is. */
typedef enum value_kind { VALUE_NONE, VALUE_JSON, VALUE_TEXT, VALUE_BYTES } value_kind;

static const char *const content_types[] = {NULL, "application/json", "text/plain",
                                            "application/octet-stream"};

static value_kind guess(hr_kafka_format format, const hr_kafka_record *record) {
    if (!record->has_value) {
        return VALUE_NONE;
    }
    if (format == HR_KAFKA_RAW) {
        return VALUE_BYTES;
    }
    return is_json_document(record->value)  ? VALUE_JSON
           : hr_utf8_is_text(record->value) ? VALUE_TEXT
                                            : VALUE_BYTES;
}

static hr_fields plain_fields(const hr_kafka_origin *origin, value_kind kind) {
    return (hr_fields){.source = hr_slice_text(origin->source),
                       .type = hr_slice_text("kafka.record"),
                       .subject = hr_slice_text(origin->topic),
                       .content_type = hr_slice_text(content_types[kind]),
                       .has_data = kind != VALUE_NONE,
                       .data_is_text = kind == VALUE_TEXT};
}

/* Nearly all records: no header, so that only key, time, offset and value are their own. */
static hr_code pack_plain(hr_kafka_origin *origin, value_kind kind, const hr_kafka_record *record,
                          hr_slice key, int64_t time_us, uint64_t position, hr_builder *out,
                          hr_error *err) {
    hr_template *plain = &origin->plain[kind];
    if (plain->shared.size == 0) {
        hr_fields fields = plain_fields(origin, kind);
        fields.id = hr_slice_text(origin->id_prefix);
        hr_code code = hr_template_init(plain, &fields, err);
        if (code != HR_OK) {
            return final(code, out, err);
        }
    }
    hr_template_event event = {.number = record->offset < 0 ? 0 : (uint64_t)record->offset,
                               .time_us = time_us,
                               .key = key,
                               .data = record->has_value ? record->value : (hr_slice){0}};
    return final(hr_template_pack(plain, &event, position, out, err), out, err);
}

/* With headers, which become attributes; the first content-type says what the value is. */
static hr_code pack_headers(hr_kafka_packer *self, const hr_kafka_origin *origin, value_kind kind,
                            const hr_kafka_record *record, hr_fields *fields, uint64_t position,
                            hr_builder *out, hr_error *err) {
    size_t id_at = self->text.size; /* behind the key */
    hr_buffer_add_slice(&self->text, hr_slice_text(origin->id_prefix));
    hr_buffer_add_number(&self->text, record->offset < 0 ? 0 : (uint64_t)record->offset);
    fields->id = hr_slice_of(self->text.bytes + id_at, self->text.size - id_at);
    if (id_at > 0) {
        fields->partition_key.bytes = self->text.bytes; /* it may have moved */
    }
    hr_fields plain = plain_fields(origin, kind);
    fields->source = plain.source;
    fields->type = plain.type;
    fields->subject = plain.subject;
    if (fields->content_type.size == 0) {
        fields->content_type = plain.content_type;
        fields->data_is_text = plain.data_is_text;
    }
    add_headers(self, record, fields);
    return final(hr_builder_pack(out, position, fields, err), out, err);
}

hr_code hr_kafka_pack(hr_kafka_packer *self, hr_kafka_origin *origin, const hr_kafka_record *record,
                      uint64_t position, hr_builder *out, hr_error *err) {
    hr_slice content_type = find_header(record, "content-type");
    bool is_event = self->format == HR_KAFKA_AUTO;
    bool is_structured =
        is_event && content_type.size >= sizeof structured - 1 &&
        strncasecmp((const char *)content_type.bytes, structured, sizeof structured - 1) == 0;
    self->text.size = 0;
    hr_slice key = key_of(self, record);
    if (is_structured) {
        return pack_structured(self, record, key, position, out, err);
    }
    hr_fields fields = {.partition_key = key, .data = record->value, .has_data = record->has_value};
    if (is_event && find_header(record, "ce_specversion").size > 0) {
        return pack_binary(self, record, &fields, position, out, err);
    }
    if (record->time_ms > 0 && record->time_ms < INT64_MAX / 1000) {
        fields.time_us = record->time_ms * 1000;
    }
    value_kind kind = VALUE_JSON;
    if (self->format != HR_KAFKA_JSON) {
        bool is_said = content_type.size > 0 && content_type.size <= HR_ATTRIBUTE_VALUE_MAX &&
                       hr_utf8_is_text(content_type);
        fields.content_type = is_said ? content_type : (hr_slice){0};
        kind = is_said ? VALUE_BYTES : guess(self->format, record);
    } else if (!record->has_value || !hr_json_is_formed(record->value)) {
        return hr_fail(err, HR_E_MALFORMED, 0,
                       record->has_value ? "the value is not JSON"
                                         : "the record has no value (a tombstone), not JSON");
    }
    return record->header_count == 0
               ? pack_plain(origin, kind, record, key, fields.time_us, position, out, err)
               : pack_headers(self, origin, kind, record, &fields, position, out, err);
}
