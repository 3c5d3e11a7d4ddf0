/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mqtt_client_priv.h"

#include "core/memory.h"

#include <string.h>

hr_code hr_mqtt_read_url(const char *url, hr_mqtt_address *out, hr_error *err) {
    bool is_tls = strncmp(url, "mqtts://", 8) == 0;
    if (!is_tls && strncmp(url, "mqtt://", 7) != 0) {
        return hr_fail(err, HR_E_CONFIG, 0, "url '%s': not mqtt:// or mqtts://", url);
    }
    const char *host = url + (is_tls ? 8 : 7);
    size_t size = strcspn(host, "/");
    const char *port = NULL;
    size_t host_size = 0;
    if (host[0] == '[') {
        const char *bracket = memchr(host, ']', size);
        host_size = bracket == NULL ? size : (size_t)(bracket - host) + 1;
    } else {
        host_size = strcspn(host, ":/");
    }
    if (host_size < size && host[host_size] == ':') {
        port = host + host_size + 1;
    }
    size_t port_size = port == NULL ? 0 : size - host_size - 1;
    if (host_size == 0 || host_size > 253 || port_size > 5 ||
        (port != NULL && (port_size == 0 || strspn(port, "0123456789") < port_size))) {
        return hr_fail(err, HR_E_CONFIG, 0, "url '%s': no host or no port", url);
    }
    out->port =
        port != NULL ? hr_copy_bytes(port, port_size) : hr_copy_text(is_tls ? "8883" : "1883");
    out->paho = hr_format("%s://%.*s:%s", is_tls ? "ssl" : "tcp", (int)host_size, host, out->port);
    bool is_bracketed = host[0] == '[' && host_size > 2;
    out->host =
        is_bracketed ? hr_copy_bytes(host + 1, host_size - 2) : hr_copy_bytes(host, host_size);
    return HR_OK;
}
