/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/functions/runtime_bench.h"

#include "core/envelope.h"
#include "core/memory.h"
#include "functions/spawn.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static runtime_bench *of(hr_runtime *self) {
    return self->host_data;
}

static void on_room(hr_runtime *self, uint32_t slots) {
    of(self)->room = slots;
    hr_loop_stop(of(self)->loop);
}

static void keep(char *out, size_t room, hr_slice text) {
    snprintf(out, room, "%.*s", (int)text.size, (const char *)text.bytes);
}

static void on_answer(hr_runtime *self, const hr_answer *answer) {
    runtime_bench *bench = of(self);
    bench->answers++;
    assert_int_equal(answer->call, bench->call.id);
    bench->failure = answer->failure;
    keep(bench->why, sizeof bench->why, answer->why);
    for (size_t i = 0; i < answer->exception_count; i++) {
        const hr_exception *e = &answer->exceptions[i];
        bench->outcome[e->index] = e->outcome;
        bench->after_ms[e->index] = e->after_ms;
        if (i == 0) {
            keep(bench->why, sizeof bench->why, e->why);
        }
    }
    bench->results = answer->take_results;
    for (uint32_t i = 0; bench->results != NULL && i < bench->results->count; i++) {
        bench->causes[i % BENCH_EVENTS] = answer->causes[i];
    }
    hr_loop_stop(bench->loop);
}

static void on_line(hr_runtime *self, hr_slice id, int attempt, int level, hr_slice text) {
    runtime_bench *bench = of(self);
    hr_buffer_print(&bench->lines, "%.*s|%d|%d|%.*s\n", (int)id.size, (const char *)id.bytes,
                    attempt, level, (int)text.size, (const char *)text.bytes);
    hr_loop_stop(bench->loop);
}

static void on_down(hr_runtime *self, const char *why) {
    runtime_bench *bench = of(self);
    keep(bench->down, sizeof bench->down, hr_slice_text(why));
    bench->downs += why != NULL;
    hr_loop_stop(bench->loop);
}

static void on_stopped(hr_runtime *self) {
    of(self)->is_stopped = true;
    hr_loop_stop(of(self)->loop);
}

static const hr_runtime_host host = {
    .room = on_room, .answer = on_answer, .line = on_line, .down = on_down, .stopped = on_stopped};

static void on_turn(void *data) {
    hr_loop_stop(data);
}

static bool is_answered(runtime_bench *bench, const char *text) {
    (void)text;
    return bench->answers > 0;
}
static bool has_line(runtime_bench *bench, const char *text) {
    return strstr(hr_buffer_text(&bench->lines), text) != NULL;
}
static bool has_room(runtime_bench *bench, const char *text) {
    return bench->room == (uint32_t)text[0];
}
static bool is_down(runtime_bench *bench, const char *text) {
    (void)text;
    return bench->down[0] != '\0';
}
static bool has_downs(runtime_bench *bench, const char *text) {
    return bench->downs >= text[0];
}
static bool has_stopped(runtime_bench *bench, const char *text) {
    (void)text;
    return bench->is_stopped;
}

static void wait_for(runtime_bench *bench, bool (*holds)(runtime_bench *, const char *),
                     const char *text, const char *what) {
    uint64_t end = hr_mono_ns() + (uint64_t)BENCH_WAIT_MS * 1000000;
    hr_timer *turn = hr_timer_new(bench->loop, on_turn, bench->loop);
    hr_timer_start(turn, 50, 50);
    do { /* at least once: it takes a stop that was asked for outside run() */
        hr_loop_run(bench->loop);
    } while (!holds(bench, text) && hr_mono_ns() < end);
    hr_timer_free(turn);
    if (!holds(bench, text)) {
        fail_msg("%s did not come; down: '%s', lines:\n%s", what, bench->down,
                 hr_buffer_text(&bench->lines));
    }
}

static void make_folder(runtime_bench *bench) {
    if (bench->folder[0] == '\0') {
        snprintf(bench->folder, sizeof bench->folder, "/tmp/headrace-fn-XXXXXX");
        assert_non_null(mkdtemp(bench->folder));
    }
}

void bench_folder(runtime_bench *bench, const char *name) {
    make_folder(bench);
    char *path = hr_format("%s/%s", bench->folder, name);
    assert_int_equal(mkdir(path, 0755), 0);
    hr_free(path);
}

void bench_file(runtime_bench *bench, const char *name, const char *text) {
    make_folder(bench);
    char *path = hr_format("%s/%s", bench->folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
    hr_free(path);
}

static void add_pair(hr_node *map, const char *key, const char *value) {
    if (value[0] != '[') {
        hr_node_add_text(map, key, value, strtoll(value, NULL, 10))->line = 1;
        return;
    }
    hr_node *list = hr_node_add(map, HR_NODE_LIST, key);
    for (const char *at = value + 1; *at != '\0';) {
        size_t size = strcspn(at, " ");
        char *word = hr_copy_bytes(at, size);
        hr_node_add_text(list, NULL, word, 0);
        hr_free(word);
        at += size + (at[size] == ' ' ? 1 : 0);
    }
}

hr_code bench_open(runtime_bench *bench, const char *kind, const char *const *pairs,
                   hr_error *err) {
    bench_file(bench, ".made", "");
    if (bench->loop == NULL) {
        bench->loop = hr_loop_new();
    }
    if (hr_spawner_start(bench->loop, err) != HR_OK) {
        fail_msg("%s", err->text);
    }
    bench->config = hr_node_add(NULL, HR_NODE_MAP, NULL);
    hr_node *own = NULL;
    for (; pairs[0] != NULL; pairs += 2) {
        const char *dot = strchr(pairs[0], '.');
        if (dot == NULL) {
            add_pair(bench->config, pairs[0], pairs[1]);
        } else {
            own = own != NULL ? own : hr_node_add(bench->config, HR_NODE_MAP, kind);
            add_pair(own, dot + 1, pairs[1]);
        }
    }
    const hr_runtime_ops *ops = hr_runtime_kind(kind);
    assert_non_null(ops);
    bench->runtime = hr_alloc(ops->object_size);
    *bench->runtime = (hr_runtime){.ops = ops,
                                   .host = &host,
                                   .loop = bench->loop,
                                   .name = "hot",
                                   .config = bench->config,
                                   .kind_config = hr_node_get(bench->config, kind),
                                   .config_dir = bench->folder,
                                   .state_dir = bench->folder,
                                   .version = 1,
                                   .has_takers = true,
                                   .timeout_ms = 5000,
                                   .batch_size = BENCH_EVENTS,
                                   .concurrency = 4,
                                   .host_data = bench};
    hr_code code = ops->init(bench->runtime, err);
    return code == HR_OK ? ops->start(bench->runtime, err) : code;
}

void bench_event(runtime_bench *bench, const char *id, const char *key, const char *json) {
    hr_builder builder = {0};
    hr_error err = {0};
    const hr_batch *old = bench->batch;
    for (uint32_t i = 0; old != NULL && i < old->count; i++) {
        assert_int_equal(hr_builder_add(&builder, i, hr_batch_envelope(old, i), &err), HR_OK);
    }
    hr_attribute floor = {
        .name = hr_slice_text("floor"), .type = HR_ATTRIBUTE_STRING, .text = hr_slice_text("2")};
    hr_fields fields = {.id = hr_slice_text(id),
                        .source = hr_slice_text("test/source"),
                        .type = hr_slice_text("test.reading"),
                        .subject = hr_slice_text("room 1"),
                        .partition_key = hr_slice_text(key),
                        .content_type = hr_slice_text("application/json"),
                        .data = hr_slice_text(json),
                        .has_data = true,
                        .extensions = &floor,
                        .extension_count = 1};
    if (hr_builder_pack(&builder, builder.count, &fields, &err) != HR_OK) {
        fail_msg("%s", err.text);
    }
    hr_batch_unref(bench->batch);
    bench->batch = hr_builder_finish(&builder, 1, 0);
    hr_builder_fini(&builder);
}

static void begin_call(runtime_bench *bench, const uint64_t *keys) {
    uint64_t id = bench->call.id + 1;
    hr_batch_unref(bench->results);
    bench->results = NULL;
    bench->answers = 0;
    memset(bench->outcome, 0, sizeof bench->outcome);
    for (uint32_t i = 0; i < bench->batch->count; i++) {
        bench->refs[i] =
            (hr_event_ref){.batch = bench->batch,
                           .index = (uint16_t)i,
                           .attempt = 1,
                           .replay = bench->refs[i].replay,
                           .key_hash = keys == NULL ? bench->batch->view[i].key_hash : keys[i]};
    }
    bench->call = (hr_call){.id = id,
                            .function = 1,
                            .version = 1,
                            .count = bench->batch->count,
                            .events = bench->refs,
                            .deadline_ns = hr_mono_ns() + (uint64_t)5 * 1000000000};
    bench->runtime->ops->call(bench->runtime, &bench->call);
    assert_int_equal(bench->answers, 0); /* never from within call() */
}

void bench_begin_call(runtime_bench *bench) {
    begin_call(bench, NULL);
}

void bench_wait_answer(runtime_bench *bench) {
    wait_for(bench, is_answered, NULL, "the answer");
}

void bench_call(runtime_bench *bench) {
    bench_begin_call(bench);
    bench_wait_answer(bench);
}

void bench_call_keys(runtime_bench *bench, const uint64_t *keys) {
    begin_call(bench, keys);
    bench_wait_answer(bench);
}

void bench_wait_stopped(runtime_bench *bench) {
    wait_for(bench, has_stopped, NULL, "stopped()");
}

void bench_wait_line(runtime_bench *bench, const char *text) {
    wait_for(bench, has_line, text, text);
}

void bench_wait_room(runtime_bench *bench, uint32_t room) {
    char text[1] = {(char)room};
    wait_for(bench, has_room, text, "room");
}

void bench_wait_downs(runtime_bench *bench, int downs) {
    char text[1] = {(char)downs};
    wait_for(bench, has_downs, text, "down()");
}

void bench_wait_down(runtime_bench *bench) {
    wait_for(bench, is_down, NULL, "down");
}

const char *bench_part(hr_slice slice) {
    static char text[4096];
    keep(text, sizeof text, slice);
    return text;
}

static void remove_folder(const char *folder) {
    DIR *dir = opendir(folder);
    for (struct dirent *entry = dir == NULL ? NULL : readdir(dir); entry != NULL;
         entry = readdir(dir)) {
        char *path = hr_format("%s/%s", folder, entry->d_name);
        bool is_own = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
        if (is_own && unlink(path) != 0) {
            remove_folder(path);
        }
        hr_free(path);
    }
    if (dir != NULL) {
        closedir(dir);
    }
    rmdir(folder);
}

void bench_forget_runtime(runtime_bench *bench) {
    hr_free(bench->runtime);
    bench->runtime = NULL;
}

void bench_close(runtime_bench *bench) {
    if (bench->runtime != NULL) {
        if (!bench->is_stopped) {
            bench->runtime->ops->stop(bench->runtime);
            bench_wait_stopped(bench);
        }
        bench->runtime->ops->fini(bench->runtime);
        hr_free(bench->runtime);
    }
    if (bench->loop != NULL) {
        hr_spawner_stop();
        hr_loop_free(bench->loop);
    }
    hr_batch_unref(bench->results);
    hr_batch_unref(bench->batch);
    hr_node_free(bench->config);
    hr_buffer_fini(&bench->lines);
    remove_folder(bench->folder);
    *bench = (runtime_bench){0};
}
