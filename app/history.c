/* SPDX-License-Identifier: Apache-2.0 */
#include "app/history.h"

#include "app/json_parts.h"
#include "app/note_ring.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/time_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NOTE_BYTES = 4 << 20, BUCKETS = 256 };

/* Log2 buckets with 4 steps an octave: at most 19 % off, from 1 ns to 2^64. */
typedef struct latency {
    uint32_t function;
    uint64_t count, bucket[BUCKETS];
} latency;

typedef struct last {
    uint32_t feed;
    int64_t real_us;
} last;

struct hr_history {
    hr_names names;
    hr_note_ring *notes;
    hr_tap *taps;
    latency *latencies;
    size_t latency_count;
    last *lasts;
    size_t last_count;
    int64_t told_us; /* when a dead letter was last told to the daemon's log */
    uint64_t untold;
};

static const char *note_name(hr_note_kind kind) {
    static const char *const names[] = {
        [HR_NOTE_STORED] = "stored",         [HR_NOTE_DUPLICATE] = "duplicate",
        [HR_NOTE_FILTERED] = "filtered",     [HR_NOTE_CALLED] = "called",
        [HR_NOTE_DELIVERED] = "delivered",   [HR_NOTE_RETRY] = "retrying",
        [HR_NOTE_UNANSWERED] = "unanswered", [HR_NOTE_BEHIND] = "held back",
        [HR_NOTE_DROPPED] = "dropped",       [HR_NOTE_DEAD] = "dead",
        [HR_NOTE_EXPIRED] = "expired",       [HR_NOTE_RESULT] = "result",
    };
    return names[kind];
}

hr_history *hr_history_new(const hr_names *names) {
    hr_history *history = hr_alloc(sizeof *history);
    history->names = *names;
    history->notes = hr_note_ring_new(HR_HISTORY_NOTES, NOTE_BYTES);
    return history;
}

void hr_history_free(hr_history *take_history) {
    if (take_history == NULL) {
        return;
    }
    hr_note_ring_free(take_history->notes);
    hr_free(take_history->latencies);
    hr_free(take_history->lasts);
    hr_free(take_history);
}

static json_t *to_json(const hr_history *history, const hr_kept_note *kept) {
    const hr_note *note = &kept->note;
    char stamp[HR_TIME_TEXT];
    hr_time_print(note->real_us, stamp);
    json_t *json = json_pack("{s:s, s:s, s:o}", "time", stamp, "what", note_name(note->kind), "id",
                             hr_text_json(kept->id));
    const char *from = history->names.feed(history->names.data, note->feed);
    json_object_set_new(json, "from", json_string(from == NULL ? "?" : from));
    if (note->function != 0) {
        const char *to = history->names.function(history->names.data, note->function);
        json_object_set_new(json, "function", json_string(to == NULL ? "?" : to));
    }
    if (kept->subject.size > 0) {
        json_object_set_new(json, "subject", hr_text_json(kept->subject));
    }
    if (note->position != 0) {
        json_object_set_new(json, "position", json_integer((json_int_t)note->position));
    }
    if (note->attempt != 0) {
        json_object_set_new(json, "attempt", json_integer(note->attempt));
        json_object_set_new(json, "attempts_max", json_integer(note->attempts_max));
    }
    if (note->took_ns != 0) {
        json_object_set_new(json, "took_ms", json_real((double)note->took_ns / 1e6));
    }
    if (note->due_ms != 0) {
        hr_time_print(note->due_ms * 1000, stamp);
        json_object_set_new(json, "due", json_string(stamp));
    }
    if (note->text.size > 0) {
        json_object_set_new(json, "text", hr_text_json(note->text));
    }
    return json;
}

static void remember_last(hr_history *history, uint32_t feed, int64_t real_us) {
    for (size_t i = 0; i < history->last_count; i++) {
        if (history->lasts[i].feed == feed) {
            history->lasts[i].real_us = real_us;
            return;
        }
    }
    history->lasts = hr_realloc(history->lasts, (history->last_count + 1) * sizeof *history->lasts);
    history->lasts[history->last_count++] = (last){.feed = feed, .real_us = real_us};
}

static latency *latency_of(hr_history *history, uint32_t function) {
    for (size_t i = 0; i < history->latency_count; i++) {
        if (history->latencies[i].function == function) {
            return &history->latencies[i];
        }
    }
    history->latencies =
        hr_realloc(history->latencies, (history->latency_count + 1) * sizeof *history->latencies);
    latency *fresh = &history->latencies[history->latency_count++];
    *fresh = (latency){.function = function};
    return fresh;
}

static size_t bucket_of(uint64_t ns) {
    if (ns < 4) {
        return (size_t)ns;
    }
    unsigned octave = 63u - (unsigned)__builtin_clzll(ns);
    return (size_t)octave * 4 + (size_t)(ns >> (octave - 2) & 3);
}

static uint64_t bucket_ns(size_t bucket) {
    if (bucket < 8) {
        return bucket;
    }
    return (uint64_t)(4 + bucket % 4) << (bucket / 4 - 2);
}

/* At most a line a second: a flood of them must not become one of the log. */
static void log_dead(hr_history *history, const hr_note *note) {
    if (note->real_us - history->told_us < 1000000) {
        history->untold++;
        return;
    }
    char more[64] = "";
    if (history->untold > 0) {
        snprintf(more, sizeof more, " (and %llu more of all functions before)",
                 (unsigned long long)history->untold);
    }
    const char *name = history->names.function(history->names.data, note->function);
    hr_slice id =
        note->batch == NULL ? hr_slice_text("an event") : hr_batch_id(note->batch, note->index);
    hr_slice text = note->text.size == 0 ? hr_slice_text("expired") : note->text;
    hr_log(HR_LOG_WARN, name == NULL ? "dlq" : name, "gave up %.*s: %.*s%s; headrace dlq",
           (int)(id.size < HR_NOTE_ID_MAX ? id.size : HR_NOTE_ID_MAX), (const char *)id.bytes,
           (int)(text.size < HR_NOTE_TEXT_MAX ? text.size : HR_NOTE_TEXT_MAX),
           (const char *)text.bytes, more);
    history->told_us = note->real_us;
    history->untold = 0;
}

static void show_taps(const hr_history *history, const hr_kept_note *kept) {
    json_t *json = to_json(history, kept);
    for (hr_tap *tap = history->taps, *next = NULL; tap != NULL; tap = next) {
        next = tap->next;
        const char *from = json_string_value(json_object_get(json, "from"));
        const char *to = json_string_value(json_object_get(json, "function"));
        if (tap->name == NULL || strcmp(tap->name, from) == 0 ||
            (to != NULL && strcmp(tap->name, to) == 0)) {
            tap->seen(tap, json);
        }
    }
    json_decref(json);
}

/* The delivery that a note of its call stands for. */
static hr_kept_note delivery_of(const hr_kept_note *called) {
    hr_kept_note kept = *called;
    kept.note.kind = HR_NOTE_DELIVERED;
    kept.note.real_us = called->over_us;
    kept.note.took_ns = called->over_ns;
    return kept;
}

/* To the taps: what became of the notes from number to before end. */
static void show_new(const hr_history *history, uint64_t number, uint64_t end) {
    uint64_t first = hr_note_ring_first(history->notes);
    for (uint64_t i = number > first ? number : first; i < end; i++) {
        hr_kept_note kept = hr_note_ring_get(history->notes, i);
        kept = kept.over_us != 0 ? delivery_of(&kept) : kept;
        show_taps(history, &kept);
    }
}

uint64_t hr_history_note(void *data, const hr_note *note) {
    hr_history *history = data;
    uint64_t number = hr_note_ring_next(history->notes);
    bool is_over = false;
    if (note->count == 0) {
        hr_note_ring_add(history->notes, note);
    } else if (note->kind == HR_NOTE_DELIVERED &&
               hr_note_ring_over(history->notes, note->call, note->real_us, note->took_ns)) {
        is_over = true;
        number = note->call;
    } else {
        hr_note_ring_call(history->notes, note);
    }
    if (note->kind == HR_NOTE_STORED || note->kind == HR_NOTE_RESULT) {
        remember_last(history, note->feed, note->real_us);
    }
    if (note->kind == HR_NOTE_DEAD || note->kind == HR_NOTE_EXPIRED) {
        log_dead(history, note);
    }
    if (note->took_ns != 0) {
        uint32_t events = note->count == 0 ? 1 : note->count;
        latency *l = latency_of(history, note->function);
        l->count += events;
        l->bucket[bucket_of(note->took_ns)] += events;
    }
    if (history->taps != NULL) {
        show_new(history, number,
                 is_over ? number + note->count : hr_note_ring_next(history->notes));
    }
    return number;
}

/* A note of one event, or the delivery that the end of its call stands for. */
typedef struct trace_step {
    uint64_t place; /* of note n: 2n; of an end that came before note n: 2n - 1 */
    int64_t real_us;
    uint64_t number;
} trace_step;

static int compare_steps(const void *left, const void *right) {
    const trace_step *a = left, *b = right;
    int by_place = (a->place > b->place) - (a->place < b->place);
    int by_time = (a->real_us > b->real_us) - (a->real_us < b->real_us);
    int by_number = (a->number > b->number) - (a->number < b->number);
    return by_place != 0 ? by_place : by_time != 0 ? by_time : by_number;
}

static json_t *steps_json(const hr_history *history, trace_step *steps, size_t count) {
    json_t *array = json_array();
    if (count > 0) {
        qsort(steps, count, sizeof *steps, compare_steps);
    }
    for (size_t i = 0; i < count; i++) {
        hr_kept_note kept = hr_note_ring_get(history->notes, steps[i].number);
        kept = steps[i].place % 2 == 1 ? delivery_of(&kept) : kept;
        json_array_append_new(array, to_json(history, &kept));
    }
    return array;
}

json_t *hr_history_trace(const hr_history *history, const char *event_id) {
    hr_slice id = hr_slice_text(event_id);
    id.size = id.size < HR_NOTE_ID_MAX ? id.size : HR_NOTE_ID_MAX; /* as it was kept */
    trace_step *steps = NULL;
    size_t count = 0, room = 0;
    uint64_t next = hr_note_ring_next(history->notes);
    for (uint64_t i = hr_note_ring_first(history->notes); i < next; i++) {
        hr_kept_note kept = hr_note_ring_get(history->notes, i);
        if (kept.id.size == 0 || !hr_slice_equal(kept.id, id)) {
            continue;
        }
        if (count + 2 > room) {
            room = room == 0 ? 16 : 2 * room;
            steps = hr_realloc(steps, room * sizeof *steps);
        }
        steps[count++] = (trace_step){.place = 2 * i, .number = i};
        if (kept.over_us != 0) {
            steps[count++] = (trace_step){
                .place = 2 * kept.over_before - 1, .real_us = kept.over_us, .number = i};
        }
    }
    json_t *array = steps_json(history, steps, count);
    hr_free(steps);
    return array;
}

void hr_history_tap(hr_history *history, hr_tap *tap) {
    tap->next = history->taps;
    history->taps = tap;
}

void hr_history_untap(hr_history *history, hr_tap *tap) {
    for (hr_tap **at = &history->taps; *at != NULL; at = &(*at)->next) {
        if (*at == tap) {
            *at = tap->next;
            return;
        }
    }
}

int64_t hr_history_last_us(const hr_history *history, uint32_t feed) {
    for (size_t i = 0; i < history->last_count; i++) {
        if (history->lasts[i].feed == feed) {
            return history->lasts[i].real_us;
        }
    }
    return 0;
}

uint64_t hr_history_quantile_ns(const hr_history *history, uint32_t function, double quantile) {
    for (size_t i = 0; i < history->latency_count; i++) {
        const latency *l = &history->latencies[i];
        if (l->function != function || l->count == 0) {
            continue;
        }
        uint64_t want = (uint64_t)ceil((double)l->count * quantile);
        uint64_t seen = 0;
        for (size_t b = 0; b < BUCKETS; b++) {
            seen += l->bucket[b];
            if (seen >= want) {
                return bucket_ns(b + 1);
            }
        }
    }
    return 0;
}
