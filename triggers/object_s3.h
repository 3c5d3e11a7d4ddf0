/* SPDX-License-Identifier: Apache-2.0 */
/* Notifications of S3-compatible stores (Amazon S3, MinIO and those that copy them), record by
 * record, to CloudEvents. Pure: bytes in, events out.
 *
 * Mapping (CloudEvents adapter for S3, with the MinIO prefix "s3:" stripped): id
 * "<request id>.<sequencer>" (else a hash of what names the event), source
 * "<eventSource>[.<region>].<bucket>", type "com.amazonaws.s3.<eventName>", subject and ordering
 * key the object key decoded once; extensions bucket, size, etag, sequencer, region, versionid
 * where known. data is flat JSON: bucket key size etag event sequencer region time version_id
 * content_type, and record, the record as it came. */
#ifndef HR_TRIGGERS_OBJECT_S3_H
#define HR_TRIGGERS_OBJECT_S3_H

#include "triggers/http_intake.h"

enum { HR_OBJECT_CREATED = 1, HR_OBJECT_REMOVED = 2 };

typedef struct hr_object_reader {
    uint32_t events; /* HR_OBJECT_*: what is wanted */
    hr_sink *sink;   /* where wanted events go */

    /* A record that is malformed or of a kind that S3 does not know. */
    void (*rejected)(void *data, hr_slice raw, const char *why);
    void *data;
    uint32_t ignored; /* known events that are not wanted, and test events */
} hr_object_reader;

/* Reads one notification. Empty bodies and test events are no error and no event.
 * Errors: HR_E_MALFORMED: nothing of it could be read.  Thread: any. */
hr_code hr_object_s3_read(hr_object_reader *reader, hr_slice body, hr_error *err);

/* The notification that a store of this kind ("s3", "minio") would send; key is not encoded yet.
 * event as "ObjectCreated:Put". Appends to out.  Thread: any. */
void hr_object_s3_sample(const char *kind, const char *bucket, const char *key, const char *event,
                         int64_t size, hr_buffer *out);

/* Undoes form-encoding once (+ and %XX), but leaves alone what cannot be form-encoded (spaces,
 * control or non-ASCII bytes) or would not be text. Appends to out.  Thread: any. */
void hr_object_key_decode(hr_slice key, hr_buffer *out);

#endif
