"""A person against the planners (CryoRL, section 5.3): so many picks, each result known at once, moving not charged.

A round keeps the picks of one person; `compared` puts its course beside those of `adaptive`, of the shipped agent and
of the exact bound, once against picks (moving free, as the person plays) and once against minutes (moving charged, as
the microscope would have taken).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import DataError, InputError
from cryoscout.routing.bound import good_holes_bound_course
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth, replay, value_at_minutes
from cryoscout.routing.time_model import ROUNDING_MIN, TimeModel

if TYPE_CHECKING:
    from cryoscout.session.model import Session

Json = dict[str, Any]

PICKS = (50, 100)
"""Picks of the published study."""
RIVALS = ("adaptive", "dqn-y1")

PUBLISHED: Mapping[int, tuple[float, float]] = {50: (31.9, 10.6), 100: (77.4, 6.2)}
"""Good holes of the paper's 15 students, mean and standard deviation, by picks: CryoRL, arXiv:2204.07543, Table 2."""


@dataclass
class PracticeRound:
    """One person's picks on the measured holes of a session.

    problem : with a time model; its predictions are for the rivals and are not shown
    ctf_angstrom : (n,) what a pick shows, NaN where the fit failed
    Raises InputError for fewer than one pick, DataError where the session has too few measured holes.
    """

    name: str
    problem: RoutingProblem
    truth: Truth
    ctf_angstrom: NDArray[np.float64]
    n_picks: int
    player: str = ""
    picks: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.n_picks < 1:
            raise InputError(f"The picks must be 1 or more. Got {self.n_picks} instead. Remedy: --picks 50.")
        measured = int(self.truth.measured.sum())
        if measured <= self.n_picks:
            raise DataError(
                f"Practice must have more measured holes than picks. Got {measured} in session {self.name} for "
                f"{self.n_picks} picks instead. Remedy: fewer --picks, or a session with more results."
            )

    @property
    def is_over(self) -> bool:
        """Whether every pick is used."""
        return len(self.picks) >= self.n_picks

    def pick(self, hole: int) -> Json:
        """Image a hole; what the microscope would show: its CTF resolution, good or not, and how many are left.

        Raises InputError for a hole that is none, was picked or has no result, and when the round is over.
        """
        if self.is_over:
            raise InputError(f"A round must end after its {self.n_picks} picks. Got one more instead.")
        if not 0 <= hole < self.problem.n_holes:
            raise InputError(f"A pick must be a hole below {self.problem.n_holes}. Got {hole} instead.")
        if hole in self.picks:
            raise InputError("A pick must be a hole that was not picked yet. Got one that was instead.")
        if not self.truth.measured[hole]:
            raise InputError("A pick must be a hole with a result. Got one that was never imaged instead.")
        self.picks.append(hole)
        return self.shown(hole)

    def shown(self, hole: int) -> Json:
        """What a pick of the hole says."""
        ctf = float(self.ctf_angstrom[hole])
        return {
            "hole": hole,
            "ctf_max_res_angstrom": None if np.isnan(ctf) else round(ctf, 2),
            "good": float(self.truth.good[hole]),
            "picks": len(self.picks),
            "left": self.n_picks - len(self.picks),
            "good_so_far": float(self.truth.good[self.picks].sum()),
        }

    def minutes(self) -> NDArray[np.float64]:
        """(picks,) when each pick would have ended, had moving been charged; the first begins in its own patch."""
        tiers = self.problem.time_model.tiers_min(self.problem.shots)
        taken = [
            float(tiers[0 if at == 0 else self.problem.tier_between(self.picks[at - 1], hole)])
            for at, hole in enumerate(self.picks)
        ]
        return np.cumsum(taken)


def practice_round(session: Session, n_picks: int, player: str = "") -> PracticeRound:
    """A round on a session's results at its own threshold, with the time model `cryorl`.

    Raises DataError where it has none.
    """
    from cryoscout.routing.from_session import problem_from_session, truth_from_session
    from cryoscout.routing.predictions import prediction_of
    from cryoscout.routing.replay import only_measured
    from cryoscout.routing.time_model import time_model_named

    threshold = session.info.threshold_angstrom
    truth = truth_from_session(session, threshold)
    problem = problem_from_session(
        session,
        prediction=prediction_of(session, None, "combined", threshold),
        budget_min=1.0,
        time_model=time_model_named("cryorl"),
        threshold_angstrom=threshold,
        crossing="drop",
        as_new=True,
    )
    exposures = session.exposures.dropna(subset=["ctf_max_res_angstrom"])
    best = exposures.groupby("hole_id")["ctf_max_res_angstrom"].min()
    ctf = session.holes["hole_id"].map(best).to_numpy(dtype=np.float64)
    return PracticeRound(session.name, only_measured(problem, truth), truth, ctf, n_picks, player)


def compared(played: PracticeRound, rivals: Sequence[str] = RIVALS) -> Json:
    """The finished round beside its rivals, on both axes.

    Keys: picks {x, you, bound, and each rival: good by pick}, minutes {x, ...: good by minute}, minutes_taken (of the
    person's own order). All start at the person's first hole, which counts for everybody.
    Raises InputError while picks are left.
    """
    if not played.is_over:
        raise InputError(
            f"A comparison must be of a finished round. Got {played.n_picks - len(played.picks)} picks left instead."
        )
    free = TimeModel(name="moving free", same_patch_min=1, new_patch_min=1, new_square_min=1, new_grid_min=1)
    ends_min = played.minutes()
    first_min = float(ends_min[0])
    by_pick = np.arange(1.0, played.n_picks + 1.0)
    minutes = np.linspace(first_min, float(ends_min[-1]), 60)
    own = played.truth.good[played.picks]
    on_picks: dict[str, list[float]] = {"you": np.cumsum(own).tolist()}
    on_minutes: dict[str, list[float]] = {"you": value_at_minutes(ends_min, own, minutes).tolist()}
    start = played.picks[0]
    for model, budget, moments, into in (
        (free, float(played.n_picks - 1), by_pick - 1.0, on_picks),
        (played.problem.time_model, float(ends_min[-1]) - first_min, minutes - first_min, on_minutes),
    ):
        if budget <= 0:
            continue
        problem = replace(played.problem, time_model=model, budget_min=budget)
        for name in rivals:
            into[name] = _course(problem, played.truth, name, start, moments)
        into["bound"] = (own[0] + good_holes_bound_course(problem, played.truth, start, moments)).tolist()
    return {
        "session": played.name,
        "player": played.player,
        "n_picks": played.n_picks,
        "good": float(own.sum()),
        "minutes_taken": float(ends_min[-1]),
        "time_model": played.problem.time_model.name,
        "picks": {"x": by_pick.tolist(), **on_picks},
        "minutes": {"x": minutes.tolist(), **on_minutes},
    }


def _course(
    problem: RoutingProblem, truth: Truth, name: str, start: int, moments: NDArray[np.float64]
) -> list[float]:
    from cryoscout.learning.registry import policy_named

    (route,) = replay(problem, truth, policy_named(name), [start], seed=0)
    found = value_at_minutes(route.minutes, route.good, moments + ROUNDING_MIN)
    course: list[float] = (float(truth.good[start]) + found).tolist()
    return course


def table_rows(results: Sequence[Mapping[str, Any]]) -> list[Json]:
    """One row per session and number of picks: how many rounds, mean and deviation of people, rivals and the paper.

    results : comparisons as `compared` gives them
    """
    rows = []
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for each in results:
        groups.setdefault((str(each["session"]), int(each["n_picks"])), []).append(each)
    for (session, n_picks), rounds in sorted(groups.items()):
        good = np.array([each["good"] for each in rounds], dtype=np.float64)
        row: Json = {
            "session": session,
            "picks": n_picks,
            "rounds": len(rounds),
            "people": len({each["player"] for each in rounds}),
            "good_mean": float(good.mean()),
            "good_std": float(good.std()),
        }
        for name in (*RIVALS, "bound"):
            ends = [each["picks"][name][-1] for each in rounds if name in each["picks"]]
            row[f"{name}_mean"] = float(np.mean(ends)) if ends else None
        published = PUBLISHED.get(n_picks)
        row["published_mean"], row["published_std"] = published if published else (None, None)
        rows.append(row)
    return rows
