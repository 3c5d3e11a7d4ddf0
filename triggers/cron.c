/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/cron.h"

#include "core/crash.h"
#include "core/envelope.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/time_text.h"
#include "triggers/cron_json.h"
#include "triggers/cron_next.h"

#include <errno.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    OPEN_MAX_OFFERS = 64,    /* not yet durable; more wait */
    GRACE_US = 10000000,     /* so late a tick is still in time while the daemon runs */
    BACKWARDS_US = 60000000, /* a clock set back further than this starts anew */
    SLEEP_MAX_MS = 3600000,  /* the clock may drift from the monotonic one */
    RETRY_MS = 1000          /* after an offer was refused */
};

typedef struct open_offer {
    uint64_t ticket;
    int64_t before_us, last_us; /* the last tick before it, its own last tick */
} open_offer;

typedef struct cron_trigger {
    hr_trigger base;
    hr_cron cron;
    hr_zone *zone;
    hr_cron_missed missed;
    hr_buffer data; /* JSON, empty: none configured */
    hr_timer *timer;
    int clock_fd; /* readable when the clock was set; -1: none */
    hr_watch *clock_watch;
    int64_t last_us;
    uint64_t ticket;
    open_offer open[OPEN_MAX_OFFERS];
    size_t open_count;
    bool is_wanted, is_started, is_stopping;
} cron_trigger;

static cron_trigger *of(hr_trigger *self) {
    return (cron_trigger *)(void *)self;
}

static const cron_trigger *of_const(const hr_trigger *self) {
    return (const cron_trigger *)(const void *)self;
}

static hr_code init(hr_trigger *self, hr_error *err) {
    cron_trigger *it = of(self);
    const hr_node *config = self->kind_config;
    it->clock_fd = -1;
    it->is_wanted = true;
    hr_code code = hr_cron_parse(hr_node_text(config, "at", ""), &it->cron, NULL, err);
    if (code != HR_OK) {
        return hr_wrap(err, "cron '%s'", self->name);
    }
    const char *zone = hr_node_text(config, "zone", "UTC");
    it->zone = hr_zone_open(zone);
    if (it->zone == NULL) {
        return hr_fail(err, HR_E_INVALID, 0, "cron '%s': there is no time zone \"%s\" here",
                       self->name, zone);
    }
    const char *missed = hr_node_text(config, "missed", "once");
    it->missed = strcmp(missed, "all") == 0    ? HR_CRON_ALL
                 : strcmp(missed, "skip") == 0 ? HR_CRON_SKIP
                                               : HR_CRON_ONCE;
    const hr_node *data = hr_node_get(config, "data");
    if (data != NULL) {
        hr_cron_print_json(data, &it->data);
    }
    return HR_OK;
}

/* --- events --- */

static void print_instant(const hr_zone *zone, int64_t at_us, char *utc, char *local) {
    hr_time_print(at_us, utc);
    char *fraction = strstr(utc, ".000000Z");
    if (fraction != NULL) {
        fraction[0] = 'Z';
        fraction[1] = '\0';
    }
    int64_t at_s = (at_us - (at_us % 1000000 + 1000000) % 1000000) / 1000000;
    int32_t offset = hr_zone_offset(zone, hr_zone_interval(zone, at_s));
    hr_time_print((at_s + offset) * 1000000, local);
    int minutes = (offset < 0 ? -offset : offset) / 60;
    (void)snprintf(local + 19, HR_TIME_TEXT - 19, "%c%02d:%02d", offset < 0 ? '-' : '+',
                   minutes / 60 % 100, minutes % 60);
}

/* Packs one tick; id_suffix makes one by hand differ from the real one. */
static hr_code pack_tick(cron_trigger *it, int64_t at_us, const char *id_suffix, hr_slice data,
                         hr_builder *out, hr_error *err) {
    char utc[HR_TIME_TEXT];
    char local[HR_TIME_TEXT];
    print_instant(it->zone, at_us, utc, local);
    const char *name = it->base.name;
    char *id = hr_format("%s/%s%s", name, utc, id_suffix);
    char *source = hr_format("headrace/cron/%s", name);
    hr_buffer own = {0};
    if (data.size == 0) {
        hr_buffer_print(&own, "{\"scheduled\":\"%s\",\"local\":\"%s\",\"zone\":\"%s\"}", utc, local,
                        hr_zone_name(it->zone));
        data = hr_slice_of(own.bytes, own.size);
    }
    hr_fields fields = {.id = hr_slice_text(id),
                        .source = hr_slice_text(source),
                        .type = hr_slice_text("headrace.cron.tick"),
                        .subject = hr_slice_text(name),
                        .content_type = hr_slice_text("application/json"),
                        .partition_key = hr_slice_text(name),
                        .time_us = at_us,
                        .data = data,
                        .has_data = true};
    hr_code code = hr_builder_pack(out, out->count, &fields, err);
    hr_buffer_fini(&own);
    hr_free(id);
    hr_free(source);
    return code;
}

static void offer(cron_trigger *it, const int64_t *at, size_t count, int64_t now_us) {
    hr_builder builder = {0};
    hr_error err = {0};
    for (size_t i = 0; i < count; i++) {
        hr_code code =
            pack_tick(it, at[i], "", hr_slice_of(it->data.bytes, it->data.size), &builder, &err);
        if (code != HR_OK) {
            hr_log(HR_LOG_ERROR, it->base.name, "a tick was left out: %s", err.text);
        }
    }
    open_offer *open = &it->open[it->open_count++];
    *open =
        (open_offer){.ticket = ++it->ticket, .before_us = it->last_us, .last_us = at[count - 1]};
    it->last_us = at[count - 1];
    hr_batch *batch = hr_builder_finish(&builder, 0, now_us);
    hr_builder_fini(&builder);
    if (batch == NULL) {
        it->ticket--;
        it->open_count--;
        return;
    }
    HR_CRASH_POINT("cron.fire");
    it->base.host->offer(&it->base, batch, open->ticket);
    HR_CRASH_POINT("cron.fired");
}

/* --- the clock --- */

static void sleep_until_next(cron_trigger *it) {
    int64_t next_us = hr_cron_next(&it->cron, it->zone, it->last_us);
    int64_t wait_us = next_us == HR_CRON_NEVER ? INT64_MAX : next_us - hr_real_us();
    uint64_t wait_ms = wait_us <= 0                                  ? 1
                       : wait_us / 1000 >= (int64_t)SLEEP_MAX_MS - 1 ? SLEEP_MAX_MS
                                                                     : (uint64_t)wait_us / 1000 + 1;
    hr_timer_start(it->timer, wait_ms, 0);
}

static void check_backwards(cron_trigger *it, int64_t now_us, int64_t slack_us) {
    if (it->last_us <= now_us || it->last_us - now_us <= slack_us) {
        return;
    }
    char last[HR_TIME_TEXT];
    hr_time_print(it->last_us, last);
    hr_log(HR_LOG_WARN, it->base.name,
           "the last tick, %s, lies in the future: was the clock set back? ticks count from now",
           last);
    it->last_us = now_us;
}

static void fire(cron_trigger *it, int64_t grace_us) {
    if (!it->is_started || it->is_stopping || !it->is_wanted || it->open_count == OPEN_MAX_OFFERS) {
        return; /* want() or durable() come back here */
    }
    int64_t now_us = hr_real_us();
    check_backwards(it, now_us, BACKWARDS_US);
    int64_t at[HR_CRON_MISSED_MAX];
    bool left_out = false;
    size_t count =
        hr_cron_due(&it->cron, it->zone, it->missed, it->last_us, now_us, grace_us, at, &left_out);
    if (left_out) {
        char last[HR_TIME_TEXT];
        hr_time_print(it->last_us, last);
        hr_log(it->missed == HR_CRON_ALL ? HR_LOG_WARN : HR_LOG_INFO, it->base.name,
               "ticks since %s were missed and left out (missed: %s)", last,
               hr_node_text(it->base.kind_config, "missed", "once"));
    }
    if (count > 0) {
        offer(it, at, count, now_us);
    } else if (left_out) {
        it->last_us = now_us - grace_us; /* skip: they are behind us */
    }
    if (!it->is_stopping) { /* offer() may have ended in stop(), whose timer it is now */
        sleep_until_next(it);
    }
}

static void timer_fired(void *data) {
    fire(data, GRACE_US);
}

static void arm_clock(cron_trigger *it) {
    struct itimerspec never = {.it_value = {.tv_sec = INT32_MAX}};
    (void)timerfd_settime(it->clock_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

static void clock_was_set(void *data, int events) {
    (void)events;
    cron_trigger *it = data;
    uint64_t expired;
    (void)!read(it->clock_fd, &expired, sizeof expired); /* ECANCELED is the message itself */
    arm_clock(it);
    fire(it, GRACE_US);
}

/* Without it (a kernel that refuses) the hourly look at the clock is what remains. */
static void watch_clock(cron_trigger *it) {
    it->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (it->clock_fd >= 0) {
        arm_clock(it);
        it->clock_watch = hr_watch_new(it->base.loop, it->clock_fd, clock_was_set, it);
        hr_watch_set(it->clock_watch, HR_WATCH_READ);
    }
}

/* --- slots --- */

static void first_turn(void *data) {
    cron_trigger *it = data;
    hr_timer_free(it->timer);
    it->timer = hr_timer_new(it->base.loop, timer_fired, it);
    fire(it, 0);
}

static hr_code start(hr_trigger *self, hr_error *err) {
    (void)err;
    cron_trigger *it = of(self);
    int64_t now_us = hr_real_us();
    it->last_us = self->kept_us == INT64_MIN ? now_us : self->kept_us;
    check_backwards(it, now_us, 0);
    it->is_started = true;
    watch_clock(it);
    self->host->state(self, HR_TRIGGER_UP, NULL);
    /* Missed ticks are offered in a later turn: nothing comes from within start(). */
    it->timer = hr_timer_new(self->loop, first_turn, it);
    hr_timer_start(it->timer, 0, 0);
    return HR_OK;
}

static void durable(hr_trigger *self, uint64_t up_to_ticket) {
    cron_trigger *it = of(self);
    size_t kept = 0;
    bool was_full = it->open_count == OPEN_MAX_OFFERS;
    HR_CRASH_POINT("cron.durable");
    for (size_t i = 0; i < it->open_count; i++) {
        if (it->open[i].ticket > up_to_ticket) {
            it->open[kept++] = it->open[i];
        }
    }
    it->open_count = kept;
    if (was_full && it->is_started && !it->is_stopping) {
        hr_timer_start(it->timer, 0, 0);
    }
}

static void refused(hr_trigger *self, uint64_t first, uint64_t last, hr_code why) {
    (void)why;
    cron_trigger *it = of(self);
    size_t kept = 0;
    for (size_t i = 0; i < it->open_count; i++) {
        if (it->open[i].ticket < first || it->open[i].ticket > last) {
            it->open[kept++] = it->open[i];
        } else if (it->open[i].before_us < it->last_us) {
            it->last_us = it->open[i].before_us; /* these ticks come again */
        }
    }
    it->open_count = kept;
    if (it->is_started && !it->is_stopping) {
        hr_timer_start(it->timer, RETRY_MS, 0);
    }
}

static void want(hr_trigger *self, uint32_t feed, uint32_t events) {
    (void)feed;
    cron_trigger *it = of(self);
    bool was_wanted = it->is_wanted;
    it->is_wanted = events > 0;
    if (it->is_wanted && !was_wanted && it->is_started && !it->is_stopping) {
        hr_timer_start(it->timer, 0, 0);
    }
}

/* "2026-03-29T02:30[:00]" (or with a blank) as seconds of the wall clock. */
static bool parse_wall(const char *text, int64_t *out_wall_s) {
    size_t size = strlen(text);
    if ((size != 16 && size != 19) || (text[10] != 'T' && text[10] != ' ')) {
        return false;
    }
    char full[24];
    (void)snprintf(full, sizeof full, "%.10sT%.8s%sZ", text, text + 11, size == 16 ? ":00" : "");
    int64_t us = 0;
    if (!hr_time_parse(hr_slice_text(full), &us)) {
        return false;
    }
    *out_wall_s = us / 1000000;
    return true;
}

static hr_code emit(hr_trigger *self, hr_slice raw, const hr_node *options, hr_builder *out,
                    hr_error *err) {
    cron_trigger *it = of(self);
    const char *at = hr_node_text(options, "at", NULL);
    int64_t at_us = hr_real_us();
    char suffix[40];
    (void)snprintf(suffix, sizeof suffix, "/emit-%llx", (unsigned long long)at_us);
    if (at != NULL && !hr_time_parse(hr_slice_text(at), &at_us)) {
        int64_t wall_s = 0;
        bool is_gap = false;
        if (!parse_wall(at, &wall_s)) {
            return hr_fail(err, HR_E_INVALID, 0,
                           "at: '%s' is no time (2026-03-29T02:30, or RFC 3339 with an offset)",
                           at);
        }
        at_us = hr_zone_instant(it->zone, wall_s, &is_gap) * 1000000;
    }
    hr_slice data = raw.size > 0 ? raw : hr_slice_of(it->data.bytes, it->data.size);
    return pack_tick(it, at_us, suffix, data, out, err);
}

static void close_watches(cron_trigger *it) {
    if (it->timer != NULL) {
        hr_timer_free(it->timer);
        it->timer = NULL;
    }
    if (it->clock_watch != NULL) {
        hr_watch_free(it->clock_watch);
        it->clock_watch = NULL;
    }
    if (it->clock_fd >= 0) {
        (void)close(it->clock_fd);
        it->clock_fd = -1;
    }
}

static void last_turn(void *data) {
    cron_trigger *it = data;
    close_watches(it);
    it->base.host->stopped(&it->base);
}

static void stop(hr_trigger *self) {
    cron_trigger *it = of(self);
    it->is_stopping = true;
    hr_timer_free(it->timer);
    it->timer = hr_timer_new(self->loop, last_turn, it);
    hr_timer_start(it->timer, 0, 0);
}

static void fini(hr_trigger *self) {
    cron_trigger *it = of(self);
    if (it->is_started) {
        close_watches(it);
    }
    hr_zone_close(it->zone);
    it->zone = NULL;
    hr_buffer_fini(&it->data);
}

const hr_trigger_ops hr_cron_ops = {
    .kind = "cron",
    .object_size = sizeof(cron_trigger),
    .init = init,
    .start = start,
    .durable = durable,
    .refused = refused,
    .want = want,
    .emit = emit,
    .stop = stop,
    .fini = fini,
};

int64_t hr_cron_last_fire(const hr_trigger *self, uint64_t ticket) {
    const cron_trigger *it = of_const(self);
    for (size_t i = 0; i < it->open_count; i++) {
        if (it->open[i].ticket == ticket) {
            return it->open[i].last_us;
        }
    }
    return it->last_us;
}

int64_t hr_cron_next_fire(const hr_trigger *self) {
    const cron_trigger *it = of_const(self);
    int64_t now_us = hr_real_us();
    return hr_cron_next(&it->cron, it->zone, it->last_us > now_us ? it->last_us : now_us);
}
