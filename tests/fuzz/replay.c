/* SPDX-License-Identifier: Apache-2.0 */
/* Gives every file of the folders and files named to one fuzz target: the corpus as a test. */
#include "core/memory.h"
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

static size_t replayed;

static void replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    HR_ASSERT(file != NULL);
    hr_buffer all = {0};
    for (size_t got = 1; got > 0; all.size += got) {
        got = fread(hr_buffer_room(&all, 65536), 1, 65536, file);
    }
    (void)fclose(file);
    uint8_t *exact = hr_alloc(all.size == 0 ? 1 : all.size); /* so that asan sees its end */
    if (all.size > 0) {
        memcpy(exact, all.bytes, all.size);
    }
    (void)fprintf(stderr, "%s\n", path);
    (void)LLVMFuzzerTestOneInput(exact, all.size);
    replayed++;
    hr_free(exact);
    hr_buffer_fini(&all);
}

static void replay(const char *path) {
    struct stat is;
    HR_ASSERT(stat(path, &is) == 0);
    if (!S_ISDIR(is.st_mode)) {
        replay_file(path);
        return;
    }
    DIR *folder = opendir(path);
    HR_ASSERT(folder != NULL);
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_name[0] != '.') {
            char *below = hr_format("%s/%s", path, entry->d_name);
            replay_file(below);
            hr_free(below);
        }
    }
    (void)closedir(folder);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        replay(argv[i]);
    }
    (void)printf("%zu inputs\n", replayed);
    return replayed == 0;
}
