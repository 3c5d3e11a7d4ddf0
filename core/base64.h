/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 of RFC 4648, with padding. */
#ifndef HR_CORE_BASE64_H
#define HR_CORE_BASE64_H

#include "core/buffer.h"

/* Appends the base64 of bytes to out.  Thread: any. */
void hr_base64_add(hr_buffer *out, hr_slice bytes);

/* Appends what text stands for. false (out unchanged): not base64, wrong padding or characters.
 * Thread: any. */
bool hr_base64_read(hr_slice text, hr_buffer *out);

#endif
