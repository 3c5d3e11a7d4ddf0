/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/registry.h"

#include <string.h>

static const hr_trigger_ops *const kinds[] = {&hr_cron_ops, &hr_demo_ops,    &hr_kafka_ops,
                                              &hr_mqtt_ops, &hr_storage_ops, &hr_webhook_ops};

const hr_trigger_ops *hr_trigger_kind(const char *kind) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i]->kind, kind) == 0) {
            return kinds[i];
        }
    }
    return NULL;
}
