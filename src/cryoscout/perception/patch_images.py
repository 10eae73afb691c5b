"""Hole images cut from the patch or square images of a session, found by name. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.counting import counted
from cryoscout.core.errors import DataError, InputError
from cryoscout.core.grey_levels import to_8_bit
from cryoscout.core.names import name_of_source
from cryoscout.formats.epu.names import square_folder
from cryoscout.formats.epu.pictures import square_of_picture, square_pictures
from cryoscout.perception.crops import cut_crops
from cryoscout.perception.images import all_rows, opened_image
from cryoscout.perception.prepare import SMALLEST_SIDE_PX
from cryoscout.session.joins import NAMES_SHOWN, JoinReport, leginon_stem
from cryoscout.session.model import Session

SUFFIXES = frozenset((".mrc", ".tif", ".tiff", ".png", ".jpg", ".jpeg"))
DEFAULT_CROP_PX = 150
"""CryoRL's crops of Leginon patch images."""


Parent = Literal["patch", "square"]
Place = tuple[Parent, str]


class Frame(NamedTuple):
    """What x_px and y_px of a format's holes are counted on, and from where; x goes right, y down."""

    parents: tuple[Parent, ...]
    """The first that has an image."""
    origin: Literal["centre", "corner"]
    mrc: bool = True
    """Whether row 0 of an MRC file is the top row of this frame; where that is not known, MRC is refused"""


_FRAMES = {
    "leginon": Frame(("patch",), "centre"),
    "simulated": Frame(("patch",), "centre"),
    "epu": Frame(("square",), "corner", mrc=False),
    "serialem": Frame(("square",), "corner", mrc=False),
    "smartscope": Frame(("square",), "corner", mrc=False),
}
_OTHERS = Frame(("patch", "square"), "corner")
_FULL_SIZE = ("image_height_px", "image_width_px")
"""Fields of an EPU square: the size its positions are counted on; its jpg is smaller."""


@dataclass(frozen=True)
class CutImages:
    """What was cut."""

    images: dict[str, NDArray[np.uint8]]
    """patch id -> (m, crop_px, crop_px)"""
    image_row: pd.Series[int]
    """(n,) Int64, row of each hole in its patch's array, NA without an image"""
    report: JoinReport
    left_out: tuple[str, ...]
    """Pictures and holes that deviate, each with its reason; only where permissive"""
    notes: tuple[str, ...]


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder, by their suffix; sub-folders are entered where EPU made them, for the newest picture of
    each square."""
    if not folder.is_dir():
        return []
    squares = square_pictures(folder)
    if square_folder(folder.resolve().name) is not None and squares:
        return list(squares.values())
    own = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return [*own, *squares.values()]


def cut_session(
    session: Session,
    folder: Path,
    crop_px: int = DEFAULT_CROP_PX,
    *,
    permissive: bool = False,
    step: Callable[[], None] = lambda: None,
) -> CutImages:
    """Cut an image of every hole whose patch (or, as its format has it, square) has a picture in the folder.

    A picture is named by the id of its patch or square; suffixes of Leginon's derived images may follow. Each is
    scaled to 8 bits as a whole, so that its holes stay comparable; edges are padded.
    crop_px : side of a hole image in pixels of the picture, at least 8     step : called after each picture
    permissive : leave pictures that cannot be read and holes outside of theirs out, and list them
    Raises DataError where no picture belongs to the session or no hole has a position in px; InputError naming the
    file for a picture that cannot be read, a second picture of one place and holes outside.
    """
    if crop_px < SMALLEST_SIDE_PX:
        raise InputError(
            f"A hole image must be at least {SMALLEST_SIDE_PX} px wide. Got {crop_px} px instead."
        )
    places = _Places(session)
    left_out: list[str] = []
    files = picture_files(folder)
    by_place = _by_place(files, places, left_out, permissive)
    rows: dict[str, list[NDArray[np.uint8]]] = {}
    image_row: list[int | None] = [None] * session.n_holes
    joined = set()
    for place, path in by_place.items():
        for hole, crop in _crops(path, places, place, by_place, crop_px, left_out, permissive):
            of_patch = rows.setdefault(places.patches[hole], [])
            image_row[hole] = len(of_patch)
            of_patch.append(crop)
            joined.add(path)
        step()
    others = [path.name for path in files if path not in joined]
    parents = " or ".join(places.frame.parents)
    report = JoinReport(
        f"pictures of {name_of_source(folder)}", len(files), len(joined), tuple(others[:NAMES_SHOWN]),
        f"not named as a {parents}, or left out" if others else "", image_row.count(None),
    )  # fmt: skip
    return CutImages(
        {patch: np.stack(crops) for patch, crops in rows.items()},
        pd.Series(pd.array(image_row, dtype="Int64"), index=session.holes.index),
        report, tuple(left_out), places.notes(),
    )  # fmt: skip


@dataclass(frozen=True)
class PicturedPlace:
    """The picture of one patch or square, and where its holes are on it."""

    place: Place
    path: Path
    grey: NDArray[np.uint8]  # (height, width)
    holes: NDArray[np.int64]  # (m,) indices of the session's holes
    centres_px: NDArray[np.float64]  # (m, 2) row, column


def pictured_places(session: Session, folder: Path) -> Iterator[PicturedPlace]:
    """Every picture of a folder that shows a patch or square of the session, to look at.

    What belongs to another session, cannot be read or has no hole with a position in px is passed over: a drawing is
    left out then, and nothing else. A picture of which no hole lies inside is none of the session.
    """
    try:
        places = _Places(session)
        by_place = _by_place(picture_files(folder), places, [], True)
    except DataError:
        return
    for place, path in by_place.items():
        holes = places.holes_at(place, by_place)
        try:
            picture = _read(path, places)
        except InputError:
            continue
        centres = places.centres_px(holes, place, picture.shape)
        if holes and ((centres >= 0) & (centres < picture.shape)).all(axis=1).any():
            yield PicturedPlace(place, path, to_8_bit(picture), np.array(holes, dtype=np.int64), centres)


class _Places:
    """Where the holes of a session lie, by patch and square."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.frame = _FRAMES.get(session.info.format, _OTHERS)
        self.hole_ids: list[str] = session.holes["hole_id"].tolist()
        self.patches: list[str] = session.holes["patch_id"].tolist()
        square_of = dict(zip(session.patches["patch_id"], session.patches["square_id"], strict=True))
        self.holes_of: dict[Place, list[int]] = {}
        """By every patch and square that may have a picture"""
        for hole, patch in enumerate(self.patches):
            of: dict[Parent, str] = {"patch": patch, "square": square_of[patch]}
            for parent in self.frame.parents:
                self.holes_of.setdefault((parent, of[parent]), []).append(hole)
        self.x_px = session.holes["x_px"].to_numpy(dtype=np.float64)
        self.y_px = session.holes["y_px"].to_numpy(dtype=np.float64)
        self.placed = np.isfinite(self.x_px) & np.isfinite(self.y_px)
        if not self.placed.any():
            raise DataError(
                f"Session {session.name} must have positions of holes in px to cut their images. Got none instead. "
                "Remedy: name a source that has them, or leave --images out."
            )

    def holes_at(self, place: Place, pictured: Mapping[Place, Path]) -> list[int]:
        """Holes to be cut from the picture of a place: a patch's own picture comes before its square's."""
        parent, _ = place
        holes = [hole for hole in self.holes_of[place] if self.placed[hole]]
        if parent == "patch":
            return holes
        return [hole for hole in holes if ("patch", self.patches[hole]) not in pictured]

    def centres_px(self, holes: list[int], place: Place, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """(m, 2) row, column on a picture of (height, width)."""
        centres = np.stack([self.y_px[holes], self.x_px[holes]], axis=1)
        if self.frame.origin == "centre":
            return centres + np.array(shape) / 2.0
        fields = self.session.fields_of(place[1])
        if not all(name in fields for name in _FULL_SIZE):
            return centres
        full = np.array([float(fields[name]) for name in _FULL_SIZE])
        return np.asarray((centres + 0.5) * np.array(shape) / full - 0.5)

    def notes(self) -> tuple[str, ...]:
        """What could not be cut for want of a position."""
        without = [self.hole_ids[hole] for hole in np.flatnonzero(~self.placed)]
        if not without:
            return ()
        named = ", ".join(without[:NAMES_SHOWN])
        return (
            f"{counted(len(without), 'holes', 'have')} no position in px, so no image was cut of them (first: {named})",
        )


def _by_place(
    files: Sequence[Path], places: _Places, left_out: list[str], permissive: bool
) -> dict[Place, Path]:
    """The picture of each patch or square that has one."""
    found: dict[Place, Path] = {}
    for path in files:
        for place in _places_named(path, places.frame):
            if place not in places.holes_of:
                continue
            if place not in found:
                found[place] = path
                break
            message = (
                f"A {place[0]} must have one picture. Got {found[place]} and {path} instead. Remedy: keep one of them "
                "in the folder."
            )
            if not permissive:
                raise InputError(message)
            left_out.append(message)
            break
    if not found:
        parents = " or ".join(f"{parent}_id" for parent in places.frame.parents)
        first = ", ".join(path.name for path in files[:NAMES_SHOWN])
        example = next(iter(places.holes_of))[1]
        raise DataError(
            f"Pictures must be named by the {parents} they show, such as {example}.mrc. Got {len(files)} of other "
            f"names instead (first: {first}). Remedy: rename or link them."
        )
    return found


def _places_named(path: Path, frame: Frame) -> Iterator[Place]:
    square = square_of_picture(path)
    if square is not None and "square" in frame.parents:
        yield "square", square
    names = dict.fromkeys((path.stem, unquote(path.stem), leginon_stem(path.name)))
    for parent in frame.parents:
        for name in names:
            yield parent, name


def _crops(
    path: Path,
    places: _Places,
    place: Place,
    pictured: Mapping[Place, Path],
    crop_px: int,
    left_out: list[str],
    permissive: bool,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(hole, its image) of one picture."""
    holes = places.holes_at(place, pictured)
    try:
        picture = _read(path, places)
    except InputError as error:
        if not permissive:
            raise
        left_out.append(str(error))
        return
    centres, grey = places.centres_px(holes, place, picture.shape), to_8_bit(picture)
    ids = [places.hole_ids[hole] for hole in holes]
    if not permissive:
        try:
            yield from zip(holes, cut_crops(grey, centres, ids, crop_px), strict=True)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return
    for hole, centre, hole_id in zip(holes, centres, ids, strict=True):
        try:
            (crop,) = cut_crops(grey, [centre], [hole_id], crop_px)
        except InputError as error:
            left_out.append(f"{path}: {error}")
        else:
            yield hole, crop


def _read(path: Path, places: _Places) -> NDArray[np.float32]:
    with opened_image(path) as picture:
        if picture.bottom_first and not places.frame.mrc:
            raise InputError(
                f"{path} must be a PNG, JPEG or TIFF, because which row of an MRC is the top one is not known for "
                f"{places.session.info.format} sessions. Got MRC instead. Remedy: convert it, the top row first."
            )
        return all_rows(picture)
