"""No decision hangs on the last bits of a score: routes and files stay the same when scores are jittered."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from cryoscout.advice.work_list import PlaceNames, WorkList, planned_route, work_list_of
from cryoscout.belief.effects import EffectBelief
from cryoscout.belief.mixture import MixtureBelief
from cryoscout.belief.stage_belief import StageBelief
from cryoscout.core.hole_tree import HoleTree
from cryoscout.learning.numpy_network import NumpyNetwork
from cryoscout.learning.registry import policy_named, policy_names
from cryoscout.routing.plan_route import plan_route
from cryoscout.routing.policies.base import Policy
from cryoscout.routing.policies.price import PricePlan
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.replay import Truth, replay
from examples import slow_but
from jitter import jitter_results_of, jittered

QUICK: dict[str, dict[str, object]] = {"genetic": {"evaluations": 60}, "annealing": {"evaluations": 60}}
"""Settings that make a search short."""

P_GOOD = {
    "flat": np.full(36, 0.5),
    "two decimals": np.tile([0.35, 0.25, 0.5, 0.45, 0.15, 0.85, 0.25, 0.35, 0.5], 4),
    "hard labels": np.tile([1.0, 0.0, 1.0, 1.0, 0.0, 0.0], 6),
}
"""Predictions that are equal, sums of which are equal, and which lie where labels and tenths change."""

JITTERS = 100
FEW = JITTERS // 16
"""In every run: a tie that hangs on the last bits is broken by one in two."""


def tied_problem(kind: str) -> RoutingProblem:
    """Three grids of two squares of two patches of three holes, every grid like every other."""
    return RoutingProblem(
        tree=HoleTree(
            np.repeat(np.arange(12, dtype=np.int32), 3),
            np.repeat(np.arange(6, dtype=np.int32), 2),
            np.repeat(np.arange(3, dtype=np.int32), 2),
        ),
        prior_p_good=P_GOOD[kind],
        budget_min=75.0,
        crossing="count" if kind == "two decimals" else "drop",
    )


def made(name: str) -> Policy:
    return PricePlan() if name == "price" else policy_named(name, **QUICK.get(name, {}))


def with_jitter(problem: RoutingProblem, jitter: int) -> RoutingProblem:
    return replace(
        problem, prior_p_good=jittered(problem.prior_p_good, np.random.default_rng([9, jitter]), (0.0, 1.0))
    )


def jitter_scores(monkeypatch: pytest.MonkeyPatch, jitter: int) -> None:
    rng = np.random.default_rng([10, jitter])
    for belief in (EffectBelief, StageBelief, MixtureBelief):
        jitter_results_of(monkeypatch, belief, "p_good", rng, within=(0.0, 1.0))
    jitter_results_of(monkeypatch, NumpyNetwork, "scores", rng)


@pytest.mark.parametrize("jitters", slow_but([FEW], [FEW, JITTERS]))
@pytest.mark.parametrize("kind", P_GOOD)
@pytest.mark.parametrize("name", [*policy_names(), "price"])
def test_a_whole_route_is_the_same_under_jitter(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: str, jitters: int
) -> None:
    problem = tied_problem(kind)
    plain = plan_route(problem, made(name), NOWHERE, seed=4).route.tolist()
    assert len(plain) >= 3
    for jitter in range(jitters):
        with monkeypatch.context() as noise:
            jitter_scores(noise, jitter)
            route = plan_route(with_jitter(problem, jitter), made(name), NOWHERE, seed=4).route.tolist()
        assert route == plain, f"jitter {jitter}"


@pytest.mark.parametrize("jitters", slow_but([FEW], [FEW, JITTERS // 4]))
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        # The belief of adaptive-trust is the dearest, and where everything is equal the most is tied.
        pytest.param(
            name, kind, marks=[pytest.mark.slow] if name == "adaptive-trust" and kind != "flat" else []
        )
        for name in ("adaptive", "adaptive-trust", "dqn-y1", "price")
        for kind in P_GOOD
    ],
)
def test_a_route_that_results_change_is_the_same_under_jitter(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: str, jitters: int
) -> None:
    """The outcomes repeat from grid to grid, so that what is learned is tied too."""
    problem = tied_problem(kind)
    truth = Truth(np.tile([1.0, 0, 1, 0, 0, 1], 6), np.ones(36, dtype=bool))
    plain = replay(problem, truth, made(name), [7], seed=4)[0].route.tolist()
    for jitter in range(jitters):
        with monkeypatch.context() as noise:
            jitter_scores(noise, jitter)
            route = replay(with_jitter(problem, jitter), truth, made(name), [7], seed=4)[0].route.tolist()
        assert route == plain, f"jitter {jitter}"


def lists_of(work_list: WorkList) -> tuple[object, ...]:
    """What the files say in words: holes in order, and the whole numbers of the forecast."""
    in_csv = [line.split(",")[1] for line in work_list.to_csv().splitlines()]
    in_html = re.findall(r"hole-\d+", work_list.to_html())
    told = work_list.to_json()
    in_json = [hole["hole"] for hole in told["holes"]]
    return in_csv, in_html, in_json, told["interval_50"], told["interval_80"], told["switches"]


@pytest.mark.parametrize("jitters", slow_but([FEW], [FEW, JITTERS // 4]))
@pytest.mark.parametrize("kind", P_GOOD)
def test_a_work_list_is_the_same_in_every_form_under_jitter(
    monkeypatch: pytest.MonkeyPatch, kind: str, jitters: int
) -> None:
    problem = tied_problem(kind)
    names = PlaceNames(
        *(
            tuple(f"{level}-{i}" for i in range(n))
            for level, n in (("hole", 36), ("patch", 12), ("square", 6), ("grid", 3))
        )
    )  # fmt: skip

    def listed(of: RoutingProblem) -> tuple[object, ...]:
        planned = planned_route(of, made("adaptive"), start_hole=NOWHERE, seed=0)
        return lists_of(
            work_list_of(
                planned, names, session="tied", policy="adaptive", prediction="flat", threshold_angstrom=6.0
            )
        )

    plain = listed(problem)
    for jitter in range(jitters):
        with monkeypatch.context() as noise:
            jitter_scores(noise, jitter)
            assert listed(with_jitter(problem, jitter)) == plain, f"jitter {jitter}"
