/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of the trigger "kafka": it alone speaks with the client. */
#include "triggers/kafka.h"

#include "core/crash.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/mutant.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    IDLE_MS = 500,
    REVOKE_WAIT_MS = 6000,
    BUSY_WAIT_MS = 10000, /* a former revocation of the same partition still runs */
    COMMIT_WAIT_MS = 3000,
    DRY_MS = 20,
    NUDGE_WAIT_MS = 100,
    RESOLVE_WAIT_MS = 5000,
    CLOSE_WAIT_MS = 5000,
    AGAIN_MS = 2000, /* between attempts with a new client after a fatal error */
    REJECTS_MAX = 4096
};

static const uint64_t second = UINT64_C(1000000000);

/* ---- to the loop ---- */

static kafka_message *message_of(kafka_trigger *self, kafka_word word) {
    kafka_message *message = hr_alloc(sizeof *message);
    message->head.run = kafka_on_message;
    message->owner = self;
    message->word = word;
    return message;
}

static void post(kafka_message *take_message) {
    hr_loop_post(take_message->owner->trigger.loop, &take_message->head);
}

/* Posts and waits until the loop has answered. false: refused. */
static bool call(kafka_trigger *self, kafka_word word, kafka_partition **partitions, size_t count) {
    kafka_message *message = message_of(self, word);
    message->partitions = partitions;
    message->count = count;
    pthread_mutex_lock(&self->lock);
    self->is_answered = false;
    pthread_mutex_unlock(&self->lock);
    post(message);
    pthread_mutex_lock(&self->lock);
    while (!self->is_answered) {
        pthread_cond_wait(&self->answered, &self->lock);
    }
    bool is_refused = self->is_refused;
    pthread_mutex_unlock(&self->lock);
    return !is_refused;
}

/* Waits until none of the partitions is being revoked. false: not in time. */
static bool wait_revoked(kafka_trigger *self, kafka_partition **partitions, size_t count,
                         int wait_ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    bool is_late = false;
    pthread_mutex_lock(&self->lock);
    for (size_t i = 0; i < count && !is_late;) {
        if (!atomic_load(&partitions[i]->is_revoking)) {
            i++;
        } else {
            is_late = pthread_cond_timedwait(&self->answered, &self->lock, &until) != 0;
        }
    }
    pthread_mutex_unlock(&self->lock);
    return !is_late;
}

/* ---- state ---- */

static void say(kafka_trigger *self, hr_trigger_up up, const char *reason) {
    const char *text = reason == NULL ? "" : reason;
    if (self->up == up && strcmp(self->reason, text) == 0) {
        return;
    }
    self->up = up;
    snprintf(self->reason, sizeof self->reason, "%s", text);
    kafka_message *message = message_of(self, KAFKA_STATE);
    message->up = up;
    message->text = reason == NULL ? NULL : hr_copy_text(self->reason);
    post(message);
}

/* Is the address in an error that of a broker nobody configured? */
static bool is_advertised(const kafka_trigger *self, const char *text) {
    const char *at = strstr(text, "://");
    at = at == NULL ? text : at + 3;
    size_t size = strcspn(at, "/");
    if (at[size] == '\0' || size == 0 || size > 255 || memchr(at, ':', size) == NULL ||
        strncmp(at + size, "/bootstrap", 10) == 0) {
        return false;
    }
    char address[256];
    memcpy(address, at, size);
    address[size] = '\0';
    return strchr(address, ' ') == NULL && strstr(self->config.brokers, address) == NULL;
}

static void on_trouble(void *data, hr_kafka_trouble kind, const char *text) {
    kafka_trigger *self = data;
    const char *mechanism = self->options.mechanism;
    char full[HR_ERROR_TEXT_BYTES * 2];
    snprintf(full, sizeof full, "%s", text);
    switch (kind) {
    case HR_KAFKA_UNREACHABLE:
        if (self->is_joined && self->up != HR_TRIGGER_DOWN) {
            return; /* others remain, or ALL_DOWN follows */
        }
        break;
    case HR_KAFKA_ALL_DOWN:
        break;
    case HR_KAFKA_REFUSED:
        if (mechanism != NULL && strncmp(mechanism, "SCRAM", 5) == 0 &&
            hr_kafka_version() < 0x020601ff) {
            snprintf(full, sizeof full,
                     "%s (librdkafka before 2.6.1 cannot log in by SCRAM to Kafka 4.x even with "
                     "the right password: use a newer librdkafka, or PLAIN over TLS)",
                     text);
        }
        break;
    case HR_KAFKA_MISSING_TOPIC:
        self->is_missing = true;
        break;
    case HR_KAFKA_FATAL:
        self->is_fatal = true;
        break;
    case HR_KAFKA_OTHER:
        hr_log(HR_LOG_WARN, self->trigger.name, "%s", text);
        return;
    }
    if ((kind == HR_KAFKA_UNREACHABLE || kind == HR_KAFKA_ALL_DOWN) && is_advertised(self, text)) {
        snprintf(full, sizeof full,
                 "%s (this address is not in `brokers`: it is what the broker tells its clients, "
                 "advertised.listeners, and must be reachable from here)",
                 text);
    }
    say(self, HR_TRIGGER_DOWN, full);
}

/* ---- the assignment ---- */

static kafka_partition *partition_of(kafka_trigger *self, const hr_kafka_place *place) {
    for (size_t i = 0; i < self->known_count; i++) {
        kafka_partition *p = self->known[i];
        if (p->number == place->partition && strcmp(p->origin.topic, place->topic) == 0) {
            return p;
        }
    }
    kafka_partition *p = hr_alloc(sizeof *p);
    p->owner = self;
    p->number = place->partition;
    hr_kafka_origin_init(&p->origin, self->trigger.name, place->topic, place->partition);
    self->known = hr_realloc(self->known, (self->known_count + 1) * sizeof *self->known);
    self->known[self->known_count++] = p;
    return p;
}

/* A topic made anew has offsets of its own, so it is a feed of its own. */
static void name_life(const kafka_trigger *self, kafka_partition *p) {
    char life[16] = "";
    if (p->life > 0) {
        snprintf(life, sizeof life, "~%u", p->life);
    }
    hr_free(p->identity);
    p->identity = hr_format("%s/%s/%s/%d%s", self->cluster, self->group, p->origin.topic,
                            (int)p->number, life);
}

static uint32_t takers_of(const kafka_trigger *self) {
    return (uint32_t)(self->trigger.takers ^ self->trigger.takers >> 32);
}

static void write_note(kafka_partition *p) {
    snprintf(p->note, sizeof p->note, "headrace1 life=%u base=%u width=%u takers=%u", p->life,
             p->base, p->width, takers_of(p->owner));
}

typedef struct group_note {
    uint32_t life, base, width, takers;
} group_note;

/* false: the note is of another program, or none. */
static bool read_note(const char *note, group_note *out) {
    static const char *const names[] = {"headrace1 life=", " base=", " width=", " takers="};
    uint32_t *const outs[] = {&out->life, &out->base, &out->width, &out->takers};
    const char *at = note;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t size = strlen(names[i]);
        char *end = NULL;
        if (strncmp(at, names[i], size) != 0) {
            return false;
        }
        unsigned long number = strtoul(at + size, &end, 10);
        if (end == at + size || number > UINT32_MAX) {
            return false;
        }
        *outs[i] = (uint32_t)number;
        at = end;
    }
    return true;
}

/* What the group knows of this partition; an older life's offset means nothing. */
static void read_group(const kafka_trigger *self, kafka_partition *p, hr_kafka_place *place) {
    group_note note = {0};
    bool is_ours = read_note(place->note, &note);
    p->width = is_ours ? note.width : 0;
    p->is_other_set = is_ours && note.takers != takers_of(self);
    p->is_reborn = p->life > (is_ours ? note.life : 0);
    if (p->is_reborn) {
        place->offset = HR_KAFKA_NO_OFFSET;
    } else if (is_ours) {
        p->life = note.life;
        p->base = note.base;
    }
    name_life(self, p);
    write_note(p);
}

/* S17: the larger of what the store and the group know; but an offset that was committed for
 * another set of functions says nothing of ours, so what the store knows holds. */
static void start_from_known(const kafka_trigger *self, const kafka_partition *p,
                             hr_kafka_place *place) {
    if (p->known == UINT64_MAX || p->known < 1) {
        return;
    }
    int64_t own = (int64_t)(p->known - 1);
    if (p->is_other_set && own < place->offset) {
        hr_log(HR_LOG_WARN, self->trigger.name,
               "%s/%d: the group's offset %lld was committed for another set of functions; reading "
               "goes on at our own checkpoint, %lld",
               p->origin.topic, (int)p->number, (long long)place->offset, (long long)own);
    }
    if (p->is_other_set || own > place->offset) {
        place->offset = own;
    }
}

/* A partition that appeared later is read from its beginning: another of its topic is known. */
static bool is_late(const hr_kafka_place *places, const bool *is_new, size_t count, size_t index) {
    for (size_t i = 0; i < count; i++) {
        if (!is_new[i] && strcmp(places[i].topic, places[index].topic) == 0) {
            return true;
        }
    }
    return false;
}

/* How many partitions the topic had when the group began with it: what partition 0 was committed
 * with, whoever owns it; as many as there are now when the group begins only now. */
static hr_code find_base(kafka_trigger *self, kafka_partition *p, hr_error *err) {
    char note[HR_KAFKA_NOTE_BYTES];
    group_note known = {0};
    int32_t width = 0;
    hr_code code = hr_kafka_noted(self->client, p->origin.topic, 0, RESOLVE_WAIT_MS, note, err);
    if (code == HR_OK && read_note(note, &known) && known.base > 0) {
        p->base = known.base;
    } else if (code == HR_OK) {
        code = hr_kafka_width(self->client, p->origin.topic, RESOLVE_WAIT_MS, &width, err);
        p->base = (uint32_t)width;
    }
    return code;
}

static hr_code find_start(kafka_trigger *self, hr_kafka_place *place, kafka_partition *p,
                          bool is_late, hr_error *err) {
    hr_code code = find_base(self, p, err);
    if (code != HR_OK) {
        return code;
    }
    write_note(p);
    is_late = is_late || p->is_reborn || (uint32_t)p->number >= p->base;
    code = hr_kafka_resolve(self->client, place->topic, place->partition,
                            is_late ? HR_KAFKA_EARLIEST : self->start, RESOLVE_WAIT_MS,
                            &place->offset, err);
    place->is_start = true;
    snprintf(place->note, sizeof place->note, "%s", p->note);
    return code;
}

static bool resolve(kafka_trigger *self, hr_kafka_place *places, size_t count) {
    hr_error err = {0};
    bool *is_new = hr_alloc_array(count + 1, sizeof *is_new);
    for (size_t i = 0; i < count; i++) {
        start_from_known(self, self->active[i], &places[i]);
        is_new[i] = places[i].offset < 0;
    }
    bool is_done = true;
    for (size_t i = 0; i < count && is_done; i++) {
        if (is_new[i]) {
            is_done = find_start(self, &places[i], self->active[i],
                                 is_late(places, is_new, count, i), &err) == HR_OK;
        }
    }
    if (!is_done) {
        hr_log(HR_LOG_WARN, self->trigger.name, "where to start cannot be asked: %s", err.text);
    }
    hr_free(is_new);
    return is_done;
}

static void settle(kafka_trigger *self) {
    for (size_t i = 0; i < self->active_count; i++) {
        atomic_store(&self->active[i]->is_revoking, true);
    }
    call(self, KAFKA_REVOKE, self->active, self->active_count);
    if (!wait_revoked(self, self->active, self->active_count, REVOKE_WAIT_MS)) {
        hr_log(HR_LOG_WARN, self->trigger.name,
               "partitions were given away before all was settled");
    }
}

static int32_t width_of(kafka_trigger *self, const char *topic) {
    hr_error err = {0};
    int32_t width = 0;
    if (hr_kafka_width(self->client, topic, RESOLVE_WAIT_MS, &width, &err) != HR_OK) {
        hr_log(HR_LOG_WARN, self->trigger.name, "how many partitions %s has is not known: %s",
               topic, err.text);
    }
    return width;
}

/* A static member that comes back is given its former assignment: partitions that were added while
 * it was away belong to nobody until somebody joins anew. */
static void look_for_growth(kafka_trigger *self) {
    const char *topic = "";
    uint32_t width = 0;
    for (size_t i = 0; i < self->active_count; i++) { /* those of a topic stand together */
        kafka_partition *p = self->active[i];
        if (strcmp(topic, p->origin.topic) != 0) {
            topic = p->origin.topic;
            width = (uint32_t)width_of(self, topic);
        }
        if (p->width > 0 && p->width < width && width > self->asked_width) {
            hr_log(HR_LOG_INFO, self->trigger.name,
                   "%s has grown from %u to %u partitions: the group is joined anew", topic,
                   p->width, width);
            self->asked_width = width;
            hr_kafka_rejoin(self->client);
        }
        p->width = width;
        write_note(p);
    }
}

static bool on_assigned(void *data, hr_kafka_place *places, size_t count) {
    kafka_trigger *self = data;
    if (self->cluster == NULL) {
        self->cluster = hr_kafka_cluster(self->client, RESOLVE_WAIT_MS);
    }
    if (self->cluster == NULL || atomic_load(&self->is_stopping)) {
        return false;
    }
    self->active = hr_realloc(self->active, (count + 1) * sizeof *self->active);
    for (size_t i = 0; i < count; i++) {
        self->active[i] = partition_of(self, &places[i]);
    }
    if (!wait_revoked(self, self->active, count, BUSY_WAIT_MS)) {
        return false;
    }
    self->active_count = count;
    for (size_t i = 0; i < count; i++) {
        read_group(self, self->active[i], &places[i]);
    }
    bool is_ours = count == 0 || call(self, KAFKA_ASSIGN, self->active, count);
    if (!is_ours || !resolve(self, places, count)) {
        settle(self);
        self->active_count = 0;
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        kafka_partition *p = self->active[i];
        p->next = places[i].offset;
        p->committed = -1;
        p->is_reborn = false;
        atomic_store(&p->low, (uint64_t)places[i].offset + 1);
        kafka_message *message = message_of(self, KAFKA_BEGIN);
        message->partition = p;
        message->position = (uint64_t)places[i].offset + 1;
        post(message);
    }
    look_for_growth(self);
    self->is_joined = true;
    self->is_missing = self->is_missing && count == 0;
    self->commit_ns = self->gauge_ns = 0;
    if (!self->is_missing) {
        say(self, HR_TRIGGER_UP, NULL);
    }
    return true;
}

/* Commits what is settled and not yet committed; all of it when there is time to wait. */
static void commit(kafka_trigger *self, int wait_ms) {
    uint32_t *slots = hr_alloc_array(self->active_count + 1, sizeof *slots);
    int64_t *offsets = hr_alloc_array(self->active_count + 1, sizeof *offsets);
    const char **notes = hr_alloc_array(self->active_count + 1, sizeof *notes);
    size_t count = 0;
    for (size_t i = 0; i < self->active_count; i++) {
        kafka_partition *p = self->active[i];
        uint64_t low = atomic_load(&p->low);
        int64_t offset = low == 0 ? -1 : (int64_t)(low - 1);
        if (HR_MUTANT("offset-before-handler")) {
            offset = p->next;
        }
        if (offset >= 0 && !p->is_reborn && (wait_ms > 0 || offset > p->committed)) {
            slots[count] = (uint32_t)i;
            notes[count] = p->note;
            offsets[count++] = offset;
            p->committed = offset;
        }
    }
    hr_error err = {0};
    if (count > 0) {
        HR_CRASH_POINT("kafka.before-offset");
        if (hr_kafka_commit(self->client, slots, offsets, notes, count, wait_ms, &err) != HR_OK) {
            hr_log(HR_LOG_WARN, self->trigger.name, "the group's offsets were not committed: %s",
                   err.text);
        }
        HR_CRASH_POINT("kafka.after-offset");
    }
    hr_free(slots);
    hr_free(offsets);
    hr_free(notes);
}

static void on_revoked(void *data, bool is_lost) {
    kafka_trigger *self = data;
    if (self->active_count > 0) {
        settle(self);
        if (!is_lost && !self->is_fatal) {
            commit(self, COMMIT_WAIT_MS);
        }
    }
    self->active_count = 0;
    self->is_joined = false;
}

static bool on_lost(void *data, uint32_t slot, int64_t wanted, int64_t offset) {
    kafka_trigger *self = data;
    kafka_partition *p = self->active[slot];
    if (wanted < offset) {
        hr_log(HR_LOG_ERROR, self->trigger.name,
               "%s/%d: the records from %lld to %lld were deleted before they were read; reading "
               "goes on after them",
               p->origin.topic, (int)p->number, (long long)wanted, (long long)(offset - 1));
        return true;
    }
    hr_log(HR_LOG_WARN, self->trigger.name,
           "%s/%d: offset %lld is beyond the end, %lld: the topic was shortened or made anew; it "
           "is read again from its oldest record",
           p->origin.topic, (int)p->number, (long long)wanted, (long long)offset);
    p->life++;
    p->base = 0;
    p->is_reborn = true;
    return false;
}

/* ---- records ---- */

static void flush(kafka_trigger *self, kafka_partition *p) {
    hr_batch *batch = hr_builder_finish(&self->builder, p->feed, hr_real_us());
    if (batch == NULL) {
        return;
    }
    uint32_t credit = atomic_load(&p->credit), less;
    do {
        less = credit > batch->count ? credit - batch->count : 0;
    } while (!atomic_compare_exchange_weak(&p->credit, &credit, less));
    kafka_message *message = message_of(self, KAFKA_DELIVER);
    message->batch = batch;
    post(message);
}

static void on_record(void *data, const hr_kafka_record *record) {
    kafka_trigger *self = data;
    kafka_partition *p = self->packing;
    uint64_t position = (uint64_t)record->offset + 1;
    self->taken_bytes += record->key.size + record->value.size;
    hr_error err = {0};
    hr_code code = hr_kafka_pack(&self->packer, &p->origin, record, position, &self->builder, &err);
    if (code == HR_E_TOO_LARGE) {
        flush(self, p);
        code = hr_kafka_pack(&self->packer, &p->origin, record, position, &self->builder, &err);
    }
    p->next = record->offset + 1;
    if (code != HR_OK) {
        size_t size =
            record->value.size < KAFKA_REJECT_BYTES ? record->value.size : KAFKA_REJECT_BYTES;
        kafka_message *message = message_of(self, KAFKA_REJECT);
        message->text = hr_format("%s/%d/%lld: %s", p->origin.topic, (int)p->number,
                                  (long long)record->offset, err.text);
        hr_buffer_add(&message->raw, record->value.bytes, size);
        atomic_fetch_add(&self->rejects, 1);
        post(message);
    }
}

/* The client's thread for a broker rests up to a second when its queues were full, and does not
 * look whether they still are (librdkafka before 2.2; later that is fetch.queue.backoff.ms). A
 * request to that broker wakes it. */
static void nudge(kafka_trigger *self, kafka_partition *p, uint32_t index, uint64_t now) {
    if (now >= self->nudge_ns) {
        bool is_answered = hr_kafka_nudge(self->client, index, NUDGE_WAIT_MS);
        self->nudge_ns = is_answered ? 0 : now + second; /* it is away: not for each partition */
        p->nudged_ns = now;
    }
}

/* Half a queue was taken and nothing came to it: that thread rests. Before it is dry. */
static void keep_filled(kafka_trigger *self, kafka_partition *p, uint32_t index, uint32_t got) {
    size_t left = hr_kafka_queued(self->client, index);
    p->since_grown = left + got > p->left ? 0 : p->since_grown + self->taken_bytes;
    p->left = left;
    if (p->since_grown >= HR_KAFKA_QUEUE_BYTES / 2 &&
        hr_kafka_end(self->client, index) > p->next + (int64_t)left) {
        p->since_grown = 0;
        nudge(self, p, index, hr_mono_ns());
    }
}

/* Nothing came though records wait at the broker? What is dry for longer than a second has nothing
 * for us: the end of a topic may be markers of transactions, or away. */
static bool is_starved(kafka_trigger *self, kafka_partition *p, uint32_t index) {
    if (hr_kafka_end(self->client, index) <= p->next) {
        p->dry_ns = 0;
        return false;
    }
    uint64_t now = hr_mono_ns();
    if (p->dry_ns == 0) {
        p->dry_ns = p->nudged_ns = now;
    }
    if (now - p->dry_ns > second) {
        return false;
    }
    if (now - p->nudged_ns >= second / 1000 * DRY_MS) {
        nudge(self, p, index, now);
    }
    return true;
}

/* Takes what there is credit for. Returns how long to wait for more. */
static int drain(kafka_trigger *self) {
    int wait_ms = IDLE_MS;
    for (size_t i = 0; i < self->active_count; i++) {
        kafka_partition *p = self->active[i];
        uint32_t credit = atomic_load(&p->credit);
        if (credit == 0 || atomic_load(&self->rejects) > REJECTS_MAX) {
            continue;
        }
        uint32_t max = credit < HR_BATCH_MAX ? credit : HR_BATCH_MAX;
        self->packing = p;
        self->taken_bytes = 0;
        uint32_t got = hr_kafka_take(self->client, (uint32_t)i, max, on_record, self);
        flush(self, p);
        if (got > 0) {
            keep_filled(self, p, (uint32_t)i, got);
            p->dry_ns = 0;
            wait_ms = 0;
        } else if (is_starved(self, p, (uint32_t)i) && wait_ms > DRY_MS) {
            wait_ms = DRY_MS;
        }
    }
    return wait_ms;
}

static void tick(kafka_trigger *self) {
    uint64_t now = hr_mono_ns();
    if (now - self->commit_ns >= second) {
        self->commit_ns = now;
        commit(self, 0);
    }
    if (now - self->gauge_ns >= 2 * second && self->is_joined) {
        self->gauge_ns = now;
        kafka_message *message = message_of(self, KAFKA_LAG);
        for (size_t i = 0; i < self->active_count; i++) {
            uint64_t low = atomic_load(&self->active[i]->low);
            int64_t end = hr_kafka_end(self->client, (uint32_t)i);
            int64_t at = low == 0 ? self->active[i]->next : (int64_t)(low - 1);
            message->number += end > at ? end - at : 0;
        }
        post(message);
    }
    if (self->up == HR_TRIGGER_DOWN && self->is_joined && !self->is_missing &&
        now - self->probe_ns >= second) {
        self->probe_ns = now;
        if (hr_kafka_probe(self->client, 300)) {
            say(self, HR_TRIGGER_UP, NULL);
        }
    }
}

/* ---- the thread ---- */

static void wait_for_work(const kafka_trigger *self, int timeout_ms) {
    struct pollfd fd = {.fd = self->wake_fd, .events = POLLIN};
    if (poll(&fd, 1, timeout_ms) > 0) {
        uint64_t count;
        ssize_t got = read(self->wake_fd, &count, sizeof count);
        (void)got; /* only clears it */
    }
}

static void close_client(kafka_trigger *self) {
    if (self->client != NULL && !hr_kafka_close(self->client, CLOSE_WAIT_MS)) {
        hr_log(HR_LOG_WARN, self->trigger.name, "librdkafka did not close in time; it is left");
    }
    self->client = NULL;
}

/* A consumer with a fatal error (fenced by another of the same id, mostly) never recovers. */
static void start_anew(kafka_trigger *self) {
    close_client(self);
    wait_for_work(self, AGAIN_MS);
    hr_error err = {0};
    if (!atomic_load(&self->is_stopping) &&
        hr_kafka_new(&self->options, &self->callbacks, &self->client, &err) != HR_OK) {
        say(self, HR_TRIGGER_DOWN, err.text);
        return;
    }
    self->is_fatal = false;
}

static void *run(void *data) {
    pthread_setname_np(pthread_self(), "hr-kafka");
    kafka_trigger *self = data;
    while (!atomic_load(&self->is_stopping)) {
        if (self->is_fatal) {
            start_anew(self);
            continue;
        }
        hr_kafka_serve(self->client);
        int wait_ms = drain(self);
        tick(self);
        wait_for_work(self, wait_ms);
    }
    close_client(self);
    post(message_of(self, KAFKA_STOPPED));
    return NULL;
}

hr_code kafka_source_start(kafka_trigger *self, hr_error *err) {
    self->callbacks = (hr_kafka_callbacks){.assigned = on_assigned,
                                           .revoked = on_revoked,
                                           .lost = on_lost,
                                           .trouble = on_trouble,
                                           .data = self};
    hr_code code = hr_kafka_new(&self->options, &self->callbacks, &self->client, err);
    if (code != HR_OK) {
        return code;
    }
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&self->thread, NULL, run, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        close_client(self);
        return hr_fail(err, HR_E_IO, failed, "thread: %s", strerror(failed));
    }
    self->has_thread = true;
    return HR_OK;
}

void kafka_source_fini(kafka_trigger *self) {
    if (self->has_thread) {
        pthread_join(self->thread, NULL);
        self->has_thread = false;
    }
    for (size_t i = 0; i < self->known_count; i++) {
        hr_kafka_origin_fini(&self->known[i]->origin);
        hr_free(self->known[i]->identity);
        hr_free(self->known[i]);
    }
    hr_free(self->known);
    hr_free(self->active);
    hr_free(self->cluster);
    hr_kafka_packer_fini(&self->packer);
    hr_builder_fini(&self->builder);
}
