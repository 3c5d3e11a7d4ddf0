/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions over events: what they give, where errors point, what is refused. */
#include "core/envelope.h"
#include "core/memory.h"
#include "streams/sql.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

typedef struct event {
    const char *id, *subject, *content_type, *data;
    bool is_binary; /* data as binary_data */
} event;

static const event events[] = {
    {"a", "plant/7", NULL,
     "{\"temp\": 31.5, \"n\": 7, \"name\": \"Zo\\u00eb \\\"x\\\"\", \"ok\": true, \"off\": false, "
     "\"nil\": null, \"list\": [10, {\"b\": 20}, [30]], \"odd key\": 5, \"deep\": {\"er\": -2}, "
     "\"big\": 9223372036854775807, \"huge\": 9223372036854775808, \"temp\": 1}",
     false},
    {"b", NULL, "application/json", "{\"temp\":30,\"name\":\"bob\"}", true},
    {"c", "x", "application/json", "{\"temp\":99,\"name\":\"bob\"", true}, /* not closed */
    {"d", "x", "text/plain", "hello", false},
    {"e", "x", NULL, NULL, false},
};
enum { EVENTS = sizeof events / sizeof *events };

static hr_batch *make_batch(void) {
    hr_builder builder = {0};
    hr_error err = {0};
    for (uint32_t i = 0; i < EVENTS; i++) {
        const hr_attribute extensions[] = {
            {.name = hr_slice_text("site"),
             .type = HR_ATTRIBUTE_STRING,
             .text = hr_slice_text("berlin")},
            {.name = hr_slice_text("retries"), .type = HR_ATTRIBUTE_INTEGER, .number = i},
            {.name = hr_slice_text("key"), .type = HR_ATTRIBUTE_BOOLEAN, .number = 1}};
        hr_fields fields = {.id = hr_slice_text(events[i].id),
                            .source = hr_slice_text("/test"),
                            .type = hr_slice_text("t.reading"),
                            .subject = hr_slice_text(events[i].subject),
                            .content_type = hr_slice_text(events[i].content_type),
                            .time_us = INT64_C(1767225600000000) + i,
                            .data = hr_slice_text(events[i].data),
                            .has_data = events[i].data != NULL,
                            .data_is_text = !events[i].is_binary,
                            .extensions = extensions,
                            .extension_count = i == 4 ? 0 : 3};
        assert_int_equal(hr_builder_pack(&builder, i + 1, &fields, &err), HR_OK);
    }
    hr_batch *batch = hr_builder_finish(&builder, 1, 0);
    hr_builder_fini(&builder);
    return batch;
}

/* "value|value|...": NULL is "-". */
static void collect(void *data, uint32_t index, hr_slice value, bool is_null) {
    hr_buffer *out = data;
    if (index > 0) {
        hr_buffer_add(out, "|", 1);
    }
    if (is_null) {
        hr_buffer_add(out, "-", 1);
    } else {
        hr_buffer_add_slice(out, value);
    }
}

static hr_expression *compile(hr_sql *sql, const char *text) {
    hr_expression *expression = NULL;
    hr_error err = {0};
    int offset = -1;
    if (hr_sql_compile(sql, text, &expression, &offset, &err) != HR_OK) {
        fail_msg("%s: %s at %d", text, err.text, offset);
    }
    return expression;
}

static void expressions_give_the_values_of_the_table(void **state) {
    (void)state;
    static const struct {
        const char *expression, *values;
    } table[] = {
        {"id", "a|b|c|d|e"},
        {"ID || source", "a/test|b/test|c/test|d/test|e/test"},
        {"type", "t.reading|t.reading|t.reading|t.reading|t.reading"},
        {"subject", "plant/7|-|x|x|x"},
        {"substr(time, 1, 19)", "2026-01-01T00:00:00|2026-01-01T00:00:00|2026-01-01T00:00:00|"
                                "2026-01-01T00:00:00|2026-01-01T00:00:00"},
        {"data.temp", "31.5|30|-|-|-"},
        {"DATA.temp", "31.5|30|-|-|-"},
        {"data.Temp", "-|-|-|-|-"},
        {"data.temp > 30", "1|0|-|-|-"},
        {"data.temp >= 30 AND data.name == 'bob'", "0|1|-|-|-"},
        {"data.temp+data.n", "38.5|-|-|-|-"},
        {"-data.temp", "-31.5|-30|-|-|-"},
        {"data.temp BETWEEN 29 AND 31 or data.n in (7, 8)", "1|1|-|-|-"},
        {"data.name", "Zo\xc3\xab \"x\"|bob|-|-|-"},
        {"data.ok", "1|-|-|-|-"},
        {"data.ok = true", "1|-|-|-|-"},
        {"data.off", "0|-|-|-|-"},
        {"data.nil", "-|-|-|-|-"},
        {"data.nil IS NULL", "1|1|1|1|1"},
        {"data->'$.nil'", "null|-|-|-|-"},
        {"data.list[0]", "10|-|-|-|-"},
        {"data.list[1].b", "20|-|-|-|-"},
        {"data.list[2][0]", "30|-|-|-|-"},
        {"data.list[3]", "-|-|-|-|-"},
        {"data.list", "[10, {\"b\": 20}, [30]]|-|-|-|-"},
        {"data.\"odd key\"", "5|-|-|-|-"},
        {"data.deep.er", "-2|-|-|-|-"},
        {"data.deep.er.none", "-|-|-|-|-"},
        {"data.big", "9223372036854775807|-|-|-|-"},
        {"typeof(data.big)||typeof(data.huge)", "integerreal|nullnull|nullnull|nullnull|nullnull"},
        {"typeof(data.temp)", "real|integer|null|null|null"},
        {"data->>'$.temp'", "31.5|30|-|-|-"},
        {"data->>'$.list[1].b'", "20|-|-|-|-"},
        {"data ->> 'temp'", "31.5|30|-|-|-"},
        {"data->>'odd key'", "5|-|-|-|-"},
        {"data->'$.name'", "\"Zo\\u00eb \\\"x\\\"\"|\"bob\"|-|-|-"},
        {"data->'$.list'->>1", "{\"b\": 20}|-|-|-|-"},
        {"data->'$.list'->1->>'b'", "20|-|-|-|-"},
        {"(data->'list')->>'$[2][0]'", "30|-|-|-|-"},
        {"data->>('te'||'mp')", "31.5|30|-|-|-"},
        {"'{\"a\":4}'->>'a'", "4|4|4|4|4"},
        {"data->>subject", "-|-|-|-|-"},
        {"site", "berlin|berlin|berlin|berlin|-"},
        {"Site = 'berlin'", "1|1|1|1|-"},
        {"retries * 2", "0|2|4|6|-"},
        {"key", "1|1|1|1|-"},
        {"nosuchthing", "-|-|-|-|-"},
        {"nosuchthing IS NULL AND rowid IS NULL AND _p0 IS NULL AND i IS NULL", "1|1|1|1|1"},
        {"CASE WHEN data.temp > 30 THEN 'hot' WHEN data.temp IS NULL THEN 'none' ELSE 'cold' END",
         "hot|cold|none|none|none"},
        {"cast(data.temp AS INTEGER)", "31|30|-|-|-"},
        {"CAST(retries AS VARCHAR(10)) || site", "0berlin|1berlin|2berlin|3berlin|-"},
        {"site COLLATE nocase = 'BERLIN'", "1|1|1|1|-"},
        {"id IN ('a','c')", "1|0|1|0|0"},
        {"subject LIKE 'plant/%'", "1|-|0|0|0"},
        {"subject GLOB 'plant/*'", "1|-|0|0|0"},
        {"subject REGEXP '^plant/\\d+$'", "1|-|0|0|0"},
        {"subject NOT REGEXP '^p'", "0|-|1|1|1"},
        {"data.name REGEXP '(?i)^BOB$'", "0|1|-|-|-"},
        {"datacontenttype", "-|application/json|application/json|text/plain|-"},
        {"CASE id WHEN 'd' THEN data ELSE typeof(data) END", "text|text|text|hello|null"},
        {"'it''s' || /* why -- not */ id -- data.temp", "it'sa|it'sb|it'sc|it'sd|it'se"},
        {"'data.temp'", "data.temp|data.temp|data.temp|data.temp|data.temp"},
        {"x'4142'", "AB|AB|AB|AB|AB"},
        {"1.5e1 + .5 + 0x10", "31.5|31.5|31.5|31.5|31.5"},
        {"coalesce(data.temp, -1)", "31.5|30|-1|-1|-1"},
        {"max(data.temp, data.n)", "31.5|-|-|-|-"},
        {"json_array_length(data->'$.list')", "3|-|-|-|-"},
        {"data.temp<>30", "1|0|-|-|-"},
        {"data.temp!=30 or not data.temp", "1|0|-|-|-"},
        {"1||2", "12|12|12|12|12"},
        {"data.\"temp\"is null", "0|0|1|1|1"},
    };
    hr_sql *sql = hr_sql_new();
    hr_batch *batch = make_batch();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (int round = 0; round < 2; round++) {
            hr_expression *expression = compile(sql, table[i].expression);
            hr_buffer values = {0};
            hr_expression_values(expression, batch, collect, &values);
            if (strcmp(hr_buffer_text(&values), table[i].values) != 0) {
                fail_msg("%s gives %s, not %s", table[i].expression, hr_buffer_text(&values),
                         table[i].values);
            }
            hr_buffer_fini(&values);
            hr_expression_free(expression);
        }
    }
    hr_batch_unref(batch);
    hr_sql_free(sql);
}

static void errors_point_into_the_users_text(void **state) {
    (void)state;
    static const struct {
        const char *expression;
        int offset;
        const char *message;
    } table[] = {
        {"", 0, "empty"},
        {"  -- nothing", 12, "empty"},
        {"data.temp >", 11, "not complete"},
        {"data.temperature lik 'a'", 17, "near \"lik\""},
        {"data.a data.bb", 7, "near \"data.bb\""},
        {"data.list[0]11 > 1", 12, "near \"11\""},
        {"data.temp > nosuch(1)", 12, "no such function"},
        {"data.temp > \"a\"", 12, "single quotes"},
        {"data.temp =~ 'a'", 10, "write REGEXP"},
        {"data.temp > 1 && id = 'a'", 14, "write AND"},
        {"id = 'a", 5, "not closed"},
        {"id = 'a' /* x", 9, "not closed"},
        {"1) OR (1", 1, "without its ("},
        {"(id = 'a'", 9, "missing"},
        {"1; DROP TABLE ev", 1, "one expression"},
        {"1, 2", -2, "row value"},
        {"count(*) > 1", -2, "misuse of aggregate"},
        {"id = 'a' AND sum(data.temp) > 1", -2, "misuse of aggregate"},
        {"row_number() OVER ()", -2, "misuse of window"},
        {"count(*) FILTER (WHERE 1)", -2, ""},
        {"(SELECT 1)", 1, "no subqueries"},
        {"(VALUES(1))", 1, "no subqueries"},
        {"EXISTS (SELECT 1 FROM ev)", 0, "no subqueries"},
        {"id IN ev", 6, "list in parentheses"},
        {"id IN json_each('[1]')", 6, "list in parentheses"},
        {"load_extension('x')", -2, "not authorized"},
        {"readfile('/etc/passwd')", -2, "no such function"},
        {"randomblob(10)", -2, "not authorized"},
        {"zeroblob(10)", -2, "not authorized"},
        {"1 UNION SELECT 2", 8, "no subqueries"},
        {"PRAGMA x", -2, "syntax error"},
        {"id = ?1", 5, "parameters"},
        {"id = :a", 5, "parameters"},
        {"`id`", 0, "may not stand"},
        {"[id]", 0, "may not stand"},
        {"temp.x > 1", 0, "only data has parts"},
        {"data. > 1", 4, "name is missing"},
        {"data.a[x]", 7, "[N]"},
        {"data->>'$.a['", 12, "[N]"},
        {"data->>'$.'", 10, "name is missing"},
        {"id REGEXP '('", -2, "regular expression"},
        {"id MATCH 'a'", 3, "REGEXP"},
        {"1abc", 0, "number"},
        {"\xc3\xa4 > 1", 0, "attribute"},
        {"id = 1 ORDER BY id", -2, "syntax error"},
        {"raise(ignore)", -2, ""},
    };
    hr_error err = {0};
    hr_sql *sql = hr_sql_new();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        hr_expression *expression = NULL;
        int offset = -3;
        hr_code code = hr_sql_compile(sql, table[i].expression, &expression, &offset, &err);
        if (code != HR_E_EXPRESSION || strstr(err.text, table[i].message) == NULL ||
            (table[i].offset != -2 && table[i].offset != offset)) {
            fail_msg("'%s': code %d at %d: %s", table[i].expression, (int)code, offset, err.text);
        }
    }
    hr_sql_free(sql);
}

static uint64_t match(hr_sql *sql, const char *text, const hr_batch *batch, uint32_t *out_errors,
                      hr_error *err) {
    hr_expression *expression = compile(sql, text);
    uint64_t bits[HR_BATCH_MAX / 64] = {0};
    hr_expression_match(expression, batch, bits, out_errors, err);
    hr_expression_free(expression);
    return bits[0];
}

static void an_event_that_fails_is_false_and_the_others_go_on(void **state) {
    (void)state;
    hr_error err = {0};
    hr_sql *sql = hr_sql_new();
    uint32_t errors = 9;
    hr_batch *batch = make_batch();
    assert_int_equal(match(sql, "data.temp > 30", batch, &errors, &err), 1);
    assert_int_equal(errors, 0);
    assert_int_equal(match(sql, "id <> 'b'", batch, &errors, &err), 0x1D);
    assert_int_equal(errors, 0);
    /* json_extract of SQLite fails where data is no JSON: events c and d */
    assert_int_equal(
        match(sql, "json_extract(data, '$.temp') IS NULL OR id <> 'z'", batch, &errors, &err),
        0x13);
    assert_int_equal(errors, 2);
    assert_non_null(strstr(err.text, "malformed JSON"));
    /* a constant part that fails */
    assert_int_equal(match(sql, "abs(-9223372036854775807 - 1) > 0", batch, &errors, &err), 0);
    assert_int_equal(errors, EVENTS);
    assert_int_equal(
        match(sql, "id = 'a' OR abs(-9223372036854775807 - retries) > 0", batch, &errors, &err),
        0x0D | 1);
    hr_batch_unref(batch);
    hr_sql_free(sql);
}

/* One event whose data is text. */
static hr_batch *one_event(const char *data, size_t size) {
    hr_builder builder = {0};
    hr_error err = {0};
    hr_fields fields = {.id = hr_slice_text("a"),
                        .source = hr_slice_text("/test"),
                        .type = hr_slice_text("t"),
                        .data = hr_slice_of(data, size),
                        .has_data = true,
                        .data_is_text = true};
    assert_int_equal(hr_builder_pack(&builder, 1, &fields, &err), HR_OK);
    hr_batch *batch = hr_builder_finish(&builder, 1, 0);
    hr_builder_fini(&builder);
    return batch;
}

static void catastrophic_patterns_end_as_an_error(void **state) {
    (void)state;
    hr_error err = {0};
    hr_sql *sql = hr_sql_new();
    uint32_t errors = 0;
    char text[5001];
    memset(text, 'a', 5000);
    text[5000] = '\0';
    hr_batch *batch = one_event(text, 5000);
    assert_int_equal(match(sql, "data REGEXP '(a+)+$(?<!a)'", batch, &errors, &err), 0);
    assert_int_equal(errors, 1);
    assert_non_null(strstr(err.text, "too many steps"));
    assert_int_equal(match(sql, "data REGEXP 'a$'", batch, &errors, &err), 1);
    assert_int_equal(errors, 0);
    hr_batch_unref(batch);
    hr_sql_free(sql);
}

/* 1,000 events that each take milliseconds: the run ends in a bounded CPU time. */
static void steep_patterns_cannot_hold_up_a_batch(void **state) {
    (void)state;
    hr_error err = {0};
    hr_sql *sql = hr_sql_new();
    hr_builder builder = {0};
    static char text[20000];
    memset(text, 'a', sizeof text);
    for (int i = 0; i < 1000; i++) {
        hr_fields fields = {.id = hr_slice_text("a"),
                            .source = hr_slice_text("/s"),
                            .type = hr_slice_text("t"),
                            .data =
                                i == 999 ? hr_slice_text("xyzb") : hr_slice_of(text, sizeof text),
                            .has_data = true,
                            .data_is_text = true};
        assert_int_equal(hr_builder_pack(&builder, (uint64_t)i + 1, &fields, &err), HR_OK);
    }
    hr_batch *batch = hr_builder_finish(&builder, 1, 0);
    hr_builder_fini(&builder);
    hr_expression *expression = compile(sql, "data REGEXP 'a*a*[bc]'");
    uint64_t bits[HR_BATCH_MAX / 64];
    uint32_t errors = 0;
    clock_t began = clock();
    hr_expression_match(expression, batch, bits, &errors, &err);
    double took_s = (double)(clock() - began) / CLOCKS_PER_SEC;
    assert_true(took_s < 10);
    assert_int_equal(errors, 999);
    assert_true(bits[999 / 64] == UINT64_C(1) << (999 % 64)); /* the harmless one is answered */
    hr_expression_free(expression);
    hr_batch_unref(batch);
    hr_sql_free(sql);
}

static void oversized_expressions_and_patterns_are_refused(void **state) {
    (void)state;
    hr_error err = {0};
    hr_sql *sql = hr_sql_new();
    int offset = 0;
    hr_expression *expression = NULL;
    char *text = hr_alloc((1 << 20) + 1);
    memset(text, '1', 1 << 20);
    assert_int_equal(hr_sql_compile(sql, text, &expression, &offset, &err), HR_E_EXPRESSION);
    memset(text, '(', 30000); /* deep */
    memset(text + 30000, ')', 30000);
    text[60000] = '\0';
    assert_int_equal(hr_sql_compile(sql, text, &expression, &offset, &err), HR_E_EXPRESSION);
    for (size_t i = 0; i < 60000; i += 2) { /* long */
        memcpy(text + i, "1+", 2);
    }
    text[59999] = '\0';
    assert_int_equal(hr_sql_compile(sql, text, &expression, &offset, &err), HR_E_EXPRESSION);
    memcpy(text, "id REGEXP '", 11);
    memset(text + 11, 'a', 5000);
    memcpy(text + 5011, "'", 2);
    assert_int_equal(hr_sql_compile(sql, text, &expression, &offset, &err), HR_E_EXPRESSION);
    hr_buffer many = {0};
    for (int i = 0; i < 65; i++) {
        hr_buffer_print(&many, "%sdata.p%d", i == 0 ? "" : "+", i);
    }
    assert_int_equal(hr_sql_compile(sql, hr_buffer_text(&many), &expression, &offset, &err),
                     HR_E_EXPRESSION);
    many.size = 0;
    for (int i = 0; i < 65; i++) {
        hr_buffer_print(&many, "%sname%d", i == 0 ? "" : "+", i);
    }
    assert_int_equal(hr_sql_compile(sql, hr_buffer_text(&many), &expression, &offset, &err),
                     HR_E_EXPRESSION);
    hr_buffer_fini(&many);
    hr_free(text);
    hr_sql_free(sql);
}

static void deep_json_is_null(void **state) {
    (void)state;
    hr_error err = {0};
    hr_sql *sql = hr_sql_new();
    uint32_t errors = 0;
    enum { DEEP = 1 << 20 };
    char *text = hr_alloc(DEEP);
    memset(text, '[', DEEP);
    hr_batch *batch = one_event(text, DEEP);
    assert_int_equal(match(sql, "data->>'$[0]' IS NULL AND data[0] IS NULL", batch, &errors, &err),
                     1);
    assert_int_equal(errors, 0);
    hr_batch_unref(batch);
    hr_free(text);
    hr_sql_free(sql);
}

static void a_value_that_fails_is_null(void **state) {
    (void)state;
    static const struct {
        const char *expression, *values;
    } table[] = {{"abs(-9223372036854775807 - retries)",
                  "9223372036854775807|-|9.22337203685478e+18|"
                  "9.22337203685478e+18|-"},
                 {"abs(-9223372036854775807 - 1)", "-|-|-|-|-"},
                 {"data->>('$.'||nosuchthing||'[')", "-|-|-|-|-"},
                 {"data->>('$.'||id||'[')", "-|-|-|-|-"},
                 {"id REGEXP (id || '(')", "-|-|-|-|-"},
                 {"id REGEXP id", "1|1|1|1|1"}};
    hr_sql *sql = hr_sql_new();
    hr_batch *batch = make_batch();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        hr_expression *expression = compile(sql, table[i].expression);
        for (int round = 0; round < 2; round++) {
            hr_buffer values = {0};
            hr_expression_values(expression, batch, collect, &values);
            if (strcmp(hr_buffer_text(&values), table[i].values) != 0) {
                fail_msg("%s gives %s", table[i].expression, hr_buffer_text(&values));
            }
            hr_buffer_fini(&values);
        }
        hr_expression_free(expression);
    }
    hr_batch_unref(batch);
    hr_sql_free(sql);
}

/* More different patterns than are kept: those beyond are compiled for the call. */
static void patterns_beyond_the_kept_ones_work(void **state) {
    (void)state;
    hr_error err = {0};
    hr_sql *sql = hr_sql_new();
    hr_builder builder = {0};
    for (int i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof id, "id%d", i);
        hr_fields fields = {
            .id = hr_slice_text(id), .source = hr_slice_text("/s"), .type = hr_slice_text("t")};
        assert_int_equal(hr_builder_pack(&builder, (uint64_t)i + 1, &fields, &err), HR_OK);
    }
    hr_batch *batch = hr_builder_finish(&builder, 1, 0);
    hr_builder_fini(&builder);
    hr_expression *expression = compile(sql, "id REGEXP ('^' || id || '$')");
    uint64_t bits[HR_BATCH_MAX / 64];
    uint32_t errors = 0;
    hr_expression_match(expression, batch, bits, &errors, &err);
    assert_int_equal(errors, 0);
    assert_true(bits[0] == UINT64_MAX && bits[1] == (UINT64_C(1) << 36) - 1);
    hr_expression_free(expression);
    hr_batch_unref(batch);
    hr_sql_free(sql);
}

static uint64_t seed = 88172645463325252U;

static uint32_t chance(uint32_t below) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

/* Whatever is written, it is refused or evaluated: no second statement, no assertion, no bad read.
 * An offset that is given lies within the text. */
static void random_tokens_are_refused_or_evaluated(void **state) {
    (void)state;
    static const char *const tokens[] = {
        "data",     ".",        "temp",    "[0]",    "data.temp", "data.\"a b\"",
        "id",       "site",     "1",       "1.5",    "'a'",       "'",
        "\"",       "(",        ")",       "+",      "-",         "--",
        "/*",       "*/",       "*",       "=",      "<",         ">",
        "->",       "->>",      "'$.a'",   "'$['",   "AND",       "OR",
        "NOT",      "IN",       "LIKE",    "REGEXP", "'(a'",      "CASE",
        "WHEN",     "THEN",     "END",     "CAST(",  "AS",        "INTEGER",
        "NULL",     "IS",       "abs(",    ",",      ";",         "x'",
        "4142",     "COLLATE",  "nocase",  "SELECT", "FROM",      "ev",
        "count",    "(*)",      "OVER",    "0x",     "1e",        "|",
        "||",       "\xc3\xa9", "\x80",    "\v",     "_p0",       "_x0",
        "`",        "$1",       "~",       "%",      "WHERE",     "LIMIT",
        "ORDER BY", "UNION",    "BETWEEN", "EXISTS", "VALUES",    "RAISE(",
        "ESCAPE",   "ISNULL",   "DISTINCT"};
    hr_error err = {0};
    hr_sql *sql = hr_sql_new();
    hr_batch *batch = make_batch();
    uint32_t good = 0;
    for (int round = 0; round < 30000; round++) {
        hr_buffer text = {0};
        for (uint32_t i = chance(9) + 1; i > 0; i--) {
            hr_buffer_print(&text, "%s%s", tokens[chance(sizeof tokens / sizeof *tokens)],
                            chance(3) == 0 ? "" : " ");
        }
        char *exact = hr_copy_bytes(text.bytes, text.size);
        int offset = -1;
        hr_expression *expression = NULL;
        if (hr_sql_compile(sql, exact, &expression, &offset, &err) == HR_OK) {
            uint64_t bits[1];
            uint32_t errors = 0;
            hr_buffer values = {0};
            hr_expression_match(expression, batch, bits, &errors, &err);
            hr_expression_values(expression, batch, collect, &values);
            hr_buffer_fini(&values);
            hr_expression_free(expression);
            good++;
        } else if (offset > (int)text.size || offset < -1) {
            fail_msg("'%s': offset %d", exact, offset);
        }
        hr_free(exact);
        hr_buffer_fini(&text);
    }
    assert_true(good > 300);
    hr_batch_unref(batch);
    hr_sql_free(sql);
}

/* Else an acknowledged event would count as one that does not match, or loses its key. */
static void want_of_memory_stops_the_process_and_is_no_result(void **state) {
    (void)state;
    for (int as_value = 0; as_value < 2; as_value++) {
        int ends[2], status = 0;
        char said[300];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            dup2(ends[1], STDERR_FILENO);
            hr_error err = {0};
            hr_sql *sql = hr_sql_new();
            hr_batch *batch = make_batch();
            hr_expression *expression =
                compile(sql, "hex(hex(hex(hex(hex(hex(hex(hex(data)))))))) <> subject");
            hr_buffer values = {0};
            uint64_t bits[1];
            uint32_t errors = 0;
            sqlite3_hard_heap_limit64(sqlite3_memory_used() + 30000);
            if (as_value == 0) {
                hr_expression_match(expression, batch, bits, &errors, &err);
            } else {
                hr_expression_values(expression, batch, collect, &values);
            }
            _exit(0);
        }
        close(ends[1]);
        ssize_t got = read(ends[0], said, sizeof said - 1);
        said[got < 0 ? 0 : got] = '\0';
        close(ends[0]);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 1);
        assert_string_equal(said, "headrace: out of memory (in an expression); stopping. Nothing "
                                  "acknowledged is lost, start again.\n");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_give_the_values_of_the_table),
        cmocka_unit_test(errors_point_into_the_users_text),
        cmocka_unit_test(an_event_that_fails_is_false_and_the_others_go_on),
        cmocka_unit_test(catastrophic_patterns_end_as_an_error),
        cmocka_unit_test(steep_patterns_cannot_hold_up_a_batch),
        cmocka_unit_test(oversized_expressions_and_patterns_are_refused),
        cmocka_unit_test(deep_json_is_null),
        cmocka_unit_test(a_value_that_fails_is_null),
        cmocka_unit_test(patterns_beyond_the_kept_ones_work),
        cmocka_unit_test(random_tokens_are_refused_or_evaluated),
        cmocka_unit_test(want_of_memory_stops_the_process_and_is_no_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
