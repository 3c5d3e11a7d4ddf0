/* SPDX-License-Identifier: Apache-2.0 */
/* Notifications as MinIO, Amazon S3 and a store that encodes nothing send them. */
#include "triggers/object_s3.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static hr_builder builder;
static hr_batch *batch;
static char why[400];
static char kept[4096];
static uint32_t rejected, ignored;

static void on_rejected(void *data, hr_slice raw, const char *reason) {
    (void)data;
    rejected++;
    snprintf(why, sizeof why, "%s", reason);
    snprintf(kept, sizeof kept, "%.*s", (int)raw.size, (const char *)raw.bytes);
}

static hr_code take(const char *body, uint32_t events) {
    hr_sink sink = {.builder = &builder};
    hr_object_reader reader = {.events = events, .sink = &sink, .rejected = on_rejected};
    hr_error err = {0};
    hr_batch_unref(batch);
    rejected = ignored = 0;
    why[0] = kept[0] = 0;
    hr_code code = hr_object_s3_read(&reader, hr_slice_text(body), &err);
    batch = hr_builder_finish(&builder, 1, 0);
    ignored = reader.ignored;
    return code;
}

enum { ALL = HR_OBJECT_CREATED | HR_OBJECT_REMOVED };

static void assert_slice(hr_slice got, const char *expected) {
    if (!hr_slice_is(got, expected)) {
        fail_msg("'%.*s' is not '%s'", (int)got.size, (const char *)got.bytes, expected);
    }
}

static int tear_down(void **state) {
    (void)state;
    hr_batch_unref(batch);
    batch = NULL;
    hr_builder_fini(&builder);
    return 0;
}

#define MINIO_PUT                                                                                  \
    "{\"EventName\":\"s3:ObjectCreated:Put\",\"Key\":\"album/in/b 1+\xC3\xA9.txt\",\"Records\":["  \
    "{\"eventVersion\":\"2.0\",\"eventSource\":\"minio:s3\",\"awsRegion\":\"\","                   \
    "\"eventTime\":\"2026-04-01T10:11:12.345Z\",\"eventName\":\"s3:ObjectCreated:Put\","           \
    "\"userIdentity\":{\"principalId\":\"me\"},\"responseElements\":{\"x-amz-id-2\":\"ff\","       \
    "\"x-amz-request-id\":\"18AA\",\"x-minio-deployment-id\":\"d\"},\"s3\":{"                      \
    "\"s3SchemaVersion\":\"1.0\",\"configurationId\":\"Config\",\"bucket\":{\"name\":\"album\","   \
    "\"ownerIdentity\":{\"principalId\":\"me\"},\"arn\":\"arn:aws:s3:::album\"},\"object\":{"      \
    "\"key\":\"in%2Fb+1%2B%C3%A9.txt\",\"size\":7,\"eTag\":\"473c\",\"contentType\":"              \
    "\"text/plain\",\"userMetadata\":{\"X-Amz-Meta-A\":\"1\"},\"sequencer\":\"18BB\"}},"           \
    "\"source\":{\"host\":\"127.0.0.1\",\"port\":\"\",\"userAgent\":\"x\"}}]}"

static void a_minio_upload_becomes_an_event(void **state) {
    (void)state;

    assert_int_equal(take(MINIO_PUT, ALL), HR_OK);

    assert_int_equal(batch->count, 1);
    assert_slice(hr_batch_id(batch, 0), "18AA.18BB");
    assert_slice(hr_batch_source(batch, 0), "minio:s3.album");
    assert_slice(hr_batch_type(batch, 0), "com.amazonaws.s3.ObjectCreated:Put");
    assert_slice(hr_batch_subject(batch, 0), "in/b 1+\xC3\xA9.txt");
    assert_slice(hr_batch_key(batch, 0), "in/b 1+\xC3\xA9.txt");
    hr_slice data = hr_batch_data(batch, 0);
    const char *head = "{\"bucket\":\"album\",\"key\":\"in/b 1+\xC3\xA9.txt\",\"size\":7,"
                       "\"etag\":\"473c\",\"event\":\"ObjectCreated:Put\",\"sequencer\":\"18BB\","
                       "\"time\":\"2026-04-01T10:11:12.345Z\",\"content_type\":\"text/plain\","
                       "\"record\":{\"eventVersion\":\"2.0\"";
    assert_true(data.size > strlen(head));
    assert_slice(hr_slice_of(data.bytes, strlen(head)), head);
    hr_attribute attribute;
    assert_true(hr_envelope_attribute(hr_batch_envelope(batch, 0), "bucket", &attribute));
    assert_slice(attribute.text, "album");
    assert_true(hr_envelope_attribute(hr_batch_envelope(batch, 0), "size", &attribute));
    assert_int_equal(attribute.type, HR_ATTRIBUTE_INTEGER);
    assert_int_equal(attribute.number, 7);
    assert_true(hr_envelope_attribute(hr_batch_envelope(batch, 0), "time", &attribute));
    assert_int_equal(attribute.number % 1000000, 345000);
}

static void an_amazon_removal_carries_its_region(void **state) {
    (void)state;

    hr_code code =
        take("{\"Records\":[{\"eventSource\":\"aws:s3\",\"awsRegion\":\"eu-west-1\",\"eventName\":"
             "\"ObjectRemoved:Delete\",\"eventTime\":\"2026-04-01T10:11:12.000Z\","
             "\"responseElements\":{\"x-amz-request-id\":\"R\",\"x-amz-id-2\":\"I\"},\"s3\":{"
             "\"bucket\":{\"name\":\"b\"},\"object\":{\"key\":\"k\",\"sequencer\":\"00\"}}}]}",
             ALL);

    assert_int_equal(code, HR_OK);
    assert_slice(hr_batch_source(batch, 0), "aws:s3.eu-west-1.b");
    assert_slice(hr_batch_type(batch, 0), "com.amazonaws.s3.ObjectRemoved:Delete");
    assert_slice(hr_batch_id(batch, 0), "R.00");
    hr_attribute attribute;
    assert_false(hr_envelope_attribute(hr_batch_envelope(batch, 0), "size", &attribute));
}

/* Seen with a gateway that sends keys as they are, quoted tags and no request id. */
static void a_key_that_was_not_encoded_stays_as_it_is(void **state) {
    (void)state;
    const char *body =
        "{\"Records\":[{\"eventSource\":\"aws:s3\",\"awsRegion\":\"\",\"eventName\":"
        "\"ObjectCreated:Put\",\"eventTime\":\"2026-04-01T10:11:12Z\",\"responseElements\":{"
        "\"x-amz-request-id\":\"\"},\"s3\":{\"bucket\":{\"name\":\"b\"},\"object\":{\"key\":"
        "\"in/a 0+\xC3\xA9.txt\",\"size\":5000000000,\"eTag\":\"\\\"47\\\"\",\"versionId\":null,"
        "\"sequencer\":\"1\"}}}]}";
    char id[100];

    assert_int_equal(take(body, ALL), HR_OK);
    assert_slice(hr_batch_subject(batch, 0), "in/a 0+\xC3\xA9.txt");
    snprintf(id, sizeof id, "%.*s", (int)hr_batch_id(batch, 0).size,
             (const char *)hr_batch_id(batch, 0).bytes);
    assert_int_equal(strncmp(id, "1.", 2), 0);
    hr_attribute attribute;
    assert_true(hr_envelope_attribute(hr_batch_envelope(batch, 0), "etag", &attribute));
    assert_slice(attribute.text, "47");
    assert_true(hr_envelope_attribute(hr_batch_envelope(batch, 0), "size", &attribute));
    assert_slice(attribute.text, "5000000000");
    assert_int_equal(take(body, ALL), HR_OK);
    assert_slice(hr_batch_id(batch, 0), id); /* the same event has the same id */
}

static void keys_are_decoded_once(void **state) {
    (void)state;
    const struct {
        const char *key, *decoded;
    } cases[] = {
        {"a+b%2Bc", "a b+c"},   {"100%25", "100%"},
        {"100%2525", "100%25"}, {"50%", "50%"},
        {"%zz%4", "%zz%4"},     {"a b+c", "a b+c"},
        {"%FF", "%FF"},         {"a%00b", "a%00b"},
        {"%C3%A9", "\xC3\xA9"}, {"\xC3\xA9+", "\xC3\xA9+"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hr_buffer out = {0};
        hr_object_key_decode(hr_slice_text(cases[i].key), &out);
        assert_slice(hr_slice_of(out.bytes, out.size), cases[i].decoded);
        hr_buffer_fini(&out);
    }
}

static void events_that_are_not_wanted_are_ignored(void **state) {
    (void)state;

    assert_int_equal(take(MINIO_PUT, HR_OBJECT_REMOVED), HR_OK);
    assert_null(batch);
    assert_int_equal(ignored, 1);
    assert_int_equal(take("{\"Records\":[{\"eventName\":\"s3:ObjectTagging:Put\"}]}", ALL), HR_OK);
    assert_null(batch);
    assert_int_equal(rejected, 0);
    assert_int_equal(ignored, 1);
}

static void probes_and_tests_make_no_event(void **state) {
    (void)state;
    const char *const bodies[] = {
        "", " \r\n", "{}",
        "{\"Service\":\"Amazon S3\",\"Event\":\"s3:TestEvent\",\"Bucket\":\"b\"}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        assert_int_equal(take(bodies[i], ALL), HR_OK);
        assert_null(batch);
        assert_int_equal(rejected, 0);
    }
}

static void bad_records_are_rejected_and_good_ones_kept(void **state) {
    (void)state;

    hr_code code = take(
        "{\"Records\":[7,{},{\"eventName\":\"ObjectInvented:X\",\"n\":1},"
        "{\"eventName\":\"ObjectCreated:Put\"},"
        "{\"eventName\":\"ObjectCreated:Put\",\"s3\":{\"bucket\":{\"name\":\"b\"},\"object\":{"
        "\"key\":\"good\",\"sequencer\":\"5\"}}},"
        "{\"eventName\":\"ObjectCreated:Put\",\"s3\":{\"bucket\":{\"name\":\"b\"},\"object\":{}}}]"
        "}",
        ALL);

    assert_int_equal(code, HR_OK);
    assert_int_equal(rejected, 5);
    assert_string_equal(why, "the record has no object key");
    assert_int_equal(batch->count, 1);
    assert_slice(hr_batch_subject(batch, 0), "good");
    take("{\"Records\":[{\"eventName\":\"ObjectInvented:X\",\"n\":1}]}", ALL);
    assert_string_equal(why, "the event 'ObjectInvented:X' is unknown");
    assert_string_equal(kept, "{\"eventName\":\"ObjectInvented:X\",\"n\":1}");
}

static void what_is_no_notification_is_malformed(void **state) {
    (void)state;
    const char *const bodies[] = {"{", "[]", "7", "{\"a\":1}", "{\"Records\":{}}", "\xFF", "nul"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        assert_int_equal(take(bodies[i], ALL), HR_E_MALFORMED);
        assert_null(batch);
    }
}

static void a_sample_reads_back_as_what_it_says(void **state) {
    (void)state;
    const char *const kinds[] = {"s3", "minio"};
    for (size_t i = 0; i < 2; i++) {
        hr_buffer body = {0};
        hr_object_s3_sample(kinds[i], "b", "in/a +\xC3\xA9\".txt", "ObjectCreated:Copy", 9, &body);

        assert_int_equal(take(hr_buffer_text(&body), ALL), HR_OK);

        assert_int_equal(batch->count, 1);
        assert_slice(hr_batch_subject(batch, 0), "in/a +\xC3\xA9\".txt");
        assert_slice(hr_batch_type(batch, 0), "com.amazonaws.s3.ObjectCreated:Copy");
        assert_slice(hr_batch_source(batch, 0), i == 0 ? "aws:s3.us-east-1.b" : "minio:s3.b");
        hr_buffer_fini(&body);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_minio_upload_becomes_an_event),
        TEST(an_amazon_removal_carries_its_region),
        TEST(a_key_that_was_not_encoded_stays_as_it_is),
        TEST(keys_are_decoded_once),
        TEST(events_that_are_not_wanted_are_ignored),
        TEST(probes_and_tests_make_no_event),
        TEST(bad_records_are_rejected_and_good_ones_kept),
        TEST(what_is_no_notification_is_malformed),
        TEST(a_sample_reads_back_as_what_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
