"""The study `beyond`: what is kept is chosen on held-out patches; a missing cell is shown as missing."""

import json

import pytest

from cryoscout.study.engine.published import BUDGETS_MIN
from cryoscout.study.engine.runner import TrialRow
from cryoscout.study.routes.beyond import METHODS, STUDY, held_out_shares, kept_method, page, trials

TRIED = ["dqn-draws", "adaptive-trust"]


def _result(trial, better: str):
    part = trial.parameters["part"]
    good = {f"{budget:g}": [0.8 * budget / 4, 0.9 * budget / 4] for budget in BUDGETS_MIN}
    if part == "bound":
        return {"good": {budget: [value * 1.2 for value in values] for budget, values in good.items()}}
    factor = 1.1 if trial.parameters["method"] == better else 1.0
    if part == "held-out":
        return {"good": {"60": [10.0 * factor]}, "bound": {"60": [20.0]}}
    # On validation the others find more, and it must not matter.
    found = {budget: [value / factor for value in values] for budget, values in good.items()}
    return {"good": found, "visited": found}


def _rows(better: str = "dqn-draws", failed: str | None = None):
    return [
        TrialRow(trial, 1.0, None, "killed")
        if failed is not None and trial.name.startswith(failed)
        else TrialRow(trial, 1.0, _result(trial, better), None)
        for trial in trials("quick")
    ]


def test_the_best_planners_stand_beside_what_is_tried():
    assert {"adaptive", "index", "expected"} <= {m.name for m in METHODS if m.kind == "planner"}


@pytest.mark.parametrize("better", TRIED)
def test_the_kept_one_is_chosen_on_held_out_patches_alone(better):
    shares = held_out_shares(_rows(better))
    assert shares[better] == [pytest.approx(0.55)] * 3
    assert kept_method(shares) == better


def test_nothing_is_kept_while_a_split_is_missing():
    assert kept_method(held_out_shares(_rows(failed="dqn-draws, held-out"))) is None


def test_the_page_names_the_kept_one_and_shows_what_is_missing():
    made = page(_rows("adaptive-trust", failed="price, validation"), "quick")
    assert "`adaptive-trust` (kept)" in made.markdown
    assert "missing" in made.markdown
    assert made.figure_png.startswith(b"\x89PNG")
    rows = {(row["policy"], row["budget_min"]): row for row in made.rows}
    assert rows["adaptive-trust", 120]["kept"] is True
    assert rows["price", 240]["good_mean"] is None
    assert rows["dqn-draws", 480]["training_seeds"] == 3
    assert rows["adaptive", 480]["training_seeds"] == 0
    json.dumps(made.rows)


def test_every_trial_has_its_own_key():
    keys = [trial.key for trial in STUDY.trials("paper")]
    assert len(set(keys)) == len(keys)
