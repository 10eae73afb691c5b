"""What a simulated specimen is like: every physical number with unit, range and effect."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from cryoscout.simulate.settings import Count, Length, Spread, VisitSettings

Thickness = Annotated[float, Field(gt=0.0, le=1000.0)]
ThicknessSd = Annotated[float, Field(ge=0.0, le=500.0)]
Angstrom = Annotated[float, Field(gt=0.0, le=100.0)]
Logarithm = Annotated[float, Field(ge=0.0, le=10.0)]
Logit = Annotated[float, Field(ge=-20.0, le=20.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class SceneSettings(VisitSettings):
    """One kind of specimen: counts, ice, kinds of holes, CTF. All counts are exact."""

    holes: Count = 3538
    patches: Count = 173
    squares: Count = 25
    grids: Count = 16
    holes_per_patch_spread: Spread = 0.16
    """Standard deviation over mean of the holes of a patch; 0 shares them out evenly."""
    patches_per_square_spread: Spread = 0.38
    squares_per_grid_spread: Spread = 0.4
    exposed_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of holes that are imaged; below 1, whole patches stay unvisited."""
    exposed_share_of_patch: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the holes of a visited patch that are imaged; at least `exposed_share`."""

    hole_pitch_um: Length = 2.0
    """Between neighbouring holes of the lattice."""
    hole_diameter_um: Length = 1.2
    square_pitch_um: Length = 85.0
    """Between neighbouring squares (85 um: 300 mesh); widened where patches need more room."""
    lattice_angle_sd_deg: Annotated[float, Field(ge=0.0, le=45.0)] = 1.0
    """Of the lattice of a square about that of its grid; a grid's own is anything."""
    missing_share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.01
    """Share of lattice nodes without a hole."""
    broken_share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.02
    """Share of lattice nodes where the support film is torn; they are never targets."""

    samples: Count = 1
    """Kinds of samples; consecutive grids carry the same one."""
    sample_thickness_sd_nm: ThicknessSd = 0.0
    """Between the mean ice thicknesses of samples."""
    thickness_nm: Thickness = 40.0
    """Mean of the ice film. Where the film comes out below `dry_below_nm`, holes are dry or empty."""
    grid_thickness_sd_nm: ThicknessSd = 8.0
    square_thickness_sd_nm: ThicknessSd = 8.0
    square_gradient_sd_nm_per_um: Annotated[float, Field(ge=0.0, le=50.0)] = 0.2
    """Of each component of a square's slope."""
    field_thickness_sd_nm: ThicknessSd = 12.0
    """Of the smooth field over the stage: neighbouring holes and patches resemble."""
    field_length_um: Length = 15.0
    """Distance over which the field's correlation falls to exp(-1/2)."""
    hole_thickness_sd_nm: ThicknessSd = 3.0
    """Between holes beside each other."""
    thinnest_nm: Thickness = 8.0
    """Ice that holds across a hole is no thinner."""

    empty_below_nm: Annotated[float, Field(ge=-1000.0, le=1000.0)] = 5.0
    """Where the film comes out below, the hole holds nothing."""
    dry_below_nm: Annotated[float, Field(ge=-1000.0, le=1000.0)] = 14.0
    """Where the film comes out below, it has dried to almost nothing. At least `empty_below_nm`."""
    film_noise_nm: ThicknessSd = 2.0
    """Scale of the logistic noise on the film when a hole dries: how strictly its neighbourhood decides."""
    dry_thickness_nm: Thickness = 4.0
    """Mean of what is left in a dry hole; uniform from half to one and a half of it."""
    crystalline_logit: Logit = -3.0
    """Of the share of crystalline holes among those with ice, in the median square."""
    crystalline_square_sd: Annotated[float, Field(ge=0.0, le=20.0)] = 1.5
    """Between squares, on the logit: crystalline ice comes in whole squares."""
    contamination_logit: Logit = -4.0
    """Of the share of a hole's area under contamination, in the median hole."""
    contamination_field_sd: Annotated[float, Field(ge=0.0, le=20.0)] = 1.0
    """Of the smooth field of contamination over the stage, on the logit."""
    contamination_field_length_um: Length = 20.0
    contamination_hole_sd: Annotated[float, Field(ge=0.0, le=20.0)] = 0.7
    contaminated_above: Probability = 0.15
    """A hole is called contaminated when more of its area is under contamination."""

    share_good: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Expected share of exposures of at most 6 angstrom in every scene: the same shift of ln CTF is given to all its
    holes, as another sample or alignment would. None: no shift, and scenes differ in their share."""
    best_ctf_angstrom: Angstrom = 3.6
    """Median CTF resolution of clean vitreous ice of the best thickness."""
    best_thickness_nm: Thickness = 30.0
    thick_loss: Logarithm = 0.15
    """Added to ln CTF where the ice is twice the best thickness; grows with the square of the excess."""
    thin_loss: Logarithm = 0.3
    """The same towards no ice at all."""
    crystalline_loss: Logarithm = 0.8
    """Added to ln CTF by crystalline ice."""
    contamination_loss: Logarithm = 2.5
    """Added to ln CTF by a hole covered entirely; proportional to the share."""
    dry_ctf_angstrom: Angstrom = 8.5
    """Median CTF resolution of dry holes."""
    empty_ctf_angstrom: Angstrom = 9.5
    """Median CTF resolution that a fit gives for a hole without ice."""
    no_ice_sd: Logarithm = 0.25
    """Spread of ln CTF between dry or empty holes, beside `difficulty`."""
    difficulty: Logarithm = 0.2
    """Standard deviation of ln CTF between holes that no image can tell apart: the difficulty of prediction."""
    exposure_sd: Logarithm = 0.08
    """Standard deviation of ln CTF between exposures of one hole."""
    failed_share: Probability = 0.005
    """Share of exposures of holes with ice whose CTF fit fails."""
    failed_share_no_ice: Probability = 0.03
    """The same for dry and empty holes."""
    finest_angstrom: Angstrom = 2.0
    """No fit is finer (the detector's Nyquist limit)."""
    coarsest_angstrom: Angstrom = 30.0
    """A fit that comes out coarser fails (end of the fitted range)."""

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        counts = ("holes", "patches", "squares", "grids", "samples")
        for few, many in zip(counts[1:], counts[:-1], strict=True):
            if getattr(self, few) > getattr(self, many):
                raise ValueError(
                    f"{few} must be at most {many} = {getattr(self, many)}. Got {getattr(self, few)} instead."
                )
        for low, high in (
            ("empty_below_nm", "dry_below_nm"),
            ("finest_angstrom", "coarsest_angstrom"),
            ("exposed_share", "exposed_share_of_patch"),
            ("hole_diameter_um", "hole_pitch_um"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} must be at most {high} = {getattr(self, high)}. Got {getattr(self, low)} instead."
                )
        if self.missing_share + self.broken_share > 0.5:
            raise ValueError(
                "missing_share and broken_share must be at most 0.5 together. "
                f"Got {self.missing_share + self.broken_share:.3g} instead."
            )
        return self

    def with_holes(self, holes: int) -> Self:
        """The same kind of specimen with another number of holes; the other counts in proportion, at least 1."""
        scale = holes / self.holes
        counts = {name: getattr(self, name) for name in ("patches", "squares", "grids", "samples")}
        counts = {name: min(holes, max(1, round(count * scale))) for name, count in counts.items()}
        return type(self).model_validate({**self.model_dump(), **counts, "holes": holes})
