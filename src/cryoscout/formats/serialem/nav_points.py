"""Holes found on a map as new points of a navigator: a copy of the operator's own, with one item for each hole.

An item gives its place as CoordsInMap, px of the map's image, which SerialEM turns into a stage position when it loads
the file. Source: SerialEM's about_formats.htm, "Pixel coordinates are in a right-handed system", (0, 0) in the lower
left corner; the form of the items is that of a real file (semmatch_newNav.nav of the tests).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cryoscout.core.errors import InputError
from cryoscout.core.new_files import write_whole
from cryoscout.formats.serialem.nav import ITEM, NavFile, NavItem
from cryoscout.formats.serialem.nav_writer import FIRST_MADE_ID


def map_named(source: NavFile, named: str | None, image: Path) -> NavItem:
    """The map that an image shows: the one named, else the one whose file has the image's name, else the only one.

    Raises InputError, naming the maps, where there is none or several.
    """
    maps = source.maps
    listed = ", ".join(item.label for item in maps[:10]) or "none"
    if named is not None:
        found = [item for item in maps if named in (item.label, item.id)]
    else:
        names = (image.name.lower(), image.stem.lower())
        found = [
            item for item in maps if {item.map_file.lower(), Path(item.map_file.lower()).stem} & set(names)
        ]
        found = found or (maps if len(maps) == 1 else [])
    if len(found) != 1:
        raise InputError(
            f"The map that {image.name} shows must be one of {source.path.name}: {listed}. Got "
            f"{repr(named) if named is not None else 'no name'}, which fits {len(found)}, instead. "
            "Remedy: name its label with --map LABEL."
        )
    return found[0]


def write_points(
    source: NavFile,
    map_item: NavItem,
    places_px: Sequence[tuple[float, float]],
    image_size_px: tuple[int, int],
    path: Path,
    *,
    bottom_first: bool,
) -> tuple[str, ...]:
    """Write the navigator with a point for each place; the labels of the new points, in order.

    places_px : (row, column) on the image, pixel centres whole     image_size_px : width, height
    bottom_first : whether row 0 is the lowest row, as in an MRC file, else the top row, as in a PNG or JPEG
    The points share a group and are not marked Acquire. Raises InputError for an XML navigator.
    """
    document = source.document
    if document.from_xml:
        raise InputError(
            f"Points must be added to a navigator in autodoc form. Got {source.path.name}, which is XML, instead. "
            "Remedy: save it in SerialEM as .nav."
        )
    items = document.of_kind(ITEM)
    taken = {section.get(key) for section in items for key in ("MapID", "GroupID", "DrawnID")}
    labels = {section.name for section in items}
    width, height = image_size_px
    scale_x, scale_y = 1.0, 1.0
    if map_item.size_px is not None:
        scale_x, scale_y = map_item.size_px[0] / width, map_item.size_px[1] / height
    next_id = _numbers(taken)
    group = next(next_id)
    made, parts = [], []
    for number, (row, column) in enumerate(places_px, start=1):
        label = f"{map_item.label}-h{number}"
        while label in labels:
            label += "a"
        labels.add(label)
        made.append(label)
        x = (column + 0.5) * scale_x
        y = ((row + 0.5) if bottom_first else (height - row - 0.5)) * scale_y
        at = f"{x:.2f} {y:.2f}"
        parts += [
            "",
            f"[{ITEM} = {label}]",
            "Color = 0",
            "NumPts = 1",
            f"Regis = {map_item.regis}",
            "Type = 0",
            f"PtsX = {x:.2f}",
            f"PtsY = {y:.2f}",
            f"DrawnID = {map_item.map_id}",
            f"GroupID = {group}",
            f"MapID = {next(next_id)}",
            f"CoordsInMap = {at} {map_item.stage_um[2]:g}",
        ]
    end = document.line_end
    data = document.to_bytes()
    start = b"" if data.endswith((b"\n", b"\r")) else end.encode()
    write_whole(path, data + start + (end.join(parts) + end).encode())
    return tuple(made)


def _numbers(taken: set[str | None]) -> Iterator[int]:
    number = FIRST_MADE_ID
    while True:
        if str(number) not in taken:
            yield number
        number += 1
