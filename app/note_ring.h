/* SPDX-License-Identifier: Apache-2.0 */
/* The newest notes of the dispatcher, kept without an allocation each: fixed records in one ring,
 * their texts in another. Whichever is full lets go of the oldest.  Thread: loop. */
#ifndef HR_APP_NOTE_RING_H
#define HR_APP_NOTE_RING_H

#include "broker/dispatch.h"

enum { HR_NOTE_ID_MAX = 200, HR_NOTE_TEXT_MAX = 400 }; /* bytes kept; the rest is cut */

typedef struct hr_note_ring hr_note_ring;

/* A note as it is remembered; note.batch is NULL, note.text and the slices are borrowed until the
 * next add. */
typedef struct hr_kept_note {
    hr_note note;
    hr_slice id, subject;
} hr_kept_note;

/* Memory is touched only as notes come. bytes: of texts, more than those of one note. */
hr_note_ring *hr_note_ring_new(uint32_t notes, uint32_t bytes);
void hr_note_ring_free(hr_note_ring *take_ring);

void hr_note_ring_add(hr_note_ring *ring, const hr_note *note);

/* Notes are numbered from 0; these stand from first to before next. */
uint64_t hr_note_ring_first(const hr_note_ring *ring);
uint64_t hr_note_ring_next(const hr_note_ring *ring);

/* The note of that number, first <= number < next. */
hr_kept_note hr_note_ring_get(const hr_note_ring *ring, uint64_t number);

#endif
