/* SPDX-License-Identifier: Apache-2.0 */
/* Plain sockets that speak HTTP byte by byte to a server whose loop the test runs itself. */
#ifndef HR_TESTS_HTTP_RAW_H
#define HR_TESTS_HTTP_RAW_H

#include "core/buffer.h"
#include "core/loop.h"

/* One exchange of a client thread; zero it, then fill in what to send. */
typedef struct raw_exchange {
    int port;
    const char *head;        /* request line and header lines, each with \r\n, no empty line */
    const char *body;        /* NULL: none */
    size_t body_size;        /* 0 with a body: its strlen */
    bool no_length;          /* do not add Content-Length */
    bool closes_at_once;     /* do not wait for the answer */
    uint64_t answered_ns;    /* hr_mono_ns when the first bytes came, 0: none */
    int status;              /* of the last answer, 0: none */
    char answer[1 << 16];    /* everything that came, terminated */
    const char *answer_body; /* in answer */
} raw_exchange;

/* A connected socket to 127.0.0.1:port with a receive time limit of 10 s, -1 on failure. */
int raw_connect(int port);

/* Sends the exchange with "Connection: close" and reads to the end. Blocks.  Thread: any. */
void raw_run(raw_exchange *exchange);

/* Runs work(data) in a thread of its own while loop runs here; returns when it has ended. */
void raw_with_loop(hr_loop *loop, void (*work)(void *data), void *data);

/* raw_run beside the loop, for several exchanges at once. */
void raw_run_all(hr_loop *loop, raw_exchange *exchanges, size_t count);

#endif
