/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/webhook_sign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static hr_node *config_of(const char *key, const char *const *values) {
    hr_node *map = hr_node_add(NULL, HR_NODE_MAP, NULL);
    hr_node *list = hr_node_add(map, HR_NODE_LIST, key);
    for (; *values != NULL; values++) {
        hr_node_add_text(list, NULL, *values, 0);
    }
    return map;
}

/* RFC 4231, test case 2, and the example of GitHub's documentation. */
static void signatures_are_those_of_the_published_vectors(void **state) {
    (void)state;
    const struct {
        const char *secret, *body, *hex;
    } vectors[] = {
        {"Jefe", "what do ya want for nothing?",
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {"It's a Secret to Everybody", "Hello, World!",
         "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint8_t digest[HR_DIGEST];
        char hex[2 * HR_DIGEST + 1];

        hr_sign(vectors[i].secret, hr_slice_text(vectors[i].body), digest);

        for (size_t k = 0; k < HR_DIGEST; k++) {
            snprintf(hex + 2 * k, 3, "%02x", (unsigned)digest[k]);
        }
        assert_string_equal(hex, vectors[i].hex);
    }
}

static void only_the_right_signature_lets_in(void **state) {
    (void)state;
    const char *const secrets[] = {"new", "It's a Secret to Everybody", NULL};
    hr_node *config = config_of("secret", secrets);
    hr_keys keys = {0};
    hr_error err = {0};
    assert_int_equal(hr_keys_init(&keys, config, &err), HR_OK);
    const char *right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    const struct {
        const char *signature, *body;
        bool is_right;
    } cases[] = {
        {right, "Hello, World!", true},
        {"sha256=757107EA0EB2509FC211221CCE984B8A37570B6D7586C22C46F4379C8B043E17", "Hello, World!",
         true},
        {right, "Hello, World?", false},
        {right, "", false},
        {right + 7, "Hello, World!", false},
        {"sha256=", "Hello, World!", false},
        {"", "Hello, World!", false},
        {"sha1=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "Hello, World!",
         false},
        {"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e18", "Hello, World!",
         false},
        {"sha256=zz7107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "Hello, World!",
         false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hr_proof proof = {.signature = hr_slice_text(cases[i].signature),
                          .body = hr_slice_text(cases[i].body)};
        assert_int_equal(hr_keys_check(&keys, &proof) == NULL, cases[i].is_right);
    }
    hr_proof cut = {
        .signature = hr_slice_text(right), .body = hr_slice_text("Hello, World!"), .is_cut = true};
    assert_non_null(hr_keys_check(&keys, &cut));
    hr_keys_fini(&keys);
    hr_node_free(config);
}

static void only_the_right_token_lets_in(void **state) {
    (void)state;
    const char *const tokens[] = {"first", "Bearer second", NULL};
    hr_node *config = config_of("token", tokens);
    hr_keys keys = {0};
    hr_error err = {0};
    assert_int_equal(hr_keys_init(&keys, config, &err), HR_OK);
    const struct {
        const char *authorization;
        bool bare, is_right;
    } cases[] = {
        {"Bearer first", false, true},  {"bearer second", false, true},
        {"first", false, false},        {"first", true, true},
        {"Bearer third", false, false}, {"third", true, false},
        {"Bearer ", true, false},       {"", true, false},
        {"Bearer firs", true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hr_proof proof = {.authorization = hr_slice_text(cases[i].authorization),
                          .allows_bare_token = cases[i].bare};
        assert_int_equal(hr_keys_check(&keys, &proof) == NULL, cases[i].is_right);
    }
    hr_keys_fini(&keys);
    hr_node_free(config);
}

static void without_keys_only_insecure_is_accepted(void **state) {
    (void)state;
    hr_node *config = hr_node_add(NULL, HR_NODE_MAP, NULL);
    hr_keys keys = {0};
    hr_error err = {0};
    hr_proof nothing = {.allows_bare_token = true};

    assert_non_null(hr_keys_check(&keys, &nothing));
    assert_int_equal(hr_keys_init(&keys, config, &err), HR_E_CONFIG);
    assert_non_null(strstr(err.text, "insecure: true"));
    hr_node_add_text(config, "insecure", "true", 1);
    assert_int_equal(hr_keys_init(&keys, config, &err), HR_OK);
    assert_null(hr_keys_check(&keys, &nothing));
    hr_keys_fini(&keys);
    hr_node_free(config);
}

static void an_empty_secret_is_an_error(void **state) {
    (void)state;
    const char *const empty[] = {"", NULL};
    const char *const names[] = {"secret", "token"};
    for (size_t i = 0; i < 2; i++) {
        hr_node *config = config_of(names[i], empty);
        hr_keys keys = {0};
        hr_error err = {0};
        assert_int_equal(hr_keys_init(&keys, config, &err), HR_E_CONFIG);
        hr_keys_fini(&keys);
        hr_node_free(config);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_are_those_of_the_published_vectors),
        cmocka_unit_test(only_the_right_signature_lets_in),
        cmocka_unit_test(only_the_right_token_lets_in),
        cmocka_unit_test(without_keys_only_insecure_is_accepted),
        cmocka_unit_test(an_empty_secret_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
