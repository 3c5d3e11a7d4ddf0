/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mqtt_client_priv.h"

#include "core/memory.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

enum { CONNECT_MAX_S = 15 };

typedef struct job { /* for the thread that may call paho */
    hr_message message;
    hr_mqtt_client *client;
    uint64_t attempt;
    int version;
    uint64_t topics; /* those to subscribe: a bit for each */
    size_t url;
    bool is_renewed; /* with a new handle: paho forgets what it thinks it received */
} job;

static hr_loop *control;
static pthread_once_t control_once = PTHREAD_ONCE_INIT;

static void *run_control(void *data) {
    hr_loop_run(data);
    return NULL;
}

static void start_control(void) {
    pthread_t thread;
    hr_paho.MQTTAsync_setTraceLevel(MQTTASYNC_TRACE_FATAL);
    control = hr_loop_new();
    hr_mqtt_tls_watch();
    HR_ASSERT(pthread_create(&thread, NULL, run_control, control) == 0);
    (void)pthread_detach(thread);
}

static int connect_handle(hr_mqtt_client *it, const job *self) {
    if (it->handle == NULL || self->is_renewed) {
        MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer5;
        create.maxBufferedMessages = HR_MQTT_TOPICS;
        int code =
            hr_paho.MQTTAsync_createWithOptions(&it->handle, it->url[self->url].paho, it->client_id,
                                                MQTTCLIENT_PERSISTENCE_NONE, NULL, &create);
        if (code != MQTTASYNC_SUCCESS) {
            it->handle = NULL;
            return code;
        }
        it->has_proxy = false;
        (void)hr_paho.MQTTAsync_setCallbacks(it->handle, it, hr_mqtt_on_lost, hr_mqtt_on_message,
                                             NULL);
        (void)hr_paho.MQTTAsync_setDisconnected(it->handle, it, hr_mqtt_on_disconnected);
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
    tls.ssl_error_cb = hr_mqtt_on_tls_error;
    tls.ssl_error_context = it;
    options.ssl = &tls; /* always: without it paho prints to stdout, and has no mqtts:// */
    char *servers[] = {it->url[self->url].paho};
    options.serverURIs = servers;
    options.serverURIcount = 1;
    options.username = it->username;
    options.password = it->password;
    options.keepAliveInterval = HR_MQTT_KEEPALIVE_S;
    options.connectTimeout = CONNECT_MAX_S;
    hr_mqtt_listen_connect(it, self->version, &options);
    if (!it->has_proxy) { /* paho keeps them, and copies anew each time */
        options.httpProxy = it->http_proxy;
        options.httpsProxy = it->https_proxy;
    }
    if (is_5) {
        options.cleanstart = it->session_s == 0;
        (void)hr_paho.MQTTProperties_add(&properties, &expiry);
        (void)hr_paho.MQTTProperties_add(&properties, &window);
        options.connectProperties = &properties;
    } else {
        options.MQTTVersion = MQTTVERSION_3_1_1;
        options.cleansession = it->session_s == 0;
    }
    int code = hr_paho.MQTTAsync_connect(it->handle, &options);
    it->has_proxy = it->has_proxy || code == MQTTASYNC_SUCCESS;
    hr_paho.MQTTProperties_free(&properties);
    return code;
}

static void run_connect(hr_message *message) {
    job *self = (job *)(void *)message;
    hr_mqtt_client *it = self->client;
    atomic_store(&it->attempt_now, self->attempt);
    atomic_store(&it->url_tried, self->url);
    hr_free(atomic_exchange(&it->tls_text, NULL));
    int code = connect_handle(it, self);
    if (code != MQTTASYNC_SUCCESS) {
        hr_mqtt_say_failed(it, code, hr_paho.MQTTAsync_strerror(code));
    }
    hr_free(self);
}

static void run_subscribe(hr_message *message) {
    job *self = (job *)(void *)message;
    hr_mqtt_client *it = self->client;
    for (size_t i = 0; i < it->topic_count; i++) {
        if ((self->topics >> i & 1) == 0) {
            continue;
        }
        MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
        hr_mqtt_listen_subscribe(&it->topic[i], self->version, &options);
        if (self->version == 5) {
            bool is_shared = strncmp(it->topic[i].filter, "$share/", 7) == 0;
            options.subscribeOptions.retainHandling = is_shared ? 0 : 1; /* not for shared ones */
        }
        int qos = self->version == 5 || it->qos < 2 ? it->qos : 1;
        int code = hr_paho.MQTTAsync_subscribe(it->handle, it->topic[i].filter, qos, &options);
        if (code != MQTTASYNC_SUCCESS) {
            hr_mqtt_say_refused(&it->topic[i], hr_paho.MQTTAsync_strerror(code));
        }
    }
    hr_free(self);
}

static_assert(HR_MQTT_TOPICS <= 64, "a bit for each topic");

static void send_job(hr_mqtt_client *it, uint64_t topics, void (*run)(hr_message *)) {
    job *self = hr_alloc(sizeof *self);
    *self = (job){.message.run = run,
                  .client = it,
                  .attempt = it->attempt,
                  .version = it->version,
                  .topics = topics,
                  .url = it->url_now,
                  .is_renewed = it->must_renew && run == run_connect};
    it->must_renew = it->must_renew && run != run_connect;
    HR_ASSERT(pthread_once(&control_once, start_control) == 0);
    hr_loop_post(control, &self->message);
}

void hr_mqtt_call_connect(hr_mqtt_client *it) {
    send_job(it, 0, run_connect);
}

void hr_mqtt_call_subscribe(hr_mqtt_client *it, uint64_t topics) {
    send_job(it, topics, run_subscribe);
}
