/* SPDX-License-Identifier: Apache-2.0 */
/* The store's queues and its thread. */
#include "broker/store.h"

#include "broker/store_priv.h"
#include "core/crash.h"
#include "core/memory.h"

#include <errno.h>
#include <time.h>

enum { IDLE_MS = 1000, AGING_MS = 60000, CLOSE_ROUNDS = 1000 };

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

static void update_stats(hr_store *store) {
    sqlite3_file *file = NULL, *wal = NULL;
    sqlite3_int64 bytes = 0, wal_bytes = 0;
    sqlite3_file_control(store->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    sqlite3_file_control(store->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);
    if (file != NULL && file->pMethods != NULL) {
        file->pMethods->xFileSize(file, &bytes);
    }
    if (wal != NULL && wal->pMethods != NULL) {
        wal->pMethods->xFileSize(wal, &wal_bytes);
    }
    store->stats = (hr_store_stats){.file_bytes = (uint64_t)bytes,
                                    .wal_bytes = (uint64_t)wal_bytes,
                                    .groups = store->groups,
                                    .units = store->units,
                                    .events = store->events,
                                    .sync_ns = hr_pages_sync_ns(store->pages),
                                    .intake_open = store->is_intake_open};
}

/* Appends what ended in this turn and wakes the loop once. */
static void hand_over(hr_store *store, hr_unit *units, store_list_reads *reads) {
    pthread_mutex_lock(&store->mutex);
    if (units != NULL) {
        *store->ended.last = units;
        while (units->next != NULL) {
            units = units->next;
        }
        store->ended.last = &units->next;
    }
    if (reads->first != NULL) {
        *store->answered.last = reads->first;
        store->answered.last = reads->last;
    }
    update_stats(store);
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

static size_t serve_reads(hr_store *store, hr_read *reads, store_list_reads *answered) {
    size_t ended = 0;
    answered->first = NULL;
    answered->last = &answered->first;
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
        *answered->last = read;
        answered->last = &read->next;
        ended++;
    }
    return ended;
}

static bool wal_is_long(const hr_store *store) {
    return (uint64_t)store->wal_frames * store->options.page_bytes > store->wal_max_bytes;
}

/* One group and all reads that wait. Returns how many ended. */
static size_t turn(hr_store *store) {
    pthread_mutex_lock(&store->mutex);
    hr_unit *units = take_group(store);
    hr_read *reads = store->reads.first;
    store->reads = (store_list_reads){.last = &store->reads.first};
    pthread_mutex_unlock(&store->mutex);
    size_t ended = 0;
    if (units != NULL) {
        if (!hr_store_mutate(store, units)) {
            hr_store_commit(store, units);
        }
        for (const hr_unit *unit = units; unit != NULL; unit = unit->next) {
            ended++;
        }
    }
    store_list_reads answered;
    ended += serve_reads(store, reads, &answered);
    hand_over(store, units, &answered);
    if (!store->has_judged) {
        hr_store_judge_syncs(store);
    }
    if (wal_is_long(store)) { /* after the answers */
        hr_store_checkpoint(store);
    }
    if (!store->is_intake_open) {
        hr_store_try_reopen(store);
        store_list_reads none = {.last = &none.first};
        hand_over(store, NULL, &none);
    }
    return ended;
}

size_t hr_store_turn(hr_store *store) {
    HR_ASSERT(!store->has_thread);
    size_t ended = turn(store);
    if (ended == 0) {
        hr_store_trim_idle(store);
    }
    deliver(store);
    return ended;
}

/* ---- the thread ---- */

static void run_job(hr_store *store, store_job *job) {
    job->code = job->run(store, job->data, job->err);
    pthread_mutex_lock(&store->mutex);
    job->is_done = true;
    pthread_cond_broadcast(&store->job_done);
    pthread_mutex_unlock(&store->mutex);
}

/* Waits for work, at most so long (negative: for ever). Under the mutex. false: none came. */
static bool wait_work(hr_store *store, int64_t wait_ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    for (;;) {
        if (store->queue.first != NULL || store->reads.first != NULL || store->jobs != NULL ||
            store->is_stopping || store->finds != NULL) {
            return true;
        }
        int result = wait_ms < 0 ? pthread_cond_wait(&store->wake, &store->mutex)
                                 : pthread_cond_timedwait(&store->wake, &store->mutex, &until);
        if (result == ETIMEDOUT) {
            return false;
        }
    }
}

/* How long it may sleep before something is to be done without being asked. */
static int64_t idle_ms(const hr_store *store, bool is_tidy) {
    if (!is_tidy || !store->is_intake_open) {
        return IDLE_MS;
    }
    return hr_store_ages(store) ? AGING_MS : -1;
}

/* Nothing asked for a while. true: all is tidy. */
static bool tidy(hr_store *store) {
    if (!store->is_intake_open) {
        turn(store);
    }
    if (hr_store_trim_idle(store)) {
        return false;
    }
    if (store->wal_frames > 0) {
        hr_store_checkpoint(store);
    }
    return true;
}

static void *run_thread(void *data) {
    pthread_setname_np(pthread_self(), "hr-store");
    hr_store *store = data;
    bool is_tidy = false;
    for (;;) {
        pthread_mutex_lock(&store->mutex);
        bool has_work = wait_work(store, idle_ms(store, is_tidy));
        store_job *job = store->queue.first == NULL ? store->jobs : NULL; /* after its elders */
        if (job != NULL) {
            store->jobs = job->next;
        }
        bool must_stop = store->is_stopping && store->queue.first == NULL &&
                         store->reads.first == NULL && store->jobs == NULL && job == NULL &&
                         store->finds == NULL;
        pthread_mutex_unlock(&store->mutex);
        if (must_stop) {
            return NULL;
        }
        if (job != NULL) {
            run_job(store, job);
        } else if (has_work) {
            turn(store);
            is_tidy = false;
        } else {
            is_tidy = tidy(store);
        }
    }
}

hr_code hr_store_do(hr_store *store, hr_code (*run)(hr_store *, void *, hr_error *), void *data,
                    hr_error *err) {
    if (!store->has_thread) {
        return run(store, data, err);
    }
    store_job job = {.run = run, .data = data, .err = err};
    pthread_mutex_lock(&store->mutex);
    store_job **last = &store->jobs;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = &job;
    pthread_cond_signal(&store->wake);
    while (!job.is_done) {
        pthread_cond_wait(&store->job_done, &store->mutex);
    }
    pthread_mutex_unlock(&store->mutex);
    return job.code;
}

/* ---- life and queues ---- */

hr_code hr_store_start(hr_store *store, hr_error *err) {
    HR_ASSERT(!store->has_thread);
    if (store->options.loop == NULL) {
        return HR_OK;
    }
    store->mail = hr_alloc(sizeof *store->mail);
    *store->mail = (store_mail){.message = {.run = on_mail}, .store = store};
    int result = pthread_create(&store->thread, NULL, run_thread, store);
    if (result != 0) {
        hr_free(store->mail);
        store->mail = NULL;
        return hr_fail(err, HR_E_IO, result, "start the store's thread: %s", strerror(result));
    }
    store->has_thread = true;
    if (store->has_space_news) {
        store_list_reads none = {.last = &none.first};
        hand_over(store, NULL, &none);
    }
    return HR_OK;
}

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
    pthread_cond_signal(&store->wake);
    pthread_mutex_unlock(&store->mutex);
}

void hr_store_read(hr_store *store, hr_read *read) {
    read->next = NULL;
    pthread_mutex_lock(&store->mutex);
    *store->reads.last = read;
    store->reads.last = &read->next;
    pthread_cond_signal(&store->wake);
    pthread_mutex_unlock(&store->mutex);
}

void hr_store_get_stats(hr_store *store, hr_store_stats *out) {
    pthread_mutex_lock(&store->mutex);
    if (!store->has_thread) {
        update_stats(store);
    }
    *out = store->stats;
    pthread_mutex_unlock(&store->mutex);
}

void hr_store_close(hr_store *store) {
    if (store == NULL) {
        return;
    }
    if (store->has_thread) {
        pthread_mutex_lock(&store->mutex);
        store->is_stopping = true;
        pthread_cond_signal(&store->wake);
        pthread_mutex_unlock(&store->mutex);
        pthread_join(store->thread, NULL);
        store->has_thread = false;
    }
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
                                         store->finds != NULL);
         i++) {
        turn(store);
        deliver(store);
    }
    if (is_posted) {
        mail->store = NULL; /* frees itself when the loop runs it */
    } else {
        hr_free(mail);
    }
    hr_store_free(store);
}
