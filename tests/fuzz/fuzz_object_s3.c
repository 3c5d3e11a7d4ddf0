/* SPDX-License-Identifier: Apache-2.0 */
/* Notifications of S3 stores, and object keys: events read again, rejected records lie in the body.
 */
#include "core/envelope.h"
#include "core/utf8.h"
#include "tests/fuzz/fuzz.h"
#include "triggers/object_s3.h"

static void on_rejected(void *data, hr_slice raw, const char *why) {
    (void)data;
    FUZZ_CHECK(why != NULL && why[0] != '\0');
    FUZZ_CHECK(raw.size == 0 || raw.bytes[raw.size - 1] < 0xff);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    hr_slice body = hr_slice_of(bytes, size);
    hr_builder builder = {0};
    hr_sink sink = {.builder = &builder};
    hr_object_reader reader = {
        .events = HR_OBJECT_CREATED | HR_OBJECT_REMOVED, .sink = &sink, .rejected = on_rejected};
    hr_error err = {0};
    hr_code code = hr_object_s3_read(&reader, body, &err);
    FUZZ_CHECK(code == HR_OK || err.text[0] != '\0');
    for (uint32_t i = 0; i < builder.count; i++) {
        hr_view view;
        FUZZ_CHECK(hr_envelope_view(builder.bytes.bytes, builder.view[i].at, builder.view[i].size,
                                    &view, &err) == HR_OK);
    }
    hr_builder_fini(&builder);

    hr_buffer key = {0};
    hr_object_key_decode(body, &key);
    FUZZ_CHECK(key.size <= size);
    FUZZ_CHECK(!hr_utf8_is_valid(body) || hr_utf8_is_valid(hr_slice_of(key.bytes, key.size)));
    hr_buffer_fini(&key);
    return 0;
}
