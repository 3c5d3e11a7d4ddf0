/* SPDX-License-Identifier: Apache-2.0 */
/* SQL expressions over events, run by SQLite on a :memory: connection over a virtual table that
 * holds the batch. Used for `when`, `key`, `id`, `type`, `subject`, `dedupe.by`, and templates.
 *
 * Columns: id source type subject time datacontenttype data, every extension attribute by its name.
 * `data.a.b` is sugar for data->>'$.a.b'; ->> and -> on data read our parsed document (parsed once
 * a batch event, and only when asked). REGEXP is PCRE2 with match limits. Text in single quotes;
 * double-quoted strings are an error. A name that is no column of the envelope reads the extension
 * of that name (NULL when the event has none).
 *
 * Values of a path: integers INTEGER, other numbers REAL, strings TEXT, true and false 1 and 0,
 * null and what is not there NULL, objects and arrays their JSON text as written. Of data that is
 * not well-formed JSON every path is NULL. At most 64 paths and 64 attributes an expression, 64 KiB
 * of text; no subqueries. data."any key", data.list[0]; data->>'label' and data->>0 as SQLite has
 * them.
 *
 * Life:  hr_sql_new -> hr_sql_compile* -> (match | values)* -> free
 * Rule:  no call on an hr_sql from within each(). An hr_sql and its expressions belong to one
 * thread; it never opens the store's file. */
#ifndef HR_STREAMS_SQL_H
#define HR_STREAMS_SQL_H

#include "core/batch.h"
#include "core/error.h"

typedef struct hr_sql hr_sql;
typedef struct hr_expression hr_expression;

/* A new evaluator; its connection opens for the first expression. */
hr_sql *hr_sql_new(void);
void hr_sql_free(hr_sql *take_sql); /* after its expressions */

/* Compiles one expression. On error: HR_E_IO (no connection), or HR_E_EXPRESSION, SQLite's message,
 * and in *out_offset the byte offset in text where the caret belongs (-1: unknown). Aggregates,
 * subqueries on other tables, PRAGMA, ATTACH and side effects are refused by an authorizer. */
hr_code hr_sql_compile(hr_sql *sql, const char *text, hr_expression **out_expression,
                       int *out_offset, hr_error *err);
void hr_expression_free(hr_expression *take_expression);

/* Sets bit i of out_bits ((count+63)/64 words, zeroed by the call) where the expression is true for
 * event i. An event whose evaluation fails (bad regex input, division by text ...) counts as false;
 * *out_errors counts them, the first message goes to err (may be NULL). Bounded by a progress
 * handler. */
void hr_expression_match(hr_expression *expression, const hr_batch *batch, uint64_t *out_bits,
                         uint32_t *out_errors, hr_error *err);

/* Calls each(data, index, value, is_null) with the expression's value as text, for every event in
 * order. value is borrowed for the call. */
void hr_expression_values(hr_expression *expression, const hr_batch *batch,
                          void (*each)(void *data, uint32_t index, hr_slice value, bool is_null),
                          void *data);

#endif
