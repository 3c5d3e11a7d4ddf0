/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/dispatch_fixture.h"

#include "core/envelope.h"
#include "core/memory.h"

#include <stdio.h>
#include <string.h>

uint64_t fx_random(fixture *fx) {
    fx->random ^= fx->random << 13;
    fx->random ^= fx->random >> 7;
    fx->random ^= fx->random << 17;
    return fx->random;
}

fixture *fx_new(void) {
    fixture *fx = hr_alloc(sizeof *fx);
    fx->now_ms = 1000000;
    fx->random = 88172645463325252u;
    fx->max_bytes = 1u << 30;
    for (int i = 0; i < FX_FEEDS; i++) {
        fx->next[i] = 1;
    }
    return fx;
}

fixture *fx_one(void) {
    fixture *fx = fx_new();
    fx->functions[1] = (hr_function_policy){
        .name = "f",
        .id = 1,
        .lanes = 2,
        .batch_size = 4,
        .timeout_ms = 1000,
        .retry = {.attempts = 3, .min_ms = 10, .max_ms = 10, .max_age_ms = -1}};
    fx->takes[1] = FX_IN;
    return fx;
}

static uint64_t note(void *data, const hr_note *n) {
    fixture *fx = data;
    if (n->kind == HR_NOTE_CALLED) {
        fx->noted++;
    }
    fx->unanswered += n->kind == HR_NOTE_UNANSWERED ? 1 : 0;
    for (uint32_t i = 0; i < n->count; i++) {
        const hr_event_ref *event = &n->events[i];
        uint32_t feed = event->batch->feed;
        uint64_t position = event->batch->position[event->index];
        if (n->kind == HR_NOTE_CALLED) {
            fx->call_of[n->function][feed][position] = fx->noted;
            continue;
        }
        if (n->kind != HR_NOTE_DELIVERED || n->call != fx->call_of[n->function][feed][position]) {
            fx->broken = "the end of another call is told";
        }
        fx->done[n->function][feed][position] = true;
    }
    if (n->count == 0 && n->function > 0 &&
        (n->kind == HR_NOTE_DELIVERED || n->kind == HR_NOTE_DROPPED || n->kind == HR_NOTE_DEAD ||
         n->kind == HR_NOTE_EXPIRED)) {
        fx->done[n->function][n->feed][n->position] = true;
    }
    return fx->noted;
}

void fx_load_parked(fixture *fx, uint32_t feed) {
    for (uint64_t position = 0; position < FX_EVENTS; position++) { /* ascending, as the store */
        for (size_t i = 0; i < fx->parked_count; i++) {
            const hr_row *row = &fx->parked[i].row;
            if (row->position == position && (feed == 0 || row->feed == feed)) {
                hr_dispatch_load_parked(fx->d, row);
            }
        }
    }
}

void fx_start(fixture *fx) {
    hr_dispatch_options options = {.note = note,
                                   .note_data = fx,
                                   .dead_max = fx->dead_max,
                                   .dead_count = fx->dead_rows,
                                   .window_events = fx->window,
                                   .window_bytes = fx->window_bytes,
                                   .queue_bytes = fx->queue_bytes,
                                   .checkpoint_ns = (uint64_t)fx->checkpoint_ms * 1000000};
    fx->d = hr_dispatch_new(&options);
    for (uint32_t feed = 1; feed < FX_PULL; feed++) {
        hr_feed_policy policy = {.id = feed,
                                 .has_hops = feed == FX_RESULTS,
                                 .has_replays = true,
                                 .next = fx->next[feed],
                                 .max_bytes = feed == FX_IN && fx->max_offer > 0 ? fx->max_offer
                                                                                 : fx->max_bytes};
        if (feed == FX_IN && fx->dedupe) {
            policy.take_dedupe = hr_dedupe_new(1000, 60000);
        }
        hr_dispatch_add_feed(fx->d, &policy);
    }
    for (uint32_t f = 1; f < FX_FUNCTIONS; f++) {
        if (fx->takes[f] == 0) {
            continue;
        }
        hr_dispatch_add_function(fx->d, &fx->functions[f]);
        if (fx->takes[f] == FX_PULL) {
            continue;
        }
        fx_checkpoint *at = &fx->checkpoint[f][fx->takes[f]];
        if (fx->leaves == f) {
            hr_dispatch_take_no_more(fx->d, f, fx->takes[f], at->low,
                                     hr_slice_of(at->settled, at->settled_size), &at->counters);
            continue;
        }
        hr_dispatch_take(fx->d, f, fx->takes[f], at->exists ? at->low : 0, 1,
                         hr_slice_of(at->settled, at->settled_size), &at->counters);
    }
    fx_add_pull(fx, true);
    fx_load_parked(fx, 0);
    for (uint32_t f = 1; f < FX_FUNCTIONS; f++) {
        if (fx->takes[f] != 0) {
            hr_input room = {.kind = HR_IN_ROOM, .room = {.function = f, .slots = 3}};
            fx_step(fx, &room);
        }
    }
}

static void end(fixture *fx) {
    hr_input drain = {.kind = HR_IN_DRAIN};
    fx_step(fx, &drain);
    while (fx->unit_count > 0) {
        fx_unit(fx, HR_E_STOPPING);
    }
    hr_dispatch_free(fx->d);
    fx->d = NULL;
    fx->read_count = fx->call_count = 0;
    fx->is_owned = fx->is_revoking = false;
    fx->credit = 0;
    memset(fx->running, 0, sizeof fx->running);
}

void fx_restart(fixture *fx) {
    end(fx);
    fx_check_sums(fx);
    fx_start(fx);
}

void fx_free(fixture *take_fixture) {
    fixture *fx = take_fixture;
    end(fx);
    for (int feed = 0; feed < FX_FEEDS; feed++) {
        for (int i = 0; i < FX_EVENTS; i++) {
            hr_batch_unref(fx->journal[feed][i].one);
        }
    }
    for (size_t i = 0; i < fx->parked_count; i++) {
        hr_batch_unref(fx->parked[i].one);
    }
    hr_free(fx);
}

void fx_step(fixture *fx, hr_input *input) {
    input->now_ns = fx->now_ms * 1000000u;
    input->real_us = ((int64_t)fx->now_ms + fx->jump_ms) * 1000;
    input->chance = fx_random(fx);
    hr_dispatch_step(fx->d, input, &fx->out);
    fx->wake_ns = fx->out.wake_ns;
    for (size_t i = 0; i < fx->out.count; i++) {
        const hr_action *act = &fx->out.actions[i];
        switch (act->kind) {
        case HR_DO_COMMIT:
            HR_ASSERT(fx->unit_count < FX_LIST);
            fx->units[fx->unit_count++] = act->unit;
            break;
        case HR_DO_CALL:
            HR_ASSERT(fx->call_count < 64);
            fx->calls[fx->call_count++] = act->call;
            fx_check_call(fx, act->call, act->feed);
            break;
        case HR_DO_CANCEL:
            fx->cancels++;
            break;
        case HR_DO_DURABLE:
            fx->durable_ticket = act->ticket.last;
            break;
        case HR_DO_REFUSED:
            fx->refused++;
            fx->last_refused = act->ticket.last;
            fx->refused_why = act->ticket.why;
            break;
        case HR_DO_WANT:
            fx->want = act->events;
            fx->credit += act->feed == FX_PULL ? act->events : 0;
            break;
        case HR_DO_SETTLED:
            if (act->feed != FX_PULL || !fx->is_owned || act->low < fx->group) {
                fx->broken = "a position was told that cannot be";
            }
            fx->group = act->low;
            break;
        case HR_DO_REVOKED:
            fx->is_owned = fx->is_revoking = false;
            fx->revoked++;
            break;
        case HR_DO_READ: {
            HR_ASSERT(fx->read_count < 64 && act->read.position_count <= 256);
            fx_read *read = &fx->reads[fx->read_count++];
            *read = (fx_read){.function = act->function,
                              .feed = act->feed,
                              .max = act->read.max,
                              .parked = act->read.parked,
                              .from = act->read.from,
                              .count = act->read.position_count};
            for (size_t k = 0; k < read->count; k++) {
                read->positions[k] = act->read.positions[k];
            }
            break;
        }
        }
    }
}

void fx_pack(const fixture *fx, hr_builder *builder, uint64_t position, uint64_t id, uint64_t key) {
    char text[32], key_text[32];
    snprintf(text, sizeof text, "e%llu", (unsigned long long)id);
    snprintf(key_text, sizeof key_text, "k%llu", (unsigned long long)key);
    hr_fields fields = {.id_is_made = fx->makes_ids,
                        .id = hr_slice_text(text),
                        .source = hr_slice_text("/test"),
                        .type = hr_slice_text("t")};
    if (key != 0) {
        fields.partition_key = hr_slice_text(key_text);
    }
    hr_attribute more = {
        .name = hr_slice_text(fx->attribute), .type = HR_ATTRIBUTE_INTEGER, .number = fx->number};
    fields.extensions = &more;
    fields.extension_count = fx->attribute == NULL ? 0 : 1;
    HR_ASSERT(hr_builder_pack(builder, position, &fields, NULL) == HR_OK);
}

void fx_offer(fixture *fx, uint64_t ticket, uint64_t first_id, uint32_t count, uint32_t keys) {
    hr_builder builder = {0};
    for (uint32_t i = 0; i < count; i++) {
        fx_pack(fx, &builder, 0, first_id + i, keys == 0 ? 0 : (first_id + i) % keys);
    }
    hr_input input = {.kind = HR_IN_OFFER,
                      .offer = {.feed = FX_IN,
                                .ticket = ticket,
                                .take_batch = hr_builder_finish(&builder, FX_IN, 1)}};
    hr_builder_fini(&builder);
    fx_step(fx, &input);
}

void fx_wake(fixture *fx, uint64_t later_ms) {
    fx->now_ms += later_ms;
    hr_input input = {.kind = HR_IN_WAKE};
    fx_step(fx, &input);
}

void fx_answer(fixture *fx, size_t index, hr_code failure, const hr_exception *exceptions,
               size_t count, bool with_results) {
    hr_call *call = fx->calls[index];
    fx->calls[index] = fx->calls[--fx->call_count];
    uint16_t causes[HR_BATCH_MAX];
    hr_answer answer = {.call = call->id,
                        .failure = failure,
                        .why = hr_slice_text("why"),
                        .exceptions = exceptions,
                        .exception_count = count,
                        .causes = causes};
    hr_builder builder = {0};
    for (uint32_t i = 0; i < call->count; i++) {
        const hr_event_ref *ref = &call->events[i];
        uint64_t position = ref->batch->position[ref->index];
        fx->running[call->function][fx->takes[call->function]][position] = false;
        if (with_results) {
            causes[i] = (uint16_t)i;
            fx_pack(fx, &builder, 0, position, position % 3);
        }
    }
    answer.take_results = hr_builder_finish(&builder, FX_RESULTS, 1);
    hr_builder_fini(&builder);
    hr_input input = {.kind = HR_IN_ANSWER, .answer = &answer};
    fx_step(fx, &input);
}

static fx_parked *find_parked(fixture *fx, const hr_row *row) {
    for (size_t i = 0; i < fx->parked_count; i++) {
        hr_row *have = &fx->parked[i].row;
        if (have->function == row->function && have->feed == row->feed &&
            have->position == row->position) {
            return &fx->parked[i];
        }
    }
    return NULL;
}

void fx_ok(fixture *fx) {
    fx_answer(fx, 0, HR_OK, NULL, 0, false);
}

void fx_fail(fixture *fx, size_t call, uint32_t index, hr_outcome outcome) {
    hr_exception exception = {
        .index = (uint16_t)index, .outcome = (uint8_t)outcome, .after_ms = -1};
    fx_answer(fx, call, HR_OK, &exception, 1, false);
}

hr_batch *fx_alone(uint32_t feed, uint64_t position, hr_slice envelope) {
    hr_builder builder = {0};
    HR_ASSERT(hr_builder_add(&builder, position, envelope, NULL) == HR_OK);
    hr_batch *one = hr_builder_finish(&builder, feed, 1);
    hr_builder_fini(&builder);
    return one;
}

/* As the store does it: what is parked dies with the function. */
static void remove_function(fixture *fx, uint32_t function) {
    for (size_t i = 0; i < fx->parked_count;) {
        if (fx->parked[i].row.function == function) {
            hr_batch_unref(fx->parked[i].one);
            fx->parked[i] = fx->parked[--fx->parked_count];
            fx->dead_rows++;
        } else {
            i++;
        }
    }
    fx->removed[function] = true;
    for (uint32_t feed = 0; feed < FX_FEEDS; feed++) {
        fx->checkpoint[function][feed].exists = false;
    }
}

static void carry_out_row(fixture *fx, const hr_row *row) {
    fx_parked *p = find_parked(fx, row);
    if (row->kind == HR_ROW_PARK) {
        if (p == NULL) {
            HR_ASSERT(fx->parked_count < FX_LIST);
            p = &fx->parked[fx->parked_count++];
            p->one = fx_alone(row->feed, row->position, row->bytes);
        }
        p->row = *row;
        p->row.bytes = hr_batch_envelope(p->one, 0);
        p->row.text = p->row.event_id = (hr_slice){0};
    } else if (row->kind == HR_ROW_UNPARK && p != NULL) {
        hr_batch_unref(p->one);
        *p = fx->parked[--fx->parked_count];
    } else if (row->kind == HR_ROW_REMOVE) {
        remove_function(fx, row->function);
    } else if (row->kind == HR_ROW_DEAD) {
        fx->dead_rows += row->state == 0 ? 1 : 0;
        size_t size = row->reason.size < sizeof fx->reason - 1 ? row->reason.size : 0;
        memcpy(fx->reason, size == 0 ? "" : (const char *)row->reason.bytes, size);
        fx->reason[size] = '\0';
        fx->drop_rows += row->state == 0 ? 0 : 1;
    }
}

static void carry_out(fixture *fx, hr_unit *unit) {
    for (size_t i = 0; i < unit->row_count; i++) {
        carry_out_row(fx, &unit->rows[i]);
    }
    for (size_t i = 0; i < unit->append_count; i++) {
        hr_batch *batch = unit->appends[i];
        for (uint32_t k = 0; k < batch->count; k++) {
            uint64_t position = batch->position[k];
            HR_ASSERT(position < FX_EVENTS && position >= fx->next[batch->feed]);
            fx->journal[batch->feed][position] =
                (fx_event){.exists = true,
                           .one = fx_alone(batch->feed, position, hr_batch_envelope(batch, k))};
            fx->next[batch->feed] = position + 1;
        }
    }
    if (unit->has_checkpoint) {
        fx_checkpoint *at = &fx->checkpoint[unit->function][unit->feed];
        HR_ASSERT(unit->settled.size <= sizeof at->settled);
        at->exists = true;
        at->low = unit->low;
        at->settled_size = unit->settled.size;
        if (unit->settled.size > 0) {
            memcpy(at->settled, unit->settled.bytes, unit->settled.size);
        }
        at->counters = unit->counters;
    }
}

void fx_unit(fixture *fx, hr_code result) {
    hr_unit *unit = fx->units[0];
    memmove(fx->units, fx->units + 1, --fx->unit_count * sizeof *fx->units);
    if (result == HR_OK && unit->feed == FX_PULL && unit->epoch != fx->epoch) {
        result = HR_E_FENCED;
    }
    if (result == HR_OK) {
        carry_out(fx, unit);
    }
    hr_input input = {.kind = HR_IN_DURABLE, .durable = {.unit = unit, .result = result}};
    fx_step(fx, &input);
}

void fx_serve(fixture *fx) {
    fx_read read = fx->reads[0];
    memmove(fx->reads, fx->reads + 1, --fx->read_count * sizeof *fx->reads);
    hr_builder builder = {0};
    hr_input input = {.kind = HR_IN_READ,
                      .read = {.function = read.function,
                               .feed = read.feed,
                               .parked = read.parked,
                               .from = read.from,
                               .at_end = true}};
    for (size_t i = 0; i < read.count; i++) {
        hr_row wanted = {
            .function = read.function, .feed = read.feed, .position = read.positions[i]};
        fx_parked *p = find_parked(fx, &wanted);
        if (p != NULL && builder.count == 7) { /* as the bytes of a batch are bounded */
            input.read.at_end = false;
            break;
        }
        if (p != NULL) {
            hr_builder_add(&builder, wanted.position, hr_batch_envelope(p->one, 0), NULL);
        }
    }
    uint64_t corrupt[FX_EVENTS];
    for (uint64_t p = read.from; !read.parked && p < FX_EVENTS; p++) {
        fx_event *event = &fx->journal[read.feed][p];
        if (event->exists && event->corrupt) {
            corrupt[input.read.corrupt_count++] = p;
        } else if (event->exists) {
            if (builder.count == (read.max < 7 ? read.max : 7)) {
                input.read.at_end = false;
                break;
            }
            hr_builder_add(&builder, p, hr_batch_envelope(event->one, 0), NULL);
        }
    }
    input.read.corrupt = corrupt;
    input.read.take_batch = hr_builder_finish(&builder, read.feed, 1);
    hr_builder_fini(&builder);
    fx_step(fx, &input);
}

void fx_read_fails(fixture *fx) {
    fx_read read = fx->reads[0];
    memmove(fx->reads, fx->reads + 1, --fx->read_count * sizeof *fx->reads);
    hr_input input = {.kind = HR_IN_READ,
                      .read = {.function = read.function,
                               .feed = read.feed,
                               .parked = read.parked,
                               .from = read.from,
                               .result = HR_E_STORE_CORRUPT}};
    fx_step(fx, &input);
}

void fx_settle_store(fixture *fx) {
    while (fx->unit_count > 0 || fx->read_count > 0) {
        if (fx->unit_count > 0) {
            fx_unit(fx, HR_OK);
        } else {
            fx_serve(fx);
        }
    }
}
