/* SPDX-License-Identifier: Apache-2.0 */
/* headrace demo: a running example in a temporary folder, nothing to set up. */
#include "app/daemon.h"
#include "app/demo_mqtt.h"
#include "app/show.h"
#include "app/verb.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/time_text.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The trigger of the thermometers goes between these two. */
static const char config_head[] = "settings:\n"
                                  "  ballast: 1MiB\n"
                                  "triggers:\n"
                                  "  temps:\n";

static const char config_rest[] =
    "  uploads:\n"
    "    demo: { rate: 1/s, what: uploads }\n"
    "  nightly:\n"
    "    cron: { at: '*/2 * * * * *' }      # every other second, so that you see it\n"
    "functions:\n"
    "  hot:\n"
    "    from: temps\n"
    "    when: data.celsius > 28\n"
    "    shell: 'printf \"{\\\"alert\\\": \\\"%s is hot\\\"}\" \"$CE_DEVICE\"'\n"
    "  alert:\n"
    "    from: hot                          # what hot prints is a new event\n"
    "    shell: cat >/dev/null\n"
    "  thumbnail:\n"
    "    from: uploads\n"
    "    retry: { attempts: 3, backoff: 300ms..1s }\n"
    "    shell: 'case \"$CE_SUBJECT\" in *.txt|*.md) echo \"not an image\" >&2; exit 1;; esac'\n"
    "  report:\n"
    "    from: nightly\n"
    "    shell: date >/dev/null\n";

typedef struct demo {
    hr_tap tap; /* first */
    bool json, is_ending;
    json_t *summary, *triggers;
    hr_demo_mqtt *mqtt; /* NULL: made-up events */
} demo;

static void on_note(hr_tap *tap, const json_t *note) {
    demo *d = (demo *)tap;
    const char *what = json_string_value(json_object_get(note, "what"));
    if (d->json || strcmp(what, "stored") == 0 || strcmp(what, "called") == 0) {
        return; /* the life of an event has these too: headrace trace */
    }
    hr_show_note(note);
    if (fflush(stdout) != 0 && !d->is_ending) { /* nobody looks any more: `headrace demo | head` */
        d->is_ending = true;
        raise(SIGTERM);
    }
}

static void on_totals(void *data, const json_t *totals) {
    demo *d = data;
    d->summary = json_deep_copy(json_object_get(totals, "sum"));
    d->triggers = json_deep_copy(json_object_get(totals, "triggers"));
}

static void on_started(void *data, hr_engine *engine) {
    (void)engine;
    demo *d = data;
    if (d->mqtt != NULL) {
        hr_demo_mqtt_publish(d->mqtt);
    }
}

static hr_code write_config(const demo *d, const char *path, hr_error *err) {
    FILE *file = fopen(path, "we");
    if (file != NULL) {
        fputs(config_head, file);
        if (d->mqtt != NULL) {
            fprintf(file,
                    "    mqtt:\n"
                    "      url: mqtt://127.0.0.1:%d\n"
                    "      topic: site/+site/device/+device/temp\n"
                    "      qos: 1\n",
                    hr_demo_mqtt_port(d->mqtt));
        } else {
            fputs("    demo: { rate: 5/s, what: thermometers }\n", file);
        }
        fputs(config_rest, file);
    }
    if (file == NULL || fclose(file) != 0) {
        return hr_fail(err, HR_E_IO, errno, "write '%s': %s", path, strerror(errno));
    }
    return HR_OK;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info;
    (void)kind;
    (void)at;
    return remove(path);
}

static long long number_of(const json_t *json, const char *key) {
    return json_integer_value(json_object_get(json, key));
}

static const char *const sum_keys[] = {"received", "deliveries", "delivered", "filtered",
                                       "dropped",  "dead",       "expired",   "pending"};
enum { SUM_KEYS = sizeof sum_keys / sizeof *sum_keys, SUM_PARTS = 2 };

static void print_summary_json(const demo *d) {
    json_t *out = json_object();
    for (size_t i = 0; i < SUM_KEYS; i++) {
        json_object_set(out, sum_keys[i], json_object_get(d->summary, sum_keys[i]));
    }
    json_object_set(out, "triggers", d->triggers);
    char *text = json_dumps(out, JSON_COMPACT);
    printf("%s\n", text);
    hr_free(text);
    json_decref(out);
}

static void print_summary_text(const demo *d, bool adds_up) {
    const char *name = NULL, *comma = "";
    json_t *count = NULL;
    printf("\n%lld events received (", number_of(d->summary, "received"));
    json_object_foreach(d->triggers, name, count) {
        printf("%s%s %lld", comma, name, (long long)json_integer_value(count));
        comma = ", ";
    }
    printf(")\n%lld deliveries", number_of(d->summary, "deliveries"));
    for (size_t i = SUM_PARTS; i < SUM_KEYS; i++) {
        printf(" %s %lld %s", i == SUM_PARTS ? "=" : "+", number_of(d->summary, sum_keys[i]),
               sum_keys[i]);
    }
    printf("%s\n", adds_up ? "" : "  (this does not add up: a bug, please report it)");
}

/* false when it does not add up. */
static bool print_summary(const demo *d) {
    long long parts = 0;
    for (size_t i = SUM_PARTS; i < SUM_KEYS; i++) {
        parts += number_of(d->summary, sum_keys[i]);
    }
    bool adds_up = parts == number_of(d->summary, "deliveries");
    if (d->json) {
        print_summary_json(d);
    } else {
        print_summary_text(d, adds_up);
    }
    return adds_up;
}

static void banner(const demo *d, const char *dir, bool ends, const char *why_no_mqtt) {
    const char *us = program_invocation_name;
    printf("headrace %s · demo · state in %s, gone at the end\n", HEADRACE_VERSION, dir);
    if (d->mqtt != NULL) {
        printf("  temps     thermometers over MQTT, by a private mosquitto on port %d\n",
               hr_demo_mqtt_port(d->mqtt));
    } else {
        printf("  temps     made-up thermometers, no MQTT: %s\n", why_no_mqtt);
    }
    printf("  uploads   made-up uploads; what is no image fails, is tried again and given up\n");
    printf("  nightly   a cron job, here every other second\n");
    printf("  look      export HEADRACE_STATE=%s   in another terminal, then\n", dir);
    printf("            %s status | trace ID | dlq | tap\n", us);
    printf("  %s\n\n", ends ? "ends by itself" : "Ctrl-C ends it");
    fflush(stdout);
}

static int run_in(const hr_args *args, char *dir, int64_t run_ms) {
    hr_error err = {0}, no_mqtt = {0};
    char *path = hr_format("%s/headrace.yaml", dir);
    demo d = {.tap = {.seen = on_note}, .json = hr_args_has(args, "json")};
    hr_demo_mqtt_start(hr_args_get(args, "mosquitto"), dir, &d.mqtt, &no_mqtt);
    hr_code code = write_config(&d, path, &err);
    const char *paths[] = {path};
    hr_config *config = code == HR_OK ? hr_daemon_load(paths, 1, false) : NULL;
    if (config != NULL) {
        if (!d.json) {
            banner(&d, dir, run_ms > 0, no_mqtt.text);
        }
        hr_log_set_level(HR_LOG_ERROR); /* what a function gives up scrolls by anyway */
        hr_daemon_options options = {.config = config,
                                     .state_dir = dir,
                                     .run_ms = (uint64_t)run_ms,
                                     .grace_ms = 3000,
                                     .tap = &d.tap,
                                     .started = on_started,
                                     .totals = on_totals,
                                     .data = &d};
        code = hr_daemon_run(&options, &err);
        hr_config_free(config);
    }
    int exit_code = HR_EXIT_FAILED;
    if (code != HR_OK) {
        hr_daemon_tell(&err);
    } else if (d.summary != NULL) {
        exit_code = print_summary(&d) ? HR_EXIT_OK : HR_EXIT_FAILED;
    }
    hr_demo_mqtt_stop(d.mqtt);
    json_decref(d.summary);
    json_decref(d.triggers);
    hr_free(path);
    return exit_code;
}

static int run(const hr_args *args) {
    int64_t run_ms = 0;
    const char *run_for = hr_args_get(args, "for");
    if (run_for != NULL && !hr_duration_parse(hr_slice_text(run_for), &run_ms)) {
        fprintf(stderr, "headrace demo: --for needs a duration such as 10s\n");
        return HR_EXIT_USAGE;
    }
    const char *tmp = getenv("TMPDIR");
    char *dir = hr_format("%s/headrace-demo-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    if (mkdtemp(dir) == NULL) {
        fprintf(stderr, "headrace: a folder in %s: %s\n", tmp == NULL ? "/tmp" : tmp,
                strerror(errno));
        hr_free(dir);
        return HR_EXIT_FAILED;
    }
    int exit_code = run_in(args, dir, run_ms);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    hr_free(dir);
    return exit_code;
}

static const hr_option options[] = {
    {"for", 0, "DURATION", "end after so long, with a summary"},
    {"mosquitto", 0, "FILE", "the mosquitto to use; default: the one installed, if any"},
    {NULL, 0, NULL, NULL}};

const hr_verb hr_verb_demo = {"demo",
                              "Start",
                              "[--for 10s]",
                              "a running example, nothing to set up",
                              options,
                              "  headrace demo\n"
                              "  headrace demo --for 10s\n"
                              "  headrace demo --for 10s --json\n",
                              run,
                              0};
