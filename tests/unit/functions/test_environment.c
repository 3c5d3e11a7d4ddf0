/* SPDX-License-Identifier: Apache-2.0 */
/* The words and environment of a function's program, and its output line by line. */
#include "functions/environment.h"

#include "core/buffer.h"
#include "core/memory.h"
#include "functions/registry.h"
#include "functions/worker_program.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- variables ---- */

static const char *value_of(const hr_strings *env, const char *name) {
    const char *found = NULL;
    for (size_t i = 0; i < env->count; i++) {
        if (strncmp(env->text[i], name, strlen(name)) == 0 && env->text[i][strlen(name)] == '=') {
            assert_null(found); /* once only */
            found = env->text[i] + strlen(name) + 1;
        }
    }
    return found;
}

static void only_four_variables_are_passed_and_env_wins(void **state) {
    (void)state;
    setenv("TZ", "Europe/Berlin", 1);
    setenv("LANG", "de_DE.UTF-8", 1);
    setenv("SECRET_OF_THE_DAEMON", "x", 1);
    unsetenv("HOME");
    hr_node *config = hr_node_add(NULL, HR_NODE_MAP, NULL);
    hr_node *own = hr_node_add(config, HR_NODE_MAP, "env");
    hr_node_add_text(own, "LANG", "C", 0);
    hr_node_add_text(own, "EMPTY", "", 0);
    hr_node_add_text(own, "EQUALS", "a=b", 0);
    hr_runtime runtime = {.name = "hot", .config = config};
    hr_strings env = {0};
    hr_environment(&env, &runtime);
    assert_null(env.text[env.count]);
    assert_string_equal(value_of(&env, "TZ"), "Europe/Berlin");
    assert_string_equal(value_of(&env, "LANG"), "C");
    assert_string_equal(value_of(&env, "EMPTY"), "");
    assert_string_equal(value_of(&env, "EQUALS"), "a=b");
    assert_string_equal(value_of(&env, "HEADRACE_FUNCTION"), "hot");
    assert_non_null(value_of(&env, "PATH"));
    assert_null(value_of(&env, "HOME"));
    assert_null(value_of(&env, "SECRET_OF_THE_DAEMON"));
    assert_int_equal(env.count, 6);
    hr_strings_fini(&env);
    hr_strings_fini(&env); /* empty again */
    hr_node_free(config);
}

/* ---- programs ---- */

static char folder[] = "/tmp/headrace-env-XXXXXX";

/* Its words with blanks between, made anew. */
static const char *words_of(const char *kind, const char *text, hr_node *config) {
    static hr_buffer words;
    const hr_runtime_ops ops = {.kind = kind};
    hr_node_add_text(config, kind, text, 0);
    hr_runtime runtime = {.ops = &ops,
                          .name = "hot",
                          .config = config,
                          .kind_config = hr_node_get(config, kind),
                          .config_dir = folder};
    hr_strings argv = {0}, env = {0};
    hr_worker_program(&runtime, &argv, &env);
    assert_string_equal(value_of(&env, "HEADRACE_FD"), "3");
    hr_buffer_fini(&words);
    for (size_t i = 0; i < argv.count; i++) { /* the folder of worker.py is the build's */
        const char *slash = strstr(argv.text[i], "/worker.py");
        hr_buffer_print(&words, "%s%s", i == 0 ? "" : " ", slash == NULL ? argv.text[i] : slash);
    }
    const char *path = value_of(&env, "PYTHONPATH");
    if (path != NULL && strcmp(path, hr_workers_dir()) != 0) {
        hr_buffer_print(&words, " with %s", path);
    }
    hr_strings_fini(&argv);
    hr_strings_fini(&env);
    hr_node_free(config);
    static char kept[512];
    snprintf(kept, sizeof kept, "%s", hr_buffer_text(&words));
    hr_buffer_fini(&words);
    return kept;
}

static hr_node *empty(void) {
    return hr_node_add(NULL, HR_NODE_MAP, NULL);
}

static void make(const char *name, bool is_folder) {
    char *path = hr_format("%s/%s", folder, name);
    if (is_folder) {
        assert_int_equal(mkdir(path, 0755), 0);
    } else {
        int fd = open(path, O_CREAT | O_WRONLY, 0755);
        assert_true(fd >= 0);
        close(fd);
    }
    hr_free(path);
}

static void unmake(const char *name) {
    char *path = hr_format("%s/%s", folder, name);
    assert_int_equal(remove(path), 0);
    hr_free(path);
}

static void the_nearest_interpreter_is_taken(void **state) {
    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_string_equal(words_of("python", "hot.py", empty()),
                        "python3 -u /worker.py hot.py handle");
    assert_string_equal(words_of("python", "sub/hot.py:other", empty()),
                        "python3 -u /worker.py sub/hot.py other");
    assert_string_equal(words_of("python", "a:b/hot.py", empty()),
                        "python3 -u /worker.py a:b/hot.py handle");
    static const char *const made[] = {
        "sub",       ".venv",         ".venv/bin",           ".venv/bin/python",
        "sub/.venv", "sub/.venv/bin", "sub/.venv/bin/python"};
    for (size_t i = 0; i < 4; i++) {
        make(made[i], i < 3);
    }
    assert_string_equal(words_of("python", "hot.py", empty()),
                        ".venv/bin/python -u /worker.py hot.py handle");
    assert_string_equal(words_of("python", "sub/hot.py", empty()),
                        ".venv/bin/python -u /worker.py sub/hot.py handle");
    for (size_t i = 4; i < 7; i++) {
        make(made[i], i < 6);
    }
    assert_string_equal(words_of("python", "sub/hot.py", empty()),
                        "sub/.venv/bin/python -u /worker.py sub/hot.py handle");
    assert_string_equal(words_of("python", "hot.py", empty()),
                        ".venv/bin/python -u /worker.py hot.py handle");
    hr_node *config = empty();
    hr_node_add_text(config, "interpreter", "/opt/py", 0);
    hr_node_add_text(hr_node_add(config, HR_NODE_MAP, "env"), "PYTHONPATH", "own", 0);
    assert_string_equal(words_of("python", "sub/hot.py", config),
                        "/opt/py -u /worker.py sub/hot.py handle with own");
    for (size_t i = 7; i > 0; i--) {
        unmake(made[i - 1]);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void a_program_gets_its_words_as_they_stand(void **state) {
    (void)state;
    assert_string_equal(words_of("exec", "./run me", empty()), "./run me");
    hr_node *config = empty();
    hr_node *list = hr_node_add(config, HR_NODE_LIST, "exec");
    hr_node_add_text(list, NULL, "./run", 0);
    hr_node_add_text(list, NULL, "$HOME *", 0);
    const hr_runtime_ops ops = {.kind = "exec"};
    hr_runtime runtime = {.ops = &ops, .name = "hot", .config = config, .config_dir = "."};
    hr_strings argv = {0}, env = {0};
    hr_worker_program(&runtime, &argv, &env);
    assert_int_equal(argv.count, 2);
    assert_string_equal(argv.text[1], "$HOME *");
    assert_null(value_of(&env, "PYTHONPATH"));
    hr_strings_fini(&argv);
    hr_strings_fini(&env);
    hr_node_free(config);
}

/* ---- lines ---- */

static hr_loop *loop;
static hr_lines *lines;
static int writer = -1;
static hr_buffer seen;

static void on_line(void *data, hr_slice line) {
    (void)data;
    hr_buffer_add_slice(&seen, line);
    hr_buffer_add(&seen, "|", 1);
}

static int set_up(void **state) {
    (void)state;
    int ends[2];
    hr_error err = {0};
    loop = hr_loop_new();
    assert_int_equal(hr_pipe(ends, true, &err), HR_OK);
    assert_true((fcntl(ends[0], F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(ends[1], F_GETFL) & O_NONBLOCK) == 0);
    assert_true((fcntl(ends[0], F_GETFD) & FD_CLOEXEC) != 0);
    assert_true((fcntl(ends[1], F_GETFD) & FD_CLOEXEC) != 0);
    writer = ends[1];
    lines = hr_lines_new(loop, ends[0], on_line, NULL);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    hr_lines_free(lines);
    if (writer >= 0) {
        close(writer);
        writer = -1;
    }
    hr_loop_free(loop);
    hr_buffer_fini(&seen);
    return 0;
}

static void put(const char *text) {
    assert_int_equal(write(writer, text, strlen(text)), strlen(text));
}

static void lines_come_whole_without_their_ends(void **state) {
    (void)state;
    put("one\ntwo\r\n\n\r\nthree");
    hr_lines_drain(lines);
    assert_string_equal(hr_buffer_text(&seen), "one|two|three|");
    hr_lines_drain(lines); /* nothing twice */
    assert_string_equal(hr_buffer_text(&seen), "one|two|three|");
}

static void a_long_line_comes_in_pieces_of_four_kibibytes(void **state) {
    (void)state;
    char text[10001];
    memset(text, 'x', 10000);
    text[9999] = '\n';
    text[10000] = '\0';
    put(text);
    put("after\n");
    hr_lines_drain(lines);
    assert_int_equal(seen.size, 9999 + 3 + 6);
    assert_int_equal(seen.bytes[4096], '|');
    assert_int_equal(seen.bytes[4097 + 4096], '|');
    assert_string_equal(hr_buffer_text(&seen) + 9999 + 3, "after|");
}

static void bytes_that_are_no_text_are_lines_too(void **state) {
    (void)state;
    static const char bytes[] = "a\0b\n\xff\xfe\n";
    assert_int_equal(write(writer, bytes, sizeof bytes - 1), sizeof bytes - 1);
    hr_lines_drain(lines);
    assert_int_equal(seen.size, 3 + 1 + 2 + 1);
    assert_memory_equal(seen.bytes, "a\0b|\xff\xfe|", 7);
}

static void stop_loop(void *data) {
    hr_loop_stop(data);
}

static void the_end_of_the_file_gives_the_last_line_and_no_turns(void **state) {
    (void)state;
    put("no end");
    close(writer);
    writer = -1;
    hr_timer *limit = hr_timer_new(loop, stop_loop, loop);
    hr_timer_start(limit, 100, 0);
    hr_loop_run(loop);
    hr_timer_free(limit);
    assert_string_equal(hr_buffer_text(&seen), "no end|");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_four_variables_are_passed_and_env_wins),
        cmocka_unit_test(the_nearest_interpreter_is_taken),
        cmocka_unit_test(a_program_gets_its_words_as_they_stand),
        cmocka_unit_test_setup_teardown(lines_come_whole_without_their_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_line_comes_in_pieces_of_four_kibibytes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(bytes_that_are_no_text_are_lines_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_the_file_gives_the_last_line_and_no_turns,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
