"""What a training is told: soft labels, weights, which labels are held out, and a classifier to begin with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from perception_samples import TINY, partly_labelled, textures
from torch.nn import functional

from cryoscout.core.array_file import read_arrays
from cryoscout.core.errors import InputError
from cryoscout.perception import Classifier, fit, fit_ctf
from cryoscout.perception.fitting import CLASSIFIER_FILE
from cryoscout.perception.from_session import learned_from
from cryoscout.perception.methods.base import Method, Seen
from cryoscout.perception.methods.regression import ordinal_loss
from cryoscout.perception.prepare import drawn_held_out, targets_of
from cryoscout.perception.settings import METHODS, FitSettings
from cryoscout.perception.training import CHECKPOINT_FILE, Progress
from cryoscout.session.splits import split_by
from examples import slow_but

SMALL: dict[str, Any] = {**TINY, "width": 8, "steps": 10, "evaluate_every": 5}
SHORT: dict[str, Any] = {**SMALL, "steps": 4, "evaluate_every": 2, "pretrain_steps": 4}
IMAGES, LABELS, TRUTH = partly_labelled()
WEIGHTS = np.where(LABELS < 0, np.linspace(0.5, 1.0, len(LABELS)), 1.0)
HELD = drawn_held_out(LABELS, FitSettings())
UNREAD = np.where(LABELS < 0, np.nan, 1.0)  # where there is no label
P_GOOD = np.where(LABELS < 0, np.where(TRUTH == 1, 0.9, 0.1), LABELS)
SOFT = np.stack([1.0 - P_GOOD, P_GOOD], axis=1)
UNTOLD = [method for method in METHODS if method != "pseudo_label"]


class KilledError(Exception):
    """Stands for a power cut."""


def assert_same_weights(one: Classifier, other: Classifier) -> None:
    for name, array in one.weights.items():
        np.testing.assert_array_equal(array, other.weights[name], err_msg=name)
    assert (one.prior, one.slope) == (other.prior, other.slope)


@pytest.mark.parametrize("method", slow_but(["fixmatch", "barlow_twins", "regression"], UNTOLD))
def test_the_plain_training_is_the_one_with_weight_1_and_the_drawn_labels_held_out(method: str) -> None:
    plain = fit(IMAGES, LABELS, method, **SHORT)
    told = fit(IMAGES, LABELS, method, weights=UNREAD, held_out=HELD, **SHORT)
    assert_same_weights(plain, told)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_soft_labels_with_weights(method: str) -> None:
    given = {"weights": np.ones(160), "held_out": HELD}
    new, right = textures(150, 7)
    # No single seed decides: how far so few steps go hangs on the last bits of sums too.
    fits = [fit(IMAGES, SOFT, method, **given, **{**SMALL, "steps": 40, "seed": seed}) for seed in range(3)]
    assert np.median([(each.predict_proba(new).argmax(axis=1) == right).mean() for each in fits]) > 0.85
    found = fits[0]
    assert found.notes["labels"] == 160
    assert found.notes["held_out_labels"] == int(HELD.sum())


# Each has a loss of its own for soft labels, or for crops without one.
@pytest.mark.parametrize(
    "method", slow_but(["supervised", "softmatch", "regression", "pseudo_label"], METHODS)
)
def test_sure_soft_labels_teach_what_hard_ones_teach(method: str) -> None:
    given = {"weights": np.where(LABELS < 0, 0.0, 1.0), "held_out": HELD}
    sure = np.where(LABELS[:, None] < 0, 0.5, np.stack([LABELS == 0, LABELS == 1], axis=1))
    few = {**SHORT, "rounds": 1}
    hard, soft = (fit(IMAGES, labels, method, **given, **few) for labels in (LABELS, sure))
    assert hard.prior == soft.prior
    for name, array in hard.weights.items():
        np.testing.assert_allclose(array, soft.weights[name], atol=1e-3, err_msg=name)


# One training, several rounds, and one that begins without any label.
@pytest.mark.parametrize("method", slow_but(["supervised", "iterative_fixmatch", "barlow_twins"], METHODS))
def test_labels_held_out_by_a_mask_change_no_weight(method: str, tmp_path: Path) -> None:
    """Whole patches, as a session's labels are held out."""
    held = split_by(np.arange(160) // 8, 0.25, np.random.default_rng(0), among=LABELS >= 0)
    weights = np.where(LABELS < 0, 0.0, 1.0)
    networks = []
    for name, labels in (("one", LABELS), ("other", np.where(held, 1 - LABELS, LABELS))):
        folder = tmp_path / name
        fit(IMAGES, labels, method, weights=weights, held_out=held, folder=folder, **{**SHORT, "rounds": 1})
        arrays, _ = read_arrays(folder / CHECKPOINT_FILE, "perception checkpoint")
        networks.append({name: a for name, a in arrays.items() if name.startswith("network.")})
    for name, array in networks[0].items():
        np.testing.assert_array_equal(array, networks[1][name])


@pytest.mark.parametrize("method", slow_but(["fixmatch", "barlow_twins", "pseudo_label"], METHODS))
def test_every_method_begins_with_the_given_classifier(method: str) -> None:
    given = {"weights": WEIGHTS, "held_out": HELD} if method == "pseudo_label" else {}
    first = fit(IMAGES, LABELS, method, **SHORT, **{**given, "held_out": HELD})
    still = {
        **SMALL,
        "steps": 1,
        "pretrain_steps": 1,
        "learning_rate": 1e-9,
        "rounds": 1,
        "weight_decay": 0.0,
    }
    second = fit(IMAGES, LABELS, method, start_from=first, **still, **{**given, "held_out": HELD})
    assert (second.mean, second.spread) == (first.mean, first.spread)
    for name in ("conv1.weight", "layer4.1.conv2.weight"):
        np.testing.assert_allclose(second.weights[name], np.asarray(first.weights[name]), atol=1e-6)
    if method != "barlow_twins":  # its pretraining takes the head away
        np.testing.assert_allclose(
            second.weights["fc.weight"], np.asarray(first.weights["fc.weight"]), atol=1e-6
        )


@pytest.mark.parametrize(
    ("method", "form"),
    [
        pytest.param("iterative_fixmatch", "hard", marks=pytest.mark.slow),
        ("iterative_fixmatch", "soft"),
        pytest.param("barlow_twins", "soft", marks=pytest.mark.slow),
        ("pseudo_label", "hard"),
        pytest.param("regression", "soft", marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_with_all_of_them_goes_on_to_the_same_file(
    method: str, form: str, tmp_path: Path
) -> None:
    first = fit(IMAGES, LABELS, "supervised", **SHORT)
    # Of the crops beyond 120 nothing is known, so that rounds have something to guess.
    weights = np.where(np.arange(160) < 120, WEIGHTS, 0.0)
    labels = np.where(weights > 0, TRUTH, -1) if form == "hard" else SOFT
    given: dict[str, Any] = {"weights": weights, "held_out": HELD, **SHORT}
    given |= {} if method == "regression" else {"start_from": first}
    fit(IMAGES, labels, method, folder=tmp_path / "whole", **given)
    count = 0

    def kill(_: Progress) -> None:
        nonlocal count
        count += 1
        if count == (6 if method in ("iterative_fixmatch", "barlow_twins") else 3):
            raise KilledError

    folder = tmp_path / "killed"
    with pytest.raises(KilledError):
        fit(IMAGES, labels, method, folder=folder, progress=kill, **given)
    fit(IMAGES, labels, method, folder=folder, resume=True, **given)
    assert (folder / CLASSIFIER_FILE).read_bytes() == (tmp_path / "whole" / CLASSIFIER_FILE).read_bytes()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Classifier]:
    """The folder of a training with all that can be told, what it was told, and another classifier to begin with."""
    folder = tmp_path_factory.mktemp("told")
    first = fit(IMAGES, LABELS, "supervised", **{**SMALL, "steps": 2})
    other = fit(IMAGES, LABELS, "supervised", **{**SMALL, "steps": 3})
    given: dict[str, Any] = {
        "labels": SOFT, "weights": WEIGHTS, "held_out": HELD, "start_from": first, **SMALL, "steps": 5
    }  # fmt: skip
    fit(IMAGES, method="pseudo_label", folder=folder, **given)
    return folder, given, other


@pytest.mark.parametrize("what", ["labels", "weights", "held_out", "start_from", "weights_in_loss"])
def test_going_on_with_anything_else_told_is_refused(
    what: str, told: tuple[Path, dict[str, Any], Classifier], tmp_path: Path
) -> None:
    made, given, other = told
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    changed = {
        "labels": np.where(LABELS[:, None] < 0, 0.8 * SOFT + 0.1, SOFT),
        "weights": np.where(LABELS < 0, 0.7, 1.0),
        "held_out": HELD & (np.arange(160) != np.flatnonzero(HELD)[0]),
        "start_from": other,
        "weights_in_loss": False,
    }
    message = "weights_in_loss" if what == "weights_in_loss" else "same images and labels"
    with pytest.raises(InputError, match=message):
        fit(IMAGES, method="pseudo_label", folder=tmp_path, resume=True, **{**given, what: changed[what]})
    fit(IMAGES, method="pseudo_label", folder=tmp_path, resume=True, **given)


@pytest.mark.parametrize(
    ("in_loss", "in_sampling", "of_loss", "drawn"),
    # 48 labels of weight 1 and 50 guesses of 1/4: 12.5 of 60.5 draws by weight, 50 of 98 without.
    [
        pytest.param(True, True, {1.0, 0.25}, 12.5 / 60.5, marks=pytest.mark.slow),
        (True, False, {1.0, 0.25}, 50 / 98),
        (False, True, {1.0}, 12.5 / 60.5),
        pytest.param(False, False, {1.0}, 50 / 98, marks=pytest.mark.slow),
    ],
)
def test_weights_act_in_the_sampling_the_loss_both_or_neither(
    in_loss: bool, in_sampling: bool, of_loss: set[float], drawn: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # Guesses are told apart from measured labels by their class, 2.
    weights = np.where(LABELS < 0, np.where(np.arange(160) % 2 == 0, 0.25, 0.0), 1.0)
    labels = np.where(LABELS < 0, 2, LABELS)
    in_the_loss: list[float] = []
    classes: list[int] = []
    honest = Method.supervised

    def watched(self: Method, seen: Seen) -> torch.Tensor:
        in_the_loss.extend(seen.weights.tolist())
        classes.extend(seen.labels.tolist())
        return honest(self, seen)

    monkeypatch.setattr(Method, "supervised", watched)
    fit(
        IMAGES, labels, "supervised", weights=weights, held_out=HELD, weights_in_loss=in_loss,
        weights_in_sampling=in_sampling, **{**SMALL, "steps": 30},
    )  # fmt: skip
    assert set(in_the_loss) == of_loss
    assert np.mean(np.array(classes) == 2) == pytest.approx(drawn, abs=0.1)


def test_a_soft_ordinal_loss_is_the_mean_of_the_hard_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator)
    chance = torch.softmax(torch.randn(6, 4, generator=generator), dim=1)
    by_bin = torch.stack([ordinal_loss(logits, torch.full((6,), k)) for k in range(4)], dim=1)
    torch.testing.assert_close(ordinal_loss(logits, chance), (chance * by_bin).sum(dim=1))
    sure = functional.one_hot(torch.tensor([0, 1, 2, 3, 0, 1]), 4).float()
    torch.testing.assert_close(ordinal_loss(logits, sure), ordinal_loss(logits, sure.argmax(dim=1)))


def test_shares_of_the_labels_are_by_weight_and_without_those_held_out() -> None:
    found = fit(IMAGES, SOFT, "supervised", weights=WEIGHTS, held_out=HELD, **{**SMALL, "steps": 1})
    expected = np.average(SOFT[~HELD], axis=0, weights=WEIGHTS[~HELD])
    np.testing.assert_allclose(found.prior, expected, rtol=1e-5)


def test_what_was_learned_from_is_told_by_the_mask() -> None:
    known = np.where(LABELS < 0, np.nan, LABELS)
    mask = (np.arange(160) < 20) & (LABELS >= 0)
    found = fit(IMAGES, LABELS, "supervised", held_out=mask, **{**SMALL, "steps": 1})
    np.testing.assert_array_equal(learned_from(found, known, mask), (LABELS >= 0) & ~mask)
    with pytest.raises(InputError, match="Remedy: give the held_out that fit got"):
        learned_from(found, known)
    drawn = fit(IMAGES, LABELS, "supervised", **{**SMALL, "steps": 1})
    np.testing.assert_array_equal(learned_from(drawn, known), (LABELS >= 0) & ~HELD)
    share = fit(IMAGES, LABELS, "supervised", held_out=0.0, **{**SMALL, "steps": 1})
    np.testing.assert_array_equal(learned_from(share, known), LABELS >= 0)


def test_a_regression_goes_on_with_its_own_bins() -> None:
    rng = np.random.default_rng(0)
    ctf = np.where(LABELS == 1, 4.0, 9.0) + rng.uniform(0.0, 1.0, 160)
    first = fit_ctf(IMAGES, ctf, bins=4, **{**SMALL, "steps": 2})
    second = fit_ctf(IMAGES, ctf + 0.05, bins=4, start_from=first, **{**SMALL, "steps": 2})
    assert second.edges_angstrom == first.edges_angstrom
    with pytest.raises(InputError, match="must be a regression"):
        fit_ctf(IMAGES, ctf, start_from=fit(IMAGES, LABELS, "supervised", **{**SMALL, "steps": 1}), **SMALL)
    with pytest.raises(InputError, match="must have edges_angstrom"):
        fit(IMAGES, np.arange(160) % 4, "supervised", start_from=first, **SMALL)


def test_crops_set_aside_take_their_labels_weights_and_place_among_the_held_out_with_them() -> None:
    images, labels, weights, held = IMAGES.copy(), SOFT.copy(), WEIGHTS.copy(), HELD.copy()
    row = int(np.flatnonzero(HELD)[0])
    images[[row, 150]] = 0
    given = {**SMALL, "steps": 5}
    found = fit(images, labels, "supervised", weights=weights, held_out=held, **given)
    assert found.set_aside == (row, 150)
    assert (found.notes["labels"], found.notes["held_out_labels"]) == (158, int(HELD.sum()) - 1)
    aside = np.isin(np.arange(160), (row, 150))
    targets = targets_of(labels, weights, held, aside, FitSettings())
    assert not targets.held_out[aside].any()
    assert not targets.weights[aside].any()
    kept = ~aside
    same = fit(images[kept], labels[kept], "supervised", weights=weights[kept], held_out=held[kept], **given)
    assert_same_weights(found, same)


def test_a_class_whose_only_soft_labels_show_nothing_is_missing() -> None:
    sure = np.stack([TRUTH == 0, TRUTH == 1], axis=1).astype(np.float64)
    images = IMAGES.copy()
    images[TRUTH == 1] = 0
    with pytest.raises(InputError, match="Got none of class 1"):
        fit(images, sure, "supervised", held_out=0.0, **SMALL)


def replaced(array: np.ndarray, at: Any, value: Any) -> np.ndarray:
    changed = array.copy()
    changed[at] = value
    return changed


MASK = replaced(np.zeros(160, dtype=bool), 3, True)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (SOFT[:-1], {}, r"two or more probabilities per image, 160 in all. Got \(159, 2\)"),
        (SOFT[:, :1], {}, r"Got \(160, 1\)"),
        (replaced(SOFT, (5, 0), np.nan), {}, r"sum to 1. Got \[nan, .* for image 5"),
        (replaced(SOFT, 7, (0.4, 0.4)), {}, r"Got \[0.4, 0.4\] for image 7"),
        (replaced(SOFT, 7, (1.5, -0.5)), {}, r"Got \[1.5, -0.5\] for image 7"),
        (SOFT, {"classes": 3}, "a column for each of the 3 classes. Got 2"),
        (SOFT, {"held_out": None}, "must come with those that are held out"),
        (SOFT, {"held_out": 0.2}, "must come with those that are held out"),
        (LABELS, {"held_out": None, "weights": WEIGHTS}, "must come with those that are held out"),
        (SOFT, {"held_out": LABELS < 0}, "must be sure: .* Got .* for image 60"),
        (LABELS, {"held_out": LABELS < 0}, "a label with a weight above 0. Got none for image 60"),
        (SOFT, {"held_out": MASK, "weights": replaced(WEIGHTS, 3, 0.0)}, "Got none for image 3"),
        (LABELS, {"held_out": MASK[:4]}, r"boolean array of shape \(160,\). Got bool \(4,\)"),
        (LABELS, {"held_out": MASK.astype(int)}, "Got int64"),
        (LABELS, {"held_out": 1.5}, "Got held_out 1.5"),
        (LABELS, {"held_out": LABELS == 1}, "trained on. Got none of class 1"),
        (SOFT, {"held_out": HELD, "weights": np.where(SOFT[:, 1] > 0, 0.0, 1.0)}, "Got none for image"),
        (SOFT, {"held_out": 0.0, "weights": np.where(SOFT[:, 1] > 0, 0.0, 1.0)}, "none of class 1"),
        (LABELS, {"weights": WEIGHTS[:-1]}, r"Weights must be one number per image, 160 .* Got float64 \(159,\)"),
        (LABELS, {"weights": WEIGHTS > 0.5}, "Got bool"),
        (LABELS, {"weights": replaced(WEIGHTS, 2, -0.5)}, "0 or more. Got -0.5 for image 2"),
        (LABELS, {"weights": replaced(WEIGHTS, 2, np.nan)}, "finite and 0 or more. Got nan for image 2"),
        (LABELS, {"weights": replaced(WEIGHTS, 2, np.inf)}, "Got inf for image 2"),
        (LABELS, {"held_out": 0.0, "weights": np.zeros(160)}, "must be labelled. Got no label"),
    ],
)  # fmt: skip
def test_wrong_targets_are_refused(labels: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(IMAGES, labels, "supervised", **{"held_out": HELD, **options}, **SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"width": 9}, "width 9"), ({"stem_stride": 4}, "stem_stride 4"), ({"depth": 50}, "depth 50")],
)
def test_a_classifier_of_another_network_is_refused(change: dict[str, Any], message: str) -> None:
    first = fit(IMAGES, LABELS, "supervised", **{**SMALL, "steps": 1})
    with pytest.raises(InputError, match=f"to begin with must have {message}"):
        fit(IMAGES, LABELS, "supervised", start_from=first, **{**SMALL, **change})
    with pytest.raises(InputError, match="number of classes 3"):
        fit(IMAGES, np.arange(160) % 3, "supervised", start_from=first, **SMALL)


def test_the_last_averaged_weights_are_kept_where_that_is_asked_for() -> None:
    # With one look, at the end, the best weights are the last.
    once = {**SMALL, "evaluate_every": SMALL["steps"]}
    last = fit(IMAGES, LABELS, "supervised", held_out=HELD, **{**SMALL, "keep": "last", "evaluate_every": 2})
    one_look = fit(IMAGES, LABELS, "supervised", held_out=HELD, **once)
    for name, array in last.weights.items():
        np.testing.assert_array_equal(array, one_look.weights[name], err_msg=name)
    assert last.notes["held_out_labels"] == int(HELD.sum())
