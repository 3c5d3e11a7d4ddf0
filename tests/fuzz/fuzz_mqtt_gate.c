/* SPDX-License-Identifier: Apache-2.0 */
/* The MQTT ack gate. First byte h: the head of a proxy request, read in pieces as whole; else steps
 * of what it holds: no byte passes before what it needs is durable, all pass then. */
#include "net/mqtt_gate_bytes.h"
#include "tests/fuzz/fuzz.h"

static const char RIGHT[] = "aGVhZHJhY2U6czNjcmV0";

static void read_head(hr_slice bytes) {
    hr_gate_head whole = hr_gate_head_read(bytes, RIGHT);
    FUZZ_CHECK(whole != HR_GATE_HEAD_MORE || bytes.size < HR_GATE_HEAD_MAX);
    if (whole == HR_GATE_HEAD_OURS) {
        FUZZ_CHECK(bytes.size > 8 && memcmp(bytes.bytes, "CONNECT ", 8) == 0);
        FUZZ_CHECK(memmem(bytes.bytes, bytes.size, RIGHT, sizeof RIGHT - 1) != NULL);
    }
    hr_gate_head said = HR_GATE_HEAD_MORE; /* a byte at a time, as far as the gate would read */
    size_t size = 0;
    while (size < bytes.size && said == HR_GATE_HEAD_MORE) {
        said = hr_gate_head_read(hr_slice_of(bytes.bytes, ++size), RIGHT);
    }
    FUZZ_CHECK(said == whole);
    FUZZ_CHECK(said != HR_GATE_HEAD_OURS ||
               hr_gate_head_read(bytes, "another") == HR_GATE_HEAD_FOREIGN);
}

enum { BYTES = 1 << 16 };

typedef struct model { /* what each byte needs */
    uint64_t need[BYTES];
    size_t sent, passable, kept;
} model;

static void hold(hr_slice steps) {
    static model all; /* not cleared: only what was kept is looked at */
    model *wanted = &all;
    wanted->sent = wanted->passable = wanted->kept = 0;
    hr_gate_held held = {0};
    uint64_t taken = 0, safe = 0, now_ns = 0;
    for (size_t i = 0; i + 1 < steps.size; i += 2) {
        size_t much = steps.bytes[i + 1];
        switch (steps.bytes[i] % 4) {
        case 0: /* bytes came */
            taken += much >> 6;
            much = 1 + (much & 63);
            if (wanted->kept + much > BYTES) {
                break;
            }
            hr_gate_held_add(&held, much, taken, ++now_ns);
            for (size_t k = 0; k < much; k++) {
                wanted->need[wanted->kept++] = taken;
            }
            break;
        case 1: /* a commit: never beyond what was taken */
            safe = safe + much < taken ? safe + much : taken;
            hr_gate_held_release(&held, safe);
            while (wanted->passable < wanted->kept && wanted->need[wanted->passable] <= safe) {
                wanted->passable++;
            }
            break;
        case 2: /* the broker's socket takes some */
            much = much < held.passable ? much : held.passable;
            hr_gate_held_sent(&held, much);
            wanted->sent += much;
            break;
        default: /* the connection ends */
            hr_gate_held_clear(&held);
            wanted->sent = wanted->passable = wanted->kept;
            break;
        }
        FUZZ_CHECK(held.passable == wanted->passable - wanted->sent);
        FUZZ_CHECK((hr_gate_held_since(&held) != 0) == (wanted->passable < wanted->kept));
        FUZZ_CHECK(hr_gate_held_since(&held) <= now_ns);
    }
    hr_gate_held_release(&held, taken);
    FUZZ_CHECK(held.passable == wanted->kept - wanted->sent && hr_gate_held_since(&held) == 0);
    hr_gate_held_fini(&held);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size == 0) {
        return 0;
    }
    hr_slice rest = hr_slice_of(bytes + 1, size - 1);
    if (bytes[0] == 'h') {
        read_head(rest);
    } else {
        hold(rest);
    }
    return 0;
}
