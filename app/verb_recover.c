/* SPDX-License-Identifier: Apache-2.0 */
/* headrace recover: a new state out of what can be read of a damaged one. */
#include "app/verb.h"
#include "broker/recover.h"
#include "core/log.h"
#include "core/memory.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

typedef struct report {
    json_t *tables, *lost, *mended;
} report;

static void on_table(void *data, const char *name, uint64_t saved) {
    const report *r = data;
    json_object_set_new(r->tables, name, json_integer((json_int_t)saved));
}

static void on_line(void *data, bool is_loss, const char *text) {
    const report *r = data;
    json_array_append_new(is_loss ? r->lost : r->mended, json_string(text));
}

static void print_text(const report *r, const char *from, const char *to) {
    const char *name = NULL;
    json_t *value = NULL;
    size_t i = 0;
    printf("saved from %s in %s:\n", from, to);
    json_object_foreach(r->tables, name, value) {
        printf("  %-12s %lld\n", name, (long long)json_integer_value(value));
    }
    json_array_foreach(r->mended, i, value) {
        printf("note: %s\n", json_string_value(value));
    }
    json_array_foreach(r->lost, i, value) {
        printf("lost: %s\n", json_string_value(value));
    }
    if (json_array_size(r->lost) == 0) {
        printf("nothing was lost\n");
    }
    printf("use it with --state %s, or put it where the damaged one is\n", to);
}

static int recover(const hr_args *args) {
    bool is_guess = false;
    char *from = hr_args_state(args, &is_guess);
    size_t size = strlen(from);
    while (size > 1 && from[size - 1] == '/') {
        from[--size] = '\0';
    }
    const char *given = hr_args_get(args, "to");
    char *to = given == NULL ? hr_format("%s.recovered", from) : hr_copy_text(given);
    report r = {.tables = json_object(), .lost = json_array(), .mended = json_array()};
    hr_recovery told = {.data = &r, .table = on_table, .line = on_line};
    hr_error err = {0};
    hr_log_set_level(HR_LOG_ERROR);
    hr_code code = hr_store_recover(from, to, &told, &err);
    int exit_code = code == HR_OK && json_array_size(r.lost) == 0 ? HR_EXIT_OK : HR_EXIT_FAILED;
    if (code != HR_OK) {
        fprintf(stderr, "headrace: %s\n", err.text);
    } else if (hr_args_has(args, "json")) {
        json_t *all = json_pack("{s:s, s:s, s:O, s:O, s:O}", "from", from, "to", to, "tables",
                                r.tables, "lost", r.lost, "notes", r.mended);
        char *text = json_dumps(all, JSON_INDENT(2));
        printf("%s\n", text == NULL ? "null" : text);
        hr_free(text);
        json_decref(all);
    } else {
        print_text(&r, from, to);
    }
    json_decref(r.tables);
    json_decref(r.lost);
    json_decref(r.mended);
    hr_free(to);
    hr_free(from);
    return exit_code;
}

static const hr_option recover_options[] = {
    {"to", 0, "DIR", "the new state; default the folder of the damaged one with .recovered"},
    {NULL, 0, NULL, NULL}};

const hr_verb hr_verb_recover = {
    "recover",
    "Repair",
    "[--state DIR] [--to DIR]",
    "save what can be saved of a damaged state in a new one",
    recover_options,
    "  headrace recover --state /var/lib/headrace\n"
    "  headrace recover --state /var/lib/headrace --to /var/lib/headrace.new --json\n"
    "  mv /var/lib/headrace /var/lib/headrace.damaged\n"
    "  mv /var/lib/headrace.recovered /var/lib/headrace\n",
    recover,
    0};
