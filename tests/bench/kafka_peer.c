/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of `./dev bench kafka` that are not headrace: the producer and the baseline.
 *
 *   kafka_peer load BROKERS TOPIC PARTITIONS FIRST COUNT RATE   RATE 0: as fast as it goes
 *   kafka_peer drain BROKERS TOPIC PARTITIONS COUNT             bare rd_kafka_consume_batch_queue
 *
 * Record i is 200 bytes of JSON; `temp` is 40.5 in every second one of a
 * partition, else 10.5. drain prints
 * "COUNT SECONDS CPU_SECONDS" from the first record to the last. */
#include <librdkafka/rdkafka.h>

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { VALUE_BYTES = 200, BATCH = 1000, DEVICES = 1000 };

static void die(const char *what, const char *why) {
    fprintf(stderr, "kafka_peer: %s: %s\n", what, why);
    exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[400];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) {
        die(name, why);
    }
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu_s(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* ---- load ---- */

static int64_t delivered;

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk;
    (void)opaque;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        die("a record was not delivered", rd_kafka_err2str(message->err));
    }
    delivered++;
}

static size_t write_value(char *value, int64_t i, int32_t partitions) {
    int size =
        snprintf(value, VALUE_BYTES + 1,
                 "{\"device\":\"d-%04" PRId64 "\",\"seq\":%" PRId64 ",\"temp\":%s,\"pad\":\"",
                 i % DEVICES, i, i / partitions % 2 == 0 ? "40.5" : "10.5");
    memset(value + size, 'x', (size_t)(VALUE_BYTES - 2 - size));
    memcpy(value + VALUE_BYTES - 2, "\"}", 2);
    return VALUE_BYTES;
}

static int load(char **args) {
    int32_t partitions = (int32_t)strtol(args[2], NULL, 10);
    int64_t first = strtoll(args[3], NULL, 10), count = strtoll(args[4], NULL, 10);
    double rate = strtod(args[5], NULL), begin = now_s();
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[400];
    set(conf, "bootstrap.servers", args[0]);
    set(conf, "enable.idempotence", "true");
    set(conf, "queue.buffering.max.messages", "500000");
    set(conf, "batch.num.messages", "10000");
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (rk == NULL) {
        die("the producer", why);
    }
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, args[1], NULL);
    for (int64_t i = first; i < first + count;) {
        char value[VALUE_BYTES + 1], key[16];
        size_t size = write_value(value, i, partitions);
        int key_size = snprintf(key, sizeof key, "d-%04d", (int)(i % DEVICES));
        if (rd_kafka_produce(topic, (int32_t)(i % partitions), RD_KAFKA_MSG_F_COPY, value, size,
                             key, (size_t)key_size, NULL) == 0) {
            i++;
            if (rate > 0 && i % 256 == 0) {
                double ahead = (double)(i - first) / rate - (now_s() - begin);
                rd_kafka_poll(rk, ahead > 0 ? (int)(ahead * 1000) : 0);
            }
        } else if (rd_kafka_last_error() == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            rd_kafka_poll(rk, 10);
        } else {
            die("produce", rd_kafka_err2str(rd_kafka_last_error()));
        }
        if (i % 1024 == 0) {
            rd_kafka_poll(rk, 0);
        }
    }
    if (rd_kafka_flush(rk, 60000) != RD_KAFKA_RESP_ERR_NO_ERROR || delivered != count) {
        die("flush", "not all records were delivered within 60 s");
    }
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    return 0;
}

/* ---- drain: the fetch settings are those of the trigger ---- */

static int drain(char **args) {
    int32_t partitions = (int32_t)strtol(args[2], NULL, 10);
    int64_t count = strtoll(args[3], NULL, 10), got = 0;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[400];
    set(conf, "bootstrap.servers", args[0]);
    set(conf, "group.id", "bench.bare");
    set(conf, "enable.auto.commit", "false");
    set(conf, "enable.auto.offset.store", "false");
    set(conf, "queued.min.messages", "1000000");
    set(conf, "queued.max.messages.kbytes", "262144");
    set(conf, "fetch.wait.max.ms", "100");
    set(conf, "fetch.message.max.bytes", "8388608");
    set(conf, "check.crcs", "true");
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (rk == NULL) {
        die("the consumer", why);
    }
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int32_t i = 0; i < partitions; i++) {
        rd_kafka_topic_partition_list_add(list, args[1], i)->offset = 0;
    }
    rd_kafka_assign(rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    int wake = eventfd(0, EFD_NONBLOCK);
    const uint64_t one = 1;
    rd_kafka_queue_io_event_enable(queue, wake, &one, sizeof one);
    double begin = 0, cpu = 0;
    while (got < count) {
        rd_kafka_message_t *messages[BATCH];
        ssize_t some = rd_kafka_consume_batch_queue(queue, 0, messages, BATCH);
        if (some > 0 && begin == 0) {
            begin = now_s();
            cpu = cpu_s();
        }
        for (ssize_t i = 0; i < some; i++) {
            got += messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR ? 1 : 0;
            rd_kafka_message_destroy(messages[i]);
        }
        if (some <= 0) {
            struct pollfd fd = {.fd = wake, .events = POLLIN};
            poll(&fd, 1, 1000);
            uint64_t number;
            ssize_t read_bytes = read(wake, &number, sizeof number);
            (void)read_bytes;
        }
    }
    printf("%" PRId64 " %.3f %.3f\n", got, now_s() - begin, cpu_s() - cpu);
    fflush(stdout);
    _exit(0); /* closing takes seconds and measures nothing */
}

int main(int argc, char **argv) {
    if (argc == 8 && strcmp(argv[1], "load") == 0) {
        return load(argv + 2);
    }
    if (argc == 6 && strcmp(argv[1], "drain") == 0) {
        return drain(argv + 2);
    }
    fprintf(stderr, "usage: kafka_peer load|drain ... (see the source)\n");
    return 2;
}
