"""The study of looks: which cells stand, what a shifted target is, and that a simulated world tells nothing unseen."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscout.core.hole_tree import HoleTree
from cryoscout.study.engine.runner import TrialRow
from cryoscout.study.routes.looking import (
    ATLAS,
    ATLAS_BUDGETS_MIN,
    CHUNK,
    WHOLE,
    Y1,
    best_share,
    cells_of,
    difference,
    page,
    share_of_the_best_shares,
    simulated_world,
    specs,
    trials,
)
from cryoscout.study.routes.looking_page import page_of


def rows(of_policy, leave_out=()):
    made = []
    for trial in trials("quick"):
        of = trial.parameters
        number = of["last"] - of["first"]
        good = [of_policy(of, run) for run in range(of["first"], of["last"])]
        result = {"starts": [0] * number, "good": good, "patches": [3] * number, "squares": [1] * number}
        made.append(TrialRow(trial, 1.0, None if trial.name in leave_out else result, None))
    return made


def good_of(of, run):
    return of["budget_min"] / 4 + run + {"explore": 5.0, "bound": 20.0}.get(of["policy"], 0.0)


def test_every_part_has_its_rows_and_short_budgets_come_first():
    made = trials("paper")
    assert {trial.parameters["part"] for trial in made} == {Y1, ATLAS, WHOLE}
    assert {trial.parameters["runs"] for trial in made} == {50, 100}
    budgets = [trial.parameters["budget_min"] for trial in made]
    assert budgets == sorted(budgets)
    shortest = [trial.parameters for trial in made if trial.parameters["part"] == ATLAS]
    rows_of_part = len(specs(ATLAS))
    assert [of["first"] for of in shortest[: 2 * rows_of_part]] == [0] * rows_of_part + [CHUNK] * rows_of_part


def test_a_mean_is_of_all_starts_but_of_the_sessions_that_were_run():
    missing = {
        f"{Y1}: explore, 120 min, starts 5-8",
        f"{ATLAS}: explore, {ATLAS_BUDGETS_MIN[0]:g} min, sessions 5-8",
    }
    cells = cells_of(rows(good_of, missing), "quick")
    assert cells[Y1, "explore", 120.0] is None
    assert difference(cells, "explore", "look-greedy", 120.0) is None
    part = cells[ATLAS, "explore", ATLAS_BUDGETS_MIN[0]]
    assert part is not None
    assert part.runs.tolist() == [*range(CHUNK), *range(2 * CHUNK, 20)]
    gain = difference(cells, "explore", "look-greedy", ATLAS_BUDGETS_MIN[0], ATLAS, 0.9)
    assert gain is not None
    assert gain.mean == pytest.approx(5.0)  # session by session, so no session counts on one side alone


def missing_sessions(key, sessions):
    """Names of the trials of a row of simulated sessions at the first budget."""
    return {f"{ATLAS}: {key}, {ATLAS_BUDGETS_MIN[0]:g} min, sessions {each}" for each in sessions}


def test_no_row_is_compared_over_other_sessions_than_the_bound():
    # Later sessions have more in them, so a mean over all is no share of a bound over the first four.
    later = ("5-8", "9-12", "13-16", "17-20")
    made = rows(
        lambda of, run: (of["policy"] == "bound") + 1.0 + 10.0 * run,
        missing_sessions("bound, looks charged", later),
    )
    shown = page_of(cells_of(made, "quick"), "quick")
    atlas = shown.markdown.split("## Simulated sessions")[1].split("## The whole")[0]
    line = next(line for line in atlas.splitlines() if "share of the charged bound" in line)
    assert line.split("|")[2].strip() == f"{100 * 16 / 17:.0f} %"  # sessions 1 to 4: 16 and 17 on average
    first = [
        row for row in shown.rows if row["session"] == ATLAS and row["budget_min"] == ATLAS_BUDGETS_MIN[0]
    ]
    bounds = {row["policy"]: row["bound_mean"] for row in first}
    assert bounds["explore"] is None  # its mean is over sessions that the bound lacks
    assert bounds["bound"] == 17.0


def test_the_best_share_is_that_of_sessions_that_every_share_has():
    # The worst share has only the sessions with most in them.
    made = rows(
        lambda of, run: 100.0 * run + {0.1: 0.0, 0.25: 5.0, 0.5: 1.0}.get(of["share"], 0.0),
        missing_sessions("look-share 0.1", ("1-4", "5-8")),
    )
    assert best_share(cells_of(made, "quick"), ATLAS_BUDGETS_MIN[0], ATLAS) == "look-share 0.25"
    apart = missing_sessions("look-share 0.1", ("1-4", "5-8", "9-12", "13-16"))
    apart |= missing_sessions("look-share 0.5", ("17-20",))
    assert best_share(cells_of(rows(good_of, apart), "quick"), ATLAS_BUDGETS_MIN[0], ATLAS) is None
    one_lacks = {f"{Y1}: look-share 0.5, 120 min, starts 1-4"}
    assert best_share(cells_of(rows(good_of, one_lacks), "quick"), 120.0) is None


def test_who_looks_at_everything_may_be_the_best_share():
    made = rows(lambda of, run: 50.0 if of["policy"] == "look-first" else 10.0 + (of["share"] or 40.0))
    cells = cells_of(made, "quick")
    assert best_share(cells, 720.0) == "look-first"
    assert share_of_the_best_shares(cells, 720.0) == pytest.approx(1.0)
    assert "+0.0 [+0.0, +0.0] (look-first)" in page_of(cells, "quick").markdown


def test_explore_is_compared_with_the_best_share_of_each_session():
    # Which share is best changes from session to session: together they find more than any one of them.
    made = rows(
        lambda of, run: {0.1: 10.0 + 10.0 * (run % 2), 0.25: 20.0 - 10.0 * (run % 2)}.get(of["share"], 15.0)
    )
    cells = cells_of(made, "quick")
    assert share_of_the_best_shares(cells, ATLAS_BUDGETS_MIN[0], ATLAS) == pytest.approx(15 / 20)
    assert "share of the best `look-share` of each session | 75 % |" in page_of(cells, "quick").markdown
    lacking = {f"{Y1}: look-share 0.1, 120 min, starts 1-4"}
    assert share_of_the_best_shares(cells_of(rows(good_of, lacking), "quick"), 120.0) is None


def test_the_page_says_which_aims_of_the_simulated_sessions_are_reached():
    reached = page(rows(good_of), "quick").markdown
    assert "the interval above 0. Above: `look-first` in the time of 5 squares" in reached
    assert "ot above" not in reached
    less = page(rows(lambda of, run: 10.0 - 5.0 * (of["policy"] == "explore")), "quick").markdown
    assert "Not above: `look-first` in the time of 5 squares" in less
    assert "`look-share 0.1` in hindsight, 5.0 more at 120 min" in less
    lacking = missing_sessions("explore", ("1-4", "5-8", "9-12", "13-16", "17-20"))
    assert "ot run: `look-first` in the time of 5 squares" in page(rows(good_of, lacking), "quick").markdown


def test_the_page_has_every_part_and_one_row_per_cell():
    shown = page(rows(good_of), "quick")
    for title in (
        "## Y1, validation patches",
        "## Simulated sessions with an atlas",
        "## The whole of 21mar02c",
    ):
        assert title in shown.markdown
    assert not any(row["missing"] for row in shown.rows)
    assert {row["session"] for row in shown.rows} == {Y1, ATLAS, WHOLE}
    nothing = page_of(cells_of([], "quick"), "quick")
    assert "not run yet" in nothing.markdown
    assert all(row["missing"] for row in nothing.rows)


def test_a_simulated_world_predicts_from_what_is_seen_alone():
    world, truth = simulated_world(3, "small")
    whole = world.whole
    assert not world.features.square_looked.any()
    assert len(truth.good) == whole.n_holes
    assert world.predict is not None
    first = np.flatnonzero(whole.patch_of_hole == 0)
    alone = HoleTree(np.zeros(len(first), np.int32), np.zeros(1, np.int32), np.zeros(1, np.int32))
    p_good, loadings = world.predict(first, alone)
    assert p_good.shape == first.shape
    assert loadings is not None
