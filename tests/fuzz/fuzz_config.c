/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files: errors have places and messages, what loads also prints. A first line
 * "# load: WORDS" says from where: folder (its files are cut at lines "# file"), missing, twice.
 *
 * Beside the files stand those that configurations name: secret.txt, latin.txt, zero.txt, big.txt,
 * run.py, run.sh, plain.sh, sub. */
#include "app/config.h"
#include "core/memory.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 3 };

static char folder[64]; /* fuzz.yaml, conf/a.yaml, conf/b.yml stand for the memory files */
static int fds[FILES];

static const char *const NAMES[FILES] = {"fuzz.yaml", "conf/a.yaml", "conf/b.yml"};
static const struct {
    const char *name, *text;
    size_t size; /* of the file, when larger than the text */
    mode_t mode;
} BESIDE[] = {{"secret.txt", "hunter2\r\n", 0, 0600},
              {"latin.txt", "caf\xe9", 0, 0600},
              {"zero.txt", "a", 3, 0600},
              {"big.txt", "a", (1 << 20) + 2, 0600},
              {"run.py", "pass", 0, 0600},
              {"run.sh", "#!/bin/sh\n", 0, 0700},
              {"plain.sh", "#!/bin/sh\n", 0, 0600},
              {"conf/notes.txt", "- no yaml", 0, 0600},
              {"conf/.hidden.yaml", "-", 0, 0600}};
static const char *const FOLDERS[] = {"conf", "sub", "empty"};

static char *path_of(const char *name) {
    return hr_format("%s/%s", folder, name);
}

static void remove_all(void) {
    for (size_t i = 0; i < FILES + sizeof BESIDE / sizeof *BESIDE; i++) {
        char *path = path_of(i < FILES ? NAMES[i] : BESIDE[i - FILES].name);
        (void)unlink(path);
        hr_free(path);
    }
    for (size_t i = 0; i < sizeof FOLDERS / sizeof *FOLDERS; i++) {
        char *path = path_of(FOLDERS[i]);
        (void)rmdir(path);
        hr_free(path);
    }
    (void)rmdir(folder);
}

static void make_all(void) {
    (void)snprintf(folder, sizeof folder, "/dev/shm/headrace-fuzz-XXXXXX");
    FUZZ_CHECK(mkdtemp(folder) != NULL && atexit(remove_all) == 0);
    for (size_t i = 0; i < sizeof FOLDERS / sizeof *FOLDERS; i++) {
        char *path = path_of(FOLDERS[i]);
        FUZZ_CHECK(mkdir(path, 0700) == 0);
        hr_free(path);
    }
    for (size_t i = 0; i < sizeof BESIDE / sizeof *BESIDE; i++) {
        char *path = path_of(BESIDE[i].name);
        size_t size = strlen(BESIDE[i].text);
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, BESIDE[i].mode);
        FUZZ_CHECK(fd >= 0 && write(fd, BESIDE[i].text, size) == (ssize_t)size);
        FUZZ_CHECK(BESIDE[i].size == 0 || ftruncate(fd, (off_t)BESIDE[i].size) == 0);
        (void)close(fd);
        hr_free(path);
    }
    for (size_t i = 0; i < FILES; i++) {
        fds[i] = memfd_create("fuzz", MFD_CLOEXEC);
        char *path = path_of(NAMES[i]), *memory = hr_format("/proc/self/fd/%d", fds[i]);
        FUZZ_CHECK(fds[i] >= 0 && symlink(memory, path) == 0);
        hr_free(path);
        hr_free(memory);
    }
}

static void write_file(size_t index, hr_slice text) {
    FUZZ_CHECK(ftruncate(fds[index], 0) == 0);
    FUZZ_CHECK(text.size == 0 ||
               pwrite(fds[index], text.bytes, text.size, 0) == (ssize_t)text.size);
}

static const char *variable(const char *name) {
    static const char *const all[][2] = {
        {"SECRET", "hunter2"}, {"EMPTY", ""}, {"LATIN", "\xe9"}, {"PORT", "7081"}, {"TIME", "5s"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(name, all[i][0]) == 0) {
            return all[i][1];
        }
    }
    return NULL;
}

/* A fault where "!" stands. */
static hr_code compile(void *data, const char *text, int *out_offset, hr_error *err) {
    (void)data;
    const char *fault = strchr(text, '!');
    *out_offset = fault == NULL ? -1 : (int)(fault - text);
    return fault == NULL ? HR_OK : hr_fail(err, HR_E_EXPRESSION, 0, "no");
}

static bool has_word(hr_slice line, const char *word) {
    return line.size > 0 && memmem(line.bytes, line.size, word, strlen(word)) != NULL;
}

/* Puts the input into files; returns how many paths are to be loaded. */
static size_t lay_out(hr_slice input, char *paths[4]) {
    hr_slice rest = input, head = fuzz_line(&rest);
    bool is_told = head.size > 7 && memcmp(head.bytes, "# load:", 7) == 0;
    size_t count = 0;
    if (is_told && has_word(head, "folder")) {
        static const char MARK[] = "\n# file\n";
        const uint8_t *cut =
            rest.size == 0 ? NULL : memmem(rest.bytes, rest.size, MARK, sizeof MARK - 1);
        size_t first = cut == NULL ? rest.size : (size_t)(cut - rest.bytes) + 1;
        write_file(1, hr_slice_of(rest.bytes, first));
        write_file(2, hr_slice_of(rest.bytes + first, rest.size - first));
        paths[count++] = has_word(head, "/") ? path_of("conf/") : path_of("conf");
    } else {
        write_file(0, input);
        paths[count++] = path_of("fuzz.yaml");
    }
    if (is_told && has_word(head, "twice")) {
        paths[count++] = hr_copy_text(paths[0]);
    }
    if (is_told && has_word(head, "missing")) {
        paths[count++] = path_of("none.yaml");
    }
    if (is_told && has_word(head, "empty")) {
        paths[count++] = path_of("empty");
    }
    return count;
}

static void look_at(const hr_config *config) {
    FUZZ_CHECK(hr_node_count(hr_config_root(config)) == 3);
    for (const hr_node *part = hr_config_root(config)->child->next; part != NULL;
         part = part->next) {
        for (const hr_node *node = part->child; node != NULL; node = node->next) {
            char *from = hr_config_folder(node);
            FUZZ_CHECK(hr_config_kind(node) != NULL);
            FUZZ_CHECK(strncmp(from, folder, strlen(folder)) == 0);
            hr_free(from);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (folder[0] == '\0') {
        make_all();
    }
    char *paths[4] = {0};
    size_t count = lay_out(hr_slice_of(bytes, size), paths);
    const hr_config_options options = {.compile = compile, .variable = variable};
    hr_diagnostics *diags = hr_diagnostics_new();
    hr_config *config = NULL;
    hr_buffer text = {0};
    hr_code code = hr_config_load((const char *const *)paths, count, &options, &config, diags);
    if (code == HR_OK) {
        FUZZ_CHECK(config != NULL && hr_diagnostics_errors(diags) == 0);
        look_at(config);
        hr_config_print(config, &text);
        FUZZ_CHECK(text.size > 0);
        hr_config_free(config);
    } else {
        FUZZ_CHECK(config == NULL && hr_diagnostics_errors(diags) > 0);
    }
    text.size = 0;
    hr_diagnostics_print(diags, &text);
    hr_diagnostics_print_json(diags, &text);
    hr_buffer_fini(&text);
    hr_diagnostics_free(diags);
    for (size_t i = 0; i < count; i++) {
        hr_free(paths[i]);
    }
    return 0;
}
