/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum of a page of the file: its last eight bytes, which SQLite leaves alone. */
#include "broker/store_priv.h"

enum { RESERVED_AT = 20 };

/* Little-endian. */
static uint64_t sum_of(uint32_t page, const uint8_t *bytes, size_t size) {
    return hr_hash_more(page, hr_slice_of(bytes, size - STORE_PAGE_SUM));
}

void hr_page_sign(uint32_t page, uint8_t *bytes, size_t size) {
    uint64_t sum = sum_of(page, bytes, size);
    for (size_t i = 0; i < STORE_PAGE_SUM; i++) {
        bytes[size - STORE_PAGE_SUM + i] = (uint8_t)(sum >> (8 * i));
    }
}

bool hr_page_is_whole(uint32_t page, const uint8_t *bytes, size_t size) {
    uint64_t said = 0;
    for (size_t i = 0; i < STORE_PAGE_SUM; i++) {
        said |= (uint64_t)bytes[size - STORE_PAGE_SUM + i] << (8 * i);
    }
    return said == sum_of(page, bytes, size);
}

bool hr_page_has_sums(uint8_t *first, size_t size) {
    uint8_t held = first[RESERVED_AT];
    first[RESERVED_AT] = STORE_PAGE_SUM; /* or a flipped bit there would turn the checks off */
    bool is_ours = hr_page_is_whole(1, first, size);
    first[RESERVED_AT] = held;
    return held == STORE_PAGE_SUM || is_ours;
}
