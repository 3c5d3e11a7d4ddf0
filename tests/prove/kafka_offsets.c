/* SPDX-License-Identifier: Apache-2.0 */
/* What a Kafka group has committed: for each line of stdin one of stdout, for each partition its
 * committed offset (-1: none) and its end, "12/40 7/7 ...".
 *
 *   kafka_offsets BROKERS GROUP TOPIC PARTITIONS      does not join the group */
#include <librdkafka/rdkafka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LIMIT_MS = 30000, PAUSE_MS = 200 };

static void die(const char *what, const char *why) {
    fprintf(stderr, "kafka_offsets: %s: %s\n", what, why);
    exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[400];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) {
        die(name, why);
    }
}

/* A group that is new has no coordinator yet, or one that still reads its log. */
static bool is_early(rd_kafka_resp_err_t code) {
    return code == RD_KAFKA_RESP_ERR_NOT_COORDINATOR ||
           code == RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE ||
           code == RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS ||
           code == RD_KAFKA_RESP_ERR__WAIT_COORD;
}

static void tell(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *places) {
    rd_kafka_resp_err_t code = rd_kafka_committed(rk, places, LIMIT_MS);
    for (int waited_ms = 0; is_early(code) && waited_ms < LIMIT_MS; waited_ms += PAUSE_MS) {
        usleep(PAUSE_MS * 1000);
        code = rd_kafka_committed(rk, places, LIMIT_MS);
    }
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        die("the committed offsets", rd_kafka_err2str(code));
    }
    for (int i = 0; i < places->cnt; i++) {
        const rd_kafka_topic_partition_t *at = &places->elems[i];
        int64_t oldest = 0, end = 0;
        code =
            rd_kafka_query_watermark_offsets(rk, at->topic, at->partition, &oldest, &end, LIMIT_MS);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR || at->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            die("the end", rd_kafka_err2str(code == RD_KAFKA_RESP_ERR_NO_ERROR ? at->err : code));
        }
        printf("%s%lld/%lld", i == 0 ? "" : " ", at->offset < 0 ? -1LL : (long long)at->offset,
               (long long)end);
    }
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: kafka_offsets BROKERS GROUP TOPIC PARTITIONS\n");
        return 2;
    }
    char why[400];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", argv[1]);
    set(conf, "group.id", argv[2]);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (rk == NULL) {
        die("the client", why);
    }
    rd_kafka_topic_partition_list_t *places = rd_kafka_topic_partition_list_new(1);
    long count = strtol(argv[4], NULL, 10);
    for (int i = 0; i < count; i++) {
        rd_kafka_topic_partition_list_add(places, argv[3], i);
    }
    for (int c = 0; (c = getchar()) != EOF;) {
        if (c == '\n') {
            tell(rk, places);
        }
    }
    rd_kafka_topic_partition_list_destroy(places);
    rd_kafka_destroy(rk);
    return 0;
}
