/* SPDX-License-Identifier: Apache-2.0 */
/* core/loop.h over libuv. */
#include "core/loop.h"

#include "core/memory.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum { REFUSED_TRIES = 20, REFUSED_PAUSE_NS = 20000000 };

struct hr_loop {
    uv_loop_t uv;
    int wake;                     /* an eventfd, written when posted was empty */
    pthread_mutex_t mutex;        /* of those who post; the loop itself never waits for it */
    _Atomic(hr_message *) posted; /* newest first */
    uv_prepare_t *before_sleep;   /* after timers */
    uv_check_t *after_sleep;      /* after descriptors and messages */
    hr_message *deferred, **deferred_last;
};

struct hr_watch {
    uv_poll_t uv;
    int fd, events;
    void (*ready)(void *data, int events);
    void *data;
};

struct hr_timer {
    uv_timer_t uv;
    void (*fired)(void *data);
    void *data;
};

typedef struct signal_watch {
    uv_signal_t uv;
    void (*caught)(void *data, int signal);
    void *data;
} signal_watch;

static void run_messages(hr_loop *loop) {
    hr_message *newest = atomic_exchange(&loop->posted, NULL), *message = NULL;
    while (newest != NULL) {
        hr_message *older = newest->next;
        newest->next = message;
        message = newest;
        newest = older;
    }
    while (message != NULL) {
        hr_message *next = message->next;
        message->run(message);
        message = next;
    }
}

/* Not uv_async_t: who is woken by that before uv_async_send() has returned spins until it has, for
 * tens of microseconds where both share a processor. */
static void on_wake(void *data, int events) {
    hr_loop *loop = data;
    uint64_t count;
    (void)events;
    if (read(loop->wake, &count, sizeof count) == (ssize_t)sizeof count) {
        run_messages(loop);
    }
}

static void run_deferred(hr_loop *loop) {
    while (loop->deferred != NULL) {
        hr_message *message = loop->deferred;
        loop->deferred = message->next;
        if (loop->deferred == NULL) {
            loop->deferred_last = &loop->deferred;
        }
        message->run(message);
    }
}

static void on_before_sleep(uv_prepare_t *prepare) {
    run_deferred(prepare->data);
}

static void on_after_sleep(uv_check_t *check) {
    run_deferred(check->data);
}

/* Both run in every turn and keep no loop alive. */
static void begin_turns(hr_loop *loop) {
    loop->deferred_last = &loop->deferred;
    loop->before_sleep = hr_alloc(sizeof *loop->before_sleep);
    loop->after_sleep = hr_alloc(sizeof *loop->after_sleep);
    loop->before_sleep->data = loop->after_sleep->data = loop;
    HR_ASSERT(uv_prepare_init(&loop->uv, loop->before_sleep) == 0 &&
              uv_check_init(&loop->uv, loop->after_sleep) == 0 &&
              uv_prepare_start(loop->before_sleep, on_before_sleep) == 0 &&
              uv_check_start(loop->after_sleep, on_after_sleep) == 0);
    uv_unref((uv_handle_t *)loop->before_sleep);
    uv_unref((uv_handle_t *)loop->after_sleep);
}

/* What the kernel refuses for want of memory it may grant a moment later; what then still fails
 * leaves the loop without ears. */
static bool is_refused(int result, const char *what, int *tries) {
    if (result >= 0 || result == UV_EEXIST) {
        return false;
    }
    if (++*tries > REFUSED_TRIES || (result != UV_ENOMEM && result != UV_ENOSPC)) {
        hr_give_up("%s: %s%s", what, uv_strerror(result),
                   result == UV_EMFILE   ? " (a higher limit helps: ulimit -n, LimitNOFILE)"
                   : result == UV_ENOSPC ? " (fs.epoll.max_user_watches is reached)"
                                         : "");
    }
    nanosleep(&(struct timespec){.tv_nsec = REFUSED_PAUSE_NS}, NULL);
    return true;
}

/* libuv asks the kernel only in its next turn, and aborts when that is refused: so it is asked
 * here, and libuv is told that the descriptor is there already. */
static void enroll(uv_loop_t *uv, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    int tries = 0, result = 0;
    do {
        result = epoll_ctl(uv_backend_fd(uv), EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
    } while (is_refused(result, "a descriptor cannot be watched", &tries));
}

static void on_abort(int number) {
    (void)number;
    hr_give_up("the event loop has no pipe for signals (descriptors or memory)");
}

static struct sigaction former_abort;

/* Around what makes or uses the pipe that all loops of libuv share: where that fails it aborts. */
static void tell_abort(bool on) {
    const struct sigaction tell = {.sa_handler = on_abort};
    sigaction(SIGABRT, on ? &tell : &former_abort, on ? &former_abort : NULL);
}

static int begin(uv_loop_t *uv) {
    tell_abort(true);
    int result = uv_loop_init(uv);
    tell_abort(false);
    return result;
}

static void give_allocator(void) {
    HR_ASSERT(uv_replace_allocator(hr_alloc, hr_realloc, hr_alloc_array, hr_free) == 0);
}

hr_loop *hr_loop_new(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, give_allocator);
    hr_loop *loop = hr_alloc(sizeof *loop);
    int tries = 0;
    while (is_refused(begin(&loop->uv), "the event loop cannot begin", &tries)) {
    }
    while ((loop->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0 &&
           is_refused(-errno, "the event loop cannot begin", &tries)) {
    }
    enroll(&loop->uv, loop->uv.async_io_watcher.fd, EPOLLIN);
    enroll(&loop->uv, loop->uv.signal_io_watcher.fd, EPOLLIN);
    hr_watch_set(hr_watch_new(loop, loop->wake, on_wake, loop), HR_WATCH_READ);
    pthread_mutex_init(&loop->mutex, NULL);
    begin_turns(loop);
    return loop;
}

void hr_loop_run(hr_loop *loop) {
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void hr_loop_stop(hr_loop *loop) {
    uv_stop(&loop->uv);
}

static void free_handle(uv_handle_t *handle) {
    hr_free(handle);
}

static void close_any(uv_handle_t *handle, void *data) {
    (void)data;
    if (!uv_is_closing(handle)) {
        uv_close(handle, free_handle); /* all that is ours begins with its handle */
    }
}

void hr_loop_free(hr_loop *loop) {
    if (loop == NULL) {
        return;
    }
    while (atomic_load(&loop->posted) != NULL || loop->deferred != NULL) {
        run_messages(loop);
        run_deferred(loop);
    }
    tell_abort(true);
    uv_walk(&loop->uv, close_any, NULL);
    tell_abort(false);
    while (uv_loop_alive(&loop->uv)) { /* a stop() from outside run() ends the first turn early */
        uv_run(&loop->uv, UV_RUN_DEFAULT);
    }
    HR_ASSERT(uv_loop_close(&loop->uv) == 0);
    pthread_mutex_lock(&loop->mutex); /* whoever posted the last message is done with it */
    pthread_mutex_unlock(&loop->mutex);
    close(loop->wake);
    pthread_mutex_destroy(&loop->mutex);
    hr_free(loop);
}

void hr_loop_post(hr_loop *loop, hr_message *message) {
    pthread_mutex_lock(&loop->mutex);
    hr_message *older = atomic_load(&loop->posted);
    do { /* from then on the message is the loop's */
        message->next = older;
    } while (!atomic_compare_exchange_weak(&loop->posted, &older, message));
    if (older == NULL) { /* inside the lock, so that the loop cannot be freed in between */
        const uint64_t one = 1;
        HR_ASSERT(write(loop->wake, &one, sizeof one) == (ssize_t)sizeof one);
    }
    pthread_mutex_unlock(&loop->mutex);
}

void hr_loop_defer(hr_loop *loop, hr_message *message) {
    message->next = NULL;
    *loop->deferred_last = message;
    loop->deferred_last = &message->next;
}

void hr_loop_forget(hr_loop *loop, hr_message *message) {
    for (hr_message **at = &loop->deferred; *at != NULL; at = &(*at)->next) {
        if (*at == message) {
            *at = message->next;
            loop->deferred_last = message->next == NULL ? at : loop->deferred_last;
            return;
        }
    }
}

uint64_t hr_mono_ns(void) {
    return uv_hrtime();
}

int64_t hr_real_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    hr_watch *watch = poll->data;
    int ready = 0;
    if (status < 0) { /* error or hang-up: let read and write find out */
        ready = HR_WATCH_READ | HR_WATCH_WRITE;
    }
    if (events & (UV_READABLE | UV_DISCONNECT)) {
        ready |= HR_WATCH_READ;
    }
    if (events & UV_WRITABLE) {
        ready |= HR_WATCH_WRITE;
    }
    watch->ready(watch->data, ready);
}

hr_watch *hr_watch_new(hr_loop *loop, int fd, void (*ready)(void *data, int events), void *data) {
    hr_watch *watch = hr_alloc(sizeof *watch);
    int tries = 0;
    while (is_refused(uv_poll_init(&loop->uv, &watch->uv, fd), "a descriptor cannot be watched",
                      &tries)) {
    }
    watch->fd = fd;
    watch->uv.data = watch;
    watch->ready = ready;
    watch->data = data;
    return watch;
}

void hr_watch_set(hr_watch *watch, int events) {
    if (events == 0) {
        uv_poll_stop(&watch->uv);
        return;
    }
    int uv = 0;
    if (events & HR_WATCH_READ) {
        uv |= UV_READABLE;
    }
    if (events & HR_WATCH_WRITE) {
        uv |= UV_WRITABLE;
    }
    if (watch->events == uv && uv_is_active((uv_handle_t *)&watch->uv)) {
        return; /* libuv would remove it and add it again */
    }
    watch->events = uv;
    HR_ASSERT(uv_poll_start(&watch->uv, uv, on_poll) == 0);
    enroll(watch->uv.loop, watch->fd, (uint32_t)uv); /* its numbers are those of epoll */
}

void hr_watch_free(hr_watch *watch) {
    if (watch != NULL) {
        uv_close((uv_handle_t *)&watch->uv, free_handle);
    }
}

static void on_timer(uv_timer_t *uv) {
    hr_timer *timer = uv->data;
    timer->fired(timer->data);
}

hr_timer *hr_timer_new(hr_loop *loop, void (*fired)(void *data), void *data) {
    hr_timer *timer = hr_alloc(sizeof *timer);
    HR_ASSERT(uv_timer_init(&loop->uv, &timer->uv) == 0);
    timer->uv.data = timer;
    timer->fired = fired;
    timer->data = data;
    return timer;
}

void hr_timer_start(hr_timer *timer, uint64_t after_ms, uint64_t repeat_ms) {
    uv_update_time(timer->uv.loop);
    uv_timer_start(&timer->uv, on_timer, after_ms, repeat_ms);
}

void hr_timer_stop(hr_timer *timer) {
    uv_timer_stop(&timer->uv);
}

void hr_timer_free(hr_timer *timer) {
    if (timer != NULL) {
        uv_close((uv_handle_t *)&timer->uv, free_handle);
    }
}

static void on_signal(uv_signal_t *uv, int number) {
    signal_watch *watch = uv->data;
    watch->caught(watch->data, number);
}

void hr_loop_signal(hr_loop *loop, int signal, void (*caught)(void *data, int signal), void *data) {
    signal_watch *watch = hr_alloc(sizeof *watch);
    HR_ASSERT(uv_signal_init(&loop->uv, &watch->uv) == 0);
    watch->uv.data = watch;
    watch->caught = caught;
    watch->data = data;
    tell_abort(true);
    uv_signal_start(&watch->uv, on_signal, signal);
    tell_abort(false);
}
