/* SPDX-License-Identifier: Apache-2.0 */
/* An event by hand at the mqtt trigger: `headrace emit`, without a broker. */
#include "core/envelope.h"
#include "core/memory.h"
#include "triggers/mqtt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
/* after the above: */
#include <cmocka.h>

#include <string.h>

typedef struct bench {
    hr_trigger *trigger;
    hr_node *config, *options;
    hr_builder builder;
    hr_batch *batch;
    hr_error err;
} bench;

static void begin(bench *b, const char *filter) {
    *b = (bench){.config = hr_node_add(NULL, HR_NODE_MAP, NULL),
                 .options = hr_node_add(NULL, HR_NODE_MAP, NULL)};
    (void)hr_node_add_text(b->config, "url", "mqtt://127.0.0.1", 0);
    (void)hr_node_add_text(b->config, "topic", filter, 0);
    b->trigger = hr_alloc(hr_mqtt_ops.object_size);
    b->trigger->ops = &hr_mqtt_ops;
    b->trigger->name = "temps";
    b->trigger->config = b->trigger->kind_config = b->config;
    assert_int_equal(hr_mqtt_ops.init(b->trigger, &b->err), HR_OK);
}

static hr_code emit(bench *b, const char *topic, const char *payload) {
    if (topic != NULL) {
        (void)hr_node_add_text(b->options, "topic", topic, 0);
    }
    hr_code code =
        hr_mqtt_ops.emit(b->trigger, hr_slice_text(payload), b->options, &b->builder, &b->err);
    if (code == HR_OK) {
        b->batch = hr_builder_finish(&b->builder, 0, 0);
        assert_non_null(b->batch);
        assert_int_equal(b->batch->count, 1);
    }
    return code;
}

static void end(bench *b) {
    hr_batch_unref(b->batch);
    hr_builder_fini(&b->builder);
    hr_mqtt_ops.fini(b->trigger);
    hr_free(b->trigger);
    hr_node_free(b->config);
    hr_node_free(b->options);
}

static void check_attribute(const bench *b, const char *name, const char *value) {
    hr_attribute found;
    hr_buffer text = {0};
    assert_true(hr_envelope_attribute(hr_batch_envelope(b->batch, 0), name, &found));
    hr_attribute_print(&found, &text);
    assert_string_equal(hr_buffer_text(&text), value);
    hr_buffer_fini(&text);
}

static void a_plain_filter_is_the_topic(void **state) {
    (void)state;
    static const char *const filters[] = {"a/b", "$share/group/a/b"};
    for (size_t i = 0; i < 2; i++) {
        bench b;
        begin(&b, filters[i]);
        assert_int_equal(emit(&b, NULL, "{\"n\":1}"), HR_OK);
        assert_true(hr_slice_is(hr_batch_subject(b.batch, 0), "a/b"));
        assert_true(hr_slice_is(hr_batch_key(b.batch, 0), "a/b"));
        assert_true(hr_slice_is(hr_batch_source(b.batch, 0), "headrace/mqtt/temps"));
        assert_true(b.batch->view[0].flags & HR_VIEW_JSON);
        check_attribute(&b, "datacontenttype", "application/json");
        check_attribute(&b, "qos", "1");
        end(&b);
    }
}

static void a_filter_with_wildcards_wants_a_topic(void **state) {
    (void)state;
    static const char *const filters[] = {"a/+", "a/#", "a/+name/c", "$share/g/+"};
    for (size_t i = 0; i < 4; i++) {
        bench b;
        begin(&b, filters[i]);
        assert_int_equal(emit(&b, NULL, "x"), HR_E_INVALID);
        assert_non_null(strstr(b.err.text, "set the option topic"));
        end(&b);
    }
}

static void the_topic_gives_the_named_levels(void **state) {
    (void)state;
    bench b;
    begin(&b, "site/+site/+device");
    assert_int_equal(emit(&b, "site/a/t-1", "plain"), HR_OK);
    check_attribute(&b, "site", "a");
    check_attribute(&b, "device", "t-1");
    check_attribute(&b, "datacontenttype", "application/octet-stream");
    assert_true(hr_slice_is(hr_batch_data(b.batch, 0), "plain"));
    end(&b);
}

static void a_topic_that_could_not_have_come_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *topic, *why;
    } table[] = {{"b/c", "matches no filter of 'temps'"},
                 {"a/+", "has wildcards"},
                 {"a/#", "has wildcards"},
                 {"", "matches no filter of 'temps'"}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        bench b;
        begin(&b, "a/+");
        assert_int_equal(emit(&b, table[i].topic, "x"), HR_E_INVALID);
        assert_non_null(strstr(b.err.text, table[i].why));
        end(&b);
    }
}

static void a_payload_over_the_limit_is_refused_with_its_size(void **state) {
    (void)state;
    bench b;
    begin(&b, "a");
    char *payload = hr_alloc(HR_ENVELOPE_MAX + 2);
    memset(payload, 'x', HR_ENVELOPE_MAX + 1);
    assert_int_equal(emit(&b, NULL, payload), HR_E_TOO_LARGE);
    assert_string_equal(b.err.text, "a payload of 16777217 bytes, at most 16777216");
    hr_free(payload);
    end(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_filter_is_the_topic),
        cmocka_unit_test(a_filter_with_wildcards_wants_a_topic),
        cmocka_unit_test(the_topic_gives_the_named_levels),
        cmocka_unit_test(a_topic_that_could_not_have_come_is_refused),
        cmocka_unit_test(a_payload_over_the_limit_is_refused_with_its_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
