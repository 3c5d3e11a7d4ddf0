/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/webhook_sign.h"

#include "core/memory.h"

#include <string.h>
#include <strings.h>

hr_code hr_keys_init(hr_keys *keys, const hr_node *config, hr_error *err) {
    const hr_node *cursor = NULL;
    for (const char *text; (text = hr_node_each_text(config, "secret", &cursor)) != NULL;) {
        if (text[0] == 0 || keys->secret_count == HR_KEYS_MAX) {
            return hr_fail(err, HR_E_CONFIG, 0, "secret: %s",
                           text[0] == 0 ? "is empty" : "more than 16 secrets");
        }
        keys->secret[keys->secret_count++] = hr_copy_text(text);
    }
    cursor = NULL;
    for (const char *text; (text = hr_node_each_text(config, "token", &cursor)) != NULL;) {
        if (text[0] == 0 || keys->token_count == HR_KEYS_MAX) {
            return hr_fail(err, HR_E_CONFIG, 0, "token: %s",
                           text[0] == 0 ? "is empty" : "more than 16 tokens");
        }
        const char *token = strncasecmp(text, "bearer ", 7) == 0 ? text + 7 : text;
        hr_digest_sha256(hr_slice_text(token), keys->token[keys->token_count++]);
    }
    keys->is_insecure = hr_node_number(config, "insecure", 0) != 0;
    if (keys->secret_count == 0 && keys->token_count == 0 && !keys->is_insecure) {
        return hr_fail(err, HR_E_CONFIG, 0,
                       "no secret and no token: anybody could send; write `insecure: true` if that "
                       "is meant");
    }
    return HR_OK;
}

void hr_sign(const char *secret, hr_slice body, uint8_t out[HR_DIGEST]) {
    hr_digest_hmac_sha256(hr_slice_text(secret), body, out);
}

static int hex_digit(uint8_t c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool read_signature(hr_slice text, uint8_t out[HR_DIGEST]) {
    enum { PREFIX = 7 };
    if (text.size != PREFIX + 2 * HR_DIGEST || memcmp(text.bytes, "sha256=", PREFIX) != 0) {
        return false;
    }
    for (size_t i = 0; i < HR_DIGEST; i++) {
        int high = hex_digit(text.bytes[PREFIX + 2 * i]);
        int low = hex_digit(text.bytes[PREFIX + 2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool is_signed(const hr_keys *keys, hr_slice signature, hr_slice body) {
    uint8_t given[HR_DIGEST], made[HR_DIGEST];
    if (!read_signature(signature, given)) {
        return false;
    }
    unsigned found = 0;
    for (size_t i = 0; i < keys->secret_count; i++) { /* all of them, whichever fits */
        hr_sign(keys->secret[i], body, made);
        found |= hr_digest_equal(given, made, HR_DIGEST);
    }
    return found != 0;
}

static bool has_token(const hr_keys *keys, hr_slice authorization, bool allows_bare) {
    enum { SCHEME = 7 };
    hr_slice token = authorization;
    bool has_scheme =
        token.size > SCHEME && strncasecmp((const char *)token.bytes, "bearer ", SCHEME) == 0;
    if (has_scheme) {
        token = hr_slice_of(token.bytes + SCHEME, token.size - SCHEME);
    } else if (!allows_bare) {
        return false;
    }
    uint8_t digest[HR_DIGEST];
    hr_digest_sha256(token, digest);
    unsigned found = 0;
    for (size_t i = 0; i < keys->token_count; i++) {
        found |= hr_digest_equal(digest, keys->token[i], HR_DIGEST);
    }
    return found != 0;
}

const char *hr_keys_check(const hr_keys *keys, const hr_proof *proof) {
    if (keys->token_count > 0) {
        if (proof->authorization.size == 0) {
            return "the Authorization header is missing";
        }
        if (!has_token(keys, proof->authorization, proof->allows_bare_token)) {
            return "the token is wrong";
        }
    }
    if (keys->secret_count > 0) {
        if (proof->signature.size == 0) {
            return "the signature is missing";
        }
        if (proof->is_cut || !is_signed(keys, proof->signature, proof->body)) {
            return "the signature is wrong";
        }
    }
    if (keys->token_count == 0 && keys->secret_count == 0 && !keys->is_insecure) {
        return "no secret is set";
    }
    return NULL;
}

void hr_keys_fini(hr_keys *keys) {
    for (size_t i = 0; i < keys->secret_count; i++) {
        explicit_bzero(keys->secret[i], strlen(keys->secret[i]));
        hr_free(keys->secret[i]);
    }
    explicit_bzero(keys, sizeof *keys);
}
