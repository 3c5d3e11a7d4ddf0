/* SPDX-License-Identifier: Apache-2.0 */
/* The runtimes http and notify: an event as a POST. 2xx is done, unless the chat's words say
 * otherwise; 429 and 503 wait as Retry-After says without using an attempt; other 4xx but 408 are
 * dead letters; the rest is tried again. */
#include "core/envelope.h"
#include "core/memory.h"
#include "functions/notify.h"
#include "functions/registry.h"
#include "functions/reply.h"
#include "net/digest.h"
#include "net/http_client.h"

#include <stdio.h>
#include <string.h>

enum { MODE_BINARY, MODE_STRUCTURED, MODE_CHAT, SHOWN_BYTES = 120 };

typedef struct push {
    hr_runtime runtime; /* first */
    hr_http_client *client;
    const char *url, *template;
    const char *shown; /* for error texts: the address of a chat is a secret */
    const hr_node *headers, *tls;
    int mode;
    hr_chat chat;
    struct posting *open;
    bool is_stopping;
} push;

/* One call: its events one after the other. */
typedef struct posting {
    push *push;
    hr_http_call *http;
    hr_reply reply;
    struct posting *next, **link; /* of push.open */
} posting;

static void post_event(posting *p);

static void free_posting(posting *p) {
    *p->link = p->next;
    if (p->next != NULL) {
        p->next->link = p->link;
    }
    hr_reply_fini(&p->reply);
    hr_free(p);
}

static void finish(posting *p, hr_code failure, const char *why) {
    push *own = p->push;
    hr_reply_give(&p->reply, failure, why);
    free_posting(p);
    if (own->is_stopping && own->open == NULL) {
        own->runtime.host->stopped(&own->runtime);
    }
}

static void keep_answer(posting *p, const hr_http_answered *answer) {
    if (p->push->mode == MODE_CHAT || answer->body.size == 0) {
        return;
    }
    hr_slice content_type = hr_slice_text(answer->content_type);
    hr_result result = {.content_type = content_type,
                        .data = answer->body,
                        .is_json = hr_content_type_is_json(content_type)};
    hr_reply_result(&p->reply, &result);
}

static hr_outcome outcome_of(int status) {
    bool is_refused = status >= 400 && status < 500 && status != 408 && status != 429;
    return status >= 200 && status < 300 ? HR_OUTCOME_OK
           : is_refused                  ? HR_OUTCOME_DEAD
                                         : HR_OUTCOME_RETRY;
}

static void on_answered(void *data, const hr_http_answered *answer) {
    posting *p = data;
    push *own = p->push;
    p->http = NULL;
    int status = answer->status;
    hr_buffer why = {0};
    hr_buffer_print(&why, "POST %.120s", own->shown);
    if (status == 0) {
        hr_buffer_print(&why, ": %s", answer->error);
        hr_reply_except(&p->reply, HR_OUTCOME_RETRY, -1, hr_buffer_text(&why));
    } else {
        hr_outcome outcome = outcome_of(status);
        hr_buffer_print(&why, " answered %d: ", status);
        hr_outcome said = own->mode == MODE_CHAT
                              ? hr_chat_answered(own->chat, status, answer->body, &why)
                              : HR_OUTCOME_OK;
        if (said != HR_OUTCOME_OK) {
            outcome = said;
        } else {
            hr_buffer_add(&why, answer->body.bytes,
                          answer->body.size < SHOWN_BYTES ? answer->body.size : SHOWN_BYTES);
        }
        bool waits = (status == 429 || status == 503) && answer->retry_after_ms >= 0;
        if (outcome == HR_OUTCOME_OK) {
            keep_answer(p, answer);
        } else {
            hr_reply_except(&p->reply, outcome, waits ? answer->retry_after_ms : -1,
                            hr_buffer_text(&why));
        }
    }
    hr_buffer_fini(&why);
    if (hr_reply_next(&p->reply)) {
        post_event(p);
    } else {
        finish(p, HR_OK, NULL);
    }
}

/* ce-NAME: value, percent-encoded as the HTTP binding says. */
static char *header_of(const char *prefix, hr_slice name, hr_slice value) {
    hr_buffer text = {0};
    hr_buffer_print(&text, "%s%.*s: ", prefix, (int)name.size, (const char *)name.bytes);
    for (size_t i = 0; i < value.size; i++) {
        uint8_t byte = value.bytes[i];
        if (byte < 0x21 || byte > 0x7e || byte == '"' || byte == '%') {
            hr_buffer_print(&text, "%%%02X", (unsigned)byte);
        } else {
            hr_buffer_add(&text, &byte, 1);
        }
    }
    char *header = hr_copy_text(hr_buffer_text(&text));
    hr_buffer_fini(&text);
    return header;
}

typedef struct header_list {
    const char *text[HR_ENVELOPE_ATTRIBUTES + 40];
    size_t count;
} header_list;

static void add_header(header_list *list, char *take_text) {
    if (list->count < sizeof list->text / sizeof *list->text - 1) {
        list->text[list->count++] = take_text;
    } else {
        hr_free(take_text);
    }
}

static void binary_headers(header_list *list, const hr_batch *batch, uint32_t index) {
    hr_slice envelope = hr_batch_envelope(batch, index);
    add_header(list, hr_copy_text("ce-specversion: 1.0"));
    add_header(list, header_of("ce-", hr_slice_text("id"), hr_batch_id(batch, index)));
    add_header(list, header_of("ce-", hr_slice_text("source"), hr_batch_source(batch, index)));
    add_header(list, header_of("ce-", hr_slice_text("type"), hr_batch_type(batch, index)));
    hr_attribute attribute;
    hr_buffer text = {0};
    bool has_content_type = false;
    for (size_t cursor = 0; hr_envelope_next_attribute(envelope, &cursor, &attribute);) {
        text.size = 0;
        hr_attribute_print(&attribute, &text);
        hr_slice value = hr_slice_of(text.bytes, text.size);
        if (hr_slice_is(attribute.name, "datacontenttype")) {
            has_content_type = memchr(value.bytes, '\n', value.size) == NULL;
            if (has_content_type) {
                add_header(list, hr_format("Content-Type: %.*s", (int)value.size,
                                           (const char *)value.bytes));
            }
        } else {
            add_header(list, header_of("ce-", attribute.name, value));
        }
    }
    if (!has_content_type) {
        add_header(list, hr_copy_text("Content-Type: application/octet-stream"));
    }
    hr_buffer_fini(&text);
}

static hr_slice make_body(posting *p, const hr_event_ref *ref, header_list *list, hr_buffer *out) {
    push *own = p->push;
    hr_slice envelope = hr_batch_envelope(ref->batch, ref->index);
    switch (own->mode) {
    case MODE_BINARY:
        binary_headers(list, ref->batch, ref->index);
        return hr_batch_data(ref->batch, ref->index);
    case MODE_STRUCTURED:
        add_header(list, hr_copy_text("Content-Type: application/cloudevents+json"));
        hr_envelope_print_json(envelope, out);
        break;
    default:
        add_header(list, hr_copy_text("Content-Type: application/json"));
        hr_chat_body(own->chat, own->template,
                     hr_node_text(own->runtime.kind_config, "secret", NULL), envelope, out);
    }
    return hr_slice_of(out->bytes, out->size);
}

static void post_event(posting *p) {
    push *own = p->push;
    header_list list = {0};
    for (const hr_node *n = own->headers == NULL ? NULL : own->headers->child; n != NULL;
         n = n->next) {
        add_header(&list, hr_format("%s: %s", n->key, n->text));
    }
    hr_buffer text = {0};
    hr_slice body = make_body(p, hr_reply_event(&p->reply), &list, &text);
    hr_http_send send = {.url = own->url,
                         .headers = list.text,
                         .body = body,
                         .timeout_ms = own->runtime.timeout_ms,
                         .answer_max = HR_RESULT_MAX + 1, /* one more shows that it is too large */
                         .ca = hr_node_text(own->tls, "ca", NULL),
                         .cert = hr_node_text(own->tls, "cert", NULL),
                         .key = hr_node_text(own->tls, "key", NULL),
                         .insecure = hr_node_number(own->tls, "verify", 1) == 0};
    p->http = hr_http_client_post(own->client, &send, on_answered, p);
    for (size_t i = 0; i < list.count; i++) {
        hr_free((void *)(uintptr_t)list.text[i]);
    }
    hr_buffer_fini(&text);
}

static hr_code init_http(hr_runtime *self, hr_error *err) {
    push *p = (push *)self;
    const hr_node *config = self->kind_config;
    bool is_map = config->kind == HR_NODE_MAP;
    p->url = is_map ? hr_node_text(config, "url", NULL) : config->text;
    const hr_node *url = is_map ? hr_node_get(config, "url") : config;
    p->shown = url != NULL && url->secret ? "http" : p->url;
    p->headers = hr_node_get(config, "headers");
    p->tls = hr_node_get(config, "tls");
    p->mode = strcmp(hr_node_text(config, "mode", "binary"), "structured") == 0 ? MODE_STRUCTURED
                                                                                : MODE_BINARY;
    return p->url == NULL
               ? hr_fail(err, HR_E_CONFIG, 0, "function '%s': http needs a url", self->name)
               : HR_OK;
}

static hr_code init_notify(hr_runtime *self, hr_error *err) {
    static const struct {
        const char *key;
        hr_chat chat;
    } kinds[] = {
        {"slack", HR_CHAT_SLACK}, {"feishu", HR_CHAT_FEISHU}, {"webhook", HR_CHAT_WEBHOOK}};
    push *p = (push *)self;
    p->mode = MODE_CHAT;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && p->url == NULL; i++) {
        p->url = hr_node_text(self->kind_config, kinds[i].key, NULL);
        p->chat = kinds[i].chat;
        p->shown = kinds[i].key;
    }
    p->template = hr_node_text(self->kind_config, "text", "{type} {subject}");
    return p->url == NULL
               ? hr_fail(err, HR_E_CONFIG, 0,
                         "function '%s': notify needs slack, feishu or webhook", self->name)
               : HR_OK;
}

static hr_code start(hr_runtime *self, hr_error *err) {
    hr_code code = hr_http_client_new(self->loop, &((push *)self)->client, err);
    if (code != HR_OK) {
        return code;
    }
    self->host->room(self, self->concurrency);
    return HR_OK;
}

static void call(hr_runtime *self, hr_call *call) {
    push *own = (push *)self;
    posting *p = hr_alloc(sizeof *p);
    p->push = own;
    hr_reply_init(&p->reply, self, call);
    call->slot = p;
    p->next = own->open;
    p->link = &own->open;
    if (p->next != NULL) {
        p->next->link = &p->next;
    }
    own->open = p;
    post_event(p);
}

static void cancel(hr_runtime *self, hr_call *call) {
    (void)self;
    posting *p = call->slot;
    hr_http_call_cancel(p->http);
    finish(p, HR_E_CALL_TIMEOUT, "no answer in time");
}

static void stop(hr_runtime *self) {
    push *p = (push *)self;
    p->is_stopping = true;
    if (p->open == NULL) {
        self->host->stopped(self);
    }
}

static void fini(hr_runtime *self) {
    push *own = (push *)self;
    hr_http_client_free(own->client); /* with the requests of what is still open */
    while (own->open != NULL) {
        free_posting(own->open);
    }
}

static hr_code load(const hr_node *kind_config, hr_error *err) {
    hr_code code = hr_http_client_load(err);
    bool is_signed = hr_node_get(kind_config, "secret") != NULL; /* of feishu */
    return code == HR_OK && is_signed ? hr_digest_load(err) : code;
}

const hr_runtime_ops hr_http_ops = {.kind = "http",
                                    .object_size = sizeof(push),
                                    .load = load,
                                    .init = init_http,
                                    .start = start,
                                    .call = call,
                                    .cancel = cancel,
                                    .stop = stop,
                                    .fini = fini};

const hr_runtime_ops hr_notify_ops = {.kind = "notify",
                                      .object_size = sizeof(push),
                                      .load = load,
                                      .init = init_notify,
                                      .start = start,
                                      .call = call,
                                      .cancel = cancel,
                                      .stop = stop,
                                      .fini = fini};
