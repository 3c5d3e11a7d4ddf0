/* SPDX-License-Identifier: Apache-2.0 */
#include "app/matcher.h"

#include "core/log.h"
#include "core/memory.h"

static void match(hr_matcher *self, const hr_batch *batch, uint64_t *out_bits) {
    hr_sql_matcher *matcher = (hr_sql_matcher *)self;
    if (matcher->when == NULL) {
        memset(out_bits, 0xff, (size_t)((batch->count + 63) / 64) * sizeof *out_bits);
        return;
    }
    uint32_t errors = 0;
    hr_error err = {0};
    hr_expression_match(matcher->when, batch, out_bits, &errors, &err);
    if (errors > 0) {
        matcher->errors += errors;
        hr_log(HR_LOG_WARN, matcher->name,
               "when: could not be evaluated for an event, which counts "
               "as not matching: %s",
               err.text);
    }
}

static void put_key(void *data, uint32_t index, hr_slice value, bool is_null) {
    uint64_t *hashes = data;
    uint64_t hash = is_null ? 0 : hr_hash(value);
    hashes[index] = is_null ? 0 : hash == 0 ? 1 : hash;
}

static void keys(hr_matcher *self, const hr_batch *batch, uint64_t *out_hashes) {
    hr_sql_matcher *matcher = (hr_sql_matcher *)self;
    hr_expression *key = matcher->key;
    for (size_t i = 0; key == NULL && i < matcher->feed_count; i++) {
        if (matcher->feeds[i].feed == batch->feed) {
            key = matcher->feeds[i].key;
        }
    }
    if (key != NULL) {
        hr_expression_values(key, batch, put_key, out_hashes);
        return;
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        out_hashes[i] = batch->view[i].key_hash;
    }
}

hr_code hr_sql_matcher_init(hr_sql_matcher *matcher, hr_sql *sql, const char *name,
                            const char *when, const char *key, hr_error *err) {
    *matcher =
        (hr_sql_matcher){.base = {.match = match, .keys = key == NULL ? NULL : keys}, .name = name};
    int offset = -1;
    if (when != NULL && hr_sql_compile(sql, when, &matcher->when, &offset, err) != HR_OK) {
        return hr_wrap(err, "when of '%s'", name);
    }
    if (key != NULL && hr_sql_compile(sql, key, &matcher->key, &offset, err) != HR_OK) {
        return hr_wrap(err, "key of '%s'", name);
    }
    return HR_OK;
}

void hr_sql_matcher_feed_key(hr_sql_matcher *matcher, uint32_t feed, hr_expression *key) {
    matcher->feeds = hr_realloc(matcher->feeds, (matcher->feed_count + 1) * sizeof *matcher->feeds);
    matcher->feeds[matcher->feed_count].feed = feed;
    matcher->feeds[matcher->feed_count++].key = key;
    matcher->base.keys = keys;
}

void hr_sql_matcher_fini(hr_sql_matcher *matcher) {
    hr_expression_free(matcher->when);
    hr_expression_free(matcher->key);
    hr_free(matcher->feeds);
    *matcher = (hr_sql_matcher){0};
}

typedef struct seen_writer {
    const hr_batch *batch;
    hr_seen *out;
} seen_writer;

static void put_seen(void *data, uint32_t index, hr_slice value, bool is_null) {
    seen_writer *writer = data;
    /* no value: the event's own id, so that nothing is taken for a copy by mistake */
    writer->out[index] = hr_seen_of(hr_batch_source(writer->batch, index),
                                    is_null ? hr_batch_id(writer->batch, index) : value);
}

static void seen_by(hr_identify *self, const hr_batch *batch, hr_seen *out_seen) {
    hr_sql_identify *identify = (hr_sql_identify *)self;
    seen_writer writer = {.batch = batch, .out = out_seen};
    hr_expression_values(identify->by, batch, put_seen, &writer);
}

void hr_sql_identify_init(hr_sql_identify *identify, hr_expression *by) {
    *identify = (hr_sql_identify){.base = {.seen = seen_by}, .by = by};
}
