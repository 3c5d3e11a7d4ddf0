/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/vfs_sim.h"

#include "broker/store.h"
#include "core/buffer.h"
#include "core/error.h"
#include "core/memory.h"

#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

enum { SECTOR = 512, FILES_MAX = 8, CHANGES_MAX = 32 /* to look through at each write */ };

/* A change that a sync has not made durable: bytes at an offset, or a truncate to it. What it wrote
 * is in now; the log holds what stood there, to take it back, and what it wrote once another change
 * goes over it (or always, when durable is a buffer of its own). */
typedef struct change {
    uint64_t at, size_before;
    size_t size, old_at, old_size, new_at;
    bool is_cut_off, has_new; /* is_cut_off: a truncate */
} change;

typedef struct sim_file {
    char *name;
    bool exists, is_wal;
    bool is_split; /* durable is a buffer of its own ... */
    bool is_lossy; /* ... and not now without changes: a sync failed or lied */
    hr_buffer now, durable, log;
    change *changes;
    size_t count, capacity;
    uint64_t changed_to; /* no change reaches beyond */
} sim_file;

typedef struct kept_file {
    char *name;
    hr_buffer bytes;
} kept_file;

struct hr_vfs_sim {
    sqlite3_vfs vfs;
    char *name;
    sim_file files[FILES_MAX];
    kept_file kept[HR_VFS_SIM_PLACES][FILES_MAX];
    uint64_t chance, calls, cut_at, fail_at, room, ballast_bytes;
    uint64_t read_in; /* reads until one fails */
    char *lie, *ballast_path;
    bool is_cut, is_kill, has_failed_read;
    int cut_call;
};

typedef struct open_file {
    sqlite3_file base;
    hr_vfs_sim *sim;
    sim_file *file;
    bool deletes;
} open_file;

/* ---- chance and faults ---- */

uint64_t hr_vfs_sim_chance(hr_vfs_sim *sim) {
    uint64_t x = sim->chance += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static bool has_suffix(const char *name, const char *suffix) {
    size_t size = strlen(name), more = suffix == NULL ? 0 : strlen(suffix);
    return suffix != NULL && size >= more && strcmp(name + size - more, suffix) == 0;
}

/* Counts a call that changes something. false: it must fail. */
static bool may_change(hr_vfs_sim *sim, bool is_wal, int call, bool *out_cut) {
    *out_cut = false;
    if (sim->is_cut) {
        return false;
    }
    sim->calls++;
    if (sim->calls == sim->cut_at) {
        sim->is_cut = *out_cut = true;
        sim->cut_call = call + (is_wal ? (int)HR_VFS_SIM_WAL : 0);
        return false;
    }
    return sim->calls != sim->fail_at;
}

/* ---- files ---- */

static void resize(hr_buffer *buffer, uint64_t size) {
    if (size > buffer->size) {
        size_t more = (size_t)size - buffer->size;
        memset(hr_buffer_room(buffer, more), 0, more);
    }
    buffer->size = (size_t)size;
}

static void put(hr_buffer *buffer, uint64_t at, const uint8_t *bytes, size_t size) {
    if (at > buffer->size) {
        resize(buffer, at);
    }
    if (at + size > buffer->size) {
        hr_buffer_room(buffer, (size_t)at + size - buffer->size);
        buffer->size = (size_t)at + size;
    }
    memcpy(buffer->bytes + at, bytes, size);
}

/* Keeps what a change wrote before another goes over it. */
static void keep_new(sim_file *file, change *each) {
    if (!each->has_new && !each->is_cut_off) {
        each->has_new = true;
        each->new_at = file->log.size;
        hr_buffer_add(&file->log, file->now.bytes + each->at, each->size);
    }
}

static void apply(hr_buffer *to, const sim_file *file, const change *each) {
    if (each->is_cut_off) {
        resize(to, each->at);
    } else {
        put(to, each->at, file->log.bytes + each->new_at, each->size);
    }
}

/* Some of the sectors of a write. */
static void apply_torn(hr_vfs_sim *sim, hr_buffer *to, const sim_file *file, const change *each) {
    for (size_t done = 0; done < each->size;) {
        size_t part = SECTOR - (size_t)((each->at + done) % SECTOR);
        part = part < each->size - done ? part : each->size - done;
        if (hr_vfs_sim_chance(sim) % 2 == 0) {
            put(to, each->at + done, file->log.bytes + each->new_at + done, part);
        }
        done += part;
    }
}

static void forget_changes(sim_file *file) {
    file->count = 0;
    file->log.size = 0;
    file->changed_to = 0;
}

/* Takes all changes back, newest first. */
static void undo(hr_buffer *in, const sim_file *file) {
    for (size_t i = file->count; i > 0; i--) {
        const change *each = &file->changes[i - 1];
        resize(in, each->size_before);
        if (each->old_size > 0) {
            put(in, each->at, file->log.bytes + each->old_at, each->old_size);
        }
    }
}

static void keep_all_new(sim_file *file) {
    for (size_t i = 0; i < file->count; i++) {
        keep_new(file, &file->changes[i]);
    }
}

/* From now on durable is a buffer of its own. */
static void split(sim_file *file) {
    if (file->is_split) {
        return;
    }
    keep_all_new(file);
    file->durable.size = 0;
    hr_buffer_add(&file->durable, file->now.bytes, file->now.size);
    undo(&file->durable, file);
    file->is_split = true;
}

/* Notes a change before it is done: size bytes at an offset, or a truncate to it. */
static void log_change(sim_file *file, uint64_t at, const void *bytes, size_t size) {
    if (file->count == file->capacity) {
        file->capacity = file->capacity == 0 ? 64 : file->capacity * 2;
        file->changes = hr_realloc(file->changes, file->capacity * sizeof *file->changes);
    }
    uint64_t before = file->now.size;
    bool is_cut_off = bytes == NULL;
    uint64_t end = is_cut_off ? UINT64_MAX : at + size;
    if (at < file->changed_to && file->count > CHANGES_MAX) {
        split(file);
    }
    for (size_t i = 0; !file->is_split && at < file->changed_to && i < file->count; i++) {
        change *each = &file->changes[i];
        if (each->at < end && at < each->at + each->size) {
            keep_new(file, each);
        }
    }
    change *made = &file->changes[file->count++];
    *made = (change){.at = at, .size = size, .size_before = before, .is_cut_off = is_cut_off};
    if (file->is_split) {
        made->has_new = true;
        made->new_at = file->log.size;
        hr_buffer_add(&file->log, bytes, size);
    } else if (at < before) {
        made->old_at = file->log.size;
        made->old_size = (size_t)((end < before ? end : before) - at);
        hr_buffer_add(&file->log, file->now.bytes + at, made->old_size);
    }
    file->changed_to = at + size > file->changed_to ? at + size : file->changed_to;
}

static void make_durable(sim_file *file) {
    for (size_t i = 0; file->is_lossy && i < file->count; i++) {
        apply(&file->durable, file, &file->changes[i]);
    }
    file->is_split = file->is_lossy;
    forget_changes(file);
}

static void survive(hr_vfs_sim *sim, sim_file *file) {
    uint64_t mood = hr_vfs_sim_chance(sim) % 4; /* 0: nothing survives, 1: all, else some */
    if (file->is_split) {
        file->now.size = 0;
        hr_buffer_add(&file->now, file->durable.bytes, file->durable.size);
    } else {
        keep_all_new(file);
        undo(&file->now, file);
    }
    for (size_t i = file->count; mood >= 2 && i > 1; i--) { /* the disk's own order */
        size_t other = (size_t)(hr_vfs_sim_chance(sim) % i);
        change held = file->changes[i - 1];
        file->changes[i - 1] = file->changes[other];
        file->changes[other] = held;
    }
    for (size_t i = 0; mood != 0 && i < file->count; i++) {
        uint64_t fate = mood == 1 ? 0 : hr_vfs_sim_chance(sim) % 3;
        if (fate == 0) {
            apply(&file->now, file, &file->changes[i]);
        } else if (fate == 1) {
            apply_torn(sim, &file->now, file, &file->changes[i]);
        }
    }
    forget_changes(file);
    file->is_split = file->is_lossy = false;
}

static sim_file *find_file(hr_vfs_sim *sim, const char *name) {
    for (size_t i = 0; i < FILES_MAX; i++) {
        if (sim->files[i].exists && strcmp(sim->files[i].name, name) == 0) {
            return &sim->files[i];
        }
    }
    return NULL;
}

/* Its buffers stay for the next one. */
static void drop_file(sim_file *file) {
    hr_free(file->name);
    file->name = NULL;
    file->exists = file->is_split = file->is_lossy = false;
    file->now.size = 0;
    forget_changes(file);
}

static sim_file *make_file(hr_vfs_sim *sim, const char *name) {
    sim_file *file = sim->files;
    while (file->exists) {
        file++;
        HR_ASSERT(file < sim->files + FILES_MAX);
    }
    file->exists = true;
    file->name = hr_copy_text(name);
    file->is_wal = has_suffix(name, "-wal");
    return file;
}

/* ---- methods of a file ---- */

static open_file *opened(sqlite3_file *file) {
    return (open_file *)file;
}

static int file_close(sqlite3_file *base) {
    open_file *file = opened(base);
    if (file->deletes && !file->sim->is_cut) {
        drop_file(file->file);
    }
    return SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *out, int size, sqlite3_int64 at) {
    const open_file *file = opened(base);
    const hr_buffer *now = &file->file->now;
    size_t want = (size_t)size, from = (size_t)at;
    size_t there = from >= now->size ? 0 : now->size - from;
    if (file->sim->is_cut) {
        return SQLITE_IOERR_READ;
    }
    if (file->sim->read_in > 0 && --file->sim->read_in == 0) {
        file->sim->has_failed_read = true;
        return SQLITE_IOERR_CORRUPTFS;
    }
    there = there < want ? there : want;
    if (there > 0) {
        memcpy(out, now->bytes + from, there);
    }
    memset((uint8_t *)out + there, 0, want - there);
    return there == want ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static uint64_t room_left(const hr_vfs_sim *sim) {
    uint64_t room = sim->room, used = hr_vfs_sim_used(sim);
    if (room == UINT64_MAX) {
        return room;
    }
    if (sim->ballast_path != NULL && access(sim->ballast_path, F_OK) != 0) {
        room += sim->ballast_bytes;
    }
    return room > used ? room - used : 0;
}

static bool has_room(const hr_vfs_sim *sim, const sim_file *file, uint64_t end) {
    return end <= file->now.size || end - file->now.size <= room_left(sim);
}

static int file_write(sqlite3_file *base, const void *bytes, int size, sqlite3_int64 at) {
    const open_file *file = opened(base);
    bool is_cut = false, may = may_change(file->sim, file->file->is_wal, HR_VFS_SIM_WRITE, &is_cut);
    if (!may && !is_cut) {
        return SQLITE_IOERR_WRITE;
    }
    if (!has_room(file->sim, file->file, (uint64_t)at + (uint64_t)size)) {
        return is_cut ? SQLITE_IOERR_WRITE : SQLITE_FULL;
    }
    log_change(file->file, (uint64_t)at, bytes, (size_t)size); /* the cut finds it under way */
    put(&file->file->now, (uint64_t)at, bytes, (size_t)size);
    return may ? SQLITE_OK : SQLITE_IOERR_WRITE;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size) {
    const open_file *file = opened(base);
    bool is_cut = false;
    if (!may_change(file->sim, file->file->is_wal, HR_VFS_SIM_TRUNCATE, &is_cut)) {
        return SQLITE_IOERR_TRUNCATE;
    }
    log_change(file->file, (uint64_t)size, NULL, 0);
    resize(&file->file->now, (uint64_t)size);
    return SQLITE_OK;
}

static int file_sync(sqlite3_file *base, int flags) {
    (void)flags;
    const open_file *file = opened(base);
    bool is_cut = false;
    if (!may_change(file->sim, file->file->is_wal, HR_VFS_SIM_SYNC, &is_cut)) {
        if (!is_cut) { /* the kernel holds what it could not write for clean from now on */
            split(file->file);
            file->file->is_lossy = true;
            forget_changes(file->file);
        }
        return SQLITE_IOERR_FSYNC;
    }
    if (file->sim->lie == NULL || !has_suffix(file->file->name, file->sim->lie)) {
        make_durable(file->file);
    } else {
        split(file->file);
        file->file->is_lossy = true;
    }
    return SQLITE_OK;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *out) {
    *out = (sqlite3_int64)opened(base)->file->now.size;
    return opened(base)->sim->is_cut ? SQLITE_IOERR_FSTAT : SQLITE_OK;
}

static int file_lock(sqlite3_file *base, int level) {
    (void)base;
    (void)level;
    return SQLITE_OK;
}

static int file_reserved(sqlite3_file *base, int *out) {
    (void)base;
    *out = 0;
    return SQLITE_OK;
}

static int file_control(sqlite3_file *base, int op, void *data) {
    if (op != HR_STORE_ASK_ROOM) {
        return SQLITE_NOTFOUND;
    }
    *(uint64_t *)data = room_left(opened(base)->sim);
    return SQLITE_OK;
}

static int file_sector(sqlite3_file *base) {
    (void)base;
    return SECTOR;
}

static int file_traits(sqlite3_file *base) {
    (void)base;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
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
    .xUnlock = file_lock,
    .xCheckReservedLock = file_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_traits,
};

/* ---- methods of the VFS ---- */

static int sim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags,
                    int *out_flags) {
    hr_vfs_sim *sim = vfs->pAppData;
    open_file *out = opened(base);
    *out = (open_file){.sim = sim};
    if (sim->is_cut) {
        return SQLITE_CANTOPEN;
    }
    sim_file *file = name == NULL ? NULL : find_file(sim, name);
    if (file == NULL && (flags & SQLITE_OPEN_CREATE) == 0) {
        return SQLITE_CANTOPEN;
    }
    file = file == NULL ? make_file(sim, name == NULL ? "(unnamed)" : name) : file;
    out->file = file;
    out->deletes = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
    out->base.pMethods = &methods;
    if (out_flags != NULL) {
        *out_flags = flags;
    }
    return SQLITE_OK;
}

static int sim_delete(sqlite3_vfs *vfs, const char *name, int sync_dir) {
    (void)sync_dir;
    hr_vfs_sim *sim = vfs->pAppData;
    bool is_cut = false;
    sim_file *file = find_file(sim, name);
    if (!may_change(sim, has_suffix(name, "-wal"), HR_VFS_SIM_DELETE, &is_cut)) {
        return SQLITE_IOERR_DELETE;
    }
    if (file == NULL) {
        return SQLITE_IOERR_DELETE_NOENT;
    }
    drop_file(file);
    return SQLITE_OK;
}

static int sim_access(sqlite3_vfs *vfs, const char *name, int flags, int *out) {
    (void)flags;
    hr_vfs_sim *sim = vfs->pAppData;
    *out = find_file(sim, name) != NULL;
    return sim->is_cut ? SQLITE_IOERR_ACCESS : SQLITE_OK;
}

static int sim_full_name(sqlite3_vfs *vfs, const char *name, int size, char *out) {
    (void)vfs;
    return snprintf(out, (size_t)size, "%s", name) < size ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int sim_random(sqlite3_vfs *vfs, int size, char *out) {
    hr_vfs_sim *sim = vfs->pAppData;
    for (int i = 0; i < size; i++) {
        out[i] = (char)hr_vfs_sim_chance(sim);
    }
    return size;
}

static int sim_sleep(sqlite3_vfs *vfs, int microseconds) {
    (void)vfs;
    return microseconds;
}

static int sim_time(sqlite3_vfs *vfs, double *out) {
    (void)vfs;
    *out = 2461000.5; /* a day of 2025 */
    return SQLITE_OK;
}

static int sim_error(sqlite3_vfs *vfs, int size, char *out) {
    (void)vfs;
    (void)size;
    (void)out;
    return 0;
}

/* ---- for tests ---- */

hr_vfs_sim *hr_vfs_sim_new(const char *name) {
    hr_vfs_sim *sim = hr_alloc(sizeof *sim);
    sim->name = hr_copy_text(name);
    sim->room = UINT64_MAX;
    sim->vfs = (sqlite3_vfs){.iVersion = 1,
                             .szOsFile = (int)sizeof(open_file),
                             .mxPathname = 1024,
                             .zName = sim->name,
                             .pAppData = sim,
                             .xOpen = sim_open,
                             .xDelete = sim_delete,
                             .xAccess = sim_access,
                             .xFullPathname = sim_full_name,
                             .xRandomness = sim_random,
                             .xSleep = sim_sleep,
                             .xCurrentTime = sim_time,
                             .xGetLastError = sim_error};
    HR_ASSERT(sqlite3_vfs_register(&sim->vfs, 0) == SQLITE_OK);
    return sim;
}

void hr_vfs_sim_reset(hr_vfs_sim *sim, uint64_t seed) {
    for (size_t i = 0; i < FILES_MAX; i++) {
        drop_file(&sim->files[i]);
    }
    sim->chance = seed;
    sim->calls = sim->cut_at = sim->fail_at = sim->read_in = 0;
    sim->is_cut = sim->is_kill = sim->has_failed_read = false;
    sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, (int)(seed | 1), NULL);
    hr_vfs_sim_set_room(sim, UINT64_MAX, NULL, 0);
    hr_vfs_sim_lie(sim, NULL);
}

void hr_vfs_sim_one_thread(void) {
    HR_ASSERT(sqlite3_config(SQLITE_CONFIG_SINGLETHREAD) == SQLITE_OK);
    HR_ASSERT(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) == SQLITE_OK);
}

void hr_vfs_sim_keep(hr_vfs_sim *sim, unsigned place) {
    HR_ASSERT(place < HR_VFS_SIM_PLACES);
    for (size_t i = 0; i < FILES_MAX; i++) {
        const sim_file *file = &sim->files[i];
        kept_file *kept = &sim->kept[place][i];
        hr_free(kept->name);
        kept->name = hr_copy_text(file->name);
        kept->bytes.size = 0;
        if (file->exists) {
            HR_ASSERT(!file->is_split);
            hr_buffer_add(&kept->bytes, file->now.bytes, file->now.size);
        }
    }
}

void hr_vfs_sim_take_kept(hr_vfs_sim *sim, unsigned place) {
    HR_ASSERT(place < HR_VFS_SIM_PLACES);
    for (size_t i = 0; i < FILES_MAX; i++) {
        const kept_file *kept = &sim->kept[place][i];
        if (kept->name != NULL) {
            sim_file *file = make_file(sim, kept->name);
            hr_buffer_add(&file->now, kept->bytes.bytes, kept->bytes.size);
        }
    }
}

void hr_vfs_sim_free(hr_vfs_sim *sim) {
    if (sim == NULL) {
        return;
    }
    hr_vfs_sim_reset(sim, 0);
    sqlite3_vfs_unregister(&sim->vfs);
    for (size_t i = 0; i < FILES_MAX; i++) {
        hr_free(sim->files[i].changes);
        hr_buffer_fini(&sim->files[i].now);
        hr_buffer_fini(&sim->files[i].durable);
        hr_buffer_fini(&sim->files[i].log);
        for (size_t k = 0; k < HR_VFS_SIM_PLACES; k++) {
            hr_free(sim->kept[k][i].name);
            hr_buffer_fini(&sim->kept[k][i].bytes);
        }
    }
    hr_free(sim->name);
    hr_free(sim);
}

void hr_vfs_sim_cut_at(hr_vfs_sim *sim, uint64_t call) {
    sim->cut_at = call == 0 ? 0 : sim->calls + call;
    sim->is_kill = false;
}

void hr_vfs_sim_cut_now(hr_vfs_sim *sim, bool is_kill) {
    sim->is_kill = is_kill;
    if (!sim->is_cut) {
        sim->is_cut = true;
        sim->cut_call = -1;
    }
}

void hr_vfs_sim_kill_at(hr_vfs_sim *sim, uint64_t call) {
    hr_vfs_sim_cut_at(sim, call);
    sim->is_kill = true;
}

bool hr_vfs_sim_is_kill(const hr_vfs_sim *sim) {
    return sim->is_kill;
}

int hr_vfs_sim_cut_call(const hr_vfs_sim *sim) {
    return sim->cut_call;
}

bool hr_vfs_sim_is_cut(const hr_vfs_sim *sim) {
    return sim->is_cut;
}

void hr_vfs_sim_restart(hr_vfs_sim *sim) {
    for (size_t i = 0; i < FILES_MAX; i++) {
        if (sim->files[i].exists && !sim->is_kill) {
            survive(sim, &sim->files[i]);
        }
    }
    sim->is_cut = sim->is_kill = sim->has_failed_read = false;
    sim->cut_at = sim->fail_at = sim->read_in = 0;
}

void hr_vfs_sim_fail_at(hr_vfs_sim *sim, uint64_t call) {
    sim->fail_at = call == 0 ? 0 : sim->calls + call;
}

bool hr_vfs_sim_has_failed_read(const hr_vfs_sim *sim) {
    return sim->has_failed_read;
}

void hr_vfs_sim_fail_read(hr_vfs_sim *sim, uint64_t read) {
    sim->read_in = read;
    sim->has_failed_read = false;
}

void hr_vfs_sim_lie(hr_vfs_sim *sim, const char *suffix) {
    hr_free(sim->lie);
    sim->lie = hr_copy_text(suffix);
}

void hr_vfs_sim_set_room(hr_vfs_sim *sim, uint64_t bytes, const char *ballast_path,
                         uint64_t ballast_bytes) {
    sim->room = bytes;
    hr_free(sim->ballast_path);
    sim->ballast_path = hr_copy_text(ballast_path);
    sim->ballast_bytes = ballast_bytes;
}

uint64_t hr_vfs_sim_used(const hr_vfs_sim *sim) {
    uint64_t used = 0;
    for (size_t i = 0; i < FILES_MAX; i++) {
        used += sim->files[i].now.size;
    }
    return used;
}

uint64_t hr_vfs_sim_digest(const hr_vfs_sim *sim) {
    uint64_t sum = sim->chance;
    for (size_t i = 0; i < FILES_MAX; i++) {
        const sim_file *file = &sim->files[i];
        sum = hr_hash_more(sum, hr_slice_of(file->now.bytes, file->now.size));
        if (file->is_split) {
            sum = hr_hash_more(sum, hr_slice_of(file->durable.bytes, file->durable.size));
        }
    }
    return sum;
}

uint64_t hr_vfs_sim_calls(const hr_vfs_sim *sim) {
    return sim->calls;
}
