"""Training: it learns, it can be stopped anywhere and goes on to the same result, and says what is wrong."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from learning_samples import even_session, quick, random_session, with_allowed

from cryoscout.core import precision
from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.learning import held_out
from cryoscout.learning.a2c import ActorCritic
from cryoscout.learning.batch_env import TrainingSession
from cryoscout.learning.greedy_routes import greedy_routes
from cryoscout.learning.numpy_network import NumpyNetwork
from cryoscout.learning.q_learning import QLearner, UpdateResult
from cryoscout.learning.settings import AGENTS, LearnSettings, settings_of
from cryoscout.learning.training import (
    CHECKPOINT_FILE,
    METRICS_FILE,
    POLICY_FILE,
    Progress,
    Training,
    TrainingError,
)
from cryoscout.learning.weights import read_policy
from cryoscout.routing.time_model import PRESETS
from examples import slow_but

TRIAL_ROUTES = 4
"""Routes per held-out session and budget: enough to choose an epoch in a test."""


@pytest.fixture(autouse=True)
def _few_trial_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "STARTS", TRIAL_ROUTES)


class KilledError(Exception):
    """Stands for a power cut."""


def sessions() -> list[TrainingSession]:
    return [even_session(3), random_session(np.random.default_rng(0), 40)]


def metrics_of(folder: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def result_of(folder: Path) -> tuple[bytes, list[dict[str, object]]]:
    return (folder / POLICY_FILE).read_bytes(), metrics_of(folder)


def train(
    settings: LearnSettings, folder: Path, *, kill_at: int | None = None, resume: bool = False,
    on: list[TrainingSession] | None = None,
) -> tuple[bytes, list[dict[str, object]]]:  # fmt: skip
    """Train in this folder; killed at the n-th report of its progress."""
    seen = 0

    def progress(_progress: Progress) -> None:
        nonlocal seen
        seen += 1
        if seen == kill_at:
            raise KilledError

    Training(on or sessions(), settings, folder, device="cpu").run(resume=resume, progress=progress)
    return result_of(folder)


Result = tuple[bytes, list[dict[str, object]]]
Whole = Callable[[LearnSettings], Result]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The result of an uninterrupted training on `sessions`, trained once for all tests."""
    known: dict[str, Result] = {}

    def trained(settings: LearnSettings) -> Result:
        key = settings.model_dump_json()
        if key not in known:
            known[key] = train(settings, tmp_path_factory.mktemp("whole"))
        return known[key]

    return trained


@pytest.mark.parametrize("agent", slow_but(["a2c"], ["dqn", "rainbow", "a2c"]))
def test_the_same_seed_gives_the_same_policy_file_and_metrics_and_another_one_does_not(
    agent: str, tmp_path: Path, whole: Whole
) -> None:
    one = train(quick(agent), tmp_path / "a")
    assert one == whole(quick(agent))
    assert (
        train(quick(agent, epochs=1, seed=1), tmp_path / "b")[0]
        != train(quick(agent, epochs=1), tmp_path / "c")[0]
    )
    assert [line["steps"] for line in one[1]] == [120, 240, 360]


# The tests below kill a `rainbow` and a `dqn`: between the three they cover every part of the state.
@pytest.mark.parametrize("agent", slow_but(["a2c"], AGENTS))
def test_a_killed_training_goes_on_to_the_result_of_an_uninterrupted_one(
    agent: str, tmp_path: Path, whole: Whole
) -> None:
    settings = quick(agent)
    per_epoch = 120 // 4
    for kill_at in (per_epoch, per_epoch + 1, 2 * (per_epoch + 1) + 5):
        folder = tmp_path / f"killed at {kill_at}"
        with pytest.raises(KilledError):
            train(settings, folder, kill_at=kill_at)
        assert train(settings, folder, resume=True) == whole(settings)


def test_it_can_be_killed_again_and_again(tmp_path: Path, whole: Whole) -> None:
    settings = quick("rainbow")
    for kill_at in (1, 40, 3, 35, 20):
        with pytest.raises(KilledError):
            train(settings, tmp_path / "killed", kill_at=kill_at, resume=True)
    assert train(settings, tmp_path / "killed", resume=True) == whole(settings)
    assert train(settings, tmp_path / "killed", resume=True) == whole(settings)  # nothing is left to do


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"elimination": False, "held_out": 0.0}, marks=pytest.mark.slow),
        {"view": {"candidates": "dominant", "labels": "soft", "history": "candidate"}},
        {"precision": "bfloat16", "updates_per_step": 0.73},  # an update is owed at the end of an epoch
        pytest.param({"parts": 5}, marks=pytest.mark.slow),
        {
            "steps_per_epoch": 70,
            "environments": 9,
            "buffer_size": 900,
        },  # epochs that are no multiple of the steps
    ],
    ids=str,
)
def test_going_on_is_exact_with_other_settings_too(changes: dict[str, object], tmp_path: Path) -> None:
    settings = quick("prioritized", **changes)
    drawing = [replace(session, draws=True) for session in sessions()]
    uninterrupted = train(settings, tmp_path / "whole", on=drawing)
    in_the_second_epoch = settings.steps_per_epoch // settings.environments + 6
    with pytest.raises(KilledError):
        train(settings, tmp_path / "killed", kill_at=in_the_second_epoch, on=drawing)
    assert train(settings, tmp_path / "killed", resume=True, on=drawing) == uninterrupted


@pytest.mark.parametrize("stage", ["_judge", "_log", "_save"])
def test_killed_between_two_files_of_an_epoch_it_goes_on_all_the_same(
    stage: str, tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick("dqn")
    original = getattr(Training, stage)

    def dies_in_the_second_epoch(self: Training, *args: object) -> object:
        result = original(self, *args)
        if self.epoch == 2:
            raise KilledError
        return result

    with monkeypatch.context() as broken:
        broken.setattr(Training, stage, dies_in_the_second_epoch)
        with pytest.raises(KilledError):
            train(settings, tmp_path / "killed")
    with (tmp_path / "killed" / METRICS_FILE).open("a") as file:
        file.write('{"half a line')
    assert train(settings, tmp_path / "killed", resume=True) == whole(settings)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from learning_samples import quick
from test_training import TRIAL_ROUTES, sessions
from cryoscout.learning import held_out
from cryoscout.learning.training import Training
held_out.STARTS = TRIAL_ROUTES
def progress(state):
    print(state.steps, flush=True)
Training(sessions(), quick("rainbow", epochs=4), Path(sys.argv[1]), device="cpu").run(resume=True, progress=progress)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after_steps", [1, 130, 300])
def test_after_a_real_kill_a_new_process_goes_on_to_the_same_result(after_steps: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if int(line) >= after_steps:
                running.send_signal(signal.SIGKILL)
                break
    assert running.returncode == -signal.SIGKILL
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert result_of(tmp_path / "killed") == train(quick("rainbow", epochs=4), tmp_path / "whole")


@pytest.mark.parametrize("agent", slow_but(["a2c"], ["dqn", "a2c"]))
def test_auto_goes_on_in_the_precision_that_the_run_began_in(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick(agent, precision="auto")
    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda device: True)
    uninterrupted = train(settings, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(settings, tmp_path / "killed", kill_at=40)
    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda device: False)  # as on another processor
    with pytest.raises(InputError, match=r"run in float32 to go on from it\. Got precision 'bfloat16'"):
        train(quick(agent, precision="float32"), tmp_path / "killed", resume=True)
    assert train(settings, tmp_path / "killed", resume=True) == uninterrupted
    assert read_policy(tmp_path / "killed" / POLICY_FILE).notes["precision"] == "bfloat16"
    assert train(settings, tmp_path / "other")[0] != uninterrupted[0]
    assert read_policy(tmp_path / "other" / POLICY_FILE).notes["precision"] == "float32"


def test_the_kept_policy_is_the_best_on_held_out_patches(tmp_path: Path) -> None:
    policy, metrics = train(quick("dqn", epochs=6), tmp_path)
    shares = [float(str(line["held_out_share_of_bound"])) for line in metrics]
    trained = read_policy(tmp_path / POLICY_FILE)
    assert trained.notes["held_out_share_of_bound"] == max(shares)
    assert trained.notes["epoch"] == 1 + shares.index(max(shares)) == metrics[-1]["best_epoch"]
    assert all(0 <= share <= 1 for share in shares)
    assert policy == (tmp_path / POLICY_FILE).read_bytes()


def test_without_held_out_patches_the_last_policy_is_kept(tmp_path: Path) -> None:
    settings = quick("dqn", held_out=0.0)
    training = Training(sessions(), settings, tmp_path, device="cpu", notes={"session": "mine"})
    training.run()
    trained = read_policy(tmp_path / POLICY_FILE)
    assert trained.notes == {
        "session": "mine", "epoch": 3, "held_out_share_of_bound": None, "precision": "float32",
    }  # fmt: skip
    assert trained.settings == settings
    for name, tensor in training.learner.network.state_dict().items():
        np.testing.assert_array_equal(trained.weights[name], tensor.numpy())


def test_held_out_patches_are_never_visited_in_training(tmp_path: Path) -> None:
    training = Training(sessions(), quick("dqn", held_out=0.5), tmp_path, device="cpu")
    trained_on = [session.problem.available() for session in training.routes.sessions]
    judged_on = [
        training.trials[0].session.problem.available(),
        training.trials[4].session.problem.available(),
    ]
    for a, b in zip(trained_on, judged_on, strict=True):
        assert a.any()
        assert b.any()
        assert not (a & b).any()


def test_progress_tells_where_the_run_stands(tmp_path: Path) -> None:
    seen: list[Progress] = []
    Training(sessions(), quick("dqn", epochs=2), tmp_path, device="cpu").run(progress=seen.append)
    assert [state.steps for state in seen[:30]] == list(range(4, 124, 4))
    assert (seen[30].epoch, seen[30].epochs, seen[30].steps, seen[30].steps_in_all) == (1, 2, 120, 240)
    assert np.isnan(seen[0].reward)
    assert seen[29].good > 0
    assert 0 < seen[30].share_of_bound <= 1
    assert seen[-1].epoch == 2


def test_an_agent_learns_to_prefer_what_is_predicted_good(tmp_path: Path) -> None:
    session = even_session(4)
    settings = quick("dqn", hidden=(32, 32), epochs=4, steps_per_epoch=600, learning_rate=0.01, held_out=0.0)
    Training([session], settings, tmp_path, device="cpu").run()
    trained = read_policy(tmp_path / POLICY_FILE)
    network = NumpyNetwork(settings.network, trained.weights)
    starts = np.arange(session.problem.n_holes)

    def share_of_good(scores: object) -> float:
        found = greedy_routes(session, settings.view, scores, starts, np.random.default_rng(0))  # type: ignore[arg-type]
        return float(found.good.sum() / found.visited.sum())

    rng = np.random.default_rng(0)
    chance = share_of_good(lambda rows, _begin: rng.random(len(rows)).astype(np.float32))
    assert share_of_good(lambda rows, _begin: network.scores(rows)) > 0.9 > chance


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("agent", slow_but(["dqn"], ["dqn", "a2c"]))
def test_a_loss_that_is_not_a_number_ends_the_training_and_keeps_the_policy(
    agent: str, tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick(agent)
    first_epoch: list[bytes] = []
    learner = ActorCritic if agent == "a2c" else QLearner
    update = learner.update

    def diverges(self: QLearner | ActorCritic, *args: object) -> object:
        result = update(self, *args)  # type: ignore[arg-type]
        if (tmp_path / "run" / CHECKPOINT_FILE).exists():
            if not first_epoch:
                first_epoch.append((tmp_path / "run" / POLICY_FILE).read_bytes())
            return UpdateResult(np.inf, 0.0, np.zeros(1, np.float32)) if agent == "dqn" else np.inf
        return result

    message = r"loss of training must be a number\. Got inf in epoch 2 instead; the policy of epoch 1 is kept"
    with monkeypatch.context() as broken:
        broken.setattr(learner, "update", diverges)
        with pytest.raises(TrainingError, match=message):
            train(settings, tmp_path / "run")
    assert (tmp_path / "run" / POLICY_FILE).read_bytes() == first_epoch[0]
    assert train(settings, tmp_path / "run", resume=True) == whole(settings)


def test_a_loss_that_is_not_a_number_is_seen_wherever_it_falls_in_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, losses = QLearner.update, iter([float("nan")])

    def fails_once(self: QLearner, *args: object) -> UpdateResult:
        result = update(self, *args)  # type: ignore[arg-type]
        return replace(result, loss=next(losses, result.loss))

    monkeypatch.setattr(QLearner, "update", fails_once)
    with pytest.raises(TrainingError, match="Got nan in epoch 1 instead; no policy was kept"):
        train(quick("dqn", updates_per_step=1.0), tmp_path)  # four updates in the first step that learns


@pytest.mark.parametrize(
    ("changes", "gamma", "shots", "needed"),
    [
        ({}, 0.97, 1, r"value_min 0 and value_max 33\.34"),
        ({}, 0.9, 3, "value_min 0 and value_max 30"),
        ({"reward_grid_factor": 20.0}, 0.9, 1, "value_min 0 and value_max 18"),
        ({"reward": "ssl2rl"}, 0.9, 1, r"value_min -9\.65 and value_max 10"),
    ],
    ids=["gamma", "shots", "factor", "additive reward"],
)
@pytest.mark.parametrize("agent", ["c51", "rainbow"])
def test_a_support_too_narrow_for_the_returns_is_refused_with_the_one_needed(
    agent: str, changes: dict[str, object], gamma: float, shots: int, needed: str, tmp_path: Path
) -> None:
    session = even_session()
    session = replace(session, problem=replace(session.problem, shots=shots))
    settings = quick(agent, **changes)
    settings = settings.model_copy(update={"agent": settings.agent.model_copy(update={"gamma": gamma})})
    with pytest.raises(
        InputError, match=rf"must hold every return.* Remedy: {needed} under network"
    ) as refused:
        Training([session], settings, tmp_path, device="cpu")
    value_min, value_max = re.findall(r"value_min (\S+) and value_max (\S+) under", str(refused.value))[0]
    wide = settings.network.model_copy(update={"value_min": float(value_min), "value_max": float(value_max)})
    Training([session], settings.model_copy(update={"network": wide}), tmp_path, device="cpu")
    assert not (tmp_path / CHECKPOINT_FILE).exists()


def test_an_agent_without_a_distribution_needs_no_support(tmp_path: Path) -> None:
    Training(sessions(), quick("dqn", reward="ssl2rl", reward_grid_factor=50.0), tmp_path, device="cpu")
    Training(sessions(), settings_of("c51", parts=0, budget_min=60.0), tmp_path, device="cpu")


def test_weights_that_explode_end_the_training_before_a_policy_is_kept(tmp_path: Path) -> None:
    settings = quick("dqn", updates_per_step=5.0, learning_rate=0.999, hidden=(128, 256, 128), epochs=400)
    training = Training(sessions(), settings, tmp_path, device="cpu")
    assert isinstance(training.learner, QLearner)
    with torch.no_grad():
        for parameter in training.learner.network.parameters():
            parameter.mul_(1e12)
    with pytest.raises(
        TrainingError, match=r"Got (nan|inf) in epoch 1 instead; no policy was kept\. .* than 0\.999"
    ):
        training.run()
    assert not (tmp_path / POLICY_FILE).exists()
    assert not (tmp_path / CHECKPOINT_FILE).exists()


def test_going_on_with_other_settings_or_sessions_is_refused(tmp_path: Path) -> None:
    train(quick("dqn"), tmp_path)
    before = result_of(tmp_path)
    with pytest.raises(InputError, match=r"run with the same settings .* or another --out folder"):
        train(quick("dqn", learning_rate=0.02), tmp_path, resume=True)
    with pytest.raises(InputError, match=r"run on the same sessions .* or another --out folder"):
        train(quick("dqn"), tmp_path, resume=True, on=sessions()[:1])
    changed = sessions()
    changed[0] = replace(changed[0], problem=replace(changed[0].problem, prior_p_good=np.full(48, 0.6)))
    with pytest.raises(InputError, match="run on the same sessions"):
        train(quick("dqn"), tmp_path, resume=True, on=changed)
    assert result_of(tmp_path) == before


def test_a_policy_is_not_a_checkpoint_and_a_lost_policy_is_missed(tmp_path: Path) -> None:
    train(quick("dqn"), tmp_path)
    policy = (tmp_path / POLICY_FILE).read_bytes()
    (tmp_path / POLICY_FILE).unlink()
    with pytest.raises(InputError, match=r"must hold the policy\.safetensors of epoch \d+ beside checkpoint"):
        train(quick("dqn"), tmp_path, resume=True)
    (tmp_path / CHECKPOINT_FILE).write_bytes(policy)
    with pytest.raises(InputError, match="must be a checkpoint"):
        train(quick("dqn"), tmp_path, resume=True)


def test_a_fresh_run_forgets_the_checkpoint_of_an_older_one(tmp_path: Path) -> None:
    train(quick("dqn"), tmp_path)
    with pytest.raises(KilledError):
        train(quick("dqn", seed=5), tmp_path, kill_at=3)
    assert train(quick("dqn", seed=5), tmp_path, resume=True) == train(
        quick("dqn", seed=5), tmp_path / "whole"
    )


@pytest.mark.parametrize(
    ("on", "changes", "message"),
    [
        ([], {}, "at least one session"),
        ([with_allowed(even_session(), np.zeros(32, dtype=bool))], {}, r"two patches or more, .* Got 0 instead"),
        ([with_allowed(even_session(), np.zeros(32, dtype=bool))], {"held_out": 0.0}, "hole that may be visited"),
        ([even_session(1, 1, 1)], {}, r"two patches or more, one of them held out\. Got 1 instead"),
        ([even_session(1, 1, 1, 1)], {"held_out": 0.0}, r"two holes or more .* Got 1 in session 0"),
        ([even_session()], {"budget_min": 1.0}, r"budget of a training must hold a visit: 2 minutes or more"),
        ([even_session()], {"buffer_size": 20}, r"buffer_size must hold a whole route .*: \d+ visits each\. Got 5"),
    ],
    ids=[
        "no session", "nothing to visit", "nothing to visit, none held out", "one patch", "one hole",
        "no time for a visit", "small buffer",
    ],
)  # fmt: skip
def test_a_session_to_learn_nothing_from_is_refused(
    on: list[TrainingSession], changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        Training(on, quick("dqn", **changes), tmp_path, device="cpu")


def test_the_setup_of_a_session_is_part_of_the_budget(tmp_path: Path) -> None:
    slow = PRESETS["cryorl"].model_copy(update={"setup_min": 59.0})
    session = even_session()
    session = replace(session, problem=replace(session.problem, time_model=slow))
    with pytest.raises(InputError, match=r"hold a visit: 61 minutes or more\. Got 60 instead"):
        Training([session], quick("dqn"), tmp_path, device="cpu")


def test_an_unknown_reward_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'ssl2rl'"):
        Training(sessions(), quick("dqn", reward="ssl2r"), tmp_path, device="cpu")


def test_a_buffer_that_just_holds_a_route_is_enough(tmp_path: Path) -> None:
    session = even_session(1)  # 16 holes
    train(quick("dqn", buffer_size=4 * 16, elimination=False, held_out=0.0), tmp_path, on=[session])
    with pytest.raises(InputError, match=r"16 visits each\. Got 15 .* Remedy: buffer_size 64 or more"):
        train(quick("dqn", buffer_size=4 * 15, elimination=False, held_out=0.0), tmp_path, on=[session])


def test_one_thread_is_used_unless_more_are_asked_for(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    Training(sessions(), quick("dqn"), tmp_path, device="cpu")
    assert torch.get_num_threads() == 1
