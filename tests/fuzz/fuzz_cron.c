/* SPDX-License-Identifier: Apache-2.0 */
/* Cron expressions: places of errors lie in the text, instants ascend in every zone. */
#include "core/memory.h"
#include "tests/fuzz/fuzz.h"
#include "triggers/cron_next.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char *const NAMES[] = {"UTC", "Europe/Berlin", "America/New_York",
                                        "Australia/Lord_Howe"};
    static hr_zone *zones[4];
    if (size == 0 || memchr(bytes, 0, size) != NULL) {
        return 0;
    }
    size_t chosen = bytes[0] % 4;
    if (zones[chosen] == NULL) {
        zones[chosen] = hr_zone_open(NAMES[chosen]);
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
        int64_t at = INT64_C(1774745000000000); /* an hour before a change of clocks in Europe */
        (void)hr_cron_has_fixed_hours(&cron);
        for (int i = 0; i < 8 && at != HR_CRON_NEVER; i++) {
            int64_t next = hr_cron_next(&cron, zones[chosen], at);
            FUZZ_CHECK(next > at);
            FUZZ_CHECK(next == HR_CRON_NEVER || cron.every_us > 0 || next % 1000000 == 0);
            if (next != HR_CRON_NEVER) { /* nothing between: from just before it is the next too */
                FUZZ_CHECK(hr_cron_next(&cron, zones[chosen], next - 1) == next);
            }
            at = next;
        }
    }
    hr_free(text);
    return 0;
}
