/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the MQTT client: what its files share. mqtt_client.c is the loop's side and decides; the
 * others run on paho's threads (mqtt_client_said.c) or on the control thread (mqtt_client_call.c)
 * and hand over by message.
 *
 * Rule: the loop never calls paho, whose lock may wait for the gate, which is the loop's. */
#ifndef HR_NET_MQTT_CLIENT_PRIV_H
#define HR_NET_MQTT_CLIENT_PRIV_H

#include "net/mqtt_client.h"
#include "net/mqtt_client_library.h"
#include "net/mqtt_gate.h"

#include <stdatomic.h>

enum {
    HR_MQTT_KEEPALIVE_S = 60,
    HR_MQTT_FULL = 256,      /* messages in the inbox that wait for no commit */
    HR_MQTT_PATIENCE_MS = 5, /* that they wait for one */
    HR_MQTT_PAUSE_MS = 1,    /* that they wait behind one for company */
    HR_MQTT_UNPAUSED_MAX = 1024
};

typedef enum hr_mqtt_phase {
    HR_MQTT_WAITING,
    HR_MQTT_DIALING,
    HR_MQTT_CONNECTING,
    HR_MQTT_UP,
    HR_MQTT_LOSING,
    HR_MQTT_ENDED
} hr_mqtt_phase;

typedef enum hr_mqtt_event_kind {
    HR_MQTT_CONNECTED,
    HR_MQTT_FAILED,
    HR_MQTT_LOST,
    HR_MQTT_SUBSCRIBED
} hr_mqtt_event_kind;

/* What paho said, on its way to the loop. */
typedef struct hr_mqtt_event {
    hr_message message;
    hr_mqtt_client *client;
    hr_mqtt_event_kind kind;
    uint64_t attempt;
    size_t topic;     /* SUBSCRIBED */
    int code;         /* FAILED: of CONNACK; SUBSCRIBED: < 0 refused, else the quality */
    bool has_session; /* CONNECTED */
    char text[HR_ERROR_TEXT_BYTES];
} hr_mqtt_event;

typedef struct hr_mqtt_topic {
    hr_mqtt_client *client;
    char *filter;
    bool is_granted;   /* the loop's, as is: */
    char refused[160]; /* the broker's words; empty: granted or open */
} hr_mqtt_topic;

typedef struct hr_mqtt_address {
    char *host, *port, *paho; /* paho: tcp://host:port or ssl://host:port */
} hr_mqtt_address;

/* Who makes the loop look at the inbox: one message, posted once. */
typedef enum hr_mqtt_wake {
    HR_MQTT_WAKE_NEXT,  /* the next message posts */
    HR_MQTT_WAKE_SENT,  /* it is posted */
    HR_MQTT_WAKE_COMMIT /* what was given becomes durable first, HR_MQTT_FULL wait, or it is late */
} hr_mqtt_wake;

struct hr_mqtt_client {
    hr_loop *loop;
    hr_mqtt_client_user user;
    hr_mqtt_gate *gate;
    hr_timer *timer, *patience;
    hr_mqtt_client *next; /* all there ever were */

    /* Set before the first connection, then only read, by any thread. */
    hr_mqtt_address url[HR_MQTT_URLS];
    size_t url_count;
    hr_mqtt_topic topic[HR_MQTT_TOPICS];
    size_t topic_count;
    char *client_id, *username, *password, *ca, *cert, *key, *http_proxy, *https_proxy;
    bool verify;
    int qos;
    uint32_t session_s;
    uint16_t window;

    /* The paho thread's side. */
    MQTTAsync handle; /* the control thread's alone */
    bool has_proxy;
    struct hr_mqtt_block *block; /* the receiving thread's alone */
    atomic_ullong taken, attempt_now;
    atomic_size_t taken_cost;
    _Atomic(hr_mqtt_message *) inbox; /* newest first */
    _Atomic(hr_mqtt_wake) wake;
    hr_message look;     /* the loop's at the inbox */
    atomic_ullong given; /* the last sequence the loop took from the inbox; it writes */
    atomic_bool is_deaf;
    atomic_size_t url_tried;  /* of the attempt */
    _Atomic(char *) tls_text; /* why TLS failed: OpenSSL's first words, owned by who takes it */

    /* The loop's. */
    hr_mqtt_phase phase;
    int version; /* of the attempt: 3 or 5 */
    bool is_auto, is_held, is_stopping, must_renew, had_session, is_late;
    uint64_t attempt, safe, last_given, dropped;
    size_t safe_cost, url_now, urls_failed;
    uint64_t backoff_ms, losing_ns, stop_ns;
    uint64_t paused_with;        /* messages that were there when a pause began; 0: there is none */
    unsigned unpaused, must_not; /* commits without a pause, how many there are to be */
    char why[HR_ERROR_TEXT_BYTES];
};

/* --- mqtt_client_said.c: paho's callbacks, on its threads --- */

/* Takes the sequence before it returns, and so before the acknowledgement is written. Always 1. */
int hr_mqtt_on_message(void *context, char *name, int name_size, MQTTAsync_message *message);

void hr_mqtt_on_lost(void *context, char *cause);
void hr_mqtt_on_disconnected(void *context, MQTTProperties *properties,
                             enum MQTTReasonCodes reason);

/* Says where paho is to call: for a connect, of this protocol (3 or 5), and for a subscription. */
void hr_mqtt_listen_connect(hr_mqtt_client *it, int version, MQTTAsync_connectOptions *options);
void hr_mqtt_listen_subscribe(hr_mqtt_topic *one, int version, MQTTAsync_responseOptions *options);

/* As if paho had said it: a connect that could not be begun, a subscription likewise. */
void hr_mqtt_say_failed(hr_mqtt_client *it, int code, const char *text);
void hr_mqtt_say_refused(hr_mqtt_topic *one, const char *text);

/* --- mqtt_client_call.c: calls of paho, made on the control thread --- */

/* Connects to it->url_now with it->version, through the gate. The answer is an event.
 * Thread: the loop's. */
void hr_mqtt_call_connect(hr_mqtt_client *it);

/* Subscribes the topics whose bits are set; an event answers for each.  Thread: the loop's. */
void hr_mqtt_call_subscribe(hr_mqtt_client *it, uint64_t topics);

/* --- mqtt_client_tls.c: why TLS failed, on paho's threads --- */

/* Once, before the first connection. */
void hr_mqtt_tls_watch(void);

/* paho's ssl_error_cb; context is the client. The first words of an attempt are kept. */
int hr_mqtt_on_tls_error(const char *text, size_t size, void *context);

/* Takes what was kept; with nothing kept, says whether the certificate was for another host. NULL:
 * nothing is known. hr_free().  Thread: the one that was told of the failure. */
char *hr_mqtt_tls_take(hr_mqtt_client *it);

/* --- mqtt_client.c --- */

/* On the loop: what paho said; frees it. */
void hr_mqtt_handle_event(hr_message *message);

/* --- mqtt_client_url.c --- */

/* Errors: HR_E_CONFIG; nothing to free then. The texts of *out are the caller's. */
hr_code hr_mqtt_read_url(const char *url, hr_mqtt_address *out, hr_error *err);

#endif
