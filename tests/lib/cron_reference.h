/* SPDX-License-Identifier: Apache-2.0 */
/* When a cron line fires, by brute force: the wall clock of each minute as the C library tells it.
 * Slow, and nothing of triggers/cron_next.c. The zone is that of TZ. */
#ifndef HR_TESTS_CRON_REFERENCE_H
#define HR_TESTS_CRON_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Five fields of star, N, a-b, star/n and lists of these; star/n only where values start at 0. */
typedef struct cron_fields {
    char minute[64], hour[64], day[64], month[64], weekday[64];
} cron_fields;

/* Random fields; hours below hours. state: the generator's, any number. */
void cron_fields_random(cron_fields *out, int hours, uint64_t *state);

enum { CRON_FIELDS_TEXT = 330 };

/* The line that the fields make, in out (CRON_FIELDS_TEXT bytes), which it returns. */
const char *cron_fields_text(const cron_fields *fields, char *out);

/* One expression on its walk through time. */
typedef struct cron_walk {
    bool minute[60], hour[24], day[32], month[13], weekday[7];
    bool is_day_star; /* day or weekday begins with a star: both must match */
    bool is_fixed;    /* not every hour: skipped times run once, repeated ones too */
} cron_walk;

cron_walk cron_walk_of(const cron_fields *fields);

/* A walk of several expressions over the same minutes. */
typedef struct cron_clock {
    time_t at;    /* the minute that comes next */
    int64_t seen; /* the furthest the wall clock has been, minutes */
} cron_clock;

cron_clock cron_clock_from(time_t from); /* a whole minute */

/* Looks at the next minute: out[i] tells whether walks[i] fires at it. Returns the minute. */
time_t cron_clock_step(cron_clock *clock, const cron_walk *walks, int count, bool *out);

#endif
