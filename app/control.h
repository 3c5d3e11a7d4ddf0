/* SPDX-License-Identifier: Apache-2.0 */
/* The CLI's way into the daemon: one JSON object a line over a Unix socket (0600, peer checked).
 * A request has "verb"; answers are one line, those of "tap" one line an event until the CLI goes.
 */
#ifndef HR_APP_CONTROL_H
#define HR_APP_CONTROL_H

#include "app/engine.h"

typedef struct hr_control hr_control;

enum { HR_CONTROL_LINE = 16 << 20, HR_CONTROL_CLIENTS = 64 };

/* What the daemon itself answers ("reload"); as hr_engine_request, once, now or later. */
typedef void hr_control_own(void *data, hr_request *request);

/* Listens on state_dir/headrace.sock. reload: NULL: there is none. Errors: HR_E_IO. Thread: loop.
 */
hr_code hr_control_open(hr_loop *loop, const char *state_dir, hr_engine *engine,
                        hr_control_own *reload, void *data, hr_control **out_control,
                        hr_error *err);

/* From now on requests go to this engine and taps watch it; NULL: to none, they are refused until
 * there is one. Before the former engine is freed. */
void hr_control_serve(hr_control *control, hr_engine *engine);

/* Before the engine is freed: requests that are open are answered to nobody. NULL is fine. */
void hr_control_close(hr_control *take_control);

/* The CLI's end: sends one request and calls each(data, answer) for every line until it returns
 * false or the daemon closes. Blocks. Errors: HR_E_PEER_DOWN when no daemon runs on this state. */
hr_code hr_control_ask(const char *state_dir, const json_t *request,
                       bool (*each)(void *data, const json_t *answer), void *data, hr_error *err);

#endif
