/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT filters. Lines: filter, then topics. Named levels lie in the topic; matches agree with a
 * plain reading of the wire form. */
#include "core/memory.h"
#include "tests/fuzz/fuzz.h"
#include "triggers/mqtt_topic.h"

static bool matches(const char *filter, hr_slice topic) {
    const char *f = filter, *t = (const char *)topic.bytes, *end = t + topic.size;
    if (t < end && *t == '$' && (*f == '+' || *f == '#')) {
        return false;
    }
    for (;;) {
        if (*f == '#') {
            return true;
        }
        if (*f == '+') {
            while (t < end && *t != '/') {
                t++;
            }
            f++;
        } else {
            while (*f != '\0' && *f != '/') {
                if (t == end || *t++ != *f++) {
                    return false;
                }
            }
        }
        if (t == end) {
            return *f == '\0' || strcmp(f, "/#") == 0;
        }
        if (*f++ != '/' || *t++ != '/') {
            return false;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    hr_slice rest = hr_slice_of(bytes, size), line = fuzz_line(&rest);
    char *text = hr_copy_bytes(line.bytes, line.size);
    hr_mqtt_filter filter;
    hr_error err = {0};
    if (hr_mqtt_filter_init(&filter, text, &err) != HR_OK) {
        FUZZ_CHECK(err.code == HR_E_CONFIG && err.text[0] != '\0');
        hr_free(text);
        return 0;
    }
    FUZZ_CHECK(strcmp(filter.text, text) == 0 && filter.start <= strlen(text));
    const char *wire = filter.wire;
    if (filter.start > 0) { /* $share/GROUP/ stands in both */
        wire += filter.start;
    }
    while (rest.size > 0) {
        hr_mqtt_level levels[HR_MQTT_LEVELS];
        size_t count = 0;
        hr_slice topic = fuzz_line(&rest);
        if (topic.size == 0 || memchr(topic.bytes, 0, topic.size) != NULL) {
            continue;
        }
        bool is_match = hr_mqtt_filter_match(&filter, topic, levels, &count);
        FUZZ_CHECK(is_match == matches(wire, topic));
        FUZZ_CHECK(!is_match || count <= HR_MQTT_LEVELS);
        for (size_t i = 0; is_match && i < count; i++) {
            FUZZ_CHECK(fuzz_is_within(levels[i].value, topic));
            FUZZ_CHECK(levels[i].value.size == 0 ||
                       memchr(levels[i].value.bytes, '/', levels[i].value.size) == NULL);
        }
    }
    hr_mqtt_filter_fini(&filter);
    hr_free(text);
    return 0;
}
