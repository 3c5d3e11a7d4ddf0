#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Style as a test: layer arrows, foreign libraries, banned calls, licence lines, header guards.

Fails with file, line and what to do; prints the ten largest files and functions, to be looked at."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Which layers a layer may include, beside itself.
BELOW = {
    "core": {"schemas"},
    "broker": {"core", "schemas"},
    "net": {"core", "schemas"},
    "triggers": {"broker", "net", "core", "schemas"},
    "functions": {"broker", "net", "core", "schemas"},
    "streams": {"broker", "net", "core", "schemas"},
    "app": {"triggers", "functions", "streams", "broker", "net", "core", "schemas"},
}

# Each foreign library stands behind one family of files.
FAMILIES = {
    "dlfcn.h": ("core/library", "functions/native"),
    "gnutls/": ("net/digest", "net/http_server_tls"),
    "llhttp.h": ("net/http_server",),
    "librdkafka/": ("net/kafka_client",),
    "MQTT": ("net/mqtt_client",),
    "openssl/": ("net/mqtt_client",),
    "curl/": ("net/http_client",),
    "sqlite3.h": ("broker/store", "streams/sql"),
    "libfyaml.h": ("app/config_yaml",),
    "uv.h": ("core/loop_uv",),
    "xxhash.h": ("core/slice", "broker/dedupe"),
    "protobuf-c": ("core/envelope",),
    "schemas/envelope.pb-c.h": ("core/envelope",),
    "pcre2.h": ("streams/sql",),
    "glib": ("triggers/zone",),
}

# Banned calls: where (a prefix of the path), except there (prefixes), and what to use.
CALLS = {
    "malloc calloc realloc reallocarray strdup strndup": ("layers", ("core/memory.c",),
                                                          "hr_alloc() and its kin"),
    "free": ("layers", ("core/memory.c",), "hr_free()"),
    "strcpy strcat stpcpy sprintf vsprintf gets": ("all", (), "a call that knows the size"),
    "strtok": ("all", (), "slices"),
    "atoi atol atoll atof": ("layers", (), "strtol() with its end checked, or core/time_text.h"),
    "system popen": ("layers", (), "posix_spawn or fork and exec, without a shell"),
    "sleep usleep": ("layers", ("app/verb",), "a timer of the loop"),
    "time clock_gettime gettimeofday rand random srand getrandom hr_mono_ns hr_real_us":
        ("broker/dispatch", (), "the time and chance that the step was handed"),
}

CODE_ENDINGS = (".c", ".h")
LICENSED = (".c", ".h", ".sh", ".py", ".go", ".proto", ".sql", ".def", ".cmake", ".mjs")
SPDX = "SPDX-License-Identifier: Apache-2.0"
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')
BLANKED = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def check_includes(path, text):
    layer = path.split("/")[0]
    for number, line in enumerate(text.split("\n"), 1):
        match = INCLUDE.match(line)
        if not match or layer not in BELOW:
            continue
        name = match.group(2)
        above = name.split("/")[0]
        if match.group(1) == '"' and "/" not in name:
            yield number, f'include "{name}" by its layer: "{layer}/{name}"'
        elif match.group(1) == '"' and above != layer and above not in BELOW[layer]:
            yield number, f"{layer} may not include {name}: layers look only leftwards"
        for part, families in FAMILIES.items():
            if name.startswith(part) and not path.startswith(families):
                yield number, f"{name} belongs behind {' or '.join(f + '*' for f in families)}"


def check_calls(path, code):
    layer = path.split("/")[0]
    for names, (where, exceptions, instead) in CALLS.items():
        inside = where == "all" or (layer in BELOW if where == "layers" else path.startswith(where))
        if not inside or (exceptions and path.startswith(exceptions)):
            continue
        pattern = re.compile(r"(?<![\w.>])(" + names.replace(" ", "|") + r")\s*\(")
        for number, line in enumerate(code.split("\n"), 1):
            for match in pattern.finditer(line):
                yield number, f"{match.group(1)}() is banned here: use {instead}"


def check_head(path, text):
    lines = text.split("\n")
    if SPDX not in "\n".join(lines[:2]):
        yield 1, f"the first line must hold {SPDX}"
    if not path.endswith(".h") or path.split("/")[0] not in BELOW:
        return
    guard = "HR_" + re.sub(r"\W", "_", path).upper()
    if f"#ifndef {guard}\n#define {guard}\n" not in text:
        yield 1, f"the guard of this header is {guard}"
    if len(lines) < 2 or not lines[1].startswith("/* "):
        yield 2, "the second line begins with what this header is, in one sentence"


def check(path, text):
    """All that is wrong with one file: (line, what)."""
    name = path.split("/")[-1]
    if path.endswith(LICENSED) or name in ("CMakeLists.txt", "dev"):
        yield from check_head(path, text)
    if path.endswith(CODE_ENDINGS):
        yield from check_includes(path, text)
        yield from check_calls(path, BLANKED.sub(blank, text))


def functions(path, text):
    """(lines, path:line name) of each function; clang-format puts its braces where we look."""
    start = None
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r"[A-Za-z_].*\(", line) and not line.endswith(";"):
            start = (number, re.search(r"(\w+)\s*\(", line).group(1))
        elif line.startswith("}") and start is not None:
            yield number - start[0] + 1, f"{path}:{start[0]} {start[1]}"
            start = None
        elif line.endswith(";") and not line.startswith((" ", "\t")):
            start = None


def print_largest(title, sized):
    print(title)
    for size, name in sorted(sized, reverse=True)[:10]:
        print(f"  {size:5} {name}")


def main():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    paths = [p for p in listed.stdout.decode().split("\0") if p and (ROOT / p).is_file()]
    wrong, sizes, largest = 0, [], []
    for path in paths:
        if not (path.endswith(LICENSED) or path.split("/")[-1] in ("CMakeLists.txt", "dev")):
            continue
        text = (ROOT / path).read_text(encoding="utf-8")
        for number, what in check(path, text):
            print(f"{path}:{number}: {what}")
            wrong += 1
        if path.endswith(CODE_ENDINGS):
            sizes.append((text.count("\n"), path))
            largest.extend(functions(path, text))
    print_largest("largest files (lines):", sizes)
    print_largest("largest functions (lines):", largest)
    print(f"tidy: {len(paths)} files, {wrong} findings")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
