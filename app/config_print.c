/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration and its table, for people and editors. */
#include "app/config_priv.h"

#include "core/json_text.h"

#include <stdio.h>

static void print_text(hr_buffer *out, const hr_node *node) {
    static const char PLAIN[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-";
    if (node->secret) {
        hr_buffer_print(out, "\"•••\"");
    } else if (!node->quoted && node->text[0] != '\0' && node->text[0] != '-' &&
               strspn(node->text, PLAIN) == strlen(node->text)) {
        hr_buffer_print(out, "%s", node->text);
    } else {
        hr_json_add_text(out, hr_slice_text(node->text));
    }
}

static void print_place(hr_buffer *out, const hr_node *node) {
    if (node->line > 0) {
        hr_buffer_print(out, "  # %s:%d\n", node->file, node->line);
    } else {
        hr_buffer_print(out, "  # default\n");
    }
}

static void print_tree(hr_buffer *out, const hr_node *node, int indent) {
    for (const hr_node *child = node->child; child != NULL; child = child->next) {
        hr_buffer_print(out, "%*s", indent, "");
        if (child->key != NULL) {
            hr_node key = {.kind = HR_NODE_TEXT, .text = child->key};
            print_text(out, &key);
            hr_buffer_print(out, ":");
        } else {
            hr_buffer_print(out, "-");
        }
        if (child->kind == HR_NODE_TEXT) {
            hr_buffer_print(out, " ");
            print_text(out, child);
            print_place(out, child);
        } else if (child->child == NULL) {
            hr_buffer_print(out, child->kind == HR_NODE_MAP ? " {}\n" : " []\n");
        } else {
            hr_buffer_print(out, "\n");
            print_tree(out, child, indent + 2);
        }
    }
}

void hr_config_print(const hr_config *config, hr_buffer *out) {
    print_tree(out, config->root, 0);
}

/* --- JSON Schema --- */

#define DURATION_PATTERN "^(0|([0-9]+(ms|s|m|h|d))+)$"
#define SIZE_PATTERN     "^(0|[0-9]+(B|kB|KiB|MB|MiB|GB|GiB|TB|TiB))$"
/* A variable may stand wherever a value does. */
#define VARIABLE "{\"type\":\"string\",\"pattern\":\"[$][{]\"}"

static void print_words(hr_buffer *out, const char *words) {
    hr_buffer_print(out, "\"enum\":[");
    bool is_first = true;
    for (const char *at = words; *at != '\0';) {
        size_t size = strcspn(at, "|");
        if (at[size - 1] != '*') {
            hr_buffer_print(out, "%s\"%.*s\"", is_first ? "" : ",", (int)size, at);
            is_first = false;
        }
        at += size + (at[size] == '|' ? 1 : 0);
    }
    if (strcmp(words, "5|3.1.1|auto") == 0) {
        hr_buffer_print(out, ",5"); /* as YAML reads it */
    }
    hr_buffer_print(out, "]");
}

static void print_pattern(hr_buffer *out, const config_key *key, const char *pattern) {
    bool has_none = key->arg != NULL && strncmp(key->arg, "none|", 5) == 0;
    hr_buffer_print(
        out, "\"anyOf\":[{\"type\":\"string\",\"pattern\":\"%s\"},{\"const\":0}," VARIABLE "%s]",
        pattern, has_none ? ",{\"const\":\"none\"}" : "");
}

static void print_type(hr_buffer *out, const config_key *key) {
    switch (key->type) {
    case TYPE_MAP:
        hr_buffer_print(out, "\"anyOf\":[{\"$ref\":\"#/$defs/%s\"},{\"type\":\"null\"}]", key->arg);
        break;
    case TYPE_BACKOFF:
    case TYPE_HTTP:
        hr_buffer_print(out, "\"anyOf\":[{\"$ref\":\"#/$defs/%s\"},{\"type\":\"string\"}]",
                        key->arg);
        break;
    case TYPE_LIST:
        if (key->arg != NULL) {
            hr_buffer_print(out, "\"anyOf\":[{");
            print_words(out, key->arg);
            hr_buffer_print(out, "},{\"type\":\"array\",\"minItems\":1,\"items\":{");
            print_words(out, key->arg);
            hr_buffer_print(out, "}}]");
        } else {
            hr_buffer_print(out, "\"anyOf\":[{\"$ref\":\"#/$defs/scalar\"},{\"type\":\"array\","
                                 "\"minItems\":1,\"items\":{\"$ref\":\"#/$defs/scalar\"}}]");
        }
        break;
    case TYPE_TEXTS:
        hr_buffer_print(out, "\"type\":\"object\",\"additionalProperties\":{\"$ref\":"
                             "\"#/$defs/scalar\"}");
        break;
    case TYPE_ANY:
        hr_buffer_print(out, "\"type\":[\"object\",\"array\",\"string\",\"number\",\"boolean\","
                             "\"null\"]");
        break;
    case TYPE_BOOL:
        hr_buffer_print(out, "\"anyOf\":[{\"type\":\"boolean\"}," VARIABLE "]");
        break;
    case TYPE_INT: {
        char least[32];
        char most[32];
        int got = sscanf(key->arg, "%31[^.]..%31s", least, most);
        HR_ASSERT(got == 2);
        hr_buffer_print(
            out, "\"anyOf\":[{\"type\":\"integer\",\"minimum\":%s,\"maximum\":%s}," VARIABLE "]",
            least, most);
        break;
    }
    case TYPE_DURATION:
        print_pattern(out, key, DURATION_PATTERN);
        break;
    case TYPE_SIZE:
        print_pattern(out, key, SIZE_PATTERN);
        break;
    case TYPE_ENUM:
        hr_buffer_print(out, "\"anyOf\":[{");
        print_words(out, key->arg);
        hr_buffer_print(out, "}," VARIABLE "]");
        break;
    case TYPE_NAME:
        hr_buffer_print(out, "\"type\":\"string\",\"pattern\":\"^[a-z][a-z0-9-]{0,62}$\"");
        break;
    case TYPE_TEXT:
    case TYPE_EXPR:
        hr_buffer_print(out, "\"$ref\":\"#/$defs/scalar\"");
        break;
    case TYPE_RATE:
    case TYPE_FILE:
    case TYPE_ADDRESS:
    case TYPE_URL:
    case TYPE_START:
    case TYPE_CRON:
    case TYPE_ZONE:
    default:
        hr_buffer_print(out, "\"type\":\"string\",\"minLength\":1");
    }
}

static void print_property(hr_buffer *out, const config_key *key) {
    hr_json_add_text(out, hr_slice_text(key->name));
    hr_buffer_print(out, ":{");
    print_type(out, key);
    hr_buffer_print(out, ",\"description\":");
    hr_json_add_text(out, hr_slice_text(key->help));
    if (key->fallback != NULL) {
        hr_buffer_print(out, ",\"default\":");
        bool is_bare = key->type == TYPE_INT || key->type == TYPE_BOOL;
        if (is_bare) {
            hr_buffer_print(out, "%s", key->fallback);
        } else {
            hr_json_add_text(out, hr_slice_text(key->fallback));
        }
    }
    hr_buffer_print(out, "}");
}

/* Names of the keys with a flag, as the items of a list. */
static size_t print_flagged(hr_buffer *out, section_id section, unsigned flag, const char *format) {
    size_t count = 0;
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const config_key *key = &CONFIG_KEYS[i];
        if (key->section == section && (key->flags & flag) != 0 &&
            (key->flags & HR_KEY_LATER) == 0) {
            hr_buffer_print(out, "%s%s", count++ > 0 ? "," : "", format);
            hr_json_add_text(out, hr_slice_text(key->name));
            hr_buffer_print(out, "%s", format[0] == '\0' ? "" : "]}");
        }
    }
    return count;
}

static void print_definition(hr_buffer *out, section_id section) {
    hr_buffer_print(out,
                    ",\"%s\":{\"type\":\"object\",\"additionalProperties\":false,"
                    "\"patternProperties\":{\"^x-\":true},\"properties\":{",
                    config_section_word(section));
    bool is_first = true;
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const config_key *key = &CONFIG_KEYS[i];
        if (key->section == section && (key->flags & HR_KEY_LATER) == 0) {
            hr_buffer_print(out, "%s", is_first ? "" : ",");
            print_property(out, key);
            is_first = false;
        }
    }
    hr_buffer_print(out, "}");
    hr_buffer words = {0};
    if (print_flagged(&words, section, HR_KEY_REQUIRED, "") > 0) {
        hr_buffer_print(out, ",\"required\":[%s]", hr_buffer_text(&words));
    }
    words.size = 0;
    if (print_flagged(&words, section, HR_KEY_KIND, "{\"required\":[") > 0) {
        hr_buffer_print(out, ",\"oneOf\":[%s]", hr_buffer_text(&words));
    }
    hr_buffer_fini(&words);
    hr_buffer_print(out, "}");
}

static void print_names(hr_buffer *out, const char *name, const char *section) {
    hr_buffer_print(out,
                    ",\"%s\":{\"type\":[\"object\",\"null\"],\"propertyNames\":{\"pattern\":"
                    "\"^[a-z][a-z0-9-]{0,62}$\"},\"additionalProperties\":{\"$ref\":"
                    "\"#/$defs/%s\"}}",
                    name, section);
}

void hr_config_schema(hr_buffer *out) {
    hr_buffer_print(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\","
                         "\"title\":\"headrace\",\"type\":\"object\","
                         "\"additionalProperties\":false,\"patternProperties\":{\"^x-\":true},"
                         "\"properties\":{\"settings\":{\"anyOf\":[{\"$ref\":"
                         "\"#/$defs/SETTINGS\"},{\"type\":\"null\"}]}");
    print_names(out, "triggers", "TRIGGER");
    print_names(out, "functions", "FUNCTION");
    hr_buffer_print(out, "},\"$defs\":{\"scalar\":{\"type\":[\"string\",\"number\",\"boolean\"]}");
    for (int section = 0; section < (int)SECTIONS; section++) {
        print_definition(out, (section_id)section);
    }
    hr_buffer_print(out, "}}\n");
}

/* --- reference page --- */

static const char *type_word(const config_key *key) {
    switch (key->type) {
    case TYPE_MAP:
        return "map";
    case TYPE_LIST:
        return "value or list";
    case TYPE_TEXTS:
        return "map of texts";
    case TYPE_ANY:
        return "any";
    case TYPE_NAME:
        return "name";
    case TYPE_BOOL:
        return "true or false";
    case TYPE_INT:
        return "number";
    case TYPE_DURATION:
        return "duration";
    case TYPE_SIZE:
        return "size";
    case TYPE_RATE:
        return "rate";
    case TYPE_ENUM:
        return "word";
    case TYPE_EXPR:
        return "SQL expression";
    case TYPE_FILE:
        return "path";
    case TYPE_ADDRESS:
        return "HOST:PORT";
    case TYPE_URL:
        return "URL";
    case TYPE_START:
        return "word or time";
    case TYPE_BACKOFF:
        return "FROM..TO";
    case TYPE_HTTP:
        return "URL or map";
    case TYPE_CRON:
        return "cron expression";
    case TYPE_ZONE:
        return "time zone";
    case TYPE_TEXT:
    default:
        return "text";
    }
}

/* A cell: bars would end it, and a star marks what is reserved. */
static void print_range(hr_buffer *out, const char *arg) {
    for (const char *at = arg; *at != '\0'; at++) {
        if (*at == '|') {
            hr_buffer_print(out, ", ");
        } else if (*at == '*') {
            hr_buffer_print(out, " (later)");
        } else {
            hr_buffer_add(out, at, 1);
        }
    }
}

static void print_row(hr_buffer *out, const config_key *key) {
    hr_buffer_print(out, "| `%s` | %s", key->name, type_word(key));
    if (key->arg != NULL && !config_has_section(key)) {
        hr_buffer_print(out, ": ");
        print_range(out, key->arg);
    }
    hr_buffer_print(out, " | ");
    if ((key->flags & HR_KEY_REQUIRED) != 0) {
        hr_buffer_print(out, "required");
    } else if (key->fallback != NULL) {
        hr_buffer_print(out, "`%s`", key->fallback);
    }
    hr_buffer_print(out, " | %s%s%s |\n", (key->flags & HR_KEY_LATER) != 0 ? "(later) " : "",
                    key->help, (key->flags & HR_KEY_KIND) != 0 ? "; exactly one of its kind" : "");
}

void hr_config_reference(hr_buffer *out) {
    hr_buffer_print(out, "# Keys of the configuration\n\n"
                         "A file holds the maps `settings`, `triggers` and `functions`. Units are "
                         "part of the value: `30s`, `64MiB`.\n"
                         "Variables stand in values: `${NAME}`, `${NAME:-default}`, "
                         "`${file:PATH}`; `$${` is the text `${`. Keys that begin with `x-` are "
                         "yours.\n");
    for (int section = 0; section < (int)SECTIONS; section++) {
        hr_buffer_print(out, "\n## %s\n\n| key | value | default | |\n| --- | --- | --- | --- |\n",
                        config_section_title((section_id)section));
        for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
            if (CONFIG_KEYS[i].section == (section_id)section) {
                print_row(out, &CONFIG_KEYS[i]);
            }
        }
    }
}
