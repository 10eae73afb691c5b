"""`cryoscout predict`: a classifier's p_good of every hole, added to the session; nothing else there changes."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from cryoscout.cli.output import console, print_json, progress
from cryoscout.cli.train import stored_folder
from cryoscout.core.counting import counted
from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.perception.predicting import ONNX_SUFFIX, image_p_good, in_context, load_predictor

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from cryoscout.perception.from_session import SessionCrops
    from cryoscout.perception.predictor import Predictor
    from cryoscout.session.model import Session

Context = Literal["none", "effects", "stage", "effects+stage"]


def predict(
    session: Annotated[str, typer.Argument(help="A NAME.session folder with hole images.")],
    classifier: Annotated[
        Path, typer.Argument(help="Folder of cryoscout train, its classifier.safetensors, or a file .onnx.")
    ],
    model_id: Annotated[
        str | None, typer.Option(help="Name of the predictions. Default: the classifier's folder or file.")
    ] = None,
    threshold_angstrom: Annotated[
        float | None,
        typer.Option(help="Good means a CTF resolution at or below this. Default: the classifier's."),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            help="Let the session's results correct the predictions: none, effects, stage or effects+stage. Default: "
            "effects+stage where there are results."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Add a classifier's probability of a good micrograph to every hole of a session.

    Predictions are added under a name, and none is overwritten. An ONNX file needs no torch.

    \b
    Example:
      cryoscout predict run7.session run7-fixmatch
      cryoscout plan run7.session --budget-min 240 --policy expected --prediction run7-fixmatch
    """
    from cryoscout.perception.from_session import fitted_holes, session_crops
    from cryoscout.session.store import SessionStore

    check_context(context)
    folder, name = stored_folder(session), checked_model_id(model_id, classifier)
    predictor = load_predictor(classifier)
    with SessionStore.open(folder) as store:
        crops = session_crops(store, progress)
        threshold = _threshold(threshold_angstrom, predictor, crops.session)
        from_images, unseen = image_p_good(predictor, crops, threshold, progress)
        with progress("learning from results", 1):
            put = in_context(crops.session, from_images, fitted_holes(predictor, crops), threshold, context)
        rows = prediction_rows(crops.session, name, threshold, put.p_good)
        store.add_predictions(rows)
    told = {
        "session": session,
        "model_id": name,
        "threshold_angstrom": threshold,
        "holes": crops.session.n_holes,
        "context": put.context,
        "context_labels": put.labels,
        "p_good_mean": float(put.p_good.mean()),
        "without_image": int(crops.without_image().sum()),
        "set_aside": len(crops.set_aside),
        "notes": [*notes_on_images(crops, unseen, name), *put.notes],
    }
    if as_json:
        print_json(told)
    else:
        _print(told)


def check_context(context: str | None) -> None:
    """Raise UnknownNameError for a context that there is not; None is the default."""
    if context is not None and context not in get_args(Context):
        raise UnknownNameError("--context", context, get_args(Context))


def checked_model_id(given: str | None, classifier: Path) -> str:
    """The name of the predictions, one that `plan` can be told."""
    from cryoscout.routing.predictions import COMBINED, FLAT

    file = classifier.resolve()
    of_file = file.parent.name if file.suffix == ".safetensors" else file.name.removesuffix(ONNX_SUFFIX)
    name = of_file if given is None else given
    if name in ("", COMBINED, FLAT) or set(name) & set("@,") or name != name.strip():
        raise InputError(
            f"The name of predictions must be none of {COMBINED} and {FLAT}, and without @, commas and outer spaces. "
            f"Got {name!r} instead. Remedy: --model-id NAME."
        )
    return name


def _threshold(given: float | None, predictor: Predictor, session: Session) -> float:
    threshold = predictor.threshold_angstrom if given is None else given
    if threshold is None:
        threshold = session.info.threshold_angstrom
    predictor.check_threshold(threshold)
    return threshold


def prediction_rows(
    session: Session, model_id: str, threshold: float, p_good: NDArray[np.float64]
) -> pd.DataFrame:
    """The rows to add; their time is never before that of the model's older ones, which would then still count."""
    import pandas as pd

    before = session.predictions.loc[session.predictions["model_id"] == model_id, "predicted_at"].max()
    now = pd.Timestamp(datetime.now())  # naive, as microscope times are
    at = now if pd.isna(before) else max(now, before)
    return session.with_p_good(model_id, threshold, p_good, at).predictions.iloc[len(session.predictions) :]


def notes_on_images(crops: SessionCrops, unseen: float, model_id: str) -> list[str]:
    """Which holes have no usable image, and whether predictions of that name were there."""
    from cryoscout.perception.from_session import SHOWS_NOTHING

    notes, without = [], crops.without_image()
    n_nothing = int(crops.shows_nothing.sum())
    if without.any() or n_nothing:
        shown = crops.session.holes["hole_id"].iloc[without.nonzero()[0][:5]].tolist()
        shown += [each.hole_id for each in crops.set_aside][: max(0, 5 - len(shown))]
        notes.append(
            f"{counted(int(without.sum()) + n_nothing, 'holes')} without a usable image: {unseen:.3f}, the share of "
            f"good ones among the classifier's labels, before any context (first: {', '.join(dict.fromkeys(shown))})"
        )
    damaged = [each for each in crops.set_aside if each.why != SHOWS_NOTHING]
    if damaged:
        notes.append(f"{len(damaged)} of these have an image that is damaged ({damaged[0].why})")
    if model_id in crops.session.models():
        notes.append(f"The session had predictions of {model_id}; they are kept, and the new ones count")
    return notes


def _print(told: dict[str, Any]) -> None:
    out = console()
    rests = f", given {told['context_labels']} results" if told["context"] != "none" else ""
    out.print(
        f"Added {told['holes']} predictions {told['model_id']} at {told['threshold_angstrom']:g} Å to "
        f"{told['session']}: p_good {told['p_good_mean']:.3f} on average, context {told['context']}{rests}"
    )
    for note in told["notes"]:
        out.print(f"Note: {note}")
    policy = "adaptive" if told["context"] == "none" else "expected"
    out.print(
        f"Plan with it: cryoscout plan {shlex.quote(told['session'])} --budget-min 240 --policy {policy} --prediction "
        f"{shlex.quote(told['model_id'])}"
    )
