#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clang_tidy.py BUILD JOBS: clang-tidy over our sources, by BUILD/compile_commands.json.

A file that was clean is looked at again only when it, a header of ours that it includes, its command
or the checks changed (BUILD/lint keeps the marks)."""
import concurrent.futures
import hashlib
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYERS = ("core", "broker", "net", "streams", "triggers", "functions", "app")
GCC_ONLY = re.compile(r" -mmem(?:cpy|set)-strategy=\S+")
INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', re.M)


def reachable(path, seen):
    """All files of ours that path includes, itself too."""
    if path in seen or not path.is_file():
        return seen
    seen.add(path)
    for name in INCLUDE.findall(path.read_bytes()):
        reachable(ROOT / name.decode(), seen)
    return seen


def mark_of(path, command, version):
    digest = hashlib.sha256(version + command.encode() + (ROOT / ".clang-tidy").read_bytes())
    for part in sorted(reachable(path, set())):
        digest.update(str(part.relative_to(ROOT)).encode() + b"\0" + part.read_bytes())
    return digest.hexdigest()


def check(build, entry, version):
    path = pathlib.Path(entry["file"])
    mark = build / "lint" / (str(path.relative_to(ROOT)).replace("/", "_") + ".ok")
    wanted = mark_of(path, entry["command"], version)
    if mark.is_file() and mark.read_text() == wanted:
        return True, ""
    run = subprocess.run(["clang-tidy", "--quiet", "-p", str(build / "lint"), str(path)], cwd=ROOT,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if run.returncode == 0:
        mark.write_text(wanted)
    return run.returncode == 0, run.stdout


def main():
    build, jobs = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2])
    (build / "lint").mkdir(exist_ok=True)
    version = subprocess.run(["clang-tidy", "--version"], stdout=subprocess.PIPE, check=True).stdout
    entries = json.loads((build / "compile_commands.json").read_text())
    for entry in entries:
        entry["command"] = GCC_ONLY.sub("", entry["command"])
    (build / "lint" / "compile_commands.json").write_text(json.dumps(entries))
    ours = [e for e in entries
            if any(pathlib.Path(e["file"]).is_relative_to(ROOT / layer) for layer in LAYERS)
            and e["file"].endswith(".c")]
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for fine, text in pool.map(lambda entry: check(build, entry, version), ours):
            if not fine:
                bad += 1
                print(text)
    print(f"clang-tidy: {len(ours)} files, {bad} with findings", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
