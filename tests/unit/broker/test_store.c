/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

typedef struct world {
    char *dir;
    hr_store *store;
    uint32_t in, pull, epoch, one, two;
} world;

static void open_world(world *w, const hr_store_options *options) {
    uint32_t ignored = 0;
    hr_error err = {0};
    if (hr_store_open(options, &w->store, &err) != HR_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(hr_store_feed_open(w->store, "journal", "trigger/in", &w->in, &ignored, &err),
                     HR_OK);
    assert_int_equal(ignored, 0);
    assert_int_equal(hr_store_feed_open(w->store, "pull", "kafka/p/0", &w->pull, &w->epoch, &err),
                     HR_OK);
    assert_int_equal(hr_store_function_open(w->store, "one", NULL, &w->one, &err), HR_OK);
    assert_int_equal(hr_store_function_open(w->store, "two", NULL, &w->two, &err), HR_OK);
}

static int set_up(void **state) {
    world *w = hr_alloc(sizeof *w);
    w->dir = fixture_dir();
    hr_store_options options = fixture_options(w->dir);
    open_world(w, &options);
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

static void reopen(world *w, const hr_store_options *options) {
    hr_store_options plain = fixture_options(w->dir);
    hr_store_close(w->store);
    open_world(w, options == NULL ? &plain : options);
}

/* ---- what a load tells, as one text ---- */

typedef struct told {
    hr_buffer text;
    uint64_t unsettled;
    int64_t fire;
} told;

static void tell_feed(void *data, uint32_t feed, const char *kind, const char *identity,
                      uint64_t next, uint64_t unsettled, int64_t fire) {
    told *t = data;
    hr_buffer_print(&t->text, "feed %u %s %s next=%llu\n", feed, kind, identity,
                    (unsigned long long)next);
    t->unsettled += unsettled;
    t->fire = fire > t->fire ? fire : t->fire;
}

static void tell_function(void *data, uint32_t function, const char *name, bool removed) {
    hr_buffer_print(&((told *)data)->text, "function %u %s%s\n", function, name,
                    removed ? " removed" : "");
}

static void tell_checkpoint(void *data, uint32_t function, uint32_t feed, uint64_t low,
                            hr_slice settled, const hr_counters *counters) {
    if (function != 0) {
        hr_buffer_print(&((told *)data)->text, "checkpoint %u %u low=%llu settled=%.*s ok=%llu\n",
                        function, feed, (unsigned long long)low, (int)settled.size, settled.bytes,
                        (unsigned long long)counters->delivered);
    } else {
        hr_buffer_print(&((told *)data)->text, "trigger %u received=%llu malformed=%llu\n", feed,
                        (unsigned long long)counters->received,
                        (unsigned long long)counters->malformed);
    }
}

static void tell_parked(void *data, const hr_row *row) {
    assert_null(row->bytes.bytes);
    hr_buffer_print(&((told *)data)->text,
                    "parked %u %u %llu key=%llx state=%u due=%lld attempt=%u replay=%u first=%lld "
                    "size=%zu error=%.*s id=%.*s\n",
                    row->function, row->feed, (unsigned long long)row->position,
                    (unsigned long long)row->key_hash, row->state, (long long)row->due_ms,
                    row->attempt, row->replay, (long long)row->first_attempt_ms, row->bytes.size,
                    (int)row->text.size, row->text.bytes, (int)row->event_id.size,
                    row->event_id.bytes);
}

static void tell_seen(void *data, uint32_t feed, int64_t at_ms, hr_slice hashes) {
    hr_buffer_print(&((told *)data)->text, "seen %u %lld %.*s\n", feed, (long long)at_ms,
                    (int)hashes.size, hashes.bytes);
}

static void tell_dead(void *data, uint64_t count) {
    hr_buffer_print(&((told *)data)->text, "dead %llu\n", (unsigned long long)count);
}

static told load(hr_store *store, uint32_t only_feed) {
    told t = {.fire = INT64_MIN};
    hr_store_loader loader = {.data = &t,
                              .feed = tell_feed,
                              .function = tell_function,
                              .checkpoint = tell_checkpoint,
                              .parked = tell_parked,
                              .seen = tell_seen,
                              .dead = tell_dead};
    assert_int_equal(hr_store_load(store, only_feed, &loader, NULL), HR_OK);
    return t;
}

static hr_code commit_rows(world *w, hr_row *rows, size_t count) {
    hr_unit unit = {.rows = rows, .row_count = count};
    return fixture_commit(w->store, &unit);
}

static hr_code checkpoint(world *w, uint32_t function, uint64_t low, const char *settled,
                          uint64_t count, hr_counters counters) {
    hr_unit unit = {.function = function,
                    .feed = w->in,
                    .has_checkpoint = true,
                    .low = low,
                    .settled = hr_slice_text(settled),
                    .settled_count = count,
                    .counters = counters};
    return fixture_commit(w->store, &unit);
}

/* ---- rows ---- */

static void every_row_kind_survives_a_reopen(void **state) {
    world *w = *state;
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 1, 5, 100)), HR_OK);
    assert_int_equal(checkpoint(w, w->one, 3, "s4", 1, (hr_counters){.delivered = 3}), HR_OK);
    hr_batch *batch = fixture_batch(w->in, 2, 1, 100);
    hr_slice envelope = hr_batch_envelope(batch, 0);
    hr_row rows[] = {
        {.kind = HR_ROW_PARK,
         .function = w->one,
         .feed = w->in,
         .position = 2,
         .key_hash = 0xfedcba9876543210u,
         .state = HR_PARKED_RETRY,
         .attempt = 2,
         .replay = 1,
         .due_ms = 1234,
         .first_attempt_ms = 1000,
         .bytes = envelope,
         .text = hr_slice_text("boom"),
         .event_id = hr_slice_text("id-2")},
        {.kind = HR_ROW_PARK, .function = w->one, .feed = w->in, .position = 1, .bytes = envelope},
        {.kind = HR_ROW_UNPARK, .function = w->one, .feed = w->in, .position = 1},
        {.kind = HR_ROW_DEAD, .function = w->one, .feed = w->in, .position = 4, .bytes = envelope},
        {.kind = HR_ROW_DEAD, .function = 0, .feed = w->in, .bytes = hr_slice_text("raw")},
        {.kind = HR_ROW_DEAD_END, .position = 1, .state = 2},
        {.kind = HR_ROW_SEEN,
         .feed = w->in,
         .due_ms = 70,
         .text = hr_slice_text("0123456789abcdef")},
        {.kind = HR_ROW_SEEN,
         .feed = w->in,
         .due_ms = 50,
         .text = hr_slice_text("0123456789abcdee")},
        {.kind = HR_ROW_SEEN,
         .feed = w->in,
         .due_ms = 40,
         .text = hr_slice_text("0123456789abcded")},
        {.kind = HR_ROW_SEEN_TRIM, .feed = w->in, .due_ms = 50},
        {.kind = HR_ROW_FIRE, .feed = w->in, .due_ms = 1700000000000000},
    };
    assert_int_equal(commit_rows(w, rows, sizeof rows / sizeof *rows), HR_OK);
    reopen(w, NULL);
    told t = load(w->store, 0);
    char *want = hr_format(
        "feed %u journal trigger/in next=6\nfeed %u pull kafka/p/0 next=1\n"
        "function %u one\nfunction %u two\n"
        "trigger %u received=5 malformed=0\n"
        "trigger %u received=0 malformed=0\n"
        "checkpoint %u %u low=3 settled=s4 ok=3\n"
        "parked %u %u 2 key=fedcba9876543210 state=0 due=1234 attempt=2 replay=1 first=1000 "
        "size=%zu error=boom id=id-2\n"
        "seen %u 50 0123456789abcdee\nseen %u 70 0123456789abcdef\ndead 1\n",
        w->in, w->pull, w->one, w->two, w->in, w->pull, w->one, w->in, w->one, w->in, envelope.size,
        w->in, w->in);
    assert_string_equal(hr_buffer_text(&t.text), want);
    assert_int_equal(t.fire, 1700000000000000);
    assert_in_range(t.unsettled, 3 * envelope.size, 6 * envelope.size); /* 3 to 5, by rows */
    hr_free(want);
    hr_buffer_fini(&t.text);
    hr_batch_unref(batch);
}

static uint32_t count_seen(world *w) {
    told t = load(w->store, w->in);
    uint32_t count = 0;
    for (const char *at = hr_buffer_text(&t.text); (at = strstr(at, "seen ")) != NULL; at++) {
        count++;
    }
    hr_buffer_fini(&t.text);
    return count;
}

/* A state of a daemon that never trimmed them must not be one commit of millions of rows. */
static void seen_rows_are_forgotten_some_thousands_at_a_time(void **state) {
    world *w = *state;
    enum { ROWS = 6000 };
    static hr_row rows[ROWS];
    for (int i = 0; i < ROWS; i++) {
        rows[i] = (hr_row){.kind = HR_ROW_SEEN,
                           .feed = w->in,
                           .due_ms = 1000 + i / 2,
                           .text = hr_slice_text("0123456789abcdef")};
    }
    assert_int_equal(commit_rows(w, rows, ROWS), HR_OK);
    hr_row trim = {.kind = HR_ROW_SEEN_TRIM, .feed = w->in, .due_ms = 1000 + ROWS / 2 - 5};
    assert_int_equal(commit_rows(w, &trim, 1), HR_OK);
    assert_int_equal(count_seen(w), ROWS - 4096);
    assert_int_equal(commit_rows(w, &trim, 1), HR_OK);
    assert_int_equal(count_seen(w), 10);
    assert_int_equal(commit_rows(w, &trim, 1), HR_OK);
    assert_int_equal(count_seen(w), 10);
}

static void parking_again_without_bytes_keeps_the_bytes(void **state) {
    world *w = *state;
    hr_batch *batch = fixture_batch(w->in, 7, 1, 50);
    hr_row row = {.kind = HR_ROW_PARK,
                  .function = w->one,
                  .feed = w->in,
                  .position = 7,
                  .bytes = hr_batch_envelope(batch, 0)};
    assert_int_equal(commit_rows(w, &row, 1), HR_OK);
    row.bytes.size = 0;
    row.attempt = 3;
    assert_int_equal(commit_rows(w, &row, 1), HR_OK);
    uint64_t positions[] = {6, 7};
    hr_read read = {.kind = HR_READ_PARKED,
                    .function = w->one,
                    .feed = w->in,
                    .positions = positions,
                    .position_count = 2};
    fixture_read(w->store, &read);
    assert_int_equal(read.result, HR_OK);
    assert_int_equal(read.batch->count, 1);
    assert_int_equal(read.batch->position[0], 7);
    assert_true(fixture_is_whole(read.batch, 0, 50));
    hr_read_fini(&read);
    hr_batch_unref(batch);
}

static void without_memory_to_read_what_is_parked_the_read_fails(void **state) {
    world *w = *state;
    hr_batch *batch = fixture_batch(w->in, 7, 1, 50);
    hr_row row = {.kind = HR_ROW_PARK,
                  .function = w->one,
                  .feed = w->in,
                  .position = 7,
                  .bytes = hr_batch_envelope(batch, 0)};
    assert_int_equal(commit_rows(w, &row, 1), HR_OK);
    uint64_t position = 7;
    for (int i = 0; i < 2; i++) {
        hr_read read = {.kind = HR_READ_PARKED,
                        .function = w->one,
                        .feed = w->in,
                        .positions = &position,
                        .position_count = 1};
        sqlite3_hard_heap_limit64(i == 0 ? 1 : 0);
        fixture_read(w->store, &read);
        sqlite3_hard_heap_limit64(0);
        assert_int_equal(read.result, i == 0 ? HR_E_STORE_IO : HR_OK);
        assert_int_equal(read.corrupt_count, 0);
        assert_int_equal(read.batch == NULL ? 0 : read.batch->count, i);
        hr_read_fini(&read);
    }
    hr_batch_unref(batch);
}

static void removing_a_function_turns_what_it_parked_into_dead_letters(void **state) {
    world *w = *state;
    assert_int_equal(checkpoint(w, w->one, 1, "", 0, (hr_counters){0}), HR_OK);
    hr_row park = {.kind = HR_ROW_PARK,
                   .function = w->one,
                   .feed = w->in,
                   .position = 9,
                   .bytes = hr_slice_text("x")};
    assert_int_equal(commit_rows(w, &park, 1), HR_OK);
    hr_row remove = {.kind = HR_ROW_REMOVE, .function = w->one};
    assert_int_equal(commit_rows(w, &remove, 1), HR_OK);
    told t = load(w->store, 0);
    const char *text = hr_buffer_text(&t.text);
    assert_non_null(strstr(text, "one removed"));
    assert_null(strstr(text, "parked"));
    assert_null(strstr(text, "checkpoint"));
    assert_non_null(strstr(text, "dead 1"));
    hr_buffer_fini(&t.text);
    uint32_t again = 0;
    assert_int_equal(hr_store_function_open(w->store, "one", NULL, &again, NULL), HR_OK);
    assert_int_not_equal(again, w->one);
}

static void a_renamed_function_keeps_its_number(void **state) {
    world *w = *state;
    uint32_t number = 0;
    assert_int_equal(hr_store_function_open(w->store, "uno", "one", &number, NULL), HR_OK);
    assert_int_equal(number, w->one);
    assert_int_equal(hr_store_function_open(w->store, "uno", "one", &number, NULL), HR_OK);
    assert_int_equal(number, w->one);
}

static void s21_a_renamed_function_takes_its_feeds_along(void **state) {
    world *w = *state;
    uint32_t inject = 0, results = 0, number = 0, epoch = 0;
    assert_int_equal(hr_store_feed_open(w->store, "journal", "inject/one", &inject, &epoch, NULL),
                     HR_OK);
    assert_int_equal(
        hr_store_feed_open(w->store, "journal", "function/one", &results, &epoch, NULL), HR_OK);
    assert_int_equal(hr_store_function_open(w->store, "uno", "one", &number, NULL), HR_OK);
    assert_int_equal(hr_store_feed_open(w->store, "journal", "inject/uno", &number, &epoch, NULL),
                     HR_OK);
    assert_int_equal(number, inject);
    assert_int_equal(hr_store_feed_open(w->store, "journal", "function/uno", &number, &epoch, NULL),
                     HR_OK);
    assert_int_equal(number, results);
}

/* ---- reads ---- */

static void a_journal_reads_back_in_batches(void **state) {
    world *w = *state;
    for (uint64_t at = 1; at < 3000; at += 500) {
        assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, at, 500, 300)),
                         HR_OK);
    }
    uint64_t want = 1;
    bool at_end = false;
    while (!at_end) {
        hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .from = want, .max_bytes = 65536};
        fixture_read(w->store, &read);
        assert_int_equal(read.result, HR_OK);
        at_end = read.at_end;
        assert_true(read.batch != NULL && read.batch->size <= 65536);
        for (uint32_t i = 0; i < read.batch->count; i++) {
            assert_int_equal(read.batch->position[i], want);
            assert_true(fixture_is_whole(read.batch, i, 300));
            want++;
        }
        hr_read_fini(&read);
    }
    assert_int_equal(want, 3001);
    hr_read nothing = {.kind = HR_READ_JOURNAL, .feed = w->in, .from = want};
    fixture_read(w->store, &nothing);
    assert_true(nothing.at_end && nothing.batch == NULL);
    hr_read unknown = {.kind = HR_READ_JOURNAL, .feed = 99};
    fixture_read(w->store, &unknown);
    assert_int_equal(unknown.result, HR_E_NOT_FOUND);
}

static void dead_letters_are_listed_and_found(void **state) {
    world *w = *state;
    hr_row row = {.kind = HR_ROW_DEAD,
                  .function = w->one,
                  .feed = w->in,
                  .attempt = 5,
                  .at_ms = 77,
                  .bytes = hr_slice_text("the envelope"),
                  .reason = hr_slice_text("attempts exhausted"),
                  .text = hr_slice_text("ValueError"),
                  .logs = hr_slice_text("line 1\nline 2"),
                  .event_id = hr_slice_text("e1")};
    for (uint64_t i = 0; i < 10; i++) {
        row.position = 100 + i;
        row.function = i % 2 == 0 ? w->one : w->two;
        assert_int_equal(commit_rows(w, &row, 1), HR_OK);
    }
    hr_row end = {.kind = HR_ROW_DEAD_END, .position = 3, .state = 1};
    assert_int_equal(commit_rows(w, &end, 1), HR_OK);
    hr_read list = {.kind = HR_READ_DEAD, .function = w->one, .from = 2, .max = 3};
    fixture_read(w->store, &list);
    assert_int_equal(list.found_count, 3);
    assert_int_equal(list.found[0].row.position, 5); /* 3 is replayed */
    assert_int_equal(list.found[0].origin_position, 104);
    assert_true(hr_slice_is(list.found[2].row.reason, "attempts exhausted"));
    assert_true(hr_slice_is(list.found[2].row.event_id, "e1"));
    hr_read_fini(&list);
    hr_read ended = {.kind = HR_READ_DEAD, .states = 2};
    fixture_read(w->store, &ended);
    assert_int_equal(ended.found_count, 1);
    assert_int_equal(ended.found[0].row.state, 1);
    hr_read_fini(&ended);
    hr_read one = {.kind = HR_READ_DEAD_ONE, .from = 4};
    fixture_read(w->store, &one);
    assert_int_equal(one.found_count, 1);
    assert_true(hr_slice_is(one.found[0].row.bytes, "the envelope"));
    assert_true(hr_slice_is(one.found[0].row.logs, "line 1\nline 2"));
    assert_true(hr_slice_is(one.found[0].row.text, "ValueError"));
    assert_int_equal(one.found[0].row.at_ms, 77);
    hr_read_fini(&one);
    hr_read by_id = {.kind = HR_READ_DEAD_ONE, .event_id = hr_slice_text("e1")};
    fixture_read(w->store, &by_id);
    assert_int_equal(by_id.found_count, 10);
    assert_int_equal(by_id.found[0].row.position, 10);
    hr_read_fini(&by_id);
}

static void an_id_is_found_in_the_journal(void **state) {
    world *w = *state;
    char id[40];
    snprintf(id, sizeof id, "%u-17", w->in);
    for (uint64_t at = 1; at < 5000; at += 1000) {
        assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, at, 1000, 30)),
                         HR_OK);
    }
    hr_read find = {.kind = HR_READ_FIND, .event_id = hr_slice_text(id)};
    fixture_read(w->store, &find);
    assert_int_equal(find.found_count, 1);
    assert_int_equal(find.found[0].row.position, 17);
    assert_int_equal(find.found[0].row.feed, w->in);
    assert_true(find.at_end);
    hr_read_fini(&find);
    hr_read short_find = {.kind = HR_READ_FIND, .event_id = hr_slice_text(id), .max = 1000};
    fixture_read(w->store, &short_find);
    assert_int_equal(short_find.found_count, 0);
    assert_false(short_find.at_end);
    hr_read_fini(&short_find);
}

static void s15_pending_is_counted_by_itself(void **state) {
    world *w = *state;
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 1, 10, 10)), HR_OK);
    /* one begins at 6 (5 old events count), two at the end */
    assert_int_equal(checkpoint(w, w->one, 6, "", 0, (hr_counters){0}), HR_OK);
    assert_int_equal(checkpoint(w, w->two, 11, "", 0, (hr_counters){0}), HR_OK);
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 11, 10, 10)), HR_OK);
    hr_row park = {.kind = HR_ROW_PARK,
                   .function = w->one,
                   .feed = w->in,
                   .position = 7,
                   .bytes = hr_slice_text("x")};
    hr_unit unit = {.function = w->one,
                    .feed = w->in,
                    .has_checkpoint = true,
                    .low = 9,
                    .settled = hr_slice_text("12 14"),
                    .settled_count = 2,
                    .counters = {.delivered = 3, .filtered = 1},
                    .rows = &park,
                    .row_count = 1};
    assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
    hr_read totals = {.kind = HR_READ_TOTALS};
    fixture_read(w->store, &totals);
    assert_int_equal(totals.found_count, 2);
    const hr_found *one = &totals.found[0], *two = &totals.found[1];
    assert_int_equal(one->row.function, w->one);
    assert_int_equal(one->counters.deliveries, 15);
    assert_int_equal(one->pending, 11); /* 9..20 less 2 settled, and one parked */
    assert_int_equal(two->counters.deliveries, 10);
    assert_int_equal(two->pending, 10);
    const hr_counters *c = &one->counters;
    assert_int_equal(c->deliveries, c->delivered + c->filtered + one->pending);
    hr_read_fini(&totals);
}

/* ---- guards ---- */

static void a_unit_of_a_former_owner_is_fenced(void **state) {
    world *w = *state;
    hr_unit unit = {
        .function = w->one, .feed = w->pull, .epoch = w->epoch, .has_checkpoint = true, .low = 5};
    assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
    uint32_t feed = 0, epoch = 0;
    assert_int_equal(hr_store_feed_open(w->store, "pull", "kafka/p/0", &feed, &epoch, NULL), HR_OK);
    assert_int_equal(feed, w->pull);
    assert_int_equal(epoch, w->epoch + 1);
    unit.low = 6;
    assert_int_equal(fixture_commit(w->store, &unit), HR_E_FENCED);
    unit.epoch = epoch;
    unit.low = 7;
    assert_int_equal(fixture_commit(w->store, &unit), HR_OK);
    told t = load(w->store, w->pull);
    assert_non_null(strstr(hr_buffer_text(&t.text), "low=7"));
    hr_buffer_fini(&t.text);
}

static void note_result(hr_unit *unit, hr_code result) {
    *(hr_code *)unit->data = result;
}

static void s5_a_bad_unit_goes_alone(void **state) {
    world *w = *state;
    hr_batch *good = fixture_batch(w->in, 1, 3, 10), *torn = fixture_batch(w->in, 4, 3, 10);
    hr_batch *next = fixture_batch(w->in, 4, 2, 10);
    torn->position[2] = 4; /* found out in the middle of the unit */
    hr_code results[3] = {HR_E_IO, HR_E_IO, HR_E_IO};
    hr_row dead = {.kind = HR_ROW_DEAD, .feed = w->in, .bytes = hr_slice_text("x")};
    hr_unit units[3] = {
        {.feed = w->in, .appends = &good, .append_count = 1},
        {.feed = w->in, .appends = &torn, .append_count = 1, .rows = &dead, .row_count = 1},
        {.feed = w->in, .appends = &next, .append_count = 1}};
    for (size_t i = 0; i < 3; i++) {
        units[i].done = note_result;
        units[i].data = &results[i];
        hr_store_submit(w->store, &units[i]);
    }
    assert_int_equal(hr_store_turn(w->store), 3);
    assert_int_equal(results[0], HR_OK);
    assert_int_equal(results[1], HR_E_INVALID);
    assert_int_equal(results[2], HR_OK);
    hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in};
    fixture_read(w->store, &read);
    assert_int_equal(read.batch->count, 5);
    hr_read_fini(&read);
    told t = load(w->store, 0);
    assert_non_null(strstr(hr_buffer_text(&t.text), "next=6"));
    assert_non_null(strstr(hr_buffer_text(&t.text), "received=5 "));
    assert_non_null(strstr(hr_buffer_text(&t.text), "dead 0"));
    hr_buffer_fini(&t.text);
    hr_batch_unref(good);
    hr_batch_unref(torn);
    hr_batch_unref(next);
}

static void a_second_open_names_the_process(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    hr_store *second = NULL;
    hr_error err = {0};
    assert_int_equal(hr_store_open(&options, &second, &err), HR_E_STORE_LOCKED);
    char pid[20];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    assert_non_null(strstr(err.text, pid));
    assert_null(strchr(err.text, '\n'));
}

static void the_id_stays(void **state) {
    world *w = *state;
    char *id = hr_copy_text(hr_store_id(w->store));
    assert_int_equal(strlen(id), 32);
    reopen(w, NULL);
    assert_string_equal(hr_store_id(w->store), id);
    hr_free(id);
}

/* ---- history ---- */

static uint64_t oldest(world *w) {
    hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .max = 1};
    fixture_read(w->store, &read);
    uint64_t position = read.batch == NULL ? 0 : read.batch->position[0];
    hr_read_fini(&read);
    return position;
}

static void s2_settled_history_goes_by_bytes_and_the_unsettled_stays(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    options.journal_max_bytes = 100000;
    reopen(w, &options);
    assert_int_equal(checkpoint(w, w->one, 1, "", 0, (hr_counters){0}), HR_OK);
    for (uint64_t at = 1; at < 2000; at += 100) {
        assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, at, 100, 200)),
                         HR_OK);
    }
    for (int i = 0; i < 20; i++) {
        hr_store_turn(w->store);
    }
    assert_int_equal(oldest(w), 1); /* over the limit, but nothing is settled */
    assert_int_equal(checkpoint(w, w->one, 1001, "", 0, (hr_counters){0}), HR_OK);
    for (int i = 0; i < 20; i++) {
        hr_store_turn(w->store);
    }
    assert_int_equal(oldest(w), 1001); /* all settled went: the unsettled alone is over the limit */
    assert_int_equal(checkpoint(w, w->one, 2001, "", 0, (hr_counters){0}), HR_OK);
    for (int i = 0; i < 20; i++) {
        hr_store_turn(w->store);
    }
    uint64_t kept = 2001 - oldest(w);
    assert_in_range(kept, 320, 420); /* 100,000 bytes of about 272 each, by rows */
    reopen(w, &options);
    told t = load(w->store, 0);
    assert_non_null(strstr(hr_buffer_text(&t.text), "next=2001"));
    assert_int_equal(t.unsettled, 0);
    hr_buffer_fini(&t.text);
}

static void turn_until_oldest_is(world *w, uint64_t position) {
    int64_t until = hr_real_us() + 5000000;
    while (oldest(w) != position && hr_real_us() < until) {
        hr_store_turn(w->store);
    }
    assert_int_equal(oldest(w), position);
}

static uint64_t pending(world *w, uint32_t function) {
    hr_read read = {.kind = HR_READ_TOTALS};
    uint64_t found = UINT64_MAX;
    fixture_read(w->store, &read);
    for (size_t i = 0; i < read.found_count; i++) {
        found = read.found[i].row.function == function ? read.found[i].pending : found;
    }
    hr_read_fini(&read);
    return found;
}

static void settled_history_goes_by_age(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    assert_int_equal(checkpoint(w, w->one, 1, "", 0, (hr_counters){0}), HR_OK);
    /* each a row of its own */
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 1, 10, 10000)), HR_OK);
    assert_int_equal(checkpoint(w, w->one, 6, "", 0, (hr_counters){0}), HR_OK);
    options.journal_keep_ms = 3600000;
    reopen(w, &options);
    hr_store_turn(w->store);
    assert_int_equal(oldest(w), 1);
    options.journal_keep_ms = 0; /* what is older than now: after a millisecond */
    reopen(w, &options);
    turn_until_oldest_is(w, 6);
    assert_int_equal(checkpoint(w, w->one, 11, "", 0, (hr_counters){0}), HR_OK);
    turn_until_oldest_is(w, 0); /* and again, when there was nothing left to go in between */
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 11, 10, 10000)), HR_OK);
    assert_int_equal(checkpoint(w, w->one, 14, "", 0, (hr_counters){0}), HR_OK);
    turn_until_oldest_is(w, 14);
}

/* Rows of many hold positions that follow each other only: what is there, is counted and is read
 * from any position is the same with gaps in between. */
static void events_stand_at_their_positions_with_gaps_and_sizes_of_any_kind(void **state) {
    enum { COUNT = 300 };
    world *w = *state;
    uint64_t positions[COUNT], at = 1;
    hr_builder builder = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        size_t size = i % 40 == 7 ? 20000 : i % 40 < 3 ? 6000 : i * 7 % 300;
        hr_batch *one = fixture_batch(w->in, at, 1, size);
        assert_int_equal(hr_builder_add(&builder, at, hr_batch_envelope(one, 0), NULL), HR_OK);
        hr_batch_unref(one);
        positions[i] = at;
        at += i % 17 == 3 ? 5 : 1;
    }
    hr_batch *batch = hr_builder_finish(&builder, w->in, 0);
    hr_builder_fini(&builder);
    assert_int_equal(checkpoint(w, w->one, 1, "", 0, (hr_counters){0}), HR_OK);
    assert_int_equal(fixture_append(w->store, w->in, hr_batch_ref(batch)), HR_OK);
    hr_store_options options = fixture_options(w->dir);
    reopen(w, &options);
    uint32_t next = 0; /* the first event at or above `from` */
    for (uint64_t from = 1; from < at; from++) {
        next += positions[next] < from ? 1 : 0;
        hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .from = from, .max_bytes = 30000};
        fixture_read(w->store, &read);
        assert_int_equal(read.result, HR_OK);
        assert_int_equal(read.corrupt_count, 0);
        assert_true(read.batch->count > 0);
        for (uint32_t i = 0; i < read.batch->count; i++) {
            assert_int_equal(read.batch->position[i], positions[next + i]);
            assert_true(hr_slice_equal(hr_batch_envelope(read.batch, i),
                                       hr_batch_envelope(batch, next + i)));
        }
        assert_int_equal(read.at_end, next + read.batch->count == COUNT);
        hr_read_fini(&read);
        assert_int_equal(checkpoint(w, w->one, from, "", 0, (hr_counters){0}), HR_OK);
        assert_int_equal(pending(w, w->one), COUNT - next);
    }
    hr_batch_unref(batch);
}

static void a_row_stays_as_long_as_one_of_its_events_is_unsettled(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    options.journal_max_bytes = 0;
    reopen(w, &options);
    assert_int_equal(checkpoint(w, w->one, 1, "", 0, (hr_counters){0}), HR_OK);
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 1, 10, 20)), HR_OK);
    for (uint64_t low = 1; low <= 10; low++) {
        assert_int_equal(checkpoint(w, w->one, low, "", 0, (hr_counters){0}), HR_OK);
        hr_store_turn(w->store);
        assert_int_equal(oldest(w), 1);
        hr_read read = {.kind = HR_READ_JOURNAL, .feed = w->in, .from = low};
        fixture_read(w->store, &read); /* and is read from its middle */
        assert_int_equal(read.batch->count, 11 - low);
        assert_int_equal(read.batch->position[0], low);
        assert_true(fixture_is_whole(read.batch, 0, 20));
        hr_read_fini(&read);
        assert_int_equal(pending(w, w->one), 11 - low);
    }
    assert_int_equal(checkpoint(w, w->one, 11, "", 0, (hr_counters){0}), HR_OK);
    turn_until_oldest_is(w, 0);
}

static void positions_go_on_when_all_history_went(void **state) {
    world *w = *state;
    hr_store_options options = fixture_options(w->dir);
    options.journal_max_bytes = 0;
    reopen(w, &options);
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 1, 10, 20)), HR_OK);
    hr_store_turn(w->store);
    assert_int_equal(oldest(w), 0);
    reopen(w, &options);
    told t = load(w->store, 0);
    assert_non_null(strstr(hr_buffer_text(&t.text), "trigger/in next=11"));
    hr_buffer_fini(&t.text);
    assert_int_equal(fixture_append(w->store, w->in, fixture_batch(w->in, 10, 1, 20)),
                     HR_E_INVALID);
}

/* Small pages: the tables' roots and what they drive out are many. */
static void many_are_numbered_in_one_commit_or_none(void **state) {
    enum { MANY = 120 };
    world *w = *state;
    hr_error err = {0};
    char *dir = hr_format("%s/many", w->dir);
    hr_store_options options = fixture_options(dir);
    options.page_bytes = 1024;
    hr_store *store = NULL;
    hr_store_name names[MANY + 1];
    char texts[MANY][40];
    assert_int_equal(hr_store_open(&options, &store, &err), HR_OK);
    for (int i = 0; i < MANY; i++) {
        snprintf(texts[i], sizeof texts[i], "%s/number-%d", i % 3 == 0 ? "f" : "trigger", i);
        names[i] = (hr_store_name){.kind = i % 3 == 0 ? "function" : "journal", .name = texts[i]};
    }
    names[MANY] = (hr_store_name){.kind = "pull", .name = texts[1]}; /* it is a journal */
    assert_int_equal(hr_store_number(store, names, MANY + 1, &err), HR_E_EXISTS);
    told t = load(store, 0);
    assert_string_equal(hr_buffer_text(&t.text), "dead 0\n");
    hr_buffer_fini(&t.text);
    for (int life = 0; life < 3; life++) {
        uint32_t first = names[1].number;
        assert_int_equal(hr_store_number(store, names, MANY, &err), HR_OK);
        assert_true(life == 0 || names[1].number == first);
        hr_store_close(store);
        assert_int_equal(hr_store_open(&options, &store, &err), HR_OK);
    }
    hr_batch *batch = fixture_batch(names[MANY - 1].number, 1, 3, 20);
    assert_int_equal(fixture_append(store, names[MANY - 1].number, batch), HR_OK);
    hr_store_close(store);
    fixture_remove(dir);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(every_row_kind_survives_a_reopen),
        STORE_TEST(seen_rows_are_forgotten_some_thousands_at_a_time),
        STORE_TEST(parking_again_without_bytes_keeps_the_bytes),
        STORE_TEST(without_memory_to_read_what_is_parked_the_read_fails),
        STORE_TEST(removing_a_function_turns_what_it_parked_into_dead_letters),
        STORE_TEST(a_renamed_function_keeps_its_number),
        STORE_TEST(s21_a_renamed_function_takes_its_feeds_along),
        STORE_TEST(a_journal_reads_back_in_batches),
        STORE_TEST(dead_letters_are_listed_and_found),
        STORE_TEST(an_id_is_found_in_the_journal),
        STORE_TEST(s15_pending_is_counted_by_itself),
        STORE_TEST(a_unit_of_a_former_owner_is_fenced),
        STORE_TEST(s5_a_bad_unit_goes_alone),
        STORE_TEST(a_second_open_names_the_process),
        STORE_TEST(many_are_numbered_in_one_commit_or_none),
        STORE_TEST(the_id_stays),
        STORE_TEST(s2_settled_history_goes_by_bytes_and_the_unsettled_stays),
        STORE_TEST(settled_history_goes_by_age),
        STORE_TEST(events_stand_at_their_positions_with_gaps_and_sizes_of_any_kind),
        STORE_TEST(a_row_stays_as_long_as_one_of_its_events_is_unsettled),
        STORE_TEST(positions_go_on_when_all_history_went),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
