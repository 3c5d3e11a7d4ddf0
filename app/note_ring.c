/* SPDX-License-Identifier: Apache-2.0 */
#include "app/note_ring.h"

#include "core/memory.h"

typedef struct record {
    uint64_t at; /* where its texts begin, counted over all rounds */
    uint64_t position, took_ns;
    int64_t real_us, due_ms;
    uint32_t function, feed;
    uint32_t attempt, attempts_max;
    uint16_t id_size, subject_size, text_size;
    uint8_t kind;
} record;

struct hr_note_ring {
    record *records;
    uint8_t *bytes;
    uint32_t record_count, byte_count;
    uint64_t first, next;
    uint64_t written; /* bytes, over all rounds */
};

hr_note_ring *hr_note_ring_new(uint32_t notes, uint32_t bytes) {
    HR_ASSERT(notes > 0 && bytes > 2 * HR_NOTE_ID_MAX + HR_NOTE_TEXT_MAX);
    hr_note_ring *ring = hr_alloc(sizeof *ring);
    ring->record_count = notes;
    ring->byte_count = bytes;
    ring->records = hr_alloc_array(notes, sizeof *ring->records);
    ring->bytes = hr_alloc(bytes);
    return ring;
}

void hr_note_ring_free(hr_note_ring *take_ring) {
    if (take_ring != NULL) {
        hr_free(take_ring->records);
        hr_free(take_ring->bytes);
        hr_free(take_ring);
    }
}

static uint16_t cut(hr_slice text, size_t max) {
    return (uint16_t)(text.size < max ? text.size : max);
}

static record *record_at(const hr_note_ring *ring, uint64_t number) {
    return &ring->records[number % ring->record_count];
}

/* A place for size bytes in one piece; notes whose texts lay there are let go. */
static uint64_t make_room(hr_note_ring *ring, size_t size) {
    uint64_t at = ring->written;
    if (at % ring->byte_count + size > ring->byte_count) {
        at += ring->byte_count - at % ring->byte_count; /* the end of the ring stays empty */
    }
    ring->written = at + size;
    while (ring->first < ring->next &&
           (ring->next - ring->first == ring->record_count ||
            record_at(ring, ring->first)->at + ring->byte_count < ring->written)) {
        ring->first++;
    }
    return at;
}

void hr_note_ring_add(hr_note_ring *ring, const hr_note *note) {
    hr_slice id = {0}, subject = {0};
    if (note->batch != NULL) {
        id = hr_batch_id(note->batch, note->index);
        subject = hr_batch_subject(note->batch, note->index);
    }
    uint16_t id_size = cut(id, HR_NOTE_ID_MAX), subject_size = cut(subject, HR_NOTE_ID_MAX),
             text_size = cut(note->text, HR_NOTE_TEXT_MAX);
    uint64_t at = make_room(ring, (size_t)id_size + subject_size + text_size);
    uint8_t *to = ring->bytes + at % ring->byte_count;
    *record_at(ring, ring->next++) = (record){.at = at,
                                              .position = note->position,
                                              .took_ns = note->took_ns,
                                              .real_us = note->real_us,
                                              .due_ms = note->due_ms,
                                              .function = note->function,
                                              .feed = note->feed,
                                              .attempt = note->attempt,
                                              .attempts_max = note->attempts_max,
                                              .id_size = id_size,
                                              .subject_size = subject_size,
                                              .text_size = text_size,
                                              .kind = (uint8_t)note->kind};
    if (id_size > 0) {
        memcpy(to, id.bytes, id_size);
    }
    if (subject_size > 0) {
        memcpy(to + id_size, subject.bytes, subject_size);
    }
    if (text_size > 0) {
        memcpy(to + id_size + subject_size, note->text.bytes, text_size);
    }
}

uint64_t hr_note_ring_first(const hr_note_ring *ring) {
    return ring->first;
}

uint64_t hr_note_ring_next(const hr_note_ring *ring) {
    return ring->next;
}

hr_kept_note hr_note_ring_get(const hr_note_ring *ring, uint64_t number) {
    HR_ASSERT(number >= ring->first && number < ring->next);
    const record *r = record_at(ring, number);
    const uint8_t *text = ring->bytes + r->at % ring->byte_count;
    return (hr_kept_note){
        .note = {.kind = (hr_note_kind)r->kind,
                 .function = r->function,
                 .feed = r->feed,
                 .attempt = r->attempt,
                 .attempts_max = r->attempts_max,
                 .position = r->position,
                 .real_us = r->real_us,
                 .due_ms = r->due_ms,
                 .took_ns = r->took_ns,
                 .text = hr_slice_of(text + r->id_size + r->subject_size, r->text_size)},
        .id = hr_slice_of(text, r->id_size),
        .subject = hr_slice_of(text + r->id_size, r->subject_size)};
}
