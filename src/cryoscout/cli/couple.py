"""`cryoscout couple`: SSL2-RL's loop on a session, ending in a classifier and predictions in the session."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoscout.cli.options import ThresholdAngstrom
from cryoscout.cli.output import TELLING, console, print_json, say, session_name
from cryoscout.core.durations import minutes_of
from cryoscout.core.errors import FileFormatError, InputError, UnknownNameError
from cryoscout.core.new_files import finite, write_whole

if TYPE_CHECKING:
    from cryoscout.coupling.from_session import SessionCoupling
    from cryoscout.coupling.loop import Coupled
    from cryoscout.coupling.settings import CoupleSettings
    from cryoscout.perception.classifier import Classifier

REQUEST_FILE, REPORT_FILE, FIGURE_FILE = "request.json", "report.json", "rounds.png"


def couple(
    session: Annotated[str, typer.Argument(help="A NAME.session folder with hole images and results.")],
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Who labels holes without a result: belief (the results around them), route (what a policy visits "
            "first, SSL2-RL), ranks (when a policy visits them, made a probability by the results), values (what a "
            "visit is worth to an agent, likewise) or own (the classifier itself, a control). Default: belief."
        ),
    ] = None,
    driver: Annotated[
        str | None,
        typer.Option(
            help="Policy of route, ranks and values, and the one that rounds are judged with: index, expected, "
            "adaptive, or, of route and values, an agent that is trained in every round: double, rainbow, a2c. "
            "Default: index; of values double."
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(help="Rounds at most. Default: 1; route 2 with a planner, 5 with an agent.", min=1),
    ] = None,
    least_change: Annotated[
        float | None,
        typer.Option(
            help="No further round where fewer guesses than this share changed sides, 0 to 1. Default: 0; belief 0.001."
        ),
    ] = None,
    labels: Annotated[
        float | None,
        typer.Option(
            help="Share of the holes with results whose result the classifier is told, above 0 to 1. Default: 1."
        ),
    ] = None,
    starts: Annotated[
        int | None,
        typer.Option(help="Of route, ranks and values: M, random holes that routes start from. Default: 5."),
    ] = None,
    on_belief: Annotated[
        bool | None,
        typer.Option(
            "--on-belief",
            help="Of route, ranks and values: the policy goes by what the results around say, not by the classifier "
            "alone.",
        ),
    ] = None,
    n_positive: Annotated[
        int | None,
        typer.Option(
            help="Of route: N_C, how many holes a route labels good. Default: as many as are expected."
        ),
    ] = None,
    minutes: Annotated[
        str | None,
        typer.Option(
            help="Time of an agent's training episodes and a planner's windows: minutes, or 8h, 8:00. Default: 480.",
            metavar="TIME",
        ),
    ] = None,
    selection: Annotated[
        str | None,
        typer.Option(
            help="Which round is kept: held-out (the best return on held-out results), accuracy or last. Default: "
            "held-out."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Of an agent, in the first round; in later ones it goes on for 2. Default: 8.", min=1
        ),
    ] = None,
    threshold_angstrom: ThresholdAngstrom = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Of the network: quick (minutes on a CPU) or paper (a GPU). Default: quick."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates of each training.", min=1)] = None,
    width: Annotated[
        int | None, typer.Option(help="Channels of the ResNet's first stage, 8 or more.")
    ] = None,
    size_px: Annotated[int | None, typer.Option(help="Side that images are scaled to.", min=8)] = None,
    augmentation: Annotated[
        str | None, typer.Option(help="How images are changed while training, as of train. Default: hole.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything drawn. Default: 0.", min=0)] = None,
    model_id: Annotated[
        str | None, typer.Option(help="Name of the predictions in the session. Default: the folder's.")
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            help="Let the session's results correct the predictions, as of predict. Default: effects+stage where there "
            "are results."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write. Default: couple-SESSION.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what is in the folder of -o, with its settings.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. Default: cuda where there is one.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the CPU. Default: 1.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a classifier that learns from results, images and where holes lie, and add its predictions to the session.

    A classifier is pretrained on the images; a teacher then labels the holes without a result, and the classifier is
    fine-tuned on that (SSL2-RL). The predictions are stored under a name that plan takes. A run that was stopped goes
    on with --resume and ends as if it had not been stopped.

    \b
    Example:
      cryoscout couple run7.session -o run7-couple
      cryoscout plan run7.session --budget-min 240 --policy expected --prediction run7-couple
    """
    from cryoscout.core.torch_needed import need_torch

    need_torch()
    of_loop = {
        "rounds": rounds, "least_change": least_change, "starts": starts, "n_positive": n_positive,
        "selection": selection, "on_belief": on_belief,
        "minutes": None if minutes is None else minutes_of(minutes),
        "epochs": epochs,
    }  # fmt: skip
    changes = {
        "steps": steps, "width": width, "size_px": size_px, "augmentation": augmentation, "threads": threads,
    }  # fmt: skip
    given = {
        "teacher": teacher, "driver": driver, "labels": labels, "threshold_angstrom": threshold_angstrom,
        "profile": profile, "seed": seed, "model_id": model_id, "context": context,
    }  # fmt: skip
    folder = output or Path(f"couple-{session_name(Path(session))}")
    request = _request(session, folder, resume, _given(given), _given(of_loop), _given(changes))
    outcome = run_coupling(request, folder, resume=resume, device=device)
    if as_json:
        print_json(outcome)
    else:
        _print(outcome)


@dataclass(frozen=True)
class CoupleRequest:
    """What was asked for; kept in the folder, so that --resume needs no option again."""

    session: str
    teacher: str = "belief"
    driver: str = "index"
    labels: float = 1.0
    threshold_angstrom: float | None = None
    profile: str = "quick"
    seed: int = 0
    model_id: str | None = None
    context: str | None = None
    of_loop: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> CoupleSettings:
        """Of the loop. Raises UnknownNameError, and InputError naming the field that is wrong."""
        from cryoscout.coupling.hole_routes import check_driver
        from cryoscout.coupling.settings import couple_settings
        from cryoscout.perception.settings import settings_for

        check_driver(self.driver)
        settings_for("fixmatch", self.profile, seed=self.seed, **self.changes)
        return couple_settings(self.teacher, self.driver, seed=self.seed, **self.of_loop)

    def command_to_go_on(self, folder: Path) -> str:
        """The command that goes on from the folder."""
        return shlex.join(["cryoscout", "couple", self.session, "-o", str(folder), "--resume"])


def run_coupling(
    request: CoupleRequest, folder: Path, *, resume: bool, device: str | None = None
) -> dict[str, Any]:
    """Run the loop, store the predictions, and say what came of it: the object of `--json`.

    Keys: session, folder, classifier, model_id, threshold_angstrom, teacher, driver, settings, holes, labels,
    held_out_labels, unlabelled, chosen_round, stopped_early, rounds [{number, teacher, held_out_return,
    held_out_accuracy, guesses, guessed_positive, n_positive, mean_weight, guesses_changed, guesses_right, p_changed,
    seconds}], calibrated, precision, context, context_labels, p_good_mean, set_aside, seconds, notes.
    """
    from cryoscout.cli.predict import checked_model_id, notes_on_images, prediction_rows
    from cryoscout.coupling.lesson import UNLABELLED
    from cryoscout.perception.fitting import CLASSIFIER_FILE
    from cryoscout.perception.from_session import fitted_holes, session_crops
    from cryoscout.perception.predicting import image_p_good, in_context
    from cryoscout.report.rounds_figure import rounds_png
    from cryoscout.session.store import SessionStore

    began, settings = time.monotonic(), request.settings()
    file = folder / CLASSIFIER_FILE
    name = checked_model_id(request.model_id, file)
    coupling, place = _coupling(request, settings, device)
    told = coupling.check()
    _claim(folder, request, resume=resume)
    try:
        found = coupling.run(folder, resume=resume, telling=TELLING)
    except KeyboardInterrupt:
        say(f"\nStopped. What is done is kept. Go on with:\n  {request.command_to_go_on(folder)}")
        raise
    found.model.save(file)
    threshold = coupling.threshold_angstrom
    with SessionStore.open(place) as store:
        # Loaded again: results may have come in while it trained.
        crops = session_crops(store, TELLING.progress)
        from_images, unseen = image_p_good(found.model, crops, threshold, TELLING.progress)
        put = in_context(
            crops.session, from_images, fitted_holes(found.model, crops), threshold, request.context
        )
        store.add_predictions(prediction_rows(crops.session, name, threshold, put.p_good))
    outcome = {
        "session": request.session, "folder": str(folder), "classifier": str(file), "model_id": name,
        "threshold_angstrom": threshold, "teacher": settings.teacher, "driver": settings.driver,
        "settings": settings.model_dump(mode="json"), "holes": crops.session.n_holes,
        "labels": int((told.labels != UNLABELLED).sum()), "held_out_labels": int(told.held_out.sum()),
        "unlabelled": int(told.unlabelled.sum()), **found.report, "calibrated": found.model.slope is not None,
        "precision": found.model.notes.get("precision"), "context": put.context, "context_labels": put.labels,
        "p_good_mean": float(put.p_good.mean()), "set_aside": len(crops.set_aside),
        "seconds": round(time.monotonic() - began, 3),
        "notes": [
            *_clearly_worse(found, int(told.held_out.sum())), *_flattered(settings),
            *notes_on_images(crops, unseen, name), *put.notes,
        ],
    }  # fmt: skip
    write_whole(folder / FIGURE_FILE, rounds_png(outcome["rounds"], outcome["chosen_round"]))
    write_whole(folder / REPORT_FILE, json.dumps(finite(outcome), indent=1, ensure_ascii=False) + "\n")
    return outcome


def _clearly_worse(found: Coupled[Classifier], held_out: int) -> list[str]:
    """A note where the round that is kept is right on fewer held-out results than the pretraining, by two errors."""
    before, kept = found.rounds[0].held_out_accuracy, found.rounds[found.chosen].held_out_accuracy
    error = (max(before * (1.0 - before), 1e-9) / max(held_out, 1)) ** 0.5
    if not before - kept > 2.0 * error:
        return []
    return [
        f"Round {found.chosen} is right on {100.0 * kept:.1f} % of the held-out results, the pretraining on "
        f"{100.0 * before:.1f} %: its teacher misleads it. Remedy: results in more patches, or cryoscout train."
    ]


def _flattered(settings: CoupleSettings) -> list[str]:
    """A note where the teacher was told the results that judge."""
    if not settings.needs_belief or not settings.belief_knows_held_out:
        return []
    return [
        "The belief that taught was told the held-out results too: how many of them are right flatters the classifier."
    ]


def _coupling(
    request: CoupleRequest, settings: CoupleSettings, device: str | None
) -> tuple[SessionCoupling, Path]:
    """What is coupled, and where its session lies; everything that can be refused beforehand is."""
    from cryoscout.cli.predict import check_context
    from cryoscout.cli.train import stored_folder
    from cryoscout.core.units import check_threshold_angstrom
    from cryoscout.coupling.from_session import SessionCoupling, labels_without_image
    from cryoscout.perception.from_session import label_crops, session_crops
    from cryoscout.routing.times import time_model_for
    from cryoscout.session.store import SessionStore

    check_context(request.context)
    place = stored_folder(request.session)
    # Opened for writing at once: a session that takes no predictions is refused before the training.
    with SessionStore.open(place) as store:
        crops = session_crops(store, TELLING.progress)
    threshold = request.threshold_angstrom or crops.session.info.threshold_angstrom
    check_threshold_angstrom(threshold)
    labels = label_crops(crops, threshold_angstrom=threshold, fraction=request.labels, seed=request.seed)
    time_model, _ = time_model_for(crops.session, None)
    others = labels_without_image(crops, threshold) if request.labels == 1.0 else None
    return SessionCoupling(
        crops, labels, threshold, settings, others, request.profile, dict(request.changes), time_model, device
    ), place


def _request(
    session: str,
    folder: Path,
    resume: bool,
    given: dict[str, Any],
    of_loop: dict[str, Any],
    changes: dict[str, Any],
) -> CoupleRequest:
    """The stored request or the defaults, changed by the options that were given, and checked."""
    stored = _stored_request(folder) if resume else None
    base = CoupleRequest(session)
    if stored is not None:
        from cryoscout.coupling.loop import settings_of_run

        # What a run was begun with holds, also where a default has changed since.
        begun = {name: value for name, value in settings_of_run(folder).items() if name not in _OF_REQUEST}
        base = replace(stored, session=session, of_loop={**begun, **stored.of_loop})
    if given.get("teacher") == "values" and base.teacher != "values":
        given = {"driver": "double", **given}
    request = replace(base, **given, of_loop={**base.of_loop, **of_loop}, changes={**base.changes, **changes})
    if request.teacher not in TEACHERS_OF_SESSIONS:
        raise UnknownNameError("--teacher", request.teacher, TEACHERS_OF_SESSIONS)
    _check_effect(request, of_loop)
    request.settings()
    return request


TEACHERS_OF_SESSIONS = ("belief", "route", "ranks", "values", "own")
"""The teacher exact is for simulated studies."""


def _check_effect(request: CoupleRequest, of_loop: dict[str, Any]) -> None:
    """Raise InputError for an option of the loop that would change nothing with this teacher and driver."""
    from cryoscout.coupling.hole_routes import WITHOUT_WINDOWS, check_driver
    from cryoscout.coupling.settings import BY_POLICY, is_agent

    agent = is_agent(check_driver(request.driver))
    by_policy = request.teacher in BY_POLICY
    agents = "the teacher route or values and an agent as driver, such as double"
    needs = {
        "starts": ("--starts", by_policy, "the teacher route, ranks or values"),
        "n_positive": ("--n-positive", request.teacher == "route", "the teacher route"),
        "minutes": (
            "--minutes", by_policy and request.driver not in WITHOUT_WINDOWS,
            "the teacher route, ranks or values and a driver that goes by minutes, such as adaptive or double",
        ),
        "epochs": ("--epochs", by_policy and agent, agents),
    }  # fmt: skip
    for name in of_loop:
        option, has_effect, remedy = needs.get(name, ("", True, ""))
        if not has_effect:
            raise InputError(
                f"{option} must go with a teacher and a driver that it changes something of. Got it with the teacher "
                f"{request.teacher} and the driver {request.driver} instead. Remedy: {remedy}; or leave {option} out."
            )


_OF_REQUEST = ("teacher", "driver", "seed")
"""Settings of the loop that a request has by themselves."""


def _stored_request(folder: Path) -> CoupleRequest | None:
    path = folder / REQUEST_FILE
    if not path.is_file():
        return None
    try:
        return CoupleRequest(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise FileFormatError(
            path, None, f"must hold the options of a coupling. Got {error} instead. Remedy: remove it, and give the "
            "options again."
        ) from None  # fmt: skip


def _claim(folder: Path, request: CoupleRequest, *, resume: bool) -> None:
    """Make the folder with its request; refuse one with another run in it."""
    from cryoscout.coupling.loop import RUN_FILE
    from cryoscout.perception.fitting import CLASSIFIER_FILE

    if folder.exists() and not folder.is_dir():
        raise InputError(f"-o must be a folder. Got the file {folder} instead. Remedy: give another -o.")
    if not resume and any((folder / name).exists() for name in (RUN_FILE, REQUEST_FILE, CLASSIFIER_FILE)):
        raise InputError(
            f"-o must be a folder without a training. Got {folder} instead. Remedy: add --resume to go on with it, or "
            "give another -o."
        )
    if resume and not (folder / RUN_FILE).is_file():
        say(f"Note: {folder} holds no run to go on from; one is begun.")
    if not (folder / RUN_FILE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / REQUEST_FILE, json.dumps(asdict(request), indent=1) + "\n")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _print(outcome: dict[str, Any]) -> None:
    from rich.table import Table

    out = console()
    by = (
        f"{outcome['teacher']} ({outcome['driver']})" if outcome["teacher"] == "route" else outcome["teacher"]
    )
    out.print(
        f"Wrote {outcome['classifier']}: taught by {by} with {outcome['labels']} labels "
        f"({outcome['held_out_labels']} of them held out) and {outcome['unlabelled']} holes without one, for "
        f"{outcome['threshold_angstrom']:g} Å"
    )
    table = Table(box=None, pad_edge=False)
    for column in (
        "round",
        "taught by",
        "guesses good",
        "changed",
        "p changed",
        "held-out right",
        "held-out return",
    ):
        table.add_column(column, justify="left" if column == "taught by" else "right")
    for each in outcome["rounds"]:
        guessed = f"{each['guessed_positive']} of {each['guesses']}" if each["guesses"] else ""
        kept = " *" if each["number"] == outcome["chosen_round"] else ""
        table.add_row(
            f"{each['number']}{kept}", each["teacher"], guessed, _percent(each["guesses_changed"]),
            _number(each["p_changed"], ".3f"), _percent(each["held_out_accuracy"]),
            _number(each["held_out_return"], ".2f"),
        )  # fmt: skip
    out.print(table)
    out.print(
        "* kept. Round 0 is the pretraining; the return is that of the driver on held-out results (y - c)."
    )
    if outcome["stopped_early"]:
        out.print("The guesses had stopped changing, so the loop ended there.")
    rests = f", given {outcome['context_labels']} results" if outcome["context"] != "none" else ""
    out.print(
        f"Added {outcome['holes']} predictions {outcome['model_id']} to {outcome['session']}: p_good "
        f"{outcome['p_good_mean']:.3f} on average, context {outcome['context']}{rests}"
    )
    for note in outcome["notes"]:
        out.print(f"Note: {note}")
    policy = "adaptive" if outcome["context"] == "none" else "expected"
    out.print(
        f"Plan with it: cryoscout plan {shlex.quote(outcome['session'])} --budget-min 240 --policy {policy} "
        f"--prediction {shlex.quote(outcome['model_id'])}"
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100.0 * value:.1f} %"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"
