/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions for REGEXP: PCRE2 with a limit on everything. */
#include "core/library.h"
#include "core/memory.h"
#include "streams/sql_priv.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* pcre2_match and its kin are macros for these names. */
#define PCRE2_FUNCTIONS(X)                                                                         \
    X(pcre2_code_free_8)                                                                           \
    X(pcre2_compile_8)                                                                             \
    X(pcre2_compile_context_create_8)                                                              \
    X(pcre2_compile_context_free_8)                                                                \
    X(pcre2_get_error_message_8)                                                                   \
    X(pcre2_jit_compile_8)                                                                         \
    X(pcre2_match_8)                                                                               \
    X(pcre2_match_context_create_8)                                                                \
    X(pcre2_match_context_free_8)                                                                  \
    X(pcre2_match_data_create_8)                                                                   \
    X(pcre2_match_data_free_8)                                                                     \
    X(pcre2_set_depth_limit_8)                                                                     \
    X(pcre2_set_heap_limit_8)                                                                      \
    X(pcre2_set_match_limit_8)                                                                     \
    X(pcre2_set_parens_nest_limit_8)

static struct { PCRE2_FUNCTIONS(HR_LIBRARY_MEMBER) } pcre2; /* since the first pattern */

static hr_code load(hr_error *err) {
    static const char *const names[] = {PCRE2_FUNCTIONS(HR_LIBRARY_NAME)};
    static hr_library library = {.soname = HR_PCRE2_8_SONAME,
                                 .used_by = "expressions with REGEXP",
                                 .names = names,
                                 .count = sizeof names / sizeof *names,
                                 .table = &pcre2};
    return hr_library_load(&library, err);
}

struct hr_pattern {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
    char *text;
    size_t size;
};

hr_code hr_pattern_new(hr_slice text, hr_pattern **out_pattern, hr_error *err) {
    if (text.size > HR_SQL_PATTERN_MAX) {
        return hr_fail(err, HR_E_EXPRESSION, 0, "the regular expression is over %d bytes",
                       HR_SQL_PATTERN_MAX);
    }
    if (load(err) != HR_OK) {
        return HR_E_UNSUPPORTED;
    }
    pcre2_compile_context *limits = pcre2.pcre2_compile_context_create(NULL);
    hr_require(limits);
    pcre2.pcre2_set_parens_nest_limit(limits, 50);
    int number = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *code =
        pcre2.pcre2_compile(text.size == 0 ? (PCRE2_SPTR) "" : text.bytes, text.size,
                            PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &number, &at, limits);
    pcre2.pcre2_compile_context_free(limits);
    if (code == NULL) {
        if (number == PCRE2_ERROR_HEAP_FAILED) {
            hr_require(NULL);
        }
        PCRE2_UCHAR why[160] = "";
        pcre2.pcre2_get_error_message(number, why, sizeof why);
        return hr_fail(err, HR_E_EXPRESSION, 0, "regular expression, at byte %zu: %s", at,
                       (const char *)why);
    }
    pcre2.pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* without it the interpreter runs */
    hr_pattern *pattern = hr_alloc(sizeof *pattern);
    pattern->code = code;
    pattern->data = pcre2.pcre2_match_data_create(1, NULL);
    pattern->context = pcre2.pcre2_match_context_create(NULL);
    hr_require(pattern->data);
    hr_require(pattern->context);
    pcre2.pcre2_set_heap_limit(pattern->context, 8192); /* KiB */
    pcre2.pcre2_set_depth_limit(pattern->context, 10000);
    pattern->text = hr_copy_bytes(text.bytes, text.size);
    pattern->size = text.size;
    *out_pattern = pattern;
    return HR_OK;
}

void hr_pattern_free(hr_pattern *take_pattern) {
    if (take_pattern == NULL) {
        return;
    }
    pcre2.pcre2_match_data_free(take_pattern->data);
    pcre2.pcre2_match_context_free(take_pattern->context);
    pcre2.pcre2_code_free(take_pattern->code);
    hr_free(take_pattern->text);
    hr_free(take_pattern);
}

bool hr_pattern_is(const hr_pattern *pattern, hr_slice text) {
    return hr_slice_equal(hr_slice_of(pattern->text, pattern->size), text);
}

int hr_pattern_match(hr_pattern *pattern, hr_slice text, uint32_t steps_max) {
    pcre2.pcre2_set_match_limit(pattern->context, steps_max);
    int code = pcre2.pcre2_match(pattern->code, text.size == 0 ? (PCRE2_SPTR) "" : text.bytes,
                                 text.size, 0, 0, pattern->data, pattern->context);
    switch (code) {
    case PCRE2_ERROR_NOMATCH:
        return 0;
    case PCRE2_ERROR_MATCHLIMIT:
    case PCRE2_ERROR_DEPTHLIMIT:
    case PCRE2_ERROR_HEAPLIMIT:
    case PCRE2_ERROR_JIT_STACKLIMIT:
        return -1;
    case PCRE2_ERROR_NOMEMORY:
        hr_require(NULL);
        return -2;
    default:
        return code >= 0 ? 1 : -2;
    }
}
