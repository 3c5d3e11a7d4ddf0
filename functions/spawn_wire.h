/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between the daemon and headrace-spawn: one SOCK_SEQPACKET datagram each, both programs
 * of one build on one machine, so fields are as the machine has them. */
#ifndef HR_FUNCTIONS_SPAWN_WIRE_H
#define HR_FUNCTIONS_SPAWN_WIRE_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

enum {
    HR_SPAWN_MESSAGE = 128 << 10, /* bytes, most */
    HR_SPAWN_FDS = 4,             /* stdin, stdout, stderr, worker socket (fd 3 in the child) */
    HR_SPAWN_STRINGS = 1024       /* arguments and variables together */
};

typedef enum hr_spawn_kind {
    HR_SPAWN_START,   /* daemon: run a program; strings follow: cwd, argv, environment */
    HR_SPAWN_KILL,    /* daemon: SIGKILL to its process group */
    HR_SPAWN_STARTED, /* spawner: pid, or error (errno) */
    HR_SPAWN_EXITED   /* spawner: status as waitpid() gives it */
} hr_spawn_kind;

typedef struct hr_spawn_message {
    uint32_t kind;
    uint32_t fds; /* START: bit i: descriptor i comes along (SCM_RIGHTS, in order) */
    uint64_t id;  /* the daemon's, never used again */
    int32_t pid, error, status;
    uint32_t argc, envc;
} hr_spawn_message;

/* Sends one that has no strings and no descriptors. What is lost here is lost for ever (an end that
 * nobody hears of), so a refusal for want of memory is asked again for a second.  false: not sent.
 */
static inline bool hr_spawn_send(int fd, const hr_spawn_message *message) {
    enum { TRIES = 1000, PAUSE_NS = 1000000 };
    for (int tries = 0; tries < TRIES; tries++) {
        if (send(fd, message, sizeof *message, MSG_NOSIGNAL) > 0) {
            return true;
        }
        if (errno != EINTR && errno != ENOMEM && errno != ENOBUFS && errno != EAGAIN) {
            return false;
        }
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    return false;
}

#endif
