/* SPDX-License-Identifier: Apache-2.0 */
/* What happened to the newest events, in memory and bounded: for `trace`, `tap` and `status`.
 * Thread: loop. */
#ifndef HR_APP_HISTORY_H
#define HR_APP_HISTORY_H

#include "broker/dispatch.h"

#include <jansson.h>

enum { HR_HISTORY_NOTES = 65536 };

typedef struct hr_history hr_history;

/* Names a feed or function id, for text; NULL: unknown. */
typedef struct hr_names {
    const char *(*feed)(void *data, uint32_t feed); /* trigger or function it belongs to */
    const char *(*function)(void *data, uint32_t function);
    void *data;
} hr_names;

hr_history *hr_history_new(const hr_names *names);
void hr_history_free(hr_history *take_history);

/* hr_dispatch_options.note; data is the history. */
uint64_t hr_history_note(void *data, const hr_note *note);

/* Array of notes of one event (oldest first), new reference. Empty when none is remembered. */
json_t *hr_history_trace(const hr_history *history, const char *event_id);

/* Sees every note as JSON until removed; for tap. */
typedef struct hr_tap {
    void (*seen)(struct hr_tap *self, const json_t *note);
    const char *name; /* only notes of this trigger or function; NULL: all */
    struct hr_tap *next;
} hr_tap;
void hr_history_tap(hr_history *history, hr_tap *tap);
void hr_history_untap(hr_history *history, hr_tap *tap);

/* Sums for status: the last time something came to a feed (real us, 0: never), and quantiles of the
 * attempts of a function in nanoseconds (0: none). */
int64_t hr_history_last_us(const hr_history *history, uint32_t feed);
uint64_t hr_history_quantile_ns(const hr_history *history, uint32_t function, double quantile);

#endif
