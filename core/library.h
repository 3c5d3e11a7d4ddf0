/* SPDX-License-Identifier: Apache-2.0 */
/* A shared library that only some configurations use: it is loaded when it is first asked for, so
 * that the others start without it and hold none of its memory.
 *
 * Its functions are called through a table of pointers that bear the functions' own names and have
 * the types of their own prototypes. Names and members come from one list:
 *
 *     #define HR_PAHO_FUNCTIONS(X) X(MQTTAsync_connect) X(MQTTAsync_subscribe)
 *
 *     typedef struct hr_paho {
 *         HR_PAHO_FUNCTIONS(HR_LIBRARY_MEMBER)
 *     } hr_paho;
 *
 *     static const char *const names[] = {HR_PAHO_FUNCTIONS(HR_LIBRARY_NAME)};
 *
 * so that paho.MQTTAsync_connect(...) is checked by the compiler as the plain call would be. */
#ifndef HR_CORE_LIBRARY_H
#define HR_CORE_LIBRARY_H

#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>

#define HR_LIBRARY_MEMBER(function) __typeof__(function) *(function);
#define HR_LIBRARY_NAME(function)   #function,

typedef struct hr_library {
    const char *soname;       /* "librdkafka.so.1": as the linker would have noted it */
    const char *used_by;      /* "kafka triggers and functions", for the error */
    const char *const *names; /* of functions; those of libraries it brings along too */
    size_t count;             /* of names */
    void *table;              /* as many pointers to functions, in the same order */
    bool is_loaded;           /* hr_library_load() has filled the table */
} hr_library;

/* Loads the library, once, and fills the table; it stays until the process ends.
 * Errors: HR_E_UNSUPPORTED names the library, who uses it, and what is missing; it is tried anew at
 * the next call.  Thread: any. */
hr_code hr_library_load(hr_library *library, hr_error *err);

#endif
