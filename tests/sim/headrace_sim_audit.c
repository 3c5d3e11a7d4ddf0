/* SPDX-License-Identifier: Apache-2.0 */
/* What the store holds at a start, against what is known; and the end of a history. */
#include "tests/lib/store_fixture.h"
#include "tests/sim/headrace_sim.h"

static const uint32_t pull_bits = ((1u << SIM_PULL) - 1) << SIM_PUSH;

static bool read(sim *s, hr_read *read) {
    fixture_read(s->store, read);
    bool is_fault = hr_vfs_sim_is_cut(s->disk) || hr_vfs_sim_has_failed_read(s->disk);
    if (read->result != HR_OK && !is_fault) {
        s->totals->corrupt++;
        sim_break(s, "the store cannot be read: %s", hr_code_meaning(read->result));
    }
    return read->result == HR_OK;
}

static bool read_journal(sim *s, uint32_t feed) {
    for (uint64_t p = 0; p < s->feeds[feed].count; p++) {
        s->feeds[feed].slots[p].is_present = false;
    }
    hr_read journal = {.kind = HR_READ_JOURNAL, .feed = s->feeds[feed].id, .from = 1};
    for (bool at_end = false; !at_end;) {
        bool is_read = read(s, &journal);
        if (journal.corrupt_count > 0) {
            s->totals->corrupt += journal.corrupt_count;
            sim_break(s, "feed %u is damaged at %llu", feed,
                      (unsigned long long)journal.corrupt[0]);
        }
        for (uint32_t i = 0; journal.batch != NULL && i < journal.batch->count; i++) {
            sim_check_position(s, feed, journal.batch, i);
            journal.from = journal.batch->position[i] + 1;
        }
        at_end = !is_read || journal.at_end || journal.batch == NULL;
        hr_read_fini(&journal);
        if (!is_read) {
            return false;
        }
    }
    for (uint64_t p = 0; p < s->feeds[feed].count; p++) {
        s->feeds[feed].slots[p].is_barred = false; /* the next life gives these positions again */
    }
    return true;
}

/* A letter is replayed when its event is durable, and only then. */
static void check_letter(sim *s, const hr_row *letter) {
    uint32_t durable = 0;
    for (uint32_t e = 1; e <= s->event_count && !s->has_jumped; e++) {
        bool is_its = s->events[e].letter == letter->position && s->events[e].feed >= SIM_INJECT;
        durable += is_its && s->events[e].position != 0 ? 1 : 0;
    }
    if (s->has_jumped || (letter->state == HR_DEAD_REPLAYED) == (durable == 1)) {
        return;
    }
    sim_break(s, "dead letter %llu is in state %u, of its replays %u are durable",
              (unsigned long long)letter->position, letter->state, durable);
    s->lost += durable == 0 ? 1 : 0;
}

/* Given up is only what waits where the function takes from no more. */
static void check_reason(sim *s, const hr_found *found) {
    const sim_function *f = &s->functions[sim_function_index(s, found->row.function)];
    uint32_t feed = sim_feed_index(s, found->row.feed);
    if (!hr_slice_is(found->row.reason, "removed")) {
        return;
    }
    s->totals->removed_letters++;
    if (((f->left | f->given) >> feed & 1) == 0) {
        sim_break(s, "feed %u, %llu was given up for function %u, which takes from it", feed,
                  (unsigned long long)found->origin_position, f->index);
    }
}

static bool read_dead(sim *s) {
    hr_read dead = {.kind = HR_READ_DEAD, .max = 1u << 20, .states = 7};
    bool is_read = read(s, &dead);
    s->rejects_dead = 0;
    for (size_t i = 0; is_read && i < dead.found_count; i++) {
        const hr_found *found = &dead.found[i];
        if (found->row.function == 0) {
            s->rejects_dead++;
            continue;
        }
        if (!sim_knows_feed(s, found->row.feed) || !sim_knows_function(s, found->row.function) ||
            found->origin_position >= 1u << 20) {
            sim_break(s, "a dead letter of nobody");
            continue;
        }
        if (s->has_replays) {
            check_letter(s, &found->row);
        }
        uint8_t bit = (uint8_t)(1u << sim_function_index(s, found->row.function));
        sim_slot *slot =
            sim_slot_at(&s->feeds[sim_feed_index(s, found->row.feed)], found->origin_position);
        slot->dead |= bit;
        slot->dropped |= hr_slice_is(found->row.reason, HR_DROPPED_BY_FUNCTION) ? bit : 0;
        check_reason(s, found);
        if (slot->event == 0) {
            sim_break(s, "a dead letter of nothing");
            continue;
        }
        s->events[slot->event].dead |= bit;
    }
    hr_read_fini(&dead);
    return is_read;
}

/* The counters against what was seen here: an event that is in neither of two counters leaves their
 * difference 0. The letters of dropped events are history, which goes when there is no room. */
static void check_own_count(sim *s, uint32_t f, const hr_counters *c) {
    uint64_t all = 0, filtered = 0, dropped = 0, dead = 0, handled = 0;
    for (uint32_t i = 0; i < SIM_FEEDS; i++) {
        bool takes = (s->functions[f].takes >> i & 1) != 0;
        for (uint64_t p = 1; takes && p < s->feeds[i].count; p++) {
            const sim_slot *slot = &s->feeds[i].slots[p];
            bool is_there = slot->event != 0;
            bool is_wanted = is_there && sim_wants(s, f, slot->event);
            bool is_dropped = (slot->dropped >> f & 1) != 0;
            bool is_dead = !is_dropped && (slot->dead >> f & 1) != 0;
            bool is_handled = (slot->handled >> f & 1) != 0;
            all += is_there ? 1 : 0;
            filtered += is_there && !is_wanted ? 1 : 0;
            dropped += is_dropped ? 1 : 0;
            dead += is_dead ? 1 : 0;
            handled += is_handled && !is_dead ? 1 : 0;
        }
    }
    s->totals->counted++;
    if (c->deliveries == all && c->filtered == filtered && c->dropped >= dropped &&
        c->dead + c->expired == dead && c->delivered + c->dropped == handled) {
        return;
    }
    s->totals->drift++;
    sim_break(s,
              "function %u counts %llu deliveries, %llu filtered, %llu dropped, %llu dead, %llu "
              "handled; there were %llu, %llu, %llu, %llu, %llu",
              f, (unsigned long long)c->deliveries, (unsigned long long)c->filtered,
              (unsigned long long)c->dropped, (unsigned long long)(c->dead + c->expired),
              (unsigned long long)(c->delivered + c->dropped), (unsigned long long)all,
              (unsigned long long)filtered, (unsigned long long)dropped, (unsigned long long)dead,
              (unsigned long long)handled);
}

/* Not where functions come and go, take what others handle too, or somebody ends their letters. */
static bool can_count(const sim *s, uint32_t f) {
    return !s->has_changes && !s->has_replays && (s->functions[f].takes & pull_bits) == 0;
}

static bool check_sums(sim *s, bool is_final) {
    hr_read totals = {.kind = HR_READ_TOTALS};
    bool is_read = read(s, &totals);
    for (size_t i = 0; is_read && i < totals.found_count; i++) {
        const hr_counters *c = &totals.found[i].counters;
        uint64_t pending = totals.found[i].pending;
        uint64_t ends = c->delivered + c->filtered + c->dropped + c->dead + c->expired;
        if (c->deliveries != ends + pending || (is_final && pending > 0)) {
            s->totals->drift++;
            sim_break(s, "function %u: deliveries %llu, ended %llu, pending %llu",
                      totals.found[i].row.function, (unsigned long long)c->deliveries,
                      (unsigned long long)ends, (unsigned long long)pending);
        } else if (is_final) {
            uint32_t f = sim_function_index(s, totals.found[i].row.function);
            if (can_count(s, f)) {
                check_own_count(s, f, c);
            }
        }
    }
    hr_read_fini(&totals);
    return is_read;
}

static void lose(sim *s, uint32_t event, const char *how, uint32_t function) {
    s->lost += s->events[event].is_lost ? 0 : 1;
    s->events[event].is_lost = true;
    sim_break(s, "e%u of feed %u %s function %u", event, s->events[event].feed, how, function);
}

/* What a function had not ended when it was removed, or took from the feed no more, is pending or
 * has an end: a dead letter `removed` too. */
static void check_left(sim *s, uint32_t feed, uint64_t position, uint32_t f, bool is_final) {
    const sim_slot *slot = &s->feeds[feed].slots[position];
    const sim_event *event = &s->events[slot->event];
    bool is_ended = ((slot->handled | slot->dead | event->other) >> f & 1) != 0;
    if (is_ended || (slot->owed >> f & 1) == 0) {
        return;
    }
    bool is_parked = (slot->parked >> f & 1) != 0;
    bool is_pending = s->cursors[f][feed].exists &&
                      !sim_is_passed(&s->cursors[f][feed], position) && slot->is_present;
    if (is_final || (!is_parked && !is_pending)) {
        lose(s, slot->event, "has no end for the former", f);
    }
}

/* Acknowledged is settled or pending: for each function that takes from it. */
static void check_feed(sim *s, uint32_t feed, bool is_final) {
    for (uint64_t p = 1; p < s->feeds[feed].count; p++) {
        const sim_slot *slot = &s->feeds[feed].slots[p];
        for (uint32_t f = 0; f < s->function_count && slot->event != 0; f++) {
            bool is_left = (s->functions[f].left >> feed & 1) != 0;
            bool is_its =
                (s->functions[f].takes >> feed & 1) != 0 && p >= sim_first(&s->functions[f], feed);
            if (is_left) {
                check_left(s, feed, p, f, is_final);
            }
            if (!is_its || !sim_wants(s, f, slot->event)) {
                continue;
            }
            const sim_event *event = &s->events[slot->event];
            bool is_parked = (slot->parked >> f & 1) != 0;
            bool is_passed = sim_is_passed(&s->cursors[f][feed], p);
            bool is_ended = ((slot->handled | slot->dead | event->other) >> f & 1) != 0;
            bool is_there = slot->is_present || sim_is_pull(feed);
            if (is_passed && !is_parked && !is_ended && !sim_is_pull(feed)) {
                lose(s, slot->event, "counts as settled and was not handled by", f);
            } else if (!is_passed && !is_there) {
                lose(s, slot->event, "is gone before it was settled for", f);
            } else if (is_final && (!is_passed || is_parked) && !sim_is_pull(feed)) {
                sim_break(s, "e%u is left for function %u at the end", slot->event, f);
            }
        }
    }
}

/* What no function takes, or took when it came, is settled at once, and settled history goes on a
 * full disk. */
static void check_acked(sim *s) {
    uint32_t taken = 0;
    for (uint32_t f = 0; f < s->function_count; f++) {
        taken |= s->functions[f].takes & ~s->functions[f].late;
    }
    for (uint32_t e = 1; e <= s->event_count; e++) {
        uint32_t feed = s->events[e].feed;
        if (!s->events[e].is_acked || feed >= SIM_PUSH || (taken >> feed & 1) == 0) {
            continue;
        }
        bool is_known = false;
        for (uint64_t p = 1; !is_known && p < s->feeds[feed].count; p++) {
            is_known = s->feeds[feed].slots[p].event == e;
        }
        if (!is_known) {
            lose(s, e, "was acknowledged and is in no journal for", 0);
        }
    }
}

/* The event of an instant and the instant are durable together or not at all. */
static void check_fires(sim *s, uint32_t feed) {
    const sim_push *p = &s->push[feed];
    uint32_t taken = 0;
    for (uint32_t f = 0; f < s->function_count; f++) {
        taken |= s->functions[f].takes & ~s->functions[f].late;
    }
    for (int64_t n = 1; n < SIM_FIRES && p->fires[n] != 0; n++) {
        const sim_event *event = &s->events[p->fires[n]];
        if (n <= p->last_fire && event->position == 0 && (taken >> feed & 1) != 0) {
            lose(s, p->fires[n], "counts as fired and is in no journal for", 0);
        } else if (n > p->last_fire && event->position != 0) {
            sim_break(s, "feed %u: instant %lld is in the journal, the last fire is %lld", feed,
                      (long long)n, (long long)p->last_fire);
        }
    }
}

void sim_check_start(sim *s, bool is_final) {
    bool can = true;
    for (uint32_t i = 0; can && i < SIM_FEEDS; i++) {
        if (s->feeds[i].id != 0 && !sim_is_pull(i)) {
            can = read_journal(s, i);
        }
    }
    if (!can || !read_dead(s) || !check_sums(s, is_final)) {
        return;
    }
    for (uint32_t i = 0; i < SIM_FEEDS; i++) {
        check_feed(s, i, is_final);
    }
    check_acked(s);
    for (uint32_t i = 0; i < SIM_PUSH; i++) {
        if (s->push[i].is_cron) {
            check_fires(s, i);
        }
    }
    if (s->rejects_dead < s->rejects_acked) {
        s->lost += s->rejects_acked - s->rejects_dead;
        sim_break(s, "malformed inputs: %llu acknowledged, %llu dead letters",
                  (unsigned long long)s->rejects_acked, (unsigned long long)s->rejects_dead);
    }
}

/* ---- the end: all is drained, the store was opened once more ---- */

/* Must every function that takes it have ended it? What was never acknowledged may be gone. A call
 * comes after the commit of its event: each result is owed whose cause ended well here. But not of
 * a partition that its maker takes from no more: an end that was not durable yet, and its result,
 * went with the daemon, and the event is at the broker for the others (seed 57645). */
static bool is_owed(const sim *s, const sim_event *event) {
    if (event->feed < SIM_PUSH + SIM_PULL) {
        return !event->is_reject && (event->is_acked || sim_is_pull(event->feed));
    }
    if (event->feed >= SIM_INJECT) {
        return event->position != 0;
    }
    const sim_event *cause = &s->events[event->cause];
    bool is_left = sim_is_pull(cause->feed) && event->position == 0 &&
                   (s->functions[event->maker].left >> cause->feed & 1) != 0;
    return !event->is_waived && !is_left && ((cause->dead | cause->other) >> event->maker & 1) == 0;
}

/* The store has forgotten what is configured no more. */
static void check_removed(sim *s) {
    for (uint32_t f = 0; f < s->function_count; f++) {
        for (uint32_t i = 0; i < SIM_FEEDS; i++) {
            bool is_left = (s->functions[f].left >> i & 1) != 0;
            if (is_left && !sim_is_pull(i) && s->cursors[f][i].exists) {
                sim_break(s, "the former function %u still holds feed %u", f, i);
            }
        }
    }
}

void sim_check_end(sim *s) {
    sim_check_start(s, true);
    check_removed(s);
    for (uint32_t e = 1; e <= s->event_count; e++) {
        const sim_event *event = &s->events[e];
        if (!is_owed(s, event)) {
            continue;
        }
        for (uint32_t f = 0; f < s->function_count; f++) {
            uint64_t first = sim_first(&s->functions[f], event->feed);
            bool is_due = (s->functions[f].takes >> event->feed & 1) != 0 && sim_wants(s, f, e) &&
                          (first == 1 || event->position >= first);
            if (is_due && ((event->handled | event->dead | event->other) >> f & 1) == 0) {
                lose(s, e, "never came to", f);
            }
        }
    }
    if (s->duplicates > s->allowed) {
        sim_break(s, "%llu duplicates, %llu allowed", (unsigned long long)s->duplicates,
                  (unsigned long long)s->allowed);
    }
}
