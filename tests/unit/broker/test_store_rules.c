/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of delivery that the store keeps (S3, S5, S12, S21). */
#include "broker/store.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

typedef struct world {
    char *dir;
    hr_store *store;
    uint32_t in, results, pull, epoch, one;
} world;

static int set_up(void **state) {
    world *w = hr_alloc(sizeof *w);
    w->dir = fixture_dir();
    hr_store_options options = fixture_options(w->dir);
    uint32_t none = 0;
    assert_int_equal(hr_store_open(&options, &w->store, NULL), HR_OK);
    assert_int_equal(hr_store_feed_open(w->store, "journal", "trigger/in", &w->in, &none, NULL),
                     HR_OK);
    assert_int_equal(
        hr_store_feed_open(w->store, "journal", "function/one", &w->results, &none, NULL), HR_OK);
    assert_int_equal(hr_store_feed_open(w->store, "pull", "k/g/t/0", &w->pull, &w->epoch, NULL),
                     HR_OK);
    assert_int_equal(hr_store_function_open(w->store, "one", NULL, &w->one, NULL), HR_OK);
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    hr_store_close(w->store);
    fixture_remove(w->dir);
    hr_free(w);
    return 0;
}

static size_t count(world *w, hr_read_kind kind, uint32_t feed) {
    hr_read read = {
        .kind = kind, .feed = feed, .from = kind == HR_READ_JOURNAL ? 1 : 0, .max = 100};
    fixture_read(w->store, &read);
    assert_int_equal(read.result, HR_OK);
    size_t found =
        kind == HR_READ_JOURNAL ? (read.batch == NULL ? 0 : read.batch->count) : read.found_count;
    hr_read_fini(&read);
    return found;
}

static void s3_a_search_for_an_id_is_bounded(void **state) {
    world *w = *state;
    for (uint64_t at = 1; at < 3000; at += 1000) {
        assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, at, 1000, 30)),
                         HR_OK);
    }
    char id[40];
    snprintf(id, sizeof id, "%u-17", w->in);
    hr_read read = {.kind = HR_READ_FIND, .event_id = hr_slice_text(id), .max = 500};
    fixture_read(w->store, &read); /* it is further back than may be looked at */
    assert_int_equal(read.found_count, 0);
    hr_read_fini(&read);
    read = (hr_read){.kind = HR_READ_FIND, .event_id = hr_slice_text(id), .max = 5000};
    fixture_read(w->store, &read);
    assert_int_equal(read.found_count, 1);
    assert_int_equal(read.found[0].row.position, 17);
    hr_read_fini(&read);
}

static void note_result(hr_unit *unit, hr_code result) {
    *(hr_code *)unit->data = result;
}

static void s5_a_fenced_unit_leaves_nothing_and_its_neighbours_stand(void **state) {
    world *w = *state;
    uint32_t feed = 0, epoch = 0;
    assert_int_equal(hr_store_feed_open(w->store, "pull", "k/g/t/0", &feed, &epoch, NULL), HR_OK);
    hr_row dead = {.kind = HR_ROW_DEAD,
                   .function = w->one,
                   .feed = w->pull,
                   .position = 4,
                   .bytes = hr_slice_text("x")};
    hr_batch *results = fixture_batch(w->results, 1, 2, 10), *in = fixture_batch(w->in, 1, 3, 10);
    hr_unit fenced = {.function = w->one,
                      .feed = w->pull,
                      .epoch = w->epoch,
                      .has_checkpoint = true,
                      .low = 5,
                      .rows = &dead,
                      .row_count = 1,
                      .appends = &results,
                      .append_count = 1};
    hr_code result = HR_E_IO;
    hr_unit good = {
        .feed = w->in, .appends = &in, .append_count = 1, .done = note_result, .data = &result};
    hr_store_submit(w->store, &good);
    assert_int_equal(fixture_commit(w->store, &fenced), HR_E_FENCED);
    assert_int_equal(result, HR_OK);
    assert_int_equal(count(w, HR_READ_JOURNAL, w->in), 3);
    assert_int_equal(count(w, HR_READ_JOURNAL, w->results), 0);
    assert_int_equal(count(w, HR_READ_DEAD, 0), 0);
    fenced.epoch = epoch;
    assert_int_equal(fixture_commit(w->store, &fenced), HR_OK);
    assert_int_equal(count(w, HR_READ_JOURNAL, w->results), 2);
    assert_int_equal(count(w, HR_READ_DEAD, 0), 1);
    hr_batch_unref(results);
    hr_batch_unref(in);
}

static uint64_t replays_of(world *w, uint32_t function) {
    uint64_t replays = UINT64_MAX;
    hr_read totals = {.kind = HR_READ_TOTALS};
    fixture_read(w->store, &totals);
    for (size_t i = 0; i < totals.found_count; i++) {
        if (totals.found[i].row.function == function) {
            replays = totals.found[i].counters.replays;
        }
    }
    hr_read_fini(&totals);
    return replays;
}

static void s12_a_replay_ends_its_dead_letter_in_one_unit_or_not_at_all(void **state) {
    world *w = *state;
    hr_unit taken = {.function = w->one, .feed = w->in, .has_checkpoint = true, .low = 1};
    assert_int_equal(fixture_commit(w->store, &taken), HR_OK);
    hr_row dead = {.kind = HR_ROW_DEAD,
                   .function = w->one,
                   .feed = w->in,
                   .position = 1,
                   .bytes = hr_slice_text("x")};
    hr_unit first = {.rows = &dead, .row_count = 1};
    assert_int_equal(fixture_commit(w->store, &first), HR_OK);
    hr_row end = {.kind = HR_ROW_DEAD_END, .position = 1, .state = HR_DEAD_REPLAYED};
    hr_batch *again = fixture_batch(w->in, 1, 2, 10);
    again->position[1] = 1; /* refused in its middle */
    hr_unit replay = {
        .feed = w->in, .appends = &again, .append_count = 1, .rows = &end, .row_count = 1};
    assert_int_not_equal(fixture_commit(w->store, &replay), HR_OK);
    assert_int_equal(count(w, HR_READ_DEAD, 0), 1);
    assert_int_equal(count(w, HR_READ_JOURNAL, w->in), 0);
    assert_int_equal(replays_of(w, w->one), 0);
    again->position[1] = 2;
    assert_int_equal(fixture_commit(w->store, &replay), HR_OK);
    assert_int_equal(count(w, HR_READ_DEAD, 0), 0);
    assert_int_equal(count(w, HR_READ_JOURNAL, w->in), 2);
    assert_int_equal(replays_of(w, w->one), 1);
    hr_batch_unref(again);
}

static void s21_a_removed_function_holds_no_history_and_its_name_is_free(void **state) {
    world *w = *state;
    hr_row park = {.kind = HR_ROW_PARK,
                   .function = w->one,
                   .feed = w->pull,
                   .position = 9,
                   .attempt = 2,
                   .bytes = hr_slice_text("x"),
                   .text = hr_slice_text("ValueError")};
    hr_unit unit = {.function = w->one,
                    .feed = w->pull,
                    .epoch = w->epoch,
                    .has_checkpoint = true,
                    .low = 10,
                    .rows = &park,
                    .row_count = 1};
    assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
    hr_row remove = {.kind = HR_ROW_REMOVE, .function = w->one, .at_ms = 77};
    hr_unit last = {.function = w->one, .rows = &remove, .row_count = 1};
    assert_int_equal(fixture_commit(w->store, &last), HR_OK);
    hr_read letters = {.kind = HR_READ_DEAD};
    fixture_read(w->store, &letters);
    assert_int_equal(letters.found_count, 1);
    assert_true(hr_slice_is(letters.found[0].row.reason, "removed"));
    assert_int_equal(letters.found[0].row.attempt, 2);
    hr_read_fini(&letters);
    hr_read totals = {.kind = HR_READ_TOTALS};
    fixture_read(w->store, &totals);
    for (size_t i = 0; i < totals.found_count; i++) {
        assert_int_not_equal(totals.found[i].row.function, w->one);
    }
    hr_read_fini(&totals);
    uint32_t again = 0;
    assert_int_equal(hr_store_function_open(w->store, "one", NULL, &again, NULL), HR_OK);
    assert_int_not_equal(again, w->one);
}

static void s21_what_leaves_one_feed_stays_on_the_others(void **state) {
    world *w = *state;
    for (int i = 0; i < 2; i++) {
        hr_row park = {.kind = HR_ROW_PARK,
                       .function = w->one,
                       .feed = i == 0 ? w->in : w->results,
                       .position = 9,
                       .bytes = hr_slice_text("x")};
        hr_unit unit = {.function = w->one,
                        .feed = park.feed,
                        .has_checkpoint = true,
                        .low = 10,
                        .rows = &park,
                        .row_count = 1};
        assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
    }
    hr_row leave = {.kind = HR_ROW_REMOVE, .function = w->one, .feed = w->in};
    hr_unit unit = {.function = w->one, .rows = &leave, .row_count = 1};
    assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
    hr_read letters = {.kind = HR_READ_DEAD};
    fixture_read(w->store, &letters);
    assert_int_equal(letters.found_count, 1);
    assert_int_equal(letters.found[0].row.feed, w->in);
    hr_read_fini(&letters);
    uint64_t nine = 9;
    hr_read parked = {.kind = HR_READ_PARKED,
                      .function = w->one,
                      .feed = w->results,
                      .positions = &nine,
                      .position_count = 1};
    fixture_read(w->store, &parked);
    assert_true(parked.batch != NULL || parked.corrupt_count > 0); /* it is there */
    hr_read_fini(&parked);
    uint32_t same = 0;
    assert_int_equal(hr_store_function_open(w->store, "one", NULL, &same, NULL), HR_OK);
    assert_int_equal(same, w->one);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(s3_a_search_for_an_id_is_bounded),
        STORE_TEST(s5_a_fenced_unit_leaves_nothing_and_its_neighbours_stand),
        STORE_TEST(s12_a_replay_ends_its_dead_letter_in_one_unit_or_not_at_all),
        STORE_TEST(s21_what_leaves_one_feed_stays_on_the_others),
        STORE_TEST(s21_a_removed_function_holds_no_history_and_its_name_is_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
