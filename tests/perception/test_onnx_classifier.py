"""A classifier as an ONNX file: the same probabilities without torch; damaged and foreign files are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from perception_samples import TINY, partly_labelled, textures

from cryoscout.core.errors import InputError
from cryoscout.perception import Classifier, fit, fit_ctf
from cryoscout.perception import onnx_classifier as module
from cryoscout.perception.onnx_classifier import METADATA_KEY, OnnxClassifier
from examples import slow_but

IMAGES, LABELS, TRUTH = partly_labelled()


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return fit(IMAGES, LABELS, "supervised", threshold_angstrom=6.0, **TINY)


@pytest.fixture(scope="module")
def exported(trained: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "deep" / "model.onnx"
    trained.export_onnx(path)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    return path


def test_it_gives_torchs_probabilities_calibrated_and_raw(trained: Classifier, exported: Path) -> None:
    assert trained.slope is not None
    loaded = OnnxClassifier.load(exported)
    larger, _ = textures(70, 3, side=40)
    larger[5] = 0
    for images in (IMAGES, larger, IMAGES[:0], IMAGES[:1]):
        np.testing.assert_allclose(loaded.raw_proba(images), trained.raw_proba(images), atol=1e-4)
        np.testing.assert_allclose(loaded.predict_proba(images), trained.predict_proba(images), atol=1e-4)
        np.testing.assert_allclose(loaded.p_good(images, 6.0), trained.p_good(images, 6.0), atol=1e-4)
    assert loaded.unusable(larger).tolist() == [5]
    assert loaded.p_good(larger, 6.0)[5] == loaded.p_good_unseen(6.0) == trained.p_good_unseen(6.0)
    assert loaded.notes == trained.notes
    with pytest.raises(InputError, match="trained for, 6 Å"):
        loaded.p_good(IMAGES, 5.0)
    with pytest.raises(InputError, match="Images must be"):
        loaded.predict_proba(IMAGES.astype(float))


@pytest.mark.parametrize(
    "changes",
    slow_but([{"depth": 50}], [{"depth": 50}, {"stem_stride": 4, "size_px": 32}, {"stem_stride": 1}]),
)
def test_every_network_can_be_exported(changes, tmp_path: Path) -> None:
    classifier = fit(IMAGES, LABELS, "supervised", threshold_angstrom=6.0, **{**TINY, "steps": 3, **changes})
    classifier.export_onnx(tmp_path / "m.onnx")
    loaded = OnnxClassifier.load(tmp_path / "m.onnx")
    np.testing.assert_allclose(loaded.predict_proba(IMAGES), classifier.predict_proba(IMAGES), atol=1e-4)


def test_a_regression_answers_any_threshold(tmp_path: Path) -> None:
    ctf = np.where(TRUTH == 1, 4.0, 9.0) + np.random.default_rng(0).normal(0, 0.5, len(TRUTH))
    classifier = fit_ctf(IMAGES, ctf, **TINY)
    classifier.export_onnx(tmp_path / "m.onnx")
    loaded = OnnxClassifier.load(tmp_path / "m.onnx")
    for threshold in (1.0, 4.3, 6.0, 50.0):
        np.testing.assert_allclose(
            loaded.p_good(IMAGES, threshold), classifier.p_good(IMAGES, threshold), atol=1e-4
        )
    # Of a hole without an image: the share of labels at or below the threshold.
    share = (ctf <= 6.0).mean()
    assert loaded.p_good_unseen(6.0) == pytest.approx(share, abs=0.1)
    assert (loaded.p_good_unseen(1.0), loaded.p_good_unseen(50.0)) == (0.0, 1.0)


def test_it_needs_no_torch(exported: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np; from pathlib import Path\n"
        "from cryoscout.perception.onnx_classifier import OnnxClassifier\n"
        f"p = OnnxClassifier.load(Path({str(exported)!r})).p_good(np.eye(16, dtype=np.uint8)[None], 6.0)\n"
        "assert p.shape == (1,) and 0 <= p[0] <= 1\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_missing_packages_say_the_remedy(trained: Classifier, exported: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"must have onnx\. Got none.*cryoscout\[onnx\]"):
        trained.export_onnx(tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"must have onnxruntime\. Got none"):
        OnnxClassifier.load(exported)


def test_damaged_and_foreign_files_are_refused(trained: Classifier, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with pytest.raises(InputError, match="no such file"):
        OnnxClassifier.load(path)
    for content in (b"", b"no model", exported.read_bytes()[:-3000]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"x\.onnx must be"):
            OnnxClassifier.load(path)
    model = onnx.load(str(exported))
    (entry,) = [each for each in model.metadata_props if each.key == METADATA_KEY]
    header = entry.value
    for changed, message in (
        (
            header.replace('"format": 1', '"format": 99'),
            "format 1 or older. Got perception classifier, format 99",
        ),
        (header.replace('"size_px": 16', '"size_px": 24'), r"take crops of 24 x 24 px"),
        (header.replace('"mean"', '"colour"'), "settings this version knows"),
        ("[]", "without its settings"),
        ("{", "without its settings"),
    ):
        entry.value = changed
        onnx.save(model, str(path))
        with pytest.raises(InputError, match=message):
            OnnxClassifier.load(path)
    del model.metadata_props[:]
    onnx.save(model, str(path))
    with pytest.raises(InputError, match="without its settings"):
        OnnxClassifier.load(path)


def test_a_network_that_was_trained_in_bf16_predicts_in_32_bits_too(
    trained: Classifier, exported: Path
) -> None:
    rough = replace(trained, settings=trained.settings.model_copy(update={"precision": "bfloat16"}))
    off = np.abs(rough.predict_proba(IMAGES) - OnnxClassifier.load(exported).predict_proba(IMAGES))
    assert off.max() < 1e-4


def test_predicting_leaves_nothing_in_the_home_folder(exported: Path, tmp_path: Path) -> None:
    """Newer versions of onnxruntime keep a device id and usage data there, to be sent."""
    code = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code, str(exported)], check=True, env=environment)
    assert list(tmp_path.rglob("*")) == []
