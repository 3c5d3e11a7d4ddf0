/* SPDX-License-Identifier: Apache-2.0 */
/* What the files config_*.c share: the table of keys, and the state of one load. */
#ifndef HR_APP_CONFIG_PRIV_H
#define HR_APP_CONFIG_PRIV_H

#include "app/config.h"

typedef enum section_id {
#define HR_SECTION(id, title) SECTION_##id,
#define HR_KEY(section, name, type, arg, fallback, flags, help)
#define HR_OWNED(property, reason)
#define HR_INSTEAD(section, wrong, right)
#include "schemas/config.def"
#undef HR_SECTION
#undef HR_KEY
#undef HR_OWNED
#undef HR_INSTEAD
    SECTIONS
} section_id;

typedef enum key_type {
    TYPE_MAP,      /* a section */
    TYPE_LIST,     /* texts, or one text; arg: the words allowed */
    TYPE_TEXTS,    /* a map of free names to texts */
    TYPE_ANY,      /* any YAML */
    TYPE_TEXT,     /* not empty */
    TYPE_NAME,     /* [a-z][a-z0-9-]{0,62} */
    TYPE_BOOL,     /* true or false */
    TYPE_INT,      /* in a range */
    TYPE_DURATION, /* in a range, with unit */
    TYPE_SIZE,     /* in a range, with unit */
    TYPE_RATE,     /* N/s N/m N/h */
    TYPE_ENUM,     /* one of some words */
    TYPE_EXPR,     /* SQL expression */
    TYPE_FILE,     /* path, from the folder of its file */
    TYPE_ADDRESS,  /* HOST:PORT */
    TYPE_URL,      /* http(s)://... */
    TYPE_START,    /* earliest, latest, RFC 3339 */
    TYPE_BACKOFF,  /* FROM..TO, or its section */
    TYPE_HTTP,     /* a URL, or its section */
    TYPE_CRON,     /* cron expression */
    TYPE_ZONE      /* time zone */
} key_type;

enum {
    HR_KEY_REQUIRED = 1,
    HR_KEY_KIND = 2,
    HR_KEY_SECRET = 4,
    HR_KEY_LATER = 8,
    HR_KEY_FILLED = 16
};

typedef struct config_key {
    section_id section;
    const char *name;
    key_type type;
    const char *arg, *fallback;
    unsigned flags;
    const char *help;
} config_key;

/* --- config_table.c --- */
extern const config_key CONFIG_KEYS[];
extern const size_t CONFIG_KEY_COUNT;
const char *config_section_title(section_id section);
const char *config_section_word(section_id section); /* "LISTEN_TLS" */
section_id config_section_of(const config_key *key); /* of MAP, HTTP, BACKOFF */
bool config_has_section(const config_key *key);
const config_key *config_find_key(section_id section, const char *name);
const char *config_instead(section_id section, const char *wrong); /* NULL: no known habit */
const char *config_owned_reason(const char *property);             /* NULL: the user's */

/* The word nearest to what was written, for "did you mean". Start zeroed but for wanted. */
typedef struct nearest {
    const char *wanted;
    char best[128];
    int distance;
} nearest;
void config_nearest_try(nearest *self, const char *candidate);
const char *config_nearest(const nearest *self); /* NULL: nothing near enough */

/* --- one load --- */
struct hr_config {
    hr_node *root;
    char **paths; /* node->file points into these */
    size_t path_count;
};

typedef struct loading {
    hr_config *config;
    hr_diagnostics *diags;
    const hr_config_options *options;
} loading;

/* Places of a node's value and of its key. */
hr_place config_value_place(const hr_node *node);
hr_place config_key_place(const hr_node *node);

/* The place of byte offset of a scalar's text in its file; the whole value when it cannot be told.
 */
hr_place config_text_place(const loading *load, const hr_node *node, int offset, int width);

/* Moves take_child to the end of parent; takes child out of parent and frees it. */
void config_append(hr_node *parent, hr_node *take_child);
void config_remove(hr_node *parent, hr_node *child);

/* folder of the node's file joined with a relative path. */
char *config_join(const hr_node *node, const char *path);

/* --- config_yaml.c: text of one file to a tree; errors go to diags. NULL when it cannot be read at
 * all. path must outlive the tree. */
hr_node *config_read_yaml(loading *load, const char *path, hr_slice text);

/* number of a scalar whose variables could not be put in: its error is told, its type is not looked
 * at. */
#define CONFIG_UNKNOWN INT64_MIN

/* --- config_variables.c: puts variables into all scalars below node. */
void config_put_variables(loading *load, hr_node *node);

/* --- config_check.c: keys, types and defaults of one map. owner: the trigger's or function's name.
 */
void config_check_map(loading *load, hr_node *map, section_id section, const char *owner);

/* --- config_value.c: one scalar; sets node->number. */
void config_check_value(loading *load, const config_key *key, hr_node *node);

/* [a-z][a-z0-9-]{0,62} */
bool config_is_name(const char *text);

/* --- config_rules.c: what concerns several keys at once. */
void config_check_rules(loading *load);

#endif
