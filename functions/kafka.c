/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime kafka: events become records of a topic, as CloudEvents (Kafka protocol binding
 * 1.0.2). All events of a call are under way at once; the call is answered when each was reported.
 * What no broker took uses no attempt up: it comes again until it is older than `retry.max_age`. */
#include "core/envelope.h"
#include "core/memory.h"
#include "functions/outcomes.h"
#include "functions/registry.h"
#include "net/kafka_client_send.h"
#include "net/kafka_config.h"

#include <string.h>

enum { AGAIN_MS = 1000 };

typedef struct sink sink;

/* One event of a call; its address goes through the producer. */
typedef struct shipment {
    struct sending *sending;
    uint16_t index;
} shipment;

/* One call. Lives until its last report, which may come after a stop. */
typedef struct sending {
    hr_message message; /* first: an answer that must not come from within call() */
    sink *sink;
    hr_call *call;
    uint32_t left; /* reports to come */
    hr_outcomes outcomes;
    shipment *shipments;
    struct sending *next;  /* free */
    struct sending *other; /* all of the sink */
} sending;

struct sink {
    hr_runtime runtime; /* first */
    hr_kafka_sender *sender;
    hr_kafka_options options;
    hr_kafka_config config;
    const char *topic;
    bool is_structured;
    hr_buffer text; /* header texts and body of one event */
    sending *free, *all;
    uint32_t open;
};

/* ---- the record ---- */

typedef struct parts {
    hr_kafka_header header[HR_ENVELOPE_ATTRIBUTES + 8];
    size_t name_at[HR_ENVELOPE_ATTRIBUTES + 8], value_at[HR_ENVELOPE_ATTRIBUTES + 8];
    size_t count;
} parts;

static void add_header(sink *s, parts *p, const char *prefix, hr_slice name, hr_slice value) {
    p->name_at[p->count] = s->text.size;
    hr_buffer_add(&s->text, prefix, strlen(prefix));
    hr_buffer_add_slice(&s->text, name);
    p->header[p->count].name.size = s->text.size - p->name_at[p->count];
    p->value_at[p->count] = s->text.size;
    hr_buffer_add_slice(&s->text, value);
    p->header[p->count++].value.size = value.size;
}

/* Every attribute as a header ce_NAME, the content type as content-type. */
static void binary_headers(sink *s, parts *p, const hr_batch *batch, uint32_t index) {
    add_header(s, p, "ce_", hr_slice_text("specversion"), hr_slice_text("1.0"));
    add_header(s, p, "ce_", hr_slice_text("id"), hr_batch_id(batch, index));
    add_header(s, p, "ce_", hr_slice_text("source"), hr_batch_source(batch, index));
    add_header(s, p, "ce_", hr_slice_text("type"), hr_batch_type(batch, index));
    hr_attribute attribute;
    hr_slice envelope = hr_batch_envelope(batch, index);
    for (size_t cursor = 0; hr_envelope_next_attribute(envelope, &cursor, &attribute);) {
        if (hr_slice_is(attribute.name, "datacontenttype")) {
            add_header(s, p, "", hr_slice_text("content-type"), attribute.text);
        } else if (attribute.type == HR_ATTRIBUTE_STRING) {
            add_header(s, p, "ce_", attribute.name, attribute.text);
        } else {
            hr_buffer value = {0};
            hr_attribute_print(&attribute, &value);
            add_header(s, p, "ce_", attribute.name, hr_slice_of(value.bytes, value.size));
            hr_buffer_fini(&value);
        }
    }
}

static hr_kafka_report send_event(sink *s, const hr_event_ref *ref, shipment *tag,
                                  const char **out_why) {
    parts p;
    p.count = 0;
    s->text.size = 0;
    hr_kafka_record record = {.key = hr_batch_key(ref->batch, ref->index),
                              .value = hr_batch_data(ref->batch, ref->index),
                              .has_value =
                                  (ref->batch->view[ref->index].flags & HR_VIEW_DATA) != 0};
    record.has_key = record.key.size > 0;
    size_t body_at = 0;
    if (s->is_structured) {
        add_header(s, &p, "", hr_slice_text("content-type"),
                   hr_slice_text("application/cloudevents+json; charset=UTF-8"));
        body_at = s->text.size;
        hr_envelope_print_json(hr_batch_envelope(ref->batch, ref->index), &s->text);
        record.value = hr_slice_of(s->text.bytes + body_at, s->text.size - body_at);
        record.has_value = true;
    } else {
        binary_headers(s, &p, ref->batch, ref->index);
    }
    for (size_t i = 0; i < p.count; i++) { /* the buffer stands still now */
        p.header[i].name.bytes = s->text.bytes + p.name_at[i];
        p.header[i].value.bytes = s->text.bytes + p.value_at[i];
    }
    record.headers = p.header;
    record.header_count = p.count;
    return hr_kafka_send(s->sender, &record, tag, out_why);
}

/* ---- calls ---- */

static void give(sending *own) {
    sink *s = own->sink;
    uint32_t count = own->call->count;
    hr_answer answer = {.call = own->call->id,
                        .exceptions = own->outcomes.exceptions,
                        .exception_count = hr_outcomes_exceptions(&own->outcomes, count)};
    own->call = NULL;
    own->next = s->free;
    s->free = own;
    s->open--;
    s->runtime.host->answer(&s->runtime, &answer);
}

static void give_late(hr_message *message) {
    give((sending *)message);
}

static void except(sending *own, uint32_t index, hr_kafka_report report, const char *why) {
    bool is_unfit = report == HR_KAFKA_UNFIT;
    hr_outcomes_say(&own->outcomes, index, is_unfit ? HR_OUTCOME_DEAD : HR_OUTCOME_RETRY,
                    is_unfit ? -1 : AGAIN_MS, hr_slice_text(why));
}

static void on_report(void *data, void *tag, hr_kafka_report report, const char *why) {
    (void)data;
    shipment *own = tag;
    sending *of = own->sending;
    if (report != HR_KAFKA_SENT) {
        except(of, own->index, report, why);
    }
    if (--of->left == 0) {
        give(of);
    }
}

static void on_down(void *data, const char *why) {
    sink *s = data;
    s->runtime.host->down(&s->runtime, why);
}

static sending *new_sending(sink *s) {
    sending *own = s->free;
    if (own != NULL) {
        s->free = own->next;
    } else {
        own = hr_alloc(sizeof *own);
        own->message.run = give_late;
        own->sink = s;
        hr_outcomes_init(&own->outcomes, s->runtime.batch_size);
        own->shipments = hr_alloc_array(s->runtime.batch_size, sizeof *own->shipments);
        own->other = s->all;
        s->all = own;
    }
    hr_outcomes_reset(&own->outcomes);
    s->open++;
    return own;
}

static void call(hr_runtime *self, hr_call *call) {
    sink *s = (sink *)self;
    sending *own = new_sending(s);
    own->call = call;
    own->left = 0;
    for (uint32_t i = 0; i < call->count; i++) {
        own->shipments[i] = (shipment){.sending = own, .index = (uint16_t)i};
        const char *why = NULL;
        hr_kafka_report taken = send_event(s, &call->events[i], &own->shipments[i], &why);
        if (taken == HR_KAFKA_SENT) {
            own->left++;
        } else {
            except(own, i, taken, why);
        }
    }
    if (own->left == 0) {
        hr_loop_post(self->loop, &own->message);
    }
}

/* A record under way cannot be called back; librdkafka reports it before the call's time is over.
 */
static void cancel(hr_runtime *self, hr_call *call) {
    (void)self;
    (void)call;
}

/* ---- life ---- */

static hr_code init(hr_runtime *self, hr_error *err) {
    (void)err;
    sink *s = (sink *)self;
    const hr_node *config = self->kind_config;
    s->topic = hr_node_text(config, "topic", NULL);
    s->is_structured = strcmp(hr_node_text(config, "mode", "binary"), "structured") == 0;
    hr_kafka_config_read(config, self->name, &s->config, &s->options);
    return HR_OK;
}

static hr_code start(hr_runtime *self, hr_error *err) {
    sink *s = (sink *)self;
    hr_kafka_sender_user user = {.reported = on_report, .down = on_down, .data = s};
    uint32_t report_ms = self->timeout_ms > 2000 ? self->timeout_ms - 1000 : self->timeout_ms / 2;
    hr_code code =
        hr_kafka_sender_open(self->loop, &s->options, s->topic, report_ms, &user, &s->sender, err);
    if (code == HR_OK) {
        self->host->room(self, self->concurrency);
    }
    return code;
}

static void stop(hr_runtime *self) {
    self->host->stopped(self); /* nothing is under way: all calls were answered */
}

static void fini(hr_runtime *self) {
    sink *s = (sink *)self;
    hr_kafka_sender_close(s->sender);
    for (sending *own = s->all, *next = NULL; own != NULL; own = next) {
        next = own->other;
        hr_outcomes_fini(&own->outcomes);
        hr_free(own->shipments);
        hr_free(own);
    }
    hr_buffer_fini(&s->text);
    hr_kafka_config_fini(&s->config);
}

static hr_code load(const hr_node *kind_config, hr_error *err) {
    (void)kind_config;
    return hr_kafka_load(err);
}

const hr_runtime_ops hr_kafka_sink_ops = {.kind = "kafka",
                                          .object_size = sizeof(sink),
                                          .load = load,
                                          .init = init,
                                          .start = start,
                                          .call = call,
                                          .cancel = cancel,
                                          .stop = stop,
                                          .fini = fini};
