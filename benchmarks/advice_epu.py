"""How fast one new image of EPU, and its CTF result, are in a stored session of 20,000 exposures.

    python benchmarks/advice_epu.py [--json] [--quick] [--folder DIR]

Each figure is the median of 20 new files in one process with one thread, after three to warm up: the file is read,
joined and written to the store. The result is a row that is appended to a STAR file with one row for each exposure.
Beside them stands what `cryoscout import --update` takes for one new image in the same process. The session is made up
(see formats_data.py); it takes 0.3 GB in DIR, by default a folder for temporary files, and is made again only where it
is missing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pandas as pd
from formats_data import epu_image_xml, write_epu_session

from cryoscout.core.telling import SILENT
from cryoscout.intake.follow import FollowedSources, TakenOn
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources, read_session, store_session, update_session
from cryoscout.session.model import Session
from cryoscout.session.store import SessionStore

EXPOSURES = 20_000
FILES = 20
WARM_UP = 3
TARGETS: dict[str, float] = {"epu_one_new_file_20k_ms": 100.0, "epu_one_ctf_row_20k_ms": 100.0}
_STAR_HEAD = (
    "\n# version 30001\n\ndata_micrographs\n\nloop_ \n"
    "_rlnMicrographName #1 \n_rlnDefocusU #2 \n_rlnDefocusV #3 \n_rlnCtfMaxResolution #4 \n"
)


def epu_one_new_file_20k_ms(folder: Path | None = None, exposures: int = EXPOSURES) -> float:
    """Milliseconds until a new Data XML is in the store, median.     folder : where the session lies or is made"""
    return image_ms(folder, exposures)[0]


def image_ms(folder: Path | None, exposures: int) -> tuple[float, float]:
    """Milliseconds and processor milliseconds until a new Data XML is in the store, medians."""
    with _following(folder, exposures) as live:
        return live.median_ms(live.new_image)


def result_ms(folder: Path | None, exposures: int) -> tuple[float, float]:
    """Milliseconds and processor milliseconds until a row appended to a table of all results is in the store."""
    with _following(folder, exposures) as live:
        return live.median_ms(live.new_result)


def epu_update_20k_s(folder: Path | None = None, exposures: int = EXPOSURES) -> float:
    """Seconds that `import --update` takes for one new image."""
    with _following(folder, exposures) as live:
        live.new_image()
        start = time.perf_counter()
        update_session(live.store, live.sources, SILENT)
        return time.perf_counter() - start


@dataclass
class _Live:
    """A session that is followed, and what its microscope writes next."""

    store: Path
    sources: Sources
    followed: FollowedSources
    star: Path
    free: Iterator[pd.Series]
    """Holes that are not imaged, with the stage position of their last neighbour."""
    pending: Iterator[str]
    """Exposures without a result."""
    at: pd.Timestamp
    made: list[Path]

    def new_image(self) -> Path:
        """Write the XML of one more exposure, of a hole that was not imaged before."""
        hole = next(self.free)
        self.at += timedelta(seconds=4)
        stem = f"FoilHole_{hole.hole_id}_Data_19508519_19508521_{self.at:%Y%m%d_%H%M%S}"
        path = (
            self.sources.paths[0] / "Images-Disc1" / f"GridSquare_{hole.square_id}" / "Data" / f"{stem}.xml"
        )
        acquired_at = f"{self.at:%Y-%m-%dT%H:%M:%S}.1234567+00:00"
        path.write_text(epu_image_xml(acquired_at, hole.x_um * 1e-6, hole.y_um * 1e-6, (0.01, 0.02)), "utf-8")
        self.made.append(path)
        return path

    def new_result(self) -> Path:
        """Append the result of one exposure."""
        with self.star.open("a", encoding="utf-8") as file:
            file.write(_star_row(next(self.pending), 3.5))
        return self.star

    def median_ms(self, new_file: Callable[[], Path]) -> tuple[float, float]:
        """Milliseconds and processor milliseconds of taking in one new file, medians."""
        taken_ms, processor_ms = [], []
        for _ in range(WARM_UP + FILES):
            path = new_file()
            start, processor_start = time.perf_counter(), time.process_time()
            taken = self.followed.take_in([path])
            taken_ms.append(1e3 * (time.perf_counter() - start))
            processor_ms.append(1e3 * (time.process_time() - processor_start))
            _check(taken)
        return statistics.median(taken_ms[WARM_UP:]), statistics.median(processor_ms[WARM_UP:])


def _check(taken: TakenOn) -> None:
    if taken.whole_because or not any(taken.added.get(what) for what in ("exposures", "outcomes")):
        raise SystemExit(f"not one new exposure or result by itself: {taken}")


def _star_row(exposure_id: str, resolution: float) -> str:
    return f"MotionCorr/job002/Movies/{exposure_id}_Fractions.mrc 10865.006836 10571.461914 {resolution:12.6f} \n"


@contextmanager
def _following(folder: Path | None, exposures: int) -> Iterator[_Live]:
    """A copy of the stored session that is followed; the files that were added go again."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary) if folder is None else folder
        sources = _made(base, exposures)
        store = Path(temporary) / "followed.session"
        shutil.copytree(base / "epu.session", store)
        star = sources.paths[1]
        content = star.read_bytes()
        followed = FollowedSources(store, sources)
        followed.take_in()
        with SessionStore.open(store) as opened:
            session = opened.load()
        pending = session.exposures.loc[session.exposures["outcome"] == "pending", "exposure_id"]
        last = session.exposures["started_at"].max() + timedelta(minutes=1)
        live = _Live(store, sources, followed, star, _free_holes(session), iter(pending), last, [])
        try:
            yield live
        finally:
            star.write_bytes(content)
            for path in live.made:
                path.unlink()


def _made(base: Path, exposures: int) -> Sources:
    """The session, its results but for the last hundred, and its store; written where they are missing."""
    base.mkdir(parents=True, exist_ok=True)
    epu, star = base / "epu", base / "micrographs_ctf.star"
    if not (epu / "EpuSession.dm").is_file():
        rows = write_epu_session(epu, exposures)
        texts = [_star_row(name, 3.0 + place % 70 / 10) for place, name in enumerate(rows["exposure_id"])]
        star.write_text(_STAR_HEAD + "".join(texts[: -min(100, exposures // 2)]), encoding="utf-8")
    sources = Sources([epu, star], [], ReadOptions(permissive=True), "epu micrographs_ctf.star")
    if not (base / "epu.session").exists():
        store_session(read_session(sources, SILENT), base / "epu.session", sources.as_given, False, SILENT)
    return sources


def _free_holes(session: Session) -> Iterator[pd.Series]:
    """Holes of the last square that are not imaged, at their own position."""
    holes = session.holes.merge(session.patches, on="patch_id")
    free = holes[~session.imaged_by_hole() & (holes["square_id"] == session.squares["square_id"].iloc[-1])]
    return (row for _, row in free.iterrows())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--quick", action="store_true", help="a twentieth of the size, to see that the script runs"
    )
    parser.add_argument("--folder", type=Path, help="where the made-up session lies or is made")
    options = parser.parse_args()
    exposures = EXPOSURES // 20 if options.quick else EXPOSURES
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        image, result = image_ms(folder, exposures), result_ms(folder, exposures)
        reached = {"epu_one_new_file_20k_ms": image[0], "epu_one_ctf_row_20k_ms": result[0]}
        figures: dict[str, object] = {
            "exposures": exposures,
            **reached,
            "processor_ms": {"epu_one_new_file_20k": image[1], "epu_one_ctf_row_20k": result[1]},
            "epu_update_20k_s": epu_update_20k_s(folder, exposures),
            "quick": options.quick,
            "targets": TARGETS,
        }
    figures["missed"] = [name for name, target in TARGETS.items() if reached[name] > target]
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        if isinstance(value, float):
            target = f"   target <= {TARGETS[name]:g}" if name in TARGETS else ""
            print(f"{name:26} {value:10.3f}{target}")


if __name__ == "__main__":
    main()
