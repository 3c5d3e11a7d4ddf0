/* SPDX-License-Identifier: Apache-2.0 */
#include "core/map64.h"

#include "core/error.h"
#include "core/memory.h"

static size_t find(const hr_map64 *map, uint64_t key) {
    size_t mask = map->capacity - 1;
    size_t at = (size_t)(key * 0x9E3779B97F4A7C15u >> 20) & mask;
    while (map->key[at] != 0 && map->key[at] != key) {
        at = (at + 1) & mask;
    }
    return at;
}

void *hr_map64_get(const hr_map64 *map, uint64_t key) {
    if (map->count == 0) {
        return NULL;
    }
    size_t at = find(map, key);
    return map->key[at] == key ? map->value[at] : NULL;
}

static void grow(hr_map64 *map) {
    hr_map64 bigger = {.capacity = map->capacity == 0 ? 16 : map->capacity * 2};
    bigger.key = hr_alloc_array(bigger.capacity, sizeof *bigger.key);
    bigger.value = hr_alloc_array(bigger.capacity, sizeof *bigger.value);
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->key[i] != 0) {
            size_t at = find(&bigger, map->key[i]);
            bigger.key[at] = map->key[i];
            bigger.value[at] = map->value[i];
        }
    }
    bigger.count = map->count;
    hr_map64_fini(map);
    *map = bigger;
}

void hr_map64_set(hr_map64 *map, uint64_t key, void *value) {
    HR_ASSERT(key != 0 && value != NULL);
    if ((map->count + 1) * 2 > map->capacity) {
        grow(map);
    }
    size_t at = find(map, key);
    if (map->key[at] == 0) {
        map->key[at] = key;
        map->count++;
    }
    map->value[at] = value;
}

void hr_map64_remove(hr_map64 *map, uint64_t key) {
    if (map->count == 0) {
        return;
    }
    size_t mask = map->capacity - 1;
    size_t hole = find(map, key);
    if (map->key[hole] == 0) {
        return;
    }
    for (size_t at = (hole + 1) & mask; map->key[at] != 0; at = (at + 1) & mask) {
        size_t home = (size_t)(map->key[at] * 0x9E3779B97F4A7C15u >> 20) & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            map->key[hole] = map->key[at];
            map->value[hole] = map->value[at];
            hole = at;
        }
    }
    map->key[hole] = 0;
    map->value[hole] = NULL;
    map->count--;
}

void hr_map64_fini(hr_map64 *map) {
    hr_free(map->key);
    hr_free(map->value);
    *map = (hr_map64){0};
}
