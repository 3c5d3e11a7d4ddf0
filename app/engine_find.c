/* SPDX-License-Identifier: Apache-2.0 */
/* Triggers and functions of the engine by name, number and feed. */
#include "app/engine_priv.h"

engine_trigger *hr_engine_trigger(const hr_engine *e, const char *name) {
    for (size_t i = 0; i < e->trigger_count; i++) {
        if (strcmp(e->triggers[i].name, name) == 0) {
            return &e->triggers[i];
        }
    }
    return NULL;
}

engine_function *hr_engine_function(const hr_engine *e, const char *name) {
    for (size_t i = 0; i < e->function_count; i++) {
        if (strcmp(e->functions[i].name, name) == 0) {
            return &e->functions[i];
        }
    }
    return NULL;
}

engine_trigger *hr_engine_trigger_of(const hr_engine *e, uint32_t feed) {
    for (size_t i = 0; i < e->trigger_count; i++) {
        engine_trigger *t = &e->triggers[i];
        if (!t->is_pull && t->feed == feed) {
            return t;
        }
        for (size_t k = 0; k < t->pull_count; k++) {
            if (t->pull_feeds[k] == feed) {
                return t;
            }
        }
    }
    return NULL;
}

engine_function *hr_engine_function_of(const hr_engine *e, uint32_t id) {
    for (size_t i = 0; i < e->function_count; i++) {
        if (e->functions[i].id == id) {
            return &e->functions[i];
        }
    }
    return NULL;
}

const char *hr_engine_function_name(const hr_engine *e, uint32_t id) {
    const engine_function *f = hr_engine_function_of(e, id);
    for (size_t i = 0; f == NULL && i < e->removed_count; i++) {
        if (e->removed[i].id == id) {
            return e->removed[i].name;
        }
    }
    return f == NULL ? NULL : f->name;
}

bool hr_function_takes(const engine_function *f, const engine_trigger *t) {
    for (size_t i = 0; i < f->trigger_count; i++) {
        if (f->triggers[i] == t) {
            return true;
        }
    }
    return false;
}
