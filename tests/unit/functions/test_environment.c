/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of a function's program, and its output line by line. */
#include "functions/environment.h"

#include "core/buffer.h"
#include "core/memory.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
        cmocka_unit_test_setup_teardown(lines_come_whole_without_their_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_line_comes_in_pieces_of_four_kibibytes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(bytes_that_are_no_text_are_lines_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_the_file_gives_the_last_line_and_no_turns,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
