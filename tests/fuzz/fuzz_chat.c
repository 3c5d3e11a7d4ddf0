/* SPDX-License-Identifier: Apache-2.0 */
/* Chats: what they answer has a meaning in words, what they are sent is JSON. First byte: s, f or
 * w, then the status; second line: template; rest: the answer, and the data of the event. */
#include "core/envelope.h"
#include "core/json_text.h"
#include "core/memory.h"
#include "functions/notify.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

static hr_chat chat_of(uint8_t letter) {
    return letter == 's' ? HR_CHAT_SLACK : letter == 'f' ? HR_CHAT_FEISHU : HR_CHAT_WEBHOOK;
}

static void send(hr_chat chat, hr_slice template, hr_slice data) {
    hr_fields fields = {.id = hr_slice_text("1"),
                        .source = hr_slice_text("fuzz"),
                        .type = hr_slice_text("t"),
                        .content_type = hr_slice_text("application/json"),
                        .data = data,
                        .has_data = true};
    hr_buffer envelope = {0}, out = {0};
    hr_error err = {0};
    char *text = hr_copy_bytes(template.bytes, template.size);
    if (hr_envelope_pack(&fields, &envelope, &err) == HR_OK) {
        hr_chat_body(chat, text, template.size % 2 == 0 ? "key" : NULL,
                     hr_slice_of(envelope.bytes, envelope.size), &out);
        FUZZ_CHECK(hr_json_is_valid(hr_slice_of(out.bytes, out.size)));
    }
    hr_free(text);
    hr_buffer_fini(&envelope);
    hr_buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    hr_slice rest = hr_slice_of(bytes, size), head = fuzz_line(&rest), template = fuzz_line(&rest);
    if (head.size == 0 || head.size > 8) {
        return 0;
    }
    hr_chat chat = chat_of(head.bytes[0]);
    char *digits = hr_copy_bytes(head.bytes + 1, head.size - 1);
    int status = (int)(strtoul(digits, NULL, 10) % 600);
    hr_buffer why = {0};
    hr_outcome outcome = hr_chat_answered(chat, status, rest, &why);
    FUZZ_CHECK(outcome == HR_OUTCOME_OK || outcome == HR_OUTCOME_RETRY ||
               outcome == HR_OUTCOME_DEAD);
    FUZZ_CHECK(chat != HR_CHAT_WEBHOOK || outcome == HR_OUTCOME_OK);
    FUZZ_CHECK(outcome != HR_OUTCOME_DEAD || why.size > 0);
    hr_buffer_fini(&why);
    hr_free(digits);
    send(chat, template, rest);
    return 0;
}
