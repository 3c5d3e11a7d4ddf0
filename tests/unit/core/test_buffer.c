/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base64.h"
#include "core/buffer.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after what it needs: */
#include <cmocka.h>

static void a_buffer_grows_prints_and_consumes(void **state) {
    (void)state;
    hr_buffer buffer = {0};
    assert_string_equal(hr_buffer_text(&buffer), "");
    for (int i = 0; i < 1000; i++) {
        hr_buffer_print(&buffer, "%d,", i);
    }
    assert_int_equal(buffer.size, 10 * 2 + 90 * 3 + 900 * 4);
    hr_buffer_consume(&buffer, 20 + 270);
    assert_memory_equal(buffer.bytes, "100,101,", 8);
    hr_buffer_consume(&buffer, buffer.size);
    assert_int_equal(buffer.size, 0);
    hr_buffer_add_slice(&buffer, hr_slice_text("x"));
    hr_buffer_add(&buffer, NULL, 0);
    assert_string_equal(hr_buffer_text(&buffer), "x");
    hr_buffer_fini(&buffer);
    assert_null(buffer.bytes);
    hr_buffer_add_number(&buffer, 0);
    hr_buffer_add(&buffer, ",", 1);
    hr_buffer_add_number(&buffer, 1203);
    hr_buffer_add(&buffer, ",", 1);
    hr_buffer_add_number(&buffer, UINT64_MAX);
    assert_string_equal(hr_buffer_text(&buffer), "0,1203,18446744073709551615");
    hr_buffer_fini(&buffer);
}

static void base64_knows_the_vectors_of_rfc_4648(void **state) {
    (void)state;
    static const char *const vectors[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        hr_buffer text = {0}, back = {0};
        hr_base64_add(&text, hr_slice_text(vectors[i][0]));
        assert_string_equal(hr_buffer_text(&text), vectors[i][1]);
        assert_true(hr_base64_read(hr_slice_text(vectors[i][1]), &back));
        assert_string_equal(hr_buffer_text(&back), vectors[i][0]);
        hr_buffer_fini(&text);
        hr_buffer_fini(&back);
    }
    static const char *const wrong[] = {"Z",    "Zg",       "Zg=",  "Zg=a", "=g==",  "Zh==", "Zm9=",
                                        "Zm 9", "Zg==Zg==", "Zm9-", "====", "Zm9v=", "Z==="};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        hr_buffer back = {0};
        assert_false(hr_base64_read(hr_slice_text(wrong[i]), &back));
        assert_int_equal(back.size, 0);
        hr_buffer_fini(&back);
    }
}

static void an_error_grows_outwards_and_is_cut_not_overrun(void **state) {
    (void)state;
    hr_error err = {0};
    assert_int_equal(hr_fail(&err, HR_E_IO, 5, "open '%s'", "a"), HR_E_IO);
    assert_int_equal(hr_wrap(&err, "store %d", 7), HR_E_IO);
    assert_string_equal(err.text, "store 7: open 'a'");
    assert_int_equal(err.sys, 5);
    assert_int_equal(hr_fail(NULL, HR_E_IO, 0, "x"), HR_E_IO);
    for (int i = 0; i < 100; i++) {
        hr_wrap(&err, "context %d", i);
    }
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_int_equal(hr_code_class(HR_E_MALFORMED), HR_CLASS_PERMANENT);
    assert_int_equal(hr_code_class((hr_code)9999), HR_CLASS_FATAL);
    assert_string_equal(hr_code_meaning((hr_code)9999), "unknown");
}

static void a_node_finds_its_children(void **state) {
    (void)state;
    hr_node *root = hr_node_add(NULL, HR_NODE_MAP, NULL);
    hr_node_add_text(root, "wait", "5s", 5000);
    hr_node *list = hr_node_add(root, HR_NODE_LIST, "topics");
    hr_node_add_text(list, NULL, "a", 0);
    hr_node_add_text(list, NULL, "b", 0);
    hr_node_add_text(root, "topic", "only", 0);
    assert_int_equal(hr_node_count(root), 3);
    assert_string_equal(hr_node_text(root, "wait", "x"), "5s");
    assert_int_equal(hr_node_number(root, "wait", 1), 5000);
    assert_int_equal(hr_node_number(root, "absent", 1), 1);
    assert_string_equal(hr_node_text(root, "topics", "no text"), "no text");
    assert_null(hr_node_get(NULL, "a"));
    const hr_node *cursor = NULL;
    assert_string_equal(hr_node_each_text(root, "topics", &cursor), "a");
    assert_string_equal(hr_node_each_text(root, "topics", &cursor), "b");
    assert_null(hr_node_each_text(root, "topics", &cursor));
    cursor = NULL;
    assert_string_equal(hr_node_each_text(root, "topic", &cursor), "only");
    assert_null(hr_node_each_text(root, "topic", &cursor));
    hr_node_free(root);
    hr_node_free(NULL);
}

static void copies_are_terminated(void **state) {
    (void)state;
    char *copy = hr_copy_bytes("abc", 2), *text = hr_format("%s-%d", "x", 3);
    assert_string_equal(copy, "ab");
    assert_string_equal(text, "x-3");
    assert_null(hr_copy_text(NULL));
    hr_free(copy);
    hr_free(text);
    uint64_t *zeros = hr_alloc_array(4, sizeof *zeros);
    assert_int_equal(zeros[0] | zeros[3], 0);
    hr_free(zeros);
}

static void the_hash_of_a_key_never_changes(void **state) {
    (void)state; /* it decides lanes and stands in stores: xxh3 with its published values */
    assert_int_equal(hr_hash(hr_slice_of("", 0)), UINT64_C(0x2d06800538d394c2));
    assert_true(hr_hash_more(1, hr_slice_text("a")) != hr_hash_more(2, hr_slice_text("a")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_grows_prints_and_consumes),
        cmocka_unit_test(base64_knows_the_vectors_of_rfc_4648),
        cmocka_unit_test(an_error_grows_outwards_and_is_cut_not_overrun),
        cmocka_unit_test(a_node_finds_its_children),
        cmocka_unit_test(copies_are_terminated),
        cmocka_unit_test(the_hash_of_a_key_never_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
