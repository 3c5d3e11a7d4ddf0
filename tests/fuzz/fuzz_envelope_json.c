/* SPDX-License-Identifier: Apache-2.0 */
/* CloudEvents JSON: what is read has a view, and printed and read again has the same parts. */
#include "core/envelope.h"
#include "tests/fuzz/fuzz.h"

static hr_slice at(const hr_buffer *in, uint32_t offset, uint32_t size) {
    return hr_slice_of(in->bytes + offset, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    hr_buffer first = {0}, second = {0}, text = {0};
    hr_error err = {0};
    hr_view a, b;
    hr_code code = hr_envelope_from_json(hr_slice_of(bytes, size), &first, &err);
    if (code != HR_OK) {
        FUZZ_CHECK(first.size == 0 && err.code == code && err.text[0] != '\0');
        hr_buffer_fini(&first);
        return 0;
    }
    FUZZ_CHECK(hr_envelope_view(first.bytes, 0, (uint32_t)first.size, &a, &err) == HR_OK);
    hr_envelope_print_json(hr_slice_of(first.bytes, first.size), &text);
    FUZZ_CHECK(hr_envelope_from_json(hr_slice_of(text.bytes, text.size), &second, &err) == HR_OK);
    FUZZ_CHECK(hr_envelope_view(second.bytes, 0, (uint32_t)second.size, &b, &err) == HR_OK);
    FUZZ_CHECK(hr_slice_equal(at(&first, a.id_at, a.id_size), at(&second, b.id_at, b.id_size)));
    FUZZ_CHECK(hr_slice_equal(at(&first, a.source_at, a.source_size),
                              at(&second, b.source_at, b.source_size)));
    FUZZ_CHECK(
        hr_slice_equal(at(&first, a.type_at, a.type_size), at(&second, b.type_at, b.type_size)));
    FUZZ_CHECK(hr_slice_equal(at(&first, a.subject_at, a.subject_size),
                              at(&second, b.subject_at, b.subject_size)));
    FUZZ_CHECK(a.key_hash == b.key_hash);
    FUZZ_CHECK((a.flags & HR_VIEW_DATA) == (b.flags & HR_VIEW_DATA));
    hr_buffer_fini(&first);
    hr_buffer_fini(&second);
    hr_buffer_fini(&text);
    return 0;
}
