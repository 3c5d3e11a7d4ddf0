/* SPDX-License-Identifier: Apache-2.0 */
/* The other sides of `./dev bench webhook`.
 *
 *   http_peer serve LISTEN [CERT KEY]      our HTTP server, 204 at once, nothing stored
 *   http_peer pace PORT PATH CONNECTIONS RATE SECONDS     RATE 0: as fast as they answer
 *
 * pace posts 300 bytes of JSON at a fixed rate and takes each request's time from when it was due,
 * so that a server that stands still is not asked less; the body says it too. It prints
 * "SENT OK P50_MS P99_MS P999_MS MAX_MS SECONDS". */
#include "core/memory.h"
#include "net/http_server.h"
#include "tests/lib/latency.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BODY_BYTES = 300, ANSWER_BYTES = 4096, CONNECTIONS_MAX = 1024, RATE_MAX = 500000 };

static void die(const char *what) {
    fprintf(stderr, "http_peer: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- serve ---- */

static void on_request(void *data, hr_http_request *request) {
    (void)data;
    hr_http_answer(request, 204, NULL, (hr_slice){0});
}

static void on_signal(void *data, int signal) {
    (void)signal;
    hr_loop_stop(data);
}

static int serve(int argc, char **argv) {
    hr_error err = {0};
    hr_loop *loop = hr_loop_new();
    hr_http_options options = {.listen = argv[0]};
    if (argc == 3) {
        options.tls_cert = argv[1];
        options.tls_key = argv[2];
    }
    hr_http_server *server = hr_http_server_new(loop, &options);
    if (hr_http_route(server, "/hooks/readings", 1 << 20, 0, on_request, NULL, &err) != HR_OK ||
        hr_http_server_start(server, &err) != HR_OK) {
        fprintf(stderr, "http_peer: %s\n", err.text);
        return 1;
    }
    hr_loop_signal(loop, SIGTERM, on_signal, loop);
    printf("%d\n", hr_http_server_port(server));
    fflush(stdout);
    hr_loop_run(loop);
    hr_http_server_stop(server);
    hr_http_server_free(server);
    hr_loop_free(loop);
    return 0;
}

/* ---- pace ---- */

typedef struct client {
    int fd;
    uint64_t due_ns; /* of the request under way; 0: none */
    char answer[ANSWER_BYTES];
    size_t size;
} client;

typedef struct pace {
    client clients[CONNECTIONS_MAX];
    uint32_t idle[CONNECTIONS_MAX], idle_count;
    char request[1024];
    size_t request_size;
    char *at; /* its place in the request */
    uint64_t *took_ns;
    size_t sent, answered, ok, wanted;
    uint64_t begin_ns, gap_ns; /* gap 0: as fast as they answer, until end_ns */
    uint64_t end_ns;
} pace;

static int connect_to(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        die("connect");
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

static void send_due(pace *p) {
    uint64_t now = hr_mono_ns();
    if (p->gap_ns == 0 && now >= p->end_ns) {
        p->wanted = p->sent;
    }
    while (p->sent < p->wanted && p->idle_count > 0 && p->begin_ns + p->sent * p->gap_ns <= now) {
        client *c = &p->clients[p->idle[--p->idle_count]];
        c->due_ns = p->gap_ns == 0 ? now : p->begin_ns + p->sent * p->gap_ns;
        char digits[LATENCY_DIGITS + 1];
        snprintf(digits, sizeof digits, "%019llu", (unsigned long long)c->due_ns);
        memcpy(p->at, digits, LATENCY_DIGITS);
        if (send(c->fd, p->request, p->request_size, MSG_NOSIGNAL) != (ssize_t)p->request_size) {
            die("send");
        }
        p->sent++;
    }
}

/* Is the answer whole? Ours say Content-Length. */
static bool is_whole(client *c) {
    c->answer[c->size] = '\0';
    const char *end = strstr(c->answer, "\r\n\r\n");
    const char *length = strcasestr(c->answer, "\r\ncontent-length:");
    if (end == NULL) {
        return false;
    }
    size_t body = length == NULL || length > end ? 0 : (size_t)strtoul(length + 17, NULL, 10);
    return c->size >= (size_t)(end + 4 - c->answer) + body;
}

static void take_answer(pace *p, client *c) {
    ssize_t got = recv(c->fd, c->answer + c->size, sizeof c->answer - 1 - c->size, 0);
    if (got <= 0) {
        die("a connection was closed");
    }
    c->size += (size_t)got;
    if (!is_whole(c)) {
        return;
    }
    p->took_ns[p->answered++] = hr_mono_ns() - c->due_ns;
    p->ok += strncmp(c->answer, "HTTP/1.1 2", 10) == 0 ? 1 : 0;
    c->size = 0;
    c->due_ns = 0;
    p->idle[p->idle_count++] = (uint32_t)(c - p->clients);
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double at_ms(const pace *p, size_t of_1000) {
    size_t index = p->answered * of_1000 / 1000;
    return (double)p->took_ns[index < p->answered ? index : p->answered - 1] / 1e6;
}

static int run_pace(char **argv) {
    static pace p;
    int port = atoi(argv[0]), epoll = epoll_create1(EPOLL_CLOEXEC);
    uint32_t connections = (uint32_t)strtoul(argv[2], NULL, 10);
    uint64_t rate = strtoull(argv[3], NULL, 10), seconds = strtoull(argv[4], NULL, 10);
    if (connections == 0 || connections > CONNECTIONS_MAX || rate > RATE_MAX || seconds == 0) {
        fprintf(stderr, "http_peer: 1 to %d connections, a rate and seconds\n", CONNECTIONS_MAX);
        return 2;
    }
    char body[BODY_BYTES + 1];
    int used = snprintf(body, sizeof body,
                        "{\"device\":\"d-1\",\"temp\":40.5," LATENCY_FIELD "%019d\",\"pad\":\"", 0);
    memset(body + used, 'x', (size_t)(BODY_BYTES - used));
    memcpy(body + BODY_BYTES - 2, "\"}", 3);
    p.request_size = (size_t)snprintf(p.request, sizeof p.request,
                                      "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
                                      "application/json\r\nContent-Length: %d\r\n\r\n%s",
                                      argv[1], BODY_BYTES, body);
    p.at = strstr(p.request, LATENCY_FIELD) + sizeof LATENCY_FIELD - 1;
    p.wanted = (rate > 0 ? rate : RATE_MAX) * seconds;
    p.gap_ns = rate > 0 ? 1000000000 / rate : 0;
    p.took_ns = hr_alloc_array(p.wanted, sizeof *p.took_ns);
    for (uint32_t i = 0; i < connections; i++) {
        p.clients[i].fd = connect_to(port);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, p.clients[i].fd, &event);
        p.idle[p.idle_count++] = i;
    }
    p.begin_ns = hr_mono_ns();
    p.end_ns = p.begin_ns + seconds * 1000000000;
    while (p.answered < p.wanted) {
        struct epoll_event events[256];
        send_due(&p);
        int count = epoll_wait(epoll, events, 256, 1);
        for (int i = 0; i < count; i++) {
            take_answer(&p, &p.clients[events[i].data.u32]);
        }
    }
    double took_s = (double)(hr_mono_ns() - p.begin_ns) / 1e9;
    qsort(p.took_ns, p.answered, sizeof *p.took_ns, compare);
    printf("%zu %zu %.3f %.3f %.3f %.3f %.3f\n", p.sent, p.ok, at_ms(&p, 500), at_ms(&p, 990),
           at_ms(&p, 999), at_ms(&p, 1000), took_s);
    hr_free(p.took_ns);
    return 0;
}

int main(int argc, char **argv) {
    if ((argc == 3 || argc == 5) && strcmp(argv[1], "serve") == 0) {
        return serve(argc - 2, argv + 2);
    }
    if (argc == 7 && strcmp(argv[1], "pace") == 0) {
        return run_pace(argv + 2);
    }
    fprintf(stderr, "usage: http_peer serve|pace ... (see the source)\n");
    return 2;
}
