/* SPDX-License-Identifier: Apache-2.0 */
/* One scalar: is it of its key's type and in its range, and which number is it? */
#include "app/config_priv.h"

#include "core/memory.h"
#include "core/time_text.h"
#include "triggers/cron_parse.h"
#include "triggers/zone.h"

#include <stdio.h>
#include <stdlib.h>

static hr_diagnostic *wrong(loading *load, const config_key *key, const hr_node *node,
                            const char *expected) {
    return node->secret
               ? hr_diagnose(load->diags, config_value_place(node),
                             "`%s` must be %s (the value is not shown)", key->name, expected)
               : hr_diagnose(load->diags, config_value_place(node),
                             "`%s` must be %s, not \"%.60s\"", key->name, expected, node->text);
}

static bool is_digits(const char *text) {
    return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

static bool parse_int(const char *text, int64_t *out) {
    const char *digits = text[0] == '-' ? text + 1 : text;
    if (!is_digits(digits) || strlen(digits) > 18) {
        return false;
    }
    *out = strtoll(text, NULL, 10);
    return true;
}

/* "0" needs no unit. */
static bool parse_number(const config_key *key, const char *text, int64_t *out) {
    bool is_zero = strcmp(text, "0") == 0;
    if (key->type == TYPE_INT) {
        return parse_int(text, out);
    }
    if (is_zero) {
        *out = 0;
        return true;
    }
    if (key->type == TYPE_DURATION && strcmp(text, "none") == 0) {
        *out = -1;
        return key->arg != NULL && strncmp(key->arg, "none|", 5) == 0;
    }
    return key->type == TYPE_DURATION ? hr_duration_parse(hr_slice_text(text), out)
                                      : hr_size_parse(hr_slice_text(text), out);
}

/* The bounds "least..most" of a key. */
static void bounds_of(const config_key *key, const char **out_text, char *least, char *most) {
    const char *text = strncmp(key->arg, "none|", 5) == 0 ? key->arg + 5 : key->arg;
    int got = sscanf(text, "%31[^.]..%31s", least, most);
    HR_ASSERT(got == 2);
    *out_text = text;
}

static void tell_unit(loading *load, const config_key *key, const hr_node *node) {
    hr_diagnostic *said;
    bool is_duration = key->type == TYPE_DURATION;
    if (is_digits(node->text) && !node->secret) {
        said = hr_diagnose(load->diags, config_value_place(node), "`%s` needs a unit", key->name);
        hr_diagnostic_label(
            said, is_duration ? "did you mean %ss or %sms?" : "did you mean %sMiB or %sKiB?",
            node->text, node->text);
        return;
    }
    said = wrong(load, key, node, is_duration ? "a duration" : "a size");
    hr_diagnostic_label(
        said,
        is_duration ? "such as 250ms 30s 15m 6h 7d 1h30m%s" : "such as 512B 64KiB 96MiB 10GiB%s",
        is_duration && key->arg != NULL && strncmp(key->arg, "none|", 5) == 0 ? ", or none" : "");
}

static void check_number(loading *load, const config_key *key, hr_node *node) {
    int64_t value = 0;
    if (!parse_number(key, node->text, &value)) {
        if (key->type == TYPE_INT) {
            (void)wrong(load, key, node, "a whole number");
        } else {
            tell_unit(load, key, node);
        }
        return;
    }
    node->number = value;
    if (key->arg == NULL || (key->type == TYPE_DURATION && value == -1)) {
        return;
    }
    const char *range = NULL;
    char least_text[32];
    char most_text[32];
    bounds_of(key, &range, least_text, most_text);
    int64_t least = 0;
    int64_t most = 0;
    bool is_right = parse_number(key, least_text, &least) && parse_number(key, most_text, &most);
    HR_ASSERT(is_right);
    if (value < least || value > most) {
        hr_diagnostic *said = hr_diagnose(load->diags, config_value_place(node),
                                          "`%s` is out of its range", key->name);
        hr_diagnostic_label(said, "%s to %s", least_text, most_text);
    }
}

static void check_bool(loading *load, const config_key *key, hr_node *node) {
    if (strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0) {
        node->number = node->text[0] == 't' ? 1 : 0;
    } else {
        (void)wrong(load, key, node, "true or false");
    }
}

static void check_enum(loading *load, const config_key *key, const hr_node *node) {
    char words[256];
    char all[256] = "";
    (void)snprintf(words, sizeof words, "%s", key->arg);
    nearest near = {.wanted = node->text};
    char *save = NULL;
    for (char *word = strtok_r(words, "|", &save); word != NULL;
         word = strtok_r(NULL, "|", &save)) {
        size_t size = strlen(word);
        bool is_later = word[size - 1] == '*';
        word[size - (is_later ? 1 : 0)] = '\0';
        if (strcmp(word, node->text) == 0) {
            if (is_later) {
                (void)hr_diagnose(load->diags, config_value_place(node),
                                  "`%s: %s` is not in this version", key->name, word);
            }
            return;
        }
        if (!is_later) {
            config_nearest_try(&near, word);
            size_t used = strlen(all);
            (void)snprintf(all + used, sizeof all - used, "%s%s", used > 0 ? ", " : "", word);
        }
    }
    hr_diagnostic *said = node->secret
                              ? wrong(load, key, node, "one of some words")
                              : hr_diagnose(load->diags, config_value_place(node),
                                            "`%s` cannot be \"%.60s\"", key->name, node->text);
    if (config_nearest(&near) != NULL) {
        hr_diagnostic_label(said, "did you mean \"%s\"?", config_nearest(&near));
        hr_diagnostic_note(said, "one of: %s", all);
    } else {
        hr_diagnostic_label(said, "one of: %s", all);
    }
}

static void check_rate(loading *load, const config_key *key, hr_node *node) {
    char *end = NULL;
    double rate = strtod(node->text, &end);
    double seconds = strcmp(end, "/s") == 0   ? 1
                     : strcmp(end, "/m") == 0 ? 60
                     : strcmp(end, "/h") == 0 ? 3600
                                              : 0;
    if (rate > 0 && rate <= 1e6 && seconds > 0) {
        double thousandths = rate * 1000 / seconds;
        node->number = thousandths < 1 ? 1 : (int64_t)(thousandths + 0.5);
    } else {
        (void)wrong(load, key, node, "a rate such as 5/s, 10/m or 2/h");
    }
}

static void check_expression(loading *load, const config_key *key, const hr_node *node) {
    if (load->options->compile == NULL) {
        return;
    }
    hr_error err = {0};
    int offset = -1;
    if (load->options->compile(load->options->data, node->text, &offset, &err) != HR_OK) {
        hr_place place = config_text_place(load, node, offset, 1);
        hr_diagnostic *said =
            hr_diagnose(load->diags, place, "`%s` is no expression: %s", key->name, err.text);
        if (strstr(node->text, "==") != NULL || strstr(node->text, "=~") != NULL) {
            hr_diagnostic_note(said, "expressions are SQL: a = 'text', a REGEXP '...', AND, OR");
        } else if (strchr(node->text, '"') != NULL) {
            hr_diagnostic_note(said, "text stands in single quotes: 'text'");
        }
    }
}

static void check_address(loading *load, const config_key *key, hr_node *node) {
    const char *colon = strrchr(node->text, ':');
    bool is_good = colon != NULL && colon != node->text && is_digits(colon + 1) &&
                   strlen(colon + 1) <= 5 && strtol(colon + 1, NULL, 10) <= 65535;
    if (is_good && node->text[0] == '[') {
        is_good = colon[-1] == ']';
    } else if (is_good) {
        is_good = memchr(node->text, ':', (size_t)(colon - node->text)) == NULL;
    }
    if (!is_good) {
        hr_diagnostic *said = wrong(load, key, node, "HOST:PORT");
        hr_diagnostic_label(said, "such as 127.0.0.1:7080 or [::1]:7080");
    }
}

static void check_start(loading *load, const config_key *key, hr_node *node) {
    int64_t us = 0;
    if (strcmp(node->text, "earliest") == 0) {
        node->number = -2;
    } else if (strcmp(node->text, "latest") == 0) {
        node->number = -1;
    } else if (hr_time_parse(hr_slice_text(node->text), &us) && us >= 0) {
        node->number = us / 1000;
    } else {
        (void)wrong(load, key, node, "earliest, latest or a time such as 2026-01-31T00:00:00Z");
    }
}

static void check_cron(loading *load, const hr_node *node) {
    hr_cron cron;
    hr_cron_place at = {0};
    hr_error err = {0};
    if (hr_cron_parse(node->text, &cron, &at, &err) != HR_OK) {
        hr_diagnostic *said = hr_diagnose(
            load->diags, config_text_place(load, node, at.offset, at.size), "%s", err.text);
        if (at.hint[0] != '\0') {
            hr_diagnostic_label(said, "%s", at.hint);
        }
    }
}

static void try_zone(void *data, const char *name) {
    config_nearest_try(data, name);
}

static void check_zone(loading *load, const hr_node *node) {
    hr_zone *zone = hr_zone_open(node->text);
    if (zone == NULL) {
        hr_diagnostic *said =
            hr_diagnose(load->diags, config_value_place(node),
                        "there is no time zone \"%.60s\" on this machine", node->text);
        nearest near = {.wanted = node->text};
        hr_zone_each_name(try_zone, &near);
        if (config_nearest(&near) != NULL) {
            hr_diagnostic_label(said, "did you mean \"%s\"?", config_nearest(&near));
        } else {
            hr_diagnostic_label(said, "such as UTC or Europe/Berlin");
        }
    }
    hr_zone_close(zone);
}

static bool is_http_url(const char *text) {
    const char *rest = strncmp(text, "http://", 7) == 0    ? text + 7
                       : strncmp(text, "https://", 8) == 0 ? text + 8
                                                           : "";
    return rest[0] != '\0' && rest[0] != '/' && strpbrk(text, " \t\r\n") == NULL;
}

bool config_is_name(const char *text) {
    size_t size = strlen(text);
    return size >= 1 && size <= 63 && text[0] >= 'a' && text[0] <= 'z' &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == size;
}

void config_check_value(loading *load, const config_key *key, hr_node *node) {
    if (node->number == CONFIG_UNKNOWN) {
        return;
    }
    if (node->text[0] == '\0' && key->type != TYPE_ANY) {
        (void)hr_diagnose(load->diags, config_value_place(node), "`%s` has no value", key->name);
        return;
    }
    switch (key->type) {
    case TYPE_BOOL:
        check_bool(load, key, node);
        break;
    case TYPE_INT:
    case TYPE_DURATION:
    case TYPE_SIZE:
        check_number(load, key, node);
        break;
    case TYPE_RATE:
        check_rate(load, key, node);
        break;
    case TYPE_ENUM:
        check_enum(load, key, node);
        break;
    case TYPE_LIST:
        if (key->arg != NULL) {
            check_enum(load, key, node);
        }
        break;
    case TYPE_EXPR:
        check_expression(load, key, node);
        break;
    case TYPE_FILE: {
        char *joined = config_join(node, node->text);
        hr_free(node->text);
        node->text = joined;
        break;
    }
    case TYPE_ADDRESS:
        check_address(load, key, node);
        break;
    case TYPE_URL:
    case TYPE_HTTP:
        if (!is_http_url(node->text)) {
            (void)wrong(load, key, node, "an address that begins with http:// or https://");
        }
        break;
    case TYPE_START:
        check_start(load, key, node);
        break;
    case TYPE_CRON:
        check_cron(load, node);
        break;
    case TYPE_ZONE:
        check_zone(load, node);
        break;
    case TYPE_NAME:
        if (!config_is_name(node->text)) {
            (void)wrong(load, key, node, "a name (a-z, then a-z 0-9 -, at most 63)");
        }
        break;
    case TYPE_TEXT:
    case TYPE_ANY:
    case TYPE_TEXTS:
    case TYPE_MAP:
    case TYPE_BACKOFF:
        break;
    default:
        HR_ASSERT(false);
    }
}
