/* SPDX-License-Identifier: Apache-2.0 */
/* What a shared object must offer to be a function that runs inside the daemon
 * (`native: FILE.so` with `isolation: none`). The only header of headrace that such code includes;
 * C11 and C++, no library to link.
 *
 * The object exports one constant, `headrace_function`. Each of the function's threads (`workers:`)
 * opens a state of its own, so that a handler needs no lock for what it keeps there.
 *
 * What runs in the daemon can end the daemon. Before each call its events are noted in a file of
 * the state folder; after a crash the daemon calls them one by one, and one that crashes it again
 * and again uses its attempts up and becomes a dead letter. A handler that does not return cannot
 * be stopped: it holds its thread, and `status` says so. */
#ifndef HR_FUNCTIONS_HANDLER_H
#define HR_FUNCTIONS_HANDLER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface. A daemon refuses an object of another one. Within a version
 * headrace_api only grows at its end: code made with an older header goes on working. */
#define HEADRACE_ABI 1

/* Borrowed bytes, not terminated; valid until handle() returns. */
typedef struct headrace_text {
    const char *bytes;
    size_t size; /* 0: absent or empty */
} headrace_text;

/* A batch of events of one lane, in order. Events are named by their index, from 0. */
typedef struct headrace_call headrace_call;

/* What open() may ask about the function. */
typedef struct headrace_start headrace_start;

/* What becomes of an event that handle() says nothing about: it is delivered. */
enum headrace_outcome {
    HEADRACE_RETRY = 1,  /* failed: try again, as `retry:` says */
    HEADRACE_DROP = 2,   /* not wanted: counted, kept as a line without the event */
    HEADRACE_DEAD = 3,   /* cannot succeed: a dead letter at once */
    HEADRACE_NOT_RUN = 4 /* not looked at: call again, no attempt used */
};

enum headrace_level {
    HEADRACE_DEBUG = 0,
    HEADRACE_INFO = 1,
    HEADRACE_WARN = 2,
    HEADRACE_ERROR = 3
};

/* A new event that the handler makes from one of the call's; others take it with `from:`. */
typedef struct headrace_result {
    headrace_text data;
    headrace_text content_type; /* empty: application/json */
    headrace_text type;         /* empty: "<function>.result" */
    headrace_text subject;      /* empty: that of the event */
} headrace_result;

/* The daemon's side. All calls: only from within handle() (or open(), where said), on its thread.
 */
typedef struct headrace_api {
    uint32_t abi, size; /* HEADRACE_ABI, sizeof of what the daemon has */

    /* Parts of event index of the call, which is below count. */
    headrace_text (*id)(const headrace_call *call, uint32_t index);
    headrace_text (*source)(const headrace_call *call, uint32_t index);
    headrace_text (*type)(const headrace_call *call, uint32_t index);
    headrace_text (*subject)(const headrace_call *call, uint32_t index);
    headrace_text (*key)(const headrace_call *call, uint32_t index); /* its partitionkey */
    headrace_text (*data)(const headrace_call *call, uint32_t index);
    headrace_text (*envelope)(const headrace_call *call, uint32_t index); /* packed CloudEvent */

    /* Any other attribute (time, datacontenttype, extensions) as CloudEvents text, copied into
     * room with a zero behind it and cut when it is longer. Returns its whole length, -1: absent.
     */
    int64_t (*attribute)(const headrace_call *call, uint32_t index, const char *name, char *room,
                         size_t room_size);

    uint32_t (*attempt)(const headrace_call *call, uint32_t index); /* from 1 */
    int64_t (*left_ms)(const headrace_call *call); /* until the function's `timeout:` */

    /* Says what becomes of an event. after_ms: HEADRACE_RETRY, wait so long and use no attempt up;
     * -1: as `retry:` says. why is copied, NULL is allowed. The last word counts. */
    void (*reply)(headrace_call *call, uint32_t index, enum headrace_outcome outcome,
                  int64_t after_ms, const char *why);

    /* Makes a new event from event index; everything is copied. Indexes ascend from call to call.
     * Returns 0; -1: not kept (over 1 MiB, over 1,024 of one call, no UTF-8, indexes that go back),
     * and the event fails with the reason. */
    int (*result)(headrace_call *call, uint32_t index, const headrace_result *result);

    /* A line kept with the event, for `headrace logs` and `trace`; up to 1 MiB a call. */
    void (*log)(headrace_call *call, uint32_t index, enum headrace_level level, const char *text);

    /* In open(): the function's name; a value of its `env:`, NULL when absent; says why it cannot
     * run (copied). */
    const char *(*name)(const headrace_start *start);
    const char *(*setting)(const headrace_start *start, const char *name);
    void (*refuse)(headrace_start *start, const char *why);
} headrace_api;

/* The handler's side. */
typedef struct headrace_handler {
    uint32_t abi, size; /* HEADRACE_ABI, sizeof(headrace_handler) */

    /* Once for each thread, before its first call; NULL: nothing to do. api lives as long as the
     * daemon. Returns 0, else the function is down and open() is called again seconds later. */
    int (*open)(const headrace_api *api, headrace_start *start, void **out_state);

    /* count events, 1 to `batch: {size:}`. Never two at once on the same state. */
    void (*handle)(const headrace_api *api, void *state, headrace_call *call, uint32_t count);

    void (*close)(void *state); /* at the end of the thread; NULL: nothing to do */
} headrace_handler;

/* The symbol that the daemon looks up:
 *   const headrace_handler headrace_function = {HEADRACE_ABI, sizeof(headrace_handler), ...}; */
extern const headrace_handler headrace_function;

#ifdef __cplusplus
}
#endif

#endif
