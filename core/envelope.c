/* SPDX-License-Identifier: Apache-2.0 */
/* Packing through protobuf-c: the structures stand on the stack and borrow every slice. */
#include "core/envelope.h"

#include "core/wire.h"
#include "schemas/envelope.pb-c.h"

typedef Headrace__V1__CloudEvent cloud_event;
typedef Headrace__V1__Attribute attribute_entry;
typedef Headrace__V1__AttributeValue attribute_value;
typedef Headrace__V1__Timestamp timestamp;

/* Bytes that tag, lengths and inner tags of one field may take beside its text. */
enum { FIELD_OVERHEAD = 11, ATTRIBUTE_OVERHEAD = 48 };

typedef struct packing {
    size_t count; /* attributes */
    size_t bound; /* bytes that the packed event surely fits in */
    attribute_entry *pointer[HR_ENVELOPE_ATTRIBUTES];
    attribute_entry entry[HR_ENVELOPE_ATTRIBUTES];
    attribute_value value[HR_ENVELOPE_ATTRIBUTES];
    timestamp time[HR_ENVELOPE_ATTRIBUTES];
} packing;

/* protobuf-c's own form of a slice; it only reads through the pointer. */
static ProtobufCBinaryData binary_of(hr_slice slice) {
    union {
        const uint8_t *read;
        uint8_t *write;
    } same = {.read = slice.bytes};
    return (ProtobufCBinaryData){.len = slice.size, .data = same.write};
}

static void set_timestamp(timestamp *time, int64_t us) {
    headrace__v1__timestamp__init(time);
    int64_t rest = us % 1000000;
    time->seconds = us / 1000000 - (rest < 0 ? 1 : 0);
    time->nanos = (int32_t)(rest < 0 ? rest + 1000000 : rest) * 1000;
}

static void set_value(attribute_value *value, timestamp *time, const hr_attribute *attribute) {
    headrace__v1__attribute_value__init(value);
    value->value_case = (Headrace__V1__AttributeValue__ValueCase)attribute->type;
    switch (attribute->type) {
    case HR_ATTRIBUTE_BOOLEAN:
        value->boolean = attribute->number != 0;
        break;
    case HR_ATTRIBUTE_INTEGER:
        value->integer = (int32_t)attribute->number;
        break;
    case HR_ATTRIBUTE_STRING:
        value->string = binary_of(attribute->text);
        break;
    case HR_ATTRIBUTE_BYTES:
        value->bytes = binary_of(attribute->text);
        break;
    case HR_ATTRIBUTE_URI:
        value->uri = binary_of(attribute->text);
        break;
    case HR_ATTRIBUTE_URI_REF:
        value->uri_ref = binary_of(attribute->text);
        break;
    case HR_ATTRIBUTE_TIMESTAMP:
        set_timestamp(time, attribute->number);
        value->timestamp = time;
        break;
    }
}

static hr_code add_attribute(packing *pack, const hr_attribute *attribute, hr_error *err) {
    if (pack->count == HR_ENVELOPE_ATTRIBUTES) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "more than %d attributes", HR_ENVELOPE_ATTRIBUTES);
    }
    if (!hr_attribute_name_is_valid(attribute->name)) {
        return hr_fail(err, HR_E_INVALID, 0, "'%.*s' cannot be the name of an attribute",
                       (int)(attribute->name.size > 80 ? 80 : attribute->name.size),
                       (const char *)attribute->name.bytes);
    }
    if (attribute->type < HR_ATTRIBUTE_BOOLEAN || attribute->type > HR_ATTRIBUTE_TIMESTAMP ||
        (attribute->type == HR_ATTRIBUTE_INTEGER &&
         (attribute->number < INT32_MIN || attribute->number > INT32_MAX))) {
        return hr_fail(err, HR_E_INVALID, 0, "attribute '%.*s' has no CloudEvents value",
                       (int)attribute->name.size, (const char *)attribute->name.bytes);
    }
    if (attribute->text.size > HR_ATTRIBUTE_VALUE_MAX) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "attribute '%.*s' of %zu bytes, at most %d",
                       (int)attribute->name.size, (const char *)attribute->name.bytes,
                       attribute->text.size, HR_ATTRIBUTE_VALUE_MAX);
    }
    size_t at = pack->count++;
    attribute_entry *entry = &pack->entry[at];
    headrace__v1__attribute__init(entry);
    entry->name = binary_of(attribute->name);
    entry->value = &pack->value[at];
    set_value(entry->value, &pack->time[at], attribute);
    pack->pointer[at] = entry;
    pack->bound += ATTRIBUTE_OVERHEAD + attribute->name.size + attribute->text.size;
    return HR_OK;
}

static hr_code add_text(packing *pack, const char *name, hr_attribute_type type, hr_slice text,
                        hr_error *err) {
    if (text.size == 0) {
        return HR_OK;
    }
    hr_attribute attribute = {.name = hr_slice_text(name), .type = type, .text = text};
    return add_attribute(pack, &attribute, err);
}

static hr_code add_attributes(packing *pack, const hr_fields *fields, hr_error *err) {
    hr_code code =
        add_text(pack, "datacontenttype", HR_ATTRIBUTE_STRING, fields->content_type, err);
    if (code == HR_OK) {
        code = add_text(pack, "subject", HR_ATTRIBUTE_STRING, fields->subject, err);
    }
    if (code == HR_OK) {
        code = add_text(pack, "dataschema", HR_ATTRIBUTE_URI, fields->schema, err);
    }
    if (code == HR_OK) {
        code = add_text(pack, "partitionkey", HR_ATTRIBUTE_STRING, fields->partition_key, err);
    }
    if (code == HR_OK && fields->time_us != 0) {
        hr_attribute time = {.name = hr_slice_text("time"),
                             .type = HR_ATTRIBUTE_TIMESTAMP,
                             .number = fields->time_us};
        code = add_attribute(pack, &time, err);
    }
    for (size_t i = 0; code == HR_OK && i < fields->extension_count; i++) {
        code = add_attribute(pack, &fields->extensions[i], err);
    }
    return code;
}

hr_code hr_envelope_pack_view(const hr_fields *fields, hr_buffer *out, hr_view *out_view,
                              hr_error *err) {
    packing pack; /* large: only what is used is set */
    pack.count = 0;
    pack.bound = 5 * FIELD_OVERHEAD + 3 + fields->id.size + fields->source.size +
                 fields->type.size + fields->data.size;
    if (fields->data.size > HR_ENVELOPE_MAX || fields->id.size > HR_ATTRIBUTE_VALUE_MAX ||
        fields->source.size > HR_ATTRIBUTE_VALUE_MAX ||
        fields->type.size > HR_ATTRIBUTE_VALUE_MAX) {
        return hr_fail(err, HR_E_TOO_LARGE, 0,
                       "an event with %zu bytes of data, id %zu, source %zu, type %zu",
                       fields->data.size, fields->id.size, fields->source.size, fields->type.size);
    }
    hr_code code = add_attributes(&pack, fields, err);
    if (code != HR_OK) {
        return code;
    }
    cloud_event event;
    headrace__v1__cloud_event__init(&event);
    event.id = binary_of(fields->id);
    event.source = binary_of(fields->source);
    event.spec_version = binary_of(hr_slice_text("1.0"));
    event.type = binary_of(fields->type);
    event.n_attributes = pack.count;
    event.attributes = pack.pointer;
    if (fields->has_data && fields->data_is_text) {
        event.data_case = HEADRACE__V1__CLOUD_EVENT__DATA_TEXT_DATA;
        event.text_data = binary_of(fields->data);
    } else if (fields->has_data) {
        event.data_case = HEADRACE__V1__CLOUD_EVENT__DATA_BINARY_DATA;
        event.binary_data = binary_of(fields->data);
    }
    size_t at = out->size;
    HR_ASSERT(at <= UINT32_MAX - pack.bound);
    size_t size = protobuf_c_message_pack(&event.base, hr_buffer_room(out, pack.bound));
    HR_ASSERT(size <= pack.bound);
    if (size > HR_ENVELOPE_MAX) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "event of %zu bytes, at most %d", size,
                       HR_ENVELOPE_MAX);
    }
    /* The reader's checks are the writer's too: what we pack, everybody can read. */
    code = hr_envelope_view(out->bytes, (uint32_t)at, (uint32_t)size, out_view, err);
    if (code == HR_E_MALFORMED) {
        if (err != NULL) {
            err->code = HR_E_INVALID;
        }
        return HR_E_INVALID;
    }
    out_view->flags |= fields->id_is_made ? HR_VIEW_MADE_ID : 0;
    out->size += size;
    return code;
}

hr_code hr_envelope_pack(const hr_fields *fields, hr_buffer *out, hr_error *err) {
    hr_view view;
    return hr_envelope_pack_view(fields, out, &view, err);
}

/* Appends a varint. */
static void add_varint(hr_buffer *out, uint64_t value) {
    uint8_t bytes[10];
    size_t size = 0;
    do {
        bytes[size] = (uint8_t)((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
        size++;
        value >>= 7;
    } while (value > 0);
    hr_buffer_add(out, bytes, size);
}

void hr_envelope_append_text(hr_buffer *out, const char *name, hr_slice value) {
    hr_attribute attribute = {
        .name = hr_slice_text(name), .type = HR_ATTRIBUTE_STRING, .text = value};
    HR_ASSERT(hr_attribute_name_is_valid(attribute.name));
    HR_ASSERT(value.size <= HR_ATTRIBUTE_VALUE_MAX);
    attribute_value packed_value;
    set_value(&packed_value, NULL, &attribute);
    attribute_entry entry;
    headrace__v1__attribute__init(&entry);
    entry.name = binary_of(attribute.name);
    entry.value = &packed_value;
    add_varint(out, 5 << 3 | HR_WIRE_BYTES);
    add_varint(out, protobuf_c_message_get_packed_size(&entry.base));
    uint8_t *room = hr_buffer_room(out, ATTRIBUTE_OVERHEAD + attribute.name.size + value.size);
    out->size += protobuf_c_message_pack(&entry.base, room);
}

void hr_envelope_batch_add(hr_buffer *message, hr_slice envelope) {
    add_varint(message, 1 << 3 | HR_WIRE_BYTES);
    add_varint(message, envelope.size);
    hr_buffer_add_slice(message, envelope);
}

hr_code hr_envelope_batch_next(hr_slice message, size_t *cursor, hr_slice *out_envelope,
                               hr_error *err) {
    HR_ASSERT(*cursor <= message.size);
    hr_wire wire = hr_wire_of(message);
    wire.at += *cursor;
    while (wire.at < wire.end) {
        hr_wire_field field;
        size_t at = (size_t)(wire.at - message.bytes);
        if (!hr_wire_next(&wire, &field) || (field.number == 1 && field.type != HR_WIRE_BYTES)) {
            return hr_fail(err, HR_E_MALFORMED, 0, "batch of events cut or garbled at byte %zu",
                           at);
        }
        if (field.number == 1) {
            *cursor = (size_t)(wire.at - message.bytes);
            *out_envelope = field.bytes;
            return HR_OK;
        }
    }
    *cursor = message.size;
    *out_envelope = hr_slice_of(NULL, 0);
    return HR_OK;
}
