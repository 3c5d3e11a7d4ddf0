/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/retry.h"

#include "core/error.h"

int64_t hr_retry_wait_ms(const hr_retry *policy, uint32_t attempt, uint64_t chance) {
    HR_ASSERT(attempt > 0);
    int64_t ceiling = policy->min_ms;
    for (uint32_t i = 1; i < attempt && ceiling < policy->max_ms; i++) {
        ceiling *= 2;
    }
    if (ceiling > policy->max_ms) {
        ceiling = policy->max_ms;
    }
    if (ceiling <= policy->min_ms) {
        return policy->min_ms < ceiling ? policy->min_ms : ceiling;
    }
    return policy->min_ms + (int64_t)(chance % (uint64_t)(ceiling - policy->min_ms + 1));
}
