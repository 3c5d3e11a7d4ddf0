/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of `./dev bench kafka` that are not headrace: the producer and the baselines.
 *
 *   kafka_peer load BROKERS TOPIC PARTITIONS FIRST COUNT RATE [EVERY]   RATE 0: no limit
 *   kafka_peer drain BROKERS TOPIC PARTITIONS COUNT [LATENCY]   bare rd_kafka_consume_batch_queue
 *   kafka_peer pipe BROKERS TOPIC PARTITIONS COUNT OUT          the same, and `temp > 30` to OUT
 *   kafka_peer look BROKERS TOPIC PARTITIONS COUNT              what pipe or headrace wrote
 *
 * Record i is 200 bytes of JSON; `temp` is 40.5 in every EVERYth one of a partition (2), else 10.5.
 * With a RATE it also says when it was due. drain prints "COUNT SECONDS CPU_SECONDS" from the first
 * record to the last and keeps in the file LATENCY how late they were (tests/lib/latency.h); pipe
 * prints "SENT CPU_SECONDS", look "RECORDS DIFFERENT WRONG SECONDS" of records of a topic with
 * LogAppendTime. */
#include "tests/lib/latency.h"

#include <librdkafka/rdkafka.h>

#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
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

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- a producer: idempotent, so acks=all ---- */

static int64_t delivered;

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk;
    (void)opaque;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        die("a record was not delivered", rd_kafka_err2str(message->err));
    }
    delivered++;
}

static rd_kafka_t *open_producer(const char *brokers, const char *codec) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[400];
    set(conf, "bootstrap.servers", brokers);
    set(conf, "enable.idempotence", "true");
    set(conf, "queue.buffering.max.messages", "500000");
    set(conf, "batch.num.messages", "10000");
    set(conf, "compression.codec", codec);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (rk == NULL) {
        die("the producer", why);
    }
    return rk;
}

/* Copies and queues one; waits for room. */
static void send_one(rd_kafka_t *rk, rd_kafka_topic_t *topic, int32_t partition, void *value,
                     size_t size, const void *key, size_t key_size) {
    while (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, value, size, key, key_size,
                            NULL) != 0) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            die("produce", rd_kafka_err2str(rd_kafka_last_error()));
        }
        rd_kafka_poll(rk, 10);
    }
}

static void flush_all(rd_kafka_t *rk, int64_t count) {
    if (rd_kafka_flush(rk, 60000) != RD_KAFKA_RESP_ERR_NO_ERROR || delivered != count) {
        die("flush", "not all records were delivered within 60 s");
    }
}

/* ---- load ---- */

static size_t write_value(char *value, int64_t i, bool is_hot, uint64_t at_ns) {
    int size = snprintf(value, VALUE_BYTES + 1,
                        "{\"device\":\"d-%04" PRId64 "\",\"seq\":%" PRId64 ",\"temp\":%s,",
                        i % DEVICES, i, is_hot ? "40.5" : "10.5");
    if (at_ns > 0) {
        size += snprintf(value + size, (size_t)(VALUE_BYTES + 1 - size),
                         LATENCY_FIELD "%019" PRIu64 "\",", at_ns);
    }
    size += snprintf(value + size, (size_t)(VALUE_BYTES + 1 - size), "\"pad\":\"");
    memset(value + size, 'x', (size_t)(VALUE_BYTES - 2 - size));
    memcpy(value + VALUE_BYTES - 2, "\"}", 2);
    return VALUE_BYTES;
}

/* Waits until record number is due, a few at a time so that a high rate needs no wait each. A
 * record that goes a little early was due when it went. */
static uint64_t wait_due(rd_kafka_t *rk, int64_t number, double rate, uint64_t begin_ns) {
    uint64_t due = begin_ns + (uint64_t)((double)number * 1e9 / rate), now = now_ns();
    int64_t some = rate < 2000 ? 1 : rate > 500000 ? 256 : (int64_t)(rate / 2000);
    while (number % some == 0 && now < due) {
        rd_kafka_poll(rk, 0);
        struct timespec pause = {.tv_nsec = (long)(due - now > 1000000 ? 1000000 : due - now)};
        nanosleep(&pause, NULL);
        now = now_ns();
    }
    return due < now ? due : now;
}

static int load(char **args, int64_t every) {
    int32_t partitions = (int32_t)strtol(args[2], NULL, 10);
    int64_t first = strtoll(args[3], NULL, 10), count = strtoll(args[4], NULL, 10);
    double rate = strtod(args[5], NULL);
    rd_kafka_t *rk = open_producer(args[0], "none");
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, args[1], NULL);
    uint64_t begin = now_ns();
    for (int64_t i = first; i < first + count; i++) {
        char value[VALUE_BYTES + 1], key[16];
        uint64_t at = rate > 0 ? wait_due(rk, i - first, rate, begin) : 0;
        size_t size = write_value(value, i, i / partitions % every == 0, at);
        int key_size = snprintf(key, sizeof key, "d-%04d", (int)(i % DEVICES));
        send_one(rk, topic, (int32_t)(i % partitions), value, size, key, (size_t)key_size);
        if (i % 1024 == 0) {
            rd_kafka_poll(rk, 0);
        }
    }
    flush_all(rk, count);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    return 0;
}

/* ---- a consumer of all partitions from their beginning; the fetch settings are the trigger's ----
 */

typedef struct source {
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    int wake;
    ssize_t count;
    rd_kafka_message_t *messages[BATCH];
} source;

static void open_source(source *s, char **args) {
    int32_t partitions = (int32_t)strtol(args[2], NULL, 10);
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
    s->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (s->rk == NULL) {
        die("the consumer", why);
    }
    rd_kafka_poll_set_consumer(s->rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int32_t i = 0; i < partitions; i++) {
        rd_kafka_topic_partition_list_add(list, args[1], i)->offset = 0;
    }
    rd_kafka_assign(s->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    s->queue = rd_kafka_queue_get_consumer(s->rk);
    s->wake = eventfd(0, EFD_NONBLOCK);
    const uint64_t one = 1;
    rd_kafka_queue_io_event_enable(s->queue, s->wake, &one, sizeof one);
}

/* The next messages; waits when there are none. */
static void next_batch(source *s) {
    while ((s->count = rd_kafka_consume_batch_queue(s->queue, 0, s->messages, BATCH)) <= 0) {
        struct pollfd fd = {.fd = s->wake, .events = POLLIN};
        poll(&fd, 1, 1000);
        uint64_t number;
        ssize_t read_bytes = read(s->wake, &number, sizeof number);
        (void)read_bytes;
    }
}

static void finish(void) {
    fflush(stdout);
    _exit(0); /* closing takes seconds and measures nothing */
}

static int drain(int argc, char **args) {
    int64_t count = strtoll(args[3], NULL, 10), got = 0;
    int64_t *late = argc > 4 ? latency_open(args[4]) : NULL;
    double begin = 0, cpu = 0;
    static source s;
    open_source(&s, args);
    while (got < count) {
        next_batch(&s);
        if (begin == 0) {
            begin = now_s();
            cpu = cpu_s();
        }
        uint64_t now = late == NULL ? 0 : now_ns();
        for (ssize_t i = 0; i < s.count; i++) {
            rd_kafka_message_t *message = s.messages[i];
            got += message->err == RD_KAFKA_RESP_ERR_NO_ERROR ? 1 : 0;
            if (late != NULL && message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                latency_note(late, message->payload, message->len, now);
            }
            rd_kafka_message_destroy(message);
        }
    }
    printf("%" PRId64 " %.3f %.3f\n", got, now_s() - begin, cpu_s() - cpu);
    finish();
    return 0;
}

/* ---- pipe, look ---- */

/* The number behind a name of a record's JSON; it ends there by a comma. below: there is none. */
static double number_of(const rd_kafka_message_t *message, const char *name, double below) {
    const char *at = memmem(message->payload, message->len, name, strlen(name));
    return at == NULL ? below : strtod(at + strlen(name), NULL);
}

static int run_pipe(char **args) {
    int64_t count = strtoll(args[3], NULL, 10), got = 0, sent = 0;
    static source s;
    rd_kafka_t *rk = open_producer(args[0], "lz4"); /* as the function kafka has it */
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, args[4], NULL);
    rd_kafka_poll(rk, 1000); /* it gets its id and the topic's leaders, as a daemon has them */
    double cpu = cpu_s();
    open_source(&s, args);
    while (got < count) {
        next_batch(&s);
        for (ssize_t i = 0; i < s.count; i++) {
            rd_kafka_message_t *message = s.messages[i];
            got += message->err == RD_KAFKA_RESP_ERR_NO_ERROR ? 1 : 0;
            if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR &&
                number_of(message, "\"temp\":", 0) > 30) {
                send_one(rk, topic, RD_KAFKA_PARTITION_UA, message->payload, message->len,
                         message->key, message->key_len);
                sent++;
            }
            rd_kafka_message_destroy(message);
        }
        rd_kafka_poll(rk, 0);
    }
    flush_all(rk, sent);
    printf("%" PRId64 " %.3f\n", sent, cpu_s() - cpu);
    finish();
    return 0;
}

/* How many records the topic has now. */
static int64_t records_of(source *s, char **args) {
    int64_t records = 0;
    for (int32_t i = 0; i < strtol(args[2], NULL, 10); i++) {
        int64_t low = 0, high = 0;
        rd_kafka_resp_err_t err =
            rd_kafka_query_watermark_offsets(s->rk, args[1], i, &low, &high, 30000);
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            die("the ends of the topic", rd_kafka_err2str(err));
        }
        records += high - low;
    }
    return records;
}

static int look(char **args) {
    int64_t count = strtoll(args[3], NULL, 10), got = 0, different = 0, wrong = 0;
    int64_t first = INT64_MAX, last = 0;
    static source s;
    char *seen = calloc((size_t)count + 1, 1);
    open_source(&s, args);
    int64_t records = records_of(&s, args);
    while (got < records && seen != NULL) {
        next_batch(&s);
        for (ssize_t i = 0; i < s.count; i++) {
            rd_kafka_message_t *message = s.messages[i];
            if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                int64_t number = (int64_t)number_of(message, "\"seq\":", -1);
                int64_t at = rd_kafka_message_timestamp(message, NULL);
                bool is_wrong =
                    number < 0 || number >= count || number_of(message, "\"temp\":", 0) < 30;
                got++;
                wrong += is_wrong ? 1 : 0;
                different += !is_wrong && seen[number] == 0 ? 1 : 0;
                seen[is_wrong ? count : number] = 1;
                first = at < first ? at : first;
                last = at > last ? at : last;
            }
            rd_kafka_message_destroy(message);
        }
    }
    printf("%" PRId64 " %" PRId64 " %" PRId64 " %.3f\n", records, different, wrong,
           got == 0 ? 0 : (double)(last - first) / 1000);
    finish();
    return 0;
}

int main(int argc, char **argv) {
    if ((argc == 8 || argc == 9) && strcmp(argv[1], "load") == 0) {
        return load(argv + 2, argc == 9 ? strtoll(argv[8], NULL, 10) : 2);
    }
    if ((argc == 6 || argc == 7) && strcmp(argv[1], "drain") == 0) {
        return drain(argc - 2, argv + 2);
    }
    if (argc == 7 && strcmp(argv[1], "pipe") == 0) {
        return run_pipe(argv + 2);
    }
    if (argc == 6 && strcmp(argv[1], "look") == 0) {
        return look(argv + 2);
    }
    fprintf(stderr, "usage: kafka_peer load|drain|pipe|look ... (see the source)\n");
    return 2;
}
