/* SPDX-License-Identifier: Apache-2.0 */
/* A read-only tree of configuration values, as the loader leaves it: variables put in, units
 * converted, defaults filled in, every key known and of the right type. Triggers, functions and
 * settings read from it and need check nothing again.  Thread: any (it never changes). */
#ifndef HR_CORE_NODE_H
#define HR_CORE_NODE_H

#include "core/slice.h"

#include <stddef.h>

typedef enum hr_node_kind { HR_NODE_TEXT, HR_NODE_LIST, HR_NODE_MAP } hr_node_kind;

typedef struct hr_node {
    hr_node_kind kind;
    char *key;      /* name in the map above it; NULL in lists and at the root */
    char *text;     /* TEXT: the value as written (after variables), terminated */
    int64_t number; /* TEXT: durations in ms, sizes in bytes, integers, booleans 0/1; else 0 */
    bool secret;    /* came from a variable or file: never print it */
    bool quoted;    /* TEXT: was a quoted or block scalar (a string for sure) */
    const char *file;
    int line, column;                    /* of the value, from 1; 0: a default */
    int width;                           /* columns of the value on its first line; 0: unknown */
    int key_line, key_column;            /* of the key, from 1; 0: none, or a default */
    struct hr_node *child, *last, *next; /* owned; next is the sibling */
} hr_node;

/* A new node under parent (NULL: a root), copying key (may be NULL). Owned by the parent. */
hr_node *hr_node_add(hr_node *parent, hr_node_kind kind, const char *key);

/* A TEXT node with its value and number. */
hr_node *hr_node_add_text(hr_node *parent, const char *key, const char *text, int64_t number);

/* Frees a root and all below it. */
void hr_node_free(hr_node *take_root);

/* The child called key, NULL when absent or when map is NULL or no map. */
const hr_node *hr_node_get(const hr_node *map, const char *key);

/* The value of child key, or the fallback when it is absent. */
const char *hr_node_text(const hr_node *map, const char *key, const char *fallback);
int64_t hr_node_number(const hr_node *map, const char *key, int64_t fallback);

/* How many children. */
size_t hr_node_count(const hr_node *node);

/* Lists may be written as one value: the first text of key's list or the text itself, then the
 * others. Start with *cursor NULL; NULL at the end. */
const char *hr_node_each_text(const hr_node *map, const char *key, const hr_node **cursor);

#endif
