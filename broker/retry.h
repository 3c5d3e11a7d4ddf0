/* SPDX-License-Identifier: Apache-2.0 */
/* When a failed delivery is tried again. Pure: chance and time are handed in. */
#ifndef HR_BROKER_RETRY_H
#define HR_BROKER_RETRY_H

#include <stdbool.h>
#include <stdint.h>

typedef struct hr_retry {
    uint32_t attempts;      /* at most so many; 0: no limit (on_exhausted: block) */
    int64_t min_ms, max_ms; /* full jitter between min_ms and min(max_ms, min_ms * 2^(n-1)) */
    int64_t max_age_ms;     /* since the first attempt; -1: none */
} hr_retry;

/* How long to wait after attempt (from 1) failed. chance: random bits. */
int64_t hr_retry_wait_ms(const hr_retry *policy, uint32_t attempt, uint64_t chance);

#endif
