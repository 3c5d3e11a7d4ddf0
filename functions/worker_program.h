/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker of `python:` or `exec:` is started with. */
#ifndef HR_FUNCTIONS_WORKER_PROGRAM_H
#define HR_FUNCTIONS_WORKER_PROGRAM_H

#include "functions/environment.h"

/* Adds its words and its whole environment. Relative paths begin in runtime->config_dir, where it
 * is started. A python handler's interpreter is `interpreter:`, or the .venv beside the file, or
 * that beside the configuration, or python3; which of them is there is looked up at each call. */
void hr_worker_program(const hr_runtime *runtime, hr_strings *argv, hr_strings *env);

#endif
