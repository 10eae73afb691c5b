"""Where the holes of a simulated specimen lie: a rotated lattice in each square, with missing and torn holes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.simulate.layout import around_centre, parents, rank_in_parent
from cryoscout.simulate.scene_settings import SceneSettings

_PATCHES_AT_ONCE = 2048
"""Patches whose lattice nodes are in memory together."""

_ROOM_BETWEEN = 1.15
"""Pitch of squares over the width of the widest square."""


@dataclass(frozen=True)
class LatticeLayout:
    """The tree and the places of holes; the fields are those of Scene with the same names."""

    patch_of_hole: NDArray[np.int32]
    square_of_patch: NDArray[np.int32]
    grid_of_square: NDArray[np.int32]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    square_x_um: NDArray[np.float64]
    square_y_um: NDArray[np.float64]
    lattice_angle_rad: NDArray[np.float64]
    lattice_ij: NDArray[np.int32]
    missing: NDArray[np.float64]


def lay_out_lattice(
    settings: SceneSettings, tree_rng: np.random.Generator, lattice_rng: np.random.Generator
) -> LatticeLayout:
    """Draw the tree, place squares on their grid's mesh and patches in their square, then choose each patch's holes.

    A patch takes the nodes nearest to its centre along the camera's axes, as a patch image does. Patches never
    share a node: each has a place of its own, wide enough for the largest patch.
    """
    patch_of_hole = parents(settings.holes, settings.patches, settings.holes_per_patch_spread, tree_rng)
    square_of_patch = parents(
        settings.patches, settings.squares, settings.patches_per_square_spread, tree_rng
    )
    grid_of_square = parents(settings.squares, settings.grids, settings.squares_per_grid_spread, tree_rng)

    holes_of_patch = np.bincount(patch_of_hole)
    intact = 1 - settings.missing_share - settings.broken_share
    # A square place of side L holds at least (L - sqrt 2)^2 nodes of a lattice of pitch 1, however it is turned.
    width = float(np.sqrt(holes_of_patch.max() / intact)) + 2.0
    width_um = width * settings.hole_pitch_um
    patch_um, square_width_um = _places_in_square(square_of_patch, width_um)
    square_um = around_centre(grid_of_square, max(settings.square_pitch_um, square_width_um), tree_rng)

    angle_of_grid = lattice_rng.uniform(0.0, np.pi / 2, settings.grids)
    spread = np.deg2rad(settings.lattice_angle_sd_deg)
    angle = angle_of_grid[grid_of_square] + lattice_rng.normal(0.0, spread, settings.squares)
    parts = []
    for start in range(0, settings.patches, _PATCHES_AT_ONCE):
        chunk = slice(start, start + _PATCHES_AT_ONCE)
        turned = angle[square_of_patch[chunk]]
        nodes = _nodes_of(settings, patch_um[chunk], turned, holes_of_patch[chunk], width, lattice_rng)
        parts.append((*nodes[:3], nodes[3] + start, *nodes[4:]))
    ij, hole_um, missing_um, missing_patch, missing_what = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    stage_um = hole_um + square_um[square_of_patch[patch_of_hole]]
    missing_um = missing_um + square_um[square_of_patch[missing_patch]]
    return LatticeLayout(
        patch_of_hole=patch_of_hole,
        square_of_patch=square_of_patch,
        grid_of_square=grid_of_square,
        x_um=stage_um[:, 0].copy(),
        y_um=stage_um[:, 1].copy(),
        square_x_um=square_um[:, 0].copy(),
        square_y_um=square_um[:, 1].copy(),
        lattice_angle_rad=angle,
        lattice_ij=ij,
        missing=np.column_stack([missing_patch, missing_um, missing_what]).astype(np.float64),
    )


def _places_in_square(
    square_of_patch: NDArray[np.int32], width_um: float
) -> tuple[NDArray[np.float64], float]:
    """(P, 2) centres of patches about their square's centre, from the middle outwards; pitch the squares need."""
    most = int(np.bincount(square_of_patch).max())
    side = int(np.ceil(np.sqrt(most)))
    axis = np.arange(side) - (side - 1) / 2
    cells = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    cells = cells[np.argsort((cells**2).sum(axis=1), kind="stable")]
    places: NDArray[np.float64] = width_um * cells[rank_in_parent(square_of_patch)]
    return places, side * width_um * _ROOM_BETWEEN


def _nodes_of(
    settings: SceneSettings,
    patch_um: NDArray[np.float64],
    angle: NDArray[np.float64],
    wanted: NDArray[np.int64],
    width: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.generic], ...]:
    """Holes of these patches (ij, places from the square's centre), then nodes without one (places, patch, what).

    patch_um : (p, 2) from the square's centre     wanted : (p,) holes     width : of a patch's place, in pitches
    """
    reach = int(np.ceil(width / np.sqrt(2))) + 1
    axis = np.arange(-reach, reach + 1)
    window = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    along = np.stack(
        [np.cos(angle), np.sin(angle)], axis=-1
    )  # of i, in the stage frame; j is a quarter turn on
    across = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
    pitches = patch_um / settings.hole_pitch_um
    middle = np.rint(np.stack([(pitches * along).sum(-1), (pitches * across).sum(-1)], axis=-1)).astype(
        np.int32
    )
    ij = middle[:, None, :] + window.astype(np.int32)
    place = ij[..., :1] * along[:, None] + ij[..., 1:] * across[:, None]
    from_centre = np.abs(place - pitches[:, None]).max(axis=-1)
    inside = from_centre < width / 2

    draw = rng.random(inside.shape)
    torn = draw < settings.broken_share
    gone = ~torn & (draw < settings.broken_share + settings.missing_share)
    too_few = (inside & ~torn & ~gone).sum(axis=1) < wanted
    torn[too_few] = gone[too_few] = False

    order = np.argsort(np.where(inside & ~torn & ~gone, from_centre, np.inf), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[1])[None], axis=1)
    is_hole = rank < wanted[:, None]
    field = np.where(is_hole, from_centre, 0.0).max(axis=1) + 1.0
    is_missing = inside & (torn | gone) & (from_centre <= field[:, None])
    place_um = place * settings.hole_pitch_um
    patch = np.nonzero(is_missing)[0]
    return ij[is_hole], place_um[is_hole], place_um[is_missing], patch, torn[is_missing].astype(np.int64)
