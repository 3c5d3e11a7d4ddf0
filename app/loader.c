/* SPDX-License-Identifier: Apache-2.0 */
#include "app/loader.h"

#include "broker/runtime.h"
#include "broker/trigger.h"
#include "core/memory.h"

#include <pthread.h>

typedef struct noted {
    const hr_node *kind_config;
    bool is_function;
} noted;

static struct loader {
    noted *kinds;
    size_t count;
    pthread_t thread;
    bool has_thread;
    hr_code code; /* of the thread, until it is joined */
    hr_error err;
} loader; /* libraries are loaded for the process */

hr_code hr_loader_load(void *data, const hr_node *kind_config, bool is_function, hr_error *err) {
    (void)data;
    const hr_runtime_ops *runtime = is_function ? hr_runtime_kind(kind_config->key) : NULL;
    const hr_trigger_ops *trigger = is_function ? NULL : hr_trigger_kind(kind_config->key);
    if (runtime != NULL && runtime->load != NULL) {
        return runtime->load(kind_config, err);
    }
    return trigger != NULL && trigger->load != NULL ? trigger->load(kind_config, err) : HR_OK;
}

hr_code hr_loader_note(void *data, const hr_node *kind_config, bool is_function, hr_error *err) {
    (void)data;
    (void)err;
    loader.kinds = hr_realloc(loader.kinds, (loader.count + 1) * sizeof *loader.kinds);
    loader.kinds[loader.count++] = (noted){kind_config, is_function};
    return HR_OK;
}

static void *load_all(void *data) {
    (void)data;
    loader.code = HR_OK;
    for (size_t i = 0; loader.code == HR_OK && i < loader.count; i++) {
        const noted *each = &loader.kinds[i];
        loader.code = hr_loader_load(NULL, each->kind_config, each->is_function, &loader.err);
    }
    return NULL;
}

void hr_loader_start(void) {
    if (loader.count == 0) {
        return;
    }
    loader.has_thread = pthread_create(&loader.thread, NULL, load_all, NULL) == 0;
    if (!loader.has_thread) {
        load_all(NULL);
    }
}

hr_code hr_loader_wait(hr_error *err) {
    if (loader.has_thread) {
        pthread_join(loader.thread, NULL);
    }
    hr_code code = loader.code;
    if (code != HR_OK) {
        *err = loader.err;
    }
    hr_free(loader.kinds);
    loader = (struct loader){0};
    return code;
}
