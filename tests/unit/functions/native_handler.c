/* SPDX-License-Identifier: Apache-2.0 */
/* The in-process function of test_native.c: does what the data of each event says. */
#include "functions/handler.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct state {
    const headrace_api *api;
    int calls;
} state;

static int opens;

static int open_state(const headrace_api *api, headrace_start *start, void **out_state) {
    const char *mode = getenv("NATIVE_TEST_MODE");
    if (mode != NULL && strcmp(mode, "late") == 0 && opens++ == 0) {
        api->refuse(start, "not yet");
        return -1;
    }
    state *own = calloc(1, sizeof *own);
    own->api = api;
    *out_state = own;
    return 0;
}

static int is(headrace_text text, const char *word) {
    return text.size == strlen(word) && memcmp(text.bytes, word, text.size) == 0;
}

static void tell(state *own, headrace_call *call, uint32_t i) {
    const headrace_api *api = own->api;
    char floor[2], text[300];
    int64_t whole = api->attribute(call, i, "floor", floor, sizeof floor);
    headrace_text id = api->id(call, i), source = api->source(call, i), type = api->type(call, i),
                  subject = api->subject(call, i), key = api->key(call, i);
    snprintf(text, sizeof text, "%.*s|%.*s|%.*s|%.*s|%.*s|%s|%d|%d|%d|%d|%d", (int)id.size,
             id.bytes, (int)source.size, source.bytes, (int)type.size, type.bytes,
             (int)subject.size, subject.bytes, (int)key.size, key.bytes, floor, (int)whole,
             (int)api->attribute(call, i, "nothing", NULL, 0), (int)api->attempt(call, i),
             own->calls, api->left_ms(call) > 0);
    headrace_result result = {.data = {text, strlen(text)}, .content_type = {"text/plain", 10}};
    api->result(call, i, &result);
}

static void handle(const headrace_api *api, void *data, headrace_call *call, uint32_t count) {
    state *own = data;
    own->calls++;
    for (uint32_t i = 0; i < count; i++) {
        headrace_text what = api->data(call, i);
        if (is(what, "\"tell\"")) {
            tell(own, call, i);
        } else if (is(what, "\"retry\"")) {
            api->reply(call, i, HEADRACE_RETRY, 1500, "come again");
        } else if (is(what, "\"dead\"")) {
            api->reply(call, i, HEADRACE_RETRY, -1, "first thought");
            api->reply(call, i, HEADRACE_DEAD, -1, "hopeless");
        } else if (is(what, "\"back\"")) { /* results must ascend */
            headrace_result result = {.data = {"1", 1}};
            api->result(call, i, &result);
            if (i > 0) {
                api->result(call, i - 1, &result);
            }
        } else if (is(what, "\"log\"")) {
            api->log(call, i, HEADRACE_WARN, "a line");
        } else if (is(what, "\"crash\"")) {
            raise(SIGSEGV);
        } else if (is(what, "\"exit\"")) {
            _exit(3);
        } else if (is(what, "\"sleep\"")) {
            nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
        }
    }
}

const headrace_handler headrace_function = {HEADRACE_ABI, sizeof(headrace_handler), open_state,
                                            handle, free};
