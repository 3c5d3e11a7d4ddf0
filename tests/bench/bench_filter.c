/* SPDX-License-Identifier: Apache-2.0 */
/* How many events a second the SQL filter decides, against SQLite's own ->> on bound text. */
#include "core/envelope.h"
#include "streams/sql.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { EVENTS = 1000, ROUNDS = 7 };

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

/* The best of the rounds, in ns an event. */
static double measure_headrace(hr_sql *sql, const hr_batch *batch, const char *text, int repeat,
                               uint32_t *out_hits) {
    hr_error err = {0};
    hr_expression *expression = NULL;
    int offset = 0;
    if (hr_sql_compile(sql, text, &expression, &offset, &err) != HR_OK) {
        fprintf(stderr, "%s: %s\n", text, err.text);
        exit(1);
    }
    double best = 1e18;
    uint64_t bits[HR_BATCH_MAX / 64] = {0};
    uint32_t errors = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = cpu_ns();
        for (int i = 0; i < repeat; i++) {
            hr_expression_match(expression, batch, bits, &errors, NULL);
        }
        double took = (cpu_ns() - start) / repeat / batch->count;
        best = took < best ? took : best;
    }
    *out_hits = 0;
    for (int i = 0; i < (EVENTS + 63) / 64; i++) {
        *out_hits += (uint32_t)__builtin_popcountll(bits[i]);
    }
    hr_expression_free(expression);
    return best;
}

static double measure_sqlite(const hr_batch *batch, const char *text, int repeat,
                             uint32_t *out_hits) {
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    if (sqlite3_open(":memory:", &db) != SQLITE_OK ||
        sqlite3_prepare_v2(db, text, -1, &statement, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", text, sqlite3_errmsg(db));
        exit(1);
    }
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        double start = cpu_ns();
        for (int i = 0; i < repeat; i++) {
            *out_hits = 0;
            for (uint32_t event = 0; event < batch->count; event++) {
                hr_slice data = hr_batch_data(batch, event);
                sqlite3_bind_text64(statement, 1, (const char *)data.bytes, data.size,
                                    SQLITE_STATIC, SQLITE_UTF8);
                *out_hits +=
                    sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_int(statement, 0) == 1;
                sqlite3_reset(statement);
            }
        }
        double took = (cpu_ns() - start) / repeat / batch->count;
        best = took < best ? took : best;
    }
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return best;
}

int main(void) {
    static const struct {
        const char *name, *headrace, *sqlite;
        uint32_t events; /* of the batch that are evaluated */
    } cases[] = {
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
    hr_error err = {0};
    hr_sql *sql = NULL;
    if (hr_sql_new(&sql, &err) != HR_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    hr_batch *all = make_batch();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t first = 0;
        hr_batch *batch =
            cases[i].events == EVENTS ? hr_batch_ref(all) : hr_batch_pick(all, &first, 1);
        int repeat = (int)(200 * EVENTS / batch->count);
        uint32_t hits = 0, other_hits = 0;
        double ns = measure_headrace(sql, batch, cases[i].headrace, repeat, &hits);
        printf("{\"bench\":\"filter\",\"case\":\"%s\",\"ns\":%.1f,\"rate\":%.0f,\"hits\":%u",
               cases[i].name, ns, 1e9 / ns, hits);
        if (cases[i].sqlite != NULL) {
            double other = measure_sqlite(batch, cases[i].sqlite, repeat / 4 + 1, &other_hits);
            printf(",\"baseline\":\"sqlite %s, one event a step\",\"baseline_ns\":%.1f,"
                   "\"baseline_rate\":%.0f,\"baseline_hits\":%u,\"ratio\":%.2f",
                   sqlite3_libversion(), other, 1e9 / other, other_hits, other / ns);
        }
        printf("}\n");
        hr_batch_unref(batch);
    }
    hr_batch_unref(all);
    hr_sql_free(sql);
    return 0;
}
