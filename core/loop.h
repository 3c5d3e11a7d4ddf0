/* SPDX-License-Identifier: Apache-2.0 */
/* One event loop on one thread (libuv): descriptors, timers, and messages from other threads.
 *
 * Life:  new -> (watch, timer, post)* -> run -> stop -> free
 * Rule:  all calls but hr_loop_post() are made on the loop's own thread (or before run).
 * A callback that may come late always comes late: never from within the call that asked for it. */
#ifndef HR_CORE_LOOP_H
#define HR_CORE_LOOP_H

#include "core/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct hr_loop hr_loop;
typedef struct hr_watch hr_watch;
typedef struct hr_timer hr_timer;

/* A message to the loop; embed it, it must live until run() was called. FIFO for each poster. */
typedef struct hr_message {
    void (*run)(struct hr_message *self); /* on the loop thread; may free the message */
    struct hr_message *next;              /* the loop's */
} hr_message;

enum { HR_WATCH_READ = 1, HR_WATCH_WRITE = 2 };

/* A loop of its own, not yet running. Never NULL. */
hr_loop *hr_loop_new(void);

/* Runs until hr_loop_stop(). */
void hr_loop_run(hr_loop *loop);

/* Makes run() return after this turn. */
void hr_loop_stop(hr_loop *loop);

/* Closes everything still open; messages not yet run are run first. */
void hr_loop_free(hr_loop *loop);

/* Hands a message over; wakes the loop once for a run of posts.  Thread: any. */
void hr_loop_post(hr_loop *loop, hr_message *message);

/* Runs the message when all that is ready in this turn has been looked at, before the loop sleeps:
 * for what is cheaper done once a turn than once an event. No wake-up, no lock. FIFO; what is
 * deferred meanwhile runs in the same go. hr_loop_forget() takes a message back; one that does not
 * wait is no error.  Thread: the loop's own. */
void hr_loop_defer(hr_loop *loop, hr_message *message);
void hr_loop_forget(hr_loop *loop, hr_message *message);

/* Monotonic nanoseconds / real microseconds since 1970 UTC, read now.  Thread: any. */
uint64_t hr_mono_ns(void);
int64_t hr_real_us(void);

/* Watches fd (not owned, non-blocking) for events (HR_WATCH_*); called with what is ready. */
hr_watch *hr_watch_new(hr_loop *loop, int fd, void (*ready)(void *data, int events), void *data);
void hr_watch_set(hr_watch *watch, int events); /* 0: none */
void hr_watch_free(hr_watch *watch);            /* no callback after this; before close(fd) */

/* A timer; start again replaces. repeat_ms 0: once. after_ms 0 fires in the next turn. */
hr_timer *hr_timer_new(hr_loop *loop, void (*fired)(void *data), void *data);
void hr_timer_start(hr_timer *timer, uint64_t after_ms, uint64_t repeat_ms);
void hr_timer_stop(hr_timer *timer);
void hr_timer_free(hr_timer *timer);

/* Calls caught(data, signal) on the loop for SIGINT, SIGTERM, SIGHUP ... */
void hr_loop_signal(hr_loop *loop, int signal, void (*caught)(void *data, int signal), void *data);

#endif
