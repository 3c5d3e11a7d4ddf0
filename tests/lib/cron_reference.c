/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/cron_reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS };

static const int lowest[FIELDS] = {0, 0, 0, 1, 1, 0};
static const int highest[FIELDS] = {59, 59, 23, 31, 12, 6};
static const char *const months = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char *const weekdays = "SunMonTueWedThuFriSat";

static const struct {
    const char *word, *line;
} words[] = {{"@hourly", "0 0 * * * *"},  {"@daily", "0 0 0 * * *"},   {"@midnight", "0 0 0 * * *"},
             {"@weekly", "0 0 0 * * 0"},  {"@monthly", "0 0 0 1 * *"}, {"@yearly", "0 0 0 1 1 *"},
             {"@annually", "0 0 0 1 1 *"}};
static const struct {
    const char *word;
    int64_t seconds;
} spans[] = {{"@every 15m", 900},
             {"@every 90s", 90},
             {"@every 100m", 6000},
             {"@every 7h", 25200},
             {"@every 86399s", 86399}};

/* --- random lines --- */

static int chance(uint64_t *state, int below) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (int)((*state >> 33) % (uint64_t)below);
}

static void put_value(char *out, size_t size, int field, int value, uint64_t *state) {
    const char *names = field == MONTH ? months : field == WEEKDAY ? weekdays : NULL;
    int index = field == WEEKDAY ? value % 7 : value - lowest[field];
    if (names == NULL || chance(state, 3) > 0) {
        (void)snprintf(out, size, "%d", value);
        return;
    }
    (void)snprintf(out, size, "%.3s", names + (size_t)index * 3);
    if (chance(state, 2) == 0) {
        for (char *at = out; *at != '\0'; at++) {
            *at = (char)(*at >= 'a' ? *at - 32 : *at + 32);
        }
    }
}

/* L, L-3, LW, 15W; 5L, Fri#2. false: this field has none. */
static bool random_special(char *out, size_t size, int field, uint64_t *state) {
    char value[16];
    if (field == DAY) {
        switch (chance(state, 4)) {
        case 0:
            (void)snprintf(out, size, "L");
            break;
        case 1:
            (void)snprintf(out, size, "L-%d", 1 + chance(state, 12));
            break;
        case 2:
            (void)snprintf(out, size, "LW");
            break;
        default:
            (void)snprintf(out, size, "%dW", 1 + chance(state, 31));
        }
        return true;
    }
    if (field == WEEKDAY) {
        put_value(value, sizeof value, WEEKDAY, chance(state, 8), state);
        if (chance(state, 2) == 0) {
            (void)snprintf(out, size, "%sL", value);
        } else {
            (void)snprintf(out, size, "%s#%d", value, 1 + chance(state, 5));
        }
        return true;
    }
    return false;
}

static void random_part(char *out, size_t size, int field, int below, uint64_t *state) {
    char from[16], upto[16];
    int low = lowest[field], high = below - 1;
    int a = low + chance(state, high - low + 1), b = low + chance(state, high - low + 1);
    int step = 1 + chance(state, high - low < 8 ? 3 : 12);
    put_value(from, sizeof from, field, a < b ? a : b, state);
    put_value(upto, sizeof upto, field, a < b ? b : a, state);
    switch (chance(state, 7)) {
    case 0:
        if (random_special(out, size, field, state)) {
            return;
        }
        /* fall through */
    case 1:
    case 2:
        (void)snprintf(out, size, "%s", from);
        return;
    case 3:
        (void)snprintf(out, size, "%s-%s", from, upto);
        return;
    case 4:
        (void)snprintf(out, size, "%s-%s/%d", from, upto, step);
        return;
    case 5:
        (void)snprintf(out, size, "%s/%d", from, 1 + chance(state, high - low < 8 ? 3 : 12));
        return;
    default:
        (void)snprintf(out, size, "*/%d", step);
    }
}

static void random_field(char *out, size_t size, int field, int below, int star_of_ten,
                         uint64_t *state) {
    if (chance(state, 10) < star_of_ten) {
        (void)snprintf(out, size, "%s", chance(state, 8) == 0 ? "?" : "*");
        return;
    }
    random_part(out, size, field, below, state);
    for (int more = chance(state, 3); more > 1; more--) {
        char part[32];
        random_part(part, sizeof part, field, below, state);
        size_t used = strlen(out);
        (void)snprintf(out + used, size - used, ",%s", part);
    }
}

void cron_line_random(char *out, int hours, bool is_dense, uint64_t *state) {
    if (chance(state, 16) == 0) {
        int which =
            chance(state, (int)(sizeof words / sizeof *words + sizeof spans / sizeof *spans));
        int count = (int)(sizeof words / sizeof *words);
        (void)snprintf(out, CRON_LINE, "%s",
                       which < count ? words[which].word : spans[which - count].word);
        return;
    }
    static const int stars[FIELDS] = {0, 1, 2, 6, 8, 6};
    char *at = out;
    *at = '\0';
    if (chance(state, 3) == 0 || is_dense) {
        char second[32];
        if (is_dense) {
            random_field(second, sizeof second, SECOND, 60, 1, state);
        } else { /* few: each is an instant of thirty years */
            (void)snprintf(second, sizeof second, "%d%s", chance(state, 59),
                           chance(state, 2) ? ",59" : "");
        }
        at += snprintf(at, CRON_LINE, "%s ", second);
    }
    for (int field = MINUTE; field < FIELDS; field++) {
        char text[40];
        int below = field == HOUR      ? hours
                    : field == WEEKDAY ? 8 /* 7 is Sunday, too */
                                       : highest[field] + 1;
        random_field(text, sizeof text, field, below, stars[field], state);
        at += snprintf(at, (size_t)(out + CRON_LINE - at), "%s%s", field > MINUTE ? " " : "", text);
    }
}

/* --- reading a field --- */

/* A number or a name at *at, which goes on behind it. */
static int value_at(const char **at, int field) {
    const char *names = field == MONTH ? months : field == WEEKDAY ? weekdays : "";
    for (int i = 0; names[i] != '\0'; i += 3) {
        if (strncasecmp(*at, names + i, 3) == 0) {
            *at += 3;
            return lowest[field] + i / 3;
        }
    }
    char *end = NULL;
    long value = strtol(*at, &end, 10);
    *at = end;
    return (int)value;
}

/* Does one part without L, W and # hold the value? */
static bool part_has(const char *part, int field, int value) {
    const char *at = part;
    int from = lowest[field], upto = highest[field], step = 1;
    if (*at == '*' || *at == '?') {
        at++;
    } else {
        from = value_at(&at, field);
        if (*at == '-') {
            at++;
            upto = value_at(&at, field);
        } else if (*at != '/') {
            upto = from;
        }
    }
    if (*at == '/') {
        step = (int)strtol(at + 1, NULL, 10);
    }
    if (field == WEEKDAY && upto == 0 && from > 0) {
        upto = 7; /* Mon-Sun */
    }
    if (value >= from && value <= upto && (value - from) % step == 0) {
        return true;
    }
    return field == WEEKDAY && value == 0 && 7 >= from && 7 <= upto && (7 - from) % step == 0;
}

static int month_days(const struct tm *wall) {
    struct tm next = {.tm_year = wall->tm_year, .tm_mon = wall->tm_mon + 1, .tm_mday = 0};
    (void)timegm(&next); /* the day before the first of the next month */
    return next.tm_mday;
}

static int weekday_of(const struct tm *wall, int day) {
    struct tm other = {.tm_year = wall->tm_year, .tm_mon = wall->tm_mon, .tm_mday = day};
    (void)timegm(&other);
    return other.tm_wday;
}

/* Is this day the working day of its month that is nearest to day? */
static bool is_nearest(const struct tm *wall, int day) {
    int best = 0, days = month_days(wall);
    for (int far = 0; far < 3 && best == 0; far++) {
        for (int sign = -1; sign <= 1 && best == 0; sign += 2) {
            int other = day + sign * far;
            int weekday = weekday_of(wall, other);
            best = other >= 1 && other <= days && weekday != 0 && weekday != 6 ? other : 0;
        }
    }
    return day <= days && wall->tm_mday == best;
}

static bool day_part_has(const char *part, const struct tm *wall) {
    if (part[0] == 'L' && part[1] == 'W') {
        return is_nearest(wall, month_days(wall));
    }
    if (part[0] == 'L') {
        return wall->tm_mday ==
               month_days(wall) - (part[1] == '-' ? (int)strtol(part + 2, NULL, 10) : 0);
    }
    if (part[strlen(part) - 1] == 'W') {
        return is_nearest(wall, (int)strtol(part, NULL, 10));
    }
    return part_has(part, DAY, wall->tm_mday);
}

static bool weekday_part_has(const char *part, const struct tm *wall) {
    const char *at = part;
    if (*at != '*' && *at != '?') {
        int weekday = value_at(&at, WEEKDAY) % 7;
        if (*at == 'L') {
            return wall->tm_wday == weekday && wall->tm_mday + 7 > month_days(wall);
        }
        if (*at == '#') {
            return wall->tm_wday == weekday &&
                   (wall->tm_mday - 1) / 7 + 1 == (int)strtol(at + 1, NULL, 10);
        }
    }
    return part_has(part, WEEKDAY, wall->tm_wday);
}

/* Does a part of the list hold the value (of DAY and WEEKDAY: the day of wall)? */
static bool field_has(const char *text, int field, int value, const struct tm *wall) {
    char copy[CRON_LINE];
    (void)snprintf(copy, sizeof copy, "%s", text);
    char *save = NULL;
    for (char *part = strtok_r(copy, ",", &save); part != NULL; part = strtok_r(NULL, ",", &save)) {
        if (field == DAY       ? day_part_has(part, wall)
            : field == WEEKDAY ? weekday_part_has(part, wall)
                               : part_has(part, field, value)) {
            return true;
        }
    }
    return false;
}

static bool has_star(const char *field) {
    return field[0] == '*' || field[0] == '?';
}

void cron_walk_of(const char *line, cron_walk *out) {
    *out = (cron_walk){.year = -1};
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        if (strcmp(line, spans[i].word) == 0) {
            out->every_s = spans[i].seconds;
            return;
        }
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        line = strcmp(line, words[i].word) == 0 ? words[i].line : line;
    }
    char copy[CRON_LINE];
    (void)snprintf(copy, sizeof copy, "%s", line);
    int count = 0;
    char *save = NULL;
    for (char *at = strtok_r(copy, " ", &save); at != NULL && count < FIELDS;
         at = strtok_r(NULL, " ", &save)) {
        (void)snprintf(out->field[count++], CRON_LINE, "%s", at);
    }
    if (count == FIELDS - 1) { /* no seconds */
        memmove(out->field[1], out->field[0], (FIELDS - 1) * sizeof out->field[0]);
        (void)snprintf(out->field[0], CRON_LINE, "0");
    }
    for (int i = 0; i < 60; i++) {
        out->seconds |= field_has(out->field[SECOND], SECOND, i, NULL) ? UINT64_C(1) << i : 0;
        out->minute[i] = field_has(out->field[MINUTE], MINUTE, i, NULL);
    }
    for (int i = 0; i < 24; i++) {
        out->hour[i] = field_has(out->field[HOUR], HOUR, i, NULL);
        out->is_fixed = out->is_fixed || !out->hour[i];
    }
    for (int i = 1; i < 13; i++) {
        out->month[i] = field_has(out->field[MONTH], MONTH, i, NULL);
    }
    out->is_day_star = has_star(out->field[DAY]) || has_star(out->field[WEEKDAY]);
}

/* --- walking --- */

static bool matches(cron_walk *walk, const struct tm *wall) {
    if (!walk->minute[wall->tm_min] || !walk->hour[wall->tm_hour] ||
        !walk->month[wall->tm_mon + 1]) {
        return false;
    }
    if (walk->year != wall->tm_year || walk->yday != wall->tm_yday) {
        bool by_day = field_has(walk->field[DAY], DAY, 0, wall);
        bool by_weekday = field_has(walk->field[WEEKDAY], WEEKDAY, 0, wall);
        walk->year = wall->tm_year;
        walk->yday = wall->tm_yday;
        walk->is_day = walk->is_day_star ? by_day && by_weekday : by_day || by_weekday;
    }
    return walk->is_day;
}

static uint64_t spans_of(const cron_walk *walk, time_t at) {
    uint64_t seconds = 0;
    for (int i = 0; i < 60; i++) {
        seconds |= (at + i) % walk->every_s == 0 ? UINT64_C(1) << i : 0;
    }
    return seconds;
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

time_t cron_clock_step(cron_clock *clock, cron_walk *walks, int count, uint64_t *out) {
    struct tm wall;
    time_t at = clock->at;
    (void)localtime_r(&at, &wall);
    int64_t now = wall_minute(&wall);
    for (int i = 0; i < count; i++) {
        bool is_time = !walks[i].is_fixed || now > clock->seen;
        out[i] = walks[i].every_s > 0                   ? spans_of(&walks[i], at)
                 : is_time && matches(&walks[i], &wall) ? walks[i].seconds
                                                        : 0;
    }
    for (int64_t missing = clock->seen + 1; missing < now; missing++) {
        time_t as_utc = (time_t)missing * 60;
        struct tm skipped;
        (void)gmtime_r(&as_utc, &skipped);
        for (int i = 0; i < count; i++) { /* once, at the first second there is */
            out[i] |= walks[i].is_fixed && matches(&walks[i], &skipped) ? 1 : 0;
        }
    }
    clock->seen = now > clock->seen ? now : clock->seen;
    clock->at = at + 60;
    return at;
}
