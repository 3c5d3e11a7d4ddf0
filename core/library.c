/* SPDX-License-Identifier: Apache-2.0 */
#include "core/library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards every is_loaded */

static hr_code fill(hr_library *library, void *handle, hr_error *err) {
    for (size_t i = 0; i < library->count; i++) {
        void *found = dlsym(handle, library->names[i]);
        if (found == NULL) {
            return hr_fail(err, HR_E_UNSUPPORTED, 0, "%s is too old for %s: it has no %s",
                           library->soname, library->used_by, library->names[i]);
        }
        memcpy((char *)library->table + i * sizeof found, &found, sizeof found);
    }
    return HR_OK;
}

static hr_code load(hr_library *library, hr_error *err) {
    void *handle = dlopen(library->soname, RTLD_LAZY | RTLD_LOCAL);
    if (handle == NULL) {
        return hr_fail(err, HR_E_UNSUPPORTED, 0, "%s need a library: %s", library->used_by,
                       dlerror());
    }
    hr_code code = fill(library, handle, err);
    library->is_loaded = code == HR_OK;
    if (code != HR_OK) {
        dlclose(handle);
    }
    return code;
}

hr_code hr_library_load(hr_library *library, hr_error *err) {
    pthread_mutex_lock(&mutex);
    hr_code code = library->is_loaded ? HR_OK : load(library, err);
    pthread_mutex_unlock(&mutex);
    return code;
}
