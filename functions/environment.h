/* SPDX-License-Identifier: Apache-2.0 */
/* The environment and pipes of a program that handles events: PATH HOME LANG TZ and what `env:`
 * says, nothing else. */
#ifndef HR_FUNCTIONS_ENVIRONMENT_H
#define HR_FUNCTIONS_ENVIRONMENT_H

#include "broker/runtime.h"

/* A growing list of strings that ends with NULL. Zeroed is ready. */
typedef struct hr_strings {
    char **text;
    size_t count;
} hr_strings;

void hr_strings_add(hr_strings *strings, char *take_text);
void hr_strings_fini(hr_strings *strings);

/* The base environment of a function. */
void hr_environment(hr_strings *out, const hr_runtime *runtime);

/* A line-wise reader of a program's output: fd is non-blocking and owned. each gets lines without
 * their end, longer ones in pieces of 4 KiB; ended() comes once at the end of file. */
typedef struct hr_lines hr_lines;
hr_lines *hr_lines_new(hr_loop *loop, int fd, void (*each)(void *data, hr_slice line), void *data);
void hr_lines_drain(hr_lines *lines); /* reads what is there now, and a last line without end */
void hr_lines_free(hr_lines *take_lines);

/* A pipe: out[0] ours, non-blocking, out[1] the child's; reversed when we write. Both close on
 * exec. Errors: HR_E_IO. */
hr_code hr_pipe(int out[2], bool we_read, hr_error *err);

#endif
