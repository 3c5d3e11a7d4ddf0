/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to chats: the body that each kind takes, and what its answer means. Pure but for the
 * clock in a signature. */
#ifndef HR_FUNCTIONS_NOTIFY_H
#define HR_FUNCTIONS_NOTIFY_H

#include "broker/runtime.h"
#include "core/buffer.h"

typedef enum hr_chat { HR_CHAT_SLACK, HR_CHAT_FEISHU, HR_CHAT_WEBHOOK } hr_chat;

/* Appends the JSON body with the template filled in from the event; feishu's is signed when secret
 * is given (open.feishu.cn, custom bots), webhook's is {"text", "event"}. */
void hr_chat_body(hr_chat chat, const char *template, const char *secret, hr_slice envelope,
                  hr_buffer *out);

/* What a chat's answer means beyond its status: slack says "ok", feishu a JSON code of 0, and both
 * may refuse with status 200. HR_OUTCOME_OK: taken. Else RETRY (too often, or not known to last)
 * or DEAD (would be refused again), and the chat's words appended to why. Of a status other than
 * 2xx: OK when the body says no more than the status does. */
hr_outcome hr_chat_answered(hr_chat chat, int status, hr_slice body, hr_buffer *why);

#endif
