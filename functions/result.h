/* SPDX-License-Identifier: Apache-2.0 */
/* What a handler returned, as the event that other functions take (`from: FUNCTION`). */
#ifndef HR_FUNCTIONS_RESULT_H
#define HR_FUNCTIONS_RESULT_H

#include "broker/runtime.h"

enum { HR_RESULT_MAX = 1 << 20, HR_RESULTS_MAX = HR_BATCH_MAX }; /* bytes of one; of one call */

/* Results of one call as they are collected. Zeroed is ready. */
typedef struct hr_results {
    hr_builder builder;
    uint16_t causes[HR_RESULTS_MAX];
    uint32_t of_cause; /* results the newest cause has so far */
} hr_results;

typedef struct hr_result {
    uint16_t cause;                 /* index of the event in the call; ascending over the adds */
    hr_slice type;                  /* empty: "<function>.result" */
    hr_slice content_type, subject; /* empty: JSON when is_json, else text or bytes; the cause's */
    hr_slice data;
    bool is_json, is_text;
} hr_result;

/* Adds a result: id = input id / function / n (/ r and the replay), the same whenever the call is
 * repeated (S13); key and subject are inherited; the depth of the chain is counted. A result that
 * nobody takes is kept without its data: it is only counted.
 * Errors: HR_E_TOO_LARGE, HR_E_INVALID, HR_E_MALFORMED; nothing is added then. */
hr_code hr_result_add(hr_results *results, const hr_runtime *runtime, const hr_call *call,
                      const hr_result *result, hr_error *err);

/* The batch for hr_answer.take_results, NULL when there are none; frees the rest. */
hr_batch *hr_results_finish(hr_results *results);

#endif
