/* SPDX-License-Identifier: Apache-2.0 */
/* Our side of the talk with the official Go SDK: "write" puts a batch message of known events on
 * stdout, "read" takes one from stdin and says what it holds, a line a fact. */
#include "core/base64.h"
#include "core/envelope.h"
#include "core/memory.h"

#include <stdio.h>

#define TEXT(literal)                                                                              \
    { (const uint8_t *)(literal), sizeof(literal) - 1 }

static const hr_attribute extensions[] = {
    {.name = TEXT("flag"), .type = HR_ATTRIBUTE_BOOLEAN, .number = 1},
    {.name = TEXT("off"), .type = HR_ATTRIBUTE_BOOLEAN, .number = 0},
    {.name = TEXT("least"), .type = HR_ATTRIBUTE_INTEGER, .number = INT32_MIN},
    {.name = TEXT("most"), .type = HR_ATTRIBUTE_INTEGER, .number = INT32_MAX},
    {.name = TEXT("zero"), .type = HR_ATTRIBUTE_INTEGER, .number = 0},
    {.name = TEXT("text"), .type = HR_ATTRIBUTE_STRING, .text = TEXT("gr\xC3\xBC\xC3\x9F\n")},
    {.name = TEXT("raw"), .type = HR_ATTRIBUTE_BYTES, .text = TEXT("\x00\xFF\x80")},
    {.name = TEXT("where"), .type = HR_ATTRIBUTE_URI, .text = TEXT("https://a.b/c?d=1#e")},
    {.name = TEXT("ref"), .type = HR_ATTRIBUTE_URI_REF, .text = TEXT("../x")},
    {.name = TEXT("when"), .type = HR_ATTRIBUTE_TIMESTAMP, .number = INT64_C(1774751400123456)},
    {.name = TEXT("before"), .type = HR_ATTRIBUTE_TIMESTAMP, .number = -1},
};

static const hr_fields events[] = {
    {.id = TEXT("full"),
     .source = TEXT("/plant/7"),
     .type = TEXT("com.example.reading"),
     .subject = TEXT("oven"),
     .content_type = TEXT("application/json"),
     .schema = TEXT("https://example.com/reading.json"),
     .partition_key = TEXT("oven-7"),
     .time_us = INT64_C(1774751400123456),
     .data = TEXT("{\"celsius\":21.5}"),
     .has_data = true,
     .extensions = extensions,
     .extension_count = sizeof extensions / sizeof *extensions},
    {.id = TEXT("least"), .source = TEXT("s"), .type = TEXT("t")},
    {.id = TEXT("text"),
     .source = TEXT("s"),
     .type = TEXT("t"),
     .content_type = TEXT("text/plain"),
     .data = TEXT("gr\xC3\xBC\xC3\x9F"),
     .has_data = true,
     .data_is_text = true},
    {.id = TEXT("bytes"),
     .source = TEXT("s"),
     .type = TEXT("t"),
     .content_type = TEXT("image/png"),
     .data = TEXT("\x89PNG\x00\xFF"),
     .has_data = true},
};

static int write_events(void) {
    hr_buffer message = {0}, one = {0};
    hr_error err;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        one.size = 0;
        if (hr_envelope_pack(&events[i], &one, &err) != HR_OK) {
            fprintf(stderr, "pack: %s\n", err.text);
            return 1;
        }
        hr_envelope_batch_add(&message, hr_slice_of(one.bytes, one.size));
    }
    one.size = 0; /* and one that came as JSON */
    hr_slice json = hr_slice_text("{\"specversion\":\"1.0\",\"id\":\"json\",\"source\":\"s\","
                                  "\"type\":\"t\",\"n\":5,\"data\":{\"a\": [1, 2.0]}}");
    if (hr_envelope_from_json(json, &one, &err) != HR_OK) {
        fprintf(stderr, "from JSON: %s\n", err.text);
        return 1;
    }
    hr_envelope_batch_add(&message, hr_slice_of(one.bytes, one.size));
    bool written = fwrite(message.bytes, 1, message.size, stdout) == message.size;
    hr_buffer_fini(&one);
    hr_buffer_fini(&message);
    return written ? 0 : 1;
}

static void print_fact(const char *name, hr_slice value) {
    printf("%s %.*s\n", name, (int)value.size, (const char *)value.bytes);
}

static void print_event(hr_slice envelope, const hr_view *view) {
    static const char *const types[] = {"",      "boolean", "integer", "string",
                                        "bytes", "uri",     "uriref",  "timestamp"};
    const uint8_t *bytes = envelope.bytes;
    print_fact("id", hr_slice_of(bytes + view->id_at, view->id_size));
    print_fact("source", hr_slice_of(bytes + view->source_at, view->source_size));
    print_fact("type", hr_slice_of(bytes + view->type_at, view->type_size));
    print_fact("subject", hr_slice_of(bytes + view->subject_at, view->subject_size));
    print_fact("key", hr_slice_of(bytes + view->key_at, view->key_size));
    hr_attribute attribute;
    size_t cursor = 0;
    hr_buffer text = {0};
    while (hr_envelope_next_attribute(envelope, &cursor, &attribute)) {
        text.size = 0;
        hr_attribute_print(&attribute, &text);
        printf("attribute %.*s %s %s\n", (int)attribute.name.size,
               (const char *)attribute.name.bytes, types[attribute.type], hr_buffer_text(&text));
    }
    text.size = 0;
    hr_base64_add(&text, hr_slice_of(bytes + view->data_at, view->data_size));
    printf("data %s%s%s %s\n", (view->flags & HR_VIEW_DATA) != 0 ? "yes" : "no",
           (view->flags & HR_VIEW_TEXT) != 0 ? ",text" : "",
           (view->flags & HR_VIEW_JSON) != 0 ? ",json" : "", hr_buffer_text(&text));
    text.size = 0;
    hr_envelope_print_json(envelope, &text);
    printf("json %s\n\n", hr_buffer_text(&text));
    hr_buffer_fini(&text);
}

static int read_events(void) {
    hr_buffer message = {0};
    size_t got;
    while ((got = fread(hr_buffer_room(&message, 65536), 1, 65536, stdin)) > 0) {
        message.size += got;
    }
    hr_error err = {0};
    hr_slice all = hr_slice_of(message.bytes, message.size), envelope;
    size_t cursor = 0;
    hr_code code = hr_envelope_batch_next(all, &cursor, &envelope, &err);
    while (code == HR_OK && envelope.bytes != NULL) {
        hr_view view;
        code = hr_envelope_view(envelope.bytes, 0, (uint32_t)envelope.size, &view, &err);
        if (code == HR_OK) {
            print_event(envelope, &view);
            code = hr_envelope_batch_next(all, &cursor, &envelope, &err);
        }
    }
    hr_buffer_fini(&message);
    if (code != HR_OK) {
        fprintf(stderr, "read: %s\n", err.text);
    }
    return code == HR_OK ? 0 : 1;
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "write") == 0) {
        return write_events();
    }
    if (count == 2 && strcmp(arguments[1], "read") == 0) {
        return read_events();
    }
    fprintf(stderr, "usage: peer write | peer read\n");
    return 2;
}
