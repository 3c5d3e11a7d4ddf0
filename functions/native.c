/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime native: a shared object in the daemon itself, on threads of its own. A call is handed
 * over as it is and answered by one message: nothing is copied but what the handler makes. */
#include "core/log.h"
#include "core/memory.h"
#include "functions/native_marker.h"
#include "functions/native_priv.h"
#include "functions/registry.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { OPEN_AGAIN_S = 2, FAULT_STACK_BYTES = 64 << 10 };

typedef struct pool pool;

typedef enum work { WORK_NONE, WORK_CALL, WORK_END } work;

typedef struct thread {
    hr_message message; /* first: to the loop */
    pool *pool;
    uint32_t slot;
    pthread_t id;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    work work;         /* under lock */
    hr_call *call;     /* the loop's view of what runs here */
    bool is_ready;     /* the loop's view: opened, takes calls */
    bool is_cancelled; /* past its deadline */
    bool has_ended;    /* the loop's view */
    uint32_t posted;   /* messages to the loop; the loop reads it after the join */
    uint32_t seen;     /* those it has run */
    void *state;
    headrace_call own;
} thread;

struct pool {
    hr_runtime runtime; /* first */
    void *object;
    const headrace_handler *handler;
    hr_marker *marker;
    thread **threads; /* NULL: not begun */
    uint32_t count, overdue;
    bool is_stopping;
};

/* A word from a thread that is not an answer. */
typedef struct notice {
    hr_message message; /* first */
    thread *thread;
    char why[320]; /* empty: it is open */
} notice;

/* An answer without a call to the handler. */
typedef struct verdict {
    hr_message message; /* first */
    pool *pool;
    uint64_t call;
    hr_code failure;
    const char *why;
} verdict;

static void post(thread *t, hr_message *message) {
    t->posted++;
    hr_loop_post(t->pool->runtime.loop, message);
}

/* A message came in. False: the function is gone, and with its last message the thread's memory. */
static bool is_alive(thread *t) {
    t->seen++;
    if (t->pool == NULL && t->seen == t->posted) {
        hr_free(t);
        return false;
    }
    return t->pool != NULL;
}

static void tell_room(pool *p) {
    uint32_t ready = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        ready += p->threads[i]->is_ready ? 1 : 0;
    }
    p->runtime.host->room(&p->runtime, ready);
}

static void check_stopped(pool *p) {
    for (uint32_t i = 0; i < p->count; i++) {
        if (!p->threads[i]->has_ended) {
            return;
        }
    }
    p->runtime.host->stopped(&p->runtime);
}

/* ---- on the loop ---- */

static void give_lines(thread *t) {
    const hr_runtime *runtime = &t->pool->runtime;
    for (size_t at = 0; at < t->own.lines.size;) {
        native_line line;
        memcpy(&line, t->own.lines.bytes + at, sizeof line);
        const hr_event_ref *ref = &t->call->events[line.index];
        runtime->host->line(&t->pool->runtime, hr_batch_id(ref->batch, ref->index), ref->attempt,
                            line.level,
                            hr_slice_of(t->own.lines.bytes + at + sizeof line, line.size));
        at += sizeof line + line.size;
    }
    if (t->own.lost_lines > 0) {
        hr_log(HR_LOG_WARN, runtime->name, "%u log lines of one call were not kept: over %d bytes",
               t->own.lost_lines, NATIVE_LINES_MAX);
    }
}

static void on_done(hr_message *message) {
    thread *t = (thread *)message;
    if (!is_alive(t)) {
        return;
    }
    pool *p = t->pool;
    if (t->is_cancelled && --p->overdue == 0) {
        p->runtime.host->down(&p->runtime, NULL);
    }
    give_lines(t);
    hr_marker_clear(p->marker, t->call);
    hr_answer answer = {.call = t->call->id,
                        .exceptions = t->own.outcomes.exceptions,
                        .exception_count = hr_outcomes_exceptions(&t->own.outcomes, t->call->count),
                        .take_results = hr_results_finish(&t->own.results),
                        .causes = t->own.results.causes};
    t->call = NULL;
    p->runtime.host->answer(&p->runtime, &answer);
}

static void on_notice(hr_message *message) {
    notice *word = (notice *)message;
    thread *t = word->thread;
    if (is_alive(t) && !t->pool->is_stopping) {
        pool *p = t->pool;
        t->is_ready = word->why[0] == '\0';
        p->runtime.host->down(&p->runtime, t->is_ready ? NULL : word->why);
        if (t->is_ready) {
            tell_room(p);
        }
    }
    hr_free(word);
}

static void on_ended(hr_message *message) {
    thread *t = (thread *)message;
    if (is_alive(t)) {
        pthread_join(t->id, NULL);
        t->has_ended = true;
        check_stopped(t->pool);
    }
}

static void on_verdict(hr_message *message) {
    verdict *v = (verdict *)message;
    hr_answer answer = {.call = v->call, .failure = v->failure, .why = hr_slice_text(v->why)};
    v->pool->runtime.host->answer(&v->pool->runtime, &answer);
    hr_free(v);
}

static void answer_late(pool *p, const hr_call *call, hr_code failure, const char *why) {
    verdict *v = hr_alloc(sizeof *v);
    *v = (verdict){.message = {.run = on_verdict},
                   .pool = p,
                   .call = call->id,
                   .failure = failure,
                   .why = why};
    hr_loop_post(p->runtime.loop, &v->message);
}

/* ---- on a thread of the function ---- */

static void post_notice(thread *t, const char *why) {
    notice *word = hr_alloc(sizeof *word);
    word->message.run = on_notice;
    word->thread = t;
    snprintf(word->why, sizeof word->why, "%s", why);
    post(t, &word->message);
}

/* Waits for work; a limit of 0 s waits for ever. */
static work wait_for_work(thread *t, int limit_s) {
    struct timespec end = {0};
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += limit_s;
    pthread_mutex_lock(&t->lock);
    int late = 0;
    while (t->work == WORK_NONE && late == 0) {
        late = limit_s == 0 ? pthread_cond_wait(&t->wake, &t->lock)
                            : pthread_cond_timedwait(&t->wake, &t->lock, &end);
    }
    work next = t->work;
    if (next == WORK_CALL) {
        t->work = WORK_NONE;
    }
    pthread_mutex_unlock(&t->lock);
    return next;
}

/* False: the end came first. */
static bool open_state(thread *t) {
    const headrace_handler *handler = t->pool->handler;
    while (handler->open != NULL) {
        headrace_start start = {.runtime = &t->pool->runtime};
        if (handler->open(&hr_native_api, &start, &t->state) == 0) {
            break;
        }
        char why[360];
        snprintf(why, sizeof why, "its open() failed%s%s", start.why[0] == '\0' ? "" : ": ",
                 start.why);
        post_notice(t, why);
        if (wait_for_work(t, OPEN_AGAIN_S) == WORK_END) {
            return false;
        }
    }
    post_notice(t, "");
    return true;
}

static void run_call(thread *t) {
    headrace_call *own = &t->own;
    own->call = t->call;
    hr_outcomes_reset(&own->outcomes);
    own->lost_lines = 0;
    own->lines.size = 0;
    hr_marker_begin(t->pool->marker, t->slot, own->call);
    t->pool->handler->handle(&hr_native_api, t->state, own, own->call->count);
    hr_marker_end(t->pool->marker, t->slot);
    t->message.run = on_done;
    post(t, &t->message);
}

static void *run(void *data) {
    thread *t = data;
    const headrace_handler *handler = t->pool->handler;
    pthread_setname_np(pthread_self(), "hr-native");
    stack_t stack = {.ss_sp = hr_alloc(FAULT_STACK_BYTES), .ss_size = FAULT_STACK_BYTES};
    sigaltstack(&stack, NULL); /* an overflow of the thread's own is told too */
    if (open_state(t)) {
        while (wait_for_work(t, 0) == WORK_CALL) {
            run_call(t);
        }
        if (handler->close != NULL) {
            handler->close(t->state);
        }
    }
    stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
    hr_free(stack.ss_sp);
    t->message.run = on_ended;
    post(t, &t->message);
    return NULL;
}

/* ---- the runtime's slots ---- */

static hr_code init(hr_runtime *self, hr_error *err) {
    pool *p = (pool *)self;
    (void)err;
    p->count = (uint32_t)hr_node_number(self->config, "workers", 1);
    HR_ASSERT(p->count > 0 && p->count <= HR_BATCH_MAX); /* config.def: 1..256 */
    return HR_OK;
}

static hr_code load(pool *p, hr_error *err) {
    const char *name = p->runtime.kind_config->text;
    char *path =
        name[0] == '/' ? hr_copy_text(name) : hr_format("%s/%s", p->runtime.config_dir, name);
    hr_code code = HR_OK;
    p->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (p->object == NULL) {
        code = hr_fail(err, HR_E_CONFIG, 0, "the object cannot be loaded: %s", dlerror());
    } else {
        p->handler = dlsym(p->object, "headrace_function");
        if (p->handler == NULL) {
            code = hr_fail(err, HR_E_CONFIG, 0,
                           "'%s' has no symbol headrace_function (see headrace/handler.h)", path);
        } else if (p->handler->abi != HEADRACE_ABI || p->handler->size < sizeof(headrace_handler) ||
                   p->handler->handle == NULL) {
            code = hr_fail(err, HR_E_CONFIG, 0,
                           "'%s' was made for version %u of headrace/handler.h, this daemon has "
                           "version %d: compile it again",
                           path, (unsigned)p->handler->abi, HEADRACE_ABI);
        }
    }
    hr_free(path);
    return code;
}

static void free_thread(thread *t) {
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->wake);
    hr_outcomes_fini(&t->own.outcomes);
    hr_buffer_fini(&t->own.lines);
    t->pool = NULL;
    if (t->seen == t->posted) { /* else with its last message */
        hr_free(t);
    }
}

static hr_code begin_thread(pool *p, uint32_t slot, hr_error *err) {
    thread *t = hr_alloc(sizeof *t);
    t->pool = p;
    t->slot = slot;
    t->own.runtime = &p->runtime;
    hr_outcomes_init(&t->own.outcomes, p->runtime.batch_size);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    int failed = pthread_create(&t->id, NULL, run, t);
    if (failed != 0) {
        free_thread(t);
        return hr_fail(err, HR_E_IO, failed, "a thread cannot be started: %s", strerror(failed));
    }
    p->threads[slot] = t;
    return HR_OK;
}

static hr_code start(hr_runtime *self, hr_error *err) {
    pool *p = (pool *)self;
    hr_code code = load(p, err);
    if (code == HR_OK) {
        code = hr_marker_open(self->state_dir, self->name, p->count, self->batch_size, &p->marker,
                              err);
    }
    if (code != HR_OK) {
        return code;
    }
    uint32_t suspects = hr_marker_suspects(p->marker);
    if (suspects > 0) {
        hr_log(HR_LOG_WARN, self->name,
               "the daemon ended while this function handled %u %s: %s called alone now", suspects,
               suspects == 1 ? "event" : "events", suspects == 1 ? "it is" : "they are");
    }
    p->threads = hr_alloc_array(p->count, sizeof(thread *));
    for (uint32_t i = 0; i < p->count && code == HR_OK; i++) {
        code = begin_thread(p, i, err);
    }
    return code;
}

static void give_work(thread *t, work what) {
    pthread_mutex_lock(&t->lock);
    t->work = what;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

static void call(hr_runtime *self, hr_call *call) {
    pool *p = (pool *)self;
    switch (hr_marker_judge(p->marker, call)) {
    case HR_VERDICT_SINGLY:
        answer_late(p, call, HR_E_CALL_CRASHED, "one of them may have crashed the daemon");
        return;
    case HR_VERDICT_CHARGE:
        answer_late(p, call, HR_E_CALL_CRASHED, "the handler crashed the daemon on this event");
        return;
    case HR_VERDICT_RUN:
        break;
    }
    for (uint32_t i = 0; i < p->count; i++) {
        thread *t = p->threads[i];
        if (t->is_ready && t->call == NULL) {
            t->call = call;
            t->is_cancelled = false;
            call->slot = t;
            give_work(t, WORK_CALL);
            return;
        }
    }
    answer_late(p, call, HR_E_CALL_UNSTARTED, "no thread is ready");
}

/* Code in our own process cannot be stopped: the answer comes when it returns. */
static void cancel(hr_runtime *self, hr_call *call) {
    pool *p = (pool *)self;
    thread *t = call->slot;
    if (t == NULL || t->call != call || t->is_cancelled) {
        return;
    }
    t->is_cancelled = true;
    p->overdue++;
    hr_slice id = hr_batch_id(call->events[0].batch, call->events[0].index);
    char why[300];
    snprintf(why, sizeof why,
             "the handler has not returned within %u ms (event %.*s%s) and cannot be stopped in "
             "the daemon's own process",
             self->timeout_ms, (int)(id.size < 100 ? id.size : 100), (const char *)id.bytes,
             call->count > 1 ? " and others" : "");
    self->host->down(self, why);
}

static void stop(hr_runtime *self) {
    pool *p = (pool *)self;
    p->is_stopping = true;
    for (uint32_t i = 0; i < p->count; i++) {
        give_work(p->threads[i], WORK_END);
    }
}

static void fini(hr_runtime *self) {
    pool *p = (pool *)self;
    for (uint32_t i = 0; p->threads != NULL && i < p->count && p->threads[i] != NULL; i++) {
        thread *t = p->threads[i];
        if (!t->has_ended && t->call != NULL) {
            hr_log(HR_LOG_ERROR, self->name,
                   "a handler did not return; the daemon ends without waiting for it, its events "
                   "will run again");
            _exit(1); /* all is stored; to unload the code under a running thread is no way out */
        }
        if (!t->has_ended) {
            give_work(t, WORK_END);
            pthread_join(t->id, NULL);
        }
        free_thread(t);
    }
    hr_free(p->threads);
    hr_marker_close(p->marker, p->is_stopping);
    if (p->object != NULL) {
        dlclose(p->object);
    }
}

const hr_runtime_ops hr_native_ops = {.kind = "native",
                                      .object_size = sizeof(pool),
                                      .init = init,
                                      .start = start,
                                      .call = call,
                                      .cancel = cancel,
                                      .stop = stop,
                                      .fini = fini};
