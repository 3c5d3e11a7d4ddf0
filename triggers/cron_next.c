/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/cron_next.h"

#include <string.h>

enum { DAY_S = 86400, YEARS_MAX = 12, SECOND_US = 1000000 };

typedef struct civil {
    int64_t year;
    int month, day; /* from 1 */
} civil;

static int64_t floor_div(int64_t a, int64_t b) {
    int64_t quotient = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar; years start in March inside. */
static int64_t days_of(int64_t year, int month, int day) {
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = floor_div(y, 400);
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static civil civil_of(int64_t days) {
    int64_t shifted = days + 719468;
    int64_t era = floor_div(shifted, 146097);
    int64_t of_era = shifted - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;
    civil date = {.day = (int)(of_year - (153 * month + 2) / 5 + 1),
                  .month = (int)(month < 10 ? month + 3 : month - 9)};
    date.year = year + era * 400 + (date.month <= 2 ? 1 : 0);
    return date;
}

/* 0: Sunday. */
static int weekday_of(int64_t days) {
    return (int)(days + 4 - floor_div(days + 4, 7) * 7);
}

static int nearest_work_day(int day, int first_weekday, int month_days) {
    int weekday = (first_weekday + day - 1) % 7;
    if (weekday == 6) {
        return day > 1 ? day - 1 : day + 2;
    }
    if (weekday == 0) {
        return day < month_days ? day + 1 : day - 2;
    }
    return day;
}

/* Bit n: day n of the month matches. */
static uint32_t days_in_month(const hr_cron *cron, int64_t year, int month) {
    int64_t start = days_of(year, month, 1);
    int days =
        (int)(days_of(month == 12 ? year + 1 : year, month == 12 ? 1 : month + 1, 1) - start);
    int first = weekday_of(start);
    uint32_t by_day = 0;
    uint32_t by_weekday = 0;
    for (int day = 1; day <= days; day++) {
        uint32_t bit = 1U << day;
        int weekday = (first + day - 1) % 7;
        if ((cron->day & bit) != 0 || (cron->day_last >> (days - day) & 1U) != 0) {
            by_day |= bit;
        }
        if ((cron->day_nearest & bit) != 0) {
            by_day |= 1U << nearest_work_day(day, first, days);
        }
        int nth = (day - 1) / 7 + 1;
        if ((cron->weekday >> weekday & 1U) != 0 || (cron->weekday_nth[weekday] >> nth & 1) != 0 ||
            (day + 7 > days && (cron->weekday_last >> weekday & 1) != 0)) {
            by_weekday |= bit;
        }
    }
    if (cron->day_last_work) {
        by_day |= 1U << nearest_work_day(days, first, days);
    }
    return cron->day_star || cron->weekday_star ? by_day & by_weekday : by_day | by_weekday;
}

/* The lowest set bit of mask at or above from, -1: none. */
static int bit_from(uint64_t mask, int from) {
    HR_ASSERT(from >= 0);
    mask = from > 63 ? 0 : mask >> from << from;
    return mask == 0 ? -1 : __builtin_ctzll(mask);
}

/* The first matching second of a day at or after from_s, -1: none. */
static int second_of_day(const hr_cron *cron, int from_s) {
    int hour = from_s / 3600;
    int minute = from_s / 60 % 60;
    int second = bit_from(cron->second, from_s % 60);
    if (second < 0) {
        minute++;
    }
    minute = bit_from(cron->minute, minute);
    if (minute < 0) {
        hour++;
    }
    if (hour > 23 || (hour = bit_from(cron->hour, hour)) < 0) {
        return -1;
    }
    if (hour != from_s / 3600) {
        minute = bit_from(cron->minute, 0);
        second = bit_from(cron->second, 0);
    } else if (minute != from_s / 60 % 60) {
        second = bit_from(cron->second, 0);
    }
    return hour * 3600 + minute * 60 + second;
}

int64_t hr_cron_next_wall(const hr_cron *cron, int64_t wall_s) {
    HR_ASSERT(cron->every_us == 0);
    int64_t today = floor_div(wall_s, DAY_S);
    civil date = civil_of(today);
    int64_t last_year = date.year + YEARS_MAX;
    int second = second_of_day(cron, (int)(wall_s - today * DAY_S));
    int first = second_of_day(cron, 0);
    HR_ASSERT(first >= 0);
    for (int64_t year = date.year; year <= last_year; year++) {
        for (int month = year == date.year ? date.month : 1; month <= 12; month++) {
            if ((cron->month >> month & 1U) == 0) {
                continue;
            }
            bool is_this = year == date.year && month == date.month;
            uint32_t days = days_in_month(cron, year, month);
            int day = bit_from(days, is_this ? date.day : 1);
            if (is_this && day == date.day) {
                if (second >= 0) {
                    return today * DAY_S + second;
                }
                day = bit_from(days, date.day + 1);
            }
            if (day > 0) {
                return days_of(year, month, day) * DAY_S + first;
            }
        }
    }
    return INT64_MAX;
}

/* The first second in (low, high] that lies in another interval than that of low. */
static int64_t interval_end(const hr_zone *zone, int interval, int64_t low, int64_t high) {
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (hr_zone_interval(zone, middle) != interval) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return high;
}

/* Does the clock show this wall time for the second time at utc_s? */
static bool is_repeat(const hr_zone *zone, int interval, int64_t utc_s) {
    if (interval == 0) {
        return false;
    }
    int64_t wall_s = utc_s + hr_zone_offset(zone, interval);
    int64_t before_s = wall_s - hr_zone_offset(zone, interval - 1);
    return before_s < utc_s && hr_zone_interval(zone, before_s) == interval - 1;
}

/* Is utc_s the end of a gap that swallowed a matching time? */
static bool ends_gap(const hr_cron *cron, const hr_zone *zone, int interval, int64_t utc_s) {
    if (interval == 0 || hr_zone_interval(zone, utc_s - 1) == interval) {
        return false;
    }
    int32_t before = hr_zone_offset(zone, hr_zone_interval(zone, utc_s - 1));
    int32_t now = hr_zone_offset(zone, interval);
    return now > before && hr_cron_next_wall(cron, utc_s + before) < utc_s + now;
}

static int64_t next_fields(const hr_cron *cron, const hr_zone *zone, int64_t utc_s) {
    bool fixed = hr_cron_has_fixed_hours(cron);
    for (;;) {
        int interval = hr_zone_interval(zone, utc_s);
        int32_t offset = hr_zone_offset(zone, interval);
        if (fixed && ends_gap(cron, zone, interval, utc_s)) {
            return utc_s;
        }
        int64_t wall_s = hr_cron_next_wall(cron, utc_s + offset);
        if (wall_s == INT64_MAX) {
            return INT64_MAX;
        }
        int64_t found_s = wall_s - offset;
        if (hr_zone_interval(zone, found_s) != interval) {
            utc_s = interval_end(zone, interval, utc_s, found_s);
        } else if (fixed && is_repeat(zone, interval, found_s)) {
            utc_s = found_s + 1;
        } else {
            return found_s;
        }
    }
}

int64_t hr_cron_next(const hr_cron *cron, const hr_zone *zone, int64_t after_us) {
    static const int64_t LIMIT_S = INT64_C(1)
                                   << 36; /* about the year 4147: nothing overflows below it */
    if (after_us > LIMIT_S * SECOND_US || after_us < -LIMIT_S * SECOND_US) {
        return HR_CRON_NEVER;
    }
    if (cron->every_us > 0) {
        return (floor_div(after_us, cron->every_us) + 1) * cron->every_us;
    }
    int64_t next_s = next_fields(cron, zone, floor_div(after_us, SECOND_US) + 1);
    return next_s == INT64_MAX ? HR_CRON_NEVER : next_s * SECOND_US;
}

size_t hr_cron_newest(const hr_cron *cron, const hr_zone *zone, int64_t after_us, int64_t until_us,
                      int64_t *out, size_t max, bool *out_more) {
    HR_ASSERT(max > 0);
    bool more = false;
    size_t count = 0;
    /* Ever wider windows that end at until, so that the cost does not grow with the time away. */
    for (int64_t span_us = INT64_C(4) * SECOND_US; after_us < until_us; span_us *= 2) {
        bool is_whole = span_us >= until_us - after_us;
        int64_t from_us = is_whole ? after_us : until_us - span_us;
        count = 0;
        more = false;
        for (int64_t at = hr_cron_next(cron, zone, from_us); at <= until_us;
             at = hr_cron_next(cron, zone, at)) {
            if (count == max) {
                memmove(out, out + 1, (max - 1) * sizeof *out);
                count--;
                more = true;
            }
            out[count++] = at;
        }
        if (is_whole) {
            break;
        }
        if (count == max) {
            more = more || hr_cron_next(cron, zone, after_us) < out[0];
            break;
        }
    }
    if (out_more != NULL) {
        *out_more = more;
    }
    return count;
}

size_t hr_cron_due(const hr_cron *cron, const hr_zone *zone, hr_cron_missed missed, int64_t last_us,
                   int64_t now_us, int64_t grace_us, int64_t *out, bool *out_left_out) {
    int64_t in_time_us = now_us - grace_us > last_us ? now_us - grace_us : last_us;
    size_t old = 0;
    bool more = false;
    if (missed == HR_CRON_SKIP) {
        more = hr_cron_next(cron, zone, last_us) <= in_time_us;
    } else {
        old = hr_cron_newest(cron, zone, last_us, in_time_us, out,
                             missed == HR_CRON_ONCE ? 1 : HR_CRON_MISSED_MAX, &more);
    }
    *out_left_out = more;
    size_t count = old;
    for (int64_t at = hr_cron_next(cron, zone, in_time_us);
         at <= now_us && count < HR_CRON_MISSED_MAX; at = hr_cron_next(cron, zone, at)) {
        out[count++] = at; /* a full hundred: the rest is due again at once, from the last one */
    }
    return count;
}
