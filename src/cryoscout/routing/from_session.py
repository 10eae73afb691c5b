"""From a session to what planners and replays take: problem, truth, named prediction, time model, names.

The one place that decides what a planner may know of a session, so that nothing of the truth slips into a
problem.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.effects import Y1_EFFECTS, Y1_FLAT_EFFECTS, EffectTree, EffectVariances
from cryoscout.core.errors import DataError, InputError, UnknownNameError
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.replay import Truth
from cryoscout.routing.time_model import PRESETS, TimeModel, time_model_named
from cryoscout.routing.worklist import PlaceNames
from cryoscout.session.model import Session

if TYPE_CHECKING:
    from cryoscout.routing.time_fit import FittedTimeModel

COMBINED = "combined"
FLAT = "flat"
PAPER_MODEL = "res50"
_CONTEXT_MODEL = "res18"
_CONTEXT_DATASET = "y1"
FITTED = "fitted"
_SESSION_FOLDER_SUFFIX = ".session"


def load_session(spec: str, split: str | None = None) -> Session:
    """The session a person means by a built-in name or a NAME.session folder.

    split : of a built-in session, its default when None
    Raises UnknownNameError with the nearest name, InputError for a split of a stored session, StoreError
    when the
    folder cannot be read.
    """
    from cryoscout.session.builtin import BUILTIN_SESSIONS, Split, load_builtin
    from cryoscout.session.store import SessionStore, refuse_interrupted_replacement

    if spec in BUILTIN_SESSIONS:
        return load_builtin(spec) if split is None else load_builtin(spec, split=cast("Split", split))
    folder = Path(spec)
    if not folder.is_dir():
        if folder.suffix == _SESSION_FOLDER_SUFFIX:
            refuse_interrupted_replacement(folder)
        parent = folder.parent
        beside = [str(path) for path in parent.glob(f"*{_SESSION_FOLDER_SUFFIX}")] if parent.is_dir() else []
        raise UnknownNameError("The session", spec, [*BUILTIN_SESSIONS, *beside])
    if split is not None:
        raise InputError(
            f"A split must belong to a built-in session ({', '.join(BUILTIN_SESSIONS)}). Got split "
            f"{split!r} of {spec} "
            "instead. Remedy: leave --split out."
        )
    with SessionStore.open(folder) as store:
        return store.load()


def truth_from_session(session: Session, threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM) -> Truth:
    """What the holes gave. Without a result a hole is not measured; a failed fit is a result, not good."""
    good = session.good_by_hole(check_threshold_angstrom(threshold_angstrom))
    measured = ~np.isnan(good)
    return Truth(np.where(measured, good, 0.0), measured)


def problem_from_session(
    session: Session,
    *,
    prediction: str,
    budget_min: float,
    time_model: TimeModel | str | None = None,
    threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM,
    crossing: Crossing = "drop",
    as_new: bool = False,
) -> RoutingProblem:
    """The planning problem of a session; holes in the session's order.

    prediction : a name that `named_p_good` knows     time_model : None for the session's default
    as_new : hide every outcome and plan imaged holes again; built-in sessions always are as new
    Without as_new, imaged holes are marked as imaged (never planned) and known outcomes are handed over.
    Raises UnknownNameError, InputError, DataError as the parts do.
    """
    patch_of_hole, square_of_patch, grid_of_square = session.tree()
    if not isinstance(time_model, TimeModel):
        time_model, _ = time_model_for(session, time_model)
    hidden = is_planned_as_new(session, as_new)
    return RoutingProblem(
        patch_of_hole=patch_of_hole,
        square_of_patch=square_of_patch,
        grid_of_square=grid_of_square,
        p_good=named_p_good(session, prediction, threshold_angstrom),
        budget_min=budget_min,
        time_model=time_model,
        shots=session.info.shots,
        crossing=crossing,
        effects=_effects_of(prediction),
        fit_loadings=_fit_loadings(session, prediction, threshold_angstrom),
        imaged=None if hidden else session.imaged_by_hole(),
        outcome=None if hidden else session.good_by_hole(threshold_angstrom),
        results=None if hidden else session.results_by_hole(),
        hole_ids=tuple(session.holes["hole_id"]),
    )


def is_planned_as_new(session: Session, as_new: bool) -> bool:
    """Whether outcomes are hidden: always for built-in sessions, otherwise when asked for."""
    return as_new or session.info.built_in


def start_of_plan(session: Session, from_hole: str | None, as_new: bool) -> int:
    """Index of the hole a plan starts at: the one named, else the last one imaged, else NOWHERE.

    Raises InputError with the nearest id when the hole is not of the session.
    """
    if from_hole is not None:
        return session.hole_index(from_hole)
    last = None if is_planned_as_new(session, as_new) else session.last_imaged_hole()
    return NOWHERE if last is None else last


def place_names(session: Session) -> PlaceNames:
    """The vendor's ids of holes, patches, squares and grids, in the order of the problem's indices; stage positions."""
    return PlaceNames(
        holes=tuple(session.holes["hole_id"]),
        patches=tuple(session.patches["patch_id"]),
        squares=tuple(session.squares["square_id"]),
        grids=tuple(session.grids["grid_id"]),
        x_um=session.holes["x_um"].to_numpy(dtype=np.float64),
        y_um=session.holes["y_um"].to_numpy(dtype=np.float64),
    )


def check_threshold_angstrom(threshold_angstrom: float) -> float:
    """Return the threshold, or raise InputError when it is not a positive resolution."""
    if not (np.isfinite(threshold_angstrom) and threshold_angstrom > 0):
        raise InputError(
            f"The threshold must be a positive resolution in angstrom. Got {threshold_angstrom!r} instead. "
            "Remedy: for example --threshold-angstrom 6."
        )
    return float(threshold_angstrom)


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
        return FLAT, (
            f"Session {session.name} has no predictions: every hole gets the share of good micrographs of "
            "the Y1 "
            "training holes. Only outcomes can tell holes apart.",
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
    classifiers = [str(model) for model in rows.loc[rows["p_good"].notna(), "model_id"].unique()]
    if _CONTEXT_MODEL in classifiers:
        return _CONTEXT_MODEL
    return classifiers[0] if len(classifiers) == 1 else None


def _combined(session: Session, threshold_angstrom: float) -> NDArray[np.float64]:
    from cryoscout.belief.context import combined_p_good

    return combined_p_good(*_scores_in_context(session, threshold_angstrom))


def _fit_loadings(session: Session, prediction: str, threshold_angstrom: float) -> NDArray[np.float64] | None:
    """How uncertain the fit behind a prediction is, (n, k); None where nothing was fitted."""
    from cryoscout.belief.context import y1_context

    if prediction != COMBINED:
        return None
    return y1_context().loadings(*_scores_in_context(session, threshold_angstrom))


def _scores_in_context(
    session: Session, threshold_angstrom: float
) -> tuple[NDArray[np.float64], NDArray[np.int32], EffectTree]:
    """Scores (n,), patch of each hole (n,) and tree, as the context model takes them."""
    model = _context_model(session)
    if model is None:
        raise DataError(f"Session {session.name} must have one classifier for `combined`. Got none instead.")
    patch_of_hole, square_of_patch, grid_of_square = session.tree()
    tree = EffectTree(square_of_patch, grid_of_square)
    return session.prediction(model, threshold_angstrom), patch_of_hole, tree


def _effects_of(prediction: str) -> EffectVariances:
    """How far a patch, square or grid may lie from what the prediction says of it."""
    return Y1_FLAT_EFFECTS if prediction == FLAT else Y1_EFFECTS


def time_model_for(session: Session, name: str | None) -> tuple[TimeModel, tuple[str, ...]]:
    """The time model by name, or the session's default, and notes for the user.

    name : a preset, `fitted`, or None: `cryorl` for built-in and simulated sessions and where times are missing or
        too few to tell a visit from a pause (no tier with FEW_EVENTS steps that are no pauses), else `fitted`
    Raises UnknownNameError; DataError when `fitted` is named and the session has too few times.
    """
    if name == FITTED:
        fit = fitted_times(session)
        return fit.time_model, fit.warnings
    if name is not None:
        return time_model_named(name), ()
    if session.info.default_time_model == "cryorl":
        return PRESETS["cryorl"], ()
    from cryoscout.routing.time_fit import FEW_EVENTS, TIER_NAMES

    try:
        fit = fitted_times(session)
    except DataError as error:
        return PRESETS["cryorl"], (f"The published time model cryorl is used. {error}",)
    if not fit.well_measured.any():
        kept = zip((fit.events - fit.pauses).tolist(), TIER_NAMES, strict=True)
        return PRESETS["cryorl"], (
            "The published time model cryorl is used: the session's times hold "
            f"{', '.join(f'{steps} {name}' for steps, name in kept)} steps without pauses, every one fewer than "
            f"{FEW_EVENTS}. --time-model fitted uses them all the same.",
        )
    return fit.time_model, fit.warnings


def fitted_times(session: Session) -> FittedTimeModel:
    """The time model fitted to the session's own times, with the steps it rests on.

    Raises DataError when the session has too few times.
    """
    from cryoscout.routing.time_fit import fit_time_model
    from cryoscout.session.builtin import load_builtin

    if session.info.built_in:
        # A split leaves gaps between its exposures; only the whole session shows which ones were consecutive.
        session = load_builtin(session.info.dataset, split="all")
    exposures = session.exposures.merge(session.holes[["hole_id", "patch_id"]], on="hole_id")
    exposures = exposures.merge(session.patches, on="patch_id").merge(session.squares, on="square_id")
    started_at = exposures["started_at"]
    return fit_time_model(
        (started_at - started_at.min()).dt.total_seconds().to_numpy(),
        *(exposures[column].to_numpy() for column in ("patch_id", "square_id", "grid_id", "hole_id")),
    )
