/* SPDX-License-Identifier: Apache-2.0 */
#include "core/json_text.h"

#include "core/utf8.h"

#include <jansson.h>

/* Appends one ASCII character in the form it has inside a JSON string. */
static void add_escaped(hr_buffer *out, uint8_t c) {
    switch (c) {
    case '"':
        hr_buffer_add(out, "\\\"", 2);
        break;
    case '\\':
        hr_buffer_add(out, "\\\\", 2);
        break;
    case '\n':
        hr_buffer_add(out, "\\n", 2);
        break;
    case '\r':
        hr_buffer_add(out, "\\r", 2);
        break;
    case '\t':
        hr_buffer_add(out, "\\t", 2);
        break;
    default:
        hr_buffer_print(out, "\\u%04x", c);
        break;
    }
}

void hr_json_add_text(hr_buffer *out, hr_slice text) {
    hr_buffer_add(out, "\"", 1);
    size_t at = 0;
    while (at < text.size) {
        size_t good = at + hr_utf8_prefix(hr_slice_of(text.bytes + at, text.size - at));
        size_t start = at;
        for (; at < good; at++) {
            uint8_t c = text.bytes[at];
            if (c < 0x20 || c == '"' || c == '\\' || c == 0x7F) {
                hr_buffer_add(out, text.bytes + start, at - start);
                add_escaped(out, c);
                start = at + 1;
            }
        }
        hr_buffer_add(out, text.bytes + start, at - start);
        if (at < text.size) {
            hr_buffer_add(out, "\xEF\xBF\xBD", 3);
            at++;
        }
    }
    hr_buffer_add(out, "\"", 1);
}

static bool is_space(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Where the string that begins at its quote ends (behind the closing quote). */
static size_t skip_string(hr_slice json, size_t at) {
    for (at++; at < json.size && json.bytes[at] != '"'; at++) {
        at += json.bytes[at] == '\\' ? 1 : 0;
    }
    return at < json.size ? at + 1 : json.size;
}

void hr_json_add_compact(hr_buffer *out, hr_slice valid_json) {
    size_t at = 0;
    while (at < valid_json.size) {
        size_t start = at;
        while (at < valid_json.size && !is_space(valid_json.bytes[at])) {
            at = valid_json.bytes[at] == '"' ? skip_string(valid_json, at) : at + 1;
        }
        hr_buffer_add(out, valid_json.bytes + start, at - start);
        while (at < valid_json.size && is_space(valid_json.bytes[at])) {
            at++;
        }
    }
}

struct json_t *hr_json_load(hr_slice json, size_t flags, struct json_error_t *out_wrong) {
    json_error_t wrong = {.line = 1, .column = 1};
    const uint8_t *zero = json.size == 0 ? NULL : memchr(json.bytes, 0, json.size);
    if (zero == NULL) {
        return json_loadb(json.size == 0 ? "" : (const char *)json.bytes, json.size, flags,
                          out_wrong);
    }
    for (const uint8_t *at = json.bytes; at < zero; at++) {
        wrong.column = *at == '\n' ? 1 : wrong.column + 1;
        wrong.line += *at == '\n' ? 1 : 0;
    }
    wrong.position = (int)(zero - json.bytes);
    memcpy(wrong.text, "a zero byte", sizeof "a zero byte");
    if (out_wrong != NULL) {
        *out_wrong = wrong;
    }
    return NULL;
}

bool hr_json_is_valid(hr_slice json) {
    json_t *tree =
        hr_json_load(json, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    json_decref(tree);
    return tree != NULL;
}

static size_t skip_space(hr_slice json, size_t at) {
    while (at < json.size && is_space(json.bytes[at])) {
        at++;
    }
    return at;
}

/* Where the value at at ends. */
static size_t skip_value(hr_slice json, size_t at) {
    size_t depth = 0;
    while (at < json.size) {
        uint8_t c = json.bytes[at];
        if (c == '"') {
            at = skip_string(json, at);
            if (depth == 0) {
                return at;
            }
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}' || c == ']' || is_space(c))) {
            return at;
        }
        at++;
        if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return at;
        }
    }
    return at;
}

hr_slice hr_json_raw_member(hr_slice valid_object, const char *name) {
    hr_slice found = hr_slice_of(NULL, 0);
    hr_slice json = valid_object;
    size_t at = skip_space(json, 0) + 1; /* behind the brace */
    for (;;) {
        at = skip_space(json, at);
        if (at >= json.size || json.bytes[at] != '"') {
            return found;
        }
        size_t key = at + 1;
        at = skip_string(json, at);
        bool is_wanted = hr_slice_is(hr_slice_of(json.bytes + key, at - 1 - key), name);
        at = skip_space(json, skip_space(json, at) + 1); /* over the colon */
        size_t end = skip_value(json, at);
        if (end > json.size || end < at) {
            return found;
        }
        if (is_wanted) {
            found = hr_slice_of(json.bytes + at, end - at);
        }
        at = skip_space(json, end) + 1; /* over the comma */
    }
}
