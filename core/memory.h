/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation. Running out of memory stops the process with one clear line: nothing that was
 * acknowledged lives in memory only, so a restart loses nothing and no caller needs a path for it.
 */
#ifndef HR_CORE_MEMORY_H
#define HR_CORE_MEMORY_H

#include <stddef.h>

/* size zeroed bytes, never NULL; free with hr_free().  Thread: any. */
void *hr_alloc(size_t size);

/* count zeroed objects of size bytes; stops the process when the product overflows.  Thread: any.
 */
void *hr_alloc_array(size_t count, size_t size);

/* Grows or shrinks; new bytes are not zeroed.  Thread: any. */
void *hr_realloc(void *take_memory, size_t size);

/* A terminated copy of a C string (NULL gives NULL), or of size bytes.  Thread: any. */
char *hr_copy_text(const char *text);
char *hr_copy_bytes(const void *bytes, size_t size);

/* printf into a fresh string owned by the caller.  Thread: any. */
char *hr_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* For what a library made: NULL is taken for its want of memory and stops the process, as
 * hr_alloc() does. Libraries that can be given an allocator are given these functions.  Thread:
 * any. */
void hr_require(const void *made);

/* NULL is allowed.  Thread: any. */
void hr_free(void *take_memory);

#endif
