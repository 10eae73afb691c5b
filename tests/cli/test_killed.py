"""Killed at any write: what was reported as done is there, no file is half, no session is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cryoscout.core.errors import StoreError
from cryoscout.core.new_files import REPLACED
from cryoscout.session.store import SessionStore

# Kills the process at the N-th time that it opens a file for writing, renames or removes one, or opens the database,
# below the folder it runs in; N = 0 counts and says how often.
SCRIPT = """
import os, sys
limit, here = int(sys.argv.pop(1)), os.getcwd()
seen = 0
def watch(event, arguments):
    global seen
    if event not in ("open", "os.rename", "os.remove", "os.rmdir", "sqlite3.connect", "os.mkdir"):
        return
    path = arguments[0]
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & writes):
        return
    if isinstance(path, int) or not os.path.abspath(os.fsdecode(path)).startswith(here):
        return
    seen += 1
    if seen == limit:
        os.kill(os.getpid(), 9)
sys.addaudithook(watch)
from cryoscout.cli.main import main
code = main(sys.argv[1:])
if limit == 0:
    print(seen, file=sys.stderr)
sys.exit(code)
"""


def ran(folder: Path, moment: int, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(moment), *line.split()],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def write_table(folder: Path, holes: int, results: int) -> None:
    rows = [
        f"s{hole % 3},p{hole % 6},h{hole},{hole},{2 * hole},{4.5 if hole < results else ''}"
        for hole in range(holes)
    ]
    header = "square,patch,hole,x_px,y_px,ctf_max_res_angstrom"
    (folder / "own.csv").write_text("\n".join([header, *rows]) + "\n")


def holes_at(place: Path) -> int | None:
    """Holes of the session there, or of the one that was set aside for it; None where nothing is."""
    if not place.exists():
        aside = [
            each for each in place.parent.glob(f".{place.name}.partial-*") if each.name.endswith(REPLACED)
        ]
        if not aside:
            return None
        with pytest.raises(StoreError, match="Remedy: rename"):
            SessionStore.create(place)
        place = aside[0]
    with SessionStore.open(place) as store:
        session = store.load()
        assert sum(event.kind == "imported" for event in store.events()) >= 1
        return session.n_holes


def moments(folder: Path, line: str, count: int, seed: int) -> list[int]:
    whole = ran(folder, 0, line)
    assert whole.returncode == 0, whole.stderr
    last = int(whole.stderr.split()[-1])
    every = np.arange(1, last + 1)
    return sorted(np.random.default_rng(seed).choice(every, min(count, last), replace=False).tolist())


COMMANDS = {
    "import": ("import own.csv -o run.session", {None, 60}),
    "update": ("import own.csv -o run.session --update", {30, 60}),
    "force": ("import own.csv -o run.session --force", {30, 60}),
    "simulate": ("simulate --preset small --holes 60 -o run.session", {None, 60}),
    "report": ("report run.session -o page.html --budget-min 30 --starts 2 --policies index", {30}),
    "plan": ("plan run.session --budget-min 30 --as-new --export csv -o page.html --force", {30}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_any_write_nothing_is_lost_or_half(name: str, tmp_path: Path) -> None:
    line, allowed = COMMANDS[name]
    starts_with_session = 30 in allowed

    def prepared(label: str) -> Path:
        folder = tmp_path / label
        folder.mkdir()
        if starts_with_session:
            write_table(folder, 30, 10)
            assert ran(folder, 0, "import own.csv -o run.session").returncode == 0
        if name not in ("report", "plan"):
            write_table(folder, 60, 20)
        if name == "plan":
            (folder / "page.html").write_text("the list before")
        return folder

    killed = 0
    for moment in moments(prepared("whole"), line, 34, seed=len(name)):
        folder = prepared(str(moment))
        answer = ran(folder, moment, line)
        assert answer.returncode in (0, -9), answer.stderr
        killed += answer.returncode == -9
        assert holes_at(folder / "run.session") in allowed, f"{name} killed at {moment}"
        page = folder / "page.html"
        if page.exists():
            text = page.read_text()
            assert (
                text == "the list before"
                or text.rstrip().endswith("</html>")
                or text.startswith("#")
                or "," in text
            )
        if answer.returncode == 0:
            assert os.path.exists(folder / ("page.html" if name in ("report", "plan") else "run.session"))  # noqa: PTH110
    assert killed >= 3
    print(f"{name}: killed at {killed} moments")  # noqa: T201
