/* SPDX-License-Identifier: Apache-2.0 */
/* ${NAME}, ${NAME:-default}, ${file:PATH} and $${ in scalars, after parsing. */
#include "app/config_priv.h"

#include "core/memory.h"
#include "core/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { SECRET_FILE_MAX = 1 << 20 };

static const char *variable(const loading *load, const char *name) {
    return load->options->variable != NULL ? load->options->variable(name) : getenv(name);
}

static bool is_name(const char *text) {
    static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    return text[0] != '\0' && (text[0] < '0' || text[0] > '9') &&
           strspn(text, LETTERS) == strlen(text);
}

/* The content of ${file:PATH}, without its last line end. */
static bool put_file(loading *load, const hr_node *node, hr_place place, const char *path,
                     hr_buffer *out) {
    char *joined = config_join(node, path);
    FILE *file = fopen(joined, "re");
    if (file == NULL) {
        (void)hr_diagnose(load->diags, place, "${file:%s} cannot be read: %s", path,
                          strerror(errno));
        hr_free(joined);
        return false;
    }
    hr_free(joined);
    hr_buffer text = {0};
    size_t got = 0;
    do {
        got = fread(hr_buffer_room(&text, 4096), 1, 4096, file);
        text.size += got;
    } while (got > 0 && text.size <= SECRET_FILE_MAX);
    bool is_good = ferror(file) == 0 && text.size <= SECRET_FILE_MAX;
    (void)fclose(file);
    while (text.size > 0 &&
           (text.bytes[text.size - 1] == '\n' || text.bytes[text.size - 1] == '\r')) {
        text.size--;
    }
    if (!is_good) {
        (void)hr_diagnose(load->diags, place, "${file:%s} is no file of at most 1 MiB", path);
    } else if (memchr(text.size == 0 ? (const void *)"" : text.bytes, '\0', text.size) != NULL ||
               !hr_utf8_is_valid(hr_slice_of(text.bytes, text.size))) {
        (void)hr_diagnose(load->diags, place, "${file:%s} holds no text", path);
        is_good = false;
    } else {
        hr_buffer_add(out, text.bytes, text.size);
    }
    hr_buffer_fini(&text);
    return is_good;
}

/* What stands between ${ and }. Sets *out_secret when the value came from outside. */
static bool put_one(loading *load, const hr_node *node, int offset, char *inside, hr_buffer *out,
                    bool *out_secret) {
    hr_place place = config_text_place(load, node, offset, (int)strlen(inside) + 3);
    if (strncmp(inside, "file:", 5) == 0) {
        *out_secret = true;
        return put_file(load, node, place, inside + 5, out);
    }
    char *fallback = strstr(inside, ":-");
    if (fallback != NULL) {
        *fallback = '\0';
        fallback += 2;
    }
    if (!is_name(inside)) {
        hr_diagnostic *said =
            hr_diagnose(load->diags, place, "\"%s\" is no name of a variable", inside);
        hr_diagnostic_label(said, "${NAME}, ${NAME:-default}, ${file:PATH}; $${ for the text ${");
        return false;
    }
    const char *value = variable(load, inside);
    if (value != NULL && (value[0] != '\0' || fallback == NULL)) {
        if (!hr_utf8_is_valid(hr_slice_text(value))) {
            (void)hr_diagnose(load->diags, place, "the variable %s holds no UTF-8", inside);
            return false;
        }
        hr_buffer_add(out, value, strlen(value));
        *out_secret = true;
        return true;
    }
    if (fallback != NULL) {
        hr_buffer_add(out, fallback, strlen(fallback));
        return true;
    }
    hr_diagnostic *said = hr_diagnose(load->diags, place, "the variable %s is not set", inside);
    hr_diagnostic_label(said, "set it, or give a default: ${%s:-...}", inside);
    return false;
}

static void put_scalar(loading *load, hr_node *node) {
    hr_buffer out = {0};
    bool is_good = true;
    bool is_secret = false;
    for (const char *at = node->text; *at != '\0' && is_good;) {
        if (strncmp(at, "$${", 3) == 0) {
            hr_buffer_add(&out, "${", 2);
            at += 3;
            continue;
        }
        if (strncmp(at, "${", 2) != 0) {
            hr_buffer_add(&out, at++, 1);
            continue;
        }
        const char *end = strchr(at, '}');
        if (end == NULL) {
            hr_place place = config_text_place(load, node, (int)(at - node->text), 2);
            hr_diagnostic *said = hr_diagnose(load->diags, place, "\"${\" has no \"}\"");
            hr_diagnostic_label(said, "write $${ for the text ${");
            is_good = false;
            break;
        }
        char *inside = hr_copy_bytes(at + 2, (size_t)(end - at - 2));
        is_good = put_one(load, node, (int)(at - node->text), inside, &out, &is_secret);
        hr_free(inside);
        at = end + 1;
    }
    if (is_good) {
        hr_free(node->text);
        node->text = hr_copy_text(hr_buffer_text(&out));
        node->secret = is_secret;
    } else {
        node->number = CONFIG_UNKNOWN; /* said already: nothing more about this value */
    }
    hr_buffer_fini(&out);
}

void config_put_variables(loading *load, hr_node *node) {
    if (node->kind == HR_NODE_TEXT && strstr(node->text, "${") != NULL) {
        put_scalar(load, node);
    }
    for (hr_node *child = node->child; child != NULL; child = child->next) {
        config_put_variables(load, child);
    }
}
