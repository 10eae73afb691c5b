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

    pictures = _pictures(images, output, force)
    found: dict[str, FoundHoles] = {}
    with progress("finding holes", len(images)) as step:
        for path in images:
            with opened_image(path) as image:
                try:
                    found[str(path)] = hole_finding.find_holes(image)
                except InputError as error:
                    raise InputError(f"{path}: {error}") from None
                if pictures:
                    write_overlay(image, found[str(path)], pictures[path])
            step()
    for name, holes in found.items():
        if holes.lattice is None:
            say(f"{name}: no lattice of holes was found.")
    if as_json:
        print_json({name: _to_json(holes) for name, holes in found.items()})
        return
    for name, holes in found.items():
        _print(name, holes)
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


def _to_json(found: FoundHoles) -> dict[str, Any]:
    return {
        "diameter_px": None if found.diameter_px is None else round(found.diameter_px, 2),
        "holes": [
            [round(hole.row_px, 2), round(hole.column_px, 2), round(hole.score, 4)] for hole in found.holes
        ],
    }


def _print(name: str, found: FoundHoles) -> None:
    if found.lattice is None or found.diameter_px is None:
        return
    console().print(
        f"{name}: {len(found.holes)} holes, diameter {found.diameter_px:.1f} px, spacing "
        f"{found.lattice.spacing_px:.1f} px, direction {found.lattice.angle_deg:.1f} deg"
    )
    console().print("row\tcolumn\tscore")
    for hole in found.holes:
        console().print(f"{hole.row_px:.1f}\t{hole.column_px:.1f}\t{hole.score:.2f}")
