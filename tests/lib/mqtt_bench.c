/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/mqtt_bench.h"

#include "core/memory.h"
#include "tests/lib/free_ports.h"
#include "triggers/mqtt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* after the above: */
#include <cmocka.h>

#include <string.h>

enum { LIMIT_MS = 60000, PORTS = 5 };

char mqtt_folder[] = "/tmp/headrace-mqtt-XXXXXX";
int mqtt_port;

static mqtt_bench *of(hr_trigger *self) {
    return self->host_data;
}

static void take_ticket(mqtt_bench *b, uint64_t ticket, size_t messages) {
    assert_int_equal(ticket, b->last_ticket + 1);
    assert_true(ticket < MQTT_BENCH_BATCHES);
    b->messages[ticket] = b->messages[ticket - 1] + messages;
    b->last_ticket = ticket;
}

static void on_offer(hr_trigger *self, hr_batch *take_batch, uint64_t ticket) {
    mqtt_bench *b = of(self);
    take_ticket(b, ticket, take_batch->count);
    b->batch[b->batch_count++] = take_batch;
    b->count += take_batch->count;
}

static void on_reject(hr_trigger *self, hr_slice raw, const char *why, uint64_t ticket) {
    mqtt_bench *b = of(self);
    take_ticket(b, ticket, 1);
    (void)snprintf(b->reject_why, sizeof b->reject_why, "%s", why);
    b->reject_raw.size = 0;
    hr_buffer_add(&b->reject_raw, raw.bytes, raw.size);
    b->rejected++;
}

static void on_state(hr_trigger *self, hr_trigger_up up, const char *why) {
    mqtt_bench *b = of(self);
    b->up = up;
    (void)snprintf(b->why, sizeof b->why, "%s", why == NULL ? "" : why);
}

static void on_gauge(hr_trigger *self, const char *name, int64_t value) {
    mqtt_bench *b = of(self);
    bool is_lost = strcmp(name, "sessions_lost") == 0;
    assert_true(is_lost || strcmp(name, "dropped") == 0);
    *(is_lost ? &b->sessions_lost : &b->dropped) = value;
}

static void on_keep(hr_trigger *self, int64_t time_us) {
    of(self)->kept_us = time_us;
}

static void on_stopped(hr_trigger *self) {
    of(self)->has_stopped = true;
}

static const hr_trigger_host host = {.offer = on_offer,
                                     .reject = on_reject,
                                     .state = on_state,
                                     .gauge = on_gauge,
                                     .keep = on_keep,
                                     .stopped = on_stopped};

void mqtt_bench_durable(mqtt_bench *b, uint64_t up_to_ticket) {
    b->durable_ticket = up_to_ticket;
    if (b->tap != NULL) {
        atomic_store(&b->tap->durable, b->messages[up_to_ticket]);
    }
    b->trigger->ops->durable(b->trigger, up_to_ticket);
}

static void tick(void *data) {
    mqtt_bench *b = data;
    if (!b->holds && b->durable_ticket < b->last_ticket) {
        mqtt_bench_durable(b, b->last_ticket);
    }
    if (b->is_reached(b) || hr_mono_ns() > b->end_ns) {
        hr_loop_stop(b->loop);
    }
}

static void run_until(mqtt_bench *b, bool (*is_reached)(mqtt_bench *self), int limit_ms) {
    b->is_reached = is_reached;
    b->end_ns = hr_mono_ns() + (uint64_t)limit_ms * UINT64_C(1000000);
    hr_timer_start(b->timer, 0, 5);
    hr_loop_run(b->loop);
}

void mqtt_bench_wait(mqtt_bench *b, bool (*is_reached)(mqtt_bench *self)) {
    run_until(b, is_reached, LIMIT_MS);
    if (!is_reached(b)) {
        fail_msg("not reached: %zu events, %zu rejected, %s: %s", b->count, b->rejected,
                 b->up == HR_TRIGGER_UP ? "up" : "down", b->why);
    }
}

static bool never(mqtt_bench *b) {
    (void)b;
    return false;
}

void mqtt_bench_linger(mqtt_bench *b, int ms) {
    run_until(b, never, ms);
}

static bool has_count(mqtt_bench *b) {
    return b->count >= b->wanted;
}

void mqtt_bench_wait_count(mqtt_bench *b, size_t count) {
    b->wanted = count;
    mqtt_bench_wait(b, has_count);
}

static bool has_text(mqtt_bench *b) {
    return strstr(b->why, b->wanted_text) != NULL;
}

void mqtt_bench_wait_text(mqtt_bench *b, const char *text) {
    b->wanted_text = text;
    mqtt_bench_wait(b, has_text);
}

bool mqtt_bench_is_up(mqtt_bench *b) {
    return b->up == HR_TRIGGER_UP;
}

bool mqtt_bench_is_down(mqtt_bench *b) {
    return b->up == HR_TRIGGER_DOWN;
}

static bool has_stopped(mqtt_bench *b) {
    return b->has_stopped;
}

static hr_node *child(mqtt_bench *b, hr_node_kind kind, const char *key) {
    for (hr_node *node = b->config->child; node != NULL; node = node->next) {
        if (strcmp(node->key, key) == 0) {
            return node;
        }
    }
    return hr_node_add(b->config, kind, key);
}

void mqtt_bench_set(mqtt_bench *b, const char *map, const char *key, const char *text) {
    hr_node *to = map == NULL ? b->config : child(b, HR_NODE_MAP, map);
    (void)hr_node_add_text(to, key, text, strtoll(text, NULL, 10));
}

void mqtt_bench_url(mqtt_bench *b, const char *scheme_host, int port) {
    char *url = hr_format("%s:%d", scheme_host, port);
    (void)hr_node_add_text(child(b, HR_NODE_LIST, "url"), NULL, url, 0);
    hr_free(url);
}

void mqtt_bench_begin(mqtt_bench *b, const char *name, const char *topic, const char *version,
                      int to) {
    memset(b, 0, sizeof *b);
    b->loop = hr_loop_new();
    b->timer = hr_timer_new(b->loop, tick, b);
    b->config = hr_node_add(NULL, HR_NODE_MAP, NULL);
    if (to != 0) {
        mqtt_bench_url(b, "mqtt://127.0.0.1", to);
    }
    mqtt_bench_set(b, NULL, "topic", topic);
    mqtt_bench_set(b, NULL, "version", version);
    mqtt_bench_set(b, NULL, "client_id", name);
    b->trigger = hr_alloc(hr_mqtt_ops.object_size);
    b->trigger->ops = &hr_mqtt_ops;
    b->trigger->host = &host;
    b->trigger->loop = b->loop;
    b->trigger->name = name;
    b->trigger->config = b->trigger->kind_config = b->config;
    b->trigger->host_data = b;
    b->trigger->kept_us = INT64_MIN;
}

void mqtt_bench_start(mqtt_bench *b) {
    hr_error err = {0};
    assert_int_equal(hr_mqtt_ops.init(b->trigger, &err), HR_OK);
    assert_int_equal(hr_mqtt_ops.start(b->trigger, &err), HR_OK);
}

void mqtt_bench_wait_stopped(mqtt_bench *b) {
    mqtt_bench_wait(b, has_stopped);
}

void mqtt_bench_stop(mqtt_bench *b) {
    hr_mqtt_ops.stop(b->trigger);
    mqtt_bench_wait_stopped(b);
}

void mqtt_bench_finish(mqtt_bench *b) {
    if (!b->has_stopped) {
        mqtt_bench_stop(b);
    }
    hr_mqtt_ops.fini(b->trigger);
    hr_free(b->trigger);
    for (size_t i = 0; i < b->batch_count; i++) {
        hr_batch_unref(b->batch[i]);
    }
    hr_buffer_fini(&b->reject_raw);
    hr_timer_free(b->timer);
    hr_loop_free(b->loop);
    hr_node_free(b->config);
}

const hr_batch *mqtt_bench_event(const mqtt_bench *b, size_t index, uint32_t *out_place) {
    for (size_t i = 0; i < b->batch_count; i++) {
        if (index < b->batch[i]->count) {
            *out_place = (uint32_t)index;
            return b->batch[i];
        }
        index -= b->batch[i]->count;
    }
    fail_msg("there is no event %zu", index);
    return NULL;
}

size_t mqtt_bench_distinct(const mqtt_bench *b, size_t last) {
    uint8_t *seen = hr_alloc(last + 1);
    size_t count = 0;
    for (size_t i = 0; i < b->batch_count; i++) {
        for (uint32_t k = 0; k < b->batch[i]->count; k++) {
            hr_slice data = hr_batch_data(b->batch[i], k);
            char text[32];
            (void)snprintf(text, sizeof text, "%.*s", (int)data.size, (const char *)data.bytes);
            unsigned long n = strncmp(text, "{\"n\":", 5) == 0 ? strtoul(text + 5, NULL, 10) : 0;
            if (n >= 1 && n <= last && seen[n] == 0) {
                seen[n] = 1;
                count++;
            }
        }
    }
    hr_free(seen);
    return count;
}

void mqtt_run(const char *format, ...) {
    char command[2048];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    if (system(command) != 0) {
        fail_msg("failed: %s", command);
    }
}

void mqtt_publish(const char *topic, int first, int last) {
    mqtt_run("seq %d %d | sed 's/.*/{\"n\":&}/' | mosquitto_pub -h 127.0.0.1 -p %d -q 1 -t %s -l",
             first, last, mqtt_port, topic);
}

void mqtt_broker(const char *verb) {
    mqtt_run("%s %s %s %d", MOSQUITTO, verb, mqtt_folder, mqtt_port);
}

int mqtt_bench_group_begin(void **state) {
    (void)state;
    mqtt_port = free_ports(20000, 32000, PORTS);
    assert_non_null(mkdtemp(mqtt_folder));
    mqtt_broker("start");
    return 0;
}

int mqtt_bench_group_end(void **state) {
    (void)state;
    mqtt_broker("stop");
    mqtt_run("rm -r %s", mqtt_folder);
    return 0;
}
