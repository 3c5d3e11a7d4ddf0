/* SPDX-License-Identifier: Apache-2.0 */
/* A trigger turns something outside (a topic, a request, a clock) into events.
 *
 * Life:  init -> start -> (offer, reject, durable, refused, want)* -> stop -> stopped -> fini
 * Rule:  the outside is told "safe" only in durable(), which comes after the commit.
 *
 * Push triggers (webhook, storage, mqtt, cron, demo) own one journal feed; what they offer is
 * appended to it. Pull triggers (kafka) own feeds that stay at their source: they deliver batches
 * of positions they can seek to. All calls here are made on the loop thread, in both directions. */
#ifndef HR_BROKER_TRIGGER_H
#define HR_BROKER_TRIGGER_H

#include "core/batch.h"
#include "core/error.h"
#include "core/loop.h"
#include "core/node.h"

typedef struct hr_trigger hr_trigger;
struct hr_http_server; /* net/http_server.h */

/* One constant table a kind. No slot may block; unused slots are NULL. */
typedef struct hr_trigger_ops {
    const char *kind;   /* the word in the configuration: "mqtt" */
    size_t object_size; /* bytes; hr_trigger comes first, the object arrives zeroed */

    /* Loads the libraries that this configuration needs (the value under the kind key), so that a
     * missing one is told before anything starts. NULL: none. */
    hr_code (*load)(const hr_node *kind_config, hr_error *err);

    /* Reads self->config into the object. Opens nothing. */
    hr_code (*init)(hr_trigger *self, hr_error *err);

    /* Opens the source. A peer that is down is no error: it is said by hr_trigger_state(). */
    hr_code (*start)(hr_trigger *self, hr_error *err);

    /* Everything offered or rejected up to this ticket is durable: tell the source. Tickets come in
     * ascending order. */
    void (*durable)(hr_trigger *self, uint64_t up_to_ticket);

    /* The offers first..last were not kept: let the source send again, or answer with an error. */
    void (*refused)(hr_trigger *self, uint64_t first, uint64_t last, hr_code why);

    /* Push: events 0 = emit nothing more, > 0 = go on (both idempotent). Pull: so many more events
     * may be delivered for the feed. */
    void (*want)(hr_trigger *self, uint32_t feed, uint32_t events);

    /* Pull: every function has settled or parked all below low, and that is durable. */
    void (*settled)(hr_trigger *self, uint32_t feed, uint64_t low);

    /* One event by hand at the trigger (`headrace emit`): raw is what the source would have sent
     * (a body, an MQTT payload, a record's value), options are kind-specific (topic, key, headers,
     * at). The trigger packs it as if it had come and appends to out; cron packs a tick. */
    hr_code (*emit)(hr_trigger *self, hr_slice raw, const hr_node *options, hr_builder *out,
                    hr_error *err);

    /* Emits nothing more, then hr_trigger_stopped(), now or later. durable() may still come
     * before stopped. */
    void (*stop)(hr_trigger *self);

    /* Frees what init made. Only before start or after stopped. */
    void (*fini)(hr_trigger *self);
} hr_trigger_ops;

typedef enum hr_trigger_up { HR_TRIGGER_STARTING, HR_TRIGGER_UP, HR_TRIGGER_DOWN } hr_trigger_up;

/* What a trigger calls; lent for its life by the engine (or a test). */
typedef struct hr_trigger_host {
    /* Push: takes the batch (feed and positions are set by the dispatcher). Tickets ascend per
     * trigger, without gaps, over offer and reject together. key: see key hook below. */
    void (*offer)(hr_trigger *self, hr_batch *take_batch, uint64_t ticket);

    /* Malformed input: becomes a dead letter of the trigger with why and raw (at most 64 KiB are
     * kept). Takes a ticket like an offer; ticket 0 with a pull trigger. */
    void (*reject)(hr_trigger *self, hr_slice raw, const char *why, uint64_t ticket);

    /* Pull: a feed of this trigger became ours; identity is unique and stable ("cluster/group/
     * topic/partition"). Returns the feed's number for later calls and, in out_low, the position
     * the store knows (the next to be read), UINT64_MAX when it knows none. */
    uint32_t (*assign)(hr_trigger *self, const char *identity, uint64_t *out_low);

    /* Pull: where this feed starts (absolute), known after assign; nothing is dispatched before. */
    void (*begin)(hr_trigger *self, uint32_t feed, uint64_t position);

    /* Pull: a batch of an assigned feed, batch->feed and positions set. Within the credit. */
    void (*deliver)(hr_trigger *self, hr_batch *take_batch);

    /* Pull: the feed is being taken away; done(data) is called after running calls ended or 5 s
     * passed and what is settled is durable; settled() has been called with the last low before. */
    void (*revoke)(hr_trigger *self, uint32_t feed, void (*done)(void *data), void *data);

    /* State for `status`: reason is the peer's own words, NULL when up. Logs changes. */
    void (*state)(hr_trigger *self, hr_trigger_up up, const char *reason);

    /* Numbers for `status`, e.g. ("lag", 18204); kept by name, at most 8 names. */
    void (*gauge)(hr_trigger *self, const char *name, int64_t value);

    /* Push: one time that the store keeps for this trigger, durable soon; the next life has it in
     * kept_us. Cron does it with its offers. */
    void (*keep)(hr_trigger *self, int64_t time_us);

    void (*stopped)(hr_trigger *self); /* the last call of its life on its host */
} hr_trigger_host;

struct hr_trigger {
    const hr_trigger_ops *ops;
    const hr_trigger_host *host;
    hr_loop *loop;
    struct hr_http_server *http; /* the webhook server; NULL when no trigger needs one */
    const char *name;            /* from the configuration */
    const hr_node *config;       /* the whole trigger's map: its kind key, key, dedupe */
    const hr_node *kind_config;  /* the value under its kind key */
    const char *state_dir;       /* folder of the store */
    const char *store_id;        /* random id of the store, for static membership */
    int64_t kept_us;             /* from the store: cron: the last fire; mqtt: since when a broker
                                    keeps its session, 0: none does; INT64_MIN: nothing was kept */
    uint64_t takers;             /* hash of the set of functions that take from it */
    uint32_t index;              /* the engine's */
    void *host_data;             /* the engine's */
};

/* Sets of kinds, by name; NULL when unknown. Defined in triggers/registry.c. */
const hr_trigger_ops *hr_trigger_kind(const char *kind);

#endif
