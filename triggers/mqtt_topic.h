/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT topic filters as the configuration writes them: +name keeps that level as an attribute. */
#ifndef HR_TRIGGERS_MQTT_TOPIC_H
#define HR_TRIGGERS_MQTT_TOPIC_H

#include "core/error.h"
#include "core/slice.h"

enum { HR_MQTT_LEVELS = 32 }; /* named levels of one filter */

/* A level of a topic that a filter names; slices borrow from filter and topic. */
typedef struct hr_mqtt_level {
    hr_slice name, value;
} hr_mqtt_level;

typedef struct hr_mqtt_filter {
    char *text;   /* as written */
    char *wire;   /* as the broker knows it: +name is + */
    size_t start; /* in text: after $share/GROUP/ */
    bool has_wildcard;
} hr_mqtt_filter;

/* Reads a filter. Errors: HR_E_CONFIG with the level that is wrong; nothing to free then. */
hr_code hr_mqtt_filter_init(hr_mqtt_filter *filter, const char *text, hr_error *err);

/* Does the topic match? Then also its named levels, in order. */
bool hr_mqtt_filter_match(const hr_mqtt_filter *filter, hr_slice topic,
                          hr_mqtt_level out_levels[HR_MQTT_LEVELS], size_t *out_count);

/* Zeroed is allowed. */
void hr_mqtt_filter_fini(hr_mqtt_filter *filter);

#endif
