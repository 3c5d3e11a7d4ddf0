/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with a configuration: collected, put in order, printed with the line and a caret.
 *
 * Life:  new -> (file, add)* -> print -> free.  Thread: one. */
#ifndef HR_APP_CONFIG_DIAG_H
#define HR_APP_CONFIG_DIAG_H

#include "core/buffer.h"

enum { HR_DIAGNOSTICS_MAX = 1000 }; /* errors; further ones are counted only */

typedef struct hr_diagnostics hr_diagnostics;
typedef struct hr_diagnostic hr_diagnostic;

hr_diagnostics *hr_diagnostics_new(void);
void hr_diagnostics_free(hr_diagnostics *take_diags);

/* Remembers the text of a file (copied), so that its lines can be shown. */
void hr_diagnostics_file(hr_diagnostics *diags, const char *path, hr_slice text);

/* The text of a file given above; empty: unknown. */
hr_slice hr_diagnostics_text(const hr_diagnostics *diags, const char *path);

/* A place in a file; line 0: the file as a whole; file NULL: nowhere. */
typedef struct hr_place {
    const char *file;
    int line, column, width; /* from 1; width 0: 1 */
} hr_place;

/* Adds an error or a warning at place (strings copied). The result belongs to diags and is valid
 * until free; it may be given a label and notes. Never NULL. */
hr_diagnostic *hr_diagnose(hr_diagnostics *diags, hr_place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
hr_diagnostic *hr_diagnose_warning(hr_diagnostics *diags, hr_place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Words behind the caret ("did you mean "qos"?"). */
void hr_diagnostic_label(hr_diagnostic *diagnostic, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A line below ("= keys: ..."). */
void hr_diagnostic_note(hr_diagnostic *diagnostic, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A second place, with what is there ("first given here"). */
void hr_diagnostic_also(hr_diagnostic *diagnostic, hr_place place, const char *label);

/* How many; warnings do not count as errors. */
size_t hr_diagnostics_errors(const hr_diagnostics *diags);
size_t hr_diagnostics_warnings(const hr_diagnostics *diags);

/* Appends all, in the order of files and lines, as text for people. */
void hr_diagnostics_print(hr_diagnostics *diags, hr_buffer *out);

/* Appends one JSON array of objects {severity, message, file, line, column, width, hint, notes}. */
void hr_diagnostics_print_json(hr_diagnostics *diags, hr_buffer *out);

#endif
