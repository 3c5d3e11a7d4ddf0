/* SPDX-License-Identifier: Apache-2.0 */
#include "net/kafka_client.h"

#include "core/log.h"
#include "core/memory.h"
#include "net/kafka_client_priv.h"

#include <stdio.h>

enum { TAKE_MAX = 1024, COMMITTED_WAIT_MS = 5000, LOST_WAIT_MS = 5000 };

typedef struct slot {
    char *topic;
    int32_t partition;
    rd_kafka_queue_t *queue;
    int64_t next; /* offset to be taken next */
} slot;

struct hr_kafka {
    rd_kafka_t *rk;
    rd_kafka_queue_t *control;
    rd_kafka_topic_partition_list_t *topics;
    hr_kafka_callbacks callbacks;
    char *name;
    int wake_fd;
    slot *slots;
    size_t slot_count;
    bool is_rejoining, is_closing;
    char reason[300]; /* of the last broker that could not be reached; at first its address */
    rd_kafka_message_t *taken[TAKE_MAX];
    hr_kafka_header *headers;
    size_t header_capacity;
};

int hr_kafka_version(void) {
    return hr_rdkafka.rd_kafka_version();
}

/* ---- the assignment ---- */

static void drop_slots(hr_kafka *self) {
    for (size_t i = 0; i < self->slot_count; i++) {
        hr_rdkafka.rd_kafka_queue_destroy(self->slots[i].queue);
        hr_free(self->slots[i].topic);
    }
    hr_free(self->slots);
    self->slots = NULL;
    self->slot_count = 0;
}

static void wake_on(const hr_kafka *self, rd_kafka_queue_t *queue) {
    static const uint64_t one = 1;
    hr_rdkafka.rd_kafka_queue_io_event_enable(queue, self->wake_fd, &one, sizeof one);
}

/* Its own queue before the fetching starts, so that nothing goes to the shared one. */
static void make_slots(hr_kafka *self, const hr_kafka_place *places, size_t count) {
    drop_slots(self);
    self->slots = hr_alloc_array(count, sizeof *self->slots);
    self->slot_count = count;
    for (size_t i = 0; i < count; i++) {
        slot *s = &self->slots[i];
        s->topic = hr_copy_text(places[i].topic);
        s->partition = places[i].partition;
        s->next = places[i].offset;
        s->queue = hr_rdkafka.rd_kafka_queue_get_partition(self->rk, s->topic, s->partition);
        HR_ASSERT(s->queue != NULL);
        hr_rdkafka.rd_kafka_queue_forward(s->queue, NULL);
        wake_on(self, s->queue);
    }
}

/* Reads every slot from its next offset. */
static void assign_slots(hr_kafka *self) {
    rd_kafka_topic_partition_list_t *list =
        hr_rdkafka.rd_kafka_topic_partition_list_new((int)self->slot_count);
    for (size_t i = 0; i < self->slot_count; i++) {
        const slot *s = &self->slots[i];
        hr_rdkafka.rd_kafka_topic_partition_list_add(list, s->topic, s->partition)->offset =
            s->next;
    }
    rd_kafka_resp_err_t code = hr_rdkafka.rd_kafka_assign(self->rk, list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        hr_log(HR_LOG_ERROR, self->name, "assign: %s", hr_rdkafka.rd_kafka_err2str(code));
    }
    hr_rdkafka.rd_kafka_topic_partition_list_destroy(list);
}

static void note_of(const rd_kafka_topic_partition_t *at, char *out_note) {
    size_t size = at->metadata_size < HR_KAFKA_NOTE_BYTES ? at->metadata_size : 0;
    if (size > 0) { /* a longer one is not ours */
        memcpy(out_note, at->metadata, size);
    }
    out_note[size] = '\0';
}

/* Starts that no group knew are the group's before their first record is given (S17). */
static bool commit_starts(hr_kafka *self, const hr_kafka_place *places, size_t count) {
    uint32_t *slots = hr_alloc_array(count + 1, sizeof *slots);
    int64_t *offsets = hr_alloc_array(count + 1, sizeof *offsets);
    const char **notes = hr_alloc_array(count + 1, sizeof *notes);
    size_t starts = 0;
    for (size_t i = 0; i < count; i++) {
        if (places[i].is_start) {
            slots[starts] = (uint32_t)i;
            offsets[starts] = places[i].offset;
            notes[starts++] = places[i].note;
        }
    }
    hr_error err = {0};
    bool is_done = starts == 0 || hr_kafka_commit(self, slots, offsets, notes, starts,
                                                  COMMITTED_WAIT_MS, &err) == HR_OK;
    if (!is_done) {
        hr_log(HR_LOG_WARN, self->name, "where to start was not committed: %s", err.text);
    }
    hr_free(slots);
    hr_free(offsets);
    hr_free(notes);
    return is_done;
}

/* false: ask the group again later. */
static bool take_over(hr_kafka *self, rd_kafka_topic_partition_list_t *list) {
    size_t count = (size_t)list->cnt;
    if (count > 0) {
        rd_kafka_resp_err_t code = hr_rdkafka.rd_kafka_committed(self->rk, list, COMMITTED_WAIT_MS);
        for (int i = 0; code == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++) {
            code = list->elems[i].err;
        }
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
            self->callbacks.trouble(self->callbacks.data, HR_KAFKA_OTHER,
                                    hr_rdkafka.rd_kafka_err2str(code));
            return false;
        }
    }
    hr_kafka_place *places = hr_alloc_array(count + 1, sizeof *places);
    for (size_t i = 0; i < count; i++) {
        const rd_kafka_topic_partition_t *at = &list->elems[i];
        places[i] = (hr_kafka_place){.topic = at->topic,
                                     .partition = at->partition,
                                     .offset = at->offset >= 0 ? at->offset : HR_KAFKA_NO_OFFSET};
        note_of(at, places[i].note);
    }
    bool is_known = self->callbacks.assigned(self->callbacks.data, places, count);
    if (is_known) {
        make_slots(self, places, count);
        is_known = commit_starts(self, places, count);
        if (is_known) {
            assign_slots(self);
        } else {
            self->callbacks.revoked(self->callbacks.data, false);
        }
    }
    hr_free(places);
    return is_known;
}

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                         rd_kafka_topic_partition_list_t *list, void *opaque) {
    hr_kafka *self = opaque;
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && !self->is_closing) {
        if (take_over(self, list)) {
            return;
        }
        self->is_rejoining = true;
    } else if (!self->is_closing) {
        if (code != RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS) {
            hr_log(HR_LOG_ERROR, self->name, "rebalance: %s", hr_rdkafka.rd_kafka_err2str(code));
        }
        self->callbacks.revoked(self->callbacks.data, hr_rdkafka.rd_kafka_assignment_lost(rk) != 0);
    }
    hr_rdkafka.rd_kafka_assign(rk, NULL);
    drop_slots(self);
}

/* ---- what librdkafka says ---- */

static void on_error(rd_kafka_t *rk, int code, const char *text, void *opaque) {
    hr_kafka *self = opaque;
    hr_kafka_trouble kind = HR_KAFKA_OTHER;
    char fatal[300];
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        hr_rdkafka.rd_kafka_fatal_error(rk, fatal, sizeof fatal);
        text = fatal;
        kind = HR_KAFKA_FATAL;
    } else if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        text = self->reason; /* "2/2 brokers are down" alone would not say which */
        kind = HR_KAFKA_ALL_DOWN;
    } else if (code == RD_KAFKA_RESP_ERR__TRANSPORT || code == RD_KAFKA_RESP_ERR__RESOLVE) {
        snprintf(self->reason, sizeof self->reason, "%s", text);
        kind = HR_KAFKA_UNREACHABLE;
    } else if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR__SSL ||
               code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
               code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
               code == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED) {
        snprintf(self->reason, sizeof self->reason, "%s", text);
        kind = HR_KAFKA_REFUSED;
    } else if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
               code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC) {
        kind = HR_KAFKA_MISSING_TOPIC;
    }
    self->callbacks.trouble(self->callbacks.data, kind, text);
}

/* On any of librdkafka's threads. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text) {
    const hr_kafka *self = hr_rdkafka.rd_kafka_opaque(rk);
    hr_log(level <= 2 ? HR_LOG_ERROR : HR_LOG_DEBUG, self->name, "librdkafka %s: %s", facility,
           text);
}

static void on_committed(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                         rd_kafka_topic_partition_list_t *list, void *opaque) {
    const hr_kafka *self = opaque;
    (void)rk;
    (void)list;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR__NO_OFFSET) {
        hr_log(HR_LOG_WARN, self->name, "the group's offsets were not committed: %s",
               hr_rdkafka.rd_kafka_err2str(code));
    }
}

/* ---- life ---- */

hr_code hr_kafka_set_all(rd_kafka_conf_t *conf, const hr_kafka_setting *settings, size_t count,
                         hr_error *err) {
    char why[HR_ERROR_TEXT_BYTES / 2];
    for (size_t i = 0; i < count; i++) {
        if (settings[i].value != NULL &&
            hr_rdkafka.rd_kafka_conf_set(conf, settings[i].name, settings[i].value, why,
                                         sizeof why) != RD_KAFKA_CONF_OK) {
            return hr_fail(err, HR_E_CONFIG, 0, "%s: %s", settings[i].name, why);
        }
    }
    return HR_OK;
}

hr_code hr_kafka_set_peer(rd_kafka_conf_t *conf, const hr_kafka_options *options, hr_error *err) {
    bool has_sasl = options->username != NULL;
    const hr_kafka_setting own[] = {
        {"bootstrap.servers", options->brokers},
        {"reconnect.backoff.max.ms", "2000"},
        {"topic.metadata.refresh.interval.ms", "30000"},
        {"log.connection.close", "false"},
        {"security.protocol", options->has_tls && has_sasl ? "sasl_ssl"
                              : options->has_tls           ? "ssl"
                              : has_sasl                   ? "sasl_plaintext"
                                                           : "plaintext"},
        {"sasl.mechanisms", !has_sasl                    ? NULL
                            : options->mechanism == NULL ? "PLAIN"
                                                         : options->mechanism},
        {"sasl.username", options->username},
        {"sasl.password", options->password},
        {"ssl.ca.location", options->ca},
        {"ssl.certificate.location", options->cert},
        {"ssl.key.location", options->key},
        {"enable.ssl.certificate.verification", options->is_unverified ? "false" : NULL},
    };
    return hr_kafka_set_all(conf, own, sizeof own / sizeof own[0], err);
}

static hr_code configure(rd_kafka_conf_t *conf, const hr_kafka_options *options, hr_error *err) {
    char queue_kbytes[16]; /* of each partition: it has a queue of its own */
    snprintf(queue_kbytes, sizeof queue_kbytes, "%d", HR_KAFKA_QUEUE_BYTES >> 10);
    const hr_kafka_setting own[] = {
        {"group.id", options->group},
        {"group.instance.id", options->instance_id},
        {"client.id", options->client_id},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"}, /* a position that is gone is said, not skipped */
        {"partition.assignment.strategy", "range,roundrobin"},
        {"queued.min.messages", "1000000"},
        {"queued.max.messages.kbytes", queue_kbytes},
        {"fetch.wait.max.ms", "100"},
        {"fetch.message.max.bytes", "1048576"}, /* a larger record still comes, alone */
        {"fetch.max.bytes", "8388608"},
        {"check.crcs", "true"},
        {"session.timeout.ms", "45000"},
    };
    hr_code code = hr_kafka_set_peer(conf, options, err);
    code = code == HR_OK ? hr_kafka_set_all(conf, own, sizeof own / sizeof own[0], err) : code;
    return code == HR_OK ? hr_kafka_set_all(conf, options->properties, options->property_count, err)
                         : code;
}

static void release(hr_kafka *self) {
    drop_slots(self);
    if (self->topics != NULL) {
        hr_rdkafka.rd_kafka_topic_partition_list_destroy(self->topics);
    }
    hr_free(self->headers);
    hr_free(self->name);
    hr_free(self);
}

hr_code hr_kafka_new(const hr_kafka_options *options, const hr_kafka_callbacks *callbacks,
                     hr_kafka **out_client, hr_error *err) {
    HR_ASSERT(options->brokers != NULL && options->group != NULL && options->topic_count > 0);
    if (hr_kafka_load(err) != HR_OK) {
        return HR_E_UNSUPPORTED;
    }
    hr_kafka *self = hr_alloc(sizeof *self);
    self->callbacks = *callbacks;
    /* until librdkafka names one: it says nothing of a peer that only hangs up */
    snprintf(self->reason, sizeof self->reason, "none of %s answers as a Kafka broker%s",
             options->brokers, options->has_tls ? "" : " (a listener with TLS? then write `tls:`)");
    self->name = hr_copy_text(options->name);
    self->wake_fd = options->wake_fd;
    rd_kafka_conf_t *conf = hr_rdkafka.rd_kafka_conf_new();
    hr_code code = configure(conf, options, err);
    if (code != HR_OK) {
        hr_rdkafka.rd_kafka_conf_destroy(conf);
        release(self);
        return code;
    }
    hr_rdkafka.rd_kafka_conf_set_opaque(conf, self);
    hr_rdkafka.rd_kafka_conf_set_log_cb(conf, on_log);
    hr_rdkafka.rd_kafka_conf_set_error_cb(conf, on_error);
    hr_rdkafka.rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    hr_rdkafka.rd_kafka_conf_set_offset_commit_cb(conf, on_committed);
    char why[HR_ERROR_TEXT_BYTES / 2];
    self->rk = hr_rdkafka.rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (self->rk == NULL) {
        hr_rdkafka.rd_kafka_conf_destroy(conf);
        release(self);
        return hr_fail(err, HR_E_CONFIG, 0, "%s", why);
    }
    hr_rdkafka.rd_kafka_poll_set_consumer(self->rk);
    self->control = hr_rdkafka.rd_kafka_queue_get_consumer(self->rk);
    wake_on(self, self->control);
    self->topics = hr_rdkafka.rd_kafka_topic_partition_list_new((int)options->topic_count);
    for (size_t i = 0; i < options->topic_count; i++) {
        hr_rdkafka.rd_kafka_topic_partition_list_add(self->topics, options->topics[i],
                                                     RD_KAFKA_PARTITION_UA);
    }
    rd_kafka_resp_err_t failed = hr_rdkafka.rd_kafka_subscribe(self->rk, self->topics);
    if (failed != RD_KAFKA_RESP_ERR_NO_ERROR) {
        hr_fail(err, HR_E_CONFIG, 0, "topics: %s", hr_rdkafka.rd_kafka_err2str(failed));
        hr_rdkafka.rd_kafka_queue_destroy(self->control);
        hr_rdkafka.rd_kafka_destroy_flags(self->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        release(self);
        return HR_E_CONFIG;
    }
    *out_client = self;
    return HR_OK;
}

/* All at once: librdkafka's thread allocates messages from an arena of its own, whose lock each
 * takes that is freed. Freed between the records the two threads meet there (docs/performance.md).
 */
static void give_back(hr_kafka *self, ssize_t count) {
    for (ssize_t i = 0; i < count; i++) {
        hr_rdkafka.rd_kafka_message_destroy(self->taken[i]);
    }
}

bool hr_kafka_close(hr_kafka *take_client, int timeout_ms) {
    hr_kafka *self = take_client;
    if (self->slot_count > 0) {
        self->callbacks.revoked(self->callbacks.data, false);
    }
    self->is_closing = true;
    hr_rdkafka.rd_kafka_assign(self->rk, NULL);
    drop_slots(self);
    rd_kafka_queue_t *queue = hr_rdkafka.rd_kafka_queue_new(self->rk);
    rd_kafka_error_t *failed = hr_rdkafka.rd_kafka_consumer_close_queue(self->rk, queue);
    bool is_closed = failed != NULL; /* fatal: there is nothing left to close */
    hr_rdkafka.rd_kafka_error_destroy(failed);
    for (int waited = 0; !is_closed && waited < timeout_ms; waited += 50) {
        give_back(self, hr_rdkafka.rd_kafka_consume_batch_queue(queue, 50, self->taken, TAKE_MAX));
        is_closed = hr_rdkafka.rd_kafka_consumer_closed(self->rk) != 0;
    }
    if (!is_closed) {
        return false;
    }
    hr_rdkafka.rd_kafka_queue_destroy(queue);
    hr_rdkafka.rd_kafka_queue_destroy(self->control);
    hr_rdkafka.rd_kafka_destroy_flags(self->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    release(self);
    return true;
}

/* ---- records ---- */

static void on_record_error(hr_kafka *self, const rd_kafka_message_t *message) {
    if (message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        on_error(self->rk, message->err, message->payload, self);
    }
}

void hr_kafka_serve(hr_kafka *self) {
    for (;;) {
        ssize_t count =
            hr_rdkafka.rd_kafka_consume_batch_queue(self->control, 0, self->taken, TAKE_MAX);
        for (ssize_t i = 0; i < count; i++) {
            rd_kafka_message_t *message = self->taken[i];
            /* Records come on the slots' own queues; one here is read again after a restart. */
            if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
                on_record_error(self, message);
            } else {
                hr_log(HR_LOG_ERROR, self->name, "a record of no slot, offset %lld",
                       (long long)message->offset);
            }
        }
        give_back(self, count);
        if (count <= 0) {
            break;
        }
    }
    if (self->is_rejoining) {
        self->is_rejoining = false;
        hr_rdkafka.rd_kafka_unsubscribe(self->rk);
        hr_rdkafka.rd_kafka_subscribe(self->rk, self->topics);
    }
}

static size_t read_headers(hr_kafka *self, const rd_kafka_message_t *message) {
    rd_kafka_headers_t *headers = NULL;
    if (hr_rdkafka.rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return 0;
    }
    size_t count = 0;
    const char *name;
    const void *value;
    size_t size;
    while (hr_rdkafka.rd_kafka_header_get_all(headers, count, &name, &value, &size) ==
           RD_KAFKA_RESP_ERR_NO_ERROR) {
        if (count == self->header_capacity) {
            self->header_capacity = self->header_capacity == 0 ? 32 : self->header_capacity * 2;
            self->headers =
                hr_realloc(self->headers, self->header_capacity * sizeof *self->headers);
        }
        self->headers[count++] = (hr_kafka_header){
            .name = hr_slice_text(name), .value = hr_slice_of(value, value == NULL ? 0 : size)};
    }
    return count;
}

/* The offset of a slot is gone: goes on where the owner agrees to. */
static void recover(hr_kafka *self, uint32_t index) {
    slot *s = &self->slots[index];
    int64_t low = 0, high = 0, wanted = s->next;
    if (hr_rdkafka.rd_kafka_query_watermark_offsets(self->rk, s->topic, s->partition, &low, &high,
                                                    LOST_WAIT_MS) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        int64_t offset = wanted < low ? low : high;
        if (!self->callbacks.lost(self->callbacks.data, index, wanted, offset)) {
            self->is_rejoining = true;
            return;
        }
        s->next = offset;
    }
    assign_slots(self);
}

uint32_t hr_kafka_take(hr_kafka *self, uint32_t index, uint32_t max,
                       void (*each)(void *data, const hr_kafka_record *record), void *data) {
    HR_ASSERT(index < self->slot_count && max > 0 && max <= TAKE_MAX);
    slot *s = &self->slots[index];
    ssize_t count = hr_rdkafka.rd_kafka_consume_batch_queue(s->queue, 0, self->taken, max);
    uint32_t given = 0;
    bool is_lost = false;
    for (ssize_t i = 0; i < count; i++) {
        rd_kafka_message_t *message = self->taken[i];
        if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
            message->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE) {
            is_lost = true;
        } else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            on_record_error(self, message);
        } else {
            hr_kafka_record record = {.offset = message->offset,
                                      .time_ms =
                                          hr_rdkafka.rd_kafka_message_timestamp(message, NULL),
                                      .key = hr_slice_of(message->key, message->key_len),
                                      .value = hr_slice_of(message->payload, message->len),
                                      .has_key = message->key != NULL,
                                      .has_value = message->payload != NULL};
            record.header_count = read_headers(self, message);
            record.headers = self->headers;
            s->next = message->offset + 1;
            each(data, &record);
            given++;
        }
    }
    give_back(self, count);
    if (is_lost) {
        recover(self, index);
    }
    return given;
}

/* ---- offsets ---- */

hr_code hr_kafka_resolve(hr_kafka *self, const char *topic, int32_t partition, int64_t start,
                         int timeout_ms, int64_t *out_offset, hr_error *err) {
    rd_kafka_resp_err_t code;
    int64_t found = RD_KAFKA_OFFSET_END;
    if (start >= 0) {
        rd_kafka_topic_partition_list_t *list = hr_rdkafka.rd_kafka_topic_partition_list_new(1);
        hr_rdkafka.rd_kafka_topic_partition_list_add(list, topic, partition)->offset = start;
        code = hr_rdkafka.rd_kafka_offsets_for_times(self->rk, list, timeout_ms);
        code = code == RD_KAFKA_RESP_ERR_NO_ERROR ? list->elems[0].err : code;
        found = list->elems[0].offset;
        hr_rdkafka.rd_kafka_topic_partition_list_destroy(list);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
            return hr_fail(err, HR_E_PEER_DOWN, code, "%s", hr_rdkafka.rd_kafka_err2str(code));
        }
    }
    if (start < 0 || found < 0) { /* a time after the newest record: the end */
        int64_t low = 0, high = 0;
        code = hr_rdkafka.rd_kafka_query_watermark_offsets(self->rk, topic, partition, &low, &high,
                                                           timeout_ms);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
            return hr_fail(err, HR_E_PEER_DOWN, code, "%s", hr_rdkafka.rd_kafka_err2str(code));
        }
        found = start == HR_KAFKA_EARLIEST ? low : high;
    }
    *out_offset = found;
    return HR_OK;
}

int64_t hr_kafka_end(hr_kafka *self, uint32_t index) {
    HR_ASSERT(index < self->slot_count);
    int64_t low = -1, high = -1;
    const slot *s = &self->slots[index];
    hr_rdkafka.rd_kafka_get_watermark_offsets(self->rk, s->topic, s->partition, &low, &high);
    return high;
}

size_t hr_kafka_queued(hr_kafka *self, uint32_t index) {
    HR_ASSERT(index < self->slot_count);
    return hr_rdkafka.rd_kafka_queue_length(self->slots[index].queue);
}

bool hr_kafka_nudge(hr_kafka *self, uint32_t index, int timeout_ms) {
    HR_ASSERT(index < self->slot_count);
    int64_t low = -1, high = -1;
    const slot *s = &self->slots[index];
    return hr_rdkafka.rd_kafka_query_watermark_offsets(self->rk, s->topic, s->partition, &low,
                                                       &high,
                                                       timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

hr_code hr_kafka_noted(hr_kafka *self, const char *topic, int32_t partition, int timeout_ms,
                       char out_note[HR_KAFKA_NOTE_BYTES], hr_error *err) {
    rd_kafka_topic_partition_list_t *list = hr_rdkafka.rd_kafka_topic_partition_list_new(1);
    hr_rdkafka.rd_kafka_topic_partition_list_add(list, topic, partition);
    rd_kafka_resp_err_t code = hr_rdkafka.rd_kafka_committed(self->rk, list, timeout_ms);
    code = code == RD_KAFKA_RESP_ERR_NO_ERROR ? list->elems[0].err : code;
    note_of(&list->elems[0], out_note);
    hr_rdkafka.rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR
               ? HR_OK
               : hr_fail(err, HR_E_PEER_DOWN, code, "%s", hr_rdkafka.rd_kafka_err2str(code));
}

hr_code hr_kafka_width(hr_kafka *self, const char *topic, int timeout_ms, int32_t *out_count,
                       hr_error *err) {
    rd_kafka_topic_t *handle = hr_rdkafka.rd_kafka_topic_new(self->rk, topic, NULL);
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code =
        hr_rdkafka.rd_kafka_metadata(self->rk, 0, handle, &metadata, timeout_ms);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        code = metadata->topic_cnt == 1 ? metadata->topics[0].err
                                        : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        *out_count = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
        hr_rdkafka.rd_kafka_metadata_destroy(metadata);
    }
    hr_rdkafka.rd_kafka_topic_destroy(handle);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR
               ? HR_OK
               : hr_fail(err, HR_E_PEER_DOWN, code, "%s", hr_rdkafka.rd_kafka_err2str(code));
}

hr_code hr_kafka_commit(hr_kafka *self, const uint32_t *slots, const int64_t *offsets,
                        const char *const *notes, size_t count, int wait_ms, hr_error *err) {
    rd_kafka_topic_partition_list_t *list =
        hr_rdkafka.rd_kafka_topic_partition_list_new((int)count);
    for (size_t i = 0; i < count; i++) {
        HR_ASSERT(slots[i] < self->slot_count && offsets[i] >= 0);
        const slot *s = &self->slots[slots[i]];
        rd_kafka_topic_partition_t *at =
            hr_rdkafka.rd_kafka_topic_partition_list_add(list, s->topic, s->partition);
        at->offset = offsets[i];
        at->metadata_size = strlen(notes[i]);
        at->metadata = hr_copy_text(notes[i]); /* the list frees it */
    }
    rd_kafka_resp_err_t code;
    if (wait_ms == 0) {
        code = hr_rdkafka.rd_kafka_commit(self->rk, list, 1);
    } else {
        rd_kafka_queue_t *queue = hr_rdkafka.rd_kafka_queue_new(self->rk);
        code = hr_rdkafka.rd_kafka_commit_queue(self->rk, list, queue, NULL, NULL);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
            rd_kafka_event_t *event = hr_rdkafka.rd_kafka_queue_poll(queue, wait_ms);
            code = event == NULL ? RD_KAFKA_RESP_ERR__TIMED_OUT
                                 : hr_rdkafka.rd_kafka_event_error(event);
            if (event != NULL) {
                hr_rdkafka.rd_kafka_event_destroy(event);
            }
        }
        hr_rdkafka.rd_kafka_queue_destroy(queue);
    }
    hr_rdkafka.rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR
               ? HR_OK
               : hr_fail(err, HR_E_PEER_REFUSED, code, "%s", hr_rdkafka.rd_kafka_err2str(code));
}

void hr_kafka_rejoin(hr_kafka *self) {
    self->is_rejoining = true;
}

bool hr_kafka_probe(hr_kafka *self, int timeout_ms) {
    const struct rd_kafka_metadata *metadata = NULL;
    bool is_up = hr_rdkafka.rd_kafka_metadata(self->rk, 0, NULL, &metadata, timeout_ms) ==
                 RD_KAFKA_RESP_ERR_NO_ERROR;
    if (is_up) {
        hr_rdkafka.rd_kafka_metadata_destroy(metadata);
    }
    return is_up;
}

char *hr_kafka_cluster(hr_kafka *self, int timeout_ms) {
    char *id = hr_rdkafka.rd_kafka_clusterid(self->rk, timeout_ms);
    char *copy = hr_copy_text(id);
    if (id != NULL) {
        hr_rdkafka.rd_kafka_mem_free(self->rk, id);
    }
    return copy;
}
