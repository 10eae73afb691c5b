"""`cryoscout find-holes`: where the holes of square and patch images are, without a parameter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoscout.cli.output import console, print_json, progress, say
from cryoscout.core.errors import InputError

if TYPE_CHECKING:
    from cryoscout.perception.hole_finding import FoundHoles

OVERLAY_SUFFIX = "_holes.png"


def find_holes(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Square or patch images: MRC, TIFF, PNG or JPEG.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for a picture of each image with its holes.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace pictures of that name.")] = False,
    dark: Annotated[
        bool | None,
        typer.Option(
            "--dark-holes/--bright-holes",
            help="Whether holes are darker than the film around them. Default: what looks more like holes.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find the intact holes of images. Their size, spacing and direction are found as well.

    A hole is a row, a column (px from the upper left corner, where pixel centres are whole numbers) and a score
    from 0 to 1. Torn, missing and cut holes are left out.

    \b
    Example:
      cryoscout find-holes square.mrc
      cryoscout find-holes square1.mrc square2.tif --json
      cryoscout find-holes square.mrc -o pictures
    """
    from cryoscout.perception import hole_finding
    from cryoscout.perception.hole_overlay import write_overlay
    from cryoscout.perception.images import opened_image
    from cryoscout.perception.pixel_size import pixel_size_um

    pictures = _pictures(images, output, force)
    found: dict[str, FoundHoles] = {}
    sizes_um: dict[str, float | None] = {}
    with progress("finding holes", len(images)) as step:
        for path in images:
            with opened_image(path) as image:
                try:
                    found[str(path)] = hole_finding.find_holes(image, dark)
                except InputError as error:
                    raise InputError(f"{path}: {error}") from None
                sizes_um[str(path)] = pixel_size_um(path, image.shape[1])
                if pictures:
                    write_overlay(image, found[str(path)], pictures[path])
            step()
    for name, holes in found.items():
        if holes.lattice is None:
            say(f"{name}: no lattice of holes was found.")
        for line in _cautions(holes, sizes_um[name], dark):
            say(f"{name}: {line}")
    if as_json:
        print_json({name: _to_json(holes, sizes_um[name]) for name, holes in found.items()})
        return
    for name, holes in found.items():
        _print(name, holes, sizes_um[name])
    if pictures:
        say(f"Pictures: {output}")


def _pictures(images: list[Path], output: Path | None, force: bool) -> dict[Path, Path]:
    """Where the picture of each image goes; the folder is made."""
    if len(set(images)) < len(images):
        raise InputError("Images must be named once each. Got one twice instead. Remedy: leave it out.")
    if output is None:
        return {}
    places = {path: output / f"{path.stem}{OVERLAY_SUFFIX}" for path in images}
    if len(set(places.values())) < len(images):
        raise InputError(
            "Images must have different names where -o is given. Got two of one name instead. "
            "Remedy: give them one by one, with a folder each."
        )
    existing = [place for place in places.values() if place.exists()]
    if existing and not force:
        raise InputError(
            f"A picture must be a new file. Got {existing[0]}, which exists, instead. Remedy: add --force, or "
            "choose another folder."
        )
    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder for the pictures must be one that can be made. Got {output} ({error.strerror}) instead. "
            "Remedy: choose another."
        ) from None
    return places


def _cautions(found: FoundHoles, pixel_um: float | None, dark: bool | None) -> list[str]:
    """What to look at before the list is used."""
    from cryoscout.perception.pixel_size import SQUARES_FROM_UM

    cautions = []
    if found.holes and found.are_dark and dark is None:
        cautions.append(
            "the holes are darker than the film, as in an image of inverted contrast; --bright-holes looks for bright "
            "ones."
        )
    if found.lattice is not None and pixel_um is not None:
        spacing_um = found.lattice.spacing_px * pixel_um
        if spacing_um >= SQUARES_FROM_UM:
            cautions.append(
                f"the spacing is {spacing_um:.0f} um: these are the squares of a grid, not holes. "
                "Give the image of one square."
            )
    return cautions


def _to_json(found: FoundHoles, pixel_um: float | None) -> dict[str, Any]:
    spacing_px = None if found.lattice is None else found.lattice.spacing_px
    return {
        "diameter_px": None if found.diameter_px is None else round(found.diameter_px, 2),
        "spacing_um": None if spacing_px is None or pixel_um is None else round(spacing_px * pixel_um, 3),
        "dark": found.are_dark,
        "holes": [
            [round(hole.row_px, 2), round(hole.column_px, 2), round(hole.score, 4)] for hole in found.holes
        ],
    }


def _print(name: str, found: FoundHoles, pixel_um: float | None) -> None:
    if found.lattice is None or found.diameter_px is None:
        return

    def length(px: float) -> str:
        return f"{px:.1f} px" if pixel_um is None else f"{px:.1f} px ({px * pixel_um:.2f} um)"

    console().print(
        f"{name}: {len(found.holes)} {'dark ' if found.are_dark else ''}holes, diameter {length(found.diameter_px)}, "
        f"spacing {length(found.lattice.spacing_px)}, direction {found.lattice.angle_deg:.1f} deg"
    )
    console().print("row\tcolumn\tscore")
    for hole in found.holes:
        console().print(f"{hole.row_px:.1f}\t{hole.column_px:.1f}\t{hole.score:.2f}")
