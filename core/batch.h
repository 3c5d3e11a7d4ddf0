/* SPDX-License-Identifier: Apache-2.0 */
/* Up to 1,024 events of one feed in one counted allocation: the unit that moves through headrace.
 *
 * Life:  builder: init -> (begin, add)* -> finish -> hr_batch (immutable) -> ref/unref
 * Rule:  a batch never changes after finish, but for positions and feed, which the dispatcher sets
 *        once before anybody else sees the batch. */
#ifndef HR_CORE_BATCH_H
#define HR_CORE_BATCH_H

#include "core/buffer.h"
#include "core/error.h"
#include "core/slice.h"

#include <stdatomic.h>

enum {
    HR_BATCH_MAX = 1024,          /* events; the 1,025th opens the next batch */
    HR_BATCH_BYTES_MAX = 64 << 20 /* bytes of all envelopes, at least one event */
};

/* Where one packed envelope and its parts lie in batch->bytes. *_at are offsets from the start of
 * batch->bytes (of an absent part: that of the envelope). data_size, id_size ... 0: the part is
 * absent or empty. */
typedef struct hr_view {
    uint32_t at, size, data_at, data_size;
    uint32_t id_at, source_at, type_at, subject_at, key_at;
    uint16_t id_size, source_size, type_size, subject_size, key_size, flags;
    uint64_t key_hash; /* of the ordering key; 0: no key (unordered) */
} hr_view;

enum {
    HR_VIEW_TEXT = 1,   /* data was text_data */
    HR_VIEW_JSON = 2,   /* datacontenttype is JSON (or text_data without one) */
    HR_VIEW_DATA = 4,   /* a data member is present, even if empty */
    HR_VIEW_MADE_ID = 8 /* the id was made for this event by us: no other will ever have it. Known
                           where it is packed, forgotten on disk */
};

typedef struct hr_batch {
    atomic_uint refs;
    uint32_t feed, epoch, count;
    uint64_t *position; /* ascending, may have gaps */
    const hr_view *view;
    const uint8_t *bytes;
    size_t size;         /* of bytes */
    int64_t received_us; /* real time, since 1970 */
} hr_batch;

/* One more reference to the same batch.  Thread: any (the count is atomic). */
hr_batch *hr_batch_ref(hr_batch *batch);

/* Gives one reference back; NULL is allowed.  Thread: any. */
void hr_batch_unref(hr_batch *take_batch);

/* Parts of event index; valid as long as a reference is held.  Thread: any. */
static inline hr_slice hr_batch_envelope(const hr_batch *batch, uint32_t index) {
    return hr_slice_of(batch->bytes + batch->view[index].at, batch->view[index].size);
}
static inline hr_slice hr_batch_data(const hr_batch *batch, uint32_t index) {
    return hr_slice_of(batch->bytes + batch->view[index].data_at, batch->view[index].data_size);
}
static inline hr_slice hr_batch_id(const hr_batch *batch, uint32_t index) {
    return hr_slice_of(batch->bytes + batch->view[index].id_at, batch->view[index].id_size);
}
static inline hr_slice hr_batch_source(const hr_batch *batch, uint32_t index) {
    return hr_slice_of(batch->bytes + batch->view[index].source_at, batch->view[index].source_size);
}
static inline hr_slice hr_batch_type(const hr_batch *batch, uint32_t index) {
    return hr_slice_of(batch->bytes + batch->view[index].type_at, batch->view[index].type_size);
}
static inline hr_slice hr_batch_subject(const hr_batch *batch, uint32_t index) {
    return hr_slice_of(batch->bytes + batch->view[index].subject_at,
                       batch->view[index].subject_size);
}
static inline hr_slice hr_batch_key(const hr_batch *batch, uint32_t index) {
    return hr_slice_of(batch->bytes + batch->view[index].key_at, batch->view[index].key_size);
}

/* Collects packed envelopes. Zeroed is ready. Owned by one thread. */
typedef struct hr_builder {
    hr_buffer bytes;
    hr_view *view;
    uint64_t *position;
    uint32_t count, capacity;
} hr_builder;

/* Appends one packed CloudEvent (as hr_envelope_pack writes it, or foreign), reading its view.
 * key_hash of the view is the hash of the partitionkey attribute, 0 when there is none.
 * Errors: HR_E_MALFORMED with what is wrong at which offset; HR_E_TOO_LARGE when the batch holds
 * HR_BATCH_MAX events or would pass HR_BATCH_BYTES_MAX (finish it and add again), or the event is
 * over HR_ENVELOPE_MAX; nothing is added then. */
hr_code hr_builder_add(hr_builder *builder, uint64_t position, hr_slice envelope, hr_error *err);

/* For those who write the packed form themselves (core/template.h): room for one event of at most
 * size bytes, and where its view goes. The writer fills both, with offsets from *out_room and the
 * event's size in view->size; then hr_builder_keep() adds it. Errors: as hr_builder_add. */
hr_code hr_builder_room(hr_builder *builder, size_t size, hr_view **out_view, uint8_t **out_room,
                        hr_error *err);
void hr_builder_keep(hr_builder *builder, uint64_t position);

/* Moves all events of from behind those of builder; from is empty then and keeps its memory.
 * Errors: HR_E_TOO_LARGE when they do not fit (nothing is moved; an empty builder has room). */
hr_code hr_builder_move(hr_builder *builder, hr_builder *from);

/* Makes the batch (one allocation, one reference, owned by the caller) and empties the builder,
 * which keeps its memory for the next one. count 0 gives NULL. */
hr_batch *hr_builder_finish(hr_builder *builder, uint32_t feed, int64_t received_us);

/* Drops what was added and keeps the memory for what comes next. */
void hr_builder_clear(hr_builder *builder);

/* Frees what the builder holds. */
void hr_builder_fini(hr_builder *builder);

/* A new batch of the events whose indexes are given, with their positions (one copy).
 * Thread: any. */
hr_batch *hr_batch_pick(const hr_batch *batch, const uint32_t *indexes, uint32_t count);

#endif
