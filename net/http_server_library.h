/* SPDX-License-Identifier: Apache-2.0 */
/* libmicrohttpd's functions, loaded by the first server that starts (core/library.h), with GnuTLS
 * and what that brings along. For net/http_server*.c only. */
#ifndef HR_NET_HTTP_SERVER_LIBRARY_H
#define HR_NET_HTTP_SERVER_LIBRARY_H

#include "core/library.h"

#include <microhttpd.h>

#define HR_MICROHTTPD_FUNCTIONS(X)                                                                 \
    X(MHD_add_response_header)                                                                     \
    X(MHD_create_response_from_buffer)                                                             \
    X(MHD_create_response_from_buffer_with_free_callback)                                          \
    X(MHD_destroy_response)                                                                        \
    X(MHD_get_connection_info)                                                                     \
    X(MHD_get_connection_values_n)                                                                 \
    X(MHD_queue_response)                                                                          \
    X(MHD_quiesce_daemon)                                                                          \
    X(MHD_resume_connection)                                                                       \
    X(MHD_start_daemon)                                                                            \
    X(MHD_stop_daemon)                                                                             \
    X(MHD_suspend_connection)

typedef struct hr_microhttpd_functions {
    HR_MICROHTTPD_FUNCTIONS(HR_LIBRARY_MEMBER)
} hr_microhttpd_functions;

/* To be called after hr_http_server_load() only. */
extern hr_microhttpd_functions hr_microhttpd;

#endif
