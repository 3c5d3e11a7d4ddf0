/* SPDX-License-Identifier: Apache-2.0 */
/* What SQLite calls of the simulated disk. */
#include "broker/store.h"
#include "core/error.h"
#include "core/memory.h"
#include "tests/sim/vfs_sim_priv.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <unistd.h>

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

bool vfs_sim_sync_names(hr_vfs_sim *sim, bool is_wal) {
    bool is_cut = false, may = may_change(sim, is_wal, HR_VFS_SIM_SYNC, &is_cut);
    if (may) {
        vfs_sim_names_synced(sim);
    }
    return may;
}

/* ---- methods of a file ---- */

typedef struct open_file {
    sqlite3_file base;
    hr_vfs_sim *sim;
    disk_file *file;
    bool deletes;
    bool syncs_names; /* at its next sync */
} open_file;

static open_file *opened(sqlite3_file *file) {
    return (open_file *)file;
}

static int file_close(sqlite3_file *base) {
    open_file *file = opened(base);
    if (file->deletes && !file->sim->is_cut) {
        vfs_sim_drop(file->file);
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

static bool has_room(const hr_vfs_sim *sim, const disk_file *file, uint64_t end) {
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
    vfs_sim_log(file->file, (uint64_t)at, bytes, (size_t)size); /* the cut finds it under way */
    vfs_sim_put(&file->file->now, (uint64_t)at, bytes, (size_t)size);
    return may ? SQLITE_OK : SQLITE_IOERR_WRITE;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size) {
    const open_file *file = opened(base);
    bool is_cut = false;
    if (!may_change(file->sim, file->file->is_wal, HR_VFS_SIM_TRUNCATE, &is_cut)) {
        return SQLITE_IOERR_TRUNCATE;
    }
    vfs_sim_log(file->file, (uint64_t)size, NULL, 0);
    vfs_sim_resize(&file->file->now, (uint64_t)size);
    return SQLITE_OK;
}

static int file_sync(sqlite3_file *base, int flags) {
    (void)flags;
    open_file *file = opened(base);
    bool is_cut = false;
    if (!may_change(file->sim, file->file->is_wal, HR_VFS_SIM_SYNC, &is_cut)) {
        if (!is_cut) { /* the kernel holds what it could not write for clean from now on */
            vfs_sim_unsynced(file->file);
            vfs_sim_forget(file->file);
        }
        return SQLITE_IOERR_FSYNC;
    }
    if (file->sim->lie == NULL || !vfs_sim_has_suffix(file->file->name, file->sim->lie)) {
        vfs_sim_synced(file->file);
    } else {
        vfs_sim_unsynced(file->file);
    }
    if (file->syncs_names) {
        vfs_sim_sync_names(file->sim, file->file->is_wal); /* SQLite does not look at it either */
        file->syncs_names = false;
    }
    return file->sim->is_cut ? SQLITE_IOERR_FSYNC : SQLITE_OK;
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
    disk_file *file = name == NULL ? NULL : vfs_sim_find(sim, name);
    const int journals = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL;
    if (file == NULL && (flags & SQLITE_OPEN_CREATE) == 0) {
        return SQLITE_CANTOPEN;
    }
    file = file == NULL ? vfs_sim_make(sim, name == NULL ? "(unnamed)" : name) : file;
    out->file = file;
    out->deletes = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
    out->syncs_names = (flags & SQLITE_OPEN_CREATE) != 0 && (flags & journals) != 0;
    out->base.pMethods = &methods;
    if (out_flags != NULL) {
        *out_flags = flags;
    }
    return SQLITE_OK;
}

static int sim_delete(sqlite3_vfs *vfs, const char *name, int sync_dir) {
    hr_vfs_sim *sim = vfs->pAppData;
    bool is_cut = false, is_wal = vfs_sim_has_suffix(name, "-wal");
    disk_file *file = vfs_sim_find(sim, name);
    if (!may_change(sim, is_wal, HR_VFS_SIM_DELETE, &is_cut)) {
        return SQLITE_IOERR_DELETE;
    }
    if (file == NULL) {
        return SQLITE_IOERR_DELETE_NOENT;
    }
    vfs_sim_unlink(sim, file);
    bool is_well = (sync_dir & 1) == 0 || vfs_sim_sync_names(sim, is_wal);
    return is_well ? SQLITE_OK : SQLITE_IOERR_DIR_FSYNC;
}

static int sim_access(sqlite3_vfs *vfs, const char *name, int flags, int *out) {
    hr_vfs_sim *sim = vfs->pAppData;
    const disk_file *file = vfs_sim_find(sim, name);
    *out = file != NULL && (flags != SQLITE_ACCESS_EXISTS || file->now.size > 0);
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

/* ---- the folder, which the store syncs by itself ---- */

static hr_vfs_sim *registered; /* the last one */

/* Is it what its files are named to be in? */
static bool is_folder(const hr_vfs_sim *sim, const struct stat *asked) {
    struct stat its;
    char path[1024] = "";
    for (size_t i = 0; i < FILES_MAX && path[0] == 0; i++) {
        if (sim->files[i].name != NULL && sim->files[i].name[0] == '/') {
            snprintf(path, sizeof path, "%s", sim->files[i].name);
        }
    }
    return path[0] != 0 && stat(dirname(path), &its) == 0 && its.st_dev == asked->st_dev &&
           its.st_ino == asked->st_ino;
}

bool hr_vfs_sim_has_synced(const hr_vfs_sim *sim, const char *folder) {
    struct stat asked;
    bool has = false;
    if (stat(folder, &asked) != 0) {
        return false;
    }
    for (size_t i = 0; i < FOLDERS_MAX && i < sim->synced_count; i++) {
        const struct stat *each = &sim->synced[i];
        has = has || (each->st_dev == asked.st_dev && each->st_ino == asked.st_ino);
    }
    return has;
}

int __real_fsync(int fd); /* NOLINT(bugprone-reserved-identifier): the linker's names */
int __wrap_fsync(int fd); /* NOLINT(bugprone-reserved-identifier) */

int __wrap_fsync(int fd) { /* NOLINT(bugprone-reserved-identifier) */
    struct stat asked;
    if (registered == NULL || fstat(fd, &asked) != 0 || !S_ISDIR(asked.st_mode)) {
        return __real_fsync(fd);
    }
    if (!is_folder(registered, &asked)) {
        registered->synced[registered->synced_count++ % FOLDERS_MAX] = asked;
        return __real_fsync(fd);
    }
    errno = EIO;
    return vfs_sim_sync_names(registered, false) ? 0 : -1;
}

int __real_rename(const char *from, const char *to); /* NOLINT(bugprone-reserved-identifier) */
int __wrap_rename(const char *from, const char *to); /* NOLINT(bugprone-reserved-identifier) */

/* Of a file that is not on the simulated disk: the real one. */
int __wrap_rename(const char *from, const char *to) { /* NOLINT(bugprone-reserved-identifier) */
    disk_file *file = registered == NULL ? NULL : vfs_sim_find(registered, from);
    if (file == NULL) {
        return __real_rename(from, to);
    }
    bool is_cut = false;
    errno = EIO;
    if (!may_change(registered, false, HR_VFS_SIM_RENAME, &is_cut)) {
        return -1;
    }
    vfs_sim_rename(registered, file, to);
    return 0;
}

void vfs_sim_unregister(hr_vfs_sim *sim) {
    sqlite3_vfs_unregister(&sim->vfs);
    registered = registered == sim ? NULL : registered;
}

void vfs_sim_register(hr_vfs_sim *sim) {
    registered = sim;
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
}
