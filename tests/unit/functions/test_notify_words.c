/* SPDX-License-Identifier: Apache-2.0 */
/* What chats are sent and what their answers mean. */
#include "functions/notify.h"

#include "tests/unit/functions/call_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void an_answer_is_read_as_the_chat_means_it(void **state) {
    (void)state;
    static const struct {
        hr_chat chat;
        int status;
        const char *body;
        hr_outcome outcome;
    } cases[] = {
        {HR_CHAT_SLACK, 200, "ok", HR_OUTCOME_OK},
        {HR_CHAT_SLACK, 200, "ok\n", HR_OUTCOME_OK},
        {HR_CHAT_SLACK, 200, "no_service", HR_OUTCOME_DEAD},
        {HR_CHAT_SLACK, 200, "invalid_payload", HR_OUTCOME_DEAD},
        {HR_CHAT_SLACK, 200, "rate_limited", HR_OUTCOME_RETRY},
        {HR_CHAT_SLACK, 200, "", HR_OUTCOME_RETRY},
        {HR_CHAT_SLACK, 200, "<html>log in</html>", HR_OUTCOME_RETRY},
        {HR_CHAT_SLACK, 500, "rollup_error", HR_OUTCOME_OK}, /* the status says it */
        {HR_CHAT_FEISHU, 200, "{\"code\":0,\"msg\":\"success\"}", HR_OUTCOME_OK},
        {HR_CHAT_FEISHU, 200, "{\"StatusCode\":0,\"StatusMessage\":\"success\"}", HR_OUTCOME_OK},
        {HR_CHAT_FEISHU, 200, "{\"code\":19021,\"msg\":\"sign match fail\"}", HR_OUTCOME_DEAD},
        {HR_CHAT_FEISHU, 200, "{\"code\":19024,\"msg\":\"Key Words Not Found\"}", HR_OUTCOME_DEAD},
        {HR_CHAT_FEISHU, 200, "{\"code\":9499,\"msg\":\"Bad Request\"}", HR_OUTCOME_DEAD},
        {HR_CHAT_FEISHU, 200, "{\"code\":11232,\"msg\":\"frequency limited\"}", HR_OUTCOME_RETRY},
        {HR_CHAT_FEISHU, 400, "{\"code\":11232,\"msg\":\"frequency limited\"}", HR_OUTCOME_RETRY},
        {HR_CHAT_FEISHU, 200, "{\"code\":2200}", HR_OUTCOME_RETRY},
        {HR_CHAT_FEISHU, 200, "", HR_OUTCOME_RETRY},
        {HR_CHAT_FEISHU, 200, "{\"code\":\"0\"}", HR_OUTCOME_RETRY},
        {HR_CHAT_FEISHU, 404, "404 page not found", HR_OUTCOME_OK},
        {HR_CHAT_WEBHOOK, 200, "whatever", HR_OUTCOME_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hr_buffer why = {0};
        hr_outcome outcome =
            hr_chat_answered(cases[i].chat, cases[i].status, hr_slice_text(cases[i].body), &why);
        if (outcome != cases[i].outcome) {
            fail_msg("case %zu, '%s': %d", i, cases[i].body, (int)outcome);
        }
        assert_true((outcome == HR_OUTCOME_OK) == (why.size == 0) || cases[i].body[0] == '\0');
        hr_buffer_fini(&why);
    }
}

static void a_long_answer_is_shown_in_part(void **state) {
    (void)state;
    char page[4000];
    memset(page, 'x', sizeof page);
    hr_buffer why = {0};
    hr_chat_answered(HR_CHAT_SLACK, 200, hr_slice_of(page, sizeof page), &why);
    hr_chat_answered(HR_CHAT_FEISHU, 200, hr_slice_of(page, sizeof page), &why);
    assert_true(why.size > 0 && why.size < 300);
    hr_buffer_fini(&why);
}

static void each_chat_has_its_own_form(void **state) {
    (void)state;
    call_bench bench = {0};
    call_add(&bench, "e1", "a", hr_slice_text("{\"c\": 4}"));
    hr_slice envelope = hr_batch_envelope(bench.batches[0], 0);
    hr_buffer out = {0};
    hr_chat_body(HR_CHAT_SLACK, "c={data.c} \"q\"", NULL, envelope, &out);
    assert_string_equal(hr_buffer_text(&out), "{\"text\":\"c=4 \\\"q\\\"\"}");
    out.size = 0;
    hr_chat_body(HR_CHAT_FEISHU, "hi", NULL, envelope, &out);
    assert_string_equal(hr_buffer_text(&out),
                        "{\"msg_type\":\"text\",\"content\":{\"text\":\"hi\"}}");
    out.size = 0;
    hr_chat_body(HR_CHAT_FEISHU, "hi", "s3cret", envelope, &out);
    assert_non_null(strstr(hr_buffer_text(&out), "\"timestamp\":\""));
    assert_non_null(strstr(hr_buffer_text(&out), "\"sign\":\""));
    out.size = 0;
    hr_chat_body(HR_CHAT_WEBHOOK, "hi", NULL, envelope, &out);
    assert_non_null(strstr(hr_buffer_text(&out), "\"event\":{"));
    assert_non_null(strstr(hr_buffer_text(&out), "\"id\":\"e1\""));
    call_add(&bench, "e2", "a", hr_slice_text("{\"big\":123456789012345678901234567890}"));
    out.size = 0;
    hr_chat_body(HR_CHAT_WEBHOOK, "hi", NULL, hr_batch_envelope(bench.batches[1], 0), &out);
    assert_non_null(
        strstr(hr_buffer_text(&out), "\"data\":{\"big\":123456789012345678901234567890}"));
    hr_buffer_fini(&out);
    call_fini(&bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_read_as_the_chat_means_it),
        cmocka_unit_test(a_long_answer_is_shown_in_part),
        cmocka_unit_test(each_chat_has_its_own_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
