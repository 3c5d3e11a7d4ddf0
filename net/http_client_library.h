/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl's functions, loaded by the first client (core/library.h): what it brings along (LDAP,
 * Kerberos, SSH ...) costs 1.6 MiB of memory and 2 ms of each start. For net/http_client*.c only.
 */
#ifndef HR_NET_HTTP_CLIENT_LIBRARY_H
#define HR_NET_HTTP_CLIENT_LIBRARY_H

#include "core/library.h"

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

/* Those macros of curl.h that only guard against wrong numbers of arguments. */
#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt

#define HR_CURL_FUNCTIONS(X)                                                                       \
    X(curl_global_init_mem)                                                                        \
    X(curl_getdate)                                                                                \
    X(curl_slist_append)                                                                           \
    X(curl_slist_free_all)                                                                         \
    X(curl_easy_init)                                                                              \
    X(curl_easy_setopt)                                                                            \
    X(curl_easy_getinfo)                                                                           \
    X(curl_easy_strerror)                                                                          \
    X(curl_easy_cleanup)                                                                           \
    X(curl_multi_init)                                                                             \
    X(curl_multi_setopt)                                                                           \
    X(curl_multi_assign)                                                                           \
    X(curl_multi_add_handle)                                                                       \
    X(curl_multi_remove_handle)                                                                    \
    X(curl_multi_info_read)                                                                        \
    X(curl_multi_socket_action)                                                                    \
    X(curl_multi_cleanup)

typedef struct hr_curl_functions {
    HR_CURL_FUNCTIONS(HR_LIBRARY_MEMBER)
} hr_curl_functions;

/* To be called after hr_http_client_load() only. */
extern hr_curl_functions hr_curl;

#endif
