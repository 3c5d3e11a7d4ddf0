/* SPDX-License-Identifier: Apache-2.0 */
/* JSON of strangers: what is none is refused, with its place. */
#include "core/json_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#define BYTES(text) hr_slice_of((const uint8_t *)(text), sizeof(text) - 1)

static void a_zero_byte_is_no_json_wherever_it_stands(void **state) {
    (void)state;
    const hr_slice texts[] = {BYTES("{\"a\":1\0}"),
                              BYTES("{\"a\":1}\0"),
                              BYTES("1\0"),
                              BYTES("\0"
                                    "1"),
                              BYTES("[1,\0 2]"),
                              BYTES("\"a\0\"")};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_false(hr_json_is_valid(texts[i]));
    }
    assert_true(hr_json_is_valid(BYTES("{\"a\":\"\\u0000\"}"))); /* written out it is fine */
}

static void a_zero_byte_is_named_with_its_place(void **state) {
    (void)state;
    json_error_t wrong = {.line = 0};
    assert_null(hr_json_load(BYTES("{\n \"a\":1\0}"), 0, &wrong));
    assert_string_equal(wrong.text, "a zero byte");
    assert_int_equal(wrong.line, 2);
    assert_int_equal(wrong.column, 7);
}

static void nothing_at_all_is_no_json(void **state) {
    (void)state;
    assert_false(hr_json_is_valid((hr_slice){0}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zero_byte_is_no_json_wherever_it_stands),
        cmocka_unit_test(a_zero_byte_is_named_with_its_place),
        cmocka_unit_test(nothing_at_all_is_no_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
