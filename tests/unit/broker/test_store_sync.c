/* SPDX-License-Identifier: Apache-2.0 */
/* A disk whose syncs are ignored is told, once, and a state in memory; a disk that takes its time
 * is not. This program's fdatasync, fsync and statfs stand before the C library's. */
#include "broker/store.h"
#include "core/memory.h"
#include "tests/lib/store_fixture.h"

#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cmocka.h>

static uint64_t takes_ns; /* 0: ignored */
static int syncs;
static long file_system = EXT4_SUPER_MAGIC;

static int sync_file(void) {
    syncs++;
    for (uint64_t begin = hr_mono_ns(); takes_ns > 0 && hr_mono_ns() - begin < takes_ns;) {
    }
    return 0;
}

int fdatasync(int fd) {
    (void)fd;
    return sync_file();
}

int fsync(int fd) {
    (void)fd;
    return sync_file();
}

int statfs(const char *path, struct statfs *out) {
    (void)path;
    *out = (struct statfs){.f_type = file_system};
    return 0;
}

enum { COMMITS = 50 };

/* How many warnings a store logs from its opening on that say so, and how many in all. */
static int warnings(const char *words, int *out_all, double *out_sync_us) {
    char *dir = fixture_dir();
    hr_store_options options = fixture_options(dir);
    hr_store *store = NULL;
    uint32_t in = 0, epoch = 0;
    FILE *said = tmpfile();
    fflush(stderr);
    int before = dup(STDERR_FILENO);
    assert_true(dup2(fileno(said), STDERR_FILENO) >= 0);
    hr_code code = hr_store_open(&options, &store, NULL);
    if (code == HR_OK) {
        code = hr_store_feed_open(store, "journal", "in", &in, &epoch, NULL);
    }
    for (int i = 0; code == HR_OK && i < COMMITS; i++) {
        code = fixture_append(store, in, fixture_batch(in, 1 + (uint64_t)i, 1, 10));
    }
    hr_store_stats stats = {0};
    if (code == HR_OK) {
        hr_store_get_stats(store, &stats);
    }
    hr_store_close(store);
    fflush(stderr);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    assert_int_equal(code, HR_OK);
    *out_sync_us = (double)stats.sync_ns / 1000;
    rewind(said);
    int lines = 0;
    *out_all = 0;
    for (char line[1200]; fgets(line, sizeof line, said) != NULL;) {
        *out_all += strstr(line, " warn  store: ") != NULL;
        lines += strstr(line, words) != NULL;
    }
    fclose(said);
    fixture_remove(dir);
    return lines;
}

static void o_d3_a_disk_that_ignores_syncs_is_told_once(void **state) {
    (void)state;
    double sync_us = 0;
    int all = 0;
    takes_ns = 0;
    syncs = 0;
    assert_int_equal(warnings("a power cut takes acknowledged events", &all, &sync_us), 1);
    assert_int_equal(all, 1);
    assert_true(syncs >= COMMITS); /* SQLite's came here */
    assert_true(sync_us > 0 && sync_us < 30);
}

static void o_d3_a_disk_that_takes_its_time_is_not_told(void **state) {
    (void)state;
    double sync_us = 0;
    int all = 0;
    takes_ns = 100000;
    assert_int_equal(warnings("a sync of", &all, &sync_us), 0);
    assert_int_equal(all, 0);
    assert_true(sync_us >= 100);
}

static void o_d3_a_state_in_memory_is_told_as_that(void **state) {
    (void)state;
    double sync_us = 0;
    int all = 0;
    takes_ns = 0;
    file_system = TMPFS_MAGIC;
    assert_int_equal(warnings("is in memory: what is acknowledged goes", &all, &sync_us), 1);
    assert_int_equal(all, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(o_d3_a_disk_that_ignores_syncs_is_told_once),
        cmocka_unit_test(o_d3_a_disk_that_takes_its_time_is_not_told),
        cmocka_unit_test(o_d3_a_state_in_memory_is_told_as_that),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
