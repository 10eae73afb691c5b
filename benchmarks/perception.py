"""How fast images are simulated and their holes found.

    python benchmarks/perception.py [--json]

A figure that is null is not measured yet.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from cryoscout.perception.hole_finding import find_holes
from cryoscout.perception.images import read_image
from cryoscout.study.runner import machine_in_words

MONTAGE = Path(__file__).parents[1] / "tests" / "perception" / "data" / "semmatch_square_montage.jpg"
REPEATS = 3


def find_holes_s() -> float:
    """Median seconds to read a montage of 3408 x 3544 px and find its holes, after one warm-up."""
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        find_holes(read_image(MONTAGE))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    figures: dict[str, object] = {
        "machine": machine_in_words(),
        "find_holes_s": round(find_holes_s(), 3),
        "simulate_y3_s": None,
    }
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
