/* SPDX-License-Identifier: Apache-2.0 */
/* Cron expressions: places of errors lie in the text, instants ascend in every zone, what was
 * missed is made up as said. First byte: zone, instant to start from, what to do with the missed;
 * then the expression. */
#include "core/memory.h"
#include "tests/fuzz/fuzz.h"
#include "triggers/cron_next.h"

static const char *const ZONES[] = {"UTC", "Europe/Berlin", "America/New_York",
                                    "Australia/Lord_Howe"};

/* Some hours before the clocks change in one of them, the end of a leap year, and far away. */
static const int64_t STARTS_S[] = {
    INT64_C(1774745000), /* 2026-03-29 in Europe: forward */
    INT64_C(1792880000), /* 2026-10-25 in Europe: back */
    INT64_C(1772920000), /* 2026-03-08 in America: forward */
    INT64_C(1793480000), /* 2026-11-01 in America: back */
    INT64_C(1775312000), /* 2026-04-05 on Lord Howe: back, by half an hour */
    INT64_C(1830290000), /* 2027-12-31 */
    INT64_C(-2000000000), INT64_C(68719470000),
};

static const int64_t FAR_US = (INT64_C(1) << 36) * 1000000; /* nothing is asked beyond */

static void ascend(const hr_cron *cron, const hr_zone *zone, int64_t at) {
    (void)hr_cron_has_fixed_hours(cron);
    for (int i = 0; i < 8 && at != HR_CRON_NEVER; i++) {
        int64_t next = hr_cron_next(cron, zone, at);
        FUZZ_CHECK(next > at);
        FUZZ_CHECK(next == HR_CRON_NEVER || cron->every_us > 0 || next % 1000000 == 0);
        if (next < FAR_US) { /* nothing between: from just before it is the next too */
            FUZZ_CHECK(hr_cron_next(cron, zone, next - 1) == next);
        }
        at = next;
    }
}

static void make_up(const hr_cron *cron, const hr_zone *zone, int64_t last_us,
                    hr_cron_missed missed) {
    static const int64_t AWAY_US[] = {INT64_C(3000000), INT64_C(7200000000),
                                      INT64_C(40) * 86400 * 1000000};
    int64_t due[HR_CRON_MISSED_MAX];
    for (size_t i = 0; i < sizeof AWAY_US / sizeof *AWAY_US; i++) {
        int64_t now_us = last_us + AWAY_US[i];
        bool has_left_out = false;
        size_t count =
            hr_cron_due(cron, zone, missed, last_us, now_us, 5000000, due, &has_left_out);
        FUZZ_CHECK(count <= HR_CRON_MISSED_MAX);
        for (size_t k = 0; k < count; k++) {
            FUZZ_CHECK(due[k] > (k == 0 ? last_us : due[k - 1]) && due[k] <= now_us);
            FUZZ_CHECK(missed != HR_CRON_SKIP || due[k] > now_us - 5000000);
        }
        if (count > 0 && !has_left_out) { /* all of them: the first is the first there is */
            FUZZ_CHECK(due[0] == hr_cron_next(cron, zone, last_us));
        }
        if (count == 0 && !has_left_out) {
            FUZZ_CHECK(hr_cron_next(cron, zone, last_us) > now_us);
        }
        FUZZ_CHECK(hr_cron_newest(cron, zone, last_us, now_us, due, 1, NULL) <= 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static hr_zone *zones[4];
    if (size == 0 || memchr(bytes, 0, size) != NULL) {
        return 0;
    }
    size_t chosen = bytes[0] % 4;
    if (zones[chosen] == NULL) {
        zones[chosen] = hr_zone_open(ZONES[chosen]);
        FUZZ_CHECK(zones[chosen] != NULL);
    }
    char *text = hr_copy_bytes(bytes + 1, size - 1);
    hr_cron cron;
    hr_cron_place place = {0};
    hr_error err = {0};
    if (hr_cron_parse(text, &cron, &place, &err) != HR_OK) {
        FUZZ_CHECK(err.code == HR_E_INVALID && place.offset >= 0 && place.size >= 0);
        FUZZ_CHECK((size_t)place.offset + (size_t)place.size <= size);
        FUZZ_CHECK(memchr(place.hint, 0, sizeof place.hint) != NULL);
    } else {
        int64_t start_us = STARTS_S[bytes[0] / 4 % 8] * 1000000;
        ascend(&cron, zones[chosen], start_us);
        make_up(&cron, zones[chosen], start_us, (hr_cron_missed)(bytes[0] / 32 % 3));
    }
    hr_free(text);
    return 0;
}
