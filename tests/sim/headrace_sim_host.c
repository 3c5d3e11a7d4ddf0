/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine does in the daemon: from actions to deeds, from what the store ended to steps. */
#include "core/memory.h"
#include "tests/sim/headrace_sim.h"

#include <stdio.h>

/* Did the disk end this life? */
bool sim_is_dead(sim *s) {
    if (hr_vfs_sim_is_cut(s->disk)) {
        s->is_over = true;
    }
    return s->is_over;
}

/* ---- mail: between the end of a commit and the loop ---- */

static void post(sim *s, hr_unit *unit, hr_read *read, hr_code result) {
    sim_mail *mail = hr_alloc(sizeof *mail);
    *mail = (sim_mail){.unit = unit, .read = read, .result = result};
    *s->mail_end = mail;
    s->mail_end = &mail->next;
    s->queued--;
}

static void unit_done(hr_unit *unit, hr_code result) {
    post(unit->owner, unit, NULL, result);
}

typedef struct sim_read_box {
    hr_read read; /* first */
    sim *sim;
    uint64_t *positions;
} sim_read_box;

static void read_done(hr_read *read) {
    sim_read_box *box = (sim_read_box *)read;
    post(box->sim, NULL, read, read->result);
}

static void free_read(hr_read *read) {
    sim_read_box *box = (sim_read_box *)read;
    hr_read_fini(read);
    hr_free(box->positions);
    hr_free(box);
}

static sim_mail *take_mail(sim *s) {
    sim_mail *mail = s->mail;
    s->mail = mail->next;
    if (s->mail == NULL) {
        s->mail_end = &s->mail;
    }
    return mail;
}

void sim_read_mail(sim *s) {
    if (s->mail == NULL) {
        return;
    }
    sim_mail *mail = take_mail(s);
    hr_input input = {.kind = HR_IN_DURABLE,
                      .durable = {.unit = mail->unit, .result = mail->result}};
    if (mail->unit != NULL) {
        hr_unit *unit = mail->unit;
        if (mail->result ==
            HR_E_STORE_IO) {     /* the daemon stops: see on_unit_done() of the engine */
            *s->mail_end = mail; /* freed with the rest */
            s->mail_end = &mail->next;
            mail->next = NULL;
            s->is_over = true;
            return;
        }
        bool is_odd = mail->result != HR_OK && mail->result != HR_E_STORE_FULL &&
                      mail->result != HR_E_FENCED && mail->result != HR_E_STOPPING;
        if (is_odd) {
            sim_break(s, "a unit of function %u was refused: %s", unit->function,
                      hr_code_meaning(mail->result));
        }
        sim_say(s, "ended", unit->function, unit->feed, (uint64_t)mail->result, unit->append_count);
        if (mail->result == HR_OK) {
            sim_check_unit(s, unit);
        } else if (mail->result == HR_E_FENCED) {
            sim_check_fenced(s, unit);
        }
        sim_step(s, &input);
    } else {
        hr_read *read = mail->read;
        hr_batch *batch = read->batch;
        read->batch = NULL;
        input = (hr_input){.kind = HR_IN_READ,
                           .read = {.function = read->function,
                                    .feed = read->feed,
                                    .parked = read->kind == HR_READ_PARKED,
                                    .result = read->result,
                                    .take_batch = batch,
                                    .corrupt = read->corrupt,
                                    .corrupt_count = read->corrupt_count,
                                    .from = read->from,
                                    .at_end = read->at_end}};
        s->totals->corrupt += read->corrupt_count;
        sim_say(s, "read", read->function, read->feed, batch == NULL ? 0 : batch->count,
                (uint64_t)read->result);
        sim_step(s, &input);
        free_read(read);
    }
    hr_free(mail);
}

void sim_turn(sim *s) {
    s->phase = SIM_IN_TURN;
    size_t ended = hr_store_turn(s->store);
    sim_say(s, "turn", ended, s->queued, hr_vfs_sim_calls(s->disk), 0);
    sim_is_dead(s);
}

/* ---- actions ---- */

static void commit(sim *s, hr_unit *unit) {
    unit->owner = s;
    unit->done = unit_done;
    s->queued++;
    hr_store_submit(s->store, unit);
}

static void run_read(sim *s, const hr_action *act) {
    sim_read_box *box = hr_alloc(sizeof *box);
    *box = (sim_read_box){.sim = s};
    box->read = (hr_read){.kind = act->read.parked ? HR_READ_PARKED : HR_READ_JOURNAL,
                          .function = act->function,
                          .feed = act->feed,
                          .from = act->read.from,
                          .max = act->read.max,
                          .done = read_done};
    if (act->read.parked) {
        size_t size = act->read.position_count * sizeof *box->positions;
        box->positions = hr_alloc(size);
        memcpy(box->positions, act->read.positions, size);
        box->read.positions = box->positions;
        box->read.position_count = act->read.position_count;
    }
    s->queued++;
    hr_store_read(s->store, &box->read);
}

static void cancel(sim *s, const hr_call *call) {
    for (uint32_t i = 0; i < s->call_count; i++) {
        s->calls[i].is_cancelled = s->calls[i].is_cancelled || s->calls[i].call == call;
    }
}

static void act_on(sim *s, const hr_action *act) {
    switch (act->kind) {
    case HR_DO_COMMIT:
        if (s->mutant == SIM_ACKS_EARLY && (act->unit->flags & HR_UNIT_INTAKE) != 0 &&
            sim_feed_index(s, act->unit->feed) < SIM_PUSH) {
            hr_action early = {.kind = HR_DO_DURABLE, .feed = act->unit->feed};
            early.ticket.last = s->push[sim_feed_index(s, act->unit->feed)].ticket;
            sim_source_told(s, &early);
        }
        commit(s, act->unit);
        return;
    case HR_DO_CALL:
        HR_ASSERT(s->call_count < SIM_CALLS);
        sim_check_call(s, act->call);
        s->calls[s->call_count++] = (sim_call){.call = act->call};
        return;
    case HR_DO_CANCEL:
        cancel(s, act->call);
        return;
    case HR_DO_READ:
        run_read(s, act);
        return;
    case HR_DO_DURABLE:
    case HR_DO_REFUSED:
    case HR_DO_WANT:
    case HR_DO_SETTLED:
    case HR_DO_REVOKED:
        sim_source_told(s, act);
        return;
    }
}

/* Units whose submission the end of the life came before. */
static void drop_commits(sim *s, const hr_output *out, size_t from) {
    for (size_t i = from; i < out->count; i++) {
        if (out->actions[i].kind == HR_DO_COMMIT) {
            s->queued++;
            post(s, out->actions[i].unit, NULL, HR_E_STOPPING);
        }
    }
}

/* Is this where the life was to end? */
static bool cut_here(sim *s, uint32_t point) {
    bool counts = s->cut_point == SIM_POINTS || s->cut_point == point;
    if (!counts || s->cut_after == 0 || --s->cut_after > 0) {
        return false;
    }
    sim_visit(s, point);
    hr_vfs_sim_cut_now(s->disk, s->cut_kills);
    s->is_over = true;
    return true;
}

void sim_step(sim *s, hr_input *input) {
    input->now_ns = s->now_ns;
    input->real_us = s->real_us;
    input->chance = sim_chance(s, UINT64_MAX);
    hr_output out = {0};
    hr_dispatch_step(s->dispatch, input, &out);
    s->wake_ns = out.wake_ns;
    s->totals->steps++;
    if (s->is_told) {
        drop_commits(s, &out, 0);
        return;
    }
    for (size_t i = 0; i < out.count; i++) {
        hr_action act = out.actions[i];
        sim_say(s, "do", (uint64_t)act.kind, act.function, act.feed, 0);
        act_on(s, &act);
        if (cut_here(s, SIM_AT_ACTION + (uint32_t)act.kind)) {
            drop_commits(s, &out, i + 1);
            return;
        }
    }
    cut_here(s, SIM_AT_INPUT + (uint32_t)input->kind);
}

/* ---- the end of a life ---- */

static void visit_call(sim *s) {
    if (hr_vfs_sim_is_cut(s->disk) && hr_vfs_sim_cut_call(s->disk) >= 0) {
        sim_visit(s, SIM_AT_CALL + SIM_DISK_CALLS * (uint32_t)s->phase +
                         (uint32_t)hr_vfs_sim_cut_call(s->disk));
    }
}

void sim_end(sim *s) {
    s->cut_after = 0;
    s->totals->read_faults += hr_vfs_sim_has_failed_read(s->disk) ? 1 : 0;
    bool was_cut = hr_vfs_sim_is_cut(s->disk);
    if (was_cut || s->store == NULL) {
        visit_call(s);
    }
    if (s->store != NULL) {
        s->phase = SIM_IN_CLOSE;
        hr_store_close(s->store);
        s->store = NULL;
        if (!was_cut) {
            visit_call(s);
        }
        if (sim_chance(s, 4) == 0) { /* the power goes while it is down */
            hr_vfs_sim_cut_now(s->disk, false);
        }
    }
    s->is_told = true;
    if (s->dispatch != NULL) {
        hr_input drain = {.kind = HR_IN_DRAIN};
        sim_step(s, &drain);
    }
    while (s->mail != NULL) {
        sim_mail *mail = take_mail(s);
        if (mail->read != NULL) {
            free_read(mail->read);
        } else {
            hr_input input = {.kind = HR_IN_DURABLE,
                              .durable = {.unit = mail->unit, .result = HR_E_STOPPING}};
            sim_step(s, &input);
        }
        hr_free(mail);
    }
    hr_dispatch_free(s->dispatch);
    s->dispatch = NULL;
    sim_allow(s, SIM_FEEDS);
    for (uint32_t i = 0; i < SIM_FEEDS; i++) {
        for (uint64_t p = 0; p < s->feeds[i].count; p++) {
            s->feeds[i].slots[p].running = 0;
        }
    }
    s->call_count = 0;
    if (hr_vfs_sim_is_cut(s->disk)) {
        bool is_kill = hr_vfs_sim_is_kill(s->disk);
        s->totals->kills += is_kill ? 1 : 0;
        s->cuts += is_kill ? 0 : 1;
        s->cuts_after_ack += !is_kill && s->acks > 0 ? 1 : 0;
        hr_vfs_sim_restart(s->disk);
    }
    hr_vfs_sim_cut_at(s->disk, 0);
    hr_vfs_sim_fail_at(s->disk, 0);
    hr_vfs_sim_fail_read(s->disk, 0);
}

/* Triggers are quiet, what runs may end, what is settled is committed. */
void sim_stop(sim *s) {
    hr_input drain = {.kind = HR_IN_DRAIN};
    sim_step(s, &drain);
    for (int i = 0; i < 50 && !s->is_over && !hr_dispatch_is_idle(s->dispatch); i++) {
        if (s->call_count > 0 && sim_chance(s, 2) == 0) {
            sim_answer(s, (uint32_t)sim_chance(s, s->call_count));
        }
        if (!s->is_over) {
            sim_turn(s);
        }
        while (s->mail != NULL && !s->is_over) {
            sim_read_mail(s);
        }
    }
    s->is_over = true;
}
