"""Images of a simulated specimen: patch images, hole crops cut from them, square images.

A patch image is Beer and Lambert's law through ice and film, I = I0 exp(-thickness / mean free path) (Rice et al. 2018,
J. Struct. Biol. 204:38), blurred by defocus, with shot noise, spread by the detector, and scaled to 8 bits as a whole.

Crops are not cut from a full image but made at their own size: the same specimen seen at larger pixels, the noise that
averaging over them leaves, and the scaling that the patch image would get.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.grey_levels import to_8_bit
from cryoscout.simulate import camera, optics
from cryoscout.simulate.frames import (
    COARSE,
    Frame,
    hole_centres_px,
    patch_frame,
    square_centres_px,
    square_frame,
)
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.scene import Scene
from cryoscout.simulate.specimen import Specimen, crystals_in_field, look_of_square, specimen_of

CROP_PX = 64
"""Default side of a crop; 150 px of the patch image, averaged."""
SMALLEST_CROP_PX = 16
_STREAM = 0x696D6167  # "imag": keeps these random numbers apart from the scene's own
_PATCH, _SQUARE = 0, 1
_AHEAD = 4  # patches that are made before they are asked for


def patch_image(
    scene: Scene, patch: int, settings: ImageSettings
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A patch image at full size, 8 bits, and its hole centres (m, 2): row, column. Raises InputError."""
    image = _scaled(patch_counts(scene, patch, settings), settings)
    return image, hole_centres_px(scene, patch, settings)


def patch_counts(scene: Scene, patch: int, settings: ImageSettings) -> NDArray[np.float32]:
    """(h, w) the counts that the camera gives for a patch image, before any scaling. Raises InputError."""
    view = _View.of_patch(scene, patch, settings)
    taps = camera.spread_taps(settings.mtf_blur_px)
    electrons = camera.detected(
        view.whole(view.frame), settings.dose_e_per_px, settings.readout_e, taps, view.noise_rng
    )
    return _counts(electrons, settings)


def square_image(
    scene: Scene, square: int, settings: ImageSettings
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A square image between the bars of the grid, 8 bits, and the centres (m, 2) of its patches' holes: row, column.

    Nodes between the patches show what the scene's ice has there. Raises InputError.
    """
    image = _scaled(square_counts(scene, square, settings), settings)
    return image, square_centres_px(scene, square, settings)


def square_counts(scene: Scene, square: int, settings: ImageSettings) -> NDArray[np.float32]:
    """(h, w) the counts that the camera gives for a square image. Raises InputError."""
    view = _View.of_square(scene, square, settings)
    taps = camera.spread_taps(settings.mtf_blur_px)
    electrons = camera.detected(
        view.whole(view.frame), settings.square_dose_e_per_px, settings.readout_e, taps, view.noise_rng
    )
    return _counts(electrons, settings)


def hole_crops(
    scene: Scene, patch: int, settings: ImageSettings, crop_px: int = CROP_PX
) -> NDArray[np.uint8]:
    """(m, crop_px, crop_px) a crop of every hole of a patch, in the scene's order.

    crop_px : SMALLEST_CROP_PX to settings.crop_full_px     Raises InputError.
    """
    check_crop_px(crop_px, settings)
    view = _View.of_patch(scene, patch, settings)
    scale = settings.crop_full_px / crop_px
    # The centre of a crop's first pixel lies half a crop pixel in from the border of the first full one.
    first = _crop_corners_px(view, scene, patch).astype(np.float64) + (scale - 1) / 2
    transmitted = view.transmitted(
        view.frame.left_um + first[:, 1] * view.frame.pixel_um,
        view.frame.top_um - first[:, 0] * view.frame.pixel_um,
        view.frame.pixel_um * scale,
        crop_px,
    )
    electrons = camera.detected(
        transmitted,
        settings.dose_e_per_px * scale**2,
        settings.readout_e * scale,
        camera.spread_taps(settings.mtf_blur_px, settings.crop_full_px, crop_px),
        view.noise_rng,
    )
    dark, bright = camera.expected_limits_e(view.whole(view.frame.coarser(COARSE)), settings)
    return camera.averaged_8_bit(electrons / np.float32(scale**2), dark, bright, settings, crop_px)


def check_crop_px(crop_px: int, settings: ImageSettings) -> None:
    """Raise InputError where crops cannot have that side."""
    if not SMALLEST_CROP_PX <= crop_px <= settings.crop_full_px:
        raise InputError(
            f"The side of a crop must be {SMALLEST_CROP_PX} to {settings.crop_full_px} px, which is what is cut out "
            f"of the patch image. Got {crop_px} instead."
        )


def crops_in_order(
    scene: Scene, patch_ids: Sequence[str], settings: ImageSettings, crop_px: int = CROP_PX, workers: int = 2
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Patch id and crops of each patch; only a few patches are in memory at a time.

    patch_ids : (P,) in the scene's order     workers : threads that make the next ones meanwhile, >= 1; what comes
    out does not depend on it
    Raises InputError, before the first.
    """
    check_crop_px(crop_px, settings)
    if len(patch_ids) != len(scene.square_of_patch) or workers < 1:
        raise InputError(
            f"There must be an id for each of {len(scene.square_of_patch)} patches and at least 1 worker. "
            f"Got {len(patch_ids)} and {workers} instead."
        )
    return _made_ahead(scene, patch_ids, settings, crop_px, workers)


def _made_ahead(
    scene: Scene, patch_ids: Sequence[str], settings: ImageSettings, crop_px: int, workers: int
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    waiting: deque[tuple[str, Future[NDArray[np.uint8]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for patch, patch_id in enumerate(patch_ids):
            waiting.append((patch_id, pool.submit(hole_crops, scene, patch, settings, crop_px)))
            if len(waiting) > _AHEAD:
                done_id, crops = waiting.popleft()
                yield done_id, crops.result()
        for done_id, crops in waiting:
            yield done_id, crops.result()


@dataclass(frozen=True)
class _Beam:
    """Uneven illumination of a patch image: ln of its brightness is a slope and a fall to all sides of a middle."""

    slope: tuple[float, float]
    fall: float
    middle: tuple[float, float]

    @classmethod
    def drawn(cls, spread: float, rng: np.random.Generator) -> _Beam:
        """spread : of `ImageSettings.uneven_illumination`"""
        slope, fall, middle = rng.normal(0.0, spread, 2), rng.normal(0.0, spread / 2), rng.normal(0.0, 0.4, 2)
        return cls((slope[0], slope[1]), abs(fall), (middle[0], middle[1]))

    def brightness(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
        """(rows, columns) at columns x and rows y, in half sides from the middle of the patch image."""
        along_x, along_y = (
            np.exp(slope * at - self.fall * (at - middle) ** 2)
            for slope, middle, at in zip(self.slope, self.middle, (x, y), strict=True)
        )
        return np.outer(along_y, along_x).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _View:
    """What the microscope looks at: a frame, the specimen, its crystals; and the generators of this image alone."""

    settings: ImageSettings
    frame: Frame
    specimen: Specimen
    square: optics.Square
    crystals: NDArray[np.float64]
    blur_nm: float
    beam: _Beam | None
    aim_rng: np.random.Generator
    noise_rng: np.random.Generator

    @classmethod
    def of_patch(cls, scene: Scene, patch: int, settings: ImageSettings) -> _View:
        frame = patch_frame(scene, patch, settings)
        settings = look_of_square(scene, int(scene.square_of_patch[patch]), settings)
        specimen = _specimen(scene, int(scene.square_of_patch[patch]), settings)
        # Split by purpose, so that crops and patch image have the same dirt and the same aim.
        dirt_rng, aim_rng, noise_rng, beam_rng = _rngs(scene.seed, _PATCH, patch)
        crystals = crystals_in_field(specimen, settings, frame, dirt_rng)
        return cls(
            settings,
            frame,
            specimen,
            specimen.square,
            crystals,
            settings.defocus_blur_nm,
            _Beam.drawn(settings.uneven_illumination, beam_rng) if settings.uneven_illumination else None,
            aim_rng,
            noise_rng,
        )

    @classmethod
    def of_square(cls, scene: Scene, square: int, settings: ImageSettings) -> _View:
        frame = square_frame(scene, square, settings)
        settings = look_of_square(scene, square, settings)
        specimen = _specimen(scene, square, settings)
        dirt_rng, aim_rng, noise_rng, _ = _rngs(scene.seed, _SQUARE, square)
        crystals = crystals_in_field(specimen, settings, frame, dirt_rng)
        return cls(
            settings,
            frame,
            specimen,
            specimen.with_bars(settings),
            crystals,
            settings.square_defocus_blur_nm,
            None,
            aim_rng,
            noise_rng,
        )

    def whole(self, frame: Frame) -> NDArray[np.float32]:
        """(1, side + 2, side + 2) transmission in a frame, with the border that the detector's spread takes."""
        return self.transmitted(
            np.array([frame.left_um]), np.array([frame.top_um]), frame.pixel_um, frame.side_px
        )

    def transmitted(
        self, left_um: NDArray[np.float64], top_um: NDArray[np.float64], pixel_um: float, side_px: int
    ) -> NDArray[np.float32]:
        """(m, side + 2, side + 2) transmission after the defocus, of images whose first pixel lies at left, top."""
        taps = camera.gaussian_taps(self.blur_nm / 1000 / pixel_um)
        border = len(taps) // 2 + 1
        images = np.empty((len(left_um), side_px + 2 * border, side_px + 2 * border), dtype=np.float32)
        optics.transmitted(
            left_um - border * pixel_um,
            top_um + border * pixel_um,
            pixel_um,
            images,
            self.crystals,
            self.square,
            self.specimen.kind,
            self.specimen.seed,
            self.specimen.ice_nm,
            self.specimen.slope,
            self.specimen.film_depth,
        )
        if self.beam is not None:
            for image, left, top in zip(images, left_um, top_um, strict=True):
                steps_um = pixel_um * (np.arange(len(image)) - border)
                image *= self.beam.brightness(
                    (left + steps_um - self.frame.centre_x_um) / self.frame.half_um,
                    (top - steps_um - self.frame.centre_y_um) / self.frame.half_um,
                )
        if len(taps) == 1:
            return images
        blurred: NDArray[np.float32] = camera.blurred(images, taps)
        return blurred


def _crop_corners_px(view: _View, scene: Scene, patch: int) -> NDArray[np.int64]:
    """(m, 2) row, column of each crop's first pixel in the patch image; the aim error is in it."""
    settings = view.settings
    centres = hole_centres_px(scene, patch, settings)
    error_um = view.aim_rng.normal(0.0, settings.aim_error_um, centres.shape)
    error_um = np.clip(error_um, -settings.largest_aim_error_um, settings.largest_aim_error_um)
    corners = np.rint(centres + error_um / view.frame.pixel_um - (settings.crop_full_px - 1) / 2)
    return corners.astype(np.int64)


def _scaled(counts: NDArray[np.float32], settings: ImageSettings) -> NDArray[np.uint8]:
    return to_8_bit(counts, settings.darkest_percent, settings.brightest_percent)


def _counts(electrons: NDArray[np.float32], settings: ImageSettings) -> NDArray[np.float32]:
    counts: NDArray[np.float32] = electrons[0] * np.float32(settings.gain_counts_per_e)
    return counts


def _rngs(seed: int, what: int, number: int) -> list[np.random.Generator]:
    """One generator per image, split in four: dirt, aim, noise, beam."""
    return np.random.default_rng([seed, _STREAM, what, number]).spawn(4)


@lru_cache(maxsize=4)
def _specimen(scene: Scene, square: int, settings: ImageSettings) -> Specimen:
    """The specimens last used, because patches of a square follow each other. A scene is compared by identity."""
    return specimen_of(scene, square, settings)
