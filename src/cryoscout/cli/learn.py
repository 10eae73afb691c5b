"""`cryoscout learn`: train a route policy on sessions whose outcomes are known, and go on after a stop."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoscout.cli.output import TELLING, print_json, say, session_name
from cryoscout.core.durations import minutes_of
from cryoscout.core.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from cryoscout.learning.batch_env import TrainingSession
    from cryoscout.learning.settings import LearnSettings
    from cryoscout.learning.training import Progress, Training

SETTINGS_FILE = "settings.json"
TENSORBOARD_FOLDER = "tensorboard"
DEFAULT_AGENT = "dqn"

_LEARNED_ON = {"y1": "res18"}
"""Built-in session -> prediction to learn on unless another one is named, where res50 would teach nothing."""
_WHY_NOT_RES50 = (
    "Learning on res18: on y1 res50 is right on every training hole, and an agent that learns on it never meets a "
    "wrong prediction. The policy takes res18 unless POLICY@res50 names the other; --prediction res50 learns on it."
)


def learn(
    sessions: Annotated[
        list[str],
        typer.Argument(
            help="NAME.session folders or postgresql:// URLs with outcomes, or a built-in session: y1, y1-2022."
        ),
    ],
    agent: Annotated[
        str | None,
        typer.Option(
            help="dqn, double, dueling, prioritized, nstep, c51, noisy, rainbow or a2c. Default: dqn."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of a built-in session: train, val or all. Default: train.")
    ] = None,
    prediction: Annotated[
        str | None, typer.Option(help="p_good to learn on: a model of the sessions, combined, or flat.")
    ] = None,
    elimination: Annotated[
        bool | None,
        typer.Option(
            "--elimination/--no-elimination", help="Reduce to the patches worth it. Default: reduce."
        ),
    ] = None,
    candidates: Annotated[
        str | None, typer.Option(help="What is scored: holes, classes or dominant. Default: dominant.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="What p_good is to the agent: hard or soft. Default: soft.")
    ] = None,
    history: Annotated[
        str | None, typer.Option(help="What is remembered: visited or candidate. Default: visited.")
    ] = None,
    budget_min: Annotated[
        str | None,
        typer.Option(help="Time of a training route: minutes, or 4h, 4:00. Default: 240.", metavar="TIME"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs. Default: 20.", min=1)] = None,
    steps_per_epoch: Annotated[int | None, typer.Option(help="Visits each. Default: 2500.", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam, above 0. Default: 0.001.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything drawn. Default: 0.", min=0)] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, bfloat16 or float32. Default: auto, what the processor has.")
    ] = None,
    draws: Annotated[
        bool,
        typer.Option(
            "--draws", help="Learn from outcomes drawn from the calibrated belief, not the real ones."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write. Default: learned-AGENT-SESSION.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what is in the folder, with its settings.")
    ] = False,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="JSON file of all settings; options change it.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write the course for TensorBoard.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a route policy on sessions whose outcomes are known.

    Several sessions are learned from at once. A quarter of their patches never trains: it chooses the epoch.
    A stopped training goes on with --resume and ends as if it had not been stopped.

    \b
    Example:
      cryoscout learn y1 --agent dqn --out mine
      cryoscout replay y1 --policies mine,adaptive --starts-from eliminated
    """
    from cryoscout.core.torch_needed import need_torch

    need_torch()
    view = {"candidates": candidates, "labels": labels, "history": history}
    changes = {
        "elimination": elimination,
        "budget_min": None if budget_min is None else minutes_of(budget_min),
        "epochs": epochs,
        "steps_per_epoch": steps_per_epoch,
        "learning_rate": learning_rate,
        "seed": seed,
        "precision": precision,
    }
    folder, given = out, settings
    if resume and given is None:
        folder = out or _default_folder(agent or DEFAULT_AGENT, sessions)
        given = folder / SETTINGS_FILE if (folder / SETTINGS_FILE).is_file() else None
    chosen = settings_from(given, agent, _given(view), _given(changes))
    folder = folder or _default_folder(chosen.agent.name, sessions)
    request = LearnRequest(tuple(sessions), split, prediction, draws, folder, resume, tensorboard)
    outcome = run_learning(request, chosen)
    if as_json:
        print_json(outcome)
    else:
        _print(outcome, request)


def _default_folder(agent: str, sessions: list[str]) -> Path:
    from cryoscout.session.store_database import name_of_location

    return Path(f"learned-{agent}-{session_name(Path(name_of_location(sessions[0])))}")


@dataclass(frozen=True)
class LearnRequest:
    """What to learn from and where to; fields as the options of `learn`."""

    sessions: tuple[str, ...]
    split: str | None
    prediction: str | None
    draws: bool
    folder: Path
    resume: bool
    tensorboard: bool

    def command_to_go_on(self) -> str:
        """The command that goes on from the folder."""
        options = ["--out", str(self.folder), "--resume"]
        for option, value in (("--split", self.split), ("--prediction", self.prediction)):
            options += [] if value is None else [option, value]
        options += ["--draws"] if self.draws else []
        return shlex.join(["cryoscout", "learn", *self.sessions_in_words(), *options])

    def sessions_in_words(self) -> list[str]:
        """The sessions as people may read them: without passwords of databases."""
        from cryoscout.session.store_database import location_in_words

        return [location_in_words(session) for session in self.sessions]


def settings_from(
    file: Path | None, agent: str | None, view: dict[str, Any], changes: dict[str, Any]
) -> LearnSettings:
    """The settings of a training: those of the file or of the named agent, changed by the options that were given.

    Raises UnknownNameError with the nearest name, InputError for a value that is not allowed or an agent that is not
    the file's, FileFormatError for a file that does not hold settings.
    """
    from typing import get_args

    from pydantic import ValidationError

    from cryoscout.learning.settings import Candidates, History, Labels, LearnSettings, settings_of

    for name, known in (
        ("candidates", get_args(Candidates)),
        ("labels", get_args(Labels)),
        ("history", get_args(History)),
    ):
        if name in view and view[name] not in known:
            raise UnknownNameError(f"--{name}", view[name], known)
    base = settings_of(agent or DEFAULT_AGENT) if file is None else LearnSettings.load(file)
    if agent is not None and agent != base.agent.name:
        raise InputError(
            f"The agent must be the one of {file}, {base.agent.name!r}. Got --agent {agent} instead. Remedy: leave "
            "--agent out."
        )
    whole = base.model_dump()
    try:
        return LearnSettings.model_validate({**whole, **changes, "view": {**whole["view"], **view}})
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "The settings"
        raise InputError(
            f"{option} must be allowed by the settings ({first['msg']}). Got {first['input']!r} instead."
        ) from None


def run_learning(request: LearnRequest, settings: LearnSettings) -> dict[str, Any]:
    """Train and say what came of it: the object of `--json`.

    Keys: policy (its file), sessions, prediction (one per session), draws, agent, settings, epochs, best_epoch,
    held_out_share_of_bound (of that epoch), precision (of the training), seconds, notes.
    """
    from cryoscout.learning.seen_holes import TRAINED_ON
    from cryoscout.learning.training import CHECKPOINT_FILE, METRICS_FILE, Training

    data, predictions, trained_parts, notes = _training_sessions(request, settings)
    if request.tensorboard:
        _summary_writer()
    _claim(request)
    for note in notes:
        say(f"Note: {note}")
    about: dict[str, Any] = {
        "sessions": request.sessions_in_words(),
        "split": request.split,
        "draws": request.draws,
        TRAINED_ON: trained_parts,
    }
    if len(set(predictions)) == 1:
        about["prediction"] = predictions[0]
    began = time.monotonic()
    training = Training(data, settings, request.folder, notes=about)
    if not (request.folder / CHECKPOINT_FILE).is_file():
        settings.save(request.folder / SETTINGS_FILE)
    try:
        with _progress_bar(training, request) as step:
            policy = training.run(resume=request.resume, progress=step)
    except KeyboardInterrupt:
        kept = (
            f"{training.epoch} of {settings.epochs} epochs are kept"
            if training.epoch
            else "No epoch was done"
        )
        say(f"\nStopped. {kept}. Go on with:\n  {request.command_to_go_on()}")
        raise
    lines = (request.folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    best = metrics[training.best_epoch - 1]
    return {
        "policy": str(policy),
        "sessions": request.sessions_in_words(),
        "prediction": predictions,
        "draws": request.draws,
        "agent": settings.agent.name,
        "settings": settings.model_dump(mode="json"),
        "epochs": training.epoch,
        "best_epoch": training.best_epoch,
        "held_out_share_of_bound": best["held_out_share_of_bound"],
        "precision": training.learner.precision,
        "seconds": round(time.monotonic() - began, 3),
        "notes": notes,
    }


def _training_sessions(
    request: LearnRequest, settings: LearnSettings
) -> tuple[list[TrainingSession], list[str], list[dict[str, str]], list[str]]:
    """(sessions, the prediction of each, what each is in the policy's notes, notes for the user)."""
    from cryoscout.learning.from_session import load_to_learn_from, training_session
    from cryoscout.learning.seen_holes import trained_part
    from cryoscout.routing.predictions import PAPER_MODEL

    data, predictions, parts, notes = [], [], [], []
    for session in load_to_learn_from(request.sessions, request.split, TELLING):
        one, prediction, said = training_session(
            session,
            budget_min=settings.budget_min,
            prediction=request.prediction,
            default_prediction=_LEARNED_ON.get(session.info.dataset, PAPER_MODEL),
            draws=request.draws,
        )
        data.append(one)
        predictions.append(prediction)
        parts.append(trained_part(session))
        if request.prediction is None and prediction == _LEARNED_ON.get(session.info.dataset):
            said = (*said, _WHY_NOT_RES50)
        notes += [note for note in said if note not in notes]
    return data, predictions, parts, notes


def _claim(request: LearnRequest) -> None:
    """Make the folder; refuse one with another training in it."""
    from cryoscout.learning.training import CHECKPOINT_FILE
    from cryoscout.learning.weights import POLICY_FILE

    folder = request.folder
    if folder.exists() and not folder.is_dir():
        raise InputError(
            f"--out must be a folder. Got the file {folder} instead. Remedy: give another --out."
        )
    if not request.resume and any((folder / name).exists() for name in (CHECKPOINT_FILE, POLICY_FILE)):
        raise InputError(
            f"--out must be a folder without a training. Got {folder} instead. Remedy: add --resume to go on with "
            "it, or give another --out."
        )
    if request.resume and not (folder / CHECKPOINT_FILE).is_file():
        say(f"Note: {folder} holds no training to go on from; one is begun.")
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _progress_bar(training: Training, request: LearnRequest) -> Iterator[Callable[[Progress], None]]:
    """A bar with time left, return and good holes; one line per epoch where stderr is not a terminal."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    is_terminal = sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    writer = _summary_writer()(str(request.folder / TENSORBOARD_FOLDER)) if request.tensorboard else None
    said = 0
    with Bars(*columns, console=Console(stderr=True), transient=True, disable=not is_terminal) as bars:
        task = bars.add_task("learning", total=training.steps_in_all)

        def step(now: Progress) -> None:
            nonlocal said
            bars.update(task, completed=now.steps, description=_in_words(now))
            if now.epoch > said:
                said = now.epoch
                if not is_terminal:
                    say(_in_words(now))
                if writer is not None:
                    _write_course(writer, training)

        try:
            yield step
        finally:
            if writer is not None:
                writer.close()


def _in_words(now: Progress) -> str:
    """Where the training stands: epoch, mean return and good holes of its routes, held-out routes."""
    parts = [f"epoch {now.epoch}/{now.epochs}"]
    for name, value, text in (
        ("return", now.reward, f"{now.reward:.1f}"),
        ("good", now.good, f"{now.good:.1f}"),
        ("held out", now.share_of_bound, f"{100 * now.share_of_bound:.1f} % of the bound"),
    ):
        parts += [f"{name} {text}"] if value == value else []  # NaN before a route ended
    return ", ".join(parts)


def _write_course(writer: Any, training: Training) -> None:
    """The last epoch's figures for TensorBoard, by steps."""
    from cryoscout.learning.training import METRICS_FILE

    last = json.loads((training.folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()[-1])
    for name in ("loss", "route_reward", "route_good", "held_out_share_of_bound"):
        if last.get(name) is not None:
            writer.add_scalar(name, last[name], last["steps"])


def _summary_writer() -> Any:
    """TensorBoard's writer; InputError where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            "--tensorboard must have TensorBoard. Got none installed instead. Remedy: "
            'pip install "cryoscout[tensorboard]", or leave --tensorboard out.'
        ) from None
    return SummaryWriter


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _print(outcome: dict[str, Any], request: LearnRequest) -> None:
    from cryoscout.cli.output import console

    out = console()
    share = outcome["held_out_share_of_bound"]
    held_out = "" if share is None else f", {100 * share:.1f} % of the bound on held-out patches"
    out.print(
        f"Wrote {outcome['policy']}: {outcome['agent']} on {', '.join(dict.fromkeys(outcome['prediction']))}, epoch "
        f"{outcome['best_epoch']} of {outcome['epochs']}{held_out}"
    )
    chosen = " (auto)" if outcome["settings"]["precision"] == "auto" else ""
    out.print(f"Trained in {outcome['precision']}{chosen}; it plans in float32")
    name, session = shlex.quote(str(request.folder)), shlex.quote(request.sessions_in_words()[0])
    starts = " --starts-from eliminated" if outcome["settings"]["elimination"] else ""
    out.print(f"Plan with it:   cryoscout plan {session} --budget-min 240 --policy {name}")
    out.print(f"Judge it:       cryoscout replay {session} --policies {name},adaptive{starts}")
