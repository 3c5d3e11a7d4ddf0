/* SPDX-License-Identifier: Apache-2.0 */
/* The scanner: what is JSON, what is found in it, and the same answers as SQLite's json_extract. */
#include "core/memory.h"
#include "streams/json_scan.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static bool scan_text(const char *path, const char *text, size_t size, hr_json_value *out_value) {
    hr_json_paths *paths = hr_json_paths_new();
    int slot = 0, offset = 0;
    assert_int_equal(hr_json_paths_add(paths, hr_slice_text(path), &slot, &offset, NULL), HR_OK);
    char *exact = hr_copy_bytes(text, size);
    exact = hr_realloc(exact, size == 0 ? 1 : size); /* so that a byte too far shows */
    bool good = hr_json_scan(paths, hr_slice_of(exact, size), out_value);
    hr_free(exact);
    hr_json_paths_free(paths);
    return good;
}

static void only_json_is_accepted(void **state) {
    (void)state;
    static const char *const good[] = {"0",
                                       "-0",
                                       "1",
                                       "-12.5",
                                       "1e5",
                                       "1E+5",
                                       "0.1e-2",
                                       "\"\"",
                                       "\"a\"",
                                       "null",
                                       "true",
                                       "false",
                                       "[]",
                                       "{}",
                                       " [ 1 , 2 ] ",
                                       "{\"a\":1}",
                                       "{ \"a\" : [ ] , \"b\" : { } }",
                                       "\t\r\n1\n",
                                       "\"\\u00e9\\n\\\\\\\"\\/\"",
                                       "\"\xc3\xa9\"",
                                       "\"\xf0\x9f\x98\x80 and a longer text\"",
                                       "\"\\ud83d\\ude00\"",
                                       "[[[[[[1]]]]]]",
                                       "123456789012345678901234567890",
                                       "1e999",
                                       "\"\x7f\""};
    static const char *const bad[] = {"",
                                      " ",
                                      "01",
                                      "-",
                                      "+1",
                                      ".5",
                                      "1.",
                                      "1e",
                                      "1e+",
                                      "--1",
                                      "nul",
                                      "nulll",
                                      "True",
                                      "NaN",
                                      "\"",
                                      "\"a",
                                      "\"\\\"",
                                      "\"\\x\"",
                                      "\"\\u12\"",
                                      "\"\\u12g4\"",
                                      "\"\n\"",
                                      "\"a\tb and more\"",
                                      "\"\x80\"",
                                      "\"\xc0\xaf\"",
                                      "\"\xed\xa0\x80 surrogate\"",
                                      "\"\xff long enough for a word\"",
                                      "[",
                                      "]",
                                      "[1",
                                      "[1,",
                                      "[1,]",
                                      "[,1]",
                                      "[1 2]",
                                      "[1}",
                                      "{",
                                      "}",
                                      "{\"a\"",
                                      "{\"a\":",
                                      "{\"a\":1",
                                      "{\"a\":1,",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "{'a':1}",
                                      "{\"a\" 1}",
                                      "{1:1}",
                                      "{\"a\":1]",
                                      "1 2",
                                      "{} {}",
                                      "\xef\xbb\xbf"
                                      "1",
                                      "/**/1",
                                      "\v1"};
    hr_json_value value;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!scan_text("$", good[i], strlen(good[i]), &value) || value.kind == HR_JSON_ABSENT) {
            fail_msg("refused: %s", good[i]);
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (scan_text("$", bad[i], strlen(bad[i]), &value) || value.kind != HR_JSON_ABSENT) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
    assert_false(scan_text("$", "\"a\0b\"", 5, &value));
    char deep[2 * (HR_JSON_DEPTH + 1)];
    memset(deep, '[', HR_JSON_DEPTH + 1);
    memset(deep + HR_JSON_DEPTH + 1, ']', HR_JSON_DEPTH + 1);
    assert_false(scan_text("$", deep, sizeof deep, &value));
    assert_true(scan_text("$", deep + 1, sizeof deep - 2, &value));
}

static void a_cut_document_gives_nothing(void **state) {
    (void)state;
    static const char text[] = "{\"a\":[1,-2.5e3,\"x\\u00e9\\\"\",true,null,{\"b\":\"\xc3\xa9\"}],"
                               "\"c\":false}";
    hr_json_value value;
    assert_true(scan_text("$.c", text, sizeof text - 1, &value));
    assert_int_equal(value.kind, HR_JSON_FALSE);
    for (size_t size = 0; size < sizeof text - 1; size++) {
        assert_false(scan_text("$.a[0]", text, size, &value));
        assert_int_equal(value.kind, HR_JSON_ABSENT);
    }
}

static void the_first_of_equal_keys_counts(void **state) {
    (void)state;
    hr_json_value value;
    static const char text[] = "{\"a\":1,\"a\":{\"b\":2}}";
    assert_true(scan_text("$.a.b", text, sizeof text - 1, &value));
    assert_int_equal(value.kind, HR_JSON_ABSENT);
    assert_true(scan_text("$.a", text, sizeof text - 1, &value));
    assert_int_equal(value.kind, HR_JSON_INTEGER);
    static const char escaped[] = "{\"\\u0061\":3}";
    assert_true(scan_text("$.a", escaped, sizeof escaped - 1, &value));
    assert_int_equal(value.kind, HR_JSON_INTEGER);
}

static void escapes_become_characters(void **state) {
    (void)state;
    static const struct {
        const char *raw, *text;
    } table[] = {{"\\b\\f\\n\\r\\t\\/\\\\\\\"", "\b\f\n\r\t/\\\""},
                 {"a\\u00e9z", "a\xc3\xa9z"},
                 {"\\u20ac", "\xe2\x82\xac"},
                 {"\\ud83d\\ude00!", "\xf0\x9f\x98\x80!"},
                 {"\\ud83d", "\xef\xbf\xbd"},
                 {"\\ude00x", "\xef\xbf\xbdx"},
                 {"\\ud83d\\u0041", "\xef\xbf\xbd\x41"},
                 {"\\uD83D\\uD83D\\uDE00", "\xef\xbf\xbd\xf0\x9f\x98\x80"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        hr_json_value value = {
            .kind = HR_JSON_TEXT, .has_escapes = true, .raw = hr_slice_text(table[i].raw)};
        hr_buffer out = {0};
        hr_json_unescape(&value, &out);
        assert_string_equal(hr_buffer_text(&out), table[i].text);
        hr_buffer_fini(&out);
    }
}

static void numbers_are_those_of_strtod(void **state) {
    (void)state;
    static const char *const table[] = {"0.1",
                                        "-0.0",
                                        "31.5",
                                        "123456.789012345",
                                        "0.30000000000000004",
                                        "1e22",
                                        "1.7976931348623157e308",
                                        "5e-324",
                                        "1e999",
                                        "9223372036854775808",
                                        "-9223372036854775809",
                                        "0.000000000000000000000000000001",
                                        "2.2250738585072014e-308",
                                        "9007199254740993.0",
                                        "1234567890123456.5"};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        hr_json_value value;
        hr_json_paths *paths = hr_json_paths_new();
        int slot = 0, offset = 0;
        hr_json_paths_add(paths, hr_slice_text("$"), &slot, &offset, NULL);
        assert_true(hr_json_scan(paths, hr_slice_text(table[i]), &value));
        int64_t integer = 0;
        double real = 0, expected = strtod(table[i], NULL);
        assert_false(hr_json_number(&value, &integer, &real));
        assert_memory_equal(&real, &expected, sizeof real);
        hr_json_paths_free(paths);
    }
    for (int i = 0; i < 2; i++) {
        hr_json_value value = {
            .kind = HR_JSON_INTEGER,
            .raw = hr_slice_text(i == 0 ? "9223372036854775807" : "-9223372036854775808")};
        int64_t integer = 0;
        double real = 0;
        assert_true(hr_json_number(&value, &integer, &real));
        assert_true(integer == (i == 0 ? INT64_MAX : INT64_MIN));
    }
}

static uint64_t seed = 88172645463325252U;

static uint32_t chance(uint32_t below) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

/* Compact, as json_extract prints; keys out of few, so that paths hit. */
static void make_value(hr_buffer *out, int depth) {
    static const char *const texts[] = {"",
                                        "a",
                                        "long text of twenty bytes",
                                        "\\n\\\"",
                                        "\\u00e9\\u20ac",
                                        "\xc3\xa9",
                                        "\\ud83d\\ude00"};
    static const char *const keys[] = {"a", "b", "c", "dd", "e e"};
    switch (chance(depth > 4 ? 6 : 9)) {
    case 0:
        hr_buffer_print(out, "null");
        break;
    case 1:
        hr_buffer_print(out, "%s", chance(2) == 0 ? "true" : "false");
        break;
    case 2:
        hr_buffer_print(out, "%d", (int)chance(2000) - 1000);
        break;
    case 3:
        hr_buffer_print(out, "%d.%u", (int)chance(200) - 100, chance(1000000));
        break;
    case 4:
        hr_buffer_print(out, "%ue%d", chance(100), (int)chance(40) - 20);
        break;
    case 5:
        hr_buffer_print(out, "\"%s\"", texts[chance(sizeof texts / sizeof *texts)]);
        break;
    case 6:
        hr_buffer_print(out, "[");
        for (uint32_t i = chance(4), first = 1; i > 0; i--, first = 0) {
            hr_buffer_print(out, "%s", first ? "" : ",");
            make_value(out, depth + 1);
        }
        hr_buffer_print(out, "]");
        break;
    default:
        hr_buffer_print(out, "{");
        for (uint32_t i = chance(5), first = 1; i > 0; i--, first = 0) {
            hr_buffer_print(out, "%s\"%s\":", first ? "" : ",",
                            keys[chance(sizeof keys / sizeof *keys)]);
            make_value(out, depth + 1);
        }
        hr_buffer_print(out, "}");
        break;
    }
}

static void compare(sqlite3_stmt *statement, const char *document, const char *path,
                    const hr_json_value *value) {
    int64_t integer = 0;
    double real = 0;
    bool same = false;
    hr_buffer text = {0};
    int type = sqlite3_column_type(statement, 0);
    switch (value->kind) {
    case HR_JSON_ABSENT:
    case HR_JSON_NULL:
        same = type == SQLITE_NULL;
        break;
    case HR_JSON_TRUE:
    case HR_JSON_FALSE:
        same = type == SQLITE_INTEGER &&
               sqlite3_column_int(statement, 0) == (value->kind == HR_JSON_TRUE);
        break;
    case HR_JSON_INTEGER:
    case HR_JSON_REAL:
        if (hr_json_number(value, &integer, &real)) {
            same = type == SQLITE_INTEGER && sqlite3_column_int64(statement, 0) == integer;
        } else { /* SQLite's own reading is off by an ulp at times */
            double other = sqlite3_column_double(statement, 0);
            double off = other - real, most = (real < 0 ? -real : real) * 1e-14;
            same = type == SQLITE_FLOAT && off <= most && off >= -most;
        }
        break;
    case HR_JSON_TEXT:
        hr_json_unescape(value, &text);
        same = type == SQLITE_TEXT &&
               strcmp((const char *)sqlite3_column_text(statement, 0), hr_buffer_text(&text)) == 0;
        break;
    case HR_JSON_ARRAY:
    case HR_JSON_OBJECT:
        hr_buffer_add_slice(&text, value->raw);
        same = type == SQLITE_TEXT &&
               strcmp((const char *)sqlite3_column_text(statement, 0), hr_buffer_text(&text)) == 0;
        break;
    }
    hr_buffer_fini(&text);
    if (!same) {
        fail_msg("%s of %s: kind %d", path, document, (int)value->kind);
    }
}

static void random_documents_give_what_json_extract_gives(void **state) {
    (void)state;
    static const char *const path[] = {
        "$",         "$.a",  "$.b",         "$.a.b",   "$.c[0]",   "$[0]",       "$[1].a",
        "$.a[1][0]", "$.dd", "$.\"e e\".a", "$.a.a.a", "$.dd.c.b", "$[0][1][2]", "$.b[2].dd"};
    enum { PATHS = sizeof path / sizeof *path };
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT json_extract(?1, ?2)", -1, &statement, NULL),
                     SQLITE_OK);
    hr_json_paths *paths = hr_json_paths_new();
    int slot[PATHS], offset = 0;
    for (int i = 0; i < PATHS; i++) {
        assert_int_equal(hr_json_paths_add(paths, hr_slice_text(path[i]), &slot[i], &offset, NULL),
                         HR_OK);
        assert_int_equal(hr_json_paths_find(paths, hr_slice_text(path[i])), slot[i]);
    }
    for (int round = 0; round < 20000; round++) {
        hr_buffer document = {0};
        hr_json_value values[PATHS];
        make_value(&document, 0);
        const char *text = hr_buffer_text(&document);
        if (!hr_json_scan(paths, hr_slice_of(document.bytes, document.size), values)) {
            fail_msg("refused: %s", text);
        }
        for (int i = 0; i < PATHS; i++) {
            sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
            sqlite3_bind_text(statement, 2, path[i], -1, SQLITE_STATIC);
            assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
            compare(statement, text, path[i], &values[slot[i]]);
            sqlite3_reset(statement);
        }
        hr_buffer_fini(&document);
    }
    hr_json_paths_free(paths);
    sqlite3_finalize(statement);
    sqlite3_close(db);
}

/* Any byte changed: no read beyond the document, and values lie within it. */
static void garbled_documents_stay_within_bounds(void **state) {
    (void)state;
    hr_json_paths *paths = hr_json_paths_new();
    int slot = 0, offset = 0;
    hr_json_paths_add(paths, hr_slice_text("$.a"), &slot, &offset, NULL);
    for (int round = 0; round < 50000; round++) {
        hr_buffer document = {0};
        make_value(&document, 0);
        char *text = hr_alloc(document.size);
        memcpy(text, document.bytes, document.size);
        text[chance((uint32_t)document.size)] = (char)chance(256);
        hr_json_value value;
        if (hr_json_scan(paths, hr_slice_of(text, document.size), &value) &&
            value.kind != HR_JSON_ABSENT) {
            assert_true(value.raw.bytes >= (uint8_t *)text &&
                        value.raw.bytes + value.raw.size <= (uint8_t *)text + document.size);
        }
        hr_free(text);
        hr_buffer_fini(&document);
    }
    hr_json_paths_free(paths);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_json_is_accepted),
        cmocka_unit_test(a_cut_document_gives_nothing),
        cmocka_unit_test(the_first_of_equal_keys_counts),
        cmocka_unit_test(escapes_become_characters),
        cmocka_unit_test(numbers_are_those_of_strtod),
        cmocka_unit_test(random_documents_give_what_json_extract_gives),
        cmocka_unit_test(garbled_documents_stay_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
