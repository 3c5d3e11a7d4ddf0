/* SPDX-License-Identifier: Apache-2.0 */
/* The trigger "kafka" against a real broker: nothing is lost, and it goes on where it stood. */
#include "broker/trigger.h"
#include "core/memory.h"
#include "net/kafka_client.h"
#include "net/kafka_client_library.h"
#include "tests/lib/free_ports.h"

#include <librdkafka/rdkafka.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { PARTITIONS = 4, FEEDS = 16, LIMIT_MS = 60000, CREDIT = 32768 };

static const char *script;
static char dir[] = "/tmp/headrace-kafka-XXXXXX";
static int port;
static char brokers[64];

/* ---- the broker ---- */

static int service(const char *what, const char *rest) {
    char *command = hr_format("'%s' %s %s >>'%s/service.log' 2>&1", script, what, rest, dir);
    int code = system(command); // NOLINT(cert-env33-c): a test's own script
    hr_free(command);
    return code;
}

static int broker_start(void) {
    char *rest = hr_format("'%s/broker' %d", dir, port);
    int code = service("start", rest);
    hr_free(rest);
    return code;
}

static int broker_end(const char *how) {
    char *rest = hr_format("'%s/broker'", dir);
    int code = service(how, rest);
    hr_free(rest);
    return code;
}

static void make_topic(const char *name) {
    char *rest = hr_format("%d %s %d", port, name, PARTITIONS);
    assert_int_equal(service("topic", rest), 0);
    hr_free(rest);
}

static void topic_tool(const char *words) {
    char *rest =
        hr_format("org.apache.kafka.tools.TopicCommand --bootstrap-server %s %s", brokers, words);
    assert_int_equal(service("tool", rest), 0);
    hr_free(rest);
}

/* count records of size bytes, keyed, numbered from first, all confirmed by the broker. */
static void produce(const char *topic, int first, int count, size_t size) {
    char why[200], value[1024], key[32];
    assert_true(size < sizeof value);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why);
    rd_kafka_conf_set(conf, "queue.buffering.max.messages", "2000000", why, sizeof why);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    assert_non_null(rk);
    for (int i = first; i < first + count; i++) {
        int used = snprintf(value, sizeof value, "{\"n\":%d,\"pad\":\"", i);
        memset(value + used, 'x', size);
        size_t end = (size_t)used + 2 > size ? (size_t)used : size - 2;
        memcpy(value + end, "\"}", 2);
        int key_size = snprintf(key, sizeof key, "key-%d", i % 500);
        assert_int_equal(
            rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_KEY(key, (size_t)key_size),
                              RD_KAFKA_V_VALUE(value, end + 2),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END),
            RD_KAFKA_RESP_ERR_NO_ERROR);
        if (i % 1000 == 0) {
            rd_kafka_poll(rk, 0);
        }
    }
    assert_int_equal(rd_kafka_flush(rk, LIMIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_int_equal(rd_kafka_outq_len(rk), 0);
    rd_kafka_destroy(rk);
}

/* One transaction of count records, numbered from first. */
static void produce_in_transaction(rd_kafka_t *rk, const char *topic, int first, int count,
                                   bool commits) {
    assert_null(rd_kafka_begin_transaction(rk));
    for (int i = first; i < first + count; i++) {
        char value[32];
        int size = snprintf(value, sizeof value, "{\"n\":%d}", i);
        assert_int_equal(
            rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(i % PARTITIONS),
                              RD_KAFKA_V_VALUE(value, (size_t)size),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END),
            RD_KAFKA_RESP_ERR_NO_ERROR);
    }
    assert_int_equal(rd_kafka_flush(rk, LIMIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_null(commits ? rd_kafka_commit_transaction(rk, LIMIT_MS)
                        : rd_kafka_abort_transaction(rk, LIMIT_MS));
}

/* ---- a host that writes down what it is told and settles at once ---- */

typedef struct recorded_feed {
    char identity[200];
    uint64_t low;   /* what a store would know: survives the trigger */
    uint64_t begun; /* 0: not */
    bool is_assigned;
    uint32_t credit;
} recorded_feed;

static hr_loop *loop;
static hr_trigger *trigger;
static hr_node *config;
static recorded_feed feeds[FEEDS];
static size_t feed_count;
static uint64_t events, rejects, begins, bytes;
static uint8_t *seen; /* by the number in the record */
static size_t seen_size;
static hr_trigger_up up;
static char reason[900];
static bool is_stopped, is_holding, is_forgetful;
static int64_t lag;
static bool (*is_reached)(void);
static uint64_t goal;

static void check(void) {
    if (is_reached != NULL && is_reached()) {
        hr_loop_stop(loop);
    }
}

static uint32_t host_assign(hr_trigger *self, const char *identity, uint64_t *out_low) {
    (void)self;
    size_t i = 0;
    while (i < feed_count && strcmp(feeds[i].identity, identity) != 0) {
        i++;
    }
    assert_true(i < FEEDS);
    if (i == feed_count) {
        feed_count++;
        snprintf(feeds[i].identity, sizeof feeds[i].identity, "%s", identity);
        feeds[i].low = UINT64_MAX;
    }
    assert_false(feeds[i].is_assigned);
    feeds[i].is_assigned = true;
    feeds[i].begun = 0;
    feeds[i].credit = 0;
    *out_low = is_forgetful ? UINT64_MAX : feeds[i].low;
    return (uint32_t)i + 1;
}

static void give_credit(uint32_t feed) {
    feeds[feed - 1].credit += CREDIT;
    trigger->ops->want(trigger, feed, CREDIT);
}

static void host_begin(hr_trigger *self, uint32_t feed, uint64_t position) {
    (void)self;
    assert_true(position >= 1 && feeds[feed - 1].is_assigned);
    feeds[feed - 1].begun = feeds[feed - 1].low = position;
    begins++;
    if (!is_holding) {
        give_credit(feed);
    }
    check();
}

static void host_deliver(hr_trigger *self, hr_batch *take_batch) {
    (void)self;
    hr_batch *batch = take_batch;
    recorded_feed *f = &feeds[batch->feed - 1];
    assert_true(f->is_assigned && f->begun != 0);
    assert_true(batch->count <= f->credit);
    f->credit -= batch->count;
    for (uint32_t i = 0; i < batch->count; i++) {
        assert_true(batch->position[i] >= f->low); /* in order, nothing twice in one life */
        f->low = batch->position[i] + 1;
        hr_slice data = hr_batch_data(batch, i);
        bytes += data.size;
        if (seen != NULL && data.size > 5 && memcmp(data.bytes, "{\"n\":", 5) == 0) {
            size_t n = strtoul((const char *)data.bytes + 5, NULL, 10);
            assert_true(n < seen_size);
            seen[n]++;
        }
    }
    events += batch->count;
    uint32_t feed = batch->feed;
    hr_batch_unref(batch);
    trigger->ops->settled(trigger, feed, f->low);
    if (f->credit <= CREDIT / 2) {
        give_credit(feed);
    }
    check();
}

static void host_reject(hr_trigger *self, hr_slice raw, const char *why, uint64_t ticket) {
    (void)self;
    (void)raw;
    assert_non_null(strstr(why, "not JSON"));
    assert_int_equal(ticket, 0);
    rejects++;
    check();
}

static void host_revoke(hr_trigger *self, uint32_t feed, void (*done)(void *data), void *data) {
    (void)self;
    assert_true(feeds[feed - 1].is_assigned);
    feeds[feed - 1].is_assigned = false;
    done(data);
}

static void host_state(hr_trigger *self, hr_trigger_up now, const char *text) {
    (void)self;
    up = now;
    snprintf(reason, sizeof reason, "%s", text == NULL ? "" : text);
    check();
}

static void host_gauge(hr_trigger *self, const char *name, int64_t value) {
    (void)self;
    assert_string_equal(name, "lag");
    lag = value;
    check();
}

static void host_stopped(hr_trigger *self) {
    (void)self;
    is_stopped = true;
    check();
}

static const hr_trigger_host host = {.reject = host_reject,
                                     .assign = host_assign,
                                     .begin = host_begin,
                                     .deliver = host_deliver,
                                     .revoke = host_revoke,
                                     .state = host_state,
                                     .gauge = host_gauge,
                                     .stopped = host_stopped};

static void on_limit(void *data) {
    (void)data;
    hr_loop_stop(loop);
}

static void run_until(bool (*reached)(void)) {
    is_reached = reached;
    if (!reached()) {
        hr_timer *limit = hr_timer_new(loop, on_limit, NULL);
        hr_timer_start(limit, LIMIT_MS, 0);
        hr_loop_run(loop);
        hr_timer_free(limit);
    }
    is_reached = NULL;
    if (!reached()) {
        fail_msg("not reached: %llu events of %llu, %llu begins, %llu rejects, state %d '%s'",
                 (unsigned long long)events, (unsigned long long)goal, (unsigned long long)begins,
                 (unsigned long long)rejects, (int)up, reason);
    }
}

static bool has_events(void) {
    return events >= goal;
}
static bool has_rejects(void) {
    return rejects >= goal;
}
static bool has_begun(void) {
    return begins >= PARTITIONS;
}
static bool is_up(void) {
    return up == HR_TRIGGER_UP;
}
static bool is_down(void) {
    return up == HR_TRIGGER_DOWN;
}
static bool is_refused(void) {
    return is_down() && strstr(reason, "refused") != NULL;
}
static bool has_stopped(void) {
    return is_stopped;
}
static bool has_no_lag(void) {
    return lag == 0;
}
static bool has_lag(void) {
    return lag >= (int64_t)goal;
}

static uint64_t takers;

static void begin(const char *topic, int64_t start, const char *format) {
    loop = hr_loop_new();
    config = hr_node_add(NULL, HR_NODE_MAP, NULL);
    hr_node *kafka = hr_node_add(config, HR_NODE_MAP, "kafka");
    hr_node_add_text(kafka, "brokers", brokers, 0);
    hr_node_add_text(hr_node_add(kafka, HR_NODE_LIST, "topics"), NULL, topic, 0);
    hr_node_add_text(kafka, "start", "", start);
    hr_node_add_text(kafka, "format", format, 0);
    const hr_trigger_ops *ops = hr_trigger_kind("kafka");
    assert_non_null(ops);
    trigger = hr_alloc(ops->object_size);
    *trigger = (hr_trigger){.ops = ops,
                            .host = &host,
                            .loop = loop,
                            .name = topic, /* a group of its own */
                            .config = config,
                            .kind_config = kafka,
                            .state_dir = dir,
                            .store_id = "s1",
                            .takers = takers};
    events = rejects = begins = bytes = 0;
    up = HR_TRIGGER_STARTING;
    reason[0] = '\0';
    is_stopped = false;
    lag = -1;
    hr_error err = {0};
    assert_int_equal(ops->init(trigger, &err), HR_OK);
    assert_int_equal(ops->start(trigger, &err), HR_OK);
}

static void end(void) {
    trigger->ops->stop(trigger);
    run_until(has_stopped);
    for (size_t i = 0; i < feed_count; i++) {
        assert_false(feeds[i].is_assigned);
    }
    trigger->ops->fini(trigger);
    hr_free(trigger);
    hr_loop_free(loop);
    hr_node_free(config);
}

static void forget_all(size_t numbers) {
    feed_count = 0;
    memset(feeds, 0, sizeof feeds);
    is_holding = is_forgetful = false;
    hr_free(seen);
    seen = hr_alloc(numbers + 1);
    seen_size = numbers;
}

static void assert_seen_once(size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        if (seen[i] != 1) {
            fail_msg("record %zu was seen %d times", i, seen[i]);
        }
    }
}

static void assert_reason(const char *part) {
    if (strstr(reason, part) == NULL) {
        fail_msg("'%s' does not say '%s'", reason, part);
    }
}

/* ---- claims ---- */

static void every_record_comes_once_and_a_restart_goes_on(void **state) {
    (void)state;
    make_topic("all");
    produce("all", 0, 10000, 100);
    forget_all(20000);
    begin("all", -2, "auto");
    goal = 10000;
    run_until(has_events);
    run_until(has_no_lag);
    assert_int_equal(up, HR_TRIGGER_UP);
    assert_int_equal(events, 10000);
    end();
    assert_seen_once(0, 10000);
    produce("all", 10000, 5000, 100);
    begin("all", -2, "auto"); /* the store knows where */
    goal = 5000;
    run_until(has_events);
    end();
    assert_seen_once(0, 15000);
    is_forgetful = true; /* another daemon: only the group knows where */
    produce("all", 15000, 1000, 100);
    begin("all", -2, "auto");
    goal = 1000;
    run_until(has_events);
    end();
    assert_seen_once(0, 16000);
}

static void latest_starts_at_the_end_and_a_time_at_its_records(void **state) {
    (void)state;
    make_topic("late");
    produce("late", 0, 1000, 100);
    forget_all(3000);
    begin("late", -1, "auto");
    run_until(has_begun);
    run_until(is_up);
    produce("late", 1000, 1000, 100);
    goal = 1000;
    run_until(has_events);
    end();
    assert_seen_once(1000, 2000);
    assert_int_equal(seen[0], 0);
    make_topic("times");
    produce("times", 0, 1000, 100);
    int64_t now = hr_real_us() / 1000 + 1;
    while (hr_real_us() / 1000 <= now) {
    }
    produce("times", 1000, 1000, 100);
    forget_all(3000);
    begin("times", now, "auto");
    goal = 1000;
    run_until(has_events);
    end();
    assert_seen_once(1000, 2000);
    assert_int_equal(seen[0], 0);
}

static void without_credit_nothing_comes_and_the_lag_is_said(void **state) {
    (void)state;
    make_topic("held");
    produce("held", 0, 2000, 100);
    forget_all(3000);
    is_holding = true;
    begin("held", -2, "auto");
    goal = 2000;
    run_until(has_lag);
    assert_int_equal(events, 0);
    for (uint32_t feed = 1; feed <= feed_count; feed++) {
        give_credit(feed);
    }
    run_until(has_events);
    end();
    assert_seen_once(0, 2000);
}

static void malformed_records_are_rejected_and_passed(void **state) {
    (void)state;
    make_topic("mixed");
    char *command = hr_format("printf 'a\\nb\\nc\\n' | kcat -P -b %s -t mixed", brokers);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c)
    hr_free(command);
    produce("mixed", 0, 100, 100);
    forget_all(200);
    begin("mixed", -2, "json");
    goal = 3;
    run_until(has_rejects);
    goal = 100;
    run_until(has_events);
    end();
    assert_int_equal(rejects, 3);
    assert_seen_once(0, 100);
}

/* How often the broker was asked where a partition ends. */
static rd_kafka_resp_err_t (*query)(rd_kafka_t *, const char *, int32_t, int64_t *, int64_t *, int);
static atomic_uint queries;

static rd_kafka_resp_err_t count_query(rd_kafka_t *rk, const char *topic, int32_t partition,
                                       int64_t *low, int64_t *high, int timeout_ms) {
    atomic_fetch_add(&queries, 1);
    return query(rk, topic, partition, low, high, timeout_ms);
}

/* The marker of a transaction is an offset behind the last record for ever. */
static void the_marker_of_a_transaction_is_not_waited_for(void **state) {
    (void)state;
    make_topic("bought");
    char why[200];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why);
    rd_kafka_conf_set(conf, "transactional.id", "till", why, sizeof why);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    assert_non_null(rk);
    assert_null(rd_kafka_init_transactions(rk, LIMIT_MS));
    produce_in_transaction(rk, "bought", 0, 100, true);
    produce_in_transaction(rk, "bought", 100, 50, false);
    produce_in_transaction(rk, "bought", 150, 50, true);
    rd_kafka_destroy(rk);
    forget_all(200);
    hr_error err = {0};
    assert_int_equal(hr_kafka_load(&err), HR_OK);
    query = hr_rdkafka.rd_kafka_query_watermark_offsets;
    hr_rdkafka.rd_kafka_query_watermark_offsets = count_query;
    begin("bought", -2, "json");
    goal = 150;
    run_until(has_events);
    unsigned before = 0;
    int rests = 0;
    do { /* it asks for a second after the last record, no longer */
        before = atomic_load(&queries);
        hr_timer *rest = hr_timer_new(loop, on_limit, NULL);
        hr_timer_start(rest, 1500, 0);
        hr_loop_run(loop);
        hr_timer_free(rest);
    } while (atomic_load(&queries) != before && ++rests < 10);
    assert_int_equal(atomic_load(&queries), before);
    print_message("asked %u times\n", before);
    end();
    hr_rdkafka.rd_kafka_query_watermark_offsets = query;
    assert_seen_once(0, 100);
    assert_seen_once(150, 200);
    for (size_t i = 100; i < 150; i++) {
        assert_int_equal(seen[i], 0); /* never happened */
    }
}

static void a_broker_that_goes_and_comes_back_loses_nothing(void **state) {
    (void)state;
    make_topic("outage");
    produce("outage", 0, 1000, 100);
    forget_all(3000);
    begin("outage", -2, "auto");
    goal = 1000;
    run_until(has_events);
    assert_int_equal(broker_end("stop"), 0);
    run_until(is_down);
    assert_reason(brokers);
    assert_int_equal(broker_start(), 0);
    run_until(is_up);
    produce("outage", 1000, 1000, 100);
    goal = 2000;
    run_until(has_events);
    end();
    assert_seen_once(0, 2000);
}

static void a_broker_that_is_down_at_first_is_awaited(void **state) {
    (void)state;
    make_topic("early");
    produce("early", 0, 500, 100);
    assert_int_equal(broker_end("kill9"), 0);
    forget_all(1000);
    begin("early", -2, "auto");
    run_until(is_refused);
    assert_int_equal(broker_start(), 0);
    goal = 500;
    run_until(has_events);
    assert_int_equal(up, HR_TRIGGER_UP);
    end();
    assert_seen_once(0, 500);
}

static void a_topic_that_is_missing_is_said(void **state) {
    (void)state;
    forget_all(1);
    begin("nowhere", -2, "auto");
    run_until(is_down);
    assert_reason("nowhere");
    end();
}

/* What a second member of the group, or this one after a crash, would be told. */
static int64_t committed(const char *topic, int partition) {
    char why[200], *group = hr_format("headrace.%s", topic);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why);
    rd_kafka_conf_set(conf, "group.id", group, why, sizeof why);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    assert_non_null(rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition);
    assert_int_equal(rd_kafka_committed(rk, list, LIMIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    int64_t offset = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
    hr_free(group);
    return offset;
}

static int64_t committed_at_first;
static const char *watched;

static bool has_event_after_commit(void) {
    if (events > 0 && committed_at_first < 0) {
        committed_at_first = 0;
        for (int i = 0; i < PARTITIONS; i++) {
            int64_t offset = committed(watched, i);
            assert_true(offset >= 0); /* S17: of all, when the first record of any is dispatched */
            committed_at_first += offset;
        }
    }
    return has_events();
}

static void a_start_is_the_groups_before_the_first_dispatch(void **state) {
    (void)state;
    make_topic("starts");
    produce("starts", 0, 1000, 100);
    forget_all(2000);
    watched = "starts";
    committed_at_first = -1;
    begin("starts", -1, "auto");
    run_until(has_begun);
    run_until(is_up);
    produce("starts", 1000, 100, 100);
    goal = 100;
    run_until(has_event_after_commit);
    end();
    assert_true(committed_at_first >= 1000);
    assert_seen_once(1000, 1100);
    assert_int_equal(seen[0], 0);
}

static void a_partition_that_is_added_is_read_from_its_beginning(void **state) {
    (void)state;
    make_topic("grown");
    produce("grown", 0, 1000, 100);
    forget_all(3000);
    begin("grown", -1, "auto");
    run_until(has_begun);
    run_until(is_up);
    end();
    topic_tool("--alter --topic grown --partitions 8");
    produce("grown", 1000, 1000, 100); /* before anybody knows of the new partitions */
    is_forgetful = true;               /* another daemon: only the group knows the topic's past */
    begin("grown", -1, "auto");
    goal = 1000;
    run_until(has_events);
    end();
    assert_seen_once(1000, 2000);
    assert_int_equal(seen[0], 0);
}

static void remember_less(void) {
    for (size_t i = 0; i < feed_count; i++) {
        feeds[i].low = 1;
    }
}

/* S17: a group's offset means that all functions of some set are done below it. */
static void an_offset_of_another_set_of_functions_says_nothing_of_ours(void **state) {
    (void)state;
    make_topic("sets");
    produce("sets", 0, 1000, 100);
    forget_all(2000);
    begin("sets", -2, "auto");
    goal = 1000;
    run_until(has_events);
    end();
    remember_less();
    produce("sets", 1000, 10, 100);
    begin("sets", -2, "auto"); /* the same set: the group's offset is the larger one */
    goal = 10;
    run_until(has_events);
    end();
    assert_seen_once(0, 1010);
    remember_less();
    takers = 42;
    begin("sets", -2, "auto");
    goal = 1010;
    run_until(has_events);
    end();
    takers = 0;
    assert_int_equal(seen[0], 2);
    assert_int_equal(seen[1009], 2);
}

static void a_topic_that_was_made_anew_is_read_from_its_oldest_record(void **state) {
    (void)state;
    make_topic("anew");
    produce("anew", 0, 2000, 100);
    forget_all(4000);
    begin("anew", -1, "auto");
    run_until(has_begun);
    run_until(is_up);
    produce("anew", 2000, 1000, 100);
    goal = 1000;
    run_until(has_events);
    end();
    size_t former = feed_count;
    topic_tool("--delete --topic anew");
    make_topic("anew");
    produce("anew", 3000, 400, 100); /* fewer than the checkpoints stand at */
    begin("anew", -1, "auto");
    goal = 400;
    run_until(has_events);
    assert_int_equal(feed_count, former * 2); /* feeds of their own: old checkpoints hide nothing */
    end();
    produce("anew", 3400, 100, 100);
    begin("anew", -1, "auto"); /* and the new life is remembered */
    goal = 100;
    run_until(has_events);
    assert_int_equal(feed_count, former * 2);
    end();
    assert_seen_once(2000, 3500);
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void the_drain_rate_is_told(void **state) {
    (void)state;
    const char *count = getenv("HEADRACE_KAFKA_RECORDS");
    goal = count == NULL ? 200000 : strtoul(count, NULL, 10);
    make_topic("rate");
    produce("rate", 0, (int)goal, 200);
    forget_all(0);
    hr_free(seen);
    seen = NULL;
    begin("rate", -2, "auto");
    run_until(has_begun);
    double cpu = cpu_seconds();
    uint64_t ns = hr_mono_ns();
    run_until(has_events);
    ns = hr_mono_ns() - ns;
    cpu = cpu_seconds() - cpu;
    print_message("%llu records of 200 B: %.0f records/s, %.2f us of CPU a record\n",
                  (unsigned long long)events, (double)events / ((double)ns / 1e9),
                  cpu / (double)events * 1e6);
    end();
}

static int set_up(void **state) {
    (void)state;
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    port = free_ports(8000, 10000, 3); /* the broker takes three neighbours */
    snprintf(brokers, sizeof brokers, "127.0.0.1:%d", port);
    return broker_start();
}

static int tear_down(void **state) {
    (void)state;
    hr_free(seen);
    (void)broker_end("stop");
    char *command = hr_format("rm -rf '%s'", dir);
    int code = system(command); // NOLINT(cert-env33-c)
    hr_free(command);
    return code;
}

int main(int count, char **words) {
    assert_int_equal(count, 2);
    script = words[1];
    cmocka_set_test_filter(getenv("HEADRACE_TEST")); /* NULL: all */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_record_comes_once_and_a_restart_goes_on),
        cmocka_unit_test(latest_starts_at_the_end_and_a_time_at_its_records),
        cmocka_unit_test(without_credit_nothing_comes_and_the_lag_is_said),
        cmocka_unit_test(malformed_records_are_rejected_and_passed),
        cmocka_unit_test(the_marker_of_a_transaction_is_not_waited_for),
        cmocka_unit_test(a_broker_that_goes_and_comes_back_loses_nothing),
        cmocka_unit_test(a_broker_that_is_down_at_first_is_awaited),
        cmocka_unit_test(a_topic_that_is_missing_is_said),
        cmocka_unit_test(a_start_is_the_groups_before_the_first_dispatch),
        cmocka_unit_test(a_partition_that_is_added_is_read_from_its_beginning),
        cmocka_unit_test(an_offset_of_another_set_of_functions_says_nothing_of_ours),
        cmocka_unit_test(a_topic_that_was_made_anew_is_read_from_its_oldest_record),
        cmocka_unit_test(the_drain_rate_is_told),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
