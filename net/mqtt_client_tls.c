/* SPDX-License-Identifier: Apache-2.0 */
/* Why TLS failed. paho hands over OpenSSL's error lines of the handshake. They do not say what was
 * wrong with a certificate, there is none for a wrong host name, and none for what the broker said
 * after a handshake of TLS 1.3 (that it wants a certificate). OpenSSL told all of that on the same
 * thread just before: the verification that ended, the alert that came. */
#include "net/mqtt_client_priv.h"

#include "core/memory.h"

#include <stdio.h>
#include <string.h>

/* The verification that ended last on this thread. */
static _Thread_local int verify_error = X509_V_OK;
static _Thread_local X509 *verified; /* the peer's certificate, when all else was well */

static _Thread_local int alert; /* the last fatal one that came on this thread; 0: none */

static void on_info(const SSL *tls, int where, int value) {
    (void)tls;
    if (where == SSL_CB_READ_ALERT && value >> 8 == SSL3_AL_FATAL) {
        alert = value;
    }
}

/* Called by OpenSSL when it has made a connection. */
static void after_new(void *parent, void *data, CRYPTO_EX_DATA *all, int index, long number,
                      void *argument) {
    (void)data, (void)all, (void)index, (void)number, (void)argument;
    hr_paho.SSL_set_info_callback(parent, on_info);
}

/* Called by OpenSSL when it frees the context of a verification. */
static void after_verify(void *parent, void *data, CRYPTO_EX_DATA *all, int index, long number,
                         void *argument) {
    (void)data, (void)all, (void)index, (void)number, (void)argument;
    const X509_STORE_CTX *context = parent;
    hr_paho.X509_free(verified);
    verified = NULL;
    verify_error = hr_paho.X509_STORE_CTX_get_error(context);
    if (verify_error == X509_V_OK) {
        verified = hr_paho.X509_STORE_CTX_get0_cert(context);
        if (verified != NULL && hr_paho.X509_up_ref(verified) != 1) {
            verified = NULL;
        }
    }
}

void hr_mqtt_tls_watch(void) {
    int index = hr_paho.CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_X509_STORE_CTX, 0, NULL, NULL, NULL,
                                                after_verify);
    HR_ASSERT(index >= 0);
    index = hr_paho.CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, NULL, after_new, NULL, NULL);
    HR_ASSERT(index >= 0);
}

/* Field number index of a line of fields between colons. */
static hr_slice field(const char *line, size_t size, size_t index) {
    size_t at = 0;
    for (; index > 0; index--) {
        const char *colon = memchr(line + at, ':', size - at);
        if (colon == NULL) {
            return hr_slice_of("", 0);
        }
        at = (size_t)(colon - line) + 1;
    }
    const char *colon = memchr(line + at, ':', size - at);
    return hr_slice_of(line + at, colon == NULL ? size - at : (size_t)(colon - line) - at);
}

int hr_mqtt_on_tls_error(const char *text, size_t size, void *context) {
    enum { REASON = 5, DETAIL = 8, TEXT_MAX = 150 }; /* thread:error:code:library:function:... */
    hr_mqtt_client *it = context;
    const char *newline = memchr(text, '\n', size);
    size = newline == NULL ? size : (size_t)(newline - text);
    hr_slice reason = field(text, size, REASON), detail = field(text, size, DETAIL);
    if (reason.size == 0) {
        reason = hr_slice_of(text, size);
    }
    if (verify_error != X509_V_OK) {
        detail = hr_slice_text(hr_paho.X509_verify_cert_error_string(verify_error));
        verify_error = X509_V_OK;
    }
    char *said = hr_format("%.*s%s%.*s", (int)(reason.size > TEXT_MAX ? TEXT_MAX : reason.size),
                           (const char *)reason.bytes, detail.size > 0 ? ": " : "",
                           (int)(detail.size > TEXT_MAX ? TEXT_MAX : detail.size),
                           (const char *)detail.bytes);
    char *none = NULL;
    if (!atomic_compare_exchange_strong(&it->tls_text, &none, said)) {
        hr_free(said);
    }
    return 1;
}

static const char *alert_text(int value) {
    enum { CERTIFICATE_REQUIRED = 116 }; /* of TLS 1.3: OpenSSL 3.0 has no words for it */
    return (value & 0xff) == CERTIFICATE_REQUIRED ? "certificate required"
                                                  : hr_paho.SSL_alert_desc_string_long(value);
}

char *hr_mqtt_tls_take(hr_mqtt_client *it) {
    char *said = atomic_exchange(&it->tls_text, NULL);
    const hr_mqtt_address *to = &it->url[atomic_load(&it->url_tried)];
    if (said == NULL && verified != NULL && it->verify && strncmp(to->paho, "ssl:", 4) == 0 &&
        hr_paho.X509_check_host(verified, to->host, 0, 0, NULL) != 1 &&
        hr_paho.X509_check_ip_asc(verified, to->host, 0) != 1) {
        said = hr_format("the broker's certificate is not for '%.100s'", to->host);
    }
    if (said == NULL && alert != 0) {
        said = hr_format("the broker says: TLS alert '%s'", alert_text(alert));
    }
    hr_paho.X509_free(verified);
    verified = NULL;
    alert = 0;
    return said;
}
