/* SPDX-License-Identifier: Apache-2.0 */
/* What the store knows of feeds, checkpoints and functions, and what of it the configuration has no
 * place for any more. */
#include "app/engine_priv.h"
#include "core/log.h"

known_feed *hr_engine_known_feed(hr_engine *e, uint32_t id) {
    for (size_t i = 0; i < e->feed_count; i++) {
        if (e->feeds[i].id == id) {
            return &e->feeds[i];
        }
    }
    return NULL;
}

static void load_feed(void *data, uint32_t feed, const char *kind, const char *identity,
                      uint64_t next_position, uint64_t unsettled_bytes, int64_t last_fire_us) {
    hr_engine *e = data;
    known_feed *known = hr_engine_known_feed(e, feed);
    if (known == NULL) {
        e->feeds = hr_realloc(e->feeds, (e->feed_count + 1) * sizeof *e->feeds);
        known = &e->feeds[e->feed_count++];
        *known = (known_feed){.id = feed, .identity = hr_copy_text(identity)};
    }
    known->is_pull = strcmp(kind, "pull") == 0;
    known->next = next_position;
    known->unsettled = unsettled_bytes;
    known->last_fire_us = last_fire_us;
}

static void load_checkpoint(void *data, uint32_t function, uint32_t feed, uint64_t low,
                            hr_slice settled, const hr_counters *counters) {
    hr_engine *e = data;
    if (function == 0) {
        known_feed *known = hr_engine_known_feed(e, feed);
        if (known != NULL) {
            known->counters = *counters;
        }
        return;
    }
    known_checkpoint *known = NULL;
    for (size_t i = 0; i < e->checkpoint_count && known == NULL; i++) {
        if (e->checkpoints[i].function == function && e->checkpoints[i].feed == feed) {
            known = &e->checkpoints[i];
        }
    }
    if (known == NULL) {
        e->checkpoints =
            hr_realloc(e->checkpoints, (e->checkpoint_count + 1) * sizeof *e->checkpoints);
        known = &e->checkpoints[e->checkpoint_count++];
        *known = (known_checkpoint){.function = function, .feed = feed};
    }
    known->low = low;
    known->counters = *counters;
    known->settled.size = 0;
    hr_buffer_add_slice(&known->settled, settled);
}

static void load_parked(void *data, const hr_row *row) {
    hr_engine *e = data;
    e->parked = hr_realloc(e->parked, (e->parked_count + 1) * sizeof *e->parked);
    e->parked[e->parked_count++] = *row;
}

static void load_function(void *data, uint32_t function, const char *name, bool removed) {
    hr_engine *e = data;
    if (!removed && hr_engine_function(e, name) != NULL) {
        return;
    }
    if (!removed) {
        hr_log(HR_LOG_WARN, "headrace",
               "the function '%s' is no longer in the configuration: what waits for it becomes "
               "dead letters 'removed'",
               name);
    }
    e->removed = hr_realloc(e->removed, (e->removed_count + 1) * sizeof *e->removed);
    e->removed[e->removed_count++] =
        (removed_function){.id = function, .name = hr_copy_text(name), .is_known = removed};
}

static void load_dead(void *data, uint64_t count) {
    hr_engine *e = data;
    e->dead_count = count;
}

hr_code hr_engine_load(hr_engine *e, uint32_t only_feed, hr_error *err) {
    hr_store_loader loader = {.data = e,
                              .feed = load_feed,
                              .function = only_feed == 0 ? load_function : NULL,
                              .checkpoint = load_checkpoint,
                              .parked = load_parked,
                              .dead = only_feed == 0 ? load_dead : NULL};
    e->parked_count = 0;
    return hr_store_load(e->store, only_feed, &loader, err);
}

/* ---- what the configuration no longer has ---- */

/* Functions that were taken out of the configuration, with the feeds they still have work on (S21).
 */
static hr_code build_removed(hr_engine *e, hr_error *err) {
    for (size_t i = 0; i < e->removed_count; i++) {
        if (e->removed[i].is_known) {
            continue;
        }
        hr_function_policy policy = {.name = e->removed[i].name,
                                     .id = e->removed[i].id,
                                     .lanes = 1,
                                     .batch_size = 1,
                                     .is_removed = true};
        hr_dispatch_add_function(e->dispatch, &policy);
        for (size_t k = 0; k < e->checkpoint_count; k++) {
            const known_checkpoint *at = &e->checkpoints[k];
            known_feed *feed = hr_engine_known_feed(e, at->feed);
            if (at->function != policy.id || feed == NULL || feed->is_pull) {
                continue; /* what stands at its source stays there */
            }
            hr_code code =
                feed->is_added ? HR_OK : hr_engine_add_journal(e, feed->id, NULL, true, err);
            if (code != HR_OK) {
                return code;
            }
            hr_dispatch_take(e->dispatch, policy.id, at->feed, at->low, at->low,
                             hr_slice_of(at->settled.bytes, at->settled.size), &at->counters);
        }
    }
    return HR_OK;
}

/* Journal feeds that a function takes from no more: its checkpoint there would hold back their
 * history for ever. */
static hr_code build_left(hr_engine *e, hr_error *err) {
    for (size_t i = 0; i < e->checkpoint_count; i++) {
        const known_checkpoint *at = &e->checkpoints[i];
        const engine_function *f = hr_engine_function_of(e, at->function);
        known_feed *feed = hr_engine_known_feed(e, at->feed);
        if (at->is_taken || f == NULL || feed == NULL || feed->is_pull) {
            continue;
        }
        hr_code code = feed->is_added ? HR_OK : hr_engine_add_journal(e, feed->id, NULL, true, err);
        if (code != HR_OK) {
            return code;
        }
        hr_log(HR_LOG_WARN, "headrace",
               "the function '%s' no longer takes from %s: what waits for it there becomes dead "
               "letters 'removed'",
               f->name, feed->identity);
        hr_dispatch_take_no_more(e->dispatch, f->id, at->feed, at->low,
                                 hr_slice_of(at->settled.bytes, at->settled.size), &at->counters);
    }
    return HR_OK;
}

/* What is parked of a pull feed is tried again from the start on, whoever owns the feed now (S17):
 * it counts as passed there. */
static hr_code build_away(hr_engine *e, hr_error *err) {
    hr_code code = HR_OK;
    for (size_t i = 0; code == HR_OK && i < e->feed_count; i++) {
        const known_feed *known = &e->feeds[i];
        size_t row = 0;
        while (row < e->parked_count && e->parked[row].feed != known->id) {
            row++;
        }
        if (!known->is_pull || row == e->parked_count) {
            continue;
        }
        hr_feed_policy policy = {.id = known->id, .pull = true, .is_away = true};
        code =
            hr_store_feed_open(e->store, "pull", known->identity, &policy.id, &policy.epoch, err);
        if (code != HR_OK) {
            break;
        }
        hr_dispatch_add_feed(e->dispatch, &policy);
        for (size_t k = 0; k < e->checkpoint_count; k++) {
            engine_function *f = hr_engine_function_of(e, e->checkpoints[k].function);
            if (f != NULL && e->checkpoints[k].feed == known->id) {
                hr_engine_take(e, f, known->id, true, false);
            }
        }
    }
    return code;
}

hr_code hr_engine_build_left(hr_engine *e, hr_error *err) {
    hr_code code = build_removed(e, err);
    code = code == HR_OK ? build_left(e, err) : code;
    return code == HR_OK ? build_away(e, err) : code;
}
