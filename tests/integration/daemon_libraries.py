#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Libraries that only some configurations use are loaded by those alone, and `headrace check` and
`run` say which one is missing and who needs it. A library is made missing by a file of its name that is none.

Usage: daemon_libraries.py HEADRACE
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

KAFKA = 'brokers: "127.0.0.1:1", topic'
HOOK = "triggers: { t: { webhook: { insecure: true } } }\n"
SHELL = "functions: { f: { from: t, shell: cat } }\n"
# the library: who needs it, and configurations that do
USERS = {
    "rdkafka": ("kafka", [
        "triggers: { t: { kafka: { %ss: a, start: latest } } }\n" % KAFKA + SHELL,
        HOOK + "functions: { f: { from: t, kafka: { %s: a } } }\n" % KAFKA]),
    "paho-mqtt3as": ("mqtt", [
        'triggers: { t: { mqtt: { url: "mqtt://127.0.0.1", topic: a } } }\n' + SHELL]),
    "curl": ("http and notify", [
        HOOK + 'functions: { f: { from: t, http: "http://127.0.0.1:1/" } }\n',
        HOOK + 'functions: { f: { from: t, notify: { slack: "https://127.0.0.1:1/" } } }\n']),
    "gnutls": ("signatures and tokens", [
        "triggers: { t: { webhook: { secret: abc } } }\n" + SHELL,
        "triggers: { t: { storage: { kind: s3, token: abc } } }\n" + SHELL]),
    "glib-2.0": ("cron", [
        'triggers: { t: { cron: { at: "0 3 * * *", zone: Europe/Berlin } } }\n' + SHELL]),
    "pcre2-8": ("REGEXP", [
        HOOK + "functions: { f: { from: t, shell: cat, when: \"id REGEXP 'a'\" } }\n"]),
}
NEEDED_TOO = {"pcre2-8": ["glib-2.0"]}  # those that bring it along


def main():
    program = pathlib.Path(sys.argv[1])
    sonames = {}
    for soname in re.findall(rb"lib[a-z0-9.-]+\.so\.[0-9]+(?=\0)", program.read_bytes()):
        sonames[re.match(r"lib(.*)\.so", soname.decode()).group(1)] = soname.decode()
    with tempfile.TemporaryDirectory(prefix="headrace-libraries-") as folder:
        folder = pathlib.Path(folder)
        config = folder / "headrace.yaml"

        def check(text, missing, *words):
            for old in folder.glob("*.so.*"):
                old.unlink()
            for name in missing:
                (folder / sonames[name]).write_text("not a library\n")
            config.write_text(text)
            done = subprocess.run([program, *(words or ("check", "-c", config))],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  env={**os.environ, "LD_LIBRARY_PATH": folder}, timeout=60)
            return done.returncode, done.stdout

        for name, (user, texts) in USERS.items():
            for text in texts:
                code, said = check(text, [])
                assert code == 0, f"{name}: there, and yet {code}: {said}"
                others = set(USERS) - {name}
                code, said = check(text, [name])
                assert code != 0, f"{name}: missing, and yet: {said}"
                line = [line for line in said.splitlines() if sonames[name] in line]
                assert line and user in line[0], f"{name}: not told: {said}"
                assert code in (1, 78), f"{name}: ended with {code}: {said}"
                state = folder / "state"  # it opens beside
                told = check(text, [name], "run", "-c", config, "--state", state, "--for", "10ms")
                assert told == (code, said), f"{name}: run says {told}, not {said}"
                if name in ("rdkafka", "paho-mqtt3as", "glib-2.0") and "webhook" not in text:
                    unused = others - {other for other, with_it in NEEDED_TOO.items()
                                       if name in with_it}
                    code, said = check(text, unused)
                    assert code == 0, f"{name}: it needs more than that: {said}"
        code, said = check("", USERS, "version")
        assert code == 0, f"version: {said}"
    print(f"{len(USERS)} libraries")


if __name__ == "__main__":
    main()
