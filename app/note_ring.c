/* SPDX-License-Identifier: Apache-2.0 */
#include "app/note_ring.h"

#include "core/memory.h"

/* What is told of a whole call stands with its first event: its end is written in one place. */
typedef struct record {
    uint64_t at; /* where its texts begin, counted over all rounds */
    uint64_t position, took_ns;
    int64_t real_us;
    int64_t due_ms; /* of a call's first event: when it was over, in us; 0: not yet */
    uint32_t function, feed;
    uint32_t over_after; /* of a call's first event: notes from it on to its end */
    uint16_t attempt, attempts_max;
    uint16_t behind; /* how many notes of its call are before it */
    uint16_t text_size;
    uint8_t id_size, subject_size;
    uint8_t kind;
} record;

_Static_assert(sizeof(record) == 64, "the ring is 4 MiB");
_Static_assert(HR_NOTE_ID_MAX <= UINT8_MAX && HR_NOTE_TEXT_MAX <= UINT16_MAX, "sizes of texts");

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
        do { /* a call goes whole: without its first event nothing tells that it was delivered */
            ring->first++;
        } while (ring->first < ring->next && record_at(ring, ring->first)->behind > 0);
    }
    return at;
}

/* The next record, with its texts in place; all else is to be filled in. */
static record *add(hr_note_ring *ring, const hr_batch *batch, uint32_t index, hr_slice text) {
    hr_slice id = {0}, subject = {0};
    if (batch != NULL) {
        id = hr_batch_id(batch, index);
        subject = hr_batch_subject(batch, index);
    }
    uint8_t id_size = (uint8_t)cut(id, HR_NOTE_ID_MAX);
    uint8_t subject_size = (uint8_t)cut(subject, HR_NOTE_ID_MAX);
    uint16_t text_size = cut(text, HR_NOTE_TEXT_MAX);
    uint64_t at = make_room(ring, (size_t)id_size + subject_size + text_size);
    uint8_t *to = ring->bytes + at % ring->byte_count;
    if (id_size > 0) {
        memcpy(to, id.bytes, id_size);
    }
    if (subject_size > 0) {
        memcpy(to + id_size, subject.bytes, subject_size);
    }
    if (text_size > 0) {
        memcpy(to + id_size + subject_size, text.bytes, text_size);
    }
    record *r = record_at(ring, ring->next++);
    r->at = at;
    r->id_size = id_size;
    r->subject_size = subject_size;
    r->text_size = text_size;
    return r;
}

static void fill(record *r, const hr_note *note) {
    r->kind = (uint8_t)note->kind;
    r->function = note->function;
    r->attempts_max = (uint16_t)(note->attempts_max < UINT16_MAX ? note->attempts_max : UINT16_MAX);
    r->real_us = note->real_us;
    r->took_ns = note->took_ns;
    r->due_ms = note->due_ms;
    r->behind = 0;
}

void hr_note_ring_add(hr_note_ring *ring, const hr_note *note) {
    record *r = add(ring, note->batch, note->index, note->text);
    fill(r, note);
    r->position = note->position;
    r->feed = note->feed;
    r->attempt = (uint16_t)note->attempt;
}

uint64_t hr_note_ring_call(hr_note_ring *ring, const hr_note *note) {
    uint64_t call = ring->next, head = call;
    for (uint32_t i = 0; i < note->count; i++) {
        const hr_event_ref *event = &note->events[i];
        record *r = add(ring, event->batch, event->index, (hr_slice){0});
        fill(r, note);
        r->position = event->batch->position[event->index];
        r->feed = event->batch->feed;
        r->attempt = event->attempt;
        head = head < ring->first ? ring->next - 1 : head; /* no room for the whole call */
        r->behind = (uint16_t)(ring->next - 1 - head);
    }
    return call;
}

bool hr_note_ring_over(hr_note_ring *ring, uint64_t call, int64_t real_us, uint64_t took_ns) {
    if (call < ring->first) {
        return false;
    }
    HR_ASSERT(call < ring->next && record_at(ring, call)->kind == HR_NOTE_CALLED);
    record *head = record_at(ring, call);
    head->due_ms = real_us;
    head->took_ns = took_ns;
    head->over_after = (uint32_t)(ring->next - call);
    return true;
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
    hr_kept_note kept = {
        .note = {.kind = (hr_note_kind)r->kind,
                 .function = r->function,
                 .feed = r->feed,
                 .attempt = r->attempt,
                 .attempts_max = r->attempts_max,
                 .position = r->position,
                 .real_us = r->real_us,
                 .text = hr_slice_of(text + r->id_size + r->subject_size, r->text_size)},
        .id = hr_slice_of(text, r->id_size),
        .subject = hr_slice_of(text + r->id_size, r->subject_size)};
    if (kept.note.kind == HR_NOTE_CALLED) {
        const record *head = record_at(ring, number - r->behind);
        kept.over_us = head->due_ms;
        kept.over_ns = head->took_ns;
        kept.over_before = head->due_ms == 0 ? 0 : number - r->behind + head->over_after;
    } else {
        kept.note.due_ms = r->due_ms;
        kept.note.took_ns = r->took_ns;
    }
    return kept;
}
