"""`cryoscout find-holes`: where the holes of square and patch images are, without a parameter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoscout.cli.output import console, print_json, progress, say
from cryoscout.core.counting import counted
from cryoscout.core.errors import InputError

if TYPE_CHECKING:
    from cryoscout.formats.serialem.nav import NavFile
    from cryoscout.perception.hole_finding import FoundHoles
    from cryoscout.perception.images import Picture
    from cryoscout.perception.tiles import Tile

OVERLAY_SUFFIX = "_holes.png"
LISTS = (".csv", ".nav")
"""Endings of -o that mean a list of the holes."""


def find_holes(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Square or patch images: MRC, TIFF, PNG or JPEG.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="FOLDER for a picture of each image with its holes; FILE.csv or FILE.nav for a list to import.",
        ),
    ] = None,
    nav: Annotated[
        Path | None,
        typer.Option(help="Your navigator, of -o FILE.nav and for a montage's tiles; it is never written."),
    ] = None,
    map_label: Annotated[
        str | None,
        typer.Option("--map", help="Of --nav: label of the map that the image shows. Default: by its file."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace pictures or a list of that name.")] = False,
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
      cryoscout find-holes square.mrc -o holes.csv
    """
    from cryoscout.formats.serialem.nav import read_nav
    from cryoscout.perception import hole_finding
    from cryoscout.perception.hole_overlay import write_overlay
    from cryoscout.perception.images import opened_image
    from cryoscout.perception.pixel_size import pixel_size_um

    listed = output if output is not None and output.suffix.lower() in LISTS else None
    _check_list(listed, images, nav, map_label, force)
    pictures = _pictures(images, None if listed is not None else output, force)
    sizes: dict[str, tuple[int, int]] = {}
    found: dict[str, FoundHoles] = {}
    sizes_um: dict[str, float | None] = {}
    tiles: dict[str, tuple[Tile, ...] | None] = {}
    upward: dict[str, bool] = {}  # whether row 0 is the lowest one
    navigator = None if nav is None else read_nav(nav, permissive=True)
    with progress("finding holes", len(images)) as step:
        for path in images:
            with opened_image(path) as image:
                sizes[str(path)] = (image.shape[1], image.shape[0])
                upward[str(path)] = image.bottom_first
                tiles[str(path)] = _tiles_of(path, image, navigator, map_label)
                try:
                    found[str(path)] = hole_finding.find_holes(image, dark, tiles[str(path)])
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
        if holes.parts_with_holes < holes.parts:
            say(f"{name}: {_parts_in_words(holes, tiles[name])}")
    if listed is not None:
        _write_list(listed, found, sizes, upward, nav, map_label)
    if as_json:
        print_json(
            {name: _to_json(holes, sizes_um[name], tiles[name] is not None) for name, holes in found.items()}
        )
        return
    for name, holes in found.items():
        _print(name, holes, sizes_um[name])
    if pictures:
        say(f"Pictures: {output}")


def _tiles_of(
    path: Path, image: Picture, navigator: NavFile | None, map_label: str | None
) -> tuple[Tile, ...] | None:
    """The tiles of a montage, by what lies beside the picture or by the navigator; None where neither says them."""
    from cryoscout.formats.serialem.nav_points import map_named
    from cryoscout.perception.tiles import tiles_beside, tiles_of_map

    found = tiles_beside(path, image.shape, bottom_first=image.bottom_first)
    if found is None and navigator is not None:
        found = tiles_of_map(map_named(navigator, map_label, path), image.shape)
    return found


def _parts_in_words(found: FoundHoles, tiles: tuple[Tile, ...] | None) -> str:
    """In how much of the picture there are holes, and what to do about the rest."""
    remedy = (
        "Look at the others with -o FOLDER; where they have holes too, give them as pictures of their own."
    )
    share = f"holes in {found.parts_with_holes} of {found.parts}"
    if tiles is not None:
        return f"{share} tiles of the montage. {remedy}"
    return (
        f"{share} quarters of the picture; whether it is a montage, and of which tiles, no file beside it says (the "
        f".mdoc that SerialEM wrote). {remedy}"
    )


def _check_list(
    listed: Path | None, images: list[Path], nav: Path | None, map_label: str | None, force: bool
) -> None:
    """Raise InputError where options of a list do not go together, or the list exists."""
    from cryoscout.core.new_files import check_new_file

    is_nav = listed is not None and listed.suffix.lower() == ".nav"
    if map_label is not None and nav is None:
        raise InputError("--map must go with --nav FILE. Got none instead. Remedy: leave --map out.")
    if listed is None:
        return
    check_new_file(listed, force)
    if is_nav and (nav is None or len(images) != 1):
        got = "no --nav" if nav is None else f"{counted(len(images), 'images')}"
        raise InputError(
            f"A navigator with holes must be made of one image and your own navigator. Got {got} instead. "
            "Remedy: add --nav FILE, and give the images one by one; or use -o FILE.csv."
        )


def _write_list(
    listed: Path,
    found: dict[str, FoundHoles],
    sizes: dict[str, tuple[int, int]],
    upward: dict[str, bool],
    nav: Path | None,
    map_label: str | None,
) -> None:
    """The holes as a table or navigator that `import` reads."""
    import csv
    import io

    from cryoscout.core.new_files import write_whole

    if nav is None or listed.suffix.lower() != ".nav":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("hole", "square", "x_px", "y_px", "likeness"))
        for name, holes in found.items():
            stem = Path(name).stem
            for number, hole in enumerate(holes.holes, start=1):
                at = (f"{hole.column_px:.2f}", f"{hole.row_px:.2f}", f"{hole.score:.3f}")
                writer.writerow((f"{stem}_h{number}", stem, *at))
        write_whole(listed, text.getvalue())
        say(
            f"Wrote {listed}. Go on with: cryoscout import {listed} -o NAME.session, and --images FOLDER for pictures "
            "of its holes."
            if any(holes.holes for holes in found.values())
            else f"Wrote {listed}, in which there is no hole."
        )
        return
    from cryoscout.formats.serialem.nav import read_nav
    from cryoscout.formats.serialem.nav_points import map_named, write_points

    (name, holes), source = next(iter(found.items())), read_nav(nav, permissive=True)
    places = [(hole.row_px, hole.column_px) for hole in holes.holes]
    shown = map_named(source, map_label, Path(name))
    made = write_points(source, shown, places, sizes[name], listed, bottom_first=upward[name])
    say(
        f"Wrote {listed}: {len(made)} points on map {shown.label}, not marked Acquire. Go on with: cryoscout import "
        f"{listed} -o NAME.session, then plan --also-unchosen --export nav --nav {listed}."
        if made
        else f"Wrote {listed}, to which no point was added."
    )


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


def _to_json(found: FoundHoles, pixel_um: float | None, has_tiles: bool) -> dict[str, Any]:
    spacing_px = None if found.lattice is None else found.lattice.spacing_px
    return {
        "diameter_px": None if found.diameter_px is None else round(found.diameter_px, 2),
        "spacing_um": None if spacing_px is None or pixel_um is None else round(spacing_px * pixel_um, 3),
        "dark": found.are_dark,
        "tiles": found.parts if has_tiles else None,
        "parts": found.parts,
        "parts_with_holes": found.parts_with_holes,
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
