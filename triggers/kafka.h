/* SPDX-License-Identifier: Apache-2.0 */
/* The trigger "kafka": the loop's side (kafka.c) and its thread's side (kafka_source.c).
 *
 * The thread does everything with the client: it reads, packs and commits, and posts messages to
 * the loop. The loop answers with credit and with what is settled, in atomics of the partition.
 * Rule:  a position of the host is the Kafka offset + 1, since positions start at 1. */
#ifndef HR_TRIGGERS_KAFKA_H
#define HR_TRIGGERS_KAFKA_H

#include "broker/trigger.h"
#include "net/kafka_config.h"
#include "triggers/kafka_record.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct kafka_trigger kafka_trigger;

/* Made by the thread when first assigned, freed with the trigger. */
typedef struct kafka_partition {
    kafka_trigger *owner;
    hr_kafka_origin origin;
    int32_t number;
    char *identity;
    /* the loop's; the thread reads them after its call was answered */
    uint32_t feed;
    uint64_t known;
    bool is_listed;
    /* both sides */
    _Atomic uint32_t credit;
    _Atomic uint64_t low;
    atomic_bool is_revoking;
    /* the thread's */
    int64_t committed;    /* offset last committed, -1: none in this assignment */
    uint64_t dry_ns;      /* since when nothing came though the broker has more; 0: it comes */
    size_t left;          /* records that were left by the last take */
    uint64_t since_grown; /* bytes taken since they became more */
    uint64_t nudged_ns;   /* when its broker was last, or dry_ns */
    int64_t next;         /* offset after the last one read */
    uint32_t life;     /* how often the topic was made anew while the group stood beyond its end */
    uint32_t base;     /* partitions of the topic when the group began with it; 0: not known */
    uint32_t width;    /* partitions of the topic when it was assigned; in the note too */
    bool is_other_set; /* the group's offset was committed for other functions than ours */
    bool is_reborn;    /* made anew: begins at its oldest record, whatever the group knows */
    char note[HR_KAFKA_NOTE_BYTES]; /* committed with the offset: life, base, width, takers */
} kafka_partition;

struct kafka_trigger {
    hr_trigger trigger;
    hr_kafka_options options;
    hr_kafka_callbacks callbacks;
    hr_kafka_format format;
    int64_t start;
    hr_kafka_config config;
    char *group, *instance_id;
    char **topics;
    bool has_thread;
    pthread_t thread;
    int wake_fd;
    atomic_bool is_stopping;
    _Atomic uint32_t rejects; /* posted and not yet taken by the loop */
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool is_answered, is_refused; /* under the lock: the call that the thread waits for */
    /* the loop's: partitions that were ever assigned */
    kafka_partition **listed;
    size_t listed_count;
    /* the thread's */
    hr_kafka *client;
    hr_kafka_packer packer;
    hr_builder builder;
    kafka_partition **known, **active; /* active: by slot */
    size_t known_count, active_count;
    char *cluster;
    bool is_joined, is_fatal, is_missing;
    hr_trigger_up up;
    char reason[HR_ERROR_TEXT_BYTES * 2];
    uint64_t commit_ns, gauge_ns, probe_ns;
    uint64_t nudge_ns; /* no broker is nudged before */
    kafka_partition *packing;
    uint64_t taken_bytes; /* by the last take */
    uint32_t asked_width; /* the widest topic for which the group was joined anew */
};

enum { KAFKA_REJECT_BYTES = 64 << 10 };

typedef enum kafka_word {
    KAFKA_ASSIGN, /* the thread waits for the answer */
    KAFKA_BEGIN,
    KAFKA_DELIVER,
    KAFKA_REJECT,
    KAFKA_REVOKE,
    KAFKA_STATE,
    KAFKA_LAG,
    KAFKA_STOPPED
} kafka_word;

/* From the thread to the loop; carried out in order. */
typedef struct kafka_message {
    hr_message head;
    kafka_trigger *owner;
    kafka_word word;
    kafka_partition **partitions; /* ASSIGN, REVOKE: borrowed while the thread waits */
    size_t count;
    kafka_partition *partition;
    uint64_t position;
    hr_batch *batch;
    hr_trigger_up up;
    int64_t number;
    char *text; /* owned: why, reason */
    hr_buffer raw;
} kafka_message;

/* Runs one message (it begins with head) and frees it.  Thread: loop. */
void kafka_on_message(hr_message *head);

/* Opens the client; errors as hr_kafka_new. Then the thread runs until is_stopping; its last
 * message is KAFKA_STOPPED.  Thread: loop. */
hr_code kafka_source_start(kafka_trigger *self, hr_error *err);

/* Waits for the end of the thread and frees what it made.  Thread: loop. */
void kafka_source_fini(kafka_trigger *self);

/* Lets the thread look again.  Thread: any. */
void kafka_wake(kafka_trigger *self);

#endif
