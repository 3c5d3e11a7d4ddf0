/* SPDX-License-Identifier: Apache-2.0 */
#include "net/kafka_client_library.h"

#include "net/kafka_client.h"

hr_rdkafka_functions hr_rdkafka;

static const char *const names[] = {HR_RDKAFKA_FUNCTIONS(HR_LIBRARY_NAME)};

hr_code hr_kafka_load(hr_error *err) {
    static hr_library library = {.soname = HR_RDKAFKA_SONAME,
                                 .used_by = "kafka triggers and functions",
                                 .names = names,
                                 .count = sizeof names / sizeof *names,
                                 .table = &hr_rdkafka};
    return hr_library_load(&library, err);
}
