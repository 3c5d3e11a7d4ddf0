/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/dedupe.h"

#include "broker/retry.h"
#include "core/map64.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static hr_seen id(uint64_t n) {
    return (hr_seen){.low = n * 64, .high = n}; /* all fall into few slots */
}

static void a_window_ends_by_time_or_by_count_and_an_id_can_be_taken_back(void **state) {
    (void)state;
    hr_dedupe *d = hr_dedupe_new(100, 1000);
    for (uint64_t n = 1; n <= 200; n++) {
        assert_true(hr_dedupe_add(d, id(n), 0));
    }
    assert_int_equal(hr_dedupe_count(d), 100);
    assert_int_equal(hr_dedupe_evicted(d), 100);
    assert_false(hr_dedupe_add(d, id(150), 500));
    hr_dedupe_remove(d, id(150));
    assert_true(hr_dedupe_add(d, id(150), 500));
    assert_true(hr_dedupe_add(d, id(151), 1000)); /* the window of the old one is over */
    assert_false(hr_dedupe_add(d, id(150), 1000));
    hr_dedupe_free(d);
}

static void a_wait_stays_between_its_bounds(void **state) {
    (void)state;
    hr_retry retry = {.min_ms = 10, .max_ms = 500};
    for (uint32_t attempt = 1; attempt < 100; attempt++) {
        for (uint64_t chance = 0; chance < 1000; chance += 7) {
            int64_t wait = hr_retry_wait_ms(&retry, attempt, chance);
            assert_in_range(wait, 10, 500);
        }
    }
    assert_int_equal(hr_retry_wait_ms(&retry, 1, 12345), 10);
}

static void a_map_finds_what_was_set_and_not_removed(void **state) {
    (void)state;
    hr_map64 map = {0};
    static int value[500];
    for (uint64_t key = 1; key < 500; key++) {
        hr_map64_set(&map, key << 40, &value[key]);
    }
    for (uint64_t key = 1; key < 500; key += 2) {
        hr_map64_remove(&map, key << 40);
    }
    for (uint64_t key = 1; key < 500; key++) {
        assert_ptr_equal(hr_map64_get(&map, key << 40), key % 2 == 1 ? NULL : &value[key]);
    }
    hr_map64_fini(&map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_ends_by_time_or_by_count_and_an_id_can_be_taken_back),
        cmocka_unit_test(a_wait_stays_between_its_bounds),
        cmocka_unit_test(a_map_finds_what_was_set_and_not_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
