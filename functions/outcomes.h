/* SPDX-License-Identifier: Apache-2.0 */
/* What became of each event of one call, said in any order; the last word counts.
 *
 * Life:  init -> (reset -> say* -> exceptions)* -> fini */
#ifndef HR_FUNCTIONS_OUTCOMES_H
#define HR_FUNCTIONS_OUTCOMES_H

#include "broker/runtime.h"

enum { HR_OUTCOME_WHY_MAX = 4096 }; /* bytes kept of a reason */

typedef struct hr_outcomes {
    struct hr_outcome_word *words; /* one an event */
    hr_exception *exceptions;
    uint32_t batch_size, said; /* said: events with a word, 0 is the fast way */
    hr_buffer whys;
} hr_outcomes;

/* For calls of at most batch_size events. */
void hr_outcomes_init(hr_outcomes *self, uint32_t batch_size);

/* A new call: nothing is said, all events are delivered. */
void hr_outcomes_reset(hr_outcomes *self);

/* Event index ended so (outcome is not OK). why is copied; after_ms as in hr_exception. */
void hr_outcomes_say(hr_outcomes *self, uint32_t index, hr_outcome outcome, int64_t after_ms,
                     hr_slice why);

/* The exceptions of a call of count events, ascending, in self->exceptions until the next reset.
 * Returns how many. */
size_t hr_outcomes_exceptions(hr_outcomes *self, uint32_t count);

void hr_outcomes_fini(hr_outcomes *self);

#endif
