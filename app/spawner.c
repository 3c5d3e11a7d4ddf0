/* SPDX-License-Identifier: Apache-2.0 */
/* headrace-spawn: the small process that starts workers. It only forks, execs, reaps and kills; it
 * talks to the daemon over descriptor 3 and ends, with all it started, when that closes. */
#include "functions/spawn_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DAEMON_FD = 3, PROGRAMS = 4096 };

static struct {
    uint64_t id;
    pid_t pid;
} running[PROGRAMS];
static size_t running_count;

static void say(uint32_t kind, uint64_t id, int pid, int error, int status) {
    hr_spawn_message message = {
        .kind = kind, .id = id, .pid = pid, .error = error, .status = status};
    hr_spawn_send(DAEMON_FD, &message);
}

/* In the child: from here on only async-signal-safe calls. Reports through error_fd. */
static void become(const hr_spawn_message *message, const int *fds, char **argv, char **env,
                   const char *cwd, int error_fd) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    struct rlimit files = {1024, 1024};
    setrlimit(RLIMIT_NOFILE, &files);
    size_t next = 0;
    for (int i = 0; i < HR_SPAWN_FDS; i++) { /* fds are all above 3: nothing is overwritten */
        int fd = (message->fds >> i & 1) != 0 && next < HR_SPAWN_FDS ? fds[next++] : -1;
        if (fd < 0 && i < 3) {
            fd = open("/dev/null", i == 0 ? O_RDONLY : O_WRONLY);
        }
        if (fd >= 0) {
            dup2(fd, i);
        } else {
            close(i);
        }
    }
    int error = chdir(cwd) == 0 ? 0 : errno;
    if (error == 0) {
        environ = env;
        execvp(argv[0], argv);
        error = errno;
    }
    ssize_t ignored = write(error_fd, &error, sizeof error);
    (void)ignored;
    _exit(127);
}

static bool split(char *text, size_t size, char **out, uint32_t count, size_t *at) {
    for (uint32_t i = 0; i < count; i++) {
        char *end = *at < size ? memchr(text + *at, '\0', size - *at) : NULL;
        if (end == NULL) {
            return false;
        }
        out[i] = text + *at;
        *at = (size_t)(end - text) + 1;
    }
    out[count] = NULL;
    return true;
}

static int start(const hr_spawn_message *message, char *text, size_t size, const int *fds,
                 pid_t *out_pid) {
    static char *argv[HR_SPAWN_STRINGS + 1], *env[HR_SPAWN_STRINGS + 1];
    char *cwd[2];
    size_t at = 0;
    if (message->argc == 0 || message->argc + message->envc > HR_SPAWN_STRINGS ||
        !split(text, size, cwd, 1, &at) || !split(text, size, argv, message->argc, &at) ||
        !split(text, size, env, message->envc, &at) || running_count == PROGRAMS) {
        return E2BIG;
    }
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) != 0) {
        return errno;
    }
    int error = 0;
    pid_t pid = fork();
    if (pid == 0) {
        become(message, fds, argv, env, cwd[0], pair[1]);
    }
    close(pair[1]);
    if (pid < 0) {
        error = errno;
    } else if (read(pair[0], &error, sizeof error) <= 0) {
        error = 0; /* closed by exec */
    } else {
        waitpid(pid, NULL, 0);
    }
    close(pair[0]);
    *out_pid = pid;
    return error;
}

static void on_start(const hr_spawn_message *message, char *text, size_t size, const int *fds) {
    pid_t pid = 0;
    int error = start(message, text, size, fds, &pid);
    if (error == 0) {
        running[running_count].id = message->id;
        running[running_count++].pid = pid;
    }
    say(HR_SPAWN_STARTED, message->id, error == 0 ? pid : 0, error, 0);
}

static void on_kill(uint64_t id) {
    for (size_t i = 0; i < running_count; i++) {
        if (running[i].id == id) {
            kill(-running[i].pid, SIGKILL);
            kill(running[i].pid, SIGKILL); /* it may not have its group yet */
        }
    }
}

static void reap(void) {
    int status = 0;
    for (;;) {
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0) {
            return;
        }
        for (size_t i = 0; i < running_count; i++) {
            if (running[i].pid == pid) {
                uint64_t id = running[i].id;
                running[i] = running[--running_count];
                kill(-pid, SIGKILL); /* what it left behind */
                say(HR_SPAWN_EXITED, id, 0, 0, status);
                break;
            }
        }
    }
}

/* One message of the daemon; false: it is gone. */
static bool take_message(void) {
    static char text[HR_SPAWN_MESSAGE];
    hr_spawn_message message = {0};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int) * HR_SPAWN_FDS)];
    } control;
    struct iovec parts[2] = {{.iov_base = &message, .iov_len = sizeof message},
                             {.iov_base = text, .iov_len = sizeof text}};
    struct msghdr packet = {.msg_iov = parts,
                            .msg_iovlen = 2,
                            .msg_control = control.room,
                            .msg_controllen = sizeof control.room};
    ssize_t got = recvmsg(DAEMON_FD, &packet, MSG_CMSG_CLOEXEC);
    if (got < 0) { /* the message waits until there is memory for it */
        return errno == EINTR || errno == EAGAIN || errno == ENOMEM || errno == ENOBUFS;
    }
    if (got < (ssize_t)sizeof message) {
        return false;
    }
    int fds[HR_SPAWN_FDS] = {-1, -1, -1, -1};
    size_t count = 0;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&packet); head != NULL;
         head = CMSG_NXTHDR(&packet, head)) {
        if (head->cmsg_type == SCM_RIGHTS) {
            count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(fds, CMSG_DATA(head), count * sizeof(int));
        }
    }
    if (message.kind == HR_SPAWN_START && count == (size_t)__builtin_popcount(message.fds)) {
        on_start(&message, text, (size_t)got - sizeof message, fds);
    } else if (message.kind == HR_SPAWN_START) { /* they did not all fit into our table */
        say(HR_SPAWN_STARTED, message.id, 0, EMFILE, 0);
    } else if (message.kind == HR_SPAWN_KILL) {
        on_kill(message.id);
    }
    for (size_t i = 0; i < count; i++) {
        close(fds[i]);
    }
    return true;
}

int main(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "headrace-spawn");
    fcntl(DAEMON_FD, F_SETFD, FD_CLOEXEC);
    closefrom(DAEMON_FD + 1); /* what a library of the daemon left open for its children */
    setsid();                 /* Ctrl-C at the terminal is the daemon's to answer */
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    int children = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    struct pollfd ready[2] = {{.fd = DAEMON_FD, .events = POLLIN},
                              {.fd = children, .events = POLLIN}};
    for (;;) {
        if (poll(ready, 2, -1) < 0) {
            if (errno != EINTR && errno != EAGAIN && errno != ENOMEM) {
                break;
            }
            continue;
        }
        if (ready[1].revents != 0) {
            struct signalfd_siginfo info;
            while (read(children, &info, sizeof info) > 0) {
            }
            reap();
        }
        if (ready[0].revents != 0 && !take_message()) {
            break;
        }
    }
    for (size_t i = 0; i < running_count; i++) {
        kill(-running[i].pid, SIGKILL);
        kill(running[i].pid, SIGKILL);
    }
    return 0;
}
