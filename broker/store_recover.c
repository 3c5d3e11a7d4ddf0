/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/recover.h"

#include "broker/store_image.h"
#include "broker/store_priv.h"
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

enum { ROWS_AT_ONCE = 4096 };

typedef struct recovery {
    const hr_recovery *told;
    struct store_pages *pages;
    sqlite3 *from;
    hr_store *to;
    const char *table, *columns;
    uint32_t journal;     /* the feed whose journal is copied, 0: another table */
    bool has_rows_of_one; /* schema 1: a row of a journal is an event */
    store_row events;     /* of its row that is looked at */
    hr_buffer mended;     /* the bytes of that, when a bit of them was wrong */
    uint64_t saved, unproven, dropped, bad_bytes, turned;
    bool is_lenient;
} recovery;

/* What is to be done with a row. */
typedef enum verdict {
    ROW_TAKE,
    ROW_DROP,
    ROW_SPLIT,  /* of a journal: only those of its events that are whole, each in a row */
    ROW_DAMAGED /* where it stands nothing is to be trusted */
} verdict;
typedef verdict (*judge)(recovery *r, sqlite3_stmt *row);

static void __attribute__((format(printf, 3, 4)))
say(const recovery *r, bool is_loss, const char *format, ...) {
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    r->told->line(r->told->data, is_loss, text);
}

/* ---- rows ---- */

static int64_t number(sqlite3 *db, const char *text, int64_t first, int64_t second) {
    sqlite3_stmt *row = NULL;
    int64_t out = 0;
    sqlite3_prepare_v2(db, text, -1, &row, NULL);
    if (row != NULL) {
        sqlite3_bind_int64(row, 1, first);
        sqlite3_bind_int64(row, 2, second);
        out = sqlite3_step(row) == SQLITE_ROW ? sqlite3_column_int64(row, 0) : 0;
    }
    sqlite3_finalize(row);
    return out;
}

static int column_of(sqlite3_stmt *row, const char *name) {
    for (int i = 0; i < sqlite3_column_count(row); i++) {
        if (strcmp(sqlite3_column_name(row, i), name) == 0) {
            return i;
        }
    }
    return 0;
}

static sqlite3_stmt *insert_like(recovery *r, sqlite3_stmt *row) {
    hr_buffer text = {0}, marks = {0};
    hr_buffer_print(&text, "INSERT OR IGNORE INTO %s (", r->table);
    for (int i = 0; i < sqlite3_column_count(row); i++) {
        hr_buffer_print(&text, "%s%s", i == 0 ? "" : ", ", sqlite3_column_name(row, i));
        hr_buffer_print(&marks, "%s?%d", i == 0 ? "" : ", ", i + 1);
    }
    hr_buffer_print(&text, ") VALUES (%s)", hr_buffer_text(&marks));
    sqlite3_stmt *insert = NULL;
    sqlite3_prepare_v2(r->to->db, hr_buffer_text(&text), -1, &insert, NULL);
    hr_buffer_fini(&text);
    hr_buffer_fini(&marks);
    return insert;
}

static hr_code run_insert(recovery *r, sqlite3_stmt *insert, uint64_t count) {
    int before = sqlite3_total_changes(r->to->db);
    hr_code code = hr_store_run(r->to, insert);
    if (code == HR_E_INVALID) { /* a row that the table cannot hold */
        r->dropped += count;
        return HR_OK;
    }
    bool is_new = code == HR_OK && sqlite3_total_changes(r->to->db) != before;
    uint64_t saved = r->saved;
    r->saved += is_new ? count : 0;
    r->unproven += is_new && r->is_lenient ? count : 0;
    if (code == HR_OK && r->saved / ROWS_AT_ONCE != saved / ROWS_AT_ONCE) {
        code = hr_store_exec(r->to, "COMMIT;BEGIN");
    }
    return code;
}

static hr_code put_row(recovery *r, sqlite3_stmt *insert, sqlite3_stmt *row) {
    for (int i = 0; i < sqlite3_column_count(row); i++) {
        sqlite3_bind_value(insert, i + 1, sqlite3_column_value(row, i));
    }
    return run_insert(r, insert, r->journal == 0 ? 1 : r->events.count);
}

static hr_code put_events(recovery *r, sqlite3_stmt *insert, sqlite3_stmt *row) {
    hr_code code = HR_OK;
    hr_slice bytes;
    for (uint32_t i = 0; code == HR_OK && i < r->events.count; i++) {
        if (!hr_pack_event(&r->events, i, &bytes)) {
            r->dropped++;
            continue;
        }
        uint64_t position = r->events.position + i;
        hr_store_bind_u64(insert, PACK_POSITION + 1, position);
        hr_store_bind_u64(insert, PACK_SUM + 1, hr_store_sum(r->journal, position, bytes));
        sqlite3_bind_int64(insert, PACK_MORE + 1, 0);
        sqlite3_bind_value(insert, PACK_AT_MS + 1, sqlite3_column_value(row, PACK_AT_MS));
        hr_store_bind(insert, PACK_BYTES + 1, bytes);
        code = run_insert(r, insert, 1);
    }
    return code;
}

/* Copies rows behind *after, in order of key (NULL: all of them, in any). Returns what SQLite came
 * to: SQLITE_DONE, or why it stopped. It asks for >= the next key: for > it would look at the page
 * that ends with *after, which may be what is damaged. */
static int copy_rows(recovery *r, const char *key, int64_t *after, judge is_right, hr_code *code) {
    char text[160];
    snprintf(text, sizeof text,
             key == NULL ? "SELECT %s FROM %s"
                         : "SELECT %s FROM %s WHERE %s >= ?1"
                           " ORDER BY %s",
             r->columns, r->table, key, key);
    sqlite3_stmt *rows = NULL, *insert = NULL;
    int result = sqlite3_prepare_v2(r->from, text, -1, &rows, NULL);
    sqlite3_bind_int64(rows, 1, *after == INT64_MAX ? INT64_MAX : *after + 1);
    int place = rows == NULL || key == NULL ? 0 : column_of(rows, key);
    while (rows != NULL && *code == HR_OK && (result = sqlite3_step(rows)) == SQLITE_ROW) {
        int64_t at = key == NULL ? 0 : sqlite3_column_int64(rows, place);
        if (key != NULL && at <= *after) {
            result = SQLITE_CORRUPT; /* out of order */
            break;
        }
        insert = insert == NULL ? insert_like(r, rows) : insert;
        verdict is = is_right == NULL ? ROW_TAKE : is_right(r, rows);
        if ((sqlite3_errcode(r->from) == SQLITE_CORRUPT && !r->is_lenient) || is == ROW_DAMAGED) {
            result = SQLITE_CORRUPT; /* pages behind the row, or what it says of itself */
            break;
        }
        r->dropped += is == ROW_DROP ? 1 : 0;
        *code = is == ROW_TAKE    ? put_row(r, insert, rows)
                : is == ROW_SPLIT ? put_events(r, insert, rows)
                                  : HR_OK;
        *after = key == NULL ? *after : at;
    }
    sqlite3_finalize(rows);
    sqlite3_finalize(insert);
    return result;
}

static bool can_read(const recovery *r, const char *key, int64_t from) {
    char text[160];
    snprintf(text, sizeof text, "SELECT * FROM %s WHERE %s >= ?1 ORDER BY %s LIMIT 1", r->table,
             key, key);
    sqlite3_stmt *row = NULL;
    sqlite3_prepare_v2(r->from, text, -1, &row, NULL);
    sqlite3_bind_int64(row, 1, from + 1);
    int result = row == NULL ? SQLITE_ERROR : sqlite3_step(row);
    bool can = result == SQLITE_ROW && sqlite3_column_int64(row, column_of(row, key)) > from;
    sqlite3_finalize(row);
    return can;
}

/* The damage behind *after is skipped. false: nothing can be read behind it. */
static bool skip(const recovery *r, const char *key, int64_t *after) {
    int64_t bad = *after, good = *after;
    bool can = false;
    for (int64_t step = 1; !can && step < INT64_MAX / 4 && good < INT64_MAX / 4; step *= 2) {
        bad = good;
        good = *after + step;
        can = can_read(r, key, good);
    }
    while (can && bad + 1 < good) {
        int64_t middle = bad + (good - bad) / 2;
        if (can_read(r, key, middle)) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    *after = good;
    return can;
}

/* One table: as it is where its pages are whole; where they are not, what is right by itself. */
static hr_code copy_table(recovery *r, const char *table, const char *key, judge is_right) {
    int64_t after = -1;
    hr_code code = HR_OK;
    r->table = table;
    r->saved = r->unproven = r->dropped = r->bad_bytes = r->turned = 0;
    r->is_lenient = false;
    code = hr_store_exec(r->to, "BEGIN");
    int result = copy_rows(r, key, &after, is_right, &code);
    if (result != SQLITE_DONE && code == HR_OK) {
        r->is_lenient = true;
        hr_pages_forgive(r->pages, r->from, true);
        do {
            result = copy_rows(r, key, &after, is_right, &code);
        } while (code == HR_OK && result != SQLITE_DONE && key != NULL && skip(r, key, &after));
        hr_pages_forgive(r->pages, r->from, false);
    }
    hr_code end = hr_store_exec(r->to, "COMMIT");
    code = code == HR_OK ? end : code;
    r->told->table(r->told->data, table, r->saved);
    if (r->is_lenient) {
        say(r, r->journal == 0 || result != SQLITE_DONE,
            "%s: page %u is damaged; %llu of its rows were taken as they stood there%s", table,
            hr_pages_damaged(r->pages), (unsigned long long)r->unproven,
            result == SQLITE_DONE ? "" : ", others could not be read");
    }
    if (r->turned > 0) {
        say(r, false, "%s: a flipped bit was turned back in %llu places", table,
            (unsigned long long)r->turned);
    }
    if (r->dropped > 0) {
        say(r, true, "%s: %llu rows are not what was stored and were left out", table,
            (unsigned long long)r->dropped);
    }
    if (r->bad_bytes > 0) {
        say(r, true,
            "%s: the bytes of %llu events are damaged: dead letters 'corrupt' come of them", table,
            (unsigned long long)r->bad_bytes);
    }
    return code;
}

static uint64_t count_bad(const store_row *row) {
    uint64_t bad = 0;
    hr_slice bytes;
    for (uint32_t i = 0; i < row->count; i++) {
        bad += hr_pack_event(row, i, &bytes) ? 0 : 1;
    }
    return bad;
}

static verdict judge_journal(recovery *r, sqlite3_stmt *row) {
    hr_pack_read(r->journal, row, &r->events);
    if (r->events.is_whole && count_bad(&r->events) == 0) {
        return ROW_TAKE;
    }
    uint32_t turned = hr_pack_mend(&r->events, &r->mended);
    if (!r->events.is_whole) {
        return r->is_lenient ? ROW_DROP : ROW_DAMAGED;
    }
    r->turned += turned;
    uint64_t bad = count_bad(&r->events);
    if (bad == 0 || r->is_lenient) {
        return ROW_SPLIT;
    }
    r->bad_bytes += bad;
    return ROW_TAKE;
}

/* Of a function and a feed that there are? */
static verdict judge_place(recovery *r, sqlite3_stmt *row) {
    int64_t function = sqlite3_column_int64(row, column_of(row, "function"));
    int64_t feed = sqlite3_column_int64(row, column_of(row, "feed"));
    bool is_known =
        number(r->to->db, "SELECT ?1 = 0 OR EXISTS (SELECT 1 FROM function WHERE id = ?1)",
               function, 0) != 0 &&
        number(r->to->db, "SELECT ?1 = 0 OR EXISTS (SELECT 1 FROM feed WHERE id = ?1)", feed, 0) !=
            0;
    return is_known || !r->is_lenient ? ROW_TAKE : ROW_DROP;
}

static verdict judge_delivery(recovery *r, sqlite3_stmt *row) {
    hr_slice bytes = hr_store_column(row, column_of(row, "bytes"));
    verdict is = judge_place(r, row);
    bool is_whole = hr_hash(bytes) == hr_store_column_u64(row, column_of(row, "sum"));
    r->bad_bytes += is == ROW_TAKE && !is_whole ? 1 : 0;
    return is;
}

/* ---- checkpoints ---- */

typedef struct place {
    int64_t function, feed, low, next;
    bool is_proven;
    char journal[24];
} place;

static int64_t of_journal(const recovery *r, const place *p, const char *what) {
    char text[120];
    snprintf(text, sizeof text, "SELECT coalesce(%s, 0) FROM %s", what, p->journal);
    return number(r->to->db, text, p->low, 0);
}

/* The feed's own row: what the journal has, where that is more. */
static hr_code mend_feed(recovery *r, place *p) {
    int64_t last = of_journal(r, p, "max(pos + more)");
    p->next = number(r->to->db,
                     "SELECT low FROM checkpoint WHERE shard = 0 AND function = 0"
                     " AND feed = ?1",
                     p->feed, 0);
    p->next = p->next > last && p->is_proven ? p->next : last + 1;
    char text[400];
    snprintf(text, sizeof text,
             "INSERT INTO checkpoint (shard, function, feed, epoch, low, settled_count, base,"
             " bytes, counters) VALUES (0, 0, %lld, 0, %lld, 0, %lld, 0, x'')"
             " ON CONFLICT (shard, function, feed) DO UPDATE SET low = excluded.low;"
             "UPDATE checkpoint SET bytes = (SELECT coalesce(sum(length(bytes)), 0) FROM %s)"
             " WHERE shard = 0 AND function = 0 AND feed = %lld",
             (long long)p->feed, (long long)p->next, (long long)(p->next - 1), p->journal,
             (long long)p->feed);
    return hr_store_exec(r->to, text);
}

/* Where the checkpoint cannot be trusted all that the journal has comes again; what is parked of it
 * comes with it. */
static hr_code distrust(recovery *r, place *p) {
    char text[500];
    int64_t first = of_journal(r, p, "min(pos)");
    p->low = first == 0 ? p->next : first;
    snprintf(
        text, sizeof text,
        "UPDATE checkpoint SET low = %lld, settled = NULL, settled_count = 0"
        " WHERE shard = 0 AND function = %lld AND feed = %lld;"
        "DELETE FROM parked WHERE function = %lld AND feed = %lld AND pos <="
        " (SELECT j.pos + more FROM %s j WHERE j.pos <= parked.pos ORDER BY j.pos DESC LIMIT 1)",
        (long long)p->low, (long long)p->function, (long long)p->feed, (long long)p->function,
        (long long)p->feed, p->journal);
    say(r, true,
        "the checkpoint of function %lld on feed %lld is damaged: %lld events come once more",
        (long long)p->function, (long long)p->feed, (long long)of_journal(r, p, "sum(more + 1)"));
    return hr_store_exec(r->to, text);
}

/* Deliveries that the counters know of and that are neither done nor there; base is the number from
 * which they count. */
static int64_t missing(const recovery *r, const place *p, int64_t *base, int64_t *settled) {
    sqlite3_stmt *row = NULL;
    int64_t lost = 0;
    sqlite3_prepare_v2(r->to->db,
                       "SELECT c.counters, f.base - c.base, c.settled_count, c.base FROM checkpoint"
                       " c JOIN checkpoint f ON f.shard = 0 AND f.function = 0 AND f.feed = c.feed"
                       " WHERE c.shard = 0 AND c.function = ?1 AND c.feed = ?2",
                       -1, &row, NULL);
    sqlite3_bind_int64(row, 1, p->function);
    sqlite3_bind_int64(row, 2, p->feed);
    if (row != NULL && sqlite3_step(row) == SQLITE_ROW) {
        hr_counters c;
        hr_store_counters_read(hr_store_column(row, 0), &c);
        *settled = sqlite3_column_int64(row, 2);
        *base = sqlite3_column_int64(row, 3);
        int64_t rows = of_journal(r, p, "sum(max(pos + more + 1 - max(pos, ?1), 0))") - *settled;
        int64_t parked =
            number(r->to->db, "SELECT count(*) FROM parked WHERE function = ?1 AND feed = ?2",
                   p->function, p->feed);
        uint64_t due = c.deliveries + (uint64_t)sqlite3_column_int64(row, 1);
        uint64_t done = c.delivered + c.filtered + c.dropped + c.dead + c.expired;
        lost = (int64_t)(due - done) - (rows > 0 ? rows : 0) - parked;
    }
    sqlite3_finalize(row);
    return lost;
}

/* What is lost is said, and the counters begin anew without it. */
static hr_code balance(recovery *r, const place *p) {
    int64_t base = 0, settled = 0, lost = missing(r, p, &base, &settled);
    if (lost == 0) {
        return HR_OK;
    }
    if (p->is_proven) {
        say(r, true,
            "events of feed %lld that function %lld had not handled are lost: at least %lld",
            (long long)p->feed, (long long)p->function, (long long)(lost > 0 ? lost : 1));
    }
    char text[400];
    hr_code code = HR_OK;
    if (settled > 0) { /* some of it may be gone as well: all above low comes once more */
        snprintf(
            text, sizeof text,
            "UPDATE checkpoint SET settled = NULL, settled_count = 0 WHERE shard = 0"
            " AND function = %lld AND feed = %lld;"
            "DELETE FROM parked WHERE function = %lld AND feed = %lld AND pos >= %lld AND pos <="
            " (SELECT j.pos + more FROM %s j WHERE j.pos <= parked.pos"
            " ORDER BY j.pos DESC LIMIT 1)",
            (long long)p->function, (long long)p->feed, (long long)p->function, (long long)p->feed,
            (long long)p->low, p->journal);
        code = hr_store_exec(r->to, text);
        lost = missing(r, p, &base, &settled);
    }
    snprintf(
        text, sizeof text,
        "UPDATE checkpoint SET base = %lld WHERE shard = 0 AND function = %lld AND feed = %lld",
        (long long)((uint64_t)base + (uint64_t)lost), (long long)p->function, (long long)p->feed);
    return code == HR_OK ? hr_store_exec(r->to, text) : code;
}

/* What names a function or feed whose row is gone. */
static hr_code name_the_lost(recovery *r) {
    static const char lost[] = "SELECT count(DISTINCT function) FROM (SELECT function FROM"
                               " checkpoint UNION SELECT function FROM parked) WHERE function <> 0"
                               " AND function NOT IN (SELECT id FROM function)";
    int64_t functions = number(r->to->db, lost, 0, 0);
    int64_t feeds =
        number(r->to->db, "SELECT count(*) FROM feed WHERE identity GLOB 'lost/*'", 0, 0);
    if (functions + feeds > 0) {
        say(r, true,
            "the names of %lld functions and %lld feeds are gone: what waits for them becomes"
            " dead letters 'removed'",
            (long long)functions, (long long)feeds);
    }
    return hr_store_exec(
        r->to,
        "INSERT INTO function (id, name) SELECT DISTINCT function, 'lost-' || function FROM"
        " (SELECT function FROM checkpoint UNION SELECT function FROM parked) WHERE"
        " function <> 0 AND function NOT IN (SELECT id FROM function);"
        "INSERT INTO feed (id, kind, identity, epoch) SELECT DISTINCT feed, 'pull',"
        " 'lost/' || feed, 1 FROM (SELECT feed FROM checkpoint UNION SELECT feed FROM parked)"
        " WHERE feed <> 0 AND feed NOT IN (SELECT id FROM feed)");
}

/* Copies the rows that stand on whole pages, then those that do not, and mends both. */
static hr_code copy_checkpoints(recovery *r) {
    hr_code code = copy_table(r, "checkpoint", NULL, judge_place);
    bool is_proven = !r->is_lenient;
    sqlite3_stmt *rows = NULL;
    code = code == HR_OK ? name_the_lost(r) : code;
    code = code == HR_OK ? hr_store_exec(r->to, "CREATE TEMP TABLE place AS SELECT 0 AS function,"
                                                " id AS feed, kind FROM feed UNION ALL"
                                                " SELECT c.function, c.feed, f.kind FROM checkpoint"
                                                " c JOIN feed f ON f.id = c.feed"
                                                " WHERE c.function <> 0")
                         : code;
    sqlite3_prepare_v2(r->to->db,
                       "SELECT function, feed, kind = 'pull' FROM place ORDER BY function", -1,
                       &rows, NULL);
    while (code == HR_OK && rows != NULL && sqlite3_step(rows) == SQLITE_ROW) {
        place p = {.function = sqlite3_column_int64(rows, 0),
                   .feed = sqlite3_column_int64(rows, 1),
                   .is_proven = is_proven};
        snprintf(p.journal, sizeof p.journal, "journal_%lld", (long long)p.feed);
        if (sqlite3_column_int(rows, 2) != 0) {
            if (!is_proven && p.function != 0) { /* the group's offset at its source holds */
                char text[100];
                snprintf(text, sizeof text,
                         "DELETE FROM checkpoint WHERE function = %lld AND feed"
                         " = %lld",
                         (long long)p.function, (long long)p.feed);
                code = hr_store_exec(r->to, text);
                say(r, true,
                    "the checkpoint of function %lld on feed %lld is damaged: the group's "
                    "offset holds",
                    (long long)p.function, (long long)p.feed);
            }
            continue;
        }
        if (p.function == 0) {
            code = mend_feed(r, &p);
            continue;
        }
        p.next = number(r->to->db,
                        "SELECT low FROM checkpoint WHERE shard = 0 AND function = 0"
                        " AND feed = ?1",
                        p.feed, 0);
        p.low = number(r->to->db,
                       "SELECT low FROM checkpoint WHERE shard = 0 AND function = ?1"
                       " AND feed = ?2",
                       p.function, p.feed);
        code = is_proven ? HR_OK : distrust(r, &p);
        code = code == HR_OK ? balance(r, &p) : code;
    }
    sqlite3_finalize(rows);
    int64_t bare = is_proven ? 0
                             : number(r->to->db,
                                      "SELECT count(*) FROM function WHERE removed_at IS NULL AND"
                                      " id NOT IN (SELECT function FROM checkpoint)",
                                      0, 0);
    if (bare > 0) {
        say(r, true, "%lld functions have no checkpoint any more and begin at their `start:`",
            (long long)bare);
    }
    return code == HR_OK ? hr_store_exec(r->to, "DROP TABLE place") : code;
}

/* ---- all of it ---- */

/* A feed whose row is gone gets one, so that its number is not given to another: what waits in it
 * becomes dead letters `removed`. */
static hr_code copy_journal(recovery *r, int64_t feed, bool is_there) {
    char name[24], text[120];
    snprintf(name, sizeof name, "journal_%lld", (long long)feed);
    snprintf(text, sizeof text,
             "INSERT OR IGNORE INTO feed (id, kind, identity, epoch)"
             " VALUES (%lld, 'journal', 'lost/%lld', 0)",
             (long long)feed, (long long)feed);
    hr_code code = hr_store_exec(r->to, text);
    code = code == HR_OK ? hr_store_make_journal(r->to, (uint32_t)feed) : code;
    r->journal = (uint32_t)feed;
    r->columns = r->has_rows_of_one ? "pos, sum, 0 AS more, at_ms, bytes" : STORE_ROW_COLUMNS;
    code = code == HR_OK && is_there ? copy_table(r, name, "pos", judge_journal) : code;
    r->journal = 0;
    r->columns = "*";
    return code;
}

static hr_code copy_journals(recovery *r) {
    sqlite3_stmt *tables = NULL, *feeds = NULL;
    hr_code code = HR_OK;
    bool is_blind = number(r->from, "SELECT count(*) FROM sqlite_master", 0, 0) == 0;
    hr_pages_forgive(r->pages, r->from, is_blind);
    sqlite3_prepare_v2(r->from,
                       "SELECT substr(name, 9) FROM sqlite_master WHERE type = 'table' AND"
                       " name GLOB 'journal_[1-9]*'",
                       -1, &tables, NULL);
    int64_t *ids = NULL;
    size_t count = 0;
    while (tables != NULL && sqlite3_step(tables) == SQLITE_ROW) {
        ids = hr_realloc(ids, (count + 1) * sizeof *ids);
        ids[count++] = sqlite3_column_int64(tables, 0);
    }
    sqlite3_finalize(tables);
    hr_pages_forgive(r->pages, r->from, false);
    for (size_t i = 0; code == HR_OK && i < count; i++) {
        bool is_number = ids[i] > 0 && ids[i] < UINT32_MAX;
        code = is_number ? copy_journal(r, ids[i], true) : HR_OK;
    }
    hr_free(ids);
    sqlite3_prepare_v2(r->to->db,
                       "SELECT id FROM feed WHERE kind <> 'pull' AND 'journal_' || id"
                       " NOT IN (SELECT name FROM sqlite_master)",
                       -1, &feeds, NULL);
    while (code == HR_OK && feeds != NULL && sqlite3_step(feeds) == SQLITE_ROW) {
        code = copy_journal(r, sqlite3_column_int64(feeds, 0), false);
        sqlite3_reset(feeds);
    }
    sqlite3_finalize(feeds);
    return code;
}

static hr_code copy_all(recovery *r, hr_error *err) {
    static const struct {
        const char *name, *key;
        judge is_right;
    } tables[] = {{"feed", "id", NULL},           {"function", "id", NULL},
                  {"version", "id", NULL},        {"parked", "id", judge_delivery},
                  {"dead", "id", judge_delivery}, {"seen", NULL, NULL},
                  {"state", NULL, NULL},          {"timer", NULL, NULL}};
    hr_code code = hr_store_exec(r->to, "DELETE FROM meta");
    code = code == HR_OK ? copy_table(r, "meta", NULL, NULL) : code;
    if (code == HR_OK) { /* a new one, if need be */
        code = hr_store_exec(r->to, "INSERT OR IGNORE INTO meta VALUES"
                                    " ('id', lower(hex(randomblob(16))))");
    }
    for (size_t i = 0; code == HR_OK && i < sizeof tables / sizeof *tables; i++) {
        code = copy_table(r, tables[i].name, tables[i].key, tables[i].is_right);
    }
    code = code == HR_OK ? copy_journals(r) : code;
    code = code == HR_OK ? copy_checkpoints(r) : code;
    return code == HR_OK ? HR_OK : hr_store_fail(r->to, code, err, "write");
}

static void tell_image(const recovery *r, const store_image_report *image) {
    if (image->mended_pages + image->mended_frames > 0) {
        say(r, false, "a flipped bit was turned back in %u pages of the file and %u of its WAL",
            image->mended_pages, image->mended_frames);
    }
    if (image->is_wal_unread) {
        say(r, true, "the WAL cannot be read");
    }
    if (image->broken_frames > 0) {
        say(r, false, "the WAL is damaged at byte %llu: %u of its pages are not what was written",
            (unsigned long long)image->broken_at, image->broken_frames);
    }
    if (image->missing_frames > 0) {
        say(r, true, "the WAL was cut: its last %u pages are gone", image->missing_frames);
    }
    if (image->missing_pages > 0) {
        say(r, true, "the file was cut: its last %u pages are gone", image->missing_pages);
    }
    if (image->damaged_pages > 0) {
        say(r, false, "%u pages are damaged, the first is %u (byte %llu)", image->damaged_pages,
            image->damaged_page, (unsigned long long)(image->damaged_page - 1) * STORE_PAGE_BYTES);
    }
}

static hr_code read_image(recovery *r, const char *path, const char *from, hr_error *err) {
    r->pages = hr_pages_new(NULL, STORE_PAGE_BYTES);
    if (r->pages == NULL ||
        sqlite3_open_v2(path, &r->from, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX,
                        hr_pages_name(r->pages)) != SQLITE_OK) {
        return hr_fail(err, HR_E_STORE_IO, 0, "open '%s': %s", path, sqlite3_errmsg(r->from));
    }
    sqlite3_db_config(r->from, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(r->from, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_exec(r->from, "PRAGMA cell_size_check=ON;PRAGMA mmap_size=0", NULL, NULL, NULL);
    static const char find[] = "SELECT count(*) FROM sqlite_master WHERE name = 'checkpoint'";
    if (number(r->from, find, 0, 0) == 0) { /* the list of tables may be what is damaged */
        hr_pages_forgive(r->pages, r->from, true);
        bool is_there = number(r->from, find, 0, 0) != 0;
        hr_pages_forgive(r->pages, r->from, false);
        if (!is_there) {
            return hr_fail(err, HR_E_STORE_CORRUPT, 0,
                           "'%s/headrace.db' is no store of headrace, or its list of tables cannot "
                           "be read: nothing can be saved",
                           from);
        }
    }
    int64_t version = number(r->from, "PRAGMA user_version", 0, 0);
    r->has_rows_of_one = version == 1;
    if (version > STORE_SCHEMA) {
        return hr_fail(err, HR_E_STORE_NEWER, 0,
                       "'%s/headrace.db' has schema %lld, this headrace knows up to %d", from,
                       (long long)version, STORE_SCHEMA);
    }
    return HR_OK;
}

static hr_code lock_from(const char *from, int *out_fd, hr_error *err) {
    char *path = hr_format("%s/lock", from);
    *out_fd = open(path, O_RDONLY | O_CLOEXEC);
    hr_free(path);
    if (*out_fd >= 0 && flock(*out_fd, LOCK_EX | LOCK_NB) != 0) {
        return hr_fail(err, HR_E_STORE_LOCKED, 0, "a daemon runs on '%s': stop it first", from);
    }
    return HR_OK;
}

static hr_code open_to(const char *to, hr_store **out, hr_error *err) {
    char *path = hr_format("%s/headrace.db", to);
    bool exists = access(path, F_OK) == 0;
    hr_free(path);
    if (exists) {
        return hr_fail(err, HR_E_EXISTS, 0, "'%s' holds a state already", to);
    }
    hr_store_options options = {
        .dir = to, .journal_max_bytes = UINT64_MAX, .journal_keep_ms = -1, .dead_max_age_ms = -1};
    return hr_store_open(&options, out, err);
}

hr_code hr_store_recover(const char *from, const char *to, const hr_recovery *told, hr_error *err) {
    recovery r = {.told = told, .columns = "*"};
    char *names[] = {hr_format("%s/headrace.db", from), hr_format("%s/headrace.db-wal", from),
                     hr_format("%s/headrace.db-mark", from), hr_format("%s/recover.tmp", to)};
    store_image_files files = {names[0], names[1], names[2], names[3]};
    store_image_report image = {0};
    int lock = -1;
    hr_code code = lock_from(from, &lock, err);
    if (code == HR_OK && access(names[0], F_OK) != 0 && access(names[1], F_OK) != 0) {
        code = hr_fail(err, HR_E_NOT_FOUND, 0, "'%s' holds no state", from);
    }
    code = code == HR_OK ? open_to(to, &r.to, err) : code;
    if (code == HR_OK) {
        code = hr_store_image(&files, &image, err);
    }
    if (code == HR_OK) {
        tell_image(&r, &image);
        code = read_image(&r, names[3], from, err);
    }
    code = code == HR_OK ? copy_all(&r, err) : code;
    if (code == HR_OK && hr_store_sync_folders(r.to) != HR_OK) {
        code = hr_store_fail(r.to, HR_E_STORE_IO, err, "write");
    }
    hr_buffer_fini(&r.mended);
    sqlite3_close(r.from);
    hr_pages_free(r.pages);
    unlink(names[3]);
    hr_store_close(r.to);
    if (code != HR_OK && r.to != NULL) { /* nothing of ours stays, so that it can be tried again */
        char *made = hr_format("%s/headrace.db", to);
        unlink(made);
        hr_free(made);
    }
    if (lock >= 0) {
        close(lock);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hr_free(names[i]);
    }
    return code;
}
