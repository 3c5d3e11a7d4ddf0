/* SPDX-License-Identifier: Apache-2.0 */
#include "core/time_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after what it needs: */
#include <cmocka.h>

typedef struct instant {
    const char *text;
    int64_t us;
    const char *printed; /* NULL: as text */
} instant;

static const instant instants[] = {
    {"1970-01-01T00:00:00.000000Z", 0, NULL},
    {"2026-03-29T02:30:00.123456Z", INT64_C(1774751400123456), NULL},
    {"2026-03-29T04:30:00.1234569+02:00", INT64_C(1774751400123456), "2026-03-29T02:30:00.123456Z"},
    {"2026-03-28t19:00:00.5-07:30", INT64_C(1774751400500000), "2026-03-29T02:30:00.500000Z"},
    {"1969-12-31T23:59:59.999999Z", -1, NULL},
    {"0001-01-01T00:00:00.000000Z", INT64_C(-62135596800000000), NULL},
    {"9999-12-31T23:59:59.999999Z", INT64_C(253402300799999999), NULL},
    {"2024-02-29T12:00:00Z", INT64_C(1709208000000000), "2024-02-29T12:00:00.000000Z"},
    {"2000-02-29 00:00:00z", INT64_C(951782400000000), "2000-02-29T00:00:00.000000Z"},
    {"2016-12-31T23:59:60Z", INT64_C(1483228800000000), "2017-01-01T00:00:00.000000Z"},
    {"2026-01-01T00:00:00.1234567890123456789012345Z", INT64_C(1767225600123456),
     "2026-01-01T00:00:00.123456Z"},
};

static void instants_are_read_and_printed(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof instants / sizeof *instants; i++) {
        int64_t us = 42;
        char text[HR_TIME_TEXT];
        assert_true(hr_time_parse(hr_slice_text(instants[i].text), &us));
        assert_int_equal(us, instants[i].us);
        hr_time_print(us, text);
        assert_string_equal(text,
                            instants[i].printed == NULL ? instants[i].text : instants[i].printed);
    }
}

static void what_is_no_instant_is_refused(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "2026-03-29",
        "2026-03-29T02:30:00",
        "2026-03-29T02:30Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-04-00T00:00:00Z",
        "2026-03-29T24:00:00Z",
        "2026-03-29T02:60:00Z",
        "2026-03-29T02:30:61Z",
        "2026-03-29T02:30:00.Z",
        "2026-03-29T02:30:00Zx",
        "2026-03-29T02:30:00+2:00",
        "2026-03-29T02:30:00+0200",
        "2026-03-29T02:30:00+24:00",
        "2026-03-29T02:30:00+",
        "+2026-03-29T02:30:00Z",
        "2026-3-29T02:30:00Z",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int64_t us = 42;
        assert_false(hr_time_parse(hr_slice_text(texts[i]), &us));
        assert_int_equal(us, 42);
    }
}

static void every_day_of_eight_centuries_comes_back(void **state) {
    (void)state;
    int64_t day_us = INT64_C(86400000000);
    for (int64_t day = -146097; day < 146097; day++) {
        char text[HR_TIME_TEXT];
        int64_t us;
        hr_time_print(day * day_us + 1, text);
        assert_true(hr_time_parse(hr_slice_text(text), &us));
        assert_int_equal(us, day * day_us + 1);
    }
}

static void any_instant_prints_within_its_room(void **state) {
    (void)state;
    char text[HR_TIME_TEXT];
    hr_time_print(INT64_MAX, text);
    assert_string_equal(text, "294247-01-10T04:00:54.775807Z");
    hr_time_print(INT64_MIN, text);
    assert_string_equal(text, "-290308-12-21T19:59:05.224192Z");
}

typedef struct amount {
    const char *text;
    int64_t value; /* -1: refused */
} amount;

static void durations(void **state) {
    (void)state;
    static const amount table[] = {
        {"250ms", 250},
        {"0s", 0},
        {"30s", 30000},
        {"15m", 900000},
        {"6h", 21600000},
        {"7d", 604800000},
        {"1h30m", 5400000},
        {"1d2h3m4s5ms", 93784005},
        {"9223372036854775807ms", INT64_MAX},
        {"9223372036854775808ms", -1},
        {"106751991168d", -1},
        {"9223372036854775s808ms", -1},
        {"", -1},
        {"none", -1},
        {"5", -1},
        {"s", -1},
        {"1.5s", -1},
        {"-1s", -1},
        {"1 s", -1},
        {"1s ", -1},
        {"30m1h", -1},
        {"1m1m", -1},
        {"1h30", -1},
        {"1M", -1},
        {"1us", -1},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int64_t value = -1;
        assert_int_equal(hr_duration_parse(hr_slice_text(table[i].text), &value),
                         table[i].value >= 0);
        assert_int_equal(value, table[i].value);
    }
}

static void sizes(void **state) {
    (void)state;
    static const amount table[] = {
        {"512B", 512},
        {"64KiB", 65536},
        {"96MiB", INT64_C(96) << 20},
        {"10GiB", INT64_C(10) << 30},
        {"1TiB", INT64_C(1) << 40},
        {"5kB", 5000},
        {"5MB", 5000000},
        {"5GB", INT64_C(5000000000)},
        {"2TB", INT64_C(2000000000000)},
        {"8388607TiB", INT64_C(8388607) << 40},
        {"8388608TiB", -1},
        {"10", -1},
        {"KiB", -1},
        {"10K", -1},
        {"10KB", -1},
        {"10kib", -1},
        {"1.5MiB", -1},
        {"1MiB ", -1},
        {"-1B", -1},
        {"1MiB1KiB", -1},
        {"", -1},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int64_t value = -1;
        assert_int_equal(hr_size_parse(hr_slice_text(table[i].text), &value), table[i].value >= 0);
        assert_int_equal(value, table[i].value);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(instants_are_read_and_printed),
        cmocka_unit_test(what_is_no_instant_is_refused),
        cmocka_unit_test(every_day_of_eight_centuries_comes_back),
        cmocka_unit_test(any_instant_prints_within_its_room),
        cmocka_unit_test(durations),
        cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
