/* SPDX-License-Identifier: Apache-2.0 */
/* Instants, durations, sizes, base64, UTF-8: what is read prints and reads alike. */
#include "core/base64.h"
#include "core/time_text.h"
#include "core/utf8.h"
#include "tests/fuzz/fuzz.h"

static void base64(hr_slice all) {
    hr_buffer text = {0}, bytes = {0};
    hr_base64_add(&text, all);
    FUZZ_CHECK(text.size == (all.size + 2) / 3 * 4);
    FUZZ_CHECK(hr_base64_read(hr_slice_of(text.bytes, text.size), &bytes));
    FUZZ_CHECK(hr_slice_equal(hr_slice_of(bytes.bytes, bytes.size), all));
    bytes.size = text.size = 0;
    if (hr_base64_read(all, &bytes)) {
        FUZZ_CHECK(bytes.size <= all.size / 4 * 3);
        hr_base64_add(&text, hr_slice_of(bytes.bytes, bytes.size));
        FUZZ_CHECK(text.size == all.size);
    } else {
        FUZZ_CHECK(bytes.size == 0);
    }
    hr_buffer_fini(&text);
    hr_buffer_fini(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    hr_slice all = hr_slice_of(bytes, size);
    int64_t us, again, number;
    if (hr_time_parse(all, &us)) {
        char text[HR_TIME_TEXT];
        hr_time_print(us, text);
        FUZZ_CHECK(!hr_time_parse(hr_slice_text(text), &again) || again == us);
    }
    FUZZ_CHECK(!hr_duration_parse(all, &number) || number >= 0);
    FUZZ_CHECK(!hr_size_parse(all, &number) || number >= 0);
    base64(all);
    size_t good = hr_utf8_prefix(all);
    FUZZ_CHECK(good <= size && hr_utf8_is_valid(hr_slice_of(bytes, good)));
    FUZZ_CHECK(hr_utf8_is_text(all) ==
               (good == size && (size == 0 || memchr(bytes, 0, size) == NULL)));
    return 0;
}
