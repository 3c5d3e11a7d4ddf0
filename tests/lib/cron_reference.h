/* SPDX-License-Identifier: Apache-2.0 */
/* When a cron line fires, by brute force: each minute's wall clock as the C library tells it, each
 * field read anew from its text. Slow, and nothing of triggers/cron_parse.c or cron_next.c. The
 * zone is that of TZ; its offsets are whole minutes (all are since 1972). */
#ifndef HR_TESTS_CRON_REFERENCE_H
#define HR_TESTS_CRON_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum { CRON_LINE = 256 };

/* A random line of all that docs/configuration.md allows, in out (CRON_LINE bytes): five or six
 * fields, or a word. Hours below hours, so that changes of the clock are met; now and then each
 * second when is_dense. It may never fire. state: the generator's, any number. */
void cron_line_random(char *out, int hours, bool is_dense, uint64_t *state);

/* A line that the product takes, on its walk through time. */
typedef struct cron_walk {
    char field[6][CRON_LINE]; /* second first */
    uint64_t seconds;         /* bit n: n matches */
    bool minute[60], hour[24], month[13];
    bool is_day_star; /* day or weekday begins with a star: both must match */
    bool is_fixed;    /* not every hour: skipped times run once, repeated ones too */
    int64_t every_s;  /* > 0: @every */
    int year, yday;   /* the day that is_day was found for */
    bool is_day;
} cron_walk;

void cron_walk_of(const char *line, cron_walk *out);

/* A walk of several lines over the same minutes. */
typedef struct cron_clock {
    time_t at;    /* the minute that comes next */
    int64_t seen; /* the furthest the wall clock has been, minutes */
} cron_clock;

cron_clock cron_clock_from(time_t from); /* a whole minute */

/* Looks at the next minute: bit n of out[i]: walks[i] fires at its second n. Returns the minute. */
time_t cron_clock_step(cron_clock *clock, cron_walk *walks, int count, uint64_t *out);

#endif
