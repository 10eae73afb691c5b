"""Routes that look: a world of which a policy sees only what was looked at, and the replay on it.

A look makes a new problem: what it showed is added, and the policy is reset on it, as it is on a session that is opened
again. So no policy ever holds an array that says anything of a place before its look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import NOWHERE, HoleTree, StagePlace
from cryoscout.routing.course import Course
from cryoscout.routing.places import Look, Places
from cryoscout.routing.policies.base import STOP, LookingPolicy, Policy
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import ReplanEvery, ReplayResult, Truth, check_replay
from cryoscout.routing.reward import Reward


class SeenPrediction(Protocol):
    """What a prediction says of the holes that were seen; context is theirs alone."""

    def __call__(
        self, holes: NDArray[np.int64], tree: HoleTree
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """p_good (m,) and loadings (m, k) of these holes, and the tree of what is seen."""
        ...


@dataclass(frozen=True)
class World:
    """Everything that is there: for replays and simulations, never for a policy.

    whole : the problem with every hole, as with free looks
    features : of every square, and what was looked at before
    predict : None takes the whole problem's p_good and loadings, hole by hole
    """

    whole: RoutingProblem
    features: Places
    predict: SeenPrediction | None = None

    def __post_init__(self) -> None:
        n = len(self.features.square_looked), len(self.features.patch_looked)
        if n != (self.whole.tree.n_squares, self.whole.tree.n_patches):
            raise InputError(
                f"Places of a world must be its {self.whole.tree.n_squares} squares and "
                f"{self.whole.tree.n_patches} patches. Got {n[0]} and {n[1]} instead."
            )

    @classmethod
    def hidden(cls, whole: RoutingProblem, predict: SeenPrediction | None = None) -> World:
        """A world in which nothing was looked at and images above say nothing."""
        tree = whole.tree
        unseen = np.zeros(tree.n_squares, dtype=bool), np.zeros(tree.n_patches, dtype=bool)
        return cls(whole, Places.looked_at(*unseen), predict)


@dataclass
class Sight:
    """How far a world was looked at, and what came out, in the world's indices."""

    world: World
    budget_min: float
    start_hole: int = NOWHERE
    start_good: float | None = None
    start_is_seen: bool = True  # the start hole's patch and square were looked at beforehand
    square_looked: NDArray[np.bool_] = field(init=False)
    patch_looked: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        whole, features = self.world.whole, self.world.features
        self.square_looked, self.patch_looked = features.square_looked.copy(), features.patch_looked.copy()
        self.imaged = np.zeros(whole.n_holes, dtype=bool) if whole.imaged is None else whole.imaged.copy()
        self.outcome = np.full(whole.n_holes, np.nan) if whole.outcome is None else whole.outcome.copy()
        self.results = whole.known_results()[1]
        self.at = whole.tree.place_of(self.start_hole if whole.stands_at is None else whole.stands_at)
        self.here = self.start_hole
        self.used_min = 0.0
        self.setup_min = whole.time_model.setup_min
        if self.start_hole != NOWHERE:
            self.imaged[self.start_hole] = True
            if self.start_good is not None:
                self.outcome[self.start_hole], self.results[self.start_hole] = self.start_good, whole.shots
            if self.start_is_seen:
                self.square_looked[self.at.square] = self.patch_looked[self.at.patch] = True

    def seen_problem(self) -> SeenProblem:
        """The problem of what was looked at so far, with the minutes that are left."""
        whole, features = self.world.whole, self.world.features
        patches = np.flatnonzero(self.square_looked[whole.square_of_patch])
        looked = self.patch_looked & self.square_looked[whole.square_of_patch]
        holes = np.flatnonzero(looked[whole.patch_of_hole])
        place_of_patch = np.cumsum(self.square_looked[whole.square_of_patch]) - 1
        tree = replace(
            whole.tree,
            patch_of_hole=place_of_patch[whole.patch_of_hole[holes]].astype(np.int32),
            square_of_patch=whole.square_of_patch[patches],
        )
        if self.world.predict is None:
            loadings = whole.fit_loadings
            p_good, loadings = whole.prior_p_good[holes], None if loadings is None else loadings[holes]
        else:
            p_good, loadings = self.world.predict(holes, tree)
        at = self.at
        if at.patch != NOWHERE:
            at = at._replace(patch=int(place_of_patch[at.patch]) if looked[at.patch] else NOWHERE)
        here = NOWHERE
        if self.here != NOWHERE and looked[whole.patch_of_hole[self.here]]:
            here = int(np.searchsorted(holes, self.here))
        problem = replace(
            whole,
            tree=tree,
            prior_p_good=p_good,
            fit_loadings=loadings,
            budget_min=self.budget_min - self.used_min,
            time_model=whole.time_model.model_copy(update={"setup_min": self.setup_min}),
            imaged=self.imaged[holes],
            outcome=self.outcome[holes],
            results=self.results[holes],
            allowed=None if whole.allowed is None else whole.allowed[holes],
            stage_um=None if whole.stage_um is None else whole.stage_um[holes],
            hole_ids=tuple(whole.hole_ids[hole] for hole in holes) if whole.hole_ids else (),
            places=Places(
                self.square_looked.copy(),
                looked[patches],
                features.square_features,
                features.square_xy_um,
                square_room=features.square_room,
            ),
            stands_at=at,
        )
        return SeenProblem(problem, here, holes, patches)

    def take_look(self, look: Look, seen: SeenProblem) -> None:
        """What a look at a place of the seen problem shows is seen from now on."""
        if look.level == "square":
            self.square_looked[look.index] = True
        else:
            self.patch_looked[seen.patches[look.index]] = True

    def stands_at(self, at: StagePlace, here: int, seen: SeenProblem) -> None:
        """Where the stage has got to, in the seen problem's indices."""
        self.at = at._replace(patch=NOWHERE if at.patch == NOWHERE else int(seen.patches[at.patch]))
        if here != NOWHERE:
            self.here = int(seen.holes[here])


@dataclass(frozen=True)
class SeenProblem:
    """A problem of what was looked at, and whose holes and patches they are in the world."""

    problem: RoutingProblem
    start_hole: int  # of the problem: the last hole imaged where it is seen, else NOWHERE
    holes: NDArray[np.int64]  # (n,) index into the world's holes
    patches: NDArray[np.int64]  # (P,) index into the world's patches


def replay_looking(
    world: World,
    truth: Truth,
    policy: Policy,
    starts: Iterable[int],
    seed: int,
    *,
    ctf_delay_min: float = 0.0,
    replan_every: ReplanEvery = 1,
    reward: str = "cryorl",
    progress: Callable[[], None] | None = None,
) -> list[ReplayResult]:
    """As `replay`, where what a policy has not looked at is hidden from it and each look takes its minutes.

    The start hole's patch and square are seen beforehand, unless the policy `pays_for_start`: then it looks at them
    itself. Arguments and errors as of `replay`; a policy that does not look images what is seen.
    """
    starts = list(starts)
    reward_rule = check_replay(world.whole, truth, starts, ctf_delay_min, replan_every, reward)
    results = []
    for index, start in enumerate(starts):
        rng = np.random.default_rng([seed, index])
        results.append(
            _replay_one(world, truth, policy, start, rng, reward_rule, ctf_delay_min, replan_every)
        )
        if progress is not None:
            progress()
    return results


def pays_for_start(policy: Policy) -> bool:
    """Whether a policy looks at the start's patch and square itself, and pays for it."""
    return bool(getattr(policy, "pays_for_start", False))


def _replay_one(
    world: World,
    truth: Truth,
    policy: Policy,
    start: int,
    rng: np.random.Generator,
    reward_rule: Reward,
    ctf_delay_min: float,
    replan_every: ReplanEvery,
) -> ReplayResult:
    known = float(truth.good[start]) if start != NOWHERE and truth.measured[start] else None
    sight = Sight(world, world.whole.budget_min, start, known, not pays_for_start(policy))
    route, minutes = list[int](), list[float]()
    pending: deque[tuple[float, int]] = deque()
    collected, handed_square, looks = 0.0, -1, {"square": 0, "patch": 0}
    going_on = True
    while going_on and sight.used_min < sight.budget_min:
        seen = sight.seen_problem()
        problem = seen.problem
        if problem.n_holes == 0 and not isinstance(policy, LookingPolicy):
            break  # nothing is seen, and it does not look
        course = Course(
            problem,
            seen.start_hole,
            may_visit=truth.measured[seen.holes],
            counts_crossing=problem.crossing == "count" and not policy.drops_crossing,
        )
        policy.reset(problem, seen.start_hole, rng)
        place_of_hole = {int(hole): place for place, hole in enumerate(seen.holes)}
        going_on = False
        while not course.is_over():
            square = course.at.square
            due = square != handed_square if replan_every == "square" else len(route) % replan_every == 0
            now_min = sight.used_min + course.minutes_used
            while due and pending and pending[0][0] <= now_min:
                hole = pending.popleft()[1]
                sight.outcome[hole], sight.results[hole] = truth.good[hole], problem.shots
                course.take_result(place_of_hole[hole], float(truth.good[hole]))
            handed_square = square if due else handed_square
            step = course.ask_step(policy)
            if step == STOP:
                break
            if isinstance(step, Look):
                course.look(step)
                looks[step.level] += 1
                sight.take_look(step, seen)
                going_on = True
                break
            tier = course.visit(step)
            hole = int(seen.holes[step])
            sight.imaged[hole] = True
            now_min = sight.used_min + course.minutes_used
            route.append(hole)
            minutes.append(now_min)
            pending.append((now_min + ctf_delay_min, hole))
            collected += reward_rule.of_visit(float(truth.good[hole]), tier)
        sight.stands_at(course.at, course.here, seen)
        sight.used_min += course.minutes_used
        sight.setup_min = 0.0
    visits = np.array(route, dtype=np.int64)
    return ReplayResult(
        start,
        visits,
        np.array(minutes, dtype=np.float64),
        truth.good[visits],
        collected,
        squares_looked=looks["square"],
        patches_looked=looks["patch"],
    )
