/* SPDX-License-Identifier: Apache-2.0 */
/* JSON values as numbers and characters. */
#include "core/memory.h"
#include "streams/json_priv.h"

#include <locale.h>
#include <stdlib.h>

/* strtod that always takes '.' for the decimal point. */
static double slow_real(hr_slice raw) {
    char few[64];
    char *text = raw.size < sizeof few ? few : hr_alloc(raw.size + 1);
    memcpy(text, raw.bytes, raw.size);
    text[raw.size] = '\0';
    const struct lconv *local = localeconv();
    char *point = strchr(text, '.');
    if (point != NULL && strlen(local->decimal_point) == 1) {
        *point = local->decimal_point[0];
    }
    double real = strtod(text, NULL);
    if (text != few) {
        hr_free(text);
    }
    return real;
}

/* Exact where mantissa < 2^53 and |exponent| <= 22 (both are doubles without rounding). */
static double read_real(hr_slice raw) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    size_t at = raw.bytes[0] == '-' ? 1 : 0;
    uint64_t mantissa = 0;
    int digits = 0, exponent = 0;
    bool is_fraction = false;
    for (; at < raw.size && (raw.bytes[at] | 0x20) != 'e'; at++) {
        if (raw.bytes[at] == '.') {
            is_fraction = true;
            continue;
        }
        mantissa = mantissa * 10 + (uint64_t)(raw.bytes[at] - '0');
        digits += mantissa != 0;
        exponent -= is_fraction;
        if (digits > 15 || exponent < -22) {
            return slow_real(raw);
        }
    }
    if (at < raw.size) {
        return slow_real(raw);
    }
    double real = (double)mantissa / powers[-exponent];
    return raw.bytes[0] == '-' ? -real : real;
}

bool hr_json_number(const hr_json_value *value, int64_t *out_integer, double *out_real) {
    hr_slice raw = value->raw;
    HR_ASSERT(value->kind == HR_JSON_INTEGER || value->kind == HR_JSON_REAL);
    HR_ASSERT(raw.size > 0);
    if (value->kind == HR_JSON_INTEGER) {
        bool is_negative = raw.bytes[0] == '-';
        int64_t integer = 0;
        bool fits = true;
        for (size_t i = is_negative ? 1 : 0; i < raw.size && fits; i++) {
            int digit = raw.bytes[i] - '0';
            fits = !__builtin_mul_overflow(integer, 10, &integer) &&
                   !__builtin_sub_overflow(integer, digit, &integer);
        }
        if (fits && (is_negative || integer != INT64_MIN)) {
            *out_integer = is_negative ? integer : -integer;
            return true;
        }
        *out_real = slow_real(raw);
        return false;
    }
    *out_real = read_real(raw);
    return false;
}

static void add_code_point(hr_buffer *out, uint32_t code) {
    uint8_t bytes[4];
    size_t size;
    if (code < 0x80) {
        bytes[0] = (uint8_t)code;
        size = 1;
    } else if (code < 0x800) {
        bytes[0] = (uint8_t)(0xC0 | code >> 6);
        bytes[1] = (uint8_t)(0x80 | (code & 0x3F));
        size = 2;
    } else if (code < 0x10000) {
        bytes[0] = (uint8_t)(0xE0 | code >> 12);
        bytes[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        bytes[2] = (uint8_t)(0x80 | (code & 0x3F));
        size = 3;
    } else {
        bytes[0] = (uint8_t)(0xF0 | code >> 18);
        bytes[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
        bytes[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        bytes[3] = (uint8_t)(0x80 | (code & 0x3F));
        size = 4;
    }
    hr_buffer_add(out, bytes, size);
}

/* Stands behind "\u"; returns how many bytes it took. */
static size_t add_unicode(const uint8_t *at, size_t left, hr_buffer *out) {
    HR_ASSERT(left >= 4);
    int first = hr_json_hex4(at);
    HR_ASSERT(first >= 0);
    if (first < 0xD800 || first > 0xDFFF) {
        add_code_point(out, (uint32_t)first);
        return 4;
    }
    if (first < 0xDC00 && left >= 10 && at[4] == '\\' && at[5] == 'u') {
        int second = hr_json_hex4(at + 6);
        if (second >= 0xDC00 && second <= 0xDFFF) {
            add_code_point(out, 0x10000 + ((uint32_t)(first - 0xD800) << 10) +
                                    (uint32_t)(second - 0xDC00));
            return 10;
        }
    }
    add_code_point(out, 0xFFFD);
    return 4;
}

void hr_json_unescape(const hr_json_value *value, hr_buffer *out) {
    const uint8_t *at = value->raw.bytes, *end = at + value->raw.size;
    while (at < end) {
        const uint8_t *slash = memchr(at, '\\', (size_t)(end - at));
        if (slash == NULL) {
            slash = end;
        }
        hr_buffer_add(out, at, (size_t)(slash - at));
        at = slash;
        if (at == end) {
            break;
        }
        HR_ASSERT(end - at >= 2); /* the scan has checked it */
        uint8_t c = at[1];
        at += 2;
        if (c == 'u') {
            at += add_unicode(at, (size_t)(end - at), out);
            continue;
        }
        uint8_t plain = c == 'b'   ? '\b'
                        : c == 'f' ? '\f'
                        : c == 'n' ? '\n'
                        : c == 'r' ? '\r'
                        : c == 't' ? '\t'
                                   : c;
        hr_buffer_add(out, &plain, 1);
    }
}
