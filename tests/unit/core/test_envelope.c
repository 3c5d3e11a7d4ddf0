/* SPDX-License-Identifier: Apache-2.0 */
#include "core/envelope.h"
#include "core/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after what it needs: */
#include <cmocka.h>

#define TEXT(literal)                                                                              \
    { (const uint8_t *)(literal), sizeof(literal) - 1 }

static const hr_attribute all_types[] = {
    {.name = TEXT("flag"), .type = HR_ATTRIBUTE_BOOLEAN, .number = 1},
    {.name = TEXT("off"), .type = HR_ATTRIBUTE_BOOLEAN, .number = 0},
    {.name = TEXT("least"), .type = HR_ATTRIBUTE_INTEGER, .number = INT32_MIN},
    {.name = TEXT("most"), .type = HR_ATTRIBUTE_INTEGER, .number = INT32_MAX},
    {.name = TEXT("with_line"), .type = HR_ATTRIBUTE_STRING, .text = TEXT("gr\xC3\xBC\xC3\x9F")},
    {.name = TEXT("raw"), .type = HR_ATTRIBUTE_BYTES, .text = TEXT("\x00\xFF\x80")},
    {.name = TEXT("where"), .type = HR_ATTRIBUTE_URI, .text = TEXT("https://a.b/c")},
    {.name = TEXT("ref"), .type = HR_ATTRIBUTE_URI_REF, .text = TEXT("../x")},
    {.name = TEXT("when"), .type = HR_ATTRIBUTE_TIMESTAMP, .number = INT64_C(1774751400123456)},
    {.name = TEXT("before"), .type = HR_ATTRIBUTE_TIMESTAMP, .number = -1},
    {.name = TEXT("empty"), .type = HR_ATTRIBUTE_STRING, .text = TEXT("")},
};
enum { ALL_TYPES = sizeof all_types / sizeof *all_types };

static const hr_fields sample = {
    .id = TEXT("A-1"),
    .source = TEXT("/plant/7"),
    .type = TEXT("com.example.reading"),
    .subject = TEXT("oven"),
    .content_type = TEXT("application/json"),
    .schema = TEXT("https://example.com/reading.json"),
    .partition_key = TEXT("oven-7"),
    .time_us = INT64_C(1774751400123456),
    .data = TEXT("{\"celsius\":21.5}"),
    .has_data = true,
    .extensions = all_types,
    .extension_count = ALL_TYPES,
};

static hr_slice whole(const hr_buffer *buffer) {
    return hr_slice_of(buffer->bytes, buffer->size);
}

static hr_code view_of(hr_slice envelope, hr_view *out, hr_error *err) {
    /* In memory of exactly its size, so that a sanitizer sees each byte read too far. */
    char *exact = hr_alloc(envelope.size == 0 ? 1 : envelope.size);
    memcpy(exact, envelope.bytes, envelope.size);
    hr_code code = hr_envelope_view((const uint8_t *)exact, 0, (uint32_t)envelope.size, out, err);
    if (code == HR_OK) { /* what was accepted can be walked and printed */
        hr_buffer text = {0};
        hr_envelope_print_json(hr_slice_of(exact, envelope.size), &text);
        assert_true(text.size > 0);
        hr_buffer_fini(&text);
    }
    hr_free(exact);
    return code;
}

static void the_view_finds_what_was_packed(void **state) {
    (void)state;
    hr_buffer out = {0};
    hr_buffer_add(&out, "before", 6);
    hr_view view;
    hr_error err;
    assert_int_equal(hr_envelope_pack_view(&sample, &out, &view, &err), HR_OK);
    assert_int_equal(view.at, 6);
    assert_int_equal(view.at + view.size, out.size);
    const uint8_t *bytes = out.bytes;
    assert_true(hr_slice_is(hr_slice_of(bytes + view.id_at, view.id_size), "A-1"));
    assert_true(hr_slice_is(hr_slice_of(bytes + view.source_at, view.source_size), "/plant/7"));
    assert_true(
        hr_slice_is(hr_slice_of(bytes + view.type_at, view.type_size), "com.example.reading"));
    assert_true(hr_slice_is(hr_slice_of(bytes + view.subject_at, view.subject_size), "oven"));
    assert_true(hr_slice_is(hr_slice_of(bytes + view.key_at, view.key_size), "oven-7"));
    assert_true(
        hr_slice_is(hr_slice_of(bytes + view.data_at, view.data_size), "{\"celsius\":21.5}"));
    assert_int_equal(view.flags, HR_VIEW_DATA | HR_VIEW_JSON);
    assert_int_equal(view.key_hash, hr_hash(hr_slice_text("oven-7")));
    hr_buffer_fini(&out);
}

static void all_attribute_types_come_back(void **state) {
    (void)state;
    hr_buffer out = {0};
    assert_int_equal(hr_envelope_pack(&sample, &out, NULL), HR_OK);
    for (size_t i = 0; i < ALL_TYPES; i++) {
        const hr_attribute *expected = &all_types[i];
        char *name = hr_copy_bytes(expected->name.bytes, expected->name.size);
        hr_attribute found;
        assert_true(hr_envelope_attribute(whole(&out), name, &found));
        assert_int_equal(found.type, expected->type);
        assert_int_equal(found.number, expected->number);
        assert_true(hr_slice_equal(found.text, expected->text));
        hr_free(name);
    }
    hr_attribute time;
    assert_true(hr_envelope_attribute(whole(&out), "time", &time));
    assert_int_equal(time.number, sample.time_us);
    assert_false(hr_envelope_attribute(whole(&out), "absent", &time));
    size_t cursor = 0, count = 0;
    while (hr_envelope_next_attribute(whole(&out), &cursor, &time)) {
        count++;
    }
    assert_int_equal(count, ALL_TYPES + 5);
    hr_buffer_fini(&out);
}

static void data_may_be_absent_empty_text_or_hold_zeros(void **state) {
    (void)state;
    hr_fields fields = {.id = TEXT("1"), .source = TEXT("s"), .type = TEXT("t")};
    hr_buffer out = {0};
    hr_view view;
    assert_int_equal(hr_envelope_pack_view(&fields, &out, &view, NULL), HR_OK);
    assert_int_equal(view.flags, 0);
    assert_int_equal(view.key_hash, 0);
    fields.has_data = true;
    assert_int_equal(hr_envelope_pack_view(&fields, &out, &view, NULL), HR_OK);
    assert_int_equal(view.flags, HR_VIEW_DATA);
    assert_int_equal(view.data_size, 0);
    fields.data_is_text = true;
    fields.data = (hr_slice)TEXT("[\0]");
    assert_int_equal(hr_envelope_pack_view(&fields, &out, &view, NULL), HR_OK);
    assert_int_equal(view.flags, HR_VIEW_DATA | HR_VIEW_TEXT | HR_VIEW_JSON);
    assert_int_equal(view.data_size, 3);
    fields.content_type = (hr_slice)TEXT("text/plain");
    assert_int_equal(hr_envelope_pack_view(&fields, &out, &view, NULL), HR_OK);
    assert_int_equal(view.flags, HR_VIEW_DATA | HR_VIEW_TEXT);
    hr_buffer_fini(&out);
}

static void a_wrong_field_is_refused_and_nothing_is_written(void **state) {
    (void)state;
    static const hr_attribute bad[] = {
        {.name = TEXT(""), .type = HR_ATTRIBUTE_STRING},
        {.name = TEXT("Upper"), .type = HR_ATTRIBUTE_STRING},
        {.name = TEXT("a-b"), .type = HR_ATTRIBUTE_STRING},
        {.name = TEXT("id"), .type = HR_ATTRIBUTE_STRING},
        {.name = TEXT("data"), .type = HR_ATTRIBUTE_STRING},
        {.name = TEXT("specversion"), .type = HR_ATTRIBUTE_STRING},
        {.name = TEXT("x"), .type = HR_ATTRIBUTE_STRING, .text = TEXT("\xC3")},
        {.name = TEXT("x"), .type = HR_ATTRIBUTE_STRING, .text = TEXT("a\0b")},
        {.name = TEXT("x"), .type = HR_ATTRIBUTE_INTEGER, .number = INT64_C(1) << 31},
        {.name = TEXT("x"), .type = (hr_attribute_type)9},
        {.name = TEXT("x"), .type = HR_ATTRIBUTE_TIMESTAMP, .number = INT64_MAX},
    };
    hr_buffer out = {0};
    hr_buffer_add(&out, "kept", 4);
    hr_fields fields = sample;
    hr_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fields.extensions = &bad[i];
        fields.extension_count = 1;
        assert_int_equal(hr_envelope_pack(&fields, &out, &err), HR_E_INVALID);
        assert_int_equal(err.code, HR_E_INVALID);
        assert_int_equal(out.size, 4);
    }
    fields = sample;
    fields.id = hr_slice_of(NULL, 0);
    assert_int_equal(hr_envelope_pack(&fields, &out, &err), HR_E_INVALID);
    assert_non_null(strstr(err.text, "no id"));
    fields = sample;
    fields.source = (hr_slice)TEXT("\xED\xA0\x80"); /* a surrogate */
    assert_int_equal(hr_envelope_pack(&fields, &out, &err), HR_E_INVALID);
    fields = sample;
    fields.data_is_text = true;
    fields.data = (hr_slice)TEXT("\xFF");
    assert_int_equal(hr_envelope_pack(&fields, &out, &err), HR_E_INVALID);
    assert_int_equal(out.size, 4);
    hr_buffer_fini(&out);
}

static void limits_are_kept(void **state) {
    (void)state;
    char *big = hr_alloc(HR_ENVELOPE_MAX + 1);
    memset(big, 'x', HR_ENVELOPE_MAX + 1);
    hr_buffer out = {0};
    hr_fields fields = {.id = TEXT("1"), .source = TEXT("s"), .type = TEXT("t"), .has_data = true};
    fields.data = hr_slice_of(big, HR_ENVELOPE_MAX + 1);
    assert_int_equal(hr_envelope_pack(&fields, &out, NULL), HR_E_TOO_LARGE);
    fields.data.size = HR_ENVELOPE_MAX; /* too large with what goes around it */
    assert_int_equal(hr_envelope_pack(&fields, &out, NULL), HR_E_TOO_LARGE);
    fields.data.size = HR_ENVELOPE_MAX - 100;
    fields.id = hr_slice_of(big, 50);
    assert_int_equal(hr_envelope_pack(&fields, &out, NULL), HR_OK);
    out.size = 0;
    fields.data.size = 0;
    fields.id = hr_slice_of(big, HR_ATTRIBUTE_VALUE_MAX);
    hr_view view;
    assert_int_equal(hr_envelope_pack_view(&fields, &out, &view, NULL), HR_OK);
    assert_int_equal(view.id_size, HR_ATTRIBUTE_VALUE_MAX);
    fields.id.size++;
    assert_int_equal(hr_envelope_pack(&fields, &out, NULL), HR_E_TOO_LARGE);
    fields.id.size = 1;
    fields.subject = hr_slice_of(big, HR_ATTRIBUTE_VALUE_MAX + 1);
    assert_int_equal(hr_envelope_pack(&fields, &out, NULL), HR_E_TOO_LARGE);
    fields.subject.size = 1;
    hr_attribute many[HR_ENVELOPE_ATTRIBUTES];
    for (size_t i = 0; i < HR_ENVELOPE_ATTRIBUTES; i++) {
        many[i] = (hr_attribute){.name = hr_slice_of(big, i + 1), .type = HR_ATTRIBUTE_BOOLEAN};
    }
    fields.extensions = many;
    fields.extension_count = HR_ENVELOPE_ATTRIBUTES; /* and the subject */
    assert_int_equal(hr_envelope_pack(&fields, &out, NULL), HR_E_TOO_LARGE);
    fields.extension_count--;
    assert_int_equal(hr_envelope_pack(&fields, &out, NULL), HR_OK);
    hr_buffer_fini(&out);
    hr_free(big);
}

static void cut_anywhere_it_is_refused_or_still_whole(void **state) {
    (void)state;
    hr_buffer out = {0};
    assert_int_equal(hr_envelope_pack(&sample, &out, NULL), HR_OK);
    size_t accepted = 0;
    for (size_t size = 0; size < out.size; size++) {
        hr_view view;
        hr_error err = {0};
        hr_code code = view_of(hr_slice_of(out.bytes, size), &view, &err);
        if (code != HR_OK) {
            assert_int_equal(code, HR_E_MALFORMED);
            assert_int_equal(err.code, HR_E_MALFORMED);
            assert_true(err.text[0] != '\0');
        }
        accepted += code == HR_OK ? 1 : 0;
    }
    /* A cut between two fields leaves an event with fewer attributes: only framing can tell. */
    assert_int_equal(accepted, ALL_TYPES + 5 + 1);
    hr_buffer_fini(&out);
}

static uint64_t random_next(uint64_t *seed) { /* xorshift64 */
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void flipped_bytes_never_lead_outside(void **state) {
    (void)state;
    hr_buffer out = {0};
    assert_int_equal(hr_envelope_pack(&sample, &out, NULL), HR_OK);
    uint64_t seed = UINT64_C(88172645463325252);
    size_t refused = 0;
    char *changed = hr_alloc(out.size);
    for (int round = 0; round < 20000; round++) {
        memcpy(changed, out.bytes, out.size);
        uint64_t flips = 1 + random_next(&seed) % 4;
        for (uint64_t i = 0; i < flips; i++) {
            changed[random_next(&seed) % out.size] = (char)random_next(&seed);
        }
        hr_view view;
        if (view_of(hr_slice_of(changed, out.size), &view, NULL) != HR_OK) {
            refused++;
            continue;
        }
        assert_in_range(view.data_at + view.data_size, 0, out.size);
        assert_in_range(view.id_at + view.id_size, 1, out.size);
        assert_in_range(view.key_at + view.key_size, 0, out.size);
        assert_in_range(view.subject_at + view.subject_size, 0, out.size);
    }
    assert_in_range(refused, 1000, 19999);
    hr_free(changed);
    hr_buffer_fini(&out);
}

static void random_bytes_never_lead_outside(void **state) {
    (void)state;
    uint64_t seed = 42;
    uint8_t bytes[64];
    for (int round = 0; round < 50000; round++) {
        size_t size = random_next(&seed) % sizeof bytes;
        for (size_t i = 0; i < size; i++) {
            uint64_t chance = random_next(&seed);
            bytes[i] = (uint8_t)(chance >> 32 & (chance % 3 == 0 ? 0xFF : 0x3F));
        }
        hr_view view;
        view_of(hr_slice_of(bytes, size), &view, NULL);
        hr_slice event;
        size_t cursor = 0;
        while (hr_envelope_batch_next(hr_slice_of(bytes, size), &cursor, &event, NULL) == HR_OK &&
               event.bytes != NULL) {
            assert_true(event.bytes + event.size <= bytes + size);
        }
    }
}

#define EVENT                                                                                      \
    "\x0A\x01i\x12\x01s\x1A\x03"                                                                   \
    "1.0"                                                                                          \
    "\x22\x01t"

static hr_code view_text(hr_slice envelope, hr_view *out) {
    return view_of(envelope, out, NULL);
}

static void hand_made_wire_is_judged_as_protobuf_says(void **state) {
    (void)state;
    hr_view view;
    hr_slice good[] = {
        TEXT(EVENT),
        TEXT(EVENT "\x48\x05"), /* unknown varint field 9 */
        TEXT(EVENT "\x51"
                   "12345678"), /* unknown fixed64 */
        TEXT(EVENT "\x55"
                   "1234"), /* unknown fixed32 */
        TEXT(EVENT "\x2A\x03\x0A\x01"
                   "a"), /* an attribute without a value */
        TEXT(EVENT "\x2A\x05\x0A\x01"
                   "a\x12\x00"),
        TEXT(EVENT "\x42\x00"), /* an empty Any */
        TEXT(EVENT "\x32\x00"), /* empty data */
        TEXT(EVENT "\x2A\x0B\x0A\x01"
                   "a\x12\x06\x3A\x04\x10\xFF\xFF\x03"),
        TEXT(EVENT "\x2A\x0A\x0A\x01"
                   "a\x12\x05\x1A\x01x\x08\x01"), /* of two values the last counts */
        TEXT("\x0A\x01x" EVENT),                  /* id twice: the last wins */
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(view_text(good[i], &view), HR_OK);
        assert_int_equal(good[i].bytes[view.id_at], 'i');
    }
    hr_slice bad[] = {
        TEXT(""),
        TEXT("\x0A\x01i\x12\x01s\x22\x01t"), /* no specversion */
        TEXT("\x0A\x01i\x12\x01s\x1A\x03"
             "2.0\x22\x01t"),
        TEXT("\x0A\x01i\x12\x01s\x1A\x03"
             "1.x\x22\x01t"),
        TEXT(EVENT "\x0A\x00"), /* the last id is empty */
        TEXT(EVENT "\x48"),
        TEXT(EVENT "\x51"
                   "1234567"),
        TEXT(EVENT "\x55"
                   "123"),
        TEXT(EVENT "\x4B\x4C"), /* a group */
        TEXT(EVENT "\x00\x00"), /* field 0 */
        TEXT(EVENT "\x08\x01"), /* id as a varint */
        TEXT(EVENT "\x32\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"),
        TEXT(EVENT "\x48\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02"),
        TEXT(EVENT "\x48\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
        TEXT(EVENT "\x2A\x02\x12\x00"), /* an attribute without a name */
        TEXT(EVENT "\x2A\x05\x0A\x01"
                   "A\x12\x00"),
        TEXT(EVENT "\x2A\x06\x0A\x02"
                   "id\x12\x00"),
        TEXT(EVENT "\x2A\x06\x0A\x01"
                   "a\x12\x01\x08"),
        TEXT(EVENT "\x2A\x13\x0A\x0C"
                   "partitionkey\x12\x02\x10\x05"), /* no text */
        TEXT(EVENT "\x2A\x08\x0A\x01"
                   "a\x12\x03\x1A\x02x"), /* the text of an attribute ends outside of it */
        TEXT(EVENT "\x2A\x09\x0A\x01"
                   "a\x12\x04\x1A\x01xy"),
        TEXT(EVENT "\x42\x02\x08\x01"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(view_text(bad[i], &view), HR_E_MALFORMED);
    }
    /* -1 nanoseconds */
    hr_slice nanos = TEXT(EVENT "\x2A\x12\x0A\x01"
                                "a\x12\x0D\x3A\x0B"
                                "\x10\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01");
    assert_int_equal(view_text(nanos, &view), HR_E_MALFORMED);
}

static void of_two_attributes_with_one_name_the_last_wins(void **state) {
    (void)state;
    hr_buffer out = {0};
    assert_int_equal(hr_envelope_pack(&sample, &out, NULL), HR_OK);
    hr_envelope_append_text(&out, "partitionkey", hr_slice_text("other"));
    hr_envelope_append_text(&out, "most", hr_slice_text("now a text"));
    hr_view view;
    assert_int_equal(view_of(whole(&out), &view, NULL), HR_OK);
    assert_int_equal(view.key_hash, hr_hash(hr_slice_text("other")));
    hr_attribute found;
    assert_true(hr_envelope_attribute(whole(&out), "most", &found));
    assert_int_equal(found.type, HR_ATTRIBUTE_STRING);
    assert_true(hr_slice_is(found.text, "now a text"));
    hr_buffer json = {0};
    hr_envelope_print_json(whole(&out), &json);
    const char *text = hr_buffer_text(&json);
    assert_non_null(strstr(text, "\"most\":\"now a text\""));
    assert_null(strstr(text, "2147483647"));
    assert_null(strstr(text, "oven-7"));
    hr_buffer_fini(&json);
    hr_buffer_fini(&out);
}

static void of_an_any_the_data_is_its_value(void **state) {
    (void)state;
    hr_slice event = TEXT(EVENT "\x42\x09\x0A\x03"
                                "t/m\x12\x02"
                                "xy");
    hr_view view;
    assert_int_equal(view_of(event, &view, NULL), HR_OK);
    assert_true(hr_slice_is(hr_slice_of(event.bytes + view.data_at, view.data_size), "xy"));
    assert_int_equal(view.flags, HR_VIEW_DATA);
}

static void a_batch_message_gives_its_events_back(void **state) {
    (void)state;
    hr_buffer message = {0}, one = {0};
    assert_int_equal(hr_envelope_pack(&sample, &one, NULL), HR_OK);
    hr_envelope_batch_add(&message, whole(&one));
    hr_envelope_batch_add(&message, (hr_slice)TEXT(EVENT));
    hr_slice event;
    size_t cursor = 0;
    assert_int_equal(hr_envelope_batch_next(whole(&message), &cursor, &event, NULL), HR_OK);
    assert_true(hr_slice_equal(event, whole(&one)));
    assert_int_equal(hr_envelope_batch_next(whole(&message), &cursor, &event, NULL), HR_OK);
    assert_true(hr_slice_is(event, EVENT));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hr_envelope_batch_next(whole(&message), &cursor, &event, NULL), HR_OK);
        assert_null(event.bytes);
    }
    message.size--;
    cursor = 0;
    assert_int_equal(hr_envelope_batch_next(whole(&message), &cursor, &event, NULL), HR_OK);
    assert_int_equal(hr_envelope_batch_next(whole(&message), &cursor, &event, NULL),
                     HR_E_MALFORMED);
    hr_buffer_fini(&message);
    hr_buffer_fini(&one);
}

static void json_media_types(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool is_json;
    } table[] = {
        {"application/json", true},
        {"Application/JSON; charset=utf-8", true},
        {"text/json ;a=b", true},
        {" application/cloudevents+json", true},
        {"application/vnd.x+JSON;q=1", true},
        {"+json", false},
        {"", false},
        {"application/jsonx", false},
        {"text/plain; x=application/json", false},
        {"application/protobuf", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        assert_int_equal(hr_content_type_is_json(hr_slice_text(table[i].text)), table[i].is_json);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_view_finds_what_was_packed),
        cmocka_unit_test(all_attribute_types_come_back),
        cmocka_unit_test(data_may_be_absent_empty_text_or_hold_zeros),
        cmocka_unit_test(a_wrong_field_is_refused_and_nothing_is_written),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(cut_anywhere_it_is_refused_or_still_whole),
        cmocka_unit_test(flipped_bytes_never_lead_outside),
        cmocka_unit_test(random_bytes_never_lead_outside),
        cmocka_unit_test(hand_made_wire_is_judged_as_protobuf_says),
        cmocka_unit_test(of_two_attributes_with_one_name_the_last_wins),
        cmocka_unit_test(of_an_any_the_data_is_its_value),
        cmocka_unit_test(a_batch_message_gives_its_events_back),
        cmocka_unit_test(json_media_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
