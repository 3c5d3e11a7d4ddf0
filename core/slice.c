/* SPDX-License-Identifier: Apache-2.0 */
#include "core/slice.h"

#include <xxhash.h>

uint64_t hr_hash(hr_slice slice) {
    return XXH3_64bits(slice.bytes, slice.size);
}

uint64_t hr_hash_more(uint64_t seed, hr_slice slice) {
    return XXH3_64bits_withSeed(slice.bytes, slice.size, seed);
}
