/* SPDX-License-Identifier: Apache-2.0 */
/* What `./dev bench peers` sees at the broker.
 *
 *   kafka_watch written BROKERS TOPIC PARTITIONS COUNT           until so many records are there
 *   kafka_watch committed BROKERS TOPIC PARTITIONS COUNT GROUP   until the group has got so far
 *
 * Prints "COUNT FIRST_NS LAST_NS" (CLOCK_MONOTONIC): when there was one, when there were all. */
#include <librdkafka/rdkafka.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_US = 20000, LOOK_MS_MAX = 10000, WAIT_S = 900 };

static void die(const char *what, const char *why) {
    fprintf(stderr, "kafka_watch: %s: %s\n", what, why);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static rd_kafka_t *open_consumer(const char *brokers, const char *group) {
    char why[400];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why) !=
            RD_KAFKA_CONF_OK ||
        rd_kafka_conf_set(conf, "group.id", group, why, sizeof why) != RD_KAFKA_CONF_OK) {
        die("a setting", why);
    }
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (rk == NULL) {
        die("the consumer", why);
    }
    return rk;
}

/* The ends of the topic, or what the group has committed: the sum over the partitions. */
static int64_t look(rd_kafka_t *rk, const char *topic, int32_t partitions, bool is_group) {
    int64_t sum = 0;
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (is_group) {
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
        for (int32_t i = 0; i < partitions; i++) {
            rd_kafka_topic_partition_list_add(list, topic, i);
        }
        err = rd_kafka_committed(rk, list, LOOK_MS_MAX);
        for (int i = 0; i < list->cnt; i++) {
            sum += list->elems[i].offset > 0 ? list->elems[i].offset : 0;
        }
        rd_kafka_topic_partition_list_destroy(list);
    }
    for (int32_t i = 0; i < partitions && !is_group; i++) {
        int64_t low = 0, high = 0;
        rd_kafka_resp_err_t one =
            rd_kafka_query_watermark_offsets(rk, topic, i, &low, &high, LOOK_MS_MAX);
        err = one != RD_KAFKA_RESP_ERR_NO_ERROR ? one : err;
        sum += high;
    }
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        die("the offsets", rd_kafka_err2str(err));
    }
    return sum;
}

static int wait_for(char **args, const char *group) {
    int32_t partitions = (int32_t)strtol(args[2], NULL, 10);
    int64_t count = strtoll(args[3], NULL, 10), first_ns = 0, there = 0;
    int64_t end_ns = now_ns() + (int64_t)WAIT_S * 1000000000;
    rd_kafka_t *rk = open_consumer(args[0], group == NULL ? "bench.watch" : group);
    while ((there = look(rk, args[1], partitions, group != NULL)) < count) {
        first_ns = first_ns == 0 && there > 0 ? now_ns() : first_ns;
        if (now_ns() > end_ns) {
            fprintf(stderr, "kafka_watch: %" PRId64 " of %" PRId64 "\n", there, count);
            return 1;
        }
        usleep(LOOK_US);
    }
    int64_t last_ns = now_ns();
    printf("%" PRId64 " %" PRId64 " %" PRId64 "\n", there, first_ns == 0 ? last_ns : first_ns,
           last_ns);
    fflush(stdout);
    _exit(0); /* closing takes seconds */
}

int main(int argc, char **argv) {
    if (argc == 6 && strcmp(argv[1], "written") == 0) {
        return wait_for(argv + 2, NULL);
    }
    if (argc == 7 && strcmp(argv[1], "committed") == 0) {
        return wait_for(argv + 2, argv[6]);
    }
    fprintf(stderr, "usage: kafka_watch written|committed ... (see the source)\n");
    return 2;
}
