/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/object_s3.h"

#include "core/json_text.h"
#include "core/memory.h"
#include "core/time_text.h"
#include "core/utf8.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

/* First halves of the event names that S3 and MinIO document. */
static const struct {
    const char *family;
    uint32_t event; /* HR_OBJECT_*, 0: neither */
} families[] = {
    {"ObjectCreated", HR_OBJECT_CREATED},
    {"ObjectRemoved", HR_OBJECT_REMOVED},
    {"LifecycleExpiration", HR_OBJECT_REMOVED},
    {"ObjectAccessed", 0},
    {"ObjectRestore", 0},
    {"ObjectReplication", 0},
    {"Replication", 0},
    {"ObjectTagging", 0},
    {"ObjectAcl", 0},
    {"ObjectTransition", 0},
    {"LifecycleTransition", 0},
    {"IntelligentTiering", 0},
    {"ReducedRedundancyLostObject", 0},
    {"BucketCreated", 0},
    {"BucketRemoved", 0},
    {"Scanner", 0},
    {"TestEvent", 0},
};

static int hex_digit(uint8_t c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

void hr_object_key_decode(hr_slice key, hr_buffer *out) {
    size_t start = out->size;
    for (size_t i = 0; i < key.size; i++) {
        if (key.bytes[i] <= ' ' || key.bytes[i] >= 0x7F) { /* some stores do not encode at all */
            hr_buffer_add_slice(out, key);
            return;
        }
    }
    for (size_t i = 0; i < key.size; i++) {
        uint8_t c = key.bytes[i] == '+' ? ' ' : key.bytes[i];
        if (c == '%' && key.size - i > 2) {
            int high = hex_digit(key.bytes[i + 1]), low = hex_digit(key.bytes[i + 2]);
            if (high >= 0 && low >= 0) {
                c = (uint8_t)(high << 4 | low);
                i += 2;
            }
        }
        hr_buffer_add(out, &c, 1);
    }
    if (out->size > start && !hr_utf8_is_text(hr_slice_of(out->bytes + start, out->size - start))) {
        out->size = start;
        hr_buffer_add_slice(out, key);
    }
}

/* One record, taken apart; texts belong to the tree. */
typedef struct record {
    json_t *tree;
    const char *event, *source, *region, *time, *bucket, *key_text, *sequencer, *request_id,
        *version_id, *content_type;
    hr_buffer key, etag, id, type, from, data;
    int64_t size; /* -1: not said */
    uint32_t kind;
} record;

static const char *text_of(const json_t *tree, const char *name) {
    const char *text = json_string_value(json_object_get(tree, name));
    return text == NULL ? "" : text;
}

/* NULL: fine. */
static const char *take_apart(record *self) {
    if (!json_is_object(self->tree)) {
        return "the record is not an object";
    }
    const json_t *s3 = json_object_get(self->tree, "s3");
    const json_t *object = json_object_get(s3, "object");
    const json_t *response = json_object_get(self->tree, "responseElements");
    self->event = text_of(self->tree, "eventName");
    self->event += strncmp(self->event, "s3:", 3) == 0 ? 3 : 0;
    self->source = text_of(self->tree, "eventSource");
    self->region = text_of(self->tree, "awsRegion");
    self->time = text_of(self->tree, "eventTime");
    self->bucket = text_of(json_object_get(s3, "bucket"), "name");
    self->key_text = text_of(object, "key");
    self->sequencer = text_of(object, "sequencer");
    self->version_id = text_of(object, "versionId");
    self->content_type = text_of(object, "contentType");
    self->request_id = text_of(response, "x-amz-request-id");
    const json_t *size = json_object_get(object, "size");
    self->size =
        json_is_integer(size) && json_integer_value(size) >= 0 ? json_integer_value(size) : -1;
    if (self->event[0] == 0) {
        return "the record has no eventName";
    }
    size_t family = strcspn(self->event, ":");
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (strlen(families[i].family) == family &&
            memcmp(families[i].family, self->event, family) == 0) {
            self->kind = families[i].event;
            return self->kind == 0          ? NULL
                   : self->bucket[0] == 0   ? "the record has no bucket name"
                   : self->key_text[0] == 0 ? "the record has no object key"
                                            : NULL;
        }
    }
    return "the event is unknown";
}

static hr_slice slice(const hr_buffer *buffer) {
    return hr_slice_of(buffer->bytes, buffer->size);
}

static void add_member(hr_buffer *out, const char *name, hr_slice text) {
    hr_buffer_print(out, ",\"%s\":", name);
    hr_json_add_text(out, text);
}

static void add_member_if(hr_buffer *out, const char *name, const char *text) {
    if (text[0] != 0) {
        add_member(out, name, hr_slice_text(text));
    }
}

/* Same bytes for the same event, whenever the store sends it again. */
static void make_id(record *self) {
    if (self->request_id[0] != 0 && self->sequencer[0] != 0) {
        hr_buffer_print(&self->id, "%s.%s", self->request_id, self->sequencer);
        return;
    }
    const char *parts[] = {
        self->bucket,
        self->key_text,
        self->event,
        self->sequencer,
        self->time,
        self->request_id,
        self->version_id,
        text_of(json_object_get(json_object_get(self->tree, "s3"), "object"), "eTag")};
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) { /* terminators separate them */
        hash = hr_hash_more(hash, hr_slice_of(parts[i], strlen(parts[i]) + 1));
    }
    const char *first = self->sequencer[0] != 0 ? self->sequencer : self->request_id;
    hr_buffer_print(&self->id, "%s%s%016" PRIx64, first, first[0] == 0 ? "" : ".", hash);
}

static void make_parts(record *self, hr_slice raw) {
    hr_object_key_decode(hr_slice_text(self->key_text), &self->key);
    const char *etag =
        text_of(json_object_get(json_object_get(self->tree, "s3"), "object"), "eTag");
    for (; *etag != 0; etag++) {
        if (*etag != '"') { /* some stores keep the quotes of the HTTP header */
            hr_buffer_add(&self->etag, etag, 1);
        }
    }
    make_id(self);
    hr_buffer_print(&self->type, "com.amazonaws.s3.%s", self->event);
    hr_buffer_print(&self->from, "%s%s%s.%s", self->source[0] == 0 ? "s3" : self->source,
                    self->region[0] == 0 ? "" : ".", self->region, self->bucket);
    hr_buffer *data = &self->data;
    hr_buffer_print(data, "{\"bucket\":");
    hr_json_add_text(data, hr_slice_text(self->bucket));
    add_member(data, "key", slice(&self->key));
    if (self->size >= 0) {
        hr_buffer_print(data, ",\"size\":%" PRId64, self->size);
    }
    if (self->etag.size > 0) {
        add_member(data, "etag", slice(&self->etag));
    }
    add_member_if(data, "event", self->event);
    add_member_if(data, "sequencer", self->sequencer);
    add_member_if(data, "region", self->region);
    add_member_if(data, "time", self->time);
    add_member_if(data, "version_id", self->version_id);
    add_member_if(data, "content_type", self->content_type);
    hr_buffer_print(data, ",\"record\":");
    hr_buffer_add_slice(data, raw);
    hr_buffer_print(data, "}");
}

static hr_code pack(record *self, hr_sink *sink, hr_error *err) {
    hr_attribute extension[6];
    char size_text[24];
    size_t count = 0;
    struct {
        const char *name;
        hr_slice text;
    } texts[] = {{"bucket", hr_slice_text(self->bucket)},
                 {"etag", slice(&self->etag)},
                 {"sequencer", hr_slice_text(self->sequencer)},
                 {"region", hr_slice_text(self->region)},
                 {"versionid", hr_slice_text(self->version_id)}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i].text.size > 0) {
            extension[count++] = (hr_attribute){.name = hr_slice_text(texts[i].name),
                                                .type = HR_ATTRIBUTE_STRING,
                                                .text = texts[i].text};
        }
    }
    if (self->size >= 0 && self->size <= INT32_MAX) {
        extension[count++] = (hr_attribute){
            .name = hr_slice_text("size"), .type = HR_ATTRIBUTE_INTEGER, .number = self->size};
    } else if (self->size >= 0) { /* CloudEvents integers have 32 bits */
        snprintf(size_text, sizeof size_text, "%" PRId64, self->size);
        extension[count++] = (hr_attribute){.name = hr_slice_text("size"),
                                            .type = HR_ATTRIBUTE_STRING,
                                            .text = hr_slice_text(size_text)};
    }
    hr_fields fields = {
        .id = slice(&self->id),
        .source = slice(&self->from),
        .type = slice(&self->type),
        .subject = slice(&self->key),
        .content_type = hr_slice_text("application/json"),
        .partition_key = slice(&self->key),
        .data = slice(&self->data),
        .has_data = true,
        .extensions = extension,
        .extension_count = count,
    };
    if (!hr_time_parse(hr_slice_text(self->time), &fields.time_us)) {
        fields.time_us = 0;
    }
    return hr_sink_pack(sink, &fields, err);
}

static int keep_dump(const char *bytes, size_t size, void *data) {
    hr_buffer_add(data, bytes, size);
    return 0;
}

static void read_record(hr_object_reader *reader, json_t *tree) {
    record self = {.tree = tree};
    hr_error err = {0};
    hr_buffer text = {0};
    json_dump_callback(tree, keep_dump, &text,
                       JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    hr_slice raw = slice(&text);
    const char *why = take_apart(&self);
    if (why != NULL) {
        if (strcmp(why, "the event is unknown") == 0) {
            char *said = hr_format("the event '%.100s' is unknown", self.event);
            reader->rejected(reader->data, raw, said);
            hr_free(said);
        } else {
            reader->rejected(reader->data, raw, why);
        }
    } else if ((self.kind & reader->events) == 0) {
        reader->ignored++;
    } else {
        make_parts(&self, raw);
        if (pack(&self, reader->sink, &err) != HR_OK) {
            reader->rejected(reader->data, raw, err.text);
        }
    }
    hr_buffer *all[] = {&text, &self.key, &self.etag, &self.id, &self.type, &self.from, &self.data};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        hr_buffer_fini(all[i]);
    }
}

static bool is_blank(hr_slice body) {
    for (size_t i = 0; i < body.size; i++) {
        if (strchr(" \t\r\n", body.bytes[i]) == NULL || body.bytes[i] == 0) {
            return false;
        }
    }
    return true;
}

hr_code hr_object_s3_read(hr_object_reader *reader, hr_slice body, hr_error *err) {
    if (is_blank(body)) { /* MinIO probes its targets so */
        return HR_OK;
    }
    json_error_t wrong = {.line = 0};
    json_t *tree = hr_json_load(body, 0, &wrong);
    if (tree == NULL) {
        return hr_fail(err, HR_E_MALFORMED, 0, "not JSON: %s (line %d, column %d)", wrong.text,
                       wrong.line, wrong.column);
    }
    hr_code code = HR_OK;
    const json_t *records = json_object_get(tree, "Records");
    const char *event = text_of(tree, "Event");
    if (json_is_array(records)) {
        size_t index;
        json_t *one;
        json_array_foreach(records, index, one) {
            read_record(reader, one);
        }
    } else if (strcmp(event, "s3:TestEvent") == 0 ||
               (json_is_object(tree) && json_object_size(tree) == 0)) {
        reader->ignored++;
    } else {
        code = hr_fail(err, HR_E_MALFORMED, 0, "no list called Records: not an S3 notification");
    }
    json_decref(tree);
    return code;
}

/* As stores encode keys: everything but letters, digits and -._* is %XX, a space is +. */
static void encode_key(const char *key, hr_buffer *out) {
    for (const char *at = key; *at != 0; at++) {
        bool is_plain = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
                        (*at >= '0' && *at <= '9') || strchr("-._*", *at) != NULL;
        if (is_plain) {
            hr_buffer_add(out, at, 1);
        } else if (*at == ' ') {
            hr_buffer_add(out, "+", 1);
        } else {
            hr_buffer_print(out, "%%%02X", (unsigned)(uint8_t)*at);
        }
    }
}

void hr_object_s3_sample(const char *kind, const char *bucket, const char *key, const char *event,
                         int64_t size, hr_buffer *out) {
    bool is_minio = strcmp(kind, "minio") == 0;
    char now[HR_TIME_TEXT], id[HR_INTAKE_ID];
    int64_t now_us = hr_real_us();
    hr_time_print(now_us, now);
    hr_intake_new_id(id);
    hr_buffer encoded = {0};
    encode_key(key, &encoded);
    hr_buffer_print(out,
                    "{\"Records\":[{\"eventVersion\":\"2.1\",\"eventSource\":\"%s\",\"awsRegion\":"
                    "\"%s\",\"eventTime\":\"%s\",\"eventName\":",
                    is_minio ? "minio:s3" : "aws:s3", is_minio ? "" : "us-east-1", now);
    char *name = hr_format("%s%s", is_minio ? "s3:" : "", event);
    hr_json_add_text(out, hr_slice_text(name));
    hr_buffer_print(out,
                    ",\"responseElements\":{\"x-amz-request-id\":\"%s\"},\"s3\":{"
                    "\"s3SchemaVersion\":\"1.0\",\"bucket\":{\"name\":",
                    id);
    hr_json_add_text(out, hr_slice_text(bucket));
    hr_buffer_print(out, "},\"object\":{\"key\":");
    hr_json_add_text(out, hr_slice_of(encoded.bytes, encoded.size));
    if (strncmp(event, "ObjectCreated", 13) == 0) {
        hr_buffer_print(out, ",\"size\":%" PRId64, size);
    }
    hr_buffer_print(out, ",\"sequencer\":\"%016" PRIX64 "\"}}}]}", (uint64_t)now_us * 1000);
    hr_buffer_fini(&encoded);
    hr_free(name);
}
