"""Which part of the stage an image shows, and where in it the holes lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.scene import Scene

COARSE = 4
"""Pixels of the patch image per pixel of the coarse one that gives the scaling to 8 bits; the side is a multiple."""


@dataclass(frozen=True)
class Frame:
    """A square field: the row falls with stage y, the column grows with stage x, pixel centres are whole numbers."""

    centre_x_um: float
    centre_y_um: float
    side_px: int
    pixel_um: float

    @property
    def left_um(self) -> float:
        """Stage x of the first column's pixel centres."""
        return self.centre_x_um - (self.side_px - 1) / 2 * self.pixel_um

    @property
    def top_um(self) -> float:
        """Stage y of the first row's pixel centres."""
        return self.centre_y_um + (self.side_px - 1) / 2 * self.pixel_um

    @property
    def half_um(self) -> float:
        """Half of the field."""
        return self.side_px * self.pixel_um / 2

    def places_px(self, x_um: NDArray[np.float64], y_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 2) row, column of stage places (n,)."""
        return np.column_stack([(self.top_um - y_um) / self.pixel_um, (x_um - self.left_um) / self.pixel_um])

    def coarser(self, factor: int) -> Frame:
        """The same field in pixels larger by a factor of its side."""
        return Frame(self.centre_x_um, self.centre_y_um, self.side_px // factor, self.pixel_um * factor)


def holes_of_patch(scene: Scene, patch: int) -> slice:
    """The rows of a patch's holes in the scene; crops are in this order. Raises InputError for an unknown patch."""
    if not 0 <= patch < len(scene.square_of_patch):
        raise InputError(f"A patch must be 0 to {len(scene.square_of_patch) - 1}. Got {patch} instead.")
    first, last = np.searchsorted(scene.patch_of_hole, [patch, patch + 1])
    return slice(int(first), int(last))


def holes_of_square(scene: Scene, square: int) -> slice:
    """The rows of a square's holes in the scene. Raises InputError for an unknown square."""
    if not 0 <= square < len(scene.grid_of_square):
        raise InputError(f"A square must be 0 to {len(scene.grid_of_square) - 1}. Got {square} instead.")
    patches = np.searchsorted(scene.square_of_patch, [square, square + 1])
    first, last = np.searchsorted(scene.patch_of_hole, patches)
    return slice(int(first), int(last))


def patch_frame(scene: Scene, patch: int, settings: ImageSettings) -> Frame:
    """The field of a patch image, centred between the outermost holes. Raises InputError for an unknown patch."""
    holes = holes_of_patch(scene, patch)
    x_um, y_um = scene.x_um[holes], scene.y_um[holes]
    pixel_um = settings.pixel_nm / 1000
    width_um = max(float(np.ptp(x_um)), float(np.ptp(y_um))) + 2 * settings.patch_margin_um
    side_px = COARSE * int(np.ceil(max(settings.patch_side_px, width_um / pixel_um) / COARSE))
    return Frame(float(x_um.min() + x_um.max()) / 2, float(y_um.min() + y_um.max()) / 2, side_px, pixel_um)


def hole_centres_px(scene: Scene, patch: int, settings: ImageSettings) -> NDArray[np.float64]:
    """(m, 2) row, column of the patch's holes in its patch image; pixel centres are whole numbers."""
    holes = holes_of_patch(scene, patch)
    return patch_frame(scene, patch, settings).places_px(scene.x_um[holes], scene.y_um[holes])


def square_opening_um(scene: Scene, square: int, settings: ImageSettings) -> float:
    """Side of the square between the bars, as wide as its patches need."""
    holes = holes_of_square(scene, square)
    away_um = max(
        float(np.abs(scene.x_um[holes] - scene.square_x_um[square]).max()),
        float(np.abs(scene.y_um[holes] - scene.square_y_um[square]).max()),
    )
    return max(settings.square_opening_um, 2 * (away_um + settings.square_margin_um))


def square_frame(scene: Scene, square: int, settings: ImageSettings) -> Frame:
    """The field of a square image: the opening and a part of the bars. Raises InputError for an unknown square."""
    pixel_um = settings.square_pixel_nm / 1000
    width_um = square_opening_um(scene, square, settings) + 2 * settings.square_margin_um
    return Frame(
        float(scene.square_x_um[square]),
        float(scene.square_y_um[square]),
        int(np.ceil(width_um / pixel_um)),
        pixel_um,
    )


def square_centres_px(scene: Scene, square: int, settings: ImageSettings) -> NDArray[np.float64]:
    """(m, 2) row, column of the holes of the square's patches in its square image."""
    holes = holes_of_square(scene, square)
    return square_frame(scene, square, settings).places_px(scene.x_um[holes], scene.y_um[holes])
