/* SPDX-License-Identifier: Apache-2.0 */
/* Cron expressions: five fields (minute hour day month weekday) or six (second first), and
 * @hourly @daily @midnight @weekly @monthly @yearly @annually, @every 15m (aligned to 1970).
 *
 * A field is a list of parts: star or ?, 5, 1-5, 1-5/2, star/15 (each 15th), 10/20 (from 10 on),
 * names JAN-DEC, SUN-SAT (7 is Sunday too). Day: L (last), L-3, LW, 15W (nearest working day).
 * Weekday: 5L (last Friday), 5#2 (second Friday). Day and weekday: either matches, but when one of
 * the fields begins with '*' both must (as crontab(5) says). */
#ifndef HR_TRIGGERS_CRON_PARSE_H
#define HR_TRIGGERS_CRON_PARSE_H

#include "core/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { HR_CRON_TEXT_MAX = 256, HR_CRON_HINT = 200 };

typedef struct hr_cron {
    uint64_t second, minute; /* bit n: n matches */
    uint32_t hour, day, month, weekday;
    uint32_t day_nearest;   /* bit n: nW */
    uint32_t day_last;      /* bit n: n days before the last one (0: L) */
    bool day_last_work;     /* LW */
    uint8_t weekday_last;   /* bit n: the last weekday n of the month */
    uint8_t weekday_nth[7]; /* bit n: the n-th (1..5) of that weekday */
    bool day_star, weekday_star;
    int64_t every_us; /* > 0: @every, and nothing else counts */
} hr_cron;

/* Where in the text an error is, and what to write instead. */
typedef struct hr_cron_place {
    int offset, size;        /* bytes in text */
    char hint[HR_CRON_HINT]; /* may be empty */
} hr_cron_place;

/* Reads an expression.
 * Errors: HR_E_INVALID with what is wrong; out_place (may be NULL) is then filled. An expression
 * that never comes (30 February) is an error too.  Thread: any. */
hr_code hr_cron_parse(const char *text, hr_cron *out_cron, hr_cron_place *out_place, hr_error *err);

/* Does it name hours, rather than run in each one? Fixed hours get the DST rules of cron_next.h. */
bool hr_cron_has_fixed_hours(const hr_cron *cron);

#endif
