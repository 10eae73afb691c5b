"""The replay buffer against a plain record of what was seen while acting."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_samples import PUBLISHED, even_session, random_session
from scipy.stats import chisquare

from cryoscout.core.errors import InputError
from cryoscout.learning.batch_env import BatchedRoutes, TrainingSession
from cryoscout.learning.settings import History, ViewSettings
from cryoscout.learning.transitions import Batch, VisitBuffer
from cryoscout.routing.replay import PseudoRewards
from examples import share


@dataclass
class Seen:
    """One visit as it happened."""

    inputs: np.ndarray  # (68,) of the visited hole
    choices: np.ndarray  # (K, 68) of every candidate
    after: np.ndarray  # (R, 68) candidates after the visit, before a restart
    reward: float
    ended: int  # 0 went on, 1 cut off by the budget, 2 nothing left
    place: int


class Recorder:
    """Random routes, written down whole beside the buffer."""

    def __init__(
        self, sessions: list[TrainingSession], view: ViewSettings, n_routes: int, capacity: int, seed: int,
        priority_exponent: float | None = None,
    ) -> None:  # fmt: skip
        self.rng = np.random.default_rng(seed)
        self.routes = BatchedRoutes(sessions, view, n_routes, self.rng)
        self.routes.reset_all()
        self.buffer = VisitBuffer(
            self.routes.tables, n_routes, capacity, view.history, priority_exponent=priority_exponent
        )
        self.record: list[list[Seen]] = [[] for _ in range(n_routes)]

    def act(self, n_steps: int) -> None:
        routes = self.routes
        for _ in range(n_steps):
            seen = routes.look()
            rows = np.array(
                [self.rng.integers(a, b) for a, b in zip(seen.begin[:-1], seen.begin[1:], strict=True)]
            )
            starts, session = routes.start_hole.copy(), routes.states.session.copy()
            start_good = routes.good[np.arange(len(starts)), starts]
            places = np.array([self._place(route) for route in range(len(rows))])
            step = routes.step(seen.holes[rows])
            self.buffer.add(
                seen.holes[rows], step.good, step.reward, places, starts, start_good, session,
                step.terminated, step.truncated,
            )  # fmt: skip
            after = routes.look()
            for route, row in enumerate(rows):
                ended = 2 if step.terminated[route] else int(step.truncated[route])
                self.record[route].append(
                    Seen(
                        seen.rows[row],
                        seen.rows[seen.begin[route] : seen.begin[route + 1]],
                        after.rows[after.begin[route] : after.begin[route + 1]],
                        float(step.reward[route]),
                        ended,
                        int(places[route]),
                    )
                )
                if ended:
                    routes.reset(route)

    def _place(self, route: int) -> int:
        record = self.record[route]
        return 0 if not record or record[-1].ended else record[-1].place + 1

    def at(self, where: int) -> tuple[int, int]:
        """(route, number of the visit in its record) of a place in the buffer."""
        route, at = divmod(int(where), self.buffer.per_environment)
        n = len(self.record[route])
        number = n - 1 - (n - 1 - at) % self.buffer.per_environment
        return route, number

    def expected(
        self, where: int, gamma: float, n_step: int, bootstrap: bool
    ) -> tuple[Seen, float, float, np.ndarray]:
        """(the visit, its reward over n steps, the discount, the candidates afterwards)."""
        route, first = self.at(where)
        total, steps = 0.0, 0
        for visit in self.record[route][first : first + n_step]:
            total += gamma**steps * visit.reward
            steps += 1
            if visit.ended:
                break
        future = visit.ended == 0 or (visit.ended == 1 and bootstrap)
        return (
            self.record[route][first],
            total,
            gamma**steps if future else 0.0,
            visit.after if future else visit.after[:0],
        )


def assert_batch_is_what_was_seen(
    recorder: Recorder, batch: Batch, gamma: float, n_step: int, bootstrap: bool
) -> None:
    for b, where in enumerate(batch.where):
        visit, reward, discount, after = recorder.expected(where, gamma, n_step, bootstrap)
        np.testing.assert_allclose(batch.chosen[b], visit.inputs, atol=2e-6)
        np.testing.assert_allclose(batch.after[batch.begin[b] : batch.begin[b + 1]], after, atol=2e-6)
        assert batch.reward[b] == pytest.approx(reward, abs=1e-5)
        assert batch.discount[b] == pytest.approx(discount, abs=1e-6)
        for other in batch.others[b]:
            assert np.isclose(visit.choices, other, atol=2e-6).all(axis=1).any()


def fractions(session: TrainingSession) -> PseudoRewards:
    labels = np.where(np.arange(session.problem.n_holes) % 3 == 0, session.truth.good, np.nan)
    return PseudoRewards.of(labels, session.problem.prior_p_good, session.problem.shots)


@settings(max_examples=share(40))
@given(
    seed=st.integers(0, 2**32 - 1),
    history=st.sampled_from(["visited", "candidate"]),
    candidates=st.sampled_from(["holes", "classes", "dominant"]),
    labels=st.sampled_from(["hard", "soft"]),
    n_step=st.sampled_from([1, 3, 20]),
    bootstrap=st.booleans(),
    budget_min=st.sampled_from([25.0, 1e6]),
    outcomes=st.sampled_from(["measured", "drawn", "pseudo"]),
)
def test_rebuilt_states_are_those_seen_when_acting(
    seed: int, history: History, candidates: str, labels: str, n_step: int, bootstrap: bool,
    budget_min: float, outcomes: str,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    sessions = [
        random_session(rng, int(n), budget_min=budget_min, share_allowed=0.8, share_imaged=0.1)
        for n in rng.integers(4, 12, 2)
    ]
    if outcomes == "drawn":
        sessions = [replace(session, draws=True) for session in sessions]
    elif outcomes == "pseudo":
        sessions = [replace(session, outcomes=fractions(session)) for session in sessions]
    view = ViewSettings(candidates=candidates, labels=labels, history=history)  # type: ignore[arg-type]
    recorder = Recorder(sessions, view, 3, 3 * 15, seed)
    gamma = 0.9
    for n_steps in (4, 13, 60):  # before and after the rings wrap around
        recorder.act(n_steps)
        batch = recorder.buffer.sample(
            40, recorder.rng, gamma=gamma, n_step=n_step, n_others=3, bootstrap_at_budget=bootstrap
        )
        assert_batch_is_what_was_seen(recorder, batch, gamma, n_step, bootstrap)
        assert (batch.weight == 1.0).all()


def test_a_route_that_lost_its_beginning_is_not_drawn_and_every_other_visit_is() -> None:
    recorder = Recorder([even_session()], PUBLISHED, 2, 2 * 40, 0)
    recorder.act(97)
    capacity = recorder.buffer.per_environment
    whole = set()
    for route in range(2):
        n = len(recorder.record[route])
        for number in range(n - capacity, n):
            if number - recorder.record[route][number].place >= n - capacity:
                whole.add(route * capacity + number % capacity)
    assert 0 < len(whole) < 2 * capacity
    drawn = recorder.buffer.sample(4000, recorder.rng, gamma=0.9).where
    assert set(drawn.tolist()) == whole
    counts = np.bincount(drawn, minlength=2 * capacity)[sorted(whole)]
    assert chisquare(counts).pvalue > 1e-3


def test_a_half_filled_buffer_draws_from_what_it_holds() -> None:
    recorder = Recorder([even_session()], PUBLISHED, 2, 2 * 500, 0)
    recorder.act(5)
    assert len(recorder.buffer) == 10
    drawn = recorder.buffer.sample(500, recorder.rng, gamma=0.9).where
    assert set(drawn.tolist()) == {0, 1, 2, 3, 4, 500, 501, 502, 503, 504}


@pytest.mark.parametrize("terminated", [True, False])
def test_how_a_route_ended_decides_whether_it_has_a_future(terminated: bool) -> None:
    session = even_session()
    buffer = VisitBuffer(
        BatchedRoutes([session], PUBLISHED, 1, np.random.default_rng(0)).tables, 1, 10, "visited"
    )
    one = np.ones(1, dtype=np.float32)
    zero = np.zeros(1, dtype=np.int64)
    buffer.add(zero + 1, one, one, zero, zero, one, zero, np.array([terminated]), np.array([True]))
    rng = np.random.default_rng(0)
    kept = buffer.sample(2, rng, gamma=0.9, bootstrap_at_budget=True)
    cut = buffer.sample(2, rng, gamma=0.9, bootstrap_at_budget=False)
    assert cut.discount.tolist() == [0.0, 0.0]
    assert len(cut.after) == 0
    assert (len(kept.after) > 0) is not terminated
    assert kept.discount.tolist() == pytest.approx([0.0, 0.0] if terminated else [0.9, 0.9])


def test_draws_are_in_proportion_to_priorities() -> None:
    recorder = Recorder([even_session()], PUBLISHED, 2, 2 * 64, 1, priority_exponent=0.6)
    recorder.act(30)
    where = np.concatenate([np.arange(30), 64 + np.arange(30)])
    errors = np.random.default_rng(2).exponential(size=60).astype(np.float32)
    recorder.buffer.update_priorities(where, -errors)  # the sign does not count
    expected = (errors.astype(np.float64) + 1e-6) ** 0.6
    batch = recorder.buffer.sample(30_000, recorder.rng, gamma=0.9, importance_exponent=0.7)
    counts = np.bincount(batch.where, minlength=128)[where]
    assert counts.sum() == 30_000
    assert chisquare(counts, expected / expected.sum() * 30_000).pvalue > 1e-3
    chance = dict(zip(where.tolist(), expected / expected.sum(), strict=True))
    weight = np.array([(60 * chance[int(place)]) ** -0.7 for place in batch.where])
    np.testing.assert_allclose(batch.weight, weight / weight.max(), rtol=1e-5)


def test_a_new_visit_gets_the_largest_priority_so_far() -> None:
    recorder = Recorder([even_session()], PUBLISHED, 1, 64, 1, priority_exponent=1.0)
    recorder.act(3)
    recorder.buffer.update_priorities(np.array([1]), np.array([7.0], dtype=np.float32))
    recorder.act(1)
    assert recorder.buffer.priorities is not None
    np.testing.assert_allclose(recorder.buffer.priorities.leaves()[:5], [1, 7, 1, 7, 0], atol=1e-5)


@pytest.mark.parametrize("priority_exponent", [None, 0.6])
def test_a_restored_buffer_draws_the_same(priority_exponent: float | None) -> None:
    one, other = (
        Recorder([even_session()], PUBLISHED, 2, 2 * 40, 3, priority_exponent=priority_exponent)
        for _ in range(2)
    )
    one.act(60)
    one.buffer.update_priorities(np.arange(5, 9), np.array([3, 0, 1, 9], dtype=np.float32))
    other.buffer.load_state({name: array.copy() for name, array in one.buffer.state().items()})
    a, b = (
        recorder.buffer.sample(32, np.random.default_rng(4), gamma=0.9, n_step=3, importance_exponent=0.5)
        for recorder in (one, other)
    )
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)
    assert len(one.buffer) == len(other.buffer)


def test_a_million_visits_take_less_than_a_hundred_megabytes() -> None:
    recorder = Recorder([even_session()], PUBLISHED, 10, 1_000_000, 0, priority_exponent=0.6)
    arrays = recorder.buffer.visits.n_bytes
    assert arrays == 29_000_000
    recorder.act(2)
    assert recorder.buffer.priorities is not None
    assert arrays + recorder.buffer.priorities._sums.nbytes <= 100_000_000


def test_an_empty_buffer_one_too_small_and_routes_longer_than_it_are_refused() -> None:
    tables = BatchedRoutes([even_session()], PUBLISHED, 1, np.random.default_rng(0)).tables
    with pytest.raises(
        InputError, match=r"2 visits per environment or more\. Got 3 visits for 3 environments"
    ):
        VisitBuffer(tables, 3, 3, "visited")
    with pytest.raises(InputError, match="must hold a visit before it is sampled"):
        VisitBuffer(tables, 3, 30, "visited").sample(2, np.random.default_rng(0), gamma=0.9)
    recorder = Recorder([even_session()], PUBLISHED, 1, 4, 0)
    recorder.act(6)  # a route of a 60 minutes' budget has more than 4 visits
    with pytest.raises(InputError, match=r"must hold whole routes\. Got routes longer than the 4 visits"):
        recorder.buffer.sample(2, recorder.rng, gamma=0.9)
