/* SPDX-License-Identifier: Apache-2.0 */
#include "functions/native_marker.h"

#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUSPECTS_MAX = 4096, FAULTS = 5 };

static const char magic[8] = "hrmark1";

typedef struct mark {
    uint64_t position;
    uint32_t feed;
    uint16_t attempt;
    uint16_t alone; /* it was the only event of its call */
} mark;

typedef struct head {
    char magic[8];
    uint32_t slots, batch_size, suspects, reserved;
} head;

typedef struct slot_head {
    atomic_uint running; /* events of the call that runs, 0: none */
    atomic_uint crashed; /* the thread of this slot got a deadly signal */
} slot_head;

struct hr_marker {
    head *map; /* head, mark[SUSPECTS_MAX], then the slots */
    size_t size;
    uint32_t slots, batch_size;
};

static size_t slot_size(uint32_t batch_size) {
    return sizeof(slot_head) + batch_size * sizeof(mark);
}

static size_t file_size(uint32_t slots, uint32_t batch_size) {
    return sizeof(head) + SUSPECTS_MAX * sizeof(mark) + slots * slot_size(batch_size);
}

static mark *suspects_of(head *map) {
    return (mark *)(map + 1);
}

static slot_head *slot_at(head *map, uint32_t batch_size, uint32_t slot) {
    return (slot_head *)(void *)((uint8_t *)(suspects_of(map) + SUSPECTS_MAX) +
                                 slot * slot_size(batch_size));
}

static mark *marks_of(slot_head *slot) {
    return (mark *)(slot + 1);
}

/* ---- the signal that ends us is noted in the slot it came from ---- */

static _Thread_local slot_head *own_slot;
static const int faults[FAULTS] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
static struct sigaction before[FAULTS];

/* Async-signal-safe. The former action (usually death with a core) takes over. */
static void on_fault(int signal) {
    static const char line[] = "headrace: an in-process function crashed the daemon; its event is "
                               "known and will be called alone after the next start\n";
    if (own_slot != NULL && atomic_load(&own_slot->running) > 0) {
        atomic_store(&own_slot->crashed, 1);
        (void)!write(STDERR_FILENO, line, sizeof line - 1);
    }
    for (int i = 0; i < FAULTS; i++) {
        if (faults[i] == signal) {
            sigaction(signal, &before[i], NULL);
        }
    }
    if (signal == SIGABRT) {
        raise(signal);
    } /* the others: the instruction faults again */
}

static void watch_faults(void) {
    static atomic_flag is_watching = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&is_watching)) {
        return;
    }
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < FAULTS; i++) {
        sigaction(faults[i], &action, &before[i]);
    }
}

/* ---- the file ---- */

static void add_suspect(head *map, const mark *which) {
    mark *all = suspects_of(map);
    for (uint32_t i = 0; i < map->suspects; i++) {
        if (all[i].feed == which->feed && all[i].position == which->position) {
            all[i] = *which;
            return;
        }
    }
    if (map->suspects < SUSPECTS_MAX) { /* more run in a batch again: it crashes, and they return */
        all[map->suspects++] = *which;
    }
}

/* What the last run left, as suspects of this one. */
static void inherit(head *old, size_t size, head *map) {
    if (size < sizeof *old || memcmp(old->magic, magic, sizeof magic) != 0 ||
        old->slots > HR_BATCH_MAX || old->batch_size > HR_BATCH_MAX ||
        old->suspects > SUSPECTS_MAX || size < file_size(old->slots, old->batch_size)) {
        return; /* not ours, or cut: nobody is accused on such evidence */
    }
    for (uint32_t i = 0; i < old->suspects; i++) {
        add_suspect(map, &suspects_of(old)[i]);
    }
    bool is_known = false;
    for (uint32_t i = 0; i < old->slots; i++) {
        is_known = is_known || atomic_load(&slot_at(old, old->batch_size, i)->crashed) != 0;
    }
    for (uint32_t i = 0; i < old->slots; i++) {
        slot_head *slot = slot_at(old, old->batch_size, i);
        uint32_t count = atomic_load(&slot->running);
        if (count > old->batch_size || (is_known && atomic_load(&slot->crashed) == 0)) {
            continue;
        }
        for (uint32_t k = 0; k < count; k++) {
            mark own = marks_of(slot)[k];
            own.alone = count == 1;
            add_suspect(map, &own);
        }
    }
}

static hr_code map_file(const char *path, int flags, size_t size, head **out_map, size_t *out_size,
                        hr_error *err) {
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0) {
        return hr_fail(err, HR_E_IO, errno, "open '%s': %s", path, strerror(errno));
    }
    struct stat info = {0};
    hr_code code = HR_OK;
    void *map = NULL;
    int failed = size > 0 ? posix_fallocate(fd, 0, (off_t)size) : 0; /* no SIGBUS on a full disk */
    if (failed != 0 || fstat(fd, &info) != 0) {
        failed = failed != 0 ? failed : errno;
        code = hr_fail(err, HR_E_IO, failed, "make '%s': %s", path, strerror(failed));
    } else if (info.st_size > 0) {
        map = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
            code = hr_fail(err, HR_E_IO, errno, "map '%s': %s", path, strerror(errno));
        }
    }
    close(fd);
    *out_map = code == HR_OK ? map : NULL;
    *out_size = (size_t)info.st_size;
    return code;
}

/* The new file stands beside the old one until it is complete. */
static hr_code make(hr_marker *marker, const char *path, const char *fresh, hr_error *err) {
    head *old = NULL;
    size_t old_size = 0;
    hr_error none = {0};
    (void)map_file(path, O_RDWR, 0, &old, &old_size, &none);
    unlink(fresh);
    hr_code code =
        map_file(fresh, O_RDWR | O_CREAT | O_EXCL, file_size(marker->slots, marker->batch_size),
                 &marker->map, &marker->size, err);
    if (code == HR_OK) {
        HR_ASSERT(marker->map != NULL); /* a file that was made has a size */
        memcpy(marker->map->magic, magic, sizeof magic);
        marker->map->slots = marker->slots;
        marker->map->batch_size = marker->batch_size;
        if (old != NULL) {
            inherit(old, old_size, marker->map);
        }
        if (rename(fresh, path) != 0) {
            code = hr_fail(err, HR_E_IO, errno, "rename '%s': %s", fresh, strerror(errno));
        }
    }
    if (old != NULL) {
        munmap(old, old_size);
    }
    return code;
}

hr_code hr_marker_open(const char *state_dir, const char *function, uint32_t slots,
                       uint32_t batch_size, hr_marker **out_marker, hr_error *err) {
    hr_marker *marker = hr_alloc(sizeof *marker);
    marker->slots = slots;
    marker->batch_size = batch_size;
    char *folder = hr_format("%s/native", state_dir);
    char *path = hr_format("%s/%s", folder, function);
    char *fresh = hr_format("%s/%s.new", folder, function);
    hr_code code = HR_OK;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        code = hr_fail(err, HR_E_IO, errno, "make the folder '%s': %s", folder, strerror(errno));
    }
    if (code == HR_OK) {
        code = make(marker, path, fresh, err);
    }
    hr_free(folder);
    hr_free(path);
    hr_free(fresh);
    if (code != HR_OK) {
        hr_marker_close(marker, false);
        return code;
    }
    watch_faults();
    *out_marker = marker;
    return HR_OK;
}

void hr_marker_close(hr_marker *take_marker, bool is_clean) {
    if (take_marker != NULL) {
        if (take_marker->map != NULL) {
            take_marker->map->suspects = is_clean ? 0 : take_marker->map->suspects;
            munmap(take_marker->map, take_marker->size);
        }
        hr_free(take_marker);
    }
}

/* ---- calls ---- */

void hr_marker_begin(hr_marker *marker, uint32_t slot, const hr_call *call) {
    slot_head *own = slot_at(marker->map, marker->batch_size, slot);
    HR_ASSERT(slot < marker->slots && call->count <= marker->batch_size);
    mark *marks = marks_of(own);
    for (uint32_t i = 0; i < call->count; i++) {
        const hr_event_ref *ref = &call->events[i];
        marks[i] = (mark){.position = ref->batch->position[ref->index],
                          .feed = ref->batch->feed,
                          .attempt = ref->attempt};
    }
    own_slot = own;
    atomic_store_explicit(&own->running, call->count, memory_order_release);
}

void hr_marker_end(hr_marker *marker, uint32_t slot) {
    slot_head *own = slot_at(marker->map, marker->batch_size, slot);
    atomic_store_explicit(&own->running, 0, memory_order_release);
}

static uint32_t find(const hr_marker *marker, const hr_event_ref *ref) {
    const mark *all = suspects_of(marker->map);
    for (uint32_t i = 0; i < marker->map->suspects; i++) {
        if (all[i].feed == ref->batch->feed &&
            all[i].position == ref->batch->position[ref->index]) {
            return i;
        }
    }
    return UINT32_MAX;
}

static void forget(hr_marker *marker, uint32_t at) {
    mark *all = suspects_of(marker->map);
    all[at] = all[--marker->map->suspects];
}

hr_verdict hr_marker_judge(hr_marker *marker, const hr_call *call) {
    for (uint32_t i = 0; marker->map->suspects > 0 && i < call->count; i++) {
        uint32_t at = find(marker, &call->events[i]);
        if (at == UINT32_MAX) {
            continue;
        }
        mark *suspect = &suspects_of(marker->map)[at];
        if (call->count > 1) {
            return HR_VERDICT_SINGLY;
        }
        bool is_guilty = suspect->alone != 0 && suspect->attempt == call->events[i].attempt;
        if (is_guilty) {
            suspect->alone = 0; /* its next attempt has a chance of its own */
            return HR_VERDICT_CHARGE;
        }
    }
    return HR_VERDICT_RUN;
}

void hr_marker_clear(hr_marker *marker, const hr_call *call) {
    for (uint32_t i = 0; marker->map->suspects > 0 && i < call->count; i++) {
        uint32_t at = find(marker, &call->events[i]);
        if (at != UINT32_MAX) {
            forget(marker, at);
        }
    }
}

uint32_t hr_marker_suspects(const hr_marker *marker) {
    return marker->map->suspects;
}
