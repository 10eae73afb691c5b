"""A policy trained on pseudo-rewards: outcomes where labelled, predictions elsewhere, and no other outcome ever."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learning_samples import even_session, quick, random_policy, random_session, state_by_state

from cryoscout.core.errors import InputError
from cryoscout.learning import held_out
from cryoscout.learning.batch_env import BatchedRoutes, TrainingSession
from cryoscout.learning.from_session import data_digest, training_session
from cryoscout.learning.greedy_routes import greedy_routes
from cryoscout.learning.held_out import kept_and_trials, share_of_bound
from cryoscout.learning.training import METRICS_FILE, POLICY_FILE, Progress, Training
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.replay import PseudoRewards, Truth
from cryoscout.session.model import Session
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables
from examples import slow_but


@pytest.fixture(autouse=True)
def _few_trial_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "STARTS", 4)


class KilledError(Exception):
    """Stands for a power cut."""


@pytest.fixture(scope="module")
def small() -> Session:
    settings = simulation_named("small").model_copy(update={"holes": 120})
    return to_session(simulate_tables(settings, seed=3), "small")


def guessed(session: TrainingSession, every: int = 4) -> TrainingSession:
    """The session with one label in so many holes, and the prediction of the others."""
    is_label = np.arange(session.problem.n_holes) % every == 0
    labels = np.where(is_label, session.truth.good, np.nan)
    return TrainingSession(session.problem, PseudoRewards.of(labels, session.problem.prior_p_good))


def trained_on(session: TrainingSession, folder: Path, agent: str = "dqn") -> tuple[bytes, list[str]]:
    Training([session], quick(agent, epochs=2), folder, device="cpu").run()
    lines = (folder / METRICS_FILE).read_text().splitlines()
    return (folder / POLICY_FILE).read_bytes(), [line.split('"seconds"')[0] for line in lines]


@pytest.mark.parametrize("agent", slow_but(["a2c"], ["dqn", "a2c"]))
def test_no_outcome_without_a_label_is_ever_seen(agent: str, small: Session, tmp_path: Path) -> None:
    labelled = np.random.default_rng(0).random(small.n_holes) < 0.3
    hidden = np.flatnonzero(~labelled[small.exposures["hole_id"].map(small.hole_index).to_numpy()])
    shuffled = small.exposures.copy()
    columns = ["outcome", "ctf_max_res_angstrom"]
    others = np.random.default_rng(1).permutation(hidden)
    shuffled.loc[hidden, columns] = small.exposures.loc[others, columns].to_numpy()
    other = replace(small, exposures=shuffled, ctf_runs=small.ctf_runs.iloc[:0])
    changed = small.good_by_hole(6.0) != other.good_by_hole(6.0)
    assert changed[~labelled].sum() > 20
    assert not changed[labelled].any()
    results = []
    for name, session in (("one", small), ("other", other)):
        data, _, _ = training_session(session, budget_min=60.0, labelled=labelled)
        assert data.problem.available().all()
        results.append(trained_on(data, tmp_path / name, agent))
    assert results[0] == results[1]


def test_a_label_is_seen(small: Session, tmp_path: Path) -> None:
    labelled = np.random.default_rng(0).random(small.n_holes) < 0.3
    data, _, _ = training_session(small, budget_min=60.0, labelled=labelled)
    assert isinstance(data.outcomes, PseudoRewards)
    turned = replace(data.outcomes, reward=np.where(labelled, 1.0 - data.good, data.good))
    other = replace(data, outcomes=turned)
    assert data_digest([data]) != data_digest([other])
    assert trained_on(data, tmp_path / "one") != trained_on(other, tmp_path / "other")


@pytest.mark.slow
def test_fractional_rewards_are_learned_from(tmp_path: Path) -> None:
    """No hole is labelled; the policy finds the patches that are predicted good, and so what is really there."""
    session = even_session(4, 2, 2, 4)
    patch = session.problem.patch_of_hole
    p_good = np.where(patch % 2 == 0, 0.85, 0.15)
    problem = replace(session.problem, prior_p_good=p_good, budget_min=40.0)
    rewards = PseudoRewards.of(np.full(len(p_good), np.nan), p_good)
    settings = quick("dqn", epochs=3, steps_per_epoch=600, budget_min=40.0, elimination=False)
    training = Training([TrainingSession(problem, rewards)], settings, tmp_path, device="cpu")
    training.run()
    starts = np.flatnonzero(patch % 2 == 1)
    real = TrainingSession(problem, Truth((patch % 2 == 0).astype(np.float64), np.ones(64, dtype=bool)))
    rng = np.random.default_rng(0)
    found = greedy_routes(real, settings.view, training._scores, starts, rng).good.mean()
    by_chance = greedy_routes(
        real, settings.view, state_by_state(random_policy(settings)._network), starts, rng
    ).good.mean()
    assert found > by_chance + 2.0


def test_epochs_are_judged_by_the_pseudo_rewards_of_held_out_patches() -> None:
    session = guessed(random_session(np.random.default_rng(2), 40, budget_min=60.0))
    settings = quick(elimination=False)
    _, trials, _ = kept_and_trials([session], settings)
    assert all(trial.session.outcomes is session.outcomes for trial in trials)
    scores = state_by_state(random_policy(settings)._network)
    expected = []
    for trial in trials:
        routes = BatchedRoutes([trial.session], settings.view, 1, np.random.default_rng(0))
        sum_of_route = 0.0
        for start in trial.starts:
            found = greedy_routes(trial.session, settings.view, scores, np.array([start]), routes.rng)
            sum_of_route += float(found.good[0])
        assert sum_of_route <= trial.bound.sum()
        expected.append(sum_of_route / max(trial.bound.sum(), 1.0))
    assert share_of_bound(trials, settings, scores) == pytest.approx(np.mean(expected), rel=1e-12)


def test_nothing_is_judged_on_pseudo_rewards() -> None:
    session = guessed(even_session())
    with pytest.raises(InputError, match=r"judged on what was measured. Got pseudo-rewards"):
        good_holes_bound(session.problem, session.truth, 0)


@pytest.mark.parametrize("agent", slow_but(["dqn"], ["dqn", "rainbow", "a2c"]))
def test_a_killed_training_on_them_goes_on_to_the_same_policy(agent: str, tmp_path: Path) -> None:
    session = guessed(random_session(np.random.default_rng(4), 40))
    whole = trained_on(session, tmp_path / "whole", agent)
    seen = 0

    def kill(_: Progress) -> None:
        nonlocal seen
        seen += 1
        if seen == 36:
            raise KilledError

    folder = tmp_path / "killed"
    settings = quick(agent, epochs=2)
    with pytest.raises(KilledError):
        Training([session], settings, folder, device="cpu").run(progress=kill)
    assert isinstance(session.outcomes, PseudoRewards)
    for changed in (
        replace(session.outcomes, reward=session.outcomes.reward / 2.0),
        replace(session.outcomes, is_label=~session.outcomes.is_label),
    ):
        other = replace(session, outcomes=changed)
        with pytest.raises(InputError, match="a run on the same sessions"):
            Training([other], settings, folder, device="cpu").run(resume=True)
    Training([session], settings, folder, device="cpu").run(resume=True)
    lines = (folder / METRICS_FILE).read_text().splitlines()
    again = (folder / POLICY_FILE).read_bytes(), [line.split('"seconds"')[0] for line in lines]
    assert again == whole


def test_wrong_sessions_are_refused(small: Session) -> None:
    session = even_session()
    rewards = PseudoRewards(np.full(32, 0.5), np.zeros(32, dtype=bool))
    with pytest.raises(InputError, match=r"on draws or on pseudo-rewards. Got both"):
        TrainingSession(session.problem, rewards, draws=True)
    with pytest.raises(InputError, match=r"cover 32 holes. Got 31"):
        TrainingSession(session.problem, PseudoRewards(np.zeros(31), np.zeros(31, dtype=bool)))
    with pytest.raises(InputError, match=r"at most the 1 shots of a hole. Got 1.5"):
        TrainingSession(session.problem, PseudoRewards(np.full(32, 1.5), np.zeros(32, dtype=bool)))
    with pytest.raises(InputError, match=r"boolean array of shape \(120,\). Got int64"):
        training_session(small, budget_min=60.0, labelled=np.arange(120))
    unknown = replace(small, exposures=small.exposures.assign(outcome="pending", ctf_max_res_angstrom=np.nan))
    with pytest.raises(InputError, match=r"must have an outcome. Got 120 without"):
        training_session(unknown, budget_min=60.0, labelled=np.ones(120, dtype=bool))
    nobody, _, _ = training_session(unknown, budget_min=60.0, labelled=np.zeros(120, dtype=bool))
    np.testing.assert_allclose(nobody.good, nobody.problem.prior_p_good, atol=2.0**-13)
