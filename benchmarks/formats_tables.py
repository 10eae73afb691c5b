"""How fast tables of CTF results are read: our STAR and CSV readers, and what is measured beside them in the same run.

    python benchmarks/formats_tables.py --rows 100000 --json

The rival of the STAR reader is the starfile package, of the CSV reader pandas.read_csv. Neither checks what ours do
(line numbers, duplicates, units), so a ratio above 1 is expected; it says what that costs.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.formats.ctf import relion
from cryoscout.formats.own import table as generic_table

SEED = 0


def _names(rows: int) -> list[str]:
    return [f"FoilHole_{19_000_000 + row}_Data_19508496_{row}_20230919_154056" for row in range(rows)]


def _resolutions(rows: int) -> list[float]:
    values: list[float] = np.random.default_rng(SEED).uniform(2.5, 25.0, rows).round(6).tolist()
    return values


def write_star(path: Path, rows: int) -> None:
    """Write a table of micrographs as RELION 3.1 and later do, with nine columns; the same bytes every time."""
    labels = (
        *(
            "rlnMicrographName",
            "rlnOpticsGroup",
            "rlnCtfImage",
            "rlnDefocusU",
            "rlnDefocusV",
            "rlnCtfAstigmatism",
        ),
        *("rlnDefocusAngle", "rlnCtfFigureOfMerit", "rlnCtfMaxResolution"),
    )
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(
            "\n# version 30001\n\ndata_optics\n\nloop_ \n_rlnOpticsGroup #1 \n_rlnVoltage #2 \n1 300.0 \n \n\n"
        )
        file.write("# version 30001\n\ndata_micrographs\n\nloop_ \n")
        file.writelines(f"_{label} #{place} \n" for place, label in enumerate(labels, start=1))
        file.writelines(
            f"MotionCorr/job002/Movies/{name}_Fractions.mrc            1 CtfFind/job003/Movies/{name}_PS.ctf:mrc "
            f"10865.006836 10571.461914   293.544922    79.130180     0.132045 {resolution:12.6f} \n"
            for name, resolution in zip(_names(rows), _resolutions(rows), strict=True)
        )
        file.write(" \n")


def write_csv(path: Path, rows: int) -> None:
    """Write a site's own table with every column that is recognised; the same bytes every time."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("grid,square,patch,hole,micrograph,stage_x_um,stage_y_um,time,ctf_max_res,operator\n")
        for row, (name, resolution) in enumerate(zip(_names(rows), _resolutions(rows), strict=True)):
            clock = f"{row // 3600 % 24:02d}:{row // 60 % 60:02d}:{row % 60:02d}"
            file.write(
                f"g1,s{row // 500},p{row // 50},h{row},{name}_Fractions.tiff,{row % 997}.25,-{row % 991}.5,"
                f"2023-09-{19 + row // 86400 % 10} {clock},{resolution},ann\n"
            )


def _seconds(read: Callable[[Path], object], path: Path) -> float:
    start = time.perf_counter()
    read(path)
    return time.perf_counter() - start


def measure(rows: int) -> dict[str, object]:
    """Seconds of each reader over generated files of that many rows, and peak memory of the whole process."""
    figures: dict[str, object] = {"rows": rows}
    with tempfile.TemporaryDirectory() as folder:
        star, table = Path(folder) / "micrographs_ctf.star", Path(folder) / "site.csv"
        write_star(star, rows)
        write_csv(table, rows)
        figures["star_megabytes"] = round(star.stat().st_size / 1e6, 1)
        figures["csv_megabytes"] = round(table.stat().st_size / 1e6, 1)
        figures["star_s"] = star_s = _seconds(relion.read_source, star)
        figures["csv_s"] = csv_s = _seconds(generic_table.read_source, table)
        figures["peak_memory_megabytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        figures["pandas_csv_s"] = pandas_s = _seconds(pd.read_csv, table)
        figures["csv_to_pandas"] = csv_s / pandas_s
        try:
            import starfile  # type: ignore[import-untyped]
        except ImportError:
            figures["starfile_s"] = None
        else:
            figures["starfile_s"] = starfile_s = _seconds(starfile.read, star)
            figures["star_to_starfile"] = star_s / starfile_s
    return figures


def main() -> None:
    """Print the figures, as one JSON object with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.rows)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:.3f}" if isinstance(value, float) else f"{name:24} {value}")


if __name__ == "__main__":
    main()
