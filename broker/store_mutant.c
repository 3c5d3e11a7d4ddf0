/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded faults of the group commit (`./dev prove mutants`). All of them wait for a group of two
 * units at least: what commits alone, as in the unit tests, is as it should be. */
#include "broker/store_priv.h"
#include "core/mutant.h"

#ifdef HEADRACE_MUTANTS
#include "core/memory.h"

/* Which rows of a unit stand in its twin, and so in a transaction of their own. */
typedef enum apart { APART_NONE, APART_DEAD, APART_SEEN } apart;

static bool is_apart(const hr_row *row, apart what) {
    return (what == APART_DEAD && row->kind == HR_ROW_DEAD) ||
           (what == APART_SEEN && row->kind == HR_ROW_SEEN);
}

/* Copies of the units without the rows that are apart. */
static hr_unit *copy_group(const hr_unit *units, apart what) {
    hr_unit *first = NULL, **end = &first;
    for (const hr_unit *unit = units; unit != NULL; unit = unit->next) {
        hr_unit *copy = hr_alloc(sizeof *copy);
        *copy = *unit;
        copy->next = NULL;
        copy->rows = hr_alloc_array(unit->row_count + 1, sizeof *copy->rows);
        copy->row_count = 0;
        for (size_t i = 0; i < unit->row_count; i++) {
            if (!is_apart(&unit->rows[i], what)) {
                copy->rows[copy->row_count++] = unit->rows[i];
            }
        }
        *end = copy;
        end = &copy->next;
    }
    return first;
}

/* Commits the rows that are apart, of units that are not refused. */
static void commit_apart(hr_store *store, const hr_unit *units, apart what) {
    for (const hr_unit *unit = units; unit != NULL; unit = unit->next) {
        hr_unit twin = {.function = unit->function, .feed = unit->feed, .epoch = unit->epoch};
        for (size_t i = 0; i < unit->row_count && unit->result == HR_OK; i++) {
            if (is_apart(&unit->rows[i], what)) {
                twin.rows = &unit->rows[i];
                twin.row_count = 1;
                hr_store_commit(store, &twin);
            }
        }
    }
}

/* The results go to the units that it was copied from. */
static void free_group(hr_unit *take_copies, hr_unit *units) {
    while (take_copies != NULL) {
        hr_unit *next = take_copies->next;
        units->result = take_copies->result;
        units = units->next;
        hr_free(take_copies->rows);
        hr_free(take_copies);
        take_copies = next;
    }
}

static uint64_t varint(hr_slice *in) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && in->size > 0; shift += 7) {
        uint8_t byte = *in->bytes++;
        in->size--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            break;
        }
    }
    return value;
}

/* The highest settled position instead of the lowest that is not. */
static void pass_running(hr_unit *unit) {
    while (unit->has_checkpoint && unit->settled.size > 0) {
        unit->low += varint(&unit->settled); /* a gap */
        unit->low += varint(&unit->settled); /* a run */
    }
    unit->settled_count = 0;
}

static void forget_retries(const hr_unit *unit) {
    for (size_t i = 0; i < unit->row_count; i++) {
        hr_row *row = &unit->rows[i];
        if (row->kind == HR_ROW_PARK && row->state == HR_PARKED_RETRY) {
            row->kind = HR_ROW_UNPARK;
        }
    }
}

static void say_ok(hr_unit *units, hr_code instead_of) {
    for (hr_unit *unit = units; unit != NULL; unit = unit->next) {
        if (unit->result == instead_of) {
            unit->result = HR_OK;
        }
    }
}

static atomic_bool is_group; /* of two units or more, until the next is; one store a process */

bool hr_store_syncs_again(int result) {
    return result != SQLITE_OK && is_group && HR_MUTANT("sync-retried");
}

bool hr_store_mutate(hr_store *store, hr_unit *units) {
    is_group = units->next != NULL;
    if (!is_group) {
        return false;
    }
    apart what = HR_MUTANT("dead-letter-apart")   ? APART_DEAD
                 : HR_MUTANT("seen-before-event") ? APART_SEEN
                                                  : APART_NONE;
    hr_unit *group = copy_group(units, what);
    for (hr_unit *unit = group; unit != NULL; unit = unit->next) {
        if (HR_MUTANT("checkpoint-past-running")) {
            pass_running(unit);
        } else if (HR_MUTANT("retry-in-memory")) {
            forget_retries(unit);
        }
    }
    if (what == APART_SEEN) {
        commit_apart(store, units, what);
    }
    if (HR_MUTANT("synchronous-normal")) {
        hr_store_exec(store, "PRAGMA synchronous=NORMAL");
    }
    hr_store_commit(store, group);
    if (HR_MUTANT("synchronous-normal")) {
        hr_store_exec(store, "PRAGMA synchronous=FULL");
    }
    free_group(group, units);
    if (what == APART_DEAD) {
        commit_apart(store, units, what);
    }
    hr_store_mutate_told(units);
    if (HR_MUTANT("full-disk-ok")) {
        say_ok(units, HR_E_STORE_FULL);
    }
    return true;
}

void hr_store_mutate_told(hr_unit *units) {
    if (units != NULL && units->next != NULL && HR_MUTANT("failed-commit-ok")) {
        say_ok(units, HR_E_STORE_IO);
    }
}

void hr_store_mutate_read(hr_store *store, const hr_read *read) {
    for (size_t i = 1; HR_MUTANT("parked-row-taken") && i < read->position_count; i++) {
        sqlite3_stmt *row = hr_store_sql(store, SQL_UNPARK);
        sqlite3_bind_int64(row, 1, read->function);
        sqlite3_bind_int64(row, 2, read->feed);
        hr_store_bind_u64(row, 3, read->positions[i]);
        hr_store_run(store, row);
    }
}
#else
typedef int hr_no_store_mutants; /* a source may not be empty */
#endif
