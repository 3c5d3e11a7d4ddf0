/* SPDX-License-Identifier: Apache-2.0 */
/* CloudEvents envelopes: packed bytes of the CloudEvents protobuf format (io.cloudevents.v1).
 *
 * Field numbers and types: cloudevents/spec, cloudevents/formats/cloudevents.proto (1.0.2); our own
 * description is schemas/envelope.proto. Packing goes through protobuf-c; reading goes through one
 * bounds-checked view without copies. */
#ifndef HR_CORE_ENVELOPE_H
#define HR_CORE_ENVELOPE_H

#include "core/batch.h"
#include "core/buffer.h"
#include "core/error.h"
#include "core/slice.h"

#include <stdbool.h>

enum {
    HR_ENVELOPE_MAX = 16 << 20,    /* bytes of one packed envelope */
    HR_ENVELOPE_ATTRIBUTES = 64,   /* optional and extension attributes of one event */
    HR_ATTRIBUTE_NAME_MAX = 64,    /* bytes; [a-z0-9_] as CloudEvents 1.0 says, '_' tolerated */
    HR_ATTRIBUTE_VALUE_MAX = 65535 /* bytes; also of id, source, type */
};

typedef enum hr_attribute_type { /* numbers of the oneof in CloudEventAttributeValue */
                                 HR_ATTRIBUTE_BOOLEAN = 1,
                                 HR_ATTRIBUTE_INTEGER = 2,
                                 HR_ATTRIBUTE_STRING = 3,
                                 HR_ATTRIBUTE_BYTES = 4,
                                 HR_ATTRIBUTE_URI = 5,
                                 HR_ATTRIBUTE_URI_REF = 6,
                                 HR_ATTRIBUTE_TIMESTAMP = 7
} hr_attribute_type;

typedef struct hr_attribute {
    hr_slice name;
    hr_attribute_type type;
    hr_slice text;  /* STRING BYTES URI URI_REF */
    int64_t number; /* BOOLEAN 0/1, INTEGER int32, TIMESTAMP microseconds since 1970 */
} hr_attribute;

/* What a connector knows. Every slice is borrowed for the call and copied. Empty: left out. */
typedef struct hr_fields {
    hr_slice id, source, type;                             /* required */
    hr_slice subject, content_type, schema, partition_key; /* partition_key: the ordering key */
    int64_t time_us;                                       /* since 1970 UTC; 0: left out */
    hr_slice data;
    bool id_is_made;                /* HR_VIEW_MADE_ID */
    bool has_data, data_is_text;    /* text_data instead of binary_data; not for JSON, which the
                                       official Go SDK would quote once more */
    const hr_attribute *extensions; /* further attributes; names valid, no duplicates */
    size_t extension_count;
} hr_fields;

/* Appends one packed envelope to out (no length prefix).
 * Errors: HR_E_INVALID (required field empty, bad attribute name, invalid UTF-8 in a text),
 * HR_E_TOO_LARGE; out is unchanged then.  Thread: any. */
hr_code hr_envelope_pack(const hr_fields *fields, hr_buffer *out, hr_error *err);

/* hr_envelope_pack that also gives the view; its offsets are from the start of out. */
hr_code hr_envelope_pack_view(const hr_fields *fields, hr_buffer *out, hr_view *out_view,
                              hr_error *err);

/* Packs straight into a builder; view and key_hash (from partition_key) are filled. Errors as
 * hr_builder_add, and HR_E_INVALID; nothing is added then. */
hr_code hr_builder_pack(hr_builder *builder, uint64_t position, const hr_fields *fields,
                        hr_error *err);

/* Reads the view of one packed envelope that lies at offset at of bytes (offsets in the view are
 * from bytes). Checks bounds, wire types, UTF-8 of all strings, that id, source, type and
 * spec_version (1.x) are there. Unknown fields are skipped.
 * Errors: HR_E_MALFORMED naming the field and offset.  Thread: any.  Never allocates. */
hr_code hr_envelope_view(const uint8_t *bytes, uint32_t at, uint32_t size, hr_view *out_view,
                         hr_error *err);

/* Steps over the attributes map of a packed envelope (already checked by hr_envelope_view). Start
 * with *cursor 0; false at the end. Slices borrow from envelope.  Thread: any. */
bool hr_envelope_next_attribute(hr_slice envelope, size_t *cursor, hr_attribute *out);

/* Adds one text attribute to the packed envelope that ends out. Since the last of a name wins, it
 * also replaces. name is valid, value is UTF-8 of at most HR_ATTRIBUTE_VALUE_MAX.  Thread: any. */
void hr_envelope_append_text(hr_buffer *out, const char *name, hr_slice value);

/* Finds one attribute by name (last wins, as maps do).  Thread: any. */
bool hr_envelope_attribute(hr_slice envelope, const char *name, hr_attribute *out);

/* The value as CloudEvents text (true, 12, base64 of bytes, RFC 3339) appended to out. */
void hr_attribute_print(const hr_attribute *attribute, hr_buffer *out);

/* The whole event as CloudEvents JSON (application/cloudevents+json), appended to out. JSON data
 * stands as JSON, text as a string, other data as data_base64. */
void hr_envelope_print_json(hr_slice envelope, hr_buffer *out);

/* Reads one CloudEvents JSON object (structured mode) and appends it packed to out. For a
 * partitionkey that the event has not, see hr_envelope_append_text.
 * Errors: HR_E_MALFORMED with the reason, HR_E_TOO_LARGE; out is unchanged then.  Thread: any. */
hr_code hr_envelope_from_json(hr_slice json, hr_buffer *out, hr_error *err);

/* The batch message (application/cloudevents-batch+protobuf): appends one packed envelope. */
void hr_envelope_batch_add(hr_buffer *message, hr_slice envelope);

/* Steps over the envelopes of a batch message (unchecked: view each). Start with *cursor 0; at the
 * end out_envelope->bytes is NULL. Slices borrow from message.
 * Errors: HR_E_MALFORMED with the offset.  Thread: any. */
hr_code hr_envelope_batch_next(hr_slice message, size_t *cursor, hr_slice *out_envelope,
                               hr_error *err);

/* Is this a name that an attribute may have: 1 to HR_ATTRIBUTE_NAME_MAX of [a-z0-9_], and none of
 * id, source, type, specversion, data, data_base64?  Thread: any. */
bool hr_attribute_name_is_valid(hr_slice name);

/* Is this media type JSON (application/json, text/json, +json; parameters ignored)? */
bool hr_content_type_is_json(hr_slice content_type);

#endif
