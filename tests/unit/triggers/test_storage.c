/* SPDX-License-Identifier: Apache-2.0 */
/* The storage trigger over a real server and real sockets; only the host is the test's. */
#include "core/envelope.h"
#include "core/memory.h"
#include "tests/lib/trigger_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static trigger_bench bench;

static void begin(const char *const *settings) {
    hr_error err = {0};
    hr_code code = bench_begin(&bench, "storage", settings, &err);
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

#define RECORD(event, key, sequencer)                                                              \
    "{\"eventSource\":\"minio:s3\",\"eventName\":\"" event                                         \
    "\",\"eventTime\":\"2026-04-01T10:11:12.345Z\",\"responseElements\":{\"x-amz-request-id\":"    \
    "\"R\"},\"s3\":{\"bucket\":{\"name\":\"b\"},\"object\":{\"key\":\"" key                        \
    "\",\"size\":1,\"sequencer\":\"" sequencer "\"}}}"

#define OPEN                                                                                       \
    (const char *const[]) {                                                                        \
        "kind", "minio", "insecure", "1", NULL                                                     \
    }

static const char *subject(size_t index) {
    uint32_t place = 0;
    const hr_batch *batch = bench_event(&bench, index, &place);
    return bench_text(hr_batch_subject(batch, place));
}

static void several_records_are_one_batch_answered_after_durable(void **state) {
    (void)state;
    begin(OPEN);
    bench.delay_ms = 60;

    const raw_exchange *got =
        bench_post(&bench, "/hooks/hooked", "",
                   "{\"Records\":[" RECORD("s3:ObjectCreated:Put", "a%2Fb", "1") "," RECORD(
                       "s3:ObjectRemoved:Delete", "c", "2") "]}");

    assert_int_equal(got->status, 202);
    assert_true(bench.durable_ns > 0 && got->answered_ns >= bench.durable_ns);
    assert_string_equal(got->answer_body, "{\"ids\":[\"R.1\",\"R.2\"]}\n");
    assert_int_equal(bench.offer_count, 1);
    assert_int_equal(bench_event_count(&bench), 2);
    assert_string_equal(subject(0), "a/b");
    assert_string_equal(subject(1), "c");
}

static void only_wanted_events_are_offered(void **state) {
    (void)state;
    begin((const char *const[]){"insecure", "1", "events", "removed", NULL});

    const raw_exchange *got = bench_post(
        &bench, "/hooks/hooked", "", "{\"Records\":[" RECORD("ObjectCreated:Put", "a", "1") "]}");
    assert_int_equal(got->status, 200);
    assert_int_equal(bench.offer_count, 0);
    assert_int_equal(bench.ignored, 1);
    got = bench_post(&bench, "/hooks/hooked", "",
                     "{\"Records\":[" RECORD("ObjectRemoved:Delete", "a", "2") "]}");
    assert_int_equal(got->status, 202);
    assert_int_equal(bench_event_count(&bench), 1);
}

static void the_token_may_come_with_or_without_bearer(void **state) {
    (void)state;
    begin((const char *const[]){"kind", "minio", "token", "tok", NULL});
    const char *body = "{\"Records\":[" RECORD("ObjectCreated:Put", "a", "1") "]}";

    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", body)->status, 401);
    assert_int_equal(bench_post(&bench, "/hooks/hooked", "Authorization: no\r\n", body)->status,
                     401);
    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", "garbage")->status, 401);
    assert_int_equal(bench.offer_count + bench.reject_count, 0);
    assert_int_equal(bench_post(&bench, "/hooks/hooked", "Authorization: tok\r\n", body)->status,
                     202);
    assert_int_equal(
        bench_post(&bench, "/hooks/hooked", "Authorization: Bearer tok\r\n", body)->status, 202);
}

static void malformed_bodies_become_dead_letters_and_are_answered_2xx(void **state) {
    (void)state;
    begin(OPEN);
    bench.delay_ms = 60;

    const raw_exchange *got = bench_post(&bench, "/hooks/hooked", "", "{\"Records\":oops");

    assert_int_equal(got->status, 202);
    assert_true(got->answered_ns >= bench.durable_ns);
    assert_int_equal(bench.reject_count, 1);
    assert_non_null(strstr(bench.rejects[0].why, "not JSON"));
    assert_string_equal(
        bench_text(hr_slice_of(bench.rejects[0].raw.bytes, bench.rejects[0].raw.size)),
        "{\"Records\":oops");
    assert_int_equal(bench.malformed, 1);
}

static void bad_records_do_not_hold_back_good_ones(void **state) {
    (void)state;
    begin(OPEN);

    const raw_exchange *got = bench_post(&bench, "/hooks/hooked", "",
                                         "{\"Records\":[{\"eventName\":\"New:Thing\"}," RECORD(
                                             "ObjectCreated:Put", "good", "1") ",{}]}");

    assert_int_equal(got->status, 202);
    assert_string_equal(got->answer_body, "{\"ids\":[\"R.1\"],\"rejected\":2}\n");
    assert_string_equal(subject(0), "good");
    assert_int_equal(bench.reject_count, 2);
    assert_string_equal(bench.rejects[0].why, "the event 'New:Thing' is unknown");
    assert_int_equal(bench.tickets[0], 1);
    assert_int_equal(bench.rejects[1].ticket, 3);
}

static void an_oversize_notification_keeps_its_head(void **state) {
    (void)state;
    begin((const char *const[]){"insecure", "1", "max_body", "100000", NULL});
    char *body = hr_alloc(200001);
    memset(body, 'x', 200000);

    const raw_exchange *got = bench_post(&bench, "/hooks/hooked", "", body);

    assert_int_equal(got->status, 202);
    assert_int_equal(bench.offer_count, 0);
    assert_int_equal(bench.rejects[0].raw.size, 65536);
    assert_string_equal(bench.rejects[0].why, "the notification is larger than max_body");
    hr_free(body);
}

static void an_oversize_notification_without_proof_is_not_kept(void **state) {
    (void)state;
    begin((const char *const[]){"token", "t", "max_body", "10", NULL});

    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", "12345678901")->status, 401);

    assert_int_equal(bench.reject_count, 0);
}

static void what_was_refused_is_answered_503(void **state) {
    (void)state;
    begin(OPEN);
    bench.mode = BENCH_REFUSE;

    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", "garbage")->status, 503);
    bench.trigger->ops->want(bench.trigger, 0, 0);
    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", "garbage")->status, 503);
    assert_int_equal(bench.reject_count, 1);
}

static void probes_are_answered_200(void **state) {
    (void)state;
    begin(OPEN);

    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", "")->status, 200);
    assert_int_equal(bench_ask(&bench, "HEAD", "/hooks/hooked", "", NULL)->status, 200);
    assert_int_equal(
        bench_post(&bench, "/hooks/hooked", "", "{\"Event\":\"s3:TestEvent\"}")->status, 200);
    assert_int_equal(bench.offer_count + bench.reject_count, 0);
}

static void two_thousand_records_take_two_tickets_and_one_answer(void **state) {
    (void)state;
    begin(OPEN);
    hr_buffer body = {0};
    hr_buffer_print(&body, "{\"Records\":[");
    for (int i = 0; i < 2000; i++) {
        hr_buffer_print(&body,
                        "%s{\"eventName\":\"ObjectCreated:Put\",\"s3\":{\"bucket\":{\"name\":\"b\""
                        "},\"object\":{\"key\":\"k%d\",\"sequencer\":\"%d\"}}}",
                        i == 0 ? "" : ",", i, i);
    }
    hr_buffer_print(&body, "]}");

    assert_int_equal(bench_post(&bench, "/hooks/hooked", "", hr_buffer_text(&body))->status, 202);

    assert_int_equal(bench.offer_count, 2);
    assert_int_equal(bench_event_count(&bench), 2000);
    assert_int_equal(bench.durable_ticket, 2);
    assert_string_equal(subject(1999), "k1999");
    hr_buffer_fini(&body);
}

static void emit_builds_a_record_from_bucket_and_key(void **state) {
    (void)state;
    begin(OPEN);
    hr_node *options = hr_node_add(NULL, HR_NODE_MAP, NULL);
    hr_builder builder = {0};
    hr_error err = {0};
    hr_slice none = hr_slice_of(NULL, 0);

    assert_int_equal(bench.trigger->ops->emit(bench.trigger, none, options, &builder, &err),
                     HR_E_INVALID);
    hr_node_add_text(options, "bucket", "photos", 0);
    hr_node_add_text(options, "key", "in/cat 1.jpg", 0);
    assert_int_equal(bench.trigger->ops->emit(bench.trigger, none, options, &builder, &err), HR_OK);
    assert_int_equal(bench.trigger->ops->emit(bench.trigger, hr_slice_text("{\"Records\":[{}]}"),
                                              options, &builder, &err),
                     HR_E_MALFORMED);

    bench.offers[bench.offer_count++] = hr_builder_finish(&builder, 0, 0);
    assert_int_equal(bench_event_count(&bench), 1);
    assert_string_equal(subject(0), "in/cat 1.jpg");
    assert_string_equal(bench_attribute(&bench, 0, "bucket"), "photos");
    hr_builder_fini(&builder);
    hr_node_free(options);
}

static void wrong_settings_are_refused_by_init(void **state) {
    (void)state;
    const struct {
        const char *settings[7];
        hr_code code;
    } cases[] = {
        {{"kind", "azure", "insecure", "1", NULL}, HR_E_UNSUPPORTED},
        {{"kind", "s3", NULL}, HR_E_CONFIG},
        {{"insecure", "1", "events", "moved", NULL}, HR_E_CONFIG},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hr_error err = {0};
        assert_int_equal(bench_begin(&bench, "storage", cases[i].settings, &err), cases[i].code);
        if (i + 1 < sizeof cases / sizeof cases[0]) {
            bench_end(&bench);
        }
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(several_records_are_one_batch_answered_after_durable),
        TEST(only_wanted_events_are_offered),
        TEST(the_token_may_come_with_or_without_bearer),
        TEST(malformed_bodies_become_dead_letters_and_are_answered_2xx),
        TEST(bad_records_do_not_hold_back_good_ones),
        TEST(an_oversize_notification_keeps_its_head),
        TEST(an_oversize_notification_without_proof_is_not_kept),
        TEST(what_was_refused_is_answered_503),
        TEST(probes_are_answered_200),
        TEST(two_thousand_records_take_two_tickets_and_one_answer),
        TEST(emit_builds_a_record_from_bucket_and_key),
        TEST(wrong_settings_are_refused_by_init),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
