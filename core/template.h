/* SPDX-License-Identifier: Apache-2.0 */
/* Events of one origin that differ only in a number, their time, key and data: the rest is packed
 * once, and packing one more is little beside copying its data.
 *
 * Order of the fields in the packed form: id, what all share, partitionkey, time, data. */
#ifndef HR_CORE_TEMPLATE_H
#define HR_CORE_TEMPLATE_H

#include "core/envelope.h"

/* Zeroed is not ready. Read-only between init and fini. */
typedef struct hr_template {
    hr_buffer prefix;    /* of the id */
    hr_buffer shared;    /* packed fields that all events have */
    hr_view view;        /* parts within shared, as offsets from its start */
    uint8_t data_tag;    /* 0: no data */
    bool has_no_subject; /* then its offset is the envelope's */
} hr_template;

/* Prepares events of these fields; fields->id is what stands before the number. time_us,
 * partition_key and data of fields are not used (has_data and data_is_text are).
 * Errors: as hr_envelope_pack; nothing is to be freed then. */
hr_code hr_template_init(hr_template *self, const hr_fields *fields, hr_error *err);
void hr_template_fini(hr_template *self);

/* What differs. Checked by the caller: key is UTF-8 text of at most HR_ATTRIBUTE_VALUE_MAX bytes
 * (empty: none), text data is UTF-8. */
typedef struct hr_template_event {
    uint64_t number;
    int64_t time_us; /* since 1970, not negative; 0: none */
    hr_slice key, data;
} hr_template_event;

/* Adds one event to the builder, as hr_builder_pack does.
 * Errors: HR_E_TOO_LARGE as hr_builder_add. */
hr_code hr_template_pack(const hr_template *self, const hr_template_event *event, uint64_t position,
                         hr_builder *out, hr_error *err);

#endif
