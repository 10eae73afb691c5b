"""Reading never needs to write: a store without permission, on a read-only mount, a network or a full disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from store_examples import assert_same, small_session

from cryoscout.core.errors import StoreError, StoreHeldError
from cryoscout.session import opened_store, place
from cryoscout.session.store import SessionStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run.session"
    with SessionStore.create(path) as made:
        made.save_import(small_session(), "by hand")
    return path


def entries(folder: Path) -> dict[str, int]:
    return {each.name: each.stat().st_mtime_ns for each in folder.iterdir()}


def test_what_may_not_be_written_is_read_from_a_copy_that_is_gone_afterwards(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(opened_store, "may_be_written", lambda _: False)
    monkeypatch.setattr(place.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before = entries(folder)
    with SessionStore.open_for_reading(folder) as opened:
        assert_same(opened.load(), small_session())
        assert opened.as_of is not None
        with pytest.raises(
            StoreHeldError, match=r"must lie where files may be written.*Remedy: .*--store-dir FOLDER"
        ):
            opened.record_imaged(small_session().holes["hole_id"].iloc[-1])
    assert entries(folder) == before
    assert list((tmp_path / "temporary").iterdir()) == []
    with pytest.raises(StoreHeldError, match="--store-dir FOLDER"):
        SessionStore.open(folder)


def test_what_may_be_written_is_read_in_place(folder):
    with SessionStore.open_for_reading(folder) as opened:
        assert opened.as_of is None
        assert_same(opened.load(), small_session())


def test_results_that_are_still_in_the_log_are_read_too(folder, monkeypatch, tmp_path):
    hole = small_session().holes["hole_id"].iloc[-1]
    writing = SessionStore.open(folder)
    writing.keep_open()
    writing.record_imaged(hole)
    assert (folder / "session.db-wal").stat().st_size > 0
    still = tmp_path / "still.session"
    shutil.copytree(folder, still)
    writing.close()
    (still / "session.db-shm").unlink(missing_ok=True)
    monkeypatch.setattr(opened_store, "may_be_written", lambda _: False)
    with SessionStore.open_for_reading(still) as opened:
        session = opened.load()
        assert session.imaged_by_hole()[session.hole_index(hole)]
    assert sorted(each.name for each in still.iterdir() if each.name.startswith("session")) == [
        "session.db", "session.db-wal",
    ]  # fmt: skip


def test_a_store_that_changes_while_it_is_copied_is_said_to(folder, monkeypatch):
    times = iter(np.arange(100).tolist())
    monkeypatch.setattr(place, "_stamps", lambda _: (next(times),))
    monkeypatch.setattr(place.time, "sleep", lambda _: None)
    with pytest.raises(StoreError, match="must rest while it is copied"):
        place.snapshot_of(folder)


@pytest.mark.skipif(os.name == "nt" or shutil.which("setpriv") is None, reason="needs setpriv")
@pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() != 0, reason="another user is only root's to become"
)
def test_another_user_plans_and_reports_a_session_that_he_may_only_read(folder):
    # Not below pytest's own folder, which every pytest that starts closes to others again.
    with tempfile.TemporaryDirectory() as made:
        shutil.copytree(folder, Path(made, folder.name))
        Path(made).chmod(0o755)
        plan_and_report_as_another_user(Path(made), Path(made, folder.name))


def plan_and_report_as_another_user(tmp_path: Path, folder: Path) -> None:
    for each in (folder, *folder.rglob("*")):
        each.chmod(0o555 if each.is_dir() else 0o444)
    for own in ("out", "tmp"):
        (tmp_path / own).mkdir()
        (tmp_path / own).chmod(0o777)
    lines = [
        f"plan {folder} --budget-min 30 --as-new",
        f"report {folder} -o page.html --budget-min 30 --starts 1 --policies random",
    ]
    script = f"from cryoscout.cli.main import main; print([main(line.split()) for line in {lines!r}])"
    temporary = dict.fromkeys(("TMPDIR", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"), str(tmp_path / "tmp"))
    environment = {
        **os.environ,
        **temporary,
        # That user has no compiled functions and may keep none; on a handful of holes they are not missed.
        "NUMBA_DISABLE_JIT": "1",
        "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
    }
    answer = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", script],
        cwd=tmp_path / "out", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "Permission denied" in answer.stderr and "python" in answer.stderr:
        pytest.skip("another user may not run this Python")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == "[0, 0]", answer.stderr
    assert answer.stderr.count("may only be read: as of") == 2, answer.stderr
    assert (tmp_path / "out" / "page.html").is_file()
