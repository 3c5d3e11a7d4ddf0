/* SPDX-License-Identifier: Apache-2.0 */
/* The trigger kind "cron" on a real loop and a real clock. */
#include "core/envelope.h"
#include "core/memory.h"
#include "core/time_text.h"
#include "triggers/cron.h"
#include "triggers/cron_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <sys/timerfd.h>

enum { TICKS_MAX = 300 };

/* --- a wall clock that the tests may set ---
 *
 * The machine's own is not a test's to set, and CLOCK_REALTIME has no time namespace. So the linker
 * puts these in the place of hr_real_us() and timerfd_settime(): the clock is off by so much, and a
 * timer that was armed to be cancelled when the clock is set becomes readable then. That the kernel
 * does so (its read then ends with ECANCELED) is the word of timerfd_create(2), not shown here. */
static int64_t clock_off_us;
static int clock_fd = -1;    /* armed so */
static unsigned clock_armed; /* how often */

int64_t __real_hr_real_us(void); // NOLINT(bugprone-reserved-identifier): the linker's names
int64_t __wrap_hr_real_us(void); // NOLINT(bugprone-reserved-identifier)
int __real_timerfd_settime(int fd, int flags, const struct itimerspec *to, // NOLINT
                           struct itimerspec *before);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *to, // NOLINT
                           struct itimerspec *before);

int64_t __wrap_hr_real_us(void) { // NOLINT(bugprone-reserved-identifier)
    return __real_hr_real_us() + clock_off_us;
}

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *to, // NOLINT
                           struct itimerspec *before) {
    if (flags == (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) {
        clock_fd = fd;
        clock_armed++;
    }
    return __real_timerfd_settime(fd, flags, to, before);
}

static void set_clock(int64_t to_us) {
    struct itimerspec now = {.it_value.tv_nsec = 1};
    clock_off_us += to_us - hr_real_us();
    assert_int_equal(__real_timerfd_settime(clock_fd, 0, &now, NULL), 0);
}

static struct world {
    hr_loop *loop;
    hr_trigger *trigger;
    hr_node *config;
    size_t ticks, stop_after, stop_loop_after;
    char id[TICKS_MAX][80];
    int64_t last_fire[TICKS_MAX], arrived_us[TICKS_MAX];
    uint64_t ticket;
    unsigned refuse; /* so many offers first */
    bool is_stopped;
} world;

static void stop_soon(void) {
    world.trigger->ops->stop(world.trigger);
}

static void host_offer(hr_trigger *self, hr_batch *take_batch, uint64_t ticket) {
    assert_int_equal(ticket, world.ticket + 1);
    world.ticket = ticket;
    if (world.refuse > 0) {
        world.refuse--;
        hr_batch_unref(take_batch);
        self->ops->refused(self, ticket, ticket, HR_E_STORE_FULL);
        return;
    }
    for (uint32_t i = 0; i < take_batch->count && world.ticks < TICKS_MAX; i++) {
        hr_slice id = hr_batch_id(take_batch, i);
        (void)snprintf(world.id[world.ticks], sizeof world.id[0], "%.*s", (int)id.size,
                       (const char *)(const void *)id.bytes);
        world.last_fire[world.ticks] = hr_cron_last_fire(self, ticket);
        world.arrived_us[world.ticks++] = hr_real_us();
        assert_true(hr_slice_is(hr_batch_source(take_batch, i), "headrace/cron/nightly"));
        assert_true(hr_slice_is(hr_batch_type(take_batch, i), "headrace.cron.tick"));
        assert_true(hr_slice_is(hr_batch_key(take_batch, i), "nightly"));
    }
    hr_batch_unref(take_batch);
    self->ops->durable(self, ticket);
    if (world.ticks >= world.stop_after) {
        stop_soon();
    }
    if (world.ticks >= world.stop_loop_after) {
        hr_loop_stop(world.loop);
    }
}

static void host_state(hr_trigger *self, hr_trigger_up up, const char *reason) {
    (void)self;
    (void)up;
    (void)reason;
}

static void host_stopped(hr_trigger *self) {
    (void)self;
    world.is_stopped = true;
    hr_loop_stop(world.loop);
}

static const hr_trigger_host HOST = {
    .offer = host_offer, .state = host_state, .stopped = host_stopped};

static void give_up(void *data) {
    (void)data;
    hr_loop_stop(world.loop);
}

static void set_up(const char *at, const char *missed, int64_t last_fire_us) {
    world = (struct world){.stop_after = SIZE_MAX, .stop_loop_after = SIZE_MAX};
    world.loop = hr_loop_new();
    world.config = hr_node_add(NULL, HR_NODE_MAP, NULL);
    hr_node *cron = hr_node_add(world.config, HR_NODE_MAP, "cron");
    (void)hr_node_add_text(cron, "at", at, 0);
    (void)hr_node_add_text(cron, "zone", "Europe/Berlin", 0);
    (void)hr_node_add_text(cron, "missed", missed, 0);
    world.trigger = hr_alloc(hr_cron_ops.object_size);
    *world.trigger = (hr_trigger){.ops = &hr_cron_ops,
                                  .host = &HOST,
                                  .loop = world.loop,
                                  .name = "nightly",
                                  .config = world.config,
                                  .kind_config = cron,
                                  .kept_us = last_fire_us};
    hr_error err = {0};
    assert_int_equal(hr_cron_ops.init(world.trigger, &err), HR_OK);
}

static void run(uint64_t limit_ms) {
    hr_error err = {0};
    assert_int_equal(hr_cron_ops.start(world.trigger, &err), HR_OK);
    assert_int_equal(world.ticks, 0); /* nothing from within start */
    hr_timer *limit = hr_timer_new(world.loop, give_up, NULL);
    hr_timer_start(limit, limit_ms, 0);
    hr_loop_run(world.loop);
    hr_timer_free(limit);
}

static void tear_down(void) {
    hr_cron_ops.fini(world.trigger);
    hr_free(world.trigger);
    hr_node_free(world.config);
    hr_loop_free(world.loop);
}

static void each_second_brings_one_tick_in_time(void **state) {
    (void)state;
    set_up("* * * * * *", "once", INT64_MIN);
    world.stop_after = 3;
    int64_t start = hr_real_us();
    run(20000);
    assert_true(world.is_stopped);
    assert_int_equal(world.ticks, 3);
    int64_t first = start / 1000000 + 1;
    for (size_t i = 0; i < 3; i++) {
        char instant[HR_TIME_TEXT];
        hr_time_print((first + (int64_t)i) * 1000000, instant);
        char id[80];
        (void)snprintf(id, sizeof id, "nightly/%.19sZ", instant);
        assert_string_equal(world.id[i], id);
        assert_int_equal(world.last_fire[i], (first + (int64_t)i) * 1000000);
        assert_true(world.arrived_us[i] >= world.last_fire[i]);
    }
    tear_down();
}

static void o_c2_s20_missed_ticks_come_by_policy(void **state) {
    (void)state;
    static const struct {
        const char *missed;
        size_t ticks;
    } ROWS[] = {{"once", 1}, {"all", 100}, {"skip", 0}};
    for (size_t i = 0; i < 3; i++) {
        /* a year of missed ten minutes */
        set_up("*/10 * * * *", ROWS[i].missed, hr_real_us() - INT64_C(366) * 86400 * 1000000);
        world.stop_after = ROWS[i].ticks > 0 ? ROWS[i].ticks : SIZE_MAX;
        run(ROWS[i].ticks > 0 ? 20000 : 300);
        assert_int_equal(world.ticks, ROWS[i].ticks);
        assert_int_equal(world.is_stopped, ROWS[i].ticks > 0);
        tear_down();
    }
}

static void s20_the_first_start_counts_from_now(void **state) {
    (void)state;
    set_up("0 3 1 1 *", "all", INT64_MIN);
    int64_t before = hr_real_us();
    run(50);
    assert_int_equal(world.ticks, 0);
    assert_in_range(hr_cron_last_fire(world.trigger, 0), before, hr_real_us());
    tear_down();
}

static void o_c3_s20_a_last_fire_in_the_future_is_reset(void **state) {
    (void)state;
    set_up("* * * * * *", "once", hr_real_us() + INT64_C(86400) * 1000000);
    world.stop_after = 1;
    run(20000);
    assert_int_equal(world.ticks, 1);
    assert_true(world.is_stopped);
    tear_down();
}

static void next_turn(void *data) {
    unsigned *left = data;
    if (*left == 0 || --*left == 0) {
        hr_loop_stop(world.loop);
    }
}

/* Runs the loop for so many turns, of which the last looks at descriptors after the first timers.
 */
static void turn(unsigned count) {
    hr_timer *timer = hr_timer_new(world.loop, next_turn, &count);
    hr_timer_start(timer, 0, 1);
    hr_loop_run(world.loop);
    hr_timer_free(timer);
}

/* Runs the loop until so many ticks came. */
static void wait_ticks(size_t count) {
    hr_timer *limit = hr_timer_new(world.loop, give_up, NULL);
    hr_timer_start(limit, 20000, 0);
    world.stop_loop_after = count;
    hr_loop_run(world.loop);
    world.stop_loop_after = SIZE_MAX;
    hr_timer_free(limit);
    assert_int_equal(world.ticks, count);
}

/* The trigger sleeps for an hour at most, and nothing else wakes it here. */
static void o_c3_a_clock_that_is_set_is_noticed_at_once(void **state) {
    (void)state;
    static const int64_t YEAR_US = INT64_C(365) * 86400 * 1000000, HOUR_US = INT64_C(3600000000);
    clock_off_us = 0;
    clock_armed = 0;
    set_up("17 3 * * *", "once", INT64_MIN);
    clock_off_us = hr_cron_next_fire(world.trigger) - 20 * HOUR_US - hr_real_us();
    hr_error err = {0};
    assert_int_equal(hr_cron_ops.start(world.trigger, &err), HR_OK);
    turn(3); /* its first turn is behind it */
    assert_int_equal(clock_armed, 1);
    int64_t next = hr_cron_next_fire(world.trigger);
    assert_true(next > hr_real_us() + 10 * HOUR_US);
    set_clock(next + 2000000); /* forward, to just behind an instant */
    wait_ticks(1);
    assert_int_equal(world.last_fire[0], next);
    assert_int_equal(clock_armed, 2);    /* and it watches on */
    set_clock(next + YEAR_US + HOUR_US); /* a year: what was missed comes by policy, once */
    wait_ticks(2);
    assert_true(world.last_fire[1] > next + YEAR_US - 25 * HOUR_US);
    assert_int_equal(clock_armed, 3);
    set_clock(next - YEAR_US); /* two years back: it does not wait until that time comes again */
    turn(3);
    assert_int_equal(clock_armed, 4);
    assert_true(hr_cron_last_fire(world.trigger, 0) <= hr_real_us());
    next = hr_cron_next_fire(world.trigger);
    set_clock(next);
    wait_ticks(3);
    assert_int_equal(world.last_fire[2], next);
    stop_soon();
    hr_loop_run(world.loop);
    assert_true(world.is_stopped);
    tear_down();
    clock_off_us = 0;
}

static void a_refused_tick_comes_again_with_the_same_id(void **state) {
    (void)state;
    set_up("0 0 1 1 *", "once", INT64_C(1700000000) * 1000000);
    world.refuse = 1;
    world.stop_after = 1;
    run(20000);
    assert_int_equal(world.ticket, 2);
    assert_int_equal(world.ticks, 1);
    assert_true(world.is_stopped);
    tear_down();
}

static void nothing_is_offered_while_nothing_is_wanted(void **state) {
    (void)state;
    set_up("* * * * * *", "once", INT64_C(1700000000) * 1000000);
    world.trigger->ops->want(world.trigger, 0, 0);
    run(1200);
    assert_int_equal(world.ticks, 0);
    tear_down();
}

static void emit_packs_a_tick_at_the_wanted_time(void **state) {
    (void)state;
    set_up("0 3 * * *", "once", INT64_MIN);
    static const struct {
        const char *at, *id, *data;
    } ROWS[] = {
        {"2026-03-29T02:30", "nightly/2026-03-29T01:00:00Z/emit-",
         "{\"scheduled\":\"2026-03-29T01:00:00Z\",\"local\":\"2026-03-29T03:00:00+02:00\","
         "\"zone\":\"Europe/Berlin\"}"},
        {"2026-01-01 12:00:30", "nightly/2026-01-01T11:00:30Z/emit-", NULL},
        {"2026-01-01T12:00:00+05:00", "nightly/2026-01-01T07:00:00Z/emit-", NULL},
    };
    for (size_t i = 0; i < 3; i++) {
        hr_node *options = hr_node_add(NULL, HR_NODE_MAP, NULL);
        (void)hr_node_add_text(options, "at", ROWS[i].at, 0);
        hr_builder builder = {0};
        hr_error err = {0};
        assert_int_equal(
            hr_cron_ops.emit(world.trigger, hr_slice_text(NULL), options, &builder, &err), HR_OK);
        hr_batch *batch = hr_builder_finish(&builder, 0, 0);
        hr_slice id = hr_batch_id(batch, 0);
        assert_true(id.size > strlen(ROWS[i].id));
        assert_memory_equal(id.bytes, ROWS[i].id, strlen(ROWS[i].id));
        if (ROWS[i].data != NULL) {
            assert_true(hr_slice_is(hr_batch_data(batch, 0), ROWS[i].data));
        }
        hr_batch_unref(batch);
        hr_builder_fini(&builder);
        hr_node_free(options);
    }
    hr_node *bad = hr_node_add(NULL, HR_NODE_MAP, NULL);
    (void)hr_node_add_text(bad, "at", "tomorrow", 0);
    hr_builder builder = {0};
    hr_error err = {0};
    assert_int_equal(hr_cron_ops.emit(world.trigger, hr_slice_text(NULL), bad, &builder, &err),
                     HR_E_INVALID);
    hr_builder_fini(&builder);
    hr_node_free(bad);
    tear_down();
}

static void configured_data_becomes_json_by_the_core_schema(void **state) {
    (void)state;
    hr_node *map = hr_node_add(NULL, HR_NODE_MAP, NULL);
    static const struct {
        const char *key, *text;
        bool quoted;
    } ROWS[] = {{"a", "1", false},     {"b", "1", true},       {"c", "true", false},
                {"d", "null", false},  {"e", "-1.5e3", false}, {"f", "0x1f", false},
                {"g", "a\"b\n", true}, {"h", "01", false},     {"i", "", false}};
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        hr_node_add_text(map, ROWS[i].key, ROWS[i].text, 0)->quoted = ROWS[i].quoted;
    }
    hr_node *list = hr_node_add(map, HR_NODE_LIST, "l");
    (void)hr_node_add_text(list, NULL, "x", 0);
    (void)hr_node_add(list, HR_NODE_MAP, NULL);
    hr_buffer out = {0};
    hr_cron_print_json(map, &out);
    assert_string_equal(hr_buffer_text(&out),
                        "{\"a\":1,\"b\":\"1\",\"c\":true,\"d\":null,\"e\":-1.5e3,\"f\":\"0x1f\","
                        "\"g\":\"a\\\"b\\n\",\"h\":\"01\",\"i\":null,\"l\":[\"x\",{}]}");
    hr_buffer_fini(&out);
    hr_node_free(map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_second_brings_one_tick_in_time),
        cmocka_unit_test(o_c2_s20_missed_ticks_come_by_policy),
        cmocka_unit_test(s20_the_first_start_counts_from_now),
        cmocka_unit_test(o_c3_s20_a_last_fire_in_the_future_is_reset),
        cmocka_unit_test(o_c3_a_clock_that_is_set_is_noticed_at_once),
        cmocka_unit_test(a_refused_tick_comes_again_with_the_same_id),
        cmocka_unit_test(nothing_is_offered_while_nothing_is_wanted),
        cmocka_unit_test(emit_packs_a_tick_at_the_wanted_time),
        cmocka_unit_test(configured_data_becomes_json_by_the_core_schema),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
