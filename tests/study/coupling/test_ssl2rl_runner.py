"""The runners of the studies of the loop, executed on a small session: what a row holds, and that it goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscout.coupling.hole_routes import HoleRoutes
from cryoscout.learning.training import Training
from cryoscout.perception.classifier import Classifier
from cryoscout.perception.fitting import CLASSIFIER_FILE
from cryoscout.simulate import presets
from cryoscout.simulate.images import crops_in_order
from cryoscout.simulate.presets import image_settings_named, scene_named
from cryoscout.simulate.scene import Scene, simulate_scene
from cryoscout.study.coupling import route_labels, ssl2rl_cases, ssl2rl_y1
from cryoscout.study.coupling.ssl2rl import JUDGED_BY_AGENTS, OF_FIXMATCH, trials
from cryoscout.study.coupling.ssl2rl_cases import (
    BELIEF,
    EXACT,
    FIXMATCH,
    FULL,
    ITERATIVE,
    JUDGES,
    OWN,
    RANKS,
    ROUTE_120,
    ROUTE_480,
    SUPERVISED,
    Case,
    RunCase,
    trial_of,
)
from cryoscout.study.engine.runner import Json, Trial
from cryoscout.study.images.cases import Crops
from session_with_images import TINY

AGENT: dict[str, Any] = {
    "steps_per_epoch": 20, "environments": 2, "batch_size": 8, "buffer_size": 600, "parts": 2, "precision": "float32",
}  # fmt: skip
SHARE = 0.5


def slow(*cases: Any) -> list[Any]:
    """Cases of `make test-slow`: each trains a network or two."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]


@pytest.fixture(scope="module")
def crops() -> Crops:
    settings = scene_named("y3").model_copy(update={"holes": 144, "patches": 24, "squares": 6, "grids": 2})
    scene = simulate_scene(settings, 0)
    ids = [str(patch) for patch in range(len(scene.square_of_patch))]
    images = np.concatenate([each for _, each in crops_in_order(scene, ids, image_settings_named("y3"))])
    return Crops(images, scene.ctf_max_res_angstrom[:, 0], scene)


@pytest.fixture
def small(crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in the place of y3, a quarter of its patches judged, and agents that train for a moment."""

    def held(scene: Scene, preset: str, split: str) -> NDArray[np.bool_]:
        return np.asarray(scene.patch_of_hole % 4 == 0)

    monkeypatch.setattr(ssl2rl_cases, "QUICK_BUDGET", {**TINY, "augmentation": "square"})
    monkeypatch.setattr(ssl2rl_cases, "crops_of", lambda preset, seed, folder: crops)
    monkeypatch.setattr(ssl2rl_cases, "held_back", held)
    monkeypatch.setattr(ssl2rl_cases, "HoleRoutes", partial(HoleRoutes, agent_changes=AGENT))


def run(case: Case, folder: Path, seed: int = 1) -> Json:
    return RunCase(folder)(trial_of(case, seed, "quick"))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("method", [SUPERVISED, *slow(FIXMATCH, FULL)])
def test_a_method_of_one_training_is_judged_by_both_planners(method: str, tmp_path: Path) -> None:
    found = run(Case(method, 1.0 if method == FULL else SHARE), tmp_path)
    (only,) = found["rounds"]
    assert (found["chosen"], only["number"], found["report"]) == (0, 0, None)
    assert set(only["rewards"]) == set(JUDGES)
    assert all(0 <= only["rewards"][judge]["good"] <= 36 for judge in JUDGES)
    assert 0.0 <= only["scores"]["accuracy"] <= 1.0
    assert (only["unlabelled"] is None) == (method == FULL)


@pytest.mark.usefixtures("small")
def test_settings_of_fixmatch_reach_its_training(tmp_path: Path) -> None:
    changes = {name: value for case in OF_FIXMATCH for name, value in case.changes.items()}
    run(Case(FIXMATCH, SHARE, "", "all of them", changes), tmp_path)
    (made,) = tmp_path.glob(f"fixmatch-*/{CLASSIFIER_FILE}")
    settings = Classifier.load(made).settings
    assert {name: getattr(settings, name) for name in changes} == changes


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("case", "rounds"),
    [
        (Case(BELIEF, SHARE), 1),
        *slow(
            (Case(ROUTE_480, SHARE, "index"), 2),
            (Case(OWN, SHARE), 1),
            (Case(EXACT, SHARE), 1),
            (Case(RANKS, SHARE), 1),
            (Case(ROUTE_480, SHARE, "index", "on the belief", {"on_belief": True, "rounds": 1}), 1),
            (Case(ROUTE_120, SHARE, "adaptive", "K 1", {"rounds": 1}), 1),
            (Case(ITERATIVE, SHARE, "", "K 1", {"rounds": 1}), 1),
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else None,
)
def test_a_loop_is_judged_after_every_round(case: Case, rounds: int, tmp_path: Path) -> None:
    found = run(case, tmp_path)
    assert [each["number"] for each in found["rounds"]] == list(range(1, rounds + 1))
    assert found["chosen"] in range(1, rounds + 1)
    assert all(set(each["rewards"]) == set(case.judges) for each in found["rounds"])
    assert [each["number"] for each in found["report"]["rounds"]] == list(range(rounds + 1))
    assert all(0.0 <= each["guesses_right"] <= 1.0 for each in found["report"]["rounds"][1:])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "case",
    [
        Case(SUPERVISED, SHARE, "double"),
        *slow(
            Case(ITERATIVE, SHARE, "double", "K 1", {"rounds": 1}),
            Case(ROUTE_480, SHARE, "double", "K 1", {"rounds": 1}),
        ),
    ],
    ids=lambda case: case.method,
)
def test_an_agent_that_judges_is_trained_once_and_goes_on(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(case, tmp_path)
    assert set(first["rounds"][-1]["rewards"]) == {"double"}

    def no_more(self: Training, *given: Any) -> list[float]:
        raise AssertionError("it is trained already")

    monkeypatch.setattr(Training, "_one_epoch", no_more)
    again = run(case, tmp_path)
    assert again["rounds"] == first["rounds"]


def test_the_paper_profile_measures_every_cell_of_the_rewards_with_an_agent() -> None:
    cases = [Case(**trial.parameters["case"]) for trial in trials("paper")]
    by_agent = {(case.method, case.labels) for case in cases if case.driver == "double" and not case.variant}
    wanted = {
        (method, share)
        for share in (0.05, 0.1, 0.2)
        for method in (SUPERVISED, FIXMATCH, ITERATIVE, ROUTE_120, ROUTE_480)
    }
    assert by_agent == {*wanted, (FULL, 1.0)}
    quick = [Case(**trial.parameters["case"]) for trial in trials("quick")]
    assert not [case for case in quick if case in JUDGED_BY_AGENTS]


@pytest.mark.slow
def test_labels_of_routes_are_measured_on_a_small_session(monkeypatch: pytest.MonkeyPatch) -> None:
    small = scene_named("y3").model_copy(update={"holes": 144, "patches": 24, "squares": 6, "grids": 2})
    monkeypatch.setattr(presets, "scene_named", lambda name: small)
    by_agent = partial(HoleRoutes, agent_changes=AGENT)
    monkeypatch.setattr(route_labels, "HoleRoutes", by_agent)
    found = route_labels.run_one(Trial("", {"share": SHARE}, 1))
    agent = route_labels.run_one(Trial("", {"share": SHARE, "agent": "double"}, 1))
    of_agent = {route_labels.BY_AGENT, route_labels.VALUES}
    assert set(agent["right"]) == of_agent
    assert set(found["right"]) == set(route_labels.ROWS) - of_agent
    assert all(0.0 <= right <= 1.0 for right in (found["right"] | agent["right"]).values())
    assert (found["holes"], found["labels"]) == (144, 72)


def test_the_loop_on_the_real_y1_is_judged_on_patches_without_labels() -> None:
    found = ssl2rl_y1.run_one(ssl2rl_y1.trials("quick")[1])
    assert set(found["methods"]) >= {*ssl2rl_y1.CLASSIFIERS, ssl2rl_y1.HEAD, *ssl2rl_y1.METHODS}
    assert all(0.4 < each["accuracy"] < 1.0 for each in found["methods"].values())
