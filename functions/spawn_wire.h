/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between the daemon and headrace-spawn: one SOCK_SEQPACKET datagram each, both programs
 * of one build on one machine, so fields are as the machine has them. */
#ifndef HR_FUNCTIONS_SPAWN_WIRE_H
#define HR_FUNCTIONS_SPAWN_WIRE_H

#include <stdint.h>

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

#endif
