/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions over a small batch: carets lie in the text, every event is asked once. */
#include "core/envelope.h"
#include "core/memory.h"
#include "streams/sql.h"
#include "tests/fuzz/fuzz.h"

static hr_batch *make_batch(void) {
    static const char *const DATA[] = {"{\"a\":{\"b\":[1,-2.5,\"x\\u00e4\"]},\"t\":true}", "[1,{}]",
                                       "no json", "\"text\"", "12"};
    hr_builder builder = {0};
    hr_error err = {0};
    hr_attribute level = {
        .name = hr_slice_text("level"), .type = HR_ATTRIBUTE_STRING, .text = hr_slice_text("7")};
    for (size_t i = 0; i < 5; i++) {
        hr_fields fields = {.id = hr_slice_text("e1"),
                            .source = hr_slice_text("fuzz/source"),
                            .type = hr_slice_text("fuzz.type"),
                            .subject = hr_slice_text(i == 2 ? "" : "room"),
                            .content_type = hr_slice_text("application/json"),
                            .time_us = INT64_C(1700000000000000),
                            .data = hr_slice_text(DATA[i]),
                            .has_data = true,
                            .extensions = &level,
                            .extension_count = i % 2};
        FUZZ_CHECK(hr_builder_pack(&builder, i + 1, &fields, &err) == HR_OK);
    }
    hr_batch *batch = hr_builder_finish(&builder, 1, 0);
    hr_builder_fini(&builder);
    return batch;
}

static void on_value(void *data, uint32_t index, hr_slice value, bool is_null) {
    uint32_t *count = data;
    FUZZ_CHECK(index == (*count)++);
    FUZZ_CHECK(!is_null || value.size == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static hr_sql *sql;
    static hr_batch *batch;
    hr_error err = {0};
    if (sql == NULL) {
        batch = make_batch();
        sql = hr_sql_new();
    }
    char *text = hr_copy_bytes(bytes, size);
    hr_expression *expression = NULL;
    int offset = -1;
    if (hr_sql_compile(sql, text, &expression, &offset, &err) != HR_OK) {
        FUZZ_CHECK(err.text[0] != '\0' && offset >= -1 && offset <= (int)strlen(text));
        hr_free(text);
        return 0;
    }
    uint64_t bits = 0, again = 0;
    uint32_t errors = 0, count = 0;
    hr_expression_match(expression, batch, &bits, &errors, &err);
    FUZZ_CHECK(bits >> batch->count == 0 && errors <= batch->count);
    hr_expression_values(expression, batch, on_value, &count);
    FUZZ_CHECK(count == batch->count);
    hr_expression_match(expression, batch, &again, &errors, NULL);
    FUZZ_CHECK(strstr(text, "and") != NULL || strstr(text, "AND") != NULL || errors > 0 ||
               bits == again);
    hr_expression_free(expression);
    hr_free(text);
    return 0;
}
