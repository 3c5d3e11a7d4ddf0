/* SPDX-License-Identifier: Apache-2.0 */
#include "functions/outcomes.h"

#include "core/memory.h"

struct hr_outcome_word {
    uint8_t outcome; /* HR_OUTCOME_OK: nothing said */
    uint32_t why_at, why_size;
    int64_t after_ms;
};

void hr_outcomes_init(hr_outcomes *self, uint32_t batch_size) {
    *self = (hr_outcomes){.batch_size = batch_size};
    self->words = hr_alloc_array(batch_size, sizeof *self->words);
    self->exceptions = hr_alloc_array(batch_size, sizeof *self->exceptions);
}

void hr_outcomes_reset(hr_outcomes *self) {
    if (self->said > 0) {
        memset(self->words, 0, self->batch_size * sizeof *self->words);
    }
    self->said = 0;
    self->whys.size = 0;
}

void hr_outcomes_say(hr_outcomes *self, uint32_t index, hr_outcome outcome, int64_t after_ms,
                     hr_slice why) {
    HR_ASSERT(index < self->batch_size && outcome != HR_OUTCOME_OK);
    struct hr_outcome_word *word = &self->words[index];
    self->said += word->outcome == HR_OUTCOME_OK ? 1 : 0;
    why.size = why.size < HR_OUTCOME_WHY_MAX ? why.size : HR_OUTCOME_WHY_MAX;
    *word = (struct hr_outcome_word){.outcome = (uint8_t)outcome,
                                     .why_at = (uint32_t)self->whys.size,
                                     .why_size = (uint32_t)why.size,
                                     .after_ms = after_ms};
    if (why.size > 0) {
        hr_buffer_add_slice(&self->whys, why);
    }
}

size_t hr_outcomes_exceptions(hr_outcomes *self, uint32_t count) {
    size_t found = 0;
    for (uint32_t i = 0; found < self->said && i < count; i++) {
        const struct hr_outcome_word *word = &self->words[i];
        if (word->outcome != HR_OUTCOME_OK) {
            self->exceptions[found++] = (hr_exception){
                .index = (uint16_t)i,
                .outcome = word->outcome,
                .after_ms = word->after_ms,
                .why = word->why_size == 0
                           ? (hr_slice){0}
                           : hr_slice_of(self->whys.bytes + word->why_at, word->why_size)};
        }
    }
    return found;
}

void hr_outcomes_fini(hr_outcomes *self) {
    hr_free(self->words);
    hr_free(self->exceptions);
    hr_buffer_fini(&self->whys);
    *self = (hr_outcomes){0};
}
