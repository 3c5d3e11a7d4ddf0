/* SPDX-License-Identifier: Apache-2.0 */
/* JSON without a tree: scanner and form checker agree with each other and with jansson. */
#include "core/json_text.h"
#include "streams/json_scan.h"
#include "tests/fuzz/fuzz.h"
#include "triggers/json_form.h"

#include <jansson.h>

static size_t depth_of(hr_slice json) { /* of a well-formed document */
    size_t depth = 0, most = 0;
    bool in_text = false;
    for (size_t i = 0; i < json.size; i++) {
        uint8_t c = json.bytes[i];
        if (in_text) {
            i += c == '\\';
            in_text = c != '"';
        } else if (c == '"') {
            in_text = true;
        } else if (c == '{' || c == '[') {
            most = ++depth > most ? depth : most;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return most;
}

static void scan(hr_slice path, hr_slice json, bool is_formed) {
    hr_json_paths *paths = hr_json_paths_new();
    static const char *const FIXED[] = {"$", "$.a", "$.a.b", "$[0]", "$.a[1]", "$.\"x y\""};
    hr_json_value values[7];
    hr_error err = {0};
    int slot, offset = 0;
    for (size_t i = 0; i < 6; i++) {
        FUZZ_CHECK(hr_json_paths_add(paths, hr_slice_text(FIXED[i]), &slot, &offset, &err) ==
                   HR_OK);
    }
    if (hr_json_paths_add(paths, path, &slot, &offset, &err) == HR_OK) {
        FUZZ_CHECK(hr_json_paths_find(paths, path) == slot);
    } else {
        FUZZ_CHECK(offset >= 0 && (size_t)offset <= path.size);
    }
    bool is_found = hr_json_scan(paths, json, values);
    FUZZ_CHECK(!is_found || is_formed);
    FUZZ_CHECK(!is_formed || is_found || depth_of(json) > HR_JSON_DEPTH);
    for (int i = 0; i < hr_json_paths_count(paths); i++) {
        int64_t integer;
        double real;
        hr_buffer text = {0};
        FUZZ_CHECK(is_found || values[i].kind == HR_JSON_ABSENT);
        FUZZ_CHECK(values[i].kind == HR_JSON_ABSENT || fuzz_is_within(values[i].raw, json));
        if (values[i].kind == HR_JSON_INTEGER || values[i].kind == HR_JSON_REAL) {
            (void)hr_json_number(&values[i], &integer, &real);
        } else if (values[i].kind == HR_JSON_TEXT) {
            hr_json_unescape(&values[i], &text);
            FUZZ_CHECK(values[i].has_escapes ||
                       hr_slice_equal(hr_slice_of(text.bytes, text.size), values[i].raw));
        }
        hr_buffer_fini(&text);
    }
    FUZZ_CHECK(!is_found || values[0].kind != HR_JSON_ABSENT);
    hr_json_paths_free(paths);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    hr_slice json = hr_slice_of(bytes, size);
    bool is_formed = hr_json_is_formed(json);
    json_error_t wrong = {.line = 0};
    json_t *tree =
        hr_json_load(json, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &wrong);
    FUZZ_CHECK(tree == NULL || is_formed || depth_of(json) > 256);
    /* What jansson refuses beyond the grammar: surrogates, zeros in keys, numbers over a double. */
    FUZZ_CHECK(!is_formed || tree != NULL || memchr(bytes, '\\', size) != NULL ||
               json_error_code(&wrong) == json_error_numeric_overflow);
    json_decref(tree);
    scan((hr_slice){0}, json, is_formed);
    hr_slice rest = json, path = fuzz_line(&rest);
    scan(path, rest, hr_json_is_formed(rest));
    return 0;
}
