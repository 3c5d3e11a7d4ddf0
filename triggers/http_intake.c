/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/http_intake.h"

#include "core/json_text.h"
#include "core/memory.h"
#include "net/digest.h"

#include <stddef.h>
#include <sys/random.h>

/* GROUP_BYTES: little enough for a feed of the smallest journal (settings.journal.max_bytes).
 * GROUP_ENOUGH: requests that do not wait for the rest of their turn: those are read while these
 * are written, and are the next group. Else all senders that wait for their answers would come to
 * march in step, and the processors would idle while all of them are synced.
 * group_worth: requests that are a group when so many groups are on their way: one is synced, one
 * is written, and the third is there when the store takes up its pen. What queues for it there is
 * one commit. */
enum { GROUP_BYTES = 64 << 10, GROUP_ENOUGH = 20 };
static const uint32_t group_worth[HR_INTAKE_FLIGHTS] = {1, 12, GROUP_ENOUGH};

typedef struct rejected { /* offsets into unit->text */
    size_t raw, raw_size, why;
} rejected;

struct hr_intake_unit {
    hr_sink sink; /* first: full() gets back to the unit by it */
    hr_intake *intake;
    hr_http_request *request;
    hr_batch **batches; /* of a request too large for one */
    rejected *rejects;
    size_t batch_count, batch_room, reject_count, reject_room;
    hr_buffer text;   /* of the rejects */
    hr_buffer answer; /* the JSON of the 202 */
    uint64_t first_ticket, last_ticket;
    hr_intake_unit *next;
};

hr_code hr_sink_pack(hr_sink *sink, const hr_fields *fields, hr_error *err) {
    hr_code code = hr_builder_pack(sink->builder, 0, fields, err);
    if (code == HR_E_TOO_LARGE && sink->full != NULL && sink->builder->count > 0) {
        sink->full(sink);
        code = hr_builder_pack(sink->builder, 0, fields, err);
    }
    if (code == HR_E_INVALID) {
        err->code = code = HR_E_MALFORMED;
    }
    return code;
}

hr_code hr_sink_add(hr_sink *sink, hr_slice envelope, hr_error *err) {
    hr_code code = hr_builder_add(sink->builder, 0, envelope, err);
    if (code == HR_E_TOO_LARGE && sink->full != NULL && sink->builder->count > 0) {
        sink->full(sink);
        code = hr_builder_add(sink->builder, 0, envelope, err);
    }
    return code;
}

/* Its units wait already, with the ticket that it gets here. */
static void offer_group(hr_intake *intake) {
    hr_batch *batch = hr_builder_finish(&intake->group, 0, hr_real_us());
    if (batch != NULL) {
        intake->gathered = 0;
        uint64_t ticket = ++intake->ticket;
        intake->offered[intake->offer_count++ % HR_INTAKE_FLIGHTS] = ticket;
        intake->trigger->host->offer(intake->trigger, batch, ticket);
    }
}

/* May what was gathered go? */
static bool may_fly(const hr_intake *intake) {
    size_t flying = 0;
    for (size_t i = 0; i < HR_INTAKE_FLIGHTS; i++) {
        flying += intake->offered[i] > intake->settled;
    }
    return flying < HR_INTAKE_FLIGHTS && intake->gathered >= group_worth[flying];
}

static void on_turn(hr_message *message) {
    hr_intake *intake = (hr_intake *)(void *)((char *)message - offsetof(hr_intake, turn));
    intake->is_turning = false;
    if (may_fly(intake)) { /* else it gathers company until one is settled */
        offer_group(intake);
    }
}

static void offer_soon(hr_intake *intake) {
    if (!intake->is_turning) {
        intake->is_turning = true;
        hr_loop_defer(intake->trigger->loop, &intake->turn);
    }
}

hr_code hr_intake_load(const hr_node *kind_config, hr_error *err) {
    bool has_keys =
        hr_node_get(kind_config, "secret") != NULL || hr_node_get(kind_config, "token") != NULL;
    return has_keys ? hr_digest_load(err) : HR_OK;
}

void hr_intake_init(hr_intake *intake, hr_trigger *trigger) {
    *intake = (hr_intake){.trigger = trigger, .turn = {.run = on_turn}};
}

static void gauge(hr_intake *intake, const char *name, int64_t *value) {
    (*value)++;
    intake->trigger->host->gauge(intake->trigger, name, *value);
}

void hr_intake_say(hr_http_request *request, int status, const char *text) {
    const char *const plain[] = {"Content-Type", "text/plain; charset=utf-8", NULL};
    const char *const later[] = {"Content-Type", "text/plain; charset=utf-8", "Retry-After", "5",
                                 NULL};
    const char *const methods[] = {"Content-Type", "text/plain; charset=utf-8", "Allow",
                                   "GET, HEAD, OPTIONS, POST", NULL};
    const char *const who[] = {"Content-Type", "text/plain; charset=utf-8", "WWW-Authenticate",
                               "Bearer", NULL};
    const char *const *headers = status == 503   ? later
                                 : status == 405 ? methods
                                 : status == 401 ? who
                                                 : plain;
    char *line = hr_format("%s\n", text);
    hr_http_answer(request, status, headers, hr_slice_text(line));
    hr_free(line);
}

/* The abuse protection of CloudEvents' web hooks: the sender asks whether it may. */
static void answer_options(hr_http_request *request) {
    hr_slice origin = hr_http_header(request, "WebHook-Request-Origin");
    if (origin.size == 0) {
        const char *const headers[] = {"Allow", "GET, HEAD, OPTIONS, POST", NULL};
        hr_http_answer(request, 204, headers, hr_slice_text(""));
        return;
    }
    char *name = hr_copy_bytes(origin.bytes, origin.size);
    const char *const headers[] = {
        "Allow", "POST", "WebHook-Allowed-Origin", name, "WebHook-Allowed-Rate", "*", NULL};
    hr_http_answer(request, 200, headers, hr_slice_text(""));
    hr_free(name);
}

bool hr_intake_admit(hr_intake *intake, hr_http_request *request) {
    const char *method = hr_http_method(request);
    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
        hr_intake_say(request, 200, "POST events here");
    } else if (strcmp(method, "OPTIONS") == 0) {
        answer_options(request);
    } else if (strcmp(method, "POST") != 0) {
        hr_intake_say(request, 405, "events come by POST");
    } else if (intake->is_stopping) {
        hr_intake_say(request, 503, hr_code_meaning(HR_E_STOPPING));
    } else if (intake->is_shut) {
        gauge(intake, "refused", &intake->refused);
        hr_intake_say(request, 503, "intake is stopped: the journal or the disk is full");
    } else {
        return true;
    }
    return false;
}

void hr_intake_unauthorized(hr_intake *intake, hr_http_request *request, const char *why) {
    gauge(intake, "unauthorized", &intake->unauthorized);
    hr_intake_say(request, 401, why);
}

static void print_ids(hr_intake_unit *unit) {
    const hr_builder *reading = &unit->intake->reading;
    for (uint32_t i = 0; i < reading->count; i++) {
        const hr_view *view = &reading->view[i];
        hr_buffer_add_text(&unit->answer, unit->answer.size == 0 ? "{\"ids\":[" : ",");
        hr_json_add_text(&unit->answer,
                         hr_slice_of(reading->bytes.bytes + view->id_at, view->id_size));
    }
}

static void unit_flush(hr_sink *sink) {
    hr_intake_unit *unit = (hr_intake_unit *)(void *)sink;
    print_ids(unit);
    hr_batch *batch = hr_builder_finish(&unit->intake->reading, 0, hr_real_us());
    if (batch == NULL) {
        return;
    }
    if (unit->batch_count == unit->batch_room) {
        unit->batch_room = unit->batch_room == 0 ? 1 : 2 * unit->batch_room;
        unit->batches = hr_realloc(unit->batches, unit->batch_room * sizeof *unit->batches);
    }
    unit->batches[unit->batch_count++] = batch;
}

hr_intake_unit *hr_intake_begin(hr_intake *intake, hr_http_request *request) {
    HR_ASSERT(intake->reading.count == 0);
    hr_intake_unit *unit = hr_alloc(sizeof *unit);
    unit->intake = intake;
    unit->request = request;
    unit->sink = (hr_sink){.builder = &intake->reading, .full = unit_flush};
    return unit;
}

hr_sink *hr_intake_sink(hr_intake_unit *unit) {
    return &unit->sink;
}

void hr_intake_reject(hr_intake_unit *unit, hr_slice raw, const char *why) {
    if (unit->reject_count == unit->reject_room) {
        unit->reject_room = unit->reject_room == 0 ? 4 : 2 * unit->reject_room;
        unit->rejects = hr_realloc(unit->rejects, unit->reject_room * sizeof *unit->rejects);
    }
    rejected *reject = &unit->rejects[unit->reject_count++];
    reject->raw = unit->text.size;
    reject->raw_size = raw.size < HR_INTAKE_HEAD ? raw.size : HR_INTAKE_HEAD;
    if (reject->raw_size > 0) {
        hr_buffer_add(&unit->text, raw.bytes, reject->raw_size);
    }
    reject->why = unit->text.size;
    hr_buffer_add(&unit->text, why, strlen(why) + 1);
}

static void unit_free(hr_intake_unit *unit) {
    for (size_t i = 0; i < unit->batch_count; i++) {
        hr_batch_unref(unit->batches[i]); /* NULL once offered */
    }
    hr_free(unit->batches);
    hr_free(unit->rejects);
    hr_buffer_fini(&unit->text);
    hr_buffer_fini(&unit->answer);
    hr_free(unit);
}

void hr_intake_abort(hr_intake_unit *take_unit, int status, const char *text) {
    if (status >= 400 && status < 500) {
        gauge(take_unit->intake, "malformed", &take_unit->intake->malformed);
    }
    hr_intake_say(take_unit->request, status, text);
    hr_builder_clear(&take_unit->intake->reading);
    unit_free(take_unit);
}

static void answer_ids(hr_intake_unit *unit, int status) {
    const char *const headers[] = {"Content-Type", "application/json", NULL};
    hr_http_answer(unit->request, status, headers,
                   hr_slice_of(unit->answer.bytes, unit->answer.size));
    unit_free(unit);
}

static void end_answer(hr_intake_unit *unit) {
    hr_buffer_add_text(&unit->answer, unit->answer.size == 0 ? "{\"ids\":[]" : "]");
    if (unit->reject_count > 0) {
        hr_buffer_print(&unit->answer, ",\"rejected\":%zu", unit->reject_count);
    }
    hr_buffer_add_text(&unit->answer, "}\n");
}

/* From here on durable() or refused() of its last ticket ends it. */
static void enlist(hr_intake_unit *unit, size_t tickets) {
    hr_intake *intake = unit->intake;
    unit->first_ticket = intake->ticket + 1;
    unit->last_ticket = intake->ticket + tickets;
    if (intake->last != NULL) {
        intake->last->next = unit;
    } else {
        intake->first = unit;
    }
    intake->last = unit;
}

/* The usual case: a request of few events goes with all others of this turn. */
static void join_group(hr_intake_unit *unit) {
    hr_intake *intake = unit->intake;
    print_ids(unit);
    end_answer(unit);
    if (intake->group.bytes.size + intake->reading.bytes.size > GROUP_BYTES ||
        (intake->gathered >= GROUP_ENOUGH && may_fly(intake))) {
        offer_group(intake);
    }
    if (hr_builder_move(&intake->group, &intake->reading) != HR_OK) {
        offer_group(intake);
        HR_ASSERT(hr_builder_move(&intake->group, &intake->reading) == HR_OK);
    }
    enlist(unit, 1);
    intake->gathered++;
    if (may_fly(intake)) {
        offer_soon(intake);
    }
}

static void offer_alone(hr_intake_unit *unit) {
    hr_intake *intake = unit->intake;
    hr_trigger *trigger = intake->trigger;
    offer_group(intake);
    unit_flush(&unit->sink);
    end_answer(unit);
    if (unit->reject_count > 0) {
        intake->malformed += (int64_t)unit->reject_count - 1;
        gauge(intake, "malformed", &intake->malformed);
    }
    size_t batch_count = unit->batch_count, reject_count = unit->reject_count;
    enlist(unit, batch_count + reject_count);
    /* What is offered is taken out of the unit first: the last offer may end it at once. */
    hr_batch **batches = unit->batches;
    rejected *rejects = unit->rejects;
    hr_buffer text = unit->text;
    unit->batches = NULL;
    unit->rejects = NULL;
    unit->text = (hr_buffer){0};
    unit->batch_count = unit->reject_count = 0;
    for (size_t i = 0; i < batch_count; i++) {
        trigger->host->offer(trigger, batches[i], ++intake->ticket);
    }
    for (size_t i = 0; i < reject_count; i++) {
        trigger->host->reject(trigger,
                              hr_slice_of(text.bytes + rejects[i].raw, rejects[i].raw_size),
                              (const char *)text.bytes + rejects[i].why, ++intake->ticket);
    }
    hr_free(batches);
    hr_free(rejects);
    hr_buffer_fini(&text);
}

void hr_intake_commit(hr_intake_unit *take_unit) {
    if (take_unit->batch_count + take_unit->reject_count > 0) {
        offer_alone(take_unit);
    } else if (take_unit->intake->reading.count > 0) {
        join_group(take_unit);
    } else {
        end_answer(take_unit);
        answer_ids(take_unit, 200);
    }
}

/* Tickets up to here are durable or refused. */
static void settle(hr_intake *intake, uint64_t up_to_ticket) {
    intake->settled = up_to_ticket > intake->settled ? up_to_ticket : intake->settled;
    if (may_fly(intake)) {
        offer_soon(intake);
    }
    if (intake->is_stopping && !intake->has_stopped && intake->first == NULL) {
        intake->has_stopped = true;
        intake->trigger->host->stopped(intake->trigger);
    }
}

void hr_intake_durable(hr_intake *intake, uint64_t up_to_ticket) {
    while (intake->first != NULL && intake->first->last_ticket <= up_to_ticket) {
        hr_intake_unit *unit = intake->first;
        intake->first = unit->next;
        if (intake->first == NULL) {
            intake->last = NULL;
        }
        answer_ids(unit, 202);
    }
    settle(intake, up_to_ticket);
}

void hr_intake_refused(hr_intake *intake, uint64_t first, uint64_t last, hr_code why) {
    hr_intake_unit **link = &intake->first, *before = NULL;
    while (*link != NULL && (*link)->first_ticket <= last) {
        hr_intake_unit *unit = *link;
        if (unit->last_ticket < first) {
            before = unit;
            link = &unit->next;
            continue;
        }
        *link = unit->next;
        if (intake->last == unit) {
            intake->last = before;
        }
        gauge(intake, "refused", &intake->refused);
        hr_intake_say(unit->request, 503, hr_code_meaning(why));
        unit_free(unit);
    }
    settle(intake, last);
}

void hr_intake_want(hr_intake *intake, uint32_t events) {
    intake->is_shut = events == 0;
}

void hr_intake_stop(hr_intake *intake) {
    intake->is_stopping = true;
    settle(intake, 0);
}

void hr_intake_fini(hr_intake *intake) {
    if (intake->is_turning) {
        hr_loop_forget(intake->trigger->loop, &intake->turn);
    }
    hr_builder_fini(&intake->reading);
    hr_builder_fini(&intake->group);
    while (intake->first != NULL) { /* the server has answered them, or will */
        hr_intake_unit *unit = intake->first;
        intake->first = unit->next;
        unit_free(unit);
    }
    intake->last = NULL;
}

/* Random bytes of the kernel: one call for sixteen ids. */
static void take_chance(uint8_t *out, size_t size) {
    static _Thread_local uint8_t pool[256]; /* getrandom() gives so many whole, never in part */
    static _Thread_local size_t left;
    HR_ASSERT(size <= sizeof pool);
    if (left < size) {
        HR_ASSERT(getrandom(pool, sizeof pool, 0) == (ssize_t)sizeof pool);
        left = sizeof pool;
    }
    left -= size;
    memcpy(out, pool + left, size);
}

void hr_intake_new_id(char out[HR_INTAKE_ID]) {
    uint8_t bytes[16];
    take_chance(bytes, sizeof bytes);
    uint64_t ms = (uint64_t)(hr_real_us() / 1000);
    for (int i = 0; i < 6; i++) {
        bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
    bytes[6] = (uint8_t)(0x70 | (bytes[6] & 0x0F));
    bytes[8] = (uint8_t)(0x80 | (bytes[8] & 0x3F));
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 16; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[32] = 0;
}
