"""What is stored at a place, in a form that two runs of one command give alike; and tables to import there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import pytest

from cryoscout.core.errors import StoreError
from cryoscout.core.new_files import REPLACED
from cryoscout.session.store import SessionStore
from cryoscout.session.tables import TABLES

PLACE = "run.session"
PATCHES = 6
State = dict[str, str] | None


def write_table(file: Path, holes: Sequence[int], results: int) -> None:
    """An own table of these holes, the first so many with a result."""
    rows = [
        f"s{hole % 3},p{hole % PATCHES},h{hole},{20 + 10 * (hole // PATCHES)},{30 + hole},"
        f"{4.5 + hole % 4 if number < results else ''}"
        for number, hole in enumerate(holes)
    ]
    header = "square,patch,hole,x_px,y_px,ctf_max_res_angstrom"
    file.write_text("\n".join([header, *rows]) + "\n")


def state_of(place: Path) -> State:
    """Every number of the session there, images too, and the kinds of its events; None where nothing is.

    A session that was set aside by a forced import that was killed half-way is first put back, as the error says.
    """
    if not place.exists():
        partial = place.parent.glob(f".{place.name}.partial-*")
        aside = [each for each in partial if each.name.endswith(REPLACED)]
        if not aside:
            return None
        with pytest.raises(StoreError, match="Remedy: rename"):
            SessionStore.create(place)
        aside[0].rename(place)
    with SessionStore.open(place) as store:
        session = store.load()
        # The time of a prediction is that of its run.
        found = {
            table: getattr(session, table).drop(columns="predicted_at", errors="ignore").to_csv()
            for table in TABLES
        }
        found["events"] = " ".join(event.kind for event in store.events())
        for patch in session.patches["patch_id"]:
            images = store.images(patch)
            found[f"images of {patch}"] = (
                "none" if images is None else f"{images.shape} {crc32(images.tobytes())}"
            )
    return found
