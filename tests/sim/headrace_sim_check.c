/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold at each call, note and unit, and the account of the truth. */
#include "core/memory.h"
#include "tests/sim/headrace_sim.h"

#include <stdarg.h>
#include <stdio.h>

void sim_break(sim *s, const char *format, ...) {
    if (s->broken[0] != '\0') {
        return;
    }
    va_list more;
    va_start(more, format);
    vsnprintf(s->broken, sizeof s->broken, format,
              more); /* NOLINT(clang-analyzer-valist.Uninitialized) */
    va_end(more);
    if (s->prints) {
        fprintf(stderr, "BROKEN %s\n", s->broken);
    }
}

/* One line of the history; the digest is over all of them. */
void sim_say(sim *s, const char *what, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    if (!s->is_hashed) {
        return;
    }
    uint64_t line[] = {(uint64_t)what[0], s->now_ns, (uint64_t)s->real_us, a, b, c, d};
    s->digest = hr_hash_more(s->digest, hr_slice_of(line, sizeof line));
    if (s->prints) {
        fprintf(stderr, "%12.3f %-12s %llu %llu %llu %llu\n", (double)s->now_ns / 1e6, what,
                (unsigned long long)a, (unsigned long long)b, (unsigned long long)c,
                (unsigned long long)d);
    }
}

uint64_t sim_chance(sim *s, uint64_t below) {
    uint64_t z = (s->chance += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % below;
}

uint32_t sim_feed_index(const sim *s, uint32_t id) {
    uint32_t i = 0;
    while (i < SIM_FEEDS && s->feeds[i].id != id) {
        i++;
    }
    HR_ASSERT(i < SIM_FEEDS);
    return i;
}

uint32_t sim_function_index(const sim *s, uint32_t id) {
    uint32_t i = 0;
    while (i < s->function_count && s->functions[i].policy.id != id) {
        i++;
    }
    HR_ASSERT(i < s->function_count);
    return i;
}

sim_slot *sim_slot_at(sim_feed *feed, uint64_t position) {
    HR_ASSERT(position < 1u << 20);
    if (position >= feed->capacity) {
        uint64_t capacity = feed->capacity == 0 ? 256 : feed->capacity;
        while (capacity <= position) {
            capacity *= 2;
        }
        feed->slots = hr_realloc(feed->slots, capacity * sizeof *feed->slots);
        memset(feed->slots + feed->capacity, 0, (capacity - feed->capacity) * sizeof *feed->slots);
        feed->capacity = capacity;
    }
    feed->count = position >= feed->count ? position + 1 : feed->count;
    return &feed->slots[position];
}

static uint64_t varint(const uint8_t **at) {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return value;
        }
    }
}

bool sim_is_passed(const sim_cursor *c, uint64_t position) {
    if (!c->exists) {
        return false;
    }
    const uint8_t *at = c->settled.bytes, *end = at + c->settled.size;
    uint64_t from = c->low;
    bool is_in = position < c->low;
    while (!is_in && c->settled.size > 0 && at < end) {
        from += varint(&at);
        uint64_t to = from + varint(&at);
        is_in = position >= from && position < to;
        from = to;
    }
    return is_in;
}

/* What was done and is not known to be durable, or runs, may be done once more (S14). */
void sim_allow(sim *s, uint32_t only) {
    for (uint32_t i = 0; i < SIM_FEEDS; i++) {
        for (uint64_t p = 0; (only == SIM_FEEDS || only == i) && p < s->feeds[i].count; p++) {
            const sim_slot *slot = &s->feeds[i].slots[p];
            for (uint32_t f = 0; f < s->function_count && (slot->repeats | slot->running) != 0;
                 f++) {
                bool may = ((slot->repeats | slot->running) >> f & 1) != 0 &&
                           (!sim_is_passed(&s->cursors[f][i], p) || (slot->parked >> f & 1) != 0);
                s->allowed += may ? 1 : 0;
            }
        }
    }
}

/* ---- calls ---- */

static void check_order(sim *s, uint32_t f, uint32_t feed, uint64_t position, uint32_t event) {
    hr_order order = s->functions[f].policy.order;
    uint32_t key = s->events[event].key;
    uint64_t first = sim_first(&s->functions[f], feed);
    for (uint64_t p = first; order != HR_ORDER_NONE && p < position; p++) {
        const sim_slot *before = &s->feeds[feed].slots[p];
        if (before->event == 0 || !sim_wants(s, f, before->event)) {
            continue;
        }
        bool is_same = order == HR_ORDER_FEED || (key != 0 && s->events[before->event].key == key);
        if (is_same && ((before->done | before->running) >> f & 1) == 0) {
            sim_break(s, "function %u got e%u (feed %u, %llu) before position %llu of its key", f,
                      event, feed, (unsigned long long)position, (unsigned long long)p);
            return;
        }
    }
}

static const uint32_t pull_bits = ((1u << SIM_PULL) - 1) << SIM_PUSH;

void sim_check_call(sim *s, const hr_call *call) {
    uint32_t f = sim_function_index(s, call->function);
    uint8_t bit = (uint8_t)(1u << f);
    s->calls_made++;
    for (uint32_t i = 0; i < call->count; i++) {
        const hr_event_ref *ref = &call->events[i];
        uint64_t position = ref->batch->position[ref->index];
        uint32_t feed = sim_feed_index(s, ref->batch->feed);
        uint32_t event = sim_event_of(s, ref->batch, ref->index);
        sim_say(s, "call", call->id, f, feed, position);
        sim_slot *slot = sim_slot_at(&s->feeds[feed], position);
        /* what is parked of a partition is tried until that is assigned: S17 */
        uint32_t takes = s->functions[f].takes;
        takes |= s->functions[f].is_configured ? s->functions[f].left & pull_bits : 0;
        if (event == 0 || slot->event != event || (takes >> feed & 1) == 0) {
            sim_break(s, "function %u got what is not there: feed %u, %llu (e%u, not e%u)", f, feed,
                      (unsigned long long)position, event, slot->event);
            return;
        }
        if (position < sim_first(&s->functions[f], feed)) {
            sim_break(s, "function %u got e%u (feed %u, %llu), which was there before it did", f,
                      event, feed, (unsigned long long)position);
        }
        if (!sim_wants(s, f, event)) {
            sim_break(s, "function %u got e%u, which its filter leaves out", f, event);
        }
        if ((slot->running & bit) != 0) {
            sim_break(s, "function %u has e%u twice at once", f, event);
        }
        bool is_parked = (slot->parked & bit) != 0;
        if (sim_is_passed(&s->cursors[f][feed], position) && !is_parked) {
            sim_break(s, "function %u got e%u (feed %u, %llu) though its end was durable", f, event,
                      feed, (unsigned long long)position);
        }
        check_order(s, f, feed, position, event);
        slot->running |= bit;
        s->duplicates += (slot->repeats & bit) != 0 ? 1 : 0;
        slot->repeats &= (uint8_t)~bit;
    }
}

static void check_note(sim *s, const hr_note *note, uint32_t feed_id, uint64_t position) {
    uint32_t f = sim_function_index(s, note->function);
    uint32_t feed = sim_feed_index(s, feed_id);
    sim_slot *slot = sim_slot_at(&s->feeds[feed], position);
    uint8_t bit = (uint8_t)(1u << f);
    bool is_ok = note->kind == HR_NOTE_DELIVERED || note->kind == HR_NOTE_DROPPED;
    if (is_ok && (slot->handled & bit) == 0) {
        sim_break(s, "function %u is said to have done feed %u, %llu", f, feed,
                  (unsigned long long)position);
    }
    if (is_ok || note->kind == HR_NOTE_DEAD || note->kind == HR_NOTE_EXPIRED) {
        slot->done |= bit;
        sim_say(s, "note", (uint64_t)note->kind, f, feed, position);
    }
}

uint64_t sim_check_note(void *data, const hr_note *note) {
    sim *s = data;
    if (s->is_told || note->function == 0) {
        return 0;
    }
    for (uint32_t i = 0; i < note->count; i++) {
        const hr_event_ref *event = &note->events[i];
        check_note(s, note, event->batch->feed, event->batch->position[event->index]);
    }
    if (note->count == 0) {
        check_note(s, note, note->feed, note->position);
    }
    return 0;
}

/* ---- units ---- */

void sim_check_position(sim *s, uint32_t feed, const hr_batch *batch, uint32_t index) {
    uint64_t position = batch->position[index];
    uint32_t event = sim_event_of(s, batch, index);
    sim_slot *slot = sim_slot_at(&s->feeds[feed], position);
    if (event == 0 || s->events[event].feed != feed || (slot->event != 0 && slot->event != event)) {
        s->totals->corrupt++;
        sim_break(s, "feed %u, %llu holds e%u, not e%u", feed, (unsigned long long)position, event,
                  slot->event);
        return;
    }
    if (slot->is_barred) {
        sim_break(s, "feed %u, %llu holds e%u of a unit that was fenced", feed,
                  (unsigned long long)position, event);
    }
    slot->event = event;
    slot->is_present = true;
    sim_event *e = &s->events[event];
    const sim_push *p = feed < SIM_PUSH ? &s->push[feed] : NULL;
    bool is_once = p != NULL && (p->is_cron || (p->dedupes && !s->has_jumped));
    if (is_once && e->position != 0 && e->position != position) { /* S16; one a fire */
        sim_break(s, "e%u of feed %u stands at %llu and at %llu", event, feed,
                  (unsigned long long)e->position, (unsigned long long)position);
    }
    e->position = position;
}

/* The store forgets a function, or its place in one feed; what it had parked is dead letters. */
static void let_go(sim *s, uint32_t f, uint32_t feed) {
    for (uint32_t i = 0; i < SIM_FEEDS; i++) {
        for (uint64_t p = 0; (feed == 0 || s->feeds[i].id == feed) && p < s->feeds[i].count; p++) {
            s->feeds[i].slots[p].parked &= (uint8_t) ~(1u << f);
        }
        s->cursors[f][i].exists = s->cursors[f][i].exists && feed != 0 && s->feeds[i].id != feed;
    }
    s->functions[f].is_gone = feed == 0;
    sim_say(s, "let go", f, feed, 0, 0);
}

/* Nothing of it may be in the store: see sim_check_position() and sim_check_fence(). */
void sim_check_fenced(sim *s, const hr_unit *unit) {
    s->totals->fenced_units++;
    for (size_t i = 0; i < unit->append_count; i++) {
        const hr_batch *batch = unit->appends[i];
        for (uint32_t k = 0; k < batch->count; k++) {
            sim_slot_at(&s->feeds[sim_feed_index(s, batch->feed)], batch->position[k])->is_barred =
                true;
        }
    }
}

void sim_check_unit(sim *s, const hr_unit *unit) {
    for (size_t i = 0; i < unit->append_count; i++) {
        uint32_t feed = sim_feed_index(s, unit->appends[i]->feed);
        for (uint32_t k = 0; k < unit->appends[i]->count; k++) {
            sim_check_position(s, feed, unit->appends[i], k);
        }
    }
    for (size_t i = 0; i < unit->row_count; i++) {
        const hr_row *row = &unit->rows[i];
        if (row->kind == HR_ROW_REMOVE) {
            let_go(s, sim_function_index(s, row->function), row->feed);
        }
        if (row->kind != HR_ROW_PARK && row->kind != HR_ROW_UNPARK) {
            continue;
        }
        uint8_t bit = (uint8_t)(1u << sim_function_index(s, row->function));
        sim_slot *slot = sim_slot_at(&s->feeds[sim_feed_index(s, row->feed)], row->position);
        slot->parked = row->kind == HR_ROW_PARK ? slot->parked | bit : slot->parked & (uint8_t)~bit;
    }
    if (unit->has_checkpoint) {
        sim_cursor *c =
            &s->cursors[sim_function_index(s, unit->function)][sim_feed_index(s, unit->feed)];
        c->exists = true;
        c->low = unit->low;
        c->settled.size = 0;
        hr_buffer_add_slice(&c->settled, unit->settled);
    }
}
