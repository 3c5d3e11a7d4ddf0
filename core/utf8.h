/* SPDX-License-Identifier: Apache-2.0 */
/* Is it UTF-8? No overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef HR_CORE_UTF8_H
#define HR_CORE_UTF8_H

#include "core/slice.h"

/* How many bytes from the start are well-formed: size when all are.  Thread: any. */
size_t hr_utf8_prefix(hr_slice text);

/* All of it well-formed?  Thread: any. */
static inline bool hr_utf8_is_valid(hr_slice text) {
    return hr_utf8_prefix(text) == text.size;
}

/* UTF-8 without a zero byte: what a C string can carry whole. Eight ASCII bytes a step.
 * Thread: any. */
static inline bool hr_utf8_is_text(hr_slice text) {
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = UINT64_C(0x8080808080808080);
    size_t at = 0;
    uint64_t word;
    for (; at + sizeof word <= text.size; at += sizeof word) {
        memcpy(&word, text.bytes + at, sizeof word);
        if (((word | (word - ones)) & highs) != 0) {
            break;
        }
    }
    for (; at < text.size; at++) {
        uint8_t c = text.bytes[at];
        if (c >= 0x80) {
            hr_slice rest = hr_slice_of(text.bytes + at, text.size - at);
            return memchr(rest.bytes, 0, rest.size) == NULL && hr_utf8_prefix(rest) == rest.size;
        }
        if (c == 0) {
            return false;
        }
    }
    return true;
}

#endif
