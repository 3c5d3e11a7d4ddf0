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

typedef struct row {
    int64_t at_ms;
    uint64_t first, count; /* ids */
} row;

/* Rows of 1 to 300 ids with a clock that is set back now and then: what is told to have left is not
 * in the window any more, and what is kept on disk is not much more than the window. */
static void what_has_left_the_window_may_be_deleted_where_it_is_stored(void **state) {
    (void)state;
    enum { MAX = 5000, ROWS = 3000 };
    static row rows[ROWS];
    hr_dedupe *d = hr_dedupe_new(MAX, INT64_C(3600000));
    uint64_t next = 1, chance = 7, kept = 0, most = 0;
    int64_t clock_ms = 1000000;
    size_t first = 0;
    for (size_t i = 0; i < ROWS; i++) {
        chance = chance * UINT64_C(6364136223846793005) + 1442695040888963407u;
        clock_ms += chance >> 60 == 0 ? -8 : (int64_t)(chance >> 61);
        rows[i] = (row){.at_ms = hr_dedupe_stamp(d, clock_ms),
                        .first = next,
                        .count = 1 + (chance >> 33) % 300};
        assert_true(i == 0 || rows[i].at_ms >= rows[i - 1].at_ms);
        for (uint64_t k = 0; k < rows[i].count; k++) {
            assert_true(hr_dedupe_add(d, id(next++), (int64_t)i)); /* the window's own clock */
        }
        kept += rows[i].count;
        for (int64_t left_ms = hr_dedupe_left_ms(d); first < i && rows[first].at_ms < left_ms;
             first++) {
            assert_true(rows[first].first + rows[first].count + MAX <= next);
            kept -= rows[first].count;
        }
        most = kept > most ? kept : most;
    }
    assert_true(kept >= MAX);
    assert_in_range(most, MAX, MAX + 1024 + 300 + 40 * 300); /* a mark, a row, rows of one time */
    assert_int_equal(hr_dedupe_left_ms(d), 0);               /* told once */
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
        cmocka_unit_test(what_has_left_the_window_may_be_deleted_where_it_is_stored),
        cmocka_unit_test(a_wait_stays_between_its_bounds),
        cmocka_unit_test(a_map_finds_what_was_set_and_not_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
