"""`plan` keeps to what the operator chose, says what it leaves out, and never plans what may be exposed."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from cryoscout.formats.serialem.nav import LEFT_OUT, LEFT_OUT_KEY, read_nav
from cryoscout.session.store import SessionStore

DATA = Path(__file__).parents[1] / "formats" / "data"
NAV = DATA / "serialem" / "made_by_hand_two_squares.nav"
MARKED = [str(number) for number in (*range(12, 17), *range(27, 31))]
MDOC = "[FrameSet = 0]\nStagePosition = -205 361\nNavigatorLabel = {label}\nSubFramePath = X:\\raw\\shot_{label}.tif\n"
QUICK = "--policy index --time-model cryorl --budget-min"


def planned(answer) -> list[str]:
    assert answer.code == 0, answer.err
    return [hole["hole"] for hole in json.loads(answer.out)["holes"]]


def notes(answer) -> list[str]:
    return json.loads(answer.out)["notes"]


@pytest.fixture
def epu(once, tmp_path) -> str:
    square = tmp_path / "GridSquare_4590776.dm"
    square.write_bytes(gzip.decompress((DATA / "epu" / "GridSquare_4590776.dm.gz").read_bytes()))
    return once(f"import {square.name} -o epu.session")


def test_deselected_holes_of_a_real_epu_square_are_left_out_and_counted(cli, epu, tmp_path):
    with SessionStore.open(tmp_path / epu) as store:
        session = store.load()
    holes, imaged = session.holes, session.imaged_by_hole()
    chosen_and_open = set(holes.loc[holes["chosen"].fillna(True).to_numpy(bool) & ~imaged, "hole_id"])
    left_out = int((~holes["chosen"].fillna(True).to_numpy(bool) & ~imaged).sum())
    answer = cli(f"plan {epu} {QUICK} 480 --json")
    assert set(planned(answer)) == chosen_and_open
    said = f"{left_out} holes that are not selected are left out; --also-unchosen plans them too."
    assert said in notes(answer)
    assert left_out == 570 - 217 - len(chosen_and_open) > 200
    also = cli(f"plan {epu} {QUICK} 480 --also-unchosen --json")
    assert set(planned(also)) - chosen_and_open
    assert f"{left_out} holes that are not selected may be planned." in notes(also)


def test_items_without_acquire_are_left_out(cli, once):
    once(f"import {NAV} -o sem.session")
    answer = cli(f"plan sem.session {QUICK} 300 --json")
    assert sorted(planned(answer)) == MARKED
    assert "31 holes that are not marked Acquire are left out; --also-unchosen plans them too." in notes(
        answer
    )
    also = cli(f"plan sem.session {QUICK} 300 --also-unchosen --json")
    assert len(planned(also)) == 40
    assert any("SerialEM takes the mark off what it has acquired" in note for note in notes(also))


def test_an_item_that_lost_its_mark_is_not_planned_with_or_without_its_image(cli, tmp_path):
    """As SerialEM does it: `SetItemSuccessfullyAcquired` sets mAcquire to false (NavigatorDlg.cpp)."""
    text = NAV.read_bytes().decode()
    mine = tmp_path / "mine.nav"
    mine.write_bytes(text.encode())
    assert cli("import", mine, "-o", "sem.session").code == 0
    done = text
    for label in ("12", "13"):
        done = re.sub(rf"(\[Item = {label}\].*?)Acquire = 1\r\n", r"\1", done, count=1, flags=re.DOTALL)
    assert done.count("Acquire = 1") == 7
    mine.write_bytes(done.encode())
    (tmp_path / "shot_12.mdoc").write_text(MDOC.format(label="12"))
    assert cli("import", mine, "shot_12.mdoc", "-o", "sem.session", "--update").code == 0
    left = [label for label in MARKED if label not in ("12", "13")]
    assert sorted(planned(cli(f"plan sem.session {QUICK} 300 --json"))) == left
    assert "12" not in planned(cli(f"plan sem.session {QUICK} 300 --also-unchosen --json"))
    # An imaged hole was chosen, also where its session began without the mark.
    assert cli("import", mine, "shot_12.mdoc", "-o", "late.session").code == 0
    assert sorted(planned(cli(f"plan late.session {QUICK} 300 --json"))) == left
    assert "12" in planned(cli(f"plan late.session {QUICK} 300 --as-new --json"))


def test_a_navigator_without_any_mark_is_not_planned_unasked(cli, tmp_path):
    (tmp_path / "mine.nav").write_bytes(NAV.read_bytes().replace(b"Acquire = 1", b"Acquire = 0"))
    assert cli("import mine.nav -o sem.session").code == 0
    answer = cli(f"plan sem.session {QUICK} 300")
    assert answer.code == 2
    assert answer.err == (
        "Session sem must have a hole that is marked Acquire and not imaged yet. Got 40 holes that are not instead. "
        "Remedy: choose holes in your program and import with --update, or add --also-unchosen to plan these. If they "
        "were acquired, import their .mdoc files first.\n"
    )
    assert len(planned(cli(f"plan sem.session {QUICK} 300 --also-unchosen --json"))) == 40


def test_what_a_written_plan_leaves_out_stays_chosen(cli, once, tmp_path):
    once(f"import {NAV} -o sem.session")
    answer = cli(f"plan sem.session {QUICK} 30 --json --export nav -o planned.nav --nav", NAV)
    first = planned(answer)
    assert 0 < len(first) < 9
    assert f"{LEFT_OUT_KEY} keeps that they were chosen" in answer.err
    items = read_nav(tmp_path / "planned.nav").holes
    assert sorted(item.id for item in items if item.is_chosen) == MARKED
    # SerialEM acquires the plan and saves: the marks are gone.
    text = (tmp_path / "planned.nav").read_bytes().replace(b"Acquire = 1", b"Acquire = 0")
    (tmp_path / "planned.nav").write_bytes(text)
    assert cli("import planned.nav -o sem.session --update").code == 0
    then = planned(cli(f"plan sem.session {QUICK} 300 --json --export nav -o next.nav --nav planned.nav"))
    assert sorted(then) == [label for label in MARKED if label not in first]
    assert LEFT_OUT not in (tmp_path / "next.nav").read_text()


def test_where_nothing_is_chosen_yet_all_of_epu_is_planned(cli, tmp_path):
    square = gzip.decompress((DATA / "epu" / "GridSquare_4590776.dm.gz").read_bytes())
    (tmp_path / "GridSquare_1.dm").write_bytes(square.replace(b"Selected>true", b"Selected>false"))
    assert cli("import GridSquare_1.dm -o epu.session").code == 0
    answer = cli(f"plan epu.session {QUICK} 960 --json")
    assert len(planned(answer)) > 200
    assert not any("left out" in note for note in notes(answer))


def test_a_smartscope_group_is_chosen_by_any_of_its_holes(cli):
    assert cli("import", DATA / "smartscope" / "made_by_hand_grid.yaml", "-o", "scope.session").code == 0
    with SessionStore.open("scope.session") as store:
        holes = store.load().holes.set_index("hole_id")
    chosen = holes.index[holes["chosen"]]
    assert holes.loc[chosen, "patch_id"].nunique() == 1
    assert holes["chosen"].sum() == (holes["patch_id"] == holes.loc[chosen[0], "patch_id"]).sum() > 1
