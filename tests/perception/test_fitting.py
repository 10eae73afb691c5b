"""What goes in: every wrong input is refused by name or set aside and listed; CTF values become bins."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from perception_samples import TINY, partly_labelled, textures

from cryoscout import perception
from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.perception import fit, fit_ctf
from cryoscout.perception.prepare import drawn_held_out
from cryoscout.perception.settings import FitSettings, settings_for
from cryoscout.session.splits import split_by_class

IMAGES, LABELS, TRUTH = partly_labelled()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.astype(np.float32), "uint8. Got float32"),
        (np.full(IMAGES.shape, np.nan), "uint8. Got float64"),
        (IMAGES[0], r"Got uint8 \(16, 16\)"),
        (IMAGES[:, :, :, None], r"Got uint8 \(160, 16, 16, 1\)"),
        (IMAGES[:, :4], "at least 8 px"),
        (IMAGES.tolist(), "Got list"),
        (np.zeros_like(IMAGES), "must show something"),
        (np.zeros((0, 16, 16), dtype=np.uint8), "one whole number per image, 0 in all"),
    ],
)
def test_wrong_images_are_refused(images: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(images, LABELS, **TINY)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:-1], r"160 in all. Got int64 \(159,\)"),
        (LABELS.astype(float), "Got float64"),
        (np.where(LABELS < 0, -2, LABELS), "Got -2 for image 60"),
        (np.full_like(LABELS, -1), "Got no label for 160 crops"),
        (np.where(LABELS >= 0, 0, -1), "two classes. Got one, class 0"),
        (np.where(LABELS >= 0, 1, -1), "Got none of class 0"),
        (np.where(LABELS == 1, 3, LABELS), "Got none of class 1, 2"),
    ],
)
def test_wrong_labels_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(IMAGES, labels, **TINY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 3}, "Got none of class 2"),
        ({"classes": 1}, "below 1, the number of classes"),
        ({"width": 0}, "Got width 0"),
        ({"width": 7}, "Got width 7 instead.* 8 or more, because torch destroys memory"),
        ({"wide": 3}, "Got wide 3"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"truth": LABELS[:4]}, "Truth must be one whole number per image"),
        ({"resume": True}, "must have its folder"),
        ({"device": "abacus"}, "cpu or cuda. Got 'abacus'"),
        ({"method": "pseudo_label"}, "pseudo_label must get weights"),
        ({"augmentation": "sqare"}, "The augmentation must be one of .*Did you mean 'square'"),
        ({"augmentation": "own:mine"}, "must be given as the function itself"),
        ({"augmentation": lambda images, strength, generator: images}, "must have a name"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(IMAGES, LABELS, **{**TINY, **options})


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'fixmatch'"):
        fit(IMAGES, LABELS, "fixmach")
    with pytest.raises(UnknownNameError, match="paper, quick"):
        fit(IMAGES, LABELS, profile="fast")


def test_crops_that_show_nothing_are_set_aside_and_listed() -> None:
    images, labels = IMAGES.copy(), LABELS.copy()
    images[[0, 100]], images[159] = 0, 255
    found = fit(images, labels, **{**TINY, "steps": 5})
    assert found.set_aside == (0, 100, 159)
    assert found.notes["images"] == 157
    assert found.notes["labels"] == 59
    assert found.unusable(images).tolist() == [0, 100, 159]
    np.testing.assert_allclose(found.predict_proba(images)[[0, 100, 159]], np.tile(found.prior, (3, 1)))
    # What was set aside changes nothing else.
    images[100] = 7
    np.testing.assert_array_equal(
        fit(images, labels, **{**TINY, "steps": 5}).predict_proba(IMAGES), found.predict_proba(IMAGES)
    )


def test_a_class_whose_only_crops_show_nothing_is_missing() -> None:
    images = IMAGES.copy()
    images[LABELS == 1] = 0
    with pytest.raises(InputError, match="Got one, class 0"):
        fit(images, LABELS, **TINY)


def test_few_labels_train_without_held_out_ones_or_a_temperature() -> None:
    labels = np.full(160, -1)
    rows = [int(np.flatnonzero(label == TRUTH)[0]) for label in (0, 1)]
    labels[rows] = (0, 1)
    found = fit(IMAGES, labels, **{**TINY, "steps": 5})
    assert found.slope is None
    assert found.notes["held_out_labels"] == 0
    assert found.notes["calibrated"] is False
    assert found.notes["held_out_accuracy"] is None
    assert found.predict_proba(IMAGES).shape == (160, 2)


@pytest.mark.parametrize("classes", [3, 5])
def test_any_number_of_classes(classes: int) -> None:
    labels = np.where(np.arange(160) < 80, np.arange(160) % classes, -1)
    p = fit(IMAGES, labels, **{**TINY, "steps": 5}).predict_proba(IMAGES)
    assert p.shape == (160, classes)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)


def test_crops_of_another_size_and_shape_are_scaled() -> None:
    images, truth = textures(80, 3, side=40)
    found = fit(images[:, :36], truth, "supervised", **{**TINY, "steps": 5})
    assert found.predict_proba(images).shape == (80, 2)


def test_ctf_values_answer_any_threshold() -> None:
    rng = np.random.default_rng(0)
    ctf = np.where(LABELS >= 0, np.where(LABELS == 1, 4.0, 9.0) + rng.uniform(0.0, 1.0, 160), np.nan)
    found = fit_ctf(IMAGES, ctf, bins=4, **{**TINY, "steps": 80})
    new, right = textures(100, 5)
    assert ((found.p_good(new, 6.0) > 0.5) == right).mean() > 0.85
    thresholds = [1.0, found.edges_angstrom[0], 4.5, 6.0, 9.7, found.edges_angstrom[-1], 50.0]
    p = np.array([found.p_good(new, x) for x in thresholds])
    assert (np.diff(p, axis=0) >= -1e-12).all()
    assert (p[:2] == 0.0).all()
    np.testing.assert_allclose(p[-2:], 1.0)
    np.testing.assert_allclose(
        found.p_good(new, found.edges_angstrom[2]), found.predict_proba(new)[:, :2].sum(axis=1)
    )


@pytest.mark.parametrize(
    ("ctf", "message"),
    [
        (np.full(160, np.nan), "at least 4 crops"),
        (np.full(160, 5.0), "must differ"),
        (np.full(160, -5.0), "above 0 Å, NaN for none. Got -5.0 for image 0"),
        (np.full(160, np.inf), "Got inf"),
        (np.ones(3), r"160 in all. Got \(3,\)"),
    ],
)
def test_wrong_ctf_values_are_refused(ctf: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_ctf(IMAGES, ctf, **TINY)


def test_ctf_values_that_repeat_leave_no_bin_empty() -> None:
    # Interpolated quantiles of these put an edge at 4.75, with nothing between it and 4.
    ctf = np.array([3.0] + [4.0] * 39 + [5.0] * 60 + [12.0] * 60)
    found = fit_ctf(IMAGES, ctf, **{**TINY, "steps": 2})
    assert found.edges_angstrom == (3.0, 4.0, 5.0, 12.0)


def test_a_threshold_goes_with_two_classes_only() -> None:
    labels = np.where(np.arange(160) < 80, np.arange(160) % 3, -1)
    with pytest.raises(InputError, match="bad 0 and good 1"):
        fit(IMAGES, labels, threshold_angstrom=6.0, **TINY)


def test_the_drawn_labels_are_a_function_of_the_settings() -> None:
    settings = settings_for("supervised", seed=5, held_out=0.3)
    held = drawn_held_out(LABELS, settings)
    np.testing.assert_array_equal(held, split_by_class(LABELS, 0.3, np.random.default_rng([5, 1])))
    assert (held != drawn_held_out(LABELS, settings_for("supervised", seed=6, held_out=0.3))).any()


def test_quick_and_paper_profiles() -> None:
    quick, paper = settings_for("fixmatch"), settings_for("fixmatch", "paper")
    assert (quick.size_px, quick.width, quick.steps, quick.batch_size, quick.unlabelled_ratio) == (
        64,
        32,
        1500,
        32,
        7,
    )
    assert (paper.width, paper.steps, paper.depth) == (64, 2**20, 18)
    assert quick.target == "hard"
    assert FitSettings.model_validate_json(quick.model_dump_json()) == quick


def test_names_are_imported_when_first_used() -> None:
    code = (
        "import sys, cryoscout.perception as p; before = 'torch' in sys.modules; p.fit\n"
        "assert (before, 'torch' in sys.modules) == (False, True)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'fits'"):
        perception.fits  # noqa: B018


def test_without_torch_the_remedy_is_named() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import cryoscout.perception as p\n"
        "try: p.fit\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("InputError")
    assert "cryoscout[learn]" in run.stdout
