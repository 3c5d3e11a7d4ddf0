/* SPDX-License-Identifier: Apache-2.0 */
/* The trigger kind "cron": one event for each instant of an expression.
 *
 * Event: id "<trigger>/<instant>" (2026-03-29T01:00:00Z), source "headrace/cron/<trigger>", type
 * "headrace.cron.tick", subject and partition key the trigger's name, time the instant. data is
 * JSON: exactly the configured `data`; without one {"scheduled": instant, "local": wall time with
 * offset, "zone": name}.
 *
 * The store's part (S20), in the transaction that holds an offer: last_fire =
 * hr_cron_last_fire(self, ticket). At start: hr_cron_last_fire(self, 0), the base from which ticks
 * count, so that a first tick missed while down is seen. When expression or zone were edited, start
 * with kept_us INT64_MIN. */
#ifndef HR_TRIGGERS_CRON_H
#define HR_TRIGGERS_CRON_H

#include "broker/trigger.h"

extern const hr_trigger_ops hr_cron_ops;

/* The instant up to which ticks need not come again once the offer with this ticket is durable;
 * ticket 0 (or one that is durable already): up to now. Valid from start(), and from within
 * host->offer().  Thread: loop. */
int64_t hr_cron_last_fire(const hr_trigger *self, uint64_t ticket);

/* The next instant, for `status`; INT64_MAX: none. Valid after init.  Thread: loop. */
int64_t hr_cron_next_fire(const hr_trigger *self);

#endif
