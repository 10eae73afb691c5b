"""How the microscope sees a simulated specimen: every number of optics and camera with unit, range and effect."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from cryoscout.core.grey_levels import BRIGHTEST_PERCENT, DARKEST_PERCENT
from cryoscout.core.settings import Settings

PixelNm = Annotated[float, Field(ge=1.0, le=1000.0)]
OpticalDepth = Annotated[float, Field(ge=0.0, le=5.0)]
SidePx = Annotated[int, Field(ge=16, le=8192)]
Dose = Annotated[float, Field(gt=0.0, le=1e6)]
BlurNm = Annotated[float, Field(ge=0.0, le=1000.0)]


class ImageSettings(Settings):
    """Optics, support film and camera. The defaults look like a 300 kV session on holey carbon, 2 um between holes."""

    ice_mean_free_path_nm: Annotated[float, Field(gt=10.0, le=5000.0)] = 350.0
    """Of scattering out of the image: I = I0 exp(-thickness / this). At 300 kV with an objective aperture 300 to 400
    nm; the inelastic mean free path alone is 395 nm (Rice et al. 2018). Smaller: thick ice is darker."""
    film_optical_depth: OpticalDepth = 0.15
    """ln(I0 / I) of the bare support film: about 20 nm of carbon."""
    film_mottle: OpticalDepth = 0.018
    """Standard deviation of the film's optical depth from place to place, over a hole's pitch."""
    film_ice_share: Annotated[float, Field(ge=0.0, le=2.0)] = 1.0
    """Ice over the film for each nm in the holes around. At 1 the contrast of holes against the film says nothing about
    how thick all the ice is, so that only the level within the patch image is left; below 1 it does."""
    meniscus: Annotated[float, Field(ge=0.0, le=0.75)] = 0.15
    """Ice grows towards the rim by this share of the mean, with the fourth power of the radius; the mean stays."""
    rim_optical_depth: OpticalDepth = 0.16
    """Of the dark line around a hole (edge of the film and Fresnel fringe); half as bright just inside."""
    rim_width_nm: Annotated[float, Field(gt=0.0, le=500.0)] = 22.0

    grain_um: Annotated[float, Field(gt=0.01, le=2.0)] = 0.16
    """Size of the grains of crystalline ice."""
    grain_contrast: OpticalDepth = 0.32
    """Largest darkening of a grain by diffraction; grains are drawn between a third of this brighter and this."""
    dirt_mean_free_path_nm: Annotated[float, Field(gt=10.0, le=5000.0)] = 280.0
    """Of ice crystals on the surface, which also diffract: they are darker than the glassy ice of the same height."""
    specks_per_um2: Annotated[float, Field(ge=0.0, le=10.0)] = 0.04
    """Ice crystals on the film, outside of the holes that the scene knows; dirty patches have more."""

    square_spread: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """How differently squares look that say nothing of their ice: standard deviation between squares of ln of the
    film's mottle, of the rims and of the specks, and of half of that for the film's optical depth."""

    pixel_nm: PixelNm = 10.5
    """Of a patch image: holes 2 um apart lie 190 px apart, as in Y1."""
    patch_side_px: SidePx = 1024
    """Least side of a patch image; a wider patch gets a larger one."""
    patch_margin_um: Annotated[float, Field(ge=0.1, le=50.0)] = 0.95
    """From the outermost hole centres to the border of the image, at least half a crop and the aim error."""
    dose_e_per_px: Dose = 60.0
    """Electrons per pixel without specimen; fewer: more noise."""
    uneven_illumination: OpticalDepth = 0.0
    """How far the beam's brightness departs from one patch image to another: standard deviation of ln of it at the
    border against the middle, along each axis; of its fall to all sides, half of it."""
    defocus_blur_nm: BlurNm = 16.0
    """Standard deviation of the blur by defocus, before the noise."""
    mtf_blur_px: Annotated[float, Field(ge=0.0, le=0.7)] = 0.5
    """Standard deviation of the detector's spread (its MTF), after the noise; it makes noise of neighbours alike."""
    readout_e: Annotated[float, Field(ge=0.0, le=1000.0)] = 0.5
    """Standard deviation of the readout noise, in electrons."""
    gain_counts_per_e: Annotated[float, Field(gt=0.0, le=1e4)] = 20.0
    """Counts in an MRC file per electron; the 8 bits do not depend on it."""
    darkest_percent: Annotated[float, Field(ge=0.0, lt=50.0)] = DARKEST_PERCENT
    """Pixels of an image at most this bright become 0, those of `brightest_percent` and above 255. One scaling for the
    whole patch image, so that holes stay comparable within it, and only there."""
    brightest_percent: Annotated[float, Field(gt=50.0, le=100.0)] = BRIGHTEST_PERCENT

    crop_full_px: SidePx = 150
    """Side of the square cut out around a hole, in pixels of the patch image."""
    aim_error_um: Annotated[float, Field(ge=0.0, le=1.0)] = 0.03
    """Standard deviation along x and y of where a crop is centred against the hole."""

    square_pixel_nm: PixelNm = 80.0
    square_opening_um: Annotated[float, Field(gt=1.0, le=500.0)] = 58.0
    """Between the bars of the grid; wider where the patches of a square need it."""
    square_margin_um: Annotated[float, Field(ge=0.5, le=50.0)] = 4.0
    """From the outermost hole centres to the bars, at least; as much of the bars is shown."""
    square_dose_e_per_px: Dose = 500.0
    square_defocus_blur_nm: BlurNm = 60.0
    bar_edge_um: Annotated[float, Field(gt=0.0, le=20.0)] = 0.7
    """Over which the brightness falls at a bar, which lies out of focus."""
    bar_ice_nm: Annotated[float, Field(ge=0.0, le=5000.0)] = 130.0
    """More ice at a bar than in the middle of the square; it falls to 1/e within 3 um. In square images alone."""

    @model_validator(mode="after")
    def _crops_lie_in_the_image(self) -> Self:
        needed_um = self.crop_full_px * self.pixel_nm / 2000 + self.largest_aim_error_um
        if self.patch_margin_um < needed_um:
            raise ValueError(
                f"patch_margin_um must be at least {needed_um:.3f}, half a crop and the largest aim error. "
                f"Got {self.patch_margin_um} instead."
            )
        return self

    @property
    def largest_aim_error_um(self) -> float:
        """Aim errors are cut here: two standard deviations."""
        return 2 * self.aim_error_um
