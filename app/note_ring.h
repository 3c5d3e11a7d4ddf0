/* SPDX-License-Identifier: Apache-2.0 */
/* The newest notes of the dispatcher, kept without an allocation each: fixed records in one ring,
 * their texts in another. Whichever is full lets go of the oldest.  Thread: loop. */
#ifndef HR_APP_NOTE_RING_H
#define HR_APP_NOTE_RING_H

#include "broker/dispatch.h"

enum { HR_NOTE_ID_MAX = 200, HR_NOTE_TEXT_MAX = 400 }; /* bytes kept; the rest is cut */

typedef struct hr_note_ring hr_note_ring;

/* A note of one event as it is remembered; note.batch is NULL, note.text and the slices are
 * borrowed until the next add or call. */
typedef struct hr_kept_note {
    hr_note note;
    hr_slice id, subject;
    int64_t over_us;  /* of a CALLED: when all of its call was delivered; 0: it was not, or notes
                         of their own tell */
    uint64_t over_ns; /* what the call took then */
    uint64_t over_before; /* the number of the first note that came behind its end */
} hr_kept_note;

/* Memory is touched only as notes come. bytes: of texts, more than those of one note. */
hr_note_ring *hr_note_ring_new(uint32_t notes, uint32_t bytes);
void hr_note_ring_free(hr_note_ring *take_ring);

void hr_note_ring_add(hr_note_ring *ring, const hr_note *note);

/* One note for each event of a call (note->events), of whatever kind; they are let go together.
 * Returns the number of the first. */
uint64_t hr_note_ring_call(hr_note_ring *ring, const hr_note *note);

/* All of that call (what _call returned for its CALLED) was delivered: its notes say so from now
 * on. false: they are let go. */
bool hr_note_ring_over(hr_note_ring *ring, uint64_t call, int64_t real_us, uint64_t took_ns);

/* Notes are numbered from 0; these stand from first to before next. */
uint64_t hr_note_ring_first(const hr_note_ring *ring);
uint64_t hr_note_ring_next(const hr_note_ring *ring);

/* The note of that number, first <= number < next. */
hr_kept_note hr_note_ring_get(const hr_note_ring *ring, uint64_t number);

#endif
