/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a program and lets one of its system calls fail: the Nth of a name and kind, counted over
 * all of its threads and over nothing it starts. strace -f counts each thread by itself and so
 * breaks several calls at once; here a seccomp filter asks a supervisor, and the rest runs at full
 * speed.
 *
 *   fail_syscall --log FILE --record -- PROGRAM ...
 *   fail_syscall --log FILE --call pwrite64 --kind file --nth 7 --error 5 -- PROGRAM ...
 *   fail_syscall --in NAME ...      the calls of a process that it starts, by its name
 *
 * FILE gets a line for each call (record) or for the one that failed: name, kind, object. Counting
 * begins when the loader is done. This process becomes PROGRAM; the supervisor is no child of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOADED = SYS_prlimit64, PATH_BYTES = 300, RECORDED = 100000 };

/* What a call is about: nothing, the descriptor or the path in this argument, or its memory. */
typedef enum about { NOTHING, DESCRIPTOR, PATH, OPENED, MAPPED, CONTROLLED, WATCHED } about;

static const struct {
    const char *name;
    int number;
    about about;
    unsigned argument;
} calls[] = {{"openat", SYS_openat, OPENED, 1},
             {"read", SYS_read, DESCRIPTOR, 0},
             {"pread64", SYS_pread64, DESCRIPTOR, 0},
             {"write", SYS_write, DESCRIPTOR, 0},
             {"pwrite64", SYS_pwrite64, DESCRIPTOR, 0},
             {"writev", SYS_writev, DESCRIPTOR, 0},
             {"fsync", SYS_fsync, DESCRIPTOR, 0},
             {"fdatasync", SYS_fdatasync, DESCRIPTOR, 0},
             {"ftruncate", SYS_ftruncate, DESCRIPTOR, 0},
             {"fallocate", SYS_fallocate, DESCRIPTOR, 0},
             {"getdents64", SYS_getdents64, DESCRIPTOR, 0},
             {"sendto", SYS_sendto, DESCRIPTOR, 0},
             {"sendmsg", SYS_sendmsg, DESCRIPTOR, 0},
             {"recvfrom", SYS_recvfrom, DESCRIPTOR, 0},
             {"recvmsg", SYS_recvmsg, DESCRIPTOR, 0},
             {"bind", SYS_bind, DESCRIPTOR, 0},
             {"accept4", SYS_accept4, DESCRIPTOR, 0},
             {"epoll_ctl", SYS_epoll_ctl, WATCHED, 2},
             {"newfstatat", SYS_newfstatat, PATH, 1},
             {"unlink", SYS_unlink, PATH, 0},
             {"rename", SYS_rename, PATH, 1},
             {"mkdir", SYS_mkdir, PATH, 0},
             {"statfs", SYS_statfs, PATH, 0},
             {"socket", SYS_socket, NOTHING, 0},
             {"socketpair", SYS_socketpair, NOTHING, 0},
             {"eventfd2", SYS_eventfd2, NOTHING, 0},
             {"epoll_create1", SYS_epoll_create1, NOTHING, 0},
             {"pipe2", SYS_pipe2, NOTHING, 0},
             {"timerfd_create", SYS_timerfd_create, NOTHING, 0},
             {"dup", SYS_dup, DESCRIPTOR, 0},
             {"fcntl", SYS_fcntl, CONTROLLED, 0},
             {"mmap", SYS_mmap, MAPPED, 0},
             {"mprotect", SYS_mprotect, NOTHING, 0},
             {"clone3", SYS_clone3, NOTHING, 0},
             {"clone", SYS_clone, NOTHING, 0}};
enum { CALLS = sizeof calls / sizeof *calls };

static struct {
    const char *log, *call, *kind, *in;
    unsigned long nth;
    int error;
    bool is_record;
} wish;

typedef struct shared {
    sem_t ready, taken;
    int listener; /* the program's number of it */
} shared;

static _Noreturn void die(const char *what) {
    fprintf(stderr, "fail_syscall: %s: %s\n", what, strerror(errno));
    exit(125);
}

static bool is_wanted(size_t i) {
    return wish.is_record || strcmp(calls[i].name, wish.call) == 0;
}

/* ---- the program's side ---- */

static int install(void) {
    struct sock_filter code[3 + 2 * (CALLS + 1) + 1];
    unsigned short size = 0;
    code[size++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i <= CALLS; i++) {
        if (i < CALLS && !is_wanted(i)) {
            continue;
        }
        unsigned number = (unsigned)(i == CALLS ? LOADED : calls[i].number);
        code[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
        code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    }
    code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = size, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        die("no_new_privs");
    }
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                        &program);
}

/* ---- the supervisor's side ---- */

static pid_t program, target; /* target: program, or what it started under the name wished for */
static unsigned long counted, recorded;
static bool is_loaded, has_failed;
static int log_fd, memory_fd = -1;

static bool has_name(pid_t process, const char *name) {
    char path[64], found[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)process);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, found, sizeof found - 1);
    if (fd >= 0) {
        close(fd);
    }
    return size > 0 && strncmp(found, name, strlen(name)) == 0;
}

static bool is_of_target(pid_t thread) {
    char path[64];
    if (target == 0) { /* the first of this name; what it forks has the name too */
        target = has_name(thread, wish.in) ? thread : 0;
    }
    snprintf(path, sizeof path, "/proc/%d/task/%d", (int)target, (int)thread);
    return thread == target || (target != 0 && access(path, F_OK) == 0);
}

static void read_path(uint64_t address, char *out) {
    char path[64];
    out[0] = '\0';
    if (memory_fd < 0) { /* after the exec, which made a new memory */
        snprintf(path, sizeof path, "/proc/%d/mem", (int)target);
        memory_fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    ssize_t got = 0;
    size_t size = 4096 - address % 4096 < PATH_BYTES - 1 ? 4096 - address % 4096 : PATH_BYTES - 1;
    if (memory_fd >= 0 && (got = pread(memory_fd, out, size, (off_t)address)) >= 0) {
        out[got] = '\0';
    }
}

static const char *descriptor(uint64_t fd, char *out) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)target, (int)fd);
    ssize_t size = readlink(path, out, PATH_BYTES - 1);
    out[size < 0 ? 0 : size] = '\0';
    return (int)fd == STDERR_FILENO || (int)fd == STDOUT_FILENO ? "log"
           : out[0] == '/'                                      ? "file"
           : strncmp(out, "socket:", 7) == 0                    ? "socket"
           : strncmp(out, "pipe:", 5) == 0                      ? "pipe"
                                                                : "other";
}

/* A second one of the same descriptor can only be told EEXIST. */
static bool is_watched(uint64_t epoll, uint64_t fd) {
    char path[64], line[200], wanted[32];
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)target, (int)epoll);
    snprintf(wanted, sizeof wanted, "tfd: %8d ", (int)fd);
    FILE *file = fopen(path, "re");
    bool is_found = false;
    while (file != NULL && !is_found && fgets(line, sizeof line, file) != NULL) {
        is_found = strncmp(line, wanted, strlen(wanted)) == 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return is_found;
}

/* The kind of a call, and in out what it is about. */
static const char *kind_of(size_t i, const struct seccomp_notif *asked, char *out) {
    const uint64_t *args = (const uint64_t *)(const void *)asked->data.args;
    out[0] = '\0';
    switch (calls[i].about) {
    case NOTHING:
        return "any";
    case DESCRIPTOR:
        return descriptor(args[calls[i].argument], out);
    case PATH:
        read_path(args[calls[i].argument], out);
        if (out[0] == '\0') { /* fstat() */
            descriptor(args[0], out);
        }
        return "any";
    case OPENED:
        read_path(args[1], out);
        return (args[2] & O_CREAT) != 0 ? "create" : "open";
    case MAPPED:
        return (args[3] & MAP_ANONYMOUS) != 0 ? "memory" : "file";
    case CONTROLLED:
        descriptor(args[0], out);
        return args[1] == F_DUPFD || args[1] == F_DUPFD_CLOEXEC ? "dup" : "other";
    case WATCHED:
        descriptor(args[2], out);
        return args[1] == EPOLL_CTL_ADD && !is_watched(args[0], args[2]) ? "add" : "other";
    }
    return "any";
}

static void note(size_t i, const char *kind, const char *object) {
    char line[PATH_BYTES + 64];
    int size = snprintf(line, sizeof line, "%s %s %s\n", calls[i].name, kind, object);
    if (write(log_fd, line, (size_t)size) != size) {
        exit(1);
    }
}

/* The error of this call; 0: it goes on. */
static int decide(const struct seccomp_notif *asked) {
    char object[PATH_BYTES];
    if (has_failed || !is_of_target((pid_t)asked->pid)) {
        return 0;
    }
    if (asked->data.nr == LOADED) {
        is_loaded = true;
        return 0;
    }
    size_t i = 0;
    while (i < CALLS && calls[i].number != asked->data.nr) {
        i++;
    }
    if (!is_loaded || i == CALLS) {
        return 0;
    }
    const char *kind = kind_of(i, asked, object);
    if (wish.is_record) {
        if (recorded++ < RECORDED) {
            note(i, kind, object);
        }
        return 0;
    }
    if (strcmp(kind, wish.kind) != 0 || ++counted != wish.nth) {
        return 0;
    }
    has_failed = true;
    note(i, kind, object);
    return wish.error;
}

static _Noreturn void supervise(shared *both) {
    while (sem_wait(&both->ready) != 0) {
    }
    int program_fd = (int)syscall(SYS_pidfd_open, program, 0);
    int listener = (int)syscall(SYS_pidfd_getfd, program_fd, both->listener, 0);
    if (listener < 0) {
        die("the filter's descriptor");
    }
    sem_post(&both->taken);
    log_fd = open(wish.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) { /* whoever reads the program's output waits for their end */
        dup2(null, fd);
    }
    struct pollfd waits = {.fd = listener, .events = POLLIN};
    for (;;) {
        struct seccomp_notif asked = {0};
        if (poll(&waits, 1, -1) < 0 || (waits.revents & POLLIN) == 0) {
            exit(0); /* the program is gone, and all it started */
        }
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) {
            continue; /* a signal took it back */
        }
        int error = decide(&asked);
        struct seccomp_notif_resp answer = {.id = asked.id, .error = -error};
        answer.flags = error == 0 ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

static char **read_words(char **at) {
    for (; *at != NULL && strcmp(*at, "--") != 0; at++) {
        if (strcmp(*at, "--record") == 0) {
            wish.is_record = true;
            continue;
        }
        const char *name = *at, *value = at[1];
        if (value == NULL) {
            break;
        }
        at++;
        if (strcmp(name, "--log") == 0) {
            wish.log = value;
        } else if (strcmp(name, "--call") == 0) {
            wish.call = value;
        } else if (strcmp(name, "--kind") == 0) {
            wish.kind = value;
        } else if (strcmp(name, "--in") == 0) {
            wish.in = value;
        } else if (strcmp(name, "--nth") == 0) {
            wish.nth = strtoul(value, NULL, 10);
        } else if (strcmp(name, "--error") == 0) {
            wish.error = (int)strtol(value, NULL, 10);
        }
    }
    bool is_fault = wish.call != NULL && wish.kind != NULL && wish.nth > 0 && wish.error > 0;
    if (*at == NULL || at[1] == NULL || wish.log == NULL || wish.is_record == is_fault) {
        errno = EINVAL;
        die("usage: --log FILE (--record | --call NAME --kind KIND --nth N --error E) -- PROGRAM");
    }
    return at + 1;
}

int main(int argc, char **argv) {
    (void)argc;
    char **words = read_words(argv + 1);
    program = getpid();
    target = wish.in == NULL ? program : 0;
    shared *both =
        mmap(NULL, sizeof *both, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (both == MAP_FAILED || sem_init(&both->ready, 1, 0) != 0 ||
        sem_init(&both->taken, 1, 0) != 0) {
        die("shared memory");
    }
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* or it may not take the descriptor */
    pid_t child = fork();
    if (child == 0) {
        if (setsid() < 0 || fork() != 0) {
            _exit(0); /* so that the program has no child it does not know of */
        }
        supervise(both);
    }
    if (child < 0 || waitpid(child, NULL, 0) != child) {
        die("fork");
    }
    both->listener = install();
    if (both->listener < 0) {
        die("the filter");
    }
    sem_post(&both->ready);
    while (sem_wait(&both->taken) != 0) { /* or the exec closes the last of it */
    }
    execv(words[0], words);
    _exit(126);
}
