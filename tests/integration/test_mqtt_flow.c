/* SPDX-License-Identifier: Apache-2.0 */
/* The mqtt trigger and its ack gate in the flow of messages, seen on the wire. */
#include "core/envelope.h"
#include "core/memory.h"
#include "tests/lib/mqtt_bench.h"
#include "triggers/mqtt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* after the above: */
#include <cmocka.h>

#include <string.h>

enum { WINDOW = 1000 };

static void begin_tapped(mqtt_bench *b, mqtt_tap *tap, const char *name, const char *topic,
                         const char *version) {
    mqtt_tap_open(tap, mqtt_port);
    mqtt_bench_begin(b, name, topic, version, tap->port);
    mqtt_bench_set(b, NULL, "window", "1000");
    b->tap = tap;
}

static void start_up(mqtt_bench *b) {
    mqtt_bench_start(b);
    mqtt_bench_wait(b, mqtt_bench_is_up);
}

static void finish_tapped(mqtt_bench *b) {
    mqtt_tap *tap = b->tap;
    mqtt_bench_finish(b);
    mqtt_tap_close(tap);
}

static uint32_t taken_over(const mqtt_tap *tap) {
    return atomic_load(&tap->pubacks) + atomic_load(&tap->pubrecs);
}

static bool all_are_acknowledged(mqtt_bench *b) {
    return taken_over(b->tap) >= b->wanted;
}

static bool all_are_complete(mqtt_bench *b) {
    return atomic_load(&b->tap->pubcomps) >= b->wanted;
}

static bool has_reject(mqtt_bench *b) {
    return b->rejected > 0;
}

static void gate(const char *version, const char *qos) {
    mqtt_bench b;
    mqtt_tap tap;
    begin_tapped(&b, &tap, "gate", "gate/#", version);
    mqtt_bench_set(&b, NULL, "qos", qos);
    b.holds = true;
    start_up(&b);
    mqtt_run(
        "seq 1 3000 | sed 's/.*/{\"n\":&}/' | mosquitto_pub -h 127.0.0.1 -p %d -q %s -t gate/a "
        "-l",
        mqtt_port, qos);
    mqtt_bench_wait_count(&b, WINDOW);
    mqtt_bench_linger(&b, 300);
    assert_int_equal(taken_over(&tap), 0);
    /* Some of it: no more than that is let through. */
    uint64_t half = b.last_ticket / 2 + 1;
    mqtt_bench_durable(&b, half);
    mqtt_bench_linger(&b, 100);
    assert_in_range(taken_over(&tap), 0, b.messages[half]);
    b.holds = false;
    mqtt_bench_wait_count(&b, 3000);
    b.wanted = 3000;
    mqtt_bench_wait(&b, all_are_acknowledged);
    if (atomic_load(&tap.pubrecs) > 0) {
        mqtt_bench_wait(&b, all_are_complete);
    }
    assert_int_equal(atomic_load(&tap.too_early), 0);
    assert_int_equal(mqtt_bench_distinct(&b, 3000), 3000);
    assert_int_equal(b.count, 3000);
    finish_tapped(&b);
}

static void o_m1_s19_no_puback_leaves_before_its_message_is_durable(void **state) {
    (void)state;
    gate("5", "1");
    gate("3.1.1", "1");
}

static void o_m2_s18_no_pubrec_of_mqtt_5_leaves_before_its_message_is_durable(void **state) {
    (void)state;
    gate("5", "2");
}

static void o_m2_s18_qos_2_is_at_least_once_over_a_broken_connection(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_tap tap;
    begin_tapped(&b, &tap, "two", "two/#", "5");
    mqtt_bench_set(&b, NULL, "qos", "2");
    b.holds = true;
    start_up(&b);
    mqtt_run(
        "seq 1 500 | sed 's/.*/{\"n\":&}/' | mosquitto_pub -h 127.0.0.1 -p %d -q 2 -t two/a -l",
        mqtt_port);
    mqtt_bench_wait_count(&b, 500);
    atomic_store(&tap.cuts, true);
    mqtt_bench_wait(&b, mqtt_bench_is_down);
    atomic_store(&tap.cuts, false);
    b.holds = false;
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    mqtt_run("seq 501 600 | sed 's/.*/{\"n\":&}/' | "
             "mosquitto_pub -h 127.0.0.1 -p %d -q 2 -t two/a -l",
             mqtt_port);
    b.wanted = 600;
    mqtt_bench_wait(&b, all_are_complete);
    assert_int_equal(mqtt_bench_distinct(&b, 600), 600);
    assert_int_equal(atomic_load(&tap.too_early), 0);
    finish_tapped(&b);
}

static void qos_0_flows_without_acknowledgements(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_tap tap;
    begin_tapped(&b, &tap, "zero", "zero/#", "auto");
    mqtt_bench_set(&b, NULL, "qos", "0");
    start_up(&b);
    assert_int_equal(atomic_load(&tap.subscribe_options) & 3, 0);
    mqtt_publish("zero/a", 1, 100);
    mqtt_bench_wait_count(&b, 100);
    assert_int_equal(taken_over(&tap), 0);
    finish_tapped(&b);
}

static void want_0_stops_reading_and_want_1_goes_on_without_loss(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_tap tap;
    begin_tapped(&b, &tap, "want", "want/#", "3.1.1"); /* there the broker knows no window */
    start_up(&b);
    mqtt_publish("want/a", 1, 10);
    mqtt_bench_wait_count(&b, 10);
    hr_mqtt_ops.want(b.trigger, 0, 0);
    mqtt_run("head -c 20000 /dev/zero | tr '\\0' x >%s/line && "
             "for i in $(seq 2000); do cat %s/line; echo; done | "
             "mosquitto_pub -h 127.0.0.1 -p %d -q 1 -t want/b -l",
             mqtt_folder, mqtt_folder, mqtt_port);
    mqtt_bench_linger(&b, 300);
    assert_int_equal(b.count, 10);
    assert_true(atomic_load(&tap.publishes) < 2000); /* the rest waits at the broker */
    /* Not for ever: past half the keepalive the connection ends, and is made when it may be. */
    mqtt_bench_wait_text(&b, "nothing more can be taken for now");
    assert_int_equal(b.up, HR_TRIGGER_DOWN);
    mqtt_bench_linger(&b, 500);
    assert_int_equal(atomic_load(&tap.connections), 1);
    hr_mqtt_ops.want(b.trigger, 0, 1);
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    mqtt_publish("want/a", 11, 20);
    mqtt_bench_wait_count(&b, 2020);
    assert_int_equal(b.count, 2020);
    assert_int_equal(mqtt_bench_distinct(&b, 20), 20);
    assert_int_equal(atomic_load(&tap.too_early), 0);
    finish_tapped(&b);
}

static void
o_m4_s19_acks_held_past_half_the_keepalive_end_the_connection_until_all_is_durable(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_tap tap;
    begin_tapped(&b, &tap, "slow", "slow/#", "auto");
    b.holds = true;
    start_up(&b);
    mqtt_publish("slow/a", 1, 5);
    mqtt_bench_wait_count(&b, 5);
    mqtt_bench_wait_text(&b, "did not become durable in time");
    assert_int_equal(b.up, HR_TRIGGER_DOWN);
    mqtt_bench_linger(&b, 1000);
    assert_int_equal(atomic_load(&tap.connections), 1);
    assert_int_equal(taken_over(&tap), 0);
    b.holds = false;
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    b.wanted = 5;
    mqtt_bench_wait(&b, all_are_acknowledged);
    assert_int_equal(b.count, 10); /* the acknowledgements died with their connection */
    assert_int_equal(mqtt_bench_distinct(&b, 5), 5);
    assert_int_equal(atomic_load(&tap.too_early), 0);
    finish_tapped(&b);
}

static void o_m3_a_broker_that_was_killed_has_lost_the_session(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        mqtt_bench b;
        mqtt_tap tap;
        begin_tapped(&b, &tap, i == 0 ? "lost5" : "lost3", "lost/#", i == 0 ? "5" : "3.1.1");
        start_up(&b);
        assert_int_equal(b.sessions_lost, 0);
        assert_in_range(b.kept_us, 1, hr_real_us());
        mqtt_broker("kill9");
        mqtt_bench_wait(&b, mqtt_bench_is_down);
        mqtt_broker("start");
        mqtt_bench_wait(&b, mqtt_bench_is_up);
        assert_int_equal(b.sessions_lost, 1);
        assert_int_equal(atomic_load(&tap.subscribes), 2);
        mqtt_publish("lost/a", 1, 10);
        mqtt_bench_wait_count(&b, 10);
        int64_t kept_us = b.kept_us;
        finish_tapped(&b);
        /* Another life that does without one lets it go. */
        begin_tapped(&b, &tap, i == 0 ? "lost5" : "lost3", "lost/#", i == 0 ? "5" : "3.1.1");
        mqtt_bench_set(&b, NULL, "session", "0");
        b.trigger->kept_us = b.kept_us = kept_us;
        start_up(&b);
        assert_int_equal(b.sessions_lost, 0);
        assert_int_equal(b.kept_us, 0);
        finish_tapped(&b);
    }
}

static void o_m3_s18_a_present_session_is_not_subscribed_again(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        mqtt_bench b;
        mqtt_tap tap;
        bool has_session = i < 2;
        begin_tapped(&b, &tap, i == 0 ? "s5" : "s3", "session/#", i == 0 ? "5" : "3.1.1");
        mqtt_bench_set(&b, NULL, "session", has_session ? "60000" : "0");
        start_up(&b);
        assert_int_equal(atomic_load(&tap.subscribes), 1);
        atomic_store(&tap.cuts, true);
        mqtt_bench_wait(&b, mqtt_bench_is_down);
        if (has_session) {
            mqtt_publish("session/a", 1, 10); /* while it is away */
        }
        atomic_store(&tap.cuts, false);
        mqtt_bench_wait(&b, mqtt_bench_is_up);
        assert_int_equal(atomic_load(&tap.subscribes), has_session ? 1 : 2);
        mqtt_publish("session/a", 11, 20);
        mqtt_bench_wait_count(&b, has_session ? 20 : 10);
        assert_int_equal(b.count, has_session ? 20 : 10);
        assert_int_equal(b.sessions_lost, 0);
        finish_tapped(&b);
    }
}

static void s18_retained_messages_do_not_repeat_over_mqtt_5(void **state) {
    (void)state;
    mqtt_run("mosquitto_pub -h 127.0.0.1 -p %d -q 1 -r -t keep/a -m '{\"n\":1}'", mqtt_port);
    for (int i = 0; i < 3; i++) {
        mqtt_bench b;
        mqtt_tap tap;
        begin_tapped(&b, &tap, i == 2 ? "keep-none" : "keep", "keep/#", "5");
        if (i == 2) {
            mqtt_bench_set(&b, NULL, "retained", "0");
        }
        start_up(&b);
        assert_int_equal(atomic_load(&tap.subscribe_options), 0x11); /* retain handling 1, QoS 1 */
        mqtt_publish("keep/b", 2, 2);
        mqtt_bench_wait_count(&b, i == 0 ? 2 : 1);
        assert_int_equal(b.count, i == 0 ? 2 : 1);
        uint32_t place;
        hr_attribute found;
        const hr_batch *batch = mqtt_bench_event(&b, 0, &place);
        assert_int_equal(hr_envelope_attribute(hr_batch_envelope(batch, place), "retained", &found),
                         i == 0);
        assert_true(hr_slice_is(hr_batch_data(batch, place), i == 0 ? "{\"n\":1}" : "{\"n\":2}"));
        b.wanted = i == 1 ? 1 : 2; /* one that is no event is acknowledged as well */
        mqtt_bench_wait(&b, all_are_acknowledged);
        finish_tapped(&b);
    }
}

static void a_restarted_broker_goes_on_where_it_was(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_tap tap;
    begin_tapped(&b, &tap, "restart", "restart/#", "auto");
    b.holds = true;
    start_up(&b);
    mqtt_publish("restart/a", 1, 3000);
    mqtt_bench_wait_count(&b, WINDOW);
    mqtt_broker("stop"); /* all of the window is held */
    mqtt_bench_wait(&b, mqtt_bench_is_down);
    mqtt_broker("start");
    b.holds = false;
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    mqtt_publish("restart/a", 3001, 3500);
    mqtt_bench_wait_count(&b, 3500 + WINDOW);
    assert_int_equal(mqtt_bench_distinct(&b, 3500), 3500);
    assert_int_equal(atomic_load(&tap.too_early), 0);
    finish_tapped(&b);
}

static void s19_a_stop_cuts_then_commits_then_acknowledges_then_closes(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_tap tap;
    begin_tapped(&b, &tap, "stop", "stop/#", "auto");
    b.holds = true;
    start_up(&b);
    mqtt_publish("stop/a", 1, 3000);
    mqtt_bench_wait_count(&b, WINDOW);
    hr_mqtt_ops.stop(b.trigger);
    mqtt_bench_linger(&b, 300); /* nothing is durable: the connection stays */
    assert_false(b.has_stopped);
    assert_int_equal(atomic_load(&tap.ends), 0);
    assert_int_equal(taken_over(&tap), 0);
    b.holds = false;
    b.wanted = WINDOW;
    mqtt_bench_wait(&b, all_are_acknowledged);
    mqtt_bench_wait_stopped(&b);
    assert_int_equal(b.count, WINDOW);
    assert_int_equal(taken_over(&tap), WINDOW);
    assert_int_equal(atomic_load(&tap.too_early), 0);
    assert_int_equal(mqtt_bench_distinct(&b, 3000), WINDOW);
    finish_tapped(&b);
    /* The others come now, and each once. */
    begin_tapped(&b, &tap, "stop", "stop/#", "auto");
    start_up(&b);
    mqtt_bench_wait_count(&b, 3000 - WINDOW);
    mqtt_bench_linger(&b, 100);
    assert_int_equal(b.count, 3000 - WINDOW);
    assert_int_equal(mqtt_bench_distinct(&b, 3000), 3000 - WINDOW);
    finish_tapped(&b);
}

static void a_message_over_the_limit_is_a_dead_letter_and_the_flow_goes_on(void **state) {
    (void)state;
    enum { SIZE = 17 << 20 }; /* an event has at most 16 MiB */
    mqtt_bench b;
    mqtt_tap tap;
    begin_tapped(&b, &tap, "large", "large/#", "auto");
    start_up(&b);
    mqtt_publish("large/a", 1, 3);
    mqtt_run("head -c %d /dev/zero | tr '\\0' y >%s/large && "
             "mosquitto_pub -h 127.0.0.1 -p %d -q 1 -t large/b -f %s/large",
             SIZE, mqtt_folder, mqtt_port, mqtt_folder);
    mqtt_publish("large/a", 4, 6);
    mqtt_bench_wait(&b, has_reject);
    mqtt_bench_wait_count(&b, 6);
    b.wanted = 7;
    mqtt_bench_wait(&b, all_are_acknowledged);
    assert_int_equal(b.rejected, 1);
    assert_int_equal(b.reject_raw.size, SIZE);
    assert_int_equal(b.reject_raw.bytes[SIZE - 1], 'y');
    assert_string_equal(b.reject_why, "a payload of 17825792 bytes, at most 16777216");
    assert_int_equal(mqtt_bench_distinct(&b, 6), 6);
    finish_tapped(&b);
}

int main(int count, char **words) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(o_m1_s19_no_puback_leaves_before_its_message_is_durable),
        cmocka_unit_test(o_m2_s18_no_pubrec_of_mqtt_5_leaves_before_its_message_is_durable),
        cmocka_unit_test(o_m2_s18_qos_2_is_at_least_once_over_a_broken_connection),
        cmocka_unit_test(qos_0_flows_without_acknowledgements),
        cmocka_unit_test(want_0_stops_reading_and_want_1_goes_on_without_loss),
        cmocka_unit_test(
            o_m4_s19_acks_held_past_half_the_keepalive_end_the_connection_until_all_is_durable),
        cmocka_unit_test(o_m3_a_broker_that_was_killed_has_lost_the_session),
        cmocka_unit_test(o_m3_s18_a_present_session_is_not_subscribed_again),
        cmocka_unit_test(s18_retained_messages_do_not_repeat_over_mqtt_5),
        cmocka_unit_test(a_restarted_broker_goes_on_where_it_was),
        cmocka_unit_test(s19_a_stop_cuts_then_commits_then_acknowledges_then_closes),
        cmocka_unit_test(a_message_over_the_limit_is_a_dead_letter_and_the_flow_goes_on),
    };
    cmocka_set_test_filter(count > 1 ? words[1] : "*"); /* test_mqtt_flow PATTERN */
    return cmocka_run_group_tests(tests, mqtt_bench_group_begin, mqtt_bench_group_end);
}
