/* SPDX-License-Identifier: Apache-2.0 */
/* Kafka records. First byte: the format; lines: key, headers "name: value", an empty one, then the
 * value. A packed event equals its view. */
#include "tests/fuzz/fuzz.h"
#include "triggers/kafka_record.h"

enum { HEADERS = 80 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static hr_kafka_packer packer;
    static hr_kafka_origin origin;
    if (size == 0) {
        return 0;
    }
    if (origin.topic == NULL) {
        hr_kafka_origin_init(&origin, "in", "orders", 3);
    }
    hr_kafka_header headers[HEADERS];
    hr_slice rest = hr_slice_of(bytes + 1, size - 1);
    hr_kafka_record record = {.offset = 42, .time_ms = bytes[0] & 4 ? 0 : 1700000000123};
    record.key = fuzz_line(&rest);
    record.headers = headers;
    for (hr_slice line = fuzz_line(&rest); line.size > 0; line = fuzz_line(&rest)) {
        const uint8_t *colon = memchr(line.bytes, ':', line.size);
        if (colon != NULL && record.header_count < HEADERS) {
            size_t name = (size_t)(colon - line.bytes);
            headers[record.header_count++] =
                (hr_kafka_header){.name = hr_slice_of(line.bytes, name),
                                  .value = hr_slice_of(colon + 1, line.size - name - 1)};
        }
    }
    record.value = rest;
    record.has_key = record.key.size > 0;
    record.has_value = rest.size > 0 || (bytes[0] & 8) != 0;
    static const hr_kafka_format FORMATS[] = {HR_KAFKA_AUTO, HR_KAFKA_AUTO, HR_KAFKA_RAW,
                                              HR_KAFKA_JSON};
    packer.format = FORMATS[bytes[0] & 3];
    hr_builder builder = {0};
    hr_error err = {0};
    hr_code code = hr_kafka_pack(&packer, &origin, &record, 43, &builder, &err);
    FUZZ_CHECK(builder.count == (code == HR_OK));
    if (code == HR_OK) {
        const hr_view *kept = &builder.view[0];
        hr_view view;
        FUZZ_CHECK(kept->size == builder.bytes.size && builder.position[0] == 43);
        FUZZ_CHECK(hr_envelope_view(builder.bytes.bytes, kept->at, kept->size, &view, &err) ==
                   HR_OK);
        FUZZ_CHECK(view.id_at == kept->id_at && view.id_size == kept->id_size);
        FUZZ_CHECK(view.source_at == kept->source_at && view.type_at == kept->type_at);
        FUZZ_CHECK(view.key_size == kept->key_size && view.key_hash == kept->key_hash);
        FUZZ_CHECK(view.data_size == kept->data_size && view.flags == kept->flags);
        FUZZ_CHECK(view.data_size == 0 || view.data_at == kept->data_at);
    } else {
        FUZZ_CHECK(code == HR_E_MALFORMED && err.text[0] != '\0');
    }
    hr_builder_fini(&builder);
    return 0;
}
