/* SPDX-License-Identifier: Apache-2.0 */
/* What `trace` and `tap` tell of calls, which are noted whole. */
#include "app/history.h"

#include "core/envelope.h"
#include "core/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *name_feed(void *data, uint32_t feed) {
    (void)data;
    return feed == 3 ? "readings" : NULL;
}

static const char *name_function(void *data, uint32_t function) {
    (void)data;
    return function == 1 ? "a" : function == 2 ? "b" : NULL;
}

typedef struct fixture {
    hr_history *history;
    hr_batch *batch; /* e0 to e2 */
    hr_event_ref events[3];
    hr_tap tap;
    char told[800]; /* what the tap saw */
} fixture;

static void add_said(char *to, size_t size, const json_t *note) {
    size_t at = strlen(to);
    snprintf(to + at, size - at, "%s %s by %s; ", json_string_value(json_object_get(note, "id")),
             json_string_value(json_object_get(note, "what")),
             json_string_value(json_object_get(note, "function")));
}

static void on_tap(hr_tap *tap, const json_t *note) {
    fixture *fx = (fixture *)(void *)((char *)tap - offsetof(fixture, tap));
    add_said(fx->told, sizeof fx->told, note);
}

static int set_up(void **state) {
    static fixture fx;
    fx = (fixture){.tap = {.seen = on_tap}};
    fx.history = hr_history_new(&(hr_names){.feed = name_feed, .function = name_function});
    hr_builder builder = {0};
    hr_error err;
    for (uint32_t i = 0; i < 3; i++) {
        char id[] = {'e', (char)('0' + i), '\0'};
        hr_fields fields = {
            .id = hr_slice_text(id), .source = hr_slice_text("s"), .type = hr_slice_text("t")};
        assert_int_equal(hr_builder_pack(&builder, 10 + i, &fields, &err), HR_OK);
    }
    fx.batch = hr_builder_finish(&builder, 3, 0);
    hr_builder_fini(&builder);
    for (uint16_t i = 0; i < 3; i++) {
        fx.events[i] = (hr_event_ref){.batch = fx.batch, .index = i, .attempt = (uint16_t)(1 + i)};
    }
    *state = &fx;
    return 0;
}

static int tear_down(void **state) {
    fixture *fx = *state;
    hr_batch_unref(fx->batch);
    hr_history_free(fx->history);
    return 0;
}

static uint64_t note(fixture *fx, hr_note_kind kind, uint32_t function, int64_t real_us,
                     uint64_t call) {
    return hr_history_note(fx->history, &(hr_note){.kind = kind,
                                                   .function = function,
                                                   .events = fx->events,
                                                   .count = 3,
                                                   .real_us = real_us,
                                                   .took_ns = kind == HR_NOTE_CALLED ? 0 : 1000,
                                                   .call = call});
}

static const char *traced(const fixture *fx, const char *id) {
    static char text[800];
    text[0] = '\0';
    json_t *notes = hr_history_trace(fx->history, id);
    for (size_t i = 0; i < json_array_size(notes); i++) {
        add_said(text, sizeof text, json_array_get(notes, i));
    }
    json_decref(notes);
    return text;
}

static void trace_tells_what_happened_in_its_order(void **state) {
    fixture *fx = *state;
    uint64_t a = note(fx, HR_NOTE_CALLED, 1, 100, 0);
    uint64_t b = note(fx, HR_NOTE_CALLED, 2, 200, 0);
    assert_string_equal(traced(fx, "e1"), "e1 called by a; e1 called by b; ");
    note(fx, HR_NOTE_DELIVERED, 2, 300, b);
    note(fx, HR_NOTE_DELIVERED, 1, 400, a);
    assert_string_equal(traced(fx, "e1"), "e1 called by a; e1 called by b; e1 delivered by b; "
                                          "e1 delivered by a; ");
    json_t *notes = hr_history_trace(fx->history, "e2");
    json_t *last = json_array_get(notes, 3);
    assert_int_equal(json_integer_value(json_object_get(last, "position")), 12);
    assert_string_equal(json_string_value(json_object_get(last, "from")), "readings");
    assert_string_equal(json_string_value(json_object_get(last, "time")),
                        "1970-01-01T00:00:00.000400Z");
    assert_true(json_real_value(json_object_get(last, "took_ms")) > 0);
    assert_null(json_object_get(json_array_get(notes, 0), "took_ms"));
    json_decref(notes);
    assert_true(hr_history_quantile_ns(fx->history, 1, 0.5) > 0);
}

/* S11: the clock may be set back. */
static void the_order_is_that_in_which_it_happened(void **state) {
    fixture *fx = *state;
    uint64_t a = note(fx, HR_NOTE_CALLED, 1, 500, 0);
    note(fx, HR_NOTE_DELIVERED, 1, 400, a);
    uint64_t b = note(fx, HR_NOTE_CALLED, 2, 300, 0);
    note(fx, HR_NOTE_DELIVERED, 2, 200, b);
    assert_string_equal(traced(fx, "e1"), "e1 called by a; e1 delivered by a; e1 called by b; "
                                          "e1 delivered by b; ");
}

static void a_tap_sees_the_call_and_its_end(void **state) {
    fixture *fx = *state;
    hr_history_tap(fx->history, &fx->tap);
    uint64_t call = note(fx, HR_NOTE_CALLED, 1, 100, 0);
    assert_string_equal(fx->told, "e0 called by a; e1 called by a; e2 called by a; ");
    fx->told[0] = '\0';
    note(fx, HR_NOTE_DELIVERED, 1, 200, call);
    assert_string_equal(fx->told, "e0 delivered by a; e1 delivered by a; e2 delivered by a; ");
    hr_history_untap(fx->history, &fx->tap);
}

/* So much else was noted that the call was forgotten before its answer came. */
static void a_delivery_is_told_whose_call_is_forgotten(void **state) {
    fixture *fx = *state;
    uint64_t call = note(fx, HR_NOTE_CALLED, 1, 100, 0);
    for (int i = 0; i < HR_HISTORY_NOTES; i++) {
        hr_history_note(fx->history, &(hr_note){.kind = HR_NOTE_FILTERED, .function = 2});
    }
    assert_string_equal(traced(fx, "e1"), "");
    hr_history_tap(fx->history, &fx->tap);
    note(fx, HR_NOTE_DELIVERED, 1, 200, call);
    assert_string_equal(traced(fx, "e1"), "e1 delivered by a; ");
    json_t *notes = hr_history_trace(fx->history, "e2");
    json_t *only = json_array_get(notes, 0);
    assert_int_equal(json_integer_value(json_object_get(only, "attempt")), 3);
    assert_int_equal(json_integer_value(json_object_get(only, "position")), 12);
    json_decref(notes);
    assert_string_equal(fx->told, "e0 delivered by a; e1 delivered by a; e2 delivered by a; ");
    hr_history_untap(fx->history, &fx->tap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(trace_tells_what_happened_in_its_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_order_is_that_in_which_it_happened, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_tap_sees_the_call_and_its_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_delivery_is_told_whose_call_is_forgotten, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
