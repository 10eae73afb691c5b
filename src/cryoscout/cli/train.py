"""`cryoscout train`: a classifier of hole images from few labels, and going on after a stop."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from cryoscout.cli.options import ThresholdAngstrom
from cryoscout.cli.output import TELLING, console, print_json, say, session_name
from cryoscout.core.counting import agreed, counted
from cryoscout.core.errors import FileFormatError, InputError, UnknownNameError
from cryoscout.core.new_files import write_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cryoscout.perception.classifier import Classifier
    from cryoscout.perception.from_session import CropLabels, SessionCrops
    from cryoscout.perception.settings import FitSettings
    from cryoscout.perception.training import Progress

REQUEST_FILE = "train.json"
SET_ASIDE_FILE = "set_aside.csv"
NAMES_SHOWN = 5
Split = Literal["patch", "square"]


def train(
    session: Annotated[str, typer.Argument(help="A NAME.session folder with hole images and results.")],
    method: Annotated[
        str | None,
        typer.Option(
            help="supervised, fixmatch, iterative-fixmatch, defixmatch, softmatch, align, barlow-twins or "
            "regression (answers any threshold). Default: fixmatch."
        ),
    ] = None,
    labels: Annotated[
        float | None,
        typer.Option(help="Share of the holes with results whose result is told, above 0 to 1. Default: 1."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="quick (minutes on a CPU) or paper (a GPU). Default: quick.")
    ] = None,
    threshold_angstrom: ThresholdAngstrom = None,
    steps: Annotated[int | None, typer.Option(help="Updates of each stage.", min=1)] = None,
    depth: Annotated[int | None, typer.Option(help="Layers of the ResNet: 18 or 50. Default: 18.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels of its first stage, 8 or more.")] = None,
    size_px: Annotated[int | None, typer.Option(help="Side that crops are scaled to.", min=8)] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(
            help="How images are changed while training: hole, square (of a grid square: size and brightness stay) "
            "or plain (images with an upright); hole-without-contrast, -scale, -shear or -brightness. Default: hole."
        ),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of SGD, above 0. Default: 0.03.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything drawn. Default: 0.", min=0)] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Keep a fifth of them for a test: patch or square. Default: no test."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write. Default: METHOD-SESSION.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what is in the folder of -o, with its settings.")
    ] = False,
    onnx: Annotated[
        Path | None, typer.Option(help="Write an ONNX file too, with which predict needs no torch.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. Default: cuda where there is one.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, bfloat16 or float32. Default: auto, what the processor has.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the CPU. Default: 1.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a classifier of hole images from the CTF results of some of the holes.

    All images are learned from, also those without a result (semi-supervised). A stopped training goes on with
    --resume and ends as if it had not been stopped.

    \b
    Example:
      cryoscout train run7.session --labels 0.1 -o run7-fixmatch
      cryoscout predict run7.session run7-fixmatch
    """
    from cryoscout.core.torch_needed import need_torch

    need_torch()
    changes = {
        "steps": steps, "depth": depth, "width": width, "size_px": size_px, "augmentation": augmentation,
        "learning_rate": learning_rate, "threads": threads, "precision": precision,
    }  # fmt: skip
    given = {
        "method": method, "labels": labels, "profile": profile, "threshold_angstrom": threshold_angstrom,
        "seed": seed, "split": split,
    }  # fmt: skip
    folder = output or Path(f"{method or TrainRequest.method}-{session_name(Path(session))}")
    request = request_from(
        session, _stored_request(folder) if resume else None, _given(given), _given(changes)
    )
    outcome = run_training(request, folder, resume=resume, onnx=onnx, device=device)
    if as_json:
        print_json(outcome)
    else:
        _print(outcome, session, folder)


@dataclass(frozen=True)
class TrainRequest:
    """What is to be trained; kept in the folder, so that --resume needs no option again."""

    session: str
    method: str = "fixmatch"
    labels: float = 1.0
    profile: str = "quick"
    threshold_angstrom: float | None = None
    seed: int = 0
    split: Split | None = None
    changes: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> FitSettings:
        """Of the training. Raises UnknownNameError, and InputError naming the field that is wrong."""
        from cryoscout.perception.settings import settings_for

        changes = dict(self.changes)
        if "steps" in changes:
            # --steps says how long any stage is, the pretraining of barlow-twins too.
            changes["pretrain_steps"] = changes["steps"]
        return settings_for(_method(self.method), self.profile, seed=self.seed, **changes)

    def command_to_go_on(self, folder: Path) -> str:
        """The command that goes on from the folder."""
        return shlex.join(["cryoscout", "train", self.session, "-o", str(folder), "--resume"])


def request_from(
    session: str, stored: TrainRequest | None, given: dict[str, Any], changes: dict[str, Any]
) -> TrainRequest:
    """The stored request or the defaults, changed by the options that were given.

    Raises UnknownNameError with the nearest name, InputError for what is not allowed.
    """
    base = TrainRequest(session) if stored is None else replace(stored, session=session)
    request = replace(base, **given, changes={**base.changes, **changes})
    if request.split is not None and request.split not in get_args(Split):
        raise UnknownNameError("--split", request.split, get_args(Split))
    if request.method == "regression" and request.threshold_angstrom is not None:
        raise InputError(
            "A regression must be trained without a threshold, because it answers any. Got --threshold-angstrom "
            f"{request.threshold_angstrom:g} instead. Remedy: give it to cryoscout predict."
        )
    if request.threshold_angstrom is not None:
        from cryoscout.core.units import check_threshold_angstrom

        check_threshold_angstrom(request.threshold_angstrom)
    request.settings()
    return request


def _method(dashed: str) -> str:
    """The method's name in Python."""
    from cryoscout.perception.settings import METHODS

    known = [name.replace("_", "-") for name in METHODS if name != "pseudo_label"]
    if dashed.replace("_", "-") == "pseudo-label":
        raise InputError(
            "--method must be one that needs crops and results alone. Got pseudo-label, which must be given the labels "
            "of somebody else, instead. Remedy: --method iterative-fixmatch, which makes its own, or call "
            "cryoscout.perception.fit with weights=."
        )
    if dashed not in known:
        raise UnknownNameError("--method", dashed, known)
    return dashed.replace("-", "_")


def run_training(
    request: TrainRequest, folder: Path, *, resume: bool, onnx: Path | None, device: str | None
) -> dict[str, Any]:
    """Train and say what came of it: the object of `--json`.

    Keys: classifier (its file), onnx, session, method, threshold_angstrom (null: any), settings, images, labels,
    held_out_labels, held_out_accuracy, test {level, holes, accuracy, share_good} or null, calibrated, precision
    (of the training), set_aside, set_aside_file, results_without_image, seconds, notes.
    """
    from cryoscout.perception.fitting import CLASSIFIER_FILE
    from cryoscout.perception.from_session import (
        held_out_crops,
        label_crops,
        session_crops,
        write_set_aside,
    )
    from cryoscout.perception.onnx_classifier import need_onnx
    from cryoscout.session.store import SessionStore

    began = time.monotonic()
    if onnx is not None:
        need_onnx("onnx")
    with SessionStore.open_for_reading(stored_folder(request.session)) as store:
        crops = session_crops(store, TELLING.progress)
    threshold = request.threshold_angstrom or crops.session.info.threshold_angstrom
    labels = label_crops(
        crops, threshold_angstrom=threshold, fraction=request.labels, seed=request.seed,
        test_level=request.split, both_classes=request.method != "regression",
    )  # fmt: skip
    goes_on = _claim(folder, resume=resume)
    if not goes_on:
        write_whole(folder / REQUEST_FILE, json.dumps(asdict(request), indent=1) + "\n")
    write_set_aside(crops.set_aside, folder / SET_ASIDE_FILE)
    held_out = held_out_crops(crops, labels, request.settings().held_out, request.seed)
    classifier = _fit(request, crops, labels, held_out, threshold, folder, resume=resume, device=device)
    if onnx is not None:
        classifier.export_onnx(onnx)
    notes = classifier.notes
    return {
        "classifier": str(folder / CLASSIFIER_FILE),
        "onnx": None if onnx is None else str(onnx),
        "session": request.session,
        "method": request.method,
        "threshold_angstrom": classifier.threshold_angstrom,
        "settings": classifier.settings.model_dump(mode="json"),
        "images": notes["images"],
        "labels": notes["labels"],
        "held_out_labels": notes["held_out_labels"],
        "held_out_accuracy": notes["held_out_accuracy"],
        "test": _tested(classifier, crops, labels, threshold, request.split),
        "calibrated": notes["calibrated"],
        "precision": notes["precision"],
        "set_aside": len(crops.set_aside),
        "set_aside_file": str(folder / SET_ASIDE_FILE),
        "results_without_image": len(labels.results_without_image),
        "seconds": round(time.monotonic() - began, 3),
        "notes": _notes(crops, labels, folder),
    }


def stored_folder(session: str) -> Path:
    """The folder of a session. Raises InputError for a built-in one or a database: no images come with it."""
    from cryoscout.session.builtin import BUILTIN_SESSIONS
    from cryoscout.session.store_database import is_url, location_in_words

    if is_url(session):
        raise InputError(
            "A session with hole images must be a NAME.session folder: a database holds none. Got "
            f"{location_in_words(session)} instead. Remedy: cryoscout import its files with --images FOLDER."
        )
    if session in BUILTIN_SESSIONS:
        raise InputError(
            f"A session with hole images must be a NAME.session folder. Got the built-in session {session} instead. "
            f"Remedy: cryoscout import {session} --images FOLDER -o {session}.session, where you have its images."
        )
    return Path(session)


def _fit(
    request: TrainRequest,
    crops: SessionCrops,
    labels: CropLabels,
    held_out: NDArray[np.bool_],
    threshold: float,
    folder: Path,
    *,
    resume: bool,
    device: str | None,
) -> Classifier:
    """Train; when it is interrupted, say how to go on."""
    from cryoscout.perception import fit, fit_ctf
    from cryoscout.perception.from_session import training_rows
    from cryoscout.perception.training import CHECKPOINT_FILE

    rows, settings = training_rows(labels), request.settings()
    given: dict[str, Any] = settings.model_dump(exclude={"method", "seed", "held_out"})
    about = partial(_about, request, crops, labels, held_out)
    options = {
        "folder": folder, "resume": resume, "device": device, "held_out": held_out[rows], "notes_of": about, **given,
    }  # fmt: skip
    images = crops.images[rows]
    try:
        with _progress_bar(settings) as step:
            if request.method == "regression":
                return fit_ctf(
                    images, labels.ctf_angstrom[rows], request.profile, request.seed, progress=step, **options
                )
            return fit(
                images, labels.labels[rows], settings.method, request.profile, request.seed,
                truth=labels.truth[rows], threshold_angstrom=threshold, progress=step, **options,
            )  # fmt: skip
    except KeyboardInterrupt:
        if (folder / CHECKPOINT_FILE).is_file():
            say(f"\nStopped. The checkpoint is kept. Go on with:\n  {request.command_to_go_on(folder)}")
        else:
            say(
                f"\nStopped before the first checkpoint. Begin again with:\n  {request.command_to_go_on(folder)}"
            )
        raise


def _about(
    request: TrainRequest,
    crops: SessionCrops,
    labels: CropLabels,
    held_out: NDArray[np.bool_],
    classifier: Classifier,
) -> dict[str, Any]:
    """Notes on what it was trained on: `predict` must not learn from those holes again.

    Written with the classifier, not after it: one without them would look whole.
    """
    from cryoscout.perception.from_session import crop_digests, rows_trained_on

    hole_ids, digests = crops.hole_ids, crop_digests(crops)
    trained = {
        hole_ids[row]: digests[row] for row in rows_trained_on(classifier, labels, held_out).nonzero()[0]
    }
    return {"session": crops.session.name, "trained_holes": trained, "request": asdict(request)}


def _tested(
    classifier: Classifier, crops: SessionCrops, labels: CropLabels, threshold: float, level: Split | None
) -> dict[str, Any] | None:
    """Accuracy on the test part, at the threshold."""
    from cryoscout.core.ties import at_least

    known = labels.test & (labels.truth >= 0) & ~crops.shows_nothing
    if level is None or not known.any():
        return None
    truth = labels.truth[known] == 1
    right = at_least(classifier.p_good(crops.images[known], threshold), 0.5) == truth
    return {
        "level": level,
        "holes": int(known.sum()),
        "accuracy": float(right.mean()),
        "share_good": float(truth.mean()),
    }


def _notes(crops: SessionCrops, labels: CropLabels, folder: Path) -> list[str]:
    """What was not used, and why."""
    notes = []
    if crops.set_aside:
        first = _first([each.hole_id for each in crops.set_aside])
        notes.append(
            f"{counted(len(crops.set_aside), 'images', 'were')} set aside ({crops.set_aside[0].why}; {first}); all "
            f"of them: {folder / SET_ASIDE_FILE}"
        )
    if labels.results_without_image:
        holes = labels.results_without_image
        notes.append(f"Results of {len(holes)} holes without an image cannot be used ({_first(list(holes))})")
    if crops.n_scaled:
        height, width = crops.images.shape[1:]
        notes.append(
            f"{counted(crops.n_scaled, 'images')} of other sizes {agreed(crops.n_scaled, 'were')} scaled to "
            f"{width} x {height} px"
        )
    return notes


def _first(names: list[str]) -> str:
    return f"first: {', '.join(names[:NAMES_SHOWN])}"


def _claim(folder: Path, *, resume: bool) -> bool:
    """Make the folder; refuse one with another training in it. Whether there is one to go on from."""
    from cryoscout.perception.fitting import CLASSIFIER_FILE
    from cryoscout.perception.training import CHECKPOINT_FILE

    if folder.exists() and not folder.is_dir():
        raise InputError(f"-o must be a folder. Got the file {folder} instead. Remedy: give another -o.")
    if not resume and any((folder / name).exists() for name in (CHECKPOINT_FILE, CLASSIFIER_FILE)):
        raise InputError(
            f"-o must be a folder without a training. Got {folder} instead. Remedy: add --resume to go on with it, or "
            "give another -o."
        )
    goes_on = resume and (folder / CHECKPOINT_FILE).is_file()
    if resume and not goes_on:
        say(f"Note: {folder} holds no training to go on from; one is begun.")
    folder.mkdir(parents=True, exist_ok=True)
    return goes_on


def _stored_request(folder: Path) -> TrainRequest | None:
    """The request of a folder, None where there is none. Raises FileFormatError where it cannot be read."""
    path = folder / REQUEST_FILE
    if not path.is_file():
        return None
    try:
        return TrainRequest(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise FileFormatError(
            path, None, f"must hold the options of a training. Got {error} instead. Remedy: remove it, and give the "
            "options again."
        ) from None  # fmt: skip


@contextmanager
def _progress_bar(settings: FitSettings) -> Iterator[Callable[[Progress], None]]:
    """A bar with the time left and held-out accuracy; ten lines in all where stderr is not a terminal."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    from cryoscout.perception.training import stages_of

    before = [0]
    for _, steps in stages_of(settings):
        before.append(before[-1] + steps)
    is_terminal = sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    said = 0
    with Bars(*columns, console=Console(stderr=True), transient=True, disable=not is_terminal) as bars:
        task = bars.add_task("training", total=before[-1])

        def step(now: Progress) -> None:
            nonlocal said
            done = before[now.stage] + now.step
            bars.update(task, completed=done, description=_in_words(now))
            tenth = 10 * done // before[-1]
            if not is_terminal and tenth > said:
                said = tenth
                say(_in_words(now))

        yield step


def _in_words(now: Progress) -> str:
    """Where the training stands."""
    name = now.method.replace("_", "-")
    stage = f"{name} {now.stage + 1}/{now.stages}" if now.stages > 1 else name
    parts = [f"{stage}, step {now.step}/{now.steps}"]
    parts += [f"held-out accuracy {now.accuracy:.3f}"] if now.accuracy == now.accuracy else []
    parts += [f"mask rate {now.mask_rate:.2f}"] if now.mask_rate == now.mask_rate else []
    return ", ".join(parts)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _print(outcome: dict[str, Any], session: str, folder: Path) -> None:
    out = console()
    settings, threshold = outcome["settings"], cast("float | None", outcome["threshold_angstrom"])
    out.print(
        f"Wrote {outcome['classifier']}: {outcome['method']} with {outcome['labels']} labels on {outcome['images']} "
        f"images, for {'any threshold' if threshold is None else f'{threshold:g} Å'}; ResNet-{settings['depth']} of "
        f"width {settings['width']}, {settings['size_px']} px"
    )
    chosen = " (auto)" if settings["precision"] == "auto" else ""
    out.print(f"Trained in {outcome['precision']}{chosen}; it predicts in float32")
    if outcome["onnx"] is not None:
        out.print(f"Wrote {outcome['onnx']}: the same without torch")
    if outcome["held_out_accuracy"] is not None:
        what = "right CTF bin" if threshold is None else "accuracy"
        out.print(
            f"Held-out {what}: {outcome['held_out_accuracy']:.3f} on {outcome['held_out_labels']} labels, which also "
            "chose the weights and the temperature"
        )
    if not outcome["calibrated"]:
        out.print("Not calibrated: the held-out labels are too few or of one class")
    if outcome["test"] is not None:
        test = outcome["test"]
        out.print(
            f"Test accuracy: {test['accuracy']:.3f} on {test['holes']} holes of other {test['level']}"
            f"{'es' if test['level'] == 'patch' else 's'}, {100 * test['share_good']:.1f} % of them good"
        )
    for note in outcome["notes"]:
        out.print(f"Note: {note}")
    out.print(f"Predict with it: cryoscout predict {shlex.quote(session)} {shlex.quote(str(folder))}")
