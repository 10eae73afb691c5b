"""The fit must find what it is told to look for, and start from the presets' own targets."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cryoscout.simulate.presets import SCENE_PRESETS
from cryoscout.simulate.scene_settings import SceneSettings
from examples import slow_but

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fit_simulator.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fit_simulator", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_simulator"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def test_the_fit_moves_a_free_number_until_the_target_is_met(script: ModuleType) -> None:
    start = SceneSettings(holes=2000, patches=100, squares=20, grids=10)
    fit = script.Fit(
        targets={"share of good": (0.5, 0.01)},
        free=("best_ctf_angstrom",),
        scenes=2,
        accuracy_holes=1,
        prior=10.0,
        precision=1e-3,
    )
    assert script.mean_summary(start, 2, 1)["share of good"] > 0.6
    found = script.fitted(start, fit)
    assert script.mean_summary(found, 2, 1)["share of good"] == pytest.approx(0.5, abs=0.01)
    assert found.model_copy(update={"best_ctf_angstrom": start.best_ctf_angstrom}) == start


def test_the_targets_of_y1_are_computed_from_the_session(script: ModuleType) -> None:
    targets = script.y1_fit().targets
    assert targets["share of good"][0] == pytest.approx(0.379, abs=5e-4)
    assert targets["correlation of good within a patch"][0] == pytest.approx(0.39, abs=5e-3)
    assert len(targets) == 11


@pytest.mark.parametrize("name", slow_but(["y3"], ["y1-sim", "y3"]))
def test_a_preset_differs_from_where_its_fit_starts_in_fitted_numbers_alone(
    script: ModuleType, name: str
) -> None:
    start, preset = script.STARTS[name].model_dump(), SCENE_PRESETS[name].model_dump()
    changed = {key for key in start if start[key] != preset[key]}
    assert changed <= set(script.FITS[name]().free)
