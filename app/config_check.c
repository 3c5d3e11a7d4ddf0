/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, types and defaults of one map, as the table says. */
#include "app/config_priv.h"

#include "core/memory.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static bool is_empty(const hr_node *node) {
    return node->kind == HR_NODE_TEXT && node->text[0] == '\0' && !node->quoted;
}

static void keys_of(section_id section, bool kinds_only, char *out, size_t size) {
    out[0] = '\0';
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const config_key *key = &CONFIG_KEYS[i];
        bool is_wanted = key->section == section && (key->flags & HR_KEY_LATER) == 0 &&
                         (!kinds_only || (key->flags & HR_KEY_KIND) != 0);
        size_t used = strlen(out);
        if (is_wanted && used < size) {
            (void)snprintf(out + used, size - used, "%s%s", used > 0 ? " " : "", key->name);
        }
    }
}

/* "the mqtt trigger", `the trigger "temps"`. */
static void title_of(section_id section, const char *owner, char *out, size_t size) {
    const char *noun = section == SECTION_TRIGGER    ? "the trigger"
                       : section == SECTION_FUNCTION ? "the function"
                                                     : NULL;
    if (noun != NULL && owner != NULL) {
        (void)snprintf(out, size, "%s \"%s\"", noun, owner);
    } else {
        (void)snprintf(out, size, "%s", config_section_title(section));
    }
}

/* The usual slip of indentation: the key is right one level up or down. */
static bool hint_level(hr_diagnostic *said, const hr_node *map, section_id section,
                       const char *name) {
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const config_key *key = &CONFIG_KEYS[i];
        if (!config_has_section(key)) {
            continue;
        }
        if (key->section == section && config_find_key(config_section_of(key), name) != NULL &&
            ((key->flags & HR_KEY_KIND) == 0 || hr_node_get(map, key->name) != NULL)) {
            hr_diagnostic_label(said, "`%s` belongs inside `%s`, one level down", name, key->name);
            return true;
        }
        if (config_section_of(key) == section && config_find_key(key->section, name) != NULL &&
            map->key != NULL && strcmp(map->key, key->name) == 0) {
            const char *above = config_section_title(key->section);
            bool is_noun = strncmp(above, "a ", 2) == 0;
            hr_diagnostic_label(said, "`%s` belongs to %s%s, one level up", name,
                                is_noun ? "the " : "", is_noun ? above + 2 : above);
            return true;
        }
    }
    return false;
}

static void unknown_key(loading *load, const hr_node *map, section_id section, const char *owner,
                        const hr_node *child) {
    char title[128];
    char keys[1024];
    title_of(section, owner, title, sizeof title);
    hr_diagnostic *said = hr_diagnose(load->diags, config_key_place(child),
                                      "%s has no key \"%.60s\"", title, child->key);
    nearest near = {.wanted = child->key};
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        if (CONFIG_KEYS[i].section == section && (CONFIG_KEYS[i].flags & HR_KEY_LATER) == 0) {
            config_nearest_try(&near, CONFIG_KEYS[i].name);
        }
    }
    const char *instead = config_instead(section, child->key);
    if (instead != NULL) {
        hr_diagnostic_label(said, "it is called \"%s\" here", instead);
    } else if (!hint_level(said, map, section, child->key) && config_nearest(&near) != NULL) {
        hr_diagnostic_label(said, "did you mean \"%s\"?", config_nearest(&near));
    }
    keys_of(section, false, keys, sizeof keys);
    hr_diagnostic_note(said, "keys: %s", keys);
}

static void must_be(loading *load, const config_key *key, const hr_node *node, const char *what) {
    (void)hr_diagnose(load->diags, config_value_place(node), "`%s` must be %s", key->name, what);
}

static void mark_secret(hr_node *node) {
    node->secret = true;
    for (hr_node *child = node->child; child != NULL; child = child->next) {
        mark_secret(child);
    }
}

static void check_list(loading *load, const config_key *key, hr_node *node) {
    if (node->kind == HR_NODE_TEXT) {
        config_check_value(load, key, node);
        return;
    }
    if (node->kind == HR_NODE_MAP) {
        must_be(load, key, node, "one value or a list");
        return;
    }
    if (node->child == NULL) {
        (void)hr_diagnose(load->diags, config_key_place(node), "`%s` is an empty list", key->name);
    }
    for (hr_node *item = node->child; item != NULL; item = item->next) {
        if (item->kind == HR_NODE_TEXT) {
            config_check_value(load, key, item);
        } else {
            must_be(load, key, item, "a list of plain values");
        }
    }
}

static void check_texts(loading *load, const config_key *key, const hr_node *node) {
    if (node->kind != HR_NODE_MAP) {
        must_be(load, key, node, "a map of names and values");
        return;
    }
    for (const hr_node *child = node->child; child != NULL; child = child->next) {
        if (child->kind != HR_NODE_TEXT) {
            must_be(load, key, child, "a map of names and plain values");
        }
    }
}

/* "1s..5m" becomes { min, max }. */
static void split_backoff(loading *load, hr_node *node) {
    char *dots = strstr(node->text, "..");
    if (dots == NULL) {
        hr_diagnostic *said =
            hr_diagnose(load->diags, config_value_place(node), "`backoff` must be FROM..TO");
        hr_diagnostic_label(said, "such as 1s..5m");
        return;
    }
    char *text = node->text;
    *dots = '\0';
    node->kind = HR_NODE_MAP;
    node->text = NULL;
    const char *const part[2] = {text, dots + 2};
    for (int i = 0; i < 2; i++) {
        hr_node *child = hr_node_add_text(node, i == 0 ? "min" : "max", part[i], 0);
        child->file = node->file;
        child->line = node->line;
        child->column = node->column + (i == 0 || node->width == 0 ? 0 : (int)(part[1] - text));
        child->width = node->width == 0 ? 0 : (int)strlen(part[i]);
        child->secret = node->secret;
    }
    hr_free(text);
}

static void check_backoff(loading *load, hr_node *node, const char *owner) {
    if (node->kind == HR_NODE_TEXT) {
        split_backoff(load, node);
    }
    if (node->kind != HR_NODE_MAP) {
        return;
    }
    config_check_map(load, node, SECTION_BACKOFF, owner);
    const hr_node *min = hr_node_get(node, "min");
    if (min != NULL && min->number > hr_node_number(node, "max", INT64_MAX)) {
        (void)hr_diagnose(load->diags, config_value_place(min), "`backoff` ends below its start");
    }
}

static void check_child(loading *load, const config_key *key, hr_node *node, const char *owner) {
    switch (key->type) {
    case TYPE_MAP:
        config_check_map(load, node, config_section_of(key), owner);
        return;
    case TYPE_LIST:
        check_list(load, key, node);
        return;
    case TYPE_TEXTS:
        check_texts(load, key, node);
        return;
    case TYPE_ANY:
        return;
    case TYPE_BACKOFF:
        check_backoff(load, node, owner);
        return;
    case TYPE_HTTP:
        if (node->kind == HR_NODE_MAP) {
            config_check_map(load, node, SECTION_HTTP, owner);
            return;
        }
        break;
    case TYPE_TEXT:
    case TYPE_NAME:
    case TYPE_BOOL:
    case TYPE_INT:
    case TYPE_DURATION:
    case TYPE_SIZE:
    case TYPE_RATE:
    case TYPE_ENUM:
    case TYPE_EXPR:
    case TYPE_FILE:
    case TYPE_ADDRESS:
    case TYPE_URL:
    case TYPE_START:
    case TYPE_CRON:
    case TYPE_ZONE:
    default:
        break;
    }
    if (node->kind == HR_NODE_TEXT) {
        config_check_value(load, key, node);
    } else {
        must_be(load, key, node,
                node->kind == HR_NODE_LIST ? "one value, not a list" : "one value, not a map");
    }
}

static void tell_later(loading *load, const config_key *key, const hr_node *node) {
    (void)hr_diagnose(load->diags, config_key_place(node), "`%s` is not in this version",
                      key->name);
}

/* Exactly one of the keys that say the kind; two of them: both places. */
static void check_kind(loading *load, const hr_node *map, section_id section, const char *owner) {
    const hr_node *first = NULL;
    bool has_kinds = false;
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        has_kinds = has_kinds || (CONFIG_KEYS[i].section == section &&
                                  (CONFIG_KEYS[i].flags & HR_KEY_KIND) != 0);
    }
    if (!has_kinds) {
        return;
    }
    char title[128];
    char keys[512];
    title_of(section, owner, title, sizeof title);
    keys_of(section, true, keys, sizeof keys);
    for (const hr_node *child = map->child; child != NULL; child = child->next) {
        const config_key *key = config_find_key(section, child->key);
        if (key == NULL || (key->flags & HR_KEY_KIND) == 0) {
            continue;
        }
        if (first == NULL) {
            first = child;
            continue;
        }
        hr_diagnostic *said =
            hr_diagnose(load->diags, config_key_place(child), "%s has both `%s` and `%s`", title,
                        first->key, child->key);
        hr_diagnostic_also(said, config_key_place(first), "the first one");
        hr_diagnostic_note(said, "exactly one of: %s", keys);
    }
    if (first == NULL) {
        hr_diagnostic *said = hr_diagnose(load->diags, config_key_place(map),
                                          section == SECTION_FUNCTION ? "%s has no handler"
                                          : section == SECTION_NOTIFY ? "%s has no address"
                                                                      : "%s has no kind",
                                          title);
        hr_diagnostic_label(said, "exactly one of: %s", keys);
    }
}

static bool is_computed(const config_key *key, const char *owner, char *out, size_t size) {
    if (owner == NULL) {
        return false;
    }
    bool is_path = strcmp(key->name, "path") == 0;
    if (is_path && (key->section == SECTION_WEBHOOK || key->section == SECTION_STORAGE)) {
        (void)snprintf(out, size, "/hooks/%s", owner);
        return true;
    }
    if (key->section == SECTION_KAFKA && strcmp(key->name, "group") == 0) {
        (void)snprintf(out, size, "headrace.%s", owner);
        return true;
    }
    if (key->section == SECTION_MQTT && strcmp(key->name, "client_id") == 0) {
        char host[HOST_NAME_MAX + 1] = "";
        (void)gethostname(host, sizeof host - 1);
        (void)snprintf(out, size, "headrace-%s-%s", host, owner);
        return true;
    }
    return false;
}

static void add_list(hr_node *map, const config_key *key) {
    hr_node *list = hr_node_add(map, HR_NODE_LIST, key->name);
    char words[128];
    char *save = NULL;
    (void)snprintf(words, sizeof words, "%s", key->fallback);
    for (char *word = strtok_r(words, ",", &save); word != NULL;
         word = strtok_r(NULL, ",", &save)) {
        (void)hr_node_add_text(list, NULL, word, 0);
    }
}

/* Keys of workers mean something only where there are workers. */
static bool is_idle_default(const hr_node *map, const config_key *key) {
    bool is_of_workers = key->section == SECTION_FUNCTION &&
                         (strcmp(key->name, "workers") == 0 || strcmp(key->name, "isolation") == 0);
    return is_of_workers && hr_node_get(map, "python") == NULL &&
           hr_node_get(map, "exec") == NULL && hr_node_get(map, "native") == NULL;
}

static void fill_default(loading *load, hr_node *map, const config_key *key, const char *owner) {
    bool is_dedupe = key->section == SECTION_TRIGGER && strcmp(key->name, "dedupe") == 0;
    bool has_own_ids = hr_node_get(map, "webhook") != NULL || hr_node_get(map, "storage") != NULL;
    if (is_idle_default(map, key) || (is_dedupe && !has_own_ids)) {
        return;
    }
    char computed[512];
    const char *fallback = key->fallback;
    if (fallback == NULL && is_computed(key, owner, computed, sizeof computed)) {
        fallback = computed;
    }
    if ((key->flags & HR_KEY_FILLED) != 0) {
        hr_node *child = hr_node_add(map, HR_NODE_MAP, key->name);
        child->file = map->file;
        config_check_map(load, child, config_section_of(key), owner);
    } else if (fallback != NULL && key->type == TYPE_LIST) {
        add_list(map, key);
    } else if (fallback != NULL) {
        hr_node *child = hr_node_add_text(map, key->name, fallback, 0);
        if (key->section == SECTION_SETTINGS && load->config->path_count > 0) {
            child->file = load->config->paths[0]; /* state: beside the first file */
        }
        check_child(load, key, child, owner);
    }
}

static void require(loading *load, const hr_node *map, const config_key *key, const char *owner) {
    char title[128];
    title_of(key->section, owner, title, sizeof title);
    hr_diagnostic *said =
        hr_diagnose(load->diags, config_key_place(map), "%s needs `%s`", title, key->name);
    hr_diagnostic_label(said, "%s", key->help);
}

void config_check_map(loading *load, hr_node *map, section_id section, const char *owner) {
    if (is_empty(map)) {
        hr_free(map->text); /* "retry:" with nothing behind it */
        map->text = NULL;
        map->kind = HR_NODE_MAP;
    }
    if (map->kind != HR_NODE_MAP) {
        char title[128];
        char keys[1024];
        title_of(section, owner, title, sizeof title);
        keys_of(section, false, keys, sizeof keys);
        hr_diagnostic *said =
            hr_diagnose(load->diags, config_value_place(map), "%s must be a map", title);
        hr_diagnostic_note(said, "keys: %s", keys);
        return;
    }
    for (hr_node *child = map->child; child != NULL;) {
        hr_node *next = child->next;
        const config_key *key = config_find_key(section, child->key);
        if (key == NULL && strncmp(child->key, "x-", 2) == 0) {
            config_remove(map, child); /* the user's own */
        } else if (key == NULL) {
            unknown_key(load, map, section, owner, child);
        } else if ((key->flags & HR_KEY_LATER) != 0) {
            tell_later(load, key, child);
        } else {
            if ((key->flags & HR_KEY_SECRET) != 0) {
                mark_secret(child);
            }
            check_child(load, key, child, owner);
        }
        child = next;
    }
    check_kind(load, map, section, owner);
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const config_key *key = &CONFIG_KEYS[i];
        if (key->section != section || hr_node_get(map, key->name) != NULL) {
            continue;
        }
        if ((key->flags & HR_KEY_REQUIRED) != 0) {
            require(load, map, key, owner);
        } else {
            fill_default(load, map, key, owner);
        }
    }
}
