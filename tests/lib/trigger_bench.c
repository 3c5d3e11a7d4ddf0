/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/trigger_bench.h"

#include "core/envelope.h"
#include "core/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static trigger_bench *bench; /* of the test that runs */

static void after(void) {
    if (bench->mode != BENCH_HOLD) {
        hr_timer_start(bench->timer, (uint64_t)bench->delay_ms, 0);
    }
}

static void on_offer(hr_trigger *self, hr_batch *take_batch, uint64_t ticket) {
    HR_ASSERT(self == bench->trigger && bench->offer_count < BENCH_OFFERS);
    HR_ASSERT(ticket == bench->last_ticket + 1);
    bench->last_ticket = ticket;
    bench->tickets[bench->offer_count] = ticket;
    bench->offers[bench->offer_count++] = take_batch;
    after();
    if (bench->on_offer != NULL) {
        bench->on_offer(bench);
    }
}

static void on_reject(hr_trigger *self, hr_slice raw, const char *why, uint64_t ticket) {
    HR_ASSERT(self == bench->trigger && bench->reject_count < BENCH_OFFERS);
    HR_ASSERT(ticket == bench->last_ticket + 1);
    bench->last_ticket = ticket;
    hr_buffer_add_slice(&bench->rejects[bench->reject_count].raw, raw);
    snprintf(bench->rejects[bench->reject_count].why, sizeof bench->rejects[0].why, "%s", why);
    bench->rejects[bench->reject_count++].ticket = ticket;
    after();
}

static void on_state(hr_trigger *self, hr_trigger_up up, const char *reason) {
    (void)self;
    (void)reason;
    bench->up = up;
}

static void on_gauge(hr_trigger *self, const char *name, int64_t value) {
    (void)self;
    struct {
        const char *name;
        int64_t *to;
    } known[] = {{"unauthorized", &bench->unauthorized},
                 {"malformed", &bench->malformed},
                 {"refused", &bench->refused},
                 {"ignored", &bench->ignored},
                 {"insecure", &bench->insecure}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i].name, name) == 0) {
            *known[i].to = value;
        }
    }
}

static void on_stopped(hr_trigger *self) {
    (void)self;
    HR_ASSERT(!bench->has_stopped);
    bench->has_stopped = true;
}

static const hr_trigger_host host = {.offer = on_offer,
                                     .reject = on_reject,
                                     .state = on_state,
                                     .gauge = on_gauge,
                                     .stopped = on_stopped};

static void on_timer(void *data) {
    trigger_bench *self = data;
    self->durable_ns = hr_mono_ns();
    if (self->mode == BENCH_REFUSE) {
        self->trigger->ops->refused(self->trigger, 1, self->last_ticket, HR_E_STORE_FULL);
    } else { /* ticket by ticket: a unit of several ends with the last */
        self->trigger->ops->durable(self->trigger, ++self->durable_ticket);
        if (self->durable_ticket < self->last_ticket) {
            after();
        }
    }
}

hr_code bench_begin(trigger_bench *self, const char *kind, const char *const *settings,
                    hr_error *err) {
    memset(self, 0, sizeof *self);
    bench = self;
    self->delay_ms = 20;
    self->loop = hr_loop_new();
    self->timer = hr_timer_new(self->loop, on_timer, self);
    hr_http_options options = {.listen = "127.0.0.1:0"};
    self->server = hr_http_server_new(self->loop, &options);
    self->config = hr_node_add(NULL, HR_NODE_MAP, NULL);
    hr_node *map = hr_node_add(self->config, HR_NODE_MAP, kind);
    for (size_t i = 0; settings[i] != NULL; i += 2) {
        hr_node *list = NULL; /* a key that comes again makes a list */
        for (hr_node *at = map->child; at != NULL; at = at->next) {
            list = strcmp(at->key, settings[i]) == 0 ? at : list;
        }
        if (list == NULL) {
            list = hr_node_add(map, HR_NODE_LIST, settings[i]);
            list->text = hr_copy_text(settings[i + 1]);
            list->number = strtoll(settings[i + 1], NULL, 10);
            list->kind = HR_NODE_TEXT;
        } else {
            if (list->kind == HR_NODE_TEXT) {
                list->kind = HR_NODE_LIST;
                hr_node_add_text(list, NULL, list->text, 0);
            }
            hr_node_add_text(list, NULL, settings[i + 1], 0);
        }
    }
    const hr_trigger_ops *ops = hr_trigger_kind(kind);
    assert_non_null(ops);
    self->trigger = hr_alloc(ops->object_size);
    *self->trigger = (hr_trigger){.ops = ops,
                                  .host = &host,
                                  .loop = self->loop,
                                  .http = self->server,
                                  .name = "hooked",
                                  .config = self->config,
                                  .kind_config = hr_node_get(self->config, kind),
                                  .state_dir = ".",
                                  .store_id = "0123",
                                  .kept_us = INT64_MIN};
    return ops->init(self->trigger, err);
}

void bench_start(trigger_bench *self) {
    hr_error err = {0};
    assert_int_equal(self->trigger->ops->start(self->trigger, &err), HR_OK);
    assert_int_equal(hr_http_server_start(self->server, &err), HR_OK);
    assert_int_equal(self->up, HR_TRIGGER_UP);
}

const raw_exchange *bench_ask(trigger_bench *self, const char *method, const char *path,
                              const char *headers, const char *body) {
    static raw_exchange exchange;
    char *head = hr_format("%s %s HTTP/1.1\r\nHost: x\r\n%s", method, path, headers);
    exchange =
        (raw_exchange){.head = head, .body = body, .port = hr_http_server_port(self->server)};
    raw_run_all(self->loop, &exchange, 1);
    hr_free(head);
    exchange.head = NULL;
    return &exchange;
}

const raw_exchange *bench_post(trigger_bench *self, const char *path, const char *headers,
                               const char *body) {
    return bench_ask(self, "POST", path, headers, body);
}

size_t bench_event_count(const trigger_bench *self) {
    size_t count = 0;
    for (size_t i = 0; i < self->offer_count; i++) {
        count += self->offers[i]->count;
    }
    return count;
}

const hr_batch *bench_event(const trigger_bench *self, size_t index, uint32_t *out_place) {
    for (size_t i = 0; i < self->offer_count; i++) {
        if (index < self->offers[i]->count) {
            *out_place = (uint32_t)index;
            return self->offers[i];
        }
        index -= self->offers[i]->count;
    }
    fail_msg("no such event");
    return NULL;
}

const char *bench_text(hr_slice slice) {
    static char texts[8][4096];
    static unsigned next;
    char *text = texts[next++ % 8];
    size_t size = slice.size < sizeof texts[0] - 1 ? slice.size : sizeof texts[0] - 1;
    if (size > 0) {
        memcpy(text, slice.bytes, size);
    }
    text[size] = 0;
    return text;
}

const char *bench_attribute(const trigger_bench *self, size_t index, const char *name) {
    uint32_t place = 0;
    const hr_batch *batch = bench_event(self, index, &place);
    hr_attribute attribute;
    if (!hr_envelope_attribute(hr_batch_envelope(batch, place), name, &attribute)) {
        return NULL;
    }
    hr_buffer text = {0};
    hr_attribute_print(&attribute, &text);
    const char *result = bench_text(hr_slice_of(text.bytes, text.size));
    hr_buffer_fini(&text);
    return result;
}

void bench_end(trigger_bench *self) {
    if (self->up == HR_TRIGGER_UP) {
        self->trigger->ops->stop(self->trigger);
    }
    hr_http_server_free(self->server);
    self->trigger->ops->fini(self->trigger);
    hr_free(self->trigger);
    hr_timer_free(self->timer);
    hr_loop_free(self->loop);
    hr_node_free(self->config);
    for (size_t i = 0; i < self->offer_count; i++) {
        hr_batch_unref(self->offers[i]);
    }
    for (size_t i = 0; i < self->reject_count; i++) {
        hr_buffer_fini(&self->rejects[i].raw);
    }
    bench = NULL;
}
