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

#endif
