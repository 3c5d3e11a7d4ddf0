/* SPDX-License-Identifier: Apache-2.0 */
#include "core/library.h"

#include "core/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

int library_sample_width(int number); /* of library_sample.c */
int library_sample_gone(void);        /* of nobody */

/* strlen is of what the sample brings along. */
#define SAMPLE_FUNCTIONS(X) X(library_sample_width) X(strlen)
#define NEWER_FUNCTIONS(X)  SAMPLE_FUNCTIONS(X) X(library_sample_gone)

static struct { NEWER_FUNCTIONS(HR_LIBRARY_MEMBER) } sample;

static const char *const names[] = {NEWER_FUNCTIONS(HR_LIBRARY_NAME)};
enum { NEWER = sizeof names / sizeof *names, OLD = NEWER - 1 };

static void functions_are_called_through_the_table(void **state) {
    (void)state;
    hr_error err = {0};
    hr_library library = {
        .soname = SAMPLE, .used_by = "tests", .names = names, .count = OLD, .table = &sample};
    for (int again = 0; again < 2; again++) {
        assert_int_equal(hr_library_load(&library, &err), HR_OK);
        assert_true(library.is_loaded);
        assert_int_equal(sample.library_sample_width(1234), 4);
        assert_int_equal(sample.strlen("four"), 4);
    }
}

static void a_missing_library_is_told_with_its_user(void **state) {
    (void)state;
    hr_error err = {0};
    hr_library library = {.soname = "libheadrace-none.so.7",
                          .used_by = "tests of none",
                          .names = names,
                          .count = OLD,
                          .table = &sample};
    assert_int_equal(hr_library_load(&library, &err), HR_E_UNSUPPORTED);
    assert_int_equal(err.code, HR_E_UNSUPPORTED);
    assert_false(library.is_loaded);
    assert_non_null(strstr(err.text, "tests of none"));
    assert_non_null(strstr(err.text, "libheadrace-none.so.7"));
}

static void a_missing_function_is_told_by_its_name(void **state) {
    (void)state;
    hr_error err = {0};
    hr_library library = {
        .soname = SAMPLE, .used_by = "tests", .names = names, .count = NEWER, .table = &sample};
    assert_int_equal(hr_library_load(&library, &err), HR_E_UNSUPPORTED);
    assert_false(library.is_loaded);
    assert_non_null(strstr(err.text, SAMPLE));
    assert_non_null(strstr(err.text, "library_sample_gone"));
}

static void what_failed_is_tried_anew(void **state) {
    (void)state;
    hr_error err = {0};
    char folder[] = "/tmp/test_library-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *path = hr_format("%s/sample.so", folder);
    hr_library library = {
        .soname = path, .used_by = "tests", .names = names, .count = OLD, .table = &sample};
    assert_int_equal(hr_library_load(&library, &err), HR_E_UNSUPPORTED);
    assert_int_equal(symlink(SAMPLE, path), 0); /* it was installed */
    assert_int_equal(hr_library_load(&library, &err), HR_OK);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(hr_library_load(&library, &err), HR_OK); /* and it stays */
    assert_int_equal(rmdir(folder), 0);
    hr_free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_called_through_the_table),
        cmocka_unit_test(a_missing_library_is_told_with_its_user),
        cmocka_unit_test(a_missing_function_is_told_by_its_name),
        cmocka_unit_test(what_failed_is_tried_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
