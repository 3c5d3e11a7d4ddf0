/* SPDX-License-Identifier: Apache-2.0 */
#include "core/batch.h"
#include "core/envelope.h"
#include "core/memory.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
/* after what it needs: */
#include <cmocka.h>

/* Event number n, with a key when n is even. */
static void add_event(hr_builder *builder, uint32_t n) {
    char id[16], data[16];
    snprintf(id, sizeof id, "id-%u", n);
    snprintf(data, sizeof data, "[%u]", n);
    hr_fields fields = {.id = hr_slice_text(id),
                        .source = hr_slice_text("s"),
                        .type = hr_slice_text("t"),
                        .subject = n % 3 == 0 ? hr_slice_text("sub") : hr_slice_text(NULL),
                        .partition_key = n % 2 == 0 ? hr_slice_text(id) : hr_slice_text(NULL),
                        .data = hr_slice_text(data),
                        .has_data = true};
    assert_int_equal(hr_builder_pack(builder, 100 + n, &fields, NULL), HR_OK);
}

static void assert_event(const hr_batch *batch, uint32_t index, uint32_t n) {
    char id[16], data[16];
    snprintf(id, sizeof id, "id-%u", n);
    snprintf(data, sizeof data, "[%u]", n);
    assert_int_equal(batch->position[index], 100 + n);
    assert_true(hr_slice_is(hr_batch_id(batch, index), id));
    assert_true(hr_slice_is(hr_batch_source(batch, index), "s"));
    assert_true(hr_slice_is(hr_batch_type(batch, index), "t"));
    assert_true(hr_slice_is(hr_batch_subject(batch, index), n % 3 == 0 ? "sub" : ""));
    assert_true(hr_slice_is(hr_batch_key(batch, index), n % 2 == 0 ? id : ""));
    assert_true(hr_slice_is(hr_batch_data(batch, index), data));
    assert_int_equal(batch->view[index].key_hash, n % 2 == 0 ? hr_hash(hr_slice_text(id)) : 0);
    hr_view view;
    hr_slice envelope = hr_batch_envelope(batch, index);
    assert_int_equal(hr_envelope_view(envelope.bytes, 0, (uint32_t)envelope.size, &view, NULL),
                     HR_OK);
}

static void a_builder_makes_one_batch_after_the_other(void **state) {
    (void)state;
    hr_builder builder = {0};
    assert_null(hr_builder_finish(&builder, 1, 2));
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t n = 0; n < 200; n++) {
            add_event(&builder, n);
        }
        hr_batch *batch = hr_builder_finish(&builder, 7, 1234);
        assert_int_equal(batch->count, 200);
        assert_int_equal(batch->feed, 7);
        assert_int_equal(batch->received_us, 1234);
        for (uint32_t n = 0; n < 200; n++) {
            assert_event(batch, n, n);
        }
        hr_batch_unref(batch);
    }
    assert_null(hr_builder_finish(&builder, 1, 2));
    hr_builder_fini(&builder);
}

static void foreign_bytes_are_added_as_they_are_or_not_at_all(void **state) {
    (void)state;
    hr_builder first = {0}, second = {0};
    add_event(&first, 0);
    add_event(&first, 1);
    hr_batch *batch = hr_builder_finish(&first, 0, 0);
    hr_error err;
    hr_slice cut = hr_batch_envelope(batch, 0);
    cut.size--;
    assert_int_equal(hr_builder_add(&second, 9, cut, &err), HR_E_MALFORMED);
    assert_int_equal(hr_builder_add(&second, 9, hr_slice_of(NULL, 0), &err), HR_E_MALFORMED);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(hr_builder_add(&second, 100 + i, hr_batch_envelope(batch, i), &err),
                         HR_OK);
    }
    hr_batch *copy = hr_builder_finish(&second, 0, 0);
    assert_int_equal(copy->count, 2);
    assert_event(copy, 0, 0);
    assert_event(copy, 1, 1);
    assert_true(hr_slice_equal(hr_batch_envelope(copy, 1), hr_batch_envelope(batch, 1)));
    hr_batch_unref(copy);
    hr_batch_unref(batch);
    hr_builder_fini(&first);
    hr_builder_fini(&second);
}

static void the_1025th_event_is_refused(void **state) {
    (void)state;
    hr_builder builder = {0};
    for (uint32_t n = 0; n < HR_BATCH_MAX; n++) {
        add_event(&builder, n);
    }
    hr_fields fields = {
        .id = hr_slice_text("i"), .source = hr_slice_text("s"), .type = hr_slice_text("t")};
    hr_error err;
    assert_int_equal(hr_builder_pack(&builder, 0, &fields, &err), HR_E_TOO_LARGE);
    hr_buffer packed = {0};
    assert_int_equal(hr_envelope_pack(&fields, &packed, NULL), HR_OK);
    assert_int_equal(hr_builder_add(&builder, 0, hr_slice_of(packed.bytes, packed.size), &err),
                     HR_E_TOO_LARGE);
    hr_batch *batch = hr_builder_finish(&builder, 0, 0);
    assert_int_equal(batch->count, HR_BATCH_MAX);
    assert_event(batch, HR_BATCH_MAX - 1, HR_BATCH_MAX - 1);
    hr_batch_unref(batch);
    hr_buffer_fini(&packed);
    hr_builder_fini(&builder);
}

static void large_events_fill_a_batch_by_bytes(void **state) {
    (void)state;
    size_t size = HR_ENVELOPE_MAX - 1000;
    char *data = hr_alloc(size);
    hr_fields fields = {.id = hr_slice_text("i"),
                        .source = hr_slice_text("s"),
                        .type = hr_slice_text("t"),
                        .data = hr_slice_of(data, size),
                        .has_data = true};
    hr_builder builder = {0};
    for (int i = 0; i < HR_BATCH_BYTES_MAX / HR_ENVELOPE_MAX; i++) {
        assert_int_equal(hr_builder_pack(&builder, 0, &fields, NULL), HR_OK);
    }
    assert_int_equal(hr_builder_pack(&builder, 0, &fields, NULL), HR_E_TOO_LARGE);
    hr_batch *batch = hr_builder_finish(&builder, 0, 0);
    assert_int_equal(batch->count, HR_BATCH_BYTES_MAX / HR_ENVELOPE_MAX);
    assert_int_equal(batch->size, batch->count * (size_t)batch->view[0].size);
    hr_batch_unref(batch);
    assert_int_equal(hr_builder_pack(&builder, 0, &fields, NULL), HR_OK);
    hr_builder_fini(&builder);
    hr_free(data);
}

static void builders_are_joined_while_one_batch_holds_them(void **state) {
    (void)state;
    hr_builder all = {0}, more = {0};
    for (uint32_t n = 0; n < HR_BATCH_MAX; n += 100) {
        uint32_t end = n + 100 < HR_BATCH_MAX ? n + 100 : HR_BATCH_MAX;
        for (uint32_t i = n; i < end; i++) {
            add_event(&more, i);
        }
        assert_int_equal(hr_builder_move(&all, &more), HR_OK);
        assert_int_equal(more.count, 0);
    }
    add_event(&more, HR_BATCH_MAX);
    assert_int_equal(hr_builder_move(&all, &more), HR_E_TOO_LARGE);
    assert_int_equal(more.count, 1); /* still there */
    hr_batch *batch = hr_builder_finish(&all, 7, 1);
    assert_int_equal(batch->count, HR_BATCH_MAX);
    for (uint32_t n = 0; n < HR_BATCH_MAX; n++) {
        assert_event(batch, n, n);
    }
    hr_batch_unref(batch);
    assert_int_equal(hr_builder_move(&all, &more), HR_OK);
    hr_builder_clear(&all);
    assert_null(hr_builder_finish(&all, 7, 1));
    hr_builder_fini(&all);
    hr_builder_fini(&more);
}

static void picked_events_stand_alone(void **state) {
    (void)state;
    hr_builder builder = {0};
    for (uint32_t n = 0; n < 10; n++) {
        add_event(&builder, n);
    }
    hr_batch *batch = hr_builder_finish(&builder, 3, 4);
    batch->epoch = 5;
    const uint32_t indexes[] = {1, 4, 9};
    hr_batch *picked = hr_batch_pick(batch, indexes, 3);
    hr_batch_unref(batch);
    assert_int_equal(picked->feed, 3);
    assert_int_equal(picked->epoch, 5);
    assert_int_equal(picked->received_us, 4);
    for (uint32_t i = 0; i < 3; i++) {
        assert_event(picked, i, indexes[i]);
    }
    hr_batch_unref(picked);
    hr_builder_fini(&builder);
}

static void *ref_and_unref(void *data) {
    for (int i = 0; i < 10000; i++) {
        hr_batch_unref(hr_batch_ref(data));
    }
    hr_batch_unref(data);
    return NULL;
}

static void references_are_counted_across_threads(void **state) {
    (void)state;
    hr_builder builder = {0};
    add_event(&builder, 1);
    hr_batch *batch = hr_builder_finish(&builder, 0, 0);
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, ref_and_unref, hr_batch_ref(batch)), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
    }
    assert_int_equal(atomic_load(&batch->refs), 1);
    hr_batch_unref(batch);
    hr_batch_unref(NULL);
    hr_builder_fini(&builder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_builder_makes_one_batch_after_the_other),
        cmocka_unit_test(foreign_bytes_are_added_as_they_are_or_not_at_all),
        cmocka_unit_test(the_1025th_event_is_refused),
        cmocka_unit_test(large_events_fill_a_batch_by_bytes),
        cmocka_unit_test(builders_are_joined_while_one_batch_holds_them),
        cmocka_unit_test(picked_events_stand_alone),
        cmocka_unit_test(references_are_counted_across_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
