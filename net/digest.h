/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256, and comparisons that do not tell by their time where two texts differ, for signatures
 * and tokens. By GnuTLS, which the HTTP server brings along anyway; it is loaded by the first call,
 * and a process in which it is missing ends with one line (hr_give_up). Thread: any. */
#ifndef HR_NET_DIGEST_H
#define HR_NET_DIGEST_H

#include "core/error.h"
#include "core/slice.h"

#include <stdbool.h>

enum { HR_DIGEST = 32 };

/* Loads GnuTLS now: a missing one is told before anything starts. Errors: HR_E_UNSUPPORTED. */
hr_code hr_digest_load(hr_error *err);

void hr_digest_sha256(hr_slice bytes, uint8_t out[HR_DIGEST]);
void hr_digest_hmac_sha256(hr_slice key, hr_slice bytes, uint8_t out[HR_DIGEST]);

/* Are these bytes the same? Takes as long when they are not. */
bool hr_digest_equal(const void *a, const void *b, size_t size);

#endif
