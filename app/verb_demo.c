/* SPDX-License-Identifier: Apache-2.0 */
/* headrace demo: a running example in a temporary folder, nothing to set up. */
#include "app/daemon.h"
#include "app/show.h"
#include "app/verb.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/time_text.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char config_text[] =
    "settings:\n"
    "  ballast: 1MiB\n"
    "triggers:\n"
    "  temps:\n"
    "    demo: { rate: 5/s, what: thermometers }\n"
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
    "    shell: 'case \"$CE_SUBJECT\" in *.jpg) exit 0;; *) echo \"not an image\" >&2; exit 1;; "
    "esac'\n"
    "  report:\n"
    "    from: nightly\n"
    "    shell: date >/dev/null\n";

typedef struct demo {
    hr_tap tap; /* first */
    bool json;
    json_t *summary;
} demo;

static void on_note(hr_tap *tap, const json_t *note) {
    demo *d = (demo *)tap;
    const char *what = json_string_value(json_object_get(note, "what"));
    if (d->json || strcmp(what, "stored") == 0 || strcmp(what, "called") == 0) {
        return; /* the life of an event has these too: headrace trace */
    }
    hr_show_note(note);
    fflush(stdout);
}

static void on_totals(void *data, const json_t *totals) {
    demo *d = data;
    d->summary = json_deep_copy(json_object_get(totals, "sum"));
}

static void on_started(void *data, hr_engine *engine) {
    (void)data;
    (void)engine;
}

static hr_code write_file(const char *path, const char *text, hr_error *err) {
    FILE *file = fopen(path, "we");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
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

/* The summary; false when it does not add up. */
static bool print_summary(const demo *d) {
    static const char *const keys[] = {"received", "deliveries", "delivered", "filtered",
                                       "dropped",  "dead",       "expired",   "pending"};
    long long parts = 0;
    if (d->json) {
        json_t *out = json_object();
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            json_object_set(out, keys[i], json_object_get(d->summary, keys[i]));
        }
        char *text = json_dumps(out, JSON_COMPACT);
        printf("%s\n", text);
        hr_free(text);
        json_decref(out);
    } else {
        printf("\n%lld events received, %lld deliveries", number_of(d->summary, "received"),
               number_of(d->summary, "deliveries"));
    }
    for (size_t i = 2; i < sizeof keys / sizeof *keys; i++) {
        parts += number_of(d->summary, keys[i]);
        if (!d->json) {
            printf(" %s %lld %s", i == 2 ? "=" : "+", number_of(d->summary, keys[i]), keys[i]);
        }
    }
    bool adds_up = parts == number_of(d->summary, "deliveries");
    if (!d->json) {
        printf("%s\n", adds_up ? "" : "  (this does not add up: a bug, please report it)");
    }
    return adds_up;
}

static void banner(const char *dir, bool ends) {
    printf("headrace %s · demo · state in %s, gone at the end\n", HEADRACE_VERSION, dir);
    printf("  temps     built-in generator of thermometers (real MQTT: examples/iot)\n");
    printf("  look      headrace status --state %s      headrace trace ID --state %s\n", dir, dir);
    printf("  %s\n\n", ends ? "ends by itself" : "Ctrl-C ends it");
    fflush(stdout);
}

static int run_in(const hr_args *args, char *dir, int64_t run_ms) {
    hr_error err = {0};
    char *path = hr_format("%s/headrace.yaml", dir);
    demo d = {.tap = {.seen = on_note}, .json = hr_args_has(args, "json")};
    hr_code code = write_file(path, config_text, &err);
    const char *paths[] = {path};
    hr_config *config = code == HR_OK ? hr_daemon_load(paths, 1, false) : NULL;
    if (config != NULL) {
        if (!d.json) {
            banner(dir, run_ms > 0);
        }
        hr_log_set_level(HR_LOG_WARN);
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
        fprintf(stderr, "headrace: %s\n", err.text);
    } else if (d.summary != NULL) {
        exit_code = print_summary(&d) ? HR_EXIT_OK : HR_EXIT_FAILED;
    }
    json_decref(d.summary);
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

static const hr_option options[] = {{"for", 0, "DURATION", "end after so long, with a summary"},
                                    {NULL, 0, NULL, NULL}};

const hr_verb hr_verb_demo = {"demo",
                              "Start",
                              "[--for 10s]",
                              "a running example, nothing to set up",
                              options,
                              "  headrace demo\n"
                              "  headrace demo --for 10s\n"
                              "  headrace demo --for 10s --json\n",
                              run};
