/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: what is read, and what is said about the rest. */
#include "app/config.h"
#include "core/json_text.h"
#include "core/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/headrace-config-XXXXXX";

static int enter_folder(void **state) {
    (void)state;
    return mkdtemp(folder) == NULL || chdir(folder) != 0 ? -1 : 0;
}

static int leave_folder(void **state) {
    (void)state;
    static const char *const FILES[] = {"a.yaml", "b.yaml",   "conf.d/one.yaml", "conf.d/two.yaml",
                                        "conf.d", "thumb.py", "secret",          "prog"};
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        (void)remove(FILES[i]);
    }
    return chdir("/") != 0 || rmdir(folder) != 0 ? -1 : 0;
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static const char *variables(const char *name) {
    static const struct {
        const char *name, *value;
    } SET[] = {{"TOKEN", "s3cr3t"}, {"QOS", "0"}, {"EMPTY", ""}, {"INJECT", "a: b\n c: [d"}};
    for (size_t i = 0; i < sizeof SET / sizeof *SET; i++) {
        if (strcmp(SET[i].name, name) == 0) {
            return SET[i].value;
        }
    }
    return NULL;
}

/* A stand-in for SQL: "bad" is wrong wherever it stands. */
static hr_code compile(void *data, const char *text, int *out_offset, hr_error *err) {
    (void)data;
    const char *at = strstr(text, "bad");
    if (at == NULL) {
        return HR_OK;
    }
    *out_offset = (int)(at - text);
    return hr_fail(err, HR_E_EXPRESSION, 0, "no such column: bad");
}

static const hr_config_options OPTIONS = {.compile = compile, .variable = variables};

static hr_config *load_paths(const char *const *paths, size_t count, hr_buffer *said) {
    hr_diagnostics *diags = hr_diagnostics_new();
    hr_config *config = NULL;
    hr_code code = hr_config_load(paths, count, &OPTIONS, &config, diags);
    assert_int_equal(code == HR_OK, config != NULL);
    assert_int_equal(code == HR_OK, hr_diagnostics_errors(diags) == 0);
    hr_diagnostics_print(diags, said);
    hr_buffer json = {0};
    hr_diagnostics_print_json(diags, &json);
    assert_true(hr_json_is_valid(hr_slice_of(json.bytes, json.size)));
    hr_buffer_fini(&json);
    hr_diagnostics_free(diags);
    return config;
}

static hr_config *load(const char *text) {
    write_file("a.yaml", text);
    const char *const paths[] = {"a.yaml"};
    hr_buffer said = {0};
    hr_config *config = load_paths(paths, 1, &said);
    if (config == NULL) {
        fail_msg("%s", hr_buffer_text(&said));
    }
    hr_buffer_fini(&said);
    return config;
}

/* Loads what must fail and compares all that is said. */
static void refuse(const char *text, const char *expected) {
    write_file("a.yaml", text);
    const char *const paths[] = {"a.yaml"};
    hr_buffer said = {0};
    hr_config *config = load_paths(paths, 1, &said);
    assert_null(config);
    assert_string_equal(hr_buffer_text(&said), expected);
    hr_buffer_fini(&said);
}

/* Loads what must fail and looks for words. */
static void refuse_with(const char *text, const char *words) {
    write_file("a.yaml", text);
    const char *const paths[] = {"a.yaml"};
    hr_buffer said = {0};
    hr_config *config = load_paths(paths, 1, &said);
    if (config != NULL || strstr(hr_buffer_text(&said), words) == NULL) {
        fail_msg("wanted: %s\nsaid: %s\nof: %s", words, hr_buffer_text(&said), text);
    }
    hr_buffer_fini(&said);
}

static const hr_node *find(const hr_config *config, const char *path) {
    char copy[200];
    (void)snprintf(copy, sizeof copy, "%s", path);
    const hr_node *node = hr_config_root(config);
    char *save = NULL;
    for (char *name = strtok_r(copy, "/", &save); name != NULL; name = strtok_r(NULL, "/", &save)) {
        node = hr_node_get(node, name);
        if (node == NULL) {
            fail_msg("no %s in %s", name, path);
        }
    }
    return node;
}

static const char IOT[] =
    "# comments, anchors and x- keys are free\n"
    "x-base: &base { timeout: 10s }\n"
    "settings:\n"
    "  journal: { max_bytes: 1GiB }\n"
    "triggers:\n"
    "  temps:\n"
    "    mqtt:\n"
    "      url: ${MQTT_URL:-mqtt://localhost:1883}\n"
    "      topic: site/+site/device/+device/temp\n"
    "      qos: ${QOS}\n"
    "  uploads:\n"
    "    storage: { kind: minio, token: \"${TOKEN}\", events: created }\n"
    "  nightly:\n"
    "    cron: { at: \"0 3 * * *\", zone: Europe/Berlin, missed: all,\n"
    "            data: { n: 1, s: \"1\", l: [a, b] } }\n"
    "  orders:\n"
    "    kafka: { brokers: [a:9092, b:9092], topics: [orders], start: earliest }\n"
    "functions:\n"
    "  hot:\n"
    "    <<: *base\n"
    "    from: temps\n"
    "    when: data.celsius > 30\n"
    "    shell: echo $${HOME}\n"
    "    retry: { attempts: 3, backoff: 2s..1m }\n"
    "  all:\n"
    "    from: [uploads, nightly, hot, orders]\n"
    "    http: https://example.org/x\n";

static void a_whole_file_becomes_a_tree_with_defaults(void **state) {
    (void)state;
    hr_config *config = load(IOT);
    assert_string_equal(find(config, "triggers/temps/mqtt/url")->text, "mqtt://localhost:1883");
    assert_int_equal(find(config, "triggers/temps/mqtt/qos")->number, 0);
    assert_true(find(config, "triggers/temps/mqtt/qos")->secret);
    assert_int_equal(find(config, "triggers/temps/mqtt/session")->number, 86400000);
    assert_int_equal(find(config, "triggers/temps/mqtt/retained")->number, 1);
    assert_string_equal(find(config, "triggers/uploads/storage/token")->text, "s3cr3t");
    assert_string_equal(find(config, "triggers/uploads/storage/path")->text, "/hooks/uploads");
    assert_string_equal(find(config, "triggers/orders/kafka/group")->text, "headrace.orders");
    assert_int_equal(find(config, "triggers/orders/kafka/start")->number, -2);
    assert_true(find(config, "triggers/nightly/cron/data/s")->quoted);
    assert_false(find(config, "triggers/nightly/cron/data/n")->quoted);
    assert_int_equal(find(config, "settings/journal/max_bytes")->number, INT64_C(1) << 30);
    assert_int_equal(find(config, "settings/journal/keep")->number, INT64_C(7) * 86400000);
    assert_int_equal(find(config, "settings/dead/max_age")->number, -1);
    assert_string_equal(find(config, "settings/state")->text, ".headrace");
    assert_int_equal(find(config, "functions/hot/timeout")->number, 10000);
    assert_string_equal(find(config, "functions/hot/shell")->text, "echo ${HOME}");
    assert_int_equal(find(config, "functions/hot/retry/backoff/min")->number, 2000);
    assert_int_equal(find(config, "functions/hot/retry/backoff/max")->number, 60000);
    assert_int_equal(find(config, "functions/all/retry/backoff/max")->number, 300000);
    assert_int_equal(find(config, "functions/all/batch/size")->number, 1);
    assert_int_equal(find(config, "functions/all/concurrency")->number, 16);
    assert_string_equal(hr_config_kind(find(config, "triggers/temps"))->key, "mqtt");
    assert_string_equal(hr_config_kind(find(config, "functions/all"))->key, "http");
    hr_config_free(config);
}

static void an_empty_file_is_a_configuration_of_defaults(void **state) {
    (void)state;
    hr_config *config = load("# nothing\n");
    assert_int_equal(find(config, "settings/ballast")->number, 96 << 20);
    hr_config_free(config);
    config = load("triggers:\nfunctions:\nsettings:\n");
    hr_config_free(config);
}

static void an_unknown_key_gets_its_place_a_caret_and_a_hint(void **state) {
    (void)state;
    refuse("triggers:\n"
           "  temps:\n"
           "    mqtt:\n"
           "      url: mqtt://localhost\n"
           "      topic: a\n"
           "      qoss: 1\n",
           "error: the mqtt trigger has no key \"qoss\"\n"
           "  --> a.yaml:6:7\n"
           "   |\n"
           " 6 |       qoss: 1\n"
           "   |       ^^^^ did you mean \"qos\"?\n"
           "   |\n"
           "   = keys: url topic topics qos version client_id session window username password tls "
           "retained\n"
           "\n"
           "1 error\n");
}

static void all_errors_of_all_files_come_at_once_and_in_order(void **state) {
    (void)state;
    write_file("a.yaml", "triggers:\n"
                         "  jobs:\n"
                         "    cron: { at: \"0 3 * *\", zone: Europe/Berln }\n"
                         "functions:\n"
                         "  f: { from: job, shell: x, timeout: 30 }\n");
    write_file("b.yaml", "functions:\n"
                         "  f: { from: jobs, shell: y }\n");
    const char *const paths[] = {"a.yaml", "b.yaml"};
    hr_buffer said = {0};
    hr_config *config = load_paths(paths, 2, &said);
    assert_null(config);
    assert_string_equal(
        hr_buffer_text(&said),
        "error: cron has 4 fields, 5 are needed (minute hour day month weekday), or 6 with the "
        "second first\n"
        "  --> a.yaml:3:18\n"
        "   |\n"
        " 3 |     cron: { at: \"0 3 * *\", zone: Europe/Berln }\n"
        "   |                  ^^^^^^^ read as minute=0 hour=3 day=* month=*; for every day add "
        "\" *\"\n"
        "\n"
        "error: there is no time zone \"Europe/Berln\" on this machine\n"
        "  --> a.yaml:3:34\n"
        "   |\n"
        " 3 |     cron: { at: \"0 3 * *\", zone: Europe/Berln }\n"
        "   |                                  ^^^^^^^^^^^^ did you mean \"Europe/Berlin\"?\n"
        "\n"
        "error: there is no trigger or function called \"job\"\n"
        "  --> a.yaml:5:14\n"
        "   |\n"
        " 5 |   f: { from: job, shell: x, timeout: 30 }\n"
        "   |              ^^^ did you mean \"jobs\"?\n"
        "   |\n"
        "   = names: jobs f\n"
        "\n"
        "error: `timeout` needs a unit\n"
        "  --> a.yaml:5:38\n"
        "   |\n"
        " 5 |   f: { from: job, shell: x, timeout: 30 }\n"
        "   |                                      ^^ did you mean 30s or 30ms?\n"
        "\n"
        "error: \"f\" is given twice in functions\n"
        "  --> b.yaml:2:3\n"
        "   |\n"
        " 2 |   f: { from: jobs, shell: y }\n"
        "   |   ^\n"
        "  --> a.yaml:5:3\n"
        "   |\n"
        " 5 |   f: { from: job, shell: x, timeout: 30 }\n"
        "   |   ^ first given here\n"
        "\n"
        "5 errors\n");
    hr_buffer_fini(&said);
}

static void the_caret_stands_inside_the_expression(void **state) {
    (void)state;
    static const char HEAD[] = "triggers:\n  t: { demo: }\nfunctions:\n  f:\n    from: t\n"
                               "    shell: x\n";
    static const struct {
        const char *when, *place;
    } ROWS[] = {
        {"    when: data.a > 1 and bad = 2\n", "a.yaml:7:26\n"},
        {"    when: \"a = '\\\"' and bad\"\n", "a.yaml:7:25\n"},
        {"    when: 'a = ''x'' and bad'\n", "a.yaml:7:26\n"},
        {"    when: |\n      a > 1\n      and bad\n", "a.yaml:9:11\n"},
        {"    when: >-\n      a > 1\n\n      and bad\n", "a.yaml:10:11\n"},
        {"    when: \"\u00e4\u00e4 bad\"\n", "a.yaml:7:15\n"},
        {"    when: a > ${QOS} and bad\n", "a.yaml:7:11\n"}, /* a variable: the whole value */
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        char text[500];
        (void)snprintf(text, sizeof text, "%s%s", HEAD, ROWS[i].when);
        refuse_with(text, ROWS[i].place);
        refuse_with(text, "`when` is no expression: no such column: bad");
    }
}

static void each_kind_of_mistake_is_told(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } ROWS[] = {
        {"trigers: {}\n", "did you mean \"triggers\"?"},
        {"listen: x\n", "`listen` belongs inside `settings`"},
        {"- a\n", "a configuration is a map"},
        {"triggers: [a]\n", "triggers must be a map"},
        {"a: [\n", "this is no YAML"},
        {"triggers:\n  T1: { demo: {} }\n", "\"T1\" cannot be a name"},
        {"triggers:\n  t: {}\n", "the trigger \"t\" has no kind"},
        {"triggers:\n  t:\n    demo: {}\n    cron: { at: \"@daily\" }\n",
         "the trigger \"t\" has both `demo` and `cron`"},
        {"triggers:\n  t: { demo: {} }\n  t: { demo: {} }\n", "\"t\" is given twice"},
        {"triggers:\n  a: { demo: {} }\nfunctions:\n  a: { from: a, shell: x }\n",
         "a trigger and a function are both called \"a\""},
        {"functions:\n  f: { shell: x }\n", "the function \"f\" needs `from`"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  f: { from: t }\n", "has no handler"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  f: { on: t, shell: x }\n",
         "it is called \"from\" here"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  f: { from: t, shell: x, attempts: 3 }\n",
         "`attempts` belongs inside `retry`, one level down"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  f: { from: t, shell: x, retry: { timeout: "
         "3s } }\n",
         "`timeout` belongs to the function, one level up"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  f: { from: t, node: x.mjs }\n",
         "`node` is not in this version"},
        {"settings: { bus: kafka }\n", "`bus: kafka` is not in this version"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  a: { from: [t, b], shell: x }\n  b: { from: "
         "a, shell: x }\n",
         "these functions feed each other"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  a: { from: [t, a], shell: x }\n",
         "a takes from a"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  f: { from: t, python: nowhere.py }\n",
         "nowhere.py: No such file"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  f: { from: t, exec: [./nowhere, x] }\n",
         "nowhere: No such file"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  f: { from: t, shell: x, workers: 2 }\n",
         "`workers` means nothing to this handler"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  f: { from: t, shell: x, isolation: none }\n",
         "only a native function"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  f: { from: t, http: ftp://x }\n",
         "begins with http://"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  f: { from: t, notify: { text: x } }\n",
         "notify has no address"},
        {"triggers:\n  t: { webhook: {} }\n", "takes requests from anybody"},
        {"triggers:\n  a: { webhook: { path: /x, insecure: true } }\n  b: { webhook: { path: /x, "
         "insecure: true } }\n",
         "two triggers have the path /x"},
        {"triggers:\n  t: { webhook: { insecure: true, max_body: 9MiB } }\n", "1B to 8MiB"},
        {"triggers:\n  t: { webhook: { insecure: true, max_body: 9 } }\n",
         "did you mean 9MiB or 9KiB?"},
        {"triggers:\n  t: { webhook: { insecure: true, dialect: stripe } }\n",
         "`dialect: stripe` is not in this version"},
        {"triggers:\n  t: { webhook: { insecure: yes } }\n", "true or false"},
        {"triggers:\n  t: { kafka: { brokers: a, topics: b } }\n", "needs `start`"},
        {"triggers:\n  t: { kafka: { brokers: a, topics: b, start: yesterday } }\n",
         "earliest, latest or a time"},
        {"triggers:\n  t: { kafka: { brokers: a, topics: b, start: latest, properties: { "
         "group.id: x } } }\n",
         "write it as `group`"},
        {"triggers:\n  t: { kafka: { brokers: a, topics: b, start: latest, password: x } }\n",
         "belong together"},
        {"triggers:\n  t: { mqtt: { url: localhost, topic: a } }\n", "mqtt:// or mqtts://"},
        {"triggers:\n  t: { mqtt: { url: \"mqtt://x\" } }\n", "needs `topic`"},
        {"triggers:\n  t: { mqtt: { url: \"mqtt://x\", topic: \"a/#/b\" } }\n", "# stands alone"},
        {"triggers:\n  t: { mqtt: { url: \"mqtt://x\", topic: \"a/b+\" } }\n", "+ stands at"},
        {"triggers:\n  t: { mqtt: { url: \"mqtt://x\", topic: a, qos: 3 } }\n", "0 to 2"},
        {"triggers:\n  t: { demo: { rate: 5 } }\n", "a rate such as 5/s"},
        {"triggers:\n  t: { demo: {}, dedupe: { max: 5 } }\n", "`dedupe` needs `by` here"},
        {"triggers:\n  t: { qos: 1, mqtt: { url: \"mqtt://x\", topic: a } }\n",
         "`qos` belongs inside `mqtt`, one level down"},
        {"triggers:\n  t: { cron: { at: \"@daily\", missed: onec } }\n", "did you mean \"once\"?"},
        {"triggers:\n  t: { cron: { at: \"@daily\", overlap: skip } }\n", "not in this version"},
        {"triggers:\n  t: { cron: \"@daily\" }\n", "the cron trigger must be a map"},
        {"triggers:\n  t: { demo: {} }\nfunctions:\n  f: { from: t, shell: x, env: [a] }\n",
         "`env`"},
        {"triggers:\n  t: { kafka: { brokers: a, topics: b, start: latest, properties: [x] } }\n",
         "`properties`"},
        {"settings: { admin: \"0.0.0.0:7010\" }\n", "needs `admin_token`"},
        {"settings: { listen: 7080 }\n", "HOST:PORT"},
        {"settings:\n  state: ${NOWHERE}\n", "the variable NOWHERE is not set"},
        {"settings: { state: ${NOWHERE} }\n", "a variable stands in quotes"},
        {"settings: { state: \"${file:nowhere}\" }\n", "${file:nowhere} cannot be read"},
        {"settings: { state: \"a${TOKEN\" }\n", "has no \"}\""},
        {"settings: { state: \"${1x}\" }\n", "no name of a variable"},
        {"settings: { state: }\n", "`state` has no value"},
        {"settings: { journal: { keep: 7days } }\n", "a duration"},
        {"a: &a [x, x]\nb: &b [*a, *a]\n? [c]\n: d\n", "a key must be one word"},
        {"x-a: *nowhere\n", "a.yaml:1:"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        refuse_with(ROWS[i].text, ROWS[i].says);
    }
}

static void a_cycle_is_allowed_with_max_hops(void **state) {
    (void)state;
    hr_config_free(load("triggers:\n  t: { demo: {} }\nfunctions:\n"
                        "  a: { from: [t, b], shell: x, max_hops: 4 }\n"
                        "  b: { from: a, shell: x }\n"));
}

static void handlers_are_found_beside_their_file(void **state) {
    (void)state;
    (void)mkdir("conf.d", 0755);
    write_file("thumb.py", "def handle(e): pass\n");
    write_file("prog", "#!/bin/sh\n");
    assert_int_equal(chmod("prog", 0755), 0);
    write_file("conf.d/one.yaml", "triggers:\n  t: { demo: {} }\n");
    write_file("conf.d/two.yaml",
               "settings: { state: data }\n"
               "functions:\n"
               "  a: { from: t, python: \"../thumb.py:handle\", env: { A: 1 }, workers: 2 }\n"
               "  b: { from: t, exec: ../prog }\n");
    const char *const paths[] = {"conf.d"};
    hr_buffer said = {0};
    hr_config *config = load_paths(paths, 1, &said);
    if (config == NULL) {
        fail_msg("%s", hr_buffer_text(&said));
    }
    assert_string_equal(find(config, "settings/state")->text, "conf.d/data");
    char *where = hr_config_folder(find(config, "functions/a/python"));
    assert_string_equal(where, "conf.d");
    hr_free(where);
    hr_buffer_fini(&said);
    hr_config_free(config);
}

static void variables_cannot_change_the_structure(void **state) {
    (void)state;
    write_file("secret", "from-file\n");
    hr_config *config = load("triggers:\n"
                             "  t: { cron: { at: \"@daily\", data: { a: \"${INJECT}\", b: "
                             "\"${file:secret}\", c: \"${EMPTY:-x}${NONE:-y}\" } } }\n");
    assert_string_equal(find(config, "triggers/t/cron/data/a")->text, "a: b\n c: [d");
    assert_true(find(config, "triggers/t/cron/data/a")->secret);
    assert_string_equal(find(config, "triggers/t/cron/data/b")->text, "from-file");
    assert_string_equal(find(config, "triggers/t/cron/data/c")->text, "xy");
    assert_false(find(config, "triggers/t/cron/data/c")->secret);
    hr_config_free(config);
}

static void a_secret_is_never_printed(void **state) {
    (void)state;
    hr_config *config = load("triggers:\n"
                             "  a: { webhook: { secret: [plain, \"${TOKEN}\"] } }\n"
                             "  b: { cron: { at: \"@daily\", data: { x: \"${TOKEN}\" } } }\n");
    hr_buffer out = {0};
    hr_config_print(config, &out);
    assert_null(strstr(hr_buffer_text(&out), "s3cr3t"));
    assert_null(strstr(hr_buffer_text(&out), "plain"));
    assert_non_null(strstr(hr_buffer_text(&out), "\"•••\"  # a.yaml:2"));
    assert_non_null(strstr(hr_buffer_text(&out), "zone: UTC  # default"));
    hr_buffer_fini(&out);
    hr_config_free(config);
    /* nor in what is said of it */
    write_file("a.yaml",
               "settings: { listen: \"${TOKEN}\", bus: \"${TOKEN}\", ballast: \"${TOKEN}\" }\n");
    const char *const paths[] = {"a.yaml"};
    hr_buffer said = {0};
    assert_null(load_paths(paths, 1, &said));
    assert_null(strstr(hr_buffer_text(&said), "s3cr3t"));
    hr_buffer_fini(&said);
}

static void what_is_printed_loads_again_to_the_same(void **state) {
    (void)state;
    static const char TEXT[] = "triggers:\n  t: { cron: { at: \"*/5 * * * *\", data: { n: 1, s: "
                               "\"1\", l: [a, { b: \"c: d # e\" }], m: {}, z: \"x\\ny\" } } }\n"
                               "functions:\n  f: { from: t, shell: 'echo \"a\"', when: a > 1 }\n";
    hr_config *config = load(TEXT);
    hr_buffer first = {0};
    hr_config_print(config, &first);
    hr_config_free(config);
    config = load(hr_buffer_text(&first));
    hr_buffer second = {0};
    hr_config_print(config, &second);
    hr_config_free(config);
    char *a = hr_copy_text(hr_buffer_text(&first));
    char *b = hr_copy_text(hr_buffer_text(&second));
    char *save_a = NULL;
    char *save_b = NULL;
    char *line_a = strtok_r(a, "\n", &save_a);
    char *line_b = strtok_r(b, "\n", &save_b);
    while (line_a != NULL && line_b != NULL) {
        char *comment = strstr(line_a, "  # ");
        char *last = NULL; /* the place is the last comment of a line */
        for (; comment != NULL; comment = strstr(comment + 1, "  # ")) {
            last = comment;
        }
        if (last != NULL) {
            assert_memory_equal(line_a, line_b, (size_t)(last - line_a));
        } else {
            assert_string_equal(line_a, line_b);
        }
        line_a = strtok_r(NULL, "\n", &save_a);
        line_b = strtok_r(NULL, "\n", &save_b);
    }
    assert_true(line_a == NULL && line_b == NULL);
    hr_free(a);
    hr_free(b);
    hr_buffer_fini(&first);
    hr_buffer_fini(&second);
}

static void aliases_of_aliases_end_at_a_limit(void **state) {
    (void)state;
    hr_buffer text = {0};
    hr_buffer_print(&text, "x-0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 9; i++) {
        hr_buffer_print(&text, "x-%d: &a%d [", i, i);
        for (int n = 0; n < 10; n++) {
            hr_buffer_print(&text, "%s*a%d", n == 0 ? "" : ",", i - 1);
        }
        hr_buffer_print(&text, "]\n");
    }
    char *copy = hr_copy_text(hr_buffer_text(&text));
    refuse_with(copy, "too many values");
    hr_free(copy);
    text.size = 0;
    hr_buffer_print(&text, "x-deep: ");
    for (int i = 0; i < 40; i++) {
        hr_buffer_print(&text, "[");
    }
    for (int i = 0; i < 40; i++) {
        hr_buffer_print(&text, "]");
    }
    copy = hr_copy_text(hr_buffer_text(&text));
    refuse_with(copy, "nested too deeply");
    hr_free(copy);
    hr_buffer_fini(&text);
}

static void schema_and_reference_hold_every_key(void **state) {
    (void)state;
    hr_buffer schema = {0};
    hr_config_schema(&schema);
    assert_true(hr_json_is_valid(hr_slice_of(schema.bytes, schema.size)));
    hr_buffer page = {0};
    hr_config_reference(&page);
    static const char *const KEYS[] = {"admin_token", "client_id", "mechanism", "on_exhausted",
                                       "max_hops",    "isolation", "missed",    "backoff"};
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++) {
        assert_non_null(strstr(hr_buffer_text(&schema), KEYS[i]));
        assert_non_null(strstr(hr_buffer_text(&page), KEYS[i]));
    }
    hr_buffer_fini(&schema);
    hr_buffer_fini(&page);
}

/* What is not the file it was: an answer, never a crash, and never silence about a changed key. */
static void mutated_files_are_refused_or_read_but_never_crash(void **state) {
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 3000; round++) {
        char text[sizeof IOT];
        memcpy(text, IOT, sizeof IOT);
        for (int i = 0; i < 1 + round % 3; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t at = (seed >> 33) % (sizeof IOT - 1);
            static const char BYTES[] = "abz019 \n\t:-[]{}\"'&*!|>#%@,.$\x80\xff";
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            text[at] = BYTES[(seed >> 33) % (sizeof BYTES - 1)];
        }
        write_file("a.yaml", text);
        const char *const paths[] = {"a.yaml"};
        hr_buffer said = {0};
        hr_config_free(load_paths(paths, 1, &said));
        hr_buffer_fini(&said);
    }
}

/* Each key of the file, one letter changed: none may pass in silence. */
static void a_changed_letter_in_any_key_is_reported(void **state) {
    (void)state;
    size_t changed = 0;
    const char *settings = strstr(IOT, "settings:"); /* x- keys stand before it */
    for (size_t at = (size_t)(settings - IOT); at + 2 < sizeof IOT; at++) {
        bool is_key_end = IOT[at] >= 'a' && IOT[at] <= 'z' && IOT[at + 1] == ':' &&
                          (IOT[at + 2] == ' ' || IOT[at + 2] == '\n');
        char text[sizeof IOT];
        memcpy(text, IOT, sizeof IOT);
        text[at] = 'z';
        /* names are free, and so is what stands in data */
        const char *rest = IOT + at + 1;
        if (!is_key_end || strncmp(rest, ": 1, s", 6) == 0 || strncmp(rest, ": \"1\", l", 8) == 0 ||
            strncmp(rest, ": [a, b]", 8) == 0 || strncmp(rest - 3, "all:\n", 5) == 0) {
            continue;
        }
        write_file("a.yaml", text);
        const char *const paths[] = {"a.yaml"};
        hr_buffer said = {0};
        hr_config *config = load_paths(paths, 1, &said);
        if (config != NULL) {
            fail_msg("passed: %.30s", IOT + (at < 10 ? 0 : at - 10));
        }
        hr_buffer_fini(&said);
        changed++;
    }
    assert_true(changed > 30);
}

static void a_trigger_that_nobody_takes_is_a_warning(void **state) {
    (void)state;
    write_file("a.yaml", "triggers:\n  t: { demo: {} }\n");
    const char *const paths[] = {"a.yaml"};
    hr_buffer said = {0};
    hr_config *config = load_paths(paths, 1, &said);
    assert_non_null(config);
    assert_non_null(
        strstr(hr_buffer_text(&said), "warning: no function takes from the trigger \"t\""));
    hr_buffer_fini(&said);
    hr_config_free(config);
}

static void dedupe_is_there_where_it_is_on(void **state) {
    (void)state;
    hr_config *config =
        load("triggers:\n  w: { webhook: { insecure: true } }\n"
             "  m: { mqtt: { url: \"mqtt://x\", topic: a } }\n"
             "  n: { mqtt: { url: \"mqtt://x\", topic: a }, dedupe: { by: id } }\n");
    assert_int_equal(find(config, "triggers/w/dedupe/max")->number, 1000000);
    assert_null(hr_node_get(find(config, "triggers/m"), "dedupe"));
    assert_int_equal(find(config, "triggers/n/dedupe/window")->number, INT64_C(3) * 86400000);
    hr_config_free(config);
}

static void a_file_that_is_not_there_is_one_clear_line(void **state) {
    (void)state;
    const char *const paths[] = {"nowhere.yaml"};
    hr_buffer said = {0};
    assert_null(load_paths(paths, 1, &said));
    assert_string_equal(hr_buffer_text(&said),
                        "error: nowhere.yaml cannot be read: No such file or directory\n"
                        "  --> nowhere.yaml\n\n1 error\n");
    hr_buffer_fini(&said);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_file_becomes_a_tree_with_defaults),
        cmocka_unit_test(an_empty_file_is_a_configuration_of_defaults),
        cmocka_unit_test(an_unknown_key_gets_its_place_a_caret_and_a_hint),
        cmocka_unit_test(all_errors_of_all_files_come_at_once_and_in_order),
        cmocka_unit_test(the_caret_stands_inside_the_expression),
        cmocka_unit_test(each_kind_of_mistake_is_told),
        cmocka_unit_test(a_cycle_is_allowed_with_max_hops),
        cmocka_unit_test(handlers_are_found_beside_their_file),
        cmocka_unit_test(variables_cannot_change_the_structure),
        cmocka_unit_test(a_secret_is_never_printed),
        cmocka_unit_test(what_is_printed_loads_again_to_the_same),
        cmocka_unit_test(aliases_of_aliases_end_at_a_limit),
        cmocka_unit_test(schema_and_reference_hold_every_key),
        cmocka_unit_test(mutated_files_are_refused_or_read_but_never_crash),
        cmocka_unit_test(a_changed_letter_in_any_key_is_reported),
        cmocka_unit_test(a_trigger_that_nobody_takes_is_a_warning),
        cmocka_unit_test(dedupe_is_there_where_it_is_on),
        cmocka_unit_test(a_file_that_is_not_there_is_one_clear_line),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
