"""What an image can show of one square: what stands at every node of its lattice, the ice over the film, ice crystals.

All of it follows from the scene and the square's number, so that each patch of it can be seen alone, in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from cryoscout.core.errors import InputError
from cryoscout.simulate import optics
from cryoscout.simulate.frames import Frame, holes_of_square, square_opening_um
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.scene import HoleKind, Scene
from cryoscout.simulate.scene_settings import SceneSettings

_STREAM = 0x6C6F6F6B  # "look": keeps these random numbers apart from the scene's own
_DETERMINED_PITCHES = 1.6
"""So near to a hole of the scene, a node that the scene does not name holds a hole."""
_WIDEST_HOLE = 1.4  # pitch over the diameter; torn film is up to 1.37 times wider than the hole
_MOST_CRYSTALS = 48  # per hole
_LEAST_SHARE = 0.002  # contamination below is not drawn
_HIGHEST_NM = 500.0  # of a crystal; lower ones are as high as they are wide
_BAR_CORNER = 0.18  # radius of the corners of the opening over its half side


@dataclass(frozen=True, eq=False)
class Specimen:
    """One square. Tables are over lattice nodes; node (first + a, first + b) is entry (a, b). Places: stage, um."""

    kind: NDArray[np.int8]  # (ni, nj) HoleKind, optics.NO_HOLE or optics.TORN
    seed: NDArray[np.int64]  # (ni, nj) of the look of what stands there
    ice_nm: NDArray[np.float64]  # (ni, nj) in the hole
    slope: NDArray[np.float64]  # (ni, nj, 2) nm per um along x and y
    contamination: NDArray[np.float64]  # (ni, nj) share of the hole's area under crystals
    film_depth: NDArray[np.float64]  # (ni, nj) optical depth of the film and the ice over it
    node_x_um: NDArray[np.float64]  # (ni, nj)
    node_y_um: NDArray[np.float64]  # (ni, nj)
    is_target: NDArray[np.bool_]  # (ni, nj) a hole of the scene
    square: optics.Square
    opening_um: float  # side of the square between the bars

    def with_bars(self, settings: ImageSettings) -> optics.Square:
        """The square for an image in which the bars of the grid show."""
        half_um = self.opening_um / 2
        return self.square._replace(
            bar_half_um=half_um,
            bar_corner_um=_BAR_CORNER * half_um,
            bar_edge_um=settings.bar_edge_um,
            bar_ice_nm=settings.bar_ice_nm,
        )


def look_of_square(scene: Scene, square: int, settings: ImageSettings) -> ImageSettings:
    """The settings with this square's own film, rims and specks: factors, whose ln is cut at 2 either way."""
    if settings.square_spread == 0.0:
        return settings
    own = np.random.default_rng([scene.seed, _STREAM, square]).normal(0.0, settings.square_spread, 4)
    film, mottle, rim, specks = np.exp(np.clip(own, -2.0, 2.0) * [0.5, 1.0, 1.0, 1.0]).tolist()
    changed = {
        "film_optical_depth": settings.film_optical_depth * film,
        "film_mottle": settings.film_mottle * mottle,
        "rim_optical_depth": settings.rim_optical_depth * rim,
        "specks_per_um2": settings.specks_per_um2 * specks,
        "square_spread": 0.0,
    }
    return settings.model_copy(update=changed)


def specimen_of(scene: Scene, square: int, settings: ImageSettings) -> Specimen:
    """Everything there is to see of a square. Raises InputError for a square that the scene does not have."""
    holes = holes_of_square(scene, square)
    opening_um = square_opening_um(scene, square, settings)
    pitch_um = scene.settings.hole_pitch_um
    # To the corners of the opening and of the patch images, however the lattice is turned.
    reach = int(np.ceil((opening_um / 2 + settings.square_margin_um) * np.sqrt(2) / pitch_um)) + 2
    i, j = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1), indexing="ij")
    whole = _square(scene, square, settings, reach)
    cosine, sine = whole.cosine, whole.sine
    centre = np.array([whole.centre_x_um, whole.centre_y_um])
    x_um = centre[0] + pitch_um * (i * cosine - j * sine)
    y_um = centre[1] + pitch_um * (i * sine + j * cosine)
    everywhere = np.full(i.size, square, dtype=np.int32)
    film_nm = scene.film.thickness_nm(everywhere, x_um.ravel(), y_um.ravel()).reshape(i.shape)
    slope = scene.film.gradient_nm_per_um(everywhere, x_um.ravel(), y_um.ravel()).reshape(*i.shape, 2)

    at = scene.lattice_ij[holes, 0] + reach, scene.lattice_ij[holes, 1] + reach
    is_target = np.zeros(i.shape, dtype=bool)
    is_target[at] = True
    seed = _seeds(scene.seed, square, i, j)
    kind, ice_nm, contamination = _untargeted(scene.settings, film_nm, seed)
    far = ndimage.distance_transform_edt(~is_target) > _DETERMINED_PITCHES
    _tear(scene.settings, kind, seed, far)
    of_square = scene.square_of_patch[scene.missing[:, 0].astype(np.intp)] == square
    without = _node(scene.missing[of_square, 1:3] - centre, cosine, sine, pitch_um)
    is_torn = scene.missing[of_square, 3] > 0
    kind[without[0] + reach, without[1] + reach] = np.where(is_torn, optics.TORN, optics.NO_HOLE)
    kind[at], ice_nm[at] = scene.kind[holes], scene.thickness_nm[holes]
    slope[at], contamination[at] = scene.thickness_gradient[holes], scene.contamination[holes]
    contamination[kind == optics.NO_HOLE] = 0.0
    return Specimen(
        kind=kind,
        seed=seed,
        ice_nm=ice_nm,
        slope=slope,
        contamination=contamination,
        film_depth=_film_depth(settings, film_nm, seed),
        node_x_um=x_um,
        node_y_um=y_um,
        is_target=is_target,
        square=whole,
        opening_um=opening_um,
    )


def crystals_in_field(
    specimen: Specimen, settings: ImageSettings, frame: Frame, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(k, 6) ice crystals in an image's field: x, y, radius (um), angle, stretch, optical depth.

    Of each hole they cover the share that its `contamination` says, as nearly as whole crystals can; those on the film
    keep off the scene's holes, whose dirt is known.
    """
    near = np.abs(specimen.node_x_um - frame.centre_x_um) <= frame.half_um + 1.0
    near &= np.abs(specimen.node_y_um - frame.centre_y_um) <= frame.half_um + 1.0
    dirty = near & (specimen.contamination >= _LEAST_SHARE)
    places = np.column_stack([specimen.node_x_um[dirty], specimen.node_y_um[dirty]])
    radius_um = specimen.square.radius_um
    in_holes = _cover(
        places,
        specimen.contamination[dirty],
        specimen.seed[dirty],
        radius_um,
        settings.dirt_mean_free_path_nm,
    )
    mean_share = float(specimen.contamination[near].mean()) if near.any() else 0.0
    on_film = _scattered(settings, frame, settings.specks_per_um2 * (0.4 + 12.0 * mean_share), rng)
    return np.concatenate([in_holes, on_film[_free(specimen, on_film)]])


def _scattered(
    settings: ImageSettings, frame: Frame, per_um2: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(k, 6) crystals at random, in heaps of one to a few: mostly specks, now and then a large one."""
    heaps = rng.poisson(per_um2 * (2 * frame.half_um) ** 2)
    size = 1 + rng.poisson(rng.exponential(0.8, heaps))
    heap = np.repeat(np.arange(heaps), size)
    radius_um = 0.025 + (0.3 * rng.random(heaps) ** 4)[heap] * rng.uniform(0.3, 1.3, len(heap))
    middle_um = rng.uniform(-frame.half_um, frame.half_um, (heaps, 2))[heap]
    away_um = rng.normal(0.0, 1.0, (len(heap), 2)) * (2.2 * radius_um * (size[heap] > 1))[:, None]
    place_um = middle_um + away_um + [frame.centre_x_um, frame.centre_y_um]
    return np.column_stack(
        [
            place_um,
            radius_um,
            rng.uniform(0.0, np.pi, len(heap)),
            rng.uniform(1.0, 1.6, len(heap)),
            np.minimum(2000 * radius_um, _HIGHEST_NM) / settings.dirt_mean_free_path_nm,
        ]
    )


def _free(specimen: Specimen, crystals: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(k,) which crystals do not reach into a hole of the scene."""
    c = specimen.square
    x_um, y_um, radius_um, _, stretch, _ = crystals.T
    from_centre = np.column_stack([x_um - c.centre_x_um, y_um - c.centre_y_um])
    along, across = _node(from_centre, c.cosine, c.sine, c.pitch_um)
    last = len(specimen.kind) - 1
    at = np.clip(along + last // 2, 0, last), np.clip(across + last // 2, 0, last)
    away_um = np.hypot(x_um - specimen.node_x_um[at], y_um - specimen.node_y_um[at])
    free: NDArray[np.bool_] = away_um > c.radius_um + 1.2 * radius_um * stretch
    return free | ~specimen.is_target[at]


def _node(
    from_centre_um: NDArray[np.float64], cosine: float, sine: float, pitch_um: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The lattice nodes nearest to places (n, 2) from the square's centre."""
    x_um, y_um = from_centre_um.T
    along = np.rint((x_um * cosine + y_um * sine) / pitch_um)
    across = np.rint((y_um * cosine - x_um * sine) / pitch_um)
    return along.astype(np.intp), across.astype(np.intp)


def _square(scene: Scene, square: int, settings: ImageSettings, reach: int) -> optics.Square:
    """Of a square without bars. Raises InputError where torn holes would overlap."""
    diameter_um, pitch_um = scene.settings.hole_diameter_um, scene.settings.hole_pitch_um
    if diameter_um * _WIDEST_HOLE > pitch_um:
        raise InputError(
            f"hole_diameter_um must be at most hole_pitch_um / {_WIDEST_HOLE} = {pitch_um / _WIDEST_HOLE:.3f} for "
            f"images, so that torn holes stay apart. Got {diameter_um} instead."
        )
    angle = float(scene.lattice_angle_rad[square])
    return optics.Square(
        cosine=math.cos(angle),
        sine=math.sin(angle),
        pitch_um=pitch_um,
        radius_um=diameter_um / 2,
        centre_x_um=float(scene.square_x_um[square]),
        centre_y_um=float(scene.square_y_um[square]),
        first_i=float(-reach),
        first_j=float(-reach),
        ice_path_nm=settings.ice_mean_free_path_nm,
        meniscus=settings.meniscus,
        rim_depth=settings.rim_optical_depth,
        rim_um=settings.rim_width_nm / 1000,
        grain_um=settings.grain_um,
        grain_depth=settings.grain_contrast,
        bar_half_um=0.0,
        bar_corner_um=0.0,
        bar_edge_um=1.0,
        bar_ice_nm=0.0,
    )


def _film_depth(
    settings: ImageSettings, film_nm: NDArray[np.float64], seed: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(ni, nj) optical depth of the support film, uneven from node to node, with the ice over it."""
    ice = settings.film_ice_share * np.maximum(film_nm, 0.0) / settings.ice_mean_free_path_nm
    return np.maximum(settings.film_optical_depth + settings.film_mottle * _normals(seed, 21) + ice, 0.0)


def _untargeted(
    scene: SceneSettings, film_nm: NDArray[np.float64], seed: NDArray[np.int64]
) -> tuple[NDArray[np.int8], NDArray[np.float64], NDArray[np.float64]]:
    """What nodes hold that no patch targets: kind, ice and dirt, as the film and the settings of the scene have it."""
    kind = np.select(
        [film_nm < scene.empty_below_nm, film_nm < scene.dry_below_nm],
        [HoleKind.EMPTY, HoleKind.DRY],
        default=HoleKind.VITREOUS,
    ).astype(np.int8)
    ice_nm = np.select(
        [kind == HoleKind.EMPTY, kind == HoleKind.DRY],
        [0.0, scene.dry_thickness_nm],
        default=np.maximum(film_nm, scene.thinnest_nm),
    )
    spread = float(np.hypot(scene.contamination_hole_sd, scene.contamination_field_sd))
    dirt = expit(scene.contamination_logit + spread * _normals(seed, 23))
    return kind, ice_nm, np.where(kind == HoleKind.EMPTY, 0.0, dirt)


def _tear(
    scene: SceneSettings, kind: NDArray[np.int8], seed: NDArray[np.int64], allowed: NDArray[np.bool_]
) -> None:
    """Nodes with torn film or without a hole, by the shares of the scene, where these are allowed."""
    draw = _uniforms(seed, 20)
    kind[allowed & (draw < scene.broken_share)] = optics.TORN
    gone = (draw >= scene.broken_share) & (draw < scene.broken_share + scene.missing_share)
    kind[allowed & gone] = optics.NO_HOLE


def _seeds(seed: int, square: int, i: NDArray[np.intp], j: NDArray[np.intp]) -> NDArray[np.int64]:
    """(ni, nj) a seed of its own for each node, below 2^62."""
    # Numbers of 64 bits, so that the four parts do not meet in small ones.
    parts = np.random.SeedSequence([seed, square]).generate_state(2, np.uint64)
    with np.errstate(over="ignore"):
        mixed = parts[0] + i.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = mixed + parts[1] + j.astype(np.uint64) * np.uint64(0xA0761D6478BD642F)
        mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    seeds: NDArray[np.int64] = (mixed >> np.uint64(2)).astype(np.int64)
    return seeds


@njit(cache=True, nogil=True)
def _fill_uniforms(seeds: NDArray[np.int64], number: int, out: NDArray[np.float64]) -> None:
    for n in range(len(seeds)):
        out[n] = optics.uniform_of(seeds[n], number)


def _uniforms(seed: NDArray[np.int64], number: int) -> NDArray[np.float64]:
    out = np.empty(seed.size)
    _fill_uniforms(seed.ravel(), number, out)
    return out.reshape(seed.shape)


def _normals(seed: NDArray[np.int64], number: int) -> NDArray[np.float64]:
    """(ni, nj) standard normal, from two of each node's own uniforms (Box and Muller 1958)."""
    radius = np.sqrt(-2 * np.log1p(-_uniforms(seed, number)))
    normal: NDArray[np.float64] = radius * np.cos(2 * np.pi * _uniforms(seed, number + 1))
    return normal


@njit(cache=True, nogil=True)
def _cover(
    places: NDArray[np.float64],
    shares: NDArray[np.float64],
    seeds: NDArray[np.int64],
    radius_um: float,
    mean_free_path_nm: float,
) -> NDArray[np.float64]:
    """Crystals at random over each hole until they cover its share, counted on a raster of 25 x 25 points."""
    found = np.empty((len(places) * _MOST_CRYSTALS, 6))
    count = 0
    raster = 25
    covered = np.zeros((raster, raster), dtype=np.bool_)
    for n in range(len(places)):
        covered[:] = False
        total, under = 0, 0
        for a in range(raster):
            for b in range(raster):
                dx, dy = (2 * a / (raster - 1) - 1) * radius_um, (2 * b / (raster - 1) - 1) * radius_um
                if dx * dx + dy * dy <= radius_um * radius_um:
                    total += 1
                else:
                    covered[a, b] = True
        wanted = shares[n] * total
        for k in range(_MOST_CRYSTALS):
            if under + 0.5 >= wanted:
                break
            draw = 30 + 8 * k
            out = radius_um * np.sqrt(optics.uniform_of(seeds[n], draw))
            turn = 2 * np.pi * optics.uniform_of(seeds[n], draw + 1)
            x, y = out * np.cos(turn), out * np.sin(turn)
            stretch = 1.0 + 0.6 * optics.uniform_of(seeds[n], draw + 2)
            angle = np.pi * optics.uniform_of(seeds[n], draw + 3)
            size = optics.uniform_of(seeds[n], draw + 4)
            size = radius_um * (0.07 + 0.3 * size * size) * (1 + 1.5 * shares[n])
            # A crystal that would cover too much is made smaller.
            size = min(size, np.sqrt(1.1 * (wanted - under) / total / stretch) * radius_um)
            for a in range(raster):
                for b in range(raster):
                    dx, dy = (
                        (2 * a / (raster - 1) - 1) * radius_um - x,
                        (2 * b / (raster - 1) - 1) * radius_um - y,
                    )
                    if not covered[a, b] and optics.crystal_radius(dx, dy, size, angle, stretch) < 1:
                        covered[a, b] = True
                        under += 1
            found[count, 0], found[count, 1] = places[n, 0] + x, places[n, 1] + y
            found[count, 2], found[count, 3], found[count, 4] = size, angle, stretch
            found[count, 5] = min(2000 * size, _HIGHEST_NM) / mean_free_path_nm
            count += 1
    return found[:count].copy()
