"""Why labels of a route are local (SSL2-RL, section 5): the inconsistency regulariser, and Lemma 1 as it holds.

A route visits every state once; its first N_C states are labelled positive. Parts are neighbourhoods: a partition of
the states into B parts. The proofs stand in docs/explanation/localization.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError

Parts = NDArray[np.int64]
"""(n,) part of each state, 0..B-1; no part is empty"""


def labels_of_route(route: NDArray[np.int64], n_positive: int) -> NDArray[np.bool_]:
    """(n,) whether each state is among the first `n_positive` of the route: the decision rule f_pi of section 5.

    route : (n,) states in the order of their visits, each once     n_positive : N_C, 1 to n - 1
    Raises InputError for a route that is none, and another N_C.
    """
    order = _check_route(route)
    if not 1 <= n_positive < len(order):
        raise InputError(
            f"N_C must be at least 1 and below {len(order)}, the number of states. Got {n_positive} instead."
        )
    positive = np.zeros(len(order), dtype=np.bool_)
    positive[order[:n_positive]] = True
    return positive


def mixed_parts(labels: NDArray[Any], part_of_state: Parts) -> NDArray[np.bool_]:
    """(B,) whether states of a part have different labels.

    labels : (n,) of any kind that can be compared
    Raises InputError for an empty part, and labels of another number than states.
    """
    parts = _check_parts(part_of_state, len(labels))
    kinds = np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1)
    first = np.zeros(int(parts.max()) + 1, dtype=np.int64)
    first[parts[::-1]] = kinds[::-1]
    mixed = np.zeros(len(first), dtype=np.bool_)
    mixed[parts[kinds != first[parts]]] = True
    return mixed


def inconsistency(
    labels: NDArray[Any], part_of_state: Parts, weights: NDArray[np.float64] | None = None
) -> float:
    """R_B: the chance that a state's neighbourhood holds another label than its own.

    R_B(f) = P(s : some s' of the part of s has f(s') != f(s)): the weight of the states in mixed parts over the whole.

    labels : (n,)     weights : (n,) of the states, 0 or more, not all 0; None: every state counts alike. Section 5 has
        half of the weight on the labelled states and half on the others
    `mixed_parts(labels, parts).mean()` is the same with every part counting alike.
    Raises InputError for an empty part, and weights that are not so.
    """
    mixed = mixed_parts(labels, part_of_state)
    w = _check_weights(weights, len(labels))
    return float(w[mixed[part_of_state]].sum() / w.sum())


@dataclass(frozen=True)
class Localization:
    """What Lemma 1 says of one route, one cut and one partition; see `localization`."""

    parts: int
    """B"""
    switches: int
    """Moves from one part to another: the movement cost, at unit cost of a switch"""
    mixed: int
    """Parts with both labels"""
    cut_inside_a_single_visit: bool
    """The cut falls between two states of a part that is visited once"""
    idle_returns: int
    """Returns to a part that mix nothing: of a part with r >= 2 visits r - 1, less one if it is mixed"""

    @property
    def most_mixed(self) -> int:
        """The bound: switches - (B - 1) + 1."""
        return self.switches - (self.parts - 1) + 1

    @property
    def is_tight(self) -> bool:
        """Whether the bound is reached: the cut is inside a single visit, and every return mixes its part.

        So every part is visited at most twice, and one that is visited twice has one visit before the cut and one
        after it. "At most twice" alone, as printed, is not enough.
        """
        return self.cut_inside_a_single_visit and self.idle_returns == 0


def localization(route: NDArray[np.int64], part_of_state: Parts, n_positive: int) -> Localization:
    """Switches of a route and the parts that its labels mix; mixed = switches - (B - 1) + [single] - idle returns.

    route, n_positive : as in `labels_of_route`
    Raises InputError for a route that is none, an empty part, another N_C.
    """
    positive = labels_of_route(route, n_positive)
    parts = _check_parts(part_of_state, len(route))
    along = parts[route]
    begins = np.flatnonzero(np.diff(along, prepend=-1))
    visits = np.bincount(along[begins])
    mixed = mixed_parts(positive, parts)
    cut_part = int(along[n_positive])
    inside = int(along[n_positive - 1]) == cut_part
    return Localization(
        parts=len(visits),
        switches=len(begins) - 1,
        mixed=int(mixed.sum()),
        cut_inside_a_single_visit=inside and int(visits[cut_part]) == 1,
        idle_returns=int((visits - 1 - mixed)[visits > 1].sum()),
    )


def inconsistency_bound(
    movement_cost: float,
    part_of_state: Parts,
    least_switch_cost: float,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """C_1 cost + C_2 >= R_B of every route of that cost and every N_C: Lemma 1 for costs that are not 1.

    C_1 = w / c and C_2 = (2 - B) w, with w the largest share of the weight in one part.

    movement_cost : sum of the costs of all moves     least_switch_cost : c, above 0; no move between parts costs less
    weights : as in `inconsistency`
    Raises InputError for an empty part, a least cost that is not above 0, and weights as `inconsistency`.
    """
    if not least_switch_cost > 0.0:
        raise InputError(f"The least cost of a switch must be above 0. Got {least_switch_cost} instead.")
    parts = _check_parts(part_of_state, len(part_of_state))
    inside = np.bincount(parts, weights=_check_weights(weights, len(parts)))
    largest = float(inside.max() / inside.sum())
    return largest * (movement_cost / least_switch_cost + 2.0 - len(inside))


def _check_weights(weights: NDArray[np.float64] | None, n: int) -> NDArray[np.float64]:
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (n,) or not (w >= 0.0).all() or not np.isfinite(w).all() or not w.sum() > 0.0:
        raise InputError(
            f"Weights must be {n} finite numbers of 0 or more, not all 0. Got {w.tolist()} instead."
        )
    return w


def _check_route(route: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.asarray(route, dtype=np.int64)
    if order.ndim != 1 or not np.array_equal(np.sort(order), np.arange(len(order))):
        raise InputError(f"A route must visit every state once. Got {order.tolist()} instead.")
    return order


def _check_parts(part_of_state: Parts, n: int) -> Parts:
    parts = np.asarray(part_of_state, dtype=np.int64)
    whole = parts.shape == (n,) and n > 0 and bool(parts.min() >= 0)
    if not whole or not np.bincount(parts).all():
        raise InputError(
            f"Parts must be one number for each of the {n} states, from 0 on, none of them empty. Got "
            f"{parts.tolist()} instead."
        )
    return parts
