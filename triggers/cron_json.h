/* SPDX-License-Identifier: Apache-2.0 */
/* A value of the configuration as JSON, by the rules of the YAML 1.2 core schema. */
#ifndef HR_TRIGGERS_CRON_JSON_H
#define HR_TRIGGERS_CRON_JSON_H

#include "core/buffer.h"
#include "core/node.h"

/* Appends node to out: maps and lists as such; plain scalars as null, boolean or number where they
 * look like one, all others (and every quoted one) as strings.  Thread: any. */
void hr_cron_print_json(const hr_node *node, hr_buffer *out);

#endif
