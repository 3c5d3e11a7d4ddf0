/* SPDX-License-Identifier: Apache-2.0 */
/* The mqtt trigger against a real mosquitto: nothing is acknowledged before it is durable. */
#include "core/envelope.h"
#include "tests/lib/mqtt_bench.h"
#include "triggers/mqtt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
/* after the above: */
#include <cmocka.h>

#include <signal.h>

static void check_one(mqtt_bench *b, size_t batch, uint32_t index, const char *topic,
                      const char *data) {
    const hr_batch *at = b->batch[batch];
    assert_true(hr_slice_is(hr_batch_subject(at, index), topic));
    assert_true(hr_slice_is(hr_batch_key(at, index), topic));
    assert_true(hr_slice_is(hr_batch_type(at, index), "mqtt.message"));
    assert_true(hr_slice_is(hr_batch_data(at, index), data));
    assert_true(at->view[index].flags & HR_VIEW_JSON);
}

static bool has_the_newest(mqtt_bench *b) {
    return mqtt_bench_distinct(b, 21) > mqtt_bench_distinct(b, 20);
}

/* In a process of its own, which is killed while durable() is held: first in this program, since
 * threads of the library do not survive a fork. What comes again comes before what is new; how many
 * do not is printed, for ./dev prove mutants. */
static void o_m1_s19_what_was_not_durable_comes_again_after_a_kill(void **state) {
    (void)state;
    int told[2];
    assert_int_equal(pipe(told), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    mqtt_bench b;
    if (child == 0) {
        mqtt_bench_begin(&b, "killed", "kill/+", "auto", mqtt_port);
        b.holds = true;
        mqtt_bench_start(&b);
        mqtt_bench_wait(&b, mqtt_bench_is_up);
        (void)!write(told[1], "u", 1);
        mqtt_bench_wait_count(&b, 20);
        (void)!write(told[1], "g", 1);
        (void)pause();
        _exit(0);
    }
    char word = 0;
    assert_int_equal(read(told[0], &word, 1), 1);
    mqtt_publish("kill/a", 1, 20);
    assert_int_equal(read(told[0], &word, 1), 1);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    mqtt_bench_begin(&b, "killed", "kill/+", "auto", mqtt_port);
    mqtt_bench_start(&b);
    mqtt_publish("kill/a", 21, 21);
    mqtt_bench_wait(&b, has_the_newest);
    print_message("after the kill %zu of 20 did not come again\n",
                  20 - mqtt_bench_distinct(&b, 20));
    assert_int_equal(mqtt_bench_distinct(&b, 20), 20);
    check_one(&b, 0, 0, "kill/a", "{\"n\":1}");
    mqtt_bench_finish(&b);
    /* And what was durable does not. */
    mqtt_bench_begin(&b, "killed", "kill/+", "auto", mqtt_port);
    mqtt_bench_start(&b);
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    mqtt_publish("kill/a", 22, 22);
    mqtt_bench_wait_count(&b, 1);
    assert_int_equal(b.count, 1);
    check_one(&b, 0, 0, "kill/a", "{\"n\":22}");
    mqtt_bench_finish(&b);
    (void)close(told[0]);
    (void)close(told[1]);
}

static void deliver(const char *version, const char *name) {
    mqtt_bench b;
    mqtt_bench_begin(&b, name, "site/+site/device/+device/temp", version, mqtt_port);
    mqtt_bench_start(&b);
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    assert_string_equal(b.why, "");
    mqtt_publish("site/a/device/t-1/temp", 1, 50);
    mqtt_bench_wait_count(&b, 50);
    check_one(&b, 0, 0, "site/a/device/t-1/temp", "{\"n\":1}");
    hr_attribute found;
    assert_true(hr_envelope_attribute(hr_batch_envelope(b.batch[0], 0), "device", &found));
    assert_true(hr_slice_is(found.text, "t-1"));
    assert_true(hr_envelope_attribute(hr_batch_envelope(b.batch[0], 0), "site", &found));
    assert_true(hr_slice_is(found.text, "a"));
    assert_true(hr_slice_is(hr_batch_source(b.batch[0], 0), b.trigger->name) == false);
    mqtt_bench_finish(&b);
}

static void messages_become_events_over_5(void **state) {
    (void)state;
    deliver("5", "five");
}

static void messages_become_events_over_3_1_1(void **state) {
    (void)state;
    deliver("3.1.1", "three");
}

static void user_properties_are_attributes_and_id_and_type(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_bench_begin(&b, "props", "props", "5", mqtt_port);
    mqtt_bench_start(&b);
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    mqtt_run("mosquitto_pub -h 127.0.0.1 -p %d -V 5 -q 1 -t props -m hello "
             "-D publish user-property id order-7 -D publish user-property type my.type "
             "-D publish user-property Colour red -D publish user-property colour blue "
             "-D publish user-property 'no name!' x -D publish user-property qos 7 "
             "-D publish user-property source elsewhere -D publish user-property data x "
             "-D publish user-property subject s -D publish user-property retained true "
             "-D publish user-property time never -D publish user-property empty ''",
             mqtt_port);
    mqtt_run("mosquitto_pub -h 127.0.0.1 -p %d -V 5 -q 1 -t props -m 'no json' "
             "-D publish content-type application/cloudevents+json",
             mqtt_port);
    mqtt_run(
        "mosquitto_pub -h 127.0.0.1 -p %d -V 5 -q 1 -t props "
        "-m '{\"specversion\":\"1.0\",\"id\":\"s1\",\"source\":\"/s\",\"type\":\"t\",\"data\":1}' "
        "-D publish content-type application/cloudevents+json",
        mqtt_port);
    mqtt_bench_wait_count(&b, 2);
    assert_int_equal(b.rejected, 1);
    hr_attribute found;
    assert_true(hr_slice_is(hr_batch_id(b.batch[0], 0), "order-7"));
    assert_true(hr_slice_is(hr_batch_type(b.batch[0], 0), "my.type"));
    assert_true(hr_envelope_attribute(hr_batch_envelope(b.batch[0], 0), "colour", &found));
    assert_true(hr_slice_is(found.text, "red"));
    hr_slice first = hr_batch_envelope(b.batch[0], 0);
    assert_true(hr_envelope_attribute(first, "qos", &found));
    assert_int_equal(found.number, 1);
    assert_true(hr_envelope_attribute(first, "empty", &found));
    assert_int_equal(found.text.size, 0);
    assert_true(hr_slice_is(hr_batch_subject(b.batch[0], 0), "props"));
    assert_true(hr_slice_is(hr_batch_data(b.batch[0], 0), "hello"));
    assert_true(hr_slice_is(hr_batch_source(b.batch[0], 0), "headrace/mqtt/props"));
    assert_false(hr_envelope_attribute(first, "retained", &found));
    assert_false(hr_envelope_attribute(first, "no name!", &found));
    assert_true(hr_envelope_attribute(first, "time", &found));
    assert_int_equal(found.type, HR_ATTRIBUTE_TIMESTAMP);
    const hr_batch *last = b.batch[b.batch_count - 1];
    assert_true(hr_slice_is(hr_batch_id(last, last->count - 1), "s1"));
    assert_true(hr_slice_is(hr_batch_key(last, last->count - 1), "props"));
    mqtt_bench_finish(&b);
}

static void refused_messages_come_again(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_bench_begin(&b, "refused", "refuse/#", "auto", mqtt_port);
    b.holds = true;
    mqtt_bench_start(&b);
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    mqtt_publish("refuse/a", 1, 5);
    mqtt_bench_wait_count(&b, 5);
    hr_mqtt_ops.refused(b.trigger, 1, b.last_ticket, HR_E_STORE_FULL);
    b.durable_ticket = b.last_ticket;
    b.holds = false;
    mqtt_bench_wait_count(&b, 10);
    assert_int_equal(b.count, 10);
    mqtt_bench_finish(&b);
}

static void it_reconnects_when_the_broker_comes_back(void **state) {
    (void)state;
    mqtt_bench b;
    mqtt_bench_begin(&b, "again", "again/#", "auto", mqtt_port);
    mqtt_broker("stop");
    mqtt_bench_start(&b);
    mqtt_bench_wait(&b, mqtt_bench_is_down);
    mqtt_bench_wait_text(&b, "Connection refused");
    mqtt_broker("start");
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    mqtt_broker("stop");
    mqtt_bench_wait(&b, mqtt_bench_is_down);
    mqtt_broker("start");
    mqtt_bench_wait(&b, mqtt_bench_is_up);
    mqtt_publish("again/x", 1, 3);
    mqtt_bench_wait_count(&b, 3);
    mqtt_bench_finish(&b);
}

int main(int count, char **words) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(o_m1_s19_what_was_not_durable_comes_again_after_a_kill),
        cmocka_unit_test(messages_become_events_over_5),
        cmocka_unit_test(messages_become_events_over_3_1_1),
        cmocka_unit_test(user_properties_are_attributes_and_id_and_type),
        cmocka_unit_test(refused_messages_come_again),
        cmocka_unit_test(it_reconnects_when_the_broker_comes_back),
    };
    cmocka_set_test_filter(count > 1 ? words[1] : "*"); /* test_mqtt PATTERN */
    return cmocka_run_group_tests(tests, mqtt_bench_group_begin, mqtt_bench_group_end);
}
