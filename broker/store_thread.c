/* SPDX-License-Identifier: Apache-2.0 */
/* The store's two threads: while one syncs a commit, the other writes the next.
 *
 * Whoever has the pen has the connection: it takes a group, writes it into the WAL and puts the pen
 * down. When nobody syncs it does that itself, and the other may take the pen; else it leaves what
 * it wrote to the one that does, who goes on until nothing is left. So a commit that comes alone is
 * written, synced and told by one thread, and the disk never waits for a thread to wake.
 *
 * At most one group stands written behind the one that is being synced (store_wal.c counts on it),
 * and syncs never run side by side: the kernel tells only one caller of a write that failed.
 * Everything else that writes waits until all is synced (hr_store_drain).
 *
 * A third thread copies what is durable in the WAL into the file (store_backfill.h). */
#include "broker/store_priv.h"

#include "core/crash.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum { IDLE_MS = 1000, AGING_MS = 60000 };

/* ---- durable ---- */

/* Fail-stop without the connection. */
static void stop_at(hr_store *store, const char *what, int result, int error) {
    char why[sizeof store->why];
    snprintf(why, sizeof why, "%s%s%s (%d)", sqlite3_errstr(result), error == 0 ? "" : ", ",
             error == 0 ? "" : strerror(error), result);
    hr_store_stop_for(store, what, why, false);
}

void hr_store_put_mark(hr_store *store, const store_wal_mark *mark) {
    int result = hr_store_mark(store, mark);
    if (result != SQLITE_OK) {
        stop_at(store, "writing the mark of the WAL", result, 0);
    }
}

void hr_store_owe(hr_store *store, store_outcome *out) {
    out->unsynced = hr_pages_owed(store->pages);
    out->frames = (uint32_t)store->wal_frames;
    if (store->is_unmarked && !hr_store_count_wal(store, (uint32_t)store->wal_frames, &out->mark)) {
        out->mark = (store_wal_mark){0}; /* an old one is true as well */
    }
    store->is_unmarked = false;
}

/* It may stand on a commit that is not durable. */
static void take_back(store_outcome *outcome) {
    for (hr_unit *unit = outcome->units; unit != NULL; unit = unit->next) {
        unit->result = unit->result == HR_OK ? HR_E_STORE_IO : unit->result;
    }
    for (hr_read *read = outcome->reads; read != NULL; read = read->next) {
        hr_read_fini(read);
        read->result = HR_E_STORE_IO;
    }
}

/* ---- the backfill ---- */

/* The last passes before the checkpoint sync what all of them copied: one sync for each would take
 * a twentieth of the rate of appends. */
static void backfill(hr_store *store) {
    uint64_t sync_from = store->wal_max_bytes / store->options.page_bytes / 4 * 3;
    int result = hr_pages_backfill(store->pages, (uint32_t)sync_from);
    if (result != SQLITE_OK) {
        stop_at(store, "copying the WAL into the file", result, 0);
    }
}

/* So much of the WAL is durable. */
static void note_durable(hr_store *store, uint32_t frames) {
    uint64_t left = hr_pages_durable(store->pages, frames);
    if (left * store->options.page_bytes * STORE_BACKFILL_SHARE < store->wal_max_bytes) {
        return;
    }
    if (!store->has_threads) {
        backfill(store);
        return;
    }
    pthread_mutex_lock(&store->mutex);
    if (!store->must_backfill) {
        store->must_backfill = true;
        pthread_cond_signal(&store->backfill_wake);
    }
    pthread_mutex_unlock(&store->mutex);
}

void hr_store_hold_backfill(hr_store *store, bool holds) {
    pthread_mutex_lock(&store->mutex);
    store->is_checkpointing = holds;
    store->must_backfill = false;
    while (store->is_backfilling) {
        pthread_cond_wait(&store->drained, &store->mutex);
    }
    pthread_mutex_unlock(&store->mutex);
}

bool hr_store_is_backfilling(hr_store *store) {
    pthread_mutex_lock(&store->mutex);
    bool is_backfilling = store->is_backfilling;
    pthread_mutex_unlock(&store->mutex);
    return is_backfilling;
}

static void *run_backfill(void *data) {
    pthread_setname_np(pthread_self(), "hr-backfill");
    hr_store *store = data;
    pthread_mutex_lock(&store->mutex);
    while (!store->is_stopping) {
        if (!store->must_backfill || store->is_checkpointing || store->has_failed) {
            pthread_cond_wait(&store->backfill_wake, &store->mutex);
            continue;
        }
        store->must_backfill = false;
        store->is_backfilling = true;
        pthread_mutex_unlock(&store->mutex);
        backfill(store);
        pthread_mutex_lock(&store->mutex);
        store->is_backfilling = false;
        pthread_cond_broadcast(&store->drained);
    }
    pthread_mutex_unlock(&store->mutex);
    return NULL;
}

void hr_store_finish(hr_store *store, store_outcome *outcome) {
    int error = 0, result = SQLITE_OK;
    uint64_t took_ns = 0;
    if (outcome->unsynced != NULL && !store->is_lost) {
        result = hr_pages_sync(outcome->unsynced, &took_ns, &error);
        pthread_mutex_lock(&store->mutex);
        hr_pages_note_sync(store->pages, took_ns);
        pthread_mutex_unlock(&store->mutex);
    }
    if (result != SQLITE_OK) {
        store->is_lost = true;
        stop_at(store, "a commit", result, error);
    }
    if (store->is_lost) {
        take_back(outcome);
        hr_store_mutate_told(outcome->units);
    } else if (outcome->mark.frames > 0) {
        hr_store_put_mark(store, &outcome->mark);
    }
    bool is_durable = outcome->unsynced != NULL && !store->is_lost;
    uint32_t frames = outcome->frames; /* the outcome goes with its units */
    if (outcome->unsynced != NULL) {
        HR_CRASH_POINT("store.committed");
    }
    hr_store_tell(store, outcome);
    if (is_durable) {
        note_durable(store, frames);
    }
}

/* ---- the pen ---- */

/* How long nothing may be asked before something is to be done. Negative: for ever. */
static int64_t idle_ms(const hr_store *store) {
    if (!store->is_tidy || !store->is_intake_open) {
        return IDLE_MS;
    }
    return hr_store_ages(store) ? AGING_MS : -1;
}

static bool has_work(const hr_store *store) {
    return store->queue.first != NULL || store->reads.first != NULL || store->jobs != NULL ||
           store->has_finds;
}

/* Nobody has it, and there is room for what it writes. */
static bool is_pen_free(const hr_store *store) {
    return !store->is_writing && !store->has_written;
}

/* Waits for work, or until there was none for a while (*out_is_idle). false: there will be none.
 * Under the mutex. */
static bool take_pen(hr_store *store, bool *out_is_idle) {
    bool has_timed_out = false;
    for (;;) {
        bool is_free = is_pen_free(store);
        int64_t wait_ms = is_free ? idle_ms(store) : -1;
        uint64_t due_ns = store->rested_ns + (uint64_t)(wait_ms < 0 ? 0 : wait_ms) * 1000000;
        *out_is_idle = !has_work(store);
        if (is_free && !*out_is_idle) {
            break;
        }
        if (is_free && store->is_stopping) {
            return false;
        }
        if (has_timed_out && wait_ms >= 0 && hr_mono_ns() >= due_ns) {
            break;
        }
        struct timespec until = {.tv_sec = (time_t)(due_ns / 1000000000),
                                 .tv_nsec = (long)(due_ns % 1000000000)};
        int result = wait_ms < 0 ? pthread_cond_wait(&store->wake, &store->mutex)
                                 : pthread_cond_timedwait(&store->wake, &store->mutex, &until);
        has_timed_out = result == ETIMEDOUT;
    }
    store->is_writing = true;
    return true;
}

void hr_store_wake(hr_store *store) {
    if (is_pen_free(store)) { /* else it is looked for when it is */
        pthread_cond_signal(&store->wake);
    }
}

/* Syncs and tells what is written, by whomever, until nothing is left. Under the mutex. */
static void sync_written(hr_store *store) {
    store->is_syncing = true;
    while (store->has_written) {
        store_outcome outcome = store->written;
        store->has_written = false;
        if (has_work(store)) {
            hr_store_wake(store);
        }
        pthread_mutex_unlock(&store->mutex);
        hr_store_finish(store, &outcome);
        pthread_mutex_lock(&store->mutex);
    }
    store->is_syncing = false;
    pthread_cond_broadcast(&store->drained);
}

/* Under the mutex. */
static void put_pen_down(hr_store *store, const store_outcome *outcome) {
    HR_ASSERT(!store->has_written);
    store->rested_ns = hr_mono_ns();
    store->has_finds = store->finds != NULL;
    store->is_writing = false;
    if (outcome->units == NULL && outcome->reads == NULL) {
        return;
    }
    store->written = *outcome;
    store->has_written = true;
    if (!store->is_syncing) {
        sync_written(store);
    }
}

void hr_store_drain(hr_store *store) {
    if (!store->has_threads) {
        while (store->has_written) {
            store->has_written = false;
            hr_store_finish(store, &store->written);
        }
        return;
    }
    pthread_mutex_lock(&store->mutex);
    while (store->has_written || store->is_syncing) {
        pthread_cond_wait(&store->drained, &store->mutex);
    }
    pthread_mutex_unlock(&store->mutex);
}

/* ---- what is done with it ---- */

static void run_job(hr_store *store, store_job *job) {
    hr_store_drain(store);
    job->code = job->run(store, job->data, job->err);
    pthread_mutex_lock(&store->mutex);
    job->is_done = true;
    pthread_cond_broadcast(&store->job_done);
    pthread_mutex_unlock(&store->mutex);
}

/* Nothing was asked for a while. true: all is tidy. */
static bool tidy(hr_store *store) {
    hr_store_drain(store);
    hr_store_keep_up(store);
    if (hr_store_trim_idle(store)) {
        return false;
    }
    if (store->wal_frames > 0) {
        hr_store_checkpoint(store);
    }
    return true;
}

/* The oldest, unless a unit came before it. */
static store_job *take_job(hr_store *store) {
    pthread_mutex_lock(&store->mutex);
    store_job *job = store->queue.first == NULL ? store->jobs : NULL;
    if (job != NULL) {
        store->jobs = job->next;
    }
    pthread_mutex_unlock(&store->mutex);
    return job;
}

static void *run_thread(void *data) {
    pthread_setname_np(pthread_self(), "hr-store");
    hr_store *store = data;
    bool is_idle = false;
    pthread_mutex_lock(&store->mutex);
    while (take_pen(store, &is_idle)) {
        pthread_mutex_unlock(&store->mutex);
        store_outcome outcome = {0};
        store_job *job = take_job(store);
        bool is_tidy = false;
        if (job != NULL) {
            run_job(store, job);
        } else if (is_idle) {
            is_tidy = tidy(store);
        } else {
            hr_store_keep_up(store);
            hr_store_write(store, &outcome);
        }
        pthread_mutex_lock(&store->mutex);
        store->is_tidy = is_tidy;
        put_pen_down(store, &outcome);
    }
    pthread_cond_signal(&store->wake); /* the other ends, too */
    pthread_mutex_unlock(&store->mutex);
    return NULL;
}

hr_code hr_store_do(hr_store *store, hr_code (*run)(hr_store *, void *, hr_error *), void *data,
                    hr_error *err) {
    if (!store->has_threads) {
        hr_store_drain(store);
        return run(store, data, err);
    }
    store_job job = {.run = run, .data = data, .err = err};
    pthread_mutex_lock(&store->mutex);
    store_job **last = &store->jobs;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = &job;
    hr_store_wake(store);
    while (!job.is_done) {
        pthread_cond_wait(&store->job_done, &store->mutex);
    }
    pthread_mutex_unlock(&store->mutex);
    return job.code;
}

/* ---- life ---- */

void hr_store_stop(hr_store *store) {
    pthread_mutex_lock(&store->mutex);
    store->is_stopping = true;
    pthread_cond_broadcast(&store->wake);
    pthread_cond_signal(&store->backfill_wake);
    pthread_mutex_unlock(&store->mutex);
    for (size_t i = 0; i < store->thread_count; i++) {
        pthread_join(store->threads[i], NULL);
    }
    store->thread_count = 0;
    store->has_threads = false;
}

hr_code hr_store_start(hr_store *store, hr_error *err) {
    HR_ASSERT(!store->has_threads);
    if (store->options.loop == NULL) {
        return HR_OK;
    }
    store->has_threads = true;
    store->rested_ns = hr_mono_ns();
    hr_store_make_mail(store);
    for (int i = 0; i <= STORE_THREADS; i++) {
        int result = pthread_create(&store->threads[i], NULL,
                                    i < STORE_THREADS ? run_thread : run_backfill, store);
        if (result != 0) {
            hr_store_stop(store);
            return hr_fail(err, HR_E_IO, result, "start the store's threads: %s", strerror(result));
        }
        store->thread_count++;
    }
    if (store->has_space_news) {
        hr_store_tell(store, &(store_outcome){0});
    }
    return HR_OK;
}
