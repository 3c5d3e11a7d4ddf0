/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of the configuration as what the dispatcher asks for: filters, keys and identities. */
#ifndef HR_APP_MATCHER_H
#define HR_APP_MATCHER_H

#include "broker/dispatch.h"
#include "streams/sql.h"

/* `when`, `key` of one function; keys of its triggers by feed. */
typedef struct hr_sql_matcher {
    hr_matcher base; /* first; base.match and base.keys are set by hr_sql_matcher_init */
    const char *name;
    hr_expression *when, *key; /* NULL: all, the feed's */
    struct {
        uint32_t feed;
        hr_expression *key;
    } * feeds; /* keys given by triggers */
    size_t feed_count;
    uint64_t errors; /* events whose `when` could not be evaluated */
} hr_sql_matcher;

/* Compiles when and key (each may be NULL). Errors: HR_E_EXPRESSION. */
hr_code hr_sql_matcher_init(hr_sql_matcher *matcher, hr_sql *sql, const char *name,
                            const char *when, const char *key, hr_error *err);

/* The key expression that the trigger of feed gives its events (borrowed). */
void hr_sql_matcher_feed_key(hr_sql_matcher *matcher, uint32_t feed, hr_expression *key);
void hr_sql_matcher_fini(hr_sql_matcher *matcher);

/* `dedupe.by` of a trigger. */
typedef struct hr_sql_identify {
    hr_identify base;
    hr_expression *by;
} hr_sql_identify;
void hr_sql_identify_init(hr_sql_identify *identify, hr_expression *by);

#endif
