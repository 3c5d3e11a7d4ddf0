/* SPDX-License-Identifier: Apache-2.0 */
/* Trigger: notifications of an object store become events. What cannot be read becomes a dead
 * letter and is answered 2xx, since a store sends a refused notification for ever and holds back
 * all later ones. */
#ifndef HR_TRIGGERS_STORAGE_H
#define HR_TRIGGERS_STORAGE_H

#include "broker/trigger.h"

extern const hr_trigger_ops hr_storage_ops;

#endif
