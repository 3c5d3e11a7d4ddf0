/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold in every history: order of keys, sums, no call of what is durably settled. */
#include "tests/unit/broker/dispatch_fixture.h"

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

/* Does the durable checkpoint have it behind it? */
static bool is_passed(const fixture *fx, uint32_t function, uint32_t feed, uint64_t position) {
    const fx_checkpoint *c = &fx->checkpoint[function][feed];
    const uint8_t *at = c->settled, *end = c->settled + c->settled_size;
    uint64_t from = c->low;
    bool is_in = c->exists && position < c->low;
    while (c->exists && at < end) {
        from += varint(&at);
        uint64_t to = from + varint(&at);
        is_in = is_in || (position >= from && position < to);
        from = to;
    }
    return is_in;
}

static bool is_parked(const fixture *fx, uint32_t function, uint32_t feed, uint64_t position) {
    for (size_t i = 0; i < fx->parked_count; i++) {
        const hr_row *row = &fx->parked[i].row;
        if (row->function == function && row->feed == feed && row->position == position) {
            return true;
        }
    }
    return false;
}

bool fx_is_settled(const fixture *fx, uint32_t function, uint32_t feed, uint64_t position) {
    return is_passed(fx, function, feed, position) && !is_parked(fx, function, feed, position);
}

/* S15: in the durable state all deliveries are ended, parked or open, each once. */
void fx_check_sums(fixture *fx) {
    for (uint32_t f = 1; f < FX_FUNCTIONS; f++) {
        uint32_t feed = fx->takes[f];
        const fx_checkpoint *at = &fx->checkpoint[f][feed];
        if (feed == 0 || !at->exists) {
            continue;
        }
        uint64_t open = 0, parked = 0, all = 0;
        for (uint64_t p = 1; p < fx->next[feed]; p++) {
            all += fx->journal[feed][p].exists ? 1 : 0;
            open += fx->journal[feed][p].exists && !is_passed(fx, f, feed, p) ? 1 : 0;
        }
        for (size_t i = 0; i < fx->parked_count; i++) {
            parked += fx->parked[i].row.function == f ? 1 : 0;
        }
        const hr_counters *c = &at->counters;
        uint64_t ends = c->delivered + c->filtered + c->dropped + c->dead + c->expired;
        if (feed == FX_PULL ? c->deliveries != ends + parked : all != ends + parked + open) {
            fx->broken = "the durable sums do not add up";
        }
    }
}

void fx_check_call(fixture *fx, const hr_call *call, uint32_t feed) {
    for (uint32_t i = 0; i < call->count; i++) {
        const hr_event_ref *ref = &call->events[i];
        uint64_t position = ref->batch->position[ref->index];
        if (fx->running[call->function][feed][position]) {
            fx->broken = "one event is called twice at once";
        }
        fx->running[call->function][feed][position] = true;
        uint64_t key = ref->batch->view[ref->index].key_hash;
        hr_order order = fx->functions[call->function].order;
        for (uint64_t p = 1; order != HR_ORDER_NONE && p < position; p++) {
            const fx_event *before = &fx->journal[feed][p];
            bool same =
                before->exists && !before->corrupt &&
                (order == HR_ORDER_FEED || (key != 0 && before->one->view[0].key_hash == key));
            if (same && !fx->done[call->function][feed][p] &&
                !fx->running[call->function][feed][p]) {
                fx->broken = "called before an earlier one of its key was done";
            }
        }
        if (fx_is_settled(fx, call->function, feed, position)) {
            fx->broken = "called again though its end was durable";
        }
        fx->called[call->function][feed][position] = true;
    }
}
