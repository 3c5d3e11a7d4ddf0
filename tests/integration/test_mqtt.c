/* SPDX-License-Identifier: Apache-2.0 */
/* The mqtt trigger against a real mosquitto: nothing is acknowledged before it is durable. */
#include "broker/trigger.h"
#include "core/envelope.h"
#include "core/memory.h"
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

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>

enum { EVENTS = 256, LIMIT_MS = 40000 };

typedef struct bench {
    hr_loop *loop;
    hr_timer *timer;
    hr_node *config;
    hr_trigger *trigger;
    hr_batch *batch[EVENTS];
    size_t batch_count, count, rejected;
    uint64_t last_ticket, durable_ticket;
    hr_trigger_up up;
    char why[400];
    bool holds, has_stopped;
    uint64_t end_ns;
    bool (*is_reached)(struct bench *self);
    size_t wanted;
    const char *wanted_text;
} bench;

static char folder[] = "/tmp/headrace-mqtt-XXXXXX";
static int port;

static bench *of(hr_trigger *self) {
    return self->host_data;
}

static void on_offer(hr_trigger *self, hr_batch *take_batch, uint64_t ticket) {
    bench *b = of(self);
    assert_int_equal(ticket, b->last_ticket + 1);
    assert_true(b->batch_count < EVENTS);
    b->last_ticket = ticket;
    b->batch[b->batch_count++] = take_batch;
    b->count += take_batch->count;
}

static void on_reject(hr_trigger *self, hr_slice raw, const char *why, uint64_t ticket) {
    (void)raw;
    (void)why;
    bench *b = of(self);
    assert_int_equal(ticket, b->last_ticket + 1);
    b->last_ticket = ticket;
    b->rejected++;
}

static void on_state(hr_trigger *self, hr_trigger_up up, const char *why) {
    bench *b = of(self);
    b->up = up;
    (void)snprintf(b->why, sizeof b->why, "%s", why == NULL ? "" : why);
}

static void on_stopped(hr_trigger *self) {
    of(self)->has_stopped = true;
}

static const hr_trigger_host host = {
    .offer = on_offer, .reject = on_reject, .state = on_state, .stopped = on_stopped};

static void tick(void *data) {
    bench *b = data;
    if (!b->holds && b->durable_ticket < b->last_ticket) {
        b->durable_ticket = b->last_ticket;
        b->trigger->ops->durable(b->trigger, b->last_ticket);
    }
    if (b->is_reached(b) || hr_mono_ns() > b->end_ns) {
        hr_loop_stop(b->loop);
    }
}

static void wait_until(bench *b, bool (*is_reached)(bench *self)) {
    b->is_reached = is_reached;
    b->end_ns = hr_mono_ns() + LIMIT_MS * UINT64_C(1000000);
    hr_timer_start(b->timer, 0, 5);
    hr_loop_run(b->loop);
    if (!is_reached(b)) {
        fail_msg("not reached: %zu events, %s: %s", b->count,
                 b->up == HR_TRIGGER_UP ? "up" : "down", b->why);
    }
}

static bool has_count(bench *b) {
    return b->count >= b->wanted;
}
static bool is_up(bench *b) {
    return b->up == HR_TRIGGER_UP;
}
static bool is_down(bench *b) {
    return b->up == HR_TRIGGER_DOWN;
}
static bool has_text(bench *b) {
    return strstr(b->why, b->wanted_text) != NULL;
}
static bool has_stopped(bench *b) {
    return b->has_stopped;
}

static void begin(bench *b, const char *name, const char *topic, const char *version, int to) {
    *b = (bench){0};
    b->loop = hr_loop_new();
    b->timer = hr_timer_new(b->loop, tick, b);
    b->config = hr_node_add(NULL, HR_NODE_MAP, NULL);
    char *url = hr_format("mqtt://127.0.0.1:%d", to);
    hr_node_add_text(b->config, "url", url, 0);
    hr_node_add_text(b->config, "topic", topic, 0);
    hr_node_add_text(b->config, "version", version, 0);
    hr_node_add_text(b->config, "client_id", name, 0);
    hr_node_add_text(b->config, "qos", "1", 1);
    hr_free(url);
    b->trigger = hr_alloc(hr_mqtt_ops.object_size);
    b->trigger->ops = &hr_mqtt_ops;
    b->trigger->host = &host;
    b->trigger->loop = b->loop;
    b->trigger->name = name;
    b->trigger->config = b->trigger->kind_config = b->config;
    b->trigger->host_data = b;
}

static void start(bench *b) {
    hr_error err = {0};
    assert_int_equal(hr_mqtt_ops.init(b->trigger, &err), HR_OK);
    assert_int_equal(hr_mqtt_ops.start(b->trigger, &err), HR_OK);
}

static void finish(bench *b) {
    hr_mqtt_ops.stop(b->trigger);
    wait_until(b, has_stopped);
    hr_mqtt_ops.fini(b->trigger);
    hr_free(b->trigger);
    for (size_t i = 0; i < b->batch_count; i++) {
        hr_batch_unref(b->batch[i]);
    }
    hr_timer_free(b->timer);
    hr_loop_free(b->loop);
    hr_node_free(b->config);
}

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *format, ...) {
    char command[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    assert_int_equal(system(command), 0);
}

static void publish(const char *version, const char *topic, int first, int last) {
    run("for i in $(seq %d %d); do echo '{\"n\":'$i'}'; done | "
        "mosquitto_pub -h 127.0.0.1 -p %d -V %s -q 1 -t %s -l",
        first, last, port, version, topic);
}

static void broker(const char *verb) {
    run("%s %s %s %d", MOSQUITTO, verb, folder, port);
}

static void check_one(bench *b, size_t batch, uint32_t index, const char *topic, const char *data) {
    const hr_batch *at = b->batch[batch];
    assert_true(hr_slice_is(hr_batch_subject(at, index), topic));
    assert_true(hr_slice_is(hr_batch_key(at, index), topic));
    assert_true(hr_slice_is(hr_batch_type(at, index), "mqtt.message"));
    assert_true(hr_slice_is(hr_batch_data(at, index), data));
    assert_true(at->view[index].flags & HR_VIEW_JSON);
}

/* In a process of its own, which is killed while durable() is held: first in this program, since
 * threads of the library do not survive a fork. */
static void s19_what_was_not_durable_comes_again_after_a_kill(void **state) {
    (void)state;
    int told[2];
    assert_int_equal(pipe(told), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    bench b;
    if (child == 0) {
        begin(&b, "killed", "kill/+", "auto", port);
        b.holds = true;
        start(&b);
        wait_until(&b, is_up);
        (void)!write(told[1], "u", 1);
        b.wanted = 20;
        wait_until(&b, has_count);
        (void)!write(told[1], "g", 1);
        (void)pause();
        _exit(0);
    }
    char word = 0;
    assert_int_equal(read(told[0], &word, 1), 1);
    publish("5", "kill/a", 1, 20);
    assert_int_equal(read(told[0], &word, 1), 1);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    begin(&b, "killed", "kill/+", "auto", port);
    b.wanted = 20;
    start(&b);
    wait_until(&b, has_count);
    check_one(&b, 0, 0, "kill/a", "{\"n\":1}");
    finish(&b);
    /* And what was durable does not. */
    begin(&b, "killed", "kill/+", "auto", port);
    start(&b);
    wait_until(&b, is_up);
    publish("5", "kill/a", 21, 21);
    b.wanted = 1;
    wait_until(&b, has_count);
    assert_int_equal(b.count, 1);
    check_one(&b, 0, 0, "kill/a", "{\"n\":21}");
    finish(&b);
    (void)close(told[0]);
    (void)close(told[1]);
}

static void deliver(const char *version, const char *name) {
    bench b;
    begin(&b, name, "site/+site/device/+device/temp", version, port);
    start(&b);
    wait_until(&b, is_up);
    assert_string_equal(b.why, "");
    publish("5", "site/a/device/t-1/temp", 1, 50);
    b.wanted = 50;
    wait_until(&b, has_count);
    check_one(&b, 0, 0, "site/a/device/t-1/temp", "{\"n\":1}");
    hr_attribute found;
    assert_true(hr_envelope_attribute(hr_batch_envelope(b.batch[0], 0), "device", &found));
    assert_true(hr_slice_is(found.text, "t-1"));
    assert_true(hr_envelope_attribute(hr_batch_envelope(b.batch[0], 0), "site", &found));
    assert_true(hr_slice_is(found.text, "a"));
    assert_true(hr_slice_is(hr_batch_source(b.batch[0], 0), b.trigger->name) == false);
    finish(&b);
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
    bench b;
    begin(&b, "props", "props", "5", port);
    start(&b);
    wait_until(&b, is_up);
    run("mosquitto_pub -h 127.0.0.1 -p %d -V 5 -q 1 -t props -m hello "
        "-D publish user-property id order-7 -D publish user-property type my.type "
        "-D publish user-property Colour red",
        port);
    run("mosquitto_pub -h 127.0.0.1 -p %d -V 5 -q 1 -t props -m 'no json' "
        "-D publish content-type application/cloudevents+json",
        port);
    run("mosquitto_pub -h 127.0.0.1 -p %d -V 5 -q 1 -t props "
        "-m '{\"specversion\":\"1.0\",\"id\":\"s1\",\"source\":\"/s\",\"type\":\"t\",\"data\":1}' "
        "-D publish content-type application/cloudevents+json",
        port);
    b.wanted = 2;
    wait_until(&b, has_count);
    assert_int_equal(b.rejected, 1);
    hr_attribute found;
    assert_true(hr_slice_is(hr_batch_id(b.batch[0], 0), "order-7"));
    assert_true(hr_slice_is(hr_batch_type(b.batch[0], 0), "my.type"));
    assert_true(hr_envelope_attribute(hr_batch_envelope(b.batch[0], 0), "colour", &found));
    assert_true(hr_slice_is(found.text, "red"));
    const hr_batch *last = b.batch[b.batch_count - 1];
    assert_true(hr_slice_is(hr_batch_id(last, last->count - 1), "s1"));
    assert_true(hr_slice_is(hr_batch_key(last, last->count - 1), "props"));
    finish(&b);
}

static void a_wrong_password_shows_the_brokers_words(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        bench b;
        begin(&b, "wrong", "x", i == 0 ? "5" : "3.1.1", port + 1);
        hr_node_add_text(b.config, "username", "headrace", 0);
        hr_node_add_text(b.config, "password", "not-it", 0);
        start(&b);
        b.wanted_text = "ot authorized";
        wait_until(&b, has_text);
        assert_int_equal(b.up, HR_TRIGGER_DOWN);
        finish(&b);
    }
}

static void the_right_password_is_let_in(void **state) {
    (void)state;
    bench b;
    begin(&b, "right", "x", "auto", port + 1);
    hr_node_add_text(b.config, "username", "headrace", 0);
    hr_node_add_text(b.config, "password", "headrace-secret", 0);
    start(&b);
    wait_until(&b, is_up);
    finish(&b);
}

static void refused_messages_come_again(void **state) {
    (void)state;
    bench b;
    begin(&b, "refused", "refuse/#", "auto", port);
    b.holds = true;
    start(&b);
    wait_until(&b, is_up);
    publish("5", "refuse/a", 1, 5);
    b.wanted = 5;
    wait_until(&b, has_count);
    hr_mqtt_ops.refused(b.trigger, 1, b.last_ticket, HR_E_STORE_FULL);
    b.durable_ticket = b.last_ticket;
    b.holds = false;
    b.wanted = 10;
    wait_until(&b, has_count);
    assert_int_equal(b.count, 10);
    finish(&b);
}

static void it_reconnects_when_the_broker_comes_back(void **state) {
    (void)state;
    bench b;
    begin(&b, "again", "again/#", "auto", port);
    broker("stop");
    start(&b);
    wait_until(&b, is_down);
    b.wanted_text = "Connection refused";
    wait_until(&b, has_text);
    broker("start");
    wait_until(&b, is_up);
    broker("stop");
    wait_until(&b, is_down);
    broker("start");
    wait_until(&b, is_up);
    publish("5", "again/x", 1, 3);
    b.wanted = 3;
    wait_until(&b, has_count);
    finish(&b);
}

static int free_port(void) {
    for (int base = 20000 + getpid() % 20000; base < 60000; base += 7) {
        int free_count = 0;
        for (int i = 0; i < 2; i++) {
            int fd = socket(AF_INET, SOCK_STREAM, 0);
            struct sockaddr_in to = {.sin_family = AF_INET,
                                     .sin_port = htons((uint16_t)(base + i)),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
            free_count += bind(fd, (struct sockaddr *)&to, sizeof to) == 0;
            (void)close(fd);
        }
        if (free_count == 2) {
            return base;
        }
    }
    return 0;
}

static int begin_all(void **state) {
    (void)state;
    port = free_port();
    assert_non_null(mkdtemp(folder));
    broker("start");
    return 0;
}

static int end_all(void **state) {
    (void)state;
    broker("stop");
    run("rm -r %s", folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s19_what_was_not_durable_comes_again_after_a_kill),
        cmocka_unit_test(messages_become_events_over_5),
        cmocka_unit_test(messages_become_events_over_3_1_1),
        cmocka_unit_test(user_properties_are_attributes_and_id_and_type),
        cmocka_unit_test(a_wrong_password_shows_the_brokers_words),
        cmocka_unit_test(the_right_password_is_let_in),
        cmocka_unit_test(refused_messages_come_again),
        cmocka_unit_test(it_reconnects_when_the_broker_comes_back),
    };
    return cmocka_run_group_tests(tests, begin_all, end_all);
}
