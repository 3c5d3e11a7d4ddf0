/* SPDX-License-Identifier: Apache-2.0 */
/* Records of a topic become events as the Kafka binding of CloudEvents says, or as they are. */
#include "core/json_text.h"
#include "triggers/json_form.h"
#include "triggers/kafka_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static hr_builder builder;
static hr_batch *batch;
static hr_error err;

static hr_slice text(const char *value) {
    return hr_slice_text(value);
}

/* Packs one record; header names and values alternate, NULL ends them. */
static hr_code pack(hr_kafka_format format, const char *key, const char *value,
                    const char *const *headers) {
    static hr_kafka_header list[80];
    hr_kafka_origin origin;
    hr_kafka_packer packer = {.format = format};
    hr_kafka_record record = {.offset = 42,
                              .time_ms = 1700000000123,
                              .key = text(key),
                              .value = text(value),
                              .has_key = key != NULL,
                              .has_value = value != NULL,
                              .headers = list};
    for (; headers != NULL && headers[record.header_count * 2] != NULL; record.header_count++) {
        size_t at = record.header_count * 2;
        list[record.header_count] =
            (hr_kafka_header){.name = text(headers[at]), .value = text(headers[at + 1])};
    }
    err = (hr_error){0};
    hr_kafka_origin_init(&origin, "in", "orders", 3);
    hr_code code = hr_kafka_pack(&packer, &origin, &record, 43, &builder, &err);
    hr_kafka_origin_fini(&origin);
    hr_kafka_packer_fini(&packer);
    hr_batch_unref(batch);
    batch = hr_builder_finish(&builder, 1, 0);
    return code;
}

static void assert_slice(hr_slice got, const char *expected) {
    if (!hr_slice_is(got, expected)) {
        fail_msg("'%.*s' is not '%s'", (int)got.size, (const char *)got.bytes, expected);
    }
}

static void assert_attribute(const char *name, const char *expected) {
    hr_attribute attribute;
    hr_buffer out = {0};
    bool is_there = hr_envelope_attribute(hr_batch_envelope(batch, 0), name, &attribute);
    if (expected == NULL) {
        assert_false(is_there);
        return;
    }
    assert_true(is_there);
    hr_attribute_print(&attribute, &out);
    assert_string_equal(hr_buffer_text(&out), expected);
    hr_buffer_fini(&out);
}

static void a_plain_record_names_its_place(void **state) {
    (void)state;
    assert_int_equal(pack(HR_KAFKA_AUTO, "k1", "hello", NULL), HR_OK);
    assert_int_equal(batch->count, 1);
    assert_int_equal(batch->position[0], 43);
    assert_slice(hr_batch_id(batch, 0), "orders/3/42");
    assert_slice(hr_batch_source(batch, 0), "kafka/in/orders");
    assert_slice(hr_batch_type(batch, 0), "kafka.record");
    assert_slice(hr_batch_subject(batch, 0), "orders");
    assert_slice(hr_batch_key(batch, 0), "k1");
    assert_slice(hr_batch_data(batch, 0), "hello");
    assert_attribute("time", "2023-11-14T22:13:20.123000Z");
}

static void the_content_type_is_guessed(void **state) {
    (void)state;
    static const struct {
        hr_kafka_format format;
        const char *value, *header, *expected;
    } table[] = {
        {HR_KAFKA_AUTO, "{\"a\":1}", NULL, "application/json"},
        {HR_KAFKA_AUTO, " \n[1,2]", NULL, "application/json"},
        {HR_KAFKA_AUTO, "{\"a\":", NULL, "text/plain"},
        {HR_KAFKA_AUTO, "12", NULL, "text/plain"},
        {HR_KAFKA_AUTO, "\xff\xfe", NULL, "application/octet-stream"},
        {HR_KAFKA_AUTO, "{}", "text/css", "text/css"},
        {HR_KAFKA_RAW, "{\"a\":1}", NULL, "application/octet-stream"},
        {HR_KAFKA_RAW, "<a/>", "text/xml", "text/xml"},
        {HR_KAFKA_JSON, "12", NULL, "application/json"},
        {HR_KAFKA_AUTO, NULL, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const char *headers[] = {"Content-Type", table[i].header, NULL};
        assert_int_equal(
            pack(table[i].format, NULL, table[i].value, table[i].header == NULL ? NULL : headers),
            HR_OK);
        assert_attribute("datacontenttype", table[i].expected);
        assert_slice(hr_batch_data(batch, 0), table[i].value == NULL ? "" : table[i].value);
    }
}

static void keys_that_are_no_text_become_hexadecimal(void **state) {
    (void)state;
    assert_int_equal(pack(HR_KAFKA_AUTO, "\xff\x01", "x", NULL), HR_OK);
    assert_slice(hr_batch_key(batch, 0), "ff01");
    assert_int_equal(pack(HR_KAFKA_AUTO, NULL, "x", NULL), HR_OK);
    assert_slice(hr_batch_key(batch, 0), "");
    assert_int_equal(batch->view[0].key_hash, 0);
}

static void other_headers_become_attributes(void **state) {
    (void)state;
    const char *headers[] = {"traceparent", "00-1", "X-Bad", "no",       "id", "not mine",
                             "subject",     "no",   "bin",   "\xff\xff", NULL};
    assert_int_equal(pack(HR_KAFKA_AUTO, "k", "x", headers), HR_OK);
    assert_attribute("traceparent", "00-1");
    assert_attribute("bin", NULL);
    assert_slice(hr_batch_id(batch, 0), "orders/3/42");
    assert_slice(hr_batch_subject(batch, 0), "orders");
}

static void binary_cloudevents_are_taken_as_they_say(void **state) {
    (void)state;
    const char *headers[] = {"ce_specversion",
                             "1.0",
                             "ce_id",
                             "e1",
                             "ce_source",
                             "/shop",
                             "ce_type",
                             "order.new",
                             "ce_time",
                             "2026-01-02T03:04:05Z",
                             "ce_color",
                             "red",
                             "content-type",
                             "application/json",
                             "traceparent",
                             "00-2",
                             NULL};
    assert_int_equal(pack(HR_KAFKA_AUTO, "k", "{\"n\":1}", headers), HR_OK);
    assert_slice(hr_batch_id(batch, 0), "e1");
    assert_slice(hr_batch_source(batch, 0), "/shop");
    assert_slice(hr_batch_type(batch, 0), "order.new");
    assert_slice(hr_batch_key(batch, 0), "k");
    assert_attribute("time", "2026-01-02T03:04:05.000000Z");
    assert_attribute("color", "red");
    assert_attribute("traceparent", "00-2");
    assert_attribute("datacontenttype", "application/json");
    assert_int_equal(pack(HR_KAFKA_RAW, "k", "{\"n\":1}", headers), HR_OK);
    assert_slice(hr_batch_id(batch, 0), "orders/3/42");
}

static void structured_cloudevents_get_the_records_key(void **state) {
    (void)state;
    const char *headers[] = {"content-type", "application/cloudevents+json; charset=UTF-8", NULL};
    assert_int_equal(pack(HR_KAFKA_AUTO, "k9",
                          "{\"specversion\":\"1.0\",\"id\":\"s1\",\"source\":\"/s\",\"type\":\"t\","
                          "\"data\":{\"a\":1}}",
                          headers),
                     HR_OK);
    assert_slice(hr_batch_id(batch, 0), "s1");
    assert_slice(hr_batch_key(batch, 0), "k9");
    assert_slice(hr_batch_data(batch, 0), "{\"a\":1}");
    assert_int_equal(pack(HR_KAFKA_AUTO, "k9",
                          "{\"specversion\":\"1.0\",\"id\":\"s1\",\"source\":\"/s\",\"type\":\"t\","
                          "\"partitionkey\":\"own\"}",
                          headers),
                     HR_OK);
    assert_slice(hr_batch_key(batch, 0), "own");
}

static void what_cannot_be_an_event_is_malformed(void **state) {
    (void)state;
    static const char *const no_id[] = {"ce_specversion", "1.0", "ce_source", "/s",
                                        "ce_type",        "t",   NULL};
    static const char *const version[] = {"ce_specversion", "2.0", "ce_id", "1", NULL};
    static const char *const bad_time[] = {"ce_specversion", "1.0", "ce_time", "noon", NULL};
    static const char *const json[] = {"content-type", "application/cloudevents+json", NULL};
    static const struct {
        hr_kafka_format format;
        const char *value;
        const char *const *headers;
        const char *why;
    } table[] = {
        {HR_KAFKA_JSON, "{", NULL, "not JSON"},
        {HR_KAFKA_JSON, "", NULL, "not JSON"},
        {HR_KAFKA_JSON, NULL, NULL, "tombstone"},
        {HR_KAFKA_AUTO, "x", no_id, "ce_id is missing"},
        {HR_KAFKA_AUTO, "x", version, "ce_specversion"},
        {HR_KAFKA_AUTO, "x", bad_time, "ce_time"},
        {HR_KAFKA_AUTO, "{\"id\":1}", json, ""},
        {HR_KAFKA_AUTO, NULL, json, ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_int_equal(pack(table[i].format, "k", table[i].value, table[i].headers),
                         HR_E_MALFORMED);
        assert_null(batch);
        if (strstr(err.text, table[i].why) == NULL) {
            fail_msg("'%s' does not say '%s'", err.text, table[i].why);
        }
    }
}

static void a_full_batch_is_no_fault_of_the_record(void **state) {
    (void)state;
    hr_kafka_origin origin;
    hr_kafka_packer packer = {.format = HR_KAFKA_AUTO};
    hr_kafka_record record = {.value = text("x"), .has_value = true};
    hr_kafka_origin_init(&origin, "in", "orders", 0);
    for (uint32_t i = 0; i < HR_BATCH_MAX; i++) {
        record.offset = i;
        assert_int_equal(hr_kafka_pack(&packer, &origin, &record, i + 1, &builder, &err), HR_OK);
    }
    assert_int_equal(hr_kafka_pack(&packer, &origin, &record, 2000, &builder, &err),
                     HR_E_TOO_LARGE);
    hr_batch_unref(batch);
    batch = hr_builder_finish(&builder, 1, 0);
    assert_int_equal(batch->count, HR_BATCH_MAX);
    hr_kafka_origin_fini(&origin);
    hr_kafka_packer_fini(&packer);
}

static void json_is_told_as_the_parser_tells_it(void **state) {
    (void)state;
    static const char *const table[] = {"{}",
                                        "[]",
                                        "{\"a\":1}",
                                        "[1,2,[3,{\"b\":null}],true]",
                                        " 1 ",
                                        "-0.5e+10",
                                        "\"\\u00e9\\n\"",
                                        "",
                                        " ",
                                        "{",
                                        "}",
                                        "[1,]",
                                        "[,1]",
                                        "{\"a\"}",
                                        "{\"a\":}",
                                        "{\"a\":1,}",
                                        "{a:1}",
                                        "01",
                                        "-",
                                        "1.",
                                        ".5",
                                        "1e",
                                        "+1",
                                        "\"",
                                        "\"\\x\"",
                                        "\"\\u12\"",
                                        "\"\x01\"",
                                        "tru",
                                        "nul",
                                        "[1 2]",
                                        "[1]]",
                                        "[1}",
                                        "{\"a\":[1}]",
                                        "1 1",
                                        "\"\xff\"",
                                        "[\"a\",\"b\"",
                                        "{\"a\":{\"b\":[]}} ",
                                        "\\",
                                        "{\"a\" : [ ] , \"b\" : { } }",
                                        "{\"a\":1 \"b\":2}",
                                        "[\"\\\"]",
                                        "\xc3\xa9"};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (hr_json_is_formed(text(table[i])) != hr_json_is_valid(text(table[i]))) {
            fail_msg("'%s' is told wrongly", table[i]);
        }
    }
    char deep[600];
    memset(deep, '[', 300);
    memset(deep + 300, ']', 300);
    assert_false(hr_json_is_formed(hr_slice_of(deep, 600)));
    assert_true(hr_json_is_formed(hr_slice_of(deep + 44, 512)));
}

static int tear_down(void **state) {
    (void)state;
    hr_batch_unref(batch);
    batch = NULL;
    hr_builder_fini(&builder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_record_names_its_place),
        cmocka_unit_test(the_content_type_is_guessed),
        cmocka_unit_test(keys_that_are_no_text_become_hexadecimal),
        cmocka_unit_test(other_headers_become_attributes),
        cmocka_unit_test(binary_cloudevents_are_taken_as_they_say),
        cmocka_unit_test(structured_cloudevents_get_the_records_key),
        cmocka_unit_test(what_cannot_be_an_event_is_malformed),
        cmocka_unit_test(a_full_batch_is_no_fault_of_the_record),
        cmocka_unit_test(json_is_told_as_the_parser_tells_it),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
