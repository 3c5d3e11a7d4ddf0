/* SPDX-License-Identifier: Apache-2.0 */
/* Where functions stood, in a state that is being recovered. */
#include "broker/store_recover.h"

#include <stdio.h>

typedef struct place {
    int64_t function, feed, low, next;
    bool is_proven;
    char journal[24];
} place;

static int64_t of_journal(const store_recovery *r, const place *p, const char *what) {
    char text[120];
    snprintf(text, sizeof text, "SELECT coalesce(%s, 0) FROM %s", what, p->journal);
    return hr_recover_number(r->to->db, text, 0, 0);
}

/* Adds to what the feed's own row counts. */
static hr_code add_events(store_recovery *r, const place *p, int64_t events) {
    sqlite3_stmt *row = hr_store_prepare(
        r->to, "SELECT counters FROM checkpoint WHERE shard = 0 AND function = 0 AND feed = %lld",
        (long long)p->feed);
    hr_counters counters = {0};
    if (row != NULL && sqlite3_step(row) == SQLITE_ROW) {
        hr_store_counters_read(hr_store_column(row, 0), &counters);
    }
    sqlite3_finalize(row);
    uint8_t bytes[sizeof(hr_counters)];
    counters.received += (uint64_t)events;
    hr_store_counters_write(&counters, bytes);
    sqlite3_stmt *update =
        hr_store_prepare(r->to, "UPDATE checkpoint SET base = base + ?1, counters = ?2"
                                " WHERE shard = 0 AND function = 0 AND feed = ?3");
    sqlite3_bind_int64(update, 1, events);
    sqlite3_bind_blob(update, 2, bytes, sizeof bytes, SQLITE_STATIC);
    sqlite3_bind_int64(update, 3, p->feed);
    hr_code code = hr_store_run(r->to, update);
    sqlite3_finalize(update);
    return code;
}

/* Behind what the journal has, and behind what checkpoints say when they are proven: the row's own
 * or of a function that is beyond it. */
static int64_t end_of(const store_recovery *r, const place *p) {
    int64_t end = of_journal(r, p, "max(pos + more)") + 1;
    int64_t low = hr_recover_number(
        r->to->db, "SELECT coalesce(max(low), 1) FROM checkpoint WHERE shard = 0 AND feed = ?1",
        p->feed, 0);
    return p->is_proven && low > end ? low : end;
}

/* Behind what is parked or dead of it. */
static int64_t end_of_names(const store_recovery *r, const place *p) {
    return 1 +
           hr_recover_number(
               r->to->db,
               "SELECT max(coalesce((SELECT max(pos) FROM parked WHERE feed = ?1), 0), coalesce("
               "(SELECT max(pos) FROM dead WHERE feed = ?1 AND function <> 0), 0))",
               p->feed, 0);
}

/* The feed's own row: what the journal has, where that is more, with what is missing in it. The
 * last of it may be gone without a trace, where the row is behind: none of its positions is given
 * again.
 */
static hr_code mend_feed(store_recovery *r, place *p) {
    enum { UNKNOWN = STORE_LAG_COMMITS * STORE_GROUP_EVENTS };
    char text[400];
    snprintf(text, sizeof text,
             "INSERT OR IGNORE INTO checkpoint (shard, function, feed, epoch, low, settled_count,"
             " base, bytes, counters) VALUES (0, 0, %lld, 0, 1, 0, 0, 0, x'')",
             (long long)p->feed);
    hr_code code = hr_store_exec(r->to, text);
    int64_t low = hr_recover_number(r->to->db,
                                    "SELECT max(low, 1) FROM checkpoint WHERE shard = 0"
                                    " AND function = 0 AND feed = ?1",
                                    p->feed, 0);
    int64_t end = end_of(r, p);
    bool is_counted = p->is_proven || low == 1;
    code = code == HR_OK && is_counted && end > low ? add_events(r, p, end - low) : code;
    int64_t named = end_of_names(r, p);
    end = named > end ? named : end;
    bool is_lossy =
        hr_recover_number(r->to->db, "SELECT count(*) FROM lossy WHERE feed = ?1", p->feed, 0) > 0;
    if (is_lossy && r->is_wal_broken) {
        hr_recover_say(
            r, true,
            "the last events of feed %lld may be gone with its pages: those of %d commits"
            " at most are not counted",
            (long long)p->feed, STORE_LAG_COMMITS - 1);
        end += UNKNOWN;
    }
    p->next = end;
    snprintf(text, sizeof text,
             "UPDATE checkpoint SET low = %lld,"
             " bytes = (SELECT coalesce(sum(length(bytes)), 0) FROM %s)"
             " WHERE shard = 0 AND function = 0 AND feed = %lld",
             (long long)end, p->journal, (long long)p->feed);
    return code == HR_OK ? hr_store_exec(r->to, text) : code;
}

static int64_t count_events(const store_recovery *r, const place *p) {
    uint64_t events = 0;
    hr_store_count_events(r->to, (uint32_t)p->feed, (uint64_t)p->low, &events);
    return (int64_t)events;
}

/* All that the journal has from low on comes once more; what is parked of it comes with it. */
static hr_code take_again(store_recovery *r, const place *p) {
    char text[500];
    snprintf(text, sizeof text,
             "UPDATE checkpoint SET low = %lld, settled = NULL, settled_count = 0"
             " WHERE shard = 0 AND function = %lld AND feed = %lld;"
             "DELETE FROM parked WHERE function = %lld AND feed = %lld AND pos >= %lld AND pos <="
             " (SELECT j.pos + more FROM %s j WHERE j.pos <= parked.pos"
             " ORDER BY j.pos DESC LIMIT 1)",
             (long long)p->low, (long long)p->function, (long long)p->feed, (long long)p->function,
             (long long)p->feed, (long long)p->low, p->journal);
    return hr_store_exec(r->to, text);
}

/* The checkpoint cannot be trusted. */
static hr_code distrust(store_recovery *r, place *p) {
    int64_t first = of_journal(r, p, "min(pos)");
    p->low = first == 0 ? p->next : first;
    hr_recover_say(
        r, true,
        "the checkpoint of function %lld on feed %lld is damaged: %lld events come once more",
        (long long)p->function, (long long)p->feed, (long long)count_events(r, p));
    return take_again(r, p);
}

/* Deliveries that the counters know of and that are neither done nor there; base is the number from
 * which they count. */
static int64_t missing(const store_recovery *r, const place *p, int64_t *base, int64_t *settled) {
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
        int64_t events = count_events(r, p) - *settled;
        int64_t parked = hr_recover_number(
            r->to->db, "SELECT count(*) FROM parked WHERE function = ?1 AND feed = ?2", p->function,
            p->feed);
        uint64_t due = c.deliveries + (uint64_t)sqlite3_column_int64(row, 1);
        uint64_t done = c.delivered + c.filtered + c.dropped + c.dead + c.expired;
        lost = (int64_t)(due - done) - (events > 0 ? events : 0) - parked;
    }
    sqlite3_finalize(row);
    return lost;
}

/* What is lost is said, and the counters begin anew without it. */
static hr_code balance(store_recovery *r, const place *p) {
    int64_t base = 0, settled = 0, lost = missing(r, p, &base, &settled);
    if (lost == 0) {
        return HR_OK;
    }
    if (p->is_proven) {
        hr_recover_say(
            r, true,
            "events of feed %lld that function %lld had not handled are lost: at least %lld",
            (long long)p->feed, (long long)p->function, (long long)(lost > 0 ? lost : 1));
    }
    char text[160];
    hr_code code = HR_OK;
    if (settled > 0) { /* some of it may be gone as well: all above low comes once more */
        code = take_again(r, p);
        lost = missing(r, p, &base, &settled);
    }
    snprintf(
        text, sizeof text,
        "UPDATE checkpoint SET base = %lld WHERE shard = 0 AND function = %lld AND feed = %lld",
        (long long)((uint64_t)base + (uint64_t)lost), (long long)p->function, (long long)p->feed);
    return code == HR_OK ? hr_store_exec(r->to, text) : code;
}

/* What names a function or feed whose row is gone. */
static hr_code name_the_lost(store_recovery *r) {
    static const char lost[] = "SELECT count(DISTINCT function) FROM (SELECT function FROM"
                               " checkpoint UNION SELECT function FROM parked) WHERE function <> 0"
                               " AND function NOT IN (SELECT id FROM function)";
    int64_t functions = hr_recover_number(r->to->db, lost, 0, 0);
    int64_t feeds = hr_recover_number(
        r->to->db, "SELECT count(*) FROM feed WHERE identity GLOB 'lost/*'", 0, 0);
    if (functions + feeds > 0) {
        hr_recover_say(
            r, true,
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

hr_code hr_recover_checkpoints(store_recovery *r) {
    hr_code code = hr_recover_table(r, "checkpoint", NULL, hr_recover_judge_place);
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
                hr_recover_say(
                    r, true,
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
        p.next = hr_recover_number(r->to->db,
                                   "SELECT low FROM checkpoint WHERE shard = 0 AND function = 0"
                                   " AND feed = ?1",
                                   p.feed, 0);
        p.low = hr_recover_number(r->to->db,
                                  "SELECT low FROM checkpoint WHERE shard = 0 AND function = ?1"
                                  " AND feed = ?2",
                                  p.function, p.feed);
        code = is_proven ? HR_OK : distrust(r, &p);
        code = code == HR_OK ? balance(r, &p) : code;
    }
    sqlite3_finalize(rows);
    int64_t bare =
        is_proven ? 0
                  : hr_recover_number(r->to->db,
                                      "SELECT count(*) FROM function WHERE removed_at IS NULL AND"
                                      " id NOT IN (SELECT function FROM checkpoint)",
                                      0, 0);
    if (bare > 0) {
        hr_recover_say(r, true,
                       "%lld functions have no checkpoint any more and begin at their `start:`",
                       (long long)bare);
    }
    return code == HR_OK ? hr_store_exec(r->to, "DROP TABLE place") : code;
}
