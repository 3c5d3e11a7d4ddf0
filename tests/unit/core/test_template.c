/* SPDX-License-Identifier: Apache-2.0 */
/* A template writes what the packer would: the same event, the same view as a reader finds. */
#include "core/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static hr_error err;

static void assert_same_view(const hr_batch *batch, uint32_t index) {
    const hr_view *view = &batch->view[index];
    hr_view read;
    if (hr_envelope_view(batch->bytes, view->at, view->size, &read, &err) != HR_OK) {
        fail_msg("event %u: %s", index, err.text);
    }
    assert_memory_equal(view, &read, sizeof read);
}

static void assert_same_event(hr_slice left, hr_slice right) {
    hr_buffer texts[2] = {0};
    hr_envelope_print_json(left, &texts[0]);
    hr_envelope_print_json(right, &texts[1]);
    assert_string_equal(hr_buffer_text(&texts[0]), hr_buffer_text(&texts[1]));
    hr_buffer_fini(&texts[0]);
    hr_buffer_fini(&texts[1]);
}

/* One event by both ways. */
static void compare(const hr_fields *shared, const hr_template_event *event) {
    hr_template template;
    hr_builder built = {0}, packed = {0};
    char id[300];
    snprintf(id, sizeof id, "%.*s%llu", (int)shared->id.size, (const char *)shared->id.bytes,
             (unsigned long long)event->number);
    hr_fields whole = *shared;
    whole.id = hr_slice_text(id);
    whole.time_us = event->time_us;
    whole.partition_key = event->key;
    whole.data = event->data;
    if (hr_template_init(&template, shared, &err) != HR_OK) {
        fail_msg("%s", err.text);
    }
    for (uint64_t i = 0; i < 3; i++) { /* offsets of later events too */
        assert_int_equal(hr_template_pack(&template, event, i + 1, &built, &err), HR_OK);
        assert_int_equal(hr_builder_pack(&packed, i + 1, &whole, &err), HR_OK);
    }
    hr_batch *ours = hr_builder_finish(&built, 1, 0), *theirs = hr_builder_finish(&packed, 1, 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_same_view(ours, i);
        assert_same_event(hr_batch_envelope(ours, i), hr_batch_envelope(theirs, i));
        assert_int_equal(ours->view[i].size, theirs->view[i].size);
        assert_int_equal(ours->view[i].key_hash, theirs->view[i].key_hash);
        assert_int_equal(ours->position[i], i + 1);
    }
    hr_batch_unref(ours);
    hr_batch_unref(theirs);
    hr_builder_fini(&built);
    hr_builder_fini(&packed);
    hr_template_fini(&template);
}

static hr_fields shared_fields(void) {
    return (hr_fields){.id = hr_slice_text("orders/3/"),
                       .source = hr_slice_text("kafka/in/orders"),
                       .type = hr_slice_text("kafka.record"),
                       .subject = hr_slice_text("orders"),
                       .content_type = hr_slice_text("application/json"),
                       .has_data = true};
}

static void an_event_is_what_the_packer_makes(void **state) {
    (void)state;
    hr_fields shared = shared_fields();
    hr_template_event event = {.number = 42,
                               .time_us = 1700000000123000,
                               .key = hr_slice_text("k\xc3\xbc"),
                               .data = hr_slice_text("{\"temp\":40.5}")};
    compare(&shared, &event);
}

/* Sizes at which lengths take another byte, numbers of all lengths, parts that are absent. */
static void every_size_and_absence_is_written_as_a_reader_expects(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 90, 99, 100, 127, 128, 16383, 16384, 65535};
    static const uint64_t numbers[] = {0, 9, 10, UINT64_C(1) << 32, UINT64_MAX};
    static const int64_t times[] = {0, 1, 999999, 1000000, INT64_C(253402300799000000)};
    char *text = malloc(65536);
    memset(text, 'x', 65536);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            hr_fields shared = shared_fields();
            hr_template_event event = {.number = numbers[(i + k) % 5],
                                       .time_us = times[(i * 2 + k) % 5],
                                       .key = hr_slice_of(text, sizes[i]),
                                       .data = hr_slice_of(text, sizes[k])};
            compare(&shared, &event);
            shared.data_is_text = true;
            shared.content_type = (hr_slice){0};
            compare(&shared, &event);
            shared.subject = (hr_slice){0};
            shared.has_data = shared.data_is_text = false;
            event.data = (hr_slice){0};
            compare(&shared, &event);
        }
    }
    free(text);
}

static void extensions_of_the_template_are_in_every_event(void **state) {
    (void)state;
    hr_fields shared = shared_fields();
    hr_attribute floor = {
        .name = hr_slice_text("floor"), .type = HR_ATTRIBUTE_INTEGER, .number = 2};
    shared.extensions = &floor;
    shared.extension_count = 1;
    hr_template_event event = {.number = 7, .data = hr_slice_text("1")};
    compare(&shared, &event);
}

static void a_full_batch_takes_no_more_and_is_unharmed(void **state) {
    (void)state;
    hr_template template;
    hr_builder out = {0};
    hr_fields shared = shared_fields();
    hr_template_event event = {.data = hr_slice_text("1")};
    assert_int_equal(hr_template_init(&template, &shared, &err), HR_OK);
    for (uint64_t i = 0; i < HR_BATCH_MAX; i++) {
        event.number = i;
        assert_int_equal(hr_template_pack(&template, &event, i + 1, &out, &err), HR_OK);
    }
    assert_int_equal(hr_template_pack(&template, &event, 2000, &out, &err), HR_E_TOO_LARGE);
    hr_batch *batch = hr_builder_finish(&out, 1, 0);
    assert_int_equal(batch->count, HR_BATCH_MAX);
    assert_same_view(batch, HR_BATCH_MAX - 1);
    hr_batch_unref(batch);
    hr_builder_fini(&out);
    hr_template_fini(&template);
}

static void fields_that_no_event_may_have_are_refused_at_once(void **state) {
    (void)state;
    hr_template template;
    hr_fields shared = shared_fields();
    shared.source = (hr_slice){0};
    assert_int_equal(hr_template_init(&template, &shared, &err), HR_E_INVALID);
    assert_non_null(strstr(err.text, "source"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_is_what_the_packer_makes),
        cmocka_unit_test(every_size_and_absence_is_written_as_a_reader_expects),
        cmocka_unit_test(extensions_of_the_template_are_in_every_event),
        cmocka_unit_test(a_full_batch_takes_no_more_and_is_unharmed),
        cmocka_unit_test(fields_that_no_event_may_have_are_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
