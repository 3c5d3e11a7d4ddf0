/* SPDX-License-Identifier: Apache-2.0 */
/* How many events a second of a core the SQL filter decides, against SQLite's own ->> on bound
 * text, in alternating pairs. usage: bench_filter [--quick] [--pairs N] Fails when a case that must
 * reach a million does not. */
#include "core/envelope.h"
#include "streams/sql.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { EVENTS = 1000, PAIRS_MAX = 32, MUST = 1000000 };

/* CPU of this thread, so that other work on the machine does not count. */
static double cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static hr_batch *make_batch(void) {
    hr_builder builder = {0};
    hr_error err = {0};
    hr_buffer data = {0};
    for (int i = 0; i < EVENTS; i++) {
        data.size = 0;
        hr_buffer_print(&data,
                        "{\"device\":\"sensor-%04d\",\"site\":\"plant-7\",\"temp\":%d.%d,"
                        "\"humidity\":%d,\"ts\":1767225600%03d,\"battery\":3.%02d,"
                        "\"status\":\"ok\",\"tags\":[\"a\",\"bb\",\"ccc\"],"
                        "\"pos\":{\"lat\":52.52%03d,\"lon\":13.40%03d},\"fw\":\"1.14.2\","
                        "\"rssi\":-%d}",
                        i, 20 + i % 20, i % 10, i % 100, i, i % 100, i, i, i % 90);
        hr_fields fields = {.id = hr_slice_text("0123456789"),
                            .source = hr_slice_text("/plant"),
                            .type = hr_slice_text("reading"),
                            .subject = hr_slice_text("plant/7/temp"),
                            .partition_key = hr_slice_text("plant/7/temp"),
                            .data = hr_slice_of(data.bytes, data.size),
                            .has_data = true,
                            .data_is_text = true};
        if (hr_builder_pack(&builder, (uint64_t)i + 1, &fields, &err) != HR_OK) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
    }
    hr_batch *batch = hr_builder_finish(&builder, 1, 0);
    hr_builder_fini(&builder);
    hr_buffer_fini(&data);
    return batch;
}

typedef struct setting {
    const char *name, *headrace, *sqlite; /* sqlite NULL: it has none */
    uint32_t events;                      /* of the batch that are evaluated */
} setting;

static uint32_t hits_of(const uint64_t *bits) {
    uint32_t hits = 0;
    for (int i = 0; i < (EVENTS + 63) / 64; i++) {
        hits += (uint32_t)__builtin_popcountll(bits[i]);
    }
    return hits;
}

/* ns an event */
static double measure_headrace(hr_expression *expression, const hr_batch *batch, int repeat,
                               uint32_t *out_hits) {
    uint64_t bits[HR_BATCH_MAX / 64] = {0};
    uint32_t errors = 0;
    double start = cpu_ns();
    for (int i = 0; i < repeat; i++) {
        hr_expression_match(expression, batch, bits, &errors, NULL);
    }
    *out_hits = hits_of(bits);
    return (cpu_ns() - start) / repeat / batch->count;
}

static double measure_sqlite(sqlite3_stmt *statement, const hr_batch *batch, int repeat,
                             uint32_t *out_hits) {
    double start = cpu_ns();
    for (int i = 0; i < repeat; i++) {
        *out_hits = 0;
        for (uint32_t event = 0; event < batch->count; event++) {
            hr_slice data = hr_batch_data(batch, event);
            sqlite3_bind_text64(statement, 1, (const char *)data.bytes, data.size, SQLITE_STATIC,
                                SQLITE_UTF8);
            *out_hits +=
                sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_int(statement, 0) == 1;
            sqlite3_reset(statement);
        }
    }
    return (cpu_ns() - start) / repeat / batch->count;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, compare);
    return values[count / 2];
}

static void die(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static bool report(hr_sql *sql, sqlite3 *db, const hr_batch *batch, const setting *s,
                   size_t pairs) {
    hr_error err = {0};
    hr_expression *expression = NULL;
    sqlite3_stmt *statement = NULL;
    int offset = 0;
    if (hr_sql_compile(sql, s->headrace, &expression, &offset, &err) != HR_OK) {
        die(s->headrace, err.text);
    }
    if (s->sqlite != NULL && sqlite3_prepare_v2(db, s->sqlite, -1, &statement, NULL) != SQLITE_OK) {
        die(s->sqlite, sqlite3_errmsg(db));
    }
    double ns[PAIRS_MAX], other[PAIRS_MAX], ratio[PAIRS_MAX];
    int repeat = (int)(200 * EVENTS / batch->count);
    uint32_t hits = 0, other_hits = 0;
    for (size_t i = 0; i < pairs; i++) {
        other[i] =
            statement == NULL ? 0 : measure_sqlite(statement, batch, repeat / 4 + 1, &other_hits);
        ns[i] = measure_headrace(expression, batch, repeat, &hits);
        ratio[i] = other[i] / ns[i];
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double middle = median(ns, pairs), rate = 1e9 / middle;
    bool ok = rate >= MUST && (statement == NULL || hits == other_hits);
    printf("{\"bench\":\"filter\",\"case\":\"%s\",\"rate\":%.0f,", s->name, rate);
    if (statement != NULL) {
        printf(
            "\"baseline\":\"sqlite %s, one event a step\",\"baseline_rate\":%.0f,\"ratio\":%.2f,",
            sqlite3_libversion(), 1e9 / median(other, pairs), median(ratio, pairs));
    } else {
        printf("\"baseline\":\"%d a core\",\"baseline_rate\":%d,\"ratio\":%.2f,", MUST, MUST,
               rate / MUST);
    }
    printf("\"must_rate\":%d,\"of_must\":%.2f,\"pairs\":%zu,\"cpu_us_per_event\":%.4f,"
           "\"rss_mib\":%.1f,\"hits\":%u,\"ok\":%s}\n",
           MUST, rate / MUST, pairs, middle / 1000, (double)used.ru_maxrss / 1024, hits,
           ok ? "true" : "false");
    fflush(stdout);
    hr_expression_free(expression);
    sqlite3_finalize(statement);
    return ok;
}

int main(int argc, char **argv) {
    static const setting cases[] = {
        {"one path", "data.temp > 30", "SELECT ?1->>'$.temp' > 30", EVENTS},
        {"one path, one event a batch", "data.temp > 30", "SELECT ?1->>'$.temp' > 30", 1},
        {"operator", "data->>'$.temp' > 30", "SELECT ?1->>'$.temp' > 30", EVENTS},
        {"four paths",
         "data.temp > 30 AND data.humidity > 10 AND data.pos.lat > 52 AND data.rssi < -5",
         "SELECT ?1->>'$.temp' > 30 AND ?1->>'$.humidity' > 10 AND ?1->>'$.pos.lat' > 52 AND "
         "?1->>'$.rssi' < -5",
         EVENTS},
        {"attribute", "subject = 'plant/7/temp'", "SELECT ?1 <> 'plant/7/temp'", EVENTS},
        {"regexp", "subject REGEXP '^plant/[0-9]+/temp$'", NULL, EVENTS},
    };
    size_t pairs = 9;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            pairs = 5;
        } else if (strcmp(argv[i], "--pairs") == 0 && i + 1 < argc) {
            pairs = strtoul(argv[++i], NULL, 10);
        } else {
            fprintf(stderr, "usage: bench_filter [--quick] [--pairs N]\n");
            return 2;
        }
    }
    pairs = pairs < 1 ? 1 : pairs > PAIRS_MAX ? PAIRS_MAX : pairs;
    hr_sql *sql = hr_sql_new();
    sqlite3 *db = NULL;
    if (sqlite3_open(":memory:", &db) != SQLITE_OK) {
        die("sqlite", sqlite3_errmsg(db));
    }
    hr_batch *all = make_batch();
    bool ok = true;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t first = 0;
        hr_batch *batch =
            cases[i].events == EVENTS ? hr_batch_ref(all) : hr_batch_pick(all, &first, 1);
        ok = report(sql, db, batch, &cases[i], pairs) && ok;
        hr_batch_unref(batch);
    }
    hr_batch_unref(all);
    sqlite3_close(db);
    hr_sql_free(sql);
    return ok ? 0 : 1;
}
