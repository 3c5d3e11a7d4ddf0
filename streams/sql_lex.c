/* SPDX-License-Identifier: Apache-2.0 */
/* Reads an expression as SQLite's tokenizer would, puts columns where data.a.b and names of
 * attributes stand, and refuses what is no expression. */
#include "core/envelope.h"
#include "core/memory.h"
#include "streams/sql_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

typedef enum token_kind { /* of the token before; only what changes the meaning of the next */
                          TOKEN_OTHER,
                          TOKEN_ARROW,
                          TOKEN_REGEXP,
                          TOKEN_IN,
                          TOKEN_COLLATE,
} token_kind;

typedef struct lexer {
    hr_expression *expression;
    const char *text, *at;
    hr_buffer out;
    hr_sql_piece *pieces;
    size_t piece_count, piece_capacity;
    token_kind before;
    bool in_type, is_empty; /* in_type: between AS and the parenthesis of CAST */
    unsigned depth;
    int *out_offset;
    hr_error *err;
} lexer;

__attribute__((format(printf, 3, 4))) static hr_code refuse(lexer *lex, const char *at,
                                                            const char *format, ...) {
    char text[HR_ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    *lex->out_offset = (int)(at - lex->text);
    return hr_fail(lex->err, HR_E_EXPRESSION, 0, "%s", text);
}

static bool is_word_start(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_word(char c) {
    return is_word_start(c) || is_digit(c) || c == '$';
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}

/* Source up to end becomes the size bytes at bytes. */
static void put(lexer *lex, const char *end, const void *bytes, size_t size) {
    if (lex->piece_count == lex->piece_capacity) {
        lex->piece_capacity = lex->piece_capacity == 0 ? 32 : lex->piece_capacity * 2;
        lex->pieces = hr_realloc(lex->pieces, lex->piece_capacity * sizeof *lex->pieces);
    }
    lex->pieces[lex->piece_count++] = (hr_sql_piece){.out_at = lex->out.size,
                                                     .out_size = size,
                                                     .source_at = (size_t)(lex->at - lex->text),
                                                     .source_size = (size_t)(end - lex->at)};
    hr_buffer_add(&lex->out, bytes, size);
    lex->at = end;
}

static void copy(lexer *lex, const char *end) {
    put(lex, end, lex->at, (size_t)(end - lex->at));
}

/* What the quotes hold, with doubled quotes made single. */
static void unquote(hr_slice quoted, hr_buffer *out) {
    for (size_t i = 1; i + 1 < quoted.size; i++) {
        hr_buffer_add(out, quoted.bytes + i, 1);
        if (quoted.bytes[i] == '\'') {
            i++;
        }
    }
}

/* A text that is a path or a pattern is checked here, so that the caret can point at it. */
static hr_code lex_constant(lexer *lex, hr_slice quoted) {
    hr_buffer text = {0};
    unquote(quoted, &text);
    hr_slice slice = hr_slice_of(text.bytes, text.size);
    hr_expression *expression = lex->expression;
    hr_error err = {0};
    hr_code code = HR_OK;
    int slot = 0, offset = 0;
    if (lex->before == TOKEN_ARROW && slice.size > 0 && slice.bytes[0] == '$') {
        code = hr_json_paths_add(expression->paths, slice, &slot, &offset, &err);
    } else if (lex->before == TOKEN_REGEXP) {
        hr_pattern *pattern = NULL;
        code = hr_pattern_new(slice, &pattern, &err);
        if (code == HR_OK && expression->pattern_count < HR_SQL_PATTERNS_KEPT) {
            expression->patterns[expression->pattern_count++] = pattern;
        } else {
            hr_pattern_free(pattern);
        }
    }
    hr_buffer_fini(&text);
    return code == HR_OK ? HR_OK : refuse(lex, lex->at + 1 + offset, "%s", err.text);
}

static hr_code lex_text(lexer *lex) {
    const char *end = lex->at + 1;
    for (; end[0] != '\'' || end[1] == '\''; end++) {
        if (*end == '\0') {
            return refuse(lex, lex->at, "a text is not closed: ' is missing");
        }
        end += *end == '\'';
    }
    hr_code code = lex_constant(lex, hr_slice_of(lex->at, (size_t)(end + 1 - lex->at)));
    copy(lex, end + 1);
    return code;
}

static hr_code lex_number(lexer *lex) {
    const char *end = lex->at;
    if (end[0] == '0' && (end[1] | 0x20) == 'x') {
        end += 2;
        while (is_digit(*end) || ((*end | 0x20) >= 'a' && (*end | 0x20) <= 'f')) {
            end++;
        }
    } else {
        while (is_digit(*end)) {
            end++;
        }
        if (*end == '.') {
            end++;
            while (is_digit(*end)) {
                end++;
            }
        }
        if ((*end | 0x20) == 'e' &&
            (is_digit(end[1]) || ((end[1] == '+' || end[1] == '-') && is_digit(end[2])))) {
            end += 2;
            while (is_digit(*end)) {
                end++;
            }
        }
    }
    if (is_word(*end) || *end == '.') {
        return refuse(lex, lex->at, "a number with letters: put texts in single quotes");
    }
    copy(lex, end);
    return HR_OK;
}

/* Stands behind "data"; returns the end of .a[0]."b c". */
static const char *path_end(const char *at) {
    for (;;) {
        if (*at == '[') {
            at++;
            while (is_digit(*at)) {
                at++;
            }
            if (*at != ']') {
                return at;
            }
            at++;
        } else if (at[0] == '.' && at[1] == '"') {
            const char *close = strchr(at + 2, '"');
            if (close == NULL) {
                return at + strlen(at);
            }
            at = close + 1;
        } else if (at[0] == '.' && is_word_start(at[1])) {
            at++;
            while (is_word(*at)) {
                at++;
            }
        } else {
            return at;
        }
    }
}

static hr_code lex_path(lexer *lex, const char *dot) {
    const char *end = path_end(dot);
    if (*end == '.') {
        return refuse(lex, end, "a name is missing: data.name, or data.\"any key\"");
    }
    hr_buffer path = {0};
    hr_buffer_add(&path, "$", 1);
    hr_buffer_add(&path, dot, (size_t)(end - dot));
    hr_error err = {0};
    int slot = 0, offset = 0;
    hr_code code = hr_json_paths_add(lex->expression->paths, hr_slice_of(path.bytes, path.size),
                                     &slot, &offset, &err);
    hr_buffer_fini(&path);
    if (code != HR_OK) {
        return refuse(lex, offset == 0 ? lex->at : dot + offset - 1, "%s", err.text);
    }
    char name[16];
    /* what follows is a token of its own: data[0]1 must not become the column _p01 */
    int size = snprintf(name, sizeof name, "_p%d%s", slot, is_word(*end) ? " " : "");
    put(lex, end, name, (size_t)size);
    return HR_OK;
}

static hr_code lex_name(lexer *lex, const char *end) {
    hr_expression *expression = lex->expression;
    size_t size = (size_t)(end - lex->at);
    char name[HR_ATTRIBUTE_NAME_MAX + 1];
    if (size > HR_ATTRIBUTE_NAME_MAX) {
        return refuse(lex, lex->at, "a name is over %d bytes", HR_ATTRIBUTE_NAME_MAX);
    }
    for (size_t i = 0; i < size; i++) {
        char c = lex->at[i];
        name[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    name[size] = '\0';
    if (!hr_attribute_name_is_valid(hr_slice_of(name, size))) {
        return refuse(lex, lex->at, "no event can have an attribute '%s'", name);
    }
    int i = 0;
    while (i < expression->name_count && strcmp(expression->names[i], name) != 0) {
        i++;
    }
    if (i == HR_SQL_NAMES_MAX) {
        return refuse(lex, lex->at, "more than %d different names", HR_SQL_NAMES_MAX);
    }
    if (i == expression->name_count) {
        expression->names[expression->name_count++] = hr_copy_text(name);
    }
    char column[16];
    int column_size = snprintf(column, sizeof column, "_x%d", i);
    put(lex, end, column, (size_t)column_size);
    return HR_OK;
}

static bool is_one_of(const char *at, size_t size, const char *const *words) {
    for (; *words != NULL; words++) {
        if (strlen(*words) == size && strncasecmp(at, *words, size) == 0) {
            return true;
        }
    }
    return false;
}

static hr_code lex_word(lexer *lex) {
    static const char *const keywords[] = {
        "and",      "or",   "not",  "is",     "null",         "isnull",       "notnull",
        "in",       "like", "glob", "regexp", "between",      "case",         "when",
        "then",     "else", "end",  "cast",   "as",           "collate",      "escape",
        "distinct", "from", "true", "false",  "current_date", "current_time", "current_timestamp",
        NULL};
    static const char *const columns[] = {
        "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", NULL};
    static const char *const queries[] = {"select", "values", "exists", "with", NULL};
    static const char *const data[] = {"data", NULL}, *const in[] = {"in", NULL},
                             *const as[] = {"as", NULL}, *const collate[] = {"collate", NULL},
                             *const pattern[] = {"regexp", NULL},
                             *const select[] = {"select", NULL}, *const match[] = {"match", NULL};
    const char *end = lex->at;
    while (is_word(*end)) {
        end++;
    }
    size_t size = (size_t)(end - lex->at);
    const char *after = end;
    while (is_space(*after)) {
        after++;
    }
    token_kind before = lex->before;
    lex->before = TOKEN_OTHER;
    if (is_one_of(lex->at, size, select) || (*after == '(' && is_one_of(lex->at, size, queries))) {
        return refuse(lex, lex->at, "an expression looks at one event: no subqueries");
    }
    if (before == TOKEN_IN) {
        return refuse(lex, lex->at, "IN needs a list in parentheses");
    }
    if (before == TOKEN_COLLATE || lex->in_type) {
        copy(lex, end);
        return HR_OK;
    }
    if (is_one_of(lex->at, size, keywords)) {
        lex->in_type = is_one_of(lex->at, size, as);
        lex->before = is_one_of(lex->at, size, in)        ? TOKEN_IN
                      : is_one_of(lex->at, size, collate) ? TOKEN_COLLATE
                      : is_one_of(lex->at, size, pattern) ? TOKEN_REGEXP
                                                          : TOKEN_OTHER;
        copy(lex, end);
        return HR_OK;
    }
    if (is_one_of(lex->at, size, data) && (*end == '.' || *end == '[')) {
        return lex_path(lex, end);
    }
    if (*end == '.') {
        return refuse(lex, lex->at, "only data has parts: data.%.*s", (int)(size > 64 ? 64 : size),
                      lex->at);
    }
    if (*after == '(') {
        copy(lex, end);
        return HR_OK;
    }
    if (is_one_of(lex->at, size, match)) {
        return refuse(lex, lex->at, "write REGEXP or GLOB instead of MATCH");
    }
    if (is_one_of(lex->at, size, columns)) {
        copy(lex, end);
        return HR_OK;
    }
    return lex_name(lex, end);
}

/* Comments and operators of more than one character. */
static hr_code lex_sign(lexer *lex) {
    const char *at = lex->at;
    switch (*at) {
    case '-':
        if (at[1] == '-') {
            copy(lex, at + strcspn(at, "\n"));
            return HR_OK;
        }
        if (at[1] == '>') {
            copy(lex, at + (at[2] == '>' ? 3 : 2));
            lex->before = TOKEN_ARROW;
            return HR_OK;
        }
        break;
    case '/':
        if (at[1] == '*') {
            const char *close = strstr(at + 2, "*/");
            if (close == NULL) {
                return refuse(lex, at, "a comment is not closed: */ is missing");
            }
            copy(lex, close + 2);
            return HR_OK;
        }
        break;
    case '=':
        if (at[1] == '~') {
            return refuse(lex, at, "write REGEXP instead of =~");
        }
        break;
    case '!':
        if (at[1] == '~') {
            return refuse(lex, at, "write NOT REGEXP instead of !~");
        }
        if (at[1] != '=') {
            return refuse(lex, at, "write NOT instead of !");
        }
        break;
    case '&':
        if (at[1] == '&') {
            return refuse(lex, at, "write AND instead of &&");
        }
        break;
    case '(':
        lex->depth++;
        break;
    case ')':
        if (lex->depth == 0) {
            return refuse(lex, at, "a ) without its (");
        }
        lex->depth--;
        lex->in_type = false;
        break;
    case '"':
        return refuse(lex, at,
                      "texts stand in single quotes ('x'); double quotes only in "
                      "data.\"any key\"");
    case '`':
    case '[':
        return refuse(lex, at, "%c may not stand here", *at);
    case ';':
        return refuse(lex, at, "one expression only, without ;");
    case '.':
        return refuse(lex, at, "a . may stand only in numbers and behind data");
    case '?':
    case ':':
    case '@':
    case '$':
    case '#':
        return refuse(lex, at, "%c may not stand here: there are no parameters", *at);
    default:
        break;
    }
    bool is_pair = *at != '(' && *at != ')' && (at[1] == '=' || at[1] == *at || at[1] == '>') &&
                   strchr("<>=!|", *at) != NULL;
    copy(lex, at + (is_pair ? 2 : 1));
    lex->before = TOKEN_OTHER;
    return HR_OK;
}

static hr_code lex_token(lexer *lex) {
    const char *at = lex->at;
    if (is_space(*at)) {
        size_t size = strspn(at, " \t\n\f\r");
        copy(lex, at + size);
        return HR_OK;
    }
    bool is_comment = (at[0] == '-' && at[1] == '-') || (at[0] == '/' && at[1] == '*');
    lex->is_empty = lex->is_empty && is_comment;
    hr_code code;
    if (*at == '\'' || ((*at | 0x20) == 'x' && at[1] == '\'')) {
        if (*at != '\'') { /* a blob: SQLite checks its digits */
            copy(lex, at + 1);
            lex->before = TOKEN_OTHER;
        }
        code = lex_text(lex);
        lex->before = TOKEN_OTHER;
        return code;
    }
    if (is_digit(*at) || (*at == '.' && is_digit(at[1]))) {
        lex->before = TOKEN_OTHER;
        return lex_number(lex);
    }
    return is_word_start(*at) ? lex_word(lex) : lex_sign(lex);
}

hr_code hr_sql_rewrite(hr_expression *expression, const char *text, int *out_offset,
                       hr_error *err) {
    lexer lex = {.expression = expression,
                 .text = text,
                 .at = text,
                 .is_empty = true,
                 .out_offset = out_offset,
                 .err = err};
    hr_code code = HR_OK;
    if (strnlen(text, HR_SQL_TEXT_MAX + 1) > HR_SQL_TEXT_MAX) {
        code = refuse(&lex, text, "the expression is over %d bytes", HR_SQL_TEXT_MAX);
    }
    hr_buffer_add(&lex.out, "(", 1);
    while (code == HR_OK && *lex.at != '\0') {
        code = lex_token(&lex);
    }
    if (code == HR_OK && lex.is_empty) {
        code = refuse(&lex, lex.at, "the expression is empty");
    }
    if (code == HR_OK && lex.depth > 0) {
        code = refuse(&lex, lex.at, "a ) is missing at the end");
    }
    hr_buffer_add(&lex.out, "\n)", 2); /* a comment may end the text */
    if (code == HR_OK) {
        expression->rewritten = hr_copy_text(hr_buffer_text(&lex.out));
        expression->pieces = lex.pieces;
        expression->piece_count = lex.piece_count;
    } else {
        hr_free(lex.pieces);
    }
    hr_buffer_fini(&lex.out);
    return code;
}

size_t hr_sql_source_offset(const hr_expression *expression, size_t offset, size_t *out_size) {
    for (size_t i = 0; i < expression->piece_count; i++) {
        const hr_sql_piece *piece = &expression->pieces[i];
        if (offset < piece->out_at + piece->out_size) {
            *out_size = piece->source_size;
            return piece->source_at;
        }
    }
    *out_size = 0;
    const hr_sql_piece *last = &expression->pieces[expression->piece_count - 1];
    return last->source_at + last->source_size;
}
