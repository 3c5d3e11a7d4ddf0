/* SPDX-License-Identifier: Apache-2.0 */
#include "app/config_priv.h"

#include <stdio.h>

#define HR_SECTION(id, title)
#define HR_KEY(section, name, type, arg, fallback, flags, help)                                    \
    {SECTION_##section, name, TYPE_##type, arg, fallback, flags, help},
#define HR_OWNED(property, reason)
#define HR_INSTEAD(section, wrong, right)
const config_key CONFIG_KEYS[] = {
#include "schemas/config.def"
};
#undef HR_SECTION
#undef HR_KEY
#undef HR_OWNED
#undef HR_INSTEAD
const size_t CONFIG_KEY_COUNT = sizeof CONFIG_KEYS / sizeof *CONFIG_KEYS;

#define HR_KEY(section, name, type, arg, fallback, flags, help)
#define HR_SECTION(id, title) {#id, title},
#define HR_OWNED(property, reason)
#define HR_INSTEAD(section, wrong, right)
static const struct {
    const char *word, *title;
} SECTION[] = {
#include "schemas/config.def"
};
#undef HR_SECTION
#undef HR_OWNED
#undef HR_INSTEAD

#define HR_SECTION(id, title)
#define HR_OWNED(property, reason) {property, reason},
#define HR_INSTEAD(section, wrong, right)
static const struct {
    const char *property, *reason;
} OWNED[] = {
#include "schemas/config.def"
};
#undef HR_OWNED
#undef HR_INSTEAD

#define HR_OWNED(property, reason)
#define HR_INSTEAD(section, wrong, right) {SECTION_##section, wrong, right},
static const struct {
    section_id section;
    const char *wrong, *right;
} INSTEAD[] = {
#include "schemas/config.def"
};
#undef HR_SECTION
#undef HR_KEY
#undef HR_OWNED
#undef HR_INSTEAD

const char *config_section_title(section_id section) {
    return SECTION[section].title;
}

const char *config_section_word(section_id section) {
    return SECTION[section].word;
}

bool config_has_section(const config_key *key) {
    return key->type == TYPE_MAP || key->type == TYPE_HTTP || key->type == TYPE_BACKOFF;
}

section_id config_section_of(const config_key *key) {
    for (int i = 0; config_has_section(key) && i < (int)SECTIONS; i++) {
        if (strcmp(SECTION[i].word, key->arg) == 0) {
            return (section_id)i;
        }
    }
    HR_ASSERT(!"every map names a section");
    return SECTIONS;
}

const config_key *config_find_key(section_id section, const char *name) {
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        if (CONFIG_KEYS[i].section == section && strcmp(CONFIG_KEYS[i].name, name) == 0) {
            return &CONFIG_KEYS[i];
        }
    }
    return NULL;
}

const char *config_instead(section_id section, const char *wrong) {
    for (size_t i = 0; i < sizeof INSTEAD / sizeof *INSTEAD; i++) {
        if (INSTEAD[i].section == section && strcmp(INSTEAD[i].wrong, wrong) == 0) {
            return INSTEAD[i].right;
        }
    }
    return NULL;
}

const char *config_owned_reason(const char *property) {
    for (size_t i = 0; i < sizeof OWNED / sizeof *OWNED; i++) {
        if (strcmp(OWNED[i].property, property) == 0) {
            return OWNED[i].reason;
        }
    }
    return NULL;
}

/* Edits (insert, delete, replace, swap of neighbours) from a to b; words above 64 bytes: far. */
static int edits(const char *a, const char *b) {
    enum { MOST = 64 };
    int m = (int)strlen(a);
    int n = (int)strlen(b);
    if (m > MOST || n > MOST) {
        return MOST;
    }
    int row[3][MOST + 1];
    for (int j = 0; j <= n; j++) {
        row[0][j] = j;
    }
    for (int i = 1; i <= m; i++) {
        int *now = row[i % 3];
        const int *before = row[(i + 2) % 3];
        const int *older = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = before[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            best = before[j] + 1 < best ? before[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                older[j - 2] + 1 < best) {
                best = older[j - 2] + 1;
            }
            now[j] = best;
        }
    }
    return row[m % 3][n];
}

void config_nearest_try(nearest *self, const char *candidate) {
    int distance = edits(self->wanted, candidate);
    if (self->best[0] == '\0' || distance < self->distance) {
        self->distance = distance;
        (void)snprintf(self->best, sizeof self->best, "%s", candidate);
    }
}

const char *config_nearest(const nearest *self) {
    int limit = (int)strlen(self->wanted) / 3;
    limit = limit < 1 ? 1 : limit;
    return self->best[0] != '\0' && self->distance <= limit ? self->best : NULL;
}
