/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of the HTTP server, as they come over a connection: one behind the other. However the
 * bytes are cut into pieces, the same requests reach a handler, of a path that is served, within
 * their limits. First byte: the size of the pieces. */
#include "core/memory.h"
#include "net/http_server_priv.h"
#include "tests/fuzz/fuzz.h"

enum { SMALL = 100, HEAD = 10, LARGE = 1 << 20 };

static hr_http_server *server;

static void handle(void *data, hr_http_request *request) {
    (void)data;
    (void)request;
}

static void begin(void) {
    if (server == NULL) {
        hr_http_options options = {.listen = "127.0.0.1:0"};
        hr_error err = {0};
        server = hr_http_server_new(NULL, &options); /* never started */
        HR_ASSERT(hr_http_route(server, "/a", SMALL, 0, handle, NULL, &err) == HR_OK &&
                  hr_http_route(server, "/b c", LARGE, 0, handle, NULL, &err) == HR_OK &&
                  hr_http_route(server, "/head", SMALL, HEAD, handle, NULL, &err) == HR_OK);
    }
}

static void note_header(void *data, hr_slice name, hr_slice value) {
    hr_buffer *out = data;
    FUZZ_CHECK(memchr(value.bytes, '\n', value.size) == NULL);
    FUZZ_CHECK(name.size > 0 && memchr(name.bytes, '\n', name.size) == NULL);
    hr_buffer_print(out, "%.*s: %.*s\n", (int)name.size, (const char *)name.bytes, (int)value.size,
                    (const char *)value.bytes);
}

/* What a handler would see of it. */
static void note(hr_buffer *out, const hr_http_request *request) {
    const hr_http_route_entry *route = request->route;
    hr_slice body = hr_http_body(request);
    FUZZ_CHECK(route != NULL && strcmp(hr_http_path(request), route->path) == 0);
    FUZZ_CHECK(body.size <= route->body_max);
    FUZZ_CHECK(!hr_http_is_cut(request) || body.size == HEAD);
    const char *a = hr_http_query(request, "a");
    hr_buffer_print(out, "%s %s a=%s body %zu %d\n", hr_http_method(request), hr_http_path(request),
                    a == NULL ? "" : a, body.size, request->is_kept);
    hr_buffer_add_slice(out, body);
    hr_http_each_header(request, note_header, out);
    hr_slice host = hr_http_header(request, "hOST");
    FUZZ_CHECK(request->parser.http_minor == 0 || host.bytes != NULL);
}

static void check_answer(const hr_http_request *request) {
    hr_slice answer = hr_slice_of(request->answer.bytes, request->answer.size);
    FUZZ_CHECK(answer.size > 12 && memcmp(answer.bytes, "HTTP/1.1 ", 9) == 0);
    FUZZ_CHECK(memmem(answer.bytes, answer.size, "\r\n\r\n", 4) != NULL);
}

/* A connection; what it brought a handler, into out. */
static void read_all(hr_slice bytes, size_t piece, hr_buffer *out) {
    hr_http_request request = {0};
    hr_http_request_init(&request, server);
    bool is_open = true;
    while (is_open && bytes.size > 0) {
        size_t size = bytes.size < piece ? bytes.size : piece, used = 0;
        hr_http_progress progress = hr_http_parse(&request, bytes.bytes, size, &used);
        FUZZ_CHECK(used <= size && (progress == HR_HTTP_WHOLE || used == size));
        bytes = hr_slice_of(bytes.bytes + used, bytes.size - used);
        if (progress == HR_HTTP_MORE) {
            continue;
        }
        if (progress == HR_HTTP_WHOLE && request.verdict == 0) {
            const char *const headers[] = {"X-Path", hr_http_path(&request), NULL};
            note(out, &request);
            hr_http_compose(&request, 200, headers, hr_http_body(&request));
        } else {
            FUZZ_CHECK(progress == HR_HTTP_CUT || request.verdict >= 400);
            FUZZ_CHECK(request.body.size == 0);
            hr_http_compose_verdict(&request);
        }
        check_answer(&request);
        is_open = progress == HR_HTTP_WHOLE && request.is_kept;
        hr_http_request_reset(&request);
    }
    hr_http_request_fini(&request);
    FUZZ_CHECK(server->body_bytes == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size == 0) {
        return 0;
    }
    begin();
    hr_slice rest = hr_slice_of(bytes + 1, size - 1);
    hr_buffer whole = {0}, pieces = {0};
    read_all(rest, rest.size, &whole);
    read_all(rest, bytes[0] == 0 ? 1 : bytes[0], &pieces);
    FUZZ_CHECK(whole.size == pieces.size &&
               (whole.size == 0 || memcmp(whole.bytes, pieces.bytes, whole.size) == 0));
    hr_buffer_fini(&whole);
    hr_buffer_fini(&pieces);
    return 0;
}
