/* SPDX-License-Identifier: Apache-2.0 */
/* Notifications of S3 stores, and object keys: events read again, rejected records lie in the body,
 * a notification that we make of any key gives that key. */
#include "core/envelope.h"
#include "core/memory.h"
#include "core/utf8.h"
#include "tests/fuzz/fuzz.h"
#include "triggers/object_s3.h"

static void on_rejected(void *data, hr_slice raw, const char *why) {
    (void)data;
    FUZZ_CHECK(why != NULL && why[0] != '\0');
    FUZZ_CHECK(raw.size == 0 || raw.bytes[raw.size - 1] < 0xff);
}

static void read_body(hr_slice body, hr_builder *builder) {
    hr_sink sink = {.builder = builder};
    hr_object_reader reader = {
        .events = HR_OBJECT_CREATED | HR_OBJECT_REMOVED, .sink = &sink, .rejected = on_rejected};
    hr_error err = {0};
    hr_code code = hr_object_s3_read(&reader, body, &err);
    FUZZ_CHECK(code == HR_OK || (code == HR_E_MALFORMED && err.text[0] != '\0'));
    FUZZ_CHECK(body.size == 0 || memchr(body.bytes, 0, body.size) == NULL || builder->count == 0);
    for (uint32_t i = 0; i < builder->count; i++) {
        hr_view view;
        FUZZ_CHECK(hr_envelope_view(builder->bytes.bytes, builder->view[i].at,
                                    builder->view[i].size, &view, &err) == HR_OK);
    }
}

static void there_and_back(hr_slice key) {
    static const char *const KINDS[] = {"s3", "minio"};
    static const char *const EVENTS[] = {"ObjectCreated:Put", "ObjectRemoved:Delete"};
    char *text = hr_copy_bytes(key.bytes, key.size);
    for (size_t i = 0; i < 2; i++) {
        hr_buffer body = {0};
        hr_builder builder = {0};
        hr_object_s3_sample(KINDS[i], "album", text, EVENTS[i], (int64_t)key.size, &body);
        read_body(hr_slice_of(body.bytes, body.size), &builder);
        FUZZ_CHECK(builder.count == 1);
        hr_batch *batch = hr_builder_finish(&builder, 1, 0);
        FUZZ_CHECK(hr_slice_equal(hr_batch_subject(batch, 0), key));
        hr_batch_unref(batch);
        hr_builder_fini(&builder);
        hr_buffer_fini(&body);
    }
    hr_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    hr_slice body = hr_slice_of(bytes, size);
    hr_builder builder = {0};
    read_body(body, &builder);
    hr_builder_fini(&builder);

    hr_buffer key = {0};
    hr_object_key_decode(body, &key);
    FUZZ_CHECK(key.size <= size);
    FUZZ_CHECK(!hr_utf8_is_valid(body) || hr_utf8_is_valid(hr_slice_of(key.bytes, key.size)));
    hr_buffer_fini(&key);
    if (size > 0 && size <= 1024 && hr_utf8_is_text(body)) {
        there_and_back(body);
    }
    return 0;
}
