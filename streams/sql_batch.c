/* SPDX-License-Identifier: Apache-2.0 */
/* The virtual table ev: a row an event of the batch that is evaluated. */
#include "core/envelope.h"
#include "core/memory.h"
#include "core/time_text.h"
#include "streams/sql_priv.h"

typedef struct event_table {
    sqlite3_vtab base;
    hr_sql *sql;
} event_table;

static int connect_table(sqlite3 *db, void *data, int count, const char *const *words,
                         sqlite3_vtab **out_table, char **out_error) {
    (void)count;
    (void)words;
    (void)out_error;
    hr_buffer text = {0};
    hr_buffer_print(&text, "CREATE TABLE ev(i, id, source, type, subject, time, datacontenttype, "
                           "dataschema, data");
    for (int i = 0; i < HR_JSON_PATHS_MAX; i++) {
        hr_buffer_print(&text, ", _p%d", i);
    }
    for (int i = 0; i < HR_SQL_NAMES_MAX; i++) {
        hr_buffer_print(&text, ", _x%d", i);
    }
    hr_buffer_print(&text, ")");
    int rc = sqlite3_declare_vtab(db, hr_buffer_text(&text));
    hr_buffer_fini(&text);
    if (rc == SQLITE_OK) {
        event_table *table = hr_alloc(sizeof *table);
        table->sql = data;
        *out_table = &table->base;
    }
    return rc;
}

static int disconnect_table(sqlite3_vtab *table) {
    hr_free(table);
    return SQLITE_OK;
}

static int best_index(sqlite3_vtab *table, sqlite3_index_info *info) {
    (void)table;
    info->estimatedCost = 1000;
    info->estimatedRows = 1000;
    return SQLITE_OK;
}

static int open_cursor(sqlite3_vtab *table, sqlite3_vtab_cursor **out_cursor) {
    (void)table;
    *out_cursor = hr_alloc(sizeof **out_cursor);
    return SQLITE_OK;
}

static int close_cursor(sqlite3_vtab_cursor *cursor) {
    hr_free(cursor);
    return SQLITE_OK;
}

static inline hr_sql *sql_of(const sqlite3_vtab_cursor *cursor) {
    return ((const event_table *)cursor->pVtab)->sql;
}

static int filter(sqlite3_vtab_cursor *cursor, int number, const char *text, int count,
                  sqlite3_value **values) {
    (void)number;
    (void)text;
    (void)count;
    (void)values;
    hr_sql *sql = sql_of(cursor);
    sql->row = sql->first;
    sql->steps = 0;
    return SQLITE_OK;
}

static int next_row(sqlite3_vtab_cursor *cursor) {
    hr_sql *sql = sql_of(cursor);
    sql->row++;
    sql->steps = 0;
    return SQLITE_OK;
}

static int is_end(sqlite3_vtab_cursor *cursor) {
    const hr_sql *sql = sql_of(cursor);
    return sql->batch == NULL || sql->row >= sql->batch->count;
}

static int row_id(sqlite3_vtab_cursor *cursor, sqlite3_int64 *out_id) {
    *out_id = sql_of(cursor)->row;
    return SQLITE_OK;
}

const hr_json_value *hr_sql_found(hr_sql *sql) {
    hr_expression *expression = sql->running;
    if (expression->found_row != sql->row) {
        hr_json_scan(expression->paths, hr_batch_data(sql->batch, sql->row), expression->found);
        expression->found_row = sql->row;
    }
    return expression->found;
}

static void result_text(sqlite3_context *context, hr_slice text) {
    sqlite3_result_text64(context, text.size == 0 ? "" : (const char *)text.bytes, text.size,
                          SQLITE_STATIC, SQLITE_UTF8);
}

void hr_sql_result_value(sqlite3_context *context, hr_buffer *scratch, const hr_json_value *value) {
    int64_t integer = 0;
    double real = 0;
    switch (value->kind) {
    case HR_JSON_ABSENT:
    case HR_JSON_NULL:
        break;
    case HR_JSON_FALSE:
    case HR_JSON_TRUE:
        sqlite3_result_int(context, value->kind == HR_JSON_TRUE);
        break;
    case HR_JSON_INTEGER:
    case HR_JSON_REAL:
        if (hr_json_number(value, &integer, &real)) {
            sqlite3_result_int64(context, integer);
        } else {
            sqlite3_result_double(context, real);
        }
        break;
    case HR_JSON_TEXT:
        if (value->has_escapes) {
            scratch->size = 0;
            hr_json_unescape(value, scratch);
            sqlite3_result_text64(context, scratch->size == 0 ? "" : (const char *)scratch->bytes,
                                  scratch->size, SQLITE_TRANSIENT, SQLITE_UTF8);
            break;
        }
        result_text(context, value->raw);
        break;
    case HR_JSON_ARRAY:
    case HR_JSON_OBJECT:
        result_text(context, value->raw);
        break;
    }
}

void hr_sql_result_json(sqlite3_context *context, const hr_json_value *value) {
    if (value->kind == HR_JSON_ABSENT) {
        return;
    }
    hr_slice raw = value->raw;
    if (value->kind == HR_JSON_TEXT) { /* with its quotes, which stand around it */
        raw = hr_slice_of(raw.bytes - 1, raw.size + 2);
    }
    sqlite3_result_text64(context, (const char *)raw.bytes, raw.size, SQLITE_TRANSIENT,
                          SQLITE_UTF8);
}

static void result_attribute(sqlite3_context *context, hr_slice envelope, const char *name) {
    hr_attribute attribute;
    if (!hr_envelope_attribute(envelope, name, &attribute)) {
        return;
    }
    char time[HR_TIME_TEXT];
    switch (attribute.type) {
    case HR_ATTRIBUTE_BOOLEAN:
    case HR_ATTRIBUTE_INTEGER:
        sqlite3_result_int64(context, attribute.number);
        break;
    case HR_ATTRIBUTE_BYTES:
        sqlite3_result_blob64(context,
                              attribute.text.size == 0 ? "" : (const void *)attribute.text.bytes,
                              attribute.text.size, SQLITE_STATIC);
        break;
    case HR_ATTRIBUTE_TIMESTAMP:
        hr_time_print(attribute.number, time);
        sqlite3_result_text(context, time, -1, SQLITE_TRANSIENT);
        break;
    case HR_ATTRIBUTE_STRING:
    case HR_ATTRIBUTE_URI:
    case HR_ATTRIBUTE_URI_REF:
        result_text(context, attribute.text);
        break;
    }
}

static void result_data(sqlite3_context *context, const hr_batch *batch, uint32_t row) {
    uint16_t flags = batch->view[row].flags;
    hr_slice data = hr_batch_data(batch, row);
    if ((flags & HR_VIEW_DATA) == 0) {
        return;
    }
    if ((flags & (HR_VIEW_TEXT | HR_VIEW_JSON)) != 0) {
        result_text(context, data);
    } else {
        sqlite3_result_blob64(context, data.size == 0 ? "" : (const void *)data.bytes, data.size,
                              SQLITE_STATIC);
    }
}

static int column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int number) {
    hr_sql *sql = sql_of(cursor);
    const hr_batch *batch = sql->batch;
    uint32_t row = sql->row;
    if (number >= HR_SQL_NAME) {
        HR_ASSERT(number - HR_SQL_NAME < sql->running->name_count);
        result_attribute(context, hr_batch_envelope(batch, row),
                         sql->running->names[number - HR_SQL_NAME]);
        return SQLITE_OK;
    }
    if (number >= HR_SQL_PATH) {
        HR_ASSERT(number - HR_SQL_PATH < hr_json_paths_count(sql->running->paths));
        hr_sql_result_value(context, &sql->scratch, &hr_sql_found(sql)[number - HR_SQL_PATH]);
        return SQLITE_OK;
    }
    switch ((hr_sql_column)number) {
    case HR_SQL_I:
        sqlite3_result_int64(context, row);
        break;
    case HR_SQL_ID:
        result_text(context, hr_batch_id(batch, row));
        break;
    case HR_SQL_SOURCE:
        result_text(context, hr_batch_source(batch, row));
        break;
    case HR_SQL_TYPE:
        result_text(context, hr_batch_type(batch, row));
        break;
    case HR_SQL_SUBJECT:
        if (batch->view[row].subject_size > 0) {
            result_text(context, hr_batch_subject(batch, row));
        }
        break;
    case HR_SQL_TIME:
        result_attribute(context, hr_batch_envelope(batch, row), "time");
        break;
    case HR_SQL_DATACONTENTTYPE:
        result_attribute(context, hr_batch_envelope(batch, row), "datacontenttype");
        break;
    case HR_SQL_DATASCHEMA:
        result_attribute(context, hr_batch_envelope(batch, row), "dataschema");
        break;
    case HR_SQL_DATA:
        result_data(context, batch, row);
        break;
    case HR_SQL_PATH:
    case HR_SQL_NAME:
    case HR_SQL_COLUMNS:
        break;
    }
    return SQLITE_OK;
}

int hr_sql_batch_register(hr_sql *sql) {
    static const sqlite3_module module = {
        .xConnect = connect_table, /* no xCreate: exists without CREATE VIRTUAL TABLE */
        .xBestIndex = best_index,
        .xDisconnect = disconnect_table,
        .xDestroy = disconnect_table,
        .xOpen = open_cursor,
        .xClose = close_cursor,
        .xFilter = filter,
        .xNext = next_row,
        .xEof = is_end,
        .xColumn = column,
        .xRowid = row_id,
    };
    return sqlite3_create_module_v2(sql->db, "ev", &module, sql, NULL);
}
