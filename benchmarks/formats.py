"""How fast vendors' files become a session: a large EPU session, and tables of results, as the command line does it.

    python benchmarks/formats.py [--json] [--quick] [--folder DIR]

Each figure is one run in a process of its own, start of the interpreter included; `*_read_s` are the reader alone.
The sessions are made up (see formats_data.py, formats_tables.py); 50,000 exposures take 0.6 GB in DIR, by default a
folder for temporary files, and are made again only where they are missing. `processor_s` says what a busy machine
would have needed alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from formats_data import write_epu_session
from formats_hostile import BYTES, hostile_s
from formats_tables import write_csv, write_star

from cryoscout.formats.ctf import relion
from cryoscout.formats.own import table as generic_table

EXPOSURES = 50_000
ROWS = 100_000
TARGETS: dict[str, float] = {
    "epu_50k_s": 60.0,
    "csv_100k_s": 5.0,
    "star_100k_s": 5.0,
    "reimport_50k_s": 5.0,
    "peak_mb": 1000.0,
    "hostile_worst_s": 5.0,
}
"""What each figure should stay below; those of tables are of the reader alone."""

_CLI = "import sys; from cryoscout.cli.main import main; sys.exit(main(sys.argv[1:]))"


def import_s(folder: Path, *arguments: str) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak megabytes of one `cryoscout import` in the folder."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", _CLI, "import", *arguments, "--json"], cwd=folder, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"cryoscout import {' '.join(arguments)} left with {child.returncode}")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def reader_s(module: Any, path: Path) -> tuple[float, float]:
    """Seconds and processor seconds of one reader."""
    start, processor_start = time.perf_counter(), time.process_time()
    module.read_source(path)
    return time.perf_counter() - start, time.process_time() - processor_start


def make_inputs(folder: Path, exposures: int, rows: int) -> None:
    """Write what is not there yet."""
    if not (folder / "epu" / "EpuSession.dm").is_file():
        write_epu_session(folder / "epu", exposures)
    if not (folder / "site.csv").is_file():
        write_csv(folder / "site.csv", rows)
    if not (folder / "micrographs_ctf.star").is_file():
        write_star(folder / "micrographs_ctf.star", rows)


def measure(folder: Path, quick: bool) -> dict[str, Any]:
    """All figures.     quick : a fiftieth of the sizes, to try the script"""
    exposures, rows = (EXPOSURES // 50, ROWS // 50) if quick else (EXPOSURES, ROWS)
    make_inputs(folder, exposures, rows)
    epu_s, epu_processor_s, epu_mb = import_s(folder, "epu", "-o", "epu.session", "--force")
    again_s, again_processor_s, again_mb = import_s(folder, "epu", "-o", "epu.session", "--update")
    table_s, table_processor_s, table_mb = import_s(folder, "site.csv", "-o", "site.session", "--force")
    results_s, results_processor_s, results_mb = import_s(
        folder, "micrographs_ctf.star", "-o", "site.session", "--update"
    )
    hostile = hostile_s(folder, BYTES // 50 if quick else BYTES)
    peaks = {"epu": epu_mb, "reimport": again_mb, "csv": table_mb, "star_update": results_mb}
    csv_s, csv_processor_s = reader_s(generic_table, folder / "site.csv")
    star_s, star_processor_s = reader_s(relion, folder / "micrographs_ctf.star")
    figures: dict[str, Any] = {
        "exposures": exposures,
        "rows": rows,
        "epu_50k_s": epu_s,
        "reimport_50k_s": again_s,
        "csv_100k_s": csv_s,
        "csv_100k_import_s": table_s,
        "star_100k_s": star_s,
        "star_100k_update_s": results_s,
        "processor_s": {
            "epu_50k": epu_processor_s,
            "reimport_50k": again_processor_s,
            "csv_100k": csv_processor_s,
            "csv_100k_import": table_processor_s,
            "star_100k": star_processor_s,
            "star_100k_update": results_processor_s,
        },
        "peak_mb": max(peaks.values()),
        "peak_mb_of": peaks,
        "hostile_worst_s": max(hostile.values()),
        "hostile_s_of": hostile,
        "quick": quick,
        "targets": TARGETS,
    }
    figures["missed"] = [name for name, target in TARGETS.items() if figures[name] > target]
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, to see that the script runs")
    parser.add_argument("--folder", type=Path, help="where the made-up sessions lie or are made")
    options = parser.parse_args()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        figures = measure(options.folder, options.quick)
    else:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(Path(folder), options.quick)
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        if isinstance(value, float):
            target = f"   target <= {TARGETS[name]:g}" if name in TARGETS else ""
            print(f"{name:24} {value:10.3f}{target}{'   MISSED' if name in figures['missed'] else ''}")


if __name__ == "__main__":
    main()
