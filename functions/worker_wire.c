/* SPDX-License-Identifier: Apache-2.0 */
#include "functions/worker_wire.h"

#include "core/envelope.h"
#include "core/time_text.h"

/* ---- writing: a record's room is made once, then nothing is asked again ---- */

enum { CALL_NUMBERS = 6, EVENT_NUMBERS = 13, PLACE_BYTES = 16 };

static inline void store_u32(uint8_t *at, uint32_t value) { /* one store, where that is its order */
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    at[2] = (uint8_t)(value >> 16);
    at[3] = (uint8_t)(value >> 24);
}

static inline void put_u32(hr_buffer *out, uint32_t value) {
    HR_ASSERT(out->capacity - out->size >= 4);
    store_u32(out->bytes + out->size, value);
    out->size += 4;
}

static inline void put_u64(hr_buffer *out, uint64_t value) {
    put_u32(out, (uint32_t)value);
    put_u32(out, (uint32_t)(value >> 32));
}

static inline void set_u32(hr_buffer *out, size_t at, uint32_t value) {
    store_u32(out->bytes + at, value);
}

static inline void put_slice(hr_buffer *out, hr_slice slice) {
    HR_ASSERT(out->capacity - out->size >= slice.size);
    if (slice.size > 0) {
        memcpy(out->bytes + out->size, slice.bytes, slice.size);
        out->size += slice.size;
    }
}

/* Appends an attribute as text; returns its bytes. */
static uint32_t put_attribute(hr_buffer *out, const hr_attribute *attribute) {
    size_t start = out->size;
    if (attribute->name.size == 0) {
        return 0;
    }
    if (attribute->type == HR_ATTRIBUTE_STRING) {
        put_slice(out, attribute->text);
    } else {
        hr_attribute_print(attribute, out); /* may take more room than it needs */
    }
    return (uint32_t)(out->size - start);
}

/* The attributes of an envelope, sorted out: some are parts of the record, the rest extensions. */
typedef struct attributes {
    hr_attribute time, content_type, key; /* without a name: absent */
    hr_attribute extension[HR_ENVELOPE_ATTRIBUTES];
    uint32_t extension_count;
} attributes;

static void sort_attributes(hr_slice envelope, attributes *out) {
    hr_attribute attribute;
    out->time = out->content_type = out->key = (hr_attribute){0};
    out->extension_count = 0;
    for (size_t cursor = 0; hr_envelope_next_attribute(envelope, &cursor, &attribute);) {
        if (hr_slice_is(attribute.name, "time")) {
            out->time = attribute;
        } else if (hr_slice_is(attribute.name, "datacontenttype")) {
            out->content_type = attribute;
        } else if (hr_slice_is(attribute.name, "partitionkey")) {
            out->key = attribute;
        } else if (!hr_slice_is(attribute.name, "subject") &&
                   out->extension_count < HR_ENVELOPE_ATTRIBUTES) {
            out->extension[out->extension_count++] = attribute;
        }
    }
}

/* No record of this envelope is larger: its texts stand there, its bytes become base64, and what
 * else an attribute holds has at most HR_TIME_TEXT bytes as text. */
static size_t event_bound(hr_slice envelope) {
    size_t printed = (size_t)HR_ENVELOPE_ATTRIBUTES * (8 + HR_TIME_TEXT);
    return (size_t)EVENT_NUMBERS * 4 + envelope.size * 2 + printed + 8;
}

/* u32 size of the record, attempt, replay, flags, then sizes of id, source, type, subject, time,
 * content type, key, data and the number of extensions; then those bytes; then extensions; then the
 * key hash. Returns where the data begins in out. */
static size_t put_event(hr_buffer *out, const hr_event_ref *ref) {
    const hr_view *view = &ref->batch->view[ref->index];
    hr_slice envelope = hr_batch_envelope(ref->batch, ref->index);
    attributes own;
    sort_attributes(envelope, &own);
    uint8_t *head = hr_buffer_room(out, event_bound(envelope));
    size_t start = out->size;
    const uint32_t numbers[EVENT_NUMBERS] = {0, /* the size, set below */
                                             ref->attempt,
                                             ref->replay,
                                             view->flags,
                                             view->id_size,
                                             view->source_size,
                                             view->type_size,
                                             view->subject_size,
                                             0, /* of time, content type and key, set below */
                                             0,
                                             0,
                                             view->data_size,
                                             own.extension_count};
    for (int i = 0; i < EVENT_NUMBERS; i++) {
        store_u32(head + (size_t)i * 4, numbers[i]);
    }
    out->size += sizeof numbers;
    put_slice(out, hr_batch_id(ref->batch, ref->index));
    put_slice(out, hr_batch_source(ref->batch, ref->index));
    put_slice(out, hr_batch_type(ref->batch, ref->index));
    put_slice(out, hr_batch_subject(ref->batch, ref->index));
    set_u32(out, start + 32, put_attribute(out, &own.time));
    set_u32(out, start + 36, put_attribute(out, &own.content_type));
    set_u32(out, start + 40, put_attribute(out, &own.key));
    size_t data = out->size;
    put_slice(out, hr_batch_data(ref->batch, ref->index));
    for (uint32_t i = 0; i < own.extension_count; i++) {
        const hr_attribute *extension = &own.extension[i];
        size_t at = out->size;
        put_u32(out, (uint32_t)extension->name.size);
        put_u32(out, 0);
        put_slice(out, extension->name);
        set_u32(out, at + 4, put_attribute(out, extension));
    }
    put_u64(out, ref->key_hash);
    set_u32(out, start, (uint32_t)(out->size - start));
    return data;
}

static size_t begin_frame(uint8_t type, uint64_t call, hr_buffer *out) {
    size_t start = out->size;
    uint8_t kind[4] = {type, HR_FRAME_VERSION, 0, 0};
    hr_buffer_room(out, HR_FRAME_HEAD + CALL_NUMBERS * 4);
    put_u32(out, 0);
    put_slice(out, hr_slice_of(kind, sizeof kind));
    put_u64(out, call);
    return start;
}

/* Where the events of a frame lie in its body. */
typedef struct places {
    uint32_t event[HR_BATCH_MAX], data[HR_BATCH_MAX];
} places;

/* Four columns: each event's record, its data, the size of its data, its flags. */
static void put_places(hr_buffer *out, const hr_call *call, uint32_t sent, const places *own) {
    hr_buffer_room(out, (size_t)sent * PLACE_BYTES);
    for (uint32_t i = 0; i < sent; i++) {
        put_u32(out, own->event[i]);
    }
    for (uint32_t i = 0; i < sent; i++) {
        put_u32(out, own->data[i]);
    }
    for (uint32_t i = 0; i < sent; i++) {
        put_u32(out, call->events[i].batch->view[call->events[i].index].data_size);
    }
    for (uint32_t i = 0; i < sent; i++) {
        put_u32(out, call->events[i].batch->view[call->events[i].index].flags);
    }
}

uint32_t hr_frame_call(const hr_call *call, uint32_t timeout_ms, bool with_places, size_t max,
                       hr_buffer *out) {
    places own;
    size_t start = begin_frame(HR_FRAME_CALL, call->id, out), body = out->size;
    size_t more = with_places ? PLACE_BYTES : 0; /* of each event, behind all of them */
    put_u32(out, 0);                             /* events, set below */
    put_u32(out, call->version);
    put_u32(out, call->lane);
    put_u32(out, timeout_ms);
    put_u32(out, 0); /* window, later */
    put_u32(out, 0); /* state, later */
    HR_ASSERT(call->count <= HR_BATCH_MAX);
    uint32_t sent = 0;
    while (sent < call->count) {
        size_t before = out->size;
        size_t data = put_event(out, &call->events[sent]);
        if (out->size - body + (sent + 1) * more > max) {
            out->size = before;
            break;
        }
        own.event[sent] = (uint32_t)(before - body);
        own.data[sent++] = (uint32_t)(data - body);
    }
    if (sent == 0) {
        out->size = start;
        return 0;
    }
    if (with_places) {
        put_places(out, call, sent, &own);
    }
    set_u32(out, body, sent);
    set_u32(out, start, (uint32_t)(out->size - body));
    return sent;
}

void hr_frame_bye(hr_buffer *out) {
    begin_frame(HR_FRAME_BYE, 0, out);
}

/* ---- reading ---- */

typedef struct reader {
    hr_slice rest;
    bool is_bad;
} reader;

static uint32_t get_u32(reader *r) {
    if (r->rest.size < 4) {
        r->is_bad = true;
        r->rest.size = 0;
        return 0;
    }
    const uint8_t *b = r->rest.bytes;
    r->rest.bytes += 4;
    r->rest.size -= 4;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static uint64_t get_u64(reader *r) {
    uint64_t low = get_u32(r);
    return low | (uint64_t)get_u32(r) << 32;
}

static hr_slice get_bytes(reader *r, uint32_t size) {
    if (r->rest.size < size) {
        r->is_bad = true;
        r->rest.size = 0;
        return (hr_slice){0};
    }
    hr_slice slice = hr_slice_of(r->rest.bytes, size);
    r->rest.bytes += size;
    r->rest.size -= size;
    return slice;
}

bool hr_frame_read(hr_slice bytes, hr_frame *out, bool *out_bad) {
    *out_bad = false;
    if (bytes.size < HR_FRAME_HEAD) {
        return false;
    }
    reader r = {.rest = bytes};
    uint32_t size = get_u32(&r);
    uint8_t type = bytes.bytes[4], version = bytes.bytes[5];
    get_u32(&r);
    if (size > HR_FRAME_MAX || version != HR_FRAME_VERSION) {
        *out_bad = true;
        return false;
    }
    if (bytes.size - HR_FRAME_HEAD < size) {
        return false;
    }
    out->type = type;
    out->call = get_u64(&r);
    out->body = get_bytes(&r, size);
    out->size = HR_FRAME_HEAD + (size_t)size;
    return true;
}

static hr_code read_exceptions(reader *r, uint32_t count, uint32_t sent, hr_wire_answer *out,
                               hr_error *err) {
    for (uint32_t i = 0; i < count && !r->is_bad; i++) {
        uint32_t index = get_u32(r), outcome = get_u32(r);
        int64_t after_ms = (int64_t)get_u64(r);
        hr_slice why = get_bytes(r, get_u32(r));
        bool ascends = i == 0 || index > out->exceptions[i - 1].index;
        if (!r->is_bad && (index >= sent || !ascends || outcome == HR_OUTCOME_OK ||
                           outcome > HR_OUTCOME_NOT_RUN)) {
            return hr_fail(err, HR_E_CALL_GARBAGE, 0,
                           "the answer names event %u with outcome %u in a call of %u events",
                           index, outcome, sent);
        }
        out->exceptions[i] = (hr_exception){.index = (uint16_t)index,
                                            .outcome = (uint8_t)outcome,
                                            .after_ms = after_ms < 0 ? -1 : after_ms,
                                            .why = why};
        out->exception_count = i + 1;
    }
    return HR_OK;
}

/* Names an event after the exceptions were read; its own word stands when it has one. */
static void add_exception(hr_wire_answer *out, uint32_t index, hr_outcome outcome, hr_slice why) {
    size_t at = out->exception_count;
    while (at > 0 && out->exceptions[at - 1].index >= index) {
        at--;
    }
    if (at < out->exception_count && out->exceptions[at].index == index) {
        return;
    }
    memmove(out->exceptions + at + 1, out->exceptions + at,
            (out->exception_count - at) * sizeof *out->exceptions);
    out->exception_count++;
    out->exceptions[at] = (hr_exception){
        .index = (uint16_t)index, .outcome = (uint8_t)outcome, .after_ms = -1, .why = why};
}

/* A result that does not fit makes its event a dead letter, since the next try would give it again;
 * unless it only comes behind the results of others, then its event is called again. */
static void refuse_result(hr_wire_answer *out, const hr_result *result) {
    bool is_behind = out->results.builder.count > 0 && out->results.causes[0] != result->cause;
    if (is_behind && result->data.size <= HR_RESULT_MAX) {
        add_exception(out, result->cause, HR_OUTCOME_NOT_RUN,
                      hr_slice_text("the results of the call are full"));
    } else {
        add_exception(out, result->cause, HR_OUTCOME_DEAD,
                      hr_slice_text("its results are too large: one has at most 1 MiB, those of a "
                                    "call 64 MiB"));
    }
}

static hr_result get_result(reader *r, uint32_t sent) {
    uint32_t cause = get_u32(r), flags = get_u32(r), type = get_u32(r);
    uint32_t content_type = get_u32(r), subject = get_u32(r), data = get_u32(r);
    hr_result result = {.cause = (uint16_t)(cause < sent ? cause : UINT16_MAX)};
    result.type = get_bytes(r, type);
    result.content_type = get_bytes(r, content_type);
    result.subject = get_bytes(r, subject);
    result.data = get_bytes(r, data);
    result.is_text = (flags & HR_VIEW_TEXT) != 0;
    result.is_json = (flags & HR_VIEW_JSON) != 0;
    return result;
}

hr_code hr_frame_answer(hr_slice body, const hr_runtime *runtime, const hr_call *call,
                        uint32_t sent, hr_wire_answer *out, hr_error *err) {
    reader r = {.rest = body};
    uint32_t exceptions = get_u32(&r), results = get_u32(&r);
    out->exception_count = 0;
    if (exceptions > sent || results > HR_RESULTS_MAX) {
        return hr_fail(err, HR_E_CALL_GARBAGE, 0,
                       "the answer has %u exceptions and %u results for a call of %u events",
                       exceptions, results, sent);
    }
    hr_code code = read_exceptions(&r, exceptions, sent, out, err);
    for (uint32_t i = 0; code == HR_OK && i < results && !r.is_bad; i++) {
        hr_result result = get_result(&r, sent);
        if (r.is_bad) {
            break;
        }
        code = hr_result_add(&out->results, runtime, call, &result, err);
        if (code == HR_E_TOO_LARGE) {
            refuse_result(out, &result);
            code = HR_OK;
        }
    }
    if (code == HR_OK && r.is_bad) {
        code = hr_fail(err, HR_E_CALL_GARBAGE, 0, "the answer ends too early");
    }
    for (uint32_t i = sent; code == HR_OK && i < call->count; i++) {
        add_exception(out, i, HR_OUTCOME_NOT_RUN,
                      hr_slice_text("the events before it filled the frame"));
    }
    return code;
}

bool hr_frame_log(hr_slice body, hr_wire_log *out) {
    reader r = {.rest = body};
    out->level = get_u32(&r);
    out->attempt = get_u32(&r);
    uint32_t id = get_u32(&r), text = get_u32(&r);
    out->event_id = get_bytes(&r, id);
    out->text = get_bytes(&r, text);
    return !r.is_bad && out->level <= 3;
}

bool hr_frame_hello(hr_slice body, hr_wire_hello *out) {
    reader r = {.rest = body};
    out->flags = get_u32(&r);
    out->error = get_bytes(&r, get_u32(&r));
    return !r.is_bad;
}
