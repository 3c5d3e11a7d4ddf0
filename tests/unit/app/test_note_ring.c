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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_notes_stand_whole_and_the_oldest_go_first),
        cmocka_unit_test(what_is_too_long_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
