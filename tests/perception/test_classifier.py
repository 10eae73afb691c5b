"""A trained classifier: its file, its threshold, its temperature."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from perception_samples import TINY, partly_labelled
from safetensors.numpy import save_file

from cryoscout.belief.calibration import fit_calibration
from cryoscout.core.array_file import read_arrays, write_arrays
from cryoscout.core.errors import InputError
from cryoscout.perception import Classifier, fit
from cryoscout.perception.classifier import KIND
from cryoscout.perception.temperature import apply_slope, fit_slope

IMAGES, LABELS, TRUTH = partly_labelled()


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return fit(IMAGES, LABELS, "supervised", threshold_angstrom=6.0, **TINY)


def test_saved_and_loaded_is_the_same(trained: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "classifier.safetensors"
    trained.save(path)
    loaded = Classifier.load(path)
    for name in (
        "settings",
        "classes",
        "mean",
        "spread",
        "prior",
        "slope",
        "threshold_angstrom",
        "set_aside",
    ):
        assert getattr(loaded, name) == getattr(trained, name), name
    assert dict(loaded.notes) == dict(trained.notes)
    np.testing.assert_array_equal(loaded.predict_proba(IMAGES), trained.predict_proba(IMAGES))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_prediction_for_one_threshold_refuses_another(trained: Classifier) -> None:
    np.testing.assert_array_equal(trained.p_good(IMAGES, 6.0), trained.predict_proba(IMAGES)[:, 1])
    with pytest.raises(InputError, match=r"trained for, 6 Å. Got 5 Å"):
        trained.p_good(IMAGES, 5.0)
    with pytest.raises(InputError, match=r"from 0\.5 to 100 angstrom\. Got nan"):
        trained.p_good(IMAGES, float("nan"))
    with pytest.raises(InputError, match="trained for one"):
        replace(trained, threshold_angstrom=None).p_good(IMAGES, 6.0)


def test_predictions_do_not_depend_on_the_batch(trained: Classifier) -> None:
    whole = trained.predict_proba(IMAGES)
    np.testing.assert_allclose(trained.predict_proba(IMAGES[40:43]), whole[40:43], atol=1e-6)
    assert trained.predict_proba(IMAGES[:0]).shape == (0, 2)


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES.astype(float), IMAGES[:, :3]])
def test_wrong_images_are_refused(images: Any, trained: Classifier) -> None:
    with pytest.raises(InputError, match="Images must be"):
        trained.predict_proba(images)


def test_weights_of_another_width_are_refused(trained: Classifier, tmp_path: Path) -> None:
    wider = replace(trained, settings=trained.settings.model_copy(update={"width": 9}))
    wider.save(tmp_path / "wider.safetensors")
    with pytest.raises(InputError, match="ResNet-18 of width 9 with 2 classes"):
        Classifier.load(tmp_path / "wider.safetensors")


def test_damaged_and_foreign_files_are_refused(trained: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(InputError, match="no such file"):
        Classifier.load(path)
    trained.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="whole safetensors file"):
        Classifier.load(path)
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(InputError, match="without its settings"):
        Classifier.load(path)
    write_arrays({"a": np.zeros(2)}, {"kind": "policy"}, path)
    with pytest.raises(InputError, match="Got a policy"):
        Classifier.load(path)
    write_arrays({"a": np.zeros(2)}, {"kind": KIND, "settings": {"colour": 1}}, path)
    with pytest.raises(InputError, match="settings this version knows"):
        Classifier.load(path)
    save_file({"a": np.zeros(2)}, path, {"cryoscout": json.dumps({"format": 99, "kind": KIND})})
    with pytest.raises(InputError, match=r"format 1 or older\. Got 99"):
        Classifier.load(path)


def test_header_holds_plain_json_settings(trained: Classifier, tmp_path: Path) -> None:
    trained.save(tmp_path / "c.safetensors")
    _, header = read_arrays(tmp_path / "c.safetensors", KIND)
    assert header["settings"]["width"] == 8
    assert header["threshold_angstrom"] == 6.0


def overconfident(n: int, classes: int, power: float) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    true = rng.dirichlet(np.ones(classes), n)
    labels = np.array([rng.choice(classes, p=p) for p in true])
    sharp = true**power
    return sharp / sharp.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_temperature_undoes_overconfidence(classes: int) -> None:
    p, labels = overconfident(4000, classes, 2.0)
    slope = fit_slope(p, labels)
    assert slope is not None
    assert slope == pytest.approx(0.5, abs=0.06)
    calibrated = apply_slope(p, slope)
    np.testing.assert_allclose(calibrated.sum(axis=1), 1.0)
    np.testing.assert_array_equal(calibrated.argmax(axis=1), p.argmax(axis=1))

    def loss(q: Any) -> float:
        return float(-np.log(q[np.arange(len(labels)), labels]).mean())

    assert loss(calibrated) < loss(p) - 0.02


def test_many_labels_are_calibrated_as_the_belief_does() -> None:
    p, labels = overconfident(4000, 2, 2.0)
    likeliest = fit_calibration(p[:, 1], labels.astype(float), "temperature", 1e-6).slope
    assert fit_slope(p, labels) == pytest.approx(likeliest, rel=0.01)
    assert fit_slope(p[:40], labels[:40], spread=1e6) == pytest.approx(
        fit_calibration(p[:40, 1], labels[:40].astype(float), "temperature", 1e-6).slope, rel=0.02
    )


@pytest.mark.parametrize("classes", [2, 4])
def test_few_labels_take_no_meaning_from_probabilities(classes: int) -> None:
    # Right probabilities that say little: the slope is 1, and 120 labels leave it open by about a half.
    rng = np.random.default_rng(1)
    true = rng.dirichlet(np.full(classes, 8.0), (60, 120))
    labels = (true.cumsum(axis=2) > rng.random((60, 120, 1))).argmax(axis=2)
    slopes = [fit_slope(p, drawn) for p, drawn in zip(true, labels, strict=True)]
    assert all(slope is not None and 0.2 < slope < 4.0 for slope in slopes)
    free = [fit_slope(p, drawn, spread=1e6) for p, drawn in zip(true, labels, strict=True)]
    assert min(slopes) > 1.2 * min(free)
    assert max(slopes) < max(free)

    def mean_loss(found: list[Any]) -> float:
        """Expected over the true classes."""
        said = [apply_slope(p, slope) for p, slope in zip(true, found, strict=True)]
        return float(-(true * np.log(said)).sum(axis=2).mean())

    assert mean_loss(slopes) < mean_loss(free)


def test_too_few_labels_or_one_class_give_no_temperature_and_a_reversed_order_says_little() -> None:
    p, labels = overconfident(200, 2, 2.0)
    assert fit_slope(p[:9], labels[:9]) is None
    assert fit_slope(p, np.zeros_like(labels)) is None
    slope = fit_slope(p, 1 - labels)
    assert slope is not None
    assert 0.0 < slope < 0.1
