"""A SerialEM session as sources: squares and holes from the navigator, exposures from the image metadata beside it.

They join by NavigatorLabel, the label of the item at which Acquire at Items took the image. Each navigator is a grid
of its own. File names inside the files are names only: nothing they point to is ever opened.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Progress, Step, no_progress, one_step
from cryoscout.formats.clusters import PATCH_RADIUS_UM
from cryoscout.formats.records import (
    EXPOSURE_COLUMNS,
    HOLE_COLUMNS,
    LOOK_COLUMNS,
    SQUARE_COLUMNS,
    STOOD_FOR_COLUMNS,
    SourceRecords,
)
from cryoscout.formats.serialem import mdoc as serialem_mdoc
from cryoscout.formats.serialem import nav as serialem_nav
from cryoscout.formats.serialem.autodoc import CODE_PAGE, Autodoc
from cryoscout.formats.serialem.exposures import (
    METADATA,
    NAMES_SHOWN,
    PlacedExposure,
    PlacedExposures,
    TakenSection,
    exposures_of,
    fields_of,
    stem,
    taken_at,
    taken_sections,
    with_holes,
)
from cryoscout.formats.serialem.mdoc import MdocFile
from cryoscout.formats.serialem.nav import NavFile, NavItem
from cryoscout.formats.serialem.outlines import inside
from cryoscout.formats.serialem.patterns_to_come import holes_to_come
from cryoscout.formats.serialem.places import Hole, Places, places_of
from cryoscout.formats.text.findings import Deviation, notes_on_code_page

FORMAT = "serialem"

SUFFIXES = frozenset({".nav", ".xml", ".mdoc", ".idoc"})
"""Files of a folder that are looked into; what they are is told by their content."""

MOST_FILES = 200_000

_PLACED_ITEM = frozenset({"StageXYZ", "Acquire"})


def detect(path: Path) -> bool:
    """Whether a file is a navigator or image metadata of SerialEM, or a folder holds such a file at its top."""
    if not path.is_dir():
        return serialem_nav.detect(path) or serialem_mdoc.detect(path)
    return any(
        serialem_nav.detect(file) or serialem_mdoc.detect(file) for file in _candidates(path, deep=False)
    )


def read_source(
    path: Path,
    permissive: bool = False,
    *,
    mdocs: Path | Sequence[Path] | None = None,
    patch_radius_um: float = PATCH_RADIUS_UM,
) -> SourceRecords:
    """Read a navigator file, image metadata, or a folder with one navigator and any image metadata below it.

    As `read_grids`, which reads several navigators. Raises FileFormatError for a folder that holds several.
    """
    grids = read_grids([path], permissive, mdocs=mdocs, patch_radius_um=patch_radius_um)
    if len(grids) > 1:
        names = ", ".join(each.path.name for each in grids[:NAMES_SHOWN])
        raise FileFormatError(
            path,
            None,
            f"must hold one navigator file. Got {len(grids)} instead ({names}). "
            "Remedy: `cryoscout import` and `read_grids` read each as a grid of its own.",
        )
    return replace(grids[0], path=path)


def read_grids(
    paths: Sequence[Path],
    permissive: bool = False,
    *,
    mdocs: Path | Sequence[Path] | None = None,
    patch_radius_um: float = PATCH_RADIUS_UM,
    progress: Progress = no_progress,
) -> list[SourceRecords]:
    """Read navigators and image metadata: one source for each navigator, or one without any.

    paths : navigator files, metadata files, or folders with either
    mdocs : folder (or file, or several files) of the image metadata; a folder among `paths` has its own
    permissive : leave what deviates out and list it; a metadata file that cannot be read is left out whole
    patch_radius_um : > 0, for holes that are in no group
    An exposure goes to the navigator whose item it names and was taken at. Raises FileFormatError at the first
    deviation unless permissive; always when nothing of SerialEM is found, or nothing but tilt series.
    """
    nav_paths, mdoc_paths = _files(paths, mdocs)
    files: list[MdocFile] = []
    deviations: list[Deviation] = []
    with progress("reading SerialEM files", len(nav_paths) + len(mdoc_paths)) as step:
        navs = []
        for nav_path in nav_paths:
            with one_step(step) as part:
                navs.append(serialem_nav.read_nav(nav_path, permissive, step=part))
        for mdoc_path in mdoc_paths:
            with one_step(step) as part:
                try:
                    files.append(serialem_mdoc.read_mdoc(mdoc_path, permissive, step=part))
                except FileFormatError as error:
                    if not permissive:
                        raise
                    deviations.append(_of_file(Deviation(error.line, error.detail), mdoc_path))
                else:
                    deviations += [_of_file(found, mdoc_path) for found in files[-1].deviations]
    exposures, notes = exposures_of(files, _maps(navs))
    taken = taken_at(exposures)
    sections = taken_sections(files)
    places = [_with_looks(places_of(nav, patch_radius_um, taken), sections) for nav in navs]
    if not navs and not exposures and notes:
        raise FileFormatError(
            paths[0],
            None,
            f"must hold images of holes. Got none instead: {'; '.join(notes)}. Remedy: give the navigator of the "
            "session, or the images that were taken of its holes.",
        )
    placed = with_holes(exposures, [each.holes for each in places])
    notes += _code_pages(
        [*((nav.path, nav.document) for nav in navs), *((f.path, f.document) for f in files)]
    )
    notes += placed.notes
    if not navs:
        grid_id = _name_without_navigator(paths)
        return [_records(paths[0], grid_id, None, Places((), (), (), (), ()), placed, 0, deviations, notes)]
    sources = []
    for grid, (nav, found) in enumerate(zip(navs, places, strict=True)):
        own = [_of_file(deviation, nav.path) for deviation in nav.deviations]
        # What is said of all images stands once, with the first navigator.
        own += deviations if grid == 0 else []
        said = [*found.notes, *(notes if grid == 0 else [])]
        sources.append(_records(nav.path, nav.path.stem, nav, found, placed, grid, own, said))
    return sources


def _records(
    path: Path,
    grid_id: str,
    nav: NavFile | None,
    places: Places,
    placed: PlacedExposures,
    grid: int,
    deviations: Sequence[Deviation],
    notes: Sequence[str],
) -> SourceRecords:
    exposures = [each for each in placed.exposures if each.grid == grid]
    table = _exposure_table(exposures, grid_id)
    to_come, notes_on_patterns = holes_to_come(places.holes, exposures)
    return SourceRecords(
        format=FORMAT,
        path=path,
        squares=_square_table(places, grid_id),
        holes=_hole_table(places, to_come, placed.further_holes(grid), grid_id),
        exposures=table,
        stood_for=_stood_for_table(nav, places, grid_id),
        session_name=grid_id,
        shots=_shots(table),
        # Without a navigator nothing else says which holes image shift reaches from one stage position.
        cluster_radius_um=PATCH_RADIUS_UM if nav is None else None,
        extra=_extra(nav, exposures),
        deviations=tuple(deviations),
        notes=(*notes, *notes_on_patterns),
    )


def validate(path: Path, progress: Progress = no_progress) -> list[Deviation]:
    """Every deviation of a file, by line; of the files of a folder, with the file's name as `element`.

    Raises UnreadableError when the file cannot be read, FileFormatError when nothing of SerialEM is found.
    """
    if not path.is_dir():
        with progress("checking SerialEM files", 1) as step, one_step(step) as part:
            return _deviations(path, part)
    found: list[Deviation] = []
    files = [file for file in _candidates(path, deep=True) if detect(file)]
    if not files:
        raise _nothing(path)
    with progress("checking SerialEM files", len(files)) as step:
        for file in files:
            with one_step(step) as part:
                try:
                    found += [_of_file(deviation, file) for deviation in _deviations(file, part)]
                except FileFormatError as error:
                    found.append(_of_file(Deviation(error.line, error.detail), file))
    return found


def _deviations(file: Path, step: Step) -> list[Deviation]:
    read = serialem_nav.validate if serialem_nav.detect(file) else serialem_mdoc.validate
    return read(file, step=step)


def _candidates(folder: Path, deep: bool) -> Iterable[Path]:
    """Files that may be SerialEM's, in order of their names; links to other folders are not followed."""
    count = 0
    for place, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(folders) if deep else []
        for name in sorted(names):
            if Path(name).suffix.lower() not in SUFFIXES:
                continue
            count += 1
            if count > MOST_FILES:
                raise FileFormatError(
                    folder, None, f"must hold at most {MOST_FILES:,} files. Got more instead."
                )
            yield Path(place) / name


def _files(paths: Sequence[Path], mdocs: Path | Sequence[Path] | None) -> tuple[list[Path], list[Path]]:
    """The navigators and the metadata files."""
    given = [] if mdocs is None else [mdocs] if isinstance(mdocs, Path) else list(mdocs)
    navs: list[Path] = []
    metadata: list[Path] = []
    for path in [*paths, *given]:
        files = list(_candidates(path, deep=True)) if path.is_dir() else [path]
        metadata += [file for file in files if serialem_mdoc.detect(file)]
        if path not in given:
            navs += [file for file in files if serialem_nav.detect(file)]
    if given and not metadata:
        raise _nothing(given[0])
    if not navs and not metadata:
        raise _nothing(paths[0])
    return list(dict.fromkeys(navs)), list(dict.fromkeys(metadata))


def _maps(navs: Iterable[NavFile]) -> set[tuple[str, str]]:
    """Image file and section of every map."""
    return {_section_of(item) for nav in navs for item in nav.maps}


def _section_of(item: NavItem) -> tuple[str, str]:
    """Image file and section of a map."""
    return item.map_file, item.section.get("MapSection") or ""


def _with_looks(places: Places, sections: Mapping[tuple[str, str], Sequence[TakenSection]]) -> Places:
    """The places, with when the maps of squares were taken.

    Stacks of several grids have one name, and may not all be there: a section is a map's where it was taken on the map.
    """
    found: dict[str, datetime] = {}
    for item in places.squares:
        own = [each.started_at for each in sections.get(_section_of(item), ()) if _is_on(item, each)]
        if len(own) == 1:
            found[item.id] = own[0]
    return replace(places, looked_at=found)


def _is_on(item: NavItem, taken: TakenSection) -> bool:
    """Whether any piece was taken inside a map's outline."""
    x_um, y_um = np.array(taken.stage_um, dtype=np.float64).T
    return bool(inside(item, x_um, y_um).any())


def _name_without_navigator(paths: Sequence[Path]) -> str:
    """Name of the folder of the images, or of the only image that the metadata are of."""
    path = paths[0]
    if len(paths) > 1 and path.is_file():
        path = path.resolve().parent
    return path.resolve().name if path.is_dir() else stem(METADATA.sub("", path.name))


def _code_pages(documents: Iterable[tuple[Path, Autodoc]]) -> list[str]:
    """Which files are no UTF-8 and how they were read."""
    return notes_on_code_page([path.name for path, document in documents if document.encoding == CODE_PAGE])


def _nothing(path: Path) -> FileFormatError:
    return FileFormatError(
        path, None, "must hold SerialEM files (.nav, .mdoc). Got none that is one instead."
    )


def _of_file(found: Deviation, path: Path) -> Deviation:
    """The deviation with the name of its file, for a source of several files."""
    return replace(found, element=path.name if found.element is None else f"{path.name} {found.element}")


def _exposure_table(exposures: Sequence[PlacedExposure], grid_id: str) -> pd.DataFrame:
    rows = []
    for each in exposures:
        section = each.exposure.section
        rows.append(
            (
                each.exposure.exposure_id,
                each.hole_id,
                "" if each.item is None else each.item.square_id,
                grid_id,
                "" if section.multishot is None else section.multishot.position,
                section.started_at,
                *section.stage_um[:2],
                *section.image_shift,
            )
        )
    table = pd.DataFrame(rows, columns=list(EXPOSURE_COLUMNS))
    table["started_at"] = pd.Series([row[5] for row in rows], dtype="datetime64[ns]")
    for column in EXPOSURE_COLUMNS[6:]:
        table[column] = table[column].astype("float64")
    return table


def _shots(table: pd.DataFrame) -> int | None:
    """Most exposures that one hole has at different MultiShot positions; None where nobody used MultiShot."""
    with_position = table[(table["hole_id"] != "") & (table["shot_key"] != "")]
    return None if with_position.empty else int(with_position.groupby("hole_id")["shot_key"].nunique().max())


def _square_table(places: Places, grid_id: str) -> pd.DataFrame:
    rows: list[tuple[object, ...]]
    rows = [(item.id, grid_id, *item.stage_um[:2], True) for item in places.squares]
    rows += [(square_id, grid_id, math.nan, math.nan, True) for square_id in places.missing_squares]
    rows += [(item.id, grid_id, *item.stage_um[:2], pd.NA) for item in places.unopened]
    table = pd.DataFrame(rows, columns=[*SQUARE_COLUMNS, "looked"])
    area = [places.area_um2.get(square_id, math.nan) for square_id in table["square_id"]]
    table = table.assign(
        area_um2=area,
        brightness=math.nan,
        looked_at=pd.Series(
            [places.looked_at.get(square_id, pd.NaT) for square_id in table["square_id"]],
            index=table.index,
            dtype="datetime64[ns]",
        ),
    )[[*SQUARE_COLUMNS, *LOOK_COLUMNS]]
    numbers = dict.fromkeys(("x_um", "y_um", "area_um2", "brightness"), "float64")
    return table.astype({**numbers, "looked": "boolean", "looked_at": "datetime64[ns]"})


def _stood_for_table(nav: NavFile | None, places: Places, grid_id: str) -> pd.DataFrame:
    items = {item.id: item for item in nav.items} if nav is not None else {}
    rows = [(old, grid_id, *items[old].stage_um[:2], square) for old, square in places.stood_for.items()]
    table = pd.DataFrame(rows, columns=list(STOOD_FOR_COLUMNS))
    return table.astype({"x_um": "float64", "y_um": "float64"})


def _hole_table(
    places: Places, to_come: Mapping[str, Sequence[str]], imaged: Mapping[str, Hole], grid_id: str
) -> pd.DataFrame:
    """The items that are holes, each with the further holes of its pattern at its place, chosen with it.

    to_come : of `holes_to_come`     imaged : further holes of images, of which the navigator need not know
    """
    holes: list[tuple[str, Hole, bool | None]] = [
        (hole_id, hole, hole.item.is_chosen)
        for hole in places.holes
        for hole_id in (hole.item.id, *to_come.get(hole.item.id, ()))
    ]
    known = {hole_id for hole_id, _, _ in holes}
    further = [(hole_id, hole, None) for hole_id, hole in imaged.items() if hole_id not in known]
    rows = [
        (
            hole_id,
            hole.patch_id,
            hole.square_id,
            grid_id,
            hole.x_um,
            hole.y_um,
            hole.x_px,
            hole.y_px,
            chosen,
        )
        for hole_id, hole, chosen in [*holes, *further]
    ]
    table = pd.DataFrame(rows, columns=list(HOLE_COLUMNS))
    table["chosen"] = table["chosen"].astype("boolean")
    return table


def _extra(nav: NavFile | None, exposures: Sequence[PlacedExposure]) -> dict[str, dict[str, str]]:
    extra: dict[str, dict[str, str]] = {}
    for item in nav.items if nav is not None else ():
        extra[item.id] = {"Label": item.label, **fields_of(item.section, _PLACED_ITEM)}
    for each in exposures:
        extra.setdefault(each.exposure.exposure_id, {}).update(each.exposure.extra)
    return extra
