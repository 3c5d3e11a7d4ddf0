/* SPDX-License-Identifier: Apache-2.0 */
#include "functions/worker_program.h"

#include "core/memory.h"
#include "functions/registry.h"

#include <string.h>
#include <unistd.h>

static bool is_there(const hr_runtime *runtime, const char *program) {
    char *path = program[0] == '/' ? hr_copy_text(program)
                                   : hr_format("%s/%s", runtime->config_dir, program);
    bool found = access(path, X_OK) == 0;
    hr_free(path);
    return found;
}

/* For the caller to free. */
static char *interpreter_of(const hr_runtime *runtime, const char *file) {
    static const char beside_configuration[] = ".venv/bin/python";
    const char *given = hr_node_text(runtime->config, "interpreter", NULL);
    if (given != NULL) {
        return hr_copy_text(given);
    }
    const char *slash = strrchr(file, '/');
    int folder = slash == NULL ? 0 : (int)(slash - file) + 1;
    char *beside_file = hr_format("%.*s%s", folder, file, beside_configuration);
    if (is_there(runtime, beside_file)) {
        return beside_file;
    }
    hr_free(beside_file);
    return hr_copy_text(is_there(runtime, beside_configuration) ? beside_configuration : "python3");
}

/* FILE or FILE:NAME. */
static void python_program(const hr_runtime *runtime, hr_strings *argv, hr_strings *env) {
    const char *text = runtime->kind_config->text;
    const char *colon = strrchr(text, ':');
    bool has_name = colon != NULL && strchr(colon, '/') == NULL;
    char *file = has_name ? hr_copy_bytes(text, (size_t)(colon - text)) : hr_copy_text(text);
    const char *workers = hr_workers_dir();
    hr_strings_add(argv, interpreter_of(runtime, file));
    hr_strings_add(argv, hr_copy_text("-u"));
    hr_strings_add(argv, hr_format("%s/worker.py", workers));
    hr_strings_add(argv, file);
    hr_strings_add(argv, hr_copy_text(has_name ? colon + 1 : "handle"));
    if (hr_node_get(hr_node_get(runtime->config, "env"), "PYTHONPATH") == NULL) {
        hr_strings_add(env, hr_format("PYTHONPATH=%s", workers));
    }
}

void hr_worker_program(const hr_runtime *runtime, hr_strings *argv, hr_strings *env) {
    hr_environment(env, runtime);
    hr_strings_add(env, hr_copy_text("HEADRACE_FD=3"));
    if (strcmp(runtime->ops->kind, "python") == 0) {
        python_program(runtime, argv, env);
        return;
    }
    const hr_node *cursor = NULL;
    for (const char *word = hr_node_each_text(runtime->config, "exec", &cursor); word != NULL;
         word = hr_node_each_text(runtime->config, "exec", &cursor)) {
        hr_strings_add(argv, hr_copy_text(word));
    }
}
