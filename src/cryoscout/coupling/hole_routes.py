"""Policies that drive the loop on the holes of a session: planners, and agents that are trained in every round.

A planner takes the pseudo-rewards as its predictions. An agent is trained on `PseudoRewards`: its outcomes are the
shown labels, and predictions elsewhere. Neither has a `Truth` in its hands: held-out labels judge routes afterwards.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.telling import SILENT, Telling
from cryoscout.coupling.lesson import UNLABELLED, Told, pseudo_rewards
from cryoscout.coupling.settings import CoupleSettings, is_agent
from cryoscout.learning.settings import AGENTS
from cryoscout.routing.plan_route import plan_route
from cryoscout.routing.policies import make_policy
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.replay import PseudoRewards, ReplayResult, Truth, replay
from cryoscout.routing.time_model import PRESETS, TimeModel

if TYPE_CHECKING:
    from cryoscout.learning.batch_env import TrainingSession
    from cryoscout.learning.settings import LearnSettings
    from cryoscout.learning.weights import PolicyFile
    from cryoscout.routing.policies.base import Policy

PLANNERS = ("index", "expected", "adaptive", "adaptive-trust", "random")
"""Planners that visit any hole, in the end; `greedy` and the searches leave out what is predicted bad."""
WITHOUT_WINDOWS = ("index", "random")
"""Their order needs no budget."""

REWARD = "ssl2rl"
P_LEAST = 0.001
"""p is clipped to P_LEAST .. 1 - P_LEAST: a hole of p = 0 would never be visited."""
RANK_WINDOWS = (0.25, 0.5, 1.0)
"""Windows of `ranks`, as shares of the minutes: of 480 they are 120, 240 and 480."""
JUDGED_AT = (0.25, 0.5, 0.75)
"""Budgets of the routes over held-out holes, as shares of the minutes that visiting all of them takes."""


def check_driver(name: str) -> str:
    """The name, if it can drive the loop. Raises UnknownNameError with the nearest."""
    if name not in (*PLANNERS, *AGENTS):
        raise UnknownNameError("The driver", name, (*PLANNERS, *AGENTS))
    return name


@dataclass(frozen=True)
class HoleRoutes:
    """The driver of the loop on a session's holes.

    tree : of the n holes     shots : per hole     agent_changes : fields of LearnSettings that differ
    """

    tree: HoleTree
    settings: CoupleSettings
    time_model: TimeModel = PRESETS["cryorl"]
    shots: int = 1
    agent_changes: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    telling: Telling = SILENT

    def check_windows(self) -> None:
        """Raise InputError for windows in which the longest move does not fit, or episodes without a visit."""
        if self.settings.driver in WITHOUT_WINDOWS:
            return
        times, least = self._times(), min(self._windows())
        if is_agent(self.settings.driver):
            tier, what = 0, "a visit"
        else:
            counts = (self.tree.n_patches, self.tree.n_squares, self.tree.n_grids)
            tier = max((tier for tier, count in enumerate(counts, start=1) if count > 1), default=0)
            what = "the longest move with its exposure"
        needed = times.setup_min + float(times.tiers_min(self.shots)[tier])
        if least < needed:
            raise self._no_visit(f"{what}: {needed:g} minutes or more", least, "")

    def _no_visit(self, what: str, minutes: float, got: str) -> InputError:
        name = "An episode" if is_agent(self.settings.driver) else "A window"
        shortest = (
            "" if minutes == self.settings.minutes else f", the shortest window of {self.settings.minutes:g}"
        )
        return InputError(
            f"{name} must hold {what}. Got {minutes:g} minutes{shortest}{got} instead. "
            "Remedy: more --minutes, for example 480."
        )

    def _windows(self) -> tuple[float, ...]:
        """Minutes of the windows that routes are planned in, one route for each and every start."""
        minutes = self.settings.minutes
        if self.settings.teacher == "ranks" and self.settings.driver not in WITHOUT_WINDOWS:
            return tuple(share * minutes for share in RANK_WINDOWS)
        return (minutes,)

    def problem(
        self, p_good: NDArray[np.float64], budget_min: float, allowed: NDArray[np.bool_] | None = None
    ) -> RoutingProblem:
        """Holes with these p_good, clipped; nothing else is known of them."""
        clipped = np.clip(p_good, P_LEAST, 1.0 - P_LEAST)
        return RoutingProblem(
            self.tree, clipped, budget_min, self._times(), self.shots, crossing="count", allowed=allowed
        )

    def routes(
        self,
        p_positive: NDArray[np.float64],
        told: Told,
        starts: NDArray[np.int64],
        seed: int,
        folder: Path,
        before: Path | None = None,
    ) -> NDArray[np.int64]:
        """(M, n) all holes in the order of their visits; the start is the first. For `ranks` by a planner with windows
        (3 M, n): from every start one for each of the windows.

        before : folder of the agent of the round before, which goes on learning where `later_epochs` say so
        """
        if is_agent(self.settings.driver):
            return self._agent_routes(p_positive, told, starts, seed, folder, before)
        rewards = pseudo_rewards(p_positive, told)
        windows = (self._minutes_of_all(),) if self.settings.driver in WITHOUT_WINDOWS else self._windows()
        with self.telling.progress(
            f"routes of {self.settings.driver}", len(windows) * len(starts)
        ) as advance:
            found = []
            for window, start in itertools.product(windows, starts.tolist()):
                found.append(self._whole_route(rewards, window, start, seed))
                advance()
        return np.array(found)

    def held_out_return(self, p_positive: NDArray[np.float64], told: Told, folder: Path) -> float:
        """Mean reward (y - c) of routes over the held-out holes at three budgets; NaN before an agent is trained.

        The policy knows p of these holes alone; their labels are the truth that its routes are judged by.
        """
        from cryoscout.learning.weights import POLICY_FILE

        policy: Policy
        if not is_agent(self.settings.driver):
            policy = make_policy(self.settings.driver)
        elif (folder / POLICY_FILE).is_file():
            policy = _policy_of(folder / POLICY_FILE)
        else:
            return math.nan
        held = told.held_out
        truth = Truth(np.where(held, self.shots * (told.labels == 1), 0.0).astype(np.float64), held)
        # Whatever the policy was told of movement, the minutes that it takes are real.
        asked = self.problem(p_positive, self._minutes_of_all(), held)
        problem = replace(asked, time_model=self.time_model)
        index = make_policy("index")
        whole = replay(problem, truth, index, [NOWHERE], 0, reward=REWARD)[0].minutes
        starts = np.random.default_rng(0).choice(np.flatnonzero(held), size=self.settings.starts)
        found: list[ReplayResult] = []
        for share in JUDGED_AT:
            within = problem.with_budget(max(share * float(whole[-1]), 1.0))
            found += replay(within, truth, policy, starts.tolist(), 0, reward=REWARD)
        return float(np.mean([route.reward for route in found]))

    def _times(self) -> TimeModel:
        if self.settings.movement_cost:
            return self.time_model
        same = self.time_model.same_patch_min
        return self.time_model.model_copy(
            update={
                "name": "no movement", "new_patch_min": same, "new_square_min": same, "new_grid_min": same,
                "per_square_overhead_min": 0.0,
            }
        )  # fmt: skip

    def _minutes_of_all(self) -> float:
        """Enough for any route over all holes."""
        times = self.time_model
        return 1.0 + times.setup_min + float(times.tiers_min(self.shots)[-1]) * (self.tree.n_holes + 1)

    def _whole_route(
        self, rewards: NDArray[np.float64], window: float, start: int, seed: int
    ) -> NDArray[np.int64]:
        """A planner's windows of so many minutes, planned again and again until every hole is visited."""
        name = self.settings.driver
        free = np.ones(self.tree.n_holes, dtype=np.bool_)
        free[start] = False
        route, here, policy = [start], start, make_policy(name)
        while free.any():
            # A plan never holds the visit that crosses its window. A policy that knows it follows a plan to its end
            # without solving again before every visit.
            problem = replace(self.problem(rewards, window, free), crossing="drop")
            planned = plan_route(problem, policy, here, seed).route
            if not len(planned):
                raise self._no_visit("a visit", window, f", in which {name} visits nothing,")
            route += planned.tolist()
            free[planned] = False
            here = route[-1]
        return np.array(route, dtype=np.int64)

    def learned_values(
        self, p_positive: NDArray[np.float64], told: Told, starts: NDArray[np.int64], seed: int, folder: Path
    ) -> NDArray[np.float64]:
        """(n,) value that the driver, an agent, learns of every hole as the first visit, the mean over the starts.

        NaN of a hole that is every start. What SSL2-RL names as the next step beyond orders: labels from the learned
        Q function (its section 6).
        """
        from cryoscout.learning.greedy_routes import first_values

        session, trained = self._trained(p_positive, told, seed, folder)
        values = first_values(session, trained, starts)
        known = np.isfinite(values)
        total = np.where(known, values, 0.0).sum(axis=0)
        return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)

    def train(self, p_positive: NDArray[np.float64], told: Told, seed: int, folder: Path) -> Path:
        """The driver, an agent, trained on pseudo-rewards as in a round: the file of its policy, in the folder.

        A training that was stopped there goes on.
        """
        from cryoscout.learning.weights import POLICY_FILE

        self._trained(p_positive, told, seed, folder)
        return folder / POLICY_FILE

    def _agent_routes(
        self,
        p_positive: NDArray[np.float64],
        told: Told,
        starts: NDArray[np.int64],
        seed: int,
        folder: Path,
        before: Path | None,
    ) -> NDArray[np.int64]:
        from cryoscout.learning.greedy_routes import whole_routes

        session, trained = self._trained(p_positive, told, seed, folder, before)
        with self.telling.progress(f"routes of {self.settings.driver}", self.tree.n_holes) as advance:
            return whole_routes(session, trained, starts, advance)

    def _trained(
        self,
        p_positive: NDArray[np.float64],
        told: Told,
        seed: int,
        folder: Path,
        before: Path | None = None,
    ) -> tuple[TrainingSession, PolicyFile]:
        """The agent trained on pseudo-rewards, and the session with minutes for all holes."""
        from cryoscout.learning.batch_env import TrainingSession
        from cryoscout.learning.training import Training
        from cryoscout.learning.weights import POLICY_FILE, read_policy

        settings, start = self.agent_settings(seed), None
        if before is not None and self.settings.later_epochs is not None:
            settings = settings.model_copy(update={"epochs": self.settings.later_epochs})
            start = read_policy(before / POLICY_FILE).weights
        shown = told.shown
        labels = np.where(shown == UNLABELLED, np.nan, self.shots * shown)
        problem = self.problem(p_positive, settings.budget_min)
        rewards = PseudoRewards.of(labels, problem.prior_p_good, self.shots)
        learned_from = (
            problem if self.settings.pseudo_rewards else replace(problem, allowed=shown != UNLABELLED)
        )
        training = Training(
            [TrainingSession(learned_from, rewards)], settings, folder, device=self.device, start=start
        )
        with self.telling.progress(f"training {settings.agent.name}", settings.epochs) as advance:
            done = 0

            def told_of(now: Any) -> None:
                nonlocal done
                while done < now.epoch:
                    done += 1
                    advance()

            file = training.run(resume=True, progress=told_of)
        whole = replace(problem, budget_min=self._minutes_of_all())
        return TrainingSession(whole, rewards), read_policy(file)

    def agent_settings(self, seed: int) -> LearnSettings:
        """Of the agent's training in a round: the additive reward, no action elimination, episodes of the minutes."""
        from cryoscout.learning.settings import ViewSettings, settings_of

        loop = self.settings
        found = settings_of(
            loop.driver, reward=REWARD, elimination=False, budget_min=loop.minutes, epochs=loop.epochs,
            seed=seed, view=ViewSettings(labels=loop.features), **self.agent_changes,
        )  # fmt: skip
        if found.network.atoms == 1:
            return found
        # y - c may be negative in every visit, and the distribution must hold the return.
        longest = 1.0 / (1.0 - found.agent.gamma)
        support = {"value_min": -longest, "value_max": self.shots * longest}
        return found.model_copy(update={"network": found.network.model_copy(update=support)})


def _policy_of(file: Path) -> Policy:
    from cryoscout.learning.registry import policy_named

    return policy_named(str(file))
