"""The operator's own times: the budget in any form, own tiers, minutes of an exposure, and which grid is in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NAV = Path(__file__).parents[1] / "formats" / "data" / "serialem" / "made_by_hand_two_squares.nav"
TWO_GRIDS = "hole,patch,square,grid,x,y\n" + "".join(
    f"{grid}{n},{grid}p,{grid}s,{grid},{n},0\n" for grid in ("left", "right") for n in range(4)
)


def plan_of(answer):
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


@pytest.fixture
def nav(once) -> str:
    return once(f"import {NAV} -o sem.session")


@pytest.fixture
def two_grids(once, tmp_path) -> str:
    (tmp_path / "holes.csv").write_text(TWO_GRIDS)
    return once("import holes.csv --position-unit um -o two.session")


def test_the_budget_in_any_form_gives_one_plan(cli, nav):
    plan = plan_of(cli(f"plan {nav} --policy index --json --budget-min 1h30"))
    assert plan["budget_min"] == 90
    assert plan == plan_of(cli(f"plan {nav} --policy index --json --budget-min 90"))


def test_until_takes_the_minutes_from_now(cli, nav):
    plan = plan_of(cli(f"plan {nav} --policy index --until 09:00 --json"))
    assert 0 < plan["budget_min"] <= 24 * 60
    answer = cli(f"plan {nav} --until 09:00 --budget-min 60")
    assert answer.code == 2
    assert "must be given by --budget-min or by --until. Got both instead." in answer.err
    assert "Got neither instead. Remedy: for example --budget-min 8h" in cli(f"plan {nav}").err
    assert "A length of time must be minutes" in cli(f"plan {nav} --budget-min soon").err


def test_own_tiers_are_the_minutes_of_the_visits(cli, nav):
    plan = plan_of(cli(f"plan {nav} --policy index --time-model 0.5,1,2,8 --budget-min 60 --json"))
    assert plan["time_model"] == "0.5/1/2/8"
    by_tier = {hole["tier"]: hole["minutes"] for hole in plan["holes"]}
    assert by_tier == {0: 0.5, 1: 1.0, 2: 2.0}
    assert plan["minutes_used"] == pytest.approx(sum(hole["minutes"] for hole in plan["holes"]))


@pytest.mark.parametrize(
    "tiers",
    [
        pytest.param("1,2,3", marks=pytest.mark.slow),
        pytest.param("0,1,2,3", marks=pytest.mark.slow),
        "2,1,3,4",
        "1,2,3,x",
        "1,2,3,nan",
        pytest.param("7", marks=pytest.mark.slow),
        pytest.param("1e-300,1,2,3", marks=pytest.mark.slow),
        pytest.param("1,2,3,1e300", marks=pytest.mark.slow),
    ],
)
def test_own_tiers_that_are_none_are_refused(cli, nav, tiers):
    answer = cli(f"plan {nav} --budget-min 60 --time-model", tiers)
    assert answer.code == 2
    assert "A time model of your own must be four numbers above 0 that do not decrease" in answer.err
    assert answer.err.endswith("Remedy: for example --time-model 0.5,1,2,8, or 0.5,1,2,8,0.5,2.\n")


def test_minutes_of_an_exposure_replace_the_models_and_moves_stay(cli, nav):
    plan = plan_of(cli(f"plan {nav} --policy index --budget-min 60 --minutes-per-exposure 0.6 --json"))
    assert plan["time_model"] == "cryorl, 0.6 min an exposure"
    by_tier = {hole["tier"]: hole["minutes"] for hole in plan["holes"]}
    assert by_tier == pytest.approx({0: 0.6, 1: 3.6, 2: 8.6})
    for wrong in ("0", "1e-300", "1e300", "nan"):
        answer = cli(f"plan {nav} --budget-min 60 --minutes-per-exposure {wrong}")
        assert (answer.code, "must be 0.001 to 100,000. Got" in answer.err) == (2, True)


def test_the_only_grid_is_loaded_and_costs_no_grid_switch(cli, nav):
    plan = plan_of(cli(f"plan {nav} --policy index --budget-min 60 --json"))
    assert (plan["start"], plan["holes"][0]["tier"], plan["holes"][0]["minutes"]) == (None, 2, 10.0)
    assert plan["switches"]["grid"] == 0


def test_of_several_grids_the_loaded_one_is_named(cli, two_grids):
    unnamed = plan_of(cli(f"plan {two_grids} --policy index --budget-min 60 --json"))
    assert unnamed["holes"][0]["tier"] == 3
    assert any(
        "No grid is known to be loaded, so the first step costs a grid switch; --loaded GRID" in note
        and "(left, right)" in note
        for note in unnamed["notes"]
    )
    named = plan_of(cli(f"plan {two_grids} --policy expected --budget-min 60 --loaded right --json"))
    assert (named["holes"][0]["grid"], named["holes"][0]["minutes"]) == ("right", 10.0)
    assert not any("loaded" in note for note in named["notes"])
    assert (
        "Got 'rigth' instead. Did you mean 'right'?"
        in cli(f"plan {two_grids} --budget-min 60 --loaded rigth").err
    )


def test_a_grid_that_was_changed_since_the_last_image_is_the_start(cli, tmp_path):
    rows = TWO_GRIDS.replace("x,y\n", "x,y,ctf,time\n").replace(",0\n", ",0,,\n")
    rows = rows.replace("left0,leftp,lefts,left,0,0,,", "left0,leftp,lefts,left,0,0,4.0,2026-01-05 10:00:00")
    (tmp_path / "holes.csv").write_text(rows)
    assert cli("import holes.csv --position-unit um -o two.session").code == 0
    assert plan_of(cli("plan two.session --policy index --budget-min 60 --json"))["start"] == "left0"
    changed = plan_of(cli("plan two.session --policy expected --budget-min 12 --loaded right --json"))
    assert changed["start"] is None
    assert [hole["grid"] for hole in changed["holes"]] == ["right", "right"]
    answer = cli("plan two.session --budget-min 60 --loaded right --from left1")
    assert answer.code == 2
    assert "must be on the loaded grid, right. Got left1, on left, instead." in answer.err


def test_built_in_and_simulated_sessions_start_as_in_the_papers(cli, sim):
    assert plan_of(cli("plan y1 --policy greedy --budget-min 60 --json"))["holes"][0]["minutes"] == 20
    assert (
        plan_of(cli(f"plan {sim} --policy greedy --as-new --budget-min 60 --json"))["holes"][0]["minutes"]
        == 20
    )


def test_learning_and_replays_take_times_as_plans_do(cli, monkeypatch):
    from cryoscout.cli import learn

    seen = {}

    class EnoughError(Exception):
        pass

    def stop(name):
        def taken(*arguments, **named):
            seen[name] = arguments
            raise EnoughError

        return taken

    monkeypatch.setattr(learn, "run_learning", stop("learn"))
    with pytest.raises(EnoughError):
        cli("learn y1 --budget-min 4h")
    assert seen["learn"][1].budget_min == 240.0
    answer = cli("replay y1 --budget-min 1:00 --ctf-delay-min 0h30 --policies greedy --starts 1 --json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["ctf_delay_min"] == 30.0
    assert "length of time" in cli("learn y1 --budget-min soon").err
    assert cli("learn y1 --budget-min=-5").code == 2
