/* SPDX-License-Identifier: Apache-2.0 */
/* A worker for `exec:` that uses nothing of headrace but docs/worker-protocol.md: it answers each
 * event whose data is a whole number with twice that number, and calls anything else dead.
 * headrace.yaml beside it says how to try it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HELLO = 1, CALL = 2, ANSWER = 3, BYE = 5, VERSION = 1, HEAD = 16, FRAME_MAX = 64 << 20 };
enum { OUTCOME_DEAD = 3, RESULT_TEXT = 1, RESULT_JSON = 2 };

static int daemon_fd;

typedef struct bytes {
    uint8_t *at;
    size_t size, room;
} bytes;

static void add(bytes *out, const void *more, size_t size) {
    if (out->room - out->size < size) {
        out->room = (out->size + size) * 2;
        out->at = realloc(out->at, out->room);
        if (out->at == NULL) {
            exit(1);
        }
    }
    memcpy(out->at + out->size, more, size);
    out->size += size;
}

static void add_u32(bytes *out, uint32_t value) {
    uint8_t b[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                    (uint8_t)(value >> 24)};
    add(out, b, sizeof b);
}

static uint32_t u32(const uint8_t *b) {
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static int move(int is_write, uint8_t *at, size_t size) {
    while (size > 0) {
        ssize_t done = is_write ? write(daemon_fd, at, size) : read(daemon_fd, at, size);
        if (done <= 0) {
            return 0;
        }
        at += done;
        size -= (size_t)done;
    }
    return 1;
}

static void send_frame(uint8_t type, const uint8_t *call, const bytes *body) {
    bytes frame = {0};
    uint8_t kind[4] = {type, VERSION, 0, 0}, none[8] = {0};
    add_u32(&frame, (uint32_t)body->size);
    add(&frame, kind, sizeof kind);
    add(&frame, call == NULL ? none : call, 8);
    add(&frame, body->at, body->size);
    if (!move(1, frame.at, frame.size)) {
        exit(0);
    }
    free(frame.at);
}

/* One event of a call. */
static void handle(uint32_t index, const uint8_t *data, uint32_t size, bytes *exceptions,
                   uint32_t *exception_count, bytes *results, uint32_t *result_count) {
    char text[24] = "", twice[32];
    char *end = text;
    if (size > 0 && size < sizeof text) {
        memcpy(text, data, size);
        text[size] = '\0';
    }
    long long number = strtoll(text, &end, 10);
    if (end == text || *end != '\0') {
        static const char why[] = "the data is no whole number";
        static const uint8_t by_policy[8] = {255, 255, 255, 255, 255, 255, 255, 255};
        add_u32(exceptions, index);
        add_u32(exceptions, OUTCOME_DEAD);
        add(exceptions, by_policy, sizeof by_policy);
        add_u32(exceptions, sizeof why - 1);
        add(exceptions, why, sizeof why - 1);
        ++*exception_count;
        return;
    }
    uint32_t length = (uint32_t)snprintf(twice, sizeof twice, "%lld", number * 2);
    const uint32_t head[6] = {index, RESULT_TEXT | RESULT_JSON, 0, 0, 0, length};
    for (int i = 0; i < 6; i++) {
        add_u32(results, head[i]);
    }
    add(results, twice, length);
    ++*result_count;
}

static void answer(const uint8_t *call, const uint8_t *body) {
    bytes exceptions = {0}, results = {0}, out = {0};
    uint32_t exception_count = 0, result_count = 0, count = u32(body);
    const uint8_t *at = body + 24 + u32(body + 16) + u32(body + 20);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *data = at + 52; /* 13 numbers, then the parts; data is the eighth part */
        for (int part = 4; part < 11; part++) {
            data += u32(at + part * 4);
        }
        handle(i, data, u32(at + 44), &exceptions, &exception_count, &results, &result_count);
        at += u32(at);
    }
    add_u32(&out, exception_count);
    add_u32(&out, result_count);
    add(&out, exceptions.at == NULL ? (uint8_t *)"" : exceptions.at, exceptions.size);
    add(&out, results.at == NULL ? (uint8_t *)"" : results.at, results.size);
    send_frame(ANSWER, call, &out);
    free(exceptions.at);
    free(results.at);
    free(out.at);
}

int main(void) {
    const char *fd = getenv("HEADRACE_FD");
    bytes hello = {0};
    daemon_fd = fd == NULL ? 3 : (int)strtol(fd, NULL, 10);
    add_u32(&hello, 0); /* flags */
    add_u32(&hello, 0); /* no error */
    send_frame(HELLO, NULL, &hello);
    free(hello.at);
    uint8_t head[HEAD];
    while (move(0, head, HEAD)) {
        uint32_t size = u32(head);
        uint8_t *body = size > FRAME_MAX ? NULL : malloc(size + 1);
        if (body == NULL || !move(0, body, size)) {
            return 1;
        }
        if (head[4] == CALL) {
            answer(head + 8, body);
        }
        free(body);
        if (head[4] == BYE) {
            return 0;
        }
    }
    return 0;
}
