/* SPDX-License-Identifier: Apache-2.0 */
#include "net/digest.h"

#include "core/library.h"
#include "core/memory.h"

#include <gnutls/crypto.h>

#define HR_GNUTLS_FUNCTIONS(X) X(gnutls_hash_fast) X(gnutls_hmac_fast) X(gnutls_memcmp)

static struct { HR_GNUTLS_FUNCTIONS(HR_LIBRARY_MEMBER) } gnutls;

static const char *const names[] = {HR_GNUTLS_FUNCTIONS(HR_LIBRARY_NAME)};

hr_code hr_digest_load(hr_error *err) {
    static hr_library library = {.soname = HR_GNUTLS_SONAME,
                                 .used_by = "signatures and tokens",
                                 .names = names,
                                 .count = sizeof names / sizeof *names,
                                 .table = &gnutls};
    return hr_library_load(&library, err);
}

static void require(void) {
    hr_error err = {0};
    if (hr_digest_load(&err) != HR_OK) {
        hr_give_up("%s", err.text);
    }
}

/* The library does not take a NULL of no bytes everywhere. */
static const void *start_of(hr_slice bytes) {
    return bytes.size == 0 ? "" : (const void *)bytes.bytes;
}

void hr_digest_sha256(hr_slice bytes, uint8_t out[HR_DIGEST]) {
    require();
    HR_ASSERT(gnutls.gnutls_hash_fast(GNUTLS_DIG_SHA256, start_of(bytes), bytes.size, out) == 0);
}

void hr_digest_hmac_sha256(hr_slice key, hr_slice bytes, uint8_t out[HR_DIGEST]) {
    require();
    HR_ASSERT(gnutls.gnutls_hmac_fast(GNUTLS_MAC_SHA256, start_of(key), key.size, start_of(bytes),
                                      bytes.size, out) == 0);
}

bool hr_digest_equal(const void *a, const void *b, size_t size) {
    require();
    return gnutls.gnutls_memcmp(a, b, size) == 0;
}
