/* SPDX-License-Identifier: Apache-2.0 */
/* The table of every function kind, one constant each; hr_runtime_kind() of broker/runtime.h looks
 * among them. */
#ifndef HR_FUNCTIONS_REGISTRY_H
#define HR_FUNCTIONS_REGISTRY_H

#include "broker/runtime.h"

extern const hr_runtime_ops hr_python_ops, hr_exec_ops, hr_shell_ops, hr_http_ops, hr_notify_ops,
    hr_native_ops, hr_kafka_sink_ops;

/* The folder of worker.py and headrace.py: HEADRACE_WORKERS, ../share/headrace/workers beside the
 * program, or where it was built. */
const char *hr_workers_dir(void);

#endif
