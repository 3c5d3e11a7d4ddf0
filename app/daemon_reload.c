/* SPDX-License-Identifier: Apache-2.0 */
/* A new configuration for a running daemon (`headrace reload`, SIGHUP). One engine drains and ends,
 * another begins where its last commit stands: what a stop and a start promise, this promises. */
#include "app/daemon_priv.h"
#include "core/crash.h"
#include "core/log.h"
#include "core/memory.h"

#include <stdio.h>

static void answer(hr_daemon *d, json_t *take_answer) {
    hr_request *asked = d->asked;
    d->asked = NULL;
    if (asked == NULL) {
        json_decref(take_answer);
    } else {
        asked->answer(asked, take_answer);
    }
}

static void refuse(hr_daemon *d, const char *why) {
    hr_log(HR_LOG_ERROR, "reload", "%s; the former configuration goes on", why);
    answer(d, json_pack("{s:s, s:s}", "error", why, "running", "the former configuration"));
}

static const char *state_of(const hr_config *config) {
    return hr_node_text(hr_node_get(hr_config_root(config), "settings"), "state", "");
}

static void on_drained(void *data) {
    hr_daemon *d = data;
    hr_timer_start(d->swap, 0, 0); /* an engine cannot be freed from within its own call */
}

static void take_over(hr_daemon *d, hr_config *take_config) {
    hr_config_free(d->reload_owned); /* the former one, if it is ours */
    d->config = d->reload_owned = take_config;
}

/* Begins an engine; when it only half began, it has to end first. false: it does not run. */
static bool begin(hr_daemon *d, const hr_config *config) {
    hr_error err = {0};
    hr_code code = hr_daemon_start_engine(d, config, &err);
    if (code == HR_OK) {
        return true;
    }
    snprintf(d->why, sizeof d->why, "%s", err.text);
    return false;
}

static void end_engine(hr_daemon *d) {
    hr_control_serve(d->control, NULL);
    hr_engine_free(d->engine);
    hr_admin_close(d->admin);
    d->engine = NULL;
    d->admin = NULL;
}

static void give_up(hr_daemon *d) {
    hr_log(HR_LOG_ERROR, "reload", "the former configuration does not start any more: %s", d->why);
    d->has_failed = true;
    hr_loop_stop(d->loop);
}

static void begin_former(hr_daemon *d) {
    char why[sizeof d->why];
    snprintf(why, sizeof why, "%s", d->why);
    d->reload = HR_RELOAD_NONE;
    if (begin(d, d->config)) {
        hr_listener_close(&d->listener);
        refuse(d, why);
    } else {
        give_up(d);
    }
}

static void begin_next(hr_daemon *d) {
    hr_config *next = d->next;
    d->next = NULL;
    if (begin(d, next)) {
        HR_CRASH_POINT("reload.begun");
        take_over(d, next);
        d->reload = HR_RELOAD_NONE;
        hr_listener_close(&d->listener);
        const hr_node *root = hr_config_root(next);
        size_t triggers = hr_node_count(hr_node_get(root, "triggers"));
        size_t functions = hr_node_count(hr_node_get(root, "functions"));
        hr_log(HR_LOG_INFO, "reload", "the new configuration runs: %zu trigger%s, %zu function%s",
               triggers, triggers == 1 ? "" : "s", functions, functions == 1 ? "" : "s");
        answer(d, json_pack("{s:b, s:I, s:I}", "reloaded", 1, "triggers", (json_int_t)triggers,
                            "functions", (json_int_t)functions));
        return;
    }
    if (d->engine == NULL) { /* nothing of it stands */
        hr_config_free(next);
        begin_former(d);
        return;
    }
    d->next = next; /* its engine still looks into it */
    d->reload = HR_RELOAD_UNDOING;
    hr_engine_stop(d->engine, hr_daemon_grace_ms(d), on_drained, d);
}

static void on_swap(void *data) {
    hr_daemon *d = data;
    if (d->is_stopping) { /* asked to end meanwhile */
        answer(d, json_pack("{s:s}", "error", "the daemon ends"));
        hr_daemon_drained(d);
        return;
    }
    HR_CRASH_POINT("reload.drained");
    end_engine(d);
    HR_CRASH_POINT("reload.between");
    if (d->reload == HR_RELOAD_UNDOING) {
        hr_config_free(d->next);
        d->next = NULL;
        begin_former(d);
    } else {
        begin_next(d);
    }
}

void hr_daemon_reload(hr_daemon *d, hr_request *request) {
    if (d->is_stopping || d->reload != HR_RELOAD_NONE) {
        if (request != NULL) {
            request->answer(request, json_pack("{s:s}", "error",
                                               d->is_stopping ? "the daemon ends"
                                                              : "a reload is under way already"));
        }
        return;
    }
    d->asked = request;
    hr_buffer said = {0};
    hr_config *next = hr_daemon_read(d->options->paths, d->options->path_count, false, &said);
    if (next == NULL) {
        hr_log(HR_LOG_ERROR, "reload", "the new configuration is wrong:\n%s",
               hr_buffer_text(&said));
        answer(d, json_pack("{s:s, s:s}", "invalid", hr_buffer_text(&said), "running",
                            "the former configuration"));
    } else if (strcmp(state_of(next), state_of(d->config)) != 0) {
        refuse(d, "settings.state is another folder: that needs a stop and a start");
        hr_config_free(next);
    } else {
        hr_log(HR_LOG_INFO, "reload", "draining: running calls may finish");
        d->reload = HR_RELOAD_DRAINING;
        d->next = next;
        d->swap = d->swap != NULL ? d->swap : hr_timer_new(d->loop, on_swap, d);
        d->listener = hr_engine_listener(d->engine);
        hr_engine_stop(d->engine, hr_daemon_grace_ms(d), on_drained, d);
    }
    hr_buffer_fini(&said);
}

void hr_daemon_reload_fini(hr_daemon *d) {
    answer(d, json_pack("{s:s}", "error", "the daemon ended"));
    hr_timer_free(d->swap);
    hr_listener_close(&d->listener);
    hr_config_free(d->next);
    hr_config_free(d->reload_owned);
}
