/* SPDX-License-Identifier: Apache-2.0 */
#include "streams/sql.h"

#include "core/memory.h"
#include "streams/sql_priv.h"

enum {
    PROGRESS_OPS = 10000, /* instructions between two looks */
    PROGRESS_MAX = 100,   /* looks one event may take */
    ROW_NONE = UINT32_MAX /* no event has begun */
};

#define MATCH_PREFIX  "SELECT i FROM ev WHERE "
#define VALUES_PREFIX "SELECT "

static int on_progress(void *data) {
    hr_sql *sql = data;
    return ++sql->steps > PROGRESS_MAX;
}

static int set_limits(sqlite3 *db) {
    static const int limits[][2] = {
        {SQLITE_LIMIT_LENGTH, 17 << 20},
        {SQLITE_LIMIT_SQL_LENGTH, 1 << 20},
        {SQLITE_LIMIT_COLUMN, 200},
        {SQLITE_LIMIT_EXPR_DEPTH, 1000},
        {SQLITE_LIMIT_COMPOUND_SELECT, 1},
        {SQLITE_LIMIT_VDBE_OP, 100000},
        {SQLITE_LIMIT_FUNCTION_ARG, 100},
        {SQLITE_LIMIT_ATTACHED, 0},
        {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000},
        {SQLITE_LIMIT_VARIABLE_NUMBER, 0},
        {SQLITE_LIMIT_TRIGGER_DEPTH, 0},
        {SQLITE_LIMIT_WORKER_THREADS, 0},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        sqlite3_limit(db, limits[i][0], limits[i][1]);
    }
    sqlite3_progress_handler(db, 0, NULL, NULL);
    int rc = SQLITE_OK;
    static const int options[][2] = {{SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
                                     {SQLITE_DBCONFIG_DQS_DML, 0},
                                     {SQLITE_DBCONFIG_DQS_DDL, 0},
                                     {SQLITE_DBCONFIG_DEFENSIVE, 1},
                                     {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
                                     {SQLITE_DBCONFIG_ENABLE_VIEW, 0},
                                     {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0}};
    for (size_t i = 0; i < sizeof options / sizeof *options && rc == SQLITE_OK; i++) {
        rc = sqlite3_db_config(db, options[i][0], options[i][1], (int *)NULL);
    }
    return rc;
}

/* The connection opens for the first expression: many configurations have none. */
static hr_code open_connection(hr_sql *sql, hr_error *err) {
    int rc = sqlite3_open_v2(":memory:", &sql->db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY |
                                 SQLITE_OPEN_NOMUTEX,
                             NULL);
    if (rc == SQLITE_OK) {
        rc = set_limits(sql->db);
    }
    if (rc == SQLITE_OK) {
        rc = hr_sql_batch_register(sql);
    }
    if (rc == SQLITE_OK) {
        rc = hr_sql_functions_register(sql);
    }
    if (rc == SQLITE_OK) { /* the table comes to life here, before writing is forbidden */
        rc = sqlite3_exec(sql->db, "SELECT i FROM ev", NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_set_authorizer(sql->db, hr_sql_authorize, sql);
    }
    if (rc != SQLITE_OK) {
        hr_code code = hr_fail(err, HR_E_IO, rc, "SQL evaluator: %s",
                               sql->db == NULL ? sqlite3_errstr(rc) : sqlite3_errmsg(sql->db));
        sqlite3_close_v2(sql->db);
        sql->db = NULL;
        return code;
    }
    sqlite3_progress_handler(sql->db, PROGRESS_OPS, on_progress, sql);
    return HR_OK;
}

hr_sql *hr_sql_new(void) {
    return hr_alloc(sizeof(hr_sql));
}

void hr_sql_free(hr_sql *take_sql) {
    if (take_sql == NULL) {
        return;
    }
    HR_ASSERT(take_sql->expressions == 0);
    sqlite3_close_v2(take_sql->db);
    hr_buffer_fini(&take_sql->scratch);
    hr_free(take_sql);
}

/* Values are bounded (SQLITE_LIMIT_LENGTH), so the machine has none left. An event must not count
 * as one that does not match, or has no key, for that. */
static void require_memory(int rc) {
    if ((rc & 0xff) == SQLITE_NOMEM) {
        hr_give_up("out of memory (in an expression)");
    }
}

static int prepare(hr_expression *expression, const char *before, const char *after,
                   sqlite3_stmt **out_statement) {
    char *text = hr_format("%s%s%s", before, expression->rewritten, after);
    const char *rest = NULL;
    expression->sql->steps = 0;
    int rc = sqlite3_prepare_v3(expression->sql->db, text, -1, SQLITE_PREPARE_PERSISTENT,
                                out_statement, &rest);
    require_memory(rc);
    HR_ASSERT(rc != SQLITE_OK || *rest == '\0'); /* the lexer lets no second statement pass */
    hr_free(text);
    return rc;
}

/* SQLite's message and place, in terms of the user's text. */
static hr_code explain(hr_expression *expression, const char *text, int rc, int *out_offset,
                       hr_error *err) {
    sqlite3 *db = expression->sql->db;
    const char *message = sqlite3_errmsg(db);
    int offset = sqlite3_error_offset(db) - (int)strlen(MATCH_PREFIX);
    size_t size = 0;
    *out_offset = -1;
    if (offset >= 0) {
        *out_offset = (int)hr_sql_source_offset(expression, (size_t)offset, &size);
    }
    if (strncmp(message, "near \"", 6) == 0 && *out_offset >= 0) {
        if (size == 0) {
            return hr_fail(err, HR_E_EXPRESSION, rc, "the expression is not complete");
        }
        return hr_fail(err, HR_E_EXPRESSION, rc, "near \"%.*s\": syntax error",
                       (int)(size > 100 ? 100 : size), text + *out_offset);
    }
    if (strncmp(message, "misuse of ", 10) == 0) {
        return hr_fail(err, HR_E_EXPRESSION, rc, "%s: an expression looks at one event", message);
    }
    return hr_fail(err, HR_E_EXPRESSION, rc, "%s", message);
}

hr_code hr_sql_compile(hr_sql *sql, const char *text, hr_expression **out_expression,
                       int *out_offset, hr_error *err) {
    HR_ASSERT(sql->running == NULL);
    int offset = -1;
    hr_code code = sql->db == NULL ? open_connection(sql, err) : HR_OK;
    if (code != HR_OK) {
        if (out_offset != NULL) {
            *out_offset = offset;
        }
        return code;
    }
    hr_expression *expression = hr_alloc(sizeof *expression);
    expression->sql = sql;
    expression->paths = hr_json_paths_new();
    sql->expressions++;
    code = hr_sql_rewrite(expression, text, &offset, err);
    if (code == HR_OK) {
        int rc = prepare(expression, MATCH_PREFIX, "", &expression->match);
        if (rc != SQLITE_OK) {
            code = explain(expression, text, rc, &offset, err);
        }
        hr_free(expression->pieces);
        expression->pieces = NULL;
    }
    if (code != HR_OK) {
        hr_expression_free(expression);
        if (out_offset != NULL) {
            *out_offset = offset;
        }
        return code;
    }
    expression->found = hr_alloc_array((size_t)hr_json_paths_count(expression->paths) + 1,
                                       sizeof *expression->found);
    *out_expression = expression;
    return HR_OK;
}

void hr_expression_free(hr_expression *take_expression) {
    if (take_expression == NULL) {
        return;
    }
    HR_ASSERT(take_expression->sql->running != take_expression);
    sqlite3_finalize(take_expression->match);
    sqlite3_finalize(take_expression->values);
    for (int i = 0; i < take_expression->name_count; i++) {
        hr_free(take_expression->names[i]);
    }
    for (int i = 0; i < take_expression->pattern_count; i++) {
        hr_pattern_free(take_expression->patterns[i]);
    }
    hr_json_paths_free(take_expression->paths);
    hr_free(take_expression->found);
    hr_free(take_expression->pieces);
    hr_free(take_expression->rewritten);
    take_expression->sql->expressions--;
    hr_free(take_expression);
}

/* Steps the statement over the batch; an event that fails is told to failed(), and the scan goes on
 * behind it. */
static void run(hr_expression *expression, sqlite3_stmt *statement, const hr_batch *batch,
                void (*good)(void *data, uint32_t index, sqlite3_stmt *statement),
                void (*failed)(void *data, uint32_t first, uint32_t end, const char *message),
                void *data) {
    hr_sql *sql = expression->sql;
    HR_ASSERT(sql->running == NULL); /* no evaluation within an evaluation */
    sql->running = expression;
    sql->batch = batch;
    sql->first = 0;
    sql->matches = 0;
    sql->is_late = false;
    sql->began_ns = 0;
    while (sql->first < batch->count) {
        sql->row = ROW_NONE;
        sql->steps = 0;
        expression->found_row = ROW_NONE;
        int rc = sqlite3_step(statement);
        for (; rc == SQLITE_ROW; rc = sqlite3_step(statement)) {
            good(data, sql->row, statement);
        }
        if (rc == SQLITE_DONE) {
            break;
        }
        require_memory(rc);
        /* Before the first event: a constant part fails, so every event does. */
        uint32_t end = sql->row == ROW_NONE ? batch->count : sql->row + 1;
        failed(data, sql->row == ROW_NONE ? sql->first : sql->row, end, sqlite3_errmsg(sql->db));
        sqlite3_reset(statement);
        sql->first = end;
    }
    sqlite3_reset(statement);
    sql->running = NULL;
    sql->batch = NULL;
}

typedef struct matching {
    uint64_t *bits;
    uint32_t errors;
    hr_error *err;
} matching;

static void match_good(void *data, uint32_t index, sqlite3_stmt *statement) {
    const matching *self = data;
    (void)statement;
    self->bits[index / 64] |= UINT64_C(1) << (index % 64);
}

static void match_failed(void *data, uint32_t first, uint32_t end, const char *message) {
    matching *self = data;
    if (self->errors == 0) {
        hr_fail(self->err, HR_E_EXPRESSION, 0, "%s", message);
    }
    self->errors += end - first;
}

void hr_expression_match(hr_expression *expression, const hr_batch *batch, uint64_t *out_bits,
                         uint32_t *out_errors, hr_error *err) {
    matching self = {.bits = out_bits, .err = err};
    memset(out_bits, 0, ((size_t)batch->count + 63) / 64 * sizeof *out_bits);
    run(expression, expression->match, batch, match_good, match_failed, &self);
    *out_errors = self.errors;
}

typedef struct valuing {
    void (*each)(void *data, uint32_t index, hr_slice value, bool is_null);
    void *data;
} valuing;

static void value_good(void *data, uint32_t index, sqlite3_stmt *statement) {
    const valuing *self = data;
    int type = sqlite3_column_type(statement, 0);
    if (type == SQLITE_INTEGER || type == SQLITE_FLOAT) {
        sqlite3_column_text(statement, 0);
    }
    const void *bytes = sqlite3_column_blob(statement, 0); /* as it stands, not copied */
    size_t size = (size_t)sqlite3_column_bytes(statement, 0);
    if (bytes == NULL && type != SQLITE_NULL) { /* empty, or it could not be made */
        require_memory(sqlite3_errcode(sqlite3_db_handle(statement)));
    }
    self->each(self->data, index, hr_slice_of(bytes, size), type == SQLITE_NULL);
}

static void value_failed(void *data, uint32_t first, uint32_t end, const char *message) {
    const valuing *self = data;
    (void)message;
    for (uint32_t i = first; i < end; i++) {
        self->each(self->data, i, hr_slice_of(NULL, 0), true);
    }
}

void hr_expression_values(hr_expression *expression, const hr_batch *batch,
                          void (*each)(void *data, uint32_t index, hr_slice value, bool is_null),
                          void *data) {
    valuing self = {.each = each, .data = data};
    if (expression->values == NULL) {
        int rc = prepare(expression, VALUES_PREFIX, " FROM ev", &expression->values);
        if (rc != SQLITE_OK) {
            value_failed(&self, 0, batch->count, NULL);
            return;
        }
    }
    run(expression, expression->values, batch, value_good, value_failed, &self);
}
