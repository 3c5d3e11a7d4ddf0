/* SPDX-License-Identifier: Apache-2.0 */
/* A library to preload: the Nth allocation of the program fails, whoever asks for it.
 *
 *   FAIL_PROGRAM  only in a process of this name; what it starts is left alone
 *   FAIL_AT       N; 0: none, they are only counted
 *   FAIL_LOG      gets one line when it happens: "alloc LIBRARY FUNCTION, so many bytes"
 *   FAIL_COUNT    a file whose first eight bytes count them */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The C library's own, under the names by which it can be reached from here. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t align, size_t size);

static _Atomic uint64_t *counted;
static uint64_t fail_at;
static int log_fd = -1;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("FAIL_PROGRAM"), *at = getenv("FAIL_AT"), *log = getenv("FAIL_LOG"),
               *count = getenv("FAIL_COUNT");
    if (name == NULL || at == NULL || log == NULL || count == NULL ||
        strcmp(program_invocation_short_name, name) != 0) {
        return;
    }
    unsetenv("LD_PRELOAD"); /* what it starts is left alone */
    fail_at = strtoull(at, NULL, 10);
    log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int fd = open(count, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (log_fd < 0 || fd < 0 || ftruncate(fd, sizeof *counted) != 0) {
        abort();
    }
    void *shared = mmap(NULL, sizeof *counted, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) {
        abort();
    }
    close(fd);
    counted = shared;
}

static bool fails(size_t size, const void *caller) {
    if (counted == NULL || atomic_fetch_add(counted, 1) + 1 != fail_at) {
        return false;
    }
    Dl_info found = {0};
    char line[300];
    dladdr(caller, &found);
    int length = snprintf(line, sizeof line, "alloc %s %s, %zu bytes\n",
                          found.dli_fname == NULL ? "?" : found.dli_fname,
                          found.dli_sname == NULL ? "?" : found.dli_sname, size);
    (void)!write(log_fd, line, (size_t)length);
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size) {
    return fails(size, __builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    return fails(count * size, __builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
    if (size > 0 && fails(size, __builtin_return_address(0))) {
        return NULL;
    }
    return __libc_realloc(memory, size);
}

void *reallocarray(void *memory, size_t count, size_t size) {
    if (size != 0 && count > SIZE_MAX / size) {
        errno = ENOMEM;
        return NULL;
    }
    return fails(count * size, __builtin_return_address(0)) ? NULL
                                                            : __libc_realloc(memory, count * size);
}

void *aligned_alloc(size_t align, size_t size) {
    return fails(size, __builtin_return_address(0)) ? NULL : __libc_memalign(align, size);
}

void *memalign(size_t align, size_t size);
void *memalign(size_t align, size_t size) {
    return fails(size, __builtin_return_address(0)) ? NULL : __libc_memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size) {
    void *memory = fails(size, __builtin_return_address(0)) ? NULL : __libc_memalign(align, size);
    if (memory == NULL) {
        return ENOMEM;
    }
    *out = memory;
    return 0;
}
