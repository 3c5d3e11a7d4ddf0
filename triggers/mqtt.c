/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/mqtt.h"

#include "core/envelope.h"
#include "core/json_text.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/time_text.h"
#include "core/utf8.h"
#include "net/mqtt_client.h"
#include "triggers/json_form.h"
#include "triggers/mqtt_topic.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>
#include <sys/random.h>

/* What was offered or rejected and is not yet settled. */
typedef struct open_ticket {
    uint64_t ticket, last_sequence;
    size_t cost;
    uint32_t promised, unpromised; /* messages of QoS 1 and 2, of QoS 0 */
    bool is_refused;
} open_ticket;

typedef struct mqtt_trigger {
    hr_trigger base;
    hr_mqtt_client *client; /* never freed; NULL before start and after stopped */
    hr_mqtt_filter filters[HR_MQTT_TOPICS];
    size_t filter_count;
    hr_mqtt_settings settings;
    hr_builder builder;
    hr_buffer scratch;
    char *source;
    char session[17]; /* hex */
    hr_buffer id;     /* of the message at work; its first id_head bytes are those of all */
    size_t id_head;
    bool takes_retained, is_wanted;
    uint64_t ticket, safe_ticket, emitted;
    uint64_t given;    /* the last sequence seen */
    uint64_t sequence; /* of the last message in the builder, or dropped */
    size_t cost;       /* of what has no ticket yet */
    uint32_t promised, unpromised;
    uint64_t dropped;       /* of QoS 0: nobody sends them again */
    uint64_t sessions_lost; /* by the broker, in this life */
    int64_t lost_us;        /* when the connection went; 0: there was none in this life */
    bool is_up;
    int64_t received_us;
    open_ticket *open;
    size_t open_first, open_count, open_capacity;
} mqtt_trigger;

static mqtt_trigger *of(hr_trigger *self) {
    return (mqtt_trigger *)(void *)self;
}

/* --- configuration --- */

static hr_code add_filters(mqtt_trigger *it, const char *key, hr_error *err) {
    const hr_node *cursor = NULL;
    for (const char *text;
         (text = hr_node_each_text(it->base.kind_config, key, &cursor)) != NULL;) {
        if (it->filter_count == HR_MQTT_TOPICS) {
            return hr_fail(err, HR_E_CONFIG, 0, "more than %d topics", HR_MQTT_TOPICS);
        }
        hr_mqtt_filter *filter = &it->filters[it->filter_count];
        hr_code code = hr_mqtt_filter_init(filter, text, err);
        if (code != HR_OK) {
            return code;
        }
        it->settings.topic[it->filter_count++] = filter->wire;
    }
    it->settings.topic_count = it->filter_count;
    return HR_OK;
}

static uint32_t session_seconds(int64_t ms) {
    int64_t seconds = ms / 1000 + (ms % 1000 > 0);
    return seconds <= 0 ? 0 : seconds >= UINT32_MAX ? UINT32_MAX : (uint32_t)seconds;
}

static hr_code init(hr_trigger *self, hr_error *err) {
    mqtt_trigger *it = of(self);
    const hr_node *config = self->kind_config;
    hr_mqtt_settings *to = &it->settings;
    hr_code code = add_filters(it, "topic", err);
    if (code == HR_OK) {
        code = add_filters(it, "topics", err);
    }
    if (code != HR_OK) {
        return hr_wrap(err, "mqtt '%s'", self->name);
    }
    const hr_node *cursor = NULL;
    for (const char *url; (url = hr_node_each_text(config, "url", &cursor)) != NULL;) {
        if (to->url_count < HR_MQTT_URLS) {
            to->url[to->url_count++] = url;
        }
    }
    if (to->url_count == 0 || it->filter_count == 0) {
        return hr_fail(err, HR_E_CONFIG, 0, "mqtt '%s': no url or no topic", self->name);
    }
    const char *version = hr_node_text(config, "version", "auto");
    const hr_node *tls = hr_node_get(config, "tls");
    int64_t window = hr_node_number(config, "window", 4000);
    to->version = strcmp(version, "5") == 0 ? 5 : strcmp(version, "3.1.1") == 0 ? 3 : 0;
    to->client_id = hr_node_text(config, "client_id", self->name);
    to->username = hr_node_text(config, "username", NULL);
    to->password = hr_node_text(config, "password", NULL);
    to->ca = hr_node_text(tls, "ca", NULL);
    to->cert = hr_node_text(tls, "cert", NULL);
    to->key = hr_node_text(tls, "key", NULL);
    to->verify = hr_node_number(tls, "verify", 1) != 0;
    to->qos = (int)hr_node_number(config, "qos", 1);
    to->session_s = session_seconds(hr_node_number(config, "session", 86400000));
    to->window = window < 1 ? 1 : window > UINT16_MAX ? UINT16_MAX : (uint16_t)window;
    it->takes_retained = hr_node_number(config, "retained", 1) != 0;
    it->is_wanted = true;
    it->source = hr_format("headrace/mqtt/%s", self->name);
    uint64_t random = 0;
    HR_ASSERT(getrandom(&random, sizeof random, 0) == (ssize_t)sizeof random);
    (void)snprintf(it->session, sizeof it->session, "%016" PRIx64, random);
    hr_buffer_print(&it->id, "%.200s-%s-", self->name, it->session);
    it->id_head = it->id.size;
    return HR_OK;
}

/* --- events --- */

static const hr_mqtt_filter *filter_of(const mqtt_trigger *it, hr_slice topic,
                                       hr_mqtt_level *levels, size_t *count) {
    for (size_t i = 0; i < it->filter_count; i++) {
        if (hr_mqtt_filter_match(&it->filters[i], topic, levels, count)) {
            return &it->filters[i];
        }
    }
    *count = 0;
    return NULL;
}

static bool looks_like_json(hr_slice data) {
    size_t at = 0;
    while (at < data.size &&
           (data.bytes[at] == ' ' || (data.bytes[at] >= '\t' && data.bytes[at] <= '\r'))) {
        at++;
    }
    return at < data.size && strchr("{[-0123456789", data.bytes[at]) != NULL &&
           data.bytes[at] != '\0' && hr_json_is_formed(data);
}

static bool is_cloudevents_json(hr_slice type) {
    static const char name[] = "application/cloudevents+json";
    return type.size >= sizeof name - 1 &&
           strncasecmp((const char *)type.bytes, name, sizeof name - 1) == 0;
}

static void add_attribute(hr_fields *fields, hr_attribute *all, hr_slice name, hr_slice text) {
    for (size_t i = 0; i < fields->extension_count; i++) {
        if (hr_slice_equal(all[i].name, name)) {
            return;
        }
    }
    enum { OTHERS = 8 }; /* room for the attributes that are fields */
    if (fields->extension_count < HR_ENVELOPE_ATTRIBUTES - OTHERS) {
        all[fields->extension_count++] =
            (hr_attribute){.name = name, .type = HR_ATTRIBUTE_STRING, .text = text};
    }
}

/* User properties that are not fields of their own, in lower case. The names live in scratch, whose
 * room is made before. */
static void add_properties(mqtt_trigger *it, const hr_mqtt_message *message, hr_fields *fields,
                           hr_attribute *all) {
    static const char *const fixed[] = {"subject",      "time", "datacontenttype", "dataschema",
                                        "partitionkey", "qos",  "retained"};
    size_t room = 0;
    for (size_t i = 0; i < message->property_count; i++) {
        room += message->properties[i].name.size;
    }
    it->scratch.size = 0;
    (void)hr_buffer_room(&it->scratch, room + 1);
    for (size_t i = 0; i < message->property_count; i++) {
        hr_slice name = message->properties[i].name, value = message->properties[i].value;
        if (hr_slice_is(name, "id") && value.size > 0) {
            fields->id = value;
        } else if (hr_slice_is(name, "type") && value.size > 0) {
            fields->type = value;
        }
        uint8_t *lower = it->scratch.bytes + it->scratch.size;
        for (size_t k = 0; k < name.size; k++) {
            uint8_t c = name.bytes[k];
            lower[k] = c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
        }
        it->scratch.size += name.size;
        name = hr_slice_of(lower, name.size);
        bool is_free = hr_attribute_name_is_valid(name) && hr_utf8_is_text(value) &&
                       value.size <= HR_ATTRIBUTE_VALUE_MAX;
        for (size_t k = 0; is_free && k < sizeof fixed / sizeof fixed[0]; k++) {
            is_free = !hr_slice_is(name, fixed[k]);
        }
        if (is_free) {
            add_attribute(fields, all, name, value);
        }
    }
}

static hr_code pack_structured(mqtt_trigger *it, const hr_mqtt_message *message,
                               const hr_mqtt_level *levels, size_t level_count, hr_builder *out,
                               hr_error *err) {
    it->scratch.size = 0;
    hr_code code = hr_envelope_from_json(message->payload, &it->scratch, err);
    if (code != HR_OK) {
        return code;
    }
    hr_slice packed = hr_slice_of(it->scratch.bytes, it->scratch.size);
    hr_attribute found;
    bool has_key = hr_envelope_attribute(packed, "partitionkey", &found);
    for (size_t i = 0; i < level_count; i++) {
        char *name = hr_copy_bytes(levels[i].name.bytes, levels[i].name.size);
        hr_envelope_append_text(&it->scratch, name, levels[i].value);
        hr_free(name);
    }
    if (!has_key) {
        hr_envelope_append_text(&it->scratch, "partitionkey", message->topic);
    }
    return hr_builder_add(out, out->count, hr_slice_of(it->scratch.bytes, it->scratch.size), err);
}

static hr_code pack(mqtt_trigger *it, const hr_mqtt_message *message, hr_slice id,
                    const hr_mqtt_level *levels, size_t level_count, hr_builder *out,
                    hr_error *err) {
    hr_attribute all[HR_ENVELOPE_ATTRIBUTES];
    if (!hr_utf8_is_text(message->topic)) {
        return hr_fail(err, HR_E_MALFORMED, 0, "the topic is not UTF-8");
    }
    if (message->payload.size > HR_ENVELOPE_MAX) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "a payload of %zu bytes, at most %d",
                       message->payload.size, HR_ENVELOPE_MAX);
    }
    if (is_cloudevents_json(message->content_type)) {
        return pack_structured(it, message, levels, level_count, out, err);
    }
    hr_fields fields = {.id = id,
                        .source = hr_slice_text(it->source),
                        .type = hr_slice_text("mqtt.message"),
                        .subject = message->topic,
                        .content_type = message->content_type,
                        .partition_key = message->topic,
                        .time_us = message->received_us,
                        .data = message->payload,
                        .has_data = true,
                        .extensions = all};
    if (fields.content_type.size == 0) {
        fields.content_type = hr_slice_text(
            looks_like_json(message->payload) ? "application/json" : "application/octet-stream");
    } else if (hr_content_type_is_json(fields.content_type) &&
               !hr_json_is_formed(message->payload)) {
        return hr_fail(err, HR_E_MALFORMED, 0, "the payload says it is JSON and is not");
    }
    for (size_t i = 0; i < level_count; i++) {
        add_attribute(&fields, all, levels[i].name, levels[i].value);
    }
    all[fields.extension_count++] = (hr_attribute){
        .name = hr_slice_text("qos"), .type = HR_ATTRIBUTE_INTEGER, .number = message->qos};
    if (message->is_retained) {
        all[fields.extension_count++] = (hr_attribute){
            .name = hr_slice_text("retained"), .type = HR_ATTRIBUTE_BOOLEAN, .number = 1};
    }
    add_properties(it, message, &fields, all);
    return hr_builder_pack(out, out->count, &fields, err);
}

/* --- tickets --- */

static open_ticket *take_ticket(mqtt_trigger *it) {
    if (it->open_first + it->open_count == it->open_capacity) {
        if (it->open_first > it->open_count) {
            memmove(it->open, it->open + it->open_first, it->open_count * sizeof *it->open);
            it->open_first = 0;
        } else {
            it->open_capacity = it->open_capacity == 0 ? 64 : 2 * it->open_capacity;
            it->open = hr_realloc(it->open, it->open_capacity * sizeof *it->open);
        }
    }
    open_ticket *open = &it->open[it->open_first + it->open_count++];
    *open = (open_ticket){.ticket = ++it->ticket,
                          .last_sequence = it->sequence,
                          .cost = it->cost,
                          .promised = it->promised,
                          .unpromised = it->unpromised};
    it->cost = 0;
    it->promised = it->unpromised = 0;
    return open;
}

static void offer(mqtt_trigger *it) {
    hr_batch *batch = hr_builder_finish(&it->builder, 0, it->received_us);
    if (batch != NULL) {
        uint64_t ticket = take_ticket(it)->ticket;
        it->base.host->offer(&it->base, batch, ticket);
    }
}

/* Pops what is settled at the front; false: nothing is. */
static bool settle(mqtt_trigger *it, uint64_t *out_sequence, size_t *out_cost) {
    *out_cost = 0;
    *out_sequence = 0;
    while (it->open_count > 0) {
        const open_ticket *open = &it->open[it->open_first];
        if (open->ticket > it->safe_ticket && !open->is_refused) {
            break;
        }
        *out_sequence = open->last_sequence;
        *out_cost += open->cost;
        it->open_first++;
        it->open_count--;
    }
    if (it->open_count == 0) {
        it->open_first = 0;
    }
    return *out_sequence > 0;
}

/* It goes with the next ticket. */
static void count(mqtt_trigger *it, const hr_mqtt_message *message) {
    it->sequence = message->sequence;
    it->cost += message->cost;
    *(message->qos == 0 ? &it->unpromised : &it->promised) += 1;
}

static void take_one(mqtt_trigger *it, const hr_mqtt_message *message) {
    hr_error err = {0};
    hr_mqtt_level levels[HR_MQTT_LEVELS];
    size_t level_count = 0;
    /* A filter of former times may live on in the session. */
    bool is_ours = filter_of(it, message->topic, levels, &level_count) != NULL &&
                   (it->takes_retained || !message->is_retained);
    if (is_ours) {
        it->id.size = it->id_head;
        hr_buffer_add_number(&it->id, message->sequence);
        hr_slice id = hr_slice_of(it->id.bytes, it->id.size);
        it->received_us = message->received_us;
        hr_code code = pack(it, message, id, levels, level_count, &it->builder, &err);
        if (code == HR_E_TOO_LARGE && it->builder.count > 0) {
            offer(it);
            code = pack(it, message, id, levels, level_count, &it->builder, &err);
        }
        if (code != HR_OK) {
            offer(it);
            count(it, message);
            uint64_t ticket = take_ticket(it)->ticket;
            it->base.host->reject(&it->base, message->payload, err.text, ticket);
            return;
        }
        count(it, message);
    } else {
        it->sequence = message->sequence;
        it->cost += message->cost;
    }
}

static void take_messages(void *data, hr_mqtt_message *take_list) {
    mqtt_trigger *it = data;
    while (take_list != NULL) {
        hr_mqtt_message *next = take_list->next;
        it->given = take_list->sequence;
        if (it->builder.count == HR_BATCH_MAX) {
            offer(it);
        }
        take_one(it, take_list);
        hr_mqtt_message_free(take_list);
        take_list = next;
    }
    offer(it);
    if (it->cost > 0) { /* dropped ones at the end have no ticket: they go with the one before */
        if (it->open_count > 0) {
            open_ticket *last = &it->open[it->open_first + it->open_count - 1];
            last->last_sequence = it->sequence;
            last->cost += it->cost;
        } else {
            hr_mqtt_client_durable(it->client, it->sequence, it->cost);
        }
        it->cost = 0;
    }
}

static void tell_state(void *data, bool is_up, const char *why) {
    mqtt_trigger *it = data;
    it->lost_us = it->is_up && !is_up ? hr_real_us() : it->lost_us;
    it->is_up = is_up;
    it->base.host->state(&it->base, is_up ? HR_TRIGGER_UP : HR_TRIGGER_DOWN, why);
}

static void keep(mqtt_trigger *it, int64_t since_us) {
    it->base.kept_us = since_us;
    it->base.host->keep(&it->base, since_us);
}

static void say_session_lost(mqtt_trigger *it) {
    char since[HR_TIME_TEXT + sizeof "since "] = "while headrace did not run";
    if (it->lost_us != 0) {
        memcpy(since, "since ", sizeof "since ");
        hr_time_print(it->lost_us, since + sizeof "since " - 1);
    }
    hr_log(HR_LOG_WARN, it->base.name,
           "messages may be lost: the broker knows our session no more (client id '%s'); what it "
           "still held for us, and what was published %s, never comes. It is subscribed anew. Let "
           "the broker keep its sessions over a restart, and for longer than we are away "
           "(docs/mqtt.md, Sessions)",
           it->settings.client_id, since);
    it->base.host->gauge(&it->base, "sessions_lost", (int64_t)++it->sessions_lost);
}

static void tell_session(void *data, hr_mqtt_session now) {
    mqtt_trigger *it = data;
    switch (now) {
    case HR_MQTT_NO_SESSION:
        if (it->base.kept_us > 0) {
            keep(it, 0);
        }
        break;
    case HR_MQTT_SESSION:
        if (it->base.kept_us <= 0) {
            keep(it, hr_real_us());
        }
        break;
    case HR_MQTT_SESSION_LOST:
        say_session_lost(it);
        keep(it, hr_real_us());
        break;
    }
}

static void client_stopped(void *data, uint64_t dropped) {
    mqtt_trigger *it = data;
    it->client = NULL;
    if (dropped > 0) {
        hr_log(HR_LOG_INFO, it->base.name,
               "%" PRIu64 " messages of QoS 0 came during the stop and were dropped", dropped);
    }
    it->base.host->stopped(&it->base);
}

/* --- slots --- */

static hr_code start(hr_trigger *self, hr_error *err) {
    mqtt_trigger *it = of(self);
    hr_mqtt_client_user user = {.messages = take_messages,
                                .state = tell_state,
                                .session = tell_session,
                                .stopped = client_stopped,
                                .data = it};
    it->settings.had_session = self->kept_us > 0;
    self->host->state(self, HR_TRIGGER_STARTING, NULL);
    self->host->gauge(self, "sessions_lost", 0);
    self->host->gauge(self, "dropped", 0);
    hr_code code = hr_mqtt_client_open(self->loop, &it->settings, &user, &it->client, err);
    if (code != HR_OK) {
        return hr_wrap(err, "mqtt '%s'", self->name);
    }
    if (!it->is_wanted) {
        hr_mqtt_client_hold(it->client, true);
    }
    return HR_OK;
}

static void durable(hr_trigger *self, uint64_t up_to_ticket) {
    mqtt_trigger *it = of(self);
    uint64_t sequence;
    size_t cost;
    it->safe_ticket = up_to_ticket > it->safe_ticket ? up_to_ticket : it->safe_ticket;
    if (settle(it, &sequence, &cost) && it->client != NULL) {
        hr_mqtt_client_durable(it->client, sequence, cost);
    }
}

static void drop(mqtt_trigger *it, uint64_t messages) {
    it->dropped += messages;
    hr_log(HR_LOG_WARN, it->base.name,
           "messages of QoS 0 could not be kept and were dropped; status counts them");
    it->base.host->gauge(&it->base, "dropped", (int64_t)it->dropped);
}

/* What was promised the broker sends again over a new connection. Of QoS 0 it does not, and a new
 * connection would only lose what is on its way. */
static void refused(hr_trigger *self, uint64_t first, uint64_t last, hr_code why) {
    (void)why;
    mqtt_trigger *it = of(self);
    uint64_t sequence, promised = 0, unpromised = 0;
    size_t cost;
    for (size_t i = 0; i < it->open_count; i++) {
        open_ticket *open = &it->open[it->open_first + i];
        if (!open->is_refused && open->ticket >= first && open->ticket <= last) {
            open->is_refused = true;
            promised += open->promised;
            unpromised += open->unpromised;
        }
    }
    bool is_settled = settle(it, &sequence, &cost);
    if (unpromised > 0) {
        drop(it, unpromised);
    }
    if (it->client != NULL && promised > 0) {
        hr_mqtt_client_refuse(it->client, sequence, cost);
    } else if (it->client != NULL && is_settled) {
        hr_mqtt_client_durable(it->client, sequence, cost);
    }
}

static void want(hr_trigger *self, uint32_t feed, uint32_t events) {
    (void)feed;
    mqtt_trigger *it = of(self);
    it->is_wanted = events > 0;
    if (it->client != NULL) {
        hr_mqtt_client_hold(it->client, !it->is_wanted);
    }
}

static hr_code emit(hr_trigger *self, hr_slice raw, const hr_node *options, hr_builder *out,
                    hr_error *err) {
    mqtt_trigger *it = of(self);
    const hr_mqtt_filter *first = &it->filters[0];
    const char *topic = hr_node_text(options, "topic", NULL);
    if (topic == NULL && first->has_wildcard) {
        return hr_fail(err, HR_E_INVALID, 0,
                       "which topic? '%s' has wildcards: set the option topic, as in "
                       "--topic NAME",
                       first->text);
    }
    hr_mqtt_message message = {
        .topic = hr_slice_text(topic != NULL ? topic : first->text + first->start),
        .payload = raw,
        .qos = it->settings.qos,
        .received_us = hr_real_us()};
    hr_mqtt_level levels[HR_MQTT_LEVELS];
    size_t count = 0;
    if (topic != NULL && strpbrk(topic, "+#") != NULL) {
        return hr_fail(err, HR_E_INVALID, 0, "topic '%.100s' has wildcards: name one topic", topic);
    }
    if (filter_of(it, message.topic, levels, &count) == NULL) {
        return hr_fail(err, HR_E_INVALID, 0, "topic '%.100s' matches no filter of '%s'", topic,
                       self->name);
    }
    it->id.size = it->id_head;
    hr_buffer_print(&it->id, "emit-%" PRIu64, ++it->emitted);
    return pack(it, &message, hr_slice_of(it->id.bytes, it->id.size), levels, count, out, err);
}

static void stop(hr_trigger *self) {
    mqtt_trigger *it = of(self);
    hr_mqtt_client_stop(it->client, it->given);
}

static void fini(hr_trigger *self) {
    mqtt_trigger *it = of(self);
    for (size_t i = 0; i < it->filter_count; i++) {
        hr_mqtt_filter_fini(&it->filters[i]);
    }
    it->filter_count = 0;
    hr_builder_fini(&it->builder);
    hr_buffer_fini(&it->scratch);
    hr_buffer_fini(&it->id);
    hr_free(it->source);
    hr_free(it->open);
    it->source = NULL;
    it->open = NULL;
}

static hr_code load(const hr_node *kind_config, hr_error *err) {
    (void)kind_config;
    return hr_mqtt_load(err);
}

const hr_trigger_ops hr_mqtt_ops = {
    .kind = "mqtt",
    .object_size = sizeof(mqtt_trigger),
    .load = load,
    .init = init,
    .start = start,
    .durable = durable,
    .refused = refused,
    .want = want,
    .emit = emit,
    .stop = stop,
    .fini = fini,
};
