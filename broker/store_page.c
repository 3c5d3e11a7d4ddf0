/* SPDX-License-Identifier: Apache-2.0 */
/* A VFS above the disk's: every page of the database file ends with a checksum, written with it and
 * looked at when it is read, and writes that stand side by side become one.
 *
 * SQLite has no checksums: a flipped bit in a page moves a checkpoint, drops rows or changes them,
 * and it says nothing. Here such a page cannot be read (SQLITE_CORRUPT). Pages in the WAL have
 * SQLite's own checksums and are checked by nobody but the recovery (store_wal.c). The eight bytes
 * are SQLite's reserved ones, so any SQLite reads the file; one that writes to it leaves pages that
 * do not fit.
 *
 * SQLite writes the head of a WAL frame by itself, then its page, then the next frame; a checkpoint
 * writes page by page. Here they are held back until the file is synced, read or anything else is
 * done with it, or the next write does not follow on. What could not be written then fails the call
 * that wanted it, and every sync until it is written anew. */
#include "broker/store_priv.h"

#include "core/loop.h"
#include "core/memory.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct page_file page_file;

struct store_pages {
    sqlite3_vfs vfs;
    sqlite3_vfs *base;
    char name[40];
    bool is_lenient;
    uint32_t page_bytes;
    uint32_t damaged; /* the page met last, 0: none */
    uint32_t grown;   /* pages behind this one are of the transaction that is open; 0: none */
    bool defers;      /* syncs of files that are not begun anew */
    page_file *owed;  /* NULL: none */
    store_backfill *backfill;
    page_file *database, *wal; /* while they are open */
    bool is_moving;            /* a checkpoint runs */
    uint32_t passed;           /* a page that it read and is to write, and the file has; 0: none */
    uint64_t syncs;
    uint64_t sync_ns[STORE_SYNCS]; /* how long the newest took */
    page_file *held_of;            /* whose write is held back; NULL: none is */
    sqlite3_int64 held_at;
    int held_size;
    uint8_t *held;
};

struct page_file {
    sqlite3_file file;
    sqlite3_file *base; /* behind this struct */
    struct store_pages *pages;
    bool has_sums, is_written, is_begun; /* written, its first byte too: since its last sync */
    int lost; /* why what was held back from this byte on is not in the file; SQLITE_OK: it is */
    sqlite3_int64 lost_at;
    sqlite3_int64 size; /* with what is held back; negative: not known yet */
};

enum { FILE_BYTES = (sizeof(page_file) + 15) / 16 * 16 };

/* ---- the file ---- */

static page_file *opened(sqlite3_file *file) {
    return (page_file *)file;
}

/* Writes what is held back. Every call but a write that follows on comes through here first. */
static int let_go(struct store_pages *pages) {
    page_file *of = pages->held_of;
    if (of == NULL) {
        return SQLITE_OK;
    }
    pages->held_of = NULL;
    int result =
        of->base->pMethods->xWrite(of->base, pages->held, pages->held_size, pages->held_at);
    if (result != SQLITE_OK) {
        of->lost_at =
            of->lost == SQLITE_OK || pages->held_at < of->lost_at ? pages->held_at : of->lost_at;
        of->lost = result;
    }
    return result;
}

/* The same when it is of this file. */
static int settle(page_file *self) {
    return self->pages->held_of == self ? let_go(self->pages) : SQLITE_OK;
}

static int file_close(sqlite3_file *file) {
    page_file *self = opened(file);
    struct store_pages *pages = self->pages;
    pages->database = pages->database == self ? NULL : pages->database;
    pages->wal = pages->wal == self ? NULL : pages->wal;
    int written = settle(self), result = self->base->pMethods->xClose(self->base);
    return written == SQLITE_OK ? result : written;
}

static bool is_page(const page_file *file, int size, sqlite3_int64 at) {
    sqlite3_int64 page_bytes = file->pages->page_bytes;
    return file->has_sums && size == page_bytes && at % page_bytes == 0;
}

/* A checkpoint reads a page from the WAL and writes it to the file. When the file has it neither is
 * done. */
static bool passes(page_file *self, int size, sqlite3_int64 at) {
    struct store_pages *pages = self->pages;
    if (pages->is_moving && self == pages->wal && pages->passed == 0) {
        pages->passed = hr_backfill_page(pages->backfill, size, at);
        return pages->passed != 0;
    }
    return false;
}

static bool has_passed(const page_file *self, int size, sqlite3_int64 at) {
    const struct store_pages *pages = self->pages;
    return pages->passed != 0 && self == pages->database && size == (int)pages->page_bytes &&
           at == (pages->passed - 1) * (sqlite3_int64)size;
}

static int file_read(sqlite3_file *file, void *out, int size, sqlite3_int64 at) {
    page_file *self = opened(file);
    int result = settle(self);
    if (result != SQLITE_OK) {
        return result;
    }
    if (passes(self, size, at)) {
        return SQLITE_OK;
    }
    if (self->pages->passed != 0) { /* what it took for a page is none */
        return SQLITE_IOERR_READ;
    }
    result = self->base->pMethods->xRead(self->base, out, size, at);
    if (result == SQLITE_IOERR_CORRUPTFS) { /* EIO, which SQLite would call a malformed file */
        result = SQLITE_IOERR_READ;
    }
    if (!is_page(self, size, at) || (result != SQLITE_OK && result != SQLITE_IOERR_SHORT_READ)) {
        return result;
    }
    uint32_t page = (uint32_t)(at / size) + 1;
    bool is_whole = result == SQLITE_OK && hr_page_is_whole(page, out, (size_t)size);
    bool is_unborn = self->pages->grown > 0 && page > self->pages->grown;
    if (!is_whole && !is_unborn && !self->pages->is_lenient) {
        self->pages->damaged = page;
        return SQLITE_CORRUPT;
    }
    return result;
}

static int file_write(sqlite3_file *file, const void *bytes, int size, sqlite3_int64 at) {
    page_file *self = opened(file);
    struct store_pages *pages = self->pages;
    if (pages->passed != 0) {
        bool is_there = has_passed(self, size, at);
        pages->passed = 0;
        return is_there ? SQLITE_OK : SQLITE_IOERR_WRITE;
    }
    bool follows = pages->held_of == self && at == pages->held_at + pages->held_size &&
                   size <= STORE_WRITE_BYTES - pages->held_size;
    int result = follows ? SQLITE_OK : let_go(pages);
    self->is_written = true;
    self->is_begun = self->is_begun || at == 0;
    if (self->size >= 0 && self->size < at + size) {
        self->size = at + size;
    }
    if (result != SQLITE_OK) {
        return result;
    }
    if (self == pages->wal) {
        hr_backfill_note(pages->backfill, bytes, size, at);
    }
    if (self->lost != SQLITE_OK && at <= self->lost_at) {
        self->lost = SQLITE_OK; /* it begins anew */
    }
    if (size > STORE_WRITE_BYTES) {
        return self->base->pMethods->xWrite(self->base, bytes, size, at);
    }
    if (!follows) {
        pages->held_of = self;
        pages->held_at = at;
        pages->held_size = 0;
    }
    uint8_t *held = pages->held + pages->held_size;
    memcpy(held, bytes, (size_t)size);
    if (is_page(self, size, at)) {
        hr_page_sign((uint32_t)(at / size) + 1, held, (size_t)size);
    }
    pages->held_size += size;
    return SQLITE_OK;
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size) {
    page_file *self = opened(file);
    int result = settle(self);
    self->size = -1;
    return result == SQLITE_OK ? self->base->pMethods->xTruncate(self->base, size) : result;
}

static int sync_base(page_file *self, int flags, uint64_t *out_ns) {
    uint64_t begin_ns = hr_mono_ns();
    int result = self->base->pMethods->xSync(self->base, flags);
    if (hr_store_syncs_again(result)) {
        result = self->base->pMethods->xSync(self->base, flags);
    }
    *out_ns = hr_mono_ns() - begin_ns;
    return result;
}

static int file_sync(sqlite3_file *file, int flags) {
    page_file *self = opened(file);
    struct store_pages *pages = self->pages;
    int result = settle(self);
    if (result == SQLITE_OK) {
        result = self->lost;
    }
    if (result != SQLITE_OK) {
        return result;
    }
    /* The head of a WAL that begins anew must be there before its frames: with the one of before,
       what they leave of its frames would be taken for all of it. */
    if (pages->defers && !self->is_begun) {
        pages->owed = self;
        self->is_written = false;
        return SQLITE_OK;
    }
    uint64_t took_ns = 0;
    result = sync_base(self, flags, &took_ns);
    if (self->is_written && result == SQLITE_OK) { /* without a write any disk is quick */
        hr_pages_note_sync(pages, took_ns);
    }
    self->is_written = self->is_written && result != SQLITE_OK;
    self->is_begun = self->is_begun && result != SQLITE_OK;
    return result;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *out) {
    page_file *self = opened(file);
    int result = settle(self);
    result = result == SQLITE_OK ? self->base->pMethods->xFileSize(self->base, out) : result;
    self->size = result == SQLITE_OK ? *out : -1;
    return result;
}

static int file_lock(sqlite3_file *file, int level) {
    sqlite3_file *base = opened(file)->base;
    return base->pMethods->xLock(base, level);
}

static int file_unlock(sqlite3_file *file, int level) {
    sqlite3_file *base = opened(file)->base;
    return base->pMethods->xUnlock(base, level);
}

static int file_reserved(sqlite3_file *file, int *out) {
    sqlite3_file *base = opened(file)->base;
    return base->pMethods->xCheckReservedLock(base, out);
}

static int file_control(sqlite3_file *file, int op, void *data) {
    page_file *self = opened(file);
    int result = settle(self);
    return result == SQLITE_OK ? self->base->pMethods->xFileControl(self->base, op, data) : result;
}

static int file_sector(sqlite3_file *file) {
    sqlite3_file *base = opened(file)->base;
    return base->pMethods->xSectorSize(base);
}

static int file_traits(sqlite3_file *file) {
    sqlite3_file *base = opened(file)->base;
    return base->pMethods->xDeviceCharacteristics(base);
}

static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_traits,
};

/* ---- the VFS ---- */

static sqlite3_vfs *base_of(sqlite3_vfs *vfs) {
    return ((struct store_pages *)vfs->pAppData)->base;
}

/* Does the file have checksums? A new one will. */
static int find_sums(page_file *self) {
    sqlite3_int64 size = 0;
    int result = self->base->pMethods->xFileSize(self->base, &size);
    self->has_sums = true;
    uint32_t page_bytes = self->pages->page_bytes;
    if (result == SQLITE_OK && size >= page_bytes) {
        uint8_t *first = self->pages->held;
        result = self->base->pMethods->xRead(self->base, first, (int)page_bytes, 0);
        self->has_sums = result != SQLITE_OK || hr_page_has_sums(first, page_bytes);
    }
    return result;
}

static int page_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out) {
    sqlite3_vfs *base = base_of(vfs);
    if ((flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) == 0) {
        return base->xOpen(base, name, file, flags, out);
    }
    page_file *self = opened(file);
    *self = (page_file){.pages = vfs->pAppData,
                        .size = -1,
                        .base = (sqlite3_file *)(void *)((uint8_t *)file + FILE_BYTES)};
    int result = base->xOpen(base, name, self->base, flags, out);
    if (result == SQLITE_OK && (flags & SQLITE_OPEN_MAIN_DB) != 0) { /* the WAL has its own */
        result = find_sums(self);
    }
    if (result == SQLITE_OK) {
        file->pMethods = &methods;
        if ((flags & SQLITE_OPEN_WAL) != 0) {
            self->pages->wal = self;
        } else {
            self->pages->database = self;
        }
    } else if (self->base->pMethods != NULL) {
        self->base->pMethods->xClose(self->base);
    }
    return result;
}

static int page_delete(sqlite3_vfs *vfs, const char *name, int sync_dir) {
    sqlite3_vfs *base = base_of(vfs);
    return base->xDelete(base, name, sync_dir);
}

static int page_access(sqlite3_vfs *vfs, const char *name, int flags, int *out) {
    sqlite3_vfs *base = base_of(vfs);
    return base->xAccess(base, name, flags, out);
}

static int page_full_name(sqlite3_vfs *vfs, const char *name, int size, char *out) {
    sqlite3_vfs *base = base_of(vfs);
    return base->xFullPathname(base, name, size, out);
}

static int page_random(sqlite3_vfs *vfs, int size, char *out) {
    sqlite3_vfs *base = base_of(vfs);
    return base->xRandomness(base, size, out);
}

static int page_sleep(sqlite3_vfs *vfs, int microseconds) {
    sqlite3_vfs *base = base_of(vfs);
    return base->xSleep(base, microseconds);
}

static int page_time(sqlite3_vfs *vfs, double *out) {
    sqlite3_vfs *base = base_of(vfs);
    return base->xCurrentTime(base, out);
}

static int page_error(sqlite3_vfs *vfs, int size, char *out) {
    sqlite3_vfs *base = base_of(vfs);
    return base->xGetLastError(base, size, out);
}

struct store_pages *hr_pages_new(const char *base_name, uint32_t page_bytes) {
    sqlite3_vfs *base = sqlite3_vfs_find(base_name);
    if (base == NULL) {
        return NULL;
    }
    struct store_pages *pages = hr_alloc(sizeof *pages);
    pages->base = base;
    pages->page_bytes = page_bytes;
    pages->held = hr_alloc(STORE_WRITE_BYTES);
    pages->backfill = hr_backfill_new(page_bytes);
    snprintf(pages->name, sizeof pages->name, "headrace-%p", (void *)pages);
    pages->vfs = (sqlite3_vfs){.iVersion = 1,
                               .szOsFile = FILE_BYTES + base->szOsFile,
                               .mxPathname = base->mxPathname,
                               .zName = pages->name,
                               .pAppData = pages,
                               .xOpen = page_open,
                               .xDelete = page_delete,
                               .xAccess = page_access,
                               .xFullPathname = page_full_name,
                               .xRandomness = page_random,
                               .xSleep = page_sleep,
                               .xCurrentTime = page_time,
                               .xGetLastError = page_error};
    if (sqlite3_vfs_register(&pages->vfs, 0) != SQLITE_OK) {
        hr_backfill_free(pages->backfill);
        hr_free(pages->held);
        hr_free(pages);
        return NULL;
    }
    return pages;
}

void hr_pages_free(struct store_pages *take_pages) {
    if (take_pages != NULL) {
        sqlite3_vfs_unregister(&take_pages->vfs);
        hr_backfill_free(take_pages->backfill);
        hr_free(take_pages->held);
        hr_free(take_pages);
    }
}

const char *hr_pages_name(const struct store_pages *pages) {
    return pages->name;
}

uint64_t hr_pages_size(sqlite3_file *file) {
    page_file *self = opened(file);
    sqlite3_int64 size = 0;
    if (self == NULL || self->file.pMethods != &methods) {
        return 0;
    }
    if (self->size < 0 && file_size(file, &size) != SQLITE_OK) {
        return 0;
    }
    return (uint64_t)self->size;
}

uint32_t hr_pages_damaged(const struct store_pages *pages) {
    return pages->damaged;
}

static int by_length(const void *a, const void *b) {
    const uint64_t *left = a, *right = b;
    return *left < *right ? -1 : *left > *right;
}

void hr_pages_defer(struct store_pages *pages, bool defers) {
    pages->defers = defers;
}

bool hr_pages_defers(const struct store_pages *pages) {
    return pages->defers;
}

sqlite3_file *hr_pages_owed(struct store_pages *pages) {
    page_file *owed = pages->owed;
    pages->owed = NULL;
    return owed == NULL ? NULL : &owed->file;
}

int hr_pages_sync(sqlite3_file *file, uint64_t *out_ns, int *out_errno) {
    page_file *self = opened(file);
    int result = sync_base(self, SQLITE_SYNC_NORMAL, out_ns);
    *out_errno = 0;
    if (result != SQLITE_OK) {
        self->base->pMethods->xFileControl(self->base, SQLITE_FCNTL_LAST_ERRNO, out_errno);
    }
    return result;
}

int hr_pages_backfill(struct store_pages *pages, uint32_t sync_from) {
    if (pages->database == NULL || pages->wal == NULL || !pages->database->has_sums) {
        return SQLITE_OK;
    }
    return hr_backfill_run(pages->backfill, pages->wal->base, pages->database->base, sync_from);
}

uint32_t hr_pages_durable(struct store_pages *pages, uint32_t frames) {
    return hr_backfill_durable(pages->backfill, frames);
}

int hr_pages_checkpoint(struct store_pages *pages, sqlite3 *db, int *out_all, int *out_moved) {
    pages->is_moving = true;
    int result = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, out_all, out_moved);
    pages->is_moving = false;
    pages->passed = 0;
    return result;
}

void hr_pages_note_sync(struct store_pages *pages, uint64_t took_ns) {
    pages->sync_ns[pages->syncs++ % STORE_SYNCS] = took_ns;
}

uint64_t hr_pages_sync_ns(const struct store_pages *pages) {
    if (pages->syncs < STORE_SYNCS) {
        return 0;
    }
    uint64_t sorted[STORE_SYNCS];
    memcpy(sorted, pages->sync_ns, sizeof sorted);
    qsort(sorted, STORE_SYNCS, sizeof *sorted, by_length);
    return sorted[STORE_SYNCS / 2];
}

void hr_pages_grow(struct store_pages *pages, uint32_t from) {
    pages->grown = from;
}

int hr_pages_reserve(sqlite3 *db) {
    int bytes = STORE_PAGE_SUM;
    return sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &bytes);
}

void hr_pages_forgive(struct store_pages *pages, sqlite3 *db, bool is_lenient) {
    pages->is_lenient = is_lenient;
    sqlite3_db_release_memory(db); /* what was read so must not be taken for whole later */
}
