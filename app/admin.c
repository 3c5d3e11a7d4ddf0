/* SPDX-License-Identifier: Apache-2.0 */
#include "app/admin.h"

#include "core/memory.h"
#include "net/digest.h"
#include "net/http_server.h"

struct hr_admin {
    hr_engine *engine;
    hr_http_server *http;
    const char *token; /* NULL: none is asked for */
};

/* A status request of the engine on behalf of one scrape. */
typedef struct scrape {
    hr_request request; /* first */
    hr_http_request *http;
    bool is_ready_only;
} scrape;

static bool is_allowed(const hr_admin *admin, const hr_http_request *http) {
    static const char prefix[] = "Bearer ";
    if (admin->token == NULL) {
        return true;
    }
    hr_slice given = hr_http_header(http, "Authorization");
    size_t size = strlen(admin->token);
    return given.size == sizeof prefix - 1 + size &&
           memcmp(given.bytes, prefix, sizeof prefix - 1) == 0 &&
           hr_digest_equal(given.bytes + sizeof prefix - 1, admin->token, size);
}

static void answer_text(hr_http_request *http, int status, const char *text) {
    static const char *const headers[] = {"Content-Type", "text/plain; charset=utf-8", NULL, NULL};
    hr_http_answer(http, status, headers, hr_slice_text(text));
}

static double number_of(const json_t *row, const char *key) {
    return json_number_value(json_object_get(row, key));
}

/* One family: a line for each row (of one kind, unless that is NULL), labelled by its name. */
static void family(hr_buffer *out, const json_t *rows, const char *kind, const char *label,
                   const char *name, const char *type, const char *key, const char *help) {
    hr_buffer_print(out, "# HELP headrace_%s %s\n# TYPE headrace_%s %s\n", name, help, name, type);
    size_t index = 0;
    json_t *row = NULL;
    json_array_foreach(rows, index, row) {
        const char *of_kind = json_string_value(json_object_get(row, "kind"));
        if (kind != NULL && (of_kind == NULL || strcmp(kind, of_kind) != 0)) {
            continue;
        }
        const char *text = json_string_value(json_object_get(row, key));
        double value = text == NULL ? number_of(row, key) : strcmp(text, "up") == 0 ? 1 : 0;
        hr_buffer_print(out, "headrace_%s{%s=\"%s\"} %.15g\n", name, label,
                        json_string_value(json_object_get(row, "name")), value);
    }
}

static void exposition(const json_t *status, hr_buffer *out) {
    const json_t *triggers = json_object_get(status, "triggers");
    const json_t *functions = json_object_get(status, "functions");
    static const struct {
        const char *kind, *name, *type, *key, *help;
    } of_triggers[] = {
        {NULL, "connector_up", "gauge", "state", "1 when the source is connected"},
        {NULL, "events_received_total", "counter", "received", "events since the state was made"},
        {NULL, "events_duplicate_total", "counter", "duplicates", "events that came again"},
        {NULL, "events_malformed_total", "counter", "malformed", "input that became a dead letter"},
        {NULL, "unsettled_bytes", "gauge", "unsettled_bytes",
         "bytes that some function still needs"},
        {"mqtt", "mqtt_sessions_lost_total", "counter", "sessions_lost",
         "times the broker knew no session of ours though it had kept one: messages were lost"},
        {"mqtt", "mqtt_dropped_total", "counter", "dropped",
         "messages of QoS 0 that could not be kept"}};
    static const struct {
        const char *name, *type, *key, *help;
    } of_functions[] = {
        {"function_up", "gauge", "state", "1 when the function can run"},
        {"deliveries_total", "counter", "deliveries", "deliveries made"},
        {"delivered_total", "counter", "delivered", "deliveries that completed"},
        {"filtered_total", "counter", "filtered", "deliveries that the filter turned away"},
        {"dropped_total", "counter", "dropped", "deliveries that the handler dropped"},
        {"dead_total", "counter", "dead", "deliveries given up"},
        {"expired_total", "counter", "expired", "deliveries that became too old"},
        {"pending", "gauge", "pending", "deliveries not settled"},
        {"attempts_total", "counter", "attempts", "attempts that ended"},
        {"conservation_drift", "gauge", "drift", "deliveries minus all their ends: 0"}};
    hr_buffer_print(out,
                    "# HELP headrace_build_info the version\n# TYPE headrace_build_info gauge\n"
                    "headrace_build_info{version=\"%s\"} 1\n",
                    HEADRACE_VERSION);
    for (size_t i = 0; i < sizeof of_triggers / sizeof *of_triggers; i++) {
        family(out, triggers, of_triggers[i].kind, "trigger", of_triggers[i].name,
               of_triggers[i].type, of_triggers[i].key, of_triggers[i].help);
    }
    for (size_t i = 0; i < sizeof of_functions / sizeof *of_functions; i++) {
        family(out, functions, NULL, "function", of_functions[i].name, of_functions[i].type,
               of_functions[i].key, of_functions[i].help);
    }
}

static void on_status(hr_request *request, json_t *take_answer) {
    scrape *s = (scrape *)request;
    hr_buffer text = {0};
    const char *intake = json_string_value(json_object_get(take_answer, "intake"));
    bool is_open = intake != NULL && strcmp(intake, "open") == 0;
    if (s->is_ready_only) {
        hr_buffer_print(&text, "%s\n", is_open ? "ready" : "intake is stopped");
    } else {
        exposition(take_answer, &text);
    }
    answer_text(s->http, is_open || !s->is_ready_only ? 200 : 503, hr_buffer_text(&text));
    hr_buffer_fini(&text);
    json_decref(take_answer);
    json_decref(request->body);
    hr_free(s);
}

static void on_request(void *data, hr_http_request *http) {
    hr_admin *admin = data;
    const char *path = hr_http_path(http);
    if (!is_allowed(admin, http)) {
        answer_text(http, 401, "a bearer token is needed\n");
        return;
    }
    if (strcmp(hr_http_method(http), "GET") != 0) {
        answer_text(http, 405, "GET only\n");
        return;
    }
    if (strcmp(path, "/livez") == 0) {
        answer_text(http, 200, "alive\n");
        return;
    }
    scrape *s = hr_alloc(sizeof *s);
    s->request.body = json_pack("{s:s}", "verb", "status");
    s->request.answer = on_status;
    s->http = http;
    s->is_ready_only = strcmp(path, "/readyz") == 0;
    hr_engine_request(admin->engine, &s->request);
}

hr_code hr_admin_open(hr_loop *loop, const hr_node *settings, hr_engine *engine,
                      hr_admin **out_admin, hr_error *err) {
    const hr_node *listen = hr_node_get(settings, "admin");
    *out_admin = NULL;
    if (listen == NULL || listen->line == 0) {
        return HR_OK;
    }
    static const char *const paths[] = {"/livez", "/readyz", "/metrics"};
    hr_admin *admin = hr_alloc(sizeof *admin);
    admin->engine = engine;
    admin->token = hr_node_text(settings, "admin_token", NULL);
    hr_http_options options = {.listen = listen->text, .connections = 64};
    admin->http = hr_http_server_new(loop, &options);
    hr_code code = HR_OK;
    for (size_t i = 0; code == HR_OK && i < sizeof paths / sizeof *paths; i++) {
        code = hr_http_route(admin->http, paths[i], 1024, 0, on_request, admin, err);
    }
    code = code == HR_OK ? hr_http_server_start(admin->http, err) : code;
    if (code != HR_OK) {
        hr_wrap(err, "admin");
        hr_http_server_free(admin->http);
        hr_free(admin);
        return code;
    }
    *out_admin = admin;
    return HR_OK;
}

void hr_admin_close(hr_admin *take_admin) {
    if (take_admin != NULL) {
        hr_http_server_stop(take_admin->http);
        hr_http_server_free(take_admin->http);
        hr_free(take_admin);
    }
}
