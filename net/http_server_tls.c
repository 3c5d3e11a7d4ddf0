/* SPDX-License-Identifier: Apache-2.0 */
/* TLS of the HTTP server: GnuTLS over the peer's own descriptor. Loaded by the first server that
 * has a certificate. */
#include "core/library.h"
#include "core/memory.h"
#include "net/http_server_priv.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdio.h>

enum { FILE_MAX = 1 << 20 };

#define HR_GNUTLS_FUNCTIONS(X)                                                                     \
    X(gnutls_bye)                                                                                  \
    X(gnutls_certificate_allocate_credentials)                                                     \
    X(gnutls_certificate_free_credentials)                                                         \
    X(gnutls_certificate_set_x509_key_mem)                                                         \
    X(gnutls_credentials_set)                                                                      \
    X(gnutls_deinit)                                                                               \
    X(gnutls_error_is_fatal)                                                                       \
    X(gnutls_handshake)                                                                            \
    X(gnutls_init)                                                                                 \
    X(gnutls_priority_deinit)                                                                      \
    X(gnutls_priority_init)                                                                        \
    X(gnutls_priority_set)                                                                         \
    X(gnutls_record_check_pending)                                                                 \
    X(gnutls_record_get_direction)                                                                 \
    X(gnutls_record_recv)                                                                          \
    X(gnutls_record_send)                                                                          \
    X(gnutls_strerror)                                                                             \
    X(gnutls_transport_set_int2)

static struct { HR_GNUTLS_FUNCTIONS(HR_LIBRARY_MEMBER) } gnutls;

static const char *const names[] = {HR_GNUTLS_FUNCTIONS(HR_LIBRARY_NAME)};

struct hr_http_tls {
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priorities;
};

static hr_code load(hr_error *err) {
    static hr_library library = {.soname = HR_GNUTLS_SONAME,
                                 .used_by = "settings.tls",
                                 .names = names,
                                 .count = sizeof names / sizeof *names,
                                 .table = &gnutls};
    return hr_library_load(&library, err);
}

/* The whole file, into out. */
static hr_code read_file(const char *path, hr_buffer *out, hr_error *err) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return hr_fail(err, HR_E_IO, errno, "read '%s': %s", path, strerror(errno));
    }
    uint8_t *room = hr_buffer_room(out, FILE_MAX);
    out->size = fread(room, 1, FILE_MAX, file);
    int problem = ferror(file) ? errno : 0;
    fclose(file);
    if (problem != 0) {
        return hr_fail(err, HR_E_IO, problem, "read '%s': %s", path, strerror(problem));
    }
    return HR_OK;
}

static hr_code begin(struct hr_http_tls *tls, const char *cert_path, const char *key_path,
                     const hr_buffer *cert, const hr_buffer *key, hr_error *err) {
    int result = gnutls.gnutls_certificate_allocate_credentials(&tls->credentials);
    if (result == 0) {
        const gnutls_datum_t certs = {cert->bytes, (unsigned)cert->size};
        const gnutls_datum_t keys = {key->bytes, (unsigned)key->size};
        result = gnutls.gnutls_certificate_set_x509_key_mem(tls->credentials, &certs, &keys,
                                                            GNUTLS_X509_FMT_PEM);
    }
    if (result >= 0) {
        result = gnutls.gnutls_priority_init(&tls->priorities,
                                             "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", NULL);
    }
    if (result < 0) {
        return hr_fail(err, HR_E_CONFIG, 0, "certificate '%s' with key '%s': %s", cert_path,
                       key_path, gnutls.gnutls_strerror(result));
    }
    return HR_OK;
}

hr_code hr_http_tls_new(const char *cert_path, const char *key_path, struct hr_http_tls **out,
                        hr_error *err) {
    hr_buffer cert = {0}, key = {0};
    hr_code code = load(err);
    code = code == HR_OK ? read_file(cert_path, &cert, err) : code;
    code = code == HR_OK ? read_file(key_path, &key, err) : code;
    if (code == HR_OK) {
        *out = hr_alloc(sizeof **out);
        code = begin(*out, cert_path, key_path, &cert, &key, err);
        if (code != HR_OK) {
            hr_http_tls_free(*out);
            *out = NULL;
        }
    }
    if (key.size > 0) {
        explicit_bzero(key.bytes, key.size);
    }
    hr_buffer_fini(&cert);
    hr_buffer_fini(&key);
    return code;
}

void hr_http_tls_free(struct hr_http_tls *tls) {
    if (tls == NULL) {
        return;
    }
    if (tls->priorities != NULL) {
        gnutls.gnutls_priority_deinit(tls->priorities);
    }
    if (tls->credentials != NULL) {
        gnutls.gnutls_certificate_free_credentials(tls->credentials);
    }
    hr_free(tls);
}

void hr_http_tls_begin(hr_http_peer *peer) {
    const struct hr_http_tls *tls = peer->request.server->tls;
    if (gnutls.gnutls_init(&peer->tls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) != 0) {
        hr_require(NULL);
    }
    gnutls.gnutls_priority_set(peer->tls, tls->priorities);
    gnutls.gnutls_credentials_set(peer->tls, GNUTLS_CRD_CERTIFICATE, tls->credentials);
    gnutls.gnutls_transport_set_int2(peer->tls, peer->fd, peer->fd);
}

/* What a result below zero means. */
static int meaning(const hr_http_peer *peer, ssize_t result) {
    if (result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED) {
        return gnutls.gnutls_record_get_direction(peer->tls) == 1 ? HR_HTTP_AGAIN_WRITE
                                                                  : HR_HTTP_AGAIN_READ;
    }
    return HR_HTTP_BROKEN;
}

int hr_http_tls_shake(hr_http_peer *peer) {
    int result = 0;
    do { /* a warning of the other side is no answer yet */
        result = gnutls.gnutls_handshake(peer->tls);
    } while (result < 0 && result != GNUTLS_E_AGAIN && gnutls.gnutls_error_is_fatal(result) == 0);
    return result == 0 ? 0 : meaning(peer, result);
}

ssize_t hr_http_tls_read(hr_http_peer *peer, void *bytes, size_t size) {
    ssize_t got = gnutls.gnutls_record_recv(peer->tls, bytes, size);
    return got >= 0 ? got : meaning(peer, got);
}

/* After HR_HTTP_AGAIN_* the library holds the record: the next call sends that and returns its
 * size, so it must be made with the same bytes. */
ssize_t hr_http_tls_write(hr_http_peer *peer, const void *bytes, size_t size) {
    ssize_t sent = gnutls.gnutls_record_send(peer->tls, bytes, size);
    return sent >= 0 ? sent : meaning(peer, sent);
}

bool hr_http_tls_has_more(const hr_http_peer *peer) {
    return gnutls.gnutls_record_check_pending(peer->tls) > 0;
}

void hr_http_tls_bye(hr_http_peer *peer) {
    gnutls.gnutls_bye(peer->tls, GNUTLS_SHUT_WR); /* if it cannot be said, the close says it */
}

void hr_http_tls_end(hr_http_peer *peer) {
    gnutls.gnutls_deinit(peer->tls);
    peer->tls = NULL;
}
