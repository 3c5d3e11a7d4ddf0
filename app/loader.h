/* SPDX-License-Identifier: Apache-2.0 */
/* The libraries that a configuration needs, loaded by a thread of its own while the store opens:
 * the one keeps a processor busy, the other waits for its disk. */
#ifndef HR_APP_LOADER_H
#define HR_APP_LOADER_H

#include "core/error.h"
#include "core/node.h"

#include <stdbool.h>

/* Loads what a trigger or function of this kind needs; for hr_config_options.
 * Errors: HR_E_UNSUPPORTED.  Thread: any. */
hr_code hr_loader_load(void *data, const hr_node *kind_config, bool is_function, hr_error *err);

/* Notes it for hr_loader_start(), for hr_config_options, too: HR_OK. kind_config must live until
 * hr_loader_wait().  Thread: loop. */
hr_code hr_loader_note(void *data, const hr_node *kind_config, bool is_function, hr_error *err);

/* Begins to load what was noted, if anything.  Thread: loop. */
void hr_loader_start(void);

/* Waits until it is loaded.  Errors: as hr_loader_load(), of the first that is missing; HR_OK when
 * nothing was begun.  Thread: loop. */
hr_code hr_loader_wait(hr_error *err);

#endif
