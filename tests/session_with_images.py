"""A tiny stored session whose hole images say the outcome by their brightness, and settings that learn it at once."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cryoscout.session.model import Session, SessionInfo, session_from_holes
from cryoscout.session.store import SessionStore

PATCHES, HOLES_EACH = 10, 12
TINY: dict[str, Any] = {
    "width": 8,
    "size_px": 16,
    "stem_stride": 2,
    "steps": 30,
    "batch_size": 8,
    "unlabelled_ratio": 2,
    "evaluate_every": 10,
    "precision": "float32",
    "rounds": 2,
    "embedding": 8,
}


def hole_id(patch: int, hole: int) -> str:
    return f"p{patch}h{hole:02}"


def truth() -> NDArray[np.bool_]:
    """(120,) which holes are good."""
    return np.random.default_rng(5).random(PATCHES * HOLES_EACH) < 0.5


def bright(good: NDArray[np.bool_], side: int = 16) -> NDArray[np.uint8]:
    """Good holes are brighter."""
    rng = np.random.default_rng(6)
    level = np.where(good, 165.0, 90.0)[:, None, None]
    return np.clip(level + rng.normal(0.0, 15.0, (len(good), side, side)), 0, 255).astype(np.uint8)


def tiny_session(
    results: NDArray[np.bool_] | None = None,
    imaged: NDArray[np.bool_] | None = None,
    ctf: NDArray[np.float64] | None = None,
    shots: int = 1,
) -> Session:
    """120 holes in 10 patches, 5 squares, 1 grid.

    results : which holes have a CTF result, by default the first 8 of each patch     imaged : with an image, all
    ctf : of holes with a result; by default 4 Å where good, 9 Å where not
    """
    n = PATCHES * HOLES_EACH
    patch = np.repeat(np.arange(PATCHES), HOLES_EACH)
    number = np.tile(np.arange(HOLES_EACH), PATCHES)
    with_result = number < 8 if results is None else results
    with_image = np.ones(n, dtype=bool) if imaged is None else imaged
    values = np.where(truth(), 4.0, 9.0) if ctf is None else ctf
    ids = [hole_id(p, h) for p, h in zip(patch, number, strict=True)]
    row = pd.array(number, dtype="Int64")
    row[~with_image] = pd.NA
    holes = pd.DataFrame(
        {
            "hole_id": ids,
            "patch_id": [f"p{p}" for p in patch],
            "square_id": [f"s{p // 2}" for p in patch],
            "grid_id": "g",
            "x_px": 20.0 + 20.0 * (number % 4),
            "y_px": 20.0 + 20.0 * (number // 4),
            "x_um": patch * 20.0 + number % 4,
            "y_um": (number // 4).astype(float),
            "image_row": row,
        }
    )
    failed = np.isinf(values)
    shown = holes[with_result]
    one_shot = pd.DataFrame(
        {
            "hole_id": shown["hole_id"],
            "started_at": pd.NaT,
            "outcome": np.where(failed, "failed", "measured")[with_result],
            "ctf_max_res_angstrom": np.where(failed, np.nan, values)[with_result],
        }
    )
    exposures = pd.concat(
        [one_shot.assign(shot=k + 1, exposure_id=one_shot["hole_id"] + f"e{k + 1}") for k in range(shots)],
        ignore_index=True,
    )
    info = SessionInfo(format="generic", shots=shots, default_time_model="cryorl")
    return session_from_holes("tiny", info, holes, exposures)


def images_of(session: Session, crops: NDArray[np.uint8] | None = None) -> dict[str, NDArray[np.uint8]]:
    """By patch, a row for every hole."""
    pixels = bright(truth()) if crops is None else crops
    return {f"p{p}": pixels[p * HOLES_EACH : (p + 1) * HOLES_EACH] for p in range(PATCHES)}


def stored(
    folder: Path, session: Session | None = None, images: dict[str, NDArray[np.uint8]] | None = None
) -> Path:
    """Write it; the folder."""
    session = tiny_session() if session is None else session
    with SessionStore.create(folder) as store:
        store.save_import(session, "test", images=images_of(session) if images is None else images)
    return folder


def run_once(session: Path, folder: Path, profile: dict[str, Any], line: str) -> Path:
    """A copy of a stored session in a folder, beside which a command line has run; the folder, to be copied."""
    from cryoscout.cli.main import main
    from cryoscout.perception import settings

    shutil.copytree(session, folder / session.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(settings.PROFILES, "quick", profile)
        patch.chdir(folder)
        assert main(shlex.split(line)) == 0
    return folder
