/* SPDX-License-Identifier: Apache-2.0 */
/* Dialect github: GitHub's webhooks, mapped as the CloudEvents adapter for GitHub does. */
#include "core/json_text.h"
#include "core/memory.h"
#include "triggers/webhook.h"

#include <jansson.h>
#include <strings.h>

static json_t *member(const json_t *tree, const char *first, const char *second) {
    return json_object_get(json_object_get(tree, first), second);
}

/* What the event is about: the ref of a push, the number of an issue or a pull request. */
static char *subject_of(const json_t *tree) {
    const char *ref = json_string_value(json_object_get(tree, "ref"));
    const json_t *number = member(tree, "pull_request", "number");
    if (number == NULL) {
        number = member(tree, "issue", "number");
    }
    if (json_is_integer(number)) {
        return hr_format("%" JSON_INTEGER_FORMAT, json_integer_value(number));
    }
    const char *tag = json_string_value(member(tree, "release", "tag_name"));
    return ref != NULL ? hr_copy_text(ref) : hr_copy_text(tag);
}

static int hex_digit(uint8_t c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* GitHub's other content type: payload=<form-encoded JSON>. */
static void decode_form(hr_slice body, hr_buffer *out) {
    for (size_t at = 8; at < body.size && body.bytes[at] != '&'; at++) {
        uint8_t c = body.bytes[at] == '+' ? ' ' : body.bytes[at];
        if (c == '%' && body.size - at > 2) {
            int high = hex_digit(body.bytes[at + 1]), low = hex_digit(body.bytes[at + 2]);
            if (high >= 0 && low >= 0) {
                c = (uint8_t)(high << 4 | low);
                at += 2;
            }
        }
        hr_buffer_add(out, &c, 1);
    }
}

static hr_code pack(hr_webhook *self, const json_t *tree, hr_slice event, hr_slice id,
                    hr_slice data, hr_sink *sink, hr_error *err) {
    const char *action = json_string_value(json_object_get(tree, "action"));
    const char *source = json_string_value(member(tree, "repository", "html_url"));
    if (source == NULL) {
        source = json_string_value(member(tree, "organization", "url"));
    }
    char *type = hr_format("com.github.%.*s%s%s", (int)event.size, (const char *)event.bytes,
                           action == NULL ? "" : ".", action == NULL ? "" : action);
    char *subject = subject_of(tree);
    hr_fields fields = {
        .id = id,
        .source = hr_slice_text(source == NULL ? "https://github.com" : source),
        .type = hr_slice_text(type),
        .subject = hr_slice_text(subject),
        .content_type = hr_slice_text("application/json"),
        .partition_key = hr_slice_text(self->trigger.name),
        .time_us = hr_real_us(),
        .data = data,
        .has_data = true,
    };
    hr_code code = hr_sink_pack(sink, &fields, err);
    hr_free(type);
    hr_free(subject);
    return code;
}

static hr_code github_read(hr_webhook *self, const hr_webhook_input *input, hr_sink *sink,
                           hr_error *err) {
    hr_slice event = input->header(input->data, "X-GitHub-Event");
    hr_slice id = input->header(input->data, "X-GitHub-Delivery");
    char fresh[HR_INTAKE_ID];
    if (input->is_emit && event.size == 0) {
        event = hr_slice_text("push");
    }
    if (input->is_emit && id.size == 0) {
        hr_intake_new_id(fresh);
        id = hr_slice_text(fresh);
    }
    if (event.size == 0 || id.size == 0 || event.size > 128) {
        return hr_fail(err, HR_E_MALFORMED, 0, "the header %s is missing",
                       id.size == 0 ? "X-GitHub-Delivery" : "X-GitHub-Event");
    }
    hr_slice data = input->body;
    hr_buffer form = {0};
    if (data.size > 8 && memcmp(data.bytes, "payload=", 8) == 0) {
        decode_form(data, &form);
        data = hr_slice_of(form.bytes, form.size);
    }
    hr_code code = HR_OK;
    json_error_t wrong = {.line = 0};
    json_t *tree = hr_json_load(data, JSON_ALLOW_NUL, &wrong);
    if (!json_is_object(tree)) {
        code = hr_fail(err, HR_E_MALFORMED, 0, "the body is not a JSON object%s%s",
                       wrong.text[0] == 0 ? "" : ": ", wrong.text);
    } else if (!hr_slice_is(event, "ping")) {
        code = pack(self, tree, event, id, data, sink, err);
    }
    json_decref(tree);
    hr_buffer_fini(&form);
    return code;
}

const hr_webhook_dialect hr_dialect_github = {
    .name = "github", .signature_header = "X-Hub-Signature-256", .read = github_read};
