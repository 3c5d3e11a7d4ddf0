/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that answer in every way. */
#include "tests/sim/headrace_sim.h"

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
        result = sim_event_add(s, SIM_RESULTS + s->functions[f].name_index, s->events[event].key);
        s->events[event].result[f] = result;
        s->events[result].cause = event;
        s->events[result].maker = f;
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
        } else if (event != 0 && s->events[event].result[f] != 0) {
            s->events[s->events[event].result[f]].is_waived = true;
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
    uint32_t results = s->feeds[SIM_RESULTS + s->functions[f].name_index].id;
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
