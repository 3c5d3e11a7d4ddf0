/* SPDX-License-Identifier: Apache-2.0 */
/* Values of ours as JSON, new references.  Thread: any. */
#ifndef HR_APP_JSON_PARTS_H
#define HR_APP_JSON_PARTS_H

#include "core/slice.h"

#include <jansson.h>

json_t *hr_text_json(hr_slice text); /* "(not UTF-8)" when it is not */
json_t *hr_time_json(int64_t us);    /* since 1970, as hr_time_print */
json_t *hr_count_json(uint64_t count);

#endif
