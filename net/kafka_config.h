/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of `kafka:` that reading and writing share: brokers, login, TLS, properties. */
#ifndef HR_NET_KAFKA_CONFIG_H
#define HR_NET_KAFKA_CONFIG_H

#include "core/node.h"
#include "net/kafka_client.h"

/* What the options point to and no node holds. */
typedef struct hr_kafka_config {
    char *brokers, *client_id;
    hr_kafka_setting *properties;
} hr_kafka_config;

/* Fills what is the same for a consumer and a producer; the rest of out stays as it is. name and
 * config are borrowed as long as out is used, own until hr_kafka_config_fini(). */
void hr_kafka_config_read(const hr_node *config, const char *name, hr_kafka_config *own,
                          hr_kafka_options *out);
void hr_kafka_config_fini(hr_kafka_config *own);

#endif
