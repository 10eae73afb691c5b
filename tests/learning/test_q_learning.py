"""Updates of the value-based agents against targets written out by hand; a tiny problem learned to its optimum."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from learning_samples import best_return, even_session, quick, state_by_state, tiny_session

from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.ties import first_of_the_best
from cryoscout.learning.batch_env import BatchedRoutes, TrainingSession
from cryoscout.learning.greedy_routes import Scores, best_rows
from cryoscout.learning.networks import score_states
from cryoscout.learning.numpy_network import NumpyNetwork
from cryoscout.learning.q_learning import QLearner
from cryoscout.learning.settings import AGENTS, N_FEATURES, LearnSettings
from cryoscout.learning.training import Training
from cryoscout.learning.transitions import Batch, VisitBuffer
from cryoscout.learning.weights import read_policy
from cryoscout.routing.problem import RoutingProblem
from examples import slow_but

CPU = torch.device("cpu")
Q_AGENTS = [agent for agent in AGENTS if agent != "a2c"]
VISITED = 1 - N_FEATURES  # column of the candidate's own `visited` feature


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def filled_buffer(settings: LearnSettings, n_steps: int = 60, seed: int = 0) -> VisitBuffer:
    """Random routes through a session with eliminated and imaged holes."""
    session = even_session()
    allowed, imaged = np.arange(32) % 5 != 4, np.arange(32) % 7 == 6
    problem = RoutingProblem(
        HoleTree(session.problem.patch_of_hole, session.problem.square_of_patch, session.problem.grid_of_square),
        session.problem.prior_p_good, 60.0, allowed=allowed, imaged=imaged,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    routes = BatchedRoutes([TrainingSession(problem, session.truth)], settings.view, 3, rng)
    routes.reset_all()
    agent = settings.agent
    buffer = VisitBuffer(
        routes.tables, 3, 3 * 100, settings.view.history,
        priority_exponent=agent.priority_exponent if agent.prioritized else None,
    )  # fmt: skip
    place = np.zeros(3, dtype=np.int64)
    for _ in range(n_steps):
        seen = routes.look()
        rows = seen.begin[:-1] + (rng.random(3) * np.diff(seen.begin)).astype(np.int64)
        session_of = routes.states.session.copy()
        step = routes.step(seen.holes[rows])
        buffer.add(
            seen.holes[rows], step.good, step.reward, place, routes.start_hole,
            routes.good[np.arange(3), routes.start_hole], session_of, step.terminated, step.truncated,
        )  # fmt: skip
        place += 1
        for route in np.flatnonzero(step.terminated | step.truncated):
            routes.reset(route)
            place[route] = 0
    return buffer


def sampled(settings: LearnSettings, buffer: VisitBuffer, seed: int = 5) -> Batch:
    return buffer.sample(
        24, np.random.default_rng(seed), gamma=settings.agent.gamma, n_step=settings.agent.n_step, n_others=4
    )


def learner_of(settings: LearnSettings) -> QLearner:
    """A learner whose target differs from its network."""
    learner = QLearner(settings, CPU)
    with torch.no_grad():
        for parameter in learner.target.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9))
    return learner


def raw(learner: QLearner, which: str, rows: np.ndarray) -> torch.Tensor:
    """Raw outputs of the candidates of one state by one network."""
    network = learner.network if which == "network" else learner.target
    with torch.no_grad():
        return score_states(network, torch.from_numpy(rows), torch.zeros(len(rows), dtype=torch.long), 1)


def states_after(batch: Batch) -> list[np.ndarray]:
    return [batch.after[a:b] for a, b in zip(batch.begin[:-1], batch.begin[1:], strict=True)]


@pytest.mark.parametrize("agent", ["dqn", "double", "dueling", "prioritized", "nstep"])
@pytest.mark.parametrize("double", [False, True])
def test_targets_are_the_reward_and_the_discounted_best_candidate_afterwards(
    agent: str, double: bool
) -> None:
    settings = quick(agent)
    settings = settings.model_copy(update={"agent": settings.agent.model_copy(update={"double": double})})
    learner = learner_of(settings)
    batch = sampled(settings, filled_buffer(settings))
    expected, disagreements = [], 0
    for b, after in enumerate(states_after(batch)):
        future = 0.0
        if len(after):
            target = raw(learner, "target", after)[:, 0]
            online = raw(learner, "network", after)[:, 0]
            disagreements += int(target.argmax() != online.argmax())
            future = float(target[online.argmax()] if double else target.max())
        expected.append(batch.reward[b] + batch.discount[b] * future)
    np.testing.assert_allclose(learner._target_values(batch).numpy(), expected, atol=1e-5)
    assert disagreements > 0  # or the choice of network would not show


def projected(chances: np.ndarray, support: np.ndarray, reward: float, discount: float) -> np.ndarray:
    """Atom by atom, as the algorithm is printed (Bellemare et al. 2017, algorithm 1)."""
    step = (support[-1] - support[0]) / (len(support) - 1)
    out = np.zeros(len(support))
    for chance, atom in zip(chances, support, strict=True):
        place = (np.clip(reward + discount * atom, support[0], support[-1]) - support[0]) / step
        low, high = int(np.floor(place)), int(np.ceil(place))
        if low == high:
            out[low] += chance
        else:
            out[low] += chance * (high - place)
            out[high] += chance * (place - low)
    return out


@pytest.mark.parametrize("agent", ["c51", "rainbow"])
@pytest.mark.parametrize("value_range", [(0.0, 10.0), (-2.0, 1.5)], ids=["wide", "clipped"])
def test_a_distribution_is_shifted_shrunk_and_projected_onto_the_support(
    agent: str, value_range: tuple[float, float]
) -> None:
    settings = quick(agent)
    network = settings.network.model_copy(
        update={"atoms": 11, "value_min": value_range[0], "value_max": value_range[1], "noisy": False}
    )
    settings = settings.model_copy(update={"network": network})
    learner = learner_of(settings)
    batch = sampled(settings, filled_buffer(settings))
    got = learner._target_distribution(batch).numpy()
    support = learner.network.support.numpy().astype(np.float64)
    for b, after in enumerate(states_after(batch)):
        chances = np.full(11, 1 / 11)
        if len(after):
            target = raw(learner, "target", after)
            chooser = raw(learner, "network", after) if settings.agent.double else target
            best = first_of_the_best(learner.network.expectation(chooser).numpy())
            chances = target.softmax(-1)[best].numpy().astype(np.float64)
        reward, discount = float(batch.reward[b]), float(batch.discount[b])
        np.testing.assert_allclose(got[b], projected(chances, support, reward, discount), atol=1e-5)
        mean = chances @ np.clip(reward + discount * support, support[0], support[-1])
        assert got[b] @ support == pytest.approx(mean, abs=1e-4)
    np.testing.assert_allclose(got.sum(1), 1.0, atol=1e-5)  # no mass is lost
    assert (got >= 0).all()


@pytest.mark.parametrize("agent", Q_AGENTS)
def test_a_target_never_looks_at_a_hole_that_was_visited_or_may_not_be(agent: str) -> None:
    """A network that loves visited holes and holes without an open hole in their patch learns nothing of them."""
    settings = quick(agent)
    batch = sampled(settings, filled_buffer(settings))
    assert len(batch.after) > 100
    assert (batch.after[:, VISITED] == 0).all()
    unvisited_in_patch = batch.after[:, 2 - N_FEATURES]
    assert (unvisited_in_patch > 0).all()
    assert (batch.chosen[:, VISITED] == 0).all()
    assert (batch.others[:, :, VISITED] == 0).all()


def test_what_may_be_visited_afterwards_is_every_open_hole_and_nothing_else() -> None:
    settings = quick("dqn", view={"candidates": "holes"})
    buffer = filled_buffer(settings)
    batch = sampled(settings, buffer)
    grids_open = 500 * batch.after[:, 10 - N_FEATURES]
    for a, b in zip(batch.begin[:-1], batch.begin[1:], strict=True):
        # Each candidate's grid says how many open holes it has: summed over candidates that is the sum of squares.
        sizes = np.round(grids_open[a:b]).astype(int)
        assert all((sizes == size).sum() % size == 0 for size in set(sizes.tolist()))
        assert b - a == 0 or sizes.sum() >= b - a


@pytest.mark.parametrize("agent", slow_but(["dqn", "rainbow"], Q_AGENTS))
def test_an_update_lowers_the_loss_on_its_batch(agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = quick(agent, hidden=(32,), learning_rate=0.01)
    buffer = filled_buffer(settings)
    learner = QLearner(settings, CPU)
    batch = buffer.sample(64, np.random.default_rng(0), gamma=0.9, n_step=settings.agent.n_step, n_others=16)
    monkeypatch.setattr(buffer, "sample", lambda *_args, **_options: batch)
    rng = np.random.default_rng(0)
    losses = [learner.update(buffer, rng, 0.0).loss for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert learner.n_updates == 60


def test_the_gradient_is_that_of_the_weighted_squared_error() -> None:
    settings = quick("prioritized", learning_rate=1e-9)
    buffer = filled_buffer(settings)
    kept = np.concatenate([np.arange(60) + 100 * route for route in range(3)])
    buffer.update_priorities(kept, np.random.default_rng(4).exponential(size=180).astype(np.float32))
    learner = learner_of(settings)
    state = np.random.default_rng(3)
    batch = buffer.sample(settings.batch_size, copy.deepcopy(state), gamma=0.9, importance_exponent=0.4)
    result = learner.update(buffer, state, 0.0)
    scores = learner.network.score(learner.network.hidden(torch.from_numpy(batch.chosen)))[:, 0]
    errors = scores - learner._target_values(batch)
    loss = (torch.from_numpy(batch.weight) * errors**2).mean().detach()
    assert result.loss == pytest.approx(float(loss), rel=1e-4)
    np.testing.assert_allclose(result.errors, errors.detach().numpy(), atol=1e-4)
    assert buffer.priorities is not None
    last = {int(place): abs(float(error)) for place, error in zip(batch.where, result.errors, strict=True)}
    np.testing.assert_allclose(
        buffer.priorities.values(np.array(list(last))),
        (np.array(list(last.values())) + 1e-6) ** 0.6,
        rtol=1e-4,
    )


def test_the_correction_for_sampling_rises_to_one() -> None:
    settings = quick("prioritized")
    buffer = filled_buffer(settings)
    asked: list[float] = []
    sample = buffer.sample

    def spy(*args: object, **options: object) -> Batch:
        asked.append(options["importance_exponent"])  # type: ignore[arg-type]
        return sample(*args, **options)  # type: ignore[arg-type]

    buffer.sample = spy  # type: ignore[method-assign]
    learner = QLearner(settings, CPU)
    for progress in (0.0, 0.5, 1.0):
        learner.update(buffer, np.random.default_rng(0), progress)
    assert asked == pytest.approx([0.4, 0.7, 1.0])


def test_the_target_is_copied_every_target_every_updates() -> None:
    settings = quick("dqn", target_every=3)
    buffer, rng = filled_buffer(settings), np.random.default_rng(0)
    learner = QLearner(settings, CPU)

    def same() -> bool:
        pairs = zip(learner.network.parameters(), learner.target.parameters(), strict=True)
        return all(torch.equal(a, b) for a, b in pairs)

    seen = []
    for _ in range(7):
        learner.update(buffer, rng, 0.0)
        seen.append(same())
    assert seen == [False, False, True, False, False, True, False]


@pytest.mark.parametrize("agent", Q_AGENTS)
def test_acting_takes_the_best_row_of_every_state_or_a_random_one(agent: str) -> None:
    settings = quick(agent)
    learner = QLearner(settings, CPU)
    routes = BatchedRoutes([even_session()], settings.view, 50, np.random.default_rng(0))
    routes.reset_all()
    seen = routes.look()
    rng = np.random.default_rng(1)
    rows = learner.act(seen, rng, 0.0)
    scores = learner.scores(learner.network, seen.rows, seen.begin)
    for row, a, b in zip(rows, seen.begin[:-1], seen.begin[1:], strict=True):
        assert a <= row < b
        assert scores[row] == pytest.approx(scores[a:b].max(), abs=1e-5)
    random_rows = learner.act(seen, rng, 1.0)
    assert ((random_rows >= seen.begin[:-1]) & (random_rows < seen.begin[1:])).all()
    chosen = np.concatenate([learner.act(seen, rng, 1.0) - seen.begin[:-1] for _ in range(40)])
    counts = np.bincount(chosen)
    assert counts.min() > 0.7 * counts.mean()


def test_evaluation_of_a_noisy_agent_is_deterministic_and_acting_is_not() -> None:
    settings = quick("noisy")
    learner = QLearner(settings, CPU)
    seen = even_routes(settings).look()
    learner.network.eval()
    before = learner.scores(learner.network, seen.rows, seen.begin)
    learner.act(seen, np.random.default_rng(0), 0.0)
    noisy = learner.scores(learner.network, seen.rows, seen.begin)
    learner.network.eval()
    np.testing.assert_allclose(learner.scores(learner.network, seen.rows, seen.begin), before, atol=1e-5)
    assert np.abs(noisy - before).max() > 1e-3


def even_routes(settings: LearnSettings) -> BatchedRoutes:
    routes = BatchedRoutes([even_session()], settings.view, 4, np.random.default_rng(0))
    routes.reset_all()
    return routes


def test_bfloat16_scores_agree_to_about_three_digits() -> None:
    learners = [QLearner(quick("dqn", precision=each), CPU) for each in ("float32", "bfloat16")]
    seen = even_routes(learners[0].settings).look()
    one, other = (learner.scores(learner.network, seen.rows, seen.begin) for learner in learners)
    assert 0 < np.abs(one - other).max() < 0.02


def test_a_gradient_that_is_not_a_number_moves_no_weight() -> None:
    settings = quick("dqn")
    buffer = filled_buffer(settings)
    learner = QLearner(settings, CPU)
    with torch.no_grad():
        learner.network.score.bias.fill_(torch.inf)
    before = [parameter.clone() for parameter in learner.network.parameters()]
    assert not np.isfinite(learner.update(buffer, np.random.default_rng(0), 0.0).loss)
    for old, new in zip(before, learner.network.parameters(), strict=True):
        assert torch.equal(old, new)


# --- a problem small enough to try every route -----------------------------------------------------


def discounted_return(session: TrainingSession, settings: LearnSettings, scores: Scores, start: int) -> float:
    routes = BatchedRoutes([session], settings.view, 1, np.random.default_rng(0))
    routes.reset(0, start_hole=start)
    total, factor = 0.0, 1.0
    while True:
        seen = routes.look()
        step = routes.step(seen.holes[best_rows(scores(seen.rows, seen.begin), seen.begin)])
        total += factor * float(step.reward[0])
        factor *= settings.agent.gamma
        if step.terminated[0]:
            return total


LEAST_SHARE = {
    "dqn": 1.0,
    "double": 1.0,
    "dueling": 1.0,
    "prioritized": 1.0,
    "nstep": 0.9,
    "c51": 0.9,
    "rainbow": 0.9,
}
"""Of the best return, from every start, of the best of the seeds. Noisy nets alone stop exploring here: they are not
among these."""
LEAST_OF_EVERY_SEED = 0.8
"""Random visits get 0.57 of the best return, and 0.35 from the worst start: which seeds find the last per cent hangs on
the last bits of the arithmetic, that every seed learns does not."""
SEEDS = (1, 2, 3)


def shares_of_best(settings: LearnSettings, folder: Path) -> np.ndarray:
    """(8,) share of the best return, from every start, after a training on the tiny problem."""
    session, gamma = tiny_session(), settings.agent.gamma
    trained = read_policy(Training([session], settings, folder).run())
    scores = state_by_state(NumpyNetwork(settings.network, trained.weights))
    returns = [
        discounted_return(session, settings, scores, start) / best_return(session, start, gamma)
        for start in range(session.problem.n_holes)
    ]
    return np.array(returns)


@pytest.mark.slow
@pytest.mark.parametrize("agent", LEAST_SHARE)
def test_on_a_tiny_problem_an_agent_learns_the_best_route(agent: str, tmp_path: Path) -> None:
    def settings(seed: int) -> LearnSettings:
        return quick(
            agent, hidden=(64, 64), epochs=8, steps_per_epoch=1500, environments=10, batch_size=64,
            buffer_size=5000, target_every=50, updates_per_step=0.2, learning_rate=0.002, held_out=0.0,
            elimination=False, random_first=0.5, random_last=0.1, budget_min=1e3, seed=seed,
        )  # fmt: skip

    shares = np.array([shares_of_best(settings(seed), tmp_path / str(seed)) for seed in SEEDS])
    assert (shares <= 1 + 1e-6).all()
    assert (shares >= LEAST_OF_EVERY_SEED).all(), shares
    assert shares.min(axis=1).max() >= LEAST_SHARE[agent] - 1e-6, shares
