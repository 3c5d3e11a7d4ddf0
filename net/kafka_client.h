/* SPDX-License-Identifier: Apache-2.0 */
/* A consumer of a Kafka group: who may read which partition, from where, and the records.
 *
 * Life:  new -> (serve, take, commit)* -> close -> free
 * Rule:  all calls are made on one thread, which is also the one the callbacks come on. Each
 *        assigned partition has a queue of its own: one that is not taken from holds back nothing
 *        else, and nothing is ever paused. */
#ifndef HR_NET_KAFKA_CLIENT_H
#define HR_NET_KAFKA_CLIENT_H

#include "core/error.h"
#include "core/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hr_kafka hr_kafka;

enum { HR_KAFKA_QUEUE_BYTES = 3 << 20 }; /* read ahead of each partition, unless set otherwise */
enum { HR_KAFKA_NO_OFFSET = -1001, HR_KAFKA_EARLIEST = -2, HR_KAFKA_LATEST = -1 };

typedef struct hr_kafka_header {
    hr_slice name, value;
} hr_kafka_header;

/* Borrowed for the call it is given to. */
typedef struct hr_kafka_record {
    int64_t offset;
    int64_t time_ms; /* since 1970; 0 or less: none */
    hr_slice key, value;
    bool has_key, has_value;
    const hr_kafka_header *headers;
    size_t header_count;
} hr_kafka_record;

/* One assigned partition; its slot is its index in the assignment. */
enum { HR_KAFKA_NOTE_BYTES = 96 };

typedef struct hr_kafka_place {
    const char *topic;
    int32_t partition;
    int64_t offset; /* in: what the group committed, or HR_KAFKA_NO_OFFSET; out: read from here */
    bool is_start;  /* out: the offset is committed before the first record is given */
    char note[HR_KAFKA_NOTE_BYTES]; /* in: committed with the offset; out: to commit with a start */
} hr_kafka_place;

typedef enum hr_kafka_trouble {
    HR_KAFKA_UNREACHABLE,   /* one broker; often others remain */
    HR_KAFKA_ALL_DOWN,      /* no broker can be reached; text is the last reason */
    HR_KAFKA_REFUSED,       /* login, certificate or authorization */
    HR_KAFKA_MISSING_TOPIC, /* a topic that was asked for */
    HR_KAFKA_FATAL,         /* this consumer is finished: make another */
    HR_KAFKA_OTHER
} hr_kafka_trouble;

typedef struct hr_kafka_callbacks {
    /* These partitions are ours. Sets their absolute offsets (hr_kafka_resolve helps). false: it
     * cannot be known now; the group is joined anew. */
    bool (*assigned)(void *data, hr_kafka_place *places, size_t count);
    /* The whole assignment ends when this returns; is_lost: others may have it already, so nothing
     * can be committed. */
    void (*revoked)(void *data, bool is_lost);
    /* The offset wanted by a slot exists no more: offset is the oldest record after it, or the end
     * when wanted is beyond it. true: goes on at offset; false: the group is joined anew. */
    bool (*lost)(void *data, uint32_t slot, int64_t wanted, int64_t offset);
    void (*trouble)(void *data, hr_kafka_trouble kind, const char *text);
    void *data;
} hr_kafka_callbacks;

typedef struct hr_kafka_setting {
    const char *name, *value;
} hr_kafka_setting;

/* All borrowed for hr_kafka_new. NULL: not set. */
typedef struct hr_kafka_options {
    const char *name; /* for log lines */
    const char *brokers;
    const char *const *topics;
    size_t topic_count;
    const char *group, *instance_id, *client_id;
    const char *username, *password, *mechanism;
    bool has_tls, is_unverified;
    const char *ca, *cert, *key;
    const hr_kafka_setting *properties; /* librdkafka's names; set last */
    size_t property_count;
    int wake_fd; /* an eventfd: becomes readable when serve or take have something to do */
} hr_kafka_options;

/* Loads librdkafka, which clients do by themselves otherwise: a missing one is told before anything
 * starts. Errors: HR_E_UNSUPPORTED.  Thread: any. */
hr_code hr_kafka_load(hr_error *err);

/* Checks all settings and joins the group in the background; a broker that is down is told by
 * trouble(). Errors: HR_E_CONFIG with librdkafka's words, HR_E_UNSUPPORTED without it. */
hr_code hr_kafka_new(const hr_kafka_options *options, const hr_kafka_callbacks *callbacks,
                     hr_kafka **out_client, hr_error *err);

/* Runs what is due: callbacks, heartbeats. Never blocks by itself; call it every few seconds at
 * least, whatever else holds, or the group takes the partitions away. */
void hr_kafka_serve(hr_kafka *self);

/* Gives up to max (1 .. 1,024) records of a slot to each(); returns how many. Never blocks. */
uint32_t hr_kafka_take(hr_kafka *self, uint32_t index, uint32_t max,
                       void (*each)(void *data, const hr_kafka_record *record), void *data);

/* The absolute offset of a start: HR_KAFKA_EARLIEST, HR_KAFKA_LATEST or milliseconds since 1970.
 * Blocks at most timeout_ms. Errors: HR_E_PEER_DOWN. */
hr_code hr_kafka_resolve(hr_kafka *self, const char *topic, int32_t partition, int64_t start,
                         int timeout_ms, int64_t *out_offset, hr_error *err);

/* The offset after the newest record of a slot as last heard, -1: not heard yet. */
int64_t hr_kafka_end(hr_kafka *self, uint32_t index);

/* How many records wait in the queue of a partition, for hr_kafka_take().  Thread: the client's. */
size_t hr_kafka_queued(hr_kafka *self, uint32_t index);

/* Asks the leader of a slot for its offsets, so that the client's thread for that broker wakes and
 * looks whether it should fetch. Blocks at most timeout_ms. false: no answer.  Thread: the
 * client's. */
bool hr_kafka_nudge(hr_kafka *self, uint32_t index, int timeout_ms);

/* What the group committed with the offset of a partition; "" when nothing. Blocks at most
 * timeout_ms. Errors: HR_E_PEER_DOWN. */
hr_code hr_kafka_noted(hr_kafka *self, const char *topic, int32_t partition, int timeout_ms,
                       char out_note[HR_KAFKA_NOTE_BYTES], hr_error *err);

/* How many partitions a topic has now. Blocks at most timeout_ms. Errors: HR_E_PEER_DOWN. */
hr_code hr_kafka_width(hr_kafka *self, const char *topic, int timeout_ms, int32_t *out_count,
                       hr_error *err);

/* Commits offsets (the next to be read) with their notes for the group; wait_ms 0: in the
 * background. Slots are of the present assignment. Errors: HR_E_PEER_REFUSED with librdkafka's
 * words. */
hr_code hr_kafka_commit(hr_kafka *self, const uint32_t *slots, const int64_t *offsets,
                        const char *const *notes, size_t count, int wait_ms, hr_error *err);

/* Leaves the assignment and joins the group anew, in one of the next hr_kafka_serve(). */
void hr_kafka_rejoin(hr_kafka *self);

/* Can a broker be reached now? Blocks at most timeout_ms. */
bool hr_kafka_probe(hr_kafka *client, int timeout_ms);

/* The cluster's own id; NULL when not known in time. Free with hr_free(). */
char *hr_kafka_cluster(hr_kafka *self, int timeout_ms);

/* Leaves (a static member stays a member for its session). revoked() has been called or is called
 * now. false: librdkafka did not finish in time; the client is then leaked, not freed. */
bool hr_kafka_close(hr_kafka *take_client, int timeout_ms);

/* The version of librdkafka, which a client has loaded: 0x020002ff is 2.0.2. */
int hr_kafka_version(void);

#endif
