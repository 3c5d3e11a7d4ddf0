/* SPDX-License-Identifier: Apache-2.0 */
/* The webhook trigger over a real server and real sockets; only the host is the test's. */
#include "triggers/webhook.h"

#include "core/memory.h"
#include "net/http_server_priv.h"
#include "tests/lib/trigger_bench.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static trigger_bench bench;

#define JSON_OPEN                                                                                  \
    (const char *const[]) {                                                                        \
        "dialect", "json", "insecure", "1", NULL                                                   \
    }

static void begin(const char *const *settings) {
    hr_error err = {0};
    hr_code code = bench_begin(&bench, "webhook", settings, &err);
    if (code != HR_OK) {
        fail_msg("init: %s", err.text);
    }
    bench_start(&bench);
}

static int tear_down(void **state) {
    (void)state;
    bench_end(&bench);
    return 0;
}

static const char *part(hr_slice (*get)(const hr_batch *, uint32_t), size_t index) {
    uint32_t place = 0;
    const hr_batch *batch = bench_event(&bench, index, &place);
    return bench_text(get(batch, place));
}

static bool has_made_id(size_t index) {
    uint32_t place = 0;
    const hr_batch *batch = bench_event(&bench, index, &place);
    return (batch->view[place].flags & HR_VIEW_MADE_ID) != 0;
}

static void json_becomes_an_event_with_defaults(void **state) {
    (void)state;
    begin(JSON_OPEN);

    const raw_exchange *got =
        bench_post(&bench, "/hooks/hooked", "Content-Type: application/json\r\n", "{\"a\": 1}");

    assert_int_equal(got->status, 202);
    assert_int_equal(bench_event_count(&bench), 1);
    assert_string_equal(part(hr_batch_data, 0), "{\"a\": 1}");
    assert_string_equal(part(hr_batch_type, 0), "webhook.received");
    assert_string_equal(part(hr_batch_source, 0), "headrace/webhook/hooked");
    assert_string_equal(part(hr_batch_subject, 0), "/hooks/hooked");
    assert_string_equal(part(hr_batch_key, 0), "hooked");
    assert_int_equal(strncmp(part(hr_batch_id, 0), "hooked-", 7), 0);
    assert_true(has_made_id(0)); /* dedupe remembers no such id */
    char *answer = hr_format("{\"ids\":[\"%s\"]}\n", part(hr_batch_id, 0));
    assert_string_equal(got->answer_body, answer);
    hr_free(answer);
    assert_int_equal(bench.insecure, 1);
}

static void an_idempotency_key_is_the_id(void **state) {
    (void)state;
    begin(JSON_OPEN);

    bench_post(&bench, "/hooks/hooked", "Idempotency-Key: \"order-7\"\r\n", "[]");

    assert_string_equal(part(hr_batch_id, 0), "order-7");
    assert_false(has_made_id(0));
}

static void the_answer_comes_only_after_durable(void **state) {
    (void)state;
    begin(JSON_OPEN);
    bench.delay_ms = 60;

    const raw_exchange *got = bench_post(&bench, "/hooks/hooked", "", "1");

    assert_int_equal(got->status, 202);
    assert_true(bench.durable_ns > 0);
    assert_true(got->answered_ns >= bench.durable_ns);
}

static void what_was_refused_is_answered_503(void **state) {
    (void)state;
    begin(JSON_OPEN);
    bench.mode = BENCH_REFUSE;

    const raw_exchange *got = bench_post(&bench, "/hooks/hooked", "", "1");

    assert_int_equal(got->status, 503);
    assert_non_null(strstr(got->answer, "Retry-After: 5\r\n"));
    assert_string_equal(got->answer_body, "the disk is full\n");
    assert_int_equal(bench.refused, 1);
}

typedef struct crowd {
    size_t count;
    raw_exchange exchanges[80];
    pthread_t threads[80];
} crowd;

static void *post_one(void *data) {
    raw_run(data);
    return NULL;
}

static void wait_for_crowd(void *data) {
    crowd *all = data;
    for (size_t i = 0; i < all->count; i++) {
        pthread_join(all->threads[i], NULL);
    }
}

/* All of them post, and the loop has not run yet. */
static void let_arrive(crowd *all) {
    for (size_t i = 0; i < all->count; i++) {
        all->exchanges[i].port = hr_http_server_port(bench.server);
        assert_int_equal(pthread_create(&all->threads[i], NULL, post_one, &all->exchanges[i]), 0);
    }
    size_t arrived = 0;
    while (arrived < all->count) { /* the server's own queue, since nobody outside can tell */
        arrived = 0;
        pthread_mutex_lock(&bench.server->mutex);
        for (hr_http_request *at = bench.server->arrived.first; at != NULL; at = at->next) {
            arrived++;
        }
        pthread_mutex_unlock(&bench.server->mutex);
    }
}

/* Twelve requests are there before the loop runs; one of them is no JSON, one has three events. */
static void requests_of_one_turn_are_one_offer(void **state) {
    (void)state;
    begin((const char *const[]){"dialect", "cloudevents", "insecure", "1", NULL});
    static crowd all = {.count = 12};
    char *bodies[12];
    for (int i = 0; i < 12; i++) {
        hr_buffer body = {0};
        hr_buffer_print(&body, "[");
        for (int k = 0; k < (i == 5 ? 3 : 1); k++) {
            hr_buffer_print(&body,
                            "%s{\"specversion\":\"1.0\",\"id\":\"%d-%d\",\"source\":\"s\","
                            "\"type\":\"t\"}",
                            k == 0 ? "" : ",", i, k);
        }
        hr_buffer_print(&body, i == 3 ? ",{}]" : "]"); /* its first event goes with it */
        bodies[i] = hr_copy_text(hr_buffer_text(&body));
        hr_buffer_fini(&body);
        all.exchanges[i] =
            (raw_exchange){.head = "POST /hooks/hooked HTTP/1.1\r\nHost: x\r\n"
                                   "Content-Type: application/cloudevents-batch+json\r\n",
                           .body = bodies[i]};
    }
    let_arrive(&all);
    raw_with_loop(bench.loop, wait_for_crowd, &all);
    assert_int_equal(bench.offer_count, 1);
    assert_int_equal(bench_event_count(&bench), 13);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(all.exchanges[i].status, i == 3 ? 400 : 202);
        char *ids = hr_format(
            i == 5 ? "{\"ids\":[\"5-0\",\"5-1\",\"5-2\"]}\n" : "{\"ids\":[\"%d-0\"]}\n", i);
        if (i != 3) {
            assert_string_equal(all.exchanges[i].answer_body, ids);
        }
        hr_free(ids);
        hr_free(bodies[i]);
    }
}

static void let_arrive_alike(crowd *all) {
    for (size_t i = 0; i < all->count; i++) {
        all->exchanges[i] =
            (raw_exchange){.head = "POST /hooks/hooked HTTP/1.1\r\nHost: x\r\n", .body = "1"};
    }
    let_arrive(all);
}

enum { GROUPS_MAX = 4 };
static uint64_t durable_before[GROUPS_MAX]; /* the ticket up to which, when each was offered */

static void look_at_offer(trigger_bench *self) {
    assert_in_range(self->offer_count, 1, GROUPS_MAX);
    durable_before[self->offer_count - 1] = self->durable_ticket;
}

/* So many requests of one turn become groups of these sizes. */
static void offer_crowd(crowd *all, const uint32_t *sizes, size_t groups) {
    begin(JSON_OPEN);
    bench.on_offer = look_at_offer;
    let_arrive_alike(all);
    raw_with_loop(bench.loop, wait_for_crowd, all);
    assert_int_equal(bench.offer_count, groups);
    for (size_t i = 0; i < groups; i++) {
        assert_int_equal(bench.offers[i]->count, sizes[i]);
    }
    for (size_t i = 0; i < all->count; i++) {
        assert_int_equal(all->exchanges[i].status, 202);
    }
}

/* Twenty requests do not wait for the rest of their turn. Few others wait until those are
 * durable. */
static void a_few_that_come_while_a_group_is_synced_wait_for_it(void **state) {
    (void)state;
    static crowd all = {.count = 31};
    offer_crowd(&all, (const uint32_t[]){20, 11}, 2);
    assert_int_not_equal(durable_before[1], 0);
}

static void many_that_come_while_a_group_is_synced_are_the_next(void **state) {
    (void)state;
    static crowd all = {.count = 32};
    offer_crowd(&all, (const uint32_t[]){20, 12}, 2);
    assert_int_equal(durable_before[1], 0);
}

static void a_third_group_waits_until_it_is_worth_it(void **state) {
    (void)state;
    static crowd all = {.count = 59};
    offer_crowd(&all, (const uint32_t[]){20, 20, 19}, 3);
    assert_int_equal(durable_before[1], 0);
    assert_int_not_equal(durable_before[2], 0);
}

static void a_third_group_goes_beside_two(void **state) {
    (void)state;
    static crowd all = {.count = 60};
    offer_crowd(&all, (const uint32_t[]){20, 20, 20}, 3);
    assert_int_equal(durable_before[2], 0);
}

static void at_most_three_groups_are_on_their_way(void **state) {
    (void)state;
    static crowd all = {.count = 80};
    offer_crowd(&all, (const uint32_t[]){20, 20, 20, 20}, 4);
    assert_int_equal(durable_before[2], 0);
    assert_int_not_equal(durable_before[3], 0);
}

static void a_group_that_is_refused_lets_the_next_go(void **state) {
    (void)state;
    begin(JSON_OPEN);
    bench.mode = BENCH_REFUSE;
    static crowd all = {.count = 40};

    let_arrive_alike(&all);
    raw_with_loop(bench.loop, wait_for_crowd, &all);

    assert_int_equal(bench.offer_count, 2);
    for (size_t i = 0; i < all.count; i++) {
        assert_int_equal(all.exchanges[i].status, 503);
    }
}

static void while_intake_is_shut_nothing_is_offered(void **state) {
    (void)state;
    begin(JSON_OPEN);

    bench.trigger->ops->want(bench.trigger, 1, 0);
    const raw_exchange *got = bench_post(&bench, "/hooks/hooked", "", "1");
    assert_int_equal(got->status, 503);
    assert_non_null(strstr(got->answer, "Retry-After: 5\r\n"));
    assert_int_equal(bench.offer_count, 0);
    bench.trigger->ops->want(bench.trigger, 1, 100);
    got = bench_post(&bench, "/hooks/hooked", "", "1");
    assert_int_equal(got->status, 202);
}

static void malformed_bodies_are_answered_400_with_the_reason(void **state) {
    (void)state;
    begin(JSON_OPEN);

    const raw_exchange *got = bench_post(&bench, "/hooks/hooked", "", "{\"a\":\n oops}");
    assert_int_equal(got->status, 400);
    assert_non_null(strstr(got->answer_body, "the body is not JSON"));
    assert_non_null(strstr(got->answer_body, "line 2"));
    got = bench_post(&bench, "/hooks/hooked", "", "");
    assert_int_equal(got->status, 400);
    char deep[2 * 300 + 1] = {0};
    memset(deep, '[', 300);
    memset(deep + 300, ']', 300);
    got = bench_post(&bench, "/hooks/hooked", "", deep);
    assert_int_equal(got->status, 400);
    assert_string_equal(got->answer_body, "the body is JSON nested deeper than 256\n");
    assert_int_equal(bench.offer_count, 0);
    assert_int_equal(bench.malformed, 3);
}

static void a_body_over_max_body_is_answered_413(void **state) {
    (void)state;
    begin((const char *const[]){"dialect", "json", "insecure", "1", "max_body", "10", NULL});

    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", "12345678901")->status, 413);
    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", "1234567890")->status, 202);
    assert_int_equal(bench.offer_count, 1);
}

static void probes_and_other_methods_make_no_event(void **state) {
    (void)state;
    begin((const char *const[]){"secret", "s", "path", "/in", NULL});

    assert_int_equal(bench_ask(&bench, "GET", "/in", "", NULL)->status, 200);
    assert_int_equal(bench_ask(&bench, "HEAD", "/in", "", NULL)->status, 200);
    assert_int_equal(bench_ask(&bench, "PUT", "/in", "", "x")->status, 405);
    assert_int_equal(bench_ask(&bench, "PURGE", "/in", "", NULL)->status, 405);
    assert_int_equal(bench_ask(&bench, "BREW", "/in", "", NULL)->status, 400);
    const raw_exchange *got =
        bench_ask(&bench, "OPTIONS", "/in", "WebHook-Request-Origin: events.example\r\n", NULL);
    assert_int_equal(got->status, 200);
    assert_non_null(strstr(got->answer, "WebHook-Allowed-Origin: events.example\r\n"));
    assert_int_equal(bench.offer_count, 0);
}

static void a_wrong_signature_is_answered_401_before_any_parsing(void **state) {
    (void)state;
    begin((const char *const[]){"dialect", "json", "secret", "old", "secret", "new", NULL});
    char good[100], header[200];
    uint8_t digest[HR_DIGEST];
    hr_sign("new", hr_slice_text("{}"), digest);
    for (size_t i = 0; i < HR_DIGEST; i++) {
        snprintf(good + 2 * i, 3, "%02x", (unsigned)digest[i]);
    }
    snprintf(header, sizeof header, "X-Headrace-Signature-256: sha256=%s\r\n", good);

    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", "not even JSON")->status, 401);
    assert_int_equal(bench_post(&bench, "/hooks/hooked", header, "{ }")->status, 401);
    assert_int_equal(bench.offer_count, 0);
    assert_int_equal(bench.unauthorized, 2);
    assert_int_equal(bench_post(&bench, "/hooks/hooked", header, "{}")->status, 202);
}

static void a_token_is_asked_for_as_bearer(void **state) {
    (void)state;
    begin((const char *const[]){"dialect", "json", "token", "tok", NULL});

    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", "1")->status, 401);
    assert_int_equal(
        bench_post(&bench, "/hooks/hooked", "Authorization: Bearer no\r\n", "1")->status, 401);
    assert_int_equal(bench_post(&bench, "/hooks/hooked?token=tok", "", "1")->status, 401);
    assert_int_equal(
        bench_post(&bench, "/hooks/hooked", "Authorization: Bearer tok\r\n", "1")->status, 202);
}

static void github_deliveries_become_typed_events(void **state) {
    (void)state;
    begin((const char *const[]){"dialect", "github", "secret", "s", NULL});
    const char *body = "{\"action\":\"opened\",\"issue\":{\"number\":12},\"repository\":{"
                       "\"html_url\":\"https://github.com/o/r\"}}";
    char hex[2 * HR_DIGEST + 1], headers[400];
    uint8_t digest[HR_DIGEST];
    hr_sign("s", hr_slice_text(body), digest);
    for (size_t i = 0; i < HR_DIGEST; i++) {
        snprintf(hex + 2 * i, 3, "%02x", (unsigned)digest[i]);
    }
    snprintf(headers, sizeof headers,
             "X-GitHub-Event: issues\r\nX-GitHub-Delivery: d-1\r\nX-Hub-Signature-256: "
             "sha256=%s\r\n",
             hex);

    assert_int_equal(bench_post(&bench, "/hooks/hooked", headers, body)->status, 202);

    assert_string_equal(part(hr_batch_id, 0), "d-1");
    assert_string_equal(part(hr_batch_type, 0), "com.github.issues.opened");
    assert_string_equal(part(hr_batch_source, 0), "https://github.com/o/r");
    assert_string_equal(part(hr_batch_subject, 0), "12");
    assert_string_equal(part(hr_batch_data, 0), body);
}

static void github_ping_is_answered_without_an_event(void **state) {
    (void)state;
    begin((const char *const[]){"dialect", "github", "insecure", "1", NULL});

    const raw_exchange *got =
        bench_post(&bench, "/hooks/hooked", "X-GitHub-Event: ping\r\nX-GitHub-Delivery: d\r\n",
                   "{\"zen\":\"x\"}");
    assert_int_equal(got->status, 200);
    assert_int_equal(bench.offer_count, 0);
    got = bench_post(&bench, "/hooks/hooked", "X-GitHub-Event: push\r\n", "{}");
    assert_int_equal(got->status, 400);
    got = bench_post(&bench, "/hooks/hooked", "X-GitHub-Event: push\r\nX-GitHub-Delivery: e\r\n",
                     "payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D&x=1");
    assert_int_equal(got->status, 202);
    assert_string_equal(part(hr_batch_subject, 0), "refs/heads/main");
    assert_string_equal(part(hr_batch_data, 0), "{\"ref\":\"refs/heads/main\"}");
}

static void binary_cloudevents_keep_their_attributes(void **state) {
    (void)state;
    begin((const char *const[]){"insecure", "1", NULL});

    const raw_exchange *got = bench_post(
        &bench, "/hooks/hooked",
        "ce-specversion: 1.0\r\nce-id: a%20b\r\nce-source: /s\r\nCe-Type: t.x\r\nce-subject: "
        "\"q%C3%A9\"\r\nce-time: 2026-03-29T02:30:00Z\r\nce-myext: v\r\nContent-Type: "
        "text/plain\r\n",
        "hello");

    assert_int_equal(got->status, 202);
    assert_string_equal(part(hr_batch_id, 0), "a b");
    assert_string_equal(part(hr_batch_source, 0), "/s");
    assert_string_equal(part(hr_batch_type, 0), "t.x");
    assert_string_equal(part(hr_batch_subject, 0), "q\xC3\xA9");
    assert_string_equal(part(hr_batch_key, 0), "hooked");
    assert_string_equal(part(hr_batch_data, 0), "hello");
    assert_string_equal(bench_attribute(&bench, 0, "myext"), "v");
    assert_string_equal(bench_attribute(&bench, 0, "datacontenttype"), "text/plain");
    assert_int_equal(strncmp(bench_attribute(&bench, 0, "time"), "2026-03-29T02:30:00", 19), 0);
}

static void structured_and_batched_cloudevents_are_read(void **state) {
    (void)state;
    begin((const char *const[]){"insecure", "1", NULL});

    const raw_exchange *got = bench_post(
        &bench, "/hooks/hooked", "Content-Type: application/cloudevents+json; charset=utf-8\r\n",
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"t\","
        "\"partitionkey\":\"mine\",\"data\":{\"x\":[1,2]}}");
    assert_int_equal(got->status, 202);
    assert_string_equal(part(hr_batch_key, 0), "mine");
    got =
        bench_post(&bench, "/hooks/hooked", "Content-Type: application/cloudevents-batch+json\r\n",
                   " [ {\"specversion\":\"1.0\",\"id\":\"2\",\"source\":\"s\",\"type\":\"t\"} ,\n"
                   "{\"specversion\":\"1.0\",\"id\":\"3\",\"source\":\"s\",\"type\":\"t\","
                   "\"data\":\"],}{\\\"\"}]");
    assert_int_equal(got->status, 202);
    assert_string_equal(got->answer_body, "{\"ids\":[\"2\",\"3\"]}\n");
    assert_int_equal(bench.offer_count, 2);
    assert_string_equal(part(hr_batch_id, 2), "3");
    assert_string_equal(part(hr_batch_key, 2), "hooked");
    got = bench_post(&bench, "/hooks/hooked",
                     "Content-Type: application/cloudevents-batch+json\r\n", "[]");
    assert_int_equal(got->status, 200);
    assert_int_equal(bench.offer_count, 2);
}

static void protobuf_cloudevents_are_read(void **state) {
    (void)state;
    begin((const char *const[]){"insecure", "1", NULL});
    hr_fields fields = {.id = hr_slice_text("p"),
                        .source = hr_slice_text("s"),
                        .type = hr_slice_text("t"),
                        .data = hr_slice_text("d"),
                        .has_data = true};
    hr_buffer packed = {0};
    hr_error err = {0};
    assert_int_equal(hr_envelope_pack(&fields, &packed, &err), HR_OK);
    raw_exchange exchange = {.head = "POST /hooks/hooked HTTP/1.1\r\nHost: x\r\nContent-Type: "
                                     "application/cloudevents+protobuf\r\n",
                             .body = (const char *)packed.bytes,
                             .body_size = packed.size,
                             .port = hr_http_server_port(bench.server)};

    raw_run_all(bench.loop, &exchange, 1);

    assert_int_equal(exchange.status, 202);
    assert_string_equal(part(hr_batch_id, 0), "p");
    assert_string_equal(part(hr_batch_key, 0), "hooked");
    assert_string_equal(part(hr_batch_data, 0), "d");
    hr_buffer_fini(&packed);
}

static void what_is_no_cloudevent_is_answered_400(void **state) {
    (void)state;
    begin((const char *const[]){"insecure", "1", NULL});
    const char *const structured = "Content-Type: application/cloudevents+json\r\n";
    const char *const batched = "Content-Type: application/cloudevents-batch+json\r\n";
    const struct {
        const char *headers, *body, *why;
    } cases[] = {
        {"", "{}", "no ce- headers"},
        {"ce-specversion: 1.0\r\nce-id: 1\r\nce-source: s\r\n", "", "ce-type is missing"},
        {"ce-specversion: 0.3\r\nce-id: 1\r\nce-source: s\r\nce-type: t\r\n", "", "specversion"},
        {"ce-specversion: 1.0\r\nce-id: 1\r\nce-source: s\r\nce-type: t\r\nce-time: noon\r\n", "",
         "ce-time"},
        {"ce-specversion: 1.0\r\nce-id: 1\r\nce-ID: 2\r\nce-source: s\r\nce-type: t\r\n", "",
         "twice"},
        {"ce-specversion: 1.0\r\nce-id: %FF\r\nce-source: s\r\nce-type: t\r\n", "", "UTF-8"},
        {structured, "{", "not JSON"},
        {structured, "", "empty"},
        {structured, "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\"}", "type"},
        {batched, "{}", "array"},
        {batched, "[1]", "event 0"},
        {batched, "[{\"specversion\":\"1.0\",\"id\":\"2\",\"source\":\"s\",\"type\":\"t\"},{}]",
         "event 1"},
        {"Content-Type: application/cloudevents+xml\r\n", "<e/>", "Content-Type"},
        {"Content-Type: application/cloudevents+protobuf\r\n", "\x08\x01", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const raw_exchange *got =
            bench_post(&bench, "/hooks/hooked", cases[i].headers, cases[i].body);
        if (got->status != 400 || strstr(got->answer_body, cases[i].why) == NULL) {
            fail_msg("case %zu: %d %s", i, got->status, got->answer_body);
        }
    }
    assert_int_equal(bench.offer_count, 0);
}

static void a_request_of_many_events_is_answered_when_all_are_durable(void **state) {
    (void)state;
    begin((const char *const[]){"insecure", "1", NULL});
    hr_buffer body = {0};
    for (int i = 0; i < 2500; i++) {
        hr_buffer_print(&body,
                        "%s{\"specversion\":\"1.0\",\"id\":\"%d\",\"source\":\"s\",\"type\":\"t\"}",
                        i == 0 ? "[" : ",", i);
    }
    hr_buffer_print(&body, "]");

    const raw_exchange *got =
        bench_post(&bench, "/hooks/hooked", "Content-Type: application/cloudevents-batch+json\r\n",
                   hr_buffer_text(&body));

    assert_int_equal(got->status, 202);
    assert_int_equal(bench.offer_count, 3);
    assert_int_equal(bench_event_count(&bench), 2500);
    assert_int_equal(bench.durable_ticket, 3);
    assert_true(got->answered_ns >= bench.durable_ns);
    assert_non_null(strstr(got->answer_body, "\"2499\"]}"));
    hr_buffer_fini(&body);
}

static void stop_in_offer(trigger_bench *self) {
    self->trigger->ops->stop(self->trigger);
    assert_false(self->has_stopped); /* the offer is not settled yet */
}

static void stop_waits_for_what_was_offered(void **state) {
    (void)state;
    begin(JSON_OPEN);
    bench.on_offer = stop_in_offer;

    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", "1")->status, 202);

    assert_true(bench.has_stopped);
    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", "1")->status, 503);
    bench.up = HR_TRIGGER_DOWN; /* stopped once already */
}

struct hr_expression {
    char text[32];
};

static hr_code fake_compile(const char *text, struct hr_expression **out, int *out_offset,
                            hr_error *err) {
    if (strcmp(text, "broken") == 0) {
        *out_offset = 3;
        return hr_fail(err, HR_E_EXPRESSION, 0, "near \"broken\"");
    }
    *out = hr_alloc(sizeof **out);
    snprintf((*out)->text, sizeof(*out)->text, "%s", text);
    return HR_OK;
}

/* "data" is the data, "null" nothing, everything else itself. */
static void fake_values(struct hr_expression *expression, const hr_batch *batch,
                        void (*each)(void *data, uint32_t index, hr_slice value, bool is_null),
                        void *data) {
    for (uint32_t i = 0; i < batch->count; i++) {
        each(data, i,
             strcmp(expression->text, "data") == 0 ? hr_batch_data(batch, i)
                                                   : hr_slice_text(expression->text),
             strcmp(expression->text, "null") == 0);
    }
}

static void fake_free(struct hr_expression *take_expression) {
    hr_free(take_expression);
}

static const hr_trigger_evaluator evaluator = {
    .compile = fake_compile, .values = fake_values, .free = fake_free};

static void expressions_give_id_type_and_subject(void **state) {
    (void)state;
    hr_trigger_eval = &evaluator;
    begin((const char *const[]){"dialect", "json", "insecure", "1", "id", "data", "type", "null",
                                "subject", "about", NULL});

    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", "\"k\"")->status, 202);

    assert_string_equal(part(hr_batch_id, 0), "\"k\"");
    assert_string_equal(part(hr_batch_type, 0), "webhook.received");
    assert_string_equal(part(hr_batch_subject, 0), "about");
}

static void an_id_expression_that_gives_nothing_is_answered_400(void **state) {
    (void)state;
    hr_trigger_eval = &evaluator;
    begin((const char *const[]){"dialect", "json", "insecure", "1", "id", "null", NULL});

    const raw_exchange *got = bench_post(&bench, "/hooks/hooked", "", "1");

    assert_int_equal(got->status, 400);
    assert_non_null(strstr(got->answer_body, "null"));
    assert_int_equal(bench.offer_count, 0);
}

static void wrong_settings_are_refused_by_init(void **state) {
    (void)state;
    const struct {
        const char *settings[7];
        hr_code code;
    } cases[] = {
        {{"dialect", "morse", "insecure", "1", NULL}, HR_E_UNSUPPORTED},
        {{"dialect", "json", NULL}, HR_E_CONFIG},
        {{"insecure", "1", "path", "nope", NULL}, HR_E_CONFIG},
        {{"insecure", "1", "max_body", "9000000", NULL}, HR_E_CONFIG},
        {{"dialect", "json", "insecure", "1", "id", "broken", NULL}, HR_E_EXPRESSION},
    };
    hr_trigger_eval = &evaluator;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hr_error err = {0};
        assert_int_equal(bench_begin(&bench, "webhook", cases[i].settings, &err), cases[i].code);
        assert_true(err.text[0] != 0);
        bench_end(&bench);
    }
    hr_trigger_eval = NULL;
    const char *const with_id[] = {"dialect", "json", "insecure", "1", "id", "data.x", NULL};
    hr_error err = {0};
    assert_int_equal(bench_begin(&bench, "webhook", with_id, &err), HR_E_UNSUPPORTED);
}

static void emit_packs_as_if_it_had_come(void **state) {
    (void)state;
    begin((const char *const[]){"dialect", "github", "secret", "s", NULL});
    hr_node *options = hr_node_add(NULL, HR_NODE_MAP, NULL);
    hr_node *headers = hr_node_add(options, HR_NODE_MAP, "headers");
    hr_node_add_text(headers, "x-github-event", "issues", 0);
    hr_node_add_text(options, "X-GitHub-Delivery", "d-9", 0);
    hr_builder builder = {0};
    hr_error err = {0};

    assert_int_equal(bench.trigger->ops->emit(bench.trigger, hr_slice_text("{\"action\":\"a\"}"),
                                              options, &builder, &err),
                     HR_OK);
    assert_int_equal(
        bench.trigger->ops->emit(bench.trigger, hr_slice_text("no"), NULL, &builder, &err),
        HR_E_MALFORMED);

    assert_int_equal(builder.count, 1);
    bench.offers[bench.offer_count++] = hr_builder_finish(&builder, 0, 0);
    assert_string_equal(part(hr_batch_type, 0), "com.github.issues.a");
    assert_string_equal(part(hr_batch_id, 0), "d-9");
    hr_builder_fini(&builder);
    hr_node_free(options);
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(json_becomes_an_event_with_defaults),
        TEST(an_idempotency_key_is_the_id),
        TEST(the_answer_comes_only_after_durable),
        TEST(what_was_refused_is_answered_503),
        TEST(requests_of_one_turn_are_one_offer),
        TEST(a_few_that_come_while_a_group_is_synced_wait_for_it),
        TEST(many_that_come_while_a_group_is_synced_are_the_next),
        TEST(a_third_group_waits_until_it_is_worth_it),
        TEST(a_third_group_goes_beside_two),
        TEST(at_most_three_groups_are_on_their_way),
        TEST(a_group_that_is_refused_lets_the_next_go),
        TEST(while_intake_is_shut_nothing_is_offered),
        TEST(malformed_bodies_are_answered_400_with_the_reason),
        TEST(a_body_over_max_body_is_answered_413),
        TEST(probes_and_other_methods_make_no_event),
        TEST(a_wrong_signature_is_answered_401_before_any_parsing),
        TEST(a_token_is_asked_for_as_bearer),
        TEST(github_deliveries_become_typed_events),
        TEST(github_ping_is_answered_without_an_event),
        TEST(binary_cloudevents_keep_their_attributes),
        TEST(structured_and_batched_cloudevents_are_read),
        TEST(protobuf_cloudevents_are_read),
        TEST(what_is_no_cloudevent_is_answered_400),
        TEST(a_request_of_many_events_is_answered_when_all_are_durable),
        TEST(stop_waits_for_what_was_offered),
        TEST(expressions_give_id_type_and_subject),
        TEST(an_id_expression_that_gives_nothing_is_answered_400),
        TEST(wrong_settings_are_refused_by_init),
        TEST(emit_packs_as_if_it_had_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
