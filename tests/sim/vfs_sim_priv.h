/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the simulated disk know of each other: files in memory (vfs_sim_disk.c), what
 * SQLite calls (vfs_sim_sqlite.c), faults and what tests call (vfs_sim.c). */
#ifndef HR_TESTS_VFS_SIM_PRIV_H
#define HR_TESTS_VFS_SIM_PRIV_H

#include "core/buffer.h"
#include "tests/sim/vfs_sim.h"

#include <sqlite3.h>
#include <sys/stat.h>

enum {
    SECTOR = 512,
    FILES_MAX = 16,
    CHANGES_MAX = 32, /* to look through at each write */
    FOLDERS_MAX = 8   /* that are remembered */
};

/* A change that a sync has not made durable: bytes at an offset, or a truncate to it. What it wrote
 * is in now; the log holds what stood there, to take it back, and what it wrote once another change
 * goes over it (or always, when durable is a buffer of its own). */
typedef struct change {
    uint64_t at, size_before;
    size_t size, old_at, old_size, new_at;
    bool is_cut_off, has_new; /* is_cut_off: a truncate */
} change;

/* A file as its folder knows it: by the page cache it exists, by the platter it does between two
 * changes of the folder, one of which may be the last that became durable. */
typedef struct disk_file {
    char *name;          /* NULL: this place is free */
    char *was;           /* its name before the change `renamed`; NULL: this one */
    uint64_t born, gone; /* the changes that made its name and took it away; gone 0: none yet */
    uint64_t renamed;
    bool exists, is_wal;
    bool is_split; /* durable is a buffer of its own ... */
    bool is_lossy; /* ... and not now without changes: a sync failed or lied */
    hr_buffer now, durable, log;
    change *changes;
    size_t count, capacity;
    uint64_t changed_to; /* no change reaches beyond */
} disk_file;

typedef struct kept_file {
    char *name;
    hr_buffer bytes;
} kept_file;

struct hr_vfs_sim {
    sqlite3_vfs vfs;
    char *name;
    disk_file files[FILES_MAX];
    kept_file kept[HR_VFS_SIM_PLACES][FILES_MAX];
    uint64_t chance, calls, cut_at, fail_at, room, ballast_bytes;
    uint64_t names, names_synced; /* changes of the folder; up to this one they are durable */
    uint64_t read_in;             /* reads until one fails */
    char *lie, *ballast_path;
    struct stat synced[FOLDERS_MAX]; /* other folders, the last ones */
    size_t synced_count;
    bool is_cut, is_kill, has_failed_read;
    int cut_call;
};

bool vfs_sim_has_suffix(const char *name, const char *suffix);

/* vfs_sim_disk.c */
disk_file *vfs_sim_find(hr_vfs_sim *sim, const char *name); /* NULL: none */
disk_file *vfs_sim_make(hr_vfs_sim *sim, const char *name);
void vfs_sim_unlink(hr_vfs_sim *sim, disk_file *file);
/* In one change: after a power cut it has one name or the other, and `to` is what it was or this.
 */
void vfs_sim_rename(hr_vfs_sim *sim, disk_file *file, const char *to);
void vfs_sim_drop(disk_file *file); /* as if it never was; its buffers stay for the next one */
/* A sync of the folder: what was made and deleted is durable, unless it lies. */
void vfs_sim_names_synced(hr_vfs_sim *sim);
/* A power cut: of the changes since, those up to one, or of each name those up to one. */
void vfs_sim_choose_names(hr_vfs_sim *sim);
/* Notes a change before it is done: size bytes at an offset, or (bytes NULL) a truncate to it. */
void vfs_sim_log(disk_file *file, uint64_t at, const void *bytes, size_t size);
void vfs_sim_put(hr_buffer *buffer, uint64_t at, const uint8_t *bytes, size_t size);
void vfs_sim_resize(hr_buffer *buffer, uint64_t size);
void vfs_sim_synced(disk_file *file);   /* what was written is durable */
void vfs_sim_unsynced(disk_file *file); /* a sync lied or failed: now and durable part */
void vfs_sim_forget(disk_file *file);   /* the changes not synced */
void vfs_sim_survive(hr_vfs_sim *sim, disk_file *file); /* a power cut */

/* vfs_sim_sqlite.c */
/* A sync of the folder, which counts as a call. false: it failed. */
bool vfs_sim_sync_names(hr_vfs_sim *sim, bool is_wal);
void vfs_sim_register(hr_vfs_sim *sim);
void vfs_sim_unregister(hr_vfs_sim *sim);

#endif
