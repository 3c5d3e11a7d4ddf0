/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http_client_curl.h"

#include "core/error.h"
#include "core/memory.h"

#include <dlfcn.h>
#include <string.h>

#define SONAME "libcurl.so.4"

static void *find(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (found == NULL) {
        hr_give_up("%s has no %s: %s", SONAME, name, dlerror());
    }
    return found;
}

const hr_curl *hr_curl_load(void) {
    static hr_curl curl;
    if (curl.curl_global_init_mem != NULL) {
        return &curl;
    }
    void *library = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL); /* stays until the process ends */
    if (library == NULL) {
        hr_give_up("libcurl is needed for http and notify functions: %s", dlerror());
    }
    void *found;
#define FIND(name)                                                                                 \
    found = find(library, #name);                                                                  \
    memcpy(&curl.name, &found, sizeof found);
    HR_CURL_FUNCTIONS(FIND)
#undef FIND
    curl.curl_global_init_mem(CURL_GLOBAL_DEFAULT, hr_alloc, hr_free, hr_realloc, hr_copy_text,
                              hr_alloc_array);
    return &curl;
}
