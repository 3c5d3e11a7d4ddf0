/* SPDX-License-Identifier: Apache-2.0 */
/* CloudEvents over HTTP: binary, structured (JSON, protobuf) and batched JSON requests to packed
 * events. CloudEvents HTTP protocol binding 1.0.2. */
#ifndef HR_TRIGGERS_CLOUDEVENTS_HTTP_H
#define HR_TRIGGERS_CLOUDEVENTS_HTTP_H

#include "triggers/webhook.h"

/* Packs the events of a request. key: the ordering key of events that bring no partitionkey.
 * Errors: HR_E_MALFORMED with the reason, HR_E_TOO_LARGE.  Thread: loop. */
hr_code hr_cloudevents_read(const hr_webhook_input *input, hr_slice key, hr_sink *sink,
                            hr_error *err);

#endif
