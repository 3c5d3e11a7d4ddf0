/* SPDX-License-Identifier: Apache-2.0 */
/* One command of `headrace`: a constant table each, help is made from it. */
#ifndef HR_APP_VERB_H
#define HR_APP_VERB_H

#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HR_EXIT_OK = 0, HR_EXIT_FAILED = 1, HR_EXIT_USAGE = 2, HR_EXIT_CONFIG = 78 };

typedef struct hr_option {
    const char *name;  /* "for": --for VALUE or --for=VALUE */
    char letter;       /* 'c': -c VALUE; 0: none */
    const char *value; /* "DURATION"; NULL: a switch */
    const char *help;
} hr_option;

enum { HR_ARGS_MAX = 64 };

/* What the command line said; strings are those of argv. */
typedef struct hr_args {
    const struct hr_verb *verb;
    struct {
        const char *name, *value; /* of the option; value "" for a switch */
    } option[HR_ARGS_MAX];
    size_t option_count;
    const char *word[HR_ARGS_MAX]; /* the rest */
    size_t word_count;
} hr_args;

typedef struct hr_verb {
    const char *name, *group, *words, *summary;
    const hr_option *options;        /* ends with an empty name; NULL: none of its own */
    const char *examples;            /* lines */
    int (*run)(const hr_args *args); /* the exit status */
    size_t words_max;                /* more is an error */
} hr_verb;

/* Value of an option, NULL: not given. Last wins. */
const char *hr_args_get(const hr_args *args, const char *name);
bool hr_args_has(const hr_args *args, const char *name);

/* The number that an option gives, fallback when it is not given; false (and it is said on stderr):
 * it is no number above 0. */
bool hr_args_number(const hr_args *args, const char *name, int64_t fallback, int64_t *out);

/* All values of an option given several times, in out (at most max). Returns how many. */
size_t hr_args_all(const hr_args *args, const char *name, const char **out, size_t max);

/* The folder of the state: --state, HEADRACE_STATE, settings.state of the file given or found here,
 * ./.headrace. out_is_guess: the last, since that file has errors. Freed with hr_free(). */
char *hr_args_state(const hr_args *args, bool *out_is_guess);

extern const hr_verb hr_verb_run, hr_verb_check, hr_verb_demo, hr_verb_emit, hr_verb_status,
    hr_verb_tap, hr_verb_trace, hr_verb_logs, hr_verb_dlq, hr_verb_checkpoint, hr_verb_schema,
    hr_verb_version, hr_verb_reload, hr_verb_recover;

#endif
