"""Results move a plan that has no images and no classifier: near holes of the stage are like each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryoscout.belief.effects import Y1_FLAT_EFFECTS, EffectBelief
from cryoscout.belief.stage_belief import StageBelief
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.from_session import problem_from_session, stage_positions_um
from cryoscout.routing.plan_route import plan_route
from cryoscout.routing.policies import make_policy
from cryoscout.routing.predictions import prediction_of
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.session.named import load_session
from cryoscout.simulate.presets import scene_named
from cryoscout.simulate.scene import simulate_scene
from cryoscout.simulate.session import scene_to_session


def one_square() -> RoutingProblem:
    """A square of 20 x 20 holes that is one patch, every p_good alike; the leftmost five columns have results."""
    column, row = np.meshgrid(np.arange(20), np.arange(20), indexing="ij")
    stage_um = 4.0 * np.stack([column.ravel(), row.ravel()], axis=1)
    n = len(stage_um)
    imaged = (column.ravel() < 5) | ((column.ravel() % 5 == 0) & (row.ravel() % 5 == 0))
    outcome = np.where(imaged, (column.ravel() >= 5).astype(np.float64), np.nan)
    return RoutingProblem(
        tree=HoleTree(np.zeros(n, np.int32), np.zeros(1, np.int32), np.zeros(1, np.int32)),
        prior_p_good=np.full(n, 0.4),
        budget_min=60.0,
        effects=Y1_FLAT_EFFECTS,
        imaged=imaged,
        outcome=outcome,
        stage_um=stage_um,
    )


@pytest.mark.parametrize("policy", ["adaptive", "expected", "index"])
def test_a_bad_left_edge_moves_the_plan_to_the_right(policy: str) -> None:
    problem = one_square()
    route = plan_route(problem, make_policy(policy), NOWHERE, 0).route
    assert len(route) > 10
    assert problem.stage_um is not None
    assert problem.stage_um[route, 0].min() > 36.0
    without = plan_route(replace(problem, stage_um=None), make_policy(policy), NOWHERE, 0).route
    assert problem.stage_um[without, 0].min() < 30.0


def test_p_good_rises_from_the_bad_edge_and_before_a_result_is_the_prediction() -> None:
    problem = one_square()
    p_good = problem.belief().p_good().reshape(20, 20).mean(axis=1)
    assert np.all(np.diff(p_good[:10]) >= 0)
    assert p_good[15] > p_good[5] + 0.2
    new = replace(problem, imaged=None, outcome=None)
    assert new.belief().p_good() == pytest.approx(problem.prior_p_good)


def test_the_belief_has_fields_where_positions_are_known() -> None:
    problem = one_square()
    assert isinstance(problem.belief(), StageBelief)
    assert isinstance(replace(problem, stage_um=None).belief(), EffectBelief)


def test_a_policy_goes_on_as_if_it_had_run_on() -> None:
    """Results handed over at the start or one by one are the same belief."""
    problem = one_square()
    known = np.flatnonzero(problem.imaged)
    belief = replace(problem, outcome=None).belief()
    assert problem.outcome is not None
    for hole in known[::-1]:
        belief.observe(int(hole), float(problem.outcome[hole]))
    assert belief.p_good() == pytest.approx(problem.belief().p_good(), abs=1e-6)


def test_optimism_is_heard_with_fields_too() -> None:
    problem = one_square()
    plain = make_policy("adaptive")
    bold = make_policy("adaptive", optimism=2.0)
    for policy in (plain, bold):
        policy.reset(problem, NOWHERE, np.random.default_rng(0))
    assert np.all(bold._values > plain._values)  # type: ignore[attr-defined]


def test_sessions_hand_their_positions_over() -> None:
    scene = scene_named("y1-sim").model_copy(update={"holes": 200, "patches": 20, "squares": 6, "grids": 2})
    session = scene_to_session(simulate_scene(scene, 5), "sim")
    problem = problem_from_session(session, prediction=prediction_of(session), budget_min=60.0)
    assert problem.stage_um is not None
    np.testing.assert_array_equal(problem.stage_um[:, 0], session.holes["x_um"])
    y1 = load_session("y1")
    assert stage_positions_um(y1) is None
    half = session.holes.assign(y_um=session.holes["y_um"].mask(session.holes.index % 2 == 0))
    found = stage_positions_um(replace(session, holes=half))
    assert found is not None
    assert np.array_equal(np.isnan(found).all(axis=1), session.holes.index % 2 == 0)
    assert not np.isnan(found[1::2]).any()
