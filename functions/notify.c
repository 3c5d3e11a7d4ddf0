/* SPDX-License-Identifier: Apache-2.0 */
#include "functions/notify.h"

#include "core/base64.h"
#include "core/envelope.h"
#include "core/json_text.h"
#include "core/loop.h"
#include "core/memory.h"
#include "functions/template.h"
#include "net/digest.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>

enum { SHOWN_BYTES = 120 };

/* ---- what is sent ---- */

/* timestamp + "\n" + secret is the key, the message is empty. */
static void sign_feishu(json_t *body, const char *secret) {
    long long now = hr_real_us() / 1000000;
    char stamp[24];
    snprintf(stamp, sizeof stamp, "%lld", now);
    char *key = hr_format("%s\n%s", stamp, secret);
    uint8_t sum[HR_DIGEST];
    hr_digest_hmac_sha256(hr_slice_text(key), hr_slice_of("", 0), sum);
    hr_buffer text = {0};
    hr_base64_add(&text, hr_slice_of(sum, sizeof sum));
    json_object_set_new(body, "timestamp", json_string(stamp));
    json_object_set_new(body, "sign", json_string(hr_buffer_text(&text)));
    hr_buffer_fini(&text);
    hr_free(key);
}

/* The event as it stands: a parser of trees would refuse large numbers. */
static void webhook_body(hr_slice words, hr_slice envelope, hr_buffer *out) {
    hr_buffer_print(out, "{\"text\":");
    hr_json_add_text(out, words);
    hr_buffer_print(out, ",\"event\":");
    hr_envelope_print_json(envelope, out);
    hr_buffer_print(out, "}");
}

void hr_chat_body(hr_chat chat, const char *template, const char *secret, hr_slice envelope,
                  hr_buffer *out) {
    hr_buffer text = {0};
    hr_template_print(template, envelope, &text);
    if (chat == HR_CHAT_WEBHOOK) {
        webhook_body(hr_slice_of(text.bytes, text.size), envelope, out);
        hr_buffer_fini(&text);
        return;
    }
    json_t *words = json_stringn((const char *)text.bytes, text.size);
    if (words == NULL) {
        words = json_string("(the text is not UTF-8)");
    }
    json_t *body = NULL;
    switch (chat) {
    case HR_CHAT_FEISHU:
        body = json_pack("{s:s, s:{s:o}}", "msg_type", "text", "content", "text", words);
        if (secret != NULL) {
            sign_feishu(body, secret);
        }
        break;
    case HR_CHAT_SLACK:
    case HR_CHAT_WEBHOOK:
        body = json_pack("{s:o}", "text", words);
        break;
    }
    char *dump = json_dumps(body, JSON_COMPACT);
    hr_require(dump);
    hr_buffer_print(out, "%s", dump);
    hr_free(dump);
    json_decref(body);
    hr_buffer_fini(&text);
}

/* ---- what comes back ---- */

static void show(hr_slice text, hr_buffer *why) {
    hr_buffer_add(why, text.bytes, text.size < SHOWN_BYTES ? text.size : SHOWN_BYTES);
}

static bool is_2xx(int status) {
    return status >= 200 && status < 300;
}

/* Refusals that another try cannot change (api.slack.com, errors of incoming webhooks). */
static bool slack_lasts(hr_slice word) {
    static const char *const words[] = {"action_prohibited", "channel_is_archived",
                                        "channel_not_found", "invalid_blocks",
                                        "invalid_payload",   "invalid_token",
                                        "no_service",        "no_service_id",
                                        "no_team",           "no_text",
                                        "team_disabled",     "too_many_attachments",
                                        "user_not_found",    "posting_to_general_channel_denied"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (hr_slice_is(word, words[i])) {
            return true;
        }
    }
    return false;
}

static hr_outcome slack_answered(int status, hr_slice body, hr_buffer *why) {
    while (body.size > 0 && isspace(body.bytes[body.size - 1])) {
        body.size--;
    }
    if (!is_2xx(status) || hr_slice_is(body, "ok")) {
        return HR_OUTCOME_OK;
    }
    show(body, why);
    return slack_lasts(body) ? HR_OUTCOME_DEAD : HR_OUTCOME_RETRY;
}

/* Refusals that another try cannot change: bad content, unknown address, sign, address or words
 * that the bot's settings refuse. 11232 and 230020 (too often) are none of them. */
static bool feishu_lasts(json_int_t code) {
    static const json_int_t codes[] = {9499, 19001, 19002, 19003, 19004, 19021, 19022, 19024};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        if (codes[i] == code) {
            return true;
        }
    }
    return false;
}

static hr_outcome feishu_answered(int status, hr_slice body, hr_buffer *why) {
    json_t *json = hr_json_load(body, 0, NULL);
    const json_t *code = json_object_get(json, "code");
    if (code == NULL) {
        code = json_object_get(json, "StatusCode"); /* the older form */
    }
    hr_outcome outcome = HR_OUTCOME_OK;
    if (json_is_integer(code) && json_integer_value(code) != 0) {
        const char *words = json_string_value(json_object_get(json, "msg"));
        hr_buffer_print(why, "code %lld ", (long long)json_integer_value(code));
        show(hr_slice_text(words), why);
        outcome = feishu_lasts(json_integer_value(code)) ? HR_OUTCOME_DEAD : HR_OUTCOME_RETRY;
    } else if (!json_is_integer(code) && is_2xx(status)) {
        hr_buffer_print(why, "no code: ");
        show(body, why);
        outcome = HR_OUTCOME_RETRY;
    }
    json_decref(json);
    return outcome;
}

hr_outcome hr_chat_answered(hr_chat chat, int status, hr_slice body, hr_buffer *why) {
    switch (chat) {
    case HR_CHAT_SLACK:
        return slack_answered(status, body, why);
    case HR_CHAT_FEISHU:
        return feishu_answered(status, body, why);
    case HR_CHAT_WEBHOOK:
        break;
    }
    return HR_OUTCOME_OK;
}
