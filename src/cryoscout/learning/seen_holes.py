"""Which holes a policy was trained on: written into its file, and said where it is judged on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cryoscout.routing.policies.base import Policy
from cryoscout.session.builtin import BUILTIN_SESSIONS, SPLITS, load_builtin
from cryoscout.session.model import Session

TRAINING_SPLIT = "train"
"""Split of a built-in session that is learned from unless another one is named."""

TRAINED_ON = "trained_on"
"""Key of a policy's notes: one `trained_part` for each session."""


def trained_part(session: Session) -> dict[str, str]:
    """A session in a policy's notes: data set and split of a built-in one, else name and a digest of its hole ids."""
    if session.info.dataset in BUILTIN_SESSIONS:
        return {"dataset": session.info.dataset, "split": session.info.split}
    ids = "\n".join(session.holes["hole_id"].astype(str))
    return {"session": session.name, "holes": hashlib.sha256(ids.encode()).hexdigest()[:16]}


def note_on_seen_holes(policy: Policy, session: Session) -> tuple[str, ...]:
    """A note for the user where a learned policy was trained on outcomes of this session's holes, else nothing.

    The built-in sessions are one data set: what counts is the holes that two splits share. A stored session is the
    same by its name and hole ids. A policy trained on draws has seen no outcome.
    """
    if policy.kind != "learned":
        return ()
    # Imported here: a planner must not wait for the compiled steps of the learned ones.
    from cryoscout.learning.policy import LearnedPolicy

    if not isinstance(policy, LearnedPolicy) or policy.notes.get("draws"):
        return ()
    if not any(_is_of(part, session) for part in _parts(policy.notes)):
        return ()
    return (f"{policy.name} was trained on holes of this session: the figures flatter it.",)


def _parts(notes: Mapping[str, Any]) -> list[Any]:
    """The `trained_part`s of a policy; of a file without them the built-in sessions it names."""
    if isinstance(notes.get(TRAINED_ON), list):
        return list(notes[TRAINED_ON])
    names = notes.get("sessions")
    split = notes.get("split") or TRAINING_SPLIT
    return [{"dataset": name, "split": split} for name in names] if isinstance(names, list) else []


def _is_of(part: Any, session: Session) -> bool:
    if not isinstance(part, dict):
        return False
    dataset, split = part.get("dataset"), part.get("split")
    if dataset not in BUILTIN_SESSIONS or split not in SPLITS:
        return part == trained_part(session)
    if session.info.dataset not in BUILTIN_SESSIONS:
        return False
    seen = load_builtin(dataset, split).holes["hole_id"]
    return bool(session.holes["hole_id"].isin(seen).any())
