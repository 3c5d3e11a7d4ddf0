/* SPDX-License-Identifier: Apache-2.0 */
/* What consumer and producer share; for net/kafka_client*.c only. */
#ifndef HR_NET_KAFKA_CLIENT_PRIV_H
#define HR_NET_KAFKA_CLIENT_PRIV_H

#include "net/kafka_client.h"
#include "net/kafka_client_library.h"

/* Sets what is not NULL. Errors: HR_E_CONFIG with the name and librdkafka's words. */
hr_code hr_kafka_set_all(rd_kafka_conf_t *conf, const hr_kafka_setting *settings, size_t count,
                         hr_error *err);

/* Brokers, TLS, login, and how to reconnect. */
hr_code hr_kafka_set_peer(rd_kafka_conf_t *conf, const hr_kafka_options *options, hr_error *err);

#endif
