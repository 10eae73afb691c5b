"""The papers' rewards against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import UnknownNameError
from cryoscout.routing.reward import REWARDS, movement_cost, reward_named

CRYORL_MIN = np.array([2.0, 5.0, 10.0, 20.0])


def test_the_printed_tiers_are_the_formula_at_2_5_10_and_15_minutes() -> None:
    by_formula = 1.0 - movement_cost(np.array([2.0, 5.0, 10.0, 15.0]))
    printed = reward_named("cryorl", CRYORL_MIN).tier_value
    assert printed.tolist() == [1.0, 0.57, 0.23, 0.09]
    assert by_formula == pytest.approx(printed, abs=0.005)


@pytest.mark.parametrize("minutes", [0.0, 0.5, 1.0, 2.0])
def test_nothing_is_charged_up_to_two_minutes(minutes: float) -> None:
    assert movement_cost(minutes) == 0


@given(minutes=st.floats(0, 1000), more=st.floats(0, 1000))
def test_the_cost_grows_with_the_minutes_and_stays_below_one(minutes: float, more: float) -> None:
    assert 0 <= movement_cost(minutes) <= movement_cost(minutes + more) <= 1


@pytest.mark.parametrize(
    ("name", "good", "tier", "reward"),
    [
        ("cryorl", 1, 0, 1.0),
        ("cryorl", 1, 1, 0.57),
        ("cryorl", 1, 2, 0.23),
        ("cryorl", 1, 3, 0.09),
        ("cryorl", 0, 3, 0.0),  # a bad micrograph costs nothing but its minutes
        ("cryorl", 2, 1, 1.14),
        ("formula", 1, 0, 1.0),
        ("formula", 1, 1, math.exp(-0.185 * 3)),
        ("formula", 1, 3, math.exp(-0.185 * 18)),  # the printed tiers stop at 15 min, the formula does not
        ("formula", 0, 3, 0.0),
        ("ssl2rl", 1, 0, 1.0),
        ("ssl2rl", 1, 2, math.exp(-0.185 * 8)),
        ("ssl2rl", 0, 2, math.exp(-0.185 * 8) - 1),  # a bad micrograph is charged for the way
        ("ssl2rl", 3, 3, 2 + math.exp(-0.185 * 18)),
    ],
)
def test_rewards_of_a_visit_by_hand(name: str, good: float, tier: int, reward: float) -> None:
    assert reward_named(name, CRYORL_MIN).of_visit(good, tier) == pytest.approx(reward, abs=1e-12)


def test_only_the_printed_tiers_ignore_the_time_model() -> None:
    slow = CRYORL_MIN * 3
    assert reward_named("cryorl", slow).of_visit(1, 0) == 1
    assert reward_named("formula", slow).of_visit(1, 0) == pytest.approx(math.exp(-0.185 * 4))
    assert reward_named("ssl2rl", slow).of_visit(1, 0) == pytest.approx(math.exp(-0.185 * 4))


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_carries_the_name_it_is_registered_under(name: str) -> None:
    assert reward_named(name, CRYORL_MIN).name == name


def test_an_unknown_reward_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"The reward must be one of .*Did you mean 'ssl2rl'\?"):
        reward_named("ssl2", CRYORL_MIN)
