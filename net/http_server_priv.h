/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTTP server share: the server, its routes, one request. */
#ifndef HR_NET_HTTP_SERVER_PRIV_H
#define HR_NET_HTTP_SERVER_PRIV_H

#include "core/buffer.h"
#include "net/http_server.h"
#include "net/http_server_library.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    HR_HTTP_ROUTES = 256,
    HR_HTTP_HEADER_MAX = 16 << 10,     /* bytes of all header lines; more: 431 */
    HR_HTTP_HEADERS = 128,             /* header lines and query arguments; more: 431 */
    HR_HTTP_POOL = 20 << 10,           /* bytes a connection: header lines and read buffer */
    HR_HTTP_BODIES_MAX = 256 << 20,    /* bytes of all bodies held at once; more: 503 */
    HR_HTTP_DISCARD_MAX = 16 << 20,    /* bytes read and thrown away so that a 413 arrives */
    HR_HTTP_DISCARD_CUT_MAX = 1 << 30, /* the same for a body of which the head is kept */
    HR_HTTP_STOP_MS = 2000             /* how long stop waits for the last answers to leave */
};

typedef struct hr_http_route_entry {
    char *path;
    size_t body_max, oversize_head; /* bytes */
    hr_http_handler *handler;
    void *data;
} hr_http_route_entry;

typedef struct hr_http_pair { /* offsets into request->text; both texts are terminated */
    uint32_t name, name_size, value, value_size;
    bool has_value;
} hr_http_pair;

/* One reference is microhttpd's (until the exchange is over), one the loop's (from the moment the
 * request is handed over until it is answered). */
struct hr_http_request {
    hr_http_server *server;
    struct MHD_Connection *connection;
    const hr_http_route_entry *route; /* NULL: none fits */
    hr_http_request *next, *previous; /* of the list it is in: arrived, taken or open */
    atomic_uint refs;
    hr_buffer text; /* method, path, headers and arguments */
    uint32_t method, path;
    hr_http_pair *pairs; /* headers first, then query arguments */
    uint32_t header_count, pair_count, pair_room;
    hr_buffer body;
    size_t body_reserved;     /* of server->body_bytes */
    uint64_t seen;            /* body bytes received */
    int verdict;              /* status to answer without asking the handler; 0: none */
    const char *verdict_text; /* one line, static */
    bool is_cut, is_handed, is_orphan;
    struct MHD_Response *response; /* the loop's answer */
    int status;
};

struct hr_http_server {
    hr_loop *loop;
    char *listen, *tls_cert, *tls_key;
    uint32_t connections, timeout_s;
    hr_http_route_entry routes[HR_HTTP_ROUTES];
    uint32_t route_count;
    struct MHD_Daemon *daemon;
    int fd, port;
    atomic_size_t body_bytes;      /* of all requests */
    hr_timer *slow;                /* ends slow connections; runs while is_looking */
    bool is_looking;               /* loop only */
    hr_http_request *taken, *open; /* loop only: to be handled; in a handler's hands */
    pthread_mutex_t mutex;         /* guards all below */
    pthread_cond_t answered;       /* handed became 0 */
    hr_http_request *arrived, **arrived_last;
    hr_message message;            /* posted while is_posted */
    uint32_t handed;               /* given to the loop and not yet over */
    struct peer *newest, *oldest;  /* connections, but for those that were ended */
    uint32_t peer_count, peer_max; /* max: set at start */
    uint64_t ended_early;          /* since the loop looked */
    bool is_posted, is_stopping, is_freed;
    char said[200]; /* the library's last words, for the error of start */
};

/* A socket that listens on "host:port", and the port it got. Errors: HR_E_IO, HR_E_INVALID. */
hr_code hr_http_listen(const char *address, int *out_fd, int *out_port, hr_error *err);

/* The port of a socket that listens. */
int hr_http_bound_port(int fd);

/* microhttpd's callbacks; threads of the library. */
enum MHD_Result hr_http_on_access(void *data, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state);
void hr_http_on_completed(void *data, struct MHD_Connection *connection, void **state,
                          enum MHD_RequestTerminationCode how);

/* Hands a whole request to the loop.  Thread: the library's. */
void hr_http_hand_over(hr_http_request *request);

/* Posts the server's message, unless it is on its way. With the mutex held.  Thread: any. */
void hr_http_wake(hr_http_server *server);

/* What a connection keeps us waiting for, so that it can be ended when it takes too long. */
typedef enum hr_http_waiting {
    HR_HTTP_WAIT_NONE, /* for nothing: we are at work */
    HR_HTTP_WAIT_BODY,
    HR_HTTP_WAIT_NEXT /* the next request */
} hr_http_waiting;
void hr_http_expect(hr_http_request *request, hr_http_waiting what);

/* Bytes of the body came: it may take a second more for each 1,000 of them. */
void hr_http_came(hr_http_request *request, size_t bytes);

/* microhttpd's callback for each connection; its threads. */
void hr_http_on_connection(void *data, struct MHD_Connection *connection, void **context,
                           enum MHD_ConnectionNotificationCode what);

/* Ends connections past their deadline.  Thread: loop. */
void hr_http_end_slow(void *data);

/* Gives a reference back.  Thread: any. */
void hr_http_request_unref(hr_http_request *request);

/* A response of our own: text/plain, one line.  Thread: any. */
struct MHD_Response *hr_http_line(int status, const char *text);

#endif
