"""`explore` against the best policy there is, on trees that dynamic programming over beliefs can solve."""

from __future__ import annotations

import numpy as np
import pytest
from exact_looking import TinyTree, best_expected, random_tiny_tree

from cryoscout.routing.policies import make_policy
from cryoscout.routing.policies.explore import ExploreSettings
from cryoscout.routing.time_model import TimeModel

SHARE = 0.95
AS_SHIPPED = ExploreSettings().spread
PAIRS = 8


def shares_of_the_best(trees: int, *spreads: float) -> list[float]:
    """Of the expected good micrographs of the best policy, over random trees: `explore` with each spread."""
    rng = np.random.default_rng(1)
    found, best = np.zeros(len(spreads)), 0.0
    for number in range(trees):
        tiny = random_tiny_tree(rng)
        assert tiny.squares * tiny.patches * tiny.holes <= 12
        best += best_expected(tiny)
        found += [tiny.found(make_policy("explore", spread=spread), PAIRS, number) for spread in spreads]
    return [float(share) for share in found / best]


def one_patch(**changes: float) -> TinyTree:
    model = TimeModel(
        name="tiny", same_patch_min=1.0, new_patch_min=2.0, new_square_min=3.0, new_grid_min=3.0,
        patch_look_min=1.0, square_look_min=1.0,
    )  # fmt: skip
    plain = {"mean": 0.0, "square_sd": 1e-9, "patch_sd": 2e-9, "within_sd": 0.0, "effect_sd": 0.0}
    return TinyTree(
        squares=2, patches=1, holes=3, time_model=model, **{**plain, "budget_min": 5.0, **changes}
    )


def test_the_best_policy_is_the_one_found_by_hand() -> None:
    # Two looks and three holes of one patch at 0.5 each; a minute less, one hole less.
    assert best_expected(one_patch()) == pytest.approx(1.5)
    assert best_expected(one_patch(budget_min=4.0)) == pytest.approx(1.0)
    # A patch is all good or all bad: after a bad one there is time for the other square's look and one hole.
    sure = one_patch(square_sd=20.0, patch_sd=1.0, budget_min=5.0)
    assert best_expected(sure) == pytest.approx(0.5 * 3 + 0.5 * 0.5 * 1, abs=1e-6)


@pytest.mark.slow
def test_explore_comes_near_the_best_policy_on_a_few_trees() -> None:
    (share,) = shares_of_the_best(4, AS_SHIPPED)
    assert share >= SHARE


@pytest.mark.slow
def test_explore_comes_near_the_best_policy_on_a_hundred_trees() -> None:
    share, at_the_expected = shares_of_the_best(100, AS_SHIPPED, 0.0)
    print(f"of the best policy: explore {share:.3f}, at the price of the expected plan {at_the_expected:.3f}")  # noqa: T201
    assert share >= SHARE
