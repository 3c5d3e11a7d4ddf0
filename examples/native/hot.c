/* SPDX-License-Identifier: Apache-2.0 */
/* A function in the daemon's own process: keeps the highest temperature of each call's events and
 * gives one new event for each that is over the limit.
 *
 *   cc -O2 -shared -fPIC -I functions -o hot.so examples/native/hot.c */
#include "handler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct state {
    double limit;
} state;

static int open_state(const headrace_api *api, headrace_start *start, void **out_state) {
    const char *limit = api->setting(start, "LIMIT"); /* `env:` of the function */
    char *end = NULL;
    state *own = calloc(1, sizeof *own);
    if (own == NULL) {
        api->refuse(start, "no memory");
        return -1;
    }
    own->limit = limit == NULL ? 30 : strtod(limit, &end);
    if (limit != NULL && (end == limit || *end != '\0')) {
        api->refuse(start, "LIMIT is no number");
        free(own);
        return -1;
    }
    *out_state = own;
    return 0;
}

/* The number behind "temp": in a small JSON object; a real handler would use a JSON library. */
static int read_temperature(headrace_text data, double *out) {
    char text[512];
    if (data.size == 0 || data.size >= sizeof text) {
        return -1;
    }
    memcpy(text, data.bytes, data.size);
    text[data.size] = '\0';
    const char *at = strstr(text, "\"temp\":");
    char *end = NULL;
    *out = at == NULL ? 0 : strtod(at + 7, &end);
    return at == NULL || end == at + 7 ? -1 : 0;
}

static void handle(const headrace_api *api, void *data, headrace_call *call, uint32_t count) {
    const state *own = data;
    for (uint32_t i = 0; i < count; i++) {
        double temp = 0;
        if (read_temperature(api->data(call, i), &temp) != 0) {
            api->reply(call, i, HEADRACE_DEAD, -1, "the data has no number `temp`");
        } else if (temp > own->limit) {
            char alarm[64];
            int size = snprintf(alarm, sizeof alarm, "{\"alarm\":%.1f}", temp);
            headrace_result result = {.data = {alarm, (size_t)size}};
            api->result(call, i, &result);
        }
    }
}

const headrace_handler headrace_function = {HEADRACE_ABI, sizeof(headrace_handler), open_state,
                                            handle, free};
