/* SPDX-License-Identifier: Apache-2.0 */
/* One request, from its first header line to its answer. */
#include "core/memory.h"
#include "net/http_server_priv.h"

#include <stdlib.h>
#include <strings.h>

struct MHD_Response *hr_http_line(int status, const char *text) {
    struct MHD_Response *response =
        hr_microhttpd.MHD_create_response_from_buffer_with_free_callback(
            strlen(text), hr_copy_text(text), hr_free);
    hr_require(response);
    hr_microhttpd.MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                          "text/plain; charset=utf-8");
    if (status == 503) {
        hr_microhttpd.MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "5");
    }
    return response;
}

static void keep_body(hr_http_request *request, size_t reserve) {
    atomic_fetch_sub(&request->server->body_bytes, request->body_reserved);
    request->body_reserved = reserve;
    atomic_fetch_add(&request->server->body_bytes, reserve);
}

void hr_http_request_unref(hr_http_request *request) {
    if (atomic_fetch_sub(&request->refs, 1) != 1) {
        return;
    }
    if (request->response != NULL) {
        hr_microhttpd.MHD_destroy_response(request->response);
    }
    hr_buffer_fini(&request->body);
    hr_buffer_fini(&request->text);
    hr_free(request->pairs);
    hr_free(request);
}

/* Copies a terminated text into request->text and returns where it stands. */
static uint32_t keep_text(hr_http_request *request, const char *text, size_t size) {
    size_t at = request->text.size;
    HR_ASSERT(at + size < UINT32_MAX); /* the pool of a connection is far smaller */
    if (size > 0) {
        hr_buffer_add(&request->text, text, size);
    }
    hr_buffer_add(&request->text, "", 1);
    return (uint32_t)at;
}

static enum MHD_Result keep_pair(void *data, enum MHD_ValueKind kind, const char *name,
                                 size_t name_size, const char *value, size_t value_size) {
    (void)kind;
    hr_http_request *request = data;
    if (request->pair_count == HR_HTTP_HEADERS) {
        request->verdict = 431;
        request->verdict_text = "too many header lines\n";
        return MHD_NO;
    }
    if (request->pair_count == request->pair_room) {
        request->pair_room = request->pair_room == 0 ? 16 : 2 * request->pair_room;
        request->pairs = hr_realloc(request->pairs, request->pair_room * sizeof *request->pairs);
    }
    hr_http_pair *pair = &request->pairs[request->pair_count++];
    pair->name = keep_text(request, name, name_size);
    pair->name_size = (uint32_t)name_size;
    pair->has_value = value != NULL;
    pair->value_size = value == NULL ? 0 : (uint32_t)value_size;
    pair->value = keep_text(request, value, pair->value_size);
    return MHD_YES;
}

static void refuse(hr_http_request *request, int status, const char *text) {
    if (request->verdict == 0) {
        request->verdict = status;
        request->verdict_text = text;
    }
    hr_buffer_fini(&request->body);
    keep_body(request, 0);
}

static const char *pair_text(const hr_http_request *request, uint32_t at) {
    return (const char *)request->text.bytes + at;
}

/* What the header lines say about the body. */
typedef struct framing {
    uint32_t lengths, encodings;
    bool is_chunked, is_expecting, has_length;
    uint64_t length;
} framing;

static framing read_framing(const hr_http_request *request) {
    framing result = {0};
    for (uint32_t i = 0; i < request->header_count; i++) {
        const char *name = pair_text(request, request->pairs[i].name);
        const char *value = pair_text(request, request->pairs[i].value);
        if (strcasecmp(name, "content-length") == 0) {
            result.lengths++;
            result.length = strtoull(value, NULL, 10);
            result.has_length = value[0] != 0 && strspn(value, "0123456789") == strlen(value);
        } else if (strcasecmp(name, "transfer-encoding") == 0) {
            result.encodings++;
            result.is_chunked = strcasecmp(value, "chunked") == 0;
        } else if (strcasecmp(name, "expect") == 0) {
            result.is_expecting = strcasecmp(value, "100-continue") == 0;
        }
    }
    return result;
}

/* Decides what can be decided from the header lines. true: answer at once, without the body. */
static bool judge_head(hr_http_request *request, const char *url) {
    framing body = read_framing(request);
    if (request->verdict == 0 && request->text.size > HR_HTTP_HEADER_MAX) {
        refuse(request, 431, "the header lines are larger than 16 KiB\n");
    }
    if (request->verdict != 0) {
        return true;
    }
    if (body.lengths > 1 || (body.lengths > 0 && body.encodings > 0) || body.encodings > 1) {
        refuse(request, 400, "Content-Length and Transfer-Encoding contradict each other\n");
        return true;
    }
    if ((body.lengths == 1 && !body.has_length) || (body.encodings == 1 && !body.is_chunked)) {
        refuse(request, 400, "Content-Length or Transfer-Encoding cannot be read\n");
        return true;
    }
    for (uint32_t i = 0; i < request->server->route_count; i++) {
        if (strcmp(request->server->routes[i].path, url) == 0) {
            request->route = &request->server->routes[i];
        }
    }
    if (request->route == NULL) {
        refuse(request, 404, "nothing is served at this path\n");
    } else if (body.length > request->route->body_max && request->route->oversize_head == 0) {
        refuse(request, 413, "the body is too large\n");
    }
    if (request->verdict == 0) {
        return false;
    }
    return body.is_expecting || body.length > HR_HTTP_DISCARD_MAX;
}

static hr_http_request *begin(hr_http_server *server, struct MHD_Connection *connection,
                              const char *url, const char *method) {
    hr_http_request *request = hr_alloc(sizeof *request);
    request->server = server;
    request->connection = connection;
    atomic_init(&request->refs, 1);
    hr_buffer_room(&request->text, 1024); /* enough for most */
    request->method = keep_text(request, method, strlen(method));
    request->path = keep_text(request, url, strlen(url));
    hr_microhttpd.MHD_get_connection_values_n(connection, MHD_HEADER_KIND, keep_pair, request);
    request->header_count = request->pair_count;
    hr_microhttpd.MHD_get_connection_values_n(connection, MHD_GET_ARGUMENT_KIND, keep_pair,
                                              request);
    return request;
}

static enum MHD_Result answer_verdict(hr_http_request *request) {
    struct MHD_Response *response = hr_http_line(request->verdict, request->verdict_text);
    if (request->verdict == 400) { /* where the next request begins is not sure */
        hr_microhttpd.MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    }
    enum MHD_Result result =
        hr_microhttpd.MHD_queue_response(request->connection, (unsigned)request->verdict, response);
    hr_microhttpd.MHD_destroy_response(response);
    return result;
}

/* Takes a piece of the body. false: too much of what nobody wants; cut the connection. */
static bool take_body(hr_http_request *request, const char *bytes, size_t size) {
    request->seen += size;
    uint64_t max = request->route == NULL ? 0 : request->route->body_max;
    if (request->verdict != 0) {
        return request->seen <= max + HR_HTTP_DISCARD_MAX;
    }
    const hr_http_route_entry *route = request->route;
    HR_ASSERT(route != NULL); /* otherwise there is a verdict */
    if (request->seen > max) {
        if (route->oversize_head == 0) {
            refuse(request, 413, "the body is too large\n");
            return true;
        }
        request->is_cut = true;
        if (request->body.size > route->oversize_head) {
            request->body.size = route->oversize_head;
        }
        size_t room = route->oversize_head - request->body.size;
        size = size < room ? size : room;
    }
    if (size > 0) {
        hr_buffer_add(&request->body, bytes, size);
        keep_body(request, request->body.capacity);
        if (atomic_load(&request->server->body_bytes) > HR_HTTP_BODIES_MAX) {
            refuse(request, 503, "too many large requests at once, try again\n");
        }
    }
    return !request->is_cut || request->seen <= HR_HTTP_DISCARD_CUT_MAX;
}

enum MHD_Result hr_http_on_access(void *data, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state) {
    (void)version;
    hr_http_request *request = *state;
    if (request == NULL) {
        request = begin(data, connection, url, method);
        *state = request;
        hr_http_expect(request, HR_HTTP_WAIT_BODY);
        return judge_head(request, url) ? answer_verdict(request) : MHD_YES;
    }
    if (*upload_size > 0) {
        size_t size = *upload_size;
        *upload_size = 0;
        hr_http_came(request, size);
        return take_body(request, upload, size) ? MHD_YES : MHD_NO;
    }
    if (request->verdict != 0) {
        return answer_verdict(request);
    }
    if (request->response != NULL) { /* resumed with its answer */
        return hr_microhttpd.MHD_queue_response(connection, (unsigned)request->status,
                                                request->response);
    }
    HR_ASSERT(!request->is_handed);
    hr_http_expect(request, HR_HTTP_WAIT_NONE);
    hr_http_hand_over(request);
    return MHD_YES;
}

void hr_http_on_completed(void *data, struct MHD_Connection *connection, void **state,
                          enum MHD_RequestTerminationCode how) {
    (void)connection;
    (void)how;
    hr_http_server *server = data;
    hr_http_request *request = *state;
    if (request == NULL) {
        return;
    }
    *state = NULL;
    keep_body(request, 0);
    hr_http_expect(request, HR_HTTP_WAIT_NEXT);
    bool was_handed = request->is_handed;
    hr_http_request_unref(request);
    if (was_handed) {
        pthread_mutex_lock(&server->mutex);
        server->handed--;
        if (server->handed == 0) {
            pthread_cond_signal(&server->answered);
        }
        pthread_mutex_unlock(&server->mutex);
    }
}

const char *hr_http_method(const hr_http_request *request) {
    return pair_text(request, request->method);
}

const char *hr_http_path(const hr_http_request *request) {
    return pair_text(request, request->path);
}

const char *hr_http_query(const hr_http_request *request, const char *name) {
    for (uint32_t i = request->header_count; i < request->pair_count; i++) {
        if (strcmp(pair_text(request, request->pairs[i].name), name) == 0) {
            return pair_text(request, request->pairs[i].value);
        }
    }
    return NULL;
}

hr_slice hr_http_body(const hr_http_request *request) {
    return hr_slice_of(request->body.bytes, request->body.size);
}

hr_slice hr_http_header(const hr_http_request *request, const char *name) {
    for (uint32_t i = 0; i < request->header_count; i++) {
        const hr_http_pair *pair = &request->pairs[i];
        if (strcasecmp(pair_text(request, pair->name), name) == 0) {
            return hr_slice_of(request->text.bytes + pair->value, pair->value_size);
        }
    }
    return hr_slice_of(NULL, 0);
}

void hr_http_each_header(const hr_http_request *request,
                         void (*each)(void *data, hr_slice name, hr_slice value), void *data) {
    for (uint32_t i = 0; i < request->header_count; i++) {
        const hr_http_pair *pair = &request->pairs[i];
        each(data, hr_slice_of(request->text.bytes + pair->name, pair->name_size),
             hr_slice_of(request->text.bytes + pair->value, pair->value_size));
    }
}

bool hr_http_is_cut(const hr_http_request *request) {
    return request->is_cut;
}
