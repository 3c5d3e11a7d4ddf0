/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/kafka.h"

#include "core/log.h"
#include "core/memory.h"
#include "triggers/registry.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

static kafka_trigger *of(hr_trigger *trigger) {
    return (kafka_trigger *)trigger;
}

void kafka_wake(kafka_trigger *self) {
    const uint64_t one = 1;
    ssize_t written = write(self->wake_fd, &one, sizeof one);
    (void)written; /* full: it wakes anyway */
}

/* ---- from the thread ---- */

static void answer(kafka_trigger *self, bool is_refused) {
    pthread_mutex_lock(&self->lock);
    self->is_answered = true;
    self->is_refused = is_refused;
    pthread_cond_broadcast(&self->answered);
    pthread_mutex_unlock(&self->lock);
}

static void list(kafka_trigger *self, kafka_partition *p) {
    if (!p->is_listed) {
        p->is_listed = true;
        self->listed = hr_realloc(self->listed, (self->listed_count + 1) * sizeof *self->listed);
        self->listed[self->listed_count++] = p;
    }
}

static void assign(kafka_trigger *self, const kafka_message *message) {
    if (atomic_load(&self->is_stopping)) {
        for (size_t i = 0; i < message->count; i++) {
            message->partitions[i]->feed = 0;
        }
        answer(self, true);
        return;
    }
    bool is_refused = false;
    for (size_t i = 0; i < message->count; i++) {
        kafka_partition *p = message->partitions[i];
        atomic_store(&p->credit, 0);
        atomic_store(&p->low, 0);
        p->feed = self->trigger.host->assign(&self->trigger, p->identity, &p->known);
        is_refused = is_refused || p->feed == 0;
        if (p->feed != 0) {
            list(self, p);
        }
    }
    answer(self, is_refused);
}

static void on_revoked(void *data) {
    kafka_partition *p = data;
    kafka_trigger *self = p->owner;
    p->feed = 0;
    pthread_mutex_lock(&self->lock);
    atomic_store(&p->is_revoking, false);
    pthread_cond_broadcast(&self->answered);
    pthread_mutex_unlock(&self->lock);
}

static void give_back(kafka_trigger *self, const kafka_message *message) {
    size_t count = message->count; /* the thread may go on when the last is done */
    kafka_partition **own = hr_alloc_array(count + 1, sizeof *own);
    memcpy(own, message->partitions, count * sizeof *own);
    answer(self, false);
    for (size_t i = 0; i < count; i++) {
        if (own[i]->feed == 0) {
            on_revoked(own[i]);
        } else {
            self->trigger.host->revoke(&self->trigger, own[i]->feed, on_revoked, own[i]);
        }
    }
    hr_free(own);
}

void kafka_on_message(hr_message *head) {
    kafka_message *message = (kafka_message *)head;
    kafka_trigger *self = message->owner;
    hr_trigger *trigger = &self->trigger;
    const hr_trigger_host *host = trigger->host;
    switch (message->word) {
    case KAFKA_ASSIGN:
        assign(self, message);
        break;
    case KAFKA_BEGIN:
        host->begin(trigger, message->partition->feed, message->position);
        break;
    case KAFKA_DELIVER:
        host->deliver(trigger, message->batch);
        break;
    case KAFKA_REJECT:
        atomic_fetch_sub(&self->rejects, 1);
        host->reject(trigger, hr_slice_of(message->raw.bytes, message->raw.size), message->text, 0);
        break;
    case KAFKA_REVOKE:
        give_back(self, message);
        break;
    case KAFKA_STATE:
        host->state(trigger, message->up, message->text);
        break;
    case KAFKA_LAG:
        host->gauge(trigger, "lag", message->number);
        break;
    case KAFKA_STOPPED:
        break;
    }
    bool is_last = message->word == KAFKA_STOPPED;
    hr_buffer_fini(&message->raw);
    hr_free(message->text);
    hr_free(message);
    if (is_last) {
        host->stopped(trigger);
    }
}

/* ---- the slots of the table ---- */

static void read_topics(kafka_trigger *self, const hr_node *config) {
    const hr_node *cursor = NULL;
    size_t count = 0;
    for (const char *topic; (topic = hr_node_each_text(config, "topics", &cursor)) != NULL;) {
        self->topics = hr_realloc(self->topics, (count + 1) * sizeof *self->topics);
        self->topics[count++] = hr_copy_text(topic);
    }
    self->options.topic_count = count;
    self->options.topics = (const char *const *)self->topics;
}

static hr_code kafka_init(hr_trigger *trigger, hr_error *err) {
    kafka_trigger *self = of(trigger);
    const hr_node *config = trigger->kind_config;
    self->wake_fd = -1;
    pthread_mutex_init(&self->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->answered, &monotonic);
    pthread_condattr_destroy(&monotonic);
    hr_kafka_config_read(config, trigger->name, &self->config, &self->options);
    read_topics(self, config);
    if (self->config.brokers[0] == '\0' || self->options.topic_count == 0) {
        return hr_fail(err, HR_E_CONFIG, 0, "`brokers` and `topics` are needed");
    }
    const char *group = hr_node_text(config, "group", NULL);
    self->group = group == NULL ? hr_format("headrace.%s", trigger->name) : hr_copy_text(group);
    self->instance_id = hr_format("headrace-%s-%s", trigger->store_id, trigger->name);
    self->start = hr_node_number(config, "start", HR_KAFKA_EARLIEST);
    self->format = self->packer.format = hr_kafka_format_of(hr_node_text(config, "format", NULL));
    self->options.group = self->group;
    self->options.instance_id = self->instance_id;
    return HR_OK;
}

static hr_code kafka_start(hr_trigger *trigger, hr_error *err) {
    kafka_trigger *self = of(trigger);
    self->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->wake_fd < 0) {
        return hr_fail(err, HR_E_IO, errno, "eventfd: %s", strerror(errno));
    }
    self->options.wake_fd = self->wake_fd;
    return kafka_source_start(self, err);
}

static kafka_partition *find(const kafka_trigger *self, uint32_t feed) {
    for (size_t i = 0; i < self->listed_count; i++) {
        if (self->listed[i]->feed == feed) {
            return self->listed[i];
        }
    }
    return NULL;
}

static void kafka_want(hr_trigger *trigger, uint32_t feed, uint32_t events) {
    kafka_partition *p = find(of(trigger), feed);
    if (p != NULL) {
        atomic_fetch_add(&p->credit, events);
        kafka_wake(p->owner);
    }
}

static void kafka_settled(hr_trigger *trigger, uint32_t feed, uint64_t low) {
    kafka_partition *p = find(of(trigger), feed);
    if (p != NULL) {
        atomic_store(&p->low, low); /* committed by the thread's next tick */
    }
}

static hr_code kafka_emit(hr_trigger *trigger, hr_slice raw, const hr_node *options,
                          hr_builder *out, hr_error *err) {
    static _Atomic uint32_t count;
    kafka_trigger *self = of(trigger);
    const char *topic = hr_node_text(options, "topic", self->topics[0]);
    const char *key = hr_node_text(options, "key", NULL);
    hr_kafka_origin origin;
    hr_kafka_origin_init(&origin, trigger->name, topic, 0);
    hr_free(origin.id_prefix); /* no offset of the topic: an id that no record has */
    origin.id_prefix = hr_format("%s/emit/%u/", topic, atomic_fetch_add(&count, 1));
    hr_kafka_record record = {.offset = hr_real_us(),
                              .time_ms = hr_real_us() / 1000,
                              .key = hr_slice_text(key),
                              .value = raw,
                              .has_key = key != NULL,
                              .has_value = true};
    hr_kafka_packer packer = {.format = self->format};
    hr_kafka_header header = {.name = hr_slice_text("content-type"),
                              .value = hr_slice_text(hr_node_text(options, "content_type", ""))};
    if (header.value.size > 0) {
        record.headers = &header;
        record.header_count = 1;
    }
    hr_code code = hr_kafka_pack(&packer, &origin, &record, out->count, out, err);
    hr_kafka_packer_fini(&packer);
    hr_kafka_origin_fini(&origin);
    return code;
}

static void kafka_stop(hr_trigger *trigger) {
    kafka_trigger *self = of(trigger);
    atomic_store(&self->is_stopping, true);
    if (self->has_thread) {
        kafka_wake(self);
    } else {
        trigger->host->stopped(trigger);
    }
}

static void kafka_fini(hr_trigger *trigger) {
    kafka_trigger *self = of(trigger);
    if (self->config.brokers == NULL) {
        return; /* init never ran */
    }
    kafka_source_fini(self);
    if (self->wake_fd >= 0) {
        close(self->wake_fd);
    }
    for (size_t i = 0; i < self->options.topic_count; i++) {
        hr_free(self->topics[i]);
    }
    hr_free(self->topics);
    hr_free(self->listed);
    hr_kafka_config_fini(&self->config);
    hr_free(self->group);
    hr_free(self->instance_id);
    pthread_cond_destroy(&self->answered);
    pthread_mutex_destroy(&self->lock);
}

static hr_code kafka_load(const hr_node *kind_config, hr_error *err) {
    (void)kind_config;
    return hr_kafka_load(err);
}

const hr_trigger_ops hr_kafka_ops = {.kind = "kafka",
                                     .object_size = sizeof(kafka_trigger),
                                     .load = kafka_load,
                                     .init = kafka_init,
                                     .start = kafka_start,
                                     .want = kafka_want,
                                     .settled = kafka_settled,
                                     .emit = kafka_emit,
                                     .stop = kafka_stop,
                                     .fini = kafka_fini};
