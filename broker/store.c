/* SPDX-License-Identifier: Apache-2.0 */
/* The store's queues, and what a turn does. */
#include "broker/store.h"

#include "broker/store_priv.h"
#include "core/crash.h"
#include "core/memory.h"

enum { CLOSE_ROUNDS = 1000 };

/* ---- what ended goes to the loop ---- */

/* Tells the askers. On the loop's thread, or the caller's of a turn. */
static void deliver(hr_store *store) {
    pthread_mutex_lock(&store->mutex);
    hr_unit *units = store->ended.first;
    hr_read *reads = store->answered.first;
    bool has_news = store->has_space_news, is_open = store->is_intake_open;
    store->ended = (store_list_units){.last = &store->ended.first};
    store->answered = (store_list_reads){.last = &store->answered.first};
    store->has_space_news = false;
    if (store->mail != NULL) {
        store->mail->is_posted = false;
    }
    pthread_mutex_unlock(&store->mutex);
    if (has_news && store->options.space != NULL) {
        store->options.space(store->options.space_data, is_open);
    }
    while (units != NULL) {
        hr_unit *next = units->next;
        units->next = NULL;
        units->done(units, units->result);
        units = next;
    }
    while (reads != NULL) {
        hr_read *next = reads->next;
        reads->next = NULL;
        reads->done(reads);
        reads = next;
    }
}

static void on_mail(hr_message *message) {
    store_mail *mail = (store_mail *)message; /* its first member */
    if (mail->store == NULL) {
        hr_free(mail);
    } else {
        deliver(mail->store);
    }
}

void hr_store_make_mail(hr_store *store) {
    store->mail = hr_alloc(sizeof *store->mail);
    *store->mail = (store_mail){.message = {.run = on_mail}, .store = store};
}

static void update_stats(hr_store *store) {
    sqlite3_file *file = NULL, *wal = NULL;
    sqlite3_file_control(store->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    sqlite3_file_control(store->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);
    store->stats = (hr_store_stats){.file_bytes = hr_pages_size(file),
                                    .wal_bytes = hr_pages_size(wal),
                                    .groups = store->groups,
                                    .units = store->units,
                                    .events = store->events,
                                    .sync_ns = hr_pages_sync_ns(store->pages),
                                    .intake_open = store->is_intake_open};
}

void hr_store_tell(hr_store *store, const store_outcome *outcome) {
    hr_unit *units = outcome->units;
    hr_read *reads = outcome->reads;
    pthread_mutex_lock(&store->mutex);
    if (units != NULL) {
        *store->ended.last = units;
        while (units->next != NULL) {
            units = units->next;
        }
        store->ended.last = &units->next;
    }
    if (reads != NULL) {
        *store->answered.last = reads;
        while (reads->next != NULL) {
            reads = reads->next;
        }
        store->answered.last = &reads->next;
    }
    bool has_mail =
        store->ended.first != NULL || store->answered.first != NULL || store->has_space_news;
    bool must_post = has_mail && store->mail != NULL && !store->mail->is_posted;
    if (must_post) {
        store->mail->is_posted = true;
    }
    pthread_mutex_unlock(&store->mutex);
    if (must_post) {
        hr_loop_post(store->options.loop, &store->mail->message);
        HR_CRASH_POINT("store.told");
    }
}

/* ---- one turn ---- */

static uint64_t unit_bytes(const hr_unit *unit, size_t *events) {
    uint64_t bytes = unit->settled.size;
    for (size_t i = 0; i < unit->append_count; i++) {
        bytes += unit->appends[i]->size;
        *events += unit->appends[i]->count;
    }
    for (size_t i = 0; i < unit->row_count; i++) {
        bytes += unit->rows[i].bytes.size + unit->rows[i].text.size;
    }
    *events += unit->row_count;
    return bytes;
}

/* Takes the first units of the queue, as many as one group may hold. Under the mutex. */
static hr_unit *take_group(hr_store *store) {
    hr_unit *first = store->queue.first, **last = &store->queue.first;
    uint64_t bytes = 0;
    size_t events = 0;
    while (*last != NULL) {
        bytes += unit_bytes(*last, &events);
        if (*last != first && (events > STORE_GROUP_EVENTS || bytes > STORE_GROUP_BYTES)) {
            break;
        }
        last = &(*last)->next;
    }
    store->queue.first = *last;
    if (*last == NULL) {
        store->queue.last = &store->queue.first;
    }
    if (last != &store->queue.first) {
        *last = NULL;
    }
    return first;
}

/* Answers of those that are ready; the others go on with store->finds. */
static hr_read *serve_reads(hr_store *store, hr_read *reads) {
    hr_read *answered = NULL, **last = &answered;
    while (reads != NULL || store->finds != NULL) {
        hr_read *read = reads;
        if (read != NULL) {
            reads = read->next;
            read->next = NULL;
            if (!hr_store_serve(store, read)) {
                continue;
            }
        } else {
            read = hr_store_find_more(store);
            if (read == NULL) {
                break; /* its next slice comes with the next turn */
            }
        }
        *last = read;
        last = &read->next;
    }
    return answered;
}

void hr_store_write(hr_store *store, store_outcome *out) {
    pthread_mutex_lock(&store->mutex);
    hr_unit *units = take_group(store);
    hr_read *reads = store->reads.first;
    store->reads = (store_list_reads){.last = &store->reads.first};
    pthread_mutex_unlock(&store->mutex);
    *out = (store_outcome){.units = units};
    if (units != NULL) {
        if (!hr_store_mutate(store, units)) {
            hr_store_commit(store, units);
        }
        hr_store_owe(store, out);
    }
    out->reads = serve_reads(store, reads);
    pthread_mutex_lock(&store->mutex);
    update_stats(store);
    pthread_mutex_unlock(&store->mutex);
}

void hr_store_keep_up(hr_store *store) {
    uint64_t wal = (uint64_t)store->wal_frames * store->options.page_bytes;
    uint64_t most = store->wal_max_bytes;
    /* while a pass of the backfill runs the checkpoint would wait for it */
    if (wal > most && (wal > most + most / 4 || !hr_store_is_backfilling(store))) {
        hr_store_drain(store);
        hr_store_checkpoint(store);
    }
    if (!store->is_intake_open) {
        hr_store_drain(store);
        hr_store_try_reopen(store);
        hr_store_tell(store, &(store_outcome){0});
    }
    if (!store->has_judged) {
        hr_store_judge_syncs(store);
    }
}

/* Without a thread. Returns how many ended. */
static size_t turn(hr_store *store) {
    store_outcome out;
    size_t ended = 0;
    hr_store_write(store, &out);
    for (const hr_unit *unit = out.units; unit != NULL; unit = unit->next) {
        ended++;
    }
    for (const hr_read *read = out.reads; read != NULL; read = read->next) {
        ended++;
    }
    if (store->options.lags && !store->has_written && out.unsynced != NULL) {
        store->written = out; /* as if somebody synced it while the next turn writes */
        store->has_written = true;
        return ended;
    }
    ended += store->has_written ? 1 : 0;
    hr_store_drain(store);
    hr_store_finish(store, &out);
    hr_store_keep_up(store);
    return ended;
}

size_t hr_store_turn(hr_store *store) {
    HR_ASSERT(!store->has_threads);
    size_t ended = turn(store);
    if (ended == 0) {
        hr_store_trim_idle(store);
    }
    deliver(store);
    return ended;
}

/* ---- life and queues ---- */

int64_t hr_store_real_us(const hr_store *store) {
    const hr_store_options *options = &store->options;
    return options->real_us == NULL ? hr_real_us() : options->real_us(options->clock_data);
}

uint64_t hr_store_mono_ns(const hr_store *store) {
    const hr_store_options *options = &store->options;
    return options->mono_ns == NULL ? hr_mono_ns() : options->mono_ns(options->clock_data);
}

void hr_store_submit(hr_store *store, hr_unit *unit) {
    unit->next = NULL;
    unit->result = HR_OK;
    pthread_mutex_lock(&store->mutex);
    *store->queue.last = unit;
    store->queue.last = &unit->next;
    hr_store_wake(store);
    pthread_mutex_unlock(&store->mutex);
}

void hr_store_read(hr_store *store, hr_read *read) {
    read->next = NULL;
    pthread_mutex_lock(&store->mutex);
    *store->reads.last = read;
    store->reads.last = &read->next;
    hr_store_wake(store);
    pthread_mutex_unlock(&store->mutex);
}

void hr_store_get_stats(hr_store *store, hr_store_stats *out) {
    pthread_mutex_lock(&store->mutex);
    if (!store->has_threads) {
        update_stats(store);
    }
    *out = store->stats;
    pthread_mutex_unlock(&store->mutex);
}

void hr_store_close(hr_store *store) {
    if (store == NULL) {
        return;
    }
    hr_store_stop(store);
    HR_CRASH_POINT("store.closing");
    if (!store->has_failed && store->unsynced_folders > 0 &&
        hr_store_sync_folders(store) != HR_OK) { /* without a commit, too, all of it is to last */
        hr_store_fail_stop(store, "the end");
    }
    store_mail *mail = store->mail;
    bool is_posted = mail != NULL && mail->is_posted;
    store->mail = NULL;
    deliver(store);
    for (int i = 0; i < CLOSE_ROUNDS && (store->queue.first != NULL || store->reads.first != NULL ||
                                         store->finds != NULL || store->has_written);
         i++) {
        turn(store);
        deliver(store);
    }
    hr_store_catch_up(store);
    if (is_posted) {
        mail->store = NULL; /* frees itself when the loop runs it */
    } else {
        hr_free(mail);
    }
    hr_store_free(store);
}
