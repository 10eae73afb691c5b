"""A simulated session's specimen: what is on the grids, with the truth about every hole.

Coarse to fine: grids, squares, patches, holes on a rotated lattice; the ice film; kinds of holes; the CTF
resolution of every exposure. Images are made from it in `images`, sessions in `session`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.simulate.lattice import LatticeLayout, lay_out_lattice
from cryoscout.simulate.layout import rank_in_parent
from cryoscout.simulate.physics import (
    Film,
    HoleKind,
    common_shift,
    contaminated_share,
    draw_ctf_angstrom,
    draw_film,
    draw_kinds,
    failed_share,
    hidden_sd,
    ice_thickness_nm,
    p_at_most,
    visible_ln_ctf,
    without_ice,
)
from cryoscout.simulate.scene_settings import SceneSettings
from cryoscout.simulate.visits import visit_times_s

__all__ = ["Film", "HoleKind", "Scene", "simulate_scene"]


@dataclass(frozen=True, eq=False)
class Scene:
    """A simulated session's specimen: what is on the grids. Holes sorted by grid, square, patch.

    Stage coordinates: um, x right, y up, origin at the centre of the hole's own grid. A lattice node (i, j) of a
    square lies at the square's centre + hole_pitch_um (i (cos a, sin a) + j (-sin a, cos a)), a its lattice angle.
    """

    settings: SceneSettings
    seed: int
    patch_of_hole: NDArray[np.int32]  # (n,) sorted
    square_of_patch: NDArray[np.int32]  # (P,) sorted
    grid_of_square: NDArray[np.int32]  # (S,) sorted
    x_um: NDArray[np.float64]  # (n,) stage
    y_um: NDArray[np.float64]  # (n,)
    square_x_um: NDArray[np.float64]  # (S,) centre, lattice node (0, 0)
    square_y_um: NDArray[np.float64]  # (S,)
    lattice_angle_rad: NDArray[np.float64]  # (S,)
    lattice_ij: NDArray[np.int32]  # (n, 2) node of the hole in its square's lattice
    missing: NDArray[
        np.float64
    ]  # (k, 4) patch, x_um, y_um, 0 no hole there or 1 torn film; in a patch image's field
    film: Film
    kind: NDArray[np.int8]  # (n,) HoleKind
    thickness_nm: NDArray[np.float64]  # (n,) ice at the hole's centre; 0 for EMPTY
    thickness_gradient: NDArray[np.float64]  # (n, 2) nm per um along x and y; 0 for EMPTY and DRY
    contamination: NDArray[np.float64]  # (n,) 0..1 share of the hole's area under contamination; 0 for EMPTY
    visible_ln_ctf: NDArray[np.float64]  # (n,) mean ln CTF (angstrom) given kind, thickness and contamination
    hidden_ln_ctf: NDArray[np.float64]  # (n,) what is added to it for this hole and no image shows
    p_failed: NDArray[np.float64]  # (n,) probability that the fit of one exposure fails
    ctf_max_res_angstrom: NDArray[np.float64]  # (n, shots) of every hole, imaged or not; inf: the fit fails
    exposed: NDArray[np.bool_]  # (n,) whether the session images the hole
    started_s: NDArray[
        np.float64
    ]  # (n, shots) seconds from the start, imaged holes in order; NaN: not imaged

    @property
    def n_holes(self) -> int:
        """Number of holes n."""
        return len(self.kind)

    @property
    def square_of_hole(self) -> NDArray[np.int32]:
        """(n,)."""
        return self.square_of_patch[self.patch_of_hole]

    @property
    def grid_of_hole(self) -> NDArray[np.int32]:
        """(n,)."""
        return self.grid_of_square[self.square_of_hole]

    def p_good(self, threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM) -> NDArray[np.float64]:
        """(n,) P(CTF <= threshold) of one exposure given all that is simulated about the hole, its hidden part too."""
        ln_ctf = self.visible_ln_ctf + self.hidden_ln_ctf
        return p_at_most(self.settings, ln_ctf, self.settings.exposure_sd, self.p_failed, threshold_angstrom)


def simulate_scene(settings: SceneSettings, seed: int) -> Scene:
    """Simulate one specimen and every exposure of it.

    seed : >= 0; the same seed gives the same scene. Each part (tree, lattice, film, kinds, ...) draws from its own
    generator, so that, say, another difficulty leaves the ice as it is.
    Cost: linear in holes, apart from the sort of each patch's few lattice nodes; memory, some (n,) arrays.
    Raises InputError when the seed is negative.
    """
    if seed < 0:
        raise InputError(f"The seed must be 0 or more. Got {seed} instead. Remedy: give another seed.")
    names = (
        "tree",
        "lattice",
        "film",
        "holes",
        "dirt",
        "kinds",
        "dry",
        "hidden",
        "exposures",
        "imaged",
        "times",
    )
    rngs = dict(zip(names, np.random.default_rng(seed).spawn(len(names)), strict=True))
    layout = lay_out_lattice(settings, rngs["tree"], rngs["lattice"])
    square_of_hole = layout.square_of_patch[layout.patch_of_hole]
    film = draw_film(settings, layout, rngs["film"])
    film_nm = film.thickness_nm(square_of_hole, layout.x_um, layout.y_um)
    film_nm += rngs["holes"].normal(0.0, settings.hole_thickness_sd_nm, settings.holes)
    contamination = contaminated_share(settings, layout, rngs["dirt"])
    kind = draw_kinds(settings, film_nm, contamination, square_of_hole, rngs["kinds"])
    thickness_nm = ice_thickness_nm(settings, kind, film_nm, rngs["dry"])
    gradient = film.gradient_nm_per_um(square_of_hole, layout.x_um, layout.y_um)
    gradient[without_ice(kind)] = 0.0
    contamination[kind == HoleKind.EMPTY] = 0.0
    visible = visible_ln_ctf(settings, kind, thickness_nm, contamination)
    sd = hidden_sd(settings, kind)
    p_failed = failed_share(settings, kind)
    if settings.share_good is not None:
        visible += common_shift(
            settings, visible, np.hypot(sd, settings.exposure_sd), p_failed, settings.share_good
        )
    hidden = rngs["hidden"].normal(0.0, 1.0, settings.holes) * sd
    exposed = _exposed(settings, layout.patch_of_hole, rngs["imaged"])
    return Scene(
        settings=settings,
        seed=seed,
        film=film,
        kind=kind,
        thickness_nm=thickness_nm,
        thickness_gradient=gradient,
        contamination=contamination,
        visible_ln_ctf=visible,
        hidden_ln_ctf=hidden,
        p_failed=p_failed,
        ctf_max_res_angstrom=draw_ctf_angstrom(settings, visible + hidden, p_failed, rngs["exposures"]),
        exposed=exposed,
        started_s=_started_s(settings, layout, exposed, rngs["times"]),
        **vars(layout),
    )


def _exposed(
    settings: SceneSettings, patch_of_hole: NDArray[np.int32], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """(n,) which holes the session images: the asked share of all, within as few patches as the settings say."""
    if settings.exposed_share == 1.0:
        return np.ones(settings.holes, dtype=bool)
    visited_first = rng.permutation(settings.patches)
    priority = rng.random(settings.holes)
    order = np.lexsort((priority, patch_of_hole))
    rank = np.empty(settings.holes, dtype=np.int64)
    rank[order] = rank_in_parent(patch_of_hole)
    of_patch = np.bincount(patch_of_hole)
    taken = np.maximum(1, np.rint(settings.exposed_share_of_patch * of_patch)).astype(np.int64)
    total = np.cumsum(taken[visited_first])
    visits = int(np.searchsorted(total, settings.exposed_share * settings.holes)) + 1
    is_visited = np.zeros(settings.patches, dtype=bool)
    is_visited[visited_first[:visits]] = True
    exposed: NDArray[np.bool_] = is_visited[patch_of_hole] & (rank < taken[patch_of_hole])
    return exposed


def _started_s(
    settings: SceneSettings, layout: LatticeLayout, exposed: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float64]:
    patch = layout.patch_of_hole[exposed]
    square = layout.square_of_patch[patch]
    started_s = np.full((settings.holes, settings.shots), np.nan)
    started_s[exposed] = visit_times_s(settings, layout.grid_of_square[square], square, patch, rng)
    return started_s
