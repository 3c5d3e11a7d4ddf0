/* SPDX-License-Identifier: Apache-2.0 */
/* Cron expressions: what is read, and what is said about the rest. */
#include "triggers/cron_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void each_kind_of_expression_is_read(void **state) {
    (void)state;
    static const char *const GOOD[] = {
        "0 3 * * *",
        "*/5 * * * *",
        "0 0 1 1 *",
        "30 2 * JAN-mar SUN",
        "0 0 L * *",
        "0 0 L-3 * *",
        "0 0 LW * *",
        "0 0 15W * *",
        "0 0 * * 5L",
        "0 0 * * FRI#2",
        "*/10 * * * * *",
        "0 0 ? * MON-SUN",
        "1,2,5-9/2 10/3 * * *",
        "@hourly",
        "@daily",
        "@weekly",
        "@monthly",
        "@yearly",
        "@annually",
        "@midnight",
        "@every 15m",
        "@every 1h30m",
        " 0  3\t* * * ",
        "0 0 29 2 *",
        "0 0 * * 7",
    };
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++) {
        hr_cron cron;
        hr_error err = {0};
        if (hr_cron_parse(GOOD[i], &cron, NULL, &err) != HR_OK) {
            fail_msg("%s: %s", GOOD[i], err.text);
        }
    }
}

static void each_error_has_its_place_and_words(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int offset, size;
        const char *says, *hint;
    } BAD[] = {
        {"", 0, 1, "empty", "@daily"},
        {"0 3 * *", 0, 7, "4 fields", "minute=0 hour=3 day=* month=*; for every day add \" *\""},
        {"* * * * * * *", 0, 13, "7 fields", ""},
        {"60 3 * * *", 0, 2, "60 is no minute", "0 to 59"},
        {"0 24 * * *", 2, 2, "24 is no hour", "0 to 23"},
        {"0 3 * * MOO", 8, 3, "\"MOO\" is no weekday", "SUN to SAT"},
        {"0 3 0 * *", 4, 1, "0 is no day", "1 to 31"},
        {"0 3 1,,2 * *", 6, 1, "missing", ""},
        {"0 3 5-2 * *", 4, 3, "ends before it starts", "5-31,1-2"},
        {"*/0 * * * *", 2, 1, "step of 0", "1 to 60"},
        {"*/90 * * * *", 2, 2, "step of 90", "1 to 60"},
        {"0 0 30 2 *", 4, 4, "no such day ever comes", ""},
        {"0 0 * * 5#6", 10, 1, "#6", "1 to 5"},
        {"0 3x * * *", 3, 1, "\"x\" cannot stand here", ""},
        {"0 0 L-31 * *", 6, 2, "L-31", ""},
        {"@dayly", 0, 6, "no cron word \"@dayly\"", "@daily"},
        {"@every 90", 7, 2, "duration", "15m"},
        {"@every 10ms", 7, 4, "whole seconds", ""},
        {"99999999999999999999 * * * *", 0, 28 - 8, "too large", ""},
        {"0 0 1W, * *", 7, 1, "missing", ""},
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        hr_cron cron;
        hr_cron_place place = {0};
        hr_error err = {0};
        assert_int_equal(hr_cron_parse(BAD[i].text, &cron, &place, &err), HR_E_INVALID);
        if (strstr(err.text, BAD[i].says) == NULL || strstr(place.hint, BAD[i].hint) == NULL ||
            place.offset != BAD[i].offset || place.size != BAD[i].size) {
            fail_msg("%s: \"%s\" at %d+%d, hint \"%s\"", BAD[i].text, err.text, place.offset,
                     place.size, place.hint);
        }
    }
}

static void a_star_means_every_hour_and_a_number_a_fixed_one(void **state) {
    (void)state;
    hr_cron cron;
    assert_int_equal(hr_cron_parse("*/15 * * * *", &cron, NULL, NULL), HR_OK);
    assert_false(hr_cron_has_fixed_hours(&cron));
    assert_int_equal(hr_cron_parse("0 0-23 * * *", &cron, NULL, NULL), HR_OK);
    assert_false(hr_cron_has_fixed_hours(&cron));
    assert_int_equal(hr_cron_parse("0 */2 * * *", &cron, NULL, NULL), HR_OK);
    assert_true(hr_cron_has_fixed_hours(&cron));
    assert_int_equal(hr_cron_parse("@every 1h", &cron, NULL, NULL), HR_OK);
    assert_false(hr_cron_has_fixed_hours(&cron));
}

/* Any bytes: an answer, never a crash (the sanitizers watch). */
static void random_text_never_breaks_the_parser(void **state) {
    (void)state;
    static const char ALPHABET[] = "0123456789*/,-#LW?@ \tMONJANevry";
    uint64_t seed = 42;
    for (int round = 0; round < 100000; round++) {
        char text[24];
        size_t size = 0;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t length = (seed >> 33) % (sizeof text - 1);
        for (; size < length; size++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            text[size] = ALPHABET[(seed >> 33) % (sizeof ALPHABET - 1)];
        }
        text[size] = '\0';
        hr_cron cron;
        hr_cron_place place = {0};
        hr_error err = {0};
        if (hr_cron_parse(text, &cron, &place, &err) != HR_OK) {
            assert_true(err.text[0] != '\0');
            assert_true(place.offset >= 0 && place.offset <= (int)size && place.size > 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_expression_is_read),
        cmocka_unit_test(each_error_has_its_place_and_words),
        cmocka_unit_test(a_star_means_every_hour_and_a_number_a_fixed_one),
        cmocka_unit_test(random_text_never_breaks_the_parser),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
