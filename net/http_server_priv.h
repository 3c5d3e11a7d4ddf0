/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTTP server share.
 *
 * Two threads: the server's own reads, parses and writes sockets on a loop of its own; handlers run
 * on the caller's loop. A peer is a connection with the one request it may have at a time. Until a
 * request is whole, and from its answer on, the peer belongs to the server's thread; in between the
 * request belongs to the caller's loop. What goes over goes in groups, so that a hundred requests
 * cost few locks and wake-ups: answers once a turn, requests sixteen at a time or at the end of the
 * turn, so that the first are looked at while the others are read.
 *
 * Source of the protocol: RFC 9110, RFC 9112. */
#ifndef HR_NET_HTTP_SERVER_PRIV_H
#define HR_NET_HTTP_SERVER_PRIV_H

#include "core/buffer.h"
#include "net/http_server.h"

#include <llhttp.h>
#include <pthread.h>
#include <sys/types.h>

enum {
    HR_HTTP_ROUTES = 256,
    HR_HTTP_HEADER_MAX = 16 << 10,  /* bytes of the target and all header lines; more: 431 */
    HR_HTTP_HEADERS = 128,          /* header lines and query arguments; more: 431 */
    HR_HTTP_READ = 64 << 10,        /* bytes of one read */
    HR_HTTP_TOGETHER = 16,          /* requests that go over before the end of their turn */
    HR_HTTP_KEEP = 4 << 10,         /* bytes of a buffer that a peer keeps for its next request */
    HR_HTTP_BODIES_MAX = 256 << 20, /* bytes of all bodies held at once; more: 503 */
    HR_HTTP_DISCARD_MAX = 16 << 20, /* bytes read and thrown away so that a 413 arrives */
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
} hr_http_pair;

/* What the bytes read so far amount to. */
typedef enum hr_http_progress {
    HR_HTTP_MORE,    /* all were taken and more must come */
    HR_HTTP_WHOLE,   /* a request, or with a verdict what is to be answered in its place */
    HR_HTTP_REFUSED, /* a verdict that does not wait for the rest; where that ends is not known */
    HR_HTTP_CUT      /* too much of what nobody wants: close without a word */
} hr_http_progress;

struct hr_http_request {
    hr_http_server *server;
    llhttp_t parser;
    const hr_http_route_entry *route; /* NULL: none fits */
    hr_buffer text;                   /* target, header lines and arguments */
    hr_http_pair *pairs;              /* headers first, then query arguments */
    uint32_t header_count, pair_count, pair_room;
    hr_buffer body;
    size_t body_reserved;   /* of server->body_bytes */
    uint64_t seen;          /* body bytes received */
    int verdict;            /* status to answer without asking the handler; 0: none */
    const char *said, *why; /* of the verdict: one line; what the parser found, NULL: nothing */
    bool is_begun, is_naming, has_head, is_cut, is_refused, is_too_much;
    bool wants_continue;   /* "Expect: 100-continue", not yet told to go on */
    bool is_kept;          /* the connection outlives the answer */
    bool is_orphan;        /* the server stopped and answered in the handler's place */
    hr_buffer answer;      /* whole, as it goes over the wire */
    hr_http_request *next; /* of the ones that go over */
    hr_http_request *open_newer, *open_older; /* in handlers' hands; loop only */
};

typedef enum hr_http_state {
    HR_HTTP_GREETING, /* TLS shakes hands */
    HR_HTTP_READING,
    HR_HTTP_AT_WORK, /* the request is with the caller's loop */
    HR_HTTP_SENDING, /* the kernel did not take all of the answer */
    HR_HTTP_LEAVING, /* answered; what still comes is thrown away until the other side closes */
    HR_HTTP_CLOSED
} hr_http_state;

typedef struct hr_http_peer {
    hr_http_request request; /* first: a request is its peer */
    int fd;
    hr_http_state state;
    hr_watch *watch;
    bool is_deaf; /* not watched: it sent more while its request is at work */
    struct gnutls_session_int *tls;
    hr_buffer rest;                     /* what came behind the request */
    size_t sent;                        /* bytes of the answer; or thrown away while leaving */
    uint64_t deadline_ns, body_end_ns;  /* mono; 0: we are at work, it may wait */
    struct hr_http_peer *newer, *older; /* by when they last came or were done */
} hr_http_peer;

typedef struct hr_http_queue {
    hr_http_request *first, **last;
} hr_http_queue;

struct hr_http_server {
    char *listen, *tls_cert, *tls_key;
    uint32_t connections, timeout_s;
    hr_http_route_entry routes[HR_HTTP_ROUTES]; /* fixed from start on */
    uint32_t route_count;
    int fd, port;
    bool is_started;

    /* the caller's loop */
    hr_loop *loop;
    hr_http_request *taken, *open; /* to be handled; in a handler's hands */
    hr_http_queue answering;       /* of this turn */
    hr_message turn;               /* hands them over; deferred unless answering is empty */

    /* the server's thread */
    hr_loop *io;
    pthread_t thread;
    hr_watch *listener;
    hr_timer *slow, *again; /* ends slow peers, runs while is_looking; listens again */
    hr_http_peer *newest, *oldest;
    uint32_t peer_count, peer_max; /* max: set at start */
    uint64_t ended_early;          /* since it last looked */
    size_t body_bytes;             /* of all requests */
    hr_http_queue arriving;        /* of this turn */
    uint32_t arriving_count;
    hr_message io_turn; /* hands them over; deferred while is_io_turning */
    bool is_io_turning, is_looking;
    bool is_full, is_leaving; /* no listening, for now and for good */
    struct hr_http_tls *tls;  /* NULL: none */
    uint8_t in[HR_HTTP_READ];

    /* between the two */
    pthread_mutex_t mutex;
    hr_http_queue arrived, answered;
    hr_message message, io_message; /* posted while is_posted, is_io_posted */
    bool is_posted, is_io_posted, is_stopping, is_freed;
};

/* ---- queues ---- */

static inline void hr_http_queue_init(hr_http_queue *queue) {
    queue->first = NULL;
    queue->last = &queue->first;
}

static inline void hr_http_queue_add(hr_http_queue *queue, hr_http_request *request) {
    request->next = NULL;
    *queue->last = request;
    queue->last = &request->next;
}

/* All of from behind what is in queue; from is empty then. */
static inline void hr_http_queue_move(hr_http_queue *queue, hr_http_queue *from) {
    if (from->first != NULL) {
        *queue->last = from->first;
        queue->last = from->last;
        hr_http_queue_init(from);
    }
}

/* ---- http_server_listen.c ---- */

/* A socket that listens on "host:port", and the port it got. Errors: HR_E_IO, HR_E_INVALID. */
hr_code hr_http_listen(const char *address, int *out_fd, int *out_port, hr_error *err);

/* The port of a socket that listens. */
int hr_http_bound_port(int fd);

/* ---- http_server_request.c: no socket, no thread ---- */

/* Ready for the first request of a connection, for the next one, and never again. */
void hr_http_request_init(hr_http_request *request, hr_http_server *server);
void hr_http_request_reset(hr_http_request *request);
void hr_http_request_fini(hr_http_request *request);

/* Goes on with what was read; *out_used bytes of it were the request's.  Thread: the server's. */
hr_http_progress hr_http_parse(hr_http_request *request, const uint8_t *bytes, size_t size,
                               size_t *out_used);

/* ---- http_server_answer.c ---- */

/* Puts the answer into request->answer. headers: pairs, NULL at their end.  Thread: who has it. */
void hr_http_compose(hr_http_request *request, int status, const char *const *headers,
                     hr_slice body);

/* The same of request->verdict. */
void hr_http_compose_verdict(hr_http_request *request);

/* The same of a server that ends; the connection ends with it. */
void hr_http_compose_stopping(hr_http_request *request);

/* ---- http_server_io.c ---- */

/* The server's thread listens and serves until, after is_stopping, it was given the last answers;
 * hr_http_io_end() waits until these have left or had their time. Errors of start: HR_E_IO.
 * Thread: the caller's loop. */
hr_code hr_http_io_start(hr_http_server *server, hr_error *err);
void hr_http_io_end(hr_http_server *server);

/* Gives answers to the server's thread and wakes it.  Thread: the caller's loop. */
void hr_http_io_take(hr_http_server *server, hr_http_queue *answering);

/* Closes the connection; its memory goes with hr_http_peer_settle(). */
void hr_http_peer_close(hr_http_peer *peer);

/* Frees a peer that was closed, but for one that a handler will still answer. */
void hr_http_peer_settle(hr_http_peer *peer);

/* ---- http_server_slow.c; the server's thread ---- */

void hr_http_peer_add(hr_http_server *server, hr_http_peer *peer);
void hr_http_peer_remove(hr_http_server *server, hr_http_peer *peer);

/* What a peer keeps us waiting for, so that it can be ended when it takes too long. */
typedef enum hr_http_waiting {
    HR_HTTP_WAIT_NONE, /* for nothing: we are at work */
    HR_HTTP_WAIT_HEAD, /* a handshake, header lines, or that it closes */
    HR_HTTP_WAIT_BODY,
    HR_HTTP_WAIT_NEXT /* the next request */
} hr_http_waiting;
void hr_http_expect(hr_http_peer *peer, hr_http_waiting what);

/* Bytes of the body came: it may take a second more for each 1,000 of them. */
void hr_http_came(hr_http_peer *peer, uint64_t bytes);

/* Ends peers that waited longest for want of their own words while there are more than `places`. */
void hr_http_make_room(hr_http_server *server, uint32_t places);

/* Ends peers past their deadline. */
void hr_http_end_slow(void *data);

/* ---- http_server_tls.c ---- */

enum { HR_HTTP_AGAIN_READ = -1, HR_HTTP_AGAIN_WRITE = -2, HR_HTTP_BROKEN = -3 };

/* Certificate and key (PEM files) for all connections. Errors: HR_E_IO, HR_E_CONFIG,
 * HR_E_UNSUPPORTED (no GnuTLS). */
hr_code hr_http_tls_new(const char *cert, const char *key, struct hr_http_tls **out, hr_error *err);
void hr_http_tls_free(struct hr_http_tls *tls);

/* Of one connection: 0 or HR_HTTP_*; bytes or HR_HTTP_*, 0 read: the other side ended. */
void hr_http_tls_begin(hr_http_peer *peer);
int hr_http_tls_shake(hr_http_peer *peer);
ssize_t hr_http_tls_read(hr_http_peer *peer, void *bytes, size_t size);
ssize_t hr_http_tls_write(hr_http_peer *peer, const void *bytes, size_t size);
bool hr_http_tls_has_more(const hr_http_peer *peer); /* read already and not yet taken */
void hr_http_tls_bye(hr_http_peer *peer);
void hr_http_tls_end(hr_http_peer *peer);

#endif
