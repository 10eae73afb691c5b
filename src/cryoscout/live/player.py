"""A session played as a growing folder, so that a server can be shown and tested without a microscope.

The player writes what a site's programs would: an own table of holes and exposures, or the vendor's own files where a
record is played that has some (`played_files`), and RELION's micrographs_ctf.star; in bursts, half-written for a
moment, and by renames. The watcher reads it as any other folder. The source session is never written; the player's is
a new folder, removed at the end unless it was asked for.

`record` plays what was done at its own times; `advice` is a microscope that takes the next advised hole among those of
which the source knows the result, in the minutes of the time model. The first hole is where the stage is: no minutes.
"""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.new_files import write_whole
from cryoscout.core.telling import SILENT, Say
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources, read_session
from cryoscout.live.advisor import Advisor
from cryoscout.live.played_files import PlayedFiles, played_files
from cryoscout.routing.replay import Truth
from cryoscout.session.model import Session, session_without_rows
from cryoscout.session.named import load_session
from cryoscout.session.store import SessionStore

if TYPE_CHECKING:
    from cryoscout.live.serving import ServeRequest

Follow = Literal["record", "advice"]
FIRST_EXPOSURE = datetime(2026, 1, 1, 20, 0, 0)
"""Microscope time of the first exposure of a microscope that takes advice; fixed: a replay is the same again."""
FAILED_ANGSTROM = 999.0
WAIT_S = 0.02
LONGEST_WAIT_S = 300.0
TABLE, STAR, FOLDER = "holes.csv", "micrographs_ctf.star", "data"
_COLUMNS = ("grid", "square", "patch", "hole", "exposure", "time", "x", "y")


@dataclass
class Player:
    """Plays one session."""

    source: Session
    folder: Path  # of the session that is made
    follow: Follow
    speed: float
    files: PlayedFiles | None = None
    """Of the vendor; None: a table is written."""
    seed: int = 0
    rows: dict[str, list[str]] = field(default_factory=dict)  # hole -> cells of the table
    taken: list[str] = field(default_factory=list)
    """Holes in the order they were imaged."""
    first_exposure: tuple[str, datetime] | None = None
    """Hole and microscope time of the first exposure, where it has one."""

    def __post_init__(self) -> None:
        self.data = self.folder.parent / f"{self.folder.stem}-{FOLDER}"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._rng = np.random.default_rng(self.seed)
        self._stars: list[str] = []
        self._extra: list[list[str]] = []
        places = self.source.holes.merge(self.source.patches, on="patch_id").merge(
            self.source.squares, on="square_id"
        )
        has_stage = bool(places["x_um_x"].notna().any()) if "x_um_x" in places else False
        self._headers = [*_COLUMNS[:6], "x um" if has_stage else "x px", "y um" if has_stage else "y px"]
        x, y = ("x_um_x", "y_um_x") if has_stage else ("x_px", "y_px")
        for row in places[["grid_id", "square_id", "patch_id", "hole_id", x, y]].itertuples(index=False):
            position = ["" if np.isnan(value) else repr(float(value)) for value in row[4:]]
            self.rows[str(row[3])] = [*map(str, row[:4]), "", "", *position]
        exposures = self.source.exposures
        self._results = {
            str(hole): (float(ctf) if outcome == "measured" else FAILED_ANGSTROM)
            for hole, outcome, ctf in zip(
                exposures["hole_id"], exposures["outcome"], exposures["ctf_max_res_angstrom"], strict=True
            )
            if outcome in ("measured", "failed")
        }

    def prepare(self) -> None:
        """Make the folder, and a session of it in which nothing is imaged yet, with the source's predictions."""
        self.data.mkdir()
        if self.files is None:
            self._write_table()
        else:
            self.files.begin(self._place)
        self._write_star()
        try:
            read = read_session(
                Sources([self._place], [], ReadOptions(permissive=True), str(self.data)), SILENT
            ).session
        except FileFormatError:
            read = session_without_rows(self.folder.stem)
        predictions = self.source.predictions
        predictions = predictions[predictions["hole_id"].isin(read.holes["hole_id"])]
        info = read.info.model_copy(
            update={
                "threshold_angstrom": self.source.info.threshold_angstrom,
                "default_time_model": self.source.info.default_time_model,
                "dataset": self.source.info.dataset,
                "description": f"Played from {self.source.name}",
            }
        )
        made = replace(read, name=self.folder.stem, info=info, predictions=predictions)
        with SessionStore.create(self.folder) as store:
            store.save_import(made, source=f"player of {self.source.name}")
            unknown = [hole for hole in read.holes["hole_id"] if hole not in self._results]
            for hole in unknown:
                payload = {
                    "kind": "ban",
                    "hole_id": hole,
                    "author": "player",
                    "note": "its result is not known",
                }
                store.append("overridden", payload)

    @property
    def _place(self) -> Path:
        """The table, or the vendor's folder."""
        return self.data / (TABLE if self.files is None else self.files.source.name)

    @property
    def sources(self) -> list[Path]:
        """What the watcher is to follow."""
        return [self._place, self.data / STAR]

    def truth(self, threshold_angstrom: float, holes: Sequence[str]) -> Truth:
        """What each of these holes gives when it is played: every result of a record, else one of each hole.

        Returns the truth in the order of `holes`; a hole without a result is not measured.
        """
        if self.follow == "record":
            good = dict(
                zip(
                    self.source.holes["hole_id"],
                    self.source.good_by_hole(threshold_angstrom).tolist(),
                    strict=True,
                )
            )
        else:
            good = {hole: float(ctf <= threshold_angstrom) for hole, ctf in self._results.items()}
        found = np.array([good.get(hole, np.nan) for hole in holes], dtype=np.float64)
        return Truth(np.nan_to_num(found), ~np.isnan(found))

    def start(self, advisor: Advisor) -> None:
        """Begin to play."""
        work = self._play_record if self.follow == "record" else self._take_advice
        self._thread = threading.Thread(target=work, args=(advisor,), name="player", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop playing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10.0)

    @property
    def is_over(self) -> bool:
        """Whether everything was played."""
        return self._thread is not None and not self._thread.is_alive()

    def _play_record(self, advisor: Advisor) -> None:
        """Each exposure at its own time; results come in bursts behind them."""
        exposures = self.source.exposures
        timed = exposures[exposures["outcome"].isin(("measured", "failed"))].sort_values(
            ["started_at", "exposure_id"]
        )
        before: pd.Timestamp | None = None
        waiting: list[tuple[str, float]] = []
        columns = ("hole_id", "exposure_id", "started_at", "outcome", "ctf_max_res_angstrom")
        for hole, exposure, started_at, outcome, ctf in zip(*(timed[name] for name in columns), strict=True):
            at = None if pd.isna(started_at) else pd.Timestamp(started_at)
            if before is not None and at is not None and self.speed > 0:
                self._stop.wait(max(0.0, (at - before).total_seconds()) / self.speed)
            if self._stop.is_set():
                return
            if not self.taken and at is not None:
                self.first_exposure = str(hole), at.floor("us").to_pydatetime()
            before = before if at is None else at
            self._image(str(hole), str(exposure), "" if at is None else at.isoformat(sep=" "))
            waiting.append((str(exposure), FAILED_ANGSTROM if outcome == "failed" else float(ctf)))
            if self._rng.random() < 0.4:
                self._measure(waiting)
        self._measure(waiting)

    def _take_advice(self, advisor: Advisor) -> None:
        """Take the advised hole, wait its minutes, and write exposure and result."""
        used_min = 0.0
        while not self._stop.is_set():
            moment = advisor.moment
            hole = moment.content["next"]
            if hole is None:
                if moment.content["verdict"]["verb"] != "WAIT":
                    return
                self._stop.wait(1.0)
                continue
            name = hole["hole"]
            minutes = 0.0 if not self.taken else float(hole["minutes"])
            if self.speed > 0:
                self._stop.wait(60.0 * minutes / self.speed)
            used_min += minutes
            at = FIRST_EXPOSURE + timedelta(minutes=used_min)
            exposure = f"{name}-played"
            if not self.taken:
                self.first_exposure = name, at
            self._image(name, exposure, at.isoformat(sep=" ", timespec="microseconds"))
            self._measure([(exposure, self._results[name])])
            if not self._until_known(advisor, name):
                return

    def _until_known(self, advisor: Advisor, hole: str) -> bool:
        """Wait until the advice has taken in the result of a hole; False when that does not come."""
        place = advisor.moment.advice.names.holes.index(hole)
        waited_s = 0.0
        while not self._stop.is_set() and waited_s < LONGEST_WAIT_S:
            if advisor.moment.advice.now.results[place] > 0:
                return True
            self._stop.wait(WAIT_S)
            waited_s += WAIT_S
        return False

    def _image(self, hole: str, exposure: str, at: str) -> None:
        if self.files is not None:
            is_half = bool(self._rng.random() < 0.3)
            self.files.write(exposure, self._place, self._wait_a_moment if is_half else None)
            self.taken.append(hole)
            return
        row = self.rows[hole]
        if row[4]:
            self._extra.append([*row[:4], exposure, at, *row[6:]])
        else:
            row[4:6] = [exposure, at]
        self.taken.append(hole)
        self._write_table()

    def _wait_a_moment(self) -> None:
        self._stop.wait(WAIT_S)

    def _measure(self, waiting: list[tuple[str, float]]) -> None:
        """Write the results that wait, in one of the ways in which programs write."""
        if not waiting:
            return
        self._stars += [f"{exposure}.mrc {result:.6f}\n" for exposure, result in waiting]
        waiting.clear()
        self._write_star(half=bool(self._rng.random() < 0.3))

    def _write_table(self) -> None:
        """The whole table, by a rename."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self._headers)
        writer.writerows(self.rows.values())
        writer.writerows(self._extra)
        write_whole(self.data / TABLE, out.getvalue())

    def _write_star(self, half: bool = False) -> None:
        """All results; where `half`, the last row first stands there cut off, as one that is being written."""
        head = (
            "# version 30001\n\ndata_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\n"
        )
        text = head + "".join(self._stars)
        if half:
            write_whole(self.data / STAR, text[:-4])
            self._stop.wait(WAIT_S)
        write_whole(self.data / STAR, text)


@contextmanager
def player_of(request: ServeRequest, say: Say) -> Iterator[Player]:
    """The player of --replay, its folder and session made; both are gone at the end unless -o names them.

    Raises InputError for several sessions, a word that --follow does not know, or a session without results.
    """
    if len(request.sessions) != 1 or request.replay is None:
        raise InputError(f"--replay must be given one session. Got {len(request.sessions)} instead.")
    source = load_session(request.sessions[0])
    follow = request.follow or ("advice" if source.info.built_in else "record")
    if follow not in ("record", "advice"):
        raise InputError(f"--follow must be record or advice. Got {follow!r} instead.")
    if not source.measured_by_hole().any():
        raise InputError(
            f"A session that is played must have results. Got none in {source.name} instead. "
            "Remedy: name one that was measured, such as y1."
        )
    kept = request.output
    if kept is not None and kept.exists():
        raise InputError(f"The player's session must be a new folder. Got {kept}, which exists, instead.")
    base = Path(tempfile.mkdtemp(prefix="cryoscout-")) if kept is None else kept.parent
    folder = base / f"{source.name}-played.session" if kept is None else kept
    # A microscope that takes advice takes other holes at other times than those files say.
    files = played_files(request.sessions[0], source, say) if follow == "record" else None
    player = Player(source, folder, "record" if follow == "record" else "advice", request.replay, files)
    try:
        player.prepare()
        say(f"Playing {source.name} into {player.data}.")
        yield player
    finally:
        player.close()
        if kept is None:
            shutil.rmtree(base, ignore_errors=True)
