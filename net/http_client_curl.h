/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl, loaded when the first client is made: what it brings along (LDAP, Kerberos, SSH ...)
 * costs 1.6 MiB of memory and 2 ms of each start, also where nothing asks for HTTP. Included by
 * net/http_client*.c instead of curl.h; its functions are members of their own names. */
#ifndef HR_NET_HTTP_CLIENT_CURL_H
#define HR_NET_HTTP_CLIENT_CURL_H

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

typedef struct hr_curl {
#define HR_CURL_MEMBER(name) __typeof__(name) *(name);
    HR_CURL_FUNCTIONS(HR_CURL_MEMBER)
#undef HR_CURL_MEMBER
} hr_curl;

/* The functions, loaded and initialised at the first call; the process ends with one line where
 * the library is not there (hr_give_up), as it would if it were linked.  Thread: loop. */
const hr_curl *hr_curl_load(void);

#endif
