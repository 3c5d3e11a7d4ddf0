/* SPDX-License-Identifier: Apache-2.0 */
/* What is around the daemon: sources that send again what was not acknowledged, functions that fail
 * in every way, a broker with partitions that come and go. */
#include "core/envelope.h"
#include "core/memory.h"
#include "tests/sim/headrace_sim.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- events ---- */

uint32_t sim_event_add(sim *s, uint32_t feed, uint32_t key) {
    if (s->event_count + 1 >= s->event_capacity) {
        s->event_capacity = s->event_capacity == 0 ? 512 : s->event_capacity * 2;
        s->events = hr_realloc(s->events, s->event_capacity * sizeof *s->events);
        s->events[0] = (sim_event){0};
    }
    s->events[++s->event_count] = (sim_event){.feed = feed, .key = key};
    return s->event_count;
}

/* What an event carries: a pattern that begins elsewhere for each. */
static hr_slice data_of(uint32_t event) {
    static uint8_t pattern[6000 + 26];
    for (uint32_t i = 0; pattern[0] == 0 && i < sizeof pattern; i++) {
        pattern[sizeof pattern - 1 - i] = (uint8_t)('a' + i * 3 % 26);
    }
    return hr_slice_of(pattern + event * 7 % 26, event % 16 == 0 ? 6000 : 20 + event * 37 % 400);
}

void sim_pack(const sim *s, uint32_t event, uint64_t position, hr_builder *builder) {
    char id[16], key[16];
    snprintf(id, sizeof id, "e%u", event);
    snprintf(key, sizeof key, "k%u", s->events[event].key);
    hr_fields fields = {.id = hr_slice_text(id),
                        .source = hr_slice_text("/sim"),
                        .type = hr_slice_text("sim.event"),
                        .data = data_of(event),
                        .has_data = true};
    if (s->events[event].key != 0) {
        fields.partition_key = hr_slice_text(key);
    }
    HR_ASSERT(hr_builder_pack(builder, position, &fields, NULL) == HR_OK);
}

uint32_t sim_event_of(const sim *s, const hr_batch *batch, uint32_t index) {
    char id[16] = {0};
    hr_slice text = hr_batch_id(batch, index);
    if (text.size < 2 || text.size >= sizeof id || text.bytes[0] != 'e') {
        return 0;
    }
    memcpy(id, text.bytes + 1, text.size - 1);
    uint32_t event = (uint32_t)strtoul(id, NULL, 10);
    if (event == 0 || event > s->event_count) {
        return 0;
    }
    return hr_slice_equal(data_of(event), hr_batch_data(batch, index)) ? event : 0;
}

static uint32_t mix(uint32_t function, uint32_t event) {
    uint32_t x = (event + 1) * 2654435761u ^ (function + 1) * 2246822519u;
    return (x ^ x >> 15) * 2246822519u >> 8;
}

hr_outcome sim_nature(uint32_t function, uint32_t event) {
    uint32_t dice = mix(function, event) % 16;
    return dice == 0 ? HR_OUTCOME_DROP : dice == 1 ? HR_OUTCOME_DEAD : HR_OUTCOME_OK;
}

bool sim_makes_result(const sim *s, uint32_t function, uint32_t event) {
    return s->functions[function].has_takers && mix(function, event) / 16 % 2 == 0 &&
           sim_nature(function, event) == HR_OUTCOME_OK;
}

bool sim_wants(const sim *s, uint32_t function, uint32_t event) {
    uint32_t keep = s->functions[function].keep;
    return keep == 0 || event % keep != 0;
}

static void match(hr_matcher *self, const hr_batch *batch, uint64_t *out_bits) {
    const sim_function *f = (const sim_function *)self;
    memset(out_bits, 0, HR_BATCH_MAX / 8);
    for (uint32_t i = 0; i < batch->count; i++) {
        char id[16] = {0};
        hr_slice text = hr_batch_id(batch, i);
        memcpy(id, text.bytes + 1, text.size - 1 < sizeof id - 1 ? text.size - 1 : sizeof id - 1);
        if (strtoul(id, NULL, 10) % f->keep != 0) {
            out_bits[i / 64] |= (uint64_t)1 << (i % 64);
        }
    }
}

/* ---- the world of a seed ---- */

static void make_function(sim *s, uint32_t index) {
    static const char *const names[SIM_FUNCTIONS] = {"one", "two", "three", "four"};
    sim_function *f = &s->functions[index];
    f->exists = true;
    f->index = index;
    f->matcher.match = match;
    f->keep = sim_chance(s, 2) == 0 ? 0 : 2 + (uint32_t)sim_chance(s, 3);
    f->policy = (hr_function_policy){
        .name = names[index],
        .lanes = 1 + (uint32_t)sim_chance(s, 4),
        .order = (hr_order)(sim_chance(s, 2) == 0 ? HR_ORDER_KEY : sim_chance(s, 3)),
        .batch_size = 1 + (uint32_t)sim_chance(s, 8),
        .batch_window_ms = sim_chance(s, 4) == 0 ? 20 : 0,
        .timeout_ms = 1000,
        .retry = {.attempts = (uint32_t)sim_chance(s, 6),
                  .min_ms = 10,
                  .max_ms = 1000,
                  .max_age_ms = sim_chance(s, 4) == 0 ? 5000 : -1},
        .parked_max_bytes = sim_chance(s, 8) == 0 ? 4096 : 1u << 30,
        .max_hops = 16};
    for (uint32_t i = 0; i < SIM_PUSH; i++) {
        f->takes |= s->push[i].exists && sim_chance(s, 3) > 0 ? 1u << i : 0;
    }
    for (uint32_t i = 0; i < SIM_PULL; i++) {
        f->takes |= s->pull[i].exists && sim_chance(s, 3) > 0 ? 1u << (SIM_PUSH + i) : 0;
    }
    if (index > 0 && sim_chance(s, 2) == 0) {
        uint32_t from = (uint32_t)sim_chance(s, index);
        f->takes |= 1u << (SIM_PUSH + SIM_PULL + from);
        s->functions[from].has_takers = true;
    }
    f->takes |= s->has_replays ? 1u << (SIM_INJECT + index) : 0;
    if ((f->takes & ((1u << SIM_INJECT) - 1)) == 0 || index == 0) {
        f->takes |= 1; /* the first trigger */
    }
}

void sim_world(sim *s) {
    uint64_t pushes = 1 + sim_chance(s, SIM_PUSH), pulls = sim_chance(s, SIM_PULL + 1);
    uint64_t functions = 1 + sim_chance(s, SIM_FUNCTIONS);
    for (uint32_t i = 0; i < pushes; i++) {
        s->push[i] = (sim_push){.exists = true,
                                .dedupes = sim_chance(s, 2) == 0,
                                .max_bytes = sim_chance(s, 4) == 0 ? 32 << 10 : 1u << 30};
        s->push[i].is_cron = i > 0 && sim_chance(s, 3) == 0;
        s->push[i].dedupes = s->push[i].dedupes && !s->push[i].is_cron;
    }
    for (uint32_t i = 0; i < pulls; i++) {
        s->pull[i].exists = true;
        sim_slot_at(&s->feeds[SIM_PUSH + i], 0); /* positions begin at 1 */
    }
    s->has_replays = sim_chance(s, 3) == 0;
    for (uint32_t i = 0; i < functions; i++) {
        make_function(s, i);
    }
    uint32_t taken = 0;
    for (uint32_t i = 0; i < functions; i++) {
        taken |= s->functions[i].takes;
        sim_say(s, "function", i, s->functions[i].takes, s->functions[i].keep,
                (uint64_t)s->functions[i].policy.order);
    }
    for (uint32_t i = 0; i < pulls; i++) { /* no function, no group */
        s->pull[i].exists = (taken >> (SIM_PUSH + i) & 1) != 0;
    }
    s->window = sim_chance(s, 2) == 0 ? 0 : 8;
    s->checkpoint_ns = sim_chance(s, 2) == 0 ? 0 : 10000000;
    s->journal_max_bytes = sim_chance(s, 4) == 0 ? 8 << 10 : UINT64_MAX;
    s->journal_keep_ms = sim_chance(s, 8) == 0 ? 1000 : -1;
    s->wal_max_bytes = (sim_chance(s, 4) == 0 ? 8 : 64) * (uint64_t)s->page_bytes;
    s->now_ns = 1000000000;
    s->real_us = INT64_C(1767225600000000);
    s->ballast_bytes = sim_chance(s, 16) == 0 ? 64 << 10 : 0;
}

/* ---- push sources ---- */

static sim_push *any_push(sim *s, uint32_t *out_index) {
    do {
        *out_index = (uint32_t)sim_chance(s, SIM_PUSH);
    } while (!s->push[*out_index].exists);
    return &s->push[*out_index];
}

static void send(sim *s, uint32_t index, sim_offer *offer) {
    sim_push *p = &s->push[index];
    offer->ticket = ++p->ticket;
    offer->is_out = true;
    uint32_t feed = s->feeds[index].id;
    sim_say(s, "offer", feed, offer->first, offer->count, offer->ticket);
    if (offer->is_reject) {
        hr_input bad = {.kind = HR_IN_REJECT,
                        .reject = {.feed = feed,
                                   .ticket = offer->ticket,
                                   .raw = hr_slice_text("not an event"),
                                   .why = hr_slice_text("malformed")}};
        sim_step(s, &bad);
        return;
    }
    hr_builder builder = {0};
    for (uint32_t i = 0; i < offer->count; i++) {
        sim_pack(s, offer->first + i, 0, &builder);
    }
    hr_row fire = {.kind = HR_ROW_FIRE, .feed = feed, .due_ms = offer->instant};
    hr_input input = {.kind = HR_IN_OFFER,
                      .offer = {.feed = feed,
                                .ticket = offer->ticket,
                                .rows = &fire,
                                .row_count = p->is_cron ? 1 : 0,
                                .take_batch = hr_builder_finish(&builder, feed, s->real_us)}};
    hr_builder_fini(&builder);
    sim_step(s, &input);
}

/* The next instant of a cron, one at a time; an instant that was never durable comes again. */
static void fire(sim *s, uint32_t index) {
    sim_push *p = &s->push[index];
    if (p->count > 0 || p->next_fire >= SIM_FIRES) {
        return;
    }
    uint32_t *event = &p->fires[p->next_fire];
    *event = *event == 0 ? sim_event_add(s, index, 0) : *event;
    s->totals->fires++;
    sim_offer *offer = &p->offers[p->count++];
    *offer = (sim_offer){.first = *event, .count = 1, .instant = p->next_fire++};
    send(s, index, offer);
}

void sim_offer_new(sim *s) {
    uint32_t index = 0;
    sim_push *p = any_push(s, &index);
    if (p->is_cron) {
        fire(s, index);
        return;
    }
    if (p->count == SIM_OFFERS || (p->is_stopped && sim_chance(s, 4) > 0)) {
        return;
    }
    sim_offer *offer = &p->offers[p->count++];
    *offer = (sim_offer){.count = 1 + (uint32_t)sim_chance(s, 6)};
    offer->is_reject = sim_chance(s, 40) == 0;
    for (uint32_t i = 0; i < offer->count; i++) {
        uint32_t event = sim_event_add(s, index, (uint32_t)sim_chance(s, 5));
        s->events[event].is_reject = offer->is_reject;
        offer->first = i == 0 ? event : offer->first;
    }
    send(s, index, offer);
}

void sim_offer_again(sim *s) {
    uint32_t index = 0;
    sim_push *p = any_push(s, &index);
    bool waits = s->is_calm && p->is_stopped; /* it must be told to go on */
    for (uint32_t i = 0; i < p->count && !waits; i++) {
        if (!p->offers[i].is_out) {
            send(s, index, &p->offers[i]);
            return;
        }
    }
}

void sim_sources_restart(sim *s) {
    for (uint32_t i = 0; i < SIM_PUSH; i++) {
        sim_push *p = &s->push[i];
        p->ticket = 0;
        p->is_stopped = false;
        p->next_fire = p->last_fire + 1;
        p->count = p->is_cron ? 0 : p->count;
        for (uint32_t k = 0; k < p->count; k++) {
            p->offers[k].is_out = false;
        }
    }
    for (uint32_t i = 0; i < SIM_PULL; i++) {
        s->pull[i].is_owned = s->pull[i].is_revoking = false;
        s->pull[i].credit = 0;
    }
}

static void acknowledge(sim *s, sim_push *p, uint64_t up_to) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        sim_offer *offer = &p->offers[i];
        if (!offer->is_out || offer->ticket > up_to) {
            p->offers[kept++] = *offer;
            continue;
        }
        s->acks++;
        s->rejects_acked += offer->is_reject ? 1 : 0;
        for (uint32_t k = 0; k < offer->count && !offer->is_reject; k++) {
            s->acked += s->events[offer->first + k].is_acked ? 0 : 1;
            s->events[offer->first + k].is_acked = true;
        }
        if (!offer->is_reject && !p->is_cron && !s->is_calm && sim_chance(s, 16) == 0) {
            p->offers[kept] = *offer; /* the answer is lost on its way: it sends again */
            p->offers[kept++].is_out = false;
        }
    }
    p->count = kept;
}

static void refuse(sim_push *p, uint64_t first, uint64_t last) {
    for (uint32_t i = 0; i < p->count; i++) {
        sim_offer *offer = &p->offers[i];
        if (offer->ticket >= first && offer->ticket <= last) {
            offer->is_out = false;
        }
    }
}

static void settled(sim *s, uint32_t feed, uint64_t low) {
    sim_pull *p = &s->pull[feed - SIM_PUSH];
    if (!p->is_owned || low < p->group || low > s->feeds[feed].count) {
        sim_break(s, "position %llu was told that cannot be", (unsigned long long)low);
        return;
    }
    if (!s->is_calm && !p->is_revoking && sim_chance(s, 8) == 0) {
        return; /* the commit does not reach the broker */
    }
    for (uint64_t i = p->group; i < low; i++) {
        s->events[s->feeds[feed].slots[i].event].is_acked = true;
        s->acked++;
        s->acks++;
    }
    p->group = low;
}

void sim_source_told(sim *s, const hr_action *act) {
    uint32_t feed = sim_feed_index(s, act->feed);
    if (feed >= SIM_PUSH + SIM_PULL) {
        return; /* a feed of results */
    }
    sim_say(s, "told", (uint64_t)act->kind, feed, act->ticket.first, act->ticket.last);
    if (feed < SIM_PUSH) {
        sim_push *p = &s->push[feed];
        if (act->kind == HR_DO_DURABLE) {
            acknowledge(s, p, act->ticket.last);
        } else if (act->kind == HR_DO_REFUSED) {
            refuse(p, act->ticket.first, act->ticket.last);
        } else if (act->kind == HR_DO_WANT) {
            p->is_stopped = act->events == 0;
        }
        return;
    }
    sim_pull *p = &s->pull[feed - SIM_PUSH];
    if (act->kind == HR_DO_WANT) {
        p->credit += act->events;
    } else if (act->kind == HR_DO_SETTLED) {
        settled(s, feed, act->low);
    } else if (act->kind == HR_DO_REVOKED) {
        p->is_owned = p->is_revoking = false;
    }
}

/* ---- dead letters ---- */

static bool is_ending(sim *s, uint64_t letter) {
    uint32_t i = 0;
    while (i < s->ending_count && s->ending[i] != letter) {
        i++;
    }
    return i < s->ending_count;
}

/* As hr_engine_replay() and hr_engine_drop(): the letter ends in the unit that appends its event.
 */
static void end_letter(sim *s, const hr_found *found) {
    const hr_row *letter = &found->row;
    uint32_t f = sim_function_index(s, letter->function), feed = SIM_INJECT + f;
    sim_slot *slot =
        sim_slot_at(&s->feeds[sim_feed_index(s, letter->feed)], found->origin_position);
    /* it was durable, though it goes a week after its end, and the clock may jump a year */
    slot->dead |= (uint8_t)(1u << f);
    s->events[slot->event].dead |= (uint8_t)(1u << f);
    bool is_drop = sim_chance(s, 3) == 0;
    s->ending[s->ending_count++] = letter->position;
    s->totals->replays++;
    hr_row end = {.kind = HR_ROW_DEAD_END,
                  .position = letter->position,
                  .state = is_drop ? HR_DEAD_DROPPED : HR_DEAD_REPLAYED,
                  .at_ms = s->real_us / 1000};
    hr_builder builder = {0};
    if (!is_drop) {
        uint32_t event = sim_event_add(s, feed, (uint32_t)sim_chance(s, 5));
        s->events[event].letter = letter->position;
        sim_pack(s, event, 0, &builder);
    }
    hr_input input = {
        .kind = HR_IN_OFFER,
        .offer = {.feed = s->feeds[feed].id,
                  .take_batch = hr_builder_finish(&builder, s->feeds[feed].id, s->real_us),
                  .rows = &end,
                  .row_count = 1}};
    hr_builder_fini(&builder);
    sim_say(s, is_drop ? "drop" : "replay", feed, letter->position, 0, 0);
    hr_dispatch_dead_ended(s->dispatch, 1);
    sim_step(s, &input);
}

static void read_ended(hr_read *read) {
    *(bool *)read->data = true;
}

void sim_replay(sim *s) {
    bool is_done = false;
    hr_read dead = {.kind = HR_READ_DEAD, .max = 16, .done = read_ended, .data = &is_done};
    if (!s->has_replays || s->ending_count == SIM_REPLAYS) {
        return;
    }
    hr_store_read(s->store, &dead);
    for (int i = 0; i < 1000 && !is_done; i++) {
        sim_turn(s);
    }
    HR_ASSERT(is_done);
    for (size_t i = 0; dead.result == HR_OK && !s->is_over && i < dead.found_count; i++) {
        const hr_row *row = &dead.found[i].row;
        if (row->function != 0 && !is_ending(s, row->position)) {
            end_letter(s, &dead.found[i]);
            break;
        }
    }
    hr_read_fini(&dead);
}

/* ---- the broker ---- */

void sim_produce(sim *s, uint32_t pull, uint32_t count) {
    sim_feed *feed = &s->feeds[SIM_PUSH + pull];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t event = sim_event_add(s, SIM_PUSH + pull, (uint32_t)sim_chance(s, 5));
        sim_slot_at(feed, feed->count)->event = event;
    }
}

void sim_deliver(sim *s, uint32_t pull, uint32_t max) {
    sim_pull *p = &s->pull[pull];
    const sim_feed *feed = &s->feeds[SIM_PUSH + pull];
    hr_builder builder = {0};
    for (uint32_t i = 0; i < max && p->is_owned && p->credit > 0 && p->sent < feed->count; i++) {
        sim_pack(s, feed->slots[p->sent].event, p->sent, &builder);
        p->sent++;
        p->credit--;
    }
    hr_batch *batch = hr_builder_finish(&builder, feed->id, s->real_us);
    hr_builder_fini(&builder);
    if (batch == NULL) {
        return;
    }
    batch->feed = feed->id;
    if (s->mutant == SIM_SETTLES_EARLY && p->sent > p->group) {
        settled(s, SIM_PUSH + pull, p->sent);
    }
    hr_input input = {.kind = HR_IN_DELIVER, .deliver = {.take_batch = batch}};
    sim_step(s, &input);
}

/* Somebody else has the partition for a while and goes on from the group's offset. */
static void other_owner(sim *s, uint32_t pull) {
    sim_pull *p = &s->pull[pull];
    sim_feed *feed = &s->feeds[SIM_PUSH + pull];
    uint64_t from = p->group == 0 ? 1 : p->group;
    uint64_t to = from + sim_chance(s, feed->count - from + 1);
    for (uint64_t i = from; i < to; i++) {
        s->events[feed->slots[i].event].other = UINT8_MAX;
        feed->slots[i].done = UINT8_MAX;
    }
    sim_say(s, "other owner", pull, from, to, 0);
    p->group = to > p->group ? to : p->group;
}

void sim_rebalance(sim *s, uint32_t pull) {
    sim_pull *p = &s->pull[pull];
    uint32_t id = s->feeds[SIM_PUSH + pull].id;
    if (!p->is_owned) {
        if (!s->is_calm && sim_chance(s, 2) == 0) {
            other_owner(s, pull);
        } else {
            sim_allow(s, SIM_PUSH + pull);
            sim_assign(s, pull);
        }
        return;
    }
    sim_allow(s, SIM_PUSH + pull);
    hr_input input = {.kind = p->is_revoking ? HR_IN_FORGET : HR_IN_REVOKE, .revoke = {.feed = id}};
    p->is_revoking = true;
    sim_step(s, &input);
}

/* ---- functions ---- */

typedef struct sim_reply {
    hr_exception exceptions[HR_BATCH_MAX];
    uint16_t causes[HR_BATCH_MAX];
    size_t exception_count, result_count;
    hr_builder results;
} sim_reply;

static sim_slot *slot_of(sim *s, const hr_event_ref *ref) {
    return sim_slot_at(&s->feeds[sim_feed_index(s, ref->batch->feed)],
                       ref->batch->position[ref->index]);
}

static void add_result(sim *s, uint32_t f, uint32_t event, uint32_t index, sim_reply *reply) {
    uint32_t result = s->events[event].result[f];
    if (result == 0) {
        result = sim_event_add(s, SIM_PUSH + SIM_PULL + f, s->events[event].key);
        s->events[event].result[f] = result;
        s->events[result].cause = event;
    }
    reply->causes[reply->result_count++] = (uint16_t)index;
    sim_pack(s, result, 0, &reply->results);
}

static void reply_to(sim *s, uint32_t f, const hr_call *call, sim_reply *reply) {
    uint32_t fails = s->is_calm ? 0 : (uint32_t)sim_chance(s, 4); /* of 8 */
    for (uint32_t i = 0; i < call->count; i++) {
        const hr_event_ref *ref = &call->events[i];
        uint32_t event = sim_event_of(s, ref->batch, ref->index);
        hr_outcome outcome = event == 0 ? HR_OUTCOME_OK : sim_nature(f, event);
        int64_t after_ms = -1;
        if (sim_chance(s, 8) < fails) {
            outcome = sim_chance(s, 4) == 0 ? HR_OUTCOME_NOT_RUN : HR_OUTCOME_RETRY;
            after_ms = sim_chance(s, 3) == 0 ? 20 : -1;
        }
        if (outcome == HR_OUTCOME_OK || outcome == HR_OUTCOME_DROP) {
            s->events[event].handled |= (uint8_t)(1u << f);
            slot_of(s, ref)->handled |= (uint8_t)(1u << f);
            slot_of(s, ref)->repeats |= (uint8_t)(1u << f);
            s->allowed += reply->exception_count > 0 ? 1 : 0; /* thrown away behind its key (S9) */
        }
        if (outcome != HR_OUTCOME_OK) {
            reply->exceptions[reply->exception_count++] =
                (hr_exception){.index = (uint16_t)i,
                               .outcome = (uint8_t)outcome,
                               .after_ms = after_ms,
                               .why = hr_slice_text("it did not work")};
        } else if (event != 0 && sim_makes_result(s, f, event)) {
            add_result(s, f, event, i, reply);
        }
    }
}

static void stale_answer(sim *s) {
    hr_answer answer = {.call = s->stale[sim_chance(s, 4)]};
    hr_input input = {.kind = HR_IN_ANSWER, .answer = &answer};
    for (uint32_t i = 0; i < s->call_count; i++) {
        if (s->calls[i].call->id == answer.call) {
            return; /* a number of an earlier life */
        }
    }
    sim_step(s, &input);
}

void sim_answer(sim *s, uint32_t index) {
    static const hr_code failures[] = {HR_E_CALL_CRASHED, HR_E_CALL_TIMEOUT, HR_E_CALL_UNSTARTED,
                                       HR_E_CALL_GARBAGE};
    sim_call call = s->calls[index];
    s->calls[index] = s->calls[--s->call_count];
    uint32_t f = sim_function_index(s, call.call->function);
    hr_answer answer = {.call = call.call->id, .why = hr_slice_text("it broke")};
    static sim_reply held; /* large */
    sim_reply *reply = &held;
    reply->exception_count = reply->result_count = 0;
    if (call.is_cancelled) {
        answer.failure = HR_E_CALL_TIMEOUT;
    } else if (!s->is_calm && sim_chance(s, 8) == 0) {
        answer.failure = failures[sim_chance(s, 4)];
    } else {
        reply_to(s, f, call.call, reply);
    }
    for (uint32_t i = 0; i < call.call->count; i++) {
        slot_of(s, &call.call->events[i])->running &= (uint8_t) ~(1u << f);
    }
    answer.exceptions = reply->exceptions;
    answer.exception_count = reply->exception_count;
    answer.causes = reply->causes;
    uint32_t results = s->feeds[SIM_PUSH + SIM_PULL + f].id;
    answer.take_results = hr_builder_finish(&reply->results, results, s->real_us);
    hr_builder_fini(&reply->results);
    sim_say(s, "answer", answer.call, (uint64_t)answer.failure, reply->exception_count,
            reply->result_count);
    s->stale[sim_chance(s, 4)] = answer.call;
    hr_input input = {.kind = HR_IN_ANSWER, .answer = &answer};
    sim_step(s, &input);
    if (!s->is_over && !s->is_calm && sim_chance(s, 16) == 0) {
        stale_answer(s);
    }
}
