/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the protobuf wire: one bounds-checked step over bytes that a stranger wrote. */
#ifndef HR_CORE_WIRE_H
#define HR_CORE_WIRE_H

#include "core/slice.h"

/* What is left to read. */
typedef struct hr_wire {
    const uint8_t *at, *end;
} hr_wire;

enum { HR_WIRE_VARINT = 0, HR_WIRE_FIXED64 = 1, HR_WIRE_BYTES = 2, HR_WIRE_FIXED32 = 5 };

typedef struct hr_wire_field {
    uint32_t number;
    uint32_t type;  /* HR_WIRE_* */
    uint64_t value; /* VARINT */
    hr_slice bytes; /* BYTES, FIXED32, FIXED64 */
} hr_wire_field;

static inline hr_wire hr_wire_of(hr_slice bytes) {
    return (hr_wire){.at = bytes.bytes, .end = bytes.bytes + bytes.size};
}

/* A varint of at most 64 bits. false: cut or too long.  Thread: any. */
static inline bool hr_wire_varint(hr_wire *wire, uint64_t *out) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && wire->at < wire->end; shift += 7) {
        uint8_t byte = *wire->at++;
        if (shift == 63 && byte > 1) {
            return false;
        }
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* hr_wire_next for the fields that are not usual. */
static bool hr_wire_next_any(hr_wire *wire, hr_wire_field *out) {
    uint64_t tag;
    if (!hr_wire_varint(wire, &tag) || tag < 8 || tag > UINT32_MAX) {
        return false;
    }
    out->value = 0;
    out->number = (uint32_t)tag >> 3;
    out->type = (uint32_t)tag & 7;
    if (out->type == HR_WIRE_VARINT) {
        return hr_wire_varint(wire, &out->value);
    }
    if (out->type == HR_WIRE_BYTES) {
        if (!hr_wire_varint(wire, &out->value)) {
            return false;
        }
    } else if (out->type == HR_WIRE_FIXED64 || out->type == HR_WIRE_FIXED32) {
        out->value = out->type == HR_WIRE_FIXED64 ? 8 : 4;
    } else {
        return false;
    }
    if (out->value > (uint64_t)(wire->end - wire->at)) {
        return false;
    }
    out->bytes = hr_slice_of(wire->at, (size_t)out->value);
    wire->at += out->value;
    return true;
}

/* Reads one field; the wire stands behind it then. Call only while at < end. false: cut, field
 * number 0, or a wire type that no proto3 writer uses (groups).  Thread: any. */
static inline bool hr_wire_next(hr_wire *wire, hr_wire_field *out) {
    size_t left = (size_t)(wire->end - wire->at);
    const uint8_t *at = wire->at;
    if (left >= 2 && at[0] >= 8 && (at[0] & 0x87) == HR_WIRE_BYTES && at[1] < 0x80 &&
        at[1] <= left - 2) { /* nearly all: a short tag, a short length */
        out->number = at[0] >> 3;
        out->type = HR_WIRE_BYTES;
        out->bytes = hr_slice_of(at + 2, at[1]);
        wire->at = at + 2 + at[1];
        return true;
    }
    return hr_wire_next_any(wire, out);
}

#endif
