/* SPDX-License-Identifier: Apache-2.0 */
#include "core/buffer.h"

#include "core/error.h"
#include "core/memory.h"

#include <stdarg.h>
#include <stdio.h>

uint8_t *hr_buffer_room(hr_buffer *buffer, size_t more) {
    if (buffer->bytes == NULL || buffer->capacity - buffer->size < more) {
        size_t capacity = buffer->capacity < 256 ? 256 : buffer->capacity * 2;
        if (capacity < buffer->size + more) {
            capacity = buffer->size + more;
        }
        buffer->bytes = hr_realloc(buffer->bytes, capacity);
        buffer->capacity = capacity;
    }
    return buffer->bytes + buffer->size;
}

void hr_buffer_add(hr_buffer *buffer, const void *bytes, size_t size) {
    if (size == 0) {
        return;
    }
    memcpy(hr_buffer_room(buffer, size), bytes, size);
    buffer->size += size;
}

void hr_buffer_add_number(hr_buffer *buffer, uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    hr_buffer_add(buffer, digits + at, sizeof digits - at);
}

void hr_buffer_print(hr_buffer *buffer, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    HR_ASSERT(size >= 0);
    uint8_t *room = hr_buffer_room(buffer, (size_t)size + 1);
    vsnprintf((char *)room, (size_t)size + 1, format, again);
    va_end(again);
    buffer->size += (size_t)size;
}

const char *hr_buffer_text(hr_buffer *buffer) {
    *hr_buffer_room(buffer, 1) = 0;
    return (const char *)buffer->bytes;
}

void hr_buffer_consume(hr_buffer *buffer, size_t count) {
    HR_ASSERT(count <= buffer->size);
    if (count > 0 && count < buffer->size) {
        memmove(buffer->bytes, buffer->bytes + count, buffer->size - count);
    }
    buffer->size -= count;
}

void hr_buffer_fini(hr_buffer *buffer) {
    hr_free(buffer->bytes);
    *buffer = (hr_buffer){0};
}
