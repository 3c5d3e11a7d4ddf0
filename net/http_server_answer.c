/* SPDX-License-Identifier: Apache-2.0 */
/* An answer as it goes over the wire (RFC 9112 section 4). */
#include "net/http_server_priv.h"

#include <time.h>

static const char *phrase(int status) {
    static const struct {
        int status;
        const char *phrase;
    } phrases[] = {
        {200, "OK"},
        {202, "Accepted"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++) {
        if (phrases[i].status == status) {
            return phrases[i].phrase;
        }
    }
    return ""; /* it may be empty */
}

/* "Date: Sun, 06 Nov 1994 08:49:37 GMT", made once a second. */
static void add_date(hr_buffer *out) {
    static _Thread_local time_t made;
    static _Thread_local char line[48];
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != made) { /* strftime would speak the user's language */
        struct tm utc;
        gmtime_r(&now.tv_sec, &utc);
        hr_buffer text = {0};
        hr_buffer_print(&text, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[utc.tm_wday],
                        utc.tm_mday, months[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour,
                        utc.tm_min, utc.tm_sec);
        HR_ASSERT(text.size < sizeof line);
        memcpy(line, hr_buffer_text(&text), text.size + 1);
        hr_buffer_fini(&text);
        made = now.tv_sec;
    }
    hr_buffer_add_text(out, line);
}

void hr_http_compose(hr_http_request *request, int status, const char *const *headers,
                     hr_slice body) {
    hr_buffer *out = &request->answer;
    hr_buffer_add_text(out, "HTTP/1.1 ");
    hr_buffer_add_number(out, (uint64_t)status);
    hr_buffer_add_text(out, " ");
    hr_buffer_add_text(out, phrase(status));
    hr_buffer_add_text(out, "\r\n");
    add_date(out);
    bool has_body = status != 204 && status != 304;
    if (has_body) {
        hr_buffer_add_text(out, "Content-Length: ");
        hr_buffer_add_number(out, body.size);
        hr_buffer_add_text(out, "\r\n");
    }
    if (!request->is_kept) {
        hr_buffer_add_text(out, "Connection: close\r\n");
    } else if (request->parser.http_minor == 0) {
        hr_buffer_add_text(out, "Connection: keep-alive\r\n");
    }
    for (size_t i = 0; headers != NULL && headers[i] != NULL; i += 2) {
        HR_ASSERT(headers[i + 1] != NULL);
        if (strpbrk(headers[i + 1], "\r\n") != NULL) {
            continue; /* no stranger's words begin a line of ours */
        }
        hr_buffer_add_text(out, headers[i]);
        hr_buffer_add_text(out, ": ");
        hr_buffer_add_text(out, headers[i + 1]);
        hr_buffer_add_text(out, "\r\n");
    }
    hr_buffer_add_text(out, "\r\n");
    if (has_body && body.size > 0 && request->parser.method != HTTP_HEAD) {
        hr_buffer_add_slice(out, body);
    }
}

/* One line of text. */
static void compose_line(hr_http_request *request, int status, const char *said, const char *why) {
    static const char *const headers[] = {"Content-Type", "text/plain; charset=utf-8", NULL};
    static const char *const later[] = {"Content-Type", "text/plain; charset=utf-8", "Retry-After",
                                        "5", NULL};
    hr_buffer line = {0};
    hr_buffer_print(&line, "%s%s%s\n", said, why == NULL ? "" : ": ", why == NULL ? "" : why);
    hr_http_compose(request, status, status == 503 ? later : headers,
                    hr_slice_of(line.bytes, line.size));
    hr_buffer_fini(&line);
}

void hr_http_compose_verdict(hr_http_request *request) {
    compose_line(request, request->verdict, request->said, request->why);
}

void hr_http_compose_stopping(hr_http_request *request) {
    request->is_kept = false;
    compose_line(request, 503, "the server is stopping", NULL);
}
