/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses the verb and reads its words and options. */
#include "app/config.h"
#include "app/verb.h"
#include "core/memory.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const hr_verb *const verbs[] = {
    &hr_verb_demo,       &hr_verb_emit,    &hr_verb_run,    &hr_verb_check,  &hr_verb_reload,
    &hr_verb_status,     &hr_verb_tap,     &hr_verb_trace,  &hr_verb_logs,   &hr_verb_dlq,
    &hr_verb_checkpoint, &hr_verb_recover, &hr_verb_schema, &hr_verb_version};
enum { VERBS = sizeof verbs / sizeof *verbs };

static const hr_option everywhere[] = {
    {"config", 'c', "FILE", "configuration file or folder (again for more); default headrace.yaml"},
    {"state", 0, "DIR", "folder of the state; default settings.state, else ./.headrace"},
    {"json", 0, NULL, "print JSON"},
    {"help", 'h', NULL, "this text"},
    {NULL, 0, NULL, NULL}};

static void usage(FILE *out) {
    fprintf(out, "Usage: headrace <command> [options]\n");
    const char *group = "";
    for (size_t i = 0; i < VERBS; i++) {
        bool is_new = strcmp(group, verbs[i]->group) != 0;
        group = verbs[i]->group;
        fprintf(out, "%s%-8s %-11s %s\n", is_new ? "\n" : "", is_new ? group : "", verbs[i]->name,
                verbs[i]->summary);
    }
    fprintf(out, "\nheadrace help <command> tells the options of a command, with examples.\n"
                 "Exit status: 0 done, 1 failed, 2 wrong words, 78 wrong configuration.\n");
}

static void print_options(const hr_option *options, FILE *out) {
    for (; options != NULL && options->name != NULL; options++) {
        char name[40];
        snprintf(name, sizeof name, "--%s%s%s", options->name, options->value == NULL ? "" : " ",
                 options->value == NULL ? "" : options->value);
        fprintf(out, "  %c%c %-22s %s\n", options->letter == 0 ? ' ' : '-',
                options->letter == 0 ? ' ' : options->letter, name, options->help);
    }
}

static void help(const hr_verb *verb, FILE *out) {
    fprintf(out, "headrace %s %s\n\n%s\n\nOptions:\n", verb->name, verb->words, verb->summary);
    print_options(verb->options, out);
    print_options(everywhere, out);
    fprintf(out, "\nExamples:\n%s", verb->examples);
}

static size_t distance(const char *a, const char *b) {
    size_t row[64];
    size_t width = strlen(b) < 63 ? strlen(b) : 63;
    for (size_t i = 0; i <= width; i++) {
        row[i] = i;
    }
    for (size_t k = 1; *a != '\0'; a++, k++) {
        size_t corner = row[0];
        row[0] = k;
        for (size_t i = 1; i <= width; i++) {
            size_t above = row[i];
            size_t best = corner + (*a != b[i - 1] ? 1 : 0);
            best = above + 1 < best ? above + 1 : best;
            best = row[i - 1] + 1 < best ? row[i - 1] + 1 : best;
            corner = above;
            row[i] = best;
        }
    }
    return row[width];
}

static const hr_verb *find_verb(const char *name) {
    const hr_verb *nearest = NULL;
    size_t best = 3;
    for (size_t i = 0; i < VERBS; i++) {
        if (strcmp(verbs[i]->name, name) == 0) {
            return verbs[i];
        }
        size_t far = distance(name, verbs[i]->name);
        if (far < best) {
            best = far;
            nearest = verbs[i];
        }
    }
    fprintf(stderr, "headrace: there is no command '%s'", name);
    fprintf(stderr, nearest == NULL ? "; headrace --help lists them\n" : "; did you mean '%s'?\n",
            nearest == NULL ? "" : nearest->name);
    return NULL;
}

static const hr_option *find_option(const hr_option *options, const char *name, size_t size,
                                    char letter) {
    for (; options != NULL && options->name != NULL; options++) {
        bool same = letter != 0
                        ? options->letter == letter
                        : strlen(options->name) == size && memcmp(options->name, name, size) == 0;
        if (same) {
            return options;
        }
    }
    return NULL;
}

/* One option at argv[*at]; moves *at over its value. */
static bool read_option(hr_args *args, int argc, char **argv, int *at) {
    const char *text = argv[*at];
    bool is_long = text[1] == '-';
    const char *name = text + (is_long ? 2 : 1);
    const char *equals = is_long ? strchr(name, '=') : NULL;
    size_t size = equals == NULL ? strlen(name) : (size_t)(equals - name);
    char letter = name[0];
    if (is_long) {
        letter = '\0';
    }
    const hr_option *option = find_option(args->verb->options, name, size, letter);
    option = option == NULL ? find_option(everywhere, name, size, letter) : option;
    if (option == NULL) {
        fprintf(stderr, "headrace %s: there is no option '%s'; headrace help %s lists them\n",
                args->verb->name, text, args->verb->name);
        return false;
    }
    const char *value = "";
    if (option->value != NULL) {
        value = equals != NULL             ? equals + 1
                : !is_long && name[1] != 0 ? name + 1
                : *at + 1 < argc           ? argv[++*at]
                                           : NULL;
        if (value == NULL) {
            fprintf(stderr, "headrace %s: %s needs a value: %s\n", args->verb->name, text,
                    option->value);
            return false;
        }
    }
    args->option[args->option_count].name = option->name;
    args->option[args->option_count++].value = value;
    return true;
}

static bool read_args(hr_args *args, int argc, char **argv) {
    bool only_words = false;
    for (int i = 0; i < argc; i++) {
        if (args->option_count == HR_ARGS_MAX || args->word_count == HR_ARGS_MAX) {
            fprintf(stderr, "headrace: too many arguments\n");
            return false;
        }
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && argv[i][0] == '-' && argv[i][1] != '\0') {
            if (!read_option(args, argc, argv, &i)) {
                return false;
            }
        } else {
            args->word[args->word_count++] = argv[i];
        }
    }
    return true;
}

const char *hr_args_get(const hr_args *args, const char *name) {
    for (size_t i = args->option_count; i > 0; i--) {
        if (strcmp(args->option[i - 1].name, name) == 0) {
            return args->option[i - 1].value;
        }
    }
    return NULL;
}

bool hr_args_has(const hr_args *args, const char *name) {
    return hr_args_get(args, name) != NULL;
}

bool hr_args_number(const hr_args *args, const char *name, int64_t fallback, int64_t *out) {
    const char *text = hr_args_get(args, name);
    char *end = NULL;
    errno = 0;
    long long number = text == NULL ? fallback : strtoll(text, &end, 10);
    *out = number;
    if (text != NULL && (end == text || *end != '\0' || number <= 0 || errno != 0)) {
        fprintf(stderr, "headrace %s: --%s needs a number above 0, not '%s'\n", args->verb->name,
                name, text);
        return false;
    }
    return true;
}

size_t hr_args_all(const hr_args *args, const char *name, const char **out, size_t max) {
    size_t count = 0;
    for (size_t i = 0; i < args->option_count && count < max; i++) {
        if (strcmp(args->option[i].name, name) == 0) {
            out[count++] = args->option[i].value;
        }
    }
    return count;
}

char *hr_args_state(const hr_args *args, bool *out_is_guess) {
    *out_is_guess = false;
    const char *given = hr_args_get(args, "state");
    given = given == NULL ? getenv("HEADRACE_STATE") : given;
    if (given != NULL && given[0] != '\0') {
        return hr_copy_text(given);
    }
    const char *paths[HR_ARGS_MAX];
    size_t count = hr_args_all(args, "config", paths, HR_ARGS_MAX);
    if (count == 0 && access("headrace.yaml", R_OK) == 0) {
        paths[count++] = "headrace.yaml";
    }
    char *state = NULL;
    if (count > 0) {
        hr_diagnostics *diags = hr_diagnostics_new();
        hr_config *config = NULL;
        *out_is_guess = hr_config_load(paths, count, NULL, &config, diags) != HR_OK;
        if (!*out_is_guess) {
            const hr_node *settings = hr_node_get(hr_config_root(config), "settings");
            state = hr_copy_text(hr_node_text(settings, "state", "./.headrace"));
            hr_config_free(config);
        }
        hr_diagnostics_free(diags);
    }
    return state == NULL ? hr_copy_text("./.headrace") : state;
}

int main(int argc, char **argv) {
    json_set_alloc_funcs(hr_alloc, hr_free);
    const char *first = argc < 2 ? NULL : argv[1];
    if (first == NULL || strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 ||
        (strcmp(first, "help") == 0 && argc < 3)) {
        usage(first == NULL ? stderr : stdout);
        return first == NULL ? HR_EXIT_USAGE : HR_EXIT_OK;
    }
    bool is_help = strcmp(first, "help") == 0;
    if (strcmp(first, "--version") == 0) {
        first = "version";
    }
    if (first[0] == '-' && strcmp(first, "--version") != 0) {
        fprintf(stderr, "headrace: the command comes first: headrace <command> %s ...\n", first);
        return HR_EXIT_USAGE;
    }
    hr_args args = {.verb = find_verb(is_help ? argv[2] : first)};
    if (args.verb == NULL) {
        return HR_EXIT_USAGE;
    }
    if (is_help) {
        help(args.verb, stdout);
        return HR_EXIT_OK;
    }
    if (!read_args(&args, argc - 2, argv + 2)) {
        return HR_EXIT_USAGE;
    }
    if (hr_args_has(&args, "help")) {
        help(args.verb, stdout);
        return HR_EXIT_OK;
    }
    if (args.word_count > args.verb->words_max) {
        fprintf(stderr, "headrace %s: '%s' is one word too many; headrace help %s\n",
                args.verb->name, args.word[args.verb->words_max], args.verb->name);
        return HR_EXIT_USAGE;
    }
    return args.verb->run(&args);
}
