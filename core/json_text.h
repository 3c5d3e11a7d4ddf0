/* SPDX-License-Identifier: Apache-2.0 */
/* JSON that is written or passed on without building a tree. */
#ifndef HR_CORE_JSON_TEXT_H
#define HR_CORE_JSON_TEXT_H

#include "core/buffer.h"

struct json_t; /* jansson's */
struct json_error_t;

/* Appends a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD.  Thread: any. */
void hr_json_add_text(hr_buffer *out, hr_slice text);

/* Appends valid JSON without the white space between its parts: one line, same numbers and order.
 * Thread: any. */
void hr_json_add_compact(hr_buffer *out, hr_slice valid_json);

/* json_loadb() of jansson for foreign bytes: also refuses a zero byte, which that one passes over
 * behind a number. NULL: why is in *out_wrong (may be NULL). Freed by json_decref().  Thread: any.
 */
struct json_t *hr_json_load(hr_slice json, size_t flags, struct json_error_t *out_wrong);

/* Is it one JSON value (RFC 8259)? Numbers beyond a double are refused.  Thread: any. */
bool hr_json_is_valid(hr_slice json);

/* The text of member name of a valid JSON object as it stands there; the last of several. Empty:
 * not there under this spelling.  Thread: any. */
hr_slice hr_json_raw_member(hr_slice valid_object, const char *name);

#endif
