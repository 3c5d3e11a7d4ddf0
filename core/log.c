/* SPDX-License-Identifier: Apache-2.0 */
#include "core/log.h"

#include "core/buffer.h"
#include "core/loop.h"
#include "core/time_text.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static atomic_int lowest = HR_LOG_INFO;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t last_hash;
static unsigned repeats;

void hr_log_set_level(hr_level level) {
    atomic_store(&lowest, (int)level);
}

static void write_all(const hr_buffer *line) {
    size_t done = 0;
    while (done < line->size) {
        ssize_t wrote = write(STDERR_FILENO, line->bytes + done, line->size - done);
        if (wrote <= 0) {
            return;
        }
        done += (size_t)wrote;
    }
}

void hr_log(hr_level level, const char *component, const char *format, ...) {
    static const char *const names[] = {"debug", "info ", "warn ", "ERROR"};
    if ((int)level < atomic_load(&lowest)) {
        return;
    }
    hr_buffer text = {0};
    va_list args;
    va_start(args, format);
    char body[1024];
    vsnprintf(body, sizeof body, format, args);
    va_end(args);
    hr_buffer_print(&text, "%s %s: ", names[level], component);
    for (const char *at = body; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            hr_buffer_print(&text, "\\x%02x", (unsigned)(unsigned char)*at);
        } else {
            hr_buffer_add(&text, at, 1);
        }
    }
    uint64_t hash = hr_hash(hr_slice_of(text.bytes, text.size));
    char stamp[HR_TIME_TEXT];
    hr_time_print(hr_real_us(), stamp);
    hr_buffer line = {0};
    pthread_mutex_lock(&mutex);
    if (hash == last_hash) {
        repeats++;
    } else {
        if (repeats > 0) {
            hr_buffer_print(&line, "%s info  log: the line before came %u more times\n", stamp,
                            repeats);
        }
        last_hash = hash;
        repeats = 0;
        hr_buffer_print(&line, "%s ", stamp);
        hr_buffer_add(&line, text.bytes, text.size);
        hr_buffer_add(&line, "\n", 1);
        write_all(&line);
    }
    pthread_mutex_unlock(&mutex);
    hr_buffer_fini(&line);
    hr_buffer_fini(&text);
}
