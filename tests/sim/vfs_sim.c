/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/vfs_sim.h"

#include "core/error.h"
#include "core/memory.h"
#include "tests/sim/vfs_sim_priv.h"

/* SQLite's page cache without malloc: pages of up to 16 KiB and what it notes of each. */
enum { PAGE_SLOTS = 256, PAGE_SLOT = 16384 + 512 };

uint64_t hr_vfs_sim_chance(hr_vfs_sim *sim) {
    uint64_t x = sim->chance += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

bool vfs_sim_has_suffix(const char *name, const char *suffix) {
    size_t size = strlen(name), more = suffix == NULL ? 0 : strlen(suffix);
    return suffix != NULL && size >= more && strcmp(name + size - more, suffix) == 0;
}

hr_vfs_sim *hr_vfs_sim_new(const char *name) {
    hr_vfs_sim *sim = hr_alloc(sizeof *sim);
    sim->name = hr_copy_text(name);
    sim->room = UINT64_MAX;
    vfs_sim_register(sim);
    return sim;
}

void hr_vfs_sim_reset(hr_vfs_sim *sim, uint64_t seed) {
    for (size_t i = 0; i < FILES_MAX; i++) {
        vfs_sim_drop(&sim->files[i]);
    }
    sim->chance = seed;
    sim->calls = sim->cut_at = sim->fail_at = sim->read_in = 0;
    sim->names = sim->names_synced = sim->synced_count = 0;
    sim->is_cut = sim->is_kill = sim->has_failed_read = false;
    sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, (int)(seed | 1), NULL);
    hr_vfs_sim_set_room(sim, UINT64_MAX, NULL, 0);
    hr_vfs_sim_lie(sim, NULL);
}

void hr_vfs_sim_one_thread(void) {
    HR_ASSERT(sqlite3_config(SQLITE_CONFIG_SINGLETHREAD) == SQLITE_OK);
    HR_ASSERT(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) == SQLITE_OK);
    static uint64_t pages[PAGE_SLOTS][PAGE_SLOT / sizeof(uint64_t)];
    HR_ASSERT(sqlite3_config(SQLITE_CONFIG_PAGECACHE, pages, PAGE_SLOT, PAGE_SLOTS) == SQLITE_OK);
}

void hr_vfs_sim_keep(hr_vfs_sim *sim, unsigned place) {
    HR_ASSERT(place < HR_VFS_SIM_PLACES);
    for (size_t i = 0; i < FILES_MAX; i++) {
        const disk_file *file = &sim->files[i];
        kept_file *kept = &sim->kept[place][i];
        hr_free(kept->name);
        kept->name = file->exists ? hr_copy_text(file->name) : NULL;
        kept->bytes.size = 0;
        if (file->exists) {
            HR_ASSERT(!file->is_split);
            hr_buffer_add(&kept->bytes, file->now.bytes, file->now.size);
        }
    }
}

void hr_vfs_sim_take_kept(hr_vfs_sim *sim, unsigned place) {
    HR_ASSERT(place < HR_VFS_SIM_PLACES);
    for (size_t i = 0; i < FILES_MAX; i++) {
        const kept_file *kept = &sim->kept[place][i];
        if (kept->name != NULL) {
            disk_file *file = vfs_sim_make(sim, kept->name);
            hr_buffer_add(&file->now, kept->bytes.bytes, kept->bytes.size);
        }
    }
    sim->names_synced = sim->names;
}

void hr_vfs_sim_free(hr_vfs_sim *sim) {
    if (sim == NULL) {
        return;
    }
    hr_vfs_sim_reset(sim, 0);
    vfs_sim_unregister(sim);
    for (size_t i = 0; i < FILES_MAX; i++) {
        hr_free(sim->files[i].changes);
        hr_buffer_fini(&sim->files[i].now);
        hr_buffer_fini(&sim->files[i].durable);
        hr_buffer_fini(&sim->files[i].log);
        for (size_t k = 0; k < HR_VFS_SIM_PLACES; k++) {
            hr_free(sim->kept[k][i].name);
            hr_buffer_fini(&sim->kept[k][i].bytes);
        }
    }
    hr_free(sim->name);
    hr_free(sim);
}

void hr_vfs_sim_cut_at(hr_vfs_sim *sim, uint64_t call) {
    sim->cut_at = call == 0 ? 0 : sim->calls + call;
    sim->is_kill = false;
}

void hr_vfs_sim_cut_now(hr_vfs_sim *sim, bool is_kill) {
    sim->is_kill = is_kill;
    if (!sim->is_cut) {
        sim->is_cut = true;
        sim->cut_call = -1;
    }
}

void hr_vfs_sim_kill_at(hr_vfs_sim *sim, uint64_t call) {
    hr_vfs_sim_cut_at(sim, call);
    sim->is_kill = true;
}

bool hr_vfs_sim_is_kill(const hr_vfs_sim *sim) {
    return sim->is_kill;
}

int hr_vfs_sim_cut_call(const hr_vfs_sim *sim) {
    return sim->cut_call;
}

bool hr_vfs_sim_is_cut(const hr_vfs_sim *sim) {
    return sim->is_cut;
}

void hr_vfs_sim_restart(hr_vfs_sim *sim) {
    if (!sim->is_kill) {
        vfs_sim_choose_names(sim);
    }
    for (size_t i = 0; i < FILES_MAX; i++) {
        if (sim->files[i].exists && !sim->is_kill) {
            vfs_sim_survive(sim, &sim->files[i]);
        }
    }
    sim->is_cut = sim->is_kill = sim->has_failed_read = false;
    sim->cut_at = sim->fail_at = sim->read_in = 0;
}

void hr_vfs_sim_fail_at(hr_vfs_sim *sim, uint64_t call) {
    sim->fail_at = call == 0 ? 0 : sim->calls + call;
}

bool hr_vfs_sim_has_failed_read(const hr_vfs_sim *sim) {
    return sim->has_failed_read;
}

void hr_vfs_sim_fail_read(hr_vfs_sim *sim, uint64_t read) {
    sim->read_in = read;
    sim->has_failed_read = false;
}

void hr_vfs_sim_lie(hr_vfs_sim *sim, const char *suffix) {
    hr_free(sim->lie);
    sim->lie = hr_copy_text(suffix);
}

void hr_vfs_sim_set_room(hr_vfs_sim *sim, uint64_t bytes, const char *ballast_path,
                         uint64_t ballast_bytes) {
    sim->room = bytes;
    hr_free(sim->ballast_path);
    sim->ballast_path = hr_copy_text(ballast_path);
    sim->ballast_bytes = ballast_bytes;
}

uint64_t hr_vfs_sim_used(const hr_vfs_sim *sim) {
    uint64_t used = 0;
    for (size_t i = 0; i < FILES_MAX; i++) {
        used += sim->files[i].exists ? sim->files[i].now.size : 0;
    }
    return used;
}

uint64_t hr_vfs_sim_digest(const hr_vfs_sim *sim) {
    uint64_t sum = sim->chance;
    for (size_t i = 0; i < FILES_MAX; i++) {
        const disk_file *file = &sim->files[i];
        sum = hr_hash_more(sum, hr_slice_of(file->now.bytes, file->now.size));
        if (file->is_split) {
            sum = hr_hash_more(sum, hr_slice_of(file->durable.bytes, file->durable.size));
        }
    }
    return sum;
}

uint64_t hr_vfs_sim_calls(const hr_vfs_sim *sim) {
    return sim->calls;
}
