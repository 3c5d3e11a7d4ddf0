/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http_client_library.h"

#include "core/memory.h"
#include "net/http_client.h"

hr_curl_functions hr_curl;

static const char *const names[] = {HR_CURL_FUNCTIONS(HR_LIBRARY_NAME)};

hr_code hr_http_client_load(hr_error *err) {
    static hr_library library = {.soname = HR_CURL_SONAME,
                                 .used_by = "http and notify functions",
                                 .names = names,
                                 .count = sizeof names / sizeof *names,
                                 .table = &hr_curl};
    static bool is_ready;
    hr_code code = hr_library_load(&library, err);
    if (code == HR_OK && !is_ready) {
        hr_curl.curl_global_init_mem(CURL_GLOBAL_DEFAULT, hr_alloc, hr_free, hr_realloc,
                                     hr_copy_text, hr_alloc_array);
        is_ready = true;
    }
    return code;
}
