"""The Gymnasium environment: its own checker, and the rules of the batched routes it is made of."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from learning_samples import PUBLISHED, VIEWS, even_session, random_session

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.learning.batch_env import BatchedRoutes, TrainingSession
from cryoscout.learning.route_env import ENV_ID, RouteEnv
from cryoscout.learning.settings import N_INPUTS, ViewSettings
from cryoscout.routing.elimination import BETA_TRAINING, eliminated_holes
from cryoscout.routing.replay import Truth


def env_of(session: TrainingSession, **options: object) -> RouteEnv:
    env = gymnasium.make(ENV_ID, session=session, **{**PUBLISHED.model_dump(), **options}).unwrapped
    assert isinstance(env, RouteEnv)
    return env


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.candidates}-{view.labels}-{view.history}")
def test_gymnasiums_checker_finds_nothing(view: ViewSettings) -> None:
    session = random_session(np.random.default_rng(1), 60, budget_min=200.0)
    env = env_of(
        session, candidates=view.candidates, labels=view.labels, history=view.history, elimination=False
    )
    env.action_space.seed(0)  # the checker takes any action, and a queue without a hole left is refused
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)


def test_a_named_session_is_learned_from_on_its_training_split() -> None:
    env = gymnasium.make(ENV_ID, session="y1", split="train", budget_min=120.0)
    assert env.unwrapped.routes.sessions[0].problem.n_holes == 2464
    assert env.unwrapped.routes.rules.budget_min[0] == pytest.approx(120.0)
    env.unwrapped.action_space.seed(0)
    check_env(env.unwrapped)
    _, info = env.reset(seed=0)
    for _ in range(200):
        _, _, terminated, truncated, info = env.step(env.action_space.sample(info["action_mask"]))
        if terminated or truncated:
            break
    assert truncated
    assert 120.0 < info["minutes"] <= 140.0
    assert gymnasium.make(ENV_ID).unwrapped.routes.rules.budget_min[0] == pytest.approx(240.0)


@pytest.mark.slow
def test_importing_by_the_name_of_the_environment_registers_it() -> None:
    code = (
        "import gymnasium; assert 'cryoscout/Route-v0' not in gymnasium.registry\n"
        "env = gymnasium.make('cryoscout.learning.route_env:cryoscout/Route-v0', session='y1')\n"
        "import sys; assert 'torch' not in sys.modules; print(env.action_space.n)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 20


@pytest.mark.parametrize("draws", [False, True])
def test_routes_are_those_of_the_batched_environment(draws: bool) -> None:
    session = even_session()
    session = TrainingSession(session.problem, session.truth, draws)
    env = env_of(session, elimination=False)
    rng = np.random.default_rng(2)
    for seed in range(4):
        seen, info = env.reset(seed=seed)
        drawn = Truth(env.routes.good[0].astype(np.float64), np.ones(32, dtype=bool))
        batched = BatchedRoutes([TrainingSession(session.problem, drawn)], PUBLISHED, 1, rng)
        batched.reset(0, start_hole=info["hole"])
        while True:
            look = batched.look()
            queues = np.flatnonzero(seen["mask"])
            np.testing.assert_array_equal(info["action_mask"], seen["mask"])
            np.testing.assert_array_equal(queues, batched.tables.queue_of_hole[look.holes])
            np.testing.assert_allclose(seen["obs"][queues], look.rows, atol=1e-6)
            assert not seen["obs"][seen["mask"] == 0].any()
            row = int(rng.integers(len(queues)))
            step = batched.step(look.holes[[row]])
            seen, reward, terminated, truncated, info = env.step(queues[row])
            assert info["hole"] == look.holes[row]
            assert info["good"] == step.good[0]
            assert info["minutes"] == batched.minutes[0]
            assert reward == pytest.approx(float(step.reward[0]))
            assert (terminated, truncated) == (bool(step.terminated[0]), bool(step.truncated[0]))
            if terminated or truncated:
                break


def test_the_end_of_the_holes_terminates_and_the_end_of_the_budget_truncates() -> None:
    session = even_session(1, 1, 1, 4)
    long, short = env_of(session, budget_min=1e3, elimination=False), env_of(session, elimination=False)
    short.routes.rules.budget_min[0] = 3.0
    ends = []
    for env in (long, short):
        _, info = env.reset(seed=0)
        n = 0
        terminated = truncated = False
        while not terminated and not truncated:
            seen, _, terminated, truncated, info = env.step(int(np.argmax(info["action_mask"])))
            n += 1
        ends.append((n, terminated, truncated))
    assert ends == [(3, True, False), (2, False, True)]
    assert info["action_mask"].sum() > 0
    assert seen["obs"].shape == (2, N_INPUTS)


def test_the_same_seed_is_the_same_route_and_draws() -> None:
    session = TrainingSession(even_session().problem, even_session().truth, draws=True)

    def route(seed: int) -> list[tuple[int, float]]:
        env = env_of(session)
        _, info = env.reset(seed=seed)
        visits = [(info["hole"], 0.0)]
        over = False
        while not over:
            _, reward, terminated, truncated, info = env.step(int(np.argmax(info["action_mask"])))
            visits.append((info["hole"], reward))
            over = terminated or truncated
        return visits

    assert route(5) == route(5)
    assert len({tuple(route(seed)) for seed in range(6)}) > 3


def test_without_a_seed_the_next_route_is_another_one() -> None:
    env = env_of(even_session())
    env.reset(seed=0)
    assert len({env.reset()[1]["hole"] for _ in range(30)}) > 8


def test_a_start_may_be_named_and_other_options_are_refused() -> None:
    env = env_of(even_session(), elimination=False)
    assert env.reset(options={"start_hole": 17})[1]["hole"] == 17
    for wrong in ({"start_hole": 32}, {"start_hole": -1}, {"start": 3}):
        with pytest.raises(InputError, match=r"nothing or a start_hole, a hole index below 32\. Got"):
            env.reset(options=wrong)


def test_an_action_without_a_hole_left_is_refused() -> None:
    env = env_of(even_session(), elimination=False, candidates="holes")
    env.reset(options={"start_hole": 3})
    for wrong in (3, -1, 32):
        with pytest.raises(
            InputError, match=rf"queue below 32 with a hole left, where the mask is 1\. Got {wrong}"
        ):
            env.step(wrong)


def test_a_step_before_a_reset_or_after_the_end_is_refused() -> None:
    env = env_of(even_session(1, 1, 1, 2))
    with pytest.raises(InputError, match="Got a route that is over instead"):
        env.step(0)
    _, info = env.reset(seed=0)
    env.step(int(np.argmax(info["action_mask"])))
    with pytest.raises(InputError, match="Got a route that is over instead"):
        env.step(0)


def test_action_elimination_is_that_of_training() -> None:
    session = even_session(n_grids=8)
    env = env_of(session, budget_min=40.0)
    np.testing.assert_array_equal(
        env.routes.sessions[0].problem.available(),
        eliminated_holes(session.problem.with_budget(40.0), BETA_TRAINING),
    )
    assert env.action_space.n < env_of(session, budget_min=40.0, elimination=False).action_space.n


def test_what_cannot_be_made_into_an_environment_is_refused() -> None:
    session = even_session()
    with pytest.raises(InputError, match="must be left out with a TrainingSession"):
        RouteEnv(session, split="train")
    with pytest.raises(InputError, match="must be left out with a TrainingSession"):
        RouteEnv(session, draws=True)
    with pytest.raises(InputError, match="hold a visit: 2 minutes"):
        RouteEnv(session, budget_min=1.0)
    with pytest.raises(UnknownNameError, match="session must be one of"):
        RouteEnv("y2")
    with pytest.raises(UnknownNameError, match="reward"):
        RouteEnv(session, reward="gold")


def test_two_sessions_have_one_space_where_it_is_padded() -> None:
    small = random_session(np.random.default_rng(1), 30, budget_min=200.0)
    large = random_session(np.random.default_rng(2), 60, budget_min=200.0)
    envs = [env_of(session, elimination=False, max_candidates=80) for session in (small, large)]
    assert envs[0].action_space == envs[1].action_space
    assert envs[0].observation_space == envs[1].observation_space
    plain = env_of(small, elimination=False)
    padded, info = envs[0].reset(seed=3)
    seen, info_of_plain = plain.reset(seed=3)
    n = len(seen["mask"])
    np.testing.assert_array_equal(padded["obs"][:n], seen["obs"])
    assert not padded["obs"][n:].any()
    assert not info["action_mask"][n:].any()
    np.testing.assert_array_equal(info["action_mask"][:n], info_of_plain["action_mask"])
    np.testing.assert_array_equal(envs[0].action_masks(), info["action_mask"].astype(bool))
    assert envs[0].action_masks().dtype == bool
    with pytest.raises(InputError, match="mask is 1"):
        envs[0].step(79)
    with pytest.raises(InputError, match=f"at least the {n} queues"):
        env_of(small, elimination=False, max_candidates=n - 1)


def test_without_gymnasium_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['gymnasium'] = None\n"
        "try:\n    import cryoscout.learning.route_env\n"
        "except ModuleNotFoundError as error:\n    print(error.name, error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "gymnasium Routes as an environment must have gymnasium." in ran.stdout
    assert 'pip install "cryoscout[learn]"' in ran.stdout
