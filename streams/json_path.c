/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of JSON paths: parsing "$.a[0].\"b c\"" into a tree of steps. */
#include "core/memory.h"
#include "streams/json_priv.h"

static int add_step(hr_json_paths *paths, hr_json_step step) {
    if ((paths->step_count & (paths->step_count - 1)) == 0) {
        size_t capacity = paths->step_count == 0 ? 1 : (size_t)paths->step_count * 2;
        paths->step = hr_realloc(paths->step, capacity * sizeof *paths->step);
    }
    step.child = -1;
    step.sibling = -1;
    step.slot = -1;
    step.seen = 0;
    paths->step[paths->step_count] = step;
    return paths->step_count++;
}

hr_json_paths *hr_json_paths_new(void) {
    hr_json_paths *paths = hr_alloc(sizeof *paths);
    add_step(paths, (hr_json_step){.label = NULL});
    return paths;
}

void hr_json_paths_free(hr_json_paths *take_paths) {
    if (take_paths == NULL) {
        return;
    }
    for (int i = 0; i < take_paths->step_count; i++) {
        hr_free(take_paths->step[i].label);
    }
    hr_free(take_paths->step);
    hr_free(take_paths);
}

int hr_json_paths_count(const hr_json_paths *paths) {
    return paths->slot_count;
}

/* One step as it stands in the path. */
typedef struct path_part {
    bool is_index;
    uint32_t index;
    hr_slice label;
} path_part;

static hr_code refuse(size_t at, int *out_offset, hr_error *err, const char *why) {
    *out_offset = (int)at;
    return hr_fail(err, HR_E_EXPRESSION, 0, "%s", why);
}

/* Reads the label behind a dot at *at. */
static hr_code read_label(hr_slice path, size_t *at, path_part *out, int *out_offset,
                          hr_error *err) {
    size_t start = *at;
    if (start < path.size && path.bytes[start] == '"') {
        const uint8_t *close = memchr(path.bytes + start + 1, '"', path.size - start - 1);
        if (close == NULL) {
            return refuse(start, out_offset, err, "a quote of a path is not closed");
        }
        *at = (size_t)(close - path.bytes) + 1;
        out->label = hr_slice_of(path.bytes + start + 1, *at - start - 2);
        return HR_OK;
    }
    while (*at < path.size && path.bytes[*at] != '.' && path.bytes[*at] != '[') {
        ++*at;
    }
    if (*at == start) {
        return refuse(start, out_offset, err, "a name is missing in a path");
    }
    out->label = hr_slice_of(path.bytes + start, *at - start);
    return HR_OK;
}

/* Reads the index behind a bracket at *at. */
static hr_code read_index(hr_slice path, size_t *at, path_part *out, int *out_offset,
                          hr_error *err) {
    size_t start = *at;
    uint64_t index = 0;
    while (*at < path.size && path.bytes[*at] >= '0' && path.bytes[*at] <= '9' &&
           index <= UINT32_MAX) {
        index = index * 10 + (uint64_t)(path.bytes[*at] - '0');
        ++*at;
    }
    if (*at == start || index >= UINT32_MAX || *at == path.size || path.bytes[*at] != ']') {
        return refuse(start, out_offset, err, "a path needs [N] with N counting from 0");
    }
    ++*at;
    out->is_index = true;
    out->index = (uint32_t)index;
    return HR_OK;
}

static hr_code read_path(hr_slice path, path_part parts[HR_JSON_PATH_STEPS], size_t *out_count,
                         int *out_offset, hr_error *err) {
    size_t at = 1, count = 0;
    if (path.size == 0 || path.bytes[0] != '$') {
        return refuse(0, out_offset, err, "a path begins with $");
    }
    while (at < path.size) {
        if (count == HR_JSON_PATH_STEPS) {
            return refuse(at, out_offset, err, "a path has more than 64 steps");
        }
        parts[count] = (path_part){.is_index = false};
        uint8_t c = path.bytes[at++];
        hr_code code = c == '.' ? read_label(path, &at, &parts[count], out_offset, err)
                       : c == '['
                           ? read_index(path, &at, &parts[count], out_offset, err)
                           : refuse(at - 1, out_offset, err, "a step of a path begins with . or [");
        if (code != HR_OK) {
            return code;
        }
        count++;
    }
    *out_count = count;
    return HR_OK;
}

/* The step below node for this part, -1: none. */
static int find_step(const hr_json_paths *paths, int node, const path_part *part) {
    for (int at = paths->step[node].child; at >= 0; at = paths->step[at].sibling) {
        const hr_json_step *step = &paths->step[at];
        if (step->is_index == part->is_index &&
            (part->is_index
                 ? step->index == part->index
                 : hr_slice_equal(hr_slice_of(step->label, step->label_size), part->label))) {
            return at;
        }
    }
    return -1;
}

/* The same, made when it is new. */
static int enter(hr_json_paths *paths, int node, const path_part *part) {
    int at = find_step(paths, node, part);
    if (at >= 0) {
        return at;
    }
    hr_json_step step = {.is_index = part->is_index, .index = part->index};
    if (!part->is_index) {
        step.label = hr_copy_bytes(part->label.bytes, part->label.size);
        step.label_size = part->label.size;
    }
    int made = add_step(paths, step);
    paths->step[made].sibling = paths->step[node].child;
    paths->step[node].child = made;
    return made;
}

hr_code hr_json_paths_add(hr_json_paths *paths, hr_slice path, int *out_slot, int *out_offset,
                          hr_error *err) {
    path_part parts[HR_JSON_PATH_STEPS];
    size_t count = 0;
    hr_code code = read_path(path, parts, &count, out_offset, err);
    if (code != HR_OK) {
        return code;
    }
    int node = 0;
    for (size_t i = 0; i < count; i++) {
        node = enter(paths, node, &parts[i]);
    }
    if (paths->step[node].slot < 0) {
        if (paths->slot_count == HR_JSON_PATHS_MAX) {
            return refuse(0, out_offset, err, "more than 64 different paths");
        }
        paths->step[node].slot = paths->slot_count++;
    }
    *out_slot = paths->step[node].slot;
    return HR_OK;
}

int hr_json_paths_find(const hr_json_paths *paths, hr_slice path) {
    path_part parts[HR_JSON_PATH_STEPS];
    size_t count = 0;
    int offset = 0;
    if (read_path(path, parts, &count, &offset, NULL) != HR_OK) {
        return -1;
    }
    int node = 0;
    for (size_t i = 0; i < count && node >= 0; i++) {
        node = find_step(paths, node, &parts[i]);
    }
    return node < 0 ? -1 : paths->step[node].slot;
}
