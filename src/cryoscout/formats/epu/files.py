"""Which files of an EPU session there are: found by the structure of its folders, newest of repeats, with stamps.

    <session>/EpuSession.dm
    <session>/Metadata/GridSquare_<square>.dm
    <session>/Images-Disc<n>/GridSquare_<square>/GridSquare_<time>.xml
                                                 FoilHoles/FoilHole_<hole>_<time>.xml
                                                 Data/FoilHole_<hole>_Data_<area>_<setting>_<time>.xml

Any folder of this tree can be the one to read, and a folder of exposures without the tree around it. Only folders with
these names are entered; nothing that stands inside a file is ever taken for a path.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.epu import names as epu_names
from cryoscout.formats.epu.dm import DmKind, dm_kind
from cryoscout.formats.epu.images import IMAGE_ROOT
from cryoscout.formats.epu.names import ExposureName
from cryoscout.formats.records import FileStamp

SESSION_FILE = "EpuSession.dm"
ATLAS_FILE = "Atlas.dm"
_INNER_FOLDERS = ("Metadata", "FoilHoles", "Data")
DEEPEST = 4
"""Folders below the one that is read, each inside the other."""
_START_BYTES = 4096
_FILES_TO_RECOGNISE = 50
_OTHER_NAMES = ".dm files with names that EPU does not give"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to read."""

    path: str
    key: str
    """Path below the folder that is read, with /; the file name where a single file is read."""
    stamp: FileStamp
    square_id: str
    """Of the folder it lies in; "" unknown."""
    hole_id: str = ""
    """Of a hole image."""


@dataclass
class EpuFiles:
    """The files of a session, by what they are."""

    session: FoundFile | None = None
    atlas: FoundFile | None = None
    square_metadata: list[FoundFile] = field(default_factory=list)
    square_images: dict[str, FoundFile] = field(default_factory=dict)
    """By square id, the newest."""
    hole_images: dict[str, FoundFile] = field(default_factory=dict)
    """By hole id, the newest."""
    exposures: dict[str, tuple[FoundFile, ExposureName]] = field(default_factory=dict)
    """By exposure id."""
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.session or self.atlas or self.square_metadata or self.square_images or self.hole_images
        ) or (bool(self.exposures))


def start_of(path: Path) -> str:
    """The first 4 kB of a file as text, what is no text replaced; "" where it cannot be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            start = file.read(_START_BYTES)
    except OSError:
        return ""
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return start.decode(encoding, errors="replace")


def is_image_xml(start: str) -> bool:
    """Whether a file that begins so is the XML beside an image."""
    return f"<{IMAGE_ROOT}" in start or f":{IMAGE_ROOT}" in start


def detect(path: Path) -> bool:
    """Whether this is an EPU session, a folder of it, or one of its files: by structure and content, read cheaply."""
    if path.is_file():
        return bool(_one_file(path))
    if not path.is_dir():
        return False
    if dm_kind(start_of(path / SESSION_FILE)) == "session":
        return True
    try:
        entries = itertools.islice(_entries(path, "", "", 0), _FILES_TO_RECOGNISE)
        return any(_is_ours(entry.name, start_of(Path(entry.path))) for _, entry, _ in entries)
    except FileFormatError:
        return False


def _is_ours(name: str, start: str) -> bool:
    if name.endswith(".dm"):
        return dm_kind(start) is not None
    named = epu_names.exposure_of_xml(name) or epu_names.hole_image(name) or epu_names.square_image(name)
    return named is not None and is_image_xml(start)


def find_files(path: Path) -> EpuFiles:
    """The files of a session below a folder, or the one file given.

    Raises FileFormatError where there are none, and where a folder cannot be listed.
    """
    found = _one_file(path) if path.is_file() else _folder(path)
    if not found:
        left_out = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise FileFormatError(
            path,
            None,
            "must be an EPU session, a folder of it, or one of its .dm or .xml files. "
            f"Got none of these instead{left_out}. "
            f"Remedy: give the folder that holds {SESSION_FILE} or Images-Disc1, or name single files.",
        )
    return found


def _one_file(path: Path) -> EpuFiles:
    found = EpuFiles()
    start = start_of(path)
    kind = dm_kind(start)
    if kind is not None:
        _take_dm(found, kind, _found_file(path, square_above(path)))
    elif is_image_xml(start):
        file = _found_file(path, square_above(path))
        name = epu_names.exposure_of_xml(path.name)
        hole = epu_names.hole_image(path.name)
        if name is not None:
            found.exposures[name.stem] = (file, name)
        elif hole is not None:
            found.hole_images[hole[0]] = replace(file, hole_id=hole[0])
        elif epu_names.square_image(path.name) is not None and file.square_id:
            found.square_images[file.square_id] = file
    return found


def _take_dm(found: EpuFiles, kind: DmKind, file: FoundFile) -> None:
    if kind == "session":
        found.session = file
    elif kind == "atlas":
        found.atlas = file
    else:
        found.square_metadata.append(file)


def _found_file(path: Path, square_id: str) -> FoundFile:
    try:
        status = path.stat()
    except OSError as error:
        raise FileFormatError(path, None, f"must be a readable file. Got {error.strerror} instead.") from None
    return FoundFile(str(path), path.name, FileStamp(status.st_size, status.st_mtime_ns), square_id)


def square_above(path: Path) -> str:
    """Square id of the nearest folder that names one, from the path as given; "" for none."""
    for part in reversed(path.parts):
        square_id = epu_names.square_folder(part)
        if square_id is not None:
            return square_id
    return ""


class Listing:
    """Collects the files of a session, in any order and at any time: of repeats the same one wins whatever comes first.

    A file that is taken again, because it has changed, replaces what was known of it.
    """

    def __init__(self) -> None:
        self.files = EpuFiles()
        self.newest: dict[tuple[str, str], str] = {}
        self.left_out: Counter[str] = Counter()
        self.example: dict[str, str] = {}
        self.other_names: dict[DmKind, list[FoundFile]] = {"session": [], "square": [], "atlas": []}
        """.dm files with names that EPU does not give."""

    def leave_out(self, why: str, key: str) -> None:
        """Count a file that is not read; one is named as an example."""
        self.left_out[why] += 1
        self.example[why] = min(key, self.example.get(why, key))

    def take_image(self, file: FoundFile, name: str) -> bool:
        """Take an XML file by its name; whether it is the one that counts now, and is to be read."""
        exposure = epu_names.exposure_of_xml(name)
        if exposure is not None:
            return self._take_exposure(file, exposure)
        image = epu_names.hole_image(name)
        if image is not None:
            hole_id, when = image
            of_hole = replace(file, hole_id=hole_id)
            return self._take_newest(self.files.hole_images, hole_id, when, of_hole, "hole")
        square_at = epu_names.square_image(name)
        if square_at is not None and file.square_id:
            return self._take_newest(self.files.square_images, file.square_id, square_at, file, "square")
        if epu_names.is_fractions(name):
            self.leave_out("XML files of frames (_Fractions, _EER)", file.key)
        else:
            self.leave_out("XML files with names that EPU does not give", file.key)
        return False

    def _take_exposure(self, file: FoundFile, name: ExposureName) -> bool:
        """Of copies the one counts whose folder comes first by name, the folder itself before those below it."""
        before = self.files.exposures.get(name.stem)
        if before is not None and before[0].key != file.key:
            key, other = file.key, before[0].key
            is_first = key.split("/")[:-1] < other.split("/")[:-1]
            self.leave_out("copies of an exposure in another folder", other if is_first else key)
            if not is_first:
                return False
        self.files.exposures[name.stem] = (file, name)
        return True

    def _take_newest(
        self, images: dict[str, FoundFile], record_id: str, when: str, file: FoundFile, what: str
    ) -> bool:
        """Keep the image with the latest time in its name; of equal ones the last by path."""
        order = f"{when} {file.key}"
        before = self.newest.get((what, record_id))
        if before is not None and before != order:
            self.leave_out(f"older images of a {what} imaged again", min(order, before).partition(" ")[2])
        if before is not None and order < before:
            return False
        self.newest[what, record_id] = order
        images[record_id] = file
        return True


def _folder(path: Path) -> EpuFiles:
    return listing_of(path).files


def listing_of(path: Path) -> Listing:
    """What there is below a folder, to be amended later. Raises FileFormatError where a folder cannot be listed."""
    if not path.is_dir():
        raise FileFormatError(path, None, "must be a folder or a file. Got nothing instead.")
    listing = Listing()
    for key, entry, square_id in _entries(path, "", square_above(path), 0):
        _take(listing, key, entry, square_id)
    _take_only_dm(listing)
    files = listing.files
    files.square_metadata.sort(key=lambda file: file.key)
    files.exposures = dict(sorted(files.exposures.items()))
    files.notes = [
        f"left out: {count} {why}, such as {listing.example[why]}"
        for why, count in sorted(listing.left_out.items())
    ]
    return listing


def _entries(
    folder: str | Path, prefix: str, square_id: str, depth: int
) -> Iterator[tuple[str, os.DirEntry[str], str]]:
    """Files with an extension of ours below a folder: path below the top, entry, square id of its folder."""
    folders = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith((".xml", ".dm")):
                    yield prefix + name, entry, square_id
                elif depth < DEEPEST and is_entered(name):
                    folders.append(name)
    except OSError as error:
        raise FileFormatError(
            folder, None, f"must be a folder to list. Got {error.strerror} instead."
        ) from None
    for name in sorted(folders):
        inner = os.path.join(folder, name)  # noqa: PTH118
        if os.path.isdir(inner):  # noqa: PTH112
            square = epu_names.square_folder(name) or square_id
            yield from _entries(inner, f"{prefix}{name}/", square, depth + 1)


def is_entered(name: str) -> bool:
    """Whether a sub-folder has a name that EPU gives, so that it is read with the folder above it."""
    return (
        name in _INNER_FOLDERS or epu_names.is_disc_folder(name) or epu_names.square_folder(name) is not None
    )


def _take(listing: Listing, key: str, entry: os.DirEntry[str], square_id: str) -> None:
    try:
        status = entry.stat()
    except OSError:
        listing.leave_out("links to nothing, or files that went away", key)
        return
    file = FoundFile(entry.path, key, FileStamp(status.st_size, status.st_mtime_ns), square_id)
    name = entry.name
    if name.endswith(".dm"):
        _take_dm_of_folder(listing, file, name)
    else:
        listing.take_image(file, name)


def _take_dm_of_folder(listing: Listing, file: FoundFile, name: str) -> None:
    """Take a .dm file by its name; its root is checked when it is read. Copies under other names are left out."""
    if name == SESSION_FILE:
        if "/" in file.key or listing.files.session is not None:
            listing.leave_out("further EpuSession.dm files", file.key)
        else:
            listing.files.session = file
    elif (square_id := epu_names.square_metadata(name)) is not None:
        listing.files.square_metadata.append(replace(file, square_id=square_id))
    else:
        kind = dm_kind(start_of(Path(file.path)))
        if kind is None:
            listing.leave_out(_OTHER_NAMES, file.key)
        else:
            listing.other_names[kind].append(file)


def _take_only_dm(listing: Listing) -> None:
    """A .dm file under another name counts where it is the only one of its kind; else it may be a copy."""
    files = listing.files
    has_own = {"session": files.session, "square": files.square_metadata, "atlas": files.atlas}
    for kind, others in listing.other_names.items():
        # Of several atlases the first, whatever the order of the listing.
        others.sort(key=lambda file: (file.key != ATLAS_FILE, file.key))
        is_taken = bool(others) and not has_own[kind] and (kind == "atlas" or len(others) == 1)
        if is_taken:
            _take_dm(files, kind, others[0])
        for file in others[is_taken:]:
            listing.leave_out(_OTHER_NAMES, file.key)
