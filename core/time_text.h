/* SPDX-License-Identifier: Apache-2.0 */
/* Instants as RFC 3339 text and back; durations and sizes with their units. Pure. */
#ifndef HR_CORE_TIME_TEXT_H
#define HR_CORE_TIME_TEXT_H

#include "core/slice.h"

enum { HR_TIME_TEXT = 40 }; /* bytes for hr_time_print, terminator included */

/* Writes "2026-03-29T02:30:00.123456Z" (UTC, microseconds) for us since 1970.  Thread: any. */
void hr_time_print(int64_t us, char out[HR_TIME_TEXT]);

/* Reads RFC 3339 (any offset, any fraction; cut to microseconds). false: not such a text. */
bool hr_time_parse(hr_slice text, int64_t *out_us);

/* "250ms" "30s" "15m" "6h" "7d" and sums such as "1h30m" to milliseconds; "none" is not accepted
 * here. false: not such a text, or over INT64. */
bool hr_duration_parse(hr_slice text, int64_t *out_ms);

/* "512B" "64KiB" "96MiB" "10GiB" "1TiB" (also kB MB GB) to bytes. */
bool hr_size_parse(hr_slice text, int64_t *out_bytes);

#endif
