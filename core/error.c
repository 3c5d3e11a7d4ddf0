/* SPDX-License-Identifier: Apache-2.0 */
#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

hr_code hr_fail(hr_error *err, hr_code code, int sys, const char *format, ...) {
    if (err != NULL) {
        err->code = code;
        err->sys = sys;
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return code;
}

hr_code hr_wrap(hr_error *err, const char *format, ...) {
    char inner[HR_ERROR_TEXT_BYTES];
    if (err == NULL) {
        return HR_E_INVALID;
    }
    memcpy(inner, err->text, sizeof inner);
    inner[sizeof inner - 1] = '\0';
    va_list args;
    va_start(args, format);
    int used = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof err->text) {
        snprintf(err->text + used, sizeof err->text - (size_t)used, ": %.*s",
                 (int)(sizeof err->text - (size_t)used), inner);
    }
    return err->code;
}

hr_class hr_code_class(hr_code code) {
    switch (code) {
#define HR_E(name, number, class, meaning)                                                         \
    case HR_E_##name:                                                                              \
        return HR_CLASS_##class;
#include "schemas/errors.def"
#undef HR_E
    case HR_OK:
        return HR_CLASS_USAGE;
    }
    return HR_CLASS_FATAL;
}

const char *hr_code_meaning(hr_code code) {
    switch (code) {
#define HR_E(name, number, class, meaning)                                                         \
    case HR_E_##name:                                                                              \
        return meaning;
#include "schemas/errors.def"
#undef HR_E
    case HR_OK:
        return "ok";
    }
    return "unknown";
}

_Noreturn void hr_give_up(const char *format, ...) {
    static const char end[] = "; stopping. Nothing acknowledged is lost, start again.\n";
    char line[HR_ERROR_TEXT_BYTES + sizeof end] = "headrace: ";
    size_t size = strlen(line);
    va_list args;
    va_start(args, format);
    vsnprintf(line + size, HR_ERROR_TEXT_BYTES - size, format, args);
    va_end(args);
    size = strlen(line);
    memcpy(line + size, end, sizeof end);
    ssize_t wrote = write(STDERR_FILENO, line, size + sizeof end - 1);
    _exit(wrote < 0 ? 2 : 1);
}

_Noreturn void hr_assert_failed(const char *file, int line, const char *condition) {
    fprintf(stderr, "headrace: %s:%d: this must hold and does not: %s\n", file, line, condition);
    abort();
}
