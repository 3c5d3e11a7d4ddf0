/* SPDX-License-Identifier: Apache-2.0 */
/* Records of a topic to packed events: CloudEvents (Kafka protocol binding 1.0.2, binary and
 * structured) or whatever the value holds. Pure. */
#ifndef HR_TRIGGERS_KAFKA_RECORD_H
#define HR_TRIGGERS_KAFKA_RECORD_H

#include "core/template.h"
#include "net/kafka_client.h"

typedef enum hr_kafka_format {
    HR_KAFKA_AUTO, /* CloudEvents where they say so, else as it is, content type guessed */
    HR_KAFKA_RAW,  /* as it is, bytes */
    HR_KAFKA_JSON  /* the value must be JSON */
} hr_kafka_format;

/* "auto" "raw" "json"; NULL is auto. Other words are a programmer's error. */
hr_kafka_format hr_kafka_format_of(const char *word);

/* What all records of one partition share. */
typedef struct hr_kafka_origin {
    char *topic, *source, *id_prefix; /* "orders", "kafka/TRIGGER/orders", "orders/3/" */
    /* for records without headers, by what the value is; made when the first comes */
    hr_template plain[4];
} hr_kafka_origin;

void hr_kafka_origin_init(hr_kafka_origin *origin, const char *trigger, const char *topic,
                          int32_t partition);
void hr_kafka_origin_fini(hr_kafka_origin *origin);

/* Scratch memory that is kept between records. Zeroed is ready. */
typedef struct hr_kafka_packer {
    hr_kafka_format format;
    hr_buffer text, envelope;
    hr_attribute extension[HR_ENVELOPE_ATTRIBUTES];
} hr_kafka_packer;

/* Adds the record as one event at position. Errors: HR_E_MALFORMED with what is wrong, also for an
 * event that can never be packed; HR_E_TOO_LARGE when the batch is full: finish it and call again.
 * Nothing is added then.  Thread: any, one a packer. */
hr_code hr_kafka_pack(hr_kafka_packer *self, hr_kafka_origin *origin, const hr_kafka_record *record,
                      uint64_t position, hr_builder *out, hr_error *err);

void hr_kafka_packer_fini(hr_kafka_packer *self);

#endif
