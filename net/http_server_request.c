/* SPDX-License-Identifier: Apache-2.0 */
/* One request, from its first byte to its last. llhttp knows the grammar (strict: RFC 9112); here
 * is what we keep of it, what we refuse, and how much of anything there may be. */
#include "core/memory.h"
#include "net/http_server_priv.h"

#include <strings.h>

static int on_url(llhttp_t *parser, const char *at, size_t size);
static int on_url_complete(llhttp_t *parser);
static int on_name(llhttp_t *parser, const char *at, size_t size);
static int on_name_complete(llhttp_t *parser);
static int on_value(llhttp_t *parser, const char *at, size_t size);
static int on_value_complete(llhttp_t *parser);
static int on_headers_complete(llhttp_t *parser);
static int on_body(llhttp_t *parser, const char *at, size_t size);
static int on_complete(llhttp_t *parser);

static const llhttp_settings_t callbacks = {.on_url = on_url,
                                            .on_url_complete = on_url_complete,
                                            .on_header_field = on_name,
                                            .on_header_field_complete = on_name_complete,
                                            .on_header_value = on_value,
                                            .on_header_value_complete = on_value_complete,
                                            .on_headers_complete = on_headers_complete,
                                            .on_body = on_body,
                                            .on_message_complete = on_complete};

enum { GO_ON = 0, STOP = -1 };

static void keep_body(hr_http_request *request, size_t reserve) {
    request->server->body_bytes += reserve - request->body_reserved;
    request->body_reserved = reserve;
}

static void drop_body(hr_http_request *request) {
    hr_buffer_fini(&request->body);
    keep_body(request, 0);
}

/* Empty; what is larger than a peer may keep is freed. */
static void empty(hr_buffer *buffer) {
    if (buffer->capacity > HR_HTTP_KEEP) {
        hr_buffer_fini(buffer);
    }
    buffer->size = 0;
}

void hr_http_request_init(hr_http_request *request, hr_http_server *server) {
    request->server = server;
    llhttp_init(&request->parser, HTTP_REQUEST, &callbacks);
    request->parser.data = request;
}

void hr_http_request_reset(hr_http_request *request) {
    hr_http_request old = *request;
    empty(&old.text);
    empty(&old.body);
    empty(&old.answer);
    keep_body(request, 0);
    *request = (hr_http_request){.server = old.server,
                                 .parser = old.parser,
                                 .text = old.text,
                                 .pairs = old.pairs,
                                 .pair_room = old.pair_room,
                                 .body = old.body,
                                 .answer = old.answer};
    llhttp_reset(&request->parser);
}

void hr_http_request_fini(hr_http_request *request) {
    drop_body(request);
    hr_buffer_fini(&request->text);
    hr_buffer_fini(&request->answer);
    hr_free(request->pairs);
}

/* ---- refusals ---- */

static void refuse(hr_http_request *request, int status, const char *said) {
    if (request->verdict == 0) {
        request->verdict = status;
        request->said = said;
    }
    drop_body(request);
}

/* The same, without waiting for what is still to come. */
static int refuse_now(hr_http_request *request, int status, const char *said) {
    refuse(request, status, said);
    request->is_refused = true;
    return STOP;
}

/* ---- the head ---- */

static char *text_at(const hr_http_request *request, uint32_t at) {
    return (char *)request->text.bytes + at;
}

static int add_text(hr_http_request *request, const char *bytes, size_t size) {
    if (request->text.size + size > HR_HTTP_HEADER_MAX) {
        return refuse_now(request, 431, "the header lines are larger than 16 KiB");
    }
    if (size > 0) {
        hr_buffer_add(&request->text, bytes, size);
    }
    return GO_ON;
}

static int on_url(llhttp_t *parser, const char *at, size_t size) {
    return add_text(parser->data, at, size);
}

static int on_url_complete(llhttp_t *parser) {
    return add_text(parser->data, "", 1);
}

static hr_http_pair *add_pair(hr_http_request *request) {
    if (request->pair_count == HR_HTTP_HEADERS) {
        refuse_now(request, 431, "too many header lines");
        return NULL;
    }
    if (request->pair_count == request->pair_room) {
        request->pair_room = request->pair_room == 0 ? 16 : 2 * request->pair_room;
        request->pairs = hr_realloc(request->pairs, request->pair_room * sizeof *request->pairs);
    }
    hr_http_pair *pair = &request->pairs[request->pair_count++];
    *pair = (hr_http_pair){.name = (uint32_t)request->text.size};
    return pair;
}

/* The lines of a trailer, behind a chunked body, are read and forgotten. */
static int on_name(llhttp_t *parser, const char *at, size_t size) {
    hr_http_request *request = parser->data;
    if (request->has_head) {
        return GO_ON;
    }
    if (size > 0 && !request->is_naming) {
        request->is_naming = true;
        if (add_pair(request) == NULL) {
            return STOP;
        }
    }
    return add_text(request, at, size);
}

static int on_name_complete(llhttp_t *parser) {
    hr_http_request *request = parser->data;
    if (request->has_head) {
        return GO_ON;
    }
    if (!request->is_naming) { /* the parser lets a line through that begins with its colon */
        return refuse_now(request, 400, "a header line has no name");
    }
    hr_http_pair *pair = &request->pairs[request->pair_count - 1];
    request->is_naming = false;
    pair->name_size = (uint32_t)request->text.size - pair->name;
    pair->value = (uint32_t)request->text.size + 1;
    return add_text(request, "", 1);
}

static int on_value(llhttp_t *parser, const char *at, size_t size) {
    hr_http_request *request = parser->data;
    return request->has_head ? GO_ON : add_text(request, at, size);
}

static int on_value_complete(llhttp_t *parser) {
    hr_http_request *request = parser->data;
    if (request->has_head) {
        return GO_ON;
    }
    hr_http_pair *pair = &request->pairs[request->pair_count - 1];
    size_t size = request->text.size - pair->value;
    const char *value = text_at(request, pair->value);
    while (size > 0 && (value[size - 1] == ' ' || value[size - 1] == '\t')) {
        size--; /* the parser leaves white space at the end */
    }
    request->text.size = pair->value + size;
    pair->value_size = (uint32_t)size;
    return add_text(request, "", 1);
}

static int hex(char digit) {
    static const char digits[] = "0123456789abcdef";
    const char *at = digit == 0 ? NULL : strchr(digits, digit | (digit >= 'A' ? 0x20 : 0));
    return at == NULL ? -1 : (int)(at - digits);
}

/* Undoes %XX in place, but %00, which no C string can hold; returns the size. */
static uint32_t decode(char *text, bool is_form) {
    char *to = text;
    for (const char *from = text; *from != 0; from++) {
        int high = from[0] == '%' ? hex(from[1]) : -1, low = high < 0 ? -1 : hex(from[2]);
        if (low >= 0 && (high != 0 || low != 0)) {
            *to++ = (char)(high * 16 + low);
            from += 2;
        } else {
            *to++ = *from;
            if (is_form && *from == '+') {
                to[-1] = ' ';
            }
        }
    }
    *to = 0;
    return (uint32_t)(to - text);
}

/* The target to path and arguments, in place; "http://host/path" is as good as "/path". */
static int read_target(hr_http_request *request, const char **out_path) {
    char *target = text_at(request, 0);
    if (strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0) {
        char *path = strchr(strchr(target, ':') + 3, '/');
        memmove(target, path == NULL ? "/" : path, path == NULL ? 2 : strlen(path) + 1);
    }
    char *query = strchr(target, '?');
    if (query != NULL) {
        *query++ = 0;
    }
    decode(target, false);
    *out_path = target;
    for (char *next; query != NULL; query = next) {
        next = strchr(query, '&');
        if (next != NULL) {
            *next++ = 0;
        }
        char *value = strchr(query, '=');
        if (value != NULL) {
            *value++ = 0;
        }
        hr_http_pair *pair = *query == 0 ? NULL : add_pair(request);
        if (request->is_refused) {
            return STOP;
        }
        if (pair != NULL) {
            pair->name = (uint32_t)(query - target);
            pair->name_size = decode(query, true);
            pair->value_size = value == NULL ? 0 : decode(value, true);
            pair->value = value == NULL ? pair->name + pair->name_size : (uint32_t)(value - target);
        }
    }
    return GO_ON;
}

/* What the header lines say about the request itself. */
static int judge_lines(hr_http_request *request) {
    uint32_t hosts = 0, encodings = 0;
    bool is_chunked = false;
    for (uint32_t i = 0; i < request->header_count; i++) {
        const char *name = text_at(request, request->pairs[i].name);
        const char *value = text_at(request, request->pairs[i].value);
        if (strcasecmp(name, "host") == 0) {
            hosts++;
        } else if (strcasecmp(name, "transfer-encoding") == 0) {
            encodings++;
            is_chunked = strcasecmp(value, "chunked") == 0;
        } else if (strcasecmp(name, "expect") == 0) {
            request->wants_continue = strcasecmp(value, "100-continue") == 0;
        }
    }
    const llhttp_t *parser = &request->parser;
    if (parser->http_major != 1) {
        return refuse_now(request, 505, "only HTTP 1.0 and 1.1 are spoken here");
    }
    if (parser->http_minor == 0) {
        request->wants_continue = false; /* it was not there yet */
    } else if (hosts != 1) {
        return refuse_now(request, 400, "there must be one line 'Host'");
    }
    if (encodings > 0 && (encodings > 1 || !is_chunked || parser->http_minor == 0)) {
        return refuse_now(request, 400, "of Transfer-Encoding only 'chunked' is read");
    }
    return GO_ON;
}

static int on_headers_complete(llhttp_t *parser) {
    hr_http_request *request = parser->data;
    const char *path = NULL;
    parser->upgrade = 0; /* no other protocol is spoken here: it is a request like all others */
    request->header_count = request->pair_count;
    request->has_head = true;
    if (judge_lines(request) != GO_ON || read_target(request, &path) != GO_ON) {
        return STOP;
    }
    const hr_http_server *server = request->server;
    for (uint32_t i = 0; i < server->route_count && request->route == NULL; i++) {
        if (strcmp(server->routes[i].path, path) == 0) {
            request->route = &server->routes[i];
        }
    }
    if (request->route == NULL) {
        refuse(request, 404, "nothing is served at this path");
    } else if (parser->content_length > request->route->body_max &&
               request->route->oversize_head == 0) {
        refuse(request, 413, "the body is too large");
    }
    if (request->verdict != 0 &&
        (request->wants_continue || parser->content_length > HR_HTTP_DISCARD_MAX)) {
        request->is_refused = true; /* it need not be sent */
        return STOP;
    }
    return GO_ON;
}

/* ---- the body ---- */

static int on_body(llhttp_t *parser, const char *at, size_t size) {
    hr_http_request *request = parser->data;
    const hr_http_route_entry *route = request->route;
    uint64_t max = route == NULL ? 0 : route->body_max;
    request->seen += size;
    if (request->verdict != 0) {
        request->is_too_much = request->seen > max + HR_HTTP_DISCARD_MAX;
        return request->is_too_much ? STOP : GO_ON;
    }
    HR_ASSERT(route != NULL); /* otherwise there is a verdict */
    if (request->seen > max) {
        if (route->oversize_head == 0) {
            refuse(request, 413, "the body is too large");
            return GO_ON;
        }
        request->is_cut = true;
        if (request->body.size > route->oversize_head) {
            request->body.size = route->oversize_head;
        }
        size_t room = route->oversize_head - request->body.size;
        size = size < room ? size : room;
    }
    if (size > 0) {
        hr_buffer_add(&request->body, at, size);
        keep_body(request, request->body.capacity);
        if (request->server->body_bytes > HR_HTTP_BODIES_MAX) {
            refuse(request, 503, "too many large requests at once, try again");
        }
    }
    request->is_too_much = request->is_cut && request->seen > HR_HTTP_DISCARD_CUT_MAX;
    return request->is_too_much ? STOP : GO_ON;
}

static int on_complete(llhttp_t *parser) {
    hr_http_request *request = parser->data;
    request->is_kept = llhttp_should_keep_alive(parser) == 1;
    return HPE_PAUSED; /* what comes behind it waits */
}

hr_http_progress hr_http_parse(hr_http_request *request, const uint8_t *bytes, size_t size,
                               size_t *out_used) {
    request->is_begun = true;
    llhttp_errno_t found = llhttp_execute(&request->parser, (const char *)bytes, size);
    *out_used = size;
    if (request->is_too_much) {
        return HR_HTTP_CUT;
    }
    if (found == HPE_PAUSED) {
        *out_used = (size_t)(llhttp_get_error_pos(&request->parser) - (const char *)bytes);
        return HR_HTTP_WHOLE;
    }
    if (found != HPE_OK && !request->is_refused) {
        request->why = llhttp_get_error_reason(&request->parser);
        request->verdict = 0; /* where the body ends was not known after all */
        refuse_now(request, 400, "the request cannot be read");
    }
    return request->is_refused ? HR_HTTP_REFUSED : HR_HTTP_MORE;
}

/* ---- what handlers see ---- */

const char *hr_http_method(const hr_http_request *request) {
    return llhttp_method_name((llhttp_method_t)request->parser.method);
}

const char *hr_http_path(const hr_http_request *request) {
    return text_at(request, 0);
}

const char *hr_http_query(const hr_http_request *request, const char *name) {
    for (uint32_t i = request->header_count; i < request->pair_count; i++) {
        if (strcmp(text_at(request, request->pairs[i].name), name) == 0) {
            return text_at(request, request->pairs[i].value);
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
        if (strcasecmp(text_at(request, pair->name), name) == 0) {
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
