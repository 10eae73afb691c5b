"""The sessions of studies as one text each, so that a trial's parameters say everything: real and simulated ones."""

from __future__ import annotations

from cryoscout.core.errors import InputError
from cryoscout.session.model import Session
from cryoscout.session.named import load_session
from cryoscout.simulate.settings import SimulationSettings

_SIMULATED = "simulated:"


def simulated(settings: SimulationSettings, seed: int) -> str:
    """The text of a simulated session: its seed and every setting that is not the default."""
    return f"{_SIMULATED}{seed}:{settings.model_dump_json(exclude_defaults=True)}"


def session_of(text: str, split: str | None = None) -> Session:
    """The session of a text: one that `simulated` gave, a built-in name, or a NAME.session folder.

    split : of a built-in session, its default when None
    Raises the errors of `load_session`; InputError for a split of a simulated session.
    """
    if not text.startswith(_SIMULATED):
        return load_session(text, split)
    if split is not None:
        raise InputError(f"A split must belong to a built-in session. Got {split!r} of {text} instead.")
    from cryoscout.simulate.session import to_session
    from cryoscout.simulate.tables import simulate_tables

    seed, _, settings = text.removeprefix(_SIMULATED).partition(":")
    tables = simulate_tables(SimulationSettings.model_validate_json(settings), int(seed))
    return to_session(tables, f"simulated-{seed}")
