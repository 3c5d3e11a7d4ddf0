/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mqtt_client_library.h"

#include "net/mqtt_client.h"

hr_paho_functions hr_paho;

static const char *const names[] = {HR_PAHO_FUNCTIONS(HR_LIBRARY_NAME)};

hr_code hr_mqtt_load(hr_error *err) {
    static hr_library library = {.soname = HR_PAHO_SONAME,
                                 .used_by = "mqtt triggers",
                                 .names = names,
                                 .count = sizeof names / sizeof *names,
                                 .table = &hr_paho};
    return hr_library_load(&library, err);
}
