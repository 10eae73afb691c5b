"""The script trains on the preset's split and counts what is right."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cryoscout.simulate.presets import SCENE_PRESETS, y3_validation
from cryoscout.simulate.scene import simulate_scene
from cryoscout.study.images.cases import Crops

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "supervised_curve.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("supervised_curve", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _SaysBright:
    """A classifier to which bright crops are good."""

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        bright = (images.mean(axis=(1, 2)) > 100).astype(float)
        return np.stack([1.0 - bright, bright], axis=1)


def test_each_share_of_labels_is_a_training_judged_on_the_validation_part(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = simulate_scene(SCENE_PRESETS["y3"], 0)
    good, test = scene.ctf_max_res_angstrom[:, 0] <= 6.0, y3_validation(scene)
    # Good crops are bright for training and dark for validation.
    images = np.where(good ^ test, 200, 20).astype(np.uint8)[:, None, None] * np.ones(
        (1, 2, 2), dtype=np.uint8
    )
    given: list[np.ndarray] = []

    def fit(crops: np.ndarray, labels: np.ndarray, method: str, *_: object, **__: object) -> _SaysBright:
        assert method == "supervised"
        assert ((crops[:, 0, 0] > 100) == (labels == 1))[labels >= 0].all()
        given.append(labels)
        return _SaysBright()

    monkeypatch.setattr("cryoscout.perception.fit", fit)
    crops = Crops(images, scene.ctf_max_res_angstrom[:, 0], scene)
    monkeypatch.setattr(script, "crops_of", lambda preset, seed, folder: crops)
    script.main(["--seeds", "7"])
    assert [len(labels) for labels in given] == [6489] * 4
    assert [int((labels >= 0).sum()) for labels in given] == [324, 649, 1298, 6489]
    header, row, mean, published = capsys.readouterr().out.splitlines()
    assert header.split() == ["seed", "5%", "10%", "20%", "100%"]
    assert row.split() == ["7", "0.0", "0.0", "0.0", "0.0"]
    assert mean.split()[1:] == row.split()[1:]
    assert published.split()[1:] == ["57.07", "61.88", "62.99", "65.24"]
