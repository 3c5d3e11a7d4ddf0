/* SPDX-License-Identifier: Apache-2.0 */
/* A hash map from a 64-bit hash (not 0) to a pointer: open addressing, no tombstones. Zeroed is
 * empty and ready. Owned by one thread. */
#ifndef HR_CORE_MAP64_H
#define HR_CORE_MAP64_H

#include <stddef.h>
#include <stdint.h>

typedef struct hr_map64 {
    uint64_t *key;
    void **value;
    size_t count, capacity; /* capacity: 0 or a power of two */
} hr_map64;

/* The value of key, NULL when absent. */
void *hr_map64_get(const hr_map64 *map, uint64_t key);

/* Sets key, which must not be 0, to value, which must not be NULL. */
void hr_map64_set(hr_map64 *map, uint64_t key, void *value);

/* Removes key; absent is fine. */
void hr_map64_remove(hr_map64 *map, uint64_t key);

/* Frees the table; values are the owner's. */
void hr_map64_fini(hr_map64 *map);

#endif
