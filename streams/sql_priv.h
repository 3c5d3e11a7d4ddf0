/* SPDX-License-Identifier: Apache-2.0 */
/* What the files sql*.c share. */
#ifndef HR_STREAMS_SQL_PRIV_H
#define HR_STREAMS_SQL_PRIV_H

#include "core/buffer.h"
#include "streams/json_scan.h"
#include "streams/sql.h"

#include <sqlite3.h>

enum {
    HR_SQL_TEXT_MAX = 64 << 10,   /* bytes of one expression */
    HR_SQL_NAMES_MAX = 64,        /* extension attributes that one expression reads */
    HR_SQL_PATTERN_MAX = 4096,    /* bytes of a regular expression */
    HR_SQL_PATTERNS_KEPT = 16,    /* compiled patterns that one expression keeps */
    HR_SQL_MATCH_STEPS = 20000,   /* of PCRE2 from one start of a match ... */
    HR_SQL_MATCH_STEPS_FEW = 500, /* ... after the run has had its time, and then */
    HR_SQL_MATCH_TEXT_FEW = 1024, /* only on texts of so many bytes */
    HR_SQL_MATCH_CPU_MS = 500     /* time of one run for matching freely */
};

/* Columns of the virtual table ev. */
typedef enum hr_sql_column {
    HR_SQL_I, /* index in the batch */
    HR_SQL_ID,
    HR_SQL_SOURCE,
    HR_SQL_TYPE,
    HR_SQL_SUBJECT,
    HR_SQL_TIME,
    HR_SQL_DATACONTENTTYPE,
    HR_SQL_DATASCHEMA,
    HR_SQL_DATA,
    HR_SQL_PATH,                                   /* _p0 ...: values of expression->paths */
    HR_SQL_NAME = HR_SQL_PATH + HR_JSON_PATHS_MAX, /* _x0 ...: attributes expression->names */
    HR_SQL_COLUMNS = HR_SQL_NAME + HR_SQL_NAMES_MAX
} hr_sql_column;

typedef struct hr_pattern hr_pattern; /* a compiled regular expression; sql_regexp.c */

/* size bytes at out_at of the rewritten text come from source_size bytes at source_at. */
typedef struct hr_sql_piece {
    size_t out_at, out_size, source_at, source_size;
} hr_sql_piece;

struct hr_sql {
    sqlite3 *db;
    struct hr_expression *running; /* NULL: none */
    const hr_batch *batch;         /* of the run */
    uint32_t first, row;           /* where the scan begins; the event that is evaluated */
    uint32_t steps;                /* progress since the event began */
    uint32_t matches;              /* of the run */
    bool is_late;                  /* the run has used up HR_SQL_MATCH_CPU_MS */
    int64_t began_ns;              /* CPU of the thread; 0: not read yet */
    uint32_t expressions;          /* alive */
    hr_buffer scratch;
};

struct hr_expression {
    hr_sql *sql;
    char *rewritten;
    sqlite3_stmt *match, *values;
    hr_json_paths *paths;
    hr_json_value *found; /* a value a path, of event found_row */
    uint32_t found_row;
    char *names[HR_SQL_NAMES_MAX];
    int name_count;
    hr_pattern *patterns[HR_SQL_PATTERNS_KEPT];
    int pattern_count;
    hr_sql_piece *pieces; /* while it is compiled */
    size_t piece_count;
};

/* sql_lex.c: checks text and writes the SQL that is compiled to expression->rewritten (in
 * parentheses), collecting paths, names and patterns.
 * Errors: HR_E_EXPRESSION, *out_offset into text. */
hr_code hr_sql_rewrite(hr_expression *expression, const char *text, int *out_offset, hr_error *err);

/* Where in the user's text an offset of the rewritten text belongs, and how long the token is. */
size_t hr_sql_source_offset(const hr_expression *expression, size_t offset, size_t *out_size);

/* sql_batch.c: the virtual table. */
int hr_sql_batch_register(hr_sql *sql);

/* The values of the event that is evaluated, scanning its data when that was not done yet. */
const hr_json_value *hr_sql_found(hr_sql *sql);

/* Gives a value to SQLite: its SQL value, or its JSON text. */
void hr_sql_result_value(sqlite3_context *context, hr_buffer *scratch, const hr_json_value *value);
void hr_sql_result_json(sqlite3_context *context, const hr_json_value *value);

/* sql_functions.c: ->, ->>, REGEXP; which functions and statements are allowed. */
int hr_sql_functions_register(hr_sql *sql);
int hr_sql_authorize(void *data, int action, const char *first, const char *second,
                     const char *database, const char *trigger);

/* sql_regexp.c: a compiled pattern. Errors: HR_E_EXPRESSION with PCRE2's message; HR_E_UNSUPPORTED
 * without PCRE2. */
hr_code hr_pattern_new(hr_slice text, hr_pattern **out_pattern, hr_error *err);
void hr_pattern_free(hr_pattern *take_pattern);
bool hr_pattern_is(const hr_pattern *pattern, hr_slice text);

/* 1: matches, 0: does not, -1: the limits were hit, -2: text is not UTF-8 or another error. */
int hr_pattern_match(hr_pattern *pattern, hr_slice text, uint32_t steps_max);

#endif
