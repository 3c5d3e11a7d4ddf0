/* SPDX-License-Identifier: Apache-2.0 */
/* A library to preload: the Nth allocation of the program fails, whoever asks for it.
 *
 *   FAIL_PROGRAM  only in a process of this name; what it starts is left alone
 *   FAIL_AT       N; 0: none, they are only counted
 *   FAIL_LOG      gets one line when it happens: "alloc LIBRARY FUNCTION, so many bytes"; and one
 *                 when the program crashes: "crash SIGNAL in LIBRARY FUNCTION by LIBRARY FUNCTION":
 *                 where it did, and the first that is not the C library of those that called that
 *   FAIL_COUNT    a file whose first eight bytes count them */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

/* The C library's own, under the names by which it can be reached from here. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t align, size_t size);

static _Atomic uint64_t *counted;
static uint64_t fail_at;
static int log_fd = -1;

/* ---- crashes ---- */

enum { FRAMES = 64 };

static const void *program_counter(const void *context) {
    const ucontext_t *at = context;
#ifdef __x86_64__
    return (const void *)at->uc_mcontext.gregs[REG_RIP]; /* NOLINT(performance-no-int-to-ptr) */
#else
    return (const void *)at->uc_mcontext.pc; /* NOLINT(performance-no-int-to-ptr) */
#endif
}

/* The object of an address, "?" for none. */
static const char *object_of(const void *address, const char **out_function) {
    Dl_info found = {0};
    dladdr(address, &found);
    *out_function = found.dli_sname == NULL ? "?" : found.dli_sname;
    return found.dli_fname == NULL ? "?" : found.dli_fname;
}

static void on_crash(int number, siginfo_t *info, void *context) {
    (void)info;
    void *frames[FRAMES];
    const void *where = program_counter(context);
    const char *function = "?", *caller = "?", *by = "?", *in = object_of(where, &function);
    int count = backtrace(frames, FRAMES), at = 0;
    while (at < count && frames[at] != where) {
        at++;
    }
    for (; at < count; at++) {
        by = object_of(frames[at], &caller);
        if (strstr(by, "/libc.so") == NULL) {
            break;
        }
        by = "?";
    }
    char line[700];
    int length = snprintf(line, sizeof line, "crash %s in %s %s by %s %s\n", sigabbrev_np(number),
                          in, function, by, caller);
    (void)!write(log_fd, line, (size_t)length);
    signal(number, SIG_DFL); /* and once more */
    raise(number);
}

static void watch_crashes(void) {
    void *frame;
    backtrace(&frame, 1); /* it loads a library at its first call */
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        sigaction(numbers[i], &action, NULL);
    }
}

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
    watch_crashes();
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
