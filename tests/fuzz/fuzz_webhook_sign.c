/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures and tokens. Lines: signature, authorization, then the body. Only the right ones open.
 */
#include "tests/fuzz/fuzz.h"
#include "triggers/webhook_sign.h"

#include <stdio.h>

static hr_keys sign_keys, token_keys;

static void make(hr_keys *keys, const char *key, const char *value) {
    hr_error err = {0};
    hr_node *map = hr_node_add(NULL, HR_NODE_MAP, NULL);
    (void)hr_node_add_text(map, key, value, 0);
    FUZZ_CHECK(hr_keys_init(keys, map, &err) == HR_OK);
    hr_node_free(map);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (sign_keys.secret_count == 0) {
        make(&sign_keys, "secret", "s3cret");
        make(&token_keys, "token", "t0ken");
    }
    hr_slice rest = hr_slice_of(bytes, size);
    hr_proof proof = {.allows_bare_token = size % 2 == 0};
    proof.signature = fuzz_line(&rest);
    proof.authorization = fuzz_line(&rest);
    proof.body = rest;
    uint8_t digest[HR_DIGEST];
    char right[8 + 2 * HR_DIGEST] = "sha256=";
    hr_sign("s3cret", proof.body, digest);
    for (size_t i = 0; i < HR_DIGEST; i++) {
        (void)snprintf(right + 7 + 2 * i, 3, "%02x", digest[i]);
    }
    const hr_keys none = {0};
    FUZZ_CHECK(hr_keys_check(&none, &proof) != NULL);
    if (hr_keys_check(&sign_keys, &proof) == NULL) {
        FUZZ_CHECK(proof.signature.size == strlen(right));
        char low[sizeof right] = {0};
        for (size_t i = 0; i < proof.signature.size; i++) {
            uint8_t c = proof.signature.bytes[i];
            low[i] = (char)(c >= 'A' && c <= 'F' ? c + 32 : c);
        }
        FUZZ_CHECK(strcmp(low, right) == 0);
    }
    if (hr_keys_check(&token_keys, &proof) == NULL) {
        hr_slice said = proof.authorization;
        FUZZ_CHECK(said.size >= 5 && memcmp(said.bytes + said.size - 5, "t0ken", 5) == 0);
    }
    proof.is_cut = true;
    FUZZ_CHECK(hr_keys_check(&sign_keys, &proof) != NULL);
    proof.is_cut = false;
    proof.signature = hr_slice_text(right);
    FUZZ_CHECK(hr_keys_check(&sign_keys, &proof) == NULL);
    return 0;
}
