/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/http_raw.h"

#include "core/memory.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int raw_connect(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((in_port_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval limit = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void send_all(int fd, const void *bytes, size_t size) {
    const char *at = bytes;
    while (size > 0) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent <= 0) {
            return;
        }
        at += sent;
        size -= (size_t)sent;
    }
}

void raw_run(raw_exchange *exchange) {
    int fd = raw_connect(exchange->port);
    if (fd < 0) {
        return;
    }
    hr_buffer request = {0};
    hr_buffer_print(&request, "%sConnection: close\r\n", exchange->head);
    size_t size = exchange->body_size;
    if (size == 0 && exchange->body != NULL) {
        size = strlen(exchange->body);
    }
    if (exchange->body != NULL && !exchange->no_length) {
        hr_buffer_print(&request, "Content-Length: %zu\r\n", size);
    }
    hr_buffer_print(&request, "\r\n");
    if (size > 0) {
        hr_buffer_add(&request, exchange->body, size);
    }
    send_all(fd, request.bytes, request.size);
    hr_buffer_fini(&request);
    size_t have = 0;
    while (!exchange->closes_at_once && have + 1 < sizeof exchange->answer) {
        ssize_t got = recv(fd, exchange->answer + have, sizeof exchange->answer - 1 - have, 0);
        if (got <= 0) {
            break;
        }
        if (have == 0) {
            exchange->answered_ns = hr_mono_ns();
        }
        have += (size_t)got;
    }
    exchange->answer[have] = 0;
    const char *from = exchange->answer;
    while (strncmp(from, "HTTP/1.1 100", 12) == 0 && strstr(from, "\r\n\r\n") != NULL) {
        from = strstr(from, "\r\n\r\n") + 4;
    }
    if (strncmp(from, "HTTP/1.1 ", 9) == 0) {
        exchange->status = (int)strtol(from + 9, NULL, 10);
    }
    const char *end = strstr(from, "\r\n\r\n");
    exchange->answer_body = end == NULL ? "" : end + 4;
    close(fd);
}

typedef struct beside {
    hr_message message;
    hr_loop *loop;
    void (*work)(void *data);
    void *data;
} beside;

static void end_loop(hr_message *message) {
    beside *self = (beside *)(void *)message; /* its first member */
    hr_loop_stop(self->loop);
}

static void *run_beside(void *data) {
    beside *self = data;
    self->work(self->data);
    hr_loop_post(self->loop, &self->message);
    return NULL;
}

void raw_with_loop(hr_loop *loop, void (*work)(void *data), void *data) {
    beside self = {.message = {.run = end_loop}, .loop = loop, .work = work, .data = data};
    pthread_t thread;
    HR_ASSERT(pthread_create(&thread, NULL, run_beside, &self) == 0);
    hr_loop_run(loop);
    pthread_join(thread, NULL);
}

typedef struct many {
    raw_exchange *exchanges;
    size_t count;
} many;

static void *run_one(void *data) {
    raw_run(data);
    return NULL;
}

static void run_many(void *data) {
    many *self = data;
    pthread_t *threads = hr_alloc_array(self->count, sizeof *threads);
    for (size_t i = 0; i < self->count; i++) {
        HR_ASSERT(pthread_create(&threads[i], NULL, run_one, &self->exchanges[i]) == 0);
    }
    for (size_t i = 0; i < self->count; i++) {
        pthread_join(threads[i], NULL);
    }
    hr_free(threads);
}

void raw_run_all(hr_loop *loop, raw_exchange *exchanges, size_t count) {
    many self = {.exchanges = exchanges, .count = count};
    raw_with_loop(loop, run_many, &self);
}
