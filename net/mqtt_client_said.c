/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mqtt_client_priv.h"

#include "core/memory.h"

#include <stdio.h>
#include <string.h>

static hr_mqtt_event *event_new(hr_mqtt_client *it, hr_mqtt_event_kind kind) {
    hr_mqtt_event *self = hr_alloc(sizeof *self);
    self->message.run = hr_mqtt_handle_event;
    self->client = it;
    self->kind = kind;
    self->attempt = atomic_load(&it->attempt_now);
    return self;
}

static void event_send(hr_mqtt_event *self) {
    if (atomic_load(&self->client->is_deaf)) {
        hr_free(self);
        return;
    }
    hr_loop_post(self->client->loop, &self->message);
}

/* --- messages --- */

/* Many messages, in the order in which they came: they are made on one thread and freed on another,
 * which the C library's heap pays for with a contended lock a message. */
typedef struct hr_mqtt_block {
    atomic_size_t refs; /* messages that live, and OPEN while more come */
    size_t used, count;
    uint8_t bytes[];
} block;

enum { BLOCK_BYTES = 64 << 10, OWN_BYTES = BLOCK_BYTES / 4, OPEN = 1 << 30, ALIGN = 16 };

static block *block_new(size_t size) {
    block *self = hr_alloc(sizeof *self + size);
    atomic_init(&self->refs, OPEN);
    return self;
}

static void block_unref(block *self, size_t count) {
    if (atomic_fetch_sub(&self->refs, count) == count) {
        hr_free(self);
    }
}

/* No more messages come into it. */
static void block_close(block *self) {
    block_unref(self, OPEN - self->count);
}

static hr_mqtt_message *message_new(hr_mqtt_client *it, size_t size) {
    bool is_alone = size > OWN_BYTES;
    size = (size + ALIGN - 1) / ALIGN * ALIGN;
    block *in = is_alone ? block_new(size) : it->block;
    if (in == NULL || (!is_alone && in->used + size > BLOCK_BYTES)) {
        if (in != NULL) {
            block_close(in);
        }
        in = it->block = block_new(BLOCK_BYTES);
    }
    hr_mqtt_message *self = (hr_mqtt_message *)(void *)(in->bytes + in->used);
    in->used += size;
    in->count++;
    *self = (hr_mqtt_message){.block = in};
    if (is_alone) {
        block_close(in);
    }
    return self;
}

void hr_mqtt_message_free(hr_mqtt_message *take_message) {
    block_unref(take_message->block, 1);
}

static hr_slice put(uint8_t **at, const void *bytes, size_t size) {
    hr_slice slice = hr_slice_of(*at, size);
    if (size > 0) {
        memcpy(*at, bytes, size);
    }
    *at += size;
    return slice;
}

static hr_mqtt_message *copy_message(hr_mqtt_client *it, const char *name, size_t name_size,
                                     const MQTTAsync_message *from) {
    size_t count = 0;
    size_t payload_size = from->payloadlen > 0 ? (size_t)from->payloadlen : 0;
    size_t size = name_size + payload_size;
    const MQTTProperties *all = &from->properties;
    for (int i = 0; i < all->count; i++) {
        const MQTTProperty *one = &all->array[i];
        if (one->identifier == MQTTPROPERTY_CODE_USER_PROPERTY) {
            count++;
            size += (size_t)one->value.data.len + (size_t)one->value.value.len;
        } else if (one->identifier == MQTTPROPERTY_CODE_CONTENT_TYPE) {
            size += (size_t)one->value.data.len;
        }
    }
    size_t head = sizeof(hr_mqtt_message) + count * sizeof(hr_mqtt_property);
    hr_mqtt_message *self = message_new(it, head + size);
    self->properties = (hr_mqtt_property *)(void *)(self + 1);
    uint8_t *at = (uint8_t *)self + head;
    self->topic = put(&at, name, name_size);
    self->payload = put(&at, from->payload, payload_size);
    for (int i = 0; i < all->count; i++) {
        const MQTTProperty *one = &all->array[i];
        if (one->identifier == MQTTPROPERTY_CODE_USER_PROPERTY) {
            hr_mqtt_property *to = &self->properties[self->property_count++];
            to->name = put(&at, one->value.data.data, (size_t)one->value.data.len);
            to->value = put(&at, one->value.value.data, (size_t)one->value.value.len);
        } else if (one->identifier == MQTTPROPERTY_CODE_CONTENT_TYPE) {
            self->content_type = put(&at, one->value.data.data, (size_t)one->value.data.len);
        }
    }
    self->qos = from->qos;
    self->is_retained = from->retained != 0;
    self->received_us = hr_real_us();
    self->cost = head + size;
    return self;
}

int hr_mqtt_on_message(void *context, char *name, int name_size, MQTTAsync_message *message) {
    hr_mqtt_client *it = context;
    size_t size = name_size > 0 ? (size_t)name_size : strlen(name);
    hr_mqtt_message *copy = copy_message(it, name, size, message);
    hr_paho.MQTTAsync_freeMessage(&message);
    hr_paho.MQTTAsync_free(name);
    uint64_t sequence = atomic_fetch_add(&it->taken, 1) + 1;
    copy->sequence = sequence;
    atomic_fetch_add(&it->taken_cost, copy->cost);
    copy->next = atomic_load(&it->inbox);
    while (!atomic_compare_exchange_weak(&it->inbox, &copy->next, copy)) {
    }
    hr_mqtt_wake wake = atomic_load(&it->wake);
    bool is_due = wake == HR_MQTT_WAKE_NEXT || (wake == HR_MQTT_WAKE_COMMIT &&
                                                sequence - atomic_load(&it->given) >= HR_MQTT_FULL);
    if (is_due && !atomic_load(&it->is_deaf) &&
        atomic_compare_exchange_strong(&it->wake, &wake, HR_MQTT_WAKE_SENT)) {
        hr_loop_post(it->loop, &it->look);
    }
    return 1;
}

void hr_mqtt_on_lost(void *context, char *cause) {
    hr_mqtt_event *self = event_new(context, HR_MQTT_LOST);
    (void)snprintf(self->text, sizeof self->text, "%s",
                   cause == NULL ? "the connection was lost" : cause);
    event_send(self);
}

void hr_mqtt_on_disconnected(void *context, MQTTProperties *properties,
                             enum MQTTReasonCodes reason) {
    (void)properties;
    hr_mqtt_event *self = event_new(context, HR_MQTT_LOST);
    (void)snprintf(self->text, sizeof self->text, "the broker disconnected: %s",
                   hr_paho.MQTTReasonCode_toString(reason));
    event_send(self);
}

static void on_connect5(void *context, MQTTAsync_successData5 *data) {
    hr_mqtt_event *self = event_new(context, HR_MQTT_CONNECTED);
    self->has_session = data->alt.connect.sessionPresent != 0;
    event_send(self);
}

static void on_connect3(void *context, MQTTAsync_successData *data) {
    hr_mqtt_event *self = event_new(context, HR_MQTT_CONNECTED);
    self->has_session = data->alt.connect.sessionPresent != 0;
    event_send(self);
}

static const char *connack_text(int code) {
    static const char *const texts[] = {NULL,
                                        "Unacceptable protocol version",
                                        "Identifier rejected",
                                        "Server unavailable",
                                        "Bad user name or password",
                                        "Not authorized"};
    return code >= 1 && code <= 5 ? texts[code] : NULL;
}

static void fail_connect(hr_mqtt_client *it, int code, const char *message, hr_slice reason) {
    hr_mqtt_event *self = event_new(it, HR_MQTT_FAILED);
    char *tls = hr_mqtt_tls_take(it);
    const char *known = connack_text(code);
    if (known == NULL && code >= 0x80) {
        known = hr_paho.MQTTReasonCode_toString((enum MQTTReasonCodes)code);
    }
    self->code = code;
    (void)snprintf(self->text, sizeof self->text, "%s%s%.*s%s%s",
                   known != NULL     ? known
                   : message != NULL ? message
                                     : "the connection could not be made",
                   reason.size > 0 ? ": " : "", (int)reason.size, (const char *)reason.bytes,
                   tls != NULL ? ": " : "", tls != NULL ? tls : "");
    hr_free(tls);
    event_send(self);
}

static hr_slice reason_string(MQTTProperties *properties) {
    MQTTProperty *found =
        hr_paho.MQTTProperties_getProperty(properties, MQTTPROPERTY_CODE_REASON_STRING);
    enum { REASON_MAX = 120 };
    size_t size = found == NULL || found->value.data.len < 0 ? 0 : (size_t)found->value.data.len;
    return size == 0 ? hr_slice_of("", 0)
                     : hr_slice_of(found->value.data.data, size > REASON_MAX ? REASON_MAX : size);
}

static void on_failure5(void *context, MQTTAsync_failureData5 *data) {
    int code = data->reasonCode != MQTTREASONCODE_SUCCESS ? (int)data->reasonCode : data->code;
    fail_connect(context, code, data->message, reason_string(&data->properties));
}

static void on_failure3(void *context, MQTTAsync_failureData *data) {
    fail_connect(context, data->code, data->message, hr_slice_of("", 0));
}

static void say_subscribed(hr_mqtt_topic *one, int code, const char *text) {
    hr_mqtt_event *self = event_new(one->client, HR_MQTT_SUBSCRIBED);
    self->topic = (size_t)(one - one->client->topic);
    self->code = code;
    (void)snprintf(self->text, sizeof self->text, "%s", text == NULL ? "refused" : text);
    event_send(self);
}

static void on_subscribe5(void *context, MQTTAsync_successData5 *data) {
    int code = (int)data->reasonCode;
    say_subscribed(context, code < 0x80 ? code : -1,
                   hr_paho.MQTTReasonCode_toString(data->reasonCode));
}

static void on_subscribe3(void *context, MQTTAsync_successData *data) {
    say_subscribed(context, data->alt.qos < 0x80 ? data->alt.qos : -1, "refused by the broker");
}

static void on_subscribe_failure5(void *context, MQTTAsync_failureData5 *data) {
    const char *text = data->reasonCode != MQTTREASONCODE_SUCCESS
                           ? hr_paho.MQTTReasonCode_toString(data->reasonCode)
                           : data->message;
    say_subscribed(context, -1, text);
}

static void on_subscribe_failure3(void *context, MQTTAsync_failureData *data) {
    say_subscribed(context, -1, data->message == NULL ? "refused by the broker" : data->message);
}

void hr_mqtt_listen_connect(hr_mqtt_client *it, int version, MQTTAsync_connectOptions *options) {
    options->context = it;
    if (version == 5) {
        options->onSuccess5 = on_connect5;
        options->onFailure5 = on_failure5;
    } else {
        options->onSuccess = on_connect3;
        options->onFailure = on_failure3;
    }
}

void hr_mqtt_listen_subscribe(hr_mqtt_topic *one, int version, MQTTAsync_responseOptions *options) {
    options->context = one;
    if (version == 5) {
        options->onSuccess5 = on_subscribe5;
        options->onFailure5 = on_subscribe_failure5;
    } else {
        options->onSuccess = on_subscribe3;
        options->onFailure = on_subscribe_failure3;
    }
}

void hr_mqtt_say_failed(hr_mqtt_client *it, int code, const char *text) {
    fail_connect(it, code, text, hr_slice_of("", 0));
}

void hr_mqtt_say_refused(hr_mqtt_topic *one, const char *text) {
    say_subscribed(one, -1, text);
}
