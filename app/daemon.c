/* SPDX-License-Identifier: Apache-2.0 */
#include "app/daemon.h"

#include "app/daemon_priv.h"
#include "app/loader.h"
#include "core/crash.h"
#include "core/log.h"
#include "core/memory.h"
#include "functions/spawn.h"
#include "streams/sql.h"
#include "triggers/webhook.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { DEFAULT_GRACE_MS = 30000 };

static hr_sql *shared_sql; /* for expressions of dialects and of `check`; loop thread only */

static hr_code compile(const char *text, hr_expression **out, int *out_offset, hr_error *err) {
    int offset = -1;
    return hr_sql_compile(shared_sql, text, out, out_offset == NULL ? &offset : out_offset, err);
}

static const hr_trigger_evaluator evaluator = {
    .compile = compile, .values = hr_expression_values, .free = hr_expression_free};

static hr_code check_expression(void *data, const char *text, int *out_offset, hr_error *err) {
    (void)data;
    hr_expression *expression = NULL;
    hr_code code = hr_sql_compile(shared_sql, text, &expression, out_offset, err);
    if (code == HR_OK) {
        hr_expression_free(expression);
    }
    return code;
}

static void open_sql(void) {
    if (shared_sql == NULL) {
        shared_sql = hr_sql_new();
        hr_trigger_eval = &evaluator;
    }
}

static hr_config *read_config(const char *const *paths, size_t count, bool json,
                              hr_config_load_kind *load_kind, hr_buffer *out_said) {
    open_sql();
    hr_config_options options = {.compile = check_expression, .load_kind = load_kind};
    hr_diagnostics *diags = hr_diagnostics_new();
    hr_config *config = NULL;
    hr_code code = hr_config_load(paths, count, &options, &config, diags);
    if (json) {
        hr_diagnostics_print_json(diags, out_said);
        hr_buffer_print(out_said, "\n");
    } else if (hr_diagnostics_errors(diags) + hr_diagnostics_warnings(diags) > 0) {
        hr_diagnostics_print(diags, out_said);
    }
    hr_diagnostics_free(diags);
    return code == HR_OK ? config : NULL;
}

hr_config *hr_daemon_read(const char *const *paths, size_t count, bool json, hr_buffer *out_said) {
    return read_config(paths, count, json, hr_loader_load, out_said);
}

static hr_config *load(const char *const *paths, size_t count, bool json,
                       hr_config_load_kind *load_kind) {
    hr_buffer said = {0};
    hr_config *config = read_config(paths, count, json, load_kind, &said);
    fprintf(json ? stdout : stderr, "%s", hr_buffer_text(&said));
    hr_buffer_fini(&said);
    return config;
}

hr_config *hr_daemon_load(const char *const *paths, size_t count, bool json) {
    return load(paths, count, json, hr_loader_load);
}

hr_config *hr_daemon_load_to_run(const char *const *paths, size_t count) {
    return load(paths, count, false, hr_loader_note);
}

uint32_t hr_daemon_grace_ms(const hr_daemon *d) {
    return d->options->grace_ms == 0 ? DEFAULT_GRACE_MS : d->options->grace_ms;
}

void hr_daemon_drained(hr_daemon *d) {
    hr_loop_stop(d->loop);
}

static void on_stopped(void *data) {
    HR_CRASH_POINT("stop.drained");
    hr_daemon_drained(data);
}

static void begin_stop(hr_daemon *d) {
    hr_engine_stop(d->engine, hr_daemon_grace_ms(d), on_stopped, d);
}

static void on_totals(void *data, json_t *take_totals) {
    hr_daemon *d = data;
    d->options->totals(d->options->data, take_totals);
    json_decref(take_totals);
    begin_stop(d);
}

static void stop(hr_daemon *d) {
    if (d->is_stopping) {
        return;
    }
    d->is_stopping = true;
    if (d->reload != HR_RELOAD_NONE) {
        return; /* it drains already; nothing follows it */
    }
    if (d->options->totals != NULL) {
        hr_engine_totals(d->engine, on_totals, d);
    } else {
        begin_stop(d);
    }
}

static void on_signal(void *data, int number) {
    hr_daemon *d = data;
    (void)number;
    if (d->is_stopping) {
        _exit(130); /* asked twice: nothing acknowledged is lost by that */
    }
    hr_log(HR_LOG_INFO, "headrace", "stopping: running calls may finish, once more ends at once");
    stop(d);
}

static void on_hang_up(void *data, int number) {
    (void)number;
    hr_daemon_reload(data, NULL);
}

static void on_ask_reload(void *data, hr_request *request) {
    hr_daemon_reload(data, request);
}

static void on_run_for(void *data) {
    stop(data);
}

static void on_failed(void *data) {
    hr_daemon *d = data;
    d->has_failed = true;
    hr_loop_stop(d->loop);
}

hr_code hr_daemon_start_engine(hr_daemon *d, const hr_config *config, hr_error *err) {
    hr_engine_options options = {.loop = d->loop,
                                 .config = hr_config_root(config),
                                 .state_dir = d->options->state_dir,
                                 .listener = &d->listener,
                                 .log_files = true,
                                 .failed = on_failed,
                                 .failed_data = d};
    hr_code code = hr_engine_new(&options, &d->engine, err);
    if (code != HR_OK) {
        d->engine = NULL;
        return code;
    }
    if (d->options->tap != NULL) {
        hr_history_tap(hr_engine_history(d->engine), d->options->tap);
    }
    code = hr_engine_start(d->engine, err);
    if (code == HR_OK) {
        const hr_node *settings = hr_node_get(options.config, "settings");
        code = hr_admin_open(d->loop, settings, d->engine, &d->admin, err);
    }
    if (code == HR_OK) {
        hr_control_serve(d->control, d->engine);
    }
    return code;
}

static hr_code run(hr_daemon *d, hr_error *err) {
    bool can_reload = d->options->paths != NULL;
    d->config = d->options->config;
    d->listener.fd = -1;
    hr_code code = hr_daemon_start_engine(d, d->config, err);
    if (code == HR_OK) {
        code = hr_control_open(d->loop, d->options->state_dir, d->engine,
                               can_reload ? on_ask_reload : NULL, d, &d->control, err);
    }
    if (code != HR_OK) {
        return code;
    }
    if (can_reload) {
        hr_loop_signal(d->loop, SIGHUP, on_hang_up, d);
    }
    hr_loop_signal(d->loop, SIGINT, on_signal, d);
    hr_loop_signal(d->loop, SIGTERM, on_signal, d);
    if (d->options->run_ms > 0) {
        d->run_for = hr_timer_new(d->loop, on_run_for, d);
        hr_timer_start(d->run_for, d->options->run_ms, 0);
    }
    if (d->options->started != NULL) {
        d->options->started(d->options->data, d->engine);
    }
    hr_loop_run(d->loop);
    return d->has_failed ? HR_E_STORE_IO : HR_OK; /* the log has the line */
}

static const char *advice(const hr_error *err) {
    if (err->code == HR_E_STORE_IO || err->code == HR_E_STORE_FULL) {
        return "; nothing acknowledged is lost: mend that and start again";
    }
    if (err->code == HR_E_IO && (err->sys == EMFILE || err->sys == ENFILE)) {
        return "; raise the limit of open files (ulimit -n, LimitNOFILE) and start again";
    }
    if (err->code == HR_E_IO && (err->sys == ENOMEM || err->sys == EAGAIN)) {
        return "; the system has no memory for it: start again";
    }
    return "";
}

void hr_daemon_tell(const hr_error *err) {
    if (err->text[0] != '\0' && err->code != HR_E_STORE_STOPPED) { /* the log has that line */
        fprintf(stderr, "headrace: %s%s\n", err->text, advice(err));
    }
}

/* As many open files as may be: a connection is one. Nothing here uses select(), and workers get a
 * limit of their own. */
static void allow_files(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

hr_code hr_daemon_run(const hr_daemon_options *options, hr_error *err) {
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of write(), not an end */
    allow_files();
    hr_loader_start();
    hr_daemon d = {.options = options};
    d.loop = hr_loop_new();
    open_sql();
    hr_code code = hr_spawner_start(d.loop, err);
    code = code == HR_OK ? run(&d, err) : code;
    hr_control_close(d.control);
    if (code != HR_OK) { /* half started, or the store gave up: nothing to wait for */
        hr_spawner_stop();
        return code;
    }
    hr_engine_free(d.engine);
    hr_admin_close(d.admin); /* after the last answer of the engine */
    hr_daemon_reload_fini(&d);
    hr_spawner_stop();
    hr_timer_free(d.run_for);
    hr_loop_free(d.loop);
    hr_trigger_eval = NULL;
    hr_sql_free(shared_sql);
    shared_sql = NULL;
    return HR_OK;
}
