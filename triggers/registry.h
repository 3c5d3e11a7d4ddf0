/* SPDX-License-Identifier: Apache-2.0 */
/* The table of every trigger kind, one constant each. hr_trigger_kind() of broker/trigger.h looks
 * among them; a new kind is a line here and one in registry.c. */
#ifndef HR_TRIGGERS_REGISTRY_H
#define HR_TRIGGERS_REGISTRY_H

#include "broker/trigger.h"

extern const hr_trigger_ops hr_cron_ops;
extern const hr_trigger_ops hr_demo_ops;
extern const hr_trigger_ops hr_kafka_ops;
extern const hr_trigger_ops hr_mqtt_ops;
extern const hr_trigger_ops hr_storage_ops;
extern const hr_trigger_ops hr_webhook_ops;

#endif
