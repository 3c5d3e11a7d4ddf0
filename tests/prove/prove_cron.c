/* SPDX-License-Identifier: Apache-2.0 */
/* `./dev prove cron`: the instants of cron expressions in every time zone of this machine, over
 * thirty years, against a reference that looks at each minute's wall clock.
 *
 *   prove_cron [--quick] [--seed N]    quick: every 30th zone, two years */
#include "core/error.h"
#include "core/memory.h"
#include "tests/lib/cron_reference.h"
#include "triggers/cron_next.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXPRESSIONS = 8, WORKERS = 2, ZONES_MAX = 2048, MINUTE_US = 60000000 };

typedef struct result {
    uint64_t zones, instants, lost, extra;
} result;

static const cron_fields usual[] = {{"30", "2", "*", "*", "*"},   /* in most gaps */
                                    {"0", "0", "*", "*", "*"},    /* where midnight is skipped */
                                    {"*/15", "*", "*", "*", "*"}, /* follows the real hours */
                                    {"15,45", "1-3", "*", "*", "0"}}; /* on Sundays, around both */

static char *names[ZONES_MAX];
static size_t name_count;

static void keep_name(void *data, const char *name) {
    (void)data;
    if (name_count < ZONES_MAX) {
        names[name_count++] = hr_copy_text(name);
    }
}

static void differ(const char *zone, const cron_fields *f, time_t at, bool is_wanted) {
    char text[40];
    struct tm utc;
    (void)gmtime_r(&at, &utc);
    (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%MZ", &utc);
    char line[CRON_FIELDS_TEXT];
    fprintf(stderr, "prove cron: %s: '%s' %s at %s\n", zone, cron_fields_text(f, line),
            is_wanted ? "does not fire" : "fires", text);
}

static void one_zone(const char *name, time_t from, time_t upto, uint64_t seed, result *sum) {
    cron_fields fields[EXPRESSIONS];
    cron_walk walks[EXPRESSIONS];
    hr_cron crons[EXPRESSIONS];
    int64_t next[EXPRESSIONS];
    hr_zone *zone = hr_zone_open(name);
    HR_ASSERT(zone != NULL);
    (void)setenv("TZ", name, 1);
    tzset();
    for (int i = 0; i < EXPRESSIONS; i++) {
        char text[CRON_FIELDS_TEXT];
        hr_error err = {0};
        do { /* a random day may never come: another */
            if (i < (int)(sizeof usual / sizeof *usual)) {
                fields[i] = usual[i];
            } else {
                cron_fields_random(&fields[i], i % 2 ? 4 : 24, &seed);
            }
            (void)cron_fields_text(&fields[i], text);
        } while (hr_cron_parse(text, &crons[i], NULL, &err) != HR_OK);
        walks[i] = cron_walk_of(&fields[i]);
        next[i] = hr_cron_next(&crons[i], zone, (int64_t)from * 1000000 - 1);
    }
    cron_clock clock = cron_clock_from(from);
    while (clock.at < upto) {
        bool fires[EXPRESSIONS];
        time_t at = cron_clock_step(&clock, walks, EXPRESSIONS, fires);
        int64_t now_us = (int64_t)at * 1000000;
        for (int i = 0; i < EXPRESSIONS; i++) {
            bool ours = next[i] < now_us + MINUTE_US;
            sum->instants += fires[i] ? 1 : 0;
            if (fires[i] != ours || (ours && next[i] != now_us)) {
                if (sum->lost + sum->extra < 10) {
                    differ(name, &fields[i], at, fires[i]);
                }
                sum->lost += fires[i] ? 1 : 0;
                sum->extra += fires[i] ? 0 : 1;
            }
            if (ours) {
                next[i] = hr_cron_next(&crons[i], zone, now_us + MINUTE_US - 1);
            }
        }
    }
    sum->zones++;
    hr_zone_close(zone);
}

/* One of the workers: every WORKERS-th zone; what it found goes to the pipe. */
static void work(int number, size_t step, time_t from, time_t upto, uint64_t seed, int out) {
    result sum = {0};
    for (size_t i = (size_t)number * step; i < name_count; i += WORKERS * step) {
        one_zone(names[i], from, upto, seed + i, &sum);
    }
    ssize_t wrote = write(out, &sum, sizeof sum);
    _exit(wrote == (ssize_t)sizeof sum ? 0 : 1);
}

int main(int argc, char **argv) {
    bool is_quick = false;
    uint64_t seed = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            is_quick = true;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 10);
        } else {
            fprintf(stderr, "usage: prove_cron [--quick] [--seed N]\n");
            return 2;
        }
    }
    hr_zone_each_name(keep_name, NULL);
    struct tm first = {.tm_year = is_quick ? 124 : 106, .tm_mday = 1};
    struct tm last = {.tm_year = is_quick ? 126 : 136, .tm_mday = 1};
    time_t from = timegm(&first), upto = timegm(&last);
    int ends[2];
    if (name_count == 0 || pipe(ends) != 0) {
        fprintf(stderr, "prove cron: no time zones on this machine\n");
        return 1;
    }
    for (int i = 0; i < WORKERS; i++) {
        pid_t child = fork();
        if (child == 0) {
            work(i, is_quick ? 30 : 1, from, upto, seed, ends[1]);
        }
        HR_ASSERT(child > 0);
    }
    result sum = {0};
    bool is_whole = true;
    for (int i = 0; i < WORKERS; i++) {
        int status = 0;
        result one;
        is_whole = wait(&status) > 0 && status == 0 &&
                   read(ends[0], &one, sizeof one) == (ssize_t)sizeof one && is_whole;
        if (is_whole) {
            sum.zones += one.zones;
            sum.instants += one.instants;
            sum.lost += one.lost;
            sum.extra += one.extra;
        }
    }
    bool is_ok = is_whole && sum.instants > 0 && sum.lost == 0 && sum.extra == 0;
    printf("{\"proof\": \"cron\", \"runs\": %" PRIu64 ", \"years\": %d, \"acked\": %" PRIu64
           ", \"lost\": %" PRIu64 ", \"duplicates\": %" PRIu64 ", \"seed\": %" PRIu64
           ", \"ok\": %s}\n",
           sum.zones, last.tm_year - first.tm_year, sum.instants, sum.lost, sum.extra, seed,
           is_ok ? "true" : "false");
    return is_ok ? 0 : 1;
}
