/* SPDX-License-Identifier: Apache-2.0 */
#include "core/time_text.h"

#include "core/error.h"

#include <stdio.h>

/* Days since 1970-01-01 of a civil date (proleptic Gregorian); March is month 0 of its year, so
 * that the leap day comes last. */
static int64_t days_of(int64_t year, int month, int day) {
    int64_t shifted = month > 2 ? year : year - 1;
    int64_t era = (shifted >= 0 ? shifted : shifted - 399) / 400;
    int64_t year_of_era = shifted - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void date_of(int64_t days, int64_t *out_year, int *out_month, int *out_day) {
    int64_t shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    *out_day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    *out_month = (int)(month < 10 ? month + 3 : month - 9);
    *out_year = year_of_era + era * 400 + (*out_month <= 2 ? 1 : 0);
}

/* So many digits of value, the last one before end. */
static void put_digits(char *end, int64_t value, int count) {
    uint32_t rest = (uint32_t)value;
    while (count-- > 0) {
        *--end = (char)('0' + rest % 10);
        rest /= 10;
    }
}

void hr_time_print(int64_t us, char out[HR_TIME_TEXT]) {
    int64_t day_us = INT64_C(86400) * 1000000;
    int64_t days = us / day_us - (us % day_us < 0 ? 1 : 0);
    int64_t rest = us % day_us < 0 ? us % day_us + day_us : us % day_us;
    int64_t year;
    int month, day;
    date_of(days, &year, &month, &day);
    int64_t second = rest / 1000000;
    if (year >= 0 && year <= 9999) { /* all but the ends of time */
        memcpy(out, "0000-00-00T00:00:00.000000Z", sizeof "0000-00-00T00:00:00.000000Z");
        put_digits(out + 4, year, 4);
        put_digits(out + 7, month, 2);
        put_digits(out + 10, day, 2);
        put_digits(out + 13, second / 3600, 2);
        put_digits(out + 16, second / 60 % 60, 2);
        put_digits(out + 19, second % 60, 2);
        put_digits(out + 26, rest % 1000000, 6);
        return;
    }
    char room[128]; /* for what the compiler cannot know to be small */
    int size = snprintf(room, sizeof room, "%04lld-%02d-%02dT%02d:%02d:%02d.%06dZ", (long long)year,
                        month, day, (int)(second / 3600), (int)(second / 60 % 60),
                        (int)(second % 60), (int)(rest % 1000000));
    HR_ASSERT(size > 0 && size < HR_TIME_TEXT);
    memcpy(out, room, (size_t)size + 1);
}

/* Reads exactly count digits at *at. */
static bool take_digits(hr_slice text, size_t *at, int count, int *out) {
    int value = 0;
    for (int i = 0; i < count; i++, (*at)++) {
        if (*at >= text.size || text.bytes[*at] < '0' || text.bytes[*at] > '9') {
            return false;
        }
        value = value * 10 + (text.bytes[*at] - '0');
    }
    *out = value;
    return true;
}

static bool take_char(hr_slice text, size_t *at, char wanted) {
    if (*at >= text.size || text.bytes[*at] != (uint8_t)wanted) {
        return false;
    }
    (*at)++;
    return true;
}

static int days_in_month(int year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

/* "2026-03-29" to days since 1970. */
static bool take_date(hr_slice text, size_t *at, int64_t *out_days) {
    int year, month, day;
    if (!take_digits(text, at, 4, &year) || !take_char(text, at, '-') ||
        !take_digits(text, at, 2, &month) || !take_char(text, at, '-') ||
        !take_digits(text, at, 2, &day) || month < 1 || month > 12 || day < 1 ||
        day > days_in_month(year, month)) {
        return false;
    }
    *out_days = days_of(year, month, day);
    return true;
}

/* "02:30:00.5" to microseconds since midnight; a leap second is the next second. */
static bool take_clock(hr_slice text, size_t *at, int64_t *out_us) {
    int hour, minute, second;
    if (!take_digits(text, at, 2, &hour) || !take_char(text, at, ':') ||
        !take_digits(text, at, 2, &minute) || !take_char(text, at, ':') ||
        !take_digits(text, at, 2, &second) || hour > 23 || minute > 59 || second > 60) {
        return false;
    }
    *out_us = (INT64_C(3600) * hour + INT64_C(60) * minute + second) * 1000000;
    if (!take_char(text, at, '.')) {
        return true;
    }
    int digit;
    if (!take_digits(text, at, 1, &digit)) {
        return false;
    }
    int64_t unit = 100000;
    do {
        *out_us += digit * unit; /* past microseconds unit is 0 */
        unit /= 10;
    } while (take_digits(text, at, 1, &digit));
    return true;
}

/* "Z" or "+02:00" to seconds east. */
static bool take_offset(hr_slice text, size_t *at, int64_t *out_seconds) {
    if (take_char(text, at, 'Z') || take_char(text, at, 'z')) {
        *out_seconds = 0;
        return true;
    }
    bool west = take_char(text, at, '-');
    int hour, minute;
    if ((!west && !take_char(text, at, '+')) || !take_digits(text, at, 2, &hour) ||
        !take_char(text, at, ':') || !take_digits(text, at, 2, &minute) || hour > 23 ||
        minute > 59) {
        return false;
    }
    int64_t seconds = INT64_C(3600) * hour + INT64_C(60) * minute;
    *out_seconds = west ? -seconds : seconds;
    return true;
}

bool hr_time_parse(hr_slice text, int64_t *out_us) {
    size_t at = 0;
    int64_t days, clock_us, offset;
    if (!take_date(text, &at, &days) ||
        (!take_char(text, &at, 'T') && !take_char(text, &at, 't') && !take_char(text, &at, ' ')) ||
        !take_clock(text, &at, &clock_us) || !take_offset(text, &at, &offset) || at != text.size) {
        return false;
    }
    *out_us = (days * 86400 - offset) * 1000000 + clock_us;
    return true;
}

/* Digits at *at to a number that fits. */
static bool take_number(hr_slice text, size_t *at, int64_t *out) {
    size_t start = *at;
    int64_t value = 0;
    for (; *at < text.size && text.bytes[*at] >= '0' && text.bytes[*at] <= '9'; (*at)++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, text.bytes[*at] - '0', &value)) {
            return false;
        }
    }
    *out = value;
    return *at > start;
}

typedef struct unit {
    const char *name;
    int64_t size;
} unit;

/* The unit whose name is all letters at *at; NULL: none. */
static const unit *take_unit(hr_slice text, size_t *at, const unit *units, size_t count) {
    size_t start = *at;
    while (*at < text.size && (text.bytes[*at] < '0' || text.bytes[*at] > '9')) {
        (*at)++;
    }
    for (size_t i = 0; i < count; i++) {
        if (hr_slice_is(hr_slice_of(text.bytes + start, *at - start), units[i].name)) {
            return &units[i];
        }
    }
    return NULL;
}

bool hr_duration_parse(hr_slice text, int64_t *out_ms) {
    static const unit units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    int64_t sum = 0, last = INT64_MAX;
    size_t at = 0;
    do {
        int64_t number;
        if (!take_number(text, &at, &number)) {
            return false;
        }
        const unit *found = take_unit(text, &at, units, sizeof units / sizeof *units);
        if (found == NULL || found->size >= last || /* large to small, each once */
            __builtin_mul_overflow(number, found->size, &number) ||
            __builtin_add_overflow(sum, number, &sum)) {
            return false;
        }
        last = found->size;
    } while (at < text.size);
    *out_ms = sum;
    return true;
}

bool hr_size_parse(hr_slice text, int64_t *out_bytes) {
    static const unit units[] = {
        {"B", 1},
        {"KiB", INT64_C(1) << 10},
        {"MiB", INT64_C(1) << 20},
        {"GiB", INT64_C(1) << 30},
        {"TiB", INT64_C(1) << 40},
        {"kB", 1000},
        {"MB", 1000000},
        {"GB", 1000000000},
        {"TB", INT64_C(1000000000000)},
    };
    size_t at = 0;
    int64_t number;
    if (!take_number(text, &at, &number)) {
        return false;
    }
    const unit *found = take_unit(text, &at, units, sizeof units / sizeof *units);
    if (found == NULL || at != text.size || __builtin_mul_overflow(number, found->size, &number)) {
        return false;
    }
    *out_bytes = number;
    return true;
}
