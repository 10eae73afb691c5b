"""The shipped constants of the belief come from the training split of Y1 alone, by the script that says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cryoscout.belief import context
from cryoscout.belief.effects import (
    Y1_EFFECTS,
    Y1_FLAT_EFFECTS,
    EffectVariances,
    log_marginal_likelihood_and_gradient,
)
from cryoscout.session.builtin import load_builtin

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fit_y1_context.py"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script, writing into a temporary folder, and the splits it asks for."""
    spec = importlib.util.spec_from_file_location("fit_y1_context", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.asked_for = []

    def recorded(name, split):
        module.asked_for.append((name, split))
        return load_builtin(name, split=split)

    monkeypatch.setattr(module, "load_builtin", recorded)
    monkeypatch.setattr(module, "OUTPUT", tmp_path / "y1_context.json")
    return module


@pytest.fixture(scope="module")
def training():
    """Location of the shipped model, patch of each hole, outcomes and tree of the training split."""
    session = load_builtin("y1", split="train")
    tree = session.tree()
    return (
        session.prediction("res18", 6.0),
        tree.patch_of_hole,
        session.good_by_hole(6.0),
        tree,
    )


def test_the_shipped_model_has_the_likelihood_it_states_and_no_slope_left(training):
    score_p, patch_of_hole, good, tree = training
    model = context.y1_context()
    assert model.holes == len(good) == 2464
    value, by_location, by_variance = log_marginal_likelihood_and_gradient(
        model.location(score_p, patch_of_hole, tree), patch_of_hole, good, tree, model.effects
    )
    assert value == pytest.approx(model.log_likelihood, abs=1e-4)
    slopes = context.context_features(score_p, patch_of_hole, tree).T @ by_location
    # The slope of the context weights' prior, N(0, context_sd^2), belongs to it.
    slopes[2:] -= np.array([model.patch, model.square, model.grid]) / model.context_sd**2
    assert np.abs(slopes).max() < 0.5
    by_log_variance = by_variance * np.array(model.effects.as_tuple()[:3])
    # A uniform prior on each standard deviation has the slope 1/2 in the logarithm of the variance.
    assert by_log_variance + 0.5 == pytest.approx(0.0, abs=0.05)


def test_the_prior_with_scores_is_twice_the_fitted_variances():
    fitted = context.y1_context().effects
    assert fitted.session == 0.0
    for name, value in Y1_EFFECTS.model_dump().items():
        assert value == pytest.approx(2.0 * getattr(fitted, name), abs=1e-6), name


def test_the_script_reads_the_training_split_alone_and_writes_what_it_fitted(script, monkeypatch, capsys):
    seen, folds = [], []

    def fitted_context(score_p, good, patch_of_hole, tree, context_sd, *, variances_off_zero):
        assert variances_off_zero
        seen.append((len(score_p), len(good), len(patch_of_hole), len(tree.square_of_patch), context_sd))
        return context.y1_context()

    def held_out(score_p, good, patch_of_hole, tree, context_sd, fold_of_patch):
        folds.append(np.bincount(fold_of_patch).tolist())
        return -abs(context_sd - script.CONTEXT_SDS[2])

    monkeypatch.setattr(script, "fit_context", fitted_context)
    monkeypatch.setattr(script, "held_out_log_likelihood", held_out)
    monkeypatch.setattr(script, "fit_effects", lambda *_: Y1_FLAT_EFFECTS)
    script.main()
    assert script.asked_for == [("y1", "train")]
    assert seen == [(2464, 2464, 2464, 121, script.CONTEXT_SDS[2])]
    assert all(max(patches) - min(patches) <= 1 and sum(patches) == 121 for patches in folds)
    assert context.ContextModel.model_validate_json(script.OUTPUT.read_text()) == context.y1_context()
    printed = capsys.readouterr().out
    assert Y1_FLAT_EFFECTS.model_dump_json() in printed


@pytest.mark.slow
def test_the_script_fits_the_shipped_model_and_the_shipped_prior_again(script, capsys):
    script.main()
    assert script.asked_for == [("y1", "train")]
    again, shipped = context.ContextModel.model_validate_json(script.OUTPUT.read_text()), context.y1_context()
    # The likelihood is flat about its maximum, so the last digits depend on the machine.
    assert again.log_likelihood == pytest.approx(shipped.log_likelihood, abs=1e-3)
    for name in ("intercept", "score", "patch", "square", "grid"):
        assert getattr(again, name) == pytest.approx(getattr(shipped, name), abs=2e-3), name
    for name in ("patch", "square", "grid"):
        assert getattr(again.effects, name) == pytest.approx(getattr(shipped.effects, name), abs=2e-3), name
    line = capsys.readouterr().out.splitlines()[-1]
    flat = EffectVariances.model_validate_json(line[line.index("{") :])
    for name in ("patch", "square", "grid"):
        assert getattr(flat, name) == pytest.approx(getattr(Y1_FLAT_EFFECTS, name), abs=2e-3), name
