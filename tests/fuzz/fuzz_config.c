/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files: errors have places and messages, what loads also prints. */
#include "app/config.h"
#include "core/memory.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *variable(const char *name) {
    return strcmp(name, "SECRET") == 0 ? "hunter2" : NULL;
}

static hr_code compile(void *data, const char *text, int *out_offset, hr_error *err) {
    (void)data;
    *out_offset = (int)strlen(text) - 1;
    return strchr(text, '!') == NULL ? HR_OK : hr_fail(err, HR_E_EXPRESSION, 0, "no");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    int fd = memfd_create("fuzz.yaml", 0);
    FUZZ_CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    char *path = hr_format("/proc/self/fd/%d", fd);
    const char *paths[] = {path};
    const hr_config_options options = {.compile = compile, .variable = variable};
    hr_diagnostics *diags = hr_diagnostics_new();
    hr_config *config = NULL;
    hr_buffer text = {0};
    hr_code code = hr_config_load(paths, 1, &options, &config, diags);
    if (code == HR_OK) {
        FUZZ_CHECK(config != NULL && hr_diagnostics_errors(diags) == 0);
        FUZZ_CHECK(hr_node_count(hr_config_root(config)) == 3);
        hr_config_print(config, &text);
        FUZZ_CHECK(text.size > 0);
        hr_config_free(config);
    } else {
        FUZZ_CHECK(config == NULL && hr_diagnostics_errors(diags) > 0);
    }
    text.size = 0;
    hr_diagnostics_print(diags, &text);
    hr_diagnostics_print_json(diags, &text);
    hr_buffer_fini(&text);
    hr_diagnostics_free(diags);
    hr_free(path);
    (void)close(fd);
    return 0;
}
