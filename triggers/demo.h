/* SPDX-License-Identifier: Apache-2.0 */
/* The trigger "demo": a built-in generator, so that the first look at headrace needs no service.
 *
 * thermometers: one of 20 devices at sites a and b tells its temperature, JSON data, type
 *   demo.temperature, subject site/a/device/t-17/temp, attributes site and device, key: the device.
 * uploads: an object landed in a bucket, JSON data, type demo.upload, subject and key: its name.
 * Ids are <trigger>-<random of the start>-<number>. Late events are caught up for a second. */
#ifndef HR_TRIGGERS_DEMO_H
#define HR_TRIGGERS_DEMO_H

#include "broker/trigger.h"

extern const hr_trigger_ops hr_demo_ops;

enum { HR_DEMO_DEVICES = 20, HR_DEMO_TEXT = 64 };

/* Thermometers whose temperatures walk between 15 and 35 degrees; a plain value. */
typedef struct hr_thermometers {
    uint64_t chance; /* state of the generator, not 0 */
    int32_t tenths[HR_DEMO_DEVICES];
} hr_thermometers;

/* The next reading of one of them. */
typedef struct hr_thermometer_reading {
    char site[2], device[HR_DEMO_TEXT / 4];
    char subject[HR_DEMO_TEXT];  /* site/a/device/t-17/temp, an MQTT topic as well */
    char data[2 * HR_DEMO_TEXT]; /* {"device":"t-17","site":"a","celsius":21.4} */
} hr_thermometer_reading;

/* Three of the devices begin hot (above 28), the others below.  Thread: any. */
void hr_thermometers_init(hr_thermometers *it, uint64_t seed);
void hr_thermometers_read(hr_thermometers *it, hr_thermometer_reading *out);

#endif
