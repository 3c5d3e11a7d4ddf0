/* SPDX-License-Identifier: Apache-2.0 */
#include "core/memory.h"

#include "core/error.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void out_of_memory(size_t size) {
    hr_give_up("out of memory (%zu bytes asked)", size);
}

void *hr_alloc(size_t size) {
    void *memory = calloc(1, size == 0 ? 1 : size);
    if (memory == NULL) {
        out_of_memory(size);
    }
    return memory;
}

void *hr_alloc_array(size_t count, size_t size) {
    if (size != 0 && count > SIZE_MAX / size) {
        out_of_memory(SIZE_MAX);
    }
    return hr_alloc(count * size);
}

void *hr_realloc(void *take_memory, size_t size) {
    void *memory = realloc(take_memory, size == 0 ? 1 : size);
    if (memory == NULL) {
        out_of_memory(size);
    }
    return memory;
}

char *hr_copy_bytes(const void *bytes, size_t size) {
    char *copy = hr_alloc(size + 1);
    if (size > 0) {
        memcpy(copy, bytes, size);
    }
    return copy;
}

char *hr_copy_text(const char *text) {
    return text == NULL ? NULL : hr_copy_bytes(text, strlen(text));
}

char *hr_format(const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int size = vasprintf(&text, format, args);
    va_end(args);
    if (size < 0) {
        out_of_memory(0);
    }
    return text;
}

void hr_require(const void *made) {
    if (made == NULL) {
        hr_give_up("out of memory (in a library)");
    }
}

void hr_free(void *take_memory) {
    free(take_memory);
}
