# SPDX-License-Identifier: Apache-2.0
"""The build with seeded faults and crash points, for the proofs that need it."""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "mutants"
HEADRACE = BUILD / "app" / "headrace"
FEED = BUILD / "tests" / "prove" / "kafka_feed"


def build(*targets):
    """All of it when no target is named."""
    jobs = os.environ.get("HEADRACE_JOBS") or str(os.cpu_count())
    chosen = ["--target", *targets] if targets else []
    for command in (["cmake", "--preset", "mutants"],
                    ["cmake", "--build", BUILD, "-j", jobs, *chosen]):
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
