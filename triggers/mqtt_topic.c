/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/mqtt_topic.h"

#include "core/buffer.h"
#include "core/envelope.h"
#include "core/memory.h"
#include "core/utf8.h"

enum { FILTER_MAX = 65535 };

/* The level at *at, up to the next slash; steps over it. False behind the last one. */
static bool next_level(hr_slice text, size_t *at, hr_slice *out) {
    if (*at > text.size) {
        return false;
    }
    const uint8_t *from = text.bytes + *at;
    const uint8_t *slash = text.size == *at ? NULL : memchr(from, '/', text.size - *at);
    size_t size = slash == NULL ? text.size - *at : (size_t)(slash - from);
    *out = hr_slice_of(from, size);
    *at += size + 1;
    return true;
}

static bool is_taken_name(hr_slice name) {
    static const char *const taken[] = {"subject",      "time", "datacontenttype", "dataschema",
                                        "partitionkey", "qos",  "retained"};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        if (hr_slice_is(name, taken[i])) {
            return true;
        }
    }
    return false;
}

static hr_code check_level(hr_slice level, bool is_last, size_t names, hr_error *err) {
    int size = level.size > 64 ? 64 : (int)level.size;
    const char *text = (const char *)level.bytes;
    if (level.size > 0 && level.bytes[0] == '+') {
        hr_slice name = hr_slice_of(level.bytes + 1, level.size - 1);
        if (name.size > 0 && (!hr_attribute_name_is_valid(name) || is_taken_name(name))) {
            return hr_fail(err, HR_E_CONFIG, 0, "'%.*s' cannot name an attribute", size, text);
        }
        return names < HR_MQTT_LEVELS
                   ? HR_OK
                   : hr_fail(err, HR_E_CONFIG, 0, "more than %d names", HR_MQTT_LEVELS);
    }
    if (hr_slice_is(level, "#")) {
        return is_last ? HR_OK : hr_fail(err, HR_E_CONFIG, 0, "# stands only at the end");
    }
    if (level.size > 0 && (memchr(level.bytes, '+', level.size) != NULL ||
                           memchr(level.bytes, '#', level.size) != NULL)) {
        return hr_fail(err, HR_E_CONFIG, 0, "'%.*s': + and # fill a whole level", size, text);
    }
    return HR_OK;
}

hr_code hr_mqtt_filter_init(hr_mqtt_filter *filter, const char *text, hr_error *err) {
    hr_slice all = hr_slice_text(text), level;
    hr_buffer wire = {0};
    size_t at = 0, names = 0;
    *filter = (hr_mqtt_filter){0};
    if (strncmp(text, "$share/", 7) == 0) {
        at = 7;
        bool has_group = next_level(all, &at, &level) && level.size > 0 && at < all.size &&
                         memchr(level.bytes, '+', level.size) == NULL &&
                         memchr(level.bytes, '#', level.size) == NULL;
        if (!has_group) {
            return hr_fail(err, HR_E_CONFIG, 0, "topic '%.100s': not $share/GROUP/FILTER", text);
        }
        filter->start = at;
        hr_buffer_add(&wire, text, at);
    }
    if (all.size == filter->start || all.size > FILTER_MAX || !hr_utf8_is_text(all)) {
        hr_buffer_fini(&wire);
        return hr_fail(err, HR_E_CONFIG, 0, "topic '%.100s': empty, too long or not UTF-8", text);
    }
    while (next_level(all, &at, &level)) {
        hr_code code = check_level(level, at > all.size, names, err);
        if (code != HR_OK) {
            hr_buffer_fini(&wire);
            return hr_wrap(err, "topic '%.100s'", text);
        }
        bool is_plus = level.size > 0 && level.bytes[0] == '+';
        names += is_plus && level.size > 1;
        filter->has_wildcard = filter->has_wildcard || is_plus || hr_slice_is(level, "#");
        hr_buffer_add(&wire, level.bytes, is_plus ? 1 : level.size);
        if (at <= all.size) {
            hr_buffer_add(&wire, "/", 1);
        }
    }
    filter->text = hr_copy_text(text);
    filter->wire = hr_copy_text(hr_buffer_text(&wire));
    hr_buffer_fini(&wire);
    return HR_OK;
}

bool hr_mqtt_filter_match(const hr_mqtt_filter *filter, hr_slice topic,
                          hr_mqtt_level out_levels[HR_MQTT_LEVELS], size_t *out_count) {
    hr_slice pattern = hr_slice_text(filter->text), wanted, level;
    size_t at = filter->start, topic_at = 0, count = 0;
    bool is_system = topic.size > 0 && topic.bytes[0] == '$'; /* not for a leading wildcard */
    while (next_level(pattern, &at, &wanted)) {
        bool is_first = topic_at == 0;
        bool is_hash = hr_slice_is(wanted, "#");
        bool is_plus = wanted.size > 0 && wanted.bytes[0] == '+';
        if (is_first && is_system && (is_hash || is_plus)) {
            return false;
        }
        if (is_hash) { /* also the level above it: a/# takes a */
            *out_count = count;
            return true;
        }
        if (!next_level(topic, &topic_at, &level)) {
            return false;
        }
        if (is_plus && wanted.size > 1 && count < HR_MQTT_LEVELS) {
            out_levels[count++] = (hr_mqtt_level){
                .name = hr_slice_of(wanted.bytes + 1, wanted.size - 1), .value = level};
        } else if (!is_plus && !hr_slice_equal(wanted, level)) {
            return false;
        }
    }
    *out_count = count;
    return topic_at > topic.size;
}

void hr_mqtt_filter_fini(hr_mqtt_filter *filter) {
    hr_free(filter->text);
    hr_free(filter->wire);
    *filter = (hr_mqtt_filter){0};
}
