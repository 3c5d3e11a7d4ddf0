/* SPDX-License-Identifier: Apache-2.0 */
/* Time zones of this machine (tzdata), behind GLib. An interval is a stretch of time with one
 * offset from UTC; intervals are numbered in ascending order.
 *
 * Life:  open -> (interval, offset)* -> close.  Thread: any (a zone never changes). */
#ifndef HR_TRIGGERS_ZONE_H
#define HR_TRIGGERS_ZONE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct hr_zone hr_zone;

/* The zone called name ("UTC", "Europe/Berlin"); NULL: unknown here. Owned by the caller. The first
 * one but UTC loads GLib, without which the process ends with one line (hr_give_up). */
hr_zone *hr_zone_open(const char *name);
void hr_zone_close(hr_zone *take_zone);

/* The name it was opened with. */
const char *hr_zone_name(const hr_zone *zone);

/* The number of the interval that holds the instant, seconds since 1970 UTC. */
int hr_zone_interval(const hr_zone *zone, int64_t utc_s);

/* The offset of an interval from UTC in seconds, east positive. interval -1 (before the first):
 * that of the first. */
int32_t hr_zone_offset(const hr_zone *zone, int interval);

/* The instant of a wall-clock time (as seconds since 1970 as if it were UTC). A time that does not
 * exist gives the end of its gap and *out_gap true; one that exists twice gives the first. */
int64_t hr_zone_instant(const hr_zone *zone, int64_t wall_s, bool *out_gap);

/* Calls each with every name of the zone table of this machine, for "did you mean". */
void hr_zone_each_name(void (*each)(void *data, const char *name), void *data);

#endif
