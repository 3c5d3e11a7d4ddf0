/* SPDX-License-Identifier: Apache-2.0 */
/* State shared by the files store*.c; for nobody else.
 *
 * The connection and all numbers belong to whoever runs the store: the caller before start and in
 * turns, the thread that has the pen after start (store_thread.c). Between the threads stand the
 * queues under the mutex. */
#ifndef HR_BROKER_STORE_PRIV_H
#define HR_BROKER_STORE_PRIV_H

#include "broker/store.h"
#include "broker/store_backfill.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

enum {
    STORE_SCHEMA = 2,               /* PRAGMA user_version */
    STORE_APPLICATION = 0x48524365, /* PRAGMA application_id */
    STORE_PAGE_BYTES = 16384,       /* of a file that is made, unless the options say otherwise */
    STORE_THREADS = 2,
    STORE_GROUP_EVENTS = 4096,
    STORE_GROUP_BYTES = 8 << 20,
    STORE_WAL_BYTES = 64 << 20,
    STORE_WAL_BYTES_LEAST = 512 << 10,
    STORE_BACKFILL_SHARE = 8, /* a pass for each eighth of the WAL */
    STORE_LAG_COMMITS = 16,   /* that a feed's own row is behind its journal, at most */
    STORE_LAG_BYTES = 1 << 20,
    STORE_TRIM_STRIDES = 64,     /* that history goes in, of a second and a MiB at most */
    STORE_TRIM_EVENTS = 1024,    /* of history, deleted at once, beside twice the appended ones */
    STORE_TRIM_BYTES = 16 << 20, /* and so much at most */
    STORE_TRIM_BYTES_FULL = 1 << 20, /* on a full disk, where deleting takes room too */
    STORE_READ_BYTES = 1 << 20,
    STORE_CORRUPT_MAX = 65536,         /* positions one read lists as corrupt */
    STORE_DEAD_KEEP_MS = 7 * 86400000, /* replayed and dropped dead letters */
    STORE_PAGE_SUM = 8,                /* at the end of each page of the file */
    STORE_SYNCS = 9,                   /* whose length is known; odd, for the middle one */
    STORE_SYNC_NS_LEAST = 30000,       /* hardly a disk is done sooner */
    STORE_WAL_HEAD = 32,
    STORE_WAL_FRAME = 24, /* before its page */
    /* What one write may be: seven frames; at least a page (64 KiB at most), and below the 128 KiB
       from which on SQLite's own VFS takes a size for what it is modulo 128 KiB. */
    STORE_WRITE_BYTES = 7 * (STORE_WAL_FRAME + STORE_PAGE_BYTES)
};

/* A feed's own numbers; SQLite holds them in the checkpoint row of function 0. What the journal
 * tells as well is written there with each STORE_LAG_COMMITS-th commit only, with all of
 * STORE_LAG_BYTES, and before the WAL goes into the file: a commit has a page less then. */
typedef struct store_feed {
    uint32_t id, epoch;
    bool pull, is_stuck; /* stuck: its history cannot be deleted */
    bool is_trimming;    /* a stride of its history is not done */
    bool is_behind;      /* the row is: the journal has events that it does not count */
    bool is_owed;        /* the row has more to say than the journal, with this commit */
    uint32_t lag_commits;
    uint64_t lag_bytes;
    uint64_t next, base, bytes;
    hr_counters counters;
    uint64_t trim_from;   /* nothing is kept below it */
    int64_t oldest_at_ms; /* of the row at or above it; INT64_MIN: unknown */
    uint32_t page_left;   /* room for a row in the last page; 0: not known */
    uint32_t row_size;    /* of the last row */
    /* live as long as the store */
    sqlite3_stmt *insert, *head, *trim;
} store_feed;

/* How far a live function is on a feed. */
typedef struct store_cursor {
    uint32_t function, feed;
    uint64_t low;
} store_cursor;

/* Statements that are used again and again. */
typedef enum store_sql {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_SAVE,
    SQL_SAVE_UNDO,
    SQL_SAVE_END,
    SQL_CHECKPOINT,
    SQL_BASE,
    SQL_FEED,
    SQL_PARK,
    SQL_UNPARK,
    SQL_DEAD,
    SQL_DEAD_END,
    SQL_SEEN,
    SQL_SEEN_TRIM,
    SQL_FIRE,
    SQL_READ_PARKED,
    SQL_FEEDS,
    SQL_CURSORS,
    SQL_COUNT
} store_sql;

/* Work done for the loop thread, which waits for it. */
typedef struct store_job {
    hr_code (*run)(hr_store *store, void *data, hr_error *err);
    void *data;
    hr_error *err;
    hr_code code;
    bool is_done;
    struct store_job *next;
} store_job;

/* A search that goes on over many turns. */
typedef struct store_find {
    hr_read *read;
    uint32_t feed; /* index in feeds, from the end */
    uint64_t below;
    uint32_t looked;
    struct store_find *next;
} store_find;

/* The one message that takes all ended work to the loop; outlives the store when it is on its way.
 */
typedef struct store_mail {
    hr_message message;
    hr_store *store; /* NULL: closed */
    bool is_posted;
} store_mail;

/* How many frames of which WAL are committed. */
typedef struct store_wal_mark {
    uint32_t salt[2], frames; /* frames 0: there is none */
    bool is_moved;            /* and all of them are in the file */
} store_wal_mark;

/* What a turn came to; told when all that was written before is durable. */
typedef struct store_outcome {
    hr_unit *units; /* with results that hold when it is */
    hr_read *reads;
    sqlite3_file *unsynced; /* the WAL, which holds the group; NULL: nothing is to be synced */
    uint32_t frames;        /* of it, with the group */
    store_wal_mark mark;    /* when it is */
} store_outcome;

typedef struct store_list_units {
    hr_unit *first, **last;
} store_list_units;
typedef struct store_list_reads {
    hr_read *first, **last;
} store_list_reads;

struct hr_store {
    hr_store_options options; /* dir is our own copy */
    char id[33];
    char *path, *ballast_path;
    int lock_fd;
    uint64_t wal_max_bytes;

    /* of the runner */
    struct store_pages *pages; /* the VFS of db */
    sqlite3 *db;
    sqlite3_stmt *sql[SQL_COUNT];
    store_feed *feeds;
    size_t feed_count;
    store_cursor *cursors;
    size_t cursor_count;
    uint64_t seen_seq;
    hr_buffer row; /* that is being written */
    int wal_frames;
    bool has_salts, is_unmarked; /* the last commit is, until it is synced */
    uint32_t salt[2];            /* of the WAL */
    char why[200];               /* the last error in words, */
    bool is_damaged;             /* and whether it was damage: a rollback clears SQLite's own */
    atomic_bool has_failed;      /* fail-stop: a write was not known to be durable */
    uint32_t unsynced_folders;   /* the state's and those above it */
    bool is_intake_open, has_ballast, trims_more;
    bool has_judged; /* what the disk is worth */
    int64_t trimmed_dead_ms;
    uint64_t looked_ns; /* for room on a full disk */
    store_find *finds;
    uint64_t groups, units, events;

    /* of whoever syncs */
    bool is_lost;       /* a sync failed: nothing behind it can be acknowledged */
    sqlite3_file *mark; /* open since the first commit */
    char *mark_name;    /* lives as long as it */

    /* between the threads, under mutex */
    pthread_mutex_t mutex;
    pthread_cond_t wake, drained, backfill_wake, job_done;
    pthread_t threads[STORE_THREADS + 1]; /* the last: the backfill's */
    size_t thread_count;
    bool has_threads, is_stopping, has_space_news;
    bool is_writing, is_syncing, has_written, is_tidy;
    bool must_backfill, is_backfilling, is_checkpointing;
    bool has_finds;        /* when the pen was put down */
    uint64_t rested_ns;    /* when the pen was put down last */
    store_outcome written; /* and not synced yet, if has_written */
    store_list_units queue, ended;
    store_list_reads reads, answered;
    store_job *jobs;
    hr_store_stats stats;
    store_mail *mail; /* NULL without a loop */
};

/* store.c */
/* Takes a group and all reads that wait, commits the one and answers the others. */
void hr_store_write(hr_store *store, store_outcome *out);
/* What is to be done between groups: the WAL into the file, the intake opened again. */
void hr_store_keep_up(hr_store *store);
/* Hands what ended to the loop, and wakes it once. */
void hr_store_tell(hr_store *store, const store_outcome *outcome);
void hr_store_make_mail(hr_store *store);
/* The time by the store's clocks. */
int64_t hr_store_real_us(const hr_store *store);
uint64_t hr_store_mono_ns(const hr_store *store);

/* store_thread.c */
/* Waits until all that is written is durable and told. By who has the pen. */
void hr_store_drain(hr_store *store);
/* No pass of the backfill begins, and none runs (or they may again). By who has the pen. */
void hr_store_hold_backfill(hr_store *store, bool holds);
bool hr_store_is_backfilling(hr_store *store);
/* Something came into a queue. Under the mutex. */
void hr_store_wake(hr_store *store);
/* Ends the threads, when what is queued is done. */
void hr_store_stop(hr_store *store);
/* What a group of a turn owes until it may be told. By who wrote it. */
void hr_store_owe(hr_store *store, store_outcome *out);
/* Makes it durable and tells it, or that it is not known to be. One thread at a time, in the order
 * in which they were written. */
void hr_store_finish(hr_store *store, store_outcome *outcome);
/* The mark, or fail-stop. */
void hr_store_put_mark(hr_store *store, const store_wal_mark *mark);
/* Runs a job by who has the pen, when all before it is durable, and waits for it. */
hr_code hr_store_do(hr_store *store, hr_code (*run)(hr_store *, void *, hr_error *), void *data,
                    hr_error *err);

/* store_open.c */
/* Makes the names of the files and of the folder durable, once: before anybody is told of a commit,
 * and in a new state before the WAL holds anything. Not at open, where the file system would write
 * its journal for this alone; behind a commit it has just done so. */
hr_code hr_store_sync_folders(hr_store *store);
/* Says that the state is damaged to all later starts, which could only meet it again. */
void hr_store_condemn(const hr_store *store, const char *why);
void hr_store_free(hr_store *take_store);

/* store_feeds.c */
store_feed *hr_store_feed(hr_store *store, uint32_t feed); /* NULL: unknown */
/* Feeds and cursors as the file has them; not is_all: of feeds that are known the epoch only. What
 * was known stays when it fails. */
hr_code hr_store_refresh(hr_store *store, bool is_all);
/* The same after a transaction that did not commit; fail-stop when it fails. */
void hr_store_read_again(hr_store *store);
/* In a transaction: writes the rows of feeds that are owed or far behind, or all that say less than
 * is known. */
hr_code hr_store_flush_feeds(hr_store *store, bool all);
/* Rows of feeds say all that is known. Nothing may be unsynced. */
void hr_store_catch_up(hr_store *store);

/* store_page.c: pages of the file with checksums */
/* A VFS above the one named (NULL: the default); NULL: there is none. It outlives its files. */
struct store_pages *hr_pages_new(const char *base_name, uint32_t page_bytes);
void hr_pages_free(struct store_pages *take_pages);
const char *hr_pages_name(const struct store_pages *pages);
/* The page that could not be read last; 0: none. */
uint32_t hr_pages_damaged(const struct store_pages *pages);
/* Bytes of a file of the connection, 0: it is not open. Asked of the disk once: from Linux 6.13 on,
 * a file whose times were asked for gets new ones with the next write, and ext4 then writes its
 * inode with the next sync, which takes half as long again. */
uint64_t hr_pages_size(sqlite3_file *file);
/* From here on (or no longer) a sync of a file that is not begun anew is owed: what it is to make
 * durable is written, and hr_pages_sync() is left to the caller. */
void hr_pages_defer(struct store_pages *pages, bool defers);
bool hr_pages_defers(const struct store_pages *pages);
/* The file that is owed one; asked once. NULL: none is. */
sqlite3_file *hr_pages_owed(struct store_pages *pages);
/* Makes what was written to it durable, beside any other call but itself. Returns SQLite's result;
 * *out_errno: the system's, 0: unknown. */
int hr_pages_sync(sqlite3_file *file, uint64_t *out_ns, int *out_errno);
/* Copies what is durable in the WAL into the file, beside any other call but hr_pages_checkpoint()
 * (store_backfill.h). Returns SQLite's result. */
int hr_pages_backfill(struct store_pages *pages, uint32_t sync_from);
/* So many frames of the WAL are durable. Returns how many are to be copied. Any thread. */
uint32_t hr_pages_durable(struct store_pages *pages, uint32_t frames);
/* Moves the rest of the WAL into the file and syncs it. Returns SQLite's result, as its
 * sqlite3_wal_checkpoint_v2() does. */
int hr_pages_checkpoint(struct store_pages *pages, sqlite3 *db, int *out_all, int *out_moved);
/* One took so long. */
void hr_pages_note_sync(struct store_pages *pages, uint64_t took_ns);
/* How long the newest syncs of what was written took, the middle one of them; 0: too few yet. */
uint64_t hr_pages_sync_ns(const struct store_pages *pages);
/* A transaction that makes more than one table begins, on a file of so many pages (0: it is over).
 * To keep the roots together SQLite moves pages that this transaction made, and reads the place
 * they left, where the file has nothing yet. */
void hr_pages_grow(struct store_pages *pages, uint32_t from);
/* Pages of a file that is new get room for their checksum. Returns SQLite's result. */
int hr_pages_reserve(sqlite3 *db);
/* Damaged pages are read as they are (or no longer). What they hold proves nothing. */
void hr_pages_forgive(struct store_pages *pages, sqlite3 *db, bool is_lenient);

/* store_page_sum.c: the checksum at the end of a page */
void hr_page_sign(uint32_t page, uint8_t *bytes, size_t size);
bool hr_page_is_whole(uint32_t page, const uint8_t *bytes, size_t size);
/* Does the file that begins with this page have checksums? Only states of the first days do not. */
bool hr_page_has_sums(uint8_t *first, size_t size);

/* store_wal.c */
typedef struct store_wal_head {
    bool big, is_whole; /* big: checksums over big-endian words */
    uint32_t page_bytes, salt[2], sum[2];
} store_wal_head;
typedef struct store_wal_frame {
    uint32_t page, pages; /* pages of the file after the commit that it ends, 0: it ends none */
    uint32_t salt[2], sum[2];
} store_wal_frame;
void hr_wal_read_head(const uint8_t bytes[STORE_WAL_HEAD], store_wal_head *out);
void hr_wal_read_frame(const uint8_t *bytes, store_wal_frame *out);
/* SQLite's checksum, continued in sum; size is a multiple of 8. */
void hr_wal_sum(bool big, const uint8_t *bytes, size_t size, uint32_t sum[2]);
/* Before SQLite opens the file: refuses a WAL that lacks what was acknowledged (HR_E_STORE_CORRUPT)
 * and cuts off what was not. */
hr_code hr_store_check_wal(const hr_store *store, hr_error *err);
/* Is the file empty? One that is not there is made, empty: nothing can be mistaken for that. */
hr_code hr_store_is_new(const hr_store *store, bool *out, hr_error *err);
/* Writes the WAL over itself. What a sync could not write is read by the next process as if it were
 * there, and later syncs say yes: the kernel holds it for clean. A commit that comes to stand
 * behind it would go with it when the power does. Written over itself it is durable before anything
 * is built on it. What the file has beyond the WAL was synced before it had its name, or before
 * the WAL went. */
hr_code hr_store_renew_wal(const hr_store *store, hr_error *err);
/* So many frames are in the WAL. false: it cannot be read. The writer's thread. */
bool hr_store_count_wal(hr_store *store, uint32_t frames, store_wal_mark *out);
/* They are durable. Returns SQLite's result. The thread that synced them. */
int hr_store_mark(hr_store *store, const store_wal_mark *mark);
void hr_wal_read_mark(hr_slice bytes, store_wal_mark *out);
/* Closes the mark; is_over: deletes it, since the WAL goes. false: it may still be there. */
bool hr_store_unmark(hr_store *store, bool is_over);

/* store_pack.c */
/* A row of a journal: one event, whose envelope is bytes; or many, in positions that follow each
 * other, in a packed form with a sum each. */
typedef struct store_row {
    uint32_t feed, count;
    uint64_t position, sum; /* of the first */
    hr_slice bytes;         /* lent */
    bool is_whole;          /* where its events lie is as it was written */
} store_row;
#define STORE_ROW_COLUMNS "pos, sum, more, at_ms, bytes" /* more: events but one */
enum { PACK_POSITION, PACK_SUM, PACK_MORE, PACK_AT_MS, PACK_BYTES };
/* How many events from there on one row takes: one, or as many as fit into so many bytes. */
uint32_t hr_pack_fit(const hr_batch *batch, uint32_t from, size_t room);
/* Bytes of the row of so many events. */
size_t hr_pack_size(const hr_batch *batch, uint32_t from, uint32_t count);
/* What the row of so many events is; out->bytes lie in the batch or the buffer. */
void hr_pack_write(const hr_batch *batch, uint32_t from, uint32_t count, hr_buffer *buffer,
                   store_row *out);
/* From a statement with STORE_ROW_COLUMNS; lent until step or reset. */
void hr_pack_read(uint32_t feed, sqlite3_stmt *row, store_row *out);
/* Says anew whether it is whole. */
void hr_pack_check(store_row *row);
/* Turns flipped bits back where a sum tells which they were, in a copy. Returns how many. */
uint32_t hr_pack_mend(store_row *row, hr_buffer *buffer);
/* The rows from that on which holds a position, or from the first above it, ascending; columns are
 * in terms of the table's, ?1 is the position. NULL: it cannot be prepared. */
sqlite3_stmt *hr_store_rows_from(hr_store *store, const char *columns, uint32_t feed,
                                 uint64_t from);
/* How many events a journal has at a position and above it. */
hr_code hr_store_count_events(hr_store *store, uint32_t feed, uint64_t from, uint64_t *out);
/* An event of a row that is whole. false: it is not what was stored. */
bool hr_pack_event(const store_row *row, uint32_t index, hr_slice *out);

/* store_names.c */
hr_code hr_store_make_journal(hr_store *store, uint32_t feed);

/* store_sql.c */
/* What the sum of a journal row is made of: the bytes and where they belong. */
uint64_t hr_store_sum(uint32_t feed, uint64_t position, hr_slice bytes);
/* Are these the bytes that were stored there? */
bool hr_store_is_whole(uint32_t feed, uint64_t position, hr_slice bytes, uint64_t sum);
/* The cached statement; NULL when it cannot be prepared. */
sqlite3_stmt *hr_store_sql(hr_store *store, store_sql which);
/* A fresh statement from a format (numbers only); NULL when it cannot be prepared. */
sqlite3_stmt *hr_store_prepare(hr_store *store, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Runs a statement that gives no rows, resets it and gives what it came to. NULL: an error. */
hr_code hr_store_run(hr_store *store, sqlite3_stmt *statement);
/* Runs a fixed text that gives no rows. */
hr_code hr_store_exec(hr_store *store, const char *text);
/* What a result of SQLite means; an error's words are kept in store->why, and go into err. */
hr_code hr_store_fault(hr_store *store, int result);
hr_code hr_store_fail(hr_store *store, hr_code code, hr_error *err, const char *what);
void hr_store_bind(sqlite3_stmt *statement, int index, hr_slice slice);
void hr_store_bind_u64(sqlite3_stmt *statement, int index, uint64_t value);
hr_slice hr_store_column(sqlite3_stmt *statement, int index); /* lent until step or reset */
uint64_t hr_store_column_u64(sqlite3_stmt *statement, int index);
void hr_store_counters_write(const hr_counters *counters, uint8_t out[sizeof(hr_counters)]);
void hr_store_counters_read(hr_slice bytes, hr_counters *out);

/* store_write.c */
/* Commits what can be committed of a list of units and sets the result of each. */
void hr_store_commit(hr_store *store, hr_unit *units);
/* Nothing more is written: said once. */
void hr_store_stop_for(hr_store *store, const char *what, const char *why, bool is_damaged);
/* The same; store->why says why. By who has the pen. */
void hr_store_fail_stop(hr_store *store, const char *what);

/* store_mutant.c */
#ifdef HEADRACE_MUTANTS
/* In place of hr_store_commit() when a seeded fault is alive. false: none concerns this group. */
bool hr_store_mutate(hr_store *store, hr_unit *units);
/* After a group was not written, or not synced. */
void hr_store_mutate_told(hr_unit *units);
/* After parked events were read. */
void hr_store_mutate_read(hr_store *store, const hr_read *read);
/* Is a sync that came to this tried again? */
bool hr_store_syncs_again(int result);
#else
#define hr_store_mutate(store, units)     false
#define hr_store_mutate_told(units)       ((void)0)
#define hr_store_mutate_read(store, read) ((void)0)
#define hr_store_syncs_again(result)      false
#endif

/* store_read.c */
/* Serves one read. false: it goes on with store->finds. */
bool hr_store_serve(hr_store *store, hr_read *read);
/* Lists the position as one that cannot be trusted. */
void hr_store_add_corrupt(hr_read *read, uint64_t position);

/* store_found.c: one kind of read each */
void hr_store_read_dead(hr_store *store, hr_read *read);
void hr_store_read_dead_one(hr_store *store, hr_read *read);
void hr_store_read_parked_at(hr_store *store, hr_read *read);
void hr_store_read_totals(hr_store *store, hr_read *read);
/* Queues a search behind those in store->finds. */
void hr_store_find(hr_store *store, hr_read *read);
/* One slice of a search; the read when it ended, or NULL. */
hr_read *hr_store_find_more(hr_store *store);

/* store_space.c */
/* Writes the ballast if it is missing and there is room. false: not there now. */
bool hr_store_make_ballast(hr_store *store);
/* The disk is full: gives the ballast away and closes the intake. */
void hr_store_give_ballast(hr_store *store);
/* While the intake is closed: gives room back, opens it again. */
void hr_store_try_reopen(hr_store *store);
/* Deletes history within a transaction, as if so many bytes were there already, and of a feed about
 * so many events at most; *events becomes what is left of that. */
hr_code hr_store_trim(hr_store *store, uint64_t incoming, size_t *events);
/* Deletes history in a transaction of its own. true: there is more. */
bool hr_store_trim_idle(hr_store *store);
/* Moves the WAL into the file. When all that is written is durable. */
void hr_store_checkpoint(hr_store *store);
/* Once, at the start: says that the state lies in memory. */
void hr_store_judge_place(hr_store *store);
/* Once, when so many syncs were made: says that they are too short to be true. */
void hr_store_judge_syncs(hr_store *store);
/* Something that only passing time makes due. */
bool hr_store_ages(const hr_store *store);

#endif
