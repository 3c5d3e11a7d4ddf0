/* SPDX-License-Identifier: Apache-2.0 */
/* Sources that send again what was not acknowledged, and a person with dead letters. */
#include "core/memory.h"
#include "tests/sim/headrace_sim.h"

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
        sim_settled(s, feed, act->low);
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
    uint32_t f = sim_function_index(s, letter->function),
             feed = SIM_INJECT + s->functions[f].name_index;
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
        bool can =
            row->function != 0 && s->functions[sim_function_index(s, row->function)].is_configured;
        if (can && !is_ending(s, row->position)) {
            end_letter(s, &dead.found[i]);
            break;
        }
    }
    hr_read_fini(&dead);
}
