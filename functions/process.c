/* SPDX-License-Identifier: Apache-2.0 */
/* The runtimes python and exec: a pool of warm workers, each with one call at a time over its
 * socket. A worker that ends or answers garbage is replaced; what it held is answered as failed. */
#include "core/envelope.h"
#include "core/log.h"
#include "core/memory.h"
#include "functions/environment.h"
#include "functions/registry.h"
#include "functions/spawn.h"
#include "functions/worker_program.h"
#include "functions/worker_wire.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    WORKERS_MAX = 256, /* as schemas/config.def has it */
    BACKOFF_MIN_MS = 500,
    BACKOFF_MAX_MS = 30000,
    STOP_MS = 2000,   /* from BYE to the end */
    LINGER_MS = 1000, /* from a closed socket to the end */
    RECEIVE_BYTES = 65536,
    SOCKET_BYTES = 4 << 20, /* of a call may lie in the socket, or what the kernel allows */
    KEPT_BYTES = 1 << 20,   /* of a buffer that is empty */
    TAIL_BYTES = 512
};

static_assert(HR_ENVELOPE_MAX * 2 < HR_FRAME_MAX, "one event always fits into a frame");

typedef struct pool pool;
typedef struct late_answer late_answer;

typedef struct worker {
    pool *pool;
    uint64_t handle;
    int fd;
    hr_watch *watch;
    hr_lines *lines; /* stdout and stderr */
    hr_buffer in, out;
    hr_call *call;
    uint32_t sent; /* events of the call that are in its frame */
    hr_timer *again;
    hr_timer *linger; /* it closed its socket: so long it may take to end by itself */
    uint32_t backoff_ms;
    bool is_running;   /* started, and not seen to end */
    bool is_ready;     /* takes calls: said hello and is not being ended */
    bool is_doomed;    /* killed: what still comes from it does not count */
    bool is_proven;    /* had a call since its start */
    bool wants_places; /* by its hello */
    bool is_cancelled;
    char tail[TAIL_BYTES]; /* the newest line it printed outside the protocol */
    char garbage[TAIL_BYTES];
} worker;

struct pool {
    hr_runtime runtime; /* first */
    uint32_t count;
    worker *workers;
    hr_wire_answer *wire; /* the answer that is being read */
    hr_timer *grace;
    late_answer *lates;
    bool is_stopping;
};

static void start_worker(void *data);

static uint32_t count_ready(const pool *p) {
    uint32_t ready = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        ready += p->workers[i].is_ready ? 1 : 0;
    }
    return ready;
}

static void tell_room(pool *p) {
    p->runtime.host->room(&p->runtime, count_ready(p));
}

/* A worker ended before it had any work; the function is down when it was the last. */
static void tell_useless(pool *p, const char *why) {
    if (count_ready(p) == 0) {
        p->runtime.host->down(&p->runtime, why);
    } else {
        p->runtime.host->line(&p->runtime, (hr_slice){0}, 0, HR_LOG_WARN, hr_slice_text(why));
    }
}

/* Gives back what an unusually large frame took. */
static void trim(hr_buffer *buffer) {
    if (buffer->size == 0 && buffer->capacity > KEPT_BYTES) {
        hr_buffer_fini(buffer);
    }
}

/* No call comes to it any more. */
static void doom(worker *w) {
    bool was_ready = w->is_ready;
    w->is_ready = false;
    w->is_doomed = true;
    if (was_ready) {
        tell_room(w->pool);
    }
}

/* Ends a worker that is of no use any more; on_exited() follows and no call comes before. */
static void kill_worker(worker *w) {
    hr_spawn_kill(w->handle);
    doom(w);
}

static void on_linger(void *data) {
    worker *w = data;
    hr_spawn_kill(w->handle);
}

static void answer_failure(worker *w, hr_code code, const char *why) {
    hr_call *call = w->call;
    w->call = NULL;
    hr_answer answer = {.call = call->id, .failure = code, .why = hr_slice_text(why)};
    w->pool->runtime.host->answer(&w->pool->runtime, &answer);
}

static void on_output(void *data, hr_slice line) {
    worker *w = data;
    size_t size = line.size < TAIL_BYTES - 1 ? line.size : TAIL_BYTES - 1;
    memcpy(w->tail, line.bytes, size);
    w->tail[size] = '\0';
    hr_slice id = {0};
    int attempt = 0;
    if (w->call != NULL && w->call->count == 1) {
        id = hr_batch_id(w->call->events[0].batch, w->call->events[0].index);
        attempt = w->call->events[0].attempt;
    }
    w->pool->runtime.host->line(&w->pool->runtime, id, attempt, HR_LOG_INFO, line);
}

static void close_worker(worker *w) {
    hr_timer_stop(w->linger);
    hr_lines_drain(w->lines);
    hr_lines_free(w->lines);
    w->lines = NULL;
    if (w->watch != NULL) {
        hr_watch_free(w->watch);
        close(w->fd);
    }
    w->watch = NULL;
    w->in.size = w->out.size = 0;
    w->is_running = w->is_ready = w->is_proven = false;
}

static void check_stopped(pool *p) {
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->workers[i].is_running) {
            return;
        }
    }
    p->runtime.host->stopped(&p->runtime);
}

/* At once the first time, then ever later until one proves itself. */
static void start_later(worker *w) {
    hr_timer_start(w->again, w->backoff_ms, 0);
    w->backoff_ms = w->backoff_ms == 0 ? BACKOFF_MIN_MS : w->backoff_ms * 2;
    if (w->backoff_ms > BACKOFF_MAX_MS) {
        w->backoff_ms = BACKOFF_MAX_MS;
    }
}

/* The worker is gone; why tells it in words. */
static void on_gone(worker *w, const char *why) {
    pool *p = w->pool;
    bool was_ready = w->is_ready;
    bool is_proven = w->is_proven;
    close_worker(w);
    char text[TAIL_BYTES * 2 + 32];
    snprintf(text, sizeof text, "%s%s%s", w->garbage[0] != '\0' ? w->garbage : why,
             w->tail[0] == '\0' ? "" : "; last output: ", w->tail);
    if (p->is_stopping) {
        check_stopped(p);
        return;
    }
    if (was_ready) {
        tell_room(p);
    }
    if (is_proven) {
        w->backoff_ms = 0;
    } else {
        tell_useless(p, text);
    }
    start_later(w);
    if (w->call != NULL) {
        char timeout[80];
        snprintf(timeout, sizeof timeout, "no answer within %u ms, the worker was ended",
                 p->runtime.timeout_ms);
        answer_failure(w,
                       w->is_cancelled         ? HR_E_CALL_TIMEOUT
                       : w->garbage[0] != '\0' ? HR_E_CALL_GARBAGE
                                               : HR_E_CALL_CRASHED,
                       w->is_cancelled ? timeout : text);
    }
}

static void on_answer(worker *w, hr_slice body) {
    pool *p = w->pool;
    hr_error err = {0};
    hr_lines_drain(w->lines); /* what it printed before belongs to this call */
    hr_code code = hr_frame_answer(body, &p->runtime, w->call, w->sent, p->wire, &err);
    hr_batch *results = hr_results_finish(&p->wire->results);
    if (code != HR_OK) {
        hr_batch_unref(results);
        snprintf(w->garbage, sizeof w->garbage, "the worker's answer cannot be read: %s", err.text);
        kill_worker(w);
        return;
    }
    hr_answer answer = {.call = w->call->id,
                        .exceptions = p->wire->exceptions,
                        .exception_count = p->wire->exception_count,
                        .take_results = results,
                        .causes = p->wire->results.causes};
    w->call = NULL;
    p->runtime.host->answer(&p->runtime, &answer);
}

static void on_hello(worker *w, hr_slice body) {
    pool *p = w->pool;
    hr_wire_hello hello = {0};
    if (!hr_frame_hello(body, &hello)) {
        snprintf(w->garbage, sizeof w->garbage, "the worker's hello cannot be read");
        kill_worker(w);
    } else if (hello.error.size > 0) {
        snprintf(w->garbage, sizeof w->garbage, "%.*s",
                 (int)(hello.error.size < TAIL_BYTES ? hello.error.size : TAIL_BYTES - 1),
                 (const char *)hello.error.bytes);
        kill_worker(w);
    } else {
        w->wants_places = (hello.flags & HR_HELLO_PLACES) != 0;
        w->is_ready = true;
        p->runtime.host->down(&p->runtime, NULL);
        tell_room(p);
    }
}

static void on_frame(worker *w, const hr_frame *frame) {
    hr_wire_log log;
    if (frame->type == HR_FRAME_HELLO && !w->is_ready && !w->pool->is_stopping) {
        on_hello(w, frame->body);
    } else if (frame->type == HR_FRAME_ANSWER) {
        if (w->call != NULL && w->call->id == frame->call) {
            on_answer(w, frame->body);
        } /* else: of a call that was given up */
    } else if (frame->type == HR_FRAME_LOG && hr_frame_log(frame->body, &log)) {
        w->pool->runtime.host->line(&w->pool->runtime, log.event_id, (int)log.attempt,
                                    (int)log.level, log.text);
    } /* unknown types are ignored */
}

static void read_frames(worker *w) {
    size_t used = 0;
    hr_frame frame;
    bool is_bad = false;
    while (!w->is_doomed &&
           hr_frame_read(hr_slice_of(w->in.bytes + used, w->in.size - used), &frame, &is_bad)) {
        used += frame.size;
        on_frame(w, &frame);
    }
    hr_buffer_consume(&w->in, used);
    trim(&w->in);
    if (is_bad && w->garbage[0] == '\0') {
        snprintf(w->garbage, sizeof w->garbage,
                 "what the worker wrote to its socket is no frame (protocol version %d)",
                 HR_FRAME_VERSION);
        kill_worker(w);
    }
}

static void flush(worker *w) {
    while (w->out.size > 0) {
        ssize_t wrote = send(w->fd, w->out.bytes, w->out.size, MSG_NOSIGNAL);
        if (wrote <= 0) {
            break; /* full, or gone: then exited() tells */
        }
        hr_buffer_consume(&w->out, (size_t)wrote);
    }
    trim(&w->out);
    hr_watch_set(w->watch, HR_WATCH_READ | (w->out.size > 0 ? HR_WATCH_WRITE : 0));
}

/* Reads what is there, at most so many pieces. False: the worker has closed its end. */
static bool receive(worker *w, int pieces) {
    bool is_open = true;
    while (pieces-- > 0) {
        uint8_t *room = hr_buffer_room(&w->in, RECEIVE_BYTES);
        ssize_t got = recv(w->fd, room, RECEIVE_BYTES, MSG_DONTWAIT);
        if (got <= 0) {
            is_open = got < 0 && (errno == EAGAIN || errno == EINTR);
            break;
        }
        w->in.size += (size_t)got;
    }
    read_frames(w);
    return is_open;
}

static void on_socket(void *data, int events) {
    worker *w = data;
    if (events & HR_WATCH_WRITE) {
        flush(w);
    }
    if ((events & HR_WATCH_READ) && !receive(w, 16)) {
        hr_watch_set(w->watch, 0);
        if (!w->pool->is_stopping) {
            doom(w); /* most likely it ends, and its exit status tells more than a signal */
            hr_timer_start(w->linger, LINGER_MS, 0);
        }
    }
}

static void on_exited(void *data, int status) {
    worker *w = data;
    receive(w,
            HR_FRAME_MAX / RECEIVE_BYTES + 1); /* its last words: they say more than the status */
    char text[80];
    hr_spawn_status_text(status, text, sizeof text);
    char why[120];
    snprintf(why, sizeof why, "the worker ended: %s", text);
    on_gone(w, why);
}

static void on_started(void *data, int pid, int error) {
    worker *w = data;
    (void)pid;
    if (error != 0) {
        char why[160];
        snprintf(why, sizeof why, "the worker cannot be started: %s", strerror(error));
        on_gone(w, why);
    }
}

static void start_worker(void *data) {
    worker *w = data;
    pool *p = w->pool;
    int pair[2] = {-1, -1}, output[2] = {-1, -1};
    hr_error err = {0};
    if (p->is_stopping) {
        return;
    }
    int copy = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0 ||
        hr_pipe(output, true, &err) != HR_OK || (copy = fcntl(output[1], F_DUPFD_CLOEXEC, 0)) < 0) {
        char why[120];
        snprintf(why, sizeof why, "a worker cannot be started: %s", strerror(errno));
        p->runtime.host->down(&p->runtime, why);
        int all[] = {pair[0], pair[1], output[0], output[1]};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
            if (all[i] >= 0) {
                close(all[i]);
            }
        }
        start_later(w);
        return;
    }
    hr_strings argv = {0}, env = {0};
    hr_worker_program(&p->runtime, &argv, &env);
    int room = SOCKET_BYTES; /* so that most calls are written at once */
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    w->fd = pair[0];
    w->tail[0] = w->garbage[0] = '\0';
    w->is_running = true;
    w->is_doomed = w->is_cancelled = false;
    w->watch = hr_watch_new(p->runtime.loop, w->fd, on_socket, w);
    hr_watch_set(w->watch, HR_WATCH_READ);
    w->lines = hr_lines_new(p->runtime.loop, output[0], on_output, w);
    hr_spawn_request request = {.argv = (const char *const *)argv.text,
                                .env = (const char *const *)env.text,
                                .cwd = p->runtime.config_dir,
                                .fds = {-1, output[1], copy, pair[1]},
                                .started = on_started,
                                .exited = on_exited,
                                .data = w};
    w->handle = hr_spawn(&request);
    hr_strings_fini(&argv);
    hr_strings_fini(&env);
}

static hr_code init(hr_runtime *self, hr_error *err) {
    pool *p = (pool *)self;
    p->count = (uint32_t)hr_node_number(self->config, "workers", 1);
    if (p->count == 0 || p->count > WORKERS_MAX) {
        return hr_fail(err, HR_E_CONFIG, 0, "function '%s': workers must be 1 to %d", self->name,
                       WORKERS_MAX);
    }
    p->workers = hr_alloc_array(p->count, sizeof *p->workers);
    p->wire = hr_alloc(sizeof *p->wire);
    return HR_OK;
}

static hr_code start(hr_runtime *self, hr_error *err) {
    (void)err;
    pool *p = (pool *)self;
    for (uint32_t i = 0; i < p->count; i++) {
        p->workers[i].pool = p;
        p->workers[i].again = hr_timer_new(self->loop, start_worker, &p->workers[i]);
        p->workers[i].linger = hr_timer_new(self->loop, on_linger, &p->workers[i]);
        start_worker(&p->workers[i]);
    }
    return HR_OK;
}

/* Answers a call for which no worker was there any more. */
struct late_answer {
    hr_message message; /* first */
    pool *pool;         /* NULL: gone */
    uint64_t call;
    late_answer *next, **link;
};

static void forget_late(late_answer *late) {
    *late->link = late->next;
    if (late->next != NULL) {
        late->next->link = late->link;
    }
    late->pool = NULL;
}

static void on_late(hr_message *message) {
    late_answer *late = (late_answer *)message;
    pool *p = late->pool;
    if (p != NULL) {
        forget_late(late);
        hr_answer answer = {.call = late->call,
                            .failure = HR_E_CALL_UNSTARTED,
                            .why = hr_slice_text("no worker is ready")};
        p->runtime.host->answer(&p->runtime, &answer);
    }
    hr_free(late);
}

static void call(hr_runtime *self, hr_call *call) {
    pool *p = (pool *)self;
    for (uint32_t i = 0; i < p->count; i++) {
        worker *w = &p->workers[i];
        if (w->is_ready && w->call == NULL) {
            w->call = call;
            w->is_cancelled = false;
            w->is_proven = true;
            call->slot = w;
            w->sent = hr_frame_call(call, self->timeout_ms, w->wants_places, HR_FRAME_MAX, &w->out);
            HR_ASSERT(w->sent > 0);
            flush(w);
            return;
        }
    }
    late_answer *late = hr_alloc(sizeof *late); /* the worker went a moment ago */
    *late = (late_answer){.message = {.run = on_late},
                          .pool = p,
                          .call = call->id,
                          .next = p->lates,
                          .link = &p->lates};
    if (late->next != NULL) {
        late->next->link = &late->next;
    }
    p->lates = late;
    hr_loop_post(self->loop, &late->message);
}

static void cancel(hr_runtime *self, hr_call *call) {
    (void)self;
    worker *w = call->slot;
    if (w != NULL && w->call == call) {
        w->is_cancelled = true;
        kill_worker(w);
    }
}

static void on_grace_over(void *data) {
    pool *p = data;
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->workers[i].is_running) {
            hr_spawn_kill(p->workers[i].handle);
        }
    }
}

static void stop(hr_runtime *self) {
    pool *p = (pool *)self;
    p->is_stopping = true;
    for (uint32_t i = 0; i < p->count; i++) {
        worker *w = &p->workers[i];
        hr_timer_stop(w->again);
        if (w->is_ready) {
            w->is_ready = false;
            hr_frame_bye(&w->out);
            flush(w);
            shutdown(w->fd, SHUT_WR); /* for those who read to the end only */
        } else if (w->is_running) {
            hr_spawn_kill(w->handle);
        }
    }
    p->grace = hr_timer_new(self->loop, on_grace_over, p);
    hr_timer_start(p->grace, STOP_MS, 0);
    check_stopped(p);
}

static void fini(hr_runtime *self) {
    pool *p = (pool *)self;
    while (p->lates != NULL) { /* their messages may still come */
        forget_late(p->lates);
    }
    for (uint32_t i = 0; p->workers != NULL && i < p->count; i++) {
        worker *w = &p->workers[i];
        if (w->is_running) {
            hr_spawn_forget(w->handle);
            close_worker(w);
        }
        hr_timer_free(w->again);
        hr_timer_free(w->linger);
        hr_buffer_fini(&w->in);
        hr_buffer_fini(&w->out);
    }
    hr_timer_free(p->grace);
    hr_free(p->workers);
    hr_free(p->wire);
}

const hr_runtime_ops hr_python_ops = {.kind = "python",
                                      .object_size = sizeof(pool),
                                      .init = init,
                                      .start = start,
                                      .call = call,
                                      .cancel = cancel,
                                      .stop = stop,
                                      .fini = fini};

const hr_runtime_ops hr_exec_ops = {.kind = "exec",
                                    .object_size = sizeof(pool),
                                    .init = init,
                                    .start = start,
                                    .call = call,
                                    .cancel = cancel,
                                    .stop = stop,
                                    .fini = fini};
