/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/free_ports.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_free(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool has = bind(fd, (struct sockaddr *)&to, sizeof to) == 0;
    (void)close(fd);
    return has;
}

int free_ports(int first, int last, int count) {
    for (int tries = 0; tries < 1000; tries++) {
        uint32_t chance = 0;
        assert_int_equal(getrandom(&chance, sizeof chance, 0), sizeof chance);
        int base = first + (int)(chance % (uint32_t)((last - first) / count)) * count;
        int found = 0;
        while (found < count && is_free(base + found)) {
            found++;
        }
        if (found == count) {
            return base;
        }
    }
    fail_msg("no %d free ports from %d to %d", count, first, last);
    return 0;
}
