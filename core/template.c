/* SPDX-License-Identifier: Apache-2.0 */
#include "core/template.h"

#include "core/wire.h"

enum {
    ID_TAG = 1 << 3 | HR_WIRE_BYTES,
    ATTRIBUTE_TAG = 5 << 3 | HR_WIRE_BYTES,
    BINARY_TAG = 6 << 3 | HR_WIRE_BYTES,
    TEXT_TAG = 7 << 3 | HR_WIRE_BYTES,
    STRING_TAG = HR_ATTRIBUTE_STRING << 3 | HR_WIRE_BYTES,
    TIMESTAMP_TAG = HR_ATTRIBUTE_TIMESTAMP << 3 | HR_WIRE_BYTES,
    DIGITS = 20,
    OVERHEAD = 96 /* bytes of tags, lengths, the number and the time of one event */
};

hr_code hr_template_init(hr_template *self, const hr_fields *fields, hr_error *err) {
    hr_fields own = *fields;
    own.time_us = 0;
    own.partition_key = own.data = (hr_slice){0};
    hr_buffer whole = {0};
    hr_view view = {0};
    if (fields->id.size > HR_ATTRIBUTE_VALUE_MAX - DIGITS) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "ids that begin with %zu bytes", fields->id.size);
    }
    hr_code code = hr_envelope_pack_view(&own, &whole, &view, err);
    if (code != HR_OK) {
        hr_buffer_fini(&whole);
        return code;
    }
    *self = (hr_template){.view = view, .has_no_subject = view.subject_size == 0};
    hr_buffer_add_slice(&self->prefix, fields->id);
    /* protobuf-c writes fields by their number: the id first, data last, here a tag and a zero */
    uint32_t begin = view.id_at + view.id_size;
    size_t end = whole.size - (own.has_data ? 2 : 0);
    if (own.has_data) {
        self->data_tag = whole.bytes[end];
        HR_ASSERT(self->data_tag == (own.data_is_text ? TEXT_TAG : BINARY_TAG));
        HR_ASSERT(whole.bytes[end + 1] == 0);
    }
    hr_buffer_add(&self->shared, whole.bytes + begin, end - begin);
    self->view.source_at -= begin;
    self->view.type_at -= begin;
    self->view.subject_at -= self->has_no_subject ? 0 : begin;
    hr_buffer_fini(&whole);
    return HR_OK;
}

void hr_template_fini(hr_template *self) {
    hr_buffer_fini(&self->prefix);
    hr_buffer_fini(&self->shared);
    *self = (hr_template){0};
}

static uint8_t *put(uint8_t *at, const void *bytes, size_t size) {
    memcpy(at, bytes, size);
    return at + size;
}

static uint8_t *put_varint(uint8_t *at, uint64_t value) {
    for (; value > 0x7f; value >>= 7) {
        *at++ = (uint8_t)(value | 0x80);
    }
    *at++ = (uint8_t)value;
    return at;
}

static size_t varint_size(uint64_t value) {
    size_t size = 1;
    for (; value > 0x7f; value >>= 7) {
        size++;
    }
    return size;
}

/* A field that holds size bytes: its tag and length. */
static uint8_t *put_head(uint8_t *at, uint8_t tag, size_t size) {
    *at++ = tag;
    return put_varint(at, size);
}

/* An entry of the attributes' map whose value message has value_size bytes, up to that message. */
static uint8_t *put_entry(uint8_t *at, const char *name, size_t name_size, size_t value_size) {
    size_t size = 2 + name_size + 1 + varint_size(value_size) + value_size;
    at = put_head(at, ATTRIBUTE_TAG, size);
    at = put_head(at, 1 << 3 | HR_WIRE_BYTES, name_size);
    at = put(at, name, name_size);
    return put_head(at, 2 << 3 | HR_WIRE_BYTES, value_size);
}

static uint8_t *put_key(uint8_t *at, const uint8_t *start, hr_slice key, hr_view *view) {
    static const char name[] = "partitionkey";
    at = put_entry(at, name, sizeof name - 1, 1 + varint_size(key.size) + key.size);
    at = put_head(at, STRING_TAG, key.size);
    view->key_at = (uint32_t)(at - start);
    view->key_size = (uint16_t)key.size;
    uint64_t hash = hr_hash(key);
    view->key_hash = hash == 0 ? 1 : hash; /* 0 means: no key */
    return put(at, key.bytes, key.size);
}

/* A number of a message; zero is left out, as proto3 says. */
static size_t number_size(uint64_t value) {
    return value == 0 ? 0 : 1 + varint_size(value);
}

static uint8_t *put_number(uint8_t *at, uint8_t field, uint64_t value) {
    if (value == 0) {
        return at;
    }
    *at++ = (uint8_t)(field << 3 | HR_WIRE_VARINT);
    return put_varint(at, value);
}

static uint8_t *put_time(uint8_t *at, int64_t time_us) {
    static const char name[] = "time";
    uint64_t seconds = (uint64_t)time_us / 1000000, nanos = (uint64_t)time_us % 1000000 * 1000;
    size_t size = number_size(seconds) + number_size(nanos);
    at = put_entry(at, name, sizeof name - 1, 2 + size);
    at = put_head(at, TIMESTAMP_TAG, size);
    return put_number(put_number(at, 1, seconds), 2, nanos);
}

static uint8_t *put_id(uint8_t *at, const uint8_t *start, const hr_buffer *prefix, uint64_t number,
                       hr_view *view) {
    uint8_t digits[DIGITS];
    size_t first = sizeof digits;
    do {
        digits[--first] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    size_t size = prefix->size + sizeof digits - first;
    at = put_head(at, ID_TAG, size);
    view->id_at = (uint32_t)(at - start);
    view->id_size = (uint16_t)size;
    at = put(at, prefix->bytes, prefix->size);
    return put(at, digits + first, sizeof digits - first);
}

hr_code hr_template_pack(const hr_template *self, const hr_template_event *event, uint64_t position,
                         hr_builder *out, hr_error *err) {
    HR_ASSERT(event->key.size <= HR_ATTRIBUTE_VALUE_MAX && event->time_us >= 0);
    size_t bound = OVERHEAD + self->prefix.size + self->shared.size + event->key.size;
    hr_view *view = NULL;
    uint8_t *start = NULL;
    hr_code code = hr_builder_room(out, bound + event->data.size, &view, &start, err);
    if (code != HR_OK) {
        return code;
    }
    *view = self->view;
    view->key_at = view->data_at = 0;
    uint8_t *at = put_id(start, start, &self->prefix, event->number, view);
    uint32_t shared_at = (uint32_t)(at - start);
    at = put(at, self->shared.bytes, self->shared.size);
    view->source_at += shared_at;
    view->type_at += shared_at;
    view->subject_at = self->has_no_subject ? 0 : view->subject_at + shared_at;
    if (event->key.size > 0) {
        at = put_key(at, start, event->key, view);
    }
    if (event->time_us > 0) {
        at = put_time(at, event->time_us);
    }
    if (self->data_tag != 0) {
        at = put_head(at, self->data_tag, event->data.size);
        view->data_at = (uint32_t)(at - start);
        view->data_size = (uint32_t)event->data.size;
        if (event->data.size > 0) {
            at = put(at, event->data.bytes, event->data.size);
        }
    }
    view->at = 0;
    view->size = (uint32_t)(at - start);
    HR_ASSERT(view->size <= bound + event->data.size);
    hr_builder_keep(out, position);
    return HR_OK;
}
