/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that ask the daemon: emit, status, tap, trace, logs, dlq, checkpoint. */
#include "app/control.h"
#include "app/show.h"
#include "app/verb.h"
#include "core/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct asked {
    const hr_args *args;
    void (*show)(const json_t *answer);
    int exit_code;
    bool is_stream;
} asked;

static void print_json(const json_t *json, size_t flags) {
    char *text = json_dumps(json, flags);
    printf("%s\n", text == NULL ? "null" : text);
    hr_free(text);
}

static bool on_line(void *data, const json_t *answer) {
    asked *a = data;
    const char *error = json_string_value(json_object_get(answer, "error"));
    if (error != NULL && json_object_size(answer) == 1) {
        fprintf(stderr, "headrace: %s\n", error);
        a->exit_code = HR_EXIT_FAILED;
        return false;
    }
    if (json_is_false(json_object_get(answer, "known"))) {
        a->exit_code = HR_EXIT_FAILED; /* trace */
    }
    if (hr_args_has(a->args, "json")) {
        print_json(answer, a->is_stream ? JSON_COMPACT : JSON_INDENT(2));
    } else {
        a->show(answer);
    }
    fflush(stdout);
    return a->is_stream;
}

static int ask(const hr_args *args, json_t *take_request, void (*show)(const json_t *answer),
               bool is_stream) {
    asked a = {.args = args, .show = show, .is_stream = is_stream};
    bool is_guess = false;
    char *state = hr_args_state(args, &is_guess);
    hr_error err = {0};
    if (hr_control_ask(state, take_request, on_line, &a, &err) != HR_OK) {
        fprintf(stderr, "headrace: %s%s\n", err.text,
                is_guess ? " (the configuration has errors here, so its settings.state is not "
                           "known: headrace check)"
                         : "");
        a.exit_code = HR_EXIT_FAILED;
    }
    hr_free(state);
    json_decref(take_request);
    return a.exit_code;
}

static int usage(const char *text) {
    fprintf(stderr, "headrace: %s\n", text);
    return HR_EXIT_USAGE;
}

/* ---- reload ---- */

static bool on_reloaded(void *data, const json_t *answer) {
    int *exit_code = data;
    const char *invalid = json_string_value(json_object_get(answer, "invalid"));
    const char *error = json_string_value(json_object_get(answer, "error"));
    if (invalid != NULL) {
        fprintf(stderr, "%sheadrace: not reloaded; the former configuration goes on\n", invalid);
        *exit_code = HR_EXIT_CONFIG;
    } else if (error != NULL) {
        fprintf(stderr, "headrace: not reloaded: %s\n", error);
        *exit_code = HR_EXIT_FAILED;
    } else {
        long long triggers = json_integer_value(json_object_get(answer, "triggers"));
        long long functions = json_integer_value(json_object_get(answer, "functions"));
        printf("reloaded: %lld trigger%s, %lld function%s\n", triggers, triggers == 1 ? "" : "s",
               functions, functions == 1 ? "" : "s");
    }
    return false;
}

static bool on_reloaded_json(void *data, const json_t *answer) {
    int *exit_code = data;
    *exit_code = json_is_true(json_object_get(answer, "reloaded")) ? HR_EXIT_OK
                 : json_object_get(answer, "invalid") != NULL      ? HR_EXIT_CONFIG
                                                                   : HR_EXIT_FAILED;
    print_json(answer, JSON_INDENT(2));
    return false;
}

static int reload(const hr_args *args) {
    bool is_guess = false;
    int exit_code = HR_EXIT_OK;
    char *state = hr_args_state(args, &is_guess);
    hr_error err = {0};
    json_t *request = json_pack("{s:s}", "verb", "reload");
    bool json = hr_args_has(args, "json");
    if (hr_control_ask(state, request, json ? on_reloaded_json : on_reloaded, &exit_code, &err) !=
        HR_OK) {
        fprintf(stderr, "headrace: %s%s\n", err.text,
                is_guess ? " (the file here has errors, so its settings.state is not known: name "
                           "the state with --state)"
                         : "");
        exit_code = HR_EXIT_FAILED;
    }
    hr_free(state);
    json_decref(request);
    return exit_code;
}

const hr_verb hr_verb_reload = {"reload",
                                "Run",
                                "",
                                "take the changed configuration, or say why not",
                                NULL,
                                "  headrace reload\n"
                                "  headrace reload --state /var/lib/headrace\n"
                                "  headrace reload --json\n"
                                "  headrace check && headrace reload\n"
                                "  kill -HUP $(pidof headrace)     the same, said in the log\n",
                                reload,
                                0};

/* ---- emit ---- */

static json_t *read_data(const hr_args *args, const char **out_error) {
    const char *data = hr_args_get(args, "data");
    const char *file = hr_args_get(args, "file");
    if (data != NULL || file == NULL) {
        return json_string(data == NULL ? "" : data);
    }
    FILE *in = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
    if (in == NULL) {
        *out_error = "the file of --file cannot be read";
        return NULL;
    }
    hr_buffer text = {0};
    size_t got = 0;
    do {
        got = fread(hr_buffer_room(&text, 65536), 1, 65536, in);
        text.size += got;
    } while (got > 0 && text.size < HR_CONTROL_LINE / 2);
    if (in != stdin) {
        fclose(in);
    }
    json_t *json = json_stringn((const char *)text.bytes, text.size);
    hr_buffer_fini(&text);
    *out_error = json == NULL ? "the data must be UTF-8 text" : NULL;
    return json;
}

typedef struct followed {
    size_t settled, wanted;
    bool is_retrying;
} followed;

static bool is_end(const char *what) {
    static const char *const ends[] = {"delivered", "filtered", "dropped",
                                       "dead",      "expired",  "retrying"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (strcmp(what, ends[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool on_follow(void *data, const json_t *answer) {
    followed *f = data;
    size_t index = 0;
    json_t *note = NULL;
    f->settled = 0;
    json_array_foreach(json_object_get(answer, "notes"), index, note) {
        f->settled += is_end(json_string_value(json_object_get(note, "what"))) ? 1 : 0;
    }
    if (f->settled >= f->wanted) {
        json_array_foreach(json_object_get(answer, "notes"), index, note) {
            const char *what = json_string_value(json_object_get(note, "what"));
            if (is_end(what)) {
                f->is_retrying = strcmp(what, "retrying") == 0;
                hr_show_note(note);
            }
        }
    }
    return false;
}

/* Waits a moment for what the functions make of it, so that emit tells the whole story. */
static void follow(const hr_args *args, const char *id, size_t functions) {
    bool is_guess = false;
    char *state = hr_args_state(args, &is_guess);
    followed f = {.wanted = functions};
    for (int i = 0; i < 40 && functions > 0 && f.settled < f.wanted; i++) {
        json_t *request = json_pack("{s:s, s:s}", "verb", "trace", "id", id);
        hr_error err = {0};
        hr_code code = hr_control_ask(state, request, on_follow, &f, &err);
        json_decref(request);
        if (code != HR_OK) {
            break;
        }
        if (f.settled < f.wanted) {
            usleep(50000);
        }
    }
    if (functions > 0 && (f.settled < f.wanted || f.is_retrying)) {
        printf("  not settled yet: headrace trace %s\n", id);
    } else if (functions == 0) {
        printf("  no function takes from this trigger: it is stored and settled\n");
    }
    hr_free(state);
}

static const hr_args *emit_args;

static void show_emit(const json_t *answer) {
    size_t index = 0;
    json_t *id = NULL;
    json_array_foreach(json_object_get(answer, "ids"), index, id) {
        printf("→ %s  %s\n", json_string_value(json_object_get(answer, "trigger")),
               json_string_value(id));
        fflush(stdout);
        follow(emit_args, json_string_value(id),
               json_array_size(json_object_get(answer, "functions")));
    }
}

static int emit(const hr_args *args) {
    if (args->word_count != 1) {
        return usage("emit needs the name of a trigger: headrace emit TRIGGER [--data TEXT]");
    }
    const char *error = NULL;
    json_t *data = read_data(args, &error);
    if (data == NULL) {
        return usage(error);
    }
    json_t *options = json_object();
    const char *sets[HR_ARGS_MAX];
    size_t count = hr_args_all(args, "set", sets, HR_ARGS_MAX);
    for (size_t i = 0; i < count; i++) {
        const char *equals = strchr(sets[i], '=');
        if (equals == NULL) {
            json_decref(data);
            json_decref(options);
            return usage("--set needs NAME=VALUE, such as key=photos/cat.jpg");
        }
        char *name = hr_copy_bytes(sets[i], (size_t)(equals - sets[i]));
        json_object_set_new(options, name, json_string(equals + 1));
        hr_free(name);
    }
    if (hr_args_has(args, "at")) {
        json_object_set_new(options, "at", json_string(hr_args_get(args, "at")));
    }
    json_t *request = json_pack("{s:s, s:s, s:o, s:o}", "verb", "emit", "trigger", args->word[0],
                                "data", data, "options", options);
    if (hr_args_has(args, "to")) {
        json_object_set_new(request, "to", json_string(hr_args_get(args, "to")));
    }
    emit_args = args;
    return ask(args, request, show_emit, false);
}

static const hr_option emit_options[] = {
    {"data", 'd', "TEXT", "what the source would send: a body, a payload, a record's value"},
    {"file", 'f', "FILE", "the same from a file; - is standard input"},
    {"set", 's', "NAME=VALUE",
     "what belongs to the kind: topic, key, bucket, event ... (again for more)"},
    {"at", 0, "TIME", "cron: the instant of the tick"},
    {"to", 0, "FUNCTION", "only to this function"},
    {NULL, 0, NULL, NULL}};

const hr_verb hr_verb_emit = {
    "emit",
    "Start",
    "TRIGGER",
    "fire one event by hand, at the trigger",
    emit_options,
    "  headrace emit temps --set topic=site/a/device/t1/temp --data '{\"celsius\": 31}'\n"
    "  headrace emit uploads --set bucket=photos --set key=cat.jpg\n"
    "  headrace emit nightly --at 2026-03-29T02:30:00Z\n"
    "  headrace emit orders --set key=42 --file order.json\n"
    "  headrace emit temps --to hot --set topic=site/a/device/t1/temp --data '{}'\n",
    emit,
    1};

/* ---- the rest ---- */

static int status(const hr_args *args) {
    return ask(args, json_pack("{s:s}", "verb", "status"), hr_show_status, false);
}

const hr_verb hr_verb_status = {"status",
                                "Look",
                                "",
                                "triggers, functions, what is wrong",
                                NULL,
                                "  headrace status\n"
                                "  headrace status --json\n"
                                "  headrace status --state /var/lib/headrace\n",
                                status,
                                0};

static int tap(const hr_args *args) {
    json_t *request = json_pack("{s:s}", "verb", "tap");
    if (args->word_count > 0) {
        json_object_set_new(request, "name", json_string(args->word[0]));
    }
    return ask(args, request, hr_show_note, true);
}

const hr_verb hr_verb_tap = {"tap",
                             "Look",
                             "[TRIGGER|FUNCTION]",
                             "live events, until Ctrl-C",
                             NULL,
                             "  headrace tap\n"
                             "  headrace tap temps\n"
                             "  headrace tap hot --json\n",
                             tap,
                             1};

static int trace(const hr_args *args) {
    if (args->word_count != 1) {
        return usage("trace needs the id of an event: headrace trace ID");
    }
    return ask(args, json_pack("{s:s, s:s}", "verb", "trace", "id", args->word[0]), hr_show_trace,
               false);
}

const hr_verb hr_verb_trace = {"trace",
                               "Look",
                               "ID",
                               "the life of one event",
                               NULL,
                               "  headrace trace nightly/2026-03-29T01:00:00Z\n"
                               "  headrace trace orders/3/118204 --json\n",
                               trace,
                               1};

static int logs(const hr_args *args) {
    int64_t limit = 0;
    if (!hr_args_number(args, "limit", 100, &limit)) {
        return HR_EXIT_USAGE;
    }
    json_t *request = json_pack("{s:s}", "verb", "logs");
    if (args->word_count > 0) {
        json_object_set_new(request, "function", json_string(args->word[0]));
    }
    if (hr_args_has(args, "event")) {
        json_object_set_new(request, "event", json_string(hr_args_get(args, "event")));
    }
    json_object_set_new(request, "limit", json_integer(limit));
    return ask(args, request, hr_show_logs, false);
}

static const hr_option logs_options[] = {{"event", 'e', "ID", "only the lines of one event"},
                                         {"limit", 'n', "COUNT", "newest so many (100)"},
                                         {NULL, 0, NULL, NULL}};

const hr_verb hr_verb_logs = {"logs",
                              "Look",
                              "[FUNCTION]",
                              "what handlers printed",
                              logs_options,
                              "  headrace logs hot\n"
                              "  headrace logs hot --event ID\n"
                              "  headrace logs --limit 20 --json\n",
                              logs,
                              1};

static int dlq(const hr_args *args) {
    const char *what = args->word_count == 0 ? "ls" : args->word[0];
    bool is_ls = strcmp(what, "ls") == 0;
    bool is_end = strcmp(what, "replay") == 0 || strcmp(what, "drop") == 0;
    if (!is_ls && !is_end && strcmp(what, "show") != 0) {
        return usage("dlq ls | show ID | replay ID | drop ID; instead of an ID also --all or "
                     "--function NAME");
    }
    const char *id = args->word_count > 1 ? args->word[1] : NULL;
    const char *function = hr_args_get(args, "function");
    if (!is_ls && id == NULL && !(is_end && (function != NULL || hr_args_has(args, "all")))) {
        return usage("which dead letter? give its number or the event's id, or --all");
    }
    if (strcmp(what, "drop") == 0 && !hr_args_has(args, "yes")) {
        return usage("drop forgets dead letters for good; add --yes to do it");
    }
    int64_t limit = 0, from = 0;
    if (!hr_args_number(args, "limit", 100, &limit) || !hr_args_number(args, "from", 1, &from)) {
        return HR_EXIT_USAGE;
    }
    json_t *request = json_pack("{s:s, s:s, s:I, s:I}", "verb", "dlq", "do", what, "limit",
                                (json_int_t)limit, "from", (json_int_t)from);
    if (id != NULL) {
        json_object_set_new(request, "id", json_string(id));
    }
    if (function != NULL) {
        json_object_set_new(request, "function", json_string(function));
    }
    return ask(args, request,
               is_ls    ? hr_show_dead_list
               : is_end ? hr_show_ended
                        : hr_show_dead,
               false);
}

static const hr_option dlq_options[] = {{"function", 0, "NAME", "only of this function"},
                                        {"limit", 'n', "COUNT", "ls: so many (100, at most 1000)"},
                                        {"from", 0, "NUMBER", "ls: from this dead letter on"},
                                        {"all", 0, NULL, "replay or drop all"},
                                        {"yes", 0, NULL, "drop without asking"},
                                        {NULL, 0, NULL, NULL}};

const hr_verb hr_verb_dlq = {"dlq",
                             "Repair",
                             "ls|show|replay|drop [ID]",
                             "dead letters",
                             dlq_options,
                             "  headrace dlq\n"
                             "  headrace dlq ls --function thumbnail --limit 1000 --from 1001\n"
                             "  headrace dlq show 17\n"
                             "  headrace dlq replay 17\n"
                             "  headrace dlq replay --function thumbnail\n"
                             "  headrace dlq drop --all --yes\n",
                             dlq,
                             2};

static int checkpoint(const hr_args *args) {
    if (args->word_count > 1 || (args->word_count == 1 && strcmp(args->word[0], "ls") != 0)) {
        return usage("checkpoint ls");
    }
    return ask(args, json_pack("{s:s}", "verb", "checkpoint"), hr_show_checkpoints, false);
}

const hr_verb hr_verb_checkpoint = {"checkpoint",
                                    "Repair",
                                    "ls",
                                    "how far each function is",
                                    NULL,
                                    "  headrace checkpoint ls\n"
                                    "  headrace checkpoint ls --json\n",
                                    checkpoint,
                                    1};
