/* SPDX-License-Identifier: Apache-2.0 */
/* Owned, growing bytes. No pointer into a buffer survives a call that grows it: keep offsets. */
#ifndef HR_CORE_BUFFER_H
#define HR_CORE_BUFFER_H

#include "core/slice.h"

/* Zeroed is empty and ready. */
typedef struct hr_buffer {
    uint8_t *bytes;
    size_t size, capacity; /* bytes */
} hr_buffer;

/* Makes room for more bytes after size and returns where they go; size is not moved.  Thread: one.
 */
uint8_t *hr_buffer_room(hr_buffer *buffer, size_t more);

/* Appends bytes.  Thread: one. */
void hr_buffer_add(hr_buffer *buffer, const void *bytes, size_t size);
static inline void hr_buffer_add_slice(hr_buffer *buffer, hr_slice slice) {
    hr_buffer_add(buffer, slice.bytes, slice.size);
}

/* Appends a C string.  Thread: one. */
static inline void hr_buffer_add_text(hr_buffer *buffer, const char *text) {
    hr_buffer_add(buffer, text, strlen(text));
}

/* The number in decimal, as printf's %llu, at a tenth of its price.  Thread: one. */
void hr_buffer_add_number(hr_buffer *buffer, uint64_t number);

/* printf appended, without a terminator.  Thread: one. */
void hr_buffer_print(hr_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Puts a zero after the bytes (not counted) and returns them as a C string, valid until the next
 * call on the buffer.  Thread: one. */
const char *hr_buffer_text(hr_buffer *buffer);

/* Drops count bytes from the front.  Thread: one. */
void hr_buffer_consume(hr_buffer *buffer, size_t count);

/* Frees; the buffer is empty and ready again.  Thread: one. */
void hr_buffer_fini(hr_buffer *buffer);

#endif
