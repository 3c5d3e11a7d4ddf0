/* SPDX-License-Identifier: Apache-2.0 */
#include "functions/spawn.h"

#include "core/memory.h"
#include "functions/spawn_wire.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct program {
    uint64_t id;
    void (*started)(void *data, int pid, int error);
    void (*exited)(void *data, int status);
    void *data;
    struct program *next;
} program;

static struct {
    hr_loop *loop;
    hr_watch *watch;
    int fd;
    pid_t pid;
    uint64_t next_id;
    program *programs;
} spawner = {.fd = -1};

static program *find(uint64_t id) {
    program *p = spawner.programs;
    while (p != NULL && p->id != id) {
        p = p->next;
    }
    return p;
}

static void forget(uint64_t id) {
    for (program **at = &spawner.programs; *at != NULL; at = &(*at)->next) {
        if ((*at)->id == id) {
            program *p = *at;
            *at = p->next;
            hr_free(p);
            return;
        }
    }
}

static void on_message(const hr_spawn_message *message) {
    program *p = find(message->id);
    if (p == NULL) {
        return;
    }
    program own = *p;
    if (message->kind == HR_SPAWN_EXITED ||
        (message->kind == HR_SPAWN_STARTED && message->error != 0)) {
        forget(message->id);
    }
    if (message->kind == HR_SPAWN_STARTED && own.started != NULL) {
        own.started(own.data, message->pid, message->error);
    } else if (message->kind == HR_SPAWN_EXITED && own.exited != NULL) {
        own.exited(own.data, message->status);
    }
}

static void on_ready(void *data, int events) {
    (void)data;
    (void)events;
    hr_spawn_message message;
    while (spawner.fd >= 0) {
        ssize_t got = recv(spawner.fd, &message, sizeof message, MSG_DONTWAIT);
        if (got == (ssize_t)sizeof message) {
            on_message(&message);
            continue;
        }
        if (got == 0 ||
            (got < 0 && errno == ECONNRESET)) { /* a daemon that only waits helps nobody */
            hr_give_up("headrace-spawn ended (killed?), no function can be started any more");
        }
        return;
    }
}

static char *spawner_path(void) {
    const char *given = getenv("HEADRACE_SPAWN");
    if (given != NULL) {
        return hr_copy_text(given);
    }
    char self[4096];
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    if (size <= 0) {
        return hr_copy_text("headrace-spawn");
    }
    self[size] = '\0';
    char *slash = strrchr(self, '/');
    *slash = '\0';
    return hr_format("%s/headrace-spawn", self);
}

hr_code hr_spawner_start(hr_loop *loop, hr_error *err) {
    HR_ASSERT(spawner.loop == NULL);
    char *path = spawner_path();
    bool can_run = access(path, X_OK) == 0;
    if (can_run) {
        spawner.loop = loop;
        spawner.next_id = 1;
    } else {
        hr_fail(err, HR_E_IO, errno, "start '%s': %s", path, strerror(errno));
    }
    hr_free(path);
    return can_run ? HR_OK : HR_E_IO;
}

/* With the first program: many configurations have none. 0, or errno. */
static int start_process(void) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return errno;
    }
    int room = HR_SPAWN_MESSAGE * 8;
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    char *path = spawner_path();
    char *argv[] = {path, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pair[1], 3);
    int failed = posix_spawn(&spawner.pid, path, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    hr_free(path);
    close(pair[1]);
    if (failed != 0) {
        close(pair[0]);
        return failed;
    }
    spawner.fd = pair[0];
    spawner.watch = hr_watch_new(spawner.loop, spawner.fd, on_ready, NULL);
    hr_watch_set(spawner.watch, HR_WATCH_READ);
    return 0;
}

void hr_spawner_stop(void) {
    if (spawner.fd >= 0) {
        hr_watch_free(spawner.watch);
        close(spawner.fd); /* it ends all it started, then itself */
        spawner.fd = -1;
        while (waitpid(spawner.pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    while (spawner.programs != NULL) {
        forget(spawner.programs->id);
    }
    spawner.loop = NULL;
}

static size_t add_strings(char *at, size_t room, const char *const *strings, uint32_t *out_count) {
    size_t used = 0;
    *out_count = 0;
    for (; strings != NULL && *strings != NULL; strings++) {
        size_t size = strlen(*strings) + 1;
        if (used + size > room) {
            return SIZE_MAX;
        }
        memcpy(at + used, *strings, size);
        used += size;
        ++*out_count;
    }
    return used;
}

static bool send_start(hr_spawn_message *message, const hr_spawn_request *request) {
    char *text = hr_alloc(HR_SPAWN_MESSAGE);
    size_t used = strlen(request->cwd) + 1;
    memcpy(text, request->cwd, used < HR_SPAWN_MESSAGE ? used : 0);
    size_t more = add_strings(text + used, HR_SPAWN_MESSAGE - used, request->argv, &message->argc);
    if (more != SIZE_MAX) {
        used += more;
        more = add_strings(text + used, HR_SPAWN_MESSAGE - used, request->env, &message->envc);
    }
    bool sent = false;
    if (more != SIZE_MAX && message->argc + message->envc <= HR_SPAWN_STRINGS) {
        union {
            struct cmsghdr header;
            char room[CMSG_SPACE(sizeof(int) * HR_SPAWN_FDS)];
        } control = {0};
        int fds[HR_SPAWN_FDS];
        size_t count = 0;
        for (int i = 0; i < HR_SPAWN_FDS; i++) {
            if (request->fds[i] >= 0) {
                message->fds |= 1u << i;
                fds[count++] = request->fds[i];
            }
        }
        struct iovec parts[2] = {{.iov_base = message, .iov_len = sizeof *message},
                                 {.iov_base = text, .iov_len = used + more}};
        struct msghdr packet = {.msg_iov = parts, .msg_iovlen = 2};
        if (count > 0) {
            packet.msg_control = control.room;
            packet.msg_controllen = CMSG_SPACE(sizeof(int) * count);
            struct cmsghdr *head = CMSG_FIRSTHDR(&packet);
            head->cmsg_level = SOL_SOCKET;
            head->cmsg_type = SCM_RIGHTS;
            head->cmsg_len = CMSG_LEN(sizeof(int) * count);
            memcpy(CMSG_DATA(head), fds, sizeof(int) * count);
        }
        sent = sendmsg(spawner.fd, &packet, MSG_NOSIGNAL) > 0;
    } else {
        errno = E2BIG;
    }
    hr_free(text);
    return sent;
}

typedef struct late_failure {
    hr_message message; /* first */
    uint64_t id;
    int error;
} late_failure;

static void on_late_failure(hr_message *message) {
    late_failure *late = (late_failure *)message;
    hr_spawn_message answer = {.kind = HR_SPAWN_STARTED, .id = late->id, .error = late->error};
    on_message(&answer);
    hr_free(late);
}

uint64_t hr_spawn(const hr_spawn_request *request) {
    HR_ASSERT(spawner.loop != NULL);
    program *p = hr_alloc(sizeof *p);
    *p = (program){.id = spawner.next_id++,
                   .started = request->started,
                   .exited = request->exited,
                   .data = request->data,
                   .next = spawner.programs};
    spawner.programs = p;
    hr_spawn_message message = {.kind = HR_SPAWN_START, .id = p->id};
    int error = spawner.fd >= 0 ? 0 : start_process();
    if (error == 0 && !send_start(&message, request)) {
        error = errno;
    }
    if (error != 0) {
        late_failure *late = hr_alloc(sizeof *late);
        *late = (late_failure){.message = {.run = on_late_failure}, .id = p->id, .error = error};
        hr_loop_post(spawner.loop, &late->message);
    }
    for (int i = 0; i < HR_SPAWN_FDS; i++) {
        if (request->fds[i] >= 0) {
            close(request->fds[i]);
        }
    }
    return p->id;
}

void hr_spawn_kill(uint64_t handle) {
    if (spawner.fd >= 0 && find(handle) != NULL) {
        hr_spawn_message message = {.kind = HR_SPAWN_KILL, .id = handle};
        hr_spawn_send(spawner.fd, &message);
    }
}

void hr_spawn_forget(uint64_t handle) {
    hr_spawn_kill(handle);
    forget(handle);
}

const char *hr_spawn_status_text(int status, char *text, int size) {
    if (WIFSIGNALED(status)) {
        snprintf(text, (size_t)size, "killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    } else {
        snprintf(text, (size_t)size, "exit status %d", WEXITSTATUS(status));
    }
    return text;
}
