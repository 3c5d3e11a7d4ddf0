/* SPDX-License-Identifier: Apache-2.0 */
#include "functions/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const hr_runtime_ops *const kinds[] = {&hr_python_ops,    &hr_exec_ops,   &hr_shell_ops,
                                              &hr_http_ops,      &hr_notify_ops, &hr_native_ops,
                                              &hr_kafka_sink_ops};

const hr_runtime_ops *hr_runtime_kind(const char *kind) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i]->kind, kind) == 0) {
            return kinds[i];
        }
    }
    return NULL;
}

const char *hr_workers_dir(void) {
    static char path[4200];
    const char *given = getenv("HEADRACE_WORKERS");
    if (given != NULL) {
        return given;
    }
    char self[4096];
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = NULL;
    if (size > 0) {
        self[size] = '\0';
        slash = strrchr(self, '/');
    }
    if (slash != NULL) {
        *slash = '\0';
        snprintf(path, sizeof path, "%s/../share/headrace/workers", self);
        if (access(path, R_OK) == 0) {
            return path;
        }
    }
    return HEADRACE_WORKERS_DIR;
}
