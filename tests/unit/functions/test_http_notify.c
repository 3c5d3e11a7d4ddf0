/* SPDX-License-Identifier: Apache-2.0 */
/* The runtimes http and notify against a real server on loopback. */
#include "core/memory.h"
#include "net/http_server.h"
#include "tests/unit/functions/runtime_bench.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static runtime_bench bench;
static hr_http_server *server;
static hr_buffer requests; /* "body|ce-id|ce-floor|ce-subject|content-type\n" */
static const char *body;   /* of the next answers */
static const char *const *headers;

/* The event's data, when a number, is the status. */
static void on_request(void *data, hr_http_request *request) {
    (void)data;
    static const char *const names[] = {"ce-id", "ce-floor", "ce-subject", "content-type"};
    hr_slice sent = hr_http_body(request);
    hr_buffer_print(&requests, "%.*s", (int)sent.size, (const char *)sent.bytes);
    for (size_t i = 0; i < 4; i++) {
        hr_slice value = hr_http_header(request, names[i]);
        hr_buffer_print(&requests, "|%.*s", (int)value.size, (const char *)value.bytes);
    }
    hr_buffer_print(&requests, "\n");
    char number[8];
    snprintf(number, sizeof number, "%.*s", (int)sent.size, (const char *)sent.bytes);
    long status = strtol(number, NULL, 10);
    hr_http_answer(request, status >= 200 && status < 600 ? (int)status : 200, headers,
                   hr_slice_text(body));
}

static char *open_server(const char *path) {
    hr_error err = {0};
    bench.loop = hr_loop_new();
    hr_http_options options = {.listen = "127.0.0.1:0"};
    server = hr_http_server_new(bench.loop, &options);
    assert_int_equal(hr_http_route(server, path, 1 << 20, 0, on_request, NULL, &err), HR_OK);
    if (hr_http_server_start(server, &err) != HR_OK) {
        fail_msg("%s", err.text);
    }
    return hr_format("http://127.0.0.1:%d%s", hr_http_server_port(server), path);
}

static int set_up(void **state) {
    (void)state;
    body = "";
    headers = NULL;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    if (server != NULL) {
        hr_http_server_stop(server);
        hr_http_server_free(server);
        server = NULL;
    }
    bench_close(&bench);
    hr_buffer_fini(&requests);
    return 0;
}

static void open_pairs(const char *kind, const char *const *pairs) {
    hr_error err = {0};
    if (bench_open(&bench, kind, pairs, &err) != HR_OK) {
        fail_msg("%s", err.text);
    }
}

static void open_http(void) {
    char *url = open_server("/in");
    const char *const pairs[] = {"http.url", url, NULL};
    open_pairs("http", pairs);
    hr_free(url);
}

static void an_event_is_posted_in_binary_mode_and_the_answer_is_the_result(void **state) {
    (void)state;
    static const char *const json[] = {"Content-Type", "application/json", NULL};
    open_http();
    body = "{\"ok\":true}";
    headers = json;
    bench_event(&bench, "e1", "a", "200");
    bench_call(&bench);
    assert_int_equal(bench.failure, HR_OK);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_OK);
    assert_string_equal(hr_buffer_text(&requests), "200|e1|2|room%201|application/json\n");
    assert_non_null(bench.results);
    assert_string_equal(bench_part(hr_batch_data(bench.results, 0)), "{\"ok\":true}");
    assert_string_equal(bench_part(hr_batch_id(bench.results, 0)), "e1/hot/1");
}

static void the_status_decides(void **state) {
    (void)state;
    static const struct {
        const char *status;
        hr_outcome outcome;
    } cases[] = {{"204", HR_OUTCOME_OK},    {"404", HR_OUTCOME_DEAD},  {"408", HR_OUTCOME_RETRY},
                 {"429", HR_OUTCOME_RETRY}, {"500", HR_OUTCOME_RETRY}, {"503", HR_OUTCOME_RETRY}};
    open_http();
    for (size_t i = 0; i < 6; i++) {
        char id[8], key[8];
        snprintf(id, sizeof id, "e%zu", i);
        snprintf(key, sizeof key, "k%zu", i);
        bench_event(&bench, id, key, cases[i].status);
    }
    bench_call(&bench);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(bench.outcome[i], cases[i].outcome);
        assert_int_equal(bench.after_ms[i], cases[i].outcome == HR_OUTCOME_OK ? 0 : -1);
    }
}

static void s9_a_later_event_of_a_failed_key_is_not_posted(void **state) {
    (void)state;
    open_http();
    bench_event(&bench, "e1", "a", "500");
    bench_event(&bench, "e2", "a", "201");
    bench_event(&bench, "e3", "b", "202");
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_RETRY);
    assert_int_equal(bench.outcome[1], HR_OUTCOME_NOT_RUN);
    assert_int_equal(bench.outcome[2], HR_OUTCOME_OK);
    assert_null(strstr(hr_buffer_text(&requests), "|e2|"));
    assert_non_null(strstr(hr_buffer_text(&requests), "|e3|"));
}

static void an_answer_over_one_mebibyte_is_a_dead_letter_and_not_cut(void **state) {
    (void)state;
    char *large = hr_alloc((1 << 20) + 2);
    memset(large, 'x', (1 << 20) + 1);
    open_http();
    body = large;
    bench_event(&bench, "e1", "a", "200");
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_DEAD);
    assert_non_null(strstr(bench.why, "larger"));
    assert_null(bench.results);

    bench.runtime->has_takers = false; /* then nobody wants it whole */
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_OK);
    assert_int_equal(bench.results->count, 1);
    hr_free(large);
}

static void a_refusal_in_a_chats_words_is_a_failure(void **state) {
    (void)state;
    char *url = open_server("/in");
    const char *const pairs[] = {"notify.feishu", url, NULL};
    open_pairs("notify", pairs);
    hr_free(url);
    body = "{\"code\":11232,\"msg\":\"frequency limited\"}";
    bench_event(&bench, "e1", "a", "200");
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_RETRY);
    assert_string_equal(bench.why, "POST feishu answered 200: code 11232 frequency limited");
    body = "{\"code\":19024,\"msg\":\"Key Words Not Found\"}";
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_DEAD);
}

static void retry_after_is_honoured_on_429_and_503_only(void **state) {
    (void)state;
    static const char *const later[] = {"Retry-After", "7", NULL};
    open_http();
    headers = later;
    bench_event(&bench, "e1", "a", "429");
    bench_event(&bench, "e2", "b", "503");
    bench_event(&bench, "e3", "c", "500");
    bench_call(&bench);
    assert_int_equal(bench.after_ms[0], 7000);
    assert_int_equal(bench.after_ms[1], 7000);
    assert_int_equal(bench.after_ms[2], -1);
}

static void a_peer_that_is_down_is_a_retry(void **state) {
    (void)state;
    const char *const pairs[] = {"http.url", "http://127.0.0.1:1/", NULL};
    open_pairs("http", pairs);
    bench_event(&bench, "e1", "a", "1");
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_RETRY);
    assert_int_equal(bench.after_ms[0], -1);
    assert_non_null(strstr(bench.why, "127.0.0.1"));
}

static void on_silence(void *data, hr_http_request *request) {
    (void)data;
    (void)request; /* answered by the server's end */
    hr_loop_stop(bench.loop);
}

static void what_is_open_at_the_end_is_let_go(void **state) {
    (void)state;
    hr_error err = {0};
    bench.loop = hr_loop_new();
    hr_http_options options = {.listen = "127.0.0.1:0"};
    server = hr_http_server_new(bench.loop, &options);
    assert_int_equal(hr_http_route(server, "/in", 1 << 20, 0, on_silence, NULL, &err), HR_OK);
    assert_int_equal(hr_http_server_start(server, &err), HR_OK);
    char *url = hr_format("http://127.0.0.1:%d/in", hr_http_server_port(server));
    const char *const pairs[] = {"http.url", url, NULL};
    open_pairs("http", pairs);
    hr_free(url);
    bench_event(&bench, "e1", "a", "1");
    bench_begin_call(&bench);
    hr_loop_run(bench.loop);                 /* the bench's room() */
    hr_loop_run(bench.loop);                 /* the request is there */
    bench.runtime->ops->fini(bench.runtime); /* the engine's time is over: no stop() came before */
    assert_int_equal(bench.answers, 0);
    bench_forget_runtime(&bench);
}

static void slack_gets_the_text_filled_in(void **state) {
    (void)state;
    char *url = open_server("/in");
    body = "ok\n";
    const char *const pairs[] = {"notify.slack", url, "notify.text",
                                 "{subject}: {data.c:.1f} \"{{x}}\" {data.none}", NULL};
    open_pairs("notify", pairs);
    hr_free(url);
    bench_event(&bench, "e1", "a", "{\"c\": 41.26}");
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_OK);
    assert_non_null(strstr(hr_buffer_text(&requests), "{\"text\":\"room 1: 41.3 \\\"{x}\\\" \"}|"));
    assert_null(bench.results);
}

static void feishu_gets_its_own_form_with_a_sign(void **state) {
    (void)state;
    char *url = open_server("/in");
    const char *const pairs[] = {"notify.feishu", url, "notify.secret", "s3cret", "notify.text",
                                 "hi {data.c}",   NULL};
    open_pairs("notify", pairs);
    hr_free(url);
    body = "{\"code\":0,\"msg\":\"success\"}";
    bench_event(&bench, "e1", "a", "{\"c\": 4}");
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_OK);
    const char *sent = hr_buffer_text(&requests);
    assert_non_null(strstr(sent, "\"msg_type\":\"text\""));
    assert_non_null(strstr(sent, "\"content\":{\"text\":\"hi 4\"}"));
    assert_non_null(strstr(sent, "\"sign\":\""));
    assert_null(strstr(sent, "s3cret"));
}

static void the_address_of_a_chat_is_in_no_error_text(void **state) {
    (void)state;
    const char *const pairs[] = {"notify.slack", "http://127.0.0.1:1/services/T0KEN", NULL};
    open_pairs("notify", pairs);
    bench_event(&bench, "e1", "a", "1");
    bench_call(&bench);
    assert_int_equal(bench.outcome[0], HR_OUTCOME_RETRY);
    assert_non_null(strstr(bench.why, "slack"));
    assert_null(strstr(bench.why, "T0KEN"));
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            an_event_is_posted_in_binary_mode_and_the_answer_is_the_result, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_status_decides, set_up, tear_down),
        cmocka_unit_test_setup_teardown(s9_a_later_event_of_a_failed_key_is_not_posted, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_answer_over_one_mebibyte_is_a_dead_letter_and_not_cut,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_refusal_in_a_chats_words_is_a_failure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(retry_after_is_honoured_on_429_and_503_only, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_peer_that_is_down_is_a_retry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_open_at_the_end_is_let_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(slack_gets_the_text_filled_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(feishu_gets_its_own_form_with_a_sign, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_address_of_a_chat_is_in_no_error_text, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
