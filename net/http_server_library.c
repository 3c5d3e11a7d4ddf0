/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http_server_library.h"

#include "net/http_server.h"

hr_microhttpd_functions hr_microhttpd;

static const char *const names[] = {HR_MICROHTTPD_FUNCTIONS(HR_LIBRARY_NAME)};

hr_code hr_http_server_load(hr_error *err) {
    static hr_library library = {.soname = HR_MICROHTTPD_SONAME,
                                 .used_by = "webhook and storage triggers and settings.admin",
                                 .names = names,
                                 .count = sizeof names / sizeof *names,
                                 .table = &hr_microhttpd};
    return hr_library_load(&library, err);
}
