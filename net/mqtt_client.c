/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mqtt_client.h"

#include "core/memory.h"
#include "net/mqtt_gate.h"

#include <MQTTAsync.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum {
    KEEPALIVE_S = 60,
    OPEN_COST_MAX = 32 << 20, /* bytes taken and not durable; then the broker is not read */
    BACKOFF_FIRST_MS = 250,
    BACKOFF_MAX_MS = 30000,
    SETTLE_MS = 200,     /* between two looks whether a new connection may be made */
    LOSE_MAX_MS = 20000, /* for paho to notice that its connection is gone */
    STOP_MAX_MS = 5000,
    STOP_QUIET_MS = 100, /* for paho's last acknowledgements to arrive and pass, all being safe */
    CONNECT_MAX_S = 15
};

typedef enum event_kind { CONNECTED, FAILED, LOST, SUBSCRIBED } event_kind;

/* What paho said, on its way to the loop. */
typedef struct event {
    hr_message message;
    struct hr_mqtt_client *client;
    event_kind kind;
    uint64_t attempt;
    size_t topic;     /* SUBSCRIBED */
    int code;         /* FAILED: of CONNACK; SUBSCRIBED: < 0 refused, else the quality */
    bool has_session; /* CONNECTED */
    char text[HR_ERROR_TEXT_BYTES];
} event;

typedef struct job { /* for the thread that may call paho */
    hr_message message;
    struct hr_mqtt_client *client;
    uint64_t attempt;
    int version;
    size_t url;
    bool is_renewed; /* with a new handle: paho forgets what it thinks it received */
} job;

typedef struct topic {
    struct hr_mqtt_client *client;
    char *filter;
    char refused[160]; /* the broker's words; empty: granted or open */
} topic;

typedef struct address {
    char *host, *port, *paho; /* paho: tcp://host:port or ssl://host:port */
} address;

struct hr_mqtt_client {
    hr_loop *loop;
    hr_mqtt_client_user user;
    hr_mqtt_gate *gate;
    hr_timer *timer;
    struct hr_mqtt_client *next; /* all there ever were */

    /* Set before the first connection, then only read, by any thread. */
    address url[HR_MQTT_URLS];
    size_t url_count;
    topic topic[HR_MQTT_TOPICS];
    size_t topic_count;
    char *client_id, *username, *password, *ca, *cert, *key, *http_proxy, *https_proxy;
    bool verify;
    int qos;
    uint32_t session_s;
    uint16_t window;

    /* The paho thread's side. */
    MQTTAsync handle; /* the control thread's alone */
    bool has_proxy;
    atomic_ullong taken, attempt_now;
    atomic_size_t taken_cost;
    _Atomic(hr_mqtt_message *) inbox; /* newest first */
    atomic_bool is_posted, is_deaf;
    hr_message wake;
    char tls_text[200];

    /* The loop's. */
    enum { WAITING, DIALING, CONNECTING, UP, LOSING, ENDED } phase;
    int version; /* of the attempt: 3 or 5 */
    bool is_auto, was_subscribed, is_held, is_stopping, must_renew;
    uint64_t attempt, safe, last_given;
    size_t safe_cost, url_now, urls_failed;
    uint64_t backoff_ms, losing_ns, stop_ns;
    char why[HR_ERROR_TEXT_BYTES];
};

static hr_mqtt_client *everyone; /* the loop's; keeps them reachable */

/* --- the control thread: MQTTAsync calls wait for paho's lock, under which paho may wait for the
 * gate, which is the loop's: so the loop must never wait for them --- */

static hr_loop *control;
static pthread_once_t control_once = PTHREAD_ONCE_INIT;

static void *run_control(void *data) {
    hr_loop_run(data);
    return NULL;
}

static void start_control(void) {
    pthread_t thread;
    MQTTAsync_setTraceLevel(MQTTASYNC_TRACE_FATAL);
    control = hr_loop_new();
    HR_ASSERT(pthread_create(&thread, NULL, run_control, control) == 0);
    (void)pthread_detach(thread);
}

/* --- paho's callbacks --- */

static void handle_event(hr_message *message);

static event *event_new(hr_mqtt_client *it, event_kind kind) {
    event *self = hr_alloc(sizeof *self);
    self->message.run = handle_event;
    self->client = it;
    self->kind = kind;
    self->attempt = atomic_load(&it->attempt_now);
    return self;
}

static void event_send(event *self) {
    if (atomic_load(&self->client->is_deaf)) {
        hr_free(self);
        return;
    }
    hr_loop_post(self->client->loop, &self->message);
}

static hr_slice put(uint8_t **at, const void *bytes, size_t size) {
    hr_slice slice = hr_slice_of(*at, size);
    if (size > 0) {
        memcpy(*at, bytes, size);
    }
    *at += size;
    return slice;
}

static hr_mqtt_message *copy_message(const char *name, size_t name_size,
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
    hr_mqtt_message *self = hr_alloc(head + size);
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
    self->is_retained = from->retained != 0;
    self->received_us = hr_real_us();
    self->cost = head + size;
    return self;
}

/* Takes the sequence before it returns, and so before the acknowledgement is written. Always 1. */
static int on_message(void *context, char *name, int name_size, MQTTAsync_message *message) {
    hr_mqtt_client *it = context;
    size_t size = name_size > 0 ? (size_t)name_size : strlen(name);
    hr_mqtt_message *copy = copy_message(name, size, message);
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(name);
    copy->sequence = atomic_fetch_add(&it->taken, 1) + 1;
    atomic_fetch_add(&it->taken_cost, copy->cost);
    copy->next = atomic_load(&it->inbox);
    while (!atomic_compare_exchange_weak(&it->inbox, &copy->next, copy)) {
    }
    if (!atomic_load(&it->is_deaf) && !atomic_exchange(&it->is_posted, true)) {
        hr_loop_post(it->loop, &it->wake);
    }
    return 1;
}

static void on_lost(void *context, char *cause) {
    event *self = event_new(context, LOST);
    (void)snprintf(self->text, sizeof self->text, "%s",
                   cause == NULL ? "the connection was lost" : cause);
    event_send(self);
}

static void on_disconnected(void *context, MQTTProperties *properties,
                            enum MQTTReasonCodes reason) {
    (void)properties;
    event *self = event_new(context, LOST);
    (void)snprintf(self->text, sizeof self->text, "the broker disconnected: %s",
                   MQTTReasonCode_toString(reason));
    event_send(self);
}

static void on_connect5(void *context, MQTTAsync_successData5 *data) {
    event *self = event_new(context, CONNECTED);
    self->has_session = data->alt.connect.sessionPresent != 0;
    event_send(self);
}

static void on_connect3(void *context, MQTTAsync_successData *data) {
    event *self = event_new(context, CONNECTED);
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
    event *self = event_new(it, FAILED);
    const char *known = connack_text(code);
    if (known == NULL && code >= 0x80) {
        known = MQTTReasonCode_toString((enum MQTTReasonCodes)code);
    }
    self->code = code;
    (void)snprintf(self->text, sizeof self->text, "%s%s%.*s%s%s",
                   known != NULL     ? known
                   : message != NULL ? message
                                     : "the connection could not be made",
                   reason.size > 0 ? ": " : "", (int)reason.size, (const char *)reason.bytes,
                   it->tls_text[0] != '\0' ? ": " : "", it->tls_text);
    it->tls_text[0] = '\0';
    event_send(self);
}

static hr_slice reason_string(MQTTProperties *properties) {
    MQTTProperty *found = MQTTProperties_getProperty(properties, MQTTPROPERTY_CODE_REASON_STRING);
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

static int on_tls_error(const char *text, size_t size, void *context) {
    hr_mqtt_client *it = context;
    (void)snprintf(it->tls_text, sizeof it->tls_text, "%.*s", (int)(size > 150 ? 150 : size), text);
    it->tls_text[strcspn(it->tls_text, "\n")] = '\0';
    return 1;
}

static void say_subscribed(topic *one, int code, const char *text) {
    event *self = event_new(one->client, SUBSCRIBED);
    self->topic = (size_t)(one - one->client->topic);
    self->code = code;
    (void)snprintf(self->text, sizeof self->text, "%s", text == NULL ? "refused" : text);
    event_send(self);
}

static void on_subscribe5(void *context, MQTTAsync_successData5 *data) {
    int code = (int)data->reasonCode;
    say_subscribed(context, code < 0x80 ? code : -1, MQTTReasonCode_toString(data->reasonCode));
}

static void on_subscribe3(void *context, MQTTAsync_successData *data) {
    say_subscribed(context, data->alt.qos < 0x80 ? data->alt.qos : -1, "refused by the broker");
}

static void on_subscribe_failure5(void *context, MQTTAsync_failureData5 *data) {
    const char *text = data->reasonCode != MQTTREASONCODE_SUCCESS
                           ? MQTTReasonCode_toString(data->reasonCode)
                           : data->message;
    say_subscribed(context, -1, text);
}

static void on_subscribe_failure3(void *context, MQTTAsync_failureData *data) {
    say_subscribed(context, -1, data->message == NULL ? "refused by the broker" : data->message);
}

/* --- jobs, on the control thread --- */

static int connect_handle(hr_mqtt_client *it, const job *self) {
    if (it->handle == NULL || self->is_renewed) {
        MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer5;
        create.maxBufferedMessages = HR_MQTT_TOPICS;
        int code = MQTTAsync_createWithOptions(&it->handle, it->url[self->url].paho, it->client_id,
                                               MQTTCLIENT_PERSISTENCE_NONE, NULL, &create);
        if (code != MQTTASYNC_SUCCESS) {
            it->handle = NULL;
            return code;
        }
        it->has_proxy = false;
        (void)MQTTAsync_setCallbacks(it->handle, it, on_lost, on_message, NULL);
        (void)MQTTAsync_setDisconnected(it->handle, it, on_disconnected);
    }
    bool is_5 = self->version == 5;
    MQTTAsync_connectOptions three = MQTTAsync_connectOptions_initializer;
    MQTTAsync_connectOptions five = MQTTAsync_connectOptions_initializer5;
    MQTTAsync_connectOptions options = is_5 ? five : three;
    MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;
    MQTTProperties properties = MQTTProperties_initializer;
    MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL,
                           .value.integer4 = it->session_s};
    MQTTProperty window = {.identifier = MQTTPROPERTY_CODE_RECEIVE_MAXIMUM,
                           .value.integer2 = it->window};
    tls.trustStore = it->ca;
    tls.keyStore = it->cert;
    tls.privateKey = it->key;
    tls.enableServerCertAuth = it->verify;
    tls.verify = it->verify;
    tls.disableDefaultTrustStore = it->ca != NULL;
    tls.ssl_error_cb = on_tls_error;
    tls.ssl_error_context = it;
    options.ssl = &tls; /* always: without it paho prints to stdout, and has no mqtts:// */
    char *servers[] = {it->url[self->url].paho};
    options.serverURIs = servers;
    options.serverURIcount = 1;
    options.username = it->username;
    options.password = it->password;
    options.keepAliveInterval = KEEPALIVE_S;
    options.connectTimeout = CONNECT_MAX_S;
    options.context = it;
    if (!it->has_proxy) { /* paho keeps them, and copies anew each time */
        options.httpProxy = it->http_proxy;
        options.httpsProxy = it->https_proxy;
    }
    if (is_5) {
        options.cleanstart = it->session_s == 0;
        (void)MQTTProperties_add(&properties, &expiry);
        (void)MQTTProperties_add(&properties, &window);
        options.connectProperties = &properties;
        options.onSuccess5 = on_connect5;
        options.onFailure5 = on_failure5;
    } else {
        options.MQTTVersion = MQTTVERSION_3_1_1;
        options.cleansession = it->session_s == 0;
        options.onSuccess = on_connect3;
        options.onFailure = on_failure3;
    }
    int code = MQTTAsync_connect(it->handle, &options);
    it->has_proxy = it->has_proxy || code == MQTTASYNC_SUCCESS;
    MQTTProperties_free(&properties);
    return code;
}

static void run_connect(hr_message *message) {
    job *self = (job *)(void *)message;
    hr_mqtt_client *it = self->client;
    atomic_store(&it->attempt_now, self->attempt);
    int code = connect_handle(it, self);
    if (code != MQTTASYNC_SUCCESS) {
        fail_connect(it, code, MQTTAsync_strerror(code), hr_slice_of("", 0));
    }
    hr_free(self);
}

static void run_subscribe(hr_message *message) {
    job *self = (job *)(void *)message;
    hr_mqtt_client *it = self->client;
    for (size_t i = 0; i < it->topic_count; i++) {
        MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
        options.context = &it->topic[i];
        if (self->version == 5) {
            options.onSuccess5 = on_subscribe5;
            options.onFailure5 = on_subscribe_failure5;
            bool is_shared = strncmp(it->topic[i].filter, "$share/", 7) == 0;
            options.subscribeOptions.retainHandling = is_shared ? 0 : 1; /* not for shared ones */
        } else {
            options.onSuccess = on_subscribe3;
            options.onFailure = on_subscribe_failure3;
        }
        int qos = self->version == 5 || it->qos < 2 ? it->qos : 1;
        int code = MQTTAsync_subscribe(it->handle, it->topic[i].filter, qos, &options);
        if (code != MQTTASYNC_SUCCESS) {
            say_subscribed(&it->topic[i], -1, MQTTAsync_strerror(code));
        }
    }
    hr_free(self);
}

static void send_job(hr_mqtt_client *it, void (*run)(hr_message *)) {
    job *self = hr_alloc(sizeof *self);
    *self = (job){.message.run = run,
                  .client = it,
                  .attempt = it->attempt,
                  .version = it->version,
                  .url = it->url_now,
                  .is_renewed = it->must_renew && run == run_connect};
    it->must_renew = it->must_renew && run != run_connect;
    hr_loop_post(control, &self->message);
}

/* --- the loop's side --- */

static bool is_settled(const hr_mqtt_client *it) {
    return atomic_load(&it->taken) <= it->safe;
}

static uint64_t gate_taken(void *data) {
    hr_mqtt_client *it = data;
    return atomic_load(&it->taken);
}

static bool gate_is_full(void *data) {
    hr_mqtt_client *it = data;
    return it->is_stopping || atomic_load(&it->taken_cost) - it->safe_cost > OPEN_COST_MAX;
}

static void end(hr_mqtt_client *it) {
    atomic_store(&it->is_deaf, true);
    it->phase = ENDED;
    hr_mqtt_gate_free(it->gate);
    it->gate = NULL;
    hr_timer_free(it->timer);
    it->timer = NULL;
    it->user.stopped(it->user.data);
}

static void wait_ms(hr_mqtt_client *it, uint64_t ms) {
    it->phase = WAITING;
    hr_timer_start(it->timer, it->is_stopping ? 0 : ms, 0);
}

static void go_down(hr_mqtt_client *it, const char *why) {
    if (!it->is_stopping) {
        it->user.state(it->user.data, false, why);
    }
    it->url_now = (it->url_now + 1) % it->url_count;
    if (++it->urls_failed < it->url_count) {
        wait_ms(it, 0);
        return;
    }
    it->urls_failed = 0;
    wait_ms(it, it->backoff_ms);
    it->backoff_ms = it->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : it->backoff_ms * 2;
}

static void lose(hr_mqtt_client *it, const char *why) {
    (void)snprintf(it->why, sizeof it->why, "%s", why);
    hr_mqtt_gate_shut(it->gate);
    it->phase = LOSING;
    hr_timer_start(it->timer, LOSE_MAX_MS, 0); /* paho says so sooner */
}

static void gate_dialed(void *data, hr_code code, const char *why) {
    hr_mqtt_client *it = data;
    if (code != HR_OK) {
        go_down(it, why);
        return;
    }
    it->phase = CONNECTING;
    send_job(it, run_connect);
}

static void gate_closed(void *data, const char *why) {
    lose(data, why);
}

static void give(hr_message *message) {
    hr_mqtt_client *it =
        (hr_mqtt_client *)(void *)((char *)message - offsetof(hr_mqtt_client, wake));
    atomic_store(&it->is_posted, false);
    hr_mqtt_message *newest = atomic_exchange(&it->inbox, NULL);
    hr_mqtt_message *list = NULL;
    while (newest != NULL) {
        hr_mqtt_message *next = newest->next;
        newest->next = list;
        list = newest;
        newest = next;
    }
    if (it->is_stopping || it->phase == ENDED) { /* not acknowledged: it comes again */
        while (list != NULL) {
            hr_mqtt_message *next = list->next;
            hr_free(list);
            list = next;
        }
    } else if (list != NULL) {
        it->user.messages(it->user.data, list);
    }
}

static void tell_up(hr_mqtt_client *it) {
    char text[HR_ERROR_TEXT_BYTES] = "";
    size_t refused = 0, at = 0;
    if (it->version == 3 && it->qos == 2) {
        at = (size_t)snprintf(text, sizeof text, "qos 2 is subscribed as 1 over MQTT 3.1.1");
    }
    for (size_t i = 0; i < it->topic_count; i++) {
        if (it->topic[i].refused[0] != '\0') {
            refused++;
            int size = snprintf(text + at, sizeof text - at, "%stopic '%.60s': %s",
                                at == 0 ? "" : "; ", it->topic[i].filter, it->topic[i].refused);
            at += (size_t)size < sizeof text - at ? (size_t)size : sizeof text - at - 1;
        }
    }
    it->user.state(it->user.data, refused < it->topic_count, at == 0 ? NULL : text);
}

static void connected(hr_mqtt_client *it, const event *said) {
    it->phase = UP;
    it->backoff_ms = BACKOFF_FIRST_MS;
    it->urls_failed = 0;
    hr_timer_stop(it->timer);
    /* The filters may have been edited since the session was made: once a process they are said in
     * any case (over 5, retained messages do not repeat thereby). */
    if (!said->has_session || !it->was_subscribed) {
        send_job(it, run_subscribe);
    } else {
        tell_up(it);
    }
}

static void failed(hr_mqtt_client *it, const event *said) {
    enum { CONNACK_VERSION_3 = 1, CONNACK_VERSION_5 = 0x84 };
    hr_mqtt_gate_shut(it->gate);
    if (it->is_auto && it->version == 5 &&
        (said->code == CONNACK_VERSION_3 || said->code == CONNACK_VERSION_5)) {
        it->version = 3;
        wait_ms(it, 0);
        return;
    }
    go_down(it, said->text);
}

static void handle_event(hr_message *message) {
    event *self = (event *)(void *)message;
    hr_mqtt_client *it = self->client;
    if (it->phase == ENDED || self->attempt != it->attempt || it->phase == WAITING ||
        it->phase == DIALING) {
        hr_free(self);
        return;
    }
    switch (self->kind) {
    case CONNECTED:
        if (it->phase == CONNECTING) {
            connected(it, self);
        }
        break;
    case FAILED:
        failed(it, self);
        break;
    case LOST:
        hr_mqtt_gate_shut(it->gate);
        go_down(it, it->phase == LOSING ? it->why : self->text);
        break;
    case SUBSCRIBED:
        (void)snprintf(it->topic[self->topic].refused, sizeof it->topic[self->topic].refused,
                       "%.150s", self->code < 0 ? self->text : "");
        it->was_subscribed = true;
        if (it->phase == UP) {
            tell_up(it);
        }
        break;
    }
    hr_free(self);
}

static bool has_stopped(hr_mqtt_client *it) {
    bool is_late = (hr_mono_ns() - it->stop_ns) / 1000000 > STOP_MAX_MS;
    if (it->phase == UP && (it->safe >= it->last_given || is_late)) {
        lose(it, "stopping");
        return false;
    }
    return it->phase == WAITING || is_late;
}

static void timer_fired(void *data) {
    hr_mqtt_client *it = data;
    if (it->is_stopping) {
        if (has_stopped(it)) {
            end(it);
        } else {
            hr_timer_start(it->timer, SETTLE_MS, 0);
        }
        return;
    }
    if (it->phase == LOSING) {
        go_down(it, it->why);
        return;
    }
    if (it->phase != WAITING) {
        return;
    }
    if (!is_settled(it) || it->is_held || gate_is_full(it)) { /* S19 */
        hr_timer_start(it->timer, SETTLE_MS, 0);
        return;
    }
    it->attempt++;
    it->phase = DIALING;
    hr_mqtt_gate_dial(it->gate, it->url[it->url_now].host, it->url[it->url_now].port);
}

void hr_mqtt_client_durable(hr_mqtt_client *it, uint64_t up_to, size_t cost) {
    it->safe = up_to > it->safe ? up_to : it->safe;
    it->safe_cost += cost;
    if (it->gate != NULL) {
        hr_mqtt_gate_durable(it->gate, it->safe);
    }
    if (it->is_stopping && it->phase == UP && it->safe >= it->last_given) {
        hr_timer_start(it->timer, STOP_QUIET_MS, 0);
    }
}

void hr_mqtt_client_refuse(hr_mqtt_client *it, uint64_t up_to, size_t cost) {
    if (it->gate != NULL && (it->phase == UP || it->phase == CONNECTING)) {
        lose(it, "messages could not be kept; the broker is to send them again");
    }
    it->must_renew = it->must_renew || it->qos == 2;
    hr_mqtt_client_durable(it, up_to, cost);
}

void hr_mqtt_client_hold(hr_mqtt_client *it, bool is_held) {
    it->is_held = is_held;
    if (it->gate != NULL) {
        hr_mqtt_gate_hold(it->gate, is_held);
    }
}

void hr_mqtt_client_stop(hr_mqtt_client *it, uint64_t last_given) {
    it->is_stopping = true;
    it->last_given = last_given;
    it->stop_ns = hr_mono_ns();
    hr_mqtt_gate_hold(it->gate, true);
    if (it->phase == DIALING) {
        hr_mqtt_gate_shut(it->gate);
        it->phase = WAITING;
    } else if (it->phase == CONNECTING) {
        lose(it, "stopping");
    }
    hr_timer_start(it->timer, it->phase == UP ? STOP_QUIET_MS : 1, 0);
}

/* --- life --- */

static hr_code read_url(const char *url, address *out, hr_error *err) {
    bool is_tls = strncmp(url, "mqtts://", 8) == 0;
    if (!is_tls && strncmp(url, "mqtt://", 7) != 0) {
        return hr_fail(err, HR_E_CONFIG, 0, "url '%s': not mqtt:// or mqtts://", url);
    }
    const char *host = url + (is_tls ? 8 : 7);
    size_t size = strcspn(host, "/");
    const char *port = NULL;
    size_t host_size = 0;
    if (host[0] == '[') {
        const char *bracket = memchr(host, ']', size);
        host_size = bracket == NULL ? size : (size_t)(bracket - host) + 1;
    } else {
        host_size = strcspn(host, ":/");
    }
    if (host_size < size && host[host_size] == ':') {
        port = host + host_size + 1;
    }
    size_t port_size = port == NULL ? 0 : size - host_size - 1;
    if (host_size == 0 || host_size > 253 || port_size > 5 ||
        (port != NULL && (port_size == 0 || strspn(port, "0123456789") < port_size))) {
        return hr_fail(err, HR_E_CONFIG, 0, "url '%s': no host or no port", url);
    }
    out->port =
        port != NULL ? hr_copy_bytes(port, port_size) : hr_copy_text(is_tls ? "8883" : "1883");
    out->paho = hr_format("%s://%.*s:%s", is_tls ? "ssl" : "tcp", (int)host_size, host, out->port);
    bool is_bracketed = host[0] == '[' && host_size > 2;
    out->host =
        is_bracketed ? hr_copy_bytes(host + 1, host_size - 2) : hr_copy_bytes(host, host_size);
    return HR_OK;
}

hr_code hr_mqtt_client_open(hr_loop *loop, const hr_mqtt_settings *settings,
                            const hr_mqtt_client_user *user, hr_mqtt_client **out_client,
                            hr_error *err) {
    HR_ASSERT(settings->url_count > 0 && settings->url_count <= HR_MQTT_URLS);
    HR_ASSERT(settings->topic_count > 0 && settings->topic_count <= HR_MQTT_TOPICS);
    hr_mqtt_client *it = hr_alloc(sizeof *it);
    it->next = everyone;
    everyone = it;
    it->loop = loop;
    it->user = *user;
    it->wake.run = give;
    for (size_t i = 0; i < settings->url_count; i++) {
        hr_code code = read_url(settings->url[i], &it->url[i], err);
        if (code != HR_OK) {
            return code;
        }
        it->url_count++;
    }
    for (size_t i = 0; i < settings->topic_count; i++) {
        it->topic[i].client = it;
        it->topic[i].filter = hr_copy_text(settings->topic[i]);
    }
    it->topic_count = settings->topic_count;
    it->client_id = hr_copy_text(settings->client_id);
    it->username = hr_copy_text(settings->username);
    it->password = hr_copy_text(settings->password);
    it->ca = hr_copy_text(settings->ca);
    it->cert = hr_copy_text(settings->cert);
    it->key = hr_copy_text(settings->key);
    it->verify = settings->verify;
    it->qos = settings->qos;
    it->session_s = settings->session_s;
    it->window = settings->window;
    it->is_auto = settings->version == 0;
    it->version = settings->version == 3 ? 3 : 5;
    it->backoff_ms = BACKOFF_FIRST_MS;
    hr_mqtt_gate_user gate_user = {.taken = gate_taken,
                                   .is_full = gate_is_full,
                                   .dialed = gate_dialed,
                                   .closed = gate_closed,
                                   .data = it,
                                   .keepalive_s = KEEPALIVE_S};
    hr_code code = hr_mqtt_gate_open(loop, &gate_user, &it->gate, err);
    if (code != HR_OK) {
        return code;
    }
    it->http_proxy = hr_format("http://%s", hr_mqtt_gate_proxy(it->gate));
    it->https_proxy = hr_format("https://%s", hr_mqtt_gate_proxy(it->gate));
    HR_ASSERT(pthread_once(&control_once, start_control) == 0);
    it->timer = hr_timer_new(loop, timer_fired, it);
    wait_ms(it, 0);
    *out_client = it;
    return HR_OK;
}
