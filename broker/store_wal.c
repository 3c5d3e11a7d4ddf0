/* SPDX-License-Identifier: Apache-2.0 */
/* The WAL before SQLite reads it: SQLite ends it without a word at the first frame that does not
 * fit, and whatever was acknowledged behind is gone.
 *
 * After each commit, which was synced, the mark says how many frames of which WAL (its salts) are
 * committed. The mark itself is not synced: it may be old after a power cut, but never says more
 * than is durable. So a WAL that holds less than its mark was damaged or cut, and a torn end behind
 * the mark is a commit that nobody was told of. Where the mark is old, three whole commits behind a
 * broken frame say the same, or two where it ends a commit itself: what is not synced is at most
 * the commit of that frame and the next (store_thread.c), and each has one end. For that the torn
 * end of an earlier life is cut off at each open. */
#include "broker/store_priv.h"

#include "core/crash.h"
#include "core/log.h"
#include "core/memory.h"

enum {
    UNSYNCED = 2,    /* commits that nobody was told of, at most */
    MARK_BYTES = 28, /* magic, salts, frames, is_moved, sum */
    MARK_MAGIC = 0x48524d4b,
    WAL_MAGIC = 0x377f0682, /* + 1: its checksums are over big-endian words */
    WAL_VERSION = 3007000,
    GENERATIONS = 4096 /* a WAL may be so many restarts newer than an old mark */
};

static uint32_t get_u32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void put_u32(uint8_t *bytes, uint32_t value) {
    for (int i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(value >> (24 - 8 * i));
    }
}

/* ---- files beneath SQLite ---- */

static hr_code file_fault(const hr_store *store, const char *suffix, int result, hr_error *err) {
    return hr_fail(err, HR_E_STORE_IO, result, "open of %s%s: %s", store->path, suffix,
                   sqlite3_errstr(result));
}

/* Opens a file by the VFS alone. *out_file NULL: it is not there. name lives as long as the file.
 */
static int open_file(const hr_store *store, const char *name, int flags, sqlite3_file **out_file) {
    sqlite3_vfs *vfs = sqlite3_vfs_find(store->options.vfs);
    int exists = 0, result = vfs == NULL ? SQLITE_CANTOPEN : SQLITE_OK;
    *out_file = NULL;
    if (result == SQLITE_OK) {
        result = vfs->xAccess(vfs, name, SQLITE_ACCESS_EXISTS, &exists);
    }
    if (result != SQLITE_OK || (exists == 0 && (flags & SQLITE_OPEN_CREATE) == 0)) {
        return result;
    }
    sqlite3_file *file = hr_alloc((size_t)vfs->szOsFile);
    int got = 0;
    result = vfs->xOpen(vfs, name, file, flags | SQLITE_OPEN_READWRITE | SQLITE_OPEN_WAL, &got);
    if (result == SQLITE_OK && (got & SQLITE_OPEN_READONLY) != 0) {
        result = SQLITE_CANTOPEN; /* its second try, where writing was refused */
    }
    if (result == SQLITE_OK) {
        *out_file = file;
        return SQLITE_OK;
    }
    if (file->pMethods != NULL) {
        file->pMethods->xClose(file);
    }
    hr_free(file);
    return result;
}

static void close_file(sqlite3_file *file) {
    if (file != NULL) {
        file->pMethods->xClose(file);
        hr_free(file);
    }
}

/* The path as SQLite ends the names of files. */
static char *file_name(const hr_store *store, const char *suffix) {
    hr_buffer name = {0};
    hr_buffer_print(&name, "%s%s", store->path, suffix);
    hr_buffer_add(&name, "\0\0", 3);
    char *out = hr_alloc(name.size);
    memcpy(out, name.bytes, name.size);
    hr_buffer_fini(&name);
    return out;
}

/* Writes a file over itself and syncs it. */
static int rewrite(sqlite3_file *file) {
    enum { CHUNK = 1 << 18 };
    sqlite3_int64 size = 0;
    int result = file->pMethods->xFileSize(file, &size);
    uint8_t *chunk = hr_alloc((size_t)(size < CHUNK ? size : CHUNK));
    for (sqlite3_int64 at = 0; result == SQLITE_OK && at < size; at += CHUNK) {
        int part = size - at < CHUNK ? (int)(size - at) : CHUNK;
        result = file->pMethods->xRead(file, chunk, part, at);
        if (result == SQLITE_OK) {
            result = file->pMethods->xWrite(file, chunk, part, at);
        }
    }
    hr_free(chunk);
    return result == SQLITE_OK && size > 0 ? file->pMethods->xSync(file, SQLITE_SYNC_NORMAL)
                                           : result;
}

hr_code hr_store_renew_wal(const hr_store *store, hr_error *err) {
    char *name = file_name(store, "-wal");
    sqlite3_file *file = NULL;
    int result = open_file(store, name, 0, &file);
    if (file != NULL) {
        result = rewrite(file);
    }
    close_file(file);
    hr_free(name);
    bool is_fine = result == SQLITE_OK || result == SQLITE_FULL; /* full: no worse than it was */
    return is_fine ? HR_OK : file_fault(store, "-wal", result, err);
}

/* ---- the mark ---- */

void hr_wal_read_mark(hr_slice bytes, store_wal_mark *out) {
    *out = (store_wal_mark){0};
    if (bytes.size < MARK_BYTES || get_u32(bytes.bytes) != MARK_MAGIC) {
        return;
    }
    uint64_t sum = hr_hash(hr_slice_of(bytes.bytes, MARK_BYTES - 8));
    uint64_t said = (uint64_t)get_u32(bytes.bytes + 20) << 32 | get_u32(bytes.bytes + 24);
    if (sum == said) {
        *out = (store_wal_mark){.salt = {get_u32(bytes.bytes + 4), get_u32(bytes.bytes + 8)},
                                .frames = get_u32(bytes.bytes + 12),
                                .is_moved = get_u32(bytes.bytes + 16) != 0};
    }
}

static void read_mark(const hr_store *store, store_wal_mark *out) {
    uint8_t bytes[MARK_BYTES] = {0};
    char *name = file_name(store, "-mark");
    sqlite3_file *file = NULL;
    *out = (store_wal_mark){0};
    if (open_file(store, name, 0, &file) == SQLITE_OK && file != NULL &&
        file->pMethods->xRead(file, bytes, MARK_BYTES, 0) == SQLITE_OK) {
        hr_wal_read_mark(hr_slice_of(bytes, MARK_BYTES), out);
    }
    close_file(file);
    hr_free(name);
}

bool hr_store_count_wal(hr_store *store, uint32_t frames, store_wal_mark *out) {
    enum { SALTS_AT = 16, SALTS = 8 };
    sqlite3_file *wal = NULL;
    uint8_t bytes[SALTS] = {0};
    if (!store->has_salts) {
        sqlite3_file_control(store->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);
        store->has_salts = wal != NULL && wal->pMethods != NULL &&
                           wal->pMethods->xRead(wal, bytes, SALTS, SALTS_AT) == SQLITE_OK;
        store->salt[0] = get_u32(bytes);
        store->salt[1] = get_u32(bytes + 4);
    }
    *out = (store_wal_mark){.salt = {store->salt[0], store->salt[1]}, .frames = frames};
    return store->has_salts;
}

int hr_store_mark(hr_store *store, const store_wal_mark *mark) {
    uint8_t bytes[MARK_BYTES];
    if (store->mark == NULL) {
        store->mark_name = store->mark_name == NULL ? file_name(store, "-mark") : store->mark_name;
        if (open_file(store, store->mark_name, SQLITE_OPEN_CREATE, &store->mark) != SQLITE_OK ||
            store->mark == NULL) {
            return SQLITE_OK; /* no room */
        }
    }
    put_u32(bytes, MARK_MAGIC);
    put_u32(bytes + 4, mark->salt[0]);
    put_u32(bytes + 8, mark->salt[1]);
    put_u32(bytes + 12, mark->frames);
    put_u32(bytes + 16, mark->is_moved ? 1 : 0);
    uint64_t sum = hr_hash(hr_slice_of(bytes, MARK_BYTES - 8));
    HR_CRASH_POINT("mark.write");
    put_u32(bytes + 20, (uint32_t)(sum >> 32));
    put_u32(bytes + 24, (uint32_t)sum);
    int result = store->mark->pMethods->xWrite(store->mark, bytes, MARK_BYTES, 0);
    return result == SQLITE_FULL ? SQLITE_OK : result; /* full: an old mark is true as well */
}

/* Deletes the mark for good. */
static bool forget(const hr_store *store) {
    sqlite3_vfs *vfs = sqlite3_vfs_find(store->options.vfs);
    char *name = file_name(store, "-mark");
    int exists = 0, result = vfs == NULL ? SQLITE_CANTOPEN : SQLITE_OK;
    if (result == SQLITE_OK) {
        result = vfs->xAccess(vfs, name, SQLITE_ACCESS_EXISTS, &exists);
    }
    if (result == SQLITE_OK && exists != 0) {
        result = vfs->xDelete(vfs, name, 1);
    }
    hr_free(name);
    return result == SQLITE_OK;
}

bool hr_store_unmark(hr_store *store, bool is_over) {
    close_file(store->mark);
    store->mark = NULL;
    hr_free(store->mark_name);
    store->mark_name = NULL;
    if (is_over) {
        HR_CRASH_POINT("mark.delete");
    }
    return !is_over || forget(store);
}

/* ---- the scan ---- */

static uint32_t get_word(bool big, const uint8_t *bytes) {
    uint32_t value = get_u32(bytes);
    return big ? value : __builtin_bswap32(value);
}

void hr_wal_sum(bool big, const uint8_t *bytes, size_t size, uint32_t sum[2]) {
    for (size_t i = 0; i + 8 <= size; i += 8) {
        sum[0] += get_word(big, bytes + i) + sum[1];
        sum[1] += get_word(big, bytes + i + 4) + sum[0];
    }
}

void hr_wal_read_head(const uint8_t bytes[STORE_WAL_HEAD], store_wal_head *out) {
    uint32_t magic = get_u32(bytes), sum[2] = {0, 0};
    uint16_t one = 1;
    bool is_magic = (magic & ~1u) == WAL_MAGIC;
    bool is_big_host = *(const uint8_t *)&one == 0;
    out->big = is_magic ? (magic & 1) != 0 : is_big_host;
    out->page_bytes = get_u32(bytes + 8);
    out->salt[0] = get_u32(bytes + 16);
    out->salt[1] = get_u32(bytes + 20);
    out->sum[0] = get_u32(bytes + 24);
    out->sum[1] = get_u32(bytes + 28);
    hr_wal_sum(out->big, bytes, 24, sum);
    out->is_whole = is_magic && get_u32(bytes + 4) == WAL_VERSION && sum[0] == out->sum[0] &&
                    sum[1] == out->sum[1];
}

void hr_wal_read_frame(const uint8_t *bytes, store_wal_frame *out) {
    *out = (store_wal_frame){.page = get_u32(bytes),
                             .pages = get_u32(bytes + 4),
                             .salt = {get_u32(bytes + 8), get_u32(bytes + 12)},
                             .sum = {get_u32(bytes + 16), get_u32(bytes + 20)}};
}

/* What stands in a WAL. */
typedef struct scan {
    bool exists, has_tail; /* tail: frames of this WAL behind its last whole commit */
    store_wal_head head;
    uint32_t page_bytes;
    uint32_t frames;    /* up to the last commit that SQLite will find */
    uint64_t broken_at; /* byte of the first frame that does not fit; 0: the head */
    bool is_end_broken; /* which ends a commit */
    uint32_t later;     /* commits behind it that are whole */
} scan;

/* A frame against the sum before it. */
static bool fits(const scan *s, const uint8_t *bytes, const store_wal_frame *frame,
                 const uint32_t before[2]) {
    uint32_t sum[2] = {before[0], before[1]};
    hr_wal_sum(s->head.big, bytes, 8, sum);
    hr_wal_sum(s->head.big, bytes + STORE_WAL_FRAME, s->page_bytes, sum);
    return sum[0] == frame->sum[0] && sum[1] == frame->sum[1];
}

static int scan_frames(sqlite3_file *file, sqlite3_int64 size, scan *s) {
    const sqlite3_int64 frame_bytes = STORE_WAL_FRAME + (sqlite3_int64)s->page_bytes;
    uint8_t *bytes = hr_alloc((size_t)frame_bytes);
    uint32_t before[2] = {s->head.sum[0], s->head.sum[1]}, number = 0, ours = 0;
    bool is_chain = s->head.is_whole;
    int result = SQLITE_OK;
    for (sqlite3_int64 at = STORE_WAL_HEAD; at + frame_bytes <= size; at += frame_bytes) {
        store_wal_frame frame;
        number++;
        result = file->pMethods->xRead(file, bytes, STORE_WAL_FRAME, at);
        if (result != SQLITE_OK) {
            break;
        }
        hr_wal_read_frame(bytes, &frame);
        if (number == 1 && !s->head.is_whole) {
            memcpy(s->head.salt, frame.salt, sizeof frame.salt);
        }
        bool is_ours = frame.salt[0] == s->head.salt[0] && frame.salt[1] == s->head.salt[1];
        if (is_ours) { /* else of an earlier WAL in the same file */
            result = file->pMethods->xRead(file, bytes + STORE_WAL_FRAME, (int)s->page_bytes,
                                           at + STORE_WAL_FRAME);
            if (result != SQLITE_OK) {
                break;
            }
        }
        bool is_whole = is_ours && fits(s, bytes, &frame, before);
        if (is_chain && !is_whole) {
            is_chain = false;
            s->broken_at = (uint64_t)at;
            s->is_end_broken = is_ours && frame.pages != 0;
        }
        if (is_whole && frame.pages != 0) {
            s->frames = is_chain ? number : s->frames;
            s->later += is_chain ? 0 : 1;
        }
        ours = is_ours ? number : ours;
        memcpy(before, frame.sum, sizeof before);
    }
    if (is_chain) { /* it ends without a fault */
        s->broken_at = (uint64_t)STORE_WAL_HEAD + (uint64_t)number * (uint64_t)frame_bytes;
    }
    s->has_tail = ours > s->frames;
    hr_free(bytes);
    return result;
}

static int scan_file(sqlite3_file *file, scan *s) {
    sqlite3_int64 size = 0;
    uint8_t head[STORE_WAL_HEAD];
    int result = file->pMethods->xFileSize(file, &size);
    if (result != SQLITE_OK || size < STORE_WAL_HEAD) {
        return result;
    }
    result = file->pMethods->xRead(file, head, STORE_WAL_HEAD, 0);
    if (result != SQLITE_OK) {
        return result;
    }
    s->exists = true;
    hr_wal_read_head(head, &s->head);
    s->head.is_whole = s->head.is_whole && s->head.page_bytes == s->page_bytes;
    return scan_frames(file, size, s);
}

static hr_code damaged(const hr_store *store, const char *what, uint64_t at, hr_error *err) {
    return hr_fail(err, HR_E_STORE_CORRUPT, 0,
                   "'%s-wal' %s (byte %llu), so commits that were acknowledged cannot be read; "
                   "'headrace recover' saves what can be saved",
                   store->path, what, (unsigned long long)at);
}

/* Does it hold all that it must? */
static hr_code judge(const hr_store *store, const scan *s, const store_wal_mark *m, bool is_empty,
                     hr_error *err) {
    bool is_marked =
        s->head.is_whole && s->head.salt[0] == m->salt[0] && s->head.salt[1] == m->salt[1];
    uint32_t restarts = s->head.salt[0] - m->salt[0];
    uint32_t ends = s->is_end_broken ? UNSYNCED - 1 : UNSYNCED; /* whole, of what is not synced */
    if (!s->exists && m->frames > 0) {
        return hr_fail(err, HR_E_STORE_CORRUPT, 0,
                       "'%s-wal' is missing, with commits that were acknowledged; 'headrace "
                       "recover' saves what the rest holds (if another SQLite program has read it "
                       "into the file, nothing is lost: delete '%s-mark' and start again)",
                       store->path, store->path);
    }
    if (s->exists && !s->head.is_whole && (m->frames > 0 || s->later > 0)) {
        return damaged(store, "is damaged", 0, err);
    }
    if (is_marked && m->is_moved) {
        return HR_OK; /* all of it is in the file */
    }
    if (s->later > ends || (is_marked && s->frames < m->frames)) {
        return damaged(store, "is damaged or was cut", s->broken_at, err);
    }
    if (m->frames > 0 && !is_marked && (restarts == 0 || restarts > GENERATIONS)) {
        return damaged(store, "belongs to another database", 16, err);
    }
    if (is_empty && s->frames > 0) {
        return hr_fail(err, HR_E_STORE_CORRUPT, 0,
                       "'%s' is empty, though its WAL is not: it was cut; 'headrace recover' saves "
                       "what can be saved",
                       store->path);
    }
    return HR_OK;
}

/* The file holds all of the WAL, and newer than what is left of it: SQLite must not read that. */
static int drop_wal(const hr_store *store, sqlite3_file *file) {
    hr_log(HR_LOG_WARN, "store", "'%s-wal' is damaged and goes: all of it is in the file already",
           store->path);
    int result = file->pMethods->xTruncate(file, 0);
    return result == SQLITE_OK ? file->pMethods->xSync(file, SQLITE_SYNC_NORMAL) : result;
}

/* What SQLite will not read goes now, so that it is never taken for later commits. */
static int cut_tail(const hr_store *store, sqlite3_file *file, const scan *s) {
    hr_log(HR_LOG_INFO, "store", "'%s-wal' ended in a commit that was not acknowledged (byte %llu)",
           store->path, (unsigned long long)s->broken_at);
    sqlite3_int64 frame = STORE_WAL_FRAME + (sqlite3_int64)s->page_bytes;
    return file->pMethods->xTruncate(file, STORE_WAL_HEAD + frame * (sqlite3_int64)s->frames);
}

/* flags: SQLITE_OPEN_CREATE makes it. */
static int is_file_empty(const hr_store *store, int flags, bool *out) {
    char *name = file_name(store, "");
    sqlite3_file *file = NULL;
    sqlite3_int64 size = 0;
    int result = open_file(store, name, flags, &file);
    if (result == SQLITE_OK && file != NULL) {
        result = file->pMethods->xFileSize(file, &size);
    }
    *out = size == 0;
    close_file(file);
    hr_free(name);
    return result;
}

hr_code hr_store_is_new(const hr_store *store, bool *out, hr_error *err) {
    int result = is_file_empty(store, SQLITE_OPEN_CREATE, out);
    return result == SQLITE_OK ? HR_OK : file_fault(store, "", result, err);
}

hr_code hr_store_check_wal(const hr_store *store, hr_error *err) {
    char *name = file_name(store, "-wal");
    sqlite3_file *file = NULL;
    scan s = {.page_bytes = store->options.page_bytes};
    store_wal_mark m = {0};
    bool is_empty = false;
    hr_code code = HR_OK;
    int result = open_file(store, name, 0, &file);
    if (result == SQLITE_OK && file != NULL) {
        result = scan_file(file, &s);
    }
    if (result == SQLITE_OK) {
        result = is_file_empty(store, 0, &is_empty);
    }
    if (result == SQLITE_OK) {
        read_mark(store, &m);
        code = judge(store, &s, &m, is_empty, err);
    }
    bool is_spent = m.is_moved && s.head.is_whole && s.frames < m.frames &&
                    s.head.salt[0] == m.salt[0] && s.head.salt[1] == m.salt[1];
    if (code == HR_OK && result == SQLITE_OK && is_spent) {
        result = drop_wal(store, file);
        s.frames = 0;
    } else if (code == HR_OK && result == SQLITE_OK && s.head.is_whole && s.has_tail) {
        result = cut_tail(store, file, &s);
    }
    close_file(file);
    hr_free(name);
    if (code == HR_OK && result == SQLITE_OK && s.frames == 0 && m.frames > 0 && !forget(store)) {
        result = SQLITE_IOERR_DELETE; /* its WAL is in the file; the next may have any salts */
    }
    return result == SQLITE_OK ? code : file_fault(store, "-wal", result, err);
}
