/* SPDX-License-Identifier: Apache-2.0 */
/* Is it UTF-8? No overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef HR_CORE_UTF8_H
#define HR_CORE_UTF8_H

#include "core/slice.h"

/* How many bytes from the start are well-formed: size when all are.  Thread: any. */
size_t hr_utf8_prefix(hr_slice text);

/* All of it well-formed?  Eight ASCII bytes a step.  Thread: any. */
static inline bool hr_utf8_is_valid(hr_slice text) {
    size_t at = 0;
    uint64_t word;
    for (; at + sizeof word <= text.size; at += sizeof word) {
        memcpy(&word, text.bytes + at, sizeof word);
        if ((word & UINT64_C(0x8080808080808080)) != 0) {
            break;
        }
    }
    uint8_t high = 0;
    for (size_t i = at; i < text.size && i < at + sizeof word; i++) {
        high |= text.bytes[i];
    }
    if (at + sizeof word > text.size && high < 0x80) {
        return true;
    }
    return hr_utf8_prefix(hr_slice_of(text.bytes + at, text.size - at)) == text.size - at;
}

#endif
