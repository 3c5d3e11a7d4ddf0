/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store_backfill.h"

#include "broker/store_priv.h"

#include "core/memory.h"

#include <stdlib.h>

typedef struct frame {
    uint32_t page; /* 0: not known */
    bool is_moved; /* the file has it */
} frame;

/* A page to be copied. */
typedef struct copy {
    uint32_t page, frame;
} copy;

struct store_backfill {
    uint32_t page_bytes;

    pthread_mutex_t mutex; /* for the rest */
    frame *frames;         /* as written, from the WAL's begin on */
    uint32_t count, room;
    uint32_t durable, looked; /* so many of them */
    bool is_running;          /* a pass reads frames that are durable */
};

store_backfill *hr_backfill_new(uint32_t page_bytes) {
    store_backfill *backfill = hr_alloc(sizeof *backfill);
    backfill->page_bytes = page_bytes;
    pthread_mutex_init(&backfill->mutex, NULL);
    return backfill;
}

void hr_backfill_free(store_backfill *take_backfill) {
    if (take_backfill != NULL) {
        pthread_mutex_destroy(&take_backfill->mutex);
        hr_free(take_backfill->frames);
        hr_free(take_backfill);
    }
}

static sqlite3_int64 frame_bytes(const store_backfill *backfill) {
    return STORE_WAL_FRAME + (sqlite3_int64)backfill->page_bytes;
}

/* Where the page of a frame lies, which is counted from 0. */
static sqlite3_int64 page_at(const store_backfill *backfill, uint32_t index) {
    return STORE_WAL_HEAD + index * frame_bytes(backfill) + STORE_WAL_FRAME;
}

/* ---- what is written ---- */

static void note_head(store_backfill *backfill, uint32_t index, const void *bytes) {
    store_wal_frame head;
    hr_wal_read_frame(bytes, &head);
    HR_ASSERT(index >= backfill->durable); /* it would be read while it is written */
    if (index >= backfill->room) {
        backfill->room = index < 512 ? 1024 : index * 2;
        backfill->frames = hr_realloc(backfill->frames, backfill->room * sizeof(frame));
    }
    for (; backfill->count < index; backfill->count++) {
        backfill->frames[backfill->count] = (frame){0};
    }
    backfill->frames[index] = (frame){.page = head.page};
    backfill->count = index < backfill->count ? backfill->count : index + 1;
}

/* Not a head of a frame: it is not known any more what the frames hold that it goes over, unless it
 * is the page of one. */
static void forget(store_backfill *backfill, sqlite3_int64 at, int size) {
    sqlite3_int64 bytes = frame_bytes(backfill), from = at - STORE_WAL_HEAD;
    bool is_page = from % bytes == STORE_WAL_FRAME && size == (int)backfill->page_bytes;
    for (sqlite3_int64 i = from / bytes; i < backfill->count && i * bytes < from + size; i++) {
        frame *each = &backfill->frames[i];
        *each = (frame){.page = is_page ? each->page : 0};
    }
}

void hr_backfill_note(store_backfill *backfill, const void *bytes, int size, sqlite3_int64 at) {
    sqlite3_int64 from = at - STORE_WAL_HEAD, each = frame_bytes(backfill);
    pthread_mutex_lock(&backfill->mutex);
    if (from < 0) { /* it begins anew, which a checkpoint came before */
        HR_ASSERT(!backfill->is_running);
        backfill->count = backfill->durable = backfill->looked = 0;
    } else if (size == STORE_WAL_FRAME && from % each == 0 && from / each < UINT32_MAX / 2) {
        note_head(backfill, (uint32_t)(from / each), bytes);
    } else {
        forget(backfill, at, size);
    }
    pthread_mutex_unlock(&backfill->mutex);
}

uint32_t hr_backfill_durable(store_backfill *backfill, uint32_t frames) {
    pthread_mutex_lock(&backfill->mutex);
    backfill->durable = frames < backfill->count ? frames : backfill->count;
    uint32_t left = backfill->durable > backfill->looked ? backfill->durable - backfill->looked : 0;
    pthread_mutex_unlock(&backfill->mutex);
    return left;
}

uint32_t hr_backfill_page(store_backfill *backfill, int size, sqlite3_int64 at) {
    sqlite3_int64 from = at - STORE_WAL_HEAD, each = frame_bytes(backfill);
    if (size != (int)backfill->page_bytes || from < 0 || from % each != STORE_WAL_FRAME) {
        return 0;
    }
    uint32_t page = 0;
    pthread_mutex_lock(&backfill->mutex);
    if (from / each < backfill->count && backfill->frames[from / each].is_moved) {
        page = backfill->frames[from / each].page;
    }
    pthread_mutex_unlock(&backfill->mutex);
    return page;
}

/* ---- a pass ---- */

static int by_page(const void *a, const void *b) {
    const copy *left = a, *right = b;
    if (left->page != right->page) {
        return left->page < right->page ? -1 : 1;
    }
    return left->frame < right->frame ? -1 : left->frame > right->frame;
}

/* The newest of each page, by page. Returns how many. */
static uint32_t keep_newest(copy *copies, uint32_t count) {
    uint32_t kept = 0;
    qsort(copies, count, sizeof *copies, by_page);
    for (uint32_t i = 0; i < count; i++) {
        if (i + 1 == count || copies[i + 1].page != copies[i].page) {
            copies[kept++] = copies[i];
        }
    }
    return kept;
}

/* What the pass is to copy; *out_copies is the caller's. *out_durable: of so many frames. */
static uint32_t take(store_backfill *backfill, copy **out_copies, uint32_t *out_durable) {
    uint32_t count = 0;
    pthread_mutex_lock(&backfill->mutex);
    HR_ASSERT(!backfill->is_running);
    backfill->is_running = true;
    uint32_t from = backfill->looked, to = backfill->durable;
    copy *copies = hr_alloc_array(to > from ? to - from : 1, sizeof *copies);
    for (uint32_t i = from; i < to; i++) {
        if (backfill->frames[i].page > 0) {
            copies[count++] = (copy){.page = backfill->frames[i].page, .frame = i};
        }
    }
    backfill->looked = to > from ? to : from;
    pthread_mutex_unlock(&backfill->mutex);
    *out_copies = copies;
    *out_durable = to;
    return keep_newest(copies, count);
}

/* Copies pages that stand side by side in the file. */
static int copy_run(store_backfill *backfill, const copy *copies, uint32_t count, uint8_t *bytes,
                    sqlite3_file *wal, sqlite3_file *file) {
    size_t size = backfill->page_bytes;
    for (uint32_t i = 0; i < count; i++) {
        int result = wal->pMethods->xRead(wal, bytes + i * size, (int)size,
                                          page_at(backfill, copies[i].frame));
        if (result != SQLITE_OK) {
            return result;
        }
        hr_page_sign(copies[i].page, bytes + i * size, size);
    }
    return file->pMethods->xWrite(file, bytes, (int)(count * size),
                                  (copies[0].page - 1) * (sqlite3_int64)size);
}

/* *out_done: so many of them the file has. */
static int copy_all(store_backfill *backfill, const copy *copies, uint32_t count, sqlite3_file *wal,
                    sqlite3_file *file, uint32_t *out_done) {
    int result = SQLITE_OK;
    uint32_t most = STORE_WRITE_BYTES / backfill->page_bytes, done = 0;
    uint8_t *bytes = hr_alloc(most * (size_t)backfill->page_bytes);
    while (result == SQLITE_OK && done < count) {
        uint32_t run = 1;
        while (run < most && done + run < count &&
               copies[done + run].page == copies[done].page + run) {
            run++;
        }
        result = copy_run(backfill, copies + done, run, bytes, wal, file);
        done += result == SQLITE_OK ? run : 0;
    }
    hr_free(bytes);
    *out_done = done;
    return result;
}

int hr_backfill_run(store_backfill *backfill, sqlite3_file *wal, sqlite3_file *file,
                    uint32_t sync_from) {
    copy *copies = NULL;
    uint32_t durable = 0, count = take(backfill, &copies, &durable), done = 0;
    int result = copy_all(backfill, copies, count, wal, file, &done);
    if (result == SQLITE_FULL) {
        result = SQLITE_OK; /* the checkpoint's to mend */
    }
    if (result == SQLITE_OK && done > 0 && durable >= sync_from) {
        result = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
    }
    pthread_mutex_lock(&backfill->mutex);
    for (uint32_t i = 0; result == SQLITE_OK && i < done; i++) {
        backfill->frames[copies[i].frame].is_moved = true;
    }
    backfill->is_running = false;
    pthread_mutex_unlock(&backfill->mutex);
    hr_free(copies);
    return result;
}
