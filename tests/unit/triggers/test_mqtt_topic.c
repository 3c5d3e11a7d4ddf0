/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/mqtt_topic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
/* after the above: */
#include <cmocka.h>

static void filters_match_as_mqtt_says(void **state) {
    (void)state;
    static const struct {
        const char *filter, *topic;
        bool is_match;
        const char *levels; /* name=value, */
    } table[] = {
        {"a/b", "a/b", true, ""},
        {"a/b", "a/c", false, ""},
        {"a/b", "a", false, ""},
        {"a/b", "a/b/c", false, ""},
        {"a/b", "a/b/", false, ""},
        {"a/+", "a/b", true, ""},
        {"a/+", "a/", true, ""},
        {"a/+", "a", false, ""},
        {"a/+", "a/b/c", false, ""},
        {"+", "a", true, ""},
        {"+", "/a", false, ""},
        {"+/+", "/a", true, ""},
        {"/+", "/a", true, ""},
        {"#", "a/b/c", true, ""},
        {"#", "a", true, ""},
        {"a/#", "a", true, ""},
        {"a/#", "a/", true, ""},
        {"a/#", "a/b/c", true, ""},
        {"a/#", "ab", false, ""},
        {"a/+/c", "a/b/c", true, ""},
        {"a/+/c", "a/b/d", false, ""},
        {"+/b/#", "a/b", true, ""},
        {"#", "$SYS/uptime", false, ""},
        {"+/uptime", "$SYS/uptime", false, ""},
        {"+first/uptime", "$SYS/uptime", false, ""},
        {"$SYS/#", "$SYS/uptime", true, ""},
        {"$SYS/+", "$SYS/uptime", true, ""},
        {"site/+site/device/+device/temp", "site/a/device/t-1/temp", true, "site=a,device=t-1,"},
        {"site/+site/#", "site/a/x/y", true, "site=a,"},
        {"site/+site", "site/", true, "site=,"},
        {"$share/g/site/+site", "site/a", true, "site=a,"},
        {"$share/g/site/+site", "$share/g/site/a", false, ""},
        {"\xC3\xA9/+", "\xC3\xA9/b", true, ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        hr_mqtt_filter filter;
        hr_error err = {0};
        hr_mqtt_level levels[HR_MQTT_LEVELS];
        size_t count = 0;
        char text[200] = "";
        assert_int_equal(hr_mqtt_filter_init(&filter, table[i].filter, &err), HR_OK);
        bool is_match =
            hr_mqtt_filter_match(&filter, hr_slice_text(table[i].topic), levels, &count);
        for (size_t k = 0, at = 0; is_match && k < count; k++) {
            at += (size_t)snprintf(text + at, sizeof text - at, "%.*s=%.*s,",
                                   (int)levels[k].name.size, (const char *)levels[k].name.bytes,
                                   (int)levels[k].value.size, (const char *)levels[k].value.bytes);
        }
        if (is_match != table[i].is_match || strcmp(text, table[i].levels) != 0) {
            fail_msg("'%s' and '%s': %d, '%s'", table[i].filter, table[i].topic, is_match, text);
        }
        hr_mqtt_filter_fini(&filter);
    }
}

static void the_broker_sees_no_names(void **state) {
    (void)state;
    static const struct {
        const char *filter, *wire;
        bool has_wildcard;
    } table[] = {
        {"a/b", "a/b", false},
        {"/", "/", false},
        {"a//b/", "a//b/", false},
        {"a/+", "a/+", true},
        {"a/#", "a/#", true},
        {"site/+site/device/+device/temp", "site/+/device/+/temp", true},
        {"$share/group/a/+name/#", "$share/group/a/+/#", true},
        {"$share/group/a", "$share/group/a", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        hr_mqtt_filter filter;
        hr_error err = {0};
        assert_int_equal(hr_mqtt_filter_init(&filter, table[i].filter, &err), HR_OK);
        assert_string_equal(filter.wire, table[i].wire);
        assert_int_equal(filter.has_wildcard, table[i].has_wildcard);
        hr_mqtt_filter_fini(&filter);
    }
}

static void wrong_filters_are_refused_with_the_reason(void **state) {
    (void)state;
    static const struct {
        const char *filter, *why;
    } table[] = {
        {"", "empty"},
        {"a/#/b", "# stands only at the end"},
        {"a#", "fill a whole level"},
        {"a+/b", "fill a whole level"},
        {"a/+Site", "cannot name an attribute"},
        {"a/+id", "cannot name an attribute"},
        {"a/+time", "cannot name an attribute"},
        {"a/+partitionkey", "cannot name an attribute"},
        {"a/+x y", "cannot name an attribute"},
        {"$share/g", "$share/GROUP/FILTER"},
        {"$share/g/", "$share/GROUP/FILTER"},
        {"$share//a", "$share/GROUP/FILTER"},
        {"$share/+/a", "$share/GROUP/FILTER"},
        {"a/\xFF", "not UTF-8"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        hr_mqtt_filter filter;
        hr_error err = {0};
        assert_int_equal(hr_mqtt_filter_init(&filter, table[i].filter, &err), HR_E_CONFIG);
        if (strstr(err.text, table[i].why) == NULL) {
            fail_msg("'%s': %s", table[i].filter, err.text);
        }
        hr_mqtt_filter_fini(&filter);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_match_as_mqtt_says),
        cmocka_unit_test(the_broker_sees_no_names),
        cmocka_unit_test(wrong_filters_are_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
