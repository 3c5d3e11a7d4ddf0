/* SPDX-License-Identifier: Apache-2.0 */
/* headrace run, check, schema, version. */
#include "app/daemon.h"
#include "app/verb.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/time_text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static size_t config_paths(const hr_args *args, const char **paths) {
    size_t count = hr_args_all(args, "config", paths, HR_ARGS_MAX);
    if (count == 0) {
        paths[count++] = "headrace.yaml";
        if (access(paths[0], F_OK) != 0) {
            fprintf(stderr,
                    "headrace: there is no headrace.yaml here; name a file with -c FILE, or "
                    "try 'headrace demo', which needs none\n");
            return 0;
        }
    }
    return count;
}

static void on_started(void *data, hr_engine *engine) {
    const char *state = data;
    int port = hr_engine_port(engine);
    if (hr_engine_is_empty(engine)) {
        hr_log(HR_LOG_WARN, "headrace", "the configuration has no triggers: nothing will happen");
    }
    if (port != 0) {
        hr_log(HR_LOG_INFO, "headrace", "running; state in %s; webhooks on port %d", state, port);
    } else {
        hr_log(HR_LOG_INFO, "headrace", "running; state in %s", state);
    }
}

static int run(const hr_args *args) {
    const char *paths[HR_ARGS_MAX];
    size_t count = config_paths(args, paths);
    hr_config *config = count == 0 ? NULL : hr_daemon_load_to_run(paths, count);
    if (config == NULL) {
        return HR_EXIT_CONFIG;
    }
    if (hr_args_has(args, "verbose")) {
        hr_log_set_level(HR_LOG_DEBUG);
    }
    int64_t run_ms = 0;
    const char *run_for = hr_args_get(args, "for");
    if (run_for != NULL && !hr_duration_parse(hr_slice_text(run_for), &run_ms)) {
        fprintf(stderr, "headrace run: --for needs a duration such as 10s\n");
        return HR_EXIT_USAGE;
    }
    bool is_guess = false;
    char *state = hr_args_state(args, &is_guess);
    hr_daemon_options options = {.config = config,
                                 .paths = paths,
                                 .path_count = count,
                                 .state_dir = state,
                                 .run_ms = (uint64_t)run_ms,
                                 .started = on_started,
                                 .data = state};
    hr_error err = {0};
    hr_code code = hr_daemon_run(&options, &err);
    if (code == HR_E_UNSUPPORTED && hr_daemon_load(paths, count, false) == NULL) {
        _exit(HR_EXIT_CONFIG); /* a library is missing */
    }
    if (code != HR_OK) {
        hr_daemon_tell(&err);
        _exit(code == HR_E_CONFIG || code == HR_E_EXPRESSION ? HR_EXIT_CONFIG : HR_EXIT_FAILED);
    }
    hr_free(state);
    hr_config_free(config);
    return HR_EXIT_OK;
}

static int check(const hr_args *args) {
    const char *paths[HR_ARGS_MAX];
    size_t count = config_paths(args, paths);
    bool json = hr_args_has(args, "json");
    hr_config *config = count == 0 ? NULL : hr_daemon_load(paths, count, json);
    if (config == NULL) {
        return HR_EXIT_CONFIG;
    }
    if (hr_args_has(args, "show")) {
        hr_buffer text = {0};
        hr_config_print(config, &text);
        printf("%s", hr_buffer_text(&text));
        hr_buffer_fini(&text);
    } else if (!json) {
        const hr_node *root = hr_config_root(config);
        size_t triggers = hr_node_count(hr_node_get(root, "triggers"));
        size_t functions = hr_node_count(hr_node_get(root, "functions"));
        printf("ok: %zu trigger%s, %zu function%s\n", triggers, triggers == 1 ? "" : "s", functions,
               functions == 1 ? "" : "s");
    }
    hr_config_free(config);
    return HR_EXIT_OK;
}

static int schema(const hr_args *args) {
    hr_buffer text = {0};
    if (hr_args_has(args, "reference")) {
        hr_config_reference(&text);
    } else {
        hr_config_schema(&text);
    }
    printf("%s", hr_buffer_text(&text));
    hr_buffer_fini(&text);
    return HR_EXIT_OK;
}

static int version(const hr_args *args) {
    if (hr_args_has(args, "json")) {
        printf("{\"version\": \"%s\"}\n", HEADRACE_VERSION);
    } else {
        printf("headrace %s\n", HEADRACE_VERSION);
    }
    return HR_EXIT_OK;
}

static const hr_option run_options[] = {{"for", 0, "DURATION", "stop by itself after so long"},
                                        {"verbose", 'v', NULL, "log more"},
                                        {NULL, 0, NULL, NULL}};

const hr_verb hr_verb_run = {
    "run",
    "Run",
    "[-c FILE]",
    "the daemon in the foreground",
    run_options,
    "  headrace run                              headrace.yaml of this folder\n"
    "  headrace run -c examples/iot/headrace.yaml\n"
    "  headrace run -c /etc/headrace --state /var/lib/headrace\n"
    "  HEADRACE_STATE=/tmp/try headrace run\n"
    "  headrace run --for 1m                     stop after a minute\n",
    run,
    0};

static const hr_option check_options[] = {
    {"show", 0, NULL, "print the configuration: merged, with defaults, secrets hidden"},
    {NULL, 0, NULL, NULL}};

const hr_verb hr_verb_check = {"check",
                               "Run",
                               "[-c FILE]",
                               "is the configuration right?",
                               check_options,
                               "  headrace check\n"
                               "  headrace check -c examples/iot/headrace.yaml\n"
                               "  headrace check --show\n"
                               "  headrace check --json\n"
                               "  headrace check -c a.yaml -c b.yaml\n",
                               check,
                               0};

static const hr_option schema_options[] = {
    {"reference", 0, NULL, "the page of all keys, as Markdown"}, {NULL, 0, NULL, NULL}};

const hr_verb hr_verb_schema = {"schema",
                                "Help",
                                "",
                                "the JSON Schema of the configuration",
                                schema_options,
                                "  headrace schema > headrace.schema.json\n"
                                "  headrace schema --reference > keys.md\n",
                                schema,
                                0};

const hr_verb hr_verb_version = {"version", "Help", "", "the version", NULL, "  headrace version\n",
                                 version,   0};
