"""The study of the fields over the stage: what is drawn, in which order, and who keeps the figures there were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from cryoscout.belief.effects import EffectBelief, location_of
from cryoscout.belief.stage_belief import StageBelief
from cryoscout.session.named import load_session
from cryoscout.study.engine.runner import TrialRow
from cryoscout.study.routes import stage_losses
from cryoscout.study.routes.stage_losses import (
    BUDGET_MIN,
    OUTCOMES,
    built_in_case,
    drawn_case,
    logit_of,
    losses,
    real_square,
    recorded_holes,
    section,
    summary,
    trials,
)


def test_the_real_square_has_570_holes_in_small_patches():
    problem, stage_um = real_square()
    assert problem.n_holes == 570
    assert np.ptp(stage_um, axis=0).max() < 130.0
    for patch in range(problem.tree.n_patches):
        assert (
            np.ptp(stage_um[problem.patch_of_hole == patch], axis=0).max() <= 4 * stage_losses.PATCH_RADIUS_UM
        )


def test_what_is_drawn_is_an_edge_a_smooth_field_or_nothing():
    _, stage_um = real_square()
    from_left = stage_um[:, 0] - stage_um[:, 0].min()
    edge = expit(logit_of("edge", stage_um, np.random.default_rng(0)))
    assert edge[from_left < 5].max() < 0.25
    assert edge[from_left > 60].min() > 0.75
    smooth = np.stack([logit_of("smooth", stage_um, np.random.default_rng(seed)) for seed in range(40)])
    assert np.abs(smooth.mean()) < 0.3
    assert smooth.std() == pytest.approx(stage_losses.SMOOTH_SD, rel=0.2)
    assert np.ptp(logit_of("none", stage_um, np.random.default_rng(0))) == 0


def test_losses_are_those_of_two_beliefs_told_one_result_after_the_other():
    problem, _ = real_square()
    order = np.random.default_rng(1).permutation(570)[:40]
    good = (np.arange(570) % 3 == 0).astype(float)
    found = losses(problem, order, good)
    with_fields = problem.belief()
    plain = EffectBelief(
        location_of(problem.prior_p_good, problem.effects.total),
        problem.patch_of_hole,
        problem.tree,
        problem.effects,
    )
    assert isinstance(with_fields, StageBelief)
    for name, belief in (("with", with_fields), ("without", plain)):
        total = 0.0
        for hole in order:
            p = belief.p_good()[hole]
            total -= np.log(p if good[hole] else 1 - p)
            belief.observe(int(hole), good[hole])
        assert found[name] == pytest.approx(total / 40, abs=1e-9)


def test_a_seed_draws_the_same_again_and_patches_come_in_random_order(monkeypatch):
    monkeypatch.setattr(
        stage_losses, "losses", lambda problem, order, good: {"order": order.tolist(), "good": good}
    )
    first, again, other = (drawn_case("smooth", seed)["random"] for seed in (1, 1, 2))
    assert first["order"] == again["order"]
    assert np.array_equal(first["good"], again["good"])
    assert sorted(first["order"]) == list(range(570))
    assert first["order"] != other["order"]


def test_built_in_sessions_keep_their_figures_to_the_digit(monkeypatch):
    monkeypatch.setattr(stage_losses, "recorded_holes", lambda session: recorded_holes(session)[:60])
    for name in stage_losses.BUILT_IN:
        found = built_in_case(name, 0)["recorded"]
        assert found["with"] == found["without"]


def test_recorded_holes_of_a_built_in_session_are_all_with_a_result():
    y1 = load_session("y1", "val")
    assert len(recorded_holes(y1)) == int((~np.isnan(y1.good_by_hole(6.0))).sum())
    assert BUDGET_MIN == 480.0


def test_the_gain_has_an_interval_over_cases():
    cases = [{"with": 0.5, "without": 0.5 + gain, "results": 10} for gain in (0.01, 0.02, 0.03)]
    found = summary(cases)
    low, high = found["gain_interval"]
    assert found["gain"] == pytest.approx(0.02)
    assert 0.0099 < low < 0.0199 < 0.0201 < high < 0.0301


def row(trial, gain):
    losses_of = {"with": 0.5, "without": 0.5 + gain, "results": 9}
    of_orders = dict.fromkeys(("recorded", "adaptive", "random"), losses_of)
    return TrialRow(trial, 1.0, {"cases": [of_orders] * trial.parameters["cases"]}, None)


@pytest.mark.parametrize(
    ("none", "edge", "said"),
    [(-0.004, 0.01, True), (-0.006, 0.01, False), (0.0, -0.01, False), (0.012, 0.01, True)],
)
def test_the_page_says_whether_the_fields_reach_what_they_have_to(none, edge, said):
    gains = {"none": none, "edge": edge, "y1": 0.0, "y1-2022": 0.0}
    text, figures = section([row(trial, gains.get(trial.parameters["of"], 0.02)) for trial in trials()])
    assert ("they do not" not in text and "they lose more" not in text) is said
    assert "because" not in text  # figures say that something is gained, not why
    assert "No real session with stage positions" in " ".join(text.split())
    assert {figure["of"] for figure in figures} >= set(OUTCOMES)
    assert not any(figure["missing"] for figure in figures)


@pytest.mark.parametrize(
    ("y1_sim", "y3", "said"),
    [
        (0.02, 0.02, "both presets together they do, at"),
        (-0.001, 0.02, "both presets together they do (on those of `y1-sim` alone no gain is shown), at"),
        (0.02, -0.001, "both presets together they do (on those of `y3` alone no gain is shown), at"),
        (
            -0.001,
            -0.001,
            "both presets together they do not (on those of `y1-sim` and of `y3` alone no gain is shown), at",
        ),
    ],
)
def test_a_preset_that_shows_no_gain_alone_is_named(y1_sim, y3, said):
    gains = {"y1-sim": y1_sim, "y3": y3, "y1": 0.0, "y1-2022": 0.0}
    text, _ = section([row(trial, gains.get(trial.parameters["of"], 0.01)) for trial in trials()])
    assert said in text


def test_the_sentence_on_the_page_is_that_of_the_rows_beside_it():
    results = Path(__file__).parents[3] / "docs" / "results"
    rows = json.loads((results / "prediction.json").read_text())["rows"]
    verdict = stage_losses._verdict([each for each in rows if "stage" in each])
    assert "`y1-sim` alone no gain is shown" in verdict
    assert verdict in (results / "prediction.md").read_text().split("\n")


def test_missing_trials_are_missing_cells():
    text, figures = section([])
    assert all(figure["missing"] for figure in figures)
    assert "missing" in text


def test_cases_that_have_not_run_are_not_counted_and_leave_the_verdict_missing():
    run = [row(trial, 0.02) for trial in trials()]
    last = next(at for at, each in enumerate(run) if each.trial.name.endswith("y3, seeds from 31040"))
    run[last] = TrialRow(run[last].trial, 0.0, None, None)
    text, figures = section(run)
    cases = {(figure["of"], figure["order"]): figure["cases"] for figure in figures}
    assert (cases["y3", "recorded"], cases["both", "adaptive"], cases["edge", "random"]) == (40, 90, 50)
    assert "have to: missing" in text
