"""The loop on holes: what network, planners and agents are told, and that no hidden outcome reaches them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.coupling.hole_routes import PLANNERS, HoleRoutes, check_driver
from cryoscout.coupling.holes import BeliefTeacher, HolePerception
from cryoscout.coupling.lesson import UNLABELLED, Told, lesson_of_p
from cryoscout.coupling.loop import Loop
from cryoscout.coupling.settings import LATER_EPOCHS, couple_settings
from cryoscout.learning.held_out import trials_of
from cryoscout.learning.training import Training
from cryoscout.learning.weights import POLICY_FILE, read_policy
from cryoscout.perception import fitting
from cryoscout.perception.teaching import Places
from cryoscout.routing.knapsack import TreeKnapsack
from cryoscout.routing.replay import PseudoRewards
from session_with_images import TINY, bright

PATCHES, EACH = 12, 8
N = PATCHES * EACH
TREE = HoleTree(
    np.repeat(np.arange(PATCHES), EACH).astype(np.int32),
    np.repeat(np.arange(4), 3).astype(np.int32),
    np.repeat(np.arange(2), 2).astype(np.int32),
)
AGENT: dict[str, Any] = {
    "steps_per_epoch": 60, "environments": 2, "batch_size": 8, "buffer_size": 400, "parts": 2, "precision": "float32",
}  # fmt: skip


def good() -> NDArray[np.int64]:
    """(96,) good patches and bad ones."""
    return np.asarray(TREE.patch_of_hole % 2, dtype=np.int64)


def told(flip: NDArray[np.bool_] | None = None) -> Told:
    """Three labels a patch, those of two patches held out. flip : of the held-out and hidden outcomes."""
    number = np.tile(np.arange(EACH), PATCHES)
    labelled, held = number < 3, (number < 3) & (TREE.patch_of_hole < 2)
    truth = good() if flip is None else np.where(flip, 1 - good(), good())
    return Told(np.where(labelled, truth, UNLABELLED).astype(np.int64), held)


def routes_of(
    driver: str, p: NDArray[np.float64], known: Told, folder: Path, **given: Any
) -> NDArray[np.int64]:
    settings = couple_settings("route", driver, epochs=2, minutes=60.0, **given)
    made = HoleRoutes(TREE, settings, agent_changes=AGENT, device="cpu")
    return made.routes(p, known, np.array([5, 50]), 7, folder)


@pytest.mark.parametrize("driver", [*PLANNERS, "double"])
def test_every_driver_visits_every_hole_once_from_each_start(driver: str, tmp_path: Path) -> None:
    p = np.where(np.arange(N) % 3 == 0, 0.0, 0.7)
    routes = routes_of(driver, p, told(), tmp_path)
    assert routes[:, 0].tolist() == [5, 50]
    for route in routes:
        np.testing.assert_array_equal(np.sort(route), np.arange(N))


@pytest.mark.parametrize("driver", ["adaptive", "adaptive-trust"])
def test_a_window_is_solved_once_and_its_rest_followed(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved: list[float] = []
    solve = TreeKnapsack.solve

    def watched(self: TreeKnapsack, *given: Any, **named: Any) -> Any:
        solved.append(given[3])
        return solve(self, *given, **named)

    monkeypatch.setattr(TreeKnapsack, "solve", watched)
    routes_of(driver, np.linspace(0.2, 0.8, N), told(), tmp_path)
    # Two routes over 96 holes of 2 to 20 minutes in windows of 60; each ends where nothing fits any more.
    assert len(solved) <= 2 * 2 * 10


@pytest.mark.parametrize("driver", ["index", "adaptive", "double"])
def test_no_driver_knows_a_held_out_or_hidden_outcome(driver: str, tmp_path: Path) -> None:
    hidden = told().shown == UNLABELLED
    lied, p = told(hidden), np.linspace(0.2, 0.8, N)
    assert (lied.labels != told().labels).any()
    one = routes_of(driver, p, told(), tmp_path / "a")
    np.testing.assert_array_equal(one, routes_of(driver, p, lied, tmp_path / "b"))


def test_ranks_of_a_planner_are_means_over_starts_and_budgets(tmp_path: Path) -> None:
    p, starts = np.linspace(0.2, 0.8, N), np.array([5, 50])
    for driver, routes in (("adaptive", 6), ("index", 2)):
        settings = couple_settings("ranks", driver, minutes=120.0)
        found = HoleRoutes(TREE, settings, device="cpu").routes(p, told(), starts, 7, tmp_path)
        assert found.shape == (routes, N)
        np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(np.arange(N), (routes, 1)))
        np.testing.assert_array_equal(found[:, 0], np.tile(starts, routes // 2))
    alone = [
        HoleRoutes(TREE, couple_settings("route", "adaptive", minutes=minutes), device="cpu").routes(
            p, told(), starts, 7, tmp_path
        )
        for minutes in (30.0, 60.0, 120.0)
    ]
    by_ranks = HoleRoutes(TREE, couple_settings("ranks", "adaptive", minutes=120.0), device="cpu")
    np.testing.assert_array_equal(by_ranks.routes(p, told(), starts, 7, tmp_path), np.concatenate(alone))


@pytest.mark.parametrize("teacher", ["route", "ranks"])
def test_a_belief_that_a_policy_goes_by_knows_no_held_out_label(teacher: str) -> None:
    settings = couple_settings(teacher, on_belief=True, rounds=1)
    lied = Told(np.where(told().held_out, 1 - told().labels, told().labels), told().held_out)
    said = []
    for known in (told(), lied):
        belief = BeliefTeacher(known, places(), settings.belief_knows_held_out)
        said.append(belief(np.linspace(0.2, 0.8, N), 1, Path()))
    np.testing.assert_array_equal(*said)


def test_an_agent_is_trained_and_chosen_on_pseudo_rewards_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def trials(sessions: Any, *rest: Any) -> Any:
        seen.extend(sessions)
        return trials_of(sessions, *rest)

    monkeypatch.setattr("cryoscout.learning.held_out.trials_of", trials)
    begin = Training.__init__

    def watched(self: Training, sessions: Any, *rest: Any, **named: Any) -> None:
        seen.extend(sessions)
        begin(self, sessions, *rest, **named)

    monkeypatch.setattr(Training, "__init__", watched)
    p = np.linspace(0.2, 0.8, N)
    routes_of("double", p, told(), tmp_path)
    assert len(seen) == 2
    for session in seen:
        rewards = session.outcomes
        assert isinstance(rewards, PseudoRewards)
        shown = told().shown
        np.testing.assert_array_equal(rewards.is_label, shown != UNLABELLED)
        np.testing.assert_array_equal(rewards.reward[rewards.is_label], shown[rewards.is_label])
        np.testing.assert_allclose(rewards.reward[~rewards.is_label], p[~rewards.is_label], atol=2.0**-12)


@pytest.mark.parametrize("driver", ["double", "a2c"])
def test_an_agent_goes_on_from_the_policy_of_the_round_before(driver: str, tmp_path: Path) -> None:
    p, starts = np.where(good() == 1, 0.7, 0.3), np.array([5])
    settings = couple_settings("route", driver, epochs=2, later_epochs=1, minutes=60.0)
    # Without a step along the gradient that could be seen the weights stay those that a training began with.
    still = {**AGENT, "learning_rate": 1e-30}
    made = HoleRoutes(TREE, settings, agent_changes=still, device="cpu")

    def weights(folder: str) -> dict[str, NDArray[np.generic]]:
        return read_policy(tmp_path / folder / POLICY_FILE).weights

    made.routes(p, told(), starts, 7, tmp_path / "one")
    made.routes(p, told(), starts, 8, tmp_path / "two", tmp_path / "one")
    made.routes(p, told(), starts, 8, tmp_path / "anew")
    first, later, anew = weights("one"), weights("two"), weights("anew")
    assert all(np.array_equal(first[name], later[name]) for name in first)
    assert not all(np.array_equal(anew[name], later[name]) for name in anew)
    assert read_policy(tmp_path / "two" / POLICY_FILE).settings.epochs == 1
    as_published = HoleRoutes(
        TREE, settings.model_copy(update={"later_epochs": None}), agent_changes=still, device="cpu"
    )
    as_published.routes(p, told(), starts, 8, tmp_path / "published", tmp_path / "one")
    published = weights("published")
    assert all(np.array_equal(published[name], anew[name]) for name in anew)
    assert couple_settings("route", "double").later_epochs == LATER_EPOCHS
    assert couple_settings("route", "double", later_epochs=None).later_epochs is None
    assert couple_settings("route", "double", epochs=1).later_epochs == 1
    assert couple_settings("route", "index").later_epochs is None


def test_learned_values_are_of_the_agent_whose_routes_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    p, starts = np.where(good() == 1, 0.7, 0.3), np.array([5, 5])
    made = HoleRoutes(
        TREE, couple_settings("route", "double", epochs=2, minutes=60.0), agent_changes=AGENT, device="cpu"
    )
    routes = made.routes(p, told(), starts, 7, tmp_path)

    def no_more(self: Training, *given: Any) -> list[float]:
        raise AssertionError("it is trained already")

    monkeypatch.setattr(Training, "_one_epoch", no_more)
    values = made.learned_values(p, told(), starts, 7, tmp_path)
    np.testing.assert_array_equal(np.isnan(values), np.arange(N) == 5)
    assert len(np.unique(values)) > 2
    np.testing.assert_array_equal(made.routes(p, told(), starts, 7, tmp_path), routes)
    both = made.learned_values(p, told(), np.array([5, 50]), 7, tmp_path)
    other = made.learned_values(p, told(), np.array([50]), 7, tmp_path)
    assert np.isfinite(both).all()
    assert both[5] == other[5]
    rest = ~np.isin(np.arange(N), [5, 50])
    np.testing.assert_allclose(both[rest], (values + other)[rest] / 2.0)


def test_without_pseudo_rewards_an_agent_sees_labelled_holes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[NDArray[np.bool_]] = []
    begin = Training.__init__

    def watched(self: Training, sessions: Any, *rest: Any, **named: Any) -> None:
        allowed.append(sessions[0].problem.available())
        begin(self, sessions, *rest, **named)

    monkeypatch.setattr(Training, "__init__", watched)
    routes_of("double", np.full(N, 0.5), told(), tmp_path, pseudo_rewards=False)
    np.testing.assert_array_equal(allowed[0], told().shown != UNLABELLED)


def test_without_movement_cost_the_order_is_that_of_the_rewards(tmp_path: Path) -> None:
    p = np.random.default_rng(0).random(N)
    route = routes_of("index", p, told(), tmp_path, movement_cost=False)[0][1:]
    reward = np.clip(np.where(told().shown == UNLABELLED, p, told().shown), 0.001, 0.999)[route]
    assert (np.diff(reward) <= 1e-9).all()
    local = routes_of("index", p, told(), tmp_path)[0]
    assert (np.diff(TREE.patch_of_hole[local]) != 0).sum() < (np.diff(TREE.patch_of_hole[route]) != 0).sum()


def test_a_good_prediction_collects_more_on_held_out_holes(tmp_path: Path) -> None:
    made = HoleRoutes(TREE, couple_settings("belief"))
    right = np.where(good() == 1, 0.9, 0.1)
    assert made.held_out_return(right, told(), tmp_path) > made.held_out_return(1.0 - right, told(), tmp_path)


def test_an_agent_that_is_not_trained_has_no_return(tmp_path: Path) -> None:
    made = HoleRoutes(TREE, couple_settings("route", "double"))
    assert np.isnan(made.held_out_return(np.full(N, 0.5), told(), tmp_path))


def test_another_driver_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'double'"):
        check_driver("doubel")


def places() -> Places:
    x = TREE.patch_of_hole * 20.0 + np.tile(np.arange(EACH), PATCHES)
    return Places(TREE.patch_of_hole, TREE, x, np.zeros(N))


def test_the_belief_teaches_what_lies_around(tmp_path: Path) -> None:
    known = told()
    p = BeliefTeacher(known, places())(np.full(N, 0.5), 1, tmp_path)
    lesson = lesson_of_p(p, known)
    assert (lesson.positive[lesson.guessed] == (good()[lesson.guessed] == 1)).mean() > 0.9
    hidden = BeliefTeacher(known, places(), knows_held_out=False)(np.full(N, 0.5), 1, tmp_path)
    lied = told(known.shown == UNLABELLED)
    np.testing.assert_array_equal(
        hidden, BeliefTeacher(lied, places(), knows_held_out=False)(np.full(N, 0.5), 1, tmp_path)
    )


def test_where_whole_patches_are_labelled_held_out_labels_say_which_way_scores_point(tmp_path: Path) -> None:
    # Of a learned patch the belief knows the scores of the square's others alone: low beside a good patch, high beside
    # a bad one. In the held-out patches the labels follow the scores, hole by hole.
    patch, high = TREE.patch_of_hole, np.arange(N) % 2 == 0
    score = np.where(high, 0.8, 0.2)
    score[patch < 3], score[(patch >= 3) & (patch < 6)] = (
        np.where(high, 0.3, 0.1)[:24],
        np.where(high, 0.9, 0.7)[:24],
    )
    truth = np.where(patch == 0, 1, np.where(patch == 3, 0, high)).astype(np.int64)
    known = Told(np.where(patch % 3 == 0, truth, UNLABELLED), (patch == 6) | (patch == 9))
    pointing = []
    for knows in (True, False):
        p = BeliefTeacher(known, places(), knows)(score, 1, tmp_path)[patch % 3 != 0]
        pointing.append(p[high[patch % 3 != 0]].mean() - p[~high[patch % 3 != 0]].mean())
    assert pointing[0] > 0.1
    assert pointing[1] < 0.05


def perception(teacher: str, **changes: Any) -> HolePerception:
    settings = couple_settings(teacher, **changes)
    return HolePerception(
        bright(good() == 1), settings, 6.0, changes={**TINY, "steps": 10, "evaluate_every": 5}
    )


@pytest.mark.parametrize(
    ("teacher", "method", "keep"), [("belief", "supervised", "last"), ("route", "pseudo_label", "best")]
)
def test_what_the_network_is_taught(
    teacher: str, method: str, keep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    real = fitting.fit

    def fit(*given: Any, **named: Any) -> Any:
        calls.append((given, named))
        return real(*given, **named)

    monkeypatch.setattr("cryoscout.perception.fitting.fit", fit)
    known = told()
    parts = (perception(teacher, rounds=1), HoleRoutes(TREE, couple_settings(teacher, rounds=1)))
    said = np.linspace(0.05, 0.95, N)
    loop: Loop[Any] = Loop(known, *parts, parts[0].settings, tmp_path, "d", lambda p, number, place: said)
    loop.run()
    (_, first, *_), named = calls[0]
    np.testing.assert_array_equal(first, known.labels)
    np.testing.assert_array_equal(named["held_out"], known.held_out)
    (_, labels, how, *_), named = calls[1]
    assert (how, named["keep"]) == (method, keep)
    weights, measured = named["weights"], known.labels != UNLABELLED
    assert (weights[measured] == 1.0).all()
    if teacher == "belief":
        assert named["batch_size"] == TINY["batch_size"] * (1 + TINY["unlabelled_ratio"])
        np.testing.assert_allclose(labels[~measured, 1], said[~measured])
        np.testing.assert_array_equal(labels[measured, 1], known.labels[measured])
        assert (weights == 1.0).all()
    else:
        np.testing.assert_array_equal(labels[measured], known.labels[measured])
        assert set(labels.tolist()) <= {0, 1}
        assert ((weights[~measured] >= 0.5) & (weights[~measured] <= 1.0)).all()


def test_a_lesson_of_other_numbers_is_another_run(tmp_path: Path) -> None:
    one, other = perception("belief"), perception("belief")
    assert one.digest(told()) == other.digest(told())
    assert one.digest(told()) != one.digest(told(told().held_out))


def test_no_visit_is_an_input_error() -> None:
    with pytest.raises(InputError, match="minutes"):
        couple_settings("route", minutes=-1.0)
