/* SPDX-License-Identifier: Apache-2.0 */
#include "core/node.h"

#include "core/memory.h"

hr_node *hr_node_add(hr_node *parent, hr_node_kind kind, const char *key) {
    hr_node *node = hr_alloc(sizeof *node);
    node->kind = kind;
    node->key = hr_copy_text(key);
    if (parent != NULL) {
        if (parent->last == NULL) {
            parent->child = node;
        } else {
            parent->last->next = node;
        }
        parent->last = node;
    }
    return node;
}

hr_node *hr_node_add_text(hr_node *parent, const char *key, const char *text, int64_t number) {
    hr_node *node = hr_node_add(parent, HR_NODE_TEXT, key);
    node->text = hr_copy_text(text);
    node->number = number;
    return node;
}

void hr_node_free(hr_node *take_root) {
    if (take_root == NULL) {
        return;
    }
    hr_node *child = take_root->child;
    while (child != NULL) {
        hr_node *next = child->next;
        hr_node_free(child);
        child = next;
    }
    hr_free(take_root->key);
    hr_free(take_root->text);
    hr_free(take_root);
}

const hr_node *hr_node_get(const hr_node *map, const char *key) {
    if (map == NULL || map->kind != HR_NODE_MAP) {
        return NULL;
    }
    for (const hr_node *child = map->child; child != NULL; child = child->next) {
        if (strcmp(child->key, key) == 0) {
            return child;
        }
    }
    return NULL;
}

const char *hr_node_text(const hr_node *map, const char *key, const char *fallback) {
    const hr_node *node = hr_node_get(map, key);
    return node == NULL || node->kind != HR_NODE_TEXT ? fallback : node->text;
}

int64_t hr_node_number(const hr_node *map, const char *key, int64_t fallback) {
    const hr_node *node = hr_node_get(map, key);
    return node == NULL || node->kind != HR_NODE_TEXT ? fallback : node->number;
}

size_t hr_node_count(const hr_node *node) {
    size_t count = 0;
    for (const hr_node *child = node == NULL ? NULL : node->child; child != NULL;
         child = child->next) {
        count++;
    }
    return count;
}

const char *hr_node_each_text(const hr_node *map, const char *key, const hr_node **cursor) {
    const hr_node *node = hr_node_get(map, key);
    if (node == NULL) {
        return NULL;
    }
    if (*cursor == NULL) {
        *cursor = node->kind == HR_NODE_LIST ? node->child : node;
    } else {
        *cursor = node->kind == HR_NODE_LIST ? (*cursor)->next : NULL;
    }
    return *cursor == NULL ? NULL : (*cursor)->text;
}
