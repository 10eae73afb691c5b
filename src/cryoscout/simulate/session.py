"""A simulated session in the one model of a session, so that every command takes it like a real one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.session.model import Session, SessionInfo
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.layout import rank_in_parent
from cryoscout.simulate.scene import Scene
from cryoscout.simulate.settings import VisitSettings
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
    session = _session(
        name,
        tables,
        holes={
            "x_px": _from_patch_middle_px(tables.x_um, tables.patch_of_hole, PATCH_PIXEL_UM),
            "y_px": -_from_patch_middle_px(tables.y_um, tables.patch_of_hole, PATCH_PIXEL_UM),
            "image_row": pd.array([pd.NA] * tables.n_holes, dtype="Int64"),
        },
        squares={"area_um2": tables.square_area_um2, "brightness": tables.square_brightness}
        if tables.settings.atlas_brightness_correlation > 0
        else {},
        exposed=np.ones(tables.n_holes, dtype=bool),
    )
    return session.with_p_good(SIMULATED_MODEL, GOOD_THRESHOLD_ANGSTROM, tables.score, SESSION_START)


def scene_to_session(scene: Scene, name: str, *, images: ImageSettings | None = None) -> Session:
    """The session of a simulated specimen, in its order, without predictions.

    images : how the images are made that will be stored with it; None: none will be, and no hole has an image row
    Positions: x_um, y_um of holes and squares on the stage of their grid; x_px to the right, y_px downwards, from the
    middle of the patch image. Holes that the scene does not expose have exposures with the outcome `none`. The truth
    (kinds, thickness, the CTF of holes not exposed) stays with the scene.
    """
    pixel_um = (images or ImageSettings()).pixel_nm / 1000
    row = rank_in_parent(scene.patch_of_hole) if images is not None else [pd.NA] * scene.n_holes
    return _session(
        name,
        scene,
        holes={
            "x_px": _from_patch_middle_px(scene.x_um, scene.patch_of_hole, pixel_um),
            "y_px": -_from_patch_middle_px(scene.y_um, scene.patch_of_hole, pixel_um),
            "image_row": pd.array(row, dtype="Int64"),
            "x_um": scene.x_um,
            "y_um": scene.y_um,
        },
        squares={"x_um": scene.square_x_um, "y_um": scene.square_y_um},
        exposed=scene.exposed,
    )


class _Simulated(Protocol):
    """What tables and scenes share."""

    @property
    def settings(self) -> VisitSettings: ...
    @property
    def seed(self) -> int: ...
    @property
    def n_holes(self) -> int: ...
    @property
    def patch_of_hole(self) -> NDArray[np.int32]: ...
    @property
    def square_of_patch(self) -> NDArray[np.int32]: ...
    @property
    def grid_of_square(self) -> NDArray[np.int32]: ...
    @property
    def ctf_max_res_angstrom(self) -> NDArray[np.float64]: ...
    @property
    def started_s(self) -> NDArray[np.float64]: ...


def _session(
    name: str,
    simulated: _Simulated,
    holes: Mapping[str, object],
    squares: Mapping[str, object],
    exposed: NDArray[np.bool_],
) -> Session:
    """holes, squares : columns beside the ids and parents     exposed : (n,) the holes with results"""
    grid_ids = _ids("g", int(simulated.grid_of_square[-1]) + 1)
    square_ids = _ids("s", len(simulated.grid_of_square))
    patch_ids = _ids("p", len(simulated.square_of_patch))
    hole_ids = _ids("h", simulated.n_holes)
    return Session(
        name=name,
        info=SessionInfo(
            format="simulated",
            shots=simulated.settings.shots,
            default_time_model="cryorl",
            description=f"Simulated: {simulated.n_holes} holes, {len(patch_ids)} patches, "
            f"{len(square_ids)} squares, {len(grid_ids)} grids",
            origin=f"simulated with seed {simulated.seed}",
        ),
        grids=pd.DataFrame({"grid_id": grid_ids}),
        squares=pd.DataFrame(
            {"square_id": square_ids, "grid_id": grid_ids[simulated.grid_of_square], **squares}
        ),
        patches=pd.DataFrame({"patch_id": patch_ids, "square_id": square_ids[simulated.square_of_patch]}),
        holes=pd.DataFrame({"hole_id": hole_ids, "patch_id": patch_ids[simulated.patch_of_hole], **holes}),
        exposures=_exposures(simulated, hole_ids, exposed),
        provenance=pd.DataFrame(
            [
                (table, "all", "(none)", "simulate")
                for table in ("grids", "squares", "patches", "holes", "exposures", "predictions")
            ],
            columns=["table", "field", "file", "reader"],
        ),
    )


def _exposures(simulated: _Simulated, hole_ids: NDArray[np.str_], exposed: NDArray[np.bool_]) -> pd.DataFrame:
    shots = simulated.settings.shots
    hole_id = np.repeat(hole_ids, shots)
    shot = np.tile(np.arange(1, shots + 1), simulated.n_holes)
    ctf = simulated.ctf_max_res_angstrom.ravel()
    taken = np.repeat(exposed, shots)
    measured = np.isfinite(ctf) & taken
    return pd.DataFrame(
        {
            "exposure_id": np.char.add(np.char.add(hole_id, "-"), shot.astype(np.str_)),
            "hole_id": hole_id,
            "shot": shot,
            "started_at": SESSION_START + pd.to_timedelta(simulated.started_s.ravel(), unit="s"),
            "outcome": np.select([measured, taken], ["measured", "failed"], default="none"),
            "ctf_max_res_angstrom": np.where(measured, ctf, np.nan),
        }
    )


def _from_patch_middle_px(
    position_um: NDArray[np.float64], patch: NDArray[np.int32], pixel_um: float
) -> NDArray[np.float64]:
    """(n,) pixels from the middle between the outermost holes of the hole's patch."""
    first = np.searchsorted(patch, np.arange(patch[-1] + 1))
    middle_um = (np.minimum.reduceat(position_um, first) + np.maximum.reduceat(position_um, first)) / 2
    pixels: NDArray[np.float64] = (position_um - middle_um[patch]) / pixel_um
    return pixels


def _ids(letter: str, count: int) -> NDArray[np.str_]:
    """(count,) letter and number, as many digits each, so that the ids sort in order."""
    return np.char.mod(f"{letter}%0{len(str(count))}d", np.arange(1, count + 1)).astype(np.str_)
