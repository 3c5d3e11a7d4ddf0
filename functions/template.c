/* SPDX-License-Identifier: Apache-2.0 */
#include "functions/template.h"

#include "core/envelope.h"
#include "core/json_text.h"
#include "core/memory.h"

#include <jansson.h>

static json_t *parse(hr_slice envelope) {
    hr_buffer text = {0};
    hr_envelope_print_json(envelope, &text);
    hr_slice whole = hr_slice_of(text.bytes, text.size);
    json_t *json = hr_json_load(whole, JSON_ALLOW_NUL, NULL);
    if (json == NULL) { /* an integer beyond 64 bits: none is exact then */
        json = hr_json_load(whole, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    }
    hr_buffer_fini(&text);
    return json;
}

static const json_t *find(const json_t *event, const char *path, size_t size) {
    const json_t *at = event;
    const char *end = path + size;
    for (;;) {
        const char *dot = memchr(path, '.', (size_t)(end - path));
        char *name = hr_copy_bytes(path, (size_t)((dot == NULL ? end : dot) - path));
        at = json_object_get(at, name);
        hr_free(name);
        if (dot == NULL || at == NULL) {
            return at;
        }
        path = dot + 1;
    }
}

static void print_value(const json_t *value, int digits, hr_buffer *out) {
    if (json_is_string(value)) {
        hr_buffer_add(out, json_string_value(value), json_string_length(value));
    } else if (json_is_number(value) && digits >= 0) {
        hr_buffer_print(out, "%.*f", digits, json_number_value(value));
    } else if (json_is_real(value)) {
        hr_buffer_print(out, "%.15g", json_real_value(value));
    } else if (value != NULL && !json_is_null(value)) {
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        hr_buffer_print(out, "%s", text == NULL ? "" : text);
        hr_free(text);
    }
}

static void print_event(const char *template, const json_t *event, hr_buffer *out) {
    for (const char *at = template; *at != '\0'; at++) {
        const char *end = *at == '{' ? strchr(at, '}') : NULL;
        if ((*at == '{' || *at == '}') && at[1] == *at) {
            hr_buffer_add(out, at++, 1);
        } else if (end != NULL) {
            size_t size = (size_t)(end - at - 1);
            const char *colon = memchr(at + 1, ':', size);
            size_t path = colon == NULL ? size : (size_t)(colon - at - 1);
            int digits = -1;
            if (colon != NULL && colon[1] == '.' && colon[2] >= '0' && colon[2] <= '9') {
                digits = colon[2] - '0';
            }
            print_value(find(event, at + 1, path), digits, out);
            at = end;
        } else {
            hr_buffer_add(out, at, 1);
        }
    }
}

void hr_template_print(const char *template, hr_slice envelope, hr_buffer *out) {
    json_t *event = parse(envelope);
    print_event(template, event, out);
    json_decref(event);
}
