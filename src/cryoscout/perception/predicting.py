"""A classifier's predictions of a session: from images alone, then with the results of the session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cryoscout.core.counting import counted
from cryoscout.core.errors import InputError
from cryoscout.core.telling import Progress, no_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cryoscout.perception.from_session import SessionCrops
    from cryoscout.perception.predictor import Predictor
    from cryoscout.session.model import Session


_IMAGES_PER_STEP = 4096
"""A multiple of what networks take at once, so that steps change nothing."""

ONNX_SUFFIX = ".onnx"


def load_predictor(path: Path) -> Predictor:
    """The classifier of a folder or file; torch is imported only where the file needs it.

    Raises InputError, with the remedy, for anything else or where torch or onnxruntime is missing.
    """
    if path.suffix == ONNX_SUFFIX:
        from cryoscout.perception.onnx_classifier import OnnxClassifier

        return OnnxClassifier.load(path)
    file = path / "classifier.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"A classifier must be a folder of cryoscout train, its classifier.safetensors, or a file .onnx. Got "
            f"{path} instead. Remedy: name the folder of a training that ended."
        )
    from cryoscout.core.torch_needed import need_torch

    try:
        need_torch()
    except InputError as error:
        raise InputError(f"{error} Or predict from an ONNX file: cryoscout train --onnx.") from None
    from cryoscout.perception import Classifier

    return Classifier.load(file)


def image_p_good(
    predictor: Predictor, crops: SessionCrops, threshold: float, progress: Progress = no_progress
) -> tuple[NDArray[np.float64], float]:
    """((n,) p_good of every hole from its image alone, what holes without a usable image get).

    Planners need a p_good of every hole. Where nothing is seen it is the share of good ones among the classifier's
    labels: the same that a crop gets that shows nothing.
    """
    import numpy as np

    unseen = predictor.p_good_unseen(threshold)
    p_good = np.full(crops.session.n_holes, unseen)
    starts = range(0, len(crops.images), _IMAGES_PER_STEP)
    with progress("looking at hole images", len(starts)) as step:
        for start in starts:
            now = slice(start, start + _IMAGES_PER_STEP)
            p_good[crops.hole[now]] = predictor.p_good(crops.images[now], threshold)
            step()
    return p_good, unseen


class InContext(NamedTuple):
    """Predictions, perhaps corrected by results."""

    p_good: NDArray[np.float64]
    context: str
    labels: int
    """Results that it rests on"""
    notes: list[str]


def in_context(
    session: Session,
    p_good: NDArray[np.float64],
    fitted_to: NDArray[np.bool_],
    threshold: float,
    context: str | None,
) -> InContext:
    """The predictions given the results of the session.

    fitted_to : (n,) holes that the classifier was fitted to
    On holes that it was fitted to a network is surer than it is elsewhere: their scores are not used, their results
    are, and how far scores can be trusted is learned from the others. Raises InputError where a context is asked for by
    name and there are too few others.
    """
    import numpy as np

    from cryoscout.belief.calibration import FEWEST_LABELS
    from cryoscout.belief.in_session import predict_given_labels

    if context == "none":
        return InContext(p_good, "none", 0, [])
    labels = session.good_by_majority(threshold)
    known = labels[~np.isnan(labels) & ~fitted_to]
    if len(known) < FEWEST_LABELS or len(np.unique(known)) < 2:
        got = (
            f"{counted(len(known), 'results')} of holes that the classifier was not fitted to, {int(known.sum())} of "
            f"them good at {threshold:g} Å"
        )
        if context is not None:
            raise InputError(
                f"A context must have {FEWEST_LABELS} results, good and others. Got {got}, instead. Remedy: --context "
                "none, train on fewer --labels, or import more results."
            )
        return InContext(p_good, "none", 0, [f"No context: {got}, are too few."])
    tree = session.tree()
    x_um, y_um = (session.holes[name].to_numpy(dtype=np.float64) for name in ("x_um", "y_um"))
    kind: Any = context or ("effects" if np.isnan(x_um).all() else "effects+stage")
    found = predict_given_labels(
        p_good,
        labels,
        tree.patch_of_hole,
        tree,
        x_um,
        y_um,
        kind,
        fitted_to,
    )
    return InContext(
        found.p_good, kind, int((~np.isnan(labels)).sum()),
        [
            "The predictions know results of this session: do not judge them by a replay on it, and plan with a policy "
            "that does not count results again (expected, index)."
        ],
    )  # fmt: skip
