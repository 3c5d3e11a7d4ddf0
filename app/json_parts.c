/* SPDX-License-Identifier: Apache-2.0 */
#include "app/json_parts.h"

#include "core/time_text.h"

json_t *hr_text_json(hr_slice text) {
    const char *bytes = text.size == 0 ? "" : (const char *)text.bytes; /* NULL is no text to it */
    json_t *json = json_stringn(bytes, text.size);
    return json == NULL ? json_string("(not UTF-8)") : json;
}

json_t *hr_time_json(int64_t us) {
    char stamp[HR_TIME_TEXT];
    hr_time_print(us, stamp);
    return json_string(stamp);
}

json_t *hr_count_json(uint64_t count) {
    return json_integer((json_int_t)count);
}
