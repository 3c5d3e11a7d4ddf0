/* SPDX-License-Identifier: Apache-2.0 */
/* The producer of tests/prove/kill for Kafka: each line of stdin (ID TAB KEY TAB VALUE) becomes a
 * record of the topic; the ID is printed when all replicas have it.
 *
 *   kafka_feed BROKERS TOPIC      ends at the end of stdin, when all is reported */
#include <librdkafka/rdkafka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what, const char *why) {
    fprintf(stderr, "kafka_feed: %s: %s\n", what, why);
    exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[400];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) {
        die(name, why);
    }
}

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk;
    (void)opaque;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        die("a record was not delivered", rd_kafka_err2str(message->err));
    }
    printf("%s\n", (char *)message->_private);
    free(message->_private);
}

static atomic_bool is_over;

/* Reports come while the main thread waits for a line. */
static void *report(void *data) {
    while (!atomic_load(&is_over)) {
        rd_kafka_poll(data, 50);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: kafka_feed BROKERS TOPIC\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    char why[400];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", argv[1]);
    set(conf, "enable.idempotence", "true");
    set(conf, "linger.ms", "1");
    set(conf, "partitioner", "murmur2_random"); /* a key keeps its partition, and so its order */
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (rk == NULL) {
        die("the producer", why);
    }
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[2], NULL);
    pthread_t reporter;
    if (pthread_create(&reporter, NULL, report, rk) != 0) {
        die("a thread", "cannot be started");
    }
    char *line = NULL;
    size_t room = 0;
    for (ssize_t size = 0; (size = getline(&line, &room, stdin)) > 0;) {
        line[size - 1] = '\0';
        char *key = strchr(line, '\t'), *value = key == NULL ? NULL : strchr(key + 1, '\t');
        if (value == NULL) {
            die("not ID TAB KEY TAB VALUE", line);
        }
        *key++ = *value++ = '\0';
        while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value,
                                strlen(value), key, strlen(key), strdup(line)) != 0) {
            if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
                die("produce", rd_kafka_err2str(rd_kafka_last_error()));
            }
            rd_kafka_poll(rk, 10); /* the queue is full */
        }
    }
    if (rd_kafka_flush(rk, 60000) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        die("flush", "not all records were reported within 60 s");
    }
    atomic_store(&is_over, true);
    pthread_join(reporter, NULL);
    free(line);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    return 0;
}
