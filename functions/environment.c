/* SPDX-License-Identifier: Apache-2.0 */
#include "functions/environment.h"

#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096 };

void hr_strings_add(hr_strings *strings, char *take_text) {
    strings->text = hr_realloc(strings->text, (strings->count + 2) * sizeof(char *));
    strings->text[strings->count++] = take_text;
    strings->text[strings->count] = NULL;
}

void hr_strings_fini(hr_strings *strings) {
    for (size_t i = 0; i < strings->count; i++) {
        hr_free(strings->text[i]);
    }
    hr_free(strings->text);
    *strings = (hr_strings){0};
}

void hr_environment(hr_strings *out, const hr_runtime *runtime) {
    static const char *const kept[] = {"PATH", "HOME", "LANG", "TZ"};
    const hr_node *env = hr_node_get(runtime->config, "env");
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        const char *value = getenv(kept[i]);
        if (value != NULL && hr_node_get(env, kept[i]) == NULL) {
            hr_strings_add(out, hr_format("%s=%s", kept[i], value));
        }
    }
    for (const hr_node *n = env == NULL ? NULL : env->child; n != NULL; n = n->next) {
        hr_strings_add(out, hr_format("%s=%s", n->key, n->text == NULL ? "" : n->text));
    }
    hr_strings_add(out, hr_format("HEADRACE_FUNCTION=%s", runtime->name));
}

struct hr_lines {
    int fd;
    hr_watch *watch;
    hr_buffer in;
    void (*each)(void *data, hr_slice line);
    void *data;
};

static void give_lines(hr_lines *lines, bool is_end) {
    while (lines->in.size > 0) {
        uint8_t *end = memchr(lines->in.bytes, '\n', lines->in.size);
        size_t size = end == NULL ? lines->in.size : (size_t)(end - lines->in.bytes);
        if (end == NULL && size < LINE_MAX_BYTES && !is_end) {
            return;
        }
        if (size > LINE_MAX_BYTES) {
            size = LINE_MAX_BYTES;
            end = NULL;
        }
        size_t text = size > 0 && lines->in.bytes[size - 1] == '\r' ? size - 1 : size;
        if (text > 0) {
            lines->each(lines->data, hr_slice_of(lines->in.bytes, text));
        }
        hr_buffer_consume(&lines->in, size + (end == NULL ? 0 : 1));
    }
}

static void on_ready(void *data, int events) {
    (void)events;
    hr_lines *lines = data;
    for (int turn = 0; turn < 16; turn++) { /* a flood of output must not hold up the loop */
        uint8_t *room = hr_buffer_room(&lines->in, 65536);
        ssize_t got = read(lines->fd, room, 65536);
        if (got <= 0) {
            if (got == 0) {
                hr_watch_set(lines->watch, 0);
                give_lines(lines, true);
            }
            return;
        }
        lines->in.size += (size_t)got;
        give_lines(lines, false);
    }
}

hr_lines *hr_lines_new(hr_loop *loop, int fd, void (*each)(void *data, hr_slice line), void *data) {
    hr_lines *lines = hr_alloc(sizeof *lines);
    lines->fd = fd;
    lines->each = each;
    lines->data = data;
    lines->watch = hr_watch_new(loop, fd, on_ready, lines);
    hr_watch_set(lines->watch, HR_WATCH_READ);
    return lines;
}

void hr_lines_drain(hr_lines *lines) {
    if (lines != NULL) {
        on_ready(lines, HR_WATCH_READ);
        give_lines(lines, true);
    }
}

void hr_lines_free(hr_lines *take_lines) {
    if (take_lines != NULL) {
        hr_watch_free(take_lines->watch);
        close(take_lines->fd);
        hr_buffer_fini(&take_lines->in);
        hr_free(take_lines);
    }
}

hr_code hr_pipe(int out[2], bool we_read, hr_error *err) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return hr_fail(err, HR_E_IO, errno, "a pipe: %s", strerror(errno));
    }
    out[0] = ends[we_read ? 0 : 1];
    out[1] = ends[we_read ? 1 : 0];
    fcntl(out[0], F_SETFL, fcntl(out[0], F_GETFL) | O_NONBLOCK);
    return HR_OK;
}
