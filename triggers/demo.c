/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/demo.h"

#include "core/envelope.h"
#include "core/json_text.h"
#include "core/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

enum {
    SENDING_MAX = 64,    /* batches offered and not yet durable; more wait */
    TURN_MAX = 1000,     /* events of one turn of the timer */
    LATE_MAX_MS = 1000,  /* what is missed beyond this is not made up for */
    WAIT_MAX_MS = 60000, /* between two looks at the clock, however low the rate */
    ANCHOR_S = 1000,     /* so often the count of the rate begins anew: it cannot overflow */
    RATE_MAX = 1000 * TURN_MAX * 1000 /* a turn a millisecond */
};

typedef struct demo_trigger {
    hr_trigger base;
    hr_builder builder;
    hr_timer *timer;
    char *source;
    bool is_uploads, is_wanted, is_stopping;
    uint64_t rate;           /* thousandths of an event in a second */
    uint64_t start_ns, made; /* events made since start_ns: what the rate is kept by */
    hr_thermometers thermometers;
    uint64_t number;       /* of the last event */
    uint64_t ticket, safe; /* the last given, the last durable or refused */
    char session[17];      /* hex */
} demo_trigger;

static demo_trigger *of(hr_trigger *self) {
    return (demo_trigger *)(void *)self;
}

/* --- thermometers --- */

/* xorshift64: pretty numbers, not secrets. */
static uint32_t chance_below(hr_thermometers *it, uint32_t bound) {
    it->chance ^= it->chance << 13;
    it->chance ^= it->chance >> 7;
    it->chance ^= it->chance << 17;
    return (uint32_t)((it->chance >> 32) % bound);
}

void hr_thermometers_init(hr_thermometers *it, uint64_t seed) {
    it->chance = seed | 1;
    for (int32_t i = 0; i < HR_DEMO_DEVICES; i++) {
        it->tenths[i] = 180 + i * 6;
    }
}

void hr_thermometers_read(hr_thermometers *it, hr_thermometer_reading *out) {
    uint32_t index = chance_below(it, HR_DEMO_DEVICES);
    int32_t *tenths = &it->tenths[index];
    *tenths += (int32_t)chance_below(it, 21) - 10;
    *tenths = *tenths < 150 ? 150 : *tenths > 349 ? 349 : *tenths;
    (void)snprintf(out->site, sizeof out->site, "%s", index % 2 == 0 ? "a" : "b");
    (void)snprintf(out->device, sizeof out->device, "t-%u", index + 1);
    (void)snprintf(out->subject, sizeof out->subject, "site/%s/device/%s/temp", out->site,
                   out->device);
    (void)snprintf(out->data, sizeof out->data,
                   "{\"device\":\"%s\",\"site\":\"%s\",\"celsius\":%d.%d}", out->device, out->site,
                   *tenths / 10, *tenths % 10);
}

static hr_code init(hr_trigger *self, hr_error *err) {
    demo_trigger *it = of(self);
    int64_t rate = hr_node_number(self->kind_config, "rate", 5000);
    if (rate <= 0) {
        return hr_fail(err, HR_E_CONFIG, 0, "demo '%s': the rate must be above 0", self->name);
    }
    it->rate = rate > RATE_MAX ? RATE_MAX : (uint64_t)rate;
    it->is_uploads =
        strcmp(hr_node_text(self->kind_config, "what", "thermometers"), "uploads") == 0;
    it->is_wanted = true;
    uint64_t random[2] = {0};
    HR_ASSERT(getrandom(random, sizeof random, 0) == (ssize_t)sizeof random);
    hr_thermometers_init(&it->thermometers, random[0]);
    (void)snprintf(it->session, sizeof it->session, "%016" PRIx64, random[1]);
    it->source = hr_format("headrace/demo/%s", self->name);
    return HR_OK;
}

/* --- events --- */

static hr_attribute text_attribute(const char *name, const char *text) {
    return (hr_attribute){
        .name = hr_slice_text(name), .type = HR_ATTRIBUTE_STRING, .text = hr_slice_text(text)};
}

static hr_code pack(demo_trigger *it, hr_fields *fields, hr_builder *out, hr_error *err) {
    char *id = hr_format("%s-%s-%" PRIu64, it->base.name, it->session, ++it->number);
    fields->id = hr_slice_text(id);
    fields->source = hr_slice_text(it->source);
    fields->content_type = hr_slice_text("application/json");
    fields->time_us = hr_real_us();
    fields->has_data = true;
    hr_code code = hr_builder_pack(out, out->count, fields, err);
    hr_free(id);
    return code;
}

static hr_code pack_thermometer(demo_trigger *it, hr_slice raw, hr_builder *out, hr_error *err) {
    hr_thermometer_reading reading;
    hr_thermometers_read(&it->thermometers, &reading);
    hr_attribute extension[] = {text_attribute("site", reading.site),
                                text_attribute("device", reading.device)};
    hr_fields fields = {.type = hr_slice_text("demo.temperature"),
                        .subject = hr_slice_text(reading.subject),
                        .partition_key = hr_slice_text(reading.device),
                        .data = raw.size > 0 ? raw : hr_slice_text(reading.data),
                        .extensions = extension,
                        .extension_count = 2};
    return pack(it, &fields, out, err);
}

static hr_code pack_upload(demo_trigger *it, hr_slice raw, hr_builder *out, hr_error *err) {
    static const struct {
        const char *key, *content;
    } objects[] = {{"cat.jpg", "image"},      {"dog.jpg", "image"},      {"notes.txt", "text"},
                   {"sunset.png", "image"},   {"harbour.webp", "image"}, {"invoice.txt", "text"},
                   {"portrait.png", "image"}, {"readme.md", "text"}};
    size_t index = it->number % (sizeof objects / sizeof objects[0]);
    bool is_image = strcmp(objects[index].content, "image") == 0;
    uint32_t size = is_image ? 20000 + chance_below(&it->thermometers, 400000)
                             : 200 + chance_below(&it->thermometers, 9000);
    char data[4 * HR_DEMO_TEXT];
    (void)snprintf(data, sizeof data,
                   "{\"bucket\":\"photos\",\"key\":\"%s\",\"size\":%u,\"content\":\"%s\"}",
                   objects[index].key, size, objects[index].content);
    hr_fields fields = {.type = hr_slice_text("demo.upload"),
                        .subject = hr_slice_text(objects[index].key),
                        .partition_key = hr_slice_text(objects[index].key),
                        .data = raw.size > 0 ? raw : hr_slice_text(data)};
    return pack(it, &fields, out, err);
}

static hr_code pack_one(demo_trigger *it, hr_slice raw, hr_builder *out, hr_error *err) {
    return it->is_uploads ? pack_upload(it, raw, out, err) : pack_thermometer(it, raw, out, err);
}

/* --- the clock --- */

static uint64_t due_count(const demo_trigger *it, uint64_t now_ns) {
    return (now_ns - it->start_ns) / 1000 * it->rate / 1000000000; /* µs * 1/1000 a second */
}

static void begin_anew(demo_trigger *it) {
    it->start_ns = hr_mono_ns();
    it->made = 0;
}

static void sleep_until_next(demo_trigger *it) {
    uint64_t at_us = ((it->made + 1) * 1000000000 + it->rate - 1) / it->rate;
    uint64_t now_us = (hr_mono_ns() - it->start_ns) / 1000;
    uint64_t wait_ms = at_us <= now_us ? 1 : (at_us - now_us + 999) / 1000;
    hr_timer_start(it->timer, wait_ms > WAIT_MAX_MS ? WAIT_MAX_MS : wait_ms, 0);
}

static void fire(void *data) {
    demo_trigger *it = data;
    if (it->is_stopping || !it->is_wanted || it->ticket - it->safe >= SENDING_MAX) {
        return; /* want(), durable() or refused() come back here */
    }
    uint64_t now_ns = hr_mono_ns();
    uint64_t due = due_count(it, now_ns) - it->made;
    uint64_t late_max = 1 + it->rate * LATE_MAX_MS / 1000000;
    uint64_t count = due > late_max ? late_max : due;
    it->made += due - count;
    count = count > TURN_MAX ? TURN_MAX : count;
    for (uint64_t i = 0; i < count; i++) {
        hr_error err = {0};
        HR_ASSERT(pack_one(it, hr_slice_of(NULL, 0), &it->builder, &err) == HR_OK);
    }
    it->made += count;
    const uint64_t anchor_ns = ANCHOR_S * UINT64_C(1000000000);
    while (now_ns - it->start_ns > 2 * anchor_ns && it->made >= it->rate) {
        it->start_ns += anchor_ns;
        it->made -= it->rate; /* thousandths of an event in a second, 1,000 seconds */
    }
    if (count > 0) {
        hr_batch *batch = hr_builder_finish(&it->builder, 0, hr_real_us());
        it->base.host->offer(&it->base, batch, ++it->ticket);
    }
    if (!it->is_stopping) {
        sleep_until_next(it);
    }
}

static void go_on(demo_trigger *it) {
    if (it->timer != NULL && !it->is_stopping && it->is_wanted) {
        hr_timer_start(it->timer, 1, 0);
    }
}

/* --- slots --- */

static hr_code start(hr_trigger *self, hr_error *err) {
    (void)err;
    demo_trigger *it = of(self);
    self->host->state(self, HR_TRIGGER_UP, NULL);
    it->timer = hr_timer_new(self->loop, fire, it);
    begin_anew(it);
    sleep_until_next(it);
    return HR_OK;
}

static void settle(demo_trigger *it, uint64_t up_to_ticket) {
    bool was_full = it->ticket - it->safe >= SENDING_MAX;
    if (up_to_ticket > it->safe) {
        it->safe = up_to_ticket;
    }
    if (was_full && it->ticket - it->safe < SENDING_MAX) {
        go_on(it);
    }
}

static void durable(hr_trigger *self, uint64_t up_to_ticket) {
    settle(of(self), up_to_ticket);
}

static void refused(hr_trigger *self, uint64_t first, uint64_t last, hr_code why) {
    (void)first;
    (void)why;
    settle(of(self), last); /* made-up events: lost without a loss */
}

static void want(hr_trigger *self, uint32_t feed, uint32_t events) {
    (void)feed;
    demo_trigger *it = of(self);
    bool was_wanted = it->is_wanted;
    it->is_wanted = events > 0;
    if (it->is_wanted && !was_wanted) {
        begin_anew(it);
        go_on(it);
    }
}

/* Data given by hand stands as it is (JSON); without any an event is made up. */
static hr_code emit(hr_trigger *self, hr_slice raw, const hr_node *options, hr_builder *out,
                    hr_error *err) {
    (void)options;
    if (raw.size > 0 && !hr_json_is_valid(raw)) {
        return hr_fail(err, HR_E_MALFORMED, 0, "demo '%s': the data is not JSON", self->name);
    }
    return pack_one(of(self), raw, out, err);
}

static void last_turn(void *data) {
    demo_trigger *it = data;
    hr_timer_free(it->timer);
    it->timer = NULL;
    it->base.host->stopped(&it->base);
}

static void stop(hr_trigger *self) {
    demo_trigger *it = of(self);
    it->is_stopping = true;
    hr_timer_free(it->timer);
    it->timer = hr_timer_new(self->loop, last_turn, it);
    hr_timer_start(it->timer, 0, 0);
}

static void fini(hr_trigger *self) {
    demo_trigger *it = of(self);
    if (it->timer != NULL) {
        hr_timer_free(it->timer);
        it->timer = NULL;
    }
    hr_builder_fini(&it->builder);
    hr_free(it->source);
    it->source = NULL;
}

const hr_trigger_ops hr_demo_ops = {
    .kind = "demo",
    .object_size = sizeof(demo_trigger),
    .init = init,
    .start = start,
    .durable = durable,
    .refused = refused,
    .want = want,
    .emit = emit,
    .stop = stop,
    .fini = fini,
};
