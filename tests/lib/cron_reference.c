/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/cron_reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int chance(uint64_t *state, int below) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (int)((*state >> 33) % (uint64_t)below);
}

static void random_field(char *out, size_t size, int low, int high, int star_of_ten,
                         uint64_t *state) {
    if (chance(state, 10) < star_of_ten) {
        (void)snprintf(out, size, "*");
        return;
    }
    int a = low + chance(state, high - low + 1);
    int b = low + chance(state, high - low + 1);
    switch (chance(state, low == 0 ? 4 : 3)) {
    case 0:
        (void)snprintf(out, size, "%d", a);
        break;
    case 1:
        (void)snprintf(out, size, "%d-%d", a < b ? a : b, a < b ? b : a);
        break;
    case 2:
        (void)snprintf(out, size, "%d,%d", a, b);
        break;
    default:
        (void)snprintf(out, size, "*/%d", 1 + chance(state, high - low < 7 ? 3 : 12));
    }
}

void cron_fields_random(cron_fields *out, int hours, uint64_t *state) {
    random_field(out->minute, sizeof out->minute, 0, 59, 1, state);
    random_field(out->hour, sizeof out->hour, 0, hours - 1, 2, state);
    random_field(out->day, sizeof out->day, 1, 28, 7, state);
    random_field(out->month, sizeof out->month, 1, 12, 9, state);
    random_field(out->weekday, sizeof out->weekday, 0, 6, 7, state);
}

const char *cron_fields_text(const cron_fields *f, char *out) {
    (void)snprintf(out, CRON_FIELDS_TEXT, "%.63s %.63s %.63s %.63s %.63s", f->minute, f->hour,
                   f->day, f->month, f->weekday);
    return out;
}

static bool field_has(const char *field, int value) {
    char copy[64];
    (void)snprintf(copy, sizeof copy, "%s", field);
    char *save = NULL;
    for (char *part = strtok_r(copy, ",", &save); part != NULL; part = strtok_r(NULL, ",", &save)) {
        int low = 0, high = 0;
        if (part[0] == '*') {
            if (value % (part[1] == '/' ? atoi(part + 2) : 1) == 0) {
                return true;
            }
        } else if (sscanf(part, "%d-%d", &low, &high) == 2) {
            if (value >= low && value <= high) {
                return true;
            }
        } else if (atoi(part) == value) {
            return true;
        }
    }
    return false;
}

static void fill(bool *out, int count, const char *field) {
    for (int i = 0; i < count; i++) {
        out[i] = field_has(field, i);
    }
}

cron_walk cron_walk_of(const cron_fields *fields) {
    cron_walk walk = {.is_day_star = fields->day[0] == '*' || fields->weekday[0] == '*'};
    fill(walk.minute, 60, fields->minute);
    fill(walk.hour, 24, fields->hour);
    fill(walk.day, 32, fields->day);
    fill(walk.month, 13, fields->month);
    fill(walk.weekday, 7, fields->weekday);
    for (int hour = 0; hour < 24; hour++) {
        walk.is_fixed = walk.is_fixed || !walk.hour[hour];
    }
    return walk;
}

static bool matches(const cron_walk *walk, const struct tm *wall) {
    bool by_day = walk->day[wall->tm_mday], by_weekday = walk->weekday[wall->tm_wday];
    return walk->minute[wall->tm_min] && walk->hour[wall->tm_hour] &&
           walk->month[wall->tm_mon + 1] &&
           (walk->is_day_star ? by_day && by_weekday : by_day || by_weekday);
}

static int64_t wall_minute(const struct tm *wall) {
    struct tm copy = *wall;
    return (int64_t)timegm(&copy) / 60;
}

cron_clock cron_clock_from(time_t from) {
    struct tm wall;
    time_t before = from - 60;
    (void)localtime_r(&before, &wall);
    return (cron_clock){.at = from, .seen = wall_minute(&wall)};
}

time_t cron_clock_step(cron_clock *clock, const cron_walk *walks, int count, bool *out) {
    struct tm wall;
    time_t at = clock->at;
    (void)localtime_r(&at, &wall);
    int64_t now = wall_minute(&wall);
    for (int i = 0; i < count; i++) {
        out[i] = matches(&walks[i], &wall) && (!walks[i].is_fixed || now > clock->seen);
    }
    for (int64_t missing = clock->seen + 1; missing < now; missing++) {
        time_t as_utc = (time_t)missing * 60;
        struct tm skipped;
        (void)gmtime_r(&as_utc, &skipped);
        for (int i = 0; i < count; i++) {
            out[i] = out[i] || (walks[i].is_fixed && matches(&walks[i], &skipped));
        }
    }
    clock->seen = now > clock->seen ? now : clock->seen;
    clock->at = at + 60;
    return at;
}
