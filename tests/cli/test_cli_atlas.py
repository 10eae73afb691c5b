"""Sessions that know squares alone: imported, stored, planned; and a plan that goes on to squares after its holes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cryoscout.session.looks import has_unseen_places, notes_on_looks, squares_looked_at
from cryoscout.session.store import SessionStore

EPU = Path(__file__).parents[1] / "formats" / "data" / "epu"
PLAN = "plan run.session --budget-min 240 --time-model y1-looks-as-sketched"


@pytest.fixture
def atlas(once, tmp_path):
    """A session of which the list of squares in EpuSession.dm is all that is known."""
    once(f"import {EPU / 'harvest_session' / 'EpuSession.dm'} -o run.session")
    with SessionStore.open(tmp_path / "run.session") as store:
        return store.load()


def test_a_list_of_squares_is_a_session_whose_squares_are_planned(cli, atlas):
    assert (atlas.n_holes, len(atlas.squares)) == (0, 272)
    assert has_unseen_places(atlas)
    assert not squares_looked_at(atlas).any()
    assert notes_on_looks(atlas) == ()
    answer = cli(f"{PLAN} --json")
    assert answer.code == 0
    told = json.loads(answer.out)
    assert (told["policy"], told["holes"]) == ("explore", [])
    assert len(told["looks"]) == 40
    first = told["looks"][0]
    assert first["square"] in set(atlas.squares["square_id"])
    assert first["patch"] is None
    assert 0 <= first["rate_80"][0] <= first["rate_80"][1]
    assert first["good_80"][1] > 0
    rates = [look["rate"] for look in told["looks"]]
    assert rates == sorted(rates, reverse=True)
    assert first["in_plan"]
    assert any("272 squares and 0 patches were not looked at yet" in note for note in told["notes"])
    shown = cli(PLAN)
    assert shown.code == 0
    assert "Squares to open, the best first" in shown.out
    assert "and 20 more" in shown.out


def test_squares_of_which_nothing_is_known_name_the_atlas(cli, atlas):
    notes = json.loads(cli(f"{PLAN} --json").out)["notes"]
    assert [
        note
        for note in notes
        if "Nothing says how large or how bright squares are" in note and "Atlas.dm" in note
    ]


@pytest.mark.parametrize("line", ["plan run.session --budget-min 60", "report run.session -o r.html"])
def test_a_navigator_of_which_only_a_map_is_known_says_what_is_missing(cli, tmp_path, line):
    nav = Path(__file__).parents[1] / "formats" / "data" / "serialem" / "pyserialem_nav.nav"
    assert cli("import -o run.session", nav).code == 0
    answer = cli(line)
    assert answer.code == 2
    assert "must have a hole, or a square that was not looked at yet" in answer.err
    assert "Got 1 square, all of them looked at, and no hole instead. Remedy: import" in answer.err


def test_who_does_not_look_says_that_nothing_is_seen(cli, atlas):
    answer = cli(f"{PLAN} --policy adaptive --json")
    assert answer.code == 0
    told = json.loads(answer.out)
    assert (told["holes"], told["looks"]) == ([], [])
    assert any("--policy explore looks too" in note for note in told["notes"])
