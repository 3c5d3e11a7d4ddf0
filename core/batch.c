/* SPDX-License-Identifier: Apache-2.0 */
#include "core/batch.h"

#include "core/envelope.h"
#include "core/memory.h"

/* What a builder keeps for its next batch, bytes; a rare larger one is given back. */
enum { BUILDER_KEEP = 4 << 20 };

hr_batch *hr_batch_ref(hr_batch *batch) {
    unsigned before = atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
    HR_ASSERT(before > 0 && before < UINT32_MAX / 2);
    return batch;
}

void hr_batch_unref(hr_batch *take_batch) {
    if (take_batch == NULL) {
        return;
    }
    unsigned before = atomic_fetch_sub_explicit(&take_batch->refs, 1, memory_order_acq_rel);
    HR_ASSERT(before > 0);
    if (before == 1) {
        hr_free(take_batch);
    }
}

/* A batch with one reference and room for count events and size bytes: header, positions, views and
 * bytes in one allocation. The last three are not filled. */
static hr_batch *batch_new(uint32_t count, size_t size, hr_view **out_view, uint8_t **out_bytes) {
    _Static_assert(sizeof(hr_batch) % _Alignof(uint64_t) == 0, "positions follow the header");
    _Static_assert(_Alignof(hr_view) <= _Alignof(uint64_t), "views follow the positions");
    size_t views_at = sizeof(hr_batch) + count * sizeof(uint64_t);
    size_t bytes_at = views_at + count * sizeof(hr_view);
    uint8_t *memory = hr_realloc(NULL, bytes_at + size);
    hr_batch *batch = (hr_batch *)(void *)memory;
    *batch = (hr_batch){.count = count, .size = size};
    atomic_init(&batch->refs, 1);
    batch->position = (uint64_t *)(void *)(memory + sizeof(hr_batch));
    *out_view = (hr_view *)(void *)(memory + views_at);
    *out_bytes = memory + bytes_at;
    batch->view = *out_view;
    batch->bytes = *out_bytes;
    return batch;
}

/* Moves all offsets of a view by delta (modulo 2^32, so that it may go down). */
static void view_shift(hr_view *view, uint32_t delta) {
    view->at += delta;
    view->data_at += delta;
    view->id_at += delta;
    view->source_at += delta;
    view->type_at += delta;
    view->subject_at += delta;
    view->key_at += delta;
}

static void builder_reserve(hr_builder *builder) {
    if (builder->count == builder->capacity) {
        uint32_t capacity = builder->capacity == 0 ? 64 : builder->capacity * 2;
        builder->view = hr_realloc(builder->view, capacity * sizeof *builder->view);
        builder->position = hr_realloc(builder->position, capacity * sizeof *builder->position);
        builder->capacity = capacity;
    }
}

static hr_code builder_check_room(const hr_builder *builder, size_t more, hr_error *err) {
    if (builder->count >= HR_BATCH_MAX) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "the batch holds %d events", HR_BATCH_MAX);
    }
    if (more > HR_ENVELOPE_MAX) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "event of %zu bytes, at most %d", more,
                       HR_ENVELOPE_MAX);
    }
    if (builder->count > 0 && builder->bytes.size + more > HR_BATCH_BYTES_MAX) {
        return hr_fail(err, HR_E_TOO_LARGE, 0, "the batch holds %zu bytes", builder->bytes.size);
    }
    return HR_OK;
}

hr_code hr_builder_add(hr_builder *builder, uint64_t position, hr_slice envelope, hr_error *err) {
    hr_code code = builder_check_room(builder, envelope.size, err);
    if (code != HR_OK) {
        return code;
    }
    builder_reserve(builder);
    hr_view *view = &builder->view[builder->count];
    code = hr_envelope_view(envelope.bytes, 0, (uint32_t)envelope.size, view, err);
    if (code != HR_OK) {
        return code;
    }
    view_shift(view, (uint32_t)builder->bytes.size);
    hr_buffer_add_slice(&builder->bytes, envelope);
    builder->position[builder->count++] = position;
    return HR_OK;
}

hr_code hr_builder_pack(hr_builder *builder, uint64_t position, const hr_fields *fields,
                        hr_error *err) {
    hr_code code = builder_check_room(builder, 0, err);
    if (code != HR_OK) {
        return code;
    }
    builder_reserve(builder);
    size_t at = builder->bytes.size;
    code = hr_envelope_pack_view(fields, &builder->bytes, &builder->view[builder->count], err);
    if (code != HR_OK) {
        return code;
    }
    if (builder->count > 0 && builder->bytes.size > HR_BATCH_BYTES_MAX) {
        builder->bytes.size = at;
        return hr_fail(err, HR_E_TOO_LARGE, 0, "the batch holds %zu bytes", at);
    }
    builder->position[builder->count++] = position;
    return HR_OK;
}

hr_code hr_builder_room(hr_builder *builder, size_t size, hr_view **out_view, uint8_t **out_room,
                        hr_error *err) {
    hr_code code = builder_check_room(builder, size, err);
    if (code == HR_OK) {
        builder_reserve(builder);
        *out_view = &builder->view[builder->count];
        *out_room = hr_buffer_room(&builder->bytes, size);
    }
    return code;
}

void hr_builder_keep(hr_builder *builder, uint64_t position) {
    hr_view *view = &builder->view[builder->count];
    uint32_t size = view->size;
    view_shift(view, (uint32_t)builder->bytes.size);
    builder->bytes.size += size;
    HR_ASSERT(builder->bytes.size <= builder->bytes.capacity);
    builder->position[builder->count++] = position;
}

void hr_builder_clear(hr_builder *builder) {
    builder->count = 0;
    builder->bytes.size = 0;
    if (builder->bytes.capacity > BUILDER_KEEP) {
        hr_buffer_fini(&builder->bytes);
    }
}

hr_code hr_builder_move(hr_builder *builder, hr_builder *from) {
    if (from->count > HR_BATCH_MAX - builder->count ||
        (builder->count > 0 && builder->bytes.size + from->bytes.size > HR_BATCH_BYTES_MAX)) {
        return HR_E_TOO_LARGE;
    }
    for (uint32_t i = 0; i < from->count; i++) {
        builder_reserve(builder);
        hr_view *view = &builder->view[builder->count];
        *view = from->view[i];
        view_shift(view, (uint32_t)builder->bytes.size);
        builder->position[builder->count++] = from->position[i];
    }
    hr_buffer_add_slice(&builder->bytes, hr_slice_of(from->bytes.bytes, from->bytes.size));
    hr_builder_clear(from);
    return HR_OK;
}

hr_batch *hr_builder_finish(hr_builder *builder, uint32_t feed, int64_t received_us) {
    if (builder->count == 0) {
        return NULL;
    }
    hr_view *view;
    uint8_t *bytes;
    hr_batch *batch = batch_new(builder->count, builder->bytes.size, &view, &bytes);
    batch->feed = feed;
    batch->received_us = received_us;
    memcpy(batch->position, builder->position, builder->count * sizeof *batch->position);
    memcpy(view, builder->view, builder->count * sizeof *view);
    memcpy(bytes, builder->bytes.bytes, builder->bytes.size);
    hr_builder_clear(builder);
    return batch;
}

void hr_builder_fini(hr_builder *builder) {
    hr_buffer_fini(&builder->bytes);
    hr_free(builder->view);
    hr_free(builder->position);
    *builder = (hr_builder){0};
}

hr_batch *hr_batch_pick(const hr_batch *batch, const uint32_t *indexes, uint32_t count) {
    HR_ASSERT(count > 0 && count <= HR_BATCH_MAX);
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        HR_ASSERT(indexes[i] < batch->count);
        size += batch->view[indexes[i]].size;
    }
    HR_ASSERT(size <= UINT32_MAX);
    hr_view *view;
    uint8_t *bytes;
    hr_batch *picked = batch_new(count, size, &view, &bytes);
    picked->feed = batch->feed;
    picked->epoch = batch->epoch;
    picked->received_us = batch->received_us;
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        view[i] = batch->view[indexes[i]];
        memcpy(bytes + at, batch->bytes + view[i].at, view[i].size);
        view_shift(&view[i], at - view[i].at);
        picked->position[i] = batch->position[indexes[i]];
        at += view[i].size;
    }
    return picked;
}
