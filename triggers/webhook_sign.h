/* SPDX-License-Identifier: Apache-2.0 */
/* Who may send: HMAC-SHA256 signatures over the raw body, and bearer tokens. All comparisons take
 * the same time whatever is wrong, and happen before anything is parsed. */
#ifndef HR_TRIGGERS_WEBHOOK_SIGN_H
#define HR_TRIGGERS_WEBHOOK_SIGN_H

#include "core/error.h"
#include "core/node.h"
#include "core/slice.h"
#include "net/digest.h"

enum { HR_KEYS_MAX = 16 };

/* Zeroed lets nobody in. */
typedef struct hr_keys {
    char *secret[HR_KEYS_MAX]; /* any of them signs: rotation */
    size_t secret_count;
    uint8_t token[HR_KEYS_MAX][HR_DIGEST]; /* SHA-256 of each: equal lengths to compare */
    size_t token_count;
    bool is_insecure;
} hr_keys;

/* Reads secret, token and insecure of a trigger's kind map. Secrets and tokens both given: both
 * are asked for. Errors: HR_E_CONFIG (none of the three, or an empty one).  Thread: loop. */
hr_code hr_keys_init(hr_keys *keys, const hr_node *config, hr_error *err);

/* What came with a request; empty: not there. signature is "sha256=" and 64 hex digits. */
typedef struct hr_proof {
    hr_slice signature, authorization, body;
    bool allows_bare_token; /* "Authorization: TOKEN" as MinIO may send it */
    bool is_cut;            /* body is only the head: no signature over it can be checked */
} hr_proof;

/* NULL: let in. Otherwise one line that says what is missing or wrong, without secrets. */
const char *hr_keys_check(const hr_keys *keys, const hr_proof *proof);

/* HMAC-SHA256 of body by secret.  Thread: any. */
void hr_sign(const char *secret, hr_slice body, uint8_t out[HR_DIGEST]);

/* Wipes and frees. */
void hr_keys_fini(hr_keys *keys);

#endif
