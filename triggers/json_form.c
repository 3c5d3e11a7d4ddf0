/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/json_form.h"

#include "core/utf8.h"

typedef struct scan {
    const uint8_t *at, *end;
} scan;

static void skip_space(scan *s) {
    while (s->at < s->end &&
           (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t')) {
        s->at++;
    }
}

static bool take(scan *s, char c) {
    bool is_there = s->at < s->end && *s->at == (uint8_t)c;
    s->at += is_there ? 1 : 0;
    return is_there;
}

static bool take_word(scan *s, const char *word) {
    size_t size = strlen(word);
    bool is_there = (size_t)(s->end - s->at) >= size && memcmp(s->at, word, size) == 0;
    s->at += is_there ? size : 0;
    return is_there;
}

static bool is_hex(uint8_t c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Past the bytes of a text that mean nothing: no quote, no backslash, nothing below 0x20. Eight a
 * step, by the test for a zero byte in a word. A byte of 0x80 and
 * more ends a step too. */
static void skip_plain(scan *s) {
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = UINT64_C(0x8080808080808080);
    uint64_t word;
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first byte is the lowest");
    while ((size_t)(s->end - s->at) >= sizeof word) {
        memcpy(&word, s->at, sizeof word);
        uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
        uint64_t hit = (quote - ones) | (slash - ones) | (word - ones * 0x20) | word;
        if ((hit & highs) != 0) {
            s->at += (unsigned)__builtin_ctzll(hit & highs) / 8;
            return;
        }
        s->at += sizeof word;
    }
}

/* After the opening quote. */
static bool take_text(scan *s) {
    for (skip_plain(s); s->at < s->end; skip_plain(s)) {
        uint8_t c = *s->at++;
        if (c == '"') {
            return true;
        }
        if (c < 0x20) {
            return false;
        }
        if (c != '\\') {
            continue;
        }
        if (take(s, 'u')) {
            for (int i = 0; i < 4; i++) {
                if (s->at == s->end || !is_hex(*s->at++)) {
                    return false;
                }
            }
        } else if (s->at == s->end || *s->at == 0 || strchr("\"\\/bfnrt", *s->at++) == NULL) {
            return false;
        }
    }
    return false;
}

static bool take_digits(scan *s) {
    const uint8_t *first = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        s->at++;
    }
    return s->at > first;
}

static bool take_number(scan *s) {
    (void)take(s, '-');
    if (!take(s, '0') && !take_digits(s)) {
        return false;
    }
    if (take(s, '.') && !take_digits(s)) {
        return false;
    }
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '+')) {
            (void)take(s, '-');
        }
        return take_digits(s);
    }
    return true;
}

static bool take_plain(scan *s) {
    return take(s, '"') ? take_text(s)
                        : take_word(s, "true") || take_word(s, "false") || take_word(s, "null") ||
                              take_number(s);
}

static bool take_name(scan *s) {
    skip_space(s);
    if (!take(s, '"') || !take_text(s)) {
        return false;
    }
    skip_space(s);
    return take(s, ':');
}

bool hr_json_is_formed(hr_slice json) {
    char closing[HR_JSON_DEPTH_MAX];
    size_t depth = 0;
    if (json.size == 0 || !hr_utf8_is_valid(json)) {
        return false;
    }
    scan s = {.at = json.bytes, .end = json.bytes + json.size};
    for (;;) { /* one value a turn */
        skip_space(&s);
        bool is_map = take(&s, '{');
        if (is_map || take(&s, '[')) {
            if (depth == HR_JSON_DEPTH_MAX) {
                return false;
            }
            closing[depth++] = is_map ? '}' : ']';
            skip_space(&s);
            if (!take(&s, closing[depth - 1])) {
                if (is_map && !take_name(&s)) {
                    return false;
                }
                continue;
            }
            depth--;
        } else if (!take_plain(&s)) {
            return false;
        }
        for (skip_space(&s); depth > 0 && take(&s, closing[depth - 1]); skip_space(&s)) {
            depth--;
        }
        if (depth == 0) {
            return s.at == s.end;
        }
        if (!take(&s, ',') || (closing[depth - 1] == '}' && !take_name(&s))) {
            return false;
        }
    }
}
