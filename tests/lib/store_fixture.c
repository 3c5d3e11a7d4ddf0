/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/store_fixture.h"

#include "core/envelope.h"
#include "core/memory.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

char *fixture_dir(void) {
    const char *base = getenv("TMPDIR");
    char *dir = hr_format("%s/headrace-test-XXXXXX", base == NULL ? "/tmp" : base);
    HR_ASSERT(mkdtemp(dir) != NULL);
    return dir;
}

void fixture_remove(char *dir) {
    DIR *folder = opendir(dir);
    struct dirent *entry = NULL;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        char *path = hr_format("%s/%s", dir, entry->d_name);
        unlink(path);
        hr_free(path);
    }
    if (folder != NULL) {
        closedir(folder);
    }
    rmdir(dir);
    hr_free(dir);
}

void fixture_load(const char *dir, const char *name, hr_buffer *out) {
    char *path = hr_format("%s/%s", dir, name);
    FILE *file = fopen(path, "rb");
    out->size = 0;
    for (size_t got = 1; file != NULL && got > 0;) {
        got = fread(hr_buffer_room(out, 65536), 1, 65536, file);
        out->size += got;
    }
    if (file != NULL) {
        fclose(file);
    }
    hr_free(path);
}

void fixture_save(const char *dir, const char *name, const uint8_t *bytes, size_t size) {
    char *path = hr_format("%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    HR_ASSERT(file != NULL);
    HR_ASSERT(size == 0 || fwrite(bytes, 1, size, file) == size);
    fclose(file);
    hr_free(path);
}

hr_store_options fixture_options(const char *dir) {
    return (hr_store_options){
        .dir = dir, .journal_max_bytes = UINT64_MAX, .journal_keep_ms = -1, .dead_max_age_ms = -1};
}

/* Byte i is the letter (position * 7 + i * 3) % 26. */
static void fill_data(uint8_t *data, size_t size, uint64_t position) {
    enum { LETTERS = 26, ROUND = 40 * LETTERS };
    static uint8_t pattern[ROUND + LETTERS];
    for (size_t i = 0; pattern[0] == 0 && i < sizeof pattern; i++) {
        size_t at = sizeof pattern - 1 - i; /* the first byte last */
        pattern[at] = (uint8_t)('a' + at * 3 % LETTERS);
    }
    const uint8_t *from = pattern + position % LETTERS * 11 % LETTERS; /* 11 * 3 is 7, modulo 26 */
    for (size_t done = 0; done < size; done += ROUND) {
        memcpy(data + done, from, size - done < ROUND ? size - done : ROUND);
    }
}

hr_batch *fixture_batch(uint32_t feed, uint64_t position, uint32_t count, size_t data_size) {
    hr_builder builder = {0};
    uint8_t *data = hr_alloc(data_size + 1);
    for (uint32_t i = 0; i < count; i++) {
        char id[64];
        snprintf(id, sizeof id, "%u-%llu", feed, (unsigned long long)(position + i));
        fill_data(data, data_size, position + i);
        hr_fields fields = {.id = hr_slice_text(id),
                            .source = hr_slice_text("/test/store"),
                            .type = hr_slice_text("test.event"),
                            .data = hr_slice_of(data, data_size),
                            .has_data = true};
        HR_ASSERT(hr_builder_pack(&builder, position + i, &fields, NULL) == HR_OK);
    }
    hr_free(data);
    hr_batch *batch = hr_builder_finish(&builder, feed, 1);
    hr_builder_fini(&builder);
    return batch;
}

bool fixture_is_whole(const hr_batch *batch, uint32_t index, size_t data_size) {
    char id[64];
    snprintf(id, sizeof id, "%u-%llu", batch->feed, (unsigned long long)batch->position[index]);
    uint8_t *data = hr_alloc(data_size + 1);
    fill_data(data, data_size, batch->position[index]);
    bool is_whole = hr_slice_is(hr_batch_id(batch, index), id) &&
                    hr_slice_equal(hr_batch_data(batch, index), hr_slice_of(data, data_size));
    hr_free(data);
    return is_whole;
}

static void unit_ended(hr_unit *unit, hr_code result) {
    *(int *)unit->data = (int)result;
}

hr_code fixture_commit(hr_store *store, hr_unit *unit) {
    int result = -1;
    unit->done = unit_ended;
    unit->data = &result;
    hr_store_submit(store, unit);
    for (int i = 0; i < 1000 && result == -1; i++) {
        hr_store_turn(store);
    }
    HR_ASSERT(result != -1);
    return (hr_code)result;
}

hr_code fixture_append(hr_store *store, uint32_t feed, hr_batch *batch) {
    hr_unit unit = {.feed = feed, .flags = HR_UNIT_INTAKE, .appends = &batch, .append_count = 1};
    hr_code code = fixture_commit(store, &unit);
    hr_batch_unref(batch);
    return code;
}

static void read_ended(hr_read *read) {
    *(int *)read->data = 1;
}

void fixture_read(hr_store *store, hr_read *read) {
    int is_done = 0;
    read->done = read_ended;
    read->data = &is_done;
    hr_store_read(store, read);
    for (int i = 0; i < 100000 && is_done == 0; i++) {
        hr_store_turn(store);
    }
    HR_ASSERT(is_done == 1);
}
