/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/1.1 server: routes, limits, and answers that may come later (after a commit). llhttp
 * reads requests, GnuTLS seals connections; no other file family includes llhttp.h.
 *
 * Life:  new -> route* -> start -> (request -> answer)* -> stop -> free
 * A thread of its own reads and writes the sockets. Requests arrive on the loop thread with their
 * whole body; each is answered exactly once, now or later, with hr_http_answer(). */
#ifndef HR_NET_HTTP_SERVER_H
#define HR_NET_HTTP_SERVER_H

#include "core/error.h"
#include "core/loop.h"
#include "core/slice.h"

typedef struct hr_http_server hr_http_server;
typedef struct hr_http_request hr_http_request;

typedef struct hr_http_options {
    const char *listen;             /* "127.0.0.1:7080", "[::1]:0"; port 0: any */
    const char *tls_cert, *tls_key; /* PEM files, NULL: no TLS */
    uint32_t connections;           /* most at once; 0: 20,000; fewer if files are */
    uint32_t timeout_s;             /* of an idle connection; 0: 30; header lines: a third */
    int take_fd;                    /* a socket that listens there already; 0: none */
} hr_http_options;

/* Called on the loop thread. */
typedef void hr_http_handler(void *data, hr_http_request *request);

hr_http_server *hr_http_server_new(hr_loop *loop, const hr_http_options *options);

/* A path ("/hooks/uploads", exact, no query) and its handler. body_max: bytes; a larger body is
 * answered 413 and never reaches the handler, but for oversize_head > 0: then the handler is called
 * with the first oversize_head bytes and hr_http_is_cut() true. Before start.
 * Errors: HR_E_EXISTS. */
hr_code hr_http_route(hr_http_server *server, const char *path, size_t body_max,
                      size_t oversize_head, hr_http_handler *handler, void *data, hr_error *err);

/* Binds and serves. Errors: HR_E_IO with "listen on 127.0.0.1:7080: address already in use",
 * HR_E_CONFIG (a certificate that is none), HR_E_UNSUPPORTED (TLS without GnuTLS). */
hr_code hr_http_server_start(hr_http_server *server, hr_error *err);

/* The bound port. */
int hr_http_server_port(const hr_http_server *server);

/* A second descriptor of the listening socket, for take_fd of the next server: connections wait in
 * it meanwhile and none is refused. -1: this one does not listen. Owned by the caller. */
int hr_http_server_listener(const hr_http_server *server);

/* Parts of a request, valid until it is answered. Header names match without case; empty when
 * absent (*found tells, may be NULL). */
const char *hr_http_method(const hr_http_request *request);
const char *hr_http_path(const hr_http_request *request);
const char *hr_http_query(const hr_http_request *request, const char *name); /* NULL: absent */
hr_slice hr_http_body(const hr_http_request *request);
hr_slice hr_http_header(const hr_http_request *request, const char *name);
void hr_http_each_header(const hr_http_request *request,
                         void (*each)(void *data, hr_slice name, hr_slice value), void *data);
bool hr_http_is_cut(const hr_http_request *request);

/* Ends the request. body is copied. headers: pairs name, value, ended by NULL; may be NULL; Date,
 * Content-Length and Connection are added.  Thread: loop. */
void hr_http_answer(hr_http_request *request, int status, const char *const *headers,
                    hr_slice body);

/* No new request; those open are answered 503. Returns when its threads have ended. */
void hr_http_server_stop(hr_http_server *server);
void hr_http_server_free(hr_http_server *server);

#endif
