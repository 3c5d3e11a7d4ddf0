/* SPDX-License-Identifier: Apache-2.0 */
#include "app/config_diag.h"

#include "core/json_text.h"
#include "core/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { NOTES_MAX = 8, SHOWN_BYTES = 160 /* bytes shown of a line */ };

struct hr_diagnostic {
    bool is_warning;
    int file_order, order;
    hr_place place, also;
    char *file, *also_file, *also_label;
    char *text, *label;
    char *note[NOTES_MAX];
    size_t note_count;
};

typedef struct source {
    char *path;
    char *text;
    size_t size;
} source;

struct hr_diagnostics {
    source *files;
    size_t file_count;
    hr_diagnostic **items;
    size_t count, errors, warnings;
    hr_diagnostic overflow; /* takes what is too much */
};

hr_diagnostics *hr_diagnostics_new(void) {
    return hr_alloc(sizeof(hr_diagnostics));
}

static void clear(hr_diagnostic *item) {
    hr_free(item->file);
    hr_free(item->also_file);
    hr_free(item->also_label);
    hr_free(item->text);
    hr_free(item->label);
    for (size_t i = 0; i < item->note_count; i++) {
        hr_free(item->note[i]);
    }
    *item = (hr_diagnostic){0};
}

void hr_diagnostics_free(hr_diagnostics *take_diags) {
    if (take_diags == NULL) {
        return;
    }
    for (size_t i = 0; i < take_diags->count; i++) {
        clear(take_diags->items[i]);
        hr_free(take_diags->items[i]);
    }
    for (size_t i = 0; i < take_diags->file_count; i++) {
        hr_free(take_diags->files[i].path);
        hr_free(take_diags->files[i].text);
    }
    clear(&take_diags->overflow);
    hr_free(take_diags->items);
    hr_free(take_diags->files);
    hr_free(take_diags);
}

static int find_file(const hr_diagnostics *diags, const char *path) {
    for (size_t i = 0; path != NULL && i < diags->file_count; i++) {
        if (strcmp(diags->files[i].path, path) == 0) {
            return (int)i;
        }
    }
    return -1;
}

void hr_diagnostics_file(hr_diagnostics *diags, const char *path, hr_slice text) {
    if (find_file(diags, path) >= 0) {
        return;
    }
    diags->files = hr_realloc(diags->files, (diags->file_count + 1) * sizeof *diags->files);
    diags->files[diags->file_count++] = (source){.path = hr_copy_text(path),
                                                 .text = hr_copy_bytes(text.bytes, text.size),
                                                 .size = text.size};
}

hr_slice hr_diagnostics_text(const hr_diagnostics *diags, const char *path) {
    int index = find_file(diags, path);
    return index < 0 ? hr_slice_text(NULL)
                     : hr_slice_of(diags->files[index].text, diags->files[index].size);
}

static char *format_text(const char *format, va_list args) __attribute__((format(printf, 1, 0)));
static char *format_text(const char *format, va_list args) {
    char text[1024];
    /* The analyzer of clang 14 does not see that the caller started args. */
    (void)vsnprintf(text, sizeof text, format,
                    args); /* NOLINT(clang-analyzer-valist.Uninitialized) */
    return hr_copy_text(text);
}

static hr_diagnostic *add(hr_diagnostics *diags, hr_place place, bool is_warning, char *take_text) {
    diags->errors += is_warning ? 0 : 1;
    diags->warnings += is_warning ? 1 : 0;
    hr_diagnostic *item = &diags->overflow;
    if (diags->count == HR_DIAGNOSTICS_MAX) {
        clear(item);
    } else {
        item = hr_alloc(sizeof *item);
        diags->items = hr_realloc(diags->items, (diags->count + 1) * sizeof(hr_diagnostic *));
        item->order = (int)diags->count;
        diags->items[diags->count++] = item;
    }
    item->is_warning = is_warning;
    item->place = place;
    item->place.file = item->file = hr_copy_text(place.file);
    item->file_order = find_file(diags, place.file);
    item->text = take_text;
    return item;
}

hr_diagnostic *hr_diagnose(hr_diagnostics *diags, hr_place place, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    return add(diags, place, false, text);
}

hr_diagnostic *hr_diagnose_warning(hr_diagnostics *diags, hr_place place, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    return add(diags, place, true, text);
}

void hr_diagnostic_label(hr_diagnostic *diagnostic, const char *format, ...) {
    va_list args;
    va_start(args, format);
    hr_free(diagnostic->label);
    diagnostic->label = format_text(format, args);
    va_end(args);
}

void hr_diagnostic_note(hr_diagnostic *diagnostic, const char *format, ...) {
    if (diagnostic->note_count == NOTES_MAX) {
        return;
    }
    va_list args;
    va_start(args, format);
    diagnostic->note[diagnostic->note_count++] = format_text(format, args);
    va_end(args);
}

void hr_diagnostic_also(hr_diagnostic *diagnostic, hr_place place, const char *label) {
    hr_free(diagnostic->also_file);
    hr_free(diagnostic->also_label);
    diagnostic->also = place;
    diagnostic->also.file = diagnostic->also_file = hr_copy_text(place.file);
    diagnostic->also_label = hr_copy_text(label);
}

size_t hr_diagnostics_errors(const hr_diagnostics *diags) {
    return diags->errors;
}

size_t hr_diagnostics_warnings(const hr_diagnostics *diags) {
    return diags->warnings;
}

/* Line number line of a text, without its end. */
static hr_slice line_of(hr_slice text, int line) {
    const uint8_t *at = text.bytes;
    size_t left = text.size;
    for (int i = 1; i < line && left > 0; i++) {
        const uint8_t *end = memchr(at, '\n', left);
        if (end == NULL) {
            return hr_slice_text(NULL);
        }
        left -= (size_t)(end - at) + 1;
        at = end + 1;
    }
    const uint8_t *end = left == 0 ? NULL : memchr(at, '\n', left);
    size_t size = end == NULL ? left : (size_t)(end - at);
    return hr_slice_of(at, size > 0 && at[size - 1] == '\r' ? size - 1 : size);
}

static void print_safe(hr_slice text, hr_buffer *out) {
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.bytes[i];
        if (byte == 0x7f || (byte < 0x20 && byte != '\t')) {
            hr_buffer_add(out, "?", 1); /* nothing of a file may steer the terminal */
        } else {
            hr_buffer_add(out, &byte, 1);
        }
    }
}

static bool is_inside(hr_slice text, size_t at) { /* of a character */
    return at < text.size && (text.bytes[at] & 0xc0) == 0x80;
}

/* The part of a long line around a column, which becomes the column in that part. */
static hr_slice part_of(hr_slice line, int *column) {
    if (line.size <= SHOWN_BYTES) {
        return line;
    }
    size_t at = 0, begin = 0;
    int first = 1;
    for (int i = 1; i < *column && at < line.size; i++) {
        at++;
        while (is_inside(line, at)) {
            at++;
        }
        while (at - begin > SHOWN_BYTES / 2 || is_inside(line, begin)) {
            first += is_inside(line, begin) ? 0 : 1;
            begin++;
        }
    }
    size_t end = line.size - begin > SHOWN_BYTES ? begin + SHOWN_BYTES : line.size;
    while (is_inside(line, end)) {
        end++;
    }
    *column -= first - 1;
    return hr_slice_of(line.bytes + begin, end - begin);
}

static void print_line(const hr_diagnostics *diags, hr_place place, const char *label,
                       hr_buffer *out) {
    hr_buffer_print(out, "  --> %s:%d:%d\n", place.file, place.line, place.column);
    hr_slice line = line_of(hr_diagnostics_text(diags, place.file), place.line);
    if (line.size == 0) {
        if (label != NULL) {
            hr_buffer_print(out, "   = %s\n", label);
        }
        return;
    }
    char number[16];
    int digits = snprintf(number, sizeof number, "%d", place.line);
    digits = digits < 2 ? 2 : digits;
    hr_buffer_print(out, "%*s |\n%*s | ", digits, "", digits, number);
    line = part_of(line, &place.column);
    print_safe(line, out);
    hr_buffer_print(out, "\n%*s | ", digits, "");
    int column = 1;
    size_t at = 0;
    for (; column < place.column && at < line.size; column++) { /* one step a code point */
        hr_buffer_add(out, line.bytes[at] == '\t' ? "\t" : " ", 1);
        at++;
        while (at < line.size && (line.bytes[at] & 0xc0) == 0x80) {
            at++;
        }
    }
    int left = 0;
    for (size_t i = at; i < line.size; i++) {
        left += (line.bytes[i] & 0xc0) == 0x80 ? 0 : 1;
    }
    int width = place.width > left ? left : place.width;
    for (int i = 0; i < (width < 1 ? 1 : width); i++) {
        hr_buffer_add(out, "^", 1);
    }
    hr_buffer_print(out, "%s%s\n", label == NULL ? "" : " ", label == NULL ? "" : label);
}

static void print_item(const hr_diagnostics *diags, const hr_diagnostic *item, hr_buffer *out) {
    hr_buffer_print(out, "%s: ", item->is_warning ? "warning" : "error");
    print_safe(hr_slice_text(item->text), out);
    hr_buffer_print(out, "\n");
    if (item->file != NULL && item->place.line > 0) {
        print_line(diags, item->place, item->label, out);
    } else if (item->file != NULL) {
        hr_buffer_print(out, "  --> %s\n", item->file);
    }
    if (item->also_file != NULL && item->also.line > 0) {
        print_line(diags, item->also, item->also_label, out);
    }
    bool has_label_left = item->label != NULL && (item->file == NULL || item->place.line == 0);
    if (has_label_left) {
        hr_buffer_print(out, "   = %s\n", item->label);
    }
    for (size_t i = 0; i < item->note_count; i++) {
        hr_buffer_print(out, "%s   = %s\n", i == 0 && !has_label_left ? "   |\n" : "",
                        item->note[i]);
    }
}

static int by_place(const void *left, const void *right) {
    const hr_diagnostic *a = *(hr_diagnostic *const *)left;
    const hr_diagnostic *b = *(hr_diagnostic *const *)right;
    if (a->file_order != b->file_order) {
        return a->file_order < b->file_order ? -1 : 1;
    }
    if (a->place.line != b->place.line) {
        return a->place.line < b->place.line ? -1 : 1;
    }
    if (a->place.column != b->place.column) {
        return a->place.column < b->place.column ? -1 : 1;
    }
    return a->order < b->order ? -1 : 1;
}

static void sort(hr_diagnostics *diags) {
    if (diags->count > 1) {
        qsort(diags->items, diags->count, sizeof(hr_diagnostic *), by_place);
    }
}

void hr_diagnostics_print(hr_diagnostics *diags, hr_buffer *out) {
    sort(diags);
    for (size_t i = 0; i < diags->count; i++) {
        print_item(diags, diags->items[i], out);
        hr_buffer_print(out, "\n");
    }
    if (diags->errors > 0) {
        hr_buffer_print(out, "%zu error%s\n", diags->errors, diags->errors == 1 ? "" : "s");
    }
}

static void print_member(hr_buffer *out, const char *name, const char *text) {
    hr_buffer_print(out, ",\"%s\":", name);
    hr_json_add_text(out, hr_slice_text(text));
}

void hr_diagnostics_print_json(hr_diagnostics *diags, hr_buffer *out) {
    sort(diags);
    hr_buffer_print(out, "[");
    for (size_t i = 0; i < diags->count; i++) {
        const hr_diagnostic *item = diags->items[i];
        hr_buffer_print(out, "%s{\"severity\":\"%s\"", i == 0 ? "" : ",",
                        item->is_warning ? "warning" : "error");
        print_member(out, "message", item->text);
        if (item->file != NULL) {
            print_member(out, "file", item->file);
            hr_buffer_print(out, ",\"line\":%d,\"column\":%d,\"width\":%d", item->place.line,
                            item->place.column, item->place.width);
        }
        if (item->label != NULL) {
            print_member(out, "hint", item->label);
        }
        if (item->also_file != NULL) {
            print_member(out, "also_file", item->also_file);
            hr_buffer_print(out, ",\"also_line\":%d,\"also_column\":%d", item->also.line,
                            item->also.column);
        }
        hr_buffer_print(out, ",\"notes\":[");
        for (size_t n = 0; n < item->note_count; n++) {
            hr_buffer_print(out, "%s", n == 0 ? "" : ",");
            hr_json_add_text(out, hr_slice_text(item->note[n]));
        }
        hr_buffer_print(out, "]}");
    }
    hr_buffer_print(out, "]");
}
