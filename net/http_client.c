/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http_client.h"

#include "core/buffer.h"
#include "core/memory.h"
#include "net/http_client_library.h"

#include <stdlib.h>
#include <strings.h>

typedef struct socket_watch {
    hr_http_client *client;
    curl_socket_t fd;
    hr_watch *watch;
} socket_watch;

struct hr_http_call {
    hr_http_client *client;
    CURL *easy;
    struct curl_slist *headers;
    char *body;
    hr_buffer answer;
    size_t answer_max;
    int64_t retry_after_ms;
    bool has_head; /* all header lines of the answer came */
    char error[CURL_ERROR_SIZE];
    void (*answered)(void *data, const hr_http_answered *answer);
    void *data;
    hr_http_call *next, **link;
};

struct hr_http_client {
    hr_loop *loop;
    CURLM *multi;
    hr_timer *timer;
    hr_http_call *calls;
};

static void free_call(hr_http_call *call) {
    hr_curl.curl_multi_remove_handle(call->client->multi, call->easy);
    hr_curl.curl_easy_cleanup(call->easy);
    hr_curl.curl_slist_free_all(call->headers);
    *call->link = call->next;
    if (call->next != NULL) {
        call->next->link = call->link;
    }
    hr_buffer_fini(&call->answer);
    hr_free(call->body);
    hr_free(call);
}

static void finish(hr_http_call *call, CURLcode result) {
    long status = 0;
    char *content_type = NULL;
    hr_curl.curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    hr_curl.curl_easy_getinfo(call->easy, CURLINFO_CONTENT_TYPE, &content_type);
    hr_http_answered answer = {.retry_after_ms = call->retry_after_ms,
                               .content_type = content_type,
                               .body = hr_slice_of(call->answer.bytes, call->answer.size)};
    if (result == CURLE_OK && call->has_head) {
        answer.status = (int)status;
    } else if (result == CURLE_OK) { /* an end within the head is an end to curl */
        answer.error = "the answer was cut off within its header lines";
    } else {
        answer.error = call->error[0] != '\0' ? call->error : hr_curl.curl_easy_strerror(result);
        answer.is_timeout = result == CURLE_OPERATION_TIMEDOUT;
    }
    call->answered(call->data, &answer);
    free_call(call);
}

static void check(hr_http_client *client) {
    int left = 0;
    CURLMsg *message = NULL;
    while ((message = hr_curl.curl_multi_info_read(client->multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            CURLcode result = message->data.result;
            hr_http_call *call = NULL;
            hr_curl.curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
            finish(call, result);
        }
    }
}

static void on_socket(void *data, int events) {
    socket_watch *watch = data;
    hr_http_client *client = watch->client;
    int mask = (events & HR_WATCH_READ ? CURL_CSELECT_IN : 0) |
               (events & HR_WATCH_WRITE ? CURL_CSELECT_OUT : 0);
    int running = 0;
    hr_curl.curl_multi_socket_action(client->multi, watch->fd, mask, &running);
    check(client);
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *socket_data) {
    (void)easy;
    hr_http_client *client = data;
    socket_watch *watch = socket_data;
    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL) {
            hr_watch_free(watch->watch);
            hr_free(watch);
            hr_curl.curl_multi_assign(client->multi, fd, NULL);
        }
        return 0;
    }
    if (watch == NULL) {
        watch = hr_alloc(sizeof *watch);
        watch->client = client;
        watch->fd = fd;
        watch->watch = hr_watch_new(client->loop, fd, on_socket, watch);
        hr_curl.curl_multi_assign(client->multi, fd, watch);
    }
    hr_watch_set(watch->watch, (what & CURL_POLL_IN ? HR_WATCH_READ : 0) |
                                   (what & CURL_POLL_OUT ? HR_WATCH_WRITE : 0));
    return 0;
}

static void on_timer(void *data) {
    hr_http_client *client = data;
    int running = 0;
    hr_curl.curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    check(client);
}

static int want_timer(CURLM *multi, long after_ms, void *data) {
    (void)multi;
    hr_http_client *client = data;
    if (after_ms < 0) {
        hr_timer_stop(client->timer);
    } else {
        hr_timer_start(client->timer, (uint64_t)after_ms, 0);
    }
    return 0;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *data) {
    hr_http_call *call = data;
    size_t got = size * count;
    size_t room = call->answer_max - call->answer.size;
    hr_buffer_add(&call->answer, bytes, got < room ? got : room);
    return got;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *data) {
    hr_http_call *call = data;
    size_t got = size * count;
    bool is_empty = got <= 2 && (bytes[0] == '\r' || bytes[0] == '\n');
    bool is_first = got > 5 && memcmp(bytes, "HTTP/", 5) == 0; /* again after one of 100 */
    call->has_head = is_empty || (call->has_head && !is_first);
    static const char name[] = "retry-after:";
    if (got > sizeof name && got < 100 && strncasecmp(bytes, name, sizeof name - 1) == 0) {
        char text[100];
        size_t used = got - (sizeof name - 1);
        memcpy(text, bytes + sizeof name - 1, used);
        text[used] = '\0';
        char *end = NULL;
        long long seconds = strtoll(text, &end, 10);
        if (end != text && seconds >= 0 && seconds < 86400LL * 365) {
            call->retry_after_ms = seconds * 1000;
        } else {
            time_t at = hr_curl.curl_getdate(text, NULL);
            int64_t wait = at < 0 ? -1 : (int64_t)at * 1000 - hr_real_us() / 1000;
            call->retry_after_ms = at < 0 ? -1 : wait < 0 ? 0 : wait;
        }
    }
    return got;
}

hr_code hr_http_client_new(hr_loop *loop, hr_http_client **out_client, hr_error *err) {
    if (hr_http_client_load(err) != HR_OK) {
        return HR_E_UNSUPPORTED;
    }
    hr_http_client *client = hr_alloc(sizeof *client);
    client->loop = loop;
    client->multi = hr_curl.curl_multi_init();
    hr_require(client->multi);
    client->timer = hr_timer_new(loop, on_timer, client);
    hr_curl.curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    hr_curl.curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
    hr_curl.curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, want_timer);
    hr_curl.curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
    *out_client = client;
    return HR_OK;
}

void hr_http_client_free(hr_http_client *take_client) {
    if (take_client != NULL) {
        while (take_client->calls != NULL) {
            free_call(take_client->calls);
        }
        hr_curl.curl_multi_cleanup(take_client->multi);
        hr_timer_free(take_client->timer);
        hr_free(take_client);
    }
}

static void set_tls(hr_http_call *call, const hr_http_send *send) {
    if (send->ca != NULL) {
        hr_curl.curl_easy_setopt(call->easy, CURLOPT_CAINFO, send->ca);
    }
    if (send->cert != NULL) {
        hr_curl.curl_easy_setopt(call->easy, CURLOPT_SSLCERT, send->cert);
    }
    if (send->key != NULL) {
        hr_curl.curl_easy_setopt(call->easy, CURLOPT_SSLKEY, send->key);
    }
    if (send->insecure) {
        hr_curl.curl_easy_setopt(call->easy, CURLOPT_SSL_VERIFYPEER, 0L);
        hr_curl.curl_easy_setopt(call->easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

hr_http_call *hr_http_client_post(hr_http_client *client, const hr_http_send *send,
                                  void (*answered)(void *data, const hr_http_answered *answer),
                                  void *data) {
    hr_http_call *call = hr_alloc(sizeof *call);
    call->client = client;
    call->answer_max = send->answer_max;
    call->retry_after_ms = -1;
    call->answered = answered;
    call->data = data;
    call->body = hr_copy_bytes(send->body.bytes, send->body.size);
    call->next = client->calls;
    call->link = &client->calls;
    if (call->next != NULL) {
        call->next->link = &call->next;
    }
    client->calls = call;
    call->easy = hr_curl.curl_easy_init();
    hr_require(call->easy);
    call->headers = hr_curl.curl_slist_append(NULL, "Expect:"); /* no round trip for large bodies */
    for (const char *const *header = send->headers; header != NULL && *header != NULL; header++) {
        call->headers = hr_curl.curl_slist_append(call->headers, *header);
    }
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_URL, send->url);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_PRIVATE, call);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_POST, 1L);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, call->body);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)send->body.size);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_TIMEOUT_MS, (long)send->timeout_ms);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_NOSIGNAL, 1L);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_ERRORBUFFER, call->error);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_WRITEFUNCTION, on_body);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_WRITEDATA, call);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_HEADERFUNCTION, on_header);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_HEADERDATA, call);
    hr_curl.curl_easy_setopt(call->easy, CURLOPT_USERAGENT, "headrace/" HEADRACE_VERSION);
    set_tls(call, send);
    hr_curl.curl_multi_add_handle(client->multi, call->easy);
    return call;
}

void hr_http_call_cancel(hr_http_call *call) {
    free_call(call);
}
