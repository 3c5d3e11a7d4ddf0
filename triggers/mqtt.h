/* SPDX-License-Identifier: Apache-2.0 */
/* The trigger "mqtt": messages of topics become events; the broker gets its acknowledgement when
 * they are durable (net/mqtt_client.h).
 *
 * Event: id = user property id, else <trigger>-<random of the start>-<number>; type = user property
 * type, else mqtt.message; subject and key: the topic; named levels, qos (as delivered), retained
 * and other user properties are attributes. application/cloudevents+json is taken as the event it
 * holds. */
#ifndef HR_TRIGGERS_MQTT_H
#define HR_TRIGGERS_MQTT_H

#include "broker/trigger.h"

extern const hr_trigger_ops hr_mqtt_ops;

#endif
