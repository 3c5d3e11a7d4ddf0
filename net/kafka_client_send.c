/* SPDX-License-Identifier: Apache-2.0 */
#include "net/kafka_client_send.h"

#include "core/log.h"
#include "core/memory.h"
#include "net/kafka_client_priv.h"

#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { QUEUE_MAX = 500000, PURGE_MS = 1000, AGAIN_MS = 1000 };

struct hr_kafka_sender {
    hr_loop *loop;
    hr_kafka_sender_user user;
    char *name, *topic;
    rd_kafka_conf_t *conf; /* for the next producer */
    rd_kafka_t *rk;        /* NULL: between two */
    rd_kafka_topic_t *rkt;
    rd_kafka_queue_t *events;
    int wake_fd;
    hr_watch *watch;
    hr_timer *again;
    bool is_fatal, is_down;
    char reason[HR_ERROR_TEXT_BYTES];
};

static void on_wake(void *data, int events);

static void say_down(hr_kafka_sender *self, const char *why) {
    self->is_down = true;
    self->user.down(self->user.data, why);
}

static void say_up(hr_kafka_sender *self) {
    if (self->is_down) {
        self->is_down = false;
        self->user.down(self->user.data, NULL);
    }
}

/* ---- one producer after another ---- */

static hr_code make_producer(hr_kafka_sender *self, hr_error *err) {
    char why[HR_ERROR_TEXT_BYTES / 2];
    rd_kafka_conf_t *conf = hr_rdkafka.rd_kafka_conf_dup(self->conf);
    self->rk = hr_rdkafka.rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (self->rk == NULL) {
        hr_rdkafka.rd_kafka_conf_destroy(conf);
        return hr_fail(err, HR_E_CONFIG, 0, "%s", why);
    }
    self->rkt = hr_rdkafka.rd_kafka_topic_new(self->rk, self->topic, NULL);
    HR_ASSERT(self->rkt != NULL);
    self->events = hr_rdkafka.rd_kafka_queue_get_main(self->rk);
    const uint64_t one = 1;
    hr_rdkafka.rd_kafka_queue_io_event_enable(self->events, self->wake_fd, &one, sizeof one);
    /* It wakes when the queue is no longer empty. What came before it was asked to (a refused
     * connect does) would keep it so, and nothing would ever be heard again: look once. */
    ssize_t written = write(self->wake_fd, &one, sizeof one);
    (void)written; /* full: it wakes anyway */
    self->is_fatal = false;
    return HR_OK;
}

static void end_producer(hr_kafka_sender *self) {
    hr_rdkafka.rd_kafka_queue_io_event_enable(self->events, -1, NULL, 0);
    hr_rdkafka.rd_kafka_queue_destroy(self->events);
    hr_rdkafka.rd_kafka_topic_destroy(self->rkt);
    hr_rdkafka.rd_kafka_destroy_flags(self->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    self->rk = NULL;
}

static void start_anew(void *data) {
    hr_kafka_sender *self = data;
    hr_error err = {0};
    if (make_producer(self, &err) != HR_OK) { /* no thread, no memory: not for long */
        say_down(self, err.text);
        hr_timer_start(self->again, AGAIN_MS, 0);
    }
}

/* ---- events ---- */

static hr_kafka_report report_of(rd_kafka_resp_err_t code) {
    switch ((int)code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return HR_KAFKA_SENT;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
        return HR_KAFKA_UNFIT;
    default:
        return HR_KAFKA_UNSENT;
    }
}

static void on_reports(hr_kafka_sender *self, rd_kafka_event_t *event) {
    const rd_kafka_message_t *message;
    while ((message = hr_rdkafka.rd_kafka_event_message_next(event)) != NULL) {
        hr_kafka_report report = report_of(message->err);
        if (report == HR_KAFKA_SENT) {
            say_up(self);
        }
        const char *why = message->err == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT && self->is_down
                              ? self->reason
                              : hr_rdkafka.rd_kafka_err2str(message->err);
        self->user.reported(self->user.data, message->_private, report, why);
    }
}

static void on_error(hr_kafka_sender *self, rd_kafka_event_t *event) {
    rd_kafka_resp_err_t code = hr_rdkafka.rd_kafka_event_error(event);
    const char *text = hr_rdkafka.rd_kafka_event_error_string(event);
    if (hr_rdkafka.rd_kafka_event_error_is_fatal(event)) { /* its code is the broker's */
        hr_log(HR_LOG_WARN, self->name, "the producer gave up (%s); another takes its place", text);
        self->is_fatal = true;
        return;
    }
    switch ((int)code) {
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__RESOLVE:
        snprintf(self->reason, sizeof self->reason, "%s", text);
        return; /* others may remain; ALL_BROKERS_DOWN follows */
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        say_down(self, self->reason);
        return;
    default:
        snprintf(self->reason, sizeof self->reason, "%s", text);
        say_down(self, self->reason);
        return;
    }
}

static void drain(hr_kafka_sender *self) {
    rd_kafka_event_t *event;
    while ((event = hr_rdkafka.rd_kafka_queue_poll(self->events, 0)) != NULL) {
        if (hr_rdkafka.rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) {
            on_reports(self, event);
        } else if (hr_rdkafka.rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR) {
            on_error(self, event);
        }
        hr_rdkafka.rd_kafka_event_destroy(event);
    }
}

/* Everything under way of a producer that gave up is reported, then it goes. */
static void replace(hr_kafka_sender *self) {
    hr_rdkafka.rd_kafka_purge(self->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    uint64_t end = hr_mono_ns() + (uint64_t)PURGE_MS * 1000000;
    while (hr_rdkafka.rd_kafka_outq_len(self->rk) > 0 && hr_mono_ns() < end) {
        rd_kafka_event_t *event = hr_rdkafka.rd_kafka_queue_poll(self->events, 10);
        if (event != NULL && hr_rdkafka.rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) {
            on_reports(self, event);
        }
        if (event != NULL) {
            hr_rdkafka.rd_kafka_event_destroy(event);
        }
    }
    end_producer(self);
    start_anew(self);
}

static void on_wake(void *data, int events) {
    hr_kafka_sender *self = data;
    uint64_t count;
    (void)events;
    ssize_t got = read(self->wake_fd, &count, sizeof count);
    (void)got; /* only clears it */
    if (self->rk != NULL) {
        drain(self);
        if (self->is_fatal) {
            replace(self);
        }
    }
}

/* On any of librdkafka's threads. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text) {
    hr_log(level <= 2 ? HR_LOG_ERROR : HR_LOG_DEBUG, hr_rdkafka.rd_kafka_opaque(rk),
           "librdkafka %s: %s", facility, text);
}

/* ---- life ---- */

static hr_code configure(hr_kafka_sender *self, const hr_kafka_options *options,
                         uint32_t timeout_ms, hr_error *err) {
    char timeout[16], queue[16];
    snprintf(timeout, sizeof timeout, "%u", timeout_ms);
    snprintf(queue, sizeof queue, "%d", QUEUE_MAX);
    const hr_kafka_setting own[] = {{"client.id", options->client_id},
                                    {"enable.idempotence", "true"},
                                    {"acks", "all"},
                                    {"linger.ms", "5"},
                                    {"batch.num.messages", "10000"},
                                    {"compression.codec", "lz4"},
                                    {"queue.buffering.max.messages", queue},
                                    {"message.timeout.ms", timeout}};
    hr_code code = hr_kafka_set_peer(self->conf, options, err);
    code =
        code == HR_OK ? hr_kafka_set_all(self->conf, own, sizeof own / sizeof own[0], err) : code;
    code = code == HR_OK
               ? hr_kafka_set_all(self->conf, options->properties, options->property_count, err)
               : code;
    hr_rdkafka.rd_kafka_conf_set_opaque(self->conf, self->name);
    hr_rdkafka.rd_kafka_conf_set_log_cb(self->conf, on_log);
    hr_rdkafka.rd_kafka_conf_set_events(self->conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    return code;
}

hr_code hr_kafka_sender_open(hr_loop *loop, const hr_kafka_options *options, const char *topic,
                             uint32_t timeout_ms, const hr_kafka_sender_user *user,
                             hr_kafka_sender **out_sender, hr_error *err) {
    if (hr_kafka_load(err) != HR_OK) {
        return HR_E_UNSUPPORTED;
    }
    hr_kafka_sender *self = hr_alloc(sizeof *self);
    self->loop = loop;
    self->user = *user;
    self->name = hr_copy_text(options->name);
    self->topic = hr_copy_text(topic);
    self->conf = hr_rdkafka.rd_kafka_conf_new();
    self->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    hr_code code = self->wake_fd < 0 ? hr_fail(err, HR_E_IO, errno, "eventfd: %s", strerror(errno))
                                     : configure(self, options, timeout_ms, err);
    code = code == HR_OK ? make_producer(self, err) : code;
    if (code != HR_OK) {
        hr_kafka_sender_close(self);
        return code;
    }
    self->again = hr_timer_new(loop, start_anew, self);
    self->watch = hr_watch_new(loop, self->wake_fd, on_wake, self);
    hr_watch_set(self->watch, HR_WATCH_READ);
    *out_sender = self;
    return HR_OK;
}

hr_kafka_report hr_kafka_send(hr_kafka_sender *self, const hr_kafka_record *record, void *tag,
                              const char **out_why) {
    if (self->rk == NULL || self->is_fatal) {
        *out_why = "one producer follows another";
        return HR_KAFKA_UNSENT;
    }
    rd_kafka_headers_t *headers = hr_rdkafka.rd_kafka_headers_new(record->header_count);
    for (size_t i = 0; i < record->header_count; i++) {
        const hr_kafka_header *header = &record->headers[i];
        (void)hr_rdkafka.rd_kafka_header_add(
            headers, (const char *)header->name.bytes, (ssize_t)header->name.size,
            header->value.bytes, (ssize_t)header->value.size); /* only fails on read-only lists */
    }
    union { /* the library copies, its types are older than const */
        const uint8_t *read;
        void *any;
    } value = {.read = record->value.bytes}, key = {.read = record->key.bytes};
    rd_kafka_resp_err_t code = hr_rdkafka.rd_kafka_producev(
        self->rk, RD_KAFKA_V_RKT(self->rkt), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_VALUE(record->has_value ? value.any : NULL, record->value.size),
        RD_KAFKA_V_KEY(record->has_key ? key.any : NULL, record->key.size),
        RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(tag), RD_KAFKA_V_END);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        hr_rdkafka.rd_kafka_headers_destroy(headers);
        *out_why = hr_rdkafka.rd_kafka_err2str(code);
    }
    return report_of(code);
}

void hr_kafka_sender_close(hr_kafka_sender *take_sender) {
    hr_kafka_sender *self = take_sender;
    if (self == NULL) {
        return;
    }
    if (self->watch != NULL) {
        hr_watch_free(self->watch);
        hr_timer_free(self->again);
    }
    if (self->rk != NULL) {
        hr_rdkafka.rd_kafka_flush(self->rk, 0);
        hr_rdkafka.rd_kafka_purge(self->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        end_producer(self);
    }
    if (self->wake_fd >= 0) {
        close(self->wake_fd);
    }
    hr_rdkafka.rd_kafka_conf_destroy(self->conf);
    hr_free(self->name);
    hr_free(self->topic);
    hr_free(self);
}
