"""Training an agent: acts, stores, learns, judges itself on held-out patches, and can go on after a kill."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoscout.core.array_file import read_arrays, write_arrays
from cryoscout.core.errors import InputError
from cryoscout.core.new_files import write_whole
from cryoscout.core.precision import precision_to_go_on_in
from cryoscout.learning.a2c import ActorCritic, RolloutStep
from cryoscout.learning.batch_env import BatchedRoutes, Step, TrainingSession, session_to_learn_from
from cryoscout.learning.checkpoint import load_learner, load_routes, save_learner, save_routes, start_learner
from cryoscout.learning.from_session import data_digest
from cryoscout.learning.held_out import kept_and_trials, random_parts, share_of_bound
from cryoscout.learning.q_learning import QLearner
from cryoscout.learning.settings import LearnSettings
from cryoscout.learning.transitions import VisitBuffer
from cryoscout.learning.weights import POLICY_FILE, write_policy

CHECKPOINT_FILE = "checkpoint.safetensors"
METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class Progress:
    """Where a training run stands."""

    epoch: int
    epochs: int
    steps: int
    steps_in_all: int
    reward: float  # mean of the routes that ended in this epoch; NaN before one ended
    good: float
    share_of_bound: float  # of the held-out routes after the last epoch; NaN before


class TrainingError(InputError):
    """Training cannot go on; the last good checkpoint is kept."""


class _EndedRoutes:
    """Returns of the routes that ended in the running epoch."""

    def __init__(self, n_routes: int) -> None:
        self.reward, self.good = np.zeros(n_routes), np.zeros(n_routes)
        self.rewards: list[float] = []
        self.goods: list[float] = []

    def add(self, step: Step) -> NDArray[np.bool_]:
        self.reward += step.reward
        self.good += step.good
        over = step.terminated | step.truncated
        self.rewards += self.reward[over].tolist()
        self.goods += self.good[over].tolist()
        self.reward[over], self.good[over] = 0.0, 0.0
        return over


class Training:
    """One training run in one folder.

    folder/policy.safetensors is the best policy so far, checkpoint.safetensors what a stopped run goes on from,
    metrics.jsonl one line per epoch. A run that goes on gives what an uninterrupted one gives.
    """

    def __init__(
        self,
        sessions: Sequence[TrainingSession],
        settings: LearnSettings,
        folder: Path,
        *,
        notes: Mapping[str, Any] | None = None,
        device: str | None = None,
        start: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> None:
        """notes : kept in the policy's file, for people     device : torch's name; by default a GPU if there is one.

        start : weights of a policy with the same network, to go on from in the place of drawn ones

        Raises InputError when a session has nothing to learn from, or a return may lie outside the distribution's
        support.
        """
        self.settings, self.folder, self.notes = settings, folder, dict(notes or {})
        torch.set_num_threads(settings.threads)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.data = data_digest(sessions)
        kept, self.trials, splitter = kept_and_trials(sessions, settings)
        self.rng = np.random.default_rng(settings.seed)
        beta = settings.beta_training if settings.elimination else None
        self.routes = BatchedRoutes(
            [
                session_to_learn_from(part, settings.budget_min, beta)
                for session in kept
                for part in random_parts(session, settings.parts, splitter)
            ],
            settings.view,
            settings.environments,
            self.rng,
            reward=settings.reward,
            tier_factors=(1.0, 1.0, settings.reward_square_factor, settings.reward_grid_factor),
        )
        if settings.network.atoms > 1:
            _check_holds_returns(settings, self.routes)
        is_a2c = settings.network.critic
        self.learner = ActorCritic(settings, self.device) if is_a2c else QLearner(settings, self.device)
        if start is not None:
            start_learner(self.learner, start)
        self.buffer = VisitBuffer(
            self.routes.tables,
            settings.environments,
            2 * settings.environments if is_a2c else settings.buffer_size,
            settings.view.history,
            priority_exponent=settings.agent.priority_exponent if settings.agent.prioritized else None,
        )
        if not is_a2c:
            _check_holds_a_route(self.buffer, self.routes)
        self.place = np.zeros(settings.environments, dtype=np.int64)
        self.start_good = np.zeros(settings.environments, dtype=np.float32)
        self.epoch, self.steps, self.owed_updates = 0, 0, 0.0
        self.best_share, self.best_epoch = -np.inf, 0
        self.ended = _EndedRoutes(settings.environments)
        for route in range(settings.environments):
            self._start(route)

    @property
    def steps_in_all(self) -> int:
        """Visits of the whole run."""
        return self.settings.epochs * self.settings.steps_per_epoch

    def run(self, *, resume: bool = False, progress: Callable[[Progress], None] | None = None) -> Path:
        """Train to the end; returns the policy's file.

        resume : go on from the folder's checkpoint where there is one of the same settings
        Raises TrainingError when the loss is not a number, InputError when the checkpoint has other settings.
        """
        if resume and (self.folder / CHECKPOINT_FILE).is_file():
            self._load()
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Or a run stopped in its first epoch would go on from another one.
            (self.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
            write_whole(self.folder / METRICS_FILE, "")
        share = float("nan")
        while self.epoch < self.settings.epochs:
            began = time.monotonic()
            losses = self._one_epoch(progress, share)
            self.epoch += 1
            share = self._judge()
            self._log(losses, share, time.monotonic() - began)
            self._save()
            if progress is not None:
                progress(self._progress(share))
        return self.folder / POLICY_FILE

    def _one_epoch(self, progress: Callable[[Progress], None] | None, share: float) -> list[float]:
        self.ended.rewards.clear()
        self.ended.goods.clear()
        losses: list[float] = []
        rollout: list[RolloutStep] = []
        end = (self.epoch + 1) * self.settings.steps_per_epoch
        while self.steps < end:
            known = len(losses)
            if isinstance(self.learner, ActorCritic):
                rollout.append(self._act_and_keep(self.learner))
                if len(rollout) == self.settings.agent.rollout_steps or self.steps >= end:
                    losses.append(self.learner.update(rollout, self.learner.values(self.routes.look())))
                    rollout = []
            else:
                losses += self._act_and_learn(self.learner)
            wrong = [loss for loss in losses[known:] if not np.isfinite(loss)]
            if wrong:
                kept = (
                    f"the policy of epoch {self.best_epoch} is kept"
                    if self.best_epoch
                    else "no policy was kept"
                )
                raise TrainingError(
                    f"The loss of training must be a number. Got {wrong[0]} in epoch {self.epoch + 1} instead; "
                    f"{kept}. Remedy: a smaller --learning-rate than {self.settings.learning_rate:g}."
                )
            if progress is not None:
                progress(self._progress(share))
        return losses

    def _act_and_learn(self, learner: QLearner) -> list[float]:
        """One visit of every environment and the updates due; their losses."""
        settings, done = self.settings, self.steps / self.steps_in_all
        share = settings.random_first + (settings.random_last - settings.random_first) * done
        if settings.network.noisy:
            share = 0.0  # the noise explores
        if self.steps < settings.batch_size:
            share = 1.0
        seen = self.routes.look()
        self._visit(seen.holes[learner.act(seen, self.rng, share)])
        losses = []
        self.owed_updates += settings.environments * settings.updates_per_step
        while self.owed_updates >= 1.0:
            self.owed_updates -= 1.0
            if self.steps >= settings.batch_size:
                losses.append(learner.update(self.buffer, self.rng, done).loss)
        return losses

    def _act_and_keep(self, learner: ActorCritic) -> RolloutStep:
        """One visit of every environment, kept for the update at the rollout's end."""
        seen = self.routes.look()
        rows = learner.act(seen, self.rng, 0.0)
        value_at_budget = np.zeros(self.settings.environments, dtype=np.float32)

        def before_restart(step: Step) -> None:
            cut = step.truncated & ~step.terminated
            if cut.any() and self.settings.agent.bootstrap_at_budget:
                value_at_budget[cut] = learner.values(self.routes.look(cut))[cut]

        step = self._visit(seen.holes[rows], before_restart)
        return RolloutStep(seen, rows, step.reward, step.terminated, step.truncated, value_at_budget)

    def _visit(self, holes: NDArray[np.int64], before_restart: Callable[[Step], None] | None = None) -> Step:
        """Visit, store, and start the routes again that ended."""
        routes = self.routes
        session = routes.states.session.copy()
        step = routes.step(holes)
        self.buffer.add(
            holes, step.good, step.reward, self.place, routes.start_hole, self.start_good, session,
            step.terminated, step.truncated,
        )  # fmt: skip
        self.place += 1
        self.steps += self.settings.environments
        if before_restart is not None:
            before_restart(step)
        for route in np.flatnonzero(self.ended.add(step)):
            self._start(int(route))
        return step

    def _start(self, route: int) -> None:
        self.routes.reset(route)
        self.place[route] = 0
        self.start_good[route] = self.routes.good[route, self.routes.start_hole[route]]

    def _judge(self) -> float:
        """Share of the bound on held-out routes; keeps the policy when it is the best so far."""
        self.learner.network.eval()
        share = float("nan")
        if self.trials:
            share = share_of_bound(self.trials, self.settings, self._scores)
        if not self.trials or share > self.best_share:
            self.best_share, self.best_epoch = share, self.epoch
            weights = {
                name: tensor.detach().cpu().numpy()
                for name, tensor in self.learner.network.state_dict().items()
            }
            notes = {
                **self.notes, "epoch": self.epoch, "held_out_share_of_bound": _or_none(share),
                "precision": self.learner.precision,
            }  # fmt: skip
            write_policy(self.folder / POLICY_FILE, self.settings, weights, notes)
        return share

    def _scores(self, rows: NDArray[np.float32], begin: NDArray[np.int64]) -> NDArray[np.float32]:
        if isinstance(self.learner, ActorCritic):
            return self.learner.scores(rows, begin)
        return self.learner.scores(self.learner.network, rows, begin)

    def _log(self, losses: list[float], share: float, seconds: float) -> None:
        record = {
            "epoch": self.epoch,
            "steps": self.steps,
            "updates": self.learner.n_updates,
            "loss": _or_none(float(np.mean(losses)) if losses else float("nan")),
            "route_reward": _or_none(_mean(self.ended.rewards)),
            "route_good": _or_none(_mean(self.ended.goods)),
            "held_out_share_of_bound": _or_none(share),
            "best_epoch": self.best_epoch,
            "seconds": round(seconds, 3),
        }
        with (self.folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _progress(self, share: float) -> Progress:
        return Progress(
            self.epoch, self.settings.epochs, self.steps, self.steps_in_all,
            _mean(self.ended.rewards), _mean(self.ended.goods), share,
        )  # fmt: skip

    def _save(self) -> None:
        arrays = {
            **save_learner(self.learner),
            **save_routes(self.routes),
            **{f"buffer.{name}": array for name, array in self.buffer.state().items()},
            "place": self.place,
            "start_good": self.start_good,
            "ended.reward": self.ended.reward,
            "ended.good": self.ended.good,
        }
        header = {
            "kind": "checkpoint",
            "settings": self.settings.model_dump(mode="json"),
            "precision": self.learner.precision,
            "data": self.data,
            "epoch": self.epoch,
            "steps": self.steps,
            "owed_updates": self.owed_updates,
            "best_share": _or_none(self.best_share),
            "best_epoch": self.best_epoch,
            "rng": self.rng.bit_generator.state,
        }
        write_arrays(arrays, header, self.folder / CHECKPOINT_FILE)

    def _load(self) -> None:
        path = self.folder / CHECKPOINT_FILE
        arrays, header = read_arrays(path, "checkpoint")
        stored = {
            name: value for name, value in header["settings"].items() if name not in ("precision", "bf16")
        }
        if stored != self.settings.model_dump(mode="json", exclude={"precision"}):
            raise InputError(
                f"{path} must be of a run with the same settings to go on from it. Got others instead. Remedy: "
                "give the settings it was begun with, or another --out folder."
            )
        if header["data"] != self.data:
            raise InputError(
                f"{path} must be of a run on the same sessions to go on from it. Got others instead. Remedy: give the "
                "sessions, split and prediction it was begun with, or another --out folder."
            )
        if not (self.folder / POLICY_FILE).is_file():
            raise InputError(
                f"{self.folder} must hold the {POLICY_FILE} of epoch {header['best_epoch']} beside {path.name}. Got "
                "none instead. Remedy: put it back, or train again from the start."
            )
        self.learner.precision = precision_to_go_on_in(
            path, header, self.settings.precision, self.learner.precision
        )
        load_learner(self.learner, arrays)
        load_routes(self.routes, arrays)
        self.buffer.load_state(
            {
                name.removeprefix("buffer."): array
                for name, array in arrays.items()
                if name.startswith("buffer.")
            }
        )
        self.place[...], self.start_good[...] = arrays["place"], arrays["start_good"]
        self.ended.reward[...], self.ended.good[...] = arrays["ended.reward"], arrays["ended.good"]
        self.epoch, self.steps = int(header["epoch"]), int(header["steps"])
        self.owed_updates, self.best_epoch = float(header["owed_updates"]), int(header["best_epoch"])
        self.best_share = -np.inf if header["best_share"] is None else float(header["best_share"])
        self.rng.bit_generator.state = header["rng"]
        metrics = self.folder / METRICS_FILE
        lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True) if metrics.exists() else []
        write_whole(metrics, "".join(lines[: self.epoch]))


def _check_holds_a_route(buffer: VisitBuffer, routes: BatchedRoutes) -> None:
    """Raise InputError when a route can be longer than what the buffer keeps of an environment."""
    rules, longest = routes.rules, 0
    for place, session in enumerate(routes.sessions):
        minutes = rules.budget_min[place] - rules.setup_min[place]
        longest = max(
            longest,
            min(int(session.problem.available().sum()), 1 + int(minutes / rules.tiers_min[place, 0])),
        )
    if buffer.per_environment < longest:
        raise InputError(
            f"buffer_size must hold a whole route of every environment: {longest} visits each. Got "
            f"{buffer.per_environment} for each of {routes.n_routes} environments instead. Remedy: buffer_size "
            f"{longest * routes.n_routes} or more, or fewer environments."
        )


def _check_holds_returns(settings: LearnSettings, routes: BatchedRoutes) -> None:
    """Raise InputError when the support of the return's distribution is too narrow: it would cut returns silently."""
    rules, network = routes.rules, settings.network
    shots = np.array([[session.problem.shots] for session in routes.sessions])
    visits = np.stack([rules.reward_of_visit, rules.reward_of_visit + shots * rules.reward_of_good])
    horizon = 1.0 / (1.0 - settings.agent.gamma)
    # 0 is the return of a route that is over.
    smallest, largest = horizon * min(0.0, float(visits.min())), horizon * max(0.0, float(visits.max()))
    rounding = 1e-9 * (largest - smallest)
    if network.value_min <= smallest + rounding and network.value_max >= largest - rounding:
        return
    # Two digits, rounded outwards but for the last bits.
    value_min = min(network.value_min, math.floor(round(100 * smallest, 6)) / 100)
    value_max = max(network.value_max, math.ceil(round(100 * largest, 6)) / 100)
    raise InputError(
        f"value_min and value_max of the network must hold every return, {smallest:.2f} to {largest:.2f} with these "
        f"shots, reward, factors and gamma. Got {network.value_min:g} to {network.value_max:g} instead. Remedy: "
        f"value_min {value_min:g} and value_max {value_max:g} under network in a file for --settings."
    )


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
