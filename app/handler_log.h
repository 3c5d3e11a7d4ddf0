/* SPDX-License-Identifier: Apache-2.0 */
/* What handlers printed: the newest lines in memory, all of them in rotated JSON-lines files, for
 * `logs`, `trace` and dead letters.  Thread: loop. */
#ifndef HR_APP_HANDLER_LOG_H
#define HR_APP_HANDLER_LOG_H

#include "core/buffer.h"

#include <jansson.h>

enum { HR_HANDLER_LINES = 8192 }; /* in memory */

typedef struct hr_handler_log hr_handler_log;

/* dir: NULL: lines are kept in memory only. max_bytes: of all files together. */
hr_handler_log *hr_handler_log_new(const char *dir, uint64_t max_bytes);
void hr_handler_log_free(hr_handler_log *take_log);

/* A line a handler printed; level: 0 debug to 3 error. */
void hr_handler_log_add(hr_handler_log *log, const char *function, hr_slice event_id, int attempt,
                        int level, hr_slice text, int64_t real_us);

/* The lines of one event in memory, oldest first, '\n' separated, appended to out (at most max). */
void hr_handler_log_of(const hr_handler_log *log, const char *function, hr_slice event_id,
                       size_t max, hr_buffer *out);

/* Lines from memory and files that match (NULL: any), newest max, new reference. */
json_t *hr_handler_log_find(const hr_handler_log *log, const char *function, const char *event_id,
                            size_t max);

#endif
