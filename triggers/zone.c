/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/zone.h"

#include "core/library.h"
#include "core/memory.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GLIB_FUNCTIONS(X)                                                                          \
    X(g_time_zone_find_interval)                                                                   \
    X(g_time_zone_get_offset)                                                                      \
    X(g_time_zone_new_identifier)                                                                  \
    X(g_time_zone_unref)

static struct { GLIB_FUNCTIONS(HR_LIBRARY_MEMBER) } glib; /* since the first zone was opened */

static void load(void) {
    static const char *const names[] = {GLIB_FUNCTIONS(HR_LIBRARY_NAME)};
    static hr_library library = {.soname = HR_GLIB_2_0_SONAME,
                                 .used_by = "time zones of cron triggers",
                                 .names = names,
                                 .count = sizeof names / sizeof *names,
                                 .table = &glib};
    hr_error err = {0};
    if (hr_library_load(&library, &err) != HR_OK) {
        hr_give_up("%s", err.text);
    }
}

struct hr_zone {
    GTimeZone *zone; /* NULL: UTC, for which no library is needed */
    char *name;
};

enum { ZONE_NAME_MAX = 128 };

/* Names only: GLib also takes offsets, TZ rules and paths, which no reader of a file expects. */
static bool is_name(const char *name) {
    size_t size = strlen(name);
    if (size == 0 || size > ZONE_NAME_MAX || strstr(name, "..") != NULL || name[0] == '/') {
        return false;
    }
    if (!((name[0] >= 'A' && name[0] <= 'Z') || (name[0] >= 'a' && name[0] <= 'z'))) {
        return false;
    }
    const char *allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-/";
    return strspn(name, allowed) == size;
}

hr_zone *hr_zone_open(const char *name) {
    if (name == NULL || !is_name(name)) {
        return NULL;
    }
    GTimeZone *zone = NULL;
    if (strcmp(name, "UTC") != 0) {
        load();
        zone = glib.g_time_zone_new_identifier(name);
        if (zone == NULL) {
            return NULL;
        }
    }
    hr_zone *self = hr_alloc(sizeof *self);
    self->zone = zone;
    self->name = hr_copy_text(name);
    return self;
}

void hr_zone_close(hr_zone *take_zone) {
    if (take_zone == NULL) {
        return;
    }
    if (take_zone->zone != NULL) {
        glib.g_time_zone_unref(take_zone->zone);
    }
    hr_free(take_zone->name);
    hr_free(take_zone);
}

const char *hr_zone_name(const hr_zone *zone) {
    return zone->name;
}

int hr_zone_interval(const hr_zone *zone, int64_t utc_s) {
    if (zone->zone == NULL) {
        return 0;
    }
    int interval = glib.g_time_zone_find_interval(zone->zone, G_TIME_TYPE_UNIVERSAL, utc_s);
    HR_ASSERT(interval >= 0);
    return interval;
}

int32_t hr_zone_offset(const hr_zone *zone, int interval) {
    return zone->zone == NULL
               ? 0
               : glib.g_time_zone_get_offset(zone->zone, interval < 0 ? 0 : interval);
}

int64_t hr_zone_instant(const hr_zone *zone, int64_t wall_s, bool *out_gap) {
    enum { DAY = 86400 };
    /* No offset is further than a day from UTC: the intervals that can hold this wall time. */
    int first = hr_zone_interval(zone, wall_s - DAY);
    int last = hr_zone_interval(zone, wall_s + DAY);
    *out_gap = false;
    for (int interval = first; interval <= last; interval++) {
        int64_t utc_s = wall_s - hr_zone_offset(zone, interval);
        int held_by = hr_zone_interval(zone, utc_s);
        if (held_by == interval) {
            return utc_s;
        }
        if (held_by > interval && interval < last &&
            hr_zone_interval(zone, wall_s - hr_zone_offset(zone, interval + 1)) <= interval) {
            /* Past the end of this one, before the start of the next: in the gap between them,
             * whose end is the first second of the next. */
            int64_t low = wall_s - INT64_C(2) * DAY;
            int64_t high = utc_s;
            while (high - low > 1) {
                int64_t middle = low + (high - low) / 2;
                if (hr_zone_interval(zone, middle) > interval) {
                    high = middle;
                } else {
                    low = middle;
                }
            }
            *out_gap = true;
            return high;
        }
    }
    return wall_s - hr_zone_offset(zone, last);
}

void hr_zone_each_name(void (*each)(void *data, const char *name), void *data) {
    const char *folder = getenv("TZDIR");
    char *path = hr_format("%s/tzdata.zi", folder == NULL ? "/usr/share/zoneinfo" : folder);
    FILE *file = fopen(path, "re");
    hr_free(path);
    if (file == NULL) {
        return;
    }
    char line[512];
    char kind[2];
    char first[ZONE_NAME_MAX];
    char second[ZONE_NAME_MAX];
    while (fgets(line, sizeof line, file) != NULL) { /* "Z NAME rules" or "L TARGET NAME" */
        int fields = sscanf(line, "%1s %127s %127s", kind, first, second);
        if (fields >= 2 && strcmp(kind, "Z") == 0) {
            each(data, first);
        } else if (fields == 3 && strcmp(kind, "L") == 0) {
            each(data, second);
        }
    }
    (void)fclose(file);
}
