/* SPDX-License-Identifier: Apache-2.0 */
#include "app/config.h"

#include "app/config_priv.h"
#include "core/memory.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { FILE_MAX_BYTES = 4 << 20, FILES_MAX = 1000 };

/* --- places --- */

hr_place config_value_place(const hr_node *node) {
    return (hr_place){
        .file = node->file, .line = node->line, .column = node->column, .width = node->width};
}

hr_place config_key_place(const hr_node *node) {
    if (node->key_line == 0) {
        return config_value_place(node);
    }
    return (hr_place){.file = node->file,
                      .line = node->key_line,
                      .column = node->key_column,
                      .width = node->key == NULL ? 1 : (int)strlen(node->key)};
}

static bool is_blank(uint8_t byte) {
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

/* Where a scalar starts in the text of its file; size when it is not there. */
static size_t start_of(hr_slice file, const hr_node *node) {
    size_t at = 0;
    for (int line = 1; line < node->line && at < file.size; at++) {
        line += file.bytes[at] == '\n' ? 1 : 0;
    }
    for (int column = 1; column < node->column && at < file.size; column++) {
        at++;
        while (at < file.size && (file.bytes[at] & 0xc0) == 0x80) {
            at++;
        }
    }
    return at;
}

/* Walks file and value side by side; white space and escapes may differ between the two. */
hr_place config_text_place(const loading *load, const hr_node *node, int offset, int width) {
    hr_place whole = config_value_place(node);
    hr_slice file = hr_diagnostics_text(load->diags, node->file);
    size_t at = start_of(file, node);
    size_t size = strlen(node->text);
    if (node->line == 0 || offset < 0 || (size_t)offset > size || at >= file.size) {
        return whole;
    }
    uint8_t quote = file.bytes[at];
    if (quote == '"' || quote == '\'') {
        at++;
    }
    for (size_t i = 0; i <= (size_t)offset; i++) {
        uint8_t wanted = (uint8_t)node->text[i];
        if (is_blank(wanted)) {
            if (i == (size_t)offset) {
                break;
            }
            continue;
        }
        while (at < file.size && is_blank(file.bytes[at])) {
            at++;
        }
        if (i == (size_t)offset) {
            break;
        }
        if (at + 1 < file.size && ((quote == '"' && file.bytes[at] == '\\') ||
                                   (quote == '\'' && file.bytes[at] == '\''))) {
            at++;
        }
        if (at >= file.size || file.bytes[at] != wanted) {
            return whole; /* variables or escapes: the value as a whole */
        }
        at++;
    }
    hr_place place = {.file = node->file, .line = 1, .column = 1, .width = width};
    for (size_t i = 0; i < at && i < file.size; i++) {
        if (file.bytes[i] == '\n') {
            place.line++;
            place.column = 1;
        } else if ((file.bytes[i] & 0xc0) != 0x80) {
            place.column++;
        }
    }
    return place;
}

/* --- tree --- */

void config_append(hr_node *parent, hr_node *take_child) {
    take_child->next = NULL;
    if (parent->last == NULL) {
        parent->child = take_child;
    } else {
        parent->last->next = take_child;
    }
    parent->last = take_child;
}

void config_remove(hr_node *parent, hr_node *child) {
    hr_node *before = NULL;
    for (hr_node *at = parent->child; at != child; at = at->next) {
        HR_ASSERT(at != NULL);
        before = at;
    }
    if (before == NULL) {
        parent->child = child->next;
    } else {
        before->next = child->next;
    }
    if (parent->last == child) {
        parent->last = before;
    }
    child->next = NULL;
    hr_node_free(child);
}

char *hr_config_folder(const hr_node *node) {
    const char *slash = node->file == NULL ? NULL : strrchr(node->file, '/');
    if (slash == NULL) {
        return hr_copy_text(".");
    }
    return slash == node->file ? hr_copy_text("/")
                               : hr_copy_bytes(node->file, (size_t)(slash - node->file));
}

char *config_join(const hr_node *node, const char *path) {
    char *folder = hr_config_folder(node);
    path += strncmp(path, "./", 2) == 0 && path[2] != '\0' ? 2 : 0;
    char *joined = path[0] == '/' || strcmp(folder, ".") == 0
                       ? hr_copy_text(path)
                       : hr_format("%s/%s", strcmp(folder, "/") == 0 ? "" : folder, path);
    hr_free(folder);
    return joined;
}

/* --- files --- */

static void cannot_read(loading *load, const char *path, int sys) {
    (void)hr_diagnose(load->diags, (hr_place){.file = path}, "%s cannot be read: %s", path,
                      strerror(sys));
}

/* The whole file; false: said why not. */
static bool read_text(loading *load, const char *path, hr_buffer *out) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        cannot_read(load, path, errno);
        return false;
    }
    size_t got = 0;
    do {
        got = fread(hr_buffer_room(out, 65536), 1, 65536, file);
        out->size += got;
    } while (got > 0 && out->size <= FILE_MAX_BYTES);
    bool is_good = ferror(file) == 0;
    int sys = errno;
    (void)fclose(file);
    if (!is_good) {
        cannot_read(load, path, sys);
    } else if (out->size > FILE_MAX_BYTES) {
        (void)hr_diagnose(load->diags, (hr_place){.file = path}, "%s is larger than 4 MiB", path);
        is_good = false;
    }
    return is_good;
}

static void take_path(loading *load, char *take_text) {
    hr_config *config = load->config;
    for (size_t i = 0; i < config->path_count; i++) {
        if (strcmp(config->paths[i], take_text) == 0) {
            hr_free(take_text); /* named twice on the command line */
            return;
        }
    }
    config->paths = hr_realloc(config->paths, (config->path_count + 1) * sizeof(char *));
    config->paths[config->path_count++] = take_text;
}

static int is_yaml_file(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return entry->d_name[0] != '.' && dot != NULL &&
           (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0);
}

static void expand_path(loading *load, const char *path) {
    struct stat info;
    if (stat(path, &info) != 0) {
        cannot_read(load, path, errno);
        return;
    }
    if (!S_ISDIR(info.st_mode)) {
        take_path(load, hr_copy_text(path));
        return;
    }
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, is_yaml_file, alphasort);
    if (count < 0) {
        cannot_read(load, path, errno);
        return;
    }
    if (count == 0) {
        (void)hr_diagnose(load->diags, (hr_place){.file = path}, "%s holds no *.yaml file", path);
    }
    size_t size = strlen(path);
    for (int i = 0; i < count; i++) {
        take_path(load,
                  hr_format("%s%s%s", path, path[size - 1] == '/' ? "" : "/", entries[i]->d_name));
        hr_free(entries[i]); /* scandir's own */
    }
    hr_free(entries);
}

/* --- merging --- */

static const char *const TOP[] = {"settings", "triggers", "functions"};

static bool is_empty(const hr_node *node) {
    return node->kind == HR_NODE_TEXT && node->text[0] == '\0' && !node->quoted;
}

/* Moves the children of one file's map into the merged one; a name twice names both places. */
static void merge_map(loading *load, hr_node *into, hr_node *from) {
    hr_node *child = from->child;
    from->child = from->last = NULL;
    if (into->line == 0) {
        into->file = from->file;
        into->line = from->line;
        into->column = from->column;
        into->key_line = from->key_line;
        into->key_column = from->key_column;
    }
    while (child != NULL) {
        hr_node *next = child->next;
        child->next = NULL;
        const hr_node *first = hr_node_get(into, child->key);
        if (first == NULL) {
            config_append(into, child);
        } else {
            hr_diagnostic *said = hr_diagnose(load->diags, config_key_place(child),
                                              "\"%s\" is given twice in %s", child->key, into->key);
            hr_diagnostic_also(said, config_key_place(first), "first given here");
            hr_node_free(child);
        }
        child = next;
    }
}

static void unknown_top(loading *load, const hr_node *node) {
    hr_diagnostic *said = hr_diagnose(load->diags, config_key_place(node),
                                      "a configuration has no key \"%s\"", node->key);
    nearest near = {.wanted = node->key};
    for (size_t i = 0; i < 3; i++) {
        config_nearest_try(&near, TOP[i]);
    }
    if (config_nearest(&near) != NULL) {
        hr_diagnostic_label(said, "did you mean \"%s\"?", config_nearest(&near));
    } else if (config_find_key(SECTION_SETTINGS, node->key) != NULL) {
        hr_diagnostic_label(said, "`%s` belongs inside `settings`", node->key);
    } else if (config_find_key(SECTION_TRIGGER, node->key) != NULL) {
        hr_diagnostic_label(said, "`%s` belongs to a trigger, inside `triggers`", node->key);
    } else if (config_find_key(SECTION_FUNCTION, node->key) != NULL) {
        hr_diagnostic_label(said, "`%s` belongs to a function, inside `functions`", node->key);
    }
    hr_diagnostic_note(said, "keys: settings triggers functions");
}

static void merge_file(loading *load, hr_node *file) {
    if (file->kind != HR_NODE_MAP) {
        if (!is_empty(file)) {
            (void)hr_diagnose(load->diags, config_value_place(file),
                              "a configuration is a map with settings, triggers, functions");
        }
        return;
    }
    for (hr_node *part = file->child; part != NULL; part = part->next) {
        hr_node *into = load->config->root->child;
        while (into != NULL && strcmp(into->key, part->key) != 0) {
            into = into->next;
        }
        if (into == NULL) {
            if (strncmp(part->key, "x-", 2) != 0) {
                unknown_top(load, part);
            }
        } else if (part->kind == HR_NODE_MAP) {
            merge_map(load, into, part);
        } else if (!is_empty(part)) {
            (void)hr_diagnose(load->diags, config_value_place(part), "%s must be a map", part->key);
        }
    }
}

/* --- load --- */

static void load_file(loading *load, const char *path) {
    hr_buffer text = {0};
    if (read_text(load, path, &text)) {
        hr_slice bytes = hr_slice_of(text.bytes, text.size);
        hr_diagnostics_file(load->diags, path, bytes);
        hr_node *file = config_read_yaml(load, path, bytes);
        if (file != NULL) {
            merge_file(load, file);
            hr_node_free(file);
        }
    }
    hr_buffer_fini(&text);
}

hr_code hr_config_load(const char *const *paths, size_t count, const hr_config_options *options,
                       hr_config **out, hr_diagnostics *diags) {
    static const hr_config_options NONE = {0};
    hr_config *config = hr_alloc(sizeof *config);
    loading load = {.config = config, .diags = diags, .options = options == NULL ? &NONE : options};
    size_t errors_before = hr_diagnostics_errors(diags);
    config->root = hr_node_add(NULL, HR_NODE_MAP, NULL);
    for (size_t i = 0; i < 3; i++) {
        (void)hr_node_add(config->root, HR_NODE_MAP, TOP[i]);
    }
    for (size_t i = 0; i < count; i++) {
        expand_path(&load, paths[i]);
    }
    if (config->path_count > FILES_MAX) {
        (void)hr_diagnose(diags, (hr_place){0}, "more than %d files", (int)FILES_MAX);
    }
    for (size_t i = 0; i < config->path_count && i < FILES_MAX; i++) {
        load_file(&load, config->paths[i]);
    }
    config_put_variables(&load, config->root);
    hr_node *settings = config->root->child;
    config_check_map(&load, settings, SECTION_SETTINGS, NULL);
    for (hr_node *node = settings->next->child; node != NULL; node = node->next) {
        config_check_map(&load, node, SECTION_TRIGGER, node->key);
    }
    for (hr_node *node = settings->next->next->child; node != NULL; node = node->next) {
        config_check_map(&load, node, SECTION_FUNCTION, node->key);
    }
    config_check_rules(&load);
    if (hr_diagnostics_errors(diags) > errors_before) {
        hr_config_free(config);
        return HR_E_CONFIG;
    }
    *out = config;
    return HR_OK;
}

void hr_config_free(hr_config *take_config) {
    if (take_config == NULL) {
        return;
    }
    hr_node_free(take_config->root);
    for (size_t i = 0; i < take_config->path_count; i++) {
        hr_free(take_config->paths[i]);
    }
    hr_free(take_config->paths);
    hr_free(take_config);
}

const hr_node *hr_config_root(const hr_config *config) {
    return config->root;
}

const hr_node *hr_config_kind(const hr_node *trigger_or_function) {
    /* Only functions have `from`, and the words of the two sets of kinds overlap. */
    bool is_function = hr_node_get(trigger_or_function, "from") != NULL;
    section_id section = is_function ? SECTION_FUNCTION : SECTION_TRIGGER;
    for (const hr_node *child = trigger_or_function->child; child != NULL; child = child->next) {
        const config_key *key = config_find_key(section, child->key);
        if (key != NULL && (key->flags & HR_KEY_KIND) != 0) {
            return child;
        }
    }
    return NULL;
}
