"""A SerialEM session as one source: squares and holes from the navigator, exposures from the image metadata beside it.

They join by NavigatorLabel, the label of the item at which Acquire at Items took the image. File names inside the
files are names only: nothing they point to is ever opened.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.records import EXPOSURE_COLUMNS, HOLE_COLUMNS, SQUARE_COLUMNS, SourceRecords
from cryoscout.formats.serialem import mdoc as serialem_mdoc
from cryoscout.formats.serialem import nav as serialem_nav
from cryoscout.formats.serialem.autodoc import Section, file_name
from cryoscout.formats.serialem.mdoc import FRAME_SET, MONT_SECTION, MdocFile, MdocSection
from cryoscout.formats.serialem.nav import NavFile
from cryoscout.formats.serialem.places import Hole, Places, places_of
from cryoscout.formats.text.findings import Deviation

FORMAT = "serialem"
PATCH_RADIUS_UM = 5.0
"""Assumed reach of image shift without a stage move, where neither groups nor the user say more."""

SUFFIXES = frozenset({".nav", ".xml", ".mdoc", ".idoc"})
"""Files of a folder that are looked into; what they are is told by their content."""

MOST_FILES = 200_000

_EXTENSION = re.compile(
    r"\.(?:mrcs?|st|tiff?|eer|dm[34]|hdf5?|map|jpe?g|bz2)$|\.(?:mrcs?|tiff?)\.(?:mrcs?|bz2)$", re.IGNORECASE
)
_METADATA = re.compile(r"\.[mi]doc$", re.IGNORECASE)
_PLACED_ITEM = frozenset({"StageXYZ", "Acquire"})
_PLACED_EXPOSURE = frozenset({"StagePosition", "ImageShift", "DateTime", *serialem_mdoc.MULTISHOT_KEYS})
_NAMES_SHOWN = 3


@dataclass
class _Exposure:
    """One micrograph; the same one may be described beside its movie and in the file of the whole run."""

    exposure_id: str
    section: MdocSection
    extra: dict[str, str]


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

    mdocs : folder (or file, or several files) of the image metadata of a navigator file; a folder as `path` is
        its own
    permissive : leave what deviates out and list it; a metadata file that cannot be read is left out whole
    patch_radius_um : > 0, for holes that are in no group
    Raises FileFormatError at the first deviation unless permissive; always when nothing of SerialEM is found or the
    folder holds several navigators (labels repeat between them).
    """
    nav_path, mdoc_paths = _files(path, mdocs)
    deviations: list[Deviation] = []
    nav: NavFile | None = None
    places = Places((), (), (), (), ())
    if nav_path is not None:
        nav = serialem_nav.read_nav(nav_path, permissive)
        places = places_of(nav, patch_radius_um)
        deviations += [_of_file(found, nav_path) for found in nav.deviations]
    files = []
    for mdoc_path in mdoc_paths:
        try:
            files.append(serialem_mdoc.read_mdoc(mdoc_path, permissive))
        except FileFormatError as error:
            if not permissive:
                raise
            deviations.append(_of_file(Deviation(error.line, error.detail), mdoc_path))
        else:
            deviations += [_of_file(found, mdoc_path) for found in files[-1].deviations]
    grid_id = _session_name(path, nav_path)
    exposures, notes = _exposures(files)
    table, join_notes = _exposure_table(exposures, places, grid_id, nav is not None)
    return SourceRecords(
        format=FORMAT,
        path=path,
        squares=_square_table(places, grid_id),
        holes=_hole_table(places, grid_id),
        exposures=table,
        session_name=grid_id,
        shots=_shots(table),
        extra=_extra(nav, exposures),
        deviations=tuple(deviations),
        notes=(*places.notes, *notes, *join_notes),
    )


def validate(path: Path) -> list[Deviation]:
    """Every deviation of a file, by line; of the files of a folder, with the file's name as `element`.

    Raises UnreadableError when the file cannot be read, FileFormatError when nothing of SerialEM is found.
    """
    if not path.is_dir():
        return serialem_nav.validate(path) if serialem_nav.detect(path) else serialem_mdoc.validate(path)
    found: list[Deviation] = []
    files = [file for file in _candidates(path, deep=True) if detect(file)]
    if not files:
        raise _nothing(path)
    for file in files:
        try:
            found += [_of_file(deviation, file) for deviation in validate(file)]
        except FileFormatError as error:
            found.append(_of_file(Deviation(error.line, error.detail), file))
    return found


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


def _files(path: Path, mdocs: Path | Sequence[Path] | None) -> tuple[Path | None, list[Path]]:
    """The navigator, if any, and the metadata files."""
    if path.is_dir():
        files = list(_candidates(path, deep=True))
        navs = [file for file in files if serialem_nav.detect(file)]
        if len(navs) > 1:
            names = ", ".join(file.name for file in navs[:_NAMES_SHOWN])
            raise FileFormatError(
                path,
                None,
                f"must hold one navigator file. Got {len(navs)} instead ({names}). "
                "Remedy: import one of the files, with the folder of its images.",
            )
        metadata = [file for file in files if serialem_mdoc.detect(file)]
        nav = navs[0] if navs else None
    elif serialem_mdoc.detect(path):
        nav, metadata = None, [path]
    else:
        nav, metadata = path, []
    if mdocs is not None:
        given = [mdocs] if isinstance(mdocs, Path) else list(mdocs)
        inside = [
            file for each in given for file in (_candidates(each, deep=True) if each.is_dir() else [each])
        ]
        metadata = [file for file in inside if serialem_mdoc.detect(file)]
        if not metadata:
            raise _nothing(given[0] if given else path)
    if nav is None and not metadata:
        raise _nothing(path)
    return nav, metadata


def _session_name(path: Path, nav_path: Path | None) -> str:
    """Name of the navigator; without one, of the folder or of the image that the metadata are of."""
    if nav_path is not None:
        return nav_path.stem
    return path.name if path.is_dir() else _stem(_METADATA.sub("", path.name))


def _nothing(path: Path) -> FileFormatError:
    return FileFormatError(
        path, None, "must hold SerialEM files (.nav, .mdoc). Got none that is one instead."
    )


def _of_file(found: Deviation, path: Path) -> Deviation:
    """The deviation with the name of its file, for a source of several files."""
    return replace(found, element=path.name if found.element is None else f"{path.name} {found.element}")


def _exposures(files: Iterable[MdocFile]) -> tuple[list[_Exposure], list[str]]:
    """The micrographs: frame sets, else single images; no montage, no image that is no Record image."""
    exposures: dict[str, _Exposure] = {}
    montages = others = again = 0
    for file in files:
        kinds = {section.kind for section in file.sections}
        if file.is_montage or MONT_SECTION in kinds:
            montages += 1
            continue
        # Under a frame set, [ZValue] sections are parts of its movie.
        sections = [part for part in file.sections if part.kind == FRAME_SET or FRAME_SET not in kinds]
        for section in sections:
            if not section.is_record:
                others += 1
                continue
            name = _exposure_id(file, section, len(sections))
            extra = _fields(section.section, _PLACED_EXPOSURE)
            if name in exposures:
                again += 1
                exposures[name] = _completed(exposures[name], section, extra)
            else:
                exposures[name] = _Exposure(name, section, extra)
    notes = [
        f"{count} {what}"
        for count, what in (
            (montages, "metadata files are of montages and give no exposures"),
            (others, "images are no Record images (LowDoseConSet) and no exposures"),
            (again, "exposures are described twice; the first description counts, the other fills its gaps"),
        )
        if count
    ]
    return list(exposures.values()), notes


def _exposure_id(file: MdocFile, section: MdocSection, n_sections: int) -> str:
    """Name of the movie, else of the image file with the image's number, else of the metadata file."""
    if section.movie:
        return _stem(section.movie)
    if section.kind == serialem_mdoc.IMAGE:
        return _stem(file_name(section.name))
    stem = _stem(file.image_file or _METADATA.sub("", file.path.name))
    return stem if n_sections == 1 else f"{stem}_{section.name}"


def _stem(name: str) -> str:
    return _EXTENSION.sub("", name) or name


def _completed(known: _Exposure, section: MdocSection, extra: dict[str, str]) -> _Exposure:
    first = known.section
    return _Exposure(
        known.exposure_id,
        replace(
            first,
            started_at=first.started_at or section.started_at,
            stage_um=section.stage_um if math.isnan(first.stage_um[0]) else first.stage_um,
            image_shift=section.image_shift if math.isnan(first.image_shift[0]) else first.image_shift,
            navigator_label=first.navigator_label or section.navigator_label,
            multishot=first.multishot or section.multishot,
        ),
        {**extra, **known.extra},
    )


def _exposure_table(
    exposures: list[_Exposure], places: Places, grid_id: str, has_nav: bool
) -> tuple[pd.DataFrame, list[str]]:
    by_label: dict[str, list[Hole]] = {}
    for hole in places.holes:
        by_label.setdefault(hole.item.label, []).append(hole)
    rows, unlabelled, unknown, nearest = [], 0, Counter[str](), 0
    for exposure in exposures:
        section = exposure.section
        label = section.navigator_label
        holes = by_label.get(label, [])
        if not label:
            unlabelled += 1
        elif has_nav and not holes:
            unknown[label] += 1
        nearest += len(holes) > 1
        nearest_hole = _nearest(holes, section.stage_um[0], section.stage_um[1])
        # Without a navigator the label is all that is known of the hole.
        hole_id = nearest_hole.item.id if nearest_hole is not None else ("" if has_nav else label)
        rows.append(
            (
                exposure.exposure_id,
                hole_id,
                "" if nearest_hole is None else nearest_hole.square_id,
                grid_id,
                section.multishot,
                section.started_at,
                *section.stage_um[:2],
                *section.image_shift,
            )
        )
    table = pd.DataFrame(rows, columns=list(EXPOSURE_COLUMNS))
    table["started_at"] = pd.Series([row[5] for row in rows], dtype="datetime64[ns]")
    for column in EXPOSURE_COLUMNS[6:]:
        table[column] = table[column].astype("float64")
    notes = []
    if unlabelled:
        notes.append(f"{unlabelled} exposures have no NavigatorLabel: not taken by Acquire at Items")
    if unknown:
        shown = ", ".join(list(unknown)[:_NAMES_SHOWN])
        notes.append(
            f"{unknown.total()} exposures name an item that is no hole of the navigator (first: {shown})"
        )
    if nearest:
        notes.append(f"{nearest} exposures name a label that several holes have: the nearest one was taken")
    return table, notes


def _nearest(holes: list[Hole], x_um: float, y_um: float) -> Hole | None:
    """The hole nearest to a stage position; the first one where distances are unknown."""
    if not holes:
        return None

    def distance_um(hole: Hole) -> float:
        distance = math.hypot(hole.x_um - x_um, hole.y_um - y_um)
        return math.inf if math.isnan(distance) else distance

    return min(holes, key=distance_um)


def _shots(table: pd.DataFrame) -> int | None:
    """Most exposures that one hole has at different MultiShot positions; None where nobody used MultiShot."""
    with_position = table[(table["hole_id"] != "") & (table["shot_key"] != "")]
    return None if with_position.empty else int(with_position.groupby("hole_id")["shot_key"].nunique().max())


def _square_table(places: Places, grid_id: str) -> pd.DataFrame:
    rows = [(item.id, grid_id, *item.stage_um[:2]) for item in places.squares]
    rows += [(square_id, grid_id, math.nan, math.nan) for square_id in places.missing_squares]
    return pd.DataFrame(rows, columns=list(SQUARE_COLUMNS))


def _hole_table(places: Places, grid_id: str) -> pd.DataFrame:
    rows = [
        (
            hole.item.id,
            hole.patch_id,
            hole.square_id,
            grid_id,
            hole.x_um,
            hole.y_um,
            hole.x_px,
            hole.y_px,
            hole.item.is_chosen,
        )
        for hole in places.holes
    ]
    table = pd.DataFrame(rows, columns=list(HOLE_COLUMNS))
    table["chosen"] = table["chosen"].astype("boolean")
    return table


def _extra(nav: NavFile | None, exposures: list[_Exposure]) -> dict[str, dict[str, str]]:
    extra: dict[str, dict[str, str]] = {}
    for item in nav.items if nav is not None else ():
        extra[item.id] = {"Label": item.label, **_fields(item.section, _PLACED_ITEM)}
    for exposure in exposures:
        extra.setdefault(exposure.exposure_id, {}).update(exposure.extra)
    return extra


def _fields(section: Section, placed: frozenset[str]) -> dict[str, str]:
    return {key: section.get(key) or "" for key in section.key_names() if key not in placed}
