/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures and tokens. Lines: keys as "secret=a token=b insecure", signature, authorization, then
 * the body. Only the right ones open. */
#include "core/memory.h"
#include "tests/fuzz/fuzz.h"
#include "triggers/webhook_sign.h"

#include <stdio.h>

/* The map of settings that the words name; lists where a key comes again. Owned by the caller. */
static hr_node *settings_of(hr_slice line) {
    hr_node *map = hr_node_add(NULL, HR_NODE_MAP, NULL);
    hr_node *secrets = NULL, *tokens = NULL;
    const uint8_t *at = line.bytes, *end = line.bytes + line.size;
    while (at < end) {
        const uint8_t *stop = memchr(at, ' ', (size_t)(end - at));
        stop = stop == NULL ? end : stop;
        char *word = hr_copy_bytes(at, (size_t)(stop - at));
        if (strncmp(word, "secret=", 7) == 0) {
            secrets = secrets == NULL ? hr_node_add(map, HR_NODE_LIST, "secret") : secrets;
            (void)hr_node_add_text(secrets, NULL, word + 7, 0);
        } else if (strncmp(word, "token=", 6) == 0) {
            tokens = tokens == NULL ? hr_node_add(map, HR_NODE_LIST, "token") : tokens;
            (void)hr_node_add_text(tokens, NULL, word + 6, 0);
        } else if (strcmp(word, "insecure") == 0 && hr_node_get(map, "insecure") == NULL) {
            (void)hr_node_add_text(map, "insecure", "true", 1);
        }
        hr_free(word);
        at = stop == end ? end : stop + 1;
    }
    return map;
}

/* "sha256=" and the digest of the body under the secret. */
static void print_signature(const char *secret, hr_slice body, char *out) {
    uint8_t digest[HR_DIGEST];
    hr_sign(secret, body, digest);
    memcpy(out, "sha256=", 8);
    for (size_t i = 0; i < HR_DIGEST; i++) {
        (void)snprintf(out + 7 + 2 * i, 3, "%02x", digest[i]);
    }
}

static bool is_right_signature(const hr_keys *keys, const hr_proof *proof) {
    char right[8 + 2 * HR_DIGEST], low[8 + 2 * HR_DIGEST] = {0};
    if (proof->is_cut || proof->signature.size != sizeof right - 1) {
        return false;
    }
    for (size_t i = 0; i < sizeof right - 1; i++) {
        uint8_t c = proof->signature.bytes[i];
        low[i] = (char)(i >= 7 && c >= 'A' && c <= 'F' ? c + 32 : c);
    }
    bool is_right = false;
    for (size_t i = 0; i < keys->secret_count; i++) {
        print_signature(keys->secret[i], proof->body, right);
        is_right = is_right || strcmp(low, right) == 0;
    }
    return is_right;
}

static bool ends_with_token(hr_slice settings, hr_slice said) {
    hr_node *map = settings_of(settings);
    const hr_node *cursor = NULL;
    bool is_there = false;
    for (const char *text; (text = hr_node_each_text(map, "token", &cursor)) != NULL;) {
        size_t size = strlen(text);
        is_there = is_there ||
                   (said.size >= size && memcmp(said.bytes + said.size - size, text, size) == 0);
    }
    hr_node_free(map);
    return is_there;
}

static void check(const hr_keys *keys, hr_slice settings, hr_proof proof) {
    bool is_open = hr_keys_check(keys, &proof) == NULL;
    if (is_open && keys->secret_count > 0) {
        FUZZ_CHECK(is_right_signature(keys, &proof));
    }
    if (is_open && keys->token_count > 0) {
        FUZZ_CHECK(ends_with_token(settings, proof.authorization));
    }
    if (keys->secret_count == 0) {
        FUZZ_CHECK(is_open || keys->token_count > 0);
        return;
    }
    char right[8 + 2 * HR_DIGEST];
    print_signature(keys->secret[keys->secret_count - 1], proof.body, right);
    proof.signature = hr_slice_text(right);
    FUZZ_CHECK(hr_keys_check(keys, &proof) == NULL || keys->token_count > 0);
    proof.is_cut = true;
    FUZZ_CHECK(hr_keys_check(keys, &proof) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    hr_slice rest = hr_slice_of(bytes, size);
    hr_slice settings = fuzz_line(&rest);
    if (settings.size > 0 && memchr(settings.bytes, 0, settings.size) != NULL) {
        return 0;
    }
    hr_proof proof = {.allows_bare_token = size % 2 == 0};
    proof.signature = fuzz_line(&rest);
    proof.authorization = fuzz_line(&rest);
    proof.body = rest;
    const hr_keys none = {0};
    FUZZ_CHECK(hr_keys_check(&none, &proof) != NULL);
    hr_node *map = settings_of(settings);
    hr_keys keys = {0};
    hr_error err = {0};
    if (hr_keys_init(&keys, map, &err) == HR_OK) {
        check(&keys, settings, proof);
    } else {
        FUZZ_CHECK(err.code == HR_E_CONFIG && err.text[0] != '\0');
    }
    hr_keys_fini(&keys);
    hr_node_free(map);
    return 0;
}
