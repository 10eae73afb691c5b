"""Taking back one action of many: what must be said so that everything holds as if that one had not been said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cryoscout.core.errors import InputError
from cryoscout.session.overrides import (
    Ban,
    Budget,
    Order,
    Override,
    Overrides,
    Pause,
    Pin,
    Resume,
    Skip,
    Target,
    Threshold,
    Undo,
    override_of,
)

UNDOABLE = 20
"""The newest actions that can be taken back one by one."""
_PLACE: dict[str, type[Pin | Ban | Skip]] = {"pin": Pin, "ban": Ban, "skip": Skip}


def undoing(actions: Iterable[tuple[int, str, Mapping[str, Any]]], event: int) -> list[Override]:
    """What to say now, in order, to take the action of that event back.

    actions : (event, when, payload) of all overrides known, oldest first
    Raises InputError where the event is none of the last UNDOABLE, or nothing of it holds any more.
    """
    known = list(actions)
    if event not in [number for number, _, _ in known[-UNDOABLE:]]:
        raise InputError(
            f"An undo must name one of the last {UNDOABLE} actions. Got event {event} instead. "
            "Remedy: look at the history again."
        )
    now, wanted = Overrides(), Overrides()
    for number, at, payload in known:
        said = override_of(payload)
        now = now.of(said, at)
        if number != event:
            wanted = wanted.of(said, at)
    changes = _differences(now, wanted)
    if not changes:
        raise InputError(
            f"An undo must be of something that holds. Got event {event}, which later actions have replaced, instead."
        )
    return changes


def _differences(now: Overrides, wanted: Overrides) -> list[Override]:
    changes: list[Override] = []
    for of_holes in (True, False):
        before, after = (now.holes, wanted.holes) if of_holes else (now.squares, wanted.squares)
        for place in {**before, **after}:
            if before.get(place) == after.get(place):
                continue
            name = {"hole_id" if of_holes else "square_id": place}
            said = after.get(place)
            if said is None:
                changes.append(Undo(of=before[place], **name))
            else:
                changes.append(_PLACE[said](**name))
    if (now.hole_order, now.square_order) != (wanted.hole_order, wanted.square_order):
        changes.append(Undo(of="order"))
        changes += [Order(hole_ids=wanted.hole_order)] if wanted.hole_order else []
        changes += [Order(square_ids=wanted.square_order)] if wanted.square_order else []
    if now.is_paused != wanted.is_paused:
        changes.append(Pause() if wanted.is_paused else Resume())
    changes += _value(now.budget, wanted.budget, "budget")
    changes += _value(now.target, wanted.target, "target")
    if now.threshold_angstrom != wanted.threshold_angstrom:
        said_threshold = wanted.threshold_angstrom
        changes.append(
            Undo(of="threshold") if said_threshold is None else Threshold(threshold_angstrom=said_threshold)
        )
    return changes


def _value(now: Budget | Target | None, wanted: Budget | Target | None, of: Any) -> list[Override]:
    if now == wanted:
        return []
    return [Undo(of=of)] if wanted is None else [wanted]
