/* SPDX-License-Identifier: Apache-2.0 */
/* State shared by daemon.c and daemon_reload.c; for nobody else. */
#ifndef HR_APP_DAEMON_PRIV_H
#define HR_APP_DAEMON_PRIV_H

#include "app/admin.h"
#include "app/control.h"
#include "app/daemon.h"

/* Where a reload stands. The engine that runs serves until it has drained. */
typedef enum hr_reload_state {
    HR_RELOAD_NONE,
    HR_RELOAD_DRAINING, /* the former engine finishes what runs */
    HR_RELOAD_UNDOING   /* the new one did not start: it ends, the former configuration follows */
} hr_reload_state;

struct hr_daemon {
    const hr_daemon_options *options;
    const hr_config *config; /* what runs */
    hr_config *reload_owned; /* the same once it came by a reload */
    hr_loop *loop;
    hr_engine *engine;
    hr_control *control;
    hr_admin *admin;
    hr_timer *run_for;
    bool is_stopping, has_failed;
    hr_reload_state reload;
    hr_config *next; /* owned; DRAINING */
    hr_timer *swap;  /* out of the engine's own callback */
    hr_listener listener;
    hr_request *asked; /* who waits for the reload; NULL: a signal asked */
    char why[HR_ERROR_TEXT_BYTES + 64];
};

/* daemon.c */
hr_code hr_daemon_start_engine(hr_daemon *d, const hr_config *config, hr_error *err);
uint32_t hr_daemon_grace_ms(const hr_daemon *d);
void hr_daemon_drained(hr_daemon *d); /* after a stop asked for: ends the loop */

/* daemon_reload.c */

/* Reads the files again. What is wrong is said and nothing changes; else the engine drains, ends,
 * and one of the new configuration follows on the same store and the same listening socket. When
 * that one cannot start, the former configuration runs again. request: NULL: nobody waits. */
void hr_daemon_reload(hr_daemon *d, hr_request *request);
void hr_daemon_reload_fini(hr_daemon *d);

#endif
