"""Study `cryorl-table4`: how a classifier and a policy carry over to another session (CryoRL, Table 4).

The paper's second session and its classifier of daily use are not public. Simulated sessions of two grid types stand
in for them: one like Y1, one finer with better ice, each with its own classifier and with one as right as the paper's
transferred one. A session of the user's can join them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from cryoscout.core.errors import InputError
from cryoscout.routing.policies import policy_type
from cryoscout.routing.policies.base import PolicyKind
from cryoscout.session.builtin import BUILTIN_SESSIONS
from cryoscout.simulate.session import SIMULATED_MODEL
from cryoscout.simulate.settings import SimulationSettings
from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.published import BUDGETS_MIN, TABLE4, TABLE4_ACCURACY
from cryoscout.study.engine.runner import Trial, TrialRow
from cryoscout.study.engine.sessions import session_of, simulated
from cryoscout.study.engine.tables import markdown_table, mean_std
from cryoscout.study.learned.page import (
    NOTE_ON_PAIRS,
    Found,
    differences_table,
    good_table,
    published_in_words,
    training_in_words,
)
from cryoscout.study.learned.trainings import (
    LEARNED_ON,
    PACKAGES,
    STARTS,
    TESTED_ON,
    StudyRow,
    TrainAndReplay,
    TrainingSpec,
    all_cells,
    epochs_of,
    learned_rows,
    rows_json,
    trainings_json,
    trials_of_rows,
)
from cryoscout.study.routes.replays import BOUND, ReplaySpec

GRID_TYPES: dict[str, SimulationSettings] = {
    "sim-y1": SimulationSettings(),
    "sim-fine": SimulationSettings(
        holes=3_969, holes_per_patch=9.0, patches_per_square=14.0, squares_per_grid=4.0, share_good=0.5
    ),
}
"""Simulated kinds of session: the tree and ice of Y1; and as many holes as the paper's Y2 on a finer grid."""

CLASSIFIERS = {"own": TABLE4_ACCURACY["Y1"], "transferred": TABLE4_ACCURACY["M"]}
"""Share of holes that a simulated classifier gets right."""

TRAINING_SEED, TEST_SEED = 1, 2
"""Of the simulated sessions: no hole of a test was trained on."""

PLANNERS = ("adaptive", "index", "greedy", "random", BOUND)


@dataclass(frozen=True)
class Place:
    """A session to train on and one to test on, of the same kind, with the same classifier.

    train, test : (session, split) as study.sessions takes them     prediction : of both
    learned_on : the prediction that the policy learns on where it is another
    planned_on : the prediction of `adaptive` and `index`     is_one : train and test are the same holes
    """

    name: str
    train: tuple[str, str | None]
    test: tuple[str, str | None]
    prediction: str
    learned_on: str | None = None
    planned_on: str = "combined"
    is_one: bool = False


PLACES: tuple[Place, ...] = (
    Place("y1", ("y1", "train"), ("y1", "val"), TESTED_ON, LEARNED_ON),
    *(
        Place(
            f"{kind}-{classifier}",
            (simulated(of_kind, TRAINING_SEED), None),
            (simulated(of_kind, TEST_SEED), None),
            SIMULATED_MODEL,
        )
        for kind, settings in GRID_TYPES.items()
        for classifier, accuracy in CLASSIFIERS.items()
        for of_kind in (settings.model_copy(update={"classifier_accuracy": accuracy}),)
    ),
)


def rows(profile: Profile, places: Sequence[Place] = PLACES) -> list[StudyRow]:
    """Every policy tested everywhere but on its own training holes, planners beside them; † starts."""
    found = []
    for test in places:
        session, split = test.test
        for train in places:
            if train is test and test.is_one:
                continue
            training = TrainingSpec(
                "dqn",
                epochs_of(profile),
                prediction=train.learned_on or train.prediction,
                session=train.train[0],
                split=train.train[1],
            )
            name = f"dqn of {train.name} on {test.name}"
            of_replay = {"prediction": test.prediction, "session": session, "split": split}
            found += [
                replace(row, shown=name)
                for row in learned_rows(name, training, rules=("eliminated",), **of_replay)
            ]
        found += [_planner(policy, test) for policy in PLANNERS]
    return found


def _planner(policy: str, test: Place) -> StudyRow:
    learns = policy in ("adaptive", "index")
    spec = ReplaySpec(
        f"{policy} on {test.name}",
        policy,
        test.planned_on if learns else test.prediction,
        starts_from="eliminated",
        starts=STARTS,
        crossing="drop" if policy == "greedy" else "count",
        session=test.test[0],
        split=test.test[1],
    )
    kind: PolicyKind = "baseline" if policy == BOUND else policy_type(policy).kind
    return StudyRow(spec, kind, shown=f"{policy} on {test.name}")


def trials(profile: Profile, places: Sequence[Place] = PLACES) -> list[Trial]:
    """One trial per training place and seed, which replays it on every test place; replays of the others."""
    return trials_of_rows(rows(profile, places))


def page(done: Sequence[TrialRow], profile: Profile, places: Sequence[Place] = PLACES) -> Page:
    """The published table; one table per test place; what a foreign policy costs; the figure."""
    found = all_cells(done)
    chosen = rows(profile, places)
    parts = [
        "How a classifier and a policy carry over to another session. The paper's second session Y2 and its "
        "classifier M of daily use are not public, so simulated sessions stand in: `sim-y1` has the tree and ice of "
        f"Y1, `sim-fine` smaller patches and {100 * GRID_TYPES['sim-fine'].share_good:.0f} % good holes; `own` is a "
        f"classifier that is {100 * CLASSIFIERS['own']:.1f} % right, `transferred` one that is "
        f"{100 * CLASSIFIERS['transferred']:.1f} % right, the shares of the paper's Table 4. `y1` is the "
        "real session with ResNet-50. "
        + training_in_words(profile, "one session of its place (the training split of Y1)")
        + " Every policy has action elimination, and routes start in the patches it keeps. `dqn of A on B` was trained "
        "on A and is tested on B.",
        "## Published",
        published_in_words().replace("Tables 2 and 3", "Table 4"),
        markdown_table(
            ["", *[f"{budget} min" for budget in BUDGETS_MIN]],
            [[row.name, *map(mean_std, row.good_mean, row.good_std)] for row in TABLE4],
        ),
        "The paper's Y2 and our simulated sessions are different data: compare how much is lost, not the counts.",
    ]
    for test in places:
        parts += [f"## Tested on {test.name}", good_table(_on(chosen, test), found)]
    parts += [
        "## What a policy of another place loses",
        f"{NOTE_ON_PAIRS} Here: less the policy that was trained on the place of the test.",
        differences_table(
            [
                (f"`{train.name}` on `{test.name}`", _key(train, test), _key(test, test))
                for test in places
                if not test.is_one
                for train in places
                if train is not test
            ],
            found,
        ),
    ]
    more = {"trainings": trainings_json(done)}
    return Page("\n\n".join(parts), _figure(found, places), rows_json(chosen, found), more)


def _on(chosen: Sequence[StudyRow], test: Place) -> list[StudyRow]:
    return [row for row in chosen if (row.spec.session, row.spec.split) == test.test]


def _key(train: Place, test: Place) -> str:
    return f"dqn of {train.name} on {test.name}, eliminated, from eliminated"


def _figure(found: Found, places: Sequence[Place]) -> bytes:
    """One panel per test place, at the longest budget."""
    from cryoscout.report.figures import png_bytes
    from cryoscout.study.engine.figures import DotRow, dots_figure

    budget = float(BUDGETS_MIN[-1])
    absent = np.full(len(places), np.nan)

    def figures(keys: Sequence[str]) -> tuple[list[float], list[float]]:
        cells = [found.get((key, budget)) for key in keys]
        means = [np.nan if cell is None else float(cell.good.mean()) for cell in cells]
        return means, [np.nan if cell is None else float(cell.good.std()) for cell in cells]

    lines = []
    for train in places:
        mean, std = figures([_key(train, test) for test in places])
        lines.append(DotRow(f"dqn of {train.name}", np.array(mean), np.array(std), absent))
    for policy in PLANNERS[:-1]:
        mean, std = figures([f"{policy} on {test.name}" for test in places])
        lines.append(DotRow(policy, np.array(mean), np.array(std), absent))
    bound, _ = figures([f"{BOUND} on {test.name}" for test in places])
    titles = [f"on {test.name},\n{budget:g} min" for test in places]
    return png_bytes(dots_figure(lines, titles, np.array(bound), "good holes"))


def with_session(session: str) -> Study:
    """The study with a session of the user's beside the others: policies of the others are tested on it, and its own
    policy on the others.

    Raises the errors of `load_session`; InputError for a built-in session: y1 is there already, and y1-2022 holds
    validation holes of y1. DataError when it has no outcome.
    """
    from cryoscout.learning.from_session import training_session
    from cryoscout.routing.predictions import COMBINED, resolve_prediction

    loaded = session_of(session)
    if loaded.info.dataset in BUILTIN_SESSIONS:
        raise InputError(
            f"The second session must be another one than {' and '.join(BUILTIN_SESSIONS)}, which are splits of one "
            f"session. Got {session} instead. Remedy: name a NAME.session folder of your own."
        )
    _, prediction, _ = training_session(loaded, budget_min=float(BUDGETS_MIN[0]))
    planned_on, _ = resolve_prediction(loaded, None, COMBINED)
    place = Place(loaded.name, (session, None), (session, None), prediction, planned_on, is_one=True)
    return _study((*PLACES, place), shlex.join(["--session", session]))


def _study(places: Sequence[Place], options: str = "") -> Study:
    return Study(
        "cryorl-table4",
        "CryoRL, Table 4: classifiers and policies of another session",
        partial(trials, places=places),
        TrainAndReplay(),
        partial(page, places=places),
        PACKAGES,
        options,
    )


STUDY = _study(PLACES)
