/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mqtt_client_priv.h"

#include "core/memory.h"

#include <stdio.h>
#include <string.h>

enum {
    OPEN_COST_MAX = 32 << 20, /* bytes taken and not durable; then the broker is not read */
    BACKOFF_FIRST_MS = 250,
    BACKOFF_MAX_MS = 30000,
    SETTLE_MS = 200,      /* between two looks whether a new connection may be made */
    ASK_AGAIN_MS = 10000, /* for topics the broker refused */
    LOSE_MAX_MS = 20000,  /* for paho to notice that its connection is gone */
    STOP_MAX_MS = 5000,
    STOP_QUIET_MS = 100 /* for paho's last acknowledgements to arrive and pass, all being safe */
};

static hr_mqtt_client *everyone; /* the loop's; keeps them reachable */

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
    it->phase = HR_MQTT_ENDED;
    hr_mqtt_gate_free(it->gate);
    it->gate = NULL;
    hr_timer_free(it->timer);
    hr_timer_free(it->patience);
    it->timer = it->patience = NULL;
    it->user.stopped(it->user.data, it->dropped);
}

static void wait_ms(hr_mqtt_client *it, uint64_t ms) {
    it->phase = HR_MQTT_WAITING;
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
    it->phase = HR_MQTT_LOSING;
    hr_timer_start(it->timer, LOSE_MAX_MS, 0); /* paho says so sooner */
}

static void gate_dialed(void *data, hr_code code, const char *why) {
    hr_mqtt_client *it = data;
    if (code != HR_OK) {
        go_down(it, why);
        return;
    }
    it->phase = HR_MQTT_CONNECTING;
    hr_mqtt_call_connect(it);
}

static void gate_closed(void *data, const char *why) {
    lose(data, why);
}

/* While a commit is under way, what comes can be in none before the next: it is left in the inbox,
 * so that a commit is one batch and one wake-up. */
static bool may_wait(hr_mqtt_client *it) {
    uint64_t given = atomic_load(&it->given);
    if (it->safe >= given || atomic_load(&it->taken) - given >= HR_MQTT_FULL) {
        return false;
    }
    hr_mqtt_wake wake = HR_MQTT_WAKE_COMMIT;
    atomic_store(&it->wake, wake);
    if (atomic_load(&it->taken) - given >= HR_MQTT_FULL &&
        atomic_compare_exchange_strong(&it->wake, &wake, HR_MQTT_WAKE_SENT)) {
        return false;
    }
    hr_timer_start(it->patience, HR_MQTT_PATIENCE_MS, 0);
    return true;
}

static void end_wait(hr_mqtt_client *it) {
    hr_mqtt_wake wake = HR_MQTT_WAKE_COMMIT;
    if (atomic_compare_exchange_strong(&it->wake, &wake, HR_MQTT_WAKE_SENT)) {
        hr_loop_defer(it->loop, &it->look);
    }
}

/* A commit costs as much for one message as for a hundred, so what waits behind a commit waits a
 * moment more for company, as long as that brings company: a broker that lets fewer be open than
 * come in that time sends none before it has our acknowledgements. */
static bool begin_pause(hr_mqtt_client *it) {
    uint64_t waiting = atomic_load(&it->taken) - atomic_load(&it->given);
    if (waiting == 0 || waiting >= HR_MQTT_FULL || it->is_stopping ||
        atomic_load(&it->wake) != HR_MQTT_WAKE_COMMIT) {
        return false;
    }
    if (it->unpaused < it->must_not) {
        it->unpaused++;
        return false;
    }
    it->paused_with = waiting;
    hr_timer_start(it->patience, HR_MQTT_PAUSE_MS, 0);
    return true;
}

/* One that brought less than half as much again is not soon made again. */
static void end_pause(hr_mqtt_client *it) {
    uint64_t waiting = atomic_load(&it->taken) - atomic_load(&it->given);
    bool was_worth_it = waiting > it->paused_with + it->paused_with / 2;
    it->must_not = was_worth_it                              ? 0
                   : it->must_not > HR_MQTT_UNPAUSED_MAX / 2 ? HR_MQTT_UNPAUSED_MAX
                                                             : 2 * it->must_not + 1;
    it->unpaused = 0;
    it->paused_with = 0;
}

static void waited_long(void *data) {
    hr_mqtt_client *it = data;
    it->is_late = true;
    end_wait(it);
}

static void give(hr_message *message) {
    hr_mqtt_client *it =
        (hr_mqtt_client *)(void *)((char *)message - offsetof(hr_mqtt_client, look));
    if (!it->is_stopping && !it->is_late && may_wait(it)) {
        return;
    }
    it->is_late = false;
    if (it->paused_with > 0) {
        end_pause(it);
    }
    if (it->patience != NULL) {
        hr_timer_stop(it->patience);
    }
    if (it->gate != NULL) {
        hr_mqtt_gate_read(it->gate);
    }
    atomic_store(&it->wake, HR_MQTT_WAKE_NEXT);
    hr_mqtt_message *newest = atomic_exchange(&it->inbox, NULL);
    if (newest != NULL) {
        atomic_store(&it->given, newest->sequence);
    }
    hr_mqtt_message *list = NULL;
    while (newest != NULL) {
        hr_mqtt_message *next = newest->next;
        newest->next = list;
        list = newest;
        newest = next;
    }
    if (it->is_stopping ||
        it->phase == HR_MQTT_ENDED) { /* not acknowledged: it comes again, but QoS 0 */
        while (list != NULL) {
            hr_mqtt_message *next = list->next;
            it->dropped += list->qos == 0 ? 1 : 0;
            hr_mqtt_message_free(list);
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

static uint64_t not_granted(const hr_mqtt_client *it) {
    uint64_t all = 0;
    for (size_t i = 0; i < it->topic_count; i++) {
        all |= it->topic[i].is_granted ? 0 : UINT64_C(1) << i;
    }
    return all;
}

static void subscribed(hr_mqtt_client *it, const hr_mqtt_event *said) {
    hr_mqtt_topic *one = &it->topic[said->topic];
    one->is_granted = said->code >= 0;
    (void)snprintf(one->refused, sizeof one->refused, "%.150s", one->is_granted ? "" : said->text);
    if (it->phase == HR_MQTT_UP) {
        tell_up(it);
        if (!one->is_granted && !it->is_stopping) {
            hr_timer_start(it->timer, ASK_AGAIN_MS, 0);
        }
    }
}

/* A broker keeps a session from the first connect that asks for one. One that knows none later was
 * restarted without what it kept, or held it for a shorter time than we were away. */
static void tell_session(hr_mqtt_client *it, bool is_present) {
    bool is_asked = it->session_s > 0;
    it->user.session(it->user.data, !is_asked                        ? HR_MQTT_NO_SESSION
                                    : it->had_session && !is_present ? HR_MQTT_SESSION_LOST
                                                                     : HR_MQTT_SESSION);
    it->had_session = is_asked;
}

static void connected(hr_mqtt_client *it, const hr_mqtt_event *said) {
    it->phase = HR_MQTT_UP;
    it->backoff_ms = BACKOFF_FIRST_MS;
    it->urls_failed = 0;
    hr_timer_stop(it->timer);
    tell_session(it, said->has_session);
    /* The filters may have been edited since the session was made: once a process they are said in
     * any case (over 5, retained messages do not repeat thereby). */
    for (size_t i = 0; i < it->topic_count && !said->has_session; i++) {
        it->topic[i].is_granted = false;
    }
    if (not_granted(it) != 0) {
        hr_mqtt_call_subscribe(it, not_granted(it));
    } else {
        tell_up(it);
    }
}

static void failed(hr_mqtt_client *it, const hr_mqtt_event *said) {
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

void hr_mqtt_handle_event(hr_message *message) {
    hr_mqtt_event *self = (hr_mqtt_event *)(void *)message;
    hr_mqtt_client *it = self->client;
    if (it->phase == HR_MQTT_ENDED || self->attempt != it->attempt ||
        it->phase == HR_MQTT_WAITING || it->phase == HR_MQTT_DIALING) {
        hr_free(self);
        return;
    }
    switch (self->kind) {
    case HR_MQTT_CONNECTED:
        if (it->phase == HR_MQTT_CONNECTING) {
            connected(it, self);
        }
        break;
    case HR_MQTT_FAILED:
        failed(it, self);
        break;
    case HR_MQTT_LOST:
        hr_mqtt_gate_shut(it->gate);
        go_down(it, it->phase == HR_MQTT_LOSING ? it->why : self->text);
        break;
    case HR_MQTT_SUBSCRIBED:
        subscribed(it, self);
        break;
    }
    hr_free(self);
}

static bool has_stopped(hr_mqtt_client *it) {
    bool is_late = (hr_mono_ns() - it->stop_ns) / 1000000 > STOP_MAX_MS;
    if (it->phase == HR_MQTT_UP && (it->safe >= it->last_given || is_late)) {
        lose(it, "stopping");
        return false;
    }
    return it->phase == HR_MQTT_WAITING || is_late;
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
    if (it->phase == HR_MQTT_LOSING) {
        go_down(it, it->why);
        return;
    }
    if (it->phase == HR_MQTT_UP && not_granted(it) != 0) {
        hr_mqtt_call_subscribe(it, not_granted(it));
    }
    if (it->phase != HR_MQTT_WAITING) {
        return;
    }
    if (!is_settled(it) || it->is_held || gate_is_full(it)) { /* S19 */
        hr_timer_start(it->timer, SETTLE_MS, 0);
        return;
    }
    it->attempt++;
    it->phase = HR_MQTT_DIALING;
    hr_mqtt_gate_dial(it->gate, it->url[it->url_now].host, it->url[it->url_now].port);
}

void hr_mqtt_client_durable(hr_mqtt_client *it, uint64_t up_to, size_t cost) {
    it->safe = up_to > it->safe ? up_to : it->safe;
    it->safe_cost += cost;
    if (it->safe >= atomic_load(&it->given) && !begin_pause(it)) {
        end_wait(it);
    }
    if (it->gate != NULL) {
        hr_mqtt_gate_durable(it->gate, it->safe);
    }
    if (it->is_stopping && it->phase == HR_MQTT_UP && it->safe >= it->last_given) {
        hr_timer_start(it->timer, STOP_QUIET_MS, 0);
    }
}

void hr_mqtt_client_refuse(hr_mqtt_client *it, uint64_t up_to, size_t cost) {
    if (it->gate != NULL && (it->phase == HR_MQTT_UP || it->phase == HR_MQTT_CONNECTING)) {
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
    if (it->phase == HR_MQTT_DIALING) {
        hr_mqtt_gate_shut(it->gate);
        it->phase = HR_MQTT_WAITING;
    } else if (it->phase == HR_MQTT_CONNECTING) {
        lose(it, "stopping");
    }
    hr_timer_start(it->timer, it->phase == HR_MQTT_UP ? STOP_QUIET_MS : 1, 0);
}

/* --- life --- */

hr_code hr_mqtt_client_open(hr_loop *loop, const hr_mqtt_settings *settings,
                            const hr_mqtt_client_user *user, hr_mqtt_client **out_client,
                            hr_error *err) {
    HR_ASSERT(settings->url_count > 0 && settings->url_count <= HR_MQTT_URLS);
    HR_ASSERT(settings->topic_count > 0 && settings->topic_count <= HR_MQTT_TOPICS);
    if (hr_mqtt_load(err) != HR_OK) {
        return HR_E_UNSUPPORTED;
    }
    hr_mqtt_client *it = hr_alloc(sizeof *it);
    it->next = everyone;
    everyone = it;
    it->loop = loop;
    it->user = *user;
    it->look.run = give;
    for (size_t i = 0; i < settings->url_count; i++) {
        hr_code code = hr_mqtt_read_url(settings->url[i], &it->url[i], err);
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
    it->had_session = settings->had_session;
    it->window = settings->window;
    it->is_auto = settings->version == 0;
    it->version = settings->version == 3 ? 3 : 5;
    it->backoff_ms = BACKOFF_FIRST_MS;
    hr_mqtt_gate_user gate_user = {.taken = gate_taken,
                                   .is_full = gate_is_full,
                                   .dialed = gate_dialed,
                                   .closed = gate_closed,
                                   .data = it,
                                   .keepalive_s = HR_MQTT_KEEPALIVE_S};
    hr_code code = hr_mqtt_gate_open(loop, &gate_user, &it->gate, err);
    if (code != HR_OK) {
        return code;
    }
    it->http_proxy = hr_format("http://%s", hr_mqtt_gate_proxy(it->gate));
    it->https_proxy = hr_format("https://%s", hr_mqtt_gate_proxy(it->gate));
    it->timer = hr_timer_new(loop, timer_fired, it);
    it->patience = hr_timer_new(loop, waited_long, it);
    wait_ms(it, 0);
    *out_client = it;
    return HR_OK;
}
