/* SPDX-License-Identifier: Apache-2.0 */
/* The set of paths as a tree of steps, for json_*.c alone. */
#ifndef HR_STREAMS_JSON_PRIV_H
#define HR_STREAMS_JSON_PRIV_H

#include "streams/json_scan.h"

typedef struct hr_json_step {
    char *label; /* owned; NULL when is_index */
    size_t label_size;
    uint32_t index;
    bool is_index;
    int child, sibling; /* indexes in paths->step, -1: none */
    int slot;           /* of the path that ends here, -1: none */
    uint64_t seen;      /* generation that took this label */
} hr_json_step;

struct hr_json_paths {
    hr_json_step *step; /* step[0] is "$" */
    int step_count, slot_count;
    uint64_t generation; /* of the scan */
};

/* Four hex digits at at, -1: they are none. */
int hr_json_hex4(const uint8_t *at);

#endif
