/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: YAML files become one checked tree of core/node.h, or errors with their
 * places.
 *
 * Shape of the tree (see also docs of the keys: schemas/config.def):
 *   root        MAP with the maps settings, triggers, functions: always all three
 *   defaults    are filled in (line 0); maps of settings, and batch and retry, always stand; so do
 *               kafka.group, mqtt.client_id, webhook.path, storage.path
 *   durations   number in ms, -1 for "none"; sizes in bytes; booleans 0 or 1
 *   rate        number in thousandths of an event per second ("5/s": 5000)
 *   kafka.start number -2 earliest, -1 latest, else ms since 1970
 *   backoff     MAP { min, max }, however it was written
 *   lists       TEXT (one value) or LIST, as written: read them with hr_node_each_text(); brokers
 *               and mqtt url may hold commas inside one text
 *   http        TEXT (the address) or MAP, as written
 *   dedupe      there: on. Always for webhook and storage (by the source's own id when `by` is
 *               absent), for the others only when written, with `by`
 *   files       of tls, state: the path as seen from the working directory; python native exec: as
 *               written, relative to hr_config_folder(node)
 *   data        of cron: any tree; TEXT tells by `quoted` whether it is a string for sure
 *   secret      what came from a variable or file, or a key that holds secrets: never print */
#ifndef HR_APP_CONFIG_H
#define HR_APP_CONFIG_H

#include "app/config_diag.h"
#include "core/error.h"
#include "core/node.h"

typedef struct hr_config hr_config;

/* Compiles one expression only to see whether it is right (hr_sql_compile stands behind it): on
 * error *out_offset is the byte offset of the fault in text, -1 when unknown. */
typedef hr_code hr_config_compile(void *data, const char *text, int *out_offset, hr_error *err);

/* Loads the libraries that a trigger or function needs for the value under its kind key. */
typedef hr_code hr_config_load_kind(void *data, const hr_node *kind_config, bool is_function,
                                    hr_error *err);

typedef struct hr_config_options {
    hr_config_compile *compile;                /* NULL: expressions are not looked at */
    hr_config_load_kind *load_kind;            /* NULL: libraries are not looked for */
    void *data;                                /* for both */
    const char *(*variable)(const char *name); /* NULL: the environment */
} hr_config_options;

/* Loads files and folders (their *.yaml, in order of names) into one configuration.
 * out: owned by the caller. options may be NULL.
 * Errors: HR_E_CONFIG, with all errors of all files in diags; out is not written then. Warnings may
 * stand in diags after success too. */
hr_code hr_config_load(const char *const *paths, size_t count, const hr_config_options *options,
                       hr_config **out, hr_diagnostics *diags);
void hr_config_free(hr_config *take_config);

/* The root map; valid as long as the configuration. */
const hr_node *hr_config_root(const hr_config *config);

/* The node under the kind key of a trigger's or function's map: its key is the kind ("mqtt",
 * "python"). Never NULL for maps of a loaded configuration. */
const hr_node *hr_config_kind(const hr_node *trigger_or_function);

/* Folder of the file that holds the node ("." for defaults); freed by the caller with hr_free(). */
char *hr_config_folder(const hr_node *node);

/* Appends the configuration as YAML: merged, with defaults, secrets as dots, each value with its
 * file:line. */
void hr_config_print(const hr_config *config, hr_buffer *out);

/* Appends the JSON Schema (2020-12) of a configuration file. */
void hr_config_schema(hr_buffer *out);

/* Appends the reference page of all keys as Markdown. */
void hr_config_reference(hr_buffer *out);

#endif
