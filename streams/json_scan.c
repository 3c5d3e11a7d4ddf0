/* SPDX-License-Identifier: Apache-2.0 */
#include "streams/json_scan.h"

#include "core/utf8.h"
#include "streams/json_priv.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define ONES  UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

typedef struct json_reader {
    const uint8_t *at, *end;
    hr_json_paths *paths;
    hr_json_value *values;
    unsigned depth;
} json_reader;

static bool scan_value(json_reader *scan, int node);

static inline void skip_space(json_reader *scan) {
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\t' || *scan->at == '\r')) {
        scan->at++;
    }
}

int hr_json_hex4(const uint8_t *at) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

/* Stands behind a backslash; steps over what it escapes. */
static bool scan_escape(json_reader *scan) {
    if (scan->at == scan->end) {
        return false;
    }
    switch (*scan->at++) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return true;
    case 'u':
        if (scan->end - scan->at < 4 || hr_json_hex4(scan->at) < 0) {
            return false;
        }
        scan->at += 4;
        return true;
    default:
        return false;
    }
}

/* Steps over bytes that mean nothing in a string, 8 or 16 at a time; what stops it may still be
 * such a byte. Bits in *high say that bytes beyond ASCII may have been seen. */
static inline const uint8_t *skip_plain(const uint8_t *at, const uint8_t *end, uint64_t *high) {
#ifdef __SSE2__
    while (end - at >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        __m128i stop =
            _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                                      _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))),
                         _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes));
        unsigned mask = (unsigned)_mm_movemask_epi8(stop);
        *high |= (unsigned)_mm_movemask_epi8(bytes);
        if (mask != 0) {
            return at + __builtin_ctz(mask);
        }
        at += 16;
    }
#endif
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        uint64_t quote = word ^ (ONES * '"');
        uint64_t slash = word ^ (ONES * '\\');
        uint64_t stop = (((quote - ONES) & ~quote) | ((slash - ONES) & ~slash) |
                         ((word - ONES * 0x20) & ~word)) &
                        HIGHS;
        *high |= word & HIGHS;
        if (stop != 0) {
            return at + (__builtin_ctzll(stop) >> 3);
        }
        at += 8;
    }
#endif
    while (at < end && *at != '"' && *at != '\\' && *at >= 0x20) {
        *high |= *at++ & 0x80;
    }
    return at;
}

/* Stands behind the opening quote. */
static inline bool scan_string(json_reader *scan, hr_slice *out_raw, bool *out_escapes) {
    const uint8_t *start = scan->at;
    uint64_t high = 0;
    *out_escapes = false;
    for (;;) {
        scan->at = skip_plain(scan->at, scan->end, &high);
        if (scan->at == scan->end || *scan->at < 0x20) {
            return false;
        }
        if (*scan->at == '"') {
            break;
        }
        if (*scan->at++ == '\\') {
            *out_escapes = true;
            if (!scan_escape(scan)) {
                return false;
            }
        }
    }
    *out_raw = hr_slice_of(start, (size_t)(scan->at - start));
    scan->at++;
    return high == 0 || hr_utf8_is_valid(*out_raw);
}

static inline bool skip_digits(json_reader *scan) {
    const uint8_t *start = scan->at;
    while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9') {
        scan->at++;
    }
    return scan->at > start;
}

static bool scan_number(json_reader *scan, hr_json_kind *out_kind) {
    *out_kind = HR_JSON_INTEGER;
    if (*scan->at == '-') {
        scan->at++;
    }
    if (scan->at < scan->end && *scan->at == '0') {
        scan->at++;
    } else if (!skip_digits(scan)) {
        return false;
    }
    if (scan->at < scan->end && *scan->at == '.') {
        *out_kind = HR_JSON_REAL;
        scan->at++;
        if (!skip_digits(scan)) {
            return false;
        }
    }
    if (scan->at < scan->end && (*scan->at | 0x20) == 'e') {
        *out_kind = HR_JSON_REAL;
        scan->at++;
        if (scan->at < scan->end && (*scan->at == '+' || *scan->at == '-')) {
            scan->at++;
        }
        return skip_digits(scan);
    }
    return true;
}

static bool scan_word(json_reader *scan, const char *word, size_t size) {
    if ((size_t)(scan->end - scan->at) < size || memcmp(scan->at, word, size) != 0) {
        return false;
    }
    scan->at += size;
    return true;
}

static bool is_label(hr_slice raw, bool has_escapes, hr_slice label) {
    if (!has_escapes) {
        return raw.size == label.size && memcmp(raw.bytes, label.bytes, raw.size) == 0;
    }
    hr_json_value value = {.kind = HR_JSON_TEXT, .has_escapes = true, .raw = raw};
    hr_buffer text = {0};
    hr_json_unescape(&value, &text);
    bool same = hr_slice_equal(hr_slice_of(text.bytes, text.size), label);
    hr_buffer_fini(&text);
    return same;
}

/* The step below node that this label takes, -1: none. Only the first of equal labels is taken. */
static inline int step_to_label(json_reader *scan, int node, hr_slice raw, bool has_escapes) {
    if (node < 0) {
        return -1;
    }
    hr_json_paths *paths = scan->paths;
    for (int at = paths->step[node].child; at >= 0; at = paths->step[at].sibling) {
        hr_json_step *step = &paths->step[at];
        if (!step->is_index && step->seen != paths->generation &&
            is_label(raw, has_escapes, hr_slice_of(step->label, step->label_size))) {
            step->seen = paths->generation;
            return at;
        }
    }
    return -1;
}

static int step_to_index(const hr_json_paths *paths, int node, uint32_t index) {
    if (node < 0) {
        return -1;
    }
    for (int at = paths->step[node].child; at >= 0; at = paths->step[at].sibling) {
        if (paths->step[at].is_index && paths->step[at].index == index) {
            return at;
        }
    }
    return -1;
}

/* Stands behind the brace. */
static bool scan_object(json_reader *scan, int node) {
    skip_space(scan);
    if (scan->at < scan->end && *scan->at == '}') {
        scan->at++;
        return true;
    }
    for (;;) {
        hr_slice raw;
        bool has_escapes;
        if (scan->at == scan->end || *scan->at != '"') {
            return false;
        }
        scan->at++;
        if (!scan_string(scan, &raw, &has_escapes)) {
            return false;
        }
        skip_space(scan);
        if (scan->at == scan->end || *scan->at != ':') {
            return false;
        }
        scan->at++;
        skip_space(scan);
        if (!scan_value(scan, step_to_label(scan, node, raw, has_escapes))) {
            return false;
        }
        skip_space(scan);
        if (scan->at == scan->end) {
            return false;
        }
        uint8_t c = *scan->at++;
        if (c == '}') {
            return true;
        }
        if (c != ',') {
            return false;
        }
        skip_space(scan);
    }
}

/* Stands behind the bracket. */
static bool scan_array(json_reader *scan, int node) {
    skip_space(scan);
    if (scan->at < scan->end && *scan->at == ']') {
        scan->at++;
        return true;
    }
    for (uint32_t index = 0;; index++) {
        if (!scan_value(scan, step_to_index(scan->paths, node, index))) {
            return false;
        }
        skip_space(scan);
        if (scan->at == scan->end) {
            return false;
        }
        uint8_t c = *scan->at++;
        if (c == ']') {
            return true;
        }
        if (c != ',') {
            return false;
        }
        skip_space(scan);
    }
}

/* Stands on the value's first byte. node: the step of the paths that led here, -1: none. */
static bool scan_value(json_reader *scan, int node) {
    if (scan->at == scan->end) {
        return false;
    }
    const uint8_t *start = scan->at;
    hr_json_value value = {.kind = HR_JSON_NULL};
    bool good;
    switch (*start) {
    case '"':
        scan->at++;
        value.kind = HR_JSON_TEXT;
        good = scan_string(scan, &value.raw, &value.has_escapes);
        break;
    case '{':
    case '[':
        if (scan->depth == HR_JSON_DEPTH) {
            return false;
        }
        scan->depth++;
        scan->at++;
        value.kind = *start == '{' ? HR_JSON_OBJECT : HR_JSON_ARRAY;
        good = *start == '{' ? scan_object(scan, node) : scan_array(scan, node);
        scan->depth--;
        break;
    case 't':
        value.kind = HR_JSON_TRUE;
        good = scan_word(scan, "true", 4);
        break;
    case 'f':
        value.kind = HR_JSON_FALSE;
        good = scan_word(scan, "false", 5);
        break;
    case 'n':
        good = scan_word(scan, "null", 4);
        break;
    default:
        good = scan_number(scan, &value.kind);
        break;
    }
    if (good && node >= 0 && scan->paths->step[node].slot >= 0) {
        if (value.kind != HR_JSON_TEXT) {
            value.raw = hr_slice_of(start, (size_t)(scan->at - start));
        }
        scan->values[scan->paths->step[node].slot] = value;
    }
    return good;
}

bool hr_json_scan(hr_json_paths *paths, hr_slice document, hr_json_value *out_values) {
    for (int i = 0; i < paths->slot_count; i++) {
        out_values[i].kind = HR_JSON_ABSENT;
    }
    if (document.size == 0) {
        return false;
    }
    paths->generation++;
    json_reader scan = {.at = document.bytes,
                        .end = document.bytes + document.size,
                        .paths = paths,
                        .values = out_values};
    skip_space(&scan);
    bool good = scan_value(&scan, 0);
    skip_space(&scan);
    if (good && scan.at == scan.end) {
        return true;
    }
    for (int i = 0; i < paths->slot_count; i++) {
        out_values[i].kind = HR_JSON_ABSENT;
    }
    return false;
}
