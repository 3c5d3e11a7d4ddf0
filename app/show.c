/* SPDX-License-Identifier: Apache-2.0 */
#include "app/show.h"

#include "broker/dispatch.h"
#include "core/buffer.h"
#include "core/memory.h"
#include "core/time_text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *text_of(const json_t *json, const char *key) {
    const char *text = json_string_value(json_object_get(json, key));
    return text == NULL ? "" : text;
}

static long long number_of(const json_t *json, const char *key) {
    return json_integer_value(json_object_get(json, key));
}

/* Foreign text without control characters, at most width bytes (whole UTF-8 characters). */
static void put(const char *text, int width) {
    int used = 0;
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        if (width > 0 && used >= width && (*at & 0xc0) != 0x80) {
            printf("…");
            return;
        }
        putchar(*at < 0x20 || *at == 0x7f ? ' ' : *at);
        used++;
    }
}

static void put_line(const char *label, const char *text) {
    printf("%s", label);
    put(text, 0);
    putchar('\n');
}

/* Local time; false: the stamp is none. */
static bool local_time(const char *stamp, struct tm *out, int64_t *out_us) {
    if (!hr_time_parse(hr_slice_text(stamp), out_us)) {
        return false;
    }
    time_t seconds = (time_t)(*out_us / 1000000);
    localtime_r(&seconds, out);
    return true;
}

static void put_day(const char *stamp) {
    int64_t us = 0;
    struct tm local;
    char text[32] = "";
    if (local_time(stamp, &local, &us)) {
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local);
    }
    printf("%-19s", text);
}

/* The time of day with milliseconds. */
static void put_time(const char *stamp) {
    int64_t us = 0;
    struct tm local;
    if (!local_time(stamp, &local, &us)) {
        printf("%-12s", stamp);
        return;
    }
    printf("%02d:%02d:%02d.%03d", local.tm_hour, local.tm_min, local.tm_sec,
           (int)(us / 1000 % 1000));
}

void hr_show_note(const json_t *note) {
    const char *what = text_of(note, "what");
    const char *function = text_of(note, "function");
    put_time(text_of(note, "time"));
    printf("  %-10s %s %-12s ", text_of(note, "from"), function[0] == '\0' ? "   " : "──▶",
           function);
    printf("%-10s", what);
    if (number_of(note, "attempt") > 0 && strcmp(what, "delivered") != 0) {
        printf(" %lld of %lld", number_of(note, "attempt"), number_of(note, "attempts_max"));
    }
    if (json_is_real(json_object_get(note, "took_ms"))) {
        printf(" %.1f ms", json_real_value(json_object_get(note, "took_ms")));
    }
    printf("  ");
    put(text_of(note, "subject"), 60);
    if (text_of(note, "text")[0] != '\0' && strcmp(what, "result") != 0) {
        printf("  ");
        put(text_of(note, "text"), 160);
    }
    printf("  [");
    put(text_of(note, "id"), 0);
    printf("]\n");
}

static void show_trigger(const json_t *t) {
    printf("%-16s %-8s %-9s %10lld %6lld %6lld  ", text_of(t, "name"), text_of(t, "kind"),
           text_of(t, "state"), number_of(t, "received"), number_of(t, "duplicates"),
           number_of(t, "malformed"));
    if (json_object_get(t, "lag") != NULL) {
        printf("lag %lld  ", number_of(t, "lag"));
    }
    if (number_of(t, "sessions_lost") > 0) {
        printf("sessions lost %lld  ", number_of(t, "sessions_lost"));
    }
    if (strcmp(text_of(t, "kind"), "mqtt") == 0 && number_of(t, "dropped") > 0) {
        printf("dropped (QoS 0) %lld  ", number_of(t, "dropped"));
    }
    if (strcmp(text_of(t, "intake"), "open") != 0) {
        printf("intake stopped  ");
    }
    put(text_of(t, "reason"), 0);
    putchar('\n');
}

static void show_function(const json_t *f) {
    char from[64] = "";
    size_t index = 0;
    json_t *name = NULL;
    json_array_foreach(json_object_get(f, "from"), index, name) {
        size_t used = strlen(from);
        snprintf(from + used, sizeof from - used, "%s%s", index == 0 ? "" : ",",
                 json_string_value(name));
    }
    printf("%-16s %-16s %-8s %9lld %8lld %6lld %6lld %7lld %8lld %8.1f %8.1f  ", text_of(f, "name"),
           from, text_of(f, "state"), number_of(f, "delivered"), number_of(f, "filtered"),
           number_of(f, "retrying"), number_of(f, "dropped"),
           number_of(f, "dead") + number_of(f, "expired"), number_of(f, "pending"),
           json_real_value(json_object_get(f, "p50_ms")),
           json_real_value(json_object_get(f, "p99_ms")));
    put(text_of(f, "reason"), 0);
    putchar('\n');
}

void hr_show_status(const json_t *status) {
    long long up = number_of(status, "uptime_s");
    printf("running %lldd %lldh %lldm · headrace %s · pid %lld · state %s · intake %s\n\n",
           up / 86400, up / 3600 % 24, up / 60 % 60, text_of(status, "version"),
           number_of(status, "pid"), text_of(status, "state_dir"), text_of(status, "intake"));
    size_t index = 0;
    json_t *row = NULL;
    printf("%-16s %-8s %-9s %10s %6s %6s\n", "TRIGGER", "KIND", "STATE", "RECEIVED", "DUP", "BAD");
    json_array_foreach(json_object_get(status, "triggers"), index, row) {
        show_trigger(row);
    }
    printf("\n%-16s %-16s %-8s %9s %8s %6s %6s %7s %8s %8s %8s\n", "FUNCTION", "FROM", "STATE",
           "DELIVERED", "FILTERED", "RETRY", "DROP", "DEAD", "PENDING", "P50 ms", "P99 ms");
    json_array_foreach(json_object_get(status, "functions"), index, row) {
        show_function(row);
    }
    const json_t *totals = json_object_get(status, "totals");
    printf(
        "\ndeliveries %lld = delivered %lld + filtered %lld + dropped %lld + dead %lld + expired "
        "%lld + pending %lld%s\n",
        number_of(totals, "deliveries"), number_of(totals, "delivered"),
        number_of(totals, "filtered"), number_of(totals, "dropped"), number_of(totals, "dead"),
        number_of(totals, "expired"), number_of(totals, "pending"),
        number_of(totals, "drift") == 0 ? "" : "  (DRIFT: this is a bug, please report it)");
}

static void show_logs(const char *indent, const json_t *lines) {
    size_t index = 0;
    json_t *line = NULL;
    json_array_foreach(lines, index, line) {
        printf("%s", indent);
        put_time(text_of(line, "time"));
        printf("  %-5s %-12s ", text_of(line, "level"), text_of(line, "function"));
        put(text_of(line, "text"), 0);
        putchar('\n');
    }
}

void hr_show_logs(const json_t *answer) {
    const json_t *lines = json_object_get(answer, "lines");
    if (json_array_size(lines) == 0) {
        printf("no lines\n");
    }
    show_logs("", lines);
}

static void show_standing(const json_t *standing) {
    long long attempts = number_of(standing, "attempts");
    printf("  %-16s %s", text_of(standing, "function"), text_of(standing, "state"));
    if (attempts > 0) {
        printf(" after %lld attempt%s", attempts, attempts == 1 ? "" : "s");
    }
    if (json_object_get(standing, "due") != NULL) {
        printf(", due %s", text_of(standing, "due"));
    }
    if (json_is_true(json_object_get(standing, "behind"))) {
        printf(", waits for an earlier event of its key");
    }
    if (json_object_get(standing, "error") != NULL) {
        put_line(": ", text_of(standing, "error"));
    } else {
        putchar('\n');
    }
}

/* Notes live as long as the daemon. */
static bool is_older(const json_t *trace) {
    size_t index = 0;
    const json_t *row = NULL;
    bool misses = json_array_size(json_object_get(trace, "notes")) == 0;
    json_array_foreach(json_object_get(trace, "journal"), index, row) {
        const char *stored = text_of(row, "stored"); /* of Kafka: unknown */
        misses = misses || (stored[0] != '\0' && strcmp(stored, text_of(trace, "since")) < 0);
    }
    return misses && json_is_true(json_object_get(trace, "known"));
}

void hr_show_trace(const json_t *trace) {
    size_t index = 0;
    json_t *row = NULL;
    put_line("event  ", text_of(trace, "id"));
    if (is_older(trace)) {
        printf("calls before the start of the daemon (");
        put_day(text_of(trace, "since"));
        printf("), and those behind many others, are not kept\n");
    }
    json_array_foreach(json_object_get(trace, "notes"), index, row) {
        hr_show_note(row);
    }
    json_array_foreach(json_object_get(trace, "journal"), index, row) {
        printf("journal of %s, position %lld, stored %s\n", text_of(row, "from"),
               number_of(row, "position"), text_of(row, "stored"));
        size_t at = 0;
        json_t *standing = NULL;
        json_array_foreach(json_object_get(row, "functions"), at, standing) {
            show_standing(standing);
        }
    }
    json_array_foreach(json_object_get(trace, "dead"), index, row) {
        const char *state = text_of(row, "state");
        bool is_open = strcmp(state, "dead") == 0;
        if (strcmp(text_of(row, "reason"), HR_DROPPED_BY_FUNCTION) != 0) { /* that is no letter */
            printf("dead letter %lld%s%s: ", number_of(row, "dead"), is_open ? "" : ", ",
                   is_open ? "" : state);
        }
        printf("%s after %lld attempt%s: ", text_of(row, "reason"), number_of(row, "attempts"),
               number_of(row, "attempts") == 1 ? "" : "s");
        put_line("", text_of(row, "error"));
    }
    if (json_array_size(json_object_get(trace, "logs")) > 0) {
        printf("handler lines:\n");
        show_logs("  ", json_object_get(trace, "logs"));
    }
    if (!json_is_true(json_object_get(trace, "known"))) {
        printf("nothing is known of this id: it never came, or it is older than what is kept\n");
    }
}

void hr_show_dead_list(const json_t *answer) {
    const json_t *all = json_object_get(answer, "dead");
    if (json_array_size(all) == 0) {
        printf("no dead letters\n");
        return;
    }
    printf("%-6s %-16s %-20s %8s  %-19s  %s\n", "DEAD", "FUNCTION", "REASON", "ATTEMPTS", "DIED",
           "EVENT, ERROR");
    size_t index = 0;
    json_t *row = NULL;
    json_array_foreach(all, index, row) {
        const char *function = text_of(row, "function");
        printf("%-6lld %-16s %-20s %8lld  ", number_of(row, "dead"),
               function[0] == '\0' ? text_of(row, "trigger") : function, text_of(row, "reason"),
               number_of(row, "attempts"));
        put_day(text_of(row, "died"));
        printf("  ");
        put(text_of(row, "id"), 80);
        printf("  ");
        put(text_of(row, "error"), 100);
        putchar('\n');
    }
    if (number_of(answer, "next") > 0) {
        printf("there are more: headrace dlq ls --from %lld\n", number_of(answer, "next"));
    }
}

void hr_show_dead(const json_t *dead) {
    printf("dead letter %lld (%s)\n", number_of(dead, "dead"), text_of(dead, "state"));
    put_line("event     ", text_of(dead, "id"));
    put_line("trigger   ", text_of(dead, "trigger"));
    put_line("function  ", text_of(dead, "function"));
    put_line("reason    ", text_of(dead, "reason"));
    printf("attempts  %lld\n", number_of(dead, "attempts"));
    put_line("error     ", text_of(dead, "error"));
    put_line("died      ", text_of(dead, "died"));
    const json_t *event = json_object_get(dead, "event");
    char *text = event == NULL ? NULL : json_dumps(event, JSON_INDENT(2));
    if (text != NULL) {
        printf("event:\n%s\n", text);
    } else if (json_object_get(dead, "raw") != NULL) {
        put_line("raw       ", text_of(dead, "raw"));
    } else {
        printf("the event itself is not kept\n");
    }
    hr_free(text);
    if (text_of(dead, "logs")[0] != '\0') {
        printf("last lines of the handler:\n%s", text_of(dead, "logs"));
    }
}

void hr_show_checkpoints(const json_t *answer) {
    printf("%-16s %-40s %14s %14s\n", "FUNCTION", "FEED", "ALL BELOW", "SETTLED ABOVE");
    size_t index = 0;
    json_t *row = NULL;
    json_array_foreach(json_object_get(answer, "checkpoints"), index, row) {
        printf("%-16s %-40s %14lld %14lld\n", text_of(row, "function"), text_of(row, "feed"),
               number_of(row, "low"), number_of(row, "settled_above"));
    }
}

void hr_show_ended(const json_t *answer) {
    const char *key = json_object_get(answer, "dropped") != NULL ? "dropped" : "replayed";
    printf("%s %lld\n", key, number_of(answer, key));
    if (number_of(answer, "skipped") > 0) {
        printf("skipped %lld: ended before, or without a whole event to replay\n",
               number_of(answer, "skipped"));
    }
}
