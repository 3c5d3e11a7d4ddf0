/* SPDX-License-Identifier: Apache-2.0 */
#include "app/handler_log.h"

#include "app/json_parts.h"
#include "app/note_ring.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/time_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOG_FILES = 4 };

typedef struct line {
    char *function, *event_id, *text;
    int attempt, level;
    int64_t real_us;
} line;

struct hr_handler_log {
    line *lines;
    uint64_t next_line;
    char *dir;
    uint64_t max_bytes, file_bytes;
    int fd;
};

hr_handler_log *hr_handler_log_new(const char *dir, uint64_t max_bytes) {
    hr_handler_log *log = hr_alloc(sizeof *log);
    log->lines = hr_alloc_array(HR_HANDLER_LINES, sizeof *log->lines);
    log->dir = hr_copy_text(dir);
    log->max_bytes = max_bytes;
    log->fd = -1;
    if (dir != NULL && mkdir(dir, 0700) != 0 && errno != EEXIST) {
        hr_log(HR_LOG_WARN, "logs", "cannot make '%s': %s; handler lines stay in memory", dir,
               strerror(errno));
    }
    return log;
}

static void free_line(line *l) {
    hr_free(l->function);
    hr_free(l->event_id);
    hr_free(l->text);
}

void hr_handler_log_free(hr_handler_log *take_log) {
    if (take_log == NULL) {
        return;
    }
    for (size_t i = 0; i < HR_HANDLER_LINES; i++) {
        free_line(&take_log->lines[i]);
    }
    if (take_log->fd >= 0) {
        close(take_log->fd);
    }
    hr_free(take_log->lines);
    hr_free(take_log->dir);
    hr_free(take_log);
}

static json_t *line_json(const line *l) {
    char stamp[HR_TIME_TEXT];
    hr_time_print(l->real_us, stamp);
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    return json_pack("{s:s, s:s, s:s, s:o, s:i, s:o}", "time", stamp, "level", levels[l->level & 3],
                     "function", l->function, "event", hr_text_json(hr_slice_text(l->event_id)),
                     "attempt", l->attempt, "text", hr_text_json(hr_slice_text(l->text)));
}

static char *file_name(const hr_handler_log *log, int number) {
    return number == 0 ? hr_format("%s/functions.jsonl", log->dir)
                       : hr_format("%s/functions.%d.jsonl", log->dir, number);
}

static void rotate(hr_handler_log *log) {
    if (log->fd >= 0) {
        close(log->fd);
        log->fd = -1;
    }
    for (int i = LOG_FILES - 1; i >= 0 && log->file_bytes > 0; i--) {
        char *from = file_name(log, i);
        char *to = file_name(log, i + 1);
        if (i == LOG_FILES - 1) {
            unlink(from);
        } else {
            rename(from, to);
        }
        hr_free(from);
        hr_free(to);
    }
    char *name = file_name(log, 0);
    log->fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    struct stat info;
    log->file_bytes = log->fd >= 0 && fstat(log->fd, &info) == 0 ? (uint64_t)info.st_size : 0;
    hr_free(name);
}

static void write_line(hr_handler_log *log, const line *l) {
    if (log->dir == NULL) {
        return;
    }
    if (log->fd < 0 || log->file_bytes > log->max_bytes / LOG_FILES) {
        rotate(log);
    }
    json_t *json = line_json(l);
    char *text = json_dumps(json, JSON_COMPACT);
    if (text != NULL && log->fd >= 0) {
        size_t size = strlen(text);
        text[size] = '\n'; /* in place of the terminator: one write, one line */
        ssize_t wrote = write(log->fd, text, size + 1);
        log->file_bytes += wrote > 0 ? (uint64_t)wrote : 0;
    }
    hr_free(text);
    json_decref(json);
}

static char *cut(hr_slice text, size_t max) {
    return text.size == 0 ? NULL : hr_copy_bytes(text.bytes, text.size < max ? text.size : max);
}

void hr_handler_log_add(hr_handler_log *log, const char *function, hr_slice event_id, int attempt,
                        int level, hr_slice text, int64_t real_us) {
    line *l = &log->lines[log->next_line++ % HR_HANDLER_LINES];
    free_line(l);
    *l = (line){.function = hr_copy_text(function),
                .event_id = cut(event_id, HR_NOTE_ID_MAX),
                .text = hr_copy_bytes(text.bytes, text.size < 4096 ? text.size : 4096),
                .attempt = attempt,
                .level = level,
                .real_us = real_us};
    write_line(log, l);
}

static bool is_line_of(const line *l, const char *function, hr_slice event_id) {
    return l->function != NULL && strcmp(l->function, function) == 0 && l->event_id != NULL &&
           hr_slice_is(event_id, l->event_id);
}

void hr_handler_log_of(const hr_handler_log *log, const char *function, hr_slice event_id,
                       size_t max, hr_buffer *out) {
    uint64_t first = log->next_line > HR_HANDLER_LINES ? log->next_line - HR_HANDLER_LINES : 0;
    size_t count = 0;
    for (uint64_t i = first; i < log->next_line; i++) {
        count += is_line_of(&log->lines[i % HR_HANDLER_LINES], function, event_id) ? 1 : 0;
    }
    for (uint64_t i = first; i < log->next_line; i++) {
        const line *l = &log->lines[i % HR_HANDLER_LINES];
        if (is_line_of(l, function, event_id) && count-- <= max) {
            hr_buffer_print(out, "%s\n", l->text);
        }
    }
}

static bool wants(const json_t *json, const char *function, const char *event_id) {
    const char *of = json_string_value(json_object_get(json, "function"));
    const char *event = json_string_value(json_object_get(json, "event"));
    return of != NULL && event != NULL && (function == NULL || strcmp(of, function) == 0) &&
           (event_id == NULL || strcmp(event, event_id) == 0);
}

static void read_file(const char *name, const char *function, const char *event_id, size_t max,
                      json_t *out) {
    FILE *file = fopen(name, "re");
    if (file == NULL) {
        return;
    }
    char *text = NULL;
    size_t capacity = 0;
    while (getline(&text, &capacity, file) > 0) {
        json_t *json = json_loads(text, 0, NULL);
        if (json != NULL && wants(json, function, event_id)) {
            json_array_append(out, json);
            if (json_array_size(out) > max) {
                json_array_remove(out, 0);
            }
        }
        json_decref(json);
    }
    hr_free(text);
    fclose(file);
}

json_t *hr_handler_log_find(const hr_handler_log *log, const char *function, const char *event_id,
                            size_t max) {
    json_t *array = json_array();
    if (log->dir != NULL) {
        for (int i = LOG_FILES - 1; i >= 0; i--) {
            char *name = file_name(log, i);
            read_file(name, function, event_id, max, array);
            hr_free(name);
        }
        return array;
    }
    for (uint64_t i = 0; i < HR_HANDLER_LINES; i++) {
        const line *l = &log->lines[(log->next_line + i) % HR_HANDLER_LINES];
        if (l->function != NULL) {
            json_t *json = line_json(l);
            if (wants(json, function, event_id)) {
                json_array_append(array, json);
            }
            json_decref(json);
        }
    }
    while (json_array_size(array) > max) {
        json_array_remove(array, 0);
    }
    return array;
}
