/* SPDX-License-Identifier: Apache-2.0 */
/* The mqtt trigger and what a broker may refuse: it says why, and is up again once that is mended.
 */
#include "core/memory.h"
#include "tests/lib/mqtt_bench.h"
#include "triggers/mqtt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* after the above: */
#include <cmocka.h>

#include <string.h>

enum { PASSWORD = 1, TLS = 2, MUTUAL = 3, RULES = 4 };

static void set_file(mqtt_bench *b, const char *key, const char *file) {
    char *path = hr_format("%s/tls/%s", mqtt_folder, file);
    mqtt_bench_set(b, "tls", key, path);
    hr_free(path);
}

static void begin_tls(mqtt_bench *b, const char *host, int to, const char *ca) {
    mqtt_bench_begin(b, "tls", "tls/#", "auto", 0);
    char *url = hr_format("mqtts://%s", host);
    mqtt_bench_url(b, url, mqtt_port + to);
    hr_free(url);
    set_file(b, "ca", ca);
}

static void log_in(mqtt_bench *b, const char *user, const char *password) {
    mqtt_bench_set(b, NULL, "username", user);
    mqtt_bench_set(b, NULL, "password", password);
}

static void certificate(const char *kind) {
    mqtt_run("%s certificate %s %s", MOSQUITTO, mqtt_folder, kind);
    mqtt_broker("stop");
    mqtt_broker("start");
}

static void tls_with_a_ca_a_client_certificate_and_a_password(void **state) {
    (void)state;
    mqtt_bench b;
    begin_tls(&b, "localhost", MUTUAL, "ca.pem");
    set_file(&b, "cert", "client.pem");
    set_file(&b, "key", "key.pem");
    log_in(&b, "headrace", "headrace-secret");
    mqtt_bench_start(&b);
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    mqtt_run("mosquitto_pub -h localhost -p %d --cafile %s/tls/ca.pem --cert %s/tls/client.pem "
             "--key %s/tls/key.pem -u headrace -P headrace-secret -q 1 -t tls/a -m '{\"n\":1}'",
             mqtt_port + MUTUAL, mqtt_folder, mqtt_folder, mqtt_folder);
    mqtt_bench_wait_count(&b, 1);
    mqtt_bench_finish(&b);
}

static void without_a_client_certificate_the_broker_closes(void **state) {
    (void)state;
    mqtt_bench b;
    begin_tls(&b, "localhost", MUTUAL, "ca.pem");
    log_in(&b, "headrace", "headrace-secret");
    mqtt_bench_start(&b);
    mqtt_bench_wait(&b, mqtt_bench_is_down);
    mqtt_bench_wait_text(&b, "certificate required");
    mqtt_bench_finish(&b);
}

static void an_unknown_authority_is_named(void **state) {
    (void)state;
    mqtt_bench b;
    begin_tls(&b, "localhost", TLS, "other-ca.pem");
    mqtt_bench_start(&b);
    mqtt_bench_wait_text(&b, "certificate verify failed: unable to get local issuer certificate");
    assert_int_equal(b.up, HR_TRIGGER_DOWN);
    mqtt_bench_finish(&b);
}

static void a_missing_file_is_named(void **state) {
    (void)state;
    mqtt_bench b;
    begin_tls(&b, "localhost", TLS, "no-such.pem");
    mqtt_bench_start(&b);
    mqtt_bench_wait_text(&b, "no-such.pem");
    mqtt_bench_wait_text(&b, "No such file");
    mqtt_bench_finish(&b);
}

static void an_expired_certificate_is_refused_until_it_is_renewed(void **state) {
    (void)state;
    mqtt_bench b;
    certificate("expired");
    begin_tls(&b, "localhost", TLS, "ca.pem");
    mqtt_bench_start(&b);
    mqtt_bench_wait_text(&b, "certificate verify failed: certificate has expired");
    assert_int_equal(b.up, HR_TRIGGER_DOWN);
    certificate("good");
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    assert_string_equal(b.why, "");
    mqtt_bench_finish(&b);
}

static void a_certificate_for_another_host_is_refused(void **state) {
    (void)state;
    certificate("elsewhere");
    for (int i = 0; i < 2; i++) {
        mqtt_bench b;
        const char *host = i == 0 ? "127.0.0.1" : "localhost";
        begin_tls(&b, host, TLS, "ca.pem");
        mqtt_bench_start(&b);
        char *text = hr_format("the broker's certificate is not for '%s'", host);
        mqtt_bench_wait_text(&b, text);
        hr_free(text);
        assert_int_equal(b.up, HR_TRIGGER_DOWN);
        mqtt_bench_finish(&b);
    }
    mqtt_bench b; /* and with verify: false it is not looked at */
    begin_tls(&b, "localhost", TLS, "other-ca.pem");
    mqtt_bench_set(&b, "tls", "verify", "0");
    mqtt_bench_start(&b);
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    mqtt_bench_finish(&b);
    certificate("good");
}

static void tls_to_a_port_without_it_says_so(void **state) {
    (void)state;
    mqtt_bench b;
    begin_tls(&b, "localhost", 0, "ca.pem");
    mqtt_bench_start(&b);
    mqtt_bench_wait(&b, mqtt_bench_is_down);
    mqtt_bench_wait_text(&b, "TLS");
    mqtt_bench_finish(&b);
}

static void a_wrong_password_is_refused_until_it_is_right(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        mqtt_bench b;
        mqtt_bench_begin(&b, "guest", "x", i == 0 ? "5" : "3.1.1", mqtt_port + PASSWORD);
        log_in(&b, i == 0 ? "guest5" : "guest3", "guest-secret");
        mqtt_bench_start(&b);
        mqtt_bench_wait_text(&b, i == 0 ? "Not authorized" : "Not authorized");
        assert_int_equal(b.up, HR_TRIGGER_DOWN);
        mqtt_run("mosquitto_passwd -b %s/password guest%d guest-secret && kill -HUP $(cat %s/pid)",
                 mqtt_folder, i == 0 ? 5 : 3, mqtt_folder);
        mqtt_bench_wait(&b, mqtt_bench_is_up);
        assert_string_equal(b.why, "");
        mqtt_bench_finish(&b);
    }
}

static void without_a_password_it_is_not_authorised(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_bench_begin(&b, "nobody", "x", "auto", mqtt_port + PASSWORD);
    mqtt_bench_start(&b);
    mqtt_bench_wait_text(&b, "Not authorized");
    assert_int_equal(b.up, HR_TRIGGER_DOWN);
    mqtt_bench_finish(&b);
}

static void a_refused_topic_is_named_and_asked_for_again(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        mqtt_bench b;
        char text[64], filter[32];
        (void)snprintf(filter, sizeof filter, "rules%d/#", i);
        mqtt_bench_begin(&b, "rules", filter, i == 0 ? "5" : "3.1.1", mqtt_port + RULES);
        log_in(&b, "headrace", "headrace-secret");
        mqtt_bench_start(&b);
        (void)snprintf(text, sizeof text, "topic '%s': %s", filter,
                       i == 0 ? "Not authorized" : "refused by the broker");
        mqtt_bench_wait_text(&b, text);
        assert_int_equal(b.up, HR_TRIGGER_DOWN);
        mqtt_run("%s allow %d '%s'", MOSQUITTO, mqtt_port, filter);
        mqtt_bench_wait(&b, mqtt_bench_is_up);
        assert_string_equal(b.why, "");
        mqtt_bench_finish(&b);
    }
}

static void one_refused_topic_of_two_is_named_while_the_other_flows(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_run("%s allow %d open/#", MOSQUITTO, mqtt_port);
    mqtt_bench_begin(&b, "some", "open/#", "5", mqtt_port + RULES);
    hr_node *more = hr_node_add(b.config, HR_NODE_LIST, "topics");
    (void)hr_node_add_text(more, NULL, "shut/#", 0);
    log_in(&b, "headrace", "headrace-secret");
    mqtt_bench_start(&b);
    mqtt_bench_wait_text(&b, "topic 'shut/#': Not authorized");
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    mqtt_bench_finish(&b);
}

static void the_next_server_is_taken_when_one_is_gone(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_tap tap;
    mqtt_tap_open(&tap, mqtt_port);
    mqtt_bench_begin(&b, "failover", "fail/over", "auto", 0);
    mqtt_bench_url(&b, "mqtt://127.0.0.1", 1); /* nobody listens there */
    mqtt_bench_url(&b, "mqtt://localhost", tap.port);
    mqtt_bench_url(&b, "mqtt://127.0.0.1", mqtt_port);
    mqtt_bench_start(&b);
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    assert_int_equal(atomic_load(&tap.connections), 1);
    mqtt_publish("fail/over", 1, 10);
    mqtt_bench_wait_count(&b, 10);
    atomic_store(&tap.cuts, true);
    mqtt_bench_wait(&b, mqtt_bench_is_down);
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    mqtt_publish("fail/over", 11, 20);
    mqtt_bench_wait_count(&b, 20);
    assert_int_equal(mqtt_bench_distinct(&b, 20), 20);
    mqtt_bench_finish(&b);
    mqtt_tap_close(&tap);
}

static void qos_2_over_3_1_1_is_subscribed_as_1_and_said(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_tap tap;
    mqtt_tap_open(&tap, mqtt_port);
    mqtt_bench_begin(&b, "two-over-three", "two/three", "3.1.1", tap.port);
    mqtt_bench_set(&b, NULL, "qos", "2");
    mqtt_bench_start(&b);
    mqtt_bench_wait_text(&b, "qos 2 is subscribed as 1 over MQTT 3.1.1");
    assert_int_equal(b.up, HR_TRIGGER_UP);
    assert_int_equal(atomic_load(&tap.subscribe_options), 1);
    mqtt_bench_finish(&b);
    mqtt_tap_close(&tap);
}

int main(int count, char **words) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tls_with_a_ca_a_client_certificate_and_a_password),
        cmocka_unit_test(without_a_client_certificate_the_broker_closes),
        cmocka_unit_test(an_unknown_authority_is_named),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(an_expired_certificate_is_refused_until_it_is_renewed),
        cmocka_unit_test(a_certificate_for_another_host_is_refused),
        cmocka_unit_test(tls_to_a_port_without_it_says_so),
        cmocka_unit_test(a_wrong_password_is_refused_until_it_is_right),
        cmocka_unit_test(without_a_password_it_is_not_authorised),
        cmocka_unit_test(a_refused_topic_is_named_and_asked_for_again),
        cmocka_unit_test(one_refused_topic_of_two_is_named_while_the_other_flows),
        cmocka_unit_test(the_next_server_is_taken_when_one_is_gone),
        cmocka_unit_test(qos_2_over_3_1_1_is_subscribed_as_1_and_said),
    };
    cmocka_set_test_filter(count > 1 ? words[1] : "*"); /* test_mqtt_peer PATTERN */
    return cmocka_run_group_tests(tests, mqtt_bench_group_begin, mqtt_bench_group_end);
}
