/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/webhook.h"

#include "core/memory.h"

#include <strings.h>

static const hr_webhook_dialect *const dialects[] = {&hr_dialect_cloudevents, &hr_dialect_json,
                                                     &hr_dialect_github};

hr_code hr_webhook_place(const hr_trigger *trigger, char **out_path, size_t *out_max_body,
                         hr_error *err) {
    const char *path = hr_node_text(trigger->kind_config, "path", NULL);
    int64_t max_body = hr_node_number(trigger->kind_config, "max_body", HR_WEBHOOK_BODY);
    if (path != NULL && path[0] != '/') {
        return hr_fail(err, HR_E_CONFIG, 0, "path '%s' does not begin with /", path);
    }
    if (max_body < 1 || max_body > HR_WEBHOOK_BODY_MAX) {
        return hr_fail(err, HR_E_CONFIG, 0, "max_body is from 1B to 8MiB");
    }
    *out_path = path == NULL ? hr_format("/hooks/%s", trigger->name) : hr_copy_text(path);
    *out_max_body = (size_t)max_body;
    return HR_OK;
}

static hr_code webhook_init(hr_trigger *trigger, hr_error *err) {
    hr_webhook *self = (hr_webhook *)(void *)trigger;
    hr_intake_init(&self->intake, trigger);
    const char *name = hr_node_text(trigger->kind_config, "dialect", "cloudevents");
    for (size_t i = 0; i < sizeof dialects / sizeof dialects[0]; i++) {
        if (strcmp(dialects[i]->name, name) == 0) {
            self->dialect = dialects[i];
        }
    }
    if (self->dialect == NULL) {
        return hr_fail(err, HR_E_UNSUPPORTED, 0, "dialect '%s' is not in this version", name);
    }
    hr_code code = hr_webhook_place(trigger, &self->path, &self->max_body, err);
    if (code == HR_OK) {
        code = hr_keys_init(&self->keys, trigger->kind_config, err);
    }
    if (code == HR_OK && self->dialect->init != NULL) {
        code = self->dialect->init(self, err);
    }
    return code;
}

static hr_slice request_header(const void *data, const char *name) {
    return hr_http_header(data, name);
}

static void request_each(const void *data, void (*each)(void *data, hr_slice name, hr_slice value),
                         void *each_data) {
    hr_http_each_header(data, each, each_data);
}

/* NULL: the sender is who it says. */
static const char *check_sender(const hr_webhook *self, const hr_http_request *request) {
    hr_proof proof = {
        .signature = hr_http_header(request, "X-Headrace-Signature-256"),
        .authorization = hr_http_header(request, "Authorization"),
        .body = hr_http_body(request),
    };
    if (self->dialect->signature_header != NULL) {
        hr_slice theirs = hr_http_header(request, self->dialect->signature_header);
        proof.signature = theirs.size > 0 ? theirs : proof.signature;
    }
    return hr_keys_check(&self->keys, &proof);
}

static void on_request(void *data, hr_http_request *request) {
    hr_webhook *self = data;
    if (!hr_intake_admit(&self->intake, request)) {
        return;
    }
    const char *why = check_sender(self, request); /* over the raw bytes, before any parsing */
    if (why != NULL) {
        hr_intake_unauthorized(&self->intake, request, why);
        return;
    }
    hr_webhook_input input = {
        .body = hr_http_body(request),
        .path = hr_http_path(request),
        .header = request_header,
        .each_header = request_each,
        .data = request,
    };
    hr_intake_unit *unit = hr_intake_begin(&self->intake, request);
    hr_error err = {0};
    hr_code code = self->dialect->read(self, &input, hr_intake_sink(unit), &err);
    if (code == HR_OK) {
        hr_intake_commit(unit);
    } else {
        hr_intake_abort(unit, code == HR_E_TOO_LARGE ? 413 : 400, err.text);
    }
}

static hr_code webhook_start(hr_trigger *trigger, hr_error *err) {
    hr_webhook *self = (hr_webhook *)(void *)trigger;
    HR_ASSERT(trigger->http != NULL);
    hr_code code =
        hr_http_route(trigger->http, self->path, self->max_body, 0, on_request, self, err);
    if (code == HR_OK) {
        trigger->host->state(trigger, HR_TRIGGER_UP, NULL);
        if (self->keys.is_insecure) {
            trigger->host->gauge(trigger, "insecure", 1);
        }
    }
    return code;
}

static void webhook_durable(hr_trigger *trigger, uint64_t up_to_ticket) {
    hr_intake_durable(&((hr_webhook *)(void *)trigger)->intake, up_to_ticket);
}

static void webhook_refused(hr_trigger *trigger, uint64_t first, uint64_t last, hr_code why) {
    hr_intake_refused(&((hr_webhook *)(void *)trigger)->intake, first, last, why);
}

static void webhook_want(hr_trigger *trigger, uint32_t feed, uint32_t events) {
    (void)feed;
    hr_intake_want(&((hr_webhook *)(void *)trigger)->intake, events);
}

/* emit: header lines are options of their name, or stand in the map `headers`. */
static void option_maps(const void *options, const hr_node *maps[2]) {
    maps[0] = hr_node_get(options, "headers");
    maps[1] = options;
}

static hr_slice option_header(const void *data, const char *name) {
    const hr_node *maps[2];
    option_maps(data, maps);
    for (size_t i = 0; i < 2; i++) {
        for (const hr_node *at = maps[i] == NULL ? NULL : maps[i]->child; at != NULL;
             at = at->next) {
            if (at->key != NULL && at->text != NULL && strcasecmp(at->key, name) == 0) {
                return hr_slice_text(at->text);
            }
        }
    }
    return hr_slice_of(NULL, 0);
}

static void option_each(const void *data, void (*each)(void *data, hr_slice name, hr_slice value),
                        void *each_data) {
    const hr_node *maps[2];
    option_maps(data, maps);
    for (size_t i = 0; i < 2; i++) {
        for (const hr_node *at = maps[i] == NULL ? NULL : maps[i]->child; at != NULL;
             at = at->next) {
            if (at->key != NULL && at->text != NULL) {
                each(each_data, hr_slice_text(at->key), hr_slice_text(at->text));
            }
        }
    }
}

static hr_code webhook_emit(hr_trigger *trigger, hr_slice raw, const hr_node *options,
                            hr_builder *out, hr_error *err) {
    hr_webhook *self = (hr_webhook *)(void *)trigger;
    hr_webhook_input input = {
        .body = raw,
        .path = self->path,
        .header = option_header,
        .each_header = option_each,
        .data = options,
        .is_emit = true,
    };
    hr_sink sink = {.builder = out};
    return self->dialect->read(self, &input, &sink, err);
}

static void webhook_stop(hr_trigger *trigger) {
    hr_intake_stop(&((hr_webhook *)(void *)trigger)->intake);
}

static void webhook_fini(hr_trigger *trigger) {
    hr_webhook *self = (hr_webhook *)(void *)trigger;
    hr_intake_fini(&self->intake);
    if (self->dialect != NULL && self->dialect->fini != NULL) {
        self->dialect->fini(self);
    }
    hr_keys_fini(&self->keys);
    hr_free(self->path);
    self->path = NULL;
}

const hr_trigger_ops hr_webhook_ops = {
    .kind = "webhook",
    .object_size = sizeof(hr_webhook),
    .load = hr_intake_load,
    .init = webhook_init,
    .start = webhook_start,
    .durable = webhook_durable,
    .refused = webhook_refused,
    .want = webhook_want,
    .emit = webhook_emit,
    .stop = webhook_stop,
    .fini = webhook_fini,
};
