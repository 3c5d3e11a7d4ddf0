/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/storage.h"

#include "core/memory.h"
#include "triggers/http_intake.h"
#include "triggers/object_s3.h"
#include "triggers/webhook.h"
#include "triggers/webhook_sign.h"

#include <stdlib.h>

typedef struct storage {
    hr_trigger trigger;
    hr_intake intake;
    hr_keys keys;
    char *path;
    size_t max_body;
    uint32_t events; /* HR_OBJECT_* */
} storage;

static storage *of(hr_trigger *trigger) {
    return (storage *)(void *)trigger;
}

static hr_code storage_init(hr_trigger *trigger, hr_error *err) {
    storage *self = of(trigger);
    const hr_node *config = trigger->kind_config;
    hr_intake_init(&self->intake, trigger);
    const char *kind = hr_node_text(config, "kind", "s3");
    if (strcmp(kind, "s3") != 0 && strcmp(kind, "minio") != 0) {
        return hr_fail(err, HR_E_UNSUPPORTED, 0, "kind '%s' is not in this version", kind);
    }
    const hr_node *cursor = NULL;
    for (const char *name; (name = hr_node_each_text(config, "events", &cursor)) != NULL;) {
        if (strcmp(name, "created") == 0) {
            self->events |= HR_OBJECT_CREATED;
        } else if (strcmp(name, "removed") == 0) {
            self->events |= HR_OBJECT_REMOVED;
        } else {
            return hr_fail(err, HR_E_CONFIG, 0, "events: '%s' is not created or removed", name);
        }
    }
    if (self->events == 0) {
        self->events = HR_OBJECT_CREATED | HR_OBJECT_REMOVED;
    }
    hr_code code = hr_webhook_place(trigger, &self->path, &self->max_body, err);
    return code == HR_OK ? hr_keys_init(&self->keys, config, err) : code;
}

static void on_rejected(void *data, hr_slice raw, const char *why) {
    hr_intake_reject(data, raw, why);
}

static void on_request(void *data, hr_http_request *request) {
    storage *self = data;
    if (!hr_intake_admit(&self->intake, request)) {
        return;
    }
    hr_slice body = hr_http_body(request);
    hr_proof proof = {
        .signature = hr_http_header(request, "X-Headrace-Signature-256"),
        .authorization = hr_http_header(request, "Authorization"),
        .body = body,
        .allows_bare_token = true,
        .is_cut = hr_http_is_cut(request),
    };
    const char *why = hr_keys_check(&self->keys, &proof);
    if (why != NULL) {
        hr_intake_unauthorized(&self->intake, request, why);
        return;
    }
    hr_intake_unit *unit = hr_intake_begin(&self->intake, request);
    hr_object_reader reader = {.events = self->events,
                               .sink = hr_intake_sink(unit),
                               .rejected = on_rejected,
                               .data = unit};
    hr_error err = {0};
    if (proof.is_cut) {
        hr_intake_reject(unit, body, "the notification is larger than max_body");
    } else if (hr_object_s3_read(&reader, body, &err) != HR_OK) {
        hr_intake_reject(unit, body, err.text);
    }
    if (reader.ignored > 0) {
        self->intake.ignored += reader.ignored;
        self->trigger.host->gauge(&self->trigger, "ignored", self->intake.ignored);
    }
    hr_intake_commit(unit);
}

static hr_code storage_start(hr_trigger *trigger, hr_error *err) {
    storage *self = of(trigger);
    HR_ASSERT(trigger->http != NULL);
    hr_code code = hr_http_route(trigger->http, self->path, self->max_body, HR_INTAKE_HEAD,
                                 on_request, self, err);
    if (code == HR_OK) {
        trigger->host->state(trigger, HR_TRIGGER_UP, NULL);
        if (self->keys.is_insecure) {
            trigger->host->gauge(trigger, "insecure", 1);
        }
    }
    return code;
}

static void storage_durable(hr_trigger *trigger, uint64_t up_to_ticket) {
    hr_intake_durable(&of(trigger)->intake, up_to_ticket);
}

static void storage_refused(hr_trigger *trigger, uint64_t first, uint64_t last, hr_code why) {
    hr_intake_refused(&of(trigger)->intake, first, last, why);
}

static void storage_want(hr_trigger *trigger, uint32_t feed, uint32_t events) {
    (void)feed;
    hr_intake_want(&of(trigger)->intake, events);
}

/* The first complaint of a notification given by hand. */
typedef struct complaint {
    char text[HR_ERROR_TEXT_BYTES];
} complaint;

static void on_complaint(void *data, hr_slice raw, const char *why) {
    (void)raw;
    complaint *self = data;
    if (self->text[0] == 0) {
        hr_error err;
        hr_fail(&err, HR_E_MALFORMED, 0, "%s", why);
        memcpy(self->text, err.text, sizeof self->text);
    }
}

/* emit: a whole notification, or the options bucket, key, event and size of one. */
static hr_code storage_emit(hr_trigger *trigger, hr_slice raw, const hr_node *options,
                            hr_builder *out, hr_error *err) {
    storage *self = of(trigger);
    hr_buffer sample = {0};
    if (raw.size == 0) {
        const char *bucket = hr_node_text(options, "bucket", NULL);
        const char *key = hr_node_text(options, "key", NULL);
        const char *event = hr_node_text(options, "event", "ObjectCreated:Put");
        if (bucket == NULL || key == NULL) {
            return hr_fail(err, HR_E_INVALID, 0, "give a notification, or bucket and key");
        }
        event = strcmp(event, "created") == 0   ? "ObjectCreated:Put"
                : strcmp(event, "removed") == 0 ? "ObjectRemoved:Delete"
                                                : event;
        event += strncmp(event, "s3:", 3) == 0 ? 3 : 0;
        hr_object_s3_sample(hr_node_text(trigger->kind_config, "kind", "s3"), bucket, key, event,
                            strtoll(hr_node_text(options, "size", "0"), NULL, 10), &sample);
        raw = hr_slice_of(sample.bytes, sample.size);
    }
    hr_sink sink = {.builder = out};
    complaint first = {.text = ""};
    hr_object_reader reader = {
        .events = self->events, .sink = &sink, .rejected = on_complaint, .data = &first};
    hr_code code = hr_object_s3_read(&reader, raw, err);
    if (code == HR_OK && first.text[0] != 0) {
        code = hr_fail(err, HR_E_MALFORMED, 0, "%s", first.text);
    }
    hr_buffer_fini(&sample);
    return code;
}

static void storage_stop(hr_trigger *trigger) {
    hr_intake_stop(&of(trigger)->intake);
}

static void storage_fini(hr_trigger *trigger) {
    storage *self = of(trigger);
    hr_intake_fini(&self->intake);
    hr_keys_fini(&self->keys);
    hr_free(self->path);
    self->path = NULL;
}

const hr_trigger_ops hr_storage_ops = {
    .kind = "storage",
    .object_size = sizeof(storage),
    .load = hr_intake_load,
    .init = storage_init,
    .start = storage_start,
    .durable = storage_durable,
    .refused = storage_refused,
    .want = storage_want,
    .emit = storage_emit,
    .stop = storage_stop,
    .fini = storage_fini,
};
