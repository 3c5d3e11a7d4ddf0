/* SPDX-License-Identifier: Apache-2.0 */
#include "core/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
/* after what it needs: */
#include <cmocka.h>

/* The definition, not the table: decode, and accept only the shortest form of a scalar value. */
static bool reference(const uint8_t *bytes, size_t size) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t at = 0;
    while (at < size) {
        uint8_t first = bytes[at];
        size_t length = first < 0x80             ? 1
                        : (first & 0xE0) == 0xC0 ? 2
                        : (first & 0xF0) == 0xE0 ? 3
                        : (first & 0xF8) == 0xF0 ? 4
                                                 : 0;
        if (length == 0 || size - at < length) {
            return false;
        }
        uint32_t value = length == 1 ? first : first & (0xFFu >> (length + 1));
        for (size_t i = 1; i < length; i++) {
            if ((bytes[at + i] & 0xC0) != 0x80) {
                return false;
            }
            value = value << 6 | (bytes[at + i] & 0x3F);
        }
        if (value < least[length] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
            return false;
        }
        at += length;
    }
    return true;
}

static void all_texts_of_three_bytes_are_judged_as_unicode_says(void **state) {
    (void)state;
    for (uint32_t value = 0; value < 1u << 24; value++) {
        uint8_t bytes[] = {(uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
        bool valid = hr_utf8_is_valid(hr_slice_of(bytes, sizeof bytes));
        if (valid != reference(bytes, sizeof bytes)) {
            fail_msg("%02x %02x %02x", bytes[0], bytes[1], bytes[2]);
        }
    }
}

static void four_byte_sequences_at_their_edges(void **state) {
    (void)state;
    static const uint8_t edge[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
    enum { EDGES = sizeof edge };
    for (unsigned first = 0xE0; first <= 0xFF; first++) {
        for (size_t i = 0; i < EDGES * EDGES * EDGES; i++) {
            uint8_t bytes[] = {(uint8_t)first, edge[i % EDGES], edge[i / EDGES % EDGES],
                               edge[i / EDGES / EDGES]};
            assert_int_equal(hr_utf8_is_valid(hr_slice_of(bytes, 4)), reference(bytes, 4));
        }
    }
}

static void a_fault_is_found_at_any_place_of_a_long_text(void **state) {
    (void)state;
    char text[40];
    for (size_t size = 1; size <= sizeof text; size++) {
        memset(text, 'a', sizeof text);
        assert_true(hr_utf8_is_text(hr_slice_of(text, size)));
        for (size_t at = 0; at < size; at++) {
            memset(text, 'a', sizeof text);
            text[at] = '\x80';
            assert_int_equal(hr_utf8_prefix(hr_slice_of(text, size)), at);
            assert_false(hr_utf8_is_text(hr_slice_of(text, size)));
            text[at] = '\0';
            assert_true(hr_utf8_is_valid(hr_slice_of(text, size)));
            assert_false(hr_utf8_is_text(hr_slice_of(text, size)));
            if (at + 1 < size) {
                memcpy(text + at, "\xC3\xBC", 2);
                assert_true(hr_utf8_is_text(hr_slice_of(text, size)));
                text[size - 1] = '\0';
                assert_false(hr_utf8_is_text(hr_slice_of(text, size)));
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_texts_of_three_bytes_are_judged_as_unicode_says),
        cmocka_unit_test(four_byte_sequences_at_their_edges),
        cmocka_unit_test(a_fault_is_found_at_any_place_of_a_long_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
