/* SPDX-License-Identifier: Apache-2.0 */
/* Saves what can be saved of a damaged state into a new one; the damaged one is only read. */
#ifndef HR_BROKER_RECOVER_H
#define HR_BROKER_RECOVER_H

#include "core/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Who is told; texts are borrowed for the call. */
typedef struct hr_recovery {
    void *data;
    void (*table)(void *data, const char *name, uint64_t saved);
    /* is_loss: something is gone; else it was found damaged and nothing is. */
    void (*line)(void *data, bool is_loss, const char *text);
} hr_recovery;

/* Events of the journal, parked ones, dead letters, checkpoints, feeds, functions, fires, dedupe
 * ids. A checkpoint that cannot be trusted means redelivery, never a skip. Blocks.
 * Errors: HR_E_STORE_LOCKED (a daemon runs), HR_E_EXISTS (to holds a state), HR_E_STORE_CORRUPT
 * (nothing can be saved), HR_E_STORE_IO. */
hr_code hr_store_recover(const char *from, const char *to, const hr_recovery *told, hr_error *err);

#endif
