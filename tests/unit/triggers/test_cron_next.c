/* SPDX-License-Identifier: Apache-2.0 */
/* Next instants, against tables and against a slow reference that asks the C library for each
 * minute's wall clock and reads the fields by itself. */
#include "core/time_text.h"
#include "tests/lib/cron_reference.h"
#include "triggers/cron_next.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static int64_t us_of(const char *text) {
    int64_t us = 0;
    if (!hr_time_parse(hr_slice_text(text), &us)) {
        fail_msg("bad time %s", text);
    }
    return us;
}

static hr_cron cron_of(const char *text) {
    hr_cron cron;
    hr_error err = {0};
    if (hr_cron_parse(text, &cron, NULL, &err) != HR_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    return cron;
}

typedef struct table_row {
    const char *at, *zone, *after;
    const char *next[6]; /* in turn */
} table_row;

static void check_table(const table_row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        hr_cron cron = cron_of(rows[i].at);
        hr_zone *zone = hr_zone_open(rows[i].zone);
        assert_non_null(zone);
        int64_t at = us_of(rows[i].after);
        for (size_t n = 0; n < 6 && rows[i].next[n] != NULL; n++) {
            at = hr_cron_next(&cron, zone, at);
            if (at != us_of(rows[i].next[n])) {
                char got[HR_TIME_TEXT];
                hr_time_print(at, got);
                fail_msg("%s in %s after %s, run %zu: %s instead of %s", rows[i].at, rows[i].zone,
                         rows[i].after, n, got, rows[i].next[n]);
            }
        }
        hr_zone_close(zone);
    }
}

static void fields_are_met_as_written(void **state) {
    (void)state;
    static const table_row ROWS[] = {
        {"0 3 * * *", "UTC", "2026-01-31T03:00:00Z", {"2026-02-01T03:00:00Z"}},
        {"*/15 * * * *",
         "UTC",
         "2026-01-01T00:14:59.999999Z",
         {"2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"}},
        {"30 */20 * * * *", "UTC", "2026-01-01T00:20:30Z", {"2026-01-01T00:40:30Z"}},
        {"0 0 29 2 *",
         "UTC",
         "2026-01-01T00:00:00Z",
         {"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
        {"0 0 29 2 *", "UTC", "2097-01-01T00:00:00Z", {"2104-02-29T00:00:00Z"}},
        {"0 0 L * *",
         "UTC",
         "2026-01-31T00:00:00Z",
         {"2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z", "2026-04-30T00:00:00Z"}},
        {"0 0 L-3 * *", "UTC", "2026-02-01T00:00:00Z", {"2026-02-25T00:00:00Z"}},
        {"0 0 LW * *",
         "UTC",
         "2026-01-01T00:00:00Z",
         {"2026-01-30T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-31T00:00:00Z"}},
        {"0 0 15W * *",
         "UTC",
         "2026-02-01T00:00:00Z",
         {"2026-02-16T00:00:00Z", "2026-03-16T00:00:00Z", "2026-04-15T00:00:00Z"}},
        {"0 0 1W * *", "UTC", "2026-07-31T00:00:00Z", {"2026-08-03T00:00:00Z"}},
        {"0 0 * * 5L",
         "UTC",
         "2026-01-01T00:00:00Z",
         {"2026-01-30T00:00:00Z", "2026-02-27T00:00:00Z"}},
        {"0 0 * * FRI#2",
         "UTC",
         "2026-01-01T00:00:00Z",
         {"2026-01-09T00:00:00Z", "2026-02-13T00:00:00Z"}},
        {"0 0 13 * FRI",
         "UTC",
         "2026-01-01T00:00:00Z", /* either */
         {"2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z"}},
        {"0 0 */2 * MON",
         "UTC",
         "2026-01-01T00:00:00Z", /* both, as crontab(5) says */
         {"2026-01-05T00:00:00Z", "2026-01-19T00:00:00Z"}},
        {"0 0 * * 7", "UTC", "2026-01-01T00:00:00Z", {"2026-01-04T00:00:00Z"}},
        {"@every 15m",
         "UTC",
         "2026-01-01T00:00:01Z",
         {"2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"}},
        {"@every 90s", "UTC", "1969-12-31T23:59:59Z", {"1970-01-01T00:00:00Z"}},
        {"@yearly", "UTC", "2026-06-01T00:00:00Z", {"2027-01-01T00:00:00Z"}},
    };
    check_table(ROWS, sizeof ROWS / sizeof *ROWS);
}

static void o_c3_both_berlin_changes_of_2026_run_fixed_hours_once(void **state) {
    (void)state;
    static const table_row ROWS[] = {
        /* 29 March: 02:00 becomes 03:00, at 01:00 UTC */
        {"30 2 * * *",
         "Europe/Berlin",
         "2026-03-28T12:00:00Z",
         {"2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
        {"0,30 2 * * *",
         "Europe/Berlin",
         "2026-03-28T12:00:00Z",
         {"2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"}},
        {"0 2,3 * * *",
         "Europe/Berlin",
         "2026-03-28T12:00:00Z",
         {"2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z", "2026-03-30T01:00:00Z"}},
        {"0 3 * * *",
         "Europe/Berlin",
         "2026-03-28T12:00:00Z",
         {"2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"}},
        {"30 1 * * *",
         "Europe/Berlin",
         "2026-03-28T12:00:00Z",
         {"2026-03-29T00:30:00Z", "2026-03-29T23:30:00Z"}},
        {"30 * * * *",
         "Europe/Berlin",
         "2026-03-29T00:00:00Z",
         {"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"}},
        /* 25 October: 03:00 becomes 02:00, at 01:00 UTC */
        {"30 2 * * *",
         "Europe/Berlin",
         "2026-10-24T12:00:00Z",
         {"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
        {"0 3 * * *",
         "Europe/Berlin",
         "2026-10-24T12:00:00Z",
         {"2026-10-25T02:00:00Z", "2026-10-26T02:00:00Z"}},
        {"0 2 * * *",
         "Europe/Berlin",
         "2026-10-24T12:00:00Z",
         {"2026-10-25T00:00:00Z", "2026-10-26T01:00:00Z"}},
        {"30 * * * *",
         "Europe/Berlin",
         "2026-10-24T23:30:00Z",
         {"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"}},
        {"@every 1h",
         "Europe/Berlin",
         "2026-10-24T23:30:00Z",
         {"2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"}},
        /* a gap at midnight, half an hour of it, and a whole day that never was */
        {"0 0 * * *",
         "America/Sao_Paulo",
         "2018-11-03T12:00:00Z",
         {"2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"}},
        {"15 2 * * *",
         "Australia/Lord_Howe",
         "2026-10-03T00:00:00Z",
         {"2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"}},
        {"0 3 * * *",
         "Pacific/Apia",
         "2011-12-29T00:00:00Z",
         {"2011-12-29T13:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T13:00:00Z"}},
    };
    check_table(ROWS, sizeof ROWS / sizeof *ROWS);
}

static uint64_t random_state = 20260329;
static int chance(int below) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (int)((random_state >> 33) % (uint64_t)below);
}

static void o_c3_next_agrees_with_a_slow_reference(void **state) {
    (void)state;
    static const struct {
        const char *zone, *around;
    } PLACE[] = {
        {"Europe/Berlin", "2026-03-29T01:00:00Z"},
        {"Europe/Berlin", "2026-10-25T01:00:00Z"},
        {"America/New_York", "2025-03-09T07:00:00Z"},
        {"America/New_York", "2024-11-03T06:00:00Z"},
        {"Australia/Lord_Howe", "2026-10-03T15:30:00Z"},
        {"Australia/Lord_Howe", "2026-04-04T15:00:00Z"},
        {"America/Sao_Paulo", "2018-11-04T03:00:00Z"},
        {"Africa/Casablanca", "2026-02-15T02:00:00Z"},
        {"Africa/Casablanca", "2026-03-22T02:00:00Z"},
        {"Asia/Kathmandu", "2026-01-01T00:00:00Z"},
        {"Pacific/Apia", "2011-12-30T10:00:00Z"},
        {"Europe/Dublin", "2026-03-29T01:00:00Z"},
        {"Europe/Dublin", "2027-10-31T01:00:00Z"},
        {"UTC", "2028-02-29T00:00:00Z"},
        {"America/Caracas", "2016-05-01T07:00:00Z"},
        {"Antarctica/Troll", "2026-03-29T01:00:00Z"},
    };
    enum { EXPRESSIONS = 24, DAYS = 4 };
    size_t compared = 0;
    for (size_t place = 0; place < sizeof PLACE / sizeof *PLACE; place++) {
        assert_int_equal(setenv("TZ", PLACE[place].zone, 1), 0);
        tzset();
        hr_zone *zone = hr_zone_open(PLACE[place].zone);
        assert_non_null(zone);
        time_t around = (time_t)(us_of(PLACE[place].around) / 1000000);
        time_t from = (around / 60 - DAYS * 1440 / 2) * 60;
        time_t upto = from + DAYS * 86400;
        for (int i = 0; i < EXPRESSIONS; i++) {
            char text[CRON_LINE];
            hr_cron cron;
            hr_error err = {0};
            do { /* a random day may never come: another */
                cron_line_random(text, i % 2 ? 5 : 24, i % 6 == 0, &random_state);
            } while (hr_cron_parse(text, &cron, NULL, &err) != HR_OK &&
                     strstr(err.text, "no such day ever comes") != NULL);
            if (hr_cron_parse(text, &cron, NULL, &err) != HR_OK) {
                fail_msg("%s: %s", text, err.text);
            }
            cron_walk walk;
            cron_walk_of(text, &walk);
            cron_clock clock = cron_clock_from(from);
            int64_t next = hr_cron_next(&cron, zone, ((int64_t)from - 1) * 1000000);
            while (clock.at < upto) {
                uint64_t wanted = 0;
                int64_t now = (int64_t)cron_clock_step(&clock, &walk, 1, &wanted);
                for (int second = 0; second < 60; second++) {
                    int64_t at_us = (now + second) * 1000000;
                    bool fires = (wanted >> second & 1) != 0;
                    if (fires != (next == at_us) || next < at_us) {
                        char got[HR_TIME_TEXT];
                        char at[HR_TIME_TEXT];
                        hr_time_print(next, got);
                        hr_time_print(at_us, at);
                        fail_msg("%s in %s: next is %s, at %s it %s", text, PLACE[place].zone, got,
                                 at, fires ? "fires" : "does not fire");
                    }
                    next = next == at_us ? hr_cron_next(&cron, zone, at_us) : next;
                    compared += fires ? 1 : 0;
                }
            }
        }
        hr_zone_close(zone);
    }
    assert_true(compared > 10000);
}

static void the_newest_instants_are_those_of_a_walk(void **state) {
    (void)state;
    static const char *const AT[] = {"* * * * *", "*/7 * * * * *", "0 3 * * *",
                                     "* * 1 * *", "@every 20m",    "0 0 29 2 *"};
    hr_zone *zone = hr_zone_open("Europe/Berlin");
    for (size_t i = 0; i < sizeof AT / sizeof *AT; i++) {
        hr_cron cron = cron_of(AT[i]);
        for (int round = 0; round < 50; round++) {
            int64_t until = us_of("2026-03-30T00:00:00Z") + (int64_t)chance(1000000) * 1000000;
            int64_t after = until - (int64_t)(1 + chance(200000)) * 1000000;
            int64_t all[7] = {0};
            size_t walked = 0;
            for (int64_t at = hr_cron_next(&cron, zone, after); at <= until;
                 at = hr_cron_next(&cron, zone, at)) {
                all[walked++ % 7] = at;
            }
            int64_t got[7];
            bool more = false;
            size_t count = hr_cron_newest(&cron, zone, after, until, got, 7, &more);
            assert_int_equal(count, walked < 7 ? walked : 7);
            assert_int_equal(more, walked > 7);
            for (size_t n = 0; n < count; n++) {
                assert_int_equal(got[n], all[(walked - count + n) % 7]);
            }
        }
    }
    hr_zone_close(zone);
}

static void o_c2_due_ticks_follow_the_missed_policy(void **state) {
    (void)state;
    hr_zone *zone = hr_zone_open("UTC");
    hr_cron cron = cron_of("* * * * *");
    int64_t last = us_of("2026-01-01T00:00:00Z");
    int64_t now = us_of("2026-01-01T05:00:05Z");
    int64_t out[HR_CRON_MISSED_MAX];
    bool left_out = false;
    assert_int_equal(hr_cron_due(&cron, zone, HR_CRON_ONCE, last, now, 0, out, &left_out), 1);
    assert_int_equal(out[0], us_of("2026-01-01T05:00:00Z"));
    assert_true(left_out);
    assert_int_equal(hr_cron_due(&cron, zone, HR_CRON_ALL, last, now, 0, out, &left_out), 100);
    assert_int_equal(out[99], us_of("2026-01-01T05:00:00Z"));
    assert_true(left_out);
    assert_int_equal(hr_cron_due(&cron, zone, HR_CRON_SKIP, last, now, 0, out, &left_out), 0);
    assert_true(left_out);
    /* with ten seconds of grace the newest is in time for everybody */
    assert_int_equal(hr_cron_due(&cron, zone, HR_CRON_SKIP, last, now, 10000000, out, &left_out),
                     1);
    assert_int_equal(hr_cron_due(&cron, zone, HR_CRON_ONCE, last, now, 10000000, out, &left_out),
                     2);
    last = us_of("2026-01-01T05:00:00Z");
    assert_int_equal(hr_cron_due(&cron, zone, HR_CRON_ALL, last, now, 0, out, &left_out), 0);
    assert_false(left_out);
    hr_zone_close(zone);
}

static void wall_times_become_instants(void **state) {
    (void)state;
    static const struct {
        const char *wall, *instant;
        bool gap;
    } ROWS[] = {
        {"2026-03-29T01:59:59Z", "2026-03-29T00:59:59Z", false},
        {"2026-03-29T02:30:00Z", "2026-03-29T01:00:00Z", true},
        {"2026-03-29T03:00:00Z", "2026-03-29T01:00:00Z", false},
        {"2026-10-25T02:30:00Z", "2026-10-25T00:30:00Z", false},
        {"2026-07-01T12:00:00Z", "2026-07-01T10:00:00Z", false},
    };
    hr_zone *zone = hr_zone_open("Europe/Berlin");
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        bool gap = false;
        int64_t got = hr_zone_instant(zone, us_of(ROWS[i].wall) / 1000000, &gap);
        assert_int_equal(got, us_of(ROWS[i].instant) / 1000000);
        assert_int_equal(gap, ROWS[i].gap);
    }
    hr_zone_close(zone);
}

static void seen_name(void *data, const char *name) {
    if (strcmp(name, "Europe/Berlin") == 0) {
        *(bool *)data = true;
    }
}

static void only_names_of_zones_open(void **state) {
    (void)state;
    static const char *const BAD[] = {
        "Europe/Berln",           "",      "+02:00", "../etc/passwd", "/etc/localtime",
        "EST5EDT,M3.2.0,M11.1.0", "Europe"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        hr_zone *zone = hr_zone_open(BAD[i]);
        if (zone != NULL) {
            fail_msg("opened \"%s\"", BAD[i]);
        }
    }
    bool found = false;
    hr_zone_each_name(seen_name, &found);
    assert_true(found);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_met_as_written),
        cmocka_unit_test(o_c3_both_berlin_changes_of_2026_run_fixed_hours_once),
        cmocka_unit_test(o_c3_next_agrees_with_a_slow_reference),
        cmocka_unit_test(the_newest_instants_are_those_of_a_walk),
        cmocka_unit_test(o_c2_due_ticks_follow_the_missed_policy),
        cmocka_unit_test(wall_times_become_instants),
        cmocka_unit_test(only_names_of_zones_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
