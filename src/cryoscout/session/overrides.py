"""What operators said against the plan: a checked form of each override, and the state that all of them leave.

The payload of an event of kind `overridden` is one of the models here as JSON. Its `kind` says which; `author`,
`note` and `undo_of` are for people. What was said last counts, `resume` undoes `pause`, and `undo` everything else:

    pin, ban, skip     a hole or a square: in every plan; in none; in none for now (the operator comes back to it)
    order              holes, or squares, in the order to image them in
    pause, resume      of the whole collection
    budget             the minutes left from now on, or the microscope's time at which the session ends
    threshold          up to which CTF resolution a micrograph is good
    target             how many good micrographs are wanted, and by when
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, NaiveDatetime, ValidationError, model_validator

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.settings import Settings
from cryoscout.core.units import LEAST_THRESHOLD_ANGSTROM, MOST_THRESHOLD_ANGSTROM

PlaceOverride = Literal["pin", "ban", "skip"]
Undoable = Literal["pin", "ban", "skip", "order", "budget", "threshold", "target"]
Text = Annotated[str, Field(min_length=1)]


class _Said(Settings):
    author: str | None = None
    note: str | None = None
    undo_of: int | None = None
    """The event that this was said to take back."""

    def payload(self) -> dict[str, Any]:
        """The payload of the event: JSON, without what was not said."""
        return self.model_dump(mode="json", exclude_none=True)


class _OfPlace(_Said):
    hole_id: Text | None = None
    square_id: Text | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.hole_id is None) == (self.square_id is None):
            raise ValueError("either hole_id or square_id must be given")
        return self


class Pin(_OfPlace):
    """The place is to be in every plan until it is imaged."""

    kind: Literal["pin"] = "pin"


class Ban(_OfPlace):
    """The place is to be in no plan."""

    kind: Literal["ban"] = "ban"


class Skip(_OfPlace):
    """The place is to be in no plan for now; the operator takes it back by an undo."""

    kind: Literal["skip"] = "skip"


class Order(_Said):
    """Holes, or squares, are to be imaged in this order."""

    kind: Literal["order"] = "order"
    hole_ids: tuple[Text, ...] = ()
    square_ids: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if bool(self.hole_ids) == bool(self.square_ids):
            raise ValueError("either hole_ids or square_ids must be given")
        if len(set(self.hole_ids)) != len(self.hole_ids) or len(set(self.square_ids)) != len(self.square_ids):
            raise ValueError("each id must be given once")
        return self

    def payload(self) -> dict[str, Any]:
        """The payload of the event: JSON, without what was not said."""
        return {name: value for name, value in super().payload().items() if value != []}


class Pause(_Said):
    """Nothing is to be imaged until `resume`."""

    kind: Literal["pause"] = "pause"


class Resume(_Said):
    """The end of a pause."""

    kind: Literal["resume"] = "resume"


class Budget(_Said):
    """How long the session still lasts: minutes from this moment, or the microscope's time of its end."""

    kind: Literal["budget"] = "budget"
    budget_min: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    end_at: NaiveDatetime | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.budget_min is None) == (self.end_at is None):
            raise ValueError("either budget_min or end_at must be given")
        return self


class Threshold(_Said):
    """A micrograph is good when its CTF resolution is at or below this."""

    kind: Literal["threshold"] = "threshold"
    threshold_angstrom: Annotated[float, Field(ge=LEAST_THRESHOLD_ANGSTROM, le=MOST_THRESHOLD_ANGSTROM)]


class Target(_Said):
    """How many good micrographs are wanted, by the microscope's time `by` where one is given."""

    kind: Literal["target"] = "target"
    good: Annotated[int, Field(ge=1)]
    by: NaiveDatetime | None = None


class Undo(_Said):
    """The last override of a kind holds no more; of a place where the kind is pin, ban or skip."""

    kind: Literal["undo"] = "undo"
    of: Undoable
    hole_id: Text | None = None
    square_id: Text | None = None

    @model_validator(mode="after")
    def _place_where_one_is_needed(self) -> Self:
        given = (self.hole_id is not None) + (self.square_id is not None)
        if given != (self.of in get_args(PlaceOverride)):
            raise ValueError(
                "of pin, ban and skip either hole_id or square_id must be given, of others neither"
            )
        return self


Override = Pin | Ban | Skip | Order | Pause | Resume | Budget | Threshold | Target | Undo
_MODELS: dict[str, type[Override]] = {
    model.model_fields["kind"].default: model for model in get_args(Override)
}
OVERRIDE_KINDS = tuple(_MODELS)


def override_of(payload: Mapping[str, Any]) -> Override:
    """The override that a payload says.

    Raises UnknownNameError for an unknown kind, InputError for a field that is unknown, missing or out of range.
    """
    kind = payload.get("kind")
    if not isinstance(kind, str):
        raise InputError(
            f"An override must say its kind, one of {', '.join(OVERRIDE_KINDS)}. Got {kind!r} instead. "
            "Remedy: for example {'kind': 'ban', 'hole_id': 'h1'}."
        )
    if kind not in _MODELS:
        raise UnknownNameError("The kind of an override", kind, OVERRIDE_KINDS)
    try:
        return _MODELS[kind].model_validate(dict(payload))
    except ValidationError as error:
        raise InputError(_message(kind, error)) from None


def _message(kind: str, error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    known = [name for name in _MODELS[kind].model_fields if name != "kind"]
    near = difflib.get_close_matches(where, known, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if first["type"] == "extra_forbidden" and near else ""
    what = first["msg"].removeprefix("Value error, ")
    of_what = f"{where!r} ({what})" if where else what
    return f"An override of kind {kind} must have fields of {', '.join(known)}. Got {of_what} instead.{hint}"


@dataclass(frozen=True)
class Overrides:
    """What holds now of all that was said. What is said of a hole goes before what is said of its square."""

    holes: Mapping[str, PlaceOverride] = field(default_factory=dict)
    """Hole id -> pin, ban or skip, in the order they were said."""
    squares: Mapping[str, PlaceOverride] = field(default_factory=dict)
    hole_order: tuple[str, ...] = ()
    square_order: tuple[str, ...] = ()
    is_paused: bool = False
    budget: Budget | None = None
    budget_said_at: str | None = None
    """When the budget was said, UTC, ISO 8601: its minutes count from there."""
    threshold_angstrom: float | None = None
    target: Target | None = None

    def of(self, override: Override, at: str) -> Overrides:
        """The state after one more override.     at : when it was said, UTC, ISO 8601"""
        match override:
            case Pin() | Ban() | Skip():
                return self._with_place(override.hole_id, override.square_id, override.kind)
            case Order():
                return replace(
                    self,
                    hole_order=override.hole_ids or self.hole_order,
                    square_order=override.square_ids or self.square_order,
                )
            case Pause() | Resume():
                return replace(self, is_paused=override.kind == "pause")
            case Budget():
                return replace(self, budget=override, budget_said_at=at)
            case Threshold():
                return replace(self, threshold_angstrom=override.threshold_angstrom)
            case Target():
                return replace(self, target=override)
            case Undo():
                return self._without(override)

    def holds(self, undo: Undo) -> bool:
        """Whether there is what the undo is of."""
        match undo.of:
            case "order":
                return bool(self.hole_order or self.square_order)
            case "budget":
                return self.budget is not None
            case "threshold":
                return self.threshold_angstrom is not None
            case "target":
                return self.target is not None
        if undo.hole_id is not None:
            return self.holes.get(undo.hole_id) == undo.of
        return undo.square_id is not None and self.squares.get(undo.square_id) == undo.of

    def _with_place(
        self, hole_id: str | None, square_id: str | None, said: PlaceOverride | None
    ) -> Overrides:
        """With what is said last at the end; without the place where nothing is said any more."""
        of_holes = hole_id is not None
        place = hole_id if of_holes else square_id
        before = self.holes if of_holes else self.squares
        kept = {name: each for name, each in before.items() if name != place}
        if said is not None and place is not None:
            kept[place] = said
        return replace(self, holes=kept) if of_holes else replace(self, squares=kept)

    def _without(self, undo: Undo) -> Overrides:
        if not self.holds(undo):
            return self
        match undo.of:
            case "order":
                return replace(self, hole_order=(), square_order=())
            case "budget":
                return replace(self, budget=None, budget_said_at=None)
            case "threshold":
                return replace(self, threshold_angstrom=None)
            case "target":
                return replace(self, target=None)
        return self._with_place(undo.hole_id, undo.square_id, None)
