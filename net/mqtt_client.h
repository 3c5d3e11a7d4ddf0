/* SPDX-License-Identifier: Apache-2.0 */
/* One MQTT subscriber: paho's MQTTAsync behind the ack gate, reconnecting by itself.
 *
 * Life:  open -> (messages, durable, refuse, hold, state)* -> stop -> stopped. Never freed: paho's
 *        threads may look at it until the process ends (destroying its clients races).
 * Rule:  a message is acknowledged only after durable() covered its sequence.
 * Thread: the loop's; paho's own calls run on a thread of ours, since they wait for its lock. */
#ifndef HR_NET_MQTT_CLIENT_H
#define HR_NET_MQTT_CLIENT_H

#include "core/error.h"
#include "core/loop.h"
#include "core/slice.h"

typedef struct hr_mqtt_client hr_mqtt_client;

typedef struct hr_mqtt_property {
    hr_slice name, value;
} hr_mqtt_property;

/* One message as it came; slices point to what lives as long as it. */
typedef struct hr_mqtt_message {
    struct hr_mqtt_message *next;
    struct hr_mqtt_block *block; /* where it lies, with its neighbours */
    uint64_t sequence;           /* from 1 without gaps for each client */
    int64_t received_us;
    hr_slice topic, payload, content_type;
    hr_mqtt_property *properties; /* user properties, in order */
    size_t property_count;
    size_t cost; /* bytes it counts for */
    int qos;     /* as delivered */
    bool is_retained;
} hr_mqtt_message;

enum { HR_MQTT_URLS = 16, HR_MQTT_TOPICS = 64 };

/* What the client is to do; copied by open. Absent texts are NULL. */
typedef struct hr_mqtt_settings {
    const char *url[HR_MQTT_URLS]; /* mqtt://host[:port] or mqtts://; tried in turn */
    size_t url_count;
    const char *topic[HR_MQTT_TOPICS]; /* filters as the broker knows them */
    size_t topic_count;
    const char *client_id, *username, *password;
    const char *ca, *cert, *key; /* PEM files */
    bool verify;                 /* the broker's certificate and its name */
    int qos;                     /* 0..2; over 3.1.1 at most 1 is subscribed */
    int version;                 /* 0: 5, then 3.1.1; 3: 3.1.1; 5: 5 */
    uint32_t session_s;          /* session expiry; 0: clean start */
    bool had_session;            /* a former life had one at the broker */
    uint16_t window;             /* receive maximum, > 0 */
} hr_mqtt_settings;

typedef enum hr_mqtt_session {
    HR_MQTT_NO_SESSION,  /* none is asked for (session_s 0) */
    HR_MQTT_SESSION,     /* the broker keeps one from now on, or still does */
    HR_MQTT_SESSION_LOST /* it kept one once and knows none: what was in it never comes. It keeps a
                            new one from now on */
} hr_mqtt_session;

typedef struct hr_mqtt_client_user {
    /* All that came since, oldest first; each is the callee's, who ends it with
     * hr_mqtt_message_free(). */
    void (*messages)(void *data, hr_mqtt_message *take_list);
    /* why: the peer's words or what is special, NULL: nothing. */
    void (*state)(void *data, bool is_up, const char *why);
    void (*session)(void *data, hr_mqtt_session now); /* at each connect, before state() */
    void (*stopped)(void *data, uint64_t dropped);    /* the last call; messages of QoS 0 that came
                                                         during the stop and nobody sends again */
    void *data;
} hr_mqtt_client_user;

/* Loads paho, which open does by itself otherwise: a missing one is told before anything starts.
 * Errors: HR_E_UNSUPPORTED.  Thread: any. */
hr_code hr_mqtt_load(hr_error *err);

/* Makes the client and begins to connect. Errors: HR_E_IO, HR_E_CONFIG (a URL), HR_E_UNSUPPORTED
 * (no paho). */
hr_code hr_mqtt_client_open(hr_loop *loop, const hr_mqtt_settings *settings,
                            const hr_mqtt_client_user *user, hr_mqtt_client **out_client,
                            hr_error *err);

/* Takes the message. Thread: any. */
void hr_mqtt_message_free(hr_mqtt_message *take_message);

/* Everything up to this sequence is durable; cost: the sum of what became so. */
void hr_mqtt_client_durable(hr_mqtt_client *it, uint64_t up_to, size_t cost);

/* Everything up to this sequence is settled, but some of it was not kept: the connection ends
 * unacknowledged, so that the broker sends it again. */
void hr_mqtt_client_refuse(hr_mqtt_client *it, uint64_t up_to, size_t cost);

/* Reads no more from the broker until it is released. */
void hr_mqtt_client_hold(hr_mqtt_client *it, bool is_held);

/* Gives no more messages; waits (5 s at most) until what was given is durable, forwards its
 * acknowledgements, closes, and calls stopped(). */
void hr_mqtt_client_stop(hr_mqtt_client *it, uint64_t last_given);

#endif
