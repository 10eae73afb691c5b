"""Named predictions of a session: which there are, which one is taken, and its p_good."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.effects import Y1_EFFECTS, Y1_FLAT_EFFECTS, EffectVariances
from cryoscout.core.errors import DataError, UnknownNameError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM, check_threshold_angstrom
from cryoscout.session.model import OWN_PREDICTIONS, Session

COMBINED = "combined"
FLAT = "flat"
PAPER_MODEL = "res50"
_CONTEXT_MODEL = "res18"
_CONTEXT_DATASET = "y1"

LABELS_ALONE = "gives labels without probabilities: its intervals say nothing."


@dataclass(frozen=True)
class Prediction:
    """One named prediction of a session at one threshold, resolved once."""

    name: str
    p_good: NDArray[np.float64]  # (n,) probability that one exposure of the hole is good
    effects: EffectVariances  # how far a patch, square or grid may lie from what the prediction says of it
    loadings: (
        NDArray[np.float64] | None
    )  # (n, k) logit per standard error of the fit behind it; None: taken as exact
    checked: bool  # whether its calibration was checked on outcomes of this session's dataset
    notes: tuple[str, ...] = ()  # choices that were made for the user
    cautions: tuple[str, ...] = ()  # how far its numbers can be trusted
    scores: NDArray[np.float64] | None = None  # (n,) what `combined` puts into context; None for the others

    def of_seen(
        self, holes: NDArray[np.int64], tree: HoleTree
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """p_good (m,) and loadings (m, k) where these holes alone are seen: context is theirs alone.

        tree : of these holes
        """
        if self.scores is None:
            return self.p_good[holes], None if self.loadings is None else self.loadings[holes]
        from cryoscout.belief.context import combined_p_good, y1_context

        seen = self.scores[holes], tree.patch_of_hole, tree
        return combined_p_good(*seen), y1_context().loadings(*seen)


def prediction_of(
    session: Session,
    named: str | None = None,
    default: str = COMBINED,
    threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM,
) -> Prediction:
    """The prediction to use, with everything that planners take from it.

    named, default : as `resolve_prediction`
    Raises the errors of `resolve_prediction` and `named_p_good`.
    """
    name, notes = resolve_prediction(session, named, default)
    p_good = named_p_good(session, name, threshold_angstrom)
    in_context = name == COMBINED and _context_model(session) is not None
    scores = _scores_in_context(session, threshold_angstrom)[0] if in_context else None
    loadings = _loadings(session, threshold_angstrom) if name == COMBINED else None
    checked, cautions = True, []
    if name == COMBINED:
        checked, model = combined_is_checked(session)
        if not checked:
            cautions.append(
                f"combined was fitted to the ResNet-18 of the Y1 session; for model {model!r} its calibration is "
                "not checked. CTF results that are imported correct it."
            )
    elif own_models(session).get(name) == OWN_PREDICTIONS["score"]:
        checked = False
        cautions.append(
            f"p_good of {name!r} was fitted to the results that the session had when the scores were imported."
        )
    elif name != FLAT:
        checked = False
        cautions.append(
            f"p_good of {name!r} is the model's own, not calibrated on outcomes: the expected number and its "
            "intervals are only as good as that. CTF results that are imported correct them."
        )
    if len(p_good) and ((p_good == 0) | (p_good == 1)).all():
        cautions.append(f"Prediction {name!r} {LABELS_ALONE}")
    effects = Y1_FLAT_EFFECTS if name == FLAT else Y1_EFFECTS
    return Prediction(name, p_good, effects, loadings, checked, notes, tuple(cautions), scores)


def prediction_names(session: Session) -> list[str]:
    """Every prediction that can be named: the session's models, `combined` where it applies, `flat`."""
    context = [COMBINED] if _context_model(session) is not None else []
    return [*session.models(), *context, FLAT]


def resolve_prediction(session: Session, named: str | None, default: str) -> tuple[str, tuple[str, ...]]:
    """The prediction to use and notes for the user on every choice that was made for them.

    named : what the user asked for; None takes the policy's default, or the nearest thing the session has
    Models that do not cover every hole are passed over, with a note. Raises UnknownNameError when the session
    does not have the named one, DataError when that does not cover every hole.
    """
    known = prediction_names(session)
    if named is not None:
        if named not in known:
            raise UnknownNameError(f"The prediction of session {session.name}", named, known)
        lacking = _holes_without(session, named)
        if lacking:
            raise DataError(
                f"Prediction {named!r} of session {session.name} must cover every hole. Got none for {lacking} of "
                f"{session.n_holes} holes instead. Remedy: predict the session again, or name another with "
                "policy@prediction, for example adaptive@flat."
            )
        return named, ()
    models = session.models()
    if not models and default != FLAT:
        has_results = bool(session.measured_by_hole().any())
        what = "your own" if has_results else "CTF results as they come, or your own"
        return FLAT, (
            f"Session {session.name} has no predictions: before results every hole gets the share of good micrographs "
            f"of the Y1 training holes. Remedy: import {what} probabilities with --update --column p_good=NAME.",
        )
    wanted = [default] if default in known else []
    passed_over: dict[str, int] = {}  # model -> how many holes it lacks
    for name in dict.fromkeys([*wanted, *models, *known]):
        lacking = _holes_without(session, name)
        if not lacking:
            break
        model = _context_model(session) if name == COMBINED else name
        passed_over[str(model)] = lacking
    if name == default:
        return name, ()
    what = f"its model {name!r}" if name in models else repr(name)
    if passed_over:
        gaps = ", ".join(f"{model!r} lacks {lacking}" for model, lacking in passed_over.items())
        return name, (
            f"Models that lack a prediction for some of the {session.n_holes} holes of session {session.name} are "
            f"not used ({gaps}); {what} is used.",
        )
    return name, (f"Session {session.name} has no prediction {default!r}; {what} is used.",)


def _holes_without(session: Session, prediction: str) -> int:
    """How many holes a named prediction says nothing of."""
    if prediction == FLAT:
        return 0
    model = prediction
    if prediction == COMBINED and prediction not in session.models():
        model = _context_model(session) or prediction
    rows = session.predictions
    return session.n_holes - int(rows.loc[rows["model_id"] == model, "hole_id"].nunique())


def combined_is_checked(session: Session) -> tuple[bool, str]:
    """Whether the calibration of `combined` was checked on this session's dataset, and the model it rests on."""
    return session.info.dataset == _CONTEXT_DATASET, _context_model(session) or _CONTEXT_MODEL


def named_p_good(
    session: Session, prediction: str, threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM
) -> NDArray[np.float64]:
    """(n,) p_good by the name of a prediction.

    prediction : a model with predictions in the session; `combined`, the classifier with patch, square and
    grid
        context; `flat`, the share of good micrographs of the Y1 training holes
    Raises UnknownNameError with the nearest name, DataError when a model was made for another threshold.
    """
    check_threshold_angstrom(threshold_angstrom)
    if prediction == FLAT:
        return np.full(session.n_holes, flat_p_good(threshold_angstrom))
    if prediction == COMBINED and _context_model(session) is not None:
        return _combined(session, threshold_angstrom)
    if prediction not in session.models():
        raise UnknownNameError(
            f"The prediction of session {session.name}", prediction, prediction_names(session)
        )
    return session.prediction(prediction, threshold_angstrom)


def flat_p_good(threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM) -> float:
    """Share of good micrographs of the Y1 training holes, for holes of which nothing else is known."""
    from cryoscout.session.builtin import load_builtin

    return float(np.nanmean(load_builtin("y1", split="train").good_by_hole(threshold_angstrom)))


def _context_model(session: Session) -> str | None:
    """The classifier that `combined` puts into context: res18, or the session's only one with a p_good."""
    rows = session.predictions
    own = own_models(session)
    classifiers = [
        str(model) for model in rows.loc[rows["p_good"].notna(), "model_id"].unique() if model not in own
    ]
    if _CONTEXT_MODEL in classifiers:
        return _CONTEXT_MODEL
    return classifiers[0] if len(classifiers) == 1 else None


def own_models(session: Session) -> dict[str, str]:
    """A site's own predictions by model id, with how they were read (the values of OWN_PREDICTIONS)."""
    rows = session.provenance[session.provenance["reader"].isin(OWN_PREDICTIONS.values())]
    return dict(zip(rows["field"], rows["reader"], strict=True))


def _combined(session: Session, threshold_angstrom: float) -> NDArray[np.float64]:
    from cryoscout.belief.context import combined_p_good

    return combined_p_good(*_scores_in_context(session, threshold_angstrom))


def _loadings(session: Session, threshold_angstrom: float) -> NDArray[np.float64]:
    """How uncertain the fit behind `combined` is, (n, k)."""
    from cryoscout.belief.context import y1_context

    return y1_context().loadings(*_scores_in_context(session, threshold_angstrom))


def _scores_in_context(
    session: Session, threshold_angstrom: float
) -> tuple[NDArray[np.float64], NDArray[np.int32], HoleTree]:
    """Scores (n,), patch of each hole (n,) and tree, as the context model takes them."""
    model = _context_model(session)
    if model is None:
        raise DataError(f"Session {session.name} must have one classifier for `combined`. Got none instead.")
    tree = session.tree()
    return session.prediction(model, threshold_angstrom), tree.patch_of_hole, tree
