/* SPDX-License-Identifier: Apache-2.0 */
/* A private mosquitto and a publisher of thermometers, for the demo.
 *
 * Life:  start -> (publish) -> stop
 * Rule:  the mosquitto dies with this process, however that ends (parent-death signal). */
#ifndef HR_APP_DEMO_MQTT_H
#define HR_APP_DEMO_MQTT_H

#include "core/error.h"

typedef struct hr_demo_mqtt hr_demo_mqtt;

/* Starts mosquitto on a free port of 127.0.0.1 with its configuration in folder dir, and returns
 * when it takes connections. program: a file, NULL: the one of PATH, /usr/sbin or /usr/local/sbin.
 * Errors: HR_E_IO with the reason in a few words; *out_mqtt is NULL then.  Thread: main, before
 * there are others: the mosquitto dies with the thread that started it. */
hr_code hr_demo_mqtt_start(const char *program, const char *dir, hr_demo_mqtt **out_mqtt,
                           hr_error *err);

int hr_demo_mqtt_port(const hr_demo_mqtt *mqtt);

/* Five readings a second from now on, by a thread, QoS 1. */
void hr_demo_mqtt_publish(hr_demo_mqtt *mqtt);

/* Ends the publisher and the mosquitto and waits for both. NULL is fine. */
void hr_demo_mqtt_stop(hr_demo_mqtt *take_mqtt);

#endif
