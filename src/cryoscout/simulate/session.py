"""A simulated session in the one model of a session, so that every command takes it like a real one."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.session.model import Session, SessionInfo
from cryoscout.simulate.tables import SimulatedTables

SIMULATED_MODEL = "simulated"
"""Model id of the simulated classifier's predictions."""

SESSION_START = pd.Timestamp("2000-01-01 00:00:00")
"""Microscope time at which every simulated session starts; fixed: same seed, same session."""

PATCH_PIXEL_UM = 0.0105
"""Pixel of the patch images that holes are placed in: holes 2 um apart lie 190 px apart, as in Y1."""


def to_session(tables: SimulatedTables, name: str) -> Session:
    """The session of simulated tables, in their order, with every hole imaged and predictions `simulated`.

    Positions: x_px to the right, y_px downwards, from the middle of the patch. Ids are numbered in order.
    """
    shots = tables.settings.shots
    grid_ids = _ids("g", int(tables.grid_of_square[-1]) + 1)
    square_ids = _ids("s", len(tables.grid_of_square))
    patch_ids = _ids("p", len(tables.square_of_patch))
    hole_ids = _ids("h", tables.n_holes)
    session = Session(
        name=name,
        info=SessionInfo(
            format="simulated",
            shots=shots,
            default_time_model="cryorl",
            description=f"Simulated: {tables.n_holes} holes, {len(patch_ids)} patches, "
            f"{len(square_ids)} squares, {len(grid_ids)} grids",
            origin=f"simulated with seed {tables.seed}",
        ),
        grids=pd.DataFrame({"grid_id": grid_ids}),
        squares=pd.DataFrame({"square_id": square_ids, "grid_id": grid_ids[tables.grid_of_square]}),
        patches=pd.DataFrame({"patch_id": patch_ids, "square_id": square_ids[tables.square_of_patch]}),
        holes=pd.DataFrame(
            {
                "hole_id": hole_ids,
                "patch_id": patch_ids[tables.patch_of_hole],
                "x_px": _from_patch_middle_px(tables.x_um, tables.patch_of_hole),
                "y_px": -_from_patch_middle_px(tables.y_um, tables.patch_of_hole),
                "image_row": pd.array([pd.NA] * tables.n_holes, dtype="Int64"),
            }
        ),
        exposures=_exposures(tables, hole_ids),
        provenance=pd.DataFrame(
            [
                (table, "all", "(none)", "simulate")
                for table in ("grids", "squares", "patches", "holes", "exposures", "predictions")
            ],
            columns=["table", "field", "file", "reader"],
        ),
    )
    return session.with_p_good(SIMULATED_MODEL, GOOD_THRESHOLD_ANGSTROM, tables.score, SESSION_START)


def _exposures(tables: SimulatedTables, hole_ids: NDArray[np.str_]) -> pd.DataFrame:
    shots = tables.settings.shots
    hole_id = np.repeat(hole_ids, shots)
    shot = np.tile(np.arange(1, shots + 1), tables.n_holes)
    ctf = tables.ctf_max_res_angstrom.ravel()
    fitted = np.isfinite(ctf)
    return pd.DataFrame(
        {
            "exposure_id": np.char.add(np.char.add(hole_id, "-"), shot.astype(np.str_)),
            "hole_id": hole_id,
            "shot": shot,
            "started_at": SESSION_START + pd.to_timedelta(tables.started_s.ravel(), unit="s"),
            "outcome": np.where(fitted, "measured", "failed"),
            "ctf_max_res_angstrom": np.where(fitted, ctf, np.nan),
        }
    )


def _from_patch_middle_px(position_um: NDArray[np.float64], patch: NDArray[np.int32]) -> NDArray[np.float64]:
    """(n,) pixels from the middle between the outermost holes of the hole's patch."""
    first = np.searchsorted(patch, np.arange(patch[-1] + 1))
    middle_um = (np.minimum.reduceat(position_um, first) + np.maximum.reduceat(position_um, first)) / 2
    pixels: NDArray[np.float64] = (position_um - middle_um[patch]) / PATCH_PIXEL_UM
    return pixels


def _ids(letter: str, count: int) -> NDArray[np.str_]:
    """(count,) letter and number, as many digits each, so that the ids sort in order."""
    return np.char.mod(f"{letter}%0{len(str(count))}d", np.arange(1, count + 1)).astype(np.str_)
