/* SPDX-License-Identifier: Apache-2.0 */
/* One input of a fuzzer: libFuzzer's entry, and how bytes are cut into parts. */
#ifndef HR_TESTS_FUZZ_H
#define HR_TESTS_FUZZ_H

#include "core/buffer.h"
#include "core/error.h"

/* Looks at one input; a broken property aborts. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* What must hold of every input. */
#define FUZZ_CHECK(condition) HR_ASSERT(condition)

/* Takes what stands before the next line end (all, when there is none) off the front of rest. */
static inline hr_slice fuzz_line(hr_slice *rest) {
    const uint8_t *end = rest->size == 0 ? NULL : memchr(rest->bytes, '\n', rest->size);
    size_t size = end == NULL ? rest->size : (size_t)(end - rest->bytes);
    hr_slice line = hr_slice_of(rest->bytes, size);
    size_t used = end == NULL ? size : size + 1;
    *rest = hr_slice_of(rest->bytes + used, rest->size - used);
    return line;
}

/* Does part lie within whole? Empty parts do. */
static inline bool fuzz_is_within(hr_slice part, hr_slice whole) {
    return part.size == 0 || (part.bytes >= whole.bytes && part.size <= whole.size &&
                              (size_t)(part.bytes - whole.bytes) <= whole.size - part.size);
}

#endif
