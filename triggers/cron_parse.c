/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/cron_parse.h"

#include "core/slice.h"
#include "core/time_text.h"
#include "triggers/cron_next.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef enum field_kind { SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS } field_kind;

static const struct field_rule {
    const char *name;
    int low, high;
    const char *names; /* three letters each, the first is low */
} FIELD[FIELDS] = {
    {"second", 0, 59, ""},
    {"minute", 0, 59, ""},
    {"hour", 0, 23, ""},
    {"day", 1, 31, ""},
    {"month", 1, 12, "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC"},
    {"weekday", 0, 7, "SUNMONTUEWEDTHUFRISAT"},
};

static const struct {
    const char *word, *fields;
} MACRO[] = {
    {"@hourly", "0 * * * *"},   {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
    {"@weekly", "0 0 * * 0"},   {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
    {"@annually", "0 0 1 1 *"},
};

/* What is being read: one part ("1-5/2") of one field. */
typedef struct reader {
    const char *text;  /* the whole expression */
    const char *at;    /* next byte */
    const char *end;   /* of the part */
    const char *start; /* of the part */
    field_kind kind;
    hr_cron *cron;
    hr_cron_place place;
    hr_error *err;
} reader;

#define FAIL(r, from, upto, hint_text, ...)                                                        \
    (place_at((r), (from), (upto), (hint_text)), hr_fail((r)->err, HR_E_INVALID, 0, __VA_ARGS__))

static void place_at(reader *r, const char *from, const char *upto, const char *hint) {
    r->place.offset = (int)(from - r->text);
    r->place.size = upto > from ? (int)(upto - from) : 1;
    (void)snprintf(r->place.hint, sizeof r->place.hint, "%s", hint);
}

static bool take(reader *r, char c) {
    if (r->at < r->end && (*r->at == c || (c >= 'A' && c <= 'Z' && *r->at == c + 32))) {
        r->at++;
        return true;
    }
    return false;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static hr_code read_number(reader *r, int *out_value) {
    const char *from = r->at;
    int value = 0;
    while (r->at < r->end && is_digit(*r->at)) {
        if (value > 9999) {
            return FAIL(r, from, r->end, "", "this number is too large");
        }
        value = value * 10 + (*r->at++ - '0');
    }
    if (r->at == from) {
        return FAIL(r, from, r->end, "", "a number is missing here, in the %s",
                    FIELD[r->kind].name);
    }
    *out_value = value;
    return HR_OK;
}

/* A number or a name within the bounds of the field. */
static hr_code read_value(reader *r, int *out_value) {
    const struct field_rule *rule = &FIELD[r->kind];
    const char *from = r->at;
    char hint[HR_CRON_HINT];
    (void)snprintf(hint, sizeof hint, "%d to %d%s", rule->low, rule->high,
                   r->kind == MONTH     ? ", or JAN to DEC"
                   : r->kind == WEEKDAY ? " (0 and 7 are Sunday), or SUN to SAT"
                                        : "");
    if (r->at < r->end && is_digit(*r->at)) {
        hr_code code = read_number(r, out_value);
        if (code == HR_OK && (*out_value < rule->low || *out_value > rule->high)) {
            return FAIL(r, from, r->at, hint, "%d is no %s", *out_value, rule->name);
        }
        return code;
    }
    for (size_t i = 0; rule->names[i] != '\0'; i += 3) {
        if (r->end - from >= 3 && strncasecmp(from, rule->names + i, 3) == 0) {
            r->at += 3;
            *out_value = rule->low + (int)(i / 3);
            return HR_OK;
        }
    }
    return FAIL(r, from, r->end, hint, "\"%.*s\" is no %s", (int)(r->end - from), from, rule->name);
}

static void set_bits(reader *r, int from, int upto, int step) {
    for (int value = from; value <= upto; value += step) {
        uint64_t bit = UINT64_C(1) << value;
        switch (r->kind) {
        case SECOND:
            r->cron->second |= bit;
            break;
        case MINUTE:
            r->cron->minute |= bit;
            break;
        case HOUR:
            r->cron->hour |= (uint32_t)bit;
            break;
        case DAY:
            r->cron->day |= (uint32_t)bit;
            break;
        case MONTH:
            r->cron->month |= (uint32_t)bit;
            break;
        case WEEKDAY:
            r->cron->weekday |= 1U << (value % 7);
            break;
        case FIELDS:
        default:
            HR_ASSERT(false);
        }
    }
}

static hr_code expect_end(reader *r) {
    if (r->at == r->end) {
        return HR_OK;
    }
    return FAIL(r, r->at, r->end, "", "\"%.*s\" cannot stand here, in the %s",
                (int)(r->end - r->at), r->at, FIELD[r->kind].name);
}

/* L, L-3, LW, as a day. */
static hr_code read_last_day(reader *r) {
    if (take(r, 'W')) {
        r->cron->day_last_work = true;
        return expect_end(r);
    }
    int before = 0;
    if (take(r, '-')) {
        const char *from = r->at;
        hr_code code = read_number(r, &before);
        if (code != HR_OK) {
            return code;
        }
        if (before > 30) {
            return FAIL(r, from, r->at, "1 to 30", "no month has a day L-%d", before);
        }
    }
    r->cron->day_last |= 1U << before;
    return expect_end(r);
}

/* What may follow a single value: W after a day, L or #n after a weekday. false: nothing did. */
static bool read_special(reader *r, int value, hr_code *out_code) {
    if (r->kind == DAY && take(r, 'W')) {
        r->cron->day_nearest |= 1U << value;
        *out_code = expect_end(r);
        return true;
    }
    if (r->kind == WEEKDAY && take(r, 'L')) {
        r->cron->weekday_last |= (uint8_t)(1U << (value % 7));
        *out_code = expect_end(r);
        return true;
    }
    if (r->kind == WEEKDAY && take(r, '#')) {
        const char *from = r->at;
        int nth = 0;
        *out_code = read_number(r, &nth);
        if (*out_code == HR_OK && (nth < 1 || nth > 5)) {
            *out_code = FAIL(r, from, r->at, "1 to 5", "a month has no weekday #%d", nth);
        } else if (*out_code == HR_OK) {
            r->cron->weekday_nth[value % 7] |= (uint8_t)(1U << nth);
            *out_code = expect_end(r);
        }
        return true;
    }
    return false;
}

static hr_code read_step(reader *r, int *out_step) {
    const char *from = r->at;
    hr_code code = read_number(r, out_step);
    if (code != HR_OK) {
        return code;
    }
    int most = FIELD[r->kind].high - FIELD[r->kind].low + (r->kind == WEEKDAY ? 0 : 1);
    if (*out_step < 1 || *out_step > most) {
        char hint[HR_CRON_HINT];
        (void)snprintf(hint, sizeof hint, "1 to %d", most);
        return FAIL(r, from, r->at, hint, "a step of %d in the %s is never met", *out_step,
                    FIELD[r->kind].name);
    }
    return HR_OK;
}

static hr_code read_part(reader *r) {
    const struct field_rule *rule = &FIELD[r->kind];
    int from = rule->low;
    int upto = r->kind == WEEKDAY ? 6 : rule->high;
    int step = 1;
    hr_code code = HR_OK;
    if (r->kind == DAY && take(r, 'L')) {
        return read_last_day(r);
    }
    if (!take(r, '*') && !take(r, '?')) {
        code = read_value(r, &from);
        if (code != HR_OK || read_special(r, from, &code)) {
            return code;
        }
        bool is_range = take(r, '-');
        const char *second = r->at;
        if (is_range) {
            code = read_value(r, &upto);
            if (code != HR_OK) {
                return code;
            }
            if (r->kind == WEEKDAY && upto == 0 && from > 0) {
                upto = 7; /* MON-SUN */
            }
            if (upto < from) {
                char hint[HR_CRON_HINT];
                (void)snprintf(hint, sizeof hint, "write %d-%d,%d-%d to go round", from,
                               r->kind == WEEKDAY ? 6 : rule->high, rule->low, upto);
                return FAIL(r, r->start, r->at, hint, "the range ends before it starts");
            }
        } else if (r->at < r->end && *r->at != '/') {
            return FAIL(r, second, r->end, "", "\"%.*s\" cannot stand here, in the %s",
                        (int)(r->end - second), second, rule->name);
        } else if (r->at == r->end) {
            upto = from;
        }
    }
    if (take(r, '/')) {
        code = read_step(r, &step);
        if (code != HR_OK) {
            return code;
        }
    }
    code = expect_end(r);
    if (code == HR_OK) {
        set_bits(r, from, upto, step);
    }
    return code;
}

static hr_code read_field(reader *r, const char *start, const char *end) {
    if (r->kind == DAY) {
        r->cron->day_star = *start == '*' || *start == '?';
    } else if (r->kind == WEEKDAY) {
        r->cron->weekday_star = *start == '*' || *start == '?';
    }
    for (const char *part = start;;) {
        const char *comma = memchr(part, ',', (size_t)(end - part));
        r->start = r->at = part;
        r->end = comma == NULL ? end : comma;
        if (r->at == r->end) {
            return FAIL(r, part, part, "", "a value is missing here, in the %s",
                        FIELD[r->kind].name);
        }
        hr_code code = read_part(r);
        if (code != HR_OK || comma == NULL) {
            return code;
        }
        part = comma + 1;
    }
}

static bool is_space(char c) {
    return c == ' ' || c == '\t';
}

static hr_code wrong_count(reader *r, int count, const char *start, const char *end) {
    char hint[HR_CRON_HINT] = "minute hour day month weekday, or second first";
    if (count == 4) {
        const char *at = start;
        int used = 0;
        used += snprintf(hint, sizeof hint, "read as");
        for (int i = 0; i < 4; i++) {
            at += strspn(at, " \t");
            int size = (int)strcspn(at, " \t");
            if (used < (int)sizeof hint) {
                used += snprintf(hint + used, sizeof hint - (size_t)used, " %s=%.*s",
                                 FIELD[MINUTE + i].name, size, at);
            }
            at += size;
        }
        if (used < (int)sizeof hint) {
            (void)snprintf(hint + used, sizeof hint - (size_t)used, "; for every day add \" *\"");
        }
    }
    return FAIL(r, start, end, hint,
                "cron has %d field%s, 5 are needed (minute hour day month weekday), or 6 with "
                "the second first",
                count, count == 1 ? "" : "s");
}

static hr_code read_fields(reader *r) {
    const char *start[8];
    const char *end[8];
    int count = 0;
    for (const char *at = r->text;;) {
        at += strspn(at, " \t");
        if (*at == '\0') {
            break;
        }
        const char *from = at;
        while (*at != '\0' && !is_space(*at)) {
            at++;
        }
        if (count < 8) {
            start[count] = from;
            end[count] = at;
        }
        count++;
    }
    if (count != 5 && count != 6) {
        int last = count > 8 ? 7 : count - 1;
        return count == 0 ? FAIL(r, r->text, r->text, "such as \"0 3 * * *\" or @daily",
                                 "the cron expression is empty")
                          : wrong_count(r, count, start[0], end[last]);
    }
    r->cron->second = 1;
    for (int i = 0; i < count; i++) {
        r->kind = (field_kind)(count == 6 ? i : i + 1);
        if (r->kind == SECOND) {
            r->cron->second = 0;
        }
        hr_code code = read_field(r, start[i], end[i]);
        if (code != HR_OK) {
            return code;
        }
    }
    if (hr_cron_next_wall(r->cron, 0) == INT64_MAX) {
        return FAIL(r, start[count - 3], end[count - 2], "", "no such day ever comes");
    }
    return HR_OK;
}

static hr_code read_macro(reader *r) {
    const char *text = r->text;
    if (strncmp(text, "@every", 6) == 0 && (text[6] == '\0' || is_space(text[6]))) {
        const char *at = text + 6 + strspn(text + 6, " \t");
        size_t size = strlen(at);
        while (size > 0 && is_space(at[size - 1])) {
            size--;
        }
        int64_t ms = 0;
        if (!hr_duration_parse(hr_slice_of(at, size), &ms)) {
            return FAIL(r, at, at + size, "such as @every 15m or @every 90s",
                        "@every needs a duration");
        }
        static const int64_t MOST_MS = INT64_C(366) * 86400 * 1000;
        if (ms < 1000 || ms % 1000 != 0 || ms > MOST_MS) {
            return FAIL(r, at, at + size, "", "@every takes whole seconds, from 1s to 366d");
        }
        r->cron->every_us = ms * 1000;
        return HR_OK;
    }
    size_t size = strlen(text);
    while (size > 0 && is_space(text[size - 1])) {
        size--;
    }
    for (size_t i = 0; i < sizeof MACRO / sizeof *MACRO; i++) {
        if (strlen(MACRO[i].word) == size && strncmp(MACRO[i].word, text, size) == 0) {
            return hr_cron_parse(MACRO[i].fields, r->cron, NULL, r->err);
        }
    }
    return FAIL(r, text, text + size, "@hourly @daily @weekly @monthly @yearly, or @every 15m",
                "there is no cron word \"%.*s\"", (int)size, text);
}

hr_code hr_cron_parse(const char *text, hr_cron *out_cron, hr_cron_place *out_place,
                      hr_error *err) {
    hr_cron cron = {0};
    reader r = {.text = text, .cron = &cron, .err = err};
    hr_code code;
    size_t lead = strspn(text, " \t");
    if (strlen(text) > HR_CRON_TEXT_MAX) {
        code = FAIL(&r, text, text + 1, "", "a cron expression has at most %d bytes",
                    HR_CRON_TEXT_MAX);
    } else if (text[lead] == '@') {
        r.text = text + lead;
        code = read_macro(&r);
        r.place.offset += (int)lead;
    } else {
        code = read_fields(&r);
    }
    if (code == HR_OK) {
        *out_cron = cron;
    } else if (out_place != NULL) {
        *out_place = r.place;
    }
    return code;
}

bool hr_cron_has_fixed_hours(const hr_cron *cron) {
    return cron->every_us == 0 && cron->hour != (1U << 24) - 1;
}
