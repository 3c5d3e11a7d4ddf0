/* SPDX-License-Identifier: Apache-2.0 */
/* The bounded window of ids a push trigger has seen: a time or a count, whichever is smaller (S16).
 *
 * An id is kept as the 128-bit xxh3 of source and id. Two different ids of one window share a hash
 * with a chance below n^2 / 2^129 (10^-27 for a million), which stands for comparing them whole. */
#ifndef HR_BROKER_DEDUPE_H
#define HR_BROKER_DEDUPE_H

#include "core/slice.h"

typedef struct hr_dedupe hr_dedupe;

typedef struct hr_seen {
    uint64_t low, high; /* never both 0 */
} hr_seen;

/* A window of at most max ids and window_ms. */
hr_dedupe *hr_dedupe_new(uint32_t max, int64_t window_ms);
void hr_dedupe_free(hr_dedupe *take_dedupe);

/* The hash of (source, id). */
hr_seen hr_seen_of(hr_slice source, hr_slice id);

/* Forgets what is too old, then adds. false: it was there already (and stays as old as it is). */
bool hr_dedupe_add(hr_dedupe *dedupe, hr_seen seen, int64_t now_ms);

/* Takes back an add (its commit failed). */
void hr_dedupe_remove(hr_dedupe *dedupe, hr_seen seen);

/* The time (real, ms) to store ids under that are added next: real_ms, or that of an earlier call
 * where the clock went back, so that what is stored ascends. */
int64_t hr_dedupe_stamp(hr_dedupe *dedupe, int64_t real_ms);

/* Adds the ids of one stored row: hr_seen packed, stored under that time. Rows come oldest first.
 */
void hr_dedupe_load(hr_dedupe *dedupe, int64_t stored_ms, hr_slice packed);

/* All that was stored under an earlier time than this has left the window and may be deleted.
 * 0: nothing that was not told before. It moves by about a thousand ids. */
int64_t hr_dedupe_left_ms(hr_dedupe *dedupe);

/* How many ids it holds, and how many left early because of max. */
uint32_t hr_dedupe_count(const hr_dedupe *dedupe);
uint64_t hr_dedupe_evicted(const hr_dedupe *dedupe);

#endif
