/* SPDX-License-Identifier: Apache-2.0 */
/* Packed envelopes and batch messages: views lie in bounds, and what is packed again reads alike.
 */
#include "core/envelope.h"
#include "tests/fuzz/fuzz.h"

static void part(const hr_view *view, uint32_t at, uint32_t size) {
    FUZZ_CHECK(at >= view->at && size <= view->size && at - view->at <= view->size - size);
}

static void look(hr_slice envelope) {
    hr_error err = {0};
    hr_view view;
    if (envelope.size > HR_ENVELOPE_MAX ||
        hr_envelope_view(envelope.bytes, 0, (uint32_t)envelope.size, &view, &err) != HR_OK) {
        return;
    }
    FUZZ_CHECK(view.at == 0 && view.size == envelope.size);
    part(&view, view.data_at, view.data_size);
    part(&view, view.id_at, view.id_size);
    part(&view, view.source_at, view.source_size);
    part(&view, view.type_at, view.type_size);
    part(&view, view.subject_at, view.subject_size);
    part(&view, view.key_at, view.key_size);
    FUZZ_CHECK(view.id_size > 0 && view.source_size > 0 && view.type_size > 0);

    hr_attribute attribute, found;
    hr_buffer text = {0};
    size_t cursor = 0, count = 0;
    while (hr_envelope_next_attribute(envelope, &cursor, &attribute)) {
        FUZZ_CHECK(fuzz_is_within(attribute.name, envelope));
        FUZZ_CHECK(attribute.name.size <= HR_ATTRIBUTE_NAME_MAX && cursor <= envelope.size);
        char name[HR_ATTRIBUTE_NAME_MAX + 1] = {0};
        memcpy(name, attribute.name.bytes, attribute.name.size);
        FUZZ_CHECK(hr_envelope_attribute(envelope, name, &found));
        text.size = 0;
        hr_attribute_print(&attribute, &text);
        FUZZ_CHECK(++count <= envelope.size);
    }
    text.size = 0;
    hr_envelope_print_json(envelope, &text);
    FUZZ_CHECK(text.size > 2 && text.bytes[0] == '{');

    hr_builder builder = {0};
    FUZZ_CHECK(hr_builder_add(&builder, 1, envelope, &err) == HR_OK);
    hr_batch *batch = hr_builder_finish(&builder, 1, 0);
    FUZZ_CHECK(hr_slice_equal(hr_batch_envelope(batch, 0), envelope));
    FUZZ_CHECK(hr_slice_equal(hr_batch_id(batch, 0),
                              hr_slice_of(envelope.bytes + view.id_at, view.id_size)));
    hr_buffer message = {0};
    hr_envelope_batch_add(&message, envelope);
    hr_slice again, whole = hr_slice_of(message.bytes, message.size);
    cursor = 0;
    FUZZ_CHECK(hr_envelope_batch_next(whole, &cursor, &again, &err) == HR_OK);
    FUZZ_CHECK(hr_slice_equal(again, envelope));
    hr_buffer_fini(&message);
    hr_batch_unref(batch);
    hr_builder_fini(&builder);
    hr_buffer_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    hr_slice all = hr_slice_of(bytes, size), envelope;
    hr_error err = {0};
    look(all);
    size_t cursor = 0, before = 0;
    while (hr_envelope_batch_next(all, &cursor, &envelope, &err) == HR_OK &&
           envelope.bytes != NULL) {
        FUZZ_CHECK(fuzz_is_within(envelope, all) && cursor > before && cursor <= size);
        before = cursor;
        look(envelope);
    }
    return 0;
}
