/* SPDX-License-Identifier: Apache-2.0 */
/* When a cron expression fires, in a time zone. Pure.
 *
 * Clock changes, for expressions with fixed hours ("30 2 * * *"): a time that is skipped runs once,
 * at the first instant after the gap; a time that comes twice runs once, the first time.
 * Expressions that run in every hour ("*" as hour) follow the real hours: nothing is added, nothing
 * left out. */
#ifndef HR_TRIGGERS_CRON_NEXT_H
#define HR_TRIGGERS_CRON_NEXT_H

#include "triggers/cron_parse.h"
#include "triggers/zone.h"

#include <stddef.h>

#define HR_CRON_NEVER INT64_MAX

/* The first instant after after_us (microseconds since 1970 UTC), HR_CRON_NEVER when there is none
 * within about twelve years.  Thread: any. */
int64_t hr_cron_next(const hr_cron *cron, const hr_zone *zone, int64_t after_us);

/* The first wall-clock second >= wall_s (seconds since 1970 as if UTC) that matches the fields,
 * INT64_MAX when there is none. Not for @every. */
int64_t hr_cron_next_wall(const hr_cron *cron, int64_t wall_s);

/* The newest instants in (after_us, until_us], at most max, ascending in out. Returns how many.
 * *out_more (may be NULL): there are older ones too. */
size_t hr_cron_newest(const hr_cron *cron, const hr_zone *zone, int64_t after_us, int64_t until_us,
                      int64_t *out, size_t max, bool *out_more);

typedef enum hr_cron_missed { HR_CRON_ONCE, HR_CRON_ALL, HR_CRON_SKIP } hr_cron_missed;

enum { HR_CRON_MISSED_MAX = 100 };

/* Which ticks to fire at now_us when last_us was the last one: those of the last grace_us are in
 * time and all fire; of the older ones none (skip), the newest (once) or the newest hundred (all).
 * out takes HR_CRON_MISSED_MAX instants, ascending. Returns how many; *out_left_out: some were not
 * taken. What is older than the first of out never comes later. */
size_t hr_cron_due(const hr_cron *cron, const hr_zone *zone, hr_cron_missed missed, int64_t last_us,
                   int64_t now_us, int64_t grace_us, int64_t *out, bool *out_left_out);

#endif
