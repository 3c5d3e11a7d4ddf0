/* SPDX-License-Identifier: Apache-2.0 */
/* Templates: events packed by one equal hr_envelope_pack's parts, and texts for people. First line:
 * the text, second: key, rest: data. */
#include "core/memory.h"
#include "core/template.h"
#include "core/utf8.h"
#include "functions/template.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    hr_slice rest = hr_slice_of(bytes, size), line = fuzz_line(&rest), key = fuzz_line(&rest);
    char *text = hr_copy_bytes(line.bytes, line.size);
    hr_fields fields = {.id = hr_slice_text("p/"),
                        .source = hr_slice_text("fuzz"),
                        .type = line,
                        .subject = key,
                        .content_type = hr_slice_text("application/json"),
                        .has_data = true};
    hr_template template;
    hr_builder builder = {0};
    hr_buffer out = {0};
    hr_error err = {0};
    bool is_key = key.size <= HR_ATTRIBUTE_VALUE_MAX && hr_utf8_is_text(key);
    if (is_key && hr_template_init(&template, &fields, &err) == HR_OK) {
        hr_template_event event = {.number = size, .time_us = 5, .key = key, .data = rest};
        if (hr_template_pack(&template, &event, 9, &builder, &err) == HR_OK) {
            hr_view view, kept = builder.view[0];
            FUZZ_CHECK(hr_envelope_view(builder.bytes.bytes, 0, kept.size, &view, &err) == HR_OK);
            FUZZ_CHECK(view.data_at == kept.data_at && view.data_size == rest.size);
            FUZZ_CHECK(view.key_hash == kept.key_hash && view.key_size == key.size);
            FUZZ_CHECK(view.id_size == kept.id_size && view.type_at == kept.type_at);
            hr_template_print(text, hr_slice_of(builder.bytes.bytes, kept.size), &out);
        }
        hr_template_fini(&template);
    }
    hr_buffer_fini(&out);
    hr_builder_fini(&builder);
    hr_free(text);
    return 0;
}
