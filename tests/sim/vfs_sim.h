/* SPDX-License-Identifier: Apache-2.0 */
/* A SQLite VFS whose disk is memory and fails as told: power cuts, I/O errors, no room, lies.
 *
 * A write reaches the page cache at once and the platter with a sync. A power cut keeps of the
 * writes not synced since what the seed says: each whole, in part (sectors of 512 bytes) or not at
 * all, in any order. What a failed sync should have written never becomes durable, though it is
 * read as if it were and later syncs say yes, as Linux does it.
 *
 * A file that was made or deleted is there or not after a power cut, one that was renamed has the
 * one name or the other, as the seed says, until the folder was synced: by a delete that asks for
 * it, by the first sync of a journal or WAL that was opened to be made (as SQLite's own VFS does
 * it, which tells nobody when that fails), or by an fsync() of the real folder that the files are
 * named to be in. The program must be linked with -Wl,--wrap=fsync,--wrap=rename. */
#ifndef HR_TESTS_VFS_SIM_H
#define HR_TESTS_VFS_SIM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct hr_vfs_sim hr_vfs_sim;

/* Registers a VFS of this name, empty; it lives until hr_vfs_sim_free(). One thread. */
hr_vfs_sim *hr_vfs_sim_new(const char *name);
void hr_vfs_sim_free(hr_vfs_sim *take_sim);

/* Forgets all files and faults; chance begins with seed. No file may be open. */
void hr_vfs_sim_reset(hr_vfs_sim *sim, uint64_t seed);

/* Before SQLite is used at all: no locks and statistics of its own, as one thread runs it. */
void hr_vfs_sim_one_thread(void);

/* Keeps the files (none open) in a place, as if all were synced; puts them into an empty disk. */
enum { HR_VFS_SIM_PLACES = 2 };
void hr_vfs_sim_keep(hr_vfs_sim *sim, unsigned place);
void hr_vfs_sim_take_kept(hr_vfs_sim *sim, unsigned place);

/* The power goes in the call-th write, sync (of the folder, too), truncate, delete or rename from
 * now (1: the next). From then on every call fails until hr_vfs_sim_restart(). */
void hr_vfs_sim_cut_at(hr_vfs_sim *sim, uint64_t call);
bool hr_vfs_sim_is_cut(const hr_vfs_sim *sim);
/* The same, but the process alone ends: the page cache is still there after the restart. */
void hr_vfs_sim_kill_at(hr_vfs_sim *sim, uint64_t call);
bool hr_vfs_sim_is_kill(const hr_vfs_sim *sim);
/* At once, between two calls. */
void hr_vfs_sim_cut_now(hr_vfs_sim *sim, bool is_kill);

/* In which call that was: hr_vfs_sim_call, + HR_VFS_SIM_WAL for the WAL; -1: between two. */
typedef enum hr_vfs_sim_call {
    HR_VFS_SIM_WRITE,
    HR_VFS_SIM_SYNC,
    HR_VFS_SIM_TRUNCATE,
    HR_VFS_SIM_DELETE,
    HR_VFS_SIM_RENAME,
    HR_VFS_SIM_WAL
} hr_vfs_sim_call;
int hr_vfs_sim_cut_call(const hr_vfs_sim *sim);

/* Power is back: the files hold what survived. Cuts the power first when it is still on (a kill at
 * rest). Files must be closed. */
void hr_vfs_sim_restart(hr_vfs_sim *sim);

/* The call-th of those calls (1: the next) fails with an I/O error, once; 0: none. */
void hr_vfs_sim_fail_at(hr_vfs_sim *sim, uint64_t call);

/* The read-th read (1: the next) fails as SQLite's own VFS tells EIO, once; 0: none. */
void hr_vfs_sim_fail_read(hr_vfs_sim *sim, uint64_t read);
bool hr_vfs_sim_has_failed_read(const hr_vfs_sim *sim); /* since that call */

/* Files whose name ends so say yes to a sync and do nothing; "/": the folder. NULL: all are
 * honest. */
void hr_vfs_sim_lie(hr_vfs_sim *sim, const char *suffix);

/* The disk has room for so many bytes of all files; while the file at ballast_path (a real one) is
 * away, ballast_bytes more. UINT64_MAX: no limit. */
void hr_vfs_sim_set_room(hr_vfs_sim *sim, uint64_t bytes, const char *ballast_path,
                         uint64_t ballast_bytes);
uint64_t hr_vfs_sim_used(const hr_vfs_sim *sim);

/* Was this folder synced by an fsync() since the disk was emptied? Not that of the files. */
bool hr_vfs_sim_has_synced(const hr_vfs_sim *sim, const char *folder);

/* A hash of all files and of the chance. */
uint64_t hr_vfs_sim_digest(const hr_vfs_sim *sim);

/* Such calls so far. */
uint64_t hr_vfs_sim_calls(const hr_vfs_sim *sim);

/* The next number of its chance. */
uint64_t hr_vfs_sim_chance(hr_vfs_sim *sim);

#endif
