/* SPDX-License-Identifier: Apache-2.0 */
/* Asks headrace-spawn, the small process that starts all others: fork from the daemon would cost
 * with its size (17 ms at 512 MiB against 0.3 ms). It runs since the first program.
 *
 * Life:  hr_spawner_start -> (hr_spawn, hr_spawn_kill)* -> hr_spawner_stop
 * Thread: loop. One spawner a process. Programs die with the daemon. */
#ifndef HR_FUNCTIONS_SPAWN_H
#define HR_FUNCTIONS_SPAWN_H

#include "core/error.h"
#include "core/loop.h"

/* Looks for the spawner: beside this program, or where HEADRACE_SPAWN says. Errors: HR_E_IO. */
hr_code hr_spawner_start(hr_loop *loop, hr_error *err);

/* Ends the spawner and with it every program it started. No callback comes after. */
void hr_spawner_stop(void);

typedef struct hr_spawn_request {
    const char *const *argv; /* ends with NULL; argv[0] is looked for in PATH */
    const char *const *env;  /* "NAME=VALUE", ends with NULL: the whole environment */
    const char *cwd;
    int fds[4]; /* stdin, stdout, stderr, worker (3 in the child); -1: /dev/null (worker: none).
                   Taken: closed here in any case */
    void (*started)(void *data, int pid, int error); /* error: errno of exec, pid then 0; and no
                                                        exited() follows */
    void (*exited)(void *data, int status);          /* as waitpid() gives it */
    void *data;
} hr_spawn_request;

/* Asks to run a program; returns its handle for hr_spawn_kill(). */
uint64_t hr_spawn(const hr_spawn_request *request);

/* SIGKILL to the program and all it started; exited() still comes. Unknown handles are fine. */
void hr_spawn_kill(uint64_t handle);

/* Forgets the callbacks of a handle and kills it. */
void hr_spawn_forget(uint64_t handle);

/* "exit status 3", "killed by signal 9 (Killed)" into text. */
const char *hr_spawn_status_text(int status, char *text, int size);

#endif
