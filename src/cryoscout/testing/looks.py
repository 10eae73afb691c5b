"""What the checker asks of policies where looks are charged: above all that none sees a place before its look.

A policy is run in one world, and again in worlds that are the same in all that it has looked at by some moment and
different in everything else: other numbers of patches and holes, other predictions, other results. It must do the same
until a look shows it the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.hole_tree import NOWHERE, HoleTree
from cryoscout.routing.course import Course, PolicyError
from cryoscout.routing.looking import Sight, World, pays_for_start
from cryoscout.routing.places import Look, Places, Step
from cryoscout.routing.policies.base import STOP, LookingPolicy, Policy
from cryoscout.routing.problem import Crossing, RoutingProblem
from cryoscout.routing.replay import Truth
from cryoscout.routing.time_model import PRESETS, TimeModel


@dataclass(frozen=True)
class SmallPatch:
    """A patch of a small world."""

    p_good: NDArray[np.float64]  # (k,)
    good: NDArray[np.float64]  # (k,) 0..shots
    looked: bool = False


@dataclass(frozen=True)
class SmallWorld:
    """A world as lists, so that what is unseen can be changed."""

    squares: tuple[tuple[SmallPatch, ...], ...]
    grid_of_square: tuple[int, ...]
    square_looked: tuple[bool, ...]
    features: NDArray[np.float64]  # (S, f)
    time_model: TimeModel
    budget_min: float
    shots: int = 1
    crossing: Crossing = "drop"
    start: tuple[int, int, int] | None = None  # square, patch (its first) and hole; None: from nowhere

    def world(self) -> tuple[World, Truth, int]:
        """The world, its truth and the start hole."""
        patches = [patch for square in self.squares for patch in square]
        sizes = [len(patch.p_good) for patch in patches]
        tree = HoleTree(
            np.repeat(np.arange(len(patches)), sizes).astype(np.int32),
            np.repeat(np.arange(len(self.squares)), [len(square) for square in self.squares]).astype(
                np.int32
            ),
            np.array(self.grid_of_square, dtype=np.int32),
        )
        empty = np.empty(0)
        whole = RoutingProblem(
            tree=tree,
            prior_p_good=np.concatenate([empty, *(patch.p_good for patch in patches)]),
            budget_min=self.budget_min,
            time_model=self.time_model,
            shots=self.shots,
            crossing=self.crossing,
            places=Places.all_seen(tree),
        )
        looked = np.array([patch.looked for patch in patches], dtype=bool)
        features = Places(np.array(self.square_looked), looked, self.features)
        good = np.concatenate([empty, *(patch.good for patch in patches)])
        start = NOWHERE
        if self.start is not None:
            square, patch, hole = self.start
            before = sum(len(each) for each in self.squares[:square]) + patch
            start = sum(sizes[:before]) + hole
        return World(whole, features), Truth(good, np.ones(len(good), dtype=bool)), start

    def otherwise(
        self, square_looked: NDArray[np.bool_], looked: list[list[bool]], rng: np.random.Generator
    ) -> SmallWorld:
        """Another world that is the same in what was looked at. looked : of the patches of every square"""
        squares = []
        for index, square in enumerate(self.squares):
            # Where the stage is at the beginning stays what it is: the start hole's patch, whoever paid for its look.
            start = square[:1] if self.start is not None and self.start[0] == index else ()
            if not square_looked[index]:
                squares.append((*start, *_random_square(rng, self.shots)))
                continue
            squares.append(
                tuple(
                    patch if looked[index][at] or (at == 0 and start) else _random_patch(rng, self.shots)
                    for at, patch in enumerate(square)
                )
            )
        return replace(self, squares=tuple(squares))


def _random_patch(rng: np.random.Generator, shots: int, most: int = 5) -> SmallPatch:
    p_good = rng.integers(0, 21, size=int(rng.integers(0, most + 1))) / 20.0
    return SmallPatch(p_good, rng.binomial(shots, p_good).astype(np.float64))


def _random_square(rng: np.random.Generator, shots: int) -> tuple[SmallPatch, ...]:
    return tuple(_random_patch(rng, shots) for _ in range(int(rng.integers(0, 4))))


def random_world(
    rng: np.random.Generator,
    *,
    time_model: TimeModel = PRESETS["y1-looks-as-sketched"],
    squares: int = 5,
    share_looked: float = 0.2,
    budget_min: float = 45.0,
    shots: int = 1,
    crossing: Crossing = "drop",
    from_nowhere: bool = False,
) -> SmallWorld:
    """A small world, empty squares and patches among it."""
    made = [_random_square(rng, shots) for _ in range(squares)]
    first = SmallPatch(np.array([0.4, 0.7]), np.array([0.0, float(shots)]))
    made[0] = (first, *made[0])
    square_looked = rng.random(squares) < share_looked
    made = [
        tuple(replace(patch, looked=bool(square_looked[at] and rng.random() < 0.5)) for patch in square)
        for at, square in enumerate(made)
    ]
    grid = np.sort(rng.integers(0, 3, squares))
    return SmallWorld(
        tuple(made),
        tuple(int(each) for each in np.unique(grid, return_inverse=True)[1]),
        tuple(bool(each) for each in square_looked),
        rng.normal(size=(squares, 2)),
        time_model,
        budget_min,
        shots,
        crossing,
        None if from_nowhere else (0, 0, 0),
    )


def looking_worlds(seed: int = 0) -> dict[str, SmallWorld]:
    """The worlds every policy must serve, by what is special about each."""
    rng = np.random.default_rng([seed, 0x100C])
    slow = PRESETS["cryorl"].model_copy(
        update={"name": "looks", "patch_look_min": 1.0, "square_look_min": 4.0, "setup_min": 3.0}
    )
    plain = random_world(rng)
    nothing = replace(
        random_world(rng, from_nowhere=True, share_looked=0.0), features=np.full((5, 1), np.nan)
    )
    return {
        "plain": plain,
        "an atlas alone": nothing,
        "every square empty": replace(nothing, squares=((),) * 5),
        "looks free, moves paid": random_world(rng, time_model=PRESETS["cryorl"], budget_min=150.0),
        "slow looks, three shots": random_world(rng, time_model=slow, shots=3, budget_min=150.0),
        "crossing counts": random_world(rng, crossing="count"),
        "endless budget": random_world(rng, budget_min=1e5),
        "budget below one look": replace(plain, budget_min=1.0),
        "most is seen": random_world(rng, share_looked=0.9, squares=3),
    }


@dataclass
class _Run:
    """Steps of one run, and what was looked at before each."""

    steps: list[Step]
    seen: list[tuple[NDArray[np.bool_], list[list[bool]]]]
    used_min: float


def _run(policy: Policy, small: SmallWorld, seed: list[int], most: int | None = None) -> _Run:
    """The steps of a policy in a world; `most` of them, where no more are asked for."""
    world, truth, start = small.world()
    known = None if start == NOWHERE else float(truth.good[start])
    sight = Sight(world, small.budget_min, start, known, not pays_for_start(policy))
    run, rng = _Run([], [], 0.0), np.random.default_rng(seed)
    square_of_patch = world.whole.square_of_patch
    while sight.used_min < small.budget_min:
        seen = sight.seen_problem()
        if seen.problem.n_holes == 0 and not isinstance(policy, LookingPolicy):
            break
        course = Course(
            seen.problem,
            seen.start_hole,
            counts_crossing=small.crossing == "count" and not policy.drops_crossing,
        )
        policy.reset(seen.problem, seen.start_hole, rng)
        step: Step = STOP
        while not course.is_over():
            step = course.ask_step(policy)
            by_square = [
                sight.patch_looked[square_of_patch == square].tolist() for square in range(len(small.squares))
            ]
            run.steps.append(step)
            run.seen.append((sight.square_looked.copy(), by_square))
            if len(run.steps) == most:
                return run
            if step == STOP or isinstance(step, Look):
                break
            course.visit(step)
            hole = int(seen.holes[step])
            sight.imaged[hole] = True
            sight.outcome[hole], sight.results[hole] = truth.good[hole], small.shots
            course.take_result(step, float(truth.good[hole]))
        if not isinstance(step, Look):
            run.used_min = sight.used_min + course.minutes_used
            break
        course.look(step)
        sight.take_look(step, seen)
        sight.stands_at(course.at, course.here, seen)
        sight.used_min += course.minutes_used
        sight.setup_min = 0.0
        run.used_min = sight.used_min
    return run


def check_looks(
    policy_factory: Callable[[], Policy],
    worlds: Mapping[str, SmallWorld] | None = None,
    seed: int = 0,
) -> None:
    """Check every clause of the contract where looks are charged.

    policy_factory : makes a new policy     worlds : by name; None takes `looking_worlds(seed)`
    Clauses: it looks at places that were not looked at, images holes that are seen, and stops; looks end within the
    budget; the same seed gives the same steps; it sees nothing of a place before its look; it holds no World.
    Raises ConformanceError naming the first broken clause.
    """
    from cryoscout.testing.policies import ConformanceError

    for index, (label, small) in enumerate((looking_worlds(seed) if worlds is None else worlds).items()):
        policy = policy_factory()

        def broken(clause: str, policy: Policy = policy, label: str = label) -> ConformanceError:
            return ConformanceError(f"Policy {policy.name!r} breaks its contract on {label!r}: {clause}.")

        try:
            run = _run(policy, small, [seed, index])
            again = _run(policy_factory(), small, [seed, index])
        except PolicyError as error:
            raise broken(f"it must ask for what there is ({error})") from error
        if again.steps != run.steps:
            raise broken("the same seed must give the same steps")
        if small.crossing == "drop" and run.used_min > small.budget_min + 1e-6:
            raise broken(f"it must keep within the budget of {small.budget_min:g} min, got {run.used_min:g}")
        if any(isinstance(value, World | Sight | Truth) for value in vars(policy).values()):
            raise broken("it must not hold a World")
        rng = np.random.default_rng([seed, index, 1])
        looks = [
            at for at, step in enumerate(run.steps) if isinstance(step, Look) or at == len(run.steps) - 1
        ]
        for at in looks:
            other = small.otherwise(*run.seen[at], rng)
            steps = _run(policy_factory(), other, [seed, index], most=at + 1).steps
            if steps != run.steps[: at + 1]:
                raise broken(
                    f"it must not see a place before its look: where only unseen places differ it must do "
                    f"{run.steps[: at + 1]}, got {steps}"
                )
