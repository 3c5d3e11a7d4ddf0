/* SPDX-License-Identifier: Apache-2.0 */
/* The listening socket of the HTTP server. */
#include "core/memory.h"
#include "net/http_server_priv.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

int hr_http_bound_port(int fd) {
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        return 0;
    }
    in_port_t port = 0;
    if (address.ss_family == AF_INET) {
        struct sockaddr_in four;
        memcpy(&four, &address, sizeof four);
        port = four.sin_port;
    } else if (address.ss_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, &address, sizeof six);
        port = six.sin6_port;
    }
    return ntohs(port);
}

/* "127.0.0.1:80", "[::1]:80", "localhost:80", ":80" to its two parts. */
static bool split(char *address, char **out_host, char **out_port) {
    char *colon = strrchr(address, ':');
    if (colon == NULL || colon[1] == 0) {
        return false;
    }
    *colon = 0;
    *out_port = colon + 1;
    if (address[0] == '[') {
        size_t size = strlen(address);
        if (size < 3 || address[size - 1] != ']') {
            return false;
        }
        address[size - 1] = 0;
        *out_host = address + 1;
        return true;
    }
    *out_host = address;
    return strchr(address, ':') == NULL; /* a bare IPv6 address needs its brackets */
}

static int open_one(const struct addrinfo *at) {
    int fd = socket(at->ai_family, at->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, at->ai_protocol);
    if (fd < 0) {
        return -1;
    }
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, at->ai_addr, at->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
        int problem = errno;
        close(fd);
        errno = problem;
        return -1;
    }
    return fd;
}

hr_code hr_http_listen(const char *address, int *out_fd, int *out_port, hr_error *err) {
    char *copy = hr_copy_text(address), *host = NULL, *port = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    hr_code code = HR_OK;
    if (!split(copy, &host, &port)) {
        code = hr_fail(err, HR_E_INVALID, 0, "listen on %s: not an address of the form host:port",
                       address);
        goto done;
    }
    int problem = getaddrinfo(host[0] == 0 ? NULL : host, port, &hints, &list);
    if (problem != 0) {
        code = hr_fail(err, HR_E_IO, 0, "listen on %s: %s", address, gai_strerror(problem));
        goto done;
    }
    int fd = -1;
    for (struct addrinfo *at = list; at != NULL && fd < 0; at = at->ai_next) {
        fd = open_one(at);
    }
    if (fd < 0) {
        int number = errno;
        code = hr_fail(err, HR_E_IO, number, "listen on %s: %s", address, strerror(number));
        goto done;
    }
    *out_fd = fd;
    *out_port = hr_http_bound_port(fd);
done:
    if (list != NULL) {
        freeaddrinfo(list);
    }
    hr_free(copy);
    return code;
}
