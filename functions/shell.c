/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime shell: one process an event. Data on stdin, attributes as CE_..., stdout is the
 * result, stderr is the log; exit 0 done, 75 retry, 65 dead letter, anything else by the retry
 * policy. */
#include "core/envelope.h"
#include "core/json_text.h"
#include "core/log.h"
#include "core/memory.h"
#include "functions/environment.h"
#include "functions/registry.h"
#include "functions/reply.h"
#include "functions/spawn.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_DEAD = 65, EXIT_RETRY = 75, TAIL_BYTES = 400, ENV_VALUE_MAX = 16384 };

typedef struct shell {
    hr_runtime runtime; /* first */
    struct run *runs;
    bool is_stopping;
} shell;

typedef struct begin_message begin_message;

/* One call: its events one after the other, a process each. */
typedef struct run {
    shell *shell;
    hr_reply reply;
    begin_message *begin; /* on its way, NULL: begun */
    uint64_t handle;
    hr_watch *out_watch;
    int out_fd;
    hr_buffer out;
    hr_lines *errors;
    char tail[TAIL_BYTES];
    bool is_cancelled;
    struct run *next, **link;
} run;

static void start_event(run *r);

/* The event's data, whole before the process begins: were it written while it runs, an end of the
 * daemon would look to the process like the end of a shorter event. Negative: errno tells. */
static int input_of(hr_slice body) {
    int fd = memfd_create("event", MFD_CLOEXEC);
    for (size_t done = 0; fd >= 0 && done < body.size;) {
        ssize_t wrote = pwrite(fd, body.bytes + done, body.size - done, (off_t)done);
        if (wrote > 0) {
            done += (size_t)wrote;
        } else if (wrote == 0 || errno != EINTR) {
            int number = wrote == 0 ? ENOSPC : errno;
            close(fd);
            errno = number;
            return -1;
        }
    }
    return fd;
}

static void on_out(void *data, int events) {
    (void)events;
    run *r = data;
    for (;;) {
        uint8_t *room = hr_buffer_room(&r->out, 65536);
        ssize_t got = read(r->out_fd, room, 65536);
        if (got <= 0) {
            if (got == 0) {
                hr_watch_set(r->out_watch, 0);
            }
            return;
        }
        r->out.size += (size_t)got;
        if (r->out.size > HR_RESULT_MAX) {
            r->out.size = HR_RESULT_MAX + 1; /* read on, so that it can end, but keep no more */
        }
    }
}

static void on_error_line(void *data, hr_slice line) {
    run *r = data;
    size_t size = line.size < TAIL_BYTES - 1 ? line.size : TAIL_BYTES - 1;
    memcpy(r->tail, line.bytes, size);
    r->tail[size] = '\0';
    const hr_event_ref *ref = hr_reply_event(&r->reply);
    r->shell->runtime.host->line(&r->shell->runtime, hr_batch_id(ref->batch, ref->index),
                                 ref->attempt, HR_LOG_INFO, line);
}

static void close_event(run *r) {
    if (r->out_watch != NULL) {
        on_out(r, 0);
        hr_watch_free(r->out_watch);
        close(r->out_fd);
        r->out_watch = NULL;
    }
    hr_lines_drain(r->errors);
    hr_lines_free(r->errors);
    r->errors = NULL;
}

static void free_run(run *r) {
    *r->link = r->next;
    if (r->next != NULL) {
        r->next->link = r->link;
    }
    hr_buffer_fini(&r->out);
    hr_reply_fini(&r->reply);
    hr_free(r);
}

static void finish(run *r, hr_code failure, const char *why) {
    shell *s = r->shell;
    hr_reply_give(&r->reply, failure, why);
    free_run(r);
    if (s->is_stopping && s->runs == NULL) {
        s->runtime.host->stopped(&s->runtime);
    }
}

static bool is_json(hr_slice text) {
    if (text.bytes[0] != '{' && text.bytes[0] != '[') {
        return false; /* a word or a number is text */
    }
    json_t *json = hr_json_load(text, JSON_ALLOW_NUL, NULL);
    json_decref(json);
    return json != NULL;
}

static bool is_text(hr_slice text) {
    if (memchr(text.bytes, '\0', text.size) != NULL) {
        return false;
    }
    json_t *string = json_stringn((const char *)text.bytes, text.size);
    json_decref(string);
    return string != NULL;
}

static void keep_output(run *r) {
    bool is_cut = r->out.size > HR_RESULT_MAX; /* then the size tells */
    while (!is_cut && r->out.size > 0 && isspace(r->out.bytes[r->out.size - 1])) {
        r->out.size--;
    }
    if (r->out.size == 0) {
        return;
    }
    hr_slice data = hr_slice_of(r->out.bytes, r->out.size);
    hr_result result = {.data = data, .is_json = is_json(data)};
    result.is_text = !result.is_json && is_text(data);
    hr_reply_result(&r->reply, &result);
}

static void on_exited(void *data, int status) {
    run *r = data;
    close_event(r);
    char text[80], why[TAIL_BYTES + 100];
    hr_spawn_status_text(status, text, sizeof text);
    snprintf(why, sizeof why, "%s%s%s", r->tail, r->tail[0] == '\0' ? "" : " · ", text);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (r->is_cancelled) {
        char timeout[80];
        snprintf(timeout, sizeof timeout, "no end within %u ms, the process was killed",
                 r->shell->runtime.timeout_ms);
        finish(r, HR_E_CALL_TIMEOUT, timeout);
        return;
    }
    if (code == 0) {
        keep_output(r);
    } else {
        hr_reply_except(&r->reply, code == EXIT_DEAD ? HR_OUTCOME_DEAD : HR_OUTCOME_RETRY, -1, why);
    }
    if (hr_reply_next(&r->reply)) {
        start_event(r);
    } else {
        finish(r, HR_OK, NULL);
    }
}

static void on_started(void *data, int pid, int error) {
    run *r = data;
    (void)pid;
    if (error != 0) {
        close_event(r);
        finish(r, HR_E_CALL_UNSTARTED, strerror(error));
    }
}

static void add_attribute(hr_strings *env, const char *name, hr_slice value) {
    size_t size = value.size < ENV_VALUE_MAX ? value.size : ENV_VALUE_MAX;
    if (memchr(value.bytes == NULL ? (const uint8_t *)"" : value.bytes, '\0', size) == NULL) {
        hr_strings_add(env, hr_format("CE_%s=%.*s", name, (int)size, (const char *)value.bytes));
    }
}

static void event_environment(hr_strings *env, const hr_event_ref *ref) {
    add_attribute(env, "ID", hr_batch_id(ref->batch, ref->index));
    add_attribute(env, "TYPE", hr_batch_type(ref->batch, ref->index));
    add_attribute(env, "SOURCE", hr_batch_source(ref->batch, ref->index));
    size_t cursor = 0;
    hr_attribute attribute;
    hr_buffer text = {0};
    while (hr_envelope_next_attribute(hr_batch_envelope(ref->batch, ref->index), &cursor,
                                      &attribute)) {
        char name[HR_ATTRIBUTE_NAME_MAX + 1];
        size_t size = attribute.name.size < sizeof name ? attribute.name.size : sizeof name - 1;
        for (size_t i = 0; i < size; i++) {
            name[i] = (char)toupper(attribute.name.bytes[i]);
        }
        name[size] = '\0';
        text.size = 0;
        hr_attribute_print(&attribute, &text);
        add_attribute(env, name, hr_slice_of(text.bytes, text.size));
    }
    hr_buffer_fini(&text);
    hr_strings_add(env, hr_format("HEADRACE_ATTEMPT=%u", (unsigned)ref->attempt));
}

static void start_event(run *r) {
    shell *s = r->shell;
    const hr_event_ref *ref = hr_reply_event(&r->reply);
    int out[2] = {-1, -1}, errors[2] = {-1, -1};
    hr_error err = {0};
    r->tail[0] = '\0';
    r->out.size = 0;
    int in = input_of(hr_batch_data(ref->batch, ref->index));
    if (in < 0) {
        hr_fail(&err, HR_E_IO, errno, "memory for its input: %s", strerror(errno));
    }
    if (in < 0 || hr_pipe(out, true, &err) != HR_OK || hr_pipe(errors, true, &err) != HR_OK) {
        int all[] = {in, out[0], out[1], errors[0], errors[1]};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
            if (all[i] >= 0) {
                close(all[i]);
            }
        }
        finish(r, HR_E_CALL_UNSTARTED, err.text);
        return;
    }
    r->out_fd = out[0];
    r->out_watch = hr_watch_new(s->runtime.loop, r->out_fd, on_out, r);
    r->errors = hr_lines_new(s->runtime.loop, errors[0], on_error_line, r);
    hr_watch_set(r->out_watch, HR_WATCH_READ);
    hr_strings env = {0};
    hr_environment(&env, &s->runtime);
    event_environment(&env, ref);
    const char *argv[] = {"/bin/sh", "-c", s->runtime.kind_config->text, NULL};
    hr_spawn_request request = {.argv = argv,
                                .env = (const char *const *)env.text,
                                .cwd = s->runtime.config_dir,
                                .fds = {in, out[1], errors[1], -1},
                                .started = on_started,
                                .exited = on_exited,
                                .data = r};
    r->handle = hr_spawn(&request);
    hr_strings_fini(&env);
}

struct begin_message {
    hr_message message; /* first */
    run *run;           /* NULL: gone */
};

static void on_begin(hr_message *message) {
    begin_message *begin = (begin_message *)message;
    if (begin->run != NULL) {
        begin->run->begin = NULL;
        start_event(begin->run);
    }
    hr_free(begin);
}

static hr_code init(hr_runtime *self, hr_error *err) {
    (void)self; /* the command is a text, nothing else is needed */
    (void)err;
    return HR_OK;
}

static hr_code start(hr_runtime *self, hr_error *err) {
    (void)err;
    self->host->room(self, self->concurrency);
    return HR_OK;
}

static void call(hr_runtime *self, hr_call *call) {
    shell *s = (shell *)self;
    run *r = hr_alloc(sizeof *r);
    r->shell = s;
    hr_reply_init(&r->reply, self, call);
    r->next = s->runs;
    r->link = &s->runs;
    if (r->next != NULL) {
        r->next->link = &r->next;
    }
    s->runs = r;
    call->slot = r;
    begin_message *begin = hr_alloc(sizeof *begin); /* an answer must not come from within call() */
    *begin = (begin_message){.message = {.run = on_begin}, .run = r};
    r->begin = begin;
    hr_loop_post(self->loop, &begin->message);
}

static void cancel(hr_runtime *self, hr_call *call) {
    (void)self;
    run *r = call->slot;
    r->is_cancelled = true;
    hr_spawn_kill(r->handle);
}

static void stop(hr_runtime *self) {
    shell *s = (shell *)self;
    s->is_stopping = true;
    if (s->runs == NULL) {
        self->host->stopped(self);
    }
}

static void fini(hr_runtime *self) {
    shell *s = (shell *)self;
    while (s->runs != NULL) {
        run *r = s->runs;
        if (r->begin != NULL) {
            r->begin->run = NULL;
        } else {
            hr_spawn_forget(r->handle);
            close_event(r);
        }
        free_run(r);
    }
}

const hr_runtime_ops hr_shell_ops = {.kind = "shell",
                                     .object_size = sizeof(shell),
                                     .init = init,
                                     .start = start,
                                     .call = call,
                                     .cancel = cancel,
                                     .stop = stop,
                                     .fini = fini};
