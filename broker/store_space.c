/* SPDX-License-Identifier: Apache-2.0 */
/* Room: the ballast, the history that may go, the WAL; and what the disk under them is worth. */
#include "broker/store_priv.h"

#include "core/crash.h"
#include "core/log.h"
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    REOPEN_NS = 500000000, /* between two looks at a full disk */
    TRIMS_AT_ONCE = 16     /* of such a look */
};

/* ---- ballast ---- */

/* Bytes that no file system can shrink, so that the ballast really takes its room. */
static bool fill_file(int fd, uint64_t bytes) {
    enum { CHUNK = 1 << 20 };
    uint64_t *chunk = hr_alloc(CHUNK);
    uint64_t noise = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < CHUNK / sizeof *chunk; i++) {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        chunk[i] = noise;
    }
    bool is_written = true;
    for (uint64_t done = 0; is_written && done < bytes;) {
        chunk[0] = done;
        size_t size = bytes - done < CHUNK ? (size_t)(bytes - done) : CHUNK;
        ssize_t written = write(fd, chunk, size);
        if (written > 0) {
            done += (uint64_t)written;
        } else {
            is_written = written < 0 && errno == EINTR;
        }
    }
    hr_free(chunk);
    return is_written && fdatasync(fd) == 0;
}

/* Is all of it really there? A file may have holes. */
static bool is_reserved(const struct stat *file, uint64_t bytes) {
    return (uint64_t)file->st_size == bytes && (uint64_t)file->st_blocks * 512 >= bytes;
}

/* In a moment where the file system can reserve room, else written out. */
static bool reserve(int fd, uint64_t bytes) {
    struct stat made;
    if (fallocate(fd, 0, 0, (off_t)bytes) == 0 && fstat(fd, &made) == 0 &&
        is_reserved(&made, bytes)) {
        return true;
    }
    return ftruncate(fd, 0) == 0 && fill_file(fd, bytes);
}

bool hr_store_make_ballast(hr_store *store) {
    uint64_t bytes = store->options.ballast_bytes;
    struct stat found;
    if (bytes == 0) {
        return true;
    }
    if (stat(store->ballast_path, &found) == 0 && is_reserved(&found, bytes)) {
        store->has_ballast = true;
        return true;
    }
    char *path = hr_format("%s.new", store->ballast_path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool is_made = fd >= 0 && reserve(fd, bytes);
    if (fd >= 0) {
        close(fd);
    }
    is_made = is_made && rename(path, store->ballast_path) == 0;
    if (!is_made) {
        unlink(path);
    }
    hr_free(path);
    store->has_ballast = is_made;
    return is_made;
}

/* The intake opens or closes: the asker hears of it with the next ended work. */
static void set_intake(hr_store *store, bool open) {
    if (store->is_intake_open == open) {
        return;
    }
    pthread_mutex_lock(&store->mutex);
    store->is_intake_open = open;
    store->has_space_news = true;
    pthread_mutex_unlock(&store->mutex);
}

void hr_store_give_ballast(hr_store *store) {
    if (store->is_intake_open) {
        hr_log(HR_LOG_WARN, "store", "the disk of '%s' is full: intake stops", store->options.dir);
    }
    set_intake(store, false);
    if (store->has_ballast) {
        unlink(store->ballast_path);
        store->has_ballast = false;
    }
}

/* Free pages of the file go back to the disk; fewer at once when there is no room to move them. */
static void shrink_file(hr_store *store) {
    hr_code code = HR_E_STORE_FULL;
    for (int pages = 1024; code == HR_E_STORE_FULL && pages >= 16; pages /= 8) {
        char text[64];
        snprintf(text, sizeof text, "PRAGMA incremental_vacuum(%d)", pages);
        code = hr_store_exec(store, text);
    }
    if (code == HR_OK) {
        hr_store_checkpoint(store);
    } else if (code == HR_E_STORE_IO) {
        hr_store_fail_stop(store, "giving room back");
    }
}

/* What the disk has left; a made-up disk of a test says it itself. */
static uint64_t free_room(hr_store *store) {
    struct statvfs disk;
    uint64_t room = 0;
    if (sqlite3_file_control(store->db, "main", HR_STORE_ASK_ROOM, &room) == SQLITE_OK) {
        return room;
    }
    return statvfs(store->options.dir, &disk) == 0 ? (uint64_t)disk.f_bavail * disk.f_frsize : 0;
}

void hr_store_try_reopen(hr_store *store) {
    uint64_t now_ns = hr_store_mono_ns(store);
    bool is_early = store->has_threads && now_ns - store->looked_ns < REOPEN_NS;
    if (store->is_intake_open || store->has_failed || is_early) {
        return;
    }
    store->looked_ns = now_ns;
    uint64_t free_bytes = free_room(store);
    uint64_t needed = 2 * store->options.ballast_bytes;
    if (free_bytes < (needed > 4 << 20 ? needed : 4 << 20)) {
        for (int i = 0; i < TRIMS_AT_ONCE && hr_store_trim_idle(store); i++) {
            hr_store_checkpoint(store); /* so that the next one takes no more room in the WAL */
        }
        shrink_file(store);
        return;
    }
    if (hr_store_make_ballast(store)) {
        hr_log(HR_LOG_INFO, "store", "the disk of '%s' has room again: intake goes on",
               store->options.dir);
        set_intake(store, true);
    }
}

/* ---- history ---- */

/* Where the unsettled begins: below it no live function needs a row. */
static uint64_t history_end(const hr_store *store, const store_feed *feed) {
    uint64_t low = feed->next;
    for (size_t i = 0; i < store->cursor_count; i++) {
        const store_cursor *cursor = &store->cursors[i];
        low = cursor->feed == feed->id && cursor->low < low ? cursor->low : low;
    }
    return low;
}

static uint64_t journal_bytes(const hr_store *store) {
    uint64_t sum = 0;
    for (size_t i = 0; i < store->feed_count; i++) {
        sum += store->feeds[i].bytes;
    }
    return sum;
}

/* History goes in strides: when it is too much or too old by no little, until it is neither by as
 * much. Each commit that deletes writes pages beside those of its events. */
static uint64_t most_bytes(const hr_store *store, const store_feed *feed) {
    uint64_t most = store->options.journal_max_bytes, stride = most / STORE_TRIM_STRIDES;
    return most - (!feed->is_trimming ? 0 : stride < 1 << 20 ? stride : 1 << 20);
}

/* Rows from before this moment are too old. */
static int64_t oldest_ms(const hr_store *store, const store_feed *feed, int64_t now_ms) {
    int64_t keep_ms = store->options.journal_keep_ms, stride_ms = keep_ms / STORE_TRIM_STRIDES;
    return now_ms - keep_ms - (feed->is_trimming ? 0 : stride_ms < 1000 ? stride_ms : 1000);
}

static bool is_due(const hr_store *store, const store_feed *feed, int64_t now_ms, uint64_t total) {
    if (feed->pull || feed->is_stuck || feed->bytes == 0 ||
        feed->trim_from >= history_end(store, feed)) {
        return false;
    }
    if (!store->is_intake_open) {
        return true; /* a full disk: settled history goes first (S2) */
    }
    bool is_old =
        store->options.journal_keep_ms >= 0 && feed->oldest_at_ms < oldest_ms(store, feed, now_ms);
    return is_old || total > most_bytes(store, feed);
}

/* Deletes the oldest history of one feed, by rows: one that holds an unsettled event too stays.
 * Damage that is read is left alone from then on; where a DELETE meets it, in the neighbour of a
 * page that it empties, the tree is half mended and the transaction must not commit. */
static hr_code trim_feed(hr_store *store, store_feed *feed, size_t most, uint64_t *total,
                         size_t *out_deleted) {
    uint64_t end = history_end(store, feed), gone = 0, last = 0;
    int64_t now_ms = hr_store_real_us(store) / 1000;
    feed->is_trimming = true;
    bool goes_on = false;
    uint64_t most_kept = most_bytes(store, feed);
    int64_t edge = store->options.journal_keep_ms < 0 ? INT64_MIN : oldest_ms(store, feed, now_ms);
    uint64_t bytes = store->is_intake_open ? STORE_TRIM_BYTES : STORE_TRIM_BYTES_FULL;
    feed->trim_from = end;
    feed->oldest_at_ms = INT64_MIN;
    if (feed->head == NULL) {
        feed->head = hr_store_prepare(store,
                                      "SELECT pos, length(bytes), at_ms, more FROM journal_%u"
                                      " WHERE pos < ?1 ORDER BY pos",
                                      feed->id);
    }
    sqlite3_stmt *head = feed->head;
    hr_store_bind_u64(head, 1, end);
    int result = head == NULL ? sqlite3_errcode(store->db) : SQLITE_ROW;
    while (head != NULL && (result = sqlite3_step(head)) == SQLITE_ROW) {
        uint64_t position = hr_store_column_u64(head, 0), more = hr_store_column_u64(head, 3);
        int64_t at_ms = sqlite3_column_int64(head, 2);
        bool is_kept = store->is_intake_open && at_ms >= edge && *total - gone <= most_kept;
        bool is_open = position + more >= end;
        if (*out_deleted >= most || gone >= bytes || is_kept || is_open) {
            feed->trim_from = is_open ? end : position;
            feed->oldest_at_ms = at_ms;
            goes_on = !is_kept && !is_open;
            result = SQLITE_DONE;
            break;
        }
        last = position;
        gone += hr_store_column_u64(head, 1);
        *out_deleted += more + 1;
    }
    feed->is_trimming = goes_on;
    hr_code code = hr_store_fault(store, result);
    sqlite3_reset(head);
    if (code == HR_E_STORE_CORRUPT || code == HR_E_INVALID) {
        hr_log(HR_LOG_ERROR, "store", "the history of feed %u cannot be deleted: %s", feed->id,
               store->why);
        feed->is_stuck = true;
        *out_deleted = 0;
        return HR_OK;
    }
    if (code != HR_OK || *out_deleted == 0) {
        return code;
    }
    if (feed->trim == NULL) {
        feed->trim = hr_store_prepare(store, "DELETE FROM journal_%u WHERE pos <= ?1", feed->id);
    }
    hr_store_bind_u64(feed->trim, 1, last);
    code = hr_store_run(store, feed->trim);
    feed->bytes -= gone < feed->bytes ? gone : feed->bytes;
    feed->is_owed = true;
    *total -= gone < *total ? gone : *total;
    return code;
}

static hr_code trim_dead(hr_store *store, int64_t now_ms) {
    if (now_ms - store->trimmed_dead_ms < 60000) {
        return HR_OK;
    }
    store->trimmed_dead_ms = now_ms;
    sqlite3_stmt *delete = hr_store_prepare(
        store, "DELETE FROM dead WHERE id IN (SELECT id FROM dead WHERE (state <> 0 AND"
               " ended_ms < ?1) OR (?2 >= 0 AND at_ms < ?3) LIMIT 1024)");
    int64_t age = store->options.dead_max_age_ms;
    sqlite3_bind_int64(delete, 1, now_ms - STORE_DEAD_KEEP_MS);
    sqlite3_bind_int64(delete, 2, age);
    sqlite3_bind_int64(delete, 3, age < 0 ? 0 : now_ms - age);
    hr_code code = hr_store_run(store, delete);
    sqlite3_finalize(delete);
    return code;
}

hr_code hr_store_trim(hr_store *store, uint64_t incoming, size_t *events) {
    int64_t now_ms = hr_store_real_us(store) / 1000;
    uint64_t total = journal_bytes(store) + incoming;
    size_t most = *events;
    store->trims_more = false;
    for (size_t i = 0; i < store->feed_count; i++) {
        store_feed *feed = &store->feeds[i];
        size_t deleted = 0;
        if (!is_due(store, feed, now_ms, total)) {
            continue;
        }
        hr_code code = trim_feed(store, feed, most, &total, &deleted);
        *events -= deleted < *events ? deleted : *events;
        if (code != HR_OK) {
            return code;
        }
        store->trims_more = store->trims_more || is_due(store, feed, now_ms, total);
    }
    return HR_OK;
}

bool hr_store_trim_idle(hr_store *store) {
    int64_t now_ms = hr_store_real_us(store) / 1000;
    uint64_t total = journal_bytes(store);
    bool due = now_ms - store->trimmed_dead_ms >= 60000;
    for (size_t i = 0; !due && i < store->feed_count; i++) {
        due = is_due(store, &store->feeds[i], now_ms, total);
    }
    if (!due || store->has_failed) {
        return false;
    }
    size_t events = STORE_TRIM_EVENTS;
    hr_code code = hr_store_run(store, hr_store_sql(store, SQL_BEGIN));
    if (code == HR_OK) {
        code = hr_store_trim(store, 0, &events);
    }
    if (code == HR_OK) {
        code = trim_dead(store, now_ms);
    }
    if (code == HR_OK) {
        code = hr_store_flush_feeds(store, true);
    }
    if (code == HR_OK) {
        code = hr_store_run(store, hr_store_sql(store, SQL_COMMIT));
    }
    if (code == HR_OK) {
        return store->trims_more;
    }
    if (code != HR_E_STORE_FULL) {
        hr_store_fail_stop(store, "deleting history");
    } else {
        hr_store_give_ballast(store);
    }
    if (sqlite3_get_autocommit(store->db) == 0) {
        hr_store_run(store, hr_store_sql(store, SQL_ROLLBACK));
    }
    hr_store_read_again(store);
    return false;
}

bool hr_store_ages(const hr_store *store) {
    if (store->options.dead_max_age_ms >= 0) {
        return true;
    }
    for (size_t i = 0; store->options.journal_keep_ms >= 0 && i < store->feed_count; i++) {
        if (store->feeds[i].bytes > 0) {
            return true;
        }
    }
    return false;
}

/* ---- the WAL ---- */

static void move_wal(hr_store *store) {
    for (int tries = 0; !store->has_failed && tries < 2; tries++) {
        int all = 0, moved = 0;
        int result = hr_pages_checkpoint(store->pages, store->db, &all, &moved);
        hr_code code = result == SQLITE_OK ? HR_OK : hr_store_fault(store, result);
        if (code == HR_OK) {
            store->wal_frames = 0;
            store_wal_mark mark;
            if (all > 0 && all == moved && hr_store_count_wal(store, (uint32_t)all, &mark)) {
                mark.is_moved = true;
                hr_store_put_mark(store, &mark);
            }
            store->has_salts = false; /* the next commit may begin the WAL anew */
            HR_CRASH_POINT("store.checkpointed");
            return;
        }
        if (code != HR_E_STORE_FULL) {
            hr_store_fail_stop(store, "a checkpoint");
            return;
        }
        hr_store_give_ballast(store); /* and once more with its room */
    }
}

void hr_store_checkpoint(hr_store *store) {
    hr_store_catch_up(store);
    HR_CRASH_POINT("store.checkpoint");
    hr_store_hold_backfill(store, true);
    move_wal(store);
    hr_store_hold_backfill(store, false);
}

/* ---- what the disk is worth ---- */

void hr_store_judge_place(hr_store *store) {
    struct statfs found;
    store->has_judged = store->options.vfs != NULL; /* a test's disk */
    if (!store->has_judged && statfs(store->options.dir, &found) == 0 &&
        (found.f_type == TMPFS_MAGIC || found.f_type == RAMFS_MAGIC)) {
        hr_log(HR_LOG_WARN, "store", "'%s' is in memory: what is acknowledged goes with the power",
               store->options.dir);
        store->has_judged = true;
    }
}

void hr_store_judge_syncs(hr_store *store) {
    uint64_t took_ns = store->stats.sync_ns;
    if (took_ns == 0) {
        return;
    }
    store->has_judged = true;
    if (took_ns < STORE_SYNC_NS_LEAST) {
        hr_log(
            HR_LOG_WARN, "store",
            "a sync of '%s' takes %.1f us, too short for most disks: if it is ignored (a virtual "
            "disk that says so, eatmydata), a power cut takes acknowledged events with it",
            store->options.dir, (double)took_ns / 1000);
    }
}
