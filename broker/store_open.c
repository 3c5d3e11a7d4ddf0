/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the store: folder, lock, schema. */
#include "broker/store_priv.h"

#include "broker/store_schema.inc"
#include "core/buffer.h"
#include "core/crash.h"
#include "core/log.h"
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- folder and lock ---- */

static bool sync_folder(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_synced = fd >= 0 && fsync(fd) == 0;
    int sys = errno;
    if (fd >= 0) {
        close(fd);
    }
    errno = sys;
    return is_synced;
}

/* Until the folder that holds a path is synced, a power cut may take the path along. */
hr_code hr_store_sync_folders(hr_store *store) {
    char *copy = hr_copy_text(store->options.dir), *path = copy;
    bool is_synced = true;
    for (uint32_t i = 0; is_synced && i < store->unsynced_folders; i++) {
        bool is_ours = i == 0 || access(path, R_OK) == 0;
        is_synced = !is_ours || sync_folder(path);
        if (!is_synced) {
            store->is_damaged = false;
            snprintf(store->why, sizeof store->why, "sync of folder '%.100s': %s", path,
                     strerror(errno));
        }
        path = dirname(path);
    }
    store->unsynced_folders = is_synced ? 0 : store->unsynced_folders;
    hr_free(copy);
    return is_synced ? HR_OK : HR_E_STORE_IO;
}

/* Makes what is missing of the path. It, what holds it, and of each folder that is made here the
 * one above what holds it (which a start that was killed may have made) are to be synced. */
static hr_code make_folder(hr_store *store, hr_error *err) {
    char *path = hr_copy_text(store->options.dir);
    hr_code code = HR_OK;
    uint32_t made = 0;
    for (char *at = path + 1; code == HR_OK; at++) {
        if (*at != '/' && *at != 0) {
            continue;
        }
        char held = *at;
        *at = 0;
        bool is_made = mkdir(path, 0700) == 0;
        if (!is_made && errno != EEXIST) {
            code =
                hr_fail(err, HR_E_STORE_IO, errno, "make folder '%s': %s", path, strerror(errno));
        }
        made += is_made ? 1 : 0;
        *at = held;
        if (held == 0) {
            break;
        }
    }
    store->unsynced_folders = made + 2;
    hr_free(path);
    return code;
}

static hr_code take_lock(hr_store *store, hr_error *err) {
    char *path = hr_format("%s/lock", store->options.dir);
    hr_code code = HR_OK;
    char text[32] = "";
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store->lock_fd < 0) {
        code = hr_fail(err, HR_E_STORE_IO, errno, "open '%s': %s", path, strerror(errno));
    } else if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t size = pread(store->lock_fd, text, sizeof text - 1, 0);
        text[size > 0 ? size : 0] = 0;
        code = hr_fail(err, HR_E_STORE_LOCKED, 0, "'%s' is in use by process %d",
                       store->options.dir, (int)strtol(text, NULL, 10));
    } else {
        int size = snprintf(text, sizeof text, "%10d\n", (int)getpid()); /* over what is there */
        if (pwrite(store->lock_fd, text, (size_t)size, 0) != size) {
            /* a full disk: the lock holds without its text */
            hr_log(HR_LOG_DEBUG, "store", "cannot write '%s': %s", path, strerror(errno));
        }
    }
    hr_free(path);
    return code;
}

/* ---- schema ---- */

static hr_code read_number(hr_store *store, const char *text, int64_t *out) {
    sqlite3_stmt *statement = hr_store_prepare(store, "%s", text);
    int result = statement == NULL ? sqlite3_errcode(store->db) : sqlite3_step(statement);
    if (result == SQLITE_ROW) {
        *out = sqlite3_column_int64(statement, 0);
    }
    sqlite3_finalize(statement);
    return result == SQLITE_ROW ? HR_OK : hr_store_fault(store, result);
}

/* A step that was released is never changed: a new one is added behind it. */
static const char *const schema_steps[] = {store_schema_0001, store_schema_0002};
_Static_assert(sizeof schema_steps / sizeof *schema_steps == STORE_SCHEMA, "a step a version");

/* What stands behind this line of a step is done to each journal. */
static const char for_each_journal[] = "-- for each journal:\n", journal_name[] = "journal_N";

static hr_code add_step(hr_store *store, const char *step, hr_buffer *text) {
    const char *each = strstr(step, for_each_journal);
    hr_buffer_add(text, step, each == NULL ? strlen(step) : (size_t)(each - step));
    hr_buffer_print(text, ";");
    if (each == NULL) {
        return HR_OK;
    }
    sqlite3_stmt *feeds = hr_store_prepare(store, "SELECT id FROM feed WHERE kind = 'journal'");
    int result = feeds == NULL ? sqlite3_errcode(store->db) : SQLITE_DONE;
    while (feeds != NULL && (result = sqlite3_step(feeds)) == SQLITE_ROW) {
        const char *from = each, *name = NULL;
        for (; (name = strstr(from, journal_name)) != NULL; from = name + strlen(journal_name)) {
            hr_buffer_add(text, from, (size_t)(name - from));
            hr_buffer_print(text, "journal_%lld", (long long)sqlite3_column_int64(feeds, 0));
        }
        hr_buffer_print(text, "%s;", from);
    }
    sqlite3_finalize(feeds);
    return hr_store_fault(store, result);
}

/* Takes the file to the newest schema, a transaction a step. */
static hr_code migrate(hr_store *store, int64_t version) {
    hr_code code = HR_OK;
    for (int64_t i = version; code == HR_OK && i < store->options.step_count; i++) {
        hr_buffer text = {0};
        int64_t pages = 0;
        hr_buffer_print(&text, "BEGIN IMMEDIATE;");
        code = add_step(store, store->options.steps[i], &text);
        hr_buffer_print(&text, "PRAGMA application_id=%d;PRAGMA user_version=%d;COMMIT;",
                        STORE_APPLICATION, (int)i + 1);
        code = code == HR_OK ? read_number(store, "PRAGMA page_count", &pages) : code;
        hr_pages_grow(store->pages, (uint32_t)pages);
        code = code == HR_OK ? hr_store_exec(store, hr_buffer_text(&text)) : code;
        hr_pages_grow(store->pages, 0);
        hr_buffer_fini(&text);
    }
    return code;
}

/* Reads the file's schema version and refuses what is not ours. */
static hr_code check_schema(hr_store *store, int64_t *out_version, hr_error *err) {
    int64_t application = 0, version = 0;
    hr_code code = read_number(store, "PRAGMA application_id", &application);
    if (code == HR_OK) {
        code = read_number(store, "PRAGMA user_version", &version);
    }
    if (code != HR_OK) {
        return hr_store_fail(store, code, err, "open");
    }
    if (application != STORE_APPLICATION || version < 1) {
        return hr_fail(err, HR_E_STORE_CORRUPT, 0, "'%s' is not a store of headrace", store->path);
    }
    if (version > store->options.step_count) {
        return hr_fail(err, HR_E_STORE_NEWER, 0,
                       "'%s' has schema %lld, this headrace knows up to %u: use a newer headrace",
                       store->path, (long long)version, store->options.step_count);
    }
    *out_version = version;
    return HR_OK;
}

static hr_code read_id(hr_store *store, hr_error *err) {
    sqlite3_stmt *statement = hr_store_prepare(store, "SELECT value FROM meta WHERE key = 'id'");
    int result = statement == NULL ? sqlite3_errcode(store->db) : sqlite3_step(statement);
    if (result != SQLITE_ROW) {
        hr_code code = hr_store_fault(store, result);
        sqlite3_finalize(statement);
        return hr_store_fail(store, code == HR_OK ? HR_E_STORE_CORRUPT : code, err, "read the id");
    }
    hr_slice id = hr_store_column(statement, 0);
    memcpy(store->id, id.bytes, id.size < 32 ? id.size : 32);
    sqlite3_finalize(statement);
    return HR_OK;
}

static int note_wal(void *data, sqlite3 *db, const char *name, int frames) {
    (void)db;
    (void)name;
    hr_store *store = data;
    store->wal_frames = frames;
    store_wal_mark mark;
    store->is_unmarked = hr_pages_defers(store->pages);
    if (!store->is_unmarked && hr_store_count_wal(store, (uint32_t)frames, &mark)) {
        hr_store_put_mark(store, &mark);
    }
    return SQLITE_OK;
}

/* Written to by whoever met damage in a running daemon. A start could only meet it again, with the
 * same events in between: so there is none. */
static char *verdict_path(const hr_store *store) {
    return hr_format("%s/damaged", store->options.dir);
}

void hr_store_condemn(const hr_store *store, const char *why) {
    char *path = verdict_path(store);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, why, strlen(why)) < 0 || fsync(fd) != 0) {
        hr_log(HR_LOG_DEBUG, "store", "cannot write '%s': %s", path, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    hr_free(path);
}

static hr_code check_verdict(const hr_store *store, hr_error *err) {
    char *path = verdict_path(store);
    char why[160] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    hr_code code = HR_OK;
    if (fd >= 0) {
        ssize_t size = read(fd, why, sizeof why - 1);
        why[size > 0 ? size : 0] = 0;
        close(fd);
        code = hr_fail(err, HR_E_STORE_CORRUPT, 0,
                       "%s: %s; 'headrace recover' saves what can be saved", store->path, why);
    }
    hr_free(path);
    return code;
}

/* What is appended to must be readable to its end, or the first event would stop the daemon. A feed
 * whose journal holds more than its row may be behind has an old row: so has who knows what. */
static hr_code check_ends(hr_store *store, hr_error *err) {
    int64_t last = 0;
    hr_code code = read_number(store, "SELECT coalesce(max(id), 0) FROM dead", &last);
    if (code == HR_OK) {
        code = read_number(store, "SELECT coalesce(max(id), 0) FROM parked", &last);
    }
    for (size_t i = 0; code == HR_OK && i < store->feed_count; i++) {
        const store_feed *feed = &store->feeds[i];
        if (feed->lag_bytes >= STORE_LAG_BYTES) {
            return hr_fail(err, HR_E_STORE_CORRUPT, 0,
                           "%s is damaged: feed %u holds more than it says; 'headrace recover' "
                           "saves what can be saved",
                           store->path, feed->id);
        }
    }
    for (size_t i = 0; code == HR_OK && i < store->cursor_count; i++) {
        const store_cursor *cursor = &store->cursors[i];
        const store_feed *feed = hr_store_feed(store, cursor->feed);
        if (feed != NULL && !feed->pull && cursor->low > feed->next) {
            return hr_fail(err, HR_E_STORE_CORRUPT, 0,
                           "%s is damaged: the journal of feed %u ends before what function %u has "
                           "handled; 'headrace recover' saves what can be saved",
                           store->path, feed->id, cursor->function);
        }
    }
    return code == HR_OK ? HR_OK : hr_store_fail(store, code, err, "read");
}

/* A connection; store->db, which is closed with the store. */
static hr_code connect_to(hr_store *store, const char *path, hr_error *err) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int result = sqlite3_open_v2(path, &store->db, flags, hr_pages_name(store->pages));
    if (result != SQLITE_OK) {
        hr_store_fault(store, result);
        return hr_store_fail(store, HR_E_STORE_IO, err, "open");
    }
    if (sqlite3_db_readonly(store->db, "main") ==
        1) { /* SQLite's second try, where writing failed */
        return hr_fail(err, HR_E_STORE_IO, 0, "open of %s: it cannot be written", path);
    }
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    /* Debian's SQLite is built to fill what it frees with zeros: each page of history that goes
       would be written once more, into the WAL and into the file. */
    hr_code code = hr_store_exec(store, "PRAGMA locking_mode=EXCLUSIVE;PRAGMA mmap_size=0;"
                                        "PRAGMA cache_size=-4096;PRAGMA temp_store=MEMORY;"
                                        "PRAGMA secure_delete=OFF");
    return code == HR_OK ? HR_OK : hr_store_fail(store, code, err, "open");
}

/* Syncs a file that was just made, and looks at its head: SQLite tells nobody when it could not set
 * the size of pages or what they reserve. */
static int finish_file(const hr_store *store) {
    enum { PAGE_SIZE = 16, VERSIONS = 18, RESERVED = 20, INCREMENTAL = 67, HEAD = 100 };
    uint8_t head[HEAD];
    sqlite3_file *file = NULL;
    int result = sqlite3_file_control(store->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (result == SQLITE_OK) {
        result = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
    }
    if (result == SQLITE_OK) {
        result = file->pMethods->xRead(file, head, HEAD, 0);
    }
    if (result != SQLITE_OK) {
        return result;
    }
    uint32_t page_bytes = (uint32_t)head[PAGE_SIZE] << 8 | head[PAGE_SIZE + 1];
    bool is_meant = page_bytes == store->options.page_bytes && head[VERSIONS] == 2 &&
                    head[VERSIONS + 1] == 2 && head[RESERVED] == STORE_PAGE_SUM &&
                    head[INCREMENTAL] != 0;
    return is_meant ? SQLITE_OK : SQLITE_IOERR;
}

/* An empty store in an empty file, synced once: nobody knows of it before. */
static hr_code fill_file(hr_store *store) {
    char text[120];
    snprintf(text, sizeof text,
             "PRAGMA journal_mode=MEMORY;PRAGMA synchronous=OFF;PRAGMA page_size=%u",
             (unsigned)store->options.page_bytes);
    hr_code code = hr_store_exec(store, text);
    if (code == HR_OK) { /* before the other, or it is too late */
        code = hr_pages_reserve(store->db) == SQLITE_OK
                   ? hr_store_exec(store, "PRAGMA auto_vacuum=INCREMENTAL")
                   : HR_E_STORE_IO;
    }
    code = code == HR_OK ? migrate(store, 0) : code;
    code = code == HR_OK ? hr_store_exec(store, "PRAGMA journal_mode=WAL") : code;
    return code == HR_OK ? hr_store_fault(store, finish_file(store)) : code;
}

/* A new file gets its name when it is whole and durable: whatever ends this, there is none or all
 * of it. The name is made durable before the first commit (hr_store_sync_folders). */
static hr_code make_file(hr_store *store, hr_error *err) {
    sqlite3_vfs *vfs = sqlite3_vfs_find(store->options.vfs);
    char *path = hr_format("%s.new", store->path);
    int result = vfs->xDelete(vfs, path, 0); /* of a start that was killed */
    hr_code code = HR_OK;
    if (result != SQLITE_OK && result != SQLITE_IOERR_DELETE_NOENT) {
        code = hr_fail(err, HR_E_STORE_IO, result, "delete '%s': %s", path, sqlite3_errstr(result));
    }
    if (code == HR_OK) {
        code = connect_to(store, path, err);
    }
    if (code == HR_OK) {
        code = fill_file(store);
        code = code == HR_OK ? HR_OK : hr_store_fail(store, code, err, "set up");
    }
    HR_ASSERT(sqlite3_close(store->db) == SQLITE_OK);
    store->db = NULL;
    if (code == HR_OK && rename(path, store->path) != 0) {
        code = hr_fail(err, HR_E_STORE_IO, errno, "rename '%s': %s", path, strerror(errno));
    }
    if (code != HR_OK) {
        vfs->xDelete(vfs, path, 0); /* the room it takes */
    }
    hr_free(path);
    return code;
}

static hr_code open_database(hr_store *store, hr_error *err) {
    hr_code code = check_verdict(store, err);
    if (code == HR_OK) {
        code = hr_store_check_wal(store, err);
    }
    if (code == HR_OK) {
        code = hr_store_renew_wal(store, err);
    }
    if (code != HR_OK) {
        return code;
    }
    store->pages = hr_pages_new(store->options.vfs, store->options.page_bytes);
    if (store->pages == NULL) {
        return hr_fail(err, HR_E_STORE_IO, 0, "open of %s: no such VFS", store->path);
    }
    bool is_new = false;
    code = hr_store_is_new(store, &is_new, err);
    if (code == HR_OK && is_new) {
        code = make_file(store, err);
    }
    if (code == HR_OK) {
        code = connect_to(store, store->path, err);
    }
    int64_t version = 0;
    if (code == HR_OK) {
        code = check_schema(store, &version, err);
    }
    if (code != HR_OK) {
        return code;
    }
    code = hr_store_exec(store, "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;"
                                "PRAGMA wal_autocheckpoint=0");
    if (code == HR_OK) {
        code = migrate(store, version);
    }
    if (code != HR_OK) {
        return hr_store_fail(store, code, err, "set up");
    }
    HR_CRASH_POINT("store.opened");
    sqlite3_wal_hook(store->db, note_wal, store);
    return read_id(store, err);
}

/* ---- life ---- */

static hr_code open_all(hr_store *store, hr_error *err) {
    hr_code code = make_folder(store, err);
    if (code == HR_OK) {
        code = take_lock(store, err);
    }
    if (code == HR_OK) {
        code = open_database(store, err);
    }
    if (code != HR_OK) {
        return code;
    }
    int64_t seq = 0;
    code = hr_store_refresh(store, true);
    if (code == HR_OK) {
        code = read_number(store, "SELECT coalesce(max(seq), 0) FROM seen", &seq);
    }
    if (code != HR_OK) {
        return hr_store_fail(store, code, err, "read");
    }
    code = check_ends(store, err);
    if (code != HR_OK) {
        return code;
    }
    store->seen_seq = (uint64_t)seq;
    hr_store_judge_place(store);
    store->is_intake_open = hr_store_make_ballast(store);
    if (!store->is_intake_open) {
        hr_log(HR_LOG_WARN, "store", "the disk of '%s' has no room for the ballast: intake waits",
               store->options.dir);
        store->has_space_news = true;
    }
    return HR_OK;
}

/* A full disk gives back the ballast's room: the WAL and the largest transaction go into it (S6).
 * Two thirds and one third: of the default 96 MiB, 64 and 32. */
static uint64_t wal_max(const hr_store_options *options) {
    uint64_t share = options->ballast_bytes / 3 * 2;
    if (share == 0 || share > STORE_WAL_BYTES) {
        return STORE_WAL_BYTES;
    }
    return share < STORE_WAL_BYTES_LEAST ? STORE_WAL_BYTES_LEAST : share;
}

hr_code hr_store_open(const hr_store_options *options, hr_store **out_store, hr_error *err) {
    HR_ASSERT(options->dir != NULL && options->dir[0] != 0);
    hr_store *store = hr_alloc(sizeof *store);
    store->options = *options;
    store->options.dir = hr_copy_text(options->dir);
    store->options.vfs = hr_copy_text(options->vfs);
    store->options.page_bytes = options->page_bytes == 0 ? STORE_PAGE_BYTES : options->page_bytes;
    if (options->steps == NULL) {
        store->options.steps = schema_steps;
        store->options.step_count = STORE_SCHEMA;
    }
    store->wal_max_bytes = options->wal_max_bytes > 0 ? options->wal_max_bytes : wal_max(options);
    store->path = hr_format("%s/headrace.db", options->dir);
    store->ballast_path = hr_format("%s/ballast", options->dir);
    store->lock_fd = -1;
    store->is_intake_open = true;
    store->queue.last = &store->queue.first;
    store->ended.last = &store->ended.first;
    store->reads.last = &store->reads.first;
    store->answered.last = &store->answered.first;
    pthread_mutex_init(&store->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&store->wake, &attributes);
    pthread_cond_init(&store->drained, &attributes);
    pthread_cond_init(&store->backfill_wake, &attributes);
    pthread_cond_init(&store->job_done, &attributes);
    pthread_condattr_destroy(&attributes);
    hr_code code = open_all(store, err);
    if (code != HR_OK) {
        store->has_failed = true; /* what is there stays as it is */
        hr_store_free(store);
        return code;
    }
    *out_store = store;
    return HR_OK;
}

void hr_store_free(hr_store *store) {
    for (size_t i = 0; i < SQL_COUNT; i++) {
        sqlite3_finalize(store->sql[i]);
    }
    for (size_t i = 0; i < store->feed_count; i++) {
        sqlite3_finalize(store->feeds[i].insert);
        sqlite3_finalize(store->feeds[i].head);
        sqlite3_finalize(store->feeds[i].trim);
    }
    bool is_whole = store->db != NULL && !store->has_failed;
    /* before the WAL goes its mark must be gone; and closing must not trust a failed sync */
    if ((!hr_store_unmark(store, is_whole) || !is_whole) && store->db != NULL) {
        sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    }
    HR_ASSERT(sqlite3_close(store->db) == SQLITE_OK);
    hr_pages_free(store->pages);
    if (store->lock_fd >= 0) {
        close(store->lock_fd);
    }
    pthread_cond_destroy(&store->job_done);
    pthread_cond_destroy(&store->backfill_wake);
    pthread_cond_destroy(&store->drained);
    pthread_cond_destroy(&store->wake);
    pthread_mutex_destroy(&store->mutex);
    hr_buffer_fini(&store->row);
    hr_free(store->feeds);
    hr_free(store->cursors);
    hr_free(store->path);
    hr_free(store->ballast_path);
    void *dir = (void *)(uintptr_t)store->options.dir, *vfs = (void *)(uintptr_t)store->options.vfs;
    hr_free(dir);
    hr_free(vfs);
    hr_free(store);
}

const char *hr_store_id(const hr_store *store) {
    return store->id;
}
