"""The papers' offline path planning: the best path to every hole, extended visit by visit."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numba import njit

from cryoscout.core.errors import InputError
from cryoscout.core.ties import sort_together
from cryoscout.routing.policies.fixed_order import FixedOrder, free_holes, predicted_good
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.reward import reward_named

MOST_HOLES = 20_000
"""More would need gigabytes for the visited sets of the paths."""

UNITS = 10_000
"""Rewards and minutes are whole numbers of 1/UNITS inside, so that ties are exact."""


class Offline(FixedOrder):
    """Plans one whole path on predicted labels and follows it.

    After k visits it keeps for every hole the best path of k visits that ends there, and extends each to
    every hole it has not visited, within the budget (one visit may cross it where a crossing visit counts).
    The plan is the best path of any length. Best: most shaped reward (tiers `cryorl` on hard labels), then
    fewest minutes, then the lower index of the hole before. As in the paper each path is kept for its end
    alone, so this is a heuristic: the visited holes are not part of the state.

    Cost for n holes and K visits: at most O(K n^2) time, in practice about O(K n log n) since the best path
    to extend is found near the top of a list sorted once per visit; O(n^2 / 8 + K n) bytes.
    Source: CryoRL, section 5.2 and Table 2 (there with reference to Sutton and Barto, 2018): 44.3 / 84.6 /
    121.4 / 166.6 good in 120 / 240 / 360 / 480 min on Y1 validation, "prohibitively costly in computation".
    docs/results/cryorl-table2.md has what this one finds there.
    """

    name: ClassVar[str] = "offline"
    drops_crossing: ClassVar[bool] = False

    def whole_route(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> list[int]:
        """The whole route; nothing is random. Raises InputError beyond 20,000 holes."""
        return best_path(problem, start_hole)


def best_path(problem: RoutingProblem, start_hole: int) -> list[int]:
    """The path of `Offline`, holes in order of visit. start_hole : index, already imaged, or NOWHERE."""
    holes = np.flatnonzero(free_holes(problem, start_hole))
    if len(holes) > MOST_HOLES:
        raise InputError(
            f"Offline planning must have at most {MOST_HOLES} holes. Got {len(holes)} instead. "
            "Remedy: plan with expected or index, or eliminate holes first."
        )
    if len(holes) == 0:
        return []
    tiers_min = problem.time_model.tiers_min(problem.shots)
    # More minutes than every visit at the dearest tier change nothing, and must not overflow.
    most_min = problem.n_holes * float(tiers_min[3])
    minutes = min(problem.budget_min - problem.time_model.setup_min, most_min)
    place = np.column_stack(
        [problem.patch_of_hole[holes], problem.square_of_hole[holes], problem.grid_of_hole[holes]]
    ).astype(np.int64)
    from_start = np.array(problem.place_of(start_hole), dtype=np.int64)
    path = _best_path(
        place,
        from_start,
        predicted_good(problem)[holes],
        np.rint(tiers_min * UNITS).astype(np.int64),
        np.rint(reward_named("cryorl", tiers_min).tier_value * UNITS).astype(np.int64),
        int(np.floor(minutes * UNITS + 0.5)),
        problem.crossing == "count",
        min(len(holes), max(int(minutes / tiers_min[0]) + 2, 1)),
    )
    return [int(hole) for hole in holes[path]]


@njit(cache=True)
def _tier(a, b):  # type: ignore[no-untyped-def]
    """Tier of a visit between two places [patch, square, grid]."""
    for level in range(3):
        if a[level] == b[level]:
            return level
    return 3


@njit(cache=True)
def _range_starts(group, starts):  # type: ignore[no-untyped-def]
    """Write the first index of the run of equal numbers that each index lies in; `group` is sorted."""
    for i in range(len(group)):
        starts[i] = starts[i - 1] if i > 0 and group[i] == group[i - 1] else i


@njit(cache=True)
def _rank(reward, minutes, starts, ranked, filled):  # type: ignore[no-untyped-def]
    """Paths best first: over all holes in ranked[3], within patch, square and grid in ranked[0..2].

    Paths that do not exist have reward -1 and are left out; returns how many exist, and `filled[level,
    start]` how many of them end in the run that begins at `start`.
    """
    n, first = len(reward), np.int64(0)
    order, spare_order = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    key, spare = np.empty(n), np.empty(n)
    for i in range(n):
        order[i], key[i] = i, minutes[i]
    sort_together(key, order, spare, spare_order, first, n)
    for i in range(n):
        key[i] = -reward[order[i]]
    sort_together(key, order, spare, spare_order, first, n)
    filled[:] = 0
    n_paths = 0
    for i in range(n):
        end = order[i]
        if reward[end] < 0:
            break
        ranked[3, n_paths] = end
        n_paths += 1
        for level in range(3):
            start = starts[level, end]
            ranked[level, start + filled[level, start]] = end
            filled[level, start] += 1
    return n_paths


@njit(cache=True)
def _visited(bits, path_end, hole):  # type: ignore[no-untyped-def]
    return (bits[path_end, hole >> 6] >> np.uint64(hole & 63)) & np.uint64(1)


@njit(cache=True)
def _best_before(  # type: ignore[no-untyped-def]
    hole, gain, place, reward, minutes, bits, tier_min, budget, crossing, ranked, starts, filled, n_paths
):
    """The path to extend to `hole`: most reward, then fewest minutes, then lowest end; -1 if none can."""
    best, best_reward, best_minutes = -1, -1, 0
    for tier in range(4):
        first = 0 if tier == 3 else starts[tier, hole]
        n_candidates = n_paths if tier == 3 else filled[tier, first]
        for k in range(first, first + n_candidates):
            end = ranked[tier, k]
            then_reward = reward[end] + gain[tier]
            if then_reward < best_reward:
                break
            then_minutes = minutes[end] + tier_min[tier]
            if minutes[end] > budget or (then_minutes > budget and not crossing):
                continue
            if (tier > 0 and place[end, tier - 1] == place[hole, tier - 1]) or _visited(bits, end, hole):
                continue
            if then_reward > best_reward or (
                then_minutes < best_minutes or (then_minutes == best_minutes and end < best)
            ):
                best, best_reward, best_minutes = end, then_reward, then_minutes
            break
    return best, best_reward, best_minutes


@njit(cache=True)
def _best_path(  # type: ignore[no-untyped-def]
    place, from_start, good, tier_min, tier_value, budget, crossing, most_visits
):
    n = len(good)
    starts = np.empty((3, n), dtype=np.int64)
    for level in range(3):
        _range_starts(place[:, level], starts[level])
    ranked, filled = np.empty((4, n), dtype=np.int64), np.zeros((3, n), dtype=np.int64)
    reward, minutes = np.full(n, -1), np.zeros(n, dtype=np.int64)
    next_reward, next_minutes = reward.copy(), minutes.copy()
    bits = np.zeros((n, (n + 63) >> 6), dtype=np.uint64)
    next_bits = bits.copy()
    before = np.full((most_visits + 1, n), -1, dtype=np.int32)
    no_gain = np.zeros(4, dtype=np.int64)
    for hole in range(n):
        tier = _tier(from_start, place[hole])
        if budget >= 0 and (tier_min[tier] <= budget or crossing):
            reward[hole] = tier_value[tier] if good[hole] else 0
            minutes[hole] = tier_min[tier]
            bits[hole, hole >> 6] |= np.uint64(1) << np.uint64(hole & 63)
    best_reward, best_minutes, best_visits, best_end = 0, 0, 0, -1
    for visits in range(1, most_visits + 1):
        n_paths = _rank(reward, minutes, starts, ranked, filled)
        if n_paths == 0:
            break
        top = ranked[3, 0]
        if reward[top] > best_reward or (reward[top] == best_reward and minutes[top] < best_minutes):
            best_reward, best_minutes, best_visits, best_end = reward[top], minutes[top], visits, top
        if visits == most_visits:
            break
        for hole in range(n):
            end, next_reward[hole], next_minutes[hole] = _best_before(
                hole, tier_value if good[hole] else no_gain, place, reward, minutes, bits, tier_min, budget,
                crossing, ranked, starts, filled, n_paths,
            )  # fmt: skip
            if end >= 0:
                before[visits + 1, hole] = end
                for word in range(bits.shape[1]):
                    next_bits[hole, word] = bits[end, word]
                next_bits[hole, hole >> 6] |= np.uint64(1) << np.uint64(hole & 63)
        reward, next_reward = next_reward, reward
        minutes, next_minutes = next_minutes, minutes
        bits, next_bits = next_bits, bits
    path = np.empty(best_visits, dtype=np.int64)
    end = best_end
    for visits in range(best_visits, 0, -1):
        path[visits - 1] = end
        end = before[visits, end]
    return path
