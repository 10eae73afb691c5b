"""The best policy of a tiny tree with looks, exactly: dynamic programming over what is believed.

The prior is that of `belief/unseen.py` with two points in place of each normal term: of an unseen patch the mean logit
is mean + square term + patch term, its holes lie at fixed distances around it, and its effect on results is a point.
A look at a patch shows its square's term (no two sums are equal), each result moves the odds of the patch's effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from scipy.special import expit, ndtri

from cryoscout.belief.effects import EffectVariances, marginal_probability
from cryoscout.belief.unseen import UnseenPrior
from cryoscout.core.hole_tree import NOWHERE, HoleTree
from cryoscout.routing.looking import World, replay_looking
from cryoscout.routing.policies.base import Policy
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth
from cryoscout.routing.time_model import TimeModel

STEP_MIN = 0.5
SIGNS = (-1.0, 1.0)


@dataclass(frozen=True)
class TinyTree:
    """Squares of one loaded grid, all alike before the first look; every number of the prior is known."""

    squares: int
    patches: int  # of each square
    holes: int  # of each patch
    mean: float
    square_sd: float
    patch_sd: float
    within_sd: float
    effect_sd: float
    time_model: TimeModel
    budget_min: float

    @property
    def apart(self) -> np.ndarray:
        """(holes,) logits of the holes around the mean of their patch, the best first."""
        return self.within_sd * -ndtri((np.arange(self.holes) + 0.5) / self.holes)

    def level(self, shared: int, own: int) -> float:
        """Mean logit of a patch with these terms."""
        return self.mean + SIGNS[shared] * self.square_sd + SIGNS[own] * self.patch_sd

    @property
    def prior(self) -> UnseenPrior:
        """The same as the belief has it."""
        return UnseenPrior(
            mean=self.mean, mean_variance=0.0, grid=0.0, square=self.square_sd**2, patch=self.patch_sd**2,
            within=self.within_sd**2, holes_per_patch=self.holes, patches_per_square=self.patches,
            counts_weigh=1e9, spread_weighs=1e9,
        )  # fmt: skip

    def drawn(self, seed: list[int], flipped: bool = False) -> tuple[World, Truth, np.ndarray]:
        """One truth and the true chance of every hole; nothing is looked at, and the grid is loaded.

        flipped : every term has the other sign, so that the two of a seed are good and bad by turns
        """
        rng = np.random.default_rng(seed)
        n_patches = self.squares * self.patches
        square_of_patch = np.repeat(np.arange(self.squares), self.patches).astype(np.int32)
        shared, own = rng.integers(0, 2, self.squares) ^ flipped, rng.integers(0, 2, n_patches) ^ flipped
        level = np.array(
            [self.level(shared[square_of_patch[patch]], own[patch]) for patch in range(n_patches)]
        )
        location = (level[:, None] + self.apart).ravel()
        effect = self.effect_sd * np.array(SIGNS)[rng.integers(0, 2, n_patches) ^ flipped]
        chance = expit(location + np.repeat(effect, self.holes))
        good = (rng.random(len(location)) < chance).astype(np.float64)
        tree = HoleTree(
            np.repeat(np.arange(n_patches), self.holes).astype(np.int32),
            square_of_patch,
            np.zeros(self.squares, dtype=np.int32),
            loaded_grid=0,
        )
        effects = EffectVariances(patch=self.effect_sd**2, square=0.0, grid=0.0)
        problem = RoutingProblem(
            tree,
            marginal_probability(location, np.full(len(location), effects.total)),
            self.budget_min,
            time_model=self.time_model,
            effects=effects,
            unseen_prior=self.prior,
        )
        return World.hidden(problem), Truth(good, np.ones(len(location), dtype=bool)), chance

    def found(self, policy: Policy, pairs: int, seed: int) -> float:
        """Expected good micrographs of a policy: mean over pairs of truths of the true chances of what it images."""
        total = 0.0
        for number in range(pairs):
            for flipped in (False, True):
                world, truth, chance = self.drawn([seed, number], flipped)
                (result,) = replay_looking(world, truth, policy, [NOWHERE], seed)
                total += float(chance[result.route].sum())
        return total / (2 * pairs)


def random_tiny_tree(rng: np.random.Generator) -> TinyTree:
    """At most 12 holes; minutes in whole steps."""
    shapes = [
        (2, 1, 3),
        (2, 2, 2),
        (3, 1, 3),
        (3, 1, 4),
        (3, 2, 2),
        (4, 1, 3),
        (2, 2, 3),
        (4, 1, 2),
        (5, 1, 2),
    ]
    squares, patches, holes = shapes[rng.integers(len(shapes))]
    same = STEP_MIN * float(rng.integers(2, 5))
    patch = same + STEP_MIN * float(rng.integers(0, 4))
    square = patch + STEP_MIN * float(rng.integers(0, 4))
    model = TimeModel(
        name="tiny", same_patch_min=same, new_patch_min=patch, new_square_min=square, new_grid_min=square,
        patch_look_min=STEP_MIN * float(rng.integers(1, 5)), square_look_min=STEP_MIN * float(rng.integers(1, 7)),
    )  # fmt: skip
    visits = (3.0, 5.0) if squares * patches > 5 else (4.0, 8.0)  # what a few seconds of programming solve
    return TinyTree(
        squares, patches, holes,
        mean=float(rng.uniform(-2.0, 0.5)), square_sd=float(rng.uniform(0.5, 2.0)),
        patch_sd=float(rng.uniform(0.3, 1.5)) + 0.01, within_sd=float(rng.uniform(0.2, 1.5)),
        effect_sd=float(rng.uniform(0.0, 0.8)), time_model=model,
        budget_min=STEP_MIN * round((same * rng.uniform(*visits) + 2.0) / STEP_MIN),
    )  # fmt: skip


def best_expected(tiny: TinyTree) -> float:
    """Expected good micrographs of the best policy there is: every look and image tried on every belief.

    A patch is (here, shared, own, results of its holes: -1 none, 0 bad, 1 good), own -1 before its look; a square is
    (here, looked, its patches). Squares and patches that are alike are one state.
    """
    model, apart = tiny.time_model, tiny.apart
    tiers = model.tiers_min()
    patch_look, square_look = model.patch_look_by_tier_min(), model.square_look_by_tier_min()

    def steps(minutes: float) -> int:
        return round(minutes / STEP_MIN)

    def chance(shared: int, own: int, results: tuple[int, ...], hole: int) -> float:
        location = tiny.level(shared, own) + apart
        odds = np.array([0.5, 0.5])
        for at, result in enumerate(results):
            if result >= 0:
                p = expit(location[at] + tiny.effect_sd * np.array(SIGNS))
                odds = odds * (p if result else 1.0 - p)
        odds = odds / odds.sum()
        return float(odds @ expit(location[hole] + tiny.effect_sd * np.array(SIGNS)))

    chance = lru_cache(maxsize=None)(chance)

    def moved(squares, square: int, patches):
        """The stage goes to this square, which now has these patches; canonical."""
        new = []
        for at, (_, looked, old) in enumerate(squares):
            if at == square:
                new.append((1, True, tuple(sorted(patches))))
            else:
                new.append((0, looked, tuple(sorted((0, *patch[1:]) for patch in old))))
        return tuple(sorted(new))

    @cache
    def value(left: int, squares) -> float:
        best = 0.0
        tried = set()
        for at, one in enumerate(squares):
            if one in tried:
                continue
            tried.add(one)
            here, looked, patches = one
            tier_of_square = 1 if here else 2
            away = [(0, *patch[1:]) for patch in patches]
            if not looked:
                after = left - steps(square_look[tier_of_square])
                if after > 0:
                    shown = [(0, -1, -1, (-1,) * tiny.holes)] * tiny.patches
                    best = max(best, value(after, moved(squares, at, shown)))
                continue
            known = next((patch[1] for patch in patches if patch[1] >= 0), -1)
            for number, (is_here, shared, own, results) in enumerate(patches):
                tier = 0 if is_here else tier_of_square
                others = away[:number] + away[number + 1 :]
                if own < 0:
                    after = left - steps(patch_look[tier])
                    if after <= 0:
                        continue
                    cases = [(s, o) for s in ((known,) if known >= 0 else (0, 1)) for o in (0, 1)]
                    total = sum(
                        value(after, moved(squares, at, [*others, (1, s, o, results)])) for s, o in cases
                    )
                    best = max(best, total / len(cases))
                    continue
                after = left - steps(tiers[tier])
                if after < 0:
                    continue
                hole = next((at for at, result in enumerate(results) if result < 0), -1)
                if hole >= 0:  # the best first: they share the patch's effect
                    p = chance(shared, own, results, hole)
                    total = 0.0
                    for result, weight in ((1, p), (0, 1.0 - p)):
                        then = (*results[:hole], result, *results[hole + 1 :])
                        total += weight * (
                            result + value(after, moved(squares, at, [*others, (1, shared, own, then)]))
                        )
                    best = max(best, total)
        return best

    nothing = tuple((0, False, ()) for _ in range(tiny.squares))
    return value(steps(tiny.budget_min), nothing)
