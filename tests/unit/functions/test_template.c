/* SPDX-License-Identifier: Apache-2.0 */
/* Texts for people from events. */
#include "functions/template.h"

#include "tests/unit/functions/call_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static call_bench bench;

static int tear_down(void **state) {
    (void)state;
    call_fini(&bench);
    return 0;
}

static void check(const char *template, const char *expected) {
    hr_buffer out = {0};
    hr_template_print(template, hr_batch_envelope(bench.batches[0], 0), &out);
    assert_string_equal(hr_buffer_text(&out), expected);
    hr_buffer_fini(&out);
}

static void values_are_put_in_by_their_path(void **state) {
    (void)state;
    call_add(
        &bench, "e1", "k",
        hr_slice_text("{\"a\": {\"b\": \"x\"}, \"n\": 41.257, \"i\": 7, \"t\": true, \"l\": [1, 2],"
                      " \"nil\": null, \"u\": \"\\u00b0C\", \"big\": 9007199254740993}"));
    check("", "");
    check("no braces", "no braces");
    check("{id} {type} {subject} {floor}", "e1 test.reading room 1 2");
    check("{data.a.b}{data.i}{data.t}", "x7true");
    check("{data.l} {data.a}", "[1,2] {\"b\":\"x\"}");
    check("{data.n:.1f} {data.n:.0f} {data.i:.2f} {data.n}", "41.3 41 7.00 41.257");
    check("{data.big} {data.u}", "9007199254740993 \xc2\xb0"
                                 "C");
}

static void an_integer_beyond_64_bits_hides_nothing(void **state) {
    (void)state;
    call_add(&bench, "e1", "k", hr_slice_text("{\"a\": 123456789012345678901234567890, \"b\": 1}"));
    check("{id} {data.a} {data.b}", "e1 1.23456789012346e+29 1");
}

static void what_is_absent_prints_as_nothing(void **state) {
    (void)state;
    call_add(&bench, "e1", "k", hr_slice_text("{\"a\": 1, \"nil\": null}"));
    check("[{nothing}{data.x}{data.a.b}{data.nil}{}{.}{data.}{:.2f}]", "[]");
}

static void braces_and_their_faults_are_text(void **state) {
    (void)state;
    call_add(&bench, "e1", "k", hr_slice_text("{\"a\": \"{id}\"}"));
    check("{{id}}", "{id}");
    check("}} }", "} }");
    check("open {id", "open {id");
    check("{", "{");
    check("}", "}");
    check("{data.a}", "{id}"); /* what was put in is not looked at again */
    check("{data.a:.2f}{id:.9}{id:}{id:x}", "{id}e1e1e1");
}

static void data_that_is_no_json_leaves_the_attributes(void **state) {
    (void)state;
    call_add(&bench, "e1", "k", hr_slice_text("{broken \xff"));
    check("{id} {type} {data.a}", "e1 test.reading ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(values_are_put_in_by_their_path, tear_down),
        cmocka_unit_test_teardown(an_integer_beyond_64_bits_hides_nothing, tear_down),
        cmocka_unit_test_teardown(what_is_absent_prints_as_nothing, tear_down),
        cmocka_unit_test_teardown(braces_and_their_faults_are_text, tear_down),
        cmocka_unit_test_teardown(data_that_is_no_json_leaves_the_attributes, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
