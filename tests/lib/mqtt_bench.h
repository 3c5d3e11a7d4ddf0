/* SPDX-License-Identifier: Apache-2.0 */
/* The mqtt trigger on a loop, a host that writes down what it is told, and a real mosquitto. */
#ifndef HR_TESTS_MQTT_BENCH_H
#define HR_TESTS_MQTT_BENCH_H

#include "broker/trigger.h"
#include "tests/lib/mqtt_tap.h"

enum { MQTT_BENCH_BATCHES = 8192 };

typedef struct mqtt_bench {
    hr_loop *loop;
    hr_timer *timer;
    hr_node *config;
    hr_trigger *trigger;
    hr_batch *batch[MQTT_BENCH_BATCHES];
    uint64_t messages[MQTT_BENCH_BATCHES]; /* of all tickets up to this one */
    size_t batch_count, count, rejected;
    uint64_t last_ticket, durable_ticket;
    char reject_why[400];
    hr_buffer reject_raw; /* of the last one */
    hr_trigger_up up;
    char why[400];
    int64_t sessions_lost, dropped; /* as the trigger counts */
    int64_t kept_us;                /* what it let the store keep; 0: nothing */
    bool holds;                     /* nothing becomes durable by itself */
    bool has_stopped;
    mqtt_tap *tap; /* told what is durable; NULL: none */
    uint64_t end_ns;
    bool (*is_reached)(struct mqtt_bench *self);
    size_t wanted;
    const char *wanted_text;
} mqtt_bench;

extern char mqtt_folder[];
extern int mqtt_port; /* as tests/services/mosquitto.sh says */

/* Group setup and teardown: a mosquitto in a folder of its own. */
int mqtt_bench_group_begin(void **state);
int mqtt_bench_group_end(void **state);

/* A trigger of that name and client id, not started; to: the port at 127.0.0.1, 0: no url yet. */
void mqtt_bench_begin(mqtt_bench *b, const char *name, const char *topic, const char *version,
                      int to);

/* One more key, in that map unless it is NULL; what text is as a number counts as well. */
void mqtt_bench_set(mqtt_bench *b, const char *map, const char *key, const char *text);

/* One more url of a list, such as mqtt://localhost and a port. */
void mqtt_bench_url(mqtt_bench *b, const char *scheme_host, int port);

void mqtt_bench_start(mqtt_bench *b);
void mqtt_bench_stop(mqtt_bench *b);   /* and waits until it has stopped */
void mqtt_bench_finish(mqtt_bench *b); /* stops it if that was not done, frees all */

/* Says durable() for all up to this ticket. */
void mqtt_bench_durable(mqtt_bench *b, uint64_t up_to_ticket);

/* Runs the loop until then; fails after a limit. */
void mqtt_bench_wait(mqtt_bench *b, bool (*is_reached)(mqtt_bench *self));
void mqtt_bench_wait_count(mqtt_bench *b, size_t count);
void mqtt_bench_wait_stopped(mqtt_bench *b);
void mqtt_bench_wait_text(mqtt_bench *b, const char *text); /* in what state() said */
bool mqtt_bench_is_up(mqtt_bench *b);
bool mqtt_bench_is_down(mqtt_bench *b);

/* Runs the loop for a while: to see that something does not happen. */
void mqtt_bench_linger(mqtt_bench *b, int ms);

/* A shell command that must succeed. */
void mqtt_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* {"n":first} ... {"n":last}, at QoS 1. */
void mqtt_publish(const char *topic, int first, int last);

/* mosquitto.sh VERB FOLDER PORT */
void mqtt_broker(const char *verb);

/* The event number index over all batches; its place there. */
const hr_batch *mqtt_bench_event(const mqtt_bench *b, size_t index, uint32_t *out_place);

/* How many different {"n":...} from 1 to last have come? */
size_t mqtt_bench_distinct(const mqtt_bench *b, size_t last);

#endif
