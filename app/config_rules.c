/* SPDX-License-Identifier: Apache-2.0 */
/* What concerns several keys, several triggers and functions, or files beside the configuration. */
#include "app/config_priv.h"

#include "core/memory.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const hr_node *part(const loading *load, const char *name) {
    return hr_node_get(load->config->root, name);
}

static bool is_known(const hr_node *node) {
    return node != NULL && node->kind == HR_NODE_TEXT && node->number != CONFIG_UNKNOWN;
}

/* The first member of the map under key; NULL: there is none, or it is no map (said already). */
static const hr_node *first_of_map(const hr_node *map, const char *key) {
    const hr_node *node = hr_node_get(map, key);
    return node != NULL && node->kind == HR_NODE_MAP ? node->child : NULL;
}

/* --- names and chains --- */

static void check_names(loading *load) {
    const hr_node *triggers = part(load, "triggers");
    const hr_node *const maps[2] = {triggers, part(load, "functions")};
    for (int i = 0; i < 2; i++) {
        for (const hr_node *node = maps[i]->child; node != NULL; node = node->next) {
            if (!config_is_name(node->key)) {
                hr_diagnostic *said = hr_diagnose(load->diags, config_key_place(node),
                                                  "\"%.80s\" cannot be a name", node->key);
                hr_diagnostic_label(said, "a-z first, then a-z 0-9 -, at most 63");
            }
            const hr_node *other = i == 1 ? hr_node_get(triggers, node->key) : NULL;
            if (other != NULL) {
                hr_diagnostic *said =
                    hr_diagnose(load->diags, config_key_place(node),
                                "a trigger and a function are both called \"%s\"", node->key);
                hr_diagnostic_also(said, config_key_place(other), "the trigger");
            }
        }
    }
}

static void unknown_from(loading *load, const hr_node *item) {
    hr_diagnostic *said =
        hr_diagnose(load->diags, config_value_place(item),
                    "there is no trigger or function called \"%.80s\"", item->text);
    nearest near = {.wanted = item->text};
    char names[512] = "";
    const char *const maps[2] = {"triggers", "functions"};
    for (int i = 0; i < 2; i++) {
        for (const hr_node *node = part(load, maps[i])->child; node != NULL; node = node->next) {
            config_nearest_try(&near, node->key);
            size_t used = strlen(names);
            (void)snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? " " : "",
                           node->key);
        }
    }
    if (config_nearest(&near) != NULL) {
        hr_diagnostic_label(said, "did you mean \"%s\"?", config_nearest(&near));
    }
    if (names[0] != '\0') {
        hr_diagnostic_note(said, "names: %s", names);
    }
}

static void check_from(loading *load) {
    for (const hr_node *node = part(load, "functions")->child; node != NULL; node = node->next) {
        const hr_node *item = NULL;
        while (hr_node_each_text(node, "from", &item) != NULL) {
            if (is_known(item) && hr_node_get(part(load, "triggers"), item->text) == NULL &&
                hr_node_get(part(load, "functions"), item->text) == NULL) {
                unknown_from(load, item);
            }
        }
    }
}

/* Depth-first walk against the arrows of `from`. */
typedef struct walk {
    loading *load;
    const hr_node *path[256];
    size_t depth;
    hr_buffer done; /* names that lead to no cycle, each with its zero */
} walk;

static bool is_done(const walk *w, const char *name) {
    for (size_t at = 0; at < w->done.size; at += strlen((const char *)w->done.bytes + at) + 1) {
        if (strcmp((const char *)w->done.bytes + at, name) == 0) {
            return true;
        }
    }
    return false;
}

static void tell_cycle(walk *w, size_t first, const hr_node *item) {
    char chain[512] = "";
    for (size_t i = first; i < w->depth; i++) {
        const hr_node *hops = hr_node_get(w->path[i], "max_hops");
        if (hops != NULL && hops->line > 0) {
            return; /* its writer knows */
        }
        size_t used = strlen(chain);
        (void)snprintf(chain + used, sizeof chain - used, "%s takes from ", w->path[i]->key);
    }
    hr_diagnostic *said =
        hr_diagnose(w->load->diags, config_value_place(item),
                    "these functions feed each other: %s%s", chain, w->path[first]->key);
    hr_diagnostic_label(said, "events would go round");
    hr_diagnostic_note(said, "give one of them max_hops: N if that is meant");
}

static void visit(walk *w, const hr_node *function) {
    if (is_done(w, function->key) || w->depth == sizeof w->path / sizeof *w->path) {
        return;
    }
    w->path[w->depth++] = function;
    const hr_node *item = NULL;
    while (hr_node_each_text(function, "from", &item) != NULL) {
        const hr_node *next = hr_node_get(part(w->load, "functions"), item->text);
        size_t at = 0;
        while (next != NULL && at < w->depth && w->path[at] != next) {
            at++;
        }
        if (next != NULL && at < w->depth) {
            tell_cycle(w, at, item);
        } else if (next != NULL) {
            visit(w, next);
        }
    }
    w->depth--;
    hr_buffer_add(&w->done, function->key, strlen(function->key) + 1);
}

static void check_cycles(loading *load) {
    walk w = {.load = load};
    for (const hr_node *node = part(load, "functions")->child; node != NULL; node = node->next) {
        visit(&w, node);
    }
    hr_buffer_fini(&w.done);
}

/* --- settings --- */

static bool is_loopback(const char *address) {
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]:", 6) == 0 ||
           strncmp(address, "localhost:", 10) == 0;
}

static void check_settings(loading *load) {
    const hr_node *settings = part(load, "settings");
    const hr_node *admin = hr_node_get(settings, "admin");
    if (is_known(admin) && !is_loopback(admin->text) &&
        hr_node_get(settings, "admin_token") == NULL) {
        hr_diagnostic *said = hr_diagnose(load->diags, config_value_place(admin),
                                          "an admin address beyond loopback needs `admin_token`");
        hr_diagnostic_label(said, "or 127.0.0.1:PORT");
    }
}

/* --- triggers --- */

static bool is_true(const hr_node *map, const char *key) {
    return hr_node_number(map, key, 0) == 1;
}

static void check_hook(loading *load, const hr_node *trigger, const hr_node *hook) {
    bool has_secret = hr_node_get(hook, "secret") != NULL;
    bool has_token = hr_node_get(hook, "token") != NULL;
    if (!has_secret && !has_token && !is_true(hook, "insecure")) {
        hr_diagnostic *said =
            hr_diagnose(load->diags, config_key_place(hook),
                        "the trigger \"%s\" takes requests from anybody", trigger->key);
        hr_diagnostic_label(said, "give it `secret` or `token`, or write `insecure: true`");
    }
    const hr_node *path = hr_node_get(hook, "path");
    if (is_known(path) && (path->text[0] != '/' || strpbrk(path->text, "?# \t") != NULL)) {
        (void)hr_diagnose(load->diags, config_value_place(path),
                          "`path` must begin with / and hold no ? # or blank");
    }
    for (const hr_node *other = part(load, "triggers")->child; other != trigger;
         other = other->next) {
        const hr_node *theirs = hr_node_get(other, "webhook");
        theirs = hr_node_get(theirs != NULL ? theirs : hr_node_get(other, "storage"), "path");
        if (is_known(path) && is_known(theirs) && strcmp(theirs->text, path->text) == 0) {
            hr_diagnostic *said = hr_diagnose(
                load->diags, path->line > 0 ? config_value_place(path) : config_key_place(trigger),
                "two triggers have the path %s", path->text);
            hr_diagnostic_also(
                said, theirs->line > 0 ? config_value_place(theirs) : config_key_place(other),
                "the other one");
        }
    }
}

static void check_kafka(loading *load, const hr_node *kafka) {
    for (const hr_node *item = first_of_map(kafka, "properties"); item != NULL; item = item->next) {
        const char *reason = config_owned_reason(item->key);
        if (reason != NULL) {
            hr_diagnostic *said = hr_diagnose(load->diags, config_key_place(item),
                                              "`%s` is not yours to set", item->key);
            hr_diagnostic_label(said, "%s", reason);
        }
    }
    const hr_node *username = hr_node_get(kafka, "username");
    const hr_node *password = hr_node_get(kafka, "password");
    const hr_node *mechanism = hr_node_get(kafka, "mechanism");
    if ((username == NULL) != (password == NULL) || (mechanism != NULL && username == NULL)) {
        const hr_node *at = username != NULL ? username : password != NULL ? password : mechanism;
        (void)hr_diagnose(load->diags, config_key_place(at),
                          "`username` and `password` belong together");
    }
}

static bool is_attribute(const char *name, size_t size) {
    return size > 0 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") >= size;
}

/* NULL: a right filter. */
static const char *topic_fault(const char *topic) {
    if (strncmp(topic, "$share/", 7) == 0) {
        const char *slash = strchr(topic + 7, '/');
        if (slash == NULL || slash == topic + 7 || slash[1] == '\0') {
            return "$share/GROUP/FILTER";
        }
        topic = slash + 1;
    }
    for (const char *level = topic;;) {
        size_t size = strcspn(level, "/");
        if (level[0] == '+' && size > 1 && !is_attribute(level + 1, size - 1)) {
            return "behind + stands the name of an attribute: a-z 0-9 _";
        }
        if (memchr(level, '#', size) != NULL && (size != 1 || level[1] != '\0')) {
            return "# stands alone, at the end";
        }
        if (size > 1 && memchr(level + 1, '+', size - 1) != NULL) {
            return "+ stands at the start of a level";
        }
        if (level[size] == '\0') {
            return NULL;
        }
        level += size + 1;
    }
}

static void check_mqtt(loading *load, const hr_node *mqtt) {
    const hr_node *topic = hr_node_get(mqtt, "topic");
    const hr_node *topics = hr_node_get(mqtt, "topics");
    if ((topic == NULL) == (topics == NULL)) {
        hr_diagnostic *said =
            hr_diagnose(load->diags, config_key_place(topics != NULL ? topics : mqtt),
                        topic == NULL ? "the mqtt trigger needs `topic`"
                                      : "the mqtt trigger has both `topic` and `topics`");
        if (topic != NULL) {
            hr_diagnostic_also(said, config_key_place(topic), "the first one");
        }
    }
    const hr_node *qos = hr_node_get(mqtt, "qos");
    if (is_known(qos) && qos->number == 2) {
        (void)hr_diagnose_warning(load->diags, config_value_place(qos),
                                  "over MQTT 3.1.1 `qos: 2` is subscribed as 1; over 5 it is at "
                                  "least once across crashes");
    }
    const hr_node *item = NULL;
    while (hr_node_each_text(mqtt, topic != NULL ? "topic" : "topics", &item) != NULL) {
        const char *fault = is_known(item) ? topic_fault(item->text) : NULL;
        if (fault != NULL) {
            hr_diagnostic *said =
                hr_diagnose(load->diags, config_value_place(item), "this is no topic filter");
            hr_diagnostic_label(said, "%s", fault);
        }
    }
    item = NULL;
    while (hr_node_each_text(mqtt, "url", &item) != NULL) {
        if (is_known(item) && strncmp(item->text, "mqtt://", 7) != 0 &&
            strncmp(item->text, "mqtts://", 8) != 0) {
            hr_diagnostic *said = hr_diagnose(load->diags, config_value_place(item),
                                              "`url` must begin with mqtt:// or mqtts://");
            hr_diagnostic_label(said, "such as mqtt://localhost:1883");
        }
    }
}

/* An event that nobody takes is kept for nothing. */
static void warn_untaken(loading *load, const hr_node *trigger) {
    for (const hr_node *function = part(load, "functions")->child; function != NULL;
         function = function->next) {
        const hr_node *item = NULL;
        while (hr_node_each_text(function, "from", &item) != NULL) {
            if (strcmp(item->text, trigger->key) == 0) {
                return;
            }
        }
    }
    (void)hr_diagnose_warning(load->diags, config_key_place(trigger),
                              "no function takes from the trigger \"%s\"", trigger->key);
}

static void check_triggers(loading *load) {
    for (const hr_node *node = part(load, "triggers")->child; node != NULL; node = node->next) {
        const char *const hooks[2] = {"webhook", "storage"};
        for (int i = 0; i < 2; i++) {
            const hr_node *hook = hr_node_get(node, hooks[i]);
            if (hook != NULL && hook->kind == HR_NODE_MAP) {
                check_hook(load, node, hook);
            }
        }
        const hr_node *dedupe = hr_node_get(node, "dedupe");
        if (dedupe != NULL && dedupe->kind == HR_NODE_MAP && hr_node_get(dedupe, "by") == NULL &&
            hr_node_get(node, "webhook") == NULL && hr_node_get(node, "storage") == NULL) {
            hr_diagnostic *said =
                hr_diagnose(load->diags, config_key_place(dedupe), "`dedupe` needs `by` here");
            hr_diagnostic_label(said, "the source has no id of its own");
        }
        const hr_node *kafka = hr_node_get(node, "kafka");
        if (kafka != NULL && kafka->kind == HR_NODE_MAP) {
            check_kafka(load, kafka);
        }
        const hr_node *mqtt = hr_node_get(node, "mqtt");
        if (mqtt != NULL && mqtt->kind == HR_NODE_MAP) {
            check_mqtt(load, mqtt);
        }
    }
}

/* --- functions --- */

static void check_file(loading *load, const hr_node *node, const char *file, bool is_program) {
    char *joined = config_join(node, file);
    struct stat info;
    hr_place place = config_value_place(node);
    if (stat(joined, &info) != 0) {
        hr_diagnostic *said = hr_diagnose(load->diags, place, "%s: %s", joined, strerror(errno));
        hr_diagnostic_label(said, "the path starts at the folder of this file");
    } else if (S_ISDIR(info.st_mode)) {
        (void)hr_diagnose(load->diags, place, "%s is a folder", joined);
    } else if (access(joined, R_OK) != 0) {
        (void)hr_diagnose(load->diags, place, "%s: %s", joined, strerror(errno));
    } else if (is_program && access(joined, X_OK) != 0) {
        hr_diagnostic *said = hr_diagnose(load->diags, place, "%s cannot be executed", joined);
        hr_diagnostic_label(said, "chmod +x");
    }
    hr_free(joined);
}

/* FILE or FILE:NAME. */
static void check_python(loading *load, const hr_node *node) {
    char *file = hr_copy_text(node->text);
    char *colon = strrchr(file, ':');
    if (colon != NULL && strchr(colon, '/') == NULL) {
        *colon = '\0';
    }
    check_file(load, node, file, false);
    hr_free(file);
}

static void refuse_key(loading *load, const hr_node *function, const char *name,
                       const char *takers) {
    const hr_node *node = hr_node_get(function, name);
    if (node != NULL && node->line > 0) {
        hr_diagnostic *said = hr_diagnose(load->diags, config_key_place(node),
                                          "`%s` means nothing to this handler", name);
        hr_diagnostic_label(said, "it is for %s", takers);
    }
}

static void check_function(loading *load, const hr_node *function) {
    const hr_node *python = hr_node_get(function, "python");
    const hr_node *native = hr_node_get(function, "native");
    const hr_node *exec = hr_node_get(function, "exec");
    if (is_known(python) && python->text[0] != '\0') {
        check_python(load, python);
    }
    if (is_known(native) && native->text[0] != '\0') {
        check_file(load, native, native->text, false);
    }
    const hr_node *kafka = hr_node_get(function, "kafka");
    if (kafka != NULL && kafka->kind == HR_NODE_MAP) {
        check_kafka(load, kafka);
    }
    const hr_node *program = NULL;
    if (exec != NULL && hr_node_each_text(function, "exec", &program) != NULL &&
        is_known(program) && strchr(program->text, '/') != NULL) {
        check_file(load, program, program->text, true);
    }
    if (python == NULL) {
        refuse_key(load, function, "interpreter", "python");
    }
    if (python == NULL && native == NULL && exec == NULL) {
        refuse_key(load, function, "workers", "python, exec, native");
        if (hr_node_get(function, "shell") == NULL) {
            refuse_key(load, function, "env", "python, exec, shell, native");
        }
    }
    const hr_node *isolation = hr_node_get(function, "isolation");
    if (is_known(isolation) && strcmp(isolation->text, "none") == 0 && native == NULL) {
        (void)hr_diagnose(load->diags, config_value_place(isolation),
                          "only a native function can run without isolation");
    }
    if (is_known(native) && (isolation == NULL || strcmp(isolation->text, "none") != 0)) {
        hr_diagnostic *said =
            hr_diagnose(load->diags, config_value_place(native),
                        "a native function runs in the daemon itself in this version");
        hr_diagnostic_note(said, "write `isolation: none` if its crash may be the daemon's; else "
                                 "let it speak the worker protocol (`exec:`)");
    }
    for (const hr_node *item = first_of_map(function, "env"); item != NULL; item = item->next) {
        if (item->key[0] == '\0' || strchr(item->key, '=') != NULL) {
            (void)hr_diagnose(load->diags, config_key_place(item), "this is no name of a variable");
        }
    }
    const hr_node *notify = hr_node_get(function, "notify");
    const hr_node *secret = hr_node_get(notify, "secret");
    if (secret != NULL && hr_node_get(notify, "feishu") == NULL) {
        (void)hr_diagnose(load->diags, config_key_place(secret), "`secret` is for feishu");
    }
}

/* --- libraries --- */

/* Those that not everybody needs are loaded when they are used: one that is missing is told here.
 */
static void check_libraries(loading *load, const hr_node *triggers_or_functions, bool is_function) {
    for (const hr_node *node = triggers_or_functions->child; node != NULL; node = node->next) {
        const hr_node *kind = hr_config_kind(node);
        hr_error err = {0};
        if (load->options->load_kind(load->options->data, kind, is_function, &err) != HR_OK) {
            (void)hr_diagnose(load->diags, config_key_place(kind), "%s", err.text);
        }
    }
}

void config_check_rules(loading *load) {
    check_names(load);
    check_settings(load);
    check_triggers(load);
    for (const hr_node *node = part(load, "functions")->child; node != NULL; node = node->next) {
        if (node->kind == HR_NODE_MAP) {
            check_function(load, node);
        }
    }
    check_from(load);
    check_cycles(load);
    for (const hr_node *node = part(load, "triggers")->child;
         node != NULL && hr_diagnostics_errors(load->diags) == 0; node = node->next) {
        warn_untaken(load, node);
    }
    if (hr_diagnostics_errors(load->diags) == 0 && load->options->load_kind != NULL) {
        check_libraries(load, part(load, "triggers"), false);
        check_libraries(load, part(load, "functions"), true);
    }
}
