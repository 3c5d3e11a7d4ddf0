/* SPDX-License-Identifier: Apache-2.0 */
/* A producer for one topic: idempotent, every record reported once.
 *
 * Life:  open -> (send, reported)* -> close
 * Rule:  records of one key are written in the order they were sent, as long as none fails.
 * After an error that is fatal to librdkafka's producer another one takes its place by itself; what
 * was under way is reported as unsent. Thread: loop. */
#ifndef HR_NET_KAFKA_CLIENT_SEND_H
#define HR_NET_KAFKA_CLIENT_SEND_H

#include "core/loop.h"
#include "net/kafka_client.h"

typedef struct hr_kafka_sender hr_kafka_sender;

typedef enum hr_kafka_report {
    HR_KAFKA_SENT,   /* acknowledged by all in-sync replicas */
    HR_KAFKA_UNSENT, /* not its fault: no broker, a login, a fatal error; it may have been written
                      */
    HR_KAFKA_UNFIT   /* the broker will never take it: too large, malformed */
} hr_kafka_report;

typedef struct hr_kafka_sender_user {
    /* The end of a record; never from within hr_kafka_send(). why: librdkafka's words. */
    void (*reported)(void *data, void *tag, hr_kafka_report report, const char *why);
    void (*down)(void *data, const char *why); /* NULL: it can send again */
    void *data;
} hr_kafka_sender_user;

/* Checks all settings and connects in the background. Of options group, topics, instance_id and
 * wake_fd are not used. timeout_ms: when a record that nobody took is reported as unsent.
 * Errors: HR_E_CONFIG with librdkafka's words, HR_E_UNSUPPORTED without it. */
hr_code hr_kafka_sender_open(hr_loop *loop, const hr_kafka_options *options, const char *topic,
                             uint32_t timeout_ms, const hr_kafka_sender_user *user,
                             hr_kafka_sender **out_sender, hr_error *err);

/* Queues a record (key, value and headers are copied) for the topic; offset and time are not used.
 * SENT: it is queued, its report follows. Else it was not taken, and none follows; *out_why says
 * why in librdkafka's words. */
hr_kafka_report hr_kafka_send(hr_kafka_sender *self, const hr_kafka_record *record, void *tag,
                              const char **out_why);

/* Ends it; what is under way is not reported any more. Blocks a moment. NULL is allowed. */
void hr_kafka_sender_close(hr_kafka_sender *take_sender);

#endif
