/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions for REGEXP: PCRE2 with a limit on everything. */
#include "core/memory.h"
#include "streams/sql_priv.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

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
    pcre2_compile_context *limits = pcre2_compile_context_create(NULL);
    hr_require(limits);
    pcre2_set_parens_nest_limit(limits, 50);
    int number = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *code = pcre2_compile(text.size == 0 ? (PCRE2_SPTR) "" : text.bytes, text.size,
                                     PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &number, &at, limits);
    pcre2_compile_context_free(limits);
    if (code == NULL) {
        if (number == PCRE2_ERROR_HEAP_FAILED) {
            hr_require(NULL);
        }
        PCRE2_UCHAR why[160] = "";
        pcre2_get_error_message(number, why, sizeof why);
        return hr_fail(err, HR_E_EXPRESSION, 0, "regular expression, at byte %zu: %s", at,
                       (const char *)why);
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* without it the interpreter runs */
    hr_pattern *pattern = hr_alloc(sizeof *pattern);
    pattern->code = code;
    pattern->data = pcre2_match_data_create(1, NULL);
    pattern->context = pcre2_match_context_create(NULL);
    hr_require(pattern->data);
    hr_require(pattern->context);
    pcre2_set_heap_limit(pattern->context, 8192); /* KiB */
    pcre2_set_depth_limit(pattern->context, 10000);
    pattern->text = hr_copy_bytes(text.bytes, text.size);
    pattern->size = text.size;
    *out_pattern = pattern;
    return HR_OK;
}

void hr_pattern_free(hr_pattern *take_pattern) {
    if (take_pattern == NULL) {
        return;
    }
    pcre2_match_data_free(take_pattern->data);
    pcre2_match_context_free(take_pattern->context);
    pcre2_code_free(take_pattern->code);
    hr_free(take_pattern->text);
    hr_free(take_pattern);
}

bool hr_pattern_is(const hr_pattern *pattern, hr_slice text) {
    return hr_slice_equal(hr_slice_of(pattern->text, pattern->size), text);
}

int hr_pattern_match(hr_pattern *pattern, hr_slice text, uint32_t steps_max) {
    pcre2_set_match_limit(pattern->context, steps_max);
    int code = pcre2_match(pattern->code, text.size == 0 ? (PCRE2_SPTR) "" : text.bytes, text.size,
                           0, 0, pattern->data, pattern->context);
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
