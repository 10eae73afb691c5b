"""A disk that is really mounted for reading only, and one that is really full; only root may mount them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cryoscout.session.store import SessionStore
from killing import Ended, run
from session_with_images import stored, tiny_session
from stored_state import state_of, write_table

pytestmark = pytest.mark.slow
SIZE_KB = 6000
ROUTE = "--budget-min 30 --policy expected"


def mounted(*arguments: str | Path) -> None:
    answer = subprocess.run(
        ["mount", *map(str, arguments)], capture_output=True, text=True, check=False
    )  # a command that is not there is an error of this test
    if answer.returncode:
        pytest.skip(f"only root may mount a disk here: {answer.stderr.strip()}")


@pytest.fixture(autouse=True)
def _may_mount() -> None:
    if shutil.which("mount") is None:
        pytest.skip("needs the command mount")


@contextmanager
def read_only(folder: Path, at: Path) -> Iterator[Path]:
    """The folder, mounted once more at another place where nobody may write."""
    at.mkdir()
    mounted("--bind", folder, at)
    try:
        mounted("-o", "remount,ro,bind", at)
        with pytest.raises(OSError, match="Read-only"):
            (at / "x").touch()
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """A disk of SIZE_KB in memory."""
    at.mkdir()
    mounted("-t", "tmpfs", "-o", f"size={SIZE_KB}k", "tmpfs", at)
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


def fill(disk: Path, free_kb: int) -> Path:
    """Fill a disk but for so many kB; the file that does it."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, filler.stat().st_size - 1024 * free_kb))
    return filler


def with_newest_result_in_the_log(place: Path) -> str:
    """A session of 120 holes with images; the log of its database still holds what was recorded last. That hole."""
    whole = stored(place.with_name("whole.session"))
    session = tiny_session()
    hole = str(session.holes["hole_id"].iloc[-1])
    with SessionStore.open(whole) as store:
        store.keep_open()
        store.record_imaged(hole)
        shutil.copytree(whole, place)
    (place / "session.db-shm").unlink(missing_ok=True)
    assert (place / "session.db-wal").stat().st_size > 0
    shutil.rmtree(whole)
    return hole


READING = (
    f"plan PLACE {ROUTE}",
    f"plan PLACE {ROUTE} --export csv -o list.csv",
    "replay PLACE --budget-min 30 --policies index --starts 2",
    "report PLACE -o page.html --budget-min 30 --starts 2 --policies index",
    "train PLACE -o mine --labels 0.5",
    "validate PLACE",
)


def assert_reading_works(place: Path, work: Path, hole: str) -> None:
    for line in READING:
        ended = run(line.replace("PLACE", str(place)), work)
        assert ended.code == 0, f"{line}: {ended.said}"
        if not line.startswith(("train", "validate")):
            assert "may only be read: as of" in ended.said, line
    with SessionStore.open_for_reading(place) as store:
        session = store.load()
        assert store.as_of is not None
        assert session.imaged_by_hole()[session.hole_index(hole)]
        assert store.images("p3") is not None
    for file in ("list.csv", "page.html", "mine/classifier.safetensors"):
        assert (work / file).stat().st_size > 0


def assert_refused(ended: Ended, *words: str) -> None:
    assert ended.code == 2, ended.said
    assert "Traceback" not in ended.said
    assert any(word in ended.said for word in words), ended.said


def test_on_a_disk_that_may_only_be_read_all_reading_works_and_writing_names_another_place(
    tmp_path: Path,
) -> None:
    work, disk = tmp_path / "work", tmp_path / "disk"
    work.mkdir()
    disk.mkdir()
    hole = with_newest_result_in_the_log(disk / "run.session")
    write_table(disk / "more.csv", range(20), 5)
    before = {each: each.stat().st_mtime_ns for each in (disk / "run.session").rglob("*")}
    with read_only(disk, tmp_path / "ro") as ro:
        place = ro / "run.session"
        assert_reading_works(place, work, hole)
        assert_refused(run(f"predict {place} mine", work), "--store-dir FOLDER")
        assert_refused(run(f"import {ro}/more.csv -o {place} --update", work), "--store-dir FOLDER")
        assert_refused(run(f"import {ro}/more.csv -o {ro}/new.session", work), "Read-only file system")
        assert_refused(run(f"import {ro}/more.csv -o {place} --force", work), "Read-only file system")
        assert_refused(
            run(f"plan {place} {ROUTE} --export csv -o {ro}/list.csv", work), "Read-only file system"
        )
        ended = run(f"import {ro}/more.csv --store-dir {work}", work)
        assert ended.code == 0, ended.said
    assert {each: each.stat().st_mtime_ns for each in (disk / "run.session").rglob("*")} == before


def test_on_a_full_disk_all_reading_works(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with small_disk(tmp_path / "full") as full:
        hole = with_newest_result_in_the_log(full / "run.session")
        fill(full, 0)
        assert_reading_works(full / "run.session", work, hole)


WRITING = {
    "update": "import more.csv -o PLACE --update",
    "force": "import more.csv -o PLACE --force",
    "new": "import more.csv -o DISK/new.session",
    "predict": "predict PLACE mine --context none",
    "list": f"plan PLACE {ROUTE} --export csv -o DISK/list.csv --force",
    "report": "report PLACE -o DISK/page.html --budget-min 30 --starts 2 --policies index --force",
}


@pytest.mark.parametrize("name", WRITING)
def test_on_a_disk_that_runs_full_what_is_written_is_the_old_or_the_new_and_nothing_is_left(
    name: str, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    write_table(work / "more.csv", range(60), 20)
    with small_disk(tmp_path / "disk") as disk:
        place, written = disk / "run.session", disk / "new.session"
        if name == "predict":
            stored(place)
            assert run(f"train {place} -o mine --labels 0.5", work).code == 0
        else:
            write_table(work / "own.csv", range(30), 10)
            assert run(f"import own.csv -o {place}", work).code == 0
        line = WRITING[name].replace("PLACE", str(place)).replace("DISK", str(disk))
        old = state_of(place)
        ends = set()
        for free_kb in (0, 4, 12, 40, 80, 120, 160, 240, 400, 1000, 2500):
            for file in ("list.csv", "page.html"):
                (disk / file).unlink(missing_ok=True)
                (disk / file).write_text("old" * 1000)
            filler = fill(disk, free_kb)
            ended = run(line, work)
            entries = sorted(each.name for each in disk.iterdir())
            filler.unlink()
            ends.add(ended.code)
            what = f"{free_kb} kB free: {ended.said}"
            assert not any("partial" in each for each in entries), f"{entries}, {what}"
            now = state_of(place)
            lists = {file: (disk / file).read_text() for file in ("list.csv", "page.html")}
            if ended.code:
                assert_refused(ended, "room", "space left", "full")
                assert now == old, what
                assert set(lists.values()) == {"old" * 1000}, what
                assert not written.exists(), what
                continue
            if name in ("update", "force", "predict"):
                assert now != old, what
                break
            # A list that was written is an event of the session.
            assert now is not None
            assert old is not None
            assert {**now, "events": ""} == {**old, "events": ""}, what
            old = now
            if name == "new":
                assert state_of(written) is not None, what
                break
            assert lists["list.csv" if name == "list" else "page.html"] != "old" * 1000, what
        assert ends == {0, 2}, f"{name} ended with {ends}"
