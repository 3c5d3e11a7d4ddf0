/* SPDX-License-Identifier: Apache-2.0 */
/* Is it JSON? Without a tree, for the way of every record. */
#ifndef HR_TRIGGERS_JSON_FORM_H
#define HR_TRIGGERS_JSON_FORM_H

#include "core/slice.h"

enum { HR_JSON_DEPTH_MAX = 256 };

/* One well-formed value (RFC 8259) in UTF-8, nested at most so deep. Values are not looked at: a
 * number may be beyond a double, \u may be half a surrogate pair.  Thread: any. */
bool hr_json_is_formed(hr_slice json);

#endif
