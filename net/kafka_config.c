/* SPDX-License-Identifier: Apache-2.0 */
#include "net/kafka_config.h"

#include "core/buffer.h"
#include "core/memory.h"

static char *words_of(const hr_node *config, const char *key) {
    hr_buffer text = {0};
    const hr_node *cursor = NULL;
    for (const char *at; (at = hr_node_each_text(config, key, &cursor)) != NULL;) {
        hr_buffer_print(&text, "%s%s", text.size == 0 ? "" : ",", at);
    }
    char *words = hr_copy_text(hr_buffer_text(&text));
    hr_buffer_fini(&text);
    return words;
}

void hr_kafka_config_read(const hr_node *config, const char *name, hr_kafka_config *own,
                          hr_kafka_options *out) {
    const hr_node *tls = hr_node_get(config, "tls");
    const hr_node *properties = hr_node_get(config, "properties");
    size_t count = properties == NULL ? 0 : hr_node_count(properties);
    *own = (hr_kafka_config){.brokers = words_of(config, "brokers"),
                             .client_id = hr_format("headrace-%s", name),
                             .properties = hr_alloc_array(count + 1, sizeof *own->properties)};
    const hr_node *at = properties == NULL ? NULL : properties->child;
    for (size_t i = 0; i < count; i++, at = at->next) {
        own->properties[i] = (hr_kafka_setting){.name = at->key, .value = at->text};
    }
    out->name = name;
    out->brokers = own->brokers;
    out->client_id = own->client_id;
    out->username = hr_node_text(config, "username", NULL);
    out->password = hr_node_text(config, "password", NULL);
    out->mechanism = hr_node_text(config, "mechanism", NULL);
    out->has_tls = tls != NULL;
    out->is_unverified = hr_node_number(tls, "verify", 1) == 0;
    out->ca = hr_node_text(tls, "ca", NULL);
    out->cert = hr_node_text(tls, "cert", NULL);
    out->key = hr_node_text(tls, "key", NULL);
    out->properties = own->properties;
    out->property_count = count;
}

void hr_kafka_config_fini(hr_kafka_config *own) {
    hr_free(own->brokers);
    hr_free(own->client_id);
    hr_free(own->properties);
    *own = (hr_kafka_config){0};
}
