"""Killed at any moment, writes included: what was said to be done is there, no file is half, no number is wrong."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from killing import WAYS, kills, run
from session_with_images import stored
from stored_state import PATCHES, PLACE, state_of, write_table

pytestmark = pytest.mark.slow
Start = Callable[[Path], None]
KILLS, KILLS_OF_AN_EXPORT = 22, 8


def write_pictures(folder: Path) -> None:
    (folder / "pictures").mkdir()
    for patch in range(PATCHES):
        pixels = np.random.default_rng(patch).integers(0, 255, (150, 200)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"p{patch}.png")


def start_empty(folder: Path) -> None:
    write_table(folder / "own.csv", range(60), 20)
    write_pictures(folder)


def start_with_session(folder: Path) -> None:
    write_table(folder / "own.csv", range(30), 10)
    assert run(f"import own.csv -o {PLACE}", folder).code == 0
    start_empty(folder)


STORING: dict[str, tuple[str, Start, str]] = {
    "import": (f"import own.csv -o {PLACE} --images pictures --crop-px 20", start_empty, "60 holes"),
    "update": (f"import own.csv -o {PLACE} --update", start_with_session, "60 holes"),
    "force": (
        f"import own.csv -o {PLACE} --force --images pictures --crop-px 20",
        start_with_session,
        "60 holes",
    ),
    "simulate": (f"simulate --preset small --holes 60 -o {PLACE}", lambda _: None, "Wrote"),
    "predict": (f"predict {PLACE} mine --context none", lambda folder: start_trained(folder), "Added"),
}


def start_trained(folder: Path) -> None:
    stored(folder / PLACE)
    assert run(f"train {PLACE} -o mine --labels 0.5", folder).code == 0


@pytest.mark.parametrize("name", STORING)
def test_what_is_stored_is_the_session_before_or_the_whole_one(name: str, tmp_path: Path) -> None:
    line, start, done = STORING[name]
    before = after = None
    ways: Counter[str] = Counter()
    for moment, folder, ended in kills(line, start, tmp_path, KILLS, seed=len(name)):
        if not ways:
            before, after = state_of(tmp_path / "before" / PLACE), state_of(tmp_path / "whole" / PLACE)
            assert before != after
        ways[moment.way] += 1
        found = state_of(folder / PLACE)
        assert found in (before, after), f"{name} killed at {moment}"
        assert found == after or done not in ended.said, (
            f"{name} said {ended.said!r} and was killed at {moment}"
        )
        # The same command again brings all of it, and sweeps up.
        again = run(line, folder)
        if name in ("import", "simulate") and found == after:
            assert again.code == 2, again.said
        elif name == "predict" and found == after:
            assert again.code == 0, again.said
        else:
            assert again.code == 0, again.said
            assert state_of(folder / PLACE) == after
            assert not list(folder.glob(".*partial*")), f"{name} killed at {moment}"
    told(name, ways)


def told(name: str, ways: Counter[str]) -> None:
    """In each of the ways, the middle of a write among them."""
    assert set(ways) == set(WAYS)
    print(f"{name}: killed at {ways.total()} moments: {dict(ways)}")  # noqa: T201


ROUTE = "--budget-min 30 --policy expected --as-new"
WRITING = {
    "export csv": (f"plan y1 {ROUTE} --export csv -o list.csv --force", ("list.csv",)),
    "export html": (f"plan y1 {ROUTE} --export html -o list.html --force", ("list.html",)),
    "export leginon": (f"plan y1 {ROUTE} --export leginon -o order.txt --force", ("order.txt",)),
    "report": (
        f"report {PLACE} -o page.html --picture page.png --budget-min 30 --starts 2 --policies index --force",
        ("page.html", "page.png"),
    ),
}
OLD = "what was there before\n" * 1000


@pytest.mark.parametrize("name", WRITING)
def test_what_is_written_is_the_old_file_or_the_whole_new_one(name: str, tmp_path: Path) -> None:
    line, files = WRITING[name]

    def start(folder: Path) -> None:
        if name == "report":
            start_with_session(folder)
        for file in files:
            (folder / file).write_text(OLD)

    ways: Counter[str] = Counter()
    for moment, folder, ended in kills(
        line, start, tmp_path, KILLS if name == "report" else KILLS_OF_AN_EXPORT, seed=len(name)
    ):
        ways[moment.way] += 1
        for file in files:
            found, new = (folder / file).read_bytes(), (tmp_path / "whole" / file).read_bytes()
            assert found in (OLD.encode(), new), f"{file} after {line} was killed at {moment}"
            assert found == new or f"Wrote {file}" not in ended.said
        if ways.total() % 3 == 0:
            again = run(line, folder)
            assert again.code == 0, again.said
            assert [(folder / file).read_bytes() for file in files] == [
                (tmp_path / "whole" / file).read_bytes() for file in files
            ]
            assert not list(folder.glob(".*partial*"))
    told(name, ways)


def rows_of(folder: Path) -> dict[str, object]:
    """Finished trials on disk by their key. The line at which it was killed may be cut, and is then run again."""
    files = list(folder.glob(".study/*/trials.jsonl"))
    lines = files[0].read_text().splitlines() if files else []
    rows, cut = {}, 0
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            cut += 1
            continue
        rows[row["key"]] = row["result"]
    assert cut <= 1
    return rows


def test_a_study_keeps_every_finished_trial_and_goes_on_to_the_same_end(tmp_path: Path) -> None:
    line = "study delay -o out"
    ways: Counter[str] = Counter()
    for moment, folder, ended in kills(line, lambda _: None, tmp_path, KILLS, seed=3):
        ways[moment.way] += 1
        whole, out = tmp_path / "whole" / "out", folder / "out"
        expected, found = rows_of(whole), rows_of(out)
        assert all(expected[key] == result for key, result in found.items()), f"killed at {moment}"
        said = [int(count) for count in re.findall(r"^\[([0-9]+)/", ended.said, re.MULTILINE)]
        assert len(found) >= max(said, default=0), f"{ended.said!r}, killed at {moment}"
        assert_whole_pages(whole, out, expects_all=False)
        again = run(f"{line} --resume", folder)
        assert again.code == 0, again.said
        if found:
            assert f"{len(found)} of {len(expected)} trials were on disk already" in again.said
        assert rows_of(out) == expected
        assert_whole_pages(whole, out, expects_all=True)
        assert not list(out.glob(".*partial*"))
    told("study", ways)


def assert_whole_pages(whole: Path, out: Path, *, expects_all: bool) -> None:
    for name in ("delay.md", "delay.png", "delay.json"):
        if not expects_all and not (out / name).exists():
            continue
        found, expected = (out / name).read_bytes(), (whole / name).read_bytes()
        if name == "delay.png":
            assert found == expected
        elif name == "delay.json":
            assert json.loads(found)["rows"] == json.loads(expected)["rows"]
        else:  # It says how many seconds of computing it took.
            assert found.split(b"## How")[0] == expected.split(b"## How")[0]
            assert found.endswith(b"[`delay.json`](delay.json).\n")


def looks_of(folder: Path) -> list[dict[str, object]]:
    """Lines of the metrics, but for their seconds. The last line may be cut."""
    rows = []
    file = folder / "metrics.jsonl"
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows.append({name: value for name, value in row.items() if name != "seconds"})
    return rows


def test_a_training_goes_on_to_the_same_classifier(tmp_path: Path) -> None:
    line = f"train {PLACE} -o mine --labels 0.5"
    ways: Counter[str] = Counter()
    for moment, folder, ended in kills(line, lambda folder: stored(folder / PLACE), tmp_path, KILLS, seed=4):
        ways[moment.way] += 1
        whole, mine = tmp_path / "whole" / "mine", folder / "mine"
        expected = looks_of(whole)
        found = looks_of(mine)
        assert found == expected[: len(found)], f"killed at {moment}"
        classifier = mine / "classifier.safetensors"
        assert "Wrote" not in ended.said or classifier.exists()
        if classifier.exists():
            assert classifier.read_bytes() == (whole / classifier.name).read_bytes()
        again = run(f"{line} --resume", folder)
        assert again.code == 0, again.said
        assert classifier.read_bytes() == (whole / classifier.name).read_bytes(), f"killed at {moment}"
        assert looks_of(mine) == expected
        assert not list(mine.glob(".*partial*")), f"killed at {moment}"
        assert state_of(folder / PLACE) == state_of(tmp_path / "whole" / PLACE)
    told("train", ways)
