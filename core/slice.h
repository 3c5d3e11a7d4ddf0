/* SPDX-License-Identifier: Apache-2.0 */
/* Borrowed bytes: compare, copy and hash without caring who owns them. */
#ifndef HR_CORE_SLICE_H
#define HR_CORE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Not terminated, may be empty (bytes is then unspecified). Valid as long as the owner says. */
typedef struct hr_slice {
    const uint8_t *bytes;
    size_t size; /* bytes */
} hr_slice;

/* A slice over size bytes at bytes.  Thread: any. */
static inline hr_slice hr_slice_of(const void *bytes, size_t size) {
    return (hr_slice){.bytes = bytes, .size = size};
}

/* A slice over a C string, without its terminator; NULL gives the empty slice.  Thread: any. */
static inline hr_slice hr_slice_text(const char *text) {
    return (hr_slice){.bytes = (const uint8_t *)text, .size = text == NULL ? 0 : strlen(text)};
}

/* Same bytes?  Thread: any. */
static inline bool hr_slice_equal(hr_slice a, hr_slice b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.bytes, b.bytes, a.size) == 0);
}

/* Same bytes as the C string?  Thread: any. */
static inline bool hr_slice_is(hr_slice a, const char *text) {
    return hr_slice_equal(a, hr_slice_text(text));
}

/* xxh3 of the bytes, 64 bits. The store's checksums and the lanes rest on it: never change it.
 * Thread: any. */
uint64_t hr_hash(hr_slice slice);

/* hr_hash of b continued from the hash of what came before (for composed keys).  Thread: any. */
uint64_t hr_hash_more(uint64_t seed, hr_slice slice);

#endif
