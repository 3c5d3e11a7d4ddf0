/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the process: loop, engine, control socket, signals. */
#ifndef HR_APP_DAEMON_H
#define HR_APP_DAEMON_H

#include "app/config.h"
#include "app/engine.h"
#include "core/buffer.h"

typedef struct hr_daemon hr_daemon;

typedef struct hr_daemon_options {
    const hr_config *config;
    const char *const *paths; /* where a reload reads it again; NULL: no reload */
    size_t path_count;
    const char *state_dir;
    uint32_t grace_ms;                              /* for running calls at the end */
    uint64_t run_ms;                                /* end by itself after so long; 0: never */
    hr_tap *tap;                                    /* sees every note; NULL: nobody */
    void (*started)(void *data, hr_engine *engine); /* NULL: nobody asks */
    /* Before the store is closed: the last totals ({"sum", "functions", "triggers"}); NULL: nobody
     * asks. */
    void (*totals)(void *data, const json_t *totals);
    void *data;
} hr_daemon_options;

/* Runs until SIGTERM, SIGINT or run_ms. Returns when all is closed.
 * Errors: each one clear line in err, or in the log already when err->text is empty; HR_OK after a
 * graceful stop. */
hr_code hr_daemon_run(const hr_daemon_options *options, hr_error *err);

/* Prints why hr_daemon_run() failed and what to do about it, on stderr. */
void hr_daemon_tell(const hr_error *err);

/* hr_config_load with the expressions compiled by streams/sql, as `run` will. What is wrong is
 * appended to out_said (json: as JSON). NULL: there were errors. */
hr_config *hr_daemon_read(const char *const *paths, size_t count, bool json, hr_buffer *out_said);

/* The same; what is wrong is printed to stderr (json: to stdout). */
hr_config *hr_daemon_load(const char *const *paths, size_t count, bool json);

/* The same for hr_daemon_run(), which loads the libraries: it fails with HR_E_UNSUPPORTED when one
 * is missing, and hr_daemon_load() tells that with its place. */
hr_config *hr_daemon_load_to_run(const char *const *paths, size_t count);

#endif
