/* SPDX-License-Identifier: Apache-2.0 */
#include "triggers/cron_json.h"

#include "core/json_text.h"

static void print_string(const char *text, hr_buffer *out) {
    hr_json_add_text(out, hr_slice_text(text));
}

/* Is it a number as JSON writes it? */
static bool is_json_number(const char *text) {
    const char *at = text + (*text == '-' ? 1 : 0);
    size_t digits = strspn(at, "0123456789");
    if (digits == 0 || (digits > 1 && *at == '0')) {
        return false;
    }
    at += digits;
    if (*at == '.') {
        digits = strspn(at + 1, "0123456789");
        if (digits == 0) {
            return false;
        }
        at += 1 + digits;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '+' || *at == '-' ? 1 : 0;
        digits = strspn(at, "0123456789");
        if (digits == 0) {
            return false;
        }
        at += digits;
    }
    return *at == '\0';
}

static bool is_one_of(const char *text, const char *a, const char *b, const char *c) {
    return strcmp(text, a) == 0 || strcmp(text, b) == 0 || strcmp(text, c) == 0;
}

static void print_scalar(const hr_node *node, hr_buffer *out) {
    const char *text = node->text;
    if (node->quoted) {
        print_string(text, out);
    } else if (*text == '\0' || strcmp(text, "~") == 0 || is_one_of(text, "null", "Null", "NULL")) {
        hr_buffer_print(out, "null");
    } else if (is_one_of(text, "true", "True", "TRUE")) {
        hr_buffer_print(out, "true");
    } else if (is_one_of(text, "false", "False", "FALSE")) {
        hr_buffer_print(out, "false");
    } else if (is_json_number(text)) {
        hr_buffer_print(out, "%s", text);
    } else {
        print_string(text, out);
    }
}

void hr_cron_print_json(const hr_node *node, hr_buffer *out) {
    if (node->kind == HR_NODE_TEXT) {
        print_scalar(node, out);
        return;
    }
    bool is_map = node->kind == HR_NODE_MAP;
    hr_buffer_add(out, is_map ? "{" : "[", 1);
    for (const hr_node *child = node->child; child != NULL; child = child->next) {
        if (child != node->child) {
            hr_buffer_add(out, ",", 1);
        }
        if (is_map) {
            print_string(child->key, out);
            hr_buffer_add(out, ":", 1);
        }
        hr_cron_print_json(child, out);
    }
    hr_buffer_add(out, is_map ? "}" : "]", 1);
}
