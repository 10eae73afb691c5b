"""The replay buffer: visits in the order they were made; states are rebuilt from it when they are sampled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.learning.settings import N_INPUTS, History
from cryoscout.learning.states import (
    RouteStates,
    describe,
    empty_states,
    look_into,
    n_candidates,
    start_route,
    visit,
)
from cryoscout.learning.sum_tree import SumTree
from cryoscout.learning.tables import RouteTables


class Visits(NamedTuple):
    """Rings of visits, one per environment, (E, C)."""

    hole: NDArray[np.int32]
    good: NDArray[np.float32]
    reward: NDArray[np.float32]
    place: NDArray[np.int32]  # how many visits of the same route came before
    start_hole: NDArray[np.int32]
    start_good: NDArray[np.float32]
    session: NDArray[np.int32]
    ended: NDArray[np.uint8]  # 0 the route went on, 1 cut off by its budget, 2 nothing was left

    @property
    def n_bytes(self) -> int:
        """Memory of all rings, bytes."""
        return sum(column.nbytes for column in self)


class Batch(NamedTuple):
    """B transitions: the visit made, what it gave over n steps, and what could be visited afterwards."""

    chosen: NDArray[np.float32]  # (B, N_INPUTS) inputs of the visited hole
    others: NDArray[np.float32]  # (B, K, N_INPUTS) inputs of K candidates drawn from the same state
    reward: NDArray[np.float32]  # (B,) discounted sum over the steps taken
    discount: NDArray[np.float32]  # (B,) gamma to the number of steps; 0 where there is no future
    begin: NDArray[np.int64]  # (B + 1,) candidates of the state afterwards: rows begin[b] .. begin[b + 1]
    after: NDArray[np.float32]  # (R, N_INPUTS); a state without a future has no rows
    weight: NDArray[np.float32]  # (B,) importance weights, the largest 1
    where: NDArray[np.int64]  # (B,) places in the buffer, for new priorities


class VisitBuffer:
    """The last visits of E environments.

    Kept are 29 bytes per visit instead of its state; `sample` makes the routes again up to the sampled visits.
    A visit whose route has lost its beginning to newer visits is never sampled.
    """

    def __init__(
        self,
        tables: RouteTables,
        n_environments: int,
        capacity: int,
        history: History,
        *,
        priority_exponent: float | None = None,
    ) -> None:
        """capacity : visits in all     priority_exponent : None samples uniformly."""
        per_environment = -(-capacity // n_environments)
        if per_environment < 2:
            raise InputError(
                f"A replay buffer must hold 2 visits per environment or more. Got {capacity} visits for "
                f"{n_environments} environments instead."
            )
        shape = (n_environments, per_environment)
        self.visits = Visits(
            hole=np.zeros(shape, dtype=np.int32),
            good=np.zeros(shape, dtype=np.float32),
            reward=np.zeros(shape, dtype=np.float32),
            place=np.zeros(shape, dtype=np.int32),
            start_hole=np.zeros(shape, dtype=np.int32),
            start_good=np.zeros(shape, dtype=np.float32),
            session=np.zeros(shape, dtype=np.int32),
            ended=np.zeros(shape, dtype=np.uint8),
        )
        self.added = np.zeros(n_environments, dtype=np.int64)  # visits ever made in each environment
        self.priorities = None if priority_exponent is None else SumTree(shape[0] * shape[1])
        self.priority_exponent = priority_exponent or 0.0
        self._largest_priority = 1.0
        self._tables = tables
        self._own_past = history == "candidate"
        self._scratch: RouteStates | None = None

    @property
    def per_environment(self) -> int:
        """Visits kept of each environment."""
        return int(self.visits.hole.shape[1])

    def __len__(self) -> int:
        return int(np.minimum(self.added, self.per_environment).sum())

    def add(
        self,
        holes: NDArray[np.int64],
        good: NDArray[np.float32],
        reward: NDArray[np.float32],
        place: NDArray[np.int64],
        start_hole: NDArray[np.int64],
        start_good: NDArray[np.float32],
        session: NDArray[np.int64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
    ) -> None:
        """Add one visit of every environment, (E,) each."""
        rows, at = np.arange(len(self.added)), self.added % self.per_environment
        columns: dict[str, NDArray[Any]] = self.visits._asdict()
        for column, value in zip(
            columns.values(),
            (holes, good, reward, place, start_hole, start_good, session,
             np.where(terminated, 2, np.where(truncated, 1, 0))),
            strict=True,
        ):  # fmt: skip
            column[rows, at] = value
        self.added += 1
        if self.priorities is not None:
            self.priorities.set(rows * self.per_environment + at, np.full(len(rows), self._largest_priority))

    def sample(
        self,
        batch_size: int,
        rng: np.random.Generator,
        *,
        gamma: float,
        n_step: int = 1,
        n_others: int = 0,
        bootstrap_at_budget: bool = True,
        importance_exponent: float = 0.0,
    ) -> Batch:
        """Transitions drawn with replacement, uniformly or by priority."""
        where = self._draw(batch_size, rng)
        if self._scratch is None or self._scratch.n_routes < batch_size:
            self._scratch = empty_states(self._tables, batch_size)
        chosen = np.empty((batch_size, N_INPUTS), dtype=np.float32)
        others = np.empty((batch_size, n_others, N_INPUTS), dtype=np.float32)
        reward = np.empty(batch_size, dtype=np.float32)
        discount = np.empty(batch_size, dtype=np.float32)
        begin = np.zeros(batch_size + 1, dtype=np.int64)
        _rebuild(
            self._tables, self._scratch, self.visits, self.added, where, rng.random((batch_size, n_others)),
            self._own_past, gamma, n_step, bootstrap_at_budget, chosen, others, reward, discount, begin,
        )  # fmt: skip
        after = np.empty((int(begin[-1]), N_INPUTS), dtype=np.float32)
        _look_after(self._tables, self._scratch, self._own_past, begin, after, np.empty(len(after), np.int64))
        return Batch(
            chosen, others, reward, discount, begin, after, self._weights(where, importance_exponent), where
        )

    def update_priorities(self, where: NDArray[np.int64], errors: NDArray[np.float32]) -> None:
        """Set priorities from absolute temporal-difference errors, (B,)."""
        if self.priorities is None:
            return
        priority = (np.abs(errors).astype(np.float64) + 1e-6) ** self.priority_exponent
        self._largest_priority = max(self._largest_priority, float(priority.max()))
        self.priorities.set(where, priority)

    def _draw(self, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Places whose route still has its beginning in the buffer, (batch_size,)."""
        if len(self) == 0:
            raise InputError(
                "A replay buffer must hold a visit before it is sampled. Got an empty one instead."
            )
        found: list[NDArray[np.int64]] = []
        missing = batch_size
        while missing > 0:
            if self.priorities is None:
                kept = np.minimum(self.added, self.per_environment)
                row = np.searchsorted(np.cumsum(kept), rng.integers(0, kept.sum(), missing), side="right")
                where = row * self.per_environment + rng.integers(0, kept[row])
            else:
                where = self.priorities.sample(rng.random(missing))
            row, at = np.divmod(where, self.per_environment)
            age = (self.added[row] - 1 - at) % self.per_environment  # 0 = newest
            whole = age + self.visits.place[row, at] < np.minimum(self.added[row], self.per_environment)
            found.append(where[whole])
            missing -= int(whole.sum())
            if missing == batch_size and not self._holds_a_whole_route():
                raise InputError(
                    f"A replay buffer must hold whole routes. Got routes longer than the {self.per_environment} visits "
                    "it keeps of each environment instead. Remedy: a larger buffer, or fewer environments."
                )
        return np.concatenate(found)

    def _holds_a_whole_route(self) -> bool:
        """Whether the newest visit of any environment still has its route's beginning: then one can be drawn."""
        at = (self.added - 1) % self.per_environment
        newest = self.visits.place[np.arange(len(at)), at]
        return bool((newest < np.minimum(self.added, self.per_environment)).any())

    def _weights(self, where: NDArray[np.int64], exponent: float) -> NDArray[np.float32]:
        if self.priorities is None:
            return np.ones(len(where), dtype=np.float32)
        chance = self.priorities.values(where) / self.priorities.total
        weight = (len(self) * np.maximum(chance, 1e-12)) ** -exponent
        return np.asarray(weight / weight.max(), dtype=np.float32)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything needed to go on, as arrays by name."""
        arrays: dict[str, NDArray[np.generic]] = {
            f"visits.{name}": column for name, column in self.visits._asdict().items()
        }
        arrays["added"] = self.added
        if self.priorities is not None:
            arrays["priorities"] = self.priorities.leaves()
            arrays["largest_priority"] = np.array([self._largest_priority])
        return arrays

    def load_state(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Go on from what `state` gave."""
        for name, column in self.visits._asdict().items():
            column[...] = arrays[f"visits.{name}"]
        self.added[...] = arrays["added"]
        if self.priorities is not None:
            leaves = arrays["priorities"].astype(np.float64)
            self.priorities.set(np.arange(len(leaves)), leaves)
            self._largest_priority = float(arrays["largest_priority"][0])


@nb.njit(cache=True)
def _rebuild(
    tables: RouteTables,
    states: RouteStates,
    visits: Visits,
    added: NDArray[np.int64],
    where: NDArray[np.int64],
    draws: NDArray[np.float64],
    own_past: bool,
    gamma: float,
    n_step: int,
    bootstrap_at_budget: bool,
    chosen: NDArray[np.float32],
    others: NDArray[np.float32],
    reward: NDArray[np.float32],
    discount: NDArray[np.float32],
    begin: NDArray[np.int64],
) -> None:
    """Make each sampled route again up to its visit, describe that visit, go on n steps, count what is left."""
    capacity = visits.hole.shape[1]
    for b in range(len(where)):
        env, at = where[b] // capacity, where[b] % capacity
        start_route(tables, states, b, visits.session[env, at])
        visit(tables, states, b, visits.start_hole[env, at], visits.start_good[env, at])
        for back in range(visits.place[env, at], 0, -1):
            earlier = (at - back) % capacity
            visit(tables, states, b, visits.hole[env, earlier], visits.good[env, earlier])
        describe(tables, states, b, visits.hole[env, at], own_past, chosen, b)
        _describe_others(tables, states, b, own_past, draws, others)
        age = (added[env] - 1 - at) % capacity
        total, factor, ended = 0.0, 1.0, 0
        for step in range(n_step):
            now = (at + step) % capacity
            visit(tables, states, b, visits.hole[env, now], visits.good[env, now])
            total += factor * visits.reward[env, now]
            factor *= gamma
            ended = visits.ended[env, now]
            if ended != 0 or step == age:
                break
        reward[b] = total
        has_future = ended == 0 or (ended == 1 and bootstrap_at_budget)
        discount[b] = factor if has_future else 0.0
        begin[b + 1] = begin[b] + (n_candidates(tables, states, b) if has_future else 0)


@nb.njit(cache=True)
def _describe_others(
    tables: RouteTables,
    states: RouteStates,
    b: int,
    own_past: bool,
    draws: NDArray[np.float64],
    others: NDArray[np.float32],
) -> None:
    """Describe candidates of the same state drawn with replacement, one per draw."""
    if draws.shape[1] == 0:
        return
    session = states.session[b]
    queues = tables.queue_begin[session]
    n = tables.queue_begin[session + 1] - queues
    live = np.empty(n, dtype=np.int64)
    count = 0
    for queue in range(n):
        if states.left[b, queue] > 0:
            live[count] = queue
            count += 1
    for k in range(draws.shape[1]):
        queue = live[int(draws[b, k] * count)]
        hole = tables.members[tables.members_begin[queues + queue] + states.next_member[b, queue]]
        describe(tables, states, b, hole, own_past, others[b], k)


@nb.njit(cache=True)
def _look_after(
    tables: RouteTables,
    states: RouteStates,
    own_past: bool,
    begin: NDArray[np.int64],
    rows: NDArray[np.float32],
    holes: NDArray[np.int64],
) -> None:
    for b in range(len(begin) - 1):
        if begin[b + 1] > begin[b]:
            look_into(tables, states, b, own_past, rows, holes, begin[b])
