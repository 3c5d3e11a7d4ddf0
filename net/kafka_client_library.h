/* SPDX-License-Identifier: Apache-2.0 */
/* librdkafka's functions, loaded by the first client (core/library.h): with what it brings along
 * (OpenSSL, SASL, zstd ...) it is the largest of our libraries. For net/kafka_client*.c only. */
#ifndef HR_NET_KAFKA_CLIENT_LIBRARY_H
#define HR_NET_KAFKA_CLIENT_LIBRARY_H

#include "core/library.h"

#include <librdkafka/rdkafka.h>

#define HR_RDKAFKA_FUNCTIONS(X)                                                                    \
    X(rd_kafka_assign)                                                                             \
    X(rd_kafka_assignment_lost)                                                                    \
    X(rd_kafka_clusterid)                                                                          \
    X(rd_kafka_commit)                                                                             \
    X(rd_kafka_commit_queue)                                                                       \
    X(rd_kafka_committed)                                                                          \
    X(rd_kafka_conf_destroy)                                                                       \
    X(rd_kafka_conf_dup)                                                                           \
    X(rd_kafka_conf_new)                                                                           \
    X(rd_kafka_conf_set)                                                                           \
    X(rd_kafka_conf_set_error_cb)                                                                  \
    X(rd_kafka_conf_set_events)                                                                    \
    X(rd_kafka_conf_set_log_cb)                                                                    \
    X(rd_kafka_conf_set_offset_commit_cb)                                                          \
    X(rd_kafka_conf_set_opaque)                                                                    \
    X(rd_kafka_conf_set_rebalance_cb)                                                              \
    X(rd_kafka_consume_batch_queue)                                                                \
    X(rd_kafka_consumer_close_queue)                                                               \
    X(rd_kafka_consumer_closed)                                                                    \
    X(rd_kafka_destroy_flags)                                                                      \
    X(rd_kafka_err2str)                                                                            \
    X(rd_kafka_error_destroy)                                                                      \
    X(rd_kafka_event_destroy)                                                                      \
    X(rd_kafka_event_error)                                                                        \
    X(rd_kafka_event_error_is_fatal)                                                               \
    X(rd_kafka_event_error_string)                                                                 \
    X(rd_kafka_event_message_next)                                                                 \
    X(rd_kafka_event_type)                                                                         \
    X(rd_kafka_fatal_error)                                                                        \
    X(rd_kafka_flush)                                                                              \
    X(rd_kafka_get_watermark_offsets)                                                              \
    X(rd_kafka_header_add)                                                                         \
    X(rd_kafka_header_get_all)                                                                     \
    X(rd_kafka_headers_destroy)                                                                    \
    X(rd_kafka_headers_new)                                                                        \
    X(rd_kafka_mem_free)                                                                           \
    X(rd_kafka_message_destroy)                                                                    \
    X(rd_kafka_message_headers)                                                                    \
    X(rd_kafka_message_timestamp)                                                                  \
    X(rd_kafka_metadata)                                                                           \
    X(rd_kafka_metadata_destroy)                                                                   \
    X(rd_kafka_new)                                                                                \
    X(rd_kafka_offsets_for_times)                                                                  \
    X(rd_kafka_opaque)                                                                             \
    X(rd_kafka_outq_len)                                                                           \
    X(rd_kafka_poll_set_consumer)                                                                  \
    X(rd_kafka_producev)                                                                           \
    X(rd_kafka_purge)                                                                              \
    X(rd_kafka_query_watermark_offsets)                                                            \
    X(rd_kafka_queue_destroy)                                                                      \
    X(rd_kafka_queue_forward)                                                                      \
    X(rd_kafka_queue_get_consumer)                                                                 \
    X(rd_kafka_queue_get_main)                                                                     \
    X(rd_kafka_queue_get_partition)                                                                \
    X(rd_kafka_queue_io_event_enable)                                                              \
    X(rd_kafka_queue_length)                                                                       \
    X(rd_kafka_queue_new)                                                                          \
    X(rd_kafka_queue_poll)                                                                         \
    X(rd_kafka_subscribe)                                                                          \
    X(rd_kafka_topic_destroy)                                                                      \
    X(rd_kafka_topic_new)                                                                          \
    X(rd_kafka_topic_partition_list_add)                                                           \
    X(rd_kafka_topic_partition_list_destroy)                                                       \
    X(rd_kafka_topic_partition_list_new)                                                           \
    X(rd_kafka_unsubscribe)                                                                        \
    X(rd_kafka_version)

typedef struct hr_rdkafka_functions {
    HR_RDKAFKA_FUNCTIONS(HR_LIBRARY_MEMBER)
} hr_rdkafka_functions;

/* To be called after hr_kafka_load() only. */
extern hr_rdkafka_functions hr_rdkafka;

#endif
