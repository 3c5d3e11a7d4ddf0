/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base64.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void hr_base64_add(hr_buffer *out, hr_slice bytes) {
    uint8_t *to = hr_buffer_room(out, (bytes.size + 2) / 3 * 4);
    for (size_t at = 0; at < bytes.size; at += 3) {
        size_t left = bytes.size - at;
        uint32_t group = (uint32_t)bytes.bytes[at] << 16;
        group |= left > 1 ? (uint32_t)bytes.bytes[at + 1] << 8 : 0;
        group |= left > 2 ? (uint32_t)bytes.bytes[at + 2] : 0;
        *to++ = (uint8_t)letters[group >> 18];
        *to++ = (uint8_t)letters[group >> 12 & 63];
        *to++ = left > 1 ? (uint8_t)letters[group >> 6 & 63] : '=';
        *to++ = left > 2 ? (uint8_t)letters[group & 63] : '=';
    }
    out->size += (bytes.size + 2) / 3 * 4;
}

/* The value of a letter, -1: none. */
static int value_of(uint8_t letter) {
    if (letter >= 'A' && letter <= 'Z') {
        return letter - 'A';
    }
    if (letter >= 'a' && letter <= 'z') {
        return letter - 'a' + 26;
    }
    if (letter >= '0' && letter <= '9') {
        return letter - '0' + 52;
    }
    return letter == '+' ? 62 : letter == '/' ? 63 : -1;
}

bool hr_base64_read(hr_slice text, hr_buffer *out) {
    if (text.size % 4 != 0) {
        return false;
    }
    uint8_t *to = hr_buffer_room(out, text.size / 4 * 3);
    size_t size = 0;
    for (size_t at = 0; at < text.size; at += 4) {
        bool is_last = at + 4 == text.size;
        size_t padding = !is_last                    ? 0
                         : text.bytes[at + 2] == '=' ? 2
                         : text.bytes[at + 3] == '=' ? 1
                                                     : 0;
        uint32_t group = 0;
        for (size_t i = 0; i < 4; i++) {
            uint8_t letter = text.bytes[at + i];
            int value = i >= 4 - padding ? (letter == '=' ? 0 : -1) : value_of(letter);
            if (value < 0) {
                return false;
            }
            group = group << 6 | (uint32_t)value;
        }
        uint32_t unused = padding == 2 ? group & 0xFFFF : padding == 1 ? group & 0xFF : 0;
        if (unused != 0) {
            return false; /* two texts for the same bytes */
        }
        for (size_t i = 0; i < 3 - padding; i++) {
            to[size++] = (uint8_t)(group >> (16 - 8 * i));
        }
    }
    out->size += size;
    return true;
}
