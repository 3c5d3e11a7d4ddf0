/* SPDX-License-Identifier: Apache-2.0 */
/* What went wrong, in a value that never allocates. */
#ifndef HR_CORE_ERROR_H
#define HR_CORE_ERROR_H

typedef enum hr_code {
    HR_OK = 0,
#define HR_E(name, number, class, meaning) HR_E_##name = (number),
#include "schemas/errors.def"
#undef HR_E
} hr_code;

/* What a caller may do about it; the only thing policy code looks at. */
typedef enum hr_class {
    HR_CLASS_RETRY,
    HR_CLASS_PERMANENT,
    HR_CLASS_USAGE,
    HR_CLASS_FATAL
} hr_class;

#define HR_ERROR_TEXT_BYTES 400

typedef struct hr_error {
    hr_code code;                   /* HR_OK until a call fails */
    int sys;                        /* errno, UV_* or SQLITE_* beneath it; 0: none */
    char text[HR_ERROR_TEXT_BYTES]; /* outermost context first: "open store 'a.db': disk full" */
} hr_error;

/* Fills *err and returns code, so that a failing function ends in one line.
 * err: may be NULL, then only the code survives.  Thread: any.  Never allocates. */
hr_code hr_fail(hr_error *err, hr_code code, int sys, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "context: " before err->text and returns err->code.  Thread: any. */
hr_code hr_wrap(hr_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The class and the meaning of a code. Total: an unknown code is HR_CLASS_FATAL, "unknown".
 * Thread: any. */
hr_class hr_code_class(hr_code code);
const char *hr_code_meaning(hr_code code);

/* What nothing works without was refused (memory, descriptors): one line, "headrace: ...;
 * stopping." with what to do, and exit status 1. A restart loses nothing, as nothing acknowledged
 * lives in memory only.  Thread: any.  Never allocates. */
_Noreturn void hr_give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Programmer errors stop the process, in release too: prints place and condition, then abort(). */
_Noreturn void hr_assert_failed(const char *file, int line, const char *condition);
#define HR_ASSERT(condition)                                                                       \
    ((condition) ? (void)0 : hr_assert_failed(__FILE__, __LINE__, #condition))

#endif
