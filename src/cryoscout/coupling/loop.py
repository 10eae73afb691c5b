"""SSL2-RL's Algorithm 1 for any problem of states that are visited: it knows no domain, no network and no policy.

Perception is pretrained; then, round by round, a teacher (the routes of a policy, or another) labels what has no label,
and perception is fine-tuned on it. Each round is a checkpoint in the run's folder: a run that was stopped anywhere and
goes on gives what an uninterrupted one gives.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.new_files import finite, write_whole
from cryoscout.core.telling import SILENT, Telling
from cryoscout.core.ties import at_least, first_of_the_best
from cryoscout.coupling.lesson import (
    UNLABELLED,
    Lesson,
    Told,
    cut_of,
    lesson_of_p,
    lesson_of_routes,
    pseudo_rewards,
)
from cryoscout.coupling.ranks import check_held_out, mean_ranks, probability_by_held_out
from cryoscout.coupling.settings import BEFORE_THERE_WAS_A_CHOICE, CoupleSettings

RUN_FILE, LESSON_FILE, REPORT_FILE, MODEL_FILE = (
    "couple.json",
    "lesson.safetensors",
    "round.json",
    "model.safetensors",
)
POLICY_FOLDER = "policy"
"""Of a round: what the driver keeps."""
_ROUND_STREAM = 15
_UNNAMED = {
    **{name: field.default for name, field in CoupleSettings.model_fields.items()},
    **BEFORE_THERE_WAS_A_CHOICE,
}
"""Settings that a run does not name, because it was begun before there was a choice."""

Model = TypeVar("Model")
Kept = TypeVar("Kept")
Probabilities = Callable[[NDArray[np.float64], int, Path], NDArray[np.float64]]
"""(p of the perception model (n,), round, its folder) -> (n,) what a teacher says."""


class Perception(Protocol[Model]):
    """Features to probabilities, for the n states of a problem."""

    def pretrained(self, told: Told, folder: Path) -> Model:
        """Learn from the shown labels, and from states without one. The folder may hold a training to go on from."""
        ...

    def fine_tuned(self, model: Model, lesson: Lesson, told: Told, seed: int, folder: Path) -> Model:
        """Go on from a model, with the shown labels and the guesses of the lesson."""
        ...

    def p_positive(self, model: Model) -> NDArray[np.float64]:
        """(n,)."""
        ...

    def save(self, model: Model, path: Path) -> None:
        """As one file."""
        ...

    def load(self, path: Path) -> Model:
        """What `save` wrote."""
        ...


class Driver(Protocol):
    """A policy that is driven by pseudo-rewards."""

    def routes(
        self,
        p_positive: NDArray[np.float64],
        told: Told,
        starts: NDArray[np.int64],
        seed: int,
        folder: Path,
        before: Path | None = None,
    ) -> NDArray[np.int64]:
        """(>= M, n) all states in the order of their visits, from each start; trains the policy where it is trained.

        The policy may know the shown labels and the predictions, no other label.
        before : the folder of the same policy in the round before, None in the first
        """
        ...

    def held_out_return(self, p_positive: NDArray[np.float64], told: Told, folder: Path) -> float:
        """What the policy collects on the held-out states, visited by what it knows, judged by their labels."""
        ...


@runtime_checkable
class LearnedDriver(Driver, Protocol):
    """A policy that is trained, and has learned what each state is worth."""

    def learned_values(
        self,
        p_positive: NDArray[np.float64],
        told: Told,
        starts: NDArray[np.int64],
        seed: int,
        folder: Path,
    ) -> NDArray[np.float64]:
        """(n,) of every state as the first visit from the starts, the mean; trains the policy."""
        ...


@dataclass(frozen=True)
class Round:
    """What one round did; round 0 is the pretraining. NaN where it is not known."""

    number: int
    teacher: str
    held_out_return: float
    held_out_accuracy: float
    guesses: int = 0
    guessed_positive: int = 0
    n_positive: int | None = None
    mean_weight: float = math.nan
    guesses_changed: float = math.nan
    """Share of the guesses on another side than in the round before"""
    guesses_right: float = math.nan
    """Share of the guesses that are right, where the truth is known; nothing is chosen by it"""
    p_changed: float = math.nan
    """Mean |p after - p before| over all states"""
    seconds: float = math.nan


@dataclass(frozen=True)
class Coupled(Generic[Model]):
    """What a run of the loop gave."""

    model: Model
    chosen: int
    """The round that is kept"""
    rounds: tuple[Round, ...]
    """Round 0 first"""
    stopped_early: bool
    """Whether the guesses had stopped changing before the last round that was allowed"""

    @property
    def report(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "chosen_round": self.chosen,
            "stopped_early": self.stopped_early,
            "rounds": [finite(asdict(each)) for each in self.rounds],
        }


@dataclass(frozen=True)
class Loop(Generic[Model]):
    """One run. The parts are handed in; `run` is Algorithm 1.

    teacher : gives the probabilities of `belief` and `exact`, or those that routes on the belief go by; None with `own`
        and with routes that go by perception
    data : a digest of everything that is learned from, compared when a run goes on
    truth : (n,) labels for the report alone, -1 unknown     each_round : called with every model, for measurements
    """

    told: Told
    perception: Perception[Model]
    driver: Driver
    settings: CoupleSettings
    folder: Path
    data: str
    teacher: Probabilities | None = None
    truth: NDArray[np.int64] | None = None
    each_round: Callable[[int, Model], None] | None = None
    telling: Telling = SILENT

    def run(self, *, resume: bool = False) -> Coupled[Model]:
        """Pretrain, then teach and fine-tune up to K times; the model of the round that is kept.

        resume : go on from the folder, which must be of the same settings and data; else it must not hold a run
        Raises InputError otherwise, and the errors of the parts.
        """
        settings = self.settings
        self.told.check()
        if (settings.needs_belief or settings.teacher == "exact") and self.teacher is None:
            name = "belief" if settings.on_belief else settings.teacher
            raise InputError(
                f"The teacher {name} must be handed to the loop. Got none instead. Remedy: teacher=..., "
                "what it says of every state; or the teacher route, which needs the driver alone."
            )
        if settings.n_positive is not None:
            cut_of(settings.n_positive, np.zeros(len(self.told.labels)))
        if settings.by_held_out:
            check_held_out(self.told)
        self._claim(resume)
        self.telling.say("pretraining")
        model, first = self._round(0, partial(self.perception.pretrained, self.told))
        rounds, models = [first], {0: model}
        lesson: Lesson | None = None
        stopped = False
        for number in range(1, settings.rounds + 1):
            before, p = lesson, self.perception.p_positive(model)
            lesson = self._lesson(number, p)
            changed = math.nan if before is None else lesson.share_changed(before)
            if before is not None and changed < settings.least_change:
                stopped = True
                self.telling.say(f"{100.0 * changed:.1f} % of the guesses changed: no further round")
                break
            seed = round_seed(settings.seed, number)
            train = partial(self.perception.fine_tuned, model, lesson, self.told, seed)
            model, report = self._round(number, train, lesson, changed, p)
            rounds.append(report)
            models[number] = model
        chosen = _chosen(rounds, settings)
        return Coupled(models[chosen], chosen, tuple(rounds), stopped)

    def _claim(self, resume: bool) -> None:
        file = self.folder / RUN_FILE
        want: dict[str, Any] = {"settings": self.settings.model_dump(mode="json"), "data": self.data}
        if file.is_file() and not resume:
            raise InputError(
                f"The folder of a coupling must be a new one. Got {self.folder}, which holds one, instead. Remedy: go "
                "on with it (--resume), or give another folder."
            )
        if not file.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(want, indent=1, sort_keys=True) + "\n")
            return
        found, there = _json_of(file), settings_of_run(self.folder)
        for name, value in want["settings"].items():
            if there[name] != value:
                raise InputError(
                    f"{file} must be of a run with the same settings to go on from it. Got {name} "
                    f"{there[name]!r} there and {value!r} here instead. Remedy: give the "
                    "settings it was begun with, or another folder."
                )
        if found.get("data") != self.data:
            raise InputError(
                f"{file} must be of a run on the same states, places, labels and features, with the same "
                "options of perception and minutes of moves, to go on from it. Got others instead. Remedy: give those "
                "it was begun with, or another folder."
            )

    def _round(
        self,
        number: int,
        train: Callable[[Path], Model],
        lesson: Lesson | None = None,
        changed: float = math.nan,
        before: NDArray[np.float64] | None = None,
    ) -> tuple[Model, Round]:
        """The model of a round and its report: from its checkpoint, or trained."""
        folder = self._folder(number)
        model_file, report_file = folder / MODEL_FILE, folder / REPORT_FILE
        if model_file.is_file() and report_file.is_file():
            model = _read(model_file, self.perception.load)
            report = _read(report_file, _report_of)
        else:
            began = time.monotonic()
            model = train(folder)
            self.perception.save(model, model_file)
            # What is read back is what goes on, so that a run that was stopped here gives the same.
            model = self.perception.load(model_file)
            report = self._report(number, model, lesson, changed, before, time.monotonic() - began)
            write_whole(report_file, json.dumps(finite(asdict(report)), indent=1) + "\n")
        self.telling.say(_in_words(report))
        if self.each_round is not None:
            self.each_round(number, model)
        return model, report

    def _lesson(self, number: int, p: NDArray[np.float64]) -> Lesson:
        folder, settings = self._folder(number), self.settings
        file = folder / LESSON_FILE
        if file.is_file():
            return _read(file, Lesson.load)
        self.telling.say(f"round {number}: {settings.teacher} labels what has no label")
        asked = None if settings.by_policy and not settings.on_belief else self.teacher
        said = p if asked is None else asked(p, number, folder)
        lesson = (
            self._lesson_of_policy(number, said)
            if settings.by_policy
            else lesson_of_p(said, self.told, settings.form)
        )
        lesson.save(file)
        return lesson

    def _lesson_of_policy(self, number: int, p: NDArray[np.float64]) -> Lesson:
        """What a policy says by its routes or its values that is told p of the states without a label."""
        settings, told, folder = self.settings, self.told, self._folder(number) / POLICY_FOLDER
        seed = round_seed(settings.seed, number)
        rng = np.random.default_rng(seed)
        if settings.teacher == "values":
            if not isinstance(self.driver, LearnedDriver):
                raise InputError(
                    "Learned values must be those of a driver that learns. Got another instead. Remedy: the teacher "
                    "ranks, or a driver with learned_values."
                )
            # Two starts or more, because a start has no value as a visit from itself.
            starts = rng.choice(len(p), size=max(2, min(settings.starts, len(p))), replace=False)
            values = self.driver.learned_values(p, told, starts, seed, folder)
            return lesson_of_p(probability_by_held_out(values, told, increasing=True), told, settings.form)
        before = self._folder(number - 1) / POLICY_FOLDER if number > 1 else None
        starts = rng.integers(len(p), size=settings.starts)
        routes = self.driver.routes(p, told, starts, seed, folder, before)
        if settings.teacher == "ranks":
            by_rank = probability_by_held_out(mean_ranks(routes), told, increasing=False)
            return lesson_of_p(by_rank, told, settings.form)
        return lesson_of_routes(routes, cut_of(settings.n_positive, pseudo_rewards(p, told)), told)

    def _report(
        self,
        number: int,
        model: Model,
        lesson: Lesson | None,
        changed: float,
        before: NDArray[np.float64] | None,
        seconds: float,
    ) -> Round:
        p, told = self.perception.p_positive(model), self.told
        held, judge_folder = told.held_out, self._folder(number) / POLICY_FOLDER
        found = self.driver.held_out_return(p, told, judge_folder) if held.any() else math.nan
        right = at_least(p[held], 0.5) == (told.labels[held] == 1)
        about: dict[str, Any] = {}
        if lesson is not None:
            truth = np.full(len(p), UNLABELLED) if self.truth is None else self.truth
            about = {
                "guesses": int(lesson.guessed.sum()), "guessed_positive": int(lesson.positive.sum()),
                "n_positive": lesson.n_positive, "mean_weight": float(lesson.weight[lesson.guessed].mean()),
                "guesses_changed": changed, "guesses_right": lesson.share_right(truth),
                "p_changed": math.nan if before is None else float(np.abs(p - before).mean()),
            }  # fmt: skip
        return Round(
            number, self.settings.teacher if number else "labels", found,
            float(right.mean()) if held.any() else math.nan, seconds=round(seconds, 2), **about,
        )  # fmt: skip

    def _folder(self, number: int) -> Path:
        folder = self.folder / f"round-{number:02}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def round_seed(seed: int, number: int) -> int:
    """Of everything drawn in a round: the same for every teacher, so that teachers are compared on the same draws."""
    return int(np.random.SeedSequence([seed, _ROUND_STREAM, number]).generate_state(1)[0])


def _chosen(rounds: list[Round], settings: CoupleSettings) -> int:
    """The round that is kept, of those after the pretraining; of equal ones the first."""
    taught = rounds[1:]
    if settings.selection == "last" or len(taught) == 1:
        return taught[-1].number
    by_return = settings.selection == "held-out"
    values = [each.held_out_return if by_return else each.held_out_accuracy for each in taught]
    if not any(math.isfinite(value) for value in values):
        return taught[-1].number
    finite_ones = [value if math.isfinite(value) else -math.inf for value in values]
    return taught[first_of_the_best(np.array(finite_ones))].number


def _in_words(report: Round) -> str:
    parts = [f"round {report.number}: {report.seconds:.0f} s"]
    if report.held_out_accuracy == report.held_out_accuracy:
        parts.append(f"held-out accuracy {report.held_out_accuracy:.3f}")
    if math.isfinite(report.held_out_return):
        parts.append(f"return {report.held_out_return:.2f}")
    if report.guesses:
        parts.append(f"{report.guessed_positive} of {report.guesses} guesses positive")
    return ", ".join(parts)


def settings_of_run(folder: Path) -> dict[str, Any]:
    """What the run in a folder was begun with, by name; {} where there is none. Raises InputError for a broken file."""
    file = folder / RUN_FILE
    if not file.is_file():
        return {}
    found = _json_of(file).get("settings", {})
    if not isinstance(found, dict):
        raise InputError(
            f"{file} must have settings by name. Got {found!r} instead. Remedy: give another folder."
        )
    return {**_UNNAMED, **found}


def _json_of(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(
            f"{file} must be a JSON object. Got something else instead. Remedy: give another folder."
        )
    return found


def _report_of(file: Path) -> Round:
    """What `_round` wrote, where null stands for NaN; N_C alone may be none."""
    found = _json_of(file)
    try:
        n_positive = found.pop("n_positive")
        known: dict[str, Any] = {name: math.nan if value is None else value for name, value in found.items()}
        return Round(n_positive=n_positive, **known)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{file} must be the report of a round. Got {error} wrong in it instead. Remedy: give another folder."
        ) from None


def _read(file: Path, read: Callable[[Path], Kept]) -> Kept:
    """A file of a round; of a damaged one the error says that the round can be made again."""
    try:
        return read(file)
    except (InputError, FileFormatError) as error:
        raise InputError(f"{error} Or remove {file.name} there: --resume makes it again.") from None
