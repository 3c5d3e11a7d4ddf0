/* SPDX-License-Identifier: Apache-2.0 */
/* The WAL's way into the file, beside the commits.
 *
 * A checkpoint of SQLite copies pages from the WAL into the file and syncs them, and nothing can be
 * committed meanwhile. Most of that can be done before: a page of a commit that is durable may be
 * copied at any time, for nobody reads it in the file as long as the WAL has it, and after a crash
 * the WAL's copy counts. So a pass copies what became durable since the last one, and the
 * checkpoint is left with what came after it: it still says which pages belong into the file, asks
 * here which of them are there, and syncs the file before the WAL may begin anew (SQLite's
 * walCheckpoint() in wal.c, whose nBackfill the name is from).
 *
 * It holds as long as nobody reads an older state of the file than the newest: the store has one
 * connection, and no other process may open the file (locking_mode=EXCLUSIVE). */
#ifndef HR_BROKER_STORE_BACKFILL_H
#define HR_BROKER_STORE_BACKFILL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct store_backfill store_backfill;

store_backfill *hr_backfill_new(uint32_t page_bytes);
void hr_backfill_free(store_backfill *take_backfill);

/* So many bytes of the WAL are written. Thread: the writer's. */
void hr_backfill_note(store_backfill *backfill, const void *bytes, int size, sqlite3_int64 at);

/* So many frames of the WAL are durable. Returns how many of them no pass has looked at. Any
 * thread.
 */
uint32_t hr_backfill_durable(store_backfill *backfill, uint32_t frames);

/* The page that stands there in the WAL if the file has it as it stands there; 0: it has not, or it
 * is not a page. Any thread. */
uint32_t hr_backfill_page(store_backfill *backfill, int size, sqlite3_int64 at);

/* One pass: copies what is durable in the WAL and was not looked at into the file. Pages end with
 * their checksum. When so many frames are durable (sync_from) the file is synced too, so that the
 * checkpoint's sync finds little left; commits wait longer for theirs meanwhile. One thread at a
 * time, not beside a checkpoint. Returns SQLite's result. After anything but SQLITE_OK nothing may
 * be committed any more: an error of the kernel's is told once, and no later sync of the file can
 * be believed. A full disk is left to the checkpoint, which meets it again and makes room. */
int hr_backfill_run(store_backfill *backfill, sqlite3_file *wal, sqlite3_file *file,
                    uint32_t sync_from);

#endif
