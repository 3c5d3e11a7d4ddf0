/* SPDX-License-Identifier: Apache-2.0 */
/* Trigger: HTTP requests become events, answered 2xx only when they are durable.
 *
 * A dialect reads one request; webhook.c does the rest (methods, keys, tickets, answers). */
#ifndef HR_TRIGGERS_WEBHOOK_H
#define HR_TRIGGERS_WEBHOOK_H

#include "broker/trigger.h"
#include "triggers/http_intake.h"
#include "triggers/webhook_sign.h"

struct hr_expression; /* streams/sql.h */

/* How expressions (id, type, subject of the json dialect) are evaluated. Triggers know no SQL, so
 * the engine sets hr_trigger_eval once before the first init; hr_expression_values and
 * hr_expression_free of streams/sql.h fit as they stand. NULL: such expressions are refused. */
typedef struct hr_trigger_evaluator {
    /* out_offset: where in text the error is, -1 unknown; may be NULL. */
    hr_code (*compile)(const char *text, struct hr_expression **out_expression, int *out_offset,
                       hr_error *err);
    void (*values)(struct hr_expression *expression, const hr_batch *batch,
                   void (*each)(void *data, uint32_t index, hr_slice value, bool is_null),
                   void *data);
    void (*free)(struct hr_expression *take_expression);
} hr_trigger_evaluator;

extern const hr_trigger_evaluator *hr_trigger_eval;

/* What a dialect reads: a request, or what `headrace emit` was given. */
typedef struct hr_webhook_input {
    hr_slice body;
    const char *path;
    hr_slice (*header)(const void *data, const char *name); /* empty: absent */
    void (*each_header)(const void *data, void (*each)(void *data, hr_slice name, hr_slice value),
                        void *each_data);
    const void *data;
    bool is_emit; /* by hand: what only a real sender knows may be made up */
} hr_webhook_input;

typedef struct hr_webhook hr_webhook;

typedef struct hr_webhook_dialect {
    const char *name;
    const char *signature_header; /* beside X-Headrace-Signature-256; NULL: only that */
    hr_code (*init)(hr_webhook *self, hr_error *err); /* may be NULL */

    /* Packs the events of one request. Nothing packed and HR_OK: a probe, answered 200.
     * Errors: HR_E_MALFORMED with the reason for the sender, HR_E_TOO_LARGE. */
    hr_code (*read)(hr_webhook *self, const hr_webhook_input *input, hr_sink *sink, hr_error *err);
    void (*fini)(hr_webhook *self); /* may be NULL */
} hr_webhook_dialect;

struct hr_webhook {
    hr_trigger trigger;
    hr_intake intake;
    hr_keys keys;
    const hr_webhook_dialect *dialect;
    char *path; /* "/hooks/NAME" */
    size_t max_body;
    struct hr_expression *id, *type, *subject; /* json; NULL: the default */
    char *source;                              /* json, of every event */
    hr_buffer made_id;                         /* json, of the event in hand */
};

extern const hr_webhook_dialect hr_dialect_cloudevents, hr_dialect_json, hr_dialect_github;
extern const hr_trigger_ops hr_webhook_ops;

enum { HR_WEBHOOK_BODY = 1 << 20, HR_WEBHOOK_BODY_MAX = 8 << 20 };

/* Reads path and max_body of a kind map with the defaults of config.md; *out_path is owned by the
 * caller. Errors: HR_E_CONFIG.  Thread: loop. */
hr_code hr_webhook_place(const hr_trigger *trigger, char **out_path, size_t *out_max_body,
                         hr_error *err);

#endif
