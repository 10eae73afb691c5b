"""The time price of a plan, and routes simulated with it: fast enough to learn from, and to look ahead with.

At a price of lambda good micrographs per minute a hole is worth its p_good less the minutes it takes, and a patch,
square or grid the sum of its parts less its entry. The price at which the plan just fills the time left is the
Lagrange multiplier of the tree knapsack; its plan differs from the exact one by at most one part. Within a patch
holes keep their order whatever is learned (they share the patch's effect), so a plan is a count per patch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscout.belief.effects import location_of
from cryoscout.belief.hole_results import site_of, tilted
from cryoscout.belief.tree_gaussian import given_others, messages_up, update_path, with_evidence
from cryoscout.routing.problem import RoutingProblem

N_TERMS = 14
"""Terms a choice of the next patch can be learned from; see `choose_patch`."""

BISECTIONS = 14
_LOGISTIC_PROBIT = np.pi / 8.0


class PriceTree(NamedTuple):
    """A problem in the form the compiled routes use."""

    hole_begin: NDArray[np.int64]  # (P + 1,) holes of each patch
    order: NDArray[np.int64]  # (n,) holes, patch by patch, the surest first
    location: NDArray[np.float64]  # (n,) logit of a hole without effects, by hole
    patch_of_hole: NDArray[np.int32]  # (n,)
    square_of_patch: NDArray[np.int32]  # (P,)
    grid_of_square: NDArray[np.int32]  # (S,)
    variances: tuple[float, float, float, float]
    tiers_min: NDArray[np.float64]  # (4,)


def price_tree(problem: RoutingProblem) -> PriceTree:
    """The tree of a problem with one shot per hole or more (shots count as one result)."""
    location = location_of(problem.p_good, problem.effects.total)
    holes = np.arange(problem.n_holes)
    order = np.lexsort((holes, -location, problem.patch_of_hole))
    counts = np.bincount(problem.patch_of_hole, minlength=len(problem.square_of_patch))
    return PriceTree(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        order.astype(np.int64),
        location,
        problem.patch_of_hole,
        problem.square_of_patch,
        problem.grid_of_square,
        problem.effects.as_tuple(),
        problem.time_model.tiers_min(problem.shots),
    )


@njit(cache=True)
def values_of(tree, mean, variance, out):  # type: ignore[no-untyped-def]
    """p_good of every hole given the effects' posterior, written to out, (n,)."""
    for patch in range(len(mean)):
        scale = math.sqrt(1.0 + _LOGISTIC_PROBIT * variance[patch])
        for i in range(tree.hole_begin[patch], tree.hole_begin[patch + 1]):
            hole = tree.order[i]
            out[hole] = 1.0 / (1.0 + math.exp(-(tree.location[hole] + mean[patch]) / scale))


@njit(cache=True)
def _plan_at(tree, values, free, here_patch, price, net_patch, net_square, net_grid, count):  # type: ignore[no-untyped-def]
    """Net worth of every part at a price and holes taken per patch; returns the minutes of the plan."""
    t0, t1, t2, t3 = tree.tiers_min[0], tree.tiers_min[1], tree.tiers_min[2], tree.tiers_min[3]
    here_square = tree.square_of_patch[here_patch] if here_patch >= 0 else -1
    here_grid = tree.grid_of_square[here_square] if here_patch >= 0 else -1
    net_square[:] = 0.0
    net_grid[:] = 0.0
    for patch in range(len(net_patch)):
        net, taken = 0.0, 0
        for i in range(tree.hole_begin[patch], tree.hole_begin[patch + 1]):
            hole = tree.order[i]
            if not free[hole]:
                continue
            worth = values[hole] - price * t0
            if worth <= 0.0:
                break
            net += worth
            taken += 1
        if patch != here_patch:
            net -= price * (t1 - t0)
        net_patch[patch] = net
        count[patch] = taken
        if net > 0.0:
            net_square[tree.square_of_patch[patch]] += net
    for square in range(len(net_square)):
        if square != here_square:
            net_square[square] -= price * (t2 - t1)
        if net_square[square] > 0.0:
            net_grid[tree.grid_of_square[square]] += net_square[square]
    for grid in range(len(net_grid)):
        if grid != here_grid:
            net_grid[grid] -= price * (t3 - t2)
    minutes = 0.0
    for grid in range(len(net_grid)):
        if net_grid[grid] > 0.0 and grid != here_grid:
            minutes += t3 - t2
    for square in range(len(net_square)):
        if net_square[square] > 0.0 and square != here_square and net_grid[tree.grid_of_square[square]] > 0.0:
            minutes += t2 - t1
    for patch in range(len(net_patch)):
        square = tree.square_of_patch[patch]
        if (
            net_patch[patch] > 0.0
            and net_square[square] > 0.0
            and net_grid[tree.grid_of_square[square]] > 0.0
        ):
            minutes += count[patch] * t0 + (0.0 if patch == here_patch else t1 - t0)
    return minutes


@njit(cache=True)
def price_of(tree, values, free, here_patch, left_min, net_patch, net_square, net_grid, count):  # type: ignore[no-untyped-def]
    """The highest price whose plan still fills the minutes left; the nets and counts are those at that price.

    That plan is too long by a part of the tree at most, which a route reaches last; one that fits could lack a whole
    grid where most of the time should go.
    """
    low, high = 0.0, 1.0 / tree.tiers_min[0]
    if _plan_at(tree, values, free, here_patch, 1e-9, net_patch, net_square, net_grid, count) <= left_min:
        return 0.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        minutes = _plan_at(tree, values, free, here_patch, middle, net_patch, net_square, net_grid, count)
        if minutes > left_min:
            low = middle
        else:
            high = middle
    _plan_at(tree, values, free, here_patch, low, net_patch, net_square, net_grid, count)
    return low


@njit(cache=True)
def _tier(tree, here_patch, patch):  # type: ignore[no-untyped-def]
    if here_patch < 0:
        return 3
    if here_patch == patch:
        return 0
    if tree.square_of_patch[here_patch] == tree.square_of_patch[patch]:
        return 1
    same = (
        tree.grid_of_square[tree.square_of_patch[here_patch]]
        == tree.grid_of_square[tree.square_of_patch[patch]]
    )
    return 2 if same else 3


@njit(cache=True)
def best_free(tree, free, patch):  # type: ignore[no-untyped-def]
    """The surest free hole of a patch, -1 where none is left."""
    for i in range(tree.hole_begin[patch], tree.hole_begin[patch + 1]):
        if free[tree.order[i]]:
            return tree.order[i]
    return -1


@njit(cache=True)
def _residual(terms, weights):  # type: ignore[no-untyped-def]
    """The small network: terms (N_TERMS,), weights (k, N_TERMS + 2): inner weights, their offset, outer weight."""
    total = 0.0
    for k in range(len(weights)):
        inner = weights[k, N_TERMS]
        for j in range(N_TERMS):
            inner += weights[k, j] * terms[j]
        total += weights[k, N_TERMS + 1] * math.tanh(inner)
    return total


@njit(cache=True)
def choose_patch(  # type: ignore[no-untyped-def]
    tree,
    values,
    free,
    here_patch,
    left_min,
    variance,
    n_seen,
    weights,
    net_patch,
    net_square,
    net_grid,
    count,
):
    """The patch to visit next, -1 where nothing is left.

    Without weights, (0, N_TERMS + 2), the plan's patches: what is open first, then the best gain per minute. With
    weights the network of `_residual` adds to that order's score.
    """
    price = price_of(tree, values, free, here_patch, left_min, net_patch, net_square, net_grid, count)
    best, best_score = -1, -np.inf
    terms = np.empty(N_TERMS)
    t0, t1 = tree.tiers_min[0], tree.tiers_min[1]
    for patch in range(len(net_patch)):
        hole = best_free(tree, free, patch)
        if hole < 0:
            continue
        tier = _tier(tree, here_patch, patch)
        minutes = tree.tiers_min[tier]
        square = tree.square_of_patch[patch]
        grid = tree.grid_of_square[square]
        planned = net_patch[patch] > 0.0 and net_square[square] > 0.0 and net_grid[grid] > 0.0
        if planned:
            gain = net_patch[patch] + price * (count[patch] * t0 + (t1 - t0 if tier > 0 else 0.0))
            whole = net_grid[grid] if tier == 3 else net_square[square] if tier == 2 else 0.0
            score = 3.0 * (3 - tier) + gain / (count[patch] * t0 + minutes - t0) + 0.01 * whole
        else:
            score = values[hole] / minutes - 10.0
        if len(weights) > 0:
            terms[0] = 1.0 if planned else 0.0
            terms[1] = values[hole]
            terms[2] = values[hole] - price * minutes
            terms[3] = net_patch[patch] / 10.0
            terms[4] = net_square[square] / 20.0
            terms[5] = net_grid[grid] / 50.0
            for of_tier in range(3):
                terms[6 + of_tier] = 1.0 if tier == of_tier else 0.0
            terms[9] = math.sqrt(variance[patch])
            terms[10] = math.log1p(float(count[patch])) / 3.0
            terms[11] = price * t0
            terms[12] = left_min / 480.0
            terms[13] = math.log1p(float(n_seen[patch])) / 3.0
            score += _residual(terms, weights)
        if score > best_score:
            best, best_score = patch, score
    return best


@njit(cache=True)
def learn_outcome(tree, evidence, messages, patch, location, good):  # type: ignore[no-untyped-def]
    """Take one outcome into the evidence, (P, 2), by moment matching, in place (no second look at earlier ones)."""
    mean, variance = given_others(patch, tree.square_of_patch, tree.grid_of_square, tree.variances, messages)
    mean, variance = with_evidence(mean, variance, evidence[patch])
    if variance <= 0.0:
        return
    _, new_mean, new_variance, _ = tilted(
        mean, variance, np.full(1, location), np.full(1, good), np.full(1, 1.0 - good)
    )
    precision, shift = site_of(mean, variance, new_mean, new_variance)
    evidence[patch, 0] += precision
    evidence[patch, 1] += shift
    update_path(patch, evidence, tree.square_of_patch, tree.grid_of_square, tree.variances, messages)


@njit(cache=True)
def marginals(tree, evidence, messages, mean, variance):  # type: ignore[no-untyped-def]
    """Posterior mean and variance of every patch's effect, written to mean and variance, (P,)."""
    for patch in range(len(evidence)):
        m, v = given_others(patch, tree.square_of_patch, tree.grid_of_square, tree.variances, messages)
        mean[patch], variance[patch] = with_evidence(m, v, evidence[patch])


@njit(cache=True)
def simulate_route(  # type: ignore[no-untyped-def]
    tree, good, free, evidence, n_seen, here, left_min, weights, first_patch, horizon_min
):
    """Good micrographs of one route with these outcomes, (n,), from a state; arguments are not changed.

    first_patch : the patch of the first visit, -1 for the policy's own choice
    horizon_min : minutes after which the rest is valued by its plan instead of simulated
    The visit that crosses the budget counts.
    """
    free, evidence, n_seen = free.copy(), evidence.copy(), n_seen.copy()
    n_patches = len(evidence)
    messages = messages_up(evidence, tree.square_of_patch, tree.grid_of_square, tree.variances)
    mean, variance, values = np.empty(n_patches), np.empty(n_patches), np.empty(len(good))
    net_patch, count = np.empty(n_patches), np.empty(n_patches, dtype=np.int64)
    net_square, net_grid = np.empty(len(tree.grid_of_square)), np.empty(tree.grid_of_square[-1] + 1)
    here_patch = tree.patch_of_hole[here] if here >= 0 else -1
    found, used = 0.0, 0.0
    while used <= left_min:
        marginals(tree, evidence, messages, mean, variance)
        values_of(tree, mean, variance, values)
        if used > horizon_min:
            price = price_of(
                tree, values, free, here_patch, left_min - used, net_patch, net_square, net_grid, count
            )
            worth = price * (left_min - used)
            for grid in range(len(net_grid)):
                worth += max(net_grid[grid], 0.0)
            return found + worth
        patch = first_patch
        if patch < 0:
            patch = choose_patch(
                tree, values, free, here_patch, left_min - used, variance, n_seen, weights,
                net_patch, net_square, net_grid, count,
            )  # fmt: skip
        first_patch = -1
        if patch < 0:
            break
        hole = best_free(tree, free, patch)
        if hole < 0:
            continue
        used += tree.tiers_min[_tier(tree, here_patch, patch)]
        free[hole] = False
        found += good[hole]
        n_seen[patch] += 1
        learn_outcome(tree, evidence, messages, patch, tree.location[hole], good[hole])
        here_patch = patch
    return found
