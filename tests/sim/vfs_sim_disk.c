/* SPDX-License-Identifier: Apache-2.0 */
/* Files in memory that know what a power cut would leave of them. */
#include "core/error.h"
#include "core/memory.h"
#include "tests/sim/vfs_sim_priv.h"

#define NEW ".new" /* a file that is renamed loses it */

void vfs_sim_resize(hr_buffer *buffer, uint64_t size) {
    if (size > buffer->size) {
        size_t more = (size_t)size - buffer->size;
        memset(hr_buffer_room(buffer, more), 0, more);
    }
    buffer->size = (size_t)size;
}

void vfs_sim_put(hr_buffer *buffer, uint64_t at, const uint8_t *bytes, size_t size) {
    if (at > buffer->size) {
        vfs_sim_resize(buffer, at);
    }
    if (at + size > buffer->size) {
        hr_buffer_room(buffer, (size_t)at + size - buffer->size);
        buffer->size = (size_t)at + size;
    }
    memcpy(buffer->bytes + at, bytes, size);
}

/* Keeps what a change wrote before another goes over it. */
static void keep_new(disk_file *file, change *each) {
    if (!each->has_new && !each->is_cut_off) {
        each->has_new = true;
        each->new_at = file->log.size;
        hr_buffer_add(&file->log, file->now.bytes + each->at, each->size);
    }
}

static void apply(hr_buffer *to, const disk_file *file, const change *each) {
    if (each->is_cut_off) {
        vfs_sim_resize(to, each->at);
    } else {
        vfs_sim_put(to, each->at, file->log.bytes + each->new_at, each->size);
    }
}

/* Some of the sectors of a write. */
static void apply_torn(hr_vfs_sim *sim, hr_buffer *to, const disk_file *file, const change *each) {
    for (size_t done = 0; done < each->size;) {
        size_t part = SECTOR - (size_t)((each->at + done) % SECTOR);
        part = part < each->size - done ? part : each->size - done;
        if (hr_vfs_sim_chance(sim) % 2 == 0) {
            vfs_sim_put(to, each->at + done, file->log.bytes + each->new_at + done, part);
        }
        done += part;
    }
}

void vfs_sim_forget(disk_file *file) {
    file->count = 0;
    file->log.size = 0;
    file->changed_to = 0;
}

/* Takes all changes back, newest first. */
static void undo(hr_buffer *in, const disk_file *file) {
    for (size_t i = file->count; i > 0; i--) {
        const change *each = &file->changes[i - 1];
        vfs_sim_resize(in, each->size_before);
        if (each->old_size > 0) {
            vfs_sim_put(in, each->at, file->log.bytes + each->old_at, each->old_size);
        }
    }
}

static void keep_all_new(disk_file *file) {
    for (size_t i = 0; i < file->count; i++) {
        keep_new(file, &file->changes[i]);
    }
}

/* From now on durable is a buffer of its own. */
static void split(disk_file *file) {
    if (file->is_split) {
        return;
    }
    keep_all_new(file);
    file->durable.size = 0;
    hr_buffer_add(&file->durable, file->now.bytes, file->now.size);
    undo(&file->durable, file);
    file->is_split = true;
}

/* Notes a change before it is done: size bytes at an offset, or a truncate to it. */
void vfs_sim_log(disk_file *file, uint64_t at, const void *bytes, size_t size) {
    if (file->count == file->capacity) {
        file->capacity = file->capacity == 0 ? 64 : file->capacity * 2;
        file->changes = hr_realloc(file->changes, file->capacity * sizeof *file->changes);
    }
    uint64_t before = file->now.size;
    bool is_cut_off = bytes == NULL;
    uint64_t end = is_cut_off ? UINT64_MAX : at + size;
    if (at < file->changed_to && file->count > CHANGES_MAX) {
        split(file);
    }
    for (size_t i = 0; !file->is_split && at < file->changed_to && i < file->count; i++) {
        change *each = &file->changes[i];
        if (each->at < end && at < each->at + each->size) {
            keep_new(file, each);
        }
    }
    change *made = &file->changes[file->count++];
    *made = (change){.at = at, .size = size, .size_before = before, .is_cut_off = is_cut_off};
    if (file->is_split) {
        made->has_new = true;
        made->new_at = file->log.size;
        hr_buffer_add(&file->log, bytes, size);
    } else if (at < before) {
        made->old_at = file->log.size;
        made->old_size = (size_t)((end < before ? end : before) - at);
        hr_buffer_add(&file->log, file->now.bytes + at, made->old_size);
    }
    file->changed_to = at + size > file->changed_to ? at + size : file->changed_to;
}

void vfs_sim_unsynced(disk_file *file) {
    split(file);
    file->is_lossy = true;
}

void vfs_sim_synced(disk_file *file) {
    for (size_t i = 0; file->is_lossy && i < file->count; i++) {
        apply(&file->durable, file, &file->changes[i]);
    }
    file->is_split = file->is_lossy;
    vfs_sim_forget(file);
}

void vfs_sim_survive(hr_vfs_sim *sim, disk_file *file) {
    uint64_t mood = hr_vfs_sim_chance(sim) % 4; /* 0: nothing survives, 1: all, else some */
    if (file->is_split) {
        file->now.size = 0;
        hr_buffer_add(&file->now, file->durable.bytes, file->durable.size);
    } else {
        keep_all_new(file);
        undo(&file->now, file);
    }
    for (size_t i = file->count; mood >= 2 && i > 1; i--) { /* the disk's own order */
        size_t other = (size_t)(hr_vfs_sim_chance(sim) % i);
        change held = file->changes[i - 1];
        file->changes[i - 1] = file->changes[other];
        file->changes[other] = held;
    }
    for (size_t i = 0; mood != 0 && i < file->count; i++) {
        uint64_t fate = mood == 1 ? 0 : hr_vfs_sim_chance(sim) % 3;
        if (fate == 0) {
            apply(&file->now, file, &file->changes[i]);
        } else if (fate == 1) {
            apply_torn(sim, &file->now, file, &file->changes[i]);
        }
    }
    vfs_sim_forget(file);
    file->is_split = file->is_lossy = false;
}

disk_file *vfs_sim_find(hr_vfs_sim *sim, const char *name) {
    for (size_t i = 0; i < FILES_MAX; i++) {
        if (sim->files[i].exists && strcmp(sim->files[i].name, name) == 0) {
            return &sim->files[i];
        }
    }
    return NULL;
}

void vfs_sim_drop(disk_file *file) {
    hr_free(file->name);
    hr_free(file->was);
    file->name = file->was = NULL;
    file->born = file->gone = file->renamed = 0;
    file->exists = file->is_split = file->is_lossy = false;
    file->now.size = 0;
    vfs_sim_forget(file);
}

static disk_file *find_free(hr_vfs_sim *sim) {
    for (size_t i = 0; i < FILES_MAX; i++) {
        if (sim->files[i].name == NULL) {
            return &sim->files[i];
        }
    }
    return NULL;
}

/* All changes of the folder are durable. */
static void forget_gone(hr_vfs_sim *sim) {
    for (size_t i = 0; i < FILES_MAX; i++) {
        disk_file *file = &sim->files[i];
        if (file->gone != 0) {
            vfs_sim_drop(file);
        }
        hr_free(file->was);
        file->was = NULL;
    }
    sim->names_synced = sim->names;
}

void vfs_sim_names_synced(hr_vfs_sim *sim) {
    if (!vfs_sim_has_suffix("/", sim->lie)) {
        forget_gone(sim);
    }
}

void vfs_sim_unlink(hr_vfs_sim *sim, disk_file *file) {
    file->exists = false;
    file->gone = ++sim->names;
}

void vfs_sim_rename(hr_vfs_sim *sim, disk_file *file, const char *to) {
    disk_file *other = vfs_sim_find(sim, to);
    if (other != NULL) {
        vfs_sim_unlink(sim, other);
    }
    HR_ASSERT(file->was == NULL && vfs_sim_has_suffix(file->name, NEW));
    file->was = file->name;
    file->name = hr_copy_text(to);
    file->renamed = other != NULL ? other->gone : ++sim->names;
}

/* What decides of a name: the file's base, as its folder has another name each run. Both names of a
 * file that is renamed are decided together. */
static hr_slice decider(const disk_file *file) {
    const char *base = strrchr(file->name, '/');
    hr_slice name = hr_slice_text(base == NULL ? file->name : base);
    name.size -= vfs_sim_has_suffix(file->name, NEW) ? strlen(NEW) : 0;
    return name;
}

/* As it is after the first changes of the folder. */
static void decide(disk_file *file, uint64_t last) {
    file->exists = file->born <= last && (file->gone == 0 || file->gone > last);
    if (!file->exists) {
        vfs_sim_drop(file);
    } else if (file->was != NULL && file->renamed > last) {
        hr_free(file->name);
        file->name = file->was;
        file->was = NULL;
    }
    hr_free(file->was);
    file->was = NULL;
    file->gone = 0;
}

void vfs_sim_choose_names(hr_vfs_sim *sim) {
    uint64_t open = sim->names - sim->names_synced;
    if (open > 0) {
        bool is_ordered = hr_vfs_sim_chance(sim) % 2 == 0;
        uint64_t chance = hr_vfs_sim_chance(sim);
        for (size_t i = 0; i < FILES_MAX; i++) {
            disk_file *file = &sim->files[i];
            if (file->name == NULL) {
                continue;
            }
            hr_slice name = is_ordered ? (hr_slice){0} : decider(file);
            decide(file, sim->names_synced + hr_hash_more(chance, name) % (open + 1));
        }
    }
    sim->names_synced = sim->names;
}

disk_file *vfs_sim_make(hr_vfs_sim *sim, const char *name) {
    disk_file *file = find_free(sim);
    if (file == NULL) { /* the folder is written some time, synced or not */
        forget_gone(sim);
        file = find_free(sim);
        HR_ASSERT(file != NULL);
    }
    file->exists = true;
    file->born = ++sim->names;
    file->name = hr_copy_text(name);
    file->is_wal = vfs_sim_has_suffix(name, "-wal");
    return file;
}
