/* SPDX-License-Identifier: Apache-2.0 */
/* `./dev prove cron`: the instants of cron lines in every time zone of this machine, over thirty
 * years, against a reference that looks at each minute's wall clock and reads the lines by itself.
 * The zones are the compiled files of the system, not what the product says there is; both must be
 * the same.
 *
 *   prove_cron [--quick] [--seed N]    quick: every 30th zone, two years */
#include "core/error.h"
#include "core/memory.h"
#include "tests/lib/cron_reference.h"
#include "triggers/cron_next.h"

#include <ftw.h>
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

static const char *const usual[] = {"30 2 * * *",            /* in most gaps */
                                    "0 0 * * *",             /* where midnight is skipped */
                                    "*/15 * * * *",          /* follows the real hours */
                                    "5,50 15,45 1-3 * * 0"}; /* on Sundays, around both */

static char *names[ZONES_MAX];
static size_t name_count, told_count, missing_count;
static const char *folder;

/* Files that are no zones of their own: other copies of all (posix, right: with leap seconds), and
 * this machine's choice (localtime, posixrules). */
static bool is_zone(const char *name) {
    return strncmp(name, "posix/", 6) != 0 && strncmp(name, "right/", 6) != 0 &&
           strcmp(name, "localtime") != 0 && strcmp(name, "posixrules") != 0;
}

static int keep_file(const char *path, const struct stat *status, int kind, struct FTW *place) {
    (void)status;
    (void)place;
    char magic[4] = "";
    const char *name = path + strlen(folder) + 1;
    FILE *file = kind == FTW_F || kind == FTW_SL ? fopen(path, "re") : NULL;
    if (file != NULL) {
        if (fread(magic, 1, sizeof magic, file) == sizeof magic && memcmp(magic, "TZif", 4) == 0 &&
            is_zone(name) && name_count < ZONES_MAX) {
            names[name_count++] = hr_copy_text(name);
        }
        (void)fclose(file);
    }
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What the product says there is. */
static void look_up(void *data, const char *name) {
    (void)data;
    told_count++;
    if (bsearch(&name, names, name_count, sizeof *names, by_name) == NULL) {
        missing_count++;
        fprintf(stderr, "prove cron: there is no file of the zone %s\n", name);
    }
}

/* false: the files of the system and the product's list differ. */
static bool find_zones(void) {
    const char *chosen = getenv("TZDIR");
    folder = chosen == NULL ? "/usr/share/zoneinfo" : chosen;
    (void)nftw(folder, keep_file, 16, FTW_PHYS); /* else no file is seen twice */
    qsort(names, name_count, sizeof *names, by_name);
    hr_zone_each_name(look_up, NULL);
    if (missing_count > 0 || told_count != name_count || name_count == 0) {
        fprintf(stderr, "prove cron: %zu zones in %s, the product knows %zu\n", name_count, folder,
                told_count);
        return false;
    }
    return true;
}

static void differ(const char *zone, const char *line, time_t at, uint64_t wanted, uint64_t ours) {
    char text[40];
    struct tm utc;
    (void)gmtime_r(&at, &utc);
    (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%MZ", &utc);
    fprintf(stderr, "prove cron: %s: '%s' at %s: seconds %" PRIx64 " instead of %" PRIx64 "\n",
            zone, line, text, ours, wanted);
}

/* The product's instants of one minute, a bit a second; *next goes on behind it. */
static uint64_t fired(const hr_cron *cron, const hr_zone *zone, int64_t minute_us, int64_t *next) {
    uint64_t seconds = 0;
    while (*next < minute_us + MINUTE_US) {
        HR_ASSERT(*next >= minute_us && *next % 1000000 == 0);
        seconds |= UINT64_C(1) << ((*next - minute_us) / 1000000);
        *next = hr_cron_next(cron, zone, *next);
    }
    return seconds;
}

static uint64_t count_of(uint64_t seconds) {
    return (uint64_t)__builtin_popcountll(seconds);
}

static void one_zone(const char *name, time_t from, time_t upto, uint64_t seed, result *sum) {
    char lines[EXPRESSIONS][CRON_LINE];
    cron_walk walks[EXPRESSIONS];
    hr_cron crons[EXPRESSIONS];
    int64_t next[EXPRESSIONS];
    hr_zone *zone = hr_zone_open(name);
    HR_ASSERT(zone != NULL);
    (void)setenv("TZ", name, 1);
    tzset();
    for (int i = 0; i < EXPRESSIONS; i++) {
        hr_error err;
        do { /* a random day may never come: another */
            if (i < (int)(sizeof usual / sizeof *usual)) {
                (void)snprintf(lines[i], CRON_LINE, "%s", usual[i]);
            } else {
                cron_line_random(lines[i], i % 2 ? 4 : 24, false, &seed);
            }
            err = (hr_error){0};
        } while (hr_cron_parse(lines[i], &crons[i], NULL, &err) != HR_OK &&
                 strstr(err.text, "no such day ever comes") != NULL);
        if (err.code != HR_OK) {
            fprintf(stderr, "prove cron: '%s' is not taken: %s\n", lines[i], err.text);
            exit(1);
        }
        cron_walk_of(lines[i], &walks[i]);
        next[i] = hr_cron_next(&crons[i], zone, (int64_t)from * 1000000 - 1);
    }
    cron_clock clock = cron_clock_from(from);
    while (clock.at < upto) {
        uint64_t wanted[EXPRESSIONS];
        time_t at = cron_clock_step(&clock, walks, EXPRESSIONS, wanted);
        for (int i = 0; i < EXPRESSIONS; i++) {
            uint64_t ours = fired(&crons[i], zone, (int64_t)at * 1000000, &next[i]);
            sum->instants += count_of(wanted[i]);
            if (wanted[i] != ours) {
                if (sum->lost + sum->extra < 10) {
                    differ(name, lines[i], at, wanted[i], ours);
                }
                sum->lost += count_of(wanted[i] & ~ours);
                sum->extra += count_of(ours & ~wanted[i]);
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
    if (!find_zones()) {
        return 1;
    }
    struct tm first = {.tm_year = is_quick ? 124 : 106, .tm_mday = 1};
    struct tm last = {.tm_year = is_quick ? 126 : 136, .tm_mday = 1};
    time_t from = timegm(&first), upto = timegm(&last);
    size_t step = is_quick ? 30 : 1;
    int ends[2];
    HR_ASSERT(pipe(ends) == 0);
    for (int i = 0; i < WORKERS; i++) {
        pid_t child = fork();
        if (child == 0) {
            work(i, step, from, upto, seed, ends[1]);
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
    bool is_ok = is_whole && sum.zones == (name_count + step - 1) / step && sum.instants > 0 &&
                 sum.lost == 0 && sum.extra == 0;
    printf("{\"proof\": \"cron\", \"runs\": %" PRIu64 ", \"years\": %d, \"acked\": %" PRIu64
           ", \"lost\": %" PRIu64 ", \"duplicates\": %" PRIu64 ", \"seed\": %" PRIu64
           ", \"ok\": %s}\n",
           sum.zones, last.tm_year - first.tm_year, sum.instants, sum.lost, sum.extra, seed,
           is_ok ? "true" : "false");
    return is_ok ? 0 : 1;
}
