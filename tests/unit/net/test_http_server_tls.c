/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server behind TLS, met by OpenSSL with a certificate made for the occasion. */
#include "core/memory.h"
#include "net/http_server.h"
#include "tests/lib/http_raw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <cmocka.h>

typedef struct client {
    int port, version; /* TLS1_..._VERSION, the highest it speaks */
    const char *ca;
    char answer[2048];
    long verified;
    bool is_connected;
} client;

static void make_certificate(const char *cert_path, const char *key_path) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    assert_non_null(key);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1,
                               0);
    X509_set_issuer_name(cert, name);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    FILE *file = fopen(cert_path, "w");
    assert_int_equal(PEM_write_X509(file, cert), 1);
    fclose(file);
    file = fopen(key_path, "w");
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void exchange(void *data) {
    client *self = data;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context, self->version);
    SSL_CTX_set_min_proto_version(context, self->version);
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_load_verify_locations(context, self->ca, NULL);
    SSL *tls = SSL_new(context);
    int fd = raw_connect(self->port);
    SSL_set_fd(tls, fd);
    self->is_connected = SSL_connect(tls) == 1;
    if (self->is_connected) {
        static const char request[] = "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: "
                                      "close\r\nContent-Length: 5\r\n\r\nhello";
        self->verified = SSL_get_verify_result(tls);
        SSL_write(tls, request, (int)sizeof request - 1);
        size_t have = 0;
        for (int got; (got = SSL_read(tls, self->answer + have,
                                      (int)(sizeof self->answer - 1 - have))) > 0;) {
            have += (size_t)got;
        }
    }
    SSL_free(tls);
    SSL_CTX_free(context);
    close(fd);
}

static void echo(void *data, hr_http_request *request) {
    (void)data;
    hr_http_answer(request, 200, NULL, hr_http_body(request));
}

static void tls_serves_1_2_and_1_3_and_nothing_older(void **state) {
    (void)state;
    char folder[] = "/tmp/headrace-tls-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *cert = hr_format("%s/cert.pem", folder), *key = hr_format("%s/key.pem", folder);
    make_certificate(cert, key);
    hr_loop *loop = hr_loop_new();
    hr_http_options options = {.listen = "127.0.0.1:0", .tls_cert = cert, .tls_key = key};
    hr_http_server *server = hr_http_server_new(loop, &options);
    hr_error err = {0};
    assert_int_equal(hr_http_route(server, "/echo", 100, 0, echo, NULL, &err), HR_OK);
    if (hr_http_server_start(server, &err) != HR_OK) {
        fail_msg("%s", err.text);
    }
    const struct {
        int version;
        bool is_served;
    } cases[] = {{TLS1_2_VERSION, true}, {TLS1_3_VERSION, true}, {TLS1_1_VERSION, false}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        client self = {
            .port = hr_http_server_port(server), .version = cases[i].version, .ca = cert};
        raw_with_loop(loop, exchange, &self);
        assert_int_equal(self.is_connected, cases[i].is_served);
        if (cases[i].is_served) {
            assert_int_equal(self.verified, X509_V_OK);
            assert_int_equal(strncmp(self.answer, "HTTP/1.1 200", 12), 0);
            assert_non_null(strstr(self.answer, "\r\n\r\nhello"));
        }
    }
    raw_exchange plain = {.head = "GET /echo HTTP/1.1\r\nHost: x\r\n",
                          .port = hr_http_server_port(server)};
    raw_run_all(loop, &plain, 1);
    assert_int_equal(plain.status, 0);
    hr_http_server_free(server);
    hr_loop_free(loop);
    unlink(cert);
    unlink(key);
    rmdir(folder);
    hr_free(cert);
    hr_free(key);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tls_serves_1_2_and_1_3_and_nothing_older),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
