/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server over real sockets. The loop runs in the test's thread, clients in their own. */
#include "net/http_server.h"

#include "core/memory.h"
#include "tests/lib/http_raw.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

enum { HELD = 64 };

typedef struct bench {
    hr_loop *loop;
    hr_http_server *server;
    hr_timer *timer;
    hr_http_request *held[HELD];
    size_t held_count, calls;
    bool stops_in_handler;
    size_t stop_at_call; /* 0: never */
    hr_timer *stop;
    char seen[512];
    hr_buffer body;
    bool was_cut;
} bench;

static void count_call(bench *self) {
    self->calls++;
    if (self->calls == self->stop_at_call) {
        hr_timer_start(self->stop, 0, 0);
    }
}

static void echo(void *data, hr_http_request *request) {
    bench *self = data;
    count_call(self);
    self->was_cut = hr_http_is_cut(request);
    const char *query = hr_http_query(request, "a");
    hr_slice header = hr_http_header(request, "x-Word");
    snprintf(self->seen, sizeof self->seen, "%s %s %s %.*s", hr_http_method(request),
             hr_http_path(request), query == NULL ? "-" : query, (int)header.size,
             header.size == 0 ? "" : (const char *)header.bytes);
    hr_slice body = hr_http_body(request);
    self->body.size = 0;
    if (body.size > 0) {
        hr_buffer_add(&self->body, body.bytes, body.size);
    }
    const char *const headers[] = {"X-Answer", "yes", NULL};
    hr_http_answer(request, 200, headers, body);
}

static atomic_bool is_held; /* a request came to hold() */

static void hold(void *data, hr_http_request *request) {
    bench *self = data;
    count_call(self);
    atomic_store(&is_held, true);
    assert_true(self->held_count < HELD);
    self->held[self->held_count++] = request;
    if (self->stops_in_handler) {
        hr_http_server_stop(self->server);
    } else {
        hr_timer_start(self->timer, 20, 0);
    }
}

static void answer_held(void *data) {
    bench *self = data;
    while (self->held_count > 0) {
        hr_http_answer(self->held[--self->held_count], 202, NULL, hr_slice_text("late\n"));
    }
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
    assert_int_equal(hr_http_route(self->server, "/head", 100, 10, echo, self, &err), HR_OK);
    assert_int_equal(hr_http_route(self->server, "/big", 8 << 20, 0, echo, self, &err), HR_OK);
    assert_int_equal(hr_http_route(self->server, "/hold", 100, 0, hold, self, &err), HR_OK);
    assert_int_equal(hr_http_server_start(self->server, &err), HR_OK);
    return 0;
}

static int tear_down(void **state) {
    bench *self = *state;
    hr_http_server_free(self->server);
    hr_timer_free(self->timer);
    hr_loop_free(self->loop);
    hr_buffer_fini(&self->body);
    hr_free(self);
    return 0;
}

static raw_exchange *ask(bench *self, const char *head, const char *body) {
    static raw_exchange exchange;
    exchange = (raw_exchange){.head = head, .body = body};
    exchange.port = hr_http_server_port(self->server);
    raw_run_all(self->loop, &exchange, 1);
    return &exchange;
}

static void a_handler_gets_every_part_of_a_request(void **state) {
    bench *self = *state;

    raw_exchange *got =
        ask(self, "POST /echo?a=b%20c HTTP/1.1\r\nHost: x\r\nX-Word: hello\r\n", "body");

    assert_int_equal(got->status, 200);
    assert_string_equal(self->seen, "POST /echo b c hello");
    assert_string_equal(got->answer_body, "body");
    assert_non_null(strstr(got->answer, "X-Answer: yes\r\n"));
}

static void an_unknown_path_is_answered_404_with_a_line(void **state) {
    bench *self = *state;

    raw_exchange *got = ask(self, "POST /nowhere HTTP/1.1\r\nHost: x\r\n", "body");

    assert_int_equal(got->status, 404);
    assert_string_equal(got->answer_body, "nothing is served at this path\n");
    assert_int_equal(self->calls, 0);
}

static void a_body_too_large_is_answered_413_and_never_handled(void **state) {
    bench *self = *state;
    char *body = hr_alloc(200001);
    memset(body, 'x', 200000);

    raw_exchange *got = ask(self, "POST /echo HTTP/1.1\r\nHost: x\r\n", body);

    assert_int_equal(got->status, 413);
    assert_string_equal(got->answer_body, "the body is too large\n");
    assert_int_equal(self->calls, 0);
    got = ask(self, "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n", body);
    assert_int_equal(got->status, 413);
    assert_null(strstr(got->answer, "HTTP/1.1 100"));
    hr_free(body);
}

static void a_chunked_body_too_large_is_answered_413(void **state) {
    bench *self = *state;
    hr_buffer body = {0};
    for (int i = 0; i < 20; i++) {
        hr_buffer_print(&body, "a\r\n0123456789\r\n");
    }
    hr_buffer_print(&body, "0\r\n\r\n");
    raw_exchange exchange = {.head =
                                 "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n",
                             .no_length = true,
                             .port = hr_http_server_port(self->server)};
    exchange.body = hr_buffer_text(&body);

    raw_run_all(self->loop, &exchange, 1);

    assert_int_equal(exchange.status, 413);
    assert_int_equal(self->calls, 0);
    hr_buffer_fini(&body);
}

static void a_chunked_body_arrives_whole(void **state) {
    bench *self = *state;
    raw_exchange exchange = {.head =
                                 "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n",
                             .no_length = true,
                             .body = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                             .port = hr_http_server_port(self->server)};

    raw_run_all(self->loop, &exchange, 1);

    assert_int_equal(exchange.status, 200);
    assert_string_equal(exchange.answer_body, "abcde");
}

static void of_a_body_too_large_the_head_is_kept_where_asked(void **state) {
    bench *self = *state;
    char *body = hr_alloc(300001);
    memset(body, 'y', 300000);

    raw_exchange *got = ask(self, "POST /head HTTP/1.1\r\nHost: x\r\n", body);

    assert_int_equal(got->status, 200);
    assert_true(self->was_cut);
    assert_int_equal(self->body.size, 10);
    got = ask(self, "POST /head HTTP/1.1\r\nHost: x\r\n", "small enough, but over ten bytes");
    assert_int_equal(got->status, 200);
    assert_false(self->was_cut);
    assert_int_equal(self->body.size, 32);
    hr_free(body);
}

static void length_and_chunked_together_are_answered_400(void **state) {
    bench *self = *state;

    raw_exchange *got =
        ask(self, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\nGET /echo HTTP/1.1\r\nHost: x\r\n\r\n");

    assert_int_equal(got->status, 400);
    assert_null(strstr(got->answer + 12, "HTTP/1.1 200")); /* nothing smuggled in */
    assert_int_equal(self->calls, 0);
    got = ask(self, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n", "abc");
    assert_int_equal(got->status, 400);
    got = ask(self, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n", NULL);
    assert_int_equal(got->status, 400);
    assert_int_equal(self->calls, 0);
}

static void what_is_no_http_is_answered_400_or_closed(void **state) {
    bench *self = *state;

    raw_exchange *got = ask(self, "hello\r\n", NULL);

    assert_true(got->status == 400 || got->status == 0);
    assert_int_equal(self->calls, 0);
}

static void header_lines_over_16_kib_are_refused(void **state) {
    bench *self = *state;
    hr_buffer head = {0};
    hr_buffer_print(&head, "POST /echo HTTP/1.1\r\nHost: x\r\nX-Long: ");
    for (int i = 0; i < 17 << 10; i++) {
        hr_buffer_add(&head, "z", 1);
    }
    hr_buffer_print(&head, "\r\n");

    raw_exchange *got = ask(self, hr_buffer_text(&head), "x");

    assert_int_equal(got->status, 431);
    assert_int_equal(self->calls, 0);
    hr_buffer_fini(&head);
}

static void an_answer_may_come_later_for_many_at_once(void **state) {
    bench *self = *state;
    raw_exchange *exchanges = hr_alloc_array(32, sizeof *exchanges);
    for (int i = 0; i < 32; i++) {
        exchanges[i].head = "POST /hold HTTP/1.1\r\nHost: x\r\n";
        exchanges[i].body = "x";
        exchanges[i].port = hr_http_server_port(self->server);
    }

    raw_run_all(self->loop, exchanges, 32);

    for (int i = 0; i < 32; i++) {
        assert_int_equal(exchanges[i].status, 202);
        assert_string_equal(exchanges[i].answer_body, "late\n");
    }
    assert_int_equal(self->calls, 32);
    hr_free(exchanges);
}

static void a_client_that_left_does_not_disturb(void **state) {
    bench *self = *state;
    raw_exchange *exchanges = hr_alloc_array(16, sizeof *exchanges);
    for (int i = 0; i < 16; i++) {
        exchanges[i].head = "POST /hold HTTP/1.1\r\nHost: x\r\n";
        exchanges[i].body = "x";
        exchanges[i].port = hr_http_server_port(self->server);
        exchanges[i].closes_at_once = i % 2 == 0;
    }

    raw_run_all(self->loop, exchanges, 16);

    for (int i = 1; i < 16; i += 2) {
        assert_int_equal(exchanges[i].status, 202);
    }
    hr_free(exchanges);
}

static void stop_answers_open_requests_503(void **state) {
    bench *self = *state;
    self->stops_in_handler = true;

    raw_exchange *got = ask(self, "POST /hold HTTP/1.1\r\nHost: x\r\n", "x");

    assert_int_equal(got->status, 503);
    assert_non_null(strstr(got->answer, "Retry-After: 5\r\n"));
    assert_int_equal(self->held_count, 1);
    answer_held(self); /* too late, and harmless */
    assert_int_equal(raw_connect(got->port), -1);
}

typedef struct dripping {
    int port;
    const char *head;
    uint64_t lasted_ms; /* until the server closed the connection */
} dripping;

/* Sends one byte more every 100 ms, so that the connection is never silent. */
static void drip(void *data) {
    dripping *self = data;
    uint64_t begin_ns = hr_mono_ns();
    int fd = raw_connect(self->port);
    struct timeval tick = {.tv_usec = 100000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof tick);
    send(fd, self->head, strlen(self->head), MSG_NOSIGNAL);
    for (int i = 0; i < 100; i++) {
        char byte;
        if (send(fd, "a", 1, MSG_NOSIGNAL) != 1 || recv(fd, &byte, 1, 0) == 0) {
            break;
        }
    }
    self->lasted_ms = (hr_mono_ns() - begin_ns) / 1000000;
    close(fd);
}

static void a_connection_that_drips_is_ended(void **state) {
    bench *self = *state;
    static const char *const heads[] = {
        "POST /echo HTTP/1.1\r\nX-Word: ",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        hr_http_options options = {.listen = "127.0.0.1:0", .timeout_s = 1};
        hr_http_server *server = hr_http_server_new(self->loop, &options);
        hr_error err = {0};
        assert_int_equal(hr_http_route(server, "/echo", 1000, 0, echo, self, &err), HR_OK);
        assert_int_equal(hr_http_server_start(server, &err), HR_OK);
        dripping slow = {.port = hr_http_server_port(server), .head = heads[i]};

        raw_with_loop(self->loop, drip, &slow);

        assert_in_range(slow.lasted_ms, 900, 6000); /* unchecked it would last 10 s */
        hr_http_server_free(server);
    }
}

enum { CROWD = 12, PLACES = 4 };

typedef struct queue {
    int port;
    size_t ended;
    raw_exchange late;
} queue;

/* More connections than there are places, none of which says anything; then a request. */
static void come_in_crowds(void *data) {
    queue *self = data;
    int fds[CROWD];
    for (size_t i = 0; i < CROWD; i++) {
        fds[i] = raw_connect(self->port);
        HR_ASSERT(fds[i] >= 0);
    }
    self->late = (raw_exchange){.port = self->port, .head = "POST /echo HTTP/1.1\r\nHost: x\r\n"};
    self->late.body = "here";
    raw_run(&self->late);
    for (size_t i = 0; i < CROWD; i++) {
        char byte;
        self->ended += recv(fds[i], &byte, 1, MSG_DONTWAIT) == 0 ? 1 : 0;
        close(fds[i]);
    }
}

static void who_waits_longest_makes_room_in_a_crowd(void **state) {
    bench *self = *state;
    hr_http_options options = {.listen = "127.0.0.1:0", .connections = PLACES};
    hr_http_server *server = hr_http_server_new(self->loop, &options);
    hr_error err = {0};
    assert_int_equal(hr_http_route(server, "/echo", 1000, 0, echo, self, &err), HR_OK);
    assert_int_equal(hr_http_server_start(server, &err), HR_OK);
    queue late = {.port = hr_http_server_port(server)};

    raw_with_loop(self->loop, come_in_crowds, &late);

    assert_int_equal(late.late.status, 200); /* without room it had waited in vain for 10 s */
    assert_in_range(late.ended, CROWD - PLACES, CROWD);
    hr_http_server_free(server);
}

/* Takes the only place with a request at work, and keeps its connection while another one asks. */
static void keep_the_place(void *data) {
    queue *self = data;
    static const char request[] = "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n";
    atomic_store(&is_held, false);
    int fd = raw_connect(self->port);
    HR_ASSERT(send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1);
    while (!atomic_load(&is_held)) {
        usleep(100);
    }
    self->late = (raw_exchange){.port = self->port, .head = "GET /echo HTTP/1.1\r\nHost: x\r\n"};
    raw_run(&self->late);
    close(fd);
}

static void who_was_answered_makes_room_for_who_waits(void **state) {
    bench *self = *state;
    hr_http_options options = {.listen = "127.0.0.1:0", .connections = 1};
    hr_http_server *server = hr_http_server_new(self->loop, &options);
    hr_error err = {0};
    assert_int_equal(hr_http_route(server, "/echo", 1000, 0, echo, self, &err), HR_OK);
    assert_int_equal(hr_http_route(server, "/hold", 1000, 0, hold, self, &err), HR_OK);
    assert_int_equal(hr_http_server_start(server, &err), HR_OK);
    queue late = {.port = hr_http_server_port(server)};

    raw_with_loop(self->loop, keep_the_place, &late);

    assert_int_equal(late.late.status, 200); /* it would wait in vain for 10 s */
    hr_http_server_free(server);
}

static void big_bodies_arrive_whole(void **state) {
    bench *self = *state;
    size_t size = 3 << 20;
    char *body = hr_alloc(size + 1);
    for (size_t i = 0; i < size; i++) {
        body[i] = (char)('a' + i % 23);
    }

    raw_exchange *got = ask(self, "POST /big HTTP/1.1\r\nHost: x\r\n", body);

    assert_int_equal(got->status, 200);
    assert_int_equal(self->body.size, size);
    assert_memory_equal(self->body.bytes, body, size);
    hr_free(body);
}

static void a_port_in_use_is_said_in_one_line(void **state) {
    bench *self = *state;
    char *listen = hr_format("127.0.0.1:%d", hr_http_server_port(self->server));
    hr_http_options options = {.listen = listen};
    hr_http_server *second = hr_http_server_new(self->loop, &options);
    hr_error err = {0};

    hr_code code = hr_http_server_start(second, &err);

    assert_int_equal(code, HR_E_IO);
    assert_non_null(strstr(err.text, "listen on 127.0.0.1:"));
    assert_non_null(strstr(err.text, "ddress already in use"));
    hr_http_server_free(second);
    hr_free(listen);
}

static void a_path_is_taken_once(void **state) {
    bench *self = *state;
    hr_http_options options = {.listen = "[::1]:0"};
    hr_http_server *server = hr_http_server_new(self->loop, &options);
    hr_error err = {0};

    assert_int_equal(hr_http_route(server, "/a", 1, 0, echo, self, &err), HR_OK);
    assert_int_equal(hr_http_route(server, "/a", 1, 0, echo, self, &err), HR_E_EXISTS);
    assert_int_equal(hr_http_route(server, "a", 1, 0, echo, self, &err), HR_E_INVALID);
    hr_http_server_free(server);
}

static void bad_addresses_and_certificates_are_errors(void **state) {
    bench *self = *state;
    const hr_http_options bad[] = {
        {.listen = "nonsense"},
        {.listen = "::1:80"},
        {.listen = "127.0.0.1:0", .tls_cert = "/nonexistent.pem", .tls_key = "/nonexistent.pem"},
        {.listen = "127.0.0.1:0", .tls_cert = "/dev/null", .tls_key = "/dev/null"},
        {.listen = "127.0.0.1:0", .tls_cert = "/dev/null"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hr_http_server *server = hr_http_server_new(self->loop, &bad[i]);
        hr_error err = {0};
        assert_int_not_equal(hr_http_server_start(server, &err), HR_OK);
        assert_true(err.text[0] != 0);
        hr_http_server_free(server);
    }
}

typedef struct crowd {
    int port;
    atomic_int answered, unavailable, closed, strange;
} crowd;

static void *ask_again_and_again(void *data) {
    crowd *self = data;
    raw_exchange *exchange = hr_alloc(sizeof *exchange);
    for (int i = 0; i < 40; i++) {
        *exchange = (raw_exchange){.port = self->port, .body = "x"};
        exchange->head = i % 2 == 0 ? "POST /hold HTTP/1.1\r\nHost: x\r\n"
                                    : "POST /echo HTTP/1.1\r\nHost: x\r\n";
        raw_run(exchange);
        atomic_int *which = exchange->status == 503 ? &self->unavailable
                            : exchange->status == 0 ? &self->closed
                            : exchange->status == 200 || exchange->status == 202 ? &self->answered
                                                                                 : &self->strange;
        atomic_fetch_add(which, 1);
    }
    hr_free(exchange);
    return NULL;
}

static void run_crowd(void *data) {
    pthread_t threads[16];
    for (size_t i = 0; i < 16; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ask_again_and_again, data), 0);
    }
    for (size_t i = 0; i < 16; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void stop_server(void *data) {
    bench *self = data;
    hr_http_server_stop(self->server);
    answer_held(self);
}

static void stop_under_load_ends_every_request(void **state) {
    bench *self = *state;
    crowd all = {.port = hr_http_server_port(self->server)};
    self->stop = hr_timer_new(self->loop, stop_server, self);
    self->stop_at_call = 60;

    raw_with_loop(self->loop, run_crowd, &all);

    assert_int_equal(all.strange, 0);
    assert_int_equal(all.answered + all.unavailable + all.closed, 16 * 40);
    assert_true(all.answered > 0 && all.closed > 0);
    assert_int_equal(self->held_count, 0);
    hr_timer_free(self->stop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_handler_gets_every_part_of_a_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unknown_path_is_answered_404_with_a_line, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_body_too_large_is_answered_413_and_never_handled, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_chunked_body_too_large_is_answered_413, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_chunked_body_arrives_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(of_a_body_too_large_the_head_is_kept_where_asked, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(length_and_chunked_together_are_answered_400, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_http_is_answered_400_or_closed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(header_lines_over_16_kib_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_may_come_later_for_many_at_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_left_does_not_disturb, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stop_answers_open_requests_503, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stop_under_load_ends_every_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_connection_that_drips_is_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_waits_longest_makes_room_in_a_crowd, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_was_answered_makes_room_for_who_waits, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(big_bodies_arrive_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_port_in_use_is_said_in_one_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_path_is_taken_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_addresses_and_certificates_are_errors, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
