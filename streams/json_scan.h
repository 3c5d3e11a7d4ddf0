/* SPDX-License-Identifier: Apache-2.0 */
/* Values at chosen paths of a JSON document, found in one validating pass that builds no tree.
 *
 * Life:  hr_json_paths_new -> hr_json_paths_add* -> hr_json_scan* -> hr_json_paths_free
 * Rule:  the whole document is checked (RFC 8259, UTF-8, at most HR_JSON_DEPTH levels): of a
 * document with a fault anywhere nothing is found. Of a key that stands twice the first one counts.
 * Owned by one thread. */
#ifndef HR_STREAMS_JSON_SCAN_H
#define HR_STREAMS_JSON_SCAN_H

#include "core/buffer.h"
#include "core/error.h"
#include "core/slice.h"

enum {
    HR_JSON_DEPTH = 64,     /* levels of objects and arrays */
    HR_JSON_PATHS_MAX = 64, /* paths of one set */
    HR_JSON_PATH_STEPS = 64 /* steps of one path */
};

typedef enum hr_json_kind {
    HR_JSON_ABSENT,
    HR_JSON_NULL,
    HR_JSON_FALSE,
    HR_JSON_TRUE,
    HR_JSON_INTEGER,
    HR_JSON_REAL,
    HR_JSON_TEXT,
    HR_JSON_ARRAY,
    HR_JSON_OBJECT
} hr_json_kind;

typedef struct hr_json_value {
    hr_json_kind kind;
    bool has_escapes; /* TEXT: hr_json_unescape is needed */
    hr_slice raw;     /* as written, borrowed from the document; TEXT: without its quotes */
} hr_json_value;

typedef struct hr_json_paths hr_json_paths;

/* An empty set. */
hr_json_paths *hr_json_paths_new(void);
void hr_json_paths_free(hr_json_paths *take_paths);

/* Adds a path: "$", then .label, ."any label", [N] in any number. *out_slot is the place of its
 * value in hr_json_scan; the same path again gives the same slot. Errors: HR_E_EXPRESSION with what
 * is wrong with the path; *out_offset is where in path. */
hr_code hr_json_paths_add(hr_json_paths *paths, hr_slice path, int *out_slot, int *out_offset,
                          hr_error *err);

/* The slot of a path that stands in the set, -1: none. */
int hr_json_paths_find(const hr_json_paths *paths, hr_slice path);

/* How many slots the set has. */
int hr_json_paths_count(const hr_json_paths *paths);

/* Reads one document; fills one value a slot. false: not well-formed, then all are ABSENT. */
bool hr_json_scan(hr_json_paths *paths, hr_slice document, hr_json_value *out_values);

/* The number of an INTEGER or REAL. true: *out_integer was set; false: *out_real (REAL, and an
 * INTEGER that does not fit in 64 bits). */
bool hr_json_number(const hr_json_value *value, int64_t *out_integer, double *out_real);

/* Appends the characters of a TEXT to out. A lone surrogate becomes U+FFFD. */
void hr_json_unescape(const hr_json_value *value, hr_buffer *out);

#endif
