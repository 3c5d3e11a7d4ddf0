/* SPDX-License-Identifier: Apache-2.0 */
/* The operators ->, ->> and REGEXP, and what an expression may use at all. */
#include "core/memory.h"
#include "streams/sql_priv.h"

#include <stdlib.h>
#include <strings.h>
#include <time.h>

static hr_slice value_slice(sqlite3_value *value) {
    int type = sqlite3_value_type(value);
    if (type != SQLITE_TEXT && type != SQLITE_BLOB) {
        sqlite3_value_text(value); /* turns a number into text */
    }
    const void *bytes = sqlite3_value_blob(value); /* does not copy a text, as _text would */
    return hr_slice_of(bytes, (size_t)sqlite3_value_bytes(value));
}

/* The right side of -> as a path: "$...", a label, or an index. */
static void print_path(sqlite3_value *value, hr_buffer *out) {
    if (sqlite3_value_type(value) == SQLITE_INTEGER) {
        hr_buffer_print(out, "$[%lld]", (long long)sqlite3_value_int64(value));
        return;
    }
    hr_slice text = value_slice(value);
    if (text.size > 0 && text.bytes[0] == '$') {
        hr_buffer_add_slice(out, text);
    } else {
        hr_buffer_add(out, "$.\"", 3);
        hr_buffer_add_slice(out, text);
        hr_buffer_add(out, "\"", 1);
    }
}

/* A path that the operator has read: its slot in the expression's set, or a set of its own. */
typedef struct arrow_path {
    int slot; /* -1: none */
    hr_json_paths *own;
} arrow_path;

static void free_arrow_path(void *data) {
    arrow_path *path = data;
    hr_json_paths_free(path->own);
    hr_free(path);
}

/* NULL: no path; the error is set. */
static arrow_path *new_arrow_path(sqlite3_context *context, hr_sql *sql, sqlite3_value *value) {
    hr_buffer text = {0};
    print_path(value, &text);
    hr_slice slice = hr_slice_of(text.bytes, text.size);
    arrow_path *path = hr_alloc(sizeof *path);
    hr_error err = {0};
    int slot = 0, offset = 0;
    path->slot = hr_json_paths_find(sql->running->paths, slice);
    path->own = hr_json_paths_new();
    if (hr_json_paths_add(path->own, slice, &slot, &offset, &err) != HR_OK) {
        sqlite3_result_error(context, err.text, -1);
        free_arrow_path(path);
        path = NULL;
    }
    hr_buffer_fini(&text);
    return path;
}

static void arrow(sqlite3_context *context, sqlite3_value **values, bool as_json) {
    hr_sql *sql = sqlite3_user_data(context);
    if (sqlite3_value_type(values[0]) == SQLITE_NULL ||
        sqlite3_value_type(values[1]) == SQLITE_NULL || sql->running == NULL) {
        return;
    }
    arrow_path *path = sqlite3_get_auxdata(context, 1);
    bool is_new = path == NULL;
    if (is_new) {
        path = new_arrow_path(context, sql, values[1]);
        if (path == NULL) {
            return;
        }
    }
    hr_slice document = value_slice(values[0]);
    hr_json_value own = {.kind = HR_JSON_ABSENT};
    const hr_json_value *found = &own;
    if (path->slot >= 0 && sql->row < sql->batch->count &&
        document.bytes == hr_batch_data(sql->batch, sql->row).bytes &&
        document.size == hr_batch_data(sql->batch, sql->row).size) {
        found = &hr_sql_found(sql)[path->slot];
    } else {
        hr_json_scan(path->own, document, &own);
    }
    if (as_json) {
        hr_sql_result_json(context, found);
    } else {
        hr_sql_result_value(context, &sql->scratch, found);
    }
    if (is_new) { /* last: SQLite may free it at once */
        sqlite3_set_auxdata(context, 1, path, free_arrow_path);
    }
}

static void arrow_json(sqlite3_context *context, int count, sqlite3_value **values) {
    (void)count;
    arrow(context, values, true);
}

static void arrow_value(sqlite3_context *context, int count, sqlite3_value **values) {
    (void)count;
    arrow(context, values, false);
}

/* The pattern kept by the expression, or a new one; *out_kept: it is not the caller's to free. */
static hr_pattern *find_pattern(sqlite3_context *context, hr_expression *expression, hr_slice text,
                                bool *out_kept) {
    *out_kept = true;
    for (int i = 0; i < expression->pattern_count; i++) {
        if (hr_pattern_is(expression->patterns[i], text)) {
            return expression->patterns[i];
        }
    }
    hr_error err = {0};
    hr_pattern *pattern = NULL;
    if (hr_pattern_new(text, &pattern, &err) != HR_OK) {
        sqlite3_result_error(context, err.text, -1);
        return NULL;
    }
    *out_kept = expression->pattern_count < HR_SQL_PATTERNS_KEPT;
    if (*out_kept) {
        expression->patterns[expression->pattern_count++] = pattern;
    }
    return pattern;
}

static int64_t cpu_ns(void) {
    struct timespec now = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* PCRE2's limits hold from one start in the text only, so that a match can still take time in the
 * square of the text. CPU time bounds the run: a pause of the machine must not change an answer. */
static int match_in_time(hr_sql *sql, hr_pattern *pattern, hr_slice text) {
    if (sql->is_late) {
        return text.size > HR_SQL_MATCH_TEXT_FEW
                   ? -1
                   : hr_pattern_match(pattern, text, HR_SQL_MATCH_STEPS_FEW);
    }
    bool look = text.size >= 1024 || ++sql->matches % 64 == 0;
    if (look && sql->began_ns == 0) {
        sql->began_ns = cpu_ns();
    }
    int code = hr_pattern_match(pattern, text, HR_SQL_MATCH_STEPS);
    if (look) {
        sql->is_late = cpu_ns() - sql->began_ns > HR_SQL_MATCH_CPU_MS * INT64_C(1000000);
    }
    return code;
}

/* regexp(pattern, text) is what "text REGEXP pattern" calls. */
static void regexp(sqlite3_context *context, int count, sqlite3_value **values) {
    (void)count;
    hr_sql *sql = sqlite3_user_data(context);
    if (sqlite3_value_type(values[0]) == SQLITE_NULL ||
        sqlite3_value_type(values[1]) == SQLITE_NULL || sql->running == NULL) {
        return;
    }
    bool is_kept = true;
    hr_pattern *pattern = sqlite3_get_auxdata(context, 0);
    if (pattern == NULL) {
        pattern = find_pattern(context, sql->running, value_slice(values[0]), &is_kept);
        if (pattern == NULL) {
            return;
        }
        if (is_kept) {
            sqlite3_set_auxdata(context, 0, pattern, NULL);
        }
    }
    int code = match_in_time(sql, pattern, value_slice(values[1]));
    if (code >= 0) {
        sqlite3_result_int(context, code);
    } else if (code == -1) {
        sqlite3_result_error(context, "REGEXP: the match takes too many steps", -1);
    } else {
        sqlite3_result_error(context, "REGEXP: the text is not UTF-8", -1);
    }
    if (!is_kept) {
        hr_pattern_free(pattern);
    }
}

int hr_sql_functions_register(hr_sql *sql) {
    const int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
    int rc = sqlite3_create_function_v2(sql->db, "->", 2, flags, sql, arrow_json, NULL, NULL, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_create_function_v2(sql->db, "->>", 2, flags, sql, arrow_value, NULL, NULL,
                                        NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_create_function_v2(sql->db, "regexp", 2, flags, sql, regexp, NULL, NULL, NULL);
    }
    return rc;
}

/* Sorted. Aggregates and window functions stand here so that SQLite itself can say why not. */
static const char *const allowed[] = {
    "->",
    "->>",
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "avg",
    "ceil",
    "ceiling",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "cos",
    "cosh",
    "count",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "format",
    "glob",
    "group_concat",
    "hex",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_length",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_insert",
    "json_object",
    "json_patch",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_type",
    "json_valid",
    "julianday",
    "lag",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "max",
    "min",
    "mod",
    "nullif",
    "pi",
    "pow",
    "power",
    "printf",
    "quote",
    "radians",
    "rank",
    "regexp",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "strftime",
    "substr",
    "substring",
    "sum",
    "tan",
    "tanh",
    "time",
    "total",
    "trim",
    "trunc",
    "typeof",
    "unhex",
    "unicode",
    "unixepoch",
    "unlikely",
    "upper",
};
static const char *const allowed_words[] = {"current_date", "current_time", "current_timestamp"};

static int compare_name(const void *name, const void *entry) {
    return strcasecmp(name, *(const char *const *)entry);
}

int hr_sql_authorize(void *data, int action, const char *first, const char *second,
                     const char *database, const char *trigger) {
    (void)data;
    (void)database;
    (void)trigger;
    switch (action) {
    case SQLITE_SELECT:
        return SQLITE_OK;
    case SQLITE_READ:
        return first != NULL && strcasecmp(first, "ev") == 0 ? SQLITE_OK : SQLITE_DENY;
    case SQLITE_FUNCTION:
        if (second == NULL) {
            return SQLITE_DENY;
        }
        for (size_t i = 0; i < sizeof allowed_words / sizeof *allowed_words; i++) {
            if (strcasecmp(second, allowed_words[i]) == 0) {
                return SQLITE_OK;
            }
        }
        return bsearch(second, allowed, sizeof allowed / sizeof *allowed, sizeof *allowed,
                       compare_name) != NULL
                   ? SQLITE_OK
                   : SQLITE_DENY;
    default:
        return SQLITE_DENY;
    }
}
