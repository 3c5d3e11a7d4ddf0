/* SPDX-License-Identifier: Apache-2.0 */
/* A trigger with an HTTP server, a loop and a host that writes down what it is told. */
#ifndef HR_TESTS_TRIGGER_BENCH_H
#define HR_TESTS_TRIGGER_BENCH_H

#include "broker/trigger.h"
#include "net/http_server.h"
#include "tests/lib/http_raw.h"

enum { BENCH_OFFERS = 64 };

typedef enum bench_mode {
    BENCH_DURABLE, /* each offer is durable a little later */
    BENCH_REFUSE,  /* each is refused a little later, with HR_E_STORE_FULL */
    BENCH_HOLD     /* nothing happens until the test does it */
} bench_mode;

typedef struct trigger_bench {
    hr_loop *loop;
    hr_http_server *server;
    hr_trigger *trigger;
    hr_node *config;
    hr_timer *timer;
    bench_mode mode;
    int delay_ms;
    hr_batch *offers[BENCH_OFFERS];
    uint64_t tickets[BENCH_OFFERS];
    size_t offer_count;
    struct {
        hr_buffer raw;
        char why[400];
        uint64_t ticket;
    } rejects[BENCH_OFFERS];
    size_t reject_count;
    uint64_t last_ticket, durable_ticket;
    uint64_t durable_ns; /* when durable or refused was last called */
    int64_t unauthorized, malformed, refused, ignored, insecure;
    hr_trigger_up up;
    bool has_stopped;
    void (*on_offer)(struct trigger_bench *self); /* after it was written down; may be NULL */
} trigger_bench;

/* kind and a list "key", "value", ..., NULL of its kind map; numbers are read with strtoll. Returns
 * the code of init; the bench must be ended whatever it is. */
hr_code bench_begin(trigger_bench *self, const char *kind, const char *const *settings,
                    hr_error *err);

/* Starts trigger and server; asserts that both do. */
void bench_start(trigger_bench *self);

/* One exchange with the running trigger; extra header lines end with \r\n each. */
const raw_exchange *bench_post(trigger_bench *self, const char *path, const char *headers,
                               const char *body);
const raw_exchange *bench_ask(trigger_bench *self, const char *method, const char *path,
                              const char *headers, const char *body);

/* Event number index over all offers; its batch and place there. */
const hr_batch *bench_event(const trigger_bench *self, size_t index, uint32_t *out_place);
size_t bench_event_count(const trigger_bench *self);

/* A part of event index as a terminated text (static, the next call overwrites it after 8). */
const char *bench_text(hr_slice slice);
const char *bench_attribute(const trigger_bench *self, size_t index, const char *name);

void bench_end(trigger_bench *self);

#endif
