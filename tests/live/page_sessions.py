"""Sessions for the page: holes with places, some imaged, one with a name that would be markup."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.session.model import Session, SessionInfo, session_from_holes
from cryoscout.session.store import SessionStore
from cryoscout.session.tables import typed_table

MARKUP = "<img src=x onerror=alert(1)>"


def session_with_places(
    n_holes: int,
    *,
    imaged: int = 0,
    pending: int = 0,
    seed: int = 0,
    long_names: bool = False,
    unseen: int = 0,
) -> Session:
    """Squares of 4 x 25 holes on the stage; the first ones imaged 90 s apart, two of three good, then pending.

    unseen : so many squares more, which the atlas shows and nobody looked into
    """
    rng = np.random.default_rng(seed)
    number = np.arange(n_holes)
    patch, square = number // 25, number // 100
    in_patch = number % 25
    side = max(1, int(np.ceil(np.sqrt(n_holes / 100))))
    pad = "-" + "x" * 190 if long_names else ""
    ids = [f"h{at:06d}{pad}" for at in number]
    if n_holes:
        ids[-1] = MARKUP if n_holes > 1 else ids[-1]
    began, taken = datetime(2026, 1, 30, 20, 0), imaged + pending
    started = [
        (began + timedelta(minutes=1.5 * at)).isoformat() if at < taken else None for at in range(n_holes)
    ]
    ctf = np.where(rng.random(n_holes) < 0.66, 4.0, 9.0)
    holes = pd.DataFrame(
        {
            "hole_id": ids,
            "patch_id": [f"p{each:05d}" for each in patch],
            "square_id": [f"s{each:04d}" for each in square],
            "grid_id": "g1",
            "x_px": np.nan,
            "y_px": np.nan,
            "x_um": (square % side) * 60.0 + (patch % 4 % 2) * 25.0 + (in_patch % 5) * 3.0,
            "y_um": (square // side) * 60.0 + (patch % 4 // 2) * 25.0 + (in_patch // 5) * 3.0,
        }
    )
    exposures = pd.DataFrame(
        {
            "exposure_id": [f"{name}#1" for name in ids[:taken]],
            "hole_id": ids[:taken],
            "shot": np.ones(taken, dtype=np.int64),
            "started_at": pd.to_datetime(pd.Series(started[:taken], dtype="object")),
            "outcome": ["measured"] * imaged + ["pending"] * pending,
            "ctf_max_res_angstrom": np.where(number < imaged, ctf, np.nan)[:taken],
        }
    )
    session = session_from_holes("night", SessionInfo(format="generic"), holes, exposures)
    if not unseen:
        return session
    at = np.arange(unseen)
    more = pd.DataFrame(
        {"square_id": [f"u{each:04d}" for each in at], "grid_id": "g1", "x_um": at * 60.0, "y_um": -80.0}
    )
    if not n_holes:
        grids = typed_table("grids", pd.DataFrame({"grid_id": ["g1"]}))
        return replace(session, grids=grids, squares=typed_table("squares", more))
    squares = pd.concat([session.squares, typed_table("squares", more)], ignore_index=True)
    return replace(session, squares=squares)


def session_with_unseen_patches(n_holes: int, patches: dict[str, int], imaged: int = 60) -> Session:
    """Those holes, three squares more that hold none, and in some squares patches that nobody looked at.

    patches : square -> how many; a square of these was looked into
    """
    session = session_with_places(n_holes, imaged=imaged, unseen=3)
    rows = [(f"{square}q{at}", square) for square, many in patches.items() for at in range(many)]
    more = pd.DataFrame({"patch_id": [row[0] for row in rows], "square_id": [row[1] for row in rows]})
    joined = pd.concat([session.patches, more.assign(looked=False)], ignore_index=True)
    return replace(session, patches=typed_table("patches", joined))


def stored(session: Session, folder: Path) -> Path:
    """The session in a folder."""
    place = folder / f"{session.name}.session"
    with SessionStore.create(place) as store:
        store.save_import(session, source="tests")
    return place
