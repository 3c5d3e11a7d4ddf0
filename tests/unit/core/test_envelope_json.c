/* SPDX-License-Identifier: Apache-2.0 */
#include "core/envelope.h"
#include "core/json_text.h"
#include "core/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
/* after what it needs: */
#include <cmocka.h>

#define JSON_TYPE ",\"datacontenttype\":\"application/json\""
#define HEAD      "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"t\""

/* Reads json and prints it again; both texts must then be equal to expected (NULL: to json). */
static void assert_round_trip(const char *json, const char *expected) {
    hr_buffer packed = {0}, text = {0};
    hr_error err = {0};
    hr_code code = hr_envelope_from_json(hr_slice_text(json), &packed, &err);
    if (code != HR_OK) {
        print_error("%s\n%s\n", json, err.text);
    }
    assert_int_equal(code, HR_OK);
    hr_envelope_print_json(hr_slice_of(packed.bytes, packed.size), &text);
    assert_string_equal(hr_buffer_text(&text), expected == NULL ? json : expected);
    hr_buffer_fini(&packed);
    hr_buffer_fini(&text);
}

static void events_come_back_as_they_went_in(void **state) {
    (void)state;
    assert_round_trip(HEAD "}", NULL);
    assert_round_trip(HEAD JSON_TYPE ",\"data\":{\"a\":[1,2.50,null,\"x\\n\"]}}", NULL);
    assert_round_trip(HEAD JSON_TYPE ",\"data\":null}", NULL);
    assert_round_trip(HEAD JSON_TYPE ",\"data\":\"only a text\"}", NULL);
    assert_round_trip(HEAD JSON_TYPE ",\"data\":123456789012345678901234567890.10}", NULL);
    assert_round_trip(
        HEAD ",\"datacontenttype\":\"text/plain\",\"data\":\"gr\xC3\xBC\xC3\x9F \\\"\"}", NULL);
    assert_round_trip(HEAD ",\"datacontenttype\":\"image/png\",\"data_base64\":\"iVBORwA=\"}",
                      NULL);
    assert_round_trip(HEAD ",\"n\":-2147483648,\"b\":false,\"s\":\"\",\"subject\":\"x\"}", NULL);
    assert_round_trip(HEAD ",\"time\":\"2026-03-29T04:30:00.5+02:00\",\"dataschema\":\"u:r\"}",
                      HEAD ",\"time\":\"2026-03-29T02:30:00.500000Z\",\"dataschema\":\"u:r\"}");
    assert_round_trip(HEAD ",\"time\":\"1970-01-01T00:00:00Z\"}",
                      HEAD ",\"time\":\"1970-01-01T00:00:00.000000Z\"}");
    assert_round_trip(HEAD ",\"a\":null,\"data\" : [ 1 ,\n {\"b c\" : \" , \\\" \"} ] }",
                      HEAD JSON_TYPE ",\"data\":[1,{\"b c\":\" , \\\" \"}]}");
    assert_round_trip(HEAD ",\"partitionkey\":12,\"i\":3.0}",
                      HEAD ",\"partitionkey\":\"12\",\"i\":3}");
    assert_round_trip(" \n{\"data\":1,\"type\":\"t\",\"source\":\"s\",\"id\":\"1\","
                      "\"specversion\":\"1.0\",\"data\":{\"data\":2}}\n",
                      HEAD JSON_TYPE ",\"data\":{\"data\":2}}");
}

static void the_data_of_json_stays_as_written_and_is_called_json(void **state) {
    (void)state;
    hr_buffer packed = {0};
    hr_view view;
    assert_int_equal(
        hr_envelope_from_json(hr_slice_text(HEAD ",\"data\":{\"a\": 1}}"), &packed, NULL), HR_OK);
    assert_int_equal(hr_envelope_view(packed.bytes, 0, (uint32_t)packed.size, &view, NULL), HR_OK);
    assert_int_equal(view.flags, HR_VIEW_DATA | HR_VIEW_JSON);
    assert_true(
        hr_slice_is(hr_slice_of(packed.bytes + view.data_at, view.data_size), "{\"a\": 1}"));
    hr_buffer_fini(&packed);
}

static void what_is_no_event_is_refused_with_a_reason(void **state) {
    (void)state;
    static const struct {
        const char *json, *reason;
    } table[] = {
        {"", "not JSON"},
        {"{", "not JSON"},
        {"[]", "object"},
        {"{}", "specversion"},
        {"{\"specversion\":\"0.3\"}", "specversion"},
        {"{\"specversion\":\"1.\",\"id\":\"1\",\"source\":\"s\",\"type\":\"t\"}", "specversion"},
        {"{\"specversion\":\"1.0\",\"source\":\"s\",\"type\":\"t\"}", "no id"},
        {"{\"specversion\":\"1.0\",\"id\":\"\",\"source\":\"s\",\"type\":\"t\"}", "id"},
        {"{\"specversion\":\"1.0\",\"id\":7,\"source\":\"s\",\"type\":\"t\"}", "id"},
        {HEAD ",\"time\":\"yesterday\"}", "RFC 3339"},
        {HEAD ",\"a\":{}}", "attribute a"},
        {HEAD ",\"a\":[1]}", "attribute a"},
        {HEAD ",\"a\":1.5}", "32-bit"},
        {HEAD ",\"a\":2147483648}", "32-bit"},
        {HEAD ",\"A\":1}", "'A'"},
        {HEAD ",\"a\":\"x\\u0000y\"}", "zero"},
        {HEAD ",\"data\":1,\"data_base64\":\"AA==\"}", "both"},
        {HEAD ",\"data_base64\":\"A\"}", "base64"},
        {HEAD ",\"data_base64\":\"AB==\"}", "base64"},
        {HEAD ",\"data_base64\":1}", "base64"},
        {HEAD ",\"subject\":{}}", "subject"},
        {HEAD ",\"d\\u0061ta\":1}", "escapes"},
        {HEAD "} x", "not JSON"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        hr_buffer packed = {0};
        hr_error err = {0};
        hr_code code = hr_envelope_from_json(hr_slice_text(table[i].json), &packed, &err);
        if (code != HR_E_MALFORMED || strstr(err.text, table[i].reason) == NULL) {
            print_error("%s\n%d %s\n", table[i].json, (int)code, err.text);
        }
        assert_int_equal(code, HR_E_MALFORMED);
        assert_int_equal(err.code, HR_E_MALFORMED);
        assert_non_null(strstr(err.text, table[i].reason));
        assert_int_equal(packed.size, 0);
        hr_buffer_fini(&packed);
    }
}

static void cut_json_is_refused_anywhere(void **state) {
    (void)state;
    const char *json =
        HEAD ",\"time\":\"2026-03-29T04:30:00Z\",\"x\":true,\"data\":{\"a\":[\"\\\"\"]}}";
    size_t size = strlen(json);
    for (size_t cut = 0; cut < size; cut++) {
        char *exact = hr_copy_bytes(json, cut);
        hr_buffer packed = {0};
        assert_int_equal(hr_envelope_from_json(hr_slice_of(exact, cut), &packed, NULL),
                         HR_E_MALFORMED);
        hr_buffer_fini(&packed);
        hr_free(exact);
    }
}

static void data_that_only_claims_to_be_json_goes_as_base64(void **state) {
    (void)state;
    hr_fields fields = {.id = hr_slice_text("1"),
                        .source = hr_slice_text("s"),
                        .type = hr_slice_text("t"),
                        .content_type = hr_slice_text("application/json"),
                        .data = hr_slice_text("{broken"),
                        .has_data = true};
    hr_buffer packed = {0}, text = {0};
    assert_int_equal(hr_envelope_pack(&fields, &packed, NULL), HR_OK);
    hr_envelope_print_json(hr_slice_of(packed.bytes, packed.size), &text);
    assert_string_equal(hr_buffer_text(&text), HEAD ",\"datacontenttype\":\"application/json\","
                                                    "\"data_base64\":\"e2Jyb2tlbg==\"}");
    hr_buffer_fini(&packed);
    hr_buffer_fini(&text);
}

static void attributes_print_as_cloudevents_text(void **state) {
    (void)state;
    const hr_attribute table[] = {
        {.type = HR_ATTRIBUTE_BOOLEAN, .number = 1},
        {.type = HR_ATTRIBUTE_INTEGER, .number = -5},
        {.type = HR_ATTRIBUTE_STRING, .text = hr_slice_text("a")},
        {.type = HR_ATTRIBUTE_BYTES, .text = hr_slice_text("\xFF\x01")},
        {.type = HR_ATTRIBUTE_TIMESTAMP, .number = 1},
    };
    hr_buffer out = {0};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        hr_attribute_print(&table[i], &out);
        hr_buffer_add(&out, "|", 1);
    }
    assert_string_equal(hr_buffer_text(&out), "true|-5|a|/wE=|1970-01-01T00:00:00.000001Z|");
    hr_buffer_fini(&out);
}

static void foreign_text_is_escaped(void **state) {
    (void)state;
    hr_buffer out = {0};
    hr_json_add_text(&out, hr_slice_of("a\"\\\n\x01\x7F\xC3\xBC\xFFz\0", 11));
    assert_string_equal(hr_buffer_text(&out),
                        "\"a\\\"\\\\\\n\\u0001\\u007f\xC3\xBC\xEF\xBF\xBDz\\u0000\"");
    hr_buffer_fini(&out);
}

static void raw_members_are_found(void **state) {
    (void)state;
    static const struct {
        const char *json, *raw;
    } table[] = {
        {"{}", ""},
        {" { } ", ""},
        {"{\"a\":1}", "1"},
        {"{ \"b\" : {\"a\":2} , \"a\" : [ \"]\" ] }", "[ \"]\" ]"},
        {"{\"a\":\"x\\\\\",\"b\":1}", "\"x\\\\\""},
        {"{\"a\":1,\"a\":true}", "true"},
        {"{\"b\":\"\\\"a\\\":5\"}", ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        assert_true(
            hr_slice_is(hr_json_raw_member(hr_slice_text(table[i].json), "a"), table[i].raw));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_back_as_they_went_in),
        cmocka_unit_test(the_data_of_json_stays_as_written_and_is_called_json),
        cmocka_unit_test(what_is_no_event_is_refused_with_a_reason),
        cmocka_unit_test(cut_json_is_refused_anywhere),
        cmocka_unit_test(data_that_only_claims_to_be_json_goes_as_base64),
        cmocka_unit_test(attributes_print_as_cloudevents_text),
        cmocka_unit_test(foreign_text_is_escaped),
        cmocka_unit_test(raw_members_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
