/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a recovery share; for nobody else. */
#ifndef HR_BROKER_STORE_RECOVER_H
#define HR_BROKER_STORE_RECOVER_H

#include "broker/recover.h"
#include "broker/store_priv.h"

typedef struct store_recovery {
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
    bool is_wal_broken; /* rows of feeds may be behind what is gone with it */
} store_recovery;

/* What is to be done with a row. */
typedef enum store_verdict {
    ROW_TAKE,
    ROW_DROP,
    ROW_SPLIT,  /* of a journal: only those of its events that are whole, each in a row */
    ROW_DAMAGED /* where it stands nothing is to be trusted */
} store_verdict;
typedef store_verdict (*store_judge)(store_recovery *r, sqlite3_stmt *row);

/* store_recover.c */
/* A line for whoever asked; is_loss: something is gone. */
void hr_recover_say(const store_recovery *r, bool is_loss, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The first column of the first row that a text gives, 0 where there is none; ?1 and ?2 are bound.
 */
int64_t hr_recover_number(sqlite3 *db, const char *text, int64_t first, int64_t second);
/* One table: as it is where its pages are whole; where they are not, what is right by itself. Rows
 * go in order of key; NULL: in any, and only up to the first damage. */
hr_code hr_recover_table(store_recovery *r, const char *table, const char *key,
                         store_judge is_right);
/* Of a function and a feed that there are? */
store_verdict hr_recover_judge_place(store_recovery *r, sqlite3_stmt *row);

/* store_recover_places.c */
/* Copies the checkpoints that stand on whole pages, then those that do not, and mends both. */
hr_code hr_recover_checkpoints(store_recovery *r);

#endif
