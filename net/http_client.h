/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP requests over libcurl's multi interface on our loop; the only file family that includes
 * curl.h.
 *
 * Life:  new -> (send -> answered | cancel)* -> free.  Thread: loop. */
#ifndef HR_NET_HTTP_CLIENT_H
#define HR_NET_HTTP_CLIENT_H

#include "core/error.h"
#include "core/loop.h"
#include "core/slice.h"

typedef struct hr_http_client hr_http_client;
typedef struct hr_http_call hr_http_call;

typedef struct hr_http_send {
    const char *url;
    const char *const *headers; /* "Name: value", ends with NULL; copied */
    hr_slice body;              /* POST; copied */
    uint32_t timeout_ms;
    size_t answer_max;           /* bytes of the answer's body that are kept */
    const char *ca, *cert, *key; /* PEM files; NULL: the system's, none */
    bool insecure;               /* certificates are not checked */
} hr_http_send;

typedef struct hr_http_answered {
    int status;        /* 0: no answer, see error */
    const char *error; /* curl's words; NULL when there is a status */
    bool is_timeout;
    int64_t retry_after_ms;   /* of Retry-After (seconds or a date); -1: none */
    const char *content_type; /* NULL: none */
    hr_slice body;
} hr_http_answered;

/* Loads libcurl, which new does by itself otherwise: a missing one is told before anything starts.
 * Errors: HR_E_UNSUPPORTED. */
hr_code hr_http_client_load(hr_error *err);

/* Errors: HR_E_UNSUPPORTED (no libcurl). */
hr_code hr_http_client_new(hr_loop *loop, hr_http_client **out_client, hr_error *err);
void hr_http_client_free(hr_http_client *take_client); /* cancels what runs */

/* POSTs; answered(data, answer) comes once, later, never from within this call. */
hr_http_call *hr_http_client_post(hr_http_client *client, const hr_http_send *send,
                                  void (*answered)(void *data, const hr_http_answered *answer),
                                  void *data);

/* Ends a call; answered() does not come. */
void hr_http_call_cancel(hr_http_call *call);

#endif
