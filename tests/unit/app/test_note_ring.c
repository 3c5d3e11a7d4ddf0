/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of notes against a plain list of everything that was added. */
#include "app/note_ring.h"

#include "core/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { NOTES = 50, BYTES = 2000, ROUNDS = 3000 };

static char texts[ROUNDS][HR_NOTE_TEXT_MAX + 1];

static hr_batch *batch_of(const char *id) {
    hr_builder builder = {0};
    hr_error err;
    hr_fields fields = {.id = hr_slice_text(id),
                        .source = hr_slice_text("s"),
                        .type = hr_slice_text("t"),
                        .subject = hr_slice_text("room")};
    assert_int_equal(hr_builder_pack(&builder, 1, &fields, &err), HR_OK);
    hr_batch *batch = hr_builder_finish(&builder, 1, 0);
    hr_builder_fini(&builder);
    return batch;
}

/* Texts of all sizes, so that every place of the byte ring is an end and a beginning once. */
static void the_newest_notes_stand_whole_and_the_oldest_go_first(void **state) {
    (void)state;
    hr_note_ring *ring = hr_note_ring_new(NOTES, BYTES);
    hr_batch *batch = batch_of("e1");
    for (uint32_t i = 0; i < ROUNDS; i++) {
        size_t size = (i * 37u) % (i % 2 == 0 ? 60 : HR_NOTE_TEXT_MAX + 1);
        memset(texts[i], 'a' + (int)(i % 26), size);
        texts[i][size] = '\0';
        hr_note note = {.kind = HR_NOTE_RETRY,
                        .position = i,
                        .attempt = i % 7,
                        .due_ms = i,
                        .batch = i % 3 == 0 ? NULL : batch,
                        .text = hr_slice_text(texts[i])};
        hr_note_ring_add(ring, &note);
        uint64_t first = hr_note_ring_first(ring), bytes = 0;
        assert_int_equal(hr_note_ring_next(ring), i + 1);
        assert_true(i + 1 - first <= NOTES && first <= i);
        for (uint64_t k = first; k <= i; k++) {
            hr_kept_note kept = hr_note_ring_get(ring, k);
            assert_int_equal(kept.note.position, k);
            assert_int_equal(kept.note.attempt, k % 7);
            assert_true(hr_slice_is(kept.note.text, texts[k]));
            assert_true(hr_slice_is(kept.id, k % 3 == 0 ? "" : "e1"));
            assert_true(hr_slice_is(kept.subject, k % 3 == 0 ? "" : "room"));
            bytes += kept.note.text.size + kept.id.size + kept.subject.size;
        }
        assert_true(bytes <= BYTES);
        /* nothing is let go without need: one note more would not have had its place */
        assert_true(first == 0 || i + 1 - first == NOTES ||
                    bytes + 2 * HR_NOTE_TEXT_MAX > BYTES / 2);
    }
    hr_batch_unref(batch);
    hr_note_ring_free(ring);
}

static void what_is_too_long_is_cut(void **state) {
    (void)state;
    char id[HR_NOTE_ID_MAX + 50], text[HR_NOTE_TEXT_MAX + 50];
    memset(id, 'i', sizeof id);
    memset(text, 't', sizeof text);
    id[sizeof id - 1] = '\0';
    hr_note_ring *ring = hr_note_ring_new(4, 4096);
    hr_batch *batch = batch_of(id);
    hr_note note = {.batch = batch, .text = hr_slice_of(text, sizeof text)};
    hr_note_ring_add(ring, &note);
    hr_kept_note kept = hr_note_ring_get(ring, 0);
    assert_int_equal(kept.id.size, HR_NOTE_ID_MAX);
    assert_int_equal(kept.note.text.size, HR_NOTE_TEXT_MAX);
    assert_null(kept.note.batch);
    hr_batch_unref(batch);
    hr_note_ring_free(ring);
}

static void note_some(hr_note_ring *ring, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        hr_note_ring_add(ring, &(hr_note){.kind = HR_NOTE_FILTERED, .due_ms = 5, .took_ns = 5});
    }
}

/* ---- calls ---- */

enum { CALL_MAX = 60 };

typedef struct noted_call {
    hr_batch *batches[CALL_MAX];
    hr_event_ref events[CALL_MAX];
    uint32_t count;
} noted_call;

static const char *call_id = "e1";

static uint64_t note_call(hr_note_ring *ring, noted_call *call, uint32_t count, uint32_t function) {
    call->count = count;
    for (uint32_t i = 0; i < count; i++) {
        call->batches[i] = batch_of(call_id);
        call->batches[i]->feed = 4;
        call->batches[i]->position[0] = 100 + i;
        call->events[i] =
            (hr_event_ref){.batch = call->batches[i], .attempt = (uint16_t)(1 + i % 2)};
    }
    hr_note note = {
        .kind = HR_NOTE_CALLED, .function = function, .events = call->events, .count = count};
    return hr_note_ring_call(ring, &note);
}

static void forget_call(noted_call *call) {
    for (uint32_t i = 0; i < call->count; i++) {
        hr_batch_unref(call->batches[i]);
    }
}

static void the_end_of_a_call_stands_with_each_of_its_events(void **state) {
    (void)state;
    hr_note_ring *ring = hr_note_ring_new(NOTES, BYTES);
    noted_call calls[2];
    note_some(ring, 44); /* the second lies across the end of the ring */
    uint64_t numbers[2] = {note_call(ring, &calls[0], 3, 1), note_call(ring, &calls[1], 8, 2)};
    assert_true(hr_note_ring_over(ring, numbers[1], 77, 7));
    for (uint32_t i = 0; i < 11; i++) {
        hr_kept_note kept = hr_note_ring_get(ring, numbers[0] + i);
        uint32_t in = i < 3 ? i : i - 3;
        assert_int_equal(kept.note.kind, HR_NOTE_CALLED);
        assert_int_equal(kept.note.function, i < 3 ? 1 : 2);
        assert_int_equal(kept.note.feed, 4);
        assert_int_equal(kept.note.position, 100 + in);
        assert_int_equal(kept.note.attempt, 1 + in % 2);
        assert_true(hr_slice_is(kept.id, "e1"));
        assert_int_equal(kept.note.took_ns, 0);
        assert_int_equal(kept.over_us, i < 3 ? 0 : 77);
        assert_int_equal(kept.over_ns, i < 3 ? 0 : 7);
        assert_int_equal(kept.over_before, i < 3 ? 0 : 55);
    }
    hr_kept_note other = hr_note_ring_get(ring, numbers[0] - 1);
    assert_int_equal(other.note.due_ms, 5);
    assert_int_equal(other.note.took_ns, 5);
    assert_int_equal(other.over_us, 0);
    forget_call(&calls[0]);
    forget_call(&calls[1]);
    hr_note_ring_free(ring);
}

static void a_call_goes_whole(void **state) {
    (void)state;
    hr_note_ring *ring = hr_note_ring_new(NOTES, BYTES);
    noted_call call;
    note_some(ring, 5);
    uint64_t number = note_call(ring, &call, 20, 1);
    note_some(ring, 30);
    assert_int_equal(hr_note_ring_first(ring), number);
    assert_true(hr_note_ring_over(ring, number, 77, 7));
    note_some(ring, 1);
    assert_int_equal(hr_note_ring_first(ring), number + 20);
    assert_false(hr_note_ring_over(ring, number, 77, 7));
    forget_call(&call);
    number = note_call(ring, &call, 1, 1);
    note_some(ring, NOTES - 1);
    assert_true(hr_note_ring_over(ring, number, 77, 7));
    note_some(ring, 1);
    assert_false(hr_note_ring_over(ring, number, 77, 7));
    forget_call(&call);
    hr_note_ring_free(ring);
}

/* It lets go of itself, by the number of its events or by their bytes. Where its first event was
 * stands then a note with a time where the end of a call has one. */
static void of_a_call_without_room_the_last_stand(void **state) {
    (void)state;
    const uint32_t bytes[] = {BYTES, 1000}; /* 20 of 46 and 4 bytes */
    const uint64_t first[] = {5 + NOTES, 5 + 40};
    for (size_t k = 0; k < 2; k++) {
        call_id = k == 0 ? "e1" : "e234567890123456789012345678901234567890123456";
        hr_note_ring *ring = hr_note_ring_new(k == 0 ? NOTES : CALL_MAX, bytes[k]);
        noted_call call;
        note_some(ring, 5);
        uint64_t number = note_call(ring, &call, CALL_MAX, 1), next = 5 + CALL_MAX;
        note_some(ring, 1);
        assert_int_equal(hr_note_ring_next(ring), next + 1);
        assert_int_equal(hr_note_ring_first(ring), first[k]);
        assert_false(hr_note_ring_over(ring, number, 77, 7));
        for (uint64_t i = first[k]; i < next; i++) {
            hr_kept_note kept = hr_note_ring_get(ring, i);
            assert_int_equal(kept.note.position, 100 + i - 5);
            assert_int_equal(kept.over_us, 0);
        }
        forget_call(&call);
        hr_note_ring_free(ring);
    }
    call_id = "e1";
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_notes_stand_whole_and_the_oldest_go_first),
        cmocka_unit_test(what_is_too_long_is_cut),
        cmocka_unit_test(the_end_of_a_call_stands_with_each_of_its_events),
        cmocka_unit_test(a_call_goes_whole),
        cmocka_unit_test(of_a_call_without_room_the_last_stand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
