/* SPDX-License-Identifier: Apache-2.0 */
#include "app/config_priv.h"

#include "core/memory.h"
#include "core/utf8.h"

#include <errno.h>
#include <libfyaml.h>
#include <stdio.h>

enum { DEPTH_MAX = 32, NODES_MAX = 100000 }; /* aliases of aliases end here */

typedef struct reading {
    loading *load;
    const char *path;
    size_t nodes;
    int depth;
    bool is_cut; /* a limit was met, and said */
} reading;

static hr_place place_of(const reading *r, struct fy_token *token, int width) {
    const struct fy_mark *mark = token == NULL ? NULL : fy_token_start_mark(token);
    hr_place place = {.file = r->path, .line = 1, .column = 1, .width = width};
    if (mark != NULL) {
        place.line = mark->line + 1;
        place.column = mark->column + 1;
    }
    return place;
}

static int width_of(struct fy_token *token) {
    const struct fy_mark *start = token == NULL ? NULL : fy_token_start_mark(token);
    const struct fy_mark *end = token == NULL ? NULL : fy_token_end_mark(token);
    if (start == NULL || end == NULL || end->line != start->line) {
        return 0;
    }
    return end->column - start->column;
}

/* The first token of a node, for its place: of a map its first key. */
static struct fy_token *token_of(struct fy_node *node) {
    for (int depth = 0; node != NULL && depth < DEPTH_MAX; depth++) {
        if (fy_node_is_scalar(node)) {
            return fy_node_get_scalar_token(node);
        }
        if (fy_node_is_mapping(node)) {
            node = fy_node_pair_key(fy_node_mapping_get_by_index(node, 0));
        } else {
            node = fy_node_sequence_get_by_index(node, 0);
        }
    }
    return NULL;
}

static hr_node *read_node(reading *r, hr_node *parent, const char *key, struct fy_node *node);

static hr_node *new_node(reading *r, hr_node *parent, hr_node_kind kind, const char *key,
                         struct fy_token *token) {
    hr_node *made = hr_node_add(parent, kind, key);
    hr_place place = place_of(r, token, 0);
    made->file = r->path;
    made->line = place.line;
    made->column = place.column;
    made->width = kind == HR_NODE_TEXT ? width_of(token) : 0;
    return made;
}

static bool is_merge_key(struct fy_node *key) {
    return fy_node_get_style(key) == FYNS_PLAIN && strcmp(fy_node_get_scalar0(key), "<<") == 0;
}

/* "<<: *base": the pairs of the other map that are not given here. */
static void merge(reading *r, hr_node *map, struct fy_node *value) {
    hr_node *other = read_node(r, NULL, NULL, value);
    if (other == NULL) {
        return;
    }
    if (other->kind != HR_NODE_MAP) {
        (void)hr_diagnose(r->load->diags, place_of(r, token_of(value), 2),
                          "\"<<\" takes the alias of a map");
        hr_node_free(other);
        return;
    }
    hr_node *child = other->child;
    other->child = other->last = NULL;
    while (child != NULL) {
        hr_node *next = child->next;
        child->next = NULL;
        if (hr_node_get(map, child->key) == NULL) {
            config_append(map, child);
        } else {
            hr_node_free(child);
        }
        child = next;
    }
    hr_node_free(other);
}

static void read_pair(reading *r, hr_node *map, struct fy_node_pair *pair) {
    struct fy_node *key = fy_node_pair_key(pair);
    struct fy_node *value = fy_node_pair_value(pair);
    struct fy_token *token = token_of(key);
    const char *name = fy_node_is_scalar(key) ? fy_node_get_scalar0(key) : NULL;
    if (name == NULL || fy_node_is_alias(key)) {
        (void)hr_diagnose(r->load->diags, place_of(r, token, 1), "a key must be one word");
        return;
    }
    if (is_merge_key(key)) {
        return; /* after the map's own pairs, which win */
    }
    const hr_node *first = hr_node_get(map, name);
    if (first != NULL) {
        hr_place place = place_of(r, token, width_of(token));
        hr_diagnostic *said = hr_diagnose(r->load->diags, place, "\"%s\" is given twice", name);
        hr_diagnostic_also(said, config_key_place(first), "first given here");
        return;
    }
    hr_node *child = value == NULL ? new_node(r, map, HR_NODE_TEXT, name, token)
                                   : read_node(r, map, name, value);
    if (child == NULL) {
        return;
    }
    hr_place place = place_of(r, token, 0);
    if (child->text == NULL && child->kind == HR_NODE_TEXT) {
        child->text = hr_copy_text("");
    }
    if (child->kind == HR_NODE_TEXT && child->text[0] == '\0' && child->width == 0) {
        child->line = place.line; /* nothing written: the key stands for it */
        child->column = place.column;
        child->width = width_of(token);
    }
    child->key_line = place.line;
    child->key_column = place.column;
}

static hr_node *read_map(reading *r, hr_node *parent, const char *key, struct fy_node *node) {
    hr_node *map = new_node(r, parent, HR_NODE_MAP, key, token_of(node));
    void *cursor = NULL;
    struct fy_node_pair *pair;
    while ((pair = fy_node_mapping_iterate(node, &cursor)) != NULL && !r->is_cut) {
        read_pair(r, map, pair);
    }
    cursor = NULL;
    while ((pair = fy_node_mapping_iterate(node, &cursor)) != NULL && !r->is_cut) {
        struct fy_node *name = fy_node_pair_key(pair);
        if (name != NULL && fy_node_is_scalar(name) && !fy_node_is_alias(name) &&
            is_merge_key(name) && fy_node_pair_value(pair) != NULL) {
            merge(r, map, fy_node_pair_value(pair));
        }
    }
    return map;
}

static hr_node *read_scalar(reading *r, hr_node *parent, const char *key, struct fy_node *node) {
    struct fy_token *token = fy_node_get_scalar_token(node);
    size_t size = 0;
    const char *text = fy_node_get_scalar(node, &size);
    if (text != NULL && memchr(text, '\0', size) != NULL) {
        (void)hr_diagnose(r->load->diags, place_of(r, token, width_of(token)),
                          "a value cannot hold a zero byte");
        return NULL;
    }
    hr_node *made = new_node(r, parent, HR_NODE_TEXT, key, token);
    enum fy_node_style style = fy_node_get_style(node);
    if ((style == FYNS_DOUBLE_QUOTED || style == FYNS_SINGLE_QUOTED) && made->column > 1) {
        made->column--; /* fyaml's mark stands behind the quote */
        made->width += made->width > 0 ? 2 : 0;
    }
    made->text = hr_copy_bytes(text == NULL ? "" : text, text == NULL ? 0 : size);
    made->quoted = style != FYNS_PLAIN;
    return made;
}

static hr_node *read_node_at(reading *r, hr_node *parent, const char *key, struct fy_node *node) {
    if (fy_node_is_alias(node)) {
        struct fy_token *token = fy_node_get_scalar_token(node);
        struct fy_node *target = fy_node_resolve_alias(node);
        if (target == NULL) {
            (void)hr_diagnose(r->load->diags, place_of(r, token, width_of(token)),
                              "there is no anchor of this name");
            return NULL;
        }
        return read_node(r, parent, key, target);
    }
    if (fy_node_is_scalar(node)) {
        return read_scalar(r, parent, key, node);
    }
    if (fy_node_is_mapping(node)) {
        return read_map(r, parent, key, node);
    }
    hr_node *list = new_node(r, parent, HR_NODE_LIST, key, token_of(node));
    void *cursor = NULL;
    struct fy_node *item;
    while ((item = fy_node_sequence_iterate(node, &cursor)) != NULL && !r->is_cut) {
        (void)read_node(r, list, NULL, item);
    }
    return list;
}

static hr_node *read_node(reading *r, hr_node *parent, const char *key, struct fy_node *node) {
    if (r->depth == DEPTH_MAX || r->nodes == NODES_MAX) {
        if (!r->is_cut) {
            (void)hr_diagnose(r->load->diags, place_of(r, token_of(node), 1),
                              r->depth == DEPTH_MAX ? "nested too deeply (%d levels at most)"
                                                    : "too many values (%d at most)",
                              r->depth == DEPTH_MAX ? (int)DEPTH_MAX : (int)NODES_MAX);
        }
        r->is_cut = true;
        return NULL;
    }
    r->nodes++;
    r->depth++;
    hr_node *made = read_node_at(r, parent, key, node);
    r->depth--;
    return made;
}

/* Does a brace of "${" stand here? YAML takes it for a map where the line is in flow style. */
static bool is_open_variable(const reading *r, hr_place place) {
    hr_slice text = hr_diagnostics_text(r->load->diags, r->path);
    size_t at = 0;
    for (int line = 1; line < place.line && at < text.size; at++) {
        line += text.bytes[at] == '\n' ? 1 : 0;
    }
    size_t brace = at + (size_t)place.column - 1;
    return brace > 0 && brace < text.size && text.bytes[brace] == '{' &&
           text.bytes[brace - 1] == '$';
}

static void tell_syntax_errors(reading *r, struct fy_diag *diag) {
    void *cursor = NULL;
    struct fy_diag_error *error;
    bool is_told = false;
    while ((error = fy_diag_errors_iterate(diag, &cursor)) != NULL) {
        if (error->type != FYET_ERROR && error->type != FYET_WARNING) {
            continue;
        }
        hr_place place = {.file = r->path,
                          .line = error->line < 1 ? 1 : error->line,
                          .column = error->column < 1 ? 1 : error->column,
                          .width = 1};
        size_t size = error->msg == NULL ? 0 : strcspn(error->msg, "\n");
        hr_diagnostic *said = hr_diagnose(r->load->diags, place, "this is no YAML: %.*s", (int)size,
                                          error->msg == NULL ? "" : error->msg);
        if (is_open_variable(r, place)) {
            hr_diagnostic_label(said, "inside { } and [ ] a variable stands in quotes: "
                                      "\"${NAME}\"");
        }
        is_told = true;
    }
    if (!is_told) {
        (void)hr_diagnose(r->load->diags, (hr_place){.file = r->path}, "this is no YAML");
    }
}

static void ignore_output(struct fy_diag *diag, void *user, const char *text, size_t size) {
    (void)diag;
    (void)user;
    (void)text;
    (void)size;
}

/* Nothing but blanks and comments? */
static bool is_blank_text(hr_slice text) {
    for (size_t at = 0; at < text.size; at++) {
        if (text.bytes[at] == '#') {
            while (at < text.size && text.bytes[at] != '\n') {
                at++;
            }
        } else if (strchr(" \t\r\n", text.bytes[at]) == NULL) {
            return false;
        }
    }
    return true;
}

/* fyaml loops for ever over some texts that are no UTF-8, so it sees none. */
static bool is_utf8(const loading *load, const char *path, hr_slice text) {
    size_t good = hr_utf8_prefix(text);
    if (good == text.size) {
        return true;
    }
    hr_place place = {.file = path, .line = 1, .column = 1};
    for (size_t at = 0; at < good; at++) {
        bool is_end = text.bytes[at] == '\n';
        place.line += is_end;
        place.column = is_end ? 1 : place.column + ((text.bytes[at] & 0xC0) != 0x80);
    }
    (void)hr_diagnose(load->diags, place, "the file is not UTF-8 here");
    return false;
}

hr_node *config_read_yaml(loading *load, const char *path, hr_slice text) {
    if (!is_utf8(load, path, text)) {
        return NULL;
    }
    reading r = {.load = load, .path = path};
    struct fy_diag_cfg diag_config;
    fy_diag_cfg_default(&diag_config);
    diag_config.fp = NULL; /* what it has to say is collected, not printed */
    diag_config.output_fn = ignore_output;
    struct fy_diag *diag = fy_diag_create(&diag_config);
    hr_require(diag);
    fy_diag_set_collect_errors(diag, true);
    struct fy_parse_cfg config = {.flags = FYPCF_DEFAULT_PARSE | FYPCF_COLLECT_DIAG |
                                           FYPCF_ALLOW_DUPLICATE_KEYS | FYPCF_DEFAULT_VERSION_1_2 |
                                           FYPCF_JSON_NONE,
                                  .diag = diag};
    /* fyaml keeps pointers into the text: a terminated copy that outlives the document. */
    char *copy = hr_copy_bytes(text.bytes, text.size);
    errno = 0; /* what memory it misses it may pass over: nothing else here sets it */
    struct fy_document *document = fy_document_build_from_string(&config, copy, text.size);
    hr_node *root = NULL;
    if (document == NULL && is_blank_text(text)) {
        root = hr_node_add(NULL, HR_NODE_MAP, NULL);
        root->file = path;
        root->line = root->column = 1;
    } else if (document == NULL || fy_diag_got_error(diag)) {
        tell_syntax_errors(&r, diag);
    } else if (fy_document_root(document) == NULL) {
        root = hr_node_add(NULL, HR_NODE_MAP, NULL); /* only comments */
        root->file = path;
        root->line = root->column = 1;
    } else {
        root = read_node(&r, NULL, NULL, fy_document_root(document));
    }
    hr_require(errno == ENOMEM ? NULL : diag);
    fy_document_destroy(document);
    fy_diag_destroy(diag);
    hr_free(copy);
    return root;
}
