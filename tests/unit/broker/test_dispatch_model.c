/* SPDX-License-Identifier: Apache-2.0 */
/* Random histories of a dispatcher with full disks, crashes, restarts and a partition that
 * comes and goes; each must end with every
 * event of every function settled once in the counters, in order, and nothing left. */
#include "tests/unit/broker/dispatch_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void set_up(fixture *fx, uint64_t seed) {
    fx->checkpoint_ms = seed % 3 == 0 ? 10 : 0;
    fx->seed = seed;
    fx->random ^= seed * 0x9E3779B97F4A7C15u;
    hr_retry retry = {.attempts = 3, .min_ms = 10, .max_ms = 100, .max_age_ms = -1};
    hr_function_policy base = {.lanes = 3, .batch_size = 4, .timeout_ms = 1000, .retry = retry};
    for (uint32_t i = 1; i < FX_FUNCTIONS; i++) {
        fx->functions[i] = base;
        fx->functions[i].id = i;
        fx->functions[i].name = "f";
    }
    fx->functions[1].result_feed = FX_RESULTS;
    fx->functions[2].order = HR_ORDER_NONE;
    fx->functions[2].batch_size = (uint32_t)(1 + fx_random(fx) % 8);
    fx->functions[3].order = fx_random(fx) % 2 == 0 ? HR_ORDER_FEED : HR_ORDER_KEY;
    fx->takes[1] = fx->takes[2] = FX_IN;
    fx->takes[3] = FX_RESULTS;
    fx->takes[4] = fx->takes[5] = FX_PULL;
    fx->functions[5].order = (hr_order)(fx_random(fx) % 3);
    fx->window = fx_random(fx) % 2 == 0 ? 0 : 8;
    fx->window_bytes = seed % 4 == 1 ? 1000 : 0;
    fx->queue_bytes = seed % 5 == 2 ? 300 : 0;
    fx_start(fx);
}

static void answer_anyhow(fixture *fx) {
    if (fx->call_count == 0) {
        return;
    }
    size_t at = fx_random(fx) % fx->call_count;
    hr_exception exceptions[8];
    size_t count = 0;
    const hr_call *call = fx->calls[at];
    static const hr_code failures[] = {HR_E_CALL_CRASHED, HR_E_CALL_TIMEOUT, HR_E_CALL_UNSTARTED};
    if (fx_random(fx) % 8 == 0) {
        fx_answer(fx, at, failures[fx_random(fx) % 3], NULL, 0, false);
        return;
    }
    for (uint32_t i = 0; i < call->count && i < 8; i++) {
        if (fx_random(fx) % 3 == 0) {
            exceptions[count++] = (hr_exception){.index = (uint16_t)i,
                                                 .outcome = (uint8_t)(1 + fx_random(fx) % 4),
                                                 .after_ms = fx_random(fx) % 4 == 0 ? 20 : -1};
        }
    }
    fx_answer(fx, at, HR_OK, exceptions, count, call->function == 1);
}

/* The partition comes and goes; while it is away another daemon may go on with it. */
static void rebalance(fixture *fx) {
    if (!fx->is_owned) {
        uint64_t from = fx->group == 0 ? 1 : fx->group;
        if (fx_random(fx) % 2 == 0) {
            fx_other_owner(fx, from + fx_random(fx) % (fx->next[FX_PULL] - from + 1));
        } else {
            fx_assign(fx);
        }
    } else if (!fx->is_revoking) {
        fx_revoke(fx);
    } else {
        fx_forget(fx);
    }
}

static void drain(fixture *fx) {
    for (int round = 0; round < 3000 && fx->broken == NULL; round++) {
        fx_settle_store(fx);
        if (fx->is_revoking) {
            fx_forget(fx);
        } else if (!fx->is_owned) {
            fx_assign(fx);
        }
        fx_deliver(fx, 64);
        fx_settle_store(fx);
        while (fx->call_count > 0) {
            fx_answer(fx, 0, HR_OK, NULL, 0, fx->calls[0]->function == 1);
            fx_settle_store(fx);
        }
        bool has_all = fx->is_owned && !fx->is_revoking && fx->sent == fx->next[FX_PULL];
        if (has_all && fx->wake_ns == UINT64_MAX && fx->unit_count == 0 && fx->read_count == 0) {
            return;
        }
        fx_wake(fx, fx->wake_ns == UINT64_MAX || fx->wake_ns <= fx->now_ms * 1000000u
                        ? 1
                        : fx->wake_ns / 1000000u - fx->now_ms + 1);
    }
    if (fx->broken == NULL) {
        fx->broken = "it never comes to rest";
    }
}

static void check_end(fixture *fx) {
    for (uint32_t f = 1; f < FX_FUNCTIONS && fx->broken == NULL; f++) {
        uint32_t feed = fx->takes[f];
        uint64_t events = 0;
        for (uint64_t p = 1; p < FX_EVENTS; p++) {
            events += fx->journal[feed][p].exists ? 1 : 0;
            if (fx->journal[feed][p].exists && !fx->done[f][feed][p]) {
                fx->broken = "an event was lost";
            }
        }
        const hr_counters *c = &fx->checkpoint[f][feed].counters;
        events = feed == FX_PULL ? c->deliveries : events; /* the rest was another daemon's */
        uint64_t ends = c->delivered + c->filtered + c->dropped + c->dead + c->expired;
        if (ends != events) {
            fx->broken = "the counters do not add up";
        } else if (events > 0 && fx->checkpoint[f][feed].low < fx->next[feed]) {
            fx->broken = "the checkpoint stays behind";
        }
    }
    if (fx->broken == NULL && fx->parked_count > 0) {
        fx->broken = "something stays parked";
    }
}

static const char *run(uint64_t seed) {
    fixture *fx = fx_new();
    set_up(fx, seed);
    uint64_t id = 1, ticket = 0;
    for (int i = 0; i < 150 && fx->broken == NULL; i++) {
        uint64_t dice = fx_random(fx) % 100;
        if (dice < 20) {
            uint32_t count = (uint32_t)(1 + fx_random(fx) % 6);
            fx_offer(fx, ++ticket, id, count, 4);
            id += count;
        } else if (dice < 50) {
            answer_anyhow(fx);
        } else if (dice < 75 && fx->unit_count > 0) {
            fx_unit(fx, fx_random(fx) % 12 == 0 ? HR_E_STORE_FULL : HR_OK);
        } else if (dice < 82 && fx->read_count > 0) {
            fx_serve(fx);
        } else if (dice < 85) {
            fx_produce(fx, (uint32_t)(fx_random(fx) % 6), 4);
        } else if (dice < 89) {
            fx_deliver(fx, (uint32_t)(1 + fx_random(fx) % 6));
        } else if (dice < 92) {
            rebalance(fx);
        } else if (dice < 98) {
            fx_wake(fx, fx_random(fx) % 60);
        } else {
            fx_restart(fx);
        }
    }
    drain(fx);
    if (fx->broken == NULL) {
        fx_check_sums(fx);
    }
    check_end(fx);
    const char *broken = fx->broken;
    fx_free(fx);
    return broken;
}

static void s14_s15_any_history_ends_with_every_event_settled_once_and_in_order(void **state) {
    (void)state;
    const char *only = getenv("HEADRACE_SEED");
    uint64_t first = only == NULL ? 1 : strtoull(only, NULL, 10);
    for (uint64_t seed = first; seed < (only == NULL ? 3001 : first + 1); seed++) {
        const char *broken = run(seed);
        if (broken != NULL) {
            fail_msg("seed %llu: %s", (unsigned long long)seed, broken);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s14_s15_any_history_ends_with_every_event_settled_once_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
