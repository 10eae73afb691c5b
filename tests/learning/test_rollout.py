"""Looking ahead: the adaptive planner unless the draws say otherwise."""

import numpy as np
import pytest
from learning_samples import random_session
from pydantic import ValidationError

from cryoscout.learning.rollout import Rollout, RolloutSettings
from cryoscout.routing.policies.adaptive import Adaptive
from cryoscout.routing.replay import replay
from cryoscout.testing import check_policy


def test_it_keeps_the_contract_of_policies():
    check_policy(lambda: Rollout(RolloutSettings(draws=2, candidates=2, horizon_min=10.0)))


def _routes(session, policy):
    starts = np.flatnonzero(session.problem.available())[:6].tolist()
    return [route.route.tolist() for route in replay(session.problem, session.truth, policy, starts, 0)]


def test_it_follows_the_plan_unless_another_patch_is_surely_better():
    session = random_session(np.random.default_rng(8), n_holes=60, budget_min=90.0)
    never_sure = Rollout(RolloutSettings(draws=4, standard_errors=1e9))
    assert _routes(session, never_sure) == _routes(session, Adaptive())
    assert never_sure.looked > 0
    assert never_sure.left_plan == 0


def test_without_a_margin_it_sometimes_leaves_the_plan():
    session = random_session(np.random.default_rng(8), n_holes=60, budget_min=90.0)
    eager = Rollout(RolloutSettings(draws=4, standard_errors=0.0))
    assert _routes(session, eager) != _routes(session, Adaptive())


@pytest.mark.parametrize("change", [{"draws": 1}, {"candidates": 1}, {"horizon_min": 0.0}, {"depth": 3}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(ValidationError):
        RolloutSettings(**change)
