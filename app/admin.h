/* SPDX-License-Identifier: Apache-2.0 */
/* The read-only HTTP side for scrapers and supervisors: /livez, /readyz and /metrics (Prometheus
 * text exposition 0.0.4), at settings.admin when the configuration names it. Beyond loopback with
 * the bearer token of settings.admin_token only.  Thread: loop. */
#ifndef HR_APP_ADMIN_H
#define HR_APP_ADMIN_H

#include "app/engine.h"

typedef struct hr_admin hr_admin;

/* *out_admin is NULL, and all is well, when settings.admin was not written.
 * Errors: HR_E_IO: the port is in use, ... */
hr_code hr_admin_open(hr_loop *loop, const hr_node *settings, hr_engine *engine,
                      hr_admin **out_admin, hr_error *err);

/* Before the engine is freed; NULL is fine. */
void hr_admin_close(hr_admin *take_admin);

#endif
