"""What the first commands after an installation take more than later ones: compiled code is made and kept then.

    python benchmarks/first_use.py [--json]

Seconds of the processor, of a command in a process of its own, without and with compiled code of an earlier run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile

COMMAND = [sys.executable, "-c", "from cryoscout.cli.main import run; run()"]
COMMANDS = {
    "plan": ["plan", "y1", "--budget-min", "480"],
    "replay_looking": [
        "replay", "y1", "--looks", "charged", "--time-model", "y1-looks-as-sketched", "--budget-min", "60",
        "--starts", "1",
    ],
}  # fmt: skip


def processor_s(arguments: list[str], cache: str) -> float:
    """Seconds of the processor that `cryoscout` takes with compiled code kept in `cache`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"cryoscout {' '.join(arguments)} failed: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    figures = {}
    for name, arguments in COMMANDS.items():
        with tempfile.TemporaryDirectory() as cache:
            figures[f"{name}_first_s"] = processor_s(arguments, cache)
            figures[f"{name}_s"] = processor_s(arguments, cache)
    if as_json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:24} {value:6.1f} s of the processor")


if __name__ == "__main__":
    main()
