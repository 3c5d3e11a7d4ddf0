/* SPDX-License-Identifier: Apache-2.0 */
/* paho's functions, and some of the OpenSSL that it brings along, loaded by the first client
 * (core/library.h). For net/mqtt_client*.c only. */
#ifndef HR_NET_MQTT_CLIENT_LIBRARY_H
#define HR_NET_MQTT_CLIENT_LIBRARY_H

#include "core/library.h"

#include <MQTTAsync.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define HR_PAHO_FUNCTIONS(X)                                                                       \
    X(MQTTAsync_connect)                                                                           \
    X(MQTTAsync_createWithOptions)                                                                 \
    X(MQTTAsync_free)                                                                              \
    X(MQTTAsync_freeMessage)                                                                       \
    X(MQTTAsync_setCallbacks)                                                                      \
    X(MQTTAsync_setDisconnected)                                                                   \
    X(MQTTAsync_setTraceLevel)                                                                     \
    X(MQTTAsync_strerror)                                                                          \
    X(MQTTAsync_subscribe)                                                                         \
    X(MQTTProperties_add)                                                                          \
    X(MQTTProperties_free)                                                                         \
    X(MQTTProperties_getProperty)                                                                  \
    X(MQTTReasonCode_toString)                                                                     \
    X(CRYPTO_get_ex_new_index)                                                                     \
    X(SSL_alert_desc_string_long)                                                                  \
    X(SSL_set_info_callback)                                                                       \
    X(X509_STORE_CTX_get0_cert)                                                                    \
    X(X509_STORE_CTX_get_error)                                                                    \
    X(X509_check_host)                                                                             \
    X(X509_check_ip_asc)                                                                           \
    X(X509_free)                                                                                   \
    X(X509_up_ref)                                                                                 \
    X(X509_verify_cert_error_string)

typedef struct hr_paho_functions {
    HR_PAHO_FUNCTIONS(HR_LIBRARY_MEMBER)
} hr_paho_functions;

/* To be called after hr_mqtt_load() only. */
extern hr_paho_functions hr_paho;

#endif
