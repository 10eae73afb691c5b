"""The selection study compares candidates on the same subsets and starts, and only on the training split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryoscout.belief.context import y1_context
from cryoscout.study.engine.catalogue import run_study
from cryoscout.study.engine.published import BUDGETS_MIN
from cryoscout.study.engine.runner import Trial, TrialRow
from cryoscout.study.routes import selection
from cryoscout.study.routes.selection import (
    CANDIDATES,
    CHOSEN,
    PATCHES_PER_SUBSET,
    Candidate,
    cross_fitted_p_good,
    differences,
    means_by_candidate,
    problem_of,
    run_trial,
    subset_of_patches,
)


@pytest.fixture
def quick_p_good(monkeypatch):
    """The classifier's own scores in place of five fits."""
    p_good = selection._session().prediction("res18", 6.0)
    monkeypatch.setattr(selection, "cross_fitted_p_good", lambda: p_good)


def test_candidates_have_their_own_keys_and_the_chosen_one_is_among_them():
    keys = [candidate.key for candidate in CANDIDATES]
    assert len(set(keys)) == len(keys)
    chosen = next(candidate for candidate in CANDIDATES if candidate.key == CHOSEN)
    assert (chosen.policy, chosen.effect_scale, chosen.settings) == ("adaptive", 2.0, ())


def test_a_subset_is_whole_patches_of_the_training_split(quick_p_good):
    allowed = subset_of_patches(np.random.default_rng(0))
    patch_of_hole = selection._session().tree().patch_of_hole
    assert selection._session().info.split == "train"
    inside = np.unique(patch_of_hole[allowed])
    assert len(inside) == PATCHES_PER_SUBSET
    assert (allowed == np.isin(patch_of_hole, inside)).all()


def test_the_scale_multiplies_the_fitted_variances_and_leaves_p_good_alone(quick_p_good):
    allowed = subset_of_patches(np.random.default_rng(0))
    one, four = (problem_of(allowed, scale, 120.0) for scale in (1.0, 4.0))
    assert one.effects.patch == pytest.approx(y1_context().effects.patch)
    assert four.effects.total == pytest.approx(4 * one.effects.total)
    np.testing.assert_allclose(four.belief().p_good(), one.belief().p_good())
    assert one.crossing == "count"


@pytest.mark.slow
def test_a_trial_is_the_same_twice_and_routes_stay_in_the_subset(quick_p_good, monkeypatch):
    candidates = [["index", "index", 2.0, []], ["adaptive, optimism", "adaptive", 1.0, [["optimism", 0.5]]]]
    trial = Trial("subset 1", {"subset": 0, "candidates": candidates}, 0)
    seen = []
    replay = selection.replay

    def noted(problem, truth, policy, starts, seed):
        results = replay(problem, truth, policy, starts, seed)
        seen.extend((tuple(starts), problem.allowed[result.route].all()) for result in results)
        return results

    monkeypatch.setattr(selection, "replay", noted)
    first = run_trial(trial)
    assert first == run_trial(trial)
    assert np.array(first["good"]["index"]).shape == (len(BUDGETS_MIN), selection.STARTS_PER_SUBSET)
    assert len({starts for starts, _ in seen}) == 1
    assert all(inside for _, inside in seen)


def made_up(trial: Trial):
    number = trial.parameters["subset"]
    if number == 3 and trial.seed == 1:
        raise RuntimeError("broke")
    return {
        "good": {
            key: [[number + place + budget / 10] * 3 for budget in BUDGETS_MIN]
            for place, (key, *_) in enumerate(trial.parameters["candidates"])
        }
    }


def test_differences_are_paired_by_subset_and_the_last_is_the_sum_over_budgets():
    rows = [TrialRow(trial, 0.0, made_up(trial), None) for trial in selection.STUDY.trials("quick")]
    means = means_by_candidate(rows)
    place = {candidate.key: at for at, candidate in enumerate(CANDIDATES)}
    found = differences(Candidate("expected", "expected"), means)
    apart = place["expected"] - place[CHOSEN]
    # Subsets differ much, pairs not at all: only a paired interval has no width.
    assert [(each.mean, each.low, each.high) for each in found[:-1]] == [(apart, apart, apart)] * 4
    assert found[-1].mean == 4 * apart


def test_the_page_shows_every_candidate_and_one_failed_subset_makes_all_missing(tmp_path):
    run = run_study(replace(selection.STUDY, run_one=made_up), "quick", tmp_path / "whole")
    text = run.markdown_file.read_text(encoding="utf-8")
    assert all(f"`{candidate.key}`" in text for candidate in CANDIDATES)
    assert [row["candidate"] for row in run.content["rows"] if row["chosen"]] == [CHOSEN]
    assert "missing" not in text

    def seeded(profile):
        return [replace(trial, seed=1) for trial in selection.STUDY.trials(profile)]

    run = run_study(replace(selection.STUDY, run_one=made_up, trials=seeded), "quick", tmp_path / "part")
    assert all(row["missing"] for row in run.content["rows"])


@pytest.mark.slow
def test_no_outcome_of_a_patch_reaches_the_p_good_of_its_holes(monkeypatch):
    """Turn the outcomes of one patch around: only holes of other folds may notice."""
    cross_fitted_p_good.cache_clear()
    before = cross_fitted_p_good()
    patch_of_hole = selection._session().tree().patch_of_hole
    turned = np.where(patch_of_hole == 5, 1.0 - selection._good(), selection._good())
    monkeypatch.setattr(selection, "_good", lambda: turned)
    cross_fitted_p_good.cache_clear()
    after = cross_fitted_p_good()
    cross_fitted_p_good.cache_clear()
    assert (before[patch_of_hole == 5] == after[patch_of_hole == 5]).all()
    assert (before != after).any()
