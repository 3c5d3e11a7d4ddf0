/* SPDX-License-Identifier: Apache-2.0 */
#include "core/utf8.h"

/* Length of the well-formed sequence at bytes (table 3-7 of the Unicode standard), 0: none. */
static size_t sequence_size(const uint8_t *bytes, size_t left) {
    uint8_t first = bytes[0];
    if (first < 0x80) {
        return 1;
    }
    size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || left < size) {
        return 0;
    }
    uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (bytes[1] < low || bytes[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < size; i++) {
        if ((bytes[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return size;
}

size_t hr_utf8_prefix(hr_slice text) {
    size_t at = 0;
    while (at < text.size) {
        uint64_t word;
        while (at + sizeof word <= text.size) { /* eight ASCII bytes a step */
            memcpy(&word, text.bytes + at, sizeof word);
            if ((word & UINT64_C(0x8080808080808080)) != 0) {
                break;
            }
            at += sizeof word;
        }
        if (at == text.size) {
            break;
        }
        size_t size = sequence_size(text.bytes + at, text.size - at);
        if (size == 0) {
            break;
        }
        at += size;
    }
    return at;
}
