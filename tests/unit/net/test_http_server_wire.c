/* SPDX-License-Identifier: Apache-2.0 */
/* What goes over the wire, to the byte: requests behind each other, in pieces, of other versions,
 * malformed ones, and peers that are slow to read. */
#include "net/http_server.h"

#include "core/memory.h"
#include "tests/lib/http_raw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { HELD = 8, BIG = 8 << 20 };

typedef struct bench {
    hr_loop *loop;
    hr_http_server *server;
    hr_timer *timer;
    hr_http_request *held[HELD];
    size_t held_count, calls;
    hr_buffer seen; /* a line a call */
} bench;

static void note(bench *self, const hr_http_request *request) {
    const char *a = hr_http_query(request, "a");
    hr_slice word = hr_http_header(request, "X-Word"), body = hr_http_body(request);
    self->calls++;
    hr_buffer_print(&self->seen, "%s %s %s [%.*s] %.*s\n", hr_http_method(request),
                    hr_http_path(request), a == NULL ? "-" : a, (int)word.size,
                    word.size == 0 ? "" : (const char *)word.bytes, (int)body.size,
                    body.size == 0 ? "" : (const char *)body.bytes);
}

static void echo(void *data, hr_http_request *request) {
    note(data, request);
    hr_http_answer(request, 200, NULL, hr_http_body(request));
}

static void hold(void *data, hr_http_request *request) {
    bench *self = data;
    note(self, request);
    assert_true(self->held_count < HELD);
    self->held[self->held_count++] = request;
    hr_timer_start(self->timer, 20, 0);
}

static void answer_held(void *data) {
    bench *self = data;
    while (self->held_count > 0) {
        hr_http_answer(self->held[--self->held_count], 202, NULL, hr_slice_text("late"));
    }
}

static void give_much(void *data, hr_http_request *request) {
    (void)data;
    char *much = hr_alloc(BIG);
    memset(much, 'm', BIG);
    hr_http_answer(request, 200, NULL, hr_slice_of((const uint8_t *)much, BIG));
    hr_free(much);
}

static int set_up(void **state) {
    bench *self = hr_alloc(sizeof *self);
    *state = self;
    self->loop = hr_loop_new();
    self->timer = hr_timer_new(self->loop, answer_held, self);
    hr_http_options options = {.listen = "127.0.0.1:0"};
    self->server = hr_http_server_new(self->loop, &options);
    hr_error err = {0};
    assert_int_equal(hr_http_route(self->server, "/echo", 100, 0, echo, self, &err), HR_OK);
    assert_int_equal(hr_http_route(self->server, "/a b", 100, 0, echo, self, &err), HR_OK);
    assert_int_equal(hr_http_route(self->server, "/hold", 100, 0, hold, self, &err), HR_OK);
    assert_int_equal(hr_http_route(self->server, "/much", 100, 0, give_much, self, &err), HR_OK);
    assert_int_equal(hr_http_server_start(self->server, &err), HR_OK);
    return 0;
}

static int tear_down(void **state) {
    bench *self = *state;
    hr_http_server_free(self->server);
    hr_timer_free(self->timer);
    hr_loop_free(self->loop);
    hr_buffer_fini(&self->seen);
    hr_free(self);
    return 0;
}

typedef struct talk {
    int port;
    const char *bytes;
    size_t piece;      /* bytes of one send, with a pause behind; 0: all at once */
    const char *then;  /* sent when the first answer is there; NULL: nothing */
    bool shuts;        /* nothing more to say, and the server may know */
    int answers;       /* then it hangs up; 0: it waits for the server to */
    useconds_t before; /* it reads */
    hr_buffer got;
} talk;

static int count_answers(talk *self) {
    int count = 0;
    for (const char *at = hr_buffer_text(&self->got); (at = strstr(at, "HTTP/1.1 ")) != NULL;) {
        at += 9;
        count++;
    }
    return count;
}

static void run_talk(void *data) {
    talk *self = data;
    int fd = raw_connect(self->port);
    size_t size = strlen(self->bytes), piece = self->piece == 0 ? size : self->piece;
    for (size_t at = 0; at < size; at += piece) {
        size_t part = size - at < piece ? size - at : piece;
        if (send(fd, self->bytes + at, part, MSG_NOSIGNAL) != (ssize_t)part) {
            break;
        }
        usleep(self->piece == 0 ? 0 : 1000);
    }
    if (self->shuts) {
        shutdown(fd, SHUT_WR);
    }
    usleep(self->before);
    ssize_t got = 0;
    do {
        uint8_t *room = hr_buffer_room(&self->got, 1 << 16);
        got = recv(fd, room, 1 << 16, 0);
        self->got.size += got > 0 ? (size_t)got : 0;
        if (self->then != NULL && count_answers(self) > 0) {
            send(fd, self->then, strlen(self->then), MSG_NOSIGNAL);
            self->then = NULL;
        }
    } while (got > 0 && (self->answers == 0 || count_answers(self) < self->answers));
    close(fd);
}

/* Its answers, to be freed. */
static char *run(bench *self, talk what) {
    what.port = hr_http_server_port(self->server);
    raw_with_loop(self->loop, run_talk, &what);
    char *text = hr_copy_text(hr_buffer_text(&what.got));
    hr_buffer_fini(&what.got);
    return text;
}

/* Statuses of the answers to these bytes, "200 404 ", until the server closes. */
static const char *statuses(bench *self, const char *bytes) {
    static char line[256];
    char *got = run(self, (talk){.bytes = bytes, .shuts = true});
    line[0] = 0;
    for (const char *at = got; (at = strstr(at, "HTTP/1.1 ")) != NULL;) {
        at += 9;
        strncat(line, at, 4);
    }
    hr_free(got);
    return line;
}

static void requests_behind_each_other_are_answered_in_order(void **state) {
    bench *self = *state;

    assert_string_equal(statuses(self,
                                 "POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
                                 "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\ntwo"
                                 "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
                                 "POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nfour"
                                 "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                                 "POST /echo HTTP/1.1\r\nHost: x\r\n\r\n"),
                        "202 200 404 202 200 ");
    assert_string_equal(hr_buffer_text(&self->seen), "POST /hold - [] one\nPOST /echo - [] two\n"
                                                     "POST /hold - [] four\nPOST /echo - [] \n");
}

static void a_request_may_come_byte_by_byte(void **state) {
    bench *self = *state;

    char *got = run(self, (talk){.bytes = "POST /echo?a=1 HTTP/1.1\r\nHost: x\r\nX-Word: w \r\n"
                                          "Transfer-Encoding: chunked\r\n\r\n"
                                          "3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nX-Word: z\r\n\r\n"
                                          "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n",
                                 .piece = 1,
                                 .answers = 2});

    assert_string_equal(hr_buffer_text(&self->seen), "POST /echo 1 [w] abcde\nGET /echo - [] \n");
    assert_non_null(strstr(got, "\r\nContent-Length: 5\r\n"));
    assert_non_null(strstr(got, "\r\nDate: "));
    assert_non_null(strstr(got, " GMT\r\n"));
    assert_null(strstr(got, "Connection:"));
    hr_free(got);
}

static void paths_and_arguments_are_decoded(void **state) {
    bench *self = *state;

    assert_string_equal(statuses(self, "GET /a%20b?a=%3d+%C3%a4&b HTTP/1.1\r\nHost: x\r\n\r\n"
                                       "GET /%65cho?b&a HTTP/1.1\r\nHost: x\r\n\r\n"
                                       "GET http://x:1/echo?a=%2x HTTP/1.1\r\nHost: x\r\n\r\n"
                                       "GET /echo%00 HTTP/1.1\r\nHost: x\r\n\r\n"
                                       "GET /echo/ HTTP/1.1\r\nHost: x\r\n\r\n"),
                        "200 200 200 404 404 ");
    assert_string_equal(hr_buffer_text(&self->seen),
                        "GET /a b = \xc3\xa4 [] \nGET /echo  [] \nGET /echo %2x [] \n");
}

static void http_1_0_is_closed_unless_it_asks(void **state) {
    bench *self = *state;

    char *got = run(self, (talk){.bytes = "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
                                          "GET /echo HTTP/1.0\r\n\r\n"
                                          "GET /echo HTTP/1.0\r\n\r\n"});

    assert_int_equal(self->calls, 2);
    const char *first = strstr(got, "Connection: keep-alive\r\n");
    assert_non_null(first);
    assert_non_null(strstr(first, "Connection: close\r\n"));
    hr_free(got);
}

static void head_is_answered_without_a_body(void **state) {
    bench *self = *state;

    char *got = run(self, (talk){.bytes = "HEAD /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                                          "Content-Length: 3\r\n\r\nabc"});

    assert_non_null(strstr(got, "\r\nContent-Length: 3\r\n"));
    assert_string_equal(strstr(got, "\r\n\r\n"), "\r\n\r\n");
    hr_free(got);
}

static void who_waits_to_send_the_body_is_told_to(void **state) {
    bench *self = *state;

    char *got = run(self, (talk){.bytes = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
                                          "Expect: 100-continue\r\n\r\n",
                                 .then = "abc",
                                 .answers = 2});

    assert_int_equal(strncmp(got, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", 42), 0);
    assert_string_equal(hr_buffer_text(&self->seen), "POST /echo - [] abc\n");
    hr_free(got);
}

static void another_protocol_is_not_spoken(void **state) {
    bench *self = *state;

    assert_string_equal(statuses(self, "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                                       "Upgrade: h2c\r\n\r\n"
                                       "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"),
                        "200 200 ");
    assert_string_equal(statuses(self, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "400 ");
    assert_string_equal(statuses(self, "GET /echo HTTP/2.0\r\nHost: x\r\n\r\n"), "505 ");
    assert_string_equal(statuses(self, "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"), "404 ");
    assert_int_equal(self->calls, 2);
}

static void what_two_servers_could_read_differently_is_refused(void **state) {
    bench *self = *state;
#define POST "POST /echo HTTP/1.1\r\nHost: x\r\n"
    static const char *const bad[] = {
        "POST /echo HTTP/1.1\r\n\r\n",
        POST "Host: y\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost : x\r\n\r\n",
        "POST /echo HTTP/1.1\r\n: x\r\nHost: x\r\n\r\n",
        POST ": x\r\n\r\n",
        POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        POST "Content-Length: 3, 3\r\n\r\nabc",
        POST "Content-Length: +3\r\n\r\nabc",
        POST "Content-Length: 0x3\r\n\r\nabc",
        POST "Content-Length: 99999999999999999999\r\n\r\nabc",
        POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        POST "Transfer-Encoding: identity\r\n\r\n",
        POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        POST "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        POST "X-Word: a\rb\r\n\r\n",
        POST "X Word: a\r\n\r\n",
        "POST /echo HTTP/1.1 \r\nHost: x\r\n\r\n",
        "BREW /echo HTTP/1.1\r\nHost: x\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *got = statuses(self, bad[i]);
        if (strcmp(got, "400 ") != 0 || self->calls != 0) {
            fail_msg("%s: answered '%s', handled %zu", bad[i], got, self->calls);
        }
    }
}

static void why_it_cannot_be_read_is_said(void **state) {
    bench *self = *state;

    char *got = run(
        self, (talk){.bytes = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n"});

    assert_non_null(strstr(got, "the request cannot be read: Invalid character in Content-Length"));
    assert_non_null(strstr(got, "Connection: close\r\n"));
    hr_free(got);
}

static void more_than_128_lines_are_refused(void **state) {
    bench *self = *state;
    hr_buffer bytes = {0};
    hr_buffer_print(&bytes, "GET /echo HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 128; i++) {
        hr_buffer_print(&bytes, "A: b\r\n");
    }
    hr_buffer_print(&bytes, "\r\n");

    assert_string_equal(statuses(self, hr_buffer_text(&bytes)), "431 ");
    assert_int_equal(self->calls, 0);
    hr_buffer_fini(&bytes);
}

static void who_has_said_all_still_gets_the_answer(void **state) {
    bench *self = *state;

    assert_string_equal(
        statuses(self, "POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"), "202 ");
}

static void a_refusal_arrives_though_the_body_was_on_its_way(void **state) {
    bench *self = *state;
    hr_buffer bytes = {0};
    hr_buffer_print(&bytes, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n");
    memset(hr_buffer_room(&bytes, 1 << 20), 'x', 1 << 20);
    bytes.size += 1 << 20;

    assert_string_equal(statuses(self, hr_buffer_text(&bytes)), "413 ");
    assert_int_equal(self->calls, 0);
    hr_buffer_fini(&bytes);
}

static void who_is_slow_to_read_gets_all_of_it(void **state) {
    bench *self = *state;

    char *got = run(self, (talk){.bytes = "GET /much HTTP/1.1\r\nHost: x\r\n\r\n"
                                          "GET /echo HTTP/1.1\r\nHost: x\r\n"
                                          "Connection: close\r\n\r\n",
                                 .before = 200000});

    const char *body = strstr(got, "\r\n\r\n");
    assert_non_null(body);
    assert_int_equal(strspn(body + 4, "m"), BIG);
    assert_int_equal(strncmp(body + 4 + BIG, "HTTP/1.1 200", 12), 0);
    assert_int_equal(self->calls, 1);
    hr_free(got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests_behind_each_other_are_answered_in_order, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_request_may_come_byte_by_byte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(paths_and_arguments_are_decoded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(http_1_0_is_closed_unless_it_asks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(head_is_answered_without_a_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_waits_to_send_the_body_is_told_to, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_protocol_is_not_spoken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_two_servers_could_read_differently_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(why_it_cannot_be_read_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_than_128_lines_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_has_said_all_still_gets_the_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_refusal_arrives_though_the_body_was_on_its_way, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_is_slow_to_read_gets_all_of_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
