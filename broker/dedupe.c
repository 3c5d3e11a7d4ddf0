/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with backward-shift deletion for the set, a ring in order of arrival for the
 * window. A removed id stays in the ring as a hole. Marks say under which time the id was stored
 * that came in at a place of the ring: one for about a thousand of them. */
#include "broker/dedupe.h"

#include "core/error.h"
#include "core/memory.h"

#include <xxhash.h>

enum { MARK_EVERY = 1024 };

typedef struct arrival {
    hr_seen seen;
    int64_t at_ms;
} arrival;

typedef struct mark {
    uint64_t place; /* ids that came before it */
    int64_t row_ms; /* they are stored under this time or an earlier one, all later ones under it
                       or a later one */
} mark;

struct hr_dedupe {
    int64_t window_ms;
    uint32_t max, count;
    hr_seen *slot;
    uint32_t mask;
    arrival *ring;
    uint32_t ring_size, first, used;
    uint64_t evicted;
    uint64_t gone; /* ids that left the ring */
    mark *marks;   /* ascending, of places that are still in the ring */
    uint32_t marks_size, first_mark, mark_count;
    uint64_t last_mark;
    int64_t row_ms, left_ms;
};

static bool is_empty(hr_seen seen) {
    return seen.low == 0 && seen.high == 0;
}

hr_seen hr_seen_of(hr_slice source, hr_slice id) {
    /* the source seeds the hash of the id, so that ("a", "bc") and ("ab", "c") differ */
    uint64_t seed = XXH3_64bits(source.bytes, source.size);
    XXH128_hash_t hash = XXH3_128bits_withSeed(id.bytes, id.size, seed);
    hr_seen seen = {.low = hash.low64, .high = hash.high64};
    if (is_empty(seen)) {
        seen.low = 1;
    }
    return seen;
}

hr_dedupe *hr_dedupe_new(uint32_t max, int64_t window_ms) {
    HR_ASSERT(max > 0 && max <= 1u << 28);
    hr_dedupe *dedupe = hr_alloc(sizeof *dedupe);
    dedupe->max = max;
    dedupe->window_ms = window_ms;
    dedupe->mask = 63;
    dedupe->slot = hr_alloc_array(dedupe->mask + 1, sizeof *dedupe->slot);
    dedupe->ring_size = 64;
    dedupe->ring = hr_alloc_array(dedupe->ring_size, sizeof *dedupe->ring);
    dedupe->marks_size = max / MARK_EVERY + 2;
    dedupe->marks = hr_alloc_array(dedupe->marks_size, sizeof *dedupe->marks);
    return dedupe;
}

void hr_dedupe_free(hr_dedupe *take_dedupe) {
    if (take_dedupe != NULL) {
        hr_free(take_dedupe->slot);
        hr_free(take_dedupe->ring);
        hr_free(take_dedupe->marks);
        hr_free(take_dedupe);
    }
}

static uint32_t find(const hr_dedupe *dedupe, hr_seen seen) {
    uint32_t at = (uint32_t)seen.low & dedupe->mask;
    while (!is_empty(dedupe->slot[at]) &&
           (dedupe->slot[at].low != seen.low || dedupe->slot[at].high != seen.high)) {
        at = (at + 1) & dedupe->mask;
    }
    return at;
}

static bool erase(hr_dedupe *dedupe, hr_seen seen) {
    uint32_t hole = find(dedupe, seen);
    if (is_empty(dedupe->slot[hole])) {
        return false;
    }
    uint32_t at = hole;
    for (;;) {
        at = (at + 1) & dedupe->mask;
        if (is_empty(dedupe->slot[at])) {
            break;
        }
        uint32_t home = (uint32_t)dedupe->slot[at].low & dedupe->mask;
        if (((at - home) & dedupe->mask) >= ((at - hole) & dedupe->mask)) {
            dedupe->slot[hole] = dedupe->slot[at];
            hole = at;
        }
    }
    dedupe->slot[hole] = (hr_seen){0};
    dedupe->count--;
    return true;
}

static void grow_slots(hr_dedupe *dedupe) {
    hr_seen *old = dedupe->slot;
    uint32_t old_size = dedupe->mask + 1;
    dedupe->mask = old_size * 2 - 1;
    dedupe->slot = hr_alloc_array(dedupe->mask + 1, sizeof *dedupe->slot);
    for (uint32_t i = 0; i < old_size; i++) {
        if (!is_empty(old[i])) {
            dedupe->slot[find(dedupe, old[i])] = old[i];
        }
    }
    hr_free(old);
}

static void grow_ring(hr_dedupe *dedupe) {
    uint32_t size = dedupe->ring_size * 2;
    arrival *ring = hr_alloc_array(size, sizeof *ring);
    for (uint32_t i = 0; i < dedupe->used; i++) {
        ring[i] = dedupe->ring[(dedupe->first + i) % dedupe->ring_size];
    }
    hr_free(dedupe->ring);
    dedupe->ring = ring;
    dedupe->ring_size = size;
    dedupe->first = 0;
}

static bool drop_oldest(hr_dedupe *dedupe) {
    arrival *oldest = &dedupe->ring[dedupe->first];
    bool erased = !is_empty(oldest->seen) && erase(dedupe, oldest->seen);
    dedupe->first = (dedupe->first + 1) % dedupe->ring_size;
    dedupe->used--;
    dedupe->gone++;
    const mark *next = &dedupe->marks[dedupe->first_mark];
    if (dedupe->mark_count > 0 && next->place <= dedupe->gone) {
        dedupe->left_ms = next->row_ms;
        dedupe->first_mark = (dedupe->first_mark + 1) % dedupe->marks_size;
        dedupe->mark_count--;
    }
    return erased;
}

int64_t hr_dedupe_stamp(hr_dedupe *dedupe, int64_t real_ms) {
    uint64_t place = dedupe->gone + dedupe->used;
    dedupe->row_ms = real_ms > dedupe->row_ms ? real_ms : dedupe->row_ms;
    if (place >= dedupe->last_mark + MARK_EVERY) {
        HR_ASSERT(dedupe->mark_count < dedupe->marks_size); /* MARK_EVERY apart, within max */
        uint32_t last = (dedupe->first_mark + dedupe->mark_count++) % dedupe->marks_size;
        dedupe->marks[last] = (mark){.place = place, .row_ms = dedupe->row_ms};
        dedupe->last_mark = place;
    }
    return dedupe->row_ms;
}

int64_t hr_dedupe_left_ms(hr_dedupe *dedupe) {
    int64_t left_ms = dedupe->left_ms;
    dedupe->left_ms = 0;
    return left_ms;
}

bool hr_dedupe_add(hr_dedupe *dedupe, hr_seen seen, int64_t now_ms) {
    HR_ASSERT(dedupe->ring_size > 0);
    while (dedupe->used > 0 && dedupe->ring[dedupe->first].at_ms <= now_ms - dedupe->window_ms) {
        drop_oldest(dedupe);
    }
    if (!is_empty(dedupe->slot[find(dedupe, seen)])) {
        return false;
    }
    while (dedupe->used >= dedupe->max) {
        dedupe->evicted += drop_oldest(dedupe) ? 1 : 0;
    }
    if ((dedupe->count + 1) * 2 > dedupe->mask) {
        grow_slots(dedupe);
    }
    if (dedupe->used == dedupe->ring_size) {
        grow_ring(dedupe);
    }
    dedupe->slot[find(dedupe, seen)] = seen;
    dedupe->count++;
    uint32_t last = (dedupe->first + dedupe->used) % dedupe->ring_size;
    dedupe->ring[last] = (arrival){.seen = seen, .at_ms = now_ms};
    dedupe->used++;
    return true;
}

void hr_dedupe_load(hr_dedupe *dedupe, int64_t stored_ms, hr_slice packed) {
    (void)hr_dedupe_stamp(dedupe, stored_ms);
    for (size_t at = 0; at + sizeof(hr_seen) <= packed.size; at += sizeof(hr_seen)) {
        hr_seen seen;
        memcpy(&seen, packed.bytes + at, sizeof seen);
        hr_dedupe_add(dedupe, seen, stored_ms);
    }
}

void hr_dedupe_remove(hr_dedupe *dedupe, hr_seen seen) {
    if (!erase(dedupe, seen)) {
        return;
    }
    for (uint32_t i = dedupe->used; i > 0; i--) { /* the newest first: it was just added */
        arrival *entry = &dedupe->ring[(dedupe->first + i - 1) % dedupe->ring_size];
        if (entry->seen.low == seen.low && entry->seen.high == seen.high) {
            entry->seen = (hr_seen){0};
            return;
        }
    }
}

uint32_t hr_dedupe_count(const hr_dedupe *dedupe) {
    return dedupe->count;
}

uint64_t hr_dedupe_evicted(const hr_dedupe *dedupe) {
    return dedupe->evicted;
}
